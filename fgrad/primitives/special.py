"""erf erfc erf_inv lgamma as scalar rules; digamma, polygamma, zeta, the incomplete gamma and beta functions and the
scaled Bessel functions through SciPy (``pip install 'fgrad[scipy]'``), on the host; igamma's derivative in a by series.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core.backends import Host, Unfilled
from fgrad.core.primitive import Primitive
from fgrad.errors import MissingBackendError, MissingDependencyError
from fgrad.kernels.reference import gamma_derivative
from fgrad.primitives.arithmetic import add_p, div_p, mul_p, neg_p, sign_p, square_p, sub_p
from fgrad.primitives.broadcast import full_like
from fgrad.primitives.compare import eq_p, select_n_p
from fgrad.primitives.define import elementwise, in_float32
from fgrad.primitives.transcendental import exp_p, log1p_p, log_p


# --- small expression helpers for derivative rules -------------------------------------------------------------------
def _scale(t: Any, c: float) -> Any:
    return mul_p.bind(t, full_like(t, c))


def _plus(x: Any, c: float) -> Any:
    return add_p.bind(x, full_like(x, c))


def _gaussian(x: Any) -> Any:
    return exp_p.bind(neg_p.bind(square_p.bind(x)))


def _refuse(name: str, operand: str) -> Callable[..., Any]:
    """The partial derivative in an operand for which the literature has no closed form."""

    def partial(t: Any, ans: Any, *xs: Any) -> Any:
        raise MissingBackendError(
            f"{name}: has no derivative in {operand}, for which there is no closed form. "
            f"Differentiate in the other operands only, or put stop_gradient around {operand}."
        )

    return partial


# --- through the C library -------------------------------------------------------------------------------------------
def _each(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    """The NumPy function of a function of one Python float."""

    def reference(x: np.ndarray) -> np.ndarray:
        values = [function(v) for v in x.astype(np.float64).ravel().tolist()]
        return np.array(values, np.float64).reshape(x.shape).astype(x.dtype)

    return reference


def _libm(name: str) -> Callable[..., Any]:
    def rule(s, x):
        return s.call(name, x)

    return rule


def _lgamma(x: float) -> float:
    """Log |gamma(x)|: infinite at the poles 0, -1, -2, ..., where math.lgamma raises."""
    return math.inf if x <= 0 and x == math.floor(x) else math.lgamma(x)


# --- erf_inv ---------------------------------------------------------------------------------------------------------
# erf_inv(x) = ndtri((1 + x)/2) / sqrt(2), and ndtri by the rational functions of algorithm AS 241 (M. J. Wichura,
# "The percentage points of the normal distribution", Applied Statistics 37, 1988), good to 1e-16.  Numerator and
# denominator of each, highest power first.
_CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_TAIL = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip
_FAR_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip


def _rational(s, x, coefficients):
    """Horner's scheme above and below the line."""
    above, below = (s.const(c[0], x.dtype) for c in coefficients)
    for a, b in zip(coefficients[0][1:], coefficients[1][1:]):
        above = s.add(s.mul(above, x), s.const(a, x.dtype))
        below = s.add(s.mul(below, x), s.const(b, x.dtype))
    return s.div(above, below)


@in_float32
def _erf_inv(s, x):
    def const(v):
        return s.const(v, x.dtype)

    # centre, |x| <= 0.85, in 0.425^2 - (x/2)^2;  tails in sqrt(-log((1 - |x|)/2)), where 1 - |x| is exact
    q = s.mul(x, const(0.5))
    centre = s.mul(q, _rational(s, s.sub(const(0.180625), s.mul(q, q)), _CENTRE))
    r = s.sqrt(s.neg(s.call("log", s.mul(s.sub(const(1), s.abs(x)), const(0.5)))))
    near = _rational(s, s.sub(r, const(1.6)), _TAIL)
    far = _rational(s, s.sub(r, const(5)), _FAR_TAIL)
    tail = s.copysign(s.select(s.cmp("le", r, const(5)), near, far), x)
    out = s.select(s.cmp("le", s.abs(q), const(0.425)), centre, tail)
    out = s.mul(out, const(math.sqrt(0.5)))
    return s.select(s.cmp("eq", s.abs(x), const(1)), s.copysign(const(math.inf), x), out)


