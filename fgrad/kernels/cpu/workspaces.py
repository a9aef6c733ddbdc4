"""Memory for the temporaries of a call, which programs use in turn.

A program needs its temporaries only while it runs, and fresh memory costs more than most programs: the system clears
each page at its first touch.  So a call takes a block that is idle, and puts it back.  A block belongs to a *shelf*,
that of its size, which lives as long as a program with temporaries of that size; smaller programs borrow from it.  So
there are as many blocks as calls at the same time, not as programs, and memory goes with the last program that needs
so much.  All steps are single operations on lists and dictionaries: no lock is taken.
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

import numpy as np

from fgrad.kernels.cpu.results import aligned

#: Sizes of blocks, beyond the last its multiples.  They are far apart, so that another batch size mostly finds its
#: block; what nobody touches of it is address space only.
SIZES = tuple(4**k for k in range(6, 14))


class Block(NamedTuple):
    address: int
    memory: np.ndarray


class Shelf:
    """Idle blocks of one size; ``needed`` is what programs touch of them.  One that ``keeps`` none makes each anew."""

    __slots__ = ("__weakref__", "blocks", "keeps", "nbytes", "needed")

    def __init__(self, nbytes: int, keeps: bool = True) -> None:
        self.nbytes = nbytes
        self.keeps = keeps
        self.needed = 0
        self.blocks: list[Block] = []

    def take(self) -> tuple[Shelf, Block]:
        """A block of at least this size and the shelf that it goes back on, by ``shelf.blocks.append``, if that keeps
        any.
        """
        if self.blocks:
            try:
                return self, self.blocks.pop()
            except IndexError:  # another thread has taken it
                pass
        others = sorted(_every(), key=lambda shelf: shelf.nbytes)
        for shelf in others:
            if shelf.nbytes > self.nbytes and shelf.blocks:
                try:
                    return shelf, shelf.blocks.pop()
                except IndexError:
                    pass
        for shelf in others:  # whoever takes these now takes the new block, once it is idle
            if self.keeps and shelf.nbytes < self.nbytes:
                shelf.blocks.clear()
        memory = aligned(self.nbytes)
        return self, Block(memory.ctypes.data, memory)


_shelves: weakref.WeakValueDictionary[int, Shelf] = weakref.WeakValueDictionary()


def _every() -> list[Shelf]:
    """All shelves.  Their references are listed in one operation: another thread may add a shelf meanwhile."""
    return [shelf for shelf in [reference() for reference in _shelves.valuerefs()] if shelf is not None]


def shelf_for(nbytes: int) -> Shelf:
    """Where a program with so many bytes of temporaries finds its block."""
    size = next((size for size in SIZES if size >= nbytes), -(-nbytes // SIZES[-1]) * SIZES[-1])
    shelf = _shelves.setdefault(size, Shelf(size))
    shelf.needed = max(shelf.needed, nbytes)
    return shelf


def idle_bytes() -> int:
    """Memory that idle blocks take."""
    return sum([shelf.needed * len(shelf.blocks) for shelf in _every()])


def count() -> int:
    """Idle blocks."""
    return sum([len(shelf.blocks) for shelf in _every()])


def clear() -> None:
    for shelf in _every():
        shelf.blocks.clear()
