"""What the element-wise families share: their abstract rule, jvp from partial derivatives, and batching."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Host, ScalarMap, Unfilled
from fgrad.core.primitive import REGISTRY, Primitive, Zero

NO_CUDA = Unfilled("the CUDA backend is not part of this release")
NOT_LINEAR = Unfilled("it is not linear in any operand")
NO_TANGENT = Unfilled("its result is an integer or boolean, which has no tangent")

DOMAINS: dict[str, tuple[str, Callable[[np.dtype], bool]]] = {
    "number": ("number", dtypes.is_number),
    "real": ("real number", lambda d: dtypes.is_float(d) or dtypes.is_integer(d)),
    "real or bool": ("real number or bool", lambda d: d.kind != "c" and d != dtypes.float0),
    "float": ("floating-point", dtypes.is_float),
    "inexact": ("floating-point or complex", dtypes.is_inexact),
    "integer": ("integer", dtypes.is_integer),
    "integer or bool": ("integer or bool", lambda d: dtypes.is_integer(d) or d == dtypes.bool_),
    "any": ("numbers or bools", lambda d: d != dtypes.float0),
}


def check_same(name: str, avals: Sequence[ShapedArray], domain: str) -> None:
    """Element-wise operands agree in shape and dtype, and the dtype is in the domain."""
    first = avals[0]
    for a in avals[1:]:
        if a.shape != first.shape:
            raise ValueError(
                f"{name}: operands must have equal shapes, got {' and '.join(str(a.shape) for a in avals)}. "
                "Broadcast them first, or use the function of the same name in fgrad.numpy."
            )
        if a.dtype != first.dtype:
            raise TypeError(
                f"{name}: operands must have equal dtypes, got {' and '.join(str(a.dtype) for a in avals)}. "
                "Convert one with .astype, or use the function of the same name in fgrad.numpy."
            )
    what, accepts = DOMAINS[domain]
    if not accepts(first.dtype):
        raise TypeError(f"{name}: operands must be {what}, got {first.dtype}. Convert them with .astype.")


def zero_tangent(aval: ShapedArray) -> Zero:
    return Zero(aval.tangent())


def batch_elementwise(prim_name: str) -> Callable[..., Any]:
    """All batched operands to one axis, the others broadcast along it."""

    def rule(args: Sequence[Any], dims: Sequence[int | None], **params: Any) -> tuple[Any, int]:
        from fgrad.primitives.broadcast import batch_to_front_or_common

        args, dim = batch_to_front_or_common(args, dims)
        return REGISTRY[prim_name].bind(*args, **params), dim

    return rule


def in_float32(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A scalar rule of several steps, done in float32 for 16-bit floats: rounded once, at the end."""

    @functools.wraps(rule)
    def wide(s: Any, *xs: Any, **params: Any) -> Any:
        dtype = xs[0].dtype
        if dtype.itemsize > 2:
            return rule(s, *xs, **params)
        return s.cast(rule(s, *[s.cast(x, dtypes.float32) for x in xs], **params), dtype)

    return wide


def elementwise(
    name: str,
    rule: Callable[..., Any] | Host,
    *,
    reference: Callable[..., Any],
    ufunc: Callable[..., Any] | None,
    domain: str,
    partials: Sequence[Callable[..., Any] | None] | Unfilled,
    result: Callable[[np.dtype], np.dtype] | None = None,
    transpose: Callable[..., Any] | Unfilled = NOT_LINEAR,
    jvp: Any = None,
    check: Callable[..., None] | None = None,
) -> Primitive:
    """An element-wise primitive.

    ``rule`` is the scalar rule, or Host where ``reference`` does the work in compiled programs too.
    ``check(*avals, **params)`` raises on parameters that do not fit.
    ``partials[i](t, ans, *xs, **params)`` is the tangent of the result for tangent ``t`` of operand i (None: zero),
    written in fgrad operations.  ``result`` maps the operand dtype to the result's (default: the same).
    """

    def abstract(*avals: ShapedArray, **params: Any) -> ShapedArray:
        check_same(name, avals, domain)
        if check is not None:
            check(*avals, **params)
        first = avals[0]
        if result is None and not first.weak_type:
            return first
        return ShapedArray(first.shape, result(first.dtype) if result else first.dtype)

    rules = () if isinstance(partials, Unfilled) else partials

    def partials_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        ans = prim.bind(*primals, **params)
        total: Any = None
        for t, d in zip(tangents, rules):
            if type(t) is not Zero and d is not None:
                term = d(t, ans, *primals, **params)
                total = term if total is None else REGISTRY["add"].bind(total, term)
        return ans, zero_tangent(ans.aval) if total is None else total

    def zero_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        ans = prim.bind(*primals, **params)
        return ans, zero_tangent(ans.aval)

    if jvp is None:
        jvp = zero_jvp if isinstance(partials, Unfilled) else partials_jvp
    prim = Primitive(
        name,
        abstract=abstract,
        reference=reference,
        cpu=rule if isinstance(rule, Host) else ScalarMap(rule, ufunc),
        cuda=NO_CUDA,
        jvp=jvp,
        transpose=transpose,
        batch=batch_elementwise(name),
    )
    return prim
