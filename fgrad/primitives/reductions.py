"""reduce_prod, reduce_max, reduce_min, reduce_and, reduce_or, argmax and argmin (reduce_sum is in broadcast.py).

Reducing nothing gives the identity: 1, -inf or the smallest integer, +inf or the largest, all bits set, 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Fold
from fgrad.core.primitive import Primitive
from fgrad.kernels import reference
from fgrad.primitives.arithmetic import add_p, div_p, mul_p
from fgrad.primitives.broadcast import (
    batch_reduction,
    broadcast_in_dim_p,
    check_axes,
    full,
    reduce_sum_p,
    reduced,
)
from fgrad.primitives.compare import eq_p
from fgrad.primitives.convert import convert
from fgrad.primitives.define import NO_CUDA, NO_TANGENT, NOT_LINEAR, check_same, zero_tangent
from fgrad.primitives.padding import pad_p, slice_p
from fgrad.primitives.reshape import reshape_p
from fgrad.primitives.transpose import permute


def _reduction(name: str, combine: str, domain: str, jvp: Any) -> Primitive:
    """A primitive ``name(x, axes)`` folding with the emitter's ``combine``."""

    def abstract(x: ShapedArray, *, axes: tuple[int, ...]) -> ShapedArray:
        check_same(name, (x,), domain)
        check_axes(name, x, axes)
        return ShapedArray(reduced(x, axes), x.dtype)

    def batch(args, dims, *, axes):
        return batch_reduction(args, dims, lambda x, shift: prim.bind(x, axes=shift(axes)))

    prim = Primitive(
        name,
        abstract=abstract,
        reference=getattr(reference, name),
        cpu=Fold(combine),
        cuda=NO_CUDA,
        jvp=jvp,
        transpose=NOT_LINEAR,
        batch=batch,
    )
    return prim


# --- derivatives -----------------------------------------------------------------------------------------------------
def _prod_jvp(primals, tangents, *, axes):
    # (a, da), (b, db) -> (ab, da b + a db) over a tree of halves: n multiplications in log2(n) steps, no division,
    # so zeros among the factors are nothing special and every higher derivative is right as well.
    (x,), (t,) = primals, tangents
    kept = tuple(d for d in range(x.ndim) if d not in axes)
    rows = tuple(x.shape[d] for d in kept)
    n = math.prod(x.shape[d] for d in axes)
    ans = reduce_prod_p.bind(x, axes=axes)
    if n == 0:
        return ans, zero_tangent(ans.aval)
    x, t = (reshape_p.bind(permute(a, (*kept, *axes)), new_sizes=(*rows, n)) for a in (x, t))
    while n > 1:
        half = -(-n // 2)
        if n % 2:
            odd = (*((0, 0, 0) for _ in rows), (0, 1, 0))
            x = pad_p.bind(x, full((), 1, x.dtype), padding_config=odd)
            t = pad_p.bind(t, full((), 0, t.dtype), padding_config=odd)
        a, b = _halves(x, half)
        da, db = _halves(t, half)
        x, t = mul_p.bind(a, b), add_p.bind(mul_p.bind(da, b), mul_p.bind(a, db))
        n = half
    return ans, reshape_p.bind(t, new_sizes=rows)


def _halves(x: Any, half: int) -> tuple[Any, Any]:
    rows = tuple(x.shape[:-1])
    zeros, ones = (0,) * len(rows), (1,) * x.ndim
    return (
        slice_p.bind(x, start_indices=(*zeros, 0), limit_indices=(*rows, half), strides=ones),
        slice_p.bind(x, start_indices=(*zeros, half), limit_indices=(*rows, 2 * half), strides=ones),
    )


def _extremum_jvp(prim: Callable[[], Primitive]):
    """The tangents where the extremum is taken, shared equally among ties: sum(t * hit) / sum(hit)."""

    def rule(primals, tangents, *, axes):
        (x,), (t,) = primals, tangents
        ans = prim().bind(x, axes=axes)
        if any(x.shape[a] == 0 for a in axes):
            return ans, zero_tangent(ans.aval)
        kept = tuple(d for d in range(x.ndim) if d not in axes)
        best = broadcast_in_dim_p.bind(ans, shape=tuple(x.shape), broadcast_dimensions=kept)
        hit = convert(eq_p.bind(x, best), x.dtype)
        ties = reduce_sum_p.bind(hit, axes=axes)
        return ans, div_p.bind(reduce_sum_p.bind(mul_p.bind(t, hit), axes=axes), ties)

    return rule


# --- argmax and argmin -----------------------------------------------------------------------------------------------
def _position(name: str, extremum: str, of: Callable[..., np.ndarray]) -> Primitive:
    """A primitive ``name(x, axes=(axis,), index_dtype)``: where the first extremum (the first NaN) is."""

    def abstract(x: ShapedArray, *, axes: tuple[int, ...], index_dtype: np.dtype) -> ShapedArray:
        check_same(name, (x,), "real or bool")
        check_axes(name, x, axes)
        if len(axes) != 1:
            raise ValueError(f"{name}: takes one axis, got axes {axes} for shape {x.shape}. Reshape several into one.")
        if not dtypes.is_integer(index_dtype):
            raise TypeError(f"{name}: index_dtype must be an integer dtype, got {index_dtype}. Use int32 or int64.")
        n = x.shape[axes[0]]
        if n == 0:
            raise ValueError(
                f"{name}: an empty axis has no {extremum}, got size 0 for axis {axes[0]} of shape {x.shape}. "
                "Reduce a non-empty axis."
            )
        if n - 1 > np.iinfo(index_dtype).max:
            raise ValueError(
                f"{name}: index_dtype must hold every index, got {index_dtype} (at most {np.iinfo(index_dtype).max}) "
                f"for axis {axes[0]} of size {n}. Use a wider dtype."
            )
        return ShapedArray(reduced(x, axes), index_dtype)

    def jvp(primals, tangents, *, axes, index_dtype):
        ans = prim.bind(*primals, axes=axes, index_dtype=index_dtype)
        return ans, zero_tangent(ans.aval)

    def batch(args, dims, *, axes, index_dtype):
        return batch_reduction(args, dims, lambda x, shift: prim.bind(x, axes=shift(axes), index_dtype=index_dtype))

    prim = Primitive(
        name,
        abstract=abstract,
        reference=lambda x, *, axes, index_dtype: of(x, axis=axes[0], index_dtype=index_dtype),
        cpu=Fold(name),
        cuda=NO_CUDA,
        jvp=jvp,
        transpose=NOT_LINEAR,
        batch=batch,
    )
    return prim


# --- the table -------------------------------------------------------------------------------------------------------
reduce_prod_p = _reduction("reduce_prod", "mul", "number", _prod_jvp)
reduce_max_p = _reduction("reduce_max", "max", "real or bool", _extremum_jvp(lambda: reduce_max_p))
reduce_min_p = _reduction("reduce_min", "min", "real or bool", _extremum_jvp(lambda: reduce_min_p))
reduce_and_p = _reduction("reduce_and", "and", "integer or bool", NO_TANGENT)
reduce_or_p = _reduction("reduce_or", "or", "integer or bool", NO_TANGENT)
argmax_p = _position("argmax", "largest element", reference.argmax)
argmin_p = _position("argmin", "smallest element", reference.argmin)
