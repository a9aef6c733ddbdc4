"""Fused reductions: an element-wise expression folded over some axes, planned and emitted.

Three loop forms, chosen by which axis is contiguous in memory and by its extent:

    column   innermost axis kept: an accumulator per column, rows are added to it (bias gradients)
    row      innermost axis reduced: `LANES` accumulators, blocks of the row are added to them, at the end they are
             folded pairwise (sums of long rows)
    short    few elements to reduce: one after another, rows side by side in a vector (softmax over ten classes)

Accumulators live in a small array that the innermost loop walks, so no fold is a chain of dependent operations, every
loop vectorises without licence to reorder, and the order of additions is the same on every processor.  Of few columns
their number is part of the code, and LLVM keeps them in registers.  Float sums have two levels: after `FLUSH` steps the
accumulators are added to a second array and cleared.

Folds over the same axes share one kernel: the mean and the mean square of a batch are one pass over memory.

Long reductions are cut into chunks by shape (never by the number of threads); each chunk writes a partial result to a
temporary and a second fold combines them.  float16 and bfloat16 accumulate in float32, partial results included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fgrad.kernels.cpu import nest
from fgrad.kernels.cpu.accumulators import INDEX, LANES, Folded, accumulator
from fgrad.kernels.cpu.body import dtype_of_node, operand_args, read_nodes, weight_of
from fgrad.kernels.cpu.foldcode import BLOCK, FLUSH, UNROLL, FoldSpec
from fgrad.kernels.cpu.nest import Axis, Operand, step_of
from fgrad.kernels.layout import Layout, contiguous_strides, dtype_name
from fgrad.kernels.plan import KernelPlan, Ptr, Step

COMBINES = ("add", "mul", "max", "min", "and", "or", "argmax", "argmin")

SHORT = 16  # up to this many elements are folded one after another
NARROW = 64  # up to this many columns their number is part of the code
WIDEST = 16  # lanes of the widest vectors: columns in this number, or a multiple, leave none empty
MANY_ROWS = 64  # that repay folding some side by side, and then what they come to
TILE = 16384  # elements
MOST_STEPS = 4096  # additions to one accumulator before a result must become a partial one
ENOUGH_TILES = 32  # for every thread to have several


class Reduce(NamedTuple):
    """``out[kept] = combine over the axes of node``."""

    node: int
    combine: str
    out: Layout


def fold_plan(
    loop_shape: tuple[int, ...],
    ins: Sequence[Layout],
    nodes: Sequence[tuple],
    folds: Sequence[Reduce],
    axes: tuple[int, ...],
    extra: Sequence[tuple[Layout, int]] = (),
    enough_tiles: int = ENOUGH_TILES,
) -> KernelPlan:
    """Steps that compute ``out[kept] = combine over axes of node_value(ins[...][i])`` for i in ``loop_shape``.

    ``ins`` and ``nodes`` are those of `emit.map_plan`; ``combine`` of each fold is add, mul, max, min (NaN wins), and,
    or (of bools and integers, bitwise), argmax or argmin (over one axis; the first of equals, and the first NaN wins).
    Its ``out`` is ``Ptr("out", j)`` and has the kept axes in order; the result is converted to its dtype.  ``extra``
    are element-wise results (layout of loop_shape, node) written by the same loop, from ``Ptr("out", len(folds))`` on.
    A reduction is cut into chunks if it makes fewer than ``enough_tiles`` without.  Sums of integers wrap in their own
    dtype; a reduction over no elements gives the identity (0, 1, -inf, ...).

    >>> from fgrad.kernels.cpu.driver import from_plan
    >>> x, y = Layout.contiguous(np.float32, (2, 3)), Layout.contiguous(np.float32, (3,))
    >>> plan = fold_plan((2, 3), [x], [("load", 0)], [Reduce(0, "add", y), Reduce(0, "max", y)], (0,))
    >>> from_plan(plan, [x], [y, y])(np.arange(6, dtype=np.float32).reshape(2, 3))
    (array([3., 5., 7.], dtype=float32), array([3., 4., 5.], dtype=float32))
    """
    loop_shape = tuple(loop_shape)
    kept = tuple([n for a, n in enumerate(loop_shape) if a not in axes])
    in_shape = all([layout.shape == loop_shape for layout in [*ins, *[layout for layout, _ in extra]]])
    nodes, dtypes = list(nodes), [layout.dtype for layout in ins]
    results = []
    for j, (node, combine, out) in enumerate(folds):
        if combine not in COMBINES:
            raise ValueError(f"fold_plan: combine must be one of {COMBINES}, got {combine!r}. Choose one of them.")
        if out.shape != kept or not in_shape:
            raise ValueError(
                f"fold_plan: inputs must have the loop's shape and out the kept axes', got {loop_shape} without {axes} "
                f"= {kept}, out {out.shape}, inputs {[x.shape for x in ins]}. Broadcast the inputs."
            )
        index, held = None, out.dtype
        if combine.startswith("arg"):
            if len(axes) != 1:
                raise ValueError(f"fold_plan: {combine} takes one axis, got {axes}. Reshape the others into it.")
            held, index = dtype_of_node(nodes, node, dtypes), len(nodes)
            nodes.append(("iota", axes[0], "int64"))
        results.append(_Result(node, index, combine, accumulator(held), out, Ptr("out", j)))
    sources = [(layout, Ptr("in", k)) for k, layout in enumerate(ins)]
    extras = [(layout, Ptr("out", len(results) + j), node) for j, (layout, node) in enumerate(extra)]
    temps: list[int] = []
    steps = _steps(loop_shape, tuple(axes), sources, nodes, results, extras, temps, enough_tiles)
    return KernelPlan(tuple(steps), tuple(temps))


class _Result(NamedTuple):
    """A fold of a node (for arg folds with a node of its index), held in a dtype, and where it goes."""

    node: int
    place: int | None
    combine: str
    held: np.dtype
    out: Layout
    pointer: Ptr

    def partial(self) -> list[np.dtype]:
        """What a chunk of the reduction leaves behind."""
        return [self.held] if self.place is None else [self.held, INDEX]


def _steps(
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    ins: Sequence[tuple[Layout, Ptr]],
    nodes: Sequence[tuple],
    results: Sequence[_Result],
    extras: Sequence[tuple[Layout, Ptr, int]],
    temps: list[int],
    enough_tiles: int,
) -> list[Step]:
    """One step, or if the reduction is cut into chunks the steps that also fold their partial results.

    Appends the sizes of the partial results to ``temps``.
    """
    iotas = sorted({node[1] for node in nodes if node[0] == "iota"})
    streams = [*[(layout, pointer) for layout, pointer, _ in extras], *ins]
    kept_shape, repeat = results[0].out.shape, 1
    if not iotas:
        repeat = _repeats(shape, axes, [layout for layout, _ in streams])
    if repeat > 1:
        shape, axes = (math.prod(shape) // (math.prod(kept_shape) * repeat), repeat, *kept_shape), (0,)
        streams = [(_reshaped(layout, shape), pointer) for layout, pointer in streams]
    kept_axes = [a for a in range(len(shape)) if a not in axes]
    partial_shape = tuple([shape[a] for a in kept_axes])

    def spread(strides: tuple[int, ...]) -> tuple[int, ...]:
        """Strides of a result over the whole loop: 0 along reduced axes."""
        along = [0] * len(shape)
        for a, stride in zip(kept_axes, strides):
            along[a] = stride
        return tuple(along)

    # the operands of the nest: a packed result, the results, extra results and inputs, loop indices
    strides = [spread(contiguous_strides(partial_shape))]
    strides += [spread(r.out.strides) if repeat == 1 else strides[0] for r in results]
    first = len(strides)
    strides += [layout.strides for layout, _ in streams]
    strides += [tuple([int(a == axis) for a in range(len(shape))]) for axis in iotas]
    form, kept, reduced, column = _nest(shape, strides, axes, slice(first, first + len(streams)))
    loops = [*kept, *reduced, column]

    def iota_axis(axis: int) -> int | None:
        k = first + len(streams) + iotas.index(axis)
        return next((a for a, loop in enumerate(loops) if loop.strides[k]), None)

    read = read_nodes(nodes, iota_axis)
    weight = weight_of(read)
    words, chunks, tiles, elements = _cut(form, kept, reduced, column, max(TILE // weight, 2048), enough_tiles)
    args: list[int | Ptr] = list(words)
    along = list(zip(*[axis.strides for axis in loops]))  # of an operand, along all axes
    along_kept = list(zip(*[axis.strides for axis in (*kept, column)]))

    def operand(dtype: np.dtype, pointer: Ptr, offset: int, strides: tuple[int, ...]) -> Operand:
        """Of an operand that moves so; writes its words."""
        step = step_of(strides[-1])
        args.extend(operand_args(pointer, dtype.itemsize, offset, strides, step))
        return nest.operand(dtype, step)

    # each goes to its result, or one partial result (two for arg folds) a chunk to a temporary
    count = math.prod(partial_shape)
    partials: list[tuple[Layout, Ptr]] = []
    folds = []
    for j, r in enumerate(results):
        targets: list[Operand | None] = []
        if chunks * repeat == 1:
            targets.append(operand(r.out.dtype, r.pointer, r.out.offset, along_kept[1 + j]))
            args.append(0)
        else:
            for dtype in r.partial():
                pointer = Ptr("tmp", len(temps))
                temps.append(chunks * count * dtype.itemsize)
                partials.append((Layout.contiguous(dtype, (chunks * repeat, *kept_shape)), pointer))
                targets.append(operand(dtype, pointer, 0, along_kept[0]))
                args.append(count)
        if len(targets) == 1:  # an arg fold's only result is the index
            targets = [*targets, None] if r.place is None else [None, *targets]
        folds.append(Folded(r.combine, r.node, r.place, dtype_name(r.held), *targets))
    operands = [
        operand(layout.dtype, pointer, layout.offset, strides)
        for (layout, pointer), strides in zip(streams, along[first:])
    ]

    sizes: tuple[int, ...] = ()
    apart: tuple[int, ...] = ()
    if form == "short":
        sizes = tuple([axis.extent for axis in (*reduced, column)])
        near = max(map(abs, kept[0].strides[1:])) <= 4 * SHORT
        if len(kept) == 1 and near and weight > 2:  # a gather costs more than one rule saves
            apart = kept[0].strides[1 : first + len(streams)]
    elif form == "column" and column.extent <= NARROW:
        sizes = (column.extent,)
    long = form == "column" or math.prod([axis.extent for axis in (*reduced, column)]) > FLUSH * UNROLL * LANES
    spec = FoldSpec(
        form, long, len(kept), len(reduced), sizes, tuple(operands[len(extras) :]), read, tuple(folds),
        tuple(operands[: len(extras)]), tuple([n for *_, n in extras]), apart,
    )  # fmt: skip
    grain = max(1, 65536 // (max(elements, 1) * weight))
    note = f"{' '.join([r.combine for r in results])}{list(shape)} over {list(axes)}"
    steps = [Step(spec, tuple(args), tiles, grain, note)]
    if chunks * repeat == 1:
        return steps
    again, k = [], 0
    for r in results:
        again.append(r._replace(node=k, place=None if r.place is None else k + 1))
        k += len(r.partial())
    loads = [("load", k) for k in range(len(partials))]
    return steps + _steps((chunks * repeat, *kept_shape), (0,), partials, loads, again, (), temps, enough_tiles)


def _reshaped(layout: Layout, shape: tuple[int, ...]) -> Layout:
    found = layout.reshape(shape)
    assert found is not None  # it has no gaps
    return found


def _repeats(shape: tuple[int, ...], axes: tuple[int, ...], streams: Sequence[Layout]) -> int:
    """How many neighbouring rows to fold side by side, each into columns of its own: so many that few columns, which
    fill no vector of a processor, fill some; 1 where the operands do not follow one another so, or rows are few.

    It divides the rows of each element of the first axis, so that the kernel serves batches of all sizes.
    """
    first = len(axes)
    columns = math.prod(shape[first:])
    if columns == 1 or columns % WIDEST == 0 or max(axes, default=0) >= first:
        return 1
    rows = math.prod([shape[a] for a in axes[1:]])
    if rows < MANY_ROWS:
        return 1
    if not all([layout.is_contiguous or not any(layout.strides) for layout in streams]):
        return 1
    return next((count for count in (16, 8, 4, 2) if count * columns <= NARROW and rows % count == 0), 1)


def _nest(
    shape: tuple[int, ...], strides: Sequence[tuple[int, ...]], axes: tuple[int, ...], real: slice
) -> tuple[str, list[Axis], list[Axis], Axis]:
    """The form, the outer kept axes, the outer reduced axes (the last one a plain loop in the column form), the column.

    Every list has at least one axis (of one element), so that a kernel exists once, not once for each that is missing.
    """
    none, no_sum = Axis(1, (0,) * len(strides)), Axis(1, (0,) * len(strides), reduced=True)
    loops = nest.axes_of(shape, strides, axes)
    if len(loops) > 1:
        # axes of one element are left out, so the operand that moves along most of the others decides their order
        rests = [along.count(0) for along in zip(*[axis.strides for axis in loops])]
        by_rank = sorted(range(len(rests))[real], key=rests.__getitem__)
        loops = nest.merged(nest.ordered(loops, [*by_rank, 1]))
    column = loops[-1] if loops else none
    if len(loops) > 1:
        near = [axis.strides[real].count(0) + axis.strides[real].count(1) for axis in loops]
        column = loops[max(reversed(range(len(loops))), key=near.__getitem__)]
    kept = [axis for axis in loops if not axis.reduced and axis is not column]
    reduced = [axis for axis in loops if axis.reduced and axis is not column]
    if not column.reduced and (reduced or column.extent != 1):
        return "column", kept or [none], [no_sum] * (2 - len(reduced)) + reduced, column
    elements = math.prod([axis.extent for axis in [*reduced, column]])
    alone = all([axis.extent == 1 for axis in kept])  # as a mean loss: no row beside it, and its length is a batch's
    form = "short" if elements <= SHORT and not alone else "row"
    return form, kept or [none], reduced or [no_sum], column


def _cut(
    form: str, kept: Sequence[Axis], reduced: Sequence[Axis], column: Axis, most: int, enough_tiles: int
) -> tuple[list[int], int, int, int]:
    """Words of the tiling, chunks of the reduction, tiles (chunks included), elements of a tile."""
    kept_total = math.prod([axis.extent for axis in kept])
    if form == "column":
        outer_axes, inner, columns = reduced[:-1], reduced[-1].extent, column.extent
    else:
        outer_axes, inner, columns = reduced, column.extent, 1
    outer = math.prod([axis.extent for axis in outer_axes])
    work = outer * inner * columns
    lanes = 1 if form == "column" else LANES
    steps = outer * -(-inner // lanes)
    blocks = -(-columns // BLOCK)

    kept_most, column_most, outer_size, inner_size = 1, columns, max(outer, 1), max(inner, 1)
    if work <= 2 * most:
        kept_most = max(1, most // max(work, 1))
    elif kept_total * blocks >= enough_tiles and steps <= MOST_STEPS:
        column_most = max(BLOCK, most // steps)
    else:
        column_most = min(columns, 4 * BLOCK)
        chunk = min(max(2 * most // column_most, 64), MOST_STEPS * lanes)
        if chunk < inner:
            outer_size, (inner_size, _) = 1, nest.even_cut(inner, chunk, UNROLL * lanes)
        else:
            outer_size = min(outer, max(1, min(chunk // inner, MOST_STEPS // -(-inner // lanes))))
    kept_size, kept_tiles = nest.even_cut(kept_total, kept_most, 1)
    column_size, column_tiles = nest.even_cut(columns, max(column_most, 1), BLOCK)
    outer_chunks, inner_chunks = max(1, -(-outer // outer_size)), max(1, -(-inner // inner_size))
    chunks = outer_chunks * inner_chunks

    words = [kept_size, kept_total, *[axis.extent for axis in kept[1:]]]
    if form == "column":
        words += [column_size, column_tiles, columns]
    words += [outer_size, outer, chunks, inner_size, inner_chunks, inner, *[axis.extent for axis in outer_axes[1:]]]
    elements = kept_size * column_size * outer_size * inner_size
    return words, chunks, kept_tiles * column_tiles * chunks, elements
