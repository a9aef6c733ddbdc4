"""Per-example gradients: vmap of grad of a convolution is one grouped convolution, equal to a loop of gradients."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core.jaxpr import walk_eqns

B = 4
# rank, stride, padding, dilation of the input, of the kernel, groups
SETTINGS = {
    "1d": (1, 1, "SAME", 1, 1, 1),
    "1d, strides": (1, 3, "VALID", 1, 1, 1),
    "1d, groups": (1, 2, [(1, 2)], 1, 2, 2),
    "2d": (2, 1, "SAME", 1, 1, 1),
    "2d, strides": (2, 2, "SAME", 1, 1, 1),
    "2d, kernel dilated": (2, 1, [(2, 2), (1, 3)], 1, 2, 1),
    "2d, input dilated": (2, 1, [(2, 1), (2, 2)], 2, 1, 1),
    "2d, all": (2, 2, [(2, 1), (0, 3)], 3, 2, 1),
    "2d, groups": (2, 2, "SAME", 1, 1, 2),
    "2d, depthwise": (2, 1, "SAME", 1, 1, 4),
    "3d": (3, 2, "SAME", 1, 1, 1),
    "3d, groups": (3, 1, [(1, 0), (1, 1), (0, 1)], 1, 2, 2),
}
every_setting = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)


def network(setting, lax=lax, sum=fnp.sum, sin=fnp.sin):
    """(loss of one example, weights, examples); the loss reads x [4, 5, ..] as a batch of one."""
    rank, stride, padding, lhs, rhs, groups = setting
    rng = np.random.default_rng(0)
    w = rng.standard_normal((4, 4 // groups, *(2, 3, 2)[:rank]))
    x = rng.standard_normal((B, 4, *(5, 6, 4)[:rank]))

    def loss(w, x):
        y = lax.conv_general_dilated(
            x[None], w, (stride,) * rank, padding, (lhs,) * rank, (rhs,) * rank, feature_group_count=groups
        )
        return sum(sin(y) * 2)

    return loss, w, x


def close(got, want):
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-11, atol=1e-11)


def convolutions(f, *args):
    found = []
    walk_eqns(fgrad.make_jaxpr(f)(*args).jaxpr, lambda e: found.append(e))
    return [e for e in found if e.primitive.name == "conv_general_dilated"]


@every_setting
@pytest.mark.parametrize("shared", [True, False], ids=["shared weights", "own weights"])
def test_gradients_of_each_example(setting, shared):
    loss, w, x = network(setting)
    ws = w if shared else np.stack([w * (1 + i) for i in range(B)])
    of_one = fgrad.grad(loss, (0, 1))
    per_example = fgrad.vmap(of_one, in_axes=(None if shared else 0, 0))
    wants = [of_one(w if shared else ws[i], x[i]) for i in range(B)]
    for got in (per_example(ws, x), fgrad.jit(per_example)(ws, x)):
        for k in (0, 1):
            close(got[k], np.stack([np.asarray(want[k]) for want in wants]))


@every_setting
def test_one_convolution_for_each_of_the_loop(setting):
    """Whatever the number of examples: forward, weights' gradient, input's gradient."""
    loss, w, x = network(setting)
    per_example = fgrad.vmap(fgrad.grad(loss, (0, 1)), in_axes=(None, 0))
    found = convolutions(per_example, w, x)
    assert len(found) == 3
    groups = setting[-1]
    assert sorted(max(e.params["feature_group_count"], e.params["batch_group_count"]) for e in found) == sorted(
        [groups, groups, B * groups]
    )


def test_a_convolution_with_both_operands_mapped_is_one_grouped_convolution():
    loss, w, x = network(SETTINGS["2d, groups"])
    ws = np.stack([w] * B)
    found = convolutions(fgrad.vmap(loss), ws, x)
    assert [e.params["feature_group_count"] for e in found] == [2 * B]


def test_mapped_over_other_axes():
    loss, w, x = network(SETTINGS["2d, strides"])
    got = fgrad.vmap(fgrad.grad(loss), in_axes=(None, 2), out_axes=-1)(w, np.moveaxis(x, 0, 2))
    close(np.moveaxis(np.asarray(got), -1, 0), fgrad.vmap(fgrad.grad(loss), in_axes=(None, 0))(w, x))


def test_clipped_and_summed():
    """What per-example gradients are for: each is clipped before they are summed."""
    loss, w, x = network(SETTINGS["2d"])

    def clipped(w, x):
        g = fgrad.grad(loss)(w, x)
        return g / fnp.maximum(fnp.sqrt(fnp.sum(g * g)), 1.0)

    got = fgrad.jit(lambda w, x: fnp.sum(fgrad.vmap(clipped, in_axes=(None, 0))(w, x), axis=0))(w, x)
    close(got, sum(np.asarray(clipped(w, e)) for e in x))


def test_second_derivatives_of_each_example():
    loss, w, x = network(SETTINGS["2d, strides"])
    v = np.random.default_rng(1).standard_normal(w.shape)

    def product(w, x):
        return fgrad.jvp(lambda w: fgrad.grad(loss)(w, x), (w,), (v,))[1]

    got = fgrad.vmap(product, in_axes=(None, 0))(w, x)
    close(got, np.stack([np.asarray(product(w, e)) for e in x]))


@pytest.mark.oracle
@every_setting
def test_jax_agrees(setting, jax):
    loss, w, x = network(setting)
    theirs, _, _ = network(setting, jax.lax, jax.numpy.sum, jax.numpy.sin)
    got = fgrad.jit(fgrad.vmap(fgrad.grad(loss, (0, 1)), in_axes=(None, 0)))(w, x)
    want = jax.vmap(jax.grad(theirs, (0, 1)), in_axes=(None, 0))(w, x)
    for g, t in zip(got, want, strict=True):
        close(g, t)
