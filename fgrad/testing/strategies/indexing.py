"""Problems that read and write at positions: gather, scatter, dynamic_slice, dynamic_update_slice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fgrad import lax
from fgrad.testing.problem import Problem
from fgrad.testing.strategies.basic import SEEDS, DTypes, as_strategy, axes, draw_arrays, linear_if, shapes

SCATTER_KINDS = ("set", "add", "mul", "min", "max")
_INDEX_DTYPES = st.sampled_from([np.dtype(d) for d in ("int32", "int64", "int8", "uint16")])
#: Kinds of updates of the dtypes that have not all, by the kind of dtype.
_ALLOWED = {"b": ("set", "min", "max"), "c": ("set", "add")}


def _draw_indices(
    draw: Any, shape: tuple[int, ...], indexed: tuple[int, ...], distinct: bool, outside: bool
) -> np.ndarray:
    """Indices [*B, k] into the axes ``indexed``: no place twice if ``distinct``; some out of range if ``outside``."""
    dtype, batch = draw(_INDEX_DTYPES), draw(shapes(0, 2, 0, 3))
    beyond = 0 if not outside else 1 if dtype.kind == "u" else 2  # n, and -1
    sides = [shape[a] + beyond for a in indexed]
    places = math.prod(sides)
    if places < (math.prod(batch) if distinct else 1):
        batch = (places,)
    count = math.prod(batch)
    seed = draw(SEEDS)
    rng = np.random.default_rng(seed)
    if seed == 0:
        flat = np.arange(count) % max(places, 1)
    else:
        flat = rng.permutation(places)[:count] if distinct else rng.integers(0, places, count)
    columns = np.array(np.unravel_index(flat, sides)) if indexed else np.zeros((0, count))
    found = [np.where(c > shape[a], -1, c) for c, a in zip(columns, indexed)]
    return np.stack([*found, np.zeros(count)], axis=-1)[:, : len(indexed)].reshape(*batch, len(indexed)).astype(dtype)


def gather_problems(*, dtypes: DTypes = ("float64", "float32"), max_dims: int = 3, max_side: int = 4) -> Any:
    """Valid calls of ``lax.gather``: any of the axes indexed, indices that repeat or are out of range, both modes.

    Operands are the array, in which the call is linear, and the indices.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.gather.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import gather_problems
    >>> find(gather_problems(), lambda p: p.operands[1].shape == (2, 1) and len(p.options["axes"]) == 1)
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    operand = np.array([0.25])
    indices = np.array([[0],
                        [1]], dtype=np.int32)
    out = lax.gather(operand, indices, axes=(0,), mode='fill')
    """

    @st.composite
    def problems(draw: Any) -> Problem:
        dtype, shape = draw(kinds), draw(shapes(1, max_dims, 0, max_side))
        indexed, mode = draw(axes(len(shape), negative=False)), draw(st.sampled_from(("fill", "clip")))
        outside = mode == "fill" or all(shape[a] for a in indexed)
        indices = _draw_indices(draw, shape, indexed, False, outside)
        (x,) = draw_arrays(draw, dtype, [shape])
        return Problem(lax.gather, (x, indices), {"axes": indexed, "mode": mode}, linear_if(dtype, (0,)))

    kinds = as_strategy(dtypes)
    return problems()


def scatter_problems(
    *,
    dtypes: DTypes = ("float64", "float32"),
    scatter_kinds: tuple[str, ...] = SCATTER_KINDS,
    distinct: bool = False,
    max_dims: int = 3,
    max_side: int = 4,
) -> Any:
    """Valid calls of ``lax.scatter``: any of the axes indexed, every kind and mode.

    Operands are the array, the indices and the updates; the floats in the first and the last are all different.

    Args:
        dtypes: dtypes of the array; bool has only 'set', 'min' and 'max', complex only 'set' and 'add'.
        scatter_kinds: which of 'set', 'add', 'mul', 'min' and 'max'.
        distinct: every index is in range and names another place; otherwise some repeat or are out of range.
        max_dims: bound on the array's number of axes.
        max_side: bound on their sizes.

    Raises:
        ValueError: a kind that is unknown, or none.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.scatter.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import scatter_problems
    >>> find(scatter_problems(scatter_kinds=("add",)), lambda p: p.operands[1].shape == (2, 1))
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    operand = np.array([0.25])
    indices = np.array([[0],
                        [1]], dtype=np.int32)
    updates = np.array([0.5, 0.75])
    out = lax.scatter(operand, indices, updates, axes=(0,), kind='add', mode='drop')
    """
    if not scatter_kinds or not set(scatter_kinds) <= set(SCATTER_KINDS):
        raise ValueError(
            f"scatter_problems: scatter_kinds must be of {SCATTER_KINDS}, got {scatter_kinds}. Choose some."
        )

    @st.composite
    def problems(draw: Any) -> Problem:
        dtype, shape = draw(kinds), draw(shapes(1, max_dims, 0, max_side))
        indexed, mode = draw(axes(len(shape), negative=False)), draw(st.sampled_from(("drop", "clip")))
        kind = draw(st.sampled_from([k for k in scatter_kinds if k in _ALLOWED.get(dtype.kind, SCATTER_KINDS)]))
        outside = not distinct and (mode == "drop" or all(shape[a] for a in indexed))
        indices = _draw_indices(draw, shape, indexed, distinct, outside)
        rows = (*indices.shape[:-1], *(n for d, n in enumerate(shape) if d not in indexed))
        x, updates = draw_arrays(draw, dtype, [shape, rows])
        linear = {"set": ((0, 2),), "add": ((0, 2),), "mul": ((0,),)}.get(kind, ())
        options = {"axes": indexed, "kind": kind, "mode": mode}
        return Problem(lax.scatter, (x, indices, updates), options, linear_if(dtype, *linear))

    kinds = as_strategy(dtypes)
    return problems()


def dynamic_slice_problems(*, dtypes: DTypes = ("float64", "float32"), max_dims: int = 3, max_side: int = 5) -> Any:
    """Valid calls of ``lax.dynamic_slice`` and ``lax.dynamic_update_slice``.

    Starts lie inside, before and beyond the array, where they are clamped.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.dynamic_slice.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import dynamic_slice_problems
    >>> find(dynamic_slice_problems(), lambda p: p.operands[-1].size == 1 and p.operands[-1][0] > 0)
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    operand = np.array([0.25])
    start_indices = np.array([1], dtype=np.int32)
    out = lax.dynamic_slice(operand, start_indices, slice_sizes=(1,))
    """

    @st.composite
    def problems(draw: Any) -> Problem:
        dtype, shape = draw(kinds), draw(shapes(0, max_dims, 0, max_side))
        block = tuple(n - draw(st.integers(0, n)) for n in shape)
        starts = np.array([draw(st.integers(-2, n + 1)) for n in shape], draw(st.sampled_from(("int32", "int64"))))
        if draw(st.booleans()):
            x, update = draw_arrays(draw, dtype, [shape, block])
            return Problem(lax.dynamic_update_slice, (x, update, starts), {}, linear_if(dtype, (0, 1)))
        (x,) = draw_arrays(draw, dtype, [shape])
        return Problem(lax.dynamic_slice, (x, starts), {"slice_sizes": block}, linear_if(dtype, (0,)))

    kinds = as_strategy(dtypes)
    return problems()
