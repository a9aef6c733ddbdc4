"""Dead code elimination."""

from __future__ import annotations

from fgrad.core.jaxpr import ClosedJaxpr, Eqn, Jaxpr, Var


def dce(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Drops equations and constants no output needs; inputs stay, so the signature does not change."""
    jaxpr = closed.jaxpr
    live = {v for v in jaxpr.outvars if isinstance(v, Var)}
    kept: list[Eqn] = []
    for eqn in reversed(jaxpr.eqns):
        if not live.isdisjoint(eqn.outvars):
            kept.append(eqn)
            live.update(v for v in eqn.invars if isinstance(v, Var))
    if len(kept) == len(jaxpr.eqns) and live.issuperset(jaxpr.constvars):
        return closed
    pairs = [(v, c) for v, c in zip(jaxpr.constvars, closed.consts) if v in live]
    out = Jaxpr([v for v, _ in pairs], jaxpr.invars, kept[::-1], jaxpr.outvars)
    return ClosedJaxpr(out, [c for _, c in pairs])
