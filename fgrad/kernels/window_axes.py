"""Windows along one axis: which elements of the operand each output meets, as progressions and as tables.

Tap t of output o sees the dilated and padded operand at o*step + t*window_dilation - low, an element only if that is
i * base_dilation with 0 <= i < size.  For a fixed o the taps that see an element are uniformly spaced, and so are the
elements they see; for a fixed t the same holds of the outputs.  Both progressions come from `_hits`.

Beside the operand some kernels read an array of taps, which has an element for each output (`gather_winners`) or for
each element of the operand (`scatter_winners`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fgrad.kernels.builder import ZERO
from fgrad.kernels.cpu.conv_geometry import Dim
from fgrad.kernels.kept import kept
from fgrad.kernels.layout import contiguous_strides

#: Window dimensions, window strides, padding, base dilation, window dilation: an entry of each for every axis.
Window = tuple[tuple, ...]


class Axis(NamedTuple):
    """One axis of the operand (size, stride), of the output, and the window on it.

    ``number``: what tap 0 adds to the number of a tap in the whole window, and each tap after it; ``beside``: strides
    of the array of taps along the outputs and along the operand.
    """

    size: int
    stride: int
    out_size: int
    taps: int = 1
    step: int = 1
    low: int = 0
    base_dilation: int = 1
    window_dilation: int = 1
    number: tuple[int, int] = (0, 0)
    beside: tuple[int, int] = (0, 0)

    @property
    def plain(self) -> bool:
        """Output o sees input o and nothing else."""
        return (self.taps, self.step, self.low, self.base_dilation) == (1, 1, 0, 1) and self.size == self.out_size

    @property
    def tap_step(self) -> int:
        """Taps between the neighbouring ones of one output that see any element."""
        return self.base_dilation // math.gcd(self.window_dilation, self.base_dilation)

    @property
    def input_step(self) -> int:
        """Elements between those that such neighbours see."""
        return self.window_dilation // math.gcd(self.window_dilation, self.base_dilation)

    @property
    def period(self) -> int:
        """Outputs o and o + period see the same taps; where there is one element, none repeats another."""
        return self.out_size if self.size == 1 else self.base_dilation // math.gcd(self.step, self.base_dilation)


def window_axes(
    shape: Sequence[int], strides: Sequence[int], out_shape: Sequence[int], window: Window,
    numbers: Sequence[tuple[int, int]] | None = None, beside: Sequence[tuple[int, int]] | None = None,
) -> list[Axis]:  # fmt: skip
    """Two axes or more; neighbours without a window that are uniform in memory are one axis."""
    axes: list[Axis] = []
    if numbers is None:
        numbers = [(0, step) for step in contiguous_strides(tuple(window[0]))]
    rest = zip(numbers, beside or [(0, 0)] * len(shape), strict=True)
    for size, stride, out_size, taps, step, (low, _), base, dilation, (number, other) in zip(
        shape, strides, out_shape, *window, rest, strict=True
    ):
        # One tap sees the same whatever the dilation of its window, one element whatever its own.
        axis = Axis(size, stride, out_size, taps, step if out_size > 1 else 1, low, base if size > 1 else 1,
                    dilation if taps > 1 else 1, number if taps > 1 else (0, 0), other)  # fmt: skip
        if axis.plain and size == 1:
            continue
        if axes and axis.plain and axes[-1].plain:
            outer, inner = axes[-1], (axis.stride, *axis.beside)
            if (outer.stride, *outer.beside) == tuple([size * step for step in inner]):
                axis = axis._replace(size=outer.size * size, out_size=outer.size * size)
                axes.pop()
        axes.append(axis)
    return [Axis(1, 0, 1)] * (2 - len(axes)) + axes


def _hits(offset: np.ndarray, step: int, limit: int, size: int, base: int):
    """The u in [0, limit) with offset + u * step = i * base for an i in [0, size), for each offset:

    (first u, first i, how many).  From one to the next, u grows by base / g and i by step / g, g = gcd(step, base).
    """
    g = math.gcd(step, base)
    u_step, i_step = base // g, step // g
    # offset + u*step = 0 mod base  <=>  g | offset  and  u = -(offset / g) * (step / g)^-1 mod base / g
    inverse = pow(i_step, -1, u_step) if u_step > 1 else 0
    u = -(offset // g) * inverse % u_step
    i = (offset + u * step) // base
    skip = np.maximum(0, -(i // i_step))  # ceil(-i / i_step): to the first i >= 0
    end = np.minimum(-((u - limit) // u_step), -((i - size) // i_step))
    count = np.where(offset % g == 0, np.maximum(0, end - skip), 0)
    return u + skip * u_step, i + skip * i_step, count


# --- tables of the library kernels -----------------------------------------------------------------------------------
def lane_table(axis: Axis) -> np.ndarray:
    """For each tap: first output, step between outputs, number of outputs, first input, step between inputs, number."""
    taps = np.arange(axis.taps)
    first, i, count = _hits(
        taps * axis.window_dilation - axis.low, axis.step, axis.out_size, axis.size, axis.base_dilation
    )
    g = math.gcd(axis.step, axis.base_dilation)
    o_step, i_step = np.full_like(i, axis.base_dilation // g), np.full_like(i, axis.step // g)
    return np.stack([first, o_step, count, i, i_step, axis.number[0] + taps * axis.number[1]], axis=1)


def row_table(axes: Sequence[Axis], first_word: int) -> np.ndarray:
    """Header of each row axis, then the positions of those that have a window; it begins at ``first_word``."""
    header: list[int] = []
    positions: list[np.ndarray] = []
    where = first_word + 5 * len(axes)
    for axis in axes:
        of_output, of_input = axis.beside
        if axis.plain:
            header += (axis.out_size, axis.stride, of_output + of_input, 0, -1)
            continue
        header += (axis.out_size, axis.input_step * axis.stride, axis.input_step * of_input,
                   axis.tap_step * axis.number[1], where)  # fmt: skip
        outputs = np.arange(axis.out_size)
        tap, i, count = _hits(
            outputs * axis.step - axis.low, axis.window_dilation, axis.taps, axis.size, axis.base_dilation
        )
        number = axis.number[0] + tap * axis.number[1]
        beside = outputs * of_output + i * of_input
        positions.append(np.stack([i * axis.stride, beside, number, count], axis=1).ravel())
        where += positions[-1].size
    return np.concatenate([np.array(header, np.int64), *positions])


# --- outputs that are alike, for emitted kernels ---------------------------------------------------------------------
class Outputs(NamedTuple):
    """Outputs along one axis that meet the same taps, evenly spaced, and for each tap the first one's input."""

    first: int
    step: int
    length: int
    inputs: np.ndarray
    input_step: int
    numbers: np.ndarray  # of the taps


