"""The product of weight gradients: few results, sums over many pixels, operands packed a chunk of pixels at a time.

    out[tap][row][k] = sum over images and pixels that ``tap`` meets of A[image][pixel + tap][row] * B[image][pixel][k]

``gemm_chunks_{dtype}``: a task is (batch, block of rows, block of columns, part of the chunks), the last fastest.  Of
each chunk it copies its rows of A into panels of MR adjacent rows and its columns of B into panels as wide as a tile,
all in the worker's scratch; then one call of a tile makes the results of all taps of two panels (`micro`, of "taps").
Where A lies, channels last, the rows of a tile are far apart from pixel to pixel and meet in few of the cache's sets;
packed, they are one stream, which all taps and all columns of the panel share.  A chunk is long, so that its results
are seldom read and written; the copies stay in the L2 cache.  Meanwhile each tile fetches a share of what the next
chunk copies.

So that no row of a panel is empty, the first panels may be *short*: of MR - 1 rows, with a tile of their own.  They are
copied as the others are, with the first row of the panel that follows.

Words of ``args`` (all strides and offsets in bytes; *packed* ones are those of the copies):

     0 A   1 B   2 out   3 scratch   4 of a worker   5 batch table: offsets in A, B, out
     6 kinds of chunks   7 lines   8 taps' pairs in A   9 and in B   10 out offset of each tap       tables
    11 panels of columns   12 of a block   13 blocks of rows   14 parts   15 chunks   16 of a part   17 kinds
    18 images   19 of a chunk
    20 A's stride of an image   21 and of a pixel   22 B's stride of an image   23 and of a pixel
    24 A's packed strides of an image   25 a pixel   26 a line   27 a panel
    28 B's packed strides of an image   29 a pixel   30 a line   31 a panel
    32 panels of rows   33 of a block   34 short ones   35 taps   36 out's stride of a row   37 and of a part
    38 columns   39 rows of a tile   40 its columns
    41 the tile   42 and that of a last panel of columns that is not full   43 and 44 those of short panels of rows
    45 whether what is copied of A is most of what lies between   46 and of B (0 or 1: it is fetched ahead)
    47 zeros, as many as a tile has columns   48 where in the scratch B is   49 bytes of a move of A (`_pack`) or 0
    50 address of the function to call behind every finished tile (`epilogue`), or 0; then that function's words

Chunk i is of kind i % kinds and of images from i // kinds * (images of a chunk) on.  Words of a kind:

     0 lines of A   1 first word of them in the table   2 lines to fetch ahead   3 bytes of one
     4 to 7 the same of B   8 runs of all taps
     then the words of each tap

A line's words are the offset of its first pixel and the number of its pixels.  Where a tap meets every other pixel of a
line, or fewer, a line stands for each *phase*, so that what a tap meets is adjacent; the first lines are those of one
phase, which reach over the others.  A pair is where a line of A and the line of B that it meets begin (packed).  The
images of a pixel are adjacent, too, and the run goes over both.
"""

from __future__ import annotations

import numba
import numpy as np

from fgrad.kernels.cpu import gemm_words as word
from fgrad.kernels.cpu.gemm_tiles import MOST_EVEN_ROWS
from fgrad.kernels.cpu.memory import call_kernel, copy_bytes, fetch_to_write, ld_i64, st, stack_bytes

KIND_WORDS = 9
AHEAD_BYTES = 512  # behind what is copied lie lines that are asked for


def build(name: str):
    """The kernel ``name`` as a Python function for `native.kernel_text`."""
    return _product(np.dtype(name.removeprefix("gemm_chunks_")).type(0))


def _moves(nbytes: int):
    """Copies of a size that the compiler knows, a load and a store each.  Lines to write are asked for some steps
    before: the copies are longer than the L1 cache, and stores wait in turn.
    """

    @numba.njit
    def copy(to, to_step, source, step, count):
        for i in range(count):
            fetch_to_write(to + i * to_step + AHEAD_BYTES)
            copy_bytes(to + i * to_step, source + i * step, nbytes)

    return copy


def _pairs_of_moves(nbytes: int):
    """The same of two pieces, ``second`` bytes apart."""

    @numba.njit
    def copy(to, to_step, source, step, count, second):
        for i in range(count):
            fetch_to_write(to + i * to_step + AHEAD_BYTES)
            copy_bytes(to + i * to_step, source + i * step, nbytes)
            copy_bytes(to + i * to_step + second, source + i * step + second, nbytes)

    return copy


_one_16, _one_32 = (_moves(nbytes) for nbytes in (16, 32))
_4, _8, _16, _32, _64 = (_pairs_of_moves(nbytes) for nbytes in (4, 8, 16, 32, 64))


