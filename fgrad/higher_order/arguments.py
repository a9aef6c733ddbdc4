"""Users' arguments: names for error messages, leaves as arrays, results as pytrees."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad import tree
from fgrad.core import dtypes
from fgrad.core.array import Array, aval_of, lift
from fgrad.core.aval import ShapedArray, check_size
from fgrad.core.static import sequence
from fgrad.core.trace import check_live


class ShapeDtypeStruct:
    """The shape and dtype of an array, without one.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.ShapeDtypeStruct.html.

    >>> ShapeDtypeStruct((2, 3), "float32")
    ShapeDtypeStruct(shape=(2, 3), dtype=float32)
    """

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: Sequence[int], dtype: Any):
        self.shape = sequence("ShapeDtypeStruct", "shape", shape)
        self.dtype = dtypes.canonical(dtype)
        check_size("ShapeDtypeStruct", ShapedArray(self.shape, self.dtype))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, ShapeDtypeStruct) and (self.shape, self.dtype) == (other.shape, other.dtype)

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))

    def __repr__(self) -> str:
        return f"ShapeDtypeStruct(shape={self.shape}, dtype={self.dtype})"


def function_name(fun: Callable[..., Any]) -> str:
    """What messages call a function; a ``functools.partial`` goes by the function that it calls."""
    while isinstance(fun, functools.partial):
        fun = fun.func
    return getattr(fun, "__name__", None) or type(fun).__name__


def parameter_names(fun: Callable[..., Any], n: int) -> list[str]:
    """A name for each of n positional arguments."""
    try:
        params = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        return [f"#{i}" for i in range(n)]
    names: list[str] = []
    for p in params:
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
        elif p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}[{i}]" for i in range(max(0, n - len(names)))]
    names += [f"#{i}" for i in range(len(names), n)]
    return names[:n]


def leaf_names(fun: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> list[str]:
    """``'params'['w'] of loss`` for every leaf of (args, kwargs), in flattening order."""
    of = f" of {function_name(fun)}"
    out = []
    for name, arg in zip(parameter_names(fun, len(args)), args):
        out += [f"'{name}'{path}{of}" for path in tree.tree_paths(arg)]
    for name in sorted(kwargs):
        out += [f"'{name}'{path}{of}" for path in tree.tree_paths(kwargs[name])]
    return out


def check_callable(who: str, fun: Any) -> None:
    if not callable(fun):
        raise TypeError(f"{who}: needs a function, got {fun!r} of type {type(fun).__name__}. Pass a callable.")


def is_arraylike(x: Any) -> bool:
    return isinstance(x, (Array, np.ndarray, np.generic, bool, int, float, complex)) or hasattr(x, "__array__")


def leaf_aval(x: Any, who: str, names: Callable[[], list[str]], i: int) -> ShapedArray:
    """The aval of argument leaf i; a leaf that is no array is an error naming the argument."""
    if isinstance(x, Array):
        check_live(x, who)
        return lift(x, who).aval
    if not isinstance(x, np.ndarray) and not is_arraylike(x):
        other = "mark the argument static (static_argnums)" if who == "jit" else "close over the value"
        raise TypeError(
            f"{who}: arguments must be arrays, scalars or pytrees of them, got {x!r} of type {type(x).__name__} "
            f"in argument {names()[i]}. Pass arrays, or {other}."
        )
    try:
        return aval_of(x)
    except TypeError as e:
        raise TypeError(f"{who}: argument {names()[i]}: {e}") from None


def abstract_leaf(who: str, x: Any, names: Callable[[], list[str]], i: int) -> ShapedArray:
    """The aval of leaf i, which may also be a ShapeDtypeStruct."""
    if isinstance(x, ShapeDtypeStruct):
        return ShapedArray(x.shape, x.dtype)
    return leaf_aval(x, who, names, i)


def lift_leaves(leaves: Sequence[Any], who: str, names: Callable[[], list[str]]) -> list[Array]:
    for i, x in enumerate(leaves):
        leaf_aval(x, who, names, i)
    return [lift(x, who) for x in leaves]


def flatten_output(out: Any, who: str, fun: Callable[..., Any]) -> tuple[list[Array], Any]:
    """Leaves and structure of a function's result; a leaf that is no array is an error naming its path."""
    leaves, treedef = tree.tree_flatten(out)
    for i, x in enumerate(leaves):
        if not (isinstance(x, Array) or is_arraylike(x)):
            path = f"the output at {tree.tree_paths(out)[i]}" if tree.tree_paths(out)[i] else "its output"
            raise TypeError(
                f"{who}: {function_name(fun)} must return arrays or pytrees of them, got {x!r} of type "
                f"{type(x).__name__} for {path}. Return arrays, or leave the value out."
            )
    return [lift(x, who) for x in leaves], treedef
