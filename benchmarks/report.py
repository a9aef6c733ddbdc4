"""Writes the latest results into docs/performance.md, between its two marks, and the pictures into docs/measured/.

make bench-docs        after make bench
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pictures
import table
from cases import Row

ROOT = Path(__file__).parent.parent
LATEST = ROOT / "benchmarks" / "results" / "latest.json"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->"
DIRECTIONS = ("forward", "dX", "dW")

INTRODUCTION = """\
`make bench` of {date}, commit {commit}: {cpu}, {threads} threads,
Python {python}, NumPy {numpy}, Numba {numba}, PyTorch {torch}, JAX {jax}, autograd {autograd}. The libraries take turns
in one process; results are compared first. Ratios are the peer's time over fgrad's, so above 1 fgrad is faster; in
brackets the quartiles over the rounds.
"""
CONVOLUTIONS = """\
[N, C, H×W] → features, kernel, stride, padding, dilation; fgrad and JAX channels last, PyTorch channels first.
Forward / input gradient / weight gradient. GFLOP/s are counted with the border as if it were input: the zeros that a
library leaves out may carry it above the roof.
"""
ROOFLINE = """\
Every float32 convolution under the machine's two roofs, which are measured in the same run: OpenBLAS's product of
1536×1536 matrices, and copying of 128 MiB with two threads.
"""


def main() -> None:
    found = json.loads(LATEST.read_text())
    rows = found["rows"]
    pictures.draw(rows, PAGE.parent / "measured")
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n".join(block(found["machine"], rows)) + "\n" + END + rest.split(END)[1])
    print(f"written: {PAGE.relative_to(ROOT)}, docs/measured/")


def block(machine: dict[str, str], rows: list[Row]) -> list[str]:
    """Lines of Markdown."""
    lines = [*INTRODUCTION.format(**machine).splitlines(), ""]
    lines += [f"- {line}" for line in table.summary(rows)] + [""]
    for section in ("networks", "overheads", "loops", "processes", "pooling"):
        lines += [f"### {section.capitalize()}", "", *plain([r for r in rows if r["section"] == section]), ""]
    lines += ["### Convolutions", "", *CONVOLUTIONS.splitlines(), ""]
    for section, dtype in (("convolutions", "float32"), ("other convolutions", "float32"), ("convolutions", "float64")):
        cells = [r for r in rows if r["section"] == section and r["facts"]["dtype"] == dtype]
        lines += [*layers(cells, f"{section.removesuffix('s')}, {dtype}"), ""]
    lines += [*ROOFLINE.splitlines(), "", "![GFLOP/s over flops a byte](measured/roofline.svg)", ""]
    return [*lines, "The table as a picture:", "", "![ratios of all rows](measured/ratios.svg)"]


def plain(rows: Iterable[Row]) -> list[str]:
    """A line for each row, other libraries in a column of their own if there are any."""
    rows = list(rows)
    others = sorted({library for row in rows for library in row["values"]} - set(table.LIBRARIES))
    heads = ["", *table.LIBRARIES, *others, "PyTorch / fgrad", "JAX / fgrad", *(f"{other} / fgrad" for other in others)]
    lines = [_cells(heads), _cells(["---"] * len(heads))]
    for row in rows:
        figures = [table.figure(row, library) for library in (*table.LIBRARIES, *others)]
        spreads = [table.spread(row, peer) for peer in (*table.LIBRARIES[1:], *others)]
        lines.append(_cells(["" if x == "-" else x for x in (row["name"], *figures, *spreads)]))
    return lines


def layers(cells: Iterable[Row], title: str) -> list[str]:
    """A line for each layer, its three directions side by side."""
    found: dict[str, dict[str, Row]] = {}
    for row in cells:
        found.setdefault(row["facts"]["layer"], {})[row["facts"]["direction"]] = row
    heads = [title, "fgrad, GFLOP/s", "PyTorch / fgrad", "JAX / fgrad"]
    lines = [_cells(heads), _cells(["---"] * len(heads))]
    for layer, directions in found.items():
        three = [directions[direction] for direction in DIRECTIONS]
        rates = [f"{row['facts']['flops'] / row['values']['fgrad'] / 1e9:.0f}" for row in three]
        ratios = [[f"{row['ratios'][peer][0]:.2f}" for row in three] for peer in table.LIBRARIES[1:]]
        lines.append(_cells([layer, *(" / ".join(figures) for figures in (rates, *ratios))]))
    return lines


def _cells(texts: Iterable[str]) -> str:
    return "| " + " | ".join(texts) + " |"


if __name__ == "__main__":
    main()
