"""scan: a loop of known length that holds its body, with operands (consts, carry, xs) and results (carry, ys).

    for t in 0 .. length-1 (backwards if reverse):  carry, ys[t] = body(consts, carry, xs[t])

Every rule makes a body of the same form and binds one loop of it.  What a rule finds out about a body is cached on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fgrad.core.aval import ShapedArray
from fgrad.core.backends import ForLoop, ForParts
from fgrad.core.jaxpr import ClosedJaxpr, Eqn, Jaxpr, eval_jaxpr
from fgrad.core.primitive import Axis, LinearArg, OverAxis, Primitive, Zero
from fgrad.core.trace import using
from fgrad.higher_order.jit_primitive import (
    batch_jaxpr,
    bind_closed,
    cached_on,
    jvp_jaxpr,
    reference_of,
    transpose_jaxpr,
)
from fgrad.higher_order.loops_common import (
    check_operands,
    dropped,
    fixed_point,
    groups,
    is_live,
    kept,
    live,
    live_inputs,
    restricted,
    run_equation,
    spread,
)
from fgrad.higher_order.split import economise, hoist, reads, split
from fgrad.primitives.define import NO_CUDA
from fgrad.primitives.transpose import moveaxis
from fgrad.transforms.dce import dce
from fgrad.transforms.stage import inline_consts, stage
from fgrad.transforms.vmap import materialize
from fgrad.transforms.zeros import add_tangents, instantiate, zeros


def bind_scan(
    body: ClosedJaxpr, consts: Sequence[Any], carry: Sequence[Any], xs: Sequence[Any], length: int, reverse: bool
) -> tuple[list[Any], list[Any]]:
    """(carry, ys).  Constants of the body and carries that it returns as they came become consts, and what it never
    reads is left out.
    """
    if body.consts:
        consts = [*body.consts, *consts]
        body = cached_on(body, "hoisted", lambda: inline_consts(body))
    slim, still, read = cached_on(body, ("slim", len(consts), len(carry)), lambda: _slim(body, len(consts), len(carry)))
    operands = kept([*consts, *kept(carry, still), *dropped(carry, still), *xs], read)
    n_carry = len(carry) - sum(still)
    n_consts = sum(read[: len(consts) + sum(still)])
    if not slim.out_avals and not slim.jaxpr.effectful:
        out: list[Any] = []
    else:
        out = scan_p.bind(*operands, jaxpr=slim, n_consts=n_consts, n_carry=n_carry, length=length, reverse=reverse)
    moving = iter(out[:n_carry])
    return [c if s else next(moving) for c, s in zip(carry, still)], out[n_carry:]


def _slim(body: ClosedJaxpr, n_consts: int, n_carry: int) -> tuple[ClosedJaxpr, list[bool], list[bool]]:
    """(the body without idle carries and unread operands, which carries are idle, which operands are read)."""
    j = body.jaxpr
    consts, carry, xs = groups(j.invars, n_consts, n_carry)
    out_carry, ys = groups(j.outvars, n_carry)
    still = [v is o for v, o in zip(carry, out_carry)]
    ins = [*consts, *kept(carry, still), *dropped(carry, still), *xs]
    slim = Jaxpr((), ins, j.eqns, [*dropped(out_carry, still), *ys])
    used = reads(slim)
    moving = set(dropped(carry, still))
    read = [v in used or v in moving for v in ins]
    if all(read) and not any(still):
        return body, still, read
    return ClosedJaxpr(Jaxpr((), kept(ins, read), j.eqns, slim.outvars), ()), still, read


# --- values ----------------------------------------------------------------------------------------------------------
def _operand_avals(jaxpr: ClosedJaxpr, n_consts: int, n_carry: int, length: int) -> list[ShapedArray]:
    fixed, xs = groups(jaxpr.in_avals, n_consts + n_carry)
    return [*fixed, *(stacked(a, length) for a in xs)]


def stacked(aval: ShapedArray, length: int) -> ShapedArray:
    return aval.update(shape=(length, *aval.shape))


def _abstract(*avals: ShapedArray, jaxpr: ClosedJaxpr, n_consts: int, n_carry: int, length: int, reverse: bool):
    check_operands("scan", avals, _operand_avals(jaxpr, n_consts, n_carry, length))
    before = jaxpr.in_avals[n_consts : n_consts + n_carry]
    after, ys = groups(jaxpr.out_avals, n_carry)
    check_operands("scan", after, before)
    carry = [a.update(weak_type=a.weak_type and b.weak_type) for a, b in zip(after, before)]
    return (*carry, *(stacked(y, length) for y in ys))


def _reference(*arrays: np.ndarray, jaxpr: ClosedJaxpr, n_consts: int, n_carry: int, length: int, reverse: bool):
    consts, carry, xs = groups(arrays, n_consts, n_carry)
    ys = [np.empty((length, *a.shape), a.dtype) for a in jaxpr.out_avals[n_carry:]]
    for t in reversed(range(length)) if reverse else range(length):
        carry, y = groups(reference_of(jaxpr, [*consts, *carry, *(x[t] for x in xs)]), n_carry)
        for whole, part in zip(ys, y):
            whole[t] = part
    return [*carry, *ys]


def _run(values: list[np.ndarray], *, jaxpr: ClosedJaxpr, n_consts: int, n_carry: int, length: int, reverse: bool):
    params = {"jaxpr": jaxpr, "n_consts": n_consts, "n_carry": n_carry, "length": length, "reverse": reverse}
    return run_equation(scan_p, jaxpr, values, _operand_avals(jaxpr, n_consts, n_carry, length), params)


# --- forward mode ----------------------------------------------------------------------------------------------------
def _jvp_body(jaxpr: ClosedJaxpr, n_consts: int, n_carry: int, nonzero: tuple[bool, ...]):
    """(consts, tangents of consts | carry, tangents of carry | x, tangents of x -> carry, tangents | y, tangents;
    which carries have a tangent, which ys have one).
    """
    nz_consts, nz_start, nz_xs = groups(nonzero, n_consts, n_carry)

    def pushed(nz_carry):
        return jvp_jaxpr(jaxpr, (*nz_consts, *nz_carry, *nz_xs))

    nz_carry = fixed_point(tuple(nz_start), lambda nz: pushed(nz)[1][:n_carry])
    forward, nz_out = pushed(nz_carry)
    n_xs = len(nz_xs)
    carry_avals = jaxpr.in_avals[n_consts : n_consts + n_carry]

    def fun(*args):
        c, tc, k, tk, x, tx = groups(args, n_consts, sum(nz_consts), n_carry, sum(nz_carry), n_xs)[:6]
        out = eval_jaxpr(forward.jaxpr, forward.consts, *c, *k, *x, *tc, *tk, *tx)
        carry, ys, ts = groups(out, n_carry, len(nz_out) - n_carry)
        ts = spread(ts, nz_out, [Zero(a.tangent()) for a in (*carry_avals, *jaxpr.out_avals[n_carry:])])
        return [*carry, *map(instantiate, kept(ts[:n_carry], nz_carry)), *ys, *live(ts[n_carry:])]

    c, k, x = groups(jaxpr.in_avals, n_consts, n_carry)
    avals = []
    for group, nz in ((c, nz_consts), (k, nz_carry), (x, nz_xs)):
        avals += [*group, *(a.tangent() for a in kept(group, nz))]
    return stage(fun, avals, name="jvp"), nz_carry, nz_out[n_carry:]


def _jvp(primals, tangents, *, jaxpr, n_consts, n_carry, length, reverse):
    nonzero = tuple(map(is_live, tangents))
    body, nz_carry, nz_ys = cached_on(
        jaxpr, ("scan jvp", n_consts, n_carry, nonzero), lambda: _jvp_body(jaxpr, n_consts, n_carry, nonzero)
    )
    consts, carry, xs = groups(primals, n_consts, n_carry)
    t_consts, t_carry, t_xs = groups(tangents, n_consts, n_carry)
    out, ys = bind_scan(
        body,
        [*consts, *live(t_consts)],
        [*carry, *map(instantiate, kept(t_carry, nz_carry))],
        [*xs, *live(t_xs)],
        length,
        reverse,
    )
    n_ys = len(nz_ys)
    primals_out = [*out[:n_carry], *ys[:n_ys]]
    zero = [Zero(p.aval.tangent()) for p in primals_out]
    return primals_out, spread([*out[n_carry:], *ys[n_ys:]], (*nz_carry, *nz_ys), zero)


# --- reverse mode: the known loop and the linear one -----------------------------------------------------------------
class _Parts(NamedTuple):
    """A split body, and where the tail's operands come from."""

    u_carry: tuple[bool, ...]
    u_ys: tuple[bool, ...]
    body_consts: tuple[Any, ...]  # leading consts of ``before`` and ``known``
    before: ClosedJaxpr  # consts -> what the tail needs of them
    known: ClosedJaxpr  # results of before, consts | carry | xs -> carry | ys, residuals
    tail: ClosedJaxpr  # consts, results of before, unknown consts | carry | xs, residuals, unknown xs -> carry | ys
    from_consts: list[int]
    from_xs: list[int]
    from_ys: list[int]
    n_ys: int  # of the known ys that are results


