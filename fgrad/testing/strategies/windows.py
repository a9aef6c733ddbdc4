"""reduce_window_problems: calls of lax.reduce_window that are valid by construction."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from fgrad import lax
from fgrad.core import dtypes as core_dtypes
from fgrad.testing.problem import Problem
from fgrad.testing.strategies.basic import DTypes, as_strategy, draw_arrays, linear_if
from fgrad.testing.strategies.geometry import PADDINGS, pads, window_axes

COMPUTATIONS = ("add", "max", "min")
#: An axis under a window of more than one element costs most: this bounds out * k along it.
_WORK = 24


def reduce_window_problems(
    *,
    dtypes: DTypes = ("float64", "float32"),
    computations: tuple[str, ...] = COMPUTATIONS,
    max_dims: int = 3,
    max_side: int = 6,
    max_window: int = 3,
    base_dilation: bool = True,
    window_dilation: bool = True,
    degenerate: bool = True,
) -> Any:
    """Valid calls of ``lax.reduce_window``: sums, maxima and minima, with strides, paddings and dilations of all kinds.

    The elements are all different, so that maxima are differentiable.  The initial value is the operation's identity,
    an option, or any number, a second operand.

    Args:
        dtypes: dtypes of real numbers.
        computations: which of 'add', 'max' and 'min'.
        max_dims: bound on the number of axes.
        max_side: bound on the operand's sizes.
        max_window: bound on the window's sizes.
        base_dilation: the operand may be dilated.
        window_dilation: the window may be dilated.
        degenerate: empty axes, windows as large as the operand or of a single element, strides that exceed the operand,
            padding beyond the window, where windows hold no element.

    Raises:
        ValueError: a computation that is unknown, or none.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.reduce_window.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import reduce_window_problems
    >>> find(reduce_window_problems(), lambda p: p.options["window_dimensions"] == (2,) and p.operands[0].size)
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    operand = np.array([0.25])
    out = lax.reduce_window(
        operand,
        init_value=0,
        computation=lax.add,
        window_dimensions=(2,),
        window_strides=(1,),
        padding=((0, 1),),
        base_dilation=(1,),
        window_dilation=(1,),
    )
    """
    if not computations or not set(computations) <= set(COMPUTATIONS):
        raise ValueError(
            f"reduce_window_problems: computations must be of {COMPUTATIONS}, got {computations}. Choose some of them."
        )

    @st.composite
    def problems(draw: Any) -> Problem:
        dtype, rank, name = draw(kinds), draw(st.integers(1, max_dims)), draw(st.sampled_from(computations))
        padding = draw(st.sampled_from(PADDINGS))
        axis = window_axes(
            padding, max_side=max_side, max_window=max_window, max_work=_WORK, base=base_dilation,
            dilation=window_dilation, extremes=degenerate,
        )  # fmt: skip
        axes = [draw(axis) for _ in range(rank)]
        options = {
            "computation": getattr(lax, name),
            "window_dimensions": tuple(a.k for a in axes),
            "window_strides": tuple(a.stride for a in axes),
            "padding": pads(padding, axes),
            "base_dilation": tuple(a.base for a in axes),
            "window_dilation": tuple(a.dilation for a in axes),
        }
        linear = ((0, 1),) if name == "add" else ()
        shape = tuple(a.n for a in axes)
        if math.prod(shape) and draw(st.sampled_from((False, False, True))):
            return Problem(
                lax.reduce_window, tuple(draw_arrays(draw, dtype, [shape, ()])), options, linear_if(dtype, *linear)
            )
        identity = {"add": 0, "max": core_dtypes.least(dtype), "min": core_dtypes.greatest(dtype)}[name]
        init = identity if core_dtypes.is_inexact(dtype) else dtype.type(identity)
        return Problem(
            lax.reduce_window, tuple(draw_arrays(draw, dtype, [shape])), {"init_value": init, **options},
            linear_if(dtype, *[(0,) for _ in linear]),
        )  # fmt: skip

    kinds = as_strategy(dtypes)
    return problems()
