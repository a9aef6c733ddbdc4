"""Chains of loops over the same rows run block of rows by block of rows, with the bits that they have one by one."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import config, lax, nn
from fgrad.compiler import lower
from fgrad.compiler.explain import explain
from fgrad.compiler.program import Program


def draw(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).uniform(-3, 3, shape).astype(dtype)


def layer_norm(x, scale=1.0, shift=0.0):
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * scale + shift


def cross_entropy(x, labels):
    return -fnp.mean(fnp.sum(nn.one_hot(labels, x.shape[-1]) * nn.log_softmax(x), -1))


def of_images(x):
    """Each image and group of channels by itself: rows of two axes."""
    y = x.reshape(*x.shape[:3], 2, -1)
    y = (y - y.mean((1, 2, 4), keepdims=True)) / fnp.sqrt(y.var((1, 2, 4), keepdims=True) + 1e-5)
    return y.reshape(x.shape)


LABELS = np.arange(300, dtype=np.int32) % 77
SHIFT = draw(77, seed=1)
PROGRAMS = {
    "softmax": (nn.softmax, (draw(300, 77),)),
    "softmax float64": (nn.softmax, (draw(300, 77, dtype=np.float64),)),
    "softmax float16": (nn.softmax, (draw(300, 77, dtype=np.float16),)),
    "few columns": (nn.log_softmax, (draw(5000, 10),)),
    "one row more than whole blocks": (nn.softmax, (draw(257, 1000),)),
    "long rows": (nn.softmax, (draw(33, 9001),)),
    "no rows": (nn.softmax, (draw(0, 9),)),
    "logsumexp": (lambda x: nn.logsumexp(x, axis=-1), (draw(300, 77),)),
    "layer norm": (layer_norm, (draw(300, 77), SHIFT, SHIFT)),
    "its gradients": (fgrad.grad(lambda *a: fnp.sum(layer_norm(*a) ** 3), (0, 1, 2)), (draw(300, 77), SHIFT, SHIFT)),
    "cross entropy": (fgrad.value_and_grad(cross_entropy), (draw(300, 77), LABELS)),
    "rows of several axes": (nn.softmax, (draw(3, 40, 5, 33),)),
    "a mask for all": (lambda x, m: nn.softmax(fnp.where(m, x, -np.inf)), (draw(20, 8, 8), np.tri(8, dtype=bool))),
    "a turned operand": (nn.softmax, (draw(64, 300),)),
    "groups of channels": (of_images, (draw(20, 6, 6, 8),)),
    "places": (lambda x: (fnp.argmax(x, 1), x - x.max(1, keepdims=True)), (draw(300, 77),)),
    "booleans": (lambda x: (x > x.mean(1, keepdims=True)).any(1), (draw(300, 77),)),
    "integers": (lambda x: x - x.sum(1, keepdims=True), (np.arange(6000).reshape(200, 30),)),
}


def compiled(f, *args):
    return Program(fgrad.make_jaxpr(f)(*args))


@pytest.fixture
def apart(monkeypatch):
    """Compiles without the pass."""

    def compiled_apart(f, *args):
        with monkeypatch.context() as patch:
            patch.setattr(lower, "by_rows", list)
            program = compiled(f, *args)
            assert program.lines  # made when they are asked for: without the pass, too
            return program

    return compiled_apart


def bits(results):
    return [np.asarray(r).tobytes() for r in results]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_bits_are_those_of_the_launches_one_by_one(name, apart):
    f, args = PROGRAMS[name]
    want = bits(apart(f, *args)(args))
    for threads in (1, 3):
        with config.using_num_threads(threads):
            assert bits(compiled(f, *args)(args)) == want


@pytest.mark.parametrize("name", [n for n in PROGRAMS if n != "no rows"])
def test_it_is_fewer_instructions_and_less_traffic(name, apart):
    f, args = PROGRAMS[name]
    together, alone = explain(compiled(f, *args)), explain(apart(f, *args))
    assert len(together.rows) < len(alone.rows)
    assert together.bytes < alone.bytes and together.arena_bytes <= alone.arena_bytes


def test_it_is_told():
    (row,) = fgrad.jit(nn.softmax).lower(draw(300, 1000)).explain().rows
    assert row.fused == ("reduce_max", "sub", "exp", "reduce_sum", "div")
    assert row.why == "3 loops over the same 300 rows, each block of rows through all of them"
    assert row.stored == ("stores float32[300, 1000]: it is a result of the program",)
    assert row.tile == "5 rows" and row.tiles == 60
    assert (row.flops, row.bytes_read, row.bytes_written) == (5 * 300_000, 1_200_000, 1_200_000)


def test_what_goes_by_other_rows_stays_outside():
    def f(x):
        y = nn.softmax(x)
        return y, (y[::-1] * 2).sum(1)

    first, second = fgrad.jit(f).lower(draw(300, 77)).explain().rows
    assert first.fused == ("reduce_max", "sub", "exp", "reduce_sum", "div") and second.fused == ("mul", "reduce_sum")
    assert "goes by other rows, or needs more than these" in first.stored[0]
    for got, want in zip(fgrad.jit(f)(draw(300, 77)), f(fnp.asarray(draw(300, 77)))):
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-5)


def test_a_chain_waits_for_nothing_that_comes_later():
    """The product needs the rows' largest, and what is subtracted needs the product."""

    def f(x, w):
        m = x.max(1, keepdims=True)
        return fnp.exp(x - m - (m.reshape(1, -1) @ w).reshape(-1, 1)).sum(1)

    x, w = draw(40, 30), draw(40, 40, seed=1) / 40
    np.testing.assert_allclose(fgrad.jit(f)(x, w), f(fnp.asarray(x), fnp.asarray(w)), rtol=1e-4)
    assert "dot_general" in fgrad.jit(f).lower(x, w).explain().rows[1].operation


def test_nothing_passes_a_barrier():
    def f(x):
        m = x.max(1, keepdims=True)
        x, m = lax.optimization_barrier((x, m))
        return fnp.exp(x - m).sum(1)

    assert len(fgrad.jit(f).lower(draw(40, 30)).explain().rows) == 2


def test_wide_rows_and_few_of_them_are_launches_of_their_own():
    for shape in ((20, 1 << 17), (4, 1 << 14)):
        rows = fgrad.jit(nn.softmax).lower(draw(*shape)).explain().rows
        assert len(rows) >= 3 and not any("the same" in row.why for row in rows)


def test_a_donated_argument_is_written_over_row_by_row():
    x = draw(300, 77)
    want = np.asarray(fgrad.jit(nn.softmax)(x))
    given = fnp.asarray(x.copy())
    donating = fgrad.jit(nn.softmax, donate_argnums=0)
    assert donating.lower(x).program.aliases == {0: 0}
    np.testing.assert_array_equal(np.asarray(donating(given)), want)

    def again(x):  # reads it after the result of its shape
        y = nn.softmax(x)
        return y, (y * x).sum(1)

    want = fgrad.jit(again)(x)
    for g, w in zip(fgrad.jit(again, donate_argnums=0)(fnp.asarray(x.copy())), want):
        np.testing.assert_array_equal(np.asarray(g), np.asarray(w))


def test_in_the_body_of_a_loop(apart):
    def f(x):
        return lax.scan(lambda c, r: (nn.softmax(c * r), nn.logsumexp(c, axis=1)), x, fnp.arange(1.0, 5.0))

    x = draw(300, 77)
    program = compiled(f, x)
    assert bits(program([x])) == bits(apart(f, x)([x]))
    assert any("loops over the same 300 rows" in row.why for row in explain(program).rows)
