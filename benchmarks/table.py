"""Rows as text: lines of the table, and what they say together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from cases import Row
from yardsticks import WORK

LIBRARIES = ("fgrad", "PyTorch", "JAX")
WIDTH = 62  # of a row's name


def header(section: str) -> str:
    return f"\n{section:<{WIDTH}}{'fgrad':>12}{'PyTorch':>12}{'JAX':>12}{'PyTorch / fgrad':>22}{'JAX / fgrad':>22}"


def line(row: Row) -> str:
    """A dash stands where a library has no such call; other libraries and yardsticks follow."""
    figures = [figure(row, library) for library in LIBRARIES] + [spread(row, peer) for peer in LIBRARIES[1:]]
    widths = (12, 12, 12, 22, 22)
    text = f"{row['name']:<{WIDTH}}" + "".join(f"{f:>{w}}" for f, w in zip(figures, widths))
    for other in row["ratios"].keys() - set(LIBRARIES):
        text += f"   {other} {figure(row, other)}, {spread(row, other)}"
    if "share" in row:
        text += f"   {row['share']['fgrad'][0]:.0%} of {row['facts']['yardstick']}"
    return text


def figure(row: Row, library: str) -> str:
    if library not in row["values"]:
        return "-"
    value = row["values"][library]
    if row["unit"] == "MB":
        return f"{value:.0f} MB"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{_digits(value * 1e3)} ms" if value >= 1e-4 else f"{_digits(value * 1e6)} µs"


def _digits(x: float) -> str:
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def spread(row: Row, peer: str) -> str:
    if peer not in row["ratios"]:
        return "-"
    median, low, high = row["ratios"][peer]
    if row["unit"] == "MB":
        return f"{median:.2f}"
    return f"{median:.2f} ({low:.2f}–{high:.2f})"


def summary(rows: Iterable[Row]) -> list[str]:
    """Geometric means of the ratios of the table's convolutions, and what convolutions reach of the yardsticks."""
    rows = list(rows)
    out = []
    for dtype in ("float32", "float64"):
        cells = [row for row in rows if row["section"] == "convolutions" and row["facts"]["dtype"] == dtype]
        for peer in LIBRARIES[1:] if cells else ():
            ratios = {f"{r['facts']['layer']} {r['facts']['direction']}": r["ratios"][peer][0] for r in cells}
            mean = math.exp(statistics.fmean(map(math.log, ratios.values())))
            least = min(ratios, key=ratios.__getitem__)
            out.append(
                f"{len(cells)} convolutions in {dtype}, {peer} / fgrad: {mean:.2f} in the geometric mean, "
                f"least {ratios[least]:.2f} ({least})"
            )
    for yardstick, text in (("sgemm", "large convolutions: share of sgemm"), ("copy", "depthwise: share of bandwidth")):
        held = [row for row in rows if row.get("facts", {}).get("yardstick") == yardstick]
        for direction in ("forward", "dX", "dW"):
            cells = [row for row in held if row["facts"]["direction"] == direction]
            if cells:
                shares = ", ".join(f"{library} {_range(cells, library)}" for library in LIBRARIES)
                out.append(f"{text}, {direction}: {shares}")
    if roofs := yardstick_rates(rows):
        text = {"sgemm": "{:.0f} GFLOP/s of sgemm", "copy": "{:.1f} GB/s of copying"}
        out.append("the machine: " + ", ".join(text[name].format(rate / 1e9) for name, rate in roofs.items()))
    return out


def _range(cells: list[Row], library: str) -> str:
    shares = [row["share"][library][0] for row in cells]
    low, high = min(shares), max(shares)
    return f"{low:.0%}" if len(shares) == 1 else f"{low:.0%} to {high:.0%}"


def yardstick_rates(rows: Iterable[Row]) -> dict[str, float]:
    """Flops and bytes a second: the median over the rows that were held against each."""
    out = {}
    for name, work in WORK.items():
        found = [work / row["values"][name] for row in rows if name in row["values"]]
        if found:
            out[name] = statistics.median(found)
    return out
