"""Which loops become one kernel (see kernels/cpu/loopcode.py), and how a schedule's loop is written as such.

A loop qualifies if all its work is element-wise, reductions, products, indexing and copies over arrays small enough to
stay in registers or the first-level cache, where a call for each instruction would cost more than the work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fgrad.compiler.schedule import Buffer, Carry, Copies, Group, KernelCall, Launch, Loop, Schedule, View
from fgrad.kernels.cpu.body import read_nodes
from fgrad.kernels.cpu.loopcode import Carried, Indexed, Item, LoopSpec, Part, Reduction, Update
from fgrad.kernels.cpu.productcode import Access, Product
from fgrad.kernels.layout import Layout
from fgrad.kernels.plan import KernelPlan, Ptr, Step
from fgrad.primitives.arithmetic import add_p
from fgrad.primitives.dot_general import dot_general_p
from fgrad.primitives.indexing import gather_p, scatter_p

MOST_ELEMENTS = 1024  # of an array that is reduced or indexed
MOST_MAPPED = 4096  # of one that is not
MOST_PRODUCTS = 1 << 16  # multiply-adds of a matrix product
LEAST_COLUMNS = 4  # of a product that is computed in vectors of columns
MOST_NODES = 256  # of all nests together: what LLVM compiles in some tenths of a second
MOST_BYTES = 192 << 10  # of local arrays: they lie on the stack, of which a thread may have 512 KiB


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
    if any(c.write.layout.size > MOST_MAPPED or c.write.dtype.kind == "c" for c in loop.carry):
        return None
    return _Writer(loop).kernel()


def _qualifies(schedule: Schedule) -> bool:
    nodes = [_nodes(launch) for launch in schedule.launches]
    return None not in nodes and sum([n or 0 for n in nodes]) <= MOST_NODES


def _nodes(launch: Launch) -> int | None:
    """What compiling it costs, in nodes; None for what is not written into a loop's kernel."""
    if isinstance(launch, Group):
        if any(fold.combine.startswith("arg") for fold in launch.folds):
            return None
        most = MOST_ELEMENTS if launch.folds else MOST_MAPPED
        return len(launch.nodes) if math.prod(launch.shape) <= most else None
    if isinstance(launch, Copies):
        small = launch.out.layout.size <= MOST_MAPPED and launch.out.dtype.kind != "c"
        return 1 + len(launch.parts) if small else None
    if not isinstance(launch, KernelCall):
        return None
    prim, ins, out = launch.eqn.primitive, [v.layout for v in launch.ins], launch.outs[0].layout
    if prim is dot_general_p:
        plain = out.dtype.kind in "fi" and out.dtype.itemsize >= 4 and all(x.dtype == out.dtype for x in ins)
        size = out.size * math.prod(ins[0].shape[d] for d in launch.eqn.params["dimension_numbers"][0][0])
        return 4 if plain and size <= (MOST_ELEMENTS if _column(launch) is None else MOST_PRODUCTS) else None
    if prim not in (gather_p, scatter_p) or out.dtype.kind == "c" or 0 in ins[0].shape:
        return None
    if prim is gather_p:
        return 4 if out.size <= MOST_ELEMENTS else None
    # 16-bit floats are added up in float32 and rounded once, which is not done here
    if out.dtype.itemsize == 2 and out.dtype.kind in "fV" and launch.eqn.params["kind"] != "set":
        return None
    return 4 if max(ins[2].size, 0 if launch.in_place else out.size) <= MOST_ELEMENTS else None


def _column(dot: KernelCall) -> int | None:
    """The result's axis of adjacent elements, if it is worth vectors and one axis at most is contracted."""
    contract, batch = dot.eqn.params["dimension_numbers"]
    shape = dot.outs[0].shape
    long = [n for d in contract[0] if (n := dot.ins[0].layout.shape[d]) != 1]
    column = max((a for a, n in enumerate(shape) if n >= LEAST_COLUMNS), default=-1)
    adjacent = math.prod(shape[column + 1 :]) == 1
    return column if adjacent and column >= len(batch[0]) and len(long) < 2 and 0 not in (*long, *shape) else None


class Sum(NamedTuple):
    """``out = start + dot``: the product is added up where its terms are in registers."""

    dot: KernelCall
    start: View
    out: Buffer

    @property
    def reads(self) -> list[Buffer]:
        return [self.start.buffer, *self.dot.reads]


