"""Sums, products, extremes, moments and running totals over axes.

``axis`` is None (all axes), an int or a tuple of ints; ``keepdims`` leaves reduced axes with size 1; ``where`` (a bool
array that broadcasts to the operand) leaves elements out; ``initial`` is one more element of each reduction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.static import flag, real_number
from fgrad.lax.common import canonical_axes, canonical_axis
from fgrad.numpy import logic, ufuncs
from fgrad.numpy.promotion import cast, expand_to, inexact_dtype, promote
from fgrad.primitives.broadcast import full_like
from fgrad.primitives.convert import convert

Axis = int | tuple[int, ...] | None


def _axes(name: str, x: Array, axis: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axis is None else canonical_axes(name, axis, x.ndim)


def _keep(x: Array, out: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    if not (keepdims is True or flag("reduction", "keepdims", keepdims)):
        return out
    return lax.reshape(out, tuple([1 if i in axes else n for i, n in enumerate(x.shape)]))


def _count(x: Array, axes: tuple[int, ...]) -> int:
    return math.prod([x.shape[a] for a in axes])


def _masked(name: str, x: Array, where: Any, identity: Any) -> Array:
    """x with the elements left out replaced by the reduction's identity."""
    if where is None:
        return x
    mask = expand_to(logic.as_bool(name, where), x.shape)
    return lax.select(mask, x, full_like(x, identity))


def accumulator_dtype(dtype: np.dtype) -> np.dtype:
    """Booleans and integers narrower than 32 bits are summed in int32 (uint32 if unsigned)."""
    if dtype == dtypes.bool_ or (dtypes.is_integer(dtype) and dtype.itemsize < 4):
        return dtypes.uint32 if dtype.kind == "u" else dtypes.int32
    return dtype


def _fold(
    name: str,
    fold: Callable[[Array, tuple[int, ...]], Array],
    join: Callable[[Any, Any], Array],
    a: Any,
    axis: Any,
    dtype: Any,
    keepdims: bool,
    initial: Any,
    where: Any,
    identity: Any,
) -> Array:
    x = lift(a, name)
    x = convert(x, accumulator_dtype(x.dtype) if dtype is None else dtypes.canonical(dtype), x.weak_type)
    axes = _axes(name, x, axis)
    out = _keep(x, fold(_masked(name, x, where, identity), axes), axes, keepdims)
    return out if initial is None else join(out, initial)


def sum(
    a: Any, axis: Axis = None, dtype: Any = None, keepdims: bool = False, initial: Any = None, where: Any = None
) -> Array:
    """The sum over ``axis``, in ``dtype``: the operand's own, int32 for booleans and small integers.

    float16 and bfloat16 accumulate in float32.

    >>> import fgrad.numpy as fnp
    >>> fnp.sum(fnp.ones((2, 3)), axis=0).tolist()
    [2.0, 2.0, 2.0]
    """
    return _fold("sum", lax.reduce_sum, ufuncs.add, a, axis, dtype, keepdims, initial, where, 0)


def prod(
    a: Any, axis: Axis = None, dtype: Any = None, keepdims: bool = False, initial: Any = None, where: Any = None
) -> Array:
    """The product over ``axis``; dtypes as for ``sum``. Its derivative is right where elements are zero."""
    return _fold("prod", lax.reduce_prod, ufuncs.multiply, a, axis, dtype, keepdims, initial, where, 1)


def _extreme(name: str, a: Any, axis: Any, keepdims: bool, initial: Any, where: Any) -> Array:
    x = lift(a, name)
    axes = _axes(name, x, axis)
    if initial is None and (where is not None or (_count(x, axes) == 0 and x.size == 0)):
        why = "with where" if where is not None else f"over the empty axes {axes}"
        raise ValueError(
            f"{name}: needs initial {why} (there may be no element), got shape {x.shape}. Pass initial=..."
        )
    if name == "max":
        fold, join, identity = lax.reduce_max, ufuncs.maximum, dtypes.least(x.dtype)
    else:
        fold, join, identity = lax.reduce_min, ufuncs.minimum, dtypes.greatest(x.dtype)
    out = _keep(x, fold(_masked(name, x, where, identity), axes), axes, keepdims)
    return out if initial is None else join(out, cast(name, initial, x.dtype))


def max(a: Any, axis: Axis = None, keepdims: bool = False, initial: Any = None, where: Any = None) -> Array:
    """The largest element over ``axis``; NaN if there is one.  Ties share the derivative equally.

    Empty axes, and ``where``, need ``initial``: ValueError.

    >>> import fgrad.numpy as fnp
    >>> fnp.max(fnp.array([[1, 5], [7, 2]]), axis=1).tolist()
    [5, 7]
    """
    return _extreme("max", a, axis, keepdims, initial, where)


def min(a: Any, axis: Axis = None, keepdims: bool = False, initial: Any = None, where: Any = None) -> Array:
    """The smallest element over ``axis``; NaN if there is one.  Ties share the derivative equally."""
    return _extreme("min", a, axis, keepdims, initial, where)


