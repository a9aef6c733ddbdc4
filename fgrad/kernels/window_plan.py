"""Plans for sliding windows: sums, extrema, and which taps win; `kernels/cpu/window.py` has their tables' layout."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from fgrad.kernels.builder import PlanBuilder, accumulator, real, start, sums
from fgrad.kernels.layout import Layout, as_pairs, contiguous_strides, dtype_name
from fgrad.kernels.plan import KernelPlan, Ptr
from fgrad.kernels.window_axes import Axis, Window, alike, lane_table, row_table, rows_of, window_axes

#: Combined elements that make a tile worth handing to another thread.
TILE = 1 << 14
#: Lanes of a tile: its winners stay in the first-level cache.
LANES = 1 << 10


def plan_reduce_window(
    ins: Sequence[Layout],
    outs: Sequence[Layout],
    *,
    kind: str,
    window_dimensions: tuple[int, ...],
    window_strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    base_dilation: tuple[int, ...],
    window_dilation: tuple[int, ...],
) -> KernelPlan:
    """Steps for `reference.reduce_window`: 'add', 'max' or 'min' of any dtype ('add' alone of complex numbers).

    float16 and bfloat16 are computed in float32; integers and booleans in their own dtype, where they wrap.
    """
    x, (out,) = ins[0], outs
    window: Window = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
    builder = PlanBuilder()
    source, target = Ptr("in", 0), Ptr("out", 0)
    if out.size == 0:
        return builder.plan()
    if x.dtype.kind == "c":
        _reject_complex("reduce_window", kind, x.dtype, allowed="add")
        x, out = as_pairs(x, real(x.dtype)), as_pairs(out, real(x.dtype))
        window = tuple((*param, alone) for param, alone in zip(window, (1, 1, (0, 0), 1, 1)))
    source, wide = builder.converted(source, x, accumulator(x.dtype))
    if wide.dtype != out.dtype:
        target = builder.temp(out.size * wide.dtype.itemsize)
    axes = window_axes(x.shape, wide.strides, out.shape, window)
    if not _unrolled(builder, kind, source, wide, [target], None, axes):
        kernel = f"reduce_window_{kind}_{dtype_name(wide.dtype)}"
        args, extent = walk_args(builder, source, wide, target, axes, _identity(kind, wide.dtype))
        builder.step(kernel, args, extent, f"{kind} over windows of {math.prod(window[0])}")
    if wide.dtype != out.dtype:
        builder.cast(target, Layout.contiguous(wide.dtype, out.shape), Ptr("out", 0), out)
    return builder.plan()


def plan_reduce_window_winner(
    ins: Sequence[Layout],
    outs: Sequence[Layout],
    *,
    kind: str,
    window_dimensions: tuple[int, ...],
    window_strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    base_dilation: tuple[int, ...],
    window_dilation: tuple[int, ...],
) -> KernelPlan:
    """Steps for `reference.reduce_window_winner`: 'max' or 'min' of any real dtype, and the unsigned taps."""
    x, (out, taps) = ins[0], outs
    _reject_complex("reduce_window_winner", kind, x.dtype)
    window: Window = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
    builder = PlanBuilder()
    if out.size == 0:
        return builder.plan()
    source, wide = builder.converted(Ptr("in", 0), x, accumulator(x.dtype))
    target = Ptr("out", 0) if wide.dtype == out.dtype else builder.temp(out.size * wide.dtype.itemsize)
    axes, count = window_axes(x.shape, wide.strides, out.shape, window), math.prod(window_dimensions)
    if not _unrolled(builder, kind, source, wide, [target, Ptr("out", 1)], (taps.dtype, count), axes):
        kernel = f"reduce_window_winner_{kind}_{dtype_name(wide.dtype)}_{dtype_name(taps.dtype)}"
        args, extent = walk_args(builder, source, wide, target, axes, _identity(kind, wide.dtype))
        builder.step(kernel, (*args, Ptr("out", 1), count), extent, f"{kind} over windows of {count}, and its taps")
    if wide.dtype != out.dtype:
        builder.cast(target, Layout.contiguous(wide.dtype, out.shape), Ptr("out", 0), out)
    return builder.plan()


def _reject_complex(name: str, kind: str, dtype: np.dtype, allowed: str = "") -> None:
    if dtype.kind == "c" and kind != allowed:
        raise TypeError(
            f"{name}: kind {kind!r} needs an order, got {dtype}, whose numbers have none. "
            "Use the real or imaginary part, or abs."
        )


def _identity(kind: str, dtype: np.dtype) -> int:
    """Bits of the value that changes nothing."""
    if kind == "add":
        return 0
    if dtype.kind == "f":
        value = np.array(-np.inf if kind == "max" else np.inf, dtype)
        return int(value.view(f"u{dtype.itemsize}"))
    if dtype.kind == "b":
        return int(kind == "min")
    info = np.iinfo(dtype)
    return int(info.min if kind == "max" else info.max)


#: Unrolled taps: sums have these exactly; an extremum may meet its first tap again, so it needs few kernels.
SUM_TAPS = frozenset({*range(10), 12, 16, 25})
EXTREMUM_TAPS = (0, 1, 2, 4, 6, 9, 16, 25)
#: Below so many combined elements planning is most of the work, above so many groups of outputs too.
LEAST_UNROLLED = 1 << 12
MOST_GROUPS = 64


def worth_unrolling(dtype: np.dtype, axes: Sequence[Axis]) -> bool:
    """Whether there is work enough to look for few groups of outputs with few taps."""
    work = math.prod([axis.out_size * axis.taps for axis in axes])
    if work < LEAST_UNROLLED or dtype.kind == "b" or math.prod([axis.size for axis in axes]) >= 1 << 31:
        return False
    return math.prod([axis.taps for axis in axes]) <= EXTREMUM_TAPS[-1]


def padded(taps: int) -> list[int]:
    """The numbers of the taps, and of the first one again up to a number of taps that has a kernel of extrema."""
    return [*range(taps), *[0] * (next(n for n in EXTREMUM_TAPS if n >= taps) - taps)]


def _unrolled(
    builder: PlanBuilder, kind: str, source: Ptr, x: Layout, targets: Sequence[Ptr],
    winners: tuple[np.dtype, int] | None, axes: Sequence[Axis],
) -> bool:  # fmt: skip
    """Plans small windows as emitted kernels (`kernels/cpu/windowcode.py`), unless there are too many kinds of them.

    ``winners``: the dtype of their taps, and what says that there is none.
    """
    if not worth_unrolling(x.dtype, axes):
        return False
    groups = list(itertools.product(*map(alike, axes)))
    taps = [math.prod([len(part.inputs) for part in group]) for group in groups]
    if len(groups) > MOST_GROUPS or (kind == "add" and not SUM_TAPS.issuperset(taps)):
        return False
    from fgrad.kernels.cpu.windowcode import WindowSpec, lanes_at_once  # loads the emitter

    out_strides = contiguous_strides(tuple([axis.out_size for axis in axes]))
    strides = [(axis.stride, out) for axis, out in zip(axes, out_strides)]
    for group, count in zip(groups, taps):
        # offsets of the first tap are part of the rows' table
        rows = rows_of(
            [(part.inputs[0] * a if part.inputs.size else 0, part.first * b) for part, (a, b) in zip(group, strides)],
            [(part.input_step * a, part.step * b) for part, (a, b) in zip(group, strides)],
            [part.length for part in group],
        )
        offsets = sums([(part.inputs - part.inputs[:1]) * a for part, (a, _) in zip(group, strides)])
        numbers = sums([part.numbers for part in group])
        if kind != "add":
            again = padded(count)
            offsets, numbers = offsets[again], numbers[again]
        row_tile = rows.tile(len(offsets), TILE)
        args = [
            start(source, x), *targets, builder.table(rows.table), len(rows.table), rows.total, row_tile, *rows.repeat,
            rows.lanes, *rows.lane_words, *offsets.tolist(),
        ]  # fmt: skip
        if winners:
            args += numbers.tolist() if count else [winners[1]]
        spec = WindowSpec(
            dtype_name(x.dtype), kind, len(offsets), dtype_name(winners[0]) if winners else "", rows.unit,
            lanes_at_once(rows.lanes, rows.unit, x.dtype.itemsize),
        )  # fmt: skip
        builder.step(spec, args, -(-rows.total // row_tile), f"{kind} over windows of {count}")
    return True


def walk_args(
    builder: PlanBuilder, source: Ptr, x: Layout, target: Ptr, axes: Sequence[Axis], identity: int
) -> tuple[tuple, int]:
    """Words of the library kernels that walk over the taps, those that all of them have, and the number of tiles."""
    *rows, lane = axes
    lane_words = lane_table(lane)
    table = builder.table(np.concatenate([lane_words.ravel(), row_table(rows, lane_words.size)]))
    row_count = math.prod(axis.out_size for axis in rows)
    taps = math.prod(axis.taps for axis in axes)
    lanes = min(lane.out_size, LANES)
    row_tile = max(1, min(row_count, TILE // (lanes * taps)))
    scratch = -(-(8 * 5 * len(rows)) // 64) * 64
    args = (
        *(start(source, x), target, table, len(rows)),
        *(lane.out_size, lanes, row_count, row_tile, lane.stride, lane.taps),
        *(identity, x.dtype.itemsize, builder.scratch(scratch), scratch),
    )
    return args, -(-row_count // row_tile) * -(-lane.out_size // lanes)
