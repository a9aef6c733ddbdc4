"""The functions of fgrad.lax over the structural primitives: what they make canonical, compose and refuse."""

import functools
import re

import numpy as np
import pytest
from drawn import arrays

import fgrad
from fgrad import lax
from fgrad.core.check import check_jaxpr
from fgrad.errors import ConcretizationError
from fgrad.testing import check_batching, check_jvp, check_second_order, check_transpose, check_vjp
from fgrad.testing.execution import strided


def equal(got, want):
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


# --- dynamic slices --------------------------------------------------------------------------------------------------
STARTS = [(0, 0), (1, 2), (-1, -3), (9, 9), (-9, 1)]


def block(shape, starts, sizes):
    """NumPy slices of the block XLA would take."""
    out = []
    for n, start, size in zip(shape, starts, sizes):
        start = min(max(start + n if start < 0 else start, 0), n - size)
        out.append(slice(start, start + size))
    return tuple(out)


@pytest.mark.parametrize("starts", STARTS)
@pytest.mark.parametrize("sizes", [(2, 3), (4, 2), (1, 5), (4, 5), (0, 2)])
def test_dynamic_slice_and_update(starts, sizes):
    x, u = arrays((4, 5), sizes)
    at = block((4, 5), starts, sizes)
    want = np.array(x)
    equal(lax.dynamic_slice(x, starts, sizes), want[at])
    equal(lax.dynamic_slice(x, np.array(starts), sizes), want[at])
    want[at] = np.asarray(u)
    equal(lax.dynamic_update_slice(x, u, starts), want)
    equal(lax.dynamic_update_slice(x, u, [np.int64(s) for s in starts]), want)


def test_dynamic_slices_transform():
    x, u = arrays((4, 5), (2, 5))
    for check in (check_transpose, functools.partial(check_jvp, linear=True)):
        check(lambda x: lax.dynamic_slice(x, (1, np.int32(0)), (2, 3)), (x,))
        check(lambda x, u: lax.dynamic_update_slice(x, u, (1, 0)), (x, u))
    index = lax.iota("int32", 3)[2]
    check_batching(lambda x, i: lax.dynamic_slice(x, (i, 1), (2, 3)), (x, index))
    check_batching(lambda x, u, i: lax.dynamic_update_slice(x, u, (i, 0)), (x, u, index))


# --- reductions and windows ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name, numpy", [("add", np.sum), ("mul", np.prod), ("max", np.max), ("min", np.min)])
def test_reduce_from_another_start(name, numpy):
    (x,) = arrays((3, 4))

    def f(x):
        return lax.reduce(x, 0.5, getattr(lax, name), (1,))

    np.testing.assert_allclose(np.asarray(f(x)), numpy(np.asarray(x), axis=1, initial=0.5))
    check_jvp(f, (x,))
    check_vjp(f, (x,))


@pytest.mark.parametrize("dtype", [np.bool_, np.int32, np.uint8])
@pytest.mark.parametrize("n", [0, 1, 5, 8])
def test_reduce_xor(dtype, n):
    x = np.random.default_rng(n).integers(0, 2 if dtype == np.bool_ else 200, (3, n, 2)).astype(dtype)
    equal(lax.reduce_xor(x, (1,)), np.bitwise_xor.reduce(x, axis=1))
    equal(lax.reduce_xor(x, (0, -1)), np.bitwise_xor.reduce(x, axis=(0, 2)))


def test_reduce_window_of_pairs():
    x = np.float32([1, 5, 2, 7])
    equal(lax.reduce_window(x, 0, lax.add, (2,)), np.float32([6, 7, 9]))
    equal(lax.reduce_window(x, 10, lax.add, (2,), (2,)), np.float32([16, 19]))
    equal(lax.reduce_window(x, 4, lax.max, (2,), (2,)), np.float32([5, 7]))
    equal(lax.reduce_window(x, 1, lax.min, (2,), (2,), 1), np.float32([1, 1, 1]))


