"""What is cheaper to compute again than to store and read: after fusion, before anything has memory.

A group stores a value because a group behind it reads it.  If the value follows by cheap arithmetic from arrays that
lie in memory anyway, the reader may take it from those: x - mean of a batch costs one read, as x does, and nothing is
written; a mask of relu costs nothing where its operand is read anyway.  A factor that follows from masks is computed
where it is read, and the masks are stored, as bits of a byte.  Reductions of one array over the same axes, of which one
does not wait for the other, become one kernel here too.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fgrad.compiler.schedule import MAX_STREAMS, Buffer, Group, Launch, View, distinct_bytes
from fgrad.core.primitive import Primitive
from fgrad.kernels.cpu.body import NO_PARAMS
from fgrad.kernels.layout import Layout, dtype_name
from fgrad.primitives import arithmetic, bitwise, compare, ties
from fgrad.primitives.convert import convert_p

MOST_NODES = 12  # scalar rules computed again for one value
SMALL = 16  # an operand so many times smaller than the loop is read from a cache,
CACHED = 1 << 15  # as is one of at most so many bytes that every step of the outermost axis reads again

_CHEAP: frozenset[Callable] = frozenset(
    p.cpu.rule  # type: ignore[union-attr]
    for p in (
        arithmetic.neg_p, arithmetic.add_p, arithmetic.sub_p, arithmetic.mul_p, arithmetic.max_p, arithmetic.min_p,
        arithmetic.abs_p, arithmetic.square_p, bitwise.not_p, bitwise.and_p, bitwise.or_p, compare.eq_p, compare.ne_p,
        compare.lt_p, compare.le_p, compare.gt_p, compare.ge_p, compare.select_n_p, convert_p,
        ties.order_p, ties.share_p,
    )
)  # fmt: skip

_BYTE = np.dtype(np.uint8)
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
    traffic = _Traffic(launches)
    traffic.store_masks()
    while traffic.replaced():
        pass
    traffic.pack_masks()
    return _side_by_side([x for x in launches if type(x) is not Group or x.results or x.folds])


class _Traffic:
    """What the launches read and write, while groups are rewritten."""

    def __init__(self, launches: Sequence[Launch]) -> None:
        self.groups = [x for x in launches if isinstance(x, Group)]
        self.at = {launch: i for i, launch in enumerate(launches)}
        self.readers: dict[Buffer, dict[Launch, None]] = defaultdict(dict)
        for launch in launches:
            for b in launch.reads:
                self.readers[b][launch] = None
        self.known: dict[Group, list[_Stored]] = {}  # the candidates of groups as they are now

    def store_masks(self) -> None:
        """Stores narrow values in place of a wider one that follows from them."""
        for group in self.groups:
            before = list(group.results)
            for node, buffer in before:
                masks = _masks(group, node) if buffer.kind == "tmp" else []
                behind = self.reading_groups(group, buffer) if masks else []
                if not behind:
                    continue
                group.results.remove((node, buffer))
                stored = [(mask, group.stored(mask)) for mask in masks]
                for reader in behind:
                    self.take(reader, group, node, buffer, {mask: View(b, b.layout) for mask, b in stored})
            if group.results != before:
                self.prune(group)

    def replaced(self) -> bool:
        """Lets the readers of the values that follow from the same operands take them from those, where that pays."""
        alike: dict[frozenset[_Key], list[_Stored]] = defaultdict(list)
        for group in self.groups:
            if group not in self.known:
                self.known[group] = self.candidates(group)
            for value in self.known[group]:
                alike[frozenset(value.leaves)].append(value)
        changed = False
        for leaves in sorted(alike, key=len):
            values = alike[leaves]
            if all([value.maker in self.known for value in values]) and self.pays(values):
                changed = True
                for value in values:  # no maker among them reads another's value: that would be an operand
                    for reader in value.readers:
                        self.take(reader, value.maker, value.node, value.buffer, {})
                    value.maker.results = [(n, b) for n, b in value.maker.results if b is not value.buffer]
                for maker in dict.fromkeys(value.maker for value in values):
                    self.prune(maker)
        return changed

    def pack_masks(self) -> None:
        """Booleans that the same groups read become bits of one byte."""
        for group in self.groups:
            together: dict[frozenset[Group], list[tuple[int, Buffer]]] = defaultdict(list)
            for node, buffer in group.results:
                if buffer.dtype == np.bool_ and (behind := self.reading_groups(group, buffer)):
                    together[frozenset(behind)].append((node, buffer))
            for readers, masks in together.items():
                for some in (masks[i : i + 8] for i in range(0, len(masks), 8)):
                    if len(some) > 1:
                        self.pack(group, some, sorted(readers, key=self.at.__getitem__))

    def pack(self, group: Group, masks: Sequence[tuple[int, Buffer]], readers: Sequence[Group]) -> None:
        """byte = the sum of 2^k where mask k is set; mask k = byte & 2^k != 0"""
        nought = _constant(group, 0)
        bits = [
            _map(group, compare.select_n_p, _BYTE, node, nought, _constant(group, 1 << k))
            for k, (node, _) in enumerate(masks)
        ]
        byte = functools.reduce(functools.partial(_map, group, bitwise.or_p, _BYTE), bits)
        group.results = [result for result in group.results if result not in masks]
        stored = group.store(byte)
        for reader in readers:
            old = _emptied(reader)
            packed, nought = reader.load(View(stored, stored.layout)), _constant(reader, 0)
            known: dict[int, int] = {}
            for k, (_, buffer) in enumerate(masks):
                bit = _map(reader, bitwise.and_p, _BYTE, packed, _constant(reader, 1 << k))
                mask = _map(reader, compare.ne_p, buffer.dtype, bit, nought)
                known |= {old.index["load", i]: mask for i, v in enumerate(old.loads) if v.buffer is buffer}
            self.refill(reader, old, reader.copy_from(old, range(len(old.nodes)), known))

    def candidates(self, group: Group) -> list[_Stored]:
        found = []
        for node, buffer in group.results:
            groups = self.reading_groups(group, buffer)
            if not groups:
                continue
            cone = _cheap_cone(group, node)
            if cone is None:
                continue
            views = [group.loads[group.nodes[i][1]] for i in cone if group.nodes[i][0] == "load"]
            leaves = {(id(v.buffer), v.layout): v for v in views if not _is_small(v.layout, buffer.nbytes)}
            found.append(_Stored(group, node, buffer, groups, leaves))
        return found

    def reading_groups(self, group: Group, buffer: Buffer) -> list[Group]:
        """The groups of the same shape that read the whole of the buffer, if nothing else reads it."""
        groups: list[Group] = []
        for x in self.readers[buffer] if buffer.kind == "tmp" else ():
            if type(x) is not Group or x.shape != group.shape or not _reads_whole(x, buffer):
                return []
            groups.append(x)
        return groups

    def pays(self, values: Sequence[_Stored]) -> bool:
        """Whether less is moved and no more kept in memory without ``values``, which follow from the same operands."""
        stored, saved = 0, 0
        for value in values:
            stored += value.buffer.nbytes
            saved += value.buffer.nbytes * (1 + len(value.readers))
        leaves = values[0].leaves
        behind = {group for v in values for group in v.readers}
        for group in behind:
            have = {(id(v.buffer), v.layout) for v in group.loads}
            new = [v.layout for key, v in leaves.items() if key not in have]
            saved -= sum(map(distinct_bytes, new))
            if saved < 0 or group.streams + len(new) > MAX_STREAMS:
                return False
        last = max([self.at[group] for group in behind])
        kept = {v.buffer for v in leaves.values() if v.buffer.kind == "tmp"}
        return sum([b.nbytes for b in kept if max([self.at[x] for x in self.readers[b]]) < last]) <= stored

    def take(self, reader: Group, maker: Group, node: int, buffer: Buffer, stored: dict[int, View]) -> None:
        """The reader computes the maker's node where it loaded it, from what is ``stored`` of the maker's."""
        old = _emptied(reader)
        known = {i: reader.load(view) for i, view in stored.items()}
        computed = reader.copy_from(maker, maker.cone([node], stored), known)[node]
        known = {i: computed for i, n in enumerate(old.nodes) if n[0] == "load" and old.loads[n[1]].buffer is buffer}
        self.refill(reader, old, reader.copy_from(old, range(len(old.nodes)), known))

    def prune(self, group: Group) -> None:
        """Drops what no result needs any more."""
        old = _emptied(group)
        needed = old.cone([*(n for n, _ in old.results), *(f.node for f in old.folds)])
        self.refill(group, old, group.copy_from(old, needed))

    def refill(self, group: Group, old: Group, at: dict[int, int]) -> None:
        """``at``: where the nodes are now that the results need."""
        group.results = [(at[n], b) for n, b in old.results]
        group.folds = [fold._replace(node=at[fold.node]) for fold in old.folds]
        self.known.pop(group, None)
        before, now = old.reads, group.reads
        for b in before:
            self.readers[b].pop(group, None)
        for b in now:
            self.readers[b][group] = None
        for b in (*before, *now):
            if b.made_by is not None:
                self.known.pop(b.made_by, None)


def _cheap_cone(group: Group, node: int) -> list[int] | None:
    """The node and all that it is computed from, operands first, or None if that is not cheap."""
    found: set[int] = set()
    left, rules = [node], 0
    while left:
        i = left.pop()
        if i in found:
            continue
        found.add(i)
        kind, *rest = group.nodes[i]
        if kind == "map":
            rules += 1
            if rules > MOST_NODES or rest[0] not in _CHEAP:
                return None
            left += rest[2]
    return sorted(found)


def _is_small(layout: Layout, nbytes: int) -> bool:
    """Whether an operand of a loop over ``nbytes`` costs no traffic; batches of any size give the same answer.  Never
    one that has as many elements as the loop: what another group of the loop stored is an operand.
    """
    size = distinct_bytes(layout)
    if 0 < size * SMALL <= nbytes:
        return True
    outermost = (s for n, s in zip(layout.shape, layout.strides) if n > 1)
    return size <= CACHED and next(outermost, 1) == 0


def _masks(group: Group, node: int) -> list[int]:
    """Values of the group that take less memory than the node's, which follows from them by cheap arithmetic alone."""
    size = group.dtypes[node].itemsize
    if size == 1:
        return []
    found: list[int] = []
    left = [node]
    while left:
        kind, *rest = group.nodes[left.pop()]
        if kind == "load":
            return []
        if kind == "map":
            if rest[0] not in _CHEAP:
                return []
            narrow = [i for i in rest[2] if group.dtypes[i].itemsize < size and group.nodes[i][0] == "map"]
            found += narrow
            left += [i for i in rest[2] if i not in narrow]
    found = list(dict.fromkeys(found))
    return found if sum(group.dtypes[i].itemsize for i in found) < size else []


