"""closure_convert: a function without the traced values in its closure, and those values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fgrad import tree
from fgrad.core.array import Array
from fgrad.core.jaxpr import eval_jaxpr
from fgrad.core.trace import Tracer
from fgrad.errors import TreeMismatchError
from fgrad.higher_order.arguments import (
    abstract_leaf,
    check_callable,
    flatten_output,
    function_name,
    leaf_aval,
    leaf_names,
)
from fgrad.transforms.stage import stage


def closure_convert(fun: Callable[..., Any], *example_args: Any) -> tuple[Callable[..., Any], list[Array]]:
    """``(converted, values)`` with ``converted(*args, *values) = fun(*args)``; the values are what ``fun`` closes over.

    A function with a custom derivative may not close over values that are being differentiated.  Where such a function
    takes a function as an argument, this makes the closed-over values arguments of their own.

    Args:
        fun: a function of pytrees of arrays; it is traced for arguments of the shapes and dtypes given.
        example_args: arrays or ShapeDtypeStructs.

    Returns:
        The converted function, for arguments of the same structure, shapes and dtypes, and the traced values; values
        that no transformation traces stay inside.

    Raises:
        TreeMismatchError: ``converted`` is called with another structure.
        TypeError: ``converted`` is called with another number, shape or dtype.

    >>> import fgrad, fgrad.numpy as fnp
    >>> def f(x, y):
    ...     converted, values = fgrad.closure_convert(lambda t: t * y, x)
    ...     return converted(x, *values) + len(values)
    >>> float(fgrad.grad(f, argnums=1)(2.0, 3.0))
    2.0

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.closure_convert.html.
    """
    check_callable("closure_convert", fun)
    leaves, in_tree = tree.tree_flatten(example_args)
    names = leaf_names(fun, example_args, {})
    avals = [abstract_leaf("closure_convert", x, lambda: names, i) for i, x in enumerate(leaves)]
    out_tree: Any = None

    def flat(*xs: Any) -> list[Any]:
        nonlocal out_tree
        out, out_tree = flatten_output(fun(*in_tree.unflatten(xs)), "closure_convert", fun)
        return out

    closed = stage(flat, avals, name=f"closure_convert of {function_name(fun)}", arg_names=lambda: names)
    jaxpr, consts = closed.jaxpr, closed.consts
    traced = [isinstance(c, Tracer) for c in consts]
    kept = [None if t else c for c, t in zip(consts, traced)]
    n_args = len(example_args)

    def converted(*args: Any) -> Any:
        if len(args) != n_args + sum(traced):
            raise TypeError(
                f"closure_convert: the converted function takes {n_args} arguments and {sum(traced)} closed-over "
                f"values, got {len(args)} of {function_name(fun)}. Pass (*args, *values)."
            )
        leaves, got = tree.tree_flatten(args[:n_args])
        if got != in_tree:
            raise TreeMismatchError(
                f"closure_convert: arguments must have the structure of the example's, got {tree.structure_text(got)} "
                f"for {tree.structure_text(in_tree)} of {function_name(fun)}. Convert it anew for these."
            )
        for i, (x, want) in enumerate(zip(leaves, avals)):
            aval = leaf_aval(x, "closure_convert", lambda: names, i)
            if not aval.same_type(want):
                raise TypeError(
                    f"closure_convert: arguments must have the shapes and dtypes of the example's, got {aval} for "
                    f"{want} in argument {names[i]}. Convert it anew for these."
                )
        values = iter(args[n_args:])
        full = [next(values) if t else c for c, t in zip(kept, traced)]
        return out_tree.unflatten(eval_jaxpr(jaxpr, full, *leaves))

    return converted, [c for c, t in zip(consts, traced) if t]
