"""Which rows of a product share a reduction, and where they lie: its records, joined for the tables of `gemm`.

Nothing here tells the number of images, so records of one image serve all batch sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

#: A's offset where it reads zeros.
NOWHERE = np.iinfo(np.int64).min


class Record(NamedTuple):
    """Pixels whose rows of the result share a reduction; all numbers count elements.

    ``row_in[pixel]`` and ``row_out[pixel]`` are their offsets in A and out.  ``a_taps``: A's offset at tap s, of shape
    [S] or, where it depends on the pixel, [S, pixels] with `NOWHERE` for a zero.  ``taps``: the s of B they belong to;
    ``c_first`` and ``c_count``: the part of B's run that is used (every ``run_step``-th; ``c_last``: in the last g, at
    most ``c_count``).
    """

    row_in: np.ndarray
    row_out: np.ndarray
    a_taps: np.ndarray
    taps: np.ndarray
    c_count: int
    c_last: int
    c_first: int = 0


class Head(NamedTuple):
    """Words of a record (`gemm_words`): sizes, and where its part of each table begins."""

    pixels: int
    first_row: int
    first_tap: int
    tap_step: int
    by_row: bool
    first_b_tap: int
    c_first: int
    taps: int
    c_count: int
    c_last: int


class Records(NamedTuple):
    """Several records.  ``sizes``: numbers of pixels, and of the records with so many; ``rows``: pairs of (row_in,
    row_out); in front of the taps of A and B there is one word.

    ``every_tap``: each meets an input for all pixels of its record.  ``reduction``, ``most_taps``, ``longest``: steps,
    taps and run of the record with the most; ``divisor``: of all runs and of where they begin.
    """

    heads: list[Head]
    sizes: list[tuple[int, int]]
    rows: np.ndarray
    a_taps: np.ndarray
    taps: np.ndarray
    every_tap: bool
    reduction: int
    most_taps: int
    longest: int
    divisor: int


def joined(records: Sequence[Record]) -> Records:
    heads: list[Head] = []
    sizes: dict[int, int] = {}
    first_row, first_tap, first_b_tap = 0, 1, 1
    every_tap, reduction, most_taps, longest, divisor = True, 0, 0, 0, 0
    for row_in, _, a_taps, taps, c_count, c_last, c_first in records:
        pixels, n_taps, by_row = len(row_in), len(taps), a_taps.ndim == 2
        step = pixels if by_row else 1
        heads.append(Head(pixels, first_row, first_tap, step, by_row, first_b_tap, c_first, n_taps, c_count, c_last))
        first_row, first_tap, first_b_tap = first_row + pixels, first_tap + a_taps.size, first_b_tap + n_taps
        sizes[pixels] = sizes.get(pixels, 0) + 1
        every_tap = every_tap and not by_row
        reduction, most_taps = max(reduction, n_taps * c_count), max(most_taps, n_taps)
        longest, divisor = max(longest, c_count), math.gcd(divisor, c_first, c_count, c_last)
    rows = np.empty((first_row, 2), np.int64)
    row_in, row_out, a_taps, taps = records[0][:4]
    if len(records) > 1:
        row_in, row_out, a_taps, taps = [np.concatenate(parts, axis=None) for parts in zip(*[r[:4] for r in records])]
    rows[:, 0], rows[:, 1] = row_in, row_out
    return Records(
        heads, list(sizes.items()), rows, a_taps.ravel(), taps, every_tap, reduction, most_taps, longest, divisor
    )
