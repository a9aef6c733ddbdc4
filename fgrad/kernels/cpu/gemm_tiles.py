"""Which register tile a matrix product uses: the host's vectors and a small cost model in cycles."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fgrad import config
from fgrad.kernels.cpu.tile_spec import ARows, TileSpec
from fgrad.kernels.layout import dtype_name

#: Rows a tile may have, by its number of vectors (a few, so that few kernels are ever compiled).
ROWS = {4: (1, 4, 6), 3: (1, 4, 8), 2: (1, 4, 6, 8), 1: (1, 4, 8)}
#: Rows at most, by its number of vectors, where they are chosen so that no row is empty (`choose_even`).
EVEN_ROWS = {4: 6, 3: 9, 2: 14, 1: 14}
#: The same of products lane by lane; 9 are the taps of a 3x3 window, whose gradient has a row for each.
LANE_ROWS = {4: (1, 6), 2: (1, 9), 1: (1, 9)}
MOST_ROWS = max(itertools.chain(*ROWS.values(), *LANE_ROWS.values()))
MOST_EVEN_ROWS = max(EVEN_ROWS.values())
MOST_TILE_BYTES = 31 * 64  # all registers but one

L1_BYTES = 1 << 15
CACHE_BYTES = 1 << 25  # of the last-level cache, where nobody tells


class Tile(NamedTuple):
    """MR rows by NV vectors of VL lanes."""

    bits: int
    mr: int
    nv: int
    vl: int
    a_rows: ARows = "apart"
    turned: bool = False
    fold: int = 1
    taps: bool = False
    a_step: int = 0

    @property
    def columns(self) -> int:
        return self.nv * self.vl // self.fold

    @functools.lru_cache(maxsize=256)  # noqa: B019 - of few tiles, each of which most products ask for
    def spec(self, dtype: np.dtype, edge: bool, masked_stores: bool) -> TileSpec:
        return TileSpec(
            dtype_name(dtype), self.mr, self.nv, self.vl, self.a_rows, self.turned, self.fold, edge, self.taps,
            self.a_step, masked_stores,
        )  # fmt: skip

    @functools.lru_cache(maxsize=256)  # noqa: B019 - likewise
    def reading(self, a_rows: ARows, turned: bool) -> Tile:
        return self._replace(a_rows=a_rows, turned=turned)

    @functools.lru_cache(maxsize=256)  # noqa: B019 - likewise
    def kernel(self, dtype: np.dtype, loops: str = "gemm") -> TiledKernel:
        return TiledKernel(dtype_name(dtype), self, loops)

    def specs(self, dtype: np.dtype, columns: int) -> tuple[TileSpec | int, TileSpec | int]:
        """Of full panels, and of a last one that is not; 0 where there is none."""
        panel = self.columns
        whole, edge = columns >= panel, columns % panel > 0
        masked = host().masked_stores
        return self.spec(dtype, False, masked) if whole else 0, self.spec(dtype, True, masked) if edge else 0


@dataclass(frozen=True)
class TiledKernel:
    """A library kernel, ``{loops}_{dtype}``, with this tile: what a step runs."""

    dtype: str
    tile: Tile
    loops: str = "gemm"

    @property
    def label(self) -> str:
        """What it is called in a program's text."""
        tile = self.tile
        label = f"{'lanes' if tile.a_rows == 'lanes' else self.loops}_{self.dtype}_{tile.bits}_{tile.mr}x{tile.nv}"
        return label if tile.fold == 1 else f"{label}_fold{tile.fold}"

    def address(self) -> int:
        from fgrad.kernels.cpu.library import address  # loads LLVM

        return address(f"{self.loops}_{self.dtype}")


