"""What is cheaper to compute again than to store and read: after fusion, before anything has memory.

A group stores a value because a group behind it reads it.  If the value follows by cheap arithmetic from arrays that
lie in memory anyway, the reader may take it from those: x - mean of a batch costs one read, as x does, and nothing is
written; a mask of relu costs nothing where its operand is read anyway.  Reductions of one array over the same axes, of
which one does not wait for the other, become one kernel here too.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from fgrad.compiler.schedule import MAX_STREAMS, Buffer, Group, Launch, View, distinct_bytes, reads, written
from fgrad.kernels.layout import Layout
from fgrad.primitives import arithmetic, bitwise, compare
from fgrad.primitives.convert import convert_p

MOST_NODES = 12  # scalar rules computed again for one value
SMALL = 16  # an operand so many times smaller than the loop is read from a cache

_CHEAP: frozenset[Callable] = frozenset(
    p.cpu.rule  # type: ignore[union-attr]
    for p in (
        arithmetic.neg_p, arithmetic.add_p, arithmetic.sub_p, arithmetic.mul_p, arithmetic.max_p, arithmetic.min_p,
        arithmetic.abs_p, arithmetic.square_p, bitwise.not_p, bitwise.and_p, bitwise.or_p, compare.eq_p, compare.ne_p,
        compare.lt_p, compare.le_p, compare.gt_p, compare.ge_p, compare.select_n_p, convert_p,
    )
)  # fmt: skip

_Key = tuple[int, Layout]  # a view of a buffer


class _Stored(NamedTuple):
    """A group's value in memory that only other groups read, and the large operands that it follows from."""

    maker: Group
    node: int
    buffer: Buffer
    readers: list[Group]
    leaves: dict[_Key, View]


def economised(launches: Sequence[Launch]) -> list[Launch]:
    """The launches with less traffic: values computed again where that is cheaper, and reductions side by side."""
    kept = list(launches)
    while _replaced_one(kept):
        kept = [x for x in kept if not isinstance(x, Group) or x.results or x.folds]
    return _side_by_side(kept)


def _replaced_one(launches: Sequence[Launch]) -> bool:
    """Lets the readers of the values that follow from some operands take them from those, if that pays; once."""
    readers: dict[Buffer, list[int]] = defaultdict(list)
    for i, launch in enumerate(launches):
        for b in dict.fromkeys(reads(launch)):
            readers[b].append(i)
    alike: dict[frozenset[_Key], list[_Stored]] = defaultdict(list)
    for launch in launches:
        if isinstance(launch, Group):
            for stored in _candidates(launch, launches, readers):
                alike[frozenset(stored.leaves)].append(stored)
    for values in sorted(alike.values(), key=lambda values: len(values[0].leaves)):
        if _pays(values, launches, readers):
            for value in values:
                for reader in value.readers:
                    _take(reader, value)
                value.maker.results = [(n, b) for n, b in value.maker.results if b is not value.buffer]
            for maker in dict.fromkeys(value.maker for value in values):
                _prune(maker)
            return True
    return False


def _candidates(group: Group, launches: Sequence[Launch], readers: dict[Buffer, list[int]]) -> list[_Stored]:
    found = []
    for node, buffer in group.results:
        behind = [launches[i] for i in readers[buffer]]
        if buffer.kind != "tmp" or not behind:
            continue
        groups = [x for x in behind if isinstance(x, Group) and x.shape == group.shape and _reads_whole(x, buffer)]
        if len(groups) < len(behind):
            continue
        cone = group.cone([node])
        maps = [group.nodes[i] for i in cone if group.nodes[i][0] == "map"]
        if len(maps) > MOST_NODES or any([n[1] not in _CHEAP for n in maps]):
            continue
        views = [group.loads[group.nodes[i][1]] for i in cone if group.nodes[i][0] == "load"]
        leaves = {(id(v.buffer), v.layout): v for v in views if distinct_bytes(v.layout) * SMALL > buffer.nbytes}
        found.append(_Stored(group, node, buffer, groups, leaves))
    return found


