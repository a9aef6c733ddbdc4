"""Small matrix products inside a loop's kernel, in tiles of vector registers.

    out[i, n] = start[i, n] + sum over k of left[i, k] * right[i, k, n]

A tile is a few rows that share ``right`` by a few vectors of columns.  Its sums stay in registers for all k: each step
loads the vectors of right once and a number of each row.  A tile of few sums keeps several of each, one for every so
many-th k, as the next addition to a sum has to wait for the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value, dtype_of, memory_type

VECTOR = 64  # bytes, on every processor: so all add in the same order
TILE = 8  # vectors of sums
MOST_SUMS = 4  # of one element
UNROLL = 4  # steps of k written out
BRIEF = 128  # vectors of a tile's product up to which LLVM may write out the loop over k


class Access(NamedTuple):
    """Element [i0, i1, ...] of an array: ``offset + i0*strides[0] + ...`` of a local array (``where`` >= 0) or of the
    array outside number ``-1 - where``.
    """

    where: int
    dtype: str
    strides: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Product:
    """``out[i, n] = start[i, n] + sum over k of left[i, k] * right[i, k, n]``, i standing for any number of axes.

    Columns n are adjacent in ``right``, ``start`` and ``out``; ``length`` is at least 1.
    """

    shape: tuple[int, ...]  # of i
    columns: int
    length: int
    left: Access
    right: Access
    out: Access
    start: Access | None = None  # zeros


class Chunk(NamedTuple):
    """``width`` adjacent columns, a power of two; ``at`` counts from the tile's first column."""

    at: int
    width: int


class ProductWriter:
    """Writes a product; ``address`` writes the address of an access at an index."""

    def __init__(self, s: Scalar, product: Product, address: Callable[[Access, Sequence[str]], str]) -> None:
        self.s, self.code, self.p, self.address = s, s.code, product, address
        self.dtype = dtype_of(product.out.dtype)
        shared = [a for a, n in enumerate(product.shape) if n > 1 and product.right.strides[a] == 0]
        self.row_axis = shared[-1] if shared else None  # a tile's rows are neighbours along it

    def write(self) -> None:
        p = self.p
        lanes = VECTOR // self.dtype.itemsize
        rows = 1 if self.row_axis is None else p.shape[self.row_axis]
        vectors = -(-p.columns // lanes)
        width = min(vectors, TILE if rows == 1 else TILE // 2)  # vectors of a tile
        height = min(rows, TILE // width)
        span = width * lanes
        whole = p.columns // span * span
        full = [Chunk(j * lanes, lanes) for j in range(width)]
        rest = _chunks(p.columns - whole, lanes)

        def row_of_tiles(row: str, count: int) -> None:
            at = [*index]
            if self.row_axis is not None:
                at[self.row_axis] = row
            if whole:
                with self.code.loop("0", str(whole), span) as column:
                    self.tile(at, count, column, full)
            for i in range(0, len(rest), width):
                self.tile(at, count, str(whole), rest[i : i + width])

        with ExitStack() as loops:
            index = [
                "0" if a == self.row_axis else loops.enter_context(self.code.loop("0", str(n)))
                for a, n in enumerate(p.shape)
            ]
            if high := rows // height * height:
                with self.code.loop("0", str(high), height) as row:
                    row_of_tiles(row, height)
            if rows > high:
                row_of_tiles(str(high), rows - high)

    def tile(self, index: Sequence[str], rows: int, column: str, chunks: Sequence[Chunk]) -> None:
        """The tile of ``rows`` rows from ``index`` on, and of these chunks of columns."""
        p, s, code = self.p, self.s, self.code
        size = rows * len(chunks)
        n_sums = _power_of_two(max(1, min(MOST_SUMS, TILE // size, p.length)))
        vector = [Scalar(code, s.native_half, c.width) for c in chunks]
        places = [code.add(column, str(c.at)) for c in chunks]
        index_of = [list(index) for _ in range(rows)]
        if self.row_axis is not None:
            for r in range(rows):
                index_of[r][self.row_axis] = code.add(index[self.row_axis], str(r))
        kind = memory_type(self.dtype)
        sums = [[[code.array(kind, c.width) for _ in range(n_sums)] for c in chunks] for _ in range(rows)]

        def step(k: str, j: int, first: bool) -> None:
            rights = [
                v.load(self.dtype, self.address(p.right, [*index, k, n]), group=False) for v, n in zip(vector, places)
            ]
            for r in range(rows):
                left = s.load(self.dtype, self.address(p.left, [*index_of[r], k]), group=False)
                for c, (v, right) in enumerate(zip(vector, rights)):
                    value = v.mul(self.splat(left, chunks[c].width), right)
                    if not first:
                        value = v.add(v.load(self.dtype, sums[r][c][j], group=False), value)
                    v.store(value, sums[r][c][j], group=False)

        for j in range(n_sums):
            step(str(j), j, True)
        unroll = max(n_sums, UNROLL)
        whole = n_sums + (p.length - n_sums) // unroll * unroll
        if whole > n_sums:
            with code.loop(str(n_sums), str(whole), unroll, "free" if size * p.length <= BRIEF else "still") as k:
                for j in range(unroll):
                    step(code.add(k, str(j)), j % n_sums, False)
        for left_over in range(whole, p.length):
            step(str(left_over), left_over % n_sums, False)
        for r in range(rows):
            for c, v in enumerate(vector):
                values = [v.load(self.dtype, total, group=False) for total in sums[r][c]]
                while len(values) > 1:
                    values = [v.add(a, b) for a, b in zip(values[::2], values[1::2])]
                at = [*index_of[r], places[c]]
                if p.start is not None:
                    values[0] = v.add(v.load(self.dtype, self.address(p.start, at), group=False), values[0])
                v.store(values[0], self.address(p.out, at), group=False)

    def splat(self, x: Value, width: int) -> Value:
        if width == 1:
            return x
        kind = f"<{width} x {memory_type(x.dtype)}>"
        one = self.code.op(f"insertelement {kind} poison, {memory_type(x.dtype)} {x.ref}, i64 0")
        return Value(
            x.dtype, self.code.op(f"shufflevector {kind} {one}, {kind} poison, <{width} x i32> zeroinitializer")
        )


def _chunks(columns: int, lanes: int) -> list[Chunk]:
    """The fewest powers of two, at most ``lanes``, that add up to ``columns``."""
    found, at = [], 0
    while at < columns:
        width = min(lanes, _power_of_two(columns - at))
        found.append(Chunk(at, width))
        at += width
    return found


def _power_of_two(n: int) -> int:
    """The largest that does not exceed n."""
    return 1 << (n.bit_length() - 1)
