"""From a kernel written in Python to LLVM IR that needs nothing of Numba: `library` keeps its object code on disk.

This is the only file that runs Numba's compiler for fgrad's own kernels; a process that finds them all on disk does not
load Numba.

Numba finds types and writes LLVM IR.  It would also optimise and compile each function that a kernel calls, then link
it into the caller and optimise that: half of the time it takes.  Here the IR is linked as it was written, and `jit`
optimises the whole once.  So Python cannot call the functions that a kernel calls; other Numba functions can.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import llvmlite.binding as llvm
from numba import njit
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from fgrad.kernels.cpu.irtext import KERNEL
from fgrad.kernels.cpu.memory import KERNEL_SIGNATURE

#: NaN and infinities keep their meaning; contraction to FMA and reassociation are allowed.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


class _Written(JITCodeLibrary):
    """LLVM IR of a function and of those it calls, as it was written."""

    def _optimize_functions(self, ll_module: llvm.ModuleRef) -> None:
        """Before a module is linked."""

    def _optimize_final_module(self) -> None:
        """After all are linked."""

    def _finalize_final_module(self) -> None:
        """No machine code."""
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0  # nobody calls it


class _Writer(JITCPUCodegen):
    _library_class = _Written

    def set_env(self, env_name: str, env: object) -> None:
        """What Python objects a function refers to, of which kernels have none."""


@functools.cache
def _writer() -> _Writer:
    return _Writer("fgrad")


@contextmanager
def _writing() -> Iterator[None]:
    """Numba only writes LLVM IR meanwhile, and other threads wait to compile theirs."""
    context = cpu_target.target_context
    with global_compiler_lock:
        usual, context._internal_codegen = context._internal_codegen, _writer()
        try:
            yield
        finally:
            context._internal_codegen = usual


def kernel_text(function: Callable) -> str:
    """LLVM IR of ``function(args, begin, end, worker)`` as a C function named `KERNEL`.

    Numba's function is ``int f(result *, exception **, args, begin, end, worker)``.  Kernels raise nothing (what Numba
    adds, like the ValueError of a range whose step is 0, would stop the kernel), so status and exception are dropped,
    and with them go all references to Python.
    """
    kernel = njit(
        KERNEL_SIGNATURE, error_model="numpy", fastmath=FASTMATH, no_cpython_wrapper=True, no_cfunc_wrapper=True
    )
    with _writing():
        dispatcher = kernel(function)
    (compiled,) = dispatcher.overloads.values()
    name = compiled.fndesc.mangled_name
    module = llvm.parse_assembly(_without_target(compiled.library.get_llvm_str()))
    module.link_in(llvm.parse_assembly(_ENTRY.format(kernel=KERNEL, name=name)))
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != KERNEL:
            value.linkage = "internal"
    return _without_target(str(module))


_ENTRY = """\
declare i32 @"{name}"(ptr, ptr, i64, i64, i64, i64)
define void @{kernel}(i64 %args, i64 %begin, i64 %end, i64 %worker) {{
  %result = alloca ptr
  %exception = alloca ptr
  %status = call i32 @"{name}"(ptr %result, ptr %exception, i64 %args, i64 %begin, i64 %end, i64 %worker)
  ret void
}}
"""


def _without_target(text: str) -> str:
    """The engine adds its own."""
    return re.sub(r"^target .*\n", "", text, flags=re.MULTILINE)
