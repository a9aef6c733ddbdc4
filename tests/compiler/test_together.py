"""Element-wise launches that do not depend on each other are one instruction, and right in any number of pieces."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import config, lax, optim

SHAPES = [(3,), (5, 7), (1,), (64, 300), (2, 3, 4), (0,), (40_000,)]


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]


def rows(f, *args):
    return fgrad.jit(f).lower(*args).explain().rows


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("optimiser", "instructions"),
    # adam's corrections of the bias are scalars that every update waits for
    [(optim.sgd(0.1), 1), (optim.sgd(0.1, momentum=0.9), 1), (optim.adam(1e-3), 2)],
)
def test_an_update_of_all_parameters_is_one_pass(optimiser, instructions, threads):
    def update(grads, state, params):
        updates, state = optimiser.update(grads, state, params)
        return optim.apply_updates(params, updates), state

    params, grads = parameters(), parameters(1)
    state = optimiser.init([fnp.asarray(p) for p in params])
    found = rows(update, grads, state, params)
    assert len(found) == instructions
    with config.using_num_threads(threads):
        got = fgrad.tree.tree_leaves(fgrad.jit(update)(grads, state, params))
    want = fgrad.tree.tree_leaves(update(*[fgrad.tree.tree_map(fnp.asarray, a) for a in (grads, state, params)]))
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(g), np.asarray(w), rtol=1e-5, atol=1e-6)


def test_what_depends_on_a_launch_comes_after_it():
    def f(x, y):
        a, b = fnp.sin(x), y * 2  # independent
        c = a[::-1] + b.sum()  # needs both
        return a, b, c, c.reshape(2, 4)[0] * 3

    x, y = np.arange(8.0), np.arange(5.0)
    for got, want in zip(fgrad.jit(f)(x, y), f(fnp.asarray(x), fnp.asarray(y))):
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-12)


def test_it_is_told():
    (row,) = rows(lambda x, y: (fnp.sin(x), fnp.cos(y) + 1), np.ones(8), np.ones(9))
    assert row.fused == ("sin", "cos", "add") and row.flops == 8 + 18
    assert row.why == "2 element-wise loops that do not depend on each other, their tiles side by side"
    assert row.stored == ("stores float64[8]: it is a result of the program",
                          "stores float64[9]: it is a result of the program")  # fmt: skip


def test_donated_arguments_are_written_over_where_nobody_else_reads_them():
    p, q = np.arange(3000.0), np.arange(4000.0)

    def f(p, q):
        return p + 1, q[:3000] * p, q * 2

    given = fnp.asarray(p.copy()), fnp.asarray(q.copy())
    for got, want in zip(fgrad.jit(f, donate_argnums=(0, 1))(*given), (p + 1, q[:3000] * p, q * 2)):
        np.testing.assert_array_equal(np.asarray(got), want)


def test_inside_loops():
    def body(c, _):
        a, b = c
        return (fnp.sin(a) + 1, b * 0.5 + lax.cos(b)), a[:2]

    start = (np.arange(300.0), np.arange(500.0).reshape(5, 100))
    got = fgrad.jit(lambda c: lax.scan(body, c, None, length=5))(start)
    want = lax.scan(body, fgrad.tree.tree_map(fnp.asarray, start), None, length=5)
    for g, w in zip(fgrad.tree.tree_leaves(got), fgrad.tree.tree_leaves(want), strict=True):
        np.testing.assert_allclose(np.asarray(g), np.asarray(w), rtol=1e-12)
