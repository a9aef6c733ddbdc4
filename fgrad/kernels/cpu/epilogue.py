"""Element-wise work on a product while its tiles are in the cache: bias, activation, residual, mask, scale, cast.

    result_j[i] = node_j(product[i], operand_k[i], ...)          for every index i of the product

`gemm` calls the epilogue's function behind every finished tile, with the operands' words and these of the tile's
*runs*, each of which is ``lanes`` adjacent elements of the product:

    0 address of the first run   1 number of runs   2 lanes
    3 base   4 table   5 bytes from word to word of the table   6 step
    run r is at base + table[r] + r * step, and does not exist where table[r] is -1

Operands lie as the product does (a residual, a mask), or have one value for each feature, the product's last axis
(a bias), or one in all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from fgrad.kernels.builder import PlanBuilder, advance, cast_rule, start
from fgrad.kernels.cpu.body import Node, Spec, evaluate, read_nodes
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value, dtype_of, memory_type
from fgrad.kernels.layout import Layout, dtype_name
from fgrad.kernels.plan import Ptr, Word

Place = Literal["here", "feature", "scalar", "product"]


class Unfused(Exception):
    """This product has no tiles whose columns are adjacent features, or its tiles hold partial sums: no epilogue."""


def place_of(layout: Layout, product: Layout) -> Place | None:
    """Where an operand lies, seen from an element of the product, which is contiguous; None: anywhere else."""
    moving = [(n, s) for n, s in zip(layout.shape, layout.strides) if n != 1]
    if not any([s for _, s in moving]):
        return "scalar"
    if layout.strides[-1] == 1 and not any([s for s, n in zip(layout.strides[:-1], layout.shape) if n != 1]):
        return "feature"
    here = [(n, s) for n, s in zip(product.shape, product.strides) if n != 1]
    return "here" if moving == here else None


@dataclass(frozen=True)
class Epilogue:
    """What becomes of a product: ``nodes`` and ``results`` as of `map_plan`; load k has layout ``ins[k]`` and is at
    ``pointers[k]``, result j is at ``Ptr("out", j)``; load number ``product`` is the product itself.
    """

    product: int
    ins: tuple[Layout, ...]
    pointers: tuple[Ptr, ...]
    nodes: tuple[tuple, ...]
    results: tuple[tuple[Layout, int], ...]

    @property
    def layout(self) -> Layout:
        return self.ins[self.product]

    def target(self) -> Ptr | None:
        """Where tiles can be stored: the result that is the product, or one of its dtype, which overwrites it."""
        dtype = self.layout.dtype
        same = [(j, node) for j, (layout, node) in enumerate(self.results) if layout.dtype == dtype]
        itself = [j for j, node in same if self.nodes[node] == ("load", self.product)]
        return Ptr("out", (itself or [j for j, _ in same])[0]) if same else None

    def after_cast(self, wide: Layout) -> Epilogue:
        """The same of a product that has another dtype and is converted first."""
        at = self.nodes.index(("load", self.product))
        later = [n if n[0] != "map" else (*n[:3], tuple([i + (i >= at) for i in n[3]])) for n in self.nodes]
        cast = ("map", cast_rule, (("dtype", dtype_name(self.layout.dtype)),), (at,))
        return replace(
            self,
            ins=(*self.ins[: self.product], wide, *self.ins[self.product + 1 :]),
            nodes=(*later[: at + 1], cast, *later[at + 1 :]),
            results=tuple([(layout, node + (node >= at)) for layout, node in self.results]),
        )

    def words(self, out: Ptr, run: int) -> tuple[Word, ...]:
        """Of ``gemm``'s arguments: the function and its operands.  ``run``: most features in a run of a tile."""
        product = self.layout
        places = [place_of(layout, product) for layout in self.ins]
        places[self.product] = "product"
        features = product.shape[-1] if product.shape else 1
        if {place_of(layout, product) for layout, _ in self.results} - {"here", "scalar"}:
            raise Unfused
        if None in places or ("feature" in places and run > features):
            raise Unfused
        ins = tuple([(dtype_name(layout.dtype), place) for layout, place in zip(self.ins, places)])
        outs = tuple([(dtype_name(layout.dtype), node) for layout, node in self.results])
        spec = EpilogueSpec(ins, read_nodes(self.nodes, lambda axis: axis), outs)  # type: ignore[arg-type]
        operands = [start(p, layout) for k, (p, layout) in enumerate(zip(self.pointers, self.ins)) if k != self.product]
        return spec, out, features, *operands, *[Ptr("out", j) for j in range(len(self.results))]

    def append(self, builder: PlanBuilder, product: Ptr) -> None:
        """The same as a step of its own, behind the product's."""
        from fgrad.kernels.cpu.emit import map_plan

        plan = map_plan(self.layout.shape, self.ins, self.nodes, self.results)
        at = [product if k == self.product else p for k, p in enumerate(self.pointers)]
        for step in plan.steps:
            builder.include(step.placed(lambda a: advance(at[a.index], a.offset) if a.kind == "in" else a))


