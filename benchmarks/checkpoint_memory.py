"""Peak memory of the gradient of a 32-layer convolution stack, as it is and checkpointed.

    .venv/bin/python benchmarks/checkpoint_memory.py        Linux only: it reads /proc/self/status

A layer is relu(conv(x, w)), 3x3, 32 to 32 channels, on x [16, 32, 32, 32]: one activation takes 2 MB.  Each figure is
the highest resident memory while the gradient is computed, less that before, in a process of its own that has run the
same gradient on one small image, so that code and kernels are there already.  ``planned``: the compiled program's
temporaries and results.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import fgrad
import fgrad.numpy as fnp
from fgrad import lax

LAYERS, CHANNELS, SIZE, BATCH = 32, 32, 32, 16
MB = 2**20

# How the layers are checkpointed: (2, 4, 4) is 2 groups of 4 groups of 4 layers, where each group is a checkpoint.
SCHEMES = {
    "none": (32,),
    "8 groups of 4": (8, 4),
    "4 x 4 groups of 2": (4, 4, 2),
    "halves of halves": (2, 2, 2, 2, 2),
}


def layers(ws, x):
    for w in ws:
        x = fnp.maximum(lax.conv(x, w, (1, 1), "SAME"), 0)
    return x


def stack(scheme):
    """The function of (weights, x) that runs the layers in nested groups."""
    if len(scheme) == 1:
        return layers
    inner = fgrad.checkpoint(stack(scheme[1:]))
    size = int(np.prod(scheme[1:]))

    def groups(ws, x):
        for i in range(0, len(ws), size):
            x = inner(ws[i : i + size], x)
        return x

    return groups


def gradient(scheme):
    f = stack(scheme)
    return fgrad.grad(lambda ws, x: fnp.sum(f(ws, x) ** 2))


def operands(batch: int, size: int):
    rng = np.random.default_rng(0)
    scale = np.float32(np.sqrt(2 / (9 * CHANNELS)))
    ws = [fnp.asarray(rng.standard_normal((CHANNELS, CHANNELS, 3, 3), np.float32) * scale) for _ in range(LAYERS)]
    return ws, fnp.asarray(rng.standard_normal((batch, CHANNELS, size, size), np.float32))


def status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def measure(name: str, mode: str) -> dict:
    """In this process: peak, seconds of a second run, a digest of the result, and the program's own figure."""
    g = gradient(SCHEMES[name])
    g = fgrad.jit(g) if mode == "jit" else g
    g(*operands(1, SIZE // 4))
    args = operands(BATCH, SIZE)
    planned = 0
    if mode == "jit":
        program = g.lower(*args).program
        planned = program.arena_bytes + sum(w.nbytes for w in args[0])
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    out = g(*args)
    peak = status("VmHWM") - before
    start = time.perf_counter()
    g(*args)
    seconds = time.perf_counter() - start
    digest = [float(fnp.sum(w * w)) for w in out]
    return {"peak": peak, "planned": planned, "seconds": seconds, "digest": digest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--one", nargs=2, metavar=("SCHEME", "MODE"), help="measure in this process, print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return
    print(f"{'':<20}{'mode':>6}{'peak MB':>10}{'of none':>9}{'planned MB':>12}{'of none':>9}{'seconds':>9}")
    for mode in ("eager", "jit"):
        base: dict = {}
        for name in SCHEMES:
            command = [sys.executable, __file__, "--one", name, mode]
            got = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            base = base or got
            np.testing.assert_allclose(got["digest"], base["digest"], rtol=1e-4)
            line = f"{name:<20}{mode:>6}{got['peak'] / MB:10.1f}{got['peak'] / base['peak']:9.2f}"
            planned = f"{got['planned'] / MB:12.1f}{got['planned'] / (base['planned'] or 1):9.2f}"
            print(line + (planned if mode == "jit" else " " * len(planned)) + f"{got['seconds']:9.2f}", flush=True)


if __name__ == "__main__":
    main()
