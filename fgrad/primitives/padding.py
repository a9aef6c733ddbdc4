"""pad and slice: each is the other's transpose.

pad: element i of an axis of size n lands at lo + i * (interior + 1) of an axis of size
lo + n + max(n - 1, 0) * interior + hi; positions it leaves free hold the padding value, negative lo and hi crop.
slice: out[i] = x[start + i * stride] for start + i * stride < limit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import IndexMap
from fgrad.core.primitive import Linear, LinearArg, Primitive
from fgrad.kernels import reference
from fgrad.kernels.layout import Layout
from fgrad.primitives.broadcast import broadcast_in_dim_p, full, full_like, reduce_sum_p
from fgrad.primitives.compare import select_n_p
from fgrad.primitives.define import NO_CUDA
from fgrad.primitives.transpose import moveaxis

PaddingConfig = tuple[tuple[int, int, int], ...]


# --- pad -------------------------------------------------------------------------------------------------------------
def _pad_abstract(x: ShapedArray, value: ShapedArray, *, padding_config: PaddingConfig) -> ShapedArray:
    if value.shape != ():
        raise ValueError(f"pad: the padding value must be a scalar, got shape {value.shape}. Pass one number.")
    if value.dtype != x.dtype:
        raise TypeError(
            f"pad: the padding value must have the operand's dtype, got {value.dtype} and {x.dtype}. "
            "Convert it with .astype."
        )
    if len(padding_config) != x.ndim:
        raise ValueError(
            f"pad: padding_config must have one (lo, hi, interior) for each of the {x.ndim} axes, "
            f"got {len(padding_config)} for shape {x.shape}. Give {x.ndim} triples."
        )
    shape = []
    for d, (n, (lo, hi, interior)) in enumerate(zip(x.shape, padding_config)):
        if interior < 0:
            raise ValueError(
                f"pad: interior padding must not be negative, got {interior} for axis {d}. "
                "Use slice with strides to drop elements."
            )
        size = lo + n + max(n - 1, 0) * interior + hi
        if size < 0:
            raise ValueError(
                f"pad: the padded size must not be negative, got {size} for axis {d} "
                f"({lo} + {n} + {max(n - 1, 0)} * {interior} + {hi}). Crop less."
            )
        shape.append(size)
    return ShapedArray(tuple(shape), x.dtype)


def landing(n: int, m: int, lo: int, step: int) -> tuple[int, int]:
    """(first, end) of the elements i of an axis of size n with 0 <= lo + i * step < m."""
    first = max(0, -(lo // step))  # ceil(-lo / step)
    return first, max(first, min(n, (m - 1 - lo) // step + 1))


def spread(x: Layout, out: Layout, padding_config: PaddingConfig) -> list[tuple[int, Layout, Layout]]:
    """The one strided region of ``out`` that elements of ``x`` land in, as IndexMap's copies; none if it is empty."""
    sources, targets = [], []
    for n, m, (lo, _, interior) in zip(x.shape, out.shape, padding_config):
        first, end = landing(n, m, lo, interior + 1)
        if first == end:
            return []
        sources.append((first, end, 1))
        targets.append((lo + first * (interior + 1), lo + (end - 1) * (interior + 1) + 1, interior + 1))
    if not sources:
        return [(0, x, out)]
    return [(0, x.slice(*zip(*sources)), out.slice(*zip(*targets)))]


def _pad_copies(ins: tuple[Layout, ...], out: Layout, *, padding_config: PaddingConfig):
    regions = spread(ins[0], out, padding_config)
    covered = sum(target.size for _, _, target in regions)
    return (None if covered == out.size else ("operand", 1)), regions


def _landed(shape: tuple[int, ...], padding_config: PaddingConfig) -> Any:
    """Where the result of pad holds an element of its operand: bool, in the result's shape."""
    inside = full(shape, True, dtypes.bool_)
    return pad_p.bind(inside, full((), False, dtypes.bool_), padding_config=padding_config)


def _pad_transpose(ct: Any, x: Any, value: Any, *, padding_config: PaddingConfig) -> list[Any]:
    # x[i] went to ct[lo + i * (interior + 1)].  Where lo or hi cropped, zeros come back, which makes ct as large as if
    # nothing had been cropped: then x's part begins at max(lo, 0), ends max(hi, 0) before the end, step interior + 1.
    x_bar = value_bar = None
    if isinstance(x, LinearArg):
        x_bar = ct
        if any(lo < 0 or hi < 0 for lo, hi, _ in padding_config):
            restored = tuple((max(-lo, 0), max(-hi, 0), 0) for lo, hi, _ in padding_config)
            x_bar = pad_p.bind(x_bar, full((), 0, ct.dtype), padding_config=restored)
        x_bar = slice_p.bind(
            x_bar,
            start_indices=tuple(max(lo, 0) for lo, _, _ in padding_config),
            limit_indices=tuple(n - max(hi, 0) for n, (_, hi, _) in zip(x_bar.shape, padding_config)),
            strides=tuple(interior + 1 for _, _, interior in padding_config),
        )
    if isinstance(value, LinearArg):
        # the padding value went everywhere else
        elsewhere = select_n_p.bind(_landed(x.shape, padding_config), ct, full_like(ct, 0))
        value_bar = reduce_sum_p.bind(elsewhere, axes=tuple(range(ct.ndim)))
    return [x_bar, value_bar]


