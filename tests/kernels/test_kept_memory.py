"""Working memory between calls: a program keeps its own, a large kernel that is run on its own keeps none."""

import tracemalloc

import numpy as np

import fgrad
from fgrad import lax
from fgrad.kernels.cpu import results

X = np.ones((8, 16, 64, 64), np.float32)
W = np.ones((16, 16, 3, 3), np.float32)


def held_after(f):
    """Bytes that stay allocated by a first call, its result aside."""
    tracemalloc.start()
    try:
        f(X, W)
        results.pool.clear()  # where results have been
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_a_large_kernel_keeps_no_working_memory():
    convolve = lambda x, w: lax.conv(x, w, (1, 1), "SAME")  # noqa: E731
    convolve(X[:1], W)  # kernels are compiled
    assert held_after(convolve) < X.nbytes / 4
    program = fgrad.jit(convolve)
    assert held_after(program) > X.nbytes  # the input with its border of zeros
