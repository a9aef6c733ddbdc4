"""Dtype names and what is known about them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from fgrad.core import dtypes
from fgrad.core.array import aval_of
from fgrad.lax.common import canonical_axis

bool_ = np.bool_
int8, int16, int32, int64 = np.int8, np.int16, np.int32, np.int64
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
float16, float32, float64 = np.float16, np.float32, np.float64
bfloat16 = ml_dtypes.bfloat16
complex64, complex128 = np.complex64, np.complex128
dtype = np.dtype
iinfo = np.iinfo

pi, e, inf, nan, newaxis = np.pi, np.e, np.inf, np.nan, None


def finfo(dtype: Any) -> Any:
    """``numpy.finfo``, for bfloat16 too.

    >>> import fgrad.numpy as fnp
    >>> float(fnp.finfo(fnp.bfloat16).eps)
    0.0078125
    """
    canonical = dtypes.canonical(dtype)
    if not dtypes.is_inexact(canonical):
        raise TypeError(f"finfo: the dtype must be floating-point or complex, got {canonical}. Use iinfo for integers.")
    return ml_dtypes.finfo(canonical)


def promote_types(a: Any, b: Any) -> np.dtype:
    """The dtype at which two dtypes meet; Python's int, float and complex stand for weak scalars.

    >>> import fgrad.numpy as fnp
    >>> fnp.promote_types("int32", "float16")
    dtype('float16')
    """
    weak = (int, float, complex)
    x, y = dtypes.canonical(a), dtypes.canonical(b)
    return dtypes.promote((x, a in weak), (y, b in weak))[0]


def result_type(*args: Any) -> np.dtype:
    """The dtype at which arrays, scalars and dtypes meet.

    >>> import fgrad.numpy as fnp
    >>> fnp.result_type(fnp.zeros(2, "float16"), 1.5, "int64")
    dtype('float16')
    """
    pairs = []
    for a in args:
        if isinstance(a, str | type | np.dtype):
            pairs.append((dtypes.canonical(a), a in (int, float, complex)))
        else:
            aval = aval_of(a)
            pairs.append((aval.dtype, aval.weak_type))
    return dtypes.promote(*pairs)[0]


def issubdtype(a: Any, b: Any) -> bool:
    """``numpy.issubdtype``, with bfloat16 a floating-point type.

    >>> import numpy as np, fgrad.numpy as fnp
    >>> fnp.issubdtype("bfloat16", np.floating)
    True
    """
    a = dtypes.canonical(a)
    if a == dtypes.bfloat16:
        return b in (np.floating, np.inexact, np.number, np.generic) or (
            not (isinstance(b, type) and issubclass(b, np.generic) and b is not bfloat16) and dtypes.canonical(b) == a
        )
    try:
        return bool(np.issubdtype(a, b))
    except (TypeError, ValueError):
        raise TypeError(
            f"issubdtype: not a dtype or a kind of dtypes, got {b!r}. Use np.floating or a dtype."
        ) from None


def ndim(a: Any) -> int:
    """The number of axes."""
    return aval_of(a).ndim


def shape(a: Any) -> tuple[int, ...]:
    """The sizes of the axes."""
    return aval_of(a).shape


def size(a: Any, axis: int | None = None) -> int:
    """The number of elements, or the size of one axis."""
    aval = aval_of(a)
    return aval.size if axis is None else aval.shape[canonical_axis("size", axis, aval.ndim)]
