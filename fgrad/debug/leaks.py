"""Finding the tracers that a function leaves behind, and who holds them."""

from __future__ import annotations

import contextlib
import gc
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fgrad.core.caches import clear_caches
from fgrad.core.jaxpr import Source
from fgrad.core.static import flag
from fgrad.core.trace import Trace, Tracer, on_end, using
from fgrad.debug.observe import ObservingTrace, parent_of
from fgrad.errors import LeakedTracerError
from fgrad.transforms.jvp import JVPTracer
from fgrad.transforms.linearize import TapeTrace
from fgrad.transforms.stage import StagingTracer, user_source
from fgrad.transforms.vmap import BatchTracer

SHOWN = 3  # leaks that a message describes
TRACERS = (JVPTracer, BatchTracer, StagingTracer)
SEARCHED = 20_000  # objects looked at in the search for a holder


class LeakTrace(ObservingTrace):
    """Evaluation, by the trace below, that remembers which line made each value that is still in use."""

    __slots__ = ("limit", "lines")

    def __init__(self, name: str, parent: Trace):
        super().__init__(name, parent)
        self.lines: dict[int, tuple[Any, Source | None]] = {}  # by id; holds the value, so that the id stays its own
        self.limit = 64  # entries at which unused ones are dropped

    def bind(self, prim: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        assert self.parent is not None
        out = self.parent.bind(prim, args, params)
        self.observe(prim, args, out if prim.multiple_results else (out,), ())
        return out

    def observe(self, prim: Any, args: Sequence[Any], outs: Sequence[Any], path: Sequence[str]) -> None:
        self.lines.update((id(out), (out, user_source())) for out in outs)
        if len(self.lines) > self.limit:
            # references to a value that nobody else uses: the entry, the loop's variable and getrefcount's argument
            self.lines = {k: (v, s) for k, (v, s) in self.lines.items() if sys.getrefcount(v) > 3}
            self.limit = max(64, 2 * len(self.lines))

    def line_of(self, tracer: Tracer) -> Source | None:
        value: Any = tracer
        while isinstance(value, Tracer):
            if (source := value._trace.made_at(value)) is not None:
                return source
            value = getattr(value, "primal", getattr(value, "val", None))
        return self.lines.get(id(value), (None, None))[1]

    def ended(self, trace: Trace) -> None:
        """Raises if something the user can reach holds a tracer of the trace."""
        # Tracers of a tape belong to it, and it outlives its trace; rules that stage ("jvp", "vmap") run no user's code
        if isinstance(trace, TapeTrace) or " of " not in trace.name:
            return
        if _leaks_of(trace):
            gc.collect()  # what only garbage holds is no leak
            if leaks := _leaks_of(trace):
                raise LeakedTracerError(self.message(trace, leaks))

    def message(self, trace: Trace, leaks: Sequence[tuple[Tracer, str]]) -> str:
        found = []
        for tracer, holder in leaks[:SHOWN]:
            line = self.line_of(tracer)
            made = f" made at {line}" if line else ""
            found.append(f"{trace.describe(tracer)} ({tracer.aval}{made}) in {holder}")
        more = f" and {len(leaks) - SHOWN} more" if len(leaks) > SHOWN else ""
        return (
            f"check_tracer_leaks: {trace.name} must leave none of its values behind, got {'; '.join(found)}{more}. "
            "Return the values from the function instead of storing them."
        )


def _leaks_of(trace: Trace) -> list[tuple[Tracer, str]]:
    tracers = [x for x in gc.get_referrers(trace) if type(x) in TRACERS and x._trace is trace]
    holders = _holders(tracers)
    return [(x, holders[id(x)]) for x in tracers if id(x) in holders]


# --- who holds it ----------------------------------------------------------------------------------------------------
class _Reached(NamedTuple):
    """An object that leads to a tracer; ``path`` as Python would write it: ("[0]", "['x']")."""

    obj: Any
    path: tuple[str, ...]
    tracer: int  # its id


def _holders(tracers: Sequence[Tracer]) -> dict[int, str]:
    """Who holds the tracers (by their ids), by breadth-first search backwards through containers.

    Local variables of running functions are no objects: what only they hold has no referrers, ends a path, and is not
    reported. So what fgrad's own running code holds is no leak.
    """
    names: dict[int, str] = {}
    level = {id(x): [_Reached(x, (), id(x))] for x in tracers}  # by the id of the object
    seen = {(i, i) for i in level}  # (id of an object, id of a tracer it leads to)
    while level and len(seen) < SEARCHED:
        objects = [paths[0].obj for paths in level.values()]
        own = {id(tracers), id(objects), id(level), *map(id, level.values())}
        following: dict[int, list[_Reached]] = {}
        for r in gc.get_referrers(*objects):
            if id(r) in own or type(r) is _Reached:
                continue
            held = {id(obj) for obj in gc.get_referents(r)} & level.keys()
            for reached in [x for obj in held for x in level[obj]]:
                if reached.tracer in names or (id(r), reached.tracer) in seen:
                    continue
                seen.add((id(r), reached.tracer))
                name = _name_of(r, reached.obj, reached.path)
                if name is not None:
                    names[reached.tracer] = name
                elif (step := _step(r, reached.obj)) is not None:
                    following.setdefault(id(r), []).append(_Reached(r, (step, *reached.path), reached.tracer))
        level = following
    return names


def _step(r: Any, obj: Any) -> str | None:
    """From a container to what it holds, as Python would write it; None: the search ends here."""
    if isinstance(r, dict):
        return f"[{next((k for k, v in r.items() if v is obj), '...')!r}]"
    if isinstance(r, (list, tuple)):
        return f"[{next((i for i, v in enumerate(r) if v is obj), '...')}]"
    passes = isinstance(r, (set, frozenset, types.MethodType, Tracer))
    return "" if passes or type(r).__module__ in ("collections", "functools") else None


def _name_of(r: Any, obj: Any, path: tuple[str, ...]) -> str | None:
    """``KEPT[0], a global of model``, if ``r`` is something the user knows by name."""
    inside = "".join(path)
    if isinstance(r, dict):
        module = sys.modules.get(r["__name__"]) if isinstance(r.get("__name__"), str) else None
        if module is None or vars(module) is not r or _is_ours(r["__name__"]):
            return None
        return f"{next(k for k, v in r.items() if v is obj)}{inside}, a global of {r['__name__']}"
    if isinstance(r, types.CellType):
        for closure in gc.get_referrers(r):
            for fun in gc.get_referrers(closure) if isinstance(closure, tuple) else ():
                if isinstance(fun, types.FunctionType) and fun.__closure__ is closure and not _is_ours(fun.__module__):
                    variable = next(n for n, c in zip(fun.__code__.co_freevars, fun.__closure__) if c is r)
                    return f"{variable}{inside}, a variable around {fun.__qualname__}"
        return None
    if isinstance(r, types.FunctionType):
        return None if _is_ours(r.__module__) or r.__closure__ is obj else f"the function {r.__qualname__}"
    if isinstance(r, (types.GeneratorType, types.CoroutineType)):
        return f"the suspended generator {r.__qualname__}"
    if isinstance(r, types.FrameType):
        ours = _is_ours(r.f_globals.get("__name__"))
        return None if ours else f"a local variable of {r.f_code.co_qualname}, kept by an exception or a debugger"
    known = isinstance(r, (list, tuple, set, frozenset, types.MethodType, types.ModuleType, Tracer))
    if known or _is_ours(type(r).__module__) or type(r).__module__ in ("builtins", "collections", "functools"):
        return None
    return f"{_attribute(r, obj, path)} of a {type(r).__qualname__} object"


def _attribute(r: Any, obj: Any, path: tuple[str, ...]) -> str:
    """``attribute x[0]``; ``obj`` is the value of an attribute, or the dictionary of them all."""
    attributes = getattr(r, "__dict__", {})
    if attributes is obj:
        return f"attribute {path[0][2:-2]}{''.join(path[1:])}"
    slots = [n for c in type(r).__mro__ for n in getattr(c, "__slots__", ())]
    names = [n for n in (*attributes, *slots) if getattr(r, n, None) is obj]
    return f"attribute {names[0]}{''.join(path)}" if names else "an item"


def _is_ours(module: Any) -> bool:
    return isinstance(module, str) and module.partition(".")[0] == "fgrad"


@contextlib.contextmanager
def check_tracer_leaks(enable: bool = True) -> Iterator[None]:
    """Inside the block, a traced function that leaves a tracer behind is an error as soon as it returns.

    A tracer is left behind if something that outlives the function holds it: a global, a list around the function, an
    attribute, a closure, a generator. Who holds it is searched through the garbage collector, as far as Python shows
    it. Caches are cleared at the beginning, so that functions traced before are traced again; operations run one by
    one, and every traced function costs a collection: for finding a fault only. ``checking_leaks`` is the same.

    Args:
        enable: False: nothing is checked inside this block, whatever is around it.

    Raises:
        LeakedTracerError: names the tracer, the line that made it, and its holder.
        TypeError: the block stands inside a transformation.

    >>> import fgrad, fgrad.numpy as fnp
    >>> kept = []
    >>> def f(x):
    ...     kept.append(fnp.sin(x))
    ...     return x
    >>> with fgrad.debug.check_tracer_leaks():
    ...     fgrad.grad(f)(1.0)
    Traceback (most recent call last):
    fgrad.errors.LeakedTracerError: ...

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.checking_leaks.html.
    """
    enable = flag("check_tracer_leaks", "enable", enable)
    trace = LeakTrace("check_tracer_leaks", parent_of("check_tracer_leaks"))
    token = on_end.set(trace.ended if enable else None)
    try:
        if enable:
            clear_caches()
            with using(trace):
                yield
        else:
            yield
    finally:
        on_end.reset(token)


checking_leaks = check_tracer_leaks
