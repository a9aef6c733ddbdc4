"""The extrema of sliding windows: reduce_window_max, reduce_window_min, and which tap of a window wins.

The winner of window p is a tap t(p), numbered in row-major order of the window, so it means the same wherever the
operand lies in memory.  With X the operand dilated and padded (see `window`), the tangent of an extremum is

    gather_winners:    out[p] = X[p * stride + t(p) * window_dilation],

which is linear in X.  Its transpose, scatter_winners, adds every window's cotangent where its winner was.
"""

from __future__ import annotations

import math
from typing import Any

from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Kernel
from fgrad.core.jaxpr import Eqn
from fgrad.core.primitive import Primitive, Zero
from fgrad.kernels import reference
from fgrad.kernels.window_plan import plan_reduce_window, plan_reduce_window_winner
from fgrad.kernels.winner_plan import plan_gather_winners, plan_scatter_winners
from fgrad.primitives.broadcast import batch_to_front_or_common
from fgrad.primitives.define import NO_CUDA, NOT_LINEAR, check_same, zero_tangent
from fgrad.primitives.window import window_shape, with_axis


# --- extrema ---------------------------------------------------------------------------------------------------------
def _extremum(kind: str) -> Primitive:
    """reduce_window_max or reduce_window_min.  Of equal elements the first in row-major order has the tangent."""
    name = f"reduce_window_{kind}"

    def abstract(x: ShapedArray, **window: Any) -> ShapedArray:
        check_same(name, (x,), "real or bool")
        return ShapedArray(window_shape(name, x, **window), x.dtype)

    def jvp(primals, tangents, **window):
        (ans, _), (tangent, _) = _winner_jvp(primals, tangents, kind=kind, **window)
        return ans, tangent

    def batch(args, dims, **window):
        (x,), (d,) = args, dims
        return prim.bind(x, **with_axis(d, window)), d

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


def _winner_abstract(x: ShapedArray, *, kind: str, **window: Any) -> tuple[ShapedArray, ShapedArray]:
    check_same("reduce_window_winner", (x,), "real or bool")
    if kind not in ("max", "min"):
        raise ValueError(f"reduce_window_winner: kind must be 'max' or 'min', got {kind!r}. Choose one of them.")
    shape = window_shape("reduce_window_winner", x, **window)
    return ShapedArray(shape, x.dtype), ShapedArray(shape, reference.tap_dtype(window["window_dimensions"]))


def _winner_jvp(primals, tangents, *, kind, **window):
    # a window that holds no element has no winner, and tangent 0
    (x,), (t,) = primals, tangents
    ans, taps = reduce_window_winner_p.bind(x, kind=kind, **window)
    return (ans, taps), (gather_winners_p.bind(t, taps, **window), zero_tangent(taps.aval))


def _winner_batch(args, dims, *, kind, **window):
    (x,), (d,) = args, dims
    return reduce_window_winner_p.bind(x, kind=kind, **with_axis(d, window)), (d, d)


def _winner_prune(eqn: Eqn, used: list[bool]) -> Eqn:
    """Without its taps it is an extremum."""
    if used[1]:
        return eqn
    params = dict(eqn.params)
    extremum = {"max": reduce_window_max_p, "min": reduce_window_min_p}[params.pop("kind")]
    return eqn._replace(primitive=extremum, params=params, outvars=eqn.outvars[:1])


# --- the winners' elements -------------------------------------------------------------------------------------------
def _check_taps(name: str, shape: tuple[int, ...], taps: ShapedArray, window: dict[str, Any]) -> None:
    """One tap for each window over an array of that shape."""
    dtype = reference.tap_dtype(window["window_dimensions"])
    if taps.shape != shape or taps.dtype != dtype:
        raise ValueError(
            f"{name}: taps must be {dtype} of shape {shape}, one for each window of "
            f"{math.prod(window['window_dimensions'])} taps, got {taps.dtype} of shape {taps.shape}. "
            "Take them from reduce_window_winner with the same window."
        )


