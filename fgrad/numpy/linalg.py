"""Linear algebra: what there is of ``numpy.linalg`` so far.

Decompositions run on the host, in LAPACK; matrices are the last two axes, those before them a batch.  Where LAPACK
gives up on a matrix (not positive definite, singular), its results are NaN.
"""

from __future__ import annotations

from typing import Any

from fgrad.core.array import Array
from fgrad.core.static import choice, flag
from fgrad.lax.shape import expand_dims, squeeze
from fgrad.numpy.contraction import matmul, norm, outer, tensordot, trace, vecdot
from fgrad.numpy.creation import diagonal, eye
from fgrad.numpy.promotion import common_shape, expand_to, promote_dtypes_inexact
from fgrad.numpy.shaping import matrix_transpose
from fgrad.primitives.linalg import cholesky_p, eigh_p, qr_p, solve_p, svd_p

__all__ = [
    "cholesky",
    "diagonal",
    "eigh",
    "inv",
    "matmul",
    "matrix_transpose",
    "norm",
    "outer",
    "qr",
    "solve",
    "svd",
    "tensordot",
    "trace",
    "vecdot",
]


def cholesky(a: Any, *, upper: bool = False) -> Array:
    """The lower triangular L with L L^T = a, of the symmetric part of ``a`` [*batch, n, n]; ``upper``: L^T.

    Raises:
        TypeError, ValueError: a is not float32 or float64, or not square.

    https://docs.jax.dev/en/latest/_autosummary/jax.numpy.linalg.cholesky.html

    >>> import fgrad.numpy as fnp
    >>> fnp.linalg.cholesky(fnp.array([[4.0, 2.0], [2.0, 5.0]])).tolist()
    [[2.0, 0.0], [1.0, 2.0]]
    """
    out = cholesky_p.bind(*promote_dtypes_inexact("cholesky", a))
    return matrix_transpose(out) if flag("cholesky", "upper", upper) else out


def qr(a: Any, mode: str = "reduced") -> Any:
    """(Q, R) with Q R = a [*batch, m, n], Q^T Q = 1 and R upper triangular; k = min(m, n) columns and rows.

    ``mode``: 'reduced', or 'r' for R alone.

    Raises:
        TypeError, ValueError: a is not float32 or float64, or holds no matrix, or there is no such mode.

    https://docs.jax.dev/en/latest/_autosummary/jax.numpy.linalg.qr.html

    >>> import fgrad.numpy as fnp
    >>> q, r = fnp.linalg.qr(fnp.array([[3.0], [4.0]]))
    >>> fnp.abs(r).tolist()
    [[5.0]]
    """
    choice("qr", "mode", mode, ("reduced", "r"))
    q, r = qr_p.bind(*promote_dtypes_inexact("qr", a))
    return r if mode == "r" else (q, r)


def eigh(a: Any) -> tuple[Array, Array]:
    """Eigenvalues [*batch, n], ascending, and eigenvectors [*batch, n, n], in columns, of the symmetric part of ``a``.

    Raises:
        TypeError, ValueError: a is not float32 or float64, or not square.

    https://docs.jax.dev/en/latest/_autosummary/jax.numpy.linalg.eigh.html

    >>> import fgrad.numpy as fnp
    >>> fnp.linalg.eigh(fnp.array([[2.0, 0.0], [0.0, 1.0]]))[0].tolist()
    [1.0, 2.0]
    """
    values, vectors = eigh_p.bind(*promote_dtypes_inexact("eigh", a))
    return values, vectors


def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """(U, s, V^T) with U diag(s) V^T = a [*batch, m, n], s descending; s alone without ``compute_uv``.

    Without ``full_matrices`` U has min(m, n) columns and V^T as many rows; only then, or where m = n, are they
    differentiable.

    Raises:
        TypeError, ValueError: a is not float32 or float64, or holds no matrix.

    https://docs.jax.dev/en/latest/_autosummary/jax.numpy.linalg.svd.html

    >>> import fgrad.numpy as fnp
    >>> fnp.linalg.svd(fnp.array([[0.0, 2.0], [1.0, 0.0]]), compute_uv=False).tolist()
    [2.0, 1.0]
    """
    full_matrices, compute_uv = flag("svd", "full_matrices", full_matrices), flag("svd", "compute_uv", compute_uv)
    u, s, vt = svd_p.bind(*promote_dtypes_inexact("svd", a), full_matrices=full_matrices and compute_uv)
    return (u, s, vt) if compute_uv else s


def solve(a: Any, b: Any) -> Array:
    """x with a x = b: ``a`` [*batch, n, n], ``b`` [n], or [*batch, n, k] for several columns; batches broadcast.

    Raises:
        TypeError, ValueError: operands are not float32 or float64, a is not square, or b does not fit.

    https://docs.jax.dev/en/latest/_autosummary/jax.numpy.linalg.solve.html

    >>> import fgrad.numpy as fnp
    >>> fnp.linalg.solve(fnp.array([[2.0, 0.0], [0.0, 4.0]]), fnp.array([2.0, 2.0])).tolist()
    [1.0, 0.5]
    """
    a, b = promote_dtypes_inexact("solve", a, b)
    vector = b.ndim == 1
    b = expand_dims(b, (1,)) if vector else b
    if a.ndim >= 2 and b.ndim >= 2:
        batch = common_shape("solve", [a.shape[:-2], b.shape[:-2]])
        a, b = (expand_to(x, (*batch, *x.shape[-2:])) for x in (a, b))
    out = solve_p.bind(a, b, transpose_a=False)
    return squeeze(out, (out.ndim - 1,)) if vector else out


def inv(a: Any) -> Array:
    """The inverse of ``a`` [*batch, n, n]: ``solve(a, 1)``.

    Raises:
        TypeError, ValueError: a is not float32 or float64, or not square.

    https://docs.jax.dev/en/latest/_autosummary/jax.numpy.linalg.inv.html

    >>> import fgrad.numpy as fnp
    >>> fnp.linalg.inv(fnp.array([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    (a,) = promote_dtypes_inexact("inv", a)
    return solve(a, eye(a.shape[-1] if a.ndim else 0, dtype=a.dtype))
