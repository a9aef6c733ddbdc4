"""Memory for temporaries: offsets by lifetime."""

from __future__ import annotations

from fgrad.kernels.cpu.results import ALIGNMENT


class Arena:
    """First fit by lifetime: [start, end] of the schedule -> byte offsets that never overlap while alive."""

    def __init__(self) -> None:
        self.blocks: list[tuple[int, int, float, float]] = []  # offset, size, start, end
        self.size = 0

    def place(self, nbytes: int, start: float, end: float) -> int:
        nbytes = -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
        taken = sorted([(o, n) for o, n, s, e in self.blocks if s <= end and start <= e])
        offset = 0
        for o, n in taken:
            if o - offset >= nbytes:
                break
            offset = max(offset, o + n)
        self.blocks.append((offset, nbytes, start, end))
        self.size = max(self.size, offset + nbytes)
        return offset
