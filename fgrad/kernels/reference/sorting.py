"""Sorting along an axis by several keys, and running totals."""

from __future__ import annotations

import numpy as np

from fgrad.kernels.reference.numerics import widen

_COMBINE = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "logaddexp": np.logaddexp}


def sort(*operands: np.ndarray, dimension: int, num_keys: int, is_stable: bool) -> list[np.ndarray]:
    """The operands, of one shape, reordered along ``dimension``: by the first, among equals by the second, and so on
    through the first ``num_keys``; always stable.

    Every NaN comes last, and all are equal, as are -0 and 0; complex keys order by their real, then imaginary parts.

    >>> sort(np.array([2, 1, 2]), np.array([7, 8, 9]), dimension=0, num_keys=1, is_stable=True)
    [array([1, 2, 2]), array([8, 7, 9])]
    """
    keys: list[np.ndarray] = []
    for x in operands[:num_keys]:
        for part in (x.real, x.imag) if x.dtype.kind == "c" else (widen(x),):
            nan = part != part
            keys += [nan, np.where(nan, np.zeros((), part.dtype), part)]
    order = np.lexsort(keys[::-1], axis=dimension)
    return [np.take_along_axis(x, order, dimension) for x in operands]


def cumulative(x: np.ndarray, *, kind: str, axis: int, reverse: bool) -> np.ndarray:
    """out[i] = x[0] op ... op x[i] along ``axis`` (``reverse``: x[i] op ... op x[n - 1]).

    `kind` names the op: 'add', 'mul', 'max', 'min' (NaN propagates) or 'logaddexp'.

    >>> cumulative(np.array([1, 2, 3]), kind="add", axis=0, reverse=True)
    array([6, 5, 3])
    """
    wide = np.flip(widen(x), axis) if reverse else widen(x)
    out = np.empty_like(wide)
    with np.errstate(all="ignore"):
        so_far = None
        for i in range(x.shape[axis]):
            at = (slice(None),) * axis + (i,)
            so_far = wide[at] if so_far is None else _COMBINE[kind](so_far, wide[at])
            out[at] = so_far
    return (np.flip(out, axis) if reverse else out).astype(x.dtype)
