"""gather and scatter: rows of an operand read from, or combined at, positions held in an index array.

Both see B rows of indices, k to a row, and under each a *row* of ``width`` elements: the remaining axes, as runs of
``run`` elements at a constant stride under outer axes.  Words of ``args`` that gather and scatter share:

    0 indices (int64)   1 table   2 k   3 rows (B)   4 stride of indices between rows   5 between the k
    6 clip (1) or drop (0)   7 width   8 outer axes   9 run   10 elements of a row to a tile

and of the table:

    indexed axis j: (size, stride, step of the place)      the place is the row-major number of the indexed position
    outer axis d: (size, stride of the operand, stride of the updates)

A duplicate position makes the order of scatter's updates matter, so its tiles split the operand and never the
updates: each owns a range of places and of the row, and applies what falls there in the order of the updates.
``scatter_bounds`` finds the places that each chunk of updates touches, which lets a tile skip the others.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fgrad.kernels.cpu.memory import ld, ld_i64, st
from fgrad.kernels.cpu.scalars import INLINED, KINDS, SET, combine

AXIS_WORDS = 3


@njit(**INLINED)
def _locate(args, b):
    """Row b of the indices: (offset in the operand, place), the place being -1 for a row to drop."""
    indices, table, k, clip = ld_i64(args, 0), ld_i64(args, 1), ld_i64(args, 2), ld_i64(args, 6)
    base, step = b * ld_i64(args, 4), ld_i64(args, 5)
    offset = place = 0
    inside = True
    for j in range(k):
        size = ld_i64(table, AXIS_WORDS * j)
        i = ld_i64(indices, base + j * step)
        if clip:
            i = max(0, min(i, size - 1))
        inside &= (i >= 0) & (i < size)
        offset += i * ld_i64(table, AXIS_WORDS * j + 1)
        place += i * ld_i64(table, AXIS_WORDS * j + 2)
    return offset, place if inside else -1


@njit(**INLINED)
def _locate_one(i, size, clip):
    """Position of index i on the only indexed axis, -1 for a row to drop."""
    if clip:
        return max(0, min(i, size - 1))
    return i if (i >= 0) & (i < size) else -1


@njit(**INLINED)
def _outer_offset(args, number, word):
    """Offset of outer position ``number`` (row-major) by the strides in ``word`` of each axis."""
    table, k, axes = ld_i64(args, 1), ld_i64(args, 2), ld_i64(args, 8)
    offset = 0
    for d in range(axes - 1, -1, -1):
        size = ld_i64(table, AXIS_WORDS * (k + d))
        offset += number % size * ld_i64(table, AXIS_WORDS * (k + d) + word)
        number //= size
    return offset


@njit(**INLINED)
def _copy_run(target, source, stride, n, item):
    """target[0:n] = source[0], source[stride], ..."""
    if stride == 1:
        for i in range(n):
            st(target, i, ld(source, i, item))
    elif stride == 0:
        value = ld(source, 0, item)
        for i in range(n):
            st(target, i, value)
    else:
        for i in range(n):
            st(target, i, ld(source, i * stride, item))


@njit(**INLINED)
def _gather_elements(args, first_row, last_row, item, outside):
    """Rows of one element, found by one index."""
    indices, step, operand, out = ld_i64(args, 0), ld_i64(args, 4), ld_i64(args, 11), ld_i64(args, 12)
    size, stride, clip = ld_i64(ld_i64(args, 1), 0), ld_i64(ld_i64(args, 1), 1), ld_i64(args, 6)
    for b in range(first_row, last_row):
        place = _locate_one(ld_i64(indices, b * step), size, clip)
        st(out, b, ld(operand, place * stride, item) if place >= 0 else outside)


@njit(**INLINED)
def _gather(args, tile_begin, tile_end, item, size):
    """Words 11.. of args: 11 operand   12 out   13 stride of a run   14 rows to a tile   15 what elements of even
    number are for a row to drop   16 those of odd number, which are other halves of elements.
    """
    rows, width, run, tile_width = ld_i64(args, 3), ld_i64(args, 7), ld_i64(args, 9), ld_i64(args, 10)
    operand, out, stride, tile_rows = ld_i64(args, 11), ld_i64(args, 12), ld_i64(args, 13), ld_i64(args, 14)
    even, odd = ld(args, 15 * (8 // size), item), ld(args, 16 * (8 // size), item)
    across = (width + tile_width - 1) // tile_width
    for tile in range(tile_begin, tile_end):
        begin = tile % across * tile_width
        end = min(width, begin + tile_width)
        first_row = tile // across * tile_rows
        last_row = min(rows, first_row + tile_rows)
        if width == 1 and ld_i64(args, 2) == 1:
            _gather_elements(args, first_row, last_row, item, even)
            continue
        for b in range(first_row, last_row):
            offset, place = _locate(args, b)
            target = out + size * b * width
            if place < 0:
                for e in range(begin, end):
                    st(target, e, odd if e % 2 else even)
                continue
            e = begin
            while e < end:
                number, skipped = e // run, e % run
                n = min(run - skipped, end - e)
                source = offset + _outer_offset(args, number, 1) + skipped * stride
                _copy_run(target + size * e, operand + size * source, stride, n, item)
                e += n


@njit(**INLINED)
def _combine_run(kind, target, target_stride, source, source_stride, n, proto):
    if target_stride == 1 and source_stride == 1:
        for i in range(n):
            value = ld(source, i, proto)
            st(target, i, value if kind == SET else combine(kind, ld(target, i, proto), value))
    else:
        for i in range(n):
            value, at = ld(source, i * source_stride, proto), i * target_stride
            st(target, at, value if kind == SET else combine(kind, ld(target, at, proto), value))


@njit(**INLINED)
def _scatter_elements(args, first_row, last_row, low, high, kind, proto):
    """Rows of one element, found by one index: those whose place is in [low, high)."""
    indices, step, out, updates = ld_i64(args, 0), ld_i64(args, 4), ld_i64(args, 11), ld_i64(args, 12)
    size, stride, clip = ld_i64(ld_i64(args, 1), 0), ld_i64(ld_i64(args, 1), 1), ld_i64(args, 6)
    row_stride = ld_i64(args, 13)
    for b in range(first_row, last_row):
        place = _locate_one(ld_i64(indices, b * step), size, clip)
        if (place >= low) & (place < high):
            at, value = place * stride, ld(updates, b * row_stride, proto)
            st(out, at, value if kind == SET else combine(kind, ld(out, at, proto), value))


@njit(**INLINED)
def _count_ranges(bounds, chunks, places, ranges):
    """The most ranges, at most ``ranges``, under which tiles visit few chunks (1.5 times as many as there are) twice.

    Scattered indices put every chunk into every range; then fewer ranges, and one in the end, do the same work sooner.
    """
    while ranges > 1:
        length = (places + ranges - 1) // ranges
        visits = 0
        for c in range(chunks):
            low, high = ld_i64(bounds, 2 * c), ld_i64(bounds, 2 * c + 1)
            if low <= high:
                visits += high // length - low // length + 1
        if 2 * visits <= 3 * chunks:
            break
        ranges //= 2
    return ranges


@njit(**INLINED)
def _scatter(args, tile_begin, tile_end, kind, proto, size):
    """Words 11.. of args: 11 out, which holds the operand   12 updates   13 their stride between rows   14 out's stride
    in a run   15 the updates' stride in a run   16 bounds   17 updates a chunk   18 places   19 ranges at most.
    """
    rows, width, run, tile_width = ld_i64(args, 3), ld_i64(args, 7), ld_i64(args, 9), ld_i64(args, 10)
    out, updates, row_stride = ld_i64(args, 11), ld_i64(args, 12), ld_i64(args, 13)
    out_stride, update_stride = ld_i64(args, 14), ld_i64(args, 15)
    bounds, chunk, places, ranges = ld_i64(args, 16), ld_i64(args, 17), ld_i64(args, 18), ld_i64(args, 19)
    across = (width + tile_width - 1) // tile_width
    chunks = (rows + chunk - 1) // chunk
    bounded = ranges > 1
    if bounded:
        ranges = _count_ranges(bounds, chunks, places, ranges)
    length = (places + ranges - 1) // ranges
    for tile in range(tile_begin, tile_end):
        begin = tile % across * tile_width
        end = min(width, begin + tile_width)
        low = tile // across * length
        high = min(places, low + length)
        if low >= high:
            continue
        for c in range(chunks):
            if bounded and (ld_i64(bounds, 2 * c) >= high or ld_i64(bounds, 2 * c + 1) < low):
                continue
            last_row = min(rows, c * chunk + chunk)
            if width == 1 and ld_i64(args, 2) == 1:
                _scatter_elements(args, c * chunk, last_row, low, high, kind, proto)
                continue
            for b in range(c * chunk, last_row):
                offset, place = _locate(args, b)
                if place < low or place >= high:
                    continue
                update = b * row_stride
                e = begin
                while e < end:
                    number, skipped = e // run, e % run
                    n = min(run - skipped, end - e)
                    target = out + size * (offset + _outer_offset(args, number, 1) + skipped * out_stride)
                    source = updates + size * (update + _outer_offset(args, number, 2) + skipped * update_stride)
                    _combine_run(kind, target, out_stride, source, update_stride, n, proto)
                    e += n


@njit(**INLINED)
def _scatter_bounds(args, tile_begin, tile_end):
    """Words 11.. of args: 11 bounds   12 updates a chunk   13 places.

    bounds[c] = (least, greatest) place that chunk c of the updates touches; (places, -1) where it touches none.
    """
    rows, bounds, chunk, places = ld_i64(args, 3), ld_i64(args, 11), ld_i64(args, 12), ld_i64(args, 13)
    indices, k, step, clip = ld_i64(args, 0), ld_i64(args, 2), ld_i64(args, 4), ld_i64(args, 6)
    for c in range(tile_begin, tile_end):
        low, high = places, -1
        last_row = min(rows, c * chunk + chunk)
        if k == 1:
            for b in range(c * chunk, last_row):
                place = _locate_one(ld_i64(indices, b * step), places, clip)
                low, high = min(low, place if place >= 0 else places), max(high, place)
        else:
            for b in range(c * chunk, last_row):
                _, place = _locate(args, b)
                low, high = min(low, place if place >= 0 else places), max(high, place)
        st(bounds, 2 * c, low)
        st(bounds, 2 * c + 1, high)


def build(name: str):
    """``gather_{bytes of an element}``, ``scatter_bounds`` and ``scatter_{set,add,mul,max,min}_{dtype}``."""
    if name == "scatter_bounds":

        def scatter_bounds(args, begin, end, worker):
            _scatter_bounds(args, begin, end)

        return scatter_bounds

    operation, *what = name.split("_")
    if operation == "gather":
        size = int(what[0])
        item = np.dtype(f"u{size}").type(0)

        def gather(args, begin, end, worker):
            _gather(args, begin, end, item, size)

        return gather

    kind, dtype = KINDS.index(what[0]), np.dtype(what[1])
    proto, size = dtype.type(0), dtype.itemsize

    def scatter(args, begin, end, worker):
        _scatter(args, begin, end, kind, proto, size)

    return scatter
