"""Problems element by element: the functions of fgrad.lax within their domains, and select."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fgrad import lax
from fgrad.core import dtypes as core_dtypes
from fgrad.testing.problem import Problem
from fgrad.testing.samples import elementwise_table as table
from fgrad.testing.strategies.basic import DTypes, as_strategy, draw_arrays, linear_if, shapes

#: The domains of the table as bounds.
BOUNDS: dict[Any, tuple[float | None, float | None]] = {
    table.real: (None, None),
    table.positive: (0.25, None),
    table.unit: (-0.9, 0.9),
    table.probability: (0.05, 0.95),
    table.above_one: (1.25, None),
}
LINEAR = {"neg": ((0,),), "add": ((0, 1),), "sub": ((0, 1),), "mul": ((0,), (1,)), "div": ((0,),)}
#: Between their jumps, which lie at multiples of a half.
ROUNDING = ("floor", "ceil", "round")
#: Added to the operands by their place, so that no two are equal: bounded domains are multiples of 1/8, others of 1/4.
_APART = 3 / 64


def _is_public(row: table.Row) -> bool:
    """Whether all parameters of the function are operands or options of the row (others fix an operand)."""
    own = list(inspect.signature(getattr(lax, row.name)).parameters)
    return len(set(own) - set(row.params)) <= len(row.domains) or row.name == "round"


def elementwise_problems(
    *,
    dtypes: DTypes = ("float64", "float32"),
    functions: tuple[str, ...] | None = None,
    derivative: bool = True,
    scipy: bool = False,
    max_dims: int = 2,
    max_side: int = 3,
) -> Any:
    """Valid calls of the element-wise functions of ``fgrad.lax``, inside their domains and away from kinks and jumps.

    Operands have one shape, or some of them are scalars.

    Args:
        dtypes: float, integer or bool dtypes; a function is drawn among those that take it.
        functions: names to choose from; default: all but those of which an operand has no derivative (``polygamma``,
            ``zeta``, ``igamma``, ``igammac``, ``betainc``).
        derivative: only functions that have a derivative; comparisons, bits and ``nextafter`` have none.
        scipy: functions that need SciPy, too.
        max_dims: bound on the number of axes.
        max_side: bound on their sizes.

    Raises:
        ValueError: no function is left to draw.

    Source: https://docs.jax.dev/en/latest/jax.lax.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import elementwise_problems
    >>> find(elementwise_problems(functions=("log", "atan2")), lambda p: len(p.operands) == 2)
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    x = np.array(0.25)
    y = np.array(0.296875)
    out = lax.atan2(x, y)
    """
    rows = [
        row
        for row in table.ROWS
        if _is_public(row)
        and (functions is None or row.name in functions)
        and (row.derivative or not derivative)
        and (scipy or not row.scipy)
    ]

    @st.composite
    def problems(draw: Any) -> Problem:
        dtype = draw(kinds)
        fitting = [row for row in rows if dtype in row.dtypes]
        if not fitting:
            raise ValueError(
                f"elementwise_problems: there must be a function for every dtype, got none for {dtype} among "
                f"functions={functions} with derivative={derivative} and scipy={scipy}. Change the arguments."
            )
        row, shape = draw(st.sampled_from(fitting)), draw(shapes(0, max_dims, 0, max_side))
        operands = []
        for i, domain in enumerate(row.domains):
            own = () if i and draw(st.sampled_from((False, False, False, True))) else shape
            floats = core_dtypes.is_inexact(dtype)
            low, high = BOUNDS[domain] if floats else (None, None)
            (x,) = draw_arrays(draw, dtype, [own], low=low, high=high)
            if floats:
                x = (x + (1 / 8 if row.name in ROUNDING else i * _APART)).astype(dtype)
            operands.append(x)
        options = {k: v for k, v in row.params.items() if k in inspect.signature(getattr(lax, row.name)).parameters}
        linear = linear_if(dtype, *LINEAR.get(row.name, ()))
        return Problem(getattr(lax, row.name), tuple(operands), options, linear)

    kinds = as_strategy(dtypes)
    return problems()


def select_problems(*, dtypes: DTypes = ("float64", "float32"), max_dims: int = 2, max_side: int = 3) -> Any:
    """Valid calls of ``lax.select`` and ``lax.select_n``: of two cases by bools, of one to four by integers.

    The integers may be out of range; the choice may be a scalar.  Linear in the cases together.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.select_n.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import select_problems
    >>> find(select_problems(), lambda p: len(p.operands) == 3)
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    which = np.array(False)
    cases_0 = np.array(0.25)
    cases_1 = np.array(0.5)
    out = lax.select_n(which, cases_0, cases_1)
    """

    @st.composite
    def problems(draw: Any) -> Problem:
        dtype, shape = draw(kinds), draw(shapes(0, max_dims, 0, max_side))
        chooser = () if draw(st.sampled_from((False, False, True))) else shape
        if draw(st.booleans()):
            count = draw(st.integers(1, 4))
            places = draw_arrays(draw, np.dtype(np.int32), [chooser], distinct=False)[0] % (count + 2) - 1
            which = np.clip(places, -1, count).astype(np.int32)
        else:
            count, which = 2, draw_arrays(draw, np.dtype(bool), [chooser])[0]
        function = lax.select if which.dtype == bool and draw(st.booleans()) else lax.select_n
        operands = (which, *draw_arrays(draw, dtype, [shape] * count))
        return Problem(function, operands, {}, linear_if(dtype, tuple(range(1, count + 1))))

    kinds = as_strategy(dtypes)
    return problems()
