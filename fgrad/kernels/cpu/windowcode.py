"""Small sliding windows as emitted kernels: all taps of a window unrolled, results in registers until they are stored.

One step computes the outputs that meet the same taps: no tap is tested, and no index computed, in the inner loop.
Lanes are outputs along one axis, rows all others; the words of ``args``:

    0 x   1 out   2 table   3 pixels   4 rows   5 rows a tile
    6 and 7 strides of x and out each time the pixels are used up, and (winners only) 8 of the index
    then: lanes; strides of x and out along them, if not 1; (winners) of the index; x offset of each tap; (winners)
    index of each tap

The table has for each pixel, one row of outputs, its x offset, its out offset and its first index.  Offsets count
elements.  Of equal elements the first wins, and the first NaN wins over all, as in `window`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fgrad.kernels.cpu.accumulators import identity
from fgrad.kernels.cpu.body import Spec
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value, dtype_of, literal, memory_type

_INT32, _INT64 = np.dtype(np.int32), np.dtype(np.int64)


@dataclass(frozen=True)
class WindowSpec(Spec):
    """``kind``: add, max or min; ``winners``: the int64 index of the extremum in place of its value."""

    dtype: str
    kind: str
    taps: int
    winners: bool
    unit: bool

    def write(self, s: Scalar) -> None:
        code, dtype = s.code, dtype_of(self.dtype)
        x, out, table = code.pointer_word(), code.pointer_word(), code.pointer_word()
        pixels, rows, row_tile = code.words(3)
        repeats = code.words(3 if self.winners else 2)
        lanes = code.word()
        x_step, out_step = ("1", "1") if self.unit else code.words(2)
        index_step = code.word() if self.winners else "0"
        offsets = code.words(self.taps)
        places = [self._short(s, word) for word in code.words(self.taps)] if self.winners else []

        with code.loop("%begin", "%end") as tile:
            low = code.mul(tile, row_tile)
            with code.loop(low, code.minimum(code.add(low, row_tile), rows)) as row:
                repeat, pixel = code.divmod(row, pixels)
                at = code.mul(pixel, "3")
                starts = []
                for k, stride in enumerate(repeats):
                    word = code.element("i64", table, code.add(at, str(k)))
                    own = s.load(_INT64, word, group=False).ref
                    starts.append(code.add(own, code.mul(repeat, stride)))
                with code.loop("0", lanes, kind="lean") as lane:
                    base = code.add(starts[0], code.mul(lane, x_step))
                    values = [
                        s.load(dtype, code.element(memory_type(dtype), x, code.add(base, offset)), group=True)
                        for offset in offsets
                    ]
                    to = code.add(starts[1], code.mul(lane, out_step))
                    if self.winners:
                        first = code.add(starts[2], code.mul(lane, index_step))
                        s.store(self._winner(s, values, places, first), code.element("i64", out, to), group=True)
                    else:
                        target = code.element(memory_type(dtype), out, to)
                        s.store(self._combined(s, values, dtype), target, group=True)

    def _short(self, s: Scalar, word: str) -> Value:
        return s.cast(Value(_INT64, word), _INT32)

    def _better(self, s: Scalar, new: Value, old: Value) -> Value:
        better = s.cmp("gt" if self.kind == "max" else "lt", new, old)
        return better if new.dtype.kind in "iu" else s.or_(better, s.cmp("ne", new, new))

    def _combined(self, s: Scalar, values: list[Value], dtype: np.dtype) -> Value:
        if self.kind == "add":
            total = literal(dtype, 0)
            for x in values:
                total = s.add(total, x)
            return total
        best = values[0] if values else identity(self.kind, dtype)
        for x in values[1:]:
            best = s.select(self._better(s, x, best), x, best)
        return best

    def _winner(self, s: Scalar, values: list[Value], places: list[Value], first: str) -> Value:
        if not values:
            return literal(_INT64, -1)
        best, place = values[0], places[0]
        for x, there in zip(values[1:], places[1:]):
            wins = self._better(s, x, best)
            if x.dtype.kind not in "iu":  # a second NaN does not win over the first
                wins = s.and_(wins, s.cmp("eq", best, best))
            best, place = s.select(wins, x, best), s.select(wins, there, place)
        return s.add(Value(_INT64, first), s.cast(place, _INT64))
