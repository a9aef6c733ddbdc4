"""Sums and extrema over sliding windows, which tap of each window wins, and elements read and put at such taps."""

from __future__ import annotations

import math
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


def tap_dtype(window_dimensions: Sequence[int]) -> np.dtype:
    """The smallest unsigned integers that number a window's taps, and one more for none of them."""
    return np.min_scalar_type(math.prod(window_dimensions))


def reduce_window_winner(
    x: np.ndarray,
    *,
    kind: str,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Each window's extremum ('max' or 'min'; parameters as `reduce_window`) and the row-major number of its tap.

    Of equal elements the first in row-major window order wins; the first NaN beats every number; padding and holes
    never win, and a window that holds no element of x has as tap the number of taps.

    >>> reduce_window_winner(np.array([3, 3, 1, 2]), kind="max", window_dimensions=[2], window_strides=[2],
    ...                      padding=[(2, 0)], base_dilation=[1], window_dilation=[1])[1]
    array([2, 0, 1], dtype=uint8)
    """
    wide = widen(x)
    window = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
    none = math.prod(window_dimensions)
    best = where = None
    inside = _taps(np.ones(x.shape, np.bool_), False, *window)
    for t, (seen, element) in enumerate(zip(_taps(wide, identity(kind, wide.dtype), *window), inside, strict=True)):
        if where is None:
            best, where = seen.copy(), np.where(element, 0, none)
            continue
        beats = seen > best if kind == "max" else seen < best
        wins = element & ((where == none) | beats | ((seen != seen) & (best == best)))
        best, where = np.where(wins, seen, best), np.where(wins, t, where)
    return np.asarray(best, dtype=x.dtype), np.asarray(where, dtype=tap_dtype(window_dimensions))


def gather_winners(
    x: np.ndarray,
    taps: np.ndarray,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> np.ndarray:
    """What each window sees at its own tap: out[p] = X[p * stride + t * window_dilation], t numbered by taps[p].

    Padding, holes and taps that do not exist read 0; the parameters are those of `reduce_window`.

    >>> gather_winners(np.array([1, 5, 2, 7]), np.array([1, 0]), window_dimensions=[2], window_strides=[2],
    ...                padding=[(0, 0)], base_dilation=[1], window_dilation=[1])
    array([5, 2])
    """
    out = np.zeros(taps.shape, x.dtype)
    window = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
    for t, seen in enumerate(_taps(x, 0, *window)):
        out[taps == t] = seen[taps == t]
    return out


def scatter_winners(
    x: np.ndarray,
    taps: np.ndarray,
    *,
    shape: Sequence[int],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> np.ndarray:
    """The transpose of `gather_winners`: x[p] is added where window p sees an array of that shape at tap taps[p].

    >>> scatter_winners(np.array([6, 9]), np.array([1, 0]), shape=[4], window_dimensions=[2], window_strides=[2],
    ...                 padding=[(0, 0)], base_dilation=[1], window_dilation=[1])
    array([0, 6, 9, 0])
    """
    wide = widen(x)
    out = np.zeros(math.prod(shape), wide.dtype)
    window = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
    places = np.arange(out.size, dtype=np.int64).reshape(shape)
    for t, place in enumerate(_taps(places, -1, *window)):
        chosen = (taps == t) & (place >= 0)
        np.add.at(out, place[chosen], wide[chosen])
    return np.asarray(out.reshape(shape), dtype=x.dtype)
