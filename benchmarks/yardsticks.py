"""What the machine can do: a matrix product of OpenBLAS and a copy through memory, by NumPy on two threads.

They take turns with the convolutions that are held against them, since the speed of a machine drifts.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

SIDE = 1536  # the product is three matrices of 9.4 MB
COPIED = 2**27  # bytes: a multiple of any cache

#: Work of one call: flops of sgemm, bytes read and written of copy.
WORK = {"sgemm": 2 * SIDE**3, "copy": 2 * COPIED}


def sgemm() -> Callable[[], object]:
    """[1536, 1536] times [1536, 1536] in float32, into memory that is there."""
    a, b = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def copy() -> Callable[[], object]:
    """128 MiB to another place, half of it on each of two threads."""
    source, target = np.ones((2, COPIED // 4), np.float32)
    halves = slice(0, source.size // 2), slice(source.size // 2, None)
    threads = ThreadPoolExecutor(2)

    def run() -> None:
        list(threads.map(lambda half: np.copyto(target[half], source[half]), halves))

    return run


#: Seconds of settling calls: OpenBLAS's threads spin for 0.1 s after a product, which halves the speed of what follows.
SETTLE = {"sgemm": 0.14}
MAKE = {"sgemm": sgemm, "copy": copy}
