"""Passes from jaxpr to jaxpr: what each one does to programs made for it."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.compiler.simplify import common_subexpressions, fold_into_convolutions, inline, simplify
from fgrad.core.array import lift
from fgrad.core.check import check_jaxpr
from fgrad.core.jaxpr import eval_jaxpr

X = np.linspace(-1, 1, 6).reshape(2, 3)
RNG = np.random.default_rng(0)


def names(closed):
    return [e.primitive.name for e in closed.eqns]


def simplified(step, f, *args):
    """The jaxpr after the pass, checked: well-typed, the same signature, the same values."""
    args = [lift(a) for a in args]
    before = fgrad.make_jaxpr(f)(*args)
    after = step(before)
    check_jaxpr(after)
    assert after.in_avals == before.in_avals and after.out_avals == before.out_avals
    want = eval_jaxpr(before.jaxpr, before.consts, *args)
    got = eval_jaxpr(after.jaxpr, after.consts, *args)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(g), np.asarray(w), rtol=1e-12, atol=1e-12)
    return after


# --- inlining --------------------------------------------------------------------------------------------------------
def test_nested_calls_are_opened():
    inner = fgrad.jit(lambda x: lax.sin(x))
    middle = fgrad.jit(lambda x: inner(x) * inner(lax.cos(x)))
    after = simplified(inline, lambda x: middle(inner(x)), X)
    assert names(after) == ["sin", "sin", "cos", "sin", "mul"]


def test_constants_of_nested_calls_are_kept():
    c = fnp.asarray(X)
    inner = fgrad.jit(lambda x: x + c)
    after = simplified(inline, lambda x: inner(inner(x)), X)
    assert names(after) == ["add", "add"]


def test_a_call_that_returns_its_operands_and_literals():
    inner = fgrad.jit(lambda x, y: (y, x, 2.5, x))
    after = simplified(inline, lambda x: inner(x, 3), X)
    assert names(after) == []


# --- common subexpressions -------------------------------------------------------------------------------------------
def test_equal_expressions_are_computed_once():
    after = simplified(common_subexpressions, lambda x: (lax.sin(x) * lax.sin(x), lax.sin(x)), X)
    assert names(after) == ["sin", "mul"]


def test_equality_reaches_through_chains():
    after = simplified(common_subexpressions, lambda x: lax.exp(lax.sin(x)) + lax.exp(lax.sin(x)), X)
    assert names(after) == ["sin", "exp", "add"]


def test_parameters_and_literals_tell_expressions_apart():
    def f(x):
        return lax.transpose(x, (1, 0)), lax.transpose(x, (0, 1)), x * 2.0, x * 3.0, x * 0.0, x * -0.0

    after = simplified(common_subexpressions, f, X)
    assert names(after).count("mul") == 4 and names(after).count("transpose") == 1


def test_of_the_same_operands_only_equal_parameters_make_equal_expressions():
    def f(x):
        return [
            lax.cumsum(x, axis=axis, reverse=back) for axis, back in ((0, False), (1, False), (0, True), (1, False))
        ]

    after = simplified(common_subexpressions, f, X)
    assert len(after.eqns) == 3 and after.jaxpr.outvars[1] is after.jaxpr.outvars[3]


def test_operations_that_change_nothing_are_dropped():
    def f(x):
        y = fgrad.stop_gradient(lax.reshape(lax.broadcast_in_dim(x, (2, 3), (0, 1)), (2, 3)))
        return lax.transpose(lax.convert_element_type(y, "float64"), (0, 1)) + 1.0

    assert [n for n in names(simplified(common_subexpressions, f, X)) if n != "broadcast_in_dim"] == ["add"]


def test_a_result_may_be_an_input():
    after = simplified(common_subexpressions, lambda x: lax.transpose(x, (0, 1)), X)
    assert names(after) == [] and after.jaxpr.outvars == after.jaxpr.invars


# --- convolutions ----------------------------------------------------------------------------------------------------
IMAGE = RNG.standard_normal((2, 3, 9, 8))
KERNEL = RNG.standard_normal((4, 3, 3, 2))


def conv(x, w, **options):
    settings = {"window_strides": (1, 1), "padding": ((1, 1), (0, 1))} | options
    return lax.conv_general_dilated(x, w, **settings)


def conv_params(closed):
    (eqn,) = [e for e in closed.eqns if e.primitive.name == "conv_general_dilated"]
    return eqn.params


def test_dilated_images_become_lhs_dilation():
    after = simplified(fold_into_convolutions, lambda x, w: conv(lax.dilate(x, (1, 1, 2, 3)), w), IMAGE, KERNEL)
    assert names(simplify(after)) == ["conv_general_dilated"]
    assert conv_params(after)["lhs_dilation"] == (2, 3)


def test_dilations_multiply():
    after = simplified(
        simplify, lambda x, w: conv(lax.dilate(x, (1, 1, 2, 1)), w, lhs_dilation=(3, 2)), IMAGE, KERNEL
    )  # fmt: skip
    assert names(after) == ["conv_general_dilated"] and conv_params(after)["lhs_dilation"] == (6, 2)


def test_dilated_kernels_become_rhs_dilation():
    after = simplified(simplify, lambda x, w: conv(x, lax.dilate(w, (1, 1, 2, 3))), IMAGE, KERNEL)
    assert names(after) == ["conv_general_dilated"] and conv_params(after)["rhs_dilation"] == (2, 3)


def test_zero_padding_becomes_the_convolution_s():
    def f(x, w):
        return conv(lax.pad(x, 0.0, ((0, 0, 0), (0, 0, 0), (2, 0, 0), (1, 3, 0))), w)

    after = simplified(simplify, f, IMAGE, KERNEL)
    assert names(after) == ["conv_general_dilated"] and conv_params(after)["padding"] == ((3, 1), (1, 4))


def test_padding_of_a_dilated_image_and_its_dilation():
    def f(x, w):
        return conv(lax.pad(lax.dilate(x, (1, 1, 2, 2)), 0.0, ((0, 0, 0), (0, 0, 0), (1, 2, 0), (0, 1, 0))), w)

    after = simplified(simplify, f, IMAGE, KERNEL)
    assert names(after) == ["conv_general_dilated"]
    assert conv_params(after)["padding"] == ((2, 3), (0, 2)) and conv_params(after)["lhs_dilation"] == (2, 2)


def test_cropping_merges_with_cropping():
    def f(x, w):
        cropped = lax.pad(x, 0.0, ((0, 0, 0), (0, 0, 0), (-1, -2, 0), (0, -1, 0)))
        return conv(cropped, w, padding=((-1, -1), (0, 0)))

    after = simplified(simplify, f, IMAGE, KERNEL)
    assert names(after) == ["conv_general_dilated"] and conv_params(after)["padding"] == ((-2, -3), (0, -1))


@pytest.mark.parametrize(
    ("what", "f"),
    [
        ("pad", lambda x, w: conv(lax.pad(x, 1.0, ((0, 0, 0), (0, 0, 0), (1, 1, 0), (1, 1, 0))), w)),
        ("pad", lambda x, w: conv(lax.pad(x, 0.0, ((0, 1, 0), (0, 0, 0), (1, 1, 0), (1, 1, 0))), w)),
        ("pad", lambda x, w: conv(lax.pad(x, 0.0, ((0, 0, 0), (0, 0, 0), (1, 1, 1), (1, 1, 0))), w)),
        ("pad", lambda x, w: conv(lax.pad(x, 0.0, ((0, 0, 0), (0, 0, 0), (-1, 0, 0), (0, 0, 0))), w)),
        ("pad", lambda x, w: conv(lax.pad(x, 0.0, ((0, 0, 0), (0, 0, 0), (1, 1, 0), (1, 1, 0))), w,
                                  lhs_dilation=(2, 2))),
        ("dilate", lambda x, w: conv(lax.dilate(x, (2, 1, 2, 2)), w)),
        ("dilate", lambda x, w: conv(x, lax.dilate(w, (2, 1, 1, 1)))),
    ],
    ids=["not zero", "batch axis", "interior", "crop then zeros", "pad then dilate", "batch dilated", "out features"],
)  # fmt: skip
def test_what_is_no_padding_or_dilation_of_the_convolution_stays(what, f):
    assert what in names(simplified(simplify, f, IMAGE, KERNEL))


def test_undilate_becomes_strides():
    after = simplified(
        simplify, lambda x, w: lax.undilate(conv(x, w, window_strides=(1, 2)), (1, 1, 3, 2)), IMAGE, KERNEL
    )
    assert names(after) == ["conv_general_dilated"] and conv_params(after)["window_strides"] == (3, 4)


def test_undilate_of_a_result_that_is_also_read_elsewhere_stays():
    def f(x, w):
        y = conv(x, w)
        return lax.undilate(y, (1, 1, 2, 2)), y

    assert names(simplified(simplify, f, IMAGE, KERNEL)) == ["conv_general_dilated", "undilate"]


def test_a_dilated_image_read_twice_is_folded_into_both():
    def f(x, w):
        y = lax.dilate(x, (1, 1, 2, 2))
        return conv(y, w) + conv(y, -w)

    assert "dilate" not in names(simplified(simplify, f, IMAGE, KERNEL))


@pytest.mark.parametrize("strides", [(1, 1), (2, 3), (3, 2)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
def test_gradients_of_strided_convolutions_store_no_inserted_zero(strides, dilation):
    def loss(x, w):
        return fnp.sum(conv(x, w, window_strides=strides, rhs_dilation=dilation) ** 2)

    gradient = fgrad.grad(loss, argnums=(0, 1))
    traced = fgrad.make_jaxpr(gradient)(IMAGE, KERNEL)
    assert ("dilate" in names(traced)) == (max(strides) > 1)
    after = simplified(simplify, gradient, IMAGE, KERNEL)
    assert "dilate" not in names(after) and "undilate" not in names(after) and "pad" not in names(after)
    assert names(after).count("conv_general_dilated") == 3
    for got, want in zip(fgrad.jit(gradient)(IMAGE, KERNEL), gradient(IMAGE, KERNEL)):
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-10, atol=1e-10)


def test_second_derivatives_too():
    def loss(x):
        return fnp.sum(conv(x, KERNEL, window_strides=(2, 2)) ** 3)

    hvp = lambda x, v: fgrad.jvp(fgrad.grad(loss), (x,), (v,))[1]  # noqa: E731
    after = simplified(simplify, hvp, IMAGE, IMAGE[::-1])
    assert "dilate" not in names(after) and "undilate" not in names(after)
