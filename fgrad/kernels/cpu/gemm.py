"""Library kernels around the register tile: the tiled product, packing, and the sum of partial products.

``gemm_{dtype}`` works on a list of *records*.  A record is a set of output rows that share their reduction; its rows
are cut into tiles of MR, and all tiles of all records are numbered through.  A task is

    (batch, split of g, group of panels of NV*VL columns, block of row tiles),   block fastest

so that the tasks a worker takes in a row share panels of B.  It runs its part of g in chunks small enough that B stays
in the cache while the block's row tiles pass over it, panel after panel.  The tile is a function of its own (`micro`),
called by address.  In a product lane by lane (depthwise convolution) A's panels lie side by side, as B's and the
result's do; there the panel is the fastest part of a task, or a task has all panels, so that those of a pixel are read
and written together.
The words of ``args`` and of a record are in `gemm_words`.
"""

from __future__ import annotations

import numba
import numpy as np

from fgrad.kernels.cpu import gemm_words as word
from fgrad.kernels.cpu.gemm_tiles import MOST_ROWS, MOST_TILE_BYTES
from fgrad.kernels.cpu.memory import call_kernel, copy_bytes, fill_zero, ld, ld_i64, st, stack_bytes

ROW_SETS = 8  # row tiles of a task whose rows' addresses are kept from panel to panel


def build(name: str):
    """The kernel ``name`` as a Python function for `native.kernel_text`."""
    kind, *rest = name.removeprefix("gemm_").split("_")
    if kind == "pack":
        return _pack(np.dtype(f"i{rest[0]}").type(0))
    if kind == "sum":
        return _sum(np.dtype(rest[0]).type(0))
    if kind == "inner":
        return _inner(np.dtype(rest[0]).type(0))
    proto = np.dtype(kind).type(0)
    return _product(proto, proto.itemsize)


@numba.njit(inline="always")
def _scatter(buffer, outs, o_panel, rows, lanes, width, out_cs, places, accumulate, proto, element):
    """The first ``rows`` rows of a tile in ``buffer``, column k of row i to ``outs[i] + o_panel + k * out_cs``; or
    where there are ``places``, to ``outs[i] + o_panel + places[k]``, if that is not -1.
    """
    for k in range(lanes):
        place = k * out_cs if places == 0 else ld_i64(places, k)
        if place == -1:
            continue
        for i in range(rows):
            value = ld(buffer, i * width + k, proto)
            out = ld_i64(outs, i) + o_panel + place
            if accumulate != 0:
                value += ld(out, 0, proto)
            st(out, 0, element(value))


