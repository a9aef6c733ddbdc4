"""cond: one of several branches, chosen by an int32 scalar in range; operands (index, operands), the same for each.

results = branches[index](operands)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Branch
from fgrad.core.jaxpr import ClosedJaxpr, Eqn, Jaxpr, Var, eval_jaxpr
from fgrad.core.primitive import Axis, LinearArg, OverAxis, Primitive, Zero
from fgrad.core.trace import using
from fgrad.higher_order.jit_primitive import (
    batch_jaxpr,
    cached_on,
    jvp_jaxpr,
    reference_of,
    split_jaxpr,
    transpose_jaxpr,
)
from fgrad.higher_order.loops_common import (
    check_operands,
    dropped,
    either,
    is_live,
    kept,
    live,
    live_inputs,
    restricted,
    run_equation,
    spread,
)
from fgrad.higher_order.split import Economy, economise, split
from fgrad.primitives.broadcast import broadcast_in_dim_p
from fgrad.primitives.compare import select_n_p
from fgrad.primitives.define import NO_CUDA
from fgrad.transforms.stage import inline_consts, stage
from fgrad.transforms.vmap import materialize
from fgrad.transforms.zeros import instantiate, zeros

Branches = tuple[ClosedJaxpr, ...]


def cached_on_all(branches: Branches, key: Any, make: Callable[[], Any]) -> Any:
    return cached_on(branches[0], (key, branches[1:]), make)


def bind_cond(index: Any, branches: Branches, operands: Sequence[Any]) -> list[Any]:
    """The results of the chosen branch; constants of the branches become operands of all."""
    hoisted = cached_on_all(branches, "hoisted cond", lambda: _with_common_consts(branches))
    consts = [c for b in branches for c in b.consts]
    if not branches[0].out_avals and not any(b.jaxpr.effectful for b in branches):
        return []
    return cond_p.bind(index, *consts, *operands, branches=hoisted)


def _with_common_consts(branches: Branches) -> Branches:
    """Branches that take the constants of all of them, in order, as leading inputs."""
    if not any(b.consts for b in branches):
        return branches
    return with_all_consts([inline_consts(b) for b in branches], [len(b.consts) for b in branches])


def with_all_consts(branches: Sequence[ClosedJaxpr], n_consts: Sequence[int]) -> Branches:
    """Branches of (own consts, operands) as branches of (the consts of all, operands)."""
    out = []
    for k, b in enumerate(branches):
        consts: list[Var] = []
        for i, (other, n) in enumerate(zip(branches, n_consts)):
            consts += b.jaxpr.invars[:n] if i == k else map(Var, other.in_avals[:n])
        out.append(ClosedJaxpr(Jaxpr((), [*consts, *b.jaxpr.invars[n_consts[k] :]], b.eqns, b.jaxpr.outvars), ()))
    return tuple(out)


# --- values ----------------------------------------------------------------------------------------------------------
_INDEX = ShapedArray((), dtypes.int32)


def _abstract(*avals: ShapedArray, branches: Branches) -> tuple[ShapedArray, ...]:
    for b in branches:
        check_operands("cond", avals, (_INDEX, *b.in_avals))
        check_operands("cond", b.out_avals, branches[0].out_avals)
    return tuple(a[0].update(weak_type=all(o.weak_type for o in a)) for a in zip(*(b.out_avals for b in branches)))


def _reference(index: np.ndarray, *arrays: np.ndarray, branches: Branches) -> list[np.ndarray]:
    return reference_of(branches[int(index)], arrays)


def _run(values: list[np.ndarray], *, branches: Branches):
    return run_equation(cond_p, branches[0], values, (_INDEX, *branches[0].in_avals), {"branches": branches})


# --- forward mode ----------------------------------------------------------------------------------------------------
def _jvp_branches(branches: Branches, nonzero: tuple[bool, ...]) -> tuple[Branches, tuple[bool, ...]]:
    pushed = [jvp_jaxpr(b, nonzero) for b in branches]
    nz_out = tuple(map(any, zip(*(nz for _, nz in pushed))))
    n = len(nz_out)
    zero = [Zero(a.tangent()) for a in branches[0].out_avals]

    def with_tangents(forward: ClosedJaxpr, own_nz: tuple[bool, ...]) -> ClosedJaxpr:
        def fun(*args):
            out = eval_jaxpr(forward.jaxpr, forward.consts, *args)
            return [*out[:n], *map(instantiate, kept(spread(out[n:], own_nz, zero), nz_out))]

        return forward if own_nz == nz_out else stage(fun, forward.in_avals, name="jvp")

    return tuple(with_tangents(*p) for p in pushed), nz_out


def _jvp(primals, tangents, *, branches: Branches):
    nonzero = tuple(map(is_live, tangents[1:]))  # the index is an integer: it has no tangent
    pushed, nz_out = cached_on_all(branches, ("cond jvp", nonzero), lambda: _jvp_branches(branches, nonzero))
    out = bind_cond(primals[0], pushed, [*primals[1:], *live(tangents[1:])])
    n = len(nz_out)
    return out[:n], spread(out[n:], nz_out, [Zero(o.aval.tangent()) for o in out[:n]])


# --- reverse mode: the known branches and the linear ones ------------------------------------------------------------
class _Parts(NamedTuple):
    """known: known operands -> known results, slots;  tail: known operands ``reads``, slots, unknown operands -> the
    unknown results.
    """

    known: Branches
    tail: Branches
    reads: list[int]
    out_unknown: tuple[bool, ...]


def _split_branches(branches: Branches, unknown: tuple[bool, ...]) -> _Parts:
    parts = [split_jaxpr(b, unknown) for b in branches]
    out_unknown = tuple(map(any, zip(*(p.out_unknown for p in parts))))
    parts = [p if p.out_unknown == out_unknown else split(b, unknown, out_unknown) for b, p in zip(branches, parts)]
    n_known = len(unknown) - sum(unknown)
    chosen = [economise(p, [True] * n_known, [False] * n_known) for p in parts]
    # nothing runs before a branch is chosen: what depends on no input is stored like the rest
    chosen = [e._replace(hoisted=(), stored=(*e.hoisted, *e.stored)) for e in chosen]
    # a slot holds the residual of whichever branch runs: of each type, as many as the branch that needs most of it
    needs = [Counter((v.aval.shape, v.aval.dtype) for v in e.stored) for e in chosen]
    most = Counter[Any]()
    for c in needs:
        most |= c
    slots = [ShapedArray(*kind) for kind in most.elements()]
    in_avals = dropped(branches[0].in_avals, unknown)
    lin_avals = kept(branches[0].in_avals, unknown)
    inputs = [e.known.invars[len(e.consts) :] for e in chosen]
    reads = [i for i in range(n_known) if any(ins[i] in e.given for e, ins in zip(chosen, inputs))]
    known, tail = [], []
    for e, ins in zip(chosen, inputs):
        at = _places(e.stored, slots)
        known.append(stage(_known_branch(e, slots, at), in_avals, name="linearize"))
        avals = [*(in_avals[i] for i in reads), *slots, *lin_avals]
        tail.append(stage(_tail_branch(e, [ins[i] for i in reads], len(slots), at), avals, name="linearize"))
    return _Parts(tuple(known), tuple(tail), reads, out_unknown)


def _places(stored: Sequence[Var], slots: Sequence[ShapedArray]) -> dict[int, int]:
    """slot -> which of the residuals it holds; each takes the first free slot of its type."""
    at: dict[int, int] = {}
    for i, v in enumerate(stored):
        at[next(s for s, a in enumerate(slots) if s not in at and a.same_type(v.aval))] = i
    return at


def _known_branch(e: Economy, slots: Sequence[ShapedArray], at: dict[int, int]) -> Callable[..., list[Any]]:
    n = len(e.known.outvars)
    jaxpr = Jaxpr((), e.known.invars, e.known.eqns, [*e.known.outvars, *e.stored])

    def fun(*args):
        out = eval_jaxpr(jaxpr, (), *e.consts, *args)
        return [*out[:n], *(out[n + at[s]] if s in at else zeros(a) for s, a in enumerate(slots))]

    return fun


def _tail_branch(e: Economy, read: Sequence[Var], n_slots: int, at: dict[int, int]) -> Callable[..., list[Any]]:
    constants = dict(zip(e.known.invars, e.consts))

    def fun(*args):
        values = {**constants, **dict(zip(read, args))}
        held = {i: args[len(read) + s] for s, i in at.items()}
        stored = [held[i] for i in range(len(e.stored))]
        return eval_jaxpr(e.tail, (), *(values[v] for v in e.given), *stored, *args[len(read) + n_slots :])

    return fun


def _partial_eval(tape, unknown, args, params):
    """The chosen branch's known part runs now; its residuals go through slots that the branches share.  An operand is
    read again, not stored.
    """
    branches = params["branches"]
    if unknown[0]:
        return tape.record(cond_p, args, params)
    flags = tuple(unknown[1:])
    parts = cached_on_all(branches, ("cond split", flags), lambda: _split_branches(branches, flags))
    index, known_args = args[0], dropped(args[1:], flags)
    with using(tape.parent):
        out = bind_cond(index, parts.known, known_args)
    n_known = len(parts.out_unknown) - sum(parts.out_unknown)
    late: list[Any] = []
    if any(parts.out_unknown):
        tail = cached_on_all(parts.tail, "hoisted cond", lambda: _with_common_consts(parts.tail))
        consts = [c for b in parts.tail for c in b.consts]
        operands = [*consts, *(known_args[i] for i in parts.reads), *out[n_known:], *kept(args[1:], flags)]
        late = tape.record(cond_p, [index, *operands], {"branches": tail})
    early_it, late_it = iter(out[:n_known]), iter(late)
    return [next(late_it) if u else next(early_it) for u in parts.out_unknown]


# --- reverse mode: the transposed branches ---------------------------------------------------------------------------
def _transpose_branches(branches: Branches, linear: tuple[bool, ...], nz: tuple[bool, ...]):
    backs = [transpose_jaxpr(b, linear, nz) for b in branches]
    nz_in = tuple(map(any, zip(*(f for _, f in backs))))
    zero = [Zero(a) for a in kept(branches[0].in_avals, linear)]

    def with_zeros(back: ClosedJaxpr, own_nz: tuple[bool, ...]) -> ClosedJaxpr:
        def fun(*args):
            out = spread(eval_jaxpr(back.jaxpr, back.consts, *args), own_nz, zero)
            return list(map(instantiate, kept(out, nz_in)))

        return back if own_nz == nz_in else stage(fun, back.in_avals, name="transpose")

    return tuple(with_zeros(*b) for b in backs), nz_in


def _transpose(cts, index, *args, branches: Branches):
    linear = tuple(isinstance(a, LinearArg) for a in args)
    nz = tuple(map(is_live, cts))
    key = ("cond transpose", linear, nz)
    backs, nz_in = cached_on_all(branches, key, lambda: _transpose_branches(branches, linear, nz))
    out = bind_cond(index, backs, [*dropped(args, linear), *live(cts)])
    out = spread(out, nz_in, [Zero(a.aval) for a in kept(args, linear)])
    return [None, *spread(out, linear, [None] * len(linear))]


# --- batching --------------------------------------------------------------------------------------------------------
def _batch_branches(branches: Branches, axis: Axis, dims: tuple[int | None, ...]):
    wide = [batch_jaxpr(b, axis, dims) for b in branches]
    mapped = [any(d is not None for d in ds) for ds in zip(*(ds for _, ds in wide))]

    def at_front(b: ClosedJaxpr, out_dims: tuple[int | None, ...]) -> ClosedJaxpr:
        def fun(*args):
            out = eval_jaxpr(b.jaxpr, b.consts, *args)
            return [materialize(o, d, axis.size, 0) if m else o for o, d, m in zip(out, out_dims, mapped)]

        return stage(fun, b.in_avals, name="vmap")

    return tuple(at_front(*b) for b in wide), [0 if m else None for m in mapped]


def _batch(axis: Axis, args, dims, *, branches: Branches):
    (index, *operands), (index_dim, *inner) = args, dims
    inner = tuple(inner)
    if index_dim is None:
        key = ("cond batch", axis, inner)
        wide, out_dims = cached_on_all(branches, key, lambda: _batch_branches(branches, axis, inner))
        return bind_cond(index, wide, operands), out_dims
    # each element takes its own branch: all are computed, [size, ..] each, and the elements chosen
    results = []
    for b in branches:
        every, _ = batch_jaxpr(b, axis, inner, True)
        results.append(eval_jaxpr(every.jaxpr, every.consts, *operands))
    out = []
    for cases in zip(*results):
        which = broadcast_in_dim_p.bind(index, shape=cases[0].shape, broadcast_dimensions=(0,))
        out.append(select_n_p.bind(which, *cases))
    return out, [0] * len(out)


# --- dead results ----------------------------------------------------------------------------------------------------
def _prune(eqn: Eqn, used: list[bool]) -> Eqn:
    """Without results that nobody reads and operands that no branch then needs."""
    branches = eqn.params["branches"]
    ins: tuple[bool, ...] = (False,) * len(branches[0].in_avals)
    for b in branches:
        ins = either(ins, live_inputs(b, used))
    if all(used) and all(ins):
        return eqn
    key = ("pruned", tuple(used), ins)
    slim = cached_on_all(branches, key, lambda: tuple(restricted(b, ins, used) for b in branches))
    invars = (eqn.invars[0], *kept(eqn.invars[1:], ins))
    return eqn._replace(invars=invars, outvars=tuple(kept(eqn.outvars, used)), params={"branches": slim})


cond_p = Primitive(
    "cond",
    abstract=_abstract,
    reference=_reference,
    cpu=Branch(lambda *, branches: branches, _run),
    cuda=NO_CUDA,
    jvp=_jvp,
    transpose=_transpose,
    batch=OverAxis(_batch),
    partial_eval=_partial_eval,
    prune=_prune,
    multiple_results=True,
    own_weak=True,
)
