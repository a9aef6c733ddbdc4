"""Keys: made from seeds, split, and folded with numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, from_numpy, lift
from fgrad.lax.common import canonical_shape
from fgrad.primitives.broadcast import full_like
from fgrad.random.arguments import check_key, check_keys
from fgrad.random.generator import fold_word, key_of, split_key

_WORD = 0xFFFFFFFF


def _check_impl(name: str, impl: Any) -> None:
    if impl is not None and (not isinstance(impl, str) or impl != "threefry2x32"):
        raise ValueError(f"{name}: impl must be 'threefry2x32', the one generator, got {impl!r}. Leave it out.")


def key(seed: Any, *, impl: str | None = None) -> Array:
    """A key, uint32 [2], from an integer seed: (high word, low word).

    Seeds of 32 bits, negative ones included, give the key of ``jax.random.key``; longer ones use both words (as JAX
    does with 64-bit types enabled; without them it drops the high word).  ``key`` and ``PRNGKey`` are one function:
    keys are plain arrays.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.key.html

    >>> import fgrad
    >>> fgrad.random.key(42).tolist()
    [0, 42]
    """
    _check_impl("key", impl)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        seed = lift(seed, "key")
        if seed.ndim or not dtypes.is_integer(seed.dtype):
            raise TypeError(f"key: the seed must be an integer, got {seed.aval}. Pass an int; vmap key for many seeds.")
        if seed.dtype.itemsize < 8:
            low = lax.convert_element_type(seed, dtypes.uint32)
            return key_of((full_like(low, 0), low))
        wide = lax.convert_element_type(seed, np.dtype(np.uint64))
        parts = (lax.shift_right_logical(wide, full_like(wide, 32)), lax.bitwise_and(wide, full_like(wide, _WORD)))
        high, low = (lax.convert_element_type(w, dtypes.uint32) for w in parts)
        return key_of((high, low))
    seed = int(seed)
    if not -(2**63) <= seed < 2**64:
        raise OverflowError(f"key: the seed must fit into 64 bits, got {seed}. Use a smaller one.")
    word = 0 if -(2**31) <= seed < 0 else (seed >> 32) & _WORD
    return from_numpy(np.array([word, seed & _WORD], np.uint32))


PRNGKey = key


def split(key: Any, num: int | Sequence[int] = 2) -> Array:
    """``num`` new keys, uint32 [num, 2] (or [*num, 2] for a shape).

    https://docs.jax.dev/en/latest/_autosummary/jax.random.split.html

    >>> import fgrad
    >>> key, subkey = fgrad.random.split(fgrad.random.key(0))
    >>> key.tolist(), subkey.tolist()
    ([1797259609, 2579123966], [928981903, 3453687069])
    """
    return split_key(check_key("split", key), canonical_shape("split", num))


def fold_in(key: Any, data: Any) -> Array:
    """A new key from a key and an integer (a step, a layer's number); ``data`` may be traced.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.fold_in.html

    >>> import fgrad
    >>> fgrad.random.fold_in(fgrad.random.key(0), 1).tolist()
    [928981903, 3453687069]
    """
    key = check_key("fold_in", key)
    if isinstance(data, int):
        if not 0 <= data <= _WORD:
            raise OverflowError(f"fold_in: data must fit into 32 bits, unsigned, got {data}. Use data % 2**32.")
        data = np.uint32(data)
    word = lift(data, "fold_in")
    if word.ndim or not dtypes.is_integer(word.dtype):
        raise TypeError(f"fold_in: data must be an integer, got {word.aval}. Pass an int; vmap fold_in for many.")
    return fold_word(key, lax.convert_element_type(word, dtypes.uint32))


def key_data(keys: Any) -> Array:
    """The words of keys: keys are plain arrays, so the keys themselves (kept for programs written for JAX)."""
    return check_keys("key_data", keys)


def wrap_key_data(key_bits_array: Any, *, impl: str | None = None) -> Array:
    """Keys from their words: the inverse of ``key_data``, so the words themselves."""
    _check_impl("wrap_key_data", impl)
    return check_keys("wrap_key_data", key_bits_array)


def clone(key: Any) -> Array:
    """The key itself: there is no checker of reused keys to tell that it is used twice on purpose."""
    return check_keys("clone", key)
