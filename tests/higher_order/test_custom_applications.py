"""Custom derivatives and checkpoints as they are used: in models, in each other, in loops and branches."""

import itertools

import numpy as np
import pytest
from custom_applications import BOTH_MODES, LOOPS, REVERSE_ONLY, in_while_loop
from custom_programs import FORWARD, OURS, REVERSE, of_jax

import fgrad

FIRST = ("grad", "jit grad", "vmap grad", "grad vmap", "grad jit vmap", "checkpoint", "jit grad checkpoint")
SECOND = ("grad grad", "jit grad grad jit", "vmap grad grad")
TANGENTS = ("jvp", "jit jvp", "vmap jvp", "linearize", "jvp grad", "grad jvp")
BESIDE_JAX = [
    *itertools.product(REVERSE_ONLY, (*FIRST, *SECOND)),
    *itertools.product(BOTH_MODES, (*FIRST, *SECOND, *TANGENTS)),
    *itertools.product(LOOPS, FIRST),  # JAX forgets custom_jvp in the second derivative of a loop
]


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)


@pytest.mark.oracle
@pytest.mark.parametrize(("program", "composition"), BESIDE_JAX)
def test_equals_jax(jax, program, composition):
    def build(lib):
        return LOOPS[program](lib)[0] if program in LOOPS else {**REVERSE_ONLY, **BOTH_MODES}[program](lib)

    call = {**REVERSE, **FORWARD}[composition]
    close(call(OURS.m, build(OURS)), call(jax, build(of_jax(jax))))


@pytest.mark.parametrize("composition", REVERSE)
@pytest.mark.parametrize("program", LOOPS)
def test_rules_in_a_loop_are_those_of_its_steps(program, composition):
    looped, unrolled = LOOPS[program](OURS)
    close(REVERSE[composition](OURS.m, looped), REVERSE[composition](OURS.m, unrolled))


@pytest.mark.parametrize("composition", [name for name in FORWARD if "grad" not in name and name != "linearize"])
def test_rules_in_a_while_loop_are_those_of_its_steps(composition):
    looped, unrolled = in_while_loop(OURS)
    close(FORWARD[composition](OURS.m, looped), FORWARD[composition](OURS.m, unrolled))


@pytest.mark.parametrize("program", ["implicit_layer", "safe_norm", "softmax", "checkpointed_block"])
def test_gradients_are_those_of_central_differences(program):
    """Of the programs whose rules say what differentiation would have found."""
    f, h = {**REVERSE_ONLY, **BOTH_MODES}[program](OURS), 1e-4
    slope = lambda g, x: (float(g(x + h)) - float(g(x - h))) / (2 * h)  # noqa: E731
    for x in (0.4, 1.3):
        assert float(fgrad.grad(f)(np.float64(x))) == pytest.approx(slope(f, np.float64(x)), rel=1e-6)
        twice = fgrad.jit(fgrad.grad(fgrad.grad(f)))(np.float64(x))
        assert float(twice) == pytest.approx(slope(fgrad.grad(f), np.float64(x)), rel=1e-5, abs=1e-9)