def _split_body(jaxpr: ClosedJaxpr, n_consts: int, n_carry: int, unknown: tuple[bool, ...]) -> _Parts:
    u_consts, u_start, u_xs = groups(unknown, n_consts, n_carry)

    def flags(u_carry):
        return (*u_consts, *u_carry, *u_xs)

    u_carry = fixed_point(tuple(u_start), lambda u: split(jaxpr, flags(u)).out_unknown[:n_carry])
    force = (*u_carry, *[False] * (len(jaxpr.out_avals) - n_carry))
    parts = split(jaxpr, flags(u_carry), force)
    k_consts, k_carry, k_xs = (len(u) - sum(u) for u in (u_consts, u_carry, u_xs))
    steady = [*[True] * k_consts, *[False] * (k_carry + k_xs)]
    readable = [*[True] * k_consts, *[False] * k_carry, *[True] * k_xs]
    e = economise(parts, readable, steady)
    k_consts += len(e.consts)
    consts, _, xs = groups(e.known.invars, k_consts, k_carry)
    before, known = hoist(e.known, e.hoisted, consts)
    own_ys = known.outvars[k_carry:]
    extra = [v for v in e.stored if v not in own_ys]
    known = Jaxpr((), known.invars, known.eqns, [*known.outvars, *extra])
    ys = list(known.outvars[k_carry:])

    given_consts = [v for v in e.given if v in set(consts)]
    given_xs = [v for v in e.given if v in set(xs)]
    lin = e.tail.invars[len(e.given) + len(e.hoisted) + len(e.stored) :]
    lin_consts, lin_carry, lin_xs = groups(lin, sum(u_consts), sum(u_carry))
    ins = [*given_consts, *e.hoisted, *lin_consts, *lin_carry, *given_xs, *e.stored, *lin_xs]
    tail = ClosedJaxpr(Jaxpr((), ins, e.tail.eqns, e.tail.outvars), ())
    return _Parts(
        u_carry,
        parts.out_unknown[n_carry:],
        e.consts,
        before,
        dce(ClosedJaxpr(known, ())),
        tail,
        from_consts=[consts.index(v) for v in given_consts],
        from_xs=[xs.index(v) for v in given_xs],
        from_ys=[ys.index(v) for v in e.stored],
        n_ys=len(own_ys),
    )


