"""Shapes and places: reshape, transpose, rev, broadcast, squeeze, iota, concatenate, pad, slice, dilate, undilate."""

from __future__ import annotations

import operator as _operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.static import flag, items, sequence, static_int
from fgrad.core.trace import Tracer
from fgrad.errors import ConcretizationError
from fgrad.lax.common import ArrayLike, canonical_axes, canonical_axis, canonical_shape, promote_dtypes
from fgrad.primitives.broadcast import broadcast_in_dim_p
from fgrad.primitives.concatenate import concatenate_p
from fgrad.primitives.dilate import dilate_p, undilate_p
from fgrad.primitives.iota import iota_p
from fgrad.primitives.padding import pad_p, slice_p
from fgrad.primitives.reshape import reshape_p
from fgrad.primitives.rev import rev_p
from fgrad.primitives.transpose import transpose_p

MOST = 2**48  # sums and products of such with sizes of arrays fit into 64 bits

DTypeLike = Any  # a NumPy dtype, its name, a NumPy scalar type, or Python's int, float, complex
ShapeLike = Sequence[int] | int


def integers(name: str, what: str, values: Any) -> tuple[int, ...]:
    """Static integers of any sign, one for each axis."""
    try:
        out = tuple(values)
        if any([type(v) is not int for v in out]):
            for v in out:
                if isinstance(v, Tracer):
                    v.__index__()  # raises: the error names the argument and the user's line
            out = tuple(_operator.index(v) for v in out)
    except ConcretizationError:
        raise
    except TypeError as e:
        raise TypeError(f"{name}: {what} must be a sequence of integers, got {values!r}. Use a tuple of ints.") from e
    if out and not -MOST < min(out) <= max(out) < MOST:
        raise ValueError(f"{name}: {what} must be between -2**48 and 2**48, got {out}. No array is as large.")
    return out


def reshape(operand: ArrayLike, new_sizes: ShapeLike, dimensions: Sequence[int] | None = None) -> Array:
    """The same elements in row-major order under another shape.

    Args:
        operand: array of any shape and dtype.
        new_sizes: the new shape, of as many elements.
        dimensions: the order in which the operand's axes are read; default: as they are.

    Returns:
        Array [*new_sizes] of operand's dtype.

    Raises:
        ValueError: the shapes hold different numbers of elements, or dimensions is no permutation.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.reshape(np.arange(6, dtype=np.int32), (3, 2))
    Array([[0, 1],
           [2, 3],
           [4, 5]], dtype=int32)
    """
    x = lift(operand, "reshape")
    shape = canonical_shape("reshape", new_sizes)
    if dimensions is not None:
        x = transpose(x, dimensions)
    return x if x.shape == shape else reshape_p.bind(x, new_sizes=shape)


