"""The primitive of a checkpointed call: it computes its jaxpr, and in reverse mode computes it again.

On a tape the call is split.  The known part runs now; its results are kept only as far as the policy says.  The tape
records one call, linear in the tangents, that recomputes what the policy dropped from what it kept and from the call's
own operands:

    early: known operands                   -> known results, kept values
    late:  known operands, kept, tangents   -> tangents of results

The transpose of ``late`` is staged once, and bound as a checkpointed call again, so that further derivatives store as
little.  A barrier over all its operands, the cotangents among them, keeps the compiler from computing the recomputed
part together with the forward pass, or before its turn comes in the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fgrad.core.array import ConcreteArray
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Inline
from fgrad.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Var, eval_jaxpr, is_effectful
from fgrad.core.primitive import Axis, LinearArg, OverAxis, Primitive, Zero
from fgrad.core.trace import EVAL, using
from fgrad.higher_order.checkpoint_policies import saves
from fgrad.higher_order.jit_primitive import (
    batch_jaxpr,
    cached_on,
    jvp_jaxpr,
    reference_of,
    split_jaxpr,
    transpose_jaxpr,
)
from fgrad.primitives.barrier import optimization_barrier_p
from fgrad.primitives.define import NO_CUDA
from fgrad.primitives.name import name_p
from fgrad.transforms.dce import dce
from fgrad.transforms.stage import inline_consts


def _bind(closed: ClosedJaxpr, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """A call of the jaxpr with its constants (which may be tracers) as leading operands."""
    if closed.consts:
        args = [*closed.consts, *args]
        closed = cached_on(closed, "hoisted", lambda: inline_consts(closed))
    return remat_p.bind(*args, **{**params, "jaxpr": closed})


def _run(values: Sequence[np.ndarray], *, jaxpr: ClosedJaxpr, **_: Any) -> list[tuple[np.ndarray, bool]]:
    """Operation by operation: a program would keep the memory it works in for the next call."""
    with using(EVAL):
        args = [ConcreteArray(v, a.weak_type) for v, a in zip(values, jaxpr.in_avals)]
        outs = eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *args)
    return [(o._value, o._weak) for o in outs]


def _abstract(*avals: ShapedArray, jaxpr: ClosedJaxpr, name: str, **_: Any) -> tuple[ShapedArray, ...]:
    wanted = jaxpr.in_avals
    if len(avals) != len(wanted) or not all([a.same_type(w) for a, w in zip(avals, wanted)]):
        raise TypeError(
            f"checkpoint: operands of {name} must have the types {wanted}, got {avals}. Trace it anew for these."
        )
    return jaxpr.out_avals


def _jvp(primals, tangents, *, jaxpr: ClosedJaxpr, **params):
    pushed, out_nonzero = jvp_jaxpr(jaxpr, tuple([type(t) is not Zero for t in tangents]))
    out = _bind(pushed, [*primals, *(t for t in tangents if type(t) is not Zero)], params)
    n = len(jaxpr.out_avals)
    it = iter(out[n:])
    return out[:n], [next(it) if nz else Zero(a.tangent()) for nz, a in zip(out_nonzero, jaxpr.out_avals)]


def _batch(axis: Axis, args, dims, *, jaxpr: ClosedJaxpr, **params):
    batched, out_dims = batch_jaxpr(jaxpr, axis, tuple(dims))
    return _bind(batched, args, params), out_dims


# --- reverse mode ----------------------------------------------------------------------------------------------------
class _Plan(NamedTuple):
    consts: tuple[Any, ...]  # leading known operands
    early: ClosedJaxpr
    late: ClosedJaxpr
    read_again: tuple[int, ...]  # the known operands that late begins with
    out_unknown: tuple[bool, ...]


def _plan(jaxpr: ClosedJaxpr, unknown: tuple[bool, ...], policy: Any) -> _Plan:
    parts = split_jaxpr(jaxpr, unknown)
    known = inline_consts(parts.known).jaxpr
    tail = parts.tail.jaxpr
    residuals = known.outvars[parts.n_known_outs :]
    producer = {v: e for e in known.eqns for v in e.outvars}
    place = {v: i for i, v in enumerate(known.invars)}
    # a value under a name that is kept is the named value
    same: dict[Atom, Atom] = {
        e.invars[0]: e.outvars[0] for e in known.eqns if e.primitive is name_p and _saveable(e, policy)
    }
    again: set[int] = set()
    kept: dict[Var, None] = {}
    redone: set[Var] = set()
    todo: list[Atom] = list(residuals)
    while todo:
        v = todo.pop()
        v = same.get(v, v) if isinstance(v, Var) else v
        if not isinstance(v, Var) or v in kept or v in redone:
            continue
        if v in place:
            again.add(place[v])
        elif _saveable(producer[v], policy):
            kept[v] = None
        else:
            redone.update(producer[v].outvars)
            todo += producer[v].invars
    read_again = tuple(sorted(again))
    early = Jaxpr((), known.invars, known.eqns, [*known.outvars[: parts.n_known_outs], *kept])
    rename: dict[Atom, Atom] = dict(zip(tail.invars, residuals))

    def read(a: Atom) -> Atom:
        a = rename.get(a, a) if isinstance(a, Var) else a
        return same.get(a, a) if isinstance(a, Var) else a

    eqns = [e._replace(invars=tuple(map(read, e.invars))) for e in known.eqns if not redone.isdisjoint(e.outvars)]
    eqns += [e._replace(invars=tuple(map(read, e.invars))) for e in tail.eqns]
    ins = [*(known.invars[i] for i in read_again), *kept, *tail.invars[len(residuals) :]]
    late = Jaxpr((), ins, eqns, [read(a) for a in tail.outvars])
    return _Plan(parts.known.consts, dce(ClosedJaxpr(early, ())), ClosedJaxpr(late, ()), read_again, parts.out_unknown)


def _saveable(eqn: Eqn, policy: Any) -> bool:
    """Whether an operation's results are kept; those of an effect always are, as it must not happen twice."""
    return is_effectful(eqn) or saves(policy, eqn)


