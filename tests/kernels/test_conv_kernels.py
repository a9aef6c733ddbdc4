"""conv_general_dilated against the reference, over random parameters, layouts, sizes, dtypes and vector widths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from draws import CAST_PRODUCTS, PRODUCTS, random_operand, rng_at_width, set_masked_stores
from planned_conv import check

from fgrad import config
from fgrad.kernels.cpu import conv, gemm_tiles, lane_window
from fgrad.kernels.cpu.conv import plan_conv
from fgrad.kernels.cpu.conv_geometry import Dim
from fgrad.kernels.cpu.driver import from_plan
from fgrad.kernels.cpu.lanecode import Along
from fgrad.kernels.layout import Layout


def spec(rng, n):
    """(permutation for the shape, positions of the logical axes)."""
    order = rng.permutation(n)
    return order, tuple(int(i) for i in np.argsort(order))


def draw(rng, dtype, *, few_terms=False, depthwise=False):
    """Operands and parameters; None where the padding crops away more than there is."""

    def between(a, b):
        return 0 if rng.random() < 0.015 else int(rng.integers(a, b + 1))

    space = int(rng.choice([0, 1, 2, 2, 3]))
    feature_groups, batch_groups = [(1, 1), (1, 1), (1, 1), (int(rng.integers(2, 4)), 1), (1, int(rng.integers(2, 4)))][
        rng.integers(5)
    ]
    groups = max(feature_groups, batch_groups)
    images = between(1, 4) * batch_groups
    features = between(1, 2 if few_terms else 4) if few_terms or rng.random() < 0.5 else between(1, 20)
    if depthwise:
        groups = int(rng.integers(2, 71))
        feature_groups, batch_groups = (groups, 1) if rng.random() < 0.5 else (1, groups)
        images, features = between(1, 4) * batch_groups, 1 if rng.random() < 0.8 else features
    columns = groups * (1 if depthwise else between(10, 70) if rng.random() < 0.3 else between(1, 9))
    sizes = [between(1, 9) for _ in range(space)]
    window = [between(1, 2) if few_terms else between(4, 9) if rng.random() < 0.3 else between(1, 4) for _ in sizes]
    dilated = rng.random() < 0.3
    lhs_dilation = tuple(int(rng.integers(1, 4)) if dilated else 1 for _ in sizes)
    rhs_dilation = tuple(int(rng.integers(1, 4)) if rng.random() < 0.3 else 1 for _ in sizes)
    padding = tuple(
        (int(rng.integers(-2, 5)), int(rng.integers(-2, 5))) if rng.random() < 0.5 else (0, 0) for _ in sizes
    )
    if any((1 + (n - 1) * d if n else 0) + lo + hi < 0 for n, d, (lo, hi) in zip(sizes, lhs_dilation, padding)):
        return None
    lhs_order, lhs_spec = spec(rng, space + 2)
    rhs_order, rhs_spec = spec(rng, space + 2)
    _, out_spec = spec(rng, space + 2)
    lhs_shape, rhs_shape = (images, features * feature_groups, *sizes), (columns, features, *window)
    params = {
        "window_strides": tuple(int(rng.integers(1, 4)) for _ in sizes), "padding": padding,
        "lhs_dilation": lhs_dilation, "rhs_dilation": rhs_dilation,
        "dimension_numbers": (lhs_spec, rhs_spec, out_spec),
        "feature_group_count": feature_groups, "batch_group_count": batch_groups,
    }  # fmt: skip
    limits = (-2, 3) if few_terms else (-8, 9)
    lhs = random_operand(rng, tuple(lhs_shape[i] for i in lhs_order), dtype, *limits)
    rhs = random_operand(rng, tuple(rhs_shape[i] for i in rhs_order), dtype, *limits)
    return lhs, rhs, params


@pytest.mark.parametrize("dtype, bits", PRODUCTS)
def test_random(monkeypatch, dtype, bits):
    rng = rng_at_width(monkeypatch, dtype, bits)
    for _ in range(80 if dtype == "float32" else 25):
        case = draw(rng, np.dtype(dtype))
        if case is not None:
            check(*case)


@pytest.mark.parametrize("dtype, bits", PRODUCTS)
def test_random_depthwise(monkeypatch, dtype, bits):
    rng = rng_at_width(monkeypatch, dtype, bits)
    notes = set()
    for _ in range(60 if dtype == "float32" else 20):
        case = draw(rng, np.dtype(dtype), depthwise=True)
        if case is not None:
            notes |= check(*case)
    for _ in range(20 if dtype == "float32" else 6):  # wide enough for tiles of neighbouring pixels
        x = rng.integers(-8, 9, (2, int(rng.integers(1, 5)), int(rng.integers(10, 30)), int(rng.integers(2, 70))))
        w = rng.integers(-8, 9, (int(rng.integers(1, 4)), int(rng.integers(1, 7)), 1, x.shape[3]))
        operands = [(a, Layout.contiguous(a.dtype, a.shape), a) for a in (x.astype(dtype), w.astype(dtype))]
        notes |= check(*operands, {
            "window_strides": (1, int(rng.integers(1, 3))), "padding": ((1, 1), (int(rng.integers(0, 4)), 2)),
            "lhs_dilation": (1, int(rng.integers(1, 3))), "rhs_dilation": (1, int(rng.integers(1, 3))),
            "dimension_numbers": ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)), "feature_group_count": x.shape[3],
        })  # fmt: skip
    assert {"conv by lane", "conv by lane, along lines"} <= notes


@pytest.mark.parametrize("dtype", CAST_PRODUCTS)
def test_random_of_cast_dtypes(dtype):
    rng = np.random.default_rng(3)
    for _ in range(20):
        case = draw(rng, np.dtype(dtype), few_terms=np.dtype(dtype).kind not in "iu")
        if case is not None:
            check(*case)


# batch, size, features in and out, window, padding, stride
LAYERS = [(3, 28, 1, 6, 5, 2, 1), (2, 14, 6, 16, 5, 0, 1), (4, 8, 16, 32, 3, 1, 1), (2, 11, 5, 70, 3, 1, 2),
          (3, 9, 64, 64, 3, 1, 3), (2, 10, 3, 20, 7, 3, 2), (2, 6, 600, 20, 3, 1, 1)]  # fmt: skip


def check_layer(rng, layer, order, dtype=np.float32):
    """Forward, and dX and dW in the form their transpose rules give them; the notes and kernels of the steps."""
    n, size, c, k, r, pad, stride = layer
    out = (size + 2 * pad - r) // stride + 1
    channels_last = order == "NHWC"
    x_spec = (0, 3, 1, 2) if channels_last else (0, 1, 2, 3)
    w_spec = (3, 2, 0, 1) if channels_last else (0, 1, 2, 3)

    def operand(logical, positions):
        array = rng.integers(-3, 4, [logical[positions.index(d)] for d in range(4)]).astype(dtype)
        return array, Layout.contiguous(array.dtype, array.shape), array

    x, w = operand((n, c, size, size), x_spec), operand((k, c, r, r), w_spec)
    dy = operand((n, k, out, out), x_spec)
    notes = check(x, w, {
        "window_strides": (stride,) * 2, "padding": ((pad, pad),) * 2, "lhs_dilation": (1, 1), "rhs_dilation": (1, 1),
        "dimension_numbers": (x_spec, w_spec, x_spec),
    })  # fmt: skip
    reach = (out - 1) * stride + 1
    flipped = (w[0], w[1].rev(w_spec[2:]), np.flip(w[0], w_spec[2:]))
    low = r - 1 - pad
    notes |= check(dy, flipped, {
        "window_strides": (1, 1), "padding": ((low, size - reach - low + r - 1),) * 2, "lhs_dilation": (stride,) * 2,
        "rhs_dilation": (1, 1), "dimension_numbers": (x_spec, (w_spec[1], w_spec[0], *w_spec[2:]), x_spec),
    })  # fmt: skip
    swapped = (x_spec[1], x_spec[0], *x_spec[2:])
    return notes | check(x, dy, {
        "window_strides": (1, 1), "padding": ((pad, reach + r - 1 - size - pad),) * 2, "lhs_dilation": (1, 1),
        "rhs_dilation": (stride,) * 2, "dimension_numbers": (swapped, swapped, (w_spec[1], w_spec[0], *w_spec[2:])),
    })  # fmt: skip


@pytest.mark.parametrize("order", ["NHWC", "NCHW"])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_layers_and_their_gradients(layer, order):
    check_layer(np.random.default_rng(1), layer, order)


@pytest.mark.parametrize("dtype, bits", PRODUCTS)
def test_random_narrow_layers(monkeypatch, dtype, bits):
    """Few features on one side, where vectors fill with pixels or with taps."""
    rng = rng_at_width(monkeypatch, dtype, bits)
    notes = set()
    for _ in range(12):
        r, stride = (int(rng.integers(1, n)) for n in (6, 4))
        narrow, other = int(rng.integers(1, 9)), int(rng.choice([rng.integers(1, 20), 4, 8, 16]))
        c, k = (narrow, other) if rng.random() < 0.5 else (other, narrow)
        layer = (int(rng.integers(1, 4)), int(rng.integers(r, 20)), c, k, r, int(rng.integers(0, r)), stride)
        notes |= check_layer(rng, layer, "NHWC" if rng.random() < 0.8 else "NCHW", np.dtype(dtype))
    assert {"conv", "conv over the window"} < notes
    assert {"conv by pixel", "conv by tap"} & notes


@pytest.mark.parametrize("dtype, bits", PRODUCTS)
def test_one_vector_of_features_folds_the_run(monkeypatch, dtype, bits):
    """So many pixels share few columns that neighbours of the run are multiplied at once."""
    rng = rng_at_width(monkeypatch, dtype, bits)
    k = gemm_tiles.host().lanes(np.dtype(dtype).itemsize)
    used = set()
    for c, r, stride in ((k, 3, 1), (4, 3, 2), (2, 5, 1), (12, 1, 1), (6, 4, 3)):
        used |= check_layer(rng, (6, 17 * stride, c, k, r, r // 2, stride), "NHWC", np.dtype(dtype))
    assert any("_fold" in name for name in used) == (k > 1)


@pytest.mark.parametrize("images, held, together", [(1, 2, 1), (2, 2, 2), (6, 2, 2), (7, 2, 1), (9, 4, 3), (7, 6, 7)])
def test_phases_of_images_that_stay_in_the_cache(monkeypatch, images, held, together):
    """Of so many gradients [6, 6, 20] as the cache holds; of all where no such number of images divides theirs."""
    found, choose = set(), conv._images_together

    def chosen(geo, itemsize):
        images_together = choose(geo, itemsize)
        if geo.dims[0].lhs_dilation > 1:
            found.add(images_together)
        return images_together

    monkeypatch.setattr(conv, "PHASES_BYTES", held * 6 * 6 * 20 * 4)
    monkeypatch.setattr(conv, "_images_together", chosen)
    layer = images, 12, 9, 20, 3, 1, 2
    check_layer(np.random.default_rng(images), layer, "NHWC", np.dtype(np.float32))
    assert found == {together}
    check_layer(np.random.default_rng(images), layer, "NCHW", np.dtype(np.float32))


@pytest.mark.parametrize("masked_stores", [False, True])
@pytest.mark.parametrize("dtype, bits", [("float32", 128), ("float32", 256), ("float64", 256), ("float32", 512)])
def test_parts_of_vectors(monkeypatch, dtype, bits, masked_stores):
    """Columns that do not fill a tile's vectors are stored under masks or in pieces, whatever this processor has."""
    rng = rng_at_width(monkeypatch, dtype, bits)
    set_masked_stores(monkeypatch, masked_stores)
    used = set()
    for columns in (1, 3, 6, 7, 13):
        used |= check_layer(rng, (3, 19, 3, columns, 3, 1, 1), "NHWC", np.dtype(dtype))
    used |= check_layer(rng, (6, 15, 8, 3, 3, 1, 1), "NHWC", np.dtype(dtype))  # enough pixels and features to fold
    assert {"conv", "conv by pixel"} < used
    lanes = gemm_tiles.host().lanes(np.dtype(dtype).itemsize)
    assert any("_fold" in name for name in used) or masked_stores or lanes < 8


