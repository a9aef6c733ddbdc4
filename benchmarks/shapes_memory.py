"""Resident memory when one jitted function meets 1,000 shapes in 100,000 calls.

    .venv/bin/python benchmarks/shapes_memory.py            Linux only: it reads /proc/self/statm

Warm-up is one call of each shape.  Then shapes come in random order, which no cache of recent ones suits.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import time
from pathlib import Path

import numpy as np

import fgrad
import fgrad.numpy as fnp

SHAPES = list(itertools.product(range(1, 41), range(1, 26)))
PAGE = resource.getpagesize()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


@fgrad.jit
def f(x):
    """[n, m] to [m, m]: a product, a map and a reduction."""
    return x.T @ fnp.tanh(x - fnp.mean(x, 0)) + fnp.sum(x * x)


def expected(x: np.ndarray) -> np.ndarray:
    return x.T @ np.tanh(x - x.mean(0)) + (x * x).sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=100_000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    arguments = [rng.random(shape, np.float32) for shape in SHAPES]
    print(f"after import      {resident_mb():8.1f} MB")
    start = time.perf_counter()
    for x in arguments:
        np.testing.assert_allclose(f(x), expected(x), rtol=1e-4, atol=1e-4)
    level = resident_mb()
    print(f"after warm-up     {level:8.1f} MB   {len(SHAPES)} shapes, {time.perf_counter() - start:.1f} s")
    start, highest = time.perf_counter(), level
    for count, i in enumerate(rng.integers(0, len(SHAPES), options.calls - len(SHAPES)), 1):
        f(arguments[i])
        if count % 1000 == 0:
            highest = max(highest, resident_mb())
    seconds = time.perf_counter() - start
    print(f"after {options.calls:,} calls {resident_mb():8.1f} MB   {seconds:.1f} s")
    print(f"growth after warm-up: {resident_mb() - level:.1f} MB at the end, {highest - level:.1f} MB at the highest")


if __name__ == "__main__":
    main()