def _with_sums(schedule: Schedule) -> list[Launch | Sum]:
    """The launches, with a product that is only added to an input (as a gradient to its sum so far) as a `Sum`."""
    launches: list[Launch | Sum] = list(schedule.launches)
    every = [b for x in schedule.launches for b in x.reads] + schedule.results
    for at, dot in enumerate(schedule.launches):
        if isinstance(dot, KernelCall) and dot.eqn.primitive is dot_general_p and _column(dot) is not None:
            (product,) = dot.outs
            later = [x for x in launches[at + 1 :] if isinstance(x, Group) and _adds(x)]
            for group in later:
                start = next((v for v in group.loads if v.buffer is not product), None)
                if len(group.loads) == 2 and start is not None and every.count(product) == 1:
                    layouts = {v.layout for v in group.loads} | {product.layout}
                    if start.buffer.kind == "in" and product in group.reads and len(layouts) == 1:
                        launches[at] = Sum(dot, start, group.results[0][1])
                        launches.remove(group)
    return launches


def _adds(group: Group) -> bool:
    """Whether it computes a + b and nothing else."""
    return (
        not group.folds
        and len(group.results) == 1
        and [node[0] for node in group.nodes] == ["load", "load", "map"]
        and group.names == [add_p.name]
    )


def _updates(launches: Sequence[Launch | Sum], c: Carry) -> bool:
    """Whether the new value may lie where the old one does: an element-wise loop or a sum writes it, which reads the
    old one at the same index only, and nothing reads that later.
    """
    at = next((i for i, x in enumerate(launches) if c.write in _stored(x)), None)
    if at is None:
        return False
    writer = launches[at]
    old = writer.loads if isinstance(writer, Group) else []
    shifted = [v.buffer for v in old if v.layout != c.write.layout]
    shifted += [v.buffer for v in writer.dot.ins] if isinstance(writer, Sum) else []
    late = [b for x in launches[at + 1 :] for b in x.reads]
    return not any(b in late or b in shifted for b in c.reads)


def _stored(launch: Launch | Sum) -> list[Buffer]:
    """What a loop nest writes that reads at the same index."""
    if isinstance(launch, Sum):
        return [launch.out]
    return [b for _, b in launch.results] if isinstance(launch, Group) else []


