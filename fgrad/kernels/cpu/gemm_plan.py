"""Plans one batch-reduce product: from records of rows and a description of B to steps over the ``gemm`` kernels.

    out[batch][row][k] = sum over g, s, c of A[batch](row; g, s, c) * B[batch](g, s, c)[k]

or, where A's rows are "lanes", with A[batch](row; g, s, c)[k], whose columns are adjacent.

`conv` and `dot` say where A's rows, B's rows and the results lie (in elements); this module chooses the tile, packs
B where that pays, and cuts the work into tasks.  Nothing here depends on the number of threads, so neither do results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fgrad.kernels.builder import ZERO, PlanBuilder, advance
from fgrad.kernels.cpu import gemm_tiles
from fgrad.kernels.cpu.epilogue import Epilogue, Unfused, of_cast
from fgrad.kernels.cpu.gemm_records import NOWHERE, Records
from fgrad.kernels.cpu.gemm_words import LINE
from fgrad.kernels.cpu.nest import even_cut, even_parts
from fgrad.kernels.cpu.tile_spec import ARows
from fgrad.kernels.layout import Layout, dtype_name
from fgrad.kernels.plan import KernelPlan, Ptr, Word

CHUNK_BYTES = 1 << 19  # of B worked on at a time: under half an L2 cache
TASK_WORK = 1 << 19  # multiply-adds of a task where there are enough: some 10 microseconds
GRAIN_WORK = 1 << 17  # and the least worth another thread
MIN_TASKS = 16  # the reduction is split until there are so many
PART_BYTES = 1 << 22  # bound on partial results
PACKED_ROWS = 1024  # more rows of A always repay packing B
NEAR_BYTES = 1 << 15  # of B in a chunk of taps (measured: half of it and twice as much are slower)
LEAST_RUN = 64  # bytes of adjacent results that repay an epilogue (LeNet's first layer, 24: slower by a fifth)
LANE_CHUNK = 32  # taps that each panel of a product by lane passes over before the next ones
LEAST_BLOCK = 4  # row tiles that share a panel of B, in a task of several panels
LINES_BYTES = 1 << 17  # of the result in a task of a product by lane
PACK_RUN = 64  # of a run, in a task that packs B; a multiple of every fold
SUM_SHARE = 4096  # elements of a task that sums parts


ONE_BATCH = np.zeros((1, 3), np.int64)


class Operand(NamedTuple):
    """B: element [g, s, c, k] at ``base + batch offset + g*g_stride + taps[s] + run[c] + k*column``, in elements.

    The run begins at 0, is ``last_run`` long in the last g, and has a constant ``run_stride`` or None.
    """

    base: Ptr
    g_stride: int
    taps: np.ndarray
    run: np.ndarray
    run_stride: int | None
    column: int
    last_run: int


def even_run(count: int, stride: int) -> tuple[np.ndarray, int]:
    """A run of B and its stride, which is 0 where there is none."""
    return np.arange(count) * stride, stride if count > 1 else 0


class Product(NamedTuple):
    """See the module's formula. Row r of a record is pixel r % pixels of repeat r // pixels; ``in_stride`` and
    ``out_stride`` are those of a repeat. ``batches``: int64 [n, 3], element offsets of A, B and out; ``a_run``: A's
    stride of c; ``run_step``: B's rows from c to c+1; ``out_size``: elements of the whole result, which must then be
    dense, or 0: never split the reduction; ``places``: the out offset of each column, or `NOWHERE`, in place of
    ``out_column``; ``turned``: there are places, rows of the result are adjacent, and the reduction is of one g;
    ``whole``: nothing may be read where rows of A beyond the last would be.
    """

    dtype: np.dtype
    a: Ptr
    b: Operand
    out: Ptr
    columns: int
    out_column: int
    records: Records
    g_count: int
    a_g_stride: int
    a_run: int
    out_size: int
    repeats: int = 1
    in_stride: int = 0
    out_stride: int = 0
    run_step: int = 1
    places: np.ndarray | None = None
    a_rows: ARows = "apart"
    turned: bool = False
    whole: bool = False
    batches: np.ndarray = ONE_BATCH
    note: str = "product"


def plan_product(builder: PlanBuilder, product: Product) -> None:
    """Appends the steps of one product (at least one row, column and batch; the reduction may be empty)."""
    p, records, size = product, product.records, product.dtype.itemsize
    reduction, every_tap = records.reduction, records.every_tap
    steps = max(reduction, 1)
    rows = [(pixels * p.repeats, count) for pixels, count in records.sizes]
    all_rows = len(records.rows) * p.repeats
    folds = _folds(p, all_rows)
    tile, _ = gemm_tiles.choose(rows, p.columns, reduction * p.g_count, size, p.a_rows, p.whole, folds)
    tile = tile.reading("together" if p.a_rows == "apart" and every_tap else p.a_rows, p.turned)
    width = tile.columns
    panels = -(-p.columns // width)
    tiles = sum([-(-n // tile.mr) * count for n, count in rows])

    run = p.b.run_stride or 0
    if _in_place(p, width, all_rows):
        b = p.b.base
        b_words = _BWords(
            p.b.g_stride * size, p.run_step * run * size, width * size, None, p.b.taps * size,
            run * size,
        )  # fmt: skip
    else:
        b, b_words = _pack(builder, p, tile, panels)

    if p.a_rows == "apart" and p.a_run == 1 and b_words.run == tile.nv * tile.vl * size:
        tile = tile._replace(a_step=tile.fold)

    # Splits of the reduction, by shape alone: until there are MIN_TASKS tasks, while partial results stay small.
    work = all_rows * width * steps  # multiply-adds for one g, panel and batch
    s_most = max(1, records.most_taps)
    s_chunk, panels_each = (LANE_CHUNK, panels) if _together(p, s_most) else (s_most, 1)
    wanted = -(-MIN_TASKS // (panels // panels_each * len(p.batches)))
    splits = 1
    tall = tiles < wanted or (p.g_count > 1 and p.g_count * reduction > 8 * all_rows)
    if p.out_size and tall and work * p.g_count * panels * len(p.batches) > 2 * GRAIN_WORK:
        splits = max(1, min(wanted, p.g_count, PART_BYTES // (p.out_size * size)))
    g_split, splits = even_parts(p.g_count, splits, panels // panels_each * len(p.batches))
    tile_work, chunk_bytes = tile.mr * width * steps * g_split, steps * width * size
    # Panels of a task pass over its rows of A in turn, which only the first finds outside of the cache: as many as stay
    # in the cache too from task to task, and leave tasks enough.
    in_turn = p.a_rows == "apart" and p.g_count == 1
    if in_turn:
        enough = tiles * panels * len(p.batches) // (4 * MIN_TASKS * LEAST_BLOCK)
        panels_each = max(1, min(CHUNK_BYTES // chunk_bytes, enough))
    panels_each, groups = even_cut(panels, panels_each, 1)
    # Row tiles of a task: enough to be worth a task; where the reduction is chunked, all of them share a chunk of B.
    least, each = (LEAST_BLOCK, panels_each) if in_turn and panels_each > 1 else (1, 1)
    block = max(least, TASK_WORK // (tile_work * each), -(-tiles * groups * splits * len(p.batches) // 4096))
    block = min(tiles, block)
    if p.a_rows == "lanes":  # the panels of a block follow each other: what they share of its lines stays in the cache
        block = max(1, min(block, LINES_BYTES // (tile.mr * p.columns * size)))
    if splits > 1:
        block = -(-tiles // -(-wanted // splits))
    if g_split > 1:
        block = max(block, min(tiles, -(-tiles // wanted)))
    # of B; the other half: A, which rows may share
    g_chunk = max(1, min(g_split, CHUNK_BYTES // 2 // chunk_bytes)) if s_chunk == s_most else 1
    blocks = -(-tiles // block)
    # Where a run walks over lines of A, tiles of neighbouring rows share those: few enough taps to keep them in L1.  So
    # few, too, where B is more than a chunk: else it comes from memory for each tile of the block.
    by_line = abs(p.a_run) * size >= LINE and p.a_rows == "apart"
    far = chunk_bytes > CHUNK_BYTES // 2 and p.a_rows != "lanes" and not p.turned
    if block > 1 and (by_line or far):
        # groups leave gaps in the runs, whose lines then meet in few of the cache's sets
        apart = (p.batches[:, 1] != p.batches[0, 1]).any()  # images share B, groups do not
        step = max(width, abs(run)) if apart else width
        s_chunk = min(s_most, max(1, NEAR_BYTES // (step * size * max(1, records.longest))))
        g_chunk = g_chunk if s_chunk == s_most else 1

    out, part = p.out, 0
    if splits > 1:
        out, part = builder.temp(splits * p.out_size * size), p.out_size * size
    tables = _tables(builder, p, tile, b_words)
    extent = len(p.batches) * splits * blocks * groups
    args: tuple[Word, ...] = (
        p.a, b, out, tables[2] if every_tap else _zero_row(builder, p, width * size), *tables,
        groups, blocks, splits, block, tiles, p.g_count, g_split, g_chunk,
        p.a_g_stride * size, b_words.g_stride, tile.fold * p.a_run * size, b_words.run,
        b_words.panel, p.columns, p.out_column * size, part, tile.mr, width, p.a_rows == "lanes",
        *tile.specs(p.dtype, p.columns), s_most, s_chunk,
        *_places(builder, p, panels * width), panels_each, *_epilogue_words(builder, p, splits),
    )  # fmt: skip
    assert not (p.turned and (g_split > 1 or splits > 1 or s_chunk < s_most))
    grain = GRAIN_WORK // max(tile_work * block * panels_each, 1)
    builder.step(tile.kernel(p.dtype), args, extent, p.note, grain)
    if splits > 1:
        sum_parts(builder, out, p.out, splits, p.out_size, p.dtype)


def sum_parts(builder: PlanBuilder, parts: Ptr, out: Ptr, count: int, size: int, dtype: np.dtype) -> None:
    """The sum of ``count`` results of ``size`` elements, which lie one behind the other."""
    args = (out, parts, count, size, SUM_SHARE)
    grain = -(-(1 << 14) // (SUM_SHARE * count))
    builder.step(f"gemm_sum_{dtype_name(dtype)}", args, -(-size // SUM_SHARE), "sum of parts", grain)


def _together(p: Product, taps: int) -> bool:
    """Whether a task has all panels of a product by lane, which lie side by side in memory: where it has many taps, and
    the reduction gives tasks enough.
    """
    parts = MIN_TASKS * p.out_size * p.dtype.itemsize
    return p.a_rows == "lanes" and taps > LANE_CHUNK and p.g_count >= MIN_TASKS and 0 < parts <= PART_BYTES


def _zero_row(builder: PlanBuilder, p: Product, panel_bytes: int) -> Ptr:
    """Where rows that lie outside of A are read: zeros as far as a run of A reaches, in its direction, and a panel."""
    reach = (max(p.records.longest, 1) - 1) * abs(p.a_run) * p.dtype.itemsize
    zeros = builder.table(np.zeros((reach + panel_bytes) // 8 + 2, np.int64))
    return zeros if p.a_run >= 0 else advance(zeros, reach)


def _places(builder: PlanBuilder, p: Product, columns: int) -> tuple[Word, Word]:
    """The table of places, with -1 up to the last panel's end, and whether the tile reads it."""
    if p.places is None:
        return 0, 0
    table = np.full(columns, -1)
    table[: len(p.places)] = np.where(p.places == NOWHERE, -1, p.places * p.dtype.itemsize)
    return builder.table(table), p.turned


