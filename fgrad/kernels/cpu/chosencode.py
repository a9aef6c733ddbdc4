"""Elements at chosen taps as emitted kernels: gather_winners and its transpose, unrolled.

A cell is some outputs that see the same data: each of them is the sum of its terms, and a term is a datum if the tap
that was chosen beside it has the term's number, else 0.  Lanes are cells along one axis, rows all others; the words of
``args``:

    data   taps   out   table   pixels   rows   rows a tile;   strides of data, taps and out each time the pixels are
    used up;   lanes;   strides of the three along them, those that are not 1;   offset of each datum, of each tap, and
    of each output;   number of each term, -1 where it never is chosen

The table has for each pixel, one row of cells, its offset in the three arrays.  Offsets count elements.
"""

from __future__ import annotations

from dataclasses import dataclass

from fgrad.kernels.cpu.body import Spec
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value, dtype_of, literal, memory_type
from fgrad.kernels.cpu.windowcode import INT32, lane_loop, lane_steps, short, start_row


@dataclass(frozen=True)
class ChosenSpec(Spec):
    """``terms``: of each output, pairs of a datum and the tap beside it.

    ``adds``: several of them may be chosen.  ``unit``: whether data, taps and out have neighbouring lanes side by side;
    ``at_once``: see `windowcode.lanes_at_once`.
    """

    dtype: str
    tap_dtype: str
    data: int
    taps: int
    terms: tuple[tuple[tuple[int, int], ...], ...]
    adds: bool
    unit: tuple[bool, ...]
    at_once: int

    def write(self, s: Scalar) -> None:
        code, dtype, tap_dtype = s.code, dtype_of(self.dtype), dtype_of(self.tap_dtype)
        bases = code.pointer_word(), code.pointer_word(), code.pointer_word()
        table = code.pointer_word()
        pixels, rows, row_tile = code.words(3)
        repeats = code.words(3)
        lanes = code.word()
        steps = lane_steps(s, self.unit)
        offsets = code.words(self.data), code.words(self.taps), code.words(len(self.terms))
        numbers = [[short(s, word) for word in code.words(len(terms))] for terms in self.terms]

        with code.loop("%begin", "%end") as tile:
            low = code.mul(tile, row_tile)
            with code.loop(low, code.minimum(code.add(low, row_tile), rows)) as row:
                starts = start_row(s, table, pixels, row, repeats)
                with lane_loop(code, lanes, self.at_once) as lane:
                    data, taps, outs = (
                        [code.element(memory_type(kind), base, code.add(at, offset)) for offset in own]
                        for kind, base, own, at in zip(
                            (dtype, tap_dtype, dtype), bases, offsets,
                            (code.add(first, code.mul(lane, step)) for first, step in zip(starts, steps)),
                        )
                    )  # fmt: skip
                    values = [s.load(dtype, address, group=True) for address in data]
                    chosen = [s.cast(s.load(tap_dtype, address, group=True), INT32) for address in taps]
                    for terms, own, address in zip(self.terms, numbers, outs):
                        hits = [(s.cmp("eq", chosen[tap], n), values[datum]) for (datum, tap), n in zip(terms, own)]
                        s.store(self._total(s, hits, literal(dtype, 0)), address, group=True)

    def _total(self, s: Scalar, hits: list[tuple[Value, Value]], zero: Value) -> Value:
        total = zero
        for hit, value in hits:
            if not self.adds or total is zero:
                total = s.select(hit, value, total)
            else:
                total = s.add(total, s.select(hit, value, zero))
        return total
