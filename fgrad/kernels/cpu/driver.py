"""Runs a flat program of kernel calls on NumPy arrays: one compiled loop over instructions, serial or parallel.

Memory that one call works in is a `_Frame`: an int64 block of all instructions' arguments, the arena of temporaries
and the workers' scratch.  Frames are kept in a list; a call takes one and puts it back, so calls from several threads
each have their own and never wait for one another.

    head[0..5] = instructions, their number, patches, their number, arguments, counter
    instructions: (kernel address, address of its arguments, extent, grain) each
    patches: (word of the arguments, 0 = operand / 1 = result, index, byte offset) each: addresses set in every call
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Protocol, cast

import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic
from numba.np.ufunc import parallel as numba_parallel

from fgrad import config
from fgrad.kernels.cpu import library
from fgrad.kernels.cpu.memory import call_kernel, element_pointer, ld_i64, st
from fgrad.kernels.layout import Layout
from fgrad.kernels.plan import KernelPlan, Ptr, Step

ALIGNMENT = 64
LARGE = 1 << 13  # bytes of a result that is worth aligning

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


def _run_serial(head, ins, outs):
    _patch(head, ins, outs)
    code, count = ld_i64(head, 0), ld_i64(head, 1)
    for i in range(count):
        call_kernel(ld_i64(code, 4 * i), ld_i64(code, 4 * i + 1), 0, ld_i64(code, 4 * i + 2), 0)


def _run_parallel(head, ins, outs, threads):
    _patch(head, ins, outs)
    code, count, counter = ld_i64(head, 0), ld_i64(head, 1), ld_i64(head, 5)
    for i in range(count):
        kernel, args = ld_i64(code, 4 * i), ld_i64(code, 4 * i + 1)
        extent, grain = ld_i64(code, 4 * i + 2), ld_i64(code, 4 * i + 3)
        if extent <= grain:
            call_kernel(kernel, args, 0, extent, 0)
        else:
            workers = min(threads, (extent + grain - 1) // grain)
            # Workers take runs of tiles as they come free, some four each: a slow core then delays nobody for long.
            run = max(grain, extent // (4 * workers))
            st(counter, 0, 0)
            for worker in prange(workers):
                begin = fetch_add(counter, run)
                while begin < extent:
                    call_kernel(kernel, args, begin, min(begin + run, extent), worker)
                    begin = fetch_add(counter, run)


@contextlib.contextmanager
def _short_spin() -> Iterator[None]:
    """libgomp, which reads its settings when it is loaded, waits for work by spinning a few microseconds.

    Its own choice is hundreds of microseconds.  Then a waiting thread keeps a core from the process that the thread it
    waits for has lost its core to: with one other busy process on two cores, the digits CNN's step took 64 ms in place
    of 3.  5000 rounds cost nothing on an idle machine (1.3 ms either way; 0 rounds: 2.5 ms).  A user's own setting
    stays.
    """
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "5000"
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


class _Loops:
    """The two compiled loops, each at its first use, and what the threading layer needs around the parallel one."""

    def __init__(self) -> None:
        self._serial = None
        self._parallel = None
        self.forked = False
        self.exclusive: threading.Lock | None = None

    @property
    def serial(self):
        if self._serial is None:
            self._serial = library.compile_driver(_run_serial, types.void(*[types.int64] * 3))
        return self._serial

    @property
    def parallel(self):
        if self._parallel is None:
            with _short_spin():
                loop = library.compile_driver(_run_parallel, types.void(*[types.int64] * 4), parallel=True)
                numba_parallel._launch_threads()
            if numba.threading_layer() == "workqueue":  # it aborts the process when entered by two threads at once
                self.exclusive = threading.Lock()
            self._parallel = loop
        return self._parallel

    def after_fork(self) -> None:
        """A child has none of its parent's worker threads (and libgomp ends it when asked for them)."""
        self.forked = True
        self.exclusive = None


_loops = _Loops()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_loops.after_fork)


def _check_object_layout() -> None:
    probe = np.zeros(1)
    held = (probe,)
    item = _peek(id(held) + TUPLE_ITEMS)
    if item != id(probe) or _peek(item + ARRAY_DATA) != probe.ctypes.data:
        raise ImportError("kernels: this Python does not lay out tuples and ndarrays as CPython does. Use CPython.")


def _peek(address: int) -> int:
    return ctypes.c_int64.from_address(address).value


_check_object_layout()


