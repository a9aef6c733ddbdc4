"""Random programs in fgrad and in JAX, many of them.

    .venv-bench/bin/python tests/fuzz/fuzz_jax.py --programs 20000 --processes 2 --seed 0

Prints each difference that rounding does not explain, with its seed and a snippet that runs it, and in the end counts
and the largest differences.  The exit status is 1 if there was one.  ``--seed S --programs 1`` repeats one program.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from typing import Any, NamedTuple

CHUNK = 100  # programs between two clearings of all caches: what XLA compiled is never used again


class Summary(NamedTuple):
    """Of some programs: how many, the failures' texts, arrays by kind, (units, seed) of the largest of each kind."""

    programs: int
    failures: list[str]
    arrays: collections.Counter
    explained: collections.Counter
    largest: dict[tuple[str, str], tuple[float, int]]

    def add(self, other: Summary) -> Summary:
        for kind, x in other.largest.items():
            self.largest[kind] = max(x, self.largest.get(kind, (-1.0, 0)))
        return Summary(
            self.programs + other.programs, self.failures + other.failures, self.arrays + other.arrays,
            self.explained + other.explained, self.largest,
        )  # fmt: skip


def empty() -> Summary:
    return Summary(0, [], collections.Counter(), collections.Counter(), {})


def prepare(cache: str) -> None:
    """Of a process, before JAX and fgrad are imported: quick compilation, and kernels kept only for this run."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    os.environ["FGRAD_CACHE_DIR"] = cache


def run(seeds: range) -> Summary:
    """The programs of the seeds."""
    import jax
    from jax_programs import case_of, compare

    import fgrad

    jax.config.update("jax_enable_x64", True)
    total = empty()
    for seed in seeds:
        case: Any = f"# seed {seed}"  # in case that it cannot even be written
        try:
            case = case_of(seed)
            found = compare(case, jax)
        except Exception:
            total.failures.append(f"{case}\n{traceback.format_exc(limit=-8)}")
            continue
        for d in found:
            kind = d.what, d.dtype
            total.arrays[kind] += 1
            total.explained[kind] += d.amplified and not d.unexplained
            total.largest[kind] = max((d.units, seed), total.largest.get(kind, (-1.0, 0)))
            if d.unexplained:
                total.failures.append(f"{case}\n# {d}")
    jax.clear_caches()
    fgrad.clear_caches()
    return total._replace(programs=len(seeds))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="the first one; each program has a seed of its own")
    args = parser.parse_args()
    end = args.seed + args.programs
    chunks = [range(s, min(s + CHUNK, end)) for s in range(args.seed, end, CHUNK)]
    total, start = empty(), time.monotonic()
    # Processes are replaced now and then, for what XLA does not free.  (concurrent.futures hangs when it does that.)
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as cache,
        spawn.Pool(args.processes, prepare, (cache,), maxtasksperchild=20) as pool,
    ):
        for summary in pool.imap_unordered(run, chunks):
            for text in summary.failures:
                print(f"{'-' * 100}\n{text}", flush=True)
            total = total.add(summary)
            rate = total.programs / (time.monotonic() - start)
            print(
                f"{total.programs} programs, {len(total.failures)} failures, {rate:.1f}/s", file=sys.stderr, flush=True
            )
    print(f"\n{'':24} {'dtype':10} {'arrays':>8} {'amplified':>10} {'largest':>12}   seed")
    for kind in sorted(total.arrays):
        units, seed = total.largest[kind]
        print(f"{kind[0]:24} {kind[1]:10} {total.arrays[kind]:8} {total.explained[kind]:10} {units:12.4g}   {seed}")
    print(f"{total.programs} programs, {len(total.failures)} unexplained differences or errors.")
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
