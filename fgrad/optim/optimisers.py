"""Optimisers; each is a chain of the steps in transforms.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fgrad.optim.base import GradientTransformation, Params, ScalarOrSchedule, chain, identity
from fgrad.optim.transforms import add_decayed_weights, scale_by_adam, scale_by_learning_rate, trace


def sgd(
    learning_rate: ScalarOrSchedule, momentum: float | None = None, nesterov: bool = False
) -> GradientTransformation:
    """p <- p - learning_rate u, u being g, or with momentum t <- g + momentum t (Nesterov: g + momentum t).

    >>> import fgrad, fgrad.numpy as fnp
    >>> optimiser = fgrad.optim.sgd(0.5)
    >>> updates, _ = optimiser.update(fnp.array(3.0), optimiser.init(fnp.array(1.0)))
    >>> float(updates)
    -1.5
    """
    first = identity() if momentum is None else trace(momentum, nesterov)
    return chain(first, scale_by_learning_rate(learning_rate))


def adam(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    nesterov: bool = False,
) -> GradientTransformation:
    """p <- p - learning_rate m^ / (sqrt(v^ + eps_root) + eps); see ``scale_by_adam``.  https://arxiv.org/abs/1412.6980

    >>> import fgrad, fgrad.numpy as fnp
    >>> optimiser = fgrad.optim.adam(0.1)
    >>> updates, _ = optimiser.update(fnp.array(3.0), optimiser.init(fnp.array(1.0)))
    >>> f"{float(updates):.4f}"  # the first step has length learning_rate, whatever the gradient
    '-0.1000'
    """
    return chain(scale_by_adam(b1, b2, eps, eps_root, nesterov), scale_by_learning_rate(learning_rate))


def adamw(
    learning_rate: ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: float = 1e-4,
    mask: Any | Callable[[Params], Any] | None = None,
    nesterov: bool = False,
) -> GradientTransformation:
    """Adam with decoupled weight decay: p <- p - learning_rate (adam's step + weight_decay p).

    ``mask``: a pytree of bools (or a function of the parameters giving one) that says what decays.
    I. Loshchilov and F. Hutter, https://arxiv.org/abs/1711.05101
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, nesterov),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
