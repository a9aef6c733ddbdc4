"""Operations on the bits of integers, element by element."""

from __future__ import annotations

from fgrad.core.array import Array
from fgrad.lax.common import ArrayLike, documented, nary, unary
from fgrad.primitives.bitwise import (
    and_p,
    clz_p,
    not_p,
    or_p,
    population_count_p,
    shift_left_p,
    shift_right_arithmetic_p,
    shift_right_logical_p,
    xor_p,
)


@documented("integer or bool")
def bitwise_and(x: ArrayLike, y: ArrayLike) -> Array:
    """x & y, bit by bit; of bools: both.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.bitwise_and(np.int32([12, 10]), 6)
    Array([4, 2], dtype=int32)
    """
    return nary(and_p, x, y)


@documented("integer or bool")
def bitwise_or(x: ArrayLike, y: ArrayLike) -> Array:
    """x | y, bit by bit; of bools: either.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.bitwise_or(np.int32([12, 10]), 6)
    Array([14, 14], dtype=int32)
    """
    return nary(or_p, x, y)


@documented("integer or bool")
def bitwise_xor(x: ArrayLike, y: ArrayLike) -> Array:
    """x ^ y, bit by bit; of bools: one but not both.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.bitwise_xor(np.int32([12, 10]), 6)
    Array([10, 12], dtype=int32)
    """
    return nary(xor_p, x, y)


@documented("integer or bool")
def bitwise_not(x: ArrayLike) -> Array:
    """~x, every bit turned; of bools: not x.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.bitwise_not(np.int32([0, 5]))
    Array([-1, -6], dtype=int32)
    """
    return unary(not_p, x)


@documented("integer")
def shift_left(x: ArrayLike, y: ArrayLike) -> Array:
    """x << y; 0 where y is negative or at least the width of the dtype.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.shift_left(np.int32([1, 3]), 4)
    Array([16, 48], dtype=int32)
    """
    return nary(shift_left_p, x, y)


@documented("integer")
def shift_right_arithmetic(x: ArrayLike, y: ArrayLike) -> Array:
    """x >> y with the top bit shifted in; that bit everywhere where y is negative or at least the width.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.shift_right_arithmetic(np.int32([-8, 8]), 1)
    Array([-4,  4], dtype=int32)
    """
    return nary(shift_right_arithmetic_p, x, y)


@documented("integer")
def shift_right_logical(x: ArrayLike, y: ArrayLike) -> Array:
    """x >> y with zeros shifted in; 0 where y is negative or at least the width.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.shift_right_logical(np.int32([-8, 8]), 1)
    Array([2147483644,          4], dtype=int32)
    """
    return nary(shift_right_logical_p, x, y)


@documented("integer")
def population_count(x: ArrayLike) -> Array:
    """How many bits of x are 1.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.population_count(np.int32([7, -1]))
    Array([ 3, 32], dtype=int32)
    """
    return unary(population_count_p, x)


@documented("integer")
def clz(x: ArrayLike) -> Array:
    """How many bits of x are 0 above its highest 1; the width of the dtype for 0.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.clz(np.int32([1, 0]))
    Array([31, 32], dtype=int32)
    """
    return unary(clz_p, x)
