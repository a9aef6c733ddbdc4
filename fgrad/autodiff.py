"""Differentiation as users call it: grad, value_and_grad, vjp, jvp, linearize, linear_transpose.

Checks and pytrees are here, the algebra is in fgrad.transforms.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad import tree
from fgrad.core import dtypes
from fgrad.core.array import Array, ConcreteArray, aval_of, lift
from fgrad.core.aval import ShapedArray
from fgrad.core.primitive import Zero
from fgrad.core.static import flag, items
from fgrad.errors import TreeMismatchError
from fgrad.higher_order.arguments import (
    abstract_leaf,
    check_callable,
    flatten_output,
    function_name,
    is_arraylike,
    leaf_aval,
    leaf_names,
    lift_leaves,
)
from fgrad.primitives.convert import convert
from fgrad.transforms.jvp import jvp_flat
from fgrad.transforms.linearize import linear_tape, linearize_flat
from fgrad.transforms.zeros import instantiate


# --- helpers ---------------------------------------------------------------------------------------------------------
def _argnums(who: str, fun: Any, argnums: int | Sequence[int], n: int) -> tuple[int, ...]:
    if type(argnums) is int and 0 <= argnums < n:
        return (argnums,)
    several = items(argnums)
    given = (argnums,) if several is None else several
    for i in given:
        if not isinstance(i, int):
            raise TypeError(
                f"{who}: argnums must be an int or a sequence of ints, got {argnums!r}. Count the positional arguments "
                "from 0."
            )
        if not -n <= i < n:
            raise ValueError(
                f"{who}: argnums must name positional arguments of the call, got {argnums} for {function_name(fun)} "
                f"called with {n} of them. {f'Use indices below {n}' if n else 'Pass the argument by position'}."
            )
    nums = tuple(i % n for i in given)
    if len(set(nums)) != len(nums):
        raise ValueError(
            f"{who}: argnums must be distinct, got {argnums} ({nums} counted from 0). Name each argument once."
        )
    return nums


def _float0_zeros(aval: ShapedArray) -> np.ndarray:
    return np.zeros(aval.shape, dtypes.float0)


def _out(c: Any, primal: ShapedArray) -> Any:
    """A cotangent for the user: float0 for integers, an array of zeros for a symbolic zero."""
    return instantiate(c) if dtypes.is_inexact(primal.dtype) else _float0_zeros(primal)


class _Flat:
    """``fun`` with some positional arguments as flat leaves; remembers the structure of its result."""

    def __init__(self, who: str, fun: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], nums, has_aux):
        self.who, self.fun, self.args, self.kwargs = who, fun, list(args), kwargs
        self.nums, self.has_aux = nums, flag(who, "has_aux", has_aux)
        self.leaves, self.in_tree = tree.tree_flatten(tuple(args[i] for i in nums))
        self.out_tree: Any = None
        self.aux_tree: Any = None
        self.n_out = 0

    def names(self) -> list[str]:
        every = leaf_names(self.fun, self.args, {})
        counts = [len(tree.tree_leaves(a)) for a in self.args]
        starts = [sum(counts[:i]) for i in range(len(counts))]
        return [every[starts[i] + k] for i in self.nums for k in range(counts[i])]

    def __call__(self, *leaves: Any) -> list[Any]:
        args = list(self.args)
        for i, value in zip(self.nums, self.in_tree.unflatten(leaves)):
            args[i] = value
        out = self.fun(*args, **self.kwargs)
        if self.has_aux:
            if not (isinstance(out, (tuple, list)) and len(out) == 2):
                got = out.aval if isinstance(out, Array) else type(out).__name__
                raise TypeError(
                    f"{self.who}: with has_aux=True {function_name(self.fun)} must return a pair (output, aux), "
                    f"got {got}. Return two values, or drop has_aux."
                )
            out, aux = out
            flat_aux, self.aux_tree = flatten_output(aux, self.who, self.fun)
        flat, self.out_tree = flatten_output(out, self.who, self.fun)
        self.n_out = len(flat)
        return [*flat, *flat_aux] if self.has_aux else flat


# --- reverse mode ----------------------------------------------------------------------------------------------------
def value_and_grad(
    fun: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns ``(fun(*args), gradient)``.

    Formula: for scalar f and argument x of shape [..], the gradient has x's pytree, shapes and dtypes, with
    g[i] = ∂f/∂x[i].

    Args:
        fun: returns a real scalar; with ``has_aux`` a pair (scalar, anything).
        argnums: which positional arguments to differentiate (an int, or a sequence for a tuple of gradients).
        has_aux: the result is then ``((value, aux), gradient)``.

    Raises:
        TypeError: the result is no real floating-point scalar, or a differentiated argument is an integer.

    >>> import fgrad, fgrad.numpy as fnp
    >>> value, g = fgrad.value_and_grad(lambda x: fnp.sum(x * x))(fnp.arange(3.0))
    >>> float(value), g.tolist()
    (5.0, [0.0, 2.0, 4.0])

    Source: reverse mode as linearize + transpose, Radul et al., https://arxiv.org/abs/2204.10923.
    """
    check_callable("value_and_grad", fun)
    return _value_and_grad("value_and_grad", fun, argnums, has_aux)