def _aligned(nbytes: int) -> np.ndarray:
    """Uninitialised bytes whose address is a multiple of `ALIGNMENT`."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]


def _as_int64(value: int) -> int:
    """The signed word with the low 64 bits of ``value`` (bit patterns may come unsigned)."""
    value = int(value) & 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value


def _empty_aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """`np.empty` on a cache line's border: malloc places large arrays 16 bytes after one, and kernels that then read
    them as vectors run at two thirds of their speed.
    """
    return np.ndarray(shape, dtype, _aligned(math.prod(shape) * dtype.itemsize))


class _Emitted(Protocol):
    """The spec of an emitted kernel."""

    def address(self) -> int: ...


class _Frame:
    """Memory for one call at a time."""

    __slots__ = ("_alive", "address", "workers")

    def __init__(self, program: Executable, workers: int) -> None:
        arena, scratch = _aligned(program._arena_bytes), _aligned(program._scratch * workers)
        bases = {"arena": arena.ctypes.data, "scratch": scratch.ctypes.data}
        args = program._args.copy()
        for word, pointer in program._fixed:
            base = program._tables[pointer.index].ctypes.data if pointer.kind == "tab" else bases[pointer.kind]
            args[word] = base + pointer.offset
        code = program._code.copy()
        code[:, 1] = args.ctypes.data + 8 * code[:, 1]
        counter = np.zeros(ALIGNMENT // 8, np.int64)
        patches = program._patches
        head = np.array(
            [code.ctypes.data, len(code), patches.ctypes.data, len(patches), args.ctypes.data, counter.ctypes.data],
            np.int64,
        )
        self.workers = workers
        self.address = head.ctypes.data
        self._alive = (arena, scratch, args, code, counter, patches, head)


class Executable:
    """Steps + memory, callable on NumPy arrays of the planned layouts.

    ``Ptr("in", i)`` is the data address of the i-th array given and ``Ptr("out", j)`` that of the j-th result, a fresh
    C-contiguous array of ``outs[j].shape`` (or the array given in ``outs``).  Layout offsets count from there.
    The arrays are not checked: the caller has made sure of dtype, shape and strides.  Temporaries are already placed:
    steps use ``arena`` pointers, not ``tmp``.  Safe to call from several threads; the result does not depend on the
    number of threads.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        n_in: int,
        outs: Sequence[Layout],
        arena_bytes: int = 0,
        tables: Sequence[np.ndarray] = (),
        scratch: int = 0,
    ) -> None:
        self._n_in = n_in
        self._outs = tuple(
            (np.empty if out.size * out.dtype.itemsize < LARGE else _empty_aligned, out.shape, out.dtype)
            for out in outs
        )
        self._arena_bytes = arena_bytes
        self._tables = tuple(np.ascontiguousarray(t, np.int64) for t in tables)
        self._scratch = -(-scratch // ALIGNMENT) * ALIGNMENT
        steps = [step for step in steps if step.extent > 0]
        self._parallel = any(step.extent > step.grain for step in steps)

        words: list[int] = []
        code: list[tuple[int, int, int, int]] = []
        patches: list[tuple[int, int, int, int]] = []
        self._fixed: list[tuple[int, Ptr]] = []
        for step in steps:
            kernel = step.kernel
            address = library.address(kernel) if isinstance(kernel, str) else cast(_Emitted, kernel).address()
            code.append((address, len(words), step.extent, max(step.grain, 1)))
            for arg in step.args:
                if not isinstance(arg, Ptr):
                    words.append(_as_int64(arg))
                    continue
                if arg.kind in ("in", "out"):
                    patches.append((len(words), int(arg.kind == "out"), arg.index, arg.offset))
                else:
                    self._fixed.append((len(words), arg))
                words.append(0)
        self._args = np.array(words, np.int64)
        self._code = np.array(code, np.int64).reshape(-1, 4)
        self._patches = np.array(patches, np.int64).reshape(-1, 4)
        self._frames = [_Frame(self, 1)]
        self._loop = _loops.serial

    def __call__(self, *arrays: np.ndarray, outs: tuple[np.ndarray, ...] | None = None) -> tuple[np.ndarray, ...]:
        """Runs the program; returns fresh results, or ``outs`` filled."""
        if len(arrays) != self._n_in:
            raise TypeError(f"Executable: takes {self._n_in} arrays, got {len(arrays)}. Pass every planned operand.")
        if outs is None:
            outs = tuple([empty(shape, dtype) for empty, shape, dtype in self._outs])
        threads = config.num_threads() if self._parallel and not _loops.forked else 1
        frame = self._take_frame(threads)
        if threads == 1:
            self._loop(frame.address, id(arrays), id(outs))
        else:
            loop, lock = _loops.parallel, _loops.exclusive
            if lock is None:
                loop(frame.address, id(arrays), id(outs), threads)
            else:
                with lock:
                    loop(frame.address, id(arrays), id(outs), threads)
        self._frames.append(frame)
        return outs

    def _take_frame(self, threads: int) -> _Frame:
        """An idle frame (popping from a list is atomic), or a new one."""
        try:
            frame = self._frames.pop()
        except IndexError:
            return _Frame(self, threads)
        return frame if frame.workers >= threads else _Frame(self, threads)


def from_plan(plan: KernelPlan, ins: Sequence[Layout], outs: Sequence[Layout]) -> Executable:
    """One plan as a program of its own: temporaries are placed one after another in the arena."""
    starts, total = [], 0
    for nbytes in plan.temps:
        starts.append(total)
        total += -(-nbytes // ALIGNMENT) * ALIGNMENT

    def place(arg: int | Ptr) -> int | Ptr:
        if isinstance(arg, Ptr) and arg.kind == "tmp":
            return Ptr("arena", 0, starts[arg.index] + arg.offset)
        return arg

    steps = [step._replace(args=tuple(place(arg) for arg in step.args)) for step in plan.steps]
    return Executable(steps, n_in=len(ins), outs=outs, arena_bytes=total, tables=plan.tables, scratch=plan.scratch)
