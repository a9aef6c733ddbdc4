"""Plans the *chunk nest*: the window nest of large weight gradients, whose operands are packed chunk by chunk.

The window nest's long sums, over images and window positions, are cut into *chunks*: some whole images, or a box of
window positions of one image.  `gemm_chunks` packs what a chunk reads, then adds its products to the results of all
taps (which are the geometry's pixels).  The run, the tile's innermost loop, goes along a line of the window; or, where
lines are shorter than a chunk has images, over those.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

from fgrad.kernels.builder import PlanBuilder
from fgrad.kernels.cpu import gemm_tiles
from fgrad.kernels.cpu.conv_geometry import Dim, Geometry
from fgrad.kernels.cpu.gemm_plan import LINE, MIN_TASKS, PART_BYTES, epilogue_words, sum_parts
from fgrad.kernels.layout import dtype_name
from fgrad.kernels.plan import Ptr, Word

CHUNK = 512  # window positions of a chunk: so many that reading and writing its results costs little
FULL = 1.1  # rows of panels for each one that exists, at most (measured: with 1.125 the window nest is faster)
ROWS_BYTES = 1 << 19  # of packed rows: with the columns and the results of a task they stay in the L2 cache


class _Kind(NamedTuple):
    """A box of window positions: numbers of lines (of all outer dimensions, flattened) and of pixels along them."""

    lines: tuple[int, int]
    pixels: tuple[int, int]


def _cut(count: int, most: int) -> list[tuple[int, int]]:
    """As even parts of about ``most`` as there are."""
    parts = max(1, round(count / most))
    size = math.ceil(count / parts)
    return [(first, min(first + size, count)) for first in range(0, count, size)]


def _read(d: Dim) -> np.ndarray:
    """Of shape [window, out]: the input element that a window position and a tap meet, or -1."""
    position = np.add.outer(np.arange(d.window) * d.rhs_dilation, np.arange(d.out) * d.stride) - d.low
    index = position // d.lhs_dilation
    return np.where((position % d.lhs_dilation == 0) & (index >= 0) & (index < d.size), index, -1)


def choose(geo: Geometry, itemsize: int) -> gemm_tiles.Tile | None:
    """The tile of the chunk nest, or None where the window nest does better."""
    adjacent = geo.lhs_row == 1 and geo.rhs_column == 1 and geo.out_column == 1
    positions = geo.features * geo.window
    if not adjacent or positions < CHUNK or geo.columns < 2 or not gemm_tiles.host().masks:
        return None
    tile, _ = gemm_tiles.choose([geo.rows] * geo.pixels, geo.columns, positions, itemsize, "adjacent")
    panels = -(-geo.rows // tile.mr)
    return tile if tile.mr > 1 and panels * tile.mr <= FULL * geo.rows else None


def chunk_nest(
    builder: PlanBuilder, dtype: np.dtype, a: Ptr, b: Ptr, out: Ptr, geo: Geometry, dense: int, tile: gemm_tiles.Tile
) -> None:
    *outer, last = geo.dims
    size, taps = dtype.itemsize, geo.pixels
    n_lines = geo.window // last.window
    # One tap has few results; strides read several pixels of A for each position: then the copies decide (measured).
    most = CHUNK // 2 if taps == 1 or any(d.rhs_dilation > d.lhs_dilation for d in geo.dims) else CHUNK
    pixels = _cut(last.window, most)
    lines = _cut(n_lines, max(1, most // (pixels[0][1] - pixels[0][0])))
    kinds = [_Kind(*box) for box in itertools.product(lines, pixels)]
    images = _cut(geo.features, max(1, most // geo.window))[0][1] if len(kinds) == 1 else 1
    by_image = images > last.window

    # Where each tap and line of the window meet: offsets of lines of A, and which of them a pair has, or -1.
    index = [_read(d) for d in outer]
    met, exists = np.zeros((1, 1), np.int64), np.ones((1, 1), bool)
    for d, i in zip(outer, index):
        shape = (met.shape[0] * d.window, met.shape[1] * d.out)
        met = (met[:, None, :, None] + (i * d.lhs_stride)[None, :, None, :]).reshape(shape)
        exists = (exists[:, None, :, None] & (i >= 0)[None, :, None, :]).reshape(shape)
    b_offsets = np.zeros(1, np.int64)
    for d in outer:
        b_offsets = np.add.outer(b_offsets, np.arange(d.window) * d.rhs_stride).ravel()
    along = _read(last)
    step = last.tap_step()
    a_run = step * last.rhs_dilation // last.lhs_dilation
    stride = a_run if last.out == 1 else 1  # of the pixels of A that are packed

    # What each kind reads of A: lines, and pixels of them.
    boxes = []
    for kind in kinds:
        rows = slice(*kind.lines)
        wanted = np.unique(met[rows][exists[rows]])
        reads = along[slice(*kind.pixels)]
        reads = reads[reads >= 0]
        first, count = (int(reads.min()), int(reads.max() - reads.min()) // stride + 1) if reads.size else (0, 0)
        boxes.append((wanted, first, count))
    most_lines, most_pixels = max(len(w) for w, _, _ in boxes), max(count for _, _, count in boxes)
    b_lines, b_pixels = max(k.lines[1] - k.lines[0] for k in kinds), max(k.pixels[1] - k.pixels[0] for k in kinds)

    # Packed strides: [line][pixel][image] where the run counts images, else [image][line][pixel].
    a_element, b_element = tile.mr * size, tile.columns * size
    if by_image:
        a_n, a_step, b_n, b_step = a_element, images * a_element, b_element, images * b_element
        a_line, b_line = most_pixels * a_step, b_pixels * b_step
    else:
        a_step, b_step, a_line, b_line = a_element, b_element, most_pixels * a_element, b_pixels * b_element
        a_n, b_n = most_lines * a_line, b_lines * b_line
    # An odd number of lines, so that the panels, to all of which a pixel is copied, lie in different sets of the cache.
    a_panel = (-(-images * most_lines * most_pixels * a_element // LINE) | 1) * LINE

    table: list[int] = []
    a_pairs: list[np.ndarray] = []
    b_pairs: list[np.ndarray] = []
    line_table: list[np.ndarray] = []
    n_pairs = n_table = 0
    for kind, (wanted, first, count) in zip(kinds, boxes):
        table += [len(wanted), n_table, first * last.lhs_stride * size, count,
                  kind.lines[1] - kind.lines[0], n_table + len(wanted), kind.pixels[0] * last.rhs_stride * size,
                  kind.pixels[1] - kind.pixels[0]]  # fmt: skip
        line_table += [wanted * size, b_offsets[slice(*kind.lines)] * size]
        n_table += len(wanted) + kind.lines[1] - kind.lines[0]
        reads = along[slice(*kind.pixels)]
        for u in range(met.shape[1]):
            those = np.flatnonzero(exists[slice(*kind.lines), u])
            lined = np.searchsorted(wanted, met[kind.lines[0] + those, u])
            line_pairs = n_pairs
            if not by_image:
                a_pairs.append(lined * a_line)
                b_pairs.append(those * b_line)
                n_pairs += len(those)
            for v in range(last.out):
                w = np.flatnonzero(reads[:, v] >= 0)
                to = (reads[w, v] - first) // stride * a_step
                if by_image:
                    a_pairs.append(np.add.outer(lined * a_line, to).ravel())
                    b_pairs.append(np.add.outer(those * b_line, w * b_step).ravel())
                    table += [n_pairs, len(those) * len(w), 0, 0, 0]
                    n_pairs += len(those) * len(w)
                elif w.size == 0:
                    table += [0, 0, 0, 0, 0]
                else:
                    table += [line_pairs, len(those), int(to[0]), int(w[0]) * b_step, len(w)]
    tap_out = np.zeros(1, np.int64)
    for d in geo.dims:
        tap_out = np.add.outer(tap_out, np.arange(d.out) * d.out_stride).ravel()

    panels, row_panels = -(-geo.columns // tile.columns), -(-geo.rows // tile.mr)
    blocks = -(-row_panels // max(1, ROWS_BYTES // a_panel))
    block = -(-row_panels // blocks)
    blocks = -(-row_panels // block)
    chunks = len(kinds) * -(-geo.features // images)
    parts = 1
    if dense:
        wanted_parts = -(-MIN_TASKS // (len(geo.batches) * panels * blocks))
        parts = max(1, min(wanted_parts, chunks, PART_BYTES // (dense * size)))
    share = -(-chunks // parts)
    parts = -(-chunks // share)
    target, part = (builder.temp(parts * dense * size), dense * size) if parts > 1 else (out, 0)

    columns_at = block * a_panel
    nowhere = columns_at + images * b_lines * b_pixels * b_element
    scratch_bytes = -(-(nowhere + tile.columns * size) // 64) * 64
    every = np.zeros(1, np.int64)
    args: tuple[Word, ...] = (
        a, b, target, builder.scratch(scratch_bytes), scratch_bytes, builder.table(geo.batches * size),
        builder.table(table), builder.table(np.concatenate([every, *line_table])[1:] if n_table else every),
        builder.table(np.concatenate([*a_pairs, every])), builder.table(np.concatenate([*b_pairs, every])),
        builder.table(tap_out * size),
        panels, blocks, parts, chunks, share, len(kinds), geo.features, images,
        geo.lhs_feature * size, stride * last.lhs_stride * size, geo.rhs_feature * size, last.rhs_stride * size,
        a_n, a_line, a_step, a_panel, b_n, b_line, b_step,
        row_panels, block, geo.rows, taps, geo.out_row * size, part, geo.columns, tile.mr, tile.columns,
        tile.spec(dtype, False) if geo.columns >= tile.columns else 0,
        tile.spec(dtype, True) if geo.columns % tile.columns else 0,
        by_image, a_n if by_image else a_run // stride * a_step, b_n if by_image else step * b_step,
        columns_at, nowhere, *epilogue_words(builder, out, geo.columns, size, parts),
    )  # fmt: skip
    kernel = gemm_tiles.TiledKernel(dtype_name(dtype), tile, "gemm_chunks")
    builder.step(kernel, args, len(geo.batches) * blocks * panels * parts, "conv over the window, in chunks")
    if parts > 1:
        sum_parts(builder, target, out, parts, dense, dtype)
