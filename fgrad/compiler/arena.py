"""Memory for temporaries: offsets by lifetime."""

from __future__ import annotations

import bisect

from fgrad.kernels.cpu.results import ALIGNMENT


class Arena:
    """First fit by lifetime: [start, end] of the schedule -> byte offsets that never overlap while alive."""

    def __init__(self) -> None:
        self.blocks: list[tuple[int, int, float, float]] = []  # offset, size, start, end; sorted
        self.size = 0

    def place(self, nbytes: int, start: float, end: float) -> int:
        nbytes = -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
        offset = 0
        for o, n, s, e in self.blocks:
            if s <= end and start <= e:
                if o - offset >= nbytes:
                    break
                if o + n > offset:
                    offset = o + n
        bisect.insort(self.blocks, (offset, nbytes, start, end))
        self.size = max(self.size, offset + nbytes)
        return offset
