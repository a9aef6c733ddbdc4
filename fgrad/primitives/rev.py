"""rev: the order of elements reversed along ``dimensions``; its own transpose."""

from __future__ import annotations

from typing import Any

import numpy as np

from fgrad.core.aval import ShapedArray
from fgrad.core.backends import IndexMap
from fgrad.core.primitive import Linear, Primitive
from fgrad.primitives.define import NO_CUDA


def _abstract(x: ShapedArray, *, dimensions: tuple[int, ...]) -> ShapedArray:
    if any(not 0 <= d < x.ndim for d in dimensions) or len(set(dimensions)) != len(dimensions):
        raise ValueError(
            f"rev: dimensions must be distinct and in [0, {x.ndim}), got {dimensions} for shape {x.shape}. "
            "Change the dimensions."
        )
    return ShapedArray(x.shape, x.dtype)


def _transpose(ct: Any, x: Any, *, dimensions: tuple[int, ...]) -> list[Any]:
    return [rev_p.bind(ct, dimensions=dimensions)]


def _batch(args, dims, *, dimensions):
    (x,), (d,) = args, dims
    return rev_p.bind(x, dimensions=tuple(a + (a >= d) for a in dimensions)), d


rev_p = Primitive(
    "rev",
    abstract=_abstract,
    reference=lambda x, *, dimensions: np.flip(x, dimensions),
    cpu=IndexMap(view=lambda layout, *, dimensions: layout.rev(dimensions)),
    cuda=NO_CUDA,
    jvp=Linear(),
    transpose=_transpose,
    batch=_batch,
)
