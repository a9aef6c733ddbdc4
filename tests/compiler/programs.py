"""Random well-typed programs: a strategy, what it draws, and how to run it.

A program is a list of steps over a growing list of values; a step names its operands by number.  Values stay of order
one (each step that can grow is followed by a squashing one) and no step is discontinuous in a computed float, so that
eager and compiled results differ by rounding only; integers wrap and agree exactly.
"""

import math
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

import fgrad.numpy as fnp
from fgrad import lax

FLOATS, INTS = ("float32", "float64"), ("int32", "int64")
LARGEST = 600  # elements of a value
SIZES = st.sampled_from((1, 2, 3, 5, 0, 8))


class Step(NamedTuple):
    op: str
    operands: tuple[int, ...]
    params: tuple


class Program(NamedTuple):
    dtype: str
    shapes: tuple[tuple[int, ...], ...]  # of the inputs
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    def inputs(self, seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        if self.dtype in FLOATS:
            return [rng.uniform(-1, 1, s).astype(self.dtype) for s in self.shapes]
        return [rng.integers(-50, 50, s).astype(self.dtype) for s in self.shapes]

    def __call__(self, *inputs):
        values = list(inputs)
        for step in self.steps:
            values.append(OPS[step.op](*[values[i] for i in step.operands], *step.params))
        return [values[i] for i in self.outputs]


def squash(x):
    return lax.tanh(x) if np.issubdtype(x.dtype, np.floating) else lax.bitwise_and(x, fnp.full(x.shape, 1023, x.dtype))


def mask(x, axis):
    """True at every other index along an axis: a predicate that rounding cannot change."""
    index = lax.broadcasted_iota(np.int32, x.shape, axis)
    return lax.eq(lax.bitwise_and(index, fnp.full(x.shape, 1, np.int32)), fnp.full(x.shape, 0, np.int32))


def scalar(x, value):
    return fnp.asarray(value, x.dtype)


OPS = {
    "neg": lax.neg,
    "abs": lax.abs,
    "squash": squash,
    "add": lambda x, y: squash(lax.add(x, y)),
    "sub": lambda x, y: squash(lax.sub(x, y)),
    "mul": lambda x, y: squash(lax.mul(x, y)),
    "max": lax.max,
    "min": lax.min,
    "scale": lambda x, value: squash(lax.mul(x, scalar(x, value))),
    "select": lambda x, y, axis: lax.select(mask(x, axis), x, y),
    "index": lambda x, axis: squash(lax.add(x, lax.broadcasted_iota(x.dtype, x.shape, axis))),
    "transpose": lax.transpose,
    "reshape": lax.reshape,
    "rev": lax.rev,
    "slice": lax.slice,
    "pad": lambda x, value, config: lax.pad(x, scalar(x, value), config),
    "dilate": lax.dilate,
    "broadcast": lax.broadcast_in_dim,
    "sum": lambda x, axes: squash(fnp.sum(x, axis=axes, dtype=x.dtype)),
    "largest": lambda x, axes: fnp.max(x, axis=axes),
    "concatenate": lambda x, y, axis: lax.concatenate([x, y], axis),
    "dot": lambda x, y: squash(lax.dot_general(x, y, (((1,), (1,)), ((), ())))),
}


@st.composite
def axes_of(draw, ndim):
    return tuple(sorted(draw(st.sets(st.integers(0, ndim - 1), min_size=1))))


@st.composite
def programs(draw, dtypes=FLOATS + INTS, max_steps=9):
    """A Program and nothing that its primitives would refuse."""
    dtype = draw(st.sampled_from(dtypes))
    shapes = [tuple(draw(st.lists(SIZES, max_size=3))) for _ in range(draw(st.integers(1, 2)))]
    n_in = len(shapes)
    steps = []

    def same_shape(i):
        return draw(st.sampled_from([j for j, s in enumerate(shapes) if s == shapes[i]]))

    for _ in range(draw(st.integers(1, max_steps))):
        i = draw(st.sampled_from(range(len(shapes))))
        shape = shapes[i]
        step, result = draw(_step(i, shape, same_shape, shapes))
        if math.prod(result) <= LARGEST:
            steps.append(step)
            shapes.append(result)
    last = len(shapes) - 1
    extra = draw(st.lists(st.integers(0, last), max_size=2))
    return Program(dtype, tuple(shapes[:n_in]), tuple(steps), (last, *extra))


@st.composite
def _step(draw, i, shape, same_shape, shapes):
    """(a step whose first operand is value i, the result's shape)"""
    ndim = len(shape)
    kinds = ["neg", "abs", "squash", "add", "sub", "mul", "max", "min", "scale", "reshape", "broadcast"]
    if ndim:
        kinds += ["select", "index", "transpose", "rev", "slice", "pad", "dilate", "sum", "concatenate"]
        kinds += ["transpose", "rev", "slice", "sum"]  # views and folds are where the compiler can go wrong
        kinds += ["largest"] if math.prod(shape) else []
    if ndim == 2:
        kinds += ["dot", "dot"]
    op = draw(st.sampled_from(kinds))
    one = lambda *params: (Step(op, (i,), params), shape)  # noqa: E731
    match op:
        case "neg" | "abs" | "squash":
            return one()
        case "add" | "sub" | "mul" | "max" | "min":
            return Step(op, (i, same_shape(i)), ()), shape
        case "scale":
            return one(draw(st.sampled_from((2, 3, -1, 0, 1))))
        case "select":
            return Step(op, (i, same_shape(i)), (draw(st.integers(0, ndim - 1)),)), shape
        case "index":
            return one(draw(st.integers(0, ndim - 1)))
        case "transpose":
            order = tuple(draw(st.permutations(range(ndim))))
            return Step(op, (i,), (order,)), tuple(shape[a] for a in order)
        case "reshape":
            size = math.prod(shape)
            options = [(size,), (1, *shape), (*shape, 1)]
            options += [(k, size // k) for k in (2, 3, 4, 5) if size and size % k == 0]
            new = draw(st.sampled_from(options))
            return Step(op, (i,), (new,)), new
        case "rev":
            return one(draw(axes_of(ndim)))
        case "slice":
            start = tuple(draw(st.integers(0, n)) for n in shape)
            limit = tuple(draw(st.integers(a, n)) for a, n in zip(start, shape))
            step = tuple(draw(st.integers(1, 3)) for _ in shape)
            result = tuple(-(-(b - a) // s) for a, b, s in zip(start, limit, step))
            return Step(op, (i,), (start, limit, step)), result
        case "pad":
            config = tuple(
                (draw(st.integers(-1 if n > 1 else 0, 2)), draw(st.integers(-1 if n > 1 else 0, 2)), draw(inner))
                for n, inner in zip(shape, [st.integers(0, 2)] * ndim)
            )
            result = tuple(lo + n + max(n - 1, 0) * mid + hi for n, (lo, hi, mid) in zip(shape, config))
            return Step(op, (i,), (draw(st.sampled_from((0, 1))), config)), result
        case "dilate":
            factors = tuple(draw(st.integers(1, 3)) for _ in shape)
            return Step(op, (i,), (factors,)), tuple(1 + (n - 1) * f if n else 0 for n, f in zip(shape, factors))
        case "broadcast":
            size = draw(st.integers(1, 3))
            at = draw(st.integers(0, ndim))
            new = (*shape[:at], size, *shape[at:])
            return Step(op, (i,), (new, tuple(a for a in range(ndim + 1) if a != at))), new
        case "sum" | "largest":
            axes = draw(axes_of(ndim))
            return Step(op, (i,), (axes,)), tuple(n for a, n in enumerate(shape) if a not in axes)
        case "concatenate":
            axis = draw(st.integers(0, ndim - 1))
            j = same_shape(i)
            return Step(op, (i, j), (axis,)), (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :])
        case "dot":
            j = draw(st.sampled_from([j for j, s in enumerate(shapes) if len(s) == 2 and s[1] == shape[1]]))
            return Step(op, (i, j), ()), (shape[0], shapes[j][0])
    raise AssertionError(op)