class _Writer:
    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.where: dict[Buffer, int] = {}
        self.local: list[tuple[str, int]] = []
        self.bytes = 0
        self.outside: list[str] = []
        self.words: list[int | Ptr] = []
        self.operands: list[View] = []
        self.results: list[Buffer] = []
        self.constant = {inner for inner, _ in loop.same if inner.kind == "in"}
        self.before: list[Item] = []
        self.copies_of: dict[tuple[Access, int], Access] = {}  # a constant, by which axis its copy has innermost

    def new_local(self, like: Buffer | Layout) -> int:
        size = math.prod(like.shape)
        self.local.append((like.dtype.name, size))
        self.bytes += size * like.dtype.itemsize
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

    def kernel(self) -> LoopKernel | None:
        loop = self.loop
        launches = _with_sums(loop.body)
        carry, same = [], []
        for c in loop.carry:
            now = self.new_local(c.write)
            following = now if _updates(launches, c) else self.new_local(c.write)
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
        test = self.items(loop.test.launches) if loop.test is not None else ()
        body = self.items(launches)
        flag = self.place(loop.test.results[0]) if loop.test is not None else None
        spec = LoopSpec(tuple(self.local), tuple(self.outside), tuple(carry), body, tuple(self.before), test, flag)
        words = self.words if loop.length is None else [loop.length, *self.words]
        if self.bytes > MOST_BYTES:
            return None
        plan = KernelPlan((Step(spec, tuple(words), 1, 1, "in one kernel"),))
        return LoopKernel(plan, self.operands, self.results, same)

    def items(self, launches: Sequence[Launch | Sum]) -> tuple[Part, ...]:
        found: list[Part] = []
        for launch in launches:
            if isinstance(launch, Group):
                found.append(self.group(launch))
            elif isinstance(launch, Copies):
                found += self.copies(launch)
            elif isinstance(launch, Sum):
                found += self.dot(launch.dot, launch.start, launch.out)
            elif isinstance(launch, KernelCall):
                write = {gather_p: self.gather, scatter_p: self.scatter, dot_general_p: self.dot}
                found += write[launch.eqn.primitive](launch)
        return tuple(found)

    def group(self, group: Group) -> Item:
        loads = tuple(self.access(v.buffer, v.layout) for v in group.loads)
        stores = tuple((self.access(b, b.layout), node) for node, b in group.results)
        folds = tuple(Reduction(f.node, f.combine, f.axes, self.access(f.out, f.out.layout)) for f in group.folds)
        return Item(group.shape, loads, read_nodes(group.nodes, lambda axis: axis), stores, folds)

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
            call.eqn.params["mode"],
        )

    def gather(self, call: KernelCall) -> list[Part]:
        """out[batch, stay] = operand[places[batch], stay]"""
        operand, places = call.ins
        (out,) = call.outs
        source = self.indexed(call, self.access(operand.buffer, operand.layout), operand.layout, places.layout.ndim - 1)
        nodes = read_nodes([("load", 0)], lambda axis: axis)
        return [Item(out.shape, (source,), nodes, ((self.access(out, out.layout), 0),))]

    def dot(self, call: KernelCall, start: View | None = None, out: Buffer | None = None) -> list[Part]:
        """out[batch, m, n] = start[batch, m, n] + sum over k of lhs[batch, m, k] * rhs[batch, n, k]"""
        views, out = call.ins, out or call.outs[0]
        contract, batch = call.eqn.params["dimension_numbers"]
        free = [[d for d in range(v.layout.ndim) if d not in (*c, *b)] for v, c, b in zip(views, contract, batch)]
        lacks: list[list[None]] = [[None] * len(f) for f in free]
        # each operand's axis along batch, m, n and k
        walks = [
            [*batch[0], *free[0], *lacks[1], *contract[0]],
            [*batch[1], *lacks[0], *free[1], *contract[1]],
        ]
        k = tuple(views[0].layout.shape[d] for d in contract[0])
        column, rank = _column(call), len(out.shape)
        right = 0 if column is not None and walks[0][column] is not None else 1
        found: list[Part] = []
        layouts = [v.layout for v in views]
        loads = [self.access(v.buffer, v.layout) for v in views]
        if column is not None and layouts[right].strides[walks[right][column]] != 1:
            constant = views[right].buffer in self.constant
            shared = any(n != 1 and walks[right][a] is None for a, n in enumerate(out.shape))
            if constant or shared or start is not None or math.prod((*out.shape, *k)) > MOST_ELEMENTS:
                loads[right], layouts[right] = self.packed(views[right], walks[right][column], constant, found)
            else:  # each element is read once: no order of them is worth a copy
                column = None
        loads = [x._replace(strides=_along(walk, layout)) for x, walk, layout in zip(loads, walks, layouts)]
        result = self.access(out, out.layout)
        if column is None:
            nodes = read_nodes([("load", 0), ("load", 1), ("map", _times, (), (0, 1))], lambda axis: axis)
            fold = Reduction(2, "add", tuple(range(rank, rank + len(k))), result)
            return [Item((*out.shape, *k), tuple(loads), nodes, (), (fold,))]
        rest = [a for a in range(rank) if a != column]
        long = [rank + j for j, n in enumerate(k) if n != 1]  # one axis at most

        def at(x: Access, axes: Sequence[int]) -> Access:
            return x._replace(strides=tuple(x.strides[a] for a in axes))

        one = () if long else (0,)  # the stride of the only k
        left = at(loads[1 - right], [*rest, *long])
        left = left._replace(strides=(*left.strides, *one))
        factor = at(loads[right], [*rest, *long])
        factor = factor._replace(strides=(*factor.strides, *one, 1))
        shape, columns = tuple(out.shape[a] for a in rest), out.shape[column]
        first = None if start is None else at(self.access(start.buffer, start.layout), [*rest, column])
        result = at(result, [*rest, column])
        found.append(Product(shape, columns, math.prod(k), left, factor, result, first))
        return found

    def packed(self, view: View, last: int, constant: bool, found: list[Part]) -> tuple[Access, Layout]:
        """A local copy with one axis innermost: made once of what the loop does not change, else in ``found``."""
        layout = view.layout
        source = self.access(view.buffer, layout)
        order = [*(a for a in range(layout.ndim) if a != last), last]
        dense = Layout.contiguous(layout.dtype, tuple(layout.shape[a] for a in order))
        dense = dense.transpose(tuple(order.index(a) for a in range(layout.ndim)))
        target = self.copies_of.get((source, last))
        if target is None:
            target = Access(self.new_local(dense), source.dtype, dense.strides, 0)
            nodes = read_nodes([("load", 0)], lambda axis: axis)
            (self.before if constant else found).append(Item(layout.shape, (source,), nodes, ((target, 0),)))
        if constant:
            self.copies_of[source, last] = target
        return target, dense

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


def _along(walk: Sequence[int | None], layout: Layout) -> tuple[int, ...]:
    return tuple(0 if a is None else layout.strides[a] for a in walk)
