"""What checkpoint computes and stores, policy by policy, beside JAX: a chain, an MLP and an attention block."""

import re
from collections import Counter

import numpy as np
import pytest
from custom_programs import OURS, of_jax

import fgrad
from fgrad import checkpoint_policies
from fgrad.ad_checkpoint import checkpoint_name, print_saved_residuals

RNG = np.random.default_rng(0)


def normal(*shape):
    return 0.4 * RNG.standard_normal(shape)


def chain(np, lax, name):
    return lambda w, x: np.sum(np.sin(name(np.sin(x @ w), "hidden") @ w))


def mlp(np, lax, name):
    def f(p, x):
        for _ in range(2):
            x = np.maximum(name(name(np.tanh(x @ p["a"] + 1.0), "hidden") @ p["b"], "out"), 0)
        return np.sum(x * x)

    return f


def attention(np, lax, name):
    def f(p, x):
        q, k, v = (name(x @ p[n], "projected") for n in "qkv")
        scores = name(np.einsum("bid,bjd->bij", q, k), "hidden")
        e = np.exp(scores - lax.stop_gradient(np.max(scores, axis=-1, keepdims=True)))
        mixed = np.einsum("bij,bjd->bid", e / np.sum(e, axis=-1, keepdims=True), v)
        y = x + name(mixed @ p["o"], "out")
        y = (y - np.mean(y, -1, keepdims=True)) / np.sqrt(np.var(y, axis=-1, keepdims=True) + 1e-5)
        return np.sum((y + np.maximum(y @ p["up"], 0) @ p["down"]) ** 2)

    return f


MLP = {"a": normal(6, 8), "b": normal(8, 6)}
ATTENTION = {**{n: normal(6, 6) for n in "qkvo"}, "up": normal(6, 8), "down": normal(8, 6)}
PROGRAMS = {
    "chain": (chain, (normal(4, 4), normal(5, 4))),
    "mlp": (mlp, (MLP, normal(5, 6))),
    "attention": (attention, (ATTENTION, normal(2, 4, 6))),
}
# what derivatives of single operations read is each library's own affair
OWN_RESIDUALS = ("everything", "all but hidden")
# fgrad takes a named value for the value it names, so that the product behind it need not be stored
FEWER = ("dots and hidden",)
POLICIES = {
    "default": lambda p: None,
    "nothing": lambda p: p.nothing_saveable,
    "everything": lambda p: p.everything_saveable,
    "dots": lambda p: p.dots_saveable,
    "dots, older name": lambda p: p.checkpoint_dots,
    "dots without batch": lambda p: p.dots_with_no_batch_dims_saveable,
    "dots without batch, older name": lambda p: p.checkpoint_dots_with_no_batch_dims,
    "only hidden": lambda p: p.save_only_these_names("hidden"),
    "hidden and out": lambda p: p.save_only_these_names("hidden", "out"),
    "names but hidden": lambda p: p.save_any_names_but_these("hidden"),
    "all but hidden": lambda p: p.save_anything_except_these_names("hidden"),
    "dots and hidden": lambda p: p.save_from_both_policies(
        p.dots_with_no_batch_dims_saveable, p.save_only_these_names("hidden")
    ),
}


def shapes(capsys, show, f, args):
    """Of the values that a library's print_saved_residuals lists."""
    capsys.readouterr()
    show(f, *args)
    return sorted(re.findall(r"^\w+\[(.*?)\]", capsys.readouterr().out, re.MULTILINE))


@pytest.mark.oracle
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_values_and_residuals_equal_jax(jax, capsys, program, policy):
    from jax import ad_checkpoint

    build, args = PROGRAMS[program]
    theirs, ours = of_jax(jax), OURS
    of_theirs = jax.checkpoint(
        build(theirs.np, theirs.lax, ad_checkpoint.checkpoint_name), policy=POLICIES[policy](jax.checkpoint_policies)
    )
    of_ours = fgrad.checkpoint(build(ours.np, ours.lax, checkpoint_name), policy=POLICIES[policy](checkpoint_policies))
    want = jax.tree.leaves(jax.value_and_grad(of_theirs, (0, 1))(*args))
    for call in (fgrad.value_and_grad(of_ours, (0, 1)), fgrad.jit(fgrad.value_and_grad(of_ours, (0, 1)))):
        for g, w in zip(fgrad.tree.tree_leaves(call(*args)), want, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-12)
    got = shapes(capsys, print_saved_residuals, of_ours, args)
    expected = shapes(capsys, ad_checkpoint.print_saved_residuals, of_theirs, args)
    if policy in FEWER:
        assert not Counter(got) - Counter(expected)
    elif policy not in OWN_RESIDUALS:
        assert got == expected
