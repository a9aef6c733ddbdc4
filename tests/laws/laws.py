"""The laws, each a function of a primitive and a sample that raises AssertionError where it does not hold."""

import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import ml_dtypes
import numpy as np
import pytest
from checks import (
    check_adjoint,
    check_close,
    check_inner_products,
    check_tangent,
    check_value,
    check_vmap,
    directions,
    normal_like,
    relative_error,
    results,
)
from sample import Sample

import fgrad
from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Unfilled
from fgrad.core.primitive import Bilinear, Linear, Primitive, Zero
from fgrad.errors import MissingBackendError, MissingDependencyError
from fgrad.transforms.jvp import jvp_flat
from fgrad.transforms.stage import stage

SCIPY = importlib.util.find_spec("scipy") is not None
DTYPES = {"f": ("float32",), "i": ("int32", "uint8"), "b": ("bool",)}
HALVES = ("float16", "bfloat16")
PUBLIC = {"regularized_incomplete_beta": "betainc"}  # the name in messages, where it is not the primitive's


# --- what a sample allows --------------------------------------------------------------------------------------------
@contextmanager
def unless_scipy_is_missing(sample: Sample, *what: str) -> Iterator[None]:
    """Without SciPy, what needs it says so."""
    if SCIPY or sample.scipy not in what:
        yield
        return
    with pytest.raises(MissingDependencyError, match="needs SciPy, got none installed"):
        yield


def operands(sample: Sample) -> list[Array]:
    return [lift(x) for x in sample.operands]


def abstract(prim: Primitive, xs, sample: Sample):
    return prim.abstract_eval([ShapedArray(x.shape, x.dtype) for x in xs], sample.params)


def functions(prim: Primitive, sample: Sample) -> list[Callable]:
    """The primitive at the sample's parameters: a function of its operands for each of its results."""

    def result(i):
        return lambda *xs: results(prim, prim.bind(*xs, **sample.params))[i]

    return [result(i) for i in range(len(results(prim, abstract(prim, sample.operands, sample))))]


def tolerance(prim: Primitive, sample: Sample, double: float) -> float:
    """``double`` where every float is a float64; a few units of the narrowest otherwise."""
    floats = [x.dtype for x in [*sample.operands, *results(prim, abstract(prim, sample.operands, sample))]]
    return max(double, *[16 * epsilon(d) for d in floats if d != np.float64], 0)


def epsilon(dtype: np.dtype) -> float:
    return float(ml_dtypes.finfo(dtype).eps) if dtypes.is_float(dtype) else 0.0


def differentiable(sample: Sample) -> list[bool]:
    return [dtypes.is_inexact(x.dtype) and i not in sample.refused for i, x in enumerate(sample.operands)]


def has_derivatives(prim: Primitive, sample: Sample) -> bool:
    return any(differentiable(sample)) and not isinstance(prim.jvp, Unfilled)


def only(i: int, xs: list) -> list[bool]:
    return [i == j for j in range(len(xs))]


def masks(sample: Sample) -> list[list[bool]]:
    """All differentiable operands together, and each alone."""
    mask = differentiable(sample)
    alone = [only(i, mask) for i, m in enumerate(mask) if m]
    return [mask, *alone] if len(alone) > 1 else [mask]


def linear_groups(prim: Primitive, sample: Sample) -> tuple[tuple[int, ...], ...]:
    if sample.linear is not None:
        return sample.linear
    if sample.slope != "smooth":  # linear but for rounding
        return ()
    floating = tuple(i for i, m in enumerate(differentiable(sample)) if m)
    if isinstance(prim.jvp, Linear):
        return (floating,)
    return tuple((i,) for i in floating) if isinstance(prim.jvp, Bilinear) else ()


def is_linear(prim: Primitive, sample: Sample) -> bool:
    """Linear in all operands together or bilinear: differences are the tangent at any step."""
    floating = tuple(i for i, m in enumerate(differentiable(sample)) if m)
    return isinstance(prim.jvp, (Linear, Bilinear)) or floating in linear_groups(prim, sample)


# --- types and values ------------------------------------------------------------------------------------------------
def check_types(prim: Primitive, sample: Sample) -> None:
    """Abstract rule, reference, eager result and staged equation have one shape, dtype and weakness."""
    xs = operands(sample)
    for i, f in enumerate(functions(prim, sample)):
        want = results(prim, abstract(prim, sample.operands, sample))[i]
        staged = stage(lambda *xs, f=f: [f(*xs)], [x.aval for x in xs]).out_avals[0]
        assert staged == want
        with unless_scipy_is_missing(sample, "value"):
            assert f(*xs).aval == want
            reference = results(prim, prim.reference(*sample.operands, **sample.params))[i]
            assert (reference.shape, reference.dtype) == (want.shape, want.dtype)


