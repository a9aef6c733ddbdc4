"""fgrad.optim against closed forms, hand-written NumPy steps, and a known minimum."""

import math

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import optim

RNG = np.random.default_rng(0)
PARAMS = {"w": RNG.normal(size=(3, 2)), "b": (RNG.normal(size=2),)}
GRADIENTS = [{"w": RNG.normal(size=(3, 2)), "b": (RNG.normal(size=2),)} for _ in range(5)]


def run(optimiser, jit=True):
    """The leaves after the five updates."""
    params, state = fgrad.tree.tree_map(fnp.asarray, PARAMS), optimiser.init(PARAMS)
    update = fgrad.jit(optimiser.update) if jit else optimiser.update
    for g in GRADIENTS:
        updates, state = update(g, state, params)
        params = optim.apply_updates(params, updates)
    return [np.asarray(x) for x in fgrad.tree.tree_leaves(params)]


def by_hand(step):
    """The same with a NumPy step ``step(p, g, memory, t) -> p`` on every leaf."""
    out = []
    for i, p in enumerate(fgrad.tree.tree_leaves(PARAMS)):
        memory = {}
        for t, g in enumerate(GRADIENTS, 1):
            p = step(p, fgrad.tree.tree_leaves(g)[i], memory, t)
        out.append(p)
    return out


def sgd(p, g, memory, t):
    return p - 0.1 * g


def momentum(p, g, memory, t):
    memory["t"] = g + 0.9 * memory.get("t", 0)
    return p - 0.1 * memory["t"]


def nesterov(p, g, memory, t):
    memory["t"] = g + 0.9 * memory.get("t", 0)
    return p - 0.1 * (g + 0.9 * memory["t"])


def adam(p, g, memory, t, decay=0.0, ahead=False):
    m = memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
    v = memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * g**2
    m_hat = m / (1 - 0.9**t)
    if ahead:
        m_hat = 0.9 * m / (1 - 0.9 ** (t + 1)) + 0.1 * g / (1 - 0.9**t)
    return p - 0.1 * (m_hat / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * p)