def of_cast(result: Layout, wide: Layout) -> Epilogue:
    """A product in ``wide``'s dtype becomes the result by conversion alone."""
    return Epilogue(0, (result,), (Ptr("in", -1),), (("load", 0),), ((result, 0),)).after_cast(wide)


@dataclass(frozen=True)
class EpilogueSpec(Spec):
    """The function: dtype and place of each load, the nodes, dtype and node of each result."""

    ins: tuple[tuple[str, Place], ...]
    nodes: tuple[Node, ...]
    outs: tuple[tuple[str, int], ...]

    def write(self, s: Scalar) -> None:
        code = s.code
        base, features = code.word(), code.word()
        pointers = ["" if place == "product" else code.pointer_word() for _, place in self.ins]
        results = [code.pointer_word() for _ in self.outs]
        tile = code.op("inttoptr i64 %begin to ptr")
        first, count, lanes, start_, table, table_step, step = (_word(code, tile, str(8 * i)) for i in range(7))
        table = code.op(f"inttoptr i64 {table} to ptr")
        dtypes = [dtype_of(name) for name, _ in self.ins]
        size = next(dtype.itemsize for dtype, (_, place) in zip(dtypes, self.ins) if place == "product")

        def elements(address: str) -> str:
            """From the product's begin."""
            return code.op(f"sdiv exact i64 {code.sub(address, base)}, {size}")

        feature = code.divmod(elements(first), features)[1]
        held = {k: s.load(dtypes[k], pointers[k], group=False) for k, (_, p) in enumerate(self.ins) if p == "scalar"}
        with code.loop("0", count) as run:
            entry = _word(code, table, code.mul(run, table_step))
            with code.when(code.op(f"icmp ne i64 {entry}, -1")):
                address = code.add(code.add(start_, entry), code.mul(run, step))
                here, at = elements(address), code.op(f"inttoptr i64 {address} to ptr")
                with code.loop("0", lanes, kind="lean") as lane:

                    def load(k: int, at=at, here=here, lane=lane) -> Value:
                        if k in held:
                            return held[k]
                        origin, index = {
                            "product": (at, lane),
                            "here": (pointers[k], code.add(here, lane)),
                            "feature": (pointers[k], code.add(feature, lane)),
                        }[self.ins[k][1]]
                        return s.load(dtypes[k], code.element(memory_type(dtypes[k]), origin, index), group=True)

                    values = evaluate(s, self.nodes, load, lambda axis: "0")
                    for pointer, (name, node) in zip(results, self.outs):
                        dtype = dtype_of(name)
                        to = code.element(memory_type(dtype), pointer, code.add(here, lane))
                        s.store(s.cast(values[node], dtype), to, group=True)


def _word(code, pointer: str, offset: str) -> str:
    at = code.op(f"getelementptr i8, ptr {pointer}, i64 {offset}")
    return code.op(f"load i64, ptr {at}, align 8")
