"""igamma's derivative in a: against 60-digit arithmetic, differences, JAX; where the methods meet, and edges."""

import ml_dtypes
import numpy as np
import pytest

import fgrad
from fgrad import lax
from fgrad.errors import MissingBackendError, MissingDependencyError
from fgrad.kernels.reference import gamma_derivative

# a, x, dP/da, -(dP/da)/(dP/dx): fourth-order differences of P at step a 1e-15, in mpmath with 60 digits
# (mpmath.gammainc(a, 0, x, regularized=True)), rounded to 17.
PRECISE = [
    (1e-10, 1e-10, -22.448635214909295, 22.448635267548281),
    (1e-06, 30, -3.0215762420852379e-15, 968696.07733548137),
    (0.01, 1e-08, -14.939901911588275, 1.7859795472716309e-5),
    (0.1, 0.5, -0.60909197721112181, 5.1196915672094697),
    (0.1, 5, -0.0017539473155578875, 10.541505299462589),
    (0.5, 1e-10, -0.00026023065019619645, 4.6124681811001936e-9),
    (0.5, 0.5, -0.64720035237775388, 1.3373525943353347),
    (0.5, 1.6, -0.20708287663628427, 2.2995893463472515),
    (1, 2.5, -0.14750938839438613, 1.797032233261672),
    (1.5, 2, -0.27743356420871041, 1.2846295506718858),
    (3, 0.5, -0.028520235878828942, 0.37617535631048192),
    (3, 50, -7.5520569174463671e-19, 3.1324153001670739),
    (10, 10, -0.12721482320991924, 1.0168234904310751),
    (10, 11.5, -0.10699720869213529, 1.0895356866189511),
    (10, 40, -5.7629209599178885e-9, 1.877781474720449),
    (50, 20, -1.1690273381623858e-8, 0.61284322044391147),
    (50, 50, -0.056513127523360551, 1.0033399232497838),
    (50, 52, -0.053294552642484044, 1.023144349368284),
    (200, 150, -1.7319071092704678e-5, 0.86376374779075765),
    (200, 260, -1.3284959110062084e-5, 1.1378576011869399),
    (999, 990, -0.012173465162397125, 0.99564800300817157),
    (999, 1001, -0.012585222081728238, 1.00116735075784),
    (1001, 1000, -0.012610407739612771, 0.99966676665713096),
    (1001, 1003, -0.012572716310894597, 1.0011650193521732),
    (1001, 500, -1.1449166180671901e-86, 0.69287468919824551),
    (1500, 1300, -4.7932297485521763e-9, 0.93025877015673926),
    (2000, 2500, -3.74837040696342e-26, 1.1158105841426322),
    (10000, 10000, -0.0039894560494536686, 1.0000166668333238),
    (10000, 10300, -4.7684995140463611e-5, 1.0148691241755485),
]

EDGES = np.array([-2.0, -0.0, 0.0, 1e-300, 1e-10, 0.5, 1.0, 3.0, 20.0, 100.0, np.inf, np.nan])


@pytest.fixture
def special():
    return pytest.importorskip("scipy.special")


def relative(got, want):
    return np.max(np.abs(np.asarray(got) / want - 1))


def test_against_high_precision(special):
    a, x, grad, sample = np.array(PRECISE).T
    assert relative(lax.igamma_grad_a(a, x), grad) < 1e-12
    assert relative(lax.random_gamma_grad(a, x), sample) < 1e-13


def test_against_differences(special):
    a, z = np.meshgrid(np.geomspace(0.05, 5000, 40), np.linspace(-2, 2, 9))
    x = a * np.maximum(1 + z / np.sqrt(a) / 3, 0.1)
    h = 1e-3 * np.minimum(a, np.sqrt(a))
    coarse, fine = ((special.gammainc(a + s, x) - special.gammainc(a - s, x)) / (2 * s) for s in (2 * h, h))
    assert relative(lax.igamma_grad_a(a, x), (4 * fine - coarse) / 3) < 1e-9


