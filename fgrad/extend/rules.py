"""Rules around the user's rules: each calls one of them and checks what it returns, naming the primitive."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.array import lift
from fgrad.core.aval import ShapedArray
from fgrad.core.primitive import LinearArg, Zero
from fgrad.errors import MissingBackendError
from fgrad.higher_order.arguments import ShapeDtypeStruct, is_arraylike
from fgrad.transforms.zeros import add_tangents

Rule = Callable[..., Any]


def _types(avals: Sequence[Any]) -> str:
    return ", ".join(map(str, avals))


def annotate(error: Exception, name: str, role: str, avals: Sequence[Any], more: str = "") -> None:
    """Adds to a user's own exception where it came from."""
    error.add_note(f"{name}: raised by its {role} for {_types(avals)}.{more}")


def many(name: str, role: str, out: Any, multiple: bool, want: int | None = None) -> list[Any]:
    """The results of a rule as a list."""
    if not multiple:
        return [out]
    if not isinstance(out, (tuple, list)) or (want is not None and len(out) != want):
        counted = f"a tuple of {want}" if want is not None else "a tuple"
        raise TypeError(
            f"{name}: {role} must return {counted} (multiple_results=True), got {_shown(out)}. "
            "Return one entry for each result."
        )
    return list(out)


def _shown(x: Any) -> str:
    """What a rule returned, in an error."""
    if isinstance(x, (tuple, list)):
        return f"{len(x)} entr{'y' if len(x) == 1 else 'ies'}"
    return "one array" if is_arraylike(x) else f"{x!r} of type {type(x).__name__}"


# --- types and values ------------------------------------------------------------------------------------------------
def abstract_rule(name: str, function: Rule, multiple: bool) -> Rule:
    """The user's abstract rule with its results as ShapedArrays."""

    @functools.lru_cache(maxsize=1024, typed=True)
    def abstract(*avals: ShapedArray, **params: Any) -> Any:
        try:
            out = function(*avals, **params)
        except (TypeError, ValueError):
            raise  # what it says of operands that do not fit
        except Exception as e:
            annotate(e, name, "abstract rule", avals)
            raise
        outs = many(name, "abstract", out, multiple)
        made = tuple([_aval(name, out) for out in outs])
        return made if multiple else made[0]

    return abstract


def _aval(name: str, out: Any) -> ShapedArray:
    if not isinstance(out, (ShapedArray, ShapeDtypeStruct)):
        raise TypeError(
            f"{name}: abstract must return a ShapeDtypeStruct for each result, got {out!r} of type "
            f"{type(out).__name__}. Return fgrad.ShapeDtypeStruct(shape, dtype)."
        )
    shape = tuple(out.shape)
    if not all(isinstance(n, (int, np.integer)) and n >= 0 for n in shape):
        raise TypeError(
            f"{name}: abstract must return a shape of integers of at least 0, got {shape}. Correct the shape."
        )
    return ShapedArray(tuple(map(int, shape)), dtypes.canonical(out.dtype))


def numpy_rule(name: str, function: Rule, abstract: Rule, multiple: bool) -> Rule:
    """The user's NumPy function on read-only operands, with results of the types that the abstract rule gives."""

    def reference(*arrays: np.ndarray, **params: Any) -> Any:
        avals = [ShapedArray(a.shape, a.dtype) for a in arrays]
        wants = abstract(*avals, **params)
        wants = wants if multiple else (wants,)
        try:
            out = function(*map(_read_only, arrays), **params)
        except Exception as e:
            annotate(e, name, "NumPy function", avals, " (Its operands are read-only.)")
            raise
        if not multiple and isinstance(out, tuple):
            raise TypeError(f"{name}: numpy must return one array, got {_shown(out)}. Give multiple_results=True.")
        outs = [np.asarray(o) for o in many(name, "numpy", out, multiple, len(wants))]
        for got, want in zip(outs, wants):
            if got.shape != want.shape or got.dtype != want.dtype:
                raise TypeError(
                    f"{name}: numpy must return what abstract promises, got {got.dtype}{list(got.shape)} from numpy "
                    f"and {want.dtype}{list(want.shape)} from abstract for {_types(avals)}. "
                    "Convert the result with .astype or .reshape, or correct the abstract rule."
                )
        outs = [np.array(o) if any(np.may_share_memory(o, a) for a in arrays) else o for o in outs]
        return tuple(outs) if multiple else outs[0]

    return reference


def _read_only(array: np.ndarray) -> np.ndarray:
    # a program lends complex operands for the length of the call; a user's function may keep them
    view = array.copy() if array.dtype.kind == "c" else array.view()
    view.flags.writeable = False
    return view


# --- derivatives -----------------------------------------------------------------------------------------------------
def derived_jvp(
    bind: Rule, name: str, derivatives: Sequence[Rule | None] | None, linear: Sequence[int], multiple: bool
):
    """The sum of the contributions of each operand's tangent t: ``derivatives[i](t, ans, *xs)``, or the primitive
    itself at t for an operand in which it is linear.
    """

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        out = bind(*primals, **params)
        outs = list(out) if multiple else [out]
        totals: list[Any] = [Zero(o.aval.tangent()) for o in outs]
        for i, t in enumerate(tangents):
            if type(t) is Zero:
                continue
            role = f"derivatives[{i}]"
            if i in linear:
                terms = bind(*primals[:i], t, *primals[i + 1 :], **params)
            elif derivatives is None:
                raise MissingBackendError(
                    f"{name}: has no derivative in operand {i}, its definition gives none. Give it in derivatives, or "
                    "put stop_gradient around the operand."
                )
            else:
                rule = _entry(name, derivatives, i, len(primals))
                if rule is None:
                    continue
                terms = rule(t, tuple(outs) if multiple else out, *primals, **params)
            for k, term in enumerate(many(name, role, terms, multiple, len(outs))):
                term = _tangent(name, role, term, outs[k].aval)
                totals[k] = add_tangents(totals[k], term)
        return (outs, totals) if multiple else (outs[0], totals[0])

    return jvp


