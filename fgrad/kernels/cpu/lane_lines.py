"""Convolutions lane by lane with a short window: depthwise layers, and the gradients of their inputs.

    out[n, q, l, o, k] = sum over u, t, j of x[n, plane(q, u), line(l, t), pixel(o, j), k] * w[u, t, j, k]

k are the groups; o, l and q are the result's positions along the last dimension, the one before it and all others; j, t
and u are the window's.  ``plane`` is a table, with only the u for which x has such a plane; of lines and pixels, where

    line(l, t) = (l*stride + t*rhs_dilation - low) / lhs_dilation                           (see `conv_geometry`)

a block of neighbours meets x in a way that is known when its code is written: it has a multiple of the period after
which the same taps are met, also of a strided layer's gradient.  The sums of a block of lines and pixels are in
registers while what it meets of x passes by, each of it loaded once.  So the result is written once, whole lines of
memory at a time, and all lanes of a block come before the next block, since they are what is adjacent in memory;
meanwhile what the next block is the first to meet is asked for.  Lines that x does not have are left out.  Blocks at
the ends of lines have code of their own, which reads zeros there and stores those of its pixels that exist.

A result that is too large to be found in the cache afterwards is stored ``around`` it (`Host.keeps`), so that memory
need not be read first: a third of the bytes that move.  That takes whole lines of the cache at once.  A block of which
results lie a multiple of a page apart is ``gathered`` first, and then stored pixel by pixel: where loads read the same
place of another page as such stores, they take up to eight times as long (Zen 3).

The words of ``args``, all offsets and strides in elements:

     0 x   1 w   2 out   3 table of planes: offset in out, number of planes met, offsets of each in x and in w
     4 blocks of lanes   5 units of lanes   6 lanes of a unit   7 planes of an image   8 words of one in the table
     9 blocks of lines   10 x's stride of an image   11 out's stride of an image
    12 to 17 of lines: x's, w's and out's stride, first line of x that the first block meets, lines of x, lines of out
    18 to 23 the same of pixels
    then, with an ``epilogue``: the address of its function, and that function's words

A task is (image, plane, block of lines, block of lanes), the last fastest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fgrad.kernels.builder import PlanBuilder, sums
from fgrad.kernels.cpu import gemm_tiles
from fgrad.kernels.cpu.conv_geometry import Dim, Geometry, lines_met
from fgrad.kernels.cpu.gemm_plan import GRAIN_WORK, epilogue_words
from fgrad.kernels.cpu.gemm_words import LINE
from fgrad.kernels.cpu.lanecode import ONE_LINE, Along, LaneSpec, LaneWriter
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value
from fgrad.kernels.layout import dtype_name
from fgrad.kernels.plan import Ptr, Word

MOST_TAPS = 7  # of a line; their weights are in registers
MOST_BLOCK = 8  # lines or pixels
PAGE = 1 << 12
LANE_BYTES = 1 << 10  # of a pixel, in a task: what a block reads stays in the L1 cache
BLOCK_WORK = 16  # of a block's own, in loads


def takes(dims: Sequence[Dim]) -> bool:
    """Whether a block holds a period of lines and pixels, and registers the weights of a line."""
    return dims[-1].window <= MOST_TAPS and all(d.period() <= MOST_BLOCK for d in dims[-2:])


def plan_lane_lines(builder: PlanBuilder, dtype: np.dtype, a: Ptr, b: Ptr, out: Ptr, geo: Geometry) -> None:
    """Of one feature a group, and groups adjacent in both operands and the result."""
    size, lanes = dtype.itemsize, len(geo.batches)
    *outer, line, last = ONE_LINE, *geo.dims
    table = _planes(outer)
    around = not gemm_tiles.host().keeps(geo.rows * geo.pixels * lanes * size)
    strides = (geo.out_row, line.out_stride, last.out_stride, *table[:, 0])
    around &= builder.epilogue is None and all(n * size % LINE == 0 for n in (lanes, *strides))
    blocks = -(-lanes * size // LANE_BYTES)
    spec = _spec(dtype, lanes, -(-lanes // blocks), line, last, builder.epilogue is not None, around)
    unit = LINE // size if around else spec.width if lanes % spec.width == 0 else 1
    lines = -(-line.out // spec.lines.block)
    args: list[Word] = [
        a, b, out, builder.table(table), blocks, lanes // unit, unit, len(table), table.shape[1], lines,
        geo.lhs_row, geo.out_row,
    ]  # fmt: skip
    for d in (line, last):
        args += d.lhs_stride, d.rhs_stride, d.out_stride, -(d.low // d.lhs_dilation), d.size, d.out
    if spec.epilogue:
        args += epilogue_words(builder, out, -(-lanes // blocks), size, 1)
    work = spec.lines.block * last.out * -(-lanes // blocks) * math.prod(d.window for d in geo.dims)
    extent = geo.rows * len(table) * lines * blocks
    builder.step(spec, args, extent, "conv by lane, along lines", -(-GRAIN_WORK // max(work, 1)))


def _spec(dtype: np.dtype, groups: int, task: int, line: Dim, last: Dim, epilogue: bool, around: bool) -> LaneLines:
    """Blocks of the least estimated work, of those whose sums fit into registers, and into the L1 cache what they meet
    in x, of ``task`` lanes, and what is asked for meanwhile; vectors of a step: one, or what a line of the cache has.
    """
    machine = gemm_tiles.host()
    lanes = min(machine.lanes(dtype.itemsize), 1 << (groups.bit_length() - 1))
    best, least = (1, Along.of(line, line.period()), Along.of(last, last.period()), around), math.inf
    for rows, columns in itertools.product(*(range(d.period(), MOST_BLOCK + 1, d.period()) for d in (line, last))):
        block = Along.of(line, rows), Along.of(last, columns)
        gathered = around and _meet(line, last, rows, columns, dtype.itemsize)
        vectors = LINE // (lanes * dtype.itemsize) if around and not gathered else 1
        weights, held = line.window * last.window, rows > 1  # of a plane, in registers
        if (rows * columns + (weights if held else last.window)) * vectors + 1 >= machine.registers:
            continue
        (lines, pixels), met = (list(d.meetings.values()) for d in block), block[0].advance * block[1].advance
        if (len(lines) * len(pixels) + met) * task * dtype.itemsize > gemm_tiles.L1_BYTES:
            continue
        loads = len(lines) * len(pixels) + rows * columns + (0 if held else weights)
        products = sum(map(len, lines)) * sum(map(len, pixels))
        passed = 2 * rows * columns if gathered else 0  # loads and stores
        work = loads + products + passed + BLOCK_WORK / vectors  # of a vector
        cost = -(-line.out // rows) * -(-last.out // columns) * work
        if cost < least:
            best, least = (vectors, *block, gathered), cost
    return LaneLines(dtype_name(dtype), lanes, *best, around, epilogue)


def _meet(line: Dim, last: Dim, rows: int, columns: int, size: int) -> bool:
    """Whether two results of a block lie a multiple of a page apart, or next to that."""
    places = itertools.product(range(rows), range(columns))
    offsets = sorted([(i * line.out_stride + o * last.out_stride) * size % PAGE for i, o in places])
    return any([b - a < 2 * LINE for a, b in zip(offsets, [*offsets[1:], offsets[0] + PAGE])])


def _planes(outer: Sequence[Dim]) -> np.ndarray:
    """The table, in the order of the result's planes."""
    own = sums(np.arange(d.out) * d.out_stride for d in outer)
    weights = sums(np.arange(d.window) * d.rhs_stride for d in outer)
    offsets, exists = lines_met(outer)
    table = np.zeros((len(own), 2 + 2 * len(weights)), np.int64)
    table[:, 0], table[:, 1] = own, exists.sum(axis=0)
    for row, found, met in zip(table, offsets.T, exists.T):
        row[2 : 2 + 2 * row[1] : 2], row[3 : 3 + 2 * row[1] : 2] = found[met], weights[met]
    return table


