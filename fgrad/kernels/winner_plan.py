"""Plans for reading elements at the taps that windows chose (`gather_winners`), and for its transpose.

Gathering, each output reads one of the elements under its window.  Scattering is done from the other end: with the
roles of operand and result exchanged (`_exchanged`), an output is an element that windows slide over, and what it
sees are windows, of which it adds up those that chose the tap by which they see it.  So each element is written once,
in a fixed order of additions, and no zeros are stored before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fgrad.kernels.builder import PlanBuilder, accumulator, start, sums
from fgrad.kernels.layout import Layout, contiguous_strides, dtype_name
from fgrad.kernels.plan import KernelPlan, Ptr
from fgrad.kernels.window_axes import Axis, Cells, Rows, Window, alike, cells, rows_of, window_axes
from fgrad.kernels.window_plan import MOST_GROUPS, TILE, padded, walk_args, worth_unrolling

if TYPE_CHECKING:
    from fgrad.kernels.cpu.chosencode import ChosenSpec

Pairs = Sequence[tuple[int, int]]
Pointers = tuple[Ptr, Ptr, Ptr]  # data, taps, result

#: Outputs and terms of an emitted cell.
MOST_TERMS = 36


def plan_gather_winners(
    ins: Sequence[Layout],
    outs: Sequence[Layout],
    *,
    window_dimensions: tuple[int, ...],
    window_strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    base_dilation: tuple[int, ...],
    window_dilation: tuple[int, ...],
) -> KernelPlan:
    """Steps for `reference.gather_winners`."""
    window: Window = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
    numbers = [(0, each) for each in contiguous_strides(window_dimensions)]
    return _plan(ins, outs[0], window, numbers, [(stride, 0) for stride in ins[1].strides], _gather)


def plan_scatter_winners(
    ins: Sequence[Layout],
    outs: Sequence[Layout],
    *,
    shape: tuple[int, ...],
    window_dimensions: tuple[int, ...],
    window_strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    base_dilation: tuple[int, ...],
    window_dilation: tuple[int, ...],
) -> KernelPlan:
    """Steps for `reference.scatter_winners`."""
    window: Window = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
    return _plan(ins, outs[0], *_exchanged(window), [(0, stride) for stride in ins[1].strides], _scatter)


def _exchanged(window: Window) -> tuple[Window, list[tuple[int, int]]]:
    """The window through which an element sees the windows that see it, and the numbers of its taps.

    p s + t w = lo + i b is p s = i b + u w - ((k - 1) w - lo) with u = k - 1 - t: strides and base dilation have
    changed places, and taps count backwards.
    """
    sizes, steps, padding, base, dilation = window
    low = tuple([((k - 1) * w - lo, 0) for k, w, (lo, _) in zip(sizes, dilation, padding)])
    numbers = [((k - 1) * each, -each) for k, each in zip(sizes, contiguous_strides(tuple(sizes)))]
    return (sizes, base, low, steps, dilation), numbers


def _plan(
    ins: Sequence[Layout], out: Layout, window: Window, numbers: Pairs, beside: Pairs, emitted: Callable[..., bool]
) -> KernelPlan:
    """16-bit floats are added in float32."""
    x, taps = ins
    builder = PlanBuilder()
    if out.size == 0:
        return builder.plan()
    source, x = builder.converted(Ptr("in", 0), x, accumulator(x.dtype))
    target = Ptr("out", 0) if x.dtype == out.dtype else builder.temp(out.size * x.dtype.itemsize)
    axes = window_axes(x.shape, x.strides, out.shape, window, numbers, beside)
    pointers = start(source, x), start(Ptr("in", 1), taps), target
    if not (worth_unrolling(x.dtype, axes) and emitted(builder, pointers, x.dtype, taps.dtype, axes)):
        args, extent = walk_args(builder, source, x, target, axes, 0)
        kernel = f"reduce_window_chosen_{dtype_name(x.dtype)}_{dtype_name(taps.dtype)}"
        builder.step(kernel, (*args, pointers[1], *axes[-1].beside), extent, "elements at chosen taps")
    if x.dtype != out.dtype:
        builder.cast(target, Layout.contiguous(x.dtype, out.shape), Ptr("out", 0), out)
    return builder.plan()


def _gather(
    builder: PlanBuilder, pointers: Pointers, dtype: np.dtype, tap_dtype: np.dtype, axes: Sequence[Axis]
) -> bool:
    """Outputs that meet the same taps are one step, unless there are too many kinds of them."""
    groups = list(itertools.product(*map(alike, axes)))
    if len(groups) > MOST_GROUPS:
        return False
    from fgrad.kernels.cpu.chosencode import ChosenSpec  # loads the emitter

    strides = _strides(axes, 0)
    for group in groups:
        rows = rows_of(
            [
                (g.inputs[0] * a if g.inputs.size else 0, g.first * b, g.first * c)
                for g, (a, b, c) in zip(group, strides)
            ],
            [(g.input_step * a, g.step * b, g.step * c) for g, (a, b, c) in zip(group, strides)],
            [part.length for part in group],
        )
        offsets = sums([(part.inputs - part.inputs[:1]) * a for part, (a, _, _) in zip(group, strides)])
        numbers = sums([part.numbers for part in group])
        again = padded(len(offsets))
        terms = (tuple((k, 0) for k in range(len(again))),)
        names = dtype_name(dtype), dtype_name(tap_dtype)
        spec = ChosenSpec(*names, len(again), min(len(again), 1), terms, False, rows.unit, _at_once(rows, dtype))
        _step(builder, pointers, spec, rows, [*offsets[again].tolist(), *[0] * spec.taps, 0, *numbers[again].tolist()])
    return True


def _scatter(
    builder: PlanBuilder, pointers: Pointers, dtype: np.dtype, tap_dtype: np.dtype, axes: Sequence[Axis]
) -> bool:
    """A cell is as many outputs as a stride has, which see the same windows: each is loaded once for all of them."""
    by_axis = [cells(axis, MOST_TERMS) for axis in axes]
    if not all(by_axis) or math.prod(map(len, by_axis)) > MOST_GROUPS:
        return False
    groups = [(group, _terms(group)) for group in itertools.product(*by_axis)]
    if any([max(len(terms), sum(map(len, terms))) > MOST_TERMS for _, terms in groups]):
        return False
    from fgrad.kernels.cpu.chosencode import ChosenSpec  # loads the emitter

    strides = _strides(axes, 1)
    for group, terms in groups:
        rows = rows_of(
            [(s * a, s * b, g.first * c) for g, (a, b, c) in zip(group, strides) for s in (g.sources or [0])[:1]],
            [(g.input_step * a, g.input_step * b, g.step * c) for g, (a, b, c) in zip(group, strides)],
            [part.length for part in group],
        )
        apart = [np.array([s - g.sources[0] for s in g.sources], np.int64) for g in group]
        data, taps = [sums([s * stride[k] for s, stride in zip(apart, strides)]) for k in (0, 1)]
        outs = sums([np.arange(len(g.terms)) * c for g, (_, _, c) in zip(group, strides)])
        spec = ChosenSpec(
            dtype_name(dtype), dtype_name(tap_dtype), len(data), len(taps),
            tuple([tuple([(s, s) for s, _ in of_output]) for of_output in terms]), True, rows.unit,
            _at_once(rows, dtype),
        )  # fmt: skip
        words = [*data.tolist(), *taps.tolist(), *outs.tolist(), *[n for of_output in terms for _, n in of_output]]
        _step(builder, pointers, spec, rows, words)
    return True


def _at_once(rows: Rows, dtype: np.dtype) -> int:
    from fgrad.kernels.cpu.windowcode import lanes_at_once

    return lanes_at_once(rows.lanes, rows.unit, dtype.itemsize)


def _strides(axes: Sequence[Axis], of_input: int) -> list[tuple[int, int, int]]:
    """Of the data, of the taps and of the result along each axis."""
    out = contiguous_strides(tuple([axis.out_size for axis in axes]))
    return [(axis.stride, axis.beside[of_input], step) for axis, step in zip(axes, out)]


def _terms(group: Sequence[Cells]) -> list[list[tuple[int, int]]]:
    """The terms of each output of a cell in all axes, the sources numbered in row-major order."""
    terms = [[(0, 0)]]
    for part in group:
        terms = [
            [
                (s * len(part.sources) + source, -1 if -1 in (n, number) else n + number)
                for s, n in of_outer
                for source, number in of_output
            ]
            for of_outer in terms
            for of_output in part.terms
        ]
    return terms


def _step(builder: PlanBuilder, pointers: Pointers, spec: ChosenSpec, rows: Rows, words: Sequence[int]) -> None:
    tile = rows.tile(sum(map(len, spec.terms)), TILE)
    args = [
        *pointers, builder.table(rows.table), len(rows.table), rows.total, tile, *rows.repeat, rows.lanes,
        *rows.lane_words, *words,
    ]  # fmt: skip
    builder.step(spec, args, -(-rows.total // tile), "elements at chosen taps")