def check_values(prim: Primitive, sample: Sample, halves: bool = False) -> None:
    """reference = eager = compiled, in every dtype, on contiguous and on strided operands."""
    variants = [sample.operands]
    if sample.operands:
        kinds = [d for kind in sample.kinds for d in DTYPES[kind]]
        kinds += HALVES if halves and "f" in sample.kinds else ()
        variants += [sample.cast(d) for d in kinds]
    for xs in variants:
        outs = results(prim, abstract(prim, xs, sample))
        eps = max((epsilon(a.dtype) for a in outs), default=0.0)  # a callback has no results
        with unless_scipy_is_missing(sample, "value"):
            check_value(prim, *xs, exact=sample.exact, rtol=16 * eps, compiled=True, **sample.params)


# --- first derivatives -----------------------------------------------------------------------------------------------
def check_tangents(prim: Primitive, sample: Sample) -> None:
    """The tangent is the limit of differences; of linear and bilinear maps, the difference itself."""
    xs = operands(sample)
    for mask in [only(i, xs) for i in sample.refused]:
        check_refusal(prim, sample, mask, f"{PUBLIC.get(prim.name, prim.name)}: has no derivative in")
    if isinstance(prim.jvp, Unfilled) and any(differentiable(sample)):
        check_refusal(prim, sample, differentiable(sample), f"{prim.name}: has no jvp rule, {prim.jvp.reason}")
    if not has_derivatives(prim, sample) or sample.reverse_only:
        return
    exact = is_linear(prim, sample)
    limit = tolerance(prim, sample, 1e-12) if exact else 1e-6
    for f in functions(prim, sample):
        for mask in masks(sample):
            with unless_scipy_is_missing(sample, "value", "derivative"):
                if sample.slope == "smooth":
                    check_tangent(f, *xs, mask=mask, step=1.0 if exact else 1e-5, tolerance=limit)
                elif sample.slope == "zero":
                    _, (t,) = jvp_flat(lambda *a, f=f: [f(*a)], xs, directions(xs, mask))
                    assert type(t) is Zero


def check_refusal(prim: Primitive, sample: Sample, mask: list[bool], message: str) -> None:
    xs = operands(sample)
    for f in functions(prim, sample):
        with unless_scipy_is_missing(sample, "value"), pytest.raises(MissingBackendError, match=re.escape(message)):
            jvp_flat(lambda *a, f=f: [f(*a)], xs, directions(xs, mask))


def check_adjoints(prim: Primitive, sample: Sample) -> None:
    """<A x, y> = <x, A^T y> of the tangent map, and of the primitive in each group of operands it is linear in."""
    xs, limit = operands(sample), tolerance(prim, sample, 1e-12)
    if has_derivatives(prim, sample) and not sample.reverse_only and sample.slope != "rounds":
        for f in functions(prim, sample):
            for mask in masks(sample):
                with unless_scipy_is_missing(sample, "value", "derivative"):
                    check_adjoint(f, *xs, mask=mask, tolerance=limit)
    for group in linear_groups(prim, sample):
        for f in functions(prim, sample):
            check_transpose(f, xs, group, limit)


def check_transpose(f: Callable, xs: list[Array], group: tuple[int, ...], limit: float) -> None:
    """fgrad.linear_transpose of f in the operands of the group."""

    def of(*active):
        given = dict(zip(group, active))
        return f(*[given.get(i, x) for i, x in enumerate(xs)])

    rng = np.random.default_rng(6)
    ts = [normal_like(xs[i].aval, rng) for i in group]
    out = of(*ts)
    if dtypes.is_inexact(out.dtype):
        ct = normal_like(out.aval, rng)
        check_inner_products([out], [ct], ts, fgrad.linear_transpose(of, *ts)(ct), limit)


# --- batching --------------------------------------------------------------------------------------------------------
def check_batching(prim: Primitive, sample: Sample, every: bool = False) -> None:
    """vmap is the loop over every axis of each operand alone, and over axes of all operands together.

    Sizes 1 and 0 over the first axis and the last.  ``every``: all combinations of axes and of unbatched operands.
    """
    xs, limit = operands(sample), tolerance(prim, sample, 1e-12)
    for f in functions(prim, sample):
        with unless_scipy_is_missing(sample, "value"):
            check_vmap(f, *xs, size=3, axes="all" if every else batch_axes(xs), tolerance=limit)
            for size in (1, 0):
                check_vmap(f, *xs, size=size, axes=ends(xs), tolerance=limit)


