"""Which register tile a matrix product uses: the host's vectors and a small cost model in cycles."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fgrad import config

#: Rows a tile may have, by its number of vectors (a few, so that few kernels are ever compiled).
ROWS = {4: (1, 4, 6), 3: (1, 4, 8), 2: (1, 4, 6, 8), 1: (1, 4, 8)}


L1_BYTES = 1 << 15


class Tile(NamedTuple):
    """MR rows by NV vectors of VL lanes."""

    bits: int
    mr: int
    nv: int
    vl: int

    @property
    def lanes(self) -> int:
        return self.nv * self.vl

    def kernel(self, dtype: np.dtype) -> str:
        return f"gemm_{dtype}_{self.bits}_{self.mr}x{self.nv}"


class Host(NamedTuple):
    bits: int
    registers: int
    masks: bool


@functools.cache
def _detect() -> Host:
    """Vector width, registers and masked loads of this CPU."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    wide = features.get("avx512f", False) and features.get("avx512vl", False)
    machine = binding.get_process_triple().split("-")[0]
    bits = 512 if wide else 256 if features.get("avx", False) else 128
    registers = 32 if wide or machine in ("aarch64", "arm64") else 16
    return Host(bits, registers, masks=features.get("avx", False))


def host() -> Host:
    """The CPU's vectors, with the width that `fgrad.config.vector_bits` may force."""
    found = _detect()
    return found._replace(bits=config.vector_bits() or found.bits)


def choose(rows: Sequence[int], lanes: int, reduction: int, itemsize: int) -> Tile:
    """The tile with the least estimated time for problems of ``rows[r]`` rows, each ``lanes`` wide.

    A tile takes, for every step of the reduction, the most of: MR*NV/2 cycles (two FMA ports), MR+NV (measured: one
    load a cycle beside the FMAs), 3 (latency), and where B does not stay in the L1 cache a row of B and a line of A at
    32 bytes a cycle; and 30 + 10*MR cycles around it.
    """
    machine = host()
    vl = max(machine.bits // (8 * itemsize), 1)
    vectors = max(math.ceil(lanes / vl), 1)
    best, best_cost = None, math.inf
    for nv, choices in ROWS.items():
        for mr in choices:
            if mr * nv + nv + 1 > machine.registers - 1:
                continue
            tiles = sum(-(-m // mr) for m in rows) * -(-vectors // nv)
            row_bytes = nv * vl * itemsize
            from_l2 = (row_bytes + 64) / 32 if reduction * row_bytes > L1_BYTES else 0
            step = max(mr * nv / 2, mr + nv, 3, from_l2) + 0.3
            cost = tiles * (step * max(reduction, 1) + 30 + 10 * mr)
            if cost < best_cost:
                best, best_cost = Tile(machine.bits, mr, nv, vl), cost
    assert best is not None
    return best
