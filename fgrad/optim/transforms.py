"""The steps that optimisers are chained from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fgrad import numpy as fnp
from fgrad.core.array import Array
from fgrad.core.static import flag, function
from fgrad.optim.base import (
    GradientTransformation,
    Params,
    ScalarOrSchedule,
    Schedule,
    State,
    Updates,
    check_numbers,
    global_norm,
    stateless,
)
from fgrad.tree import tree_map


def scale(step_size: Any) -> GradientTransformation:
    """g -> step_size g."""
    check_numbers("scale", step_size=step_size)
    return stateless(lambda updates, params: tree_map(lambda g: fnp.multiply(g, step_size), updates))


class ScaleByScheduleState(NamedTuple):
    """``count``: updates made so far, int32."""

    count: Array  # type: ignore[assignment]  # optax's name; NamedTuple has a method of it


def scale_by_schedule(step_size_fn: Schedule) -> GradientTransformation:
    """g -> step_size_fn(count) g, count being 0 at the first update."""
    function("scale_by_schedule", "step_size_fn", step_size_fn)

    def init(params: Params) -> ScaleByScheduleState:
        return ScaleByScheduleState(fnp.zeros((), "int32"))

    def update(updates: Updates, state: ScaleByScheduleState, params: Params = None) -> tuple[Updates, State]:
        size = fnp.asarray(step_size_fn(state.count))
        scaled = tree_map(lambda g: fnp.multiply(g, fnp.asarray(size, fnp.asarray(g).dtype)), updates)
        return scaled, ScaleByScheduleState(fnp.add(state.count, 1))

    return GradientTransformation(init, update)


def scale_by_learning_rate(learning_rate: ScalarOrSchedule) -> GradientTransformation:
    """g -> -learning_rate g: the step downhill.  The rate is a number or a schedule."""
    if callable(learning_rate):
        schedule = learning_rate
        return scale_by_schedule(lambda count: fnp.negative(schedule(count)))
    check_numbers("scale_by_learning_rate", learning_rate=learning_rate)
    return scale(-learning_rate if isinstance(learning_rate, int | float) else fnp.negative(learning_rate))


class TraceState(NamedTuple):
    """``trace``: the running sum of gradients."""

    trace: Params


def trace(decay: float, nesterov: bool = False) -> GradientTransformation:
    """Momentum: t <- g + decay t; the update is t, or g + decay t with Nesterov's look ahead.

    B. T. Polyak, *Some methods of speeding up the convergence of iteration methods*, 1964,
    https://doi.org/10.1016/0041-5553(64)90137-5; Y. Nesterov, 1983; I. Sutskever et al.,
    https://proceedings.mlr.press/v28/sutskever13.html
    """
    check_numbers("trace", decay=decay)
    nesterov = flag("trace", "nesterov", nesterov)

    def init(params: Params) -> TraceState:
        return TraceState(tree_map(fnp.zeros_like, params))

    def update(updates: Updates, state: TraceState, params: Params = None) -> tuple[Updates, State]:
        def step(g: Any, t: Any) -> Array:
            return fnp.add(g, fnp.multiply(t, decay))

        new = tree_map(step, updates, state.trace)
        return (tree_map(step, updates, new) if nesterov else new), TraceState(new)

    return GradientTransformation(init, update)


class ScaleByAdamState(NamedTuple):
    """``count``: updates made, int32; ``mu``, ``nu``: running means of the gradient and of its square."""

    count: Array  # type: ignore[assignment]  # optax's name; NamedTuple has a method of it
    mu: Params
    nu: Params


def scale_by_adam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, eps_root: float = 0.0, nesterov: bool = False
) -> GradientTransformation:
    """m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; the update is m^ / (sqrt(v^ + eps_root) + eps).

    After t updates m^ = m / (1 - b1^t) and v^ = v / (1 - b2^t), which undoes the start at zero.  With ``nesterov``
    m^ looks ahead: b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t).

    D. P. Kingma and J. Ba, *Adam*, https://arxiv.org/abs/1412.6980; T. Dozat, *Incorporating Nesterov momentum into
    Adam*, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
    """
    check_numbers("scale_by_adam", b1=b1, b2=b2, eps=eps, eps_root=eps_root)
    nesterov = flag("scale_by_adam", "nesterov", nesterov)
    for what, b in (("b1", b1), ("b2", b2)):
        if isinstance(b, (int, float, np.generic)) and not 0 <= b <= 1:
            raise ValueError(f"scale_by_adam: {what} must lie in [0, 1], got {b}. It is the weight of the past.")

    def init(params: Params) -> ScaleByAdamState:
        return ScaleByAdamState(
            fnp.zeros((), "int32"), tree_map(fnp.zeros_like, params), tree_map(fnp.zeros_like, params)
        )

    def unbiased(m: Any, decay: float, count: Array) -> Array:
        correction = fnp.subtract(1.0, fnp.power(decay, fnp.asarray(count, "float32")))
        return fnp.divide(m, fnp.asarray(correction, fnp.asarray(m).dtype))

    def update(updates: Updates, state: ScaleByAdamState, params: Params = None) -> tuple[Updates, State]:
        def mean(g: Any, m: Any) -> Array:
            return fnp.add(fnp.multiply(g, 1 - b1), fnp.multiply(m, b1))

        mu = tree_map(mean, updates, state.mu)
        nu = tree_map(lambda g, v: fnp.add(fnp.multiply(fnp.square(g), 1 - b2), fnp.multiply(v, b2)), updates, state.nu)
        count = fnp.add(state.count, 1)

        def step(g: Any, m: Any, v: Any) -> Array:
            if nesterov:
                ahead = fnp.multiply(unbiased(m, b1, fnp.add(count, 1)), b1)
                m_hat = fnp.add(ahead, fnp.multiply(unbiased(g, b1, count), 1 - b1))
            else:
                m_hat = unbiased(m, b1, count)
            size = fnp.add(fnp.sqrt(fnp.add(unbiased(v, b2, count), eps_root)), eps)
            return fnp.divide(m_hat, size)

        return tree_map(step, updates, mu, nu), ScaleByAdamState(count, mu, nu)

    return GradientTransformation(init, update)


def add_decayed_weights(
    weight_decay: float = 0.0, mask: Any | Callable[[Params], Any] | None = None
) -> GradientTransformation:
    """g -> g + weight_decay p, where ``mask`` (a pytree of bools, or a function of the parameters giving one) is True.

    Needs the parameters: ``update(updates, state, params)``.
    """
    check_numbers("add_decayed_weights", weight_decay=weight_decay)

    def decay(updates: Updates, params: Params) -> Updates:
        if params is None:
            raise ValueError(
                "add_decayed_weights: needs the parameters, got params=None. Call update(updates, state, params)."
            )
        if mask is None:
            return tree_map(lambda g, p: fnp.add(g, fnp.multiply(p, weight_decay)), updates, params)
        keep = mask(params) if callable(mask) else mask
        return tree_map(
            lambda g, p, on: (
                fnp.add(g, fnp.multiply(p, weight_decay)) if flag("add_decayed_weights", "mask", on) else g
            ),
            updates,
            params,
            keep,
        )

    return stateless(decay)


def clip(max_delta: float) -> GradientTransformation:
    """Every element of g cut off at -max_delta and max_delta."""
    check_numbers("clip", max_delta=max_delta)
    return stateless(lambda updates, params: tree_map(lambda g: fnp.clip(g, -max_delta, max_delta), updates))


def clip_by_global_norm(max_norm: float) -> GradientTransformation:
    """g -> g min(1, max_norm / |g|), |g| the norm of all leaves together.

    R. Pascanu, T. Mikolov, Y. Bengio, https://arxiv.org/abs/1211.5063
    """
    check_numbers("clip_by_global_norm", max_norm=max_norm)

    def shorten(updates: Updates, params: Params) -> Updates:
        norm = global_norm(updates)
        factor = fnp.where(fnp.greater(norm, max_norm), fnp.divide(max_norm, norm), 1.0)
        return tree_map(lambda g: fnp.multiply(g, fnp.asarray(factor, fnp.asarray(g).dtype)), updates)

    return stateless(shorten)
