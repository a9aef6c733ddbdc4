"""Sorting along an axis: sort, sort_key_val, top_k."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.static import flag, static_int
from fgrad.lax.common import ArrayLike, canonical_axis
from fgrad.lax.shape import broadcasted_iota, rev, slice_in_dim
from fgrad.primitives.sort import sort_p


@overload
def sort(operand: ArrayLike, dimension: int = -1, is_stable: bool = True, num_keys: int = 1) -> Array: ...
@overload
def sort(
    operand: Sequence[ArrayLike], dimension: int = -1, is_stable: bool = True, num_keys: int = 1
) -> tuple[Array, ...]: ...
def sort(operand: Any, dimension: int = -1, is_stable: bool = True, num_keys: int = 1) -> Any:
    """Arrays in ascending order along an axis, the others in the same order as the keys.

    The first operand is the primary key, the second breaks its ties, and so on through the first ``num_keys``.  NaNs
    come last and are equal, as are -0 and 0; complex keys order by their real, then by their imaginary parts.  The
    sort is stable: elements with equal keys keep their order (``is_stable=False`` promises less and does the same).

    Args:
        operand: array [*shape], or a sequence of arrays of one shape and any dtypes.
        dimension: the axis.
        is_stable: kept for programs written for JAX.
        num_keys: how many of the operands are keys.

    Returns:
        Array [*shape], or a tuple of one for each operand.

    Raises:
        TypeError: no operand.
        ValueError: shapes differ, the axis or num_keys is out of range.

    https://docs.jax.dev/en/latest/_autosummary/jax.lax.sort.html

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.sort((np.int32([2, 1, 2]), np.int32([7, 8, 9])))
    (Array([1, 2, 2], dtype=int32), Array([8, 7, 9], dtype=int32))
    """
    several = isinstance(operand, Sequence)
    operands = [lift(x, "sort") for x in (operand if several else (operand,))]
    axis = canonical_axis("sort", dimension, operands[0].ndim) if operands else 0
    outs = sort_p.bind(
        *operands,
        dimension=axis,
        num_keys=static_int("sort", "num_keys must be an integer", num_keys),
        is_stable=flag("sort", "is_stable", is_stable),
    )
    return tuple(outs) if several else outs[0]


def sort_key_val(
    keys: ArrayLike, values: ArrayLike, dimension: int = -1, is_stable: bool = True
) -> tuple[Array, Array]:
    """``keys`` in ascending order along an axis, and ``values`` in the same order; see ``sort``.

    Raises:
        ValueError: shapes differ, or the axis is out of range.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.sort_key_val.html.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.sort_key_val(np.int32([3, 1]), np.float32([0.5, 0.25]))
    (Array([1, 3], dtype=int32), Array([0.25, 0.5 ], dtype=float32))
    """
    sorted_keys, sorted_values = sort((keys, values), dimension, is_stable)
    return sorted_keys, sorted_values


def top_k(operand: ArrayLike, k: int, *, axis: int = -1) -> tuple[Array, Array]:
    """The k largest elements along an axis, in descending order, and their places.

    Of equal elements the first comes first; NaN counts as the largest.

    Args:
        operand: array of real numbers or bools, of n elements along ``axis``.
        k: how many, at most n.
        axis: the axis.

    Returns:
        (values, places), k along the axis; places are int32.

    Raises:
        TypeError: operand is complex.
        ValueError: k is negative or above n, or the axis is out of range.

    https://docs.jax.dev/en/latest/_autosummary/jax.lax.top_k.html

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.top_k(np.int32([3, 9, 5, 9]), 3)
    (Array([9, 9, 5], dtype=int32), Array([1, 3, 2], dtype=int32))
    """
    x = lift(operand, "top_k")
    axis = canonical_axis("top_k", axis, x.ndim)
    k = static_int("top_k", "k must be an integer", k)
    n = x.shape[axis]
    if x.dtype.kind == "c":
        raise TypeError(f"top_k: operand must be real numbers or bools, got {x.dtype}. Take the real part, or abs.")
    if not 0 <= k <= n:
        raise ValueError(
            f"top_k: k must be in [0, {n}], the size of axis {axis} of shape {x.shape}, got {k}. Change k."
        )
    # ascending from the back: equal elements then come out of the reversed result first to last
    places = broadcasted_iota(dtypes.int32, x.shape, axis)
    outs = sort((rev(x, (axis,)), rev(places, (axis,))), axis)
    values, order = (slice_in_dim(rev(out, (axis,)), 0, k, axis=axis) for out in outs)
    return values, order
