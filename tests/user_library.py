"""A user's library: primitives defined with fgrad.extend, outside the package, that the tests of it share."""

import numpy as np

import fgrad.numpy as fnp
from fgrad import extend

# --- element-wise ----------------------------------------------------------------------------------------------------
softsign = extend.elementwise(
    "tests.softsign",
    numpy=lambda x: x / (1 + np.abs(x)),
    scalar=lambda s, x: s.div(x, s.add(s.const(1, x.dtype), s.abs(x))),
    derivatives=lambda t, ans, x: t / (1 + abs(x)) ** 2,
)


def _leaky_numpy(x, *, slope=0.25):
    """max(x, slope x) for slopes up to 1."""
    return np.maximum(x, x.dtype.type(slope) * x)


leaky = extend.elementwise(
    "tests.leaky",
    numpy=_leaky_numpy,
    scalar=lambda s, x, slope: s.max(x, s.mul(s.const(slope, x.dtype), x)),
    derivatives=lambda t, ans, x, slope: t * fnp.where(x > 0, 1, slope),
)

# no scalar rule: NumPy runs it in compiled programs too
log_add = extend.elementwise(
    "tests.log_add",
    numpy=np.logaddexp,
    derivatives=(lambda t, ans, x, y: t * fnp.exp(x - ans), lambda t, ans, x, y: t * fnp.exp(y - ans)),
)

near = extend.elementwise(
    "tests.near",
    numpy=lambda x, y: np.abs(x - y) < 1,
    scalar=lambda s, x, y: s.cmp("lt", s.abs(s.sub(x, y)), s.const(1, x.dtype)),
    domain="real",
    result=bool,
)


# --- a kernel: x = T⁻¹ b for the tridiagonal matrix T of three bands --------------------------------------------------
def thomas(out, lower, diag, upper, b):
    n = b.size
    c = np.empty_like(upper)
    c[0] = upper[0] / diag[0]
    out[0] = b[0] / diag[0]
    for i in range(1, n):
        pivot = diag[i] - lower[i] * c[i - 1]
        c[i] = upper[i] / pivot
        out[i] = (b[i] - lower[i] * out[i - 1]) / pivot
    for i in range(n - 2, -1, -1):
        out[i] -= c[i] * out[i + 1]


def dense(lower, diag, upper, b):
    matrix = np.diag(diag) + np.diag(lower[1:], -1) + np.diag(upper[:-1], 1)
    return np.linalg.solve(matrix.astype(np.float64), b.astype(np.float64)).astype(b.dtype)


def down(x):
    """The neighbour before: 0, x[0], x[1], ..."""
    return fnp.concatenate([fnp.zeros_like(x[:1]), x[:-1]])


def up(x):
    return fnp.concatenate([x[1:], fnp.zeros_like(x[:1])])


def system_type(lower, diag, upper, b):
    if not lower.shape == diag.shape == upper.shape == b.shape or b.ndim != 1 or b.size == 0:
        shapes = (lower.shape, diag.shape, upper.shape, b.shape)
        raise ValueError(f"tests.solve: needs four vectors of one size, got {shapes}. Pad the bands.")
    return b


TRIDIAGONAL = dict(
    numpy=dense,
    abstract=system_type,
    linear=(3,),
    derivatives=(
        lambda t, x, lower, diag, upper, b: -solve(lower, diag, upper, t * down(x)),
        lambda t, x, lower, diag, upper, b: -solve(lower, diag, upper, t * x),
        lambda t, x, lower, diag, upper, b: -solve(lower, diag, upper, t * up(x)),
        None,
    ),
    transpose=lambda ct, lower, diag, upper, b: (None, None, None, solve(down(upper), diag, up(lower), ct)),
)
solve = extend.primitive("tests.solve", kernel=thomas, **TRIDIAGONAL)
solve_on_host = extend.primitive("tests.solve_on_host", **TRIDIAGONAL)


def system(n=5, dtype=np.float64):
    rng = np.random.default_rng(0)
    lower, upper, b = rng.standard_normal((3, n))
    return [fnp.asarray(v.astype(dtype)) for v in (lower, 4 + rng.random(n), upper, b)]
