"""Accumulator dtypes and the identities of reductions."""

from __future__ import annotations

import functools

import numpy as np


@functools.lru_cache
def accumulator(dtype: np.dtype) -> np.dtype:
    """float32 for float16 and the extended floats (bfloat16, whose NumPy kind is 'V'); every other dtype itself."""
    dtype = np.dtype(dtype)
    return np.dtype(np.float32) if dtype == np.float16 or dtype.kind == "V" else dtype


def widen(x: np.ndarray) -> np.ndarray:
    """`x` in its accumulator dtype; exact."""
    dtype = accumulator(x.dtype)
    return x if x.dtype is dtype else x.astype(dtype, copy=False)


@functools.lru_cache
def identity(kind: str, dtype: np.dtype):
    """The e with op(e, x) == x in an accumulator dtype, for `kind` in 'add', 'mul', 'max', 'min'."""
    dtype = np.dtype(dtype)
    if kind in ("add", "mul"):
        return dtype.type(kind == "mul")
    if dtype.kind == "b":
        return dtype.type(kind == "min")
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return dtype.type(info.min if kind == "max" else info.max)
    return dtype.type(-np.inf if kind == "max" else np.inf)
