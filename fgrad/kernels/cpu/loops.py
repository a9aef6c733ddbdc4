"""The loop that runs a flat program, serial or parallel over the tiles of an instruction (`machine` has the words).

``machine_serial`` and ``machine_parallel`` are library kernels of (head, tuple of operands, tuple of results, threads),
the tuples by their addresses.  They leave in the head whether a host step failed.  ``machine_tiles`` is what the
threading layer calls.
"""

from __future__ import annotations

import platform

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fgrad.kernels.cpu import irbuild
from fgrad.kernels.cpu.machine import (
    ALTERNATING_WORDS,
    ARRAY_DATA,
    BEGIN,
    END,
    HEAD,
    JUMP,
    OPCODES,
    STEADY_WORDS,
    SWITCH,
    TEAM,
    TEST,
    TUPLE_ITEMS,
)
from fgrad.kernels.cpu.memory import I64, call_kernel, element_pointer, ld, ld_i64, st

# Numbers of the words of the head, and of those of a team.
CODE, N_CODE, PATCHES, N_PATCHES, ARGS, STOPPED, COUNTER, TEAM_BLOCK, PARALLEL_FOR, TILES = range(len(HEAD))
NUMBERS, WORKERS, STEP, KERNEL, BLOCK, EXTENT, RUN, TEAM_COUNTER = range(len(TEAM))

_STOPPED = 1 << 62  # the program counter once a host step failed
_BOOL = np.uint8(0)
_INT32 = np.int32(0)


def build(name: str):
    """The kernel ``name`` as a Python function for `native.kernel_text`."""
    return {"machine_serial": run_serial, "machine_parallel": run_parallel, "machine_tiles": run_tiles}[name]


@intrinsic
def fetch_add(typingctx, addr, amount):
    """Atomically ``old = *(int64_t *)addr; *addr += amount; return old``."""

    def codegen(context, builder, signature, args):
        pointer = element_pointer(context, builder, types.int64, args[0], ir.Constant(ir.IntType(64), 0))
        return builder.atomic_rmw("add", pointer, args[1], "monotonic")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def _fork(typingctx, parallel_for, function, arrays, counts, steps, data, threads):
    """``parallel_for(function, arrays, counts, steps, data, 0, 1, threads)``: no inner dimension, one array."""

    def codegen(context, builder, signature, values):
        layer = builder.inttoptr(values[0], ir.FunctionType(ir.VoidType(), [I64] * 8).as_pointer())
        builder.call(layer, [*values[1:6], I64(0), I64(1), values[6]])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


_X86 = platform.machine().lower() in ("x86_64", "amd64", "i686", "i386")
_FLUSH = 0x8040  # MXCSR: denormal results and operands count as zero


def _mxcsr(builder, action: str, slot) -> None:
    function = irbuild.declared(builder, f"llvm.x86.sse.{action}mxcsr", ir.VoidType(), [ir.IntType(8).as_pointer()])
    builder.call(function, [builder.bitcast(slot, ir.IntType(8).as_pointer())])


@intrinsic
def keep_denormals(typingctx):
    """Has this thread compute with denormals, and returns how it was.

    A library may have told the thread to take them for zero (and a thread tells those that it starts), which would make
    results depend on the thread.  Only x86 is asked: elsewhere nobody does it.
    """

    def codegen(context, builder, signature, args):
        if not _X86:
            return I64(0)
        word = ir.IntType(32)
        slot = irbuild.slot(builder, word)
        _mxcsr(builder, "st", slot)
        before = builder.load(slot, typ=word)
        builder.store(builder.and_(before, word(~_FLUSH & 0xFFFFFFFF)), slot)
        _mxcsr(builder, "ld", slot)
        return builder.zext(before, I64)

    return types.int64(), codegen


@intrinsic
def as_before(typingctx, state):
    """Undoes `keep_denormals`."""

    def codegen(context, builder, signature, args):
        if _X86:
            slot = irbuild.slot(builder, ir.IntType(32))
            builder.store(builder.trunc(args[0], ir.IntType(32)), slot)
            _mxcsr(builder, "ld", slot)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@numba.njit(inline="always")
def _array_data(arrays, index):
    """Data address of ``arrays[index]``, a tuple of ndarrays given by its address."""
    return ld_i64(ld_i64(arrays + TUPLE_ITEMS, index) + ARRAY_DATA, 0)


@numba.njit(inline="always")
def _patch(head, ins, outs):
    patches, count, args = ld_i64(head, PATCHES), ld_i64(head, N_PATCHES), ld_i64(head, ARGS)
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


def run_serial(head, ins, outs, threads):
    state = keep_denormals()
    _patch(head, ins, outs)
    code, count, args = ld_i64(head, CODE), ld_i64(head, N_CODE), ld_i64(head, ARGS)
    pc = 0
    while pc < count:
        instruction = code + 32 * pc
        kernel = ld_i64(instruction, 0)
        if kernel >= OPCODES:
            call_kernel(kernel, ld_i64(instruction, 1), 0, ld_i64(instruction, 2), 0)
            pc += 1
        else:
            pc = _steer(instruction, pc, args)
    as_before(state)
    st(head, STOPPED, 1 if pc == _STOPPED else 0)


def run_parallel(head, ins, outs, threads):
    state = keep_denormals()
    _patch(head, ins, outs)
    code, count, args = ld_i64(head, CODE), ld_i64(head, N_CODE), ld_i64(head, ARGS)
    counter, team = ld_i64(head, COUNTER), ld_i64(head, TEAM_BLOCK)
    parallel_for, tiles = ld_i64(head, PARALLEL_FOR), ld_i64(head, TILES)
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
        st(counter, 0, 0)
        st(team, WORKERS, workers)
        st(team, KERNEL, kernel)
        st(team, BLOCK, block)
        st(team, EXTENT, extent)
        # Workers take runs of tiles as they come free, some four each: a slow core then delays nobody for long.
        st(team, RUN, max(grain, extent // (4 * workers)))
        # all threads, also for fewer workers: a team of another size would have to be assembled anew
        _fork(parallel_for, tiles, team + 8 * NUMBERS, team + 8 * WORKERS, team + 8 * STEP, team, threads)
    as_before(state)
    st(head, STOPPED, 1 if pc == _STOPPED else 0)


def run_tiles(arrays, counts, steps, team):
    """The work of some workers: on one thread of the team, as many as ``counts`` says."""
    state = keep_denormals()
    numbers = ld_i64(arrays, 0)
    kernel, block, extent = ld_i64(team, KERNEL), ld_i64(team, BLOCK), ld_i64(team, EXTENT)
    run, counter = ld_i64(team, RUN), ld_i64(team, TEAM_COUNTER)
    for i in range(ld_i64(counts, 0)):
        worker = ld_i64(numbers, i)
        begin = fetch_add(counter, run)
        while begin < extent:
            call_kernel(kernel, block, begin, min(begin + run, extent), worker)
            begin = fetch_add(counter, run)
    as_before(state)
