"""Rounding, element by element."""

from __future__ import annotations

from fgrad.core.array import Array
from fgrad.core.static import static_int
from fgrad.lax.common import ArrayLike, documented, nary, unary
from fgrad.primitives.rounding import RoundingMethod as RoundingMethod
from fgrad.primitives.rounding import ceil_p, floor_p, nextafter_p, reduce_precision_p, round_p


@documented("float")
def floor(x: ArrayLike) -> Array:
    """The greatest integer <= x, as a float.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.floor(np.float32([1.5, -1.5]))
    Array([ 1., -2.], dtype=float32)
    """
    return unary(floor_p, x)


@documented("float")
def ceil(x: ArrayLike) -> Array:
    """The least integer >= x, as a float.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.ceil(np.float32([1.5, -1.5]))
    Array([ 2., -1.], dtype=float32)
    """
    return unary(ceil_p, x)


@documented("float")
def round(x: ArrayLike, rounding_method: RoundingMethod = RoundingMethod.AWAY_FROM_ZERO) -> Array:
    """The nearest integer, as a float; ``rounding_method`` says where halves go.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.round(np.float32([0.5, 1.5, -2.5]))
    Array([ 1.,  2., -3.], dtype=float32)
    >>> lax.round(np.float32([0.5, 1.5, -2.5]), lax.RoundingMethod.TO_NEAREST_EVEN)
    Array([ 0.,  2., -2.], dtype=float32)
    """
    if not isinstance(rounding_method, int) or rounding_method not in tuple(RoundingMethod):
        raise ValueError(
            f"round: rounding_method must be one of {', '.join(f'RoundingMethod.{m.name}' for m in RoundingMethod)}, "
            f"got {rounding_method!r}. Use one of them."
        )
    return unary(round_p, x, rounding_method=RoundingMethod(rounding_method))


@documented("float")
def nextafter(x1: ArrayLike, x2: ArrayLike) -> Array:
    """The float next to x1 in the direction of x2; x2 where they are equal.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.nextafter(np.float64([0.0]), np.float64([1.0]))
    Array([5.e-324], dtype=float64)
    """
    return nary(nextafter_p, x1, x2)


@documented("float")
def reduce_precision(operand: ArrayLike, exponent_bits: int, mantissa_bits: int) -> Array:
    """operand rounded to a float format of ``exponent_bits`` and ``mantissa_bits``, kept in its own dtype.

    To the nearest, ties to even; beyond the format's range it is infinite, below its normal numbers zero.  The gradient
    is rounded likewise.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.reduce_precision(np.float32([1.2345678, 1e30]), exponent_bits=5, mantissa_bits=10)
    Array([1.234375,      inf], dtype=float32)
    """
    return unary(
        reduce_precision_p,
        operand,
        exponent_bits=static_int("reduce_precision", "exponent_bits must be an integer", exponent_bits),
        mantissa_bits=static_int("reduce_precision", "mantissa_bits must be an integer", mantissa_bits),
    )
