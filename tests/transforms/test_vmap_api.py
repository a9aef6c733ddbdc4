"""vmap as users call it: axes, pytrees, sizes, results."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp

A = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("out_axis", [0, 1, -1])
def test_axes(axis, out_axis):
    got = fgrad.vmap(lambda x: fnp.sin(x) * 2, in_axes=axis, out_axes=out_axis)(A)
    want = np.moveaxis(np.sin(np.moveaxis(A, axis, 0)) * 2, 0, out_axis)
    np.testing.assert_allclose(np.asarray(got), want)


def test_arguments_with_their_own_axes():
    w = np.arange(12.0).reshape(3, 4)
    got = fgrad.vmap(lambda x, y, z: x @ y + z, in_axes=(0, None, 1))(A[:, 0], w.T, np.ones((3, 2)))
    np.testing.assert_allclose(np.asarray(got), A[:, 0] @ w.T + 1)


def test_in_axes_as_a_prefix_of_a_tree():
    params = {"w": np.arange(6.0).reshape(2, 3), "b": (np.ones(3), np.zeros((3, 2)))}
    axes = ({"w": 0, "b": (None, 1)}, None)
    got = fgrad.vmap(lambda p, x: p["w"] * x + p["b"][0] + p["b"][1], in_axes=axes)(params, 2.0)
    np.testing.assert_allclose(np.asarray(got), params["w"] * 2 + 1)
    got = fgrad.vmap(lambda p: p["w"], in_axes=[0])({"w": np.arange(3.0)})
    assert got.tolist() == [0, 1, 2]


def test_keyword_arguments_are_mapped_over_their_first_axis():
    got = fgrad.vmap(lambda x, *, y: x + y)(np.arange(3.0), y=np.arange(3.0))
    assert got.tolist() == [0, 2, 4]


def test_unmapped_results_are_broadcast_or_kept():
    one, kept = fgrad.vmap(lambda x: (fnp.ones(2), fnp.ones(2)), out_axes=(1, None))(np.zeros(3))
    assert one.shape == (2, 3) and kept.shape == (2,)


def test_axis_size_when_nothing_is_mapped():
    got = fgrad.vmap(lambda x: x + 1, in_axes=None, axis_size=3)(np.float64(1))
    assert got.tolist() == [2, 2, 2]
    assert fgrad.vmap(lambda: 1.0, axis_size=2)().tolist() == [1, 1]


def test_results_that_are_inputs():
    x = fnp.asarray(A)
    same, twice, constant = fgrad.vmap(lambda a: (a, {"k": a}, 3))(x)
    assert same.tolist() == twice["k"].tolist() == A.tolist() and constant.tolist() == [3, 3]
    assert constant.dtype == np.int32


def test_the_function_sees_the_shape_without_the_axis():
    seen = []

    def f(x):
        seen.append((x.shape, x.dtype, x.ndim, x.size, len(x)))
        return x

    fgrad.vmap(f, in_axes=1)(A)
    assert seen == [((2, 4), np.float64, 2, 8, 2)]


def test_nested_maps():
    x, y = np.arange(2.0), np.arange(3.0)
    outer = fgrad.vmap(fgrad.vmap(lambda a, b: a * 10 + b, in_axes=(None, 0)), in_axes=(0, None))
    assert outer(x, y).tolist() == [[0, 1, 2], [10, 11, 12]]
    assert fgrad.jit(outer)(x, y).tolist() == [[0, 1, 2], [10, 11, 12]]


def test_a_size_of_zero():
    got = fgrad.vmap(lambda x: fnp.sum(x))(np.zeros((0, 3)))
    assert got.shape == (0,) and got.dtype == np.float64
    assert fgrad.jit(fgrad.vmap(lambda x: fnp.sum(x)))(np.zeros((0, 3))).shape == (0,)


def test_weak_types_stay_weak():
    out = fgrad.vmap(lambda x, s: x * s, in_axes=(0, None))(np.ones(2, np.float16), 2.5)
    assert out.dtype == np.float16


def test_grad_of_vmap_and_vmap_of_grad():
    def f(x):
        return fnp.sum(fnp.tanh(x) * x)

    x = np.linspace(-1, 1, 6).reshape(2, 3)
    want = np.tanh(x) + x * (1 - np.tanh(x) ** 2)
    for g in (fgrad.grad(lambda x: fnp.sum(fgrad.vmap(f)(x))), fgrad.vmap(fgrad.grad(f))):
        np.testing.assert_allclose(np.asarray(g(x)), want)
        np.testing.assert_allclose(np.asarray(fgrad.jit(g)(x)), want)
