"""Property tests of small convolutions: examples a minute, of drawing alone and with each check.

    python benchmarks/strategies_speed.py [--seconds 20] [--processes 2]

Every process draws problems from ``conv_problems`` and checks them, as the workers of pytest-xdist do; the first
property, which loads kernels, is not counted.  The figures are those of all processes together;
beside them stands the processor time of an example, which tells of other work on the machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from fgrad.testing import check_transpose, check_vjp
from fgrad.testing.strategies import conv_problems

EXAMPLES = 100  # of one property, as Hypothesis has by default


def nothing(problem: Any) -> None:
    """Drawing alone."""


def vjp(problem: Any) -> None:
    """Both operands' gradients against differences; a convolution is linear in each, so the differences are exact."""
    check_vjp(problem.f, problem.operands, linear=(0, 1))


def transpose(problem: Any) -> None:
    """The transpose in each operand by inner products."""
    for group in problem.linear:
        check_transpose(problem.f, problem.operands, argnums=group)


CHECKS: dict[str, Callable[[Any], None]] = {
    "draw": nothing,
    "draw + check_vjp": vjp,
    "draw + check_transpose": transpose,
}


def examples_a_second(check: str, seconds: float, first_seed: int) -> tuple[float, float]:
    """(examples, seconds of a processor) of one process, by the second; it runs property after property."""
    limits = settings(
        max_examples=EXAMPLES, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip

    def run(number: int) -> None:
        seed(first_seed + number)(limits(given(conv_problems(dtypes="float64"))(CHECKS[check])))()

    run(0)
    began, busy, runs = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        runs += 1
        run(runs)
    spent = time.perf_counter() - began
    return runs * EXAMPLES / spent, (time.process_time() - busy) / spent


def main() -> None:
    """Prints a line for each check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for check in CHECKS:
            jobs = [(check, options.seconds, 10**6 * i) for i in range(options.processes)]
            rate, busy = (sum(column) for column in zip(*pool.starmap(examples_a_second, jobs)))
            print(
                f"{check:24s} {60 * rate:8.0f} examples a minute, {1000 * busy / rate:5.1f} ms of a processor each",
                flush=True,
            )


if __name__ == "__main__":
    main()
