"""Loops, branches and host calls of tuples of arrays, and checks of the programs they become."""

import functools

import numpy as np
import pytest
from test_memory import run_poisoned, same_bits

import fgrad
from fgrad import lax
from fgrad.compiler import arena, loop_kernel
from fgrad.compiler.program import Program
from fgrad.core.check import check_jaxpr
from fgrad.higher_order.jit_primitive import reference_of

RNG = np.random.default_rng(0)


def arrays(*shapes, dtype=np.float32):
    return [RNG.standard_normal(s).astype(dtype) for s in shapes]


# --- programs --------------------------------------------------------------------------------------------------------
def loop(f, carry, xs=(), length=None, reverse=False):
    """f(carry tuple, x tuple) -> (carry tuple, y tuple); returns (carry, ys)."""
    return lax.scan(f, carry, xs or None, length, reverse)


def repeat(cond, f, carry):
    """carry = f(*carry) while cond(*carry)."""
    return lax.while_loop(lambda c: cond(*c), lambda c: f(*c), carry)


def choose(index, branches, *operands):
    """branches[index](*operands), each returning a tuple."""
    return lax.switch(index, branches, *operands)


seen = []


def _note(tag, x):
    seen.append((tag, x.tolist()))
    if tag == "fail" and x.ravel()[0] > 2:
        raise KeyError("too large")


def note(x, tag):
    """x + 1, having noted that x came by."""
    fgrad.debug.callback(functools.partial(_note, tag), x)
    return x + 1


def python(function, *xs):
    """function of NumPy arrays; the result has the first one's type."""
    wrapped = lambda *ys: np.asarray(function(*map(np.asarray, ys)), xs[0].dtype)  # noqa: E731
    return fgrad.pure_callback(wrapped, fgrad.ShapeDtypeStruct(xs[0].shape, xs[0].dtype), *xs)


# --- checks ----------------------------------------------------------------------------------------------------------
def interpret(closed, *inputs):
    """The outputs by each equation's NumPy reference."""
    with np.errstate(all="ignore"):
        return reference_of(closed, inputs)


def program_of(f, *inputs):
    closed = fgrad.make_jaxpr(lambda *xs: fgrad.tree.tree_leaves(f(*xs)))(*inputs)
    return closed, Program(closed)


def stepwise_program_of(closed):
    """The program without loops in one kernel: each launch of a body is an instruction."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_kernel, "MOST_NODES", -1)
        program = Program(closed)
        _ = program.lines  # now: the text of a program is made when it is first read
        return program


def run(f, *inputs, tolerance=2e-5):
    """The stepwise program; it and the program itself are checked: against NumPy, with 1 and 2 threads, on poisoned
    memory, with memory apart.
    """
    inputs = [np.asarray(x) for x in inputs]
    closed, program = program_of(f, *inputs)
    check_jaxpr(closed)
    check_jaxpr(program.simplified)
    want = interpret(closed, *inputs)
    stepwise = stepwise_program_of(closed)
    for tested, build in ((program, Program), (stepwise, stepwise_program_of)):
        got = [np.array(x) for x in tested(inputs)]
        for g, w, a in zip(got, want, closed.out_avals, strict=True):
            assert g.shape == a.shape and g.dtype == a.dtype
            np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance)
        same_bits(run_poisoned(tested, inputs), got)
        same_bits(run_poisoned(tested, inputs), got)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FGRAD_NUM_THREADS", "1")
            same_bits(tested(inputs), got)
            patch.setattr(arena.Arena, "place", apart)
            separate = build(closed)
            same_bits(separate(inputs), got)
        assert tested.arena_bytes <= separate.arena_bytes
    return stepwise


def apart(self, nbytes, start, end):
    """Every temporary at a place of its own."""
    offset = self.size
    self.size += -(-max(nbytes, 1) // arena.ALIGNMENT) * arena.ALIGNMENT
    return offset


def lines(program):
    return [f"{'  ' * line.depth}{line.text.split('  (')[0].strip()}" for line in program.lines]


def kernels(program):
    return [line for line in program.lines if line.step is not None]
