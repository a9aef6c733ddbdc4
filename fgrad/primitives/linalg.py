"""Linear algebra on the host: solve, cholesky, qr, eigh, svd.

Matrices are the last two axes; the axes before them are a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Host
from fgrad.core.primitive import Primitive, Zero
from fgrad.errors import MissingBackendError
from fgrad.primitives.arithmetic import add_p, div_p, mul_p, neg_p, sub_p
from fgrad.primitives.broadcast import broadcast_in_dim_p, full_like, reduce_sum_p
from fgrad.primitives.compare import eq_p, gt_p, select_n_p
from fgrad.primitives.define import NO_CUDA, NOT_LINEAR, zero_tangent
from fgrad.primitives.dot_general import dot_general_p
from fgrad.primitives.iota import iota_p
from fgrad.primitives.padding import slice_p
from fgrad.primitives.transpose import moveaxis, permute

_LAPACK = Host("LAPACK does it, through NumPy")


# --- matrices in fgrad operations ------------------------------------------------------------------------------------
def _mT(x: Any) -> Any:
    return permute(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _matmul(x: Any, y: Any) -> Any:
    batch = tuple(range(x.ndim - 2))
    numbers = (((x.ndim - 1,), (y.ndim - 2,)), (batch, batch))
    return dot_general_p.bind(x, y, dimension_numbers=numbers, preferred_element_type=None)


def _compared(x: Any, comparison: Primitive) -> Any:
    """Row ? column, for every element."""
    row, column = (iota_p.bind(dtype=dtypes.int64, shape=tuple(x.shape), dimension=x.ndim - k) for k in (2, 1))
    return comparison.bind(row, column)


def _kept(x: Any, comparison: Primitive) -> Any:
    return select_n_p.bind(_compared(x, comparison), full_like(x, 0), x)


def _symmetric(x: Any) -> Any:
    return mul_p.bind(add_p.bind(x, _mT(x)), full_like(x, 0.5))


def _columns(x: Any, like: Any) -> Any:
    """[.., k] -> [.., m, k], the same in every row."""
    kept = (*range(like.ndim - 2), like.ndim - 1)
    return broadcast_in_dim_p.bind(x, shape=tuple(like.shape), broadcast_dimensions=kept)


def _rows(x: Any, like: Any) -> Any:
    """[.., k] -> [.., k, m], the same in every column."""
    return broadcast_in_dim_p.bind(x, shape=tuple(like.shape), broadcast_dimensions=tuple(range(like.ndim - 1)))


def _first_columns(x: Any, k: int) -> Any:
    if k == x.shape[-1]:
        return x
    return slice_p.bind(x, start_indices=(0,) * x.ndim, limit_indices=(*x.shape[:-1], k), strides=(1,) * x.ndim)


def _diagonal(x: Any) -> Any:
    return reduce_sum_p.bind(_kept(x, eq_p), axes=(x.ndim - 1,))


# --- what the decompositions share -----------------------------------------------------------------------------------
def _check(name: str, a: ShapedArray, square: bool = True) -> None:
    if a.dtype not in (dtypes.float32, dtypes.float64):
        raise TypeError(f"{name}: matrices must be float32 or float64, got {a.dtype}. Convert them with .astype.")
    if a.ndim < 2 or (square and a.shape[-1] != a.shape[-2]):
        what = "square matrices in its last two axes" if square else "matrices in its last two axes"
        raise ValueError(f"{name}: the operand must hold {what}, got shape {a.shape}. Reshape it.")


def _batch(prim: Callable[[], Primitive]) -> Callable[..., Any]:
    def rule(args, dims, **params):
        outs = prim().bind(moveaxis(args[0], dims[0], 0), **params)
        return (outs, [0] * len(outs)) if prim().multiple_results else (outs, 0)

    return rule


def _mean(a: np.ndarray) -> np.ndarray:
    """The symmetric part: cholesky and eigh are functions of it alone."""
    return (a + np.swapaxes(a, -1, -2)) / 2


def _each(of: Callable[..., tuple[np.ndarray, ...]], shapes: Callable[..., tuple[ShapedArray, ...]]) -> Any:
    """A reference that fills the results of a matrix LAPACK gives up on with NaN."""

    def reference(a: np.ndarray, **params: Any) -> list[np.ndarray]:
        try:
            return [np.asarray(out) for out in of(a, **params)]
        except np.linalg.LinAlgError:
            outs = [np.full(s.shape, np.nan, s.dtype) for s in shapes(ShapedArray(a.shape, a.dtype), **params)]
            for at in np.ndindex(*a.shape[:-2]) if a.ndim > 2 else ():
                for out, value in zip(outs, reference(a[at], **params)):
                    out[at] = value
            return outs

    return reference


# --- solve -----------------------------------------------------------------------------------------------------------
def _solve_abstract(a: ShapedArray, b: ShapedArray, *, transpose_a: bool) -> ShapedArray:
    _check("solve", a)
    if a.dtype != b.dtype:
        raise TypeError(f"solve: operands must have equal dtypes, got {a.dtype} and {b.dtype}. Use .astype on one.")
    if b.ndim != a.ndim or b.shape[:-1] != a.shape[:-1]:
        raise ValueError(
            f"solve: b must have shape {a.shape[:-1]} + (columns,) for a of shape {a.shape}, got {b.shape}. "
            "Broadcast or reshape it."
        )
    return ShapedArray(b.shape, b.dtype)


def _solve_reference(a: np.ndarray, b: np.ndarray, *, transpose_a: bool) -> np.ndarray:
    a = np.swapaxes(a, -1, -2) if transpose_a else a
    try:
        return np.linalg.solve(a, b)
    except np.linalg.LinAlgError:  # a singular matrix: NaN there, and only there
        x = np.full(b.shape, np.nan, b.dtype)
        for at in np.ndindex(*a.shape[:-2]) if a.ndim > 2 else ():
            x[at] = _solve_reference(a[at], b[at], transpose_a=False)
        return x


def _solve(a: Any, b: Any, transpose_a: bool = False) -> Any:
    return solve_p.bind(a, b, transpose_a=transpose_a)


def _solve_jvp(primals, tangents, *, transpose_a):
    # a x = b: a dx = db - da x
    (a, b), (da, db) = primals, tangents
    x = _solve(a, b, transpose_a)
    right = db
    if type(da) is not Zero:
        moved = _matmul(_mT(da) if transpose_a else da, x)
        right = neg_p.bind(moved) if type(db) is Zero else sub_p.bind(db, moved)
    return x, zero_tangent(x.aval) if type(right) is Zero else _solve(a, right, transpose_a)


def _solve_transpose(ct: Any, a: Any, b: Any, *, transpose_a) -> list[Any]:
    # x = a^-1 b: b_bar = a^-T x_bar
    return [None, _solve(a, ct, not transpose_a)]


def _solve_batch(args, dims, *, transpose_a):
    size = next(x.shape[d] for x, d in zip(args, dims) if d is not None)
    a, b = (
        moveaxis(x, d, 0)
        if d is not None
        else broadcast_in_dim_p.bind(x, shape=(size, *x.shape), broadcast_dimensions=tuple(range(1, x.ndim + 1)))
        for x, d in zip(args, dims)
    )
    return _solve(a, b, transpose_a), 0


# --- cholesky --------------------------------------------------------------------------------------------------------
def _cholesky_abstract(a: ShapedArray) -> ShapedArray:
    _check("cholesky", a)
    return ShapedArray(a.shape, a.dtype)


def _cholesky_jvp(primals, tangents):
    # A = L L^T: with M = L^-1 dA L^-T, dL = L (the lower triangle of M, its diagonal halved)
    (a,), (t,) = primals, tangents
    lower = cholesky_p.bind(a)
    m = _solve(lower, _mT(_solve(lower, _symmetric(t))))
    half = select_n_p.bind(_compared(m, eq_p), _kept(m, gt_p), mul_p.bind(m, full_like(m, 0.5)))
    return lower, _matmul(lower, half)


# --- qr --------------------------------------------------------------------------------------------------------------
def _qr_abstract(a: ShapedArray) -> tuple[ShapedArray, ShapedArray]:
    _check("qr", a, square=False)
    *batch, m, n = a.shape
    k = min(m, n)
    return ShapedArray((*batch, m, k), a.dtype), ShapedArray((*batch, k, n), a.dtype)


def _qr_jvp(primals, tangents):
    # A = Q R, the first k = min(m, n) columns of which, A_k = Q R_k, determine Q: with X = dA_k R_k^-1 and W = the
    # strictly lower triangle of Q^T X less its transpose,
    #     dQ = X - Q (Q^T X - W),    dR = Q^T dA - W R.
    (a,), (t,) = primals, tangents
    q, r = qr_p.bind(a)
    r_k, t_k = (_first_columns(x, q.shape[-1]) for x in (r, t))
    x = _mT(_solve(r_k, _mT(t_k), True))
    overlap = _matmul(_mT(q), x)
    below = _kept(overlap, gt_p)
    w = sub_p.bind(below, _mT(below))
    dq = sub_p.bind(x, _matmul(q, sub_p.bind(overlap, w)))
    return [q, r], [dq, sub_p.bind(_matmul(_mT(q), t), _matmul(w, r))]


# --- eigh ------------------------------------------------------------------------------------------------------------
def _eigh_abstract(a: ShapedArray) -> tuple[ShapedArray, ShapedArray]:
    _check("eigh", a)
    return ShapedArray(a.shape[:-1], a.dtype), ShapedArray(a.shape, a.dtype)


def _inverse_gaps(w: Any, like: Any) -> Any:
    """1 / (w_j - w_i), and 0 on the diagonal."""
    gap, diagonal = sub_p.bind(_columns(w, like), _rows(w, like)), _compared(like, eq_p)
    gap = select_n_p.bind(diagonal, gap, full_like(like, 1))
    return select_n_p.bind(diagonal, div_p.bind(full_like(like, 1), gap), full_like(like, 0))


def _eigh_jvp(primals, tangents):
    # A = V diag(w) V^T: with M = V^T dA V, dw = diag M, dV = V (M_ij / (w_j - w_i) off the diagonal)
    (a,), (t,) = primals, tangents
    w, v = eigh_p.bind(a)
    m = _matmul(_mT(v), _matmul(_symmetric(t), v))
    return [w, v], [_diagonal(m), _matmul(v, mul_p.bind(m, _inverse_gaps(w, m)))]


# --- svd -------------------------------------------------------------------------------------------------------------
def _svd_abstract(a: ShapedArray, *, full_matrices: bool) -> tuple[ShapedArray, ...]:
    _check("svd", a, square=False)
    *batch, m, n = a.shape
    k = min(m, n)
    u, v = (m, n) if full_matrices else (k, k)
    return tuple(ShapedArray((*batch, *rest), a.dtype) for rest in ((m, u), (k,), (v, n)))


def _svd_jvp(primals, tangents, *, full_matrices):
    # A = U diag(s) V^T: with M = U^T dA V and F_ij = 1 / (s_j^2 - s_i^2), 0 on the diagonal,
    #     ds = diag M,    dU = U (F * (M S + S M^T)) + (1 - U U^T) dA V S^-1,
    #     dV = V (F * (S M + M^T S)) + (1 - V V^T) dA^T U S^-1,    S = diag(s).
    (a,), (t,) = primals, tangents
    _check("svd", a.aval, square=False)
    m, n = a.shape[-2:]
    if full_matrices and m != n:
        raise MissingBackendError(
            f"svd: has no derivative in a matrix that is not square with full_matrices=True, got shape {a.shape}. "
            "Pass full_matrices=False."
        )
    u, s, vt = svd_p.bind(a, full_matrices=full_matrices)
    v = _mT(vt)
    middle = _matmul(_mT(u), _matmul(t, v))
    gaps = _inverse_gaps(mul_p.bind(s, s), middle)
    by_column, by_row = (mul_p.bind(middle, spread(s, middle)) for spread in (_columns, _rows))
    du = _matmul(u, mul_p.bind(gaps, add_p.bind(by_column, _mT(by_column))))
    dv = _matmul(v, mul_p.bind(gaps, add_p.bind(by_row, _mT(by_row))))
    if m > n:
        rest = _matmul(t, v)
        rest = sub_p.bind(rest, _matmul(u, _matmul(_mT(u), rest)))
        du = add_p.bind(du, div_p.bind(rest, _columns(s, rest)))
    if n > m:
        rest = _matmul(_mT(t), u)
        rest = sub_p.bind(rest, _matmul(v, _matmul(_mT(v), rest)))
        dv = add_p.bind(dv, div_p.bind(rest, _columns(s, rest)))
    return [u, s, vt], [du, _diagonal(middle), _mT(dv)]


# --- the table -------------------------------------------------------------------------------------------------------
solve_p = Primitive(
    "solve",
    abstract=_solve_abstract,
    reference=_solve_reference,
    cpu=_LAPACK,
    cuda=NO_CUDA,
    jvp=_solve_jvp,
    transpose=_solve_transpose,
    batch=_solve_batch,
)
cholesky_p = Primitive(
    "cholesky",
    abstract=_cholesky_abstract,
    reference=lambda a: _each(lambda a: (np.linalg.cholesky(_mean(a)),), lambda a: (a,))(a)[0],
    cpu=_LAPACK,
    cuda=NO_CUDA,
    jvp=_cholesky_jvp,
    transpose=NOT_LINEAR,
    batch=_batch(lambda: cholesky_p),
)
qr_p = Primitive(
    "qr",
    abstract=_qr_abstract,
    reference=_each(lambda a: tuple(np.linalg.qr(a)), _qr_abstract),
    cpu=_LAPACK,
    cuda=NO_CUDA,
    jvp=_qr_jvp,
    transpose=NOT_LINEAR,
    batch=_batch(lambda: qr_p),
    multiple_results=True,
)
eigh_p = Primitive(
    "eigh",
    abstract=_eigh_abstract,
    reference=_each(lambda a: tuple(np.linalg.eigh(_mean(a))), _eigh_abstract),
    cpu=_LAPACK,
    cuda=NO_CUDA,
    jvp=_eigh_jvp,
    transpose=NOT_LINEAR,
    batch=_batch(lambda: eigh_p),
    multiple_results=True,
)
svd_p = Primitive(
    "svd",
    abstract=_svd_abstract,
    reference=_each(lambda a, full_matrices: tuple(np.linalg.svd(a, full_matrices=full_matrices)), _svd_abstract),
    cpu=_LAPACK,
    cuda=NO_CUDA,
    jvp=_svd_jvp,
    transpose=NOT_LINEAR,
    batch=_batch(lambda: svd_p),
    multiple_results=True,
)
