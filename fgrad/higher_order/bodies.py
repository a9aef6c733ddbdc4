"""Users' functions as the bodies of loops and branches: traced once for each function and type, checked, cached."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fgrad import tree
from fgrad.core import caches, dtypes
from fgrad.core.array import Array
from fgrad.core.aval import ShapedArray
from fgrad.core.jaxpr import Atom, ClosedJaxpr, Var
from fgrad.core.primitive import OverAxis
from fgrad.core.trace import Tracer, visible_axes
from fgrad.errors import TreeMismatchError
from fgrad.higher_order.arguments import flatten_output, function_name, leaf_names, lift_leaves
from fgrad.primitives.convert import convert
from fgrad.transforms.stage import inline_consts, stage


class Body(NamedTuple):
    """A traced function: ``closed`` takes ``consts`` (what it closes over) before its arguments' leaves."""

    closed: ClosedJaxpr
    consts: tuple[Any, ...]
    out_tree: Any

    @property
    def out_avals(self) -> tuple[ShapedArray, ...]:
        return self.closed.out_avals


_SIGNATURES = 64  # kept for each function
_traced: dict[int, tuple[weakref.ref, OrderedDict[Any, Body]]] = {}  # by the function's id, as long as it lives


_EQUAL_BODIES = 256
_equal: OrderedDict[Any, ClosedJaxpr] = OrderedDict()  # by what they compute, those used last at the end


def _forget() -> None:
    _traced.clear()
    _equal.clear()


def interned(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The jaxpr met before that computes the same, with all that was derived from it, else this one.

    A function that is defined anew in each call (a loss with a scan in it) is traced in each, but compiled once.
    """
    rules = [e.primitive.batch for e in closed.eqns]
    if any([type(r) is OverAxis and r.holds_python for r in rules]):
        return closed  # its parameters are the user's functions, which are others each time, and may hold tracers
    numbers: dict[Var, int] = {}

    def define(v: Var) -> ShapedArray:
        numbers[v] = len(numbers)
        return v.aval

    def read(a: Atom) -> Any:
        return numbers[a] if isinstance(a, Var) else (a.aval, np.asarray(a.val).tobytes())

    j = closed.jaxpr
    key: Any = (
        tuple(map(define, j.invars)),
        tuple(
            [
                (
                    e.primitive,
                    tuple(map(read, e.invars)),
                    tuple(sorted(e.params.items())),
                    e.source,
                    *map(define, e.outvars),
                )
                for e in j.eqns
            ]
        ),
        tuple(map(read, j.outvars)),
    )
    found = _equal.setdefault(key, closed)
    _equal.move_to_end(key)
    if len(_equal) > _EQUAL_BODIES:
        _equal.popitem(last=False)
    return found


caches.add_cache(
    "traced loops and branches", lambda: len(_equal) + sum([len(known) for _, known in list(_traced.values())]), _forget
)


def _signatures(fun: Callable[..., Any]) -> OrderedDict[Any, Body] | None:
    """The traced signatures of this very function; None for a callable that cannot be referred to weakly."""
    found = _traced.get(id(fun))
    if found is not None and found[0]() is fun:
        return found[1]
    key = id(fun)
    try:
        ref = weakref.ref(fun, lambda r: _traced.pop(key) if key in _traced and _traced[key][0] is r else None)
    except TypeError:
        return None
    _traced[key] = ref, OrderedDict()
    return _traced[key][1]


def trace_body(
    who: str,
    fun: Callable[..., Any],
    args: Sequence[Any],
    avals: Sequence[ShapedArray],
    check: Callable[[Any], None] | None = None,
) -> Body:
    """The jaxpr of ``fun(*args)`` for leaves of the given types.

    ``check(out)`` raises on a result of the wrong form.  A function that closes over tracers is traced each time, as
    they are others each time.
    """
    in_tree = tree.tree_structure(tuple(args))
    key = (who, in_tree, tuple(avals), visible_axes())
    known = _signatures(fun)
    if known is not None and key in known:
        known.move_to_end(key)
        return known[key]
    out_tree: Any = None

    def flat(*xs: Array) -> list[Array]:
        nonlocal out_tree
        out = fun(*in_tree.unflatten(xs))
        if check is not None:
            check(out)
        leaves, out_tree = flatten_output(out, who, fun)
        return leaves

    closed = stage(flat, avals, name=f"{who} of {function_name(fun)}", arg_names=lambda: leaf_names(fun, args, {}))
    body = Body(interned(inline_consts(closed)), closed.consts, out_tree)
    if known is not None and not any(isinstance(c, Tracer) for c in closed.consts):
        known[key] = body
        if len(known) > _SIGNATURES:
            known.popitem(last=False)
    return body


def operand_leaves(who: str, what: str, x: Any) -> list[Array]:
    """The leaves of an argument called ``what``; one that is no array is an error with its path."""
    leaves = tree.tree_leaves(x)
    return lift_leaves(leaves, who, lambda: [f"{what}{path}" for path in tree.tree_paths(x)])


def settle(carry: list[Array], trace: Callable[[list[ShapedArray]], tuple[Body, Sequence[ShapedArray]]]):
    """(body, carry) where Python scalars among the first carries have taken the dtype that the body gives them.

    ``trace(avals)`` gives the body for carries of these types, and the types it returns for them.
    """
    while True:
        body, after = trace([c.aval for c in carry])
        widened = [_widened(c, a) for c, a in zip(carry, after)]
        if len(after) != len(carry) or all(w is c for w, c in zip(widened, carry)):
            return body, carry
        carry = widened


def _widened(c: Array, after: ShapedArray) -> Array:
    if not c.weak_type or c.dtype == after.dtype:
        return c
    dtype, _ = dtypes.promote((c.dtype, True), (after.dtype, after.weak_type))
    return convert(c, dtype, after.weak_type) if dtype == after.dtype else c


def check_carry(
    who: str, what: str, init: Any, fun: Callable[..., Any], carry: Sequence[Array], out_tree: Any, after: Any
) -> None:
    """What the body returns for its carry has the carry's structure, shapes and dtypes.

    ``what`` is the name of the parameter that ``init`` was passed for.
    """
    name, in_tree = function_name(fun), tree.tree_structure(init)
    if in_tree != out_tree:
        got = out_tree.unflatten([0] * out_tree.num_leaves)
        raise TreeMismatchError(
            f"{who}: the carry that {name} returns must have the structure of {what}, got "
            f"{tree.structure_text(out_tree)} for {tree.structure_text(in_tree)} "
            f"({tree.first_difference(got, init)}). Return a carry of the structure it came in."
        )
    paths = tree.tree_paths(init)
    wrong = [
        f"{a} for {what}{path} of type {c.aval} ({difference(a, c.aval)})"
        for a, c, path in zip(after, carry, paths)
        if not a.same_type(c.aval)
    ]
    if wrong:
        raise TypeError(
            f"{who}: the carry must have the same type after a step as before it, got from {name} {some(wrong)}. "
            f"Convert what {name} returns, or {what}."
        )


def difference(a: ShapedArray, b: ShapedArray) -> str:
    """``shapes (3,) and (4,)``, ``dtypes float32 and int32``, or both."""
    parts = []
    if a.shape != b.shape:
        parts.append(f"shapes {a.shape} and {b.shape}")
    if a.dtype != b.dtype:
        parts.append(f"dtypes {a.dtype} and {b.dtype}")
    return ", ".join(parts)


def some(items: Sequence[str]) -> str:
    """The first four of a list, and how many more there are."""
    return "; ".join(items[:4]) + (f"; and {len(items) - 4} more" if len(items) > 4 else "")
