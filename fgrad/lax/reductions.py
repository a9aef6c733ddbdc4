"""Reductions over whole axes: the axes vanish from the shape."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.array import Array, ConcreteArray, lift
from fgrad.core.primitive import Primitive
from fgrad.lax.bitwise import bitwise_and, bitwise_or, bitwise_xor
from fgrad.lax.common import ArrayLike, canonical_axes, canonical_axis, promote_dtypes
from fgrad.lax.elementwise import add, max, min, mul
from fgrad.lax.shape import pad, reshape, slice_in_dim, transpose
from fgrad.primitives.broadcast import reduce_sum_p
from fgrad.primitives.define import check_same
from fgrad.primitives.reductions import (
    argmax_p,
    argmin_p,
    reduce_and_p,
    reduce_max_p,
    reduce_min_p,
    reduce_or_p,
    reduce_prod_p,
)

DTypeLike = Any  # a NumPy integer dtype, its name, or Python's int


def _reduce(prim: Primitive, operand: ArrayLike, axes: Sequence[int]) -> Array:
    x = lift(operand, prim.name)
    return prim.bind(x, axes=tuple(sorted(canonical_axes(prim.name, axes, x.ndim))))


def reduce_sum(operand: ArrayLike, axes: Sequence[int]) -> Array:
    """Sum over ``axes`` in operand's dtype: integers wrap, float16 and bfloat16 are added in float32; of nothing, 0.

    Args:
        operand: array of numbers.
        axes: distinct axes.

    Returns:
        Array of the remaining axes.

    Raises:
        TypeError: operand is bool.
        ValueError: an axis is out of range or named twice.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.reduce_sum(np.int32([[1, 2], [3, 4]]), (0,))
    Array([4, 6], dtype=int32)
    """
    return _reduce(reduce_sum_p, operand, axes)


def reduce_prod(operand: ArrayLike, axes: Sequence[int]) -> Array:
    """Product over ``axes`` in operand's dtype (as ``reduce_sum``); of nothing, 1.

    Every derivative is right where factors are zero: it is that of a tree of multiplications, which divides nothing.

    Raises:
        TypeError: operand is bool.
        ValueError: an axis is out of range or named twice.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.reduce_prod(np.int32([[1, 2], [3, 4]]), (0,))
    Array([3, 8], dtype=int32)
    """
    return _reduce(reduce_prod_p, operand, axes)


def reduce_max(operand: ArrayLike, axes: Sequence[int]) -> Array:
    """Maximum over ``axes``; NaN propagates; of nothing, -inf, the smallest integer or False.

    Elements that tie for the maximum share the derivative equally.

    Raises:
        TypeError: operand is complex.
        ValueError: an axis is out of range or named twice.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.reduce_max(np.int32([[1, 9], [3, 4]]), (0,))
    Array([3, 9], dtype=int32)
    """
    return _reduce(reduce_max_p, operand, axes)


def reduce_min(operand: ArrayLike, axes: Sequence[int]) -> Array:
    """Minimum over ``axes``; NaN propagates; of nothing, +inf, the largest integer or True.

    Elements that tie for the minimum share the derivative equally.

    Raises:
        TypeError: operand is complex.
        ValueError: an axis is out of range or named twice.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.reduce_min(np.int32([[1, 9], [3, 4]]), (0,))
    Array([1, 4], dtype=int32)
    """
    return _reduce(reduce_min_p, operand, axes)


def reduce_and(operand: ArrayLike, axes: Sequence[int]) -> Array:
    """Logical and over ``axes`` (of integers: of each bit); of nothing, all bits set.

    Raises:
        TypeError: operand is neither bool nor integer.
        ValueError: an axis is out of range or named twice.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.reduce_and(np.array([[True, True], [True, False]]), (0,))
    Array([ True, False], dtype=bool)
    """
    return _reduce(reduce_and_p, operand, axes)


def reduce_or(operand: ArrayLike, axes: Sequence[int]) -> Array:
    """Logical or over ``axes`` (of integers: of each bit); of nothing, 0.

    Raises:
        TypeError: operand is neither bool nor integer.
        ValueError: an axis is out of range or named twice.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.reduce_or(np.array([[True, True], [False, False]]), (1,))
    Array([ True, False], dtype=bool)
    """
    return _reduce(reduce_or_p, operand, axes)


def reduce_xor(operand: ArrayLike, axes: Sequence[int]) -> Array:
    """Exclusive or over ``axes``, of each bit of integers: a tree of pairs; of nothing, 0.

    Raises:
        TypeError: operand is neither bool nor integer.
        ValueError: an axis is out of range or named twice.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.reduce_xor(np.int32([[1, 2], [3, 6]]), (1,))
    Array([3, 5], dtype=int32)
    """
    x = lift(operand, "reduce_xor")
    check_same("reduce_xor", (x.aval,), "integer or bool")
    gone = canonical_axes("reduce_xor", axes, x.ndim)
    kept = tuple(d for d in range(x.ndim) if d not in gone)
    rows = tuple(x.shape[d] for d in kept)
    n = math.prod(x.shape[d] for d in gone)
    x = reshape(transpose(x, (*kept, *gone)), (*rows, n))
    nothing = ConcreteArray(np.zeros((), x.dtype))
    if n == 0:
        return reshape(pad(x, nothing, [(0, 0, 0)] * len(rows) + [(0, 1, 0)]), rows)
    while n > 1:
        x = pad(x, nothing, [(0, 0, 0)] * len(rows) + [(0, n % 2, 0)]) if n % 2 else x
        n = -(-n // 2)
        x = bitwise_xor(slice_in_dim(x, 0, n, axis=-1), slice_in_dim(x, n, 2 * n, axis=-1))
    return reshape(x, rows)


def _position(prim: Primitive, operand: ArrayLike, axis: int, index_dtype: DTypeLike) -> Array:
    x = lift(operand, prim.name)
    axes = (canonical_axis(prim.name, axis, x.ndim),)
    return prim.bind(x, axes=axes, index_dtype=dtypes.canonical(index_dtype))


def argmax(operand: ArrayLike, axis: int, index_dtype: DTypeLike) -> Array:
    """Position of the first maximum along ``axis`` (of the first NaN, if there is one).

    Args:
        operand: array of real numbers or bools.
        axis: an axis that is not empty.
        index_dtype: an integer dtype that holds every position.

    Returns:
        Array of the remaining axes, of index_dtype.

    Raises:
        TypeError: operand is complex, or index_dtype no integer dtype.
        ValueError: the axis is empty, out of range or too long for index_dtype.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.argmax(np.float32([[1, 9], [4, 4]]), 1, "int32")
    Array([1, 0], dtype=int32)
    """
    return _position(argmax_p, operand, axis, index_dtype)


def argmin(operand: ArrayLike, axis: int, index_dtype: DTypeLike) -> Array:
    """Position of the first minimum along ``axis`` (of the first NaN, if there is one); see ``argmax``.

    Raises:
        TypeError: operand is complex, or index_dtype no integer dtype.
        ValueError: the axis is empty, out of range or too long for index_dtype.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.argmin(np.float32([[1, 9], [4, 4]]), 1, "int32")
    Array([0, 0], dtype=int32)
    """
    return _position(argmin_p, operand, axis, index_dtype)


_OF_COMPUTATION: dict[Callable[..., Any], tuple[Callable[..., Array], Callable[[np.dtype], Any]]] = {
    add: (reduce_sum, lambda dtype: 0),
    mul: (reduce_prod, lambda dtype: 1),
    max: (reduce_max, dtypes.least),
    min: (reduce_min, dtypes.greatest),
    bitwise_and: (reduce_and, lambda dtype: True if dtype == dtypes.bool_ else np.array(-1).astype(dtype)),
    bitwise_or: (reduce_or, lambda dtype: 0),
    bitwise_xor: (reduce_xor, lambda dtype: 0),
}


def is_identity(init: Array, identity: Any) -> bool:
    """Whether a known scalar changes nothing; False for one that is traced."""
    return type(init) is ConcreteArray and builtins.bool(np.asarray(init) == identity)


def reduce(
    operands: ArrayLike, init_values: ArrayLike, computation: Callable[[Any, Any], Any], dimensions: Sequence[int]
) -> Array:
    """operands folded over axes by a binary operation of lax, starting from init_values.

    Args:
        operands: one array.
        init_values: scalar of its dtype.
        computation: lax.add, mul, max, min, bitwise_and, bitwise_or or bitwise_xor.
        dimensions: distinct axes.

    Returns:
        Array of the remaining axes.

    Raises:
        TypeError: computation is none of these, or dtypes differ.
        ValueError: init_values is no scalar, or an axis is out of range or named twice.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.reduce(np.int32([[1, 2], [3, 4]]), 10, lax.add, (1,))
    Array([13, 17], dtype=int32)
    """
    if not callable(computation) or computation not in _OF_COMPUTATION:
        raise TypeError(
            f"reduce: computation must be lax.add, mul, max, min, bitwise_and, bitwise_or or bitwise_xor, "
            f"got {computation!r}. Write other folds with lax.scan or a Python loop."
        )
    x, init = promote_dtypes("reduce", operands, init_values)
    if init.ndim != 0:
        raise ValueError(f"reduce: init_values must be a scalar, got shape {init.shape}. Pass one number.")
    fold, identity = _OF_COMPUTATION[computation]
    out = fold(x, dimensions)
    return out if is_identity(init, identity(x.dtype)) and init.dtype == x.dtype else computation(out, init)