CASES = {
    "sgd": (optim.sgd(0.1), sgd),
    "momentum": (optim.sgd(0.1, momentum=0.9), momentum),
    "nesterov": (optim.sgd(0.1, momentum=0.9, nesterov=True), nesterov),
    "adam": (optim.adam(0.1), adam),
    "nadam": (optim.adam(0.1, nesterov=True), lambda *a: adam(*a, ahead=True)),
    "adamw": (optim.adamw(0.1, weight_decay=0.3), lambda *a: adam(*a, decay=0.3)),
    "schedule": (optim.sgd(lambda count: 0.1 / (1 + count)), lambda p, g, memory, t: p - 0.1 / t * g),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("jit", [False, True])
def test_steps(name, jit):
    optimiser, step = CASES[name]
    for ours, expected in zip(run(optimiser, jit), by_hand(step)):
        assert ours.dtype == np.float64
        # Adam's bias corrections are computed in float32, from the int32 count.
        np.testing.assert_allclose(
            ours, expected, rtol=1e-4 if "ad" in name else 1e-7, atol=1e-5 if "ad" in name else 0
        )


def test_decay_mask():
    optimiser = optim.adamw(0.1, weight_decay=0.3, mask={"w": True, "b": (False,)})
    plain, decayed = by_hand(adam), by_hand(lambda *a: adam(*a, decay=0.3))
    b, w = run(optimiser)
    np.testing.assert_allclose(b, plain[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(w, decayed[1], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"add_decayed_weights: needs the parameters, got params=None"):
        optimiser.update(GRADIENTS[0], optimiser.init(PARAMS))


def test_clipping():
    g = {"a": fnp.array([3.0, 0.0]), "b": fnp.array(4.0)}
    assert optim.global_norm(g).item() == 5.0 and optim.global_norm({}).item() == 0.0
    short, _ = optim.clip_by_global_norm(1.0).update(g, optim.EmptyState())
    np.testing.assert_allclose(short["a"], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(short["b"], 0.8, rtol=1e-6)
    same, _ = optim.clip_by_global_norm(10.0).update(g, optim.EmptyState())
    assert same["a"].tolist() == [3.0, 0.0]
    zero, _ = optim.clip_by_global_norm(1.0).update({"a": fnp.zeros(2)}, optim.EmptyState())
    assert zero["a"].tolist() == [0.0, 0.0]
    cut, _ = optim.clip(2.0).update(g, optim.EmptyState())
    assert cut["a"].tolist() == [2.0, 0.0]


def test_dtypes_are_kept():
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        params = {"w": fnp.ones(2, dtype)}
        for optimiser in (optim.sgd(0.1, 0.9), optim.adamw(optim.cosine_decay_schedule(0.1, 10))):
            updates, _ = fgrad.jit(optimiser.update)(params, optimiser.init(params), params)
            assert optim.apply_updates(params, updates)["w"].dtype == params["w"].dtype


def test_finds_a_minimum():
    target = fnp.array([1.0, -2.0, 0.5])
    loss = lambda p: fnp.sum((p["x"] - target) ** 2 * fnp.array([1.0, 10.0, 0.1]))  # noqa: E731
    optimiser = optim.chain(optim.clip_by_global_norm(5.0), optim.adam(optim.cosine_decay_schedule(0.3, 300)))
    params = {"x": fnp.zeros(3)}
    state = optimiser.init(params)

    @fgrad.jit
    def step(params, state):
        updates, state = optimiser.update(fgrad.grad(loss)(params), state, params)
        return optim.apply_updates(params, updates), state

    for _ in range(300):
        params, state = step(params, state)
    np.testing.assert_allclose(params["x"], target, atol=1e-3)


SCHEDULES = [
    (optim.constant_schedule(0.5), lambda t: 0.5),
    (optim.linear_schedule(1.0, 0.2, 10, 5), lambda t: 1 - 0.8 * min(max(t - 5, 0) / 10, 1)),
    (optim.exponential_decay(2.0, 4, 0.5), lambda t: 2 * 0.5 ** (t / 4)),
    (optim.exponential_decay(2.0, 4, 0.5, 2, True, 0.3), lambda t: max(2 * 0.5 ** (max(t - 2, 0) // 4), 0.3)),
    (optim.exponential_decay(1.0, 4, 2.0, end_value=3.0), lambda t: min(2 ** (t / 4), 3)),
    (optim.cosine_decay_schedule(2.0, 12, 0.1), lambda t: 1.8 * (1 + math.cos(math.pi * min(t / 12, 1))) / 2 + 0.2),
    (optim.cosine_decay_schedule(1.0, 8, exponent=2), lambda t: ((1 + math.cos(math.pi * min(t / 8, 1))) / 2) ** 2),
    (
        optim.piecewise_constant_schedule(1.0, {3: 0.5, 8: 0.1}),
        lambda t: (0.5 if t >= 3 else 1) * (0.1 if t >= 8 else 1),
    ),
    (
        optim.warmup_cosine_decay_schedule(0.1, 1.0, 5, 15, 0.2),
        lambda t: 0.1 + 0.9 * t / 5 if t < 5 else 0.8 * (1 + math.cos(math.pi * min((t - 5) / 10, 1))) / 2 + 0.2,
    ),
]


@pytest.mark.parametrize(("ours", "expected"), SCHEDULES)
def test_schedules(ours, expected):
    jitted = fgrad.jit(ours)
    for t in range(20):
        assert ours(t).item() == pytest.approx(expected(t), rel=1e-5, abs=1e-6)
        assert jitted(np.int32(t)).item() == pytest.approx(expected(t), rel=1e-5, abs=1e-6)


def test_schedule_errors():
    with pytest.raises(ValueError, match=r"cosine_decay_schedule: decay_steps must be positive, got 0"):
        optim.cosine_decay_schedule(1.0, 0)
    with pytest.raises(ValueError, match=r"warmup_cosine_decay_schedule: warmup_steps must lie between .* got 5 and 5"):
        optim.warmup_cosine_decay_schedule(0.0, 1.0, 5, 5)
    with pytest.raises(
        ValueError, match=r"join_schedules: needs one boundary between schedules, got 1 schedules and 1"
    ):
        optim.join_schedules([optim.constant_schedule(1.0)], [3])
    with pytest.raises(ValueError, match=r"chain: needs one state for each of its 2 transformations, got 0"):
        optim.sgd(0.1).update(fnp.ones(2), ())
