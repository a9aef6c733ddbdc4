"""The primitive of a jitted call: every transformation of it is a transformation of the jaxpr it holds.

Results are cached on the jaxpr itself, so they live exactly as long as it does.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fgrad.core import caches, collector
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Inline
from fgrad.core.jaxpr import ClosedJaxpr, Literal, Var, eval_jaxpr
from fgrad.core.primitive import Axis, LinearArg, OverAxis, Primitive, Zero
from fgrad.core.trace import using
from fgrad.higher_order.split import Split, split
from fgrad.primitives.define import NO_CUDA
from fgrad.transforms.jvp import jvp_flat
from fgrad.transforms.linearize import linear_tape
from fgrad.transforms.stage import inline_consts, stage
from fgrad.transforms.vmap import materialize, vmap_flat

if TYPE_CHECKING:
    from fgrad.compiler.program import Program

MOST_DERIVED = 256  # results kept on one jaxpr


def cached_on(closed: ClosedJaxpr, key: Any, make: Callable[[], Any]) -> Any:
    """make(), once for each key of this jaxpr; of more than ``MOST_DERIVED``, those used last are kept."""
    derived = closed.derived
    value = derived.pop(key, None)
    if value is None:
        value = make()
        for oldest in list(derived)[: max(0, len(derived) + 1 - MOST_DERIVED)]:
            derived.pop(oldest, None)
    derived[key] = value
    return value


def program_of(closed: ClosedJaxpr, donated: frozenset[int] = frozenset()) -> Program:
    """The program of a trace that counts itself among the caches."""
    return cached_on(closed, ("program", donated), lambda: _compiled(closed, donated))


def _compiled(closed: ClosedJaxpr, donated: frozenset[int] = frozenset()) -> Program:
    with collector.paused():
        from fgrad.compiler.program import Program  # loaded by the first compilation, not by ``import fgrad``

        return Program(closed, donated)


class _Kept:
    """A program of a jaxpr that some transformation derived."""

    __slots__ = ("__weakref__", "closed", "program", "used")

    def __init__(self, closed: ClosedJaxpr):
        self.closed = weakref.ref(closed)
        self.program = _compiled(closed)
        self.used = 0

    @property
    def nbytes(self) -> int:
        return 16384 + self.program.nbytes


class _Programs:
    """Counts such programs; each lives in its jaxpr, and with it."""

    def __init__(self) -> None:
        self.kept: weakref.WeakSet[_Kept] = weakref.WeakSet()

    def entries(self) -> list[tuple[_Kept, _Kept]]:
        return [(kept, kept) for kept in list(self.kept)]

    def forget(self, key: _Kept) -> None:
        if (closed := key.closed()) is not None:
            closed.derived.pop("derived program", None)

    def clear(self) -> None:
        for kept, _ in self.entries():
            self.forget(kept)


_programs = _Programs()
caches.add_table(_programs, "programs of derived functions")


def derived_program_of(closed: ClosedJaxpr) -> Program:
    """The program of any jaxpr, kept within the limits of the caches."""
    if (own := closed.derived.get(("program", frozenset()))) is not None:
        return own
    kept = closed.derived.get("derived program")
    if kept is None:
        kept = cached_on(closed, "derived program", lambda: _Kept(closed))
        kept.used = caches.clock()
        _programs.kept.add(kept)
        caches.enforce_limits()
    kept.used = caches.clock()
    return kept.program


def _run(values: list[np.ndarray], *, jaxpr: ClosedJaxpr, name: str) -> list[tuple[np.ndarray, bool]]:
    out = derived_program_of(jaxpr)([np.asarray(v, order="C") for v in values])
    return [(v, a.weak_type) for v, a in zip(out, jaxpr.out_avals)]


def _abstract(*avals: ShapedArray, jaxpr: ClosedJaxpr, name: str) -> tuple[ShapedArray, ...]:
    wanted = jaxpr.in_avals
    if len(avals) != len(wanted) or not all([a.same_type(w) for a, w in zip(avals, wanted)]):
        raise TypeError(f"jit: operands of {name} must have the types {wanted}, got {avals}. Trace it anew for these.")
    return jaxpr.out_avals


def _caller(closed: ClosedJaxpr) -> Callable[..., list[Any]]:
    return lambda *args: eval_jaxpr(closed.jaxpr, closed.consts, *args)


def reference_of(closed: ClosedJaxpr, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each equation's reference in turn: the oracle of the compiled program."""
    env: dict[Var, Any] = dict(zip(closed.jaxpr.constvars, map(np.asarray, closed.consts)))
    env.update(zip(closed.jaxpr.invars, arrays))

    def read(a):
        return np.asarray(a.val) if isinstance(a, Literal) else env[a]

    for eqn in closed.eqns:
        out = eqn.primitive.slot("reference")(*map(read, eqn.invars), **eqn.params)
        env.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else (np.asarray(out),)))
    return [read(v) for v in closed.jaxpr.outvars]


