"""dot_general and conv_general_dilated: sums of products."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fgrad.kernels.reference.movement import dilate, pad
from fgrad.kernels.reference.numerics import widen

DotDimensionNumbers = tuple[tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]]
ConvDimensionNumbers = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def dot_general(lhs: np.ndarray, rhs: np.ndarray, *, dimension_numbers: DotDimensionNumbers) -> np.ndarray:
    """Sums products over contracted axes, pointwise over batch axes:

        out[b..., i..., j...] = sum_k lhs[b, i, k] * rhs[b, j, k]

    `dimension_numbers` is ((lhs contracting, rhs contracting), (lhs batch, rhs batch)); the result's axes are the
    batch axes, lhs's remaining axes, then rhs's remaining axes, each in its own order.

    >>> dot_general(np.array([[1, 2], [3, 4]]), np.array([10, 1]), dimension_numbers=(((1,), (0,)), ((), ())))
    array([12, 34])
    """
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dimension_numbers
    lhs_names = list(range(lhs.ndim))
    rhs_names = list(range(lhs.ndim, lhs.ndim + rhs.ndim))
    for i, j in (*zip(lhs_contract, rhs_contract, strict=True), *zip(lhs_batch, rhs_batch, strict=True)):
        rhs_names[j] = lhs_names[i]
    batch = [lhs_names[i] for i in lhs_batch]
    lhs_free = [lhs_names[i] for i in range(lhs.ndim) if i not in (*lhs_contract, *lhs_batch)]
    rhs_free = [rhs_names[j] for j in range(rhs.ndim) if j not in (*rhs_contract, *rhs_batch)]
    out = np.einsum(widen(lhs), lhs_names, widen(rhs), rhs_names, batch + lhs_free + rhs_free)
    return np.array(out, dtype=lhs.dtype)


def conv_general_dilated(
    lhs: np.ndarray,
    rhs: np.ndarray,
    *,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: ConvDimensionNumbers,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
) -> np.ndarray:
    """Cross-correlation of any number of spatial dimensions.  With X the dilated and padded lhs and W = rhs,

        out[n, o, p] = sum_{c, t} X[n, c, p * stride + t * rhs_dilation] * W[o, c, t]

    in the axis order (batch, feature, *spatial), (out feature, in feature, *spatial), (batch, feature, *spatial) that
    the three tuples of `dimension_numbers` pick out of lhs, rhs and out.  Padding counts positions of the dilated lhs
    and may be negative (crop).  Each spatial size is

        max(0, floor((lo + 1 + (n - 1) * lhs_dilation + hi - (1 + (k - 1) * rhs_dilation)) / stride) + 1),

    an empty axis dilating to 0.  With G = feature_group_count, group g of the out features sees group g of lhs's
    features; with G = batch_group_count, group g of the out features sees group g of lhs's batch, and the result's
    batch is 1/G of lhs's.

    >>> x, w = np.array([[[1, 2, 4, 8]]]), np.array([[[1, 1]]])
    >>> conv_general_dilated(x, w, window_strides=[2], padding=[(0, 0)], lhs_dilation=[1], rhs_dilation=[1],
    ...                      dimension_numbers=((0, 1, 2), (0, 1, 2), (0, 1, 2)))
    array([[[ 3, 12]]])
    """
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    x = widen(lhs).transpose(lhs_spec)
    w = dilate(widen(rhs).transpose(rhs_spec), factors=(1, 1, *rhs_dilation))
    x = dilate(x, factors=(1, 1, *lhs_dilation))
    x = pad(x, x.dtype.type(0), padding_config=[(0, 0, 0), (0, 0, 0), *((lo, hi, 0) for lo, hi in padding)])

    groups = max(feature_group_count, batch_group_count)
    out_features = w.shape[0]
    # x: (N, G*C, ...) -> (G, N, C, ...) or (G*N, C, ...) -> (G, N, C, ...);  w: (G*O, C, ...) -> (G, O, C, ...)
    if batch_group_count > 1:
        x = x.reshape(groups, x.shape[0] // groups, *x.shape[1:])
    else:
        x = np.moveaxis(x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]), 1, 0)
    w = w.reshape(groups, out_features // groups, *w.shape[1:])

    space = tuple(
        0 if k == 0 else max(0, (n - k) // s + 1) for n, k, s in zip(x.shape[3:], w.shape[3:], window_strides)
    )
    out = np.zeros((groups, x.shape[1], w.shape[1], *space), dtype=x.dtype)
    for tap in np.ndindex(*(-(-k // f) for k, f in zip(w.shape[3:], rhs_dilation))):
        at = tuple(t * f for t, f in zip(tap, rhs_dilation))
        window = tuple(slice(a, a + s * p, s) for a, p, s in zip(at, space, window_strides))
        if 0 not in space:
            out += np.einsum("gnc...,goc->gno...", x[:, :, :, *window], w[:, :, :, *at])
    # (G, N, O, ...) -> (N, G*O, ...): the groups are the slow part of the feature axis in both kinds of grouping.
    out = np.moveaxis(out, 0, 1).reshape(out.shape[1], out_features, *space)
    return np.ascontiguousarray(out.transpose(np.argsort(out_spec)).astype(lhs.dtype))
