"""Arithmetic, element by element: the functions of fgrad.lax over fgrad.primitives.arithmetic."""

from __future__ import annotations

from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.static import static_int
from fgrad.lax.common import ArrayLike, documented, nary, unary
from fgrad.primitives.arithmetic import (
    abs_p,
    add_p,
    cbrt_p,
    div_p,
    integer_pow_p,
    max_p,
    min_p,
    mul_p,
    neg_p,
    pow_p,
    rem_p,
    rsqrt_p,
    sign_p,
    sqrt_p,
    square_p,
    sub_p,
)
from fgrad.primitives.convert import convert
from fgrad.primitives.define import check_same


@documented("number")
def neg(x: ArrayLike) -> Array:
    """-x; integers wrap.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.neg(np.float32([1, -2]))
    Array([-1.,  2.], dtype=float32)
    """
    return unary(neg_p, x)


@documented("number")
def add(x: ArrayLike, y: ArrayLike) -> Array:
    """x + y; integers wrap.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.add(np.float32([1, 2]), 0.5)
    Array([1.5, 2.5], dtype=float32)
    """
    return nary(add_p, x, y)


@documented("number")
def sub(x: ArrayLike, y: ArrayLike) -> Array:
    """x - y; integers wrap.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.sub(np.int32([1, 2]), np.int32([3, 5]))
    Array([-2, -3], dtype=int32)
    """
    return nary(sub_p, x, y)


@documented("number")
def mul(x: ArrayLike, y: ArrayLike) -> Array:
    """x y; integers wrap.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.mul(np.float32([1, 2]), np.float32([3, 4]))
    Array([3., 8.], dtype=float32)
    """
    return nary(mul_p, x, y)


@documented("number")
def div(x: ArrayLike, y: ArrayLike) -> Array:
    """x / y; of integers truncated towards zero, and x / 0 = -1 (all bits 1).

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.div(np.float32([1, 3]), 2.0)
    Array([0.5, 1.5], dtype=float32)
    >>> lax.div(np.int32([7, -7]), 2)
    Array([ 3, -3], dtype=int32)
    """
    return nary(div_p, x, y)


@documented("real")
def rem(x: ArrayLike, y: ArrayLike) -> Array:
    """x - trunc(x / y) y: the remainder with the sign of x; of integers x rem 0 = x.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.rem(np.int32([7, -7]), 3)
    Array([ 1, -1], dtype=int32)
    """
    return nary(rem_p, x, y)


@documented("real or bool")
def max(x: ArrayLike, y: ArrayLike) -> Array:
    """The larger of x and y; NaN if either is NaN.  On ties each gets half of the gradient.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.max(np.float32([1, 5]), 3.0)
    Array([3., 5.], dtype=float32)
    """
    return nary(max_p, x, y)


@documented("real or bool")
def min(x: ArrayLike, y: ArrayLike) -> Array:
    """The smaller of x and y; NaN if either is NaN.  On ties each gets half of the gradient.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.min(np.float32([1, 5]), 3.0)
    Array([1., 3.], dtype=float32)
    """
    return nary(min_p, x, y)


@documented("real")
def abs(x: ArrayLike) -> Array:
    """|x|; the smallest integer is its own.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.abs(np.int32([-3, 4]))
    Array([3, 4], dtype=int32)
    """
    return unary(abs_p, x)


@documented("real")
def sign(x: ArrayLike) -> Array:
    """-1, 0 or 1 by the sign of x; NaN for NaN.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.sign(np.float32([-2, 0, 3]))
    Array([-1.,  0.,  1.], dtype=float32)
    """
    return unary(sign_p, x)


@documented("number")
def square(x: ArrayLike) -> Array:
    """x^2; integers wrap.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.square(np.float32([-3, 2]))
    Array([9., 4.], dtype=float32)
    """
    return unary(square_p, x)


@documented("inexact")
def reciprocal(x: ArrayLike) -> Array:
    """1 / x.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.reciprocal(np.float32([2, -4]))
    Array([ 0.5 , -0.25], dtype=float32)
    """
    y = lift(x, "reciprocal")
    check_same("reciprocal", [y.aval], "inexact")
    return integer_pow_p.bind(y, y=-1)


@documented("number")
def integer_pow(x: ArrayLike, y: int) -> Array:
    """x^y for a Python integer y, by repeated squaring; integers wrap and take no negative y.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.integer_pow(np.float32([2, -3]), 3)
    Array([  8., -27.], dtype=float32)
    >>> lax.integer_pow(np.float32([2, -4]), -1)
    Array([ 0.5 , -0.25], dtype=float32)
    """
    exponent = static_int("integer_pow", "y must be an integer", y)
    if not -(2**31) <= exponent < 2**31:
        raise ValueError(f"integer_pow: y must fit into 32 bits, got {exponent}. Use pow with a float exponent.")
    return integer_pow_p.bind(lift(x, "integer_pow"), y=exponent)


@documented("inexact")
def pow(x: ArrayLike, y: ArrayLike) -> Array:
    """x^y; NaN where x < 0 and y is no integer.

    With a Python integer y this is ``integer_pow``; an integer array y is converted to the dtype of x.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.pow(np.float64([2, 9]), 0.5)
    Array([1.41421356, 3.        ], dtype=float64)
    >>> lax.pow(np.float64([2, 9]), 2)
    Array([ 4., 81.], dtype=float64)
    """
    base, exponent = lift(x, "pow"), lift(y, "pow")
    if dtypes.is_inexact(base.dtype):
        if type(y) is int:
            return integer_pow_p.bind(base, y=y)
        if dtypes.is_integer(exponent.dtype):
            exponent = convert(exponent, base.dtype, base.weak_type)
    return nary(pow_p, base, exponent)


@documented("inexact")
def sqrt(x: ArrayLike) -> Array:
    """The square root; NaN for x < 0.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.sqrt(np.float32([4, 9]))
    Array([2., 3.], dtype=float32)
    """
    return unary(sqrt_p, x)


@documented("inexact")
def rsqrt(x: ArrayLike) -> Array:
    """1 / sqrt(x); NaN for x < 0.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.rsqrt(np.float32([4, 16]))
    Array([0.5 , 0.25], dtype=float32)
    """
    return unary(rsqrt_p, x)


@documented("float")
def cbrt(x: ArrayLike) -> Array:
    """The real cube root, of negative numbers too.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.cbrt(np.float64([8, -27]))
    Array([ 2., -3.], dtype=float64)
    """
    return unary(cbrt_p, x)
