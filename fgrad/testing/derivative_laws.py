"""The laws of derivatives, each of them asked of one primitive at one sample."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad import autodiff
from fgrad.api import vmap
from fgrad.core.array import lift
from fgrad.core.backends import Unfilled
from fgrad.core.primitive import Primitive, Zero
from fgrad.errors import MissingBackendError, ReverseModeError
from fgrad.testing.batching import check_batching, varied
from fgrad.testing.call import (
    Call,
    check_message,
    cotangents_of,
    differentiable,
    has_derivatives,
    has_reverse,
    linear_groups,
    linear_in,
    results,
    tangents_of,
    unless_scipy_is_missing,
    variants,
)
from fgrad.testing.derivatives import check_jvp, check_second_order, check_vjp
from fgrad.testing.linear import Map, Transpose, check_linear
from fgrad.testing.report import Tolerance, compare, rounding
from fgrad.testing.sample import Sample
from fgrad.transforms.jvp import jvp_flat

_MESSAGES = {"regularized_incomplete_beta": "betainc"}  # the name in messages, where it is not the primitive's


def check_tangents(prim: Primitive, sample: Sample, *, seed: int = 0) -> None:
    """The tangent is the limit of differences; of linear and bilinear maps, the difference itself.

    In all operands and in each alone, in float64 and in float32.  Where there is no derivative, that is what is said.
    """
    _check_refusals(prim, sample)
    if not has_derivatives(prim, sample) or sample.reverse_only:
        return
    for variant, actives in variants(sample):
        for active in actives:
            call = Call(prim, variant, active)
            with unless_scipy_is_missing(sample, "value", "derivative"):
                _check_tangent_types(call, seed)
                if call.floating and sample.slope == "smooth":
                    check_jvp(call, call.args, linear=linear_in(call), seed=seed)
                if call.floating and sample.slope == "tie":
                    _check_tie(call, seed)


def _check_tie(call: Call, seed: int) -> None:
    """Central differences at one small step: on either side another element is the larger one."""
    ts, step = call.directions(seed), max(1e-6, rounding(*[x.dtype for x in call.args]).relative ** 0.5)
    sides = [call.inexact(*[x + h * t for x, t in zip(call.args, ts)]) for h in (step, -step)]
    tangents = autodiff.jvp(call.inexact, call.args, ts)[1]
    limit = Tolerance(20 * step, 20 * step, f"20 times the step {step:.1g} of differences at a tie")
    for i, t, ahead, behind in zip(call.floating, tangents, *sides, strict=True):
        difference = (np.asarray(ahead, np.float64) - np.asarray(behind, np.float64)) / (2 * step)
        compare("tangents", f"the tangent of result[{i}]", ("jvp", "differences"), t, difference, limit)


def _check_tangent_types(call: Call, seed: int) -> None:
    """A tangent has the type of its result; that of an integer, and one that is zero by definition, is a Zero."""
    outs, ts = jvp_flat(lambda *xs: results(call.prim, call(*xs)), list(call.args), list(call.directions(seed)))
    for i, (out, t) in enumerate(zip(outs, ts, strict=True)):
        want = out.aval.tangent()
        if t.aval.update(weak_type=want.weak_type) != want:
            raise AssertionError(f"the tangent of result[{i}] must be of type {want}, got {t.aval}.")
        if type(t) is not Zero and (call.sample.slope == "zero" or i not in call.floating):
            raise AssertionError(f"result[{i}] must have no tangent, got one that is not a Zero.")


def _check_refusals(prim: Primitive, sample: Sample) -> None:
    name = _MESSAGES.get(prim.name, prim.name)
    for i in sample.refused:
        _check_refusal(Call(prim, sample, [i]), f"{name}: has no derivative in")
    if isinstance(prim.jvp, Unfilled) and (active := differentiable(sample)):
        _check_refusal(Call(prim, sample, active), f"{prim.name}: has no jvp rule, {prim.jvp.reason}")


def _check_refusal(call: Call, message: str, function: Callable[..., Any] | None = None) -> None:
    """A derivative that does not exist is refused in these words."""
    if not call.avals:
        return
    with unless_scipy_is_missing(call.sample, "value"):
        try:
            autodiff.jvp(function or call, call.args, call.directions(0))
        except MissingBackendError as error:
            check_message(error, message)
        else:
            names = ", ".join(call.names())
            raise AssertionError(f"a derivative in {names} must be refused with {message!r}, got a tangent.")


def check_adjoints(prim: Primitive, sample: Sample, *, seed: int = 0) -> None:
    """Forward mode, the tape and reverse mode are one linear map: ⟨f' t, y⟩ = ⟨t, f'ᵀ y⟩; so is each linear operand's.

    What has a backward pass only is compared with differences.
    """
    for variant, actives in variants(sample):
        if has_derivatives(prim, variant) and (has_reverse(prim, variant) or variant.forward_only):
            for active in actives:
                for call in _by_results(Call(prim, variant, active)):
                    with unless_scipy_is_missing(sample, "value", "derivative"):
                        _check_adjoint(call, seed)
        if not isinstance(prim.transpose, Unfilled):
            for group in linear_groups(prim, variant):
                call = Call(prim, variant, group)
                if call.floating and group:
                    Transpose(Map("adjoints", call.inexact, call.args, None, seed, None), None).check_once()


def _by_results(call: Call) -> list[Call]:
    """With all floating results, and with each alone: the cotangents of the others are then known to be zero."""
    calls = [call] if call.floating else []
    if len(call.floating) > 1:
        for i in call.floating:
            alone = copy.copy(call)
            alone.floating = [i]
            calls.append(alone)
    return calls


def _check_adjoint(call: Call, seed: int) -> None:
    if call.sample.reverse_only:
        check_vjp(call, call.args, linear=linear_in(call), seed=seed)
        return
    if call.sample.slope == "rounds":
        return
    ts = call.directions(seed)

    def tangent(*ts):
        return autodiff.jvp(call.inexact, call.args, ts)[1]

    values, tangents = autodiff.jvp(call.inexact, call.args, ts)
    outs, tape = autodiff.linearize(call.inexact, *call.args)
    exact = Tolerance(0.0, 0.0, "it is the same computation")
    limit = rounding(*[x.dtype for x in (*call.args, *outs)], terms=sum(t.size for t in ts) or 1)
    for i, out, value, t_tape, t in zip(call.floating, outs, values, tape(*ts), tangents, strict=True):
        compare("adjoints", f"result[{i}]", ("linearize", "jvp"), out, value, exact)
        compare("adjoints", f"the tangent of result[{i}]", ("linearize", "jvp"), t_tape, t, limit)
    if call.sample.forward_only:
        if call.active == tuple(differentiable(call.sample)):  # some alone may pass a loop by
            _check_no_reverse(call, seed)
        return
    Transpose(Map("adjoints", tangent, ts, None, seed, None), autodiff.vjp(call.inexact, *call.args)[1]).check_once()


def _check_no_reverse(call: Call, seed: int) -> None:
    try:
        autodiff.vjp(call.inexact, *call.args)[1](call.cotangents(seed))
    except ReverseModeError:
        return
    raise AssertionError("reverse mode must be refused with ReverseModeError, got cotangents.")


def check_linearity(prim: Primitive, sample: Sample, *, seed: int = 0) -> None:
    """What is declared linear is: f(a x + b y) = a f(x) + b f(y) in the operands of each group together."""
    for variant, _ in variants(sample):
        for group in linear_groups(prim, variant):
            call = Call(prim, variant, group)
            if call.floating and group:
                check_linear(call.inexact, call.args, seed=seed)


def check_second(prim: Primitive, sample: Sample, *, seed: int = 0) -> None:
    """Forward over reverse = reverse over forward = reverse over reverse = differences of the gradient."""
    for i in sample.once:
        _check_once(Call(prim, sample, [i]))
    twice = sample._replace(refused=(*sample.refused, *sample.once))
    if sample.reverse_only or not has_derivatives(prim, twice) or not has_reverse(prim, twice):
        return
    call = Call(prim, twice, differentiable(twice))
    if not call.floating:
        return
    with unless_scipy_is_missing(sample, "value", "derivative"):
        if sample.slope == "smooth":
            check_second_order(call, call.args, seed=seed)
        else:
            _check_hessians(call, seed)


def _check_once(call: Call) -> None:
    def tangent(*xs):
        return autodiff.jvp(call, xs, call.directions(0))[1]

    _check_refusal(call, "has no jvp rule, it is itself a derivative", tangent)


def _check_hessians(call: Call, seed: int) -> None:
    """Where differences do not converge: H t of ⟨y, f⟩, forward over reverse and reverse over forward."""
    ts, cts = call.directions(seed), call.cotangents(seed)

    def gradient(*xs):
        return autodiff.vjp(call.inexact, *xs)[1](cts)

    _, forward = autodiff.jvp(gradient, call.args, ts)
    reverse = autodiff.vjp(lambda *xs: autodiff.jvp(call.inexact, xs, ts)[1], *call.args)[1](cts)
    limit = rounding(*[x.dtype for x in call.args], terms=sum(t.size for t in ts) or 1)
    for name, got, want in zip(call.names(), forward, reverse, strict=True):
        ways = ("forward over reverse", "reverse over forward")
        compare("second", f"the second derivative in {name}", ways, got, want, limit)


def check_batched_derivatives(prim: Primitive, sample: Sample, *, seed: int = 0) -> None:
    """vmap of the derivative, and the derivative of vmap, are the loop: what all examples share has their sum."""
    if not has_derivatives(prim, sample) or isinstance(prim.batch, Unfilled):
        return
    call = Call(prim, sample, differentiable(sample))
    if not call.floating:
        return
    reverse = has_reverse(prim, sample)
    derivative = cotangents_of if reverse else tangents_of
    vectors = call.cotangents(seed) if reverse else call.directions(seed)
    n = len(call.args)
    alone = [tuple([0 if i == k else None for i in range(n)]) for k in range(n)] if n > 1 else []
    last = tuple([x.ndim for x in call.args])
    with unless_scipy_is_missing(sample, "value", "derivative"):
        mapped = tuple([0] * len(vectors))
        check_batching(
            derivative(call.inexact), (vectors, *call.args), sizes=(2,), seed=seed,
            in_axes=[(mapped, *axes) for axes in ((0,) * n, last, *alone)],
        )  # fmt: skip
        if reverse:
            for axes in dict.fromkeys([(0,) * n, last, *alone]):
                _check_cotangents_of_batch(call, axes, seed)


def _check_cotangents_of_batch(call: Call, axes: tuple[int | None, ...], seed: int) -> None:
    """The derivative of vmap(f, axes) over two examples against those of f for each of them."""
    rows = [[varied(np.asarray(x), i) for x in call.args] for i in range(2)]
    cts = [call.cotangents(seed + i) for i in range(2)]
    stacked = [row if a is None else np.stack([r[k] for r in rows], a) for k, (row, a) in enumerate(zip(rows[0], axes))]
    both = tuple([lift(np.stack([np.asarray(ct[i]) for ct in cts])) for i in range(len(call.floating))])
    gots = cotangents_of(vmap(call.inexact, in_axes=axes))(both, *map(lift, stacked))
    of_each = [
        cotangents_of(call.inexact)(ct, *[lift(x if a is not None else own) for x, own, a in zip(row, rows[0], axes)])
        for ct, row in zip(cts, rows)
    ]
    limit = rounding(*[x.dtype for x in (*call.args, *gots)], terms=sum(x.size for x in call.args) or 1, factor=64)
    for name, a, got, bars in zip(call.names(), axes, gots, zip(*of_each), strict=True):
        values = [np.asarray(bar) for bar in bars]
        want = values[0] + values[1] if a is None else np.stack(values, a)
        ways = (f"the gradient of vmap, in_axes={axes}", "the loop")
        compare("batched", f"the cotangent of {name}", ways, got, want, limit)
