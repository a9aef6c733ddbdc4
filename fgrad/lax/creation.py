"""Arrays of one value, conversions between dtypes, and identities: stop_gradient, optimization_barrier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from fgrad.core import dtypes
from fgrad.core.array import Array, aval_of, lift
from fgrad.lax.common import ArrayLike, canonical_shape, unary
from fgrad.primitives.barrier import optimization_barrier_p
from fgrad.primitives.broadcast import full_from
from fgrad.primitives.convert import bitcast_p, convert
from fgrad.primitives.stop_gradient import stop_gradient_p
from fgrad.tree import tree_flatten, tree_map

T = TypeVar("T")
DTypeLike = Any  # a NumPy dtype, its name, a NumPy scalar type, or Python's bool, int, float, complex
ShapeLike = Sequence[int] | int


def convert_element_type(operand: ArrayLike, new_dtype: DTypeLike) -> Array:
    """operand in another dtype.

    Floats become integers by truncation towards zero, saturated, NaN giving 0; integers wrap; anything becomes bool as
    x != 0.  Differentiable between floats.

    Args:
        operand: array [*shape] or scalar.
        new_dtype: a dtype, its name, or Python's bool, int, float or complex (which mean 32 bits).

    Returns:
        Array [*shape] of new_dtype.

    Raises:
        TypeError: new_dtype is not a supported dtype, or operand is complex and new_dtype is not.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.convert_element_type(np.float32([1.7, -1.7, 1e20]), np.int32)
    Array([         1,         -1, 2147483647], dtype=int32)
    """
    return convert(lift(operand, "convert_element_type"), dtypes.canonical(new_dtype))


def bitcast_convert_type(operand: ArrayLike, new_dtype: DTypeLike) -> Array:
    """The bits of operand read as another dtype of the same width.

    Args:
        operand: array [*shape] or scalar.
        new_dtype: a dtype of as many bytes.

    Returns:
        Array [*shape] of new_dtype; not differentiable.

    Raises:
        TypeError: the widths differ.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.bitcast_convert_type(np.float32([1, -0.0]), np.uint32)
    Array([1065353216, 2147483648], dtype=uint32)
    """
    return unary(bitcast_p, operand, new_dtype=dtypes.canonical(new_dtype))


def _stop(x: Any) -> Any:
    x = lift(x, "stop_gradient")
    return stop_gradient_p.bind(x) if dtypes.is_inexact(x.dtype) else x


def stop_gradient(x: T) -> T:
    """x itself, with a derivative of zero.

    Args:
        x: an array, or a pytree of them.

    Returns:
        The same pytree; integers and bools as they are.

    Raises:
        TypeError: a leaf is no array.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.stop_gradient.html.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.stop_gradient({"w": np.float32([1, 2])})
    {'w': Array([1., 2.], dtype=float32)}
    """
    return tree_map(_stop, x)


def optimization_barrier(operand: T) -> T:
    """operand itself, which the compiler computes as a whole before anything that reads the result.

    What is computed from the result is merged neither with what is computed from the operand nor into the loops that
    make the operand.  Differentiable; tangents and cotangents pass barriers of their own.

    Args:
        operand: an array, or a pytree of them.

    Returns:
        The same pytree.

    Raises:
        TypeError: a leaf is no array.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.optimization_barrier((np.float32([1, 2]), 3))
    (Array([1., 2.], dtype=float32), Array(3, dtype=int32))

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.optimization_barrier.html.
    """
    leaves, treedef = tree_flatten(operand)
    if not leaves:
        return operand
    return treedef.unflatten(optimization_barrier_p.bind(*[lift(x, "optimization_barrier") for x in leaves]))


def full(shape: ShapeLike, fill_value: ArrayLike, dtype: DTypeLike | None = None) -> Array:
    """An array of one value.

    Args:
        shape: sizes, or one size.
        fill_value: a scalar or 0-d array.
        dtype: that of the result; by default that of fill_value (32 bits for Python's numbers, weakly).

    Returns:
        Array [*shape]; a broadcast scalar, which holds no memory until it is written.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size is negative, or fill_value is not 0-d.
        ConcretizationError: a size is traced.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.full((2, 3), 7, np.float32)
    Array([[7., 7., 7.],
           [7., 7., 7.]], dtype=float32)
    """
    value = lift(fill_value, "full")
    if value.ndim:
        raise ValueError(f"full: fill_value must be a scalar, got shape {value.shape}. Use broadcast_in_dim.")
    if dtype is not None:
        value = convert(value, dtypes.canonical(dtype))
    return full_from(value, canonical_shape("full", shape))


def full_like(
    x: ArrayLike, fill_value: ArrayLike, dtype: DTypeLike | None = None, shape: ShapeLike | None = None
) -> Array:
    """An array of one value, like x where dtype and shape do not say otherwise.

    Args:
        x: the array [*shape] to copy shape and dtype from; its values do not matter.
        fill_value: a scalar or 0-d array.
        dtype: that of the result; by default x's.
        shape: that of the result; by default x's.

    Returns:
        Array [*shape].

    Raises:
        TypeError, ValueError, ConcretizationError: as ``full``.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.full_like(np.float32([1, 2]), 7)
    Array([7., 7.], dtype=float32)
    """
    aval = aval_of(x)
    out = full(aval.shape if shape is None else shape, fill_value, aval.dtype if dtype is None else dtype)
    return convert(out, aval.dtype, True) if dtype is None and aval.weak_type else out


def zeros_like_array(x: ArrayLike) -> Array:
    """Zeros in the shape and dtype of x.

    Args:
        x: array [*shape].

    Returns:
        Array [*shape].

    Raises:
        TypeError: x is no array.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.zeros_like_array(np.int32([1, 2]))
    Array([0, 0], dtype=int32)
    """
    return full_like(x, 0)
