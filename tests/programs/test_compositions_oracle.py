"""Every composition of two and three transformations on twelve programs equals JAX's, in both precisions.

JAX computes the meaning of each composition (compositions.py): without jit and checkpoint, which are its identities,
and many compositions in one compiled function, because compiling is what takes its time.  All inputs hold the same
values in both precisions; for compositions of three JAX's float64 results are the oracle of both.

Pairs are all 49.  Triples are 317 of 343: without the 26 in which jit or checkpoint stands twice in a row, the same
as once.  The root finder's with jvp or linearize are left out: its custom_vjp has no forward mode, and a test shows
that both libraries refuse them.  Errors are relative to the size of the result (``compositions.error``).
"""

import collections
import functools

import numpy as np
import pytest
from composed_programs import PROGRAMS, Library, root
from compositions import FORWARD, PAIRS, TRANSFORMS, TRIPLES, compose, error, inputs, leaves, meaning, refused

import fgrad
import fgrad.nn
import fgrad.numpy as fnp

pytestmark = pytest.mark.oracle

FGRAD = Library(fgrad, fnp, fgrad.lax, fgrad.nn, fgrad.tree)
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
FAST_COMPILE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

programs = pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
precisions = pytest.mark.parametrize("dtype", TOLERANCE)


def library_of(jax):
    return Library(jax, jax.numpy, jax.lax, jax.nn, jax.tree_util)


def jax_results(lib, program, meanings, dtype):
    """The result of each meaning; one compiled function for each outermost name and number of batch axes."""
    groups = collections.defaultdict(list)
    for names in meanings:
        groups[names[:1], names.count("vmap")].append(names)
    results = {}
    for (_, depth), group in groups.items():
        x = inputs(lib, program, ("vmap",) * depth, dtype)
        every = lib.api.jit(lambda x, group=group: [compose(lib, names, program)(x) for names in group])
        out = every.lower(x).compile(compiler_options=FAST_COMPILE)(x)
        results.update(zip(group, [leaves(lib, y) for y in out]))
    return results


@functools.cache
def wanted(jax, program, length, dtype):
    compositions = {1: [(t,) for t in TRANSFORMS], 2: PAIRS, 3: TRIPLES}[length]
    meanings = sorted({meaning(c) for c in compositions if not refused(program, c)})
    return jax_results(library_of(jax), program, meanings, dtype)


def check(program, compositions, want, dtype):
    wrong = []
    for names in compositions:
        if refused(program, names):
            continue
        got = leaves(FGRAD, compose(FGRAD, names, program)(inputs(FGRAD, program, names, dtype)))
        difference = error(got, [w.astype(dtype) for w in want[meaning(names)]])
        if not difference < TOLERANCE[dtype]:
            wrong.append(f"{'('.join(names)}: {difference:.1e}")
    assert not wrong, "\n".join(wrong)


@programs
@precisions
def test_pairs(jax, program, dtype):
    want = wanted(jax, program, 1, dtype) | wanted(jax, program, 2, dtype)
    check(program, [(t,) for t in TRANSFORMS] + PAIRS, want, dtype)


@pytest.mark.long
@programs
def test_triples(jax, program):
    want = wanted(jax, program, 3, "float64")
    for dtype in TOLERANCE:
        check(program, TRIPLES, want, dtype)


@pytest.mark.parametrize("name", FORWARD)
def test_jax_refuses_the_same_compositions(jax, name):
    lib = library_of(jax)
    with pytest.raises(TypeError, match="custom_vjp"):
        compose(lib, (name,), root)(inputs(lib, root, (), "float64"))


@programs
def test_jax_has_the_same_meanings(jax, program):
    """In JAX too linearize is a jvp and vjp the gradient of a product, so that either is an oracle of the other."""
    lib = library_of(jax)
    x = inputs(lib, program, (), "float64")
    for name in ("vjp",) if program is root else ("vjp", "linearize"):
        got, want = (leaves(lib, compose(lib, names, program)(x)) for names in ((name,), meaning((name,))))
        assert error(got, want) < TOLERANCE["float64"], name
        assert all(g.dtype == np.float64 for g in got)
