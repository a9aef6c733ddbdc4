"""The few settings, each an environment variable that a call can override for this process."""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import pathlib
from collections.abc import Callable, Iterator

from fgrad.errors import ConfigError

_VECTOR_BITS = "FGRAD_CPU_VECTOR_BITS"
_overrides: dict[str, int | str | None] = {}

#: What forgets programs of another vector width.
on_vectors_change: list[Callable[[], None]] = []


def _positive_int(name: str, default: int | None, allowed: tuple[int, ...] | None = None) -> int | None:
    raw = _overrides.get(name, os.environ.get(name))
    if raw is None:
        return default
    try:
        value = int(raw) if isinstance(raw, str) else operator.index(raw)
    except (ValueError, TypeError):
        value = 0
    if value < 1 or (allowed is not None and value not in allowed):
        choices = f"one of {allowed}" if allowed else "a positive integer"
        raise ConfigError(f"{name}: must be {choices}, got {raw!r}. Set it to {choices} or unset it.")
    return value


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def num_threads() -> int:
    """Worker threads of compiled programs: ``FGRAD_NUM_THREADS``, or the cores this process may use."""
    most = cores()
    value = _positive_int("FGRAD_NUM_THREADS", most)
    assert value is not None
    return min(value, most)


def set_num_threads(n: int) -> None:
    """Overrides ``FGRAD_NUM_THREADS`` for this process (results do not depend on it)."""
    _override({"FGRAD_NUM_THREADS": n}, num_threads)


@contextlib.contextmanager
def using_num_threads(n: int) -> Iterator[None]:
    """``set_num_threads(n)`` for the length of a block."""
    before = _overrides.get("FGRAD_NUM_THREADS")
    set_num_threads(n)
    try:
        yield
    finally:
        del _overrides["FGRAD_NUM_THREADS"]
        if before is not None:
            _overrides["FGRAD_NUM_THREADS"] = before


def _override(settings: dict[str, int | None], check: Callable[[], object]) -> None:
    """Sets them all, or none if one of them cannot be."""
    before = dict(_overrides)
    _overrides.update(settings)
    try:
        check()
    except ConfigError:
        _overrides.clear()
        _overrides.update(before)
        raise


def cpu_vector_bits() -> int | None:
    """``FGRAD_CPU_VECTOR_BITS`` (128, 256 or 512), or None: as wide as the host's registers.

    The environment is read once: every step of every program asks.
    """
    return _vector_bits() if _VECTOR_BITS in _overrides else _vector_bits_of_environment()


def _vector_bits() -> int | None:
    return _positive_int(_VECTOR_BITS, None, (128, 256, 512))


_vector_bits_of_environment = functools.cache(_vector_bits)


def set_cpu_vector_bits(bits: int | None) -> None:
    """Overrides ``FGRAD_CPU_VECTOR_BITS`` for this process; None: as wide as the host's registers.

    Programs that were compiled for other vectors are forgotten, as by ``fgrad.clear_caches()``.  No program mixes two
    widths.  A width that the processor does not have is emulated with narrower vectors, slowly.
    """
    _override({_VECTOR_BITS: bits}, cpu_vector_bits)
    for forget in on_vectors_change:
        forget()


def cache_limits() -> tuple[int, int]:
    """(entries, bytes) of traces and compiled programs kept in memory: ``FGRAD_CACHE_ENTRIES`` (4096) and
    ``FGRAD_CACHE_BYTES`` (2 GiB).
    """
    entries = _positive_int("FGRAD_CACHE_ENTRIES", 4096)
    size = _positive_int("FGRAD_CACHE_BYTES", 1 << 31)
    assert entries is not None and size is not None
    return entries, size


def set_cache_limits(*, entries: int | None = None, nbytes: int | None = None) -> None:
    """Overrides ``FGRAD_CACHE_ENTRIES`` and ``FGRAD_CACHE_BYTES`` for this process, from the next trace on."""
    given = {"FGRAD_CACHE_ENTRIES": entries, "FGRAD_CACHE_BYTES": nbytes}
    _override({name: value for name, value in given.items() if value is not None}, cache_limits)


def cache_dir() -> pathlib.Path:
    """Where compiled kernels are kept between processes: ``FGRAD_CACHE_DIR``, or fgrad's folder in the user cache."""
    raw = _overrides.get("FGRAD_CACHE_DIR", os.environ.get("FGRAD_CACHE_DIR"))
    if raw:
        return pathlib.Path(str(raw)).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (pathlib.Path(base) if base else pathlib.Path.home() / ".cache") / "fgrad"


def set_cache_dir(path: str | os.PathLike[str]) -> None:
    """Overrides ``FGRAD_CACHE_DIR`` for this process, for kernels that are compiled from now on."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path) or not isinstance(os.fspath(path), str):
        raise ConfigError(f"FGRAD_CACHE_DIR: must be the path of a folder, got {path!r}. Give a str or a pathlib.Path.")
    _overrides["FGRAD_CACHE_DIR"] = os.fspath(path)


def cache_dir_bytes() -> int:
    """Bytes that ``cache_dir`` may hold: ``FGRAD_CACHE_DIR_BYTES`` (1 GiB).  Beyond, what was used longest ago goes."""
    value = _positive_int("FGRAD_CACHE_DIR_BYTES", 1 << 30)
    assert value is not None
    return value


def set_cache_dir_bytes(nbytes: int) -> None:
    """Overrides ``FGRAD_CACHE_DIR_BYTES`` for this process."""
    _override({"FGRAD_CACHE_DIR_BYTES": nbytes}, cache_dir_bytes)
