"""The driver: patched addresses, parallel and serial loops, threads, forks and the kernel cache."""

from __future__ import annotations

import ctypes
import os
import threading

import numba
import numpy as np
import pytest

from fgrad import config
from fgrad.kernels.cpu import driver, entry, library, results
from fgrad.kernels.cpu.assemble import as_int64
from fgrad.kernels.cpu.driver import Executable, from_plan
from fgrad.kernels.cpu.memory import KERNEL_SIGNATURE, ld, ld_i64, st
from fgrad.kernels.layout import Layout
from fgrad.kernels.plan import HostStep, KernelPlan, Loop, Ptr, Slot, Step, Switch


def _multiply_add(args, begin, end, worker):
    """out[i] = x[i] * factor + table[i % 2], in steps of one element a tile; notes the worker in its scratch."""
    x, out, factor, table, scratch = ld_i64(args, 0), ld_i64(args, 1), ld_i64(args, 2), ld_i64(args, 3), ld_i64(args, 4)
    st(scratch + worker * 64, 0, worker)
    for i in range(begin, end):
        st(out, i, ld(x, i, 0) * factor + ld_i64(table, i % 2))


class Kernel:
    def __init__(self):
        self.compiled = numba.cfunc(KERNEL_SIGNATURE)(_multiply_add)

    def address(self) -> int:
        return self.compiled.address


@pytest.fixture(scope="module")
def kernel():
    return Kernel()


def _program(kernel, n: int, grain: int) -> Executable:
    """((x * 2 + t) * 3 + t) with t = 10, 20, 10, ... by way of a temporary, read and written at offsets."""
    layout = Layout.contiguous(np.int64, (n,))
    steps = (
        Step(kernel, (Ptr("in", 0, 8), Ptr("tmp", 1), 2, Ptr("tab", 0), Ptr("scratch", 0)), n, grain),
        Step(kernel, (Ptr("tmp", 1), Ptr("out", 0), 3, Ptr("tab", 0), Ptr("scratch", 0)), n, grain),
        Step(kernel, (Ptr("tmp", 1), Ptr("out", 0), 0, Ptr("tab", 0), Ptr("scratch", 0)), 0, grain),
    )
    plan = KernelPlan(steps, (24, 8 * n), (np.array([10, 20]),), 64)
    return from_plan(plan, [Layout.contiguous(np.int64, (n + 1,))], [layout])


def _expected(x: np.ndarray) -> np.ndarray:
    t = np.resize([10, 20], len(x) - 1)
    return (x[1:] * 2 + t) * 3 + t


@pytest.mark.parametrize("n,grain", [(1, 1), (7, 100), (1000, 1), (1000, 7), (4096, 64)])
def test_steps_tables_temporaries_and_scratch(kernel, n, grain):
    x = np.arange(n + 1)
    program = _program(kernel, n, grain)
    (first,) = program(x)
    (second,) = program(x + 1)
    np.testing.assert_array_equal(first, _expected(x))
    np.testing.assert_array_equal(second, _expected(x + 1))


def test_results_may_be_given(kernel):
    out = np.zeros(5, np.int64)
    (result,) = _program(kernel, 5, 1)(np.arange(6), outs=(out,))
    assert result is out
    np.testing.assert_array_equal(out, _expected(np.arange(6)))


def test_large_results_are_aligned(kernel):
    n = driver.LARGE
    (result,) = _program(kernel, n, 64)(np.arange(n + 1))
    assert result.ctypes.data % results.ALIGNMENT == 0
    assert result.flags.c_contiguous and result.flags.writeable


def test_wrong_number_of_operands(kernel):
    with pytest.raises(TypeError, match=r"Executable: takes 1 arrays, got 2\. Pass every planned operand\."):
        _program(kernel, 5, 1)(np.arange(6), np.arange(6))


def test_unsigned_words_keep_their_bits():
    assert as_int64([0xFFFFFFFFFFFFFFFF, -5, 1 << 63]).tolist() == [-1, -5, -(1 << 63)]


def test_unknown_library_kernel():
    with pytest.raises(KeyError, match="name must begin with one of"):
        library.address("no_such_kernel")


def test_calls_from_several_threads(kernel):
    program = _program(kernel, 5000, 100)
    wrong = []

    def call(seed):
        x = np.arange(5001) + seed
        for _ in range(50):
            if not np.array_equal(program(x)[0], _expected(x)):
                wrong.append(seed)

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_thread_gives_the_same(kernel, monkeypatch):
    x = np.arange(1001)
    many = _program(kernel, 1000, 1)(x)[0]
    monkeypatch.setattr(config, "num_threads", lambda: 1)
    np.testing.assert_array_equal(_program(kernel, 1000, 1)(x)[0], many)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_runs_serially(kernel):
    x = np.arange(1001)
    program = _program(kernel, 1000, 1)
    program(x)
    child = os.fork()
    if child == 0:
        right = np.array_equal(program(x)[0], _expected(x)) and np.array_equal(
            _program(kernel, 1000, 1)(x)[0], _expected(x)
        )
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0