@pytest.mark.parametrize("below", [True, False])
def test_the_integral_continues_series_and_fraction(special, below, monkeypatch):
    rng = np.random.default_rng(0)
    a = rng.uniform(1000, 1400, 300)
    x = a * (rng.uniform(0.3, 1, 300) if below else rng.uniform(1.01, 2, 300))
    by_integral = gamma_derivative.random_gamma_grad(special, a, x)
    monkeypatch.setattr(gamma_derivative, "_LARGE", np.inf)
    assert relative(by_integral, gamma_derivative.random_gamma_grad(special, a, x)) < 1e-12


def test_large_a_is_the_normal_limit(special):
    """x = a + z sqrt(a) + (z^2 - 1)/3 + O(1/sqrt(a)) at the quantile of z, so dx/da = 1 + z/(2 sqrt(a)) + O(a^-3/2)."""
    for a in (1e8, 1e12, 1e16, 1e300):
        z = np.array([-3.0, -1.0, 0.0, 1.0, 3.0])
        x = a + z * np.sqrt(a) + (z * z - 1) / 3
        z = (x - a) / np.sqrt(a) - (z * z - 1) / 3 / np.sqrt(a)  # after the rounding of x
        assert relative(lax.random_gamma_grad(np.full(5, a), x), 1 + z / (2 * np.sqrt(a))) < 20 * a**-1.5 + 1e-13


def test_edges(special):
    a, x = np.meshgrid(EDGES, EDGES, indexing="ij")
    for f in (lax.igamma_grad_a, lax.random_gamma_grad):
        got = np.asarray(f(a, x))
        defined = (a > 0) & (x >= 0) & np.isfinite(x) & (np.isfinite(a) | (x == 0))
        np.testing.assert_array_equal(np.isfinite(got), defined)
        assert np.all(got[defined & (x == 0)] == 0)


def test_narrow_floats_are_rounded_once(special):
    a, x = np.array([0.5, 1.5, 3.0, 100.0]), np.array([2.0, 1.0, 3.5, 90.0])  # exact in each dtype
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32):
        for f in (lax.igamma_grad_a, lax.random_gamma_grad):
            got, want = f(a.astype(dtype), x.astype(dtype)), np.asarray(f(a, x)).astype(dtype)
            assert got.dtype == dtype
            np.testing.assert_array_equal(np.asarray(got).astype(float), want.astype(float))


def test_gradient_of_igamma_and_of_a_sample(special):
    a, x = np.float64(2.5), np.float64(3.0)
    da, dx = fgrad.grad(lax.igamma, argnums=(0, 1))(a, x)
    assert da == lax.igamma_grad_a(a, x)
    assert fgrad.grad(fgrad.jit(lax.igammac))(a, x) == -da
    assert relative(lax.random_gamma_grad(a, x), -np.asarray(da) / np.asarray(dx)) < 1e-14


@pytest.mark.parametrize("name", ["igamma_grad_a", "random_gamma_grad"])
@pytest.mark.parametrize("operand", [0, 1])
def test_no_derivative(special, name, operand):
    with pytest.raises(MissingBackendError, match=f"{name}: has no jvp rule, it is itself "):
        fgrad.grad(getattr(lax, name), argnums=operand)(1.5, 2.0)


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    with pytest.raises(MissingDependencyError, match=r"igamma_grad_a: needs SciPy, got none installed\. Run: pip"):
        lax.igamma_grad_a(1.5, 2.0)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["igamma_grad_a", "random_gamma_grad"])
def test_edges_as_in_jax(jax, special, name):
    # JAX loses digits at a = 1e-300, and for larger a and x where dP/dx underflows
    a, x = np.meshgrid(EDGES[EDGES != 1e-300], EDGES, indexing="ij")
    want = np.asarray(getattr(jax.lax, name)(jax.numpy.asarray(a), jax.numpy.asarray(x)))
    np.testing.assert_allclose(getattr(lax, name)(a, x), want, rtol=1e-9, atol=1e-290)


@pytest.mark.oracle
def test_gradients_as_in_jax(jax, special):
    rng = np.random.default_rng(0)
    a, x = rng.uniform(0.1, 30, (2, 200))
    ct = rng.standard_normal(200)
    for name in ("igamma", "igammac"):
        got = fgrad.vjp(getattr(lax, name), a, x)[1](ct)
        want = jax.vjp(getattr(jax.lax, name), jax.numpy.asarray(a), jax.numpy.asarray(x))[1](ct)
        for g, w in zip(got, want):
            np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-14)
