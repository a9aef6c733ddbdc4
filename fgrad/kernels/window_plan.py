"""Plans for sliding windows: which inputs each output combines, as tables; `kernels/cpu/window.py` has their layout.

Along one axis, tap t of output o sees the dilated and padded input at o*stride + t*window_dilation - lo, an input only
if that is i * base_dilation with 0 <= i < n.  For a fixed o the taps that see an input are uniformly spaced, and so
are the inputs they see; for a fixed t the same holds of the outputs.  Both progressions come from `_hits`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fgrad.kernels.builder import PlanBuilder, accumulator, real, start
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


def _windows(
    builder: PlanBuilder, kernel: str, kind: str, source: Ptr, x: Layout, target: Ptr, out_shape: tuple[int, ...],
    window: Window,
) -> None:  # fmt: skip
    *rows, lane = _axes(x, out_shape, window)
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
