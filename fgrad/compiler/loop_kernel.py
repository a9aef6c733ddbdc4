"""Which loops become one kernel (see kernels/cpu/loopcode.py), and how a schedule's loop is written as such.

A loop qualifies if all its work is element-wise, reductions, products, indexing and copies over arrays small enough to
stay in registers or the first-level cache, where a call for each instruction would cost more than the work.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fgrad.compiler.schedule import Buffer, Copies, Group, KernelCall, Launch, Loop, Schedule, View
from fgrad.kernels.cpu.body import read_nodes
from fgrad.kernels.cpu.loopcode import Access, Carried, Indexed, Item, LoopSpec, Part, Product, Reduction, Update
from fgrad.kernels.layout import Layout
from fgrad.kernels.plan import KernelPlan, Ptr, Step
from fgrad.primitives.dot_general import dot_general_p
from fgrad.primitives.indexing import gather_p, scatter_p

MOST_ELEMENTS = 1024  # of an array or a loop nest
LEAST_COLUMNS = 4  # of a product that is added up column by column
MOST_NODES = 256  # of all nests together: what LLVM compiles in some tenths of a second


class LoopKernel(NamedTuple):
    """The plan, and what its pointers count.  ``same``: what is read behind the loop, and the result it lies in."""

    plan: KernelPlan
    operands: list[View]
    results: list[Buffer]
    same: list[tuple[Buffer, Buffer]]


def loop_kernel(loop: Loop) -> LoopKernel | None:
    """The loop as one kernel, or None if it does not qualify."""
    schedules = [loop.body] if loop.test is None else [loop.test, loop.body]
    if not all(_qualifies(schedule) for schedule in schedules):
        return None
    if any(c.write.layout.size > MOST_ELEMENTS or c.write.dtype.kind == "c" for c in loop.carry):
        return None
    return _Writer(loop).kernel()


def _qualifies(schedule: Schedule) -> bool:
    nodes = 0
    for launch in schedule.launches:
        work = _work(launch)
        if work is None or work[0] > MOST_ELEMENTS:
            return False
        nodes += work[1]
    return nodes <= MOST_NODES


def _work(launch: Launch) -> tuple[int, int] | None:
    """(elements of the largest loop nest, nodes), or None for what is not written into a loop's kernel."""
    if isinstance(launch, Group):
        indexed = launch.fold is not None and launch.fold[1].startswith("arg")
        return None if indexed else (math.prod(launch.shape), len(launch.nodes))
    if isinstance(launch, Copies):
        return None if launch.out.dtype.kind == "c" else (launch.out.layout.size, 1 + len(launch.parts))
    if not isinstance(launch, KernelCall):
        return None
    prim, ins, out = launch.eqn.primitive, [v.layout for v in launch.ins], launch.outs[0].layout
    if prim is dot_general_p:
        contract = launch.eqn.params["dimension_numbers"][0][0]
        size = out.size * math.prod(ins[0].shape[d] for d in contract)
        plain = out.dtype.kind in "fi" and out.dtype.itemsize >= 4 and all(x.dtype == out.dtype for x in ins)
        return (size, 4) if plain else None
    if prim not in (gather_p, scatter_p) or out.dtype.kind == "c" or 0 in ins[0].shape:
        return None
    if prim is gather_p:
        return out.size, 4
    # 16-bit floats are added up in float32 and rounded once, which is not done here
    if out.dtype.itemsize == 2 and out.dtype.kind in "fV" and launch.eqn.params["kind"] != "set":
        return None
    return max(ins[2].size, 0 if launch.in_place else out.size), 4