def _value_and_grad(who: str, fun: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool):
    @functools.wraps(fun)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nums = _argnums(who, fun, argnums, len(args))
        flat = _Flat(who, fun, args, kwargs, nums, has_aux)
        for i, x in enumerate(flat.leaves):
            aval = leaf_aval(x, who, flat.names, i)
            if not dtypes.is_float(aval.dtype):
                raise TypeError(
                    f"{who}: differentiated arguments must be real floating-point, got {aval} for argument "
                    f"{flat.names()[i]}. Convert it with .astype(float), or leave it out of argnums."
                )
        primals = [lift(x) for x in flat.leaves]
        outs, tape = linearize_flat(
            flat, primals, [True] * len(primals), name=f"{who} of {function_name(fun)}", arg_names=flat.names
        )
        _check_scalar(who, fun, flat, outs)
        ans = outs[0]
        cts = [_one(ans.dtype), *(Zero(o.aval.tangent()) for o in outs[1:])]
        grads = flat.in_tree.unflatten([instantiate(c) for c in tape.transpose(cts, last=True)])
        grads = grads[0] if isinstance(argnums, int) else grads
        if has_aux:
            return (ans, flat.aux_tree.unflatten(outs[1:])), grads
        return ans, grads

    return wrapped


@functools.lru_cache
def _one(dtype: np.dtype) -> ConcreteArray:
    return ConcreteArray(np.ones((), dtype))


def _check_scalar(who: str, fun: Callable[..., Any], flat: _Flat, outs: Sequence[Any]) -> None:
    if flat.n_out != 1 or flat.out_tree.num_nodes != 1:
        raise TypeError(
            f"{who}: the function must return a scalar, got {tree.structure_text(flat.out_tree)} from "
            f"{function_name(fun)}. Return one scalar, pass has_aux=True for (scalar, aux), or use vjp."
        )
    aval = outs[0].aval
    if aval.shape != ():
        raise TypeError(
            f"{who}: the function must return a scalar, got {aval} from {function_name(fun)}. "
            "Sum or average the result, or use vjp."
        )
    if not dtypes.is_float(aval.dtype):
        raise TypeError(
            f"{who}: the function must return a real floating-point scalar, got {aval} from {function_name(fun)}. "
            "Convert the result with .astype(float), or use vjp."
        )


