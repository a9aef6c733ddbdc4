"""Comparisons and choices, element by element."""

from __future__ import annotations

from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.lax.common import ArrayLike, documented, nary, promote_operands, unary
from fgrad.primitives.compare import clamp_p, eq_p, ge_p, gt_p, is_finite_p, le_p, lt_p, ne_p, select_n_p


@documented("any", "bool")
def eq(x: ArrayLike, y: ArrayLike) -> Array:
    """x == y; false where either is NaN.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.eq(np.float32([1, 2]), np.float32([2, 2]))
    Array([False,  True], dtype=bool)
    """
    return nary(eq_p, x, y)


@documented("any", "bool")
def ne(x: ArrayLike, y: ArrayLike) -> Array:
    """x != y; true where either is NaN.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.ne(np.float32([1, 2]), np.float32([2, 2]))
    Array([ True, False], dtype=bool)
    """
    return nary(ne_p, x, y)


@documented("real or bool", "bool")
def lt(x: ArrayLike, y: ArrayLike) -> Array:
    """x < y; false where either is NaN.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.lt(np.float32([1, 2]), np.float32([2, 2]))
    Array([ True, False], dtype=bool)
    """
    return nary(lt_p, x, y)


@documented("real or bool", "bool")
def le(x: ArrayLike, y: ArrayLike) -> Array:
    """x <= y; false where either is NaN.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.le(np.float32([1, 2]), np.float32([2, 2]))
    Array([ True,  True], dtype=bool)
    """
    return nary(le_p, x, y)


@documented("real or bool", "bool")
def gt(x: ArrayLike, y: ArrayLike) -> Array:
    """x > y; false where either is NaN.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.gt(np.float32([1, 2]), np.float32([2, 2]))
    Array([False, False], dtype=bool)
    """
    return nary(gt_p, x, y)


@documented("real or bool", "bool")
def ge(x: ArrayLike, y: ArrayLike) -> Array:
    """x >= y; false where either is NaN.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.ge(np.float32([1, 2]), np.float32([2, 2]))
    Array([False,  True], dtype=bool)
    """
    return nary(ge_p, x, y)


@documented("float", "bool")
def is_finite(x: ArrayLike) -> Array:
    """Whether x is neither infinite nor NaN.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.is_finite(np.float32([1, np.inf, np.nan]))
    Array([ True, False, False], dtype=bool)
    """
    return unary(is_finite_p, x)


@documented("real")
def clamp(min: ArrayLike, x: ArrayLike, max: ArrayLike) -> Array:
    """x held between the bounds: min(max(x, min), max); NaN stays NaN.

    The gradient goes to x strictly between the bounds, to a bound that x has crossed, and nowhere on ties.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.clamp(-1.0, np.float32([-3, 0.5, 7]), 1.0)
    Array([-1. ,  0.5,  1. ], dtype=float32)
    """
    return nary(clamp_p, min, x, max)


def select_n(which: ArrayLike, *cases: ArrayLike) -> Array:
    """out[i] = cases[which[i]][i].

    Args:
        which: bool (for 2 cases: false chooses the first) or int32, [*shape] or a scalar; indices outside
            [0, len(cases)) choose the nearest case.
        cases: arrays [*shape] of one dtype.

    Returns:
        Array [*shape] of the cases' dtype; linear in the cases.

    Raises:
        TypeError: which is neither bool nor int32, is bool with other than 2 cases, or the cases' dtypes differ.
        ValueError: shapes differ.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.select_n(np.int32([0, 2, 1]), *np.float32([[1, 2, 3], [10, 20, 30], [100, 200, 300]]))
    Array([  1., 200.,  30.], dtype=float32)
    """
    return select_n_p.bind(lift(which, "select_n"), *promote_operands("select_n", *cases))


def select(pred: ArrayLike, on_true: ArrayLike, on_false: ArrayLike) -> Array:
    """on_true where pred holds, else on_false; both are computed.

    Args:
        pred: bool [*shape] or a scalar.
        on_true: array [*shape].
        on_false: array [*shape] of the same dtype.

    Returns:
        Array [*shape] of that dtype; linear in the two arrays.

    Raises:
        TypeError: pred is not bool, or the dtypes differ.
        ValueError: shapes differ.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.select(np.array([True, False]), np.float32([1, 2]), np.float32([10, 20]))
    Array([ 1., 20.], dtype=float32)
    """
    mask = lift(pred, "select")
    if mask.dtype != dtypes.bool_:
        raise TypeError(f"select: pred must be bool, got {mask.dtype}. Compare it with something first.")
    off, on = promote_operands("select", on_false, on_true)
    if off.shape != on.shape or mask.shape not in ((), on.shape):
        raise ValueError(
            f"select: pred must be a scalar or have the one shape of the arrays, got {mask.shape}, {on.shape} and "
            f"{off.shape}. Broadcast them, or use fgrad.numpy.where."
        )
    if off.dtype != on.dtype:
        raise TypeError(
            f"select: the arrays must have equal dtypes, got {on.dtype} and {off.dtype}. Convert one with .astype, or "
            "use fgrad.numpy.where."
        )
    return select_n_p.bind(mask, off, on)
