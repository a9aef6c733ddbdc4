"""What the compiler's passes make of loops: what moves out, what shares memory, how it reads as text."""

import numpy as np
import pytest
from control_flow import arrays, choose, kernels, lines, loop, program_of, python, repeat, run, stepwise_program_of
from test_memory import same_bits

import fgrad
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.compiler.program import Program
from fgrad.compiler.simplify import simplify


# --- what the passes do ----------------------------------------------------------------------------------------------
def test_what_depends_on_constants_only_moves_out():
    w, x = arrays((4, 4), (5, 4))

    def f(w, x):
        def body(c, r):
            return (lax.tanh(r[0] @ lax.exp(w * 2.0).T + c[0]),), ()

        return loop(body, (fnp.zeros(4, np.float32),), (x,))[0]

    program = run(f, w, x)
    assert [e.primitive.name for e in program.simplified.eqns][-1] == "program_for"
    inside = program.simplified.eqns[-1].params["body"]
    assert {"exp", "mul", "transpose"}.isdisjoint(e.primitive.name for e in inside.eqns)


def test_indices_and_numbers_stay_inside():
    def f(x):
        def body(c, _):
            return (c[0] + fnp.arange(4, dtype=np.float32) * 2.0 + c[1] * fnp.arange(4, dtype=np.float32), c[1]), ()

        return loop(body, (x, x * 2), (), 3)[0]

    program = run(f, *arrays((4,)))
    assert len(kernels(program)) <= 3


def test_a_body_is_simplified_and_dead_code_in_it_dropped():
    def f(x):
        def body(c, _):
            lax.exp(c[0])
            return (lax.sin(c[0]) * lax.sin(c[0]),), ()

        return loop(body, (x,), (), 3)[0]

    after = simplify(fgrad.make_jaxpr(f)(*arrays((4,))))
    assert [e.primitive.name for e in after.eqns[-1].params["body"].eqns] == ["sin", "mul"]


def test_an_identity_keeps_expressions_apart():
    def f(x):
        y = lax.sin(x)
        again = lax.optimization_barrier(x)
        z = lax.sin(again)
        return y * 2, z * 3

    program = run(f, *arrays((4,)))
    assert len(kernels(program)) == 2 and "copy" not in "".join(lines(program))
    assert [e.primitive.name for e in program.simplified.eqns].count("sin") == 2


def test_an_identity_waits_for_all_its_operands():
    def f(x):
        y = lax.sin(x)
        late = lax.cos(x.T)
        a, _ = lax.optimization_barrier((x, late))
        return y + 1, lax.exp(a) * late.T

    program = run(f, *arrays((4, 4)))
    order = lines(program)
    assert [k for k, text in enumerate(order) if "exp" in text] > [k for k, text in enumerate(order) if "cos" in text]


# --- memory ----------------------------------------------------------------------------------------------------------
def test_donated_memory_with_loops():
    x, xs = arrays((4,), (3, 4))

    def f(x, xs):
        (c,), (ys,) = loop(lambda c, r: ((c[0] * 0.5 + r[0],), (c[0] - r[0],)), (x,), (xs,))
        return c + 1, ys * 2

    closed, plain = program_of(f, x, xs)
    donating = Program(closed, frozenset((0, 1)))
    want = [np.array(v) for v in plain([x, xs])]
    same_bits(donating([x.copy(), xs.copy()], frozenset((0, 1))), want)


def test_a_body_s_memory_overlaps_nothing_alive_across_the_loop():
    x, xs = arrays((40, 40), (5, 40, 40))

    def f(x, xs):
        kept = lax.sin(x) @ x

        def body(c, r):
            h = r[0] @ c[0]
            g = h @ kept
            return (lax.tanh(g @ h * 1e-3),), (h.sum() * 1e-2,)

        (c,), (ys,) = loop(body, (x,), (xs,))
        return c @ kept * 1e-2, ys

    run(f, x, xs, tolerance=2e-3)


# --- the text --------------------------------------------------------------------------------------------------------
def test_text_of_a_program_with_loops():
    def f(x, xs):
        def body(c, r):
            (y,) = repeat(lambda y: y.sum() < 10, lambda y: (y * 2,), (c[0] * c[0],))
            return tuple(choose(r[0], [lambda c, y: (c + y,), lambda c, y: (python(np.sin, c),)], c[0], y)), ()

        return loop(body, (x,), (xs,))[0]

    closed, _ = program_of(f, *arrays((4,)), np.int32([0, 1]))
    text = stepwise_program_of(closed).as_text()
    heads = [line for line in text.splitlines() if line.rstrip().endswith(":")]
    assert heads == [
        "      for 2 times:", "          while:", "          do:", "          branch 0:", "          branch 1:"
    ]  # fmt: skip
    assert "host numpy" in text and "(a Python function)" in text


def test_text_of_a_loop_in_one_kernel():
    c, xs = arrays((8,), (10, 8))

    def f(c, xs):
        def body(c, x):
            h = lax.tanh(c[0] + x[0])
            return (h / h.sum(),), (h,)

        return loop(body, (c,), (xs,))

    _, program = program_of(f, c, xs)
    assert [line.text for line in program.lines] == [
        "emitted                       1 tiles  for 10 times:  (in one kernel)",
        "add tanh reduce_sum over [8] -> float32[8], float32[]",
        "div over [8] -> float32[8]",
    ]
    assert "\n   0  emitted" in program.as_text() and "\n          add tanh" in program.as_text()