def grad(fun: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of ``fun``; with ``has_aux``, ``(gradient, aux)``.

    See :func:`value_and_grad` for the meaning of the arguments and the errors.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.grad.html.

    >>> import fgrad, fgrad.numpy as fnp
    >>> float(fgrad.grad(fgrad.grad(lambda x: x**3))(2.0))
    12.0
    """
    check_callable("grad", fun)
    both = _value_and_grad("grad", fun, argnums, has_aux)

    @functools.wraps(fun)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, grads = both(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return wrapped


def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """``(fun(*primals), vjp_fun)`` where ``vjp_fun(ct)`` gives a tuple of cotangents, one for each primal.

    Formula: vjp_fun(ct) = ctᵀ J with J = ∂fun/∂primals.  ``ct`` has the result's pytree, shapes and dtypes.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.vjp.html.

    >>> import fgrad, fgrad.numpy as fnp
    >>> y, pull = fgrad.vjp(lambda x: x * x, fnp.arange(3.0))
    >>> pull(fnp.ones(3))[0].tolist()
    [0.0, 2.0, 4.0]
    """
    check_callable("vjp", fun)
    flat = _Flat("vjp", fun, primals, {}, tuple(range(len(primals))), has_aux)
    xs = lift_leaves(flat.leaves, "vjp", flat.names)
    mask = [dtypes.is_inexact(x.dtype) for x in xs]
    outs, tape = linearize_flat(flat, xs, mask, name=f"vjp of {function_name(fun)}", arg_names=flat.names)
    n = flat.n_out
    out_avals = [o.aval for o in outs[:n]]
    out_tree, in_tree, in_avals = flat.out_tree, flat.in_tree, [x.aval for x in xs]

    def vjp_fun(*ct: Any) -> tuple[Any, ...]:
        cts = _cotangents("vjp", ct, out_tree, out_avals)
        it = iter(tape.transpose([*cts, *(Zero(o.aval.tangent()) for o in outs[n:])]))
        return in_tree.unflatten([_out(next(it) if m else None, a) for m, a in zip(mask, in_avals)])

    out = out_tree.unflatten(outs[:n])
    return (out, vjp_fun, flat.aux_tree.unflatten(outs[n:])) if has_aux else (out, vjp_fun)


def _cotangents(who: str, given: tuple[Any, ...], out_tree: Any, avals: Sequence[ShapedArray]) -> list[Any]:
    """The leaves of the one cotangent given."""
    if len(given) != 1:
        raise TypeError(
            f"{who}: the transposed function takes one cotangent, of the structure of the result, got {len(given)} "
            f"arguments for {tree.structure_text(out_tree)}. Pass one pytree."
        )
    (ct,) = given
    leaves, got = tree.tree_flatten(ct)
    if got != out_tree:
        want = out_tree.unflatten([0] * len(avals))
        raise TreeMismatchError(
            f"{who}: the cotangent must have the structure of the result, got "
            f"{tree.structure_text(got)} for {tree.structure_text(out_tree)} "
            f"({tree.first_difference(ct, want)}). Pass one array for each result."
        )

    def name(i: int) -> str:
        path = tree.tree_paths(out_tree.unflatten([0] * len(avals)))[i]
        return f"result{path}" if path else "the result"

    return [_match(who, "cotangent", "result", c, a, name, i) for i, (c, a) in enumerate(zip(leaves, avals))]


def _tangents(
    who: str, fun: Callable[..., Any], tangents: tuple[Any, ...], in_tree: Any, avals: Sequence[ShapedArray]
) -> list[Any]:
    """The leaves of the tangents, which have the structure of the primals."""
    leaves, got = tree.tree_flatten(tangents)
    if got != in_tree:
        want = in_tree.unflatten([0] * len(avals))
        raise TreeMismatchError(
            f"{who}: tangents must have the structure of the primals, got "
            f"{tree.structure_text(got)} for {tree.structure_text(in_tree)} "
            f"({tree.first_difference(tangents, want)}). Pass one tangent for each primal."
        )

    def name(i: int) -> str:
        return leaf_names(fun, in_tree.unflatten([0] * len(avals)), {})[i]

    return [_match(who, "tangent", "primal", t, a, name, i) for i, (t, a) in enumerate(zip(leaves, avals))]


def _match(who: str, what: str, of: str, c: Any, aval: ShapedArray, name: Callable[[int], str], i: int) -> Any:
    """Tangent or cotangent leaf i, of the tangent type of ``aval``; Zero for integers (float0)."""
    want = aval.tangent()
    if want.dtype == dtypes.float0:
        if getattr(c, "dtype", None) != dtypes.float0 or tuple(np.shape(c)) != aval.shape:
            raise TypeError(
                f"{who}: the {what} of an integer or boolean {of} must be a float0 array of its shape, got "
                f"{c!r} for {name(i)} of type {aval}. Pass numpy.zeros({aval.shape}, fgrad.float0)."
            )
        return Zero(want)
    if not is_arraylike(c):
        raise TypeError(
            f"{who}: each {what} must be an array, got {c!r} of type {type(c).__name__} for {name(i)} of type {want}. "
            f"Pass an array of that type."
        )
    got = aval_of(c)
    if got.shape != want.shape or (got.dtype != want.dtype and not got.weak_type):
        raise ValueError(
            f"{who}: each {what} must have the shape and dtype of its {of}, got {got} for {name(i)} of type {want}. "
            f"Reshape or convert the {what}."
        )
    return convert(lift(c, who), want.dtype)


# --- forward mode ----------------------------------------------------------------------------------------------------
def jvp(fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """``(fun(*primals), J @ tangents)``: the directional derivative along ``tangents``.

    Formula: t_out = Σ_i ∂fun/∂x_i · t_i; primals and tangents are sequences of equal pytrees.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.jvp.html.

    >>> import fgrad, fgrad.numpy as fnp
    >>> y, t = fgrad.jvp(fnp.sin, (0.0,), (2.0,))
    >>> float(y), float(t)
    (0.0, 2.0)
    """
    check_callable("jvp", fun)
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (tuple, list)):
            raise TypeError(f"jvp: {what} must be a tuple or list, got {type(given).__name__}. Write ({what[:-1]},).")
    flat = _Flat("jvp", fun, tuple(primals), {}, tuple(range(len(primals))), has_aux)
    xs = lift_leaves(flat.leaves, "jvp", flat.names)
    ts = _tangents("jvp", fun, tuple(tangents), flat.in_tree, [x.aval for x in xs])
    outs, t_outs = jvp_flat(flat, xs, ts, name=f"jvp of {function_name(fun)}", arg_names=flat.names)
    n = flat.n_out
    out = flat.out_tree.unflatten(outs[:n])
    t_out = flat.out_tree.unflatten([_out(t, o.aval) for t, o in zip(t_outs[:n], outs)])
    return (out, t_out, flat.aux_tree.unflatten(outs[n:])) if has_aux else (out, t_out)


def linearize(fun: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """``(fun(*primals), f_lin)``: the linear map J at the primals, with fun's own work done once.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.linearize.html.

    >>> import fgrad, fgrad.numpy as fnp
    >>> y, f_lin = fgrad.linearize(lambda x: x * x, fnp.arange(3.0))
    >>> f_lin(fnp.ones(3)).tolist()
    [0.0, 2.0, 4.0]
    """
    check_callable("linearize", fun)
    flat = _Flat("linearize", fun, primals, {}, tuple(range(len(primals))), False)
    xs = lift_leaves(flat.leaves, "linearize", flat.names)
    mask = [dtypes.is_inexact(x.dtype) for x in xs]
    outs, tape = linearize_flat(flat, xs, mask, name=f"linearize of {function_name(fun)}", arg_names=flat.names)
    avals, in_tree, out_tree = [x.aval for x in xs], flat.in_tree, flat.out_tree

    def f_lin(*tangents: Any) -> Any:
        ts = _tangents("linearize", fun, tangents, in_tree, avals)
        t_outs = tape.apply([t for t, m in zip(ts, mask) if m])
        return out_tree.unflatten([_out(t, o.aval) for t, o in zip(t_outs, outs)])

    return out_tree.unflatten(outs), f_lin


def linear_transpose(fun: Callable[..., Any], *primals: Any) -> Callable[[Any], tuple[Any, ...]]:
    """The transpose of a linear function: ⟨fun(x), y⟩ = ⟨x, transposed(y)⟩.

    ``primals`` give shapes and dtypes only (arrays or ShapeDtypeStructs).

    Raises:
        MissingBackendError: ``fun`` is not linear; the message names the operation.
        TypeError: an argument is an integer or boolean, or a cotangent no array.
        ValueError: a cotangent has another shape or dtype than the result.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.linear_transpose.html.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.linear_transpose(lambda x: x * 3, fnp.ones(2))(fnp.arange(2.0))[0].tolist()
    [0.0, 3.0]
    """
    check_callable("linear_transpose", fun)
    flat = _Flat("linear_transpose", fun, primals, {}, tuple(range(len(primals))), False)
    avals = [abstract_leaf("linear_transpose", x, flat.names, i) for i, x in enumerate(flat.leaves)]
    for i, a in enumerate(avals):
        if not dtypes.is_inexact(a.dtype):
            raise TypeError(
                f"linear_transpose: arguments must be floating-point or complex, got {a} for {flat.names()[i]}. "
                "Convert it with .astype, or close over the value."
            )
    outs: list[Any] = []

    def remember(*xs: Any) -> list[Any]:
        outs[:] = flat(*xs)
        return outs

    tape = linear_tape(remember, avals)
    out_avals = [o.aval for o in outs]

    def transposed(*ct: Any) -> tuple[Any, ...]:
        cts = _cotangents("linear_transpose", ct, flat.out_tree, out_avals)
        return flat.in_tree.unflatten([instantiate(c) for c in tape.transpose(cts)])

    return transposed
