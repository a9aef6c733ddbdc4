"""Window kernels against the reference, over random draws of every parameter, dtype and memory layout."""

from __future__ import annotations

import numpy as np
import pytest
from draws import COMPLEX, FLOATS, INTEGERS, any_of, check, layout_of, set_masked_stores, strided, values

from fgrad import config
from fgrad.kernels import reference
from fgrad.kernels.cpu.chosencode import ChosenSpec
from fgrad.kernels.cpu.driver import from_plan
from fgrad.kernels.cpu.windowcode import WindowSpec
from fgrad.kernels.layout import Layout
from fgrad.kernels.window_plan import plan_reduce_window, plan_reduce_window_winner
from fgrad.kernels.winner_plan import plan_gather_winners, plan_scatter_winners

EXACT: dict[str, float] = {}


def run(planner, args, outs, **params):
    """``outs``: (dtype, shape) of each result."""
    ins, outs = [layout_of(x) for x in args], [Layout.contiguous(*out) for out in outs]
    return from_plan(planner(ins, outs, **params), ins, outs)(*args)


def compare(x, kind, params):
    expected = reference.reduce_window(x, kind=kind, **params)
    outs = [(x.dtype, expected.shape)]
    check(run(plan_reduce_window, [x], outs, kind=kind, **params)[0], expected, EXACT)
    if kind == "add":
        return
    expected = reference.reduce_window_winner(x, kind=kind, **params)
    taps = expected[1]
    got = run(plan_reduce_window_winner, [x], [*outs, (taps.dtype, taps.shape)], kind=kind, **params)
    check(got[0], expected[0], EXACT)
    check(got[1], taps)
    if x.dtype.kind == "b":
        return
    check(run(plan_gather_winners, [x, taps], outs, **params)[0], reference.gather_winners(x, taps, **params), EXACT)
    # some windows choose another tap than the winner's, one that may lie in padding or not exist
    rng = np.random.default_rng(taps.size)
    most = min(int(taps.max(initial=0)) + 2, np.iinfo(taps.dtype).max)
    chosen = np.where(rng.random(taps.shape) < 0.2, rng.integers(0, most, taps.shape, taps.dtype), taps)
    chosen = strided(rng, chosen)
    ct = strided(rng, rng.integers(-4, 5, taps.shape).astype(x.dtype))
    check(
        run(plan_gather_winners, [x, chosen], outs, **params)[0], reference.gather_winners(x, chosen, **params), EXACT
    )
    expected = reference.scatter_winners(ct, chosen, shape=x.shape, **params)
    check(run(plan_scatter_winners, [ct, chosen], [(x.dtype, x.shape)], shape=x.shape, **params)[0], expected, EXACT)


def finite(x):
    return np.asarray(np.nan_to_num(x, posinf=2, neginf=-2))


def window(rng, rank, *, most=4):
    return {
        "window_dimensions": tuple(rng.integers(1, most, rank).tolist()),
        "window_strides": tuple(rng.integers(1, 4, rank).tolist()),
        "padding": tuple((int(a), int(b)) for a, b in rng.integers(-2, 5, (rank, 2))),
        "base_dilation": tuple(rng.integers(1, 5, rank).tolist()),
        "window_dilation": tuple(rng.integers(1, 5, rank).tolist()),
    }


def layer(rng, rank):
    """A pooling layer: small enough to be unrolled, and, with the sizes below, enough work to be worth it."""
    dims = rng.integers(1, 4, rank)
    return {
        "window_dimensions": tuple(dims.tolist()),
        "window_strides": tuple(rng.integers(1, 4, rank).tolist()),
        "padding": tuple((int(rng.integers(-1, n)), int(rng.integers(-1, n))) for n in dims),
        "base_dilation": tuple(rng.choice([1, 1, 1, 2], rank).tolist()),
        "window_dilation": tuple(rng.choice([1, 1, 1, 2], rank).tolist()),
    }


