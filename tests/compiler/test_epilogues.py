"""Element-wise work behind products: on their tiles where it can be, and right everywhere.

Operands are small integers, so that products are exact and compiled results equal those of separate steps.
"""

import ml_dtypes
import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import lax

NHWC = ("NHWC", "HWIO", "NHWC")
CONVS = {  # n, h, c, k, window, stride, padding, groups
    "wide": (4, 12, 16, 32, 3, 1, "SAME", 1),
    "an edge of features": (2, 6, 8, 70, 1, 1, "SAME", 1),
    "few features": (4, 12, 3, 6, 5, 1, "SAME", 1),
    "strided": (2, 9, 1, 20, 3, 2, "VALID", 1),
    "depthwise": (3, 10, 40, 40, 3, 1, "SAME", 40),
    "depthwise strided": (2, 10, 32, 32, 3, 2, "SAME", 32),
    "groups": (2, 10, 8, 64, 3, 2, "SAME", 4),
}
DOTS = {"square": (64, 32, 48), "few columns": (64, 32, 10), "one row": (1, 50, 70), "one column": (70, 50, 1),
        "a long reduction": (16, 5000, 32), "chunks": (130, 700, 200)}  # fmt: skip


def small(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng([seed, *shape]).integers(-4, 5, shape).astype(dtype)


def conv(x, w, stride, padding, groups):
    return lax.conv_general_dilated(
        x, w, (stride, stride), padding, dimension_numbers=NHWC, feature_group_count=groups
    )  # fmt: skip


def operations(f, *args):
    """What the program's instructions compute; compiled and separate steps must agree in every bit."""
    compiled, eager = fgrad.jit(f)(*args), f(*[fnp.asarray(a) for a in args])
    for got, want in zip(fgrad.tree.tree_leaves(compiled), fgrad.tree.tree_leaves(eager), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(np.asarray(got), np.asarray(want))
    return [r.fused for r in fgrad.jit(f).lower(*args).explain().rows if r.fused]


def bias_relu(y, b):
    return fnp.maximum(y + b, 0)


def many(y, b):
    """Results of several dtypes, the product itself among them, and a reader that is no epilogue."""
    z = y * 2 + b
    return z, y, z > 0, z.astype(np.float16), y.sum()


def residual(y, b):
    """The product at one index with another array, a scalar, and itself again."""
    return fnp.where(y > 0, y * b.max() + y * y, y)


@pytest.mark.parametrize("after", [bias_relu, many])
@pytest.mark.parametrize("case", CONVS)
def test_behind_convolutions(case, after):
    n, h, c, k, window, stride, padding, groups = CONVS[case]
    x, w, b = small(n, h, h, c), small(window, window, c // groups, k), small(k)
    operations(lambda x, w, b: after(conv(x, w, stride, padding, groups), b), x, w, b)


def test_behind_a_weight_gradient():
    """So many results that the sums are not split: what stands behind them follows their last chunk."""
    x, ct, w, b = small(35, 4, 4, 500), small(35, 4, 4, 250), small(3, 3, 500, 250), small(250)

    def f(x, w, ct, b):
        return bias_relu(fgrad.vjp(lambda w: conv(x, w, 1, "SAME", 1), w)[1](ct)[0], b)

    assert operations(f, x, w, ct, b) == [("conv_general_dilated", "add", "max")]


@pytest.mark.parametrize("after", [bias_relu, residual])
@pytest.mark.parametrize("case", DOTS)
def test_behind_dots(case, after):
    m, k, n = DOTS[case]
    operations(lambda a, w, b: after(a @ w, b), small(m, k), small(k, n), small(n))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "uint32", "int64", "float64"])
def test_every_dtype(dtype):
    dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    x, w, b = (abs(small(*s)).astype(dtype) for s in ((2, 6, 6, 3), (3, 3, 3, 32), (32,)))
    assert operations(lambda x, w, b: bias_relu(conv(x, w, 1, "SAME", 1), b), x, w, b) == [
        ("conv_general_dilated", "add", "max")
    ]


def test_what_is_on_the_tiles():
    x, w, b, r = small(4, 8, 8, 16), small(3, 3, 16, 32), small(32), small(4, 8, 8, 32)

    def block(x, w, b, r):
        y = bias_relu(conv(x, w, 1, "SAME", 1), b)
        z = conv(y * 0.5, w.reshape(3, 3, 32, 16), 1, "SAME", 1)
        return bias_relu(fnp.concatenate([z, z], axis=3), r)

    rows = fgrad.jit(block).lower(x, w, b, r).explain().rows
    fused = next(row for row in rows if row.fused[:1] == ("conv_general_dilated",))
    assert fused.fused == ("conv_general_dilated", "add", "max", "mul") and "gemm" in fused.kernel
    assert sum(row.fused == fused.fused for row in rows) == 1
    operations(block, x, w, b, r)


def test_a_residual_and_the_order_of_what_is_made():
    """The group stands behind both products; it joins one, and reads the other at the same index."""
    x, w = small(2, 6, 6, 16), small(3, 3, 16, 16)
    found = operations(lambda x, w: conv(x, w, 1, "SAME", 1) + 3 * conv(x * 2, w, 1, "SAME", 1), x, w)
    assert sorted(map(len, found)) == [1, 1, 3]


def test_an_epilogue_waits_at_a_barrier():
    """The product goes on only once what stands behind it is there: its epilogue must not come before that."""

    def f(a, w, x):
        product, late = a @ w, fnp.sort(x, axis=0)
        y, late = lax.optimization_barrier((product, late))
        return fnp.maximum(y, 0), late

    args = small(64, 32), small(32, 48), small(40, 40)
    operations(f, *args)
    text = fgrad.jit(f).lower(*args).as_text().split("\n\n")[-1]
    assert text.index("sort") < text.index("dot_general max")


def test_a_donated_argument_is_still_written_over():
    p, x, g = small(64, 32), small(48, 64), small(48, 32)
    step = fgrad.jit(lambda p, x, g: p - 0.5 * (x.T @ g), donate_argnums=0)
    given = fnp.asarray(p)
    want = p - 0.5 * (x.T @ g)
    np.testing.assert_array_equal(np.asarray(step(given, x, g)), want)


def test_products_in_loops_and_branches():
    w, x = small(16, 16) * 0.25, small(8, 16)

    def f(w, x):
        y, _ = lax.scan(lambda c, _: (fnp.tanh(c @ w + 1), None), x, None, length=3)
        return lax.cond(y[0, 0] > 0, lambda y: fnp.maximum(y @ w, 0), lambda y: y @ w - 1, y)

    np.testing.assert_allclose(np.asarray(fgrad.jit(f)(w, x)), np.asarray(f(w, x)), rtol=1e-5)


@pytest.mark.parametrize("bits", [128, 256, 512])
@pytest.mark.parametrize("case", ["wide", "few features", "depthwise"])
def test_every_vector_width(case, bits, monkeypatch):
    monkeypatch.setitem(fgrad.config._overrides, "FGRAD_CPU_VECTOR_BITS", bits)
    n, h, c, k, window, stride, padding, groups = CONVS[case]
    x, w, b = small(n, h, h, c, seed=bits), small(window, window, c // groups, k), small(k)
    operations(lambda x, w, b: bias_relu(conv(x, w, stride, padding, groups), b), x, w, b)
