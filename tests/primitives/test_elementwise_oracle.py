"""Element-wise functions against JAX: values in every dtype JAX has, gradients and second derivatives in float64."""

import importlib.util

import numpy as np
import pytest

import fgrad
from fgrad import lax
from fgrad.testing.samples.elementwise_table import FLOATS, ROWS, label

pytestmark = pytest.mark.oracle

# JAX's own deviations: its log-gamma family uses other approximations, good to fewer digits.
LOOSE = {
    "lgamma", "digamma", "polygamma", "zeta", "igamma", "igammac", "igamma_grad_a", "random_gamma_grad", "betainc",
    "bessel_i0e", "bessel_i1e", "erfc",
}  # fmt: skip
EPS = {2: 2e-2, 4: 1e-5, 8: 1e-12}


@pytest.fixture(autouse=True)
def _scipy_where_needed(request):
    row = getattr(request.node, "callspec", None) and request.node.callspec.params["row"]
    if row and row.scipy and importlib.util.find_spec("scipy") is None:
        pytest.skip("scipy is not installed")


def agree(row, got, want, tolerance=None):
    got, want = np.asarray(got), np.asarray(want)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    if got.dtype.kind in "iub":
        np.testing.assert_array_equal(got, want)
        return
    tolerance = tolerance or EPS[got.dtype.itemsize]
    tolerance *= 100 if row.name in LOOSE else 1
    np.testing.assert_allclose(got.astype(float), want.astype(float), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_values(row, jax):
    for dtype in row.dtypes:
        if dtype in FLOATS[:2] and row.name in LOOSE | {"nextafter"}:  # JAX computes these in 16 bits, or not at all
            continue
        xs = row.draw((3, 5), dtype)
        if (row.name == "rem" and dtype.itemsize == 2) or (row.name == "abs" and dtype.kind == "u"):
            continue  # the first is discontinuous, the second refused by JAX
        agree(row, row.function(*xs), row.make(jax.lax)(*map(jax.numpy.asarray, xs)))


# (JAX has no derivative of zeta)
@pytest.mark.parametrize("row", [r for r in ROWS if r.derivative and r.name != "zeta"], ids=label)
def test_gradients(row, jax):
    xs = row.draw((3, 5))
    ct = np.random.default_rng(5).standard_normal((3, 5))
    theirs = row.make(jax.lax)

    def our_gradient(*xs):
        return fgrad.vjp(row.function, *xs)[1](ct)

    def their_gradient(*xs):
        return jax.vjp(theirs, *xs)[1](ct)

    for got, want in zip(our_gradient(*xs), their_gradient(*xs)):
        agree(row, got, want, 1e-10)
    (_, ours), (_, jaxs) = fgrad.jvp(our_gradient, xs, xs), jax.jvp(their_gradient, xs, xs)
    for got, want in zip(ours, jaxs):
        agree(row, got, want, 1e-8)


@pytest.mark.parametrize("row", [r for r in ROWS if r.kinds != "f"], ids=label)
def test_extreme_integers(row, jax):
    for dtype in row.dtypes:
        if dtype.kind in "iu" and not (row.name == "abs" and dtype.kind == "u"):  # which JAX refuses
            info = np.iinfo(dtype)
            ends = np.array([info.min, info.min + 1, 0, 1, 2, 7, 31, 32, 64, info.max - 1, info.max], dtype)
            grid = np.meshgrid(*[ends] * len(row.domains))
            agree(row, row.function(*grid), row.make(jax.lax)(*map(jax.numpy.asarray, grid)))


@pytest.mark.parametrize("row", [r for r in ROWS if "f" in r.kinds and not r.scipy], ids=label)
def test_extreme_floats(row, jax):
    ends = np.array([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.5, 2.5, -2.5, 1e300, -1e300, np.inf, -np.inf, np.nan])
    grid = np.meshgrid(*[ends] * len(row.domains))
    agree(row, row.function(*grid), row.make(jax.lax)(*map(jax.numpy.asarray, grid)))


def test_select(jax):
    rng = np.random.default_rng(0)
    which, cases = np.int32(rng.integers(0, 3, (2, 3))), list(rng.standard_normal((3, 2, 3)))
    np.testing.assert_array_equal(lax.select_n(which, *cases), jax.lax.select_n(which, *cases))
    np.testing.assert_array_equal(lax.select(which == 0, *cases[:2]), jax.lax.select(which == 0, *cases[:2]))
