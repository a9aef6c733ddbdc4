"""Jaxprs as text, in JAX's notation."""

from __future__ import annotations

import os
import string
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

from fgrad.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Source, Var

WIDTH = 100  # longer equations have their parameters on lines of their own
COLUMN = 80  # sources stand no further to the right, but for longer lines
_BESIDE = "\0"  # what follows it belongs into the column of sources


def _letters() -> Iterator[str]:
    yield from string.ascii_lowercase
    n = 1
    while True:
        for a in string.ascii_lowercase:
            yield from (_word(a, b, n) for b in string.ascii_lowercase)
        n += 1


def _word(a: str, b: str, n: int) -> str:
    return a * n + b


class Names:
    """Letters for the variables of one jaxpr, in the order in which they are asked for."""

    def __init__(self) -> None:
        self.supply = _letters()
        self.of: dict[Var, str] = {}

    def __call__(self, a: Atom) -> str:
        if isinstance(a, Literal):
            value = np.asarray(a.val)
            text = str(value.item()) if value.dtype.kind != "V" else str(float(value))
            return f"{text}:{a.aval}"
        if a not in self.of:
            self.of[a] = next(self.supply)
        return self.of[a]

    def typed(self, v: Atom) -> str:
        return self(v) if isinstance(v, Literal) else f"{self(v)}:{v.aval}"


def format_jaxpr(jaxpr: Jaxpr, *, source: bool = False) -> str:
    """The jaxpr as text; ``source=True`` puts the user's line beside each equation, in one column."""
    pairs = [line.split(_BESIDE) for line in _lines(jaxpr, Names(), source)]
    column = min(max((len(text) for text, *where in pairs if where), default=0), COLUMN)
    return "\n".join(f"{p[0].ljust(column)}  # {p[1]}" if len(p) == 2 else p[0] for p in pairs)


def eqn_text(eqn: Eqn, names: Names) -> str:
    """One equation, without its source."""
    return "\n".join(_eqn_lines(eqn, names, False))


def short_source(source: Source) -> str:
    """The line with its file as seen from the working directory, where it lies in there."""
    return str(source._replace(file=source.file.removeprefix(os.getcwd() + os.sep)))


def _lines(jaxpr: Jaxpr, names: Names, source: bool) -> list[str]:
    consts = " ".join(names.typed(v) for v in jaxpr.constvars)
    inputs = " ".join(names.typed(v) for v in jaxpr.invars)
    head = f"{{ lambda {consts} ; {inputs}. let" if consts else f"{{ lambda ; {inputs}. let"
    lines = [head]
    for eqn in jaxpr.eqns:
        lines += ["    " + line for line in _eqn_lines(eqn, names, source)]
    outs = ", ".join(names(v) for v in jaxpr.outvars)
    lines.append(f"  in ({outs}{',' if len(jaxpr.outvars) == 1 else ''}) }}")
    return lines


def _eqn_lines(eqn: Eqn, names: Names, source: bool) -> list[str]:
    args = "".join(f" {names(v)}" for v in eqn.invars)
    head = f"{' '.join(names.typed(v) for v in eqn.outvars)}{' = ' if eqn.outvars else ''}{eqn.primitive.name}"
    plain = {k: v for k, v in eqn.params.items() if not holds_jaxpr(v)}
    nested = {k: v for k, v in eqn.params.items() if holds_jaxpr(v)}
    where = _BESIDE + short_source(eqn.source) if source and eqn.source else ""
    params = " ".join(f"{k}={format_param(v)}" for k, v in plain.items())
    if not nested:
        line = f"{head}{f'[{params}]' if params else ''}{args}"
        if len(line) <= WIDTH:
            return [line + where]
        wrapped = textwrap.wrap(params, WIDTH - 2, break_long_words=False, break_on_hyphens=False)
        return [f"{head}[", *("  " + part for part in wrapped), f"]{args}{where}"]
    lines = [f"{head}[{params}{where}"]
    for key, value in nested.items():
        for name, sub in jaxprs_of_param(key, value):
            inner = _lines(sub.jaxpr, Names(), source)
            lines.append(f"  {name}={inner[0]}")
            lines += ["  " + line for line in inner[1:]]
    lines.append(f"]{args}")
    return lines


def holds_jaxpr(v: Any) -> bool:
    return any(True for _ in jaxprs_of_param("", v))


def jaxprs_of_param(key: str, value: Any) -> Iterator[tuple[str, ClosedJaxpr]]:
    """The jaxprs a parameter holds, named ``body_jaxpr``, or ``branches[0]`` and ``branches[1]``."""
    if isinstance(value, ClosedJaxpr):
        yield key, value
    elif isinstance(value, tuple):
        yield from ((f"{key}[{i}]", sub) for i, sub in enumerate(value) if isinstance(sub, ClosedJaxpr))


def format_param(v: Any) -> str:
    if isinstance(v, np.dtype):
        return str(v)
    if callable(v) and hasattr(v, "__name__"):
        return v.__name__
    return str(v).replace(" ", "")
