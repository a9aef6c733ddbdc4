"""Dtypes and their promotion: JAX's lattice with weak Python scalars, and nothing narrowed in silence.

The lattice (Lattice from https://docs.jax.dev/en/latest/type_promotion.html)::

    b1 -> i* -> u1,i1 ; u1 -> u2,i2 ; u2 -> u4,i4 ; u4 -> u8,i8 ; i1 -> i2 -> i4 -> i8 -> f*
    u8 -> f* ; f* -> bf,f2,c* ; bf,f2 -> f4 -> f8,c8 ; c* -> c8 ; f8,c8 -> c16

``i*``, ``f*`` and ``c*`` are Python's int, float and complex: they take the other operand's width.
Unlike JAX there is no 64-bit switch: float64 and int64 stay what they are, and only creation without a dtype
defaults to 32 bits.
"""

from __future__ import annotations

import functools
from typing import Any

import ml_dtypes
import numpy as np

bfloat16 = np.dtype(ml_dtypes.bfloat16)
float0 = np.dtype([("float0", np.void, 0)])  # the tangent dtype of integers and booleans, as in JAX

bool_ = np.dtype(np.bool_)
int32 = np.dtype(np.int32)
int64 = np.dtype(np.int64)
uint32 = np.dtype(np.uint32)
float32 = np.dtype(np.float32)
float64 = np.dtype(np.float64)
complex64 = np.dtype(np.complex64)
complex128 = np.dtype(np.complex128)

_NODES = ["b1", "i*", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f*", "bf", "f2", "f4", "f8", "c*", "c8", "c16"]
_EDGES = {
    "b1": ["i*"],
    "i*": ["u1", "i1"],
    "u1": ["u2", "i2"],
    "u2": ["u4", "i4"],
    "u4": ["u8", "i8"],
    "u8": ["f*"],
    "i1": ["i2"],
    "i2": ["i4"],
    "i4": ["i8"],
    "i8": ["f*"],
    "f*": ["bf", "f2", "c*"],
    "bf": ["f4"],
    "f2": ["f4"],
    "f4": ["f8", "c8"],
    "f8": ["c16"],
    "c*": ["c8"],
    "c8": ["c16"],
    "c16": [],
}
_STRONG = {
    "b1": bool_,
    "u1": np.dtype(np.uint8),
    "u2": np.dtype(np.uint16),
    "u4": uint32,
    "u8": np.dtype(np.uint64),
    "i1": np.dtype(np.int8),
    "i2": np.dtype(np.int16),
    "i4": int32,
    "i8": int64,
    "bf": bfloat16,
    "f2": np.dtype(np.float16),
    "f4": float32,
    "f8": float64,
    "c8": complex64,
    "c16": complex128,
}
_WEAK = {"i*": int32, "f*": float32, "c*": complex64}
_NODE_OF = {d: n for n, d in _STRONG.items()}
_WEAK_OF_KIND = {"b": "b1", "i": "i*", "u": "i*", "f": "f*", "V": "f*", "c": "c*"}
SUPPORTED = tuple(_STRONG.values())


@functools.cache
def _above(node: str) -> frozenset[str]:
    out = {node}
    for up in _EDGES[node]:
        out |= _above(up)
    return frozenset(out)


@functools.cache
def _join(nodes: frozenset[str]) -> str:
    common = frozenset.intersection(*(_above(n) for n in nodes))
    return next(n for n in _NODES if n in common and common <= _above(n))


def _node(dtype: np.dtype, weak: bool) -> str:
    return _WEAK_OF_KIND[dtype.kind] if weak else _NODE_OF[dtype]


@functools.lru_cache(maxsize=4096)
def promote(*operands: tuple[np.dtype, bool]) -> tuple[np.dtype, bool]:
    """The (dtype, weak) that operands given as (dtype, weak) pairs meet at.

    A weak operand keeps its own width where every operand is weak (a weak float64 stays float64).  uint64 and a signed
    integer, which no integer type holds, meet at a weak float64.
    """
    if not operands:
        raise TypeError("dtype: at least one operand is needed to find a dtype, got none. Pass an array.")
    if any(d == float0 for d, _ in operands):
        raise TypeError("dtype: operands must have values, got float0, the tangent of an integer. Leave it out.")
    node = _join(frozenset(_node(d, w) for d, w in operands))
    if node in _WEAK:
        own = [d for d, w in operands if _node(d, w) == node]
        return max(own, key=lambda d: d.itemsize, default=float64), True
    return _STRONG[node], False


_CANONICAL: dict[Any, np.dtype] = {bool: bool_, int: int32, float: float32, complex: complex64, "bfloat16": bfloat16}


def canonical(dtype: Any) -> np.dtype:
    """A supported NumPy dtype in native byte order; Python's bool, int, float, complex give bool and 32-bit dtypes."""
    try:
        return _CANONICAL[dtype]
    except KeyError:
        pass
    except TypeError:  # what cannot be hashed is no dtype
        raise TypeError(f"dtype: not a dtype, got {dtype!r}. Use one of {_names()}.") from None
    try:
        out = np.dtype(dtype).newbyteorder("=")
    except (TypeError, ValueError, SyntaxError) as e:  # NumPy parses text: "3f4", "f4,i8"
        raise TypeError(f"dtype: not a dtype, got {dtype!r}. Use one of {_names()}.") from e
    if out not in _NODE_OF and out != float0:
        raise TypeError(f"dtype: {out} is not supported, got {dtype!r}. Use one of {_names()}.")
    if isinstance(dtype, (np.dtype, type, str)):
        _CANONICAL[dtype] = out
    return out


def _names() -> str:
    return ", ".join(str(d) for d in SUPPORTED)


def is_float(dtype: np.dtype) -> bool:
    return dtype.kind == "f" or dtype == bfloat16


def is_inexact(dtype: np.dtype) -> bool:
    return dtype.kind in "fc" or dtype == bfloat16


def is_integer(dtype: np.dtype) -> bool:
    return dtype.kind in "iu"


def is_number(dtype: np.dtype) -> bool:
    return is_inexact(dtype) or is_integer(dtype)


def short_name(dtype: np.dtype) -> str:
    """``f32``, ``bf16``, ``i64``, ``bool``: the spelling of avals in jaxprs."""
    if dtype == bfloat16:
        return "bf16"
    if dtype == bool_:
        return "bool"
    if dtype == float0:
        return "float0"
    return f"{dtype.kind}{dtype.itemsize * 8}"


def _check_ordered(dtype: np.dtype) -> None:
    if dtype.kind == "c" or dtype == float0:
        raise TypeError(
            f"dtype: operands must have an order, got {dtype}, whose values have none. Take abs or the real part."
        )


def least(dtype: np.dtype):
    """The identity of max: -inf, the smallest integer, or False."""
    _check_ordered(dtype)
    if dtype == bool_:
        return False
    return -np.inf if is_float(dtype) else int(np.iinfo(dtype).min)


def greatest(dtype: np.dtype):
    """The identity of min: +inf, the largest integer, or True."""
    _check_ordered(dtype)
    if dtype == bool_:
        return True
    return np.inf if is_float(dtype) else int(np.iinfo(dtype).max)
