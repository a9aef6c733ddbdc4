"""What a jaxpr becomes before it has memory: launches over buffers, and the values that stand for its variables.

A loop or a branch is a launch that holds schedules of its own.  A buffer that such a schedule reads from or writes to
outside has no memory of its own: the launch says where it lies (`Loop`, `Branch`).

Where a value lives while equations are read:

    Const    a scalar known now, of any shape by broadcasting
    View     a strided layout over a buffer
    Member   a value inside a group, in a register until somebody outside asks for it
"""

from __future__ import annotations

import functools
import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fgrad.core.jaxpr import Eqn, Source
from fgrad.kernels.layout import Layout, contiguous_strides

MAX_STREAMS = 24  # pointers in one loop: beyond this, address arithmetic costs more than the saved memory traffic


@functools.lru_cache(maxsize=1024)
def distinct_bytes(layout: Layout) -> int:
    """Bytes of the elements a layout reaches: a broadcast axis counts one."""
    return math.prod([n for n, s in zip(layout.shape, layout.strides) if s or n == 0]) * layout.dtype.itemsize


class Buffer:
    """Memory for one array; ``at`` is the position in the schedule after which it holds its value.

    kind: ``tmp``; ``in`` and ``out``: input or result ``index`` of its schedule; ``const``: holds ``value``, a scalar.
    """

    def __init__(
        self,
        dtype: np.dtype,
        shape: tuple[int, ...],
        at: float,
        kind: str = "tmp",
        index: int = -1,
        made_by: Group | None = None,
        value: np.ndarray | None = None,
    ) -> None:
        self.dtype = dtype
        self.shape = shape
        self.at = at
        self.kind = kind
        self.index = index
        self.made_by = made_by  # the group that stores it, where one does
        self.value = value
        self.layout = Layout(dtype, shape, contiguous_strides(shape))
        self.nbytes = math.prod(shape) * dtype.itemsize


class Const(NamedTuple):
    value: np.ndarray  # 0-d
    shape: tuple[int, ...]


class View(NamedTuple):
    """``fence``: nothing computed from it may stand before this position."""

    buffer: Buffer
    layout: Layout
    fence: float = -1


class Member(NamedTuple):
    group: Group
    node: int


Value = Const | View | Member


class Reduced(NamedTuple):
    """``out[kept] = combine over axes of node``, a reduction of a group."""

    node: int
    combine: str
    axes: tuple[int, ...]
    out: Buffer


class _Launch:
    """``reads``: the buffers that a launch reads, ``writes``: those it writes, of those that nothing wrote before."""

    outs: Any

    @property
    def writes(self) -> list[Buffer]:
        return self.outs


class _Loops(_Launch):
    loads: Any

    @property
    def reads(self) -> list[Buffer]:
        return [v.buffer for v in self.loads]


class _Call(_Launch):
    ins: list[View]

    @property
    def reads(self) -> list[Buffer]:
        return [v.buffer for v in self.ins]


@dataclass(eq=False)
class Group(_Loops):
    """Element-wise nodes over one loop shape, reductions over the same axes of it, and the values to store."""

    shape: tuple[int, ...]
    position: int
    loads: list[View] = field(default_factory=list)
    nodes: list[tuple] = field(default_factory=list)
    dtypes: list[np.dtype] = field(default_factory=list)
    index: dict[tuple, int] = field(default_factory=dict)
    results: list[tuple[int, Buffer]] = field(default_factory=list)
    folds: list[Reduced] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sources: list[Source | None] = field(default_factory=list)  # the user's lines, as names
    first_read: float = float("inf")  # earliest schedule position that reads a stored result

    def add(self, node: tuple, dtype: np.dtype) -> int:
        """The node's index; equal nodes are one."""
        at = len(self.nodes)
        found = self.index.setdefault(_key(node) if node[0] == "const" else node, at)
        if found == at:
            self.nodes.append(node)
            self.dtypes.append(dtype)
        return found

    def load(self, view: View) -> int:
        for k, have in enumerate(self.loads):
            if have.buffer is view.buffer and have.layout == view.layout:
                return self.index["load", k]
        self.loads.append(view)
        return self.add(("load", len(self.loads) - 1), view.layout.dtype)

    def store(self, node: int) -> Buffer:
        """One more buffer that the node's values are written to."""
        # half a step later: what reads the memory is no part of the loop that writes it
        buffer = Buffer(self.dtypes[node], self.shape, self.position + 0.5, made_by=self)
        self.results.append((node, buffer))
        return buffer

    def stored(self, node: int) -> Buffer:
        """The buffer that the node's values are written to, made now if there is none."""
        for n, buffer in self.results:
            if n == node:
                return buffer
        return self.store(node)

    def cone(self, nodes: Iterable[int], known: Container[int] = ()) -> list[int]:
        """These nodes and all that they are computed from, operands first, without those behind ``known`` ones."""
        found: set[int] = set()
        left = list(nodes)
        while left:
            node = left.pop()
            if node not in found and node not in known:
                found.add(node)
                left += self.nodes[node][3] if self.nodes[node][0] == "map" else ()
        return sorted(found)

    def copy_from(self, other: Group, nodes: Sequence[int], known: dict[int, int] | None = None) -> dict[int, int]:
        """Adds nodes of another group of the same shape, operands first; where each of them is now.  ``known``: where
        some of them are already.
        """
        at = dict(known or {})
        for i in nodes:
            if i in at:
                continue
            node = other.nodes[i]
            if node[0] == "load":
                at[i] = self.load(other.loads[node[1]])
                continue
            if node[0] == "map":
                node = ("map", node[1], node[2], tuple([at[j] for j in node[3]]))
            at[i] = self.add(node, other.dtypes[i])
        return at

    @property
    def outs(self) -> list[Buffer]:
        """All it writes, the reductions' results first."""
        stored = [b for _, b in self.results]
        return [fold.out for fold in self.folds] + stored if self.folds else stored

    writes = outs

    @property
    def streams(self) -> int:
        return sum([any(v.layout.strides) for v in self.loads]) + len(self.results)

    @property
    def has_room(self) -> bool:
        """Whether another operand or result may join; counts what moves only where it matters."""
        return len(self.loads) + len(self.results) < MAX_STREAMS or self.streams < MAX_STREAMS


