"""fgrad.optim: optimisers as pairs of pure functions, in optax's shape.

An optimiser is a ``GradientTransformation(init, update)``: ``init(params) -> state`` and
``update(gradients, state, params) -> (updates, state)``; ``apply_updates(params, updates)`` adds the updates.
Parameters, gradients and states are pytrees; nothing is changed in place, so all of it can be jitted.

>>> import fgrad, fgrad.numpy as fnp
>>> optimiser = fgrad.optim.sgd(learning_rate=0.1)
>>> params = {"w": fnp.ones(2)}
>>> state = optimiser.init(params)
>>> updates, state = optimiser.update({"w": fnp.ones(2)}, state, params)
>>> fgrad.optim.apply_updates(params, updates)["w"].tolist()
[0.899999..., 0.899999...]
"""

from fgrad.optim.base import (
    EmptyState,
    GradientTransformation,
    apply_updates,
    chain,
    global_norm,
    identity,
)
from fgrad.optim.optimisers import adam, adamw, sgd
from fgrad.optim.schedules import (
    constant_schedule,
    cosine_decay_schedule,
    exponential_decay,
    join_schedules,
    linear_schedule,
    piecewise_constant_schedule,
    warmup_cosine_decay_schedule,
)
from fgrad.optim.transforms import (
    ScaleByAdamState,
    ScaleByScheduleState,
    TraceState,
    add_decayed_weights,
    clip,
    clip_by_global_norm,
    scale,
    scale_by_adam,
    scale_by_learning_rate,
    scale_by_schedule,
    trace,
)

__all__ = [
    # the frame
    "GradientTransformation",
    "EmptyState",
    "apply_updates",
    "chain",
    "global_norm",
    "identity",
    # optimisers
    "adam",
    "adamw",
    "sgd",
    # their parts
    "ScaleByAdamState",
    "ScaleByScheduleState",
    "TraceState",
    "add_decayed_weights",
    "clip",
    "clip_by_global_norm",
    "scale",
    "scale_by_adam",
    "scale_by_learning_rate",
    "scale_by_schedule",
    "trace",
    # learning rates
    "constant_schedule",
    "cosine_decay_schedule",
    "exponential_decay",
    "join_schedules",
    "linear_schedule",
    "piecewise_constant_schedule",
    "warmup_cosine_decay_schedule",
]