def transpose(operand: ArrayLike, permutation: Sequence[int]) -> Array:
    """Axes in another order: axis i of the result is axis permutation[i] of operand.

    Args:
        operand: array of any dtype.
        permutation: each axis once.

    Returns:
        Array of the permuted shape.

    Raises:
        ValueError: permutation does not name each axis once.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.transpose(np.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    x = lift(operand, "transpose")
    axes = canonical_axes("transpose", permutation, x.ndim)
    return x if axes == tuple(range(x.ndim)) else transpose_p.bind(x, permutation=axes)


def rev(operand: ArrayLike, dimensions: Sequence[int]) -> Array:
    """The order of elements reversed along the given axes: out[.., i, ..] = operand[.., n - 1 - i, ..].

    Args:
        operand: array of any dtype.
        dimensions: distinct axes.

    Returns:
        Array of operand's shape.

    Raises:
        ValueError: an axis is out of range or named twice.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.rev(np.int32([[1, 2], [3, 4]]), (1,))
    Array([[2, 1],
           [4, 3]], dtype=int32)
    """
    x = lift(operand, "rev")
    return rev_p.bind(x, dimensions=tuple(sorted(canonical_axes("rev", dimensions, x.ndim))))


def broadcast(operand: ArrayLike, sizes: ShapeLike) -> Array:
    """operand repeated along new leading axes: [*shape] becomes [*sizes, *shape].

    Args:
        operand: array of any dtype.
        sizes: sizes of the new axes.

    Returns:
        Array [*sizes, *shape].

    Raises:
        ValueError: a size is negative.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.broadcast(np.zeros(3), (2,)).shape
    (2, 3)
    """
    x, new = lift(operand, "broadcast"), canonical_shape("broadcast", sizes)
    return broadcast_in_dim(x, (*new, *x.shape), range(len(new), len(new) + x.ndim))


def broadcast_in_dim(operand: ArrayLike, shape: ShapeLike, broadcast_dimensions: Sequence[int]) -> Array:
    """operand with axis i as axis broadcast_dimensions[i] of ``shape``, repeated along the others.

    out[j] = operand[j at broadcast_dimensions], read at 0 where operand's axis has size 1.

    Args:
        operand: array of any dtype.
        shape: the result's shape.
        broadcast_dimensions: strictly increasing axes of the result, one for each axis of operand.

    Returns:
        Array [*shape].

    Raises:
        ValueError: an axis of operand has neither size 1 nor that of its place, or the places are not increasing.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.broadcast_in_dim(np.int32([1, 2]), (2, 3), (0,))
    Array([[1, 1, 1],
           [2, 2, 2]], dtype=int32)
    """
    x, shape = lift(operand, "broadcast_in_dim"), canonical_shape("broadcast_in_dim", shape)
    dims = integers("broadcast_in_dim", "broadcast_dimensions", broadcast_dimensions)
    if x.shape == shape and dims == tuple(range(x.ndim)):
        return x
    return broadcast_in_dim_p.bind(x, shape=shape, broadcast_dimensions=dims)


def broadcast_shapes(*shapes: ShapeLike) -> tuple[int, ...]:
    """The shape that arrays of the given shapes broadcast to: aligned at the end, sizes equal or 1.

    Raises:
        ValueError: two sizes differ and neither is 1.

    >>> from fgrad import lax
    >>> lax.broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    given = [canonical_shape("broadcast_shapes", s) for s in shapes]
    try:
        return np.broadcast_shapes(*given)
    except ValueError as e:
        raise ValueError(
            f"broadcast_shapes: aligned sizes must be equal or 1, got {' and '.join(map(str, given))}. "
            "Reshape an operand."
        ) from e


def squeeze(array: ArrayLike, dimensions: Sequence[int]) -> Array:
    """array without the given axes, which must have size 1.

    Raises:
        ValueError: an axis has another size, is out of range or named twice.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.squeeze(np.zeros((2, 1, 3)), (1,)).shape
    (2, 3)
    """
    x = lift(array, "squeeze")
    axes = canonical_axes("squeeze", dimensions, x.ndim)
    for a in axes:
        if x.shape[a] != 1:
            raise ValueError(
                f"squeeze: only axes of size 1 can be dropped, got axis {a} of size {x.shape[a]} in shape {x.shape}. "
                "Index it, or use reshape."
            )
    return reshape(x, tuple(n for d, n in enumerate(x.shape) if d not in axes))


def expand_dims(array: ArrayLike, dimensions: Sequence[int]) -> Array:
    """array with new axes of size 1, at the places they have in the result.

    Raises:
        ValueError: a place is out of range or named twice.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.expand_dims(np.zeros((2, 3)), (0, -1)).shape
    (1, 2, 3, 1)
    """
    x = lift(array, "expand_dims")
    several = items(dimensions)
    ndim = x.ndim + (1 if several is None else len(several))
    new = canonical_axes("expand_dims", dimensions, ndim)
    sizes = iter(x.shape)
    return reshape(x, tuple(1 if d in new else next(sizes) for d in range(ndim)))


