"""exp, expm1, log, log1p, tanh, erf and erfc in arithmetic that LLVM vectorises, where a call of libm is one element at
a time.

Subnormals, infinities, NaN and signed zeros included, float32 is within 2 units in the last place of the true value
(erfc within 5), float64 within 4; docs/numerics.md has the measured maxima.  Nothing needs fused multiply-add, and
nothing breaks where LLVM fuses: what must be exact is a product of few bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from fgrad.kernels.cpu.scalar import Scalar
    from fgrad.kernels.cpu.value import Value

# (e**r - 1 - r)/r**2, interpolated at Chebyshev points; in float64 Taylor's series
_EXP_32 = (1.392621347e-3, 8.363202972e-3, 4.166655444e-2, 0.1666657685, 0.5)
_EXP_64 = tuple(1 / math.factorial(k) for k in range(13, 1, -1))
# erf(x)/x - 1 in x**2 for |x| <= 1, and (1 + 2x) exp(x**2) erfc(x) in (x - 3)/(x + 3) from x = 1/2 to where erfc is 0:
# interpolated at Chebyshev points with 60 digits, the highest power first
_ERF_32 = (
    7.875875063e-5, -8.016864287e-4, 5.189087423e-3, -0.02685421201, 0.1128359472, -0.3761262667, 0.1283791658,
)  # fmt: skip
_ERF_64 = (
    -7.79589882700214224e-10, 1.37200645467776856e-8, -1.62084838018717059e-7, 1.64474247033173624e-6,
    -1.49247369074196603e-5, 1.20552949048397079e-4, -8.54832597538969208e-4, 5.22397760711642273e-3,
    -0.0268661706432377704, 0.112837916709450063, -0.376126389031835404, 0.128379167095512567,
)  # fmt: skip
_ERFC_32 = (
    -5.421525888e-4, 1.825213431e-3, 2.399829157e-3, -0.02375682066, 0.06833605831, -0.1192750303, 0.1296427855,
    -0.04756222969, -0.1356210509, 1.253008058,
)  # fmt: skip
_ERFC_64 = (
    -1.52500318599763381e-8, 2.28120557324590826e-8, 1.11335669893167841e-7, -1.21402403496919237e-7,
    -6.2939345789696195e-7, 3.44506162094631179e-7, 3.48134080324329519e-6, -7.26866053808606095e-7,
    -2.0104312171114754e-5, 4.94838223296193118e-6, 1.25100335650383696e-4, -1.05159636092807457e-4,
    -7.79832433642587719e-4, 1.88869034438455388e-3, 2.52939183204484786e-3, -0.0237705149178619581,
    0.0683080273431061607, -0.119273663415331239, 0.129645158702782574, -0.0475622943534504704,
    -0.135621106124581336, 1.25300805826972965,
)  # fmt: skip


class _Format(NamedTuple):
    """What depends on the precision.  ln 2 = ``ln2`` + rest, where n * ``ln2`` is exact for each exponent n."""

    dtype: np.dtype
    integer: np.dtype
    fraction: int  # bits of the significand behind the point
    ln2: float
    exp: Sequence[float]  # (e**r - 1 - r)/r**2 for |r| <= (ln 2)/2, the highest power first
    exp_terms: int  # e**r - 1 = r + ... + r**exp_terms / exp_terms!
    log_terms: int  # 2 artanh q = 2q + 2q**3/3 + ... of so many terms
    exp_range: tuple[float, float]  # e**x is 0 below and infinite above
    expm1_low: float  # below it, e**x - 1 is -1
    tanh_high: float  # above it, tanh x is 1
    erf: Sequence[float]
    erfc: Sequence[float]
    erfc_high: float  # above it, erfc is 0

    @property
    def bias(self) -> int:
        return np.finfo(self.dtype).maxexp - 1


_SINGLE = _Format(
    np.dtype(np.float32), np.dtype(np.int32), 23, 355 / 512, _EXP_32, 7, 6, (-104.0, 89.0), -18.0, 9.1,
    _ERF_32, _ERFC_32, 10.1,
)  # fmt: skip
_DOUBLE = _Format(
    np.dtype(np.float64), np.dtype(np.int64), 52, math.floor(math.log(2) * 2**40) / 2**40, _EXP_64, 13, 12,
    (-746.0, 710.0), -38.0, 19.1, _ERF_64, _ERFC_64, 27.3,
)  # fmt: skip
_LN2_LOW = {_SINGLE: math.log(2) - _SINGLE.ln2, _DOUBLE: 7.371002565167799e-13}  # what `ln2` lacks


class _Maths:
    """The functions, written with the emitter ``s`` for one precision."""

    def __init__(self, s: Scalar, dtype: np.dtype) -> None:
        self.s = s
        self.f = _SINGLE if dtype == np.float32 else _DOUBLE

    def c(self, value: float) -> Value:
        return self.s.const(value, self.f.dtype)

    def i(self, value: int) -> Value:
        return self.s.const(value, self.f.integer)

    def polynomial(self, x: Value, coefficients: Sequence[float]) -> Value:
        """Horner's rule, the highest coefficient first."""
        total = self.c(coefficients[0])
        for coefficient in coefficients[1:]:
            total = self.s.add(self.s.mul(total, x), self.c(coefficient))
        return total

    def power_of_two(self, n: Value) -> Value:
        """2**n of a normal number, by its bits."""
        bits = self.s.shl(self.s.add(n, self.i(self.f.bias)), self.i(self.f.fraction))
        return self.s.bitcast(bits, self.f.dtype)

    def scaled(self, x: Value, n: Value) -> Value:
        """x 2**n; in two factors, for 2**n may be below or above what a float holds."""
        half = self.s.ashr(n, self.i(1))
        return self.s.mul(self.s.mul(x, self.power_of_two(half)), self.power_of_two(self.s.sub(n, half)))

    def reduced(self, x: Value, low: Value | None = None) -> tuple[Value, Value]:
        """(n, e**r - 1) with x + low = n ln 2 + r and |r| <= (ln 2)/2, by e**r - 1 = r + r**2 (1/2 + r/6 + ...).

        Added to 1.5 * 2**fraction, a float has a step of 1: the sum rounds x/ln 2 to n, and its last bits are n.
        """
        s, c = self.s, self.c
        magic = c(1.5 * 2**self.f.fraction)
        counted = s.add(s.mul(x if low is None else s.add(x, low), c(1 / math.log(2))), magic)
        n = s.sub(counted, magic)
        rest = s.mul(n, c(_LN2_LOW[self.f]))
        r = s.sub(s.sub(x, s.mul(n, c(self.f.ln2))), rest if low is None else s.sub(rest, low))
        tail = self.polynomial(r, [1 / math.factorial(k) for k in range(self.f.exp_terms, 1, -1)])
        whole = s.sub(s.bitcast(counted, self.f.integer), s.bitcast(magic, self.f.integer))
        return whole, s.add(s.mul(s.mul(r, r), tail), r)

    def exp(self, x: Value) -> Value:
        """e**x = e**r 2**(n-h) 2**h with x = n ln 2 + r and h about n/2: 2**n may be below or above what a float holds.

        The last bits of sums are n and h, as in `reduced`; here the bias of two exponents is added to n, of one to h.
        """
        s, c, (low, high) = self.s, self.c, self.f.exp_range
        x = s.min(s.max(x, c(low)), c(high))
        magic = 1.5 * 2**self.f.fraction
        both = s.add(s.mul(x, c(1 / math.log(2))), c(magic + 2 * self.f.bias))
        half = s.add(s.mul(x, c(0.5 / math.log(2))), c(magic + self.f.bias))
        n = s.sub(both, c(magic + 2 * self.f.bias))
        r = s.sub(s.sub(x, s.mul(n, c(self.f.ln2))), s.mul(n, c(_LN2_LOW[self.f])))
        half = s.bitcast(half, self.f.integer)
        other = s.sub(s.bitcast(both, self.f.integer), half)
        value = self.polynomial(r, (*self.f.exp, 1.0, 1.0))
        for bits in (other, half):
            value = s.mul(value, s.bitcast(s.shl(bits, self.i(self.f.fraction)), self.f.dtype))
        return value

    def expm1(self, x: Value) -> Value:
        """e**x - 1 = 2 (h (e**r - 1) + (h - 1/2)) with h = 2**(n-1), which no x makes too large; for n = 0 e**r - 1."""
        s, c = self.s, self.c
        n, rest = self.reduced(s.min(s.max(x, c(self.f.expm1_low)), c(self.f.exp_range[1])))
        half = self.power_of_two(s.sub(n, self.i(1)))
        value = s.add(s.mul(half, rest), s.sub(half, c(0.5)))
        value = s.select(s.cmp("eq", n, self.i(0)), rest, s.add(value, value))
        return s.copysign(value, x)

    def tanh(self, x: Value) -> Value:
        """t/(t + 2) with t = e**(2|x|) - 1 = 2**n (e**r - 1) + (2**n - 1).

        In float32, below 0.35, the series x - x**3/3 + 2 x**5/15 - ..., whose leading term is exact.
        """
        s, c = self.s, self.c
        size = s.min(s.abs(x), c(self.f.tanh_high))
        n, rest = self.reduced(s.add(size, size))
        scale = self.power_of_two(n)
        t = s.add(s.mul(scale, rest), s.sub(scale, c(1.0)))
        value = s.div(t, s.add(t, c(2.0)))
        if self.f is _SINGLE:
            x2 = s.mul(x, x)
            series = [21844 / 6081075, -1382 / 155925, 62 / 2835, -17 / 315, 2 / 15, -1 / 3]
            small = s.add(s.mul(s.mul(x2, self.polynomial(x2, series)), size), size)
            value = s.select(s.cmp("lt", size, c(0.35)), small, value)
        return s.copysign(value, x)

    def log(self, x: Value) -> Value:
        """log x, of a subnormal as log(x 2**k) - k log 2."""
        s, k = self.s, self.f.fraction + 2
        small = s.cmp("lt", x, self.c(float(np.finfo(self.f.dtype).tiny)))
        wide = s.select(small, s.mul(x, self.c(2.0**k)), x)
        return self.log_where(x, self.log_of(wide, s.select(small, self.i(k), self.i(0)), None))

    def log1p(self, x: Value) -> Value:
        """log u + c/u with u = 1 + x rounded and c what the rounding has lost."""
        s, one = self.s, self.c(1.0)
        u = s.add(x, one)
        back = s.sub(u, one)
        lost = s.add(s.sub(one, s.sub(u, back)), s.sub(x, back))
        value = s.copysign(self.log_of(u, self.i(0), s.div(lost, u)), x)
        return self.log_where(s.select(s.cmp("eq", x, self.c(0.0)), one, u), value)

    def log_where(self, x: Value, value: Value) -> Value:
        """The value where x is positive and finite, and what the logarithm of x is elsewhere."""
        s, zero = self.s, self.c(0.0)
        value = s.select(s.cmp("lt", x, self.c(np.inf)), value, x)  # inf and NaN are their own logarithms
        value = s.select(s.cmp("eq", x, zero), self.c(-np.inf), value)
        return s.select(s.cmp("lt", x, zero), self.c(np.nan), value)

    def log_of(self, x: Value, shift: Value, more: Value | None) -> Value:
        """log x - shift ln 2 + more, for a normal x = 2**e (1 + f) with sqrt(1/2) <= 1 + f < sqrt 2.

        log(1 + f) = 2 artanh q with q = f/(2 + f), and 2 artanh q = f - q (f - R), R = 2 q**2 (1/3 + q**2/5 + ...):
        the leading f is exact, what is rounded is smaller.
        """
        s, c, fraction = self.s, self.c, self.i(self.f.fraction)
        bits = s.bitcast(x, self.f.integer)
        whole = s.ashr(s.sub(bits, s.bitcast(c(math.sqrt(0.5)), self.f.integer)), fraction)
        f = s.sub(s.bitcast(s.sub(bits, s.shl(whole, fraction)), self.f.dtype), c(1.0))
        magic = c(1.5 * 2**self.f.fraction)  # its last bits count, as in `reduced`
        counted = s.add(s.bitcast(magic, self.f.integer), s.sub(whole, shift))
        e = s.sub(s.bitcast(counted, self.f.dtype), magic)
        q = s.div(f, s.add(f, c(2.0)))
        q2 = s.mul(q, q)
        series = s.mul(q2, self.polynomial(q2, [2 / k for k in range(2 * self.f.log_terms - 1, 1, -2)]))
        tail = s.mul(e, c(_LN2_LOW[self.f]))
        if more is not None:
            tail = s.add(tail, more)
        tail = s.sub(tail, s.mul(q, s.sub(f, series)))
        return s.add(s.mul(e, c(self.f.ln2)), s.add(f, tail))

    def erf(self, x: Value) -> Value:
        """x + x (erf(x)/x - 1) by a polynomial up to 1, then 1 - erfc."""
        s, one = self.s, self.c(1.0)
        size = s.min(s.abs(x), self.c(self.f.erfc_high))
        value = s.select(s.cmp("lt", size, one), self.erf_near(size), s.sub(one, self.erfc_far(size)))
        return s.copysign(value, x)

    def erfc(self, x: Value) -> Value:
        """1 - erf up to 1/2; erfc beyond, and 2 - erfc(-x) on the other side."""
        s = self.s
        size = s.min(s.abs(x), self.c(self.f.erfc_high))
        far = self.erfc_far(size)
        far = s.select(s.cmp("lt", x, self.c(0.0)), s.sub(self.c(2.0), far), far)
        near = s.sub(self.c(1.0), s.copysign(self.erf_near(size), x))
        return s.select(s.cmp("lt", size, self.c(0.5)), near, far)

    def erf_near(self, x: Value) -> Value:
        return self.s.add(self.s.mul(x, self.polynomial(self.s.mul(x, x), self.f.erf)), x)

    def erfc_far(self, x: Value) -> Value:
        """exp(-x**2) p/(1 + 2x); x = a + b with a of half the bits: a**2 is exact, and x**2 - a**2 = b (x + a)."""
        s, c = self.s, self.c
        mask = self.i(-(1 << (self.f.fraction + 2) // 2))
        a = s.bitcast(s.and_(s.bitcast(x, self.f.integer), mask), self.f.dtype)
        b = s.sub(x, a)
        n, rest = self.reduced(s.neg(s.mul(a, a)), s.neg(s.mul(b, s.add(x, a))))
        p = self.polynomial(s.div(s.sub(x, c(3.0)), s.add(x, c(3.0))), self.f.erfc)
        value = s.div(p, s.add(s.add(x, x), c(1.0)))
        return self.scaled(s.add(s.mul(value, rest), value), n)


VECTOR_FUNCTIONS: dict[str, Callable[[_Maths, Value], Value]] = {
    "exp": _Maths.exp, "expm1": _Maths.expm1, "log": _Maths.log, "log1p": _Maths.log1p, "tanh": _Maths.tanh,
    "erf": _Maths.erf, "erfc": _Maths.erfc,
}  # fmt: skip


def vectorised(s: Scalar, name: str, x: Value) -> Value:
    """A function of `VECTOR_FUNCTIONS` of a float32 or float64."""
    return VECTOR_FUNCTIONS[name](_Maths(s, x.dtype), x)
