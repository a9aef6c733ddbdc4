"""fgrad.random: bits equal to JAX's, known answers, distributions, and behaviour under transformations."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import random

KEY = random.key(1234)

# Computed with jax 0.10.2 from jax.random.PRNGKey(1234); the 64-bit ones with jax_enable_x64.
EXACT = [
    (lambda k: random.split(k, 3), [[1264997412, 2518116175], [2877103387, 1697627890], [2113592192, 603280156]]),
    (lambda k: random.fold_in(k, 77), [1410967381, 1715837950]),
    (lambda k: random.bits(k, (2, 2)), [[3715183467, 3461522409], [1578076316, 3641478021]]),
    (lambda k: random.bits(k, (4,), "uint16"), [13163, 41961, 34972, 35717]),
    (lambda k: random.bits(k, (4,), "uint8"), [107, 233, 156, 133]),
    (lambda k: random.bits(k, (2,), "uint64"), [5433122516582754127, 12357064956073459442]),
    (lambda k: random.uniform(k, (3,)), [0.8650084733963013, 0.8059483766555786, 0.36742448806762695]),
    (lambda k: random.uniform(k, (3,), "float16"), [0.2001953125, 0.6396484375, 0.533203125]),
    (lambda k: random.uniform(k, (3,), "bfloat16"), [0.4140625, 0.90625, 0.609375]),
    (lambda k: random.uniform(k, (2,), "float64"), [0.29453016179294655, 0.6698778335459667]),
    (lambda k: random.bernoulli(k, 0.3, (8,)), [False, False, False, False, True, False, False, False]),
    (lambda k: random.randint(k, (5,), -3, 1000), [137, 107, 24, 82, 382]),
    (lambda k: random.randint(k, (5,), 0, 256, "uint8"), [53, 33, 93, 32, 28]),
    (lambda k: random.randint(k, (3,), -(2**31), 2**31 - 1), [1859643701, -1845258719, -2068379811]),
    (lambda k: random.randint(k, (3,), -5, 2**40, "int64"), [1019626451673, 605760781844, 102119146198]),
    (lambda k: random.categorical(k, fnp.log(fnp.array([0.1, 0.2, 0.7])), shape=(8,)), [1, 2, 2, 1, 1, 2, 2, 2]),
    (lambda k: random.choice(k, 10, (4,)), [7, 7, 1, 2]),
]
ON_THE_HOST = [
    (lambda k: random.permutation(k, 8), [2, 3, 1, 7, 6, 4, 5, 0]),
    (lambda k: random.permutation(k, fnp.arange(6).reshape(3, 2)), [[4, 5], [2, 3], [0, 1]]),
    (lambda k: random.permutation(k, fnp.arange(6).reshape(3, 2), 1, True), [[1, 0], [2, 3], [4, 5]]),
    (lambda k: random.choice(k, 10, (4,), replace=False), [2, 3, 1, 7]),
]
CLOSE = [
    (lambda k: random.normal(k, (3,)), [1.1031016111373901, 0.8630622625350952, -0.3386823832988739]),
    (lambda k: random.truncated_normal(k, -1.0, 2.0, (3,)), [1.1111423969268799, 0.9092851877212524, -0.101877517998]),
    (lambda k: random.gumbel(k, (3,)), [1.9309113025665283, 1.533701777458191, -0.0012366274604573846]),
    (lambda k: random.exponential(k, (3,)), [2.0025432109832764, 1.6396310329437256, 0.45795565843582153]),
]


@pytest.mark.parametrize(("draw", "expected"), EXACT + ON_THE_HOST)
def test_known_answers(draw, expected):
    assert draw(KEY).tolist() == expected


@pytest.mark.parametrize(("draw", "expected"), CLOSE)
def test_known_answers_to_rounding(draw, expected):
    np.testing.assert_allclose(draw(KEY), expected, rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("draw", [draw for draw, _ in EXACT + CLOSE])
def test_transformations_draw_the_same(draw):
    keys = random.split(KEY, 2)
    rows = [np.asarray(draw(k)) for k in keys]
    np.testing.assert_allclose(fgrad.jit(draw)(keys[0]), rows[0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(fgrad.vmap(draw)(keys), np.stack(rows), rtol=1e-6, atol=1e-7)


def test_keys():
    assert random.key(42).tolist() == [0, 42] and random.PRNGKey is random.key
    assert random.key(-1).tolist() == [0, 2**32 - 1] and random.key(2**32 - 1).tolist() == [0, 2**32 - 1]
    assert random.key(2**40 + 5).tolist() == [256, 5]
    assert fgrad.jit(random.key)(np.int32(7)).tolist() == [0, 7] and random.key(np.int64(2**40)).tolist() == [256, 0]
    assert fgrad.jit(random.key)(np.array(2**40 + 5)).tolist() == [256, 5]
    assert random.split(KEY, (2, 3)).shape == (2, 3, 2)
    assert fgrad.jit(random.fold_in)(KEY, 77).tolist() == random.fold_in(KEY, 77).tolist()
    first, second = random.split(KEY)
    assert random.bits(first).tolist() != random.bits(second).tolist()


def test_distributions():
    """Moments of 40,000 draws, to four standard errors; the draws are always the same."""
    n = 40_000
    u = np.asarray(random.uniform(KEY, (n,), minval=-1.0, maxval=3.0))
    assert u.min() >= -1 and u.max() < 3 and abs(u.mean() - 1) < 4 * 1.155 / 200
    z = np.asarray(random.normal(KEY, (n,)))
    assert abs(z.mean()) < 0.02 and abs(z.std() - 1) < 0.015 and abs((z**3).mean()) < 0.08
    t = np.asarray(random.truncated_normal(KEY, -2.0, 2.0, (n,)))
    assert t.min() > -2 and t.max() < 2 and abs(t.std() - 0.8796) < 0.015
    assert abs(np.asarray(random.bernoulli(KEY, 0.25, (n,))).mean() - 0.25) < 0.009
    counts = np.bincount(np.asarray(random.randint(KEY, (n,), 0, 7)))
    assert len(counts) == 7 and (abs(counts - n / 7) < 4 * np.sqrt(n / 7)).all()
    assert abs(np.asarray(random.exponential(KEY, (n,))).mean() - 1) < 0.02
    assert abs(np.asarray(random.gumbel(KEY, (n,))).mean() - np.euler_gamma) < 0.026
    p = np.array([0.1, 0.2, 0.7], np.float32)
    share = np.bincount(np.asarray(random.categorical(KEY, np.log(p), shape=(n,)))) / n
    np.testing.assert_allclose(share, p, atol=0.01)
    order = np.asarray(random.permutation(KEY, 1000))
    assert sorted(order.tolist()) == list(range(1000))


def test_continuous_distributions_by_their_distribution_functions():
    """The largest distance between the empirical and the true distribution function, of 4,000 draws: a 0.1 % test."""
    stats, n = pytest.importorskip("scipy.stats"), 4000
    draws = {
        "gamma": [(random.gamma(KEY, a, (n,), "float64"), stats.gamma(a)) for a in (0.05, 0.6, 1.0, 3.5, 50.0)],
        "loggamma": [(random.loggamma(KEY, a, (n,)), stats.loggamma(a)) for a in (0.05, 4.0)],
        "beta": [(random.beta(KEY, a, b, (n,)), stats.beta(a, b)) for a, b in ((0.5, 0.5), (2.0, 5.0), (30.0, 1.0))],
        "dirichlet": [(random.dirichlet(KEY, np.array([0.5, 2.0, 3.0]), (n,))[:, 1], stats.beta(2.0, 3.5))],
        "chisquare": [(random.chisquare(KEY, 3.0, (n,)), stats.chi2(3))],
        "t": [(random.t(KEY, 2.5, (n,)), stats.t(2.5))],
        "f": [(random.f(KEY, 4.0, 9.0, (n,)), stats.f(4, 9))],
        "laplace": [(random.laplace(KEY, (n,)), stats.laplace)],
        "logistic": [(random.logistic(KEY, (n,)), stats.logistic)],
        "cauchy": [(random.cauchy(KEY, (n,)), stats.cauchy)],
        "wald": [(random.wald(KEY, 2.0, (n,)), stats.invgauss(2.0))],
        "pareto": [(random.pareto(KEY, 3.0, (n,)), stats.pareto(3))],
        "weibull_min": [(random.weibull_min(KEY, 1.0, 1.7, (n,)), stats.weibull_min(1.7))],
        "truncated_normal": [(random.truncated_normal(KEY, -0.5, 3.0, (n,)), stats.truncnorm(-0.5, 3))],
    }
    for name, pairs in draws.items():
        for sample, distribution in pairs:
            assert stats.kstest(np.asarray(sample, np.float64), distribution.cdf).statistic < 1.95 / np.sqrt(n), name


@pytest.mark.parametrize("mean", [0.3, 4.0, 9.9, 10.1, 300.0])
def test_poisson_mean_and_variance(mean):
    n = 10_000
    x = np.asarray(random.poisson(KEY, mean, (n,)))
    assert abs(x.mean() - mean) < 4 * np.sqrt(mean / n)
    assert abs(x.var() - mean) < 4 * np.sqrt((mean + 2 * mean**2) / n)


@pytest.mark.parametrize(("n", "p"), [(20, 0.3), (20, 0.8), (1000, 0.5), (1000, 0.001)])
def test_binomial_mean_and_variance(n, p):
    x, draws = np.asarray(random.binomial(KEY, n, p, (10_000,))), 10_000
    variance = n * p * (1 - p)
    assert x.min() >= 0 and x.max() <= n and (x == np.floor(x)).all()
    assert abs(x.mean() - n * p) < 4 * np.sqrt(variance / draws)
    assert abs(x.var() - variance) < 4 * np.sqrt((variance + 2 * variance**2) / draws)


def test_without_replacement_all_are_different():
    p = np.array([0.0, 0.1, 0.2, 0.3, 0.4])
    for key in random.split(KEY, 20):
        drawn = random.choice(key, 5, (4,), replace=False, p=p).tolist()
        assert sorted(drawn) == [1, 2, 3, 4]
    draws = np.asarray(random.categorical(KEY, np.zeros((2, 6)), shape=(6, 2), replace=False))
    assert np.sort(draws, 0).T.tolist() == [list(range(6))] * 2


def test_orthogonal_and_multivariate_normal():
    q = np.asarray(random.orthogonal(KEY, 3, (500,), "float64"))
    np.testing.assert_allclose(q @ np.swapaxes(q, 1, 2), np.broadcast_to(np.eye(3), q.shape), atol=1e-12)
    assert abs(q.mean(0)).max() < 4 / np.sqrt(3 * 500)
    assert 200 < (np.linalg.det(q) > 0).sum() < 300
    cov = np.array([[2.0, 0.5], [0.5, 1.0]])
    for method in ("cholesky", "eigh", "svd"):
        x = np.asarray(random.multivariate_normal(KEY, np.array([1.0, -1.0]), cov, (4000,), method=method))
        np.testing.assert_allclose(x.mean(0), [1, -1], atol=0.1)
        np.testing.assert_allclose(np.cov(x.T), cov, atol=0.15)
    singular = random.multivariate_normal(KEY, np.zeros(2), np.ones((2, 2)), (9,), method="svd")
    np.testing.assert_allclose(singular[:, 0], singular[:, 1], atol=1e-7)


A, B = np.array([0.2, 1.0, 30.0]), np.array([2.0, 0.5, 3.0])
LOGITS = np.log(np.array([[0.1, 0.2, 0.7], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4]]))
WITH_PARAMETERS = {
    "gamma": (lambda k, a: random.gamma(k, a, (4,)), A),
    "beta": (lambda k, a, b: random.beta(k, a, b), A, B),
    "dirichlet": (lambda k, a, b: random.dirichlet(k, fnp.stack([a, b]), (2,)), A, B),
    "poisson": (lambda k, a: random.poisson(k, a, (4,)), A),
    "binomial": (lambda k, a: random.binomial(k, 9, 1 / (1 + a), (4,)), A),
    "uniform": (lambda k, a, b: random.uniform(k, (4,), "float32", -a, b), A, B),
    "randint": (lambda k, n: random.randint(k, (4,), -n, 3 * n), np.array([1, 50, 1000], np.int32)),
    "categorical": (lambda k, x: random.categorical(k, x, shape=(5,)), LOGITS),
    "choice": (lambda k, x: random.choice(k, 3, (2,), False, fnp.exp(x)), LOGITS),
    "permutation": (lambda k, x: random.permutation(k, x), LOGITS),
    "truncated_normal": (lambda k, a, b: random.truncated_normal(k, -a, b, (4,)), A, B),
    "multivariate_normal": (lambda k, a: random.multivariate_normal(k, fnp.stack([a, a]), np.eye(2) * a), A),
}


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_vmap_over_parameters(name):
    """One key for all, or a key for each: the same as a loop."""
    draw, *parameters = WITH_PARAMETERS[name]
    keys = random.split(KEY, 3)
    for key, axis in ((KEY, None), (keys, 0)):
        got = fgrad.vmap(draw, (axis, *(0 for _ in parameters)))(key, *parameters)
        want = [draw(key if axis is None else key[i], *(x[i] for x in parameters)) for i in range(3)]
        np.testing.assert_allclose(got, np.stack([np.asarray(w) for w in want]), rtol=1e-6, atol=1e-6)


def test_outside_the_domain_where_it_cannot_be_seen():
    """Under jit parameters have no value yet."""
    assert fgrad.jit(lambda low, high: random.randint(KEY, (2,), low, high))(5, 1).tolist() == [5, 5]
    assert fgrad.jit(lambda high: random.randint(KEY, (2,), 0, high, "int8"))(2**31 - 1).tolist() == [53, 33]
    assert fgrad.jit(lambda low, high: random.uniform(KEY, (2,), minval=low, maxval=high))(5.0, 1.0).tolist() == [5, 5]
    assert np.isnan(np.asarray(fgrad.jit(lambda a: random.gamma(KEY, a, (2,)))(-1.0))).all()
    assert fgrad.jit(lambda lam: random.poisson(KEY, lam, (2,)))(-1.0).tolist() == [-1, -1]
    assert random.poisson(KEY, np.array([np.nan, 0.0, np.inf])).tolist() == [-1, 0, 2**31 - 1]


def test_shapes_and_ranges():
    assert random.normal(KEY).shape == () and random.uniform(KEY, (0, 3)).shape == (0, 3)
    assert random.randint(KEY, (3,), 5, 6).tolist() == [5, 5, 5]
    assert np.asarray(random.randint(KEY, (500,), 0, 256, "uint8")).max() > 250
    assert np.asarray(random.randint(KEY, (9,), 0, 2**64, "uint64")).max() > 2**63
    assert random.categorical(KEY, np.zeros((4, 5)), axis=0).shape == (5,)
    assert random.categorical(KEY, np.zeros((4, 5)), shape=(7, 4)).shape == (7, 4)
    assert random.bernoulli(KEY, np.full((2, 3), 0.5, np.float32)).shape == (2, 3)


@pytest.mark.oracle("jax")
@pytest.mark.parametrize("seed", [0, 7, 2**31, 2**32 - 1])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (33,), (4, 7), (0, 2)])
def test_equal_to_jax(jax, seed, shape):
    theirs, ours = jax.random.PRNGKey(seed), random.key(seed)
    for width in (8, 16, 32, 64):
        expected = jax.random.bits(theirs, shape, f"uint{width}")
        np.testing.assert_array_equal(random.bits(ours, shape, f"uint{width}"), expected)
    for dtype in ("float16", "float32", "float64"):
        np.testing.assert_array_equal(random.uniform(ours, shape, dtype), jax.random.uniform(theirs, shape, dtype))
    for dtype, low, high in (("int32", -9, 1000), ("int8", -128, 128), ("uint16", 3, 65536), ("int64", 0, 2**50)):
        expected = jax.random.randint(theirs, shape, low, high, dtype)
        np.testing.assert_array_equal(random.randint(ours, shape, low, high, dtype), expected)
    np.testing.assert_array_equal(random.split(ours, 5), jax.random.split(theirs, 5))
    for name, args in (("normal", ()), ("gumbel", ()), ("exponential", ())):
        expected = getattr(jax.random, name)(theirs, shape, "float32", *args)
        np.testing.assert_allclose(getattr(random, name)(ours, shape), expected, rtol=3e-6, atol=3e-7)
    expected = jax.random.truncated_normal(theirs, -1.5, 3.0, shape, "float32")
    np.testing.assert_allclose(random.truncated_normal(ours, -1.5, 3.0, shape), expected, rtol=1e-5, atol=1e-6)
