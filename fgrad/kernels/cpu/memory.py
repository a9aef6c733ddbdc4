"""Raw memory for library kernels: loads and stores at int64 addresses, and calls through them.

Kernels receive addresses as plain int64 words, so they use these intrinsics in place of NumPy arrays.  ``i`` always
counts elements of the type loaded or stored, never bytes; no alignment beyond one element's is assumed.
"""

from __future__ import annotations

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils, imputils
from numba.extending import intrinsic

I64 = ir.IntType(64)

#: void kernel(int64 args, int64 begin, int64 end, int64 worker): the signature of every library and emitted kernel.
KERNEL_SIGNATURE = types.void(types.int64, types.int64, types.int64, types.int64)


def element_pointer(context, builder, element_type, address, index):
    """LLVM pointer to element ``index`` of an array of the Numba type ``element_type`` at integer ``address``."""
    pointer = builder.inttoptr(address, context.get_data_type(element_type).as_pointer())
    return builder.gep(pointer, [index])


@intrinsic
def as_pointer(typingctx, addr):
    """``(void *)addr``"""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@intrinsic
def read_only(typingctx, array):
    """The array, as one that compiled code may not write to."""

    def codegen(context, builder, signature, args):
        return imputils.impl_ret_borrowed(context, builder, signature.return_type, args[0])

    return array.copy(readonly=True)(array), codegen


@intrinsic
def ld_i64(typingctx, addr, i):
    """``((int64_t *)addr)[i]``"""

    def codegen(context, builder, signature, args):
        return builder.load(element_pointer(context, builder, types.int64, args[0], args[1]))

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def ld(typingctx, addr, i, proto):
    """``((T *)addr)[i]`` with T the type of ``proto``, whose value is not used."""
    element_type = proto

    def codegen(context, builder, signature, args):
        pointer = element_pointer(context, builder, element_type, args[0], args[1])
        return context.unpack_value(builder, element_type, pointer)

    return element_type(types.int64, types.int64, proto), codegen


@intrinsic
def st(typingctx, addr, i, value):
    """``((T *)addr)[i] = value`` with T the type of ``value``."""
    element_type = value

    def codegen(context, builder, signature, args):
        pointer = element_pointer(context, builder, element_type, args[0], args[1])
        context.pack_value(builder, element_type, args[2], pointer)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, value), codegen


@intrinsic
def fill_zero(typingctx, addr, nbytes):
    """``memset(addr, 0, nbytes)``"""

    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], cgutils.voidptr_t)
        cgutils.memset(builder, pointer, args[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def copy_bytes(typingctx, dst, src, nbytes):
    """``memcpy(dst, src, nbytes)``: the two ranges must not overlap."""

    def codegen(context, builder, signature, args):
        to = builder.inttoptr(args[0], cgutils.voidptr_t)
        source = builder.inttoptr(args[1], cgutils.voidptr_t)
        cgutils.raw_memcpy(builder, to, source, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def fetch_to_write(typingctx, addr):
    """Brings the line of memory at ``addr`` into the cache, for it will be written; any address will do."""

    def codegen(context, builder, signature, args):
        kinds = [cgutils.voidptr_t, ir.IntType(32), ir.IntType(32), ir.IntType(32)]
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0"
        )
        one = ir.IntType(32)(1)
        builder.call(function, [builder.inttoptr(args[0], cgutils.voidptr_t), one, ir.IntType(32)(3), one])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def call_kernel(typingctx, address, args, begin, end, worker):
    """``((void (*)(int64_t, int64_t, int64_t, int64_t))address)(args, begin, end, worker)``"""

    def codegen(context, builder, signature, values):
        kernel_type = ir.FunctionType(ir.VoidType(), [I64] * 4)
        builder.call(builder.inttoptr(values[0], kernel_type.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


@intrinsic(prefer_literal=True)
def stack_bytes(typingctx, nbytes):
    """Address of ``nbytes`` (a literal) on the stack of the calling function, 64-byte aligned."""
    size = nbytes.literal_value

    def codegen(context, builder, signature, args):
        slot = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(8), size))
        slot.align = 64
        return builder.ptrtoint(slot, I64)

    return types.int64(nbytes), codegen
