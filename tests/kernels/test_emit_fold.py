"""Fused reductions: every combination over every subset of axes, forms, chunks, accuracy, determinism."""

import itertools

import numpy as np
import pytest
from emitted import BFLOAT16, BOOL, DTYPES, FLOATS, INTEGERS, layout_of, run_fold, run_plan
from hypothesis import given, settings
from hypothesis import strategies as st

from fgrad import config
from fgrad.kernels.cpu import emit
from fgrad.kernels.cpu.driver import from_plan
from fgrad.kernels.layout import Layout

UFUNCS = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
}


def square(s, x):
    return s.mul(x, x)


def times(s, a, b):
    return s.mul(a, b)


def subsets(rank):
    return [axes for r in range(rank + 1) for axes in itertools.combinations(range(rank), r)]


def draw_array(dtype, shape, seed=0):
    """Small integers, so that sums are exact in any order (except in 16-bit floats, where they are rounded)."""
    rng = np.random.default_rng(seed)
    if dtype == BOOL:
        return rng.random(shape) < 0.5
    return rng.integers(0 if dtype.kind == "u" else -3, 4, shape).astype(dtype)


def expected(combine, x, axes):
    ufunc = UFUNCS[combine]
    if x.dtype in FLOATS and x.dtype.itemsize == 2:
        return ufunc.reduce(x.astype(np.float32), axes).astype(x.dtype)
    if x.dtype == BOOL:
        ufunc = {"add": np.logical_or, "mul": np.logical_and}.get(combine, ufunc)
        return ufunc.reduce(x, axes)
    with np.errstate(over="ignore"):
        return ufunc.reduce(x, axes) if combine in ("and", "or", "max", "min") else ufunc.reduce(x, axes, x.dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("combine", sorted(UFUNCS))
def test_every_dtype(combine, dtype):
    if combine in ("and", "or") and dtype in FLOATS:
        return
    for shape in [(3, 20, 5), (70, 6)]:
        x = draw_array(dtype, shape)
        if combine == "mul" and dtype in FLOATS:
            x = np.where(x == 0, 1, np.sign(x)).astype(dtype)
        for axes in subsets(len(shape)):
            got = run_fold(combine, x, axes)
            want = expected(combine, x, axes)
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want, err_msg=f"{shape} {axes}")


SHAPES = [
    (),
    (1,),
    (7,),
    (300,),
    (1, 5, 1),
    (3, 4, 5),
    (2, 70, 300),
    (300, 70),
    (5, 1, 7, 9),
    (0, 4),
    (4, 0),
    (3, 0, 2),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_subset_of_axes(shape):
    x = draw_array(np.dtype(np.float32), shape)
    for axes in subsets(len(shape)):
        for order in (x, np.asfortranarray(x), x[(..., *(slice(None, None, -1) for _ in shape))]):
            np.testing.assert_array_equal(run_fold("add", order, axes), order.sum(axes), err_msg=str(axes))


@settings(max_examples=100)
@given(st.data())
def test_any_layout(data):
    shape = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 17, 40]), min_size=1, max_size=4)))
    steps = [data.draw(st.sampled_from([1, 1, 2, -1, -2])) for _ in shape]
    order = data.draw(st.permutations(range(len(shape))))
    axes = tuple(a for a in range(len(shape)) if data.draw(st.booleans()))
    base = draw_array(np.dtype(np.int32), tuple(shape[a] * abs(steps[a]) for a in order))
    x = base.transpose(np.argsort(order))[tuple(slice(None, None, s) for s in steps)]
    np.testing.assert_array_equal(run_fold("add", x, axes), x.sum(axes, dtype=np.int32))


@pytest.mark.parametrize(
    "shape", [(100_003,), (3, 70_001), (70_001, 3), (40_000, 40), (40, 40_000), (9, 64, 31, 33), (2000, 7, 11)]
)
def test_chunks(shape):
    """Long reductions go by way of partial results; the order in which tiles are done does not matter."""
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    for axes in subsets(len(shape))[1:]:
        got = run_fold("add", x, axes)
        exact = x.sum(axes, dtype=np.float64)
        np.testing.assert_allclose(got, exact, rtol=0, atol=2e-6 * np.abs(x).sum(axes, dtype=np.float64).max())
        np.testing.assert_array_equal(got, run_fold("add", x, axes, tile_by_tile=True))
        np.testing.assert_array_equal(run_fold("max", x, axes), x.max(axes))


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_the_same_bits_for_any_number_of_threads(axes, monkeypatch):
    x = np.random.default_rng(2).standard_normal((3000, 200)).astype(np.float32)
    out = Layout.contiguous(np.float32, tuple(n for a, n in enumerate(x.shape) if a not in axes))
    program = from_plan(
        emit.fold_plan(x.shape, [layout_of(x)], [("load", 0)], [emit.Reduce(0, "add", out)], axes),
        [layout_of(x)],
        [out],
    )
    results = []
    for threads in (1, 2):
        monkeypatch.setattr(config, "num_threads", lambda n=threads: n)
        results.append(program(x)[0])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", ["row", "column"])