amax, amin = max, min


def ptp(a: Any, axis: Axis = None, keepdims: bool = False) -> Array:
    """max - min over ``axis``."""
    return ufuncs.subtract(max(a, axis, keepdims), min(a, axis, keepdims))


def all(a: Any, axis: Axis = None, keepdims: bool = False, where: Any = None) -> Array:
    """Whether every element over ``axis`` is nonzero, as bool."""
    x = logic.as_bool("all", a)
    axes = _axes("all", x, axis)
    return _keep(x, lax.reduce_and(_masked("all", x, where, True), axes), axes, keepdims)


def any(a: Any, axis: Axis = None, keepdims: bool = False, where: Any = None) -> Array:
    """Whether some element over ``axis`` is nonzero, as bool."""
    x = logic.as_bool("any", a)
    axes = _axes("any", x, axis)
    return _keep(x, lax.reduce_or(_masked("any", x, where, False), axes), axes, keepdims)


def count_nonzero(a: Any, axis: Axis = None, keepdims: bool = False) -> Array:
    """The number of nonzero elements over ``axis``, int32."""
    return sum(logic.as_bool("count_nonzero", a), axis, keepdims=keepdims)


def _moments(name: str, a: Any, dtype: Any) -> tuple[Array, np.dtype]:
    """(the operand in the dtype moments are computed in, the dtype of the result): 16-bit floats work in float32."""
    x = lift(a, name)
    out = inexact_dtype(x.dtype) if dtype is None else dtypes.canonical(dtype)
    work = dtypes.float32 if dtypes.is_float(out) and out.itemsize == 2 else out
    return convert(x, work, x.weak_type), out


def _mean(name: str, x: Array, axes: tuple[int, ...], where: Any, ddof: float = 0) -> Array:
    """Sum / (count - ddof); NaN if no element is left."""
    ddof = real_number(name, "ddof", ddof)
    total = lax.reduce_sum(_masked(name, x, where, 0), axes)
    if where is None:
        left = _count(x, axes) - ddof
        return lax.div(total, full_like(total, left if left > 0 else math.nan))
    mask = expand_to(logic.as_bool(name, where), x.shape)
    n = lax.sub(lax.reduce_sum(convert(mask, x.dtype), axes), full_like(total, ddof))
    return lax.div(total, n)


def mean(a: Any, axis: Axis = None, dtype: Any = None, keepdims: bool = False, where: Any = None) -> Array:
    """The sum over ``axis`` divided by the number of elements, *float*; NaN over nothing.

    >>> import fgrad.numpy as fnp
    >>> fnp.mean(fnp.arange(4))
    Array(1.5, dtype=float32)
    """
    x, out = _moments("mean", a, dtype)
    axes = _axes("mean", x, axis)
    return convert(_keep(x, _mean("mean", x, axes, where), axes, keepdims), out)


def average(a: Any, axis: Axis = None, weights: Any = None, keepdims: bool = False) -> Array:
    """sum(a weights) / sum(weights) over ``axis``; the mean without weights (which have the operand's shape)."""
    if weights is None:
        return mean(a, axis, keepdims=keepdims)
    a, weights = promote("average", a, weights)
    total = sum(ufuncs.multiply(a, weights), axis, keepdims=keepdims)
    return ufuncs.true_divide(total, sum(weights, axis, keepdims=keepdims))


def var(
    a: Any, axis: Axis = None, dtype: Any = None, ddof: float = 0, keepdims: bool = False, where: Any = None
) -> Array:
    """sum((a - mean)^2) / (n - ddof) over ``axis``, *float*.

    >>> import fgrad.numpy as fnp
    >>> float(fnp.var(fnp.array([1.0, 3.0]), ddof=1))
    2.0
    """
    x, out = _moments("var", a, dtype)
    axes = _axes("var", x, axis)
    center = _keep(x, _mean("var", x, axes, where), axes, True)
    squares = lax.square(lax.sub(x, expand_to(center, x.shape)))
    return convert(_keep(x, _mean("var", squares, axes, where, ddof), axes, keepdims), out)


def std(
    a: Any, axis: Axis = None, dtype: Any = None, ddof: float = 0, keepdims: bool = False, where: Any = None
) -> Array:
    """The square root of ``var``; its derivative is infinite where the variance is 0."""
    return lax.sqrt(var(a, axis, dtype, ddof, keepdims, where))


def _position(name: str, a: Any, axis: int | None, keepdims: bool) -> Array:
    x = lift(a, name)
    fun = lax.argmax if name == "argmax" else lax.argmin
    if axis is None:
        out = fun(lax.reshape(x, (x.size,)), 0, dtypes.int32)
        return lax.reshape(out, (1,) * x.ndim) if flag(name, "keepdims", keepdims) else out
    axis = canonical_axis(name, axis, x.ndim)
    return _keep(x, fun(x, axis, dtypes.int32), (axis,), keepdims)


