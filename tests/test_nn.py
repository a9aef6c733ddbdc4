"""fgrad.nn: formulas, derivatives at corners, pooling, initialisers, losses."""

import math

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import nn, random
from fgrad.nn import initializers

X = np.array([-30.0, -3.0, -1.0, -1e-3, 0.0, 1e-3, 0.7, 2.0, 6.0, 30.0], np.float64)
ERF = np.vectorize(math.erf)

FORMULAS = {
    "relu": (nn.relu, lambda x: np.maximum(x, 0)),
    "relu6": (nn.relu6, lambda x: np.clip(x, 0, 6)),
    "leaky_relu": (nn.leaky_relu, lambda x: np.where(x >= 0, x, 0.01 * x)),
    "elu": (nn.elu, lambda x: np.where(x > 0, x, np.expm1(x))),
    "celu": (lambda x: nn.celu(x, 2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x / 2))),
    "selu": (nn.selu, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
    "gelu": (lambda x: nn.gelu(x, approximate=False), lambda x: x / 2 * (1 + ERF(x / np.sqrt(2)))),
    "gelu tanh": (nn.gelu, lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
    "sigmoid": (nn.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "silu": (nn.silu, lambda x: x / (1 + np.exp(-x))),
    "softplus": (nn.softplus, lambda x: np.logaddexp(x, 0)),
    "log_sigmoid": (nn.log_sigmoid, lambda x: -np.logaddexp(-x, 0)),
    "mish": (nn.mish, lambda x: x * np.tanh(np.logaddexp(x, 0))),
    "soft_sign": (nn.soft_sign, lambda x: x / (1 + abs(x))),
    "hard_tanh": (nn.hard_tanh, lambda x: np.clip(x, -1, 1)),
    "hard_sigmoid": (nn.hard_sigmoid, lambda x: np.clip(x + 3, 0, 6) / 6),
    "hard_silu": (nn.hard_silu, lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "glu": (nn.glu, lambda x: x[:5] / (1 + np.exp(-x[5:]))),
    "softmax": (nn.softmax, lambda x: np.exp(x) / np.exp(x).sum()),
    "log_softmax": (nn.log_softmax, lambda x: x - np.log(np.exp(x).sum())),
    "logsumexp": (nn.logsumexp, lambda x: np.log(np.exp(x).sum())),
    "standardize": (nn.standardize, lambda x: (x - x.mean()) / np.sqrt(x.var() + 1e-5)),
    "huber_loss": (nn.huber_loss, lambda x: np.where(abs(x) <= 1, x**2 / 2, abs(x) - 0.5)),
    "l2_loss": (nn.l2_loss, lambda x: x**2 / 2),
}
KINKS = {"relu", "relu6", "leaky_relu", "elu", "celu", "selu", "hard_tanh", "hard_sigmoid", "hard_silu", "huber_loss"}


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(name):
    ours, theirs = FORMULAS[name]
    np.testing.assert_allclose(ours(X), theirs(X), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(fgrad.jit(ours)(X), theirs(X), rtol=1e-12, atol=1e-12)
    assert ours(fnp.asarray(X, "float32")).dtype == np.float32


@pytest.mark.parametrize("name", FORMULAS)
def test_derivatives(name):
    ours = FORMULAS[name][0]
    x = X + 0.0123 if name in KINKS else X
    v = np.linspace(-1, 2, len(x))
    h = 1e-6
    _, t = fgrad.jvp(ours, (x,), (v,))
    numeric = (np.asarray(ours(x + h * v)) - np.asarray(ours(x - h * v))) / (2 * h)
    np.testing.assert_allclose(t, numeric, rtol=1e-6, atol=2e-8)
    gradient = fgrad.grad(lambda a: fnp.sum(ours(a)))(x)
    assert np.isfinite(np.asarray(gradient)).all()


def test_derivatives_at_the_corners():
    slope = lambda f, x: fgrad.grad(f)(x).item()  # noqa: E731
    assert slope(nn.relu, 0.0) == 0.0 and slope(nn.relu6, 6.0) == 0.0 and slope(nn.relu6, 0.0) == 0.0
    assert slope(nn.leaky_relu, 0.0) == 1.0 and slope(nn.elu, 0.0) == 1.0
    assert np.isnan(nn.relu(np.float32("nan")).item())
    for f in (nn.elu, nn.selu, nn.softplus, nn.log_sigmoid, nn.silu, nn.gelu):
        for x in (-1e4, 1e4):
            assert np.isfinite(slope(f, x)), (f, x)


def test_large_logits():
    x = fnp.array([[1e4, 0.0, -1e4]])
    assert nn.softmax(x).tolist() == [[1.0, 0.0, 0.0]]
    assert nn.log_softmax(x).tolist() == [[0.0, -1e4, -2e4]]
    minus = fnp.full((2, 3), -np.inf)
    assert nn.logsumexp(minus, axis=1).tolist() == [-np.inf, -np.inf]
    assert nn.logsumexp(fnp.array([np.inf, 0.0])).item() == np.inf
    np.testing.assert_allclose(
        nn.logsumexp(X, b=np.arange(10.0)), np.log(np.sum(np.arange(10) * np.exp(X))), rtol=1e-12
    )
    assert nn.logsumexp(fnp.zeros((2, 3, 4)), axis=(0, -1), keepdims=True).shape == (1, 3, 1)
    np.testing.assert_allclose(nn.softmax(fnp.zeros((2, 3)), axis=0), np.full((2, 3), 0.5))


def test_one_hot():
    assert nn.one_hot(fnp.array([1, 3, -1]), 3).tolist() == [[0.0, 1.0, 0.0], [0.0] * 3, [0.0] * 3]
    assert nn.one_hot(fnp.array([[0], [1]]), 2, axis=0, dtype="int8").shape == (2, 2, 1)
    with pytest.raises(TypeError, match=r"one_hot: classes must be integers, got f32\[2\]"):
        nn.one_hot(fnp.ones(2), 3)


# --- pooling ---------------------------------------------------------------------------------------------------------
def windows(x, window, strides, padding, fill):
    x = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, window, axis=(1, 2))
    return view[:, :: strides[0], :: strides[1]]


@pytest.mark.parametrize("strides", [None, (2, 2), (1, 3)])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 0), (1, 1))])
def test_pooling(strides, padding):
    x = np.random.default_rng(0).normal(size=(2, 6, 7, 3)).astype(np.float32)
    steps = strides or (1, 1)
    low = windows(x, (3, 2), steps, padding, -np.inf)
    np.testing.assert_array_equal(nn.max_pool(x, (3, 2), strides, padding), low.max((-1, -2)))
    high = windows(x, (3, 2), steps, padding, np.inf)
    np.testing.assert_array_equal(nn.min_pool(x, (3, 2), strides, padding), high.min((-1, -2)))
    zero = windows(x, (3, 2), steps, padding, 0).sum((-1, -2))
    np.testing.assert_allclose(nn.avg_pool(x, (3, 2), strides, padding), zero / 6, rtol=1e-5, atol=1e-6)
    count = windows(np.ones_like(x), (3, 2), steps, padding, 0).sum((-1, -2))
    without = nn.avg_pool(x, (3, 2), strides, padding, count_include_pad=False)
    np.testing.assert_allclose(without, zero / count, rtol=1e-5, atol=1e-6)


