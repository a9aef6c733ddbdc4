"""x[...] and x.at[...] against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fgrad
import fgrad.numpy as fnp
from fgrad.errors import ConcretizationError

X = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
K = np.array([1, 0, -1])
I2 = np.array([[0, -2], [1, 1]])
MASK = np.array([True, False, True])

INDICES = [
    0, -1, slice(None), slice(1, None), slice(None, None, -1), Ellipsis, None, (0, 1, 2, 3), (0, ..., 1),
    (slice(None), slice(2, 0, -1), None, slice(None, None, 2)), (None, 1, None), (..., None), (..., -1), (),
    (slice(0, 0),), (slice(None), slice(5, 9)), (slice(-1, None, -2), 0, slice(None, -1)),
    np.array([1, 0]), (I2,), (slice(None), K), (slice(None), I2, 1), (0, K), (0, slice(None), K), (K[:2] * 0, K[:2]),
    (slice(None), K, slice(None), K), (slice(None), K, K), (slice(None), slice(None), K, K), (I2, slice(None), I2),
    (None, I2), (slice(None), None, K), (K[:2], None, K[:2]), (..., K), (..., K, I2[:1, :1]),
    (slice(None, None, -1), slice(2, 0, -1), K), (1, slice(1, 3), K, slice(None, None, -2)),
    (slice(None), MASK), (..., np.array([True, False, False, True, True])), (slice(None), MASK, 0),
    (np.array([True, False]), MASK.argmax()), X[0] > 30, (X > 50,), (slice(None), X[0, :, :, 0] > 30),
    True, False, (slice(None), True), (True, K[:2]), (slice(None), np.array(2)), (np.int64(1), np.uint8(1)),
    (slice(None), np.zeros((0,), int)), (np.zeros((2, 0), int),), (slice(None), np.uint8([0, 2])),
]  # fmt: skip
# `x[mask]` of a whole array with a mask of lower rank: the first axes
INDICES = [i for i in INDICES if not (isinstance(i, np.ndarray) and i.dtype == bool and i.shape == X.shape[1:])]


@pytest.mark.parametrize("index", INDICES, ids=range(len(INDICES)))
def test_read(index):
    expected = X[index]
    out = fnp.asarray(X)[index]
    assert out.shape == expected.shape and out.dtype == expected.dtype
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(fgrad.jit(lambda x: x[index])(X), expected)


@pytest.mark.parametrize("index", INDICES, ids=range(len(INDICES)))
def test_write(index):
    part = X[index]
    values = np.arange(part.size, dtype=np.float32).reshape(part.shape) * 3 + 1
    expected = X.copy()
    expected[index] = values
    np.testing.assert_array_equal(fnp.asarray(X).at[index].set(values), expected)
    np.testing.assert_array_equal(fgrad.jit(lambda x, v: x.at[index].set(v))(X, values), expected)
    added = X.copy()
    np.add.at(added, index, values)
    np.testing.assert_array_equal(fnp.asarray(X).at[index].add(values), added)
    scalar = X.copy()
    scalar[index] = 7
    np.testing.assert_array_equal(fnp.asarray(X).at[index].set(7), scalar)


@st.composite
def indexed(draw):
    shape = draw(hnp.array_shapes(max_dims=4, max_side=4))
    if draw(st.booleans()):
        return shape, draw(hnp.basic_indices(shape, allow_newaxis=True))
    items = []
    block = draw(hnp.array_shapes(max_dims=2, max_side=3))
    for n in shape:
        kind = draw(st.sampled_from(["array", "slice", "int", "none and slice"]))
        if kind == "array":
            items.append(draw(hnp.arrays(np.int32, block, elements=st.integers(-n, n - 1))))
        elif kind == "int":
            items.append(draw(st.integers(-n, n - 1)))
        else:
            items += [None] * (kind != "slice") + [draw(st.slices(n))]
    return shape, tuple(items)


@given(indexed())
@settings(max_examples=150)
def test_any_index(case):
    shape, index = case
    x = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    expected = x[index]
    # through parse, slice and gather, not the eager view
    staged = fgrad.make_jaxpr(lambda a: a[index])(x)
    assert staged.out_avals[0].shape == expected.shape
    out = fgrad.vmap(lambda a: a[index])(x[None])
    np.testing.assert_array_equal(out[0], expected)
    added = x.copy()
    np.add.at(added, index, 5)
    np.testing.assert_array_equal(fnp.asarray(x).at[index].add(5), added)


def test_traced_indices():
    f = fgrad.jit(lambda x, i, j: (x[i], x[:, i], x[i, :, j], x[j], x.at[i].set(0.0)))
    for i, j in ((0, 1), (-1, -2), (1, 0)):
        a, b, c, d, e = f(X, i, np.array([j, 0]))
        np.testing.assert_array_equal(a, X[i])
        np.testing.assert_array_equal(b, X[:, i])
        np.testing.assert_array_equal(c, X[i, :, np.array([j, 0])])
        np.testing.assert_array_equal(d, X[np.array([j, 0])])
        expected = X.copy()
        expected[i] = 0
        np.testing.assert_array_equal(e, expected)


def test_out_of_range_arrays_clamp_and_drop():
    x = fnp.arange(4.0)
    i = fnp.array([1, 9, -9])
    assert x[i].tolist() == [1.0, 3.0, 0.0]
    assert x.at[i].set(7.0).tolist() == [0.0, 7.0, 2.0, 3.0]
    assert x.at[i].set(7.0, mode="clip").tolist() == [7.0, 7.0, 2.0, 7.0]
    np.testing.assert_array_equal(x.at[i].get(mode="fill"), [1.0, np.nan, np.nan])
    assert x.at[i].get(mode="fill", fill_value=-1).tolist() == [1.0, -1.0, -1.0]
    assert fnp.arange(4).at[i].get(mode="fill").tolist() == [1, -(2**31), -(2**31)]
    np.testing.assert_array_equal(fnp.take(x, i), [1.0, np.nan, np.nan])


@pytest.mark.parametrize("dtype, nothing", [
    (np.float32, np.nan), (np.complex128, np.nan), (np.int8, -128), (np.uint16, 65535), (np.bool_, True),
])  # fmt: skip
def test_what_is_read_where_there_is_nothing(dtype, nothing):
    x = np.array([[0, 1, 1], [1, 0, 0]]).astype(dtype)
    i = np.array([[1, -1, 3], [0, -4, -3]])
    want = np.array([[x[0, 1], x[0, 2], nothing], [x[1, 0], nothing, x[1, 0]]], dtype)
    for f in (fnp.take_along_axis, fgrad.jit(fnp.take_along_axis)):
        np.testing.assert_array_equal(f(x, i), want)
    got = fgrad.jit(lambda x, i: fnp.take_along_axis(x, i, 1, mode="clip"))(x, i)
    np.testing.assert_array_equal(got, x[[[0], [1]], [[1, 2, 2], [0, 0, 0]]])
    np.testing.assert_array_equal(fnp.take(fnp.asarray(x[0]), i), np.where((i < -3) | (i > 2), want[0, 2], x[0, i % 3]))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, None])
@pytest.mark.parametrize("ones", [(), (0,), (0, 2), (1, 2)])
def test_take_along_axis_with_axes_of_size_one(axis, ones):
    """The axes of size 1 are the operand's, or where the operand is full the indices'."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=[1 if d in ones else n for d, n in enumerate((3, 4, 5))])
    i = rng.integers(-1, 1, (3, 4, 5) if axis is not None else 7)
    at = 0 if axis is None else axis % 3
    table = x.ravel() if axis is None else np.broadcast_to(x, [*i.shape[:at], x.shape[at], *i.shape[at + 1 :]])
    want = np.take_along_axis(table, i, at)
    weights = rng.normal(size=want.shape)
    for f in (fnp.take_along_axis, fgrad.jit(fnp.take_along_axis, static_argnums=2)):
        np.testing.assert_array_equal(f(x, i, axis), want)
        grad = fgrad.grad(lambda x, f=f: (f(x, i, axis) * weights).sum())(x)
        step = rng.normal(size=x.shape)  # f is linear: <grad, step> is the change of the sum
        change = np.vdot(np.asarray(f(x + step, i, axis)) - want, weights)
        np.testing.assert_allclose(np.vdot(grad, step), change, rtol=1e-9, atol=1e-12)


