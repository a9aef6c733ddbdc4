"""Partial evaluation of a jaxpr: the part that needs no unknown input, and the tail that does.

A tape runs over the jaxpr, so each primitive splits itself by its own ``partial_eval`` rule, nested ones included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fgrad.compiler.simplify import common_subexpressions, open_calls
from fgrad.core import trace as _trace
from fgrad.core.backends import IndexMap, IndexValue
from fgrad.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var, eval_jaxpr, is_effectful
from fgrad.core.trace import tracing
from fgrad.transforms.dce import dce
from fgrad.transforms.linearize import TapeTrace, TapeTracer
from fgrad.transforms.stage import StagingTrace, inline_consts, stage


class Split(NamedTuple):
    """known: known inputs -> known outputs, residuals;  tail: residuals, unknown inputs -> unknown outputs.

    Nested jitted calls are opened in both, residuals are distinct, and the tail reads each of them.
    """

    known: ClosedJaxpr
    tail: ClosedJaxpr
    out_unknown: tuple[bool, ...]

    @property
    def n_known_outs(self) -> int:
        return len(self.out_unknown) - sum(self.out_unknown)


def split(closed: ClosedJaxpr, unknown: Sequence[bool], force: Sequence[bool] | None = None) -> Split:
    """Splits by which inputs are unknown; ``force`` marks outputs that the tail returns in any case."""
    forced = [False] * len(closed.out_avals) if force is None else force
    out_unknown: list[bool] = []
    tail_parts: list[Any] = []

    def fun(*known_args: Any) -> list[Any]:
        trace = _trace.current_trace.get()
        assert isinstance(trace, StagingTrace)
        tape = TapeTrace(trace.name, trace)
        inputs = [TapeTracer(tape, a) for a, u in zip(closed.in_avals, unknown) if u]
        lin, given = iter(inputs), iter(known_args)
        with tracing(tape):
            outs = eval_jaxpr(closed.jaxpr, closed.consts, *[next(lin) if u else next(given) for u in unknown])
        var_of = {id(t): Var(t.aval) for t in inputs}
        residuals: dict[Atom, tuple[Var, Any]] = {}  # atom of the known part -> (its name in the tail, its value)

        def read(x: Any) -> Atom:
            if tape.owns(x):
                return var_of[id(x)]
            atom = trace.atom(x, trace.name)
            if isinstance(atom, Literal):
                return atom
            if atom not in residuals:
                residuals[atom] = Var(atom.aval), x
            return residuals[atom][0]

        eqns = []
        for entry in tape.entries:
            invars = tuple(map(read, entry.args))
            outvars = tuple(Var(t.aval) for t in entry.outs)
            var_of.update((id(t), v) for t, v in zip(entry.outs, outvars))
            eqns.append(Eqn(entry.prim, invars, outvars, entry.params, entry.source))
        out_unknown[:] = [tape.owns(o) or f for o, f in zip(outs, forced)]
        tail_outs = [read(o) for o, u in zip(outs, out_unknown) if u]
        lin_vars = [var_of[id(t)] for t in inputs]
        tail_parts[:] = [v for v, _ in residuals.values()], lin_vars, eqns, tail_outs
        return [*(o for o, u in zip(outs, out_unknown) if not u), *(x for _, x in residuals.values())]

    known = stage(fun, [a for a, u in zip(closed.in_avals, unknown) if not u], name="linearize")
    res_vars, lin_vars, eqns, tail_outs = tail_parts
    # opened before dead code goes: what only a dead part of a nested call reads is no residual
    tail = dce(open_calls(ClosedJaxpr(Jaxpr((), (*res_vars, *lin_vars), eqns, tail_outs), ())))
    read_vars = reads(tail.jaxpr)
    n_outs = len(out_unknown) - sum(out_unknown)
    kept = [v in read_vars for v in res_vars]
    known_outs = [*known.jaxpr.outvars[:n_outs], *_kept(known.jaxpr.outvars[n_outs:], kept)]
    known = dce(open_calls(_with(known, outvars=known_outs)))
    tail = _with(tail, invars=[*_kept(res_vars, kept), *lin_vars])
    return Split(known, tail, tuple(out_unknown))


def reads(jaxpr: Jaxpr) -> set[Var]:
    """Every variable that an equation or an output reads."""
    atoms = [*(a for e in jaxpr.eqns for a in e.invars), *jaxpr.outvars]
    return {a for a in atoms if isinstance(a, Var)}


def _kept(values: Iterable[Any], kept: Sequence[bool]) -> list[Any]:
    return [v for v, k in zip(values, kept) if k]


def _with(closed: ClosedJaxpr, *, invars: Sequence[Var] | None = None, outvars: Sequence[Atom] | None = None):
    j = closed.jaxpr
    jaxpr = Jaxpr(
        j.constvars, j.invars if invars is None else invars, j.eqns, j.outvars if outvars is None else outvars
    )
    return ClosedJaxpr(jaxpr, closed.consts)


# --- what a tail that runs many times reads --------------------------------------------------------------------------
class Economy(NamedTuple):
    """A split whose tail gets each residual in the cheapest way; the tail names residuals by variables of ``known``.

    known: constants and known inputs -> known outputs, without the residuals.
    consts: the values of its leading inputs.
    given: inputs of the known part that the tail reads again.
    hoisted: values that depend on invariant inputs only.
    stored: all else.
    tail: (given, hoisted, stored, unknown inputs) -> unknown outputs, recomputing what is free to recompute.
    """

    known: Jaxpr
    consts: tuple[Any, ...]
    given: tuple[Var, ...]
    hoisted: tuple[Var, ...]
    stored: tuple[Var, ...]
    tail: Jaxpr
    out_unknown: tuple[bool, ...]


def economise(parts: Split, given: Sequence[bool], invariant: Sequence[bool]) -> Economy:
    """Chooses for each residual: read again, computed once, recomputed, or stored.

    ``given`` marks the known inputs the tail can read again (its xs, say), ``invariant`` those that are the same each
    time.  A residual is recomputed where it is a view, a broadcast, an index or a conversion of something that takes
    no more memory than itself.
    """
    closed = dce(common_subexpressions(parts.known))
    n_consts = len(closed.consts)
    given, invariant = [*[True] * n_consts, *given], [*[True] * n_consts, *invariant]
    known = inline_consts(closed).jaxpr
    wanted = known.outvars[parts.n_known_outs :]
    producer = {v: e for e in known.eqns for v in e.outvars}
    readable = {v for v, g in zip(known.invars, given) if g}
    fixed = _invariant_vars(known, {v for v, i in zip(known.invars, invariant) if i})
    available: set[Var] = set()  # to the tail, at no further cost
    recomputed: set[Var] = set()
    chosen: dict[str, dict[Var, None]] = {"given": {}, "hoisted": {}, "stored": {}}

    def cost(v: Atom) -> int:
        """Bytes that must be stored for the tail to have v."""
        if isinstance(v, Literal) or v in available or v in readable:
            return 0
        if v in producer and _is_free(producer[v]):
            through = sum(cost(a) for a in producer[v].invars)
            if through <= _bytes(v):
                return through
        return 0 if v in fixed else _bytes(v)

    def take(v: Atom) -> None:
        if isinstance(v, Literal) or v in available:
            return
        available.add(v)
        if v in readable:
            chosen["given"][v] = None
        elif v in producer and _is_free(producer[v]) and sum(map(cost, producer[v].invars)) <= _bytes(v):
            recomputed.update(producer[v].outvars)
            for a in producer[v].invars:
                take(a)
        else:
            chosen["hoisted" if v in fixed else "stored"][v] = None

    # the others first: what is stored for its own sake is there to recompute from
    free = [isinstance(a, Var) and a in producer and _is_free(producer[a]) for a in wanted]
    for a, _ in sorted(zip(wanted, free), key=lambda pair: pair[1]):
        take(a)

    j = parts.tail.jaxpr
    rename: dict[Atom, Atom] = dict(zip(j.invars, wanted))

    def read(a: Atom) -> Atom:
        return rename.get(a, a) if isinstance(a, Var) else a

    eqns = [e for e in known.eqns if not recomputed.isdisjoint(e.outvars)]
    eqns += [e._replace(invars=tuple(map(read, e.invars))) for e in j.eqns]
    given_vars, hoisted, stored = (tuple(chosen[k]) for k in ("given", "hoisted", "stored"))
    tail = Jaxpr((), [*given_vars, *hoisted, *stored, *j.invars[len(wanted) :]], eqns, [read(a) for a in j.outvars])
    known = Jaxpr((), known.invars, known.eqns, known.outvars[: parts.n_known_outs])
    return Economy(known, closed.consts, given_vars, hoisted, stored, tail, parts.out_unknown)


def _invariant_vars(jaxpr: Jaxpr, start: set[Var]) -> set[Var]:
    fixed = set(start)
    for e in jaxpr.eqns:
        if not is_effectful(e) and fixed.issuperset(a for a in e.invars if isinstance(a, Var)):
            fixed.update(e.outvars)
    return fixed


def _is_free(eqn: Eqn) -> bool:
    """Computing it again costs no more than reading its result would."""
    kind = eqn.primitive.cpu
    is_view = isinstance(kind, IndexMap) and kind.view is not None
    return is_view or isinstance(kind, IndexValue) or eqn.primitive.name == "convert_element_type"


def _bytes(v: Var) -> int:
    return v.aval.size * v.aval.dtype.itemsize


def hoist(jaxpr: Jaxpr, hoisted: Sequence[Var], invars: Sequence[Var]) -> tuple[ClosedJaxpr, Jaxpr]:
    """(invars -> hoisted, the jaxpr with ``hoisted`` as leading inputs instead of computing them)."""
    needed = set(hoisted)
    before: list[Eqn] = []
    for e in reversed(jaxpr.eqns):
        if not needed.isdisjoint(e.outvars):
            before.append(e)
            needed.update(a for a in e.invars if isinstance(a, Var))
    known = set(hoisted)
    after = [
        e._replace(outvars=tuple(Var(v.aval) if v in known else v for v in e.outvars))
        for e in jaxpr.eqns
        if not known.issuperset(e.outvars) or is_effectful(e)
    ]
    first = ClosedJaxpr(Jaxpr((), invars, before[::-1], hoisted), ())
    return first, Jaxpr((), [*hoisted, *jaxpr.invars], after, jaxpr.outvars)
