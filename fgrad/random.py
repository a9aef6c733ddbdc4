"""Random numbers from explicit keys: the same key always gives the same numbers.

A key is a uint32 array of two words.  ``split`` a key to get new ones and use each key once.  Bits come from
Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw: *Parallel random numbers: as easy as 1, 2, 3*, SC 2011,
https://doi.org/10.1145/2063384.2063405), applied to (key, index of the element).  They equal the bits that JAX draws
from the same seed (its default, ``jax_threefry_partitionable``), and so does every function here that only rearranges
bits; those that compute with them (normal, gumbel, ...) agree to rounding.

Everything is written in fgrad operations: it works under ``jit`` and ``vmap``, keys included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, from_numpy, lift
from fgrad.higher_order.jit import jit
from fgrad.lax.common import canonical_axis, canonical_shape
from fgrad.numpy.indexing import take
from fgrad.numpy.logic import concrete
from fgrad.numpy.promotion import cast, common_shape, expand_to
from fgrad.numpy.reductions import argmax
from fgrad.numpy.types import finfo
from fgrad.primitives.broadcast import full_like

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA  # makes the third key word differ from the xor of the other two
_WORD = 0xFFFFFFFF


# --- the generator ---------------------------------------------------------------------------------------------------
def _rotated(x: Array, r: int) -> Array:
    return lax.bitwise_or(lax.shift_left(x, full_like(x, r)), lax.shift_right_logical(x, full_like(x, 32 - r)))


def _threefry(key: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    """Two words for each pair of counter words: 20 rounds of add, rotate, xor, a key word injected after every four."""
    k0, k1 = (expand_to(lax.reshape(lax.slice(key, (i,), (i + 1,)), ()), x0.shape) for i in (0, 1))
    words = (k0, k1, lax.bitwise_xor(lax.bitwise_xor(k0, k1), full_like(k0, _PARITY)))
    x0, x1 = lax.add(x0, k0), lax.add(x1, k1)
    for i in range(5):
        for r in _ROTATIONS[i % 2]:
            x0 = lax.add(x0, x1)
            x1 = lax.bitwise_xor(_rotated(x1, r), x0)
        x0 = lax.add(x0, words[(i + 1) % 3])
        x1 = lax.add(x1, lax.add(words[(i + 2) % 3], full_like(x1, i + 1)))
    return x0, x1


def _counted(key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The two words of every element of ``shape``: its counter is its row-major index."""
    n = math.prod(shape)
    if n > 2**32:
        raise ValueError(f"random: at most 2**32 elements can be drawn at once, got {n} for {shape}. Split the key.")
    low = lax.reshape(lax.iota(dtypes.uint32, n), shape)
    return _threefry(key, full_like(low, 0), low)


def _split(key: Array, shape: tuple[int, ...]) -> Array:
    words = _counted(key, shape)
    return lax.concatenate([lax.reshape(w, (*shape, 1)) for w in words], len(shape))


def _bits(key: Array, width: int, shape: tuple[int, ...]) -> Array:
    high, low = _counted(key, shape)
    target = dtypes.canonical(f"uint{width}")
    if width == 64:
        high, low = lax.convert_element_type(high, target), lax.convert_element_type(low, target)
        return lax.bitwise_or(lax.shift_left(high, full_like(high, 32)), low)
    return lax.convert_element_type(lax.bitwise_xor(high, low), target)


