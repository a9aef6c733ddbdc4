"""reshape: the same elements in row-major order; its own transpose with the old shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fgrad.core.aval import ShapedArray
from fgrad.core.backends import IndexMap
from fgrad.core.primitive import Linear, Primitive
from fgrad.primitives.define import NO_CUDA
from fgrad.primitives.transpose import moveaxis


def _abstract(x: ShapedArray, *, new_sizes: tuple[int, ...]) -> ShapedArray:
    if (new_sizes and min(new_sizes) < 0) or math.prod(new_sizes) != x.size:
        raise ValueError(
            f"reshape: the new shape must hold as many elements as the old, got {x.shape} ({x.size}) "
            f"and {tuple(new_sizes)} ({math.prod(new_sizes)}). Change the new shape."
        )
    return ShapedArray(tuple(new_sizes), x.dtype)


def _transpose(ct: Any, x: Any, *, new_sizes: tuple[int, ...]) -> list[Any]:
    return [reshape_p.bind(ct, new_sizes=tuple(x.shape))]


def _batch(args, dims, *, new_sizes):
    (x,), (d,) = args, dims
    x = moveaxis(x, d, 0)
    return reshape_p.bind(x, new_sizes=(x.shape[0], *new_sizes)), 0


def squeeze(x: Any, axis: int) -> Any:
    """X without an axis of size 1."""
    return reshape_p.bind(x, new_sizes=tuple(x.shape[:axis]) + tuple(x.shape[axis + 1 :]))


def expand(x: Any, axis: int) -> Any:
    """X with a new axis of size 1."""
    return reshape_p.bind(x, new_sizes=(*x.shape[:axis], 1, *x.shape[axis:]))


reshape_p = Primitive(
    "reshape",
    abstract=_abstract,
    reference=lambda x, *, new_sizes: np.reshape(x, new_sizes),
    cpu=IndexMap(view=lambda layout, *, new_sizes: layout.reshape(new_sizes)),
    cuda=NO_CUDA,
    jvp=Linear(),
    transpose=_transpose,
    batch=_batch,
)
