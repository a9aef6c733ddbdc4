"""What the first call of a jitted LeNet-5 step costs in a new process, in fgrad and JAX.

    .venv-bench/bin/python benchmarks/first_call.py

cold: nothing is cached for this program, but fgrad's library kernels and register tiles are there, as they are once any
program has run on the machine; warm: another process has run the same program; and a call with another batch size in
the process that has run the first.  JAX keeps nothing on disk unless told to, so its first call is always cold.  Python
keeps the bytecode of both, as of any package that pip has installed.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROUNDS = 5

CHILD = """
import sys, time
sys.path.insert(0, {here!r})
import models
if {library!r} == "fgrad":
    import fgrad as library, fgrad.numpy as numpy
else:
    import jax as library, jax.numpy as numpy
model = models.MODELS["LeNet-5"]()
o = models.Functional(library.lax, numpy)
step = library.jit(lambda p, x, y: library.value_and_grad(lambda p: o.loss(model.logits(o, p, x), y))(p))
for batch in (64, 48):
    params, x, y = models.problem(model, batch)
    start = time.perf_counter()
    value, _ = step(params, x, y)
    float(value)
    print(time.perf_counter() - start)
"""


def seconds(library: str, cache: Path) -> list[float]:
    env = {**os.environ, "FGRAD_CACHE_DIR": str(cache), "JAX_PLATFORMS": "cpu"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    text = CHILD.format(here=str(HERE), library=library)
    return [float(x) for x in subprocess.check_output([sys.executable, "-c", text], env=env, text=True).split()]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        seconds("fgrad", cache)  # compiles the library's kernels
        times: dict[str, list[float]] = {"cold": [], "warm": [], "size": [], "JAX": [], "JAX size": []}
        for _ in range(ROUNDS):
            shutil.rmtree(cache / "emitted")
            times["cold"].append(seconds("fgrad", cache)[0])
            first, second = seconds("fgrad", cache)
            times["warm"].append(first)
            times["size"].append(second)
            first, second = seconds("JAX", cache)
            times["JAX"].append(first)
            times["JAX size"].append(second)
    ms = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    print(f"first call, cold      fgrad {ms['cold']:6.0f} ms, JAX {ms['JAX']:6.0f} ms")
    print(f"first call, warm      fgrad {ms['warm']:6.0f} ms, {ms['warm'] / ms['JAX']:.2f} of JAX's")
    print(f"another batch size    fgrad {ms['size']:6.0f} ms, JAX {ms['JAX size']:6.0f} ms")


if __name__ == "__main__":
    main()
