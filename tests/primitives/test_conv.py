"""conv_general_dilated: values, its derived derivatives, batching, dtypes, errors."""

import itertools
import re

import ml_dtypes
import numpy as np
import pytest
from checks import arrays, check_adjoint, check_jvp, check_second, check_value, check_vmap

from fgrad.core.array import lift
from fgrad.core.check import check_jaxpr
from fgrad.primitives.conv import ConvDimensionNumbers, conv_general_dilated_p
from fgrad.transforms.linearize import linearize_flat
from fgrad.transforms.stage import stage


def conv_params(
    rank, stride=None, padding=None, lhs_dilation=None, rhs_dilation=None, numbers=None, groups=1, batch_groups=1
):
    ones = (1,) * rank
    return {
        "window_strides": stride or ones,
        "padding": padding or ((0, 0),) * rank,
        "lhs_dilation": lhs_dilation or ones,
        "rhs_dilation": rhs_dilation or ones,
        "dimension_numbers": numbers or ConvDimensionNumbers(*[tuple(range(rank + 2))] * 3),
        "feature_group_count": groups,
        "batch_group_count": batch_groups,
        "preferred_element_type": None,
    }


NHWC = ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
MIXED = ConvDimensionNumbers((1, 2, 3, 0), (2, 1, 0, 3), (3, 0, 2, 1))
CASES = {
    "plain 1d": ((2, 3, 6), (4, 3, 3), conv_params(1)),
    "stride, padding": ((2, 3, 7), (2, 3, 3), conv_params(1, (2,), ((1, 2),))),
    "stride leaves a rest": ((1, 2, 9), (2, 2, 2), conv_params(1, (3,))),
    "negative padding": ((2, 1, 9), (2, 1, 3), conv_params(1, (2,), ((-2, -1),))),
    "padding beyond the kernel": ((1, 2, 3), (1, 2, 2), conv_params(1, (2,), ((4, 5),))),
    "both dilations": ((2, 2, 5), (3, 2, 3), conv_params(1, (2,), ((2, 1),), (3,), (2,))),
    "1x1 kernel": ((2, 3, 4, 5), (2, 3, 1, 1), conv_params(2, (2, 1))),
    "nhwc": ((2, 6, 5, 3), (3, 2, 3, 4), conv_params(2, (2, 1), ((1, 1), (0, 2)), numbers=NHWC)),
    "mixed order": (
        (5, 2, 3, 6), (3, 3, 2, 2), conv_params(2, (1, 2), ((1, 0), (2, -1)), (2, 1), (1, 2), MIXED),
    ),
    "feature groups": ((2, 6, 7), (4, 3, 3), conv_params(1, (2,), ((1, 1),), None, (2,), groups=2)),
    "depthwise, nhwc": ((2, 5, 5, 3), (3, 3, 1, 6), conv_params(2, (2, 2), ((1, 1),) * 2, numbers=NHWC, groups=3)),
    "batch groups": ((6, 2, 7), (3, 2, 3), conv_params(1, (2,), ((1, 1),), None, (2,), batch_groups=3)),
    "batch groups, mixed order": (
        (5, 4, 3, 6), (3, 3, 2, 2), conv_params(2, (1, 2), ((1, 0), (2, -1)), (2, 1), (1, 2), MIXED, batch_groups=2),
    ),
    "3d": ((1, 2, 3, 4, 3), (2, 2, 2, 3, 1), conv_params(3, (1, 2, 1), ((1, 0), (1, 1), (0, 0)), (1, 1, 2), (1, 1, 3))),
    "empty batch": ((0, 2, 5), (3, 2, 2), conv_params(1)),
    "empty axis": ((2, 2, 0), (3, 2, 2), conv_params(1)),
    "empty axis, padded": ((2, 2, 0), (3, 2, 2), conv_params(1, (2,), ((2, 3),))),
    "no features": ((2, 0, 5), (3, 0, 2), conv_params(1)),
}  # fmt: skip


