"""pad, dilate, undilate and rev: operations that only move elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pad(x: np.ndarray, value, *, padding_config: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Pads, crops and spreads `x`: axis d of (lo, hi, interior) = `padding_config[d]` becomes

        m = lo + n + (n - 1)+ * interior + hi      with (n - 1)+ = max(n - 1, 0),

    where element i lands at lo + i * (interior + 1) if that lies in [0, m) and is dropped otherwise; every other
    position holds `value`.  Negative lo and hi crop.  A negative m counts as 0.

    >>> pad(np.array([1, 2, 3]), 0, padding_config=[(1, -1, 1)])
    array([0, 1, 0, 2, 0])
    """
    shape, sources, targets = [], [], []
    for n, (lo, hi, interior) in zip(x.shape, padding_config, strict=True):
        m = max(0, lo + n + max(n - 1, 0) * interior + hi)
        landing = lo + np.arange(n) * (interior + 1)
        kept = np.flatnonzero((landing >= 0) & (landing < m))
        shape.append(m)
        sources.append(kept)
        targets.append(landing[kept])
    out = np.full(shape, value, dtype=x.dtype)
    out[np.ix_(*targets)] = x[np.ix_(*sources)]
    return out


def dilate(x: np.ndarray, *, factors: Sequence[int]) -> np.ndarray:
    """Puts `factors[d] - 1` zeros between neighbours along axis d: n becomes 1 + (n - 1) * factor, and 0 stays 0.

    >>> dilate(np.array([1, 2, 3]), factors=[3])
    array([1, 0, 0, 2, 0, 0, 3])
    """
    return pad(x, x.dtype.type(0), padding_config=[(0, 0, f - 1) for f in factors])


def undilate(y: np.ndarray, *, factors: Sequence[int]) -> np.ndarray:
    """Keeps every `factors[d]`-th element along axis d, from the first: n becomes ceil(n / factor).

    >>> undilate(np.array([1, 0, 0, 2, 0, 0, 3, 9]), factors=[3])
    array([1, 2, 3])
    """
    return y[tuple(slice(None, None, f) for f in factors)].copy()


def rev(x: np.ndarray, *, dimensions: Sequence[int]) -> np.ndarray:
    """Reverses the order of elements along `dimensions`.

    >>> rev(np.array([[1, 2], [3, 4]]), dimensions=(1,))
    array([[2, 1],
           [4, 3]])
    """
    return np.flip(x, tuple(dimensions)).copy()
