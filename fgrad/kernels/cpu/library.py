"""Library kernels by name: ``LibraryKernel("gemm_float32").address()`` is the address of compiled code.

A kernel module of this folder has one function ``build(name)`` which returns the kernel as a plain Python function of
``(args, begin, end, worker)``.  `native` compiles it once for each machine, in seconds; from then on `jit` reads its
object code from disk, and neither the module nor Numba is loaded.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fgrad.kernels.cpu.body import Emitted

#: Prefix of a kernel's name -> module of this folder that builds it.
MODULES = {
    "gemm": "gemm",
    "gemm_chunks": "gemm_chunks",
    "conv": "conv_kernels",
    "reduce_window": "window",
    "gather": "indexing",
    "scatter": "indexing",
    "sort": "sort",
    "cumulative": "cumulative",
    "machine": "loops",
}

#: Modules compiled into the kernels of others: a change in one of them outdates every cached kernel.
SHARED = ("native", "irbuild", "memory", "scalars", "gemm_tiles", "gemm_words", "machine")


def address(name: str) -> int:
    """Address of the library kernel ``name``, compiled (or read from disk) at its first use."""
    return _named(name).address()


@functools.lru_cache(maxsize=1024)
def _named(name: str) -> LibraryKernel:
    return LibraryKernel(name)


@dataclass(frozen=True)
class LibraryKernel(Emitted):
    """A kernel written in Python."""

    folder: ClassVar[str] = "library"
    level: ClassVar[int] = 3  # takes what does not change out of the loops of `gather` and `scatter`

    name: str

    @property
    def module(self) -> str:
        for prefix in sorted(MODULES, key=len, reverse=True):
            if self.name.startswith(prefix):
                return MODULES[prefix]
        raise KeyError(f"library kernel: name must begin with one of {sorted(MODULES)}, got {self.name!r}")

    def text(self, native_half: bool, vector_bits: int | None) -> str:
        from fgrad.kernels.cpu.native import kernel_text  # loads Numba

        return kernel_text(importlib.import_module(f"fgrad.kernels.cpu.{self.module}").build(self.name))

    def identity(self, native_half: bool, vector_bits: int | None) -> str:
        return f"{self.name} by {_writer(self.module)}"


@functools.cache
def _writer(module: str) -> str:
    """A digest of the sources of a module's kernels and of what compiles them."""
    numba = importlib.util.find_spec("numba")
    assert numba is not None and numba.origin is not None
    files = [Path(__file__).with_name(f"{name}.py") for name in (module, *SHARED)]
    # importlib.metadata would need 50 ms to tell Numba's version
    sources = [file.read_bytes() for file in (*files, Path(numba.origin).with_name("_version.py"))]
    return f"{hashlib.sha256(b''.join(sources)).hexdigest()} under Python {sys.version_info[:2]}"
