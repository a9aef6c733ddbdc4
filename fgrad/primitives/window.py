"""Sliding windows: reduce_window_sum, reduce_window_max, reduce_window_min, and the position of a window's winner.

With X the operand dilated by ``base_dilation`` and padded, out[p] = op over t of X[p * stride + t * window_dilation].
Padding (which may be negative) and the holes of base_dilation hold op's identity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Kernel
from fgrad.core.primitive import Linear, Primitive
from fgrad.kernels import reference
from fgrad.kernels.window_plan import plan_reduce_window, plan_reduce_window_index
from fgrad.primitives.arithmetic import mul_p, sub_p
from fgrad.primitives.broadcast import full, full_like
from fgrad.primitives.compare import ge_p, select_n_p
from fgrad.primitives.define import NO_CUDA, NOT_LINEAR, check_same, zero_tangent
from fgrad.primitives.dilate import dilated_size
from fgrad.primitives.indexing import gather_p
from fgrad.primitives.iota import iota_p
from fgrad.primitives.reshape import expand, reshape_p
from fgrad.primitives.transpose import moveaxis


# --- shapes ----------------------------------------------------------------------------------------------------------
def check_counts(name: str, ndim: int, what: str, **per_axis: Sequence[Any]) -> None:
    """One entry for each axis in every parameter, and positive where it is an integer."""
    for key, values in per_axis.items():
        if len(values) != ndim:
            raise ValueError(
                f"{name}: {key} must have one entry for each of the {ndim} {what}, got {values} ({len(values)}). "
                f"Give {ndim} entries."
            )
        if any(isinstance(v, int) and v < 1 for v in values):
            raise ValueError(f"{name}: {key} must be positive, got {values}. Use 1 where nothing shall change.")


def windowed_size(
    name: str, window: str, axis: str, n: int, k: int, stride: int, pad: tuple[int, int], base: int, dilation: int
) -> int:
    """floor((padded - reach) / stride) + 1; a window that does not fit is an error unless the axis itself is empty."""
    reach = dilated_size(k, dilation)
    padded = pad[0] + dilated_size(n, base) + pad[1]
    if n == 0 or k == 0:
        return 0 if k == 0 else max(0, (padded - reach) // stride + 1)
    if reach > padded:
        raise ValueError(
            f"{name}: the {window} must not be larger than the padded input, got {window} size {reach} and padded "
            f"input size {padded} on {axis} ({window}: 1 + ({k} - 1) * {dilation} = {reach}; input: {pad[0]} + "
            f"(1 + ({n} - 1) * {base}) + {pad[1]} = {padded}). Pad more, or use a smaller {window}."
        )
    return (padded - reach) // stride + 1


def _window_shape(
    name: str, x: ShapedArray, *, window_dimensions, window_strides, padding, base_dilation, window_dilation
) -> tuple[int, ...]:
    check_counts(
        name, x.ndim, "axes", window_dimensions=window_dimensions, window_strides=window_strides, padding=padding,
        base_dilation=base_dilation, window_dilation=window_dilation,
    )  # fmt: skip
    return tuple(
        windowed_size(name, "window", f"axis {d}", *sizes)
        for d, sizes in enumerate(
            zip(x.shape, window_dimensions, window_strides, padding, base_dilation, window_dilation)
        )
    )


def _with_axis(d: int, window: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """The same window with one more axis at d, over which it does not slide."""
    return {key: (*values[:d], (0, 0) if key == "padding" else 1, *values[d:]) for key, values in window.items()}


# --- sums ------------------------------------------------------------------------------------------------------------
def _sum_abstract(x: ShapedArray, **window: Any) -> ShapedArray:
    check_same("reduce_window_sum", (x,), "number")
    return ShapedArray(_window_shape("reduce_window_sum", x, **window), x.dtype)


def _sum_transpose(
    ct: Any, x: Any, *, window_dimensions, window_strides, padding, base_dilation, window_dilation
) -> list[Any]:
    # On each axis out[p] = sum_t X[p s + t w] with X[lo + i b] = x[i].  Let D = ct dilated by s (size o' = 1 + (o-1)s):
    #     x_bar[i] = X_bar[lo + i b],   X_bar[q] = sum_t D[q - t w] = sum_t D[(q - r) + t w],   r = (k - 1) w,
    # which is the same window sliding over D with stride b, starting at lo - r: padding (r - lo, hi') where
    # r - lo + o' + hi' = (1 + (n - 1) b) + r.  Strides and base dilation have changed places.
    if ct.size == 0 or x.aval.size == 0:
        return [full(x.shape, 0, ct.dtype)]
    back = tuple(
        ((k - 1) * w - lo, dilated_size(n, b) - dilated_size(o, s) + lo)
        for n, o, k, s, (lo, _), b, w in zip(
            x.shape, ct.shape, window_dimensions, window_strides, padding, base_dilation, window_dilation
        )
    )
    out = reduce_window_sum_p.bind(
        ct,
        window_dimensions=window_dimensions,
        window_strides=base_dilation,
        padding=back,
        base_dilation=window_strides,
        window_dilation=window_dilation,
    )
    return [out]


def _sum_batch(args, dims, **window):
    (x,), (d,) = args, dims
    return reduce_window_sum_p.bind(x, **_with_axis(d, window)), d


# --- extrema ---------------------------------------------------------------------------------------------------------
def _extremum(kind: str) -> Primitive:
    """reduce_window_max or reduce_window_min.  Of equal elements the first in row-major order has the tangent."""
    name = f"reduce_window_{kind}"

    def abstract(x: ShapedArray, **window: Any) -> ShapedArray:
        check_same(name, (x,), "real or bool")
        return ShapedArray(_window_shape(name, x, **window), x.dtype)

    def jvp(primals, tangents, **window):
        (x,), (t,) = primals, tangents
        ans = prim.bind(x, **window)
        winner = reduce_window_index_p.bind(x, kind=kind, **window)
        # a window that holds no element has winner -1: out of range, tangent 0
        flat = reshape_p.bind(t, new_sizes=(x.size,))
        return ans, gather_p.bind(flat, expand(winner, winner.ndim), axes=(0,), mode="fill")

    def batch(args, dims, **window):
        (x,), (d,) = args, dims
        return prim.bind(x, **_with_axis(d, window)), d

    prim = Primitive(
        name,
        abstract=abstract,
        reference=lambda x, **window: reference.reduce_window(x, kind=kind, **window),
        cpu=Kernel(lambda ins, outs, **window: plan_reduce_window(ins, outs, kind=kind, **window)),
        cuda=NO_CUDA,
        jvp=jvp,
        transpose=NOT_LINEAR,
        batch=batch,
    )
    return prim


def _index_abstract(x: ShapedArray, *, kind: str, **window: Any) -> ShapedArray:
    check_same("reduce_window_index", (x,), "real or bool")
    if kind not in ("max", "min"):
        raise ValueError(f"reduce_window_index: kind must be 'max' or 'min', got {kind!r}. Choose one of them.")
    return ShapedArray(_window_shape("reduce_window_index", x, **window), dtypes.int64)


def _index_jvp(primals, tangents, **params):
    ans = reduce_window_index_p.bind(*primals, **params)
    return ans, zero_tangent(ans.aval)


def _index_batch(args, dims, *, kind, **window):
    # Over (V, x) the index counts from the first example: v * size(x) + i, or -1.
    (x,), (d,) = args, dims
    x = moveaxis(x, d, 0)
    index = reduce_window_index_p.bind(x, kind=kind, **_with_axis(0, window))
    size = math.prod(x.shape[1:])
    first = iota_p.bind(dtype=dtypes.int64, shape=tuple(index.shape), dimension=0)
    own = sub_p.bind(index, mul_p.bind(first, full_like(first, size)))
    return select_n_p.bind(ge_p.bind(index, full_like(index, 0)), index, own), 0


# --- the table -------------------------------------------------------------------------------------------------------
reduce_window_sum_p = Primitive(
    "reduce_window_sum",
    abstract=_sum_abstract,
    reference=lambda x, **window: reference.reduce_window(x, kind="add", **window),
    cpu=Kernel(lambda ins, outs, **window: plan_reduce_window(ins, outs, kind="add", **window)),
    cuda=NO_CUDA,
    jvp=Linear(),
    transpose=_sum_transpose,
    batch=_sum_batch,
)
reduce_window_max_p = _extremum("max")
reduce_window_min_p = _extremum("min")
reduce_window_index_p = Primitive(
    "reduce_window_index",
    abstract=_index_abstract,
    reference=reference.reduce_window_index,
    cpu=Kernel(plan_reduce_window_index),
    cuda=NO_CUDA,
    jvp=_index_jvp,
    transpose=NOT_LINEAR,
    batch=_index_batch,
)
