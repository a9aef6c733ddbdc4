"""Arithmetic and transcendental functions, element by element, with NumPy's broadcasting and fgrad's promotion.

Functions marked *float* take integers and booleans to float32 (64-bit integers to float64) first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.static import static_int
from fgrad.numpy.promotion import alike, eager, promote, promote_dtypes, promote_dtypes_inexact, promote_inexact
from fgrad.primitives.arithmetic import add_p, div_p, max_p, min_p, mul_p, sub_p
from fgrad.primitives.broadcast import full_like


# --- arithmetic ------------------------------------------------------------------------------------------------------
def add(x1: Any, x2: Any) -> Array:
    """x1 + x2; integers wrap, booleans combine with *or*.

    >>> import fgrad.numpy as fnp
    >>> fnp.add(fnp.ones((2, 1), int), fnp.arange(3)).tolist()
    [[1, 2, 3], [1, 2, 3]]
    """
    out = eager(add_p, x1, x2)
    if out is not None:
        return out
    if not alike(x1, x2):
        x1, x2 = promote("add", x1, x2)
    return add_p.bind(x1, x2) if x1.dtype != dtypes.bool_ else lax.bitwise_or(x1, x2)


def subtract(x1: Any, x2: Any) -> Array:
    """x1 - x2; integers wrap, booleans are refused (use ``logical_xor``)."""
    out = eager(sub_p, x1, x2)
    if out is not None:
        return out
    if not alike(x1, x2):
        x1, x2 = promote("subtract", x1, x2)
    return sub_p.bind(x1, x2)


def multiply(x1: Any, x2: Any) -> Array:
    """x1 x2; integers wrap, booleans combine with *and*."""
    out = eager(mul_p, x1, x2)
    if out is not None:
        return out
    if not alike(x1, x2):
        x1, x2 = promote("multiply", x1, x2)
    return mul_p.bind(x1, x2) if x1.dtype != dtypes.bool_ else lax.bitwise_and(x1, x2)


def _is_float_array(x: Any) -> bool:
    return isinstance(x, Array) and dtypes.is_inexact(x.dtype)


def true_divide(x1: Any, x2: Any) -> Array:
    """x1 / x2, *float*.

    >>> import fgrad.numpy as fnp
    >>> fnp.true_divide(fnp.array([1, 2]), 4)
    Array([0.25, 0.5 ], dtype=float32)
    """
    out = eager(div_p, x1, x2) if _is_float_array(x1) or _is_float_array(x2) else None
    if out is not None:
        return out
    if not (alike(x1, x2) and dtypes.is_inexact(x1.dtype)):
        x1, x2 = promote_inexact("true_divide", x1, x2)
    return div_p.bind(x1, x2)


divide = true_divide


def _signs_differ(x: Array, y: Array) -> Array:
    zero = full_like(x, 0)
    return lax.ne(lax.lt(x, zero), lax.lt(y, zero))


def remainder(x1: Any, x2: Any) -> Array:
    """x1 - floor(x1 / x2) x2: the remainder with the sign of x2.

    >>> import fgrad.numpy as fnp
    >>> fnp.remainder(fnp.array([-3, 3]), 2).tolist()
    [1, 1]
    """
    x1, x2 = promote("remainder", x1, x2)
    rem = lax.rem(x1, x2)
    wrong = lax.bitwise_and(lax.ne(rem, full_like(rem, 0)), _signs_differ(rem, x2))
    return lax.select(wrong, lax.add(rem, x2), rem)


mod = remainder


def fmod(x1: Any, x2: Any) -> Array:
    """x1 - trunc(x1 / x2) x2: the remainder with the sign of x1."""
    return lax.rem(*promote("fmod", x1, x2))


def floor_divide(x1: Any, x2: Any) -> Array:
    """floor(x1 / x2) in the operands' dtype; x // 0 is -1 for integers, an infinity or NaN for floats."""
    x1, x2 = promote("floor_divide", x1, x2)
    if dtypes.is_integer(x1.dtype):
        quotient, rem = lax.div(x1, x2), lax.rem(x1, x2)
        exact = lax.bitwise_or(lax.eq(rem, full_like(rem, 0)), lax.eq(x2, full_like(x2, 0)))
        low = lax.bitwise_and(lax.bitwise_not(exact), _signs_differ(x1, x2))
        return lax.select(low, lax.sub(quotient, full_like(quotient, 1)), quotient)
    # (x1 - rem) / x2 is a whole number up to rounding; rounding it keeps -1 // 0.1 and the like on the grid
    rem = remainder(x1, x2)
    quotient = lax.div(lax.sub(x1, rem), x2)
    by_zero = lax.eq(x2, full_like(x2, 0))
    return lax.select(by_zero, lax.div(x1, x2), lax.round(quotient, lax.RoundingMethod.TO_NEAREST_EVEN))


