"""d/da of the regularized lower incomplete gamma function P(a, x), and of a Gamma(a, 1) sample at a fixed quantile.

Everything is relative to D = x^a e^-x / gamma(a+1), with which P = D S and Q = 1 - P = a D h:

    S = sum c_n,  c_n = x^n / ((a+1) ... (a+n))                     series,              x <= a + 1
    h = 1/(b_0 + k_1/(b_1 + k_2/(b_2 + ...)))                       continued fraction,  x > a + 1
        k_n = n (a-n),  b_n = x + 1 - a + 2n
    h, S/a = the integral over u > 0 of exp(s (a u) - x (e^(s u) - 1))   s = 1 for h, -1 for S/a; a >= 1000

The ratio r = (dP/da) / D needs no exponential of large numbers and stays finite where D underflows; the sample's
derivative, by implicit differentiation of P(a, x) = const, is -(dP/da) / (a D / x) = -x r / a.

Sources: R. J. Moore, "Algorithm AS 187: derivatives of the incomplete gamma integral", Applied Statistics 31, 1982
(the series and the fraction, differentiated term by term); M. Figurnov, S. Mohamed, A. Mnih, "Implicit
reparameterization gradients", 2018, arXiv:1805.08498 (the sample).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

_EPS = 1e-16
# Series and fraction need O(sqrt(a)) terms near x = a, the integral always 64 points.
_LARGE = 1000.0
_STIRLING = 20.0  # from here on, four terms of Stirling's series give 1e-16
_MOST_TERMS = 2000  # more than any a < 1000 needs


def igamma_grad_a(special: Any, a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """dP(a, x)/da.  0 at x = 0; NaN for a <= 0, x < 0, and where an operand is infinite; computed in float64.

    ``special`` is the module scipy.special, for digamma and log gamma.

    >>> from scipy import special
    >>> igamma_grad_a(special, np.array([1.5]), np.array([2.0]))
    array([-0.27743356])
    """
    return _where_defined(lambda a, x: np.exp(_log_d(special, a, x)) * _ratio(special, a, x), a, x)


def random_gamma_grad(special: Any, a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """-(dP/da) / (dP/dx), dx/da at fixed P(a, x); edges and ``special`` as for ``igamma_grad_a``.

    >>> from scipy import special
    >>> random_gamma_grad(special, np.array([1.5]), np.array([2.0]))
    array([1.28462955])
    """
    return _where_defined(lambda a, x: -_ratio(special, a, x) * x / a, a, x)


def _where_defined(function: Callable[..., np.ndarray], a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The function where 0 < a < inf and 0 < x < inf; elsewhere 0 at x = 0 < a, and NaN."""
    wide_a, wide_x = a.astype(np.float64), x.astype(np.float64)
    inside = (wide_a > 0) & np.isfinite(wide_a) & (wide_x > 0) & np.isfinite(wide_x)
    out = np.where((wide_a > 0) & (wide_x == 0), 0.0, np.nan)
    with np.errstate(all="ignore"):  # underflow of D, and the true results beyond the range of the dtype
        out[inside] = function(wide_a[inside], wide_x[inside])
        return out.astype(a.dtype)