def test_take_along_axis_at_what_no_signed_integer_holds():
    x, i = np.array([1.0, 2.0]), np.array([2**64 - 1, 1, 2**63], np.uint64)
    np.testing.assert_array_equal(fnp.take_along_axis(x, i, 0), [np.nan, 2, np.nan])
    np.testing.assert_array_equal(fnp.take_along_axis(x, i, 0, mode="clip"), [2, 2, 2])


def test_what_was_read_from_nowhere_has_no_gradient():
    i = np.array([[1, 7], [-9, 0]])
    for f in (fgrad.grad, lambda f: fgrad.jit(fgrad.grad(f))):
        grad = f(lambda x: fnp.nansum(fnp.take_along_axis(x, i, 1) * 2.0))(np.ones((2, 3)))
        assert grad.tolist() == [[0.0, 2.0, 0.0], [2.0, 0.0, 0.0]]


def test_updates():
    x = fnp.array([1.0, 2.0, 3.0])
    i = fnp.array([0, 0, 2])
    assert x.at[i].subtract(1.0).tolist() == [-1.0, 2.0, 2.0]
    assert x.at[i].multiply(2.0).tolist() == [4.0, 2.0, 6.0]
    assert x.at[i].mul(2.0).tolist() == [4.0, 2.0, 6.0]
    assert x.at[i].divide(2.0).tolist() == [0.25, 2.0, 1.5]
    assert x.at[i].power(2.0).tolist() == [1.0, 2.0, 9.0]
    assert x.at[i].min(fnp.array([5.0, -1.0, 2.0])).tolist() == [-1.0, 2.0, 2.0]
    assert x.at[i].max(fnp.array([5.0, -1.0, 2.0])).tolist() == [5.0, 2.0, 3.0]
    assert x.at[1:].apply(fnp.square).tolist() == [1.0, 4.0, 9.0]
    assert x.at[:].add(1.0).tolist() == [2.0, 3.0, 4.0] and x.at[...].set(0.0).tolist() == [0.0, 0.0, 0.0]
    assert x.at[1].get().item() == 2.0 and x.tolist() == [1.0, 2.0, 3.0]


