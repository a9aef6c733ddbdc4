"""Transformations nest in any order, and inner functions may close over outer tracers."""

import itertools
import random

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad.core.jaxpr import eval_jaxpr

X = np.linspace(-0.5, 0.75, 3)
ONES = np.ones(3)


def f(x):
    """e^(x/2) sin 2x = Im e^(zx) for z = 1/2 + 2i, so that the k-th derivative is Im z^k e^(zx)."""
    return fnp.exp(0.5 * x) * fnp.sin(2.0 * x)


def derivative_of_f(k, x):
    z = 0.5 + 2j
    return (z**k * np.exp(z * x)).imag


def by_jaxpr(g):
    def wrapped(x):
        closed = fgrad.make_jaxpr(g)(x)
        return eval_jaxpr(closed.jaxpr, closed.consts, x)[0]

    return wrapped


def ones_like(x):
    return fnp.ones(x.shape, x.dtype)


# Each takes an element-wise function to an element-wise one: the derivative, or the function itself.
DERIVE = {
    "grad": lambda g: fgrad.grad(lambda x: fnp.sum(g(x))),
    "jvp": lambda g: lambda x: fgrad.jvp(g, (x,), (ones_like(x),))[1],
    "vjp": lambda g: lambda x: fgrad.vjp(g, x)[1](ones_like(x))[0],
    "linearize": lambda g: lambda x: fgrad.linearize(g, x)[1](ones_like(x)),
}
KEEP = {
    "jit": fgrad.jit,
    "vmap": lambda g: lambda x: fgrad.vmap(g)(x) if x.ndim else g(x),
    "jaxpr": by_jaxpr,
    "value": lambda g: lambda x: fgrad.vjp(g, x)[0],
}
WRAPPERS = DERIVE | KEEP


def check_stack(names):
    g = f
    for name in names:
        g = WRAPPERS[name](g)
    want = derivative_of_f(sum(name in DERIVE for name in names), X)
    got = g(fnp.asarray(X))
    assert got.dtype == np.float64
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("names", [(), *itertools.product(WRAPPERS, repeat=1), *itertools.product(WRAPPERS, repeat=2)])
def test_two_deep(names):
    check_stack(names)


STACKS = list(itertools.product(WRAPPERS, repeat=3))
FEW = random.Random(0).sample(STACKS, 60)


@pytest.mark.parametrize("names", FEW, ids="-".join)
def test_three_deep(names):
    check_stack(names)


@pytest.mark.long
@pytest.mark.parametrize("names", [s for s in STACKS if s not in FEW], ids="-".join)
def test_three_deep_all(names):
    check_stack(names)


@pytest.mark.parametrize(
    "names", [("grad", "jit", "grad", "jit", "vmap"), ("jit", "jvp", "jit", "vjp", "jit"), ("vjp", "vjp", "jit", "jvp")]
)
def test_deeper(names):
    check_stack(names)


# --- closures --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("outer", WRAPPERS)
@pytest.mark.parametrize("inner", WRAPPERS)
def test_inner_function_closes_over_an_outer_tracer(outer, inner):
    """s(x) = Σ_y inner(y -> sin(x y)) for scalar x, and outer(s) is s or its derivative."""
    ys = fnp.asarray(X)

    def s(x):
        return fnp.sum(WRAPPERS[inner](lambda y: fnp.sin(x * y))(ys))

    x, y = np.array([[0.25], [2.0]]), X
    cases = {
        (False, False): np.sin(x * y),
        (True, False): x * np.cos(x * y),
        (False, True): y * np.cos(x * y),
        (True, True): np.cos(x * y) - x * y * np.sin(x * y),
    }
    want = cases[inner in DERIVE, outer in DERIVE].sum(axis=1)
    one_by_one = np.stack([np.asarray(WRAPPERS[outer](s)(fnp.asarray(v))) for v in x[:, 0]])
    mapped = fgrad.vmap(WRAPPERS[outer](s))(x[:, 0])
    for got in (one_by_one, np.asarray(mapped)):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_three_levels_of_closures():
    """d/dx d/dy d/dz of x y z at any point is 1, through jit, vmap and grad at every level."""

    def g(x):
        def over_y(y):
            return fgrad.grad(fgrad.jit(lambda z: x * y * z))(3.0)

        return fgrad.grad(fgrad.jit(over_y))(2.0)

    assert float(fgrad.grad(fgrad.jit(g))(1.0)) == 1.0
    assert np.asarray(fgrad.vmap(fgrad.grad(g))(fnp.arange(3.0))).tolist() == [1, 1, 1]


def test_a_jitted_function_defined_outside_is_shared():
    traced = []

    @fgrad.jit
    def square(x):
        traced.append(x.shape)
        return x * x

    def loss(x):
        return fnp.sum(square(x) + square(x + 1.0))

    g = fgrad.grad(fgrad.jit(loss))(fnp.asarray(X))
    np.testing.assert_allclose(np.asarray(g), 4 * X + 2)
    assert len(traced) == 1


def test_perturbations_are_not_confused():
    """d/dx (x d/dy (x + y)) = 1: the classical trap."""
    assert float(fgrad.grad(lambda x: x * fgrad.grad(lambda y: x + y)(1.0))(1.0)) == 1.0
    assert float(fgrad.jvp(lambda x: x * fgrad.jvp(lambda y: x + y, (1.0,), (1.0,))[1], (1.0,), (1.0,))[1]) == 1.0


def test_jvp_of_vjp_is_the_hessian_vector_product():
    a = np.random.default_rng(0).standard_normal((3, 3))

    def quadratic(x):
        return 0.5 * fnp.vdot(x, fnp.asarray(a) @ x)

    v = np.array([1.0, -2.0, 0.5])
    hvp = fgrad.jvp(fgrad.grad(quadratic), (X,), (v,))[1]
    np.testing.assert_allclose(np.asarray(hvp), 0.5 * (a + a.T) @ v)
    np.testing.assert_allclose(np.asarray(fgrad.jit(lambda x: fgrad.jvp(fgrad.grad(quadratic), (x,), (v,))[1])(X)), hvp)


def test_hessian_by_vmap_of_vjp_of_grad():
    def g(x):
        return fnp.sum(x**3) + x[0] * x[1]

    x = np.array([1.0, 2.0, 3.0])
    want = np.diag(6 * x)
    want[0, 1] = want[1, 0] = 1
    pull = fgrad.vjp(fgrad.grad(g), x)[1]
    (h,) = fgrad.vmap(pull)(np.eye(3))
    np.testing.assert_allclose(np.asarray(h), want)
    push = fgrad.jit(fgrad.vmap(lambda v: fgrad.jvp(fgrad.grad(g), (x,), (v,))[1]))
    np.testing.assert_allclose(np.asarray(push(np.eye(3))), want)


def test_per_example_gradients():
    w = np.array([[1.0, 2.0], [3.0, 4.0]])

    def loss(w, x):
        return fnp.sum(fnp.tanh(w @ x))

    xs = np.array([[0.1, 0.2], [0.3, -0.1], [0.0, 1.0]])
    got = fgrad.jit(fgrad.vmap(fgrad.grad(loss), in_axes=(None, 0)))(w, xs)
    want = [np.outer(1 - np.tanh(w @ x) ** 2, x) for x in xs]
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-12)