def batch_axes(xs: list[Array]) -> list[tuple[int | None, ...]]:
    """Each operand alone over every axis; all together over the same axis, and over first and last in turn."""
    last = [x.ndim for x in xs]
    choices = [tuple([d if i == j else None for j in range(len(xs))]) for i, n in enumerate(last) for d in range(n + 1)]
    choices += [tuple([min(d, n) for n in last]) for d in range(max(last, default=-1) + 1)]
    choices += [tuple([n if j % 2 == parity else 0 for j, n in enumerate(last)]) for parity in (0, 1)] if xs else []
    return list(dict.fromkeys(choices))


def ends(xs: list[Array]) -> list[tuple[int | None, ...]]:
    """Each operand alone and all together, over the first axis and over the last."""
    return [dims for dims in batch_axes(xs) if all(d in (None, 0, x.ndim) for d, x in zip(dims, xs))]


# --- jit and derivatives ---------------------------------------------------------------------------------------------
def gradient(f: Callable, xs: list[Array], mask: list[bool]) -> Callable:
    """(cotangent, operands where ``mask``) -> cotangents of those operands."""
    return lambda ct, *active: fgrad.vjp(lambda *a: f(*merged(a, xs, mask)), *active)[1](ct)


def merged(active: Iterable, xs: list[Array], mask: list[bool]) -> list:
    it = iter(active)
    return [next(it) if m else x for x, m in zip(xs, mask)]


def smooth_functions(prim: Primitive, sample: Sample) -> Iterator[tuple[Callable, Array, list[Array]]]:
    """(function, a cotangent of its result, the operands to differentiate) for each floating result."""
    if not has_derivatives(prim, sample):
        return
    avals = results(prim, abstract(prim, sample.operands, sample))
    active = [x for x, m in zip(operands(sample), differentiable(sample)) if m]
    for f, aval in zip(functions(prim, sample), avals, strict=True):
        if dtypes.is_inexact(aval.dtype):
            yield f, normal_like(aval, np.random.default_rng(7)), active


def check_jit_of_gradient(prim: Primitive, sample: Sample) -> None:
    """Gradient of jit = jit of gradient = gradient, computed eagerly."""
    xs, mask = operands(sample), differentiable(sample)
    limit = tolerance(prim, sample, 1e-13)
    for f, ct, active in smooth_functions(prim, sample):
        with unless_scipy_is_missing(sample, "value", "derivative"):
            wants = gradient(f, xs, mask)(ct, *active)
            for other in (gradient(fgrad.jit(f), xs, mask), fgrad.jit(gradient(f, xs, mask))):
                for got, want in zip(other(ct, *active), wants, strict=True):
                    assert got.aval.same_type(want.aval)
                    check_close(got, want, limit)


def check_second_derivatives(prim: Primitive, sample: Sample) -> None:
    """Forward over reverse = reverse over forward = differences of the gradient, along a random direction."""
    for i in sample.once:
        check_no_second_derivative(prim, sample, i)
    if sample.reverse_only:
        return
    sample = sample._replace(refused=(*sample.refused, *sample.once))
    xs, mask = operands(sample), differentiable(sample)
    for f, ct, active in smooth_functions(prim, sample):
        with unless_scipy_is_missing(sample, "value", "derivative"):
            check_hessian(prim, sample, lambda *a, f=f: f(*merged(a, xs, mask)), ct, active)


def check_no_second_derivative(prim: Primitive, sample: Sample, i: int) -> None:
    xs = operands(sample)
    mask = only(i, xs)
    for f in functions(prim, sample):

        def tangent(*xs, f=f):
            return jvp_flat(lambda *a: [f(*a)], xs, directions(xs, mask))[1]

        with (
            unless_scipy_is_missing(sample, "value"),
            pytest.raises(MissingBackendError, match="has no jvp rule, it is itself a derivative"),
        ):
            jvp_flat(tangent, xs, directions(xs, mask))


def check_hessian(prim: Primitive, sample: Sample, f: Callable, ct: Array, xs: list[Array]) -> None:
    """H t of <ct, f> in three ways."""
    exact = is_linear(prim, sample)
    step, limit = (1.0, 1e-11) if exact else (1e-4, 1e-5)
    rng = np.random.default_rng(8)
    ts = [normal_like(x.aval, rng) for x in xs]

    def gradient(*xs):
        return fgrad.vjp(f, *xs)[1](ct)

    forward = fgrad.jvp(gradient, xs, ts)[1]
    reverse = fgrad.vjp(lambda *xs: fgrad.jvp(f, xs, ts)[1], *xs)[1](ct)
    ahead, behind = (gradient(*[x + h * t for x, t in zip(xs, ts)]) for h in (step, -step))
    for a, b, hi, lo in zip(forward, reverse, ahead, behind, strict=True):
        assert relative_error(a, b) <= tolerance(prim, sample, 1e-11)
        if sample.slope == "smooth":
            difference = (np.asarray(hi) - np.asarray(lo)) / (2 * step)
            assert relative_error(a, difference) <= tolerance(prim, sample, limit)
