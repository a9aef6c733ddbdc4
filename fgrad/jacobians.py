"""Whole Jacobians: jacfwd, jacrev, jacobian, hessian.

A Jacobian is a linear map applied to each vector of the standard basis: columns by forward mode, rows by reverse mode.
Basis vector k is made from the number k where it is needed, and ``vmap`` runs over the numbers, so the identity is
never an argument; with ``chunk_size`` only that many of its rows exist at a time.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad import lax, tree
from fgrad.autodiff import _argnums, _Flat
from fgrad.core import dtypes
from fgrad.core.array import Array, ConcreteArray
from fgrad.core.aval import ShapedArray
from fgrad.core.primitive import Axis, Zero
from fgrad.higher_order.arguments import check_callable, function_name, lift_leaves
from fgrad.primitives.convert import convert
from fgrad.primitives.transpose import moveaxis
from fgrad.transforms.jvp import jvp_flat
from fgrad.transforms.linearize import linearize_flat
from fgrad.transforms.stage import stage
from fgrad.transforms.vmap import materialize, vmap_flat
from fgrad.transforms.zeros import instantiate


def jacfwd(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function that returns the Jacobian of ``fun``, computed column by column in forward mode.

    Formula: J[o, i] = ∂fun(x)[o] / ∂x[i] for every index o of a result [*out] and i of an argument [*in].

    It costs one tangent of ``fun`` for each element of the arguments, whatever the size of the result, and stores no
    intermediate values: the mode for more results than arguments.

    Args:
        fun: a function of pytrees of arrays that returns one.
        argnums: which positional arguments to differentiate (an int, or a sequence for a tuple of Jacobians).
        has_aux: ``fun`` returns (output, aux), and the result is (Jacobian, aux).
        chunk_size: how many columns to compute at a time; None: all.  The memory for intermediate values is that of
            ``chunk_size`` calls, the values that do not depend on the direction are computed again for each chunk,
            and ``fun`` is called once more for aux.

    Returns:
        A function of the same arguments.  Its result has the pytree of ``fun``'s result, in which each array [*out] is
        replaced by the argument's pytree of arrays [*out, *in] of the dtype of the result.

    Raises:
        TypeError: a differentiated argument or a result is integer, boolean or (arguments) complex.
        ValueError: chunk_size is below 1.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.jacfwd(lambda x: x**2)(fnp.array([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.jacfwd.html
    """
    check_callable("jacfwd", fun)
    return _jacfwd("jacfwd", fun, argnums, has_aux, _checked_chunk("jacfwd", chunk_size))


