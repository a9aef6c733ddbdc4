"""Plans for sliding windows: which inputs each output combines, as tables; `kernels/cpu/window.py` has their layout.

Along one axis, tap t of output o sees the dilated and padded input at o*stride + t*window_dilation - lo, an input only
if that is i * base_dilation with 0 <= i < n.  For a fixed o the taps that see an input are uniformly spaced, and so
are the inputs they see; for a fixed t the same holds of the outputs.  Both progressions come from `_hits`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fgrad.kernels.builder import PlanBuilder, accumulator, real, start
from fgrad.kernels.cpu.conv_geometry import Dim
from fgrad.kernels.layout import Layout, as_pairs, contiguous_strides
from fgrad.kernels.plan import KernelPlan, Ptr

#: Window dimensions, window strides, padding, base dilation, window dilation: an entry of each for every axis.
Window = tuple[tuple, ...]

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
    _windows(builder, f"reduce_window_{kind}_{wide.dtype.name}", kind, source, wide, target, out.shape, window)
    if wide.dtype != out.dtype:
        builder.cast(target, Layout.contiguous(wide.dtype, out.shape), Ptr("out", 0), out)
    return builder.plan()


def plan_reduce_window_index(
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
    """Steps for `reference.reduce_window_index`: 'max' or 'min' of any real dtype; the result is int64."""
    x, (out,) = ins[0], outs
    _reject_complex("reduce_window_index", kind, x.dtype)
    window: Window = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
    builder = PlanBuilder()
    if out.size:
        source, wide = builder.converted(Ptr("in", 0), x, accumulator(x.dtype))
        kernel = f"reduce_window_index_{kind}_{wide.dtype.name}"
        _windows(builder, kernel, kind, source, wide, Ptr("out", 0), out.shape, window)
    return builder.plan()


def _reject_complex(name: str, kind: str, dtype: np.dtype, allowed: str = "") -> None:
    if dtype.kind == "c" and kind != allowed:
        raise TypeError(
            f"{name}: kind {kind!r} needs an order, got {dtype}, whose numbers have none. "
            "Use the real or imaginary part, or abs."
        )


class _Axis(NamedTuple):
    """One axis of the input (size, stride, stride of the row-major index), of the output, and the window on it."""

    size: int
    stride: int
    index_stride: int
    out_size: int
    taps: int = 1
    step: int = 1
    low: int = 0
    base_dilation: int = 1
    window_dilation: int = 1

    @property
    def plain(self) -> bool:
        """Output o sees input o and nothing else."""
        return (self.taps, self.step, self.low, self.base_dilation) == (1, 1, 0, 1) and self.size == self.out_size

    @property
    def input_step(self) -> int:
        """Inputs between the neighbouring taps of one output that see any."""
        return self.window_dilation // math.gcd(self.window_dilation, self.base_dilation)


def _axes(x: Layout, out_shape: tuple[int, ...], window: Window) -> list[_Axis]:
    """Two axes or more; neighbours without a window that are uniform in memory are one axis."""
    axes: list[_Axis] = []
    per_axis = zip(x.shape, x.strides, contiguous_strides(x.shape), out_shape, *window, strict=True)
    for size, stride, index_stride, out_size, taps, step, (low, _), base, dilation in per_axis:
        # One tap sees the same whatever the dilation of its window, one input whatever its own.
        axis = _Axis(size, stride, index_stride, out_size, taps, step if out_size > 1 else 1, low,
                     base if size > 1 else 1, dilation if taps > 1 else 1)  # fmt: skip
        if axis.plain and size == 1:
            continue
        if axes and axis.plain and axes[-1].plain and axes[-1].stride == size * stride:
            axis = _Axis(axes[-1].size * size, stride, index_stride, axes[-1].size * size)
            axes.pop()
        axes.append(axis)
    return [_Axis(1, 0, 0, 1)] * (2 - len(axes)) + axes


def _hits(offset: np.ndarray, step: int, limit: int, size: int, base: int):
    """The u in [0, limit) with offset + u * step = i * base for an i in [0, size), for each offset:

    (first u, first i, how many).  From one to the next, u grows by base / g and i by step / g, g = gcd(step, base).
    """
    g = math.gcd(step, base)
    u_step, i_step = base // g, step // g
    # offset + u*step = 0 mod base  <=>  g | offset  and  u = -(offset / g) * (step / g)^-1 mod base / g
    inverse = pow(i_step, -1, u_step) if u_step > 1 else 0
    u = -(offset // g) * inverse % u_step
    i = (offset + u * step) // base
    skip = np.maximum(0, -(i // i_step))  # ceil(-i / i_step): to the first i >= 0
    end = np.minimum(-((u - limit) // u_step), -((i - size) // i_step))
    count = np.where(offset % g == 0, np.maximum(0, end - skip), 0)
    return u + skip * u_step, i + skip * i_step, count


def _lane_table(axis: _Axis) -> np.ndarray:
    """For each tap: (first output, step between outputs, number of outputs, first input, step between inputs)."""
    offset = np.arange(axis.taps) * axis.window_dilation - axis.low
    first, i, count = _hits(offset, axis.step, axis.out_size, axis.size, axis.base_dilation)
    g = math.gcd(axis.step, axis.base_dilation)
    o_step, i_step = np.full_like(i, axis.base_dilation // g), np.full_like(i, axis.step // g)
    return np.stack([first, o_step, count, i, i_step], axis=1)


def _row_table(axes: Sequence[_Axis], first_word: int) -> np.ndarray:
    """Header of each row axis, then the positions of those that have a window; it begins at ``first_word``."""
    header: list[int] = []
    positions: list[np.ndarray] = []
    where = first_word + 4 * len(axes)
    for axis in axes:
        if axis.plain:
            header += (axis.out_size, axis.stride, axis.index_stride, -1)
            continue
        header += (axis.out_size, axis.input_step * axis.stride, axis.input_step * axis.index_stride, where)
        offset = np.arange(axis.out_size) * axis.step - axis.low
        _, i, count = _hits(offset, axis.window_dilation, axis.taps, axis.size, axis.base_dilation)
        positions.append(np.stack([i * axis.stride, i * axis.index_stride, count], axis=1).ravel())
        where += positions[-1].size
    return np.concatenate([np.array(header, np.int64), *positions])


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


class _Outputs(NamedTuple):
    """Outputs along one axis that meet the same taps, evenly spaced, and for each tap the first one's input."""

    first: int
    step: int
    length: int
    inputs: np.ndarray
    input_step: int


