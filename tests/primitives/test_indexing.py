"""gather and scatter: derivatives through duplicates, zeros and ties; dtypes; errors."""

import re

import numpy as np
import pytest
from drawn import arrays

import fgrad
from fgrad import lax
from fgrad.core.array import lift
from fgrad.errors import MissingBackendError
from fgrad.primitives.indexing import gather_p, scatter_p
from fgrad.testing import Sample, check_jvp, check_second_order, check_vjp
from fgrad.testing.laws import check_values
from fgrad.transforms.linearize import linearize_flat


@pytest.mark.parametrize("zeros", [(), (1,), (1, 3), (0, 1, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("first", [0.0, 2.0])
def test_scatter_mul_is_differentiable_through_zeros(zeros, first):
    """Four factors at one place, some of them zero, and the operand perhaps too."""
    updates = np.array([2.0, 3.0, 5.0, 7.0, 11.0])
    updates[list(zeros)] = 0
    indices = lift(np.array([[1], [1], [1], [1], [0]]))
    x = lift(np.array([1.5, first, 4.0]))

    def f(x, u):
        return scatter_p.bind(x, indices, u, axes=(0,), mode="drop", kind="mul")

    check_jvp(f, (x, lift(updates)))
    check_vjp(f, (x, lift(updates)))
    check_second_order(f, (x, lift(updates)))


def test_the_transpose_of_scatter_mul_is_in_the_operand_alone():
    indices, updates = np.array([[1], [1], [0]]), np.array([2.0, 3.0, 5.0])

    def f(x, u, kind="mul"):
        return lax.scatter(x, indices, u, axes=(0,), kind=kind)

    (x_bar,) = fgrad.linear_transpose(lambda x: f(x, updates), np.ones(3))(np.array([1.0, 10.0, 100.0]))
    np.testing.assert_array_equal(x_bar, [5, 60, 100])
    with pytest.raises(MissingBackendError, match=r"^scatter: has no transpose in the updates for kind 'mul', got one"):
        fgrad.linear_transpose(lambda u: f(np.ones(3), u), updates)(np.ones(3))
    with pytest.raises(
        MissingBackendError, match=r"^scatter: has no transpose in its operands for kind 'max', got one"
    ):
        fgrad.linear_transpose(lambda x: f(x, updates, "max"), np.ones(3))(np.ones(3))


def test_scatter_set_gives_the_tangent_of_the_last_duplicate():
    indices = lift(np.array([[2], [0], [2], [7]]))
    x, u = arrays((4,), (4,))
    _, tape = linearize_flat(
        lambda x, u: [scatter_p.bind(x, indices, u, axes=(0,), mode="drop", kind="set")], [x, u], [True, True]
    )
    x_bar, u_bar = tape.transpose([lift(np.array([1.0, 2.0, 3.0, 4.0]))])
    np.testing.assert_array_equal(np.asarray(x_bar), [0, 2, 0, 4])
    np.testing.assert_array_equal(np.asarray(u_bar), [0, 1, 3, 0])


@pytest.mark.parametrize("kind", ["max", "min"])
def test_scatter_extrema_share_ties(kind):
    """The operand and two of the updates are equal: a third each."""
    indices = lift(np.array([[0], [0], [0], [1]]))
    sign = 1 if kind == "max" else -1
    x, u = lift(np.array([5.0, 9.0]) * sign), lift(np.array([5.0, 1.0, 5.0, 0.0]) * sign)
    _, tape = linearize_flat(
        lambda x, u: [scatter_p.bind(x, indices, u, axes=(0,), mode="drop", kind=kind)], [x, u], [True, True]
    )
    x_bar, u_bar = tape.transpose([lift(np.array([3.0, 1.0]))])
    np.testing.assert_allclose(np.asarray(x_bar), [1, 1])
    np.testing.assert_allclose(np.asarray(u_bar), [1, 0, 1, 0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.int64, np.complex64, np.bool_])
def test_dtypes(dtype):
    rng = np.random.default_rng(1)
    x, u = lift((rng.random((5, 3)) * 4).astype(dtype)), lift((rng.random((4, 3)) * 4).astype(dtype))
    indices = lift(np.array([[1], [4], [1], [9]]))
    check_values(gather_p, Sample((x, indices), {"axes": (0,), "mode": "fill"}, exact=True))
    for kind in ["set"] if dtype == np.bool_ else ["set", "add"]:
        check_values(scatter_p, Sample((x, indices, u), {"axes": (0,), "mode": "drop", "kind": kind}, exact=True))


X, ROWS, U = lift(np.zeros((3, 4))), lift(np.zeros((2, 1), np.int32)), lift(np.zeros((2, 4)))
ERRORS = [
    (
        lambda: gather_p.bind(X, lift(np.zeros((2, 1))), axes=(0,), mode="clip"),
        "gather: indices must be int32 or int64, got float64. Convert them with .astype.",
    ),
    (
        lambda: gather_p.bind(X, ROWS, axes=(0, 1), mode="clip"),
        "gather: the last axis of the indices must have one entry for each of the 2 axes (0, 1), got indices of shape "
        "(2, 1). Add or change that axis.",
    ),
    (
        lambda: gather_p.bind(X, lift(np.zeros((2, 2), np.int32)), axes=(1, 0), mode="clip"),
        "gather: axes must be strictly increasing and in [0, 2), got (1, 0) for operand shape (3, 4). Sort them, and "
        "the last axis of the indices with them.",
    ),
    (
        lambda: gather_p.bind(X, ROWS, axes=(0,), mode="wrap"),
        "gather: mode must be 'clip' or 'fill' or 'mark', got 'wrap'. Choose one of them.",
    ),
    (
        lambda: gather_p.bind(lift(np.zeros((0, 4))), ROWS, axes=(0,), mode="clip"),
        "gather: mode 'clip' needs non-empty axes to clamp into, got sizes (0,) for axes (0,). Use mode 'fill'.",
    ),
    (
        lambda: scatter_p.bind(X, ROWS, lift(np.zeros((2, 3))), axes=(0,), mode="drop", kind="set"),
        "scatter: updates must have shape (2, 4) ((2,) of the indices, then the operand's axes other than (0,)), got "
        "(2, 3). Broadcast or reshape them.",
    ),
    (
        lambda: scatter_p.bind(X, ROWS, lift(np.zeros((2, 4), np.float32)), axes=(0,), mode="drop", kind="set"),
        "scatter: operand and updates must have equal dtypes, got float64 and float32. "
        "Convert the updates with .astype.",
    ),
    (
        lambda: scatter_p.bind(X, ROWS, U, axes=(0,), mode="drop", kind="sub"),
        "scatter: kind must be one of 'set', 'add', 'mul', 'min', 'max', got 'sub'. Choose one.",
    ),
    (
        lambda: scatter_p.bind(X, ROWS, U, axes=(0,), mode="fill", kind="set"),
        "scatter: mode must be 'clip' or 'drop', got 'fill'. Choose one of them.",
    ),
    (
        lambda: scatter_p.bind(
            lift(np.zeros(3, bool)), ROWS, lift(np.zeros(2, bool)), axes=(0,), mode="drop", kind="add"
        ),
        "scatter: kind 'add' needs a number operand, got bool. Convert it with .astype.",
    ),
]


@pytest.mark.parametrize("call, message", ERRORS, ids=[m[:45] for _, m in ERRORS])
def test_errors(call, message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        call()
