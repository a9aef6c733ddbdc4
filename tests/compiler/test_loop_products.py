"""Matrix products inside a loop's kernel: every form of tile, and sums of products in place."""

import numpy as np
import pytest
from control_flow import arrays, kernels, loop, program_of, run

import fgrad
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.compiler.loop_kernel import MOST_BYTES, MOST_PRODUCTS


def one_kernel(f, *inputs):
    _, program = program_of(f, *inputs)
    return [line.text for line in kernels(program) if "times:" in line.text]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize(
    "m, k, n", [(1, 1, 4), (1, 5, 7), (3, 2, 16), (2, 9, 20), (5, 33, 35), (9, 4, 63), (8, 7, 129)]
)
def test_tiles(m, k, n, dtype):
    scale = 10 if dtype == "int32" else 1
    w, v, x = ((a * scale).astype(dtype) for a in arrays((k, n), (n, k), (3, m, k)))

    def f(w, v, x):
        def body(c, rows):
            (r,) = rows
            return (c[0] + r @ w,), (r @ v.T, w.T @ r.T, c[0].T @ r)

        return loop(body, (fnp.zeros((m, n), dtype),), (x,))

    assert len(one_kernel(f, w, v, x)) == 1
    run(f, w, v, x, tolerance=1e-4)


@pytest.mark.parametrize("batch", [1, 3])
def test_batches_and_operands_that_change(batch):
    q, x = arrays((4, batch, 6, 5), (4, batch, 7, 5))

    def f(q, x):
        def body(c, rows):
            a, b = rows
            scores = lax.dot_general(a, b, (((2,), (2,)), ((0,), (0,))))  # [batch, 6, 7]: neither operand has columns
            mixed = lax.dot_general(scores, b, (((2,), (1,)), ((0,), (0,))))
            return (c[0] + mixed,), (a[0] @ b[0, 0], scores)

        return loop(body, (fnp.zeros((batch, 6, 5), np.float32),), (q, x))

    run(f, q, x, tolerance=1e-4)


def test_a_sum_of_products_that_is_read_before_and_after():
    w, x = arrays((6, 8), (5, 6))

    def f(w, x):
        def body(c, rows):
            (r,) = rows
            total = c[0] + fnp.outer(r, c[1])
            return (total, lax.tanh(c[0].sum(0) + c[1])), (total[0], r @ total)

        return loop(body, (w, w[0]), (x,))

    run(f, w, x, tolerance=1e-4)


def test_sums_whose_operands_are_the_sum_itself():
    (w,) = arrays((5, 5))

    def f(w):
        first = loop(lambda c, _: ((c[0] + (c[0] * 0.1) @ c[0],), ()), (w * 0.3,), (), 4)
        swapped = loop(lambda c, _: ((c[1] + c[0] @ w, c[0] + c[1] @ w), ()), (w * 0.1, w), (), 3)
        return first, swapped

    run(f, w, tolerance=1e-4)


@pytest.mark.parametrize("batch, width", [(1, 8), (8, 64)])
def test_the_gradient_of_a_recurrent_cell_is_two_kernels(batch, width):
    w, u, b, xs = arrays((width, width), (16, width), (width,), (3, batch, 16))

    def loss(w, u, b, xs):
        def cell(h, x):
            h = lax.tanh(h @ w * 0.1 + x @ u + b)
            return h, h

        return (lax.scan(cell, fnp.zeros((batch, width), np.float32), xs)[1] ** 2).sum()

    gradient = fgrad.grad(loss, argnums=(0, 1, 2))
    assert len(one_kernel(gradient, w, u, b, xs)) == 2
    run(gradient, w, u, b, xs, tolerance=1e-3)


def test_what_is_too_large_is_a_kernel_of_its_own():
    m, n = 64, 2 * MOST_PRODUCTS // 64**2
    w, x = arrays((64, n), (2, m, 64))
    f = lambda w, x: loop(lambda c, r: ((c[0] + r[0] @ w,), ()), (fnp.zeros((m, n), np.float32),), (x,))  # noqa: E731
    assert not one_kernel(f, w, x)
    side = int((MOST_BYTES / 4 * 1.1) ** 0.5)
    v = arrays((side, side))[0] * 0.01
    g = lambda v: loop(lambda c, _: ((v @ c[0],), ()), (v[0],), (), 2)  # noqa: E731  # v would be copied
    assert side * side < MOST_PRODUCTS and not one_kernel(g, v)
    run(g, v)
