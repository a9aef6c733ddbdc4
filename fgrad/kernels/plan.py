"""What a kernel launch is: a flat list of steps over pointers and integers.

Every compiled kernel, from the library or emitted, has one C signature::

    void kernel(int64_t *args, int64_t begin, int64_t end, int64_t worker)

It does tiles ``begin <= tile < end`` of its step's ``extent``; ``args`` is the step's block of 64-bit words:
integers, bit patterns of floats and addresses.  Which tiles run on which worker never changes a result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np


class Ptr(NamedTuple):
    """An address known only at launch: a base of the given kind plus a byte offset.

    ``in``/``out``: operand or result ``index``; ``tmp``: temporary ``index`` of the plan; ``tab``: table ``index``;
    ``scratch``: memory private to a worker (base address; the kernel adds ``worker * plan.scratch``);
    ``arena``: the program's own memory (only in finished programs; ``index`` is 0);
    ``slot``: the address in slot ``index`` of a loop (likewise).
    """

    kind: Literal["in", "out", "tmp", "tab", "scratch", "arena", "slot"]
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a pointer
    offset: int = 0


class Addressed(Protocol):
    """Compiled code, by what it is compiled from (hashable; see kernels/cpu)."""

    def address(self) -> int: ...


Word = int | Ptr | Addressed


class Step(NamedTuple):
    """One kernel over ``extent`` independent tiles, at least ``grain`` of them to a worker at a time.

    ``kernel`` is the name of a library kernel or another one by itself; ``args`` may hold addresses of code, too.
    """

    kernel: str | Addressed
    args: tuple[Word, ...]
    extent: int
    grain: int
    note: str = ""

    @property
    def kernel_name(self) -> str:
        """In a program's text: a library kernel's name, what a user's kernel calls itself, or 'emitted'."""
        return self.kernel if isinstance(self.kernel, str) else getattr(self.kernel, "label", "emitted")

    def placed(self, place: Callable[[Ptr], Ptr]) -> Step:
        """The step with ``place(a)`` for every pointer ``a`` among its arguments."""
        args = tuple([place(a) if type(a) is Ptr else a for a in self.args])
        return Step(self.kernel, args, self.extent, self.grain, self.note)


class KernelPlan(NamedTuple):
    """Steps run in order; temporaries in bytes; int64 tables kept alive; scratch bytes for each worker."""

    steps: tuple[Step, ...]
    temps: tuple[int, ...] = ()
    tables: tuple[np.ndarray, ...] = ()
    scratch: int = 0


class Slot(NamedTuple):
    """An address that a loop sets before every iteration t, and once more when it ends (t = number of iterations):
    ``first`` + t * ``stride`` bytes; or, where ``odd`` and ``even`` are given, ``first`` for t = 0, then those in turn.
    """

    first: Ptr
    stride: int = 0
    odd: Ptr | None = None
    even: Ptr | None = None


class Loop(NamedTuple):
    """``body``, ``length`` times; without a length as long as ``test`` leaves a byte other than 0 at ``flag``.

    ``slots``: the loop's slots by number.  Numbers are unique in a program; a step behind the loop may use them too.
    """

    slots: dict[int, Slot]
    body: Sequence[Instruction]
    length: int | None
    test: Sequence[Instruction] = ()
    flag: Ptr | None = None


class Switch(NamedTuple):
    """The branch whose number is the int32 at ``chosen``, which must be in range."""

    chosen: Ptr
    branches: Sequence[Sequence[Instruction]]


class HostStep(NamedTuple):
    """``function(addresses)`` in Python, on the thread that called the program; what it raises ends the program."""

    function: Callable[[Sequence[int]], None]
    args: tuple[Ptr, ...]
    note: str = ""


Instruction = Step | Loop | Switch | HostStep