def divmod(x1: Any, x2: Any) -> tuple[Array, Array]:
    """(floor_divide(x1, x2), remainder(x1, x2))."""
    return floor_divide(x1, x2), remainder(x1, x2)


def power(x1: Any, x2: Any) -> Array:
    """x1 to the power x2.

    A Python int as exponent is static and becomes repeated multiplication, exact at any base and differentiable there.
    Integer bases and exponents stay integers (wrapping); a negative Python int exponent of one is a ValueError, and
    negative elements of an exponent array give 0.

    >>> import fgrad.numpy as fnp
    >>> fnp.power(fnp.array([-2.0, 3.0]), 3).tolist()
    [-8.0, 27.0]
    """
    if type(x2) is int:
        base = lift(x1, "power")
        if base.dtype == dtypes.bool_:
            base = promote_dtypes("power", base, 0)[0]
        if x2 < 0 and dtypes.is_integer(base.dtype):
            raise ValueError(
                f"power: integers have no negative powers, got {base.dtype} to the power {x2}. Use a float base."
            )
        return lax.integer_pow(base, x2)
    x1, x2 = promote("power", x1, x2)
    if dtypes.is_inexact(x1.dtype):
        return lax.pow(x1, x2)
    if x1.dtype == dtypes.bool_:
        raise TypeError("power: operands must be numbers, got bool and bool. Convert them with .astype.")
    return _integer_power(x1, x2)


def _integer_power(x: Array, y: Array) -> Array:
    """Binary powers, one bit of the exponents a step: x^y = prod over set bits b of x^(2^b)."""
    zero, one = full_like(y, 0), full_like(y, 1)
    out, base, left = full_like(x, 1), x, y
    for _ in range(8 * y.dtype.itemsize - (y.dtype.kind == "i")):
        odd = lax.ne(lax.bitwise_and(left, one), zero)
        out = lax.select(odd, lax.mul(out, base), out)
        base, left = lax.mul(base, base), lax.shift_right_logical(left, one)
    return lax.select(lax.lt(y, zero), full_like(x, 0), out)


def negative(x: Any) -> Array:
    """-x."""
    return lax.neg(lift(x, "negative"))


def positive(x: Any) -> Array:
    """x."""
    return lift(x, "positive")


def reciprocal(x: Any) -> Array:
    """1 / x, *float*."""
    (x,) = promote_dtypes_inexact("reciprocal", x)
    return lax.div(full_like(x, 1), x)


def absolute(x: Any) -> Array:
    """|x|; its derivative at 0 is 0. Booleans and unsigned integers come back as they are."""
    x = lift(x, "absolute")
    return x if x.dtype.kind in "bu" else lax.abs(x)


abs = absolute
fabs = absolute


def sign(x: Any) -> Array:
    """-1, 0 or 1 by the sign of x; NaN for NaN."""
    return lax.sign(lift(x, "sign"))


def square(x: Any) -> Array:
    """x x."""
    x = lift(x, "square")
    return multiply(x, x) if x.dtype == dtypes.bool_ else lax.square(x)


def _float_unary(name: str, fun: Callable[[Array], Array]) -> Callable[[Any], Array]:
    """The *float* function of one operand that ``fun`` is on floats; its docstring follows at the definition."""

    def wrapped(x: Any) -> Array:
        if not _is_float_array(x):
            (x,) = promote_dtypes_inexact(name, x)
        return fun(x)

    wrapped.__name__ = wrapped.__qualname__ = name
    wrapped.__module__ = __name__
    return wrapped


def _define(name: str, fun: Callable[[Array], Array], formula: str) -> Callable[[Any], Array]:
    out = _float_unary(name, fun)
    out.__doc__ = f"{formula}, element by element, *float*."
    return out


def _scaled(fun: Callable[[Array], Array], factor: float) -> Callable[[Array], Array]:
    return lambda x: lax.mul(fun(x), full_like(x, factor))


