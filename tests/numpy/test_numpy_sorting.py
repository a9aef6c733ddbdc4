"""fgrad.numpy's sort, argsort, lexsort, searchsorted, running totals and quantiles against NumPy and JAX."""

import warnings

import numpy as np
import pytest
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import lax

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 5, 3)).astype(np.float32)
HOLES = np.where(RNG.random(X.shape) < 0.3, np.float32("nan"), X)
TIES = RNG.integers(0, 3, (6, 7)).astype(np.int32)


@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_sort_and_argsort(axis):
    for x in (X, HOLES, TIES):
        if x.ndim > (axis or 0):
            np.testing.assert_array_equal(fnp.sort(x, axis), np.sort(x, axis))
            np.testing.assert_array_equal(fnp.argsort(x, axis), np.argsort(x, axis, stable=True))
    back = np.argsort(-TIES, axis if axis != 2 else 1, stable=True)
    np.testing.assert_array_equal(fnp.argsort(TIES, axis, descending=True), back)
    assert fnp.argsort(TIES).dtype == np.int32
    np.testing.assert_array_equal(fnp.asarray(TIES).sort(axis), np.sort(TIES, axis))


def test_lexsort_and_search():
    keys = (TIES[0], TIES[1], TIES[2])
    np.testing.assert_array_equal(fnp.lexsort(keys), np.lexsort(keys))
    np.testing.assert_array_equal(fnp.lexsort(TIES), np.lexsort(TIES))
    np.testing.assert_array_equal(fnp.lexsort((TIES, TIES[::-1]), axis=0), np.lexsort((TIES, TIES[::-1]), axis=0))
    for a in (np.sort(X.ravel()), np.sort(HOLES.ravel()), np.sort(TIES.ravel()), np.zeros(0, np.float32), X[0, 0, :1]):
        v = np.concatenate([a.ravel(), np.array([-9, 0, 1, 2, 9], a.dtype)]).reshape(1, -1)
        for side in ("left", "right"):
            want = np.searchsorted(a, v, side=side)
            np.testing.assert_array_equal(fnp.searchsorted(a, v, side=side), want)
            np.testing.assert_array_equal(fgrad.jit(lambda a, v, s=side: fnp.searchsorted(a, v, s))(a, v), want)
    a = TIES.ravel()
    np.testing.assert_array_equal(fnp.searchsorted(a, 1, sorter=fnp.argsort(a)), np.searchsorted(np.sort(a), 1))


@pytest.mark.parametrize("method", ["linear", "lower", "higher", "midpoint", "nearest"])
@pytest.mark.parametrize("axis", [None, 0, (0, 2), -1])
def test_quantiles(method, axis):
    q = np.array([0.0, 0.1, 0.5, 0.77, 1.0])
    for x in (X.astype(np.float64), HOLES.astype(np.float64), np.arange(60).reshape(X.shape)):
        for keepdims in (False, True):
            want = np.quantile(x, q, axis, method=method, keepdims=keepdims)
            np.testing.assert_allclose(fnp.quantile(x, q, axis, method, keepdims), want, rtol=1e-12)
            with warnings.catch_warnings(action="ignore"):  # of lines that hold nothing but NaN
                want = np.nanquantile(x, q, axis, method=method, keepdims=keepdims)
            got = fgrad.jit(lambda x, k=keepdims: fnp.nanquantile(x, q, axis, method, k))(x)
            np.testing.assert_allclose(got, want, rtol=1e-12)
    np.testing.assert_allclose(fnp.percentile(X, 30, axis), np.percentile(X, 30, axis), rtol=1e-5, atol=1e-6)


def test_medians():
    for axis in (None, 1, (1, 2)):
        np.testing.assert_allclose(fnp.median(X, axis), np.median(X, axis), rtol=1e-6)
        np.testing.assert_allclose(fnp.nanmedian(HOLES, axis), np.nanmedian(HOLES, axis), rtol=1e-6)
    assert np.isnan(np.asarray(fnp.median(HOLES))) and fnp.median(np.arange(4)).dtype == np.float64
    assert fnp.median(np.array([1.0, np.inf, np.inf])) == np.inf  # not 0 * inf
    assert np.isnan(np.asarray(fnp.nanmedian(np.full(3, np.nan))))
    slope = fgrad.grad(lambda x: fnp.median(x))(np.array([3.0, 1.0, 2.0, 9.0]))
    assert slope.tolist() == [0.5, 0, 0.5, 0]


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "nancumsum", "nancumprod"])
def test_running_totals(name):
    for axis in (None, 0, 2):
        for x in (X.astype(np.float64), HOLES.astype(np.float64)):
            got = getattr(fnp, name)(x, axis)
            np.testing.assert_allclose(got, getattr(np, name)(x, axis), rtol=1e-12)
    assert getattr(fnp, name)(np.ones(3, bool)).dtype == np.int32
    assert getattr(fnp, name)(np.ones(3, np.int8), dtype="int64").dtype == np.int64
    steps = fgrad.make_jaxpr(lambda x: getattr(fnp, name)(x, 0))(X).jaxpr.eqns
    assert name.removeprefix("nan") in [e.primitive.name for e in steps] and len(steps) < 6


