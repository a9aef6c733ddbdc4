"""Forward mode: each operation with its tangent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fgrad.core import trace as _trace
from fgrad.core.array import lift
from fgrad.core.jaxpr import blamed
from fgrad.core.primitive import Bilinear, Linear, Zero
from fgrad.core.trace import Trace, Tracer, computed_from, keeps_sources, tracing, using
from fgrad.primitives.arithmetic import add_p
from fgrad.transforms.stage import Place, source_of, user_place
from fgrad.transforms.zeros import instantiate


class JVPTracer(Tracer):
    """A primal value with a tangent that is not known to be zero.

    ``position`` is set if it is an argument, ``made`` if it is a result whose place the trace notes.
    """

    __slots__ = ("made", "position", "primal", "tangent")

    position: int  # among the arguments; set on arguments only

    def __init__(self, trace: Trace, primal: Any, tangent: Any, made: Place | None = None):
        self._trace = trace
        self.aval = primal.aval
        self.primal = primal
        self.tangent = tangent
        self.made = made

    def concrete(self) -> Any:
        return self.primal.concrete() if isinstance(self.primal, Tracer) else self.primal


class JVPTrace(Trace):
    """Pushes tangents through; rules run in the parent trace.  ``arg_names()`` names the arguments in errors.

    ``notes_places``: it runs a user's function, and no trace below keeps the lines of operations.  ``finds_lines``: one
    does, which is told the line here, once for all that a rule binds.
    """

    __slots__ = ("arg_names", "finds_lines", "notes_places")

    def __init__(self, name: str, parent: Trace, arg_names: Callable[[], Sequence[str]] | None = None):
        super().__init__(name, parent)
        self.arg_names = arg_names
        self.finds_lines = arg_names is not None and keeps_sources(parent)
        self.notes_places = arg_names is not None and not self.finds_lines

    def split(self, x: Any) -> tuple[Any, Any]:
        if type(x) is JVPTracer and x._trace is self:
            return x.primal, x.tangent
        x = lift(x)
        return x, Zero(x.aval.tangent())

    def bind(self, prim: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        parent = self.parent
        assert parent is not None
        for a in args:
            if type(a) is JVPTracer and a._trace is self:
                break
        else:
            return parent.bind(prim, tuple([lift(a) for a in args]), params)
        primals, tangents = map(list, zip(*[self.split(a) for a in args]))
        blame = blamed.set(source_of(user_place(3))) if self.finds_lines and blamed.get() is None else None
        try:
            out, t_out = apply_jvp(parent, prim, primals, tangents, params)
        finally:
            if blame is not None:
                blamed.reset(blame)
        place = user_place(3) if self.notes_places else None
        if prim.multiple_results:
            return [self.join(o, t, place) for o, t in zip(out, t_out)]
        return out if type(t_out) is Zero else JVPTracer(self, out, t_out, place)

    def join(self, primal: Any, tangent: Any, place: Place | None = None) -> Any:
        return primal if type(tangent) is Zero else JVPTracer(self, primal, tangent, place)

    def made_at(self, tracer: Tracer) -> Any:
        if (place := getattr(tracer, "made", None)) is not None:
            return source_of(place)
        primal = getattr(tracer, "primal", None)
        return primal._trace.made_at(primal) if isinstance(primal, Tracer) else None

    def describe(self, tracer: Tracer) -> str:
        position = getattr(tracer, "position", None)
        if position is not None and self.arg_names is not None:
            return f"argument {self.arg_names()[position]}"
        if isinstance(tracer, JVPTracer) and isinstance(tracer.primal, Tracer):
            return tracer.primal._trace.describe(tracer.primal)
        return super().describe(tracer) if self.arg_names is None else computed_from(self.arg_names())


def apply_jvp(
    trace: Trace, prim: Any, primals: Sequence[Any], tangents: Sequence[Any], params: dict[str, Any]
) -> tuple[Any, Any]:
    """(out, tangent of out) by the primitive's jvp slot, computed in the given trace."""
    rule = prim.slot("jvp")
    if type(rule) is Bilinear:
        (x, y), (dx, dy) = primals, tangents
        out = trace.bind(prim, (x, y), params)
        left = None if type(dx) is Zero else trace.bind(prim, (dx, y), params)
        right = None if type(dy) is Zero else trace.bind(prim, (x, dy), params)
        if left is None or right is None:
            return out, left if right is None else right
        return out, trace.bind(add_p, (left, right), {})
    if type(rule) is Linear:
        out = trace.bind(prim, tuple(primals), params)
        # A map linear in all its operands together: the others' tangents are zeros, not their values.
        if Zero in map(type, tangents):
            with using(trace):
                tangents = [instantiate(t) for t in tangents]
        return out, trace.bind(prim, tuple(tangents), params)
    with using(trace):
        return rule(primals, tangents, **params)


def jvp_flat(
    fun: Callable[..., Sequence[Any]],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    name: str = "jvp",
    parent: Trace | None = None,
    arg_names: Callable[[], Sequence[str]] | None = None,
) -> tuple[list[Any], list[Any]]:
    """fun on flat lists -> (outputs, tangents); tangents may be Zero on both sides."""
    trace = JVPTrace(name, parent or _trace.current_trace.get(), arg_names)
    tracers = [trace.join(p, t) for p, t in zip(primals, tangents)]
    for i, x in enumerate(tracers):
        if type(x) is JVPTracer and x._trace is trace:
            x.position = i
    with tracing(trace):
        outs = fun(*tracers)
        pairs = [trace.split(o) for o in outs]
    return [p for p, _ in pairs], [t for _, t in pairs]
