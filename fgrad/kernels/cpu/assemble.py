"""From the structured steps of a program to what the machine reads: instructions, argument words, tables.

See `machine` for the layout of each.  Everything here counts words and instructions from the start of the program, so
that a frame can place the arguments anywhere.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fgrad.kernels.cpu import library, machine
from fgrad.kernels.plan import Addressed, HostStep, Instruction, Loop, Ptr, Slot, Step, Switch, Word


def as_int64(words: Sequence[int]) -> np.ndarray:
    """The signed words with the low 64 bits of each (bit patterns may come unsigned)."""
    try:
        return np.array(words, np.int64)
    except OverflowError:
        return np.array([word & 0xFFFFFFFFFFFFFFFF for word in words], np.uint64).view(np.int64)


class Assembly(NamedTuple):
    """The program: ``code`` rows hold word numbers where instructions will hold addresses of arguments."""

    args: np.ndarray
    code: np.ndarray
    patches: np.ndarray
    tables: np.ndarray  # their addresses are in args
    temporary: tuple[np.ndarray, np.ndarray]  # words that hold addresses of temporaries, and these from their base on
    parallel: bool
    on_host: bool
    kept: list[Any]  # C functions that call Python

    @property
    def nbytes(self) -> int:
        return sum([a.nbytes for a in (self.args, self.code, self.patches, self.tables, *self.temporary)])


def assemble(steps: Sequence[Instruction], tables: Sequence[np.ndarray], arena_bytes: int) -> Assembly:
    """The assembly of a program whose workers' scratch begins where the arena ends."""
    return _Assembler(steps, tables).assembly(arena_bytes)


