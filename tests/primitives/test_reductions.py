"""reduce_prod, reduce_max, reduce_min, argmax, argmin: zeros, ties and nothing to reduce; errors."""

import re

import numpy as np
import pytest
from drawn import arrays

from fgrad.core.array import lift
from fgrad.primitives.reductions import (
    argmax_p,
    argmin_p,
    reduce_and_p,
    reduce_max_p,
    reduce_min_p,
    reduce_prod_p,
)
from fgrad.testing import Sample, check_batching, check_jvp, check_second_order, check_vjp
from fgrad.testing.laws import check_values
from fgrad.transforms.jvp import jvp_flat
from fgrad.transforms.linearize import linearize_flat


def grad_of_sum(f, x):
    (out,), tape = linearize_flat(lambda x: [f(x)], [x], [True])
    return np.asarray(tape.transpose([lift(np.ones(out.shape, out.dtype))])[0])


@pytest.mark.parametrize("prim", [argmax_p, argmin_p])
@pytest.mark.parametrize("index_dtype", [np.int32, np.int64, np.uint8])
def test_positions(prim, index_dtype):
    x = lift(np.round(np.asarray(arrays((4, 5, 3))[0])))  # ties
    for axis in range(3):
        params = {"axes": (axis,), "index_dtype": np.dtype(index_dtype)}
        check_values(prim, Sample((x,), params))
        check_batching(lambda x, params=params: prim.bind(x, **params), (x,))


def test_a_position_has_no_tangent():
    from fgrad.core.primitive import Zero

    (x,) = arrays((3,))
    _, (t,) = jvp_flat(lambda x: [argmax_p.bind(x, axes=(0,), index_dtype=np.dtype(np.int32))], [x], [x])
    assert type(t) is Zero


def test_prod_is_differentiable_through_zeros():
    """One zero: only its own derivative is not zero. Two: none is, but the second derivative between them."""
    one = lift(np.array([2.0, 0.0, 3.0, 5.0, 7.0]))
    np.testing.assert_array_equal(grad_of_sum(lambda x: reduce_prod_p.bind(x, axes=(0,)), one), [0, 210, 0, 0, 0])
    two = lift(np.array([[2.0, 0.0, 3.0], [0.0, 5.0, 7.0]]))
    for axes in ((0, 1), (1,)):
        for check in (check_jvp, check_vjp, check_second_order):
            check(lambda x, axes=axes: reduce_prod_p.bind(x, axes=axes), (two,))


@pytest.mark.parametrize("prim", [reduce_max_p, reduce_min_p])
def test_ties_share_the_gradient_equally(prim):
    x = lift(np.array([[1.0, 1.0, 1.0, 1.0], [3.0, 0.0, 3.0, 0.0]]))
    got = grad_of_sum(lambda x: prim.bind(x, axes=(1,)), x)
    best = [[0.5, 0, 0.5, 0]] if prim is reduce_max_p else [[0, 0.5, 0, 0.5]]
    np.testing.assert_array_equal(got, [[0.25] * 4, *best])


@pytest.mark.parametrize("prim, identity", [(reduce_prod_p, 1), (reduce_max_p, -np.inf), (reduce_min_p, np.inf)])
def test_reducing_nothing_gives_the_identity_and_no_gradient(prim, identity):
    x = lift(np.zeros((2, 0)))
    np.testing.assert_array_equal(np.asarray(prim.bind(x, axes=(1,))), [identity] * 2)
    _, (t,) = jvp_flat(lambda x: [prim.bind(x, axes=(1,))], [x], [x])
    assert t.aval.shape == (2,)


ERRORS = [
    (
        lambda: argmax_p.bind(lift(np.zeros((2, 0))), axes=(1,), index_dtype=np.dtype(np.int32)),
        "argmax: an empty axis has no largest element, got size 0 for axis 1 of shape (2, 0). Reduce a non-empty axis.",
    ),
    (
        lambda: argmin_p.bind(lift(np.zeros((2, 3))), axes=(0, 1), index_dtype=np.dtype(np.int32)),
        "argmin: takes one axis, got axes (0, 1) for shape (2, 3). Reshape several into one.",
    ),
    (
        lambda: argmin_p.bind(lift(np.zeros(300)), axes=(0,), index_dtype=np.dtype(np.uint8)),
        "argmin: index_dtype must hold every index, got uint8 (at most 255) for axis 0 of size 300. Use a wider dtype.",
    ),
    (
        lambda: argmin_p.bind(lift(np.zeros(3)), axes=(0,), index_dtype=np.dtype(np.float32)),
        "argmin: index_dtype must be an integer dtype, got float32. Use int32 or int64.",
    ),
    (
        lambda: reduce_max_p.bind(lift(np.zeros((2, 3))), axes=(0, 2)),
        "reduce_max: axes must be distinct and in [0, 2), got (0, 2) for shape (2, 3). Change the axes.",
    ),
    (
        lambda: reduce_max_p.bind(lift(np.zeros(3, np.complex64)), axes=(0,)),
        "reduce_max: operands must be real number or bool, got complex64. Convert them with .astype.",
    ),
    (
        lambda: reduce_and_p.bind(lift(np.zeros(3)), axes=(0,)),
        "reduce_and: operands must be integer or bool, got float64. Convert them with .astype.",
    ),
]


@pytest.mark.parametrize("call, message", ERRORS, ids=[m[:45] for _, m in ERRORS])
def test_errors(call, message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        call()