def _product(proto, itemsize: int):
    row_bytes = 32 * MOST_ROWS  # the tile's int64[3*mr] (see TILE_WORDS), then the true addresses of the output rows
    set_bytes, word_bytes = ROW_SETS * row_bytes, word.WORD_BYTES
    element = type(proto)  # Numba adds int32 to int64, so sums are cut back before they are stored

    def kernel(args, begin, end, worker):
        a, b, out, zero = ld_i64(args, 0), ld_i64(args, 1), ld_i64(args, 2), ld_i64(args, 3)
        records, row_table, taps, b_taps = ld_i64(args, 4), ld_i64(args, 5), ld_i64(args, 6), ld_i64(args, 7)
        batches, groups, blocks, splits = ld_i64(args, 8), ld_i64(args, 9), ld_i64(args, 10), ld_i64(args, 11)
        block, tiles, g_total, g_split = ld_i64(args, 12), ld_i64(args, 13), ld_i64(args, 14), ld_i64(args, 15)
        g_chunk, a_gs, b_gs, a_cs = ld_i64(args, 16), ld_i64(args, 17), ld_i64(args, 18), ld_i64(args, 19)
        b_cs, b_panel, columns, out_cs = ld_i64(args, 20), ld_i64(args, 21), ld_i64(args, 22), ld_i64(args, 23)
        part, mr, width, by_lane = ld_i64(args, 24), ld_i64(args, 25), ld_i64(args, 26), ld_i64(args, 27)
        whole_tile, edge_tile, s_most, s_chunk = ld_i64(args, 28), ld_i64(args, 29), ld_i64(args, 30), ld_i64(args, 31)
        places, turned, panels_each, epilogue = ld_i64(args, 32), ld_i64(args, 33), ld_i64(args, 34), ld_i64(args, 35)
        words, sets, buffer = stack_bytes(word_bytes), stack_bytes(set_bytes), stack_bytes(MOST_TILE_BYTES)
        runs = stack_bytes(64)
        st(words, word.ZERO, zero)
        st(words, word.A_GS, a_gs)
        st(words, word.B_GS, b_gs)
        st(words, word.A_CS, a_cs)
        st(words, word.B_CS, b_cs)
        for task in range(begin, end):
            fastest = groups if by_lane else blocks
            t = task // fastest
            within = task - t * fastest
            slower = blocks if by_lane else groups
            outer = t // slower
            group, first_tile = (within, t - outer * slower) if by_lane else (t - outer * slower, within)
            first_tile *= block
            batch = outer // splits
            split = outer - batch * splits
            first_panel = group * panels_each
            panels = min(panels_each, (columns + width - 1) // width - first_panel)
            g_end = min(g_total, (split + 1) * g_split)
            keeps = by_lane == 0 and block <= ROW_SETS
            for g in range(split * g_split, g_end, g_chunk):
                st(words, word.G_COUNT, min(g_chunk, g_end - g))
                st(words, word.G_FULL, g_total - 1 - g)
                # All panels of a task pass over a chunk of the taps before the next chunk.
                for chunk in range((s_most + s_chunk - 1) // s_chunk * panels):
                    s = chunk // panels * s_chunk
                    panel = first_panel + chunk % panels
                    accumulate = 1 if g > split * g_split or s > 0 else 0
                    a_batch = a + ld_i64(batches, 3 * batch) + panel * width * itemsize * by_lane
                    b_batch = b + ld_i64(batches, 3 * batch + 1) + panel * b_panel
                    o_batch = out + ld_i64(batches, 3 * batch + 2) + split * part
                    o_panel = panel * width * out_cs
                    lanes = min(columns - panel * width, width)
                    tile_address = whole_tile if lanes == width else edge_tile
                    st(words, word.LANES, lanes)
                    record = records
                    record_first = 0
                    for tile in range(first_tile, min(first_tile + block, tiles)):
                        while tile >= ld_i64(record, 0):
                            record_first = ld_i64(record, 0)
                            record += 8 * word.RECORD_WORDS
                        s_count = min(s_chunk, ld_i64(record, 13) - s)
                        if s_count <= 0 and s > 0:
                            continue
                        count = ld_i64(record, 3)
                        row = (tile - record_first) * mr
                        # Columns that are not adjacent and rows beyond the last one are stored by way of the buffer.
                        direct = turned == 1 or (out_cs == itemsize and row + mr <= count and places == 0)
                        rows = sets + (tile - first_tile) * row_bytes if keeps else sets
                        outs = rows + 24 * mr
                        if chunk == 0 or not keeps:  # else as for the first panel
                            per, by_row = ld_i64(record, 4), ld_i64(record, 10)
                            a_ns, o_ns = ld_i64(record, 5), ld_i64(record, 6)
                            table = row_table + 16 * ld_i64(record, 7)
                            n = row // per
                            pixel = row - n * per
                            a_row = a_batch + ld_i64(record, 1) + n * a_ns + g * a_gs
                            o_row = o_batch + ld_i64(record, 2) + n * o_ns
                            for i in range(mr):
                                out_row = o_row + ld_i64(table, 2 * pixel + 1)
                                st(rows, i, a_row + ld_i64(table, 2 * pixel))
                                st(rows, mr + i, pixel * by_row)
                                st(rows, 2 * mr + i, out_row if direct else buffer + i * width * itemsize)
                                st(outs, i, out_row)
                                if row + i + 1 < count:  # rows beyond the last compute it again
                                    pixel += 1
                                    if pixel == per:
                                        pixel = 0
                                        a_row += a_ns
                                        o_row += o_ns
                        st(words, word.ROWS, rows)
                        st(words, word.OUT, o_panel if direct else 0)
                        st(words, word.TAB, taps + 8 * (ld_i64(record, 8) + s * ld_i64(record, 9)))
                        st(words, word.LD, ld_i64(record, 9))
                        st(words, word.BOFF, b_taps + 8 * (ld_i64(record, 11) + s))
                        st(words, word.B, b_batch + ld_i64(record, 12) + g * b_gs)
                        st(words, word.S_COUNT, s_count)
                        st(words, word.C_FULL, ld_i64(record, 14))
                        st(words, word.C_LAST, ld_i64(record, 15))
                        st(words, word.ACCUMULATE, accumulate if direct else 0)
                        at = 0 if places == 0 else places + 8 * panel * width
                        st(words, word.PLACES, at)
                        st(words, word.COUNT, count - row)
                        call_kernel(tile_address, words, 0, 1, worker)
                        if not direct:
                            _scatter(buffer, outs, o_panel, min(mr, count - row), lanes, width, out_cs, at, accumulate,
                                     proto, element)  # fmt: skip
                        if epilogue != 0 and g + g_chunk >= g_end and s + s_chunk >= ld_i64(record, 13):
                            first = ld_i64(outs, 0) + o_panel
                            st(runs, 0, first)
                            st(runs, 5, 8)
                            st(runs, 6, 0)
                            if turned == 1:  # a run of adjacent rows at each place
                                st(runs, 1, lanes)
                                st(runs, 2, min(mr, count - row))
                                st(runs, 3, first)
                                st(runs, 4, at)
                            else:
                                st(runs, 1, min(mr, count - row))
                                st(runs, 2, lanes)
                                st(runs, 3, o_panel)
                                st(runs, 4, outs)
                            call_kernel(epilogue, args + 8 * 36, runs, 0, worker)

    return kernel


def _pack(proto):
    itemsize = proto.itemsize

    def kernel(args, begin, end, worker):
        to, source, batches, offsets = ld_i64(args, 0), ld_i64(args, 1), ld_i64(args, 2), ld_i64(args, 3)
        panels, g_total, g_stride, s_count = ld_i64(args, 4), ld_i64(args, 5), ld_i64(args, 6), ld_i64(args, 7)
        c_full, c_last, width, columns = ld_i64(args, 8), ld_i64(args, 9), ld_i64(args, 10), ld_i64(args, 11)
        stride, fold, piece = ld_i64(args, 12), ld_i64(args, 13), ld_i64(args, 14)
        pieces = (c_full + piece - 1) // piece
        for task in range(begin, end):
            run = task // pieces
            c_first = (task - run * pieces) * piece
            t = run // s_count
            s = run - t * s_count
            g = t % g_total
            t //= g_total
            panel = t % panels
            start = source + ld_i64(batches, t // panels) + g * g_stride + panel * width * stride
            c_end = min(c_full if g < g_total - 1 else c_last, c_first + piece)
            lanes = min(columns - panel * width, width)
            first = to + run * c_full * width * itemsize
            if lanes < width:
                fill_zero(first + c_first * width * itemsize, max(c_end - c_first, 0) * width * itemsize)
            if stride == itemsize and fold == 1:
                for c in range(c_first, c_end):
                    copy_bytes(first + c * width * itemsize, start + ld_i64(offsets, s * c_full + c), lanes * itemsize)
            else:
                for k in range(lanes):
                    column, at = start + k * stride, first + k * fold * itemsize
                    for i in range(fold):
                        for c in range(c_first, c_end, fold):
                            st(at, c * width + i, ld(column + ld_i64(offsets, s * c_full + c + i), 0, proto))

    return kernel


def _sum(proto):
    element, itemsize = type(proto), proto.itemsize

    def kernel(args, begin, end, worker):
        out, parts, count, size = ld_i64(args, 0), ld_i64(args, 1), ld_i64(args, 2), ld_i64(args, 3)
        share = ld_i64(args, 4)
        for task in range(begin, end):
            first, last = task * share, min(size, (task + 1) * share)
            fill_zero(out + first * itemsize, (last - first) * itemsize)
            for p in range(count):
                for i in range(first, last):
                    st(out, i, element(ld(out, i, proto) + ld(parts, p * size + i, proto)))

    return kernel


def _inner(proto):
    element = type(proto)

    def kernel(args, begin, end, worker):
        out, a, b, batches = ld_i64(args, 0), ld_i64(args, 1), ld_i64(args, 2), ld_i64(args, 3)
        rows, columns, length = ld_i64(args, 4), ld_i64(args, 5), ld_i64(args, 6)
        a_rs, b_cs, out_rs, out_cs = ld_i64(args, 7), ld_i64(args, 8), ld_i64(args, 9), ld_i64(args, 10)
        blocks, block = ld_i64(args, 11), ld_i64(args, 12)
        for task in range(begin, end):
            batch = task // blocks
            first = (task - batch * blocks) * block
            a_batch, b_batch = a + ld_i64(batches, 3 * batch), b + ld_i64(batches, 3 * batch + 1)
            o_batch = out + ld_i64(batches, 3 * batch + 2)
            for m in range(first, min(rows, first + block)):
                x = a_batch + m * a_rs
                for n in range(columns):
                    y = b_batch + n * b_cs
                    total = proto
                    for k in range(length):
                        total += ld(x, k, proto) * ld(y, k, proto)
                    st(o_batch + m * out_rs + n * out_cs, 0, element(total))

    return kernel
