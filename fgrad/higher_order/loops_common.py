"""What scan, while and cond share: programs of one equation, type checks, and operands in groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from fgrad.core.aval import ShapedArray
from fgrad.core.jaxpr import ClosedJaxpr, Eqn, Jaxpr, Var, is_effectful, subjaxprs
from fgrad.core.primitive import Primitive, Zero
from fgrad.higher_order.jit_primitive import cached_on, derived_program_of
from fgrad.transforms.dce import dce

T = TypeVar("T")


def kept(values: Iterable[T], flags: Iterable[bool]) -> list[T]:
    return [v for v, f in zip(values, flags) if f]


def dropped(values: Iterable[T], flags: Iterable[bool]) -> list[T]:
    return [v for v, f in zip(values, flags) if not f]


def groups(values: Sequence[T], *sizes: int) -> list[list[T]]:
    """Consecutive runs of these sizes, and the rest."""
    out, start = [], 0
    for n in sizes:
        out.append(list(values[start : start + n]))
        start += n
    return [*out, list(values[start:])]


def is_live(t: Any) -> bool:
    return type(t) is not Zero


def live(ts: Iterable[Any]) -> list[Any]:
    """The tangents that are not known to be zero."""
    return [t for t in ts if type(t) is not Zero]


def either(a: Iterable[bool], b: Iterable[bool]) -> tuple[bool, ...]:
    return tuple(x or y for x, y in zip(a, b))


def spread(values: Iterable[Any], flags: Sequence[bool], otherwise: Sequence[Any]) -> list[Any]:
    """The next value where the flag holds, else the entry of ``otherwise``."""
    it = iter(values)
    return [next(it) if f else o for f, o in zip(flags, otherwise)]


def run_equation(
    prim: Primitive, keeper: ClosedJaxpr, values: Sequence[np.ndarray], avals: Sequence[ShapedArray], params: dict
) -> list[tuple[np.ndarray, bool]]:
    """Runs the program of one equation, compiled once for each jaxpr ``keeper`` and parameters."""
    key = ("equation", prim.name, *sorted(params.items()))

    def make() -> ClosedJaxpr:
        invars = tuple(map(Var, avals))
        outvars = tuple(map(Var, prim.abstract_eval(invars, params)))
        return ClosedJaxpr(Jaxpr((), invars, [Eqn(prim, invars, outvars, params)], outvars), ())

    closed = cached_on(keeper, key, make)
    out = derived_program_of(closed)([np.asarray(v, order="C") for v in values])
    return [(v, a.weak_type) for v, a in zip(out, closed.out_avals)]


def check_operands(name: str, got: Sequence[ShapedArray], want: Sequence[ShapedArray]) -> None:
    """The types that a loop's jaxprs were traced for."""
    if len(got) != len(want) or not all(g.same_type(w) for g, w in zip(got, want)):
        raise TypeError(f"{name}: operands must have the types {tuple(want)}, got {tuple(got)}. Trace it anew.")


def live_inputs(closed: ClosedJaxpr, out_used: Sequence[bool]) -> list[bool]:
    """Which inputs the used outputs (and effects) depend on."""
    j = closed.jaxpr
    needed = {a for a, u in zip(j.outvars, out_used) if u and isinstance(a, Var)}
    for e in reversed(j.eqns):
        if is_effectful(e) or not needed.isdisjoint(e.outvars):
            needed.update(a for a in e.invars if isinstance(a, Var))
    return [v in needed for v in j.invars]


def restricted(closed: ClosedJaxpr, in_used: Sequence[bool], out_used: Sequence[bool]) -> ClosedJaxpr:
    """The jaxpr with some of its inputs and outputs."""
    j = closed.jaxpr
    smaller = Jaxpr(j.constvars, j.invars, j.eqns, kept(j.outvars, out_used))
    pruned = dce(ClosedJaxpr(smaller, closed.consts))
    j = pruned.jaxpr
    return ClosedJaxpr(Jaxpr(j.constvars, kept(j.invars, in_used), j.eqns, j.outvars), pruned.consts)


def without_effects(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The jaxpr computing the same outputs; effects whose results nobody reads are left out, inner ones too."""

    def make() -> ClosedJaxpr:
        if not closed.jaxpr.effectful:
            return closed
        j = closed.jaxpr
        needed = {a for a in j.outvars if isinstance(a, Var)}
        eqns = []
        for e in reversed(j.eqns):
            if not needed.isdisjoint(e.outvars):
                eqns.append(e._replace(params=_quiet(e.params)))
                needed.update(a for a in e.invars if isinstance(a, Var))
        return ClosedJaxpr(Jaxpr(j.constvars, j.invars, eqns[::-1], j.outvars), closed.consts)

    return cached_on(closed, "without effects", make)


def _quiet(params: dict[str, Any]) -> dict[str, Any]:
    if not any(sub.jaxpr.effectful for sub in subjaxprs(params)):
        return params

    def each(p: Any) -> Any:
        if isinstance(p, tuple):
            return tuple(map(each, p))
        return without_effects(p) if isinstance(p, ClosedJaxpr) else p

    return {k: each(p) for k, p in params.items()}


def fixed_point(start: tuple[bool, ...], step: Callable[[tuple[bool, ...]], Iterable[bool]]) -> tuple[bool, ...]:
    """The least flags above ``start`` that ``step`` adds nothing to."""
    while (after := either(start, step(start))) != start:
        start = after
    return start
