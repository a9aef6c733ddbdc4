"""Peak resident memory of a process that trains a network for some steps, in fgrad, PyTorch and JAX.

    .venv-bench/bin/python benchmarks/peak_memory.py

Each library runs in a process of its own; the figures are the operating system's, libraries and compiler included.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHILD = """
import os, resource, sys
sys.path.insert(0, {here!r})
import models
model = models.MODELS[{network!r}]()
if {library!r} == "PyTorch":
    import torch
    torch.set_num_threads(2)
    run = models._torch(model, {batch}, True)
elif {library!r} == "fgrad":
    import fgrad, fgrad.numpy
    run = models._functional(fgrad, fgrad.numpy, fgrad.tree.tree_map, model, {batch}, True)
else:
    import jax
    run = models._functional(jax, jax.numpy, jax.tree.map, model, {batch}, True)
for _ in range(5):
    run()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
CASES = (("LeNet-5", 64), ("MNIST CNN", 64), ("ResNet-20", 32))
LIBRARIES = ("fgrad", "PyTorch", "JAX")


def megabytes(network: str, batch: int, library: str) -> float:
    env = {**os.environ, "OMP_NUM_THREADS": "2", "FGRAD_NUM_THREADS": "2", "JAX_PLATFORMS": "cpu"}
    text = CHILD.format(here=str(Path(__file__).parent), network=network, batch=batch, library=library)
    return int(subprocess.check_output([sys.executable, "-c", text], env=env)) / 1024


def main() -> None:
    print(f"{'peak resident memory, MB':<28}" + "".join(f"{x:>10}" for x in LIBRARIES))
    for network, batch in CASES:
        megabytes(network, batch, "fgrad")  # what is compiled is compiled now
        figures = [megabytes(network, batch, library) for library in LIBRARIES]
        print(f"{network + f', batch {batch}':<28}" + "".join(f"{x:>10.0f}" for x in figures), flush=True)


if __name__ == "__main__":
    main()
