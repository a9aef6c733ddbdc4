"""Abstract values: what a trace knows of an array."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fgrad.core import dtypes


class ShapedArray:
    """An array's shape, dtype and whether the dtype is weak (it came from a Python scalar and yields to others)."""

    __slots__ = ("dtype", "shape", "weak_type")

    shape: tuple[int, ...]
    dtype: np.dtype
    weak_type: bool

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, weak_type: bool = False):
        self.shape = shape
        self.dtype = dtype
        self.weak_type = weak_type

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __eq__(self, other) -> bool:
        return self is other or (
            type(other) is ShapedArray
            and self.shape == other.shape
            and self.dtype == other.dtype
            and self.weak_type == other.weak_type
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype, self.weak_type))

    def same_type(self, other: ShapedArray) -> bool:
        """Equal up to weakness."""
        return self.shape == other.shape and self.dtype == other.dtype

    def update(self, shape=None, dtype=None, weak_type=None) -> ShapedArray:
        return ShapedArray(
            self.shape if shape is None else shape,
            self.dtype if dtype is None else dtype,
            self.weak_type if weak_type is None else weak_type,
        )

    def strong(self) -> ShapedArray:
        return ShapedArray(self.shape, self.dtype) if self.weak_type else self

    def tangent(self) -> ShapedArray:
        """Floats differentiate in their own dtype; integers and booleans have the trivial tangent space float0."""
        return self if dtypes.is_inexact(self.dtype) else ShapedArray(self.shape, dtypes.float0, self.weak_type)

    def __repr__(self) -> str:
        dims = ",".join(map(str, self.shape))
        return f"{dtypes.short_name(self.dtype)}[{dims}]" + ("~" if self.weak_type else "")


MOST_AXES = 64  # NumPy's limit


def check_size(name: str, out: Any) -> None:
    """ValueError if a result is larger than any memory can be, or has more axes than a NumPy array can.

    Sizes of 0 do not count, as for NumPy: its strides are those of an array without them.
    """
    if type(out) is ShapedArray and len(out.shape) <= MOST_AXES and 0 < math.prod(out.shape) < 2**58:
        return  # nearly always; no dtype has more than 16 bytes
    for aval in out if isinstance(out, (tuple, list)) else (out,):
        if type(aval) is not ShapedArray:
            raise TypeError(
                f"{name}: its abstract rule must return a ShapedArray, or a tuple of them for several results, got "
                f"{aval!r} of type {type(aval).__name__}. Correct the rule."
            )
        shape = aval.shape
        nbytes = max(aval.dtype.itemsize, 1) * math.prod(shape if 0 not in shape else [n or 1 for n in shape])
        if nbytes >= 2**63:
            raise ValueError(
                f"{name}: the result must have less than 2**63 bytes, got {nbytes} for {aval}. Ask for smaller sizes."
            )
        if len(aval.shape) > MOST_AXES:
            raise ValueError(
                f"{name}: arrays have at most {MOST_AXES} axes, got {len(aval.shape)} for {aval}. Reshape the operand."
            )


_SCALARS = {
    bool: ShapedArray((), dtypes.bool_),
    int: ShapedArray((), dtypes.int32, True),
    float: ShapedArray((), dtypes.float32, True),
    complex: ShapedArray((), dtypes.complex64, True),
}


def scalar_aval(x) -> ShapedArray:
    """The aval of a Python scalar; an int beyond 32 bits is a weak int64 (never wrapped)."""
    if type(x) is int and not -(2**31) <= x < 2**31:
        if not -(2**63) <= x < 2**63:
            raise OverflowError(f"array: a Python int must fit into 64 bits, got {x}. Use a float.")
        return ShapedArray((), dtypes.int64, True)
    return _SCALARS[type(x)]
