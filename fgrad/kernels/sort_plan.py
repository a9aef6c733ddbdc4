"""Plans for sorting lines; `kernels/cpu/sort.py` has the kernels and the words of their arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from fgrad.kernels.builder import PlanBuilder, real, start
from fgrad.kernels.layout import Layout, as_pairs, collapse
from fgrad.kernels.plan import KernelPlan, Ptr

#: Bytes of keys and indices, both copies, that a radix sort may touch at random: they stay in the second-level cache.
CHUNK_BYTES = 1 << 20
#: Elements of a line from which on it is cut even if it fits, so that threads share it; and elements of a tile.
SHARED, TILE = 1 << 14, 1 << 14
#: Lines that are work enough for every thread.
MANY = 16

BITS, FLIP_SIGN, FLOAT = range(3)


def plan_sort(
    ins: Sequence[Layout], outs: Sequence[Layout], *, dimension: int, num_keys: int, is_stable: bool
) -> KernelPlan:
    """Steps for `reference.sort(*operands, dimension=, num_keys=, is_stable=)`; operands of any dtype.

    One operand alone is rebuilt from its sorted keys.  Otherwise the lines' order is found by each key in turn, the
    last one first, and every operand is gathered through it.
    """
    builder = PlanBuilder()
    if math.prod(ins[0].shape) == 0:
        return builder.plan()
    parts = [_parts(Ptr("in", i), layout) for i, layout in enumerate(ins)]
    targets = [_parts(Ptr("out", i), layout) for i, layout in enumerate(outs)]
    keys = [key for operand in parts[:num_keys] for key in operand]
    lines = _Lines(builder, ins[0].shape, dimension, widest=max(k.layout.dtype.itemsize for k in keys),
                   index=0 if len(ins) == len(keys) == 1 else None)  # fmt: skip
    for key in reversed(keys):
        lines.sort_by(key)
    if lines.index_bytes == 0:
        lines.values(keys[0], targets[0][0])
        return builder.plan()
    for operand, target in zip(parts, targets):
        for x, out in zip(operand, target):
            lines.take(x, out)
    return builder.plan()


@dataclass
class _Part:
    """An operand of real numbers, or one of the two parts of a complex one."""

    base: Ptr
    layout: Layout

    @property
    def bits(self) -> int:
        return 8 * self.layout.dtype.itemsize

    @property
    def key(self) -> tuple[int, int, int, int]:
        """(how bits become a key, sign bit, all bits, bits of infinity)."""
        dtype = self.layout.dtype
        ones, sign = (1 << self.bits) - 1, 1 << (self.bits - 1)
        if dtype.kind in "bu":
            return BITS, sign, ones, 0
        if dtype.kind == "i":
            return FLIP_SIGN, sign, ones, 0
        infinity = np.array(ml_dtypes.finfo(dtype).max, dtype).view(f"u{dtype.itemsize}")
        return FLOAT, sign, ones, int(infinity) + 1


def _parts(base: Ptr, layout: Layout) -> list[_Part]:
    """The operand itself; of complex numbers the real parts, then the imaginary ones."""
    if layout.dtype.kind != "c":
        return [_Part(base, layout)]
    pairs = as_pairs(layout, real(layout.dtype))
    return [
        _Part(base, Layout(pairs.dtype, layout.shape, pairs.strides[:-1], pairs.offset + part)) for part in range(2)
    ]


class _Lines:
    """The lines of one shape along one axis, and their order so far."""

    def __init__(
        self, builder: PlanBuilder, shape: tuple[int, ...], dimension: int, widest: int, index: int | None
    ) -> None:
        self.builder = builder
        self.dimension = dimension
        self.n = shape[dimension]
        self.count = math.prod(shape) // self.n
        self.index_bytes = index if index is not None else 4 if self.n <= 1 << 32 else 8
        self.runs = self._runs(CHUNK_BYTES // (2 * (widest + self.index_bytes)))
        self.run = -(-self.n // self.runs)
        size = self.n * self.count
        self.keys = [builder.temp(widest * size) for _ in range(2)]
        self.index = [builder.temp(self.index_bytes * size) for _ in range(2)]
        self.refine = False

    def _runs(self, chunk: int) -> int:
        """A power of two: chunks that fit, and some to share if there are few lines."""
        shared = min(-(-MANY // self.count), self.n // SHARED)
        return 1 << max(math.ceil(math.log2(max(1, self.n / chunk))), max(1, shared).bit_length() - 1)

    def _place(self, layout: Layout, out: Layout | None = None) -> tuple[Ptr, int, int, int]:
        """(table, outer axes, stride of x, stride of the result) along and across the lines."""
        both = (layout.strides, layout.strides if out is None else out.strides)
        rest = [d for d in range(len(layout.shape)) if d != self.dimension]
        outer = collapse([layout.shape[d] for d in rest], *([s[d] for d in rest] for s in both))
        return self.builder.table(outer), len(outer), both[0][self.dimension], both[1][self.dimension]

    def sort_by(self, key: _Part) -> None:
        """A stable sort of the order so far: chunks, then merges of neighbours until one run is left."""
        table, axes, stride, _ = self._place(key.layout)
        counts = 8 * 256 * key.bits // 8
        scratch = self.builder.scratch(counts)
        orders: tuple[int | Ptr, ...] = (*self.keys, *self.index, int(self.refine), scratch, counts)
        self.builder.step(
            f"sort_keys_{key.bits}_{self.index_bytes}",
            (start(key.base, key.layout), table, axes, self.n, stride, self.run, self.runs, *key.key, *orders),
            self.count * self.runs,
            f"sort {self.count * self.runs} runs of {self.run}",
            grain=TILE // self.run,
        )
        run = self.run
        while run < self.n:
            pairs, segments = -(-self.n // (2 * run)), -(-2 * run // TILE)
            (keys, to), (index, index_to) = self.keys, self.index
            self.builder.step(
                f"sort_merge_{key.bits}_{self.index_bytes}",
                (keys, to, index, index_to, self.n, run, pairs, TILE, segments),
                self.count * pairs * segments,
                f"merge runs of {run}",
            )
            self.keys.reverse()
            self.index.reverse()
            run *= 2
        self.refine = True

    def take(self, x: _Part, out: _Part) -> None:
        """out = x in the lines' order."""
        table, axes, stride, out_stride = self._place(x.layout, out.layout)
        segments = -(-self.n // TILE)
        self.builder.step(
            f"sort_take_{x.bits}_{self.index_bytes}",
            (
                *(start(x.base, x.layout), table, axes, self.n, stride),
                *(start(out.base, out.layout), out_stride, self.index[0], TILE, segments),
            ),
            self.count * segments,
            f"gather {self.count} lines of {self.n}",
            grain=TILE // self.n,
        )

    def values(self, x: _Part, out: _Part) -> None:
        """out = the values of the sorted keys."""
        table, axes, stride, out_stride = self._place(x.layout, out.layout)
        self.builder.step(
            f"sort_values_{x.bits}",
            (
                *(self.keys[0], table, axes, self.n, start(out.base, out.layout), out_stride, *x.key),
                *(start(x.base, x.layout), stride),
            ),
            self.count,
            f"values of {self.count} lines of {self.n}",
            grain=TILE // self.n,
        )
