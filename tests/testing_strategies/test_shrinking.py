"""Wrong properties shrink to small problems that can be read."""

import random

import numpy as np
import pytest
from hypothesis import find, settings

from fgrad.testing import strategies
from fgrad.testing.strategies import arrays, conv_problems, pad_problems, reduce_window_problems, shapes

quiet = settings(max_examples=500, database=None, deadline=None)


def least(strategy, is_wrong):
    return find(strategy, is_wrong, settings=quiet, random=random.Random(0))


#: What a hand-written rule may get wrong, as the problems on which it would be wrong.
WRONG = {
    "lhs dilation": lambda p: max(p.options.get("lhs_dilation", (1,))) > 1,
    "feature groups": lambda p: "feature_group_count" in p.options,
    "batch groups": lambda p: "batch_group_count" in p.options,
    "negative padding": lambda p: type(p.options["padding"]) is tuple and min(min(p.options["padding"])) < 0,
    "SAME of an even kernel": lambda p: p.options["padding"] == "SAME" and p.operands[1].shape[-1] == 2,
    "two spatial axes": lambda p: p.operands[0].ndim == 4,
    "an order": lambda p: p.options.get("dimension_numbers") is not None,
    "an empty axis": lambda p: 0 in p.operands[0].shape,
    "a flip of the kernel": lambda p: not np.array_equal(p.operands[1], p.operands[1][..., ::-1]),
}


@pytest.mark.parametrize("name", WRONG)
def test_convolutions_shrink_to_a_few_elements(name):
    problem = least(conv_problems(orders=name == "an order"), WRONG[name])
    x, w = problem.operands
    assert x.size <= 3 and w.size <= 3
    assert x.ndim == (4 if name == "two spatial axes" else 3)
    assert set(np.concatenate([x.ravel(), w.ravel()])) <= {1.0, 2.0, 3.0}
    assert len(problem.options) <= 3
    assert len(repr(problem)) < 400


def test_a_rest_of_the_stride_shrinks_to_two_strides():
    def rest(p):
        x, w = p.operands
        return (x.shape[-1] - w.shape[-1]) % p.options["window_strides"][-1]

    undilated = conv_problems(spatial_dims=1, paddings=("VALID",), rhs_dilation=False, orders=False, degenerate=False)
    x, w = least(undilated, rest).operands
    assert (x.shape, w.shape) == ((1, 1, 2), (1, 1, 1))


def test_the_others_shrink_as_well():
    (x, value) = least(pad_problems(), lambda p: any(lo < 0 for lo, *_ in p.options["padding_config"])).operands
    assert x.tolist() == [0.25] and value.tolist() == 0.5
    (x, *_) = least(reduce_window_problems(), lambda p: max(p.options["window_dilation"]) > 1).operands
    assert x.size <= 3
    x, indices, updates = least(strategies.scatter_problems(), lambda p: p.options["kind"] == "max").operands
    assert x.size <= 1 and indices.size <= 1 and updates.size <= 1
    x, y = least(strategies.dot_general_problems(), lambda p: p.operands[0].ndim == 3).operands
    assert x.tolist() == [[[1.0]]] and y.size == 1


def test_arrays_shrink_to_counting_and_to_one_special_value():
    assert least(arrays("float64", shapes()), lambda x: x.size >= 4).ravel().tolist() == [0.25, 0.5, 0.75, 1.0]
    assert least(arrays("int32", shapes()), lambda x: x.ndim == 2 and x.size >= 2).size == 2
    nan = least(arrays("float32", shapes(), special=True), lambda x: np.isnan(x).any())
    assert nan.shape in ((), (1,))
    assert least(arrays("float64", (3,)), lambda x: x[0] > x[1]).size == 3