sqrt = _define("sqrt", lambda x: lax.sqrt(x), "The square root of x (NaN below 0)")
cbrt = _define("cbrt", lambda x: lax.cbrt(x), "The cube root of x")
exp = _define("exp", lambda x: lax.exp(x), "e to the power x")
exp2 = _define("exp2", lambda x: lax.exp2(x), "2 to the power x")
expm1 = _define("expm1", lambda x: lax.expm1(x), "exp(x) - 1, accurate near 0")
log = _define("log", lambda x: lax.log(x), "The natural logarithm of x (-inf at 0, NaN below)")
log1p = _define("log1p", lambda x: lax.log1p(x), "log(1 + x), accurate near 0")
log2 = _define("log2", _scaled(lambda x: lax.log(x), 1 / math.log(2)), "The logarithm of x to base 2")
log10 = _define("log10", _scaled(lambda x: lax.log(x), 1 / math.log(10)), "The logarithm of x to base 10")
sin = _define("sin", lambda x: lax.sin(x), "The sine of x radians")
cos = _define("cos", lambda x: lax.cos(x), "The cosine of x radians")
tan = _define("tan", lambda x: lax.tan(x), "The tangent of x radians")
arcsin = _define("arcsin", lambda x: lax.asin(x), "The angle in [-pi/2, pi/2] whose sine is x")
arccos = _define("arccos", lambda x: lax.acos(x), "The angle in [0, pi] whose cosine is x")
arctan = _define("arctan", lambda x: lax.atan(x), "The angle in (-pi/2, pi/2) whose tangent is x")
sinh = _define("sinh", lambda x: lax.sinh(x), "(exp(x) - exp(-x)) / 2")
cosh = _define("cosh", lambda x: lax.cosh(x), "(exp(x) + exp(-x)) / 2")
tanh = _define("tanh", lambda x: lax.tanh(x), "sinh(x) / cosh(x)")
arcsinh = _define("arcsinh", lambda x: lax.asinh(x), "log(x + sqrt(x^2 + 1))")
arccosh = _define("arccosh", lambda x: lax.acosh(x), "log(x + sqrt(x^2 - 1)) for x >= 1")
arctanh = _define("arctanh", lambda x: lax.atanh(x), "log((1 + x) / (1 - x)) / 2 for |x| < 1")
deg2rad = _define("deg2rad", _scaled(lambda x: x, math.pi / 180), "x degrees in radians")
rad2deg = _define("rad2deg", _scaled(lambda x: x, 180 / math.pi), "x radians in degrees")
radians, degrees = deg2rad, rad2deg
asin, acos, atan = arcsin, arccos, arctan
asinh, acosh, atanh = arcsinh, arccosh, arctanh


def arctan2(x1: Any, x2: Any) -> Array:
    """The angle in [-pi, pi] of the point (x2, x1), *float*."""
    return lax.atan2(*promote_inexact("arctan2", x1, x2))


atan2 = arctan2


def hypot(x1: Any, x2: Any) -> Array:
    """sqrt(x1^2 + x2^2) without overflow in between, *float*: m sqrt(1 + (n/m)^2) with m = max, n = min of |x|.

    Infinity where an operand is infinite, whatever the other is: IEEE 754's rule for NaN.
    """
    x1, x2 = (lax.abs(x) for x in promote_inexact("hypot", x1, x2))
    large, small = lax.max(x1, x2), lax.min(x1, x2)
    zero, one = full_like(large, 0), full_like(large, 1)
    empty = lax.eq(large, zero)
    ratio = lax.div(small, lax.select(empty, one, large))
    same = lax.eq(large, small)  # also inf and inf, whose ratio is NaN
    ratio = lax.select(same, one, ratio)
    length = lax.select(empty, zero, lax.mul(large, lax.sqrt(lax.add(one, lax.square(ratio)))))
    infinity = full_like(large, math.inf)
    return lax.select(lax.bitwise_or(lax.eq(x1, infinity), lax.eq(x2, infinity)), infinity, length)


def logaddexp(x1: Any, x2: Any) -> Array:
    """log(exp(x1) + exp(x2)) without overflow, *float*: max + log1p(exp(-|x1 - x2|)).

    >>> import fgrad.numpy as fnp
    >>> f"{float(fnp.logaddexp(1000.0, 1000.0)):.3f}"
    '1000.693'
    """
    x1, x2 = promote_inexact("logaddexp", x1, x2)
    delta = lax.sub(x1, x2)
    equal_infinities = lax.ne(delta, delta)  # inf - inf (or a NaN operand, which the sum passes on)
    gap = lax.neg(lax.abs(lax.select(equal_infinities, full_like(delta, 0), delta)))
    return lax.select(equal_infinities, lax.add(x1, x2), lax.add(lax.max(x1, x2), lax.log1p(lax.exp(gap))))


