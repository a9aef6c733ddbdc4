"""Small sliding windows as emitted kernels: all taps of a window unrolled, results in registers until they are stored.

One step computes the outputs that meet the same taps: no tap is tested, and no place computed, in the inner loop.
Lanes are outputs along one axis, rows all others; the words of ``args``:

    x, out, (winners) their taps, table, pixels, rows, rows a tile; strides of x and of out each time the pixels are
    used up; lanes; strides of x and of out along them, those that are not 1; x offset of each tap; (winners) the
    number of each tap, or without taps the number that says none

The table has for each pixel, one row of outputs, its x offset and its out offset.  Offsets count elements.  Of equal
elements the first wins, and the first NaN wins over all, as in `window`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from fgrad.kernels.cpu.accumulators import identity
from fgrad.kernels.cpu.body import Spec
from fgrad.kernels.cpu.gemm_tiles import host
from fgrad.kernels.cpu.irtext import Code
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value, dtype_of, literal, memory_type

INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)


def short(s: Scalar, word: str) -> Value:
    """A word as int32, as wide as most elements."""
    return s.cast(Value(INT64, word), INT32)


def start_row(s: Scalar, table: str, pixels: str, row: str, repeats: list[str]) -> list[str]:
    """The offset in each array of a row: the pixel's, of which the table has one for each array, and its repeats."""
    code = s.code
    repeat, pixel = code.divmod(row, pixels)
    at = code.mul(pixel, str(len(repeats)))
    starts = []
    for k, stride in enumerate(repeats):
        own = s.load(INT64, code.element("i64", table, code.add(at, str(k))), group=False).ref
        starts.append(code.add(own, code.mul(repeat, stride)))
    return starts


def lane_steps(s: Scalar, unit: tuple[bool, ...]) -> list[str]:
    """Strides along the lanes: 1, or a word."""
    return ["1" if alone else s.code.word() for alone in unit]


def lanes_at_once(lanes: int, unit: tuple[bool, ...], itemsize: int) -> int:
    """How many lanes `lane_loop` takes at a time, 1 to leave it to LLVM: without mask registers that would do the last
    ones, a part of a vector, one by one; six channels are none but those.
    """
    machine = host()
    vector = machine.lanes(itemsize)
    if machine.masked_stores or lanes % vector == 0 or lanes < 4 or not all(unit):
        return 1
    return 1 << (min(lanes, vector).bit_length() - 1)


@contextmanager
def lane_loop(code: Code, lanes: str, at_once: int) -> Iterator[str]:
    """Over the lanes, some at once; the last so many may have been before, and come out the same again."""
    if at_once == 1:
        with code.loop("0", lanes, kind="lean") as lane:
            yield lane
        return
    last = code.sub(lanes, str(at_once))
    with code.loop("0", lanes, at_once) as following:
        first = code.minimum(following, last)
        with code.loop("0", str(at_once), kind="vector") as i:
            yield code.add(first, i)


@dataclass(frozen=True)
class WindowSpec(Spec):
    """``kind``: add, max or min; ``winners``: the dtype of the extremum's tap, a second result, or empty;
    ``unit``: whether x and out have neighbouring lanes side by side; ``at_once``: see `lanes_at_once`.
    """

    dtype: str
    kind: str
    taps: int
    winners: str
    unit: tuple[bool, ...]
    at_once: int

    def write(self, s: Scalar) -> None:
        code, dtype = s.code, dtype_of(self.dtype)
        x, out = code.pointer_word(), code.pointer_word()
        chosen = code.pointer_word() if self.winners else ""
        table = code.pointer_word()
        pixels, rows, row_tile = code.words(3)
        repeats = code.words(2)
        lanes = code.word()
        x_step, out_step = lane_steps(s, self.unit)
        offsets = code.words(self.taps)
        numbers = [short(s, word) for word in code.words(max(self.taps, 1))] if self.winners else []

        with code.loop("%begin", "%end") as tile:
            low = code.mul(tile, row_tile)
            with code.loop(low, code.minimum(code.add(low, row_tile), rows)) as row:
                starts = start_row(s, table, pixels, row, repeats)
                with lane_loop(code, lanes, self.at_once) as lane:
                    base = code.add(starts[0], code.mul(lane, x_step))
                    values = [
                        s.load(dtype, code.element(memory_type(dtype), x, code.add(base, offset)), group=True)
                        for offset in offsets
                    ]
                    to = code.add(starts[1], code.mul(lane, out_step))
                    if self.winners:
                        number, best = self._winner(s, values, numbers, dtype)
                        narrow = dtype_of(self.winners)
                        s.store(s.cast(number, narrow), code.element(memory_type(narrow), chosen, to), group=True)
                    else:
                        best = self._combined(s, values, dtype)
                    s.store(best, code.element(memory_type(dtype), out, to), group=True)

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

    def _winner(self, s: Scalar, values: list[Value], numbers: list[Value], dtype: np.dtype) -> tuple[Value, Value]:
        best, number = values[0] if values else identity(self.kind, dtype), numbers[0]
        for x, own in zip(values[1:], numbers[1:]):
            wins = self._better(s, x, best)
            if x.dtype.kind not in "iu":  # a second NaN does not win over the first
                wins = s.and_(wins, s.cmp("eq", best, best))
            best, number = s.select(wins, x, best), s.select(wins, own, number)
        return number, best