ERRORS = [
    (lambda x: x[2], IndexError, r"index: must lie in \[-2, 2\) for axis 0, got 2 for shape \(2, 3, 4, 5\). Change"),
    (lambda x: x[0, 0, 0, 0, 0], IndexError, r"index: at most 4 axes can be indexed, got 5 indices for shape"),
    (lambda x: x[..., 0, ...], IndexError, r"index: only one '...' is allowed"),
    (lambda x: x[[0, 1]], TypeError, r"index: a list is no index, got \[0, 1\]. Use a tuple, or fgrad.numpy.array"),
    (lambda x: x["a"], TypeError, r"index: must be integers, slices.*got 'a' of type str"),
    (lambda x: x[fnp.ones(2)], TypeError, r"index: arrays must hold integers or booleans, got f32\[2\]"),
    (lambda x: x[np.ones(3, bool)], IndexError, r"index: a mask must have the sizes of .* mask \(3,\) for axes 0"),
    (lambda x: x[::0], ValueError, r"index: a slice's step must not be 0"),
    (lambda x: x[K, I2[:, :, None][:, :, :0].reshape(0, 2)], ValueError, r"index: shapes must broadcast"),
    (lambda x: x.at[0].set(fnp.ones(7)), ValueError, r"at: shapes must broadcast|at: the value must broadcast"),
    (lambda x: x.at[0].set(fnp.ones((2, 3, 4, 5))), ValueError, r"at: the value must broadcast to the indexed part"),
    (lambda x: x.astype(int).at[0].set(1.5), TypeError, r"at: the value must fit the array's dtype without loss"),
    (lambda x: x.at[0].set(1.0, mode="wrong"), ValueError, r"at: mode must be 'drop'.*got 'wrong'"),
    (lambda x: fgrad.jit(lambda y: y[y > 0])(x), ConcretizationError, r"index: the values decide.*fgrad.numpy.where"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "error", "message"), ERRORS)
def test_errors(bad, error, message):
    with pytest.raises(error, match=message):
        bad(fnp.asarray(X))


def test_assignment_is_refused():
    x = fnp.zeros(3)
    with pytest.raises(
        TypeError, match=r"setitem: an Array never changes, got an assignment to x\[0\].*x.at\[index\].set"
    ):
        x[0] = 1.0
    y = x
    y += 1
    assert x.tolist() == [0.0, 0.0, 0.0] and y.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "index", [(slice(None), K), (I2,), (0, ..., slice(None, None, -2)), (K[:2], None, slice(1, 3))]
)
def test_derivatives(index):
    x = X.astype(np.float64)
    ct = np.random.default_rng(0).normal(size=x[index].shape)
    gradient = fgrad.grad(lambda a: fnp.sum(a[index] * ct))(x)
    expected = np.zeros_like(x)
    np.add.at(expected, index, ct)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)
    of_values = fgrad.grad(lambda v: fnp.sum(fnp.asarray(x).at[index].add(v) * x))(ct)
    np.testing.assert_allclose(of_values, x[index], rtol=1e-12)


def test_vmap_over_indices():
    x = fnp.asarray(X[0, :, :, 0])
    out = fgrad.vmap(lambda row, i: row[i])(x, fnp.array([3, 0, -1]))
    assert out.tolist() == [X[0, 0, 3, 0], X[0, 1, 0, 0], X[0, 2, -1, 0]]
