"""The NumPy oracle against jax.lax, over random draws of every parameter (group `oracle`: needs JAX)."""

from __future__ import annotations

import numpy as np
import pytest
from draws import BOOL, FLOATS, INTEGERS, any_of, check, values

from fgrad.kernels import reference

jax = pytest.importorskip("jax")
lax = jax.lax
pytestmark = pytest.mark.oracle


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def any_dtype(rng, *more):
    return any_of(rng, *FLOATS, *INTEGERS, *more)


@pytest.mark.parametrize("seed", range(60))
def test_conv(seed):
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    feature_groups, batch_groups = [(1, 1), (1, 1), (2, 1), (3, 1), (1, 2), (1, 3)][rng.integers(6)]
    n = int(rng.integers(1, 3)) * batch_groups
    c = int(rng.integers(1, 3))
    o = int(rng.integers(1, 3)) * feature_groups * batch_groups
    space = rng.integers(1, 7, rank)
    kernel = rng.integers(1, 4, rank)
    lhs_spec, rhs_spec, out_spec = (tuple(int(i) for i in rng.permutation(rank + 2)) for _ in range(3))
    lhs_shape, rhs_shape = np.zeros(rank + 2, int), np.zeros(rank + 2, int)
    lhs_shape[list(lhs_spec)] = n, c * feature_groups, *space
    rhs_shape[list(rhs_spec)] = o, c, *kernel
    dtype = any_dtype(rng)
    x, w = values(rng, lhs_shape, dtype), values(rng, rhs_shape, dtype)
    params = {
        "window_strides": tuple(rng.integers(1, 4, rank).tolist()),
        "padding": tuple((int(a), int(b)) for a, b in rng.integers(-1, 4, (rank, 2))),
        "lhs_dilation": tuple(rng.integers(1, 4, rank).tolist()),
        "rhs_dilation": tuple(rng.integers(1, 4, rank).tolist()),
        "feature_group_count": feature_groups,
        "batch_group_count": batch_groups,
    }
    actual = reference.conv_general_dilated(x, w, dimension_numbers=(lhs_spec, rhs_spec, out_spec), **params)
    numbers = lax.ConvDimensionNumbers(lhs_spec, rhs_spec, out_spec)
    check(actual, lax.conv_general_dilated(x, w, dimension_numbers=numbers, **params))


@pytest.mark.parametrize("seed", range(30))
def test_dot_general(seed):
    rng = np.random.default_rng(seed)
    batch, contract, left, right = (rng.integers(0, 4, k).tolist() for k in rng.integers(0, 3, 4))
    lhs_order = rng.permutation(len(batch) + len(contract) + len(left))
    rhs_order = rng.permutation(len(batch) + len(contract) + len(right))
    lhs_shape, rhs_shape = np.zeros(len(lhs_order), int), np.zeros(len(rhs_order), int)
    lhs_shape[lhs_order], rhs_shape[rhs_order] = batch + contract + left, batch + contract + right
    b, bc = len(batch), len(batch) + len(contract)
    numbers = (
        (tuple(lhs_order[b:bc].tolist()), tuple(rhs_order[b:bc].tolist())),
        (tuple(lhs_order[:b].tolist()), tuple(rhs_order[:b].tolist())),
    )
    dtype = any_dtype(rng)
    x, y = values(rng, lhs_shape, dtype), values(rng, rhs_shape, dtype)
    check(reference.dot_general(x, y, dimension_numbers=numbers), lax.dot_general(x, y, dimension_numbers=numbers))


@pytest.mark.parametrize("seed", range(30))
def test_pad(seed):
    rng = np.random.default_rng(seed)
    x = values(rng, rng.integers(0, 5, rng.integers(0, 4)), any_dtype(rng, BOOL))
    config = []
    for n in x.shape:
        lo, interior = int(rng.integers(-3, 4)), int(rng.integers(0, 3))
        spread = n + max(n - 1, 0) * interior
        config.append((lo, max(int(rng.integers(-3, 4)), -lo - spread), interior))
    value = values(rng, (), x.dtype)[()]
    check(reference.pad(x, value, padding_config=config), lax.pad(x, value, config))


