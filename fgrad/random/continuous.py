"""Continuous distributions that are functions of uniform and normal numbers.

Parameters are converted to ``dtype`` and broadcast to ``shape``.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array
from fgrad.core.static import choice
from fgrad.higher_order.jit import jit
from fgrad.lax.common import canonical_shape
from fgrad.numpy.logic import where
from fgrad.numpy.promotion import expand_to
from fgrad.numpy.types import finfo
from fgrad.primitives.broadcast import full_like
from fgrad.random.arguments import Shape, arguments, check_key, not_negative, ordered
from fgrad.random.generator import keys_from, normal_of, random_bits, scaled_normal, uniform_between, uniform_of


def bits(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Random bits: unsigned integers, uint32 unless given, uniform over the whole dtype.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.bits.html

    >>> import fgrad
    >>> fgrad.random.bits(fgrad.random.key(0), (2,)).tolist()
    [4070199207, 4202968722]
    """
    target = dtypes.uint32 if dtype is None else dtypes.canonical(dtype)
    if target.kind != "u":
        raise TypeError(f"bits: dtype must be an unsigned integer, got {target}. Use uint8, uint16, uint32 or uint64.")
    return random_bits(check_key("bits", key), 8 * target.itemsize, canonical_shape("bits", shape))


def uniform(key: Any, shape: Any = (), dtype: Any = None, minval: Any = 0.0, maxval: Any = 1.0) -> Array:
    """Uniform in [minval, maxval), float32 unless given; the bounds broadcast to ``shape``.

    Random bits are the mantissa of a float in [1, 2), from which 1 is subtracted.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.uniform.html

    >>> import fgrad
    >>> fgrad.random.uniform(fgrad.random.key(0), (2,)).tolist()
    [0.947667..., 0.978579...]
    """
    key, (low, high), shape, dtype = arguments("uniform", key, shape, dtype, minval=minval, maxval=maxval)
    ordered("uniform", minval=low, maxval=high)
    return uniform_between(key, low, high, shape, dtype)


