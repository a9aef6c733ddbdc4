"""Strided views of flat buffers, in elements: the one description of memory every kernel plan reads."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


@functools.cache
def dtype_name(dtype: np.dtype) -> str:
    """``dtype.name``, which NumPy spells anew each time: plans ask for it hundreds of times."""
    return dtype.name


@functools.lru_cache(maxsize=1024)
def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides in elements: (h, w, c) -> (w*c, c, 1)."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * max(shape[i + 1], 1)
    return tuple(strides)


class Layout(NamedTuple):
    """Element [i0, i1, ...] lives at ``offset + i0*strides[0] + i1*strides[1] + ...`` of its buffer.

    Strides may be zero (broadcast) or negative (rev); offset and strides count elements, not bytes.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @staticmethod
    def contiguous(dtype, shape: tuple[int, ...]) -> Layout:
        shape = tuple(shape)
        return Layout(np.dtype(dtype), shape, contiguous_strides(shape))

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def is_contiguous(self) -> bool:
        """Row-major without gaps (axes of size 1 may have any stride)."""
        if math.prod(self.shape) <= 1:
            return True
        expected = 1
        for n, s in zip(self.shape[::-1], self.strides[::-1]):
            if n != 1 and s != expected:
                return False
            expected *= n
        return True

    def transpose(self, permutation: tuple[int, ...]) -> Layout:
        shape, strides = self.shape, self.strides
        return Layout(
            self.dtype, tuple([shape[p] for p in permutation]), tuple([strides[p] for p in permutation]), self.offset
        )

    def rev(self, dimensions: tuple[int, ...]) -> Layout:
        """Reads axis d backwards: start at its last element, step by -stride."""
        strides, offset = list(self.strides), self.offset
        if self.size == 0:
            return self
        for d in dimensions:
            offset += (self.shape[d] - 1) * strides[d]
            strides[d] = -strides[d]
        return Layout(self.dtype, self.shape, tuple(strides), offset)

    def slice(self, start: tuple[int, ...], limit: tuple[int, ...], step: tuple[int, ...]) -> Layout:
        shape = tuple(max(0, -(-(b - a) // s)) for a, b, s in zip(start, limit, step))
        offset = self.offset + sum(a * st for a, st in zip(start, self.strides))
        strides = tuple([st * s for st, s in zip(self.strides, step)])
        return Layout(self.dtype, shape, strides, offset)

    def broadcast_in_dim(self, shape: tuple[int, ...], dimensions: tuple[int, ...]) -> Layout:
        strides = [0] * len(shape)
        for i, d in enumerate(dimensions):
            strides[d] = self.strides[i] if self.shape[i] == shape[d] else 0
        return Layout(self.dtype, tuple(shape), tuple(strides), self.offset)

    def reshape(self, shape: tuple[int, ...]) -> Layout | None:
        """The same elements in row-major order under another shape, or None where that is no strided view.

        Axes that step through memory uniformly are merged into runs; each run is then cut into new axes.
        """
        shape = tuple(shape)
        if shape == self.shape and min(shape, default=2) > 1:  # fewer elements could have another stride
            return self
        if self.is_contiguous or self.size == 0:
            return Layout(self.dtype, shape, contiguous_strides(shape), self.offset)
        old = [(n, s) for n, s in zip(self.shape, self.strides) if n != 1]
        new = [n for n in shape if n != 1]
        strides: list[int] = []
        i = j = 0
        while i < len(old) and j < len(new):
            i0, j0 = i, j
            have, want = old[i][0], new[j]
            while have != want:
                if have < want:
                    i += 1
                    have *= old[i][0]
                else:
                    j += 1
                    want *= new[j]
            for a in range(i0, i):
                if old[a][1] != old[a + 1][1] * old[a + 1][0]:
                    return None
            run = [old[i][1]]
            for n in reversed(new[j0 + 1 : j + 1]):
                run.append(run[-1] * n)
            strides += reversed(run)
            i, j = i + 1, j + 1
        it = iter(strides)
        return Layout(self.dtype, shape, tuple([1 if n == 1 else next(it) for n in shape]), self.offset)


def as_pairs(layout: Layout, dtype: np.dtype) -> Layout:
    """Elements of twice ``dtype``'s size as a last axis of two: complex numbers as (real, imaginary)."""
    strides = tuple(2 * s for s in layout.strides)
    return Layout(np.dtype(dtype), (*layout.shape, 2), (*strides, 1), 2 * layout.offset)


def collapse(shape: Sequence[int], *strides: Sequence[int]) -> list[tuple[int, ...]]:
    """The fewest axes (size, *strides) that visit the same elements in the same order in every operand."""
    axes: list[tuple[int, ...]] = []
    for size, *steps in zip(shape, *strides, strict=True):
        if size == 1:
            continue
        if axes and all(outer == size * inner for outer, inner in zip(axes[-1][1:], steps)):
            axes[-1] = (axes[-1][0] * size, *steps)
        else:
            axes.append((size, *steps))
    return axes