def _reference(*arrays: np.ndarray, jaxpr: ClosedJaxpr, name: str) -> list[np.ndarray]:
    return reference_of(jaxpr, arrays)


# --- forward mode ----------------------------------------------------------------------------------------------------
def jvp_jaxpr(closed: ClosedJaxpr, nonzero: tuple[bool, ...]) -> tuple[ClosedJaxpr, tuple[bool, ...]]:
    """(jaxpr of primals and non-zero tangents -> outputs and non-zero output tangents, which outputs have one)."""

    def make():
        out_nonzero: list[bool] = []
        in_avals = closed.in_avals
        n = len(in_avals)

        def fun(*args):
            it = iter(args[n:])
            tangents = [next(it) if nz else Zero(a.tangent()) for a, nz in zip(in_avals, nonzero)]
            outs, t_outs = jvp_flat(_caller(closed), args[:n], tangents)
            out_nonzero[:] = [type(t) is not Zero for t in t_outs]
            return [*outs, *(t for t in t_outs if type(t) is not Zero)]

        avals = [*in_avals, *(a.tangent() for a, nz in zip(in_avals, nonzero) if nz)]
        return stage(fun, avals, name="jvp"), tuple(out_nonzero)

    return cached_on(closed, ("jvp", nonzero), make)


def _jvp(primals, tangents, *, jaxpr: ClosedJaxpr, name: str):
    nonzero = tuple(type(t) is not Zero for t in tangents)
    pushed, out_nonzero = jvp_jaxpr(jaxpr, nonzero)
    live = [t for t in tangents if type(t) is not Zero]
    out = bind_closed(pushed, [*primals, *live], f"jvp_{name}")
    n = len(jaxpr.out_avals)
    it = iter(out[n:])
    return out[:n], [next(it) if nz else Zero(a.tangent()) for nz, a in zip(out_nonzero, jaxpr.out_avals)]


# --- reverse mode ----------------------------------------------------------------------------------------------------
def split_jaxpr(closed: ClosedJaxpr, unknown: tuple[bool, ...]) -> Split:
    """What can be computed without the unknown inputs, and the rest."""
    return cached_on(closed, ("split", unknown), lambda: split(closed, unknown))


def _partial_eval(tape, unknown, args, params):
    """On a tape: the known part runs now as a call of its own, the rest is recorded as one linear call."""
    jaxpr, name = params["jaxpr"], params["name"]
    known, tail, out_unknown = split_jaxpr(jaxpr, tuple(unknown))
    known_args = [a for a, u in zip(args, unknown) if not u]
    with using(tape.parent):
        out = bind_closed(known, known_args, name)
    n_known = len(out_unknown) - sum(out_unknown)
    tangents = [a for a, u in zip(args, unknown) if u]
    late = tape.record(jit_p, [*out[n_known:], *tangents], {"jaxpr": tail, "name": name}) if any(out_unknown) else []
    early_it, late_it = iter(out[:n_known]), iter(late)
    return [next(late_it) if u else next(early_it) for u in out_unknown]


