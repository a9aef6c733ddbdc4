"""The cache on disk: object files under `config.cache_dir`, named by a digest of all that determines them.

Any number of processes may read and write it at once: a file appears complete, by being renamed, and its content is
checked against a digest when it is read, so a file cut short or damaged counts as absent.  What a killed process leaves
behind is removed, and beyond `config.cache_dir_bytes` the files used longest ago go first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
import warnings
from pathlib import Path

from fgrad import config

_MAGIC = b"fgrad-object-2\n"
_SUFFIX = ".o"

#: Seconds after which a temporary file is nobody's any more, and after which a use is noted again.
_STALE = 3600


def read(folder: str, digest: str) -> bytes | None:
    """The object, or None if it is absent, unreadable or damaged."""
    path = _path(folder, digest)
    try:
        with open(path, "rb") as file:
            data = file.read()
            used = os.fstat(file.fileno()).st_atime
    except OSError:
        return None
    head, check, code = data[: len(_MAGIC)], data[len(_MAGIC) : len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
    if head != _MAGIC or hashlib.sha256(code).digest() != check:
        return None
    now = time.time()
    if now - used > _STALE:
        with contextlib.suppress(OSError):  # in a folder that is only read nothing is removed either
            os.utime(path, (now, path.stat().st_mtime))  # not every file system notes that a file is read
    return code


def write(folder: str, digest: str, code: bytes) -> None:
    """Stores an object so that readers see all of it or nothing; a folder that cannot be written is left alone."""
    path = _path(folder, digest)
    data = _MAGIC + hashlib.sha256(code).digest() + code
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            _remove(temporary)
        _warn(path.parent, error)
    else:
        _enforce_limit(path.parents[1], len(data))


def _path(folder: str, digest: str) -> Path:
    return config.cache_dir() / folder / f"{digest}{_SUFFIX}"


def _warn(folder: Path, error: OSError) -> None:
    if folder not in _warned:
        _warned.add(folder)
        warnings.warn(
            f"kernels: cannot keep compiled code in {folder}, got {error} (every process compiles it again). Set "
            "FGRAD_CACHE_DIR to a folder that can be written, on a disk with room.",
            stacklevel=2,
        )


_warned: set[Path] = set()


def _enforce_limit(cache: Path, nbytes: int) -> None:
    """Weighs a cache at the first write to it, and after writes of 1 % of what it may hold."""
    limit = config.cache_dir_bytes()
    written = _written.get(cache)
    if written is not None and written + nbytes <= limit // 100:
        _written[cache] = written + nbytes
    else:
        _written[cache] = 0
        _tidy(cache, limit)


_written: dict[Path, int] = {}  # bytes since a cache was weighed


def _tidy(cache: Path, limit: int) -> None:
    """Removes abandoned temporary files, and objects until a tenth of the limit is free again."""
    objects, total, now = [], 0, time.time()
    for folder in _entries(cache):
        for entry in _entries(folder.path) if folder.is_dir() else ():
            try:
                stat = entry.stat()
            except OSError:
                continue  # another process was faster
            if entry.name.endswith(_SUFFIX):
                objects.append((max(stat.st_atime, stat.st_mtime), stat.st_size, entry.path))
                total += stat.st_size
            elif entry.name.endswith(".tmp") and now - stat.st_mtime > _STALE:
                _remove(entry.path)
    if total <= limit:
        return
    for _, size, path in sorted(objects):
        if total <= limit - limit // 10:
            return
        _remove(path)
        total -= size


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):  # gone already, or open in another process, where that holds a file
        os.unlink(path)
