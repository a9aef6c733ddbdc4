"""Every distribution of fgrad.random against jax.random: the same keys, shapes, dtypes and parameters."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import random

SEEDS = (0, 1234, 2**31 + 7)
SHAPES = ((), (7,), (3, 5), (2, 0, 3))
ROW = np.array([0.3, 1.0, 2.5, 7.0, 40.0])
LOGITS = np.log(np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]], np.float32))
COV = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, -0.2], [0.1, -0.2, 0.7]])

# name, arguments after the key, keyword arguments; float32 and float64 are passed as the dtype
FLOATS = [
    ("normal", (), {"shape": (7, 2)}),
    ("truncated_normal", (-1.5, np.array([0.5, 3.0])), {}),
    ("truncated_normal", (-1.5, 3.0), {"shape": (2, 5)}),
    ("exponential", (), {"shape": (3, 5)}),
    ("gumbel", (), {"shape": (3, 5)}),
    ("gumbel", (), {"shape": (3, 5), "mode": "high"}),
    ("laplace", (), {"shape": (3, 5)}),
    ("logistic", (), {"shape": (3, 5)}),
    ("cauchy", (), {"shape": (3, 5)}),
    ("maxwell", (), {"shape": (3, 5)}),
    ("pareto", (2.5,), {"shape": (4,)}),
    ("rayleigh", (np.array([0.5, 2.0]),), {"shape": (3, 2)}),
    ("wald", (np.array([0.5, 2.0]),), {"shape": (3, 2)}),
    ("weibull_min", (2.0, 0.7), {"shape": (6,)}),
    ("triangular", (-1.0, 0.5, 2.0), {"shape": (9,)}),
    ("lognormal", (0.5,), {"shape": (9,)}),
    ("gamma", (ROW,), {}),
    ("gamma", (0.4,), {"shape": (3, 7)}),
    ("gamma", (ROW,), {"shape": (3, 5)}),
    ("loggamma", (np.array([0.01, 0.3, 4.0]),), {"shape": (4, 3)}),
    ("beta", (ROW, 0.7), {}),
    ("beta", (2.0, 3.0), {"shape": (9,)}),
    ("dirichlet", (ROW,), {"shape": (4,)}),
    ("dirichlet", (ROW,), {}),
    ("chisquare", (ROW,), {"shape": (2, 5)}),
    ("t", (ROW,), {"shape": (2, 5)}),
    ("f", (ROW, 3.0), {}),
    ("generalized_normal", (1.5,), {"shape": (6,)}),
    ("ball", (3, 1.5), {"shape": (4,)}),
    ("orthogonal", (4,), {"shape": (2,)}),
    ("orthogonal", (2,), {"m": 5}),
    ("orthogonal", (5,), {"m": 2}),
    ("multivariate_normal", (np.arange(3.0), COV), {"shape": (5,)}),
    ("multivariate_normal", (np.arange(6.0).reshape(2, 3), COV), {"method": "eigh"}),
    ("multivariate_normal", (np.arange(3.0), COV), {"method": "svd"}),
    ("binomial", (20, 0.3), {"shape": (9,)}),
    ("binomial", (1000, np.array([0.3, 0.8, 0.004])), {"shape": (4, 3)}),
]
# a random sign is drawn in JAX's default dtype: with 64-bit types enabled from other bits
SIGNED = ("generalized_normal", "ball")
P = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)
# the same values, bit for bit
EXACT = [
    ("split", (5,), {}),
    ("split", ((2, 3),), {}),
    ("fold_in", (77,), {}),
    ("bernoulli", (np.float32(0.3),), {"shape": (20,)}),
    ("bernoulli", (np.array([0.2, 0.9], np.float32),), {}),
    ("bernoulli", (np.float32(1e-3),), {"shape": (200,), "mode": "high"}),
    ("randint", ((5,), -3, 1000), {"dtype": "int32"}),
    ("randint", ((3, 2), 0, np.array([5, 2**40])), {"dtype": "int64"}),
    ("geometric", (np.float32(0.2),), {"shape": (9,), "dtype": "int32"}),
    ("poisson", (np.float32(3),), {"shape": (9,), "dtype": "int32"}),
    ("poisson", (np.array([0.0, 0.5, 9.0, 11.0, 200.0, np.nan], np.float32),), {"dtype": "int32"}),
    ("permutation", (20,), {}),
    ("permutation", (TABLE,), {}),
    ("permutation", (TABLE,), {"axis": 1, "independent": True}),
    ("permutation", (np.arange(5000, dtype=np.int32),), {}),
    ("choice", (10, (4, 2)), {}),
    ("choice", (10, (4,)), {"replace": False}),
    ("choice", (TABLE, (2, 2)), {"axis": 1}),
    ("choice", (TABLE, (2,)), {"replace": False}),
    ("choice", (4, (6,)), {"p": P}),
    (
        "choice",
        (TABLE.T, (3,)),
        {"p": P, "axis": 1, "replace": False},
    ),
    ("categorical", (LOGITS,), {}),
    ("categorical", (LOGITS,), {"axis": 0}),
    ("categorical", (LOGITS,), {"shape": (6, 3)}),
    ("categorical", (LOGITS[:1],), {"shape": (6,)}),
    ("categorical", (LOGITS,), {"shape": (4, 3), "replace": False}),
    ("categorical", (LOGITS,), {"axis": 0, "shape": (2, 4), "replace": False}),
    ("categorical", (LOGITS,), {"mode": "high"}),
    ("multinomial", (np.float32(50), np.array([0.2, 0.5, 0.3], np.float32)), {"dtype": "float32"}),
    ("multinomial", (np.array([50, 7], np.float32), np.exp(LOGITS[:2])), {"dtype": "float32"}),
]


def identifier(case):
    return f"{case[0]}-{'-'.join(map(str, case[2].values()))}"


def check_everywhere(jax, name, args, params, compare):
    """Eager, jit, vmap and jit of vmap against JAX's jit of vmap, over keys."""

    def of(module):
        return lambda key: getattr(module, name)(key, *args, **params)

    ours, keys = of(random), np.stack([np.asarray(random.key(seed)) for seed in SEEDS])
    want = np.asarray(jax.jit(jax.vmap(of(jax.random)))(keys))
    for got in (
        np.stack([ours(key) for key in keys]),
        np.stack([fgrad.jit(ours)(key) for key in keys]),
        np.asarray(fgrad.vmap(ours)(keys)),
        np.asarray(fgrad.jit(fgrad.vmap(ours))(keys)),
    ):
        assert got.dtype == want.dtype and got.shape == want.shape
        compare(got, want)


