"""Chains of groups over the same rows become one launch, which runs block of rows by block of rows.

A reduction's result is there when the reduction is done, so a softmax is three groups, and its gradient two more: each
goes over all of memory.  But if every reduction stays within a row, so does all that follows from it, and a block of
rows can pass through the whole chain while it is in the cache.  What only the chain reads is never in memory at all.

The rows are those of leading axes that all groups keep, as long as every operand walks through them as one axis: a
group over [2, 3, 5] has 2 or 6 rows, one that reduces over axis 1 has 2.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fgrad.compiler.arena import Arena
from fgrad.compiler.schedule import Buffer, Group, Launch, Rows, View, distinct_bytes
from fgrad.kernels.builder import advance
from fgrad.kernels.layout import Layout
from fgrad.kernels.plan import KernelPlan, Ptr, Step

if TYPE_CHECKING:
    from fgrad.kernels.cpu.rows import Part

BLOCK = 1 << 16  # bytes that a block of rows reads and writes: about what an L1 cache holds
WIDEST = 1 << 19  # bytes of a row: under half an L2 cache
ENOUGH_BLOCKS = 16  # for every thread to have several
GRAIN = 1 << 16  # operations that are worth a thread


def by_rows(launches: Sequence[Launch]) -> list[Launch]:
    """The launches; of groups over the same rows that wait for one another, with a reduction among them, one `Rows`."""
    if not any([type(x) is Group and x.folds for x in launches]):
        return list(launches)
    maker = {b: i for i, launch in enumerate(launches) for b in launch.writes}
    readers: dict[Buffer, list[int]] = {b: [] for b in maker}
    for i, launch in enumerate(launches):
        for b in readers.keys() & launch.reads:
            readers[b].append(i)
    taken: set[int] = set()
    out: list[Launch] = []
    for i, launch in enumerate(launches):
        if i in taken:
            continue
        if type(launch) is Group:
            groups, count = _chain(i, launches, readers, maker, taken)
            if len(groups) > 1:
                made = {b for group in groups.values() for b in group.outs}
                inner = {b for b in made if b.kind == "tmp" and groups.keys() >= set(readers[b])}
                launch = Rows(list(groups.values()), count, frozenset(inner))
                taken.update(groups)
        out.append(launch)
    return out


def _chain(
    first: int, launches: Sequence[Launch], readers: dict[Buffer, list[int]], maker: dict[Buffer, int], taken: set[int]
) -> tuple[dict[int, Group], int]:
    """The groups that run with ``launches[first]``, by their numbers, and in how many rows.

    They need nothing but each other and what launches before the first and those ``taken`` by other chains have made,
    so they may stand where the first one does.
    """
    start = launches[first]
    assert isinstance(start, Group)
    groups = {first: start}
    made = set(start.outs)
    left = [i for b in made for i in readers[b]]
    if not any([type(launches[i]) is Group for i in left]):
        return groups, 1
    counts = [n for n in _counts(start) if _is_cut(start, n)]
    heapq.heapify(left)
    while left and counts:
        i = heapq.heappop(left)
        later = launches[i]
        if i in groups or i in taken or not isinstance(later, Group):
            continue
        reads = [b for b in later.reads if b not in made]
        if any([maker.get(b, -1) > first and maker[b] not in taken for b in reads]):
            continue
        if any([v.fence > start.position for v in later.loads]):
            continue
        both = [n for n in _counts(later) if n in counts and _is_cut(later, n) and _stays_within(later, made, n)]
        both = [n for n in both if _fits([*groups.values(), later], n)]
        if both:
            groups[i] = later
            counts = both
            for b in later.outs:
                made.add(b)
                for reader in readers[b]:
                    heapq.heappush(left, reader)
    if not any([group.folds for group in groups.values()]):  # element-wise groups alone are one kernel where that pays
        return {first: start}, 1
    return groups, max(counts, default=1)


def _counts(group: Group) -> list[int]:
    """The numbers of rows that a group may be cut into."""
    whole = [node[1] for node in group.nodes if node[0] == "iota"]
    free = min([*whole, *group.folds[0].axes] if group.folds else whole, default=len(group.shape))
    found = dict.fromkeys(itertools.accumulate(group.shape[:free], lambda a, b: a * b))
    return [n for n in found if n > 1]


def _is_cut(group: Group, count: int) -> bool:
    """Whether rows of what it loads are apart."""
    return all([_is_apart(v.layout, count) for v in group.loads])


@functools.lru_cache(maxsize=256)
def rows_of(layout: Layout, count: int) -> Layout | None:
    """The layout with the leading axes that make ``count`` rows as one, or None where that is no view."""
    return layout.reshape((count, *layout.shape[_leading(layout.shape, count) :]))


@functools.lru_cache(maxsize=1024)
def _leading(shape: tuple[int, ...], count: int) -> int:
    """How many axes make ``count`` rows."""
    return next(k for k, n in enumerate(itertools.accumulate(shape, lambda a, b: a * b), 1) if n == count)


@functools.lru_cache(maxsize=1024)
def _is_apart(layout: Layout, count: int) -> bool:
    """Whether one row's elements lie together, or are the same for all rows: else rows would share cache lines."""
    rows = rows_of(layout, count)
    if rows is None:
        return False
    low, high = _span(rows)
    return rows.strides[0] == 0 or abs(rows.strides[0]) > high - low


def _span(rows: Layout) -> tuple[int, int]:
    """The first and last element of row 0."""
    low = high = rows.offset
    for n, s in zip(rows.shape[1:], rows.strides[1:]):
        reach = s * (n - 1)
        if reach < 0:
            low += reach
        else:
            high += reach
    return low, high


