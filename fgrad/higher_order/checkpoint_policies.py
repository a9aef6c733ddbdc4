"""What a checkpoint stores: each policy is a function ``policy(primitive, *avals, **params) -> bool``.

It is asked for every operation of the forward pass whose result the backward pass needs, with the types of the
operands, and says whether the result is stored (True) or computed again.  A named value is stored if the policy says so of the
operation that made it or of its name.

    >>> import fgrad
    >>> @fgrad.checkpoint(policy=fgrad.checkpoint_policies.dots_saveable)
    ... def layer(w, x):
    ...     return fgrad.numpy.tanh(x @ w)

Source: https://docs.jax.dev/en/latest/jax.html#jax.checkpoint_policies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fgrad.primitives.conv import conv_general_dilated_p
from fgrad.primitives.dot_general import dot_general_p
from fgrad.primitives.name import name_p

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


def save_only_these_names(*names: str) -> Policy:
    """Stores the values that ``checkpoint_name`` gave one of these names."""
    _check_names("save_only_these_names", names)

    def policy(prim: Any, *_: Any, **params: Any) -> bool:
        return prim is name_p and params["name"] in names

    return policy


def save_any_names_but_these(*names: str) -> Policy:
    """Stores the values that ``checkpoint_name`` gave any other name."""
    _check_names("save_any_names_but_these", names)

    def policy(prim: Any, *_: Any, **params: Any) -> bool:
        return prim is name_p and params["name"] not in names

    return policy


def save_anything_except_these_names(*names: str) -> Policy:
    """Stores whatever the backward pass reads but values of these names.

    A value is stored all the same where it is also read under no name: use the result of ``checkpoint_name``.
    """
    _check_names("save_anything_except_these_names", names)

    def policy(prim: Any, *_: Any, **params: Any) -> bool:
        return not (prim is name_p and params["name"] in names)

    return policy


def save_from_both_policies(policy_1: Policy, policy_2: Policy) -> Policy:
    """Stores what either policy stores."""

    def policy(prim: Any, *avals: Any, **params: Any) -> bool:
        return policy_1(prim, *avals, **params) or policy_2(prim, *avals, **params)

    return policy


def _check_names(who: str, names: tuple[Any, ...]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"{who}: names must be strings, got {name!r} of type {type(name).__name__}. "
                "Pass the names given to checkpoint_name, one by one."
            )
