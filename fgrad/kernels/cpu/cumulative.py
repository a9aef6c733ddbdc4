"""Running totals along one axis: sums, products, extrema, and logarithms of sums of exponentials.

The axis may be cut into blocks: one step reduces every block but the last, the next runs through each block starting
from the blocks before it.  Lanes are the neighbours in memory, where the axis itself is not innermost: a row of them
is combined at a time.  Words of ``args``:

    0 x   1 table   2 outer axes   3 n   4 stride of x along the axis   5 of the result   6 out   7 lanes
    8 stride of x along them   9 of the result   10 lanes a tile   11 tiles of lanes   12 block   13 blocks
    14 totals: [outer, block, lane], if there is more than one block

and of the table, for each outer axis: (size, stride of x, stride of the result).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from fgrad.kernels.cpu.memory import ld, ld_i64, st
from fgrad.kernels.cpu.scalars import ADD, INLINED, KINDS, cast_to, combine

TABLE_WORDS = 3
LOGADDEXP = len(KINDS)


@njit(**INLINED)
def _combine(kind, ordered, old, new):
    """``combine`` (of complex numbers, ``ordered`` being None, the sum or product), and

    log(e^old + e^new) = max + log1p(e^-|old - new|),    equal infinities having a difference of 0.
    """
    if ordered is None:
        return cast_to(old + new if kind == ADD else old * new, old)
    if kind != LOGADDEXP:
        return combine(kind, old, new)
    if old == new:
        return cast_to(old + math.log(2.0), old)
    high, low = (old, new) if old > new else (new, old)
    return cast_to(high + math.log1p(math.exp(low - high)), old)


@njit(**INLINED)
def _offset(table, axes, number, word):
    offset = 0
    for d in range(axes - 1, -1, -1):
        size = ld_i64(table, TABLE_WORDS * d)
        offset += number % size * ld_i64(table, TABLE_WORDS * d + word)
        number //= size
    return offset


@njit(**INLINED)
def _block_totals(args, tile_begin, tile_end, kind, ordered, proto, item):
    n, stride, lanes, lane_stride = ld_i64(args, 3), ld_i64(args, 4), ld_i64(args, 7), ld_i64(args, 8)
    lane_tile, tiles, block, blocks = ld_i64(args, 10), ld_i64(args, 11), ld_i64(args, 12), ld_i64(args, 13)
    for tile in range(tile_begin, tile_end):
        first_lane = tile % tiles * lane_tile
        b = tile // tiles % (blocks - 1)
        outer = tile // tiles // (blocks - 1)
        x = ld_i64(args, 0) + item * (_offset(ld_i64(args, 1), ld_i64(args, 2), outer, 1) + b * block * stride)
        totals = ld_i64(args, 14) + item * (outer * blocks + b) * lanes
        for lane in range(first_lane, min(lanes, first_lane + lane_tile)):
            total = ld(x, lane * lane_stride, proto)
            for i in range(1, min(block, n - b * block)):
                total = _combine(kind, ordered, total, ld(x, i * stride + lane * lane_stride, proto))
            st(totals, lane, total)


@njit(**INLINED)
def _one_lane(kind, ordered, proto, x, stride, out, out_stride, n, started, total):
    first = ld(x, 0, proto)
    total = _combine(kind, ordered, total, first) if started else first
    st(out, 0, total)
    for i in range(1, n):
        total = _combine(kind, ordered, total, ld(x, i * stride, proto))
        st(out, i * out_stride, total)


@njit(**INLINED)
def _row(kind, ordered, proto, before, before_stride, x, stride, out, out_stride, n):
    """out = before op x, over lanes."""
    if (stride == 1) & (out_stride == 1) & (before_stride == 1):
        for lane in range(n):
            st(out, lane, _combine(kind, ordered, ld(before, lane, proto), ld(x, lane, proto)))
    else:
        for lane in range(n):
            old = ld(before, lane * before_stride, proto)
            st(out, lane * out_stride, _combine(kind, ordered, old, ld(x, lane * stride, proto)))


@njit(**INLINED)
def _cumulative(args, tile_begin, tile_end, kind, ordered, proto, item):
    n, stride, out_stride, lanes = ld_i64(args, 3), ld_i64(args, 4), ld_i64(args, 5), ld_i64(args, 7)
    lane_stride, out_lane_stride = ld_i64(args, 8), ld_i64(args, 9)
    lane_tile, tiles, block, blocks = ld_i64(args, 10), ld_i64(args, 11), ld_i64(args, 12), ld_i64(args, 13)
    table, axes = ld_i64(args, 1), ld_i64(args, 2)
    for tile in range(tile_begin, tile_end):
        lane = tile % tiles * lane_tile
        width = min(lane_tile, lanes - lane)
        b = tile // tiles % blocks
        outer = tile // tiles // blocks
        length = min(block, n - b * block)
        if length <= 0:
            continue
        x = ld_i64(args, 0) + item * (_offset(table, axes, outer, 1) + b * block * stride + lane * lane_stride)
        out = ld_i64(args, 6)
        out += item * (_offset(table, axes, outer, 2) + b * block * out_stride + lane * out_lane_stride)
        totals = ld_i64(args, 14) + item * (outer * blocks * lanes + lane)
        if lanes == 1:
            total = proto
            if b > 0:
                total = ld(totals, 0, proto)
                for before in range(1, b):
                    total = _combine(kind, ordered, total, ld(totals, before, proto))
            _one_lane(kind, ordered, proto, x, stride, out, out_stride, length, b > 0, total)
            continue
        for at in range(width):
            value = ld(x, at * lane_stride, proto)
            if b > 0:
                total = ld(totals, at, proto)
                for before in range(1, b):
                    total = _combine(kind, ordered, total, ld(totals, before * lanes + at, proto))
                value = _combine(kind, ordered, total, value)
            st(out, at * out_lane_stride, value)
        for _ in range(1, length):
            x += item * stride
            after = out + item * out_stride
            _row(kind, ordered, proto, out, out_lane_stride, x, lane_stride, after, out_lane_stride, width)
            out = after


def build(name: str):
    """``cumulative_{add,mul,max,min,logaddexp}_{dtype}`` and, of a block, ``cumulative_total_{...}_{dtype}``."""
    *operation, kind_name, dtype = name.split("_")
    kind = LOGADDEXP if kind_name == "logaddexp" else KINDS.index(kind_name)
    proto, item = np.dtype(dtype).type(0), np.dtype(dtype).itemsize
    ordered = None if np.dtype(dtype).kind == "c" else 1

    def cumulative(args, begin, end, worker):
        _cumulative(args, begin, end, kind, ordered, proto, item)

    def totals(args, begin, end, worker):
        _block_totals(args, begin, end, kind, ordered, proto, item)

    return totals if "total" in operation else cumulative
