"""Products of matrices and more: dot_general, dot, batch_matmul.

``precision`` is accepted for JAX's signatures: products are always computed in the full precision of their dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fgrad.core import dtypes
from fgrad.core.array import Array
from fgrad.core.static import sequence
from fgrad.lax.common import ArrayLike, canonical_axes, promote_dtypes
from fgrad.primitives.dot_general import dot_general_p

DTypeLike = Any  # a NumPy dtype, its name, a NumPy scalar type, or Python's int or float
DotDimensionNumbers = tuple[tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]]


def dot_general(
    lhs: ArrayLike,
    rhs: ArrayLike,
    dimension_numbers: DotDimensionNumbers,
    precision: Any = None,
    preferred_element_type: DTypeLike | None = None,
) -> Array:
    """Sums of products over contracted axes, pointwise over batch axes:

        out[b..., i..., j...] = sum over k... of lhs[b, i, k] * rhs[b, j, k].

    float16 and bfloat16 are accumulated in float32; integers wrap.

    Args:
        lhs: array of real numbers.
        rhs: array of the same dtype.
        dimension_numbers: ((lhs contracting, rhs contracting), (lhs batch, rhs batch)), axes paired in order.
        precision: ignored; see above.
        preferred_element_type: dtype to accumulate and return in; of lhs's kind and no narrower.  Default: lhs's.

    Returns:
        Array [*batch axes, *free axes of lhs, *free axes of rhs].

    Raises:
        TypeError: dtypes differ, are bool or complex, or preferred_element_type does not fit them.
        ValueError: paired axes differ in size, or axes are out of range or named twice.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.dot_general(np.ones((5, 2, 3)), np.ones((5, 3, 4)), (((2,), (1,)), ((0,), (0,)))).shape
    (5, 2, 4)
    """
    x, y = promote_dtypes("dot_general", lhs, rhs)
    try:
        (lc, rc), (lb, rb) = dimension_numbers
    except (TypeError, ValueError):
        raise TypeError(
            "dot_general: dimension_numbers must be ((lhs contracting, rhs contracting), (lhs batch, rhs batch)), got "
            f"{dimension_numbers!r}. Give a pair of pairs of axes."
        ) from None

    def axes(given: Sequence[int], ndim: int) -> tuple[int, ...]:
        return canonical_axes("dot_general", sequence("dot_general", "axes", given), ndim)

    return product(
        x, y, ((axes(lc, x.ndim), axes(rc, y.ndim)), (axes(lb, x.ndim), axes(rb, y.ndim))), preferred_element_type
    )


def product(x: Array, y: Array, numbers: DotDimensionNumbers, preferred_element_type: DTypeLike | None) -> Array:
    """``dot_general`` of Arrays, with axes counted from 0."""
    preferred = None if preferred_element_type is None else dtypes.canonical(preferred_element_type)
    return dot_general_p.bind(
        x, y, dimension_numbers=numbers, preferred_element_type=None if preferred == x.dtype else preferred
    )


def dot(
    lhs: ArrayLike,
    rhs: ArrayLike,
    *,
    dimension_numbers: DotDimensionNumbers | None = None,
    precision: Any = None,
    preferred_element_type: DTypeLike | None = None,
) -> Array:
    """Product of vectors and matrices, [m, k] with [k, n] to [m, n]; either may be a vector [k], whose axis vanishes.

    With ``dimension_numbers`` it is ``dot_general``.

    Raises:
        TypeError: dtypes differ or are bool or complex.
        ValueError: an operand has other than one or two axes, or the sizes k differ.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.dot(np.int32([[1, 2], [3, 4]]), np.int32([10, 1]))
    Array([12, 34], dtype=int32)
    """
    x, y = promote_dtypes("dot", lhs, rhs)
    if dimension_numbers is None:
        if x.ndim not in (1, 2) or y.ndim not in (1, 2) or x.shape[-1] != y.shape[0]:
            raise ValueError(
                f"dot: operands must be vectors or matrices that meet in one size, got shapes {x.shape} and {y.shape}. "
                "Use dot_general or fgrad.numpy.matmul for more axes."
            )
        dimension_numbers = (((x.ndim - 1,), (0,)), ((), ()))
    return dot_general(x, y, dimension_numbers, precision, preferred_element_type)


def batch_matmul(lhs: ArrayLike, rhs: ArrayLike, precision: Any = None) -> Array:
    """[*B, m, k] with [*B, k, n] to [*B, m, n]: one product of matrices for each b.

    Raises:
        TypeError: dtypes differ or are bool or complex.
        ValueError: numbers of axes differ or are below two, or sizes do not match.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.batch_matmul(np.ones((5, 2, 3)), np.ones((5, 3, 4))).shape
    (5, 2, 4)
    """
    x, y = promote_dtypes("batch_matmul", lhs, rhs)
    if x.ndim != y.ndim or x.ndim < 2:
        raise ValueError(
            f"batch_matmul: operands must have equally many axes, at least 2, got shapes {x.shape} and {y.shape}. "
            "Use fgrad.numpy.matmul to broadcast."
        )
    batch = tuple(range(x.ndim - 2))
    return dot_general(x, y, (((x.ndim - 1,), (y.ndim - 2,)), (batch, batch)), precision)
