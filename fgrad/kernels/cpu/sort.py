"""Sorting lines: order-preserving integer keys, a radix sort of each chunk, merges of chunks, and a gather.

A *line* is the sorted axis at one position of the other axes; a line longer than a chunk is sorted chunk by chunk and
merged.  A float's key orders like the float, with -0 equal to 0 and every NaN last and equal; signed integers have
their sign bit flipped.  With an index beside the keys, stable sorts by several keys in turn, the last key first, order
by all of them; without one, a line's values come back from its keys.  Every sort here is stable, so the result is
unique: neither chunks nor threads show in it.  Words of ``args``:

    sort_keys     0 x   1 table   2 outer axes   3 n   4 stride   5 run   6 runs of a line   7 key: 0 the bits, 1 flips
                  the sign, 2 of a float   8 sign bit   9 all bits   10 bits of infinity   11 keys   12 spare keys
                  13 index   14 spare index   15 the index holds an order to refine   16 scratch: a count for each digit
                  and byte   17 its size
    sort_merge    0 keys   1 result   2 index   3 result   4 n   5 run   6 pairs of a line   7 segment
                  8 segments of a pair
    sort_take     0 x   1 table   2 outer axes   3 n   4 stride   5 out   6 its stride   7 index   8 segment
                  9 segments of a line
    sort_values   0 keys   1 table   2 outer axes   3 n   4 out   5 its stride   6 key   7 sign bit   8 all bits
                  9 bits of infinity   10 x   11 its stride

and of the table, for each outer axis: (size, stride of x, stride of the result).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fgrad.kernels.cpu.memory import copy_bytes, fill_zero, ld, ld_i64, st
from fgrad.kernels.cpu.scalars import INLINED, cast_to

TABLE_WORDS, DIGITS = 3, 256
#: Up to so many elements are sorted by insertion, which needs no counts.
FEW = 32
INDEX_TYPES = {0: None, 4: np.uint32(0), 8: np.int64(0)}


@njit(**INLINED)
def _line_offset(table, axes, line, word):
    """Offset of a line's first element in x (word 1) or the result (word 2)."""
    offset = 0
    for d in range(axes - 1, -1, -1):
        size = ld_i64(table, TABLE_WORDS * d)
        offset += line % size * ld_i64(table, TABLE_WORDS * d + word)
        line //= size
    return offset


@njit(**INLINED)
def _key(kind, bits, sign, ones, infinity):
    """The key of a value given by its bits."""
    if kind == 0:
        return bits
    if kind == 1:
        return bits ^ sign
    magnitude = bits & ~sign
    key = (bits ^ ones) if bits & sign else (bits | sign)
    key = sign if magnitude == 0 else key
    return ones if magnitude > infinity else key


@njit(**INLINED)
def _bits(kind, key, sign, ones):
    """The bits whose key this is, those of 0 and of a NaN standing for all of theirs."""
    if kind == 0:
        return key
    if kind == 1:
        return key ^ sign
    return (key ^ sign) if key & sign else (key ^ ones)


@njit(**INLINED)
def _insertion(proto, index_proto, keys, index, n):
    for i in range(1, n):
        key = ld(keys, i, proto)
        place = i
        if index_proto is None:
            while place > 0 and ld(keys, place - 1, proto) > key:
                st(keys, place, ld(keys, place - 1, proto))
                place -= 1
        else:
            number = ld(index, i, index_proto)
            while place > 0 and ld(keys, place - 1, proto) > key:
                st(keys, place, ld(keys, place - 1, proto))
                st(index, place, ld(index, place - 1, index_proto))
                place -= 1
            st(index, place, number)
        st(keys, place, key)


