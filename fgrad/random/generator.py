"""Threefry-2x32: key words and counters in, random words out; bits, uniform and normal numbers made of them.

Functions here take keys as Arrays that have been checked, and static shapes and dtypes that are canonical.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, from_numpy
from fgrad.higher_order.jit import jit
from fgrad.numpy.promotion import expand_to
from fgrad.numpy.types import finfo
from fgrad.primitives.broadcast import full_like

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA  # makes the third key word differ from the xor of the other two

#: The two words of one key (0-d), or of many (one element each).
Words = tuple[Array, Array]


# --- words -----------------------------------------------------------------------------------------------------------
def _rotated(x: Array, r: int) -> Array:
    return lax.bitwise_or(lax.shift_left(x, full_like(x, r)), lax.shift_right_logical(x, full_like(x, 32 - r)))


def threefry(key: Words, x0: Array, x1: Array) -> Words:
    """Two words for each pair of counter words: 20 rounds of add, rotate, xor, a key word injected after every four."""
    k0, k1 = (expand_to(k, x0.shape) for k in key)
    words = (k0, k1, lax.bitwise_xor(lax.bitwise_xor(k0, k1), full_like(k0, _PARITY)))
    x0, x1 = lax.add(x0, k0), lax.add(x1, k1)
    for i in range(5):
        for r in _ROTATIONS[i % 2]:
            x0 = lax.add(x0, x1)
            x1 = lax.bitwise_xor(_rotated(x1, r), x0)
        x0 = lax.add(x0, words[(i + 1) % 3])
        x1 = lax.add(x1, lax.add(words[(i + 2) % 3], full_like(x1, i + 1)))
    return x0, x1


def words_of(key: Array) -> Words:
    """The words of keys [*shape, 2], each [*shape]."""
    first, second = (lax.index_in_dim(key, i, axis=-1, keepdims=False) for i in (0, 1))
    return first, second


def key_of(words: Words) -> Array:
    """Keys [*shape, 2] of words [*shape]."""
    return lax.concatenate([lax.expand_dims(w, (w.ndim,)) for w in words], words[0].ndim)


def draw(words: Words, i: int) -> Words:
    """What every key gives for counter i: the i-th of the keys it splits into."""
    return threefry(words, full_like(words[0], 0), full_like(words[0], i))


def _counted(key: Array, shape: tuple[int, ...]) -> Words:
    """The two words of every element of ``shape``: its counter is its row-major index."""
    n = math.prod(shape)
    if n > 2**32:
        raise ValueError(f"random: at most 2**32 elements can be drawn at once, got {n} for {shape}. Split the key.")
    low = lax.reshape(lax.iota(dtypes.uint32, n), shape)
    return threefry(words_of(key), full_like(low, 0), low)


def _joined(words: Words, width: int) -> Array:
    """One unsigned integer of ``width`` bits from two words."""
    high, low = words
    target = dtypes.canonical(f"uint{width}")
    if width == 64:
        high, low = lax.convert_element_type(high, target), lax.convert_element_type(low, target)
        return lax.bitwise_or(lax.shift_left(high, full_like(high, 32)), low)
    return lax.convert_element_type(lax.bitwise_xor(high, low), target)


# --- numbers ---------------------------------------------------------------------------------------------------------
def _random_width(dtype: np.dtype) -> int:
    """How many random bits a float is made of."""
    return 8 if finfo(dtype).nmant < 8 else finfo(dtype).bits


def unit(bits: Array, dtype: np.dtype) -> Array:
    """Random bits as the mantissa of a float in [1, 2), minus 1."""
    info = finfo(dtype)
    word = dtypes.canonical(f"uint{info.bits}")
    bits = lax.convert_element_type(bits, word)
    mantissa = lax.shift_right_logical(bits, full_like(bits, _random_width(dtype) - info.nmant))
    one = int(np.ones((), dtype).view(word))
    floats = lax.bitcast_convert_type(lax.bitwise_or(mantissa, full_like(mantissa, one)), dtype)
    return lax.sub(floats, full_like(floats, 1))


def between(share: Array, low: Any, high: Any) -> Array:
    """A share in [0, 1) of the way from low to high, Arrays or Python numbers."""
    low, high = (
        expand_to(x, share.shape) if isinstance(x, Array) else full_like(share, x) for x in (low, high)
    )  # fmt: skip
    return lax.max(low, lax.add(lax.mul(share, lax.sub(high, low)), low))


def scaled_normal(u: Array) -> Array:
    """sqrt(2) erf^-1(u): standard normal for u uniform in (-1, 1)."""
    return lax.mul(full_like(u, math.sqrt(2)), lax.erf_inv(u))


def above_minus_one(dtype: np.dtype) -> Array:
    """The least number above -1, where a uniform number begins whose inverse error function is finite."""
    return from_numpy(np.nextafter(np.array(-1, dtype), np.array(0, dtype)))


def unit_each(words: Words, dtype: np.dtype) -> Array:
    """``uniform(key, ())`` of every key."""
    return unit(_joined(draw(words, 0), _random_width(dtype)), dtype)


def normal_each(words: Words, dtype: np.dtype) -> Array:
    """``normal(key, ())`` of every key."""
    return scaled_normal(between(unit_each(words, dtype), above_minus_one(dtype), 1))


@functools.partial(jit, static_argnums=1)
def split_key(key: Array, shape: tuple[int, ...]) -> Array:
    """Keys [*shape, 2] of one."""
    return key_of(_counted(key, shape))


@jit
def fold_word(key: Array, word: Array) -> Array:
    """A key of a key and a uint32 scalar."""
    return key_of(threefry(words_of(key), full_like(word, 0), word))


@functools.partial(jit, static_argnums=(1, 2))
def random_bits(key: Array, width: int, shape: tuple[int, ...]) -> Array:
    """Unsigned integers of ``width`` bits."""
    return _joined(_counted(key, shape), width)


@functools.partial(jit, static_argnums=(3, 4))
def uniform_between(key: Array, low: Array, high: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Uniform numbers in [low, high), which broadcast to ``shape``."""
    return between(unit(_joined(_counted(key, shape), _random_width(dtype)), dtype), low, high)


def uniform_of(key: Array, shape: tuple[int, ...], dtype: np.dtype, low: float = 0, high: float = 1) -> Array:
    """Uniform numbers for constant bounds."""
    return uniform_between(key, from_numpy(np.array(low, dtype)), from_numpy(np.array(high, dtype)), shape, dtype)


@functools.partial(jit, static_argnums=(1, 2))
def normal_of(key: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Standard normal numbers."""
    share = unit(_joined(_counted(key, shape), _random_width(dtype)), dtype)
    return scaled_normal(between(share, above_minus_one(dtype), 1))


def keys_from(key: Array, n: int) -> list[Array]:
    """n new keys of one."""
    keys = split_key(key, (n,))
    return [lax.index_in_dim(keys, i, keepdims=False) for i in range(n)]