def _erf_inv_of(x: float) -> float:
    """Halley's iteration on erfc(y) = 1 - |x| (on erf(y) = |x| in the centre), from Winitzki's approximation."""
    p = abs(x)
    if not p < 1:
        return math.copysign(math.inf, x) if p == 1 else math.nan
    a, log = 0.147, math.log1p(-p * p)
    b = 2 / (math.pi * a) + log / 2
    y = math.sqrt(max(math.sqrt(b * b - log / a) - b, 0.0))
    for _ in range(6):
        residual = math.erf(y) - p if p < 0.5 else (1 - p) - math.erfc(y)
        step = residual * math.sqrt(math.pi) / 2 * math.exp(y * y)
        y -= step / (1 + y * step)
    return math.copysign(y, x)


# --- through SciPy ---------------------------------------------------------------------------------------------------
def _scipy(
    name: str, function: str | Callable[..., np.ndarray], partials: Sequence[Callable[..., Any]] | Unfilled
) -> Primitive:
    """A primitive of a function of scipy.special, by name, or of one of ours: (scipy.special, *operands) -> result."""

    def reference(*xs: np.ndarray) -> np.ndarray:
        try:
            from scipy import special
        except ImportError as e:
            raise MissingDependencyError(
                f"{name}: needs SciPy, got none installed. Run: pip install 'fgrad[scipy]'."
            ) from e
        if not isinstance(function, str):
            return function(special, *xs)
        dtype = xs[0].dtype
        wide = [x.astype(np.float32) if dtype.itemsize == 2 else x for x in xs]
        return np.asarray(getattr(special, function)(*wide)).astype(dtype)

    host = Host("it is SciPy's function" if isinstance(function, str) else "it needs SciPy's digamma")
    jvp = partials if isinstance(partials, Unfilled) else None
    return elementwise(name, host, reference=reference, ufunc=None, domain="float", partials=partials, jvp=jvp)


def _gamma_density(a: Any, x: Any) -> Any:
    """x^(a-1) e^-x / gamma(a), the derivative of igamma in x."""
    power = mul_p.bind(_plus(a, -1), log_p.bind(x))
    return exp_p.bind(sub_p.bind(sub_p.bind(power, x), lgamma_p.bind(a)))


def _beta_density(a: Any, b: Any, x: Any) -> Any:
    """x^(a-1) (1-x)^(b-1) gamma(a+b) / (gamma(a) gamma(b)), the derivative of betainc in x."""
    log_beta = sub_p.bind(add_p.bind(lgamma_p.bind(a), lgamma_p.bind(b)), lgamma_p.bind(add_p.bind(a, b)))
    powers = add_p.bind(mul_p.bind(_plus(a, -1), log_p.bind(x)), mul_p.bind(_plus(b, -1), log1p_p.bind(neg_p.bind(x))))
    return exp_p.bind(sub_p.bind(powers, log_beta))


def _zeta_dq(t: Any, ans: Any, x: Any, q: Any) -> Any:
    # sum (q+n)^-x: every term loses one power and gains the factor -x
    return neg_p.bind(mul_p.bind(t, mul_p.bind(x, zeta_p.bind(_plus(x, 1), q))))


def _i0e_partial(t: Any, ans: Any, x: Any) -> Any:
    # d e^-|x| I0(x) = e^-|x| (I1(x) - sign(x) I0(x))
    return mul_p.bind(t, sub_p.bind(bessel_i1e_p.bind(x), mul_p.bind(sign_p.bind(x), ans)))