@njit(**INLINED)
def _radix(proto, index_proto, item, index_item, keys, spare, index, spare_index, n, counts):
    """From the least significant byte on; bytes that all keys share need no pass."""
    moved = False
    for digit in range(item):
        count, shift = counts + 8 * DIGITS * digit, 8 * digit
        if ld_i64(count, (np.int64(ld(keys, 0, proto)) >> shift) & 255) == n:
            continue
        total = 0
        for d in range(DIGITS):
            here = ld_i64(count, d)
            st(count, d, total)
            total += here
        for i in range(n):
            key = ld(keys, i, proto)
            d = (np.int64(key) >> shift) & 255
            place = ld_i64(count, d)
            st(count, d, place + 1)
            st(spare, place, key)
            if index_proto is not None:
                st(spare_index, place, ld(index, i, index_proto))
        keys, spare = spare, keys
        index, spare_index = spare_index, index
        moved = not moved
    if moved:
        copy_bytes(spare, keys, item * n)
        if index_proto is not None:
            copy_bytes(spare_index, index, index_item * n)


@njit(**INLINED)
def _sort_keys(args, tile_begin, tile_end, worker, proto, index_proto, item, index_item):
    x, table, axes, n, stride = ld_i64(args, 0), ld_i64(args, 1), ld_i64(args, 2), ld_i64(args, 3), ld_i64(args, 4)
    run, runs, kind, sign = ld_i64(args, 5), ld_i64(args, 6), ld_i64(args, 7), ld_i64(args, 8)
    ones, infinity, refine = ld_i64(args, 9), ld_i64(args, 10), ld_i64(args, 15)
    counts = ld_i64(args, 16) + worker * ld_i64(args, 17)
    for tile in range(tile_begin, tile_end):
        line, first = tile // runs, tile % runs * run
        length = min(run, n - first)
        if length <= 0:
            continue
        source = x + item * _line_offset(table, axes, line, 1)
        keys, spare = ld_i64(args, 11) + item * (line * n + first), ld_i64(args, 12) + item * (line * n + first)
        index = ld_i64(args, 13) + index_item * (line * n + first)
        spare_index = ld_i64(args, 14) + index_item * (line * n + first)
        radix = length > FEW
        if radix:
            fill_zero(counts, 8 * DIGITS * item)
        for i in range(length):
            if index_proto is None:
                number = first + i
            elif refine:
                number = np.int64(ld(index, i, index_proto))
            else:
                number = first + i
                st(index, i, cast_to(number, index_proto))
            key = _key(kind, np.int64(ld(source, number * stride, proto)), sign, ones, infinity)
            st(keys, i, cast_to(key, proto))
            if radix:
                for digit in range(item):
                    at = DIGITS * digit + ((key >> (8 * digit)) & 255)
                    st(counts, at, ld_i64(counts, at) + 1)
        if radix:
            _radix(proto, index_proto, item, index_item, keys, spare, index, spare_index, length, counts)
        else:
            _insertion(proto, index_proto, keys, index, length)


@njit(**INLINED)
def _split(proto, a, n_a, b, n_b, k):
    """How many of the first k elements of the stable merge of a and b come from a."""
    low, high = max(0, k - n_b), min(k, n_a)
    while low < high:
        middle = (low + high) // 2
        if ld(a, middle, proto) <= ld(b, k - 1 - middle, proto):
            low = middle + 1
        else:
            high = middle
    return low


@njit(**INLINED)
def _sort_merge(args, tile_begin, tile_end, proto, index_proto, item, index_item):
    n, run, pairs = ld_i64(args, 4), ld_i64(args, 5), ld_i64(args, 6)
    segment, segments = ld_i64(args, 7), ld_i64(args, 8)
    for tile in range(tile_begin, tile_end):
        pair, begin = tile // segments, tile % segments * segment
        first = pair % pairs * 2 * run
        n_a = min(run, n - first)
        n_b = min(run, n - first - n_a)
        base = pair // pairs * n + first
        end = min(begin + segment, n_a + n_b)
        a, index = ld_i64(args, 0) + item * base, ld_i64(args, 2) + index_item * base
        out, out_index = ld_i64(args, 1) + item * base, ld_i64(args, 3) + index_item * base
        b = a + item * n_a
        if begin >= end:
            continue
        i = _split(proto, a, n_a, b, n_b, begin)
        j = begin - i
        o = begin
        while (o < end) & (i < n_a) & (j < n_b):
            from_a, from_b = ld(a, i, proto), ld(b, j, proto)
            second = from_b < from_a
            st(out, o, from_b if second else from_a)
            if index_proto is not None:
                st(out_index, o, ld(index, n_a + j if second else i, index_proto))
            i += 0 if second else 1
            j += 1 if second else 0
            o += 1
        rest = i if i < n_a else n_a + j
        copy_bytes(out + item * o, a + item * rest, item * (end - o))
        if index_proto is not None:
            copy_bytes(out_index + index_item * o, index + index_item * rest, index_item * (end - o))


