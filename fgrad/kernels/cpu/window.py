"""Sliding windows: their sums and extrema (reduce_window), and where their extrema are (reduce_window_index).

The last axis of the result is the *lane* axis, the others are rows.  For each row the kernel walks over the window's
taps on the row axes; under it the innermost loops combine whole lanes, contiguous in the usual layouts (channels
last), into the row of the result itself.  All window arithmetic (stride, padding, dilation) is in a table that
`fgrad.kernels.window_plan` makes; words of ``args``:

    0 x   1 out   2 table   3 row axes   4 lanes   5 lanes a tile   6 rows   7 rows a tile
    8 x's stride along the lane axis   9 taps on the lane axis   10 the identity's bits   11 bytes of an element
    12 scratch: 4 words for each row axis, then (winners only) an element for each lane of a tile   13 its size

and of the table:

    lane tap t: (first output, step between outputs, number of outputs, first input, step between inputs)
    row axis d: (size, x step, index step, where)
        where = -1: no window here; output o reads x at o * x step, the row-major index being o * index step
        else, at table[where + 3 * o]: (first x, first index, number of taps), x step and index step apart
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fgrad.kernels.cpu.memory import ld, ld_i64, st
from fgrad.kernels.cpu.scalars import INLINED, KINDS, beats, combine

LANE_WORDS, AXIS_WORDS, POSITION_WORDS, WALK_WORDS = 5, 4, 3, 4


@njit(**INLINED)
def _ceil_div(a, b):
    return -((-a) // b)


@njit(**INLINED)
def _steps(distance, step):
    """The least number of steps that cover ``distance``; most windows step by 1, and a division is slow."""
    return distance if step == 1 else _ceil_div(distance, step)


@njit(**INLINED)
def _lane_outputs(table, t):
    return ld_i64(table, LANE_WORDS * t), ld_i64(table, LANE_WORDS * t + 1), ld_i64(table, LANE_WORDS * t + 2)


@njit(**INLINED)
def _lane_inputs(table, t):
    return ld_i64(table, LANE_WORDS * t + 3), ld_i64(table, LANE_WORDS * t + 4)


@njit(**INLINED)
def _combine_lanes(kind, proto, table, taps, x, stride, out, begin, end):
    """out[begin:end] op= x, over the taps of the lane axis."""
    for t in range(taps):
        first, step, count = _lane_outputs(table, t)
        i, advance = _lane_inputs(table, t)
        if step == 1 and advance * stride == 1:
            for o in range(max(begin, first), min(end, first + count)):
                st(out, o, combine(kind, ld(out, o, proto), ld(x, i * stride - first + o, proto)))
        else:
            for q in range(max(0, _steps(begin - first, step)), min(count, _steps(end - first, step))):
                o = first + q * step
                st(out, o, combine(kind, ld(out, o, proto), ld(x, (i + q * advance) * stride, proto)))


@njit(**INLINED)
def _compare(kind, proto, best, where, o, value, place):
    """Lane o's winner becomes ``value`` at index ``place`` where it beats the one so far, or is the first."""
    old = ld(best, o, proto)
    wins = (ld_i64(where, o) < 0) | beats(kind, value, old)
    st(best, o, value if wins else old)
    st(where, o, place if wins else ld_i64(where, o))


@njit(**INLINED)
def _compare_lanes(kind, proto, table, taps, x, stride, index, best, where, begin, end):
    """As `_combine_lanes`, for the winners ``best`` (begin counts as its element 0) at indices ``where``."""
    for t in range(taps):
        first, step, count = _lane_outputs(table, t)
        i, advance = _lane_inputs(table, t)
        if step == 1 and advance * stride == 1:
            for o in range(max(begin, first), min(end, first + count)):
                value = ld(x, i * stride - first + o, proto)
                _compare(kind, proto, best, where, o, value, index + i + (o - first) * advance)
        else:
            for q in range(max(0, _steps(begin - first, step)), min(count, _steps(end - first, step))):
                value = ld(x, (i + q * advance) * stride, proto)
                _compare(kind, proto, best, where, first + q * step, value, index + i + q * advance)