@pytest.mark.parametrize(
    "dtype",
    ["float32", *(pytest.param(d, marks=pytest.mark.long) for d in ("float64", "float16", "int32", "uint8"))],
)
@pytest.mark.parametrize("plain", [(), (0,), (3,), (0, 3), (0, 1)], ids=str)
def test_unrolled(dtype, plain):
    """``plain`` axes have no window: those before the first window are repeats, those after the last one lanes."""
    rng = np.random.default_rng([len(plain), *plain])
    unrolled = [0, 0, 0]
    for _ in range(6):
        params = layer(rng, 4)
        for key in params:
            entries = [(0, 0) if key == "padding" and d in plain else 1 if d in plain else v
                       for d, v in enumerate(params[key])]  # fmt: skip
            params[key] = tuple(entries)
        x = strided(rng, values(rng, rng.integers(7, 12, 4), np.dtype(dtype), special=True))
        for kind in KINDS:
            exact = finite(x).astype(dtype) if kind == "add" and np.dtype(dtype).kind == "f" else x
            if kind == "add" and np.dtype(dtype).kind == "f":
                exact = np.round(exact)  # sums of small integers are exact in any order
            compare(exact, kind, params)
        taps = reference.reduce_window_winner(x, kind="max", **params)[1]
        small, large = Layout.contiguous(x.dtype, taps.shape), Layout.contiguous(x.dtype, x.shape)
        plans = (
            plan_reduce_window([large], [small], kind="max", **params),
            plan_gather_winners([large, layout_of(taps)], [small], **params),
            plan_scatter_winners([small, layout_of(taps)], [large], shape=x.shape, **params),
        )
        for k, plan in enumerate(plans):
            unrolled[k] += any(isinstance(step.kernel, WindowSpec | ChosenSpec) for step in plan.steps)
    assert min(unrolled) >= 3


# Each (kind, dtype) is a kernel that a fresh clone compiles in a second or two.
KINDS = ("add", "max", "min")
COMBINATIONS = [
    *((kind, dtype) for kind in KINDS for dtype in FLOATS if dtype != np.float64),
    *((kind, np.dtype(name)) for kind, name in [("add", "float64"), ("add", "int8"), ("max", "int8"), ("max", "bool")]),
    *((kind, np.dtype(np.uint64)) for kind in ("max", "min")),
]
THE_OTHERS = [(kind, dtype) for kind in KINDS for dtype in [*FLOATS, *INTEGERS] if (kind, dtype) not in COMBINATIONS]


@pytest.mark.parametrize(
    "kind, dtype", [*COMBINATIONS, *(pytest.param(*case, marks=pytest.mark.long) for case in THE_OTHERS)], ids=str
)
def test_every_dtype(kind, dtype):
    rng = np.random.default_rng(1)
    for _ in range(6):
        rank = int(rng.integers(1, 4))
        x = strided(rng, values(rng, rng.integers(1, 8, rank), dtype, special=kind != "add"))
        compare(x, kind, window(rng, rank))


@pytest.mark.parametrize("seed", range(60))
def test_every_window(seed):
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(0, 5))
    x = strided(rng, values(rng, rng.integers(0, 7, rank), np.float32, special=True))
    params = window(rng, rank)
    for axis in range(rank):  # about half the axes without a window, as batch and channels
        if rng.random() < 0.5:
            for name, plain in zip(params, (1, 1, (0, 0), 1, 1)):
                params[name] = (*params[name][:axis], plain, *params[name][axis + 1 :])
    compare(x, any_of(rng, "max", "min"), params)
    compare(finite(x), "add", params)


@pytest.mark.parametrize("dtype", COMPLEX, ids=str)
def test_complex_sums(dtype):
    rng = np.random.default_rng(2)
    for _ in range(6):
        compare(strided(rng, values(rng, (3, 5, 2), dtype)), "add", window(rng, 3))


def test_complex_has_no_maximum():
    x = np.zeros(3, np.complex64)
    params = {"window_dimensions": (2,), "window_strides": (1,), "padding": ((0, 0),), "base_dilation": (1,)}
    with pytest.raises(TypeError, match="reduce_window: kind 'max' needs an order, got complex64, whose numbers have"):
        run(plan_reduce_window, [x], [(x.dtype, (2,))], kind="max", window_dilation=(1,), **params)


