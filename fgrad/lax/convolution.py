"""Convolutions: conv_general_dilated and the functions that are shorthands of it.

``precision`` is accepted for JAX's signatures: products are always computed in the full precision of their dtype.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from fgrad.core import caches, dtypes
from fgrad.core.array import Array
from fgrad.core.aval import ShapedArray
from fgrad.core.static import choice, flag, items, sequence, static_int
from fgrad.lax.common import ArrayLike, canonical_shape, promote_dtypes
from fgrad.lax.shape import integers, rev, transpose
from fgrad.lax.windows import PaddingLike, padtype_to_pads
from fgrad.primitives.conv import ConvDimensionNumbers, conv_general_dilated_p
from fgrad.primitives.dilate import dilated_size

DTypeLike = Any  # a NumPy dtype, its name, a NumPy scalar type, or Python's int or float
DimensionNumbers = ConvDimensionNumbers | Sequence[str] | Sequence[Sequence[int]] | None

_TRANSPOSE_ORDERS = {3: ("NHC", "HIO", "NHC"), 4: ("NHWC", "HWIO", "NHWC"), 5: ("NHWDC", "HWDIO", "NHWDC")}


@functools.lru_cache(maxsize=256)
def _spec_of_string(which: str, spec: str, first: str, ndim: int, order: str) -> tuple[int, ...]:
    """Positions of the two letters of ``first``, then of the spatial letters in the order they have in rhs."""
    spatial = [c for c in order if c not in "OI"]
    if sorted(spec) != sorted([*first, *spatial]) or len(set(spec)) != ndim:
        raise ValueError(
            f"conv_dimension_numbers: the {which} order must have {ndim} different letters, {first[0]!r}, {first[1]!r} "
            f"and the spatial letters of rhs, got {spec!r} with rhs {order!r}. Write for example ('NHWC', 'HWIO', "
            "'NHWC')."
        )
    return tuple([spec.index(c) for c in [*first, *spatial]])


caches.add_lru_cache("axis orders of convolutions", _spec_of_string)


def conv_dimension_numbers(
    lhs_shape: Sequence[int], rhs_shape: Sequence[int], dimension_numbers: DimensionNumbers
) -> ConvDimensionNumbers:
    """The one canonical form of a convolution's axis orders.

    Args:
        lhs_shape: shape of lhs.
        rhs_shape: shape of rhs, of as many axes.
        dimension_numbers: None for (batch, feature, *spatial), (out feature, in feature, *spatial), (batch, feature,
            *spatial); three strings such as ('NHWC', 'HWIO', 'NHWC'), where N is the batch, C the features, O and I
            the out and in features of rhs, and the spatial letters are ordered as in rhs; three tuples of axes; or a
            ConvDimensionNumbers.

    Returns:
        ConvDimensionNumbers(lhs_spec, rhs_spec, out_spec), each the positions of (batch, feature, *spatial) or
        (out feature, in feature, *spatial).

    Raises:
        TypeError: neither strings nor tuples of integers.
        ValueError: the shapes differ in length, there are not three orders, or letters are missing or repeated.

    >>> from fgrad import lax
    >>> lax.conv_dimension_numbers((1, 8, 8, 3), (3, 3, 3, 16), ("NHWC", "HWIO", "NHWC"))
    ConvDimensionNumbers(lhs_spec=(0, 3, 1, 2), rhs_spec=(3, 2, 0, 1), out_spec=(0, 3, 1, 2))
    """
    lhs_shape = sequence("conv_dimension_numbers", "lhs_shape", lhs_shape)
    rhs_shape = sequence("conv_dimension_numbers", "rhs_shape", rhs_shape)
    ndim = len(lhs_shape)
    if len(rhs_shape) != ndim:
        raise ValueError(
            f"conv_dimension_numbers: lhs and rhs must have equally many axes, got shapes {tuple(lhs_shape)} and "
            f"{tuple(rhs_shape)}. Add axes of size 1."
        )
    if dimension_numbers is None:
        return ConvDimensionNumbers(*[tuple(range(ndim))] * 3)
    if isinstance(dimension_numbers, str) or len(items(dimension_numbers) or ()) != 3:
        raise ValueError(
            f"conv_dimension_numbers: there must be three orders (lhs, rhs, result), got {dimension_numbers!r}. "
            "Write for example ('NHWC', 'HWIO', 'NHWC')."
        )
    lhs, rhs, out = dimension_numbers
    if isinstance(lhs, str) and isinstance(rhs, str) and isinstance(out, str):
        return ConvDimensionNumbers(
            _spec_of_string("lhs", lhs, "NC", ndim, rhs),
            _spec_of_string("rhs", rhs, "OI", ndim, rhs),
            _spec_of_string("out", out, "NC", ndim, rhs),
        )
    if any(isinstance(spec, str) for spec in (lhs, rhs, out)):
        raise TypeError(
            f"conv_dimension_numbers: orders must be all strings or all tuples of axes, got {dimension_numbers!r}. "
            "Write for example ('NHWC', 'HWIO', 'NHWC')."
        )
    return ConvDimensionNumbers(*(integers("conv_dimension_numbers", "orders", spec) for spec in (lhs, rhs, out)))


def _canonical(
    lhs_shape: Sequence[int],
    rhs_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: PaddingLike,
    lhs_dilation: Sequence[int] | None,
    rhs_dilation: Sequence[int] | None,
    dimension_numbers: DimensionNumbers,
) -> dict[str, Any]:
    """Geometry as the primitive takes it."""
    name = "conv_general_dilated"
    numbers = conv_dimension_numbers(lhs_shape, rhs_shape, dimension_numbers)
    rank = len(lhs_shape) - 2

    def per_axis(what: str, values: Sequence[int] | None) -> tuple[int, ...]:
        return (1,) * rank if values is None else integers(name, what, values)

    strides, dilation = per_axis("window_strides", window_strides), per_axis("rhs_dilation", rhs_dilation)
    spread = per_axis("lhs_dilation", lhs_dilation)
    if isinstance(padding, str) and any(a != 1 for a in spread):
        raise ValueError(
            f"{name}: a padding name does not say how to pad a dilated lhs, got {padding!r} and lhs_dilation {spread}. "
            "Give (lo, hi) for each spatial axis, or use conv_transpose."
        )
    n = [lhs_shape[d] for d in numbers.lhs_spec[2:] if d < len(lhs_shape)]
    reach = [dilated_size(rhs_shape[d], r) for d, r in zip(numbers.rhs_spec[2:], dilation) if d < len(rhs_shape)]
    return {
        "window_strides": strides,
        "padding": tuple(padtype_to_pads(n, reach, strides, padding)),
        "lhs_dilation": spread,
        "rhs_dilation": dilation,
        "dimension_numbers": numbers,
    }


def conv_general_dilated(
    lhs: ArrayLike,
    rhs: ArrayLike,
    window_strides: Sequence[int],
    padding: PaddingLike,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: DimensionNumbers = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: DTypeLike | None = None,
) -> Array:
    """Cross-correlation in any number of spatial dimensions.  With X the dilated and padded lhs,

        out[n, o, p] = sum over c, t of X[n, c, p * stride + t * rhs_dilation] * rhs[o, c, t],

    and each spatial size is, k being rhs's and n lhs's,

        floor((lo + 1 + (n - 1) * lhs_dilation + hi - (1 + (k - 1) * rhs_dilation)) / stride) + 1.

    Its derivatives are compositions of rev, dilate and conv_general_dilated itself:
    dX = conv(dilate(dY, stride), rev(W)) and dW = conv(X, dilate(dY, stride)) with batch and features exchanged.

    Args:
        lhs: array [N, C, *n] (in the order of dimension_numbers) of real numbers.
        rhs: array [O, C / feature_group_count, *k] of the same dtype.
        window_strides: a positive stride for each spatial axis.
        padding: 'SAME', 'SAME_LOWER', 'VALID', an integer, or (lo, hi) for each spatial axis; it counts positions of
            the dilated lhs and may be negative.  Names need lhs_dilation 1.
        lhs_dilation: spreads lhs; default: all 1.
        rhs_dilation: spreads rhs; default: all 1.
        dimension_numbers: axis orders; see ``conv_dimension_numbers``.
        feature_group_count: G > 1: group g of the O out features sees group g of the C features.
        batch_group_count: G > 1: group g of the O out features sees group g of the N images; the result has N / G.
        precision: ignored; see above.
        preferred_element_type: dtype to accumulate and return in; of lhs's kind and no narrower.  Default: lhs's, with
            float16 and bfloat16 accumulated in float32.

    Returns:
        Array [N / batch_group_count, O, *spatial] in the order of dimension_numbers.

    Raises:
        TypeError: dtypes differ, are bool or complex, or preferred_element_type does not fit them.
        ValueError: shapes, groups, orders or lengths do not fit; or the kernel is larger than the padded input, unless
            that input axis is empty.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.conv_general_dilated(np.float32([[[1, 2, 4, 8]]]), np.float32([[[1, 1]]]), (2,), "VALID")
    Array([[[ 3., 12.]]], dtype=float32)
    """
    x, w = promote_dtypes("conv_general_dilated", lhs, rhs)
    preferred = None if preferred_element_type is None else dtypes.canonical(preferred_element_type)
    geometry = _canonical(x.shape, w.shape, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers)
    return conv_general_dilated_p.bind(
        x,
        w,
        **geometry,
        feature_group_count=static_int(
            "conv_general_dilated", "feature_group_count must be an integer", feature_group_count
        ),
        batch_group_count=static_int("conv_general_dilated", "batch_group_count must be an integer", batch_group_count),
        preferred_element_type=None if preferred == x.dtype else preferred,
    )


def conv(
    lhs: ArrayLike,
    rhs: ArrayLike,
    window_strides: Sequence[int],
    padding: PaddingLike,
    precision: Any = None,
    preferred_element_type: DTypeLike | None = None,
) -> Array:
    """``conv_general_dilated`` of lhs [N, C, *n] and rhs [O, C, *k] with strides and padding alone.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.conv(np.zeros((2, 3, 8, 8)), np.zeros((4, 3, 3, 3)), (2, 2), "SAME").shape
    (2, 4, 4, 4)
    """
    return conv_general_dilated(
        lhs, rhs, window_strides, padding, precision=precision, preferred_element_type=preferred_element_type
    )


def conv_with_general_padding(
    lhs: ArrayLike,
    rhs: ArrayLike,
    window_strides: Sequence[int],
    padding: PaddingLike,
    lhs_dilation: Sequence[int] | None,
    rhs_dilation: Sequence[int] | None,
    precision: Any = None,
    preferred_element_type: DTypeLike | None = None,
) -> Array:
    """``conv_general_dilated`` of lhs [N, C, *n] and rhs [O, C, *k] without groups.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.conv_with_general_padding(np.zeros((1, 1, 4)), np.zeros((1, 1, 3)), (1,), [(2, 2)], (2,), None).shape
    (1, 1, 9)
    """
    return conv_general_dilated(
        lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, precision=precision,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip


def _transposed_pads(k: int, stride: int, padding: Any) -> tuple[int, int]:
    """Padding of the dilated input of a transposed convolution for that of the forward one; k as dilated."""
    if padding == "SAME":
        lo = k - 1 if stride > k - 1 else -(-(k + stride - 2) // 2)
        return lo, k + stride - 2 - lo
    if padding == "VALID":
        # k - 1 on either side and, where the stride leaves a gap behind the kernel, that gap
        return k - 1, k - 1 + (stride - k if stride > k else 0)
    lo, hi = padding
    return k - 1 - int(lo), k - 1 - int(hi)


def conv_transpose(
    lhs: ArrayLike,
    rhs: ArrayLike,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: DimensionNumbers = None,
    transpose_kernel: bool = False,
    precision: Any = None,
    preferred_element_type: DTypeLike | None = None,
    use_consistent_padding: bool = False,
) -> Array:
    """Transposed ("fractionally strided") convolution: lhs dilated by ``strides``, then convolved with stride 1.

    'VALID' gives size n * stride + max(k - stride, 0), 'SAME' gives n * stride.

    Args:
        lhs: array [N, *n, C] (in the order of dimension_numbers) of real numbers.
        rhs: array [*k, C, O] of the same dtype.
        strides: a positive stride for each spatial axis.
        padding: 'SAME' or 'VALID', of the forward convolution; or (lo, hi) for each spatial axis, of the dilated lhs.
        rhs_dilation: spreads rhs; default: all 1.
        dimension_numbers: axis orders; default: channels last, as ('NHWC', 'HWIO', 'NHWC').
        transpose_kernel: reverse rhs and exchange its features first: then it is the gradient of the forward
            convolution with that very kernel.
        precision: ignored; see above.
        preferred_element_type: dtype to accumulate and return in.
        use_consistent_padding: pairs, too, are the padding of the forward convolution.

    Returns:
        Array [N, *spatial, O] in the order of dimension_numbers.

    Raises:
        TypeError: dtypes differ, or are bool or complex.
        ValueError: shapes or lengths do not fit, or more than three spatial axes without dimension_numbers.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.conv_transpose(np.zeros((1, 4, 4, 2)), np.zeros((3, 3, 2, 5)), (2, 2), "SAME").shape
    (1, 8, 8, 5)
    """
    x, w = promote_dtypes("conv_transpose", lhs, rhs)
    if dimension_numbers is None:
        if x.ndim not in _TRANSPOSE_ORDERS:
            raise ValueError(
                f"conv_transpose: there is a default order for 1 to 3 spatial axes, got lhs of shape {x.shape} "
                f"({x.ndim - 2} spatial). Give dimension_numbers."
            )
        dimension_numbers = _TRANSPOSE_ORDERS[x.ndim]
    numbers = conv_dimension_numbers(x.shape, w.shape, dimension_numbers)
    steps = integers("conv_transpose", "strides", strides)
    dilation = (1,) * (x.ndim - 2) if rhs_dilation is None else integers("conv_transpose", "rhs_dilation", rhs_dilation)
    pads: Any = padding.upper() if isinstance(padding, str) else padding
    if flag("conv_transpose", "use_consistent_padding", use_consistent_padding) or (
        isinstance(pads, str) and pads in ("SAME", "VALID")
    ):
        if not isinstance(pads, str):
            pads = padtype_to_pads((1,) * len(steps), (1,) * len(steps), (1,) * len(steps), pads)
        else:
            choice("conv_transpose", "padding", pads, ("SAME", "VALID"))
        forward = [pads] * len(steps) if isinstance(pads, str) else pads
        reach = [dilated_size(w.shape[d], r) for d, r in zip(numbers.rhs_spec[2:], dilation)]
        pads = [_transposed_pads(k, s, p) for k, s, p in zip(reach, steps, forward)]
    if flag("conv_transpose", "transpose_kernel", transpose_kernel):
        out_feature, in_feature, *spatial = numbers.rhs_spec
        order = list(range(w.ndim))
        order[out_feature], order[in_feature] = in_feature, out_feature
        w = transpose(rev(w, spatial), order)
    return conv_general_dilated(
        x, w, (1,) * (x.ndim - 2), pads, steps, dilation, numbers, precision=precision,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip


def conv_general_shape_tuple(
    lhs_shape: Sequence[int],
    rhs_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: PaddingLike,
    dimension_numbers: DimensionNumbers,
) -> tuple[int, ...]:
    """The shape of ``conv_general_dilated``'s result, without computing it.

    >>> from fgrad import lax
    >>> lax.conv_general_shape_tuple((2, 8, 8, 3), (3, 3, 3, 4), (2, 2), "SAME", ("NHWC", "HWIO", "NHWC"))
    (2, 4, 4, 4)
    """
    lhs, rhs = (canonical_shape("conv_general_shape_tuple", s) for s in (lhs_shape, rhs_shape))
    geometry = _canonical(lhs, rhs, window_strides, padding, None, None, dimension_numbers)
    avals = [ShapedArray(s, dtypes.float32) for s in (lhs, rhs)]
    params = {"feature_group_count": 1, "batch_group_count": 1, "preferred_element_type": None}
    return conv_general_dilated_p.abstract(*avals, **geometry, **params).shape
