"""Calls as data: a public function by name, its arguments, what its result is called with, and under which trace."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import fgrad
from fgrad.core.array import ConcreteArray

Path = tuple[Any, ...]  # from Call.items() down to a part of an argument


@dataclass(frozen=True)
class Fresh:
    """An argument that each call must make anew: a generator, a class that the call registers, ..."""

    make: Callable[[], Any]
    text: str


@dataclass(frozen=True)
class Call:
    """``target(*args, **kwargs)``; with ``then``, the result is called: ``target(...)(*then)``.

    trace: a transformation ("jit", "vmap", ...) under which the call runs; the parts of the arguments at ``traced``
    are its tracers.  Under "vmap" the axis is called "i".
    work: arguments whose size is work to do (the length of a loop), to which no huge number is given.
    """

    target: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    then: tuple[Any, ...] | None = None
    trace: str | None = None
    traced: tuple[Path, ...] = ()
    work: frozenset[Any] = frozenset()

    def items(self) -> dict[str, Any]:
        """What mutations change: a tree of containers."""
        return {"args": self.args, "kwargs": self.kwargs, **({} if self.then is None else {"then": self.then})}

    def __str__(self) -> str:
        parts = [show(a) for a in self.args] + [f"{k}={show(v)}" for k, v in self.kwargs.items()]
        text = f"{self.target}({', '.join(parts)})"
        if self.then is not None:
            text += f"({', '.join(map(show, self.then))})"
        if self.trace is not None:
            text += f"  # under {self.trace}, tracing {['.'.join(map(str, p)) for p in self.traced]}"
        return text

    def with_items(self, items: dict[str, Any]) -> "Call":
        return replace(self, args=items["args"], kwargs=items["kwargs"], then=items.get("then"))


def call(*args: Any, **kwargs: Any) -> Call:
    """A seed: its target is filled in by the table it stands in."""
    return Call("", args, kwargs)


def show(x: Any) -> str:
    """A value as Python text where it has one."""
    if isinstance(x, Fresh):
        return x.text
    if isinstance(x, dict):
        return "{" + ", ".join(f"{k!r}: {show(v)}" for k, v in x.items()) + "}"
    if type(x) in (tuple, list):
        inner = ", ".join(map(show, x)) + ("," if type(x) is tuple and len(x) == 1 else "")
        return f"({inner})" if type(x) is tuple else f"[{inner}]"
    if isinstance(x, np.ndarray):
        kind = type(x).__name__ if type(x) is not np.ndarray else "array"
        body = repr(np.asarray(x).tolist()) if x.size <= 8 else f"{x.size} elements"
        c = "" if x.flags.c_contiguous else f", strides={x.strides}"
        return f"{kind}({body}, shape={x.shape}, dtype={x.dtype.str if x.dtype.names is None else x.dtype}{c})"
    if inspect.isroutine(x) or isinstance(x, type):
        return getattr(x, "__name__", repr(x))
    try:
        return repr(x)[:300]
    except Exception as e:  # an object whose repr is refused, a donated array say
        return f"<{type(x).__name__}: {e}>"


def made(x: Any) -> Any:
    """An argument as it is passed: containers copied, Fresh values made."""
    kind = type(x)
    if kind is tuple:
        return tuple([made(v) for v in x])
    if kind is list:
        return [made(v) for v in x]
    if kind is dict:
        return {k: made(v) for k, v in x.items()}
    if kind is ConcreteArray:  # a call may donate it
        return ConcreteArray(x._value.copy(), x._weak)
    return x.make() if kind is Fresh else x


def part(x: Any, path: Path) -> Any:
    for key in path:
        x = x[key]
    return x


def with_part(x: Any, path: Path, value: Any) -> Any:
    """``x`` with the part at ``path`` replaced; containers on the way are copied."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    new = with_part(x[key], rest, value)
    if isinstance(x, dict):
        return {**x, key: new}
    items = list(x)
    items[key] = new
    return items if type(x) is list else tuple(items)


def paths(x: Any, depth: int = 6) -> list[Path]:
    """All parts of a tree of tuples, lists and dicts, containers included."""
    out: list[Path] = [()]
    if depth and type(x) in (tuple, list, dict):
        keys = x.keys() if type(x) is dict else range(len(x))
        for key in list(keys)[:12]:
            out += [(key, *p) for p in paths(x[key], depth - 1)]
    return out


# --- traces ----------------------------------------------------------------------------------------------------------
def _jvp(f, *leaves):
    tangents = fgrad.tree.map(lambda x: np.ones_like(x) if isinstance(x, np.ndarray) else 1.0, leaves)
    return fgrad.jvp(f, leaves, tangents)


def _vmap(f, *leaves):
    stacked = fgrad.tree.map(lambda x: np.stack([np.asarray(x)] * 2), leaves)
    return fgrad.vmap(f, axis_name="i", axis_size=2)(*stacked)


def _pull(f, *leaves):
    out, back = fgrad.vjp(f, *leaves)
    return back(out)


TRACES = {
    "jit": lambda f, *xs: fgrad.jit(f)(*xs),
    "make_jaxpr": lambda f, *xs: fgrad.make_jaxpr(f)(*xs),
    "vmap": _vmap,
    "jvp": _jvp,
    "vjp": _pull,
    "linearize": lambda f, *xs: fgrad.linearize(f, *xs),
}


def perform(function: Callable[..., Any], c: Call) -> Any:
    """Makes the call.  A wrong signature of the target is Python's TypeError, raised in this file."""
    items = made(c.items())

    def plain(items: dict[str, Any]) -> Any:
        out = function(*items["args"], **items["kwargs"])
        if "then" in items and callable(out):
            out = out(*items["then"])
        return out

    if c.trace is None:
        return plain(items)

    def traced(*leaves: Any) -> Any:
        filled = items
        for path, leaf in zip(c.traced, leaves):
            filled = with_part(filled, path, leaf)
        return plain(filled)

    return TRACES[c.trace](traced, *[part(items, p) for p in c.traced])


def snapshot(x: Any) -> Any:
    """The values of the NumPy arrays among the arguments: they must not change."""
    if isinstance(x, np.ndarray):
        return None if x.dtype.hasobject else np.asarray(x).tobytes()
    if type(x) in (tuple, list):
        return [snapshot(v) for v in x]
    return [snapshot(v) for v in x.values()] if type(x) is dict else None