def _stays_within(group: Group, made: set[Buffer], count: int) -> bool:
    """Whether each row reads only the same row of what the chain has written."""
    for view in group.loads:
        if view.buffer in made:
            rows, size = rows_of(view.layout, count), view.buffer.layout.size // count
            assert rows is not None
            low, high = _span(rows)
            if rows.strides[0] != size or low < 0 or high >= size:
                return False
    return True


def _row_bytes(groups: Iterable[Group], count: int) -> int:
    """Bytes of memory that a row of each passes through: what all rows read counts, too."""
    streams: dict[object, int] = {}
    for group in groups:
        for b in group.outs:
            streams[b] = b.nbytes // count
        for v in group.loads:
            if v.buffer not in streams:
                streams[id(v.buffer), v.layout] = _bytes_for_row(v.layout, count)
    return sum(streams.values())


@functools.lru_cache(maxsize=1024)
def _bytes_for_row(layout: Layout, count: int) -> int:
    rows = rows_of(layout, count)
    assert rows is not None
    return distinct_bytes(rows) // (count if rows.strides[0] else 1)


def _fits(groups: Sequence[Group], count: int) -> bool:
    nbytes = _row_bytes(groups, count)
    return nbytes <= WIDEST and (count >= ENOUGH_BLOCKS or nbytes * count <= BLOCK)


# --- planning --------------------------------------------------------------------------------------------------------
def plan_rows(launch: Rows) -> tuple[KernelPlan, list[View], list[Buffer]]:
    """The plan of the whole launch, over its operands and results."""
    from fgrad.kernels.cpu.body import weight_of
    from fgrad.kernels.cpu.rows import by_blocks

    count = launch.count
    work = sum([math.prod(g.shape) * weight_of(g.nodes) for g in launch.groups])
    size = max(1, min(count, BLOCK // max(_row_bytes(launch.groups, count), 1)))
    if work > GRAIN:
        size = min(size, -(-count // ENOUGH_BLOCKS))
    size = next((n for n in range(size, size // 2, -1) if count % n == 0), size)  # blocks that are alike are one plan
    blocks = -(-count // size)
    whole = _Block(launch, size, size)
    parts = whole.parts()
    rest = count - (blocks - 1) * size
    last = parts if rest == size else _Block(launch, size, rest).parts()
    note = f"{len(launch.groups)} steps, {size} row{'s' * (size != 1)} at a time"
    plan = by_blocks(parts, last, blocks, whole.arena.size, max(1, GRAIN * blocks // max(work, 1)), note)
    return plan, launch.loads, launch.outs


class _Block:
    """The steps of block 0 of blocks of ``size`` rows, for the first ``rows`` of it."""

    def __init__(self, launch: Rows, size: int, rows: int) -> None:
        self.launch, self.size, self.rows = launch, size, rows
        self.arena = Arena()
        self.outside = {(v.buffer, v.layout): Ptr("in", k) for k, v in enumerate(launch.loads)}
        self.made = {b: Ptr("out", j) for j, b in enumerate(launch.outs)}
        born = {b: t for t, group in enumerate(launch.groups) for b in group.outs if b in launch.local}
        last = born | {v.buffer: t for t, group in enumerate(launch.groups) for v in group.loads if v.buffer in born}
        for b in sorted(born, key=lambda b: -b.nbytes):
            offset = self.arena.place(b.nbytes // launch.count * size, born[b], last[b])
            self.made[b] = Ptr("scratch", 0, offset)

    def parts(self) -> list[Part]:
        return [part for time, group in enumerate(self.launch.groups) for part in self.group(group, time)]

    def cut(self, layout: Layout) -> Layout:
        rows = rows_of(layout, self.launch.count)
        assert rows is not None
        return Layout(rows.dtype, (self.rows, *rows.shape[1:]), rows.strides, rows.offset)

    def group(self, group: Group, time: int) -> list[Part]:
        from fgrad.kernels.cpu.emit import Reduce, fold_plan, map_plan
        from fgrad.kernels.cpu.rows import Part

        joined = _leading(group.shape, self.launch.count) - 1  # axes that are one with the first now
        shape = (self.rows, *group.shape[joined + 1 :])
        nodes = [("iota", node[1] - joined, node[2]) if node[0] == "iota" else node for node in group.nodes]
        ins = [self.cut(v.layout) for v in group.loads]
        written = group.outs
        outs = [self.cut(b.layout) for b in written]
        results = [(layout, node) for layout, (node, _) in zip(outs[len(group.folds) :], group.results)]
        if group.folds:
            folds = [Reduce(fold.node, fold.combine, layout) for fold, layout in zip(group.folds, outs)]
            axes = tuple(a - joined for a in group.folds[0].axes)
            plan = fold_plan(shape, ins, nodes, folds, axes, results, enough_tiles=1)
        else:
            plan = map_plan(shape, ins, nodes, results)

        sources = [self.made.get(v.buffer) or self.outside[v.buffer, v.layout] for v in group.loads]
        temps = [Ptr("scratch", 0, self.arena.place(n, time, time)) for n in plan.temps]
        place = {"in": sources, "out": [self.made[b] for b in written], "tmp": temps}
        layouts = {"in": ins, "out": outs}
        parts = []
        for step in plan.steps:
            args, moves = list(step.args), [0] * len(step.args)
            for k, arg in enumerate(args):
                if type(arg) is Ptr:
                    kind, index, offset = arg
                    base = place[kind][index]
                    args[k] = advance(base, offset) if offset else base
                    if base.kind != "scratch":
                        layout = layouts[kind][index]
                        moves[k] = layout.strides[0] * layout.dtype.itemsize * self.size
            parts.append(Part(Step(step.kernel, tuple(args), step.extent, step.grain, step.note), tuple(moves)))
        return parts
