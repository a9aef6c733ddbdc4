"""What the emitter's operations work on: values of known dtype, and how LLVM holds each dtype."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NoReturn

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
BOOL, HALF, FLOAT, DOUBLE = (np.dtype(t) for t in (np.bool_, np.float16, np.float32, np.float64))
NARROW = (HALF, BFLOAT16)


@dataclass(slots=True, eq=False)
class Value:
    """One element: its NumPy dtype, the name or literal that holds it, and its Python value where that is known."""

    dtype: np.dtype
    ref: str
    known: bool | int | float | None = None

    def _refuse(self, *other: object) -> NoReturn:
        raise TypeError(
            f"emit: a value of the emitter has no operators, comparisons or truth while code is written, got one of "
            f"dtype {self.dtype}. Use s.add, s.mul, s.cmp, s.select, ..., with s.const(number, dtype) for numbers."
        )

    __bool__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = __neg__ = __abs__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __pow__ = __rpow__ = __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = _refuse
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __invert__ = _refuse
    __hash__ = object.__hash__


def dtype_of(name) -> np.dtype:
    """NumPy's dtype of a name; ``bfloat16`` included."""
    return BFLOAT16 if isinstance(name, str) and name == "bfloat16" else np.dtype(name)


def is_float(dtype: np.dtype) -> bool:
    return dtype.kind == "f" or dtype == BFLOAT16


def is_signed(dtype: np.dtype) -> bool:
    return dtype.kind == "i"


def register_type(dtype: np.dtype) -> str:
    if dtype == BOOL:
        return "i1"
    if dtype.kind in "iu":
        return f"i{8 * dtype.itemsize}"
    if dtype in (*NARROW, FLOAT):
        return "float"
    if dtype == DOUBLE:
        return "double"
    raise TypeError(f"emit: no kernels for this dtype, got {dtype}. Convert to a real dtype of at most 64 bits.")


def memory_type(dtype: np.dtype) -> str:
    if dtype == BOOL:
        return "i8"
    return "i16" if dtype in NARROW else register_type(dtype)


def literal(dtype: np.dtype, value) -> Value:
    """A constant, converted to ``dtype`` as ``np.asarray(value).astype(dtype)``: integers wrap, floats round."""
    if dtype == BOOL:
        return Value(dtype, "true" if value else "false", bool(value))
    if is_float(dtype):
        with np.errstate(over="ignore"):
            number = float(dtype.type(value))
        return Value(dtype, f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}", number)
    register_type(dtype)
    bits = 8 * dtype.itemsize
    number = int(value) & ((1 << bits) - 1)
    if is_signed(dtype) and number >> (bits - 1):
        number -= 1 << bits
    return Value(dtype, str(number), number)
