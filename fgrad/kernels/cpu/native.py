"""From a kernel written in Python to LLVM IR that needs nothing of Numba: `library` keeps its object code on disk.

This is the only file that runs Numba's compiler for fgrad's own kernels; a process that finds them all on disk does not
load Numba.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import llvmlite.binding as llvm
from numba import njit

from fgrad.kernels.cpu.irtext import KERNEL
from fgrad.kernels.cpu.memory import KERNEL_SIGNATURE

#: NaN and infinities keep their meaning; contraction to FMA and reassociation are allowed.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


def kernel_text(function: Callable) -> str:
    """LLVM IR of ``function(args, begin, end, worker)`` as a C function named `KERNEL`.

    Numba's function is ``int f(result *, exception **, args, begin, end, worker)``.  Kernels raise nothing (what Numba
    adds, like the ValueError of a range whose step is 0, would stop the kernel), so status and exception are dropped,
    and with them go all references to Python.
    """
    dispatcher = njit(
        KERNEL_SIGNATURE, error_model="numpy", fastmath=FASTMATH, no_cpython_wrapper=True, no_cfunc_wrapper=True
    )(function)
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
