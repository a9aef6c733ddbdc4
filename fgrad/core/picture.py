"""A jaxpr as a picture: SVG without dependencies, escaped, readable in a browser and in Jupyter.

Values that the backward pass reads cross the layers of all that lies between, so that laying out n equations takes time
and text in proportion to n^2. What is beyond a number of equations is therefore drawn as one box.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from fgrad.core.backends import Alias, Branch, Fold, ForLoop, Host, IndexMap, IndexValue, Inline, ScalarMap, WhileLoop
from fgrad.core.jaxpr import Atom, Eqn, Jaxpr, Literal, Var
from fgrad.core.layers import Box, Drawing, Flow, arrange
from fgrad.core.pretty import Names, eqn_text, format_param, holds_jaxpr, jaxprs_of_param

CHARACTER = 7.3  # width of a character of the 12 pixel monospace font, with some reserve
LINE = 15.0
PAD = 8.0
LABEL = 15.0  # height of the row of result types under a box
MARGIN = 16.0
LONGEST = 44  # characters of parameters that a box shows; its tooltip has all of them

COLOURS = {
    "elementwise": "#dbeafe",
    "reduction": "#fde68a",
    "convolution, product": "#fecaca",
    "index": "#d9f99d",
    "control flow": "#e9d5ff",
    "call": "#e5e7eb",
    "host": "#fbcfe8",
}
_STYLE = (
    "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#111}.small{font-size:10px;fill:#555}"
    ".box{stroke:#555;stroke-width:1}.backward{stroke-dasharray:4 2}.pill{fill:#fff;stroke:#888}"
    ".edge{fill:none;stroke:#666;stroke-width:1}.held{fill:#fff;stroke:#aaa}"
)


def kind_of(prim: Any) -> str:
    """The row of ``COLOURS`` a primitive belongs to, by its cpu slot; kernels by what they do with their operands."""
    by_slot = {
        ScalarMap: "elementwise",
        Alias: "elementwise",
        Fold: "reduction",
        IndexMap: "index",
        IndexValue: "index",
        Inline: "call",
        ForLoop: "control flow",
        WhileLoop: "control flow",
        Branch: "control flow",
        Host: "host",
    }
    if type(prim.cpu) in by_slot:
        return by_slot[type(prim.cpu)]
    if prim.name.startswith(("conv", "dot")):
        return "convolution, product"
    return "reduction" if prim.name.startswith(("reduce", "cum")) else "index"


@dataclass(eq=False)
class _Picture:
    """A jaxpr arranged: boxes for inputs, equations and outputs, in the order in which they are drawn."""

    drawing: Drawing
    flows: list[Flow]
    parts: list[_Pill | _Equation]

    def equations(self) -> Iterator[_Equation]:
        """Those inside of others included."""
        for part in self.parts:
            if isinstance(part, _Equation):
                yield part
                for _, held in part.held:
                    yield from held.equations()


@dataclass(eq=False)
class _Pill:
    """An input or an output."""

    text: str
    what: str
    box: Box


@dataclass(eq=False)
class _Equation:
    """One equation; or, where there are too many, all that follow those drawn."""

    invars: Sequence[Atom]
    outvars: Sequence[Var]
    kind: str
    lines: list[str]
    tooltip: str
    source: str = ""
    backward: bool = False
    labels: list[str] = field(default_factory=list)  # results with their types
    ports: list[float] = field(default_factory=list)  # the results' places on the lower edge
    held: list[tuple[str, _Picture]] = field(default_factory=list)  # jaxprs, with the names of their parameters
    box: Box = field(default_factory=lambda: Box(0, 0))

    @property
    def header(self) -> float:
        """Height of the text at the top."""
        return LINE * (len(self.lines) + bool(self.source)) + PAD

    def measure(self) -> None:
        widths = [CHARACTER * len(label) + PAD for label in self.labels]
        inner = sum(p.drawing.width + 3 * PAD for _, p in self.held) + PAD if self.held else 0.0
        self.box.width = max(inner, sum(widths), *(_width(line) for line in (*self.lines, self.source)))
        self.box.height = self.header + LABEL * bool(self.labels)
        if self.held:
            self.box.height += LINE + max(p.drawing.height for _, p in self.held) + 3 * PAD
        x = -sum(widths) / 2
        for width in widths:
            self.ports.append(x + width / 2)
            x += width


class _Room:
    """How many equations may still be drawn, inner ones included."""

    def __init__(self, left: int):
        self.left = left

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


def _width(text: str) -> float:
    return CHARACTER * len(text) + 2 * PAD


def _picture(jaxpr: Jaxpr, room: _Room) -> _Picture:
    names = Names()
    given = (*jaxpr.constvars, *jaxpr.invars)
    inputs = {v: _Pill(names.typed(v), "input", Box(0, LINE + PAD, late=True)) for v in given}
    equations = []
    for i, eqn in enumerate(jaxpr.eqns):
        if not room.take():
            equations.append(_rest(jaxpr, i, names))
            break
        equations.append(_equation(eqn, names, room))
    outputs = [_Pill(names(a), "output", Box(0, LINE + PAD)) for a in jaxpr.outvars]
    for pill in (*inputs.values(), *outputs):
        pill.box.width = _width(pill.text)
    origin: dict[Var, tuple[Box, float]] = {v: (pill.box, 0.0) for v, pill in inputs.items()}
    flows: dict[Var, Flow] = {}

    def arrive(v: Any, box: Box, port: float) -> None:
        if not isinstance(v, Literal):
            flows.setdefault(v, Flow(*origin[v], [])).targets.append((box, port))

    for e in equations:
        e.measure()
        reads = [a for a in e.invars if isinstance(a, Var)]
        for i, v in enumerate(reads):
            arrive(v, e.box, e.box.width * ((i + 1) / (len(reads) + 1) - 0.5))
        origin.update((v, (e.box, port)) for v, port in zip(e.outvars, e.ports))
        # what only prepares one input (or a constant) for its reader stands beside the reader
        e.box.late = len(set(reads)) <= 1 and all(origin[v][0].late for v in reads)
    for pill, a in zip(outputs, jaxpr.outvars):
        arrive(a, pill.box, 0.0)
    parts: list[_Pill | _Equation] = [*inputs.values(), *equations, *outputs]
    drawing = arrange([p.box for p in parts], list(flows.values()))
    return _Picture(drawing, list(flows.values()), parts)


def _equation(eqn: Eqn, names: Names, room: _Room) -> _Equation:
    reads = " ".join(names(a) for a in eqn.invars)
    plain = " ".join(f"{k}={format_param(v)}" for k, v in eqn.params.items() if not holds_jaxpr(v))
    lines = [_cut(f"{eqn.primitive.name} {reads}")]
    if plain:
        lines.append(_cut(plain))
    e = _Equation(eqn.invars, eqn.outvars, kind_of(eqn.primitive), lines, eqn_text(eqn, names))
    if eqn.source:
        e.source = f"{os.path.basename(eqn.source.file)}:{eqn.source.line} ({eqn.source.function})"
        e.tooltip += f"\n{eqn.source}"
        e.backward = eqn.source.backward
    e.labels = [names.typed(v) for v in eqn.outvars]
    e.held = [(name, _picture(sub.jaxpr, room)) for k, v in eqn.params.items() for name, sub in jaxprs_of_param(k, v)]
    return e


def _rest(jaxpr: Jaxpr, first: int, names: Names) -> _Equation:
    """The equations from number ``first`` on as one box: what it reads of the others, and what is returned of it."""
    eqns = jaxpr.eqns[first:]
    made = {v for e in eqns for v in e.outvars}
    reads = dict.fromkeys(a for e in eqns for a in e.invars if isinstance(a, Var) and a not in made)
    results = [v for v in dict.fromkeys(jaxpr.outvars) if isinstance(v, Var) and v in made]
    text = f"... {len(eqns)} more equation{'s' * (len(eqns) > 1)}"
    e = _Equation(list(reads), results, "call", [text], f"{text}: print the jaxpr, or raise max_equations")
    e.labels = [names.typed(v) for v in results]
    return e


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


# --- drawing ---------------------------------------------------------------------------------------------------------
def svg_of(jaxpr: Jaxpr, max_equations: int | None) -> str:
    """The picture as the text of an <svg> element; None: without a limit."""
    picture = _picture(jaxpr, _Room(sys.maxsize if max_equations is None else max_equations))
    legend: list[str] = []
    x = MARGIN
    for kind in dict.fromkeys(e.kind for e in picture.equations()):
        legend.append(f'<rect class="key" x="{x}" y="{MARGIN}" width="12" height="12" fill="{COLOURS[kind]}"/>')
        legend.append(_text(x + 16, MARGIN + 10, kind, "small"))
        x += 32 + 6.3 * len(kind)
    if any(e.backward for e in picture.equations()):
        legend.append(_text(x, MARGIN + 10, "dashed: backward pass", "small"))
        x += 6.3 * 22
    width = max(picture.drawing.width + 2 * MARGIN, x + MARGIN)
    height = picture.drawing.height + 3 * MARGIN + LINE
    body = "".join([*legend, *_draw(picture, MARGIN, 2 * MARGIN + LINE)])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}"><style>{_STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{body}</svg>'
    )


def _draw(picture: _Picture, left: float, top: float) -> Iterator[str]:
    """The picture with its corner at (left, top); flows first, so that boxes lie on them."""
    for flow in picture.flows:
        for target, port in flow.targets:
            points = flow.path(target, port, picture.drawing.floors)
            yield f'<path class="edge" d="{_curve([(x + left, y + top) for x, y in points])}"/>'
    for part in picture.parts:
        x, y = part.box.x - part.box.width / 2 + left, part.box.y + top
        if isinstance(part, _Pill):
            yield (
                f'<g class="{part.what}"><rect class="pill" x="{x:.1f}" y="{y:.1f}" width="{part.box.width:.1f}" '
                f'height="{part.box.height:.1f}" rx="10"/>{_text(x + PAD, y + LINE, part.text)}</g>'
            )
        else:
            yield from _draw_equation(part, x, y)


def _draw_equation(e: _Equation, x: float, y: float) -> Iterator[str]:
    backward = " backward" if e.backward else ""
    height = e.box.height - LABEL * bool(e.labels)
    yield (
        f'<g class="eqn"><title>{_escaped(e.tooltip)}</title><rect class="box{backward}" x="{x:.1f}" y="{y:.1f}" '
        f'width="{e.box.width:.1f}" height="{height:.1f}" rx="3" fill="{COLOURS[e.kind]}"/>'
    )
    for i, line in enumerate(e.lines):
        yield _text(x + PAD, y + LINE * (i + 1), line)
    if e.source:
        yield _text(x + PAD, y + LINE * (len(e.lines) + 1), e.source, "small")
    inner, top = x + PAD, y + e.header
    for key, picture in e.held:
        width = picture.drawing.width + 2 * PAD
        yield _text(inner, top + LINE - 3, key, "small")
        yield (
            f'<rect class="held" x="{inner:.1f}" y="{top + LINE:.1f}" width="{width:.1f}" '
            f'height="{picture.drawing.height + 2 * PAD:.1f}"/>'
        )
        yield from _draw(picture, inner + PAD, top + LINE + PAD)
        inner += width + PAD
    for label, port in zip(e.labels, e.ports):
        at = x + e.box.width / 2 + port - CHARACTER * len(label) / 2
        yield _text(at, y + height + LABEL - 4, label, "small")
    yield "</g>"


def _text(x: float, y: float, text: str, style: str = "") -> str:
    of = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{of}>{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    """As XML: it has no place at all for most control characters and lone surrogates."""
    return escape(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text))


def _curve(points: list[tuple[float, float]]) -> str:
    """Through the points, leaving and arriving vertically."""
    (x, y), *rest = points
    out = f"M{x:.1f} {y:.1f}"
    for px, py in rest:
        middle = (y + py) / 2
        out += f"L{px:.1f} {py:.1f}" if px == x else f"C{x:.1f} {middle:.1f} {px:.1f} {middle:.1f} {px:.1f} {py:.1f}"
        x, y = px, py
    return out