def iota(dtype: DTypeLike, size: int) -> Array:
    """0, 1, ..., size - 1.

    Args:
        dtype: a number's.
        size: how many.

    Returns:
        Array [size] of dtype.

    Raises:
        TypeError: dtype is bool, or size is no integer.

    >>> from fgrad import lax
    >>> lax.iota("float32", 3)
    Array([0., 1., 2.], dtype=float32)
    """
    return broadcasted_iota(dtype, (size,), 0)


def broadcasted_iota(dtype: DTypeLike, shape: ShapeLike, dimension: int) -> Array:
    """Each element's own index along ``dimension``.

    Args:
        dtype: a number's.
        shape: the result's shape.
        dimension: an axis of it.

    Returns:
        Array [*shape] of dtype.

    Raises:
        TypeError: dtype is bool.
        ValueError: dimension is out of range.

    >>> from fgrad import lax
    >>> lax.broadcasted_iota("int32", (2, 3), 1)
    Array([[0, 1, 2],
           [0, 1, 2]], dtype=int32)
    """
    sizes = canonical_shape("iota", shape)
    axis = canonical_axis("iota", dimension, len(sizes))
    return iota_p.bind(dtype=dtypes.canonical(dtype), shape=sizes, dimension=axis)


def concatenate(operands: Sequence[ArrayLike], dimension: int) -> Array:
    """Arrays one after another along an axis.

    Args:
        operands: arrays of one dtype, [.., n_i, ..], equal but for the sizes n_i of that axis.
        dimension: the axis.

    Returns:
        Array [.., n_0 + n_1 + ..., ..].

    Raises:
        TypeError: dtypes differ.
        ValueError: other sizes differ, there are no operands, or the axis is out of range.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.concatenate([np.int32([1, 2]), np.int32([3])], 0)
    Array([1, 2, 3], dtype=int32)
    """
    xs = promote_dtypes("concatenate", *sequence("concatenate", "operands", operands))
    if len(xs) == 1:
        canonical_axis("concatenate", dimension, xs[0].ndim)
        return xs[0]
    return concatenate_p.bind(*xs, dimension=canonical_axis("concatenate", dimension, xs[0].ndim) if xs else 0)


def pad(operand: ArrayLike, padding_value: ArrayLike, padding_config: Sequence[tuple[int, int, int]]) -> Array:
    """Pads, crops and spreads: axis d, with (lo, hi, interior) = padding_config[d], grows from n to

        lo + n + max(n - 1, 0) * interior + hi,

    element i lands at lo + i * (interior + 1), and all other positions hold padding_value.  Negative lo and hi crop.

    Args:
        operand: array [*shape] of any dtype.
        padding_value: scalar of operand's dtype.
        padding_config: (lo, hi, interior) for each axis; interior >= 0.

    Returns:
        Array of operand's dtype.

    Raises:
        TypeError: dtypes differ.
        ValueError: a size would be negative, or padding_config does not fit.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.pad(np.int32([1, 2, 3]), 0, [(1, -1, 1)])
    Array([0, 1, 0, 2, 0], dtype=int32)
    """
    x, value = promote_dtypes("pad", operand, padding_value)
    entries = sequence("pad", "padding_config", padding_config)
    config: Any = tuple(integers("pad", "padding_config", entry) for entry in entries)
    for entry in config:
        if len(entry) != 3:
            raise ValueError(f"pad: padding_config must hold (lo, hi, interior) triples, got {entry}. Give all three.")
    return pad_p.bind(x, value, padding_config=config)


def slice(
    operand: ArrayLike, start_indices: Sequence[int], limit_indices: Sequence[int], strides: Sequence[int] | None = None
) -> Array:
    """out[i, ...] = operand[start + i * stride, ...] for start + i * stride < limit, on every axis.

    Args:
        operand: array [*shape] of any dtype.
        start_indices: 0 <= start <= limit for each axis; nothing wraps.
        limit_indices: limit <= size for each axis.
        strides: positive; default: all 1.

    Returns:
        Array of ceil((limit - start) / stride) elements on each axis.

    Raises:
        ValueError: an index is out of range, a stride is not positive, or lengths differ.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.slice(np.arange(8, dtype=np.int32), (1,), (7,), (2,))
    Array([1, 3, 5], dtype=int32)
    """
    x = lift(operand, "slice")
    return slice_p.bind(
        x,
        start_indices=integers("slice", "start_indices", start_indices),
        limit_indices=integers("slice", "limit_indices", limit_indices),
        strides=(1,) * x.ndim if strides is None else integers("slice", "strides", strides),
    )


