"""Loops and branches inside programs, against NumPy's reading of the same jaxpr."""

import numpy as np
import pytest
from control_flow import RNG, arrays, choose, lines, loop, program_of, repeat, run
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import programs, squash
from test_memory import same_bits

import fgrad.numpy as fnp
from fgrad import lax
from fgrad.compiler.program import Program
from fgrad.primitives.indexing import gather_p, scatter_p


# --- loops of known length -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("length", [0, 1, 2, 3, 8, 9])
@pytest.mark.parametrize("reverse", [False, True])
def test_carry_and_stacked_results(length, reverse):
    c, xs, w = arrays((5,), (length, 5), (5,))

    def f(c, xs, w):
        return loop(lambda c, x: ((lax.tanh(c[0]) * w + x[0],), (c[0] * 2, x[0])), (c,), (xs,), length, reverse)

    run(f, c, xs, w)


@pytest.mark.parametrize("length", [1, 4, 5])
def test_carries_that_are_swapped_passed_on_and_constant(length):
    a, b, xs = arrays((3,), (3,), (length, 3))

    def f(a, b, xs):
        def body(c, x):
            p, q, r, s, u = c
            return (q, p, r, x[0], fnp.ones(3, np.float32)), (s, u, p)

        return loop(body, (a, b, a, b, a), (xs,))

    run(f, a, b, xs)


def test_a_carry_that_starts_as_an_input_a_constant_and_a_view():
    (x,) = arrays((4, 6))

    def f(x):
        first = (x, fnp.zeros((6, 4), np.float32), x.T, x[1:3, ::2], fnp.float32(2.0))
        return loop(lambda c, _: ((c[0] + 1, c[1] + c[2], c[2] * c[4], -c[3], c[4] * 0.5), ()), first, (), 3)

    run(f, x)


def test_a_carried_value_returned_as_a_result_too_is_stored_twice_not_copied():
    c, xs = arrays((8,), (10, 8))

    def f(c, xs):
        def body(c, x):
            h = lax.tanh(c[0] + x[0])
            return (h,), (h,)

        return loop(body, (c,), (xs,))

    program = run(f, c, xs)
    assert lines(program)[0] == "for 10 times:" and len(program.lines) == 2


@pytest.mark.parametrize("reverse", [False, True])
def test_xs_that_are_views(reverse):
    (x,) = arrays((6, 4, 5))

    def f(x):
        views = (x, x.transpose(1, 2, 0)[:3], x[::-1][:3], lax.rev(x, (1, 2))[::2], fnp.broadcast_to(x[0], (3, 4, 5)))
        xs = (views[0][:3], *views[1:])
        start = fnp.zeros((4, 5), np.float32)

        def body(c, x):
            return (c[0] + x[0] * x[2] + x[3] + x[4],), (x[1].sum(0), x[0].T)

        return loop(body, (start,), xs, None, reverse)

    program = run(f, x)
    assert not any("copy" in text for text in lines(program)[lines(program).index("for 3 times:") :][:3])


def test_known_scalars_as_operands():
    def f(x):
        def body(c, row):
            return (c[0] * 2.5 + row[0],), (c[1] if len(c) > 1 else c[0],)

        xs = (fnp.full((4, 3), 0.125, np.float32),)
        return loop(body, (x,), xs), loop(lambda c, _: ((c[0] + 1,), ()), (fnp.int32(0),), (), 7)

    run(f, *arrays((3,)))


def test_empty_arrays_in_a_loop():
    (x,) = arrays((4, 0))
    run(lambda x: loop(lambda c, r: ((c[0] + 1, c[1] + r[0].sum()), (r[0] * 2,)), (x[0], x.sum()), (x,)), x)


def test_nested_loops():
    c, x = arrays((3,), (4, 5, 3))

    def f(c, x):
        def outer(c, rows):
            def inner(c, row):
                new = lax.sin(c[0]) + row[0] * rows[0][0]
                return (new, c[1] + 1), (new * c[1].astype(np.float32),)

            (new, count), ys = loop(inner, (c[0], fnp.int32(0)), (rows[0],), None, True)
            return (new, c[1] + count), (ys[0], rows[0].sum())

        return loop(outer, (c, fnp.int32(0)), (x,))

    program = run(f, c, x)
    assert [line.text for line in program.lines if line.step is None] == ["for 4 times:", "for 5 times:"]


def test_three_levels_and_an_inner_loop_over_outer_values():
    (x,) = arrays((2, 3, 4))

    def f(x):
        total = x.sum(0)

        def outer(c, a):
            def middle(c, b):
                def inner(c, d):
                    return (c[0] * 0.9 + d[0] + total[0, 0],), (c[0],)

                (new,), ys = loop(inner, (c[0],), (b[0],))
                return (new,), (ys[0], total * new)

            (new,), ys = loop(middle, (c[0],), (a[0],))
            return (new,), ys

        return loop(outer, (fnp.float32(0.5),), (x,)), total

    run(f, x)


