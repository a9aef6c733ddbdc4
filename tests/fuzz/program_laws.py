"""Transformations against each other on one program: each law raises AssertionError where it does not hold.

Programs are of order one and smooth, but chains of steps and loops may amplify rounding: values are compared to the
rounding of the narrowest float on the way, derivatives in float64, both relative to the largest number compared.
"""

from collections.abc import Callable, Sequence

import numpy as np

import fgrad
from fgrad.core.check import check_jaxpr
from fgrad.core.jaxpr import eval_jaxpr
from fgrad.testing.strategies.programs_text import Program, is_float

EXAMPLES = 3  # of a batch
WIDE = {"float64": 1e-9, "float32": 1e-3, "complex64": 1e-3, "float16": 0.3, "bfloat16": 0.3}


def agree(gots, wants, least: float = 0.0) -> None:
    """The same types; integers equal, floats to the tolerance of their type, or ``least``, times the largest number."""
    assert len(gots) == len(wants)
    for got, want in zip(gots, wants):
        got, want = np.asarray(got), np.asarray(want)
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        limit = WIDE.get(want.dtype.name)
        if limit is None:
            np.testing.assert_array_equal(got, want)
        elif got.size:
            wide = np.complex128 if want.dtype.kind == "c" else np.float64
            got, want = got.astype(wide), want.astype(wide)
            scale = max(1.0, np.abs(want).max())
            np.testing.assert_allclose(got, want, rtol=0, atol=max(limit, least) * scale)


# --- what is differentiated -------------------------------------------------------------------------------------------
def smooth(program: Program) -> tuple[Callable, list[np.ndarray]]:
    """(its floating-point results as a function of its floating-point arguments, those arguments)"""
    active = [i for i, t in enumerate(program.types) if is_float(t)]

    def f(*xs):
        args = list(program.args)
        for i, x in zip(active, xs, strict=True):
            args[i] = x
        return tuple(y for y in program.f(*args) if y.dtype.kind == "f")

    return f, [program.args[i] for i in active]


