"""Kernels for the CPU: planners (plain Python), library kernels (Numba, LLVM IR) and the driver that runs them.

Importing this package loads neither Numba nor llvmlite; `library`, `driver`, `memory` and the kernel modules do.
"""