def test_pooling_edges():
    x = fnp.arange(25.0).reshape(1, 5, 5, 1)
    assert nn.max_pool(x, (2, 2), (2, 2), "SAME").ravel().tolist() == [
        6.0,
        8.0,
        9.0,
        16.0,
        18.0,
        19.0,
        21.0,
        23.0,
        24.0,
    ]
    assert nn.max_pool(x[0], (2, 2), (2, 2)).shape == (2, 2, 1)
    gradient = fgrad.grad(lambda a: nn.max_pool(a, (2, 2), (2, 2)).sum())(fnp.ones((1, 4, 4, 1)))
    assert gradient[0, :, :, 0].tolist() == [[1.0, 0.0, 1.0, 0.0], [0.0] * 4] * 2  # the first of equals
    with pytest.raises(ValueError, match=r"max_pool: inputs must have a batch axis.*got inputs \(5, 5\), window_shape"):
        nn.max_pool(x[0, :, :, 0], (2, 2))
    with pytest.raises(ValueError, match=r"avg_pool: padding must be 'SAME'.*for each of the 2 spatial axes"):
        nn.avg_pool(x, (2, 2), padding=((0, 0),))


def test_dropout():
    x = fnp.ones((200, 200))
    out = np.asarray(nn.dropout(random.key(0), 0.25, x))
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.75)} and abs(out.mean() - 1) < 0.01
    assert nn.dropout(random.key(0), 0.0, x) is x and not np.asarray(nn.dropout(random.key(0), 1, x)).any()
    with pytest.raises(ValueError, match=r"dropout: rate must lie in \[0, 1\], got 1.5"):
        nn.dropout(random.key(0), 1.5, x)