def _i1e_partial(t: Any, ans: Any, x: Any) -> Any:
    # d e^-|x| I1(x) = e^-|x| (I0(x) - I1(x)/x - sign(x) I1(x)), and 1/2 at 0, where I1(x)/x -> 1/2
    at_zero = eq_p.bind(x, full_like(x, 0))
    safe = select_n_p.bind(at_zero, x, full_like(x, 1))
    slope = sub_p.bind(bessel_i0e_p.bind(safe), mul_p.bind(ans, add_p.bind(sign_p.bind(x), _reciprocal(safe))))
    return mul_p.bind(t, select_n_p.bind(at_zero, slope, full_like(x, 0.5)))


def _reciprocal(x: Any) -> Any:
    return div_p.bind(full_like(x, 1), x)


# --- the table -------------------------------------------------------------------------------------------------------
erf_p = elementwise(
    "erf", _libm("erf"), reference=_each(math.erf), ufunc=None, domain="float",
    partials=(lambda t, ans, x: mul_p.bind(t, _scale(_gaussian(x), 2 / math.sqrt(math.pi))),),
)  # fmt: skip
erfc_p = elementwise(
    "erfc", _libm("erfc"), reference=_each(math.erfc), ufunc=None, domain="float",
    partials=(lambda t, ans, x: mul_p.bind(t, _scale(_gaussian(x), -2 / math.sqrt(math.pi))),),
)  # fmt: skip
erf_inv_p = elementwise(
    "erf_inv", _erf_inv, reference=_each(_erf_inv_of), ufunc=None, domain="float",
    partials=(lambda t, ans, x: mul_p.bind(t, _scale(exp_p.bind(square_p.bind(ans)), math.sqrt(math.pi) / 2)),),
)  # fmt: skip
lgamma_p = elementwise(
    "lgamma", _libm("lgamma"), reference=_each(_lgamma), ufunc=None, domain="float",
    partials=(lambda t, ans, x: mul_p.bind(t, digamma_p.bind(x)),),
)  # fmt: skip
digamma_p = _scipy("digamma", "digamma", (lambda t, ans, x: mul_p.bind(t, polygamma_p.bind(full_like(x, 1), x)),))
polygamma_p = _scipy(
    "polygamma", "polygamma",
    (_refuse("polygamma", "m"), lambda t, ans, m, x: mul_p.bind(t, polygamma_p.bind(_plus(m, 1), x))),
)  # fmt: skip
zeta_p = _scipy("zeta", "zeta", (_refuse("zeta", "x"), _zeta_dq))
igamma_p = _scipy(
    "igamma", "gammainc",
    (
        lambda t, ans, a, x: mul_p.bind(t, igamma_grad_a_p.bind(a, x)),
        lambda t, ans, a, x: mul_p.bind(t, _gamma_density(a, x)),
    ),
)  # fmt: skip
igammac_p = _scipy(
    "igammac", "gammaincc",
    (
        lambda t, ans, a, x: neg_p.bind(mul_p.bind(t, igamma_grad_a_p.bind(a, x))),
        lambda t, ans, a, x: neg_p.bind(mul_p.bind(t, _gamma_density(a, x))),
    ),
)  # fmt: skip
igamma_grad_a_p = _scipy(
    "igamma_grad_a", gamma_derivative.igamma_grad_a,
    Unfilled("it is itself a derivative of igamma in a, and the second derivative has no implementation"),
)  # fmt: skip
random_gamma_grad_p = _scipy(
    "random_gamma_grad", gamma_derivative.random_gamma_grad,
    Unfilled("it is itself the derivative of a sample, and the second derivative has no implementation"),
)  # fmt: skip
betainc_p = _scipy(
    "regularized_incomplete_beta", "betainc",
    (
        _refuse("betainc", "a"), _refuse("betainc", "b"),
        lambda t, ans, a, b, x: mul_p.bind(t, _beta_density(a, b, x)),
    ),
)  # fmt: skip
bessel_i0e_p = _scipy("bessel_i0e", "i0e", (_i0e_partial,))
bessel_i1e_p = _scipy("bessel_i1e", "i1e", (_i1e_partial,))