def _entry(name: str, derivatives: Sequence[Rule | None], i: int, n: int) -> Rule | None:
    if len(derivatives) != n:
        raise TypeError(
            f"{name}: derivatives must have one entry for each operand, got {len(derivatives)} for {n} operands. "
            "Give None where there is nothing to give."
        )
    return derivatives[i]


def _tangent(name: str, role: str, t: Any, of: ShapedArray) -> Any:
    """A tangent of a result as an Array or Zero (None means zero)."""
    want = of.tangent()
    if t is None or type(t) is Zero:
        return Zero(want)
    t = _array(name, role, t)
    if not t.aval.same_type(want):
        raise TypeError(
            f"{name}: {role} must return a tangent of the result's type, got {t.aval.strong()} for a result of type "
            f"{of.strong()}. Give it the result's shape and dtype."
        )
    return t


def _array(name: str, role: str, x: Any) -> Any:
    if not is_arraylike(x):
        raise TypeError(
            f"{name}: {role} must return arrays, got {x!r} of type {type(x).__name__}. Use fgrad operations."
        )
    return lift(x, name)


def jvp_rule(name: str, function: Rule, multiple: bool) -> Rule:
    """The user's jvp rule with its results checked."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        pair = function(tuple(primals), tuple(tangents), **params)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"{name}: jvp must return a pair (result, tangent), got {_shown(pair)}. Return both.")
        outs = [_array(name, "jvp", o) for o in many(name, "jvp", pair[0], multiple)]
        ts = many(name, "jvp", pair[1], multiple, len(outs))
        ts = [_tangent(name, "jvp", t, o.aval) for t, o in zip(ts, outs)]
        return (outs, ts) if multiple else (outs[0], ts[0])

    return jvp


def transpose_rule(name: str, function: Rule, linear: Sequence[int] | None) -> Rule:
    """The user's transpose rule, asked only for operands it is linear in (None: for all of them together)."""

    def transpose(ct: Any, *args: Any, **params: Any) -> list[Any]:
        asked = [i for i, a in enumerate(args) if isinstance(a, LinearArg)]
        if linear is not None and not (len(asked) == 1 and asked[0] in linear):
            raise MissingBackendError(
                f"{name}: has no transpose in operands {tuple(asked)} together, it is linear in each of operands "
                f"{tuple(linear)} alone. Use vjp for functions that are not linear."
            )
        out = function(ct, *args, **params)
        if not isinstance(out, (tuple, list)) or len(out) != len(args):
            raise TypeError(
                f"{name}: transpose must return a tuple with one entry for each of the {len(args)} operands, got "
                f"{_shown(out)}. Give None for operands that are held."
            )
        return [_cotangent(name, i, out[i], a.aval) if i in asked else None for i, a in enumerate(args)]

    return transpose


def _cotangent(name: str, i: int, ct: Any, of: ShapedArray) -> Any:
    if type(ct) is Zero:
        return ct
    if ct is None:
        raise TypeError(
            f"{name}: transpose must return a cotangent for operand {i}, which is linear here, got None. "
            "Return an array, or Zero(operand.aval)."
        )
    ct = _array(name, "transpose", ct)
    if not ct.aval.same_type(of):
        raise TypeError(
            f"{name}: transpose must return a cotangent of the operand's type, got {ct.aval.strong()} for operand {i} "
            f"of type {of.strong()}. Give it the operand's shape and dtype."
        )
    return ct


# --- batching --------------------------------------------------------------------------------------------------------
def batch_rule(name: str, function: Rule, abstract: Rule, multiple: bool) -> Rule:
    """The user's batch rule; each result without its batch axis must have the type that the abstract rule gives."""

    def batch(args: Sequence[Any], dims: Sequence[int | None], **params: Any) -> tuple[Any, Any]:
        pair = function(tuple(args), tuple(dims), **params)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"{name}: batch must return a pair (result, batch axis), got {_shown(pair)}. Return both.")
        wants = many(name, "abstract", abstract(*[_example(a.aval, d) for a, d in zip(args, dims)], **params), multiple)
        size = next(a.shape[d] for a, d in zip(args, dims) if d is not None)
        outs = [_array(name, "batch", o) for o in many(name, "batch", pair[0], multiple, len(wants))]
        axes = many(name, "batch", pair[1], multiple, len(wants))
        for out, d, want in zip(outs, axes, wants):
            if d is not None and (type(d) is not int or not 0 <= d < out.ndim or out.shape[d] != size):
                raise TypeError(
                    f"{name}: batch must name the axis of each result that has the batch's size {size}, got {d!r} for "
                    f"a result of shape {out.shape}. Return an axis counted from 0, or None."
                )
            got = _example(out.aval, d)
            if not got.same_type(want):
                raise TypeError(
                    f"{name}: batch must return examples of the type that abstract gives, got {got.strong()} and "
                    f"{want} (result {out.aval.strong()}, batch axis {d}). Check the axes."
                )
        return (outs, axes) if multiple else (outs[0], axes[0])

    return batch


def _example(aval: ShapedArray, d: int | None) -> ShapedArray:
    """The type of one example."""
    return aval if d is None else aval.update(shape=aval.shape[:d] + aval.shape[d + 1 :])
