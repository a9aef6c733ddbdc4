"""conv_general_dilated: the accuracy promised of its derivatives, what they are composed of, dtypes, errors."""

import itertools
import math
import re

import ml_dtypes
import numpy as np
import pytest
from drawn import arrays, relative_error

import fgrad
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core.array import lift
from fgrad.core.check import check_jaxpr
from fgrad.primitives.conv import ConvDimensionNumbers, conv_general_dilated_p
from fgrad.testing import Sample, check_jvp, check_second_order, check_transpose
from fgrad.testing.laws import check_values
from fgrad.testing.samples.structural_table import CONVS, conv_params
from fgrad.transforms.linearize import linearize_flat
from fgrad.transforms.stage import stage


def conv(**params):
    return lambda lhs, rhs: conv_general_dilated_p.bind(lhs, rhs, **params)


# --- exact in every entry, for it is bilinear ------------------------------------------------------------------------
def sweep(strides, dilations, paddings, kernels, sizes):
    for s, a, r, (lo, hi), k, n in itertools.product(strides, dilations, dilations, paddings, kernels, sizes):
        if 1 + (k - 1) * r <= lo + 1 + (n - 1) * a + hi:
            yield k, n, conv_params(1, (s,), ((lo, hi),), (a,), (r,))


def check_case(k, n, params, groups=1, batch_groups=1):
    params = params | {"feature_group_count": groups, "batch_group_count": batch_groups}
    operands = tuple(arrays((2 * batch_groups, 2 * groups, n), (2 * groups * batch_groups, 2, k)))
    check_jvp(conv(**params), operands, linear=(0, 1))
    check_transpose(conv(**params), operands, argnums=0)
    check_transpose(conv(**params), operands, argnums=1)
    check_second_order(conv(**params), operands)


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


# --- the numbers promised of every derivative ------------------------------------------------------------------------
# Each setting below in every combination, 3^7 of them; as strides and dilations differ from axis to axis, a case of
# several axes has several of each.  Every 23rd runs by default: every three settings meet in one of them.
ORDERS = {
    "channels first": ("NCS", "OIS", "NCS"),
    "channels last": ("NSC", "SIO", "NSC"),
    "mixed": ("CSN", "ISO", "SNC"),
}
GROUPS = {"ungrouped": (1, 1), "feature groups": (2, 1), "batch groups": (1, 2)}
PADDINGS = {"asymmetric": (2, 1), "one side negative": (-1, 2), "negative": (-1, -2)}
KERNELS = {1: (3,), 2: (3, 2), 3: (2, 2, 2)}
GRID = list(itertools.product(KERNELS, ORDERS, GROUPS, PADDINGS, (1, 2, 3), (1, 2, 3), (1, 2, 3)))
PROMISED = [pytest.param(*case, marks=[] if i % 23 == 0 else [pytest.mark.long]) for i, case in enumerate(GRID)]


