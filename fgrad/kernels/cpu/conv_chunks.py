"""Plans the *chunk nest*: the window nest of large weight gradients, whose operands are packed chunk by chunk.

The window nest's long sums, over images and window positions, are cut into *chunks*: some whole images, or a box of
window positions of one image.  `gemm_chunks` packs what a chunk reads, then adds its products to the results of all
taps (which are the geometry's pixels).  The run, the tile's innermost loop, goes along a line of the window; or, where
lines are shorter than a chunk has images, over those.
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
from fgrad.kernels.cpu.gemm_words import LINE
from fgrad.kernels.cpu.nest import even_cut
from fgrad.kernels.kept import kept
from fgrad.kernels.layout import dtype_name
from fgrad.kernels.plan import Ptr, Word

CHUNK_BYTES = 1 << 11  # of a row in a chunk: so many that reading and writing its results costs little
SLOWER = 1.1  # than tiles whose rows are of several taps, at most
ROWS_BYTES, COLUMNS_BYTES = 1 << 19, 1 << 18  # that a task packs of a chunk: with its results they fit an L2 cache


class _Box(NamedTuple):
    """A chunk's window positions: from and to which line (of all outer dimensions, flattened) and pixel.  What they
    read of A: offsets of lines; the first pixel and the number of pixels that are packed.
    """

    lines: slice
    pixels: slice
    a_lines: np.ndarray
    a_first: int
    a_count: int

    @property
    def b_lines(self) -> int:
        return self.lines.stop - self.lines.start

    @property
    def b_count(self) -> int:
        return self.pixels.stop - self.pixels.start


class _Packed(NamedTuple):
    """Strides of a packed operand, in bytes: [image][line][pixel], or [line][pixel][image] where the run counts images;
    a panel is all of them.
    """

    image: int
    line: int
    pixel: int
    panel: int

    @property
    def apart(self) -> tuple[int, int]:
        """Lines and pixels, which images do not change."""
        return self.line, self.pixel


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
    _, joined = gemm_tiles.choose([geo.rows * geo.pixels], geo.columns, positions, itemsize)
    return tile if geo.pixels * cycles <= SLOWER * joined else None


def _packed(images: int, lines: int, pixels: int, element: int, by_image: bool) -> _Packed:
    # An odd number of cache lines, so that the panels, to all of which a pixel is copied, lie in different sets.
    panel = (-(-images * lines * pixels * element // LINE) | 1) * LINE
    if by_image:
        return _Packed(element, pixels * images * element, images * element, panel)
    return _Packed(lines * pixels * element, pixels * element, element, panel)


def _is_small(dims: Sequence[Dim], *_: object) -> bool:
    """Whether a table of the taps and window positions of an image takes little memory."""
    return few_pixels(dims, math.prod([d.out for d in dims]))


class _Chunks(NamedTuple):
    """Those of one image.  Of shape [window, out], ``offsets`` and ``exists`` (`lines_met`), and for pixels in a line
    ``along``, the pixel of A that is met, or -1.
    """

    boxes: list[_Box]
    offsets: np.ndarray
    exists: np.ndarray
    along: np.ndarray


@kept(_is_small)
def _chunks(dims: tuple[Dim, ...], step: int, most: int) -> _Chunks:
    """``step``: of A's pixels that are packed; ``most``: window positions, about."""
    *outer, last = dims
    (offsets, exists), (index, meets) = lines_met(outer), last.met()
    along = np.where(meets, index, -1)
    pixels = _cut(last.window, most)
    width = pixels[0].stop - pixels[0].start
    # Lines of A that chunks share are packed in each: of half of its own at most, unless lines are long.
    shared = max([(d.out - 1) * d.stride // d.rhs_dilation for d in outer[-1:]], default=0)
    lines = _cut(len(offsets), max(1, most // width, min(2 * shared, 2 * most // width)))
    boxes = []
    for box in itertools.product(lines, pixels):
        reads = along[box[1]]
        reads = reads[reads >= 0]
        first, count = (int(reads.min()), int(reads.max() - reads.min()) // step + 1) if reads.size else (0, 0)
        boxes.append(_Box(*box, np.unique(offsets[box[0]][exists[box[0]]]), first, count))
    return _Chunks(boxes, offsets, exists, along)


def _most(geo: Geometry, itemsize: int) -> int:
    """Window positions of a chunk, about.  One tap has few results, and strides read several pixels of A for each
    position: there the copies decide (measured).
    """
    strided = any(d.rhs_dilation > d.lhs_dilation for d in geo.dims)
    return CHUNK_BYTES // itemsize // (2 if geo.pixels == 1 or strided else 1)


class _Tables(NamedTuple):
    """The tables of kinds, lines, and pairs in A and B (`gemm_chunks`)."""

    kinds: list[int]
    lines: list[np.ndarray]
    a_pairs: list[np.ndarray]
    b_pairs: list[np.ndarray]


@kept(_is_small)
def _tables(
    dims: tuple[Dim, ...], step: int, most: int, a_apart: tuple[int, int], b_apart: tuple[int, int], by_image, size: int
) -> _Tables:
    """Of `_chunks`; ``a_apart`` and ``b_apart``: strides of a line and of a pixel of what is packed."""
    *outer, last = dims
    boxes, offsets, exists, along = _chunks(dims, step, most)
    (a_line, a_pixel), (b_line, b_pixel) = a_apart, b_apart
    b_offsets = sums([np.arange(d.window) * d.rhs_stride for d in outer])
    found = _Tables([], [], [], [])
    n_pairs = n_lines = 0
    for box in boxes:
        n_a = len(box.a_lines)
        found.kinds.extend((n_a, n_lines, box.a_first * last.lhs_stride * size, box.a_count))
        found.kinds.extend((box.b_lines, n_lines + n_a, box.pixels.start * last.rhs_stride * size, box.b_count))
        found.lines.extend((box.a_lines * size, b_offsets[box.lines] * size))
        n_lines += n_a + box.b_lines
        for u in range(offsets.shape[1]):
            b_met = np.flatnonzero(exists[box.lines, u])
            a_met = np.searchsorted(box.a_lines, offsets[box.lines][b_met, u]) * a_line
            b_met *= b_line
            if not by_image:
                first_pair = n_pairs
                found.a_pairs.append(a_met)
                found.b_pairs.append(b_met)
                n_pairs += len(b_met)
            for v in range(last.out):
                w = np.flatnonzero(along[box.pixels, v] >= 0)
                to = (along[box.pixels][w, v] - box.a_first) // step * a_pixel
                if by_image:
                    found.a_pairs.append(np.add.outer(a_met, to).ravel())
                    found.b_pairs.append(np.add.outer(b_met, w * b_pixel).ravel())
                    found.kinds.extend((n_pairs, len(b_met) * len(w), 0, 0, 0))
                    n_pairs += len(b_met) * len(w)
                elif w.size == 0:
                    found.kinds.extend((0,) * 5)
                else:
                    found.kinds.extend((first_pair, len(b_met), int(to[0]), int(w[0]) * b_pixel, len(w)))
    return found


def chunk_nest(
    builder: PlanBuilder, dtype: np.dtype, a: Ptr, b: Ptr, out: Ptr, geo: Geometry, dense: int, tile: gemm_tiles.Tile
) -> None:
    """The steps; ``dense``: elements of the result if it is dense, else 0; ``tile``: what `choose` said."""
    size, taps, last = dtype.itemsize, geo.pixels, geo.dims[-1]
    b_run = last.tap_step()
    a_run = b_run * last.rhs_dilation // last.lhs_dilation
    step = a_run if last.out == 1 else 1
    most = _most(geo, size)
    boxes = _chunks(geo.dims, step, most).boxes
    images = _cut(geo.features, max(1, most // geo.window))[0].stop if len(boxes) == 1 else 1
    by_image = images > last.window
    a_lines, a_count = max(len(box.a_lines) for box in boxes), max(box.a_count for box in boxes)
    b_lines, b_count = max(box.b_lines for box in boxes), max(box.b_count for box in boxes)
    if by_image or b_run == 1:
        tile = tile._replace(a_step=tile.mr * (1 if by_image else a_run // step))
    rows = _packed(images, a_lines, a_count, tile.mr * size, by_image)
    columns = _packed(images, b_lines, b_count, tile.columns * size, by_image)
    tables = _tables(geo.dims, step, most, rows.apart, columns.apart, by_image, size)

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
    share, parts = even_cut(chunks, -(-chunks // parts), 1)
    target, part = (builder.temp(parts * dense * size), dense * size) if parts > 1 else (out, 0)

    columns_at = row_block * rows.panel
    scratch = columns_at + column_block * columns.panel
    end = np.zeros(1, np.int64)  # no table is empty
    args: tuple[Word, ...] = (
        a, b, target, builder.scratch(scratch), scratch, builder.table(geo.batches * size),
        builder.table(tables.kinds), *(builder.table(np.concatenate([*parts_, end])) for parts_ in tables[1:]),
        builder.table(sums([np.arange(d.out) * d.out_stride for d in geo.dims]) * size),
        column_panels, column_block, row_blocks, parts, chunks, share, len(boxes), geo.features, images,
        geo.lhs_feature * size, step * last.lhs_stride * size, geo.rhs_feature * size, last.rhs_stride * size,
        *rows, *columns, row_panels, row_block, short, taps, geo.out_row * size, part,
        geo.columns, tile.mr, tile.columns,
        *tile.specs(dtype, geo.columns),
        *(tile._replace(mr=tile.mr - 1).specs(dtype, geo.columns) if short else (0, 0)),
        by_image, rows.image if by_image else a_run // step * rows.pixel,
        columns.image if by_image else b_run * columns.pixel,
        columns_at, *epilogue_words(builder, out, geo.columns, size, parts),
    )  # fmt: skip
    kernel = gemm_tiles.TiledKernel(dtype_name(dtype), tile, "gemm_chunks")
    builder.step(kernel, args, tasks * parts, "conv over the window, in chunks")
    if parts > 1:
        sum_parts(builder, target, out, parts, dense, dtype)
