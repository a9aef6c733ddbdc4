"""Reverse mode: linearize (jvp onto a tape) and transpose (the tape backwards).

``linearize`` runs the function once under a JVPTrace whose rules run under a ``TapeTrace``: what depends only on
primals is computed by the trace below, what depends on tangents is written on the tape.  The tape is a linear
program; transposing each entry in reverse order gives the vjp.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fgrad.core import caches, dtypes
from fgrad.core import trace as _trace
from fgrad.core.array import ConcreteArray, lift
from fgrad.core.aval import ShapedArray
from fgrad.core.jaxpr import Source, blamed
from fgrad.core.primitive import Bilinear, LinearArg, Zero
from fgrad.core.trace import Trace, Tracer, escaped, keeps_sources, tracing
from fgrad.errors import MissingBackendError
from fgrad.primitives.arithmetic import add_p
from fgrad.transforms.jvp import jvp_flat
from fgrad.transforms.stage import source_of, user_place


class TapeTracer(Tracer):
    """A tangent: an unknown the tape is linear in."""

    __slots__ = ()


class TapeEntry(NamedTuple):
    """outs = prim(*args); args are tape tracers (linear) or known values (residuals).

    source: the user's line, where some trace below keeps it.
    """

    prim: Any
    args: tuple[Any, ...]
    outs: tuple[TapeTracer, ...]
    params: dict[str, Any]
    source: Source | None


class TapeTrace(Trace):
    """Records operations on tangents and passes everything else to its parent."""

    __slots__ = ("entries", "sourced")

    def __init__(self, name: str, parent: Trace):
        super().__init__(name, parent)
        self.entries: list[TapeEntry] = []
        self.sourced = keeps_sources(parent)

    def owns(self, x: Any) -> bool:
        return type(x) is TapeTracer and x._trace is self

    def bind(self, prim: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        parent = self.parent
        assert parent is not None
        for a in args:
            if type(a) is TapeTracer and a._trace is self:
                break
        else:
            return parent.bind(prim, args, params)
        if prim.partial_eval is not None:
            unknown = [type(a) is TapeTracer and a._trace is self for a in args]
            if False in unknown:
                return prim.partial_eval(self, unknown, args, params)
        return self.record(prim, args, params)

    def residual(self, a: Any, who: str) -> Any:
        if not isinstance(a, Tracer):
            return lift(a, who)
        if not a._trace.live:
            raise escaped(a, who)
        return a

    def record(self, prim: Any, args: Sequence[Any], params: dict[str, Any]) -> Any:
        args = tuple(
            [
                a
                if type(a) is ConcreteArray or (type(a) is TapeTracer and a._trace is self)
                else self.residual(a, prim.name)
                for a in args
            ]
        )
        inferred = prim.abstract_eval(args, params)
        source = blamed.get() or source_of(user_place()) if self.sourced else None
        if not prim.multiple_results:
            out = TapeTracer(self, inferred)
            self.entries.append(TapeEntry(prim, args, (out,), params, source))
            return out
        outs = [TapeTracer(self, a) for a in inferred]
        self.entries.append(TapeEntry(prim, args, tuple(outs), params, source))
        return outs


class Tape(NamedTuple):
    """A linear program with its residuals inside."""

    trace: TapeTrace
    inputs: tuple[TapeTracer, ...]
    outputs: tuple[Any, ...]  # TapeTracer, or Zero

    def apply(self, tangents: Sequence[Any]) -> list[Any]:
        """Runs the tape forwards."""
        env: dict[int, Any] = {id(x): t for x, t in zip(self.inputs, tangents)}
        for prim, args, outs, params, _ in self.trace.entries:
            vals = [env[id(a)] if self.trace.owns(a) else a for a in args]
            out = prim.bind(*vals, **params)
            for o, v in zip(outs, out if prim.multiple_results else (out,)):
                env[id(o)] = v
        return [o if type(o) is Zero else env[id(o)] for o in self.outputs]

    def transpose(self, cotangents: Sequence[Any], last: bool = False) -> list[Any]:
        """Runs the tape backwards: one cotangent (or Zero) for each input.

        last: the tape is used up, so that each entry's residuals are freed as soon as they have been read.
        """
        trace = self.trace
        ct: dict[int, Any] = {}
        for o, c in zip(self.outputs, cotangents):
            if type(o) is not Zero and type(c) is not Zero:
                _accumulate(ct, o, c)
        entries = trace.entries if last else list(trace.entries)
        before = blamed.get()
        try:
            while entries:
                entry = entries.pop()
                if trace.sourced:
                    blamed.set(_backward(entry.source) or before)
                _transpose_entry(trace, entry, ct)
        finally:
            blamed.set(before)
        return [ct[id(x)] if id(x) in ct else Zero(x.aval) for x in self.inputs]


def _transpose_entry(trace: TapeTrace, entry: TapeEntry, ct: dict[int, Any]) -> None:
    """Moves the cotangents of one entry's results, if there are any, to its operands."""
    prim, args, outs, params, _ = entry
    if not prim.multiple_results:
        (o,) = outs
        cts = ct.pop(id(o), None)
        if cts is None:
            if not prim.effectful:
                return
            cts = Zero(o.aval)
    else:
        found = [ct.pop(id(o), None) for o in outs]
        if all([c is None for c in found]) and not prim.effectful:
            return
        cts = [Zero(o.aval) if c is None else c for o, c in zip(outs, found)]
    operands = [LinearArg(a.aval) if type(a) is TapeTracer and a._trace is trace else a for a in args]
    if type(prim.jvp) is Bilinear and type(operands[0]) is LinearArg and type(operands[1]) is LinearArg:
        raise MissingBackendError(
            f"{prim.name}: has no transpose in both operands at once, got two values that depend on the "
            "arguments (it is linear only in each). Use vjp for functions that are not linear."
        )
    results = prim.slot("transpose")(cts, *operands, **params)
    for a, operand, r in zip(args, operands, results, strict=True):
        if type(operand) is LinearArg and r is not None and type(r) is not Zero:
            _accumulate(ct, a, r)