def jacrev(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function that returns the Jacobian of ``fun``, computed row by row in reverse mode.

    Formula: J[o, i] = ∂fun(x)[o] / ∂x[i] for every index o of a result [*out] and i of an argument [*in].

    ``fun`` runs once; then it costs one cotangent for each element of the results, whatever the size of the arguments:
    the mode for more arguments than results.

    Args:
        fun: a function of pytrees of arrays that returns one.
        argnums: which positional arguments to differentiate (an int, or a sequence for a tuple of Jacobians).
        has_aux: ``fun`` returns (output, aux), and the result is (Jacobian, aux).
        chunk_size: how many rows to compute at a time; None: all.  The memory of the backward pass is that of
            ``chunk_size`` gradients; nothing is computed twice.

    Returns:
        A function of the same arguments; the result is arranged as that of :func:`jacfwd`, in the dtype of the
        arguments.

    Raises:
        TypeError: a differentiated argument or a result is integer, boolean or complex.
        ValueError: chunk_size is below 1.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.jacrev(lambda x: fnp.sum(x**2))(fnp.array([1.0, 2.0])).tolist()
    [2.0, 4.0]

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.jacrev.html
    """
    check_callable("jacrev", fun)
    return _jacrev("jacrev", fun, argnums, has_aux, _checked_chunk("jacrev", chunk_size))


def jacobian(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """:func:`jacfwd` or :func:`jacrev`, whichever needs fewer passes; forward mode if they need equally many.

    Forward mode needs n passes for n elements in the differentiated arguments, reverse mode m for m elements in the
    results.  m is found by tracing ``fun`` once on shapes, so ``fun`` must not branch on values: call jacfwd or jacrev
    where it does.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.jacobian.html, which is always reverse mode.

    >>> import fgrad, fgrad.numpy as fnp
    >>> w = fnp.ones((2, 3))
    >>> fgrad.jacobian(lambda x: w @ x)(fnp.zeros(3)).tolist()  # 3 elements to 2: in reverse mode
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    check_callable("jacobian", fun)
    chunk = _checked_chunk("jacobian", chunk_size)

    @functools.wraps(fun)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        flat = _Flat("jacobian", fun, args, kwargs, _argnums("jacobian", fun, argnums, len(args)), has_aux)
        avals = [x.aval for x in _inputs("jacobian", flat)]
        closed = stage(flat, avals, name=f"jacobian of {function_name(fun)}", arg_names=flat.names)
        n, m = (sum(a.size for a in group) for group in (avals, closed.out_avals[: flat.n_out]))
        mode = _jacfwd if n <= m else _jacrev
        return mode("jacobian", fun, argnums, has_aux, chunk)(*args, **kwargs)

    return wrapped


def hessian(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function that returns the second derivatives of ``fun``: forward mode over reverse mode.

    Formula: H[o, i, j] = ∂²fun(x)[o] / ∂x[i] ∂x[j].

    Args:
        fun: a function of pytrees of arrays that returns one, usually a scalar.
        argnums: which positional arguments to differentiate (an int, or a sequence for all pairs of them).
        has_aux: ``fun`` returns (output, aux), and the result is (Hessian, aux).
        chunk_size: how many columns (and rows of the inner Jacobian) to compute at a time; None: all.

    Returns:
        A function of the same arguments.  Its result has the pytree of ``fun``'s result, in which each array [*out] is
        replaced by the argument's pytree of the argument's pytree of arrays [*out, *in_i, *in_j].

    Raises:
        TypeError: a differentiated argument or a result is integer, boolean or complex.
        ValueError: chunk_size is below 1.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.hessian(lambda x: x[0] * x[1] ** 2)(fnp.array([3.0, 1.0])).tolist()
    [[0.0, 2.0], [2.0, 6.0]]

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.hessian.html
    """
    check_callable("hessian", fun)
    chunk = _checked_chunk("hessian", chunk_size)
    return _jacfwd("hessian", _jacrev("hessian", fun, argnums, has_aux, chunk), argnums, has_aux, chunk)


# --- the two modes ---------------------------------------------------------------------------------------------------
def _jacfwd(who: str, fun: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool, chunk: int | None):
    @functools.wraps(fun)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        flat = _Flat(who, fun, args, kwargs, _argnums(who, fun, argnums, len(args)), has_aux)
        xs = _inputs(who, flat)
        avals = [x.aval for x in xs]
        name = f"{who} of {function_name(fun)}"
        aux: list[Any] = []

        def column(k: Any) -> list[Any]:
            outs, ts = jvp_flat(flat, xs, _basis_vector(k, avals), name=name, arg_names=flat.names)
            _check_results(who, fun, flat, outs, dtypes.is_inexact)
            aux[:] = outs[flat.n_out :]
            return [instantiate(t) for t in ts[: flat.n_out]]

        n = sum(a.size for a in avals)
        columns, chunked = _for_each(column, n, chunk)
        if chunked and has_aux:
            aux = flat(*xs)[flat.n_out :]  # those of the loop's body exist only there
        columns = [moveaxis(c, 0, c.ndim - 1) for c in columns]  # [*out, n]
        return _arrange(flat, [_split(c, c.ndim - 1, avals) for c in columns], argnums, aux)

    return wrapped


def _jacrev(who: str, fun: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool, chunk: int | None):
    @functools.wraps(fun)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        flat = _Flat(who, fun, args, kwargs, _argnums(who, fun, argnums, len(args)), has_aux)
        xs = _inputs(who, flat)
        name = f"{who} of {function_name(fun)}"
        outs, tape = linearize_flat(flat, xs, [True] * len(xs), name=name, arg_names=flat.names)
        _check_results(who, fun, flat, outs, dtypes.is_float)
        out_avals = [o.aval for o in outs[: flat.n_out]]
        no_aux = [Zero(o.aval.tangent()) for o in outs[flat.n_out :]]

        def row(k: Any) -> list[Any]:
            return [instantiate(c) for c in tape.transpose([*_basis_vector(k, out_avals), *no_aux])]

        stacked, _ = _for_each(row, sum(a.size for a in out_avals), chunk)  # [m, *in] for each argument
        pieces = [_split(s, 0, out_avals) for s in stacked]
        blocks = [[of_input[o] for of_input in pieces] for o in range(flat.n_out)]
        return _arrange(flat, blocks, argnums, outs[flat.n_out :])

    return wrapped


# --- basis vectors ---------------------------------------------------------------------------------------------------
def _basis_vector(k: Any, avals: Sequence[ShapedArray]) -> list[Array]:
    """Vector k of the standard basis of all the arrays' elements, in the order of the arrays."""
    starts = itertools.accumulate([a.size for a in avals], initial=0)
    out = []
    for a, start in zip(avals, starts):
        hit = lax.eq(lax.iota(dtypes.int32, a.size), lax.sub(k, start))
        out.append(lax.reshape(convert(hit, a.dtype, a.weak_type), a.shape))
    return out


def _for_each(f: Callable[[Any], list[Any]], n: int, chunk: int | None) -> tuple[list[Any], bool]:
    """(f(0), .., f(n - 1) stacked in front, whether that took more than one chunk)."""
    if n == 1:
        return [materialize(x, None, 1, 0) for x in f(ConcreteArray(np.zeros((), np.int32)))], False
    numbers = lax.iota(dtypes.int32, n)
    if chunk is None or chunk >= n:
        outs, dims = vmap_flat(f, [numbers], [0], Axis(None, n))
        return [materialize(o, d, n, 0) for o, d in zip(outs, dims)], False
    return lax.map(f, numbers, batch_size=chunk), True


def _split(x: Array, axis: int, avals: Sequence[ShapedArray]) -> list[Array]:
    """The blocks along ``axis``, which holds the elements of all avals: [.., n, ..] -> [.., *aval.shape, ..]."""
    ends = list(itertools.accumulate(a.size for a in avals))
    parts = [lax.slice_in_dim(x, end - a.size, end, axis=axis) for a, end in zip(avals, ends)]
    return [lax.reshape(p, (*x.shape[:axis], *a.shape, *x.shape[axis + 1 :])) for p, a in zip(parts, avals)]


def _arrange(flat: _Flat, blocks: list[list[Any]], argnums: int | Sequence[int], aux: Sequence[Any]) -> Any:
    """The result's pytree of the arguments' pytrees, from blocks[result][argument]."""
    trees = [flat.in_tree.unflatten(row) for row in blocks]
    jacobian = flat.out_tree.unflatten([t[0] if isinstance(argnums, int) else t for t in trees])
    return (jacobian, flat.aux_tree.unflatten(aux)) if flat.has_aux else jacobian


# --- checks ----------------------------------------------------------------------------------------------------------
def _checked_chunk(who: str, chunk_size: Any) -> int | None:
    if chunk_size is None or (isinstance(chunk_size, int) and chunk_size >= 1):
        return chunk_size
    error = ValueError if isinstance(chunk_size, int) else TypeError
    raise error(
        f"{who}: chunk_size must be an int of at least 1 or None, got {chunk_size!r}. Pass the number of vectors to "
        "push at a time."
    )


def _inputs(who: str, flat: _Flat) -> list[Array]:
    xs = lift_leaves(flat.leaves, who, flat.names)
    for i, a in enumerate([x.aval for x in xs]):
        if dtypes.is_float(a.dtype):
            continue
        remedy = (
            "Differentiate with respect to real and imaginary parts: there is no holomorphic mode"
            if a.dtype.kind == "c"
            else "Convert it with .astype(float), or leave it out of argnums"
        )
        raise TypeError(
            f"{who}: differentiated arguments must be real floating-point, got {a} for argument {flat.names()[i]}. "
            f"{remedy}."
        )
    return xs


def _check_results(who: str, fun: Any, flat: _Flat, outs: Sequence[Any], accepts: Callable[[np.dtype], bool]) -> None:
    results = outs[: flat.n_out]
    if all(accepts(o.dtype) for o in results):
        return
    paths = tree.tree_paths(flat.out_tree.unflatten(results))
    path, o = next((p, o) for p, o in zip(paths, results) if not accepts(o.dtype))
    remedy = (
        "Return real and imaginary parts" if o.dtype.kind == "c" else "Convert it, or return it as aux (has_aux=True)"
    )
    raise TypeError(
        f"{who}: results must be real floating-point, got {o.aval} from {function_name(fun)}"
        f"{f' at {path}' if path else ''}. {remedy}."
    )