def _runs(places: np.ndarray):
    """Slices of ``places``, which increase, that are evenly spaced."""
    ends = [0, *(np.flatnonzero(np.diff(places, 2)) + 2), len(places)] if len(places) > 2 else [0, len(places)]
    return itertools.starmap(slice, itertools.pairwise(ends))


def _is_windowed(axis: Axis, *_: int) -> bool:
    return not axis.plain and axis.taps + axis.out_size <= 1 << 10


@kept(_is_windowed)
def alike(axis: Axis) -> tuple[Outputs, ...]:
    if axis.plain:
        return (Outputs(0, 1, axis.out_size, ZERO, 1, ZERO),)
    dim = Dim(
        axis.size, axis.taps, axis.out_size, axis.step, axis.low, axis.base_dilation, axis.window_dilation, 0, 0, 0
    )  # fmt: skip
    found = []
    for outputs, taps in dim.clipped():
        inputs, numbers = dim.reads(outputs, taps), axis.number[0] + taps * axis.number[1]
        for part in _runs(outputs):
            run, read = outputs[part], inputs[:, part]
            step = (int(run[1] - run[0]), int(read[0, 1] - read[0, 0]) if taps.size else 0) if len(run) > 1 else (1, 1)
            found.append(Outputs(int(run[0]), step[0], len(run), read[:, 0], step[1], numbers))
    return tuple(found)