def test_dilate_undilate_rev():
    x = np.arange(1, 7).reshape(2, 3)
    spread = reference.dilate(x, factors=(2, 3))
    assert spread.tolist() == [[1, 0, 0, 2, 0, 0, 3], [0] * 7, [4, 0, 0, 5, 0, 0, 6]]
    np.testing.assert_array_equal(reference.undilate(spread, factors=(2, 3)), x)
    assert reference.undilate(np.arange(8), factors=(3,)).tolist() == [0, 3, 6]
    assert reference.dilate(np.zeros((0, 1)), factors=(3, 3)).shape == (0, 1)
    check(reference.rev(x, dimensions=(0, 1)), lax.rev(x, (0, 1)))


@pytest.mark.parametrize("seed", range(60))
def test_gather_scatter(seed):
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 5))
    axes = tuple(sorted(rng.choice(rank, int(rng.integers(1, rank + 1)), replace=False).tolist()))
    operand = values(rng, rng.integers(1, 4, rank), any_dtype(rng))
    batch = tuple(rng.integers(0, 4, rng.integers(0, 3)).tolist())
    indices = rng.integers(-1, 4, (*batch, len(axes))).astype(rng.choice([np.int32, np.int64]))
    rest = [d for d in range(rank) if d not in axes]
    rest_shape = [operand.shape[d] for d in rest]
    # The same thing in XLA's words: indexed axes are collapsed slices of size 1, the rest follow the batch.
    window = tuple(range(len(batch), len(batch) + len(rest)))

    out_of_range = rng.choice(["clip", "fill"])
    numbers = lax.GatherDimensionNumbers(window, axes, axes)
    sizes = tuple(1 if d in axes else operand.shape[d] for d in range(rank))
    expected = lax.gather(operand, indices, numbers, sizes, mode=out_of_range, fill_value=0)
    check(reference.gather(operand, indices, axes=axes, mode=out_of_range), expected)

    updates = values(rng, (*batch, *rest_shape), operand.dtype)
    kind = rng.choice(["set", "add", "mul", "min", "max"])
    if kind == "set":  # XLA leaves the winner of duplicates open: keep only the last of each
        flat = np.zeros(batch, int)
        for j, a in enumerate(axes):
            flat = flat * operand.shape[a] + np.clip(indices[..., j], 0, operand.shape[a] - 1)
        last = {int(f): b for b, f in zip(np.ndindex(*batch), flat.ravel())}
        source = np.array([np.ravel_multi_index(last[int(f)], batch) if batch else 0 for f in flat.ravel()], int)
        updates = updates.reshape(flat.size, *rest_shape)[source].reshape(updates.shape)
        out_of_range = "clip"
    numbers = lax.ScatterDimensionNumbers(window, axes, axes)
    theirs = {"set": lax.scatter, "add": lax.scatter_add, "mul": lax.scatter_mul, "min": lax.scatter_min,
              "max": lax.scatter_max}[kind]  # fmt: skip
    expected = theirs(operand, indices, updates, numbers, mode=out_of_range)
    mode = "drop" if out_of_range == "fill" else "clip"
    check(reference.scatter(operand, indices, updates, axes=axes, mode=mode, kind=kind), expected)


def test_scatter_set_last_duplicate_wins():
    indices = np.array([[1], [1], [7], [0], [1]])
    out = reference.scatter(np.zeros(3), indices, np.arange(1.0, 6), axes=(0,), mode="drop", kind="set")
    assert out.tolist() == [4, 5, 0]


def test_clip_on_an_empty_axis_is_an_error():
    with pytest.raises(ValueError, match=r"gather: mode 'clip' needs a non-empty axis .* sizes \(0,\)\. Use mode"):
        reference.gather(np.zeros((0, 2)), np.zeros((3, 1), int), axes=(0,), mode="clip")


