"""Fusion: equations become a schedule of launches over buffers.

Element-wise equations of one loop shape join into *groups*: one kernel that loads each operand once, keeps
intermediate values in registers and stores only what something outside reads.  A reduction joins the group that
makes its operand.  Index maps become strided views, which every kernel reads directly.

Where a value lives while equations are read:

    Const    a scalar known now, of any shape by broadcasting
    View     a strided layout over a buffer
    Member   a value inside a group, in a register until somebody outside asks for it
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fgrad.core.backends import Fold, IndexMap, IndexValue, Kernel, ScalarMap
from fgrad.core.jaxpr import Atom, ClosedJaxpr, Eqn, Literal, Var
from fgrad.kernels.layout import Layout
from fgrad.primitives.arithmetic import mul_p

MAX_STREAMS = 24  # pointers in one loop: beyond this, address arithmetic costs more than the saved memory traffic


@dataclass(eq=False)
class Buffer:
    """Memory for one array; ``at`` is the position in the schedule after which it holds its value."""

    dtype: np.dtype
    shape: tuple[int, ...]
    at: float
    kind: str = "tmp"  # in | out | tmp
    index: int = -1
    made_by: Group | None = None  # the group that stores it, where one does

    @property
    def layout(self) -> Layout:
        return Layout.contiguous(self.dtype, self.shape)


@dataclass(frozen=True)
class Const:
    value: np.ndarray  # 0-d
    shape: tuple[int, ...]


@dataclass(frozen=True)
class View:
    buffer: Buffer
    layout: Layout


@dataclass(frozen=True)
class Member:
    group: Group
    node: int


@dataclass(eq=False)
class Group:
    """Element-wise nodes over one loop shape, at most one reduction of one of them, and the values to store."""

    shape: tuple[int, ...]
    position: int
    loads: list[View] = field(default_factory=list)
    nodes: list[tuple] = field(default_factory=list)
    dtypes: list[np.dtype] = field(default_factory=list)
    index: dict[tuple, int] = field(default_factory=dict)
    results: dict[int, Buffer] = field(default_factory=dict)
    fold: tuple[int, str, tuple[int, ...], Buffer] | None = None
    names: list[str] = field(default_factory=list)
    first_read: float = float("inf")  # earliest schedule position that reads a stored result

    def add(self, node: tuple, dtype: np.dtype) -> int:
        """The node's index; equal nodes are one."""
        key = _key(node)
        if key not in self.index:
            self.index[key] = len(self.nodes)
            self.nodes.append(node)
            self.dtypes.append(dtype)
        return self.index[key]

    def load(self, view: View) -> int:
        for k, have in enumerate(self.loads):
            if have.buffer is view.buffer and have.layout == view.layout:
                return self.index[("load", k)]
        self.loads.append(view)
        return self.add(("load", len(self.loads) - 1), view.layout.dtype)

    @property
    def streams(self) -> int:
        return sum(any(v.layout.strides) for v in self.loads) + len(self.results)


def _key(node: tuple) -> tuple:
    """What makes two nodes one: numbers by their text, since 0.0 == -0.0 and nan != nan."""
    if node[0] == "const":
        return ("const", repr(node[1]), node[2])
    return ("map", node[1], repr(node[2]), node[3]) if node[0] == "map" else node


@dataclass(eq=False)
class KernelCall:
    """A library kernel over views."""

    eqn: Eqn
    ins: list[View]
    outs: list[Buffer]
    position: int


@dataclass(eq=False)
class Copies:
    """A fill of the whole result (or None) and strided copies into it."""

    fill: Any  # None, a 0-d array, or a View of one element
    parts: list[tuple[View, Layout]]
    out: Buffer
    position: int
    name: str


Launch = Group | KernelCall | Copies
Value = Const | View | Member


