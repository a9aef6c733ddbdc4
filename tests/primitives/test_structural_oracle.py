"""Movement, reductions, indexing, windows, dot and conv against JAX: values, gradients and second derivatives."""

import itertools

import numpy as np
import pytest

import fgrad
from fgrad import lax

pytestmark = pytest.mark.oracle

NHWC = ("NHWC", "HWIO", "NHWC")
MIXED = ("CNHW", "WOIH", "WHNC")


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def agree(got, want, tolerance=1e-12):
    got, want = np.asarray(got), np.asarray(want)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    if got.dtype.kind == "f":
        scale = np.abs(want[np.isfinite(want)]).max(initial=1e-3)
        np.testing.assert_allclose(got / scale, want / scale, rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_array_equal(got, want)


def compare(jax, of, *xs, second=True):
    """``of(lax)`` is the function; every float operand is differentiated."""
    ours, theirs = of(lax), of(jax.lax)
    theirs_on_numpy = [jax.numpy.asarray(x) for x in xs]
    out = theirs(*theirs_on_numpy)
    agree(ours(*xs), out)
    if np.asarray(out).dtype.kind != "f" or not np.isfinite(np.asarray(out)).all():
        return
    ct = normal(*out.shape, seed=1)

    def our_gradient(*xs):
        return fgrad.vjp(ours, *xs)[1](ct)

    def their_gradient(*xs):
        return jax.vjp(theirs, *xs)[1](jax.numpy.asarray(ct))

    for got, want in zip(our_gradient(*xs), their_gradient(*theirs_on_numpy)):
        agree(got, want)
    if second:
        ts = [normal(*x.shape, seed=2) for x in xs]
        got, want = fgrad.jvp(our_gradient, xs, ts)[1], jax.jvp(their_gradient, theirs_on_numpy, ts)[1]
        for g, w in zip(got, want):
            agree(g, w)


MOVEMENT = [
    (lambda lax: lambda x: lax.reshape(x, (4, 6), (2, 0, 1)), [(2, 3, 4)]),
    (lambda lax: lambda x: lax.transpose(x, (2, 0, 1)), [(2, 3, 4)]),
    (lambda lax: lambda x: lax.rev(x, (0, 2)), [(2, 3, 4)]),
    (lambda lax: lambda x: lax.broadcast(x, (2, 1)), [(3,)]),
    (lambda lax: lambda x: lax.broadcast_in_dim(x, (2, 3, 4), (0, 2)), [(2, 1)]),
    (lambda lax: lambda x: lax.squeeze(x, (1, -1)), [(2, 1, 3, 1)]),
    (lambda lax: lambda x: lax.expand_dims(x, (0, 3)), [(2, 3)]),
    (lambda lax: lambda x, y: lax.concatenate([x, y, x], 1), [(2, 3), (2, 1)]),
    (lambda lax: lambda x, v: lax.pad(x, v, [(1, -1, 2), (-2, 3, 0)]), [(4, 3), ()]),
    (lambda lax: lambda x, v: lax.pad(x, v, [(-2, -1, 1), (0, 0, 3)]), [(4, 3), ()]),
    (lambda lax: lambda x: lax.slice(x, (1, 0), (6, 3), (2, 1)), [(7, 3)]),
    (lambda lax: lambda x: lax.slice_in_dim(x, -4, None, 2, axis=1), [(2, 9)]),
    (lambda lax: lambda x: lax.index_in_dim(x, -2, 1, False), [(2, 5)]),
    (lambda lax: lambda x: lax.dynamic_slice(x, (np.int32(1), np.int32(-2)), (2, 3)), [(4, 5)]),
    (lambda lax: lambda x: lax.dynamic_slice(x, (9, 1, 0), (2, 1, 3)), [(4, 2, 3)]),
    (lambda lax: lambda x: lax.dynamic_slice_in_dim(x, np.int64(-1), 2, 1), [(2, 4, 3)]),
    (lambda lax: lambda x: lax.dynamic_index_in_dim(x, 1, 1, False), [(2, 4, 3)]),
    (lambda lax: lambda x, u: lax.dynamic_update_slice(x, u, (3, -3)), [(4, 5), (2, 2)]),
    (lambda lax: lambda x, u: lax.dynamic_update_slice_in_dim(x, u, 1, 1), [(2, 5), (2, 2)]),
    (lambda lax: lambda x, u: lax.dynamic_update_index_in_dim(x, u, -1, 1), [(2, 5), (2,)]),
    (lambda lax: lambda x: lax.index_take(x, (np.int32([0, -1, 9]), np.int32([1, 1, 0])), (0, 1)), [(3, 2, 2)]),
]


@pytest.mark.parametrize("of, shapes", MOVEMENT)
def test_movement(of, shapes, jax):
    compare(jax, of, *[normal(*s) for s in shapes])


@pytest.mark.parametrize("dtype", ["int32", "float64", "uint8"])
def test_iota(dtype, jax):
    agree(lax.broadcasted_iota(dtype, (2, 3, 2), 1), jax.lax.broadcasted_iota(dtype, (2, 3, 2), 1))


@pytest.mark.parametrize("axes", [(0,), (1, 2), (), (0, 1, 2)])
def test_reductions(axes, jax):
    x = normal(3, 4, 2)
    for name in ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min"):
        compare(jax, lambda lax, name=name: lambda x: getattr(lax, name)(x, axes), x)
        compare(jax, lambda lax, name=name: lambda x: getattr(lax, name)(x, axes), np.round(x))  # ties and zeros
        compare(jax, lambda lax, name=name: lambda x: getattr(lax, name)(x, axes), (x * 9).astype(np.int32))
    for name in ("reduce_and", "reduce_or", "reduce_xor"):
        compare(jax, lambda lax, name=name: lambda x: getattr(lax, name)(x, axes), (x * 99).astype(np.int16))
        compare(jax, lambda lax, name=name: lambda x: getattr(lax, name)(x, axes), x > 0)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions(name, jax):
    x = np.round(normal(3, 6))
    x[1, 2] = np.nan
    for axis in (0, 1):
        compare(jax, lambda lax, axis=axis: lambda x: getattr(lax, name)(x, axis, np.int32), x)


@pytest.mark.parametrize("name", ["add", "mul", "max", "min"])
def test_reduce(name, jax):
    """From another start than the identity JAX has the value right, but not the derivative."""
    identity = {"add": 0.0, "mul": 1.0, "max": -np.inf, "min": np.inf}[name]
    compare(jax, lambda lax: lambda x: lax.reduce(x, np.float64(identity), getattr(lax, name), (1,)), normal(3, 4))

    def from_half(lax):
        return lambda x: lax.reduce(x, np.float64(0.5), getattr(lax, name), (1,))

    agree(from_half(lax)(normal(3, 4)), from_half(jax.lax)(jax.numpy.asarray(normal(3, 4))))


WINDOWS = [
    ((7, 6), (2, 3), (2, 1), "SAME", None, None),
    ((7, 6), (2, 3), (1, 2), "SAME_LOWER", None, (2, 1)),
    ((7, 6), (3, 2), (3, 2), "VALID", (2, 1), (1, 2)),
    ((7, 6), (3, 1), None, [(2, -1), (-1, 0)], None, None),
    ((1, 5, 5, 2), (1, 2, 2, 1), (1, 2, 2, 1), "SAME", None, None),
]


@pytest.mark.parametrize("shape, dims, strides, padding, base, dilation", WINDOWS)
@pytest.mark.parametrize("name, init", [("add", 0.0), ("max", -np.inf), ("min", np.inf)])
def test_reduce_window(name, init, shape, dims, strides, padding, base, dilation, jax):
    def of(lax):
        return lambda x: lax.reduce_window(x, init, getattr(lax, name), dims, strides, padding, base, dilation)

    # JAX differentiates extrema once, and neither over dilated windows nor with negative padding.
    x = normal(*shape)
    if name == "add" or (not dilation and isinstance(padding, str)):
        compare(jax, of, x, second=name == "add")
    else:
        agree(of(lax)(x), of(jax.lax)(jax.numpy.asarray(x)))


@pytest.mark.parametrize("name", ["add", "max", "min"])
def test_reduce_window_from_another_start(name, jax):
    def of(lax):
        return lambda x: lax.reduce_window(x, 0.25, getattr(lax, name), (3,), (1,), "SAME")

    agree(of(lax)(normal(6)), of(jax.lax)(jax.numpy.asarray(normal(6))))


DOTS = [
    ((3, 4), (4, 5), (((1,), (0,)), ((), ()))),
    ((2, 3, 4), (2, 4, 5), (((2,), (1,)), ((0,), (0,)))),
    ((2, 3, 4, 5), (5, 4, 6, 3), (((2, 3), (1, 0)), ((1,), (3,)))),
    ((2, 3), (2, 3), (((), ()), ((1, 0), (1, 0)))),
]


@pytest.mark.parametrize("left, right, numbers", DOTS)
def test_dot_general(left, right, numbers, jax):
    compare(jax, lambda lax: lambda x, y: lax.dot_general(x, y, numbers), normal(*left), normal(*right))


def test_dot_and_batch_matmul(jax):
    for left, right in [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4))]:
        compare(jax, lambda lax: lax.dot, normal(*left), normal(*right))
    compare(jax, lambda lax: lax.batch_matmul, normal(2, 3, 4), normal(2, 4, 5))


