"""What fgrad holds of a user's NumPy arrays is a copy: changing them after a call changes no later result."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import lax, nn
from fgrad.core.jaxpr import eval_jaxpr

# Of x and w, both [6, 6]
FUNCTIONS = {
    "product": lambda x, w: x * w,
    "matmul": lambda x, w: x @ w,
    "conv": lambda x, w: lax.conv(x.reshape(1, 1, 6, 6), w[:3, :3].reshape(1, 1, 3, 3), (1, 1), "SAME"),
    "windows": lambda x, w: nn.max_pool((x * w).reshape(1, 6, 6, 1), (2, 2), (2, 2)),
    "maximum": lambda x, w: fnp.max(x * w, 0) + fnp.sort(x + w, 0)[0],
    "index": lambda x, w: fnp.take(x, np.array([0, 3]), 0) * w[:2],
    "views": lambda x, w: (x.T * w[::-1]).reshape(-1),
    "loop": lambda x, w: lax.scan(lambda c, a: (c * a + w[0], c), x[0], x),
    "branches": lambda x, w: lax.cond(True, lambda: fnp.sin(x) * w, lambda: x),
    "checkpoint": fgrad.checkpoint(lambda x, w: fnp.sin(x * w)),
    "jit": fgrad.jit(lambda x, w: fnp.tanh(x @ w) * w),
}


def users(strided):
    """Two arrays of the user's, whole or views of larger ones."""
    a, b = np.random.default_rng(0).standard_normal((2, 12, 12)).astype(np.float32)
    return (a[::2, ::-2], b[3:9, 3:9]) if strided else (a[:6, :6].copy(), b[:6, :6].copy())


def values(tree):
    return [np.array(leaf) for leaf in fgrad.tree.tree_leaves(tree)]


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_later_changes_change_nothing(name, strided):
    f = FUNCTIONS[name]

    def calls(x, w):
        """Results that are there, and calls that are still to come."""
        y, pull = fgrad.vjp(f, x, w)
        _, linear = fgrad.linearize(f, x, w)
        closed_over, constant = fgrad.jit(lambda t: f(t, w)), fgrad.make_jaxpr(lambda t: f(t, w))(x)
        closed_over(x)
        ones = fgrad.tree.tree_map(fnp.ones_like, y)
        tangents = (fnp.asarray(x), fnp.asarray(w))
        there = y, f(x, w), fgrad.jit(f)(x, w), tangents
        later = (
            lambda: pull(ones),
            lambda: linear(*tangents),
            lambda: closed_over(tangents[0]),
            lambda: eval_jaxpr(constant.jaxpr, constant.consts, tangents[0]),
        )
        return there, later

    there, later = calls(*users(strided))
    want = [values(there), *(values(call()) for call in later)]
    x, w = users(strided)
    there, later = calls(x, w)
    x[...], w[...] = 7, -3
    for tree, leaves in zip([there, *(call() for call in later)], want):
        for got, leaf in zip(values(tree), leaves, strict=True):
            np.testing.assert_array_equal(got, leaf)
