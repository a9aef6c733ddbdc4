"""Convolutions that the user wrote channels-first run channels-last, and every result keeps the user's axes."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.compiler.simplify import simplify
from fgrad.core.check import check_jaxpr

CHANNELS_FIRST = ("NCHW", "OIHW", "NCHW")


def small(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).integers(-4, 5, shape).astype(np.float32)


def conv(x, w, padding="SAME"):
    return lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=CHANNELS_FIRST)


def pool(x, kind=lax.max, start=-np.inf):
    return lax.reduce_window(x, start, kind, (1, 1, 3, 2), (1, 1, 1, 2), ((0, 0), (0, 0), (1, 2), (0, 1)))


#: What may stand between two convolutions: from [4, 16, 12, 10] to [4, 16, h, w].
BETWEEN = {
    "nothing": lambda y: y,
    "bias and relu": lambda y: fnp.maximum(y + small(16)[:, None, None], 0),
    "an array of another order": lambda y: y + fnp.asarray(small(10, 12, 16, 4)).T,
    "max pool": pool,
    "max pool of turned axes": lambda y: pool(y.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2),
    "sum pool": lambda y: pool(y, lax.add, 0.0),
    "pad": lambda y: fnp.pad(y, ((0, 0), (0, 0), (1, 2), (3, 0)), constant_values=2.0),
    "slice": lambda y: y[:, :, 1:-1, ::2],
    "concatenate": lambda y: fnp.concatenate([y[:, 8:], 2 * y[:, :8]], axis=1),
    "transposes": lambda y: (y.transpose(2, 0, 3, 1) + 1).transpose(1, 3, 0, 2),
    "mean": lambda y: y - y.sum((0, 2, 3), keepdims=True),
    "reshape": lambda y: y.reshape(4, 16, 10, 12),
    "a loop": lambda y: lax.fori_loop(0, 3, lambda i, c: fnp.maximum(c, 0) + i, y),
    "a branch": lambda y: lax.cond(y[0, 0, 0, 0] > 0, lambda c: c + 1, lambda c: c - 1, y),
}


def network(between):
    def run(x, w, v):
        y = between(conv(x, w))
        return conv(y, v), y

    return run


def operands():
    return small(4, 3, 12, 10), small(16, 3, 3, 3), small(16, 16, 3, 3, seed=1)


@pytest.mark.parametrize("between", BETWEEN)
def test_values_and_gradients(between):
    run = network(BETWEEN[between])

    def loss(*args):
        z, y = run(*args)
        return (z * 0.25).sum() + (y * y).sum(), (z, y)

    f = fgrad.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
    args = operands()
    check_jaxpr(simplify(fgrad.make_jaxpr(f)(*args)))
    got, want = fgrad.tree.tree_leaves(fgrad.jit(f)(*args)), fgrad.tree.tree_leaves(f(*map(fnp.asarray, args)))
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape
        np.testing.assert_allclose(np.asarray(g), np.asarray(w), rtol=1e-5, atol=1e-4 * np.abs(np.asarray(w)).max())


@pytest.mark.parametrize(
    "between", ["nothing", "bias and relu", "max pool", "sum pool", "slice", "transposes", "concatenate", "mean"]
)
def test_only_the_edges_are_copied(between):
    """The value between is never channels-first in memory."""
    run = network(BETWEEN[between])
    text = fgrad.jit(lambda *a: run(*a)[0].sum((2, 3))).lower(*operands()).as_text()
    convolutions = [line for line in text.splitlines() if "out_spec=" in line]
    assert len(convolutions) == 2 and "out_spec=(0,3,1,2)" in convolutions[0]
    assert "lhs_spec=(0,3,1,2)" in convolutions[1]
    assert "copy for" not in text.replace("copy for concatenate", "")


def test_the_gradient_of_max_pooling_is_channels_last():
    """Its taps count within the window, so they mean the same in any layout."""
    run = network(BETWEEN["max pool"])
    step = fgrad.grad(lambda *a: run(*a)[0].sum(), argnums=(1, 2))
    text = fgrad.jit(step).lower(*operands()).as_text()
    winner, scatter = (
        next(line for line in text.splitlines() if f"  {name} float32" in line)
        for name in ("reduce_window_winner", "scatter_winners")
    )
    assert "float32[4, 12, 10, 16] -> float32[4, 13, 5, 16] uint8[4, 13, 5, 16]" in winner
    assert "float32[4, 13, 5, 16] uint8[4, 13, 5, 16] -> float32[4, 12, 10, 16]" in scatter


def test_a_window_whose_axes_change_places_keeps_its_order():
    """Turning it would number its taps anew, and of ties another one would be the first."""
    run = network(BETWEEN["max pool of turned axes"])
    text = fgrad.jit(fgrad.grad(lambda *a: run(*a)[0].sum(), argnums=1)).lower(*operands()).as_text()
    assert "reduce_window_winner float32[4, 16, 10, 12] ->" in text


def test_a_result_that_is_returned_is_not_turned():
    text = fgrad.jit(lambda x, w: fnp.maximum(conv(x, w), 0)).lower(*operands()[:2]).as_text()
    assert "out_spec=(0,1,2,3)" in text and "copy for output" not in text


def test_the_gradient_of_a_weight_is_channels_last_until_it_is_used():
    x, w = small(8, 16, 12, 12), small(32, 16, 3, 3)
    step = fgrad.jit(lambda w, x: w - 0.5 * fgrad.grad(lambda w: (conv(x, w) ** 2).sum())(w))
    text = step.lower(w, x).as_text()
    assert "copy for output" not in text and text.count("out_spec=(0,3,1,2)") == 2
    want = w - 0.5 * np.asarray(fgrad.grad(lambda w: (conv(x, w) ** 2).sum())(fnp.asarray(w)))
    np.testing.assert_allclose(np.asarray(step(w, x)), want, rtol=1e-5)


@pytest.mark.parametrize("spatial", [1, 3])
def test_other_numbers_of_dimensions(spatial):
    names = "DHW"[-spatial:]
    numbers = (f"NC{names}", f"OI{names}", f"NC{names}")
    x, w = small(2, 4, *([700] if spatial == 1 else [10, 9, 8])), small(8, 4, *[3] * spatial)

    def f(x, w):
        y = lax.conv_general_dilated(x, w, (1,) * spatial, "SAME", dimension_numbers=numbers)
        return lax.conv_general_dilated(
            fnp.maximum(y, 0), w.repeat(2, 1), (2,) * spatial, "SAME", dimension_numbers=numbers
        )

    np.testing.assert_allclose(np.asarray(fgrad.jit(f)(x, w)), np.asarray(f(x, w)), rtol=1e-5)


def test_under_vmap():
    x, w, v = small(3, 2, 3, 12, 10), small(16, 3, 3, 3), small(16, 16, 3, 3, seed=1)
    f = fgrad.vmap(lambda x, w, v: network(BETWEEN["max pool"])(x, w, v)[0], in_axes=(0, None, None))
    np.testing.assert_allclose(np.asarray(fgrad.jit(f)(x, w, v)), np.asarray(f(x, w, v)), rtol=1e-5)
