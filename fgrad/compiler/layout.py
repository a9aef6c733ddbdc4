"""Channels-last inside, whatever the user wrote.

The convolution's kernels store features side by side.  Where a convolution's result has its features elsewhere (NCHW),
it becomes one whose result is channels-last, followed by a transpose, which is a view and costs nothing:

    y = conv[out_spec NCHW](x, w)      ->      z = conv[out_spec NHWC](x, w);   y = transpose(z)

The transpose then sinks through what follows: f(transpose(z)) = transpose(f(z)) for element-wise f, for reductions,
windows, padding and slices with their axes renamed; and a convolution reads z by its own lhs_spec.  What is left are
transposes at the edges: where an operation needs the order of the axes, or the program returns the value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Fold, ScalarMap
from fgrad.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Var
from fgrad.primitives.concatenate import concatenate_p
from fgrad.primitives.conv import ConvDimensionNumbers, conv_general_dilated_p
from fgrad.primitives.padding import pad_p, slice_p
from fgrad.primitives.transpose import inverse, transpose_p
from fgrad.primitives.window import reduce_window_sum_p
from fgrad.primitives.window_winners import (
    gather_winners_p,
    reduce_window_max_p,
    reduce_window_min_p,
    reduce_window_winner_p,
    scatter_winners_p,
)

LEAST_ELEMENTS = 1 << 12  # of a result: smaller ones stay in the L1 cache in any order

_WINDOWS = (reduce_window_max_p, reduce_window_min_p, reduce_window_sum_p, reduce_window_winner_p)
#: Taps have numbers, in row-major order of the window.
_NUMBERED = (reduce_window_winner_p, gather_winners_p, scatter_winners_p)
_WINDOW = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
#: Parameters with an entry for each axis.
_BY_AXIS = {
    pad_p: ("padding_config",),
    slice_p: ("start_indices", "limit_indices", "strides"),
    **dict.fromkeys((*_WINDOWS, gather_winners_p), _WINDOW),
    scatter_winners_p: ("shape", *_WINDOW),
}
Order = tuple[int, ...]


class _Turned(NamedTuple):
    """The value is transpose(``atom``, ``order``): its axis i is axis order[i] of ``atom``."""

    atom: Var
    order: Order


def channels_last(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The same program, with large results of convolutions in memory as [batch, *spatial, feature]."""
    if not any([_wants(e) for e in closed.eqns if e.primitive is conv_general_dilated_p]):
        return closed
    return _Sinker(_gains(closed)).run(closed)


def _wants(eqn: Eqn) -> bool:
    """Whether the result of the convolution is large and its features are not adjacent."""
    out, feature = eqn.outvars[0].aval, eqn.params["dimension_numbers"][2][1]
    return feature != out.ndim - 1 and out.size >= LEAST_ELEMENTS and out.shape[feature] > 1


def _is_window(eqn: Eqn) -> bool:
    """Whether the result is no larger than the window: the gradient of a weight, which goes to where the weight is."""
    (_, rhs_spec, (_, _, *spatial)), rhs = eqn.params["dimension_numbers"], eqn.invars[1].aval
    out = eqn.outvars[0].aval
    return math.prod(out.shape[a] for a in spatial) < math.prod(rhs.shape[a] for a in rhs_spec[2:])


def _gains(closed: ClosedJaxpr) -> set[Var]:
    """Values that a convolution, window or reduction reads, if only through element-wise equations and the like."""
    gains: set[Var] = set()
    for eqn in reversed(closed.eqns):
        prim = eqn.primitive
        reads = prim is conv_general_dilated_p or prim in _WINDOWS or isinstance(prim.cpu, Fold)
        if reads or (_follows(eqn) and eqn.outvars[0] in gains):
            gains.update(a for a in eqn.invars if isinstance(a, Var))
    return gains


def _follows(eqn: Eqn) -> bool:
    """Whether a transpose of an operand can sink through the equation."""
    prim = eqn.primitive
    return prim in _BY_AXIS or prim in (concatenate_p, transpose_p) or isinstance(prim.cpu, ScalarMap | Fold)


def _keeps_numbers(eqn: Eqn, order: Order) -> bool:
    """Whether taps keep their numbers when the axes of a window are turned: those that it has stay in their order."""
    if eqn.primitive not in _NUMBERED:
        return True
    places = [order[axis] for axis, size in enumerate(eqn.params["window_dimensions"]) if size > 1]
    return places == sorted(places)