class _Writer:
    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.where: dict[Buffer, int] = {}
        self.local: list[tuple[str, int]] = []
        self.outside: list[str] = []
        self.words: list[int | Ptr] = []
        self.operands: list[View] = []
        self.results: list[Buffer] = []
        self.constant = {inner for inner, _ in loop.same if inner.kind == "in"}
        self.before: list[Item] = []
        self.packed: dict[tuple[Access, tuple[int, ...]], Access] = {}  # a constant with its axes in an order

    def new_local(self, like: Buffer) -> int:
        self.local.append((like.dtype.name, like.layout.size))
        return len(self.local) - 1

    def new_outside(self, dtype: str, pointer: Ptr, step: int) -> int:
        self.outside.append(dtype)
        self.words += [pointer, step]
        return -len(self.outside)

    def read(self, view: View, offset: int = 0, step: int = 0) -> int:
        """An array outside that the loop reads, ``offset`` bytes from its buffer's begin."""
        self.operands.append(view)
        return self.new_outside(view.layout.dtype.name, Ptr("in", len(self.operands) - 1, offset), step)

    def written(self, buffer: Buffer, offset: int = 0, step: int = 0) -> int:
        self.results.append(buffer)
        return self.new_outside(buffer.dtype.name, Ptr("out", len(self.results) - 1, offset), step)

    def place(self, b: Buffer) -> int:
        """Where a buffer of the body is: its own are local, constants are outside."""
        if b not in self.where:
            self.where[b] = self.read(View(b, b.layout)) if b.kind == "const" else self.new_local(b)
        return self.where[b]

    def access(self, b: Buffer, layout: Layout) -> Access:
        return Access(self.place(b), b.dtype.name, layout.strides, layout.offset)

    def kernel(self) -> LoopKernel:
        loop = self.loop
        carry, same = [], []
        for c in loop.carry:
            now, following = self.new_local(c.write), self.new_local(c.write)
            self.where.update((b, now) for b in c.reads)
            self.where[c.write] = following
            layout = c.first.layout
            first = self.read(c.first, layout.offset * layout.dtype.itemsize)
            final = c.even if loop.length is not None and loop.length % 2 == 0 else c.odd
            carry.append(Carried(now, following, first, self.written(final)))
            same += [(b, final) for b in c.reads[2:]]
        for m in loop.moving:
            if m.inner.kind == "in":
                self.where[m.inner] = self.read(View(m.whole, m.whole.layout), m.start, m.stride)
            else:
                self.where[m.inner] = self.written(m.whole, m.start, m.stride)
        for inners, whole in loop.updated:
            where = self.written(whole)
            self.where.update((b, where) for b in inners)
        for inner, outer in loop.same:
            if inner.kind == "in":
                self.where[inner] = self.read(View(outer, outer.layout))
        test = self.items(loop.test) if loop.test is not None else ()
        body = self.items(loop.body)
        flag = self.place(loop.test.results[0]) if loop.test is not None else None
        spec = LoopSpec(tuple(self.local), tuple(self.outside), tuple(carry), body, tuple(self.before), test, flag)
        words = self.words if loop.length is None else [loop.length, *self.words]
        plan = KernelPlan((Step(spec, tuple(words), 1, 1, "in one kernel"),))
        return LoopKernel(plan, self.operands, self.results, same)

    def items(self, schedule: Schedule) -> tuple[Part, ...]:
        found: list[Part] = []
        for launch in schedule.launches:
            if isinstance(launch, Group):
                found.append(self.group(launch))
            elif isinstance(launch, Copies):
                found += self.copies(launch)
            elif isinstance(launch, KernelCall):
                write = {gather_p: self.gather, scatter_p: self.scatter, dot_general_p: self.dot}
                found += write[launch.eqn.primitive](launch)
        return tuple(found)

    def group(self, group: Group) -> Item:
        loads = tuple(self.access(v.buffer, v.layout) for v in group.loads)
        stores = tuple((self.access(b, b.layout), node) for node, b in group.results)
        fold = None
        if group.fold is not None:
            node, combine, axes, out = group.fold
            fold = Reduction(node, combine, axes, self.access(out, out.layout))
        return Item(group.shape, loads, read_nodes(group.nodes, lambda axis: axis), stores, fold)

    def copies(self, launch: Copies) -> list[Item]:
        out = launch.out.layout
        found = []
        if launch.fill is not None and sum(target.size for _, target in launch.parts) < out.size:
            if isinstance(launch.fill, View):
                value = launch.fill.layout.broadcast_in_dim(out.shape, ())
                found.append(self.moved(self.access(launch.fill.buffer, value), launch.out, out))
            else:
                nodes = read_nodes([("const", launch.fill.item(), out.dtype.name)], lambda axis: axis)
                found.append(Item(out.shape, (), nodes, ((self.access(launch.out, out), 0),)))
        for view, target in launch.parts:
            found.append(self.moved(self.access(view.buffer, view.layout), launch.out, target))
        return found

    def moved(self, source: Access, buffer: Buffer, target: Layout) -> Item:
        nodes = read_nodes([("load", 0)], lambda axis: axis)
        return Item(target.shape, (source,), nodes, ((self.access(buffer, target), 0),))

    def indexed(self, call: KernelCall, array: Access, layout: Layout, batch: int) -> Indexed:
        """Elements of ``array`` over a nest of the indices' batch axes, then the axes of the array that stay."""
        places = call.ins[1].layout
        axes = call.eqn.params["axes"]
        stay = [s for d, s in enumerate(layout.strides) if d not in axes]
        index = self.access(call.ins[1].buffer, places)
        return Indexed(
            array._replace(strides=(*[0] * batch, *stay)),
            index._replace(strides=(*index.strides[:batch], *[0] * len(stay))),
            places.strides[batch],
            tuple((layout.shape[a], layout.strides[a]) for a in axes),
            call.eqn.params["mode"] == "clip",
        )

    def gather(self, call: KernelCall) -> list[Part]:
        """out[batch, stay] = operand[places[batch], stay]"""
        operand, places = call.ins
        (out,) = call.outs
        source = self.indexed(call, self.access(operand.buffer, operand.layout), operand.layout, places.layout.ndim - 1)
        nodes = read_nodes([("load", 0)], lambda axis: axis)
        return [Item(out.shape, (source,), nodes, ((self.access(out, out.layout), 0),))]

    def dot(self, call: KernelCall) -> list[Part]:
        """out[batch, m, n] = sum over k of lhs[batch, m, k] * rhs[batch, n, k]"""
        views, (out,) = call.ins, call.outs
        contract, batch = call.eqn.params["dimension_numbers"]
        free = [[d for d in range(v.layout.ndim) if d not in (*c, *b)] for v, c, b in zip(views, contract, batch)]
        k = tuple(views[0].layout.shape[d] for d in contract[0])
        loads = []
        for i, v in enumerate(views):  # strides along batch, m, n and k
            access, layout = self.columns(v, (*contract[i], *batch[i], *free[i]))
            own, none = [layout.strides[d] for d in free[i]], [0] * len(free[1 - i])
            steps = [layout.strides[d] for d in batch[i]] + (own + none if i == 0 else none + own)
            loads.append(access._replace(strides=(*steps, *(layout.strides[d] for d in contract[i]))))
        result = self.access(out, out.layout)
        rank = len(out.shape)
        column = max(
            range(len(batch[0]), rank), key=lambda a: (1 in (x.strides[a] for x in loads), out.shape[a]), default=None
        )
        if len(k) != 1 or 0 in (*k, *out.shape) or column is None or out.shape[column] < LEAST_COLUMNS:
            nodes = read_nodes([("load", 0), ("load", 1), ("map", _times, (), (0, 1))], lambda axis: axis)
            fold = Reduction(2, "add", tuple(range(rank, rank + len(k))), result)
            return [Item((*out.shape, *k), tuple(loads), nodes, (), fold)]
        left, right = sorted(loads, key=lambda x: x.strides[column] != 0)
        rest = [a for a in range(rank) if a != column]
        product = Product(
            tuple(out.shape[a] for a in rest), out.shape[column], k[0],
            *(x._replace(strides=tuple(x.strides[a] for a in axes)) for x, axes in (
                (left, [*rest, rank]), (right, [*rest, rank, column]), (result, [*rest, column])
            )),
        )  # fmt: skip
        return [product]

    def columns(self, view: View, order: tuple[int, ...]) -> tuple[Access, Layout]:
        """The array, or for what the loop does not change a local copy with its axes in this order."""
        layout = view.layout
        if view.buffer not in self.constant or 1 in [layout.strides[a] for a in order[-1:]]:
            return self.access(view.buffer, layout), layout
        source = self.access(view.buffer, layout)
        dense = Layout.contiguous(layout.dtype, tuple(layout.shape[a] for a in order))
        dense = dense.transpose(tuple(order.index(a) for a in range(len(order))))
        if (source, order) not in self.packed:
            self.local.append((layout.dtype.name, layout.size))
            self.packed[source, order] = Access(len(self.local) - 1, source.dtype, dense.strides, 0)
            nodes = read_nodes([("load", 0)], lambda axis: axis)
            self.before.append(Item(layout.shape, (source,), nodes, ((self.packed[source, order], 0),)))
        return self.packed[source, order], dense

    def scatter(self, call: KernelCall) -> list[Part]:
        """out = operand; out[places[batch], stay] (kind)= updates[batch, stay]"""
        operand, places, updates = call.ins
        (out,) = call.outs
        found: list[Part] = []
        if not call.in_place:
            found.append(self.moved(self.access(operand.buffer, operand.layout), out, out.layout))
        batch = places.layout.ndim - 1
        target = self.indexed(call, self.access(out, out.layout), out.layout, batch)
        source = self.access(updates.buffer, updates.layout)
        return [*found, Update(updates.layout.shape, batch, source, target, call.eqn.params["kind"])]


def _times(s, a, b):
    return s.mul(a, b)
