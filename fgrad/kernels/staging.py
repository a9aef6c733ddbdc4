"""Writing a kernel plan: steps in order, and the temporaries and tables they use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fgrad.kernels.layout import Layout
from fgrad.kernels.plan import KernelPlan, Ptr, Step


class Staging:
    """A `KernelPlan` under construction."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.scratch = 0
        self._temps: list[int] = []
        self._tables: list[np.ndarray] = []

    def step(self, kernel: object, args: Iterable[int | Ptr], extent: int, note: str, grain: int = 1) -> None:
        self.steps.append(Step(kernel, tuple(args), extent, grain, note))

    def temp(self, nbytes: int) -> Ptr:
        """Memory for the rest of the plan."""
        self._temps.append(nbytes)
        return Ptr("tmp", len(self._temps) - 1)

    def table(self, words: Sequence[int] | np.ndarray) -> Ptr:
        self._tables.append(np.asarray(words, dtype=np.int64))
        return Ptr("tab", len(self._tables) - 1)

    def splice(self, plan: KernelPlan, ins: Sequence[Ptr], outs: Sequence[Ptr]) -> None:
        """Appends another plan's steps, its operands and results being the addresses given."""
        first = {"tmp": len(self._temps), "tab": len(self._tables)}

        def place(arg: int | Ptr) -> int | Ptr:
            if not isinstance(arg, Ptr):
                return arg
            if arg.kind in first:
                return arg._replace(index=first[arg.kind] + arg.index)
            if arg.kind in ("in", "out"):
                base = (ins if arg.kind == "in" else outs)[arg.index]
                return base._replace(offset=base.offset + arg.offset)
            return arg

        self.steps += [step._replace(args=tuple(place(arg) for arg in step.args)) for step in plan.steps]
        self._temps += plan.temps
        self._tables += plan.tables
        self.scratch = max(self.scratch, plan.scratch)

    def cast(self, source: Ptr, layout: Layout, target: Ptr, result: Layout) -> None:
        """result[i] = source[i] in the result's dtype."""
        from fgrad.kernels.cpu.emit import map_plan

        nodes = (("load", 0), ("map", cast_rule, (("dtype", result.dtype),), (0,)))
        self.splice(map_plan(layout.shape, [layout], nodes, [(result, 1)]), [source], [target])

    def converted(self, source: Ptr, layout: Layout, dtype: np.dtype) -> tuple[Ptr, Layout]:
        """The operand in ``dtype``: itself, or a contiguous copy."""
        if dtype == layout.dtype:
            return source, layout
        result = Layout.contiguous(dtype, layout.shape)
        target = self.temp(result.size * dtype.itemsize)
        self.cast(source, layout, target, result)
        return target, result

    def plan(self) -> KernelPlan:
        return KernelPlan(tuple(self.steps), tuple(self._temps), tuple(self._tables), self.scratch)


def cast_rule(s, x, *, dtype: np.dtype):
    return s.cast(x, dtype)


def accumulator(dtype: np.dtype) -> np.dtype:
    """What library kernels compute in: float32 for float16 and bfloat16 (NumPy kind 'V'), else the dtype itself."""
    return np.dtype(np.float32) if dtype == np.float16 or dtype.kind == "V" else dtype


def real(dtype: np.dtype) -> np.dtype:
    """The dtype of a complex number's parts."""
    return np.dtype(f"f{dtype.itemsize // 2}")


def start(base: Ptr, layout: Layout) -> Ptr:
    """Address of element [0, ..., 0] of a layout over ``base``."""
    return base._replace(offset=base.offset + layout.offset * layout.dtype.itemsize)


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
