"""Comparisons, logic, bits, and choosing between values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, ConcreteArray, from_numpy, lift
from fgrad.core.primitive import Primitive
from fgrad.core.static import flag, sequence
from fgrad.core.trace import Tracer
from fgrad.errors import ConcretizationError
from fgrad.numpy.promotion import (
    alike,
    broadcast,
    cast,
    common_shape,
    eager,
    expand_to,
    promote,
    promote_dtypes,
    promote_inexact,
)
from fgrad.primitives.broadcast import full, full_like
from fgrad.primitives.compare import eq_p, ge_p, gt_p, le_p, lt_p, ne_p
from fgrad.primitives.convert import convert


# --- comparisons -----------------------------------------------------------------------------------------------------
def _compared(name: str, prim: Primitive, x1: Any, x2: Any) -> Array:
    out = eager(prim, x1, x2)
    if out is not None:
        return out
    return prim.bind(x1, x2) if alike(x1, x2) else prim.bind(*promote(name, x1, x2))


def equal(x1: Any, x2: Any) -> Array:
    """x1 == x2, as bool; False on NaN.

    >>> import fgrad.numpy as fnp
    >>> fnp.equal(fnp.arange(3), 1)
    Array([False,  True, False], dtype=bool)
    """
    return _compared("equal", eq_p, x1, x2)


def not_equal(x1: Any, x2: Any) -> Array:
    """x1 != x2, as bool; True on NaN."""
    return _compared("not_equal", ne_p, x1, x2)


def less(x1: Any, x2: Any) -> Array:
    """x1 < x2, as bool."""
    return _compared("less", lt_p, x1, x2)


def less_equal(x1: Any, x2: Any) -> Array:
    """x1 <= x2, as bool."""
    return _compared("less_equal", le_p, x1, x2)


def greater(x1: Any, x2: Any) -> Array:
    """x1 > x2, as bool."""
    return _compared("greater", gt_p, x1, x2)


def greater_equal(x1: Any, x2: Any) -> Array:
    """x1 >= x2, as bool."""
    return _compared("greater_equal", ge_p, x1, x2)


# --- logic and bits --------------------------------------------------------------------------------------------------
def as_bool(name: str, x: Any) -> Array:
    """True where x is not zero."""
    x = lift(x, name)
    return x if x.dtype == dtypes.bool_ else lax.ne(x, full_like(x, 0))


def logical_and(x1: Any, x2: Any) -> Array:
    """Both are nonzero, as bool."""
    return lax.bitwise_and(*broadcast("logical_and", [as_bool("logical_and", x) for x in (x1, x2)]))


def logical_or(x1: Any, x2: Any) -> Array:
    """Either is nonzero, as bool."""
    return lax.bitwise_or(*broadcast("logical_or", [as_bool("logical_or", x) for x in (x1, x2)]))


def logical_xor(x1: Any, x2: Any) -> Array:
    """Exactly one is nonzero, as bool."""
    return lax.bitwise_xor(*broadcast("logical_xor", [as_bool("logical_xor", x) for x in (x1, x2)]))


def logical_not(x: Any) -> Array:
    """x is zero, as bool."""
    return lax.bitwise_not(as_bool("logical_not", x))


def bitwise_and(x1: Any, x2: Any) -> Array:
    """x1 & x2, for integers and booleans."""
    return lax.bitwise_and(*promote("bitwise_and", x1, x2))


def bitwise_or(x1: Any, x2: Any) -> Array:
    """x1 | x2, for integers and booleans."""
    return lax.bitwise_or(*promote("bitwise_or", x1, x2))


def bitwise_xor(x1: Any, x2: Any) -> Array:
    """x1 ^ x2, for integers and booleans."""
    return lax.bitwise_xor(*promote("bitwise_xor", x1, x2))


def bitwise_not(x: Any) -> Array:
    """~x, for integers and booleans."""
    return lax.bitwise_not(lift(x, "bitwise_not"))


bitwise_invert = invert = bitwise_not


def left_shift(x1: Any, x2: Any) -> Array:
    """x1 << x2; 0 for shifts by the width or more."""
    return lax.shift_left(*promote("left_shift", x1, x2))


def right_shift(x1: Any, x2: Any) -> Array:
    """x1 >> x2, keeping the sign of signed integers."""
    x1, x2 = promote("right_shift", x1, x2)
    return lax.shift_right_logical(x1, x2) if x1.dtype.kind == "u" else lax.shift_right_arithmetic(x1, x2)


# --- kinds of numbers ------------------------------------------------------------------------------------------------
def isfinite(x: Any) -> Array:
    """True where x is neither infinite nor NaN."""
    x = lift(x, "isfinite")
    return lax.is_finite(x) if dtypes.is_inexact(x.dtype) else full(x.shape, True, dtypes.bool_)


def isnan(x: Any) -> Array:
    """True where x is NaN."""
    x = lift(x, "isnan")
    return lax.ne(x, x)


def _is_infinity(name: str, x: Any, value: float) -> Array:
    x = lift(x, name)
    return lax.eq(x, full_like(x, value)) if dtypes.is_inexact(x.dtype) else full(x.shape, False, dtypes.bool_)


def isposinf(x: Any) -> Array:
    """True where x is +inf."""
    return _is_infinity("isposinf", x, np.inf)


def isneginf(x: Any) -> Array:
    """True where x is -inf."""
    return _is_infinity("isneginf", x, -np.inf)


def isinf(x: Any) -> Array:
    """True where x is +inf or -inf."""
    return logical_or(isposinf(x), isneginf(x))


def isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Array:
    """|a - b| <= atol + rtol |b|, as bool; infinities are close to themselves, NaN to nothing unless ``equal_nan``."""
    a, b = promote_inexact("isclose", a, b)
    bound = lax.add(full_like(b, atol), lax.mul(full_like(b, rtol), lax.abs(b)))
    near = lax.le(lax.abs(lax.sub(a, b)), bound)
    near = lax.bitwise_and(near, lax.bitwise_and(isfinite(a), isfinite(b)))
    out = lax.bitwise_or(near, lax.eq(a, b))
    return lax.bitwise_or(out, lax.bitwise_and(isnan(a), isnan(b))) if flag("isclose", "equal_nan", equal_nan) else out


def _all(x: Array) -> Array:
    return lax.reduce_and(x, tuple(range(x.ndim)))


def allclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Array:
    """Whether every pair of elements ``isclose``; a 0-d bool Array."""
    return _all(isclose(a, b, rtol, atol, equal_nan))


def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Array:
    """Whether the shapes and all elements are equal; a 0-d bool Array.

    >>> import fgrad.numpy as fnp
    >>> bool(fnp.array_equal(fnp.arange(2), fnp.array([0, 1])))
    True
    """
    x, y = promote_dtypes("array_equal", a1, a2)
    if x.shape != y.shape:
        return ConcreteArray(np.asarray(False))
    same = lax.eq(x, y)
    if flag("array_equal", "equal_nan", equal_nan):
        same = lax.bitwise_or(same, lax.bitwise_and(isnan(x), isnan(y)))
    return _all(same)


# --- choosing --------------------------------------------------------------------------------------------------------
def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    """``x`` where the condition is nonzero, ``y`` elsewhere; all three broadcast together.

    With the condition alone: the indices of its nonzero elements, one int32 array for each axis.  Their number depends
    on the values, so that form needs a concrete condition (ConcretizationError under ``jit`` or ``vmap``).

    The derivative flows only to the value chosen; a NaN that the other branch would have produced in its own derivative
    still spoils the sum (0 * inf), so guard its operand with a ``where`` of its own.

    >>> import fgrad.numpy as fnp
    >>> fnp.where(fnp.arange(3) > 0, 1.0, -1.0).tolist()
    [-1.0, 1.0, 1.0]
    """
    if x is None and y is None:
        return nonzero(condition)
    if x is None or y is None:
        raise TypeError("where: takes the condition alone or with both x and y, got one of them. Pass both.")
    mask = as_bool("where", condition)
    x, y = promote_dtypes("where", x, y)
    shape = common_shape("where", [mask.shape, x.shape, y.shape])
    return lax.select(expand_to(mask, shape), expand_to(x, shape), expand_to(y, shape))


def concrete(name: str, x: Any, instead: str) -> np.ndarray:
    """The value of an operand that decides a shape."""
    x = lift(x, name)
    if isinstance(x, Tracer) and x.concrete() is None:
        raise ConcretizationError(
            f"{name}: the values decide the result's shape, so they must be known, got {x._trace.describe(x)} "
            f"({x.aval}). {instead}"
        )
    return np.asarray(x)


def nonzero(a: Any) -> tuple[Array, ...]:
    """The indices of the nonzero elements, one int32 array for each axis; needs a concrete operand."""
    value = concrete("nonzero", a, "Use where(condition, x, y), or compute it outside the transformation.")
    if value.ndim == 0:
        raise ValueError(f"nonzero: a scalar has no places, got {value!r} of shape (). Use atleast_1d.")
    return tuple(from_numpy(i, dtypes.int32) for i in np.nonzero(value))


def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Array:
    """The choice of the first true condition, else ``default``."""
    condlist, choicelist = sequence("select", "condlist", condlist), sequence("select", "choicelist", choicelist)
    if len(condlist) != len(choicelist) or not condlist:
        raise ValueError(
            f"select: needs as many choices as conditions and at least one, got {len(condlist)} conditions and "
            f"{len(choicelist)} choices. Pass lists of equal length."
        )
    *choices, out = promote_dtypes("select", *choicelist, default)
    for condition, choice in zip(reversed(condlist), reversed(choices)):
        out = where(condition, choice, out)
    return out


def clip(a: Any, min: Any = None, max: Any = None) -> Array:
    """min(max(a, lower), upper); either bound may be None.  At a bound, half of the derivative passes.

    >>> import fgrad.numpy as fnp
    >>> fnp.clip(fnp.arange(4), 1, 2).tolist()
    [1, 1, 2, 2]
    """
    out = lift(a, "clip")
    if min is not None:
        out = lax.max(*promote("clip", out, min))
    if max is not None:
        out = lax.min(*promote("clip", out, max))
    return out


def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Array:
    """NaN and the infinities replaced: by 0 and the dtype's largest finite numbers, unless given."""
    from fgrad.numpy.types import finfo

    x = lift(x, "nan_to_num")
    if not dtypes.is_inexact(x.dtype):
        return x
    info = finfo(x.dtype)
    out = lax.select(isnan(x), cast("nan_to_num", full_like(x, nan), x.dtype), x)
    out = lax.select(isposinf(x), full_like(x, float(info.max) if posinf is None else posinf), out)
    return lax.select(isneginf(x), full_like(x, float(info.min) if neginf is None else neginf), out)


def heaviside(x1: Any, x2: Any) -> Array:
    """0 below zero, 1 above, x2 at zero."""
    x1, x2 = promote_inexact("heaviside", x1, x2)
    step = convert(lax.gt(x1, full_like(x1, 0)), x1.dtype)
    return lax.select(lax.eq(x1, full_like(x1, 0)), x2, lax.select(isnan(x1), x1, step))