def test_kernels_folds_and_index_maps_in_a_body():
    w, x, image, kernel = arrays((8, 8), (5, 3, 8), (5, 2, 9, 9, 3), (3, 3, 3, 4))

    def f(w, x, image, kernel):
        def body(c, rows):
            h, (row, pixels) = c[0], rows
            h = lax.tanh(row @ w + h @ w.T)
            y = lax.conv_general_dilated(pixels, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            top = lax.reduce_window(y, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") if False else y[:, ::2]
            return (h,), (fnp.concatenate([h[:1], h[1:] * 2], 0), top.mean((1, 2)), fnp.max(h, 0), h[::-1].T)

        return loop(body, (fnp.zeros((3, 8), np.float32),), (x, image))

    run(f, w, x, image, kernel)


def test_gather_and_scatter_in_a_body():
    table, x = arrays((10, 4), (6, 4))
    index = RNG.integers(0, 10, (6, 2)).astype(np.int32)

    def f(table, index, x):
        def body(c, row):
            taken = c[0][row[0]]
            return (c[0].at[row[0]].add(row[1][None] * 0.1),), (taken,)

        return loop(body, (table,), (index, x))

    run(f, table, index, x)


def random_indices(limit, *shape):
    return RNG.integers(-2, limit + 2, shape).astype(np.int32)


@pytest.mark.parametrize("kind", ["set", "add", "mul", "min", "max"])
@pytest.mark.parametrize("mode", ["clip", "drop"])
def test_indexing_with_every_mode_and_kind(mode, kind):
    table, x = arrays((3, 5, 4), (4, 2, 3, 5))
    index = random_indices(4, 4, 2, 3, 1)
    pair = random_indices(4, 4, 3, 2)
    reading = ["clip"] if mode == "clip" else ["fill", "mark"]

    def f(table, index, pair, x):
        def body(c, rows):
            i, j, new = rows
            taken = [gather_p.bind(c[0], j, axes=(0, 2), mode=m) for m in reading]
            update = fnp.transpose(new, (0, 1, 2))[..., ::-1][:, :, :5]
            flat = fnp.broadcast_to(update[..., None], (2, 3, 5, 3)).transpose(0, 1, 3, 2)
            return (scatter_p.bind(c[0], i, flat * 0.5, axes=(2,), mode=mode, kind=kind),), (taken, c[0].sum())

        return loop(body, (table,), (index, pair, x))

    run(f, table, index, pair, x)


@pytest.mark.parametrize("size", [12, 3000])
def test_updates_in_place(size):
    (x,) = arrays((size,))

    def f(x):
        def body(c, _):
            i, x = c
            old = x[i]
            x = x.at[i].set(old * 2 + 1).at[i + 1].add(old)
            return (i + 1, x), (x[3],)

        (i, y), ys = loop(body, (fnp.int32(1), x), (), 6)
        n, z = repeat(lambda n, z: n < 4, lambda n, z: (n + 1, z.at[n].set(z[n + 1])), (fnp.int32(0), x * 2))
        return i, y, ys, n, z, x

    program = run(f, x)
    copies = [line for line in program.lines if "copy" in line.text and line.depth and f"[{size}]" in line.text]
    assert not copies, [line.text for line in copies]


def test_what_cannot_be_updated_in_place():
    (x,) = arrays((2000,))

    def f(x):
        def read_later(c, _):
            new = c[0].at[3].set(c[0].sum())
            return (new, c[0]), ()

        def returned(c, _):
            new = c[0].at[3].set(1.0)
            return (new,), (c[0][:5] * new[3], new[:5])

        def reads_itself(c, _):
            return (c[0].at[1:4].set(c[0][:3]),), ()

        return loop(read_later, (x, x), (), 3), loop(returned, (x,), (), 2), loop(reads_itself, (x,), (), 3)

    run(f, x)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "float16"])
def test_small_products(dtype):
    w, v, x = (a.astype(dtype) for a in arrays((4, 5), (2, 4, 3), (3, 2, 5)))

    def f(w, v, x):
        def body(c, rows):
            (r,) = rows
            y = lax.dot_general(c[0], v, (((1,), (1,)), ((0,), (0,))))  # [2, 3]
            z = lax.dot_general(r, w, (((1,), (1,)), ((), ())))  # [2, 4]
            both = lax.dot_general(z, z, (((0, 1), (0, 1)), ((), ())))
            return (z + both,), (y, w @ r[0], (r @ w.T).T)

        return loop(body, (fnp.zeros((2, 4), dtype),), (x,))

    run(f, w, v, x, tolerance=3e-2 if dtype == "float16" else 2e-5)