def _partial_eval(tape, unknown, args, params):
    """The known carries and ys are computed now by one loop, which also stores residuals as further ys; the loop of
    what is left goes on the tape.  A residual that is a const, an element of xs or the same in each step is not stored.
    """
    jaxpr, n_consts, n_carry = params["jaxpr"], params["n_consts"], params["n_carry"]
    key = ("scan split", n_consts, n_carry, tuple(unknown))
    parts = cached_on(jaxpr, key, lambda: _split_body(jaxpr, n_consts, n_carry, tuple(unknown)))
    u_consts, _, u_xs = groups(unknown, n_consts, n_carry)
    consts, carry, xs = groups(args, n_consts, n_carry)
    known_consts, known_xs = [*parts.body_consts, *dropped(consts, u_consts)], dropped(xs, u_xs)
    loop = {"length": params["length"], "reverse": params["reverse"]}
    with using(tape.parent):
        hoisted = bind_closed(parts.before, known_consts, "loop_invariant") if parts.before.out_avals else []
        known_carry, ys = bind_scan(
            parts.known, [*hoisted, *known_consts], dropped(carry, parts.u_carry), known_xs, **loop
        )
    # a carry that is known at first may be unknown later on
    lin_carry = kept(carry, parts.u_carry)
    tail_args = [
        *(known_consts[i] for i in parts.from_consts),
        *hoisted,
        *kept(consts, u_consts),
        *lin_carry,
        *(known_xs[i] for i in parts.from_xs),
        *(ys[i] for i in parts.from_ys),
        *kept(xs, u_xs),
    ]
    n_tail_consts = len(parts.from_consts) + len(hoisted) + sum(u_consts)
    tail_params = {"jaxpr": parts.tail, "n_consts": n_tail_consts, "n_carry": len(lin_carry), **loop}
    late = tape.record(scan_p, tail_args, tail_params) if parts.tail.out_avals else []
    late_carry, late_ys = groups(late, len(lin_carry))
    early_carry, early_ys = iter(known_carry), iter(ys[: parts.n_ys])
    late_carry, late_ys = iter(late_carry), iter(late_ys)
    return [
        *(next(late_carry) if u else next(early_carry) for u in parts.u_carry),
        *(next(late_ys) if u else next(early_ys) for u in parts.u_ys),
    ]


