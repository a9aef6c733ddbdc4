"""Loops and branches, simplified: their bodies first, then what need not be computed in every iteration.

    a carry that the body returns as it got it     becomes a constant of the loop
    equations that depend on constants only        move in front of the loop
    constants and xs that the body does not read   are no operands any more
    a branch whose number is known                 is replaced by its equations

A loop that went through this is an equation of one of the compiler's own primitives, whatever primitive it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core.aval import ShapedArray
from fgrad.core.backends import (
    Alias,
    Branch,
    ForLoop,
    ForParts,
    Host,
    IndexMap,
    IndexValue,
    Inline,
    ScalarMap,
    Unfilled,
    WhileLoop,
    WhileParts,
)
from fgrad.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var, is_effectful
from fgrad.core.primitive import Primitive
from fgrad.errors import MissingBackendError
from fgrad.transforms.dce import dce

INTERNAL = Unfilled("it exists in compiled programs only")


def _not_eager(values: list[np.ndarray], **params: Any) -> Any:
    raise MissingBackendError(f"compiled loop: cannot run by itself, {INTERNAL.reason}. Run the program.")


class _Internal(Primitive):
    """A primitive that nobody can name: it exists in simplified jaxprs only."""

    __slots__ = ()

    def register(self) -> None:
        pass


def _internal(name: str, abstract: Callable[..., Any], cpu: ForLoop | WhileLoop | Branch) -> Primitive:
    return _Internal(
        name,
        abstract=abstract,
        reference=INTERNAL,
        cpu=cpu,
        cuda=INTERNAL,
        jvp=INTERNAL,
        transpose=INTERNAL,
        batch=INTERNAL,
        multiple_results=True,
        own_weak=True,
    )


def _for_abstract(*avals: ShapedArray, **params: Any) -> tuple[ShapedArray, ...]:
    p = ForParts(**params)
    outs = p.body.out_avals
    ys = [a.update(shape=(p.length, *a.shape)) for a in outs[p.n_carry :]]
    return (*outs[: p.n_carry], *ys)


for_p = _internal("program_for", _for_abstract, ForLoop(ForParts, _not_eager))
while_p = _internal(
    "program_while", lambda *avals, **params: WhileParts(**params).body.out_avals, WhileLoop(WhileParts, _not_eager)
)
branch_p = _internal(
    "program_branch",
    lambda *avals, branches: branches[0].out_avals,
    Branch(lambda *, branches: branches, _not_eager),
)


def simplify_control(closed: ClosedJaxpr, simplify: Callable[[ClosedJaxpr], ClosedJaxpr]) -> ClosedJaxpr:
    """Every loop and branch by a simpler one; ``simplify`` makes all passes over a body."""
    if not any([type(e.primitive.cpu) in (ForLoop, WhileLoop, Branch) for e in closed.eqns]):
        return closed
    return _Control(closed, simplify).run()


class _Control:
    def __init__(self, closed: ClosedJaxpr, simplify: Callable[[ClosedJaxpr], ClosedJaxpr]) -> None:
        self.closed = closed
        self.passes = simplify
        self.constvars = list(closed.jaxpr.constvars)
        self.consts = list(closed.consts)
        self.eqns: list[Eqn] = []
        self.env: dict[Var, Atom] = {}

    def read(self, a: Atom) -> Atom:
        return self.env.get(a, a) if isinstance(a, Var) else a

    def run(self) -> ClosedJaxpr:
        j = self.closed.jaxpr
        for eqn in j.eqns:
            eqn = eqn._replace(invars=tuple(map(self.read, eqn.invars)))
            kind = eqn.primitive.cpu
            if eqn.primitive in (for_p, while_p, branch_p):
                self.eqns.append(eqn)
            elif isinstance(kind, ForLoop):
                self.for_loop(eqn, kind.parts(**eqn.params))
            elif isinstance(kind, WhileLoop):
                self.while_loop(eqn, kind.parts(**eqn.params))
            elif isinstance(kind, Branch):
                self.branch(eqn, kind.parts(**eqn.params))
            else:
                self.eqns.append(eqn)
        outs = [self.read(v) for v in j.outvars]
        return ClosedJaxpr(Jaxpr(self.constvars, j.invars, self.eqns, outs), self.consts)

    def body(self, closed: ClosedJaxpr) -> tuple[Jaxpr, list[Atom]]:
        """The simplified body, its constants as leading inputs, and the atoms for those."""
        if "simplified" not in closed.derived:
            simple = self.passes(closed)
            closed.derived["simplified"] = simple.jaxpr, simple.consts  # it may be the closed jaxpr itself
        j, consts = closed.derived["simplified"]
        variables = [Var(v.aval) for v in j.constvars]
        self.constvars += variables
        self.consts += consts
        return Jaxpr((), (*j.constvars, *j.invars), j.eqns, j.outvars), list(variables)

    # --- loops ------------------------------------------------------------------------------------------------------
    def for_loop(self, eqn: Eqn, p: ForParts) -> None:
        body, extra = self.body(p.body)
        operands = [*extra, *eqn.invars]
        n = len(extra) + p.n_consts
        m = n + p.n_carry
        consts = dict(zip(body.invars[:n], operands))
        carry: list[tuple[Var, Atom, Atom, Var]] = []
        for v, first, again, out in zip(body.invars[n:m], operands[n:m], body.outvars, eqn.outvars):
            if again is v:
                consts[v] = self.env[out] = first
            else:
                carry.append((v, first, again, out))
        results = [*(again for _, _, again, _ in carry), *body.outvars[p.n_carry :]]
        eqns, read = _live(self.hoist(body.eqns, consts, always=True) if p.length else body.eqns, results)
        kept = [(v, a) for v, a in consts.items() if v in read]
        xs = [(v, a) for v, a in zip(body.invars[m:], operands[m:]) if v in read]
        inputs = [*(v for v, _ in kept), *(v for v, *_ in carry), *(v for v, _ in xs)]
        inner = Jaxpr((), inputs, eqns, results)
        params = ForParts(ClosedJaxpr(inner, ()), len(kept), len(carry), p.length, p.reverse)._asdict()
        ins = (*(a for _, a in kept), *(first for _, first, _, _ in carry), *(a for _, a in xs))
        outs = (*(out for *_, out in carry), *eqn.outvars[p.n_carry :])
        self.eqns.append(Eqn(for_p, ins, outs, params, eqn.source))

    def while_loop(self, eqn: Eqn, p: WhileParts) -> None:
        test, test_extra = self.body(p.cond)
        body, body_extra = self.body(p.body)
        a, b = p.n_cond_consts, p.n_cond_consts + p.n_body_consts
        test_consts = dict(zip(test.invars, [*test_extra, *eqn.invars[:a]]))
        body_consts = dict(zip(body.invars, [*body_extra, *eqn.invars[a:b]]))
        reads = list(zip(test.invars[len(test_consts) :], body.invars[len(body_consts) :]))
        carry = []
        for (in_test, in_body), first, again, out in zip(reads, eqn.invars[b:], body.outvars, eqn.outvars):
            if again is in_body:
                test_consts[in_test] = body_consts[in_body] = self.env[out] = first
            else:
                carry.append((in_test, in_body, first, again, out))
        results = [again for _, _, _, again, _ in carry]
        test_eqns, test_reads = _live(self.hoist(test.eqns, test_consts, always=True), test.outvars)
        body_eqns, body_reads = _live(self.hoist(body.eqns, body_consts, always=False), results)
        kept_test = [(v, x) for v, x in test_consts.items() if v in test_reads]
        kept_body = [(v, x) for v, x in body_consts.items() if v in body_reads]
        cond = Jaxpr((), [*(v for v, _ in kept_test), *(v for v, *_ in carry)], test_eqns, test.outvars)
        inner = Jaxpr((), [*(v for v, _ in kept_body), *(v for _, v, *_ in carry)], body_eqns, results)
        params = WhileParts(ClosedJaxpr(cond, ()), len(kept_test), ClosedJaxpr(inner, ()), len(kept_body))._asdict()
        ins = (*(x for _, x in kept_test), *(x for _, x in kept_body), *(first for _, _, first, _, _ in carry))
        self.eqns.append(Eqn(while_p, ins, tuple(out for *_, out in carry), params, eqn.source))

    def hoist(self, eqns: Sequence[Eqn], consts: dict[Var, Atom], always: bool) -> list[Eqn]:
        """The equations that stay in a body; what the others make joins the constants (body's variable -> atom here).

        ``always``: the body runs at least once.  One that may not run keeps what may raise or run forever.
        What depends on no input at all and costs a kernel nothing (an iota, arithmetic on numbers) stays, and is
        computed outside too where a moved equation reads it.
        """
        free: dict[Var, Eqn] = {}
        copies: dict[Var, Atom] = {}
        kept: list[Eqn] = []

        def outside(a: Atom) -> Atom:
            if isinstance(a, Literal):
                return a
            if a in consts:
                return consts[a]
            if a not in copies:
                self.move(free[a], outside, copies)
            return copies[a]

        for eqn in eqns:
            kind = eqn.primitive.cpu
            steady = all([isinstance(a, Literal) or a in consts or a in free for a in eqn.invars])
            if not steady or is_effectful(eqn) or isinstance(kind, Alias) or not (always or _is_safe(eqn)):
                kept.append(eqn)
            elif isinstance(kind, ScalarMap | IndexMap | IndexValue) and not any([a in consts for a in eqn.invars]):
                free.update((v, eqn) for v in eqn.outvars)
                kept.append(eqn)
            else:
                self.move(eqn, outside, consts)
        return kept

    def move(self, eqn: Eqn, outside: Callable[[Atom], Atom], made: dict[Var, Atom]) -> None:
        """Writes the equation here; ``made`` learns where its results are."""
        invars = tuple(map(outside, eqn.invars))
        outvars = tuple(Var(v.aval) for v in eqn.outvars)  # a body may be that of several loops
        self.eqns.append(eqn._replace(invars=invars, outvars=outvars))
        made.update(zip(eqn.outvars, outvars))

    # --- branches ---------------------------------------------------------------------------------------------------
    def branch(self, eqn: Eqn, branches: Sequence[ClosedJaxpr]) -> None:
        number, *operands = eqn.invars
        if isinstance(number, Literal):
            body, extra = self.body(branches[int(number.val)])
            inner: dict[Var, Atom] = dict(zip(body.invars, [*extra, *operands]))
            here = lambda a: inner[a] if isinstance(a, Var) else a  # noqa: E731
            for e in body.eqns:
                self.move(e, here, inner)
            self.env.update(zip(eqn.outvars, map(here, body.outvars)))
            return
        parts = [self.body(b) for b in branches]
        every = [c for _, extra in parts for c in extra]
        closed = []
        for body, extra in parts:
            own = dict(zip(extra, body.invars))
            unread = [own.get(v) or Var(v.aval) for v in every]
            closed.append(ClosedJaxpr(Jaxpr((), (*unread, *body.invars[len(extra) :]), body.eqns, body.outvars), ()))
        invars, params = (number, *every, *operands), {"branches": tuple(closed)}
        self.eqns.append(eqn._replace(primitive=branch_p, invars=invars, params=params))


def _is_safe(eqn: Eqn) -> bool:
    """Whether the equation ends, and raises nothing: it calls no Python, and loops so often as is known."""
    kind = eqn.primitive.cpu
    if isinstance(kind, ForLoop):
        return all(map(_is_safe, kind.parts(**eqn.params).body.eqns))
    if isinstance(kind, Branch):
        return all(_is_safe(e) for branch in kind.parts(**eqn.params) for e in branch.eqns)
    return not isinstance(kind, Host | WhileLoop | Inline)


def _live(eqns: Sequence[Eqn], outs: Sequence[Atom]) -> tuple[Sequence[Eqn], set[Atom]]:
    """The equations that a result needs, and everything they and the results read."""
    eqns = dce(ClosedJaxpr(Jaxpr((), (), eqns, outs), ())).eqns
    return eqns, {a for e in eqns for a in e.invars} | set(outs)
