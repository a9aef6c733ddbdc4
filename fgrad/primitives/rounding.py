"""floor, ceil, round, nextafter, reduce_precision."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Unfilled
from fgrad.core.primitive import Linear
from fgrad.primitives.define import elementwise


class RoundingMethod(enum.IntEnum):
    """How ``round`` treats numbers half-way between two integers."""

    AWAY_FROM_ZERO = 0
    TO_NEAREST_EVEN = 1


# --- scalar rules ----------------------------------------------------------------------------------------------------
def _floor(s, x):
    return s.floor(x)


def _ceil(s, x):
    return s.ceil(x)


def _round(s, x, *, rounding_method):
    if rounding_method == RoundingMethod.TO_NEAREST_EVEN:
        return s.rint(x)
    # x - trunc(x) is exact; adding 0.5 to x would round the largest number below 0.5 up
    whole = s.trunc(x)
    half = s.cmp("ge", s.abs(s.sub(x, whole)), s.const(0.5, x.dtype))
    return s.select(half, s.add(whole, s.copysign(s.const(1, x.dtype), x)), whole)


def _round_reference(x: np.ndarray, *, rounding_method: RoundingMethod) -> np.ndarray:
    if rounding_method == RoundingMethod.TO_NEAREST_EVEN:
        return np.rint(x)
    whole = np.trunc(x)
    return np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(np.ones_like(x), x), whole)


def _nextafter(s, x, y):
    return s.call("nextafter", x, y)


# --- reduce_precision ------------------------------------------------------------------------------------------------
# Bits of a float, high to low: sign, exponent e biased by 2^(E-1) - 1, mantissa of M bits.


def _format(dtype: np.dtype) -> tuple[int, int]:
    """(exponent bits, mantissa bits) of a float dtype."""
    if dtype == dtypes.bfloat16:
        return 8, 7
    return {2: (5, 10), 4: (8, 23), 8: (11, 52)}[dtype.itemsize]


def _check_precision(x: ShapedArray, *, exponent_bits: int, mantissa_bits: int) -> None:
    if exponent_bits < 1 or mantissa_bits < 0:
        raise ValueError(
            f"reduce_precision: at least 1 exponent bit and 0 mantissa bits are needed, got {exponent_bits} and "
            f"{mantissa_bits}. float16 has 5 and 10, bfloat16 has 8 and 7."
        )


def _limits(dtype: np.dtype, exponent_bits: int) -> tuple[int, int, int]:
    """The exponent field's mask, and the fields of the least and greatest exponent of the narrower format."""
    e, m = _format(dtype)
    bias, narrow = (1 << (e - 1)) - 1, (1 << (exponent_bits - 1)) - 1
    return ((1 << e) - 1) << m, (bias - narrow) << m, (bias + narrow) << m


def _reduce_precision(s, x, *, exponent_bits, mantissa_bits):
    e, m = _format(x.dtype)
    uint = np.dtype(f"u{x.dtype.itemsize}")
    bits = s.bitcast(x, uint)
    if mantissa_bits < m:
        # to the nearest, ties to even: add half a unit less one, and one more if the last kept bit is set
        drop = m - mantissa_bits
        last = s.and_(s.lshr(bits, s.const(drop, uint)), s.const(1, uint))
        bits = s.add(bits, s.add(last, s.const((1 << (drop - 1)) - 1, uint)))
        bits = s.and_(bits, s.const(-1 << drop, uint))
    if exponent_bits < e:
        mask, least, greatest = _limits(x.dtype, exponent_bits)
        field = s.and_(bits, s.const(mask, uint))
        zero = s.and_(bits, s.const(1 << (e + m), uint))
        infinity = s.or_(zero, s.const(mask, uint))
        bits = s.select(s.cmp("gt", field, s.const(greatest, uint)), infinity, bits)
        bits = s.select(s.cmp("le", field, s.const(least, uint)), zero, bits)
    return s.select(s.cmp("ne", x, x), x, s.bitcast(bits, x.dtype))


def _reduce_precision_reference(x: np.ndarray, *, exponent_bits: int, mantissa_bits: int) -> np.ndarray:
    """In numbers rather than bits: x = f 2^k with 1/2 <= |f| < 1 is rounded to a multiple of 2^(k-1-mantissa_bits)."""
    e, m = _format(x.dtype)
    # 7 and 10 mantissa bits are exact in float64, and so is every scaling by a power of two below
    wide = x.astype(np.float64)
    out = wide
    if mantissa_bits < m:
        tiny = 2 - (1 << (e - 1))  # the exponent of the least normal number: below it units stay the same
        k = np.maximum(np.frexp(wide)[1] - 1, tiny)
        out = np.ldexp(np.rint(np.ldexp(wide, mantissa_bits - k)), k - mantissa_bits)
    if exponent_bits < e:
        top = (1 << (exponent_bits - 1)) - 1
        k = np.frexp(out)[1] - 1
        normal = np.isfinite(out) & (out != 0)
        out = np.where(normal & (k > top), np.copysign(np.inf, out), out)
        out = np.where(normal & (k <= -top), np.copysign(0.0, out), out)
    return np.where(np.isfinite(wide), out, wide).astype(x.dtype)


def _reduce_precision_transpose(ct: Any, x: Any, *, exponent_bits: int, mantissa_bits: int) -> list[Any]:
    return [reduce_precision_p.bind(ct, exponent_bits=exponent_bits, mantissa_bits=mantissa_bits)]


# --- the table -------------------------------------------------------------------------------------------------------
floor_p = elementwise("floor", _floor, reference=np.floor, ufunc=np.floor, domain="float", partials=(None,))
ceil_p = elementwise("ceil", _ceil, reference=np.ceil, ufunc=np.ceil, domain="float", partials=(None,))
round_p = elementwise(
    "round", _round, reference=_round_reference, ufunc=_round_reference, domain="float", partials=(None,),
)  # fmt: skip
nextafter_p = elementwise(
    "nextafter", _nextafter, reference=np.nextafter, ufunc=np.nextafter, domain="float", partials=(),
    jvp=Unfilled("it is a step between neighbouring floats, not a smooth function"),
)  # fmt: skip
# The derivative is taken to be the rounding itself, of the tangent: what a narrower forward and backward pass would do.
reduce_precision_p = elementwise(
    "reduce_precision", _reduce_precision, reference=_reduce_precision_reference, ufunc=None, domain="float",
    partials=(), jvp=Linear(), transpose=_reduce_precision_transpose, check=_check_precision,
)  # fmt: skip
