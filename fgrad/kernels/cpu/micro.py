"""The register tile of every matrix product: a batch-reduce GEMM of MR rows by NV vectors, written in LLVM IR.

    out[i][v] (+)= sum over g < G, s < S, c < C  of  A[i](g, s, c) * B(g, s, c)[v]

    A[i](g, s, c) = *(row[i] + g*a_gs + tab[s*ld + idx[i]] + c*a_cs)     one element, broadcast to a vector,
                                                     or, of "lanes", NV vectors at that address, as of B
    B(g, s, c)[v] =  b + g*b_gs + boff[s] + c*b_cs + v*VL*itemsize       NV vectors of VL lanes, unit stride

All strides and table entries are bytes.  A table entry of `ZERO_ROW` makes row i read ``zero + c*a_cs`` instead: that
is how padding costs no copy of the input.  Rows of A that are "adjacent" are one element apart, and the table is row
0's; so it is where they are "together", which have one table entry without a ZERO_ROW.

Few columns leave few FMAs to a load of A.  A tile with a ``fold`` F takes F neighbours of the run at once: a step
broadcasts the group A[i](c .. c+F-1) over a vector, whose lanes hold (column, c mod F), c fastest, as B's do; so a
vector has VL/F columns, and at the end each F neighbouring lanes are added up.

The accumulators stay in registers over the three loops.  Explicit vector
types keep LLVM from preferring 256-bit registers on AVX-512; `llvm.fmuladd` is one FMA where the host has it.

A tile is a function of its own, emitted as LLVM IR and compiled in some 30 ms when a plan first chooses its shape; the
loops over tiles, `gemm`, call it by address.  It has a kernel's signature and reads these words of ``args``:
`TILE_WORDS`.
"""

from __future__ import annotations

from types import SimpleNamespace

import llvmlite.ir as ir
import numpy as np

from fgrad.kernels.cpu import irbuild
from fgrad.kernels.cpu.gemm_words import LINE, TAP_WORDS, TILE_WORDS, ZERO_ROW
from fgrad.kernels.cpu.irtext import KERNEL
from fgrad.kernels.cpu.tile_spec import TileSpec

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
BYTES = I8.as_pointer()

# Metadata of a loop whose steps are made four at once: LLVM makes two.  (llvmlite writes no node that names itself.)
_FOUR_STEPS = SimpleNamespace(get_reference=lambda: "!0")
_NODES = '!0 = distinct !{!0, !1}\n!1 = !{!"llvm.loop.unroll.count", i32 4}\n'

ELEMENTS = {"float32": ir.FloatType(), "float64": ir.DoubleType(), "int32": I32, "int64": I64}


