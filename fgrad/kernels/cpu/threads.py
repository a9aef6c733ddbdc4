"""The threads of parallel programs: Numba's threading layer, without Numba where that is possible."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from fgrad import config


class Layer(NamedTuple):
    """``parallel_for`` is the address of the layer's function (`machine`), for ``most`` threads."""

    name: str
    parallel_for: int
    most: int


def launch() -> Layer:
    """The layer that Numba would choose, its threads started.

    Numba prefers TBB, then OpenMP.  Importing Numba takes longer than all else that a warm process does, so its OpenMP
    layer, a module of C that needs none of Numba's Python, is loaded on its own where TBB is missing and the user has
    not chosen; in all other cases Numba is asked.
    """
    with _short_spin():
        pool = None
        if "numba" not in sys.modules and not any(name.startswith("NUMBA_THREADING_LAYER") for name in os.environ):
            pool = _openmp_alone()
        if pool is not None:
            ctypes.CFUNCTYPE(None, ctypes.c_int)(pool.launch_threads)(config.cores())
            return Layer("omp", pool.parallel_for, config.cores())
        import numba
        from numba.np.ufunc import parallel

        parallel._launch_threads()
        name = numba.threading_layer()
        pool = importlib.import_module(f"numba.np.ufunc.{name if name == 'workqueue' else name + 'pool'}")
        return Layer(name, pool.parallel_for, parallel.NUM_THREADS)


def _openmp_alone() -> Any:
    """Numba's module ``omppool``, or None where there is TBB or no OpenMP."""
    numba = importlib.util.find_spec("numba")
    assert numba is not None and numba.submodule_search_locations
    folder = os.path.join(numba.submodule_search_locations[0], "np", "ufunc")
    return None if _load("tbbpool", folder) is not None else _load("omppool", folder)


def _load(name: str, folder: str) -> Any:
    """The extension module in a folder, or None if it is not there or a library that it needs is not."""
    spec = importlib.machinery.PathFinder.find_spec(name, [folder])
    if spec is None or spec.loader is None:
        return None
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError:
        return None
    return module


@contextlib.contextmanager
def _short_spin() -> Iterator[None]:
    """libgomp, which reads its settings when it is loaded, waits for work by spinning a few microseconds.

    Its own choice is hundreds of microseconds.  Then a waiting thread keeps a core from the process that the thread it
    waits for has lost its core to: with one other busy process on two cores, the digits CNN's step took 64 ms in place
    of 3.  5000 rounds cost nothing on an idle machine (1.3 ms either way; 0 rounds: 2.5 ms).  A user's own setting
    stays.
    """
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "5000"
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]
