"""sort: several operands reordered along one axis by the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Kernel, Unfilled
from fgrad.core.jaxpr import Eqn
from fgrad.core.primitive import Primitive, Zero
from fgrad.kernels import reference
from fgrad.kernels.sort_plan import plan_sort
from fgrad.primitives.arithmetic import add_p, mul_p
from fgrad.primitives.broadcast import broadcast_in_dim_p, full_like
from fgrad.primitives.convert import convert
from fgrad.primitives.define import NO_CUDA, zero_tangent
from fgrad.primitives.indexing import gather_p
from fgrad.primitives.iota import iota_p
from fgrad.primitives.reshape import reshape_p
from fgrad.primitives.transpose import moveaxis


def _abstract(*xs: ShapedArray, dimension: int, num_keys: int, is_stable: bool) -> tuple[ShapedArray, ...]:
    if not xs:
        raise TypeError("sort: at least one operand is needed, got none. Give the arrays to sort.")
    if any(x.shape != xs[0].shape for x in xs):
        raise ValueError(
            f"sort: operands must have equal shapes, got {' and '.join(str(x.shape) for x in xs)}. "
            "Broadcast them to one shape."
        )
    if any(x.dtype == dtypes.float0 for x in xs):
        raise TypeError("sort: operands must have values, got float0, the tangent of integers. Leave it out.")
    if not 0 <= dimension < xs[0].ndim:
        raise ValueError(
            f"sort: dimension must be in [0, {xs[0].ndim}), got {dimension} for shape {xs[0].shape}. Change it."
        )
    if not 1 <= num_keys <= len(xs):
        raise ValueError(
            f"sort: num_keys must be between 1 and the number of operands, got {num_keys} for {len(xs)}. Change it."
        )
    return tuple(ShapedArray(x.shape, x.dtype) for x in xs)


def along(x: Any, index: Any, dimension: int) -> Any:
    """x[.., index[.., i, ..], ..]: elements of x at places along one axis, x and index agreeing in the other axes."""
    # lines [L, n], flattened; line l's place i is l * n + i
    x, index = moveaxis(x, dimension, x.ndim - 1), moveaxis(index, dimension, index.ndim - 1)
    n, shape = x.shape[-1], tuple(index.shape)
    lines = x.size // n if n else 0
    flat = reshape_p.bind(convert(index, dtypes.int64), new_sizes=(lines, shape[-1]))
    first = iota_p.bind(dtype=dtypes.int64, shape=tuple(flat.shape), dimension=0)
    flat = add_p.bind(flat, mul_p.bind(first, full_like(first, n)))
    values = gather_p.bind(
        reshape_p.bind(x, new_sizes=(x.size,)), reshape_p.bind(flat, new_sizes=(flat.size, 1)), axes=(0,), mode="fill"
    )
    return moveaxis(reshape_p.bind(values, new_sizes=shape), len(shape) - 1, dimension)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, dimension, num_keys, is_stable):
    # The order is locally constant: tangents go where their primals go.
    params = {"dimension": dimension, "num_keys": num_keys, "is_stable": is_stable}
    if all(type(t) is Zero for t in tangents):
        outs = sort_p.bind(*primals, **params)
        return outs, [zero_tangent(out.aval) for out in outs]
    places = iota_p.bind(dtype=dtypes.int64, shape=tuple(primals[0].shape), dimension=dimension)
    *outs, order = sort_p.bind(*primals, places, **params)
    return outs, [
        zero_tangent(out.aval) if type(t) is Zero else along(t, order, dimension) for out, t in zip(outs, tangents)
    ]


def _batch(args: Sequence[Any], dims: Sequence[int | None], *, dimension, num_keys, is_stable):
    size = next(x.shape[d] for x, d in zip(args, dims) if d is not None)
    xs = [_at_front(x, d, size) for x, d in zip(args, dims)]
    outs = sort_p.bind(*xs, dimension=dimension + 1, num_keys=num_keys, is_stable=is_stable)
    return outs, [0] * len(outs)


def _at_front(x: Any, d: int | None, size: int) -> Any:
    if d is not None:
        return moveaxis(x, d, 0)
    return broadcast_in_dim_p.bind(x, shape=(size, *x.shape), broadcast_dimensions=tuple(range(1, x.ndim + 1)))


def _prune(eqn: Eqn, used: list[bool]) -> Eqn:
    """Operands that are no keys and whose result nobody reads take no part."""
    kept = [i for i, u in enumerate(used) if u or i < eqn.params["num_keys"]]
    if len(kept) == len(used):
        return eqn
    return eqn._replace(invars=tuple([eqn.invars[i] for i in kept]), outvars=tuple([eqn.outvars[i] for i in kept]))


sort_p = Primitive(
    "sort",
    abstract=_abstract,
    reference=reference.sort,
    cpu=Kernel(plan_sort),
    cuda=NO_CUDA,
    jvp=_jvp,
    transpose=Unfilled("the order depends on the operands, so it is not linear in them"),
    batch=_batch,
    prune=_prune,
    multiple_results=True,
)
