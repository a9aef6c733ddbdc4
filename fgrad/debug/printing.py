"""Printing and calling back from inside transformed functions."""

from __future__ import annotations

import builtins
import itertools
import re
import string
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fgrad import tree
from fgrad.core import dtypes
from fgrad.core.array import Array, ConcreteArray
from fgrad.core.static import flag
from fgrad.core.trace import Tracer
from fgrad.higher_order.callbacks import debug_callback


def callback(
    callback: Callable[..., Any] | None = None,
    *args: Any,
    ordered: bool = False,
    partitioned: bool = False,
    **kwargs: Any,
) -> Any:
    """Calls ``callback(*args, **kwargs)`` with the values of the arrays; what it returns is not used.

    When it calls: under jit each time the compiled program comes by, in the order of the program; in the body of a loop
    at every iteration; in the branch of a cond if it is taken; under vmap once for each example, in order (once if no
    argument is mapped); under grad and vjp once, in the forward pass, with the primal values, also where checkpoint
    computes a function again. Where vmap maps over a condition, both branches of the cond run for all examples, and the
    body of the while loop for all of them until the last has ended: it calls for all of them.

    Args:
        callback: any Python function. It gets Arrays, and may keep them. Called with options alone, the result takes
            the function: ``callback(ordered=True)(f, x)``.
        *args: arrays, pytrees of arrays, or anything else (passed as it is).
        ordered, partitioned: accepted for programs written for JAX; the order is always that of the program, and there
            is one device.
        **kwargs: further arguments by name.

    Raises:
        TypeError: ``callback`` cannot be called.
        MissingBackendError: an argument is a tangent of reverse mode (in a linear function, or a custom_jvp rule).
        Whatever ``callback`` raises reaches the caller, with its own traceback and the line of this call as a note.

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
    if callback is None and not args and not kwargs:
        return _callback
    _callback(callback, *args, **kwargs)
    return None


def _callback(callback: Any, *args: Any, **kwargs: Any) -> None:
    debug_callback("debug.callback", callback, args, kwargs)


def print(
    fmt: str | None = None,
    *args: Any,
    ordered: bool = False,
    partitioned: bool = False,
    skip_format_check: bool = False,
    **kwargs: Any,
) -> Any:
    """Prints ``fmt.format(*args, **kwargs)`` with the values of the arrays; when, says ``debug.callback``.

    A format specification is for each element of an array: ``{:.2f}`` of [1, 2] is ``[1.00 2.00]``.

    Args:
        fmt: a format string as for ``str.format``. Called with options alone, the result takes it:
            ``print(ordered=True)("x = {}", x)``.
        *args: arrays, pytrees of arrays, or anything else (shown as it is).
        ordered, partitioned: accepted for programs written for JAX; the order is always that of the program, and there
            is one device.
        skip_format_check: leaves out the checks while tracing.
        **kwargs: further arguments by name.

    Raises:
        TypeError: ``fmt`` is no string.
        ValueError: ``fmt`` is no format string, arguments and places in it do not agree, or a place does not fit the
            type of its argument. Raised while tracing.

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
    if fmt is None and not args and not kwargs:
        return lambda fmt, *args, **kwargs: _print(fmt, args, kwargs, skip_format_check)
    _print(fmt, args, kwargs, skip_format_check)
    return None


def _print(fmt: Any, args: tuple[Any, ...], kwargs: dict[str, Any], skip_format_check: bool) -> None:
    if not isinstance(fmt, str):
        raise TypeError(f"debug.print: needs a format string, got {fmt!r} of type {type(fmt).__name__}. Write '{{}}'.")
    if not flag("debug.print", "skip_format_check", skip_format_check):
        _check_places(fmt, len(args), kwargs)
        _text(fmt, *tree.tree_map(_stand_in, (args, kwargs)))

    def show(*args: Any, **kwargs: Any) -> None:
        builtins.print(_text(fmt, args, kwargs))

    show.__name__ = f"print {fmt!r}"
    debug_callback("debug.print", show, args, kwargs)


# --- the format ------------------------------------------------------------------------------------------------------
class _ByElement(string.Formatter):
    """``str.format``, but that a specification is for each element of an array."""

    def __init__(self) -> None:
        self.number = itertools.count()

    def parse(self, format_string: Any) -> Iterator[Any]:
        """With the places that have no name numbered, which string.Formatter does not do for ``{.shape}``."""
        for text, name, spec, conversion in super().parse(format_string):
            if name is not None and name[:1] in ("", ".", "["):
                name = f"{next(self.number)}{name}"
            yield text, name, spec, conversion

    def format_field(self, value: Any, format_spec: str) -> str:
        if not (format_spec and isinstance(value, Array) and value.ndim):
            return str(super().format_field(value, format_spec))
        elements = np.asarray(value)
        elements = elements.astype(np.float32) if elements.dtype == dtypes.bfloat16 else elements
        format(elements.dtype.type(0).item(), format_spec)  # complains of an array without elements, too
        return np.array2string(elements, formatter={"all": lambda v: format(v, format_spec)})


def _stand_in(x: Any) -> Any:
    """A value of a traced array's type, without memory of its size; everything else as it is."""
    if not isinstance(x, Tracer):
        return x
    return ConcreteArray(np.broadcast_to(np.zeros((), x.dtype), x.shape), x.aval.weak_type)


def _text(fmt: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    try:
        return _ByElement().vformat(fmt, args, kwargs)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        given = [_kind(x) for x in (*args, *kwargs.values())]
        raise ValueError(
            f"debug.print: every place in the format must fit its argument, got {fmt!r} for {', '.join(given)} "
            f"({type(e).__name__}: {e}). Correct the place, or compute what it shows beforehand."
        ) from None


def _kind(x: Any) -> str:
    return str(x.aval) if isinstance(x, Array) else type(x).__name__


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