def test_gradients_through_a_sort():
    weights = np.arange(5.0)
    slope = fgrad.grad(lambda x: fnp.sum(fnp.sort(x) * weights))(np.array([3.0, 1.0, 2.0, 9.0, 0.0]))
    assert slope.tolist() == [3, 1, 2, 4, 0]
    per_row = fgrad.vmap(fgrad.grad(lambda x: fnp.sum(fnp.sort(x) ** 2 * weights)))(X[0].T.astype(np.float64))
    want = [2 * row * np.argsort(np.argsort(row)) for row in X[0].T.astype(np.float64)]
    np.testing.assert_allclose(per_row, want)


def test_top_k():
    values, places = lax.top_k(TIES, 4, axis=0)
    want = np.argsort(-TIES, 0, stable=True)[:4]
    np.testing.assert_array_equal(places, want)
    np.testing.assert_array_equal(values, np.take_along_axis(TIES, want, 0))
    assert np.asarray(lax.top_k(np.float32([1, np.nan, 3]), 2)[1]).tolist() == [1, 2]


@cases(
    ("operands", TypeError, "sort: at least one operand is needed, got none. Give the arrays to sort.",
     lambda: lax.sort(())),
    ("shapes", ValueError,
     "sort: operands must have equal shapes, got (2,) and (3,). Broadcast them to one shape.",
     lambda: lax.sort((np.zeros(2), np.zeros(3)))),
    ("keys", ValueError,
     "sort: num_keys must be between 1 and the number of operands, got 3 for 2. Change it.",
     lambda: lax.sort((np.zeros(2), np.zeros(2)), num_keys=3)),
    ("axis", ValueError,
     "sort: axis must be in [-1, 1) for an operand of 1 dimension, got 1. Change the axis.",
     lambda: lax.sort(np.zeros(2), 1)),
    ("top_k, k", TypeError, "top_k: k must be an integer, got 1.5 of type float. Use int(...).",
     lambda: lax.top_k(np.zeros(2), 1.5)),
    ("scalar", ValueError,
     "sort: axis must name an axis of the operand, which is a scalar and has none, got -1. Reshape it.",
     lambda: fnp.sort(1.0)),
    ("kind", TypeError,
     "sort: kind and order must be None, got kind='heapsort' and order=None: there is one algorithm, which is stable, "
     "and there are no named fields. Leave them out.", lambda: fnp.sort(X, kind="heapsort")),
    ("top_k", ValueError, "top_k: k must be in [0, 3], the size of axis 2 of shape (4, 5, 3), got 4. Change k.",
     lambda: lax.top_k(X, 4)),
    ("top_k complex", TypeError,
     "top_k: operand must be real numbers or bools, got complex64. Take the real part, or abs.",
     lambda: lax.top_k(np.zeros(3, np.complex64), 1)),
    ("cumsum of bool", TypeError, "cumsum: operand must be number, got bool. Convert it with .astype.",
     lambda: lax.cumsum(np.ones(3, bool))),
    ("side", ValueError, "searchsorted: side must be 'left' or 'right', got 'up'. Choose one of them.",
     lambda: fnp.searchsorted(X[0, 0], 1, "up")),
    ("search in a matrix", ValueError,
     "searchsorted: a must have one axis, got shape (5, 3). Use vmap for many at once.",
     lambda: fnp.searchsorted(X[0], 1)),
    ("q", ValueError, "quantile: q must be in [0, 1], got 1.5. Change q.", lambda: fnp.quantile(X, 1.5)),
    ("q of two axes", ValueError, "quantile: q must be a scalar or have one axis, got shape (1, 1). Reshape it.",
     lambda: fnp.quantile(X, np.zeros((1, 1)))),
    ("method", ValueError,
     "percentile: method must be one of 'linear', 'lower', 'higher', 'midpoint', 'nearest', got 'best'. Choose one.",
     lambda: fnp.percentile(X, 5, method="best")),
    ("nothing", ValueError,
     "median: nothing to order, got size 0 for axes (0,) of shape (0,). Reduce others.",
     lambda: fnp.median(np.zeros(0))),
    ("complex", TypeError,
     "median: needs an order, got complex64, whose numbers have none. Use the real part, or abs.",
     lambda: fnp.median(np.zeros(3, np.complex64))),
)  # fmt: skip
def test_errors(error, text, f):
    check(error, text, f)


