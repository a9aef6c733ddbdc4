"""The jaxpr type checker: run after every pass in tests."""

from __future__ import annotations

from fgrad.core.jaxpr import Atom, ClosedJaxpr, Jaxpr, Literal, Var, subjaxprs
from fgrad.errors import JaxprTypeError


def check_jaxpr(closed: ClosedJaxpr | Jaxpr) -> None:
    """Every variable is bound once before it is read, and every equation has the types its abstract rule gives.

    Raises JaxprTypeError naming the equation.
    """
    jaxpr = closed.jaxpr if isinstance(closed, ClosedJaxpr) else closed
    if not isinstance(jaxpr, Jaxpr):
        raise TypeError(f"check_jaxpr: needs a jaxpr, got {type(closed).__name__}. Make one with make_jaxpr.")
    if isinstance(closed, ClosedJaxpr):
        for v, c in zip(jaxpr.constvars, closed.consts):
            if not v.aval.same_type(c.aval):
                raise JaxprTypeError(f"check_jaxpr: constant of type {c.aval} is bound to a variable of type {v.aval}.")
    bound: set[Var] = set()

    def define(v: Var, where: str) -> None:
        if v in bound:
            raise JaxprTypeError(
                f"check_jaxpr: a variable of type {v.aval} is bound twice, the second time by {where}."
            )
        bound.add(v)

    def read(a: Atom, where: str) -> None:
        if isinstance(a, Literal):
            if a.val.shape != () or not a.aval.same_type(a.val.aval):
                raise JaxprTypeError(f"check_jaxpr: literal {a.val!r} does not have its type {a.aval} in {where}.")
        elif a not in bound:
            raise JaxprTypeError(f"check_jaxpr: {where} reads a variable of type {a.aval} before it is bound.")

    for v in (*jaxpr.constvars, *jaxpr.invars):
        define(v, "the inputs")
    for i, eqn in enumerate(jaxpr.eqns):
        where = f"equation {i} ({eqn.primitive.name})"
        for a in eqn.invars:
            read(a, where)
        for sub in subjaxprs(eqn.params):
            check_jaxpr(sub)
        try:
            want = eqn.primitive.abstract_eval(eqn.invars, eqn.params)
        except (TypeError, ValueError) as e:
            raise JaxprTypeError(f"check_jaxpr: {where} refuses its operands: {e}") from e
        want = want if eqn.primitive.multiple_results else (want,)
        got = tuple(v.aval for v in eqn.outvars)
        if len(want) != len(got) or not all(w.same_type(g) for w, g in zip(want, got)):
            raise JaxprTypeError(f"check_jaxpr: {where} gives {tuple(want)}, its variables have types {got}.")
        for v in eqn.outvars:
            define(v, where)
    for a in jaxpr.outvars:
        read(a, "the list of outputs")
