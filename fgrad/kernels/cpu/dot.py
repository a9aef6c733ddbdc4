"""Plans `dot_general` over operands of any strides: axes are merged, then given to the batch-reduce product.

out[b..., m..., n...] = sum over k... of lhs[b, m, k] * rhs[b, n, k]        (axes in any order in the operands)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fgrad.kernels.builder import ZERO, PlanBuilder, start, sums
from fgrad.kernels.cpu.epilogue import Epilogue
from fgrad.kernels.cpu.gemm_plan import (
    GRAIN_WORK,
    ONE_BATCH,
    Operand,
    Product,
    blocks_of,
    even_run,
    fill_zeros,
    no_epilogue,
    plan_in_compute_dtype,
    plan_product,
)
from fgrad.kernels.cpu.gemm_records import Record, joined
from fgrad.kernels.layout import Layout, collapse, dtype_name
from fgrad.kernels.plan import KernelPlan, Ptr

DotDimensionNumbers = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]

#: Up to so many rows or columns, products of vectors along unit-stride k beat a tile that is mostly empty.
FEW = 4


class Axis(NamedTuple):
    """``size`` steps of ``first`` elements in one buffer and ``second`` in another."""

    size: int
    first: int
    second: int


def merge(axes: Sequence[Axis]) -> list[Axis]:
    """Fewer axes that visit the same pairs of elements in the same order; axes of size 1 vanish."""
    if len(axes) < 2:
        return [axis for axis in axes if axis.size != 1]
    return [Axis(*axis) for axis in collapse(*zip(*axes))]


def offsets(axes: Sequence[Axis]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets in both buffers of every position, the last axis fastest."""
    if not axes:
        return ZERO, ZERO
    steps = [np.arange(axis.size) for axis in axes]
    return (
        sums([step * axis.first for step, axis in zip(steps, axes)]),
        sums([step * axis.second for step, axis in zip(steps, axes)]),
    )


def plan_dot_general(
    ins: Sequence[Layout],
    outs: Sequence[Layout],
    *,
    dimension_numbers: DotDimensionNumbers,
    epilogue: Epilogue | None = None,
) -> KernelPlan:
    """Steps for ``dot_general`` with JAX's dimension numbers ((lhs_contract, rhs_contract), (lhs_batch, rhs_batch)).

    Operands and result have one dtype of float32, float64, int32, int64; other dtypes are computed in one of these
    (`plan_in_compute_dtype`).  Integers wrap.  An empty contraction gives zeros.
    """
    return plan_in_compute_dtype(_plan, ins, outs, epilogue, dimension_numbers=dimension_numbers)


def _plan(builder: PlanBuilder, a: Ptr, b: Ptr, out: Ptr, ins, outs, *, dimension_numbers) -> None:
    lhs, rhs = ins
    (result,) = outs
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dimension_numbers
    dtype, size = result.dtype, result.size
    if size == 0:
        return
    a, b, out = start(a, lhs), start(b, rhs), start(out, result)

    def axes(layout: Layout, used: Sequence[int], first_out: int) -> list[Axis]:
        free = [d for d in range(len(layout.shape)) if d not in used]
        return [Axis(layout.shape[d], layout.strides[d], result.strides[first_out + i]) for i, d in enumerate(free)]

    n_batch = len(lhs_batch)
    rows = merge(axes(lhs, (*lhs_contract, *lhs_batch), n_batch))
    n_rows = len(lhs.shape) - len(lhs_contract) - n_batch
    columns = merge(axes(rhs, (*rhs_contract, *rhs_batch), n_batch + n_rows))
    contract = [Axis(lhs.shape[i], lhs.strides[i], rhs.strides[j]) for i, j in zip(lhs_contract, rhs_contract)]
    if 0 in [axis.size for axis in contract]:
        return fill_zeros(builder, out, size, dtype)
    if len(contract) > 1:
        contract.sort(key=lambda axis: (-abs(axis.first), -abs(axis.second)))
    contract = merge(contract)
    batches = ONE_BATCH
    if n_batch:
        batch_a = [Axis(lhs.shape[d], lhs.strides[d], result.strides[i]) for i, d in enumerate(lhs_batch)]
        batch_b = [Axis(rhs.shape[d], rhs.strides[d], result.strides[i]) for i, d in enumerate(rhs_batch)]
        batches = np.stack([offsets(batch_a)[0], *offsets(batch_b)], axis=1)

    if len(contract) <= 1 and len(rows) <= 1 and len(columns) <= 1:
        row, column = rows[0] if rows else Axis(1, 0, 0), columns[0] if columns else Axis(1, 0, 0)
        k = contract[0] if contract else Axis(1, 1, 1)
        if min(row.size, column.size) <= FEW and k.first == k.second == 1:
            return _inner_products(builder, dtype, (a, b, out), row, column, k.size, batches)
        # One or two columns: the rows of A become the columns of the product where they are adjacent.
        if column.size <= 2 and row.size > column.size and row.first == 1 and row.size > 1:
            a, b, rows, columns = b, a, columns, rows
            contract = [Axis(axis.size, axis.second, axis.first) for axis in contract]
            batches = batches[:, [1, 0, 2]]
    _product(builder, dtype, (a, b, out), rows, columns, contract, batches, size)


def _inner_products(builder, dtype, pointers, row: Axis, column: Axis, length: int, batches: np.ndarray) -> None:
    no_epilogue(builder)
    a, b, out = pointers
    if row.size < column.size:
        a, b, row, column, batches = b, a, column, row, batches[:, [1, 0, 2]]
    size = dtype.itemsize
    work = length * column.size
    block = max(1, (1 << 16) // work)
    blocks = -(-row.size // block)
    args = (
        out, a, b, builder.table(batches * size), row.size, column.size, length,
        row.first * size, column.first * size, row.second * size, column.second * size, blocks, block,
    )  # fmt: skip
    kernel = f"gemm_inner_{dtype_name(dtype)}"
    builder.step(kernel, args, len(batches) * blocks, "inner products", GRAIN_WORK // (block * work))


def _product(builder, dtype, pointers, rows, columns, contract, batches, out_size) -> None:
    a, b, out = pointers
    column = columns[-1] if columns else Axis(1, 1, 1)
    for outer in columns[:-1]:  # columns that are not evenly spaced in both: more batches
        b_off, out_off = offsets([outer])
        extra = np.stack([np.zeros_like(b_off), b_off, out_off], axis=1)
        batches = (batches[:, None] + extra).reshape(-1, 3)
    if len(contract) <= 1:
        k = contract[0] if contract else Axis(1, 0, 0)
        g_count, run, last = blocks_of(k.size, 64 * dtype.itemsize)
        a_taps, b_taps = ZERO, ZERO
        outer = Axis(g_count, run * k.first, run * k.second)
    else:
        outer, *middle, k = contract
        g_count, run, last = outer.size, k.size, k.size
        a_taps, b_taps = offsets(middle)
    row_in, row_out = offsets(rows[1:])
    repeat = rows[0] if rows else Axis(1, 0, 0)
    record = Record(row_in, row_out, a_taps, ZERO if len(a_taps) == 1 else np.arange(len(a_taps)), run, last)
    operand = Operand(b, outer.second, b_taps, *even_run(run, k.second), column.first, last)
    product = Product(
        dtype=dtype, a=a, b=operand, out=out, columns=column.size, out_column=column.second,
        records=joined([record]), repeats=repeat.size, in_stride=repeat.first, out_stride=repeat.second,
        g_count=g_count, a_g_stride=outer.first, a_run=k.first, out_size=out_size, batches=batches, note="dot",
    )  # fmt: skip
    plan_product(builder, product)
