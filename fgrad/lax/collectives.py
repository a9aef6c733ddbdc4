"""Collectives: what the examples of a ``vmap(..., axis_name=...)`` know of each other.

Every function takes the name that the enclosing ``vmap`` gave its axis.  Sizes are static: ``axis_size`` is a Python
int.  In the formulas x_i is the operand and y_i the result in example i of n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from fgrad import tree
from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.primitive import Axis, Primitive
from fgrad.core.static import flag
from fgrad.core.trace import visible_axes
from fgrad.errors import UnboundAxisError
from fgrad.lax.common import canonical_axis
from fgrad.lax.elementwise import add, div, mul
from fgrad.lax.shape import reshape
from fgrad.primitives.broadcast import full, full_like
from fgrad.primitives.collectives import (
    all_gather_p,
    all_to_all_p,
    axis_index_p,
    pmax_p,
    pmin_p,
    ppermute_p,
    psum_p,
    psum_scatter_p,
)
from fgrad.primitives.convert import convert


# --- names -----------------------------------------------------------------------------------------------------------
def _axes(who: str, axis_name: Any) -> tuple[Axis, ...]:
    """The axes of enclosing vmaps with these names (one, or a tuple or list of them)."""
    names = tuple(axis_name) if isinstance(axis_name, (tuple, list)) else (axis_name,)
    if axis_name is None or not all(_is_hashable(name) for name in names):
        raise TypeError(
            f"{who}: axis_name must be a hashable name or a tuple of them, got {axis_name!r} of type "
            f"{type(axis_name).__name__}. Use the name given to vmap(..., axis_name=...)."
        )
    if len(set(names)) != len(names):
        raise ValueError(f"{who}: axis names must be distinct, got {names!r}. Name each axis once.")
    visible = visible_axes()
    found = []
    for name in names:
        axis = next((a for a in visible if a.name == name), None)
        if axis is None:
            seen = ", ".join(repr(a.name) for a in visible) or "none"
            raise UnboundAxisError(
                f"{who}: axis_name must be the name of an enclosing vmap's axis, got {name!r} (names here: {seen}). "
                f"Call it inside vmap(..., axis_name={name!r})."
            )
        found.append(axis)
    return tuple(found)


def _is_hashable(name: Any) -> bool:
    try:
        hash(name)
    except TypeError:
        return False
    return True


def _axis(who: str, axis_name: Any) -> Axis:
    axes = _axes(who, axis_name)
    if len(axes) != 1:
        raise ValueError(f"{who}: takes one axis name, got {axis_name!r}. Call it for one axis after the other.")
    return axes[0]


def _no_groups(who: str, axis_index_groups: Any) -> None:
    if axis_index_groups is not None:
        raise ValueError(
            f"{who}: axis_index_groups must be None inside vmap, got {axis_index_groups!r}. Reshape the mapped axis "
            "into (groups, members) and use two nested vmaps."
        )


def axis_size(axis_name: Hashable) -> int:
    """The number of examples along a named axis, a Python int; the product of the sizes for a tuple of names.

    Raises:
        UnboundAxisError: no enclosing vmap has an axis of that name.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.vmap(lambda x: x * fgrad.lax.axis_size("i"), axis_name="i")(fnp.ones(3)).tolist()
    [3.0, 3.0, 3.0]

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.axis_size.html
    """
    return math.prod(axis.size for axis in _axes("axis_size", axis_name))


def axis_index(axis_name: Hashable) -> Array:
    """The number of the example: y_i = i; for a tuple of names, counted with the last name running fastest.

    Returns:
        int32 scalar.

    Raises:
        UnboundAxisError: no enclosing vmap has an axis of that name.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.vmap(lambda x: x + fgrad.lax.axis_index("i"), axis_name="i")(fnp.zeros(3)).tolist()
    [0.0, 1.0, 2.0]

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.axis_index.html
    """
    index: Any = None
    for axis in _axes("axis_index", axis_name):
        here = axis_index_p.bind(axis_name=axis.name)
        index = here if index is None else add(mul(index, axis.size), here)
    return full((), 0, dtypes.int32) if index is None else index


# --- reductions ------------------------------------------------------------------------------------------------------
def _reduce(prim: Primitive, x: Any, axis_name: Any, axis_index_groups: Any, number: Callable[..., Any]) -> Any:
    """prim over each named axis, for every leaf; ``number(x, n)`` is the result for a Python number in n examples."""
    _no_groups(prim.name, axis_index_groups)
    axes = _axes(prim.name, axis_name)
    n = math.prod(axis.size for axis in axes)

    def reduce(leaf: Any) -> Any:
        if isinstance(leaf, (bool, int, float, complex)):
            return number(leaf, n)
        y = lift(leaf, prim.name)
        if prim is psum_p and y.dtype == dtypes.bool_:
            y = convert(y, dtypes.int32)
        for axis in axes:
            y = prim.bind(y, axis_name=axis.name)
        return y

    return tree.tree_map(reduce, x)


def psum(x: Any, axis_name: Hashable, *, axis_index_groups: None = None) -> Any:
    """The sum over the examples of a named axis: y_i = Σ_j x_j, in every example the same.

    A Python number is multiplied by the number of examples, so ``psum(1, name)`` is the axis' size, a Python int.

    Args:
        x: pytree of arrays [*shape] of numbers or bools (these are counted, as int32).
        axis_name: the name of an enclosing vmap's axis, or a tuple of names to sum over all of them.
        axis_index_groups: None.

    Returns:
        The same pytree, shapes and dtypes; not mapped over the axis, so ``out_axes=None`` accepts it.

    Raises:
        UnboundAxisError: no enclosing vmap has an axis of that name.
        ValueError: axis_index_groups is given.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.vmap(lambda x: x / fgrad.lax.psum(x, "i"), axis_name="i")(fnp.array([1.0, 3.0])).tolist()
    [0.25, 0.75]

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.psum.html
    """
    return _reduce(psum_p, x, axis_name, axis_index_groups, lambda v, n: v * n)


def pmean(x: Any, axis_name: Hashable, *, axis_index_groups: None = None) -> Any:
    """The mean over the examples of a named axis: y_i = (Σ_j x_j) / n.

    Args:
        x: pytree of arrays [*shape] of numbers or bools.
        axis_name: the name of an enclosing vmap's axis, or a tuple of names.
        axis_index_groups: None.

    Returns:
        The same pytree and shapes; integers and bools become float32 (float64 from 64 bits).

    Raises:
        UnboundAxisError: no enclosing vmap has an axis of that name.
        ValueError: axis_index_groups is given.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.vmap(lambda x: x - fgrad.lax.pmean(x, "i"), axis_name="i")(fnp.array([1.0, 3.0])).tolist()
    [-1.0, 1.0]

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.pmean.html
    """
    _no_groups("pmean", axis_index_groups)
    n = math.prod(axis.size for axis in _axes("pmean", axis_name))

    def divide(total: Any) -> Any:
        if not isinstance(total, Array):
            return total / n
        if not dtypes.is_inexact(total.dtype):
            total = convert(total, dtypes.float64 if total.dtype.itemsize == 8 else dtypes.float32)
        return div(total, full_like(total, n))

    return tree.tree_map(divide, psum(x, axis_name))


def pmax(x: Any, axis_name: Hashable, *, axis_index_groups: None = None) -> Any:
    """The maximum over the examples of a named axis: y_i = max_j x_j (NaN if any is).

    Its derivative goes to the examples that hold the maximum, shared equally among ties.

    Args:
        x: pytree of arrays [*shape] of real numbers or bools.
        axis_name: the name of an enclosing vmap's axis, or a tuple of names.
        axis_index_groups: None.

    Returns:
        The same pytree, shapes and dtypes; not mapped over the axis.

    Raises:
        UnboundAxisError: no enclosing vmap has an axis of that name.
        TypeError: x is complex.
        ValueError: axis_index_groups is given.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.vmap(lambda x: fgrad.lax.pmax(x, "i"), axis_name="i", out_axes=None)(fnp.array([1.0, 3.0]))
    Array(3., dtype=float32)

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.pmax.html
    """
    return _reduce(pmax_p, x, axis_name, axis_index_groups, lambda v, n: v)


def pmin(x: Any, axis_name: Hashable, *, axis_index_groups: None = None) -> Any:
    """The minimum over the examples of a named axis: y_i = min_j x_j; see ``pmax``.

    Raises:
        UnboundAxisError: no enclosing vmap has an axis of that name.
        TypeError: x is complex.
        ValueError: axis_index_groups is given.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.vmap(lambda x: fgrad.lax.pmin(x, "i"), axis_name="i", out_axes=None)(fnp.array([1.0, 3.0]))
    Array(1., dtype=float32)

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.pmin.html
    """
    return _reduce(pmin_p, x, axis_name, axis_index_groups, lambda v, n: v)


# --- gathering and scattering ----------------------------------------------------------------------------------------
def all_gather(
    x: Any, axis_name: Hashable, *, axis_index_groups: None = None, axis: int = 0, tiled: bool = False
) -> Any:
    """Every example's operand, in every example: y_i[.., j at axis, ..] = x_j.

    Args:
        x: pytree of arrays [*shape].
        axis_name: the name of an enclosing vmap's axis.
        axis_index_groups: None.
        axis: where the new axis of n examples goes; with ``tiled``, the axis along which they are joined.
        tiled: the operands are concatenated, not stacked.

    Returns:
        The same pytree of arrays [.., n, ..], or [.., n * shape[axis], ..] with ``tiled``; not mapped over the axis.

    Raises:
        UnboundAxisError: no enclosing vmap has an axis of that name.
        ValueError: axis is out of range, or axis_index_groups is given.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.vmap(lambda x: fgrad.lax.all_gather(x, "i"), axis_name="i")(fnp.array([1, 2])).tolist()
    [[1, 2], [1, 2]]

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.all_gather.html
    """
    _no_groups("all_gather", axis_index_groups)
    over, tiled = _axis("all_gather", axis_name), flag("all_gather", "tiled", tiled)

    def gather(leaf: Any) -> Array:
        y = lift(leaf, "all_gather")
        at = canonical_axis("all_gather", axis, y.ndim + (not tiled))
        z = all_gather_p.bind(y, axis_name=over.name, axis_size=over.size, axis=at)
        return _joined(z, at) if tiled else z

    return tree.tree_map(gather, x)


def psum_scatter(
    x: Any, axis_name: Hashable, *, scatter_dimension: int = 0, axis_index_groups: None = None, tiled: bool = False
) -> Any:
    """The sum over examples, of which example i keeps slice i: y_i = Σ_j x_j[.., i at scatter_dimension, ..].

    Args:
        x: pytree of arrays of numbers, whose axis scatter_dimension has size n; with ``tiled``, a multiple of n.
        axis_name: the name of an enclosing vmap's axis of n examples.
        scatter_dimension: the axis that is split.
        axis_index_groups: None.
        tiled: the axis stays, n times smaller; otherwise it vanishes.

    Raises:
        UnboundAxisError: no enclosing vmap has an axis of that name.
        ValueError: the axis cannot be split so, or axis_index_groups is given.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.vmap(lambda x: fgrad.lax.psum_scatter(x, "i"), axis_name="i")(fnp.array([[1, 2], [3, 4]])).tolist()
    [4, 6]

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.psum_scatter.html
    """
    _no_groups("psum_scatter", axis_index_groups)
    over, tiled = _axis("psum_scatter", axis_name), flag("psum_scatter", "tiled", tiled)

    def scatter(leaf: Any) -> Array:
        y = lift(leaf, "psum_scatter")
        at = canonical_axis("psum_scatter", scatter_dimension, y.ndim)
        y = _split("psum_scatter", y, at, over) if tiled else y
        return psum_scatter_p.bind(y, axis_name=over.name, axis_size=over.size, axis=at)

    return tree.tree_map(scatter, x)


def all_to_all(
    x: Any,
    axis_name: Hashable,
    split_axis: int,
    concat_axis: int,
    *,
    axis_index_groups: None = None,
    tiled: bool = False,
) -> Any:
    """Example i gets slice i of every example: y_i[.., j at concat_axis, ..] = x_j[.., i at split_axis, ..].

    Args:
        x: pytree of arrays whose axis split_axis has size n; with ``tiled``, a multiple of n.
        axis_name: the name of an enclosing vmap's axis of n examples.
        split_axis: the axis of the operand that is split; without ``tiled`` it vanishes.
        concat_axis: where, without ``tiled``, the new axis of size n goes; with ``tiled``, the axis along which the
            slices are joined.
        axis_index_groups: None.
        tiled: slices are concatenated, not stacked.

    Raises:
        UnboundAxisError: no enclosing vmap has an axis of that name.
        ValueError: the axis cannot be split so, or axis_index_groups is given.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.vmap(lambda x: fgrad.lax.all_to_all(x, "i", 0, 0), axis_name="i")(fnp.array([[1, 2], [3, 4]])).tolist()
    [[1, 3], [2, 4]]

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.all_to_all.html
    """
    _no_groups("all_to_all", axis_index_groups)
    over, tiled = _axis("all_to_all", axis_name), flag("all_to_all", "tiled", tiled)

    def exchange(leaf: Any) -> Array:
        y = lift(leaf, "all_to_all")
        at = canonical_axis("all_to_all", split_axis, y.ndim)
        to = canonical_axis("all_to_all", concat_axis, y.ndim)
        y = _split("all_to_all", y, at, over) if tiled else y
        z = all_to_all_p.bind(y, axis_name=over.name, axis_size=over.size, split_axis=at, concat_axis=to)
        return _joined(z, to) if tiled else z

    return tree.tree_map(exchange, x)


def pswapaxes(x: Any, axis_name: Hashable, axis: int, *, axis_index_groups: None = None) -> Any:
    """Exchanges the mapped axis with an axis of the operand of the same size: ``all_to_all(x, name, axis, axis)``.

    Raises:
        UnboundAxisError: no enclosing vmap has an axis of that name.
        ValueError: the sizes differ, or axis_index_groups is given.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.vmap(lambda x: fgrad.lax.pswapaxes(x, "i", 0), axis_name="i")(fnp.array([[1, 2], [3, 4]])).tolist()
    [[1, 3], [2, 4]]

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.pswapaxes.html
    """
    return all_to_all(x, axis_name, axis, axis, axis_index_groups=axis_index_groups)


def _split(who: str, x: Array, axis: int, over: Axis) -> Array:
    """[.., n * m, ..] -> [.., n, m, ..]"""
    size = x.shape[axis]
    if over.size == 0 or size % over.size:
        raise ValueError(
            f"{who}: with tiled=True the axis that is split must have a multiple of the mapped axis' size, got {size} "
            f"for axis {axis} of shape {x.shape} and {over.size} examples of {over.name!r}. Pad or reshape the operand."
        )
    return reshape(x, (*x.shape[:axis], over.size, size // over.size, *x.shape[axis + 1 :]))


def _joined(x: Array, axis: int) -> Array:
    """[.., n, m, ..] -> [.., n * m, ..]"""
    n, m = x.shape[axis : axis + 2]
    return reshape(x, (*x.shape[:axis], n * m, *x.shape[axis + 2 :]))


# --- permutations ----------------------------------------------------------------------------------------------------
def ppermute(x: Any, axis_name: Hashable, perm: Sequence[tuple[int, int]]) -> Any:
    """Sends operands to other examples: y_d = x_s for each (s, d) in perm; 0 in an example that none is sent to.

    Args:
        x: pytree of arrays [*shape].
        axis_name: the name of an enclosing vmap's axis of n examples.
        perm: pairs (source, destination) of indices in [0, n), each source and each destination at most once.

    Returns:
        The same pytree, shapes and dtypes.

    Raises:
        UnboundAxisError: no enclosing vmap has an axis of that name.
        TypeError: perm does not hold pairs of ints.
        ValueError: an index is out of range, or a source or destination is named twice.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.vmap(lambda x: fgrad.lax.ppermute(x, "i", [(0, 1), (1, 2)]), axis_name="i")(fnp.array([5, 6, 7])).tolist()
    [0, 5, 6]

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.ppermute.html
    """
    over = _axis("ppermute", axis_name)
    pairs = _pairs(perm, over)
    return tree.tree_map(lambda leaf: ppermute_p.bind(lift(leaf, "ppermute"), axis_name=over.name, perm=pairs), x)


def pshuffle(x: Any, axis_name: Hashable, perm: Sequence[int]) -> Any:
    """The operands in another order: y_i = x_perm[i].

    Args:
        x: pytree of arrays [*shape].
        axis_name: the name of an enclosing vmap's axis of n examples.
        perm: a permutation of 0 .. n - 1.

    Raises:
        UnboundAxisError: no enclosing vmap has an axis of that name.
        TypeError: perm does not hold ints.
        ValueError: perm is no permutation of the examples.

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.vmap(lambda x: fgrad.lax.pshuffle(x, "i", [2, 0, 1]), axis_name="i")(fnp.array([5, 6, 7])).tolist()
    [7, 5, 6]

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.pshuffle.html
    """
    over = _axis("pshuffle", axis_name)
    try:
        sources = [source.__index__() for source in perm]
    except (TypeError, AttributeError):
        raise TypeError(f"pshuffle: perm must be a sequence of ints, got {perm!r}. Write [1, 2, 0].") from None
    if sorted(sources) != list(range(over.size)):
        raise ValueError(
            f"pshuffle: perm must be a permutation of the {over.size} examples of {over.name!r}, got {sources}. "
            "Name each index once, or use ppermute."
        )
    return ppermute(x, axis_name, [(source, i) for i, source in enumerate(sources)])


def _pairs(perm: Any, over: Axis) -> tuple[tuple[int, int], ...]:
    try:
        pairs = tuple((s.__index__(), d.__index__()) for s, d in perm)
    except (TypeError, ValueError, AttributeError):
        raise TypeError(
            f"ppermute: perm must be a sequence of pairs (source, destination) of ints, got {perm!r}. "
            "Write [(0, 1), (1, 0)]."
        ) from None
    for what, used in (("sources", [s for s, _ in pairs]), ("destinations", [d for _, d in pairs])):
        if any(not 0 <= i < over.size for i in used) or len(set(used)) != len(used):
            raise ValueError(
                f"ppermute: {what} must be distinct and in [0, {over.size}), got {used} for {over.size} examples of "
                f"{over.name!r}. Correct the pairs."
            )
    return pairs