def _ratio(special: Any, a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """r = (dP/da) / D, of vectors of positive numbers."""
    out = np.empty_like(a)
    large, below = a >= _LARGE, x <= a + 1
    for where, method in (
        (large, _by_integral),
        (~large & below, functools.partial(_by_series, special)),
        (~large & ~below, functools.partial(_by_fraction, special)),
    ):
        if where.any():
            out[where] = method(a[where], x[where])
    return out


def _by_series(special: Any, a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """dD/da = D (log x - digamma(a+1)), hence r = S (log x - digamma(a+1)) + dS/da."""
    term, total = np.ones_like(a), np.ones_like(a)
    dterm, dtotal = np.zeros_like(a), np.zeros_like(a)
    for n in range(1, _MOST_TERMS):
        # c_n = c_(n-1) x/(a+n), and d(x/(a+n))/da = -x/(a+n)^2
        dterm = (dterm - term / (a + n)) * (x / (a + n))
        term = term * (x / (a + n))
        total, dtotal = total + term, dtotal + dterm
        if ((term <= _EPS * total) & (-dterm <= -_EPS * dtotal)).all():
            break
    return total * (np.log(x) - special.digamma(a + 1)) + dtotal


def _by_fraction(special: Any, a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """dP = -dQ and Q = a D h, hence r = -h (1 + a (log x - digamma(a+1) + d(log h)/da)).

    Lentz's method: h is the product of C_n D_n, with C_n = b_n + k_n/C_(n-1) and D_n = 1/(b_n + k_n D_(n-1)); the
    inverse of C is kept, 0 at first.
    """
    outer = 1 + a * (np.log(x) - special.digamma(a + 1))
    b = x + 1 - a  # db/da = -1
    inverse_c, dinverse_c = np.zeros_like(a), np.zeros_like(a)
    d = 1 / b
    dd = d * d
    h, dlog_h = d, d
    for n in range(1, _MOST_TERMS):
        k = n * (a - n)  # dk/da = n
        b = b + 2
        dd_inverse = n * d + k * dd - 1
        d = 1 / (b + k * d)
        dd = -d * d * dd_inverse
        c = b + k * inverse_c
        dc = n * inverse_c + k * dinverse_c - 1
        inverse_c, dinverse_c = 1 / c, -dc / (c * c)
        factor, step = c * d, dc / c + dd / d
        h, dlog_h = h * factor, dlog_h + step
        if ((np.abs(factor - 1) <= 10 * _EPS) & (np.abs(a * step) <= 10 * _EPS * (outer + a * dlog_h))).all():
            break
    return -h * (outer + a * dlog_h)


def _by_integral(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """P or Q under the integral sign, with t = x e^v: r = -s a times the integral over u > 0, v = s u, of

        exp(-|x-a| u - x (e^v - 1 - v)) (log x - digamma(a) + v),    s = -1 if x <= a (P), else 1 (Q).

    The exponent is below -35 at the upper end, and u <= 0.4 there: it is at least x u^2/2 (1 - u/3) in magnitude.
    """
    s = np.where(x <= a, -1.0, 1.0)[:, None]
    upper = np.minimum(40 / np.abs(x - a), np.sqrt(80 / np.maximum(x, 500)))
    # x < 500 <= a/2 leaves the first bound the smaller one, whatever x is
    points, weights = np.polynomial.legendre.leggauss(64)
    u = upper[:, None] * (points + 1) / 2
    exponent = -np.abs(x - a)[:, None] * u - x[:, None] * _expm1_minus(s * u)
    integrand = np.exp(exponent) * ((_log_quotient(a, x) + _log_minus_digamma(a))[:, None] + s * u)
    return -s[:, 0] * a * (integrand @ weights) * upper / 2


def _log_d(special: Any, a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """log D = a log x - x - log gamma(a+1); for larger a through Stirling's series, in which the large terms cancel."""
    direct = a * np.log(x) - x - special.gammaln(a + 1)
    v = _log_quotient(a, x)
    # a (e^v - 1 - v) = x - a - a log(x/a)
    centred = np.where(np.abs(v) <= 0.4, a * _expm1_minus(np.clip(v, -0.4, 0.4)), x - a - a * v)
    i = 1 / a
    stirling = i * (1 / 12 - i**2 * (1 / 360 - i**2 * (1 / 1260 - i**2 / 1680)))
    return np.where(a < _STIRLING, direct, -centred - (np.log(2 * np.pi) + np.log(a)) / 2 - stirling)


def _log_quotient(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """log(x/a), accurate for x near a."""
    return np.where(np.abs(x - a) <= a / 2, np.log1p((x - a) / a), np.log(x) - np.log(a))


def _log_minus_digamma(a: np.ndarray) -> np.ndarray:
    """log a - digamma(a), for a >= 1000."""
    return 1 / (2 * a) + (1 / a) ** 2 * (1 / 12 - (1 / a) ** 2 / 120)


def _expm1_minus(v: np.ndarray) -> np.ndarray:
    """e^v - 1 - v for |v| <= 0.4, accurate near 0: v^2/2 (1 + v/3 (1 + v/4 (1 + ...)))."""
    total = np.ones_like(v)
    for n in range(15, 2, -1):
        total = 1 + v / n * total
    return v * v / 2 * total