CONVS = [
    ((2, 3, 7), (4, 3, 3), ((2,), "SAME"), {}),
    ((2, 3, 7), (4, 3, 3), ((2,), "SAME_LOWER"), {}),
    ((2, 3, 7), (4, 3, 3), ((3,), [(2, -1)], (2,), (2,)), {}),
    ((2, 6, 5, 3), (3, 2, 3, 4), ((2, 1), "SAME"), {"dimension_numbers": NHWC}),
    ((3, 2, 5, 6), (2, 4, 3, 3), ((1, 2), [(1, 0), (-1, 2)], (2, 1), (1, 2)), {"dimension_numbers": MIXED}),
    ((2, 6, 7), (4, 3, 3), ((2,), "VALID"), {"feature_group_count": 2}),
    ((2, 5, 5, 3), (3, 3, 1, 6), ((2, 2), "SAME"), {"dimension_numbers": NHWC, "feature_group_count": 3}),
    ((6, 2, 7), (3, 2, 3), ((2,), [(1, 1)], None, (2,)), {"batch_group_count": 3}),
    ((1, 2, 3, 4, 3), (2, 2, 2, 3, 1), ((1, 2, 1), "SAME", None, (1, 1, 2)), {}),
    ((2, 2, 0), (3, 2, 2), ((1,), [(2, 3)]), {}),
]


