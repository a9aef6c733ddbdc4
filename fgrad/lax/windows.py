"""Sliding windows: reduce_window, and the padding that 'SAME' and 'VALID' mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.array import Array
from fgrad.core.static import items, sequence
from fgrad.lax.common import ArrayLike, promote_dtypes
from fgrad.lax.elementwise import add, max, min
from fgrad.lax.reductions import is_identity
from fgrad.lax.shape import integers
from fgrad.primitives.dilate import dilated_size
from fgrad.primitives.window import reduce_window_sum_p
from fgrad.primitives.window_winners import reduce_window_max_p, reduce_window_min_p

PaddingLike = str | int | Sequence[int] | Sequence[tuple[int, int]]

_OF_COMPUTATION: dict[Callable[..., Any], Any] = {
    add: (reduce_window_sum_p, lambda dtype: 0),
    max: (reduce_window_max_p, dtypes.least),
    min: (reduce_window_min_p, dtypes.greatest),
}


def padtype_to_pads(
    in_shape: Sequence[int], window_shape: Sequence[int], window_strides: Sequence[int], padding: PaddingLike
) -> list[tuple[int, int]]:
    """Explicit (lo, hi) for each axis.

    'SAME' pads so that ceil(n / stride) windows fit: max((ceil(n / stride) - 1) * stride + k - n, 0) in all, half of it
    on either side and an odd one at the end ('SAME_LOWER': at the beginning); 'VALID' pads nothing.  An integer is
    both lo and hi; pairs are as they are.

    Args:
        in_shape: sizes n.
        window_shape: sizes k of the window, as dilated.
        window_strides: strides.
        padding: 'SAME', 'SAME_LOWER', 'VALID', an integer, or an integer or a pair for each axis.

    Returns:
        A list of pairs.

    Raises:
        ValueError: an unknown name.
        TypeError: something else than integers, pairs or a name.

    >>> from fgrad import lax
    >>> lax.padtype_to_pads((7,), (4,), (2,), "SAME")
    [(1, 2)]
    """
    if isinstance(padding, str):
        kind = padding.upper()
        if kind not in ("SAME", "SAME_LOWER", "VALID"):
            raise ValueError(
                f"padding: the name must be 'SAME', 'SAME_LOWER' or 'VALID', got {padding!r}. "
                "Use one of them, or (lo, hi) for each axis."
            )
        if kind == "VALID":
            return [(0, 0)] * len(sequence("padding", "in_shape", in_shape))
        pads = []
        shapes = (("in_shape", in_shape), ("window_shape", window_shape), ("window_strides", window_strides))
        for n, k, s in zip(*(integers("padding", what, given) for what, given in shapes)):
            if s < 1:
                raise ValueError(f"padding: window_strides must be positive, got {window_strides}. Use at least 1.")
            total = (-(-n // s) - 1) * s + k - n
            total = total if total > 0 else 0
            less, more = total // 2, total - total // 2
            pads.append((less, more) if kind == "SAME" else (more, less))
        return pads
    if isinstance(padding, (int, np.integer)):
        return [(int(padding), int(padding))] * len(sequence("padding", "in_shape", in_shape))
    entries = [(p, p) if items(p) is None else p for p in sequence("padding", "padding", padding)]
    pairs = [integers("padding", "entries", p) for p in entries]
    if any(len(p) != 2 for p in pairs):
        raise ValueError(f"padding: each axis needs (lo, hi), got {tuple(padding)!r}. Give pairs of integers.")
    return [(lo, hi) for lo, hi in pairs]


def reduce_window(
    operand: ArrayLike,
    init_value: ArrayLike,
    computation: Callable[[Any, Any], Any],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int] | None = None,
    padding: PaddingLike = "VALID",
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Array:
    """Folds the elements under a sliding window.  With X the operand dilated by base_dilation and padded,

        out[p] = init_value op X[p * stride + t * window_dilation], over all t < window_dimensions.

    Padding and the holes of base_dilation change nothing (they hold op's identity).  Each size is

        floor((lo + 1 + (n - 1) * base_dilation + hi - (1 + (k - 1) * window_dilation)) / stride) + 1.

    Of the elements that tie for a window's maximum or minimum, the first in row-major order has the derivative.

    Args:
        operand: array [*shape] of real numbers.
        init_value: scalar of its dtype; op's identity (0, -inf, inf) costs nothing.
        computation: lax.add, lax.max or lax.min.
        window_dimensions: the window's size on each axis.
        window_strides: positive; default: all 1.
        padding: 'VALID', 'SAME', 'SAME_LOWER', an integer, or (lo, hi) for each axis, which may be negative.
        base_dilation: spreads the operand; default: all 1.
        window_dilation: spreads the window; default: all 1.

    Returns:
        Array of operand's dtype.

    Raises:
        TypeError: another computation, or dtypes differ.
        ValueError: the window is larger than the padded input (unless that axis is empty), or parameters do not fit.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.reduce_window(np.float32([1, 5, 2, 7]), -np.inf, lax.max, (2,), (2,))
    Array([5., 7.], dtype=float32)
    """
    if not callable(computation) or computation not in _OF_COMPUTATION:
        raise TypeError(
            f"reduce_window: computation must be lax.add, lax.max or lax.min, got {computation!r}. "
            "Gather the windows and reduce them for another one."
        )
    x, init = promote_dtypes("reduce_window", operand, init_value)
    if init.ndim != 0:
        raise ValueError(f"reduce_window: init_value must be a scalar, got shape {init.shape}. Pass one number.")

    def per_axis(what: str, values: Sequence[int] | None) -> tuple[int, ...]:
        return (1,) * x.ndim if values is None else integers("reduce_window", what, values)

    window, strides = per_axis("window_dimensions", window_dimensions), per_axis("window_strides", window_strides)
    dilation = per_axis("window_dilation", window_dilation)
    reach = [dilated_size(k, d) for k, d in zip(window, dilation)]
    prim, identity = _OF_COMPUTATION[computation]
    out = prim.bind(
        x,
        window_dimensions=window,
        window_strides=strides,
        padding=tuple(padtype_to_pads(x.shape, reach, strides, padding)),
        base_dilation=per_axis("base_dilation", base_dilation),
        window_dilation=dilation,
    )
    return out if is_identity(init, identity(x.dtype)) and init.dtype == x.dtype else computation(out, init)