@pytest.mark.oracle("jax")
@pytest.mark.parametrize(
    ("case", "dtype"),
    [(c, d) for c in FLOATS for d in ("float32", "float64") if d == "float32" or c[0] not in SIGNED],
    ids=lambda x: x if isinstance(x, str) else identifier(x),
)
def test_floats(jax, case, dtype):
    name, args, params = case
    args = [np.asarray(a, dtype) if isinstance(a, float | np.ndarray) else a for a in args]
    tolerance = {"rtol": 2e-5, "atol": 2e-6} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-12}

    def compare(got, want):
        np.testing.assert_allclose(got, want, **tolerance)

    with jax.enable_x64(dtype == "float64"):
        check_everywhere(jax, name, args, params | {"dtype": dtype}, compare)


@pytest.mark.oracle("jax")
@pytest.mark.parametrize("case", EXACT, ids=identifier)
def test_exact(jax, case):
    name, args, params = case
    with jax.enable_x64(params.get("dtype") == "int64"):
        check_everywhere(jax, name, args, params, np.testing.assert_array_equal)


@pytest.mark.oracle("jax")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_bits_and_uniform(jax, seed, shape):
    theirs, ours = jax.random.PRNGKey(seed), random.key(seed)
    for width in (8, 16, 32, 64):
        np.testing.assert_array_equal(
            random.bits(ours, shape, f"uint{width}"), jax.random.bits(theirs, shape, f"uint{width}")
        )
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        want = np.asarray(jax.random.uniform(theirs, shape, dtype, -2.0, 5.0))
        assert np.asarray(random.uniform(ours, shape, dtype, -2.0, 5.0)).tobytes() == want.tobytes()
        if dtype in ("float16", "bfloat16"):
            for name in ("normal", "exponential", "laplace"):
                want = np.asarray(getattr(jax.random, name)(theirs, shape, dtype), np.float32)
                got = np.asarray(getattr(random, name)(ours, shape, dtype)).astype(np.float32)
                np.testing.assert_allclose(got, want, rtol=4e-2, atol=4e-2)


