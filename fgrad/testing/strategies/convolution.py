"""Calls of lax.conv_general_dilated and lax.conv_transpose that are valid by construction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from fgrad import lax
from fgrad.testing.problem import Problem
from fgrad.testing.strategies.basic import DTypes, as_strategy, draw_arrays, linear_if, wider
from fgrad.testing.strategies.geometry import PADDINGS, pads, spread, window_axes

LETTERS = "DHW"
#: Options that are given although they have their default.
ALWAYS = ("window_strides", "padding")
#: Sizes that may vanish: the batch, the in features and the out features of a group.
_EMPTY = st.sampled_from(("none",) * 12 + ("batch", "in", "out"))
_FORMS = st.sampled_from(("default", "strings", "tuples", "named tuple", "channels last"))


def _draw_numbers(draw: Callable[..., Any], rank: int, orders: bool | str) -> tuple[Any, tuple[tuple[int, ...], ...]]:
    """The argument ``dimension_numbers``, and the orders of lhs, rhs and out that it means."""
    if not orders:
        return None, (tuple(range(rank + 2)),) * 3
    form, count = draw(_FORMS) if orders is True else orders, math.factorial(rank + 2)
    drawn = draw(st.integers(0, count**3 - 1))
    if form == "default" or (form == "strings" and rank > len(LETTERS)):
        return None, (tuple(range(rank + 2)),) * 3
    if form == "channels last":
        form = "strings" if rank <= len(LETTERS) else "tuples"
        image = (0, rank + 1, *range(1, rank + 1))
        specs: tuple[tuple[int, ...], ...] = (image, (rank + 1, rank, *range(rank)), image)
    else:
        specs = tuple(_order(drawn // count**i % count, rank + 2) for i in range(3))
    lhs, rhs, out = specs
    if form != "strings":
        return lax.ConvDimensionNumbers(*specs) if form == "named tuple" else specs, specs
    rhs = (*rhs[:2], *sorted(rhs[2:]))  # letters number the spatial axes as they come in rhs
    specs, spatial = (lhs, rhs, out), LETTERS[-rank:]
    return tuple("".join(_placed(two + spatial, spec)) for two, spec in zip(("NC", "OI", "NC"), specs)), specs


def _order(number: int, ndim: int) -> tuple[int, ...]:
    """The axes' permutation of that number; 0 is the identity."""
    left, order = list(range(ndim)), []
    for n in range(ndim, 0, -1):
        order.append(left.pop(number % n))
        number //= n
    return tuple(order)


def _placed(values: Sequence[Any], spec: Sequence[int]) -> tuple[Any, ...]:
    """The tuple that has values[i] at place spec[i]."""
    return tuple(values[spec.index(d)] for d in range(len(spec)))


def _draw_counts(
    draw: Callable[..., Any], budget: int, max_batch: int, max_features: int, groupings: Sequence[str], extremes: bool
) -> tuple[int, int, int, int, int]:
    """(images of a batch group, in and out features of a group, feature groups, batch groups), product <= budget."""
    empty = draw(_EMPTY) if extremes else "none"
    kind = draw(st.sampled_from(groupings))
    most_groups = min(3, budget)
    group_count = draw(st.integers(min(2, most_groups), most_groups))
    group_count = 1 if kind == "none" else group_count
    budget //= group_count
    counts = []
    for what, most in (("batch", max_batch), ("in", max_features), ("out", max_features)):
        count = draw(st.integers(1, min(most, budget)))
        counts.append(0 if what == empty else count)
        budget //= count
    feature_groups = group_count if kind == "features" else 1
    return counts[0], counts[1], counts[2], feature_groups, group_count if kind == "batch" else 1


