"""Programs: a compiled jaxpr, callable on NumPy arrays."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from fgrad.compiler.fuse import fuse
from fgrad.compiler.lower import Line, Lowered, lower
from fgrad.compiler.schedule import Buffer, Schedule
from fgrad.compiler.simplify import simplify
from fgrad.core.jaxpr import ClosedJaxpr
from fgrad.kernels.layout import Layout


class Program:
    """A compiled jaxpr: one executable, host steps and loops included.

    Calls are safe from several threads and never change their arguments' memory, but for arrays named in
    ``may_overwrite``, which must be among the ``donated`` inputs.

    What it was made by is not kept, but made again for a reader: it would take more memory than the rest.
    """

    def __init__(self, closed: ClosedJaxpr, donated: frozenset[int] = frozenset()):
        from fgrad.kernels.cpu.driver import Executable

        self._source = closed.jaxpr, closed.consts  # not the closed jaxpr, which may keep the program
        self._donated = donated
        simplified = simplify(closed)
        self.consts = tuple(np.asarray(c._value, order="C") for c in simplified.consts)
        schedule = fuse(simplified)
        lowered = self._lower(schedule)
        self.aliases = lowered.aliases
        self.arena_bytes = lowered.arena_bytes
        self.passed = [(j, o) for j, o in enumerate(schedule.outputs) if not isinstance(o, Buffer)]
        # results that pass an input through have no memory of their own: the executable gets an empty array for them
        passed = {j for j, _ in self.passed}
        avals = simplified.out_avals
        self.outs = [Layout.contiguous(a.dtype, (0,) if j in passed else a.shape) for j, a in enumerate(avals)]
        self.executable = Executable(
            lowered.steps,
            n_in=len(schedule.inputs),
            outs=self.outs,
            arena_bytes=lowered.arena_bytes,
            tables=lowered.tables,
            scratch=lowered.scratch,
        )

    def __call__(self, args: Sequence[np.ndarray], may_overwrite: frozenset[int] = frozenset()) -> Sequence[np.ndarray]:
        """Results for C-contiguous arguments of the jaxpr's types."""
        arrays = (*self.consts, *args)
        outs = self._over(arrays, may_overwrite) if may_overwrite and self.aliases else None
        results = self.executable(*arrays, outs=outs)
        if not self.passed:
            return results
        out = list(results)
        for j, i in self.passed:
            out[j] = arrays[i]
        return out

    def _over(self, arrays: Sequence[np.ndarray], may_overwrite: frozenset[int]) -> tuple[np.ndarray, ...]:
        """Memory for the results, some of it that of arguments; these may have other shapes of the same size."""
        outs = []
        for j, out in enumerate(self.outs):
            i = self.aliases.get(j)
            if i is None or i - len(self.consts) not in may_overwrite:
                outs.append(np.empty(out.shape, out.dtype))
            else:
                outs.append(arrays[i] if arrays[i].shape == out.shape else arrays[i].reshape(out.shape))
        return tuple(outs)

    def _lower(self, schedule: Schedule) -> Lowered:
        return lower(schedule, frozenset(i + len(self.consts) for i in self._donated))

    @functools.cached_property
    def simplified(self) -> ClosedJaxpr:
        """The jaxpr that was compiled."""
        return simplify(ClosedJaxpr(*self._source))

    @functools.cached_property
    def lines(self) -> list[Line]:
        """What the instructions do."""
        return self._lower(fuse(self.simplified)).lines

    @property
    def nbytes(self) -> int:
        """Memory that the program holds between calls."""
        return self.executable.nbytes + sum([c.nbytes for c in self.consts])

    def as_text(self) -> str:
        """The simplified jaxpr and the instructions it became."""
        steps = [line for line in self.lines if line.step is not None]
        number = {id(line): i for i, line in enumerate(steps)}
        head = f"{len(steps)} instructions, {self.arena_bytes} bytes of temporaries"
        lines = []
        for line in self.lines:
            at = f"{number[id(line)]:>4}" if id(line) in number else " " * 4
            lines.append(f"{at}  {'    ' * line.depth}{line.text}")
        return "\n".join([repr(self.simplified), "", head, *lines])
