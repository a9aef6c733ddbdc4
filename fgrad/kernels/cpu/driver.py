"""Runs a program of kernel calls, loops, branches and host steps on NumPy arrays.

Memory that one call works in is a `_Frame`, an int64 block of all instructions' arguments, and a block for the arena of
temporaries and the workers' scratch (`workspaces`).  Frames are kept in a list; a call takes one and puts it back, so
calls from several threads each have their own and never wait for one another.  `assemble` writes the program, `machine`
runs it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence

import numpy as np

from fgrad import config
from fgrad.kernels.cpu import library, machine, results, workspaces
from fgrad.kernels.cpu.assemble import assemble, failure
from fgrad.kernels.cpu.entry import entry
from fgrad.kernels.cpu.threads import Layer, launch
from fgrad.kernels.layout import Layout
from fgrad.kernels.plan import Instruction, KernelPlan, Ptr

#: run(address of the head, operands, results, threads) -> whether a host step failed
Run = Callable[[int, tuple, tuple, int], bool]

LARGE = 1 << 13  # bytes of a result that is worth aligning
MOST_KEPT = 1 << 18  # bytes of temporaries that a kernel run on its own keeps for the next: it may be the last in long


class _Loops:
    """The two loops, each at its first use, and what the threading layer needs around the parallel one."""

    def __init__(self) -> None:
        self._serial: Run | None = None
        self._parallel: Run | None = None
        self._layer: Layer | None = None
        self._lock = threading.Lock()
        self.forked = False
        self.exclusive: threading.Lock | None = None

    @property
    def serial(self) -> Run:
        if self._serial is None:
            self._serial = entry(library.address("machine_serial"))
        return self._serial

    @property
    def layer(self) -> Layer:
        if self._layer is None:
            with self._lock:
                if self._layer is None:
                    layer = launch()
                    if layer.name == "workqueue":  # it aborts the process when entered by two threads at once
                        self.exclusive = threading.Lock()
                    self._parallel = entry(library.address("machine_parallel"))
                    self._layer = layer
        return self._layer

    def run_parallel(self, head: int, ins: tuple, outs: tuple, threads: int, on_host: bool) -> bool:
        loop, lock = self._parallel, self.exclusive
        assert loop is not None  # a frame of several workers has been made
        if lock is None:
            return loop(head, ins, outs, threads)
        if on_host:  # Python code in it may wait for another thread, which may wait for the lock
            return self.serial(head, ins, outs, 1)
        with lock:
            return loop(head, ins, outs, threads)

    def after_fork(self) -> None:
        """A child has none of its parent's worker threads (and libgomp ends it when asked for them)."""
        self.forked = True
        self.exclusive = None
        self._lock = threading.Lock()


_loops = _Loops()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_loops.after_fork)


def _check_object_layout() -> None:
    probe = np.zeros(1)
    held = (probe,)
    item = _peek(id(held) + machine.TUPLE_ITEMS)
    if item != id(probe) or _peek(item + machine.ARRAY_DATA) != probe.ctypes.data:
        raise ImportError("kernels: this Python does not lay out tuples and ndarrays as CPython does. Use CPython.")


def _peek(address: int) -> int:
    return ctypes.c_int64.from_address(address).value


_check_object_layout()