@pytest.mark.parametrize("left, right, args, kwargs", CONVS)
def test_conv_general_dilated(left, right, args, kwargs, jax):
    compare(
        jax, lambda lax: lambda x, w: lax.conv_general_dilated(x, w, *args, **kwargs), normal(*left), normal(*right)
    )


@pytest.mark.long
def test_conv_sweep(jax):
    paddings = ([(0, 0)], [(2, -1)], [(-1, 4)], [(3, 3)])
    for s, a, r, p, g in itertools.product((1, 2, 3), (1, 2, 3), (1, 2, 3), paddings, (1, 2)):

        def of(lax, s=s, a=a, r=r, p=p, g=g):
            return lambda x, w: lax.conv_general_dilated(x, w, (s,), p, (a,), (r,), feature_group_count=g)

        compare(jax, of, normal(2, 2 * g, 9), normal(2 * g, 2, 3), second=False)


@pytest.mark.parametrize("padding", ["SAME", "VALID", [(1, 2), (0, 1)]])
@pytest.mark.parametrize("strides, dilation", [((2, 3), None), ((1, 2), (2, 1)), ((5, 4), None)])
@pytest.mark.parametrize("consistent", [False, True])
@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_conv_transpose(padding, strides, dilation, consistent, transpose_kernel, jax):
    def of(lax):
        return lambda x, w: lax.conv_transpose(
            x, w, strides, padding, dilation, transpose_kernel=transpose_kernel, use_consistent_padding=consistent
        )

    kernel = (3, 2, 4, 3) if transpose_kernel else (3, 2, 3, 4)
    compare(jax, of, normal(2, 4, 3, 3), normal(*kernel), second=False)


def test_other_convolutions(jax):
    compare(jax, lambda lax: lambda x, w: lax.conv(x, w, (2,), "SAME"), normal(2, 3, 7), normal(4, 3, 3))
    compare(
        jax,
        lambda lax: lambda x, w: lax.conv_with_general_padding(x, w, (1,), [(1, 2)], (2,), (3,)),
        normal(2, 3, 7),
        normal(4, 3, 3),
    )
    for numbers in (None, NHWC, MIXED, ("NHCW", "OWHI", "CWHN")):
        ours = lax.conv_dimension_numbers((2, 3, 4, 5), (2, 3, 4, 5), numbers)
        theirs = jax.lax.conv_dimension_numbers((2, 3, 4, 5), (2, 3, 4, 5), numbers)
        assert tuple(ours) == (theirs.lhs_spec, theirs.rhs_spec, theirs.out_spec)


@pytest.mark.parametrize("name", ["SAME", "SAME_LOWER", "VALID"])
def test_padtype_to_pads(name, jax):
    for n, k, s in itertools.product(range(8), range(1, 5), range(1, 4)):
        assert lax.padtype_to_pads((n,), (k,), (s,), name) == jax.lax.padtype_to_pads((n,), (k,), (s,), name)
