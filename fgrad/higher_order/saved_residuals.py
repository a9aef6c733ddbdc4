"""Which values reverse mode stores between the forward and the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fgrad import tree
from fgrad.compiler.simplify import inline
from fgrad.core.aval import ShapedArray
from fgrad.core.dtypes import is_inexact
from fgrad.core.jaxpr import Eqn, Var
from fgrad.higher_order.arguments import abstract_leaf, check_callable, flatten_output, leaf_names
from fgrad.primitives.name import name_p
from fgrad.transforms.linearize import linearize_flat
from fgrad.transforms.stage import stage


def saved_residuals(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> list[tuple[ShapedArray, str]]:
    """The type of each value that differentiating ``fun`` stores for its backward pass, and where it comes from.

    Arguments come first, then constants, then what ``fun`` computes, in its order.  Constants that ``fun`` itself makes
    (a scalar, a broadcast of one) are left out.

    Args:
        fun: a function of pytrees of arrays.
        args: arrays or ShapeDtypeStructs; nothing is computed with them.
        kwargs: the same.

    >>> import fgrad, fgrad.numpy as fnp
    >>> [origin for _, origin in saved_residuals(lambda x: x * x, 3.0)]
    ["from argument 'x' of <lambda>"]

    Source: ``jax.ad_checkpoint.print_saved_residuals``, https://docs.jax.dev/en/latest/gradient-checkpointing.html.
    """
    check_callable("saved_residuals", fun)
    leaves, in_tree = tree.tree_flatten((args, kwargs))
    names = leaf_names(fun, args, kwargs)
    avals = [abstract_leaf("saved_residuals", x, lambda: names, i) for i, x in enumerate(leaves)]

    def flat(*xs: Any) -> list[Any]:
        a, kw = in_tree.unflatten(xs)
        return flatten_output(fun(*a, **kw), "saved_residuals", fun)[0]

    def residuals(*xs: Any) -> list[Any]:
        _, tape = linearize_flat(flat, xs, [is_inexact(a.dtype) for a in avals], name="saved_residuals")
        live = {id(o) for o in tape.outputs}
        read: dict[int, Any] = {}
        for entry in reversed(tape.trace.entries):
            if live.isdisjoint(map(id, entry.outs)):
                continue
            for a in entry.args:
                if tape.trace.owns(a):
                    live.add(id(a))
                else:
                    read[id(a)] = a
        return list(read.values())

    closed = inline(stage(residuals, avals, name="saved_residuals", arg_names=lambda: names))
    jaxpr = closed.jaxpr
    origin = {v: f"from argument {n}" for v, n in zip(jaxpr.invars, names)}  # of each value, in the order of the report
    origin.update((v, "from a constant") for v in jaxpr.constvars)
    for eqn in jaxpr.eqns:
        if any(v in origin for v in eqn.invars):
            origin.update((v, _made_by(eqn)) for v in eqn.outvars)
    stored = {v for v in jaxpr.outvars if isinstance(v, Var)}
    return [(v.aval, text) for v, text in origin.items() if v in stored]


def _made_by(eqn: Eqn) -> str:
    where = f" at {eqn.source}" if eqn.source is not None else ""
    if eqn.primitive is name_p:
        return f"named '{eqn.params['name']}'{where}"
    return f"output of {eqn.primitive.name}{where}"


def print_saved_residuals(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Prints what :func:`saved_residuals` returns, a line for each value.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.ad_checkpoint.print_saved_residuals.html.

    >>> import fgrad, fgrad.numpy as fnp
    >>> print_saved_residuals(lambda x, y: x * y, fnp.ones(3), fnp.ones(3))
    f32[3] from argument 'x' of <lambda>
    f32[3] from argument 'y' of <lambda>
    """
    for aval, origin in saved_residuals(fun, *args, **kwargs):
        print(f"{aval} {origin}")