def transpose_jaxpr(closed: ClosedJaxpr, linear: tuple[bool, ...], nonzero: tuple[bool, ...]):
    """(jaxpr of residuals and non-zero cotangents -> non-zero input cotangents, which inputs have one)."""

    def make():
        in_avals = closed.in_avals
        ct_nonzero: list[bool] = []
        n_res = len(linear) - sum(linear)

        def fun(*args):
            residuals, cts = args[:n_res], iter(args[n_res:])

            def apply(*xs):
                res_it, lin_it = iter(residuals), iter(xs)
                full = [next(lin_it) if lin else next(res_it) for lin in linear]
                return eval_jaxpr(closed.jaxpr, closed.consts, *full)

            tape = linear_tape(apply, [a for a, lin in zip(in_avals, linear) if lin])
            given = [next(cts) if nz else Zero(a) for nz, a in zip(nonzero, closed.out_avals)]
            out = tape.transpose(given)
            ct_nonzero[:] = [type(c) is not Zero for c in out]
            return [c for c in out if type(c) is not Zero]

        avals = [a for a, lin in zip(in_avals, linear) if not lin]
        avals += [a for a, nz in zip(closed.out_avals, nonzero) if nz]
        return stage(fun, avals, name="transpose"), tuple(ct_nonzero)

    return cached_on(closed, ("transpose", linear, nonzero), make)


def _transpose(cts, *args, jaxpr: ClosedJaxpr, name: str):
    linear = tuple(isinstance(a, LinearArg) for a in args)
    nonzero = tuple(type(c) is not Zero for c in cts)
    back, ct_nonzero = transpose_jaxpr(jaxpr, linear, nonzero)
    residuals = [a for a, lin in zip(args, linear) if not lin]
    out = iter(bind_closed(back, [*residuals, *(c for c in cts if type(c) is not Zero)], f"transpose_{name}"))
    flags = iter(ct_nonzero)
    return [(next(out) if next(flags) else Zero(a.aval)) if lin else None for a, lin in zip(args, linear)]


# --- batching --------------------------------------------------------------------------------------------------------
def batch_jaxpr(
    closed: ClosedJaxpr, axis: Axis, dims: tuple[int | None, ...], force: bool = False
) -> tuple[ClosedJaxpr, tuple[int | None, ...]]:
    """(jaxpr with the batch axis in its batched inputs, the batch axis of each output)."""

    def make():
        out_dims: list[int | None] = []

        def fun(*args):
            outs, dims_out = vmap_flat(_caller(closed), args, dims, axis)
            if force:
                outs = [materialize(o, d, axis.size, 0) for o, d in zip(outs, dims_out)]
                dims_out = [0] * len(outs)
            out_dims[:] = dims_out
            return outs

        avals = [
            a if d is None else a.update(shape=(*a.shape[:d], axis.size, *a.shape[d:]))
            for a, d in zip(closed.in_avals, dims)
        ]
        return stage(fun, avals, name="vmap"), tuple(out_dims)

    return cached_on(closed, ("batch", axis, dims, force), make)


def _batch(axis: Axis, args, dims, *, jaxpr: ClosedJaxpr, name: str):
    batched, out_dims = batch_jaxpr(jaxpr, axis, tuple(dims))
    return bind_closed(batched, args, f"vmap_{name}"), out_dims


def bind_closed(closed: ClosedJaxpr, args: Sequence[Any], name: str) -> list[Any]:
    """Binds a call of the jaxpr with its constants (which may be tracers) as leading operands."""
    if closed.consts:
        hoisted = cached_on(closed, "hoisted", lambda: inline_consts(closed))
        return jit_p.bind(*closed.consts, *args, jaxpr=hoisted, name=name)
    return jit_p.bind(*args, jaxpr=closed, name=name)


jit_p = Primitive(
    "jit",
    abstract=_abstract,
    reference=_reference,
    cpu=Inline("jaxpr", _run),
    cuda=NO_CUDA,
    jvp=_jvp,
    transpose=_transpose,
    batch=OverAxis(_batch),
    partial_eval=_partial_eval,
    multiple_results=True,
    own_weak=True,
)