@pytest.mark.parametrize("seed", range(60))
def test_reduce_window(seed):
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    kind = str(rng.choice(["add", "max", "min"]))
    dtype = any_dtype(rng)
    x = values(rng, rng.integers(1, 7, rank), dtype, special=kind != "add")
    window = rng.integers(1, 4, rank)
    params = {
        "window_dimensions": tuple(window.tolist()),
        "window_strides": tuple(rng.integers(1, 4, rank).tolist()),
        "padding": tuple((int(a), int(b)) for a, b in rng.integers(-1, 4, (rank, 2))),
        "base_dilation": tuple(rng.integers(1, 4, rank).tolist()),
        "window_dilation": tuple(rng.integers(1, 4, rank).tolist()),
    }
    start = (
        reference.numerics.identity(kind, dtype) if dtype.kind in "iu" else {"max": -np.inf, "min": np.inf}.get(kind, 0)
    )
    combine = {"add": lax.add, "max": lax.max, "min": lax.min}[kind]
    expected = lax.reduce_window(x, np.asarray(start, dtype), combine, **params)
    check(reference.reduce_window(x, kind=kind, **params), expected)
    if kind == "add":
        return

    best, taps = reference.reduce_window_winner(x, kind=kind, **params)
    check(best, expected)
    none = np.prod(params["window_dimensions"])
    gathered = reference.gather_winners(x, taps, **params)
    check(np.where(taps == none, np.asarray(start, dtype), gathered).astype(dtype), expected)
    # The first winner: no earlier element of the window ties with it.  A window of integers that all differ from
    # one another only in their rank of arrival has the same winner.
    order = np.unique(x.astype(np.float64), return_inverse=True)[1].reshape(x.shape).astype(np.int64)
    order = -order if kind == "min" else order
    if np.isnan(x.astype(np.float64)).any():
        order[np.isnan(x.astype(np.float64))] = order.max() + 1
    distinct = (order + x.size) * (x.size + 1) + np.arange(x.size)[::-1].reshape(x.shape)
    np.testing.assert_array_equal(taps, reference.reduce_window_winner(distinct, kind="max", **params)[1])


def test_windows_without_elements_have_no_winner():
    x = np.array([-np.inf, 1.0])
    window = {"window_strides": [1], "base_dilation": [3], "window_dilation": [1], "padding": [(2, 0)]}
    best, taps = reference.reduce_window_winner(x, kind="max", window_dimensions=[2], **window)
    assert taps.tolist() == [2, 1, 0, 2, 1] and best.tolist() == [-np.inf, -np.inf, -np.inf, -np.inf, 1]
    ct = np.array([1.0, 2, 4, 8, 16])
    assert reference.gather_winners(ct[:2], taps, window_dimensions=[2], **window).tolist() == [0, 1, 1, 0, 2]
    assert reference.scatter_winners(ct, taps, shape=[2], window_dimensions=[2], **window).tolist() == [6, 16]


@pytest.mark.parametrize("seed", range(30))
def test_reductions(seed):
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(0, 4))
    dtype = any_dtype(rng, BOOL)
    x = values(rng, rng.integers(0, 5, rank), dtype, special=True)
    axes = tuple(d for d in range(rank) if rng.random() < 0.5)
    names = ["max", "min"]
    names += ["and", "or"] if dtype.kind not in "fV" else []
    names += ["sum", "prod"] if dtype.kind != "b" else []
    for name in names:
        theirs = getattr(lax, f"reduce_{name}" if hasattr(lax, f"reduce_{name}") else f"reduce_{name}_p")
        check(getattr(reference, f"reduce_{name}")(x, axes=axes), theirs(x, axes))
    if rank and x.size:
        axis = int(rng.integers(rank))
        for name in ("argmax", "argmin"):
            actual = getattr(reference, name)(x, axis=axis, index_dtype=np.dtype(np.int32))
            check(actual, getattr(lax, name)(x, axis, np.int32))
