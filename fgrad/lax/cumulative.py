"""Running totals along an axis: cumsum, cumprod, cummax, cummin, cumlogsumexp."""

from __future__ import annotations

from fgrad.core.array import Array, lift
from fgrad.core.primitive import Primitive
from fgrad.core.static import flag
from fgrad.lax.common import ArrayLike, canonical_axis
from fgrad.primitives.cumulative import cumlogsumexp_p, cummax_p, cummin_p, cumprod_p, cumsum_p


def _bind(prim: Primitive, operand: ArrayLike, axis: int, reverse: bool) -> Array:
    x = lift(operand, prim.name)
    return prim.bind(x, axis=canonical_axis(prim.name, axis, x.ndim), reverse=flag(prim.name, "reverse", reverse))


def cumsum(operand: ArrayLike, axis: int = 0, reverse: bool = False) -> Array:
    """out[i] = operand[0] + ... + operand[i] along ``axis``; ``reverse``: operand[i] + ... + operand[n - 1].

    float16 and bfloat16 add in float32; integers wrap.

    Args:
        operand: array [*shape] of numbers.
        axis: the axis.
        reverse: from the end.

    Returns:
        Array [*shape] of the same dtype.

    Raises:
        TypeError: operand is bool.
        ValueError: the axis is out of range.

    https://docs.jax.dev/en/latest/_autosummary/jax.lax.cumsum.html

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.cumsum(np.int32([1, 2, 3]), reverse=True)
    Array([6, 5, 3], dtype=int32)
    """
    return _bind(cumsum_p, operand, axis, reverse)


def cumprod(operand: ArrayLike, axis: int = 0, reverse: bool = False) -> Array:
    """out[i] = operand[0] * ... * operand[i] along ``axis``; otherwise as ``cumsum``.

    Raises:
        TypeError: operand is bool.
        ValueError: the axis is out of range.

    https://docs.jax.dev/en/latest/_autosummary/jax.lax.cumprod.html

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.cumprod(np.int32([2, 3, 4]))
    Array([ 2,  6, 24], dtype=int32)
    """
    return _bind(cumprod_p, operand, axis, reverse)


def cummax(operand: ArrayLike, axis: int = 0, reverse: bool = False) -> Array:
    """out[i] = the largest of operand[0], ..., operand[i] along ``axis``; NaN propagates.

    The gradient goes to the place where the maximum so far was first reached.

    Raises:
        TypeError: operand is complex.
        ValueError: the axis is out of range.

    https://docs.jax.dev/en/latest/_autosummary/jax.lax.cummax.html

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.cummax(np.int32([2, 1, 4, 3]))
    Array([2, 2, 4, 4], dtype=int32)
    """
    return _bind(cummax_p, operand, axis, reverse)


def cummin(operand: ArrayLike, axis: int = 0, reverse: bool = False) -> Array:
    """out[i] = the smallest of operand[0], ..., operand[i] along ``axis``; otherwise as ``cummax``.

    Raises:
        TypeError: operand is complex.
        ValueError: the axis is out of range.

    https://docs.jax.dev/en/latest/_autosummary/jax.lax.cummin.html

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.cummin(np.int32([2, 3, 1, 4]))
    Array([2, 2, 1, 1], dtype=int32)
    """
    return _bind(cummin_p, operand, axis, reverse)


def cumlogsumexp(operand: ArrayLike, axis: int = 0, reverse: bool = False) -> Array:
    """out[i] = log(exp(operand[0]) + ... + exp(operand[i])) along ``axis``, without overflow.

    Raises:
        TypeError: operand is not floating-point.
        ValueError: the axis is out of range.

    https://docs.jax.dev/en/latest/_autosummary/jax.lax.cumlogsumexp.html

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.cumlogsumexp(np.float32([1000, 0, -1000]))
    Array([1000., 1000., 1000.], dtype=float32)
    """
    return _bind(cumlogsumexp_p, operand, axis, reverse)