class _Emitter:
    """Vector operations of one element type and lane count."""

    def __init__(self, builder: ir.IRBuilder, dtype: str, lanes: int) -> None:
        self.builder = builder
        self.dtype = dtype
        self.element = ELEMENTS[dtype]
        self.itemsize = np.dtype(dtype).itemsize
        self.is_float = np.dtype(dtype).kind == "f"
        self.lanes = lanes
        self.vector = ir.VectorType(self.element, lanes)
        letter = "f" if self.is_float else "i"
        self.suffix = f"v{lanes}{letter}{8 * self.itemsize}"
        self.zeros = ir.Constant(self.vector, [0.0 if self.is_float else 0] * lanes)

    def _intrinsic(self, name: str, result, arguments):
        return irbuild.declared(self.builder, name, result, arguments)

    def at(self, pointer, offset, pointee):
        """``(pointee *)((char *)pointer + offset)``"""
        moved = self.builder.gep(pointer, [offset], source_etype=I8)
        return self.builder.bitcast(moved, pointee.as_pointer())

    def splat(self, scalar):
        b = self.builder
        one = b.insert_element(ir.Constant(self.vector, ir.Undefined), scalar, I32(0))
        mask = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return b.shuffle_vector(one, ir.Constant(self.vector, ir.Undefined), mask)

    def first_lanes(self, count):
        """Mask of the lanes below ``count``, an i64 that may be negative or beyond the vector.  Numbers as wide as the
        elements are compared: without mask registers LLVM does so at every use, which then is one instruction.
        """
        b, number = self.builder, ir.IntType(8 * self.itemsize)
        wide = ir.VectorType(number, self.lanes)
        most = I64(self.lanes)
        count = b.select(b.icmp_signed("<", count, most), count, most)
        count = count if number == I64 else b.trunc(count, number)
        one = b.insert_element(ir.Constant(wide, ir.Undefined), count, I32(0))
        zero_mask = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        counts = b.shuffle_vector(one, ir.Constant(wide, ir.Undefined), zero_mask)
        return b.icmp_signed("<", ir.Constant(wide, list(range(self.lanes))), counts)

    def load(self, pointer, mask):
        if mask is None:
            instruction = self.builder.load(pointer, typ=self.vector)
            instruction.align = self.itemsize
            return instruction
        signature = [self.vector.as_pointer(), I32, mask.type, self.vector]
        function = self._intrinsic(f"llvm.masked.load.{self.suffix}.p0", self.vector, signature)
        return self.builder.call(function, [pointer, I32(self.itemsize), mask, self.zeros])

    def row(self, start, offset, masks):
        """Neighbouring vectors, one for each mask, from ``offset`` bytes behind ``start`` on."""
        step = self.lanes * self.itemsize
        return [
            self.load(self.at(start, self.builder.add(offset, I64(v * step)), self.vector), mask)
            for v, mask in enumerate(masks)
        ]

    def store(self, value, pointer, mask) -> None:
        if mask is None:
            self.builder.store(value, pointer).align = self.itemsize
            return
        signature = [self.vector, self.vector.as_pointer(), I32, mask.type]
        function = self._intrinsic(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), signature)
        self.builder.call(function, [value, pointer, I32(self.itemsize), mask])

    def store_all(self, vectors, pointers, mask, add: bool) -> None:
        """Each vector to its pointer, or if ``add`` its sum with what is there."""
        for vector, pointer in zip(vectors, pointers):
            self.store(self.add(vector, self.load(pointer, mask)) if add else vector, pointer, mask)

    def store_parts(self, vectors, pointers, count, add: bool) -> None:
        """The same of the first ``count`` lanes, which may be none or more than there are: as whole vectors, or else by
        the bits of the count as halves, quarters and so on.
        """
        b, lanes = self.builder, self.lanes
        with b.if_else(b.icmp_signed(">=", count, I64(lanes))) as (whole, part):
            with whole:
                self.store_all(vectors, pointers, None, add)
            with part, b.if_then(b.icmp_signed(">", count, I64(0))):
                e = self
                while e.lanes > 1:
                    half = _Emitter(b, self.dtype, e.lanes // 2)
                    low, high = ([half.part_of(x, first) for x in vectors] for first in (0, half.lanes))
                    pointers = [b.bitcast(pointer, half.vector.as_pointer()) for pointer in pointers]
                    has = b.icmp_signed("!=", b.and_(count, I64(half.lanes)), I64(0))
                    with b.if_then(has):
                        half.store_all(low, pointers, None, add)
                    step = b.select(has, I64(half.lanes * self.itemsize), I64(0))
                    vectors = [b.select(has, x, y) for x, y in zip(high, low)]
                    pointers = [half.at(pointer, step, half.vector) for pointer in pointers]
                    e = half

    def part_of(self, vector, first: int):
        """As many lanes of a longer vector, from ``first`` on."""
        mask = ir.Constant(ir.VectorType(I32, self.lanes), [first + i for i in range(self.lanes)])
        return self.builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)

    def prefetch(self, pointer, *, write: bool = False) -> None:
        """Brings the line of memory there into the caches, to ``write`` it or to read; any address will do."""
        function = self._intrinsic("llvm.prefetch.p0", ir.VoidType(), [BYTES, I32, I32, I32])
        self.builder.call(function, [pointer, I32(int(write)), I32(3), I32(1)])

    def transposed(self, rows):
        """Of 2 or 4 vectors seen as matrices of 128-bit blocks: in every block, element i of vector j goes to element
        j of vector i.
        """
        n, lanes = len(rows), self.lanes

        def mixed(x, y, pattern):
            """``pattern``: elements of a block of x, or from n on of y's."""
            mask = [I32(first + (k if k < n else lanes + k - n)) for first in range(0, lanes, n) for k in pattern]
            return self.builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, lanes), mask))

        if n == 2:
            return [mixed(*rows, (0, 2)), mixed(*rows, (1, 3))]
        low, high = ([mixed(*rows[k : k + 2], p) for k in (0, 2)] for p in ((0, 4, 1, 5), (2, 6, 3, 7)))
        return [mixed(*pair, p) for pair in (low, high) for p in ((0, 1, 4, 5), (2, 3, 6, 7))]

    def broadcast(self, pointer, offset, fold: int):
        """The ``fold`` elements at ``offset`` bytes behind ``pointer``, over and over."""
        b = self.builder
        if fold == 1:
            return self.splat(b.load(self.at(pointer, offset, self.element), typ=self.element))
        part = _Emitter(b, self.dtype, fold)
        group = part.load(self.at(pointer, offset, part.vector), None)
        mask = ir.Constant(ir.VectorType(I32, self.lanes), [lane % fold for lane in range(self.lanes)])
        return b.shuffle_vector(group, ir.Constant(part.vector, ir.Undefined), mask)

    def folded(self, vectors, fold: int):
        """Each ``fold`` neighbouring lanes of the vectors, one behind the other, added up: vectors of a part as many
        lanes in all, and an emitter for them.
        """
        e = self
        while fold > 1:
            pairs = list(zip(vectors[::2], vectors[1::2])) or [(vectors[0], ir.Constant(e.vector, ir.Undefined))]
            lanes = e.lanes if len(vectors) > 1 else e.lanes // 2
            mask = ir.VectorType(I32, lanes)
            even, odd = (ir.Constant(mask, list(range(first, 2 * lanes, 2))) for first in (0, 1))
            e = _Emitter(self.builder, self.dtype, lanes)
            shuffle = self.builder.shuffle_vector
            vectors = [e.add(shuffle(x, y, even), shuffle(x, y, odd)) for x, y in pairs]
            fold //= 2
        return vectors, e

    def multiply_add(self, x, y, z):
        if self.is_float:
            function = self._intrinsic(f"llvm.fmuladd.{self.suffix}", self.vector, [self.vector] * 3)
            return self.builder.call(function, [x, y, z])
        return self.builder.add(self.builder.mul(x, y), z)

    def add(self, x, y):
        return self.builder.fadd(x, y) if self.is_float else self.builder.add(x, y)


