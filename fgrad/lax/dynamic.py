"""Slices whose start is an array: dynamic_slice and dynamic_update_slice, through gather and scatter.

A start is moved so that the slice lies inside the operand, as in XLA: clamp(start, 0, size - slice size).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.static import flag, items, sequence
from fgrad.lax.common import ArrayLike, canonical_axis, canonical_shape, promote_dtypes
from fgrad.lax.shape import concatenate, expand_dims, reshape, slice, squeeze, transpose
from fgrad.primitives.arithmetic import add_p, max_p, min_p
from fgrad.primitives.broadcast import full, full_from
from fgrad.primitives.compare import lt_p, select_n_p
from fgrad.primitives.convert import convert
from fgrad.primitives.indexing import gather_p, scatter_p
from fgrad.primitives.iota import iota_p

Starts = Array | np.ndarray | Sequence[ArrayLike]


def _starts(name: str, starts: Starts, ndim: int) -> list[Array]:
    """A scalar int32 or int64 for each axis."""
    if isinstance(starts, (Array, np.ndarray)):
        vector = lift(starts, name)
        if vector.ndim != 1:
            raise ValueError(
                f"{name}: start_indices must be scalars in a sequence or a vector, got shape {vector.shape}. "
                f"Reshape it to ({ndim},)."
            )
        scalars: list[Array] = [squeeze(slice(vector, (i,), (i + 1,)), (0,)) for i in range(vector.shape[0])]
    else:
        scalars = [lift(s, name) for s in sequence(name, "start_indices", starts)]
    if len(scalars) != ndim:
        raise ValueError(
            f"{name}: start_indices must have one entry for each of the {ndim} axes, got {len(scalars)}. "
            f"Give {ndim} entries."
        )
    for s in scalars:
        if s.ndim != 0 or not dtypes.is_integer(s.dtype):
            raise TypeError(f"{name}: start_indices must be integer scalars, got {s.aval}. Convert them with .astype.")
    small = all(s.dtype.itemsize < 4 or s.dtype == dtypes.int32 for s in scalars)
    return [convert(s, dtypes.int32 if small else dtypes.int64) for s in scalars]


def _clamped(start: Array, n: int, size: int, wrap: bool) -> Array:
    def const(value: int) -> Any:
        return full((), value, start.dtype)

    if wrap:
        start = select_n_p.bind(lt_p.bind(start, const(0)), start, add_p.bind(start, const(n)))
    return max_p.bind(min_p.bind(start, const(n - size)), const(0))


def _block(
    name: str, shape: tuple[int, ...], starts: list[Array], sizes: tuple[int, ...], wrap: bool | Sequence[bool]
) -> tuple[tuple[int, ...], Any]:
    """(the axes that are not read whole, the indices of the block along them: sizes of these axes + (how many,))."""
    for d, (n, size) in enumerate(zip(shape, sizes)):
        if size > n:
            raise ValueError(
                f"{name}: the slice must not be larger than the operand, got size {size} on axis {d} of size {n}. "
                "Use a smaller slice."
            )
    what, several = "allow_negative_indices", items(wrap)
    wraps = [flag(name, what, w) for w in ((wrap,) * len(shape) if several is None else several)]
    if len(wraps) != len(shape):
        raise ValueError(
            f"{name}: {what} must have one entry for each of the {len(shape)} axes, got {wrap!r}. Use True."
        )
    axes = tuple(d for d, (n, size) in enumerate(zip(shape, sizes)) if size < n)
    block = tuple(sizes[a] for a in axes)
    columns = []
    for j, a in enumerate(axes):
        start = _clamped(starts[a], shape[a], sizes[a], wraps[a])
        steps = iota_p.bind(dtype=start.dtype, shape=block, dimension=j)
        columns.append(expand_dims(add_p.bind(full_from(start, block), steps), (len(block),)))
    return axes, concatenate(columns, len(block)) if columns else None


def dynamic_slice(
    operand: ArrayLike,
    start_indices: Starts,
    slice_sizes: Sequence[int],
    *,
    allow_negative_indices: bool | Sequence[bool] = True,
) -> Array:
    """out[i] = operand[start + i] for i < slice_sizes, starts moved so that the slice lies inside operand.

    Args:
        operand: array [*shape] of any dtype.
        start_indices: an integer scalar for each axis, in a sequence or a vector; may be traced.
        slice_sizes: static sizes, at most operand's.
        allow_negative_indices: whether a negative start counts from the end (for all axes, or for each).

    Returns:
        Array [*slice_sizes].

    Raises:
        TypeError: starts are not integers.
        ValueError: a slice size exceeds operand's, or the numbers of entries differ.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.dynamic_slice(np.arange(6, dtype=np.int32), (5,), (3,))
    Array([3, 4, 5], dtype=int32)
    """
    x = lift(operand, "dynamic_slice")
    sizes = _sizes("dynamic_slice", slice_sizes, x.ndim)
    starts = _starts("dynamic_slice", start_indices, x.ndim)
    axes, indices = _block("dynamic_slice", x.shape, starts, sizes, allow_negative_indices)
    if not axes:
        return x
    out = gather_p.bind(x, indices, axes=axes, mode="clip")  # [sliced axes, the rest]
    order = [*axes, *(d for d in range(x.ndim) if d not in axes)]
    return transpose(out, [order.index(d) for d in range(x.ndim)])


def _sizes(name: str, slice_sizes: Sequence[int], ndim: int) -> tuple[int, ...]:
    sizes = canonical_shape(name, slice_sizes)
    if len(sizes) != ndim:
        raise ValueError(
            f"{name}: slice_sizes must have one entry for each of the {ndim} axes, got {sizes}. Give {ndim} entries."
        )
    return sizes


def dynamic_slice_in_dim(
    operand: ArrayLike,
    start_index: ArrayLike,
    slice_size: int,
    axis: int = 0,
    *,
    allow_negative_indices: bool = True,
) -> Array:
    """``dynamic_slice`` along one axis, the others whole.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.dynamic_slice_in_dim(np.zeros((5, 3)), np.int32(1), 2).shape
    (2, 3)
    """
    x = lift(operand, "dynamic_slice_in_dim")
    axis = canonical_axis("dynamic_slice_in_dim", axis, x.ndim)
    starts: list[ArrayLike] = [0] * x.ndim
    sizes = list(x.shape)
    starts[axis], sizes[axis] = start_index, slice_size
    return dynamic_slice(x, starts, sizes, allow_negative_indices=allow_negative_indices)


def dynamic_index_in_dim(
    operand: ArrayLike,
    index: ArrayLike,
    axis: int = 0,
    keepdims: bool = True,
    *,
    allow_negative_indices: bool = True,
) -> Array:
    """The elements at one index of an axis, which stays with size 1 if ``keepdims``.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.dynamic_index_in_dim(np.int32([[1, 2], [3, 4]]), np.int32(1), keepdims=False)
    Array([3, 4], dtype=int32)
    """
    x = lift(operand, "dynamic_index_in_dim")
    axis = canonical_axis("dynamic_index_in_dim", axis, x.ndim)
    out = dynamic_slice_in_dim(x, index, 1, axis, allow_negative_indices=allow_negative_indices)
    return out if flag("dynamic_index_in_dim", "keepdims", keepdims) else squeeze(out, (axis,))


def dynamic_update_slice(
    operand: ArrayLike,
    update: ArrayLike,
    start_indices: Starts,
    *,
    allow_negative_indices: bool | Sequence[bool] = True,
) -> Array:
    """A copy of operand with out[start + i] = update[i], starts moved so that update lies inside operand.

    Args:
        operand: array [*shape] of any dtype.
        update: array of operand's dtype and number of axes, no axis larger.
        start_indices: an integer scalar for each axis, in a sequence or a vector; may be traced.
        allow_negative_indices: whether a negative start counts from the end (for all axes, or for each).

    Returns:
        Array [*shape].

    Raises:
        TypeError: dtypes differ, or starts are not integers.
        ValueError: update is larger than operand or has another number of axes.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.dynamic_update_slice(np.zeros(5, np.int32), np.int32([1, 2]), (9,))
    Array([0, 0, 0, 1, 2], dtype=int32)
    """
    x, new = promote_dtypes("dynamic_update_slice", operand, update)
    if new.ndim != x.ndim or new.dtype != x.dtype:
        kind = ValueError if new.dtype == x.dtype else TypeError
        raise kind(
            f"dynamic_update_slice: operand and update must have equal dtypes and numbers of axes, got {x.aval} and "
            f"{new.aval}. Reshape the update, or convert it with .astype."
        )
    starts = _starts("dynamic_update_slice", start_indices, x.ndim)
    axes, indices = _block("dynamic_update_slice", x.shape, starts, new.shape, allow_negative_indices)
    if not axes:
        return new
    order = [*axes, *(d for d in range(x.ndim) if d not in axes)]
    return scatter_p.bind(x, indices, transpose(new, order), axes=axes, mode="clip", kind="set")


def dynamic_update_slice_in_dim(
    operand: ArrayLike,
    update: ArrayLike,
    start_index: ArrayLike,
    axis: int,
    *,
    allow_negative_indices: bool = True,
) -> Array:
    """``dynamic_update_slice`` along one axis, the others whole.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.dynamic_update_slice_in_dim(np.zeros(4, np.int32), np.int32([1, 2]), np.int32(1), 0)
    Array([0, 1, 2, 0], dtype=int32)
    """
    x = lift(operand, "dynamic_update_slice_in_dim")
    starts: list[ArrayLike] = [0] * x.ndim
    starts[canonical_axis("dynamic_update_slice_in_dim", axis, x.ndim)] = start_index
    return dynamic_update_slice(x, update, starts, allow_negative_indices=allow_negative_indices)


def dynamic_update_index_in_dim(
    operand: ArrayLike,
    update: ArrayLike,
    index: ArrayLike,
    axis: int,
    *,
    allow_negative_indices: bool = True,
) -> Array:
    """A copy of operand with the elements at one index of an axis replaced; update may lack that axis.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.dynamic_update_index_in_dim(np.zeros((2, 2), np.int32), np.int32([1, 2]), 1, 0)
    Array([[0, 0],
           [1, 2]], dtype=int32)
    """
    x, new = lift(operand, "dynamic_update_index_in_dim"), lift(update, "dynamic_update_index_in_dim")
    axis = canonical_axis("dynamic_update_index_in_dim", axis, x.ndim)
    if new.ndim == x.ndim - 1:
        new = reshape(new, (*new.shape[:axis], 1, *new.shape[axis:]))
    return dynamic_update_slice_in_dim(x, new, index, axis, allow_negative_indices=allow_negative_indices)
