"""gather and scatter: rows of an operand read from, or combined at, positions held in an index array."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fgrad.kernels.reference.numerics import widen


def _rows(name: str, operand: np.ndarray, indices: np.ndarray, axes: Sequence[int], mode: str):
    """(positions: k arrays of shape B, clamped into range; valid: bool of shape B, False for rows to ignore)."""
    sizes = [operand.shape[a] for a in axes]
    batch = indices.shape[:-1]
    if mode == "clip" and 0 in sizes and 0 not in batch:
        raise ValueError(
            f"{name}: mode 'clip' needs a non-empty axis to clamp into, got indexed axes {tuple(axes)} of sizes "
            f"{tuple(sizes)}. Use mode 'fill' for gather, 'drop' for scatter."
        )
    valid = np.ones(batch, dtype=bool)
    positions = []
    for j, n in enumerate(sizes):
        i = indices[..., j]
        if mode != "clip":
            valid &= (i >= 0) & (i < n)
        positions.append(np.clip(i, 0, max(n - 1, 0)))
    return positions, valid


def marker(dtype: np.dtype) -> np.ndarray:
    """What stands for a value that is not there: NaN, the smallest signed integer, the largest unsigned one, True."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.array(limits.min if dtype.kind == "i" else limits.max, dtype)
    return np.array(True if dtype.kind == "b" else np.nan, dtype)


def gather(operand: np.ndarray, indices: np.ndarray, *, axes: Sequence[int], mode: str) -> np.ndarray:
    """Reads rows of `operand`.  For indices of shape B + (k,) and k strictly increasing operand axes,

        out[b, r] = operand[axis axes[j] at indices[b, j], the remaining axes at r],    shape B + remaining axes.

    An index below 0 or past the end is out of range (wrapping negative indices is the caller's): mode 'clip' clamps
    each index into range (ValueError if an axis is empty); mode 'fill' makes the whole row zero, 'mark' `marker`.

    >>> gather(np.array([10, 20, 30]), np.array([[2], [5], [0]]), axes=(0,), mode="fill")
    array([30,  0, 10])
    """
    positions, valid = _rows("gather", operand, indices, axes, mode)
    batch = indices.shape[:-1]
    table = np.moveaxis(operand, axes, range(len(axes)))
    rest = table.shape[len(axes) :]
    out = np.zeros(batch + rest, dtype=operand.dtype)
    if mode == "mark":
        out[...] = marker(operand.dtype)
    for b in np.ndindex(*batch):
        if valid[b]:
            out[b] = table[tuple(p[b] for p in positions)]
    return out


_COMBINE: dict[str, Callable] = {
    "set": lambda old, new: new,
    "add": np.add,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
}


def scatter(
    operand: np.ndarray, indices: np.ndarray, updates: np.ndarray, *, axes: Sequence[int], mode: str, kind: str
) -> np.ndarray:
    """A copy of `operand` with rows combined with `updates`, of shape B + remaining axes: in row-major order of B,

        out[axis axes[j] at indices[b, j], the remaining axes at r]  op=  updates[b, r],

    `kind` naming the op: 'set' (the last duplicate wins), 'add', 'mul', 'min', 'max' (NaN propagates).  An index below
    0 or past the end is out of range: mode 'clip' clamps it (ValueError if an axis is empty); 'drop' ignores the row.

    >>> scatter(np.zeros(3, int), np.array([[2], [5], [2]]), np.array([1, 2, 3]), axes=(0,), mode="drop", kind="add")
    array([0, 0, 4])
    """
    positions, valid = _rows("scatter", operand, indices, axes, mode)
    out = operand.copy() if kind == "set" else widen(operand).copy()
    updates = updates if kind == "set" else widen(updates)
    table = np.moveaxis(out, axes, range(len(axes)))
    for b in np.ndindex(*indices.shape[:-1]):
        if valid[b]:
            row = tuple(p[b] for p in positions)
            with np.errstate(over="ignore", invalid="ignore"):
                table[row] = _COMBINE[kind](table[row], updates[b])
    return out.astype(operand.dtype, copy=False)
