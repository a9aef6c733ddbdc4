"""The jaxpr: a flat, typed, first-order program; what every transformation reads and writes.

{ lambda consts ; inputs. let equations in outputs }
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from fgrad.core.aval import ShapedArray
from fgrad.core.static import flag, sequence


class Var:
    """A variable: identity is its name, printing chooses letters."""

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray):
        self.aval = aval

    def __repr__(self) -> str:
        return f"Var(id={id(self):#x}, {self.aval})"


class Literal:
    """A scalar constant written into the equation that reads it."""

    __slots__ = ("aval", "val")

    def __init__(self, val: Any, aval: ShapedArray):
        self.val = val  # a 0-d fgrad Array
        self.aval = aval

    def __repr__(self) -> str:
        return f"{self.val}"


Atom = Var | Literal


class Source(NamedTuple):
    """The user's line that made an equation; ``backward``: by transposing what the line computes."""

    file: str
    line: int
    function: str
    backward: bool = False

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.function}){', backward' if self.backward else ''}"


# The line that operations bound now are made for, where it is not the line that runs: rules evaluate jaxprs and tapes.
blamed: ContextVar[Source | None] = ContextVar("fgrad_blamed", default=None)


@contextlib.contextmanager
def blaming_by_turns() -> Iterator[Callable[[Source | None], None]]:
    """Yields a function that sets ``blamed`` (None: as it was before); restores it afterwards."""
    before = blamed.get()

    def blame(source: Source | None) -> None:
        blamed.set(before if source is None else source)

    try:
        yield blame
    finally:
        blamed.set(before)


class Eqn(NamedTuple):
    primitive: Any
    invars: tuple[Atom, ...]
    outvars: tuple[Var, ...]
    params: dict[str, Any]
    source: Source | None = None


class Jaxpr:
    """constvars and invars are bound by the caller; equations run in order; outvars are returned.

    ``effectful``: some equation, inner ones included, must run whether or not its results are read.
    ``axes``: the names of vmapped axes that collectives in it refer to (by their parameter ``axis_name``).
    """

    __slots__ = ("_axes", "_effectful", "constvars", "eqns", "invars", "outvars")

    def __init__(self, constvars: Sequence[Var], invars: Sequence[Var], eqns: Sequence[Eqn], outvars: Sequence[Atom]):
        self.constvars = tuple(constvars)
        self.invars = tuple(invars)
        self.eqns = tuple(eqns)
        self.outvars = tuple(outvars)
        self._effectful: bool | None = None  # found when asked for: most jaxprs are steps between two passes
        self._axes: frozenset[Any] | None = None

    @property
    def effectful(self) -> bool:
        if self._effectful is None:
            self._effectful = any([is_effectful(e) for e in self.eqns])
        return self._effectful

    @property
    def axes(self) -> frozenset[Any]:
        if self._axes is None:
            self._axes = frozenset().union(*[axes_of(e.params) for e in self.eqns])
        return self._axes

    def __repr__(self) -> str:
        from fgrad.core.pretty import format_jaxpr

        return format_jaxpr(self)


class ClosedJaxpr:
    """A jaxpr with the values of its constvars; hashed by identity, and keeper of what was derived from it.

    ``eqns`` are its equations, ``in_avals`` and ``out_avals`` the types of operands and results; ``pretty_print`` and
    ``to_svg`` show it.

    Source: https://docs.jax.dev/en/latest/jaxpr.html.

    >>> import fgrad
    >>> closed = fgrad.make_jaxpr(lambda x: x * x + 1)(2.0)
    >>> [eqn.primitive.name for eqn in closed.eqns], closed.out_avals
    (['mul', 'add'], (f32[]~,))
    """

    __slots__ = ("__weakref__", "consts", "derived", "jaxpr")

    def __init__(self, jaxpr: Jaxpr, consts: Sequence[Any]):
        if len(jaxpr.constvars) != len(consts):
            raise ValueError(f"ClosedJaxpr: got {len(consts)} consts for {len(jaxpr.constvars)} constvars")
        self.jaxpr = jaxpr
        self.consts = tuple(consts)
        self.derived: dict[Any, Any] = {}  # what transformations and the compiler made of it

    @property
    def eqns(self) -> tuple[Eqn, ...]:
        return self.jaxpr.eqns

    @property
    def in_avals(self) -> tuple[ShapedArray, ...]:
        return tuple([v.aval for v in self.jaxpr.invars])

    @property
    def out_avals(self) -> tuple[ShapedArray, ...]:
        return tuple([v.aval for v in self.jaxpr.outvars])

    def __repr__(self) -> str:
        return self.pretty_print()

    def pretty_print(self, *, source_info: bool = False) -> str:
        """The text that ``print`` shows; ``source_info=True``: with the user's line beside each equation.

        In the backward pass the line is that of the forward operation whose transpose the equation is.

        >>> import fgrad, fgrad.numpy as fnp
        >>> text = fgrad.make_jaxpr(fnp.sin)(1.0).pretty_print(source_info=True)

        Source: the meaning of ``pretty_print`` of https://docs.jax.dev/en/latest/jaxpr.html.
        """
        from fgrad.core.pretty import format_jaxpr

        return format_jaxpr(self.jaxpr, source=flag("pretty_print", "source_info", source_info))

    def to_svg(self, *, max_equations: int | None = 250) -> str:
        """A picture of the program: equations as boxes in layers, with the flow of data between them.

        Each box names the operation, its result and the user's line; colours tell kinds of operations apart, and a
        jaxpr held by an equation (jit, scan, cond, ...) is a box around its own picture. Jupyter shows a ClosedJaxpr
        this way.

        Args:
            max_equations: how many are drawn one by one, inner ones included; the others are one box. None: all, in
                time and text that grow with the square of their number.

        >>> import fgrad, fgrad.numpy as fnp
        >>> fgrad.make_jaxpr(fgrad.grad(lambda x: fnp.sin(x) * x))(1.0).to_svg()[:4]
        '<svg'
        """
        from fgrad.core.picture import svg_of

        return svg_of(self.jaxpr, max_equations)

    def _repr_html_(self) -> str:
        return f'<div style="overflow:auto;max-height:80vh">{self.to_svg()}</div>'


