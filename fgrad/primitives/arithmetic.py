"""Arithmetic: neg, add, sub, mul, div, rem, max, min, abs, sign, square, integer_pow, pow, sqrt, rsqrt, cbrt.

Integers wrap; integer division truncates towards zero, and ``rem`` has the sign of the dividend (x/0 = -1, x % 0 = x:
never a trap), as in XLA.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.primitive import Bilinear, Linear, LinearArg, Zero
from fgrad.errors import MissingBackendError
from fgrad.primitives.broadcast import full_like
from fgrad.primitives.define import elementwise
from fgrad.primitives.ties import order_p, share_p


# --- small expression helpers for derivative rules -------------------------------------------------------------------
def _scale(t: Any, c: float) -> Any:
    return mul_p.bind(t, full_like(t, c))


def _where(mask: Any, a: Any, b: Any) -> Any:
    from fgrad.primitives.compare import select_n_p

    return select_n_p.bind(mask, b, a)


# --- reference functions where NumPy's own means something else ------------------------------------------------------
def _div_reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if not dtypes.is_integer(x.dtype):
        return np.divide(x, y)
    safe = np.where(y == 0, np.ones_like(y), y)
    if x.dtype.kind == "u":
        return np.where(y == 0, np.array(-1).astype(x.dtype), x // safe)
    quotient = np.floor_divide(x, safe)  # towards -inf; +1 where the signs differ and it is not exact
    quotient = quotient + ((quotient * safe != x) & ((x < 0) != (safe < 0))).astype(x.dtype)
    return np.where(y == 0, np.array(-1, x.dtype), quotient).astype(x.dtype)


def _rem_reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if not dtypes.is_integer(x.dtype):
        return np.fmod(x, y)
    safe = np.where(y == 0, np.ones_like(y), y)
    return np.where(y == 0, x, np.fmod(x, safe)).astype(x.dtype)


def _abs_reference(x: np.ndarray) -> np.ndarray:
    return np.abs(x)


def _rsqrt_reference(x: np.ndarray) -> np.ndarray:
    return np.divide(np.ones((), x.dtype), np.sqrt(x))


def _check_integer_pow(x: ShapedArray, *, y: int) -> None:
    if y < 0 and dtypes.is_integer(x.dtype):
        raise TypeError(f"integer_pow: integers have no negative powers, got {x.dtype} to the {y}. Convert to a float.")


def _integer_pow_reference(x: np.ndarray, *, y: int) -> np.ndarray:
    if y < 0:
        return np.divide(np.ones((), x.dtype), np.power(x, -y))
    return np.power(x, y)


# --- scalar rules ----------------------------------------------------------------------------------------------------
def _neg(s, x):
    return s.neg(x)


def _add(s, x, y):
    return s.add(x, y)


def _sub(s, x, y):
    return s.sub(x, y)


def _mul(s, x, y):
    return s.mul(x, y)


def _div(s, x, y):
    return s.div(x, y)


def _rem(s, x, y):
    return s.rem(x, y)


def _max(s, x, y):
    return s.max(x, y)


def _min(s, x, y):
    return s.min(x, y)


def _abs(s, x):
    return s.abs(x)


def _sign(s, x):
    return s.sign(x)


def _square(s, x):
    return s.mul(x, x)


def _sqrt(s, x):
    return s.sqrt(x)


def _rsqrt(s, x):
    return s.div(s.const(1, x.dtype), s.sqrt(x))


def _cbrt(s, x):
    return s.call("cbrt", x)


def _pow(s, x, y):
    return s.call("pow", x, y)


def _integer_pow(s, x, *, y):
    """Binary powers: x^13 = x * x^4 * x^8."""
    result, power, n = None, x, abs(y)
    while n:
        if n & 1:
            result = power if result is None else s.mul(result, power)
        n >>= 1
        if n:
            power = s.mul(power, power)
    one = s.const(1, x.dtype)
    if result is None:
        return one
    return s.div(one, result) if y < 0 else result


# --- derivatives -----------------------------------------------------------------------------------------------------
def _abs_partial(t: Any, ans: Any, x: Any) -> Any:
    return mul_p.bind(t, sign_p.bind(x))


def _integer_pow_partial(t: Any, ans: Any, x: Any, *, y: int) -> Any:
    if y == 0:
        return Zero(t.aval)
    return mul_p.bind(t, _scale(integer_pow_p.bind(x, y=y - 1), y))


def _pow_dx(t: Any, ans: Any, x: Any, y: Any) -> Any:
    # d x^y = y x^(y-1) dx, and 0 at x = y = 0, where x^(y-1) is infinite; the mixed derivative at y = 0 is 1/x
    from fgrad.primitives.bitwise import and_p
    from fgrad.primitives.compare import eq_p

    nought = and_p.bind(eq_p.bind(x, full_like(x, 0)), eq_p.bind(y, full_like(y, 0)))
    one = full_like(y, 1)
    slope = mul_p.bind(y, pow_p.bind(x, sub_p.bind(_where(nought, one, y), one)))
    return mul_p.bind(t, _where(nought, full_like(y, 0), slope))


def _pow_dy(t: Any, ans: Any, x: Any, y: Any) -> Any:
    # d x^y = x^y log(x) dy, and 0 at x = 0 (log 0 is -inf, the power vanishes faster)
    from fgrad.primitives.compare import eq_p
    from fgrad.primitives.transcendental import log_p

    zero = full_like(x, 0)
    safe = _where(eq_p.bind(x, zero), full_like(x, 1), x)
    return mul_p.bind(t, mul_p.bind(ans, log_p.bind(safe)))


# --- transposes ------------------------------------------------------------------------------------------------------
def _add_transpose(ct: Any, x: Any, y: Any) -> list[Any]:
    return [ct if isinstance(x, LinearArg) else None, ct if isinstance(y, LinearArg) else None]


def _sub_transpose(ct: Any, x: Any, y: Any) -> list[Any]:
    return [ct if isinstance(x, LinearArg) else None, neg_p.bind(ct) if isinstance(y, LinearArg) else None]


def _mul_transpose(ct: Any, x: Any, y: Any) -> list[Any]:
    if isinstance(x, LinearArg):
        return [mul_p.bind(ct, y), None]
    return [None, mul_p.bind(x, ct)]


def _div_transpose(ct: Any, x: Any, y: Any) -> list[Any]:
    if isinstance(y, LinearArg):
        raise MissingBackendError(
            "div: has no transpose in its divisor, got one that depends on the arguments (it is not linear in it). "
            "Use vjp for functions that are not linear."
        )
    return [div_p.bind(ct, y), None]


def _neg_transpose(ct: Any, x: Any) -> list[Any]:
    return [neg_p.bind(ct)]


# --- the table -------------------------------------------------------------------------------------------------------
neg_p = elementwise(
    "neg", _neg, reference=np.negative, ufunc=np.negative, domain="number", partials=(), jvp=Linear(),
    transpose=_neg_transpose,
)  # fmt: skip
add_p = elementwise(
    "add", _add, reference=np.add, ufunc=np.add, domain="number", transpose=_add_transpose,
    partials=(lambda t, ans, x, y: t, lambda t, ans, x, y: t),
)  # fmt: skip
sub_p = elementwise(
    "sub", _sub, reference=np.subtract, ufunc=np.subtract, domain="number", transpose=_sub_transpose,
    partials=(lambda t, ans, x, y: t, lambda t, ans, x, y: neg_p.bind(t)),
)  # fmt: skip
mul_p = elementwise(
    "mul", _mul, reference=np.multiply, ufunc=np.multiply, domain="number", partials=(), jvp=Bilinear(),
    transpose=_mul_transpose,
)  # fmt: skip
div_p = elementwise(
    "div", _div, reference=_div_reference, ufunc=_div_reference, domain="number", transpose=_div_transpose,
    partials=(
        lambda t, ans, x, y: div_p.bind(t, y),
        lambda t, ans, x, y: neg_p.bind(mul_p.bind(t, div_p.bind(ans, y))),
    ),
)  # fmt: skip
rem_p = elementwise(
    "rem", _rem, reference=_rem_reference, ufunc=_rem_reference, domain="real",
    # x = trunc(x/y) y + rem: d rem = dx - trunc(x/y) dy
    partials=(
        lambda t, ans, x, y: t,
        lambda t, ans, x, y: neg_p.bind(mul_p.bind(t, div_p.bind(sub_p.bind(x, ans), y))),
    ),
)  # fmt: skip
max_p = elementwise(
    "max", _max, reference=np.maximum, ufunc=np.maximum, domain="real or bool",
    partials=(
        lambda t, ans, x, y: share_p.bind(t, order_p.bind(x, y)),
        lambda t, ans, x, y: share_p.bind(t, order_p.bind(y, x)),
    ),
)  # fmt: skip
min_p = elementwise(
    "min", _min, reference=np.minimum, ufunc=np.minimum, domain="real or bool",
    partials=(
        lambda t, ans, x, y: share_p.bind(t, order_p.bind(y, x)),
        lambda t, ans, x, y: share_p.bind(t, order_p.bind(x, y)),
    ),
)  # fmt: skip
abs_p = elementwise(
    "abs", _abs, reference=_abs_reference, ufunc=np.abs, domain="real", partials=(_abs_partial,),
)  # fmt: skip
sign_p = elementwise(
    "sign", _sign, reference=np.sign, ufunc=np.sign, domain="real", partials=(None,),
)  # fmt: skip
square_p = elementwise(
    "square", _square, reference=np.square, ufunc=np.square, domain="number",
    partials=(lambda t, ans, x: mul_p.bind(t, _scale(x, 2)),),
)  # fmt: skip
integer_pow_p = elementwise(
    "integer_pow", _integer_pow, reference=_integer_pow_reference, ufunc=_integer_pow_reference, domain="number",
    partials=(_integer_pow_partial,), check=_check_integer_pow,
)  # fmt: skip
pow_p = elementwise(
    "pow", _pow, reference=np.power, ufunc=np.power, domain="inexact", partials=(_pow_dx, _pow_dy),
)  # fmt: skip
sqrt_p = elementwise(
    "sqrt", _sqrt, reference=np.sqrt, ufunc=np.sqrt, domain="inexact",
    partials=(lambda t, ans, x: div_p.bind(_scale(t, 0.5), ans),),
)  # fmt: skip
rsqrt_p = elementwise(
    "rsqrt", _rsqrt, reference=_rsqrt_reference, ufunc=_rsqrt_reference, domain="inexact",
    # d x^(-1/2) = -1/2 x^(-3/2) dx
    partials=(lambda t, ans, x: mul_p.bind(t, _scale(div_p.bind(ans, x), -0.5)),),
)  # fmt: skip
cbrt_p = elementwise(
    "cbrt", _cbrt, reference=np.cbrt, ufunc=np.cbrt, domain="float",
    partials=(lambda t, ans, x: mul_p.bind(t, _scale(div_p.bind(ans, x), 1 / 3)),),
)  # fmt: skip
