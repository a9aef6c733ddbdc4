"""gather and scatter kernels against the reference, over random draws of operands, indices, layouts and modes."""

from __future__ import annotations

import numpy as np
import pytest
from draws import BOOL, COMPLEX, FLOATS, INTEGERS, any_of, check, layout_of, strided, values

from fgrad import config
from fgrad.kernels import reference
from fgrad.kernels.cpu.driver import from_plan
from fgrad.kernels.indexing_plan import plan_gather, plan_scatter
from fgrad.kernels.layout import Layout

KINDS = ("set", "add", "mul", "max", "min")
EXACT: dict[str, float] = {}


def program(planner, arrays, out_shape, **params):
    ins, outs = [layout_of(x) for x in arrays], [Layout.contiguous(arrays[0].dtype, out_shape)]
    return from_plan(planner(ins, outs, **params), ins, outs)


def compare_gather(operand, indices, axes, mode):
    expected = reference.gather(operand, indices, axes=axes, mode=mode)
    actual = program(plan_gather, [operand, indices], expected.shape, axes=axes, mode=mode)(operand, indices)[0]
    check(actual, expected, EXACT)


def compare_scatter(operand, indices, updates, axes, mode, kind):
    expected = reference.scatter(operand, indices, updates, axes=axes, mode=mode, kind=kind)
    arrays = (operand, indices, updates)
    actual = program(plan_scatter, arrays, operand.shape, axes=axes, mode=mode, kind=kind)(*arrays)[0]
    check(actual, expected, EXACT)


def draw(rng, dtype, special=False):
    """(operand, indices, updates, axes): duplicates and out-of-range indices are frequent; sizes may be 0 or 1."""
    rank = int(rng.integers(1, 5))
    axes = tuple(sorted(rng.choice(rank, int(rng.integers(0, rank + 1)), replace=False).tolist()))
    operand = values(rng, rng.integers(any_of(rng, 0, 1, 2), 5, rank), dtype, special)
    batch = tuple(rng.integers(0, 5, rng.integers(0, 4)).tolist())
    indices = rng.integers(-1, 5, (*batch, len(axes))).astype(any_of(rng, np.int32, np.int64, np.int8))
    rest = [operand.shape[d] for d in range(rank) if d not in axes]
    updates = values(rng, (*batch, *rest), dtype, special)
    return strided(rng, operand), strided(rng, indices), strided(rng, updates), axes


def can_clip(operand, indices, axes):
    return 0 in indices.shape[:-1] or 0 not in [operand.shape[a] for a in axes]


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, BOOL, *COMPLEX], ids=str)
def test_gather(dtype):
    rng = np.random.default_rng(1)
    for _ in range(30):
        operand, indices, _, axes = draw(rng, dtype)
        compare_gather(operand, indices, axes, "fill")
        compare_gather(operand, indices, axes, "mark")
        if can_clip(operand, indices, axes):
            compare_gather(operand, indices, axes, "clip")


# Each (kind, dtype) is a kernel that a fresh clone compiles in seconds: kinds meet the kinds of dtype, not every width.
FEW = [np.dtype(np.float32), np.dtype(np.uint64), np.dtype(np.int8)]
COMBINATIONS = [
    *(("set", dtype) for dtype in [FLOATS[0], *FEW[1:], BOOL, *COMPLEX]),
    *(("add", dtype) for dtype in [*FLOATS, np.dtype(np.int32), BOOL, *COMPLEX]),
    ("mul", FEW[0]),
    *((kind, dtype) for kind in ("max", "min") for dtype in FEW[:2]),
    ("max", FLOATS[-1]),
]
THE_OTHERS = [
    (kind, dtype) for kind in KINDS for dtype in [*FLOATS, *INTEGERS, BOOL] if (kind, dtype) not in COMBINATIONS
]


@pytest.mark.parametrize(
    "kind, dtype", [*COMBINATIONS, *(pytest.param(*case, marks=pytest.mark.long) for case in THE_OTHERS)], ids=str
)
def test_scatter(kind, dtype):
    rng = np.random.default_rng(2)
    for _ in range(15):
        operand, indices, updates, axes = draw(rng, dtype, special=kind in ("max", "min"))
        compare_scatter(operand, indices, updates, axes, "drop", kind)
        if can_clip(operand, indices, axes):
            compare_scatter(operand, indices, updates, axes, "clip", kind)


def test_complex_scatter():
    x = np.zeros(3, np.complex64)
    indices = np.zeros((3, 1), np.int32)
    with pytest.raises(TypeError, match="scatter: kind 'mul' has no kernel for complex numbers, got complex64"):
        program(plan_scatter, (x, indices, x), x.shape, axes=(0,), mode="drop", kind="mul")


def test_clip_on_an_empty_axis_is_an_error():
    x, indices = np.zeros((0, 2)), np.zeros((3, 1), np.int32)
    with pytest.raises(ValueError, match=r"gather: mode 'clip' needs a non-empty axis .* axes \(0,\) of sizes \(0,\)"):
        program(plan_gather, (x, indices), (3, 2), axes=(0,), mode="clip")
    with pytest.raises(ValueError, match=r"scatter: mode 'clip' needs a non-empty axis .* axes \(0,\) of sizes \(0,\)"):
        program(plan_scatter, (x, indices, np.zeros((3, 2))), x.shape, axes=(0,), mode="clip", kind="add")


def place(shape, rng, near, rows):
    """Flat positions of an operand: near their own rank, as max pooling's winners are, or anywhere."""
    size = int(np.prod(shape))
    anywhere = rng.integers(0, size, rows)
    nearby = np.clip(np.arange(rows) * size // rows + rng.integers(-50, 50, rows), 0, size - 1)
    return (nearby if near else anywhere)[:, None]


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize("kind", ["add", "set"])
@pytest.mark.parametrize("width", [1, 3, 64, 9000])
def test_large_scatter_and_threads(near, kind, width, monkeypatch):
    """Many ranges, chunks and columns of tiles; the same bits for one thread and for several."""
    rng = np.random.default_rng(6)
    rows = max(30, 300_000 // width)
    operand = values(rng, (max(10, rows // 2), width), np.float32)
    indices = place(operand.shape[:1], rng, near, rows)
    indices[::17] = -1
    updates = values(rng, (rows, width), np.float32)
    expected = operand.copy()
    kept = indices[:, 0] >= 0
    if kind == "add":
        np.add.at(expected, indices[kept, 0], updates[kept])
    else:
        last = dict(zip(indices[kept, 0].tolist(), np.flatnonzero(kept).tolist()))
        expected[list(last)] = updates[list(last.values())]
    arrays = (operand, indices, updates)
    scatter = program(plan_scatter, arrays, operand.shape, axes=(0,), mode="drop", kind=kind)
    np.testing.assert_array_equal(scatter(*arrays)[0], expected)
    monkeypatch.setattr(config, "num_threads", lambda: 1)
    np.testing.assert_array_equal(scatter(*arrays)[0], expected)


def test_large_gather():
    rng = np.random.default_rng(7)
    operand = strided(rng, values(rng, (40, 30, 50), np.float32))
    indices = rng.integers(-1, 41, (200, 1))
    compare_gather(operand, indices, (0,), "fill")
    compare_gather(operand, indices[:100], (1,), "clip")
    compare_gather(np.broadcast_to(operand[:, :1, :1], (40, 300, 90)), indices[:5], (0,), "fill")