@pytest.mark.oracle("jax")
def test_32_bit_defaults(jax):
    """Where JAX's own default is 64 bits if those are enabled."""
    with jax.enable_x64(False):
        theirs, ours = jax.random.PRNGKey(3), random.key(3)
        for name, args in [
            ("rademacher", ((9,),)),
            ("rademacher", ((9,), "float32")),
            ("randint", ((4,), 0, 9)),
            ("poisson", (4.0, (9,))),
            ("geometric", (0.3, (9,))),
            ("bernoulli", (0.3, (9,))),
            ("permutation", (9,)),
        ]:
            got, want = getattr(random, name)(ours, *args), getattr(jax.random, name)(theirs, *args)
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
        got, want = (
            m.double_sided_maxwell(k, np.float32([0, 5]), np.float32(2), (3,))
            for m, k in ((random, ours), (jax.random, theirs))
        )
        np.testing.assert_allclose(got, want, rtol=1e-5)


ALPHA = np.array([0.2, 1.0, 3.0, 30.0])
# a function of (the module of random numbers, a key, parameters)
DIFFERENTIABLE = {
    "gamma": (lambda r, k, a: r.gamma(k, a, dtype="float64"), ALPHA),
    "loggamma": (lambda r, k, a: r.loggamma(k, a, dtype="float64"), ALPHA),
    "beta": (lambda r, k, a, b: r.beta(k, a, b, dtype="float64"), ALPHA, ALPHA[::-1] + 0.5),
    "dirichlet": (lambda r, k, a: r.dirichlet(k, a, dtype="float64"), ALPHA),
    "truncated_normal": (lambda r, k, a: r.truncated_normal(k, -a, a + 1, dtype="float64"), ALPHA),
    "uniform": (lambda r, k, a: r.uniform(k, (4,), "float64", -a, a), ALPHA),
    "cholesky": (lambda r, k, a, c: r.multivariate_normal(k, a, c, method="cholesky"), ALPHA[:3], COV),
    "eigh": (lambda r, k, a, c: r.multivariate_normal(k, a, c, method="eigh"), ALPHA[:3], COV),
    "svd": (lambda r, k, a, c: r.multivariate_normal(k, a, c, method="svd"), ALPHA[:3], COV),
}


@pytest.mark.oracle("jax")
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(jax, name):
    """In the parameters, of samples that keep their quantile: eager, jit, and vmap over parameters."""
    draw, *parameters = DIFFERENTIABLE[name]
    argnums = tuple(range(len(parameters)))
    theirs, ours = jax.random.PRNGKey(3), random.key(3)
    mine = fgrad.grad(lambda *ps: fnp.sum(draw(random, ours, *ps) ** 2), argnums)
    other = jax.grad(lambda *ps: jax.numpy.sum(draw(jax.random, theirs, *ps) ** 2), argnums)
    rows = [np.stack([p, 1.5 * p]) for p in parameters]
    for got, want in (
        (mine(*parameters), other(*parameters)),
        (fgrad.jit(mine)(*parameters), other(*parameters)),
        (fgrad.vmap(mine)(*rows), jax.vmap(other)(*rows)),
    ):
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-8)