def _key(constant: tuple) -> tuple:
    """What makes two constants one: their text, since 0.0 == -0.0 and nan != nan."""
    return ("const", repr(constant[1]), constant[2])


@dataclass(eq=False)
class KernelCall(_Call):
    """A library kernel over views.  ``in_place``: the result is in the memory of the first operand.  With an
    ``epilogue``, a group whose load number ``product`` is what the kernel computes, its tiles pass through the group:
    the group's other operands follow the equation's, and the results are the group's, then the product if others read
    it.
    """

    eqn: Eqn
    ins: list[View]
    outs: list[Buffer]
    in_place: bool = False
    epilogue: Group | None = None
    product: int = -1


@dataclass(eq=False)
class Together(_Loops):
    """Element-wise groups, none of which reads what another one writes, as one launch."""

    groups: list[Group]

    @property
    def loads(self) -> list[View]:
        return [v for group in self.groups for v in group.loads]

    @property
    def outs(self) -> list[Buffer]:
        return [b for group in self.groups for b in group.outs]


@dataclass(eq=False)
class Rows(_Loops):
    """Groups, the later of which read what earlier ones write, as one launch: block by block of the ``count`` rows that
    the leading axes of each make together.  ``local`` values are read by nothing else.
    """

    groups: list[Group]
    count: int
    local: frozenset[Buffer]

    @property
    def loads(self) -> list[View]:
        """What it reads of others, each once."""
        made = {b for group in self.groups for b in group.outs}
        views = (v for group in self.groups for v in group.loads if v.buffer not in made)
        return list({(v.buffer, v.layout): v for v in views}.values())

    @property
    def outs(self) -> list[Buffer]:
        return [b for group in self.groups for b in group.outs if b not in self.local]


@dataclass(eq=False)
class HostCall(_Call):
    """The equation's reference, in Python; ``reason`` says why there is no kernel."""

    eqn: Eqn
    ins: list[View]
    outs: list[Buffer]
    reason: str


@dataclass(eq=False)
class Copies(_Launch):
    """A fill of the whole result (or None) and strided copies into it."""

    fill: Any  # None, a 0-d array, or a View of one element
    parts: list[tuple[View, Layout]]
    out: Buffer
    name: str

    @property
    def reads(self) -> list[Buffer]:
        fill = [self.fill.buffer] if isinstance(self.fill, View) else []
        return [*fill, *(view.buffer for view, _ in self.parts)]

    @property
    def writes(self) -> list[Buffer]:
        return [self.out]


@dataclass
class Schedule:
    launches: list[Launch]
    inputs: list[Buffer]  # constants first, then arguments
    outputs: list[Buffer | int]  # a buffer of kind "out", or the number of the input that is returned as it is

    @property
    def results(self) -> list[Buffer]:
        """The outputs of a body, which returns no input as it is."""
        return [b for b in self.outputs if isinstance(b, Buffer)]


class Moving(NamedTuple):
    """A body's buffer that lies in ``whole``, ``start`` bytes from its begin, ``stride`` more in every iteration."""

    inner: Buffer
    whole: Buffer
    start: int
    stride: int


class Carry(NamedTuple):
    """A loop's carried value: iteration t reads it where iteration t - 1 wrote it.

    ``reads`` (buffers of the body and of the test) lie at ``first`` for t = 0, then in ``odd`` and ``even`` by turns;
    ``write`` lies where iteration t + 1 reads.  So the value is never copied.
    """

    reads: list[Buffer]
    write: Buffer
    first: View
    odd: Buffer
    even: Buffer


@dataclass(eq=False)
class Loop(_Launch):
    """``body``, ``length`` times; without a length while ``test`` gives true, in ``flag``."""

    name: str
    length: int | None
    body: Schedule
    same: list[tuple[Buffer, Buffer]]  # (a body's buffer, the outer one whose memory it is)
    moving: list[Moving]
    carry: list[Carry]
    updated: list[tuple[list[Buffer], Buffer]]  # (a body's buffers, the outer one that they update in place)
    test: Schedule | None = None
    flag: Buffer | None = None

    @property
    def launches(self) -> list[Launch]:
        """All that an iteration does, the test first."""
        return [*(self.test.launches if self.test is not None else ()), *self.body.launches]

    @property
    def reads(self) -> list[Buffer]:
        outside = [outer for _, outer in self.same]
        return [*outside, *(m.whole for m in self.moving), *(c.first.buffer for c in self.carry)]

    @property
    def writes(self) -> list[Buffer]:
        moved = [m.whole for m in self.moving if m.inner.kind != "in"]
        carried = [b for c in self.carry for b in (c.odd, c.even)]
        return [*moved, *carried, *(outer for _, outer in self.updated)]


@dataclass(eq=False)
class Branch(_Launch):
    """The schedule whose number is the int32 at ``chosen``."""

    name: str
    chosen: View
    branches: list[Schedule]
    same: list[tuple[Buffer, Buffer]]  # operands and results, as of a loop
    outs: list[Buffer]

    @property
    def reads(self) -> list[Buffer]:
        return [self.chosen.buffer, *(outer for _, outer in self.same)]


Launch = Group | Together | Rows | KernelCall | HostCall | Copies | Loop | Branch
