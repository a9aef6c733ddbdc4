"""Dead code elimination."""

from __future__ import annotations

from fgrad.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, is_effectful


def dce(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Drops equations, results and constants that no output needs, but no effect.

    Inputs stay, so the signature does not change.
    """
    jaxpr = closed.jaxpr
    live: set[Atom] = set(jaxpr.outvars)
    kept: list[Eqn] = []
    for eqn in reversed(jaxpr.eqns):
        if live.isdisjoint(eqn.outvars) and not is_effectful(eqn):
            continue
        if eqn.primitive.prune is not None and not live.issuperset(eqn.outvars):
            eqn = eqn.primitive.prune(eqn, [v in live for v in eqn.outvars])
        kept.append(eqn)
        live.update(eqn.invars)
    kept.reverse()
    same = len(kept) == len(jaxpr.eqns) and all([a is b for a, b in zip(kept, jaxpr.eqns)])
    if same and live.issuperset(jaxpr.constvars):
        return closed
    pairs = [(v, c) for v, c in zip(jaxpr.constvars, closed.consts) if v in live]
    return ClosedJaxpr(Jaxpr([v for v, _ in pairs], jaxpr.invars, kept, jaxpr.outvars), [c for _, c in pairs])