class _Frame:
    """Memory for one call at a time, but for temporaries (`workspaces`)."""

    __slots__ = ("_alive", "_args", "_head", "_offsets", "_words", "address", "base", "nbytes", "shelf", "workers")

    def __init__(self, program: Executable, workers: int) -> None:
        assembly = program._assembly
        self._words, self._offsets = assembly.temporary
        args = self._args = assembly.args.copy()
        code = assembly.code.copy()
        code[:, 1] = args.ctypes.data + 8 * code[:, 1]
        counter = np.zeros(results.ALIGNMENT // 8, np.int64)
        numbers = np.arange(workers)
        team = np.array([numbers.ctypes.data, 0, numbers.itemsize, 0, 0, 0, 0, counter.ctypes.data], np.int64)
        patches = assembly.patches
        head = np.array(
            [
                *(code.ctypes.data, len(code), patches.ctypes.data, len(patches), args.ctypes.data, 0),
                *(counter.ctypes.data, team.ctypes.data),
                *((_loops.layer.parallel_for, library.address("machine_tiles")) if workers > 1 else (0, 0)),
            ],
            np.int64,
        )
        self.workers = workers
        self.address = head.ctypes.data
        self._alive = (code, counter, numbers, team, patches, head)
        self.nbytes = args.nbytes + code.nbytes
        nbytes = program._arena_bytes + program._scratch * workers
        self.shelf: workspaces.Shelf | None = None
        if len(self._words):
            kept = program._most_kept is None or nbytes <= program._most_kept
            self.shelf = workspaces.shelf_for(nbytes) if kept else workspaces.Shelf(nbytes, keeps=False)
        self.base = 0  # address of the temporaries

    def move(self, base: int) -> None:
        """Has the temporaries at another address."""
        self._args[self._words] = self._offsets + base
        self.base = base


class Executable:
    """Steps + memory, callable on NumPy arrays of the planned layouts.

    ``Ptr("in", i)`` is the data address of the i-th array given and ``Ptr("out", j)`` that of the j-th result, a fresh
    C-contiguous array of ``outs[j].shape`` (or the array given in ``outs``).  Layout offsets count from there.
    The arrays are not checked: the caller has made sure of dtype, shape and strides.  Temporaries are already placed:
    steps use ``arena`` pointers, not ``tmp``.  Safe to call from several threads; the result does not depend on the
    number of threads.  Memory for the next call is kept, but not more than ``most_kept`` bytes of temporaries.
    """

    def __init__(
        self,
        steps: Sequence[Instruction],
        *,
        n_in: int,
        outs: Sequence[Layout],
        arena_bytes: int = 0,
        tables: Sequence[np.ndarray] = (),
        scratch: int = 0,
        most_kept: int | None = None,
    ) -> None:
        self._n_in = n_in
        self._outs = tuple(
            (np.empty if out.size * out.dtype.itemsize < LARGE else results.empty, out.shape, out.dtype) for out in outs
        )
        self._arena_bytes = arena_bytes
        self._scratch = -(-scratch // results.ALIGNMENT) * results.ALIGNMENT
        self._assembly = assemble(steps, tables, arena_bytes)
        self._most_kept = most_kept
        self._frames: list[_Frame] = []
        self._loop = _loops.serial

    def __call__(self, *arrays: np.ndarray, outs: tuple[np.ndarray, ...] | None = None) -> tuple[np.ndarray, ...]:
        """Runs the program; returns fresh results, or ``outs`` filled."""
        if len(arrays) != self._n_in:
            raise TypeError(f"Executable: takes {self._n_in} arrays, got {len(arrays)}. Pass every planned operand.")
        if outs is None:
            outs = tuple([empty(shape, dtype) for empty, shape, dtype in self._outs])
        threads = config.num_threads() if self._assembly.parallel and not _loops.forked else 1
        if threads > 1:
            threads = min(threads, _loops.layer.most)
        frame = self._take_frame(threads)
        if (shelf := frame.shelf) is not None:
            shelf, block = shelf.take()
            if block.address != frame.base:
                frame.move(block.address)
        if threads == 1:
            stopped = self._loop(frame.address, arrays, outs, 1)
        else:
            stopped = _loops.run_parallel(frame.address, arrays, outs, threads, self._assembly.on_host)
        self._frames.append(frame)
        if shelf is not None and shelf.keeps:
            shelf.blocks.append(block)
        if stopped:
            error, failure.error = failure.error, None
            # no error: an interrupt struck between C and the host step, where Python cannot hand it on
            raise KeyboardInterrupt if error is None else error
        return outs

    @property
    def nbytes(self) -> int:
        """Memory held between calls, but for temporaries: idle frames (one for each call at the same time so far), and
        tables.
        """
        return self._assembly.nbytes + sum([frame.nbytes for frame in list(self._frames)])

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
        total += -(-nbytes // results.ALIGNMENT) * results.ALIGNMENT

    def place(a: Ptr) -> Ptr:
        return Ptr("arena", 0, starts[a.index] + a.offset) if a.kind == "tmp" else a

    return Executable(
        [step.placed(place) for step in plan.steps],
        n_in=len(ins),
        outs=outs,
        arena_bytes=total,
        tables=plan.tables,
        scratch=plan.scratch,
        most_kept=MOST_KEPT,
    )
