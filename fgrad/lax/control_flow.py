"""Loops: scan, map, fori_loop, while_loop.

The functions they are given are traced once, into jaxprs that a primitive holds; a compiled program runs them in its
driver.  What a body closes over is an operand too, so derivatives with respect to it are found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad import tree
from fgrad.core import dtypes
from fgrad.core.array import Array, ConcreteArray, lift
from fgrad.core.aval import ShapedArray
from fgrad.core.jaxpr import ClosedJaxpr, eval_jaxpr
from fgrad.core.primitive import Axis
from fgrad.core.static import flag, static_int
from fgrad.core.trace import Tracer
from fgrad.higher_order.arguments import check_callable, function_name, is_arraylike
from fgrad.higher_order.bodies import (
    Body,
    check_carry,
    operand_leaves,
    settle,
    some,
    trace_body,
)
from fgrad.higher_order.jit_primitive import batch_jaxpr, bind_closed, cached_on
from fgrad.higher_order.unroll import bind_unrolled
from fgrad.higher_order.while_loop import bind_while
from fgrad.lax.common import ArrayLike
from fgrad.primitives.arithmetic import add_p
from fgrad.primitives.compare import lt_p
from fgrad.primitives.concatenate import concatenate_p
from fgrad.primitives.convert import convert
from fgrad.primitives.padding import slice_p
from fgrad.primitives.reshape import reshape_p
from fgrad.transforms.stage import stage


# --- scan ------------------------------------------------------------------------------------------------------------
def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    """Runs ``f`` over the leading axis of ``xs``, carrying a value along.

    Formula: carry = init; for t in 0 .. T-1: carry, ys[t] = f(carry, xs[t]); the result is (carry, ys).

    Args:
        f: (carry, x) -> (carry, y), of pytrees; the carry keeps its structure, shapes and dtypes.  It is traced once.
        init: the first carry.  Python scalars in it take the dtype that ``f`` gives them.
        xs: pytree of arrays [T, ..], or None (then x is None).
        length: T; needed only without ``xs``.
        reverse: runs from t = T-1 down to 0; ys[t] still belongs to xs[t].
        unroll: this many steps make one round of the loop; True makes all of them one.

    Returns:
        (the last carry, ys: pytree of arrays [T, ..]).

    Reverse mode stores for each step what the derivative reads and is not at hand anyway: nothing that is the same in
    each step, no element of ``xs``, no broadcast.

    Raises:
        TypeError: ``f`` returns no pair, or the carry changes its dtypes or shapes; an argument is no array.
        TreeMismatchError: the carry changes its structure.
        ValueError: leading axes differ from each other or from ``length``, or there is neither ``xs`` nor ``length``.

    >>> import fgrad.numpy as fnp
    >>> from fgrad import lax
    >>> total, sums = lax.scan(lambda c, x: (c + x, c + x), 0.0, fnp.arange(1.0, 5.0))
    >>> float(total), sums.tolist()
    (10.0, [1.0, 3.0, 6.0, 10.0])

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.lax.scan.html.
    """
    check_callable("scan", f)
    carry, x_leaves = operand_leaves("scan", "init", init), operand_leaves("scan", "xs", xs)
    n = _scan_length("scan", xs, x_leaves, length)
    x_avals = [x.aval.update(shape=x.shape[1:]) for x in x_leaves]
    pair: list[Any] = []

    def check(out: Any) -> None:
        if not (isinstance(out, (tuple, list)) and len(out) == 2):
            of = f" of {len(out)} values" if isinstance(out, (tuple, list)) else ""
            got = out.aval if isinstance(out, Array) else f"{type(out).__name__}{of}"
            raise TypeError(
                f"scan: the body must return a pair (carry, y), got {got} from {function_name(f)}. "
                "Return two values; y may be None."
            )

    def trace(avals: list[ShapedArray]) -> tuple[Body, Sequence[ShapedArray]]:
        body = trace_body("scan", f, (init, xs), [*avals, *x_avals], check)
        pair[:] = body.out_tree.children()
        return body, body.out_avals[: pair[0].num_leaves]

    body, carry = settle(carry, trace)
    check_carry("scan", "init", init, f, carry, pair[0], body.out_avals[: pair[0].num_leaves])
    rounds = _unroll("scan", unroll, n)
    out, ys = bind_unrolled(body.closed, body.consts, carry, x_leaves, n, flag("scan", "reverse", reverse), rounds)
    return pair[0].unflatten(out), pair[1].unflatten(ys)


def _scan_length(who: str, xs: Any, leaves: Sequence[Array], length: int | None) -> int:
    """The common leading size of the leaves, which ``length`` may repeat."""
    paths = [f"xs{path}" for path in tree.tree_paths(xs)]
    for x, path in zip(leaves, paths):
        if x.ndim == 0:
            raise ValueError(
                f"{who}: every array of xs needs a leading axis to run over, got a scalar {x.aval} for {path}. "
                "Close over a value that is the same in each step."
            )
    sizes: dict[int, list[str]] = {}
    for x, path in zip(leaves, paths):
        sizes.setdefault(x.shape[0], []).append(f"{path} (shape {x.shape})")
    if len(sizes) > 1:
        got = " and ".join(f"{n} for {some(names)}" for n, names in sizes.items())
        raise ValueError(f"{who}: all arrays of xs must have one leading size, got {got}. Slice them to one length.")
    if length is None:
        if not sizes:
            raise ValueError(f"{who}: the number of steps must be given, got neither xs nor length. Pass length=....")
        return next(iter(sizes))
    n = static_int(who, "length must be an integer", length)
    if n < 0:
        raise ValueError(f"{who}: length must not be negative, got {n}. Pass at least 0.")
    if sizes and n not in sizes:
        (size, names), *_ = sizes.items()
        raise ValueError(
            f"{who}: length must be the leading size of xs, got length={n} and {size} for {some(names)}. Leave length "
            "out, or slice xs."
        )
    return n


def _unroll(who: str, unroll: int | bool | None, length: int) -> int:
    """Steps to a round."""
    if isinstance(unroll, bool):
        return max(length, 1) if unroll else 1
    k = 1 if unroll is None else static_int(who, "unroll must be an integer", unroll)
    if k < 1:
        raise ValueError(f"{who}: unroll must be at least 1, got {k}. Use 1 for a plain loop, or True.")
    return min(k, max(length, 1))


# --- map -------------------------------------------------------------------------------------------------------------
def map(f: Callable[[Any], Any], xs: Any, *, batch_size: int | None = None) -> Any:
    """Applies ``f`` to each element along the leading axis, one after another: ys[t] = f(xs[t]).

    Like vmap in meaning, like scan in memory: only one element's temporaries exist at a time (``batch_size`` of them,
    if it is given: each round is then a vmap over so many elements, and what remains is a smaller one).

    Args:
        f: a function of a pytree, traced once.
        xs: pytree of arrays [T, ..].
        batch_size: elements to a round.

    Returns:
        Pytree of arrays [T, ..].

    Raises:
        ValueError: leading axes differ, ``xs`` has no arrays, or ``batch_size`` is less than 1.

    >>> import fgrad.numpy as fnp
    >>> from fgrad import lax
    >>> lax.map(lambda x: x * x, fnp.arange(3.0)).tolist()
    [0.0, 1.0, 4.0]

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.lax.map.html.
    """
    check_callable("map", f)
    leaves = operand_leaves("map", "xs", xs)
    if not leaves:
        raise ValueError("map: xs must hold an array to map over, got none. Use scan with length=... instead.")
    n = _scan_length("map", xs, leaves, None)
    body = trace_body("map", f, (xs,), [x.aval.update(shape=x.shape[1:]) for x in leaves])
    if batch_size is None:
        _, ys = bind_unrolled(body.closed, body.consts, [], leaves, n, False, 1)
        return body.out_tree.unflatten(ys)
    size = static_int("map", "batch_size must be an integer", batch_size)
    if size < 1:
        raise ValueError(f"map: batch_size must be at least 1, got {size}. Leave it out for one element at a time.")
    rounds, rest = divmod(n, size)
    dims = (*(None for _ in body.consts), *(0 for _ in leaves))
    pieces = []
    if rounds:
        several, _ = batch_jaxpr(body.closed, Axis(None, size), dims, True)
        blocks = [reshape_p.bind(_rows(x, 0, n - rest), new_sizes=(rounds, size, *x.shape[1:])) for x in leaves]
        _, ys = bind_unrolled(several, body.consts, [], blocks, rounds, False, 1)
        pieces.append([reshape_p.bind(y, new_sizes=(n - rest, *y.shape[2:])) for y in ys])
    if rest or not rounds:
        few, _ = batch_jaxpr(body.closed, Axis(None, rest), dims, True)
        pieces.append(bind_closed(few, [*body.consts, *(_rows(x, n - rest, n) for x in leaves)], "map"))
    return body.out_tree.unflatten([p[0] if len(p) == 1 else concatenate_p.bind(*p, dimension=0) for p in zip(*pieces)])


def _rows(x: Array, start: int, stop: int) -> Array:
    if (start, stop) == (0, x.shape[0]):
        return x
    low, high = (start, *(0 for _ in x.shape[1:])), (stop, *x.shape[1:])
    return slice_p.bind(x, start_indices=low, limit_indices=high, strides=(1,) * x.ndim)


# --- while_loop and fori_loop ----------------------------------------------------------------------------------------
def while_loop(cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any) -> Any:
    """Repeats ``body_fun`` while ``cond_fun`` holds.

    Formula: val = init_val; while cond_fun(val): val = body_fun(val); the result is val.

    Under vmap it runs until the last element is done; finished elements stay as they are.  Forward mode (jvp, jacfwd)
    and linearize work.  Reverse mode does not, as the number of steps to store is not known beforehand.

    Args:
        cond_fun: value -> bool scalar.
        body_fun: value -> value of the same structure, shapes and dtypes.
        init_val: pytree of arrays.  Python scalars in it take the dtype that ``body_fun`` gives them.

    Returns:
        The last value.

    Raises:
        TypeError: ``cond_fun`` returns no bool scalar, or ``body_fun`` changes dtypes or shapes.
        TreeMismatchError: ``body_fun`` changes the structure.
        ValueError: from grad or vjp through the loop.  Use scan or fori_loop with static bounds, or custom_vjp.

    >>> from fgrad import lax
    >>> int(lax.while_loop(lambda n: n < 100, lambda n: 2 * n, 3))
    192

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.lax.while_loop.html.
    """
    check_callable("while_loop", cond_fun)
    check_callable("while_loop", body_fun)
    carry = operand_leaves("while_loop", "init_val", init_val)

    def trace(avals: list[ShapedArray]) -> tuple[Body, Sequence[ShapedArray]]:
        body = trace_body("while_loop", body_fun, (init_val,), avals)
        return body, body.out_avals

    body, carry = settle(carry, trace)
    check_carry("while_loop", "init_val", init_val, body_fun, carry, body.out_tree, body.out_avals)
    cond = trace_body("while_loop", cond_fun, (init_val,), [c.aval for c in carry])
    if cond.out_tree.num_nodes != 1 or cond.out_tree.num_leaves != 1:
        raise TypeError(
            f"while_loop: cond_fun must return a bool scalar, got {tree.structure_text(cond.out_tree)} from "
            f"{function_name(cond_fun)}. Return one comparison."
        )
    if not cond.out_avals[0].same_type(_BOOL):
        raise TypeError(
            f"while_loop: cond_fun must return a bool scalar, got {cond.out_avals[0]} from {function_name(cond_fun)}. "
            "Compare the value with something, and reduce an array with .any() or .all()."
        )
    return body.out_tree.unflatten(bind_while(cond.closed, cond.consts, body.closed, body.consts, carry))


_BOOL = ShapedArray((), dtypes.bool_)


def fori_loop(
    lower: ArrayLike,
    upper: ArrayLike,
    body_fun: Callable[[Any, Any], Any],
    init_val: Any,
    *,
    unroll: int | bool | None = None,
) -> Any:
    """A loop over integers.

    Formula: val = init_val; for i in range(lower, upper): val = body_fun(i, val); the result is val.

    With bounds whose values are known (Python ints, arrays outside of jit) it is a scan, and reverse mode works.
    With traced bounds it is a while_loop, and reverse mode does not.

    Args:
        lower: integer scalar.
        upper: integer scalar of the same dtype (Python ints take the other's).
        body_fun: (i, value) -> value of the same structure, shapes and dtypes.
        init_val: pytree of arrays.  Python scalars in it take the dtype that ``body_fun`` gives them.
        unroll: as in scan; for known bounds only.

    Returns:
        The last value.

    Raises:
        TypeError: bounds are no integer scalars of one dtype, or ``body_fun`` changes dtypes or shapes.
        TreeMismatchError: ``body_fun`` changes the structure.
        ValueError: ``unroll`` is given for traced bounds.

    >>> from fgrad import lax
    >>> int(lax.fori_loop(1, 6, lambda i, product: i * product, 1))
    120

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.lax.fori_loop.html.
    """
    check_callable("fori_loop", body_fun)
    start, stop = _bounds(lower, upper)
    carry = operand_leaves("fori_loop", "init_val", init_val)

    def trace(avals: list[ShapedArray]) -> tuple[Body, Sequence[ShapedArray]]:
        body = trace_body("fori_loop", body_fun, (lower, init_val), [start.aval, *avals])
        return body, body.out_avals

    body, carry = settle(carry, trace)
    check_carry("fori_loop", "init_val", init_val, body_fun, carry, body.out_tree, body.out_avals)
    low, high = _known(start), _known(stop)
    n_consts = len(body.consts)
    if low is not None and high is not None:
        n = max(high - low, 0)
        step = cached_on(body.closed, ("next", n_consts), lambda: _next(body.closed, n_consts))
        k = _unroll("fori_loop", unroll, n)
        out, _ = bind_unrolled(step, body.consts, [start, *carry], [], n, False, k)
        return body.out_tree.unflatten(out[1:])
    if unroll is not None and not (isinstance(unroll, int) and unroll in (False, 1)):
        raise ValueError(
            f"fori_loop: unroll needs bounds whose values are known, got unroll={unroll} for bounds {start.aval} and "
            f"{stop.aval} that are traced. Leave unroll out, or make the bounds static."
        )
    cond, step = cached_on(body.closed, ("counting", n_consts), lambda: _counting(body.closed, n_consts))
    return body.out_tree.unflatten(bind_while(cond, (), step, body.consts, [start, stop, *carry])[2:])


def _bounds(lower: ArrayLike, upper: ArrayLike) -> tuple[Array, Array]:
    """Integer scalars of one dtype."""
    for what, x in (("lower", lower), ("upper", upper)):
        aval = lift(x, "fori_loop").aval if is_arraylike(x) else None
        if aval is None or aval.shape or not dtypes.is_integer(aval.dtype):
            got = f"{x!r} of type {type(x).__name__}" if aval is None else aval
            raise TypeError(f"fori_loop: {what} must be an integer scalar, got {got}. Convert it with int or .astype.")
    start, stop = lift(lower), lift(upper)
    dtype, _ = dtypes.promote((start.dtype, start.weak_type), (stop.dtype, stop.weak_type))
    for x, other in ((start, stop), (stop, start)):
        if not x.weak_type and x.dtype != dtype:
            raise TypeError(
                f"fori_loop: lower and upper must have one dtype, got {start.dtype} and {stop.dtype}. "
                f"Convert one with .astype({other.dtype})."
            )
    return convert(start, dtype, start.weak_type), convert(stop, dtype, stop.weak_type)


def _known(x: Array) -> int | None:
    value: Any = x.concrete() if isinstance(x, Tracer) else x
    return None if value is None else int(value)


def _next(closed: ClosedJaxpr, n_consts: int) -> ClosedJaxpr:
    """(consts, i, carry) -> carry as a body that counts: (consts | i, carry) -> (i + 1, carry)."""
    i = closed.in_avals[n_consts]
    one = ConcreteArray(np.ones((), i.dtype), i.weak_type)

    def step(*args: Any) -> list[Any]:
        return [add_p.bind(args[n_consts], one), *eval_jaxpr(closed.jaxpr, (), *args)]

    return stage(step, closed.in_avals, name="fori_loop")


def _counting(closed: ClosedJaxpr, n_consts: int) -> tuple[ClosedJaxpr, ClosedJaxpr]:
    """The condition i < stop and the body (consts | i, stop, carry) -> (i + 1, stop, carry)."""
    consts, (i, *carry) = closed.in_avals[:n_consts], closed.in_avals[n_consts:]
    following = _next(closed, n_consts)

    def step(*args: Any) -> list[Any]:
        c, (i, stop, *k) = args[:n_consts], args[n_consts:]
        i, *k = eval_jaxpr(following.jaxpr, following.consts, *c, i, *k)
        return [i, stop, *k]

    cond = stage(lambda i, stop, *_: [lt_p.bind(i, stop)], [i, i, *carry], name="fori_loop")
    return cond, stage(step, [*consts, i, i, *carry], name="fori_loop")
