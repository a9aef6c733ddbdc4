"""The laws that the rules of a primitive obey, each of them asked of one sample: operands and parameters.

Most are the checks of functions, run on the primitive as a function of its operands.  Those of a primitive alone are
here: every rule gives one type, every backend one value, and where there is no derivative, that is what is said.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from fgrad.core import dtypes
from fgrad.core.array import ConcreteArray
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Unfilled
from fgrad.core.jaxpr import Var
from fgrad.core.primitive import Primitive
from fgrad.higher_order.jit import jit
from fgrad.testing.agreement import Agreement, subject_of, within
from fgrad.testing.backends import BACKENDS
from fgrad.testing.batching import check_batching
from fgrad.testing.call import (
    Call,
    cotangents_of,
    differentiable,
    has_derivatives,
    has_reverse,
    results,
    tangents_of,
    unless_scipy_is_missing,
)
from fgrad.testing.derivative_laws import (
    check_adjoints,
    check_batched_derivatives,
    check_linearity,
    check_second,
    check_tangents,
)
from fgrad.testing.differences import nearby
from fgrad.testing.execution import check_jit, strided
from fgrad.testing.report import Tolerance, compare, epsilon, errors, largest, rounding
from fgrad.testing.sample import Sample
from fgrad.transforms.stage import stage

#: The dtypes that stand for a kind of ``Sample.kinds``.
DTYPES = {"f": ("float32",), "i": ("int32", "uint8"), "b": ("bool",)}
HALVES = ("float16", "bfloat16")


class Law(Protocol):
    """Raises AssertionError where the primitive's rules do not obey it at the sample."""

    def __call__(self, prim: Primitive, sample: Sample, *, seed: int = 0) -> None: ...


# --- types and values ------------------------------------------------------------------------------------------------
def check_types(prim: Primitive, sample: Sample, *, seed: int = 0) -> None:
    """Abstract rule, reference, eager result and staged equation have one shape, dtype and weakness.

    A result is weak if every operand is, or if a parameter says so.
    """
    call = Call(prim, sample)
    wants = call.avals
    _check_weakness(call)
    staged = stage(lambda *xs: results(prim, call(*xs)), [x.aval for x in call.operands]).out_avals
    _check_avals(call, "the staged equation", staged, wants)
    if not wants:
        return  # it is run for its effect alone
    with unless_scipy_is_missing(sample, "value"):
        # before a kernel runs, which writes where the abstract rule says that there is room
        found = [np.asarray(x) for x in results(prim, prim.slot("reference")(*call.values, **sample.params))]
        avals = [ShapedArray(x.shape, x.dtype, want.weak_type) for x, want in zip(found, wants, strict=True)]
        _check_avals(call, "reference", avals, wants)
        _check_avals(call, "eager evaluation", [x.aval for x in results(prim, call(*call.operands))], wants)


def _check_weakness(call: Call) -> None:
    prim, params = call.prim, call.sample.params
    strong = [x.aval for x in call.operands]
    if any(a.weak_type for a in call.avals) and not params.get("weak_type"):
        raise AssertionError(f"results of strong operands must be strong, got {', '.join(map(str, call.avals))}.")
    if prim.own_weak:
        return
    weak = [a.update(weak_type=a.dtype != dtypes.bool_) for a in strong]
    for k in range(len(weak)) if len(weak) > 1 else ():
        mixed = [w if i == k else s for i, (w, s) in enumerate(zip(weak, strong))]
        if (
            strong[k].dtype != dtypes.bool_
            and results(prim, prim.abstract_eval(list(map(Var, mixed)), params)) != call.avals
        ):
            raise AssertionError(f"the result must be strong where only {call.names()[k]} is weak, got a weak one.")


def _check_avals(call: Call, role: str, gots: Sequence[ShapedArray], wants: Sequence[ShapedArray]) -> None:
    if list(gots) != list(wants):
        raise AssertionError(
            f"abstract must say what {role} gives, got {', '.join(map(str, wants))} from abstract and "
            f"{', '.join(map(str, gots))} from {role}."
        )


def check_values(
    prim: Primitive, sample: Sample, *, seed: int = 0, halves: bool = False, tolerance: float | None = None
) -> None:
    """reference = eager = compiled, in every dtype that stands for a kind, on contiguous and on strided operands.

    ``halves``: in float16 and bfloat16, too.  ``tolerance``: relative to the largest value, in place of 32 eps.
    """
    variants = [sample]
    if sample.operands:
        kinds = [d for kind in sample.kinds for d in DTYPES[kind]]
        kinds += HALVES if halves and "f" in sample.kinds else ()
        variants += [sample._replace(operands=sample.cast(d)) for d in kinds]
    for variant in variants:
        call = Call(prim, variant)
        if call.avals:
            with unless_scipy_is_missing(sample, "value"):
                _check_values(call, tolerance)


