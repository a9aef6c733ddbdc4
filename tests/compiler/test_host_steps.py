"""Python inside programs: order of effects, exceptions, threads, and calls of other programs."""

import threading
import traceback

import numpy as np
import pytest
from control_flow import arrays, choose, loop, note, program_of, python, repeat, seen

import fgrad
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.primitives.linalg import cholesky_p


def noted(f, *inputs):
    _, program = program_of(f, *inputs)
    seen.clear()
    out = [np.array(v) for v in program([np.asarray(x) for x in inputs])]
    return out, list(seen)


def test_effects_run_in_order_and_are_never_dropped_or_merged():
    def f(x):
        note(x, "a")
        y = lax.sin(note(x, "b"))
        note(x, "a")
        return y

    out, order = noted(f, np.float32(1.0))
    assert order == [("a", 1.0), ("b", 1.0), ("a", 1.0)]
    np.testing.assert_allclose(out[0], np.sin(np.float32(2.0)), rtol=1e-6)


def test_effects_in_loops_and_branches():
    def f(n, xs):
        def body(c, r):
            note(c[0], "in")
            choose(r[0], [lambda c: (note(c, "zero"),), lambda c: (c,)], c[0])
            return (c[0] + 1,), ()

        note(n, "before")
        loop(body, (n,), (xs,))  # its results are not used
        repeat(lambda c: c < 2, lambda c: (note(c, "while"),), (n,))
        return n

    _, order = noted(f, np.float32(0), np.int32([0, 1, 0]))
    assert order == [
        ("before", 0.0), ("in", 0.0), ("zero", 0.0), ("in", 1.0), ("in", 2.0), ("zero", 2.0), ("while", 0.0),
        ("while", 1.0),
    ]  # fmt: skip


def test_an_exception_ends_the_program_and_keeps_its_traceback():
    def f(x):
        def body(c, _):
            return (note(c[0], "fail"),), ()

        (c,), _ = loop(body, (x,), (), 10)
        return note(c, "after")

    _, program = program_of(f, np.float32(0))
    for _ in range(2):
        seen.clear()
        with pytest.raises(KeyError, match="too large") as caught:
            program([np.array(0, np.float32)])
        assert [tag for tag, _ in seen] == ["fail"] * 4
        assert "_note" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert len(program.executable._frames) == 1
    seen.clear()
    with pytest.raises(KeyError):
        program([np.array(2.5, np.float32)])
    assert len(seen) == 1


def test_operands_of_a_host_step_may_be_kept():
    kept = []

    def keep(x):
        kept.append(x)
        return x * 2

    def f(x):
        return loop(lambda c, _: ((python(keep, c[0].T).T,), ()), (x,), (), 3)[0]

    (x,) = arrays((2, 3))
    _, program = program_of(f, x)
    program([x])
    for k, value in enumerate(kept):
        np.testing.assert_array_equal(value, x.T * 2**k)


def test_a_wrong_reference_is_an_error(monkeypatch):
    monkeypatch.setattr(cholesky_p, "reference", lambda x: np.zeros(7))
    _, program = program_of(fnp.linalg.cholesky, np.eye(2, dtype=np.float32))
    message = (
        "cholesky: reference must return what abstract says, got float64[7] for float32[2, 2]. "
        "Correct one of the two slots."
    )
    with pytest.raises(TypeError) as caught:
        program([np.eye(2, dtype=np.float32)])
    assert str(caught.value) == message


def test_python_that_calls_compiled_functions():
    inner = fgrad.jit(lambda x: loop(lambda c, _: ((lax.sin(c[0]),), ()), (x,), (), 3)[0][0])

    def f(x):
        def body(c, _):
            return (python(lambda v: np.asarray(inner(v)), c[0]),), ()

        return loop(body, (x,), (), 4)[0][0]

    (x,) = arrays((5,))
    _, program = program_of(f, x)
    (got,) = program([x])
    want = x
    for _ in range(12):
        want = np.sin(want)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_program_that_calls_itself():
    depth = []

    def again(x):
        depth.append(len(depth))
        return program([x])[0] if len(depth) < 4 else x

    _, program = program_of(lambda x: python(again, x + 1) * 2, np.float32([1, 2]))
    np.testing.assert_array_equal(program([np.float32([1, 2])])[0], (np.float32([1, 2]) + 4) * 16)


def test_calls_from_several_threads():
    barrier = threading.Barrier(3, timeout=60)

    def meet(x):
        barrier.wait()
        return x

    def f(x):
        big = fnp.broadcast_to(x[:, None], (5, 100_000)) * 1.5

        def body(c, _):
            return (python(meet, c[0]) + 1, c[1] + 1), (big.sum(1),)

        return loop(body, (x, x.sum()), (), 5)

    (x,) = arrays((5,))
    _, program = program_of(f, x)
    results = {}

    def call(k):
        results[k] = program([x + k])

    threads = [threading.Thread(target=call, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(3):
        np.testing.assert_allclose(results[k][0], x + k + 5, rtol=1e-5)
