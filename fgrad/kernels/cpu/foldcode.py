"""The kernels of `folds`: what a fold's spec holds, and the loop nests it is written as."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fgrad.kernels.cpu.body import Mapped, Node, Spec, Stream, evaluate
from fgrad.kernels.cpu.irtext import Code, unravel
from fgrad.kernels.cpu.nest import Operand
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value, dtype_of, is_float, literal, memory_type, register_type

LANES = 64  # accumulators of the row form: four vectors of 16 float32
BLOCK = 256  # accumulators of the column form: they stay in the first-level cache
UNROLL = 4  # elements combined pairwise before the accumulator is touched, unless the expression is long
LONG = 4  # scalar rules in an expression that is not unrolled
FLUSH = 16  # additions to a first-level accumulator before it is added to the second level

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


@dataclass(frozen=True)
class FoldSpec(Spec):
    """``kept`` and ``reduced`` axes outside the innermost one; the expression, its value (and index, for arg folds)
    and the dtype it is held in; the fold's results (value, then index, of which one may be absent) and extra results
    with the node each of them stores.
    """

    form: str
    combine: str
    kept: int
    reduced: int
    ins: tuple[Operand, ...]
    nodes: tuple[Node, ...]
    value: int
    index: int | None
    held: str
    value_out: Operand | None
    index_out: Operand | None
    extras: tuple[Operand, ...]
    stored: tuple[int, ...]

    def write(self, s: Scalar) -> None:
        _Writer(self, s).write()


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


class _Writer:
    def __init__(self, spec: FoldSpec, s: Scalar) -> None:
        self.spec, self.s, self.code = spec, s, s.code
        self.vector = Scalar(s.code, s.native_half, LANES)
        self.held = dtype_of(spec.held)
        heavy = sum(isinstance(node, Mapped) for node in spec.nodes) > LONG
        self.unroll = 1 if heavy else UNROLL
        self.two_levels = spec.combine == "add" and is_float(self.held) and spec.form != "short"
        self.start = identity(spec.combine, self.held), literal(INDEX, np.iinfo(INDEX).max)

    # ---- the algebra

    def combine(self, s: Scalar, a: Pair, b: Pair) -> Pair:
        name = self.spec.combine
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

    # ---- the nest

    def write(self) -> None:
        spec, code = self.spec, self.code
        kept_size, kept_total = code.words(2)
        kept_extents = code.words(spec.kept - 1)
        if spec.form == "column":
            column_size, column_tiles, columns = code.words(3)
        outer_axes = spec.reduced - (spec.form == "column")
        outer_size, outer_total, chunks, inner_size, inner_chunks, inner_total = code.words(6)
        outer_extents = code.words(outer_axes - 1)
        self.outs = []
        for operand in (spec.value_out, spec.index_out):
            if operand is not None:
                self.outs.append((Stream(code, operand, spec.kept), code.word(), operand is spec.index_out))
        outer = spec.kept + spec.reduced
        self.extras = [Stream(code, operand, outer) for operand in spec.extras]
        self.ins = [Stream(code, operand, outer) for operand in spec.ins]

        indexed = spec.index is not None
        count = {"column": BLOCK, "row": LANES, "short": 1}[spec.form]
        self.first = _Accumulators(code, self.held, indexed, count)
        self.second = _Accumulators(code, self.held, indexed, count) if self.two_levels else self.first
        self.taken = code.array("i64", 1)  # rows (columns) since the last flush

        with code.loop("%begin", "%end") as tile:
            tile, chunk = code.divmod(tile, chunks)
            outer_chunk, inner_chunk = code.divmod(chunk, inner_chunks)
            self.outer_range = _part(code, outer_chunk, outer_size, outer_total)
            self.inner_range = _part(code, inner_chunk, inner_size, inner_total)
            self.outer_extents, self.outer_axes = outer_extents, outer_axes
            self.chunk = chunk
            if spec.form == "column":
                tile, column_tile = code.divmod(tile, column_tiles)
                low, high = _part(code, column_tile, column_size, columns)
            with code.loop(*_part(code, tile, kept_size, kept_total)) as kept:
                self.kept = unravel(code, kept, kept_extents)
                if spec.form == "column":
                    with code.loop(low, high, BLOCK) as column:
                        self._columns(column, code.minimum(code.sub(high, column), str(BLOCK)))
                elif spec.form == "row":
                    self._row()
                else:
                    self._short()

    def _columns(self, column: str, width: str) -> None:
        """Adds the rows of the chunk to ``width`` accumulators, the columns from ``column`` on."""
        code = self.code
        self._clear(width)
        with code.loop(*self.outer_range) as outer:
            coordinates, starts = self._outer(outer)
            for low, high, unroll in self._steps(*self.inner_range, 1, width):
                with code.loop(low, high, unroll) as row:
                    rows = [code.add(row, str(u)) for u in range(unroll)]
                    first = len(coordinates)
                    places = [
                        ([*coordinates, r], [x.offset(start, [r], first) for x, start in zip(self._every, starts)])
                        for r in rows
                    ]
                    self._lanes(width, [(c, o, column) for c, o in places])
        with code.loop("0", width, kind="lean") as lane:
            self._store(self._sum(self.s, lane, group=True), code.add(column, lane), group=True)

    def _row(self) -> None:
        """Adds blocks of the innermost axis to `LANES` accumulators, then folds those in halves."""
        code, lanes = self.code, str(LANES)
        self._clear(lanes)
        with code.loop(*self.outer_range) as outer:
            coordinates, starts = self._outer(outer)
            for low, high, step in self._steps(*self.inner_range, LANES, lanes):
                with code.loop(low, high, step) as block:
                    blocks = step // LANES
                    width = lanes if blocks > 1 else code.minimum(code.sub(high, block), lanes)
                    firsts = [code.add(block, str(u * LANES)) for u in range(blocks)]
                    self._lanes(width, [(coordinates, starts, first) for first in firsts])
        self._store(self.halves(self._sum(self.vector, "0")), "0")

    def _short(self) -> None:
        code, s = self.code, self.s
        self.first.put(s, "0", self.start)
        with code.loop(*self.outer_range) as outer:
            coordinates, starts = self._outer(outer)
            with code.loop(*self.inner_range, kind="free") as column:
                pair = self._evaluate(coordinates, starts, column, {}, group=False)
                self.first.put(s, "0", self.combine(s, self.first.get(s, "0"), pair))
        self._store(self.first.get(s, "0"), "0")

    # ---- its parts

    @property
    def _every(self) -> list[Stream]:
        return self.extras + self.ins

    def _steps(self, low: str, high: str, size: int, width: str) -> Iterator[tuple[str, str, int]]:
        """(start, stop, step) of the loops that cover a range: `unroll` pieces of ``size`` at a time, then one.

        In sums it goes by groups, after which the first level may be due to be added to the second.
        """
        code = self.code
        if not self.two_levels:
            yield from self._blocks(low, high, size)
            return
        group = FLUSH * UNROLL * size
        with code.loop(low, high, group) as start:
            stop = code.minimum(code.add(start, str(group)), high)
            yield from self._blocks(start, stop, size)
            done = code.op(f"load i64, ptr {self.taken}, align 8")
            done = code.add(done, code.sub(stop, start))
            code.line(f"store i64 {done}, ptr {self.taken}, align 8")
            with code.when(code.op(f"icmp sge i64 {done}, {group}")):
                with code.loop("0", width, LANES) as lane:
                    self.second.put(self.vector, lane, self._sum(self.vector, lane))
                    self.first.put(self.vector, lane, self._starts())
                code.line(f"store i64 0, ptr {self.taken}, align 8")

    def _blocks(self, low: str, high: str, size: int) -> Iterator[tuple[str, str, int]]:
        if self.unroll > 1:
            whole = self.code.op(f"and i64 {self.code.sub(high, low)}, {-self.unroll * size}")
            middle = self.code.add(low, whole)
            yield low, middle, self.unroll * size
            low = middle
        yield low, high, size

    def _outer(self, outer: str) -> tuple[list[str], list[str]]:
        """Coordinates outside the inner loops, and the element offsets they lead to."""
        coordinates = [*self.kept, *unravel(self.code, outer, self.outer_extents)]
        return coordinates, [x.offset("0", coordinates, 0) for x in self._every]

    def _lanes(self, width: str, places: Sequence[tuple[list[str], list[str], str]]) -> None:
        """One step: accumulator j takes the elements at ``first + j`` of every place (coordinates, offsets, first)."""
        held = [self._held(starts) for _, starts, _ in places]
        s = self.s
        with self.code.loop("0", width, kind="lean") as lane:
            pairs = [
                self._evaluate(coordinates, starts, self.code.add(first, lane), kept, group=True)
                for (coordinates, starts, first), kept in zip(places, held)
            ]
            total = self.combine(s, self.first.get(s, lane, group=True), self.tree(pairs))
            self.first.put(s, lane, total, group=True)

    def _held(self, starts: Sequence[str]) -> dict[int, Value]:
        """The inputs that are constant along the innermost loop."""
        return {
            k: self.s.load(x.dtype, x.along(start, "0"), group=False)
            for k, (x, start) in enumerate(zip(self.ins, starts[len(self.extras) :]))
            if x.step == "zero"
        }

    def _evaluate(
        self, coordinates: list[str], starts: Sequence[str], column: str, held: dict[int, Value], group: bool
    ) -> Pair:
        """The value (and index) at a place; writes the extra results."""
        spec, s = self.spec, self.s

        def load(k: int) -> Value:
            x, start = self.ins[k], starts[len(self.extras) + k]
            return held[k] if k in held else s.load(x.dtype, x.along(start, column), group)

        values = evaluate(s, spec.nodes, load, lambda axis: [*coordinates, column][axis])
        for out, start, node in zip(self.extras, starts, spec.stored):
            s.store(s.cast(values[node], out.dtype), out.along(start, column), group)
        index = None if spec.index is None else values[spec.index]
        return s.cast(values[spec.value], self.held), index

    def _starts(self) -> Pair:
        """A vector of identities."""

        def splat(x: Value) -> Value:
            return Value(x.dtype, f"splat ({register_type(x.dtype)} {x.ref})")

        return splat(self.start[0]), splat(self.start[1])

    def _clear(self, width: str) -> None:
        self.code.line(f"store i64 0, ptr {self.taken}, align 8")
        with self.code.loop("0", width, LANES) as lane:
            self.first.put(self.vector, lane, self._starts())
            if self.two_levels:
                self.second.put(self.vector, lane, self._starts())

    def _sum(self, s: Scalar, at: str, group: bool = False) -> Pair:
        """Both levels together."""
        low = self.first.get(s, at, group)
        return self.combine(s, self.second.get(s, at, group), low) if self.two_levels else low

    def _store(self, pair: Pair, column: str, group: bool = False) -> None:
        for out, chunk_stride, is_index in self.outs:
            start = out.offset(self.code.mul(self.chunk, chunk_stride), self.kept, 0)
            value = pair[1] if is_index else pair[0]
            assert value is not None
            self.s.store(self.s.cast(value, out.dtype), out.along(start, column), group)


def _part(code: Code, tile: str, size: str, extent: str) -> tuple[str, str]:
    """The part of ``range(extent)`` that belongs to a tile."""
    low = code.mul(tile, size)
    return low, code.minimum(code.add(low, size), extent)
