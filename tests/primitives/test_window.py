"""Windows: sums over a sweep of parameters, where extrema have their gradient, dtypes, errors."""

import functools
import itertools
import re

import numpy as np
import pytest
from drawn import arrays

from fgrad.core.array import lift
from fgrad.primitives.window import reduce_window_sum_p
from fgrad.primitives.window_winners import (
    gather_winners_p,
    reduce_window_max_p,
    reduce_window_min_p,
    reduce_window_winner_p,
    scatter_winners_p,
)
from fgrad.testing import Sample, check_jvp, check_transpose
from fgrad.testing.laws import check_values
from fgrad.testing.samples.structural_table import window
from fgrad.transforms.linearize import linearize_flat
from fgrad.transforms.stage import stage


@pytest.mark.long
def test_sum_sweep():
    for k, s, b, w, lo, hi, n in itertools.product((1, 3), (1, 2, 3), (1, 2, 3), (1, 2), (-1, 0, 3), (-1, 2), (4, 7)):
        if 1 + (k - 1) * w <= 1 + (n - 1) * b + lo + hi:
            params = window((k,), (s,), ((lo, hi),), (b,), (w,))
            (x,) = arrays((n,))
            check_values(reduce_window_sum_p, Sample((x,), params))
            for check in (check_transpose, functools.partial(check_jvp, linear=True)):
                check(lambda x, params=params: reduce_window_sum_p.bind(x, **params), (x,))


def test_windows_without_an_element_have_no_gradient():
    params = window((2,), (5,), ((4, 6),))
    (x,) = arrays((3,))
    (out,), tape = linearize_flat(lambda x: [reduce_window_max_p.bind(x, **params)], [x], [True])
    assert np.isneginf(np.asarray(out)).any()
    (bar,) = tape.transpose([lift(np.ones(out.shape))])
    assert np.asarray(bar).sum() == np.isfinite(np.asarray(out)).sum()


@pytest.mark.parametrize("prim", [reduce_window_max_p, reduce_window_min_p])
def test_of_ties_the_first_has_the_gradient(prim):
    x = lift(np.zeros((2, 4)))
    _, tape = linearize_flat(lambda x: [prim.bind(x, **window((2, 2), (2, 2)))], [x], [True])
    (bar,) = tape.transpose([lift(np.array([[1.0, 2.0]]))])
    np.testing.assert_array_equal(np.asarray(bar), [[1, 0, 2, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("prim", [reduce_window_max_p, reduce_window_min_p])
def test_the_gradient_puts_the_cotangent_at_the_winners(prim):
    """The mask between forward and backward is a byte for each window."""
    (x,) = arrays((6, 8))
    params = window((2, 2), (2, 2))
    closed = stage(lambda x: [gradient(prim, x, params)], [x.aval])
    names = [e.primitive.name for e in closed.jaxpr.eqns if e.primitive.name != "broadcast_in_dim"]
    assert names == ["reduce_window_winner", "scatter_winners"]
    assert closed.jaxpr.eqns[0].outvars[1].aval.dtype == np.uint8


def gradient(prim, x, params):
    (out,), tape = linearize_flat(lambda x: [prim.bind(x, **params)], [x], [True])
    return tape.transpose([lift(np.ones(out.shape))])[0]


def test_the_transpose_of_a_sum_is_a_sum():
    """Strides and base dilation change places; nothing else appears."""
    (x,) = arrays((7, 6))
    params = window((3, 2), (2, 3), ((1, 1), (0, 2)))
    out = reduce_window_sum_p.bind(x, **params)

    def bar(ct):
        _, tape = linearize_flat(lambda x: [reduce_window_sum_p.bind(x, **params)], [x], [True])
        return tape.transpose([ct])

    assert [e.primitive.name for e in stage(bar, [out.aval]).jaxpr.eqns] == ["reduce_window_sum"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.int32, np.uint8, np.bool_])
def test_dtypes(dtype):
    x = lift((np.random.default_rng(0).random((6, 5)) * 4).astype(dtype))
    params = window((2, 3), (2, 1), ((0, 1), (1, 1)))
    for prim in (reduce_window_max_p, reduce_window_min_p, reduce_window_sum_p):
        if prim is not reduce_window_sum_p or dtype != np.bool_:
            check_values(prim, Sample((x,), params))
    check_values(reduce_window_winner_p, Sample((x,), params | {"kind": "max"}))


X = lift(np.zeros((5, 6)))
ERRORS = [
    (
        lambda: reduce_window_sum_p.bind(X, **window((3, 1), None, ((-1, 0), (0, 0)), None, (2, 1))),
        "reduce_window_sum: the window must not be larger than the padded input, got window size 5 and padded input "
        "size 4 on axis 0 (window: 1 + (3 - 1) * 2 = 5; input: -1 + (1 + (5 - 1) * 1) + 0 = 4). Pad more, or use a "
        "smaller window.",
    ),
    (
        lambda: reduce_window_max_p.bind(X, **window((3,))),
        "reduce_window_max: window_dimensions must have one entry for each of the 2 axes, got (3,) (1). "
        "Give 2 entries.",
    ),
    (
        lambda: reduce_window_min_p.bind(X, **window((3, 0))),
        "reduce_window_min: window_dimensions must be positive, got (3, 0). Use 1 where nothing shall change.",
    ),
    (
        lambda: reduce_window_winner_p.bind(X, kind="add", **window((3, 1))),
        "reduce_window_winner: kind must be 'max' or 'min', got 'add'. Choose one of them.",
    ),
    (
        lambda: gather_winners_p.bind(X, lift(np.zeros((3, 5), np.uint8)), **window((3, 1))),
        "gather_winners: taps must be uint8 of shape (3, 6), one for each window of 3 taps, got uint8 of shape "
        "(3, 5). Take them from reduce_window_winner with the same window.",
    ),
    (
        lambda: gather_winners_p.bind(X, lift(np.zeros((3, 6), np.int64)), **window((3, 1))),
        "gather_winners: taps must be uint8 of shape (3, 6), one for each window of 3 taps, got int64 of shape "
        "(3, 6). Take them from reduce_window_winner with the same window.",
    ),
    (
        lambda: scatter_winners_p.bind(X, lift(np.zeros((5, 6), np.uint8)), shape=(7, 7), **window((3, 1))),
        "scatter_winners: the operand must have one element for each window over (7, 7), shape (5, 7), got (5, 6). "
        "Give the shape that the windows slide over.",
    ),
    (
        lambda: reduce_window_max_p.bind(lift(np.zeros(3, np.complex64)), **window((1,))),
        "reduce_window_max: operands must be real number or bool, got complex64. Convert them with .astype.",
    ),
]


@pytest.mark.parametrize("call, message", ERRORS, ids=[m[:45] for _, m in ERRORS])
def test_errors(call, message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        call()
