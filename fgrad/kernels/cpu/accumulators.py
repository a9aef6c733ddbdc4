"""One fold of a fold kernel: what it combines, in which accumulators, and where its result goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from fgrad.kernels.cpu.body import Stream
from fgrad.kernels.cpu.irtext import Code
from fgrad.kernels.cpu.nest import Operand
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value, dtype_of, is_float, literal, memory_type, register_type

LANES = 64  # accumulators of the row form: four vectors of 16 float32

INDEX = np.dtype(np.int64)


def accumulator(dtype: np.dtype) -> np.dtype:
    """The dtype a fold of ``dtype`` is held in: float32 for 16-bit floats, else the same."""
    return np.dtype(np.float32) if is_float(dtype) and dtype.itemsize == 2 else dtype


def identity(combine: str, dtype: np.dtype) -> Value:
    """What changes nothing: 0, 1, the lowest, the highest, all ones, none."""
    name = combine.removeprefix("arg")
    if name in ("max", "min"):
        low = name == "max"
        if is_float(dtype):
            return literal(dtype, -np.inf if low else np.inf)
        if dtype == np.bool_:
            return literal(dtype, not low)
        return literal(dtype, np.iinfo(dtype).min if low else np.iinfo(dtype).max)
    if name == "and":
        return literal(dtype, True if dtype == np.bool_ else -1)
    return literal(dtype, {"add": 0, "or": 0, "mul": 1}[name])


class Folded(NamedTuple):
    """The node whose value is folded (and the one of its index, for arg folds), the dtype it is held in, and the
    results (value, then index, of which one may be absent).
    """

    combine: str
    value: int
    place: int | None
    held: str
    value_out: Operand | None
    index_out: Operand | None


Pair = tuple[Value, Value | None]


class _Accumulators:
    """An array of accumulators, and of the indices they belong to in arg folds.

    `get` and `put` move one, or a vector of as many as the emitter ``s`` has lanes, from element ``at`` on.
    """

    def __init__(self, code: Code, held: np.dtype, indexed: bool, count: int) -> None:
        self.code, self.held = code, held
        self.values = code.array(memory_type(held), count)
        self.indices = code.array("i64", count) if indexed else None

    def get(self, s: Scalar, at: str, group: bool = False) -> Pair:
        value = s.load(self.held, self.code.element(memory_type(self.held), self.values, at), group)
        if self.indices is None:
            return value, None
        return value, s.load(INDEX, self.code.element("i64", self.indices, at), group)

    def put(self, s: Scalar, at: str, pair: Pair, group: bool = False) -> None:
        s.store(pair[0], self.code.element(memory_type(self.held), self.values, at), group)
        if self.indices is not None:
            assert pair[1] is not None
            s.store(pair[1], self.code.element("i64", self.indices, at), group)


class Folding:
    """A fold as it is being written, over ``count`` accumulators; ``narrow``: each is named by a constant, so that LLVM
    can keep them in registers.  Sums of floats in ``two_levels``: the first is added to the second by `flush`.
    """

    def __init__(self, s: Scalar, folded: Folded, count: int, narrow: bool, long: bool) -> None:
        self.s, self.code, self.folded = s, s.code, folded
        self.narrow = narrow
        self.vector = Scalar(s.code, s.native_half, LANES)
        self.held = dtype_of(folded.held)
        self.two_levels = long and folded.combine == "add" and is_float(self.held)
        indexed = folded.place is not None
        self.first = _Accumulators(s.code, self.held, indexed, count)
        self.second = _Accumulators(s.code, self.held, indexed, count) if self.two_levels else self.first
        self.start = identity(folded.combine, self.held), literal(INDEX, np.iinfo(INDEX).max)
        self.outs: list[tuple[Stream, str, bool]] = []

    def read_outs(self, kept: int) -> None:
        """Reads the words of its results, each over ``kept`` axes, and of the stride from chunk to chunk."""
        for operand, is_index in ((self.folded.value_out, False), (self.folded.index_out, True)):
            if operand is not None:
                self.outs.append((Stream(self.code, operand, kept), self.code.word(), is_index))

    # ---- the algebra

    def combine(self, s: Scalar, a: Pair, b: Pair) -> Pair:
        name = self.folded.combine
        if not name.startswith("arg"):
            rule = {"add": s.add, "mul": s.mul, "max": s.max, "min": s.min, "and": s.and_, "or": s.or_}[name]
            return rule(a[0], b[0]), None
        assert a[1] is not None and b[1] is not None
        better = s.cmp("gt" if name == "argmax" else "lt", b[0], a[0])
        equal = s.cmp("eq", b[0], a[0])
        if is_float(self.held):
            nan_b = s.cmp("ne", b[0], b[0])
            better = s.or_(better, s.and_(nan_b, s.cmp("eq", a[0], a[0])))
            equal = s.or_(equal, s.and_(nan_b, s.cmp("ne", a[0], a[0])))
        take = s.or_(better, s.and_(equal, s.cmp("lt", b[1], a[1])))
        return s.select(take, b[0], a[0]), s.select(take, b[1], a[1])

    def tree(self, pairs: Sequence[Pair]) -> Pair:
        """Combined as a balanced tree, neighbours first."""
        pairs = list(pairs)
        while len(pairs) > 1:
            pairs = [self.combine(self.s, *pairs[i : i + 2]) for i in range(0, len(pairs), 2)]
        return pairs[0]

    def halves(self, pair: Pair) -> Pair:
        """A vector of `LANES` accumulators folded into one: upper half onto lower half until one is left."""
        lanes = LANES
        while lanes > 1:
            half = lanes // 2
            s = Scalar(self.code, self.s.native_half, half)
            pair = self.combine(s, self._part_of(pair, lanes, 0), self._part_of(pair, lanes, half))
            lanes = half
        return pair

    def _part_of(self, pair: Pair, lanes: int, start: int) -> Pair:
        """Half of a vector of ``lanes``, from ``start`` on."""
        half = lanes // 2
        mask = ", ".join(f"i32 {start + i}" for i in range(half))

        def part(x: Value) -> Value:
            whole = f"<{lanes} x {register_type(x.dtype)}>"
            if half == 1:
                return Value(x.dtype, self.code.op(f"extractelement {whole} {x.ref}, {mask}"))
            return Value(
                x.dtype, self.code.op(f"shufflevector {whole} {x.ref}, {whole} poison, <{half} x i32> <{mask}>")
            )

        return part(pair[0]), None if pair[1] is None else part(pair[1])

    # ---- the accumulators

    @contextmanager
    def every(self, width: str) -> Iterator[tuple[Scalar, str, bool]]:
        """A loop over the accumulators: the emitter of as many as it takes at a time, the first of them, and whether
        accesses are in the loop's group.
        """
        if self.narrow:
            with self.code.loop("0", width, kind="vector") as lane:
                yield self.s, lane, True
        else:
            with self.code.loop("0", width, LANES) as lane:
                yield self.vector, lane, False

    def clear(self, width: str) -> None:
        with self.every(width) as (s, lane, group):
            self.first.put(s, lane, self._starts(s), group)
            if self.two_levels:
                self.second.put(s, lane, self._starts(s), group)

    def flush(self, width: str) -> None:
        """Adds the first level to the second and clears it."""
        if self.two_levels:
            with self.every(width) as (s, lane, group):
                self.second.put(s, lane, self.sum(s, lane, group), group)
                self.first.put(s, lane, self._starts(s), group)

    def take(self, at: str, pairs: Sequence[Pair], group: bool) -> None:
        """Combines one accumulator with these elements."""
        total = self.combine(self.s, self.first.get(self.s, at, group), self.tree(pairs))
        self.first.put(self.s, at, total, group)

    def sum(self, s: Scalar, at: str, group: bool = False) -> Pair:
        """Both levels together."""
        low = self.first.get(s, at, group)
        return self.combine(s, self.second.get(s, at, group), low) if self.two_levels else low

    def _starts(self, s: Scalar) -> Pair:
        """The identities, of as many accumulators as the emitter has lanes."""
        if s is self.s:
            return self.start

        def splat(x: Value) -> Value:
            return Value(x.dtype, f"splat ({register_type(x.dtype)} {x.ref})")

        return splat(self.start[0]), splat(self.start[1])

    def store(self, pair: Pair, chunk: str, kept: Sequence[str], column: str, group: bool = False) -> None:
        for out, chunk_stride, is_index in self.outs:
            start = out.offset(self.code.mul(chunk, chunk_stride), kept, 0)
            value = pair[1] if is_index else pair[0]
            assert value is not None
            self.s.store(self.s.cast(value, out.dtype), out.along(start, column), group)
