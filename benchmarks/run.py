"""Compares fgrad with PyTorch and JAX in one process: results first, then times in turn, as ratios.

    make bench                              everything: some 12 minutes
    make bench ARGS="--only digits"         the rows whose name contains a word: "LeNet", "conv", "float64", "dW"

Prints a table and writes it with the machine and the commit to benchmarks/results/latest.json.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

THREADS = 2
WIDTH = 62  # of a row's name
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "FGRAD_NUM_THREADS"):
    os.environ[name] = str(THREADS)
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads=2"
os.environ["JAX_PLATFORMS"] = "cpu"

import convolutions  # noqa: E402
import models  # noqa: E402
import numpy as np  # noqa: E402
from cnn_step import steps  # noqa: E402
from timing import interleaved, ratio  # noqa: E402

ROOT = Path(__file__).parent.parent


def small_add() -> dict[str, Callable[[], object]]:
    """A jitted 8x8 add: what a call costs."""
    import jax
    import torch

    import fgrad
    import fgrad.numpy as fnp

    a = np.random.default_rng(0).random((8, 8), np.float32)
    ours, theirs, tensor = fnp.asarray(a), jax.numpy.asarray(a), torch.tensor(a)
    f, g = fgrad.jit(lambda x, y: x + y), jax.jit(lambda x, y: x + y)
    assert np.array_equal(f(ours, ours), a + a) and np.array_equal(g(theirs, theirs), a + a)
    return {
        "fgrad": lambda: f(ours, ours),
        "PyTorch": lambda: tensor + tensor,
        "JAX": lambda: g(theirs, theirs).block_until_ready(),
    }


def eager_grad() -> dict[str, Callable[[], object]]:
    """The eager gradient of sum(sin(x) x) on 8x8."""
    import jax
    import torch

    import fgrad
    import fgrad.numpy as fnp

    a = np.random.default_rng(0).random((8, 8), np.float32)
    ours, theirs = fnp.asarray(a), jax.numpy.asarray(a)
    f = fgrad.grad(lambda x: fnp.sum(fnp.sin(x) * x))
    g = jax.grad(lambda x: jax.numpy.sum(jax.numpy.sin(x) * x))

    def torch_grad():
        x = torch.tensor(a, requires_grad=True)
        (torch.sin(x) * x).sum().backward()
        return x.grad

    assert np.allclose(f(ours), g(theirs), atol=1e-6) and np.allclose(f(ours), torch_grad(), atol=1e-6)
    return {"fgrad": lambda: f(ours), "PyTorch": torch_grad, "JAX": lambda: g(theirs).block_until_ready()}


Case = Callable[[], dict[str, Callable[[], object]]]  # makes a call to time for each library, results checked

CASES: dict[str, Case] = {
    "digits CNN, training step, batch 64": lambda: steps("digits", 64),
    "MNIST CNN with Adam, training step, batch 64": lambda: steps("mnist", 64),
    "jitted 8x8 add": small_add,
    "eager gradient of sum(sin(x) x), 8x8": eager_grad,
}
TRAINING = (
    ("LeNet-5", (1, 64, 128)), ("MNIST CNN", (1, 64, 128)), ("ResNet-8", (1, 32)), ("ResNet-20", (1, 32)),
)  # fmt: skip
INFERENCE = (("LeNet-5", (1, 256)), ("MNIST CNN", (1, 256)), ("ResNet-20", (1, 128)))
CASES |= {
    f"{network}, {what}, batch {batch}": functools.partial(models.calls, network, batch, train)
    for what, train, table in (("training step", True, TRAINING), ("inference", False, INFERENCE))
    for network, batches in table
    for batch in batches
}
CONVOLUTIONS: dict[str, Case] = {
    f"conv {conv.name}, {direction}, {dtype}": functools.partial(convolutions.calls, conv, direction, dtype)
    for dtype in ("float32", "float64")
    for conv in (*convolutions.TABLE, *convolutions.OTHERS)
    for direction in convolutions.DIRECTIONS
}
MAIN = {conv.name for conv in convolutions.TABLE}  # what the means are of


def compare(cases: dict[str, Case], *, only: str = "", rounds: int = 15, seconds: float = 0.15) -> list[dict]:
    """Times the cases whose name contains ``only`` and prints a line for each (a dash: no such call)."""
    import torch

    torch.set_num_threads(THREADS)
    cases = {name: make for name, make in cases.items() if only in name}
    if not cases:
        return []
    print(f"{'':<{WIDTH}}{'fgrad':>12}{'PyTorch':>12}{'JAX':>12}{'PyTorch/fgrad':>28}{'JAX/fgrad':>28}")
    rows = []
    for name, make in cases.items():
        times = interleaved(make(), rounds=rounds, seconds=seconds)
        ratios = {peer: ratio(times[peer], times["fgrad"]) for peer in ("PyTorch", "JAX") if peer in times}
        rows.append(
            {"name": name, "seconds": {k: t.median for k, t in times.items()}, "ratio": ratios, "when": time.time()}
        )
        figures = [_duration(times[k].median) if k in times else "-" for k in ("fgrad", "PyTorch", "JAX")]
        spread = [_spread(ratios[peer]) if peer in ratios else "-" for peer in ("PyTorch", "JAX")]
        print(
            f"{name:<{WIDTH}}" + "".join(f"{f:>12}" for f in figures) + "".join(f"{s:>28}" for s in spread), flush=True
        )
    return rows


def print_means(rows: list[dict]) -> None:
    """Geometric means, and the smallest, of the ratios of the table's convolutions."""
    for dtype in ("float32", "float64"):
        for peer in ("PyTorch", "JAX"):
            found = [
                row["ratio"][peer][0]
                for row in rows
                if row["name"].endswith(dtype) and row["name"].removeprefix("conv ").rsplit(", ", 2)[0] in MAIN
            ]
            if found:
                mean = math.exp(statistics.fmean(map(math.log, found)))
                means = f"{mean:.2f} in the mean, least {min(found):.2f}"
                print(f"{len(found)} convolutions in {dtype}, {peer}/fgrad: {means}")


def import_seconds(module: str) -> float:
    """Median seconds of importing a module in a new process that finds its bytecode, as after an installation."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    with tempfile.TemporaryDirectory() as bytecode:
        env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = bytecode
        runs = [float(subprocess.check_output([sys.executable, "-c", code], env=env)) for _ in range(8)]
    return statistics.median(runs[1:])


def machine() -> dict[str, str]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    cpu = next((x.split(":")[1].strip() for x in _cpuinfo() if x.startswith("model name")), platform.processor())
    return {"commit": commit, "cpu": cpu, "python": platform.python_version(), "threads": str(THREADS)}


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()

    rows = compare(CASES, only=options.only, rounds=options.rounds)
    convs = compare(CONVOLUTIONS, only=options.only, rounds=max(3, options.rounds // 2), seconds=0.06)
    rows += convs
    print_means(convs)
    if options.only in "import":
        seconds = {name: import_seconds(name) for name in ("fgrad", "torch", "jax")}
        rows.append({"name": "import", "seconds": seconds})
        print(f"{'import':<{WIDTH}}" + "".join(f"{_duration(s):>12}" for s in seconds.values()))
    out = ROOT / "benchmarks" / "results" / "latest.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))
    print(f"\nabove 1: fgrad is faster; quartiles in brackets; written to {out.relative_to(ROOT)}")


def _spread(r: tuple[float, float, float]) -> str:
    return f"{r[0]:.2f} ({r[1]:.2f}-{r[2]:.2f})"


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-4 else f"{seconds * 1e6:.1f} us"


if __name__ == "__main__":
    main()
