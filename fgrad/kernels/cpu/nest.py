"""Loop nests for element-wise kernels: which axes remain, in which order, and what each operand does along them.

An operand is here only its strides in elements, one an axis; a loop index that a kernel reads (iota) is an operand too,
with stride 1 along its axis and 0 elsewhere.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fgrad.kernels.layout import dtype_name


class Axis(NamedTuple):
    """One loop: its extent, the stride of every operand along it, and whether it is reduced."""

    extent: int
    strides: tuple[int, ...]
    reduced: bool = False


class Operand(NamedTuple):
    """What a spec knows of an operand: its dtype and how it moves along the innermost loop.

    step: ``unit`` (stride 1), ``zero`` (one element for the whole loop), ``back`` (stride -1) or ``any``; ``cycle`` of
    one that begins again several times in the loop.
    """

    dtype: str
    step: str


def step_of(stride: int) -> str:
    return _STEPS.get(stride, "any")


_STEPS = {1: "unit", 0: "zero", -1: "back"}


@functools.lru_cache(maxsize=128)
def operand(dtype: np.dtype, step: str) -> Operand:
    """The same one for each of the many operands that are alike."""
    return Operand(dtype_name(dtype), step)


def axes_of(shape: tuple[int, ...], operands: Sequence[tuple[int, ...]], reduced: Sequence[int] = ()) -> list[Axis]:
    """The axes of more than one element (or none), outermost first, as given."""
    strides = zip(*operands)  # of all operands, an axis at a time
    return [Axis(n, steps, a in reduced) for a, (n, steps) in enumerate(zip(shape, strides, strict=True)) if n != 1]


def ordered(axes: Sequence[Axis], priority: Sequence[int]) -> list[Axis]:
    """Largest strides outermost; the operands in ``priority`` decide, the first that moves along either axis first."""

    def key(axis: Axis) -> list[int]:
        strides = axis.strides
        return [abs(strides[k]) for k in priority]

    return sorted(axes, key=key, reverse=True)


def merged(axes: Sequence[Axis]) -> list[Axis]:
    """Joins neighbours (both reduced or neither) that every operand walks through as if they were one axis."""
    result: list[Axis] = []
    for axis in axes:
        extent, strides, reduced = axis
        if result and extent and result[-1].reduced == reduced:
            outer = result[-1]
            if outer.strides == tuple([stride * extent for stride in strides]):
                result[-1] = Axis(outer.extent * extent, strides, reduced)
                continue
        result.append(axis)
    return result


def even_cut(extent: int, most: int, multiple: int) -> tuple[int, int]:
    """(size, count) of nearly equal parts of at most ``most``, each but the last a multiple of ``multiple``."""
    if extent <= most:
        return extent or 1, 1 if extent else 0
    count = -(-extent // most)
    size = -(-extent // (count * multiple)) * multiple
    return size, -(-extent // size)


def even_parts(extent: int, most: int, tasks: int = 1) -> tuple[int, int]:
    """Cuts an extent into at most so many parts, which are ``tasks`` tasks each: (size, count), so that two and four
    threads end together, or nearly; and then as many as there can be.
    """
    if most == 1:
        return even_cut(extent, extent, 1)
    cuts = {size: -(-extent // size) for size in [max(1, -(-extent // parts)) for parts in range(1, most + 1)]}

    def late(size: int) -> int:
        return sum([-(-cuts[size] * tasks // threads) * size * threads for threads in (2, 4)])

    size = min(cuts, key=lambda size: (late(size), size))
    return size, cuts[size]
