"""Sorting and searching: sort, argsort, lexsort, searchsorted.

NaNs are the largest numbers and equal, and every sort is stable, as in ``lax.sort``.  ``unique`` and other functions
whose result has a size that depends on values are not here: such a result has no shape to trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.static import choice, flag
from fgrad.lax.common import canonical_axis
from fgrad.numpy.indexing import take
from fgrad.numpy.promotion import promote_dtypes
from fgrad.primitives.broadcast import full, full_like


def _line(name: str, a: Any, axis: int | None) -> tuple[Array, int]:
    x = lift(a, name)
    if axis is None:
        return lax.reshape(x, (x.size,)), 0
    return x, canonical_axis(name, axis, x.ndim)


def _refuse_order(name: str, kind: Any, order: Any) -> None:
    if kind is not None or order is not None:
        raise TypeError(
            f"{name}: kind and order must be None, got kind={kind!r} and order={order!r}: there is one algorithm, "
            "which is stable, and there are no named fields. Leave them out."
        )


def _places(x: Array, axis: int) -> Array:
    return lax.broadcasted_iota(dtypes.int32, x.shape, axis)


def sort(
    a: Any,
    axis: int | None = -1,
    *,
    kind: None = None,
    order: None = None,
    stable: bool = True,
    descending: bool = False,
) -> Array:
    """``a`` in ascending order along ``axis`` (of the flattened operand for None), NaNs last; reversed if descending.

    https://docs.jax.dev/en/latest/_autosummary/jax.numpy.sort.html

    >>> import fgrad.numpy as fnp
    >>> fnp.sort(fnp.array([3, 1, 2]), descending=True).tolist()
    [3, 2, 1]
    """
    _refuse_order("sort", kind, order)
    x, axis = _line("sort", a, axis)
    out = lax.sort(x, axis, stable)
    return lax.rev(out, (axis,)) if flag("sort", "descending", descending) else out


def argsort(
    a: Any,
    axis: int | None = -1,
    *,
    kind: None = None,
    order: None = None,
    stable: bool = True,
    descending: bool = False,
) -> Array:
    """The places, int32, of the elements of ``sort(a, axis)``; equal elements keep their order either way.

    https://docs.jax.dev/en/latest/_autosummary/jax.numpy.argsort.html

    >>> import fgrad.numpy as fnp
    >>> fnp.argsort(fnp.array([3, 1, 3]), descending=True).tolist()
    [0, 2, 1]
    """
    _refuse_order("argsort", kind, order)
    x, axis = _line("argsort", a, axis)
    if not flag("argsort", "descending", descending):
        return lax.sort_key_val(x, _places(x, axis), axis, stable)[1]
    # ascending from the back: equal elements then come out of the reversed result first to last
    back = lax.sort_key_val(lax.rev(x, (axis,)), lax.rev(_places(x, axis), (axis,)), axis, stable)[1]
    return lax.rev(back, (axis,))


def lexsort(keys: Any, axis: int = -1) -> Array:
    """The places, int32, that sort by the last key first, its ties by the one before it, and so on.

    ``keys``: arrays of one shape, or one array whose first axis holds them.

    https://docs.jax.dev/en/latest/_autosummary/jax.numpy.lexsort.html

    >>> import fgrad.numpy as fnp
    >>> fnp.lexsort((fnp.array([1, 0, 2]), fnp.array([5, 5, 4]))).tolist()
    [2, 1, 0]
    """
    if not isinstance(keys, Sequence):
        stacked = lift(keys, "lexsort")
        n = stacked.shape[0] if stacked.ndim else 0
        keys = [lax.index_in_dim(stacked, i, keepdims=False) for i in range(n)]
    arrays = [lift(k, "lexsort") for k in keys]
    if not arrays:
        raise TypeError("lexsort: at least one key is needed, got none. Give the arrays to sort by.")
    if arrays[0].ndim == 0:
        return full((), 0, dtypes.int32)
    axis = canonical_axis("lexsort", axis, arrays[0].ndim)
    return lax.sort((*arrays[::-1], _places(arrays[0], axis)), axis, num_keys=len(arrays))[-1]


def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Array:
    """The places, int32, where ``v`` must be inserted into the sorted ``a`` to keep it sorted.

        side 'left':  how many a[i] < v;      side 'right':  how many a[i] <= v

    Args:
        a: array [n] of real numbers in ascending order, NaNs last; or, with ``sorter``, in any order.
        v: array [*shape].
        side: which place among equal elements.
        sorter: integer array [n], as from ``argsort(a)``.

    Returns:
        Array [*shape] of int32.

    Raises:
        ValueError: a is not of one axis, or side neither 'left' nor 'right'.

    https://docs.jax.dev/en/latest/_autosummary/jax.numpy.searchsorted.html

    >>> import fgrad.numpy as fnp
    >>> fnp.searchsorted(fnp.array([1, 2, 2, 3]), fnp.array([2, 9]), side="right").tolist()
    [3, 4]
    """
    choice("searchsorted", "side", side, ("left", "right"))
    x, v = promote_dtypes("searchsorted", a, v)
    if x.ndim != 1:
        raise ValueError(f"searchsorted: a must have one axis, got shape {x.shape}. Use vmap for many at once.")
    if sorter is not None:
        if (order := lift(sorter, "searchsorted")).shape != x.shape:
            raise ValueError(
                f"searchsorted: sorter must have an index for each element of a, got shape {order.shape} for "
                f"{x.shape}. Use argsort(a)."
            )
        x = take(x, sorter, mode="clip")
    (n,) = x.shape
    # Binary search: the answer is in [low, high]; the middle, below high, decides between its halves.
    low, high = full(v.shape, 0, dtypes.int32), full(v.shape, n, dtypes.int32)
    for _ in range(n.bit_length()):
        middle = lax.div(lax.add(low, high), full_like(low, 2))
        value = take(x, middle, mode="clip")
        above = _ahead(value, v) if side == "left" else lax.bitwise_not(_ahead(v, value))
        above = lax.bitwise_and(above, lax.lt(low, high))
        low = lax.select(above, lax.add(middle, full_like(middle, 1)), low)
        high = lax.select(above, high, middle)
    return low


def _ahead(x: Array, y: Array) -> Array:
    """x < y where NaN is the largest number."""
    out = lax.lt(x, y)
    return lax.bitwise_or(out, lax.bitwise_and(lax.ne(y, y), lax.eq(x, x))) if dtypes.is_float(x.dtype) else out
