"""Poisson, binomial and multinomial numbers, by inversion where the mean is small and by rejection where it is not.

W. Hörmann, *The transformed rejection method for generating Poisson random variables*, 1993,
https://doi.org/10.1016/0167-6687(93)90997-4, and *The generation of binomial random variates*, 1993,
https://doi.org/10.1080/00949659308811496.  All elements are drawn anew until the last one is accepted.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, from_numpy
from fgrad.higher_order.jit import jit
from fgrad.numpy import ufuncs
from fgrad.numpy.indexing import take
from fgrad.numpy.logic import where
from fgrad.numpy.promotion import cast, expand_to, inexact_dtype, promote_dtypes_inexact
from fgrad.primitives.broadcast import full_like
from fgrad.random.arguments import (
    Shape,
    check_key,
    float_dtype,
    in_dtype,
    integer_dtype,
    not_negative,
    probability,
    real,
    shape_for,
)
from fgrad.random.generator import keys_from, split_key, uniform_of


def _some(mask: Array) -> Array:
    return lax.reduce_or(mask, tuple(range(mask.ndim)))


def _accepted(
    key: Array, needed: Array, dtype: np.dtype, propose: Callable[[Array, Array], tuple[Array, Array]]
) -> Array:
    """Values proposed, (value, whether to accept it) from two uniform arrays, until every element has one.

    No round at all where none is needed.  Otherwise the others take part too: as in JAX an element keeps the last value
    that it has accepted, so how many rounds there are shows in the numbers.
    """

    def step(state: Any) -> Any:
        key, value, done = state
        key, *keys = keys_from(key, 3)
        new, accept = propose(*(uniform_of(k, needed.shape, dtype) for k in keys))
        return key, lax.select(accept, new, value), lax.bitwise_or(done, accept)

    start = (key, lax.full(needed.shape, -1, dtype), expand_to(~_some(needed), needed.shape))
    return lax.while_loop(lambda state: _some(lax.bitwise_not(state[2])), step, start)[1]


#: log k! less Stirling's formula, for k = 0 .. 9.
_STIRLING_TAIL = np.array(
    [
        0.0810614667953272, 0.0413406959554092, 0.0276779256849983, 0.02079067210376509, 0.0166446911898211,
        0.0138761288230707, 0.0118967099458917, 0.0104112652619720, 0.00925546218271273, 0.00833056343336287,
    ]
)  # fmt: skip


def _stirling_tail(k: Array) -> Array:
    table = from_numpy(_STIRLING_TAIL, k.dtype)
    square = (k + 1) * (k + 1)
    series = (1 / 12 - (1 / 360 - 1 / 1260 / square) / square) / (k + 1)
    place = lax.convert_element_type(ufuncs.minimum(ufuncs.maximum(k, 0), 9), dtypes.int32)
    return where(k <= 9, take(table, place, mode="clip"), series)


def _log_factorial(k: Array) -> Array:
    """log k!, k a whole number."""
    return (k + 0.5) * lax.log(k + 1) - (k + 1) + math.log(2 * math.pi) / 2 + _stirling_tail(k)


# --- poisson ---------------------------------------------------------------------------------------------------------
def poisson(key: Any, lam: Any, shape: Any = None, dtype: Any = None) -> Array:
    """The Poisson distribution with mean ``lam`` (which broadcasts to ``shape``), int32 unless given.

    Below a mean of 10, how many uniform numbers may be multiplied before the product falls below exp(-lam) (Knuth);
    else transformed rejection.  Computed in float32; a NaN or negative mean gives -1,
    an infinite one the dtype's largest integer.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.poisson.html

    >>> import fgrad
    >>> fgrad.random.poisson(fgrad.random.key(0), 3.0, (5,)).tolist()
    [0, 0, 4, 4, 1]
    """
    key, target = check_key("poisson", key), integer_dtype("poisson", dtype)
    lam = in_dtype("poisson", "lam", lam, dtypes.float32)
    shape = shape_for("poisson", shape, lam.shape)
    not_negative("poisson", lam=lam)
    return _poisson(key, lam, shape, target)


@functools.partial(jit, static_argnums=(2, 3))
def _poisson(key: Array, lam: Array, shape: Shape, dtype: np.dtype) -> Array:
    lam = expand_to(lam, shape)
    small, endless = ~(lam >= 10), lax.eq(lam, full_like(lam, math.inf))
    few = _poisson_small(key, lax.select(small, lam, full_like(lam, 0)))
    large = ~(small | endless)
    many = _poisson_large(key, lax.select(large, lam, full_like(lam, 1e5)), large)
    out = where(endless, math.inf, lax.select(small, few, many))
    out = lax.select(lax.eq(lam, full_like(lam, 0)), full_like(out, 0), out)
    return lax.convert_element_type(out, dtype)


def _poisson_small(key: Array, lam: Array) -> Array:
    def step(state: Any) -> Any:
        key, count, log_product = state
        key, uniform_key = keys_from(key, 2)
        more = lax.gt(log_product, lax.neg(lam))
        u = uniform_of(uniform_key, lam.shape, lam.dtype)
        return key, lax.select(more, count + 1, count), lax.add(log_product, lax.log(u))

    nothing = full_like(lam, 0)
    state = lax.while_loop(lambda s: _some(lax.gt(s[2], lax.neg(lam))), step, (key, nothing, nothing))
    return state[1] - 1


def _poisson_large(key: Array, lam: Array, needed: Array) -> Array:
    log_lam = lax.log(lam)
    b = 0.931 + 2.53 * lax.sqrt(lam)
    a = -0.059 + 0.02483 * b
    inv_alpha = 1.1239 + 1.1328 / (b - 3.4)
    v_r = 0.9277 - 3.6224 / (b - 2)

    def propose(u: Array, v: Array) -> tuple[Array, Array]:
        u = u - 0.5
        us = 0.5 - lax.abs(u)
        k = lax.floor((2 * a / us + b) * u + lam + 0.43)
        s = lax.log(v * inv_alpha / (a / (us * us) + b))
        t = k * log_lam - lam - _log_factorial(k)
        inside = (us >= 0.07) & (v <= v_r)
        outside = (k < 0) | ((us < 0.013) & (v > us))
        return k, inside | (~outside & (s <= t))

    return _accepted(key, needed, lam.dtype, propose)


# --- binomial --------------------------------------------------------------------------------------------------------
def binomial(key: Any, n: Any, p: Any, shape: Any = None, dtype: Any = None) -> Array:
    """How many of ``n`` trials of probability ``p`` succeed, as float32 unless given.

    Where the smaller expected number, of successes or failures, is at most 10, geometric numbers are added until they
    pass n; else transformed rejection.  NaN where n is negative or NaN, or p is NaN or outside [0, 1]; inf for n = inf.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.binomial.html

    >>> import fgrad
    >>> fgrad.random.binomial(fgrad.random.key(0), 10, 0.5, (4,)).tolist()
    [6.0, 7.0, 5.0, 6.0]
    """
    key, target = check_key("binomial", key), float_dtype("binomial", dtype)
    p = real("binomial", "p", p)
    p = cast("binomial", p, inexact_dtype(p.dtype))
    n = in_dtype("binomial", "n", n, p.dtype)
    shape = shape_for("binomial", shape, n.shape, p.shape)
    not_negative("binomial", n=n)
    probability("binomial", p=p)
    return _binomial(key, n, p, shape, target)


@functools.partial(jit, static_argnums=(3, 4))
def _binomial(key: Array, n: Array, p: Array, shape: Shape, dtype: np.dtype) -> Array:
    n, p = expand_to(n, shape), expand_to(p, shape)
    rare = lax.lt(p, full_like(p, 0.5))
    q = lax.select(rare, p, 1.0 - p)  # of the rarer outcome
    wrong = ~((q >= 0) & (n >= 0))
    endless = lax.eq(n, full_like(n, math.inf))
    q = lax.select(lax.ge(q, full_like(q, 0)), q, full_like(q, 0.01))
    invert = (n * q <= 10) | ~(n >= 0) | endless
    n = lax.floor(n)
    simple = invert & ~endless & ~wrong
    few = _binomial_small(key, lax.select(simple, n, full_like(n, -1)), q)
    n_large, q_large = lax.select(invert, full_like(n, 1e4), n), lax.select(invert, full_like(q, 0.5), q)
    many = _binomial_large(key, n_large, q_large, ~invert)
    out = lax.select(invert, few, many)
    out = lax.select(rare | endless, out, n - out)
    out = where(wrong, math.nan, where(endless, math.inf, out))
    return lax.convert_element_type(out, dtype)


def _binomial_small(key: Array, n: Array, p: Array) -> Array:
    """Failures before a success are geometric: count how many fit into n trials."""
    log_fail = lax.log1p(lax.neg(p))

    def step(state: Any) -> Any:
        key, count, total = state
        uniform_key, key = keys_from(key, 2)
        count = lax.select(lax.le(total, n), count + 1, count)
        u = uniform_of(uniform_key, n.shape, n.dtype)
        return key, count, total + lax.ceil(lax.log(u) / log_fail)

    nothing = full_like(n, 0)
    return lax.while_loop(lambda s: _some(lax.le(s[2], n)), step, (key, nothing, nothing))[1] - 1


def _binomial_large(key: Array, n: Array, p: Array, needed: Array) -> Array:
    deviation = lax.sqrt(n * p * (1 - p))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * p
    center = n * p + 0.5
    v_r = 0.92 - 4.2 / b
    odds = p / (1 - p)
    alpha = (2.83 + 5.1 / b) * deviation
    m = lax.floor((n + 1) * p)

    def propose(u: Array, v: Array) -> tuple[Array, Array]:
        u = u - 0.5
        us = 0.5 - lax.abs(u)
        k = lax.floor((2 * a / us + b) * u + center)
        inside = (us >= 0.07) & (v <= v_r)
        outside = (k < 0) | (k > n)
        v = lax.log(v * alpha / (a / (us * us) + b))
        bound = (
            (m + 0.5) * lax.log((m + 1) / (odds * (n - m + 1)))
            + (n + 1) * lax.log((n - m + 1) / (n - k + 1))
            + (k + 0.5) * lax.log(odds * (n - k + 1) / (k + 1))
            + _stirling_tail(m)
            + _stirling_tail(n - m)
            - _stirling_tail(k)
            - _stirling_tail(n - k)
        )
        return k, inside | (~outside & (v <= bound))

    return _accepted(key, needed, n.dtype, propose)


def multinomial(key: Any, n: Any, p: Any, *, shape: Any = None, dtype: Any = None) -> Array:
    """How often each outcome occurs in ``n`` trials, as float32 unless given: outcomes are the last axis of ``p``.

    The first outcome is binomial, the second binomial among what is left, and so on.  The result has shape ``shape``,
    which ends in the number of outcomes and to which p broadcasts (its own by default); n broadcasts to the rest.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.multinomial.html
    """
    key, target = check_key("multinomial", key), float_dtype("multinomial", dtype)
    n, p = promote_dtypes_inexact("multinomial", real("multinomial", "n", n), real("multinomial", "p", p))
    if p.ndim == 0:
        raise ValueError("multinomial: p must have an axis of outcomes, got shape (). Give a probability for each.")
    shape = shape_for("multinomial", shape, p.shape)
    shape_for("multinomial", shape[:-1], n.shape)
    not_negative("multinomial", n=n, p=p)
    return _multinomial(key, n, p, shape, target)


@functools.partial(jit, static_argnums=(3, 4))
def _multinomial(key: Array, n: Array, p: Array, shape: Shape, dtype: np.dtype) -> Array:
    n, p = expand_to(n, shape[:-1]), expand_to(p, shape)
    p = lax.transpose(p, (p.ndim - 1, *range(p.ndim - 1)))
    left = lax.cumsum(p, reverse=True)
    share = lax.div(p, where(lax.eq(left, full_like(left, 0)), 1.0, left))
    share = ufuncs.minimum(ufuncs.maximum(share, 0), 1)

    def next_outcome(trials: Array, share_and_key: tuple[Array, Array]) -> tuple[Array, Array]:
        count = _binomial(share_and_key[1], trials, share_and_key[0], trials.shape, trials.dtype)
        return lax.sub(trials, count), count

    _, counts = lax.scan(next_outcome, n, (share, split_key(key, share.shape[:1])))
    return lax.convert_element_type(lax.transpose(counts, (*range(1, counts.ndim), 0)), dtype)
