"""Measuring libraries against each other in one run.

The libraries take turns: in every round each runs a block of calls, preceded by settling calls, because the worker
threads of the library before it still spin for a while and would cost it up to a fifth.  What is reported is the
median over rounds and the ratio of medians, with the quartiles of the per-round ratios as its spread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Timing:
    """Seconds a call, one figure for each round."""

    rounds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


def interleaved(
    calls: dict[str, Callable[[], object]], *, rounds: int = 15, seconds: float = 0.15, settle: float = 0.05
) -> dict[str, Timing]:
    """Times each call for ``rounds`` rounds of about ``seconds`` each, taking turns."""
    repeats = {}
    for name, call in calls.items():
        for _ in range(3):
            call()
        repeats[name] = max(1, int(seconds / _once(call)))
    out: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            until = time.perf_counter() + settle
            while time.perf_counter() < until:
                call()
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            out[name].append((time.perf_counter() - start) / repeats[name])
    return {name: Timing(r) for name, r in out.items()}


def _once(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return max(time.perf_counter() - start, 1e-7)


def ratio(peer: Timing, ours: Timing) -> tuple[float, float, float]:
    """(median, lower quartile, upper quartile) of peer's time / ours: above 1 we are faster."""
    ratios = sorted(p / o for p, o in zip(peer.rounds, ours.rounds))
    n = len(ratios)
    return peer.median / ours.median, ratios[n // 4], ratios[(3 * n) // 4]
