"""exp exp2 expm1 log log1p, sin cos tan and their inverses, sinh cosh tanh and theirs, atan2, logistic.

On floats through libm, in float32 for the 16-bit ones; most take complex numbers too, on the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad.core.primitive import Primitive
from fgrad.primitives.arithmetic import add_p, div_p, mul_p, neg_p, rsqrt_p, square_p, sub_p
from fgrad.primitives.broadcast import full_like
from fgrad.primitives.define import elementwise, in_float32


# --- small expression helpers for derivative rules -------------------------------------------------------------------
def _times(t: Any, factor: Any) -> Any:
    return mul_p.bind(t, factor)


def _scale(t: Any, c: float) -> Any:
    return mul_p.bind(t, full_like(t, c))


def _one_plus(x: Any) -> Any:
    return add_p.bind(full_like(x, 1), x)


def _one_minus_square(x: Any) -> Any:
    """(1 - x)(1 + x): exact where 1 - x^2 would lose x's last digits, near 1."""
    one = full_like(x, 1)
    return mul_p.bind(sub_p.bind(one, x), add_p.bind(one, x))


def _unary(name: str, ufunc: Callable[..., Any], partial: Callable[..., Any], domain: str = "inexact") -> Primitive:

    def rule(s, x):
        return s.call(name, x)

    return elementwise(name, rule, reference=ufunc, ufunc=ufunc, domain=domain, partials=(partial,))


# --- logistic --------------------------------------------------------------------------------------------------------
@in_float32
def _logistic(s, x):
    """1/(1 + e) for x >= 0 and e/(1 + e) for x < 0, where e = exp(-|x|) never overflows."""
    e = s.call("exp", s.neg(s.abs(x)))
    one = s.const(1, x.dtype)
    return s.div(s.select(s.cmp("ge", x, s.const(0, x.dtype)), one, e), s.add(one, e))


def _logistic_reference(x: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "c":
        return np.reciprocal(1 + np.exp(-x))
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
    e = np.exp(-np.abs(wide))
    return (np.where(wide >= 0, np.ones_like(e), e) / (1 + e)).astype(x.dtype)


# --- derivatives that need more than a line --------------------------------------------------------------------------
def _tanh_partial(t: Any, ans: Any, x: Any) -> Any:
    return _times(t, _one_minus_square(ans))


def _logistic_partial(t: Any, ans: Any, x: Any) -> Any:
    return _times(t, mul_p.bind(ans, sub_p.bind(full_like(ans, 1), ans)))


def _asin_partial(t: Any, ans: Any, x: Any) -> Any:
    return _times(t, rsqrt_p.bind(_one_minus_square(x)))


def _acosh_partial(t: Any, ans: Any, x: Any) -> Any:
    # 1/sqrt(x^2 - 1), as two roots: their product keeps the branch cut of complex x
    one = full_like(x, 1)
    return _times(t, mul_p.bind(rsqrt_p.bind(sub_p.bind(x, one)), rsqrt_p.bind(add_p.bind(x, one))))


def _over_norm(t: Any, part: Any, x: Any, y: Any) -> Any:
    return _times(t, div_p.bind(part, add_p.bind(square_p.bind(x), square_p.bind(y))))


def _atan2(s, x, y):
    return s.call("atan2", x, y)


# --- the table -------------------------------------------------------------------------------------------------------
exp_p = _unary("exp", np.exp, lambda t, ans, x: _times(t, ans))
exp2_p = _unary("exp2", np.exp2, lambda t, ans, x: _times(t, _scale(ans, math.log(2))), "float")
expm1_p = _unary("expm1", np.expm1, lambda t, ans, x: _times(t, _one_plus(ans)))
log_p = _unary("log", np.log, lambda t, ans, x: div_p.bind(t, x))
log1p_p = _unary("log1p", np.log1p, lambda t, ans, x: div_p.bind(t, _one_plus(x)))
sin_p = _unary("sin", np.sin, lambda t, ans, x: _times(t, cos_p.bind(x)))
cos_p = _unary("cos", np.cos, lambda t, ans, x: neg_p.bind(_times(t, sin_p.bind(x))))
tan_p = _unary("tan", np.tan, lambda t, ans, x: _times(t, _one_plus(square_p.bind(ans))))
asin_p = _unary("asin", np.arcsin, _asin_partial)
acos_p = _unary("acos", np.arccos, lambda t, ans, x: neg_p.bind(_asin_partial(t, ans, x)))
atan_p = _unary("atan", np.arctan, lambda t, ans, x: div_p.bind(t, _one_plus(square_p.bind(x))))
sinh_p = _unary("sinh", np.sinh, lambda t, ans, x: _times(t, cosh_p.bind(x)))
cosh_p = _unary("cosh", np.cosh, lambda t, ans, x: _times(t, sinh_p.bind(x)))
tanh_p = _unary("tanh", np.tanh, _tanh_partial)
asinh_p = _unary("asinh", np.arcsinh, lambda t, ans, x: _times(t, rsqrt_p.bind(_one_plus(square_p.bind(x)))))
acosh_p = _unary("acosh", np.arccosh, _acosh_partial)
atanh_p = _unary("atanh", np.arctanh, lambda t, ans, x: div_p.bind(t, _one_minus_square(x)))
atan2_p = elementwise(
    "atan2", _atan2, reference=np.arctan2, ufunc=np.arctan2, domain="float",
    # d atan(x/y) = (y dx - x dy) / (x^2 + y^2)
    partials=(
        lambda t, ans, x, y: _over_norm(t, y, x, y),
        lambda t, ans, x, y: neg_p.bind(_over_norm(t, x, x, y)),
    ),
)  # fmt: skip
logistic_p = elementwise(
    "logistic", _logistic, reference=_logistic_reference, ufunc=_logistic_reference, domain="inexact",
    partials=(_logistic_partial,),
)  # fmt: skip
