"""convert_element_type, stop_gradient's identity, and bitcasts.

``convert_element_type(x, new_dtype, weak_type)``: floats to integers truncate towards zero and saturate (NaN -> 0).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.array import ConcreteArray
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import ScalarMap
from fgrad.core.primitive import Primitive, Zero
from fgrad.primitives.define import NO_CUDA, NOT_LINEAR, batch_elementwise, zero_tangent


def _abstract(x: ShapedArray, *, new_dtype: np.dtype, weak_type: bool) -> ShapedArray:
    if dtypes.float0 in (x.dtype, new_dtype) and x.dtype != new_dtype:
        raise TypeError(
            f"convert_element_type: float0, the tangent of integers, converts to nothing, got {x} and {new_dtype}. "
            "Make zeros of the dtype you want."
        )
    if x.dtype.kind == "c" and new_dtype.kind != "c":
        raise TypeError(
            f"convert_element_type: a complex array cannot become {new_dtype}, got {x}. Take fgrad.numpy.real(x) first."
        )
    return ShapedArray(x.shape, new_dtype, weak_type)


def _reference(x: np.ndarray, *, new_dtype: np.dtype, weak_type: bool) -> np.ndarray:
    if dtypes.is_integer(new_dtype) and dtypes.is_float(x.dtype):
        info = np.iinfo(new_dtype)
        wide = np.trunc(x.astype(np.float64))
        # float64 cannot hold 2^63 - 1: compare against 2^63, then saturate
        inside = np.where((wide > float(info.min)) & (wide < float(info.max)), wide, 0).astype(new_dtype)
        out = np.where(wide >= float(info.max), np.array(info.max, new_dtype), inside)
        return np.where(wide <= float(info.min), np.array(info.min, new_dtype), out).astype(new_dtype)
    return x.astype(new_dtype)


def _rule(s, x, *, new_dtype, weak_type):
    return s.cast(x, new_dtype)


def _jvp(primals, tangents, *, new_dtype, weak_type):
    (x,), (t,) = primals, tangents
    ans = convert_p.bind(x, new_dtype=new_dtype, weak_type=weak_type)
    if type(t) is Zero or not dtypes.is_inexact(new_dtype):
        return ans, zero_tangent(ans.aval)
    return ans, convert_p.bind(t, new_dtype=new_dtype, weak_type=weak_type)


def _transpose(ct: Any, x: Any, *, new_dtype, weak_type) -> list[Any]:
    return [convert_p.bind(ct, new_dtype=x.dtype, weak_type=x.aval.weak_type)]


def convert(x: Any, dtype: np.dtype, weak_type: bool = False) -> Any:
    """X in another dtype; x itself if nothing changes."""
    if x.dtype == dtype and x.weak_type == weak_type:
        return x
    if type(x) is ConcreteArray and x.ndim == 0:  # a constant stays one, also while tracing
        abstract = _abstract(x.aval, new_dtype=dtype, weak_type=weak_type)
        with np.errstate(all="ignore"):
            value = _reference(x._value, new_dtype=abstract.dtype, weak_type=weak_type)
        return ConcreteArray(np.asarray(value), weak_type)
    return convert_p.bind(x, new_dtype=dtype, weak_type=weak_type)


convert_p = Primitive(
    "convert_element_type",
    abstract=_abstract,
    reference=_reference,
    cpu=ScalarMap(_rule, _reference),
    cuda=NO_CUDA,
    jvp=_jvp,
    transpose=_transpose,
    batch=batch_elementwise("convert_element_type"),
    own_weak=True,
)


def _bitcast_abstract(x: ShapedArray, *, new_dtype: np.dtype) -> ShapedArray:
    if x.dtype.itemsize != new_dtype.itemsize:
        raise TypeError(
            f"bitcast_convert_type: dtypes must have equal sizes, got {x.dtype} ({x.dtype.itemsize} bytes) "
            f"and {new_dtype} ({new_dtype.itemsize} bytes). Choose a dtype of {x.dtype.itemsize} bytes."
        )
    return ShapedArray(x.shape, new_dtype)


def _bitcast_jvp(primals, tangents, *, new_dtype):
    ans = bitcast_p.bind(*primals, new_dtype=new_dtype)
    return ans, zero_tangent(ans.aval)


bitcast_p = Primitive(
    "bitcast_convert_type",
    abstract=_bitcast_abstract,
    reference=lambda x, *, new_dtype: x.view(new_dtype),
    cpu=ScalarMap(lambda s, x, *, new_dtype: s.bitcast(x, new_dtype), lambda x, *, new_dtype: x.view(new_dtype)),
    cuda=NO_CUDA,
    jvp=_bitcast_jvp,
    transpose=NOT_LINEAR,
    batch=batch_elementwise("bitcast_convert_type"),
)