@pytest.mark.oracle("jax")
def test_equal_to_jax(jax):
    jnp = jax.numpy
    zeros = np.array([0.0, -0.0, np.nan, 1.0, -0.0, 0.0, -np.nan, -1.0], np.float32)
    for x in (X, HOLES, TIES, zeros, zeros.astype(np.float16), (X + 1j * HOLES).astype(np.complex64)):
        theirs = np.asarray(jax.lax.sort(jnp.asarray(x)))
        ours = np.asarray(lax.sort(x))
        assert ours.tobytes() == theirs.tobytes()
        ties = np.arange(x.size, dtype=np.int32).reshape(x.shape)
        for ours, theirs in zip(
            lax.sort((x, x[..., ::-1], ties), num_keys=2), jax.lax.sort((x, x[..., ::-1], ties), num_keys=2)
        ):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(fnp.argsort(x, descending=True), jnp.argsort(x, descending=True))
        if x.dtype.kind != "c" and x.ndim > 1:  # JAX's top_k orders -0 before 0, and NaNs by their sign
            for ours, theirs in zip(lax.top_k(x, 3), jax.lax.top_k(jnp.asarray(x), 3)):
                np.testing.assert_array_equal(ours, theirs)


# of (the modules lax and numpy, x): every one is differentiable in x [4, 5, 3]
DIFFERENTIABLE = {
    "sort": lambda lax, np, x: np.sort(x, 1),
    "sort descending": lambda lax, np, x: np.sort(x, 0, descending=True),
    "sort_key_val": lambda lax, np, x: lax.sort_key_val(x, np.sin(x), 1)[1],
    "sort by two": lambda lax, np, x: lax.sort((np.round(x), x, x * x), num_keys=2)[2],
    "top_k": lambda lax, np, x: lax.top_k(x, 2)[0],
    "taken by argsort": lambda lax, np, x: np.take_along_axis(x * x, np.argsort(x, 1), 1),
    "median": lambda lax, np, x: np.median(x, (0, 2)),
    "quantile": lambda lax, np, x: np.quantile(x, np.array([0.3, 0.9], x.dtype), 1),
    "quantile in q": lambda lax, np, x: np.quantile(x, 0.5 + 0.1 * np.tanh(x[0, 0, 0])),
    "percentile": lambda lax, np, x: np.percentile(x, 41.0, 0, method="midpoint"),
    "nanquantile": lambda lax, np, x: np.nanquantile(np.where(x > 1, np.nan, x), 0.6, 1),
    "numpy's cumsum": lambda lax, np, x: np.cumsum(x, 1),
    "numpy's cumprod": lambda lax, np, x: np.cumprod(x),
} | {
    f"{name} {axis} {reverse}": lambda lax, np, x, n=name, a=axis, r=reverse: getattr(lax, n)(x, a, r)
    for name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
    for axis, reverse in ((0, False), (1, True))
}


def weights(shape):
    return np.cos(np.arange(float(np.prod(shape)))).reshape(shape)


@pytest.mark.oracle("jax")
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_equal_to_jax(jax, name):
    """Values, gradients, tangents, Hessian-vector products, eager, jitted and over each axis."""
    x, t = np.random.default_rng(1).standard_normal((2, 4, 5, 3))

    def checks(lib, lax, np):
        def f(x):
            return DIFFERENTIABLE[name](lax, np, x)

        def loss(x):
            out = f(x)
            return np.sum(np.sin(out) * weights(out.shape))

        yield f(x)
        yield lib.jit(lib.grad(loss))(x)
        yield lib.jvp(f, (x,), (t,))[1]
        yield lib.jvp(lib.grad(loss), (x,), (t,))[1]
        stack = np.stack([x, t, x - t])
        for axis in (0, 1, 3):
            yield lib.vmap(f, axis)(np.moveaxis(stack, 0, axis))
            yield lib.vmap(lib.grad(loss), axis)(np.moveaxis(stack, 0, axis))

    for ours, theirs in zip(checks(fgrad, lax, fnp), checks(jax, jax.lax, jax.numpy), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", [(4096, 10), (3, 700, 33), (5, 64), (1, 7), (2, 65)])
@pytest.mark.parametrize("reverse", [False, True])
def test_running_totals_of_short_lines_add_in_order(shape, reverse):
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    got = fgrad.jit(lambda x: fgrad.lax.cumsum(x, axis=x.ndim - 1, reverse=reverse))(x)
    want = np.cumsum(x[..., ::-1], -1)[..., ::-1] if reverse else np.cumsum(x, -1)
    np.testing.assert_array_equal(np.asarray(got), want)
