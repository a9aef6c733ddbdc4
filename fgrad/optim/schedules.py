"""Learning rates as functions of the step (0 at the first update); the step may be traced."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fgrad import numpy as fnp
from fgrad.core.array import Array
from fgrad.core.static import flag, function, kind, real_number, sequence, static_ints
from fgrad.optim.base import Schedule


def _positive(name: str, what: str, value: int) -> None:
    if not real_number(name, what, value) > 0:
        raise ValueError(f"{name}: {what} must be positive, got {value}. Give the number of steps.")


def _numbers(name: str, **values: Any) -> None:
    for what, value in values.items():
        real_number(name, what, value)


def _fraction(count: Any, steps: int, begin: int = 0) -> Array:
    """How far the steps after ``begin`` have gone, from 0 to 1."""
    return fnp.clip(fnp.divide(fnp.subtract(fnp.asarray(count, "float32"), begin), steps), 0.0, 1.0)


def constant_schedule(value: float) -> Schedule:
    """``value`` at every step."""
    real_number("constant_schedule", "value", value)
    return lambda count: fnp.asarray(value)


def linear_schedule(init_value: float, end_value: float, transition_steps: int, transition_begin: int = 0) -> Schedule:
    """From init_value to end_value in a straight line over ``transition_steps``, then constant.

    >>> import fgrad
    >>> rate = fgrad.optim.linear_schedule(1.0, 0.0, 4)
    >>> [float(rate(step)) for step in (0, 1, 4, 9)]
    [1.0, 0.75, 0.0, 0.0]
    """
    _positive("linear_schedule", "transition_steps", transition_steps)
    _numbers("linear_schedule", init_value=init_value, end_value=end_value, transition_begin=transition_begin)
    return lambda count: fnp.add(
        init_value, fnp.multiply(_fraction(count, transition_steps, transition_begin), end_value - init_value)
    )


def exponential_decay(
    init_value: float,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> Schedule:
    """init_value decay_rate^((step - transition_begin) / transition_steps), not beyond ``end_value``.

    ``staircase`` takes the floor of the exponent.
    """
    _positive("exponential_decay", "transition_steps", transition_steps)
    staircase = flag("exponential_decay", "staircase", staircase)
    _numbers(
        "exponential_decay", init_value=init_value, decay_rate=decay_rate, transition_begin=transition_begin,
        end_value=0.0 if end_value is None else end_value,
    )  # fmt: skip

    def schedule(count: Any) -> Array:
        passed = fnp.maximum(fnp.subtract(fnp.asarray(count, "float32"), transition_begin), 0.0)
        exponent = fnp.divide(passed, transition_steps)
        value = fnp.multiply(fnp.power(decay_rate, fnp.floor(exponent) if staircase else exponent), init_value)
        if end_value is None:
            return value
        return fnp.maximum(value, end_value) if decay_rate < 1 else fnp.minimum(value, end_value)

    return schedule


def cosine_decay_schedule(init_value: float, decay_steps: int, alpha: float = 0.0, exponent: float = 1.0) -> Schedule:
    """init_value ((1 - alpha) ((1 + cos(pi t)) / 2)^exponent + alpha), t = min(step / decay_steps, 1).

    I. Loshchilov and F. Hutter, https://arxiv.org/abs/1608.03983

    >>> import fgrad
    >>> rate = fgrad.optim.cosine_decay_schedule(1.0, 10)
    >>> [round(float(rate(step)), 3) for step in (0, 5, 10)]
    [1.0, 0.5, 0.0]
    """
    _positive("cosine_decay_schedule", "decay_steps", decay_steps)
    _numbers("cosine_decay_schedule", init_value=init_value, alpha=alpha, exponent=exponent)

    def schedule(count: Any) -> Array:
        cosine = fnp.multiply(fnp.add(fnp.cos(fnp.multiply(_fraction(count, decay_steps), math.pi)), 1.0), 0.5)
        if exponent != 1.0:
            cosine = fnp.power(cosine, float(exponent))
        return fnp.multiply(fnp.add(fnp.multiply(cosine, 1.0 - alpha), alpha), init_value)

    return schedule


def warmup_cosine_decay_schedule(
    init_value: float,
    peak_value: float,
    warmup_steps: int,
    decay_steps: int,
    end_value: float = 0.0,
    exponent: float = 1.0,
) -> Schedule:
    """From init_value up to peak_value in a line over ``warmup_steps``, then down to end_value along a cosine.

    ``decay_steps`` counts the warm-up too: the end is reached at that step.
    """
    _numbers(
        "warmup_cosine_decay_schedule", init_value=init_value, peak_value=peak_value, warmup_steps=warmup_steps,
        decay_steps=decay_steps, end_value=end_value, exponent=exponent,
    )  # fmt: skip
    if not 0 < warmup_steps < decay_steps:
        raise ValueError(
            f"warmup_cosine_decay_schedule: warmup_steps must lie between 0 and decay_steps, got {warmup_steps} and "
            f"{decay_steps}. Warm up for fewer steps."
        )
    alpha = 0.0 if peak_value == 0 else end_value / peak_value
    return join_schedules(
        [
            linear_schedule(init_value, peak_value, warmup_steps),
            cosine_decay_schedule(peak_value, decay_steps - warmup_steps, alpha, exponent),
        ],
        [warmup_steps],
    )


def piecewise_constant_schedule(init_value: float, boundaries_and_scales: Mapping[int, float]) -> Schedule:
    """init_value times every scale whose boundary the step has reached (step >= boundary).

    >>> import fgrad
    >>> rate = fgrad.optim.piecewise_constant_schedule(1.0, {2: 0.5})
    >>> [float(rate(step)) for step in (0, 1, 2, 3)]
    [1.0, 1.0, 0.5, 0.5]
    """
    _numbers("piecewise_constant_schedule", init_value=init_value)
    if not isinstance(boundaries_and_scales, Mapping):
        raise TypeError(
            "piecewise_constant_schedule: boundaries_and_scales must be a dict of scales by step, got "
            f"{kind(boundaries_and_scales)}. Write {{100: 0.1}}."
        )
    for boundary, factor in boundaries_and_scales.items():
        _numbers("piecewise_constant_schedule", boundary=boundary, scale=factor)

    def schedule(count: Any) -> Array:
        value = fnp.asarray(init_value)
        for boundary, factor in sorted(boundaries_and_scales.items()):
            value = fnp.where(fnp.greater_equal(count, boundary), fnp.multiply(value, factor), value)
        return value

    return schedule


def join_schedules(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """Schedules one after another, each counting from its own boundary."""
    schedules = sequence("join_schedules", "schedules", schedules)
    boundaries = static_ints("join_schedules", "boundaries must be integers", boundaries)
    for s in schedules:
        function("join_schedules", "each schedule", s)
    if len(boundaries) != len(schedules) - 1:
        raise ValueError(
            f"join_schedules: needs one boundary between schedules, got {len(schedules)} schedules and "
            f"{len(boundaries)} boundaries. Give {len(schedules) - 1}."
        )

    def schedule(count: Any) -> Array:
        value = fnp.asarray(schedules[0](count))
        for boundary, later in zip(boundaries, schedules[1:]):
            value = fnp.where(fnp.less(count, boundary), value, later(fnp.subtract(count, boundary)))
        return value

    return schedule
