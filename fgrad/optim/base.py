"""What every optimiser is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fgrad import numpy as fnp
from fgrad.core.array import Array
from fgrad.core.static import kind, real_number
from fgrad.tree import tree_leaves, tree_map

Params = Any  # a pytree of Arrays
Updates = Any  # a pytree of the same structure
State = Any
Schedule = Callable[[Any], Any]  # step -> value
ScalarOrSchedule = float | Array | Schedule


class GradientTransformation(NamedTuple):
    """``init(params) -> state``; ``update(updates, state, params=None) -> (updates, state)``."""

    init: Callable[[Params], State]
    update: Callable[..., tuple[Updates, State]]


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


def identity() -> GradientTransformation:
    """Updates as they are."""
    return stateless(lambda updates, params: updates)


def stateless(f: Callable[[Updates, Params], Updates]) -> GradientTransformation:
    """The transformation that applies ``f(updates, params)`` and remembers nothing."""
    return GradientTransformation(
        lambda params: EmptyState(), lambda updates, state, params=None: (f(updates, params), state)
    )


def check_numbers(name: str, **values: Any) -> None:
    """Each of these hyperparameters is a real number or a real array, which then broadcasts to the updates."""
    for what, value in values.items():
        if not isinstance(value, (np.ndarray, Array)) or value.ndim == 0 or value.dtype.kind not in "iuf":
            real_number(name, what, value)


def chain(*transformations: GradientTransformation) -> GradientTransformation:
    """The transformations one after another; the state is the tuple of theirs.

    >>> import fgrad, fgrad.numpy as fnp
    >>> twice = fgrad.optim.chain(fgrad.optim.scale(2.0), fgrad.optim.scale(3.0))
    >>> float(twice.update(fnp.array(1.0), twice.init(None))[0])
    6.0
    """
    for t in transformations:
        if not (hasattr(t, "init") and hasattr(t, "update")):
            raise TypeError(f"chain: needs transformations with init and update, got {kind(t)}. Pass scale(0.1), say.")

    def init(params: Params) -> tuple[State, ...]:
        return tuple(t.init(params) for t in transformations)

    def update(updates: Updates, state: tuple[State, ...], params: Params = None) -> tuple[Updates, State]:
        if len(state) != len(transformations):
            raise ValueError(
                f"chain: needs one state for each of its {len(transformations)} transformations, got {len(state)}. "
                "Pass what this chain's init or update returned."
            )
        new = []
        for t, s in zip(transformations, state):
            updates, s = t.update(updates, s, params)
            new.append(s)
        return updates, tuple(new)

    return GradientTransformation(init, update)


def apply_updates(params: Params, updates: Updates) -> Params:
    """params + updates, leaf by leaf, in the parameters' dtypes."""
    return tree_map(lambda p, u: fnp.asarray(fnp.add(p, u), fnp.asarray(p).dtype), params, updates)


def global_norm(tree: Any) -> Array:
    """sqrt of the sum of the squares of every element of every leaf; 0 for an empty tree.

    >>> import fgrad, fgrad.numpy as fnp
    >>> float(fgrad.optim.global_norm([fnp.array(3.0), fnp.array([4.0])]))
    5.0
    """
    total: Any = 0.0
    for leaf in tree_leaves(tree):
        total = fnp.add(total, fnp.sum(fnp.square(leaf)))
    return fnp.sqrt(total)