def _accumulate(ct: dict[int, Any], x: Any, value: Any) -> None:
    key = id(x)
    ct[key] = add_p.bind(ct[key], value) if key in ct else value


@functools.lru_cache(maxsize=4096)  # as for source_of, whose Sources these are
def _backward(source: Source | None) -> Source | None:
    return source and Source(source.file, source.line, source.function, backward=True)


caches.add_lru_cache("lines of transposed functions", _backward)


def linearize_flat(
    fun: Callable[..., Sequence[Any]],
    primals: Sequence[Any],
    mask: Sequence[bool],
    *,
    name: str = "grad",
    arg_names: Callable[[], Sequence[str]] | None = None,
) -> tuple[list[Any], Tape]:
    """(outputs, tape) of fun at primals; the tape's inputs are the tangents where ``mask`` is true."""
    tape = TapeTrace(name, _trace.current_trace.get())
    inputs = tuple([TapeTracer(tape, p.aval.tangent()) for p, m in zip(primals, mask) if m])
    it = iter(inputs)
    tangents = [next(it) if m else Zero(p.aval.tangent()) for p, m in zip(primals, mask)]
    with tracing(tape):
        outs, t_outs = jvp_flat(fun, primals, tangents, name=name, parent=tape, arg_names=arg_names)
    return outs, Tape(tape, inputs, tuple(_own(tape, t) for t in t_outs))


def linear_tape(fun: Callable[..., Sequence[Any]], avals: Sequence[ShapedArray]) -> Tape:
    """The tape of a function that is already linear."""
    tape = TapeTrace("linear_transpose", _trace.current_trace.get())
    inputs = tuple([TapeTracer(tape, a) for a in avals])
    with tracing(tape):
        outs = fun(*inputs)
    linear = Tape(tape, inputs, tuple(_own(tape, o) for o in outs))
    _check_linear(linear)
    return linear


def _check_linear(tape: Tape) -> None:
    """No real result depends on an integer or boolean that depends on the arguments: an index, a condition."""
    trace = tape.trace
    needed = {id(o) for o in tape.outputs if dtypes.is_inexact(o.aval.dtype)}
    for entry in reversed(trace.entries):
        if needed.isdisjoint([id(o) for o in entry.outs]):
            continue
        for a in entry.args:
            if not trace.owns(a):
                continue
            if not dtypes.is_inexact(a.aval.dtype):
                raise MissingBackendError(
                    f"{entry.prim.name}: has no transpose in an integer or boolean operand, got {a.aval} that depends "
                    "on the arguments (the result is not linear in them). Use vjp for functions that are not linear."
                )
            needed.add(id(a))


def _own(tape: TapeTrace, x: Any) -> Any:
    """An output that does not depend on the tape's inputs has a zero tangent."""
    if tape.owns(x) or type(x) is Zero:
        return x
    return Zero(x.aval)
