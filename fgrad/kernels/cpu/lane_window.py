"""Convolutions lane by lane with a long window and a small result: the weights' gradient of a depthwise layer.

    out[t, j, k] = sum over images n, lines l, pixels w of
                   x[n, line(l, t), w*step + j*tap_step + first, k] * y[n, l, w, k]

k are the groups; l and w are the window's positions along the dimensions before the last one and along the last one, t
and j are the result's.  ``line`` is a table, which also says where x has no such line.

A tile of taps (t, j) has its sums in registers while a run of a line's pixels passes by; what several of `PIXELS`
neighbours meet of x is loaded once.  All lanes of a run come before the next run, since they are what is adjacent in
memory; meanwhile the memory of the next run is asked for.  Nothing beyond x is multiplied: where some of a tile's lines
do not exist, the others are taken one by one, and pixels at a line's ends ask for each tap.  A task adds up a part of
the lines in scratch memory.  The words of ``args``, all offsets and strides in elements:

     0 x   1 y   2 out   3 table of lines: offset in y, and in x for each t   4 table: offset in out of each tap
     5 scratch   6 its bytes   7 parts   8 blocks of lanes   9 lanes of a block   10 lanes
    11 lines of a part   12 lines   13 lines of the table; line = image * those + line of the table
    14 x's strides of a row of the result,   15 of an image   16 and of a pixel   17 y's of an image   18 and of a pixel
    19 first   20 pixels of a line of x   21 and of y   22 runs   23 pixels of a run, run r > 0 begins at r * those + 24
    25 out's strides of a row,   26 of a part   27 and of a lane
    then for each cut of j: first and end of the pixels that meet all its taps

A task is (row of the result, part, block of lanes), the last fastest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fgrad.kernels.builder import PlanBuilder, sums
from fgrad.kernels.cpu import gemm_tiles
from fgrad.kernels.cpu.body import Spec
from fgrad.kernels.cpu.conv_geometry import Dim, Geometry, lines_met
from fgrad.kernels.cpu.gemm_plan import GRAIN_WORK, MIN_TASKS, NOWHERE, PART_BYTES, no_epilogue, sum_parts
from fgrad.kernels.cpu.lanecode import LaneWriter
from fgrad.kernels.cpu.nest import even_cut
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.layout import dtype_name
from fgrad.kernels.plan import Ptr, Word

PIXELS = 4  # of a step
CHAINS = 8  # sums that hide the latency of a multiply-add
MOST_TAPS = 128  # each is code of its own
LANE_BYTES = 1 << 10  # of a pixel, in a task
RUN_BYTES = 1 << 11  # of y, in a run, which is as far ahead as memory is asked for
LEAST_RUN = 2 * PIXELS
PART_PIXELS = 128  # fewer of y do not repay adding another part


def plan_lane_window(
    builder: PlanBuilder, dtype: np.dtype, a: Ptr, b: Ptr, out: Ptr, geo: Geometry, dense: int
) -> None:
    """Of groups adjacent in both operands, and a last dimension that is not lhs-dilated; ``dense``: elements of the
    result if it is contiguous, else 0.
    """
    no_epilogue(builder)
    size, lanes, out_lane = dtype.itemsize, len(geo.batches), int(geo.batches[1, 2])
    *outer, last = geo.dims
    spec = _spec(dtype, geo, out_lane == 1)
    table = _lines(outer)
    block, blocks = even_cut(lanes, LANE_BYTES // size, spec.width)
    lines, taps = geo.features * len(table), math.prod(d.out for d in geo.dims)
    work = last.window * block * taps  # multiply-adds of a line
    parts = 1
    if dense and lines * blocks * geo.rows * work > 2 * GRAIN_WORK:
        wanted = -(-MIN_TASKS // (blocks * geo.rows))
        parts = max(1, min(wanted, lines * last.window // PART_PIXELS, PART_BYTES // (dense * size)))
    part_lines = -(-lines // parts)
    parts = max(-(-lines // max(part_lines, 1)), 1)
    run = max(RUN_BYTES // (block * size) // PIXELS * PIXELS, LEAST_RUN)
    inside = [_inside(last, first, count) for first, count in zip(_starts(spec.taps), spec.taps)]
    lead = inside[0][0]
    target = out if parts == 1 else builder.temp(parts * dense * size)
    places = sums(np.arange(d.out) * d.out_stride for d in geo.dims)
    scratch = -(-(-(-block // spec.width) * spec.width * taps * size) // 64) * 64
    args: tuple[Word, ...] = (
        a, b, target, builder.table(table), builder.table(places), builder.scratch(scratch), scratch,
        parts, blocks, block, lanes, part_lines, lines, len(table),
        geo.lhs_row, geo.lhs_feature, last.lhs_stride, geo.rhs_feature, last.rhs_stride,
        -last.low, last.size, last.window, max(-(-(last.window - lead) // run), 1), run, lead,
        geo.out_row, dense, out_lane, *itertools.chain(*inside),
    )  # fmt: skip
    grain = GRAIN_WORK // max(work * part_lines, 1)
    builder.step(spec, args, geo.rows * parts * blocks, "conv by lane, over the window", grain)
    if parts > 1:
        sum_parts(builder, target, out, parts, dense, dtype)


def _spec(dtype: np.dtype, geo: Geometry, unit: bool) -> LaneWindow:
    """The tiles of taps: as few as the registers allow; several vectors where a tile of one has too few sums."""
    machine, last = gemm_tiles.host(), geo.dims[-1]
    free = machine.registers - machine.registers // 8 - PIXELS  # fewer left over, and LLVM spills some
    taps = _even(last.out, free)
    lines = _even(math.prod(d.out for d in geo.dims[:-1]), free // taps[0])
    lanes = min(machine.lanes(dtype.itemsize), 1 << (len(geo.batches).bit_length() - 1))
    vectors, sums = 1, lines[0] * taps[0]
    while vectors * sums < CHAINS and 2 * vectors * lanes <= len(geo.batches):
        if 2 * vectors * (sums + PIXELS + 1) >= machine.registers:
            break
        vectors *= 2
    return LaneWindow(dtype_name(dtype), lanes, vectors, lines, taps, last.rhs_dilation, last.stride, unit)


def _even(count: int, most: int) -> tuple[int, ...]:
    """``count`` as the sum of as few numbers of at most ``most`` as there can be, of about one size."""
    n = -(-count // most)
    return tuple([count // n + (i < count % n) for i in range(n)])


def _starts(cuts: Sequence[int]) -> list[int]:
    return [0, *itertools.accumulate(cuts)][:-1]


def _lines(outer: Sequence[Dim]) -> np.ndarray:
    """[l, 1 + t]: the offset of line l in y, and of the line in x that it meets for t, or `NOWHERE`; without the lines
    that meet none.
    """
    own = sums(np.arange(d.window) * d.rhs_stride for d in outer)
    offsets, exists = lines_met(outer)
    table = np.column_stack([own, np.where(exists, offsets, NOWHERE)])
    return table[exists.any(axis=1)]


def _inside(last: Dim, first: int, count: int) -> tuple[int, int]:
    """First and end of the pixels that meet x for all of ``count`` taps from ``first`` on."""
    begin = -(-(last.low - first * last.stride) // last.rhs_dilation)
    end = (last.size - 1 + last.low - (first + count - 1) * last.stride) // last.rhs_dilation + 1
    begin = min(max(begin, 0), last.window)
    return begin, min(max(end, begin), last.window)


@dataclass(frozen=True)
class LaneWindow(Spec):
    """A step of lanes is ``vectors`` of ``lanes``; tiles are ``lines`` of t by ``taps`` of j; ``unit``: lanes are
    adjacent in the result.
    """

    dtype: str
    lanes: int
    vectors: int
    lines: tuple[int, ...]
    taps: tuple[int, ...]
    step: int
    tap_step: int
    unit: bool

    @property
    def width(self) -> int:
        return self.lanes * self.vectors

    @property
    def label(self) -> str:
        return f"lane_window_{self.dtype}_{sum(self.lines)}x{sum(self.taps)}"

    def write(self, s: Scalar) -> None:
        _Writer(self, s).write()


class _Writer(LaneWriter):
    def __init__(self, spec: LaneWindow, s: Scalar) -> None:
        super().__init__(spec, s)
        self.spec = spec
        self.n_lines, self.n_taps = sum(spec.lines), sum(spec.taps)

    def write(self) -> None:
        code, width = self.code, self.spec.width
        x, y, out, table, places, sums = (code.pointer_word() for _ in range(6))
        own_sums, parts, blocks, block, lanes, part_lines, lines, per_image = code.words(8)
        x_row, x_image, self.x_step, y_image, self.y_step = code.words(5)
        self.first, self.size, pixels, runs, self.run_pixels, lead = code.words(6)
        out_row, out_part, out_lane = code.words(3)
        inside = [code.words(2) for _ in self.spec.taps]
        self.sums = code.op(f"getelementptr i8, ptr {sums}, i64 {code.mul('%worker', own_sums)}")

        with code.loop("%begin", "%end") as task:
            outer, number = code.divmod(task, blocks)
            row, part = code.divmod(outer, parts)
            lane = code.mul(number, block)
            left = code.sub(lanes, lane)
            self.last = code.sub(left, str(width))
            self.steps = code.divmod(code.add(code.minimum(block, left), str(width - 1)), str(width))[0]
            sums_of_all = code.mul(self.steps, str(self.n_lines * self.n_taps * width))
            with code.loop("0", sums_of_all, self.spec.lanes) as at:
                self.put(self.zeros, self.sums, at)
            first_line = code.mul(part, part_lines)
            with code.loop(first_line, code.minimum(code.add(first_line, part_lines), lines)) as line:
                image, number = code.divmod(line, per_image)
                entry = code.mul(number, str(1 + self.n_lines))
                own, *found = (self.number(table, code.add(entry, str(k))) for k in range(1 + self.n_lines))
                at = code.add(lane, code.add(code.mul(row, x_row), code.mul(image, x_image)))
                self.x = code.element(self.kind, x, at)
                self.y = code.element(self.kind, y, code.add(lane, code.add(code.mul(image, y_image), own)))
                with code.loop("0", runs) as run:
                    begin = code.add(lead, code.mul(run, self.run_pixels))
                    end = code.minimum(code.add(begin, self.run_pixels), pixels)
                    begin = code.op(f"select i1 {self.compare('eq', run, '0')}, i64 0, i64 {begin}")
                    self.run(begin, end, found, inside)
            at = code.add(code.mul(lane, out_lane), code.add(code.mul(row, out_row), code.mul(part, out_part)))
            self.store(code.element(self.kind, out, at), places, out_lane)

    # ---- a run of pixels

    def run(self, begin: str, end: str, found: Sequence[str], inside: Sequence[Sequence[str]]) -> None:
        """All taps of the pixels; ``found``: where in x the lines are that they meet."""
        code = self.code
        alone = code.array("i64", self.n_lines)
        tiles: list[tuple[str, str, Sequence[str], str]] = []  # of several lines, which must all exist
        for t, count in zip(_starts(self.spec.lines), self.spec.lines):
            lines, whole = found[t : t + count], "false"
            if count > 1:
                whole = self.exists(lines[0])
                for line in lines[1:]:
                    whole = code.op(f"and i1 {whole}, {self.exists(line)}")
                newest = code.op(f"select i1 {self.exists(found[-1])}, i64 {found[-1]}, i64 {lines[-1]}")
                tiles.append((whole, str(t), lines, "" if tiles else newest))
            for i, line in enumerate(lines):
                single = code.op(f"select i1 {whole}, i64 {NOWHERE}, i64 {line}")
                self.set_number(single, alone, str(t + i))
        for j, count, (first, stop) in zip(_starts(self.spec.taps), self.spec.taps, inside):
            taps, full = range(j, j + count), (first, code.minimum(stop, end))
            for whole, number, lines, newest in tiles:
                with code.when(whole):
                    self.tile(begin, end, number, lines, taps, full, "" if j else newest)
            with code.loop("0", str(self.n_lines)) as number:
                line = self.number(alone, number)
                with code.when(self.exists(line)):
                    self.tile(begin, end, number, [line], taps, full, "" if j or tiles else line)

    def tile(
        self, begin: str, end: str, t: str, lines: Sequence[str], taps: range, full: tuple[str, str], newest: str
    ) -> None:
        """Some lines, the first of them number ``t``, and taps; ``full``: the pixels that meet x for all these taps;
        ``newest``: the line of x whose next run is fetched meanwhile, and y's; or nothing.
        """
        code, spec = self.code, self.spec
        sums = [[code.array(self.kind, spec.width) for _ in taps] for _ in lines]
        pixel = code.array("i64", 1)
        with code.loop("0", self.steps) as step:
            held = code.mul(code.add(code.mul(step, str(self.n_lines)), t), str(self.n_taps * spec.width))
            places = [
                [code.add(held, str((i * self.n_taps + j) * spec.width)) for j in taps] for i in range(len(lines))
            ]
            self.copy(self.sums, places, sums, into=True)
            lane = self.lane_of(step)
            x = [code.element(self.kind, self.x, code.add(line, lane)) for line in lines]
            y = code.element(self.kind, self.y, lane)
            ahead = []
            if newest:
                offset = code.mul(code.mul(self.run_pixels, str(spec.step)), self.x_step)
                ahead.append(code.element(self.kind, self.x, code.add(code.add(newest, lane), offset)))
                ahead.append(code.element(self.kind, y, code.mul(self.run_pixels, self.y_step)))
            self.set_number(begin, pixel, "0")
            with code.repeat(lambda: self.compare("slt", self.number(pixel, "0"), end)):
                w = self.number(pixel, "0")
                several = self.compare("sle", code.add(w, str(PIXELS)), full[1])
                several = code.op(f"and i1 {several}, {self.compare('sge', w, full[0])}")
                with code.when(several):
                    self.pixels(w, x, y, taps, sums, ahead)
                    self.set_number(code.add(w, str(PIXELS)), pixel, "0")
                with code.when(code.op(f"xor i1 {several}, true")):
                    self.pixel(w, x, y, taps, sums)
                    self.set_number(code.add(w, "1"), pixel, "0")
            self.copy(self.sums, places, sums, into=False)

    def pixels(
        self, w: str, x: Sequence[str], y: str, taps: range, sums: Sequence[Sequence[str]], ahead: Sequence[str]
    ) -> None:
        """`PIXELS` neighbours that meet x for all taps; ``ahead``: x and y where those of the next run are, or none."""
        code, spec = self.code, self.spec
        factors = []
        for u in range(PIXELS):
            at = code.mul(code.add(w, str(u)), self.y_step)
            factors.append(self.vectors(y, at))
            if ahead:
                self.fetch(ahead[1], at)
        meetings: dict[int, list[tuple[int, int]]] = {}
        for u, (c, j) in itertools.product(range(PIXELS), enumerate(taps)):
            meetings.setdefault(u * spec.step + j * spec.tap_step, []).append((u, c))
        start = code.add(self.first, code.mul(w, str(spec.step)))
        for position, meets in sorted(meetings.items()):
            at = code.mul(code.add(start, str(position)), self.x_step)
            for line, row in zip(x, sums):
                values = self.vectors(line, at)
                for u, c in meets:
                    self.accumulate(row[c], values, factors[u])
            if ahead and position > max(meetings) - PIXELS * spec.step:
                self.fetch(ahead[0], at)

    def pixel(self, w: str, x: Sequence[str], y: str, taps: range, sums: Sequence[Sequence[str]]) -> None:
        code, spec = self.code, self.spec
        factor = self.vectors(y, code.mul(w, self.y_step))
        start = code.add(self.first, code.mul(w, str(spec.step)))
        for c, j in enumerate(taps):
            position = code.add(start, str(j * spec.tap_step))
            with code.when(self.compare("ult", position, self.size)):
                at = code.mul(position, self.x_step)
                for line, row in zip(x, sums):
                    self.accumulate(row[c], self.vectors(line, at), factor)

    # ---- memory

    def store(self, out: str, places: str, out_lane: str) -> None:
        """The task's sums to where they belong."""
        code, spec = self.code, self.spec
        taps = self.n_lines * self.n_taps
        with code.loop("0", self.steps) as step:
            lane = self.lane_of(step)
            with code.loop("0", str(taps)) as tap:
                source = code.mul(code.add(code.mul(step, str(taps)), tap), str(spec.width))
                place = self.number(places, tap)
                if spec.unit:
                    to = code.add(place, lane)
                    for k, value in enumerate(self.vectors(self.sums, source)):
                        self.put(value, out, code.add(to, str(k * spec.lanes)))
                else:
                    with code.loop("0", str(spec.width)) as one:
                        held = code.element(self.kind, self.sums, code.add(source, one))
                        to = code.add(place, code.mul(code.add(lane, one), out_lane))
                        value = self.s.load(self.dtype, held, group=False)
                        self.s.store(value, code.element(self.kind, out, to), group=False)

    def copy(self, held: str, places: Sequence[Sequence[str]], sums: Sequence[Sequence[str]], into: bool) -> None:
        """A tile's sums, between scratch memory and registers."""
        for place, total in zip(itertools.chain(*places), itertools.chain(*sums)):
            source, target = ((held, place), (total, "0")) if into else ((total, "0"), (held, place))
            for k, value in enumerate(self.vectors(*source)):
                self.put(value, target[0], self.code.add(target[1], str(k * self.spec.lanes)))

    def exists(self, line: str) -> str:
        return self.compare("ne", line, str(NOWHERE))
