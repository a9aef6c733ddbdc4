"""transpose: out[i0, i1, ...] = x at the axes permuted; its own transpose with the inverse permutation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core.aval import ShapedArray
from fgrad.core.backends import IndexMap
from fgrad.core.primitive import Linear, Primitive
from fgrad.primitives.define import NO_CUDA


def _abstract(x: ShapedArray, *, permutation: tuple[int, ...]) -> ShapedArray:
    if sorted(permutation) != list(range(x.ndim)):
        raise ValueError(
            f"transpose: permutation must name each of the {x.ndim} axes once, got {permutation} for shape {x.shape}. "
            f"Use a permutation of {tuple(range(x.ndim))}."
        )
    return ShapedArray(tuple(x.shape[p] for p in permutation), x.dtype)


def inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    inverse = [0] * len(permutation)
    for i, p in enumerate(permutation):
        inverse[p] = i
    return tuple(inverse)


def _transpose(ct: Any, x: Any, *, permutation: tuple[int, ...]) -> list[Any]:
    return [transpose_p.bind(ct, permutation=inverse(permutation))]


def _batch(args, dims, *, permutation):
    (x,), (d,) = args, dims
    # (.., B at d, ..) -> (B, permuted): axes of x other than d, counted as the user counts them, skip d
    permutation = (d, *(p + (p >= d) for p in permutation))
    return transpose_p.bind(x, permutation=permutation), 0


def permute(x: Any, permutation: Sequence[int]) -> Any:
    """transpose, or x itself for the identity permutation."""
    permutation = tuple(permutation)
    return x if permutation == tuple(range(len(permutation))) else transpose_p.bind(x, permutation=permutation)


def moveaxis(x: Any, source: int, destination: int) -> Any:
    order = [i for i in range(x.ndim) if i != source]
    order.insert(destination, source)
    return permute(x, order)


transpose_p = Primitive(
    "transpose",
    abstract=_abstract,
    reference=lambda x, *, permutation: np.transpose(x, permutation),
    cpu=IndexMap(view=lambda layout, *, permutation: layout.transpose(permutation)),
    cuda=NO_CUDA,
    jvp=Linear(),
    transpose=_transpose,
    batch=_batch,
)
