"""Compiled programs compute what their equations say, whatever the equations are."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from programs import programs

import fgrad
import fgrad.numpy as fnp
from fgrad.compiler.simplify import common_subexpressions, fold_into_convolutions, inline, simplify
from fgrad.core.array import lift
from fgrad.core.check import check_jaxpr
from fgrad.core.jaxpr import eval_jaxpr
from fgrad.transforms.dce import dce

TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
QUICK = settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
LONG = settings(max_examples=4000, suppress_health_check=[HealthCheck.too_slow])


def agree(got, want, dtype):
    for g, w in zip(got, want, strict=True):
        g, w = np.asarray(g), np.asarray(w)
        assert (g.shape, g.dtype) == (w.shape, w.dtype)
        if dtype in TOLERANCE:
            np.testing.assert_allclose(g, w, rtol=0, atol=TOLERANCE[dtype])
        else:
            np.testing.assert_array_equal(g, w)


def check_compiled(program):
    inputs = program.inputs()
    want = program(*map(lift, inputs))
    agree(fgrad.jit(program.__call__)(*inputs), want, program.dtype)


def check_passes(program):
    inputs = [lift(x) for x in program.inputs()]
    nested = fgrad.jit(lambda *xs: program(*fgrad.jit(lambda *ys: list(ys))(*xs)))
    closed = fgrad.make_jaxpr(nested)(*inputs)
    check_jaxpr(closed)
    want = program(*inputs)
    for step in (inline, dce, common_subexpressions, fold_into_convolutions, simplify):
        closed = step(closed)
        check_jaxpr(closed)
        agree(eval_jaxpr(closed.jaxpr, closed.consts, *inputs), want, program.dtype)


def check_gradient(program):
    """The gradient's program against the gradient evaluated operation by operation."""

    def loss(*xs):
        return sum(fnp.sum(y * (k + 1.0)) for k, y in enumerate(program(*xs)))

    inputs = program.inputs()
    gradient = fgrad.grad(loss, argnums=tuple(range(len(inputs))))
    check_jaxpr(fgrad.make_jaxpr(gradient)(*inputs))
    want = gradient(*inputs)
    got = fgrad.jit(gradient)(*inputs)
    scale = max([1.0, *(float(np.abs(np.asarray(w)).max()) for w in want if w.size)])
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(g), np.asarray(w), rtol=0, atol=1e-11 * scale)


def check_vmap(program):
    """vmap, eager and compiled, is the program on each example."""
    examples = [program.inputs(seed) for seed in range(3)]
    stacked = [np.stack(xs) for xs in zip(*examples)]
    each = [program(*map(lift, xs)) for xs in examples]
    want = [np.stack([np.asarray(y) for y in ys]) for ys in zip(*each)]
    mapped = fgrad.vmap(program.__call__)
    agree(mapped(*stacked), want, program.dtype)
    agree(fgrad.jit(mapped)(*stacked), want, program.dtype)


@QUICK
@given(programs())
def test_compiled_is_eager(program):
    check_compiled(program)


@QUICK
@given(programs())
def test_every_pass_keeps_types_and_values(program):
    check_passes(program)


@settings(QUICK, max_examples=100)
@given(programs(dtypes=("float64",)))
def test_compiled_gradients_are_eager_gradients(program):
    check_gradient(program)


@settings(QUICK, max_examples=100)
@given(programs())
def test_mapped_programs(program):
    check_vmap(program)


@pytest.mark.long
@LONG
@given(programs(max_steps=14))
def test_compiled_is_eager_long(program):
    check_compiled(program)
    check_passes(program)


@pytest.mark.long
@LONG
@given(programs(dtypes=("float64",), max_steps=12))
def test_gradients_and_maps_long(program):
    check_gradient(program)
    check_vmap(program)
