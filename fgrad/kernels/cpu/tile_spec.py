"""What a register tile is compiled and looked up by."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from fgrad.kernels.cpu.body import Emitted

ARows = Literal["apart", "together", "adjacent", "lanes"]


@dataclass(frozen=True)
class TileSpec(Emitted):
    """The function of a tile (`micro`); ``edge``: only the first columns of the last panel exist.

    ``a_rows``: rows of A lie "apart", each where a table says; or "together", all as far from where they begin; or are
    "adjacent", one element from each other; or they have "lanes", one for each column, where the others have a number
    for all.  ``turned``: a column of the result is stored as a row, where a table says; its elements are adjacent, and
    nothing is accumulated.  ``fold``: elements of the run that are multiplied at once, adjacent in A and, as `micro`
    says, in B.  ``taps``: results of several taps follow each other, of rows that are "adjacent", and before each run
    memory is fetched that is read later.  ``a_step``: elements from one step of the run to the next in A, where steps
    are adjacent in B: constants of the code; or 0, where the words tell both.  ``masked_stores``: how an edge is
    stored, rather than by parts of a vector.
    """

    folder: ClassVar[str] = "tiles"

    dtype: str
    mr: int
    nv: int
    vl: int
    a_rows: ARows
    turned: bool
    fold: int
    edge: bool
    taps: bool = False
    a_step: int = 0
    masked_stores: bool = True

    def text(self, native_half: bool, vector_bits: int | None) -> str:
        from fgrad.kernels.cpu.micro import tile_text  # loads LLVM

        return tile_text(self)

    def identity(self, native_half: bool, vector_bits: int | None) -> str:
        return f"{self} by {_writer()}"


@functools.cache
def _writer() -> str:
    """A digest of the code that writes tiles, and of the order of their words."""
    files = (Path(__file__).with_name(name) for name in ("micro.py", "irbuild.py", "gemm_words.py"))
    return hashlib.sha256(b"".join([file.read_bytes() for file in files])).hexdigest()