def _pad_batch(args, dims, *, padding_config):
    (x, value), (d, d_value) = args, dims
    if d_value is None:
        config = (*padding_config[:d], (0, 0, 0), *padding_config[d:])
        return pad_p.bind(x, value, padding_config=config), d
    # a padding value for each example: pad with zeros, then choose
    size = value.shape[0]
    if d is None:
        x = broadcast_in_dim_p.bind(x, shape=(size, *x.shape), broadcast_dimensions=tuple(range(1, x.ndim + 1)))
    else:
        x = moveaxis(x, d, 0)
    config = ((0, 0, 0), *padding_config)
    padded = pad_p.bind(x, full((), 0, x.dtype), padding_config=config)
    fill = broadcast_in_dim_p.bind(value, shape=tuple(padded.shape), broadcast_dimensions=(0,))
    return select_n_p.bind(_landed(x.shape, config), fill, padded), 0


# --- slice -----------------------------------------------------------------------------------------------------------
def _slice_abstract(x: ShapedArray, *, start_indices, limit_indices, strides) -> ShapedArray:
    for name, values in (
        ("start_indices", start_indices),
        ("limit_indices", limit_indices),
        ("strides", strides),
    ):
        if len(values) != x.ndim:
            raise ValueError(
                f"slice: {name} must have one entry for each of the {x.ndim} axes, got {values} for shape {x.shape}. "
                f"Give {x.ndim} entries."
            )
    for d, (n, a, b, s) in enumerate(zip(x.shape, start_indices, limit_indices, strides)):
        if not 0 <= a <= b <= n:
            raise ValueError(
                f"slice: 0 <= start <= limit <= size must hold, got start {a}, limit {b}, size {n} for axis {d} "
                f"of shape {x.shape}. Indices do not wrap: add the size to negative ones."
            )
        if s < 1:
            raise ValueError(f"slice: strides must be positive, got {s} for axis {d}. Use rev to read backwards.")
    return ShapedArray(tuple(-(-(b - a) // s) for a, b, s in zip(start_indices, limit_indices, strides)), x.dtype)


def _slice_reference(x: np.ndarray, *, start_indices, limit_indices, strides) -> np.ndarray:
    return x[tuple(slice(a, b, s) for a, b, s in zip(start_indices, limit_indices, strides))]


def _slice_transpose(ct: Any, x: Any, *, start_indices, limit_indices, strides) -> list[Any]:
    # ct [m] goes back to start + i * stride: lo = start, interior = stride - 1, and hi is what remains of x's n:
    # hi = n - start - (1 + (m - 1) * stride), or n - start for m = 0
    config = tuple(
        (a, n - a - (1 + (m - 1) * s if m else 0), s - 1)
        for n, m, a, s in zip(x.shape, ct.shape, start_indices, strides)
    )
    return [pad_p.bind(ct, full((), 0, ct.dtype), padding_config=config)]


def _slice_batch(args, dims, *, start_indices, limit_indices, strides):
    (x,), (d,) = args, dims
    out = slice_p.bind(
        x,
        start_indices=(*start_indices[:d], 0, *start_indices[d:]),
        limit_indices=(*limit_indices[:d], x.shape[d], *limit_indices[d:]),
        strides=(*strides[:d], 1, *strides[d:]),
    )
    return out, d


# --- the table -------------------------------------------------------------------------------------------------------
pad_p = Primitive(
    "pad",
    abstract=_pad_abstract,
    reference=reference.pad,
    cpu=IndexMap(copies=_pad_copies),
    cuda=NO_CUDA,
    jvp=Linear(),
    transpose=_pad_transpose,
    batch=_pad_batch,
)
slice_p = Primitive(
    "slice",
    abstract=_slice_abstract,
    reference=_slice_reference,
    cpu=IndexMap(
        view=lambda layout, *, start_indices, limit_indices, strides: layout.slice(
            start_indices, limit_indices, strides
        )
    ),
    cuda=NO_CUDA,
    jvp=Linear(),
    transpose=_slice_transpose,
    batch=_slice_batch,
)
