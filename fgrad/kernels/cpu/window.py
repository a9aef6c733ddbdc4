"""Sliding windows: their sums and extrema (reduce_window), which tap wins (reduce_window_winner), and sums of the
elements whose tap was chosen (gather_winners and its transpose).

The last axis of the result is the *lane* axis, the others are rows.  For each row the kernel walks over the window's
taps on the row axes; under it the innermost loops combine whole lanes, contiguous in the usual layouts (channels
last), into the row of the result itself.  All window arithmetic (stride, padding, dilation) is in a table that
`fgrad.kernels.window_axes` makes; words of ``args``:

    0 x   1 out   2 table   3 row axes   4 lanes   5 lanes a tile   6 rows   7 rows a tile
    8 x's stride along the lane axis   9 taps on the lane axis   10 the identity's bits   11 bytes of an element
    12 scratch: 5 words for each row axis   13 its size
    winners: 14 the winners' taps, a second result   15 the number that says none
    chosen:  14 the chosen taps   15 and 16 their strides along the lanes, for each output and for each input

and of the table:

    lane tap t: (first output, step between outputs, number of outputs, first input, step between inputs, number)
    row axis d: (size, x step, taps step, number step, where)
        where = -1: no window here; output o reads x at o * x step, and the chosen tap at o * taps step
        else, at table[where + 4 * o]: (first x, first of the taps, first number, how many), the steps apart
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fgrad.kernels.cpu.memory import ld, ld_i64, st
from fgrad.kernels.cpu.scalars import INLINED, KINDS, beats, cast_to, combine

LANE_WORDS, AXIS_WORDS, POSITION_WORDS, WALK_WORDS = 6, 5, 4, 5
#: What is done with the elements under a window.
COMBINE, WIN, CHOOSE = range(3)


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
def _compare(kind, proto, best, taps, o, value, number, none):
    """Lane o's winner becomes ``value`` at tap ``number`` where it beats the one so far, or is the first."""
    old, tap = ld(best, o, proto), ld(taps, o, number)
    wins = (tap == none) | beats(kind, value, old)
    st(best, o, value if wins else old)
    st(taps, o, number if wins else tap)


@njit(**INLINED)
def _compare_lanes(kind, proto, table, lane_taps, x, stride, number, best, taps, none, begin, end):
    """As `_combine_lanes`, for the winners ``best`` and their ``taps``; the row axes add ``number`` to a tap's own."""
    for t in range(lane_taps):
        first, step, count = _lane_outputs(table, t)
        i, advance = _lane_inputs(table, t)
        own = cast_to(number + ld_i64(table, LANE_WORDS * t + 5), none)
        if step == 1 and advance * stride == 1:
            for o in range(max(begin, first), min(end, first + count)):
                _compare(kind, proto, best, taps, o, ld(x, i * stride - first + o, proto), own, none)
        else:
            for q in range(max(0, _steps(begin - first, step)), min(count, _steps(end - first, step))):
                value = ld(x, (i + q * advance) * stride, proto)
                _compare(kind, proto, best, taps, first + q * step, value, own, none)


@njit(**INLINED)
def _choose_lanes(proto, tap, table, lane_taps, x, stride, number, taps, of_output, of_input, out, begin, end):
    """out[begin:end] += x where the chosen tap is the one that sees it."""
    for t in range(lane_taps):
        first, step, count = _lane_outputs(table, t)
        i, advance = _lane_inputs(table, t)
        own = cast_to(number + ld_i64(table, LANE_WORDS * t + 5), tap)
        for q in range(max(0, _steps(begin - first, step)), min(count, _steps(end - first, step))):
            o, place = first + q * step, i + q * advance
            if ld(taps, o * of_output + place * of_input, tap) == own:
                st(out, o, cast_to(ld(out, o, proto) + ld(x, place * stride, proto), proto))


