"""What the functions of fgrad.random accept: keys, dtypes, shapes and parameters.

A parameter whose values are known must lie in the distribution's domain, or it is a ValueError.  A traced one has no
values to look at: outside the domain, results are NaN unless the function says otherwise.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.array import Array, ConcreteArray, lift
from fgrad.lax.common import canonical_shape
from fgrad.numpy.promotion import cast, common_shape

Shape = tuple[int, ...]


def check_key(name: str, key: Any) -> Array:
    """The key as an Array, or TypeError."""
    if not isinstance(key, Array | np.ndarray) or key.dtype != dtypes.uint32 or key.shape != (2,):
        raise TypeError(
            f"{name}: key must be a uint32 array of shape (2,), got {_described(key)}. "
            "Make one with fgrad.random.key(seed); map over many keys with vmap."
        )
    return lift(key, name)


def check_keys(name: str, keys: Any) -> Array:
    """Keys of any shape, [*shape, 2], as an Array, or TypeError."""
    if not isinstance(keys, Array | np.ndarray) or keys.dtype != dtypes.uint32 or keys.shape[-1:] != (2,):
        raise TypeError(
            f"{name}: keys must be a uint32 array of shape (..., 2), got {_described(keys)}. Convert or reshape them."
        )
    return lift(keys, name)


def _described(x: Any) -> str:
    if isinstance(x, Array | np.ndarray):
        return f"{x.dtype} of shape {x.shape}"
    return f"{x!r} of type {type(x).__name__}"


def float_dtype(name: str, dtype: Any) -> np.dtype:
    """The dtype of a result, float32 unless given, or TypeError."""
    out = dtypes.float32 if dtype is None else dtypes.canonical(dtype)
    if not dtypes.is_float(out):
        raise TypeError(f"{name}: dtype must be floating-point, got {out}. Use float32, or randint for integers.")
    return out


def matrix_dtype(name: str, dtype: Any) -> np.dtype:
    """``float_dtype`` where matrices are decomposed."""
    out = float_dtype(name, dtype)
    if out.itemsize < 4:
        raise TypeError(f"{name}: dtype must be float32 or float64, got {out}. Convert the result with .astype.")
    return out


def integer_dtype(name: str, dtype: Any) -> np.dtype:
    """The dtype of a result, int32 unless given, or TypeError."""
    out = dtypes.int32 if dtype is None else dtypes.canonical(dtype)
    if not dtypes.is_integer(out):
        raise TypeError(f"{name}: dtype must be an integer, got {out}. Use int32, or uniform for floats.")
    return out


def shape_for(name: str, shape: Any, *parameter_shapes: Shape) -> Shape:
    """The shape asked for, to which every parameter must broadcast; without one, that of the parameters."""
    if shape is None:
        return common_shape(name, parameter_shapes) if parameter_shapes else ()
    shape = canonical_shape(name, shape)
    try:
        fits = np.broadcast_shapes(shape, *parameter_shapes) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name}: parameters must broadcast to shape {shape}, got {' and '.join(map(str, parameter_shapes))}. "
            "Ask for another shape, or reshape them."
        )
    return shape


def real(name: str, what: str, x: Any) -> Array:
    """A parameter as an Array of real numbers, or TypeError."""
    x = lift(x, name)
    if x.dtype.kind == "c":
        raise TypeError(f"{name}: {what} must be real, got {x.aval}. Take fgrad.numpy.real of it.")
    return x


def in_dtype(name: str, what: str, x: Any, dtype: np.dtype) -> Array:
    """A real parameter in the dtype computed in; a Python number beyond it becomes infinite."""
    with np.errstate(over="ignore"):
        return cast(name, x if type(x) in (int, float) else real(name, what, x), dtype)


def arguments(name: str, key: Any, shape: Any, dtype: Any, **parameters: Any) -> tuple[Array, list[Array], Shape, Any]:
    """Checked: the key, the parameters in the dtype, the shape they broadcast to, the floating-point dtype."""
    key, dtype = check_key(name, key), float_dtype(name, dtype)
    arrays = [in_dtype(name, what, x, dtype) for what, x in parameters.items()]
    return key, arrays, shape_for(name, shape, *[a.shape for a in arrays]), dtype


# --- values, where they are known ------------------------------------------------------------------------------------
def known(x: Array) -> np.ndarray | None:
    """The values of a parameter; None if it is traced."""
    return np.asarray(x) if type(x) is ConcreteArray else None


def not_negative(name: str, **parameters: Array) -> None:
    """ValueError if a known parameter is negative somewhere."""
    for what, x in parameters.items():
        values = known(x)
        if values is not None and (values < 0).any():
            raise ValueError(
                f"{name}: {what} must not be negative, got {values[values < 0][0]}. "
                "Clip it at 0 if only rounding takes it there."
            )


def probability(name: str, **parameters: Array) -> None:
    """ValueError if a known parameter is outside [0, 1] somewhere."""
    for what, x in parameters.items():
        values = known(x)
        if values is not None and (outside := (values < 0) | (values > 1)).any():
            raise ValueError(
                f"{name}: {what} must be in [0, 1], got {values[outside][0]}. Clip it if only rounding takes it out."
            )


def ordered(name: str, strictly: bool = False, **parameters: Array) -> None:
    """ValueError if known parameters are not in ascending order, element by element."""
    for (low_name, low_array), (high_name, high_array) in itertools.pairwise(parameters.items()):
        low, high = known(low_array), known(high_array)
        if low is None or high is None:
            continue
        wrong = low >= high if strictly else low > high
        if wrong.any():
            low, high = (x[wrong][0] for x in np.broadcast_arrays(low, high))
            raise ValueError(
                f"{name}: {low_name} must be {'below' if strictly else 'at most'} {high_name}, got {low} and {high}. "
                "Change one of them."
            )
