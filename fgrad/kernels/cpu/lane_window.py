"""Convolutions lane by lane with a long window and a small result: the weights' gradient of a depthwise layer.

    out[t, j, k] = sum over images n, lines l, pixels w of
                   x[n, line(l, t), w*step + j*tap_step + first, k] * y[n, l, w, k]

k are the groups; l and w are the window's positions along the dimensions before the last one and along the last one, t
and j are the result's.  ``line`` is a table, which also says where x has no such line.

A tile of taps (t, j) has its sums in registers while a run of pixels passes by, of one or several neighbouring lines;
what several of them, and of neighbours in a line, meet of x is loaded once.  All lanes of a run come before the next
run, since they are what is adjacent in memory; meanwhile the memory of the next run is asked for, in its order.
Nothing beyond x is multiplied: lines that do not exist are left out, and pixels at a line's ends ask for each tap.  A
task adds up a part of the lines in scratch memory.  The words of ``args``, all offsets and strides in elements:

     0 x   1 y   2 out   3 table of blocks of lines (`_lines`)  4 table: offset in out of each tap
     5 scratch   6 its bytes   7 parts   8 blocks of lanes   9 lanes of a block   10 lanes
    11 blocks of lines of a part   12 of all   13 of an image
    14 x's strides of a row of the result,   15 of an image   16 and of a pixel   17 y's of an image   18 and of a pixel
    19 first   20 pixels of a line of x   21 and of y   22 runs   23 pixels of a run, run r > 0 begins at r * those + 24
    25 out's strides of a row,   26 of a part   27 and of a lane   28 x's and 29 y's of a line
    then for each cut of j: first and end of the pixels that meet all its taps

A task is (row of the result, part, block of lanes), the last fastest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fgrad.kernels.builder import PlanBuilder, sums
from fgrad.kernels.cpu import gemm_tiles
from fgrad.kernels.cpu.conv_geometry import Dim, Geometry, lines_met
from fgrad.kernels.cpu.gemm_plan import GRAIN_WORK, MIN_TASKS, PART_BYTES, no_epilogue, sum_parts
from fgrad.kernels.cpu.gemm_records import NOWHERE
from fgrad.kernels.cpu.gemm_words import LINE
from fgrad.kernels.cpu.lanecode import ONE_LINE, Along, LaneSpec, LaneWriter
from fgrad.kernels.cpu.nest import even_cut, even_parts
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value
from fgrad.kernels.layout import dtype_name
from fgrad.kernels.plan import Ptr, Word

PIXELS = (4, 3, 5)  # of a step
LINES = 10  # of x and y at a time; where they are a power of 2 apart, they meet in the same sets of a cache
CHAINS = 8  # sums that hide the latency of a multiply-add
MOST_TAPS = 128  # each is code of its own
LANE_BYTES = 1 << 10  # of a pixel, in a task
RUN_BYTES = 1 << 10  # of a line of y, in a run, which is as far ahead as memory is asked for
LEAST_RUN = (6, 8)  # pixels, of one line or of several: sums are read and written once a run
LONG_RUN = 16  # pixels of a run that the L1 cache does not hold anyway
LEAST_RUNS = 3  # of a line; else it is one run
ONE_BITS = 20  # of a binary fraction
PART_PIXELS = 128  # fewer of y do not repay adding another part


def plan_lane_window(
    builder: PlanBuilder, dtype: np.dtype, a: Ptr, b: Ptr, out: Ptr, geo: Geometry, dense: int
) -> None:
    """Of groups adjacent in both operands, and a last dimension that is not lhs-dilated; ``dense``: elements of the
    result if it is contiguous, else 0.
    """
    no_epilogue(builder)
    size, lanes, out_lane = dtype.itemsize, len(geo.batches), int(geo.batches[1, 2])
    *outer, line, last = ONE_LINE, *geo.dims
    if line.lhs_dilation > 1:  # neighbours do not meet the same taps
        outer, line = [*outer, line], ONE_LINE
    spec = _spec(dtype, geo, line, last, out_lane == 1)
    table = _lines(outer, line, spec.lines)
    block, blocks = even_cut(lanes, LANE_BYTES // size, spec.width)
    lines, taps = geo.features * len(table), math.prod(d.out for d in geo.dims)
    pixels = spec.lines.block * last.window
    work = pixels * block * taps  # multiply-adds of a block of lines
    parts = 1
    if dense and lines * blocks * geo.rows * work > 2 * GRAIN_WORK:
        wanted = -(-MIN_TASKS // (blocks * geo.rows))
        parts = max(1, min(wanted, lines * pixels // PART_PIXELS, PART_BYTES // (dense * size)))
    part_lines, parts = even_parts(lines, parts, blocks * geo.rows)
    run = _run(spec, last, block * size)
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
        geo.out_row, dense, out_lane, line.lhs_stride, line.rhs_stride, *itertools.chain(*inside),
    )  # fmt: skip
    grain = GRAIN_WORK // max(work * part_lines, 1)
    builder.step(spec, args, geo.rows * parts * blocks, "conv by lane, over the window", grain)
    if parts > 1:
        sum_parts(builder, target, out, parts, dense, dtype)


def _spec(dtype: np.dtype, geo: Geometry, line: Dim, last: Dim, unit: bool) -> LaneWindow:
    """The tiles of taps: as few as the registers allow; several vectors where a tile of one has too few sums; lines and
    pixels of the least estimated work.
    """
    machine = gemm_tiles.host()
    free = machine.registers - machine.registers // 8  # fewer left over, and LLVM spills some
    taps = _even(last.out, free - PIXELS[0])
    tiles = _even(math.prod(d.out for d in geo.dims[:-1]), (free - PIXELS[0]) // taps[0])
    lanes = min(machine.lanes(dtype.itemsize), 1 << (len(geo.batches).bit_length() - 1))
    vectors, sums = 1, tiles[0] * taps[0]
    while vectors * sums < CHAINS and 2 * vectors * lanes <= len(geo.batches):
        if 2 * vectors * (sums + PIXELS[0] + 1) >= machine.registers:
            break
        vectors *= 2
    first, end = _inside(last, 0, taps[0])
    met = (tiles[0] // line.out) * taps[0]  # sums of a line of the window

    def work(lines: Along, pixels: int) -> float:
        """Of a line: loads and products of those pixels that are taken together, and of the others."""
        steps, found = (end - first) // pixels, len(lines.meetings)
        places = len({u * last.rhs_dilation + j * last.stride for u in range(pixels) for j in range(taps[0])})
        products = sum(map(len, lines.meetings.values())) * max(met, 1)
        together = pixels * (lines.block + products) + found * places
        one = lines.block + products + 2 * found * taps[0]  # each asks whether there is such a tap
        return (steps * together + (last.window - steps * pixels) * one) / lines.block

    best, least = (Along.of_window(line, 1), PIXELS[0]), math.inf
    several = len(tiles) == len(taps) == 1
    for pixels, n in itertools.product(PIXELS, range(1, LINES) if several else (1,)):
        lines = Along.of_window(line, n)
        if line.window % n or n + len(lines.meetings) > LINES or (sums + n * pixels) * vectors + 1 > free:
            continue
        if (cost := work(lines, pixels)) < least:
            best, least = (lines, pixels), cost
    return LaneWindow(dtype_name(dtype), lanes, vectors, *best, tiles, taps, last.rhs_dilation, last.stride, unit)


def _run(spec: LaneWindow, last: Dim, lane_bytes: int) -> int:
    """Pixels of a line in a run.  Narrow steps share lines of the cache: the second one finds what the run meets in the
    L1 cache only if that holds it for all of ``lane_bytes``.
    """
    block, found = spec.lines.block, len(spec.lines.meetings)
    run = max(RUN_BYTES // lane_bytes, LEAST_RUN[block > 1] // block)
    of_x = (run - 1) * spec.step + (last.out - 1) * spec.tap_step + 1
    if spec.shares_lines and (found * of_x + block * run) * lane_bytes > gemm_tiles.L1_BYTES:
        run = LONG_RUN // block
    run = -(-run // spec.pixels) * spec.pixels
    return run if LEAST_RUNS * run <= last.window else last.window


def _even(count: int, most: int) -> tuple[int, ...]:
    """``count`` as the sum of as few numbers of at most ``most`` as there can be, of about one size."""
    n = -(-count // most)
    return tuple([count // n + (i < count % n) for i in range(n)])


def _starts(cuts: Sequence[int]) -> list[int]:
    return [0, *itertools.accumulate(cuts)][:-1]


def _lines(outer: Sequence[Dim], line: Dim, lines: Along) -> np.ndarray:
    """[block of lines, 1 + u * s]: its first line's offset in y, and in x that of each line it meets for each u, the
    taps of the dimensions before ``line``; or `NOWHERE`.
    """
    own = sums(np.arange(d.window) * d.rhs_stride for d in outer)
    planes, exist = lines_met(outer)
    blocks = np.arange(line.window // lines.block)
    index = np.add.outer(blocks * lines.advance - line.low // line.lhs_dilation, list(lines.meetings))
    met = exist[:, None, :, None] & ((index >= 0) & (index < line.size))[None, :, None, :]
    offsets = planes[:, None, :, None] + (index * line.lhs_stride)[None, :, None, :]
    starts = sums([own, blocks * (lines.block * line.rhs_stride)])
    return np.column_stack([starts, np.where(met, offsets, NOWHERE).reshape(len(starts), -1)])


def _inside(last: Dim, first: int, count: int) -> tuple[int, int]:
    """First and end of the pixels that meet x for all of ``count`` taps from ``first`` on."""
    begin = -(-(last.low - first * last.stride) // last.rhs_dilation)
    end = (last.size - 1 + last.low - (first + count - 1) * last.stride) // last.rhs_dilation + 1
    begin = min(max(begin, 0), last.window)
    return begin, min(max(end, begin), last.window)


@dataclass(frozen=True)
class LaneWindow(LaneSpec):
    """``lines`` of y and ``pixels`` of each are taken at a time; tiles are ``tiles`` of t by ``taps`` of j; ``unit``:
    lanes are adjacent in the result.
    """

    lines: Along
    pixels: int
    tiles: tuple[int, ...]
    taps: tuple[int, ...]
    step: int
    tap_step: int
    unit: bool

    @property
    def label(self) -> str:
        return f"lane_window_{self.dtype}_{sum(self.tiles)}x{sum(self.taps)}"

    @property
    def shares_lines(self) -> bool:
        """Whether a line of the cache has lanes of several steps."""
        return self.width * np.dtype(self.dtype).itemsize < LINE

    def write(self, s: Scalar) -> None:
        _Writer(self, s).write()


class _Line(NamedTuple):
    """Of x: whether it exists, where it is; the lines of y that it meets, and the sums."""

    exists: str
    base: str
    meets: list[tuple[int, list[str]]]


class _Writer(LaneWriter):
    def __init__(self, spec: LaneWindow, s: Scalar) -> None:
        super().__init__(spec, s)
        self.spec = spec
        self.n_lines, self.n_taps = sum(spec.tiles), sum(spec.taps)
        # of each line of x that a block meets: whether it is the first block to do so; the lines of y, and t, it meets
        self.met: list[tuple[bool, list[tuple[int, int]]]] = []
        farthest = max(spec.lines.meetings)
        for u in range(0, self.n_lines, spec.lines.taps):
            for place, meets in spec.lines.meetings.items():
                self.met.append((place > farthest - spec.lines.advance, [(i, u + t) for i, t in meets]))

    def write(self) -> None:
        code, width = self.code, self.spec.width
        x, y, out, table, places, sums = (code.pointer_word() for _ in range(6))
        own_sums, parts, blocks, block, lanes, part_lines, lines, per_image = code.words(8)
        x_row, x_image, self.x_step, y_image, self.y_step = code.words(5)
        self.first, self.size, pixels, runs, self.run_pixels, lead = code.words(6)
        out_row, out_part, out_lane, self.x_line, self.y_line = code.words(5)
        inside = [code.words(2) for _ in self.spec.taps]
        self.sums = code.op(f"getelementptr i8, ptr {sums}, i64 {code.mul('%worker', own_sums)}")

        with code.loop("%begin", "%end") as task:
            outer, number = code.divmod(task, blocks)
            row, part = code.divmod(outer, parts)
            lane = code.mul(number, block)
            left = code.sub(lanes, lane)
            self.last = code.sub(left, str(width))
            self.task_lanes = code.minimum(block, left)
            self.steps = code.divmod(code.add(self.task_lanes, str(width - 1)), str(width))[0]
            self.part_of_step = code.divmod(code.add(str((1 << ONE_BITS) - 1), self.steps), self.steps)[0]
            sums_of_all = code.mul(self.steps, str(self.n_lines * self.n_taps * width))
            with code.loop("0", sums_of_all, self.spec.lanes) as at:
                self.put(self.zeros, self.sums, at)
            first_line = code.mul(part, part_lines)
            with code.loop(first_line, code.minimum(code.add(first_line, part_lines), lines)) as line:
                image, number = code.divmod(line, per_image)
                entry = code.mul(number, str(1 + len(self.met)))
                own, *found = (self.number(table, code.add(entry, str(k))) for k in range(1 + len(self.met)))
                at = code.add(lane, code.add(code.mul(row, x_row), code.mul(image, x_image)))
                self.x = code.element(self.kind, x, at)
                self.y = code.element(self.kind, y, code.add(lane, code.add(code.mul(image, y_image), own)))
                with code.loop("0", runs) as run:
                    begin = code.add(lead, code.mul(run, self.run_pixels))
                    end = code.minimum(code.add(begin, self.run_pixels), pixels)
                    begin = code.op(f"select i1 {self.compare('eq', run, '0')}, i64 0, i64 {begin}")
                    self.run(begin, end, self.compare("slt", end, pixels), found, inside)
            at = code.add(code.mul(lane, out_lane), code.add(code.mul(row, out_row), code.mul(part, out_part)))
            self.store(code.element(self.kind, out, at), places, out_lane)

    # ---- a run of pixels

    def run(self, begin: str, end: str, more: str, found: Sequence[str], inside: Sequence[Sequence[str]]) -> None:
        """All taps of the pixels; ``more``: whether the lines have more of them; ``found``: where in x the lines are
        that they meet.
        """
        code, spec = self.code, self.spec

        def ahead(x_or_y: str, lines: int, line: str, step: int) -> str:
            """How far the next run is, of these lines or of the next block of them."""
            here = code.mul(code.mul(self.run_pixels, str(step)), x_or_y)
            back = code.mul(code.mul(begin, str(step)), x_or_y)
            return code.op(f"select i1 {more}, i64 {here}, i64 {code.sub(code.mul(line, str(lines)), back)}")

        next_run = (
            ahead(self.x_step, spec.lines.advance, self.x_line, spec.step),
            ahead(self.y_step, spec.lines.block, self.y_line, 1),
        )
        for j, count, (first, stop) in zip(_starts(spec.taps), spec.taps, inside):
            taps, full = range(j, j + count), (first, code.minimum(stop, end))
            for t, lines in zip(_starts(spec.tiles), spec.tiles):
                self.tile(begin, end, found, range(t, t + lines), taps, full, () if j or t else next_run)

    def tile(
        self,
        begin: str,
        end: str,
        found: Sequence[str],
        lines: range,
        taps: range,
        full: tuple[str, str],
        ahead: Sequence[str],
    ) -> None:
        """Of some t and j; ``full``: the pixels that meet x for all these taps; ``ahead``: how far in x and in y the
        run is that is fetched meanwhile, or nothing.
        """  # fmt: skip
        code, spec = self.code, self.spec
        sums = [[code.array(self.kind, spec.width) for _ in taps] for _ in lines]
        pixel = code.array("i64", 1)
        with code.loop("0", self.steps) as step:
            held = code.mul(step, str(self.n_lines * self.n_taps * spec.width))
            places = [[code.add(held, str((t * self.n_taps + j) * spec.width)) for j in taps] for t in lines]
            self.copy(self.sums, places, sums, into=True)
            lane = self.lane_of(step)
            x = []
            for line, (_, meets) in zip(found, self.met):
                if here := [(i, sums[t - lines.start]) for i, t in meets if t in lines]:
                    base = code.element(self.kind, self.x, code.add(line, lane))
                    x.append(_Line(self.exists(line), base, here))
            y_lines = [code.element(self.kind, self.y, code.mul(self.y_line, str(i))) for i in range(spec.lines.block)]
            y = [code.element(self.kind, line, lane) for line in y_lines]
            if ahead:
                self.fetch_share(step, begin, end, found, y_lines, ahead)
            self.set_number(begin, pixel, "0")
            with code.repeat(lambda: self.compare("slt", self.number(pixel, "0"), end)):
                w = self.number(pixel, "0")
                several = self.compare("sle", code.add(w, str(spec.pixels)), full[1])
                several = code.op(f"and i1 {several}, {self.compare('sge', w, full[0])}")
                with code.when(several):
                    self.pixels(w, x, y, taps)
                    self.set_number(code.add(w, str(spec.pixels)), pixel, "0")
                with code.when(code.op(f"xor i1 {several}, true")):
                    self.pixel(w, x, y, taps)
                    self.set_number(code.add(w, "1"), pixel, "0")
            self.copy(self.sums, places, sums, into=False)

    def fetch_share(
        self, step: str, begin: str, end: str, found: Sequence[str], y: Sequence[str], ahead: Sequence[str]
    ) -> None:
        """Asks for a step's share of the next run, in the order of memory: all lanes of some of its pixels."""
        code, spec = self.code, self.spec
        pixels, line = code.sub(end, begin), LINE // self.dtype.itemsize
        low, high = (code.add(begin, self.share(pixels, at)) for at in (step, code.add(step, "1")))
        newest = (self.n_taps - 1) * spec.tap_step + 1 - spec.step  # first new pixel of x for another of y

        def fetch(start: str, pixel: str, stride: str) -> None:
            first = code.mul(pixel, stride)
            with code.loop(first, code.add(first, self.task_lanes), line) as at:
                code.prefetch(code.element(self.kind, start, at))

        with code.loop(low, high) as w:
            for start in y:
                fetch(code.element(self.kind, start, ahead[1]), w, self.y_step)
            first = code.add(code.add(self.first, str(newest)), code.mul(w, str(spec.step)))
            for offset in (offset for offset, (new, _) in zip(found, self.met) if new):
                with code.when(self.exists(offset)):
                    start = code.element(self.kind, self.x, code.add(offset, ahead[0]))
                    for u in range(spec.step):
                        fetch(start, code.add(first, str(u)), self.x_step)

    def share(self, pixels: str, step: str) -> str:
        """``pixels * step / steps``, without a division."""
        return self.code.op(f"lshr i64 {self.code.mul(self.code.mul(pixels, step), self.part_of_step)}, {ONE_BITS}")

    def pixels(self, w: str, x: Sequence[_Line], y: Sequence[str], taps: range) -> None:
        """Neighbours that meet x for all taps."""
        code, spec = self.code, self.spec
        factors: dict[tuple[int, int], list[Value]] = {}
        start = code.mul(w, self.y_step)
        for u in range(spec.pixels):
            at = code.add(start, code.mul(self.y_step, str(u)))
            for i, line in enumerate(y):
                factors[i, u] = self.vectors(line, at)
        meetings: dict[int, list[tuple[int, int]]] = {}
        for u, (c, j) in itertools.product(range(spec.pixels), enumerate(taps)):
            meetings.setdefault(u * spec.step + j * spec.tap_step, []).append((u, c))
        start = code.mul(code.add(self.first, code.mul(w, str(spec.step))), self.x_step)
        offsets = {position: code.mul(self.x_step, str(position)) for position in sorted(meetings)}
        for met in x:
            with code.when(met.exists):
                base = code.element(self.kind, met.base, start)
                for position, offset in offsets.items():
                    values = self.vectors(base, offset)
                    for (u, c), (i, sums) in itertools.product(meetings[position], met.meets):
                        self.accumulate(sums[c], values, factors[i, u])

    def pixel(self, w: str, x: Sequence[_Line], y: Sequence[str], taps: range) -> None:
        code, spec = self.code, self.spec
        factors = [self.vectors(line, code.mul(w, self.y_step)) for line in y]
        start = code.add(self.first, code.mul(w, str(spec.step)))
        for c, j in enumerate(taps):
            position = code.add(start, str(j * spec.tap_step))
            with code.when(self.compare("ult", position, self.size)):
                at = code.mul(position, self.x_step)
                for line in x:
                    with code.when(line.exists):
                        values = self.vectors(line.base, at)
                        for i, sums in line.meets:
                            self.accumulate(sums[c], values, factors[i])

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
