"""Products of matrices and tensors, each one dot_general; and norms."""

from __future__ import annotations

import math
from typing import Any

from fgrad import lax
from fgrad.core.array import Array, lift
from fgrad.core.static import flag, items, real_number, static_int
from fgrad.lax.common import canonical_axes
from fgrad.lax.dot import product
from fgrad.numpy import reductions, shaping, ufuncs
from fgrad.numpy.creation import diagonal
from fgrad.numpy.einsum import Labelled, arrange, contract
from fgrad.numpy.promotion import inexact_dtype, promote_dtypes
from fgrad.primitives.convert import convert


def matmul(a: Any, b: Any, *, preferred_element_type: Any = None) -> Array:
    """[.., m, k] and [.., k, n] give [.., m, n], out[.., i, j] = sum over l of a[.., i, l] b[.., l, j].

    A vector on the left is a row, on the right a column, and its axis is not in the result; leading axes broadcast.

    Raises ValueError for scalars, unequal k, and leading axes that do not broadcast.

    >>> import fgrad.numpy as fnp
    >>> fnp.matmul(fnp.ones((4, 2, 3)), fnp.ones(3)).shape
    (4, 2)
    """
    a, b = promote_dtypes("matmul", a, b)
    n_a, n_b = a.ndim, b.ndim
    if not n_a or not n_b:
        raise ValueError(f"matmul: operands must have at least 1 axis, got shapes {a.shape} and {b.shape}. Use x * y.")
    inner = b.shape[-2] if n_b > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise ValueError(
            f"matmul: the last axis of the left operand must be as long as the {'next to last' * (n_b > 1)}"
            f"{'only' * (n_b == 1)} axis of the right, got {a.shape[-1]} and {inner} (shapes {a.shape} and "
            f"{b.shape}). Transpose or reshape one."
        )
    if n_b <= 2:  # nothing to broadcast: b's other axis follows all of a's
        return product(a, b, (((n_a - 1,), (max(n_b - 2, 0),)), ((), ())), preferred_element_type)
    # Labels: leading axes by their distance from the end, i and j the matrix axes, k the contracted one.
    lead_a, lead_b = (tuple(range(2 - x.ndim, 0)) for x in (a, b))
    for n, m in zip(a.shape[-3::-1], b.shape[-3::-1]):
        if n != m and 1 not in (n, m):
            raise ValueError(
                f"matmul: leading axes must broadcast (sizes equal or 1), got shapes {a.shape} and {b.shape} ({n} "
                f"against {m}). Reshape one."
            )
    labels_a = (*lead_a, "i", "k") if n_a > 1 else ("k",)
    lead = lead_a if len(lead_a) >= len(lead_b) else lead_b
    output = (*lead, *(("i",) if n_a > 1 else ()), "j")
    out = contract(Labelled(a, labels_a), Labelled(b, (*lead_b, "k", "j")), set(output), preferred_element_type)
    return arrange(out, output)


def dot(a: Any, b: Any) -> Array:
    """sum of a[.., k] b[.., k, j]: the inner product of vectors, the product of matrices; scalars multiply."""
    a, b = promote_dtypes("dot", a, b)
    if not a.ndim or not b.ndim:
        return ufuncs.multiply(a, b)
    return tensordot(a, b, ((a.ndim - 1,), (max(b.ndim - 2, 0),)))


def tensordot(a: Any, b: Any, axes: Any = 2) -> Array:
    """Summed over pairs of axes: ``axes`` is (axes of a, axes of b), or n for the last n of a and the first n of b.

    The result has the other axes of a, then those of b.

    >>> import fgrad.numpy as fnp
    >>> fnp.tensordot(fnp.ones((2, 3, 4)), fnp.ones((4, 3, 5)), ((1, 2), (1, 0))).shape
    (2, 5)
    """
    a, b = promote_dtypes("tensordot", a, b)
    pair = items(axes)
    if pair is not None:
        if len(pair) != 2:
            raise ValueError(f"tensordot: axes must be (axes of a, axes of b), got {axes!r}. Give both, or a number.")
        of_a, of_b = canonical_axes("tensordot", pair[0], a.ndim), canonical_axes("tensordot", pair[1], b.ndim)
    else:
        n = static_int("tensordot", "axes must be an integer or a pair of sequences", axes)
        if not 0 <= n <= min(a.ndim, b.ndim):
            raise ValueError(
                f"tensordot: axes must be in [0, {min(a.ndim, b.ndim)}], got {n} for shapes {a.shape} and {b.shape}. "
                "Sum over fewer axes."
            )
        of_a, of_b = tuple(range(a.ndim - n, a.ndim)), tuple(range(n))
    if len(of_a) != len(of_b) or any(a.shape[i] != b.shape[j] for i, j in zip(of_a, of_b)):
        raise ValueError(
            f"tensordot: axes {of_a} and {of_b} must pair up with equal sizes, got {[a.shape[i] for i in of_a]} and "
            f"{[b.shape[j] for j in of_b]} (shapes {a.shape} and {b.shape}). Change the axes."
        )
    return lax.dot_general(a, b, ((of_a, of_b), ((), ())))


