"""fgrad in forked children, after the parent has used its worker threads; and the size of a process."""

import multiprocessing
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp

F = fgrad.jit(fgrad.value_and_grad(lambda w, x: fnp.sum(fnp.tanh(x @ w))))
RNG = np.random.default_rng(0)
W, X = RNG.standard_normal((256, 64)), RNG.standard_normal((512, 256))


def run(_):
    value, g = F(W, X)
    extra = fgrad.jit(lambda x: fnp.sin(x) * 3)(X)  # traced and compiled in the child
    return float(value), np.asarray(g), float(fnp.sum(extra))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_children_forked_after_use_work():
    want = run(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12+: fork in a process with threads
        with multiprocessing.get_context("fork").Pool(2) as pool:
            results = pool.map_async(run, range(4)).get(timeout=120)
    for value, g, extra in results:
        assert value == want[0] and extra == want[2]
        np.testing.assert_array_equal(g, want[1])
    assert run(None)[0] == want[0]  # and the parent still does


# Gradients of a small convolution layer for 90 shapes, of which the first 30 load kernels.
GROWTH = """
import resource
from pathlib import Path
import numpy as np, fgrad, fgrad.numpy as fnp
from fgrad import lax, nn

def loss(w, x):
    y = nn.relu(lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
    return fnp.sum(nn.log_softmax(nn.max_pool(y, (2, 2), (2, 2)).reshape(x.shape[0], -1)))

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

step, w = fgrad.jit(fgrad.grad(loss)), np.ones((3, 3, 2, 4), np.float32)
for i in range(90):
    if i == 30:
        before = resident()
    step(w, np.ones((1 + i % 9, 4 + 2 * (i // 9), 6, 2), np.float32))
print((resident() - before) // 60)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="this system does not tell a process its size")
def test_a_new_shape_costs_kilobytes():
    """Some 150: the traces of the function and of its gradient, the plan, and memory to work in."""
    out = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    assert int(out.stdout) < 400_000