def argmax(a: Any, axis: int | None = None, keepdims: bool = False) -> Array:
    """The index of the first largest element along ``axis`` (of the flattened operand for None), int32; NaN is largest.

    >>> import fgrad.numpy as fnp
    >>> int(fnp.argmax(fnp.array([1, 3, 3])))
    1
    """
    return _position("argmax", a, axis, keepdims)


def argmin(a: Any, axis: int | None = None, keepdims: bool = False) -> Array:
    """The index of the first smallest element along ``axis`` (of the flattened operand for None), int32."""
    return _position("argmin", a, axis, keepdims)


# --- NaN left out ----------------------------------------------------------------------------------------------------
def _not_nan(name: str, a: Any) -> tuple[Array, Array]:
    x = lift(a, name)
    return x, lax.eq(x, x)


def nansum(a: Any, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Array:
    """``sum`` without the NaNs."""
    x, valid = _not_nan("nansum", a)
    return sum(x, axis, dtype, keepdims, where=valid)


def nanprod(a: Any, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Array:
    """``prod`` without the NaNs."""
    x, valid = _not_nan("nanprod", a)
    return prod(x, axis, dtype, keepdims, where=valid)


def nanmean(a: Any, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Array:
    """``mean`` without the NaNs; NaN where nothing is left."""
    x, valid = _not_nan("nanmean", a)
    return mean(x, axis, dtype, keepdims, where=valid)


def nanvar(a: Any, axis: Axis = None, dtype: Any = None, ddof: float = 0, keepdims: bool = False) -> Array:
    """``var`` without the NaNs."""
    x, valid = _not_nan("nanvar", a)
    return var(lax.select(valid, x, full_like(x, 0)), axis, dtype, ddof, keepdims, where=valid)


def nanstd(a: Any, axis: Axis = None, dtype: Any = None, ddof: float = 0, keepdims: bool = False) -> Array:
    """``std`` without the NaNs."""
    return lax.sqrt(nanvar(a, axis, dtype, ddof, keepdims))


def _nan_extreme(name: str, a: Any, axis: Any, keepdims: bool) -> Array:
    fun = max if name == "nanmax" else min
    x, valid = _not_nan(name, a)
    if not dtypes.is_inexact(x.dtype):
        return fun(x, axis, keepdims)
    outside = -math.inf if name == "nanmax" else math.inf
    out = fun(lax.select(valid, x, full_like(x, outside)), axis, keepdims)
    return lax.select(any(valid, axis, keepdims), out, full_like(out, math.nan))


def nanmax(a: Any, axis: Axis = None, keepdims: bool = False) -> Array:
    """``max`` without the NaNs; NaN where nothing is left."""
    return _nan_extreme("nanmax", a, axis, keepdims)


def nanmin(a: Any, axis: Axis = None, keepdims: bool = False) -> Array:
    """``min`` without the NaNs; NaN where nothing is left."""
    return _nan_extreme("nanmin", a, axis, keepdims)


# --- running totals --------------------------------------------------------------------------------------------------
def _running(
    name: str, total: Callable[..., Array], a: Any, axis: int | None, dtype: Any, without_nan: Any = None
) -> Array:
    x = lift(a, name)
    if without_nan is not None and dtypes.is_inexact(x.dtype):
        x = lax.select(lax.ne(x, x), full_like(x, without_nan), x)
    x = convert(x, accumulator_dtype(x.dtype) if dtype is None else dtypes.canonical(dtype))
    if axis is None:
        x, axis = lax.reshape(x, (x.size,)), 0
    return total(x, canonical_axis(name, axis, x.ndim))


def cumsum(a: Any, axis: int | None = None, dtype: Any = None) -> Array:
    """out[i] = a[0] + ... + a[i] along ``axis`` (of the flattened operand for None); dtypes as for ``sum``.

    >>> import fgrad.numpy as fnp
    >>> fnp.cumsum(fnp.arange(1, 5)).tolist()
    [1, 3, 6, 10]
    """
    return _running("cumsum", lax.cumsum, a, axis, dtype)


def cumprod(a: Any, axis: int | None = None, dtype: Any = None) -> Array:
    """out[i] = a[0] ... a[i] along ``axis`` (of the flattened operand for None); dtypes as for ``sum``."""
    return _running("cumprod", lax.cumprod, a, axis, dtype)


def nancumsum(a: Any, axis: int | None = None, dtype: Any = None) -> Array:
    """``cumsum`` with every NaN replaced by 0."""
    return _running("nancumsum", lax.cumsum, a, axis, dtype, 0)


def nancumprod(a: Any, axis: int | None = None, dtype: Any = None) -> Array:
    """``cumprod`` with every NaN replaced by 1."""
    return _running("nancumprod", lax.cumprod, a, axis, dtype, 1)