def test_sums_are_as_accurate_as_pairwise_ones(form, dtype):
    """Root mean square error over rows of 200,000 numbers in (0, 1), where a running sum loses four digits."""
    n, rows = 200_000, 8
    x = np.random.default_rng(3).random((rows, n)).astype(dtype)
    exact = np.array([float(np.sum(row.astype(np.longdouble))) for row in x])
    got = run_fold("add", x, (1,)) if form == "row" else run_fold("add", np.ascontiguousarray(x.T), (0,))
    eps = np.finfo(dtype).eps
    ours = np.sqrt(np.mean(((got - exact) / exact) ** 2))
    numpys = np.sqrt(np.mean(((x.sum(1) - exact) / exact) ** 2))
    assert ours <= max(2 * numpys, eps)


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BFLOAT16], ids=str)
def test_narrow_floats_accumulate_in_float32(dtype):
    x = np.full(60_000, 0.25, dtype)  # a running float16 sum sticks at 512, a bfloat16 one at 64
    assert float(run_fold("add", x, (0,))) == float(dtype.type(15_000))


@pytest.mark.parametrize("axes", [(0,), (1,)])
@pytest.mark.parametrize("shape", [(5, 40), (70_000, 3), (3, 70_000)])
@pytest.mark.parametrize("combine", ["max", "min", "argmax", "argmin"])
def test_nan_wins(combine, shape, axes):
    x = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    x[2, 1] = x[shape[0] // 2, shape[1] // 2] = np.nan
    out_dtype = np.int32 if combine.startswith("arg") else None
    want = getattr(np, combine)(x, axes[0])
    np.testing.assert_array_equal(run_fold(combine, x, axes, out_dtype), want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("combine", ["argmax", "argmin"])
def test_the_first_of_equals(combine, dtype):
    for shape in [(4, 30, 5), (200,), (50_000,), (3, 40_000), (40_000, 3)]:
        x = draw_array(dtype, shape)
        for axis in range(len(shape)):
            got = run_fold(combine, x, (axis,), np.int64)
            np.testing.assert_array_equal(got, getattr(np, combine)(x, axis), err_msg=f"{shape} {axis}")


@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan, 0])
def test_arg_folds_of_a_constant_are_zero(value):
    for shape in [(3,), (40,), (100_000,)]:
        x = np.full(shape, value, np.float32)
        assert run_fold("argmax", x, (0,), np.int64) == run_fold("argmin", x, (0,), np.int64) == 0
    lowest = np.full(100, -128, np.int8)
    assert run_fold("argmax", lowest, (0,), np.int64) == 0


@pytest.mark.parametrize("dtype", [BOOL, *INTEGERS, *FLOATS], ids=str)
def test_reductions_of_nothing(dtype):
    x = np.empty((3, 0), dtype)

    def fold(combine):
        got = run_fold(combine, x, (1,))
        assert got.shape == (3,) and len(set(got.tolist())) == 1
        return got[0]

    assert fold("add") == 0 and fold("mul") == 1
    if dtype in FLOATS:
        assert fold("max") == -np.inf and fold("min") == np.inf
    elif dtype == BOOL:
        assert not fold("max") and fold("min") and fold("and") and not fold("or")
    else:
        assert fold("max") == np.iinfo(dtype).min and fold("min") == np.iinfo(dtype).max
        assert fold("or") == 0 and fold("and") == np.array(-1).astype(dtype)
    assert run_fold("add", np.empty((0, 3, 0), dtype), (1,)).shape == (0, 0)


@pytest.mark.parametrize("shape", [(6, 10), (50, 300), (3000, 70), (2, 50_000)])
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_fused_expression_with_an_extra_result(shape, axes):
    """sum over axes of (x*b)**2, storing x*b in place of x."""
    x, b = draw_array(np.dtype(np.float32), shape), draw_array(np.dtype(np.float32), shape[-1:], 1)
    wide = np.broadcast_to(b, shape)
    kept = tuple(n for a, n in enumerate(shape) if a not in axes)
    out, work = np.empty(kept, np.float32), x.copy()
    nodes = [("load", 0), ("load", 1), ("map", times, (), (0, 1)), ("map", square, (), (2,))]
    plan = emit.fold_plan(
        shape,
        [layout_of(x), layout_of(wide)],
        nodes,
        [emit.Reduce(3, "add", layout_of(out))],
        axes,
        [(layout_of(x), 2)],
    )
    run_plan(plan, [work, wide], [out, work])
    np.testing.assert_array_equal(work, x * b)
    np.testing.assert_array_equal(out, ((x * b) ** 2).sum(axes))


