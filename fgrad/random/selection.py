"""Choosing among elements: permutation, choice, categorical."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.static import flag
from fgrad.higher_order.jit import jit
from fgrad.lax.common import canonical_axis, canonical_shape
from fgrad.numpy.indexing import take
from fgrad.numpy.promotion import cast, expand_to, inexact_dtype
from fgrad.numpy.reductions import argmax
from fgrad.numpy.sorting import searchsorted
from fgrad.random.arguments import check_key, known, not_negative, real, shape_for
from fgrad.random.continuous import check_mode, gumbel_of
from fgrad.random.generator import keys_from, random_bits, uniform_of
from fgrad.random.integers import randint

_WORD = 0xFFFFFFFF


def _numbers(name: str, x: Array) -> Array:
    """0 .. x - 1, x an integer that says how many elements there are to choose from: a size, so it must be static."""
    if not dtypes.is_integer(x.dtype):
        raise TypeError(f"{name}: a scalar must be an integer, a number of elements, got {x.aval}. Pass an array.")
    n = operator.index(x)
    if n < 0:
        raise ValueError(f"{name}: the number of elements must not be negative, got {n}. Pass one of at least 0.")
    return lax.iota(dtypes.int32, n)


def permutation(key: Any, x: Any, axis: int = 0, independent: bool = False) -> Array:
    """``x`` shuffled along ``axis`` (for an int n: 0 .. n-1 shuffled); ``independent`` shuffles every line on its own.

    Sorted by random words, as often as leaves no trace of equal words: ceil(3 log size / log 2^32) times.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.permutation.html

    >>> import fgrad
    >>> fgrad.random.permutation(fgrad.random.key(0), 5).tolist()
    [0, 1, 4, 3, 2]
    """
    key, array = check_key("permutation", key), lift(x, "permutation")
    if array.ndim == 0:
        return _shuffled(key, _numbers("permutation", array), 0)
    axis = canonical_axis("permutation", axis, array.ndim)
    if flag("permutation", "independent", independent) or array.ndim == 1:
        return _shuffled(key, array, axis)
    order = _shuffled(key, lax.iota(dtypes.int32, array.shape[axis]), 0)
    return take(array, order, axis, mode="clip")


@functools.partial(jit, static_argnums=2)
def _shuffled(key: Array, x: Array, axis: int) -> Array:
    for _ in range(math.ceil(3 * np.log(max(1, x.size)) / np.log(_WORD))):
        key, word_key = keys_from(key, 2)
        x = lax.sort_key_val(random_bits(word_key, 32, x.shape), x, axis)[1]
    return x


def choice(
    key: Any,
    a: Any,
    shape: Any = (),
    replace: bool = True,
    p: Any = None,
    axis: int = 0,
    mode: str | None = None,
) -> Array:
    """Elements of ``a`` along ``axis`` (of 0 .. a-1 for an int), all equally likely or with probabilities ``p``.

    Without ``replace`` none is chosen twice: then the first of a permutation are, or with ``p`` those with the largest
    log p + Gumbel noise.

    Args:
        a: array, or an int.
        shape: of the draws, which take the place of the axis.
        p: array [n] of probabilities for the n elements along the axis; they need not sum to 1.
        mode: of the Gumbel noise, see ``gumbel``.

    Raises:
        TypeError: the key is no key, an int is no int.
        ValueError: nothing to choose from, more draws than elements without replacement; p of another shape, with
            negative elements or NaN, or positive for fewer elements than must be drawn (a traced p is not looked at).

    https://docs.jax.dev/en/latest/_autosummary/jax.random.choice.html

    >>> import fgrad
    >>> fgrad.random.choice(fgrad.random.key(0), 10, (3,), replace=False).tolist()
    [0, 1, 8]
    """
    key, shape, mode = check_key("choice", key), canonical_shape("choice", shape), check_mode("choice", mode)
    replace = flag("choice", "replace", replace)
    array = lift(a, "choice")
    if array.ndim == 0:
        array, axis = _numbers("choice", array), 0
    axis = canonical_axis("choice", axis, array.ndim)
    n, draws = array.shape[axis], math.prod(shape)
    if draws and n == 0:
        raise ValueError(f"choice: there must be elements to draw from, got none for {draws} draws. Add some.")
    if draws > n and not replace:
        raise ValueError(
            f"choice: without replacement there are at most {n} draws, the number of elements, got {draws} (shape "
            f"{shape}). Draw fewer, or with replace=True."
        )
    if p is not None:
        p = real("choice", "p", p)
        if p.shape != (n,):
            raise ValueError(
                f"choice: p must have a probability for each of the {n} elements, shape ({n},), got {p.shape}. "
                "Reshape p, or change the axis."
            )
        p = cast("choice", p, inexact_dtype(p.dtype))
        _check_probabilities(p, draws, replace)
    return take(array, _drawn(key, p, n, shape, replace, mode), axis, mode="clip")


def _check_probabilities(p: Array, draws: int, replace: bool) -> None:
    values = known(p)
    if values is None or draws == 0:
        return
    not_negative("choice", p=p)
    if np.isnan(values).any():
        raise ValueError(f"choice: p must be numbers, got NaN at {int(np.isnan(values).argmax())}. Change it.")
    least, positive = 1 if replace else draws, np.count_nonzero(values)
    if positive < least:
        raise ValueError(
            f"choice: enough elements must have a positive p, got {positive} of {p.size} ({draws} draws with "
            f"replace={replace} need {least}). Draw fewer, or change p."
        )


@functools.partial(jit, static_argnums=(2, 3, 4, 5))
def _drawn(key: Array, p: Array | None, n: int, shape: tuple[int, ...], replace: bool, mode: str) -> Array:
    """Which elements are chosen."""
    draws = math.prod(shape)
    if draws == 0:
        return lax.full(shape, 0, dtypes.int32)
    if p is None and replace:
        return randint(key, shape, 0, n)
    if p is None:
        return lax.reshape(lax.slice_in_dim(_shuffled(key, lax.iota(dtypes.int32, n), 0), 0, draws), shape)
    if not replace:
        noise = gumbel_of(key, (n,), p.dtype, mode)
        return lax.reshape(lax.top_k(lax.add(noise, lax.log(p)), draws)[1], shape)
    total = lax.cumsum(p)
    share = 1 - uniform_of(key, shape, p.dtype)
    return searchsorted(total, lax.index_in_dim(total, n - 1, keepdims=False) * share)


def categorical(
    key: Any, logits: Any, axis: int = -1, shape: Any = None, replace: bool = True, mode: str | None = None
) -> Array:
    """Indices along ``axis``, int32, with probabilities softmax(logits): the largest of logits + Gumbel noise.

    ``shape`` broadcasts with the other axes of ``logits`` (its default); more axes in front are independent draws.
    Without ``replace`` those in front draw different indices: the largest, the second largest, and so on.

    Raises:
        TypeError: logits are not floating-point.
        ValueError: shape does not fit, or asks for more different indices than there are.

    W. Kool, H. van Hoof, M. Welling, *Stochastic beams and where to find them*, ICML 2019,
    https://proceedings.mlr.press/v97/kool19a.html; https://docs.jax.dev/en/latest/_autosummary/jax.random.categorical.html
    """
    key, logits, mode = check_key("categorical", key), lift(logits, "categorical"), check_mode("categorical", mode)
    if not dtypes.is_float(logits.dtype):
        raise TypeError(f"categorical: logits must be floating-point, got {logits.aval}. Pass log-probabilities.")
    axis = canonical_axis("categorical", axis, logits.ndim)
    replace = flag("categorical", "replace", replace)
    if logits.shape[axis] == 0:
        raise ValueError(
            f"categorical: there must be categories to draw from, got size 0 for axis {axis} of logits "
            f"{logits.shape}. Change the axis."
        )
    batch = tuple(n for d, n in enumerate(logits.shape) if d != axis)
    shape = shape_for("categorical", shape, batch)
    lead = shape[: len(shape) - len(batch)]
    if not replace and math.prod(lead) > logits.shape[axis]:
        raise ValueError(
            f"categorical: without replacement there are at most {logits.shape[axis]} draws, the size of axis {axis} "
            f"of logits {logits.shape}, got {math.prod(lead)} (shape {shape}). Draw fewer, or with replace=True."
        )
    if not replace and shape[len(lead) :] != batch:
        raise ValueError(
            f"categorical: without replacement shape must end in the other axes of logits, got {shape} for {batch}. "
            "Broadcast the logits."
        )
    return _categorical(key, logits, axis, shape, len(lead), replace, mode)


@functools.partial(jit, static_argnums=(2, 3, 4, 5, 6))
def _categorical(
    key: Array, logits: Array, axis: int, shape: tuple[int, ...], lead: int, replace: bool, mode: str
) -> Array:
    if replace:
        own = list(shape[lead:])
        own.insert(axis, logits.shape[axis])
        noise = gumbel_of(key, (*shape[:lead], *own), logits.dtype, mode)
        return argmax(lax.add(noise, expand_to(logits, noise.shape)), lead + axis)
    noisy = lax.add(logits, gumbel_of(key, logits.shape, logits.dtype, mode))
    order = lax.top_k(noisy, math.prod(shape[:lead]), axis=axis)[1]
    first = (axis, *(d for d in range(order.ndim) if d != axis))
    return lax.reshape(lax.transpose(order, first), shape)