@pytest.mark.parametrize("shape, axes", [((5, 9, 11, 70), (1, 2)), ((3, 4, 13, 10), (2, 3)), ((2, 7, 8, 1), (1, 2))])
@pytest.mark.parametrize("size, stride", [(2, 2), (3, 2), (3, 1)])
def test_pooling(shape, axes, size, stride):
    rng = np.random.default_rng(3)
    x = values(rng, shape, np.float32, special=True)
    pick = [d in axes for d in range(4)]
    params = {
        "window_dimensions": tuple(size if p else 1 for p in pick),
        "window_strides": tuple(stride if p else 1 for p in pick),
        "padding": tuple((1, size - 2) if p else (0, 0) for p in pick),
        "base_dilation": (1,) * 4,
        "window_dilation": (1,) * 4,
    }
    compare(x, "max", params)
    compare(finite(x), "add", params)


@pytest.mark.parametrize("masked_stores", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4, 6, 8, 13, 20])
def test_channels_that_fill_no_vectors(monkeypatch, channels, masked_stores):
    """Without masked stores the last channels are done together with some of those before."""
    set_masked_stores(monkeypatch, masked_stores)
    rng = np.random.default_rng(channels)
    for size, stride in ((2, 2), (3, 2), (2, 1)):
        x = np.round(finite(values(rng, (5, 17, 30, channels), np.float32, special=True)))
        params = {
            "window_dimensions": (1, size, size, 1), "window_strides": (1, stride, stride, 1),
            "padding": ((0, 0), (1, 0), (0, 1), (0, 0)), "base_dilation": (1,) * 4, "window_dilation": (1,) * 4,
        }  # fmt: skip
        compare(x, "max", params)
        compare(x, "add", params)


def test_long_axes_and_threads():
    """Axes longer than a tile, in rows and lanes; the same bits for one thread and for several."""
    rng = np.random.default_rng(4)
    plain = {"base_dilation": (1, 1), "window_dilation": (1, 1)}
    for shape, dims, strides, padding in [
        ((3, 5000), (1, 7), (1, 2), ((0, 0), (3, 3))),
        ((5000, 3), (7, 1), (2, 1), ((3, 3), (0, 0))),
        ((300, 1500), (3, 1), (1, 1), ((1, 1), (0, 0))),
    ]:
        x = values(rng, shape, np.float32)
        params = {"window_dimensions": dims, "window_strides": strides, "padding": padding, **plain}
        compare(x, "max", params)
        compare(x, "add", params)


def test_windows_that_hold_no_element():
    """Windows wholly in padding, or in the holes of a dilated input, or over an empty axis."""
    params = {"window_strides": (1,), "window_dilation": (1,)}
    for shape, size, padding, base in [((2,), 2, (3, 3), 1), ((3,), 2, (0, 0), 4), ((0,), 1, (2, 1), 1)]:
        x = np.full(shape, -np.inf, np.float32)
        compare(x, "max", {"window_dimensions": (size,), "padding": (padding,), "base_dilation": (base,), **params})
        compare(x, "add", {"window_dimensions": (size,), "padding": (padding,), "base_dilation": (base,), **params})


def test_large_windows_have_wider_taps():
    rng = np.random.default_rng(6)
    for size in (255, 256, 300):
        params = {
            "window_dimensions": (size,), "window_strides": (7,), "padding": ((3, 2),), "base_dilation": (1,),
            "window_dilation": (1,),
        }  # fmt: skip
        x = np.cumsum(rng.standard_normal(2000)).astype(np.float32)
        assert reference.tap_dtype((size,)) == (np.uint8 if size < 256 else np.uint16)
        compare(x, "max", params)


def test_threads_do_not_change_results(monkeypatch):
    x = values(np.random.default_rng(5), (8, 24, 24, 64), np.float32)
    params = {
        "window_dimensions": (1, 3, 3, 1),
        "window_strides": (1, 2, 2, 1),
        "padding": ((0, 0), (1, 1), (1, 1), (0, 0)),
        "base_dilation": (1,) * 4,
        "window_dilation": (1,) * 4,
    }
    ins, outs = [layout_of(x)], [Layout.contiguous(x.dtype, (8, 12, 12, 64))]
    program = from_plan(plan_reduce_window(ins, outs, kind="add", **params), ins, outs)
    several = program(x)[0]
    monkeypatch.setattr(config, "num_threads", lambda: 1)
    np.testing.assert_array_equal(program(x)[0], several)
