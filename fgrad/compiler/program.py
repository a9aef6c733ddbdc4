"""Programs: a compiled jaxpr, callable on NumPy arrays.

A program is one executable, or several with host calls (primitives whose ``cpu`` slot is ``Host``, and complex
arithmetic, which the emitter does not do) between them; its text says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.compiler.fuse import Buffer, fuse
from fgrad.compiler.lower import lower
from fgrad.compiler.simplify import simplify
from fgrad.core.backends import Host
from fgrad.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var
from fgrad.kernels.layout import Layout


def _on_host(eqn: Eqn) -> bool:
    """Host primitives, and whatever handles complex numbers."""
    return isinstance(eqn.primitive.cpu, Host) or any(v.aval.dtype.kind == "c" for v in (*eqn.invars, *eqn.outvars))


class _Device:
    """A run of equations as one executable."""

    def __init__(self, closed: ClosedJaxpr, donated: frozenset[int]):
        from fgrad.kernels.cpu.driver import Executable

        schedule = fuse(closed)
        lowered = lower(schedule, donated)
        self.scalars = tuple(np.array(s) for s in schedule.scalars)
        self.consts = tuple(np.asarray(c._value, order="C") for c in closed.consts)
        self.aliases = lowered.aliases
        self.text = lowered.text
        self.arena_bytes = lowered.arena_bytes
        avals = closed.out_avals
        self.passed = [(j, o) for j, o in enumerate(schedule.outputs) if not isinstance(o, Buffer)]
        passed = {j for j, _ in self.passed}
        # results that pass an input through have no memory of their own: the executable gets an empty array for them
        self.outs = [Layout.contiguous(a.dtype, (0,) if j in passed else a.shape) for j, a in enumerate(avals)]
        self.executable = Executable(
            lowered.steps,
            n_in=len(schedule.inputs) + len(self.scalars),
            outs=self.outs,
            arena_bytes=lowered.arena_bytes,
            tables=lowered.tables,
            scratch=lowered.scratch,
        )

    def __call__(self, args: Sequence[np.ndarray], may_overwrite: frozenset[int] = frozenset()) -> Sequence[np.ndarray]:
        arrays = (*self.consts, *args, *self.scalars)
        outs = None
        if may_overwrite and self.aliases:
            outs = tuple(
                arrays[self.aliases[j]] if self.aliases.get(j) in may_overwrite else np.empty(lay.shape, lay.dtype)
                for j, lay in enumerate(self.outs)
            )
        results = self.executable(*arrays, outs=outs)
        if not self.passed:
            return results
        out = list(results)
        for j, i in self.passed:
            out[j] = arrays[i]
        return out


class _HostCall:
    """One equation by its NumPy reference."""

    def __init__(self, eqn: Eqn):
        self.eqn = eqn
        reason = eqn.primitive.cpu.reason if isinstance(eqn.primitive.cpu, Host) else "complex numbers"
        self.text = [f"{'host numpy':<24} {1:>6} tile   {eqn.primitive.name}  ({reason})"]
        self.arena_bytes = 0

    def __call__(self, args: Sequence[np.ndarray], may_overwrite: frozenset[int] = frozenset()) -> Sequence[np.ndarray]:
        with np.errstate(all="ignore"):
            out = self.eqn.primitive.reference(*args, **self.eqn.params)
        out = out if self.eqn.primitive.multiple_results else (out,)
        return [np.asarray(o, order="C") for o, v in zip(out, self.eqn.outvars)]


class Program:
    """A compiled jaxpr.  Calls are safe from several threads and never change their arguments' memory, but for
    arrays named in ``may_overwrite``, which must be among the ``donated`` inputs.
    """

    def __init__(self, closed: ClosedJaxpr, donated: frozenset[int] = frozenset()):
        self.simplified = simplify(closed)
        jaxpr = self.simplified.jaxpr
        self.donated = donated
        host = [_on_host(e) for e in jaxpr.eqns]
        self.single = None if any(host) else _Device(self.simplified, _after_consts(donated, self.simplified))
        self.n_consts = len(self.simplified.consts)
        self.stages: list[tuple[Any, tuple[Atom, ...], tuple[Var, ...]]] = []
        if self.single is None:
            self._split(jaxpr, host)

    def _split(self, jaxpr: Jaxpr, host: list[bool]) -> None:
        """Maximal runs of device equations, and host equations one by one."""
        run: list[Eqn] = []
        rest_reads: list[set[Var]] = [{v for v in jaxpr.outvars if isinstance(v, Var)}]
        for eqn in reversed(jaxpr.eqns):
            rest_reads.append(rest_reads[-1] | {v for v in eqn.invars if isinstance(v, Var)})
        rest_reads.reverse()  # rest_reads[i]: read by equation i or later

        def flush(end: int) -> None:
            if not run:
                return
            made = {v for e in run for v in e.outvars}
            ins = tuple(dict.fromkeys(v for e in run for v in e.invars if isinstance(v, Var) and v not in made))
            outs = tuple(v for e in run for v in e.outvars if v in rest_reads[end])
            self.stages.append((_Device(ClosedJaxpr(Jaxpr((), ins, run, outs), ()), frozenset()), ins, outs))
            run.clear()

        for i, eqn in enumerate(jaxpr.eqns):
            if host[i]:
                flush(i)
                self.stages.append((_HostCall(eqn), eqn.invars, eqn.outvars))
            else:
                run.append(eqn)
        flush(len(jaxpr.eqns))

    def __call__(self, args: Sequence[np.ndarray], may_overwrite: frozenset[int] = frozenset()) -> Sequence[np.ndarray]:
        """Results for C-contiguous arguments of the jaxpr's types."""
        if self.single is not None:
            if may_overwrite:
                may_overwrite = frozenset(i + self.n_consts for i in may_overwrite)
            return self.single(args, may_overwrite)
        jaxpr = self.simplified.jaxpr
        env: dict[Var, np.ndarray] = dict(zip(jaxpr.invars, args))
        env.update((v, np.asarray(c._value, order="C")) for v, c in zip(jaxpr.constvars, self.simplified.consts))

        def read(a: Atom) -> np.ndarray:
            return np.asarray(a.val) if isinstance(a, Literal) else env[a]

        for stage, ins, outs in self.stages:
            env.update(zip(outs, stage([read(a) for a in ins])))
        return [np.array(read(a)) if isinstance(a, Literal) else read(a) for a in jaxpr.outvars]

    @property
    def arena_bytes(self) -> int:
        stages = [self.single] if self.single is not None else [s for s, _, _ in self.stages]
        return max((s.arena_bytes for s in stages), default=0)

    def as_text(self) -> str:
        """The simplified jaxpr and the instructions it became."""
        stages = [self.single] if self.single is not None else [s for s, _, _ in self.stages]
        lines = [line for s in stages for line in s.text]
        head = f"{len(lines)} instructions, {self.arena_bytes} bytes of temporaries"
        return "\n".join([repr(self.simplified), "", head, *(f"{i:>4}  {line}" for i, line in enumerate(lines))])


def _after_consts(donated: frozenset[int], closed: ClosedJaxpr) -> frozenset[int]:
    """Input numbers of a device, which counts constants first."""
    return frozenset(i + len(closed.consts) for i in donated)
