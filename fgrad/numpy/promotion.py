"""Operands of the NumPy surface: array-likes in, Arrays of one dtype and one shape out.

Dtypes meet as in :mod:`fgrad.core.dtypes` (JAX's lattice; Python scalars are weak and take the width of the other
operands).  Functions whose result is a float take integers and booleans to float32, 64-bit integers to float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.array import Array, ConcreteArray, lift, scalar_value
from fgrad.core.trace import EVAL, current_trace
from fgrad.kernels.quiet import quietly
from fgrad.primitives.broadcast import broadcast_in_dim_p
from fgrad.primitives.convert import convert

_PYTHON_SCALARS = (bool, int, float, complex)


def cast(name: str, x: Any, dtype: np.dtype, weak: bool = False) -> Array:
    """``x`` as an Array of ``dtype``; a Python scalar becomes a constant of that dtype, not a conversion."""
    if type(x) in _PYTHON_SCALARS and not (type(x) is complex and dtype.kind != "c"):
        try:
            return ConcreteArray(scalar_value(x, dtype), weak)
        except (OverflowError, ValueError) as e:
            # a float that an integer dtype cannot hold (nan, inf) or an int beyond the dtype's range
            whole = dtypes.is_integer(dtype)
            limits = f"{np.iinfo(dtype).min} to {np.iinfo(dtype).max}" if whole else "floats of up to 1e308"
            raise OverflowError(
                f"{name}: a Python {type(x).__name__} takes the dtype of the other operand, {dtype} ({limits}), "
                f"got {x}. Convert the array with .astype first."
            ) from e
    array = lift(x, name)
    return array if array.dtype == dtype else convert(array, dtype, weak)


def common_dtype(name: str, xs: Sequence[Any]) -> tuple[np.dtype, bool]:
    """The (dtype, weak) at which operands meet."""
    return dtypes.promote(*[(a.dtype, a.weak_type) for a in [lift(x, name) for x in xs]])


def inexact_dtype(dtype: np.dtype) -> np.dtype:
    """Inexact dtypes as they are; 64-bit integers to float64; other integers and bool to float32."""
    if dtypes.is_inexact(dtype):
        return dtype
    return dtypes.float64 if dtype.itemsize == 8 else dtypes.float32


def promote_dtypes(name: str, *xs: Any) -> list[Array]:
    """Operands in one dtype."""
    dtype, weak = common_dtype(name, xs)
    return [x if isinstance(x, Array) and x.dtype == dtype else cast(name, x, dtype, weak) for x in xs]


def promote_dtypes_inexact(name: str, *xs: Any) -> list[Array]:
    """Operands in one floating-point or complex dtype."""
    dtype, weak = common_dtype(name, xs)
    return [cast(name, x, inexact_dtype(dtype), weak) for x in xs]


def alike(x: Any, y: Any) -> bool:
    """Two Arrays of equal shape and dtype: nothing to promote or broadcast."""
    return isinstance(x, Array) and isinstance(y, Array) and x.shape == y.shape and x.dtype == y.dtype


def eager(prim: Any, x: Any, y: Any) -> Array | None:
    """``prim(x, y)`` at once where there is nothing to promote, else None: the short way for everyday arithmetic.

    Nothing is to promote between Arrays of one dtype, or an Array and a Python number that its dtype holds.  NumPy's
    ufunc, which is what evaluation would run, broadcasts by itself.  Only dtypes that the primitive has accepted
    before come this way.
    """
    if current_trace.get() is not EVAL:
        return None
    if type(x) is ConcreteArray:
        a, weak = x._value, x._weak
        if type(y) is ConcreteArray:
            b, weak = y._value, weak and y._weak
        elif _holds(a.dtype, y):
            b = y
        else:
            return None
    elif type(y) is ConcreteArray and _holds(y._value.dtype, x):
        a, b, weak = x, y._value, y._weak
    else:
        return None
    try:
        if a is x:
            a = quietly(b.dtype.type, x)
        elif b is y:
            b = quietly(a.dtype.type, y)
        if (a.dtype, b.dtype) not in prim.checked:
            return None
        return ConcreteArray(np.asarray(quietly(prim.cpu.ufunc, a, b)), weak)
    except (OverflowError, ValueError):  # out of range, shapes that do not broadcast: the long way says so
        return None


def _holds(dtype: np.dtype, x: Any) -> bool:
    """Whether a Python number takes this dtype without a change of kind."""
    return (type(x) is float and dtype.kind == "f") or (type(x) is int and dtype.kind in "fi")


def promote(name: str, *xs: Any) -> list[Array]:
    """Operands in one dtype and one shape."""
    return broadcast(name, promote_dtypes(name, *xs))


def promote_inexact(name: str, *xs: Any) -> list[Array]:
    """Operands in one inexact dtype and one shape."""
    return broadcast(name, promote_dtypes_inexact(name, *xs))


def common_shape(name: str, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """NumPy's broadcast shape: aligned at the last axis, sizes equal or 1."""
    first = shapes[0]
    if all([s == first for s in shapes]):
        return first
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        pass
    raise ValueError(
        f"{name}: shapes must broadcast (aligned at the last axis, sizes equal or 1), got "
        f"{' and '.join(map(str, shapes))}. Reshape one, or insert axes of size 1 with x[:, None]."
    )


def expand_to(x: Array, shape: tuple[int, ...]) -> Array:
    """``x`` broadcast to a shape it is known to broadcast to."""
    own, n = x.shape, len(shape)
    if own == shape:
        return x
    return broadcast_in_dim_p.bind(x, shape=shape, broadcast_dimensions=tuple(range(n - len(own), n)))


def broadcast(name: str, arrays: Sequence[Array]) -> list[Array]:
    """Arrays in one shape."""
    shapes = [a.shape for a in arrays]
    common = common_shape(name, shapes)
    return [a if shape == common else expand_to(a, common) for a, shape in zip(arrays, shapes)]