# --- reverse mode: the transposed loop -------------------------------------------------------------------------------
def _transpose_body(jaxpr: ClosedJaxpr, n_consts: int, n_carry: int, linear: tuple[bool, ...], nz: tuple[bool, ...]):
    """A linear step (c, carry, x) -> (carry', y) backwards:

        (residual consts | ct_c, ct_carry' | ct_y, residual xs) -> (ct_c + dc, ct_carry | ct_x)

    and which carries, consts and xs have a cotangent.
    """
    lin_consts, lin_xs = linear[:n_consts], linear[n_consts + n_carry :]
    nz_start, nz_ys = nz[:n_carry], nz[n_carry:]
    n_lin = sum(lin_consts)

    def back(nz_carry):
        return transpose_jaxpr(jaxpr, linear, (*nz_carry, *nz_ys))

    nz_carry = fixed_point(tuple(nz_start), lambda flags: back(flags)[1][n_lin : n_lin + n_carry])
    step, nz_in = back(nz_carry)
    nz_consts, nz_back, nz_xs = groups(nz_in, n_lin, n_carry)
    c_avals, k_avals, x_avals = groups(jaxpr.in_avals, n_consts, n_carry)
    res_c, res_x = dropped(c_avals, lin_consts), dropped(x_avals, lin_xs)
    acc_avals = [a.strong() for a in kept(kept(c_avals, lin_consts), nz_consts)]
    ct_carry_avals = [a.strong() for a in kept(k_avals, nz_carry)]
    ct_y_avals = kept(jaxpr.out_avals[n_carry:], nz_ys)
    sizes = (len(res_c), len(acc_avals), len(ct_carry_avals), len(ct_y_avals))

    def fun(*args):
        rc, acc, ct_carry, ct_ys, rx = groups(args, *sizes)
        out = eval_jaxpr(step.jaxpr, step.consts, *rc, *rx, *ct_carry, *ct_ys)
        d_consts, d_carry, d_xs = groups(out, sum(nz_consts), sum(nz_back))
        d_carry = spread(d_carry, nz_back, [Zero(a) for a in k_avals])
        return [*map(add_tangents, acc, d_consts), *map(instantiate, kept(d_carry, nz_carry)), *d_xs]

    body = stage(fun, [*res_c, *acc_avals, *ct_carry_avals, *ct_y_avals, *res_x], name="transpose")
    return body, nz_carry, nz_consts, nz_xs


def _transpose(cts, *args, jaxpr, n_consts, n_carry, length, reverse):
    # a carry that starts at a known value (the zero tangent) is linear from then on
    given = [isinstance(a, LinearArg) for a in args]
    linear = (*given[:n_consts], *[True] * n_carry, *given[n_consts + n_carry :])
    nz = tuple(map(is_live, cts))
    body, nz_carry, nz_consts, nz_xs = cached_on(
        jaxpr,
        ("scan transpose", n_consts, n_carry, linear, nz),
        lambda: _transpose_body(jaxpr, n_consts, n_carry, linear, nz),
    )
    consts, carry, xs = groups(args, n_consts, n_carry)
    lin_consts, _, lin_xs = groups(linear, n_consts, n_carry)
    acc = [zeros(c.aval) for c in kept(kept(consts, lin_consts), nz_consts)]
    ct_carry = [instantiate(c) for c in kept(cts[:n_carry], nz_carry)]
    out, ct_xs = bind_scan(
        body,
        dropped(consts, lin_consts),
        [*acc, *ct_carry],
        [*live(cts[n_carry:]), *dropped(xs, lin_xs)],
        length,
        not reverse,
    )
    ct_consts = spread(out[: len(acc)], nz_consts, [Zero(c.aval) for c in kept(consts, lin_consts)])
    ct_start = spread(out[len(acc) :], nz_carry, [Zero(c.aval) for c in carry])
    ct_xs = spread(ct_xs, nz_xs, [Zero(x.aval) for x in kept(xs, lin_xs)])
    return [
        *spread(ct_consts, lin_consts, [None] * n_consts),
        *(c if g else None for c, g in zip(ct_start, given[n_consts:])),
        *spread(ct_xs, lin_xs, [None] * len(lin_xs)),
    ]