# --- loops, branches, host steps -------------------------------------------------------------------------------------
TABLE = (np.zeros(2, np.int64),)
CARRY = {
    0: Slot(Ptr("in", 0), 0, Ptr("arena", 0), Ptr("arena", 0, 64)),
    1: Slot(Ptr("arena", 0), 0, Ptr("arena", 0, 64), Ptr("arena", 0)),
}


def _doubled(kernel, source, target, factor=2, n=4, grain=1):
    return Step(kernel, (source, target, factor, Ptr("tab", 0), Ptr("scratch", 0)), n, grain)


def _executable(steps, n_in=1, n_out=4):
    outs = [Layout.contiguous(np.int64, (n_out,))]
    return Executable(steps, n_in=n_in, outs=outs, arena_bytes=512, tables=TABLE, scratch=64)


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("grain", [1, 100])
def test_a_carried_value_and_rows(kernel, length, grain):
    """x = 2 x, each of them written to a row of the result, the last row first."""
    rows = Slot(Ptr("out", 0, 32 * (length - 1)), -32)
    body = [
        _doubled(kernel, Ptr("slot", 0), Ptr("slot", 1), grain=grain),
        _doubled(kernel, Ptr("slot", 1), Ptr("slot", 2), 1),
    ]
    program = _executable([Loop({**CARRY, 2: rows}, body, length)], n_out=4 * length)
    x = np.arange(4)
    want = np.stack([x * 2 ** (t + 1) for t in reversed(range(length))])
    for _ in range(2):
        np.testing.assert_array_equal(program(x)[0].reshape(length, 4), want)


def test_nested_loops_set_each_other_s_slots(kernel):
    """The inner loop walks over rows of what the outer loop walks over."""
    inner = Loop(
        {1: Slot(Ptr("slot", 0), 8), 3: Slot(Ptr("slot", 2), 8)},
        [_doubled(kernel, Ptr("slot", 1), Ptr("slot", 3), 3, 1)],
        4,
    )
    outer = Loop({0: Slot(Ptr("in", 0), 32), 2: Slot(Ptr("out", 0), 32)}, [inner], 5)
    x = np.arange(20)
    np.testing.assert_array_equal(_executable([outer], n_out=20)(x)[0], 3 * x)


@pytest.mark.parametrize("times", [0, 1, 2, 7])
def test_a_loop_with_a_test(kernel, times):
    """The step behind the loop reads where the last iteration wrote."""
    left = [0]

    def test(addresses):
        np.frombuffer((ctypes.c_char * 1).from_address(addresses[0]), np.bool_)[()] = left[0] > 0
        left[0] -= 1

    def program():
        body = [_doubled(kernel, Ptr("slot", 0), Ptr("slot", 1))]
        loop = Loop(CARRY, body, None, [HostStep(test, (Ptr("arena", 0, 128),))], Ptr("arena", 0, 128))
        return _executable([loop, _doubled(kernel, Ptr("slot", 0), Ptr("out", 0), 1)])

    left[0] = times
    np.testing.assert_array_equal(program()(np.arange(4))[0], np.arange(4) * 2**times)


@pytest.mark.parametrize("choice", [0, 1, 2])
def test_a_switch(kernel, choice):
    branches = [[_doubled(kernel, Ptr("in", 0), Ptr("out", 0), factor)] for factor in (3, 5)] + [[]]
    switch = Switch(Ptr("in", 1), branches)
    after = _doubled(kernel, Ptr("out", 0), Ptr("out", 0), 2)
    fill = _doubled(kernel, Ptr("in", 0), Ptr("out", 0), 1)
    got = _executable([fill, switch, after], n_in=2)(np.arange(4), np.array(choice, np.int32))[0]
    np.testing.assert_array_equal(got, np.arange(4) * (3, 5, 1)[choice] * 2)


def test_a_failing_host_step_stops_the_program(kernel):
    def fail(addresses):
        raise ZeroDivisionError("by a host step")

    program = _executable([HostStep(fail, ()), _doubled(kernel, Ptr("in", 0), Ptr("out", 0))])
    out = np.zeros(4, np.int64)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="by a host step") as caught:
            program(np.arange(1, 5), outs=(out,))
        assert caught.traceback[-1].name == "fail"
        np.testing.assert_array_equal(out, 0)


def test_empty_loops_and_steps(kernel):
    steps = [
        Loop(CARRY, [_doubled(kernel, Ptr("slot", 0), Ptr("slot", 1))], 0),
        _doubled(kernel, Ptr("in", 0), Ptr("out", 0)),
    ]
    np.testing.assert_array_equal(_executable(steps)(np.arange(4))[0], np.arange(4) * 2)


def test_a_loops_function_owns_its_method():
    """The interpreter looks into the method when it frees the function, after all modules are gone."""
    run = entry.entry(library.address("machine_serial"))
    at_method = object.__basicsize__  # m_ml, the first field of a builtin function
    method = ctypes.c_void_p.from_address(id(run) + at_method).value
    assert method == ctypes.addressof(run.__self__.method)
    assert run.__self__ == library.address("machine_serial")
