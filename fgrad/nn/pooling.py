"""Pooling over windows of the spatial axes; the batch axis is first, the channels are last."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.static import flag, sequence, static_ints
from fgrad.numpy.promotion import promote_dtypes_inexact
from fgrad.primitives.broadcast import full, full_like

Padding = str | Sequence[tuple[int, int]]


def _pool(
    name: str,
    x: Array,
    init: Any,
    reducer: Callable[..., Any],
    window_shape: Sequence[int],
    strides: Sequence[int] | None,
    padding: Padding,
) -> Array:
    window = static_ints(name, "window_shape must be integers", window_shape)
    steps = (1,) * len(window) if strides is None else static_ints(name, "strides must be integers", strides)
    if x.ndim not in (len(window) + 1, len(window) + 2) or len(steps) != len(window):
        raise ValueError(
            f"{name}: inputs must have a batch axis, one axis for each of window_shape and strides, and channels, got "
            f"inputs {x.shape}, window_shape {window} and strides {steps}. Give one entry for each spatial axis."
        )
    if not isinstance(padding, str):
        pairs = [static_ints(name, "padding must be integers", p) for p in sequence(name, "padding", padding)]
        padding = tuple([(p[0], p[-1]) for p in pairs if len(p) == 2])
        if len(padding) != len(window) or len(pairs) != len(window):
            raise ValueError(
                f"{name}: padding must be 'SAME', 'VALID' or one (low, high) for each of the {len(window)} spatial "
                f"axes, got {tuple(pairs)}. Give {len(window)} pairs."
            )
        padding = ((0, 0), *padding, (0, 0))
    single = x.ndim == len(window) + 1  # no batch axis
    y = lax.reshape(x, (1, *x.shape)) if single else x
    out = lax.reduce_window(y, init, reducer, (1, *window, 1), (1, *steps, 1), padding)
    return lax.reshape(out, out.shape[1:]) if single else out


def max_pool(
    inputs: Any, window_shape: Sequence[int], strides: Sequence[int] | None = None, padding: Padding = "VALID"
) -> Array:
    """The largest element of every window: [N, *spatial, C] to [N, *out, C], as in flax.linen; N may be missing.

    ``strides`` are 1 unless given.  ``padding`` is 'VALID' (none), 'SAME' (out = ceil(size / stride)) or one
    (low, high) for each spatial axis; padded places never win.  The derivative goes to the first largest element.

    >>> import fgrad, fgrad.numpy as fnp
    >>> x = fnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> fgrad.nn.max_pool(x, (2, 2), (2, 2)).reshape(2, 2).tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    x = lift(inputs, "max_pool")
    return _pool("max_pool", x, dtypes.least(x.dtype), lax.max, window_shape, strides, padding)


def min_pool(
    inputs: Any, window_shape: Sequence[int], strides: Sequence[int] | None = None, padding: Padding = "VALID"
) -> Array:
    """The smallest element of every window; see ``max_pool``."""
    x = lift(inputs, "min_pool")
    return _pool("min_pool", x, dtypes.greatest(x.dtype), lax.min, window_shape, strides, padding)


def avg_pool(
    inputs: Any,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> Array:
    """The mean of every window; see ``max_pool``.  Padded places are zeros that count, or not, as asked.

    >>> import fgrad, fgrad.numpy as fnp
    >>> x = fnp.ones((1, 3, 3, 1))
    >>> fgrad.nn.avg_pool(x, (2, 2), (2, 2), "SAME", count_include_pad=False).ravel().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    (x,) = promote_dtypes_inexact("avg_pool", inputs)
    total = _pool("avg_pool", x, 0.0, lax.add, window_shape, strides, padding)
    if flag("avg_pool", "count_include_pad", count_include_pad):
        return lax.mul(total, full_like(total, 1 / math.prod(static_ints("avg_pool", "window_shape", window_shape))))
    counts = _pool("avg_pool", full(x.shape, 1, x.dtype), 0.0, lax.add, window_shape, strides, padding)
    return lax.div(total, counts)