# --- from normal numbers ---------------------------------------------------------------------------------------------
def normal(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """The standard normal distribution, float32 unless given: sqrt(2) erf^-1(u), u uniform in (-1, 1).

    https://docs.jax.dev/en/latest/_autosummary/jax.random.normal.html

    >>> import fgrad
    >>> fgrad.random.normal(fgrad.random.key(0), (2,)).tolist()
    [1.622642..., 2.025264...]
    """
    key, _, shape, dtype = arguments("normal", key, shape, dtype)
    return normal_of(key, shape, dtype)


def truncated_normal(key: Any, lower: Any, upper: Any, shape: Any = None, dtype: Any = None) -> Array:
    """The standard normal distribution within (lower, upper), which broadcast to ``shape``.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.truncated_normal.html
    """
    key, (lower, upper), shape, dtype = arguments("truncated_normal", key, shape, dtype, lower=lower, upper=upper)
    ordered("truncated_normal", strictly=True, lower=lower, upper=upper)
    return _truncated_normal(key, lower, upper, shape, dtype)


@functools.partial(jit, static_argnums=(3, 4))
def _truncated_normal(key: Array, lower: Array, upper: Array, shape: Shape, dtype: np.dtype) -> Array:
    a, b = (lax.erf(lax.div(x, full_like(x, math.sqrt(2)))) for x in (lower, upper))
    out = scaled_normal(uniform_between(key, a, b, shape, dtype))
    # rounding must not reach the bounds
    inside = [
        lax.nextafter(lax.stop_gradient(x), full_like(x, towards)) for x, towards in ((lower, np.inf), (upper, -np.inf))
    ]
    return lax.min(lax.max(out, expand_to(inside[0], shape)), expand_to(inside[1], shape))


def lognormal(key: Any, sigma: Any = 1.0, shape: Any = None, dtype: Any = None) -> Array:
    """exp(sigma z), z standard normal.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.lognormal.html
    """
    key, (sigma,), shape, dtype = arguments("lognormal", key, shape, dtype, sigma=sigma)
    not_negative("lognormal", sigma=sigma)
    return _lognormal(key, sigma, shape, dtype)


@functools.partial(jit, static_argnums=(2, 3))
def _lognormal(key: Array, sigma: Array, shape: Shape, dtype: np.dtype) -> Array:
    return lax.exp(lax.mul(normal_of(key, shape, dtype), expand_to(sigma, shape)))


def maxwell(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """The Maxwell distribution, density ~ x^2 exp(-x^2 / 2): the length of a standard normal vector in 3 dimensions.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.maxwell.html
    """
    key, _, shape, dtype = arguments("maxwell", key, shape, dtype)
    return _maxwell(key, shape, dtype)


@functools.partial(jit, static_argnums=(1, 2))
def _maxwell(key: Array, shape: Shape, dtype: np.dtype) -> Array:
    return lax.sqrt(lax.reduce_sum(lax.square(normal_of(key, (*shape, 3), dtype)), (len(shape),)))


def double_sided_maxwell(key: Any, loc: Any, scale: Any, shape: Any = (), dtype: Any = None) -> Array:
    """loc + scale s x, x Maxwell and s a random sign; the result has shape ``shape`` + that of the parameters.

    As in JAX, no ``shape`` counts as that of the parameters.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.double_sided_maxwell.html
    """
    name = "double_sided_maxwell"
    key, (loc, scale), own, dtype = arguments(name, key, None, dtype, loc=loc, scale=scale)
    return _double_sided_maxwell(key, loc, scale, (*(canonical_shape(name, shape) or own), *own), dtype)


@functools.partial(jit, static_argnums=(3, 4))
def _double_sided_maxwell(key: Array, loc: Array, scale: Array, shape: Shape, dtype: np.dtype) -> Array:
    maxwell_key, sign_key = keys_from(key, 2)
    x = lax.mul(random_sign(sign_key, shape, dtype), _maxwell(maxwell_key, shape, dtype))
    return lax.add(lax.mul(x, expand_to(scale, shape)), expand_to(loc, shape))


def random_sign(key: Array, shape: Shape, dtype: np.dtype) -> Array:
    """1 or -1, equally likely."""
    return where(lax.lt(uniform_of(key, shape, dtypes.float32), 0.5), *(np.array(s, dtype) for s in (1, -1)))


def wald(key: Any, mean: Any, shape: Any = None, dtype: Any = None) -> Array:
    """The Wald (inverse Gaussian) distribution with unit scale.

    J. Michael, W. Schucany, R. Haas, *Generating random variates using transformations with multiple roots*, 1976,
    https://doi.org/10.1080/00031305.1976.10479147; https://docs.jax.dev/en/latest/_autosummary/jax.random.wald.html.
    """
    key, (mean,), shape, dtype = arguments("wald", key, shape, dtype, mean=mean)
    not_negative("wald", mean=mean)
    return _wald(key, mean, shape, dtype)


@functools.partial(jit, static_argnums=(2, 3))
def _wald(key: Array, mean: Array, shape: Shape, dtype: np.dtype) -> Array:
    normal_key, uniform_key = keys_from(key, 2)
    mean = expand_to(mean, shape)
    y = lax.square(normal_of(normal_key, shape, dtype))
    z = uniform_of(uniform_key, shape, dtype)
    # the two roots of (x - mean)^2 / (mean^2 x) = y are x and mean^2 / x
    root = lax.sqrt(4 * mean * y + mean * mean * y * y)
    x = mean + mean * mean * y / 2 - mean / 2 * root
    return where(lax.le(z, mean / (mean + x)), x, mean * mean / x)


# --- from uniform numbers --------------------------------------------------------------------------------------------
def exponential(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """The exponential distribution with rate 1: -log(1 - u), u uniform in [0, 1).

    https://docs.jax.dev/en/latest/_autosummary/jax.random.exponential.html
    """
    key, _, shape, dtype = arguments("exponential", key, shape, dtype)
    return exponential_of(key, shape, dtype)


@functools.partial(jit, static_argnums=(1, 2))
def exponential_of(key: Array, shape: Shape, dtype: np.dtype) -> Array:
    """``exponential`` of checked arguments."""
    return lax.neg(lax.log1p(lax.neg(uniform_of(key, shape, dtype))))


def gumbel(key: Any, shape: Any = (), dtype: Any = None, mode: str | None = None) -> Array:
    """The standard Gumbel distribution: -log(-log(u)), u uniform in (0, 1).

    ``mode`` 'high' draws twice as many bits, for values beyond the 16 or so that float32 reaches with 'low', the
    default.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.gumbel.html
    """
    key, _, shape, dtype = arguments("gumbel", key, shape, dtype)
    return gumbel_of(key, shape, dtype, check_mode("gumbel", mode))


def check_mode(name: str, mode: Any) -> str:
    """'low' (for None too) or 'high'."""
    return choice(name, "mode", mode, (None, "low", "high")) or "low"


@functools.partial(jit, static_argnums=(1, 2, 3))
def gumbel_of(key: Array, shape: Shape, dtype: np.dtype, mode: str) -> Array:
    """``gumbel`` of checked arguments."""
    info = finfo(dtype)
    if mode == "low":
        return lax.neg(lax.log(lax.neg(lax.log(uniform_of(key, shape, dtype, float(info.tiny))))))
    pair = uniform_of(key, (2, *shape), dtype)
    high, low = (lax.index_in_dim(pair, i, keepdims=False) for i in (0, 1))
    x = where(lax.ge(high, full_like(high, 0.5)), high, high + low * 2.0**-info.nmant + float(info.tiny))
    return lax.neg(lax.log(lax.neg(lax.log1p(lax.neg(x)))))


def laplace(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """The Laplace distribution, density exp(-|x|) / 2: sign(u) log(1 - |u|), u uniform in (-1, 1).

    https://docs.jax.dev/en/latest/_autosummary/jax.random.laplace.html
    """
    key, _, shape, dtype = arguments("laplace", key, shape, dtype)
    return _laplace(key, shape, dtype)


@functools.partial(jit, static_argnums=(1, 2))
def _laplace(key: Array, shape: Shape, dtype: np.dtype) -> Array:
    u = uniform_of(key, shape, dtype, -1 + float(finfo(dtype).epsneg))
    return lax.mul(lax.sign(u), lax.log1p(lax.neg(lax.abs(u))))


def logistic(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """The logistic distribution: log(u / (1 - u)), u uniform in (0, 1).

    https://docs.jax.dev/en/latest/_autosummary/jax.random.logistic.html
    """
    key, _, shape, dtype = arguments("logistic", key, shape, dtype)
    return _logistic(key, shape, dtype)


@functools.partial(jit, static_argnums=(1, 2))
def _logistic(key: Array, shape: Shape, dtype: np.dtype) -> Array:
    u = uniform_of(key, shape, dtype, float(finfo(dtype).tiny))
    return lax.sub(lax.log(u), lax.log1p(lax.neg(u)))


def cauchy(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """The Cauchy distribution, density ~ 1 / (x^2 + 1): tan(pi (u - 1/2)), u uniform in (0, 1).

    https://docs.jax.dev/en/latest/_autosummary/jax.random.cauchy.html
    """
    key, _, shape, dtype = arguments("cauchy", key, shape, dtype)
    return _cauchy(key, shape, dtype)


@functools.partial(jit, static_argnums=(1, 2))
def _cauchy(key: Array, shape: Shape, dtype: np.dtype) -> Array:
    u = uniform_of(key, shape, dtype, float(finfo(dtype).eps))
    return lax.tan(lax.mul(full_like(u, math.pi), lax.sub(u, full_like(u, 0.5))))


def pareto(key: Any, b: Any, shape: Any = None, dtype: Any = None) -> Array:
    """The Pareto distribution, density b / x^(b + 1) for x >= 1: exp(e / b), e exponential.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.pareto.html
    """
    key, (b,), shape, dtype = arguments("pareto", key, shape, dtype, b=b)
    not_negative("pareto", b=b)
    return _pareto(key, b, shape, dtype)


@functools.partial(jit, static_argnums=(2, 3))
def _pareto(key: Array, b: Array, shape: Shape, dtype: np.dtype) -> Array:
    return lax.exp(lax.div(exponential_of(key, shape, dtype), expand_to(b, shape)))


def rayleigh(key: Any, scale: Any, shape: Any = None, dtype: Any = None) -> Array:
    """The Rayleigh distribution, density ~ x exp(-x^2 / (2 scale^2)): scale sqrt(-2 log u), u uniform in [0, 1).

    https://docs.jax.dev/en/latest/_autosummary/jax.random.rayleigh.html
    """
    key, (scale,), shape, dtype = arguments("rayleigh", key, shape, dtype, scale=scale)
    not_negative("rayleigh", scale=scale)
    return _rayleigh(key, scale, shape, dtype)


@functools.partial(jit, static_argnums=(2, 3))
def _rayleigh(key: Array, scale: Array, shape: Shape, dtype: np.dtype) -> Array:
    log_u = lax.log(uniform_of(key, shape, dtype))
    return lax.mul(expand_to(scale, shape), lax.sqrt(lax.mul(log_u, full_like(log_u, -2))))


def weibull_min(key: Any, scale: Any, concentration: Any, shape: Any = None, dtype: Any = None) -> Array:
    """The Weibull distribution: scale (-log(1 - u))^(1 / concentration), u uniform in [0, 1).

    https://docs.jax.dev/en/latest/_autosummary/jax.random.weibull_min.html
    """
    name = "weibull_min"
    key, (scale, power), shape, dtype = arguments(name, key, shape, dtype, scale=scale, concentration=concentration)
    not_negative(name, scale=scale, concentration=power)
    return _weibull_min(key, scale, power, shape, dtype)


@functools.partial(jit, static_argnums=(3, 4))
def _weibull_min(key: Array, scale: Array, concentration: Array, shape: Shape, dtype: np.dtype) -> Array:
    power = lax.div(full_like(concentration, 1), concentration)
    return lax.mul(lax.pow(exponential_of(key, shape, dtype), expand_to(power, shape)), expand_to(scale, shape))


def triangular(key: Any, left: Any, mode: Any, right: Any, shape: Any = None, dtype: Any = None) -> Array:
    """The triangular distribution on [left, right] with its peak at ``mode``, by its inverse distribution function.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.triangular.html
    """
    name = "triangular"
    key, points, shape, dtype = arguments(name, key, shape, dtype, left=left, mode=mode, right=right)
    ordered(name, left=points[0], mode=points[1], right=points[2])
    return _triangular(key, *points, shape, dtype)


@functools.partial(jit, static_argnums=(4, 5))
def _triangular(key: Array, left: Array, mode: Array, right: Array, shape: Shape, dtype: np.dtype) -> Array:
    left, mode, right = (expand_to(x, shape) for x in (left, mode, right))
    u = uniform_of(key, shape, dtype)
    rising = left + lax.sqrt(u * (right - left) * (mode - left))
    falling = right - lax.sqrt((1 - u) * (right - left) * (right - mode))
    return where(lax.lt(u, (mode - left) / (right - left)), rising, falling)