def _constant(group: Group, number: int) -> int:
    return group.add(("const", number, dtype_name(_BYTE)), _BYTE)


def _map(group: Group, primitive: Primitive, dtype: np.dtype, *operands: int) -> int:
    return group.add(("map", primitive.cpu.rule, NO_PARAMS, operands), dtype)  # type: ignore[union-attr]


def _reads_whole(group: Group, buffer: Buffer) -> bool:
    return all([v.layout == buffer.layout for v in group.loads if v.buffer is buffer])


def _emptied(group: Group) -> Group:
    """What the group was, which has no nodes from now on."""
    g = group
    old = Group(g.shape, g.position, g.loads, g.nodes, g.dtypes, g.index, g.results, g.folds)
    group.loads, group.nodes, group.dtypes, group.index = [], [], [], {}
    return old


def _side_by_side(launches: Sequence[Launch]) -> list[Launch]:
    """Joins reductions to one of the same array, shape and axes before them, if all that they read is there by then."""
    kept: list[Launch] = []
    made: dict[Buffer, int] = {}
    reductions: dict[Any, list[tuple[int, Group]]] = defaultdict(list)  # kept ones by shape and axes
    for launch in launches:
        if type(launch) is Group and launch.folds:
            alike = reductions[launch.shape, launch.folds[0].axes]
            first = None
            if not launch.results:
                first = next(((at, early) for at, early in alike if _joins(launch, early, at, made)), None)
            if first is not None:
                at, partner = first
                node = partner.copy_from(launch, range(len(launch.nodes)))
                partner.folds += [fold._replace(node=node[fold.node]) for fold in launch.folds]
                partner.names += launch.names
                partner.sources += launch.sources
                made.update((fold.out, at) for fold in launch.folds)
                continue
            alike.append((len(kept), launch))
        for b in launch.writes:
            made[b] = len(kept)
        kept.append(launch)
    return kept


def _joins(late: Group, early: Group, at: int, made: dict[Buffer, int]) -> bool:
    shared = [v for v in late.loads if any(v.buffer is w.buffer and v.layout == w.layout for w in early.loads)]
    if all([_is_small(v.layout, math.prod(late.shape) * v.layout.dtype.itemsize) for v in shared]):
        return False
    ready = all([made.get(v.buffer, -1) < at and v.fence < early.position for v in late.loads])
    return ready and early.streams + late.streams - len(shared) <= MAX_STREAMS