def _reduce_run(e: _Emitter, spec: TileSpec, rows, first, b_start, count, a_cs, b_cs, masks, acc) -> None:
    """The innermost loop: ``acc[i][v] += A[i](c) * B(c)[v]`` for c < count (of a fold: groups c); A[i](0) lies
    ``first`` bytes behind ``rows[i]``.
    """
    b = e.builder
    head, body, tail = (b.append_basic_block(f"run.{part}") for part in ("head", "body", "tail"))
    entry = b.block
    b.branch(head)
    b.position_at_end(head)
    left, a_offset, b_offset = b.phi(I64), b.phi(I64), b.phi(I64)
    b.cbranch(b.icmp_signed(">", left, I64(0)), body, tail)
    b.position_at_end(body)
    vectors = e.row(b_start, b_offset, masks)
    for pointer, row in zip(rows, acc):
        if spec.a_rows == "lanes":
            factors = e.row(pointer, a_offset, masks)
        else:
            factors = [e.broadcast(pointer, a_offset, spec.fold)] * len(masks)
        for factor, vector, slot in zip(factors, vectors, row):
            b.store(e.multiply_add(factor, vector, b.load(slot, typ=e.vector)), slot)
    if spec.a_rows == "adjacent" and spec.a_step:
        # LLVM would load the elements of two steps together, which side by side are up to 2*MR, and has no registers
        # for them: loads stay on their side of a fence, which is no instruction.
        b.fence("acq_rel", targetscope="singlethread")
    steps = ((left, count, b.sub(left, I64(1))), (a_offset, first, b.add(a_offset, a_cs)),
             (b_offset, I64(0), b.add(b_offset, b_cs)))  # fmt: skip
    for phi, first, following in steps:
        phi.add_incoming(first, entry)
        phi.add_incoming(following, b.block)
    back = b.branch(head)
    if spec.a_step:
        back.set_metadata("llvm.loop", _FOUR_STEPS)
    b.position_at_end(tail)