def _gather_abstract(x: ShapedArray, taps: ShapedArray, **window: Any) -> ShapedArray:
    check_same("gather_winners", (x,), "real")
    shape = window_shape("gather_winners", x, **window)
    _check_taps("gather_winners", shape, taps, window)
    return ShapedArray(shape, x.dtype)


def _gather_transpose(ct: Any, x: Any, taps: Any, **window: Any) -> list[Any]:
    # out[p] = X[p s + t(p) w] with X[lo + i b] = x[i].  Each p reads one X, so
    #     x_bar[i] = sum of ct[p] over the p with p s + t(p) w = lo + i b
    return [scatter_winners_p.bind(ct, taps, shape=tuple(x.shape), **window), None]


def _scatter_abstract(x: ShapedArray, taps: ShapedArray, *, shape: tuple[int, ...], **window: Any) -> ShapedArray:
    check_same("scatter_winners", (x,), "real")
    windows = window_shape("scatter_winners", ShapedArray(shape, x.dtype), **window)
    if x.shape != windows:
        raise ValueError(
            f"scatter_winners: the operand must have one element for each window over {shape}, shape {windows}, got "
            f"{x.shape}. Give the shape that the windows slide over."
        )
    _check_taps("scatter_winners", windows, taps, window)
    return ShapedArray(shape, x.dtype)


def _scatter_transpose(ct: Any, x: Any, taps: Any, *, shape: tuple[int, ...], **window: Any) -> list[Any]:
    return [gather_winners_p.bind(ct, taps, **window), None]


def _gather_jvp(primals, tangents, **window):
    (x, taps), (t, _) = primals, tangents
    ans = gather_winners_p.bind(x, taps, **window)
    return ans, zero_tangent(ans.aval) if type(t) is Zero else gather_winners_p.bind(t, taps, **window)


def _scatter_jvp(primals, tangents, **params):
    (x, taps), (t, _) = primals, tangents
    ans = scatter_winners_p.bind(x, taps, **params)
    return ans, zero_tangent(ans.aval) if type(t) is Zero else scatter_winners_p.bind(t, taps, **params)


def _gather_batch(args, dims, **window):
    (x, taps), d = batch_to_front_or_common(args, dims)
    return gather_winners_p.bind(x, taps, **with_axis(d, window)), d


def _scatter_batch(args, dims, *, shape, **window):
    (x, taps), d = batch_to_front_or_common(args, dims)
    shape = (*shape[:d], x.shape[d], *shape[d:])
    return scatter_winners_p.bind(x, taps, shape=shape, **with_axis(d, window)), d


# --- the table -------------------------------------------------------------------------------------------------------
reduce_window_max_p = _extremum("max")
reduce_window_min_p = _extremum("min")
reduce_window_winner_p = Primitive(
    "reduce_window_winner",
    abstract=_winner_abstract,
    reference=reference.reduce_window_winner,
    cpu=Kernel(plan_reduce_window_winner),
    cuda=NO_CUDA,
    jvp=_winner_jvp,
    transpose=NOT_LINEAR,
    batch=_winner_batch,
    prune=_winner_prune,
    multiple_results=True,
)
gather_winners_p = Primitive(
    "gather_winners",
    abstract=_gather_abstract,
    reference=reference.gather_winners,
    cpu=Kernel(plan_gather_winners),
    cuda=NO_CUDA,
    jvp=_gather_jvp,
    transpose=_gather_transpose,
    batch=_gather_batch,
)
scatter_winners_p = Primitive(
    "scatter_winners",
    abstract=_scatter_abstract,
    reference=reference.scatter_winners,
    cpu=Kernel(plan_scatter_winners),
    cuda=NO_CUDA,
    jvp=_scatter_jvp,
    transpose=_scatter_transpose,
    batch=_scatter_batch,
)