def test_a_while_loop_in_one_kernel():
    (x,) = arrays((5,))

    def f(x):
        return repeat(lambda x, n: x.sum() + n < 100, lambda x, n: (x * 1.5 + 0.5, n + 1), (x, fnp.float32(0)))

    _, program = program_of(f, x)
    assert next(text for text in lines(program) if "while:" in text).startswith("emitted")
    run(f, x)


# --- updates in place ------------------------------------------------------------------------------------------------
SIZE = 3000


def branch_updates(x):
    def body(c, i):
        first = lambda c, i: (c.at[0].set(2.0),)  # noqa: E731
        pair = lambda c, i: (c.at[i].add(c[0] * 0.5).at[i + 1].set(1.0),)  # noqa: E731
        return choose(i[0] % 3, [lambda c, i: (c,), first, pair], c[0], i[0]), ()

    return loop(body, (x,), (fnp.arange(6),))


def inner_loop_updates(x):
    def body(c, i):
        (y,) = loop(lambda c, j: ((c[0].at[i[0] + j[0]].multiply(2.0),), ()), (c[0],), (fnp.arange(3),))[0]
        return (repeat(lambda n, y: n < 3, lambda n, y: (n + 1, y.at[n].add(1.0)), (fnp.int32(0), y))[1],), ()

    return loop(body, (x,), (fnp.arange(4),))


def gradient_of_indexing(x):
    def loss(x):
        return loop(lambda s, i: ((s[0] + (x[i[0]] * x[i[0] + 1]).sum(),), ()), (fnp.float32(0),), (fnp.arange(5),))[0][
            0
        ]

    return fgrad.grad(loss)(x)


@pytest.mark.parametrize("f", [branch_updates, inner_loop_updates, gradient_of_indexing])
def test_a_step_that_changes_a_few_elements_copies_none_of_the_others(f):
    program = run(f, *arrays((SIZE,)))
    whole = [text for text, line in zip(lines(program), program.lines) if line.depth and f"[{SIZE}]" in text]
    assert whole and all("scatter" in text or "gather" in text for text in whole), whole


def test_branches_that_may_not_update_in_place():
    def f(x):
        def same_twice(c, i):
            both = choose(i[0] % 2, [lambda a, b: (a.at[1].set(0.0), b), lambda a, b: (b, a)], c[0], c[0])
            return (both[0], both[1]), ()

        def read_later(c, i):
            (new,) = choose(i[0] % 2, [lambda a: (a.at[1].set(9.0),), lambda a: (a,)], c[0])
            return (new,), (c[0][:3] * new[:3],)

        def swapped(c, i):
            return choose(i[0] % 2, [lambda a, b: (b.at[0].set(1.0), a), lambda a, b: (a, b)], *c), ()

        steps = (fnp.arange(4),)
        return loop(same_twice, (x, x), steps), loop(read_later, (x,), steps), loop(swapped, (x, -x), steps)

    run(f, *arrays((SIZE,)))


# --- what must not move out ------------------------------------------------------------------------------------------
def test_a_loop_that_may_not_run_keeps_what_may_raise():
    def refuse(x):
        raise AssertionError("called")

    def f(x, n):
        def body(i, c):
            return i + 1, c + python(refuse, x) + loop(lambda c, _: ((python(refuse, x),), ()), (x,), (), 2)[0][0]

        return repeat(lambda i, c: i < n, body, (fnp.int32(0), x))

    _, program = program_of(f, np.float32([1, 2]), np.int32(0))
    np.testing.assert_array_equal(program([np.float32([1, 2]), np.array(0, np.int32)])[1], [1, 2])


def test_a_call_of_python_with_steady_operands_runs_once_before_a_loop_of_known_length():
    calls = []

    def count(x):
        calls.append(1)
        return x

    f = lambda x: loop(lambda c, _: ((c[0] + python(count, x),), ()), (x,), (), 5)[0]  # noqa: E731
    _, program = program_of(f, np.float32([1, 2]))
    np.testing.assert_array_equal(program([np.float32([1, 2])])[0], [6, 12])
    assert len(calls) == 1


# --- one body, used in several ways ----------------------------------------------------------------------------------
def test_equal_bodies_with_other_numbers_of_constants():
    x = fnp.arange(4.0)
    total = fnp.float32(2)
    for unroll in (1, 2):
        as_const = lax.scan(lambda c, _: (None, x * 2), None, None, length=4, unroll=unroll)[1]
        as_x = lax.scan(lambda c, r: (None, r * 2), None, fnp.stack([x] * 4), unroll=unroll)[1]
        np.testing.assert_array_equal(as_const, as_x)
    for stop in (3, np.int32(3)):
        count = fgrad.jit(lambda n: lax.fori_loop(0, n, lambda i, c: c + i, total))
        closed = fgrad.jit(lambda n, k: lax.fori_loop(0, n, lambda i, c: (c[0] + c[1], c[1]), (k, k)))
        assert float(count(stop)) == 5 and float(closed(stop, total)[0]) == 8


def test_the_gradient_of_a_branch_that_depends_on_no_input_inside():
    def f(x, n):
        inner = lambda x: lax.switch(fnp.arange(3).sum() % 2, [lax.sin, lax.cos], x) * x  # noqa: E731
        return lax.switch(n, [inner, lambda x: x * 3], x)

    gradient = fgrad.jit(fgrad.grad(f))
    np.testing.assert_allclose(gradient(0.5, 0), np.cos(0.5) - 0.5 * np.sin(0.5), rtol=1e-6)
    assert float(gradient(0.5, 1)) == 3


def test_a_known_loop_holds_no_array_of_its_steps():
    closed, program = program_of(lambda x: lax.fori_loop(5, 10**12 + 5, lambda i, c: c + i, x), np.int64(1))
    assert not program.consts and program.arena_bytes < 4096
    assert not closed.consts
