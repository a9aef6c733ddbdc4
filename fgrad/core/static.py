"""What users pass besides arrays: integers, flags, choices and functions, checked under the called function's name.

A tracer where Python needs a value raises ConcretizationError, which names the argument and the user's line.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from fgrad.core.array import Array
from fgrad.core.dtypes import bfloat16
from fgrad.core.trace import Tracer


def kind(value: Any) -> str:
    """A value as errors show it: ``2.5 of type float``."""
    return f"{value!r} of type {type(value).__name__}"


def static_int(name: str, constraint: str, value: Any) -> int:
    """A Python integer, of what has ``__index__``."""
    if type(value) is int:
        return value
    if isinstance(value, Tracer):
        return value.__index__()
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: {constraint}, got {kind(value)}. Use int(...).") from None


def items(value: Any) -> tuple[Any, ...] | None:
    """The elements of a sequence or of an array with axes; None for anything else, a string included."""
    if isinstance(value, (tuple, list)):
        return tuple(value)
    if isinstance(value, (np.ndarray, Array)):
        return tuple(value) if value.ndim else None
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)) else None


def static_ints(name: str, constraint: str, values: Any) -> tuple[int, ...]:
    """Python integers; one integer stands for a sequence of one."""
    given = items(values)
    return tuple(
        [v if type(v) is int else static_int(name, constraint, v) for v in ((values,) if given is None else given)]
    )


def sequence(name: str, what: str, values: Any) -> tuple[Any, ...]:
    """The elements of ``values``, which must be a sequence."""
    given = items(values)
    if given is None:
        raise TypeError(f"{name}: {what} must be a sequence, got {kind(values)}. Pass a tuple.")
    return given


def flag(name: str, what: str, value: Any) -> bool:
    """True or False, of anything that Python can tell to be one."""
    if value is False or value is True:
        return value
    try:
        return bool(value)
    except ValueError:  # an array of more than one element, or of none
        raise TypeError(f"{name}: {what} must be True or False, got {kind(value)}. Pass a bool.") from None


def choice(name: str, what: str, value: Any, options: Collection[Any]) -> Any:
    """One of ``options``, which are strings or None."""
    if (value is None or isinstance(value, str)) and value in options:
        return value
    names = [repr(o) for o in options if o is not None]
    wanted = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) < 5 else f"one of {', '.join(names)}"
    error = ValueError if value is None or isinstance(value, str) else TypeError
    raise error(f"{name}: {what} must be {wanted}, got {value!r}. Choose one{' of them' * (len(names) == 2)}.")


def function(name: str, what: str, value: Any) -> Any:
    """Something that can be called."""
    if not callable(value):
        raise TypeError(f"{name}: {what} must be a function, got {kind(value)}. Pass a callable.")
    return value


def real_number(name: str, what: str, value: Any) -> Any:
    """``value`` itself, which must be a real number: Python's, or a scalar or array without axes of real numbers."""
    if type(value) is float or type(value) is int:
        return value
    if isinstance(value, (np.ndarray, np.generic, Array)):
        if value.ndim == 0 and (value.dtype.kind in "biuf" or value.dtype == bfloat16):
            return value
    elif isinstance(value, (bool, int, float)):
        return value
    raise TypeError(f"{name}: {what} must be a real number, got {kind(value)}. Pass a float.")
