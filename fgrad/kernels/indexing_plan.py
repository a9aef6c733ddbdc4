"""Plans for gather and scatter: axes collapsed, tiles chosen, duplicates kept in order."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fgrad.kernels.builder import PlanBuilder, accumulator, real, start
from fgrad.kernels.layout import Layout, as_pairs, collapse, contiguous_strides, dtype_name
from fgrad.kernels.plan import KernelPlan, Ptr
from fgrad.kernels.reference import marker

#: Elements that make a tile worth handing to another thread.
TILE = 1 << 14
#: Updates are cut into chunks of about this many elements, whose touched places scatter's tiles look up.
CHUNK = 1 << 12
#: Most ranges of places that scatter's tiles own; fixed, so that plans do not depend on the machine.
RANGES = 64


Operand = tuple[Ptr, Layout]


def plan_gather(ins: Sequence[Layout], outs: Sequence[Layout], *, axes: tuple[int, ...], mode: str) -> KernelPlan:
    """Steps for `reference.gather(operand, indices, axes=, mode=)`; any dtype, indices of any integer dtype."""
    operand, indices = ins
    _check_clip("gather", operand, indices, axes, mode)
    builder = PlanBuilder()
    if outs[0].size:
        _gather(builder, (Ptr("in", 0), operand), (Ptr("in", 1), indices), Ptr("out", 0), axes, mode)
    return builder.plan()


def plan_scatter(
    ins: Sequence[Layout],
    outs: Sequence[Layout],
    *,
    axes: tuple[int, ...],
    mode: str,
    kind: str,
    in_place: bool = False,
) -> KernelPlan:
    """Steps for `reference.scatter(operand, indices, updates, axes=, mode=, kind=)`; indices of any integer dtype.

    ``in_place``: the result has the operand's memory.

    Every element meets its updates in row-major order of the batch, so results are the same for any number of threads.
    float16 and bfloat16 accumulate in float32 (not for 'set'); complex numbers can be 'set' and 'add'ed.
    """
    operand, indices, updates = ins
    _check_clip("scatter", operand, indices, axes, mode)
    builder = PlanBuilder()
    if outs[0].size == 0:
        return builder.plan()
    source, target, result = (Ptr("in", 2), updates), Ptr("out", 0), Layout.contiguous(operand.dtype, operand.shape)
    narrow = None
    copied: Layout | None = operand
    if kind == "set":
        result, source, copied = _as_bits(result), (source[0], _as_bits(updates)), _as_bits(operand)
    elif operand.dtype.kind == "c":
        if kind != "add":
            raise TypeError(
                f"scatter: kind {kind!r} has no kernel for complex numbers, got {operand.dtype}. Use 'set' or 'add', "
                "or scatter real and imaginary parts."
            )
        result, source = as_pairs(result, real(operand.dtype)), (source[0], as_pairs(updates, real(operand.dtype)))
    elif accumulator(operand.dtype) != operand.dtype:
        narrow = result
        target, result = builder.converted(Ptr("in", 0), operand, accumulator(operand.dtype))
        source, copied = builder.converted(*source, result.dtype), None
    if copied is not None and not in_place:
        _copy(builder, (Ptr("in", 0), copied), Ptr("out", 0))
    if updates.size:
        _scatter(builder, (target, result), (Ptr("in", 1), indices), source, axes, mode, kind)
    if narrow is not None:
        builder.cast(target, result, Ptr("out", 0), narrow)
    return builder.plan()


def _check_clip(name: str, operand: Layout, indices: Layout, axes: tuple[int, ...], mode: str) -> None:
    sizes = tuple(operand.shape[a] for a in axes)
    if mode == "clip" and 0 in sizes and 0 not in indices.shape[:-1]:
        raise ValueError(
            f"{name}: mode 'clip' needs a non-empty axis to clamp into, got indexed axes {axes} of sizes {sizes}. "
            "Use mode 'fill' for gather, 'drop' for scatter."
        )


def _as_bits(layout: Layout) -> Layout:
    """The same memory as unsigned integers of 1 to 8 bytes; elements of 16 bytes become pairs on a new last axis."""
    if layout.dtype.itemsize == 16:
        return as_pairs(layout, np.dtype(np.uint64))
    return layout._replace(dtype=np.dtype(f"u{layout.dtype.itemsize}"))


def _one_stride(
    builder: PlanBuilder, source: Ptr, layout: Layout, batch_rank: int
) -> tuple[Ptr, int, tuple[int, ...], tuple[int, ...]]:
    """(address, stride from row to row, shape and strides of a row) of batch + row axes.

    Copies the operand where no single stride walks over its batch axes in row-major order.
    """
    batch = collapse(layout.shape[:batch_rank], layout.strides[:batch_rank])
    if len(batch) > 1:
        dense = Layout.contiguous(layout.dtype, layout.shape)
        copy = builder.temp(dense.size * dense.dtype.itemsize)
        _copy(builder, (source, layout), copy)
        source, layout = copy, dense
        batch = collapse(layout.shape[:batch_rank], layout.strides[:batch_rank])
    stride = batch[0][1] if batch else 0
    return start(source, layout), stride, layout.shape[batch_rank:], layout.strides[batch_rank:]


class _Rows(NamedTuple):
    """What gather and scatter know of their rows."""

    words: tuple[int | Ptr, ...]  # words 0 to 9 of the kernel's args
    rows: int
    width: int
    strides: tuple[int, ...]  # along a run: the operand's, the updates'
    places: int


def _rows(
    builder: PlanBuilder,
    operand: Layout,
    indices: Operand,
    axes: tuple[int, ...],
    mode: str,
    update_strides: Sequence[int] | None = None,
) -> _Rows:
    indices = builder.converted(*indices, np.dtype(np.int64))
    address, row_stride, (k,), (component,) = _one_stride(builder, *indices, indices[1].ndim - 1)
    rest = [d for d in range(operand.ndim) if d not in axes]
    strides = [operand.strides[d] for d in rest]
    outer = collapse([operand.shape[d] for d in rest], strides, strides if update_strides is None else update_strides)
    run, *run_strides = outer.pop() if outer else (1, 1, 1)
    sizes = tuple(operand.shape[a] for a in axes)
    table = [*zip(sizes, (operand.strides[a] for a in axes), contiguous_strides(sizes)), *outer]
    rows = math.prod(indices[1].shape[:-1])
    width = math.prod(operand.shape[d] for d in rest)
    where = builder.table(table)
    words = (address, where, k, rows, row_stride, component, int(mode == "clip"), width, len(outer), run)
    return _Rows(words, rows, width, tuple(run_strides), math.prod(sizes))


def _gather(
    builder: PlanBuilder, operand: Operand, indices: Operand, out: Ptr, axes: tuple[int, ...], mode: str
) -> None:
    base, layout = operand[0], _as_bits(operand[1])
    words, rows, width, (stride, _), _ = _rows(builder, layout, indices, axes, mode)
    tile_width = min(width, TILE)
    tile_rows = max(1, TILE // tile_width)
    tiles = -(-rows // tile_rows) * -(-width // tile_width)
    size = layout.dtype.itemsize
    outside = marker(operand[1].dtype) if mode == "mark" else np.zeros((), operand[1].dtype)
    kernel = f"gather_{size}"
    note = f"gather {rows} rows of {width}" if axes else f"copy {width} elements"
    tail: list[int | Ptr] = [start(base, layout), out, stride, tile_rows, *_two_words(outside)]
    builder.step(kernel, [*words, tile_width, *tail], tiles, note)


def _two_words(value: np.ndarray) -> tuple[int, int]:
    """The memory of a number, each half of 16 bytes at the begin of a word; a smaller one is in both."""
    data = value.tobytes()
    halves = (data[:8], data[8:] or data)
    low, high = (int.from_bytes(half.ljust(8, b"\0"), sys.byteorder, signed=True) for half in halves)
    return low, high


def _copy(builder: PlanBuilder, source: Operand, target: Ptr) -> None:
    """Row-major copy: a gather of one row that indexes no axis."""
    nowhere = Layout.contiguous(np.int64, (0,))
    if source[1].size:
        _gather(builder, source, (source[0], nowhere), target, (), "clip")


def _scatter(
    builder: PlanBuilder, out: Operand, indices: Operand, updates: Operand, axes: tuple[int, ...], mode: str, kind: str
) -> None:
    target, layout = out
    source, row_stride, _, update_strides = _one_stride(builder, *updates, indices[1].ndim - 1)
    words, rows, width, strides, places = _rows(builder, layout, indices, axes, mode, update_strides)
    # Tiles split a wide row first; places only as far as that leaves too few of them.
    tile_width = min(width, CHUNK)
    across = -(-width // tile_width)
    ranges = max(1, min(RANGES, rows * width // TILE, places) // across)
    ranges = 1 << (ranges.bit_length() - 1)
    chunk = max(1, CHUNK // width, -(-rows // 1024))
    bounds: int | Ptr = 0
    if ranges > 1:
        chunks = -(-rows // chunk)
        bounds = builder.temp(16 * chunks)
        builder.step("scatter_bounds", [*words, 0, bounds, chunk, places], chunks, "places touched", grain=4)
    kernel = f"scatter_{kind}_{dtype_name(layout.dtype)}"
    tail = [start(target, layout), source, row_stride, *strides, bounds, chunk, places, ranges]
    note = f"scatter-{kind} {rows} rows of {width}"
    builder.step(kernel, [*words, tile_width, *tail], ranges * across, note)
