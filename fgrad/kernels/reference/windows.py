"""reduce_window and the position of its winner: sums and extrema over sliding windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fgrad.kernels.reference.movement import pad
from fgrad.kernels.reference.numerics import identity, widen

_COMBINE = {"add": np.add, "max": np.maximum, "min": np.minimum}


def _taps(x, fill, window_dimensions, window_strides, padding, base_dilation, window_dilation):
    """Yields, window position by window position in row-major order, what every window sees there (shape: output)."""
    x = pad(x, fill, padding_config=[(lo, hi, f - 1) for (lo, hi), f in zip(padding, base_dilation, strict=True)])
    reach = [1 + (k - 1) * d for k, d in zip(window_dimensions, window_dilation, strict=True)]
    shape = [max(0, (n - r) // s + 1) for n, r, s in zip(x.shape, reach, window_strides, strict=True)]
    for tap in np.ndindex(*window_dimensions):
        yield x[tuple(slice(t * d, t * d + m * s, s) if m else slice(0, 0)
                      for t, d, m, s in zip(tap, window_dilation, shape, window_strides))]  # fmt: skip


def reduce_window(
    x: np.ndarray,
    *,
    kind: str,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> np.ndarray:
    """Combines the elements under a sliding window.  With X the dilated and padded x,

        out[p] = op_{t} X[p * window_strides + t * window_dilation],    t over window_dimensions,

    `kind` naming the op: 'add', 'max' or 'min' (NaN propagates).  Padding (may be negative) and the holes of
    `base_dilation` hold the op's identity: 0, -inf or the smallest integer, +inf or the largest.  Each size is

        max(0, floor((lo + 1 + (n - 1) * base_dilation + hi - (1 + (k - 1) * window_dilation)) / stride) + 1).

    >>> reduce_window(np.array([1, 5, 2, 7]), kind="max", window_dimensions=[2], window_strides=[2],
    ...               padding=[(0, 0)], base_dilation=[1], window_dilation=[1])
    array([5, 7])
    """
    wide = widen(x)
    neutral = identity(kind, wide.dtype)
    taps = _taps(wide, neutral, window_dimensions, window_strides, padding, base_dilation, window_dilation)
    out = None
    for seen in taps:
        out = _COMBINE[kind](neutral if out is None else out, seen)
    return np.asarray(out, dtype=x.dtype)


def reduce_window_index(
    x: np.ndarray,
    *,
    kind: str,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> np.ndarray:
    """int64: the row-major index into x of each window's winner ('max' or 'min'; parameters as `reduce_window`).

    Of equal elements the first in row-major window order wins; the first NaN beats every number; padding and holes
    never win, and a window that holds no element of x gives -1.

    >>> reduce_window_index(np.array([3, 3, 1, 2]), kind="max", window_dimensions=[2], window_strides=[2],
    ...                     padding=[(2, 0)], base_dilation=[1], window_dilation=[1])
    array([-1,  0,  3])
    """
    wide = widen(x)
    window = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
    places = np.arange(x.size, dtype=np.int64).reshape(x.shape)
    best = where = None
    for seen, place in zip(_taps(wide, identity(kind, wide.dtype), *window), _taps(places, -1, *window), strict=True):
        if where is None:
            best, where = seen.copy(), place.copy()
            continue
        beats = seen > best if kind == "max" else seen < best
        wins = (place >= 0) & ((where < 0) | beats | ((seen != seen) & (best == best)))
        best, where = np.where(wins, seen, best), np.where(wins, place, where)
    return np.asarray(where)
