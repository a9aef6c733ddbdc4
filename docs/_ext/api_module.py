"""The directive ``{api-module} fgrad.lax``: all that a module makes public, under its public name, file by file.

The module's ``__all__`` (or else what it defines itself) is the list; the file that an object comes from gives the
heading, by the first sentence of its docstring.  Constants and dtypes, which have no documentation of their own, are
named in one line.  The text is MyST, which is what a directive on a Markdown page parses.
"""

import importlib
import inspect
import re
import types

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles


class ApiModule(SphinxDirective):
    """Sections of autodoc directives, one level below the heading that the directive stands under."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(self.arguments[0])
        content = StringList()
        for line in _lines(module):
            content.append(line, module.__name__)
        container = nodes.Element()
        container.document = self.state.document
        nested_parse_with_titles(self.state, content, container)
        return container.children


def _lines(module: types.ModuleType) -> list[str]:
    sections: dict[str, list[tuple[str, object]]] = {}
    first_name: dict[int, str] = {}
    aliases: list[tuple[str, str]] = []
    plain: list[str] = []
    waiting: list[tuple[str, object]] = []
    for name in getattr(module, "__all__", None) or _own_names(module):
        value = getattr(module, name)
        source = getattr(value, "__module__", None) or ""
        if isinstance(value, types.ModuleType):
            continue  # has a page or a section of its own
        if not source.startswith("fgrad.") or not callable(value):
            plain.append(name)
        elif id(value) in first_name and name != getattr(value, "__name__", name):
            aliases.append((name, first_name[id(value)]))
        else:
            first_name[id(value)] = name
            waiting.append((name, value))
            if source.startswith(module.__name__):  # what comes from elsewhere joins the section that follows it
                sections.setdefault(source, []).extend(waiting)
                waiting.clear()
    lines: list[str] = []
    for source, members in sections.items():
        if len(sections) > 1:
            lines += [f"## {_heading(importlib.import_module(source))}", ""]
        lines.append("```{eval-rst}")
        for name, value in members:
            kind = "autoclass" if inspect.isclass(value) else "autofunction"
            lines.append(f".. {kind}:: {module.__name__}.{name}")
        lines += ["```", ""]
    if aliases:
        lines += ["Other names: " + ", ".join(f"`{a}` = `{b}`" for a, b in aliases) + ".", ""]
    if plain:
        lines += ["Data types and constants: " + ", ".join(f"`{name}`" for name in plain) + ".", ""]
    return lines


def _own_names(module: types.ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
        and inspect.isroutine(value)
    ]


def _heading(module: types.ModuleType) -> str:
    text = " ".join((module.__doc__ or module.__name__).split("\n\n")[0].split())
    return re.split(r"[.:;] |\.$", text)[0]


_MARKUP = re.compile(r"(\*[a-z]+\*)|(?<!\\)[*|]")


def _escape(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings hold formulas as plain text: their ``*`` and ``|`` are not markup, but for *word*.

    Literals, examples and literal blocks are left alone.
    """
    block: int | None = None  # the indentation of the paragraph that announced a literal block
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if block is not None and line.strip() and indent <= block:
            block = None
        if block is None and not line.lstrip().startswith((">>>", "...", ".. ")):
            parts = line.split("``")
            parts[::2] = [_MARKUP.sub(lambda m: m[0] if m[1] else "\\" + m[0], part) for part in parts[::2]]
            lines[i] = "``".join(parts)
            if line.rstrip().endswith("::"):
                block = indent


def setup(app: Sphinx) -> dict[str, object]:
    app.connect("autodoc-process-docstring", _escape, priority=400)  # before napoleon writes markup of its own
    app.add_directive("api-module", ApiModule)
    return {"parallel_read_safe": True}
