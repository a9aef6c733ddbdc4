"""fgrad.numpy.linalg against NumPy, JAX, and the identities of the decompositions."""

import numpy as np
import pytest
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad.errors import MissingBackendError

RNG = np.random.default_rng(0)
A = RNG.standard_normal((2, 4, 4)) + 3 * np.diag(np.arange(4.0))
TALL, WIDE = RNG.standard_normal((2, 5, 3)), RNG.standard_normal((2, 3, 5))
SPD = A @ np.swapaxes(A, 1, 2) + np.eye(4)
B = RNG.standard_normal((2, 4, 3))


def test_decompositions():
    lower = fnp.linalg.cholesky(SPD)
    np.testing.assert_allclose(lower, np.linalg.cholesky(SPD), rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(fnp.linalg.cholesky(SPD, upper=True), np.swapaxes(lower, 1, 2))
    np.testing.assert_array_equal(fnp.linalg.cholesky(np.triu(2 * SPD) - SPD * np.eye(4)), lower)  # the symmetric part
    for x in (A, TALL, WIDE):
        q, r = fnp.linalg.qr(x)
        np.testing.assert_allclose(q @ r, x, atol=1e-13)
        np.testing.assert_array_equal(fnp.linalg.qr(x, "r"), r)
        for full in (False, True):
            u, s, vt = (np.asarray(part) for part in fnp.linalg.svd(x, full))
            k = s.shape[-1]
            np.testing.assert_allclose(u[..., :k] * s[:, None] @ vt[:, :k], x, atol=1e-13)
            assert u.shape[-1] == (x.shape[-2] if full else k)
        np.testing.assert_allclose(fnp.linalg.svd(x, compute_uv=False), s, rtol=1e-12)
    w, v = fnp.linalg.eigh(SPD)
    np.testing.assert_allclose(SPD @ v, v * fnp.expand_dims(w, 1), atol=1e-12)


def test_solve_and_inv():
    np.testing.assert_allclose(fnp.linalg.solve(A, B), np.linalg.solve(A, B), rtol=1e-12)
    np.testing.assert_allclose(fnp.linalg.solve(A, B[0, :, 0]), np.linalg.solve(A, B[0, :, :1])[..., 0], rtol=1e-12)
    np.testing.assert_allclose(fnp.linalg.solve(A[0], B), np.linalg.solve(A[0], B), rtol=1e-12)
    np.testing.assert_allclose(fgrad.jit(fnp.linalg.inv)(A), np.linalg.inv(A), rtol=1e-10)
    assert fnp.linalg.inv(np.eye(2, dtype=np.int32)).dtype == np.float32


def test_where_lapack_gives_up():
    """NaN for that matrix of the batch, and only for it."""
    pair = np.stack([np.eye(2), np.zeros((2, 2))])
    assert np.isnan(np.asarray(fnp.linalg.solve(pair, np.ones((2, 2, 1))))).all((1, 2)).tolist() == [False, True]
    assert np.isnan(np.asarray(fnp.linalg.cholesky(np.stack([np.eye(2), -np.eye(2)])))).all((1, 2)).tolist() == [0, 1]
    assert np.isnan(np.asarray(fnp.linalg.inv(np.zeros((2, 2))))).all()
    assert np.isnan(np.asarray(fgrad.grad(lambda a: fnp.sum(fnp.linalg.inv(a)))(np.zeros((2, 2))))).all()


# of (the module numpy, x)
DIFFERENTIABLE = {
    "cholesky": (lambda np, x: np.linalg.cholesky(x @ np.swapaxes(x, -1, -2) + np.eye(4)), A),
    "qr": (lambda np, x: sum(np.linalg.qr(x)[i] for i in (0, 1)), A),
    "qr, tall": (lambda np, x: np.linalg.qr(x)[0], TALL),
    "eigenvalues": (lambda np, x: np.linalg.eigh(x + np.swapaxes(x, -1, -2))[0], A),
    "eigenvectors": (lambda np, x: np.linalg.eigh(x + np.swapaxes(x, -1, -2))[1], A),
    "svd, square": (lambda np, x: sum(np.linalg.svd(x)[i] for i in (0, 2)), A),
    "svd, tall": (lambda np, x: np.linalg.svd(x, full_matrices=False)[0], TALL),
    "svd, wide": (lambda np, x: np.linalg.svd(x, full_matrices=False)[2], WIDE),
    "singular values": (lambda np, x: np.linalg.svd(x, compute_uv=False), WIDE),
    "solve": (lambda np, x: np.linalg.solve(x, np.sin(x)), A),
    "solve for a vector": (lambda np, x: np.linalg.solve(x[0], x[1, 0]), A),
    "inv": (lambda np, x: np.linalg.inv(x), A),
    "norm": (lambda np, x: np.linalg.norm(x, axis=-1), A),
    "norm of order 3": (lambda np, x: np.linalg.norm(x, 3, axis=1), A),
    "norm of matrices": (lambda np, x: np.linalg.norm(x, 1, axis=(1, 2)), A),
    "trace of a product": (lambda np, x: np.trace(x @ x, axis1=1, axis2=2), A),
}


def weights(shape):
    return np.cos(np.arange(float(np.prod(shape)))).reshape(shape)


@pytest.mark.oracle("jax")
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_equal_to_jax(jax, name):
    f, x = DIFFERENTIABLE[name]
    t = weights(x.shape)

    def checks(lib, np):
        def loss(x):
            out = f(np, x)
            return np.sum(np.sin(out) * weights(out.shape))

        yield lib.jit(lambda x: f(np, x))(x)
        yield lib.jvp(lambda x: f(np, x), (x,), (t,))[1]
        yield lib.jit(lib.grad(loss))(x)
        yield lib.jvp(lib.grad(loss), (x,), (t,))[1]
        for axis in (0, 1, 3):
            yield lib.vmap(lib.grad(loss), axis)(np.stack([x, x + 0.01 * t], axis))

    for ours, theirs in zip(checks(fgrad, fnp), checks(jax, jax.numpy), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-9)


def test_derivative_of_a_wide_qr():
    """Which JAX has not: R^T R = A^T A, so the gradient of |R|^2 is 2 A; and Q is that of the first columns."""
    x = WIDE[0]
    np.testing.assert_allclose(fgrad.grad(lambda x: fnp.sum(fnp.linalg.qr(x)[1] ** 2))(x), 2 * x, atol=1e-12)
    weights = np.arange(9.0).reshape(3, 3)
    slope = fgrad.grad(lambda x: fnp.sum(fnp.linalg.qr(x)[0] * weights))(x)
    first = fgrad.grad(lambda x: fnp.sum(fnp.linalg.qr(x)[0] * weights))(x[:, :3])
    np.testing.assert_allclose(slope, np.pad(first, ((0, 0), (0, 2))), atol=1e-12)


@cases(
    ("no matrix", ValueError,
     "cholesky: the operand must hold square matrices in its last two axes, got shape (3,). Reshape it.",
     lambda: fnp.linalg.cholesky(np.ones(3))),
    ("not square", ValueError,
     "solve: the operand must hold square matrices in its last two axes, got shape (3, 2). Reshape it.",
     lambda: fnp.linalg.solve(np.ones((3, 2)), np.ones(3))),
    ("rows", ValueError,
     "solve: b must have shape (3,) + (columns,) for a of shape (3, 3), got (2, 1). Broadcast or reshape it.",
     lambda: fnp.linalg.solve(np.eye(3), np.ones(2))),
    ("batches", ValueError,
     "solve: shapes must broadcast (aligned at the last axis, sizes equal or 1), got (2,) and (3,). Reshape one, or "
     "insert axes of size 1 with x[:, None].", lambda: fnp.linalg.solve(A, np.ones((3, 4, 1)))),
    ("complex", TypeError,
     "eigh: matrices must be float32 or float64, got complex128. Convert them with .astype.",
     lambda: fnp.linalg.eigh(np.eye(2) + 0j)),
    ("mode", ValueError, "qr: mode must be 'reduced' or 'r', got 'complete'. Choose one of them.",
     lambda: fnp.linalg.qr(np.eye(2), "complete")),
    ("derivative of full matrices", MissingBackendError,
     "svd: has no derivative in a matrix that is not square with full_matrices=True, got shape (5, 3). Pass "
     "full_matrices=False.", lambda: fgrad.grad(lambda x: fnp.sum(fnp.linalg.svd(x)[0]))(TALL[0])),
)  # fmt: skip
def test_errors(error, text, f):
    check(error, text, f)
