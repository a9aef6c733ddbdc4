"""Operators and methods of Array."""

import operator

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp

X = np.array([[1.5, -2.0, 3.0], [4.0, 0.5, -6.0]], np.float32)
K = np.array([[5, -7, 3], [2, 9, -4]], np.int32)
BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "eq", "ne", "lt", "le", "gt", "ge"]


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("other", [X[0], 2, 2.5, np.float32(3), X], ids=["row", "int", "float", "scalar", "same"])
def test_operators_both_ways(name, other):
    op = getattr(operator, name)
    x = fnp.asarray(X)
    for ours, theirs in ((op(x, other), op(X, other)), (op(other, x), op(other, X))):
        assert isinstance(ours, fgrad.Array)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    jitted = fgrad.jit(lambda a: op(a, other))(X)
    np.testing.assert_allclose(jitted, op(X, other), rtol=1e-6)


@pytest.mark.parametrize("name", ["and_", "or_", "xor", "lshift", "rshift"])
def test_bit_operators(name):
    op = getattr(operator, name)
    np.testing.assert_array_equal(op(fnp.asarray(K), 3), op(K, 3))
    np.testing.assert_array_equal(op(3, fnp.asarray(abs(K))), op(3, abs(K)))


def test_unary_operators():
    x = fnp.asarray(X)
    np.testing.assert_array_equal(-x, -X)
    np.testing.assert_array_equal(+x, X)
    np.testing.assert_array_equal(abs(x), abs(X))
    np.testing.assert_array_equal(~fnp.asarray(K), ~K)
    np.testing.assert_array_equal(round(x), np.round(X))
    assert (x @ x.T).shape == (2, 2) and divmod(x, 2)[0].shape == (2, 3)


def test_other_types_are_left_to_python():
    x = fnp.zeros(2)
    assert (x == "a") is False and (x != None) is True  # noqa: E711
    with pytest.raises(TypeError, match="unsupported operand"):
        x + [1, 2]


METHODS = [
    "sum()", "sum(0)", "mean(axis=1)", "var()", "std(axis=0)", "max()", "min(1)", "prod()", "argmax()", "argmin(1)",
    "any()", "all(0)", "cumsum(0)", "cumprod(1)", "clip(-1, 1)", "round(1)", "reshape(3, 2)", "reshape((2, -1))",
    "reshape(-1)", "ravel()", "flatten()", "transpose()", "transpose(1, 0)", "transpose((1, 0))", "swapaxes(0, 1)",
    "T", "squeeze()", "take(np.array([1, 0]), 1)", "repeat(2, 0)", "dot(np.ones(3, np.float32))", "diagonal()",
    "trace()", "astype(np.int32)", "astype('float64')", "astype(bool)", "copy()", "view(np.int32)", "mT",
]  # fmt: skip


@pytest.mark.parametrize("call", METHODS)
def test_methods(call):
    expected = eval("x." + call, {"x": X, "np": np})
    out = eval("x." + call, {"x": fnp.asarray(X), "np": np})
    assert out.shape == expected.shape
    np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_sequence_protocol():
    x = fnp.asarray(X)
    assert len(x) == 2 and [row.tolist() for row in x] == X.tolist() and 4.0 in x
    a, b = fgrad.jit(lambda v: tuple(v))(X)
    assert a.tolist() == X[0].tolist() and b.tolist() == X[1].tolist()
    with pytest.raises(TypeError, match=r"len: a scalar has no length, got f32\[\]. Use x.size"):
        len(x[0, 0])
    with pytest.raises(TypeError, match=r"iter: a scalar has no elements"):
        list(x[0, 0])
    assert x.__array_namespace__() is fnp
    assert np.float32(2.0) * x[0, 0] == 3.0 and (X + x).shape == (2, 3)


def test_views_share_and_stay_read_only():
    x = fnp.asarray(X)
    row = np.asarray(x[0])
    with pytest.raises(ValueError, match="read-only"):
        row[0] = 9


@pytest.mark.parametrize("name", ["sum", "mean", "max", "argmin", "any", "cumsum", "round"])
def test_numpy_functions_call_the_method(name):
    x = fnp.arange(6.0).reshape(2, 3)
    result = getattr(np, name)(x)
    assert isinstance(result, fgrad.Array)
    assert np.array_equal(result, getattr(np, name)(np.asarray(x)))


def test_a_result_is_never_written_into_another_array():
    with pytest.raises(TypeError) as caught:
        np.sum(fnp.ones(2), out=np.zeros(()))
    want = "sum: results are new arrays, got out=array(0.). Leave it out and use what is returned."
    assert str(caught.value) == want
