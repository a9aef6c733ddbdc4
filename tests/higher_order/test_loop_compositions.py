"""Loops and branches under every composition of two transformations: equal to loops in Python, and to JAX."""

import loop_compositions as compositions
import numpy as np
import pytest
from loop_programs import PLAIN, PROGRAMS

import fgrad
import fgrad.numpy as fnp
from fgrad import lax, tree

CASES = [
    pytest.param(program, composition, id=f"{name}-{composition.__name__}")
    for name, program in PROGRAMS.items()
    for composition in compositions.FORWARD + (compositions.REVERSE if program.reverse else [])
]


def equal(got, want):
    got = [np.asarray(v) for v in got]
    want = [np.asarray(v) for v in want]
    assert len(got) == len(want)
    for g, w in zip(got, want):
        assert (g.shape, g.dtype) == (w.shape, w.dtype)
        np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-10 * max(1.0, np.abs(w).max(initial=0)))


def of_fgrad(program, composition, control_flow):
    args = tree.tree_map(fnp.asarray, program.args)
    return compositions.leaves(fgrad, composition(fgrad, program.make(fnp, control_flow), args))


def plain(case):
    """Python's while needs a condition with a value."""
    program, composition = case.values
    name = composition.__name__
    return program.make.__name__ != "newton" or not ("vmap" in name or "jit" in name)


@pytest.mark.parametrize("program, composition", [c for c in CASES if plain(c)])
def test_equal_to_python_loops(program, composition):
    equal(of_fgrad(program, composition, lax), of_fgrad(program, composition, PLAIN))


# JAX compiles each of them anew: the shortest that reach every rule always, all in the long run.
SHORT = {"value", "jvp", "vmap_last", "grad", "vmap_grad_first"}


@pytest.mark.oracle
@pytest.mark.parametrize("program, composition", [c for c in CASES if c.values[1].__name__ in SHORT])
def test_equal_to_jax_in_short(program, composition, jax):
    test_equal_to_jax(program, composition, jax)


@pytest.mark.long
@pytest.mark.oracle
@pytest.mark.parametrize("program, composition", CASES)
def test_equal_to_jax(program, composition, jax):
    args = jax.tree.map(jax.numpy.asarray, program.args)
    want = composition(jax, program.make(jax.numpy, jax.lax), args)
    want = [v for v in jax.tree.leaves(want) if np.asarray(v).dtype.kind == "f"]
    equal(of_fgrad(program, composition, lax), want)