# --- batching --------------------------------------------------------------------------------------------------------
def _batch_body(jaxpr: ClosedJaxpr, n_consts: int, n_carry: int, axis: Axis, dims: tuple[int | None, ...]):
    """(the body over the axis, which is axis 0 of mapped carries; which carries are mapped; the axis of each y)."""
    c_dims, k_dims, x_dims = groups(dims, n_consts, n_carry)

    def batched(mapped):
        return batch_jaxpr(jaxpr, axis, (*c_dims, *(0 if m else None for m in mapped), *x_dims))

    start = tuple(d is not None for d in k_dims)
    mapped = fixed_point(start, lambda m: [d is not None for d in batched(m)[1][:n_carry]])
    wide, out_dims = batched(mapped)

    def fun(*args):
        out = eval_jaxpr(wide.jaxpr, wide.consts, *args)
        carry = [materialize(o, d, axis.size, 0) if m else o for o, d, m in zip(out, out_dims, mapped)]
        return [*carry, *out[n_carry:]]

    return stage(fun, wide.in_avals, name="vmap"), mapped, out_dims[n_carry:]


def _batch(axis: Axis, args, dims, *, jaxpr, n_consts, n_carry, length, reverse):
    consts, carry, xs = groups(args, n_consts, n_carry)
    c_dims, k_dims, x_dims = groups(dims, n_consts, n_carry)
    # xs [length, ..]: the scanned axis stays in front
    xs = [moveaxis(x, 0, 1) if d == 0 else x for x, d in zip(xs, x_dims)]
    x_dims = [None if d is None else max(d - 1, 0) for d in x_dims]
    inner = (*c_dims, *(None if d is None else 0 for d in k_dims), *x_dims)
    body, mapped, y_dims = cached_on(
        jaxpr,
        ("scan batch", n_consts, n_carry, axis, inner),
        lambda: _batch_body(jaxpr, n_consts, n_carry, axis, inner),
    )
    carry = [materialize(c, d, axis.size, 0) if m else c for c, d, m in zip(carry, k_dims, mapped)]
    out, ys = bind_scan(body, consts, carry, xs, length, reverse)
    return [*out, *ys], [*(0 if m else None for m in mapped), *(None if d is None else d + 1 for d in y_dims)]


# --- dead results ----------------------------------------------------------------------------------------------------
def _prune(eqn: Eqn, used: list[bool]) -> Eqn:
    """Without ys that nobody reads, and without carries that neither a result nor another live carry needs."""
    p = eqn.params
    jaxpr, n_consts, n_carry = p["jaxpr"], p["n_consts"], p["n_carry"]
    flags = tuple(used)

    def carries(live_carry):
        return live_inputs(jaxpr, (*live_carry, *flags[n_carry:]))[n_consts : n_consts + n_carry]

    live_carry = fixed_point(flags[:n_carry], carries)
    outs = (*live_carry, *flags[n_carry:])
    ins = live_inputs(jaxpr, outs)
    ins[n_consts : n_consts + n_carry] = live_carry
    if all(outs) and all(ins):
        return eqn
    body = cached_on(jaxpr, ("pruned", tuple(ins), outs), lambda: restricted(jaxpr, ins, outs))
    params = {**p, "jaxpr": body, "n_consts": sum(ins[:n_consts]), "n_carry": sum(live_carry)}
    return eqn._replace(invars=tuple(kept(eqn.invars, ins)), outvars=tuple(kept(eqn.outvars, outs)), params=params)


def _parts(*, jaxpr: ClosedJaxpr, n_consts: int, n_carry: int, length: int, reverse: bool) -> ForParts:
    return ForParts(jaxpr, n_consts, n_carry, length, reverse)


scan_p = Primitive(
    "scan",
    abstract=_abstract,
    reference=_reference,
    cpu=ForLoop(_parts, _run),
    cuda=NO_CUDA,
    jvp=_jvp,
    transpose=_transpose,
    batch=OverAxis(_batch),
    partial_eval=_partial_eval,
    prune=_prune,
    multiple_results=True,
    own_weak=True,
)
