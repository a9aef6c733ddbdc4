"""dilate and undilate: each is the other's transpose, up to the leftover that pad restores.

dilate puts factor - 1 zeros between neighbours: size n becomes 1 + (n - 1) * factor, and 0 stays 0.
undilate keeps every factor-th element from the first: size n becomes ceil(n / factor), any leftover allowed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fgrad.core.aval import ShapedArray
from fgrad.core.backends import IndexMap
from fgrad.core.primitive import Linear, Primitive
from fgrad.kernels import reference
from fgrad.kernels.layout import Layout
from fgrad.primitives.broadcast import full
from fgrad.primitives.define import NO_CUDA
from fgrad.primitives.padding import pad_p, spread


def dilated_size(n: int, factor: int) -> int:
    return 1 + (n - 1) * factor if n else 0


def _check(name: str, x: ShapedArray, factors: tuple[int, ...]) -> None:
    if len(factors) != x.ndim:
        raise ValueError(
            f"{name}: factors must have one entry for each of the {x.ndim} axes, got {factors} for shape {x.shape}. "
            "Use 1 for axes to leave alone."
        )
    if any(f < 1 for f in factors):
        raise ValueError(f"{name}: factors must be positive, got {factors}. Use 1 for axes to leave alone.")


def _dilate_abstract(x: ShapedArray, *, factors: tuple[int, ...]) -> ShapedArray:
    _check("dilate", x, factors)
    return ShapedArray(tuple(map(dilated_size, x.shape, factors)), x.dtype)


def _undilate_abstract(y: ShapedArray, *, factors: tuple[int, ...]) -> ShapedArray:
    _check("undilate", y, factors)
    return ShapedArray(tuple(-(-n // f) for n, f in zip(y.shape, factors)), y.dtype)


def _dilate_copies(ins: tuple[Layout, ...], out: Layout, *, factors: tuple[int, ...]):
    regions = spread(ins[0], out, tuple((0, 0, f - 1) for f in factors))
    return (None if ins[0].size == out.size else 0), regions


def _undilate_view(layout: Layout, *, factors: tuple[int, ...]) -> Layout:
    return layout.slice((0,) * layout.ndim, layout.shape, factors)


def _dilate_transpose(ct: Any, x: Any, *, factors: tuple[int, ...]) -> list[Any]:
    # ct [1 + (n - 1) f] -> x [n]: exactly every f-th, no leftover
    return [undilate_p.bind(ct, factors=factors)]


def _undilate_transpose(ct: Any, y: Any, *, factors: tuple[int, ...]) -> list[Any]:
    # ct [c], c = ceil(n / f) -> 1 + (c - 1) f <= n; the leftover n - that was never read: zeros
    spread_ct = dilate_p.bind(ct, factors=factors)
    leftover = tuple((0, n - m, 0) for n, m in zip(y.shape, spread_ct.shape))
    if any(hi for _, hi, _ in leftover):
        spread_ct = pad_p.bind(spread_ct, full((), 0, ct.dtype), padding_config=leftover)
    return [spread_ct]


def _dilate_batch(args, dims, *, factors):
    (x,), (d,) = args, dims
    return dilate_p.bind(x, factors=(*factors[:d], 1, *factors[d:])), d


def _undilate_batch(args, dims, *, factors):
    (y,), (d,) = args, dims
    return undilate_p.bind(y, factors=(*factors[:d], 1, *factors[d:])), d


dilate_p = Primitive(
    "dilate",
    abstract=_dilate_abstract,
    reference=reference.dilate,
    cpu=IndexMap(copies=_dilate_copies),
    cuda=NO_CUDA,
    jvp=Linear(),
    transpose=_dilate_transpose,
    batch=_dilate_batch,
)
undilate_p = Primitive(
    "undilate",
    abstract=_undilate_abstract,
    reference=lambda y, *, factors: np.asarray(y[tuple(slice(None, None, f) for f in factors)]),
    cpu=IndexMap(view=_undilate_view),
    cuda=NO_CUDA,
    jvp=Linear(),
    transpose=_undilate_transpose,
    batch=_undilate_batch,
)