# --- rounding --------------------------------------------------------------------------------------------------------
def _rounding(name: str, fun: Callable[[Array], Array], what: str) -> Callable[[Any], Array]:
    def wrapped(x: Any) -> Array:
        x = lift(x, name)
        return fun(x) if dtypes.is_inexact(x.dtype) else x

    wrapped.__name__ = wrapped.__qualname__ = name
    wrapped.__module__ = __name__
    wrapped.__doc__ = f"{what}, element by element, in the operand's dtype (integers come back as they are)."
    return wrapped


def _to_even(x: Array) -> Array:
    return lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN)


def _trunc(x: Array) -> Array:
    return lax.select(lax.lt(x, full_like(x, 0)), lax.ceil(x), lax.floor(x))


floor = _rounding("floor", lambda x: lax.floor(x), "The largest whole number not above x")
ceil = _rounding("ceil", lambda x: lax.ceil(x), "The smallest whole number not below x")
trunc = _rounding("trunc", _trunc, "The whole number next to x towards 0")
rint = _rounding("rint", _to_even, "The nearest whole number, halves to the even one")
fix = trunc


def round(a: Any, decimals: int = 0) -> Array:
    """The nearest multiple of 10^-decimals, halves to the even one; derivative 0.

    >>> import fgrad.numpy as fnp
    >>> fnp.round(fnp.array([0.5, 1.5, 2.25]), 1).tolist()
    [0.5, 1.5, 2.200000047683716]
    """
    a, decimals = lift(a, "round"), static_int("round", "decimals must be an integer", decimals)
    if not dtypes.is_inexact(a.dtype):
        if decimals >= 0:
            return a
        raise ValueError(f"round: integers need decimals >= 0, got {decimals} for {a.dtype}. Convert to float first.")
    if decimals == 0:
        return _to_even(a)
    factor = full_like(a, 10.0 ** max(-400, min(decimals, 308)))
    return lax.div(_to_even(lax.mul(a, factor)), factor)


around = round


# --- extremes and neighbours -----------------------------------------------------------------------------------------
def maximum(x1: Any, x2: Any) -> Array:
    """The larger operand; NaN if either is NaN.  On ties each operand gets half the derivative."""
    return max_p.bind(*((x1, x2) if alike(x1, x2) else promote("maximum", x1, x2)))


def minimum(x1: Any, x2: Any) -> Array:
    """The smaller operand; NaN if either is NaN.  On ties each operand gets half the derivative."""
    return min_p.bind(*((x1, x2) if alike(x1, x2) else promote("minimum", x1, x2)))


def _ignoring_nan(name: str, x1: Any, x2: Any, fun: Callable[[Array, Array], Array]) -> Array:
    x1, x2 = promote(name, x1, x2)
    if not dtypes.is_inexact(x1.dtype):
        return fun(x1, x2)
    return lax.select(lax.ne(x1, x1), x2, lax.select(lax.ne(x2, x2), x1, fun(x1, x2)))


def fmax(x1: Any, x2: Any) -> Array:
    """The larger operand; the other one where one is NaN."""
    return _ignoring_nan("fmax", x1, x2, lax.max)


def fmin(x1: Any, x2: Any) -> Array:
    """The smaller operand; the other one where one is NaN."""
    return _ignoring_nan("fmin", x1, x2, lax.min)


def nextafter(x1: Any, x2: Any) -> Array:
    """The next representable number after x1 towards x2, *float*."""
    return lax.nextafter(*promote_inexact("nextafter", x1, x2))


def copysign(x1: Any, x2: Any) -> Array:
    """|x1| with the sign of x2 (the sign of -0.0 counts), *float*."""
    x1, x2 = promote_inexact("copysign", x1, x2)
    size = lax.abs(x1)
    return lax.select(signbit(x2), lax.neg(size), size)


def signbit(x: Any) -> Array:
    """True where the sign bit is set, -0.0 included."""
    x = lift(x, "signbit")
    if not dtypes.is_inexact(x.dtype):
        return lax.lt(x, full_like(x, 0))
    bits = dtypes.canonical(f"int{8 * x.dtype.itemsize}")
    as_int = lax.bitcast_convert_type(x, bits)
    return lax.lt(as_int, full_like(as_int, 0))
