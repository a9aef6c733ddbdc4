"""Problems along axes: reductions, positions of extremes, running totals, sorts."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from fgrad import lax
from fgrad.testing.problem import Problem
from fgrad.testing.strategies.basic import DTypes, as_strategy, axes, draw_arrays, linear_if, shapes

_ORDER = ("reduce_max", "reduce_min", "argmax", "argmin")
_BITS = ("reduce_and", "reduce_or", "reduce_xor")
#: By kind of dtype; what shrinking prefers comes first.
REDUCTIONS = {
    "f": ("reduce_sum", "reduce_prod", *_ORDER),
    "c": ("reduce_sum", "reduce_prod"),
    "i": ("reduce_sum", "reduce_prod", *_ORDER, *_BITS),
    "b": (*_ORDER, *_BITS),
}
CUMULATIVE = {
    "f": ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"),
    "c": ("cumsum", "cumprod"),
    "i": ("cumsum", "cumprod", "cummax", "cummin"),
    "b": ("cummax", "cummin"),
}


def _of(table: dict[str, tuple[str, ...]], dtype: np.dtype) -> tuple[str, ...]:
    return table[{"u": "i", "V": "f"}.get(dtype.kind, dtype.kind)]  # bfloat16 is of kind V


def reduction_problems(*, dtypes: DTypes = ("float64", "float32"), max_dims: int = 3, max_side: int = 4) -> Any:
    """Valid calls of the reductions of ``fgrad.lax``, over none to all of the axes, which may be empty.

    Of floats and integers sums, products, extremes and their positions, of integers and bools and, or and xor as well.
    The elements are all different.

    Source: https://docs.jax.dev/en/latest/jax.lax.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import reduction_problems
    >>> find(reduction_problems(), lambda p: p.function.__name__ == "argmax" and p.operands[0].size == 2)
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    operand = np.array([0.25, 0.5])
    out = lax.argmax(operand, axis=0, index_dtype=np.int32)
    """

    @st.composite
    def problems(draw: Any) -> Problem:
        dtype = draw(kinds)
        name = draw(st.sampled_from(_of(REDUCTIONS, dtype)))
        if name in ("argmax", "argmin"):
            before, after = draw(shapes(0, max_dims - 1, 0, max_side)), draw(shapes(0, 1, 0, max_side))
            shape = (*before, draw(st.integers(1, max_side)), *after)[: max(len(before) + 1, max_dims)]
            index = draw(st.sampled_from([np.dtype(d) for d in ("int32", "int64", "uint8")]))
            options: dict[str, Any] = {"axis": len(before), "index_dtype": index}
        else:
            shape = draw(shapes(0, max_dims, 0, max_side))
            options = {"axes": tuple(a % len(shape) for a in draw(axes(len(shape))))}  # JAX wants them from 0
        linear = linear_if(dtype, (0,)) if name == "reduce_sum" else ()
        return Problem(getattr(lax, name), tuple(draw_arrays(draw, dtype, [shape])), options, linear)

    kinds = as_strategy(dtypes)
    return problems()


def cumulative_problems(*, dtypes: DTypes = ("float64", "float32"), max_dims: int = 3, max_side: int = 5) -> Any:
    """Valid calls of ``lax.cumsum``, ``cumprod``, ``cummax``, ``cummin`` and ``cumlogsumexp``, in both directions.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.cumsum.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import cumulative_problems
    >>> find(cumulative_problems(), lambda p: p.options["reverse"] and p.operands[0].size == 2)
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    operand = np.array([0.25, 0.5])
    out = lax.cumsum(operand, axis=0, reverse=True)
    """

    @st.composite
    def problems(draw: Any) -> Problem:
        dtype, shape = draw(kinds), draw(shapes(1, max_dims, 0, max_side))
        name = draw(st.sampled_from(_of(CUMULATIVE, dtype)))
        options = {"axis": draw(st.integers(0, len(shape) - 1)), "reverse": draw(st.booleans())}
        linear = linear_if(dtype, (0,)) if name == "cumsum" else ()
        return Problem(getattr(lax, name), tuple(draw_arrays(draw, dtype, [shape])), options, linear)

    kinds = as_strategy(dtypes)
    return problems()


def sort_problems(*, dtypes: DTypes = ("float64", "float32"), max_dims: int = 3, max_side: int = 5) -> Any:
    """Valid calls of ``lax.sort``, of one array or of up to three by one or two keys, and of ``lax.top_k``.

    Elements are all different, so that the order, and with it the derivative, is certain.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.sort.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import sort_problems
    >>> find(sort_problems(), lambda p: len(p.operands) == 2)
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    x0 = np.array([0.25])
    x1 = np.array([0.5])
    out = lax.sort([x0, x1], dimension=0, num_keys=1)
    """

    @st.composite
    def problems(draw: Any) -> Problem:
        dtype, shape = draw(kinds), draw(shapes(1, max_dims, 0, max_side))
        axis = draw(st.integers(0, len(shape) - 1))
        name = draw(st.sampled_from(("sort", "sort of several", *["top_k"] * (dtype.kind != "c"))))
        if name == "top_k":
            options = {"k": draw(st.integers(0, shape[axis])), "axis": axis}
            return Problem(lax.top_k, tuple(draw_arrays(draw, dtype, [shape])), options)
        if name == "sort":
            return Problem(lax.sort, tuple(draw_arrays(draw, dtype, [shape])), {"dimension": axis})
        count = draw(st.integers(2, 3))
        options = {"dimension": axis, "num_keys": draw(st.integers(1, 2))}
        return Problem(lax.sort, tuple(draw_arrays(draw, dtype, [shape] * count)), options, listed=True)

    kinds = as_strategy(dtypes)
    return problems()
