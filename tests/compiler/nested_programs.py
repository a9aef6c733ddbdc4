"""Random programs of nested loops and branches.

A program is a tree that is drawn once and then runs on anything that behaves like an array, as often as one likes.
What it computes in floats stays of order one and depends continuously on its inputs; predicates, trip counts and
indices come from integers, which are exact.  So two evaluations differ by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import ml_dtypes
import numpy as np

import fgrad.numpy as fnp
from fgrad import lax

DTYPES = ("float32", "float64", "int32", "int8", "uint8", "bool", "bfloat16", "float16", "complex64")
COMMON = ("float32", "int32")
SHAPES = ((), (1,), (3,), (8,), (2, 3), (4, 4), (0,), (2, 0), (3, 1, 2))
LARGE = (40, 30)  # more than a loop in one kernel takes


class Type(NamedTuple):
    dtype: str
    shape: tuple[int, ...]


COUNT = Type("int32", ())


def numpy_dtype(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


class Step(NamedTuple):
    """Appends ``run(*values)``, one value or a tuple, to the values."""

    run: Callable
    operands: tuple[int, ...]
    results: tuple[Type, ...]
    text: str


class Block(NamedTuple):
    """A function of its inputs and of the values around it, which it sees as ``outer`` values before its inputs."""

    inputs: tuple[Type, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    def __call__(self, *inputs):
        values = list(inputs)
        for step in self.steps:
            out = step.run(*[values[i] for i in step.operands])
            values += out if isinstance(out, tuple) else (out,)
        return tuple(values[i] for i in self.outputs)

    def text(self, indent: str = "  ") -> str:
        lines = [f"{indent}inputs {[f'{t.dtype}{list(t.shape)}' for t in self.inputs]}"]
        n = len(self.inputs)
        for step in self.steps:
            lines.append(
                f"{indent}{n}: {step.text} {step.operands} -> {[f'{t.dtype}{list(t.shape)}' for t in step.results]}"
            )
            n += len(step.results)
        return "\n".join([*lines, f"{indent}return {self.outputs}"])


def is_float(t: Type) -> bool:
    return t.dtype in ("float16", "bfloat16", "float32", "float64")


def squash(x):
    """Back to order one."""
    if x.dtype.kind == "c":
        return x * 0.25
    return lax.tanh(x) if x.dtype.kind in "fV" else x


def convert(x, t: Type):
    """Any value as one of type ``t``: never from a float to an integer, which rounding could change."""
    if x.shape != t.shape:
        total = x.any() if t.dtype == "bool" and x.dtype.kind == "b" else x.sum()
        x = fnp.broadcast_to(squash(total), t.shape)
    if x.dtype == numpy_dtype(t.dtype):
        return x
    to_integer = t.dtype not in ("float16", "bfloat16", "float32", "float64", "complex64")
    if to_integer and x.dtype.kind in "fVc":
        return fnp.ones(t.shape, numpy_dtype(t.dtype))
    if t.dtype == "bool":
        return x % 2 == 1
    if not to_integer and x.dtype.kind in "iu":
        x = x % 7
    if x.dtype.kind == "c":
        return fnp.ones(t.shape, numpy_dtype(t.dtype))
    return squash(x.astype(numpy_dtype(t.dtype)))


class Writer:
    """Draws a block, given ``rnd`` with the methods of random.Random."""

    def __init__(self, rnd, differentiable: bool = False, effects: Callable | None = None) -> None:
        self.rnd = rnd
        self.differentiable = differentiable
        self.effects = effects
        self.budget = 26  # steps in all blocks together

    def type(self) -> Type:
        rnd = self.rnd
        if self.differentiable:
            return Type(rnd.choice(("float32", "float32", "float64", "int32")), rnd.choice(SHAPES))
        dtype = rnd.choice(DTYPES) if rnd.random() < 0.3 else rnd.choice(COMMON)
        return Type(dtype, LARGE if rnd.random() < 0.06 else rnd.choice(SHAPES))

    def program(self) -> Block:
        types = [self.type() for _ in range(self.rnd.randint(1, 3))]
        types += [COUNT] * self.rnd.randint(0, 1)
        return self.block(types, None, 0)

    def block(self, inputs: Sequence[Type], outputs: Sequence[Type] | None, depth: int) -> Block:
        """A block of these inputs and outputs (None: some of its values)."""
        rnd = self.rnd
        types, steps = list(inputs), []

        def add(run: Callable, operands: Sequence[int], results: Sequence[Type], text: str) -> int:
            steps.append(Step(run, tuple(operands), tuple(results), text))
            types.extend(results)
            return len(types) - 1

        for _ in range(rnd.randint(1, 4 if depth else 6)):
            if self.budget <= 0:
                break
            self.budget -= 1
            if depth < 3 and rnd.random() < (0.6 if depth == 0 else 0.3):
                rnd.choice((self.scan, self.scan, self.fori, self.repeat, self.branch))(types, add, depth)
            else:
                self.simple(types, add)
        if outputs is None:
            n = rnd.randint(1, 4)
            late = [i for i in range(len(types)) if i >= len(types) - 4]
            chosen = [rnd.choice(late if rnd.random() < 0.7 else range(len(types))) for _ in range(n)]
        else:
            chosen = [self.of_type(t, types, add) for t in outputs]
        return Block(tuple(inputs), tuple(steps), tuple(chosen))

    def of_type(self, t: Type, types: Sequence[Type], add: Callable) -> int:
        """A value of the type: often one that there is, be it used twice or an input."""
        have = [i for i, x in enumerate(types) if x == t]
        if have and self.rnd.random() < 0.85:
            return self.rnd.choice(have[-3:] if self.rnd.random() < 0.7 else have)
        i = self.pick(types)
        return add(lambda x: convert(x, t), (i,), (t,), "convert")

    def pick(self, types: Sequence[Type], ok: Callable[[Type], bool] = lambda t: True) -> int:
        found = [i for i, t in enumerate(types) if ok(t)]
        return self.rnd.choice(found[-4:] if self.rnd.random() < 0.6 else found)

    def count(self, types: Sequence[Type], add: Callable, limit: int) -> int:
        """An integer scalar below ``limit``."""
        rnd = self.rnd
        have = [i for i, t in enumerate(types) if t.dtype in ("int32", "int8", "uint8") and 0 not in t.shape]
        if not have:
            return add(lambda: fnp.asarray(np.int32(limit - 1)), (), (COUNT,), f"count {limit - 1}")
        i = rnd.choice(have)
        return add(lambda x: x.astype(np.int32).ravel()[0] % limit, (i,), (COUNT,), f"count below {limit}")

    # --- simple steps -----------------------------------------------------------------------------------------------
    def simple(self, types: list[Type], add: Callable) -> None:
        rnd = self.rnd
        i = self.pick(types)
        t = types[i]
        choices = [self.unary, self.unary, self.binary, self.binary, self.view, self.fold, self.index, self.update]
        choices += [self.dot] if len(t.shape) == 2 and t.dtype in ("float32", "float64", "int32") else []
        choices += [self.effect] * 2 if self.effects else []
        rnd.choice(choices)(i, types, add)

    def unary(self, i: int, types: list[Type], add: Callable) -> None:
        t = types[i]
        if t.dtype == "bool":
            add(lambda x: ~x, (i,), (t,), "not")
        elif is_float(t) or t.dtype == "complex64":
            name, f = self.rnd.choice(
                [("scale", lambda x: x * 0.75), ("shift", lambda x: squash(x + 0.25)), ("neg", lambda x: -x),
                 ("squash", squash)]
            )  # fmt: skip
            add(f, (i,), (t,), name)
        else:
            name, f = self.rnd.choice([("add 3", lambda x: x + 3), ("mul 5", lambda x: x * 5), ("not", lambda x: ~x)])
            add(f, (i,), (t,), name)

    def binary(self, i: int, types: list[Type], add: Callable) -> None:
        t = types[i]
        j = self.of_type(t, types, add)
        if t.dtype == "bool":
            f, name = self.rnd.choice([(lax.bitwise_and, "and"), (lax.bitwise_xor, "xor")])
        else:
            f, name = self.rnd.choice([(lax.add, "add"), (lax.mul, "mul"), (lax.sub, "sub")])
        add(lambda x, y: squash(f(x, y)), (i, j), (t,), name)

    def view(self, i: int, types: list[Type], add: Callable) -> None:
        t, rnd = types[i], self.rnd
        if not t.shape:
            shape = rnd.choice(SHAPES)
            add(lambda x: fnp.broadcast_to(x, shape), (i,), (t._replace(shape=shape),), "broadcast")
            return
        kind = rnd.choice(("T", "rev", "slice", "reshape", "pad", "concatenate"))
        axis = rnd.randrange(len(t.shape))
        n = t.shape[axis]
        f: Callable
        if kind == "T":
            f, shape = (lambda x: x.T), t.shape[::-1]
        elif kind == "rev":
            f, shape = (lambda x: lax.rev(x, (axis,))), t.shape
        elif kind == "slice":
            start, step = rnd.randint(0, n), rnd.randint(1, 2)
            shape = (*t.shape[:axis], -(-(n - start) // step), *t.shape[axis + 1 :])
            f = lambda x: lax.slice_in_dim(x, start, n, step, axis)  # noqa: E731
        elif kind == "reshape":
            f, shape = (lambda x: x.ravel()), (int(np.prod(t.shape)),)
        elif kind == "pad":
            shape = (*t.shape[:axis], n + 1, *t.shape[axis + 1 :])
            widths = [(0, 0)] * len(t.shape)
            widths[axis] = rnd.choice(((1, 0), (0, 1)))
            f = lambda x: fnp.pad(x, widths)  # noqa: E731
        else:
            shape = (*t.shape[:axis], 2 * n, *t.shape[axis + 1 :])
            f = lambda x: fnp.concatenate([x, x[::-1]], axis)  # noqa: E731
        if int(np.prod(shape)) <= 1300:
            add(f, (i,), (t._replace(shape=shape),), f"{kind} {axis}")

    def fold(self, i: int, types: list[Type], add: Callable) -> None:
        t, rnd = types[i], self.rnd
        if not t.shape or t.dtype == "bool":
            return
        axis = rnd.randrange(len(t.shape))
        shape = (*t.shape[:axis], *t.shape[axis + 1 :])
        dtype = numpy_dtype(t.dtype)
        add(lambda x: squash(x.sum(axis, dtype=dtype)), (i,), (t._replace(shape=shape),), f"sum {axis}")

    def dot(self, i: int, types: list[Type], add: Callable) -> None:
        t = types[i]
        j = self.pick(types, lambda u: u.dtype == t.dtype and len(u.shape) == 2 and u.shape[1] == t.shape[1])
        add(lambda x, y: squash(x @ y.T), (i, j), (Type(t.dtype, (t.shape[0], types[j].shape[0])),), "dot")

    def index(self, i: int, types: list[Type], add: Callable) -> None:
        t = types[i]
        if not t.shape or not t.shape[0]:
            return
        k = self.count(types, add, t.shape[0])
        shape = t._replace(shape=t.shape[1:])
        add(lambda x, k: lax.dynamic_index_in_dim(x, k, 0, keepdims=False), (i, k), (shape,), "index")

    def update(self, i: int, types: list[Type], add: Callable) -> None:
        t, rnd = types[i], self.rnd
        if not t.shape or not t.shape[0] or t.dtype in ("bool", "complex64"):
            return
        k = self.count(types, add, t.shape[0])
        row = self.of_type(t._replace(shape=t.shape[1:]), types, add)
        kind = rnd.choice(("set", "add", "slice"))
        f = {
            "set": lambda x, k, r: x.at[k].set(r),
            "add": lambda x, k, r: squash(x.at[k].add(r)),
            "slice": lambda x, k, r: lax.dynamic_update_index_in_dim(x, r, k, 0),
        }[kind]
        add(f, (i, k, row), (t,), f"update {kind}")

    def effect(self, i: int, types: list[Type], add: Callable) -> None:
        tag = self.rnd.randrange(1000)
        assert self.effects is not None
        effects = self.effects
        add(lambda x: effects(x, tag), (i,), (types[i],), f"effect {tag}")

    # --- loops and branches -----------------------------------------------------------------------------------------
    def closure(self, types: Sequence[Type]) -> list[int]:
        return [self.rnd.randrange(len(types)) for _ in range(self.rnd.randint(0, 2))]

    def scan(self, types: list[Type], add: Callable, depth: int) -> None:
        rnd = self.rnd
        carry = [self.pick(types) for _ in range(rnd.randint(0, 3))]
        length, reverse = rnd.choice((0, 1, 2, 3, 4, 5)), rnd.random() < 0.4
        xs = [
            self.pick(types, lambda t: bool(t.shape)) for _ in range(rnd.randint(0, 2)) if any(t.shape for t in types)
        ]
        xs = [x for x in xs if types[x].shape[0] == types[xs[0]].shape[0]]
        if xs:
            length = types[xs[0]].shape[0]
        outer = self.closure(types)
        ins = [types[i] for i in (*outer, *carry)] + [types[x]._replace(shape=types[x].shape[1:]) for x in xs]
        unroll = rnd.choice((1, 1, 1, 2))
        again = [types[i] for i in carry]
        ys = [rnd.choice(ins) for _ in range(rnd.randint(0, 2)) if ins]
        body = self.block(ins, [*again, *ys], depth + 1) if ins else None
        if body is None or not again + ys:
            return
        n, c = len(outer), len(carry)

        def run(*values):
            def step(c_, x):
                out = body(*values[:n], *c_, *(x or ()))
                return out[:c], out[c:]

            last, rows = lax.scan(
                step, values[n : n + c], values[n + c :] or None, length=length, reverse=reverse, unroll=unroll
            )
            return (*last, *rows)

        results = [*again, *(y._replace(shape=(length, *y.shape)) for y in ys)]
        text = (
            f"scan length={length} reverse={reverse} unroll={unroll} {n}+{c}+{len(xs)}\n{body.text('  ' * (depth + 2))}"
        )
        add(run, (*outer, *carry, *xs), results, text)

    def fori(self, types: list[Type], add: Callable, depth: int) -> None:
        rnd = self.rnd
        carry = [self.pick(types) for _ in range(rnd.randint(1, 3))]
        outer = self.closure(types)
        again = [types[i] for i in carry]
        body = self.block([COUNT, *(types[i] for i in (*outer, *carry))], again, depth + 1)
        low, high, n = rnd.randint(-2, 2), rnd.randint(-1, 5), len(outer)
        bound = [] if self.differentiable or rnd.random() < 0.5 else [self.count(types, add, 5)]

        def run(*values):
            stop = values[-1] if bound else high
            loop = lambda i, c: body(fnp.asarray(i, np.int32), *values[:n], *c)  # noqa: E731
            return lax.fori_loop(low, stop, loop, values[n : n + len(carry)])

        text = f"fori {low} {'traced' if bound else high} {n}+{len(carry)}\n{body.text('  ' * (depth + 2))}"
        add(run, (*outer, *carry, *bound), again, text)

    def repeat(self, types: list[Type], add: Callable, depth: int) -> None:
        """while i < limit and (an integer of the carry) is no multiple of 7."""
        if self.differentiable:
            return
        rnd = self.rnd
        carry = [self.pick(types) for _ in range(rnd.randint(1, 3))]
        again = [types[i] for i in carry]
        outer = self.closure(types)
        n, limit = len(outer), rnd.randint(0, 5)
        body = self.block([types[i] for i in (*outer, *carry)], again, depth + 1)
        test = self.block([types[i] for i in (*outer, *carry)], (COUNT,), depth + 2)

        def run(*values):
            def goes_on(c):
                return (c[0] < limit) & (test(*values[:n], *c[1])[0] % 7 != 0)

            def step(c):
                return c[0] + 1, body(*values[:n], *c[1])

            return lax.while_loop(goes_on, step, (fnp.asarray(np.int32(0)), values[n:]))[1]

        inner = "  " * (depth + 2)
        text = f"while below {limit} {n}+{len(carry)}\n{body.text(inner)}\n{inner}test\n{test.text(inner)}"
        add(run, (*outer, *carry), again, text)

    def branch(self, types: list[Type], add: Callable, depth: int) -> None:
        rnd = self.rnd
        number = self.count(types, add, 3)
        operands = [self.pick(types) for _ in range(rnd.randint(1, 3))]
        ins = [types[i] for i in operands]
        results = [rnd.choice(ins) for _ in range(rnd.randint(1, 2))]
        branches = [self.block(ins, results, depth + 1) for _ in range(rnd.randint(1, 3))]

        def run(k, *values):
            return lax.switch(k, branches, *values)

        text = "switch\n" + "\n".join(b.text("  " * (depth + 2)) for b in branches)
        add(run, (number, *operands), results, text)


def inputs_of(block: Block, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    found = []
    for t in block.inputs:
        dtype = numpy_dtype(t.dtype)
        if t.dtype == "bool":
            found.append(rng.integers(0, 2, t.shape).astype(bool))
        elif dtype.kind in "iu":
            found.append(rng.integers(0, 20, t.shape).astype(dtype))
        else:
            found.append(np.asarray(rng.uniform(-1, 1, t.shape)).astype(dtype))
    return found