@njit(**INLINED)
def _enter_row(table, axes, lane_taps, row, walk):
    """Sets up the walk over the taps of one row: (first x, of the taps, number; how many) without the lane axis's."""
    x = beside = number = 0
    total = 1
    for d in range(axes - 1, -1, -1):
        axis = table + 8 * (LANE_WORDS * lane_taps + AXIS_WORDS * d)
        size, x_step, beside_step = ld_i64(axis, 0), ld_i64(axis, 1), ld_i64(axis, 2)
        number_step, at = ld_i64(axis, 3), ld_i64(axis, 4)
        o = row % size
        row //= size
        count = 1
        if at < 0:
            x += o * x_step
            beside += o * beside_step
        else:
            at += POSITION_WORDS * o
            x += ld_i64(table, at)
            beside += ld_i64(table, at + 1)
            number += ld_i64(table, at + 2)
            count = ld_i64(table, at + 3)
        total *= count
        st(walk, WALK_WORDS * d, count)
        st(walk, WALK_WORDS * d + 1, count)
        st(walk, WALK_WORDS * d + 2, x_step)
        st(walk, WALK_WORDS * d + 3, beside_step)
        st(walk, WALK_WORDS * d + 4, number_step)
    return x, beside, number, total


@njit(**INLINED)
def _next_tap(axes, walk):
    """The next tap of a row in row-major order: (x, of the taps, number) relative to this one."""
    x = beside = number = 0
    for d in range(axes - 1, -1, -1):
        left = ld_i64(walk, WALK_WORDS * d) - 1
        x += ld_i64(walk, WALK_WORDS * d + 2)
        beside += ld_i64(walk, WALK_WORDS * d + 3)
        number += ld_i64(walk, WALK_WORDS * d + 4)
        if left > 0:
            st(walk, WALK_WORDS * d, left)
            break
        count = ld_i64(walk, WALK_WORDS * d + 1)
        st(walk, WALK_WORDS * d, count)
        x -= count * ld_i64(walk, WALK_WORDS * d + 2)
        beside -= count * ld_i64(walk, WALK_WORDS * d + 3)
        number -= count * ld_i64(walk, WALK_WORDS * d + 4)
    return x, beside, number


@njit(**INLINED)
def _windows(args, tile_begin, tile_end, worker, mode, kind, proto, tap, tap_item):
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
        for row in range(first_row, min(rows, first_row + row_tile)):
            out = result + item * row * lanes
            for o in range(begin, end):
                st(out, o, identity)
            winners, none = 0, tap
            if mode == WIN:
                winners = ld_i64(args, 14) + tap_item * row * lanes
                none = cast_to(ld_i64(args, 15), tap)
                for o in range(begin, end):
                    st(winners, o, none)
            x, beside, number, total = _enter_row(table, axes, lane_taps, row, walk)
            for _ in range(total):
                at = source + x * item
                if mode == WIN:
                    _compare_lanes(kind, proto, table, lane_taps, at, stride, number, out, winners, none, begin, end)
                elif mode == CHOOSE:
                    chosen = ld_i64(args, 14) + beside * tap_item
                    of_output, of_input = ld_i64(args, 15), ld_i64(args, 16)
                    _choose_lanes(proto, tap, table, lane_taps, at, stride, number, chosen, of_output, of_input, out,
                                  begin, end)  # fmt: skip
                else:
                    _combine_lanes(kind, proto, table, lane_taps, at, stride, out, begin, end)
                x_step, beside_step, number_step = _next_tap(axes, walk)
                x += x_step
                beside += beside_step
                number += number_step


def build(name: str):
    """``reduce_window_{add,max,min}_{dtype}``, ``reduce_window_winner_{max,min}_{dtype}_{dtype of the taps}`` and
    ``reduce_window_chosen_{dtype}_{dtype of the taps}``.
    """
    match name.removeprefix("reduce_window_").split("_"):
        case "winner", kind_name, dtype, taps:
            mode, kind = WIN, KINDS.index(kind_name)
        case "chosen", dtype, taps:
            mode, kind = CHOOSE, KINDS.index("add")
        case kind_name, dtype:
            mode, kind, taps = COMBINE, KINDS.index(kind_name), "uint8"
    proto, tap = np.dtype(dtype).type(0), np.dtype(taps).type(0)
    tap_item = tap.itemsize

    def kernel(args, begin, end, worker):
        _windows(args, begin, end, worker, mode, kind, proto, tap, tap_item)

    return kernel