def conv_problems(
    *,
    spatial_dims: int | Sequence[int] = (1, 2, 3),
    dtypes: DTypes = ("float64", "float32"),
    max_macs: int = 4096,
    max_side: int = 7,
    max_window: int = 4,
    max_batch: int = 3,
    max_features: int = 4,
    groups: bool = True,
    batch_groups: bool = True,
    lhs_dilation: bool = True,
    rhs_dilation: bool = True,
    paddings: Sequence[str] = PADDINGS,
    orders: bool | str = True,
    preferred: bool = True,
    degenerate: bool = True,
) -> st.SearchStrategy[Problem]:
    """Valid calls of ``lax.conv_general_dilated``, with every feature that it has; integer-valued operands.

    Sums of products of the operands, integers of one digit, are exact in float32 and wider, so that a convolution and
    its derivatives can be compared to the last bit.

    Args:
        spatial_dims: how many spatial axes, or a choice.
        dtypes: dtypes of real numbers.
        max_macs: bound on the multiplications of the forward convolution, N O C prod(k out) / groups.
        max_side: bound on lhs's spatial sizes.
        max_window: bound on rhs's spatial sizes.
        max_batch: bound on the images in a group.
        max_features: bound on the in and the out features of a group.
        groups: feature_group_count may exceed 1.
        batch_groups: batch_group_count may exceed 1; never both.
        lhs_dilation: lhs may be dilated.
        rhs_dilation: rhs may be dilated.
        paddings: which of 'explicit' (pairs, of either sign), 'VALID', 'SAME' and 'SAME_LOWER'.
        orders: axis orders may be given, as strings, tuples or a ConvDimensionNumbers; or 'channels last', always.
        preferred: preferred_element_type may be given.
        degenerate: an empty batch, axis or feature axis; a kernel as large as the input; one of a single element; a
            stride that exceeds the input; padding beyond the kernel.

    Returns:
        A strategy of ``Problem`` with operands lhs and rhs, linear in each.

    Raises:
        ValueError: a padding or an order that is unknown, or no spatial axis.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.conv_general_dilated.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import conv_problems
    >>> find(conv_problems(dtypes="float32"), lambda p: "feature_group_count" in p.options)
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    lhs = np.array([[[1.0],
                     [2.0]]], dtype=np.float32)
    rhs = np.array([[[1.0]],
                    [[2.0]]], dtype=np.float32)
    out = lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides=(1,),
        padding=((0, 0),),
        feature_group_count=2,
    )
    """
    ranks = (spatial_dims,) if isinstance(spatial_dims, int) else tuple(spatial_dims)
    unknown = [p for p in paddings if p not in PADDINGS]
    if unknown or not paddings:
        raise ValueError(f"conv_problems: paddings must be of {PADDINGS}, got {tuple(paddings)}. Choose some of them.")
    if not ranks or min(ranks) < 1:
        raise ValueError(f"conv_problems: spatial_dims must be positive, got {spatial_dims}. Use 1, 2 or 3.")
    if orders not in (True, False, "channels last"):
        raise ValueError(f"conv_problems: orders must be True, False or 'channels last', got {orders!r}. Choose one.")

    @st.composite
    def problems(draw: Any) -> Problem:
        rank, padding, dtype = draw(st.sampled_from(ranks)), draw(st.sampled_from(tuple(paddings))), draw(kinds)
        work = max(1, int(max_macs ** (1 / rank) + 1e-9))
        axis = window_axes(
            padding, max_side=max_side, max_window=max_window, max_work=work, base=lhs_dilation,
            dilation=rhs_dilation, extremes=degenerate,
        )  # fmt: skip
        axes = [draw(axis) for _ in range(rank)]
        budget = max_macs // max(1, math.prod(a.out * a.k for a in axes))
        n, c, o, by_feature, by_batch = _draw_counts(draw, budget, max_batch, max_features, groupings, degenerate)
        numbers, (lhs_spec, rhs_spec, _) = _draw_numbers(draw, rank, orders)
        lhs = _placed([n * by_batch, c * by_feature, *(a.n for a in axes)], lhs_spec)
        rhs = _placed([o * by_feature * by_batch, c, *(a.k for a in axes)], rhs_spec)
        options = {
            "window_strides": tuple(a.stride for a in axes),
            "padding": pads(padding, axes),
            "lhs_dilation": tuple(a.base for a in axes),
            "rhs_dilation": tuple(a.dilation for a in axes),
            "dimension_numbers": numbers,
            "feature_group_count": by_feature,
            "batch_group_count": by_batch,
        }
        options = {k: v for k, v in options.items() if k in ALWAYS or v not in (None, 1, (1,) * rank)}
        if preferred:
            options |= wider(draw, dtype)
        operands = [draw_arrays(draw, dtype, [shape], distinct=False, integers=True)[0] for shape in (lhs, rhs)]
        return Problem(lax.conv_general_dilated, tuple(operands), options, linear_if(dtype, (0,), (1,)))

    kinds = as_strategy(dtypes)
    groupings = ["none", *["features"] * groups, *["batch"] * batch_groups]
    return problems()


