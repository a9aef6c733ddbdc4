"""Random programs of nested loops and branches, compiled, against each equation's NumPy reference."""

import random

import numpy as np
import pytest
from control_flow import interpret
from test_memory import run_poisoned, same_bits

import fgrad
import fgrad.numpy as fnp
from fgrad.compiler import loop_kernel
from fgrad.compiler.program import Program
from fgrad.core.check import check_jaxpr
from fgrad.testing.strategies import random_program
from fgrad.testing.strategies.programs_text import Program as RandomProgram
from fgrad.testing.strategies.programs_text import is_float

COMMON = ("float32", "int32")
DTYPES = (*COMMON * 4, "float64", "int8", "uint8", "bool", "bfloat16", "float16", "complex64")
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


def gradient_of(random_one: RandomProgram):
    """The gradient of a weighted sum of its float outputs in its float inputs."""
    floats = tuple(i for i, t in enumerate(random_one.types) if is_float(t))

    def loss(*xs):
        parts = [y.sum() * (k + 1.0) for k, y in enumerate(random_one.f(*xs)) if y.dtype.kind == "f"]
        return sum(parts, fnp.zeros((), np.float32))

    return lambda *xs: list(fgrad.grad(loss, argnums=floats)(*xs))


def tolerance_of(random_one: RandomProgram) -> float:
    return 0.3 if "float16" in random_one.narrowest else 5e-3  # bfloat16 too: errors grow through the steps


def check(seed):
    rnd = random.Random(seed)
    differentiable = rnd.random() < 0.25
    if differentiable:
        random_one = random_program(rnd, ("float32", "float64", "int32"), differentiable=True, modes=("rev",))
        function = gradient_of(random_one)
    else:
        random_one = random_program(rnd, DTYPES)
        function = lambda *xs: list(random_one.f(*xs))  # noqa: E731
    inputs = list(random_one.args)
    closed = fgrad.make_jaxpr(function)(*inputs)
    check_jaxpr(closed)
    want = [np.array(x) for x in interpret(closed, *inputs)]
    tolerance = tolerance_of(random_one)
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

    random_one = random_program(random.Random(seed), DTYPES, calls=("effect",))
    inputs = list(random_one.args)
    closed = fgrad.make_jaxpr(random_one.bind(effect=effect))(*inputs)
    interpret(closed, *inputs)
    want = log[:]
    log.clear()
    Program(closed)(inputs)
    return log, want, tolerance_of(random_one)


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
