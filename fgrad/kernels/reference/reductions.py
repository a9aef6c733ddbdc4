"""Reductions over whole axes: the axes vanish from the shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fgrad.kernels.quiet import quietly
from fgrad.kernels.reference.numerics import identity, widen


def _reduce(ufunc: np.ufunc, kind: str, x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    wide = widen(x)
    neutral = identity(kind, wide.dtype)
    out = np.asarray(quietly(ufunc.reduce, wide, axis=tuple(axes), dtype=wide.dtype, initial=neutral))
    return out if out.dtype == x.dtype else out.astype(x.dtype)


def reduce_sum(x: np.ndarray, *, axes: Sequence[int]) -> np.ndarray:
    """Sum over `axes` in x's dtype (integers wrap; float16 and bfloat16 add in float32); empty sums are 0.

    >>> reduce_sum(np.array([[1, 2], [3, 4]]), axes=(0,))
    array([4, 6])
    """
    return _reduce(np.add, "add", x, axes)


def reduce_prod(x: np.ndarray, *, axes: Sequence[int]) -> np.ndarray:
    """Product over `axes` in x's dtype (integers wrap; float16 and bfloat16 in float32); empty products are 1.

    >>> reduce_prod(np.array([[1, 2], [3, 4]]), axes=(0,))
    array([3, 8])
    """
    return _reduce(np.multiply, "mul", x, axes)


def reduce_max(x: np.ndarray, *, axes: Sequence[int]) -> np.ndarray:
    """Maximum over `axes`; NaN propagates; an empty one is -inf, the smallest integer or False.

    >>> reduce_max(np.array([[1, 9], [3, 4]]), axes=(0,))
    array([3, 9])
    """
    return _reduce(np.maximum, "max", x, axes)


def reduce_min(x: np.ndarray, *, axes: Sequence[int]) -> np.ndarray:
    """Minimum over `axes`; NaN propagates; an empty one is +inf, the largest integer or True.

    >>> reduce_min(np.array([[1, 9], [3, 4]]), axes=(0,))
    array([1, 4])
    """
    return _reduce(np.minimum, "min", x, axes)


def reduce_and(x: np.ndarray, *, axes: Sequence[int]) -> np.ndarray:
    """Bitwise (for bool: logical) and over `axes`; an empty one has every bit set.

    >>> reduce_and(np.array([[True, True], [True, False]]), axes=(0,))
    array([ True, False])
    """
    return np.asarray(np.bitwise_and.reduce(x, axis=tuple(axes), dtype=x.dtype))


def reduce_or(x: np.ndarray, *, axes: Sequence[int]) -> np.ndarray:
    """Bitwise (for bool: logical) or over `axes`; an empty one is 0.

    >>> reduce_or(np.array([[True, True], [False, False]]), axes=(1,))
    array([ True, False])
    """
    return np.asarray(np.bitwise_or.reduce(x, axis=tuple(axes), dtype=x.dtype))


def argmax(x: np.ndarray, *, axis: int, index_dtype: np.dtype) -> np.ndarray:
    """Position of the first maximum along `axis` (the first NaN, if there is one) in `index_dtype`.

    >>> argmax(np.array([[1, 9], [4, 4]]), axis=1, index_dtype=np.int32)
    array([1, 0], dtype=int32)
    """
    return np.asarray(np.argmax(widen(x), axis=axis)).astype(index_dtype)


def argmin(x: np.ndarray, *, axis: int, index_dtype: np.dtype) -> np.ndarray:
    """Position of the first minimum along `axis` (the first NaN, if there is one) in `index_dtype`.

    >>> argmin(np.array([[1, 9], [4, 4]]), axis=1, index_dtype=np.int32)
    array([0, 0], dtype=int32)
    """
    return np.asarray(np.argmin(widen(x), axis=axis)).astype(index_dtype)
