"""Tracing: one current trace, and the tracers that belong to it.

``Primitive.bind`` hands every operation to ``current_trace``.  A transformation sets its trace for the length of the
user's function and keeps the trace it found as ``parent``; its rules run with the parent current.  There is no
stack of levels: a tracer of another trace is simply a constant to this one, and reaches its own trace through the
parents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from fgrad.core.array import Array, ConcreteArray, lift
from fgrad.core.aval import ShapedArray
from fgrad.core.dtypes import bool_
from fgrad.errors import ConcretizationError, EscapedTracerError, user_location


class Trace:
    """How operations are interpreted while it is current."""

    __slots__ = ("live", "name", "parent")
    axis: Any = None  # the Axis a batching trace maps over
    keeps_sources = False  # whether it has a use for the user's line of each operation

    def __init__(self, name: str, parent: Trace | None):
        self.name = name
        self.parent = parent
        self.live = True

    def bind(self, prim: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        raise NotImplementedError

    def describe(self, tracer: Tracer) -> str:
        """``argument 'x' of f``: how an error names a tracer to the user."""
        return f"a value traced by {self.name}"

    def made_at(self, tracer: Tracer) -> Any:
        """The Source of the operation that made the tracer, where it is known."""
        return None


def computed_from(names: Sequence[str], kind: str = "") -> str:
    """``a value computed from arguments 'x' of f, 'y' of f and 3 more``"""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"a value computed from {kind}argument{'s' if len(names) > 1 else ''} {', '.join(names[:4])}{more}"


class Tracer(Array):
    """Stands for an array inside a transformation; its attributes must hide no method of Array (trace, var, ...)."""

    __slots__ = ("_trace", "aval")

    def __init__(self, trace: Trace, aval: ShapedArray):
        self._trace = trace
        self.aval = aval

    def concrete(self) -> Any:
        """The value if it is known after all (the primal under an eager jvp), else None."""
        return None

    def _need_value(self, what: str, instead: str) -> Any:
        check_live(self, what)
        known = self.concrete()
        if known is not None:
            return known
        raise ConcretizationError(
            f"{what}: {self._trace.describe(self)} has no value while {self._trace.name} traces it, "
            f"got {self.aval} at {user_location()}. {instead}"
        )

    def __bool__(self) -> bool:
        return bool(
            self._need_value(
                "bool", "Use fgrad.numpy.where or lax.select instead of 'if', or make the argument static."
            )
        )

    def __int__(self) -> int:
        return int(self._need_value("int", "Use .astype(int), or make the argument static."))

    def __float__(self) -> float:
        return float(self._need_value("float", "Use .astype(float), or make the argument static."))

    def __complex__(self) -> complex:
        return complex(self._need_value("complex", "Use .astype(complex), or make the argument static."))

    def __index__(self) -> int:
        value = self._need_value("index", "Shapes and Python indices must be static: make the argument static.")
        return value.__index__()

    def __array__(self, dtype=None, copy=None):
        # refused even where the value is known: what NumPy computes of it would have no derivative
        check_live(self, "numpy.asarray")
        raise ConcretizationError(
            f"numpy.asarray: NumPy cannot compute with {self._trace.describe(self)} while {self._trace.name} traces "
            f"it, got {self.aval} at {user_location()}. Use fgrad.numpy functions instead of NumPy's on traced values."
        )

    def item(self, *index: int) -> Any:
        return self._need_value("item", "Return the array and read it outside the transformation.").item(*index)

    def tolist(self) -> Any:
        return self._need_value("tolist", "Return the array and read it outside the transformation.").tolist()

    def block_until_ready(self):
        return self

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __repr__(self) -> str:
        return f"Traced<{self.aval}>with<{self._trace.name}>"

    def __dlpack__(self, **options: Any) -> Any:
        return self.__array__()

    def __dlpack_device__(self) -> Any:
        return self.__array__()

    def __reduce__(self):
        self._need_value("pickle", "Return the array and pickle it outside the transformation.")
        raise TypeError("pickle: a tracer cannot be pickled. Return the array and pickle it outside.")


class EvalTrace(Trace):
    """Computes at once.  Each kind of ``cpu`` slot knows how (see fgrad.core.backends)."""

    __slots__ = ()

    def bind(self, prim: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        weak = bool(args)
        values = []
        for a in args:
            if type(a) is not ConcreteArray:
                a = _value_outside(a, prim)
            if weak and not a._weak:
                weak = False
            values.append(a._value)
        out = prim.cpu.evaluate(prim, values, params)
        if prim.multiple_results:
            if prim.own_weak:
                return [ConcreteArray(v, w) for v, w in out]
            return [ConcreteArray(v, weak and v.dtype != bool_) for v in out]
        return ConcreteArray(out, params["weak_type"] if prim.own_weak else weak and out.dtype != bool_)


def _value_outside(a: Any, prim: Any) -> ConcreteArray:
    if isinstance(a, Tracer):
        raise escaped(a, prim.name)
    return lift(a, prim.name)  # type: ignore[return-value]


def visible_axes() -> tuple[Any, ...]:
    """The named axes that collectives may refer to here, the innermost first."""
    axes = []
    trace: Trace | None = current_trace.get()
    while trace is not None:
        if trace.axis is not None and trace.axis.name is not None:
            axes.append(trace.axis)
        trace = trace.parent
    return tuple(axes)


def keeps_sources(trace: Trace | None) -> bool:
    """Whether this trace or one below it keeps the lines of operations."""
    while trace is not None:
        if trace.keeps_sources:
            return True
        trace = trace.parent
    return False


EVAL = EvalTrace("evaluation", None)
current_trace: ContextVar[Trace] = ContextVar("fgrad_current_trace", default=EVAL)


on_end: ContextVar[Callable[[Trace], None] | None] = ContextVar("fgrad_on_end", default=None)  # told of ended traces


class using:
    """``with using(trace):`` makes the trace current; its tracers stay alive afterwards.

    A block in a generator that is dropped half-way ends when it is collected, which may be inside of another trace:
    then there is nothing to restore.
    """

    __slots__ = ("token", "trace")

    def __init__(self, trace: Trace):
        self.trace = trace

    def __enter__(self) -> None:
        self.token = current_trace.set(self.trace)

    def __exit__(self, *exc: object) -> None:
        if current_trace.get() is self.trace:
            current_trace.reset(self.token)


class tracing(using):
    """``using`` for the trace of a user's function: its tracers must not be used after the block."""

    __slots__ = ()

    def __exit__(self, *exc: object) -> None:
        if current_trace.get() is self.trace:
            current_trace.reset(self.token)
        self.trace.live = False
        if exc[0] is None and (observer := on_end.get()) is not None:
            observer(self.trace)


def escaped(tracer: Tracer, where: str) -> EscapedTracerError:
    made = tracer._trace.made_at(tracer)
    by = f" (made at {made})" if made else ""
    described, got = tracer._trace.describe(tracer), f"{tracer.aval} at {user_location()}{by}"
    error = EscapedTracerError(
        f"{where}: {described} was used outside the function it was traced in, "
        f"got {got}. Return it from the function instead of storing it."
    )
    error.tracer = f"{described}, {got}"
    return error


def encloses(outer: Trace, inner: Trace) -> bool:
    """Whether ``outer`` is ``inner`` or one it passes operations on to, so that its tracers are constants there."""
    trace: Trace | None = inner
    while trace is not None:
        if trace is outer:
            return True
        trace = trace.parent
    return False


def check_live(x: Any, where: str) -> None:
    """Raises EscapedTracerError for a tracer whose trace has ended."""
    if isinstance(x, Tracer) and not x._trace.live:
        raise escaped(x, where)
