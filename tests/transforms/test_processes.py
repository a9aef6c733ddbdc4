"""fgrad in forked and spawned children, after the parent has used its worker threads."""

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


def test_another_process_gets_the_same_bits():
    code = (
        "import numpy as np, fgrad, fgrad.numpy as fnp\n"
        "rng = np.random.default_rng(0)\n"
        "w, x = rng.standard_normal((256, 64)), rng.standard_normal((512, 256))\n"
        "f = fgrad.jit(fgrad.value_and_grad(lambda w, x: fnp.sum(fnp.tanh(x @ w))))\n"
        "value, g = f(w, x)\n"
        "print(float(value).hex(), np.asarray(g).tobytes().hex()[:4000])\n"
    )
    value, g, _ = run(None)
    want = f"{value.hex()} {g.tobytes().hex()[:4000]}"
    for threads in ("1", "2"):
        environment = os.environ | {"FGRAD_NUM_THREADS": threads}
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        assert out.stdout.strip() == want, f"{threads} threads"
