"""Every composition of two and three transformations on twelve programs, against its own meaning in fgrad, in float64.

The meaning of a composition (see compositions.py) uses only eager grad, jvp and Python loops; those are checked against
finite differences and against each other.  Left out are the 26 triples with jit or checkpoint twice in a row, and of
the root finder, whose custom_vjp has no forward mode, all with jvp or linearize.
tests/programs/test_compositions_oracle.py compares with JAX.
"""

import functools

import numpy as np
import pytest
from composed_programs import INPUTS, PROGRAMS, Library, root
from compositions import (
    FORWARD,
    JVP,
    PAIRS,
    REVERSE,
    TRANSFORMS,
    TRIPLES,
    VJP,
    compose,
    error,
    fixed,
    inner,
    inputs,
    leaves,
    meaning,
    refused,
)

import fgrad
import fgrad.nn
import fgrad.numpy as fnp
from fgrad.core.check import check_jaxpr

FGRAD = Library(fgrad, fnp, fgrad.lax, fgrad.nn, fgrad.tree)
TOLERANCE = 1e-10

programs = pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
outermost = pytest.mark.parametrize("outer", TRANSFORMS)


def run(program, names):
    return leaves(FGRAD, compose(FGRAD, names, program)(inputs(FGRAD, program, names, "float64")))


@functools.cache
def meant(program, names):
    """The result of a meaning; ``names`` hold "loop" for each axis."""
    x = inputs(FGRAD, program, tuple("vmap" for n in names if n == "loop"), "float64")
    return leaves(FGRAD, compose(FGRAD, names, program)(x))


def check_compositions(program, compositions):
    wrong = []
    for names in compositions:
        if refused(program, names):
            continue
        difference = error(run(program, names), meant(program, meaning(names, loop=True)))
        if not difference < TOLERANCE:
            wrong.append(f"{'('.join(names)}: {difference:.1e}")
    assert not wrong, "\n".join(wrong)


@programs
@outermost
def test_pairs(program, outer):
    check_compositions(program, [(outer,), *(c for c in PAIRS if c[0] == outer)])


@pytest.mark.long
@programs
@outermost
def test_triples(program, outer):
    check_compositions(program, [c for c in TRIPLES if c[0] == outer])


def test_the_compositions_are_all_there():
    assert len(PROGRAMS) == len(INPUTS) == 12
    assert len(set(PAIRS)) == 49
    assert len(set(TRIPLES)) == 7**3 - 2 * (7 + 7 - 1)


@programs
def test_gradients_equal_central_differences(program):
    """⟨vjp(ct), v⟩ = d/dt ⟨ct, f(x + t v)⟩, by the difference of fourth order."""
    x = inputs(FGRAD, program, (), "float64")
    v = fixed(FGRAD, x, JVP)
    f = compose(FGRAD, (), program)

    def along(t):
        y = f(fgrad.tree.tree_map(lambda a, b: a + t * b, x, v))
        return float(inner(FGRAD, fixed(FGRAD, y, VJP), y))

    h = 1e-4
    slope = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
    got = float(inner(FGRAD, compose(FGRAD, ("vjp",), program)(x), v))
    assert got == pytest.approx(slope, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("program", [p for p in PROGRAMS if not refused(p, FORWARD)], ids=lambda f: f.__name__)
@pytest.mark.parametrize("names", [(), *((t,) for t in TRANSFORMS)], ids=lambda names: "".join(names) or "itself")
def test_forward_and_reverse_mode_are_transposes(program, names):
    """⟨ct, J v⟩ = ⟨Jᵀ ct, v⟩ for the program and for each transformation of it."""
    x = inputs(FGRAD, program, names, "float64")
    tangent = compose(FGRAD, ("jvp", *names), program)(x)
    pulled = compose(FGRAD, ("vjp", *names), program)(x)
    forward = float(inner(FGRAD, fixed(FGRAD, tangent, VJP), tangent))
    assert float(inner(FGRAD, pulled, fixed(FGRAD, x, JVP))) == pytest.approx(forward, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("names", [*((t,) for t in FORWARD), *((f, r) for f in FORWARD for r in REVERSE)])
def test_forward_mode_of_a_custom_vjp_is_refused(names):
    with pytest.raises(TypeError, match="custom_vjp"):
        run(root, names)


@programs
def test_jaxprs_are_well_typed(program):
    """Seven pairs in which each transformation is once outside and once inside."""
    for outer, within in zip(TRANSFORMS, TRANSFORMS[1:] + TRANSFORMS[:1]):
        names = (outer, within)
        if refused(program, names):
            continue
        x = inputs(FGRAD, program, names, "float64")
        closed = fgrad.make_jaxpr(compose(FGRAD, names, program))(x)
        check_jaxpr(closed)
        assert [a.dtype for a in closed.out_avals] == [np.float64] * len(closed.out_avals)