def _partial_eval(tape, unknown, args, params):
    jaxpr, policy = params["jaxpr"], params["policy"]
    key = ("remat", tuple(unknown), policy)
    plan = cached_on(jaxpr, key, lambda: _plan(jaxpr, tuple(unknown), policy))
    known_args = [*plan.consts, *(a for a, u in zip(args, unknown) if not u)]
    out: list[Any] = []
    if plan.early.jaxpr.outvars or plan.early.jaxpr.effectful:
        with using(tape.parent):
            out = _bind(plan.early, known_args, params)
    late: list[Any] = []
    n_known = len(plan.out_unknown) - sum(plan.out_unknown)
    if any(plan.out_unknown):
        tangents = [a for a, u in zip(args, unknown) if u]
        operands = [*(known_args[i] for i in plan.read_again), *out[n_known:], *tangents]
        late = tape.record(remat_p, operands, {**params, "jaxpr": plan.late})
    early_it, late_it = iter(out[:n_known]), iter(late)
    return [next(late_it) if u else next(early_it) for u in plan.out_unknown]


def _transpose(cts, *args, jaxpr: ClosedJaxpr, **params):
    linear = tuple([isinstance(a, LinearArg) for a in args])
    nonzero = tuple([type(c) is not Zero for c in cts])
    back, ct_nonzero = transpose_jaxpr(jaxpr, linear, nonzero)
    operands = [a for a, lin in zip(args, linear) if not lin] + [c for c in cts if type(c) is not Zero]
    if params["prevent_cse"]:
        operands = optimization_barrier_p.bind(*operands)
    out = iter(_bind(back, operands, params))
    flags = iter(ct_nonzero)
    return [(next(out) if next(flags) else Zero(a.aval)) if lin else None for a, lin in zip(args, linear)]


# --- dead results ----------------------------------------------------------------------------------------------------
def _prune(eqn: Eqn, used: list[bool]) -> Eqn:
    jaxpr = eqn.params["jaxpr"]

    def make():
        j = jaxpr.jaxpr
        short = dce(ClosedJaxpr(Jaxpr((), j.invars, j.eqns, [v for v, u in zip(j.outvars, used) if u]), ())).jaxpr
        read = {a for e in short.eqns for a in e.invars} | set(short.outvars)
        needed = [v in read for v in short.invars]
        ins = [v for v, n in zip(short.invars, needed) if n]
        return ClosedJaxpr(Jaxpr((), ins, short.eqns, short.outvars), ()), needed

    short, needed = cached_on(jaxpr, ("pruned", tuple(used)), make)
    return eqn._replace(
        invars=tuple([a for a, n in zip(eqn.invars, needed) if n]),
        outvars=tuple([v for v, u in zip(eqn.outvars, used) if u]),
        params={**eqn.params, "jaxpr": short},
    )


remat_p = Primitive(
    "checkpoint",
    abstract=_abstract,
    reference=lambda *xs, jaxpr, **_: reference_of(jaxpr, xs),
    cpu=Inline("jaxpr", _run, keeps_rules=True),
    cuda=NO_CUDA,
    jvp=_jvp,
    transpose=_transpose,
    batch=OverAxis(_batch),
    partial_eval=_partial_eval,
    prune=_prune,
    multiple_results=True,
    own_weak=True,
)
