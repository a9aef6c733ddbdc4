"""gather, scatter and index_take: rows read from, and combined at, positions held in an array.

The form is simpler than XLA's and covers NumPy's indexing: ``axes`` names the indexed axes of the operand, the last
axis of ``indices`` holds one index for each of them, and a row is everything along the remaining axes.
"""

from __future__ import annotations

from collections.abc import Sequence

from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.static import choice, sequence
from fgrad.lax.common import ArrayLike, canonical_axes, promote_dtypes
from fgrad.lax.shape import concatenate, expand_dims
from fgrad.primitives.arithmetic import add_p, rem_p
from fgrad.primitives.broadcast import full_like
from fgrad.primitives.compare import lt_p, select_n_p
from fgrad.primitives.convert import convert
from fgrad.primitives.indexing import gather_p, scatter_p


def _indices(name: str, indices: ArrayLike) -> Array:
    """Indices in int32 or int64, whichever holds them."""
    i = lift(indices, name)
    if not dtypes.is_integer(i.dtype):
        raise TypeError(f"{name}: indices must be integers, got {i.dtype}. Convert them with .astype(int).")
    small = i.dtype.itemsize < 4 or i.dtype == dtypes.int32
    return convert(i, dtypes.int32 if small else dtypes.int64)


def gather(operand: ArrayLike, indices: ArrayLike, *, axes: Sequence[int], mode: str = "fill") -> Array:
    """Rows of operand: out[b, r] = operand[axes[j] at indices[b, j], the remaining axes at r].

    Indices do not wrap.  Differentiable in operand; the transpose adds rows up, like ``scatter`` with kind 'add'.

    Args:
        operand: array [*shape] of any dtype.
        indices: integers [*B, k].
        axes: k strictly increasing axes of operand.
        mode: what an index out of range does: 'fill' makes the row zero, 'mark' NaN (of integers the smallest signed
            or largest unsigned one, True of booleans), 'clip' clamps the index.

    Returns:
        Array [*B, *remaining axes of operand].

    Raises:
        TypeError: indices are not integers.
        ValueError: axes or shapes do not fit, mode is unknown, or 'clip' meets an empty axis.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.gather(np.int32([10, 20, 30]), np.int32([[2], [5], [0]]), axes=(0,))
    Array([30,  0, 10], dtype=int32)
    """
    x = lift(operand, "gather")
    choice("gather", "mode", mode, ("clip", "fill", "mark"))
    return gather_p.bind(x, _indices("gather", indices), axes=canonical_axes("gather", axes, x.ndim), mode=mode)


def scatter(
    operand: ArrayLike,
    indices: ArrayLike,
    updates: ArrayLike,
    *,
    axes: Sequence[int],
    kind: str = "set",
    mode: str = "drop",
) -> Array:
    """A copy of operand with rows combined: out[axes[j] at indices[b, j], the remaining axes at r] op= updates[b, r].

    Updates act in row-major order of B, so of several at one place the last wins for 'set'.  Differentiable in operand
    and updates: for 'set' the winner has the derivative; for 'min' and 'max' all that tie share it equally; for 'mul'
    first and second derivatives are exact whatever factors are zero (third ones with at most two zeros at a place).

    Args:
        operand: array [*shape].
        indices: integers [*B, k]; they do not wrap.
        updates: array [*B, *remaining axes of operand] of operand's dtype.
        axes: k strictly increasing axes of operand.
        kind: 'set', 'add', 'mul', 'min' or 'max'.
        mode: what an index out of range does: 'drop' ignores the row, 'clip' clamps the index.

    Returns:
        Array [*shape].

    Raises:
        TypeError: dtypes differ, indices are not integers, or kind is not defined for the dtype.
        ValueError: axes or shapes do not fit, kind or mode is unknown, or 'clip' meets an empty axis.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.scatter(np.zeros(3, np.int32), np.int32([[2], [5], [2]]), np.int32([1, 2, 3]), axes=(0,), kind="add")
    Array([0, 0, 4], dtype=int32)
    """
    x, new = promote_dtypes("scatter", operand, updates)
    choice("scatter", "kind", kind, ("set", "add", "mul", "min", "max"))
    choice("scatter", "mode", mode, ("clip", "drop"))
    return scatter_p.bind(
        x, _indices("scatter", indices), new, axes=canonical_axes("scatter", axes, x.ndim), mode=mode, kind=kind
    )


def index_take(src: ArrayLike, idxs: Sequence[ArrayLike], axes: Sequence[int]) -> Array:
    """out[b, r] = src[axes[j] at idxs[j][b] modulo the axis's size, the remaining axes at r].

    Args:
        src: array [*shape] of any dtype.
        idxs: integer arrays [*B], one for each axis.
        axes: strictly increasing axes of src.

    Returns:
        Array [*B, *remaining axes of src].

    Raises:
        TypeError: indices are not integers.
        ValueError: shapes differ, or an indexed axis is empty.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.index_take(np.int32([[1, 2], [3, 4]]), (np.int32([0, -1]), np.int32([1, 0])), (0, 1))
    Array([2, 3], dtype=int32)
    """
    x = lift(src, "index_take")
    axes = canonical_axes("index_take", axes, x.ndim)
    idxs = sequence("index_take", "idxs", idxs)
    if not axes:
        raise ValueError("index_take: at least one axis must be indexed, got axes (). Name one.")
    if len(idxs) != len(axes):
        raise ValueError(
            f"index_take: needs one index array for each axis, got {len(idxs)} for axes {axes}. Give {len(axes)}."
        )
    columns = []
    for a, index in zip(axes, idxs):
        i = convert(_indices("index_take", index), dtypes.int64)
        n = full_like(i, x.shape[a])
        i = rem_p.bind(i, n)  # has the sign of i
        i = select_n_p.bind(lt_p.bind(i, full_like(i, 0)), i, add_p.bind(i, n))
        columns.append(expand_dims(i, (-1,)))
    return gather_p.bind(x, concatenate(columns, columns[0].ndim - 1), axes=axes, mode="clip")
