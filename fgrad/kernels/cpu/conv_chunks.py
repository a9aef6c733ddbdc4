"""Plans the *chunk nest*: the window nest of large weight gradients, whose operands are packed chunk by chunk.

The window nest's long sums, over images and window positions, are cut into *chunks*: some whole images, or a box of
window positions of one image.  `gemm_chunks` packs what a chunk reads, then adds its products to the results of all
taps (which are the geometry's pixels).  The run, the tile's innermost loop, goes along a line of the window and over
the chunk's images, which lie side by side where they are packed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fgrad.kernels.builder import PlanBuilder, sums
from fgrad.kernels.cpu import gemm_tiles
from fgrad.kernels.cpu.conv_geometry import Dim, Geometry, few_pixels, lines_met
from fgrad.kernels.cpu.gemm_plan import MIN_TASKS, PART_BYTES, epilogue_words, sum_parts
from fgrad.kernels.cpu.gemm_words import LINE, TAP_WORDS
from fgrad.kernels.cpu.nest import even_cut, even_parts
from fgrad.kernels.kept import kept
from fgrad.kernels.plan import Ptr, Word

CHUNK_BYTES = 1 << 11  # of a row in a chunk: so many that reading and writing its results costs little
SLOWER = 1.1  # than tiles whose rows are of several taps, at most
ROWS_BYTES, COLUMNS_BYTES = 1 << 19, 1 << 18  # that a task packs of a chunk: with its results they fit an L2 cache


class _Part(NamedTuple):
    """What is packed of an operand in a chunk: of each of ``lines`` (offsets), for each of ``phases``, which taps meet
    apart from each other, ``counts`` pixels from ``firsts`` on, as far apart as there can be phases.
    """

    lines: np.ndarray
    phases: list[int]
    firsts: list[int]
    counts: list[int]

    @classmethod
    def of(cls, lines: np.ndarray, runs: Sequence[np.ndarray], period: int) -> _Part:
        """``runs``: the pixels that each tap meets."""
        phases = sorted({int(run[0]) % period for run in runs})
        same = [np.concatenate([run for run in runs if run[0] % period == phase]) for phase in phases]
        firsts = [int(pixels.min()) for pixels in same]
        counts = [(int(pixels.max()) - first) // period + 1 for pixels, first in zip(same, firsts)]
        return cls(lines, phases, firsts, counts)

    def place(self, first: int, period: int, line: int, pixel: int) -> int:
        """Where that pixel of the first line is packed, with these strides."""
        k = self.phases.index(first % period)
        return k * len(self.lines) * line + (first - self.firsts[k]) // period * pixel


class _Box(NamedTuple):
    """A chunk's window positions: which lines (of all outer dimensions, flattened) and pixels; and for each tap of a
    line those of the pixels, counted from the first, that it meets, and which pixels of A there.
    """

    lines: slice
    pixels: slice
    met: list[tuple[np.ndarray, np.ndarray]]
    a: _Part
    b: _Part


class _Packed(NamedTuple):
    """Strides of a packed operand, in bytes: [panel][phase, line][pixel][image][row or column]."""

    image: int
    pixel: int
    line: int
    panel: int


def _cut(count: int, about: int) -> list[slice]:
    """Even parts of about so many."""
    size = math.ceil(count / max(1, round(count / about)))
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def choose(geo: Geometry, itemsize: int) -> gemm_tiles.Tile | None:
    """The tile of the chunk nest, or None where the window nest does better."""
    adjacent = geo.lhs_row == 1 and geo.rhs_column == 1 and geo.out_column == 1
    positions = geo.features * geo.window
    if not adjacent or positions * itemsize < CHUNK_BYTES or geo.columns < 2 or not gemm_tiles.host().masks:
        return None
    tile, cycles = gemm_tiles.choose_even(geo.rows, geo.columns, positions, itemsize)
    _, joined = gemm_tiles.choose([(geo.rows * geo.pixels, 1)], geo.columns, positions, itemsize)
    return tile if geo.pixels * cycles <= SLOWER * joined else None


def _moved(nbytes: int, images: int) -> int:
    """Bytes of the one move that copies a panel's rows of a pixel, or 0 where it takes several.  It may copy more, to
    where the next pixel's rows are copied later.
    """
    moved = max(16, 1 << (nbytes - 1).bit_length())
    return moved if moved <= 32 and (moved == nbytes or (moved < 2 * nbytes and images == 1)) else 0


def _packed(parts: Sequence[_Part], images: int, element: int, more: int = 0) -> _Packed:
    """``more``: bytes behind the last pixel that are written, too."""
    pixel = images * element
    line = max([0, *itertools.chain(*[part.counts for part in parts])]) * pixel
    most = max([len(part.lines) * len(part.phases) for part in parts])
    # An odd number of cache lines, so that the panels, to all of which a pixel is copied, lie in different sets.
    return _Packed(element, pixel, line, (-(-(most * line + more) // LINE) | 1) * LINE)


def _is_small(dims: Sequence[Dim], *_: object) -> bool:
    """Whether a table of the taps and window positions of an image takes little memory."""
    return few_pixels(dims, math.prod([d.out for d in dims]))


class _Chunks(NamedTuple):
    """Those of one image, and of shape [window, out] ``offsets`` and ``exists`` (`lines_met`)."""

    boxes: list[_Box]
    offsets: np.ndarray
    exists: np.ndarray


def _steps(last: Dim) -> tuple[int, int]:
    """Of the run: from pixel to pixel of A, and of B."""
    b_step = last.tap_step()
    return b_step * last.rhs_dilation // last.lhs_dilation, b_step


@kept(_is_small)
def _chunks(dims: tuple[Dim, ...], most: int, longest: int) -> _Chunks:
    """Of about ``most`` window positions; of ``longest`` where chunks of fewer have much in common."""
    *outer, last = dims
    (offsets, exists), (index, meets) = lines_met(outer), last.met()
    a_step, b_step = _steps(last)
    b_offsets = sums([np.arange(d.window) * d.rhs_stride for d in outer])
    pixels = _cut(last.window, most)
    width = pixels[0].stop - pixels[0].start
    # Lines of A that chunks share are packed in each: half as many as its own at most, unless lines are long.
    shared = max([(d.out - 1) * d.stride // d.rhs_dilation for d in outer[-1:]], default=0)
    lines = _cut(len(offsets), max(1, most // width, min(2 * shared, longest // width)))
    boxes = []
    for box_lines, box_pixels in itertools.product(lines, pixels):
        which = [np.flatnonzero(meets[box_pixels, v]) for v in range(last.out)]
        met = [(w, index[box_pixels, v][w]) for v, w in enumerate(which)]
        a_lines = np.unique(offsets[box_lines][exists[box_lines]])
        for d in outer[-1:]:  # lines that a tap meets one after the other are neighbours
            a_lines = a_lines[np.argsort(a_lines // (d.lhs_stride or 1) % _steps(d)[0], kind="stable")]
        a = _Part.of(a_lines, [reads for _, reads in met if reads.size], a_step)
        b = _Part.of(b_offsets[box_lines], [w for w in which if w.size], b_step)
        boxes.append(_Box(box_lines, box_pixels, met, a, b))
    return _Chunks(boxes, offsets, exists)


def _lengths(geo: Geometry, itemsize: int, tile: gemm_tiles.Tile) -> tuple[int, int]:
    """Window positions of a chunk, about, and of the longest.  One tap has few results, and strides read several pixels
    of A for each position: there the copies decide.  Where fewer positions let the columns of a tile stay in the L1
    cache, they are fewer (all measured).
    """
    strided = any(d.rhs_dilation > d.lhs_dilation for d in geo.dims)
    parts = 2 if geo.pixels == 1 or strided else 1
    most = CHUNK_BYTES // itemsize
    near = gemm_tiles.L1_BYTES // 2 // (tile.columns * itemsize)
    return (near if most // 2 <= near < most else most) // parts, 2 * most // parts


class _Tables(NamedTuple):
    """The tables of kinds, lines, and pairs in A and B (`gemm_chunks`)."""

    kinds: list[int]
    lines: list[int]
    a_pairs: list[np.ndarray]
    b_pairs: list[np.ndarray]


@kept(_is_small)
def _tables(
    dims: tuple[Dim, ...], lengths: tuple[int, int], rows: _Packed, columns: _Packed, images: int, size: int
) -> _Tables:
    """Of `_chunks`; ``images`` of a chunk."""
    last = dims[-1]
    boxes, offsets, exists = _chunks(dims, *lengths)
    a_step, b_step = _steps(last)
    found = _Tables([], [], [], [])
    n_pairs = 0
    for box in boxes:
        for part, first, stride, step in (
            (box.a, 0, last.lhs_stride, a_step),
            (box.b, box.pixels.start, last.rhs_stride, b_step),
        ):
            lines = len(part.lines) if part.phases else 0
            reach = max([count * step * stride * size for count in part.counts], default=0)
            found.kinds.extend((lines * len(part.phases), len(found.lines), lines, reach))
            for pixel, count in zip(part.firsts, part.counts):
                starts = (part.lines + (first + pixel) * stride) * size
                found.lines.extend(itertools.chain(*[(start, count) for start in starts.tolist()]))
        runs = len(found.kinds)
        found.kinds.append(0)
        by_offset = np.argsort(box.a.lines)
        for u in range(offsets.shape[1]):
            b_met = np.flatnonzero(exists[box.lines, u])
            a_met = by_offset[np.searchsorted(box.a.lines, offsets[box.lines][b_met, u], sorter=by_offset)]
            found.a_pairs.append(a_met * rows.line)
            found.b_pairs.append(b_met * columns.line)
            neighbours = bool((np.diff(a_met) == 1).all() and (np.diff(b_met) == 1).all())
            for w, reads in box.met:
                if w.size == 0:
                    found.kinds.extend((0,) * TAP_WORDS)
                    continue
                a_first = box.a.place(int(reads[0]), a_step, rows.line, rows.pixel)
                b_first = box.b.place(int(w[0]), b_step, columns.line, columns.pixel)
                pairs, length = len(b_met), len(w) * images
                whole = len(w) * rows.pixel == rows.line and len(w) * columns.pixel == columns.line
                if pairs and neighbours and whole:  # the lines are one
                    pairs, length = 1, len(b_met) * length
                found.kinds[runs] += pairs
                found.kinds.extend((n_pairs, pairs, a_first, b_first, length))
            n_pairs += len(b_met)
    return found


def chunk_nest(
    builder: PlanBuilder, dtype: np.dtype, a: Ptr, b: Ptr, out: Ptr, geo: Geometry, dense: int, tile: gemm_tiles.Tile
) -> None:
    """The steps; ``dense``: elements of the result if it is dense, else 0; ``tile``: what `choose` said."""
    size, taps, last = dtype.itemsize, geo.pixels, geo.dims[-1]
    a_step, b_step = _steps(last)
    lengths = _lengths(geo, size, tile)
    boxes = _chunks(geo.dims, *lengths).boxes
    images = _cut(geo.features, max(1, lengths[0] // geo.window))[0].stop if len(boxes) == 1 else 1
    moved = _moved(tile.mr * size, images)
    rows = _packed([box.a for box in boxes], images, tile.mr * size, max(0, moved - tile.mr * size))
    columns = _packed([box.b for box in boxes], images, tile.columns * size)
    tables = _tables(geo.dims, lengths, rows, columns, images, size)
    tile = tile._replace(a_step=tile.mr)

    # Tasks: blocks of panels, as many of each operand as are packed together; and parts of the chunks.
    row_panels, column_panels = -(-geo.rows // tile.mr), -(-geo.columns // tile.columns)
    short = row_panels * tile.mr - geo.rows
    row_block, row_blocks = even_cut(row_panels, max(1, ROWS_BYTES // rows.panel), 1)
    column_block, column_blocks = even_cut(column_panels, max(1, COLUMNS_BYTES // columns.panel), 1)
    tasks = len(geo.batches) * row_blocks * column_blocks
    chunks = len(boxes) * -(-geo.features // images)
    parts = 1
    if dense:
        parts = max(1, min(-(-MIN_TASKS // tasks), chunks, PART_BYTES // (dense * size)))
    share, parts = even_parts(chunks, parts, tasks)
    target, part = (builder.temp(parts * dense * size), dense * size) if parts > 1 else (out, 0)

    columns_at = row_block * rows.panel
    scratch = columns_at + column_block * columns.panel
    end = np.zeros(1, np.int64)  # no table is empty
    close = [0 < stride < 2 * count for stride, count in (
        (last.lhs_stride, min(row_block * tile.mr, geo.rows)),
        (last.rhs_stride, min(column_block * tile.columns, geo.columns)),
    )]  # fmt: skip
    args: tuple[Word, ...] = (
        a, b, target, builder.scratch(scratch), scratch, builder.table(geo.batches * size),
        builder.table(tables.kinds), builder.table(tables.lines or end),
        *(builder.table(np.concatenate([*pairs, end])) for pairs in (tables.a_pairs, tables.b_pairs)),
        builder.table(sums([np.arange(d.out) * d.out_stride for d in geo.dims]) * size),
        column_panels, column_block, row_blocks, parts, chunks, share, len(boxes), geo.features, images,
        geo.lhs_feature * size, a_step * last.lhs_stride * size,
        geo.rhs_feature * size, b_step * last.rhs_stride * size,
        *rows, *columns, row_panels, row_block, short, taps, geo.out_row * size, part,
        geo.columns, tile.mr, tile.columns,
        *tile.specs(dtype, geo.columns),
        *(tile._replace(mr=tile.mr - 1).specs(dtype, geo.columns) if short else (0, 0)),
        *close, builder.table(np.zeros(max(tile.mr, tile.columns) * size // 8 + 1, np.int64)),
        columns_at, moved, *epilogue_words(builder, out, geo.columns, size, parts),
    )  # fmt: skip
    builder.step(tile.kernel(dtype, "gemm_chunks"), args, tasks * parts, "conv over the window, in chunks")
    if parts > 1:
        sum_parts(builder, target, out, parts, dense, dtype)
