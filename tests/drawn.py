"""Random operands for tests, and how far two results are apart."""

import numpy as np

from fgrad.core.array import lift


def arrays(*shapes, seed=20, dtype=np.float64):
    """Standard normal Arrays of the given shapes."""
    rng = np.random.default_rng(seed)
    return [lift(rng.standard_normal(s).astype(dtype)) for s in shapes]


def relative_error(got, want) -> float:
    """max |got - want| / max |want|, or of 0.1 where that is larger."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"shapes {got.shape} and {want.shape}"
    return float(np.abs(got - want).max(initial=0) / np.abs(want).max(initial=0.1))