def tile_text(spec: TileSpec) -> str:
    """The tile as LLVM IR."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64.as_pointer(), I64, I64, I64]), KERNEL)
    _write_tile(ir.IRBuilder(function.append_basic_block("entry")), function.args[0], spec)
    text = "\n".join([str(symbol) for symbol in module.globals.values()]).replace(f'@"{KERNEL}"', f"@{KERNEL}")
    return f"{text}\n{_NODES}" if spec.a_step else text


def _words(builder: ir.IRBuilder, args):
    """The words by name, and a function that reads one from a table."""

    def word(base, index):
        return builder.load(builder.gep(base, [index], source_etype=I64), typ=I64)

    return {name: word(args, I64(i)) for i, name in enumerate(TILE_WORDS)}, word


def _masks(e: _Emitter, lanes, vectors: int, edge: bool):
    """The mask of each vector of a row of which ``lanes`` exist, or None where all do."""
    if not edge:
        return [None] * vectors
    return [e.first_lanes(e.builder.sub(lanes, I64(v * e.lanes))) for v in range(vectors)]


def _write_tile(builder: ir.IRBuilder, args, spec: TileSpec) -> None:
    e = _Emitter(builder, spec.dtype, spec.vl)
    w, word = _words(builder, args)
    masks = _masks(e, w["lanes"], spec.nv, spec.edge and spec.fold == 1)  # where B is folded, its last panel is full
    info = builder.inttoptr(w["rows"], I64.as_pointer())
    starts, indices, outs = ([word(info, I64(k * spec.mr + i)) for i in range(spec.mr)] for k in range(3))
    acc = [[irbuild.slot(builder, e.vector) for _ in range(spec.nv)] for _ in range(spec.mr)]
    if not spec.taps:
        outs = [builder.add(row, w["out"]) for row in outs]
        _write_result(e, spec, w, word, masks, acc, starts, indices, outs, lambda: None)
        builder.ret_void()
        return

    ahead = irbuild.slot(builder, I64)
    builder.store(w["ahead"], ahead)

    def fetch() -> None:
        """The next lines of those that are read later."""
        start = builder.load(ahead, typ=I64)
        with irbuild.counted(builder, w["ahead_lines"]) as number:
            line = builder.add(start, builder.mul(number, I64(LINE)))
            e.prefetch(builder.inttoptr(line, BYTES))
        builder.store(builder.add(start, builder.mul(w["ahead_lines"], I64(LINE))), ahead)

    table, tap_outs = (builder.inttoptr(w[name], I64.as_pointer()) for name in ("taps", "tap_outs"))
    with irbuild.counted(builder, w["tap_count"]) as tap:
        at = builder.mul(tap, I64(TAP_WORDS))
        first, runs, a, b, length = (word(table, builder.add(at, I64(k))) for k in range(TAP_WORDS))
        pair = builder.mul(first, I64(8))
        out = word(tap_outs, tap)
        of_tap = {
            "tab": builder.add(w["tab"], pair), "boff": builder.add(w["boff"], pair), "b": builder.add(w["b"], b),
            "s_count": runs, "c_full": length, "ld": I64(1), "g_count": I64(1), "g_full": I64(1),
        }  # fmt: skip
        adds_nothing = builder.and_(
            builder.icmp_signed("==", runs, I64(0)), builder.icmp_signed("!=", w["accumulate"], I64(0))
        )
        with builder.if_then(builder.not_(adds_nothing)):
            places = [builder.add(row, out) for row in outs]
            _write_result(e, spec, w | of_tap, word, masks, acc, [builder.add(starts[0], a)], indices, places, fetch)
    builder.ret_void()


def _write_result(e: _Emitter, spec: TileSpec, w, word, masks, acc, starts, indices, outs, fetch) -> None:
    """One tile of results; ``fetch`` writes what is done beside before each run."""
    builder = e.builder
    table, b_table = (builder.inttoptr(w[name], I64.as_pointer()) for name in ("tab", "boff"))
    for row in acc:
        for slot in row:
            builder.store(e.zeros, slot)

    if not spec.turned:  # the results' lines come while the sums are made
        for out in outs:
            for line in range(0, spec.nv * spec.vl * e.itemsize // spec.fold, LINE):
                e.prefetch(builder.inttoptr(builder.add(out, I64(line)), BYTES), write=True)

    bases = [builder.inttoptr(start, BYTES) for start in starts]
    if spec.a_rows == "adjacent":
        bases = [builder.gep(bases[0], [I64(i * e.itemsize)], source_etype=I8) for i in range(spec.mr)]
    a_cs, b_cs = w["a_cs"], w["b_cs"]
    if spec.a_step:  # two steps at once need no more addresses than one
        a_cs, b_cs = (I64(n * e.itemsize) for n in (spec.a_step, spec.nv * spec.vl))
    with irbuild.counted(builder, w["g_count"]) as g:
        a_g = builder.mul(g, w["a_gs"])
        b_g = builder.add(w["b"], builder.mul(g, w["b_gs"]))
        count = builder.select(builder.icmp_signed("<", g, w["g_full"]), w["c_full"], w["c_last"])
        with irbuild.counted(builder, w["s_count"]) as middle:
            fetch()
            line = builder.mul(middle, w["ld"])
            b_start = builder.inttoptr(builder.add(b_g, word(b_table, middle)), BYTES)
            if spec.a_rows in ("adjacent", "together"):
                first = builder.add(a_g, word(table, builder.add(line, indices[0])))
                _reduce_run(e, spec, bases, first, b_start, count, a_cs, b_cs, masks, acc)
            else:
                pointers, none = [], I1(1)
                for start, index in zip(starts, indices):
                    entry = word(table, builder.add(line, index))
                    address = builder.add(builder.add(start, a_g), entry)
                    is_zero = builder.icmp_signed("==", entry, I64(ZERO_ROW))
                    none = builder.and_(none, is_zero)
                    pointers.append(builder.inttoptr(builder.select(is_zero, w["zero"], address), BYTES))
                run = builder.select(none, I64(0), count)  # a tap that no row of the tile meets
                _reduce_run(e, spec, pointers, I64(0), b_start, run, a_cs, b_cs, masks, acc)

    vectors = [[builder.load(slot, typ=e.vector) for slot in row] for row in acc]
    if spec.turned:
        places = builder.inttoptr(w["places"], I64.as_pointer())
        _store_turned(e, vectors, builder.inttoptr(outs[0], BYTES), places, w, spec.masked_stores)
        return

    sums = [e.folded(row, spec.fold) for row in vectors]
    o = sums[0][1]
    by_part = spec.edge and not spec.masked_stores
    masks = _masks(o, w["lanes"], len(sums[0][0]), spec.edge and not by_part)
    bases = [builder.inttoptr(out, BYTES) for out in outs]

    def write(add: bool) -> None:
        for v, column in enumerate(zip(*[row for row, _ in sums])):
            pointers = [o.at(base, I64(v * o.lanes * o.itemsize), o.vector) for base in bases]
            if by_part:
                o.store_parts(column, pointers, builder.sub(w["lanes"], I64(v * o.lanes)), add)
            else:
                o.store_all(column, pointers, masks[v], add)

    with builder.if_else(builder.icmp_signed("!=", w["accumulate"], I64(0))) as (then, otherwise):
        with then:
            write(True)
        with otherwise:
            write(False)


def _store_turned(e: _Emitter, vectors, out, places, w, masked_stores: bool) -> None:
    """Column l of the tile to ``out + places[l]``: blocks of G x G elements, G of 128 bits, are transposed in
    registers.  A column that has no place goes to memory that nobody reads, which costs less than a branch.
    """
    b, group = e.builder, 16 // e.itemsize
    part = _Emitter(b, e.dtype, group)
    rows = [*vectors, *([[e.zeros] * len(vectors[0])] * (-len(vectors) % group))]
    nowhere = irbuild.slot(b, ir.ArrayType(part.vector, len(rows) // group))
    nowhere = b.bitcast(nowhere, BYTES)
    bases = []
    for column in range(len(vectors[0]) * e.lanes):
        place = b.load(b.gep(places, [I64(column)], source_etype=I64), typ=I64)
        exists = b.icmp_signed("!=", place, I64(-1))
        bases.append(b.select(exists, b.gep(out, [place], source_etype=I8), nowhere))
    for k in range(0, len(rows), group):
        turned = [e.transposed([row[v] for row in rows[k : k + group]]) for v in range(len(vectors[0]))]
        values = [
            part.part_of(blocks[lane % group], lane // group * group) for blocks in turned for lane in range(e.lanes)
        ]
        pointers = [part.at(base, I64(k * e.itemsize), part.vector) for base in bases]
        count = b.sub(w["count"], I64(k))
        if masked_stores:
            part.store_all(values, pointers, part.first_lanes(count), False)
        else:
            part.store_parts(values, pointers, count, False)
