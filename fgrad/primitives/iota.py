"""iota: out[i0, i1, ...] = the index along ``dimension``; it has no operands."""

from __future__ import annotations

import numpy as np

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import IndexValue, Unfilled
from fgrad.core.primitive import Primitive
from fgrad.primitives.define import NO_CUDA, NOT_LINEAR

_NO_OPERANDS = Unfilled("it has no operands, so no transformation reaches it")


def _abstract(*, dtype: np.dtype, shape: tuple[int, ...], dimension: int) -> ShapedArray:
    if not dtypes.is_number(dtype):
        raise TypeError(f"iota: the dtype must be a number's, got {dtype}. Use int32 and compare the result.")
    if any(n < 0 for n in shape):
        raise ValueError(f"iota: sizes must not be negative, got {shape}. Give sizes of at least 0.")
    if not 0 <= dimension < len(shape):
        raise ValueError(
            f"iota: dimension must be in [0, {len(shape)}), got {dimension} for shape {shape}. Change the dimension."
        )
    return ShapedArray(tuple(shape), dtype)


def _reference(*, dtype: np.dtype, shape: tuple[int, ...], dimension: int) -> np.ndarray:
    column = [1] * len(shape)
    column[dimension] = shape[dimension]
    return np.broadcast_to(np.arange(shape[dimension]).astype(dtype).reshape(column), shape)


iota_p = Primitive(
    "iota",
    abstract=_abstract,
    reference=_reference,
    cpu=IndexValue(),
    cuda=NO_CUDA,
    jvp=_NO_OPERANDS,
    transpose=NOT_LINEAR,
    batch=_NO_OPERANDS,
)
