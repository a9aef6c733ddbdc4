"""Random vectors and matrices: multivariate_normal and orthogonal."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core.array import Array
from fgrad.core.static import choice
from fgrad.higher_order.jit import jit
from fgrad.lax.common import canonical_shape
from fgrad.numpy import linalg
from fgrad.numpy.contraction import matmul
from fgrad.numpy.creation import diagonal
from fgrad.numpy.promotion import cast, common_shape, expand_to, promote_dtypes_inexact
from fgrad.numpy.shaping import matrix_transpose
from fgrad.random.arguments import Shape, check_key, matrix_dtype, real, shape_for
from fgrad.random.generator import normal_of


def orthogonal(key: Any, n: int, shape: Any = (), dtype: Any = None, m: int | None = None) -> Array:
    """Orthogonal matrices, uniform over the group: [*shape, n, m], with m = n unless given.

    Q of the QR decomposition of a normal matrix, the signs of its columns chosen such that R's diagonal is positive; of
    n < m the rows are orthonormal, else the columns.

    F. Mezzadri, *How to generate random matrices from the classical compact groups*, 2007,
    https://arxiv.org/abs/math-ph/0609050; https://docs.jax.dev/en/latest/_autosummary/jax.random.orthogonal.html

    >>> import fgrad, fgrad.numpy as fnp
    >>> q = fgrad.random.orthogonal(fgrad.random.key(0), 3)
    >>> bool(fnp.allclose(q @ q.T, fnp.eye(3), atol=1e-5))
    True
    """
    key = check_key("orthogonal", key)
    rows, columns = canonical_shape("orthogonal", (n, n if m is None else m))
    shape = canonical_shape("orthogonal", shape)
    return _orthogonal(key, rows, columns, shape, matrix_dtype("orthogonal", dtype))


@functools.partial(jit, static_argnums=(1, 2, 3, 4))
def _orthogonal(key: Array, n: int, m: int, shape: Shape, dtype: np.dtype) -> Array:
    q, r = linalg.qr(normal_of(key, (*shape, max(n, m), min(n, m)), dtype))
    signs = lax.sign(diagonal(r, 0, -2, -1))
    q = lax.mul(q, expand_to(lax.expand_dims(signs, (signs.ndim - 1,)), q.shape))
    return matrix_transpose(q) if n < m else q


def multivariate_normal(
    key: Any, mean: Any, cov: Any, shape: Any = None, dtype: Any = None, method: str = "cholesky"
) -> Array:
    """mean + F z, z standard normal and F F^T = cov: [*shape, n].

    Args:
        mean: array [*batch, n].
        cov: array [*batch, n, n], positive definite.
        shape: to which the batches broadcast; by default, that of the batches.
        dtype: floating-point; that of mean and cov by default.
        method: how F is found: 'cholesky', or 'eigh' or 'svd', which take singular matrices too.

    https://docs.jax.dev/en/latest/_autosummary/jax.random.multivariate_normal.html
    """
    name = "multivariate_normal"
    key = check_key(name, key)
    mean, cov = promote_dtypes_inexact(name, real(name, "mean", mean), real(name, "cov", cov))
    dtype = matrix_dtype(name, mean.dtype if dtype is None else dtype)
    mean, cov = cast(name, mean, dtype), cast(name, cov, dtype)
    choice(name, "method", method, ("cholesky", "eigh", "svd"))
    if mean.ndim < 1 or cov.ndim < 2 or cov.shape[-2:] != (mean.shape[-1],) * 2:
        raise ValueError(
            f"{name}: mean must have shape (..., n) and cov (..., n, n), got {mean.shape} and {cov.shape}. "
            "Reshape them."
        )
    batch = common_shape(name, [mean.shape[:-1], cov.shape[:-2]])
    shape = shape_for(name, batch if shape is None else shape, batch)
    return _multivariate_normal(key, mean, cov, shape, method)


@functools.partial(jit, static_argnums=(3, 4))
def _multivariate_normal(key: Array, mean: Array, cov: Array, shape: Shape, method: str) -> Array:
    if method == "cholesky":
        factor = linalg.cholesky(cov)
    else:
        if method == "eigh":
            scales, vectors = linalg.eigh(cov)
        else:
            vectors, scales, _ = linalg.svd(cov)
        roots = lax.sqrt(lax.max(scales, lax.full_like(scales, 0)))  # rounding makes zeros negative
        factor = lax.mul(vectors, expand_to(lax.expand_dims(roots, (roots.ndim - 1,)), vectors.shape))
    z = normal_of(key, (*shape, mean.shape[-1]), mean.dtype)
    moved = matmul(factor, lax.expand_dims(z, (z.ndim,)))
    return lax.add(expand_to(mean, z.shape), lax.squeeze(moved, (z.ndim,)))
