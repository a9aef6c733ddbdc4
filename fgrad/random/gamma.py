"""The gamma distribution, by rejection, and those made of it: beta, dirichlet, chisquare, t, f, and balls.

G. Marsaglia, W. Tsang, *A simple method for generating gamma variables*, 2000, https://doi.org/10.1145/358407.358414.
Every element has a key of its own, so it does not depend on how often the others are rejected.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core.array import Array
from fgrad.higher_order.custom_jvp import custom_jvp
from fgrad.higher_order.jit import jit
from fgrad.lax.common import canonical_shape
from fgrad.numpy.promotion import expand_to
from fgrad.numpy.types import finfo
from fgrad.primitives.broadcast import full_like
from fgrad.random.arguments import Shape, arguments, check_key, float_dtype, in_dtype, known, not_negative, shape_for
from fgrad.random.continuous import exponential_of, random_sign
from fgrad.random.generator import Words, draw, keys_from, normal_each, normal_of, split_key, unit_each, words_of


# --- one gamma variable for each key ---------------------------------------------------------------------------------
def _tries(words: Words, c: Array) -> tuple[Words, Array, Array, Array]:
    """(next keys, x^2, v, u): x normal with v = 1 + c x > 0, drawn again where it is not; u uniform."""
    dtype = c.dtype

    def again(state: Any) -> Array:
        return lax.reduce_or(lax.le(state[2], full_like(c, 0)), tuple(range(c.ndim)))

    def normal(state: Any) -> Any:
        own, x, v = state
        redraw = lax.le(v, full_like(v, 0))
        fresh = normal_each(draw(own, 1), dtype)
        return (
            tuple(lax.select(redraw, new, old) for new, old in zip(draw(own, 0), own)),
            lax.select(redraw, fresh, x),
            lax.select(redraw, lax.add(full_like(v, 1), lax.mul(fresh, c)), v),
        )

    nothing = full_like(c, 0)
    _, x, v = lax.while_loop(again, normal, (draw(words, 1), nothing, full_like(c, -1)))
    return draw(words, 0), lax.square(x), lax.mul(lax.mul(v, v), v), unit_each(draw(words, 2), dtype)


def _sample(words: Words, alpha: Array, log_space: bool) -> Array:
    """For alpha >= 1, d V with d = alpha - 1/3, V = (1 + c x)^3, c = 1 / (3 sqrt d), accepted where

        u < 1 - 0.0331 x^4    or    log u < x^2 / 2 + d (1 - V + log V),

    and for smaller ones Gamma(alpha) = Gamma(alpha + 1) Uniform^(1 / alpha).
    """
    one = full_like(alpha, 1)
    large = lax.ge(alpha, one)
    d = lax.sub(lax.select(large, alpha, lax.add(alpha, one)), full_like(alpha, 1 / 3))
    c = lax.div(full_like(alpha, 1 / 3), lax.sqrt(d))

    def rejected(x2: Array, v: Array, u: Array) -> Array:
        # as "not below": false where alpha is NaN, or it would be drawn again for ever
        squeeze = lax.sub(one, lax.mul(full_like(u, 0.0331), lax.mul(x2, x2)))
        bound = lax.add(lax.mul(x2, full_like(x2, 0.5)), lax.mul(d, lax.add(lax.sub(one, v), lax.log(v))))
        return lax.bitwise_and(lax.ge(u, squeeze), lax.ge(lax.log(u), bound))

    def again(state: Any) -> Array:
        return lax.reduce_or(rejected(*state[1:]), tuple(range(alpha.ndim)))

    def step(state: Any) -> Any:
        redraw = rejected(*state[1:])
        own, *fresh = _tries(state[0], c)
        words = tuple(lax.select(redraw, new, old) for new, old in zip(own, state[0]))
        return (words, *(lax.select(redraw, new, old) for new, old in zip(fresh, state[1:])))

    start = (draw(words, 0), full_like(alpha, 0), one, full_like(alpha, 2))  # u = 2 is rejected
    v = lax.while_loop(again, step, start)[2]
    boost = unit_each(draw(words, 1), alpha.dtype)
    if not log_space:
        boost = lax.pow(lax.sub(one, boost), lax.div(one, alpha))
        return lax.mul(lax.mul(d, v), lax.select(large, one, boost))
    log_u = lax.log1p(lax.neg(boost))
    none = lax.bitwise_or(large, lax.eq(log_u, full_like(log_u, 0)))
    log_boost = lax.select(none, full_like(alpha, 0), lax.mul(log_u, lax.div(one, alpha)))
    return lax.add(lax.add(lax.log(d), lax.log(v)), log_boost)


def _differentiable(log_space: bool) -> Callable[[Array, Array], Array]:
    """(key, a) -> samples, one for each element of a.

    The derivative in a keeps the sample's quantile: dx/da = -(dF/da) / (dF/dx), F the distribution function
    (M. Figurnov, S. Mohamed, A. Mnih, *Implicit reparameterization gradients*, https://arxiv.org/abs/1805.08498).
    """

    @custom_jvp
    def gamma(key: Array, a: Array) -> Array:
        words = words_of(split_key(key, (a.size,)))
        return lax.reshape(_sample(words, lax.reshape(a, (a.size,)), log_space), a.shape)

    @gamma.defjvp
    def gamma_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Array]) -> tuple[Array, Array]:
        _, a = primals
        out = gamma(*primals)
        if not log_space:
            return out, lax.mul(tangents[1], lax.random_gamma_grad(a, out))
        # d log x = dx / x; where e^log x rounds to 0, the smallest normal number stands for it
        x = lax.max(lax.exp(out), full_like(out, float(finfo(out.dtype).tiny)))
        return out, lax.mul(tangents[1], lax.div(lax.random_gamma_grad(a, x), x))

    return gamma


_gamma_of, _log_gamma_of = _differentiable(False), _differentiable(True)


@functools.partial(jit, static_argnums=(2, 3))
def gamma_of(key: Array, a: Array, shape: Shape, log_space: bool) -> Array:
    """Gamma variables, or their logarithms."""
    return (_log_gamma_of if log_space else _gamma_of)(key, expand_to(a, shape))


# --- distributions ---------------------------------------------------------------------------------------------------
def gamma(key: Any, a: Any, shape: Any = None, dtype: Any = None) -> Array:
    """The gamma distribution, density ~ x^(a - 1) exp(-x), float32 unless given; ``a`` broadcasts to ``shape``.

    Differentiable in ``a``: the derivative keeps the sample's quantile (it needs SciPy).

    https://docs.jax.dev/en/latest/_autosummary/jax.random.gamma.html
    """
    key, (a,), shape, dtype = arguments("gamma", key, shape, dtype, a=a)
    not_negative("gamma", a=a)
    return gamma_of(key, a, shape, False)


def loggamma(key: Any, a: Any, shape: Any = None, dtype: Any = None) -> Array:
    """The logarithm of a gamma variable, precise also where small ``a`` make the variable itself round to 0.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.loggamma.html
    """
    key, (a,), shape, dtype = arguments("loggamma", key, shape, dtype, a=a)
    not_negative("loggamma", a=a)
    return gamma_of(key, a, shape, True)


def beta(key: Any, a: Any, b: Any, shape: Any = None, dtype: Any = None) -> Array:
    """The beta distribution, density ~ x^(a - 1) (1 - x)^(b - 1): x / (x + y) of gamma variables x and y.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.beta.html
    """
    key, (a, b), shape, dtype = arguments("beta", key, shape, dtype, a=a, b=b)
    not_negative("beta", a=a, b=b)
    return _beta(key, a, b, shape)


@functools.partial(jit, static_argnums=3)
def _beta(key: Array, a: Array, b: Array, shape: Shape) -> Array:
    key_a, key_b = keys_from(key, 2)
    log_a, log_b = gamma_of(key_a, a, shape, True), gamma_of(key_b, b, shape, True)
    largest = lax.max(log_a, log_b)
    x, y = lax.exp(lax.sub(log_a, largest)), lax.exp(lax.sub(log_b, largest))
    return lax.div(x, lax.add(x, y))


def dirichlet(key: Any, alpha: Any, shape: Any = None, dtype: Any = None) -> Array:
    """The Dirichlet distribution over the last axis of ``alpha``, [*batch, k]: gamma variables divided by their sum.

    The result is [*shape, k]; batch broadcasts to ``shape``, its default.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.dirichlet.html
    """
    key, dtype = check_key("dirichlet", key), float_dtype("dirichlet", dtype)
    alpha = in_dtype("dirichlet", "alpha", alpha, dtype)
    if alpha.ndim == 0:
        raise ValueError("dirichlet: alpha must have an axis of parameters, got shape (). Give one for each component.")
    shape = shape_for("dirichlet", shape, alpha.shape[:-1])
    not_negative("dirichlet", alpha=alpha)
    return _dirichlet(key, alpha, (*shape, alpha.shape[-1]))


@functools.partial(jit, static_argnums=2)
def _dirichlet(key: Array, alpha: Array, shape: Shape) -> Array:
    logs = gamma_of(key, alpha, shape, True)
    last = (logs.ndim - 1,)
    largest = lax.expand_dims(lax.stop_gradient(lax.reduce_max(logs, last)), last)
    parts = lax.exp(lax.sub(logs, expand_to(largest, shape)))
    return lax.div(parts, expand_to(lax.expand_dims(lax.reduce_sum(parts, last), last), shape))


def chisquare(key: Any, df: Any, shape: Any = None, dtype: Any = None) -> Array:
    """The chi-squared distribution with ``df`` degrees of freedom: 2 Gamma(df / 2).

    https://docs.jax.dev/en/latest/_autosummary/jax.random.chisquare.html
    """
    key, (df,), shape, dtype = arguments("chisquare", key, shape, dtype, df=df)
    not_negative("chisquare", df=df)
    return _chisquare(key, df, shape)


@functools.partial(jit, static_argnums=2)
def _chisquare(key: Array, df: Array, shape: Shape) -> Array:
    return lax.exp(gamma_of(key, df / 2, shape, True)) * 2


def f(key: Any, dfnum: Any, dfden: Any, shape: Any = None, dtype: Any = None) -> Array:
    """The F distribution: the quotient of two chi-squared variables, each divided by its degrees of freedom.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.f.html
    """
    key, (dfnum, dfden), shape, dtype = arguments("f", key, shape, dtype, dfnum=dfnum, dfden=dfden)
    not_negative("f", dfnum=dfnum, dfden=dfden)
    return _f(key, dfnum, dfden, shape)


@functools.partial(jit, static_argnums=3)
def _f(key: Array, dfnum: Array, dfden: Array, shape: Shape) -> Array:
    key_den, key_num = keys_from(key, 2)
    return (_chisquare(key_num, dfnum, shape) / dfnum) / (_chisquare(key_den, dfden, shape) / dfden)


def t(key: Any, df: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Student's t distribution with ``df`` degrees of freedom: z sqrt(df / 2 / Gamma(df / 2)), z standard normal.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.t.html
    """
    key, (df,), shape, dtype = arguments("t", key, shape, dtype, df=df)
    not_negative("t", df=df)
    return _t(key, df, shape, dtype)


@functools.partial(jit, static_argnums=(2, 3))
def _t(key: Array, df: Array, shape: Shape, dtype: np.dtype) -> Array:
    key_normal, key_gamma = keys_from(key, 2)
    half = df / 2
    return normal_of(key_normal, shape, dtype) * lax.sqrt(
        expand_to(half, shape) / gamma_of(key_gamma, half, shape, False)
    )


def generalized_normal(key: Any, p: Any, shape: Any = (), dtype: Any = None) -> Array:
    """The generalized normal distribution, density ~ exp(-|x|^p): a random sign times Gamma(1 / p)^(1 / p).

    https://docs.jax.dev/en/latest/_autosummary/jax.random.generalized_normal.html
    """
    key, (p,), shape, dtype = arguments("generalized_normal", key, shape, dtype, p=p)
    not_negative("generalized_normal", p=p)
    return _generalized_normal(key, p, shape, dtype)


@functools.partial(jit, static_argnums=(2, 3))
def _generalized_normal(key: Array, p: Array, shape: Shape, dtype: np.dtype) -> Array:
    key_gamma, key_sign = keys_from(key, 2)
    power = full_like(p, 1) / p
    size = lax.pow(gamma_of(key_gamma, power, shape, False), expand_to(power, shape))
    return lax.mul(random_sign(key_sign, shape, dtype), size)


def ball(key: Any, d: int, p: float = 2, shape: Any = (), dtype: Any = None) -> Array:
    """Uniform in the unit ball of the p-norm in ``d`` dimensions: [*shape, d].

    F. Barthe et al., *A probabilistic approach to the geometry of the l_p^n ball*, 2005,
    https://arxiv.org/abs/math/0503650; https://docs.jax.dev/en/latest/_autosummary/jax.random.ball.html
    """
    key, (power,), _, dtype = arguments("ball", key, None, dtype, p=p)
    (d,) = canonical_shape("ball", d)
    if power.ndim:
        raise ValueError(f"ball: p must be a scalar, got shape {power.shape}. Use vmap for many.")
    value = known(power)
    if value is not None and not 0 < value < np.inf:
        raise ValueError(f"ball: p must be positive and finite, got {value}. For p = inf use uniform with minval=-1.")
    return _ball(key, power, (*canonical_shape("ball", shape), d), dtype)


@functools.partial(jit, static_argnums=(2, 3))
def _ball(key: Array, p: Array, shape: Shape, dtype: np.dtype) -> Array:
    key_normal, key_exponential = keys_from(key, 2)
    g = _generalized_normal(key_normal, p, shape, dtype)
    e = exponential_of(key_exponential, shape[:-1], dtype)
    powers = lax.reduce_sum(lax.pow(lax.abs(g), expand_to(p, shape)), (len(shape) - 1,))
    norm = lax.pow(lax.add(powers, e), expand_to(full_like(p, 1) / p, shape[:-1]))
    return lax.div(g, expand_to(lax.expand_dims(norm, (norm.ndim,)), shape))
