"""Writing a kernel plan: steps in order, and the temporaries, tables and scratch memory they use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from fgrad.kernels.layout import Layout, dtype_name
from fgrad.kernels.plan import Addressed, KernelPlan, Ptr, Step, Word

if TYPE_CHECKING:
    from fgrad.kernels.cpu.epilogue import Epilogue


ZERO = np.zeros(1, np.int64)  # never written to, as all arrays that plans share

_WORDS = frozenset({int, Ptr})
_NUMBERS = (bool, np.integer)


class PlanBuilder:
    """A `KernelPlan` under construction."""

    def __init__(self) -> None:
        self.epilogue: Epilogue | None = None  # of the products that are planned
        self._steps: list[Step] = []
        self._temps: list[int] = []
        self._tables: list[np.ndarray] = []
        self._scratch = 0

    def step(self, kernel: str | Addressed, args: Iterable[Word], extent: int, note: str, grain: int = 1) -> None:
        """Appends a step; a grain below 1 (from a division by large work) counts as 1."""
        words = tuple([arg if type(arg) in _WORDS else int(arg) if isinstance(arg, _NUMBERS) else arg for arg in args])
        self._steps.append(Step(kernel, words, int(extent), max(int(grain), 1), note))

    def include(self, step: Step) -> None:
        """Appends a step of another plan, whose pointers are placed in this one."""
        self._steps.append(step)

    def temp(self, nbytes: int) -> Ptr:
        """Memory for the rest of the plan."""
        self._temps.append(int(nbytes))
        return Ptr("tmp", len(self._temps) - 1)

    def table(self, words: ArrayLike) -> Ptr:
        """Integers that steps read, in row-major order."""
        self._tables.append(np.asarray(words, np.int64).ravel())
        return Ptr("tab", len(self._tables) - 1)

    def tables(self, *tables: Sequence[np.ndarray]) -> list[Ptr]:
        """Tables, each of some parts, one behind the other in one array."""
        number, found, at = len(self._tables), [], 0
        for table in tables:
            found.append(Ptr("tab", number, 8 * at))
            at += sum([part.size for part in table])
        self._tables.append(np.concatenate([part for table in tables for part in table], axis=None, dtype=np.int64))
        return found

    def scratch(self, nbytes: int) -> Ptr:
        """Memory private to a worker while it works on one step; all steps have the same."""
        self._scratch = max(self._scratch, nbytes)
        return Ptr("scratch", 0)

    def cast(self, source: Ptr, layout: Layout, target: Ptr, result: Layout) -> None:
        """target[i] = source[i] in the result's dtype, for every index i of the two layouts' common shape."""
        if result.size == 0:
            return
        nodes = [("load", 0), ("map", cast_rule, (("dtype", dtype_name(result.dtype)),), (0,))]
        base = {"in": source, "out": target}
        from fgrad.kernels.cpu.emit import map_plan  # the emitter loads with the first program, not with fgrad

        for step in map_plan(layout.shape, [layout], nodes, [(result, 1)]).steps:
            step = step._replace(note=f"cast to {result.dtype}")
            self.include(step.placed(lambda a: advance(base[a.kind], a.offset)))

    def converted(self, source: Ptr, layout: Layout, dtype: np.dtype) -> tuple[Ptr, Layout]:
        """The operand in ``dtype``: itself, or a contiguous copy."""
        if dtype == layout.dtype:
            return source, layout
        result = Layout.contiguous(dtype, layout.shape)
        target = self.temp(result.size * dtype.itemsize)
        self.cast(source, layout, target, result)
        return target, result

    def plan(self) -> KernelPlan:
        return KernelPlan(tuple(self._steps), tuple(self._temps), tuple(self._tables), self._scratch)


def sums(parts: Iterable[np.ndarray]) -> np.ndarray:
    """All sums of one element of each part, the last part fastest."""
    total = None
    for part in parts:
        if total is None:
            total = part
        elif total.size == 1 or part.size == 1:
            total = total + part
        else:
            total = np.add.outer(total, part).ravel()
    return ZERO if total is None else total


def cast_rule(s, x, dtype: str):
    """The scalar rule of a conversion."""
    return s.cast(x, dtype)


def advance(base: Ptr, nbytes: int) -> Ptr:
    """The address ``nbytes`` after another."""
    return Ptr(base.kind, base.index, base.offset + nbytes) if nbytes else base


def start(base: Ptr, layout: Layout) -> Ptr:
    """Address of element [0, ..., 0] of a layout over ``base``."""
    return advance(base, layout.offset * layout.dtype.itemsize) if layout.offset else base


def accumulator(dtype: np.dtype) -> np.dtype:
    """What library kernels compute in: float32 for float16 and bfloat16 (NumPy kind 'V'), else the dtype itself."""
    return np.dtype(np.float32) if dtype == np.float16 or dtype.kind == "V" else dtype


def real(dtype: np.dtype) -> np.dtype:
    """The dtype of a complex number's parts."""
    return np.dtype(f"f{dtype.itemsize // 2}")