def _check_values(call: Call, tolerance: float | None) -> None:
    prim, sample = call.prim, call.sample
    closed = stage(lambda *xs: results(prim, call(*xs)), [x.aval for x in call.operands])
    with np.errstate(all="ignore"):
        wants = [np.asarray(x) for x in results(prim, prim.slot("reference")(*call.values, **sample.params))]
    ways: dict[str, Sequence[Any]] = {
        "eager evaluation": results(prim, call(*call.operands)),
        "eager evaluation of strided operands": results(prim, call(*[ConcreteArray(strided(x)) for x in call.values])),
    }
    for name, backend in BACKENDS.items():
        if not backend.available():
            ways[name] = backend.run(closed, call.values)
    plain = Tolerance(0.0, 0.0, "declared exact")
    if not sample.exact:
        plain = rounding(*[a.dtype for a in call.avals], factor=32, given=tolerance)
    for way, gots in ways.items():
        for i, (got, want, aval) in enumerate(zip(gots, wants, call.avals, strict=True)):
            if not got.dtype == want.dtype == aval.dtype:
                raise AssertionError(
                    f"result[{i}] must be of one dtype, got {got.dtype} by {way}, {want.dtype} by the reference and "
                    f"{aval.dtype} by the abstract rule."
                )
            limit = plain
            if not (sample.exact or tolerance or within(np.asarray(got), want, plain)):
                limit = _with_condition(call, plain, wants, i)
            compare("values", f"result[{i}]", (way, "reference"), got, want, limit)


def _with_condition(call: Call, plain: Tolerance, wants: Sequence[np.ndarray], i: int) -> Tolerance:
    """For a result next to a zero: two algorithms may differ by what rounding the operands does to it."""
    floats = [k for k, x in enumerate(call.values) if dtypes.is_float(x.dtype)]
    eps = epsilon(*[call.values[k].dtype for k in floats])
    change = 0.0
    for draw in range(3):
        values = list(call.values)
        for k, x in zip(floats, nearby([values[k] for k in floats], eps, draw)):
            values[k] = x
        with np.errstate(all="ignore"):
            moved = np.asarray(results(call.prim, call.prim.slot("reference")(*values, **call.sample.params))[i])
        change = max(change, largest(errors(moved, wants[i])))
    return plain._replace(absolute=8 * change, reason=f"{plain.reason}, and 8 roundings of the operands")


# --- batching and jit ------------------------------------------------------------------------------------------------
def check_batches(prim: Primitive, sample: Sample, *, seed: int = 0, every: bool = False) -> None:
    """vmap is the loop over every axis of each operand alone, and over axes of all operands together, of any size.

    ``every``: over all combinations of axes and of operands that are not mapped.
    """
    call = Call(prim, sample)
    if call.avals and call.args and not isinstance(prim.batch, Unfilled):
        with unless_scipy_is_missing(sample, "value"):
            check_batching(call, call.args, seed=seed)
            if every:
                own = [(*range(x.ndim + 1), None) for x in call.args]
                choices = [axes for axes in itertools.product(*own) if any(a is not None for a in axes)]
                check_batching(call, call.args, in_axes=choices, sizes=(3,), seed=seed)


def check_compiled(prim: Primitive, sample: Sample, *, seed: int = 0) -> None:
    """Gradient of jit = jit of gradient = gradient, computed eagerly; or tangents, where there is no reverse mode."""
    if not has_derivatives(prim, sample):
        return
    call = Call(prim, sample, differentiable(sample))
    if not call.floating:
        return
    reverse = has_reverse(prim, sample)
    derivative = cotangents_of if reverse else tangents_of
    vectors = call.cotangents(seed) if reverse else call.directions(seed)
    with unless_scipy_is_missing(sample, "value", "derivative"):
        eager = derivative(call.inexact)
        check_jit(eager, (vectors, *call.args))
        subject = subject_of("jit", eager, (vectors, *call.args))
        gots = [np.asarray(x) for x in derivative(jit(call.inexact))(vectors, *call.args)]
        Agreement(subject, None).check(("derivative of jit", "eager evaluation"), gots, subject.outs)


LAWS: dict[str, Law] = {
    "types": check_types,
    "values": check_values,
    "tangents": check_tangents,
    "adjoints": check_adjoints,
    "linear": check_linearity,
    "second": check_second,
    "batching": check_batches,
    "batched": check_batched_derivatives,
    "jit": check_compiled,
}
