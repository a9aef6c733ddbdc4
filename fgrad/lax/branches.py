"""Branches: cond and switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad import tree
from fgrad.core import dtypes
from fgrad.core.array import ConcreteArray, lift
from fgrad.errors import TreeMismatchError
from fgrad.higher_order.arguments import check_callable, is_arraylike
from fgrad.higher_order.bodies import Body, difference, operand_leaves, some, trace_body
from fgrad.higher_order.cond import bind_cond, with_all_consts
from fgrad.higher_order.jit_primitive import cached_on
from fgrad.lax.common import ArrayLike
from fgrad.primitives.arithmetic import max_p, min_p
from fgrad.primitives.compare import ne_p
from fgrad.primitives.convert import convert


def cond(pred: ArrayLike, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> Any:
    """``true_fun(*operands)`` if ``pred`` holds, else ``false_fun(*operands)``; only that one is computed.

    Both functions are traced, so both must be valid for the operands.  Under vmap over ``pred`` both are computed for
    every element, and the results chosen.

    Args:
        pred: bool scalar (a number counts as its being other than 0).
        true_fun: a function of the operands.
        false_fun: a function of the operands, whose result has the same structure, shapes and dtypes.
        operands: pytrees of arrays.

    Returns:
        The result of the chosen function.

    Raises:
        TypeError: ``pred`` is no scalar, or the results have other shapes or dtypes.
        TreeMismatchError: the results have other structures.

    >>> import fgrad
    >>> from fgrad import lax
    >>> half_or_more = lambda n: lax.cond(n % 2 == 0, lambda n: n // 2, lambda n: 3 * n + 1, n)
    >>> int(half_or_more(6)), int(fgrad.jit(half_or_more)(7))
    (3, 22)

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.lax.cond.html.
    """
    check_callable("cond", true_fun)
    check_callable("cond", false_fun)
    aval = lift(pred, "cond").aval if is_arraylike(pred) else None
    if aval is None or aval.shape or aval.dtype.kind == "c":
        got = f"{pred!r} of type {type(pred).__name__}" if aval is None else aval
        raise TypeError(
            f"cond: pred must be a bool scalar, got {got}. Reduce an array with .any() or .all(), or use "
            "fgrad.numpy.where to choose element by element."
        )
    chosen = lift(pred)
    if chosen.dtype != dtypes.bool_:
        chosen = ne_p.bind(chosen, ConcreteArray(np.zeros((), chosen.dtype)))
    index = convert(chosen, dtypes.int32)
    return _choose("cond", index, [false_fun, true_fun], ["false_fun", "true_fun"], operands)


def switch(index: ArrayLike, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """``branches[index](*operands)``; an index out of range takes the nearest branch; only that one is computed.

    Args:
        index: integer scalar.
        branches: functions of the operands, with results of the same structure, shapes and dtypes; all are traced.
        operands: pytrees of arrays.

    Returns:
        The result of the chosen function.

    Raises:
        TypeError: ``index`` is no integer scalar, ``branches`` no sequence of functions, or the results have other
            shapes or dtypes.
        TreeMismatchError: the results have other structures.
        ValueError: there are no branches.

    >>> from fgrad import lax
    >>> [float(lax.switch(i, [lambda x: x, lambda x: -x, lambda x: x * x], 3.0)) for i in (0, 1, 2, 9)]
    [3.0, -3.0, 9.0, 9.0]

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.lax.switch.html.
    """
    if not isinstance(branches, Sequence):
        raise TypeError(
            f"switch: branches must be a sequence of functions, got {branches!r} of type {type(branches).__name__}. "
            "Pass a list or tuple of them."
        )
    for b in branches:
        check_callable("switch", b)
    if not branches:
        raise ValueError("switch: at least one branch is needed, got none. Give the functions to choose from.")
    aval = lift(index, "switch").aval if is_arraylike(index) else None
    if aval is None or aval.shape or not dtypes.is_integer(aval.dtype):
        got = f"{index!r} of type {type(index).__name__}" if aval is None else aval
        raise TypeError(f"switch: index must be an integer scalar, got {got}. Convert it with .astype(int).")
    if len(branches) == 1:
        return branches[0](*operands)
    i = lift(index)
    if i.dtype.itemsize < 4:  # might not hold the number of branches
        i = convert(i, dtypes.int32)
    last, first = (ConcreteArray(np.asarray(n, i.dtype)) for n in (len(branches) - 1, 0))
    i = convert(max_p.bind(min_p.bind(i, last), first), dtypes.int32)
    return _choose("switch", i, branches, [f"branches[{k}]" for k in range(len(branches))], operands)


def _choose(
    who: str, index: Any, functions: Sequence[Callable[..., Any]], names: Sequence[str], operands: tuple[Any, ...]
) -> Any:
    leaves = [x for k, o in enumerate(operands) for x in operand_leaves(who, f"operands[{k}]", o)]
    bodies = [trace_body(who, f, operands, [x.aval for x in leaves]) for f in functions]
    # errors speak of the first function as the user lists them
    order = [1, 0] if who == "cond" else list(range(len(functions)))
    first = order[0]
    for k in order[1:]:
        _check_results(who, bodies[first], names[first], bodies[k], names[k])
    n_consts = [len(b.consts) for b in bodies]
    closed = cached_on(
        bodies[0].closed,
        ("branches", tuple(b.closed for b in bodies[1:]), tuple(n_consts)),
        lambda: with_all_consts([b.closed for b in bodies], n_consts),
    )
    consts = [c for b in bodies for c in b.consts]
    return bodies[first].out_tree.unflatten(bind_cond(index, closed, [*consts, *leaves]))


def _check_results(who: str, a: Body, a_name: str, b: Body, b_name: str) -> None:
    if a.out_tree != b.out_tree:
        trees = [body.out_tree.unflatten([0] * body.out_tree.num_leaves) for body in (a, b)]
        raise TreeMismatchError(
            f"{who}: all branches must return the same structure, got {tree.structure_text(a.out_tree)} from {a_name} "
            f"and {tree.structure_text(b.out_tree)} from {b_name} ({tree.first_difference(*trees)}). Return the same "
            "parts from each."
        )
    paths = tree.tree_paths(a.out_tree.unflatten([0] * a.out_tree.num_leaves))
    wrong = [
        f"{x} from {a_name} and {y} from {b_name}{f' at {path}' if path else ''} ({difference(x, y)})"
        for x, y, path in zip(a.out_avals, b.out_avals, paths)
        if not x.same_type(y)
    ]
    if wrong:
        raise TypeError(
            f"{who}: all branches must return the same types, got {some(wrong)}. Convert or reshape one of them."
        )
