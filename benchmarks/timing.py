"""Measuring libraries against each other in one run.

The libraries take turns: in every round each runs a block of calls, preceded by settling calls, because the worker
threads of the library before it still spin for a while and would cost it up to a fifth.  What is reported is the
median over rounds, and the median and quartiles of the ratios within each round: a machine that slows down for a
second or two then slows down both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Calls = dict[str, Callable[[], object]]  # library -> the call to time


@dataclass
class Timing:
    """Seconds a call (or megabytes), one figure for each round."""

    rounds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


SETTLE = 0.03  # seconds of settling calls


def interleaved(
    calls: Calls, *, budget: float = 2.0, seconds: float = 0.04, settle: float = SETTLE
) -> dict[str, Timing]:
    """Times each call in blocks of about ``seconds``, taking turns: as many rounds as ``budget`` holds, of 5 to 15."""
    repeats, cost = {}, 0.0
    for name, call in calls.items():
        call()
        once = min(_once(call), _once(call))
        repeats[name] = max(1, int(seconds / once))
        cost += max(settle, once) + max(seconds, once)
    out: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(min(15, max(5, int(budget / cost)))):
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
    return statistics.median(ratios), ratios[n // 4], ratios[(3 * n) // 4]
