"""concatenate: operands one after another along ``dimension``; its transpose cuts the cotangent where they meet."""

from __future__ import annotations

from typing import Any

import numpy as np

from fgrad.core.aval import ShapedArray
from fgrad.core.backends import IndexMap
from fgrad.core.primitive import Linear, LinearArg, Primitive
from fgrad.kernels.layout import Layout
from fgrad.primitives.broadcast import batch_to_front_or_common
from fgrad.primitives.define import NO_CUDA
from fgrad.primitives.padding import slice_p


def _abstract(*xs: ShapedArray, dimension: int) -> ShapedArray:
    if not xs:
        raise ValueError("concatenate: needs at least one operand, got none. Pass the arrays to join.")
    first = xs[0]
    if not 0 <= dimension < first.ndim:
        raise ValueError(
            f"concatenate: dimension must be in [0, {first.ndim}), got {dimension} for shape {first.shape}. "
            "Change the dimension, or reshape scalars to shape (1,)."
        )
    for x in xs[1:]:
        if x.ndim != first.ndim or any(m != n for d, (m, n) in enumerate(zip(first.shape, x.shape)) if d != dimension):
            raise ValueError(
                f"concatenate: operands must have equal shapes but for axis {dimension}, "
                f"got {', '.join(str(a.shape) for a in xs)}. Reshape or pad them first."
            )
        if x.dtype != first.dtype:
            raise TypeError(
                f"concatenate: operands must have equal dtypes, got {', '.join(str(a.dtype) for a in xs)}. "
                "Convert them with .astype."
            )
    total = sum(x.shape[dimension] for x in xs)
    return ShapedArray((*first.shape[:dimension], total, *first.shape[dimension + 1 :]), first.dtype)


def _pieces(shapes: list[tuple[int, ...]], dimension: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(start, limit) of each operand in the result."""
    pieces, at = [], 0
    for shape in shapes:
        start, limit = [0] * len(shape), list(shape)
        start[dimension], limit[dimension] = at, at + shape[dimension]
        at = limit[dimension]
        pieces.append((tuple(start), tuple(limit)))
    return pieces


def _copies(ins: tuple[Layout, ...], out: Layout, *, dimension: int):
    ones = (1,) * out.ndim
    pieces = _pieces([x.shape for x in ins], dimension)
    return None, [(i, x, out.slice(*at, ones)) for i, (x, at) in enumerate(zip(ins, pieces)) if x.size]


def _transpose(ct: Any, *xs: Any, dimension: int) -> list[Any]:
    # operand i [.., n_i, ..] was written to ct [.., n_0 + ... + n_(i-1) : ... + n_i, ..]
    ones = (1,) * ct.ndim
    pieces = _pieces([tuple(x.shape) for x in xs], dimension)
    return [
        slice_p.bind(ct, start_indices=start, limit_indices=limit, strides=ones) if isinstance(x, LinearArg) else None
        for x, (start, limit) in zip(xs, pieces)
    ]


def _batch(args, dims, *, dimension):
    args, at = batch_to_front_or_common(args, dims)
    return concatenate_p.bind(*args, dimension=dimension + (at <= dimension)), at


concatenate_p = Primitive(
    "concatenate",
    abstract=_abstract,
    reference=lambda *xs, dimension: np.concatenate(xs, axis=dimension),
    cpu=IndexMap(copies=_copies),
    cuda=NO_CUDA,
    jvp=Linear(),
    transpose=_transpose,
    batch=_batch,
)
