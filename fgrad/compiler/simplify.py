"""Passes from jaxpr to jaxpr: inlining, common subexpressions, folding dilate/pad/undilate into the convolution that
reads or feeds them (rev and transpose need no pass: they are strided views to every kernel), sums into scatters, and
sums that follow from others (`sums`).

Each pass returns a well-typed jaxpr (fgrad.core.check); none changes a result but by rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad.compiler.control import simplify_control
from fgrad.compiler.layout import channels_last
from fgrad.compiler.sums import reuse_sums
from fgrad.core.array import ConcreteArray
from fgrad.core.backends import Alias, Inline, ScalarMap
from fgrad.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var, is_effectful
from fgrad.primitives.arithmetic import add_p
from fgrad.primitives.broadcast import broadcast_in_dim_p
from fgrad.primitives.conv import conv_general_dilated_p
from fgrad.primitives.dilate import dilate_p, undilate_p
from fgrad.primitives.indexing import scatter_p
from fgrad.primitives.padding import pad_p
from fgrad.transforms.dce import dce


def simplify(closed: ClosedJaxpr) -> ClosedJaxpr:
    """All passes, to a program of first-order equations, loops and branches, whose bodies are such programs too."""
    inlined = inline(closed)
    if inlined is not closed:
        inlined = dce(inlined)
    closed = dce(common_subexpressions(inlined))
    opened = simplify_control(closed, simplify)
    if opened is not closed:  # what moved out of a loop may be an equal expression, or dead
        closed = dce(common_subexpressions(opened))
    folded = fold_into_scatters(fold_into_convolutions(closed))
    summed = reuse_sums(folded)
    if summed is not folded:
        summed = common_subexpressions(summed)
    return channels_last(summed if summed is closed else dce(summed))


def inline(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Replaces every equation that holds a jaxpr to be inlined (a nested jit, say) by its equations."""
    return _open(closed, lambda kind: True)


def open_calls(closed: ClosedJaxpr) -> ClosedJaxpr:
    """``inline`` for mere calls only: what has derivatives of its own keeps them."""
    return _open(closed, lambda kind: not kind.keeps_rules)


def _open(closed: ClosedJaxpr, opens: Callable[[Inline], bool]) -> ClosedJaxpr:
    if not any([type(e.primitive.cpu) is Inline and opens(e.primitive.cpu) for e in closed.eqns]):
        return closed
    constvars, consts = list(closed.jaxpr.constvars), list(closed.consts)
    eqns: list[Eqn] = []

    def run(jaxpr: Jaxpr, env: dict[Var, Atom]) -> list[Atom]:
        def read(a: Atom) -> Atom:
            return env.get(a, a) if isinstance(a, Var) else a

        for eqn in jaxpr.eqns:
            invars = tuple(map(read, eqn.invars))
            kind = eqn.primitive.cpu
            if type(kind) is not Inline or not opens(kind):
                outvars = tuple(Var(v.aval) for v in eqn.outvars)
                env.update(zip(eqn.outvars, outvars))
                eqns.append(eqn._replace(invars=invars, outvars=outvars))
                continue
            sub = eqn.params[kind.jaxpr_param]
            inner: dict[Var, Atom] = dict(zip(sub.jaxpr.invars, invars))
            for v, c in zip(sub.jaxpr.constvars, sub.consts):
                constvars.append(Var(v.aval))
                consts.append(c)
                inner[v] = constvars[-1]
            env.update(zip(eqn.outvars, run(sub.jaxpr, inner)))
        return [read(v) for v in jaxpr.outvars]

    outvars = run(closed.jaxpr, {})
    return ClosedJaxpr(Jaxpr(constvars, closed.jaxpr.invars, eqns, outvars), consts)


def _atom_key(a: Atom) -> Any:
    if isinstance(a, Literal):
        return (a.val._value.dtype, a.val._value.tobytes())
    return a