def test_donated_memory_is_updated_in_place():
    (x,) = arrays((5000,))
    f = lambda x: loop(lambda c, _: ((c[0].at[7].add(1.0),), ()), (x,), (), 4)  # noqa: E731
    closed, program = program_of(f, x)
    donating = Program(closed, frozenset((0,)))
    given = x.copy()
    (out,) = donating([given], frozenset((0,)))
    assert out is given
    same_bits([out], program([x]))


def test_work_large_enough_for_two_threads():
    c, x = arrays((300, 300), (3, 300, 300))

    def f(c, x):
        return loop(lambda c, r: ((lax.tanh(c[0] @ r[0]) * 0.1,), (fnp.exp(c[0]).sum(0),)), (c,), (x,))

    run(f, c, x, tolerance=1e-3)


def test_complex_numbers_in_loops():
    z, x = (RNG.standard_normal(s).astype(np.complex64) * 1j for s in ((4,), (5, 4)))

    def f(z, x):
        def body(c, r):
            return (c[0] * c[0] + r[0], r[0], c[1]), (c[0][::-1], c[0] + c[1])

        return loop(body, (z * 0.5, x[0], fnp.zeros(4, np.complex64)), (x,)), z.reshape(2, 2).T

    run(f, z, x)


# --- while -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("limit", [0.0, 1.5, 3.0, 1e3])
def test_while(limit):
    (x,) = arrays((4,))

    def f(x, limit):
        def step(x, y, n, s):
            return y * 2, x + y, n + 1, s

        return repeat(
            lambda x, y, n, s: lax.abs(y).max() < limit * s, step, (x, lax.abs(x), fnp.int32(0), limit / limit)
        )

    run(f, x, np.float32(limit) + np.float32(0.5))


def test_while_in_for_and_for_in_while():
    x, xs = arrays((3,), (4, 3))

    def f(x, xs):
        def outer(c, row):
            n, y = repeat(lambda n, y: n < 5, lambda n, y: (n + 2, y * 0.5 + row[0]), (c[1], c[0]))
            return (y, c[1] + 1), (n, y)

        first = loop(outer, (x, fnp.int32(-1)), (xs,))

        def grow(n, y):
            (y,), ys = loop(lambda c, r: ((c[0] + r[0],), (c[0],)), (y,), (xs,))
            return n + 1, y + ys[0].sum(0)

        return first, repeat(lambda n, y: n < 3, grow, (fnp.int32(0), x))

    run(f, x, xs)


# --- branches --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("index", [0, 1, 2])
def test_branches(index):
    x, y = arrays((3, 4), (3, 4))

    def f(i, x, y):
        z = x + y
        branches = [
            lambda x, y, z: (x, z * 2, fnp.float32(1.0)),
            lambda x, y, z: (lax.sin(y) + x.sum(), (z @ x.T) @ y, z.max()),
            lambda x, y, z: (y, y, y[0, 0]),
        ]
        return choose(i, branches, x, y, z), z

    program = run(f, np.int32(index), x, y)
    assert [line.text for line in program.lines if line.step is None] == ["branch 0:", "branch 1:", "branch 2:"]


def test_a_branch_with_a_known_number_is_no_branch():
    (x,) = arrays((3,))
    program = run(lambda x: choose(fnp.int32(1), [lambda x: (x,), lambda x: (lax.sin(x) * 2,)], x * 3), x)
    assert len(program.lines) == 1


def test_loops_in_branches_and_branches_in_loops():
    x, xs = arrays((3,), (6, 3))
    which = np.int32([0, 1, 2, 1, 0, 2])

    def f(x, xs, which):
        def summed(x, xs):
            (c,), ys = loop(lambda c, r: ((c[0] * 0.5 + r[0],), (c[0],)), (x,), (xs,))
            return c, ys[0]

        def body(c, r):
            return tuple(choose(r[1], [lambda c, r: (c + r,), lambda c, r: (c,), lambda c, r: (r,)], c[0], r[0])), ()

        branches = [lambda x, xs: (x, xs), summed]
        return choose(which[1], branches, x, xs), choose(which[0], branches, x, xs), loop(body, (x,), (xs, which))

    run(f, x, xs, which)


@settings(max_examples=40, deadline=None)
@given(programs(dtypes=("float32", "float64", "int32")), st.booleans(), st.integers(1, 3))
def test_random_bodies(program, reverse, length):
    inputs = program.inputs()
    xs = [np.stack([x] * length) for x in inputs]

    def f(*args):
        n = len(inputs)

        def body(c, x):
            new = [squash(a * 2 + b) for a, b in zip(c, x)]
            return tuple(new), tuple(program(*c))

        return loop(body, args[:n], args[n:], length, reverse)

    run(f, *inputs, *xs)