def public_convolution(rank, order, groups, padding, stride, lhs_dilation, rhs_dilation):
    """The function of lhs and rhs, and operands for at least two windows along each axis."""

    def along_axes(choices, first):
        i = choices.index(first)
        return [choices[(i + d) % 3] for d in range(rank)]

    strides, a, r = (along_axes((1, 2, 3), n) for n in (stride, lhs_dilation, rhs_dilation))
    # Where s and a share a divisor, so does lo: else some taps, if not all, read nothing but inserted zeros.
    pads = [PADDINGS[name] for name in along_axes(list(PADDINGS), padding)]
    pads = [(lo - lo % math.gcd(s, a), hi) for (lo, hi), s, a in zip(pads, strides, a)]
    feature_groups, batch_groups = GROUPS[groups]
    sizes = {"N": 2 * batch_groups, "C": 2 * feature_groups, "I": 2, "O": 2}
    kernel = dict(zip("DHW", KERNELS[rank]))
    # Two windows fit, 1 + (n - 1) a + lo + hi >= 1 + (k - 1) r + s, and one element more, as cropping may leave none.
    spans = [(k - 1) * r + s - sum(pad) for k, r, s, pad in zip(kernel.values(), r, strides, pads)]
    lhs = dict(zip("DHW", [2 + max(-(-span // a), 0) for span, a in zip(spans, a)]))
    specs = tuple(spec.replace("S", "DHW"[:rank]) for spec in ORDERS[order])
    xs = arrays([(sizes | lhs)[c] for c in specs[0]], [(sizes | kernel)[c] for c in specs[1]])

    def f(x, w):
        return lax.conv_general_dilated(x, w, strides, pads, a, r, specs, feature_groups, batch_groups)

    return f, xs


@pytest.mark.parametrize("rank, order, groups, padding, stride, lhs_dilation, rhs_dilation", PROMISED)
def test_promised_accuracy_in_float64(rank, order, groups, padding, stride, lhs_dilation, rhs_dilation):
    """Gradients to 1e-6 and second derivatives to 1e-5 of central differences; <A x, y> = <x, A^T y> to 1e-12."""
    f, (x, w) = public_convolution(rank, order, groups, padding, stride, lhs_dilation, rhs_dilation)
    out = f(x, w)
    assert min(out.shape) >= 2 and np.asarray(out).any()
    y, tx, tw = arrays(out.shape, x.shape, w.shape, seed=1)

    check_transpose(f, (x, w), argnums=0, tolerance=1e-12)
    check_transpose(f, (x, w), argnums=1, tolerance=1e-12)

    def loss(x, w):
        return fnp.vdot(y, fnp.sin(f(x, w)))

    def slope(x, w):
        """The gradient's component along (tx, tw), itself differentiated below: reverse over reverse."""
        gx, gw = gradient(x, w)
        return fnp.vdot(gx, tx) + fnp.vdot(gw, tw)

    gradient = fgrad.grad(loss, argnums=(0, 1))
    for got, want in zip(gradient(x, w), differences_of(fgrad.jit(loss), x, w)):
        assert relative_error(got, want) <= 1e-6

    h = 1e-5
    ahead, behind = gradient(x + h * tx, w + h * tw), gradient(x - h * tx, w - h * tw)
    forward = fgrad.jvp(gradient, (x, w), (tx, tw))[1]
    reverse = fgrad.grad(slope, argnums=(0, 1))(x, w)
    for hi, lo, *seconds in zip(ahead, behind, forward, reverse):
        for second in seconds:
            assert relative_error(second, (hi - lo) / (2 * h)) <= 1e-5


def differences_of(loss, *xs, h=1e-5):
    """Central differences in every element of every operand."""
    for i, x in enumerate(map(np.array, xs)):
        out = np.empty_like(x)
        for at in np.ndindex(x.shape):
            hi, lo = x.copy(), x.copy()
            hi[at] += h
            lo[at] -= h
            out[at] = (loss(*xs[:i], hi, *xs[i + 1 :]) - loss(*xs[:i], lo, *xs[i + 1 :])).item() / (2 * h)
        yield out


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
        assert set(backward_names(*CONVS[name])) == {"rev", "dilate", "conv_general_dilated"}


def test_nothing_is_done_that_need_not_be():
    assert sorted(backward_names(*CONVS["plain 1d"])) == ["conv_general_dilated"] * 2 + ["rev"]
    assert sorted(backward_names((2, 3, 5), (2, 3, 1), conv_params(1))) == ["conv_general_dilated"] * 2
    assert set(backward_names(*CONVS["feature groups"])) == {
        "rev", "dilate", "reshape", "transpose", "conv_general_dilated",
    }  # fmt: skip


def test_windows_that_meet_nothing_but_padding():
    """Sums without a single term, in the value and in both derivatives."""
    spec = ("NHWC", "HWIO", "NHWC")
    lhs, rhs = np.ones((2, 3, 3, 16), np.float32), np.ones((1, 1, 16, 32), np.float32)

    def loss(lhs, rhs):
        out = lax.conv_general_dilated(lhs, rhs, (1, 1), ((5, -4), (0, 0)), dimension_numbers=spec)
        return (out + 1).sum(), out

    (dlhs, drhs), out = fgrad.jit(fgrad.grad(loss, argnums=(0, 1), has_aux=True))(lhs, rhs)
    assert out.shape == (2, 4, 3, 32)
    assert dlhs.shape == lhs.shape and drhs.shape == rhs.shape
    assert not any(np.asarray(a).any() for a in (out, dlhs, drhs))


# --- dtypes ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.int8, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("wide", [False, True])
def test_dtypes(dtype, wide):
    rng = np.random.default_rng(0)
    lhs, rhs = ((rng.random(s) * 9 - 4).astype(dtype) for s in [(2, 8, 6, 5), (4, 8, 3, 2)])
    params = conv_params(2, (2, 1), ((1, 1), (0, 0)))
    size = np.dtype(dtype).itemsize
    if wide:
        kind = "f" if np.dtype(dtype).kind in "fV" else np.dtype(dtype).kind
        params["preferred_element_type"] = np.dtype(f"{kind}{max(size, 4)}")
    tolerance = {2: 8e-3, 4: 1e-6}.get(size, 1e-12)
    check_values(conv_general_dilated_p, Sample((lhs, rhs), params), tolerance=tolerance)


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