@numba.njit
def _pack(to, to_panel, to_pixel, source, panel, pixel, panels, pixels, nbytes, moved):
    """To each of ``panels`` its ``nbytes`` of each of ``pixels``, innermost what there is more of: in one move of
    ``moved`` bytes, 16 or 32, the last of which may be what follows, or in pairs of moves, which overlap if need be.
    """
    if panels < pixels:
        outer, to_outer, outer_step, inner, to_inner, inner_step = panels, to_panel, panel, pixels, to_pixel, pixel
    else:
        outer, to_outer, outer_step, inner, to_inner, inner_step = pixels, to_pixel, pixel, panels, to_panel, panel
    if moved != 0:
        for i in range(outer):
            if moved == 16:
                _one_16(to + i * to_outer, to_inner, source + i * outer_step, inner_step, inner)
            else:
                _one_32(to + i * to_outer, to_inner, source + i * outer_step, inner_step, inner)
        return
    size = 4
    while size < 64 and 2 * size < nbytes:
        size *= 2
    for i in range(outer):
        for first in range(0, nbytes, 2 * size):
            at = min(first, nbytes - size)
            second = min(size, nbytes - size - at)
            x, y = source + i * outer_step + at, to + i * to_outer + at
            if size == 64:
                _64(y, to_inner, x, inner_step, inner, second)
            elif size == 32:
                _32(y, to_inner, x, inner_step, inner, second)
            elif size == 16:
                _16(y, to_inner, x, inner_step, inner, second)
            elif size == 8:
                _8(y, to_inner, x, inner_step, inner, second)
            else:
                _4(y, to_inner, x, inner_step, inner, second)


@numba.njit
def _place(part, lines, operand, image, position):
    """Where byte ``position`` of what is fetched of an operand is, counted over its lines and images as if each began
    where the one before ends; ``part``: of the words of its kind, those about the operand.
    """
    line = position // ld_i64(part, 3)
    n = line // ld_i64(part, 2)
    start = ld_i64(lines, ld_i64(part, 1) + 2 * (line - n * ld_i64(part, 2)))
    return operand + n * image + start + position - line * ld_i64(part, 3)