class _BWords(NamedTuple):
    """B as the kernel reads it, in bytes: strides of g, c and panel; offsets of batches and taps; and
    the distance of neighbouring rows of a run (``run`` is that times run_step).
    """

    g_stride: int
    run: int
    panel: int
    batches: np.ndarray | None  # where they are the product's
    taps: np.ndarray
    neighbour: int


def folds_of(rows: int, *runs: int) -> tuple[int, ...]:
    """How many neighbours of runs of such lengths, adjacent in A, a tile may take at once: all runs are cut without a
    rest, and so many rows share B that it is packed.
    """
    common = math.gcd(*runs)
    return tuple([fold for fold in (1, 2, 4) if common % fold == 0]) if rows > PACKED_ROWS else (1,)


def _folds(p: Product, rows: int) -> tuple[int, ...]:
    if p.a_run != 1 or p.a_rows != "apart" or p.places is not None:
        return (1,)
    return folds_of(rows, len(p.b.run), p.records.divisor)


def _in_place(p: Product, width: int, rows: int) -> bool:
    """Whether B is read where it lies: columns adjacent, runs affine, whole vectors (or masked loads); and too few rows
    of A to repay the packing, which makes B aligned and its rows adjacent (unaligned loads cost a third of the speed).
    """
    run = p.b.run_stride
    if (p.b.column != 1 and p.columns > 1) or run is None:
        return False
    if p.columns % width and not gemm_tiles.host().masks:
        return False
    return rows <= (PACKED_ROWS if abs(run) * p.dtype.itemsize <= 1024 else 96)


