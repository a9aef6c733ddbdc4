"""Fused element-wise kernels: one loop nest that reads inputs, evaluates scalar rules and writes results.

A plan has two parts.  The *spec* is structure only (dtypes, the expression, how each operand steps along the innermost
loop) and is what gets compiled; extents, strides and addresses are words of the argument block.  So a new batch size
compiles nothing.

The nest has at most three levels: ``outer`` (all remaining axes as one index), ``row`` and ``column`` (innermost).
A tile is a box ``outer range x row range x column range``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fgrad.kernels.cpu import nest
from fgrad.kernels.cpu.body import Node, Spec, Stream, evaluate, operand_args, read_nodes, weight_of
from fgrad.kernels.cpu.folds import Reduce, fold_plan
from fgrad.kernels.cpu.irtext import unravel
from fgrad.kernels.cpu.nest import Axis, Operand, step_of
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value
from fgrad.kernels.layout import Layout
from fgrad.kernels.plan import KernelPlan, Ptr, Step

__all__ = ["MapSpec", "Reduce", "fold_plan", "map_plan"]

SHORT = 32  # iterations of an innermost loop that is not worth unrolling
CYCLE = 512  # elements of an operand that a kernel copies side by side, at most
TRANSPOSED_TILE = (64, 64)  # rows x columns where one operand is contiguous along rows and another along columns


def map_plan(
    loop_shape: tuple[int, ...], ins: Sequence[Layout], nodes: Sequence[tuple], results: Sequence[tuple[Layout, int]]
) -> KernelPlan:
    """One step that computes ``result_j[i] = node_j(ins[...][i])`` for every index i of ``loop_shape``.

    Every layout has ``loop_shape`` as its shape (a broadcast operand has stride 0).  Input k is ``Ptr("in", k)`` and
    result j is ``Ptr("out", j)``; layouts hold offsets from there.  A result may be an input in place (same layout).
    ``nodes`` are in order, operands before users::

        ("load", k)                          input k
        ("const", value, dtype)              a Python scalar
        ("iota", axis, dtype)                the loop index along an axis of loop_shape
        ("map", rule, params, operands)      rule(s, *values, **dict(params)); params a tuple of (name, value)

    and ``results`` are (layout, node) pairs, the node's value having the layout's dtype.

    >>> from fgrad.kernels.cpu.driver import from_plan
    >>> import numpy as np
    >>> def relu(s, x):
    ...     return s.max(x, s.const(0, x.dtype))
    >>> x = Layout.contiguous(np.float32, (2, 3))
    >>> plan = map_plan((2, 3), [x], [("load", 0), ("map", relu, (), (0,))], [(x, 1)])
    >>> from_plan(plan, [x], [x])(np.float32([[-1, 2, -3], [4, -5, 6]]))[0]
    array([[0., 2., 0.],
           [4., 0., 6.]], dtype=float32)
    """
    layouts = [*[layout for layout, _ in results], *ins]
    for layout in layouts:
        if layout.shape != loop_shape:
            raise ValueError(f"map_plan: layouts must have the loop's shape {loop_shape}, got {layout}. Broadcast it.")
    iotas = sorted({node[1] for node in nodes if node[0] == "iota"})
    units = [tuple([int(a == axis) for a in range(len(loop_shape))]) for axis in iotas]
    axes, transposed = _nest(loop_shape, [layout.strides for layout in layouts] + units, len(results), len(layouts))
    period, repeats = axes[-1].extent, 1 if iotas else _repeats(axes, loop_shape)  # loop indices are of true rows
    if repeats > 1:
        axes = _repeated(axes, repeats)

    def iota_axis(axis: int) -> int | None:
        k = len(layouts) + iotas.index(axis)
        return next((a for a, loop in enumerate(axes) if loop.strides[k]), None)

    read = read_nodes(nodes, iota_axis)
    weight = weight_of(read)
    words, extent, tile = _cut(axes, transposed, max(16384 // weight, 1024))
    args: list[int | Ptr] = list(words)
    operands = []
    along = zip(*[axis.strides for axis in axes])  # of an operand, along all axes
    if repeats > 1:
        args += (period, repeats)
    for k, (layout, strides) in enumerate(zip(layouts, along)):
        pointer = Ptr("out", k) if k < len(results) else Ptr("in", k - len(results))
        cycles = repeats > 1 and strides[-1] != 0 == strides[0]
        step = "cycle" if cycles else step_of(strides[-1])
        operands.append(nest.operand(layout.dtype, step))
        args += operand_args(pointer, layout.dtype.itemsize, layout.offset, strides, step)
    outs, loads = tuple(operands[: len(results)]), tuple(operands[len(results) :])
    stored = tuple([node for _, node in results])
    spec = MapSpec(len(axes), loads, read, outs, stored, len(axes) > 1 and axes[-1].extent <= SHORT)
    grain = max(1, 65536 // (tile * weight))
    return KernelPlan((Step(spec, tuple(args), extent, grain, f"map{list(loop_shape)}"),))


def _nest(
    shape: tuple[int, ...], strides: Sequence[tuple[int, ...]], n_results: int, n_layouts: int
) -> tuple[list[Axis], bool]:
    """The loops, outermost first, and whether operands disagree on the contiguous axis.

    Innermost is the axis along which most operands are contiguous or constant, a result counting twice.
    """
    axes = nest.axes_of(shape, strides)
    if len(axes) > 1:
        axes = nest.merged(nest.ordered(axes, range(len(strides))))
    if not axes:
        return [Axis(1, (0,) * len(strides))], False
    if len(axes) == 1:
        return axes, False

    def score(axis: Axis) -> int:
        strides, outs = axis.strides[:n_layouts], axis.strides[:n_results]
        return strides.count(0) + strides.count(1) + outs.count(0) + outs.count(1)

    best = max(reversed(axes), key=score)
    rest = [axis for axis in axes if axis is not best]
    astray = [k for k in range(n_layouts) if best.strides[k] not in (0, 1, -1)]
    rows = [axis for axis in rest if any([abs(axis.strides[k]) == 1 for k in astray])]
    rest = [axis for axis in rest if axis not in rows[:1]] + rows[:1]
    return [*rest, best], bool(rows)


def _repeats(axes: Sequence[Axis], shape: tuple[int, ...]) -> int:
    """How many rows of few columns are walked through as one: their operands follow one another, or begin again with
    each row (a bias), of which the kernel then holds so many copies; 1 where that cannot be or does not repay it.

    It divides the rows of each element of the loop's first axis, so that the kernel serves batches of all sizes.
    """
    if len(axes) != 2 or axes[1].extent > SHORT or 0 in shape or axes[0].extent % shape[0]:
        return 1
    rows, columns = axes
    for across, along in zip(rows.strides, columns.strides):
        if across != 0 and (along != 1 or across != columns.extent):
            return 1
    each = rows.extent // shape[0]
    most = min(CYCLE // columns.extent, each // 4)
    return next((count for count in range(most, SHORT // columns.extent, -1) if each % count == 0), 1)


def _repeated(axes: Sequence[Axis], count: int) -> list[Axis]:
    rows, columns = axes
    across = tuple([stride * count for stride in rows.strides])
    return [Axis(rows.extent // count, across), columns._replace(extent=columns.extent * count)]


def _cut(axes: Sequence[Axis], transposed: bool, most: int) -> tuple[list[int], int, int]:
    """Words of the tiling, number of tiles, elements in a tile.

    Words, innermost level first: columns (in a tile, tiles, in all), then rows likewise, then the outer index likewise
    with the extents of its axes but the first.
    """
    extents = [axis.extent for axis in axes]
    columns, rows, outer = extents[-1], extents[-2] if len(extents) > 1 else 1, 1
    for extent in extents[:-2]:
        outer *= extent
    if transposed:
        (row_most, column_most) = TRANSPOSED_TILE
    else:
        column_most = most
        row_most = max(1, most // max(columns, 1))
    column_size, column_tiles = nest.even_cut(columns, column_most, 64)
    row_size, row_tiles = nest.even_cut(rows, row_most, 1)
    outer_size, outer_tiles = nest.even_cut(outer, max(1, most // (column_size * row_size)), 1)
    words = [column_size, column_tiles, columns]
    if len(extents) > 1:
        words += [row_size, row_tiles, rows]
    if len(extents) > 2:
        words += [outer_size, outer, *extents[1:-2]]
    return words, column_tiles * row_tiles * outer_tiles, column_size * row_size * outer_size


@dataclass(frozen=True)
class MapSpec(Spec):
    """``loops`` kernel axes, the inputs, the expression, and the results with the node each of them stores; ``short``:
    the innermost loop has few iterations (a bias of six features), which one masked step may do at once.
    """

    loops: int
    ins: tuple[Operand, ...]
    nodes: tuple[Node, ...]
    outs: tuple[Operand, ...]
    stored: tuple[int, ...]
    short: bool

    def write(self, s: Scalar) -> None:
        code = s.code
        column_size, column_tiles, columns = code.words(3)
        row_size, row_tiles, rows = code.words(3) if self.loops > 1 else ("1", "1", "1")
        outer_size, outers = code.words(2) if self.loops > 2 else ("1", "1")
        extents = code.words(max(0, self.loops - 3))
        period, repeats = code.words(2) if any([operand.step == "cycle" for operand in self.ins]) else ("0", "0")
        outs = [Stream(code, operand, self.loops - 1) for operand in self.outs]
        ins = [Stream(code, operand, self.loops - 1) for operand in self.ins]
        every = outs + ins
        copies = self._copies(s, ins, period, repeats)

        with code.loop("%begin", "%end") as tile:
            tile, column_tile = code.divmod(tile, column_tiles)
            outer_tile, row_tile = code.divmod(tile, row_tiles) if self.loops > 1 else ("0", "0")
            low, high = _range(code, column_tile, column_size, columns)
            row_low, row_high = _range(code, row_tile, row_size, rows)
            outer_low, outer_high = _range(code, outer_tile, outer_size, outers)

            def columns_at(coordinates: list[str], starts: list[str]) -> None:
                """The innermost loop; what is constant along it is read before it."""
                held = {
                    k: s.load(x.dtype, x.along(start, "0"), group=False)
                    for k, (x, start) in enumerate(zip(ins, starts[len(outs) :]))
                    if x.step == "zero"
                }
                with code.loop(low, high, kind="lean" if self.short else "parallel") as column:

                    def load(k: int) -> Value:
                        x = ins[k]
                        if k in copies:
                            return s.load(x.dtype, code.element(x.memory, copies[k], column), True)
                        return held[k] if k in held else s.load(x.dtype, x.along(starts[len(outs) + k], column), True)

                    values = evaluate(s, self.nodes, load, lambda axis: [*coordinates, column][axis])
                    for out, start, node in zip(outs, starts, self.stored):
                        s.store(s.cast(values[node], out.dtype), out.along(start, column), group=True)

            def rows_at(coordinates: list[str], starts: list[str]) -> None:
                with code.loop(row_low, row_high) as row:
                    first = len(coordinates)
                    inner = [x.offset(start, [row], first) for x, start in zip(every, starts)]
                    columns_at([*coordinates, row], inner)

            zeros = ["0"] * len(every)
            if self.loops == 1:
                columns_at([], zeros)
            elif self.loops == 2:
                rows_at([], zeros)
            else:
                with code.loop(outer_low, outer_high) as outer:
                    coordinates = unravel(code, outer, extents)
                    rows_at(coordinates, [x.offset("0", coordinates, 0) for x in every])

    def _copies(self, s: Scalar, ins: Sequence[Stream], period: str, repeats: str) -> dict[int, str]:
        """Of each operand that begins again with each row: its columns, over and over."""
        code = s.code
        copies = {k: code.array(x.memory, CYCLE) for k, x in enumerate(ins) if x.step == "cycle"}
        for k, copy in copies.items():
            with code.loop("0", repeats) as row, code.loop("0", period) as column:
                value = s.load(ins[k].dtype, ins[k].along("0", column), group=False)
                to = code.element(ins[k].memory, copy, code.add(code.mul(row, period), column))
                s.store(value, to, group=False)
        return copies


def _range(code, tile: str, size: str, extent: str) -> tuple[str, str]:
    """The part of ``range(extent)`` that belongs to a tile."""
    if extent == "1":
        return "0", "1"
    low = code.mul(tile, size)
    return low, code.minimum(code.add(low, size), extent)
