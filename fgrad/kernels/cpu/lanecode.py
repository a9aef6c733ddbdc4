"""What kernels lane by lane share: what a block of neighbours meets, vectors of lanes, and numbers in tables."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from fgrad.kernels.cpu.body import Spec
from fgrad.kernels.cpu.conv_geometry import Dim
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value, dtype_of, memory_type

_INT64 = np.dtype(np.int64)

#: The dimension before the last one, where there is none.
ONE_LINE = Dim(1, 1, 1, 1, 0, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Along:
    """``block`` neighbours along a dimension and the ``taps`` of its window; ``low`` is below ``lhs_dilation``."""

    block: int
    taps: int
    stride: int
    lhs_dilation: int
    rhs_dilation: int
    low: int

    @classmethod
    def of(cls, d: Dim, block: int) -> Along:
        return cls(block, d.window, d.stride, d.lhs_dilation, d.rhs_dilation, d.low % d.lhs_dilation)

    @classmethod
    def of_window(cls, d: Dim, block: int) -> Along:
        """Neighbours in the window, each with the taps of the result."""
        return cls(block, d.out, d.rhs_dilation, d.lhs_dilation, d.stride, d.low % d.lhs_dilation)

    @property
    def advance(self) -> int:
        """Elements of x from block to block."""
        return self.block * self.stride // self.lhs_dilation

    @property
    def meetings(self) -> dict[int, list[tuple[int, int]]]:
        """Place in x, counted from the block's -> the (neighbour, tap) that meet it."""
        found: dict[int, list[tuple[int, int]]] = {}
        for i, tap in itertools.product(range(self.block), range(self.taps)):
            place, rest = divmod(i * self.stride + tap * self.rhs_dilation - self.low, self.lhs_dilation)
            if rest == 0:
                found.setdefault(place, []).append((i, tap))
        return dict(sorted(found.items()))


@dataclass(frozen=True)
class LaneSpec(Spec):
    """A step of lanes is ``vectors`` of ``lanes``."""

    dtype: str
    lanes: int
    vectors: int

    @property
    def width(self) -> int:
        return self.lanes * self.vectors


class LaneWriter:
    """Writes code that takes ``width`` lanes at a time, ``vectors`` of ``lanes``."""

    last: str  # the first lane of the last step

    def __init__(self, spec: LaneSpec, s: Scalar) -> None:
        self.s, self.code = s, s.code
        self.lanes, self.n_vectors, self.width = spec.lanes, spec.vectors, spec.width
        self.wide = Scalar(s.code, s.native_half, spec.lanes)
        self.dtype = dtype_of(spec.dtype)
        self.kind = memory_type(self.dtype)
        self.zeros = Value(self.dtype, "zeroinitializer")

    def vectors(self, base: str, index: str) -> list[Value]:
        return [self.get(base, self.code.add(index, str(k * self.lanes))) for k in range(self.n_vectors)]

    def get(self, base: str, index: str) -> Value:
        return self.wide.load(self.dtype, self.code.element(self.kind, base, index), group=False)

    def put(self, value: Value, base: str, index: str, around: bool = False) -> None:
        """``around``: past the cache, to where vectors of memory begin."""
        to = self.code.element(self.kind, base, index)
        if around:
            self.wide.store_around(value, to)
        else:
            self.wide.store(value, to, group=False)

    def accumulate(self, total: str, x: list[Value], y: list[Value]) -> None:
        """``total += x * y``, a step's vectors each."""
        for k, (a, b) in enumerate(zip(x, y)):
            at = str(k * self.lanes)
            self.put(self.wide.add(self.get(total, at), self.wide.mul(a, b)), total, at)

    def number(self, table: str, index: str) -> str:
        return self.s.load(_INT64, self.code.element("i64", table, index), group=False).ref

    def set_number(self, number: str, table: str, index: str) -> None:
        self.s.store(Value(_INT64, number), self.code.element("i64", table, index), group=False)

    def compare(self, how: str, a: str, b: str) -> str:
        return self.code.op(f"icmp {how} i64 {a}, {b}")

    def lane_of(self, step: str) -> str:
        """The first lane of a step; the last step reaches back into the one before, so that it is full."""
        return self.code.minimum(self.code.mul(step, str(self.width)), self.last)
