"""A whole loop as one kernel: small arrays, kept in registers from one iteration to the next.

A loop over a few numbers spends its time on calls, address words and memory, not on arithmetic.  Here the body is
written once, with every extent and stride a number in the code, and with its arrays (carry included) as local memory
of known size, which LLVM turns into vector registers.  So, unlike other emitted kernels, one is compiled for each
shape.

The words of the arguments: the number of iterations (not of a ``test`` loop), then for each array outside its address
and the bytes it moves by from one iteration to the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from fgrad.kernels.cpu import nest
from fgrad.kernels.cpu.accumulators import accumulator, identity
from fgrad.kernels.cpu.body import Node, Spec, evaluate
from fgrad.kernels.cpu.nest import Axis
from fgrad.kernels.cpu.productcode import Access, Product, ProductWriter
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value, dtype_of, literal, memory_type
from fgrad.kernels.reference import marker


class Indexed(NamedTuple):
    """Elements whose place along ``axes``, (size, stride) each, is read from ``places``: component j of it, which is
    j * ``component`` elements further, for axis j.  Places outside are treated as ``mode`` says, as by gather and
    scatter.
    """

    array: Access  # strides along the nest, 0 where the place is read
    places: Access
    component: int
    axes: tuple[tuple[int, int], ...]
    mode: str


class Reduction(NamedTuple):
    """``out[kept] = combine over axes of node``."""

    node: int
    combine: str
    axes: tuple[int, ...]
    out: Access


@dataclass(frozen=True)
class Item:
    """A loop nest over ``shape``: element-wise nodes, stores of some (access, node), and reductions of others."""

    shape: tuple[int, ...]
    loads: tuple[Access | Indexed, ...]
    nodes: tuple[Node, ...]
    stores: tuple[tuple[Access, int], ...]
    folds: tuple[Reduction, ...] = ()


@dataclass(frozen=True)
class Update:
    """``target`` combined with ``source`` by ``kind`` (set, add, mul, min, max), in row-major order of ``shape``, whose
    first ``ordered`` axes may meet an element again.
    """

    shape: tuple[int, ...]
    ordered: int
    source: Access
    target: Indexed
    kind: str


Part = Item | Update | Product


class Carried(NamedTuple):
    """Local arrays of the value now and of the next one, and the arrays outside it comes from and goes to.

    ``now`` is ``following`` where the body writes each element over the one it read.
    """

    now: int
    following: int
    first: int
    last: int


@dataclass(frozen=True)
class LoopSpec(Spec):
    """``local``: (dtype, elements) of each local array; ``before`` fills some of them once.  With ``flag``, a local
    bool, the loop goes on while ``test`` sets it; else as many times as the arguments say.
    """

    local: tuple[tuple[str, int], ...]
    outside: tuple[str, ...]  # dtypes
    carry: tuple[Carried, ...]
    body: tuple[Part, ...]
    before: tuple[Item, ...] = ()
    test: tuple[Part, ...] = ()
    flag: int | None = None

    def write(self, s: Scalar) -> None:
        _Writer(self, s).write()


class _Writer:
    def __init__(self, spec: LoopSpec, s: Scalar) -> None:
        self.spec, self.s, self.code = spec, s, s.code
        self.local = [self.code.array(memory_type(dtype_of(d)), max(n, 1)) for d, n in spec.local]
        self.outside: list[str] = []

    def write(self) -> None:
        spec, code = self.spec, self.code
        length = code.word() if spec.flag is None else ""
        words = [(code.pointer_word(), code.word()) for _ in spec.outside]
        self.outside = [pointer for pointer, _ in words]
        for c in spec.carry:
            self.copy(self.whole(c.now, c.first), self.whole(c.now, c.now))
        for item in spec.before:
            self.item(item)
        if spec.flag is None:
            with code.loop("0", length) as t:
                self.outside = [code.element("i8", pointer, code.mul(t, step)) for pointer, step in words]
                self.iteration()
        else:
            flag = self.whole(spec.flag, spec.flag)

            def goes_on() -> str:
                for item in spec.test:
                    self.item(item)
                return self.s.load(dtype_of(flag.dtype), self.address(flag, []), group=False).ref

            with code.repeat(goes_on):
                self.iteration()
        self.outside = [pointer for pointer, _ in words]
        for c in spec.carry:
            self.copy(self.whole(c.now, c.now), self.whole(c.now, c.last))

    def iteration(self) -> None:
        for item in self.spec.body:
            self.item(item)
        for c in self.spec.carry:
            if c.following != c.now:
                self.copy(self.whole(c.now, c.following), self.whole(c.now, c.now))

    def whole(self, like: int, where: int) -> Access:
        """The elements of an array as large as a local one."""
        return Access(where, self.spec.local[like][0], (1,), 0)

    def copy(self, source: Access, target: Access) -> None:
        size = self.spec.local[max(source.where, target.where)][1]
        with self.nest([Axis(size, ())], True) as index:
            value = self.s.load(dtype_of(source.dtype), self.address(source, index), group=True)
            self.s.store(value, self.address(target, index), group=True)

    # ---- loop nests

    @contextmanager
    def nest(self, axes: Sequence[Axis], parallel: bool) -> Iterator[list[str]]:
        """Loops of known extents around what is written inside; yields an index for each axis."""
        if not axes:
            yield []
            return
        *outer, last = axes
        with self.nest(outer, False) as index:
            if last.extent == 1:
                yield [*index, "0"]
            else:
                kind = "vector" if parallel and last.extent >= 4 else "free"
                with self.code.loop("0", str(last.extent), kind=kind) as i:
                    yield [*index, i]

    def address(self, access: Access, index: Sequence[str], strides: Sequence[int] | None = None) -> str:
        code, offset = self.code, str(access.offset)
        for i, stride in zip(index, access.strides if strides is None else strides):
            offset = code.add(offset, code.mul(i, str(stride)))
        base = self.local[access.where] if access.where >= 0 else self.outside[-1 - access.where]
        return code.element(memory_type(dtype_of(access.dtype)), base, offset)

    def item(self, item: Part) -> None:
        if isinstance(item, Update):
            self.update(item)
        elif isinstance(item, Product):
            ProductWriter(self.s, item, self.address).write()
        elif item.folds:
            self.folds(item)
        else:
            self.element_wise(item, item.stores)

    def element_wise(self, item: Item, stores: Sequence[tuple[Access, int]]) -> None:
        """One nest that computes the nodes and stores some of them."""
        if 0 in item.shape:
            return
        accesses = [access for access, _ in stores]
        for x in item.loads:
            accesses += [x.array, x.places] if isinstance(x, Indexed) else [x]
        iotas = sorted({node[1] for node in item.nodes if node[0] == "iota" and node[1] is not None})
        strides = [access.strides for access in accesses]
        strides += [tuple(int(a == axis) for a in range(len(item.shape))) for axis in iotas]
        axes = nest.merged(nest.ordered(nest.axes_of(item.shape, strides), range(len(strides))))
        with self.nest(axes, True) as index:
            walk = {x: [axis.strides[k] for axis in axes] for k, x in enumerate(accesses)}

            def load(k: int) -> Value:
                x = item.loads[k]
                if isinstance(x, Indexed):
                    address, inside = self.indexed(x, index, walk[x.array], walk[x.places])
                    value = self.s.load(dtype_of(x.array.dtype), address, group=True)
                    nothing = marker(value.dtype).item() if x.mode == "mark" else 0
                    return value if inside is None else self.s.select(inside, value, literal(value.dtype, nothing))
                return self.s.load(dtype_of(x.dtype), self.address(x, index, walk[x]), group=True)

            def along(axis: int) -> str:
                k = len(accesses) + iotas.index(axis)
                return next((i for i, loop in zip(index, axes) if loop.strides[k]), "0")

            values = evaluate(self.s, item.nodes, load, along)
            for access, node in stores:
                value = self.s.cast(values[node], dtype_of(access.dtype))
                self.s.store(value, self.address(access, index, walk[access]), group=True)

    def indexed(
        self, x: Indexed, index: Sequence[str], array: Sequence[int], places: Sequence[int]
    ) -> tuple[str, Value | None]:
        """The address of an element, and whether it was inside (None: it always is)."""
        s, wide = self.s, dtype_of("int64")
        offset, inside = literal(wide, 0), None
        for j, (size, stride) in enumerate(x.axes):
            component = x.places._replace(offset=x.places.offset + j * x.component)
            place = s.cast(s.load(dtype_of(x.places.dtype), self.address(component, index, places), group=True), wide)
            low, high = literal(wide, 0), literal(wide, size - 1)
            nearest = s.min(s.max(place, low), high)
            if x.mode != "clip":
                here = s.cmp("eq", place, nearest)
                inside = here if inside is None else s.and_(inside, here)
            offset = s.add(offset, s.mul(nearest, literal(wide, stride)))
        base = self.address(x.array, index, array)
        return self.code.element(memory_type(dtype_of(x.array.dtype)), base, offset.ref), inside

    def update(self, item: Update) -> None:
        if 0 in item.shape:
            return
        s, dtype = self.s, dtype_of(item.target.array.dtype)
        with (
            self.nest([Axis(n, ()) for n in item.shape[: item.ordered]], False) as outer,
            self.nest([Axis(n, ()) for n in item.shape[item.ordered :]], True) as inner,
        ):
            index = [*outer, *inner]
            x = item.target
            address, inside = self.indexed(x, index, x.array.strides, x.places.strides)
            value = s.load(dtype, self.address(item.source, index), group=True)
            old = s.load(dtype, address, group=True)
            if item.kind != "set":
                value = self.combine(item.kind, old, value)
            s.store(value if inside is None else s.select(inside, value, old), address, group=True)

    def folds(self, item: Item) -> None:
        """All values into an array of kept and reduced axes, for each fold; then each array is folded.

        What an operand walks through one by one is innermost in the arrays too, be it kept (columns) or reduced (rows).
        """
        reduced = item.folds[0].axes
        kept = [a for a in range(len(item.shape)) if a not in reduced]
        n, width = (math.prod(item.shape[a] for a in axes) for axes in (reduced, kept))
        near = [x.array if isinstance(x, Indexed) else x for x in item.loads]
        unit = [a for x in near for a in range(len(item.shape)) if x.strides[a] == 1 and item.shape[a] > 1]
        by_rows = sum(a in reduced for a in unit) > sum(a in kept for a in unit)
        row, column = (1, n) if by_rows else (width, 1)  # strides of the reduced and the kept axes as a whole
        strides = [0] * len(item.shape)
        for axes, step in ((reduced, row), (kept, column)):
            for a in reversed(axes):
                strides[a] = step
                step *= item.shape[a]
        every = []
        for fold in item.folds:
            held = accumulator(dtype_of(fold.out.dtype))
            self.local.append(self.code.array(memory_type(held), max(n * width, 1)))
            every.append(Access(len(self.local) - 1, held.name, tuple(strides), 0))
        self.element_wise(item, [*zip(every, [fold.node for fold in item.folds]), *item.stores])
        for fold, values in zip(item.folds, every):
            self.halves(fold.combine, values, n, width, row, column)
            shape = tuple(item.shape[a] for a in kept)
            packed = values._replace(strides=tuple(strides[a] for a in kept))
            with self.nest([Axis(m, ()) for m in shape], True) as index:
                value = self.s.load(dtype_of(values.dtype), self.address(packed, index), group=True)
                out = dtype_of(fold.out.dtype)
                self.s.store(self.s.cast(value, out), self.address(fold.out, index), group=True)

    def halves(self, combine: str, values: Access, n: int, width: int, row: int, column: int) -> None:
        """Combines halves of ``n`` rows of ``width`` values, ``row`` and ``column`` elements apart, to one row."""
        held = dtype_of(values.dtype)
        if n == 0:
            with self.nest([Axis(width, ())], True) as index:
                self.s.store(identity(combine, held), self.address(values, index, [1]), group=True)
        while n > 1:
            half = -(-n // 2)
            # columns lie together, so that half of them is one run
            extents, steps = ([width, n - half], [column, row]) if row == 1 else ([(n - half) * width], [1])
            with self.nest([Axis(m, ()) for m in extents], True) as index:
                low, high = (self.address(values._replace(offset=o), index, steps) for o in (0, half * row))
                both = (self.s.load(held, address, group=True) for address in (low, high))
                self.s.store(self.combine(combine, *both), low, group=True)
            n = half

    def combine(self, name: str, a: Value, b: Value) -> Value:
        s = self.s
        rule: dict[str, Callable[[Value, Value], Value]] = {
            "add": s.add, "mul": s.mul, "max": s.max, "min": s.min, "and": s.and_, "or": s.or_
        }  # fmt: skip
        return rule[name](a, b)
