"""fgrad.random: bits equal to JAX's, known answers, distributions, and behaviour under transformations."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import random
from fgrad.errors import ConcretizationError

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


def test_shapes_and_ranges():
    assert random.normal(KEY).shape == () and random.uniform(KEY, (0, 3)).shape == (0, 3)
    assert random.randint(KEY, (3,), 5, 5).tolist() == [5, 5, 5] and random.randint(KEY, (2,), 5, 1).tolist() == [5, 5]
    assert np.asarray(random.randint(KEY, (500,), 0, 2**40, "uint8")).max() > 250
    assert random.categorical(KEY, np.zeros((4, 5)), axis=0).shape == (5,)
    assert random.categorical(KEY, np.zeros((4, 5)), shape=(7, 4)).shape == (7, 4)
    assert random.bernoulli(KEY, np.full((2, 3), 0.5, np.float32)).shape == (2, 3)


ERRORS = [
    (lambda: random.split(0), TypeError, r"split: key must be a uint32 array of shape \(2,\), got i32\[\]~. Make one"),
    (lambda: random.normal(random.split(KEY)), TypeError, r"normal: key must be .*got u32\[2,2\].*with vmap"),
    (lambda: random.uniform(KEY, (2,), int), TypeError, r"uniform: dtype must be floating-point, got int32"),
    (lambda: random.key(1.5), TypeError, r"key: the seed must be an integer, got f32\[\]~"),
    (lambda: random.key(2**70), OverflowError, r"key: the seed must fit into 64 bits"),
    (lambda: random.fold_in(KEY, -1), OverflowError, r"fold_in: data must fit into 32 bits, unsigned, got -1"),
    (lambda: random.uniform(KEY, (2,), minval=np.zeros(3)), ValueError, r"uniform: shapes must broadcast"),
    (
        lambda: random.choice(KEY, 3, (5,), replace=False),
        ValueError,
        r"choice: .* got 5 draws from 3 with replace=False",
    ),
    (lambda: random.randint(KEY, (2,), 0.0, 5), TypeError, r"randint: bounds must be integers, got f32\[\]~"),
    (lambda: fgrad.jit(lambda k: random.permutation(k, 5))(KEY), ConcretizationError, r"permutation: .*argument 'k'"),
]


@pytest.mark.parametrize(("bad", "error", "message"), ERRORS)
def test_errors(bad, error, message):
    with pytest.raises(error, match=message):
        bad()


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
    for dtype, low, high in (("int32", -9, 1000), ("int8", -128, 128), ("uint16", 3, 70000), ("int64", 0, 2**50)):
        expected = jax.random.randint(theirs, shape, low, high, dtype)
        np.testing.assert_array_equal(random.randint(ours, shape, low, high, dtype), expected)
    np.testing.assert_array_equal(random.split(ours, 5), jax.random.split(theirs, 5))
    for name, args in (("normal", ()), ("gumbel", ()), ("exponential", ())):
        expected = getattr(jax.random, name)(theirs, shape, "float32", *args)
        np.testing.assert_allclose(getattr(random, name)(ours, shape), expected, rtol=3e-6, atol=3e-7)
    expected = jax.random.truncated_normal(theirs, -1.5, 3.0, shape, "float32")
    np.testing.assert_allclose(random.truncated_normal(ours, -1.5, 3.0, shape), expected, rtol=1e-5, atol=1e-6)
