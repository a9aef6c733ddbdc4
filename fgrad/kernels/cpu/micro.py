"""The register tile of every matrix product: a batch-reduce GEMM of MR rows by NV vectors, written in LLVM IR.

    out[i][v] (+)= sum over g < G, s < S, c < C  of  A[i](g, s, c) * B(g, s, c)[v]

    A[i](g, s, c) = *(row[i] + g*a_gs + tab[s*ld + idx[i]] + c*a_cs)     one element, broadcast to a vector
    B(g, s, c)[v] =  b + g*b_gs + boff[s] + c*b_cs + v*VL*itemsize       NV vectors of VL lanes, unit stride

All strides and table entries are bytes.  A table entry of `ZERO_ROW` makes row i read ``zero + c*a_cs`` instead: that
is how padding costs no copy of the input.  The accumulators stay in registers over the three loops.  Explicit vector
types keep LLVM from preferring 256-bit registers on AVX-512; `llvm.fmuladd` is one FMA where the host has it.
"""

from __future__ import annotations

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

#: Table entry of a row that reads zeros (no element offset is odd).
ZERO_ROW = -1

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
BYTES = I8.as_pointer()


class _Emitter:
    """Vector operations of one element type and lane count."""

    def __init__(self, context, builder, proto, lanes: int) -> None:
        self.builder = builder
        self.element = context.get_data_type(proto)
        self.itemsize = context.get_abi_sizeof(self.element)
        self.is_float = isinstance(proto, types.Float)
        self.lanes = lanes
        self.vector = ir.VectorType(self.element, lanes)
        letter = "f" if self.is_float else "i"
        self.suffix = f"v{lanes}{letter}{8 * self.itemsize}"
        self.zeros = ir.Constant(self.vector, [0.0 if self.is_float else 0] * lanes)

    def _intrinsic(self, name: str, result, arguments):
        signature = ir.FunctionType(result, arguments)
        return cgutils.get_or_insert_function(self.builder.module, signature, name)

    def at(self, pointer, offset, pointee):
        """``(pointee *)((char *)pointer + offset)``"""
        moved = self.builder.gep(pointer, [offset], source_etype=I8)
        return self.builder.bitcast(moved, pointee.as_pointer())

    def splat(self, scalar):
        b = self.builder
        one = b.insert_element(ir.Constant(self.vector, ir.Undefined), scalar, I32(0))
        mask = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return b.shuffle_vector(one, ir.Constant(self.vector, ir.Undefined), mask)

    def first_lanes(self, count):
        """Mask of the lanes below ``count``, an i64 that may be negative or beyond the vector."""
        b, wide = self.builder, ir.VectorType(I64, self.lanes)
        one = b.insert_element(ir.Constant(wide, ir.Undefined), count, I32(0))
        zero_mask = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        counts = b.shuffle_vector(one, ir.Constant(wide, ir.Undefined), zero_mask)
        return b.icmp_signed("<", ir.Constant(wide, list(range(self.lanes))), counts)

    def load(self, pointer, mask):
        if mask is None:
            instruction = self.builder.load(pointer, typ=self.vector)
            instruction.align = self.itemsize
            return instruction
        signature = [self.vector.as_pointer(), I32, mask.type, self.vector]
        function = self._intrinsic(f"llvm.masked.load.{self.suffix}.p0", self.vector, signature)
        return self.builder.call(function, [pointer, I32(self.itemsize), mask, self.zeros])

    def store(self, value, pointer, mask) -> None:
        if mask is None:
            self.builder.store(value, pointer).align = self.itemsize
            return
        signature = [self.vector, self.vector.as_pointer(), I32, mask.type]
        function = self._intrinsic(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), signature)
        self.builder.call(function, [value, pointer, I32(self.itemsize), mask])

    def multiply_add(self, x, y, z):
        if self.is_float:
            function = self._intrinsic(f"llvm.fmuladd.{self.suffix}", self.vector, [self.vector] * 3)
            return self.builder.call(function, [x, y, z])
        return self.builder.add(self.builder.mul(x, y), z)

    def add(self, x, y):
        return self.builder.fadd(x, y) if self.is_float else self.builder.add(x, y)


def _reduce_run(e: _Emitter, rows, b_start, count, a_cs, b_cs, masks, acc) -> None:
    """The innermost loop: ``acc[i][v] += A[i](c) * B(c)[v]`` for c < count."""
    b = e.builder
    head, body, tail = (b.append_basic_block(f"run.{part}") for part in ("head", "body", "tail"))
    entry = b.block
    b.branch(head)
    b.position_at_end(head)
    left, a_offset, b_offset = b.phi(I64), b.phi(I64), b.phi(I64)
    b.cbranch(b.icmp_signed(">", left, I64(0)), body, tail)
    b.position_at_end(body)
    step = e.lanes * e.itemsize
    vectors = [e.load(e.at(b_start, b.add(b_offset, I64(v * step)), e.vector), mask) for v, mask in enumerate(masks)]
    for pointer, row in zip(rows, acc):
        a = e.splat(b.load(e.at(pointer, a_offset, e.element), typ=e.element))
        for vector, slot in zip(vectors, row):
            b.store(e.multiply_add(a, vector, b.load(slot, typ=e.vector)), slot)
    steps = ((left, count, b.sub(left, I64(1))), (a_offset, I64(0), b.add(a_offset, a_cs)),
             (b_offset, I64(0), b.add(b_offset, b_cs)))  # fmt: skip
    for phi, first, following in steps:
        phi.add_incoming(first, entry)
        phi.add_incoming(following, b.block)
    b.branch(head)
    b.position_at_end(tail)


