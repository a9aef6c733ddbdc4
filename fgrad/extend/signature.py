"""What a call of a user's primitive looks like, and whether the user's rules can take it: checked at definition."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fgrad.core.array import Array

_ORDINARY = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_REQUIRED = inspect.Parameter.empty


class Signature(NamedTuple):
    """Names of the operands (None: any number) and the static parameters with their defaults (None: any)."""

    operands: tuple[str, ...] | None
    params: dict[str, Any] | None

    def __repr__(self) -> str:
        operands = list(self.operands) if self.operands is not None else ["*operands"]
        if self.params is None:
            return f"({', '.join([*operands, '**parameters'])})"
        return f"({', '.join([*operands, *['*'] * bool(self.params), *self.params])})"

    def complete(self, name: str, n: int, params: dict[str, Any]) -> dict[str, Any]:
        """The parameters of a call with ``n`` operands, defaults included."""
        if self.operands is not None and n != len(self.operands):
            raise TypeError(
                f"{name}: takes {_count(len(self.operands), 'operand')}, got {n}. Call it as {name}{self!r}; "
                "static parameters are keywords."
            )
        if self.params is not None and (params or self.params):
            unknown = [p for p in params if p not in self.params]
            if unknown:
                raise TypeError(
                    f"{name}: has no static parameter {unknown[0]!r}, got {unknown[0]}={params[unknown[0]]!r}. "
                    f"Call it as {name}{self!r}; arrays are positional."
                )
            params = {p: params.get(p, default) for p, default in self.params.items()}
            missing = [p for p, value in params.items() if value is _REQUIRED]
            if missing:
                raise TypeError(
                    f"{name}: static parameter {missing[0]!r} must be given, got none. Call it as {name}{self!r}."
                )
        for p, value in params.items():
            _check_static(name, p, value)
        return params

    def inspected(self) -> inspect.Signature:
        """For ``help`` and the names of arguments in errors."""
        assert self.operands is not None
        kind = inspect.Parameter
        operands = [kind(o, kind.POSITIONAL_ONLY) for o in self.operands]
        params = [kind(p, kind.KEYWORD_ONLY, default=default) for p, default in (self.params or {}).items()]
        return inspect.Signature([*operands, *params])


def _check_static(name: str, p: str, value: Any) -> None:
    instead = "Use a tuple"
    if isinstance(value, (Array, np.ndarray)):
        instead = "Make it an operand"
    else:
        try:
            hash(value)
            return
        except TypeError:
            pass
    raise TypeError(
        f"{name}: static parameters must be hashable, got {p}={value!r} of type {type(value).__name__}. {instead}."
    )


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def of_numpy(name: str, function: Any) -> Signature:
    """Operands are the positional parameters of the NumPy function, static parameters its keyword-only ones."""
    check_function(name, "numpy", function)
    if isinstance(function, np.ufunc):
        return Signature(tuple([f"x{i + 1}" for i in range(function.nin)]) if function.nin > 1 else ("x",), {})
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return Signature(None, None)
    operands: list[str] | None = []
    params: dict[str, Any] | None = {}
    for p in given:
        if p.kind in _ORDINARY and operands is not None:
            if p.default is not _REQUIRED:
                raise TypeError(
                    f"{name}: operands have no defaults, got {p} in numpy. Put static parameters behind a '*'."
                )
            operands.append(p.name)
        elif p.kind is p.VAR_POSITIONAL:
            operands = None
        elif p.kind is p.VAR_KEYWORD:
            params = None
        elif p.kind is p.KEYWORD_ONLY and params is not None:
            params[p.name] = p.default
    return Signature(None if operands is None else tuple(operands), params)


def check_function(name: str, role: str, function: Any) -> None:
    """A rule is a callable."""
    if not callable(function):
        raise TypeError(
            f"{name}: {role} must be a function, got {function!r} of type {type(function).__name__}. Pass a callable."
        )


def check_rule(name: str, role: str, function: Any, leading: Sequence[str], own: Signature, operands: bool) -> None:
    """The rule can be called as ``role(*leading, *operands, **params)``; what is not known is not checked."""
    check_function(name, role, function)
    if own.params is None or (operands and own.operands is None):
        return
    positional = [*leading, *(own.operands if operands and own.operands is not None else ())]
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        found.bind(*positional, **own.params)
    except TypeError as e:
        wanted = ", ".join([*positional, *["*"] * bool(own.params), *own.params])
        raise TypeError(f"{name}: {role} must accept ({wanted}), got {found} ({e}). Change its parameters.") from None


def check_tuple(name: str, role: str, given: Any, own: Signature) -> tuple[Any, ...]:
    """One entry for each operand; a function stands for the only operand's."""
    entries = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    if own.operands is not None and len(entries) != len(own.operands):
        raise TypeError(
            f"{name}: {role} must have one entry for each of the {_count(len(own.operands), 'operand')} "
            f"{', '.join(own.operands)}, got {len(entries)}. Give None where there is nothing to give."
        )
    return entries


def python_function(function: Callable[..., Any]) -> Any:
    """The function under a Numba decorator."""
    return getattr(function, "py_func", function)
