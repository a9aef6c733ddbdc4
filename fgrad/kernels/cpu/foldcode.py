"""The kernels of `folds`: what a fold kernel's spec holds, and the loop nests it is written as."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fgrad.kernels.cpu.accumulators import LANES, Folded, Folding, Pair
from fgrad.kernels.cpu.body import Node, Spec, Stream, evaluate, weight_of
from fgrad.kernels.cpu.irtext import Code, unravel
from fgrad.kernels.cpu.nest import Operand
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value

BLOCK = 256  # accumulators of the column form: they stay in the first-level cache
UNROLL = 4  # elements combined pairwise before the accumulator is touched, unless the expression is long
LONG = 4  # scalar rules in an expression that is not unrolled
FLUSH = 16  # additions to a first-level accumulator before it is added to the second level


@dataclass(frozen=True)
class FoldSpec(Spec):
    """``kept`` and ``reduced`` axes outside the innermost one; ``sizes`` that are part of the code (the columns, if
    they are few; in the short form the extents of the reduced axes); the expression, what is folded of it, and extra
    results with the node each of them stores.  ``long``: a sum has enough terms for two levels.  ``apart``: elements
    from one row of the short form to the next, of folds, extra results and inputs; LLVM gathers by known strides only.
    """

    form: str
    long: bool
    kept: int
    reduced: int
    sizes: tuple[int, ...]
    ins: tuple[Operand, ...]
    nodes: tuple[Node, ...]
    folds: tuple[Folded, ...]
    extras: tuple[Operand, ...]
    stored: tuple[int, ...]
    apart: tuple[int, ...] = ()

    def write(self, s: Scalar) -> None:
        _Writer(self, s).write()


class _Writer:
    def __init__(self, spec: FoldSpec, s: Scalar) -> None:
        self.spec, self.s, self.code = spec, s, s.code
        heavy = weight_of(spec.nodes) > 1 + LONG
        self.unroll = 1 if heavy else UNROLL
        self.narrow = spec.form == "column" and bool(spec.sizes)
        count = spec.sizes[0] if self.narrow else {"column": BLOCK, "row": LANES, "short": 1}[spec.form]
        self.folds = [Folding(s, folded, count, self.narrow, spec.long) for folded in spec.folds]
        self.two_levels = any(fold.two_levels for fold in self.folds)

    # ---- the nest

    def write(self) -> None:
        spec, code = self.spec, self.code
        kept_size, kept_total = code.words(2)
        kept_extents = code.words(spec.kept - 1)
        if spec.form == "column":
            column_size, column_tiles, columns = code.words(3)
        outer_axes = spec.reduced - (spec.form == "column")
        outer_size, outer_total, chunks, inner_size, inner_chunks, inner_total = code.words(6)
        self.outer_extents = code.words(outer_axes - 1)
        for fold in self.folds:
            fold.read_outs(spec.kept)
        outer = spec.kept + spec.reduced
        self.extras = [Stream(code, operand, outer) for operand in spec.extras]
        self.ins = [Stream(code, operand, outer) for operand in spec.ins]
        self.every = self.extras + self.ins
        outs = [out for fold in self.folds for out, _, _ in fold.outs]
        for stream, stride in zip([*outs, *self.every], spec.apart):
            stream.strides[0] = str(stride)
        self.taken = code.array("i64", 1)  # rows (columns) since the last flush

        with code.loop("%begin", "%end") as tile:
            tile, self.chunk = code.divmod(tile, chunks)
            outer_chunk, inner_chunk = code.divmod(self.chunk, inner_chunks)
            self.outer_range = _part(code, outer_chunk, outer_size, outer_total)
            self.inner_range = _part(code, inner_chunk, inner_size, inner_total)
            if spec.form == "column":
                tile, column_tile = code.divmod(tile, column_tiles)
                low, high = _part(code, column_tile, column_size, columns)
            rows = _part(code, tile, kept_size, kept_total)
            if spec.form == "short" and spec.kept == 1:
                with code.loop(*rows, kind="lean") as kept:
                    self._short([kept], group=True)
                return
            with code.loop(*rows) as kept:
                self.kept = unravel(code, kept, kept_extents)
                if self.narrow:
                    self._columns("0", str(spec.sizes[0]))
                elif spec.form == "column":
                    with code.loop(low, high, BLOCK) as column:
                        self._columns(column, code.minimum(code.sub(high, column), str(BLOCK)))
                elif spec.form == "row":
                    self._row()
                else:
                    self._short(self.kept, group=False)

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
                        ([*coordinates, r], [x.offset(start, [r], first) for x, start in zip(self.every, starts)])
                        for r in rows
                    ]
                    self._lanes(width, [(c, o, column) for c, o in places])
        with code.loop("0", width, kind=self._kind) as lane:
            for fold in self.folds:
                pair = fold.sum(self.s, lane, group=True)
                fold.store(pair, self.chunk, self.kept, code.add(column, lane), group=True)

    def _row(self) -> None:
        """Adds blocks of the innermost axis to `LANES` accumulators, then folds those in halves."""
        code, lanes = self.code, str(LANES)
        self._clear(lanes)
        with code.loop(*self.outer_range) as outer:
            coordinates, starts = self._outer(outer)
            for low, high, step in self._steps(*self.inner_range, LANES, lanes):
                if step > LANES:
                    whole = high
                else:  # the last block may be shorter, and its width is unknown
                    whole = code.add(low, code.op(f"and i64 {code.sub(high, low)}, {-LANES}"))
                with code.loop(low, whole, step) as block:
                    firsts = [code.add(block, str(u * LANES)) for u in range(step // LANES)]
                    self._lanes(lanes, [(coordinates, starts, first) for first in firsts])
                if step == LANES:
                    with code.when(code.op(f"icmp slt i64 {whole}, {high}")):
                        self._lanes(code.sub(high, whole), [(coordinates, starts, whole)])
        for fold in self.folds:
            fold.store(fold.halves(fold.sum(fold.vector, "0")), self.chunk, self.kept, "0")

    def _short(self, kept: list[str], group: bool) -> None:
        """A row of few elements, one after another, in code without loops: so rows side by side make vectors."""
        totals: list[Pair] = [fold.start for fold in self.folds]
        for place in itertools.product(*(range(n) for n in self.spec.sizes)):
            *outer, column = map(str, place)
            coordinates = [*kept, *outer]
            starts = [x.offset("0", coordinates, 0) for x in self.every]
            pairs = self._evaluate(coordinates, starts, column, {}, group)
            totals = [fold.combine(self.s, total, pair) for fold, total, pair in zip(self.folds, totals, pairs)]
        for fold, total in zip(self.folds, totals):
            fold.store(total, self.chunk, kept, "0", group)

    # ---- its parts

    @property
    def _kind(self) -> str:
        """Of a loop over accumulators: of known length, or of a few vectors."""
        return "vector" if self.narrow else "lean"

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
                for fold in self.folds:
                    fold.flush(width)
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
        return coordinates, [x.offset("0", coordinates, 0) for x in self.every]

    def _lanes(self, width: str, places: Sequence[tuple[list[str], list[str], str]]) -> None:
        """One step: accumulator j takes the elements at ``first + j`` of every place (coordinates, offsets, first)."""
        held = [self._held(starts) for _, starts, _ in places]
        with self.code.loop("0", width, kind=self._kind) as lane:
            every = [
                self._evaluate(coordinates, starts, self.code.add(first, lane), kept, group=True)
                for (coordinates, starts, first), kept in zip(places, held)
            ]
            for fold, pairs in zip(self.folds, zip(*every)):
                fold.take(lane, pairs, group=True)

    def _held(self, starts: Sequence[str]) -> dict[int, Value]:
        """The inputs that are constant along the innermost loop."""
        return {
            k: self.s.load(x.dtype, x.along(start, "0"), group=False)
            for k, (x, start) in enumerate(zip(self.ins, starts[len(self.extras) :]))
            if x.step == "zero"
        }

    def _evaluate(
        self, coordinates: list[str], starts: Sequence[str], column: str, held: dict[int, Value], group: bool
    ) -> list[Pair]:
        """The value (and index) at a place for each fold; writes the extra results."""
        spec, s = self.spec, self.s

        def load(k: int) -> Value:
            x, start = self.ins[k], starts[len(self.extras) + k]
            return held[k] if k in held else s.load(x.dtype, x.along(start, column), group)

        values = evaluate(s, spec.nodes, load, lambda axis: [*coordinates, column][axis])
        for out, start, node in zip(self.extras, starts, spec.stored):
            s.store(s.cast(values[node], out.dtype), out.along(start, column), group)
        return [
            (s.cast(values[f.folded.value], f.held), None if f.folded.place is None else values[f.folded.place])
            for f in self.folds
        ]

    def _clear(self, width: str) -> None:
        self.code.line(f"store i64 0, ptr {self.taken}, align 8")
        for fold in self.folds:
            fold.clear(width)


def _part(code: Code, tile: str, size: str, extent: str) -> tuple[str, str]:
    """The part of ``range(extent)`` that belongs to a tile."""
    low = code.mul(tile, size)
    return low, code.minimum(code.add(low, size), extent)