def conv_transpose_problems(
    *,
    spatial_dims: int | Sequence[int] = (1, 2, 3),
    dtypes: DTypes = ("float64", "float32"),
    max_side: int = 4,
    max_window: int = 3,
    max_features: int = 3,
) -> st.SearchStrategy[Problem]:
    """Valid calls of ``lax.conv_transpose``: every padding, dilated and transposed kernels, axis orders.

    Operands are integer-valued, as those of ``conv_problems``.

    Args:
        spatial_dims: how many spatial axes, or a choice.
        dtypes: dtypes of real numbers.
        max_side: bound on lhs's spatial sizes.
        max_window: bound on rhs's spatial sizes.
        max_features: bound on the in and the out features.

    Returns:
        A strategy of ``Problem`` with operands lhs and rhs, linear in each.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.conv_transpose.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import conv_transpose_problems
    >>> find(conv_transpose_problems(), lambda p: p.options["strides"] == (2,))
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    lhs = np.array([[[1.0]]])
    rhs = np.array([[[1.0]]])
    out = lax.conv_transpose(lhs, rhs, strides=(2,), padding='VALID')
    """

    @st.composite
    def problems(draw: Any) -> Problem:
        rank, dtype = draw(st.sampled_from(ranks)), draw(kinds)
        padding = draw(st.sampled_from(("VALID", "SAME", "explicit", "consistent")))
        n, k, strides, dilation = (
            [draw(st.integers(1, most)) for _ in range(rank)] for most in (max_side, max_window, 3, 2)
        )
        reach, length = list(map(spread, k, dilation)), list(map(spread, n, strides))
        if padding == "explicit":  # of the dilated lhs
            lo = [draw(st.integers(-1, 2)) for _ in range(rank)]
            hi = [max(r - m - a, -1) + draw(st.integers(0, 2)) for r, m, a in zip(reach, length, lo)]
        else:  # of the forward convolution, whose padding the kernel's reach less one exceeds by lo and hi
            lo = [draw(st.integers(0, r - 1)) for r in reach]
            hi = [draw(st.integers(0, r - 1 + m - 1 - a)) for r, m, a in zip(reach, length, lo)]
        numbers, (lhs_spec, rhs_spec, _) = _draw_numbers(draw, rank, True)
        if numbers is None:  # channels last
            lhs_spec, rhs_spec = (0, rank + 1, *range(1, rank + 1)), (rank + 1, rank, *range(rank))
        features = [draw(st.integers(1, max_features)) for _ in range(2)]
        flipped = draw(st.booleans())
        lhs = _placed([draw(st.integers(1, 2)), features[0], *n], lhs_spec)
        rhs = _placed([*(features if flipped else features[::-1]), *k], rhs_spec)
        options = {
            "strides": tuple(strides),
            "padding": padding if padding in ("VALID", "SAME") else tuple(zip(lo, hi)),
            "rhs_dilation": tuple(dilation),
            "dimension_numbers": numbers,
            "transpose_kernel": flipped,
            "use_consistent_padding": padding == "consistent",
        }
        options = {
            k: v for k, v in options.items() if k in ("strides", "padding") or v not in (None, False, (1,) * rank)
        }
        operands = [draw_arrays(draw, dtype, [shape], distinct=False, integers=True)[0] for shape in (lhs, rhs)]
        return Problem(lax.conv_transpose, tuple(operands), options, linear_if(dtype, (0,), (1,)))

    ranks = (spatial_dims,) if isinstance(spatial_dims, int) else tuple(spatial_dims)
    kinds = as_strategy(dtypes)
    return problems()