@dataclass(frozen=True)
class LaneLines(LaneSpec):
    """``gathered``, ``around``: how a block is stored; ``epilogue``: a function works on each of its finished lines."""

    lines: Along
    pixels: Along
    gathered: bool
    around: bool
    epilogue: bool

    @property
    def label(self) -> str:
        around = "_around" if self.around else ""
        return f"lane_lines_{self.dtype}_{self.lines.block}x{self.pixels.block}{around}"

    def write(self, s: Scalar) -> None:
        _Writer(self, s).write()


class _Words:
    """Of a dimension: x's, w's and out's stride, first place in x, size of x and of out; and the places a block meets,
    nearest and farthest.
    """

    def __init__(self, w: LaneWriter, along: Along) -> None:
        self.x, self.w, self.out, self.first, self.size, self.extent = w.code.words(6)
        self.along, self.met = along, along.meetings
        self.nearest, self.farthest = min(self.met, default=0), max(self.met, default=0)


class _Writer(LaneWriter):
    def __init__(self, spec: LaneLines, s: Scalar) -> None:
        super().__init__(spec, s)
        self.spec = spec
        self.held = spec.lines.block > 1  # the weights of a plane are in registers
        self.block = spec.lines.block * spec.pixels.block * self.width  # elements of a step

    def write(self) -> None:
        code = self.code
        x, w, out, table = (code.pointer_word() for _ in range(4))
        blocks, units, unit, planes, words, line_blocks, x_image, out_image = code.words(8)
        self.lines, self.pixels = (_Words(self, along) for along in (self.spec.lines, self.spec.pixels))
        self.after = self.epilogue() if self.spec.epilogue else None
        self.none = code.array(self.kind, self.width)
        for k in range(self.n_vectors):
            self.put(self.zeros, self.none, str(k * self.lanes))

        # how results are stored: around the cache or not, and when
        self.ways = [(False, "true")]
        if self.spec.around:
            rest = code.op(f"and i64 {code.op(f'ptrtoint ptr {out} to i64')}, {LINE - 1}")
            self.ways = [(False, self.compare("ne", rest, "0")), (True, self.compare("eq", rest, "0"))]
        if self.spec.gathered:
            self.gathered = code.array(self.kind, self.block // self.width * LANE_BYTES // self.dtype.itemsize)
        with code.loop("%begin", "%end") as task:
            number, block = code.divmod(task, blocks)
            number, line = code.divmod(number, line_blocks)
            image, plane = code.divmod(number, planes)
            lane, end = (
                code.mul(code.op(f"udiv i64 {code.mul(n, units)}, {blocks}"), unit)
                for n in (block, code.add(block, "1"))
            )
            self.n_lanes = code.sub(end, lane)
            self.last = code.sub(self.n_lanes, str(self.width))
            entry = code.element("i64", table, code.mul(plane, words))
            own, self.count = (self.number(entry, str(k)) for k in (0, 1))
            self.met = code.element("i64", entry, "2")
            self.line = code.mul(line, str(self.spec.lines.block))
            self.x_line = code.add(self.lines.first, code.mul(line, str(self.spec.lines.advance)))
            x_start = code.add(code.mul(image, x_image), code.mul(self.x_line, self.lines.x))
            start = code.add(own, code.add(code.mul(image, out_image), code.mul(self.line, self.lines.out)))
            self.x = code.element(self.kind, x, code.add(lane, x_start))
            self.w = code.element(self.kind, w, lane)
            self.out = code.element(self.kind, out, code.add(lane, start))
            self.block_of_lines()
        if self.spec.around:
            code.line("fence seq_cst")  # nothing else orders such stores

    def epilogue(self) -> Callable[[str, str], None]:
        """Reads its words; the returned function calls it for ``count`` pixels from ``to`` on."""
        code = self.code
        function, words = code.pointer_word(), code.following()
        runs = code.array("i64", 8)

        def call(to: str, count: str) -> None:
            address = code.op(f"ptrtoint ptr {to} to i64")
            table = code.op(f"ptrtoint ptr {code.element('i64', runs, '7')} to i64")
            step = code.mul(self.pixels.out, str(self.dtype.itemsize))
            for k, value in enumerate((address, count, self.n_lanes, address, table, "0", step, "0")):
                self.set_number(value, runs, str(k))
            code.line(f"call void {function}(ptr {words}, ptr {runs}, i64 0, i64 %worker)")

        return call

    def block_of_lines(self) -> None:
        """All blocks of pixels of a task's lines."""
        code, pixels = self.code, self.pixels
        block, advance = str(pixels.along.block), str(pixels.along.advance)
        steps = code.divmod(code.add(self.n_lanes, str(self.width - 1)), str(self.width))[0]
        lines_left = code.sub(self.lines.extent, self.line)
        blocks = code.divmod(code.add(pixels.extent, str(pixels.along.block - 1)), block)[0]
        with code.loop("0", blocks) as number:
            pixel = code.mul(number, block)
            self.place = code.add(pixels.first, code.mul(number, advance))
            pixels_left = code.sub(pixels.extent, pixel)
            out = code.element(self.kind, self.out, code.mul(pixel, pixels.out))
            # of the next block: of these lines, or the first one of the next lines
            last = self.compare("sle", pixels_left, block)
            line = code.op(f"select i1 {last}, i64 {self.spec.lines.advance}, i64 0")
            next_place = code.op(f"select i1 {last}, i64 {pixels.first}, i64 {code.add(self.place, advance)}")
            ahead = code.add(code.mul(line, self.lines.x), code.mul(next_place, pixels.x))
            whole = self.compare("sge", pixels_left, block)
            above = self.compare("sge", code.add(self.place, str(pixels.nearest)), "0")
            below = self.compare("slt", code.add(self.place, str(pixels.farthest)), pixels.size)
            whole = code.op(f"and i1 {whole}, {code.op(f'and i1 {above}, {below}')}")
            for taken, limit in ((whole, ""), (code.op(f"xor i1 {whole}, true"), pixels_left)):
                with code.when(taken), code.loop("0", steps) as step:
                    self.step(step, out, ahead, lines_left, limit)
            if self.spec.gathered:
                self.pass_on(steps, out, lines_left, pixels_left)
            if self.after is not None:
                for i in range(self.lines.along.block):
                    with code.when(self.compare("sgt", lines_left, str(i))):
                        to = code.element(self.kind, out, code.mul(self.lines.out, str(i)))
                        self.after(to, code.minimum(pixels_left, block))

    def step(self, step: str, out: str, ahead: str, lines_left: str, limit: str) -> None:
        """Some lanes of a block whose pixels all exist and meet nothing but x; or of which ``limit`` exist."""
        code, lines, pixels = self.code, self.lines, self.pixels
        lane = code.mul(step, str(self.width)) if self.spec.around else self.lane_of(step)
        shape = list(itertools.product(range(lines.along.block), range(pixels.along.block)))
        sums = {at: code.array(self.kind, self.width) for at in shape}
        for total, k in itertools.product(sums.values(), range(self.n_vectors)):
            self.put(self.zeros, total, str(k * self.lanes))
        inside = {}
        for place in pixels.met if limit else ():
            inside[place] = self.compare("ult", code.add(self.place, str(place)), pixels.size)
        with code.loop("0", self.count) as plane:
            offset, row = (self.number(self.met, code.add(code.mul(plane, "2"), str(k))) for k in (0, 1))
            source = code.element(self.kind, self.x, code.add(code.add(offset, lane), code.mul(self.place, pixels.x)))
            taps = code.element(self.kind, self.w, code.add(row, lane))
            weights = self.weights(taps, range(lines.along.taps)) if self.held else {}
            offsets = {place: code.mul(pixels.x, str(place)) for place in pixels.met}
            for line, of_line in lines.met.items():
                with code.when(self.compare("ult", code.add(self.x_line, str(line)), lines.size)):
                    if not self.held:
                        weights = self.weights(taps, [t for _, t in of_line])
                    start = code.element(self.kind, source, code.mul(lines.x, str(line)))
                    for place, of_pixel in pixels.met.items():
                        at = code.element(self.kind, start, offsets[place])
                        if limit:
                            at = code.op(f"select i1 {inside[place]}, ptr {at}, ptr {self.none}")
                        values = self.vectors(at, "0")
                        for (i, t), (o, j) in itertools.product(of_line, of_pixel):
                            self.accumulate(sums[i, o], values, weights[t, j])
        places = {o: code.mul(pixels.out, str(o)) for o in range(pixels.along.block)}
        new = itertools.product(*(range(d.farthest + 1 - d.along.advance, d.farthest + 1) for d in (lines, pixels)))
        for line, place in new:
            at = code.add(code.mul(lines.x, str(line)), code.mul(pixels.x, str(place)))
            for k in range(self.n_vectors):
                index = code.add(code.add(code.add(ahead, lane), at), str(k * self.lanes))
                code.prefetch(code.element(self.kind, self.x, index))
        if self.spec.gathered:
            to = code.mul(step, str(self.block))
            for number, total in enumerate(sums.values()):
                value = self.get(total, "0")
                self.put(value, self.gathered, code.add(to, str(number * self.width)))
            return
        for around, taken in self.ways:
            with code.when(taken):
                for i, o in shape:
                    exists = self.compare("sgt", lines_left, str(i))
                    if limit:
                        exists = code.op(f"and i1 {exists}, {self.compare('sgt', limit, str(o))}")
                    with code.when(exists):
                        to = code.add(code.mul(lines.out, str(i)), places[o])
                        for k, value in enumerate(self.vectors(sums[i, o], "0")):
                            self.put(value, out, code.add(code.add(to, lane), str(k * self.lanes)), around)

    def pass_on(self, steps: str, out: str, lines_left: str, pixels_left: str) -> None:
        """A gathered block, [step, line, pixel, width], to where it belongs, all lanes of a pixel at a time."""
        code, lines, pixels = self.code, self.lines, self.pixels
        n_lines, n_pixels = (str(d.along.block) for d in (lines, pixels))
        with (
            code.loop("0", code.minimum(lines_left, n_lines)) as i,
            code.loop("0", code.minimum(pixels_left, n_pixels)) as o,
        ):
            source = code.mul(code.add(code.mul(i, n_pixels), o), str(self.width))
            target = code.element(self.kind, out, code.add(code.mul(lines.out, i), code.mul(pixels.out, o)))
            steps_of_line = LINE // (self.width * self.dtype.itemsize)
            for around, taken in self.ways:
                with code.when(taken), code.loop("0", steps, steps_of_line) as first:
                    for step in (code.add(first, str(n)) for n in range(steps_of_line)):
                        value = self.get(self.gathered, code.add(source, code.mul(step, str(self.block))))
                        self.put(value, target, code.mul(step, str(self.width)), around)

    def weights(self, base: str, lines: Sequence[int]) -> dict[tuple[int, int], list[Value]]:
        """Of some lines of the window, by line and pixel."""
        found = {}
        for t, j in itertools.product(lines, range(self.pixels.along.taps)):
            at = self.code.add(self.code.mul(self.lines.w, str(t)), self.code.mul(self.pixels.w, str(j)))
            found[t, j] = self.vectors(base, at)
        return found
