"""Exponentials normalised over an axis, and one-hot codes."""

from __future__ import annotations

from typing import Any

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.static import flag, real_number
from fgrad.lax.common import canonical_axes, canonical_axis, canonical_shape
from fgrad.numpy import logic, reductions
from fgrad.numpy.promotion import expand_to, promote_dtypes_inexact, promote_inexact
from fgrad.primitives.broadcast import full_like
from fgrad.primitives.convert import convert


def _shifted(name: str, x: Any, axis: Any) -> Array:
    """x minus its largest element over ``axis``; a constant shift, so nothing flows back through the maximum."""
    (x,) = promote_dtypes_inexact(name, x)
    top = lax.stop_gradient(reductions.max(x, axis, keepdims=True, initial=-float("inf") if x.size == 0 else None))
    return lax.sub(x, expand_to(top, x.shape))


def softmax(x: Any, axis: Any = -1) -> Array:
    """exp(x) / sum(exp(x)) over ``axis`` (an int, a tuple or None for all), computed as exp(x - max x).

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.nn.softmax(fnp.array([1000.0, 1000.0])).tolist()
    [0.5, 0.5]
    """
    e = lax.exp(_shifted("softmax", x, axis))
    return lax.div(e, expand_to(reductions.sum(e, axis, keepdims=True), e.shape))


def log_softmax(x: Any, axis: Any = -1) -> Array:
    """log(softmax(x)) = x - max x - log(sum(exp(x - max x))) over ``axis``."""
    shifted = _shifted("log_softmax", x, axis)
    total = lax.log(reductions.sum(lax.exp(shifted), axis, keepdims=True))
    return lax.sub(shifted, expand_to(total, shifted.shape))


def logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False) -> Array:
    """log(sum(b exp(a))) over ``axis`` (all axes for None), without overflow; ``b`` is 1 unless given.

    -inf where every term is 0, inf where a term is infinite.

    >>> import fgrad, fgrad.numpy as fnp
    >>> round(fgrad.nn.logsumexp(fnp.array([1000.0, 1000.0])).item(), 3)
    1000.693
    """
    if b is None:
        (x,) = promote_dtypes_inexact("logsumexp", a)
        weights = None
    else:
        x, weights = promote_inexact("logsumexp", a, b)
        x = lax.select(lax.eq(weights, full_like(weights, 0)), full_like(x, -float("inf")), x)
    top = lax.stop_gradient(reductions.max(x, axis, keepdims=True, initial=-float("inf") if x.size == 0 else None))
    top = lax.select(logic.isfinite(top), top, full_like(top, 0))  # inf - inf would be NaN
    e = lax.exp(lax.sub(x, expand_to(top, x.shape)))
    total = reductions.sum(e if weights is None else lax.mul(e, weights), axis, keepdims=True)
    out = lax.add(lax.log(total), top)
    if flag("logsumexp", "keepdims", keepdims):
        return out
    axes = range(x.ndim) if axis is None else canonical_axes("logsumexp", axis, x.ndim)
    return lax.reshape(out, tuple(n for d, n in enumerate(out.shape) if d not in axes))


def one_hot(x: Any, num_classes: int, *, dtype: Any = None, axis: int = -1) -> Array:
    """1 at the class x along a new ``axis`` of size num_classes, 0 elsewhere; all 0 for x outside [0, num_classes).

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.nn.one_hot(fnp.array([0, 2]), 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    x = lift(x, "one_hot")
    if not dtypes.is_integer(x.dtype):
        raise TypeError(f"one_hot: classes must be integers, got {x.aval}. Convert them with .astype(int).")
    axis = canonical_axis("one_hot", axis, x.ndim + 1)
    (num_classes,) = canonical_shape("one_hot", (num_classes,))
    shape = (*x.shape[:axis], num_classes, *x.shape[axis:])
    classes = lax.broadcasted_iota(x.dtype, shape, axis)
    wide = lax.broadcast_in_dim(x, shape, tuple(d for d in range(len(shape)) if d != axis))
    return convert(lax.eq(wide, classes), dtypes.canonical(float if dtype is None else dtype))


def standardize(x: Any, axis: Any = -1, epsilon: float = 1e-5) -> Array:
    """(x - mean) / sqrt(variance + epsilon) over ``axis``."""
    (x,) = promote_dtypes_inexact("standardize", x)
    mean = reductions.mean(x, axis, keepdims=True)
    centred = lax.sub(x, expand_to(mean, x.shape))
    variance = reductions.mean(lax.square(centred), axis, keepdims=True)
    epsilon = real_number("standardize", "epsilon", epsilon)
    scale = lax.rsqrt(lax.add(variance, full_like(variance, epsilon)))
    return lax.mul(centred, expand_to(scale, x.shape))
