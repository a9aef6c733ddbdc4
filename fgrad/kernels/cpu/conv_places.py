"""Where the pixels of an image and the taps that they meet lie: the tables of a convolution that all images share.

A plan for another batch size asks for the same, so those of small images are kept.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fgrad.kernels.builder import ZERO, sums
from fgrad.kernels.cpu.conv_geometry import Dim, Met, few_pixels
from fgrad.kernels.cpu.gemm_records import NOWHERE, Record, Records, joined
from fgrad.kernels.kept import kept


def phases_of(dims: Sequence[Dim], cut: bool) -> Iterator[tuple[Met, ...]]:
    """All phases of all dimensions, or if ``cut`` the groups of pixels that meet the same taps."""
    return itertools.product(*[d.clipped() if cut else d.phases() for d in dims])


def moves(dims: Sequence[Dim], index: Sequence[np.ndarray]) -> list[np.ndarray]:
    """How far each pixel's input lies from the first pixel's, by dimension; ``index``: `Dim.reads`."""
    return [(i[0] - i[0, 0]) * d.lhs_stride for d, i in zip(dims, index)]


def firsts(dims: Sequence[Dim], index: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Where the first pixel's taps lie, by dimension."""
    return [i[:, 0] * d.lhs_stride for d, i in zip(dims, index)]


def _record(dims: Sequence[Dim], phase, run: int, last_run: int, first: int = 0) -> Record:
    """The pixels of a phase of every dimension and the taps that they meet, with this part of the run."""
    window = np.arange(math.prod([d.window for d in dims])).reshape([d.window for d in dims])
    out = sums([pixels * d.out_stride for d, (pixels, _) in zip(dims, phase)])
    taps = window[np.ix_(*[taps for _, taps in phase])].ravel()
    if taps.size == 0:
        return Record(np.zeros_like(out), out, taps, taps, run, last_run, first)
    index = [d.reads(pixels, taps_) for d, (pixels, taps_) in zip(dims, phase)]
    inside = [(i >= 0) & (i < d.size) for d, i in zip(dims, index)]
    if all([i.all() for i in inside]):  # offsets are a sum over tap and pixel
        return Record(sums(moves(dims, index)), out, sums(firsts(dims, index)), taps, run, last_run, first)
    total, exists = np.zeros((1, 1), np.int64), np.ones((1, 1), bool)
    for d, i, ok in zip(dims, index, inside):
        shape = (total.shape[0] * i.shape[0], total.shape[1] * i.shape[1])
        total = (total[:, None, :, None] + (i * d.lhs_stride)[None, :, None, :]).reshape(shape)
        exists = (exists[:, None, :, None] & ok[None, :, None, :]).reshape(shape)
    return Record(np.zeros_like(out), out, np.where(exists, total, NOWHERE), taps, run, last_run, first)


def _is_small(dims: tuple[Dim, ...], cut: bool, *_: int) -> bool:
    """Whether their places take little memory; with a border there is one for each pixel and tap."""
    bordered = not cut and any([d.is_padded() for d in dims])
    return few_pixels(dims, math.prod([d.window for d in dims]) if bordered else 1)


@kept(lambda dims, _: few_pixels(dims))
def sizes_of(dims: tuple[Dim, ...], cut: bool) -> list[tuple[int, int]]:
    """Numbers of pixels, and of taps of all phases with so many."""
    taps_of: Counter[int] = Counter()
    for phase in phases_of(dims, cut):
        taps_of[math.prod([len(pixels) for pixels, _ in phase])] += math.prod([len(taps) for _, taps in phase])
    return list(taps_of.items())


@kept(_is_small)
def records_of(dims: tuple[Dim, ...], cut: bool, run: int, last_run: int) -> Records:
    """Those of all phases."""
    return joined([_record(dims, phase, run, last_run) for phase in phases_of(dims, cut)])


@kept(_is_small)
def joined_records(dims: tuple[Dim, ...], cut: bool, features: int) -> Records:
    """The same where the run is of the taps along the last dimension, which all its pixels meet, and the features."""
    *outer, last = dims
    records = []
    for *around, (pixels, taps) in phases_of(dims, cut):
        first = int(taps[0]) if taps.size else 0
        one = last._replace(window=1, low=last.low - first * last.rhs_dilation)
        phase = (*around, (pixels, np.zeros(min(len(taps), 1), np.int64)))
        run = len(taps) * features
        records.append(_record((*outer, one), phase, run, run, first * features))
    return joined(records)