def inner(a: Any, b: Any) -> Array:
    """sum over k of a[.., k] b[.., k]: the last axes contracted; scalars multiply."""
    a, b = promote_dtypes("inner", a, b)
    if not a.ndim or not b.ndim:
        return ufuncs.multiply(a, b)
    return tensordot(a, b, ((a.ndim - 1,), (b.ndim - 1,)))


def vdot(a: Any, b: Any) -> Array:
    """The inner product of the flattened operands."""
    return inner(shaping.ravel(a), shaping.ravel(b))


def vecdot(x1: Any, x2: Any, axis: int = -1) -> Array:
    """sum of x1 x2 along ``axis``, the other axes broadcast."""
    return reductions.sum(ufuncs.multiply(x1, x2), axis)


def outer(a: Any, b: Any) -> Array:
    """out[i, j] = a[i] b[j] of the flattened operands."""
    return ufuncs.multiply(shaping.reshape(shaping.ravel(a), (-1, 1)), shaping.ravel(b))


def kron(a: Any, b: Any) -> Array:
    """The Kronecker product: every element of a times the whole of b."""
    a, b = promote_dtypes("kron", a, b)
    n = max(a.ndim, b.ndim)
    sa, sb = (1,) * (n - a.ndim) + a.shape, (1,) * (n - b.ndim) + b.shape
    wide_a = lax.reshape(a, tuple(m for s in sa for m in (s, 1)))
    wide_b = lax.reshape(b, tuple(m for s in sb for m in (1, s)))
    return shaping.reshape(ufuncs.multiply(wide_a, wide_b), tuple(p * q for p, q in zip(sa, sb)))


def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    """The sum of a diagonal."""
    return reductions.sum(diagonal(a, offset, axis1, axis2), -1)


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    """The norm of vectors along ``axis``, or of matrices over a pair of axes.

    Vectors: (sum |x|^p)^(1/p) for ``ord`` p (2 without), the largest or smallest |x| for inf and -inf, the number of
    nonzero elements for 0.  Matrices: 'fro' (the default), and the largest sum of |x| over columns for 1, rows for inf
    (smallest for -1, -inf).  Without ``axis`` and ``ord`` all elements are one vector.

    >>> import fgrad.numpy as fnp
    >>> float(fnp.linalg.norm(fnp.array([3.0, 4.0])))
    5.0
    """
    x = lift(x, "norm")
    if ord is not None and not isinstance(ord, str):
        ord = real_number("norm", "ord", ord)
        ord = ord if isinstance(ord, int | float) else ord.item()
    x = convert(x, inexact_dtype(x.dtype))
    if axis is None and ord is None:
        return lax.sqrt(reductions.sum(lax.square(x), None, keepdims=keepdims))
    axes = tuple(range(x.ndim)) if axis is None else canonical_axes("norm", axis, x.ndim)
    size = x if x.dtype.kind in "u" else lax.abs(x)
    if len(axes) == 1:
        return _vector_norm(x, size, ord, axes, keepdims)
    if len(axes) != 2:
        raise ValueError(f"norm: ord needs 1 or 2 axes, got {len(axes)} (shape {x.shape}). Name them with axis.")
    if ord in (None, "fro"):
        return lax.sqrt(reductions.sum(lax.square(x), axes, keepdims=keepdims))
    if ord in (1, -1, math.inf, -math.inf):
        along, over = axes if abs(ord) == 1 else axes[::-1]
        extreme = reductions.max if ord > 0 else reductions.min
        out = extreme(reductions.sum(size, along, keepdims=True), over, keepdims=True)
        return out if flag("norm", "keepdims", keepdims) else shaping.squeeze(out, axes)
    raise ValueError(f"norm: ord of a matrix must be 'fro', 1, -1, inf or -inf, got {ord!r}. Choose one of them.")


def _vector_norm(x: Array, size: Array, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Array:
    if ord in (None, 2):
        return lax.sqrt(reductions.sum(lax.square(x), axes, keepdims=keepdims))
    if ord == math.inf:
        return reductions.max(size, axes, keepdims)
    if ord == -math.inf:
        return reductions.min(size, axes, keepdims)
    if ord == 0:
        return convert(reductions.count_nonzero(x, axes, keepdims), x.dtype)
    if ord == 1:
        return reductions.sum(size, axes, keepdims=keepdims)
    if not isinstance(ord, int | float):
        raise ValueError(f"norm: ord of a vector must be a number, got {ord!r}. Use 2.")
    total = reductions.sum(ufuncs.power(size, float(ord)), axes, keepdims=keepdims)
    return ufuncs.power(total, 1.0 / ord)