def _reads_whole(group: Group, buffer: Buffer) -> bool:
    return all(v.layout == buffer.layout for v in group.loads if v.buffer is buffer)


def _pays(values: Sequence[_Stored], launches: Sequence[Launch], readers: dict[Buffer, list[int]]) -> bool:
    """Whether less is moved, and no more kept in memory, without ``values``, which follow from the same operands."""
    saved = sum(v.buffer.nbytes * (1 + len(v.readers)) for v in values)
    behind = list(dict.fromkeys(g for v in values for g in v.readers))
    leaves = list(values[0].leaves.values())
    added, kept = 0, 0
    for group in behind:
        have = {(id(v.buffer), v.layout) for v in group.loads}
        new = [v for key, v in values[0].leaves.items() if key not in have]
        added += sum(distinct_bytes(v.layout) for v in new)
        if group.streams + len(new) > MAX_STREAMS:
            return False
    last = max(launches.index(group) for group in behind)
    for b in dict.fromkeys(v.buffer for v in leaves):
        if b.kind == "tmp" and max(readers[b]) < last:
            kept += b.nbytes
    return added <= saved and kept <= sum(v.buffer.nbytes for v in values)


def _take(reader: Group, value: _Stored) -> None:
    """Rewrites the reader to compute the value where it loaded it."""
    old = _emptied(reader)
    computed = reader.copy_from(value.maker, value.maker.cone([value.node]))[value.node]
    known = {i: computed for i, n in enumerate(old.nodes) if n[0] == "load" and old.loads[n[1]].buffer is value.buffer}
    _refill(reader, old, reader.copy_from(old, range(len(old.nodes)), known))


def _prune(group: Group) -> None:
    """Drops what no result needs any more."""
    old = _emptied(group)
    _refill(group, old, group.copy_from(old, old.cone([*(n for n, _ in old.results), *(f.node for f in old.folds)])))


def _emptied(group: Group) -> Group:
    """What the group was, which has no nodes from now on."""
    old = replace(group)
    group.loads, group.nodes, group.dtypes, group.index = [], [], [], {}
    return old


def _refill(group: Group, old: Group, at: dict[int, int]) -> None:
    group.results = [(at[n], b) for n, b in old.results]
    group.folds = [fold._replace(node=at[fold.node]) for fold in old.folds]


def _side_by_side(launches: Sequence[Launch]) -> list[Launch]:
    """Joins reductions to one of the same array, shape and axes before them, if all that they read is there by then."""
    kept: list[Launch] = []
    made: dict[Buffer, int] = {}
    for launch in launches:
        partner = None
        if isinstance(launch, Group) and launch.folds and not launch.results:
            partner = next((g for g in kept if isinstance(g, Group) and _joins(launch, g, kept.index(g), made)), None)
        if partner is not None and isinstance(launch, Group):
            at = partner.copy_from(launch, range(len(launch.nodes)))
            partner.folds += [fold._replace(node=at[fold.node]) for fold in launch.folds]
            partner.names += launch.names
            partner.sources += launch.sources
            made.update((fold.out, kept.index(partner)) for fold in launch.folds)
            continue
        made.update((b, len(kept)) for b in written(launch))
        kept.append(launch)
    return kept


def _joins(late: Group, early: Group, at: int, made: dict[Buffer, int]) -> bool:
    if not early.folds or early.shape != late.shape or early.folds[0].axes != late.folds[0].axes:
        return False
    shared = [v for v in late.loads if any(v.buffer is w.buffer and v.layout == w.layout for w in early.loads)]
    ready = all(made.get(v.buffer, -1) < at and v.fence < early.position for v in late.loads)
    large = any(math.prod(late.shape) < SMALL * distinct_bytes(v.layout) // v.layout.dtype.itemsize for v in shared)
    return ready and large and early.streams + late.streams - len(shared) <= MAX_STREAMS
