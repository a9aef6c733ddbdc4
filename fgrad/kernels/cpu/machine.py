"""The loop that runs a flat program: one compiled function, serial or parallel over the tiles of an instruction.

    head[0..5] = instructions, their number, patches, their number, arguments, counter
    instructions: (kernel address, address of its arguments, extent, grain) each
    patches: (word of the arguments, 0 = operand / 1 = result, index, byte offset) each: addresses set in every call

An instruction whose kernel address is below `OPCODES` steers the program counter.  ``block`` are its arguments, numbers
of instructions are absolute, and numbers of words count from the start of all arguments:

    BEGIN    block: iteration, steady words, their table, alternating words, their table; iteration = 0
    END      (block, length, first instruction of the body): next iteration, or past the loop if there were ``length``
    TEST     (block: address of a bool; number of the instruction to go on with if it is false)
    SWITCH   block: address of an int32, then the number of an instruction for each of its values
    JUMP     (number of the instruction to go on with)
    HOST     (block: 1, made 0 by success, and the addresses it is given; address of a C function that calls Python)

A steady word is (word, word of its first value, offset, step): it grows by ``step`` in every iteration.  An alternating
word is (word, offset, words of its value in iteration 0, in odd and in even iterations).
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from fgrad.kernels.cpu.memory import call_kernel, element_pointer, ld, ld_i64, st

BEGIN, END, TEST, SWITCH, JUMP, HOST = range(6)
OPCODES = 16

STEADY_WORDS = 4
ALTERNATING_WORDS = 5

FOREVER = (1 << 63) - 1  # the length of a loop that a TEST ends

_STOPPED = 1 << 62  # the program counter once a host step failed
_BOOL = np.uint8(0)
_INT32 = np.int32(0)

# The C layout that NumPy's and Python's own macros (PyArray_DATA, PyTuple_GET_ITEM) read: the driver takes the address
# of a tuple of arrays, because ndarray.ctypes would cost more than all else in a small call.
TUPLE_ITEMS = tuple.__basicsize__
ARRAY_DATA = object.__basicsize__


@intrinsic
def fetch_add(typingctx, addr, amount):
    """Atomically ``old = *(int64_t *)addr; *addr += amount; return old``."""

    def codegen(context, builder, signature, args):
        pointer = element_pointer(context, builder, types.int64, args[0], ir.Constant(ir.IntType(64), 0))
        return builder.atomic_rmw("add", pointer, args[1], "monotonic")

    return types.int64(types.int64, types.int64), codegen


@numba.njit(inline="always")
def _array_data(arrays, index):
    """Data address of ``arrays[index]``, a tuple of ndarrays given by its address."""
    return ld_i64(ld_i64(arrays + TUPLE_ITEMS, index) + ARRAY_DATA, 0)


@numba.njit(inline="always")
def _patch(head, ins, outs):
    patches, count, args = ld_i64(head, 2), ld_i64(head, 3), ld_i64(head, 4)
    for p in range(count):
        word, kind = ld_i64(patches, 4 * p), ld_i64(patches, 4 * p + 1)
        index, offset = ld_i64(patches, 4 * p + 2), ld_i64(patches, 4 * p + 3)
        st(args, word, _array_data(outs if kind == 1 else ins, index) + offset)


@numba.njit(inline="always")
def _enter(block, args):
    """Iteration 0 of a loop."""
    st(block, 0, 0)
    table = ld_i64(block, 2)
    for _ in range(ld_i64(block, 1)):
        st(args, ld_i64(table, 0), ld_i64(args, ld_i64(table, 1)) + ld_i64(table, 2))
        table += 8 * STEADY_WORDS
    table = ld_i64(block, 4)
    for _ in range(ld_i64(block, 3)):
        st(args, ld_i64(table, 0), ld_i64(args, ld_i64(table, 2)) + ld_i64(table, 1))
        table += 8 * ALTERNATING_WORDS


@numba.njit(inline="always")
def _advance(block, args):
    """The next iteration's number, all words set for it."""
    t = ld_i64(block, 0) + 1
    st(block, 0, t)
    table = ld_i64(block, 2)
    for _ in range(ld_i64(block, 1)):
        word = ld_i64(table, 0)
        st(args, word, ld_i64(args, word) + ld_i64(table, 3))
        table += 8 * STEADY_WORDS
    table = ld_i64(block, 4)
    value = 4 - (t & 1)
    for _ in range(ld_i64(block, 3)):
        st(args, ld_i64(table, 0), ld_i64(args, ld_i64(table, value)) + ld_i64(table, 1))
        table += 8 * ALTERNATING_WORDS
    return t


@numba.njit
def _steer(instruction, pc, args):
    """The number of the instruction after the control instruction ``pc`` at address ``instruction``."""
    op, block = ld_i64(instruction, 0), ld_i64(instruction, 1)
    if op == END:
        return ld_i64(instruction, 3) if _advance(block, args) < ld_i64(instruction, 2) else pc + 1
    if op == BEGIN:
        _enter(block, args)
        return pc + 1
    if op == TEST:
        return pc + 1 if ld(ld_i64(block, 0), 0, _BOOL) != 0 else ld_i64(instruction, 2)
    if op == SWITCH:
        return ld_i64(block, 1 + ld(ld_i64(block, 0), 0, _INT32))
    if op == JUMP:
        return ld_i64(instruction, 2)
    st(block, 0, 1)
    call_kernel(ld_i64(instruction, 2), block, 0, 1, 0)
    return pc + 1 if ld_i64(block, 0) == 0 else _STOPPED


def run_serial(head, ins, outs):
    """True if a host step failed."""
    _patch(head, ins, outs)
    code, count, args = ld_i64(head, 0), ld_i64(head, 1), ld_i64(head, 4)
    pc = 0
    while pc < count:
        instruction = code + 32 * pc
        kernel = ld_i64(instruction, 0)
        if kernel >= OPCODES:
            call_kernel(kernel, ld_i64(instruction, 1), 0, ld_i64(instruction, 2), 0)
            pc += 1
        else:
            pc = _steer(instruction, pc, args)
    return pc == _STOPPED


def run_parallel(head, ins, outs, threads):
    """True if a host step failed."""
    _patch(head, ins, outs)
    code, count, args, counter = ld_i64(head, 0), ld_i64(head, 1), ld_i64(head, 4), ld_i64(head, 5)
    pc = 0
    while pc < count:
        instruction = code + 32 * pc
        kernel, block = ld_i64(instruction, 0), ld_i64(instruction, 1)
        extent, grain = ld_i64(instruction, 2), ld_i64(instruction, 3)
        if kernel < OPCODES:
            pc = _steer(instruction, pc, args)
            continue
        pc += 1
        if extent <= grain:
            call_kernel(kernel, block, 0, extent, 0)
            continue
        workers = min(threads, (extent + grain - 1) // grain)
        # Workers take runs of tiles as they come free, some four each: a slow core then delays nobody for long.
        run = max(grain, extent // (4 * workers))
        st(counter, 0, 0)
        for worker in prange(workers):
            begin = fetch_add(counter, run)
            while begin < extent:
                call_kernel(kernel, block, begin, min(begin + run, extent), worker)
                begin = fetch_add(counter, run)
    return pc == _STOPPED