def _product(proto):
    itemsize = proto.itemsize
    row_bytes, word_bytes = 24 * MOST_EVEN_ROWS, word.WORD_BYTES

    def kernel(args, begin, end, worker):
        scratch = ld_i64(args, 3) + worker * ld_i64(args, 4)
        batches, kinds, lines = ld_i64(args, 5), ld_i64(args, 6), ld_i64(args, 7)
        a_pairs, b_pairs, tap_out = ld_i64(args, 8), ld_i64(args, 9), ld_i64(args, 10)
        panels, block_panels, blocks, parts = ld_i64(args, 11), ld_i64(args, 12), ld_i64(args, 13), ld_i64(args, 14)
        chunks, share, n_kinds = ld_i64(args, 15), ld_i64(args, 16), ld_i64(args, 17)
        images, together = ld_i64(args, 18), ld_i64(args, 19)
        a_image, a_pixel, b_image, b_pixel = ld_i64(args, 20), ld_i64(args, 21), ld_i64(args, 22), ld_i64(args, 23)
        a_n, a_step, a_line, a_panel = ld_i64(args, 24), ld_i64(args, 25), ld_i64(args, 26), ld_i64(args, 27)
        b_n, b_step, b_line, b_panel = ld_i64(args, 28), ld_i64(args, 29), ld_i64(args, 30), ld_i64(args, 31)
        row_panels, block, short, taps = ld_i64(args, 32), ld_i64(args, 33), ld_i64(args, 34), ld_i64(args, 35)
        out_row, part, columns = ld_i64(args, 36), ld_i64(args, 37), ld_i64(args, 38)
        mr, width, zeros = ld_i64(args, 39), ld_i64(args, 40), ld_i64(args, 47)
        packed_b, a_moved, epilogue = scratch + ld_i64(args, 48), ld_i64(args, 49), ld_i64(args, 50)
        column_blocks = (panels + block_panels - 1) // block_panels
        kind_bytes = 8 * (KIND_WORDS + word.TAP_WORDS * taps)
        words, info, runs = stack_bytes(word_bytes), stack_bytes(row_bytes), stack_bytes(64)
        st(words, word.ROWS, info)
        st(words, word.TAB, a_pairs)
        st(words, word.BOFF, b_pairs)
        st(words, word.TAP_COUNT, taps)
        st(words, word.TAP_OUTS, tap_out)
        for task in range(begin, end):
            t = task // parts
            number = task - t * parts
            first_column = t % column_blocks * block_panels * width
            task_columns = min(columns - first_column, block_panels * width)
            t //= column_blocks
            batch = t // blocks
            first_panel = (t - batch * blocks) * block
            end_panel = min(row_panels, first_panel + block)
            shorts = max(min(short, end_panel) - first_panel, 0)
            talls = end_panel - first_panel - shorts
            full = task_columns // width
            pairs = (end_panel - first_panel) * ((task_columns + width - 1) // width)
            first_row = first_panel * mr - min(first_panel, short)
            a_batch = ld_i64(args, 0) + ld_i64(batches, 3 * batch) + first_row * itemsize
            b_batch = ld_i64(args, 1) + ld_i64(batches, 3 * batch + 1) + first_column * itemsize
            o_batch = ld_i64(args, 2) + ld_i64(batches, 3 * batch + 2) + number * part + first_column * itemsize
            first_chunk, end_chunk = number * share, min(chunks, (number + 1) * share)
            for chunk in range(first_chunk, end_chunk):
                group = chunk // n_kinds
                kind = kinds + (chunk - group * n_kinds) * kind_bytes
                first_image = group * together
                count = min(together, images - first_image)
                for n in range(together):
                    # Images that do not exist are zeros: the run knows only of as many as there mostly are.
                    exists = n < count
                    for line in range(ld_i64(kind, 0)):
                        entry = ld_i64(kind, 1) + 2 * line
                        x = a_batch + (first_image + n) * a_image + ld_i64(lines, entry) if exists else zeros
                        y, pixels, nbytes = scratch + n * a_n + line * a_line, ld_i64(lines, entry + 1), mr * itemsize
                        panel, pixel = nbytes * exists, a_pixel * exists
                        short_panel = max(panel - itemsize, 0)
                        _pack(y, a_panel, a_step, x, short_panel, pixel, shorts, pixels, nbytes, a_moved)
                        x += shorts * short_panel
                        y += shorts * a_panel
                        _pack(y, a_panel, a_step, x, panel, pixel, talls - 1, pixels, nbytes, a_moved)
                        x += max(talls - 1, 0) * panel
                        y += max(talls - 1, 0) * a_panel
                        _pack(y, a_panel, a_step, x, panel, pixel, min(talls, 1), pixels, nbytes, 0)
                    for line in range(ld_i64(kind, 4)):
                        entry = ld_i64(kind, 5) + 2 * line
                        x = b_batch + (first_image + n) * b_image + ld_i64(lines, entry) if exists else zeros
                        y, pixels = packed_b + n * b_n + line * b_line, ld_i64(lines, entry + 1)
                        nbytes = width * itemsize
                        panel, pixel = nbytes * exists, b_pixel * exists
                        _pack(y, b_panel, b_step, x, panel, pixel, full, pixels, nbytes, 0)
                        x += full * panel
                        y += full * b_panel
                        if full * width < task_columns:
                            nbytes = (task_columns - full * width) * itemsize
                            _pack(y, b_panel, b_step, x, panel, pixel, 1, pixels, nbytes, 0)
                # What the next chunk copies is fetched by the tiles of this one, a share by each.
                group = (chunk + 1) // n_kinds
                following = kinds + (chunk + 1 - group * n_kinds) * kind_bytes
                next_a, next_b = a_batch + group * together * a_image, b_batch + group * together * b_image
                next_count = min(together, images - group * together) if chunk + 1 < chunks else 0
                a_bytes = ld_i64(args, 45) * next_count * ld_i64(following, 2) * ld_i64(following, 3)
                b_bytes = ld_i64(args, 46) * next_count * ld_i64(following, 6) * ld_i64(following, 7)
                each = (a_bytes + b_bytes) // pairs
                fetched = 0
                st(words, word.TAPS, kind + 8 * KIND_WORDS)
                st(words, word.ACCUMULATE, 1 if chunk > first_chunk else 0)
                st(words, word.AHEAD_LINES, each // (word.LINE * max(ld_i64(kind, 8), 1)) + 1)
                for pair in range(pairs):
                    q = pair // (end_panel - first_panel)
                    p = pair - q * (end_panel - first_panel)
                    tile_rows = mr - 1 if p < shorts else mr
                    lanes = min(task_columns - q * width, width)
                    tile_address = ld_i64(args, 41 + 2 * (p < shorts) + (lanes < width))
                    outs = info + 16 * tile_rows
                    out = o_batch + (first_row + p * mr - min(p, shorts)) * out_row + q * width * itemsize
                    st(info, 0, scratch + p * a_panel)
                    st(info, tile_rows, 0)
                    for i in range(tile_rows):
                        st(outs, i, out + i * out_row)
                    st(words, word.B, packed_b + q * b_panel)
                    st(words, word.LANES, lanes)
                    if fetched < a_bytes:
                        st(words, word.AHEAD, _place(following, lines, next_a, a_image, fetched))
                    elif b_bytes > 0:
                        st(words, word.AHEAD, _place(following + 32, lines, next_b, b_image, fetched - a_bytes))
                    fetched += each
                    call_kernel(tile_address, words, 0, 1, worker)
                    if epilogue != 0 and chunk + 1 == end_chunk:
                        st(runs, 1, tile_rows)
                        st(runs, 2, lanes)
                        st(runs, 3, 0)
                        st(runs, 4, outs)
                        st(runs, 5, 8)
                        st(runs, 6, 0)
                        for tap in range(taps):
                            for i in range(tile_rows):
                                st(outs, i, out + ld_i64(tap_out, tap) + i * out_row)
                            st(runs, 0, ld_i64(outs, 0))
                            call_kernel(epilogue, args + 8 * 51, runs, 0, worker)

    return kernel
