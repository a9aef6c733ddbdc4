"""Random operands for kernel tests: values with ties and specials, in memory of every stride."""

from __future__ import annotations

import zlib

import ml_dtypes
import numpy as np
import pytest

from fgrad import config
from fgrad.kernels.cpu import gemm_tiles
from fgrad.kernels.layout import Layout

FLOATS = tuple(np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16))
INTEGERS = tuple(np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8))
COMPLEX = (np.dtype(np.complex64), np.dtype(np.complex128))
BOOL = np.dtype(np.bool_)
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}


def any_of(rng: np.random.Generator, *choices):
    return choices[rng.integers(len(choices))]


def values(rng: np.random.Generator, shape, dtype, special: bool = False) -> np.ndarray:
    """Random numbers, integers over their whole range; `special` adds ties, infinities and NaNs to floats."""
    dtype = np.dtype(dtype)
    if dtype == BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        span = any_of(rng, 2, 30)
        near = rng.integers(max(info.min, -span), span, shape).astype(dtype)
        far = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        return np.where(rng.random(shape) < 0.5, near, far)
    x = np.asarray(rng.standard_normal(shape))
    if dtype.kind == "c":
        return (x + 1j * rng.standard_normal(shape)).astype(dtype)
    if special:
        x = np.where(rng.random(shape) < 0.5, np.round(x), x)
        x = np.where(rng.random(shape) < 0.1, rng.choice([np.nan, np.inf, -np.inf], shape), x)
    return x.astype(dtype)


def strided(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """An equal array in other memory: axes permuted, spread out or run backwards, or as it was."""
    if rng.random() < 0.3:
        return x
    order = rng.permutation(x.ndim)
    steps = [any_of(rng, 1, 1, 2, -1, -3) for _ in range(x.ndim)]
    roomy = np.zeros([x.shape[d] * abs(steps[d]) for d in order], x.dtype).transpose(np.argsort(order))
    view = roomy[(*(slice(None, None, s) for s in steps), ...)]
    view[...] = x
    return view


def layout_of(x: np.ndarray) -> Layout:
    """The layout of an array whose own data address is that of its first element."""
    return Layout(x.dtype, x.shape, tuple(s // x.itemsize for s in x.strides))


def check(actual: np.ndarray, expected, tolerance: dict[str, float] = TOLERANCE) -> None:
    """Equal in shape, dtype and value; floats to the tolerance of their dtype."""
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    bound = tolerance.get(actual.dtype.name)
    if actual.dtype.kind == "V":  # bfloat16: NumPy does not know its NaNs
        actual, expected = actual.astype(np.float32), expected.astype(np.float32)
    if bound is None:
        np.testing.assert_array_equal(actual, expected)
    else:
        np.testing.assert_allclose(actual, expected, rtol=bound, atol=bound, equal_nan=True)


#: Dtypes with products of their own, and the vector widths to force on them (None: as wide as the host's registers).
PRODUCTS = [("float32", 128), ("float32", 256), ("float32", 512), ("int64", 128), ("float64", None), ("int32", None)]
#: Dtypes whose products are computed in another dtype, or as another.
CAST_PRODUCTS = ["float16", ml_dtypes.bfloat16, "int8", "int16", "uint8", "uint16", "uint32", "uint64"]


def rng_at_width(monkeypatch: pytest.MonkeyPatch, dtype: str, bits: int | None) -> np.random.Generator:
    """The numbers of one case of `PRODUCTS`, whose vector width holds until the test ends."""
    monkeypatch.setattr(config, "cpu_vector_bits", lambda: bits)
    return np.random.default_rng(zlib.crc32(f"{dtype}{bits}".encode()))


def set_masked_stores(monkeypatch: pytest.MonkeyPatch, masked_stores: bool) -> None:
    """Has kernels written as for a processor that has them or has not, until the test ends."""
    found = gemm_tiles._detect()._replace(masked_stores=masked_stores)
    monkeypatch.setattr(gemm_tiles, "_detect", lambda: found)


def random_operand(rng, shape, dtype, low=-8, high=9):
    """(buffer, layout, view): small integers in an array of any axis order, steps and directions."""
    n = len(shape)
    order = rng.permutation(n) if rng.random() < 0.5 else np.arange(n)
    steps = np.where(rng.random(n) < 0.15, 2, 1)
    buffer = rng.integers(low, high, [shape[d] * int(steps[d]) for d in order]).astype(dtype)
    layout = Layout.contiguous(dtype, buffer.shape).transpose(tuple(int(i) for i in np.argsort(order)))
    layout = layout.slice((0,) * n, layout.shape, tuple(int(s) for s in steps))
    layout = layout.rev(tuple(d for d in range(n) if rng.random() < 0.15))
    flat = buffer.ravel()[layout.offset :] if layout.size else buffer.ravel()
    view = np.lib.stride_tricks.as_strided(flat, layout.shape, [s * buffer.itemsize for s in layout.strides])
    return buffer, layout, view.copy()