@njit(**INLINED)
def _sort_take(args, tile_begin, tile_end, proto, index_proto, item, index_item):
    x, table, axes, n, stride = ld_i64(args, 0), ld_i64(args, 1), ld_i64(args, 2), ld_i64(args, 3), ld_i64(args, 4)
    out_stride, segment, segments = ld_i64(args, 6), ld_i64(args, 8), ld_i64(args, 9)
    for tile in range(tile_begin, tile_end):
        line, begin = tile // segments, tile % segments * segment
        source = x + item * _line_offset(table, axes, line, 1)
        out = ld_i64(args, 5) + item * _line_offset(table, axes, line, 2)
        index = ld_i64(args, 7) + index_item * line * n
        for i in range(begin, min(n, begin + segment)):
            st(out, i * out_stride, ld(source, np.int64(ld(index, i, index_proto)) * stride, proto))


@njit(**INLINED)
def _first_at_least(proto, keys, n, key):
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if ld(keys, middle, proto) < key:
            low = middle + 1
        else:
            high = middle
    return low


@njit(**INLINED)
def _sort_values(args, tile_begin, tile_end, proto, item):
    table, axes, n, stride = ld_i64(args, 1), ld_i64(args, 2), ld_i64(args, 3), ld_i64(args, 5)
    kind, sign, ones, infinity = ld_i64(args, 6), ld_i64(args, 7), ld_i64(args, 8), ld_i64(args, 9)
    x_stride = ld_i64(args, 11)
    for line in range(tile_begin, tile_end):
        keys = ld_i64(args, 0) + item * line * n
        out = ld_i64(args, 4) + item * _line_offset(table, axes, line, 2)
        for i in range(n):
            bits = _bits(kind, np.int64(ld(keys, i, proto)), sign, ones)
            st(out, i * stride, cast_to(bits, proto))
        if kind != 2:
            continue
        # one key stands for both zeros, one for every NaN: their own bits, in the order they came
        zero, nan = cast_to(sign, proto), cast_to(ones, proto)
        zero_at, nan_at = _first_at_least(proto, keys, n, zero), _first_at_least(proto, keys, n, nan)
        has_zeros = zero_at < n and ld(keys, zero_at, proto) == zero
        if not has_zeros and nan_at == n:
            continue
        source = ld_i64(args, 10) + item * _line_offset(table, axes, line, 1)
        for i in range(n):
            value = ld(source, i * x_stride, proto)
            magnitude = np.int64(value) & ~sign
            if magnitude == 0:
                st(out, zero_at * stride, value)
                zero_at += 1
            elif magnitude > infinity:
                st(out, nan_at * stride, value)
                nan_at += 1


def build(name: str):
    """``sort_{keys,merge,take}_{bits}_{index}`` and ``sort_values_{bits}``.

    ``index`` is the bytes of an index, 0 where there is none.
    """
    _, what, bits, *rest = name.split("_")
    item, index_item = int(bits) // 8, int(rest[0]) if rest else 0
    proto, index_proto = np.dtype(f"u{item}").type(0), INDEX_TYPES[index_item]

    def sort_keys(args, begin, end, worker):
        _sort_keys(args, begin, end, worker, proto, index_proto, item, index_item)

    def sort_merge(args, begin, end, worker):
        _sort_merge(args, begin, end, proto, index_proto, item, index_item)

    def sort_take(args, begin, end, worker):
        _sort_take(args, begin, end, proto, index_proto, item, index_item)

    def sort_values(args, begin, end, worker):
        _sort_values(args, begin, end, proto, item)

    return {"keys": sort_keys, "merge": sort_merge, "take": sort_take, "values": sort_values}[what]