class Host(NamedTuple):
    """``masks``: masked loads cost what others do; ``masked_stores``: so do stores, which without mask registers are
    microcode on some processors (a tenth of the speed on Zen 3); ``cache``: bytes of the last-level cache, where stores
    around it are worth while.
    """

    bits: int
    registers: int
    masks: bool
    masked_stores: bool
    cache: int | None

    def lanes(self, itemsize: int) -> int:
        """Elements of a vector."""
        return max(self.bits // (8 * itemsize), 1)

    def keeps(self, nbytes: int) -> bool:
        """Whether a result of a step may be found in the cache by the next one.  The operands pass through the cache
        as well, of both steps, and so does what other cores do: measured, no more than a quarter is found again.
        """
        return self.cache is None or 4 * nbytes <= self.cache


@functools.cache
def _detect() -> Host:
    """Vector width, registers and masked loads of this CPU."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    wide = features.get("avx512f", False) and features.get("avx512vl", False)
    machine = binding.get_process_triple().split("-")[0]
    bits = 512 if wide else 256 if features.get("avx", False) else 128
    registers = 32 if wide or machine in ("aarch64", "arm64") else 16
    return Host(bits, registers, features.get("avx", False), masked_stores=wide, cache=_last_cache(machine))


def _last_cache(machine: str) -> int | None:
    """Bytes as the C library tells them, or else of a common one; other processors than x86 see by themselves that
    whole lines are written.
    """
    if machine not in ("x86_64", "amd64", "i686", "i386"):
        return None
    for level in (4, 3, 2):
        name = f"SC_LEVEL{level}_CACHE_SIZE"
        if name in getattr(os, "sysconf_names", {}) and (nbytes := os.sysconf(name)) > 0:
            return nbytes
    return CACHE_BYTES


def host() -> Host:
    """The CPU's vectors, with the width that `fgrad.config.cpu_vector_bits` may force."""
    found = _detect()
    bits = config.cpu_vector_bits()
    return found if bits is None else found._replace(bits=bits)


def choose(
    problems: Sequence[tuple[int, int]],
    columns: int,
    reduction: int,
    itemsize: int,
    a_rows: ARows = "apart",
    whole: bool = False,
    folds: Sequence[int] = (1,),
) -> tuple[Tile, float]:
    """The tile with the least estimated time for ``problems``, pairs of (rows, how many there are), of ``columns``, and
    that time in cycles.  ``whole``: no tile reaches beyond the last row; ``folds``: what the tile may fold.

    A tile takes, for every step of the reduction, the most of: MR*NV/2 cycles (two FMA ports), MR+NV (measured: one
    load a cycle beside the FMAs), 3 (latency), and where B does not stay in the L1 cache a row of B and a line of A at
    32 bytes a cycle; and 30 + 10*MR cycles around it, and what folds.  Lane by lane the loads are MR*NV + NV, two a
    cycle, and each row costs a look at the table of taps.
    """
    columns, reduction = max(columns, 1), max(reduction, 1)
    tiles_of: dict[int, int] = {}
    best, best_cost = None, math.inf
    for x in _candidates(host(), itemsize, a_rows, tuple(folds)):
        if x.least > columns or (whole and any([m % x.tile.mr for m, _ in problems])):
            continue
        if x.tile.mr not in tiles_of:
            tiles_of[x.tile.mr] = sum([-(-m // x.tile.mr) * count for m, count in problems])
        tiles = tiles_of[x.tile.mr] * -(-columns // x.columns)
        step = x.far if reduction // x.tile.fold * x.row_bytes > L1_BYTES else x.near
        cost = tiles * (step * reduction / x.tile.fold + 30 + x.rows)
        if cost < best_cost:
            best, best_cost = x.tile, cost
    assert best is not None
    return best, best_cost


class _Candidate(NamedTuple):
    """A tile, its columns and the least that fill all its vectors, bytes of a row of B, and cycles: of a step of the
    reduction where B is near and where it is far, and of the rows around all steps.
    """

    tile: Tile
    columns: int
    least: int
    row_bytes: int
    near: float
    far: float
    rows: int


@functools.lru_cache(maxsize=64)
def _candidates(machine: Host, itemsize: int, a_rows: ARows, folds: tuple[int, ...]) -> list[_Candidate]:
    found = []
    vl, by_lane = machine.lanes(itemsize), a_rows == "lanes"
    for nv, choices in (LANE_ROWS if by_lane else ROWS).items():
        for mr, fold in itertools.product(choices, folds):
            if mr * nv + nv + 1 > machine.registers - 1:
                continue
            if fold > vl or (fold > 1 and nv == 3):  # folding halves the vectors
                continue
            tile = Tile(machine.bits, mr, nv, vl, a_rows, fold=fold)
            least = (nv - 1) * vl // fold + 1 if nv > 1 else 0  # fewer, and a vector has nothing but empty columns
            row_bytes = nv * vl * itemsize
            near = far = mr + max(mr * nv + nv, 3) / 2
            if not by_lane:
                near, far = (_step(mr, nv, _from_l2(row_bytes, reduction)) for reduction in (0, math.inf))
            rows = mr * (10 + 2 * (fold - 1) * nv // fold)
            found.append(_Candidate(tile, tile.columns, least, row_bytes, near, far, rows))
    return found


def choose_even(rows: int, columns: int, reduction: int, itemsize: int) -> tuple[Tile, float]:
    """As `choose`, of tiles with "adjacent" rows in panels of which none is empty: as few as there can be, the first
    ``-rows % MR`` of MR - 1 rows and the others of MR.
    """
    machine = host()
    vl = machine.lanes(itemsize)
    best, best_cost = None, math.inf
    for nv, most in EVEN_ROWS.items():
        most = min(most, (machine.registers - 2) // nv - 1)
        if most < 1 or (nv > 1 and (nv - 1) * vl >= columns):
            continue
        tiles = -(-rows // most)
        mr = -(-rows // tiles)
        from_l2 = _from_l2(nv * vl * itemsize, reduction)
        cost = sum(
            count * (_step(height, nv, from_l2) * reduction + 30 + 10 * height)
            for count, height in ((rows - tiles * (mr - 1), mr), (tiles * mr - rows, mr - 1))
        ) * -(-columns // (nv * vl))  # fmt: skip
        if cost < best_cost:
            best, best_cost = Tile(machine.bits, mr, nv, vl, "adjacent", taps=True), cost
    assert best is not None
    return best, best_cost


def _from_l2(row_bytes: int, reduction: float) -> float:
    """Cycles for a row of B and a line of A at 32 bytes a cycle, where B does not stay in the L1 cache."""
    return (row_bytes + 64) / 32 if reduction * row_bytes > L1_BYTES else 0


def _step(mr: int, nv: int, from_l2: float) -> float:
    """Cycles of a step of the reduction, see `choose`."""
    return max(mr * nv / 2, mr + nv, 3, from_l2) + 0.3
