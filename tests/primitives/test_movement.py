"""iota, concatenate, pad, slice, rev, dilate, undilate: what the laws do not say, and errors."""

import re

import numpy as np
import pytest
from drawn import arrays

from fgrad.core.array import lift
from fgrad.primitives.concatenate import concatenate_p
from fgrad.primitives.dilate import dilate_p, undilate_p
from fgrad.primitives.iota import iota_p
from fgrad.primitives.padding import pad_p, slice_p
from fgrad.primitives.rev import rev_p
from fgrad.transforms.stage import stage


@pytest.mark.parametrize("dtype", [np.int32, np.float16, np.complex64])
def test_iota(dtype):
    got = iota_p.bind(dtype=np.dtype(dtype), shape=(2, 3), dimension=1)
    np.testing.assert_array_equal(np.asarray(got), np.array([[0, 1, 2]] * 2, dtype))
    assert got.dtype == dtype


def test_undilate_of_dilate_is_the_identity_and_its_transpose_pads_the_leftover():
    (x,) = arrays((4, 2))
    back = undilate_p.bind(dilate_p.bind(x, factors=(3, 2)), factors=(3, 2))
    np.testing.assert_array_equal(np.asarray(back), np.asarray(x))

    from fgrad.core.primitive import LinearArg

    def bar(ct):
        return undilate_p.transpose(ct, LinearArg(arrays((9, 2))[0].aval), factors=(3, 1))

    names = [e.primitive.name for e in stage(bar, [arrays((3, 2))[0].aval]).jaxpr.eqns]
    assert names == ["dilate", "pad"]


X = lift(np.zeros((3, 4), np.float32))
ERRORS = [
    (
        lambda: pad_p.bind(X, lift(np.float32(0)), padding_config=((0, 0, 0),)),
        "pad: padding_config must have one (lo, hi, interior) for each of the 2 axes, got 1 for shape (3, 4). "
        "Give 2 triples.",
    ),
    (
        lambda: pad_p.bind(X, lift(np.float64(0)), padding_config=((0, 0, 0),) * 2),
        "pad: the padding value must have the operand's dtype, got float64 and float32. Convert it with .astype.",
    ),
    (
        lambda: pad_p.bind(X, X, padding_config=((0, 0, 0),) * 2),
        "pad: the padding value must be a scalar, got shape (3, 4). Pass one number.",
    ),
    (
        lambda: pad_p.bind(X, lift(np.float32(0)), padding_config=((0, 0, -1), (0, 0, 0))),
        "pad: interior padding must not be negative, got -1 for axis 0. Use slice with strides to drop elements.",
    ),
    (
        lambda: pad_p.bind(X, lift(np.float32(0)), padding_config=((0, 0, 0), (-5, -3, 1))),
        "pad: the padded size must not be negative, got -1 for axis 1 (-5 + 4 + 3 * 1 + -3). Crop less.",
    ),
    (
        lambda: slice_p.bind(X, start_indices=(0, -1), limit_indices=(3, 4), strides=(1, 1)),
        "slice: 0 <= start <= limit <= size must hold, got start -1, limit 4, size 4 for axis 1 of shape (3, 4). "
        "Indices do not wrap: add the size to negative ones.",
    ),
    (
        lambda: slice_p.bind(X, start_indices=(0,), limit_indices=(3, 4), strides=(1, 1)),
        "slice: start_indices must have one entry for each of the 2 axes, got (0,) for shape (3, 4). Give 2 entries.",
    ),
    (
        lambda: slice_p.bind(X, start_indices=(0, 0), limit_indices=(3, 4), strides=(1, -1)),
        "slice: strides must be positive, got -1 for axis 1. Use rev to read backwards.",
    ),
    (
        lambda: rev_p.bind(X, dimensions=(0, 2)),
        "rev: dimensions must be distinct and in [0, 2), got (0, 2) for shape (3, 4). Change the dimensions.",
    ),
    (
        lambda: dilate_p.bind(X, factors=(0, 1)),
        "dilate: factors must be positive, got (0, 1). Use 1 for axes to leave alone.",
    ),
    (
        lambda: undilate_p.bind(X, factors=(2,)),
        "undilate: factors must have one entry for each of the 2 axes, got (2,) for shape (3, 4). "
        "Use 1 for axes to leave alone.",
    ),
    (
        lambda: concatenate_p.bind(X, lift(np.zeros((3, 5), np.float32)), dimension=0),
        "concatenate: operands must have equal shapes but for axis 0, got (3, 4), (3, 5). Reshape or pad them first.",
    ),
    (
        lambda: concatenate_p.bind(X, lift(np.zeros((3, 4))), dimension=0),
        "concatenate: operands must have equal dtypes, got float32, float64. Convert them with .astype.",
    ),
    (
        lambda: concatenate_p.bind(X, dimension=2),
        "concatenate: dimension must be in [0, 2), got 2 for shape (3, 4). "
        "Change the dimension, or reshape scalars to shape (1,).",
    ),
    (
        lambda: concatenate_p.bind(dimension=0),
        "concatenate: needs at least one operand, got none. Pass the arrays to join.",
    ),
    (
        lambda: iota_p.bind(dtype=np.dtype(bool), shape=(2,), dimension=0),
        "iota: the dtype must be a number's, got bool. Use int32 and compare the result.",
    ),
    (
        lambda: iota_p.bind(dtype=np.dtype(np.int32), shape=(2,), dimension=1),
        "iota: dimension must be in [0, 1), got 1 for shape (2,). Change the dimension.",
    ),
]


@pytest.mark.parametrize("call, message", ERRORS, ids=[m[:45] for _, m in ERRORS])
def test_errors(call, message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        call()
