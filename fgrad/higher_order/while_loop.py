"""while: a loop until its condition fails, with operands (cond consts, body consts, carry) and results (carry).

    while cond(cond consts, carry):  carry = body(body consts, carry)

How often it runs is known only when it has run, so reverse mode, which would have to store a value for each step, is
refused; forward mode and linearize work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import WhileLoop, WhileParts
from fgrad.core.jaxpr import ClosedJaxpr, Eqn, Jaxpr, Var, eval_jaxpr
from fgrad.core.primitive import Axis, OverAxis, Primitive, Zero
from fgrad.core.trace import using
from fgrad.errors import ReverseModeError
from fgrad.higher_order.jit_primitive import batch_jaxpr, cached_on, jvp_jaxpr, reference_of, split_jaxpr
from fgrad.higher_order.loops_common import (
    check_operands,
    dropped,
    either,
    fixed_point,
    groups,
    is_live,
    kept,
    live,
    live_inputs,
    restricted,
    run_equation,
    spread,
    without_effects,
)
from fgrad.higher_order.split import reads
from fgrad.primitives.broadcast import broadcast_in_dim_p
from fgrad.primitives.compare import select_n_p
from fgrad.primitives.define import NO_CUDA
from fgrad.primitives.reductions import reduce_or_p
from fgrad.transforms.stage import inline_consts, stage
from fgrad.transforms.vmap import materialize
from fgrad.transforms.zeros import instantiate


def bind_while(
    cond: ClosedJaxpr, cond_consts: Sequence[Any], body: ClosedJaxpr, body_consts: Sequence[Any], carry: Sequence[Any]
) -> list[Any]:
    """The last carry.  Constants of the jaxprs, and carries that the body returns as they came, become consts."""
    if cond.consts:
        cond_consts = [*cond.consts, *cond_consts]
        cond = cached_on(cond, "hoisted", lambda: inline_consts(cond))
    if body.consts:
        body_consts = [*body.consts, *body_consts]
        body = cached_on(body, "hoisted", lambda: inline_consts(body))
    n_cond, n_body = len(cond_consts), len(body_consts)
    cond, body, still, read_cond, read_body = cached_on(
        body, ("slim", cond, n_cond, n_body), lambda: _slim(cond, n_cond, body, n_body)
    )
    idle = kept(carry, still)
    cond_consts, body_consts = kept([*cond_consts, *idle], read_cond), kept([*body_consts, *idle], read_body)
    out = while_p.bind(
        *cond_consts,
        *body_consts,
        *dropped(carry, still),
        cond_jaxpr=cond,
        n_cond_consts=len(cond_consts),
        body_jaxpr=body,
        n_body_consts=len(body_consts),
    )
    moving = iter(out)
    return [c if s else next(moving) for c, s in zip(carry, still)]


def _slim(cond: ClosedJaxpr, n_cond: int, body: ClosedJaxpr, n_body: int):
    """The jaxprs with idle carries as consts and without unread consts; which carries are idle, consts read."""
    _, carry = groups(body.jaxpr.invars, n_body)
    still = [v is o for v, o in zip(carry, body.jaxpr.outvars)]

    def slim(closed: ClosedJaxpr, n_consts: int, outs: Sequence[Any]) -> tuple[ClosedJaxpr, list[bool]]:
        consts, carry = groups(closed.jaxpr.invars, n_consts)
        consts += kept(carry, still)
        used = reads(Jaxpr((), (), closed.eqns, outs))
        read = [v in used for v in consts]
        if all(read) and not any(still):
            return closed, read
        return ClosedJaxpr(Jaxpr((), [*kept(consts, read), *dropped(carry, still)], closed.eqns, outs), ()), read

    slim_cond, read_cond = slim(cond, n_cond, cond.jaxpr.outvars)
    slim_body, read_body = slim(body, n_body, dropped(body.jaxpr.outvars, still))
    return slim_cond, slim_body, still, read_cond, read_body


# --- values ----------------------------------------------------------------------------------------------------------
def _operand_avals(
    cond_jaxpr: ClosedJaxpr, n_cond_consts: int, body_jaxpr: ClosedJaxpr, n_body_consts: int
) -> list[ShapedArray]:
    return [*cond_jaxpr.in_avals[:n_cond_consts], *body_jaxpr.in_avals]


def _abstract(
    *avals: ShapedArray, cond_jaxpr: ClosedJaxpr, n_cond_consts: int, body_jaxpr: ClosedJaxpr, n_body_consts: int
):
    check_operands("while", avals, _operand_avals(cond_jaxpr, n_cond_consts, body_jaxpr, n_body_consts))
    carry = body_jaxpr.in_avals[n_body_consts:]
    check_operands("while", cond_jaxpr.in_avals[n_cond_consts:], carry)
    check_operands("while", body_jaxpr.out_avals, carry)
    check_operands("while", cond_jaxpr.out_avals, (ShapedArray((), dtypes.bool_),))
    return tuple(a.update(weak_type=a.weak_type and b.weak_type) for a, b in zip(body_jaxpr.out_avals, carry))


def _reference(*arrays: np.ndarray, cond_jaxpr, n_cond_consts, body_jaxpr, n_body_consts):
    cond_consts, body_consts, carry = groups(arrays, n_cond_consts, n_body_consts)
    while reference_of(cond_jaxpr, [*cond_consts, *carry])[0]:
        carry = reference_of(body_jaxpr, [*body_consts, *carry])
    return carry


def _run(values: list[np.ndarray], **params: Any):
    return run_equation(while_p, params["body_jaxpr"], values, _operand_avals(**params), params)


# --- differentiation -------------------------------------------------------------------------------------------------
def _jvp_loop(cond: ClosedJaxpr, n_cond: int, body: ClosedJaxpr, n_body: int, nonzero: tuple[bool, ...]):
    """(cond on (consts | carry, tangents), body on (consts, their tangents | carry, tangents), which have a tangent)"""
    nz_consts, nz_start = groups(nonzero, n_body)
    n_carry = len(nz_start)

    def pushed(nz_carry):
        return jvp_jaxpr(body, (*nz_consts, *nz_carry))

    nz_carry = fixed_point(tuple(nz_start), lambda nz: pushed(nz)[1])
    forward, nz_out = pushed(nz_carry)
    consts, carry = groups(body.in_avals, n_body)
    t_consts, t_carry = ([a.tangent() for a in kept(g, nz)] for g, nz in ((consts, nz_consts), (carry, nz_carry)))

    def fun(*args):
        c, tc, k, tk = groups(args, n_body, len(t_consts), n_carry)
        out, ts = groups(eval_jaxpr(forward.jaxpr, forward.consts, *c, *k, *tc, *tk), n_carry)
        ts = spread(ts, nz_out, [Zero(a.tangent()) for a in carry])
        return [*out, *map(instantiate, kept(ts, nz_carry))]

    wide_body = stage(fun, [*consts, *t_consts, *carry, *t_carry], name="jvp")
    return _with_more_carries(cond, t_carry), wide_body, nz_carry


def _with_more_carries(cond: ClosedJaxpr, avals: Sequence[ShapedArray]) -> ClosedJaxpr:
    j = cond.jaxpr
    return ClosedJaxpr(Jaxpr((), [*j.invars, *map(Var, avals)], j.eqns, j.outvars), ())


def _jvp(primals, tangents, *, cond_jaxpr, n_cond_consts, body_jaxpr, n_body_consts):
    nonzero = tuple(map(is_live, tangents[n_cond_consts:]))  # the condition is a bool: it has no tangent
    cond, body, nz_carry = cached_on(
        body_jaxpr,
        ("while jvp", cond_jaxpr, n_cond_consts, n_body_consts, nonzero),
        lambda: _jvp_loop(cond_jaxpr, n_cond_consts, body_jaxpr, n_body_consts, nonzero),
    )
    cond_consts, body_consts, carry = groups(primals, n_cond_consts, n_body_consts)
    _, t_consts, t_carry = groups(tangents, n_cond_consts, n_body_consts)
    t_start = map(instantiate, kept(t_carry, nz_carry))
    out = bind_while(cond, cond_consts, body, [*body_consts, *live(t_consts)], [*carry, *t_start])
    outs, ts = groups(out, len(carry))
    return outs, spread(ts, nz_carry, [Zero(o.aval.tangent()) for o in outs])


def _partial_eval(tape, unknown, args, params):
    """The known carries are computed now.  What is unknown runs the whole loop again, the known carries beside it and
    without effects: to store them for each step is not possible, as their number is not known.
    """
    cond, n_cond = params["cond_jaxpr"], params["n_cond_consts"]
    body, n_body = params["body_jaxpr"], params["n_body_consts"]
    u_cond, u_consts, u_start = groups(unknown, n_cond, n_body)

    u_carry = fixed_point(tuple(u_start), lambda u: split_jaxpr(body, (*u_consts, *u)).out_unknown)
    cond_reads = live_inputs(cond, (True,))
    if any(u and r for u, r in zip((*u_cond, *u_carry), cond_reads)):
        return tape.record(while_p, args, params)  # how often it runs is itself unknown
    known_carry = [not u for u in u_carry]
    cond_consts, body_consts, carry = groups(args, n_cond, n_body)
    c_used, b_used = [*[True] * n_cond, *known_carry], [*(not u for u in u_consts), *known_carry]
    known = cached_on(
        body,
        ("known while", cond, n_cond, tuple(b_used)),
        lambda: (restricted(cond, c_used, (True,)), restricted(body, b_used, known_carry)),
    )
    with using(tape.parent):
        out = bind_while(known[0], cond_consts, known[1], dropped(body_consts, u_consts), kept(carry, known_carry))
    if not any(u_carry):
        return out
    early = iter(out)
    quiet = {**params, "cond_jaxpr": without_effects(cond), "body_jaxpr": without_effects(body)}
    late = tape.record(while_p, args, quiet)
    return [x if u else next(early) for x, u in zip(late, u_carry)]


def _transpose(cts, *args, **params) -> NoReturn:
    raise ReverseModeError(
        "while_loop: reverse mode needs the number of steps before the loop runs, got a loop that ends by a condition "
        "on its values (it would have to store every step). Use scan or fori_loop with bounds that are Python ints, "
        "give the loop a derivative of its own with custom_vjp, or use forward mode (jvp, jacfwd)."
    )


# --- batching --------------------------------------------------------------------------------------------------------
def _batch_loop(
    cond: ClosedJaxpr, n_cond: int, body: ClosedJaxpr, n_body: int, axis: Axis, dims: tuple[int | None, ...]
):
    """(cond, body, which carries are mapped, at axis 0; whether the condition is).

    A mapped condition holds while any element's does, and the body leaves finished elements as they are; it then takes
    the consts of the condition as well.
    """
    cc_dims, bc_dims, k_dims = groups(dims, n_cond, n_body)

    def at(mapped: Sequence[bool]) -> list[int | None]:
        return [0 if m else None for m in mapped]

    def step(mapped: tuple[bool, ...]) -> list[bool]:
        if batch_jaxpr(cond, axis, (*cc_dims, *at(mapped)))[1][0] is not None:
            return [True] * len(mapped)
        return [d is not None for d in batch_jaxpr(body, axis, (*bc_dims, *at(mapped)))[1]]

    mapped = fixed_point(tuple(d is not None for d in k_dims), step)
    wide_cond, (cond_dim,) = batch_jaxpr(cond, axis, (*cc_dims, *at(mapped)))
    wide_body, out_dims = batch_jaxpr(body, axis, (*bc_dims, *at(mapped)))
    cond_consts, carry = groups(wide_cond.in_avals, n_cond)
    body_consts = wide_body.in_avals[:n_body]

    def next_carry(args):
        out = eval_jaxpr(wide_body.jaxpr, wide_body.consts, *args)
        return [materialize(o, d, axis.size, 0) if m else o for o, d, m in zip(out, out_dims, mapped)]

    if cond_dim is None:
        return wide_cond, stage(lambda *args: next_carry(args), wide_body.in_avals, name="vmap"), mapped, False

    def running(args):
        return eval_jaxpr(wide_cond.jaxpr, wide_cond.consts, *args)[0]

    def frozen(*args):
        cc, bc, k = groups(args, n_cond, n_body)
        go = running([*cc, *k])
        return [
            select_n_p.bind(broadcast_in_dim_p.bind(go, shape=old.shape, broadcast_dimensions=(0,)), old, new)
            for old, new in zip(k, next_carry([*bc, *k]))
        ]

    any_cond = stage(lambda *args: [reduce_or_p.bind(running(args), axes=(0,))], wide_cond.in_avals, name="vmap")
    return any_cond, stage(frozen, [*cond_consts, *body_consts, *carry], name="vmap"), mapped, True


def _batch(axis: Axis, args, dims, *, cond_jaxpr, n_cond_consts, body_jaxpr, n_body_consts):
    n_consts = n_cond_consts + n_body_consts
    cond_consts, body_consts, carry = groups(args, n_cond_consts, n_body_consts)
    k_dims = dims[n_consts:]
    inner = (*dims[:n_consts], *(None if d is None else 0 for d in k_dims))
    cond, body, mapped, frozen = cached_on(
        body_jaxpr,
        ("while batch", cond_jaxpr, n_cond_consts, n_body_consts, axis, inner),
        lambda: _batch_loop(cond_jaxpr, n_cond_consts, body_jaxpr, n_body_consts, axis, inner),
    )
    carry = [materialize(c, d, axis.size, 0) if m else c for c, d, m in zip(carry, k_dims, mapped)]
    out = bind_while(cond, cond_consts, body, [*cond_consts, *body_consts] if frozen else body_consts, carry)
    return out, [0 if m else None for m in mapped]


# --- dead results ----------------------------------------------------------------------------------------------------
def _prune(eqn: Eqn, used: list[bool]) -> Eqn:
    """Without carries that neither a result, nor the condition, nor another live carry needs."""
    p = eqn.params
    cond, n_cond, body, n_body = p["cond_jaxpr"], p["n_cond_consts"], p["body_jaxpr"], p["n_body_consts"]
    asked = live_inputs(cond, (True,))[n_cond:]
    alive = fixed_point(either(used, asked), lambda flags: live_inputs(body, flags)[n_body:])
    consts = live_inputs(body, alive)[:n_body]
    if all(alive) and all(consts):
        return eqn
    slim_cond, slim_body = cached_on(
        body,
        ("pruned while", cond, alive),
        lambda: (
            restricted(cond, [*[True] * n_cond, *alive], (True,)),
            restricted(body, [*consts, *alive], alive),
        ),
    )
    params = {"cond_jaxpr": slim_cond, "n_cond_consts": n_cond, "body_jaxpr": slim_body, "n_body_consts": sum(consts)}
    invars = kept(eqn.invars, [*[True] * n_cond, *consts, *alive])
    return eqn._replace(invars=tuple(invars), outvars=tuple(kept(eqn.outvars, alive)), params=params)


def _parts(*, cond_jaxpr, n_cond_consts: int, body_jaxpr, n_body_consts: int) -> WhileParts:
    return WhileParts(cond_jaxpr, n_cond_consts, body_jaxpr, n_body_consts)


while_p = Primitive(
    "while",
    abstract=_abstract,
    reference=_reference,
    cpu=WhileLoop(_parts, _run),
    cuda=NO_CUDA,
    jvp=_jvp,
    transpose=_transpose,
    batch=OverAxis(_batch),
    partial_eval=_partial_eval,
    prune=_prune,
    multiple_results=True,
    own_weak=True,
)
