"""Batching: each operation over one more axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fgrad.core import trace as _trace
from fgrad.core.array import lift
from fgrad.core.aval import ShapedArray
from fgrad.core.jaxpr import axes_of
from fgrad.core.primitive import Axis, OverAxis
from fgrad.core.trace import Trace, Tracer, computed_from, keeps_sources, tracing, using
from fgrad.primitives.broadcast import broadcast_in_dim_p
from fgrad.primitives.transpose import moveaxis
from fgrad.transforms.stage import Place, source_of, user_place


class BatchTracer(Tracer):
    """A value with a hidden axis ``dim``; the user sees the shape without it.

    ``position`` is set if it is an argument, ``made`` if it is a result whose place the trace notes.
    """

    __slots__ = ("dim", "made", "position", "val")

    def __init__(self, trace: Trace, val: Any, dim: int, made: Place | None = None):
        shape = val.aval.shape
        self._trace = trace
        self.aval = ShapedArray(shape[:dim] + shape[dim + 1 :], val.aval.dtype, val.aval.weak_type)
        self.val = val
        self.dim = dim
        self.made = made


class BatchTrace(Trace):
    """Carries the hidden axis through the primitives' batch rules, which run in the parent trace.

    ``notes_places``: it runs a user's function, and no trace below keeps the lines of operations.
    """

    __slots__ = ("arg_names", "axis", "mapped", "notes_places")

    def __init__(
        self,
        name: str,
        parent: Trace,
        axis: Axis,
        mapped: Sequence[bool],
        arg_names: Callable[[], Sequence[str]] | None,
    ):
        super().__init__(name, parent)
        self.axis = axis
        self.mapped = mapped
        self.arg_names = arg_names
        self.notes_places = arg_names is not None and not keeps_sources(parent)

    def split(self, x: Any) -> tuple[Any, int | None]:
        # By axis, not by trace: a rule that maps a user's function anew meets values of the first trace in its closure.
        if type(x) is BatchTracer and x._trace.axis is self.axis:
            return x.val, x.dim
        return lift(x), None

    def bind(self, prim: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        parent = self.parent
        assert parent is not None
        pairs = [self.split(a) for a in args]
        vals = tuple([v for v, _ in pairs])
        dims = tuple([d for _, d in pairs])
        rule = prim.batch
        named = type(rule) is OverAxis and self.axis.name is not None and self.axis.name in axes_of(params)
        always = type(rule) is OverAxis and rule.holds_python
        if not named and not always and all([d is None for d in dims]):
            return parent.bind(prim, vals, params)
        with using(parent):
            if type(rule) is OverAxis:
                out, dim = rule.rule(self.axis, vals, dims, **params)
            else:
                out, dim = prim.slot("batch")(vals, dims, **params)
        place = user_place(3) if self.notes_places else None
        if prim.multiple_results:
            return [self.join(o, d, place) for o, d in zip(out, dim)]
        return self.join(out, dim, place)

    def join(self, val: Any, dim: int | None, place: Place | None = None) -> Any:
        return val if dim is None else BatchTracer(self, val, dim, place)

    def made_at(self, tracer: Tracer) -> Any:
        if (place := getattr(tracer, "made", None)) is not None:
            return source_of(place)
        val = getattr(tracer, "val", None)
        return val._trace.made_at(val) if isinstance(val, Tracer) else None

    def describe(self, tracer: Tracer) -> str:
        if self.arg_names is None:
            return super().describe(tracer)
        names = self.arg_names()
        position = getattr(tracer, "position", None)
        if position is not None:
            return f"argument {names[position]}"
        return computed_from([n for i, n in enumerate(names) if self.mapped[i]], "mapped ")


def materialize(x: Any, dim: int | None, size: int, to: int) -> Any:
    """The value with its batch axis moved to ``to``; an unbatched value is broadcast."""
    if dim is None:
        shape = x.aval.shape[:to] + (size,) + x.aval.shape[to:]
        dims = tuple(i for i in range(len(shape)) if i != to)
        return broadcast_in_dim_p.bind(x, shape=shape, broadcast_dimensions=dims)
    return x if dim == to else moveaxis(x, dim, to)


def vmap_flat(
    fun: Callable[..., Sequence[Any]],
    args: Sequence[Any],
    dims: Sequence[int | None],
    axis: Axis,
    *,
    name: str = "vmap",
    arg_names: Callable[[], Sequence[str]] | None = None,
) -> tuple[list[Any], list[int | None]]:
    """fun on flat lists -> (values with their batch axes, the axes).  ``arg_names()`` names the arguments in errors."""
    trace = BatchTrace(name, _trace.current_trace.get(), axis, [d is not None for d in dims], arg_names)
    tracers = [trace.join(a, d) for a, d in zip(args, dims)]
    for i, x in enumerate(tracers):
        if dims[i] is not None:
            x.position = i
    with tracing(trace):
        pairs = [trace.split(o) for o in fun(*tracers)]
    return [v for v, _ in pairs], [d for _, d in pairs]
