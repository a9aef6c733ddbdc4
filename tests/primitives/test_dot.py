"""dot_general: dtypes and errors."""

import re

import ml_dtypes
import numpy as np
import pytest
from drawn import arrays

from fgrad.core.array import lift
from fgrad.primitives.dot_general import dot_general_p
from fgrad.testing import Sample
from fgrad.testing.laws import check_values


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.int8, np.uint16, np.int64])
@pytest.mark.parametrize("preferred", [None, "wide"])
def test_dtypes(dtype, preferred):
    rng = np.random.default_rng(0)
    lhs, rhs = ((rng.random(s) * 9).astype(dtype) for s in [(3, 20), (20, 4)])
    if preferred:
        kind = "f" if np.dtype(dtype).kind in "fV" else np.dtype(dtype).kind
        preferred = np.dtype(f"{kind}8" if np.dtype(dtype).itemsize == 8 else f"{kind}4")
    params = {"dimension_numbers": (((1,), (0,)), ((), ())), "preferred_element_type": preferred}
    tolerance = {2: 4e-3, 4: 1e-6}.get(np.dtype(dtype).itemsize, 1e-12)
    check_values(dot_general_p, Sample((lhs, rhs), params), tolerance=tolerance)


def test_derivatives_in_a_preferred_dtype_come_back_in_the_operands_own():
    lhs, rhs = arrays((3, 4), (4, 2), dtype=np.float32)
    params = {"dimension_numbers": (((1,), (0,)), ((), ())), "preferred_element_type": np.dtype(np.float64)}
    from fgrad.transforms.linearize import linearize_flat

    (out,), tape = linearize_flat(lambda a, b: [dot_general_p.bind(a, b, **params)], [lhs, rhs], [True, True])
    assert out.dtype == np.float64
    bars = tape.transpose([lift(np.ones((3, 2)))])
    assert [b.dtype for b in bars] == [np.float32, np.float32]
    np.testing.assert_allclose(np.asarray(bars[0]), np.ones((3, 2)) @ np.asarray(rhs).T, rtol=1e-6)


A, B = lift(np.zeros((2, 3))), lift(np.zeros((4, 5)))
C = lift(np.zeros((2, 3), np.complex64))


def dot(a, b, contract=((1,), (0,)), batch=((), ()), preferred=None):
    return dot_general_p.bind(a, b, dimension_numbers=(contract, batch), preferred_element_type=preferred)


ERRORS = [
    (
        lambda: dot(A, B),
        "dot_general: contracted axes must have equal sizes, got 3 (axis 1 of lhs) and 4 (axis 0 of rhs) for shapes "
        "(2, 3) and (4, 5). Transpose or reshape an operand.",
    ),
    (
        lambda: dot(A, B, ((), ()), ((0,), (1,))),
        "dot_general: batch axes must have equal sizes, got 2 (axis 0 of lhs) and 5 (axis 1 of rhs) for shapes "
        "(2, 3) and (4, 5). Transpose or reshape an operand.",
    ),
    (
        lambda: dot(A, B, ((1,), ())),
        "dot_general: both operands must have equally many contracted axes, got (1,) of lhs and () of rhs. "
        "Pair the axes.",
    ),
    (
        lambda: dot(A, B, ((2,), (0,))),
        "dot_general: contracted axes must be in [0, 2) for lhs and in [0, 2) for rhs, got (2,) and (0,) for shapes "
        "(2, 3) and (4, 5). Change dimension_numbers.",
    ),
    (
        lambda: dot(A, A, ((1,), (1,)), ((1,), (1,))),
        "dot_general: an axis must not be named twice, got axes (1, 1) of lhs (contracted, then batch). "
        "Change dimension_numbers.",
    ),
    (
        lambda: dot(A, lift(np.zeros((3, 5), np.float32))),
        "dot_general: operands must have equal dtypes, got float64 and float32. Convert one with .astype.",
    ),
    (
        lambda: dot(lift(np.zeros((2, 3), bool)), lift(np.zeros((3, 2), bool))),
        "dot_general: operands must be real numbers, got bool. Convert them with .astype.",
    ),
    (
        lambda: dot(C, C, ((1,), (1,))),
        "dot_general: operands must be real numbers, got complex64. Multiply real and imaginary parts.",
    ),
    (
        lambda: dot(A, A, ((1,), (1,)), preferred=np.dtype(np.float32)),
        "dot_general: preferred_element_type must not be narrower than the operands, got float32 (4 bytes) for "
        "float64 (8 bytes). Convert the result with .astype.",
    ),
    (
        lambda: dot(A, A, ((1,), (1,)), preferred=np.dtype(np.int64)),
        "dot_general: preferred_element_type must be of the operands' kind, got int64 for float64. "
        "Convert the result with .astype instead.",
    ),
]


@pytest.mark.parametrize("call, message", ERRORS, ids=[m[:60] for _, m in ERRORS])
def test_errors(call, message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        call()