class Columns(NamedTuple):
    """A phase whose pixels are columns: the place of each in out; the offsets in out and in the input of what is no
    column, the dimensions ``apart``; where the first pixel's taps lie and their numbers, but along the last dimension;
    the taps along that.
    """

    places: np.ndarray
    to: np.ndarray
    source: np.ndarray
    first: np.ndarray
    taps: np.ndarray
    run: int


@kept(few_pixels)
def columns_of(dims: tuple[Dim, ...], features: int, plane: int) -> list[Columns]:
    """Of each phase of a padded copy with so many features, each a ``plane``."""
    *outer, last = dims
    each = np.arange(features)
    numbers = np.arange(features * math.prod([d.window for d in outer])).reshape([features, *[d.window for d in outer]])
    flat = len(outer) > 0 and outer[-1].in_step()  # lines follow each other as the pixels of a line do
    apart = outer[: len(outer) - flat]
    found = []
    for phase in phases_of(dims, cut=False):
        *lines, (pixels, along) = phase
        index = [d.reads(p, t) for d, (p, t) in zip(dims, phase)]
        places = pixels * last.out_stride
        if flat:
            lined = np.full((len(lines[-1][0]), outer[-1].lhs_stride), NOWHERE)
            lined[:, : len(pixels)] = np.add.outer(lines[-1][0] * outer[-1].out_stride, places)
            places = lined.ravel()[: lined.size - (lined.shape[1] - len(pixels))]
        to = sums([p * d.out_stride for d, (p, _) in zip(apart, lines)])
        if all([t.size for _, t in phase]):
            first = sums([each * plane, *firsts(outer, index)]) + index[-1][0, 0]
            met = numbers[np.ix_(each, *[t for _, t in lines])].ravel()
            taps = met * last.window + along[0]
            found.append(Columns(places, to, sums(moves(apart, index)), first, taps, len(along)))
        else:
            none = np.zeros(0, np.int64)
            found.append(Columns(places, to, np.zeros_like(to), none, none, 0))
    return found


@kept(few_pixels)
def window_records(dims: tuple[Dim, ...], rows: int, lhs_row: int, out_row: int) -> Records:
    """Those of the window nest: a group of pixels that meet the same part of the window, for each of ``rows``."""
    *outer, last = dims
    outer_window = np.arange(math.prod([d.window for d in outer])).reshape([d.window for d in outer])
    records = []
    for group in phases_of(dims, cut=True):
        index = [d.reads(pixels, taps) for d, (pixels, taps) in zip(dims, group)]
        row_out = sums([*[p * d.out_stride for d, (p, _) in zip(dims, group)], np.arange(rows) * out_row])
        if any([taps.size == 0 for _, taps in group]):
            none = np.zeros(0, np.int64)
            records.append(Record(np.zeros_like(row_out), row_out, none, none, 0, 0))
            continue
        row_in = sums([*moves(dims, index), np.arange(rows) * lhs_row])
        along = index[-1][0, 0] * last.lhs_stride
        a_taps = sums(firsts(outer, index)) + along
        met = outer_window[np.ix_(*[taps for _, taps in group[:-1]])].ravel()
        run = group[-1][1]
        records.append(Record(row_in, row_out, a_taps, met, len(run), len(run), int(run[0])))
    return joined(records)


@kept(few_pixels)
def tap_offsets(dims: tuple[Dim, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each tap but along the last dimension, in the input and in rhs; of each pixel likewise, there and in out."""
    *outer, last = dims
    index = [d.reads(np.arange(d.out), np.arange(d.window)) for d in dims]
    reads = sums(firsts(outer, index)) + index[-1][0, 0] * last.lhs_stride
    taps = sums([np.arange(d.window) * d.rhs_stride for d in outer])
    return reads, taps, sums(moves(outer, index)), sums([np.arange(d.out) * d.out_stride for d in outer])


@kept(lambda dims, _: few_pixels(dims))
def copied_lines(dims: tuple[Dim, ...], itemsize: int) -> np.ndarray:
    """Where each line of a padded copy comes from, in bytes, or -1 for one of zeros."""
    offsets, exists = ZERO, np.ones(1, bool)
    for d in dims[:-1]:
        index = np.arange(*d.extent())
        offsets = np.add.outer(offsets, index * d.lhs_stride).ravel()
        exists = np.logical_and.outer(exists, (index >= 0) & (index < d.size)).ravel()
    last, (first, end) = dims[-1], dims[-1].extent()
    begin, stop = max(first, 0), min(end, last.size)
    return np.where(exists & (stop > begin), (offsets + begin * last.lhs_stride) * itemsize, -1)
