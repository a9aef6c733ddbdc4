"""What new processes take: import, the first call of a jitted LeNet-5 step, and memory at its highest.

First calls: *cold* is a machine on which the network has run eagerly and some product under ``jit``, so that fgrad's
library kernels are there and nothing that belongs to this program; *warm*, another process has run this very program;
then another batch size in the same process.  JAX keeps nothing on disk unless told to, so it is always cold.
Memory is the operating system's figure for a process that trains for some steps, libraries and compiler included.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from cases import Row, row
from timing import Timing

HERE = Path(__file__).parent
MODULES = {"fgrad": "fgrad", "PyTorch": "torch", "JAX": "jax"}
NETWORKS = (("LeNet-5", 64), ("MNIST CNN", 64), ("ResNet-20", 32))  # whose memory is measured
SECTION = "processes"


def measure(wanted: Callable[[str], bool], add: Callable[[Row], None]) -> None:
    """Adds the rows whose name is ``wanted``; every library runs in processes of its own."""
    if wanted("import"):
        add(row(SECTION, "import", import_seconds()))
    calls = [f"first call of LeNet-5's training step, {what}" for what in ("cold", "warm", "another batch size")]
    if any(map(wanted, calls)):
        for name, times in zip(calls, first_calls()):
            add(row(SECTION, name, times))
    for network, batch in NETWORKS:
        name = f"peak memory, {network}, training step, batch {batch}"
        if wanted(name):
            add(row(SECTION, name, peak_megabytes(network, batch), unit="MB"))


def _run(code: str, **variables: str) -> list[float]:
    """The numbers that a new process prints."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | variables
    lines = f"import sys; sys.path.insert(0, {str(HERE)!r})\n{code}"
    return [float(x) for x in subprocess.check_output([sys.executable, "-c", lines], env=env, text=True).split()]


# --- import ----------------------------------------------------------------------------------------------------------
def import_seconds(rounds: int = 7) -> dict[str, Timing]:
    """Importing in a new process that finds its bytecode, as after an installation."""
    times: dict[str, list[float]] = {name: [] for name in MODULES}
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    with tempfile.TemporaryDirectory() as bytecode:
        for _ in range(rounds + 1):
            for name, module in MODULES.items():
                times[name] += _run(code.format(module), PYTHONPYCACHEPREFIX=bytecode)
    return {name: Timing(seconds[1:]) for name, seconds in times.items()}


# --- the first call --------------------------------------------------------------------------------------------------
LENET = """
import time, models
if {library!r} == "fgrad":
    import fgrad as library, fgrad.numpy as numpy
else:
    import jax as library, jax.numpy as numpy
model = models.MODELS["LeNet-5"]()
o = models.Functional(library.lax, numpy)
step = lambda p, x, y: library.value_and_grad(lambda p: model.loss(o, model.outputs(o, p, x), x, y))(p)
"""
PREPARE = (
    LENET
    + """
step(*models.problem(model, 64))
library.jit(numpy.dot)(numpy.ones((8, 8)), numpy.ones((8, 8)))
"""
)
FIRST = (
    LENET
    + """
step = library.jit(step)
for batch in (64, 48):
    params, x, y = models.problem(model, batch)
    start = time.perf_counter()
    value, _ = step(params, x, y)
    float(value)
    print(time.perf_counter() - start)
"""
)


def first_calls(rounds: int = 5) -> list[dict[str, Timing]]:
    """Cold, warm, and with another batch size."""
    times: dict[str, list[list[float]]] = {name: [] for name in ("cold", "warm", "JAX")}
    ours, theirs = FIRST.format(library="fgrad"), FIRST.format(library="JAX")
    with tempfile.TemporaryDirectory() as folder:
        kernels, cache = Path(folder) / "kernels", Path(folder) / "cache"
        _run(PREPARE.format(library="fgrad"), FGRAD_CACHE_DIR=str(kernels))
        for _ in range(rounds):
            shutil.copytree(kernels, cache)
            times["cold"].append(_run(ours, FGRAD_CACHE_DIR=str(cache)))
            times["warm"].append(_run(ours, FGRAD_CACHE_DIR=str(cache)))
            times["JAX"].append(_run(theirs))
            shutil.rmtree(cache)

    def call(process: str, number: int) -> dict[str, Timing]:
        return {
            library: Timing([calls[number] for calls in times[name]])
            for library, name in (("fgrad", process), ("JAX", "JAX"))
        }

    return [call("cold", 0), call("warm", 0), call("warm", 1)]


# --- memory ----------------------------------------------------------------------------------------------------------
PEAK = """
import resource, models
run = models.MAKE[{library!r}](models.MODELS[{network!r}](), {batch}, True)
for _ in range(5):
    run()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_megabytes(network: str, batch: int) -> dict[str, Timing]:
    """One process each, after one of fgrad's that compiles what there is to compile."""

    def megabytes(library: str) -> list[float]:
        return _run(PEAK.format(library=library, network=network, batch=batch))

    megabytes("fgrad")
    return {library: Timing(megabytes(library)) for library in MODULES}
