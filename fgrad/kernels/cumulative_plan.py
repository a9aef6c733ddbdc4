"""Plans for running totals; `kernels/cpu/cumulative.py` has the kernels and the words of their arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fgrad.kernels.builder import PlanBuilder, accumulator, start
from fgrad.kernels.layout import Layout, collapse
from fgrad.kernels.plan import KernelPlan, Ptr

#: Elements of a tile, and lanes of one: the row combined last stays in the first-level cache.
TILE, LANES = 1 << 14, 1 << 10
#: Most blocks of an axis; fixed, so that sums do not depend on the machine.
BLOCKS = 16
#: Up to so many elements along the axis, lines beside each other are lanes even where the axis is innermost: one line
#: after the other would wait for each sum, and for each line.
SHORT, SHORT_TILE = 64, 1 << 11  # and elements of a tile of such lines


def plan_cumulative(
    ins: Sequence[Layout], outs: Sequence[Layout], *, kind: str, axis: int, reverse: bool
) -> KernelPlan:
    """Steps for `reference.cumulative(x, kind=, axis=, reverse=)`; float16 and bfloat16 in float32."""
    builder = PlanBuilder()
    (x,), (out,) = ins, outs
    if out.size == 0:
        return builder.plan()
    source, wide = builder.converted(Ptr("in", 0), x, accumulator(x.dtype))
    target, result = Ptr("out", 0), out
    if wide.dtype != out.dtype:
        result = Layout.contiguous(wide.dtype, out.shape)
        target = builder.temp(result.size * wide.dtype.itemsize)
    if reverse:
        _steps(builder, kind, axis, (source, wide.rev((axis,))), (target, result.rev((axis,))))
    else:
        _steps(builder, kind, axis, (source, wide), (target, result))
    if wide.dtype != out.dtype:
        builder.cast(target, result, Ptr("out", 0), out)
    return builder.plan()


def _steps(builder: PlanBuilder, kind: str, axis: int, x: tuple[Ptr, Layout], out: tuple[Ptr, Layout]) -> None:
    n, stride, out_stride = x[1].shape[axis], x[1].strides[axis], out[1].strides[axis]
    rest = [d for d in range(x[1].ndim) if d != axis]
    outer = collapse([x[1].shape[d] for d in rest], *([a.strides[d] for d in rest] for a in (x[1], out[1])))
    lanes, lane_stride, out_lane_stride = 1, 0, 0
    if outer and (abs(outer[-1][2]) < abs(out_stride) or n <= SHORT):
        lanes, lane_stride, out_lane_stride = outer.pop()
    count = math.prod(size for size, *_ in outer)
    lane_tile = min(lanes, LANES if abs(out_lane_stride) <= abs(out_stride) else -(-SHORT_TILE // n))
    tiles = -(-lanes // lane_tile)
    blocks = max(1, min(BLOCKS // (count * tiles), n * lane_tile // TILE))
    block = -(-n // blocks)
    blocks = -(-n // block)
    dtype = x[1].dtype
    totals = builder.temp(count * blocks * lanes * dtype.itemsize) if blocks > 1 else 0
    words = (
        *(start(*x), builder.table(outer), len(outer), n, stride, out_stride, start(*out)),
        *(lanes, lane_stride, out_lane_stride, lane_tile, tiles, block, blocks, totals),
    )
    work = block * lane_tile
    if blocks > 1:
        name, extent = f"cumulative_total_{kind}_{dtype.name}", count * (blocks - 1) * tiles
        builder.step(name, words, extent, f"{kind} over blocks of {block}", grain=TILE // work)
    name, extent = f"cumulative_{kind}_{dtype.name}", count * blocks * tiles
    builder.step(name, words, extent, f"running {kind} over {n}", grain=TILE // work)
