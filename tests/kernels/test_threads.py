"""The threading layer: Numba's, by itself where that is possible; and programs on each of its layers."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
import numpy as np, fgrad, fgrad.numpy as fnp
from fgrad import config
{before}
f = fgrad.jit(lambda x: fnp.sum(fnp.tanh(x @ x), axis=0))
x = np.linspace(-1, 1, 300 * 300).reshape(300, 300)
want, wrong = np.asarray(f(x)), []
def call():
    for _ in range(20):
        if not np.array_equal(np.asarray(f(x)), want):
            wrong.append(1)
threads = [threading.Thread(target=call) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
assert not wrong
from fgrad.kernels.cpu import driver
layer = driver._loops._layer
print(layer and layer.name, "numba" in sys.modules, want.tobytes().hex()[:2000])
"""


def run(before: str = "", **environment: str) -> list[str]:
    environment = {"FGRAD_NUM_THREADS": "2", **environment}
    kept = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before)], env=kept | environment, capture_output=True, text=True
    )
    assert out.returncode == 0, out.stderr
    return out.stdout.split()


@pytest.fixture(scope="module")
def serially() -> str:
    return run(FGRAD_NUM_THREADS="1")[2]


@pytest.fixture(scope="module", autouse=True)
def several_cores():
    if len(os.sched_getaffinity(0)) < 2 if hasattr(os, "sched_getaffinity") else os.cpu_count() == 1:
        pytest.skip("needs two cores")


def test_once_compiled_a_program_needs_no_numba(serially):
    run()
    _, numba, bits = run()
    assert (numba, bits) == ("False", serially)


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_the_layer_that_the_user_chose(layer, serially):
    assert run(NUMBA_THREADING_LAYER=layer) == [layer, "True", serially]


def test_the_layer_that_numba_has_started(serially):
    before = "import numba; numba.config.THREADING_LAYER = 'workqueue'"
    assert run(before) == ["workqueue", "True", serially]


def test_fewer_threads_of_numba(serially):
    """The layer has fewer threads than the program may use."""
    assert run("import numba", NUMBA_NUM_THREADS="1")[1:] == ["True", serially]


def test_the_environment_is_left_as_it_was():
    """The layer is loaded with a setting for OpenMP, which must not reach the user's own processes."""
    run("import os, atexit; atexit.register(lambda: 'GOMP_SPINCOUNT' in os.environ and os._exit(1))")
