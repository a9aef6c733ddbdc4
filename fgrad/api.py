"""The transformations as users call them: checks and pytrees here, algebra in fgrad.transforms.

Every transformation takes a function and returns a function, and they nest in any order.
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
from fgrad.core.jaxpr import ClosedJaxpr
from fgrad.core.primitive import Zero
from fgrad.errors import TreeMismatchError
from fgrad.higher_order.arguments import (
    flatten_output,
    function_name,
    leaf_aval,
    leaf_names,
    lift_leaves,
)
from fgrad.higher_order.jit import ShapeDtypeStruct
from fgrad.transforms.jvp import jvp_flat
from fgrad.transforms.linearize import linear_tape, linearize_flat
from fgrad.transforms.stage import stage
from fgrad.transforms.vmap import materialize, vmap_flat
from fgrad.transforms.zeros import instantiate


# --- helpers ---------------------------------------------------------------------------------------------------------
def _callable(who: str, fun: Any) -> None:
    if not callable(fun):
        raise TypeError(f"{who}: needs a function, got {fun!r} of type {type(fun).__name__}. Pass a callable.")


def _argnums(who: str, fun: Any, argnums: int | Sequence[int], n: int) -> tuple[int, ...]:
    given = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for i in given:
        if not -n <= i < n:
            raise ValueError(
                f"{who}: argnums must name positional arguments of the call, got {argnums} for {function_name(fun)} "
                f"called with {n}. Use indices below {n}."
            )
    return tuple(i % n for i in given)


def _float0_zeros(aval: ShapedArray) -> np.ndarray:
    return np.zeros(aval.shape, dtypes.float0)


def _out(c: Any, primal: ShapedArray) -> Any:
    """A cotangent for the user: float0 for integers, an array of zeros for a symbolic zero."""
    return instantiate(c) if dtypes.is_inexact(primal.dtype) else _float0_zeros(primal)


class _Flat:
    """``fun`` with some positional arguments as flat leaves; remembers the structure of its result."""

    def __init__(self, who: str, fun: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], nums, has_aux):
        self.who, self.fun, self.args, self.kwargs = who, fun, list(args), kwargs
        self.nums, self.has_aux = nums, has_aux
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
                raise TypeError(
                    f"{self.who}: with has_aux=True {function_name(self.fun)} must return a pair (output, aux), "
                    f"got {type(out).__name__}. Return two values, or drop has_aux."
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

    Parameters
    ----------
    fun : returns a real scalar; with ``has_aux`` a pair (scalar, anything).
    argnums : which positional arguments to differentiate (an int, or a sequence for a tuple of gradients).
    has_aux : the result is then ``((value, aux), gradient)``.

    Raises
    ------
    TypeError if the result is no real floating-point scalar or a differentiated argument is an integer.

    Example
    -------
    >>> import fgrad, fgrad.numpy as fnp
    >>> value, g = fgrad.value_and_grad(lambda x: fnp.sum(x * x))(fnp.arange(3.0))
    >>> float(value), g.tolist()
    (5.0, [0.0, 2.0, 4.0])

    Source: reverse mode as linearize + transpose, Radul et al., https://arxiv.org/abs/2204.10923.
    """
    _callable("value_and_grad", fun)
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
        outs, tape = linearize_flat(flat, primals, [True] * len(primals), name=f"{who} of {function_name(fun)}")
        _check_scalar(who, fun, flat, outs)
        ans = outs[0]
        one = ConcreteArray(np.ones((), ans.dtype))
        cts = [one, *(Zero(o.aval.tangent()) for o in outs[1:])]
        grads = flat.in_tree.unflatten([instantiate(c) for c in tape.transpose(cts)])
        grads = grads[0] if isinstance(argnums, int) else grads
        if has_aux:
            return (ans, flat.aux_tree.unflatten(outs[1:])), grads
        return ans, grads

    return wrapped