@dataclass
class Schedule:
    launches: list[Launch]
    inputs: list[Buffer]  # constants first, then arguments
    scalars: list[np.ndarray]  # constant operands of kernels: further inputs
    outputs: list[Buffer | int]  # a buffer of kind "out", or the number of the input that is returned as it is


def _structural(value: np.ndarray) -> bool:
    """Whether a constant is part of a kernel's code: those that make better code, and small integers.

    Others are operands, so that 1/17 in place of 1/16, or another learning rate, compiles nothing.
    """
    if value.dtype.kind in "iu":
        return abs(int(value)) <= 64
    return value.dtype.kind == "b" or not np.isfinite(value) or float(value) in (-1.0, 0.0, 0.5, 1.0, 2.0)


def _times_one(operands: list[Value]) -> Value | None:
    """x for x * 1: the gradient of a sum multiplies by ones."""
    for a, b in (operands, operands[::-1]):
        if isinstance(b, Const) and b.value == 1:
            return a
    return None


class _Fuser:
    def __init__(self, closed: ClosedJaxpr):
        self.closed = closed
        self.launches: list[Launch] = []
        self.env: dict[Var, Value] = {}
        self.moved: dict[tuple[Group, int], tuple[Group, int]] = {}
        self.inputs: list[Buffer] = []
        self.scalars: list[np.ndarray] = []
        self.scalar_views: dict[Any, Buffer] = {}

    # --- values -----------------------------------------------------------------------------------------------------
    def read(self, a: Atom) -> Value:
        if isinstance(a, Literal):
            return Const(np.asarray(a.val), ())
        value = self.env[a]
        if isinstance(value, Member):
            key = (value.group, value.node)
            while key in self.moved:
                key = self.moved[key]
            value = Member(*key)
        return value

    def ready(self, v: Value) -> float:
        """The schedule position after which the value exists (-1: from the start)."""
        if isinstance(v, Const):
            return -1
        return v.buffer.at if isinstance(v, View) else v.group.position

    def view(self, v: Value, reader: float) -> View:
        """The value in memory, stored by its group if it was in a register."""
        if isinstance(v, View):
            return v
        if isinstance(v, Member):
            group, node = v.group, v.node
            if node not in group.results:
                # half a step later: what reads the memory is no part of the loop that writes it
                at = group.position + 0.5
                group.results[node] = Buffer(group.dtypes[node], group.shape, at, made_by=group)
            group.first_read = min(group.first_read, reader)
            return View(group.results[node], group.results[node].layout)
        key = (v.value.dtype, v.value.tobytes())
        if key not in self.scalar_views:
            buffer = Buffer(v.value.dtype, (), -1, "in")
            self.scalar_views[key] = buffer
            self.scalars.append(v.value)
        buffer = self.scalar_views[key]
        return View(buffer, buffer.layout.broadcast_in_dim(v.shape, ()))

    def new_group(self, shape: tuple[int, ...]) -> Group:
        group = Group(shape, len(self.launches))
        self.launches.append(group)
        return group

    def operand(self, group: Group, v: Value) -> int:
        if isinstance(v, Const) and _structural(v.value):
            return group.add(("const", v.value.item(), v.value.dtype.name), v.value.dtype)
        if isinstance(v, Const):
            v = Const(v.value, group.shape)
        if isinstance(v, Member) and v.group is group:
            return v.node
        view = self.view(v, group.position)
        maker = view.buffer.made_by
        if maker is not None:  # this group may stand before the equation that made the view
            maker.first_read = min(maker.first_read, group.position)
        return group.load(view)

    # --- joining groups ---------------------------------------------------------------------------------------------
    def group_for(self, shape: tuple[int, ...], operands: list[Value]) -> Group:
        """The group that can compute from these operands: their latest producer if it is a group of this shape, with
        the operands' other groups merged into it where nothing scheduled in between reads them; else a new one.
        """
        mine = {v.group for v in operands if isinstance(v, Member) and v.group.shape == shape}
        latest = max((self.ready(v) for v in operands), default=-1)
        target = next((g for g in mine if g.position == latest and g.streams < MAX_STREAMS), None)
        if target is None:
            target = self.new_group(shape)
        for other in sorted(mine - {target}, key=lambda g: -g.position):
            if self.mergeable(other, target):
                self.merge(other, target)
        return target

    def mergeable(self, a: Group, b: Group) -> bool:
        """Whether a (earlier) may run at b's position: nothing up to b reads what it stores."""
        return a.fold is None and a.first_read > b.position and a.streams + b.streams <= MAX_STREAMS

    def merge(self, a: Group, b: Group) -> None:
        renumber: list[int] = []
        for node, dtype in zip(a.nodes, a.dtypes):
            if node[0] == "load":
                new = b.load(a.loads[node[1]])
            elif node[0] == "map":
                new = b.add((*node[:3], tuple(renumber[i] for i in node[3])), dtype)
            else:
                new = b.add(node, dtype)
            renumber.append(new)
        for i, at in enumerate(renumber):
            self.moved[(a, i)] = (b, at)
        for stored, buffer in a.results.items():
            buffer.at, buffer.made_by = b.position + 0.5, b
            b.results[renumber[stored]] = buffer
        b.first_read = min(b.first_read, a.first_read)
        b.names = a.names + b.names
        self.launches[a.position] = Group(a.shape, a.position)  # empty: dropped at the end

    # --- equations --------------------------------------------------------------------------------------------------
    def scalar_map(self, eqn: Eqn) -> None:
        operands = [self.read(a) for a in eqn.invars]
        aval = eqn.outvars[0].aval
        if all(isinstance(v, Const) for v in operands):
            with np.errstate(all="ignore"):
                value = eqn.primitive.reference(*[v.value for v in operands], **eqn.params)  # type: ignore[union-attr]
            self.env[eqn.outvars[0]] = Const(np.asarray(value), aval.shape)
            return
        if eqn.primitive is mul_p and (same := _times_one(operands)) is not None:
            self.env[eqn.outvars[0]] = same
            return
        group = self.group_for(aval.shape, operands)
        # merging may have moved operands: read them again
        refs = tuple([self.operand(group, self.broadcast(self.read(a), aval.shape)) for a in eqn.invars])
        params = tuple(sorted(eqn.params.items()))
        node = group.add(("map", eqn.primitive.cpu.rule, params, refs), aval.dtype)
        group.names.append(eqn.primitive.name)
        self.env[eqn.outvars[0]] = Member(group, node)

    def broadcast(self, v: Value, shape: tuple[int, ...]) -> Value:
        """A scalar operand among shaped ones (select's predicate) reads the same element everywhere."""
        if isinstance(v, Const) or shape == () or (isinstance(v, Member) and v.group.shape == shape):
            return v
        view = self.view(v, len(self.launches))
        return v if view.layout.shape == shape else View(view.buffer, view.layout.broadcast_in_dim(shape, ()))

    def index_value(self, eqn: Eqn) -> None:
        aval = eqn.outvars[0].aval
        group = self.new_group(aval.shape)
        node = group.add(("iota", eqn.params["dimension"], aval.dtype.name), aval.dtype)
        group.names.append(eqn.primitive.name)
        self.env[eqn.outvars[0]] = Member(group, node)

    def fold(self, eqn: Eqn) -> None:
        v = self.read(eqn.invars[0])
        aval = eqn.invars[0].aval
        if isinstance(v, Member) and v.group.fold is None and v.group.shape == aval.shape:
            group = v.group
            node = v.node
        else:
            group = self.new_group(aval.shape)
            node = self.operand(group, v)
        out = eqn.outvars[0].aval
        buffer = Buffer(out.dtype, out.shape, group.position + 0.5)
        group.fold = (node, eqn.primitive.cpu.combine, eqn.params["axes"], buffer)
        group.names.append(eqn.primitive.name)
        self.env[eqn.outvars[0]] = View(buffer, buffer.layout)

    def index_map(self, eqn: Eqn) -> None:
        kind, var = eqn.primitive.cpu, eqn.outvars[0]
        operands = [self.read(a) for a in eqn.invars]
        if kind.view is not None:
            v = operands[0]
            if isinstance(v, Const):
                self.env[var] = Const(v.value, var.aval.shape)
                return
            view = self.view(v, len(self.launches))
            layout = kind.view(view.layout, **eqn.params)
            if layout is None:
                view = self.copy(view, eqn.primitive.name)
                layout = kind.view(view.layout, **eqn.params)
            self.env[var] = View(view.buffer, layout)
            return
        position = len(self.launches)
        views = [self.view(v, position) for v in operands]
        out = Buffer(var.aval.dtype, var.aval.shape, position)
        fill, parts = kind.copies([v.layout for v in views], out.layout, **eqn.params)
        if isinstance(fill, tuple):
            value = operands[fill[1]]
            fill = value.value if isinstance(value, Const) else views[fill[1]]
        elif fill is not None:
            fill = np.asarray(fill, out.dtype)
        regions = [(View(views[i].buffer, source), target) for i, source, target in parts]
        self.launches.append(Copies(fill, regions, out, position, eqn.primitive.name))
        self.env[var] = View(out, out.layout)

    def copy(self, view: View, why: str) -> View:
        """The view's elements in a buffer of their own."""
        position = len(self.launches)
        out = Buffer(view.layout.dtype, view.layout.shape, position)
        self.launches.append(Copies(None, [(view, out.layout)], out, position, why))
        return View(out, out.layout)

    def kernel(self, eqn: Eqn) -> None:
        position = len(self.launches)
        ins = [self.view(self.read(a), position) for a in eqn.invars]
        outs = [Buffer(v.aval.dtype, v.aval.shape, position) for v in eqn.outvars]
        self.launches.append(KernelCall(eqn, ins, outs, position))
        self.env.update((v, View(b, b.layout)) for v, b in zip(eqn.outvars, outs))

    # --- the whole --------------------------------------------------------------------------------------------------
    def run(self) -> Schedule:
        jaxpr = self.closed.jaxpr
        for i, v in enumerate((*jaxpr.constvars, *jaxpr.invars)):
            buffer = Buffer(v.aval.dtype, v.aval.shape, -1, "in", i)
            self.inputs.append(buffer)
            self.env[v] = View(buffer, buffer.layout)
        handlers = {
            ScalarMap: self.scalar_map,
            IndexValue: self.index_value,
            Fold: self.fold,
            IndexMap: self.index_map,
            Kernel: self.kernel,
        }
        for eqn in jaxpr.eqns:
            handlers[type(eqn.primitive.cpu)](eqn)
        outputs: list[Buffer | int] = [self.output(j, a) for j, a in enumerate(jaxpr.outvars)]
        for k, buffer in enumerate(self.scalar_views.values()):
            buffer.index = len(self.inputs) + k
        launches = [x for x in self.launches if not isinstance(x, Group) or x.results or x.fold]
        return Schedule(launches, self.inputs, self.scalars, outputs)

    def output(self, j: int, a: Atom) -> Buffer | int:
        view = self.view(self.read(a), len(self.launches))
        buffer = view.buffer
        if buffer.kind == "in" and buffer.index >= 0 and view.layout == buffer.layout:
            return buffer.index
        whole = view.layout.is_contiguous and view.layout.offset == 0 and view.layout.size == buffer.layout.size
        if buffer.kind != "tmp" or not whole:
            buffer = self.copy(view, "output").buffer
        buffer.kind, buffer.index = "out", j
        return buffer


def fuse(closed: ClosedJaxpr) -> Schedule:
    """The schedule of a first-order jaxpr."""
    return _Fuser(closed).run()
