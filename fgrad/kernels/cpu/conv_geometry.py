"""Where a convolution reads: per spatial dimension, which input element meets which tap for which output pixel.

In one dimension, pixel o and tap t meet the dilated input at o*stride + t*rhs_dilation - low; that is input element

    i(o, t) = (o*stride + t*rhs_dilation - low) / lhs_dilation

if the division leaves no remainder and 0 <= i < size, and a zero otherwise.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fgrad.kernels.kept import kept
from fgrad.kernels.layout import Layout

#: Pixels and taps every pair of which meets.
Met = tuple[np.ndarray, np.ndarray]


def _is_short(d: Dim, **_: bool) -> bool:
    return d.window + d.out <= 1 << 10


def few_pixels(dims: Sequence[Dim], times: int = 1, *_: int) -> bool:
    """Whether a table of them, ``times`` as long, takes little memory."""
    return math.prod([max(d.out, d.window) for d in dims]) * times <= 1 << 13


class Dim(NamedTuple):
    """One spatial dimension: sizes of lhs, window and result, the parameters, and each array's stride in elements."""

    size: int
    window: int
    out: int
    stride: int
    low: int
    lhs_dilation: int
    rhs_dilation: int
    lhs_stride: int
    rhs_stride: int
    out_stride: int

    def reads(self, pixels: np.ndarray, taps: np.ndarray) -> np.ndarray:
        """i(o, t) of shape [taps, pixels] where the division is exact for all of them."""
        position = np.add.outer(taps * self.rhs_dilation, pixels * self.stride) - self.low
        return position // self.lhs_dilation

    def tap_step(self) -> int:
        """Distance of neighbouring taps that one pixel meets real input elements at."""
        return self.lhs_dilation // math.gcd(self.rhs_dilation, self.lhs_dilation)

    def period(self) -> int:
        """Pixels o and o + period have the same taps."""
        return self.lhs_dilation // math.gcd(self.stride, self.lhs_dilation)

    def in_step(self) -> bool:
        """Whether neighbouring pixels of a phase read neighbouring input elements."""
        return self.stride * self.period() == self.lhs_dilation

    @kept(_is_short)
    def phases(self, *, border: bool = False) -> tuple[Met, ...]:
        """(pixels, taps) such that every pair meets at an input element or beyond the border, never between two.

        Taps that meet nothing but the border are left out unless ``border``.
        """
        period = self.period()
        taps = np.arange(self.window)
        found = []
        for first in range(min(period, self.out)):
            pixels = np.arange(first, self.out, period)
            meets = (first * self.stride + taps * self.rhs_dilation - self.low) % self.lhs_dilation == 0
            index = self.reads(pixels, taps)
            useful = meets & ((index >= 0) & (index < self.size)).any(axis=1)
            found.append((pixels, taps[meets if border else useful]))
        return tuple(found)

    def met(self) -> tuple[np.ndarray, np.ndarray]:
        """Of shape [taps, pixels]: i(o, t), and whether they meet there."""
        taps, pixels = np.arange(self.window) * self.rhs_dilation, np.arange(self.out) * self.stride
        index, rest = np.divmod(np.add.outer(taps, pixels) - self.low, self.lhs_dilation)
        return index, (rest == 0) & (index >= 0) & (index < self.size)

    @kept(_is_short)
    def clipped(self) -> tuple[Met, ...]:
        """(pixels, taps) such that every pair meets at an input element: pixels grouped by the taps they meet."""
        groups: dict[tuple[int, ...], list[int]] = {}
        taps = np.arange(self.window)
        _, meets = self.met()
        for o in range(self.out):
            groups.setdefault(tuple(taps[meets[:, o]].tolist()), []).append(o)
        return tuple([(np.array(pixels), np.array(met, np.int64)) for met, pixels in groups.items()])

    @functools.lru_cache(maxsize=256)  # noqa: B019 - a tuple of integers, which a plan asks several times
    def extent(self) -> tuple[int, int]:
        """Smallest and one more than the largest i(o, t) of all phases; (0, 0) where nothing meets."""
        reached = [self.reads(pixels, taps) for pixels, taps in self.phases(border=True) if taps.size]
        if not reached:
            return 0, 0
        return min(int(i.min()) for i in reached), max(int(i.max()) for i in reached) + 1

    def is_padded(self) -> bool:
        first, end = self.extent()
        return first < 0 or end > self.size

    def padded(self, lhs_stride: int) -> Dim:
        """The same dimension over a copy of the input that begins at `extent` and has no border left."""
        first, end = self.extent()
        return self._replace(size=end - first, low=self.low + first * self.lhs_dilation, lhs_stride=lhs_stride)


class Geometry(NamedTuple):
    """A convolution in canonical order; strides in elements.  ``features``: of lhs in a group; ``columns``: of the
    result in a group; ``rows``: images of the result; ``pixels`` and ``window``: of all dimensions.
    """

    dims: tuple[Dim, ...]
    rows: int
    features: int
    columns: int
    lhs_row: int
    lhs_feature: int
    rhs_feature: int
    rhs_column: int
    out_row: int
    out_column: int
    batches: np.ndarray
    pixels: int
    window: int


def geometry(
    lhs: Layout,
    rhs: Layout,
    out: Layout,
    *,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
    feature_group_count: int,
    batch_group_count: int,
) -> Geometry:
    """Operands in the order (rows or columns, features, *spatial) and groups as batches of products."""
    x, w, y = [layout.transpose(tuple(spec)) for layout, spec in zip((lhs, rhs, out), dimension_numbers)]
    dims = tuple([
        Dim(x.shape[d], w.shape[d], y.shape[d], window_strides[i], padding[i][0], lhs_dilation[i], rhs_dilation[i],
            x.strides[d], w.strides[d], y.strides[d])
        for i, d in enumerate(range(2, len(x.shape)))
    ])  # fmt: skip
    groups = max(feature_group_count, batch_group_count)
    columns, rows, features = w.shape[0] // groups, y.shape[0], w.shape[1]
    lhs_group = features * x.strides[1] if feature_group_count > 1 else rows * x.strides[0]
    batches = np.arange(groups)[:, None] * [lhs_group, columns * w.strides[0], columns * y.strides[1]]
    return Geometry(
        dims or (Dim(1, 1, 1, 1, 0, 1, 1, 0, 0, 0),), rows, features, columns,
        x.strides[0], x.strides[1], w.strides[1], w.strides[0], y.strides[0], y.strides[1], batches,
        math.prod(y.shape[2:]), math.prod(w.shape[2:]),
    )  # fmt: skip


def lines_met(dims: Sequence[Dim]) -> tuple[np.ndarray, np.ndarray]:
    """Of shape [window, out] of these dimensions, flattened: offset of the lhs line that they meet, whether they do."""
    offsets, exists = np.zeros((1, 1), np.int64), np.ones((1, 1), bool)
    for d in dims:
        index, meets = d.met()
        shape = (offsets.shape[0] * d.window, offsets.shape[1] * d.out)
        offsets = (offsets[:, None, :, None] + (index * d.lhs_stride)[None, :, None, :]).reshape(shape)
        exists = (exists[:, None, :, None] & meets[None, :, None, :]).reshape(shape)
    return offsets, exists