class Cells(NamedTuple):
    """Runs of `Axis.period` outputs that see the same taps, evenly spaced.

    ``sources`` are the inputs that the first cell sees; output r of a cell sees ``terms[r]``: pairs of a source and
    the number of a tap, or -1 where that input does not exist, and another stands for it.
    """

    first: int
    step: int
    length: int
    sources: list[int]
    input_step: int
    terms: list[list[tuple[int, int]]]


@kept(_is_windowed)
def cells(axis: Axis, most: int) -> tuple[Cells, ...]:
    """All outputs of an axis, or nothing where a cell has more than ``most`` outputs or terms.

    With period S and base_dilation d, output c S + r and tap t meet element (S step / d) c + (r step + t w - low) / d.
    """
    if axis.plain:
        return (Cells(0, 1, axis.out_size, [0], 1, [[(0, 0)]]),)
    period, advance = axis.period, axis.period * axis.step // axis.base_dilation
    if period > most or axis.taps > most:
        return ()
    meets = [
        (r, t, place // axis.base_dilation)
        for r, t in itertools.product(range(period), range(axis.taps))
        if (place := r * axis.step + t * axis.window_dilation - axis.low) % axis.base_dilation == 0
    ]
    reached = sorted({j for _, _, j in meets})
    index = np.arange(-(-axis.out_size // period))
    inputs = np.add.outer(index * advance, np.array(reached, np.int64))
    exists = (inputs >= 0) & (inputs < axis.size)
    outputs = np.minimum(period, axis.out_size - index * period)
    kinds, kind_of = np.unique(np.column_stack([outputs, exists]), axis=0, return_inverse=True)
    found = []
    for k, (count, *there) in enumerate(kinds.tolist()):
        terms: list[list[tuple[int, int]]] = [[] for _ in range(count)]
        stand_in = there.index(1) if any(there) else None
        for r, t, j in meets:
            if r < count and stand_in is not None:
                source = reached.index(j)
                terms[r].append((source, axis.number[0] + t * axis.number[1] if there[source] else -1))
        same = np.flatnonzero(kind_of.ravel() == k)
        for part in _runs(same):
            first, step = int(same[part][0]), int(same[part][1] - same[part][0]) if len(same[part]) > 1 else 1
            sources = [] if stand_in is None else [
                int(inputs[first, s if there[s] else stand_in]) for s in range(len(reached))
            ]  # fmt: skip
            found.append(Cells(first * period, step * period, len(same[part]), sources, step * advance, terms))
    return tuple(found)


class Rows(NamedTuple):
    """How an emitted kernel walks over outputs: ``repeats`` times over the rows of ``table``, lanes innermost.

    The table has an offset for each array, in elements.
    """

    table: np.ndarray
    repeats: int
    repeat: np.ndarray
    lanes: int
    lane: np.ndarray

    @property
    def total(self) -> int:
        return self.repeats * len(self.table)

    @property
    def unit(self) -> tuple[bool, ...]:
        """Of each array, whether neighbouring lanes are neighbours in it."""
        return tuple((self.lane == 1).tolist())

    @property
    def lane_words(self) -> list[int]:
        """Strides of the others along the lanes."""
        return self.lane[self.lane != 1].tolist()

    def tile(self, taps: int, work: int) -> int:
        """Rows that make so much work."""
        return max(1, min(self.total, work // max(self.lanes * taps, 1)))


def rows_of(firsts: Sequence[Sequence[int]], steps: Sequence[Sequence[int]], lengths: Sequence[int]) -> Rows:
    """From the offsets of the first output along each axis, the steps between outputs, and how many there are."""
    table = np.asarray(firsts, np.int64).sum(axis=0)[None]
    for step, length in zip(steps[1:-1], lengths[1:-1]):
        table = (table[:, None] + np.arange(length)[:, None] * np.array(step)).reshape(-1, table.shape[1])
    lane = np.asarray(steps[-1]) if lengths[-1] > 1 else np.ones_like(table[0])
    return Rows(table, lengths[0], np.asarray(steps[0]), lengths[-1], lane)
