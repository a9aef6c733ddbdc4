"""Medians, quantiles and percentiles, with NaNs propagated or left out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, ConcreteArray, lift
from fgrad.core.static import choice, flag
from fgrad.lax.common import canonical_axes
from fgrad.numpy import logic, shaping, ufuncs
from fgrad.numpy.indexing import take, take_along_axis
from fgrad.numpy.promotion import cast, expand_to, inexact_dtype
from fgrad.numpy.reductions import Axis, sum
from fgrad.primitives.broadcast import full_like
from fgrad.primitives.convert import convert

_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def _lines(name: str, a: Any, axis: Axis) -> tuple[Array, tuple[int, ...]]:
    """The reduced axes as one last axis [*kept, n]; and what they leave with keepdims."""
    x = lift(a, name)
    x = convert(x, inexact_dtype(x.dtype), x.weak_type)
    if x.dtype.kind == "c":
        raise TypeError(f"{name}: needs an order, got {x.dtype}, whose numbers have none. Use the real part, or abs.")
    axes = tuple(range(x.ndim)) if axis is None else canonical_axes(name, axis, x.ndim)
    kept = tuple(d for d in range(x.ndim) if d not in axes)
    n = math.prod(x.shape[d] for d in axes)
    if n == 0:
        raise ValueError(f"{name}: nothing to order, got size 0 for axes {axes} of shape {x.shape}. Reduce others.")
    ones = tuple(1 if d in axes else m for d, m in enumerate(x.shape))
    return lax.reshape(lax.transpose(x, (*kept, *axes)), (*(x.shape[d] for d in kept), n)), ones


def _interpolated(low: Array, high: Array, weight: Array, method: str) -> Array:
    """Between the elements at floor(position) and ceil(position), which is ``weight`` of the way."""
    half = full_like(weight, 0.5)
    if method == "lower":
        return low
    if method == "higher":
        return high
    if method == "nearest":  # a half goes to the even element, which the caller made low
        return logic.where(lax.gt(weight, half), high, low)
    if method == "midpoint":
        weight = logic.where(lax.gt(weight, full_like(weight, 0)), half, weight)
    # not 0 * high where the position is whole: high may be infinite
    mixed = ufuncs.add(ufuncs.multiply(low, ufuncs.subtract(1, weight)), ufuncs.multiply(high, weight))
    return logic.where(lax.eq(weight, full_like(weight, 0)), low, mixed)


def _has_nan(ordered: Array, n: int) -> Array:
    """Whether a line holds a NaN, [*kept, 1]: then its last element is one."""
    last = lax.slice_in_dim(ordered, n - 1, n, axis=-1)
    return lax.ne(last, last)


def _quantile(name: str, a: Any, q: Any, axis: Axis, method: str, keepdims: bool, skip_nan: bool, most: int) -> Array:
    choice(name, "method", method, _METHODS)
    x, ones = _lines(name, a, axis)
    q = cast(name, q, x.dtype)
    if q.ndim > 1:
        raise ValueError(f"{name}: q must be a scalar or have one axis, got shape {q.shape}. Reshape it.")
    if type(q) is ConcreteArray and not ((np.asarray(q) >= 0) & (np.asarray(q) <= most)).all():
        raise ValueError(f"{name}: q must be in [0, {most}], got {np.asarray(q).tolist()}. Change q.")
    kept, n = x.shape[:-1], x.shape[-1]
    share = lax.reshape(lax.div(q, full_like(q, most)) if most != 1 else q, (q.size,))
    ordered = lax.sort(x, -1)
    if skip_nan:
        count = sum(lax.eq(x, x), -1, dtype=x.dtype, keepdims=True)  # [*kept, 1]
        position = ufuncs.multiply(share, ufuncs.maximum(ufuncs.subtract(count, 1), 0))
    else:
        position = ufuncs.multiply(share, n - 1)
    low = lax.floor(position)
    if method == "nearest":  # of two equally near, the even
        odd = lax.eq(ufuncs.remainder(low, 2), full_like(low, 1))
        tie = lax.eq(lax.sub(position, low), full_like(low, 0.5))
        position = logic.where(lax.bitwise_and(odd, tie), lax.add(low, full_like(low, 1)), position)
        low = lax.floor(position)
    at = take_along_axis if skip_nan else take
    ends = [at(ordered, lax.convert_element_type(i, dtypes.int32), -1, mode="clip") for i in (low, lax.ceil(position))]
    weight = expand_to(lax.sub(position, low), (*kept, q.size))
    out = _interpolated(ends[0], ends[1], weight, method)
    spoilt = lax.eq(count, full_like(count, 0)) if skip_nan else _has_nan(ordered, n)
    out = logic.where(spoilt, math.nan, out)
    out = shaping.moveaxis(out, -1, 0)  # [q, *kept]
    return lax.reshape(out, (*q.shape, *(ones if flag(name, "keepdims", keepdims) else kept)))


def quantile(a: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Array:
    """What a share ``q`` of the elements lies below: the sorted elements at position q (n - 1), interpolated.

    Args:
        a: array of real numbers; integers are converted to floats.
        q: scalar, or array [k], in [0, 1].
        axis: None (all), an axis or several.
        method: between two elements: 'linear', 'lower', 'higher', 'midpoint' or 'nearest' (a half: the even place).
        keepdims: reduced axes stay, with size 1.

    Returns:
        Array [*kept], or [k, *kept]; NaN where a line holds a NaN.

    Raises:
        TypeError: a is complex.
        ValueError: q is outside [0, 1] (a traced q is clamped) or has more than one axis, or there is no element.

    https://docs.jax.dev/en/latest/_autosummary/jax.numpy.quantile.html

    >>> import fgrad.numpy as fnp
    >>> fnp.quantile(fnp.array([1.0, 2.0, 4.0]), fnp.array([0.25, 0.5])).tolist()
    [1.5, 2.0]
    """
    return _quantile("quantile", a, q, axis, method, keepdims, False, 1)


def percentile(a: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Array:
    """``quantile`` with ``q`` in [0, 100]."""
    return _quantile("percentile", a, q, axis, method, keepdims, False, 100)


def median(a: Any, axis: Axis = None, keepdims: bool = False) -> Array:
    """The middle element, or the mean of the two in the middle; NaN where there is a NaN.

    >>> import fgrad.numpy as fnp
    >>> fnp.median(fnp.array([3.0, 1.0, 2.0, 9.0])).tolist()
    2.5
    """
    return _quantile("median", a, 0.5, axis, "linear", keepdims, False, 1)


def nanquantile(a: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Array:
    """``quantile`` of the elements that are no NaN; NaN where nothing is left."""
    return _quantile("nanquantile", a, q, axis, method, keepdims, True, 1)


def nanpercentile(a: Any, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Array:
    """``percentile`` of the elements that are no NaN; NaN where nothing is left."""
    return _quantile("nanpercentile", a, q, axis, method, keepdims, True, 100)


def nanmedian(a: Any, axis: Axis = None, keepdims: bool = False) -> Array:
    """``median`` of the elements that are no NaN; NaN where nothing is left."""
    return _quantile("nanmedian", a, 0.5, axis, "linear", keepdims, True, 1)
