"""checkpoint: less memory in reverse mode, for computing the forward pass again."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fgrad import tree
from fgrad.core import caches
from fgrad.core.array import Array, lift
from fgrad.core.jaxpr import ClosedJaxpr
from fgrad.core.static import sequence
from fgrad.core.trace import EVAL, Tracer, current_trace, visible_axes
from fgrad.errors import UnhashableStaticError
from fgrad.higher_order.arguments import (
    check_callable,
    flatten_output,
    function_name,
    is_arraylike,
    leaf_aval,
    leaf_names,
    parameter_names,
)
from fgrad.higher_order.bodies import interned
from fgrad.higher_order.checkpoint_policies import Policy, check_policy
from fgrad.higher_order.remat import remat_p
from fgrad.primitives.name import name_p
from fgrad.transforms.stage import inline_consts, stage


@dataclass(eq=False, slots=True)
class _Traced:
    closed: ClosedJaxpr  # constants hoisted to leading inputs
    consts: tuple[Any, ...]
    out_tree: Any
    used: int = 0
    nbytes: int = 16384  # what a small jaxpr and what is derived from it were found to take


class Checkpointed:
    """What ``checkpoint`` returns; see there."""

    def __init__(
        self,
        fun: Callable[..., Any],
        prevent_cse: bool,
        policy: Policy | None,
        static_argnums: Sequence[int],
        static_argnames: Sequence[str],
    ):
        functools.update_wrapper(self, fun)
        self.__name__ = function_name(fun)
        self.fun, self.prevent_cse, self.policy = fun, prevent_cse, policy
        self.static_argnums, self.static_argnames = _static(fun, static_argnums, static_argnames)
        self.traced: dict[Any, _Traced] = {}
        caches.add_table(self)

    def __get__(self, obj: Any, objtype: Any = None) -> Any:
        return self if obj is None else types.MethodType(self, obj)

    def __repr__(self) -> str:
        return f"<checkpointed {self.__name__}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current_trace.get() is EVAL:
            return self.fun(*args, **kwargs)  # nothing to differentiate, so nothing to store
        call = self._split(args, kwargs)
        leaves, in_tree = tree.tree_flatten((call.args, call.kwargs))
        names = lambda: leaf_names(self.fun, [None if i in call.static else a for i, a in enumerate(args)], call.kwargs)  # noqa: E731
        for i, x in enumerate(leaves):
            if not is_arraylike(x):
                raise TypeError(
                    f"checkpoint: arguments must be arrays, scalars or pytrees of them, got {x!r} of type "
                    f"{type(x).__name__} in argument {names()[i]}. Name it in static_argnums."
                )
        avals = [leaf_aval(x, "checkpoint", names, i) for i, x in enumerate(leaves)]
        key = (call.key(), in_tree, visible_axes(), *avals)
        traced = self.traced.get(key)
        if traced is None:
            traced = self._trace(key, call, in_tree, avals, names)
        traced.used = caches.clock()
        outs = remat_p.bind(
            *traced.consts,
            *[lift(x) for x in leaves],
            jaxpr=traced.closed,
            name=self.__name__,
            policy=self.policy,
            prevent_cse=self.prevent_cse,
        )
        return traced.out_tree.unflatten(outs)

    def _split(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        nums = {i % len(args) if -len(args) <= i < 0 else i for i in self.static_argnums}
        static: dict[int | str, Any] = {i: a for i, a in enumerate(args) if i in nums}
        static.update((k, v) for k, v in kwargs.items() if k in self.static_argnames)
        for where, value in static.items():
            self._check_hashable(value, where)
        dynamic = tuple([a for i, a in enumerate(args) if i not in static])
        return _Call(len(args), static, dynamic, {k: v for k, v in kwargs.items() if k not in static})

    def _trace(self, key, call: _Call, in_tree, avals, names) -> _Traced:
        out_tree: Any = None

        def flat(*xs: Array) -> list[Array]:
            nonlocal out_tree
            args, kwargs = call.filled(*in_tree.unflatten(xs))
            leaves, out_tree = flatten_output(self.fun(*args, **kwargs), "checkpoint", self.fun)
            return leaves

        closed = stage(flat, avals, name=f"checkpoint of {self.__name__}", arg_names=names)
        traced = _Traced(interned(inline_consts(closed)), closed.consts, out_tree)
        if not any([isinstance(c, Tracer) for c in closed.consts]):
            traced.used = caches.clock()
            self.traced[key] = traced
            caches.enforce_limits()
        return traced

    def _check_hashable(self, x: Any, where: int | str) -> None:
        try:
            hash(x)
        except TypeError:
            name = where if isinstance(where, str) else parameter_names(self.fun, where + 1)[where]
            raise UnhashableStaticError(
                f"checkpoint: static arguments must be hashable, got {x!r} of type {type(x).__name__} for argument "
                f"'{name}' of {self.__name__}. Pass a tuple instead of a list, or do not mark it static."
            ) from None

    # --- as a table of fgrad.core.caches ----------------------------------------------------------------------------
    def entries(self) -> list[tuple[Any, _Traced]]:
        return list(self.traced.items())

    def forget(self, key: Any) -> None:
        self.traced.pop(key, None)

    def clear(self) -> None:
        self.traced.clear()


class _Call(NamedTuple):
    """A call's arguments; the static ones are under their positions and keywords."""

    n_args: int
    static: dict[int | str, Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def key(self) -> Any:
        # 1, 1.0 and True are equal, and trace to different programs
        return frozenset([(where, type(value), value) for where, value in self.static.items()]), self.n_args

    def filled(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments, with these for those that are not static."""
        it = iter(args)
        by_name = {k: v for k, v in self.static.items() if isinstance(k, str)}
        return [self.static[i] if i in self.static else next(it) for i in range(self.n_args)], {**kwargs, **by_name}


def _static(
    fun: Callable[..., Any], nums: Sequence[int], names: Sequence[str]
) -> tuple[frozenset[int], frozenset[str]]:
    """Positions and names of all static parameters: one given by position may be passed by name, and vice versa."""
    for i in nums:
        if not isinstance(i, int):
            raise TypeError(
                f"checkpoint: static_argnums must be ints, got {i!r} for {function_name(fun)}. Count the arguments "
                "from 0, or use static_argnames."
            )
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):
        return frozenset(nums), frozenset(names)
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    n = len(positional)
    if all([p.kind is not p.VAR_POSITIONAL for p in parameters]):
        for i in nums:
            if not -n <= i < n:
                raise ValueError(
                    f"checkpoint: static_argnums must name positional parameters of the function, got {i} for "
                    f"{function_name(fun)}, which takes {n}. Use indices in [{-n}, {n})."
                )
        nums = [i % n for i in nums]
    known = [p.name for p in parameters]
    for name in names:
        if name not in known and all([p.kind is not p.VAR_KEYWORD for p in parameters]):
            raise ValueError(
                f"checkpoint: static_argnames must name parameters of the function, got {name!r} for "
                f"{function_name(fun)}, which has {', '.join(known) or 'none'}. Correct the name."
            )
    return (
        frozenset(nums) | {positional.index(name) for name in names if name in positional},
        frozenset(names) | {positional[i] for i in nums if 0 <= i < n},
    )


def checkpoint(
    fun: Callable[..., Any] | None = None,
    *,
    prevent_cse: bool = True,
    policy: Policy | None = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
) -> Any:
    """``fun``, of which reverse mode stores the arguments only and computes the rest again when it needs it.

    Values and derivatives are those of ``fun``.  A chain of n equal layers, checkpointed in groups of √n, takes memory
    for 2√n of them in place of n, and one more forward pass.

    Args:
        fun: a pure function of pytrees of arrays.  Under a transformation it is traced, as by ``jit``.
        prevent_cse: keeps the compiler from merging the second computation with the first.  False is right only inside
            the body of a loop, where there is nothing to merge with.
        policy: which intermediate results to store after all; see :mod:`fgrad.checkpoint_policies`.
        static_argnums: arguments that stay Python values; they must be hashable.
        static_argnames: the same by name.

    Returns:
        A callable with the signature of ``fun``.

    Raises:
        UnhashableStaticError: a static argument or the policy cannot be hashed.
        TypeError: an argument or a result is no array, or the policy answers neither True nor False.  Whatever tracing
            ``fun`` raises passes through.

    >>> import fgrad, fgrad.numpy as fnp
    >>> f = fgrad.checkpoint(lambda x: fnp.sin(fnp.sin(x)))
    >>> fgrad.ad_checkpoint.print_saved_residuals(f, 1.0)
    f32[]~ from argument 'x' of <lambda>
    >>> float(fgrad.grad(f)(0.0))
    1.0

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.checkpoint.html; the trade of memory for computation is that
    of Griewank and Walther, https://doi.org/10.1145/347837.347846.
    """
    nums = (
        (static_argnums,)
        if isinstance(static_argnums, (int, str))
        else sequence("checkpoint", "static_argnums", static_argnums)
    )
    names = (
        (static_argnames,)
        if isinstance(static_argnames, str)
        else sequence("checkpoint", "static_argnames", static_argnames)
    )
    if fun is None:
        return functools.partial(
            checkpoint, prevent_cse=prevent_cse, policy=policy, static_argnums=nums, static_argnames=names
        )
    check_callable("checkpoint", fun)
    for n in names:
        if not isinstance(n, str):
            raise TypeError(f"checkpoint: static_argnames must be names, got {n!r}. Write static_argnames=('n',).")
    if policy is not None:
        check_policy("checkpoint", policy)
    return Checkpointed(fun, prevent_cse, policy, nums, names)


remat = checkpoint


def checkpoint_name(x: Any, name: str) -> Any:
    """x, with a name for policies to refer to (``save_only_these_names`` and its like).

    Args:
        x: a pytree of arrays.
        name: every leaf gets it.

    Raises:
        TypeError: the name is no string, or a leaf no array.

    >>> import fgrad, fgrad.numpy as fnp
    >>> @fgrad.checkpoint(policy=fgrad.checkpoint_policies.save_only_these_names("hidden"))
    ... def f(w, x):
    ...     return fnp.sin(fgrad.ad_checkpoint.checkpoint_name(x @ w, "hidden"))

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.ad_checkpoint.checkpoint_name.html.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"checkpoint_name: the name must be a string, got {name!r} of type {type(name).__name__}. Pass a string."
        )
    return tree.tree_map(lambda leaf: name_p.bind(lift(leaf, "checkpoint_name"), name=name), x)