# batch, size, channels, window, padding, stride, dilation
DEPTHWISE = {
    "many images": (17, (9, 8), 70, (3, 3), 1, 1, 1),
    "few channels": (16, (9, 8), 3, (3, 3), 1, 1, 1),
    "two channels": (3, (9, 8), 2, (3, 3), 1, 1, 1),
    "several blocks of channels": (2, (6, 11), 1030, (3, 3), 1, 1, 1),
    "several runs of a line": (1, (5, 61), 40, (3, 3), 1, 1, 1),
    "strided": (2, (13, 22), 33, (3, 3), 1, 2, 1),
    "dilated": (2, (17, 19), 20, (3, 3), 2, 1, 2),
    "strided and dilated": (2, (20, 25), 20, (3, 2), 2, 3, 2),
    "cut into tiles": (2, (13, 15), 18, (7, 7), 3, 1, 1),
    "blocks of two lines": (2, (18, 13), 40, (3, 3), 1, 1, 1),
    "three dimensions in blocks": (1, (6, 8, 9), 40, (2, 2, 2), 1, 2, 1),
    "mostly border": (2, (9, 9), 18, (5, 5), 4, 1, 1),
    "cropped": (2, (12, 12), 18, (3, 3), -1, 1, 1),
    "one tap": (2, (7, 9), 40, (1, 1), 0, 1, 1),
    "one dimension": (3, (50,), 20, (31,), 15, 1, 1),
    "one dimension, few taps": (3, (50,), 150, (3,), 1, 1, 1),
    "three dimensions": (2, (6, 5, 8), 20, (3, 2, 3), 1, 1, 1),
}


