"""custom_jvp: a function whose forward-mode rule the user writes; reverse mode is the transpose of that rule."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from fgrad import tree
from fgrad.core.array import aval_of, lift
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Inline
from fgrad.core.dtypes import is_inexact
from fgrad.core.primitive import Axis, OverAxis, Primitive, Zero
from fgrad.core.trace import EVAL, current_trace
from fgrad.errors import MissingRuleError, TreeMismatchError
from fgrad.higher_order import custom_call
from fgrad.higher_order.arguments import check_callable, function_name, is_arraylike, parameter_names
from fgrad.higher_order.custom_call import Call, OutDims, Signature, float0_zeros
from fgrad.primitives.convert import convert
from fgrad.primitives.define import NO_CUDA
from fgrad.transforms.vmap import vmap_flat
from fgrad.transforms.zeros import add_tangents, instantiate


class custom_jvp(custom_call.CustomFunction):
    """A function with a forward-mode derivative of its own.

    Formula: with the rule jvp set by :meth:`defjvp`, ``jvp(primals, tangents) = (f(primals), Σ_i ∂f/∂x_i · t_i)``.
    Every transformation uses it in place of differentiating ``fun``; reverse mode transposes it, so its tangent must be
    linear in the tangents and made of operations that can be transposed.

    Args:
        fun: a function of pytrees of arrays.
        nondiff_argnums: positions of arguments that are not differentiated (functions, Python values; arrays count as
            constants).  The rule gets them first, as they are.
        nondiff_argnames: the same by name.

    The rule and, outside ``jit`` and ``vmap``, ``fun`` see values, so they may branch on them in Python.

    Raises:
        MissingRuleError: called before ``defjvp`` or ``defjvps``.
        ClosedOverTracerError: ``fun`` or its rule closes over a value that is being differentiated.
        TypeError, ValueError, TreeMismatchError: the rule returns something else than a pair of equal structures,
            shapes and dtypes.

    >>> import fgrad, fgrad.numpy as fnp
    >>> @fgrad.custom_jvp
    ... def log1pexp(x):
    ...     return fnp.log(1 + fnp.exp(x))
    >>> @log1pexp.defjvp
    ... def log1pexp_jvp(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return log1pexp(x), (1 - 1 / (1 + fnp.exp(x))) * t
    >>> float(fgrad.grad(log1pexp)(100.0))
    1.0

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.custom_jvp.html.
    """

    who = "custom_jvp"
    jvp: Callable[..., Any] | None = None

    def defjvp(self, jvp: Callable[..., Any]) -> Callable[..., Any]:
        """Sets the rule ``jvp(*nondiff_args, primals, tangents) -> (output, tangent of the output)``; returns it.

        ``primals`` and ``tangents`` are tuples with an entry for each differentiated argument.  The tangent of an
        integer is a float0 array.
        """
        check_callable("custom_jvp", jvp)
        self.jvp = jvp
        return jvp

    def defjvps(self, *jvps: Callable[..., Any] | None) -> None:
        """Sets a rule for each argument: ``jvp_i(t_i, output, *primals)`` is its share of the output's tangent.

        None stands for a share of zero.

        >>> import fgrad, fgrad.numpy as fnp
        >>> f = fgrad.custom_jvp(lambda x, y: fnp.sin(x) * y)
        >>> f.defjvps(lambda t, out, x, y: fnp.cos(x) * t * y, lambda t, out, x, y: fnp.sin(x) * t)
        >>> float(fgrad.grad(f, argnums=1)(0.0, 3.0))
        0.0
        """
        if self.signature.nondiff:
            raise TypeError(
                "custom_jvp: defjvps cannot be used with nondiff_argnums, got "
                f"{tuple(sorted(self.signature.nondiff))} for {self.__name__}. Use defjvp."
            )
        for rule in jvps:
            if rule is not None:
                check_callable("custom_jvp", rule)

        def jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
            if len(jvps) != len(primals):
                raise TypeError(
                    f"custom_jvp: defjvps needs one rule for each argument, got {len(jvps)} for the {len(primals)} of "
                    f"{self.__name__}. Pass None for an argument that adds nothing."
                )
            out = self(*primals)
            takes = f"({', '.join(['tangent', 'output', *parameter_names(self.fun, len(primals))])})"
            shares = [
                self._checked_share(rule, custom_call.call_rule("custom_jvp", rule, takes, (t, out, *primals)), out)
                for rule, t in zip(jvps, tangents)
                if rule is not None
            ]
            return out, tree.tree_map(_sum_of_shares, out, *shares)

        jvp.__name__ = f"the rules of {self.__name__}"
        self.defjvp(jvp)

    def _checked_share(self, rule: Callable[..., Any], share: Any, out: Any) -> Any:
        got, want = tree.tree_structure(share), tree.tree_structure(out)
        if got != want:
            raise TreeMismatchError(
                f"custom_jvp: {function_name(rule)} must return a share of the tangent with the structure of "
                f"{self.__name__}'s output, got {tree.structure_text(got)} for {tree.structure_text(want)} "
                f"({tree.first_difference(share, out)}). Return the same containers."
            )
        return share

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.jvp is None:
            raise MissingRuleError(
                f"custom_jvp: a rule must be defined before the function is called, got none for {self.__name__}. "
                "Use defjvp or defjvps."
            )
        call = _JVPCall(self.signature, self.jvp)
        operands = call.operands(self.signature.positional(args, kwargs))
        if current_trace.get() is EVAL:
            return call.output(call.fun(*operands))
        outs = custom_jvp_p.bind(
            *operands, fun=call.python_fun(operands), rule=call.rule, name=self.__name__, n_consts=0
        )
        return call.output(outs)


def instantiate_tangent(aval: ShapedArray) -> Any:
    return instantiate(Zero(aval)) if is_inexact(aval.dtype) else float0_zeros(aval)


def _sum_of_shares(out: Any, *shares: Any) -> Any:
    aval = aval_of(out)
    if not shares or not is_inexact(aval.dtype):
        return instantiate_tangent(aval)
    return functools.reduce(add_tangents, map(lift, shares))


class _JVPCall(Call):
    def __init__(self, signature: Signature, jvp: Callable[..., Any]):
        super().__init__(signature)
        self.jvp = jvp

    def rule(self, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """(outputs, tangents) of flat operands; tangents may be Zero on both sides."""
        ts = [instantiate_tangent(x.aval) if type(t) is Zero else t for x, t in zip(primals, tangents)]
        args = [*self.fixed(primals), self.others(primals), self.others(ts)]
        pair = custom_call.call_rule(self.who, self.jvp, self.takes("primals", "tangents"), args)
        out, t_out = custom_call.check_pair(self.who, self.jvp, pair, "output, tangent")
        outs, out_tree = self.results(out, self.jvp)
        self.check_rule_tree(self.jvp, out_tree)
        t_outs, t_tree = tree.tree_flatten(t_out)
        if t_tree != out_tree:
            raise TreeMismatchError(
                f"{self.who}: {function_name(self.jvp)} must return a tangent with the structure of its output, got "
                f"{tree.structure_text(t_tree)} for {tree.structure_text(out_tree)} "
                f"({tree.first_difference(t_out, out)}). Return the same containers."
            )
        return outs, [self.tangent(t, o.aval, i) for i, (t, o) in enumerate(zip(t_outs, outs))]

    def tangent(self, t: Any, aval: ShapedArray, i: int) -> Any:
        """A tangent the rule returned, as one of the type of its output; Zero for integers."""
        want = aval.tangent()
        if not is_inexact(aval.dtype):
            return Zero(want)
        if not is_arraylike(t):
            raise TypeError(
                f"{self.who}: {function_name(self.jvp)} must return tangents that are arrays, got {t!r} of type "
                f"{type(t).__name__} in leaf {i}. Return arrays."
            )
        got = aval_of(t)
        if got.shape != want.shape or (got.dtype != want.dtype and not got.weak_type):
            raise ValueError(
                f"{self.who}: {function_name(self.jvp)} must return tangents of the shapes and dtypes of its output, "
                f"got {got} for {want} in leaf {i}. Reshape or convert the tangent."
            )
        return convert(lift(t, self.who), want.dtype)


# --- the primitive ---------------------------------------------------------------------------------------------------
# params: fun: operands -> outputs; rule: (primals, tangents) -> (outputs, tangents), of the operands after the first
# n_consts, which only a traced fun has: values it closes over.
def _jvp(primals, tangents, *, fun, rule, name: str, n_consts: int):
    custom_call.check_constants("custom_jvp", name, tangents[:n_consts])
    with custom_call.one_level_down("custom_jvp", name):
        outs, t_outs = rule(primals[n_consts:], tangents[n_consts:])
    custom_call.check_rule_avals("custom_jvp", name, fun, outs, "the rule")
    return outs, t_outs


def _batch(axis: Axis, args, dims, *, fun, rule, name: str, n_consts: int):
    def over_axis(primals, tangents):
        n, n_out = len(primals), 0
        nonzero: list[bool] = []

        def both(*xs):
            nonlocal n_out
            it = iter(xs[n:])
            ts = [Zero(x.aval.tangent()) if type(t) is Zero else next(it) for x, t in zip(xs, tangents)]
            outs, t_outs = rule(xs[:n], ts)
            n_out = len(outs)
            nonzero[:] = [type(t) is not Zero for t in t_outs]
            return [*outs, *(t for t in t_outs if type(t) is not Zero)]

        own = dims[n_consts:]
        live = [(t, d) for t, d in zip(tangents, own) if type(t) is not Zero]
        vals, out_dims = vmap_flat(both, [*primals, *(t for t, _ in live)], [*own, *(d for _, d in live)], axis)
        vals = out.place(vals, out_dims)
        it = iter(vals[n_out:])
        return vals[:n_out], [next(it) if nz else Zero(v.aval.tangent()) for nz, v in zip(nonzero, vals)]

    if custom_call.nothing_mapped(fun, axis, dims):
        outs = custom_jvp_p.bind(*args, fun=fun, rule=rule, name=name, n_consts=n_consts)
        return outs, [None] * len(outs)
    out = OutDims("custom_jvp", name, axis, dims)
    batched = custom_call.batched(fun, args, dims, out)
    outs = custom_jvp_p.bind(*args, fun=batched, rule=over_axis, name=f"vmap_{name}", n_consts=n_consts)
    return outs, [out.dim] * len(outs)


def _abstract(*avals: ShapedArray, fun, rule, name: str, n_consts: int) -> tuple[ShapedArray, ...]:
    return custom_call.out_avals(fun, avals)


custom_jvp_p = Primitive(
    "custom_jvp",
    abstract=_abstract,
    reference=lambda *xs, fun, **_: custom_call.reference(fun, [aval_of(x) for x in xs], xs),
    cpu=Inline("fun", lambda xs, *, fun, name, **_: custom_call.run("custom_jvp", name, fun, xs), keeps_rules=True),
    cuda=NO_CUDA,
    jvp=_jvp,
    transpose=lambda cts, *args, fun, **_: custom_call.transposed(fun, cts, args),
    batch=OverAxis(_batch, holds_python=True),
    stage=lambda trace, args, params: custom_call.staged("custom_jvp", trace, args, params),
    multiple_results=True,
    own_weak=True,
)
