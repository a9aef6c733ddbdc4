"""broadcast_in_dim and reduce_sum: each is the other's transpose.

broadcast_in_dim: out[j0, ..., jn] = x[..., j at broadcast_dimensions[i], ...] (0 where x's axis has size 1);
reduce_sum: out[k] = sum of x over ``axes``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core.array import ConcreteArray, scalar_value
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Fold, IndexMap
from fgrad.core.dtypes import float0
from fgrad.core.primitive import Linear, Primitive
from fgrad.errors import ConcretizationError
from fgrad.kernels import reference
from fgrad.primitives.define import NO_CUDA, check_same
from fgrad.primitives.reshape import reshape_p
from fgrad.primitives.transpose import moveaxis


def _broadcast_abstract(x: ShapedArray, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]):
    bd = broadcast_dimensions
    if len(bd) != len(x.shape):
        raise ValueError(
            f"broadcast_in_dim: broadcast_dimensions must name one axis of the result for each of the {x.ndim} axes "
            f"of the operand, got {bd} for shape {x.shape}. Give {x.ndim} axes."
        )
    if bd and (list(bd) != sorted(set(bd)) or not 0 <= bd[0] <= bd[-1] < len(shape)):
        raise ValueError(
            f"broadcast_in_dim: broadcast_dimensions must be strictly increasing axes of the result, got {bd} "
            f"for result shape {shape}. Sort them, or transpose the operand first."
        )
    for i, d in enumerate(bd):
        if x.shape[i] not in (1, shape[d]):
            raise ValueError(
                f"broadcast_in_dim: operand axis {i} must have size 1 or the size of result axis {d}, "
                f"got {x.shape[i]} and {shape[d]} (operand {x.shape}, result {shape}). Change the result shape."
            )
    if shape and min(shape) < 0:
        raise ValueError(f"broadcast_in_dim: sizes must not be negative, got {shape}. Give sizes of at least 0.")
    return ShapedArray(tuple(shape), x.dtype)


def _broadcast_reference(x: np.ndarray, *, shape, broadcast_dimensions) -> np.ndarray:
    if not x.flags.c_contiguous:
        inner = [1] * len(shape)
        for i, d in enumerate(broadcast_dimensions):
            inner[d] = x.shape[i]
        return np.broadcast_to(x.reshape(inner), shape)
    strides = [0] * len(shape)
    for i, d in enumerate(broadcast_dimensions):
        if x.shape[i] != 1:
            strides[d] = x.strides[i]
    out = np.ndarray(shape, x.dtype, x, 0, strides)  # a tenth of broadcast_to's time
    out.flags.writeable = False
    return out


def _broadcast_transpose(ct: Any, x: Any, *, shape, broadcast_dimensions) -> list[Any]:
    # x [.., 1 or n_i, ..] -> ct [..]: sum over the axes x does not have, and over those where its size was 1
    own = {d: i for i, d in enumerate(broadcast_dimensions)}
    axes = tuple([d for d, n in enumerate(shape) if d not in own or (x.shape[own[d]] == 1 and n != 1)])
    out = reduce_sum_p.bind(ct, axes=axes) if axes else ct
    return [out if out.shape == x.shape else reshape_p.bind(out, new_sizes=tuple(x.shape))]


def _broadcast_batch(args, dims, *, shape, broadcast_dimensions):
    (x,), (d,) = args, dims
    x = moveaxis(x, d, 0)
    new_dims = (0, *(b + 1 for b in broadcast_dimensions))
    return broadcast_in_dim_p.bind(x, shape=(x.shape[0], *shape), broadcast_dimensions=new_dims), 0


broadcast_in_dim_p = Primitive(
    "broadcast_in_dim",
    abstract=_broadcast_abstract,
    reference=_broadcast_reference,
    cpu=IndexMap(
        view=lambda layout, *, shape, broadcast_dimensions: layout.broadcast_in_dim(shape, broadcast_dimensions)
    ),
    cuda=NO_CUDA,
    jvp=Linear(),
    transpose=_broadcast_transpose,
    batch=_broadcast_batch,
)


def check_axes(name: str, x: ShapedArray, axes: tuple[int, ...]) -> None:
    """Canonical reduction axes: in range and distinct."""
    if (axes and not 0 <= min(axes) <= max(axes) < len(x.shape)) or len(set(axes)) != len(axes):
        raise ValueError(
            f"{name}: axes must be distinct and in [0, {x.ndim}), got {axes} for shape {x.shape}. Change the axes."
        )


def reduced(x: ShapedArray, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([n for i, n in enumerate(x.shape) if i not in axes])


def batch_reduction(args, dims, bind):
    """Axes and the batch axis of a reduction whose operand is batched at d: ``bind(x, shift) -> out``."""
    (x,), (d,) = args, dims
    return bind(moveaxis(x, d, 0), lambda axes: tuple(a + 1 for a in axes)), 0


def _sum_abstract(x: ShapedArray, *, axes: tuple[int, ...]) -> ShapedArray:
    check_same("reduce_sum", (x,), "number")
    check_axes("reduce_sum", x, axes)
    return ShapedArray(reduced(x, axes), x.dtype)


def _sum_transpose(ct: Any, x: Any, *, axes: tuple[int, ...]) -> list[Any]:
    # ct [kept] -> [kept with the summed axes back]: every summed element had weight 1
    kept = tuple([i for i in range(x.ndim) if i not in axes])
    return [broadcast_in_dim_p.bind(ct, shape=tuple(x.shape), broadcast_dimensions=kept)]


reduce_sum_p = Primitive(
    "reduce_sum",
    abstract=_sum_abstract,
    reference=reference.reduce_sum,
    cpu=Fold("add"),
    cuda=NO_CUDA,
    jvp=Linear(),
    transpose=_sum_transpose,
    batch=lambda args, dims, *, axes: batch_reduction(
        args, dims, lambda x, shift: reduce_sum_p.bind(x, axes=shift(axes))
    ),
)


def full(shape: Sequence[int], value: Any, dtype: Any) -> Any:
    """A constant of the given shape: a broadcast scalar, which costs no memory."""
    if dtype == float0:  # its one value is no number
        return full_from(ConcreteArray(np.zeros((), float0)), tuple(shape))
    try:
        real = type(value) in (int, float) or dtype.kind == "c" or not np.iscomplexobj(value)
        scalar = scalar_value(value, dtype) if real else None
    except ConcretizationError:  # a traced value
        raise
    except (TypeError, ValueError, OverflowError):
        scalar = None
    if scalar is None or scalar.ndim:
        raise TypeError(f"full: the value must be one number that {dtype} holds, got {value!r}. Pass such a number.")
    return full_from(ConcreteArray(scalar), tuple(shape))


def full_from(scalar: Any, shape: tuple[int, ...]) -> Any:
    return broadcast_in_dim_p.bind(scalar, shape=shape, broadcast_dimensions=()) if shape else scalar


def full_like(x: Any, value: Any) -> Any:
    """``value`` in x's shape and dtype."""
    return full(x.shape, value, x.dtype)


def batch_to_front_or_common(args: Sequence[Any], dims: Sequence[int | None]) -> tuple[list[Any], int]:
    """Element-wise operands with one common batch axis: as it is where all agree, else at the front."""
    present = {d for d in dims if d is not None}
    size = next(a.shape[d] for a, d in zip(args, dims) if d is not None)
    at = present.pop() if len(present) == 1 else 0
    out = []
    for a, d in zip(args, dims):
        if d is None:
            shape = (*a.shape[:at], size, *a.shape[at:])
            axes = tuple(i for i in range(len(shape)) if i != at)
            out.append(broadcast_in_dim_p.bind(a, shape=shape, broadcast_dimensions=axes))
        else:
            out.append(a if d == at else moveaxis(a, d, at))
    return out, at