def eval_jaxpr(jaxpr: Jaxpr, consts: Sequence[Any], *args: Any) -> list[Any]:
    """Runs the equations under the current trace; values are dropped after their last use."""
    if not isinstance(jaxpr, Jaxpr):
        raise TypeError(f"eval_jaxpr: needs a Jaxpr, got {type(jaxpr).__name__}. Pass closed.jaxpr and closed.consts.")
    consts = sequence("eval_jaxpr", "consts", consts)
    if (len(consts), len(args)) != (len(jaxpr.constvars), len(jaxpr.invars)):
        raise ValueError(
            f"eval_jaxpr: needs {len(jaxpr.constvars)} consts and {len(jaxpr.invars)} arguments, got {len(consts)} and "
            f"{len(args)}. Pass one value for each variable."
        )
    env: dict[Var, Any] = dict(zip(jaxpr.constvars, consts))
    env.update(zip(jaxpr.invars, args))
    last: dict[Var, int] = {}
    for i, eqn in enumerate(jaxpr.eqns):
        for v in eqn.invars:
            if isinstance(v, Var):
                last[v] = i
    keep = {v for v in jaxpr.outvars if isinstance(v, Var)}

    def read(a: Atom) -> Any:
        return a.val if isinstance(a, Literal) else env[a]

    with blaming_by_turns() as blame:
        for i, eqn in enumerate(jaxpr.eqns):
            blame(eqn.source)
            out = eqn.primitive.bind(*map(read, eqn.invars), **eqn.params)
            if eqn.primitive.multiple_results:
                env.update(zip(eqn.outvars, out))
            else:
                env[eqn.outvars[0]] = out
            for v in eqn.invars:
                if isinstance(v, Var) and last[v] == i and v not in keep:
                    env.pop(v, None)
    return [read(v) for v in jaxpr.outvars]


def subjaxprs(params: dict[str, Any]) -> list[ClosedJaxpr]:
    """The jaxprs an equation's parameters hold."""
    found: list[ClosedJaxpr] = []
    for p in params.values():
        if isinstance(p, ClosedJaxpr):
            found.append(p)
        elif isinstance(p, tuple):
            found += [q for q in p if isinstance(q, ClosedJaxpr)]
    return found


def is_effectful(eqn: Eqn) -> bool:
    primitive = eqn.primitive
    if primitive.effectful or not primitive.multiple_results:  # what holds jaxprs has a tuple of results
        return primitive.effectful
    return any([sub.jaxpr.effectful for sub in subjaxprs(eqn.params)])


def axes_of(params: dict[str, Any]) -> frozenset[Any]:
    """Names of the vmapped axes that an operation with these parameters refers to."""
    if "axis_name" in params:
        return frozenset((params["axis_name"],))
    return frozenset().union(*[sub.jaxpr.axes for sub in subjaxprs(params)])


def walk_eqns(jaxpr: Jaxpr, visit: Callable[[Eqn], None]) -> None:
    """Calls ``visit`` on every equation, those of inner jaxprs included."""
    for eqn in jaxpr.eqns:
        visit(eqn)
        for sub in subjaxprs(eqn.params):
            walk_eqns(sub.jaxpr, visit)
