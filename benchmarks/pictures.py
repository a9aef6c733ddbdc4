"""The table as pictures: every ratio with its spread, and each convolution under the machine's two roofs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from cases import Row
from table import LIBRARIES, yardstick_rates

COLOURS = {"fgrad": "tab:blue", "PyTorch": "tab:orange", "JAX": "tab:green"}
DIRECTIONS = {"forward": "forward", "dX": "input gradient", "dW": "weight gradient"}


def draw(rows: list[Row], folder: Path) -> list[Path]:
    """Writes ratios.svg, and roofline.svg where the rows hold both yardsticks."""
    folder.mkdir(exist_ok=True)
    # the same rows give the same file
    matplotlib.rcParams.update({"svg.hashsalt": "fgrad", "svg.fonttype": "none", "font.size": 9})
    out = [_save(ratios(rows), folder / "ratios.svg")]
    if len(yardstick_rates(rows)) == 2:
        out.append(_save(roofline(rows), folder / "roofline.svg"))
    return out


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)
    return path


def ratios(rows: list[Row]) -> Any:
    """A line for each row, the quartiles as a bar; without the convolutions in float64, which resemble the others."""
    rows = [row for row in rows if row.get("facts", {}).get("dtype") != "float64"]
    figure, axes = plt.subplots(figsize=(8, 0.17 * len(rows) + 1))
    for peer in LIBRARIES[1:]:
        found = [(-i, *row["ratios"][peer]) for i, row in enumerate(rows) if peer in row["ratios"]]
        if found:
            y, median, low, high = np.array(found).T
            axes.hlines(y, low, high, color=COLOURS[peer], linewidth=1)
            axes.plot(median, y, "o", color=COLOURS[peer], markersize=4, label=f"{peer} / fgrad")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    ticks = [0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks([-i for i in range(len(rows))], [row["name"].removesuffix(", float32") for row in rows], fontsize=6)
    axes.set_ylim(-len(rows), 1)
    axes.grid(axis="x", linewidth=0.3)
    axes.set_xlabel("peer's time / fgrad's: to the right of 1 fgrad is faster, or takes less memory")
    axes.legend(loc="lower right")
    return figure


def roofline(rows: list[Row]) -> Any:
    """GFLOP/s of each float32 convolution over its flops a byte, operands and result counted once each."""
    roofs = yardstick_rates(rows)
    figure, panels = plt.subplots(1, 3, figsize=(11, 4), sharex=True, sharey=True)
    for axes, (direction, title) in zip(panels, DIRECTIONS.items()):
        cells = [
            row for row in rows
            if row.get("facts", {}).get("dtype") == "float32" and row["facts"]["direction"] == direction
        ]  # fmt: skip
        intensity = np.array([row["facts"]["flops"] / row["facts"]["bytes"] for row in cells])
        x = np.geomspace(intensity.min() / 1.5, intensity.max() * 1.5, 200)
        axes.plot(x, np.minimum(roofs["copy"] * x, roofs["sgemm"]) / 1e9, color="black", linewidth=1)
        for library in reversed(LIBRARIES):
            rates = [row["facts"]["flops"] / row["values"][library] / 1e9 for row in cells]
            axes.plot(intensity, rates, "o", color=COLOURS[library], markersize=4, alpha=0.8, label=library)
        axes.set_title(title)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("flops a byte")
        axes.grid(linewidth=0.3)
    panels[0].set_ylabel("GFLOP/s")
    panels[0].legend(loc="lower right")
    return figure
