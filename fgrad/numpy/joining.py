"""Joining, splitting, repeating, shifting and padding arrays."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.aval import ShapedArray, check_size
from fgrad.core.static import choice, flag, items, kind, sequence, static_int, static_ints
from fgrad.lax.common import canonical_axis, canonical_shape
from fgrad.numpy import shaping
from fgrad.numpy.creation import asarray
from fgrad.numpy.promotion import cast, promote_dtypes


def _sequence(name: str, arrays: Any) -> list[Any]:
    if isinstance(arrays, Array | np.ndarray) and arrays.ndim:
        return list(arrays)
    if not isinstance(arrays, Sequence) or not arrays:
        raise ValueError(f"{name}: needs a non-empty sequence of arrays, got {arrays!r}. Pass at least one.")
    return list(arrays)


def concatenate(arrays: Any, axis: int | None = 0, dtype: Any = None) -> Array:
    """Arrays one after another along ``axis`` (all flattened first for None); the other sizes agree.

    >>> import fgrad.numpy as fnp
    >>> fnp.concatenate([fnp.arange(2), fnp.ones(1)]).tolist()
    [0.0, 1.0, 1.0]
    """
    parts = promote_dtypes("concatenate", *_sequence("concatenate", arrays))
    if dtype is not None:
        parts = [asarray(p, dtype) for p in parts]
    if axis is None:
        parts, axis = [shaping.ravel(p) for p in parts], 0
    if parts[0].ndim == 0:
        raise ValueError("concatenate: scalars have no axis to join along, got shape (). Use stack.")
    axis = canonical_axis("concatenate", axis, parts[0].ndim)
    return parts[0] if len(parts) == 1 else lax.concatenate(parts, axis)


concat = concatenate


def stack(arrays: Any, axis: int = 0, dtype: Any = None) -> Array:
    """Arrays of one shape along a new axis.

    >>> import fgrad.numpy as fnp
    >>> fnp.stack([fnp.zeros(3), fnp.ones(3)], axis=1).shape
    (3, 2)
    """
    parts = [lift(a, "stack") for a in _sequence("stack", arrays)]
    if any(p.shape != parts[0].shape for p in parts):
        raise ValueError(
            f"stack: shapes must be equal, got {', '.join(str(p.shape) for p in parts)}. Broadcast or concatenate."
        )
    return concatenate([shaping.expand_dims(p, axis) for p in parts], axis, dtype)


def vstack(tup: Any, dtype: Any = None) -> Array:
    """Along axis 0, vectors as rows."""
    return concatenate([shaping.atleast_2d(a) for a in _sequence("vstack", tup)], 0, dtype)


def hstack(tup: Any, dtype: Any = None) -> Array:
    """Along axis 1, vectors along axis 0."""
    parts = [shaping.atleast_1d(a) for a in _sequence("hstack", tup)]
    return concatenate(parts, 0 if not parts or parts[0].ndim == 1 else 1, dtype)


def dstack(tup: Any, dtype: Any = None) -> Array:
    """Along axis 2, after ``atleast_3d``."""
    return concatenate([shaping.atleast_3d(a) for a in _sequence("dstack", tup)], 2, dtype)


def column_stack(tup: Any) -> Array:
    """Vectors as the columns of a matrix."""
    parts = [lift(a, "column_stack") for a in _sequence("column_stack", tup)]
    return concatenate([p if p.ndim >= 2 else shaping.reshape(p, (p.size, 1)) for p in parts], 1)


def append(arr: Any, values: Any, axis: int | None = None) -> Array:
    """``concatenate([arr, values], axis)``."""
    return concatenate([arr, values], axis)


def _cut(name: str, ary: Any, indices_or_sections: Any, axis: int, even: bool) -> list[Array]:
    x = lift(ary, name)
    axis = canonical_axis(name, axis, x.ndim)
    n = x.shape[axis]
    places, wanted = items(indices_or_sections), "indices_or_sections must be integers"
    if places is not None:
        edges = [slice(None, static_int(name, wanted, i)).indices(n)[1] for i in places]
    else:
        parts = static_int(name, wanted, indices_or_sections)
        if parts < 1 or (even and n % parts):
            raise ValueError(
                f"{name}: axis {axis} must divide into equal parts, got size {n} and {parts} parts "
                f"({n} % {parts} = {n % max(parts, 1)}). Use array_split or give indices."
            )
        small, extra = divmod(n, parts)
        edges = [i * small + min(i, extra) for i in range(1, parts)]
    bounds = [0, *edges, n]
    return [lax.slice_in_dim(x, lo, max(lo, hi), axis=axis) for lo, hi in itertools.pairwise(bounds)]


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """Equal parts along ``axis``, or parts cut before the indices given.

    >>> import fgrad.numpy as fnp
    >>> [p.tolist() for p in fnp.split(fnp.arange(5), [2, 3])]
    [[0, 1], [2], [3, 4]]
    """
    return _cut("split", ary, indices_or_sections, axis, even=True)


def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """``split`` into parts whose sizes may differ by one, the longer ones first."""
    return _cut("array_split", ary, indices_or_sections, axis, even=False)


def vsplit(ary: Any, indices_or_sections: Any) -> list[Array]:
    """``split`` along axis 0."""
    return split(ary, indices_or_sections, 0)


def hsplit(ary: Any, indices_or_sections: Any) -> list[Array]:
    """``split`` along axis 1 (axis 0 of a vector)."""
    return split(ary, indices_or_sections, 0 if lift(ary, "hsplit").ndim == 1 else 1)


def tile(A: Any, reps: Any) -> Array:
    """``A`` laid out ``reps`` times along each axis (new leading axes where ``reps`` is longer).

    >>> import fgrad.numpy as fnp
    >>> fnp.tile(fnp.arange(2), (2, 2)).tolist()
    [[0, 1, 0, 1], [0, 1, 0, 1]]
    """
    x = lift(A, "tile")
    reps = static_ints("tile", "reps must be integers", reps)
    if any(r < 0 for r in reps):
        raise ValueError(f"tile: reps must not be negative, got {reps}. Use 0 for an empty result.")
    n = max(x.ndim, len(reps))
    shape = (1,) * (n - x.ndim) + x.shape
    reps = (1,) * (n - len(reps)) + reps
    # [r0, n0, r1, n1, ...] merged pairwise
    wide = lax.broadcast_in_dim(
        lax.reshape(x, shape), tuple(m for p in zip(reps, shape) for m in p), range(1, 2 * n, 2)
    )
    return lax.reshape(wide, tuple(r * m for r, m in zip(reps, shape)))


def repeat(a: Any, repeats: Any, axis: int | None = None) -> Array:
    """Each element ``repeats`` times in a row along ``axis`` (of the flattened operand for None).

    ``repeats`` is a concrete int, or one concrete int for each element along the axis.

    >>> import fgrad.numpy as fnp
    >>> fnp.repeat(fnp.arange(2), 2).tolist(), fnp.repeat(fnp.arange(2), [1, 2]).tolist()
    ([0, 0, 1, 1], [0, 1, 1])
    """
    x = lift(a, "repeat")
    if axis is None:
        x, axis = shaping.ravel(x), 0
    axis = canonical_axis("repeat", axis, x.ndim)
    several = items(repeats)
    if several is not None and not isinstance(repeats, np.ndarray):
        repeats = static_ints("repeat", "repeats must be integers", several)
    counts = np.asarray(repeats)
    if counts.dtype.kind not in "iu" or np.any(counts < 0) or counts.ndim > 1:
        raise ValueError(f"repeat: repeats must be a non-negative int or a vector of them, got {repeats!r}. Change it.")
    check_size("repeat", ShapedArray((max(sum(counts.ravel().tolist()), 0),), x.dtype))
    if counts.size == 1:
        n, r = x.shape[axis], int(counts.reshape(()))
        shape = (*x.shape[: axis + 1], r, *x.shape[axis + 1 :])
        wide = lax.broadcast_in_dim(x, shape, tuple(i for i in range(x.ndim + 1) if i != axis + 1))
        return lax.reshape(wide, (*x.shape[:axis], n * r, *x.shape[axis + 1 :]))
    if counts.shape != (x.shape[axis],):
        raise ValueError(
            f"repeat: needs one count for each element of axis {axis}, got {counts.size} counts for size "
            f"{x.shape[axis]}. Pass one int or {x.shape[axis]} of them."
        )
    from fgrad.numpy.indexing import take

    return take(x, np.repeat(np.arange(counts.size, dtype=np.int32), counts), axis)


def roll(a: Any, shift: Any, axis: Any = None) -> Array:
    """Elements shifted by ``shift`` places along ``axis``, those pushed out coming back at the other end.

    ``shift`` is concrete.  Without ``axis`` the flattened elements are shifted.

    >>> import fgrad.numpy as fnp
    >>> fnp.roll(fnp.arange(4), 1).tolist()
    [3, 0, 1, 2]
    """
    x = lift(a, "roll")
    if axis is None:
        return shaping.reshape(roll(shaping.ravel(x), shift, 0), x.shape)
    named = items(axis)
    axes = tuple(canonical_axis("roll", i, x.ndim) for i in ((axis,) if named is None else named))
    shifts = static_ints("roll", "shift must be integers", shift)
    if len(shifts) != len(axes) and 1 not in (len(shifts), len(axes)):
        raise ValueError(f"roll: shift and axis must be equally many, got {shifts} and {axes}. Give one of each.")
    many = max(len(shifts), len(axes)) if shifts and axes else 0
    for s, i in zip(shifts * many if len(shifts) == 1 else shifts, axes * many if len(axes) == 1 else axes):
        n = x.shape[i]
        if n and s % n:
            k = n - s % n
            x = lax.concatenate([lax.slice_in_dim(x, k, n, axis=i), lax.slice_in_dim(x, 0, k, axis=i)], i)
    return x


def _pad_pairs(name: str, what: Any, ndim: int) -> list[tuple[Any, Any]]:
    """NumPy's ways to say (before, after) for each axis: n, (n,), (b, a), ((b, a),), ((b, a), ...)."""
    if not isinstance(what, Sequence | np.ndarray):
        return [(what, what)] * ndim
    items = [tuple(w) if isinstance(w, Sequence | np.ndarray) else w for w in what]
    if not any(isinstance(w, tuple) for w in items):
        items = [tuple(items)]
    rows = [w * 2 if len(w) == 1 else w for w in items if isinstance(w, tuple)]
    if len(rows) == 1:
        rows = rows * ndim
    if len(rows) != ndim or any(len(w) != 2 for w in rows):
        raise ValueError(f"{name}: needs a (before, after) pair for each of the {ndim} axes, got {what!r}. Give pairs.")
    return [(w[0], w[1]) for w in rows]