class _Assembler:
    """Words, instructions and tables, while they are written."""

    def __init__(self, steps: Sequence[Instruction], tables: Sequence[np.ndarray]) -> None:
        self.tables = list(tables)
        self.table_words: list[tuple[int, int, int]] = []  # (word, table, offset)
        self.temporary: list[tuple[int, int, bool]] = []  # (word, offset, whether it is the workers' scratch)
        self.parallel = False
        self.kept: list[Any] = []
        self._addresses: dict[str | int, int] = {}  # by the kernel's name or id
        self._words: list[int] = []
        self._code: list[tuple[int, int, int, int]] = []
        self._patches: list[tuple[int, int, int, int]] = []
        self._slot_words: dict[int, list[tuple[int, int]]] = {}  # slot -> (word, offset) of all that hold its address
        self._loops: list[tuple[int, dict[int, Slot], dict[int, tuple[int, int, int]]]] = []
        self._block(steps)
        self._fill_loops()

    def assembly(self, arena_bytes: int) -> Assembly:
        args = as_int64(self._words)
        tables = np.concatenate([np.zeros(0, np.int64), *self.tables])
        starts = list(itertools.accumulate([8 * t.size for t in self.tables], initial=tables.ctypes.data))
        for word, table, offset in self.table_words:
            args[word] = starts[table] + offset
        words = np.array([word for word, _, _ in self.temporary], np.int64)
        offsets = np.array([offset + scratch * arena_bytes for _, offset, scratch in self.temporary], np.int64)
        code = np.array(self._code, np.int64).reshape(-1, 4)
        patches = np.array(self._patches, np.int64).reshape(-1, 4)
        return Assembly(args, code, patches, tables, (words, offsets), self.parallel, bool(self.kept), self.kept)

    # --- words ------------------------------------------------------------------------------------------------------
    def _put_all(self, args: Sequence[Word]) -> int:
        """Appends words; the number of the first."""
        words = self._words
        first = len(words)
        words += [arg if type(arg) is int else 0 for arg in args]
        for word, arg in enumerate(args, first):
            if type(arg) is int:
                continue
            if not isinstance(arg, Ptr):
                words[word] = arg if isinstance(arg, int) else self._address(arg)
                continue
            kind, index, offset = arg
            if kind == "arena" or kind == "scratch":
                self.temporary.append((word, offset, kind == "scratch"))
            elif kind == "tab":
                self.table_words.append((word, index, offset))
            elif kind == "slot":
                self._slot_words.setdefault(index, []).append((word, offset))
            else:
                self._patches.append((word, int(kind == "out"), index, offset))
        return first

    def _put(self, arg: Word) -> int:
        return self._put_all((arg,))

    # --- instructions -----------------------------------------------------------------------------------------------
    def _block(self, steps: Sequence[Instruction]) -> None:
        for step in steps:
            if isinstance(step, Step):
                self._step(step)
            elif isinstance(step, Loop):
                self._loop(step)
            elif isinstance(step, Switch):
                self._switch(step)
            else:
                self._host(step)

    def _step(self, step: Step) -> None:
        if step.extent <= 0:
            return
        self._code.append((self._address(step.kernel), self._put_all(step.args), step.extent, max(step.grain, 1)))
        self.parallel = self.parallel or step.extent > step.grain

    def _address(self, kernel: str | Addressed) -> int:
        """Asked for once: launches share library kernels and tiles, and the steps keep all kernels alive."""
        key = kernel if type(kernel) is str else id(kernel)
        found = self._addresses.get(key)
        if found is None:
            found = library.address(kernel) if isinstance(kernel, str) else kernel.address()
            self._addresses[key] = found
        return found

    def _loop(self, loop: Loop) -> None:
        if loop.length == 0:
            return
        block = self._put_all((0, 0, 0, 0, 0))
        values = {}
        for number, slot in loop.slots.items():
            first = self._put(slot.first)
            odd = self._put(slot.odd) if slot.odd is not None else 0
            even = self._put(slot.even) if slot.even is not None else 0
            values[number] = (first, odd, even)
        self._loops.append((block, loop.slots, values))
        self._code.append((machine.BEGIN, block, 0, 0))
        begin = len(self._code)
        if loop.length is None:
            assert loop.flag is not None
            self._block(loop.test)
            test, flag = len(self._code), self._put(loop.flag)
            self._code.append((machine.TEST, flag, 0, 0))
        self._block(loop.body)
        self._code.append((machine.END, block, machine.FOREVER if loop.length is None else loop.length, begin))
        if loop.length is None:
            self._code[test] = (machine.TEST, flag, len(self._code), 0)

    def _switch(self, switch: Switch) -> None:
        block = self._put_all((switch.chosen, *([0] * len(switch.branches))))
        self._code.append((machine.SWITCH, block, 0, 0))
        jumps = []
        for i, branch in enumerate(switch.branches):
            self._words[block + 1 + i] = len(self._code)
            self._block(branch)
            if i + 1 < len(switch.branches):
                jumps.append(len(self._code))
                self._code.append((machine.JUMP, 0, 0, 0))
        for at in jumps:
            self._code[at] = (machine.JUMP, 0, len(self._code), 0)

    def _host(self, step: HostStep) -> None:
        call = callback(step.function, len(step.args))
        self.kept.append(call)
        address = ctypes.cast(call, ctypes.c_void_p).value
        assert address is not None
        self._code.append((machine.HOST, self._put_all((0, *step.args)), address, 0))

    def _fill_loops(self) -> None:
        """The tables of words that each loop sets: known once all words are."""
        for block, slots, values in self._loops:
            steady: list[tuple[int, ...]] = []
            alternating: list[tuple[int, ...]] = []
            for number, slot in slots.items():
                first, odd, even = values[number]
                for word, offset in self._slot_words.get(number, ()):
                    if slot.odd is None:
                        steady.append((word, first, offset, slot.stride))
                    else:
                        alternating.append((word, offset, first, odd, even))
            for at, rows in ((1, steady), (3, alternating)):
                self._words[block + at] = len(rows)
                self.table_words.append((block + at + 1, len(self.tables), 0))
                self.tables.append(np.array(rows, np.int64).ravel())


# --- Python inside a program -----------------------------------------------------------------------------------------
_C_FUNCTION = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)


class _Failure(threading.local):
    """What a host step raised on this thread, until the call of the program raises it again."""

    error: BaseException | None = None


failure = _Failure()


def callback(function: Callable[[Sequence[int]], None], n_args: int) -> Any:
    """A C function with a kernel's signature, whose first word is set to 0 once ``function`` has returned."""

    def call(args: int, begin: int, end: int, worker: int) -> None:
        try:
            words = (ctypes.c_int64 * (1 + n_args)).from_address(args)
            function(words[1:])
            words[0] = 0
        except BaseException as error:  # C has no exceptions: the program stops, and its caller raises this one
            failure.error = error

    return _C_FUNCTION(call)
