"""Memory for results, on a cache line's border; large blocks that nobody holds any more are used again.

A fresh block of megabytes comes from the system page by page, each cleared at its first touch, which takes longer than
most element-wise work on it.  So the pool remembers large blocks that it gave away.  A result is a view of its block,
and so are all views of the result, whoever made them: a block to which only the pool refers is free, because the last
array on it is gone.  It never is taken from anybody.
"""

from __future__ import annotations

import math
import os
import sys
import threading

import numpy as np

ALIGNMENT = 64
POOLED = 1 << 20  # bytes of a block that is worth remembering
MOST = 1 << 27  # bytes of all blocks remembered: as much may lie idle


def _holders(blocks: list[np.ndarray], i: int) -> int:
    return sys.getrefcount(blocks[i])


_ALONE = _holders([np.empty(0)], 0)  # what a list and nobody else refers to


class _Pool:
    """Blocks that were given away, the one used longest ago first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: list[np.ndarray] = []

    def take(self, nbytes: int) -> np.ndarray:
        with self._lock:
            blocks = self._blocks
            free = [i for i, b in enumerate(blocks) if b.nbytes == nbytes]
            free = [i for i in free if _holders(blocks, i) == _ALONE]
            block = blocks.pop(free[-1]) if free else np.empty(nbytes, np.uint8)
            blocks.append(block)
            while sum([b.nbytes for b in blocks]) > MOST:
                blocks.pop(0)
            return block

    def clear(self) -> None:
        with self._lock:
            self._blocks.clear()

    def count(self) -> int:
        return len(self._blocks)

    def after_fork(self) -> None:
        self._lock = threading.Lock()


pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.after_fork)


def aligned(nbytes: int) -> np.ndarray:
    """Uninitialised bytes whose address is a multiple of `ALIGNMENT`."""
    return _from_border(np.empty(nbytes + ALIGNMENT, np.uint8), nbytes)


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """`np.empty` on a cache line's border: malloc places large arrays 16 bytes after one, and kernels that then read
    them as vectors run at two thirds of their speed.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < POOLED:
        return np.ndarray(shape, dtype, aligned(nbytes))
    return np.ndarray(shape, dtype, _from_border(pool.take(nbytes + ALIGNMENT), nbytes))


def _from_border(block: np.ndarray, nbytes: int) -> np.ndarray:
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + nbytes]