@pytest.mark.parametrize("shape", [(6, 10), (300, 70), (3000, 16), (3, 70_000)])
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("kinds", [("add", "max", "add"), ("mul", "add")])
def test_folds_side_by_side(shape, axes, kinds):
    """Folds of x, x**2, x, ... in one kernel are bit for bit what each is alone, whichever form the loop takes."""
    x = draw_array(np.dtype(np.float32), shape) / 8
    nodes = [("load", 0), ("map", square, (), (0,))]
    kept = tuple(n for a, n in enumerate(shape) if a not in axes)
    outs = [np.empty(kept, np.float32) for _ in kinds]
    folds = [emit.Reduce(j % 2, kind, layout_of(out)) for j, (kind, out) in enumerate(zip(kinds, outs))]
    run_plan(emit.fold_plan(shape, [layout_of(x)], nodes, folds, axes), [x], outs)
    for fold, got in zip(folds, outs):
        alone = np.empty(kept, np.float32)
        run_plan(emit.fold_plan(shape, [layout_of(x)], nodes, [fold], axes), [x], [alone])
        np.testing.assert_array_equal(got, alone)
        values = (x**2 if fold.node else x).astype(np.float64)
        want = getattr(np, {"add": "sum", "mul": "prod"}.get(fold.combine, fold.combine))(values, axis=axes)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * float(np.abs(values).sum(axes).max()))


@pytest.mark.parametrize("shape", [(6, 10), (300, 70), (2, 50_000)])
def test_loop_indices_in_the_expression(shape):
    x = draw_array(np.dtype(np.int64), shape)
    for axis, reduced in itertools.product((0, 1), (0, 1)):
        out = np.empty(shape[1 - reduced], np.int64)
        nodes = [("load", 0), ("iota", axis, "int64"), ("map", times, (), (0, 1))]
        plan = emit.fold_plan(shape, [layout_of(x)], nodes, [emit.Reduce(2, "add", layout_of(out))], (reduced,))
        run_plan(plan, [x], [out])
        np.testing.assert_array_equal(out, (x * np.indices(shape)[axis]).sum(reduced))


def test_results_of_any_layout_and_dtype():
    x = draw_array(np.dtype(np.float32), (30, 40, 50))
    wide = np.zeros((50, 2, 30), np.float64)
    out = wide[::-1, 1, :].T
    target = Layout(out.dtype, out.shape, tuple(s // 8 for s in out.strides))
    run_plan(emit.fold_plan(x.shape, [layout_of(x)], [("load", 0)], [emit.Reduce(0, "add", target)], (1,)), [x], [out])
    np.testing.assert_array_equal(out, x.sum(1))
    assert not wide[:, 0].any()


def test_a_spec_holds_no_sizes():
    def spec(n, k):
        x, y = Layout.contiguous(np.float32, (n, k)), Layout.contiguous(np.float32, (k,))
        return emit.fold_plan((n, k), [x], [("load", 0)], [emit.Reduce(0, "add", y)], (0,)).steps[0].kernel

    assert spec(64, 320) == spec(1000, 320) == spec(50, 640)
    assert spec(64, 32) == spec(1000, 32) != spec(64, 33)  # few columns: their number is part of the code


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), BFLOAT16, np.dtype(np.int32)], ids=str)
@pytest.mark.parametrize("columns", [2, 3, 6, 10, 20, 31])
def test_rows_of_few_columns_are_folded_side_by_side(columns, dtype):
    """With an expression and its value as an extra result; the kernel is the same for every batch size."""
    rng = np.random.default_rng(columns)
    kernels = set()
    for batch in (1, 3, 40):
        shape = (batch, 8, 16, columns)
        x, y = (rng.integers(0, 2, shape).astype(dtype) for _ in range(2))
        total, most, product = np.empty(columns, dtype), np.empty(columns, dtype), np.empty(shape, dtype)
        folds = [emit.Reduce(2, "add", layout_of(total)), emit.Reduce(0, "max", layout_of(most))]
        plan = emit.fold_plan(
            shape, [layout_of(x), layout_of(y)], [("load", 0), ("load", 1), ("map", times, (), (0, 1))], folds,
            (0, 1, 2), [(layout_of(product), 2)],
        )  # fmt: skip
        run_plan(plan, [x, y], [total, most, product], tile_by_tile=True)
        np.testing.assert_array_equal(product, x * y)
        np.testing.assert_array_equal(total, expected("add", x * y, (0, 1, 2)))
        np.testing.assert_array_equal(most, x.max((0, 1, 2)))
        kernels.add(plan.steps[0].kernel)
    (kernel,) = kernels
    assert kernel.sizes[0] >= 32


def test_mistakes_are_named():
    x, y = Layout.contiguous(np.float32, (4, 3)), Layout.contiguous(np.float32, (4,))
    with pytest.raises(ValueError, match=r"fold_plan: combine must be one of .*, got 'median'"):
        emit.fold_plan((4, 3), [x], [("load", 0)], [emit.Reduce(0, "median", y)], (1,))
    with pytest.raises(ValueError, match=r"got \(4, 3\) without \(0,\) = \(3,\), out \(4,\)"):
        emit.fold_plan((4, 3), [x], [("load", 0)], [emit.Reduce(0, "add", y)], (0,))
    with pytest.raises(ValueError, match=r"argmax takes one axis, got \(0, 1\)"):
        scalar = Layout.contiguous(np.int64, ())
        emit.fold_plan((4, 3), [x], [("load", 0)], [emit.Reduce(0, "argmax", scalar)], (0, 1))
