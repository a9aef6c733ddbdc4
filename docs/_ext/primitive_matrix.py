"""The directive ``{primitive-matrix}``: which slots every primitive fills, read from the primitives themselves."""

import importlib
import pkgutil

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PACKAGES = ("fgrad.primitives", "fgrad.higher_order")
SLOTS = ("abstract", "reference", "cpu", "cuda", "jvp", "transpose", "batch")


class PrimitiveMatrix(SphinxDirective):
    """One row a primitive, one column a slot; an empty slot shows the number of its reason, listed below the table."""

    def run(self) -> list[nodes.Node]:
        for package in PACKAGES:  # importing a family registers its primitives
            for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
                importlib.import_module(module.name)
        from fgrad.core.backends import Unfilled
        from fgrad.core.primitive import REGISTRY

        reasons: list[str] = []

        def cell(slot: object) -> str:
            if isinstance(slot, Unfilled):
                if slot.reason not in reasons:
                    reasons.append(slot.reason)
                return f"— ({reasons.index(slot.reason) + 1})"
            kind = type(slot).__name__
            return "✓" if kind in ("function", "ufunc") else kind

        rows = [[name, *(cell(getattr(REGISTRY[name], slot)) for slot in SLOTS)] for name in sorted(REGISTRY)]
        result: list[nodes.Node] = [table(["primitive", *SLOTS], rows)]
        if reasons:
            listed = nodes.enumerated_list(enumtype="arabic", suffix=".")
            listed += [nodes.list_item("", nodes.paragraph("", reason)) for reason in reasons]
            result += [nodes.paragraph("", "An empty slot has its reason:"), listed]
        return result


def table(header: list[str], rows: list[list[str]]) -> nodes.table:
    def row(texts: list[str]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", text)) for text in texts))

    group = nodes.tgroup("", cols=len(header))
    group += [nodes.colspec(colwidth=1) for _ in header]
    group += nodes.thead("", row(header))
    group += nodes.tbody("", *map(row, rows))
    return nodes.table("", group)


def setup(app: Sphinx) -> dict[str, object]:
    app.add_directive("primitive-matrix", PrimitiveMatrix)
    return {"parallel_read_safe": True}