@intrinsic(prefer_literal=True)
def brgemm_tile(typingctx, mr, nv, vl, edge, proto, rows, zero, tab, ld, boff, b, g_count, g_full, a_gs, b_gs,
                s_count, c_full, c_last, a_cs, b_cs, lanes, accumulate):  # fmt: skip
    """One tile (module docstring).  mr, nv, vl, edge: literal ints; all but ``proto`` int64.

    rows: address of int64[3*mr]: row addresses, row indices into the table, addresses of the output rows;
    the run is c_full long for g < g_full and c_last after; ``edge``: only ``lanes`` columns are read and written;
    ``accumulate``: adds to the output in place of overwriting it.
    """
    n_rows, n_vectors, n_lanes = mr.literal_value, nv.literal_value, vl.literal_value
    masked = bool(edge.literal_value)

    def codegen(context, builder, signature, args):
        e = _Emitter(context, builder, proto, n_lanes)
        (rows_, zero_, tab_, ld_, boff_, b_, g_count_, g_full_, a_gs_, b_gs_, s_count_, c_full_, c_last_, a_cs_, b_cs_,
         lanes_, accumulate_) = args[5:]  # fmt: skip
        words = I64.as_pointer()

        def word(base, index):
            return builder.load(builder.gep(base, [index], source_etype=I64), typ=I64)

        info = builder.inttoptr(rows_, words)
        table, b_table = builder.inttoptr(tab_, words), builder.inttoptr(boff_, words)
        starts, indices, outs = ([word(info, I64(k * n_rows + i)) for i in range(n_rows)] for k in range(3))
        masks = [None] * n_vectors
        if masked:
            masks = [e.first_lanes(builder.sub(lanes_, I64(v * n_lanes))) for v in range(n_vectors)]
        acc = [[cgutils.alloca_once(builder, e.vector) for _ in range(n_vectors)] for _ in range(n_rows)]
        for row in acc:
            for slot in row:
                builder.store(e.zeros, slot)

        with cgutils.for_range(builder, g_count_) as outer:
            g = outer.index
            a_g = builder.mul(g, a_gs_)
            b_g = builder.add(b_, builder.mul(g, b_gs_))
            count = builder.select(builder.icmp_signed("<", g, g_full_), c_full_, c_last_)
            with cgutils.for_range(builder, s_count_) as middle:
                line = builder.mul(middle.index, ld_)
                pointers, none = [], I1(1)
                for start, index in zip(starts, indices):
                    entry = word(table, builder.add(line, index))
                    address = builder.add(builder.add(start, a_g), entry)
                    is_zero = builder.icmp_signed("==", entry, I64(ZERO_ROW))
                    none = builder.and_(none, is_zero)
                    pointers.append(builder.inttoptr(builder.select(is_zero, zero_, address), BYTES))
                b_start = builder.inttoptr(builder.add(b_g, word(b_table, middle.index)), BYTES)
                run = builder.select(none, I64(0), count)  # a tap that no row of the tile meets
                _reduce_run(e, pointers, b_start, run, a_cs_, b_cs_, masks, acc)

        def write(add: bool) -> None:
            for out, row in zip(outs, acc):
                base = builder.inttoptr(out, BYTES)
                for v, slot in enumerate(row):
                    pointer = e.at(base, I64(v * n_lanes * e.itemsize), e.vector)
                    value = builder.load(slot, typ=e.vector)
                    e.store(e.add(value, e.load(pointer, masks[v])) if add else value, pointer, masks[v])

        with builder.if_else(builder.icmp_signed("!=", accumulate_, I64(0))) as (then, otherwise):
            with then:
                write(True)
            with otherwise:
                write(False)
        return context.get_dummy_value()

    return types.void(mr, nv, vl, edge, proto, *[types.int64] * 17), codegen


@intrinsic(prefer_literal=True)
def stack_bytes(typingctx, nbytes):
    """Address of ``nbytes`` (a literal) on the stack of the calling function, 64-byte aligned."""
    size = nbytes.literal_value

    def codegen(context, builder, signature, args):
        slot = cgutils.alloca_once(builder, ir.ArrayType(I8, size))
        slot.align = 64
        return builder.ptrtoint(slot, I64)

    return types.int64(nbytes), codegen