def common_subexpressions(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Computes equal expressions once and arithmetic on known numbers now, and drops equations that change nothing
    (a reshape to the same shape).  The same jaxpr where there is none.
    """
    env: dict[Atom, Atom] = {}  # by what a result that is dropped is replaced
    dropped = env.keys()
    seen: dict[Any, Eqn] = {}  # the first equation of a primitive on these operands
    several: dict[Any, dict[tuple, Eqn]] = {}  # all of them, by their parameters, where there is more than one
    eqns: list[Eqn] = []
    for eqn in closed.eqns:
        prim = eqn.primitive
        if not dropped.isdisjoint(eqn.invars):
            eqn = eqn._replace(invars=tuple([env.get(a, a) for a in eqn.invars]))
        if prim.name in _MAY_CHANGE_NOTHING and _changes_nothing(eqn):
            env[eqn.outvars[0]] = eqn.invars[0]
            continue
        if (prim.effectful or prim.multiple_results) and (is_effectful(eqn) or type(prim.cpu) is Alias):
            eqns.append(eqn)
            continue
        if type(prim.cpu) is ScalarMap and type(eqn.invars[0]) is Literal and (number := _number(eqn)) is not None:
            env[eqn.outvars[0]] = number
            continue
        key = prim, *[a if type(a) is Var else _atom_key(a) for a in eqn.invars]
        first = seen.setdefault(key, eqn)
        if first is not eqn:
            if key not in several:
                several[key] = {_statics(first): first}
            equal = several[key].setdefault(_statics(eqn), eqn)
            if equal is not eqn:
                env.update(zip(eqn.outvars, equal.outvars))
                continue
        eqns.append(eqn)
    if not env:
        return closed
    j = closed.jaxpr
    return ClosedJaxpr(Jaxpr(j.constvars, j.invars, eqns, [env.get(v, v) for v in j.outvars]), closed.consts)


def _statics(eqn: Eqn) -> tuple:
    """Its parameters with their types, since 1, 1.0 and True are equal."""
    return tuple(sorted([(name, type(value), value) for name, value in eqn.params.items()]))  # names differ


def _number(eqn: Eqn) -> Literal | None:
    """The result of element-wise arithmetic on scalars that are all known."""
    known = [a.val for a in eqn.invars if isinstance(a, Literal)]
    if len(known) < len(eqn.invars):
        return None
    with np.errstate(all="ignore"):
        value = eqn.primitive.reference(*map(np.asarray, known), **eqn.params)
    aval = eqn.outvars[0].aval
    return Literal(ConcreteArray(np.asarray(value), aval.weak_type), aval)


_MAY_CHANGE_NOTHING = {"transpose", "reshape", "broadcast_in_dim", "convert_element_type", "stop_gradient"}


def _changes_nothing(eqn: Eqn) -> bool:
    """Of a primitive that may."""
    if eqn.primitive.name == "transpose":
        return eqn.params["permutation"] == tuple(range(len(eqn.params["permutation"])))
    return eqn.invars[0].aval.same_type(eqn.outvars[0].aval)


def fold_into_convolutions(closed: ClosedJaxpr) -> ClosedJaxpr:
    """dilate(x) and zero-pad(x) become the convolution's own lhs_dilation and padding, dilate(w) its rhs_dilation, and
    undilate(conv) its window_strides: no inserted zero is ever stored.  The same jaxpr where there is none.
    """
    present = {e.primitive for e in closed.eqns}
    if conv_general_dilated_p not in present or present.isdisjoint((dilate_p, pad_p, undilate_p)):
        return closed
    producer: dict[Atom, Eqn] = {v: e for e in closed.eqns for v in e.outvars}
    uses = Counter([a for e in closed.eqns for a in e.invars] + list(closed.jaxpr.outvars))
    eqns: list[Eqn] = []
    folded: dict[Atom, Eqn] = {}
    changed = False
    for eqn in closed.eqns:
        if eqn.primitive is conv_general_dilated_p:
            whole = _absorb_operands(eqn, producer)
            changed = changed or whole.invars != eqn.invars
            eqn = whole
            folded[eqn.outvars[0]] = eqn
        elif eqn.primitive is undilate_p and (source := eqn.invars[0]) in folded and uses[source] == 1:
            merged = _absorb_undilate(folded[source], eqn)
            if merged is not None:
                eqns = [e for e in eqns if source not in e.outvars]
                eqn, changed = merged, True
                folded[eqn.outvars[0]] = eqn
        eqns.append(eqn)
    if not changed:
        return closed
    j = closed.jaxpr
    return ClosedJaxpr(Jaxpr(j.constvars, j.invars, eqns, j.outvars), closed.consts)


def fold_into_scatters(closed: ClosedJaxpr) -> ClosedJaxpr:
    """x + scatter_add(0, indices, updates) is scatter_add(x, indices, updates).

    The left side is how gradients of indexing are summed up.  In a loop, the right one touches the indexed elements
    only.  The same jaxpr where there is none.
    """
    scatters = {e.outvars[0] for e in closed.eqns if e.primitive is scatter_p}
    if not any([e.primitive is add_p and not scatters.isdisjoint(e.invars) for e in closed.eqns]):
        return closed
    producer: dict[Atom, Eqn] = {v: e for e in closed.eqns for v in e.outvars}
    uses = Counter([a for e in closed.eqns for a in e.invars] + list(closed.jaxpr.outvars))

    def onto(x: Atom, y: Atom, out: Var) -> list[Eqn] | None:
        """x + y as scatters into x."""
        scatter = producer.get(y)
        if scatter is None or scatter.primitive is not scatter_p or scatter.params["kind"] != "add" or uses[y] > 1:
            return None
        base, *rest = scatter.invars
        if is_zero(base):
            return [scatter._replace(invars=(x, *rest), outvars=(out,))]
        between = Var(out.aval)
        before = onto(x, base, between)
        return None if before is None else [*before, scatter._replace(invars=(between, *rest), outvars=(out,))]

    def is_zero(x: Atom) -> bool:
        made = producer.get(x)
        value = made.invars[0] if made is not None and made.primitive is broadcast_in_dim_p else None
        return isinstance(value, Literal) and bool(np.asarray(value.val) == 0)

    eqns = []
    for eqn in closed.eqns:
        parts = [eqn]
        if eqn.primitive is add_p:
            (x, y), (out,) = eqn.invars, eqn.outvars
            parts = onto(x, y, out) or onto(y, x, out) or parts
            producer.update((e.outvars[0], e) for e in parts)
        eqns += parts
    j = closed.jaxpr
    return ClosedJaxpr(Jaxpr(j.constvars, j.invars, eqns, j.outvars), closed.consts)


def _absorb_operands(eqn: Eqn, producer: dict[Atom, Eqn]) -> Eqn:
    p = dict(eqn.params)
    lhs_spec, rhs_spec, _ = p["dimension_numbers"]
    lhs, rhs = eqn.invars
    while isinstance(lhs, Var) and lhs in producer:
        source = producer[lhs]
        if source.primitive is dilate_p:
            # lhs_dilation(dilate(x, f), d) = lhs_dilation(x, f d), on spatial axes only
            f = source.params["factors"]
            if f[lhs_spec[0]] != 1 or f[lhs_spec[1]] != 1:
                break
            p["lhs_dilation"] = tuple(d * f[a] for d, a in zip(p["lhs_dilation"], lhs_spec[2:]))
        elif source.primitive is pad_p and (padding := _merged_padding(source, p)) is not None:
            p["padding"] = padding
        else:
            break
        lhs = source.invars[0]
    while isinstance(rhs, Var) and rhs in producer and producer[rhs].primitive is dilate_p:
        f = producer[rhs].params["factors"]
        if f[rhs_spec[0]] != 1 or f[rhs_spec[1]] != 1:
            break
        p["rhs_dilation"] = tuple(d * f[a] for d, a in zip(p["rhs_dilation"], rhs_spec[2:]))
        rhs = producer[rhs].invars[0]
    return eqn._replace(invars=(lhs, rhs), params=p)


def _merged_padding(pad: Eqn, p: dict[str, Any]) -> tuple[tuple[int, int], ...] | None:
    """conv padding ∘ pad, where the pad inserts zeros at the ends of undilated spatial axes.

    A crop followed by zeros (or zeros by a crop) is no single padding, so the signs must agree.
    """
    fill = pad.invars[1]
    if not isinstance(fill, Literal) or np.asarray(fill.val) != 0:
        return None
    config = pad.params["padding_config"]
    lhs_spec = p["dimension_numbers"][0]
    if any(config[a] != (0, 0, 0) for a in lhs_spec[:2]):
        return None
    out = []
    for axis, (lo, hi), dilation in zip(lhs_spec[2:], p["padding"], p["lhs_dilation"]):
        plo, phi, interior = config[axis]
        if interior or (dilation != 1 and (plo or phi)) or plo * lo < 0 or phi * hi < 0:
            return None
        out.append((lo + plo, hi + phi))
    return tuple(out)


def _absorb_undilate(conv: Eqn, undilate: Eqn) -> Eqn | None:
    """Every f-th output of a convolution of stride s is a convolution of stride s f."""
    out_spec = conv.params["dimension_numbers"][2]
    f = undilate.params["factors"]
    if f[out_spec[0]] != 1 or f[out_spec[1]] != 1:
        return None
    strides = tuple(s * f[a] for s, a in zip(conv.params["window_strides"], out_spec[2:]))
    return conv._replace(outvars=undilate.outvars, params={**conv.params, "window_strides": strides})
