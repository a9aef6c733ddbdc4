"""Compares fgrad with PyTorch and JAX: results first, then times in turn, as ratios.

    make bench                                 everything, some 15 minutes on two quiet cores
    make bench ARGS="--only networks LeNet"    the sections and rows whose name contains one of the words

Prints one table, and writes it with the machine and the commit to benchmarks/results/latest.json, and pictures beside
it; a part of the table goes to partial.json.  ``make bench-docs`` puts the latest results into docs/performance.md.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from pathlib import Path

THREADS = 2
# before any library is imported, this process's and its children's
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "FGRAD_NUM_THREADS"):
    os.environ[name] = str(THREADS)
os.environ["OPENBLAS_THREAD_TIMEOUT"] = "4"  # else its threads spin for 0.1 s after a product, beside the next library
os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads={THREADS}"
os.environ["JAX_PLATFORMS"] = "cpu"

import convolutions  # noqa: E402
import loops  # noqa: E402
import models  # noqa: E402
import overheads  # noqa: E402
import pictures  # noqa: E402
import pooling  # noqa: E402
import processes  # noqa: E402
import separable  # noqa: E402
import table  # noqa: E402
from cases import Row, measure  # noqa: E402

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="sections and rows with such a name")
    words = parser.parse_args().only

    began = time.perf_counter()
    rows: list[Row] = []

    def add(row: Row) -> None:
        if not rows or rows[-1]["section"] != row["section"]:
            print(table.header(row["section"]))
        rows.append(row)
        print(table.line(row), flush=True)

    # Processes first: nothing that this one has loaded then takes memory from them.
    processes.measure(lambda name: any(word in f"{processes.SECTION} {name}" for word in words), add)
    for module in (overheads, loops, models, convolutions, separable, pooling):
        for case in module.cases():
            if any(word in f"{case.section} {case.name}" for word in words):
                add(measure(case))
    print("\n" + "\n".join(table.summary(rows)))

    out = RESULTS / ("latest.json" if words == [""] else "partial.json")
    out.parent.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in rows)
    out.write_text(f'{{"machine": {json.dumps(machine())},\n"rows": [\n{lines}\n]}}\n')
    drawn = pictures.draw(rows, out.parent)
    print(f"above 1: fgrad is faster, or smaller; quartiles in brackets; {time.perf_counter() - began:.0f} s")
    print("written: " + ", ".join(str(path.relative_to(ROOT)) for path in (out, *drawn)))


def machine() -> dict[str, str]:
    """Where and of what the figures are."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    changed = ", with uncommitted changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    cpu = next((x.split(":")[1].strip() for x in _cpuinfo() if x.startswith("model name")), platform.processor())
    packages = ("numpy", "numba", "torch", "jax", "autograd")
    return {
        "commit": git("rev-parse", "--short=10", "HEAD") + changed,
        "date": datetime.date.today().isoformat(),
        "cpu": cpu,
        "threads": str(THREADS),
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