def like(values: Sequence, seed: int) -> list[np.ndarray]:
    """Random numbers of the values' types."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.uniform(-1, 1, x.shape)).astype(x.dtype) for x in values]


def loss_of(f: Callable) -> Callable:
    """A weighted sum of the results."""

    def loss(*xs):
        parts = [(y * (k + 1.0)).sum() for k, y in enumerate(f(*xs))]
        return sum(parts, fgrad.numpy.zeros((), np.float64))

    return loss


def gradient(f: Callable, n: int) -> Callable:
    return fgrad.grad(f, argnums=tuple(range(n)))


def inner(a: Sequence, b: Sequence) -> float:
    return sum(float(np.vdot(np.asarray(x, np.float64), np.asarray(y, np.float64))) for x, y in zip(a, b, strict=True))


# --- values ----------------------------------------------------------------------------------------------------------
def check_values(program: Program) -> None:
    """Eager = jit = jit again = the jaxpr evaluated."""
    f, args = program.f, program.args
    want = f(*args)
    compiled = fgrad.jit(f)
    rounding = WIDE[program.narrowest]
    agree(compiled(*args), want, rounding)
    agree(compiled(*args), want, rounding)
    closed = fgrad.make_jaxpr(f)(*args)
    check_jaxpr(closed)
    agree(eval_jaxpr(closed.jaxpr, closed.consts, *map(fgrad.numpy.asarray, args)), want, rounding)


def batch(program: Program) -> tuple[list[np.ndarray], list[int | None], list[list[np.ndarray]]]:
    """(arguments of which some are batched along their first or last axis, those axes, the examples)"""
    rng = np.random.default_rng(len(program.source))
    args, axes = [], []
    for x, t in zip(program.args, program.types):
        axis = [0, len(t.shape), None][rng.integers(3 if axes else 2)]
        axes.append(axis)
        args.append(x if axis is None else np.stack([np.roll(x, k) for k in range(EXAMPLES)], axis))
    examples = [[x if a is None else np.take(x, k, a) for x, a in zip(args, axes)] for k in range(EXAMPLES)]
    return args, axes, examples


def stacked(rows: Sequence[Sequence]) -> list[np.ndarray]:
    return [np.stack([np.asarray(y) for y in ys]) for ys in zip(*rows)]


def check_vmap(program: Program) -> None:
    """vmap = jit of vmap = vmap of jit = the loop over examples, for arguments batched along several axes."""
    args, axes, examples = batch(program)
    want = stacked([program.f(*xs) for xs in examples])
    mapped = fgrad.vmap(program.f, in_axes=tuple(axes))
    check_jaxpr(fgrad.make_jaxpr(mapped)(*args))
    rounding = WIDE[program.narrowest]
    agree(mapped(*args), want, rounding)
    agree(fgrad.jit(mapped)(*args), want, rounding)
    agree(fgrad.vmap(fgrad.jit(program.f), in_axes=tuple(axes))(*args), want, rounding)


# --- derivatives -----------------------------------------------------------------------------------------------------
def check_first(program: Program) -> None:
    """<J t, y> = <t, Jᵀ y>, and what ``check_tangents`` says."""
    check_tangents(program)
    f, xs = smooth(program)
    ts = like(xs, 1)
    outs, tangents = fgrad.jvp(f, xs, ts)
    cts = like(outs, 2)
    pulled = fgrad.vjp(f, *xs)[1](tuple(fgrad.numpy.asarray(c) for c in cts))
    left, right = inner(tangents, cts), inner(ts, pulled)
    scale = max(1.0, inner(tangents, tangents), inner(cts, cts), inner(pulled, pulled))
    assert abs(left - right) <= 1e-8 * scale, f"<J t, y> = {left} and <t, Jᵀ y> = {right}"


def check_tangents(program: Program) -> None:
    """jvp = its jit = linearize = vmap of jvp over directions."""
    f, xs = smooth(program)
    ts, others = like(xs, 1), like(xs, 4)
    outs, tangents = fgrad.jvp(f, xs, ts)
    agree(outs, f(*xs))
    agree(fgrad.jit(lambda *xs: fgrad.jvp(f, xs, ts)[1])(*xs), tangents, 1e-8)
    agree(fgrad.linearize(f, *xs)[1](*ts), tangents, 1e-8)
    many = fgrad.vmap(lambda *ts: fgrad.jvp(f, xs, ts)[1])(*[np.stack([t, u]) for t, u in zip(ts, others)])
    agree(many, stacked([tangents, fgrad.jvp(f, xs, others)[1]]), 1e-8)


def check_gradients(program: Program) -> None:
    """Gradient = its jit = gradient of jit = gradient of checkpoint, all with sound jaxprs."""
    f, xs = smooth(program)
    loss = loss_of(f)
    want = gradient(loss, len(xs))(*xs)
    for other in (
        gradient(fgrad.jit(loss), len(xs)),
        fgrad.jit(gradient(loss, len(xs))),
        fgrad.jit(gradient(fgrad.checkpoint(loss), len(xs))),
    ):
        agree(other(*xs), want, 1e-8)
    check_jaxpr(fgrad.make_jaxpr(gradient(loss, len(xs)))(*xs))


def check_vmap_of_gradient(program: Program) -> None:
    """vmap of the gradient = its jit = the loop."""
    f, xs = smooth(program)
    of = gradient(loss_of(f), len(xs))
    examples = [[np.roll(x, k) for x in xs] for k in range(EXAMPLES)]
    want, args = stacked([of(*e) for e in examples]), stacked(examples)
    agree(fgrad.vmap(of)(*args), want, 1e-8)
    agree(fgrad.jit(fgrad.vmap(of))(*args), want, 1e-8)


def check_second(program: Program) -> None:
    """H t forward over reverse = reverse over forward = reverse over reverse, and compiled."""
    f, xs = smooth(program)
    loss = loss_of(f)
    of, ts = gradient(loss, len(xs)), like(xs, 3)

    def forward(*xs):
        return fgrad.jvp(of, xs, ts)[1]

    def slope(*xs):
        return fgrad.jvp(loss, xs, ts)[1]

    def along(*xs):
        return sum((g * t).sum() for g, t in zip(of(*xs), ts))

    want = forward(*xs)
    agree(gradient(slope, len(xs))(*xs), want, 1e-7)
    agree(gradient(along, len(xs))(*xs), want, 1e-7)
    agree(fgrad.jit(forward)(*xs), want, 1e-7)