class _Sinker:
    def __init__(self, gains: set[Var]) -> None:
        self.gains = gains
        self.eqns: list[Eqn] = []
        self.turned: dict[Atom, _Turned] = {}
        self.made: dict[tuple[Atom, Order], Atom] = {}  # transposes that are there already

    def run(self, closed: ClosedJaxpr) -> ClosedJaxpr:
        for eqn in closed.eqns:
            if eqn.primitive is conv_general_dilated_p:
                self.convolution(eqn)
            elif self.sinks(eqn) and (order := self.order(eqn)) is not None and _keeps_numbers(eqn, order):
                self.follow(eqn, order)
            else:
                self.eqns.append(eqn._replace(invars=tuple(map(self.plain, eqn.invars))))
        j = closed.jaxpr
        outvars = [self.plain(a) for a in j.outvars]
        return ClosedJaxpr(Jaxpr(j.constvars, j.invars, self.eqns, outvars), closed.consts)

    def sinks(self, eqn: Eqn) -> bool:
        smaller = isinstance(eqn.primitive.cpu, Fold) or eqn.primitive in _WINDOWS  # what needs the order comes cheaper
        return _follows(eqn) and (smaller or eqn.outvars[0] in self.gains)

    # --- values -----------------------------------------------------------------------------------------------------
    def transposed(self, a: Atom, order: Order) -> Atom:
        if order == tuple(range(len(order))):
            return a
        if (a, order) not in self.made:
            out = Var(_permuted(a.aval, order))
            self.eqns.append(Eqn(transpose_p, (a,), (out,), {"permutation": order}))
            self.made[a, order] = out
        return self.made[a, order]

    def plain(self, a: Atom) -> Atom:
        """The value with its axes in the order that the program gave them."""
        return self.transposed(*self.turned[a]) if a in self.turned else a

    def inner(self, a: Atom, order: Order) -> Atom:
        """x with transpose(x, order) = the value."""
        if a.aval.ndim != len(order):
            return a
        if a in self.turned and self.turned[a].order == order:
            return self.turned[a].atom
        return self.transposed(self.plain(a), inverse(order))

    def order(self, eqn: Eqn) -> Order | None:
        """How the first operand that is turned is."""
        ndim = max((a.aval.ndim for a in eqn.invars), default=0)
        return next((self.turned[a].order for a in eqn.invars if a in self.turned and a.aval.ndim == ndim), None)

    def emit(self, eqn: Eqn, invars: Sequence[Atom], params: dict, order: Order) -> None:
        """The equation in the order of its operands; its values are what comes out, transposed by ``order``."""
        if order == tuple(range(len(order))):
            self.eqns.append(eqn._replace(invars=tuple(invars), params=params))
            return
        outs = tuple([Var(_permuted(old.aval, inverse(order))) for old in eqn.outvars])
        self.eqns.append(eqn._replace(invars=tuple(invars), outvars=outs, params=params))
        self.turned.update((old, _Turned(new, order)) for old, new in zip(eqn.outvars, outs))

    # --- equations --------------------------------------------------------------------------------------------------
    def convolution(self, eqn: Eqn) -> None:
        specs, invars = list(eqn.params["dimension_numbers"]), list(eqn.invars)
        for k, a in enumerate(eqn.invars):
            if a in self.turned:
                invars[k], order = self.turned[a]
                specs[k] = tuple(order[axis] for axis in specs[k])
        order = tuple(range(len(specs[2])))
        (out,) = eqn.outvars
        if _wants(eqn) and (_is_window(eqn) or out in self.gains):
            # [batch, feature, *spatial] of the old result are axes 0, last, 1, 2, ... of the new one
            batch, feature, *spatial = specs[2]
            specs[2] = (0, len(spatial) + 1, *range(1, len(spatial) + 1))
            at = dict(zip((batch, feature, *spatial), specs[2]))
            order = tuple(at[axis] for axis in order)
        params = {**eqn.params, "dimension_numbers": ConvDimensionNumbers(*specs)}
        self.emit(eqn, invars, params, order)

    def follow(self, eqn: Eqn, order: Order) -> None:
        prim, params = eqn.primitive, dict(eqn.params)
        if prim is transpose_p:
            (a,) = eqn.invars
            sunk = tuple(order[axis] for axis in params["permutation"])
            self.turned[eqn.outvars[0]] = _Turned(self.turned[a].atom, sunk)
            return
        invars = [self.inner(a, order) for a in eqn.invars]
        if isinstance(prim.cpu, Fold):
            gone = {order[axis] for axis in params["axes"]}
            stay = sorted(set(order) - gone)
            params["axes"] = tuple(sorted(gone))
            order = tuple(stay.index(order[axis]) for axis in range(len(order)) if order[axis] not in gone)
        elif prim is concatenate_p:
            params["dimension"] = order[params["dimension"]]
        for name in _BY_AXIS.get(prim, ()):
            if params[name] is not None:
                params[name] = tuple(params[name][axis] for axis in inverse(order))
        self.emit(eqn, invars, params, order)


def _permuted(aval: ShapedArray, order: Order) -> ShapedArray:
    return ShapedArray(tuple(aval.shape[a] for a in order), aval.dtype, aval.weak_type)