def pad(array: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Array:
    """Elements added before and after each axis: ``pad_width`` is n, (before, after), or one such pair for each axis.

    ``mode``: 'constant' (``constant_values``, in the same forms), 'edge' (the outermost element), 'reflect' (mirrored
    at the outermost element), 'symmetric' (mirrored behind it), 'wrap' (the other end).

    >>> import fgrad.numpy as fnp
    >>> fnp.pad(fnp.array([1, 2, 3]), (1, 2), mode="reflect").tolist()
    [2, 1, 2, 3, 2, 1]
    """
    x = lift(array, "pad")
    pairs = _pad_pairs("pad", pad_width, x.ndim)
    widths = [tuple(static_int("pad", "pad_width must be integers", w) for w in pair) for pair in pairs]
    if any(w < 0 for pair in widths for w in pair):
        raise ValueError(f"pad: widths must not be negative, got {pad_width}. Slice the array to crop it.")
    if not isinstance(mode, str):
        raise TypeError(f"pad: mode must be text, got {kind(mode)}. Use 'constant'.")
    if mode == "constant":
        for i, ((before, after), (v0, v1)) in enumerate(zip(widths, _pad_pairs("pad", constant_values, x.ndim))):
            low = cast("pad", v0, x.dtype)
            if v0 is v1:
                x = _pad_axis(x, i, before, after, low)
            else:
                x = _pad_axis(_pad_axis(x, i, before, 0, low), i, 0, after, cast("pad", v1, x.dtype))
        return x
    index = {"edge": _edge, "reflect": _reflect, "symmetric": _symmetric, "wrap": _wrap}.get(mode)
    if index is None:
        raise ValueError(
            f"pad: mode must be 'constant', 'edge', 'reflect', 'symmetric' or 'wrap', got {mode!r}. Choose one."
        )
    from fgrad.numpy.indexing import take

    for i, (before, after) in enumerate(widths):
        n = x.shape[i]
        check_size("pad", ShapedArray((before + n + after,), dtypes.float64))
        if before or after:
            if n == 0:
                raise ValueError(f"pad: mode {mode!r} needs elements to copy, got shape {x.shape}. Use 'constant'.")
            x = take(x, index(np.arange(-before, n + after), n).astype(np.int32), i)
    return x


def _pad_axis(x: Array, axis: int, before: int, after: int, value: Array) -> Array:
    if not before and not after:
        return x
    return lax.pad(x, value, [(before, after, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)])


# Where position i of the padded axis reads from, for an axis of size n.
def _edge(i: np.ndarray, n: int) -> np.ndarray:
    return np.clip(i, 0, n - 1)


def _wrap(i: np.ndarray, n: int) -> np.ndarray:
    return i % n


def _symmetric(i: np.ndarray, n: int) -> np.ndarray:
    i = i % (2 * n)
    return np.minimum(i, 2 * n - 1 - i)


def _reflect(i: np.ndarray, n: int) -> np.ndarray:
    period = max(2 * (n - 1), 1)
    i = i % period
    return np.minimum(i, period - i) if n > 1 else np.zeros_like(i)


def meshgrid(*xi: Any, indexing: str = "xy", sparse: bool = False) -> list[Array]:
    """Coordinate arrays of the grid spanned by vectors: [n1, n2, ...] each for 'ij', [n2, n1, ...] for 'xy'."""
    choice("meshgrid", "indexing", indexing, ("xy", "ij"))
    vectors = [shaping.ravel(lift(x, "meshgrid")) for x in xi]
    n = len(vectors)
    at = list(range(n))
    if indexing == "xy" and n >= 2:
        at[0], at[1] = 1, 0
    out = [lax.reshape(v, tuple(v.size if i == a else 1 for i in range(n))) for v, a in zip(vectors, at)]
    return out if flag("meshgrid", "sparse", sparse) else shaping.broadcast_arrays(*out)


def indices(dimensions: Sequence[int], dtype: Any = None) -> Array:
    """[len(dimensions), *dimensions]: the index of every element of a grid along each axis."""
    kind = dtypes.int32 if dtype is None else dtypes.canonical(dtype)
    shape = canonical_shape("indices", sequence("indices", "dimensions", dimensions))
    return stack([lax.broadcasted_iota(kind, shape, i) for i in range(len(shape))])