@pytest.mark.parametrize("dtype, bits", PRODUCTS)
def test_depthwise_weight_gradients(monkeypatch, dtype, bits):
    rng = rng_at_width(monkeypatch, dtype, bits)
    cases = list(DEPTHWISE.values())
    for n, size, channels, window, pad, stride, dilation in cases if dtype == "float32" else cases[::5]:
        space = len(size)
        reaches = [dilation * (k - 1) + 1 for k in window]
        out = [(s + 2 * pad - reach) // stride + 1 for s, reach in zip(size, reaches)]
        if rng.random() < 0.6:  # channels last
            spec, result = (space + 1, 0, *range(1, space + 1)), (space, space + 1, *range(space))
        else:
            spec, result = (1, 0, *range(2, space + 2)), tuple(range(space + 2))
        operands = []
        for extents in (size, out):
            a = rng.integers(-3, 4, [(channels, n, *extents)[i] for i in np.argsort(spec)]).astype(dtype)
            operands.append((a, Layout.contiguous(a.dtype, a.shape), a))
        notes = check(*operands, {
            "window_strides": (dilation,) * space, "lhs_dilation": (1,) * space, "rhs_dilation": (stride,) * space,
            "padding": [(pad, (o - 1) * stride + reach - s - pad) for s, o, reach in zip(size, out, reaches)],
            "dimension_numbers": (spec, spec, result), "batch_group_count": channels,
        })  # fmt: skip
        assert "conv by lane, over the window" in notes


@pytest.mark.parametrize(
    "bits, channels, stride, pixels, run",
    [
        (256, 128, 1, 32, 6),  # [3 lines of 8 pixels and 1 of 6] stay in the L1 cache
        (256, 32, 1, 112, 9),  # a KB of y
        (256, 256, 2, 128, 18),  # not even 6 would stay
        (256, 128, 2, 16, 16),  # of fewer than three runs
        (512, 256, 2, 128, 6),  # a vector is a line of the cache: steps share none
    ],
)
def test_runs_of_depthwise_weight_gradients(bits, channels, stride, pixels, run):
    d = Dim(
        window=pixels, out=3, size=pixels * stride, stride=1, low=1, lhs_dilation=1, rhs_dilation=stride,
        lhs_stride=0, rhs_stride=0, out_stride=0,
    )  # fmt: skip
    lines = Along.of_window(d, 1)
    spec = lane_window.LaneWindow("float32", bits // 32, 1, lines, 3, (3,), (3,), stride, 1, True)
    assert lane_window._run(spec, d, channels * 4) == run


@pytest.mark.parametrize("channels", [255, 256, 300])
def test_wide_depthwise_layers(channels):
    """More channels than a task takes at a time."""
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-3, 4, (*shape, channels)).astype(np.float32) for shape in ((2, 7, 13), (3, 3, 1)))
    operands = [(a, Layout.contiguous(a.dtype, a.shape), a) for a in (x, w)]
    assert "conv by lane, along lines" in check(*operands, {
        "window_strides": (1, 1), "padding": ((1, 1), (1, 1)), "lhs_dilation": (1, 1), "rhs_dilation": (1, 1),
        "dimension_numbers": ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)), "feature_group_count": channels,
    })  # fmt: skip