# --- convolution -----------------------------------------------------------------------------------------------------
def test_every_way_to_write_dimension_numbers():
    x, w = arrays((2, 5, 6, 3), (3, 2, 3, 4))
    first = lax.conv_general_dilated(x, w, (1, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    numbers = lax.conv_dimension_numbers(x.shape, w.shape, ("NHWC", "HWIO", "NHWC"))
    for same in (numbers, [(0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)], ["NabC", "abIO", "NabC"]):
        equal(lax.conv_general_dilated(x, w, (1, 2), "SAME", dimension_numbers=same), first)
    plain = lax.conv_general_dilated(lax.transpose(x, (0, 3, 1, 2)), lax.transpose(w, (3, 2, 0, 1)), (1, 2), "SAME")
    np.testing.assert_allclose(np.asarray(lax.transpose(plain, (0, 2, 3, 1))), np.asarray(first), atol=1e-12)


def test_spatial_axes_are_ordered_as_in_rhs():
    x, w = arrays((1, 2, 5, 9), (3, 2, 2, 3))
    out = lax.conv_general_dilated(x, w, (1, 3), "VALID", dimension_numbers=("NCHW", "OIHW", "NCHW"))
    swapped = lax.conv_general_dilated(
        x, lax.transpose(w, (0, 1, 3, 2)), (3, 1), "VALID", dimension_numbers=("NCHW", "OIWH", "NCHW")
    )
    np.testing.assert_allclose(np.asarray(out), np.asarray(swapped), atol=1e-12)


def test_integer_padding():
    x, w = arrays((1, 2, 5, 6), (3, 2, 3, 3))
    want = lax.conv_general_dilated(x, w, (1, 1), [(1, 1), (2, 2)])
    equal(lax.conv_general_dilated(x, w, (1, 1), [1, 2]), want)
    assert lax.conv_general_dilated(x, w, (1, 1), 2).shape == (1, 3, 7, 8)


def test_conv_transpose_is_the_gradient_of_the_forward_convolution():
    x, w = arrays((2, 8, 8, 3), (3, 2, 3, 4))
    numbers = ("NHWC", "HWIO", "NHWC")
    for padding in ("SAME", "VALID", [(1, 0), (0, 1)]):
        out, pull = fgrad.vjp(lambda x, p=padding: lax.conv_general_dilated(x, w, (2, 1), p, None, None, numbers), x)
        (ct,) = arrays(out.shape)
        got = lax.conv_transpose(
            ct, w, (2, 1), padding, dimension_numbers=numbers, transpose_kernel=True, use_consistent_padding=True
        )
        want = np.asarray(pull(ct)[0])[:, : got.shape[1]]  # rows no window reached are not in got
        np.testing.assert_allclose(np.asarray(got)[:, : want.shape[1]], want, atol=1e-12)


def test_conv_general_shape_tuple():
    assert lax.conv_general_shape_tuple((2, 3, 7), (4, 3, 3), (2,), "SAME", None) == (2, 4, 4)


def test_the_gradient_of_a_loss_shows_the_composition():
    x, w = arrays((2, 3, 9, 9), (4, 3, 3, 3), dtype=np.float32)

    def loss(x, w):
        return lax.reduce_sum(lax.square(lax.conv_general_dilated(x, w, (2, 2), "SAME")), (0, 1, 2, 3))

    jaxpr = fgrad.make_jaxpr(fgrad.grad(loss, argnums=(0, 1)))(x, w)
    check_jaxpr(jaxpr)
    text = str(jaxpr)
    assert text.count(" conv_general_dilated[") == 3
    assert " rev[" in text
    assert " dilate[" in text


def test_second_derivative_of_a_strided_convolution_network():
    x, w = arrays((2, 2, 7), (3, 2, 3))

    def loss(x, w):
        y = lax.tanh(lax.conv_general_dilated(x, w, (2,), [(1, 0)]))
        return lax.reduce_window(y, -np.inf, lax.max, (1, 1, 2), (1, 1, 1))

    for check in (check_jvp, check_vjp, check_second_order):
        check(loss, (x, w))


def test_strided_operands():
    x, w = arrays((2, 3, 7), (4, 3, 3))
    got = lax.conv(strided(np.asarray(x)), strided(np.asarray(w)), (2,), "SAME")
    np.testing.assert_allclose(np.asarray(got), np.asarray(lax.conv(x, w, (2,), "SAME")), rtol=1e-12, atol=1e-12)


# --- errors ----------------------------------------------------------------------------------------------------------
X = np.zeros((3, 4))
K = np.zeros((2, 3, 3, 3))
ERRORS = [
    (
        lambda: lax.squeeze(X, (0,)),
        "squeeze: only axes of size 1 can be dropped, got axis 0 of size 3 in shape (3, 4). Index it, or use reshape.",
    ),
    (
        lambda: lax.index_in_dim(X, 4, 1),
        "index_in_dim: the index must be in [-4, 4), got 4 for axis 1 of shape (3, 4). Change the index.",
    ),
    (
        lambda: lax.broadcast_shapes((2, 3), (2,)),
        "broadcast_shapes: aligned sizes must be equal or 1, got (2, 3) and (2,). Reshape an operand.",
    ),
    (
        lambda: lax.pad(X, 0.0, [(0, 0), (0, 0)]),
        "pad: padding_config must hold (lo, hi, interior) triples, got (0, 0). Give all three.",
    ),
    (
        lambda: lax.slice(X, (0, 0), 3),
        "slice: limit_indices must be a sequence of integers, got 3. Use a tuple of ints.",
    ),
    (
        lambda: lax.dynamic_slice(X, (0,), (1, 1)),
        "dynamic_slice: start_indices must have one entry for each of the 2 axes, got 1. Give 2 entries.",
    ),
    (
        lambda: lax.dynamic_slice(X, (0, 0), (1, 5)),
        "dynamic_slice: the slice must not be larger than the operand, got size 5 on axis 1 of size 4. "
        "Use a smaller slice.",
    ),
    (
        lambda: lax.dynamic_slice(X, (0, np.float32(0)), (1, 1)),
        "dynamic_slice: start_indices must be integer scalars, got f32[]. Convert them with .astype.",
    ),
    (
        lambda: lax.dynamic_update_slice(X, np.zeros((2, 2), np.float32), (0, 0)),
        "dynamic_update_slice: operand and update must have equal dtypes and numbers of axes, got f64[3,4] and "
        "f32[2,2]. Reshape the update, or convert it with .astype.",
    ),
    (
        lambda: lax.reduce(X, 0.0, lax.sub, (0,)),
        f"reduce: computation must be lax.add, mul, max, min, bitwise_and, bitwise_or or bitwise_xor, got {lax.sub!r}. "
        "Write other folds with lax.scan or a Python loop.",
    ),
    (
        lambda: lax.reduce_window(X, 0.0, lax.mul, (1, 1)),
        f"reduce_window: computation must be lax.add, lax.max or lax.min, got {lax.mul!r}. "
        "Gather the windows and reduce them for another one.",
    ),
    (
        lambda: lax.reduce_window(X, 0.0, lax.add, (2, 2), padding="same_upper"),
        "padding: the name must be 'SAME', 'SAME_LOWER' or 'VALID', got 'same_upper'. "
        "Use one of them, or (lo, hi) for each axis.",
    ),
    (
        lambda: lax.gather(X, np.zeros((2, 1)), axes=(0,)),
        "gather: indices must be integers, got float64. Convert them with .astype(int).",
    ),
    (
        lambda: lax.dot(X, X),
        "dot: operands must be vectors or matrices that meet in one size, got shapes (3, 4) and (3, 4). "
        "Use dot_general or fgrad.numpy.matmul for more axes.",
    ),
    (
        lambda: lax.batch_matmul(X, np.zeros(4)),
        "batch_matmul: operands must have equally many axes, at least 2, got shapes (3, 4) and (4,). "
        "Use fgrad.numpy.matmul to broadcast.",
    ),
    (
        lambda: lax.conv(np.zeros((1, 3, 5, 5)), K, (1, 1), [(1,), (1,)]),
        "padding: each axis needs (lo, hi), got ((1,), (1,)). Give pairs of integers.",
    ),
    (
        lambda: lax.conv_general_dilated(np.zeros((1, 3, 5, 5)), K, (1, 1), "SAME", (2, 1)),
        "conv_general_dilated: a padding name does not say how to pad a dilated lhs, got 'SAME' and lhs_dilation "
        "(2, 1). Give (lo, hi) for each spatial axis, or use conv_transpose.",
    ),
    (
        lambda: lax.conv_dimension_numbers((1, 3, 5, 5), (2, 3, 3, 3), ("NCHW", "OIHH", "NCHW")),
        "conv_dimension_numbers: the lhs order must have 4 different letters, 'N', 'C' and the spatial letters of rhs, "
        "got 'NCHW' with rhs 'OIHH'. Write for example ('NHWC', 'HWIO', 'NHWC').",
    ),
    (
        lambda: lax.conv_dimension_numbers((1, 3, 5, 5), (2, 3, 3, 3), "NCHW"),
        "conv_dimension_numbers: there must be three orders (lhs, rhs, result), got 'NCHW'. "
        "Write for example ('NHWC', 'HWIO', 'NHWC').",
    ),
    (
        lambda: lax.conv_transpose(np.zeros((1, 3, 2, 2, 2, 2)), np.zeros((2, 3, 1, 1, 1, 1)), (1,) * 4, "SAME"),
        "conv_transpose: there is a default order for 1 to 3 spatial axes, got lhs of shape (1, 3, 2, 2, 2, 2) "
        "(4 spatial). Give dimension_numbers.",
    ),
]


@pytest.mark.parametrize("call, message", ERRORS, ids=[m[:45] for _, m in ERRORS])
def test_errors(call, message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        call()


def test_a_traced_shape_names_the_argument():
    with pytest.raises(ConcretizationError, match="argument 'n' of <lambda> has no value"):
        fgrad.make_jaxpr(lambda n: lax.slice(np.zeros(3), (0,), (n,)))(np.int32(2))
