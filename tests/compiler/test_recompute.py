"""Passes over memory: what is computed again, which reductions share a kernel, which sums are not summed up."""

import re

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import lax

SHAPE = (8, 12, 12, 16)
LARGE = "float64[8, 12, 12, 16]"
X = np.random.default_rng(0).uniform(-1, 1, SHAPE)
W = np.random.default_rng(1).uniform(-0.2, 0.2, (3, 3, 16, 16))


def program(f, *args, tolerance=1e-11):
    """The lines of emitted loops over the whole shape, after checking its results against eager ones."""
    got = fgrad.tree.tree_leaves(fgrad.jit(f)(*args))
    want = fgrad.tree.tree_leaves(f(*fgrad.tree.tree_map(fnp.asarray, args)))
    for g, w in zip(got, want, strict=True):
        w = np.asarray(w)
        np.testing.assert_allclose(np.asarray(g), w, rtol=tolerance, atol=tolerance * max(1, np.abs(w).max(initial=0)))
    lines = fgrad.jit(f).lower(*args).as_text().split("\n\n")[-1].splitlines()[1:]
    # a reduction of partial results repeats its line, with another shape in the note
    return [line for line in lines if "emitted" in line and str(list(SHAPE)) in line.split("  (")[-1]]


def stores(line):
    """The results that a line names."""
    return re.findall(r"\w+\[[^\]]*\]", line.split(" -> ")[1].split("  (")[0])


def conv(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def norm(x, scale, shift):
    centred = x - x.mean((0, 1, 2))
    return centred * (scale * lax.rsqrt((centred * centred).mean((0, 1, 2)) + 1e-5)) + shift


def test_batch_normalisation_takes_five_passes():
    """Forward: the mean; the squares around it; the result.  Backward: two sums in one; the result."""

    def loss(p, x):
        y = conv(fnp.maximum(norm(conv(x, p["w"]), p["scale"], p["shift"]), 0), p["w"])
        return fnp.sum(y * y)

    p = {"w": W, "scale": np.linspace(0.5, 2, 16), "shift": np.linspace(-0.3, 0.3, 16)}
    lines = program(fgrad.grad(loss), p, X, tolerance=1e-9)
    stored = [name for line in lines for name in stores(line) if name == LARGE]
    assert len(lines) == 5, lines
    assert len(stored) == 2, lines  # relu's operand for the convolution, and its gradient
    assert not any("bool" in line.split(" -> ")[1] for line in lines)
    assert sum("(add add[" in line for line in lines) == 2


def test_an_order_is_stored_where_its_operand_is_not_kept():
    """The convolution's result is read by relu alone: its order in one byte is less than to keep and read it."""

    def loss(w, b, x):
        return fnp.sum(conv(fnp.maximum(conv(x, w) + b, 0), w))

    program(fgrad.grad(loss), W, X[0, 0, 0], X)
    lines = fgrad.jit(fgrad.grad(loss)).lower(W, X[0, 0, 0], X).as_text().splitlines()
    line = next(line for line in lines if line.endswith("(conv)") and "int8" in line)  # stored by its tiles
    assert stores(line) == [LARGE, "int8[8, 12, 12, 16]"]


@pytest.mark.parametrize("n", [2, 8, 9, 16])
def test_masks_that_are_read_together_are_bits_of_bytes(n):
    def f(x):
        y = fnp.exp(x)  # costly: no mask of it is computed again
        masks = [y > k / n for k in range(n)]
        total = fnp.sum(y)
        return sum(fnp.where(mask, total * k, 0.5) for k, mask in enumerate(masks))

    lines = program(f, X)
    stored = stores(next(line for line in lines if "exp" in line))
    assert stored.count("bool[8, 12, 12, 16]") == (n == 9)
    assert stored.count("uint8[8, 12, 12, 16]") == -(-n // 8) - (n == 9)


def test_costly_values_are_stored():
    def f(x):
        y = fnp.exp(x)
        total = y.sum((0, 1, 2))
        return y / total

    lines = program(f, X)
    assert sum("exp" in line and LARGE in stores(line) for line in lines) == 1


def test_sums_of_one_array_are_one_kernel():
    def f(x, y):
        return x.sum((0, 1, 2)), (x * x).sum((0, 1, 2)), (x * y).sum((0, 1, 2)), y.max((0, 1, 2)), x.sum((1, 2))

    lines = program(f, X, X[::-1].copy())
    assert sum("(add add add max[" in line for line in lines) == 1, lines
    assert sum("over [1, 2])" in line for line in lines) == 1


def test_a_sum_that_waits_for_another_stays_apart():
    def f(x):
        return (x - x.sum((0, 1, 2))).max((0, 1, 2)), x.min((0, 1, 2))

    assert sum("over [0, 1, 2])" in line for line in program(f, X)) == 2


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_of_products_follows_from_known_sums(sign):
    def f(x, y, u, v):
        total = x.sum((0, 1, 2))
        return total, (x * u + sign * (v * (y * 2.0))).sum((0, 1, 2)), (-(x * u)).sum((0, 1, 2))

    u, v = np.linspace(1, 2, 16), np.linspace(-1, 1, 16)
    closed = fgrad.jit(f).lower(X, X[::-1].copy(), u, v)
    program(f, X, X[::-1].copy(), u, v)
    text = closed.as_text().split("\n\n")[0]
    assert text.count("reduce_sum") == 2, text


def test_a_sum_of_differences_is_summed_up_as_it_is():
    """sum(x - c) from sum(x) would cancel."""

    def f(x):
        return x.sum((0, 1, 2)), (x - 1e9).sum((0, 1, 2)), (x * 3 + x).sum((0, 1, 2))

    text = fgrad.jit(f).lower(X).as_text().split("\n\n")[0]
    assert text.count("reduce_sum") == 3


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (1, 1), (2,), (1, 7), (40, 1), (5, 3)])
def test_chains_of_values_over_small_and_empty_loops(shape):
    """Each value is read by several groups, and follows from the one before."""

    def f(x, c):
        y = x
        for k in range(3):
            y = y * c + fnp.sin(x).sum() * k
            y = fnp.where(y > x.sum(), y - fnp.cos(y).sum(), y * 0.5)
        return y * x, y

    rng = np.random.default_rng(1)
    x, c = rng.uniform(-1, 1, shape), rng.uniform(-1, 1, shape[-1:])
    for g in (f, fgrad.grad(lambda x, c: sum(fnp.sum(y) for y in f(x, c)), (0, 1))):
        for got, want in zip(fgrad.jit(g)(x, c), g(fnp.asarray(x), fnp.asarray(c))):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
