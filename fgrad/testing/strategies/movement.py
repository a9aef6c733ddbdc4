"""Problems that move elements: pad, dilate, rev, slice, broadcast, reshape, transpose, concatenate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from fgrad import lax
from fgrad.testing.problem import Problem
from fgrad.testing.strategies.basic import DTypes, as_strategy, axes, draw_arrays, linear_if, shapes, sizes

ANY = ("float64", "float32", "int32", "bool", "complex128")


def pad_problems(*, dtypes: DTypes = ("float64", "float32"), max_dims: int = 3, max_side: int = 4) -> Any:
    """Valid calls of ``lax.pad``: edges of either sign, that may crop all there is, and interior padding.

    Linear in the operand and the padding value together.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.pad.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import pad_problems
    >>> find(pad_problems(), lambda p: p.options["padding_config"] and p.options["padding_config"][0][0] < 0)
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    operand = np.array([0.25])
    padding_value = np.array(0.5)
    out = lax.pad(operand, padding_value, padding_config=((-1, 0, 0),))
    """

    @st.composite
    def problems(draw: Any) -> Problem:
        dtype, shape = draw(kinds), draw(shapes(0, max_dims, 0, max_side))
        config = []
        for n in shape:
            interior = draw(st.sampled_from((0, 0, 1, 2)))
            length = n + max(n - 1, 0) * interior
            lo = draw(st.integers(-length - 1, 3))
            config.append((lo, draw(st.integers(-length - lo, max(3, -length - lo))), interior))
        operands = draw_arrays(draw, dtype, [shape, ()])
        return Problem(lax.pad, tuple(operands), {"padding_config": tuple(config)}, linear_if(dtype, (0, 1)))

    kinds = as_strategy(dtypes)
    return problems()


def dilate_problems(*, dtypes: DTypes = ("float64", "float32"), max_dims: int = 3, max_side: int = 6) -> Any:
    """Valid calls of ``lax.dilate`` and ``lax.undilate``, whose factors may leave a rest.

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import dilate_problems
    >>> find(dilate_problems(), lambda p: p.options["factors"] == (2,))
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    operand = np.array([0.25])
    out = lax.dilate(operand, factors=(2,))
    """

    def options(draw: Callable[..., Any], shape: tuple[int, ...]) -> dict[str, Any]:
        return {"factors": tuple(draw(st.integers(1, 4)) for _ in shape)}

    return _unary((lax.dilate, lax.undilate), options, dtypes, max_dims, max_side)


def rev_problems(*, dtypes: DTypes = ("float64", "float32"), max_dims: int = 3, max_side: int = 4) -> Any:
    """Valid calls of ``lax.rev``, over any of the axes.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.rev.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import rev_problems
    >>> find(rev_problems(), lambda p: len(p.options["dimensions"]) == 1 and p.operands[0].size > 1)
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    operand = np.array([0.25, 0.5])
    out = lax.rev(operand, dimensions=(0,))
    """

    def options(draw: Callable[..., Any], shape: tuple[int, ...]) -> dict[str, Any]:
        return {"dimensions": tuple(a % len(shape) for a in draw(axes(len(shape))))}  # JAX wants them from 0

    return _unary((lax.rev,), options, dtypes, max_dims, max_side)


def slice_problems(*, dtypes: DTypes = ("float64", "float32"), max_dims: int = 3, max_side: int = 6) -> Any:
    """Valid calls of ``lax.slice``: empty slices, whole axes, strides that leave a rest or exceed the slice.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.slice.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import slice_problems
    >>> find(slice_problems(), lambda p: p.options["strides"] == (2,) and p.options["limit_indices"] == (3,))
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    operand = np.array([0.25, 0.5, 0.75])
    out = lax.slice(operand, start_indices=(0,), limit_indices=(3,), strides=(2,))
    """

    def options(draw: Callable[..., Any], shape: tuple[int, ...]) -> dict[str, Any]:
        starts = tuple(draw(st.integers(0, n)) for n in shape)
        limits = tuple(n - draw(st.integers(0, n - start)) for n, start in zip(shape, starts))
        strides = tuple(draw(st.integers(1, 3)) for _ in shape)
        return {"start_indices": starts, "limit_indices": limits, "strides": strides}

    return _unary((lax.slice,), options, dtypes, max_dims, max_side)


def transpose_problems(*, dtypes: DTypes = ("float64", "float32"), max_dims: int = 4, max_side: int = 3) -> Any:
    """Valid calls of ``lax.transpose``, every permutation of the axes.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.transpose.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import transpose_problems
    >>> find(transpose_problems(), lambda p: p.options["permutation"] == (1, 0))
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    operand = np.array([[0.25]])
    out = lax.transpose(operand, permutation=(1, 0))
    """

    def options(draw: Callable[..., Any], shape: tuple[int, ...]) -> dict[str, Any]:
        return {"permutation": tuple(draw(st.permutations(range(len(shape)))))}

    return _unary((lax.transpose,), options, dtypes, max_dims, max_side)


def reshape_problems(*, dtypes: DTypes = ("float64", "float32"), max_dims: int = 3, max_side: int = 4) -> Any:
    """Valid calls of ``lax.reshape``: axes joined, split, added and dropped; read in any order (``dimensions``).

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.reshape.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import reshape_problems
    >>> find(reshape_problems(), lambda p: p.options.get("dimensions") == (1, 0))
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    operand = np.array([[0.25]])
    out = lax.reshape(operand, new_sizes=(), dimensions=(1, 0))
    """

    def options(draw: Callable[..., Any], shape: tuple[int, ...]) -> dict[str, Any]:
        size = math.prod(shape)
        if size == 0:
            new = draw(st.permutations([0, *draw(st.lists(sizes(max_side), max_size=2))]))
        else:
            new, rest = [], size
            while rest > 1:
                divisors = [d for d in range(rest, 1, -1) if rest % d == 0]
                new.append(draw(st.sampled_from(divisors)))
                rest //= new[-1]
            for _ in range(draw(st.integers(0, 1))):
                new.insert(draw(st.integers(0, len(new))), 1)
        found: dict[str, Any] = {"new_sizes": tuple(new)}
        if draw(st.booleans()):
            found["dimensions"] = tuple(draw(st.permutations(range(len(shape)))))
        return found

    return _unary((lax.reshape,), options, dtypes, max_dims, max_side)


def _unary(
    functions: tuple[Any, ...], options: Callable[..., Any], dtypes: DTypes, max_dims: int, max_side: int
) -> Any:
    """Linear functions of one array, with options for its shape."""

    @st.composite
    def problems(draw: Any) -> Problem:
        dtype, shape, function = draw(kinds), draw(shapes(0, max_dims, 0, max_side)), draw(st.sampled_from(functions))
        given = options(draw, shape)
        return Problem(function, tuple(draw_arrays(draw, dtype, [shape])), given, linear_if(dtype, (0,)))

    kinds = as_strategy(dtypes)
    return problems()


def broadcast_problems(*, dtypes: DTypes = ("float64", "float32"), max_dims: int = 4, max_side: int = 3) -> Any:
    """Valid calls of ``lax.broadcast_in_dim`` and ``lax.broadcast``: new axes anywhere, axes of size 1 repeated.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.broadcast_in_dim.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import broadcast_problems
    >>> find(broadcast_problems(), lambda p: p.options.get("broadcast_dimensions") == (1,))
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    operand = np.array([0.25])
    out = lax.broadcast_in_dim(operand, shape=(1, 1), broadcast_dimensions=(1,))
    """

    @st.composite
    def problems(draw: Any) -> Problem:
        dtype, shape = draw(kinds), draw(shapes(0, max_dims, 0, max_side))
        if draw(st.booleans()):
            cut = draw(st.integers(0, len(shape)))
            function: Any = lax.broadcast
            own, options = shape[cut:], {"sizes": shape[:cut]}
        else:
            places = draw(axes(len(shape), negative=False))
            own = tuple(1 if draw(st.booleans()) else shape[d] for d in places)
            function, options = lax.broadcast_in_dim, {"shape": shape, "broadcast_dimensions": places}
        return Problem(function, tuple(draw_arrays(draw, dtype, [own])), options, linear_if(dtype, (0,)))

    kinds = as_strategy(dtypes)
    return problems()


def concatenate_problems(*, dtypes: DTypes = ("float64", "float32"), max_dims: int = 3, max_side: int = 3) -> Any:
    """Valid calls of ``lax.concatenate`` of one to four arrays, some of them empty; linear in all together.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.concatenate.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import concatenate_problems
    >>> find(concatenate_problems(), lambda p: len(p.operands) == 2)
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    x0 = np.array([0.25])
    x1 = np.array([0.5])
    out = lax.concatenate([x0, x1], dimension=0)
    """

    @st.composite
    def problems(draw: Any) -> Problem:
        dtype, shape = draw(kinds), draw(shapes(1, max_dims, 0, max_side))
        axis = draw(st.integers(0, len(shape) - 1))
        lengths = draw(st.lists(sizes(max_side, 0), min_size=1, max_size=4))
        operands = tuple(draw_arrays(draw, dtype, [(*shape[:axis], n, *shape[axis + 1 :]) for n in lengths]))
        linear = linear_if(dtype, tuple(range(len(operands))))
        return Problem(lax.concatenate, operands, {"dimension": axis}, linear, listed=True)

    kinds = as_strategy(dtypes)
    return problems()