@njit(**INLINED)
def _enter_row(table, axes, lane_taps, row, walk):
    """Sets up the walk over the taps of one row: (first x, first index, number of taps) without the lane axis's."""
    x = index = 0
    total = 1
    for d in range(axes - 1, -1, -1):
        axis = table + 8 * (LANE_WORDS * lane_taps + AXIS_WORDS * d)
        size, x_step, index_step, at = ld_i64(axis, 0), ld_i64(axis, 1), ld_i64(axis, 2), ld_i64(axis, 3)
        o = row % size
        row //= size
        count = 1
        if at < 0:
            x += o * x_step
            index += o * index_step
        else:
            at += POSITION_WORDS * o
            x += ld_i64(table, at)
            index += ld_i64(table, at + 1)
            count = ld_i64(table, at + 2)
        total *= count
        st(walk, WALK_WORDS * d, count)
        st(walk, WALK_WORDS * d + 1, count)
        st(walk, WALK_WORDS * d + 2, x_step)
        st(walk, WALK_WORDS * d + 3, index_step)
    return x, index, total


@njit(**INLINED)
def _next_tap(axes, walk):
    """The next tap of a row in row-major order: (x, index) relative to this one."""
    x = index = 0
    for d in range(axes - 1, -1, -1):
        left = ld_i64(walk, WALK_WORDS * d) - 1
        x += ld_i64(walk, WALK_WORDS * d + 2)
        index += ld_i64(walk, WALK_WORDS * d + 3)
        if left > 0:
            st(walk, WALK_WORDS * d, left)
            break
        count = ld_i64(walk, WALK_WORDS * d + 1)
        st(walk, WALK_WORDS * d, count)
        x -= count * ld_i64(walk, WALK_WORDS * d + 2)
        index -= count * ld_i64(walk, WALK_WORDS * d + 3)
    return x, index


@njit(**INLINED)
def _windows(args, tile_begin, tile_end, worker, kind, proto, winners):
    source, result, table, axes = ld_i64(args, 0), ld_i64(args, 1), ld_i64(args, 2), ld_i64(args, 3)
    lanes, lane_tile, rows, row_tile = ld_i64(args, 4), ld_i64(args, 5), ld_i64(args, 6), ld_i64(args, 7)
    stride, lane_taps, item = ld_i64(args, 8), ld_i64(args, 9), ld_i64(args, 11)
    identity = ld(args + 8 * 10, 0, proto)
    walk = ld_i64(args, 12) + worker * ld_i64(args, 13)
    lane_tiles = _ceil_div(lanes, lane_tile)
    for tile in range(tile_begin, tile_end):
        begin = tile % lane_tiles * lane_tile
        end = min(lanes, begin + lane_tile)
        first_row = tile // lane_tiles * row_tile
        best = walk + 8 * WALK_WORDS * axes - begin * item
        for row in range(first_row, min(rows, first_row + row_tile)):
            if winners:
                out = result + 8 * row * lanes
                for o in range(begin, end):
                    st(best, o, identity)
                    st(out, o, -1)
            else:
                out = result + item * row * lanes
                for o in range(begin, end):
                    st(out, o, identity)
            x, index, total = _enter_row(table, axes, lane_taps, row, walk)
            for _ in range(total):
                at = source + x * item
                if winners:
                    _compare_lanes(kind, proto, table, lane_taps, at, stride, index, best, out, begin, end)
                else:
                    _combine_lanes(kind, proto, table, lane_taps, at, stride, out, begin, end)
                x_step, index_step = _next_tap(axes, walk)
                x += x_step
                index += index_step


def build(name: str):
    """``reduce_window_{add,max,min}_{dtype}`` and ``reduce_window_index_{max,min}_{dtype}``."""
    *operation, kind_name, dtype = name.split("_")
    kind, proto, winners = KINDS.index(kind_name), np.dtype(dtype).type(0), "index" in operation

    def kernel(args, begin, end, worker):
        _windows(args, begin, end, worker, kind, proto, winners)

    return kernel
