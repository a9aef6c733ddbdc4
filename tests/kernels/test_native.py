"""Numba writes kernels and compiles the user's functions, in turn and beside each other."""

from __future__ import annotations

import threading

import llvmlite.binding as llvm
import numba
import numpy as np

from fgrad.kernels.cpu import gemm, native


def users_function():
    """Calls `min` of integers, as the kernel below does: Numba keeps what it made of it."""

    @numba.njit
    def total(x):
        s = 0
        for i in range(len(x)):
            s += min(x[i], 3)
        return s

    return total


def test_the_text_is_whole_and_not_optimised():
    module = llvm.parse_assembly(native.kernel_text(gemm.build("gemm_sum_float32")))
    declared = [f.name for f in module.functions if f.is_declaration]
    assert all(name.startswith("llvm.") for name in declared)
    (kernel,) = [f for f in module.functions if not f.is_declaration and f.linkage.name == "external"]
    assert kernel.name == "fgrad_kernel"
    assert any("call" in str(i) for block in kernel.blocks for i in block.instructions)  # of Numba's function


def test_users_functions_are_compiled_as_ever():
    native.kernel_text(gemm.build("gemm_sum_float64"))
    assert users_function()(np.arange(6)) == 12


def test_users_functions_of_another_thread():
    """It compiles before the kernel is written or after, not meanwhile."""
    results = []
    threads = [threading.Thread(target=lambda: results.append(users_function()(np.arange(6)))) for _ in range(4)]
    for thread in threads:
        thread.start()
        native.kernel_text(gemm.build("gemm_sum_int32"))
    for thread in threads:
        thread.join()
    assert results == [12] * 4