def _pack(builder: PlanBuilder, p: Product, tile: gemm_tiles.Tile, panels: int) -> tuple[Ptr, _BWords]:
    starts, which = p.batches[:, 1], ZERO
    if len(starts) > 1:
        starts, which = np.unique(starts, return_inverse=True)  # batches may share B
    width = tile.columns
    b = pack(builder, p.dtype.itemsize, p.b, p.columns, width, p.g_count, starts, tile.fold)
    row = width * p.dtype.itemsize
    s_count, c_count = len(p.b.taps), len(p.b.run)
    g_stride = s_count * c_count * row
    panel = p.g_count * g_stride
    taps = np.arange(s_count) * (c_count * row)
    return b, _BWords(g_stride, tile.fold * p.run_step * row, panel, which.ravel() * (panels * panel), taps, row)


def pack(
    builder: PlanBuilder,
    size: int,
    b: Operand,
    columns: int,
    width: int,
    g_count: int = 1,
    starts: np.ndarray = ZERO,
    fold: int = 1,
    beyond: int = 0,
) -> Ptr:
    """A copy [start][panel][g][s][c / fold][width][fold] of B, whose elements have ``size`` bytes; zeros fill up the
    last panel.  ``beyond``: elements that may be read behind it.
    """
    s_count, c_count = len(b.taps), len(b.run)
    panels = -(-columns // width)
    to = builder.temp((len(starts) * panels * g_count * s_count * c_count * width + beyond) * size)
    args = (
        to, b.base, builder.table(starts * size), builder.table(np.add.outer(b.taps, b.run) * size),
        panels, g_count, b.g_stride * size, s_count, c_count, b.last_run, width, columns, b.column * size, fold,
        PACK_RUN,
    )  # fmt: skip
    tasks = len(starts) * panels * g_count * s_count * -(-c_count // PACK_RUN)
    builder.step(f"gemm_pack_{size}", args, tasks, "pack", (1 << 13) // max(min(c_count, PACK_RUN) * width, 1))
    return to


def _tables(builder: PlanBuilder, p: Product, tile: gemm_tiles.Tile, b: _BWords) -> list[Ptr]:
    """The tables of records, rows, taps of A, taps of B, and batches (`gemm_words`)."""
    size, records, repeats, mr, fold = p.dtype.itemsize, p.records, p.repeats, tile.mr, tile.fold
    in_stride, out_stride, neighbour = p.in_stride * size, p.out_stride * size, b.neighbour
    words: list[int] = []
    tiles = 0
    for pixels, first_row, first_tap, tap_step, by_row, first_b_tap, c_first, taps, c_count, c_last in records.heads:
        rows = pixels * repeats
        tiles += -(-rows // mr)
        words += (
            tiles, 0, 0, rows, pixels, in_stride, out_stride, first_row, first_tap, tap_step,
            by_row, first_b_tap, c_first * neighbour, taps, c_count // fold, c_last // fold,
        )  # fmt: skip
    a_taps = records.a_taps * size
    if not records.every_tap:
        a_taps[records.a_taps == NOWHERE] = -1
    batches = p.batches * size
    if b.batches is not None:
        batches[:, 1] = b.batches
    return builder.tables(
        [np.array(words)], [records.rows * size], [ZERO, a_taps], [ZERO, b.taps[records.taps]], [batches]
    )


def fill_zeros(builder: PlanBuilder, out: Ptr, size: int, dtype: np.dtype) -> None:
    """A result without any product to add: the sum of no parts."""
    no_epilogue(builder)
    builder.step(f"gemm_sum_{dtype_name(dtype)}", (out, out, 0, size, SUM_SHARE), -(-size // SUM_SHARE), "zeros", 4)


def no_epilogue(builder: PlanBuilder) -> None:
    """Says that what comes next has no tiles."""
    if builder.epilogue is not None:
        raise Unfused


def _epilogue_words(builder: PlanBuilder, p: Product, splits: int) -> tuple[Word, ...]:
    if builder.epilogue is None:
        return (0,)
    if not (p.turned or (p.places is None and (p.out_column == 1 or p.columns == 1))):
        raise Unfused
    run = max(p.records.sizes)[0] * p.repeats if p.turned else p.columns
    return epilogue_words(builder, p.out, run, p.dtype.itemsize, splits)


def epilogue_words(builder: PlanBuilder, out: Ptr, run: int, itemsize: int, splits: int) -> tuple[Word, ...]:
    """Of an epilogue of tiles with up to ``run`` adjacent results."""
    if builder.epilogue is None:
        return (0,)
    repays_epilogue(builder, run, itemsize)
    if splits > 1:
        raise Unfused
    return builder.epilogue.words(out, run)


def repays_epilogue(builder: PlanBuilder, run: int, itemsize: int) -> None:
    """Says that at most ``run`` results of what comes next are adjacent in a tile."""
    if builder.epilogue is not None and run * itemsize < LEAST_RUN:
        raise Unfused


def blocks_of(count: int, row_bytes: int) -> tuple[int, int, int]:
    """(g, c, last c): a reduction of ``count`` rows of B in chunks of CHUNK_BYTES, all alike but the last."""
    c = max(16, CHUNK_BYTES // max(row_bytes, 1))
    g = max(1, -(-count // c))
    c = max(-(-count // g), 1)
    g = max(1, -(-count // c))
    return g, min(c, count) if g == 1 else c, count - (g - 1) * c


#: Result dtype -> dtype computed in.
COMPUTE = {
    "float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64",
    "int8": "int32", "int16": "int32", "int32": "int32", "int64": "int64",
    "uint8": "int32", "uint16": "int32", "uint32": "int32", "uint64": "int64",
}  # fmt: skip
SAME_BITS = {"uint32": "int32", "uint64": "int64"}


def plan_in_compute_dtype(
    plan: Callable, ins: Sequence[Layout], outs: Sequence[Layout], epilogue: Epilogue | None = None, **params
) -> KernelPlan:
    """``plan(builder, a, b, out, ins, outs, **params)`` with every layout in the dtype computed in.

    float16 and bfloat16 are accumulated in float32; integers narrower than 32 bits in int32, cut off at the end, which
    is exact modulo 2^n.  uint32 and uint64 have the products of int32 and int64, bit for bit, and need no cast.
    ``epilogue``: what becomes of the result, in place of which ``outs`` then are.
    """
    result = outs[0] if epilogue is None else epilogue.layout
    if dtype_name(result.dtype) not in COMPUTE:
        raise TypeError(f"product: dtype must be one of {sorted(COMPUTE)}, got {result.dtype}. Convert the operands.")
    compute = np.dtype(COMPUTE[dtype_name(result.dtype)])
    target = _as_signed(result)
    if target.dtype != compute:
        target = Layout.contiguous(compute, result.shape)
        epilogue = of_cast(result, target) if epilogue is None else epilogue.after_cast(target)

    def planned(fused: bool) -> KernelPlan:
        builder = PlanBuilder()
        pointers, layouts = [Ptr("in", i) for i in range(len(ins))], list(ins)
        for i, layout in enumerate(ins):
            if layout.dtype != compute:
                pointers[i], layouts[i] = builder.converted(pointers[i], _as_signed(layout), compute)
        out = Ptr("out", 0) if epilogue is None else epilogue.target() if fused else None
        if out is None:
            out = builder.temp(target.size * compute.itemsize)
        builder.epilogue = epilogue if fused else None
        plan(builder, *pointers, out, layouts, [target], **params)
        if epilogue is not None and not fused and target.size:
            epilogue.append(builder, out)
        return builder.plan()

    try:
        return planned(fused=True)
    except Unfused:
        return planned(fused=False)


def _as_signed(layout: Layout) -> Layout:
    signed = SAME_BITS.get(dtype_name(layout.dtype))
    return layout if signed is None else layout._replace(dtype=np.dtype(signed))
