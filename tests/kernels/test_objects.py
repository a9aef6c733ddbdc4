"""The cache on disk: complete files only, whatever happens to the processes, the folder and the disk; bounded."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fgrad import config
from fgrad.kernels.cpu import objects

PROGRAM = "import numpy as np, fgrad, fgrad.numpy as fnp; print(fgrad.jit(lambda x: fnp.cbrt(x) - 4)(np.ones(3)))"
RESULT = "[-3. -3. -3.]"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setitem(config._overrides, "FGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(objects, "_written", {})
    monkeypatch.setattr(objects, "_warned", set())
    return tmp_path


def start(folder: Path, code: str = PROGRAM) -> subprocess.Popen:
    environment = os.environ | {"FGRAD_CACHE_DIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def result(process: subprocess.Popen) -> tuple[str, str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip(), err


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_is_read(cache):
    assert objects.read("emitted", "a") is None
    objects.write("emitted", "a", b"code")
    assert objects.read("emitted", "a") == b"code"
    assert names(cache) == {"a.o"}


def test_processes_at_the_same_time_share_one_folder(tmp_path):
    processes = [start(tmp_path) for _ in range(3)]
    assert [result(process) for process in processes] == [(RESULT, "")] * 3
    files = names(tmp_path)
    assert files and all(name.endswith(".o") for name in files)
    assert result(start(tmp_path, PROGRAM + "\nimport sys; assert 'numba' not in sys.modules")) == (RESULT, "")
    assert names(tmp_path) == files


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process_leaves_nothing_that_others_trip_over(tmp_path):
    """Killed while a file is half written."""
    code = (
        "import os, signal\nreplace = os.replace\n"
        "os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)\n" + PROGRAM
    )
    process = start(tmp_path, code)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert left.endswith(".tmp")
    assert result(start(tmp_path)) == (RESULT, "")
    assert left in names(tmp_path)  # it might be of a process that still writes
    (path,) = tmp_path.rglob(left)
    os.utime(path, (time.time() - 2 * objects._STALE,) * 2)
    for damaged in tmp_path.rglob("*.o"):
        damaged.write_bytes(b"")
    assert result(start(tmp_path)) == (RESULT, "")
    assert left not in names(tmp_path)


@pytest.mark.long
def test_a_disk_without_room(tmp_path):
    """Every write ends after 100 bytes, as on a full disk: the program runs, says so, and leaves no piece of a file."""
    pytest.importorskip("resource")
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n" + PROGRAM
    out, err = result(start(tmp_path, code))
    assert out == RESULT
    assert "cannot keep compiled code" in err
    assert names(tmp_path) == set()
    assert result(start(tmp_path)) == (RESULT, "")


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_is_only_read(code, cache, monkeypatch):
    """Permissions do not bind the superuser, so the system's answer is given in its place."""
    objects.write("emitted", "a", b"code")
    (path,) = cache.rglob("a.o")
    os.utime(path, (0, 0))

    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(objects.tempfile, "mkstemp", refuse)
    monkeypatch.setattr(objects.os, "utime", refuse)
    assert objects.read("emitted", "a") == b"code"
    with pytest.warns(UserWarning, match=r"cannot keep compiled code in .*got \[Errno") as warned:
        objects.write("emitted", "b", b"code")
        objects.write("emitted", "c", b"code")
    assert len(warned) == 1
    assert names(cache) == {"a.o"}


def test_beyond_its_size_what_was_used_longest_ago_goes(cache, monkeypatch):
    monkeypatch.setitem(config._overrides, "FGRAD_CACHE_DIR_BYTES", 10_000)
    for i in range(12):
        objects.write("emitted" if i % 2 else "tiles", str(i), bytes(900))
        (path,) = cache.rglob(f"{i}.o")
        os.utime(path, (i + 1, i + 1))
        assert objects.read("tiles", "0") is not None  # a use of the oldest
    kept = {int(name.removesuffix(".o")) for name in names(cache)}
    assert 0 in kept and kept - {0} == set(range(12 - len(kept) + 1, 12))
    assert 7_000 < sum(path.stat().st_size for path in cache.rglob("*.o")) <= 10_000


def test_a_smaller_limit_holds_from_the_next_write(cache, monkeypatch):
    for i in range(20):
        objects.write("emitted", str(i), bytes(900))
    assert len(names(cache)) == 20
    monkeypatch.setitem(config._overrides, "FGRAD_CACHE_DIR_BYTES", 5_000)
    objects.write("emitted", "20", bytes(900))
    assert len(names(cache)) <= 5
    assert objects.read("emitted", "20") is not None


def test_files_of_others_stay(cache, monkeypatch):
    monkeypatch.setitem(config._overrides, "FGRAD_CACHE_DIR_BYTES", 1)
    (cache / "emitted").mkdir()
    mine = [cache / "notes.txt", cache / "emitted" / "notes.txt"]
    for path in mine:
        path.write_text("mine")
    objects.write("emitted", "a", bytes(900))
    assert names(cache) == {"notes.txt"} and all(path.exists() for path in mine)
