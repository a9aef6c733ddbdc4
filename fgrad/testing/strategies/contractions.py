"""dot_general_problems: products with batch, contracting and free axes in any order."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from fgrad import lax
from fgrad.testing.problem import Problem
from fgrad.testing.strategies.basic import DTypes, as_strategy, draw_arrays, linear_if, shapes, wider


def dot_general_problems(
    *, dtypes: DTypes = ("float64", "float32"), max_each: int = 2, max_side: int = 4, preferred: bool = True
) -> Any:
    """Valid calls of ``lax.dot_general``: batch, contracting and free axes, up to ``max_each`` of each, in any order.

    Sizes may be 0, there may be none of a sort of axis, and operands may be scalars.  Integer-valued operands, so that
    products are exact in float32 and wider; linear in each.

    Args:
        dtypes: dtypes of real numbers.
        max_each: bound on the number of axes of each sort.
        max_side: bound on their sizes.
        preferred: preferred_element_type may be given.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.dot_general.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import dot_general_problems
    >>> find(dot_general_problems(), lambda p: p.options["dimension_numbers"] == (((1,), (0,)), ((), ())))
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    lhs = np.array([[1.0]])
    rhs = np.array([1.0])
    out = lax.dot_general(lhs, rhs, dimension_numbers=(((1,), (0,)), ((), ())))
    """

    @st.composite
    def problems(draw: Any) -> Problem:
        dtype = draw(kinds)
        batch, contract, free_lhs, free_rhs = (draw(shapes(0, max_each, 0, max_side)) for _ in range(4))
        operands, contracting, batched = [], [], []
        for free in (free_lhs, free_rhs):
            sizes = (*batch, *contract, *free)
            order = draw(st.permutations(range(len(sizes))))  # axis d of the operand is number order[d] of these
            places = [order.index(i) for i in range(len(sizes))]
            batched.append(tuple(places[: len(batch)]))
            contracting.append(tuple(places[len(batch) : len(batch) + len(contract)]))
            operands.append(
                draw_arrays(draw, dtype, [tuple(sizes[i] for i in order)], distinct=False, integers=True)[0]
            )
        options = {"dimension_numbers": (tuple(contracting), tuple(batched))}
        options |= wider(draw, dtype) if preferred else {}
        return Problem(lax.dot_general, tuple(operands), options, linear_if(dtype, (0,), (1,)))

    kinds = as_strategy(dtypes)
    return problems()
