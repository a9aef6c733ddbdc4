"""Steps that run block of rows by block of rows: what one of them writes, the next one finds in the cache.

Each step is planned for one block.  From block to block only addresses change: those of operands and results by so
many bytes, and from worker to worker those of temporaries, which lie in the worker's own memory.  A tile is a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fgrad.kernels.cpu.accumulators import INDEX
from fgrad.kernels.cpu.body import Spec
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value
from fgrad.kernels.plan import KernelPlan, Ptr, Step, Word


class Part(NamedTuple):
    """A step of block 0, and how many bytes each of its words grows by from block to block.  Its pointers of kind
    ``scratch`` are to its worker's own memory.
    """

    step: Step
    moves: tuple[int, ...]


def by_blocks(whole: Sequence[Part], last: Sequence[Part], count: int, room: int, grain: int, note: str) -> KernelPlan:
    """One step of ``count`` blocks that does all of the parts ``whole`` for each, those of ``last`` for the last one.
    They use ``room`` bytes of a worker's memory; behind those it writes the words of the block that it is at.

    The step's words: the address of the workers' memory, the bytes of each worker's, where a block's words are in it,
    the number of the last block; then for whole blocks and for the last one the numbers of their parts and words, and
    where their list begins, in words from the first of all.  A list has for each part its kernel, its tiles and the
    number of its first word; then all words, what each grows by, and 1 for each that the worker's place is added to.
    """
    head: list[Word] = []
    lists: list[Word] = []
    most = 0
    for parts in (whole,) if last is whole else (whole, last):
        words: list[Word] = [word for part in parts for word in part.step.args]
        head += (len(parts), len(words), _HEAD + len(lists))
        first = 0
        for step, moves in parts:
            assert not isinstance(step.kernel, str)
            lists += (step.kernel, step.extent, first)
            first += len(moves)
        lists += words
        lists += [move for part in parts for move in part.moves]
        lists += [1 if type(word) is Ptr and word.kind == "scratch" else 0 for word in words]
        most = max(most, len(words))
    if last is whole:
        head *= 2
    memory = -(-(room + 8 * most) // _APART) * _APART
    step = Step(RowsSpec(), (Ptr("scratch", 0), memory, room, count - 1, *head, *lists), count, grain, note)
    return KernelPlan((step,), scratch=memory)


_HEAD = 4 + 2 * 3  # words in front of the lists
_APART = 128  # two cache lines: one is fetched with its neighbour


@dataclass(frozen=True)
class RowsSpec(Spec):
    """For each block, writes the words of its parts into the worker's memory and calls their kernels in order."""

    def write(self, s: Scalar) -> None:
        code = s.code
        memory = code.pointer_word()
        size, room, last = code.words(3)
        whole, rest = code.words(3), code.words(3)
        mine = code.mul("%worker", size)
        here = code.element("i8", memory, code.add(mine, room))

        def load(base: str, index: str, group: bool = False) -> str:
            return s.load(INDEX, code.element("i64", base, index), group).ref

        with code.loop("%begin", "%end") as block:
            is_last = code.op(f"icmp eq i64 {block}, {last}")
            parts, n, start = (code.op(f"select i1 {is_last}, i64 {b}, i64 {a}") for a, b in zip(whole, rest))
            parts_at = code.element("i64", "%args", start)
            words_at = code.element("i64", parts_at, code.mul(parts, "3"))
            moves_at = code.element("i64", words_at, n)
            own_at = code.element("i64", moves_at, n)
            with code.loop("0", n, kind="lean") as k:
                word, move, own = (load(at, k, group=True) for at in (words_at, moves_at, own_at))
                moved = code.add(word, code.add(code.mul(block, move), code.mul(own, mine)))
                s.store(Value(INDEX, moved), code.element("i64", here, k), group=True)
            with code.loop("0", parts) as k:
                first = code.mul(k, "3")
                kernel, tiles, word = (load(parts_at, code.add(first, str(i))) for i in range(3))
                pointer = code.op(f"inttoptr i64 {kernel} to ptr")
                args = code.element("i64", here, word)
                code.line(f"call void {pointer}(ptr {args}, i64 0, i64 {tiles}, i64 %worker)")
