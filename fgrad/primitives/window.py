"""Sliding windows: their sizes, and reduce_window_sum; extrema are in `window_winners`.

With X the operand dilated by ``base_dilation`` and padded, out[p] = op over t of X[p * stride + t * window_dilation].
Padding (which may be negative) and the holes of base_dilation hold op's identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Kernel
from fgrad.core.primitive import Linear, Primitive
from fgrad.kernels import reference
from fgrad.kernels.window_plan import plan_reduce_window
from fgrad.primitives.broadcast import full
from fgrad.primitives.define import NO_CUDA, check_same
from fgrad.primitives.dilate import dilated_size


# --- shapes ----------------------------------------------------------------------------------------------------------
def check_counts(name: str, ndim: int, what: str, **per_axis: Sequence[Any]) -> None:
    """One entry for each axis in every parameter, and a positive one, but for padding."""
    for key, values in per_axis.items():
        if len(values) != ndim:
            raise ValueError(
                f"{name}: {key} must have one entry for each of the {ndim} {what}, got {values} ({len(values)}). "
                f"Give {ndim} entries."
            )
        if key != "padding" and values and min(values) < 1:
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


def window_shape(
    name: str, x: ShapedArray, *, window_dimensions, window_strides, padding, base_dilation, window_dilation
) -> tuple[int, ...]:
    check_counts(
        name, len(x.shape), "axes", window_dimensions=window_dimensions, window_strides=window_strides, padding=padding,
        base_dilation=base_dilation, window_dilation=window_dilation,
    )  # fmt: skip
    axes = zip(x.shape, window_dimensions, window_strides, padding, base_dilation, window_dilation)
    return tuple([windowed_size(name, "window", f"axis {d}", *sizes) for d, sizes in enumerate(axes)])


def with_axis(d: int, window: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """The same window with one more axis at d, over which it does not slide."""
    return {key: (*values[:d], (0, 0) if key == "padding" else 1, *values[d:]) for key, values in window.items()}


# --- sums ------------------------------------------------------------------------------------------------------------
def _sum_abstract(x: ShapedArray, **window: Any) -> ShapedArray:
    check_same("reduce_window_sum", (x,), "number")
    return ShapedArray(window_shape("reduce_window_sum", x, **window), x.dtype)


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
    return reduce_window_sum_p.bind(x, **with_axis(d, window)), d


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
