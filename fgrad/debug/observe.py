"""Evaluating equation by equation, with somebody watching: what the NaN checker and the leak checker are made of.

The trace stands where plain evaluation stands, below every transformation, so it sees the operations of the backward
pass and of batched functions too. A program that holds jaxprs (jit, scan, cond, ...) is opened and its equations are
evaluated one by one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fgrad.core.array import ConcreteArray, lift
from fgrad.core.backends import Branch, ForLoop, Inline, WhileLoop
from fgrad.core.jaxpr import ClosedJaxpr, eval_jaxpr
from fgrad.core.trace import EVAL, EvalTrace, Trace, Tracer, current_trace, escaped, using
from fgrad.higher_order.custom_call import one_level_down


class ObservingTrace(EvalTrace):
    """Evaluation that shows every operation with its operands and results to ``observe``.

    path: where evaluation is, the outermost first: ``["jit f", "iteration 3 of scan"]``.
    """

    __slots__ = ("path",)
    keeps_sources = True

    def __init__(self, name: str, parent: Trace | None):
        super().__init__(name, parent)
        self.path: list[str] = []

    def observe(self, prim: Any, args: Sequence[Any], outs: Sequence[Any], path: Sequence[str]) -> None:
        raise NotImplementedError

    def bind(self, prim: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        args = tuple([a if type(a) is ConcreteArray else _with_value(a, prim.name) for a in args])
        opened = _OPENED.get(type(prim.cpu))
        if opened is not None:
            with using(self):
                return opened(self, prim, args, params)
        out = super().bind(prim, args, params)
        trace: Trace | None = self
        while isinstance(trace, ObservingTrace):  # observers may stand on each other
            trace.observe(prim, args, out if prim.multiple_results else (out,), self.path)
            trace = trace.parent
        return out

    @contextlib.contextmanager
    def inside(self, what: str) -> Iterator[None]:
        self.path.append(what)
        try:
            yield
        finally:
            self.path.pop()

    def run(self, closed: ClosedJaxpr, args: Sequence[Any]) -> list[Any]:
        outs = eval_jaxpr(closed.jaxpr, closed.consts, *args)
        return [ConcreteArray(o._value, a.weak_type) for o, a in zip(outs, closed.out_avals)]

    def call(self, prim: Any, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
        fun = params[prim.cpu.jaxpr_param]
        with self.inside(f"{prim.name} {params['name']}" if "name" in params else prim.name):
            if isinstance(fun, ClosedJaxpr):
                return self.run(fun, args)
            with one_level_down(prim.name, params["name"], self):  # a custom derivative that nobody has traced
                return list(fun(*[ConcreteArray(a._value, weak) for a, weak in zip(args, fun.weak)]))

    def for_loop(self, prim: Any, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
        parts = prim.cpu.parts(**params)
        n = parts.n_consts + parts.n_carry
        consts, carry, xs = args[: parts.n_consts], list(args[parts.n_consts : n]), args[n:]
        y_avals = parts.body.out_avals[parts.n_carry :]
        ys = [np.empty((parts.length, *a.shape), a.dtype) for a in y_avals]
        for step in range(parts.length):
            i = parts.length - 1 - step if parts.reverse else step
            with self.inside(f"iteration {i} of {prim.name}"):
                x = [ConcreteArray(v._value[i], v._weak) for v in xs]
                outs = self.run(parts.body, [*consts, *carry, *x])
            carry = outs[: parts.n_carry]
            for y, value in zip(ys, outs[parts.n_carry :]):
                y[i] = value._value
        return [*carry, *(ConcreteArray(y, a.weak_type) for y, a in zip(ys, y_avals))]

    def while_loop(self, prim: Any, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
        parts = prim.cpu.parts(**params)
        n = parts.n_cond_consts + parts.n_body_consts
        cond_consts, body_consts, carry = args[: parts.n_cond_consts], args[parts.n_cond_consts : n], list(args[n:])
        i = 0
        while True:
            with self.inside(f"iteration {i} of {prim.name}"):
                (go_on,) = self.run(parts.cond, [*cond_consts, *carry])
                if not go_on._value:
                    return carry
                carry = self.run(parts.body, [*body_consts, *carry])
            i += 1

    def branch(self, prim: Any, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
        i = int(args[0]._value)
        with self.inside(f"branch {i} of {prim.name}"):
            return self.run(prim.cpu.parts(**params)[i], args[1:])


_OPENED = {
    Inline: ObservingTrace.call,
    ForLoop: ObservingTrace.for_loop,
    WhileLoop: ObservingTrace.while_loop,
    Branch: ObservingTrace.branch,
}


def _with_value(x: Any, who: str) -> ConcreteArray:
    if isinstance(x, Tracer):
        raise escaped(x, who)
    return lift(x, who)  # type: ignore[return-value]


def parent_of(who: str) -> Trace:
    """The trace to stand in the place of; an error if a transformation is tracing already."""
    trace = current_trace.get()
    if trace is not EVAL and not isinstance(trace, ObservingTrace):
        raise TypeError(
            f"{who}: must be outside every transformation, got it inside {trace.name} (there are no values to look at "
            f"while a function is traced). Apply it last: {who}(grad(f)), {who}(jit(f))."
        )
    return trace