def _alike(axis: _Axis) -> list[_Outputs]:
    if axis.plain:
        return [_Outputs(0, 1, axis.out_size, np.zeros(1, np.int64), 1)]
    dim = Dim(
        axis.size, axis.taps, axis.out_size, axis.step, axis.low, axis.base_dilation, axis.window_dilation, 0, 0, 0
    )  # fmt: skip
    found = []
    for outputs, taps in dim.clipped():
        inputs = dim.reads(outputs, taps)
        ends = [0, *(np.flatnonzero(np.diff(outputs, 2)) + 2), len(outputs)] if len(outputs) > 2 else [0, len(outputs)]
        for begin, end in itertools.pairwise(ends):
            run, read = outputs[begin:end], inputs[:, begin:end]
            step = (int(run[1] - run[0]), int(read[0, 1] - read[0, 0]) if taps.size else 0) if len(run) > 1 else (1, 1)
            found.append(_Outputs(int(run[0]), step[0], len(run), read[:, 0], step[1]))
    return found


def _unrolled(
    builder: PlanBuilder, kind: str, winners: bool, source: Ptr, x: Layout, target: Ptr, axes: Sequence[_Axis]
) -> bool:
    """Plans small windows as emitted kernels (`kernels/cpu/windowcode.py`), unless there are too many kinds of them."""
    work = math.prod(axis.out_size * axis.taps for axis in axes)
    if work < LEAST_UNROLLED or x.dtype.kind == "b" or math.prod(axis.size for axis in axes) >= 1 << 31:
        return False
    if math.prod(axis.taps for axis in axes) > max(EXTREMUM_TAPS):
        return False
    groups = list(itertools.product(*map(_alike, axes)))
    taps = [math.prod(len(part.inputs) for part in group) for group in groups]
    if len(groups) > MOST_GROUPS or (kind == "add" and not SUM_TAPS.issuperset(taps)):
        return False
    from fgrad.kernels.cpu.windowcode import WindowSpec  # loads the emitter

    out_strides = contiguous_strides(tuple(axis.out_size for axis in axes))
    strides = [(axis.stride, out, axis.index_stride) for axis, out in zip(axes, out_strides)]
    words = 3 if winners else 2
    for group, count in zip(groups, taps):
        # offsets of the first tap are part of the rows' table
        first = np.array([[part.inputs[0] if part.inputs.size else 0, part.first] for part in group])
        moves = [
            np.outer(np.arange(part.length), [part.input_step * a, part.step * b, part.input_step * c])
            for part, (a, b, c) in zip(group, strides)
        ]
        at = sum(np.array([i * a, o * b, i * c]) for (i, o), (a, b, c) in zip(first, strides))
        table = np.asarray(at)[None]
        for move in moves[1:-1]:
            table = (table[:, None] + move).reshape(-1, 3)
        repeats, lanes = group[0].length, group[-1].length
        repeat = moves[0][1] if repeats > 1 else np.zeros(3, np.int64)
        lane = moves[-1][1] if lanes > 1 else np.ones(3, np.int64)
        offsets = np.zeros((1, 2), np.int64)
        for part, (a, _, c) in zip(group, strides):
            own = np.multiply.outer(part.inputs - part.inputs[:1], [a, c])
            offsets = (offsets[:, None] + own).reshape(-1, 2)
        if kind != "add":
            offsets = offsets[np.pad(np.arange(count), (0, _at_least(count) - count))]
        unit = bool(lane[0] == lane[1] == 1)
        rows = repeats * len(table)
        row_tile = max(1, min(rows, TILE // max(lanes * len(offsets), 1)))
        args = [
            start(source, x), target, builder.table(table), len(table), rows, row_tile, *repeat[:words], lanes,
            *(() if unit else lane[:2]), *((lane[2],) if winners else ()), *offsets[:, 0],
            *(offsets[:, 1] if winners else ()),
        ]  # fmt: skip
        spec = WindowSpec(x.dtype.name, kind, len(offsets), winners, unit)
        builder.step(spec, args, -(-rows // row_tile), f"{kind} over windows of {count}")
    return True


def _at_least(taps: int) -> int:
    return next(n for n in EXTREMUM_TAPS if n >= taps)


def _windows(
    builder: PlanBuilder, kernel: str, kind: str, source: Ptr, x: Layout, target: Ptr, out_shape: tuple[int, ...],
    window: Window,
) -> None:  # fmt: skip
    axes = _axes(x, out_shape, window)
    if _unrolled(builder, kind, "index" in kernel, source, x, target, axes):
        return
    *rows, lane = axes
    lane_words = _lane_table(lane)
    table = builder.table(np.concatenate([lane_words.ravel(), _row_table(rows, lane_words.size)]))
    row_count = math.prod(axis.out_size for axis in rows)
    taps = math.prod(axis.taps for axis in rows) * lane.taps
    lanes = min(lane.out_size, LANES)
    row_tile = max(1, min(row_count, TILE // (lanes * taps)))
    scratch = -(-(8 * 4 * len(rows) + 8 * lanes) // 64) * 64
    args = (
        *(start(source, x), target, table, len(rows)),
        *(lane.out_size, lanes, row_count, row_tile, lane.stride, lane.taps),
        *(_identity(kind, x.dtype), x.dtype.itemsize, builder.scratch(scratch), scratch),
    )
    extent = -(-row_count // row_tile) * -(-lane.out_size // lanes)
    builder.step(kernel, args, extent, f"{kind} over windows of {taps}")
