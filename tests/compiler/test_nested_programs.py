"""Random programs of nested loops and branches, compiled, against each equation's NumPy reference."""

import random

import numpy as np
import pytest
from control_flow import interpret
from nested_programs import Writer, inputs_of, is_float
from test_memory import run_poisoned, same_bits

import fgrad
import fgrad.numpy as fnp
from fgrad.compiler import loop_kernel
from fgrad.compiler.program import Program
from fgrad.core.check import check_jaxpr

WHOLE, STEPWISE = (256, 1024), (-1, 1024)  # MOST_NODES, MOST_ELEMENTS: loops in one kernel, and none


def agree(got, want, tolerance):
    for g, w in zip(got, want, strict=True):
        g, w = np.asarray(g), np.asarray(w)
        assert (g.shape, g.dtype) == (w.shape, w.dtype)
        if g.dtype.kind in "fVc":
            wide = np.complex128 if g.dtype.kind == "c" else np.float64
            np.testing.assert_allclose(g.astype(wide), w.astype(wide), rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(g, w)


def gradient_of(block):
    """The gradient of a weighted sum of the block's float outputs in its float inputs; None without any."""
    floats = tuple(i for i, t in enumerate(block.inputs) if is_float(t))

    def loss(*xs):
        parts = [y.sum() * (k + 1.0) for k, y in enumerate(block(*xs)) if y.dtype.kind == "f"]
        return sum(parts, fnp.zeros((), np.float32))

    return (lambda *xs: list(fgrad.grad(loss, argnums=floats)(*xs))) if floats else None


def check(seed):
    rnd = random.Random(seed)
    differentiable = rnd.random() < 0.25
    block = Writer(rnd, differentiable).program()
    function = gradient_of(block) if differentiable else lambda *xs: list(block(*xs))
    if function is None:
        return
    inputs = inputs_of(block, seed)
    closed = fgrad.make_jaxpr(function)(*inputs)
    check_jaxpr(closed)
    want = [np.array(x) for x in interpret(closed, *inputs)]
    tolerance = 0.3 if "float16" in block.text() else 5e-3  # bfloat16 too: errors grow through the steps
    between = rnd.choice((3, 8, 20)), rnd.choice((3, 10, 1024))
    with pytest.MonkeyPatch.context() as patch:
        for nodes, elements in (WHOLE, STEPWISE, between):
            patch.setattr(loop_kernel, "MOST_NODES", nodes)
            patch.setattr(loop_kernel, "MOST_ELEMENTS", elements)
            program = Program(closed)
            check_jaxpr(program.simplified)
            got = [np.array(x) for x in program(inputs)]
            agree(got, want, tolerance)
            same_bits(run_poisoned(program, inputs), got)
            same_bits(program(inputs), got)
            every = frozenset(range(len(inputs)))
            agree(Program(closed, every)([x.copy() for x in inputs], every), want, tolerance)


def effects_of(seed):
    """The effects of a random program, compiled and by reference."""
    log = []

    def effect(x, tag):
        fgrad.debug.callback(lambda x: log.append((tag, np.array(x))), x)
        return x

    block = Writer(random.Random(seed), effects=effect).program()
    inputs = inputs_of(block, seed)
    closed = fgrad.make_jaxpr(lambda *xs: list(block(*xs)))(*inputs)
    interpret(closed, *inputs)
    want = log[:]
    log.clear()
    Program(closed)(inputs)
    return log, want, 0.3 if "float16" in block.text() else 5e-3


def check_effects(seed):
    got, want, tolerance = effects_of(seed)
    assert [tag for tag, _ in got] == [tag for tag, _ in want]
    agree([x for _, x in got], [x for _, x in want], tolerance)


@pytest.mark.parametrize("seed", range(24))
def test_nested_programs(seed):
    check(seed)


@pytest.mark.parametrize("seed", range(12))
def test_effects_of_nested_programs(seed):
    check_effects(seed)


@pytest.mark.long
@pytest.mark.parametrize("hundred", range(1, 21))
def test_many_nested_programs(hundred):
    for seed in range(100 * hundred, 100 * hundred + 100):
        check(seed)


@pytest.mark.long
def test_effects_of_many_nested_programs():
    for seed in range(100, 600):
        check_effects(seed)
