"""A row of the benchmark: what is timed, and how its figures become a row of the table and of the JSON.

A row is a dict of JSON values:

    section, name     where it stands
    unit              "s", or "MB" of peak memory
    values            library -> median
    ratios            peer -> [peer / fgrad, lower quartile, upper quartile]: above 1 fgrad is faster, or smaller
    facts             of convolutions: dtype, direction, flops, bytes (operands and result, once each), and the
                      yardstick that it is held against, if any
    share             library -> [its rate / the yardstick's, lower quartile, upper quartile]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import yardsticks
from timing import SETTLE, Calls, Timing, interleaved, ratio

Row = dict[str, Any]


class Case(NamedTuple):
    """``make`` returns a call for each library, after it has found that their results agree."""

    section: str
    name: str
    make: Callable[[], Calls]
    facts: dict[str, Any] | None = None


def measure(case: Case) -> Row:
    """Times a case, taking turns with its yardstick."""
    calls, facts = case.make(), case.facts or {}
    yardstick = facts.get("yardstick")
    if yardstick:
        calls = {**calls, yardstick: yardsticks.MAKE[yardstick]()}
    budget = 6.0 if yardstick else 2.0  # shares have a bound of their own, and a machine swings more than they may
    times = interleaved(calls, budget=budget, settle=yardsticks.SETTLE.get(yardstick, SETTLE))
    out = row(case.section, case.name, times)
    if facts:
        out["facts"] = facts
    if yardstick:
        work = facts["flops" if yardstick == "sgemm" else "bytes"] / yardsticks.WORK[yardstick]
        peers = (library for library in times if library != yardstick)
        out["share"] = {x: [work * r for r in ratio(times[yardstick], times[x])] for x in peers}
        del out["ratios"][yardstick]
    return out


def row(section: str, name: str, times: dict[str, Timing], unit: str = "s") -> Row:
    return {
        "section": section,
        "name": name,
        "unit": unit,
        "values": {library: t.median for library, t in times.items()},
        "ratios": {library: list(ratio(t, times["fgrad"])) for library, t in times.items() if library != "fgrad"},
    }
