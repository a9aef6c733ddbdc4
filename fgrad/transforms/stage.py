"""Staging: running a function on tracers that write each operation into a jaxpr."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from types import CodeType, FrameType
from typing import Any

from fgrad.core import caches
from fgrad.core import trace as _trace
from fgrad.core.array import Array, ConcreteArray, lift
from fgrad.core.aval import ShapedArray
from fgrad.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Source, Var, blamed, blaming_by_turns
from fgrad.core.trace import Trace, Tracer, computed_from, encloses, escaped, tracing
from fgrad.transforms.dce import dce

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class _Package(dict[str, bool]):
    """File name -> whether it is one of fgrad's: asked for every frame between an operation and the user's line."""

    def __missing__(self, name: str) -> bool:
        self[name] = inside = name.startswith(_PACKAGE)
        return inside


_inside = _Package()


def user_source() -> Source | None:
    """The line that is blamed for what is bound now, else the innermost frame outside fgrad."""
    if (source := blamed.get()) is not None:
        return source
    return source_of(user_place())


Place = tuple[CodeType, int]  # an instruction: cheaper to note than its line, and it keeps no frame alive


def user_place(within: int = 2) -> Place | None:
    """Where the innermost frame outside fgrad is; at least ``within`` frames are fgrad's."""
    frame: FrameType | None = sys._getframe(within)
    while frame is not None:
        code = frame.f_code
        if not _inside[code.co_filename]:
            return code, frame.f_lasti
        frame = frame.f_back
    return None


@functools.lru_cache(maxsize=4096)  # a function is traced again for other shapes, from the same places
def source_of(place: Place | None) -> Source | None:
    if place is None:
        return None
    code, at = place
    for start, end, line in code.co_lines():
        if start <= at < end and line is not None:
            return Source(code.co_filename, line, code.co_name)
    return Source(code.co_filename, code.co_firstlineno, code.co_name)


caches.add_lru_cache("lines of traced functions", source_of)


class StagingTracer(Tracer):
    """A variable of the jaxpr being built."""

    __slots__ = ("_var",)

    def __init__(self, trace: Trace, var: Var):
        self._trace = trace
        self.aval = var.aval
        self._var = var


class StagingTrace(Trace):
    """Collects equations; values from outside (arrays, other tracers) become constants."""

    __slots__ = ("arg_names", "const_of", "consts", "constvars", "eqns", "inputs")
    keeps_sources = True

    def __init__(self, name: str, parent: Trace, arg_names: Callable[[], Sequence[str]]):
        super().__init__(name, parent)
        self.arg_names = arg_names
        self.inputs: list[Var] = []
        self.eqns: list[Eqn] = []
        self.constvars: list[Var] = []
        self.consts: list[Any] = []
        self.const_of: dict[int, Var] = {}

    def new_input(self, aval: ShapedArray) -> StagingTracer:
        var = Var(aval)
        self.inputs.append(var)
        return StagingTracer(self, var)

    def atom(self, x: Any, who: str) -> Atom:
        if type(x) is StagingTracer and x._trace is self:
            return x._var
        if isinstance(x, Tracer):
            if not (x._trace.live and encloses(x._trace, self)):
                raise escaped(x, who)
        elif not isinstance(x, Array):
            x = lift(x, who)
        if type(x) is ConcreteArray and x.ndim == 0:
            return Literal(x, x.aval)
        if id(x) not in self.const_of:
            var = Var(x.aval)
            self.const_of[id(x)] = var
            self.constvars.append(var)
            self.consts.append(x)  # keeps x alive, so its id stays its own
        return self.const_of[id(x)]

    def bind(self, prim: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        if prim.stage is not None:
            args, params = prim.stage(self, args, params)
        invars = tuple(
            [a._var if type(a) is StagingTracer and a._trace is self else self.atom(a, prim.name) for a in args]
        )
        avals = prim.abstract_eval(invars, params)
        outvars = tuple(map(Var, avals)) if prim.multiple_results else (Var(avals),)
        self.eqns.append(Eqn(prim, invars, outvars, params, blamed.get() or source_of(user_place())))
        if prim.multiple_results:
            return [StagingTracer(self, v) for v in outvars]
        return StagingTracer(self, outvars[0])

    def describe(self, tracer: Tracer) -> str:
        """Names the arguments the tracer was computed from."""
        if not isinstance(tracer, StagingTracer):
            return super().describe(tracer)
        needed = {tracer._var}
        for eqn in reversed(self.eqns):
            if not needed.isdisjoint(eqn.outvars):
                needed.update(v for v in eqn.invars if isinstance(v, Var))
        names = [n for v, n in zip(self.inputs, self.arg_names()) if v in needed]
        if tracer._var in self.inputs and names:
            return f"argument {names[0]}"
        if names:
            return computed_from(names)
        return super().describe(tracer)

    def made_at(self, tracer: Tracer) -> Source | None:
        if isinstance(tracer, StagingTracer):
            for eqn in self.eqns:
                if tracer._var in eqn.outvars:
                    return eqn.source
        return None

    def build(self, outs: Sequence[Any]) -> ClosedJaxpr:
        outvars = [self.atom(o, self.name) for o in outs]
        return ClosedJaxpr(Jaxpr(self.constvars, self.inputs, self.eqns, outvars), self.consts)


def stage(
    fun: Callable[..., Sequence[Any]],
    avals: Sequence[ShapedArray],
    *,
    name: str = "make_jaxpr",
    arg_names: Callable[[], Sequence[str]] = tuple,
) -> ClosedJaxpr:
    """The jaxpr of ``fun(*tracers) -> list of outputs``, without dead equations; ``arg_names()`` is for errors."""
    trace = StagingTrace(name, _trace.current_trace.get(), arg_names)
    inputs = [trace.new_input(a) for a in avals]
    with tracing(trace), blaming_by_turns():
        blamed.set(None)
        outs = fun(*inputs)
    return dce(trace.build(outs))


def inline_consts(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Constants as leading inputs, so that the jaxpr holds no values (they may be tracers of an outer trace)."""
    j = closed.jaxpr
    return ClosedJaxpr(Jaxpr((), j.constvars + j.invars, j.eqns, j.outvars), ())
