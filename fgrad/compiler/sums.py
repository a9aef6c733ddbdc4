"""Sums that follow from sums which are there already: a pass from jaxpr to jaxpr.

    sum(u x + v y) = u sum(x) + v sum(y)        for u, v that are the same for all that is summed up

The gradient of a mean sums up what the gradients of scale and shift have summed up already; with this rule a batch
normalisation goes over its batch once less.  Equal to rounding: each product is rounded either way, so no bound on the
error grows.  Sums of anything but products are left alone, since x - mean(x) summed up loses nothing, where
sum(x) - n mean(x) cancels.
"""

from __future__ import annotations

from typing import NamedTuple

from fgrad.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Var
from fgrad.primitives.arithmetic import add_p, mul_p, neg_p, sub_p
from fgrad.primitives.broadcast import broadcast_in_dim_p, reduce_sum_p

_PARTS = (add_p, mul_p, neg_p, sub_p)  # what may make a sum of products


class _Term(NamedTuple):
    """``sign * factors * of``: each factor the operand of a broadcast along the summed axes."""

    negative: bool
    factors: tuple[Eqn, ...]
    of: Atom


def reuse_sums(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Writes a sum of products as sums that the program has, or all but one of which it has; the same jaxpr where there
    is none.
    """
    summed = [i for i, eqn in enumerate(closed.eqns) if eqn.primitive is reduce_sum_p]
    producer: dict[Atom, Eqn] = {v: e for e in closed.eqns for v in e.outvars} if len(summed) > 1 else {}
    sums: dict[tuple[Atom, tuple[int, ...]], Var] = {}
    combined: dict[int, list[Eqn]] = {}
    for i in summed:
        eqn = closed.eqns[i]
        x, axes = eqn.invars[0], eqn.params["axes"]
        if x in producer and producer[x].primitive in _PARTS:
            terms = _terms(x, axes, producer, False)
            known = {t.of for t in terms if (t.of, axes) in sums}
            unknown = {t.of for t in terms} - known
            if known and len(unknown) <= 1 and all([t.factors for t in terms]):
                combined[i] = _combination(eqn, terms, sums)
        sums.setdefault((x, axes), eqn.outvars[0])
    if not combined:
        return closed
    j = closed.jaxpr
    eqns = [e for i, eqn in enumerate(closed.eqns) for e in combined.get(i, (eqn,))]
    return ClosedJaxpr(Jaxpr(j.constvars, j.invars, eqns, j.outvars), closed.consts)


def _terms(x: Atom, axes: tuple[int, ...], producer: dict[Atom, Eqn], negative: bool) -> list[_Term]:
    """x as a sum of terms; of one, if it is no sum of products."""
    eqn = producer.get(x)
    if eqn is None:
        return [_Term(negative, (), x)]
    if eqn.primitive is neg_p:
        return _terms(eqn.invars[0], axes, producer, not negative)
    if eqn.primitive is add_p or eqn.primitive is sub_p:
        left, right = eqn.invars
        return [
            *_terms(left, axes, producer, negative),
            *_terms(right, axes, producer, negative != (eqn.primitive is sub_p)),
        ]
    if eqn.primitive is mul_p:
        for a, b in (eqn.invars, eqn.invars[::-1]):
            same = producer.get(b)
            if same is not None and same.primitive is broadcast_in_dim_p and _same_along(same, axes):
                return [t._replace(factors=(*t.factors, same)) for t in _factored(a, axes, producer, negative)]
    return [_Term(negative, (), x)]


def _factored(x: Atom, axes: tuple[int, ...], producer: dict[Atom, Eqn], negative: bool) -> list[_Term]:
    """x itself, or what it is a multiple of."""
    terms = _terms(x, axes, producer, negative)
    return terms if len(terms) == 1 else [_Term(negative, (), x)]


def _same_along(broadcast: Eqn, axes: tuple[int, ...]) -> bool:
    """Whether what is broadcast does not vary along the axes."""
    source, shape = broadcast.invars[0].aval.shape, broadcast.outvars[0].aval.shape
    dims = broadcast.params["broadcast_dimensions"]
    return all(d not in axes for d in dims) and all(n == shape[d] for n, d in zip(source, dims))


def _combination(eqn: Eqn, terms: list[_Term], sums: dict[tuple[Atom, tuple[int, ...]], Var]) -> list[Eqn]:
    """Equations that compute the sum from the sums of its terms."""
    (out,), axes = eqn.outvars, eqn.params["axes"]
    eqns: list[Eqn] = []

    def bind(primitive, *operands: Atom, **params) -> Var:
        eqns.append(eqn._replace(primitive=primitive, invars=operands, outvars=(Var(out.aval),), params=params))
        return eqns[-1].outvars[0]

    total: Var | None = None
    for term in terms:
        if (term.of, axes) not in sums:
            sums[term.of, axes] = bind(reduce_sum_p, term.of, axes=axes)
        value = sums[term.of, axes]
        for factor in term.factors:
            dims = tuple(d - sum(a < d for a in axes) for d in factor.params["broadcast_dimensions"])
            wide = bind(broadcast_in_dim_p, *factor.invars, shape=out.aval.shape, broadcast_dimensions=dims)
            value = bind(mul_p, value, wide)
        if total is None:
            total = bind(neg_p, value) if term.negative else value
        else:
            total = bind(sub_p if term.negative else add_p, total, value)
    eqns[-1] = eqns[-1]._replace(outvars=(out,))
    return eqns
