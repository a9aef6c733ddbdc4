"""Printing and calling back from inside transformed functions."""

from __future__ import annotations

import builtins
import re
import string
from collections.abc import Callable, Iterator
from typing import Any

from fgrad.higher_order.callbacks import debug_callback


def callback(callback: Callable[..., Any], *args: Any, ordered: bool = False, **kwargs: Any) -> None:
    """Calls ``callback(*args, **kwargs)`` with the values of the arrays; what it returns is not used.

    When it calls: under jit each time the compiled program comes by, in the order of the program; in the body of a loop
    at every iteration; in the branch of a cond if it is taken; under vmap once for each example, in order (once if no
    argument is mapped); under grad and vjp once, in the forward pass, with the primal values. A function that
    checkpoint computes again calls again.

    Args:
        callback: any Python function. It gets Arrays, and may keep them.
        *args: arrays, pytrees of arrays, or anything else (passed as it is).
        ordered: accepted for programs written for JAX; the order is always that of the program.
        **kwargs: further arguments by name.

    Raises:
        TypeError: ``callback`` cannot be called.
        MissingBackendError: an argument is a tangent of reverse mode (in a linear function, or a custom_jvp rule).
        Whatever ``callback`` raises reaches the caller, with its own traceback.

    >>> import fgrad, fgrad.numpy as fnp
    >>> seen = []
    >>> @fgrad.jit
    ... def f(x):
    ...     fgrad.debug.callback(lambda s: seen.append(float(s)), fnp.sum(x))
    ...     return x * 2
    >>> y = f(fnp.ones(3))
    >>> seen
    [3.0]

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.debug.callback.html.
    """
    debug_callback("debug.callback", callback, args, kwargs)


def print(fmt: str, *args: Any, ordered: bool = False, **kwargs: Any) -> None:
    """Prints ``fmt.format(*args, **kwargs)`` with the values of the arrays; when, says ``debug.callback``.

    Args:
        fmt: a format string as for ``str.format``.
        *args: arrays, pytrees of arrays, or anything else (shown as it is).
        ordered: accepted for programs written for JAX; the order is always that of the program.
        **kwargs: further arguments by name.

    Raises:
        TypeError: ``fmt`` is no string.
        ValueError: ``fmt`` is no format string, or arguments and places in it do not agree. Raised while tracing.

    >>> import fgrad, fgrad.numpy as fnp
    >>> @fgrad.jit
    ... def f(x):
    ...     fgrad.debug.print("x = {x:.2f}", x=x)
    ...     return x * 2
    >>> y = fgrad.vmap(f)(fnp.array([1.0, 2.0]))
    x = 1.00
    x = 2.00

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.debug.print.html.
    """
    if not isinstance(fmt, str):
        raise TypeError(f"debug.print: needs a format string, got {fmt!r} of type {type(fmt).__name__}. Write '{{}}'.")
    _check_places(fmt, len(args), kwargs)

    def show(*args: Any, **kwargs: Any) -> None:
        builtins.print(fmt.format(*args, **kwargs))

    debug_callback("debug.print", show, args, kwargs)


def _check_places(fmt: str, n: int, kwargs: dict[str, Any]) -> None:
    """Every place in the format has an argument, and every argument a place."""
    try:
        places = [re.split(r"[.\[]", name)[0] for name in _fields(fmt)]
    except ValueError as e:
        raise ValueError(
            f"debug.print: needs a format string, got {fmt!r} ({e}). Write {{{{ and }}}} for braces."
        ) from None
    numbered = iter(range(len(places)))
    named = [p if p and not p.isdigit() else int(p or next(numbered)) for p in places]
    if "" in places and any(p.isdigit() for p in places):
        raise ValueError(
            f"debug.print: places must be all numbered or none, got {fmt!r} (both '{{}}' and '{{0}}'). Choose one."
        )
    given: list[int | str] = [*range(n), *kwargs]
    missing = [str(p) for p in dict.fromkeys(named) if p not in given]
    if missing:
        raise ValueError(
            f"debug.print: every place in the format needs an argument, got none for {', '.join(missing)} in {fmt!r} "
            f"({n} positional and {len(kwargs)} named). Pass it, or write {{{{ and }}}} for braces."
        )
    unused = [str(k) for k in given if k not in named]
    if unused:
        raise ValueError(
            f"debug.print: every argument needs a place in the format, got none for {', '.join(unused)} in {fmt!r}. "
            "Write {} or {name} in a plain string (an f-string formats before there are values)."
        )


def _fields(fmt: str) -> Iterator[str]:
    """Names of the replacement fields, those inside format specifications included."""
    for _, name, spec, _ in string.Formatter().parse(fmt):
        if name is not None:
            yield name
            yield from _fields(spec or "")
