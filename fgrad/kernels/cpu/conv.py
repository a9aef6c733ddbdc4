"""Plans `conv_general_dilated`: loop nests over the one batch-reduce product of `gemm_plan`.

*Forward nest* (also the input gradient): rows are output pixels, columns output features, and the reduction runs over
taps s and features c.  Pixels are grouped by the taps that meet real input elements, so that no zero, of a border or
inserted by lhs_dilation, is stored or multiplied; where that leaves groups too small, padding is a table entry that
reads zeros.

*Window nest* (the weight gradient conv(Xᵀ, dilate(dYᵀ))): rows are (output pixel, lhs batch element), columns output
features, and the reduction runs over features g and the window (s, c), clipped for each pixel to what lies inside the
input.  Chosen when the window has more positions than the result and the input is denser along it than along features.

*Chunk nest* (`conv_chunks`): the window nest of large gradients, whose operands are packed chunk by chunk.

*Tap nest*: the window nest with rows and columns exchanged: where the result has few features, pixels along the last
dimension and lhs batch elements, adjacent in the input, fill vectors better.

*Pixel nest*: the forward nest with rows and columns exchanged, where vectors of output features would be mostly empty
and those of pixels along the last dimension are not.

*Lane nest* (depthwise, and its gradients): where each group has one output feature, the groups are the lanes of
vectors.  It has kernels of its own, `lane_lines`, or, where the window is longer than the result, `lane_window`; the
rest are products whose rows are output pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fgrad.kernels.builder import ZERO, PlanBuilder, start, sums
from fgrad.kernels.cpu import conv_chunks, gemm_tiles, lane_lines, lane_window
from fgrad.kernels.cpu.conv_geometry import Dim, Geometry, geometry
from fgrad.kernels.cpu.conv_places import (
    columns_of,
    copied_lines,
    joined_records,
    records_of,
    sizes_of,
    tap_offsets,
    window_records,
)
from fgrad.kernels.cpu.epilogue import Epilogue
from fgrad.kernels.cpu.gemm_plan import (
    Operand,
    Product,
    blocks_of,
    even_run,
    fill_zeros,
    folds_of,
    pack,
    plan_in_compute_dtype,
    plan_product,
    repays_epilogue,
)
from fgrad.kernels.cpu.gemm_records import Record, joined
from fgrad.kernels.layout import Layout
from fgrad.kernels.plan import KernelPlan, Ptr

#: With so few features (or rows of the window nest) a padded copy of the input costs less than short runs do.
FEW = 8
#: Multiply-adds of a result that repay storing it by way of a buffer, as the pixel nest does.
PIXEL_WORK = 16
#: Of the images that phases of strided gradients read in turn.
PHASES_BYTES = 1 << 18
#: Larger tables of (tap, pixel) are avoided by a padded copy, where offsets are a sum over tap and pixel.
TABLE_LIMIT = 1 << 20


def plan_conv(
    ins: Sequence[Layout],
    outs: Sequence[Layout],
    *,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    epilogue: Epilogue | None = None,
) -> KernelPlan:
    """Steps for ``lax.conv_general_dilated`` (a cross-correlation) over lhs and rhs of any strides.

    ``dimension_numbers`` = (lhs_spec, rhs_spec, out_spec): positions of (batch, feature, *spatial) in lhs and out and
    of (out feature, in feature, *spatial) in rhs; padding may be negative.  The result's dtype has a kernel (float32,
    float64, int32 and int64) or is computed in one that has (`plan_in_compute_dtype`), as are the operands.
    """
    return plan_in_compute_dtype(
        _plan, ins, outs, epilogue, window_strides=window_strides, padding=padding, lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation, dimension_numbers=dimension_numbers, feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
    )  # fmt: skip


def _plan(builder: PlanBuilder, a: Ptr, b: Ptr, out: Ptr, ins, outs, **params) -> None:
    lhs, rhs = ins
    (result,) = outs
    dtype, size = result.dtype, result.size
    if size == 0:
        return
    out = start(out, result)
    if 0 in lhs.shape or 0 in rhs.shape:
        return fill_zeros(builder, out, size, dtype)
    a, b = start(a, lhs), start(b, rhs)
    geo = geometry(lhs, rhs, result, **params)
    dense = size if result.is_contiguous else 0
    if geo.columns == 1 and len(geo.batches) > 1 and (geo.batches[1, 0] == 1 or 1 in (geo.rows, geo.features)):
        return _lane_nest(builder, dtype, a, b, out, geo, dense)
    last = geo.dims[-1]
    along_window = abs(last.lhs_stride * last.tap_step() * last.rhs_dilation // last.lhs_dilation)
    if geo.window > geo.pixels and along_window < abs(geo.lhs_feature):
        if _fills_with_taps(geo, dtype.itemsize):
            nest = _tap_nest
        elif tile := conv_chunks.choose(geo, dtype.itemsize):
            return conv_chunks.chunk_nest(builder, dtype, a, b, out, geo, dense, tile)
        else:
            nest = _window_nest
    else:
        repays_epilogue(builder, geo.columns, dtype.itemsize)  # asked now: planning takes longer
        nest = _pixel_nest if _fills_with_pixels(geo, dtype.itemsize) else _forward_nest
    nest(builder, dtype, a, b, out, geo, dense)


def _padded_copy(
    builder: PlanBuilder,
    dtype,
    a: Ptr,
    dims: Sequence[Dim],
    images: int,
    image: int,
    features: int,
    feature: int,
    planes: int = 1,
    plane: int = 0,
) -> tuple[Ptr, tuple[Dim, ...], int]:
    """A copy [images][planes][*spatial][features] with its border of zeros: pointer, dimensions, stride of a plane."""
    size = dtype.itemsize
    extents = [d.extent() for d in dims]
    shape = [end - first for first, end in extents]
    last, (first, end) = dims[-1], extents[-1]
    begin, stop = max(first, 0), min(end, last.size)
    table = copied_lines(tuple(dims), size)
    strides = [features]
    for n in reversed(shape[1:]):
        strides.insert(0, strides[0] * n)
    copy = builder.temp(images * planes * shape[0] * strides[0] * size)
    args = (
        copy, a, builder.table(table), len(table), image * size, shape[-1], begin - first, max(stop - begin, 0),
        last.lhs_stride * size, features, feature * size, planes, plane * size,
    )  # fmt: skip
    line = shape[-1] * features
    builder.step(f"conv_pad_{size}", args, images * planes * len(table), "padded copy", (1 << 14) // max(line, 1))
    padded = tuple(d.padded(stride) for d, stride in zip(dims, strides))
    return copy, padded, shape[0] * strides[0]


def _forward_nest(builder, dtype, a: Ptr, b: Ptr, out: Ptr, geo: Geometry, dense: int) -> None:
    batches, groups = geo.batches, len(geo.batches)
    padded = any(d.is_padded() for d in geo.dims)
    reads = any(d.extent() != (0, 0) for d in geo.dims)
    spread = geo.features > 1 and geo.lhs_feature not in (0, 1)
    few = geo.features <= FEW and groups == 1
    cut = padded and not few and _skips_more(geo)
    tabled = not cut and geo.window * geo.pixels > TABLE_LIMIT
    if reads and (spread or (padded and (few or tabled))):
        # All features of all groups are copied: groups are either further features or further images.
        by_feature = groups > 1 and batches[1, 0] == geo.features * geo.lhs_feature
        features = geo.features * groups if by_feature else geo.features
        images = geo.rows if by_feature else geo.rows * groups
        a, dims, image = _padded_copy(builder, dtype, a, geo.dims, images, geo.lhs_row, features, geo.lhs_feature)
        batches = batches.copy()
        batches[:, 0] = np.arange(groups) * (geo.features if by_feature else geo.rows * image)
        geo = geo._replace(dims=dims, lhs_row=image, lhs_feature=1, batches=batches)
        padded, cut = False, False

    last = geo.dims[-1]
    g_count, run, last_run = blocks_of(geo.features, geo.window * min(geo.columns, 64) * dtype.itemsize)
    stride: int | None
    (inner, stride), a_run, outer = even_run(run, geo.rhs_feature), geo.lhs_feature, geo.dims
    if g_count == 1 and last.window > 1 and _joins(geo) and (cut or not padded):
        # The taps along the last dimension and the features are one run.
        outer, inner = geo.dims[:-1], sums([np.arange(last.window) * last.rhs_stride, inner])
        steps = np.diff(inner)
        stride = int(steps[0]) if (steps == steps[0]).all() else None
        a_run = a_run if geo.features > 1 else last.lhs_stride * last.rhs_dilation
        last_run = len(inner)
        records = joined_records(geo.dims, cut, geo.features)
    else:
        records = records_of(geo.dims, cut, run, last_run)
    taps = sums([np.arange(d.window) * d.rhs_stride for d in outer])
    operand = Operand(b, run * geo.rhs_feature, taps, inner, stride, geo.rhs_column, last_run)
    images = _images_together(geo, dtype.itemsize)
    product = Product(
        dtype=dtype, a=a, b=operand, out=out, columns=geo.columns, out_column=geo.out_column, records=records,
        repeats=images, in_stride=geo.lhs_row, out_stride=geo.out_row, g_count=g_count,
        a_g_stride=run * geo.lhs_feature, a_run=a_run, out_size=dense, batches=_by_images(geo, images),
        note="conv",
    )  # fmt: skip
    plan_product(builder, product)


def _images_together(geo: Geometry, itemsize: int) -> int:
    """Images of which one phase follows the other: all phases read them, so as many as stay in the L2 cache; all images
    where there is one phase, or where their number has no such divisor.
    """
    if all([d.lhs_dilation == 1 for d in geo.dims]):
        return geo.rows
    nbytes = math.prod([d.size for d in geo.dims]) * geo.features * itemsize
    most = min(max(1, PHASES_BYTES // max(nbytes, 1)), geo.rows)
    images = max([n for n in range(1, most + 1) if geo.rows % n == 0])
    return images if 2 * images >= most else geo.rows


def _by_images(geo: Geometry, images: int) -> np.ndarray:
    """The batches, each for so many images after the other."""
    first = np.arange(0, geo.rows, images)[:, None] * (geo.lhs_row, 0, geo.out_row)
    return (first[:, None] + geo.batches).reshape(-1, 3)


def _fills_with_pixels(geo: Geometry, itemsize: int) -> bool:
    """Whether few output features leave vectors emptier than pixels do, neighbours of which read neighbours."""
    machine, last = gemm_tiles.host(), geo.dims[-1]
    lanes = machine.lanes(itemsize)
    if not machine.masks or len(geo.batches) > 1 or not last.in_step() or geo.features * geo.window < PIXEL_WORK:
        return False
    fold = folds_of(geo.rows * geo.pixels, geo.features)[-1]
    if geo.lhs_feature == 1 and geo.features >= FEW and fold > 1 and 2 * geo.columns * fold >= lanes:
        return False  # features, some at a time, fill vectors as well, and all of a pixel lie in one line
    # Without masks the forward nest stores parts of vectors in pieces, as the pixel nest does.
    few = 2 * geo.columns <= lanes if machine.masked_stores else 4 * geo.columns <= 3 * lanes
    pixels, period = last.out, last.period()
    if len(geo.dims) > 1 and geo.dims[-2].in_step():
        pixels *= -(-geo.dims[-2].out // geo.dims[-2].period())
    return few and pixels // period >= lanes // 2


def _pixel_nest(builder, dtype, a: Ptr, b: Ptr, out: Ptr, geo: Geometry, dense: int) -> None:
    """A = weights, a row for each output feature; B = a padded copy [image][feature][*spatial] of the input, read in
    place: a column for each element of a plane, from a phase's first pixel to its last.  Those in a line's border,
    where windows run over into the next line, are computed and not stored.
    """
    a, dims, plane = _padded_copy(
        builder, dtype, a, geo.dims, geo.rows, geo.lhs_row, 1, 0, geo.features, geo.lhs_feature
    )  # fmt: skip
    *outer, last = dims
    features, images, columns = np.arange(geo.features), np.arange(geo.rows), np.arange(geo.columns)
    every = sums([features * geo.rhs_feature, *(np.arange(d.window) * d.rhs_stride for d in outer)])
    weights = Operand(b, 0, every, *even_run(last.window, last.rhs_stride), geo.rhs_column, last.window)
    width = geo.columns  # rows of a tile beyond the last read the next tap's, and are not stored
    b = pack(builder, dtype.itemsize, weights, width, width, beyond=gemm_tiles.MOST_ROWS)
    step = last.tap_step()
    for places, to, source, first, numbers, run in columns_of(dims, geo.features, plane):
        to = sums([images * geo.out_row, to])
        source = sums([images * (geo.features * plane if run else 0), source])
        taps = numbers * width
        record = Record(columns, columns * geo.out_column, taps, np.arange(len(taps)), run, run)
        reads = Operand(a, 0, first, *even_run(run, step * last.rhs_dilation // last.lhs_dilation), 1, run)
        product = Product(
            dtype=dtype, a=b, b=reads, out=out, columns=len(places), out_column=0, places=places,
            records=joined([record]), g_count=1, a_g_stride=0, a_run=step * width, out_size=0, a_rows="adjacent",
            turned=geo.out_column == 1, batches=np.stack([np.zeros_like(source), source, to], axis=1),
            note="conv by pixel",
        )  # fmt: skip
        plan_product(builder, product)


def _skips_more(geo: Geometry) -> bool:
    """Whether grouping pixels by the taps they meet skips more zeros than the groups leave rows of tiles empty."""

    def steps(cut: bool) -> int:
        """Of tiles of 8 rows."""
        return sum([-(-geo.rows * pixels // 8) * taps for pixels, taps in sizes_of(geo.dims, cut)])

    return steps(cut=True) <= steps(cut=False)


def _lane_nest(builder, dtype, a: Ptr, b: Ptr, out: Ptr, geo: Geometry, dense: int) -> None:
    lane, rhs_lane, out_lane = (int(stride) for stride in geo.batches[1])
    lanes, last = len(geo.batches), geo.dims[-1]
    by_window = geo.window > geo.pixels <= lane_window.MOST_TAPS and last.lhs_dilation == 1
    by_line = not by_window and geo.features == 1 and out_lane == 1 and lane_lines.takes(geo.dims)
    tabled = not (by_window or by_line) and geo.window * geo.pixels > TABLE_LIMIT
    if lane != 1 or (tabled and any(d.is_padded() for d in geo.dims)):
        by_row = geo.features == 1
        images, image = (geo.rows, geo.lhs_row) if by_row else (geo.features, geo.lhs_feature)
        a, dims, image = _padded_copy(builder, dtype, a, geo.dims, images, image, lanes, lane)
        geo = geo._replace(dims=dims, lhs_row=image) if by_row else geo._replace(dims=dims, lhs_feature=image)
    if rhs_lane != 1 and (by_window or by_line):
        whole = [Dim(d.window, 1, d.window, 1, 0, 1, 1, d.rhs_stride, 0, 0) for d in geo.dims]
        b, copied, image = _padded_copy(builder, dtype, b, whole, geo.features, geo.rhs_feature, lanes, rhs_lane)
        dims = tuple([d._replace(rhs_stride=copy.lhs_stride) for d, copy in zip(geo.dims, copied)])
        geo = geo._replace(dims=dims, rhs_feature=image)
    if by_window:
        return lane_window.plan_lane_window(builder, dtype, a, b, out, geo, dense)
    if by_line:
        return lane_lines.plan_lane_lines(builder, dtype, a, b, out, geo)
    weights = sums([np.arange(d.window) * d.rhs_stride for d in geo.dims])
    product = Product(
        dtype=dtype, a=a, b=Operand(b, geo.rhs_feature, weights, ZERO, 0, rhs_lane, 1), out=out, columns=lanes,
        out_column=out_lane, records=records_of(geo.dims, False, 1, 1), repeats=geo.rows, in_stride=geo.lhs_row,
        out_stride=geo.out_row, g_count=geo.features, a_g_stride=geo.lhs_feature, a_run=0,
        out_size=dense, a_rows="lanes", note="conv by lane",
    )  # fmt: skip
    plan_product(builder, product)


def _joins(geo: Geometry) -> bool:
    """Whether taps along the last dimension continue the run of the features, or of their own where there is one."""
    last = geo.dims[-1]
    adjacent = geo.features == 1 or last.lhs_stride * last.rhs_dilation == geo.features * geo.lhs_feature
    return adjacent and last.lhs_dilation == 1


def _window_nest(builder, dtype, a: Ptr, b: Ptr, out: Ptr, geo: Geometry, dense: int) -> None:
    reads = any(d.extent() != (0, 0) for d in geo.dims)
    if reads and geo.rows < FEW and len(geo.batches) == 1 and any(d.is_padded() for d in geo.dims):
        # Few rows a pixel: without a border all pixels share one reduction, and tiles fill with rows of several.
        a, dims, image = _padded_copy(builder, dtype, a, geo.dims, geo.features, geo.lhs_feature, geo.rows, geo.lhs_row)
        geo = geo._replace(dims=dims, lhs_feature=image, lhs_row=1)
    *outer, last = geo.dims
    step = last.tap_step()
    rows = sums([np.arange(d.window) * d.rhs_stride for d in outer])
    operand = Operand(
        b, geo.rhs_feature, rows, *even_run(last.window, last.rhs_stride), geo.rhs_column, last.window
    )  # fmt: skip
    product = Product(
        dtype=dtype, a=a, b=operand, out=out, columns=geo.columns, out_column=geo.out_column,
        records=window_records(geo.dims, geo.rows, geo.lhs_row, geo.out_row),
        g_count=geo.features, a_g_stride=geo.lhs_feature, run_step=step,
        a_run=step * last.rhs_dilation // last.lhs_dilation * last.lhs_stride,
        out_size=dense, batches=geo.batches, note="conv over the window",
    )  # fmt: skip
    plan_product(builder, product)


def _fills_with_taps(geo: Geometry, itemsize: int) -> bool:
    """Whether the result's pixels and rows along the last dimension are one run in the input and in the result, and
    cost less as columns than as rows.
    """
    last = geo.dims[-1]
    run = geo.rows if any(d.is_padded() for d in geo.dims) else last.lhs_stride
    if len(geo.batches) > 1 or any(d.lhs_dilation > 1 for d in geo.dims) or geo.rhs_column != 1:
        return False
    if geo.lhs_row != 1 or last.stride * run != geo.rows or last.out_stride != geo.rows * geo.out_row:
        return False
    outer, reduction = geo.pixels // last.out, geo.window * geo.features
    _, now = gemm_tiles.choose([(geo.rows * geo.pixels, 1)], geo.columns, reduction, itemsize)
    _, turned = gemm_tiles.choose(
        [(geo.columns, outer)], last.out * geo.rows, reduction, itemsize, "adjacent", whole=True
    )  # fmt: skip
    return gemm_tiles.host().masks and turned < 0.9 * now


def _tap_nest(builder, dtype, a: Ptr, b: Ptr, out: Ptr, geo: Geometry, dense: int) -> None:
    """A = rhs, a row for each of its features; B = the input, read in place; a batch for each of the result's pixels
    along the other dimensions.
    """
    if any(d.is_padded() for d in geo.dims):
        a, dims, image = _padded_copy(builder, dtype, a, geo.dims, geo.features, geo.lhs_feature, geo.rows, geo.lhs_row)
        geo = geo._replace(dims=dims, lhs_feature=image)
    last = geo.dims[-1]
    reads, taps, source, to = tap_offsets(geo.dims)
    run, columns = last.window, np.arange(geo.columns)
    step = last.rhs_dilation * last.lhs_stride
    record = Record(columns, columns * geo.out_column, taps, np.arange(len(taps)), run, run)
    product = Product(
        dtype=dtype, a=b, b=Operand(a, geo.lhs_feature, reads, *even_run(run, step), 1, run), out=out,
        columns=last.out * geo.rows, out_column=geo.out_row, records=joined([record]), g_count=geo.features,
        a_g_stride=geo.rhs_feature, a_run=last.rhs_stride, out_size=dense, a_rows="adjacent", whole=True,
        batches=np.stack([np.zeros_like(source), source, to], axis=1), note="conv by tap",
    )  # fmt: skip
    plan_product(builder, product)
