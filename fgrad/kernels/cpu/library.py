"""Library kernels by name: ``address("gemm_float32")`` is the address of compiled code.

A kernel module of this folder has one function ``build(name)`` which returns the kernel as a plain Python function of
``(args, begin, end, worker)``, a closure over Python ints and NumPy scalars at most (they enter the cache key; types
built at run time would never hit it).  It is compiled at its first use and kept on disk in `fgrad.config.cache_dir()`.
"""

from __future__ import annotations

import hashlib
import importlib
import pathlib
import warnings
from collections.abc import Callable

from numba import njit
from numba.core import ccallback, sigutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache, UserProvidedCacheLocator, _CacheLocator

from fgrad import config
from fgrad.kernels.cpu.memory import KERNEL_SIGNATURE

#: Prefix of a kernel's name -> module of this folder that builds it.
MODULES = {
    "gemm": "gemm",
    "conv": "conv_kernels",
    "reduce_window": "window",
    "window": "window",
    "gather": "indexing",
    "scatter": "indexing",
    "sort": "sort",
    "cumulative": "cumulative",
}

#: Modules compiled into the kernels of others: a change in one of them outdates every cached kernel.
SHARED = ("library.py", "memory.py", "scalars.py", "gemm_tiles.py", "gemm_words.py")

#: NaN and infinities keep their meaning; contraction to FMA and reassociation are allowed.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}

_FOLDER = pathlib.Path(__file__).parent
_addresses: dict[str, int] = {}
_kernels: list[ccallback.CFunc] = []  # keeps the compiled code alive


def address(name: str) -> int:
    """Address of the library kernel ``name``, compiled (or read from disk) at its first use."""
    if name not in _addresses:
        kernel = compile_kernel(_build(name))
        _kernels.append(kernel)
        assert kernel.address is not None
        _addresses[name] = kernel.address
    return _addresses[name]


def _build(name: str) -> Callable:
    for prefix in sorted(MODULES, key=len, reverse=True):
        if name.startswith(prefix):
            return importlib.import_module(f"fgrad.kernels.cpu.{MODULES[prefix]}").build(name)
    raise KeyError(f"library kernel: name must begin with one of {sorted(MODULES)}, got {name!r}")


def compile_kernel(function: Callable) -> ccallback.CFunc:
    """Compiles ``function(args, begin, end, worker)`` to a C function that holds no GIL."""
    arguments, result = sigutils.normalize_signature(KERNEL_SIGNATURE)
    options = {"nopython": True, "nogil": True, "error_model": "numpy", "fastmath": FASTMATH}
    kernel = ccallback.CFunc(function, (arguments, result), {}, options)
    _use_cache(kernel, function)
    kernel.compile()
    return kernel


def compile_driver(function: Callable, signature, **options):
    """``numba.njit(signature, nogil=True, **options)(function)``, kept in fgrad's own cache folder."""
    dispatcher = njit(nogil=True, **options)(function)
    _use_cache(dispatcher, function)
    dispatcher.compile(signature)
    return dispatcher


def _use_cache(compiled, function: Callable) -> None:
    try:
        compiled._cache = _Cache(function)
    except OSError as error:
        warnings.warn(
            f"kernels: cannot write the kernel cache, got {error} (they are compiled again in every process). "
            "Set FGRAD_CACHE_DIR to a writable folder.",
            stacklevel=2,
        )


class _Locator(UserProvidedCacheLocator):
    """Places the cache in `config.cache_dir()`; stale once the kernel's own file or a shared module changes."""

    def __init__(self, py_func, py_file):
        self._py_file = py_file
        self._lineno = py_func.__code__.co_firstlineno
        self._cache_path = str(config.cache_dir() / "kernels" / self.get_suitable_cache_subpath(py_file))

    @classmethod
    def from_function(cls, py_func, py_file):
        self = cls(py_func, py_file)
        _CacheLocator.ensure_cache_path(self)
        return self

    def get_source_stamp(self):
        digest = hashlib.sha256()
        for path in (pathlib.Path(self._py_file), *(_FOLDER / name for name in SHARED)):
            digest.update(path.read_bytes())
        return digest.hexdigest()


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _Cache(FunctionCache):
    _impl_class = _CacheImpl
