"""Noise against overfitting."""

from __future__ import annotations

from typing import Any

from fgrad import lax, random
from fgrad.core.array import Array
from fgrad.core.static import real_number
from fgrad.numpy.promotion import promote_dtypes_inexact
from fgrad.primitives.broadcast import full_like


def dropout(key: Any, rate: float, x: Any) -> Array:
    """Every element 0 with probability ``rate``, else x / (1 - rate): the mean stays.

    ``rate`` is a Python float in [0, 1].  https://jmlr.org/papers/v15/srivastava14a.html

    >>> import fgrad, fgrad.numpy as fnp
    >>> fgrad.nn.dropout(fgrad.random.key(0), 0.5, fnp.ones(4)).tolist()
    [0.0, 0.0, 2.0, 2.0]
    """
    (x,) = promote_dtypes_inexact("dropout", x)
    rate = real_number("dropout", "rate", rate)
    if not 0 <= rate <= 1:
        raise ValueError(f"dropout: rate must lie in [0, 1], got {rate}. Pass the share of elements to drop.")
    if rate == 0:
        return x
    zero = full_like(x, 0)
    if rate == 1:
        return zero
    keep = random.bernoulli(key, 1 - rate, x.shape)
    return lax.select(keep, lax.div(x, full_like(x, 1 - rate)), zero)
