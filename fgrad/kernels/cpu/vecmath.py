"""exp, log and tanh of float32 in arithmetic that LLVM vectorises, where a call of libm is one element at a time.

Within 2 units in the last place of the true value over all of float32, subnormals, infinities and NaN included.
ln 2 is split in two: the first part has 9 bits, so that its product with an exponent is exact without fused
multiply-add too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fgrad.kernels.cpu.scalar import Scalar
    from fgrad.kernels.cpu.value import Value

_LN2_HIGH = 355 / 512
_LN2_LOW = math.log(2) - _LN2_HIGH


def _c(s: Scalar, value: float) -> Value:
    return s.const(value, np.float32)


def _i(s: Scalar, value: int) -> Value:
    return s.const(value, np.int32)


def _polynomial(s: Scalar, x: Value, coefficients: list[float]) -> Value:
    """Horner's rule, the highest coefficient first."""
    total = _c(s, coefficients[0])
    for coefficient in coefficients[1:]:
        total = s.add(s.mul(total, x), _c(s, coefficient))
    return total


def _power_of_two(s: Scalar, n: Value) -> Value:
    """2**n for -126 <= n <= 127, by its bits."""
    return s.bitcast(s.shl(s.add(n, _i(s, 127)), _i(s, 23)), np.float32)


def _reduced(s: Scalar, x: Value) -> tuple[Value, Value]:
    """(n, e**r - 1) with x = n ln 2 + r and |r| <= (ln 2)/2, by e**r - 1 = r + r**2 (1/2 + r/6 + ... + r**5/7!).

    Added to 1.5 * 2**23, a float32 has a step of 1: the sum rounds x/ln 2 to n, and its last bits are n.
    """
    magic = _c(s, 1.5 * 2**23)
    counted = s.add(s.mul(x, _c(s, 1 / math.log(2))), magic)
    n = s.sub(counted, magic)
    r = s.sub(s.sub(x, s.mul(n, _c(s, _LN2_HIGH))), s.mul(n, _c(s, _LN2_LOW)))
    tail = _polynomial(s, r, [1 / math.factorial(k) for k in range(7, 1, -1)])
    whole = s.sub(s.bitcast(counted, np.int32), s.bitcast(magic, np.int32))
    return whole, s.add(s.mul(s.mul(r, r), tail), r)


def exp(s: Scalar, x: Value) -> Value:
    """e**x = 2**n (1 + (e**r - 1)); 2**n in two factors, for it may be below or above what float32 holds."""
    n, rest = _reduced(s, s.min(s.max(x, _c(s, -104.0)), _c(s, 89.0)))
    half = s.ashr(n, _i(s, 1))
    value = s.mul(s.add(rest, _c(s, 1.0)), _power_of_two(s, half))
    return s.mul(value, _power_of_two(s, s.sub(n, half)))


_TANH_SERIES = [21844 / 6081075, -1382 / 155925, 62 / 2835, -17 / 315, 2 / 15, -1 / 3]


def tanh(s: Scalar, x: Value) -> Value:
    """t/(t + 2) with t = e**(2|x|) - 1 = 2**n (e**r - 1) + (2**n - 1); beyond 9.1 it rounds to 1.

    Below 0.35 the series x - x**3/3 + 2 x**5/15 - ..., whose leading term is exact.
    """
    size = s.min(s.abs(x), _c(s, 9.1))
    n, rest = _reduced(s, s.add(size, size))
    scale = _power_of_two(s, n)
    t = s.add(s.mul(scale, rest), s.sub(scale, _c(s, 1.0)))
    large = s.div(t, s.add(t, _c(s, 2.0)))
    x2 = s.mul(x, x)
    small = s.add(s.mul(s.mul(x2, _polynomial(s, x2, _TANH_SERIES)), size), size)
    return s.copysign(s.select(s.cmp("lt", size, _c(s, 0.35)), small, large), x)


def log(s: Scalar, x: Value) -> Value:
    """log x = e ln 2 + log(1 + f) with sqrt(1/2) <= 1 + f < sqrt 2.

    log(1 + f) = 2 artanh q with q = f/(2 + f), and 2 artanh q = f - q (f - R), R = 2 q**2 (1/3 + q**2/5 + ...):
    the leading f is exact, what is rounded is smaller.
    """
    small = s.cmp("lt", x, _c(s, 2.0**-126))
    scaled = s.select(small, s.mul(x, _c(s, 2.0**25)), x)
    bits = s.bitcast(scaled, np.int32)
    root = s.bitcast(_c(s, math.sqrt(0.5)), np.int32)
    e = s.ashr(s.sub(bits, root), _i(s, 23))
    f = s.sub(s.bitcast(s.sub(bits, s.shl(e, _i(s, 23))), np.float32), _c(s, 1.0))
    e = s.cast(s.sub(e, s.select(small, _i(s, 25), _i(s, 0))), np.float32)
    q = s.div(f, s.add(f, _c(s, 2.0)))
    q2 = s.mul(q, q)
    series = s.mul(q2, _polynomial(s, q2, [2 / k for k in (11, 9, 7, 5, 3)]))
    tail = s.sub(s.mul(e, _c(s, _LN2_LOW)), s.mul(q, s.sub(f, series)))
    value = s.add(s.mul(e, _c(s, _LN2_HIGH)), s.add(f, tail))
    value = s.select(s.cmp("lt", x, _c(s, np.inf)), value, x)  # inf and NaN are their own logarithms
    value = s.select(s.cmp("eq", x, _c(s, 0.0)), _c(s, -np.inf), value)
    return s.select(s.cmp("lt", x, _c(s, 0.0)), _c(s, np.nan), value)


VECTOR_FUNCTIONS = {"exp": exp, "log": log, "tanh": tanh}
