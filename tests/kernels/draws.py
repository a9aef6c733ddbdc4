"""Random operands for kernel tests: values with ties and specials, in memory of every stride."""

from __future__ import annotations

import ml_dtypes
import numpy as np

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