# --- initialisers ----------------------------------------------------------------------------------------------------
SHAPE = (3, 3, 40, 50)
VARIANCES = {
    "glorot_uniform": 2 / (9 * 90), "glorot_normal": 2 / (9 * 90), "he_uniform": 2 / 360, "he_normal": 2 / 360,
    "lecun_uniform": 1 / 360, "lecun_normal": 1 / 360, "xavier_normal": 2 / (9 * 90), "kaiming_normal": 2 / 360,
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANCES)
def test_variance_scaling(name):
    w = np.asarray(getattr(initializers, name)()(random.key(0), SHAPE))
    assert w.dtype == np.float32 and w.shape == SHAPE
    assert abs(w.mean()) < 4 * np.sqrt(VARIANCES[name] / w.size)
    assert abs(w.var() / VARIANCES[name] - 1) < 0.03


def test_other_initialisers():
    key = random.key(3)
    assert initializers.zeros(key, (2,)).tolist() == [0.0, 0.0] and initializers.ones(key, (1,), int).tolist() == [1]
    assert initializers.constant(2.5)(key, (2,)).tolist() == [2.5, 2.5]
    assert initializers.normal(2.0, "float64")(key, (3,)).dtype == np.float64
    assert np.asarray(initializers.uniform(0.5)(key, (1000,))).max() < 0.5
    assert abs(np.asarray(initializers.truncated_normal(0.1)(key, (1000,)))).max() < 0.2
    w = initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=0, out_axis=1, batch_axis=2)(key, (100, 2, 300))
    assert abs(np.asarray(w).var() * 100 - 1) < 0.03
    with pytest.raises(
        ValueError, match=r"variance_scaling: needs a shape with an input and an output axis, got \(3,\)"
    ):
        initializers.he_normal()(key, (3,))
    with pytest.raises(ValueError, match=r"variance_scaling: mode must be .*got 'fan'"):
        initializers.variance_scaling(1.0, "fan", "normal")


# --- losses ----------------------------------------------------------------------------------------------------------
def test_cross_entropies():
    logits = np.random.default_rng(0).normal(size=(5, 4)) * 3
    labels = np.array([0, 3, 2, 2, 1], np.int32)
    picked = -np.log(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[np.arange(5), labels]
    np.testing.assert_allclose(nn.softmax_cross_entropy_with_integer_labels(logits, labels), picked, rtol=1e-12)
    np.testing.assert_allclose(nn.softmax_cross_entropy_with_integer_labels(logits.T, labels, 0), picked, rtol=1e-12)
    hot = np.eye(4)[labels]
    np.testing.assert_allclose(nn.softmax_cross_entropy(logits, hot), picked, rtol=1e-12)
    gradient = fgrad.grad(lambda x: nn.softmax_cross_entropy_with_integer_labels(x, labels).sum())(logits)
    np.testing.assert_allclose(gradient, np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - hot, atol=1e-12)
    p = 1 / (1 + np.exp(-logits))
    expected = -hot * np.log(p) - (1 - hot) * np.log(1 - p)
    np.testing.assert_allclose(nn.sigmoid_binary_cross_entropy(logits, hot), expected, rtol=1e-10)
    np.testing.assert_allclose(nn.squared_error(logits, hot), (logits - hot) ** 2)
    np.testing.assert_allclose(nn.smooth_labels(hot, 0.1), 0.9 * hot + 0.025)
    with pytest.raises(
        ValueError, match=r"softmax_cross_entropy_with_integer_labels: labels must be integers, one for"
    ):
        nn.softmax_cross_entropy_with_integer_labels(logits, labels[:2])


# --- JAX -------------------------------------------------------------------------------------------------------------
@pytest.mark.oracle("jax")
@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "sigmoid", "silu",
                                  "softplus", "log_sigmoid", "mish", "soft_sign", "hard_tanh", "hard_sigmoid",
                                  "hard_silu", "glu", "softmax", "log_softmax"])  # fmt: skip
def test_values_and_gradients_equal_jax(jax, name):
    ours, theirs = getattr(nn, name), getattr(jax.nn, name)
    np.testing.assert_allclose(ours(X), theirs(X), rtol=1e-12, atol=1e-14)
    gradient = fgrad.grad(lambda a: fnp.sum(ours(a) * fnp.arange(ours(a).shape[0])))(X)
    expected = jax.grad(lambda a: (theirs(a) * jax.numpy.arange(theirs(a).shape[0])).sum())(jax.numpy.asarray(X))
    if name == "hard_tanh":  # JAX: 1 at the corners' inside only
        gradient, expected = np.delete(gradient, 2), np.delete(expected, 2)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.oracle("jax")
@pytest.mark.parametrize("name", ["glorot_uniform", "he_normal", "lecun_uniform", "lecun_normal"])
def test_initialisers_equal_jax(jax, name):
    ours = getattr(initializers, name)()(random.key(5), (3, 3, 4, 8))
    theirs = getattr(jax.nn.initializers, name)()(jax.random.PRNGKey(5), (3, 3, 4, 8), "float32")
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
