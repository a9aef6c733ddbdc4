"""The public transformations: batching and staging here, differentiation in fgrad.autodiff, jit in fgrad.higher_order.

Every transformation takes a function and returns a function, and they nest in any order.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from fgrad import tree
from fgrad.autodiff import grad, jvp, linear_transpose, linearize, value_and_grad, vjp
from fgrad.core.array import Array
from fgrad.core.jaxpr import ClosedJaxpr
from fgrad.core.primitive import Axis
from fgrad.core.static import flag, static_ints
from fgrad.errors import TreeMismatchError
from fgrad.higher_order.arguments import (
    ShapeDtypeStruct,
    abstract_leaf,
    check_callable,
    flatten_output,
    function_name,
    leaf_names,
    lift_leaves,
    parameter_names,
)
from fgrad.higher_order.jit import jit
from fgrad.transforms.stage import stage
from fgrad.transforms.vmap import materialize, vmap_flat


# --- batching --------------------------------------------------------------------------------------------------------
def vmap(
    fun: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Hashable | None = None,
    axis_size: int | None = None,
) -> Callable[..., Any]:
    """A function that maps ``fun`` over an axis of its arguments: ``out[b] = fun(*[x[b] for x in args])``.

    Args:
        fun: a function of pytrees of arrays.
        in_axes: an int, None (not mapped), or a pytree prefix of them for the positional arguments.
        out_axes: the same for the result.
        axis_name: what collectives inside ``fun`` (``lax.psum``, ``lax.axis_index``, ...) call the axis.
        axis_size: needed only if nothing is mapped.

    Raises:
        ValueError: mapped sizes differ (the message names the arguments), or an axis is out of range.
        TypeError: axis_name is a tuple or not hashable, or an axis no int.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.vmap.html.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.vmap(fnp.dot, in_axes=(0, None))(fnp.ones((2, 3)), fnp.arange(3.0)).tolist()
    [3.0, 3.0]
    """
    check_callable("vmap", fun)
    axis_size = _checked_size(axis_size)
    _check_name(axis_name)

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

        outs, out_dims = vmap_flat(
            flat, xs, dims, Axis(axis_name, size), name=f"vmap of {function_name(fun)}", arg_names=names
        )
        try:
            wanted = tree.broadcast_prefix(out_axes, out_tree.unflatten(outs))
        except (ValueError, TypeError):
            raise TreeMismatchError(
                f"vmap: out_axes must be a prefix of the result's structure, got {out_axes!r} for "
                f"{tree.structure_text(out_tree)} from {function_name(fun)}. Use an int, None, or a matching tuple or "
                "dict."
            ) from None
        return out_tree.unflatten([_place(fun, o, d, w, size) for o, d, w in zip(outs, out_dims, wanted)])

    return wrapped


def _check_name(axis_name: Any) -> None:
    if isinstance(axis_name, (tuple, list)) or not isinstance(axis_name, Hashable):
        raise TypeError(
            f"vmap: axis_name must be one hashable name, got {axis_name!r} of type {type(axis_name).__name__} "
            "(collectives take a tuple as several names). Use a string."
        )


def _checked_size(axis_size: Any) -> int | None:
    try:
        n = None if axis_size is None else operator.index(axis_size)
    except TypeError:
        n = -1
    if n is not None and n < 0:
        raise TypeError(
            f"vmap: axis_size must be an int of at least 0 or None, got {axis_size!r}. Pass the number of examples."
        )
    return n


def _in_axes(fun: Callable[..., Any], in_axes: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    try:
        axes = tree.broadcast_prefix(in_axes, args)
    except (ValueError, TypeError):
        raise TreeMismatchError(_misfit(fun, in_axes, args)) from None
    for a in axes:
        if a is not None and (not isinstance(a, int) or isinstance(a, bool)):
            raise TypeError(f"vmap: in_axes must hold ints or None, got {a!r} in {in_axes!r}. Use axis numbers.")
    return axes + [0] * len(tree.tree_leaves(kwargs))


def _misfit(fun: Callable[..., Any], in_axes: Any, args: tuple[Any, ...]) -> str:
    """Which entry of in_axes is no prefix of its argument; of as many entries as arguments, the first such."""
    if isinstance(in_axes, tuple) and len(in_axes) == len(args):
        for i, (entry, arg) in enumerate(zip(in_axes, args)):
            try:
                tree.broadcast_prefix(entry, arg)
            except (ValueError, TypeError):
                return (
                    f"vmap: in_axes must be an int, None or a prefix of its argument's structure, got {entry!r} for "
                    f"argument '{parameter_names(fun, len(args))[i]}' of {function_name(fun)} of structure "
                    f"{tree.structure_text(tree.tree_structure(arg))}. Use one axis for all of it, or the same "
                    "containers and keys."
                )
    return (
        f"vmap: in_axes must be an int, None or a prefix of the positional arguments' structure, got {in_axes!r} "
        f"for {function_name(fun)} called with {len(args)} argument{'s' * (len(args) != 1)}. Give one entry for each "
        "argument."
    )


def _batch_size(fun, xs, axes, axis_size, names) -> tuple[int, list[int | None]]:
    dims: list[int | None] = []
    sizes: dict[int, list[str]] = {}
    for i, (x, a) in enumerate(zip(xs, axes)):
        if a is None:
            dims.append(None)
            continue
        if not -x.ndim <= a < x.ndim:
            use = f"an axis in [{-x.ndim}, {x.ndim}) or None" if x.ndim else "None for a scalar"
            raise ValueError(
                f"vmap: in_axes must be an axis of its argument, got {a} for argument {names()[i]} of shape {x.shape} "
                f"({x.ndim} ax{'i' if x.ndim == 1 else 'e'}s). Use {use}."
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
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        raise TypeError(f"vmap: out_axes must hold ints or None, got {wanted!r}. Use axis numbers.")
    ndim = out.ndim if dim is not None else out.ndim + 1
    if not -ndim <= wanted < ndim:
        raise ValueError(
            f"vmap: out_axes must be an axis of the mapped result, got {wanted!r} for a result of {function_name(fun)} "
            f"with {ndim} ax{'i' if ndim == 1 else 'e'}s. Use an axis in [{-ndim}, {ndim})."
        )
    return materialize(out, dim, size, wanted % ndim)


# --- staging ---------------------------------------------------------------------------------------------------------
def _stage(who: str, fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], static: frozenset[int]):
    dynamic = [a for i, a in enumerate(args) if i not in static]
    leaves, in_tree = tree.tree_flatten((dynamic, kwargs))
    shown = [None if i in static else a for i, a in enumerate(args)]
    names = lambda: leaf_names(fun, shown, kwargs)  # noqa: E731
    avals = [abstract_leaf(who, x, names, i) for i, x in enumerate(leaves)]
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

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.make_jaxpr.html.

    >>> import fgrad, fgrad.numpy as fnp
    >>> print(fgrad.make_jaxpr(lambda x: fnp.sin(x) * 2.0)(fnp.ones(3)))
    { lambda ; a:f32[3]. let
        b:f32[3] = sin a
        c:f32[3] = broadcast_in_dim[shape=(3,) broadcast_dimensions=()] 2.0:f32[]
        d:f32[3] = mul b c
      in (d,) }
    """
    check_callable("make_jaxpr", fun)
    static = frozenset(static_ints("make_jaxpr", "static_argnums must be integers", static_argnums))
    return_shape = flag("make_jaxpr", "return_shape", return_shape)

    @functools.wraps(fun)
    def wrapped(*args: Any, **kwargs: Any) -> ClosedJaxpr | tuple[ClosedJaxpr, Any]:
        closed, out_tree = _stage("make_jaxpr", fun, args, kwargs, static)
        if not return_shape:
            return closed
        return closed, out_tree.unflatten([ShapeDtypeStruct(a.shape, a.dtype) for a in closed.out_avals])

    return wrapped


def eval_shape(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The shapes and dtypes of ``fun(*args)`` as ShapeDtypeStructs, without computing anything.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.eval_shape.html.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.eval_shape(fnp.dot, fgrad.ShapeDtypeStruct((2, 3), "float32"), fnp.ones(3))
    ShapeDtypeStruct(shape=(2,), dtype=float32)
    """
    check_callable("eval_shape", fun)
    closed, out_tree = _stage("eval_shape", fun, args, kwargs, frozenset())
    return out_tree.unflatten([ShapeDtypeStruct(a.shape, a.dtype) for a in closed.out_avals])


__all__ = [
    "ShapeDtypeStruct",
    "eval_shape",
    "grad",
    "jit",
    "jvp",
    "linear_transpose",
    "linearize",
    "make_jaxpr",
    "value_and_grad",
    "vjp",
    "vmap",
]