def _check_scalar(who: str, fun: Callable[..., Any], flat: _Flat, outs: Sequence[Any]) -> None:
    if flat.n_out != 1 or flat.out_tree.num_nodes != 1:
        raise TypeError(
            f"{who}: the function must return a scalar, got {flat.n_out} arrays in {flat.out_tree} from "
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

    Example
    -------
    >>> import fgrad, fgrad.numpy as fnp
    >>> float(fgrad.grad(fgrad.grad(lambda x: x**3))(2.0))
    12.0
    """
    _callable("grad", fun)
    both = _value_and_grad("grad", fun, argnums, has_aux)

    @functools.wraps(fun)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, grads = both(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return wrapped


def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """``(fun(*primals), vjp_fun)`` where ``vjp_fun(ct)`` gives a tuple of cotangents, one for each primal.

    Formula: vjp_fun(ct) = ctᵀ J with J = ∂fun/∂primals.  ``ct`` has the result's pytree, shapes and dtypes.

    Example
    -------
    >>> import fgrad, fgrad.numpy as fnp
    >>> y, pull = fgrad.vjp(lambda x: x * x, fnp.arange(3.0))
    >>> pull(fnp.ones(3))[0].tolist()
    [0.0, 2.0, 4.0]
    """
    _callable("vjp", fun)
    flat = _Flat("vjp", fun, primals, {}, tuple(range(len(primals))), has_aux)
    xs = lift_leaves(flat.leaves, "vjp", flat.names)
    mask = [dtypes.is_inexact(x.dtype) for x in xs]
    outs, tape = linearize_flat(flat, xs, mask, name=f"vjp of {function_name(fun)}")
    n = flat.n_out
    out_avals = [o.aval for o in outs[:n]]
    out_tree, in_tree, in_avals = flat.out_tree, flat.in_tree, [x.aval for x in xs]

    def vjp_fun(ct: Any) -> tuple[Any, ...]:
        cts = _cotangents("vjp", ct, out_tree, out_avals)
        it = iter(tape.transpose([*cts, *(Zero(o.aval.tangent()) for o in outs[n:])]))
        return in_tree.unflatten([_out(next(it) if m else None, a) for m, a in zip(mask, in_avals)])

    out = out_tree.unflatten(outs[:n])
    return (out, vjp_fun, flat.aux_tree.unflatten(outs[n:])) if has_aux else (out, vjp_fun)


def _cotangents(who: str, ct: Any, out_tree: Any, avals: Sequence[ShapedArray]) -> list[Any]:
    leaves, got = tree.tree_flatten(ct)
    if got != out_tree:
        want = out_tree.unflatten([0] * len(avals))
        raise TreeMismatchError(
            f"{who}: the cotangent must have the structure of the result, got {got} for {out_tree} "
            f"({tree.first_difference(ct, want)}). Pass one array for each result."
        )
    return [_match(who, "cotangent", "result", c, a, i) for i, (c, a) in enumerate(zip(leaves, avals))]


def _match(who: str, what: str, of: str, c: Any, aval: ShapedArray, i: int) -> Any:
    """Tangent or cotangent leaf i, of the tangent type of ``aval``; Zero for integers (float0)."""
    want = aval.tangent()
    if want.dtype == dtypes.float0:
        if getattr(c, "dtype", None) != dtypes.float0 or tuple(np.shape(c)) != aval.shape:
            raise TypeError(
                f"{who}: the {what} of an integer or boolean {of} must be a float0 array of its shape, got "
                f"{c!r} for leaf {i} of type {aval}. Pass numpy.zeros({aval.shape}, fgrad.float0)."
            )
        return Zero(want)
    got = aval_of(c)
    if got.shape != want.shape or (got.dtype != want.dtype and not got.weak_type):
        raise ValueError(
            f"{who}: each {what} must have the shape and dtype of its {of}, got {got} for leaf {i} of type {want}. "
            f"Reshape or convert the {what}."
        )
    c = lift(c)
    if c.dtype != want.dtype:
        c = ConcreteArray(np.asarray(c, want.dtype)) if isinstance(c, ConcreteArray) else c
    return c


# --- forward mode ----------------------------------------------------------------------------------------------------
def jvp(fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """``(fun(*primals), J @ tangents)``: the directional derivative along ``tangents``.

    Formula: t_out = Σ_i ∂fun/∂x_i · t_i; primals and tangents are sequences of equal pytrees.

    Example
    -------
    >>> import fgrad, fgrad.numpy as fnp
    >>> y, t = fgrad.jvp(fnp.sin, (0.0,), (2.0,))
    >>> float(y), float(t)
    (0.0, 2.0)
    """
    _callable("jvp", fun)
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (tuple, list)):
            raise TypeError(f"jvp: {what} must be a tuple or list, got {type(given).__name__}. Write ({what[:-1]},).")
    flat = _Flat("jvp", fun, tuple(primals), {}, tuple(range(len(primals))), has_aux)
    xs = lift_leaves(flat.leaves, "jvp", flat.names)
    t_leaves, t_tree = tree.tree_flatten(tuple(tangents))
    if t_tree != flat.in_tree:
        raise TreeMismatchError(
            f"jvp: tangents must have the structure of the primals, got {t_tree} for {flat.in_tree} "
            f"({tree.first_difference(tuple(tangents), tuple(primals))}). Pass one tangent for each primal."
        )
    ts = [_match("jvp", "tangent", "primal", t, x.aval, i) for i, (t, x) in enumerate(zip(t_leaves, xs))]
    outs, t_outs = jvp_flat(flat, xs, ts, name=f"jvp of {function_name(fun)}")
    n = flat.n_out
    out = flat.out_tree.unflatten(outs[:n])
    t_out = flat.out_tree.unflatten([_out(t, o.aval) for t, o in zip(t_outs[:n], outs)])
    return (out, t_out, flat.aux_tree.unflatten(outs[n:])) if has_aux else (out, t_out)


def linearize(fun: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """``(fun(*primals), f_lin)``: the linear map J at the primals, with fun's own work done once.

    Example
    -------
    >>> import fgrad, fgrad.numpy as fnp
    >>> y, f_lin = fgrad.linearize(lambda x: x * x, fnp.arange(3.0))
    >>> f_lin(fnp.ones(3)).tolist()
    [0.0, 2.0, 4.0]
    """
    _callable("linearize", fun)
    flat = _Flat("linearize", fun, primals, {}, tuple(range(len(primals))), False)
    xs = lift_leaves(flat.leaves, "linearize", flat.names)
    mask = [dtypes.is_inexact(x.dtype) for x in xs]
    outs, tape = linearize_flat(flat, xs, mask, name=f"linearize of {function_name(fun)}")
    avals, in_tree, out_tree = [x.aval for x in xs], flat.in_tree, flat.out_tree

    def f_lin(*tangents: Any) -> Any:
        leaves, got = tree.tree_flatten(tangents)
        if got != in_tree:
            raise TreeMismatchError(
                f"linearize: tangents must have the structure of the primals, got {got} for {in_tree}. "
                "Pass one tangent for each primal."
            )
        ts = [_match("linearize", "tangent", "primal", t, a, i) for i, (t, a) in enumerate(zip(leaves, avals))]
        t_outs = tape.apply([t for t, m in zip(ts, mask) if m])
        return out_tree.unflatten([_out(t, o.aval) for t, o in zip(t_outs, outs)])

    return out_tree.unflatten(outs), f_lin


def linear_transpose(fun: Callable[..., Any], *primals: Any) -> Callable[[Any], tuple[Any, ...]]:
    """The transpose of a linear function: ⟨fun(x), y⟩ = ⟨x, transposed(y)⟩.

    ``primals`` give shapes and dtypes only (arrays or ShapeDtypeStructs).

    Raises
    ------
    MissingBackendError naming the operation if ``fun`` is not linear.

    Example
    -------
    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.linear_transpose(lambda x: x * 3, fnp.ones(2))(fnp.arange(2.0))[0].tolist()
    [0.0, 3.0]
    """
    _callable("linear_transpose", fun)
    flat = _Flat("linear_transpose", fun, primals, {}, tuple(range(len(primals))), False)
    avals = [_aval("linear_transpose", x, flat.names, i) for i, x in enumerate(flat.leaves)]
    outs: list[Any] = []

    def remember(*xs: Any) -> list[Any]:
        outs[:] = flat(*xs)
        return outs

    tape = linear_tape(remember, avals)
    out_avals = [o.aval for o in outs]

    def transposed(ct: Any) -> tuple[Any, ...]:
        cts = _cotangents("linear_transpose", ct, flat.out_tree, out_avals)
        return flat.in_tree.unflatten([instantiate(c) for c in tape.transpose(cts)])

    return transposed


# --- batching --------------------------------------------------------------------------------------------------------
def vmap(
    fun: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0, axis_size: int | None = None
) -> Callable[..., Any]:
    """A function that maps ``fun`` over an axis of its arguments: out[b] = fun(*[x[b] for x in args]).

    Parameters
    ----------
    in_axes : an int, None (not mapped), or a pytree prefix of them for the positional arguments.
    out_axes : the same for the result.
    axis_size : needed only if nothing is mapped.

    Raises
    ------
    ValueError if mapped sizes differ (the message names the arguments) or an axis is out of range.

    Example
    -------
    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.vmap(fnp.dot, in_axes=(0, None))(fnp.ones((2, 3)), fnp.arange(3.0)).tolist()
    [3.0, 3.0]
    """
    _callable("vmap", fun)

    @functools.wraps(fun)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        leaves, in_tree = tree.tree_flatten((args, kwargs))
        names = lambda: leaf_names(fun, args, kwargs)  # noqa: E731
        xs = lift_leaves(leaves, "vmap", names)
        axes = _in_axes(fun, in_axes, args, kwargs)
        size, dims = _batch_size(fun, xs, axes, axis_size, names)
        out_tree: Any = None

        def flat(*ys: Any) -> list[Any]:
            nonlocal out_tree
            a, kw = in_tree.unflatten(ys)
            out, out_tree = flatten_output(fun(*a, **kw), "vmap", fun)
            return out

        outs, out_dims = vmap_flat(flat, xs, dims, size, name=f"vmap of {function_name(fun)}", arg_names=names())
        try:
            wanted = tree.broadcast_prefix(out_axes, out_tree.unflatten(outs))
        except (ValueError, TypeError):
            raise TreeMismatchError(
                f"vmap: out_axes must be a prefix of the result's structure, got {out_axes!r} for {out_tree}. "
                "Use an int, None, or a matching tuple or dict."
            ) from None
        return out_tree.unflatten([_place(fun, o, d, w, size) for o, d, w in zip(outs, out_dims, wanted)])

    return wrapped


def _in_axes(fun: Callable[..., Any], in_axes: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    try:
        axes = tree.broadcast_prefix(in_axes, args)
    except (ValueError, TypeError):
        raise TreeMismatchError(
            f"vmap: in_axes must be an int, None or a prefix of the positional arguments' structure, got {in_axes!r} "
            f"for {function_name(fun)} called with {len(args)} arguments. Give one entry for each argument."
        ) from None
    for a in axes:
        if a is not None and not isinstance(a, int):
            raise TypeError(f"vmap: in_axes must hold ints or None, got {a!r} in {in_axes!r}. Use axis numbers.")
    return axes + [0] * len(tree.tree_leaves(kwargs))


def _batch_size(fun, xs, axes, axis_size, names) -> tuple[int, list[int | None]]:
    dims: list[int | None] = []
    sizes: dict[int, list[str]] = {}
    for i, (x, a) in enumerate(zip(xs, axes)):
        if a is None:
            dims.append(None)
            continue
        if not -x.ndim <= a < x.ndim:
            raise ValueError(
                f"vmap: in_axes must be an axis of its argument, got {a} for argument {names()[i]} of shape {x.shape} "
                f"({x.ndim} axes). Use an axis in [{-x.ndim}, {x.ndim}) or None."
            )
        dims.append(a % x.ndim)
        sizes.setdefault(x.shape[a % x.ndim], []).append(f"{names()[i]} (shape {x.shape}, axis {a})")
    if axis_size is not None:
        sizes.setdefault(axis_size, []).append("axis_size")
    if not sizes:
        raise ValueError(
            f"vmap: at least one argument must be mapped, got in_axes that are all None for {function_name(fun)}. "
            "Map an argument, or give axis_size."
        )
    if len(sizes) > 1:
        listing = "; ".join(f"{n} for {', '.join(who)}" for n, who in sizes.items())
        raise ValueError(f"vmap: mapped axes must have one size, got {listing}. Change the arguments or in_axes.")
    return next(iter(sizes)), dims


def _place(fun: Callable[..., Any], out: Any, dim: int | None, wanted: int | None, size: int) -> Any:
    if wanted is None:
        if dim is not None:
            raise ValueError(
                f"vmap: out_axes=None needs a result that does not depend on mapped arguments, got one of shape "
                f"{out.shape} from {function_name(fun)}, mapped on axis {dim}. Give it an axis."
            )
        return out
    ndim = out.ndim if dim is not None else out.ndim + 1
    if not isinstance(wanted, int) or not -ndim <= wanted < ndim:
        raise ValueError(
            f"vmap: out_axes must be an axis of the mapped result, got {wanted!r} for a result with {ndim} axes. "
            f"Use an axis in [{-ndim}, {ndim})."
        )
    return materialize(out, dim, size, wanted % ndim)


# --- staging ---------------------------------------------------------------------------------------------------------
def _aval(who: str, x: Any, names: Callable[[], list[str]], i: int) -> ShapedArray:
    if isinstance(x, ShapeDtypeStruct):
        return ShapedArray(x.shape, x.dtype)
    return leaf_aval(x, who, names, i)


def _stage(who: str, fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], static: frozenset[int]):
    dynamic = [a for i, a in enumerate(args) if i not in static]
    leaves, in_tree = tree.tree_flatten((dynamic, kwargs))
    shown = [None if i in static else a for i, a in enumerate(args)]
    names = leaf_names(fun, shown, kwargs)
    avals = [_aval(who, x, lambda: names, i) for i, x in enumerate(leaves)]
    out_tree: Any = None

    def flat(*xs: Array) -> list[Array]:
        nonlocal out_tree
        dyn, kw = in_tree.unflatten(xs)
        it = iter(dyn)
        out = fun(*[a if i in static else next(it) for i, a in enumerate(args)], **kw)
        flat_out, out_tree = flatten_output(out, who, fun)
        return flat_out

    return stage(flat, avals, name=f"{who} of {function_name(fun)}", arg_names=names), out_tree


def make_jaxpr(
    fun: Callable[..., Any], static_argnums: int | Sequence[int] = (), return_shape: bool = False
) -> Callable[..., Any]:
    """A function that returns the jaxpr of ``fun`` for its arguments (arrays or ShapeDtypeStructs).

    Example
    -------
    >>> import fgrad, fgrad.numpy as fnp
    >>> print(fgrad.make_jaxpr(lambda x: fnp.sin(x) * 2.0)(fnp.ones(3)))
    { lambda ; a:f32[3]. let
        b:f32[3] = sin a
        c:f32[3] = broadcast_in_dim[shape=(3,) broadcast_dimensions=()] 2.0:f32[]
        d:f32[3] = mul b c
      in (d,) }
    """
    _callable("make_jaxpr", fun)
    static = frozenset((static_argnums,) if isinstance(static_argnums, int) else static_argnums)

    @functools.wraps(fun)
    def wrapped(*args: Any, **kwargs: Any) -> ClosedJaxpr | tuple[ClosedJaxpr, Any]:
        closed, out_tree = _stage("make_jaxpr", fun, args, kwargs, static)
        if not return_shape:
            return closed
        return closed, out_tree.unflatten([ShapeDtypeStruct(a.shape, a.dtype) for a in closed.out_avals])

    return wrapped


def eval_shape(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The shapes and dtypes of ``fun(*args)`` as ShapeDtypeStructs, without computing anything.

    Example
    -------
    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.eval_shape(fnp.dot, fgrad.ShapeDtypeStruct((2, 3), "float32"), fnp.ones(3))
    ShapeDtypeStruct(shape=(2,), dtype=float32)
    """
    _callable("eval_shape", fun)
    closed, out_tree = _stage("eval_shape", fun, args, kwargs, frozenset())
    return out_tree.unflatten([ShapeDtypeStruct(a.shape, a.dtype) for a in closed.out_avals])


__all__ = [
    "eval_shape",
    "grad",
    "jvp",
    "linear_transpose",
    "linearize",
    "make_jaxpr",
    "value_and_grad",
    "vjp",
    "vmap",
]
