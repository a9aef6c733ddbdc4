"""Collectives: operations across the examples of a ``vmap`` whose axis has a name.

Written for x_i, the operand in example i of n, and y_i, the result there:

    psum          y_i = Σ_j x_j                    its own transpose
    pmax, pmin    y_i = max_j x_j, min_j x_j
    all_gather    y_i[.., j at axis, ..] = x_j     transpose: psum_scatter
    psum_scatter  y_i = Σ_j x_j[.., i at axis, ..] transpose: all_gather
    all_to_all    y_i[.., j at concat_axis, ..] = x_j[.., i at split_axis, ..]
                                                   transpose: the same with the axes exchanged
    ppermute      y_d = x_s for each pair (s, d), 0 where d has no source
                                                   transpose: the pairs exchanged
    axis_index    y_i = i

A collective is resolved by the ``vmap`` of its axis: there it is a reduction over the mapped axis, or moves that axis.
Any other ``vmap`` only adds an axis to the operand.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from fgrad.core.array import ConcreteArray
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Unfilled
from fgrad.core.dtypes import int32
from fgrad.core.primitive import Axis, Linear, OverAxis, Primitive
from fgrad.primitives.arithmetic import div_p, mul_p
from fgrad.primitives.broadcast import broadcast_in_dim_p, full_from, reduce_sum_p
from fgrad.primitives.compare import eq_p
from fgrad.primitives.convert import convert
from fgrad.primitives.define import NO_CUDA, NOT_LINEAR, check_same
from fgrad.primitives.indexing import gather_p
from fgrad.primitives.iota import iota_p
from fgrad.primitives.reductions import reduce_max_p, reduce_min_p
from fgrad.primitives.transpose import moveaxis

_ONLY_IN_VMAP = Unfilled("a collective has a value only inside the vmap that names its axis")
_NO_OPERANDS = Unfilled("it has no operands, so no transformation reaches it")


def _over_axis(prim: Callable[[], Primitive], resolve: Callable[..., Any]) -> OverAxis:
    """The batch rule: ``resolve(x, dim, size, **params) -> (y, dim)`` where the mapped axis is the one that is named.

    Any other mapped axis is carried along: in front, with the axes that parameters name shifted by one.
    """

    def rule(mapped: Axis, args, dims, /, **params):
        (x,), (d,) = args, dims
        if mapped.name == params["axis_name"]:
            shape = tuple(n for i, n in enumerate(x.shape) if i != d)
            prim().abstract(ShapedArray(shape, x.dtype), **params)
            return resolve(x, d, mapped.size, **params)
        named = {k: params[k] + 1 for k in ("axis", "split_axis", "concat_axis") if k in params}
        if not named:
            return prim().bind(x, **params), d
        return prim().bind(moveaxis(x, d, 0), **params | named), 0

    return OverAxis(rule)


def _at_front(x: Any, dim: int | None, size: int) -> Any:
    """The operand with the mapped axis first: x_j at index j."""
    if dim is not None:
        return moveaxis(x, dim, 0)
    return broadcast_in_dim_p.bind(x, shape=(size, *x.shape), broadcast_dimensions=tuple(range(1, x.ndim + 1)))


def _collective(name: str, abstract: Any, resolve: Callable[..., Any], jvp: Any, transpose: Any) -> Primitive:
    prim = Primitive(
        name,
        abstract=abstract,
        reference=_ONLY_IN_VMAP,
        cpu=_ONLY_IN_VMAP,
        cuda=NO_CUDA,
        jvp=jvp,
        transpose=transpose,
        batch=_over_axis(lambda: prim, resolve),
    )
    return prim


# --- reductions ------------------------------------------------------------------------------------------------------
def _reduction(
    name: str, domain: str, over: Primitive, of_equal: Callable[[Any, int], Any], jvp: Any, transpose: Any
) -> Primitive:
    """A primitive ``name(x, axis_name)``: ``over`` the mapped axis; ``of_equal(x, n)`` is its value for n equal x."""

    def abstract(x: ShapedArray, *, axis_name: Hashable) -> ShapedArray:
        check_same(name, (x,), domain)
        return ShapedArray(x.shape, x.dtype)

    def resolve(x, d, size, *, axis_name):
        return (of_equal(x, size) if d is None else over.bind(x, axes=(d,))), None

    return _collective(name, abstract, resolve, jvp, transpose)


def _times(x: Any, n: int) -> Any:
    # as a sum of n terms, integers wrap
    factor = ConcreteArray(np.asarray(n).astype(x.dtype), x.weak_type)
    return mul_p.bind(x, full_from(factor, tuple(x.shape)))


def _extremum_jvp(prim: Callable[[], Primitive]):
    """The tangents of the examples that hold the extremum, shared equally among ties: Σ t hit / Σ hit."""

    def rule(primals, tangents, *, axis_name):
        (x,), (t,) = primals, tangents
        ans = prim().bind(x, axis_name=axis_name)
        hit = convert(eq_p.bind(x, ans), x.dtype)
        total = psum_p.bind(mul_p.bind(t, hit), axis_name=axis_name)
        return ans, div_p.bind(total, psum_p.bind(hit, axis_name=axis_name))

    return rule


# --- rearrangements --------------------------------------------------------------------------------------------------
def _check_split(name: str, x: ShapedArray, axis: int, axis_name: Hashable, size: int) -> None:
    if x.shape[axis] != size:
        raise ValueError(
            f"{name}: the axis that is split must have the size of the mapped axis {axis_name!r}, got {x.shape[axis]} "
            f"for axis {axis} of shape {x.shape} and {size} examples. Reshape the operand, or use tiled=True."
        )


def _all_gather_abstract(x: ShapedArray, *, axis_name: Hashable, axis_size: int, axis: int) -> ShapedArray:
    return ShapedArray((*x.shape[:axis], axis_size, *x.shape[axis:]), x.dtype)


def _all_gather_resolve(x, d, size, *, axis_name, axis_size, axis):
    return moveaxis(_at_front(x, d, size), 0, axis), None


def _psum_scatter_abstract(x: ShapedArray, *, axis_name: Hashable, axis_size: int, axis: int) -> ShapedArray:
    check_same("psum_scatter", (x,), "number")
    _check_split("psum_scatter", x, axis, axis_name, axis_size)
    return ShapedArray((*x.shape[:axis], *x.shape[axis + 1 :]), x.dtype)


def _psum_scatter_resolve(x, d, size, *, axis_name, axis_size, axis):
    # the sum over examples keeps the axis that is split: slice i of it is example i's
    return (_times(x, size) if d is None else reduce_sum_p.bind(x, axes=(d,))), axis


def _all_to_all_abstract(
    x: ShapedArray, *, axis_name: Hashable, axis_size: int, split_axis: int, concat_axis: int
) -> ShapedArray:
    _check_split("all_to_all", x, split_axis, axis_name, axis_size)
    rest = [*x.shape[:split_axis], *x.shape[split_axis + 1 :]]
    rest.insert(concat_axis, axis_size)
    return ShapedArray(tuple(rest), x.dtype)


def _all_to_all_resolve(x, d, size, *, axis_name, axis_size, split_axis, concat_axis):
    # [j, .., i at split_axis + 1, ..] -> [i, j, ..] -> [i, .., j at concat_axis + 1, ..]
    x = moveaxis(_at_front(x, d, size), split_axis + 1, 0)
    return moveaxis(x, 1, concat_axis + 1), 0


def _all_to_all_transpose(ct, x, *, split_axis, concat_axis, **params):
    # y_i[j at concat] = x_j[i at split]: the cotangent goes back the way it came, split and concat exchanged
    return [all_to_all_p.bind(ct, split_axis=concat_axis, concat_axis=split_axis, **params)]


def _ppermute_resolve(x, d, size, *, axis_name, perm):
    if d is None and len(perm) == size:
        return x, None  # equal examples, each of which some example gets
    # row d of the result is row s of the operand; row n, which is none, is filled with zeros
    rows = np.full((size, 1), size, np.int32)
    for source, destination in perm:
        rows[destination] = source
    return gather_p.bind(_at_front(x, d, size), ConcreteArray(rows), axes=(0,), mode="fill"), 0


# --- the table -------------------------------------------------------------------------------------------------------
psum_p = _reduction(
    "psum",
    "number",
    reduce_sum_p,
    _times,
    Linear(),
    # y_i = Σ_j x_j for every i: the cotangent of each x_j is Σ_i of the cotangents of y_i
    lambda ct, x, **params: [psum_p.bind(ct, **params)],
)
pmax_p = _reduction("pmax", "real or bool", reduce_max_p, lambda x, n: x, _extremum_jvp(lambda: pmax_p), NOT_LINEAR)
pmin_p = _reduction("pmin", "real or bool", reduce_min_p, lambda x, n: x, _extremum_jvp(lambda: pmin_p), NOT_LINEAR)
all_gather_p = _collective(
    "all_gather",
    _all_gather_abstract,
    _all_gather_resolve,
    Linear(),
    # every example's slice j holds x_j: the cotangent of x_j is the sum over examples of slice j
    lambda ct, x, **params: [psum_scatter_p.bind(ct, **params)],
)
psum_scatter_p = _collective(
    "psum_scatter",
    _psum_scatter_abstract,
    _psum_scatter_resolve,
    Linear(),
    # y_i sums every example's slice i: the cotangent of each x_j has that of y_i in its slice i
    lambda ct, x, **params: [all_gather_p.bind(ct, **params)],
)
all_to_all_p = _collective("all_to_all", _all_to_all_abstract, _all_to_all_resolve, Linear(), _all_to_all_transpose)
ppermute_p = _collective(
    "ppermute",
    lambda x, *, axis_name, perm: ShapedArray(x.shape, x.dtype),
    _ppermute_resolve,
    Linear(),
    # y_d = x_s: the cotangent of x_s is that of y_d
    lambda ct, x, *, axis_name, perm: [ppermute_p.bind(ct, axis_name=axis_name, perm=tuple((d, s) for s, d in perm))],
)
axis_index_p = Primitive(
    "axis_index",
    abstract=lambda *, axis_name: ShapedArray((), int32),
    reference=_ONLY_IN_VMAP,
    cpu=_ONLY_IN_VMAP,
    cuda=NO_CUDA,
    jvp=_NO_OPERANDS,
    transpose=NOT_LINEAR,
    batch=OverAxis(
        lambda mapped, args, dims, **params: (iota_p.bind(dtype=int32, shape=(mapped.size,), dimension=0), 0)
    ),
)
