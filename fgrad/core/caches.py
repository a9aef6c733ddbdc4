"""Every cache of the library, in one list: counted, bounded and cleared together.

Traces and programs are the large ones.  They are kept up to a number of entries and of bytes over all functions
(``config.cache_limits``); beyond either, those used longest ago go first.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from fgrad import config


class CacheInfo(NamedTuple):
    """What the caches hold.

    ``entries`` and ``bytes`` are those of traces and programs (``bytes`` with the temporaries that they share), which
    ``max_entries`` and ``max_bytes`` bound;
    ``by_name`` has the entries of every cache, the small ones included that have bounds of their own.
    """

    entries: int
    bytes: int
    max_entries: int
    max_bytes: int
    by_name: dict[str, int]


class Entry(Protocol):
    """A trace with its program; ``used`` is the time of its last use, by ``clock``."""

    used: int

    @property
    def nbytes(self) -> int: ...


class Table(Protocol):
    """A cache of entries: those of one jitted function."""

    def entries(self) -> Sequence[tuple[Any, Entry]]: ...

    def forget(self, key: Any) -> None: ...

    def clear(self) -> None: ...


clock = itertools.count(1).__next__
_tables: dict[str, weakref.WeakSet[Any]] = {}
_others: dict[str, tuple[Callable[[], int], Callable[[], None]]] = {}
_shared: list[Callable[[], int]] = []


def add_table(table: Table, name: str = "traces of jitted functions") -> None:
    """A cache whose entries count against the limits, for as long as it lives; those of a name are counted together."""
    _tables.setdefault(name, weakref.WeakSet()).add(table)


def _every_table() -> list[Any]:
    return [table for tables in _tables.values() for table in list(tables)]


def add_cache(name: str, count: Callable[[], int], clear: Callable[[], None]) -> None:
    """A cache with a bound of its own; ``count()`` is its number of entries."""
    _others[name] = (count, clear)


def add_lru_cache(name: str, cached: Any) -> None:
    """The same for a function under functools.lru_cache."""
    add_cache(name, lambda: cached.cache_info().currsize, cached.cache_clear)


def add_shared(nbytes: Callable[[], int]) -> None:
    """Memory that entries share, and that goes with the last entry that needs it."""
    _shared.append(nbytes)


def _shared_bytes() -> int:
    return sum([nbytes() for nbytes in _shared])


class _NextLook:
    """When to weigh all entries again: after so many more have been added, or if the limits have changed."""

    added = wait = 0
    limits: tuple[int, int] | None = None


def enforce_limits() -> None:
    """Forgets what was used longest ago until the limits hold; called after an entry was added.

    Weighing n entries takes time n, so it is done after n / 64 additions: the limits may be passed by 2 %.
    """
    limits = max_entries, max_bytes = config.cache_limits()
    _NextLook.added += 1
    if _NextLook.added < _NextLook.wait and limits == _NextLook.limits:
        return
    every = [(entry.used, entry.nbytes, table, key) for table in _every_table() for key, entry in table.entries()]
    _NextLook.added, _NextLook.wait, _NextLook.limits = 0, len(every) // 64, limits
    excess = len(every) - max_entries
    weight = sum([nbytes for _, nbytes, _, _ in every])
    if excess <= 0 and weight + _shared_bytes() <= max_bytes:
        return
    every.sort(key=lambda e: e[0])
    # a tenth more than needed, so that a program at the limit does not come here at every step
    excess, target = excess + max_entries // 10, max_bytes - max_bytes // 10
    for _, nbytes, table, key in every[:-1]:  # the newest is about to be used
        if excess <= 0 and weight + _shared_bytes() <= target:
            return
        table.forget(key)
        excess -= 1
        weight -= nbytes


def cache_info() -> CacheInfo:
    """Entries and bytes of the caches, and their limits (``config.set_cache_limits``).

    >>> import fgrad
    >>> fgrad.clear_caches()
    >>> f = fgrad.jit(lambda x: x + 1)
    >>> _ = f(1.0), f(2)
    >>> fgrad.cache_info().by_name["traces of jitted functions"]
    2
    """
    entries = [entry for table in _every_table() for _, entry in table.entries()]
    by_name = {name: sum([len(t.entries()) for t in list(tables)]) for name, tables in _tables.items()}
    by_name.update((name, count()) for name, (count, _) in _others.items())
    max_entries, max_bytes = config.cache_limits()
    nbytes = sum([e.nbytes for e in entries]) + _shared_bytes()
    return CacheInfo(len(entries), nbytes, max_entries, max_bytes, dict(sorted(by_name.items())))


def clear_caches() -> None:
    """Forgets every trace and compiled program, of all functions.

    They are traced and planned again when they are next called.  Kernels on disk stay (``config.cache_dir()``), and so
    does machine code in memory, which other programs may be using.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.clear_caches.html.

    >>> import fgrad
    >>> _ = fgrad.jit(lambda x: x + 1)(1.0)
    >>> fgrad.clear_caches()
    >>> fgrad.cache_info().by_name["traces of jitted functions"]
    0
    """
    for table in _every_table():
        table.clear()
    for _, clear in _others.values():
        clear()


config.on_vectors_change.append(clear_caches)
