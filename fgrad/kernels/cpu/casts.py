"""Products of dtypes without a kernel of their own: operands are cast to the dtype computed in, results back.

float16 and bfloat16 are accumulated in float32; integers narrower than 32 bits in int32, cut off at the end, which is
exact modulo 2^n.  uint32 and uint64 have the products of int32 and int64, bit for bit, and need no cast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fgrad.kernels.cpu.gemm_plan import PlanBuilder
from fgrad.kernels.layout import Layout
from fgrad.kernels.plan import KernelPlan, Ptr

#: Result dtype -> dtype computed in.
COMPUTE = {
    "float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64",
    "int8": "int32", "int16": "int32", "int32": "int32", "int64": "int64",
    "uint8": "int32", "uint16": "int32", "uint32": "int32", "uint64": "int64",
}  # fmt: skip
SAME_BITS = {"uint32": "int32", "uint64": "int64"}


def plan_in_compute_dtype(plan: Callable, ins: Sequence[Layout], outs: Sequence[Layout], **params) -> KernelPlan:
    """``plan(builder, a, b, out, ins, outs, **params)`` with every layout in the dtype computed in."""
    result = outs[0]
    if result.dtype.name not in COMPUTE:
        raise TypeError(f"product: dtype must be one of {sorted(COMPUTE)}, got {result.dtype}. Convert the operands.")
    compute = np.dtype(COMPUTE[result.dtype.name])
    builder = PlanBuilder()
    pointers, layouts = [], []
    for i, layout in enumerate(ins):
        layout, pointer = _as_signed(layout), Ptr("in", i)
        if layout.dtype != compute:
            cast = Layout.contiguous(compute, layout.shape)
            temp = builder.temp(layout.size * compute.itemsize)
            cast_step(builder, layout, pointer, cast, temp)
            layout, pointer = cast, temp
        layouts.append(layout)
        pointers.append(pointer)
    target, out = _as_signed(result), Ptr("out", 0)
    if target.dtype == compute:
        plan(builder, *pointers, out, layouts, [target], **params)
        return builder.plan()
    wide, temp = Layout.contiguous(compute, result.shape), builder.temp(result.size * compute.itemsize)
    plan(builder, *pointers, temp, layouts, [wide], **params)
    cast_step(builder, wide, temp, target, out)
    return builder.plan()


def _as_signed(layout: Layout) -> Layout:
    return replace(layout, dtype=np.dtype(SAME_BITS.get(layout.dtype.name, layout.dtype)))


def _convert(s, x, dtype):
    return s.cast(x, dtype)


def cast_step(builder: PlanBuilder, source: Layout, source_at: Ptr, target: Layout, target_at: Ptr) -> None:
    """Appends ``target[...] = source[...].astype(target.dtype)``; nothing where there are no elements."""
    from fgrad.kernels.cpu.emit import map_plan

    if source.size == 0:
        return
    nodes = [("load", 0), ("map", _convert, (("dtype", target.dtype.name),), (0,))]
    at = {"in": source_at, "out": target_at}
    for step in map_plan(source.shape, [source], nodes, [(target, 1)]).steps:
        args = [a._replace(kind=at[a.kind].kind, index=at[a.kind].index, offset=a.offset + at[a.kind].offset)
                if isinstance(a, Ptr) else a for a in step.args]  # fmt: skip
        builder.step(step.kernel, args, step.extent, step.grain, "cast")
