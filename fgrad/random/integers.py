"""Integers and truth values from uniform bits: randint, bernoulli, rademacher, geometric."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, from_numpy, lift
from fgrad.higher_order.jit import jit
from fgrad.lax.common import canonical_shape
from fgrad.numpy.logic import where
from fgrad.numpy.promotion import cast, expand_to, inexact_dtype
from fgrad.numpy.types import finfo
from fgrad.primitives.broadcast import full_like
from fgrad.random.arguments import Shape, check_key, integer_dtype, known, probability, real, shape_for
from fgrad.random.continuous import check_mode, random_sign
from fgrad.random.generator import keys_from, random_bits, uniform_of


def bernoulli(key: Any, p: Any = 0.5, shape: Any = None, mode: str = "low") -> Array:
    """True with probability ``p`` (which broadcasts to ``shape``), as bool: never below 0, always above 1.

    ``mode`` 'high' draws twice as many bits, for probabilities below the 1e-7 or so that float32 resolves with 'low'.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.bernoulli.html
    """
    key, p = check_key("bernoulli", key), lift(p, "bernoulli")
    if not dtypes.is_float(p.dtype):
        raise TypeError(f"bernoulli: p must be floating-point, got {p.aval}. Pass a probability in [0, 1].")
    shape = shape_for("bernoulli", shape, p.shape)
    return _bernoulli(key, p, shape, check_mode("bernoulli", mode))


@functools.partial(jit, static_argnums=(2, 3))
def _bernoulli(key: Array, p: Array, shape: Shape, mode: str) -> Array:
    p = expand_to(p, shape)
    if mode == "low":
        return lax.lt(uniform_of(key, shape, p.dtype), p)
    pair = uniform_of(key, (2, *shape), p.dtype)
    first, second = (lax.index_in_dim(pair, i, keepdims=False) for i in (0, 1))
    return lax.lt(lax.mul(second, full_like(second, 2.0 ** -finfo(p.dtype).nmant)), lax.sub(p, first))


def rademacher(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """1 or -1, equally likely, int32 unless given.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.rademacher.html
    """
    target = dtypes.int32 if dtype is None else dtypes.canonical(dtype)
    if not (dtypes.is_inexact(target) or target.kind == "i"):
        raise TypeError(f"rademacher: dtype must hold 1 and -1, got {target}. Use int32 or float32.")
    return _rademacher(check_key("rademacher", key), canonical_shape("rademacher", shape), target)


_rademacher = jit(random_sign, static_argnums=(1, 2))


def geometric(key: Any, p: Any, shape: Any = None, dtype: Any = None) -> Array:
    """How many trials of probability ``p`` the first success takes, int32 unless given: 1 + floor(log u / log(1 - p)).

    ``p`` = 0 gives the dtype's largest integer.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.geometric.html
    """
    key, target = check_key("geometric", key), integer_dtype("geometric", dtype)
    p = real("geometric", "p", p)
    p = cast("geometric", p, inexact_dtype(p.dtype))
    shape = shape_for("geometric", shape, p.shape)
    probability("geometric", p=p)
    return _geometric(key, p, shape, target)


@functools.partial(jit, static_argnums=(2, 3))
def _geometric(key: Array, p: Array, shape: Shape, dtype: np.dtype) -> Array:
    u = uniform_of(key, shape, p.dtype)
    u = where(lax.eq(u, full_like(u, 0)), full_like(u, 1), u)  # its logarithm is finite
    trials = lax.floor(lax.div(lax.log(u), expand_to(lax.log1p(lax.neg(p)), shape)))
    return lax.convert_element_type(lax.add(trials, full_like(trials, 1)), dtype)


# --- randint ---------------------------------------------------------------------------------------------------------
def _bound(what: str, x: Any) -> Array | int:
    """A bound as it is: an int of any size, or an Array of integers."""
    if isinstance(x, int | np.integer) and not isinstance(x, bool):
        return int(x)
    x = lift(x, "randint")
    if not dtypes.is_integer(x.dtype):
        raise TypeError(f"randint: {what} must be an integer, got {x.aval}. Convert it with .astype(int).")
    return x


def _check_range(low: Array | int, high: Array | int, dtype: np.dtype) -> None:
    """ValueError if known bounds leave no integer, or reach beyond the dtype."""
    info = np.iinfo(dtype)
    lows, highs = (np.array(x, object) if isinstance(x, int) else known(x) for x in (low, high))
    for what, x, least, most in (("minval", lows, info.min, math.inf), ("maxval", highs, -math.inf, info.max + 1)):
        if x is not None and np.any(outside := (x < least) | (x > most)):
            raise ValueError(
                f"randint: the range must fit into {dtype} ({info.min} to {info.max}), got {what} {x[outside][0]}. "
                "Ask for a wider dtype."
            )
    if lows is not None and highs is not None and np.any(lows >= highs):
        a, b = (x[lows >= highs][0] for x in np.broadcast_arrays(lows, highs))
        raise ValueError(f"randint: minval must be below maxval, got {a} and {b}. maxval itself is not drawn: add 1.")


def _clipped(x: Array | int, dtype: np.dtype) -> tuple[Array, Array | None]:
    """(x clipped into dtype, whether it lay above; None where it cannot)."""
    info = np.iinfo(dtype)
    if isinstance(x, int):
        above = from_numpy(np.array(True)) if x > info.max else None
        return from_numpy(np.array(min(max(x, info.min), info.max), dtype)), above
    own, over = np.iinfo(x.dtype), None
    if own.max > info.max:
        over = lax.gt(x, full_like(x, info.max))
        x = lax.min(x, full_like(x, info.max))
    if own.min < info.min:
        x = lax.max(x, full_like(x, info.min))
    return lax.convert_element_type(x, dtype), over


def randint(key: Any, shape: Any, minval: Any, maxval: Any, dtype: Any = None) -> Array:
    """Integers in [minval, maxval), int32 unless given; the bounds broadcast to ``shape``.

    Two words are drawn for each element and reduced modulo the span, so the bias is below span / 2^(2 bits).

    Args:
        key: a key.
        shape: of the result.
        minval, maxval: integers, or arrays of them.
        dtype: an integer dtype; ``maxval`` may exceed its largest integer by 1.

    Raises:
        TypeError: a bound or the dtype is no integer.
        ValueError: minval >= maxval, or the range does not fit into the dtype.  Traced bounds are not looked at: they
            are clipped into the dtype, and give minval where maxval <= minval.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.randint.html

    >>> import fgrad
    >>> fgrad.random.randint(fgrad.random.key(0), (4,), 0, 10).tolist()
    [9, 0, 2, 3]
    """
    key, target = check_key("randint", key), integer_dtype("randint", dtype)
    low, high = _bound("minval", minval), _bound("maxval", maxval)
    shape = shape_for("randint", shape, np.shape(low), np.shape(high))
    _check_range(low, high, target)
    if target.itemsize < 4:  # drawn in 32 bits: a byte's modulus would be biased
        info = np.iinfo(target)
        (low, _), (high, _) = (_clipped(x, dtypes.int32) for x in (low, high))
        low = lax.min(lax.max(low, full_like(low, info.min)), full_like(low, info.max))
        high = lax.min(lax.max(high, full_like(high, info.min)), full_like(high, info.max + 1))
        return lax.convert_element_type(_randint(key, low, high, None, shape, dtypes.int32), target)
    low, _ = _clipped(low, target)
    high, above = _clipped(high, target)
    return _randint(key, low, high, above, shape, target)


@functools.partial(jit, static_argnums=(4, 5))
def _randint(key: Array, low: Array, high: Array, above: Array | None, shape: Shape, dtype: np.dtype) -> Array:
    """low + (upper word * 2^bits + lower word) % span, every product kept below 2^bits by reducing it first."""
    low, high = expand_to(low, shape), expand_to(high, shape)
    width = 8 * dtype.itemsize
    word = dtypes.canonical(f"uint{width}")
    upper, lower = (random_bits(k, width, shape) for k in keys_from(key, 2))
    span = lax.convert_element_type(lax.sub(high, low), word)
    span = lax.select(lax.le(high, low), full_like(span, 1), span)
    if above is not None:  # the dtype's largest integer is included; a span of 2^bits wraps to 0, and x % 0 = x
        more = lax.bitwise_and(expand_to(above, shape), lax.gt(high, low))
        span = lax.select(more, lax.add(span, full_like(span, 1)), span)
    half = lax.rem(full_like(span, 2 ** (width // 2)), span)
    scale = lax.rem(lax.mul(half, half), span)  # 2^bits % span
    offset = lax.add(lax.mul(lax.rem(upper, span), scale), lax.rem(lower, span))
    return lax.add(low, lax.convert_element_type(lax.rem(offset, span), dtype))