def conv(**params):
    return lambda lhs, rhs: conv_general_dilated_p.bind(lhs, rhs, **params)


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name):
    left, right, params = CASES[name]
    lhs, rhs = arrays(left, right)
    f = conv(**params)
    check_value(conv_general_dilated_p, lhs, rhs, exact=False, **params)
    check_jvp(f, lhs, rhs, step=1.0, tolerance=1e-12)
    check_adjoint(f, lhs, rhs, mask=[True, False])
    check_adjoint(f, lhs, rhs, mask=[False, True])
    check_second(f, lhs, rhs, step=1.0, tolerance=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_vmap(name):
    left, right, params = CASES[name]
    lhs, rhs = arrays(left, right)
    check_vmap(conv(**params), lhs, rhs, size=2, axes="ends")


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_vmap_over_every_axis(name):
    left, right, params = CASES[name]
    lhs, rhs = arrays(left, right)
    check_vmap(conv(**params), lhs, rhs, size=3)


def sweep(strides, dilations, paddings, kernels, sizes):
    for s, a, r, (lo, hi), k, n in itertools.product(strides, dilations, dilations, paddings, kernels, sizes):
        if 1 + (k - 1) * r <= lo + 1 + (n - 1) * a + hi:
            yield k, n, conv_params(1, (s,), ((lo, hi),), (a,), (r,))


def check_case(k, n, params, groups=1, batch_groups=1):
    params = params | {"feature_group_count": groups, "batch_group_count": batch_groups}
    lhs, rhs = arrays((2 * batch_groups, 2 * groups, n), (2 * groups * batch_groups, 2, k))
    check_jvp(conv(**params), lhs, rhs, step=1.0, tolerance=1e-12)
    check_second(conv(**params), lhs, rhs, step=1.0, tolerance=1e-12)


@pytest.mark.parametrize("groups, batch_groups", [(1, 1), (2, 1), (1, 2)])
def test_sweep_of_strides_and_dilations(groups, batch_groups):
    for k, n, params in sweep((1, 2, 3), (1, 2, 3), ((1, 0), (-1, 3)), (3,), (5,)):
        check_case(k, n, params, groups, batch_groups)


@pytest.mark.long
@pytest.mark.parametrize("groups, batch_groups", [(1, 1), (2, 1), (1, 2)])
def test_wide_sweep(groups, batch_groups):
    paddings = ((0, 0), (2, 1), (-1, 0), (0, -2), (5, 4))
    for k, n, params in sweep((1, 2, 3), (1, 2, 3), paddings, (1, 2, 3), (4, 7)):
        check_case(k, n, params, groups, batch_groups)


# --- the derivative is a composition ---------------------------------------------------------------------------------
def backward_names(left, right, params):
    lhs, rhs = arrays(left, right)
    out = conv(**params)(lhs, rhs)

    def bars(lhs, rhs, ct):
        _, tape = linearize_flat(lambda a, b: [conv(**params)(a, b)], [lhs, rhs], [True, True])
        return tape.transpose([ct])

    jaxpr = stage(bars, [lhs.aval, rhs.aval, out.aval])
    check_jaxpr(jaxpr)
    return [e.primitive.name for e in jaxpr.jaxpr.eqns]


def test_a_strided_convolution_differentiates_into_rev_dilate_and_convolutions():
    for name in ("stride, padding", "nhwc", "mixed order"):
        assert set(backward_names(*CASES[name])) == {"rev", "dilate", "conv_general_dilated"}


def test_nothing_is_done_that_need_not_be():
    assert sorted(backward_names(*CASES["plain 1d"])) == ["conv_general_dilated"] * 2 + ["rev"]
    assert sorted(backward_names((2, 3, 5), (2, 3, 1), conv_params(1))) == ["conv_general_dilated"] * 2
    assert set(backward_names(*CASES["feature groups"])) == {
        "rev", "dilate", "reshape", "transpose", "conv_general_dilated",
    }  # fmt: skip


# --- dtypes ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.int8, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("wide", [False, True])
def test_dtypes(dtype, wide):
    rng = np.random.default_rng(0)
    lhs, rhs = (lift((rng.random(s) * 9 - 4).astype(dtype)) for s in [(2, 8, 6, 5), (4, 8, 3, 2)])
    params = conv_params(2, (2, 1), ((1, 1), (0, 0)))
    size = np.dtype(dtype).itemsize
    if wide:
        kind = "f" if np.dtype(dtype).kind in "fV" else np.dtype(dtype).kind
        params["preferred_element_type"] = np.dtype(f"{kind}{max(size, 4)}")
    tolerance = {2: 8e-3, 4: 1e-6}.get(size, 1e-12)
    check_value(conv_general_dilated_p, lhs, rhs, exact=kind_is_integer(dtype), rtol=tolerance, **params)


def kind_is_integer(dtype):
    return np.dtype(dtype).kind in "iu"


def test_half_precision_accumulates_in_float32():
    """float16 cannot count beyond 2048 by ones: 2048 + 1 rounds to 2048."""
    lhs, rhs = lift(np.ones((1, 4096, 1), np.float16)), np.ones((1, 4096, 1), np.float16)
    out = conv(**conv_params(1))(lhs, lift(rhs))
    assert np.asarray(out).item() == np.float16(4096)


# --- errors ----------------------------------------------------------------------------------------------------------
X, W = lift(np.zeros((2, 4, 6, 7))), lift(np.zeros((8, 4, 3, 3)))


def broken(lhs=X, rhs=W, **changes):
    return lambda: conv(**(conv_params(2) | changes))(lhs, rhs)


ERRORS = [
    (
        broken(rhs=lift(np.zeros((8, 4, 5, 3))), rhs_dilation=(2, 1), padding=((1, 0), (0, 0))),
        "the kernel must not be larger than the padded input, got kernel size 9 and padded input size 7 on spatial "
        "axis 0 (kernel: 1 + (5 - 1) * 2 = 9; input: 1 + (1 + (6 - 1) * 1) + 0 = 7). Pad more, or use a smaller "
        "kernel.",
    ),
    (
        broken(rhs=lift(np.zeros((8, 3, 3, 3)))),
        "the features of lhs must be the in features of rhs times feature_group_count, got 4 and 3 * 1 = 3 (axis 1 of "
        "lhs (2, 4, 6, 7), axis 1 of rhs (8, 3, 3, 3)). Check the shapes and dimension_numbers.",
    ),
    (
        broken(feature_group_count=3),
        "feature_group_count must divide the out features of rhs, got 3 and 8 (axis 0 of rhs (8, 4, 3, 3)). "
        "Change feature_group_count or rhs.",
    ),
    (
        broken(batch_group_count=4),
        "batch_group_count must divide the batch of lhs, got 4 and 2 (axis 0 of lhs (2, 4, 6, 7)). "
        "Change batch_group_count or the batch.",
    ),
    (
        broken(feature_group_count=2, batch_group_count=2),
        "only one of feature_group_count and batch_group_count may exceed 1, got 2 and 2. Set one of them to 1.",
    ),
    (
        broken(feature_group_count=0),
        "feature_group_count must be positive, got 0. Use 1 for no groups.",
    ),
    (
        broken(rhs=lift(np.zeros((8, 4, 3)))),
        "lhs and rhs must have equally many axes, at least 3 (batch, feature and one spatial), got shapes "
        "(2, 4, 6, 7) and (8, 4, 3). Add axes of size 1.",
    ),
    (
        broken(dimension_numbers=ConvDimensionNumbers((0, 1, 2, 2), (0, 1, 2, 3), (0, 1, 2, 3))),
        "dimension_numbers must name each of the 4 axes once, got lhs_spec (0, 1, 2, 2). "
        "Use a permutation of (0, 1, 2, 3).",
    ),
    (
        broken(window_strides=(1,)),
        "window_strides must have one entry for each of the 2 spatial axes, got (1,) (1). Give 2 entries.",
    ),
    (
        broken(padding=((0, 0),) * 3),
        "padding must have one entry for each of the 2 spatial axes, got ((0, 0), (0, 0), (0, 0)) (3). Give 2 entries.",
    ),
    (
        broken(lhs_dilation=(1, 0)),
        "lhs_dilation must be positive, got (1, 0). Use 1 where nothing shall change.",
    ),
    (
        broken(rhs=lift(np.zeros((8, 4, 3, 3), np.float32))),
        "operands must have equal dtypes, got float64 and float32. Convert one with .astype.",
    ),
    (
        broken(lift(np.zeros((2, 4, 6, 7), bool)), lift(np.zeros((8, 4, 3, 3), bool))),
        "operands must be real numbers, got bool. Convert them with .astype.",
    ),
]


@pytest.mark.parametrize("call, message", ERRORS, ids=[m[:45] for _, m in ERRORS])
def test_errors(call, message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape('conv_general_dilated: ' + message)}$"):
        call()