def _uniform(key: Array, low: Array, high: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Random bits as the mantissa of a float in [1, 2), minus 1, scaled to [low, high)."""
    info = finfo(dtype)
    width = 8 if info.nmant < 8 else info.bits
    word = dtypes.canonical(f"uint{info.bits}")
    bits = lax.convert_element_type(_bits(key, width, shape), word)
    mantissa = lax.shift_right_logical(bits, full_like(bits, width - info.nmant))
    one_bits = int(np.ones((), dtype).view(word))
    unit = lax.bitcast_convert_type(lax.bitwise_or(mantissa, full_like(mantissa, one_bits)), dtype)
    unit = lax.sub(unit, full_like(unit, 1))
    low, high = expand_to(low, shape), expand_to(high, shape)
    return lax.max(low, lax.add(lax.mul(unit, lax.sub(high, low)), low))


def _normal(key: Array, low: Array, high: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """sqrt(2) erf^-1(u) for u uniform in [low, high), a part of (-1, 1)."""
    u = _uniform(key, low, high, shape, dtype)
    return lax.mul(full_like(u, math.sqrt(2)), lax.erf_inv(u))


def _fold_in(key: Array, word: Array) -> Array:
    return lax.concatenate([lax.reshape(w, (1,)) for w in _threefry(key, full_like(word, 0), word)], 0)


_jit_split = jit(_split, static_argnums=1)
_jit_fold_in = jit(_fold_in)
_jit_bits = jit(_bits, static_argnums=(1, 2))
_jit_uniform = jit(_uniform, static_argnums=(3, 4))
_jit_normal = jit(_normal, static_argnums=(3, 4))


# --- keys ------------------------------------------------------------------------------------------------------------
def key(seed: Any) -> Array:
    """A key, uint32 [2], from an integer seed: (high word, low word).

    Seeds of 32 bits, negative ones included, give the key of ``jax.random.key``; longer ones use both words (as JAX
    does with 64-bit types enabled; without them it drops the high word).  ``key`` and ``PRNGKey`` are one function:
    keys are plain arrays.

    >>> import fgrad
    >>> fgrad.random.key(42).tolist()
    [0, 42]
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        seed = lift(seed, "key")
        if seed.ndim or not dtypes.is_integer(seed.dtype):
            raise TypeError(f"key: the seed must be an integer, got {seed.aval}. Pass an int; vmap key for many seeds.")
        if seed.dtype.itemsize < 8:
            low = lax.convert_element_type(seed, dtypes.uint32)
            words = [full_like(low, 0), low]
        else:
            wide = lax.convert_element_type(seed, np.dtype(np.uint64))
            parts = [lax.shift_right_logical(wide, full_like(wide, 32)), lax.bitwise_and(wide, full_like(wide, _WORD))]
            words = [lax.convert_element_type(w, dtypes.uint32) for w in parts]
        return lax.concatenate([lax.reshape(w, (1,)) for w in words], 0)
    seed = int(seed)
    if not -(2**63) <= seed < 2**64:
        raise OverflowError(f"key: the seed must fit into 64 bits, got {seed}. Use a smaller one.")
    high = 0 if -(2**31) <= seed < 0 else (seed >> 32) & _WORD
    return from_numpy(np.array([high, seed & _WORD], np.uint32))


PRNGKey = key


def _check_key(name: str, key: Any) -> Array:
    array = lift(key, name)
    if array.dtype != dtypes.uint32 or array.shape != (2,):
        raise TypeError(
            f"{name}: key must be a uint32 array of shape (2,), got {array.aval}. "
            "Make one with fgrad.random.key(seed); map over many keys with vmap."
        )
    return array


def split(key: Any, num: int | Sequence[int] = 2) -> Array:
    """``num`` new keys, uint32 [num, 2] (or [*num, 2] for a shape).

    >>> import fgrad
    >>> key, subkey = fgrad.random.split(fgrad.random.key(0))
    >>> key.tolist(), subkey.tolist()
    ([1797259609, 2579123966], [928981903, 3453687069])
    """
    return _jit_split(_check_key("split", key), canonical_shape("split", num))


def fold_in(key: Any, data: Any) -> Array:
    """A new key from a key and an integer (a step, a layer's number); ``data`` may be traced.

    >>> import fgrad
    >>> fgrad.random.fold_in(fgrad.random.key(0), 1).tolist()
    [928981903, 3453687069]
    """
    if isinstance(data, int):
        if not 0 <= data <= _WORD:
            raise OverflowError(f"fold_in: data must fit into 32 bits, unsigned, got {data}. Use data % 2**32.")
        data = np.uint32(data)
    word = lift(data, "fold_in")
    if word.ndim or not dtypes.is_integer(word.dtype):
        raise TypeError(f"fold_in: data must be an integer, got {word.aval}. Pass an int; vmap fold_in for many.")
    return _jit_fold_in(_check_key("fold_in", key), lax.convert_element_type(word, dtypes.uint32))


def key_data(keys: Any) -> Array:
    """The words of a key: keys are plain arrays, so the key itself (kept for programs written for JAX)."""
    return lift(keys, "key_data")


# --- continuous distributions ----------------------------------------------------------------------------------------
def _float_dtype(name: str, dtype: Any) -> np.dtype:
    out = dtypes.float32 if dtype is None else dtypes.canonical(dtype)
    if not dtypes.is_float(out):
        raise TypeError(f"{name}: dtype must be floating-point, got {out}. Use float32, or randint for integers.")
    return out


def _parameters(name: str, shape: Any, *xs: Any) -> tuple[int, ...]:
    """The shape asked for, to which every parameter must broadcast; without one, that of the parameters."""
    shapes = [np.shape(x) for x in xs]
    if shape is None:
        return common_shape(name, shapes) if shapes else ()
    shape = canonical_shape(name, shape)
    if common_shape(name, [shape, *shapes]) != shape:
        raise ValueError(
            f"{name}: parameters must broadcast to shape, got {', '.join(map(str, shapes))} and {shape}. "
            "Ask for a larger shape."
        )
    return shape


def bits(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Random bits: unsigned integers, uint32 unless given, uniform over the whole dtype.

    >>> import fgrad
    >>> fgrad.random.bits(fgrad.random.key(0), (2,)).tolist()
    [4070199207, 4202968722]
    """
    target = dtypes.uint32 if dtype is None else dtypes.canonical(dtype)
    if target.kind != "u":
        raise TypeError(f"bits: dtype must be an unsigned integer, got {target}. Use uint8, uint16, uint32 or uint64.")
    return _jit_bits(_check_key("bits", key), 8 * target.itemsize, canonical_shape("bits", shape))


def uniform(key: Any, shape: Any = (), dtype: Any = None, minval: Any = 0.0, maxval: Any = 1.0) -> Array:
    """Uniform in [minval, maxval), float32 unless given; the bounds broadcast to ``shape``.

    >>> import fgrad
    >>> fgrad.random.uniform(fgrad.random.key(0), (2,)).tolist()
    [0.947667..., 0.978579...]
    """
    dtype, shape = _float_dtype("uniform", dtype), _parameters("uniform", shape, minval, maxval)
    low, high = cast("uniform", minval, dtype), cast("uniform", maxval, dtype)
    return _jit_uniform(_check_key("uniform", key), low, high, shape, dtype)


def normal(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """The standard normal distribution, float32 unless given: sqrt(2) erf^-1(u), u uniform in (-1, 1)."""
    dtype, shape = _float_dtype("normal", dtype), canonical_shape("normal", shape)
    low = from_numpy(np.nextafter(np.array(-1, dtype), np.array(0, dtype)))
    return _jit_normal(_check_key("normal", key), low, from_numpy(np.array(1, dtype)), shape, dtype)


def truncated_normal(key: Any, lower: Any, upper: Any, shape: Any = None, dtype: Any = None) -> Array:
    """The standard normal distribution within (lower, upper), which broadcast to ``shape``."""
    dtype, shape = _float_dtype("truncated_normal", dtype), _parameters("truncated_normal", shape, lower, upper)
    lower, upper = (cast("truncated_normal", x, dtype) for x in (lower, upper))
    a, b = (lax.erf(lax.div(x, full_like(x, math.sqrt(2)))) for x in (lower, upper))
    out = _jit_normal(_check_key("truncated_normal", key), a, b, shape, dtype)
    # Rounding must not reach the bounds.
    inside = [
        lax.nextafter(lax.stop_gradient(x), full_like(x, towards)) for x, towards in ((lower, np.inf), (upper, -np.inf))
    ]
    return lax.min(lax.max(out, expand_to(inside[0], shape)), expand_to(inside[1], shape))


def exponential(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """The exponential distribution with rate 1: -log(1 - u), u uniform in [0, 1)."""
    return lax.neg(lax.log1p(lax.neg(uniform(key, shape, _float_dtype("exponential", dtype)))))


def gumbel(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """The standard Gumbel distribution: -log(-log(u)), u uniform in (0, 1)."""
    dtype = _float_dtype("gumbel", dtype)
    u = uniform(key, shape, dtype, float(finfo(dtype).tiny), 1.0)
    return lax.neg(lax.log(lax.neg(lax.log(u))))


# --- discrete distributions ------------------------------------------------------------------------------------------
def bernoulli(key: Any, p: Any = 0.5, shape: Any = None) -> Array:
    """True with probability ``p`` (which broadcasts to ``shape``), as bool."""
    p = lift(p, "bernoulli")
    if not dtypes.is_float(p.dtype):
        raise TypeError(f"bernoulli: p must be floating-point, got {p.aval}. Pass a probability in [0, 1].")
    shape = _parameters("bernoulli", shape, p)
    return lax.lt(uniform(key, shape, p.dtype), expand_to(p, shape))


def _bounded(name: str, x: Any, dtype: np.dtype) -> tuple[Array, Array | None]:
    """(x clipped into dtype, whether it lay above; None where it cannot)."""
    x = lift(x, name)
    if not dtypes.is_integer(x.dtype):
        raise TypeError(f"{name}: bounds must be integers, got {x.aval}. Convert them with .astype(int).")
    own, info = np.iinfo(x.dtype), np.iinfo(dtype)
    above = lax.gt(x, full_like(x, info.max)) if own.max > info.max else None
    if own.max > info.max:
        x = lax.min(x, full_like(x, info.max))
    if own.min < info.min:
        x = lax.max(x, full_like(x, info.min))
    return lax.convert_element_type(x, dtype), above


def randint(key: Any, shape: Any, minval: Any, maxval: Any, dtype: Any = None) -> Array:
    """Integers in [minval, maxval), int32 unless given; minval where maxval <= minval.

    Two words are drawn for each element and reduced modulo the span, so the bias is below span / 2^(2 bits).
    A ``maxval`` beyond the dtype means: up to its largest integer.

    >>> import fgrad
    >>> fgrad.random.randint(fgrad.random.key(0), (4,), 0, 10).tolist()
    [9, 0, 2, 3]
    """
    target = dtypes.int32 if dtype is None else dtypes.canonical(dtype)
    if not dtypes.is_integer(target):
        raise TypeError(f"randint: dtype must be an integer, got {target}. Use int32, or uniform for floats.")
    shape = _parameters("randint", shape, minval, maxval)
    if target.itemsize < 4:  # drawn in 32 bits: a byte's modulus would be biased
        info = np.iinfo(target)
        low, high = _bounded("randint", minval, dtypes.int32)[0], _bounded("randint", maxval, dtypes.int32)[0]
        low = lax.min(lax.max(low, full_like(low, info.min)), full_like(low, info.max))
        high = lax.min(lax.max(high, full_like(high, info.min)), full_like(high, info.max + 1))
        return lax.convert_element_type(_randint(key, shape, low, high, None, dtypes.int32), target)
    low = _bounded("randint", minval, target)[0]
    high, above = _bounded("randint", maxval, target)
    return _randint(key, shape, low, high, above, target)


def _randint(key: Any, shape: tuple[int, ...], low: Array, high: Array, above: Array | None, dtype: np.dtype) -> Array:
    """low + (upper word * 2^bits + lower word) % span, every product kept below 2^bits by reducing it first."""
    low, high = expand_to(low, shape), expand_to(high, shape)
    width = 8 * dtype.itemsize
    word = dtypes.canonical(f"uint{width}")
    pair = split(_check_key("randint", key))
    upper, lower = (_jit_bits(_row(pair, i), width, shape) for i in (0, 1))
    span = lax.convert_element_type(lax.sub(high, low), word)
    span = lax.select(lax.le(high, low), full_like(span, 1), span)
    if above is not None:  # the dtype's largest integer is included; a span of 2^bits wraps to 0, and x % 0 = x
        more = lax.bitwise_and(expand_to(above, shape), lax.gt(high, low))
        span = lax.select(more, lax.add(span, full_like(span, 1)), span)
    half = lax.rem(full_like(span, 2 ** (width // 2)), span)
    scale = lax.rem(lax.mul(half, half), span)  # 2^bits % span
    offset = lax.add(lax.mul(lax.rem(upper, span), scale), lax.rem(lower, span))
    return lax.add(low, lax.convert_element_type(lax.rem(offset, span), dtype))


def _row(keys: Array, i: int) -> Array:
    return lax.reshape(lax.slice(keys, (i, 0), (i + 1, 2)), (2,))


def categorical(key: Any, logits: Any, axis: int = -1, shape: Any = None) -> Array:
    """Indices along ``axis``, int32, with probabilities softmax(logits): the largest of logits + Gumbel noise.

    ``shape`` ends in the other axes of ``logits`` (its default); leading axes more are independent draws.
    """
    logits = lift(logits, "categorical")
    axis = canonical_axis("categorical", axis, logits.ndim) - logits.ndim
    batch = tuple(n for d, n in enumerate(logits.shape) if d != axis + logits.ndim)
    shape = batch if shape is None else canonical_shape("categorical", shape)
    lead = shape[: len(shape) - len(batch)]
    if len(shape) < len(batch) or shape[len(lead) :] != batch:
        raise ValueError(
            f"categorical: shape must end in the axes of logits other than axis {axis}, got {shape} for {batch} "
            f"(logits {logits.shape}). Put more draws in front."
        )
    full_shape = (*lead, *logits.shape)
    noise = gumbel(key, full_shape, logits.dtype)
    return argmax(lax.add(noise, expand_to(logits, full_shape)), axis)


def permutation(key: Any, x: Any, axis: int = 0, independent: bool = False) -> Array:
    """``x`` shuffled along ``axis`` (for an int n: 0 .. n-1 shuffled); ``independent`` shuffles every line on its own.

    There is no sort operation yet, so this runs on the host and needs concrete operands (ConcretizationError under
    ``jit`` and ``vmap``).

    >>> import fgrad
    >>> fgrad.random.permutation(fgrad.random.key(0), 5).tolist()
    [0, 1, 4, 3, 2]
    """
    key = _check_key("permutation", key)
    array = lift(x, "permutation")
    instead = "Draw it outside the transformation and pass it in."
    if array.ndim == 0:
        if not dtypes.is_integer(array.dtype):
            raise TypeError(f"permutation: x must be an int or have an axis, got {array.aval}. Pass an array.")
        n = int(concrete("permutation", array, instead))
        return from_numpy(_shuffled(key, np.arange(n, dtype=np.int32), 0, instead))
    axis = canonical_axis("permutation", axis, array.ndim)
    if independent or array.ndim == 1:
        return from_numpy(_shuffled(key, concrete("permutation", array, instead), axis, instead))
    order = _shuffled(key, np.arange(array.shape[axis], dtype=np.int32), 0, instead)
    return take(array, order, axis, mode="clip")


def _shuffled(key: Array, x: np.ndarray, axis: int, instead: str) -> np.ndarray:
    """Sorted by fresh random words, often enough that equal words leave no trace: ceil(3 log n / log 2^32) times."""
    rounds = int(np.ceil(3 * np.log(max(1, x.size)) / np.log(_WORD)))
    for _ in range(rounds):
        pair = split(key)
        key, words = _row(pair, 0), _jit_bits(_row(pair, 1), 32, x.shape)
        order = np.argsort(concrete("permutation", words, instead), axis=axis, kind="stable")
        x = np.take_along_axis(x, order, axis)
    return x


def choice(key: Any, a: Any, shape: Any = (), replace: bool = True, axis: int = 0) -> Array:
    """Elements of ``a`` along ``axis`` (of 0 .. a-1 for an int), all equally likely; without ``replace`` none twice.

    ``replace=False`` needs concrete operands, as ``permutation`` does.
    """
    array, shape = lift(a, "choice"), canonical_shape("choice", shape)
    if array.ndim == 0:
        array, axis = lax.iota(dtypes.int32, int(concrete("choice", array, "Make a static."))), 0
    axis = canonical_axis("choice", axis, array.ndim)
    n, draws = array.shape[axis], math.prod(shape)
    if draws and (n == 0 or (draws > n and not replace)):
        raise ValueError(
            f"choice: needs enough elements to draw from, got {draws} draws from {n} with replace={replace}. "
            "Draw fewer, or with replace=True."
        )
    if replace:
        return take(array, randint(key, shape, 0, n), axis, mode="clip")
    order = permutation(key, n)
    picked = lax.reshape(lax.slice(order, (0,), (draws,)), shape)
    return take(array, picked, axis, mode="clip")