# size, channels, kernel, stride, lhs_dilation: blocks with borders, strided layers and their input gradients
LARGE = [((9, 13), 32, (3, 3), 1, 1), ((11, 10), 64, (3, 3), 2, 1), ((6, 7), 32, (3, 3), 1, 2),
         ((5, 4, 6), 32, (2, 3, 3), 1, 1), ((8, 9), 320, (5, 5), 1, 1),
         ((3, 16), 128, (2, 2), 1, 2), ((2, 9), 2048, (3, 3), 1, 1)]  # fmt: skip
A_PAGE_APART = LARGE[-2:]  # results in a block: lines, pixels


@pytest.mark.parametrize("dtype, bits", PRODUCTS)
def test_large_results_are_stored_around_the_cache(monkeypatch, dtype, bits):
    """The same bits as by way of it, also where the result does not begin with a line of the cache."""
    rng = rng_at_width(monkeypatch, dtype, bits)
    machine = gemm_tiles.host()
    for size, channels, kernel, stride, inserted in LARGE:
        space = len(size)
        x, w = (rng.standard_normal(n).astype(dtype) for n in ((2, *size, channels), (*kernel, 1, channels)))
        reach = [(n - 1) * inserted + 1 for n in size]
        out = [(n + 2 - k) // stride + 1 for n, k in zip(reach, kernel)]
        layouts = [Layout.contiguous(a.dtype, a.shape) for a in (x, w, np.empty((2, *out, channels), dtype))]
        spec = (0, space + 1, *range(1, space + 1))
        found = []
        for cache in (None, 1):
            monkeypatch.setattr(gemm_tiles, "host", lambda cache=cache: machine._replace(cache=cache))
            plan = plan_conv(
                layouts[:2], layouts[2:], window_strides=(stride,) * space, padding=((1, 1),) * space,
                lhs_dilation=(inserted,) * space, rhs_dilation=(1,) * space,
                dimension_numbers=(spec, (space + 1, space, *range(space)), spec), feature_group_count=channels,
            )  # fmt: skip
            (step,) = plan.steps
            assert step.kernel_name.endswith("_around") == (cache is not None)
            if cache is not None and (size, channels, kernel, stride, inserted) in A_PAGE_APART:
                assert step.kernel.gathered
            program = from_plan(plan, layouts[:2], layouts[2:])
            memory = np.full(layouts[2].size * x.itemsize + 128, 99, np.uint8)
            first = -memory.ctypes.data % 64
            for offset, threads in itertools.product((0, 16), (1, 2)):
                given = memory[first + offset :][: layouts[2].size * x.itemsize].view(dtype).reshape(layouts[2].shape)
                monkeypatch.setattr(config, "num_threads", lambda threads=threads: threads)
                found.append(program(x, w, outs=(given,))[0].tobytes())
                memory[:] = 99
        assert len(set(found)) == 1


def test_sums_do_not_depend_on_threads(monkeypatch):
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((16, 12, 12, 24)).astype(np.float32) for _ in range(2))
    layouts = [Layout.contiguous(np.float32, a.shape) for a in (x, dy)]
    out = Layout.contiguous(np.float32, (3, 3, 24, 24))
    plan = plan_conv(
        layouts, [out], window_strides=(1, 1), padding=((1, 1), (1, 1)), lhs_dilation=(1, 1), rhs_dilation=(1, 1),
        dimension_numbers=((3, 0, 1, 2), (3, 0, 1, 2), (2, 3, 0, 1)),
    )  # fmt: skip
    assert any("sum" in step.note for step in plan.steps)
    program = from_plan(plan, layouts, [out])
    (first,) = program(x, dy)
    monkeypatch.setattr(config, "num_threads", lambda: 1)
    np.testing.assert_array_equal(program(x, dy)[0], first)
