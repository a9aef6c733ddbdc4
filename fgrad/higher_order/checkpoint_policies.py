"""What a checkpoint stores: each policy is a function ``policy(primitive, *avals, **params) -> bool``.

It is asked for every operation of the forward pass whose result the backward pass needs, with the types of the
operands, and says whether the result is stored (True) or computed again.  A named value is stored if the policy says so
of the operation that made it or of its name.  An operation that holds functions (``scan``, ``cond``) is one operation
here: it is stored or computed again as a whole.

    >>> import fgrad
    >>> @fgrad.checkpoint(policy=fgrad.checkpoint_policies.dots_saveable)
    ... def layer(w, x):
    ...     return fgrad.numpy.tanh(x @ w)

Policies made of equal parts are equal, so that what was compiled for one serves the other.

Source: https://docs.jax.dev/en/latest/jax.html#jax.checkpoint_policies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fgrad.core.jaxpr import Eqn
from fgrad.errors import UnhashableStaticError
from fgrad.higher_order.arguments import check_callable, function_name
from fgrad.primitives.conv import conv_general_dilated_p
from fgrad.primitives.dot_general import dot_general_p
from fgrad.primitives.name import name_p

__all__ = [
    "everything_saveable",
    "nothing_saveable",
    "dots_saveable",
    "checkpoint_dots",
    "dots_with_no_batch_dims_saveable",
    "checkpoint_dots_with_no_batch_dims",
    "save_only_these_names",
    "save_any_names_but_these",
    "save_anything_except_these_names",
    "save_from_both_policies",
]

Policy = Callable[..., bool]


def everything_saveable(prim: Any, *_: Any, **__: Any) -> bool:
    """Stores what the backward pass reads, as without a checkpoint."""
    return True


def nothing_saveable(prim: Any, *_: Any, **__: Any) -> bool:
    """Stores the arguments only: the default."""
    return False


def dots_saveable(prim: Any, *_: Any, **__: Any) -> bool:
    """Stores the results of matrix products and convolutions."""
    return prim is dot_general_p or prim is conv_general_dilated_p


def dots_with_no_batch_dims_saveable(prim: Any, *_: Any, **params: Any) -> bool:
    """Stores the results of matrix products without batch axes: those of activations with weights."""
    if prim is not dot_general_p:
        return False
    _, (lhs_batch, rhs_batch) = params["dimension_numbers"]
    return not lhs_batch and not rhs_batch


checkpoint_dots = dots_saveable
checkpoint_dots_with_no_batch_dims = dots_with_no_batch_dims_saveable


@dataclass(frozen=True)
class _ByName:
    """``of_these`` for names in ``names``, ``of_others`` for other names, ``unnamed`` for values without one."""

    names: frozenset[str]
    of_these: bool
    of_others: bool
    unnamed: bool

    def __call__(self, prim: Any, *_: Any, **params: Any) -> bool:
        if prim is not name_p:
            return self.unnamed
        return self.of_these if params["name"] in self.names else self.of_others


@dataclass(frozen=True)
class _Either:
    policies: tuple[Policy, Policy]

    def __call__(self, prim: Any, *avals: Any, **params: Any) -> bool:
        return any([bool(checked_answer(p, p(prim, *avals, **params), prim)) for p in self.policies])


def save_only_these_names(*names: str) -> Policy:
    """Stores the values that ``checkpoint_name`` gave one of these names."""
    return _ByName(_checked("save_only_these_names", names), of_these=True, of_others=False, unnamed=False)


def save_any_names_but_these(*names: str) -> Policy:
    """Stores the values that ``checkpoint_name`` gave any other name."""
    return _ByName(_checked("save_any_names_but_these", names), of_these=False, of_others=True, unnamed=False)


def save_anything_except_these_names(*names: str) -> Policy:
    """Stores whatever the backward pass reads but values of these names.

    A value is stored all the same where it is also read under no name: use the result of ``checkpoint_name``.
    """
    return _ByName(_checked("save_anything_except_these_names", names), of_these=False, of_others=True, unnamed=True)


def save_from_both_policies(policy_1: Policy, policy_2: Policy) -> Policy:
    """Stores what either policy stores."""
    for policy in (policy_1, policy_2):
        check_policy("save_from_both_policies", policy)
    return _Either((policy_1, policy_2))


def _checked(who: str, names: tuple[Any, ...]) -> frozenset[str]:
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"{who}: names must be strings, got {name!r} of type {type(name).__name__}. "
                "Pass the names given to checkpoint_name, one by one."
            )
    return frozenset(names)


# --- what a checkpoint asks of a policy ------------------------------------------------------------------------------
_MAKE_POLICIES = (
    save_only_these_names,
    save_any_names_but_these,
    save_anything_except_these_names,
    save_from_both_policies,
)


def check_policy(who: str, policy: Any) -> None:
    """A policy is a function, hashable, and no maker of policies."""
    check_callable(who, policy)
    if any([policy is maker for maker in _MAKE_POLICIES]):
        what = "two policies" if policy is save_from_both_policies else "the names"
        raise TypeError(
            f"{who}: a policy must answer True or False, got {policy.__name__}, which makes policies. "
            f"Call it with {what}."
        )
    try:
        hash(policy)
    except TypeError:
        raise UnhashableStaticError(
            f"{who}: a policy must be hashable, got one of type {type(policy).__name__} (what is compiled for it is "
            "kept by it). Use a function."
        ) from None


def checked_answer(policy: Policy, answer: Any, prim: Any) -> bool:
    """The answer, if it is True or False."""
    if not isinstance(answer, (bool, np.bool_)):
        raise TypeError(
            f"checkpoint: a policy must answer True (store) or False (compute again), got {answer!r} of type "
            f"{type(answer).__name__} from {function_name(policy)} for {prim}. Return a bool: there is one memory, so "
            "no third place to keep a value in."
        )
    return bool(answer)


def saves(policy: Policy | None, eqn: Eqn) -> bool:
    """Whether the policy stores the results of an operation."""
    if policy is None:
        return False
    return checked_answer(policy, policy(eqn.primitive, *[a.aval for a in eqn.invars], **eqn.params), eqn.primitive)
