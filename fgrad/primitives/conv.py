"""conv_general_dilated: cross-correlation with strides, padding, dilation of either side, and groups.

With X the lhs dilated by ``lhs_dilation`` and padded, W = rhs, s the strides and r ``rhs_dilation``, on every axis

    out[n, o, p] = sum over c, t of X[n, c, p s + t r] * W[o, c, t]

Its derivatives with respect to either operand are compositions of rev, dilate, transpose, reshape and
conv_general_dilated itself: there is no other convolution primitive.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Kernel
from fgrad.core.primitive import Bilinear, LinearArg, Primitive
from fgrad.kernels import reference
from fgrad.kernels.cpu.conv import plan_conv
from fgrad.primitives.broadcast import full
from fgrad.primitives.convert import convert
from fgrad.primitives.define import NO_CUDA
from fgrad.primitives.dilate import dilate_p, dilated_size
from fgrad.primitives.dot_general import by_result_dtype, in_preferred, product_dtype
from fgrad.primitives.reshape import reshape_p
from fgrad.primitives.rev import rev_p
from fgrad.primitives.transpose import moveaxis
from fgrad.primitives.window import check_counts, windowed_size

NAME = "conv_general_dilated"


class ConvDimensionNumbers(NamedTuple):
    """Where lhs and out have (batch, feature, *spatial), and rhs (out feature, in feature, *spatial)."""

    lhs_spec: tuple[int, ...]
    rhs_spec: tuple[int, ...]
    out_spec: tuple[int, ...]


# --- validation ------------------------------------------------------------------------------------------------------
def _check_structure(lhs, rhs, *, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers) -> None:
    ndim = len(lhs.shape)
    if ndim != len(rhs.shape) or ndim < 3:
        raise ValueError(
            f"{NAME}: lhs and rhs must have equally many axes, at least 3 (batch, feature and one spatial), "
            f"got shapes {lhs.shape} and {rhs.shape}. Add axes of size 1."
        )
    for name, spec in zip(ConvDimensionNumbers._fields, dimension_numbers):
        if sorted(spec) != list(range(ndim)):
            raise ValueError(
                f"{NAME}: dimension_numbers must name each of the {ndim} axes once, got {name} {tuple(spec)}. "
                f"Use a permutation of {tuple(range(ndim))}."
            )
    check_counts(
        NAME, ndim - 2, "spatial axes", window_strides=window_strides, padding=padding,
        lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation,
    )  # fmt: skip


def _check_features(lhs, rhs, dimension_numbers, feature_groups: int, batch_groups: int) -> None:
    (batch, feature, *_), (out_feature, in_feature, *_), _ = dimension_numbers
    n, c, o, i = lhs.shape[batch], lhs.shape[feature], rhs.shape[out_feature], rhs.shape[in_feature]
    for name, groups in (("feature_group_count", feature_groups), ("batch_group_count", batch_groups)):
        if groups < 1:
            raise ValueError(f"{NAME}: {name} must be positive, got {groups}. Use 1 for no groups.")
        if o % groups:
            raise ValueError(
                f"{NAME}: {name} must divide the out features of rhs, got {groups} and {o} (axis {out_feature} of "
                f"rhs {rhs.shape}). Change {name} or rhs."
            )
    if feature_groups > 1 and batch_groups > 1:
        raise ValueError(
            f"{NAME}: only one of feature_group_count and batch_group_count may exceed 1, got {feature_groups} and "
            f"{batch_groups}. Set one of them to 1."
        )
    if c != i * feature_groups:
        raise ValueError(
            f"{NAME}: the features of lhs must be the in features of rhs times feature_group_count, got {c} and "
            f"{i} * {feature_groups} = {i * feature_groups} (axis {feature} of lhs {lhs.shape}, axis {in_feature} of "
            f"rhs {rhs.shape}). Check the shapes and dimension_numbers."
        )
    if n % batch_groups:
        raise ValueError(
            f"{NAME}: batch_group_count must divide the batch of lhs, got {batch_groups} and {n} (axis {batch} of "
            f"lhs {lhs.shape}). Change batch_group_count or the batch."
        )


def _abstract(
    lhs: ShapedArray,
    rhs: ShapedArray,
    *,
    window_strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    lhs_dilation: tuple[int, ...],
    rhs_dilation: tuple[int, ...],
    dimension_numbers: ConvDimensionNumbers,
    feature_group_count: int,
    batch_group_count: int,
    preferred_element_type,
) -> ShapedArray:
    _check_structure(
        lhs, rhs, window_strides=window_strides, padding=padding, lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation, dimension_numbers=dimension_numbers,
    )  # fmt: skip
    dtype = product_dtype(NAME, lhs, rhs, preferred_element_type)
    _check_features(lhs, rhs, dimension_numbers, feature_group_count, batch_group_count)
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    axes = zip(lhs_spec[2:], rhs_spec[2:], window_strides, padding, lhs_dilation, rhs_dilation)
    space = [
        windowed_size(NAME, "kernel", f"spatial axis {d}", lhs.shape[i], rhs.shape[j], *sizes)
        for d, (i, j, *sizes) in enumerate(axes)
    ]
    sizes = (lhs.shape[lhs_spec[0]] // batch_group_count, rhs.shape[rhs_spec[0]], *space)
    shape = [0] * len(sizes)
    for d, size in zip(out_spec, sizes):
        shape[d] = size
    return ShapedArray(tuple(shape), dtype)


# --- moving part of one axis into another ----------------------------------------------------------------------------
def _move_groups(x: Any, source: int, target: int, groups: int) -> Any:
    """Axis ``source`` holds (groups, rest): rest stays, and axis ``target`` becomes (groups, target)."""
    if groups == 1:
        return x
    shape = list(x.shape)
    cut = [*shape[:source], groups, shape[source] // groups, *shape[source + 1 :]]
    x = moveaxis(reshape_p.bind(x, new_sizes=tuple(cut)), source, target)
    shape[source] //= groups
    shape[target] *= groups
    return reshape_p.bind(x, new_sizes=tuple(shape))


def _fold(x: Any, d: int, axis: int, groups: int = 1) -> Any:
    """The batch axis d folded into ``axis`` (as numbered without d), which becomes (groups, V, rest)."""
    x = moveaxis(x, d, 0)
    v, *shape = x.shape
    x = reshape_p.bind(x, new_sizes=(v, *shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]))
    x = moveaxis(x, 0, axis + 1)
    shape[axis] *= v
    return reshape_p.bind(x, new_sizes=tuple(shape))


def _unfold(x: Any, axis: int, v: int, groups: int = 1) -> Any:
    """The inverse of ``_fold``, with the batch axis at the front."""
    shape = list(x.shape)
    rest = shape[axis] // (groups * v)
    x = reshape_p.bind(x, new_sizes=(*shape[:axis], groups, v, rest, *shape[axis + 1 :]))
    shape[axis] //= v
    return reshape_p.bind(moveaxis(x, axis + 1, 0), new_sizes=(v, *shape))


# --- transposes ------------------------------------------------------------------------------------------------------
class _Sizes(NamedTuple):
    """One spatial axis: everything the shape algebra below speaks of."""

    n: int  # lhs, as given
    k: int  # rhs, as given
    stride: int
    lo: int
    dilation: int  # of lhs
    n_dilated: int  # 1 + (n - 1) * lhs_dilation
    reach: int  # 1 + (k - 1) * rhs_dilation
    out_dilated: int  # 1 + (out - 1) * stride


def _sizes(lhs, rhs, ct, *, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers) -> list[_Sizes]:
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    return [
        _Sizes(
            lhs.shape[i], rhs.shape[j], s, lo, a, dilated_size(lhs.shape[i], a), dilated_size(rhs.shape[j], r),
            dilated_size(ct.shape[k], s),
        )
        for i, j, k, s, (lo, _), a, r in zip(
            lhs_spec[2:], rhs_spec[2:], out_spec[2:], window_strides, padding, lhs_dilation, rhs_dilation
        )
    ]  # fmt: skip


def _dilate_spatial(ct: Any, out_spec: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    if all(s == 1 for s in strides):
        return ct
    factors = [1] * ct.ndim
    for d, s in zip(out_spec[2:], strides):
        factors[d] = s
    return dilate_p.bind(ct, factors=tuple(factors))


def _swap(spec: tuple[int, ...]) -> tuple[int, ...]:
    """The roles of the first two axes exchanged."""
    return (spec[1], spec[0], *spec[2:])


def _transpose(
    ct: Any, lhs: Any, rhs: Any, *, feature_group_count, batch_group_count, preferred_element_type, **window
):
    groups = {"feature_group_count": feature_group_count, "batch_group_count": batch_group_count}
    linear = lhs if isinstance(lhs, LinearArg) else rhs
    if 0 in (ct.size, lhs.aval.size, rhs.aval.size):  # no term in any sum
        bar = full(linear.shape, 0, linear.dtype)
    else:
        rule = _transpose_lhs if linear is lhs else _transpose_rhs
        bar = convert(rule(ct, lhs, rhs, **groups, **window), linear.dtype)
    return [bar, None] if linear is lhs else [None, bar]


def _transpose_lhs(
    ct: Any, lhs: Any, rhs: Any, *, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers,
    feature_group_count, batch_group_count,
) -> Any:  # fmt: skip
    # dX = conv(dilate(dY, s), rev(W) with in and out features exchanged).  On one spatial axis, X^ dilated and padded,
    #     X^_bar[q] = sum_t D[q - t r] W[t] = sum_t D[q - (K - 1) + t r] rev(W)[t],    D = dilate(dY, s), K = reach,
    #     X_bar[i] = X^_bar[lo + i a]:  stride a (= lhs_dilation), rhs_dilation r, and
    #     lo' = K - 1 - lo,   hi' from  out_dilated + lo' + hi' = n_dilated + K - 1,  so that n positions come out.
    # Features, G groups: out (G, O') <- in (G, C') per group of W (G, O'; C').  The way back wants W (G, C'; O'): the
    # groups of W's out axis move to its in axis, and the two exchange their roles.  With batch groups the same conv has
    # feature groups, and yields (N / G; G, C): its groups move from the features to the batch.
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    groups = max(feature_group_count, batch_group_count)
    spatial = _sizes(
        lhs, rhs, ct, window_strides=window_strides, padding=padding, lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation, dimension_numbers=dimension_numbers,
    )  # fmt: skip
    kernel = convert(rhs, ct.dtype)
    if any(a.k > 1 for a in spatial):
        kernel = rev_p.bind(kernel, dimensions=tuple(rhs_spec[2:]))
    kernel = _move_groups(kernel, rhs_spec[0], rhs_spec[1], groups)
    out = conv_general_dilated_p.bind(
        _dilate_spatial(ct, out_spec, window_strides),
        kernel,
        window_strides=lhs_dilation,
        padding=tuple((a.reach - 1 - a.lo, a.n_dilated - a.out_dilated + a.lo) for a in spatial),
        lhs_dilation=(1,) * len(spatial),
        rhs_dilation=rhs_dilation,
        dimension_numbers=ConvDimensionNumbers(out_spec, _swap(rhs_spec), lhs_spec),
        feature_group_count=groups,
        batch_group_count=1,
        preferred_element_type=None,
    )
    return _move_groups(out, lhs_spec[1], lhs_spec[0], batch_group_count)


def _transpose_rhs(
    ct: Any, lhs: Any, rhs: Any, *, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers,
    feature_group_count, batch_group_count,
) -> Any:  # fmt: skip
    # dW = conv(X, dilate(dY, s)), batch and features exchanged in both.  On one spatial axis
    #     W_bar[t] = sum_p X^[t r + p s] dY[p] = sum_q X^[t r + q] D[q],    D = dilate(dY, s):
    #     stride r (= rhs_dilation), lhs_dilation kept, rhs_dilation 1, lo'' = lo, and k positions come out for
    #     n_dilated + lo + hi'' = out_dilated + K - 1.
    # X [N, C] is read as batch C, features N; D [N, O] as in features N, out features O; the result [C, O] is W's in
    # and out axis.  Feature groups of C are then groups of the batch; batch groups of N, groups of the features.
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    spatial = _sizes(
        lhs, rhs, ct, window_strides=window_strides, padding=padding, lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation, dimension_numbers=dimension_numbers,
    )  # fmt: skip
    return conv_general_dilated_p.bind(
        convert(lhs, ct.dtype),
        _dilate_spatial(ct, out_spec, window_strides),
        window_strides=rhs_dilation,
        padding=tuple((a.lo, a.out_dilated + a.reach - 1 - a.n_dilated - a.lo) for a in spatial),
        lhs_dilation=lhs_dilation,
        rhs_dilation=(1,) * len(spatial),
        dimension_numbers=ConvDimensionNumbers(_swap(lhs_spec), _swap(out_spec), _swap(rhs_spec)),
        feature_group_count=batch_group_count,
        batch_group_count=feature_group_count,
        preferred_element_type=None,
    )


# --- batching --------------------------------------------------------------------------------------------------------
def _example(x: Any, dim: int | None) -> ShapedArray:
    """The aval of one example."""
    return x.aval if dim is None else x.aval.update(shape=(*x.shape[:dim], *x.shape[dim + 1 :]))


def _batch(args, dims, *, dimension_numbers, feature_group_count, batch_group_count, **params):
    # V examples:  both batched: V times the groups, (V, G, ...) features or batch, out features (V, G, O');
    # lhs alone: V more images, inside the batch groups if there are any: (G, V, N');
    # rhs alone: V times the out features, inside the groups: (G, V, O').
    (lhs, rhs), (dl, dr) = args, dims
    lhs_spec, rhs_spec, out_spec = dimension_numbers

    def conv(lhs, rhs, feature_groups, batch_groups):
        return conv_general_dilated_p.bind(
            lhs, rhs, dimension_numbers=dimension_numbers, feature_group_count=feature_groups,
            batch_group_count=batch_groups, **params,
        )  # fmt: skip

    v = lhs.shape[dl] if dl is not None else rhs.shape[dr]
    if v == 0:  # nothing can be folded into an axis and out again: the empty result, of the type one example has
        out = _abstract(
            _example(lhs, dl), _example(rhs, dr), dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count, batch_group_count=batch_group_count, **params,
        )  # fmt: skip
        return full((0, *out.shape), 0, out.dtype), 0
    if dl is not None and dr is not None:
        by_batch = batch_group_count > 1
        lhs = _fold(lhs, dl, lhs_spec[0 if by_batch else 1])
        rhs = _fold(rhs, dr, rhs_spec[0])
        feature_groups = feature_group_count if by_batch else feature_group_count * v
        out = conv(lhs, rhs, feature_groups, batch_group_count * v if by_batch else 1)
        return _unfold(out, out_spec[1], v), 0
    if dl is not None:
        lhs_folded = _fold(lhs, dl, lhs_spec[0], batch_group_count)
        out = conv(lhs_folded, rhs, feature_group_count, batch_group_count)
        return _unfold(out, out_spec[0], v), 0
    groups = max(feature_group_count, batch_group_count)
    out = conv(lhs, _fold(rhs, dr, rhs_spec[0], groups), feature_group_count, batch_group_count)
    return _unfold(out, out_spec[1], v, groups), 0


conv_general_dilated_p = Primitive(
    NAME,
    abstract=_abstract,
    reference=in_preferred(reference.conv_general_dilated),
    cpu=Kernel(by_result_dtype(plan_conv), epilogue=True),
    cuda=NO_CUDA,
    jvp=Bilinear(),
    transpose=_transpose,
    batch=_batch,
)