def slice_in_dim(
    operand: ArrayLike, start_index: int | None, limit_index: int | None, stride: int = 1, axis: int = 0
) -> Array:
    """``slice`` along one axis; None is an end of the axis, and negative indices count from its end.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.slice_in_dim(np.arange(6, dtype=np.int32), 1, -1)
    Array([1, 2, 3, 4], dtype=int32)
    """
    x = lift(operand, "slice_in_dim")
    axis = canonical_axis("slice_in_dim", axis, x.ndim)
    start, limit, strides = [0] * x.ndim, list(x.shape), [1] * x.ndim
    n = x.shape[axis]
    if start_index is not None:
        i = static_int("slice_in_dim", "start_index must be an integer or None", start_index)
        start[axis] = i + n if i < 0 else i
    if limit_index is not None:
        i = static_int("slice_in_dim", "limit_index must be an integer or None", limit_index)
        limit[axis] = i + n if i < 0 else i
    strides[axis] = stride
    return slice(x, start, limit, strides)


def index_in_dim(operand: ArrayLike, index: int, axis: int = 0, keepdims: bool = True) -> Array:
    """The elements at one index of an axis, which stays with size 1 if ``keepdims``; negative indices wrap.

    Raises:
        ValueError: the index is out of range.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.index_in_dim(np.int32([[1, 2], [3, 4]]), -1, axis=1, keepdims=False)
    Array([2, 4], dtype=int32)
    """
    x = lift(operand, "index_in_dim")
    axis = canonical_axis("index_in_dim", axis, x.ndim)
    n, i = x.shape[axis], static_int("index_in_dim", "the index must be an integer", index)
    if not -n <= i < n:
        raise ValueError(
            f"index_in_dim: the index must be in [{-n}, {n}), got {i} for axis {axis} of shape {x.shape}. "
            "Change the index."
        )
    out = slice_in_dim(x, i % n, i % n + 1, axis=axis)
    return out if flag("index_in_dim", "keepdims", keepdims) else squeeze(out, (axis,))


def dilate(operand: ArrayLike, factors: Sequence[int]) -> Array:
    """factor - 1 zeros between neighbours: out[i * factor] = operand[i]; n becomes 1 + (n - 1) * factor, 0 stays 0.

    The transpose of ``undilate`` (which restores what undilate left over at the end by padding).

    Args:
        operand: array [*shape] of any dtype.
        factors: a positive integer for each axis.

    Returns:
        Array of operand's dtype.

    Raises:
        ValueError: a factor is not positive, or their number is not that of the axes.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.dilate(np.int32([1, 2, 3]), (3,))
    Array([1, 0, 0, 2, 0, 0, 3], dtype=int32)
    """
    return dilate_p.bind(lift(operand, "dilate"), factors=integers("dilate", "factors", factors))


def undilate(operand: ArrayLike, factors: Sequence[int]) -> Array:
    """Every factor-th element from the first: out[i] = operand[i * factor]; n becomes ceil(n / factor).

    The transpose of ``dilate``, and its inverse: undilate(dilate(x, f), f) = x.

    Args:
        operand: array [*shape] of any dtype.
        factors: a positive integer for each axis.

    Returns:
        Array of operand's dtype.

    Raises:
        ValueError: a factor is not positive, or their number is not that of the axes.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.undilate(np.int32([1, 0, 0, 2, 0, 0, 3, 9]), (3,))
    Array([1, 2, 3], dtype=int32)
    """
    return undilate_p.bind(lift(operand, "undilate"), factors=integers("undilate", "factors", factors))
