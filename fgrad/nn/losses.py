"""Losses, one value for each example; reduce them with ``.mean()``."""

from __future__ import annotations

from typing import Any

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.static import real_number
from fgrad.lax.common import canonical_axis
from fgrad.nn.activations import log_sigmoid
from fgrad.nn.normalised import log_softmax, logsumexp
from fgrad.numpy import indexing, reductions, ufuncs
from fgrad.numpy.promotion import promote_dtypes_inexact, promote_inexact
from fgrad.primitives.broadcast import full_like


def softmax_cross_entropy_with_integer_labels(logits: Any, labels: Any, axis: int = -1) -> Array:
    """-log(softmax(logits))[label] over ``axis``: logits [.., K, ..] and integer labels [.., ..] give [.., ..].

    Labels outside [-K, K) give NaN.

    >>> import fgrad, fgrad.numpy as fnp
    >>> loss = fgrad.nn.softmax_cross_entropy_with_integer_labels(fnp.zeros((2, 4)), fnp.array([0, 3]))
    >>> [round(v, 4) for v in loss.tolist()]
    [1.3863, 1.3863]
    """
    name = "softmax_cross_entropy_with_integer_labels"
    (logits,) = promote_dtypes_inexact(name, logits)
    labels = lift(labels, name)
    axis = canonical_axis(name, axis, logits.ndim)
    batch = (*logits.shape[:axis], *logits.shape[axis + 1 :])
    if not dtypes.is_integer(labels.dtype) or labels.shape != batch:
        raise ValueError(
            f"{name}: labels must be integers, one for each example, got {labels.aval} for logits {logits.shape} with "
            f"classes on axis {axis} (expected shape {batch}). Use softmax_cross_entropy for probabilities."
        )
    at = lax.reshape(labels, (*batch[:axis], 1, *batch[axis:]))
    picked = lax.reshape(indexing.take_along_axis(logits, at, axis), batch)
    return lax.sub(logsumexp(logits, axis), picked)


def softmax_cross_entropy(logits: Any, labels: Any, axis: int = -1) -> Array:
    """-sum(labels log(softmax(logits))) over ``axis``; labels are probabilities in the shape of the logits."""
    logits, labels = promote_inexact("softmax_cross_entropy", logits, labels)
    return lax.neg(reductions.sum(lax.mul(labels, log_softmax(logits, axis)), axis))


def sigmoid_binary_cross_entropy(logits: Any, labels: Any) -> Array:
    """-y log(sigmoid(x)) - (1 - y) log(1 - sigmoid(x)) for logits x and labels y in [0, 1]."""
    x, y = promote_inexact("sigmoid_binary_cross_entropy", logits, labels)
    miss = lax.mul(lax.sub(full_like(y, 1), y), log_sigmoid(lax.neg(x)))
    return lax.neg(lax.add(lax.mul(y, log_sigmoid(x)), miss))


def squared_error(predictions: Any, targets: Any = 0.0) -> Array:
    """(predictions - targets)^2."""
    return lax.square(ufuncs.subtract(*promote_inexact("squared_error", predictions, targets)))


def l2_loss(predictions: Any, targets: Any = 0.0) -> Array:
    """(predictions - targets)^2 / 2."""
    out = squared_error(predictions, targets)
    return lax.mul(out, full_like(out, 0.5))


def huber_loss(predictions: Any, targets: Any = 0.0, delta: float = 1.0) -> Array:
    """e^2 / 2 for |e| <= delta, delta (|e| - delta / 2) beyond, e = predictions - targets.

    P. J. Huber, *Robust estimation of a location parameter*, 1964, https://doi.org/10.1214/aoms/1177703732
    """
    p, t = promote_inexact("huber_loss", predictions, targets)
    delta = real_number("huber_loss", "delta", delta)
    size = lax.abs(lax.sub(p, t))
    inner = lax.min(size, full_like(size, delta))
    half = lax.mul(lax.square(inner), full_like(size, 0.5))
    return lax.add(half, lax.mul(full_like(size, delta), lax.sub(size, inner)))


def smooth_labels(labels: Any, alpha: float) -> Array:
    """(1 - alpha) labels + alpha / K over the last axis of K classes.  https://arxiv.org/abs/1512.00567"""
    (y,) = promote_dtypes_inexact("smooth_labels", labels)
    alpha = real_number("smooth_labels", "alpha", alpha)
    if y.ndim == 0 or y.shape[-1] == 0:
        raise ValueError(f"smooth_labels: labels need a last axis of classes, got shape {y.shape}. Use one_hot.")
    return lax.add(lax.mul(y, full_like(y, 1 - alpha)), full_like(y, alpha / y.shape[-1]))
