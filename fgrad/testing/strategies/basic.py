"""Dtypes, shapes, axes, arrays and pytrees: what problems are made of."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fgrad.core import dtypes as core_dtypes

DTypeLike = Any  # a NumPy dtype or its name
DTypes = Any  # one DTypeLike, a sequence of them, or a strategy

#: By kind: f(loat), i(nteger), c(omplex), b(ool); those that print shortest come first.
KINDS = {
    "f": ("float64", "float32", "float16", "bfloat16"),
    "i": ("int32", "int64", "int8", "int16", "uint8", "uint16", "uint32", "uint64"),
    "c": ("complex128", "complex64"),
    "b": ("bool",),
}
#: Floats lie on multiples of a power of two, this one at least: several times a dtype's finite-difference step.
SPACING = {"float64": 2.0**-10, "float32": 2.0**-6, "float16": 2.0**-5, "bfloat16": 2.0**-4}
#: So many values fill an array that may repeat them; no power of two, for shapes often are.
REPEATED = 7
_WIDER = {
    "float16": "float32", "bfloat16": "float32", "float32": "float64", "float64": "float64",
    "int8": "int32", "int16": "int32", "int32": "int64", "int64": "int64",
    "uint8": "uint32", "uint16": "uint32", "uint32": "uint64", "uint64": "uint64",
}  # fmt: skip


# --- dtypes, shapes, axes --------------------------------------------------------------------------------------------
def dtypes(kinds: str = "f") -> st.SearchStrategy[np.dtype]:
    """A dtype of one of the kinds: 'f' float (16-bit ones too), 'i' integer (signed or not), 'c' complex, 'b' bool.

    Raises:
        ValueError: another letter, or none.

    Source: https://hypothesis.readthedocs.io/en/latest/reference/strategies.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import dtypes
    >>> find(dtypes("fi"), lambda d: d.itemsize == 2)
    dtype('float16')
    """
    if not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"dtypes: kinds must be letters of {''.join(KINDS)!r}, got {kinds!r}. Write for example 'fi'.")
    return st.sampled_from([core_dtypes.canonical(name) for kind in kinds for name in KINDS[kind]])


def as_strategy(dtype: DTypes) -> st.SearchStrategy[np.dtype]:
    """One dtype, several to choose from, or a strategy of them."""
    if isinstance(dtype, st.SearchStrategy):
        return dtype.map(core_dtypes.canonical)
    several = isinstance(dtype, Sequence) and not isinstance(dtype, str)
    return st.sampled_from([core_dtypes.canonical(d) for d in (dtype if several else [dtype])])


def sizes(max_side: int, min_side: int = 1) -> st.SearchStrategy[int]:
    """The size of an axis: 1, 2, ..., and 0, if allowed, as the last that shrinking would turn to."""
    return st.sampled_from([*range(max(min_side, 1), max_side + 1), *range(min_side, 1)])


def shapes(
    min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 4
) -> st.SearchStrategy[tuple[int, ...]]:
    """A shape of ``min_dims`` to ``max_dims`` axes of ``min_side`` to ``max_side`` elements.

    It shrinks to few axes of size 1; size 0 is drawn, and what depends on it remains.

    Raises:
        ValueError: the bounds cross or are negative.

    Source: https://hypothesis.readthedocs.io/en/latest/reference/strategies.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import shapes
    >>> find(shapes(), lambda s: len(s) == 2), find(shapes(), lambda s: 0 in s)
    ((1, 1), (0,))
    """
    if not (0 <= min_dims <= max_dims and 0 <= min_side <= max_side):
        raise ValueError(
            f"shapes: bounds must be 0 <= min <= max, got dims {min_dims} to {max_dims} and sides {min_side} to "
            f"{max_side}. Change them."
        )
    return st.lists(sizes(max_side, min_side), min_size=min_dims, max_size=max_dims).map(tuple)


def axes(
    ndim: int, *, min_size: int = 0, max_size: int | None = None, negative: bool = True
) -> st.SearchStrategy[tuple[int, ...]]:
    """Distinct axes of an array of ``ndim`` dimensions, in any order.

    Args:
        ndim: number of dimensions.
        min_size: at least so many axes.
        max_size: at most so many; default: all.
        negative: axes may be counted from the end; otherwise they are in [0, ndim) and in increasing order.

    Raises:
        ValueError: there are not so many axes.

    Source: https://hypothesis.readthedocs.io/en/latest/reference/strategies.html

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import axes
    >>> find(axes(3, negative=False), lambda a: len(a) == 2)
    (0, 1)
    """
    top = ndim if max_size is None else max_size
    if not 0 <= min_size <= top <= ndim:
        raise ValueError(
            f"axes: numbers of axes must be 0 <= min_size <= max_size <= ndim, got {min_size}, {top} and {ndim}. "
            "Change them."
        )
    drawn = hnp.valid_tuple_axes(ndim, min_size=min_size, max_size=top) if ndim else st.just(())
    return drawn if negative else drawn.map(lambda found: tuple(sorted(a % ndim for a in found)))


# --- values ----------------------------------------------------------------------------------------------------------
def _span(dtype: np.dtype, low: float | None, high: float | None) -> tuple[float, float]:
    """The bounds that the dtype and the caller set."""
    least: float
    most: float
    if dtype.kind in "iu":
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    else:
        most = float(ml_dtypes.finfo(dtype).max)
        least = -most
    return least if low is None else max(low, least), most if high is None else min(high, most)


@functools.lru_cache(maxsize=1024)
def _candidates(dtype: np.dtype, count: int, low: float | None, high: float | None, integers: bool) -> np.ndarray:
    """At least ``count`` distinct values of a real dtype in [low, high], none of them 0, the simplest first.

    They are multiples of one power of two: over all of [low, high] if both are given, else on both sides of 0, or from
    the one bound on, the closer the more there are, but never closer than the dtype's `SPACING` if there is a choice.
    """
    bottom, top = _span(dtype, low, high)
    closed = low is not None and high is not None
    whole = integers or dtype.kind in "iu"
    finest = 1.0 if whole else SPACING[dtype.name]
    if closed and bottom < top:
        fits, roomy = (2.0 ** math.floor(math.log2((top - bottom) / n)) for n in (count + 2, max(count + 2, 32)))
        step = max(1.0 if whole else 0.0, min(fits, max(roomy, finest)))
    else:
        step = 1.0 if whole else min(0.25, max(finest, 2.0 ** math.floor(math.log2(8 / (count + 2)))))
    unit: Any = int(step) if whole else step  # integers are multiplied exactly
    nearest = max(bottom, min(top, 0))
    reach = max(count, REPEATED if whole else round(4 / step)) * unit
    start, stop = (bottom, top) if closed else (max(bottom, nearest - reach), min(top, nearest + reach))
    places = range(int(-(-start // unit)), int(stop // unit) + 1)
    digits = 64 if dtype.kind in "iu" else ml_dtypes.finfo(dtype).nmant + 1
    found = sorted([i * unit for i in places if i and abs(i) <= 1 << digits], key=lambda v: (v < 0, abs(v)))
    if len(found) < count:
        raise ValueError(
            f"arrays: {dtype} must have enough distinct values, {step:g} apart, in the domain for all elements, "
            f"got {count} elements and low={low}, high={high}. Pass distinct=False, a wider domain or a smaller shape."
        )
    return np.array(found, dtype)


def _values(
    dtype: np.dtype, count: int, seed: int, low: float | None, high: float | None, distinct: bool, integers: bool
) -> np.ndarray:
    """``count`` values of a real dtype or bool: seed 0 counts upwards, the others draw at random."""
    rng = np.random.default_rng(seed) if seed else None
    if dtype.kind == "b":
        return rng.random(count) < 0.5 if rng else np.zeros(count, bool)
    candidates = _candidates(dtype, count if distinct else min(count, REPEATED), low, high, integers)
    if rng is None:
        return candidates[np.arange(count) % (len(candidates) if distinct else REPEATED)]
    return candidates[rng.permutation(len(candidates))[:count] if distinct else rng.integers(0, len(candidates), count)]


def _specials(dtype: np.dtype) -> list[Any]:
    if dtype.kind in "iu":
        return [0, np.iinfo(dtype).min, np.iinfo(dtype).max]
    limits = ml_dtypes.finfo(np.dtype(dtype.type(0).real.dtype) if dtype.kind == "c" else dtype)
    small, large = float(limits.smallest_subnormal), float(limits.max)
    return [0.0, math.nan, math.inf, -math.inf, -0.0, small, -small, large, -large]


def arrays(
    dtype: DTypes,
    shape: Sequence[int] | int | st.SearchStrategy[tuple[int, ...]],
    *,
    low: float | None = None,
    high: float | None = None,
    distinct: bool = True,
    integers: bool = False,
    special: bool = False,
) -> st.SearchStrategy[np.ndarray]:
    """Arrays whose values suit finite differences: apart from 0 and, if ``distinct``, from each other.

    Floats are multiples of a power of two, at most 1/4 and as a rule no smaller than 2^-10, 2^-6, 2^-5 and 2^-4 in
    float64, float32, float16 and bfloat16: sums and products of a few of them are exact, they print short, and a step
    of finite differences never leads from one to the next, nor across 0.  A whole array takes one draw, whose simplest
    outcome counts upwards, so that counter-examples shrink to a small shape holding 0.25, 0.5, 0.75, ...

    Args:
        dtype: a dtype, several to choose from, or a strategy.
        shape: sizes, or a strategy of them.
        low: least value; of complex numbers that of both parts.
        high: greatest value.
        distinct: no two elements are equal, so that maxima, sorts and pooling are differentiable; bools repeat.
        integers: floats are integers, at least 1 apart: linear maps of them are exact.
        special: up to 4 elements are zeros of either sign, NaN, infinities, denormal and largest numbers; of integers 0
            and the extremes.

    Raises:
        ValueError: the domain has too few values for so many distinct elements.

    Source: https://hypothesis.readthedocs.io/en/latest/reference/strategies.html#hypothesis.extra.numpy.arrays

    >>> from hypothesis import find
    >>> from fgrad.testing.strategies import arrays, shapes
    >>> find(arrays("float64", shapes(max_dims=2)), lambda x: x.size >= 3)
    array([0.25, 0.5 , 0.75])
    >>> find(arrays("float32", (2,), low=0.5, high=1, special=True), lambda x: x[1] != x[1])
    array([0.5, nan], dtype=float32)
    """
    kinds = as_strategy(dtype)
    sides = (
        shape if isinstance(shape, st.SearchStrategy) else st.just((shape,) if isinstance(shape, int) else tuple(shape))
    )
    return _arrays(kinds, sides, low, high, distinct, integers, special)


@st.composite
def _arrays(
    draw: Any, kinds: Any, sides: Any, low: Any, high: Any, distinct: bool, integers: bool, special: bool
) -> Any:
    dtype, shape = draw(kinds), draw(sides)
    (x,) = draw_arrays(draw, dtype, [shape], low=low, high=high, distinct=distinct, integers=integers)
    if special and x.size and dtype.kind != "b":
        flat, choices = x.reshape(-1), st.tuples(st.integers(0, x.size - 1), st.sampled_from(_specials(dtype)))
        for place, value in draw(st.lists(choices, max_size=4)):
            flat[place] = value
    return x


def draw_arrays(
    draw: Any,
    dtype: np.dtype,
    shapes: Sequence[tuple[int, ...]],
    *,
    low: float | None = None,
    high: float | None = None,
    distinct: bool | None = None,
    integers: bool = False,
) -> list[np.ndarray]:
    """Arrays of one dtype from one draw, ``distinct`` across all of them (by default unless they are integers, which
    have no derivatives, and more than there are); see ``arrays``.
    """
    counts = [math.prod(shape) for shape in shapes]
    total = sum(counts)
    if distinct is None:
        distinct = dtype.kind not in "iu" or total < 2 ** (8 * dtype.itemsize) - 2  # 0 and the least are left out
    seed = draw(SEEDS)  # for empty arrays too: shrinking prefers what draws less
    if dtype.kind == "c":
        part = np.dtype(f"f{dtype.itemsize // 2}")
        pair = _values(part, 2 * total, seed, low, high, distinct, integers)
        values = (pair[:total] + 1j * pair[total:]).astype(dtype)
    else:
        values = _values(dtype, total, seed, low, high, distinct, integers)
    ends = np.cumsum(counts)
    return [values[end - n : end].reshape(shape) for end, n, shape in zip(ends, counts, shapes)]


#: 0 is what arrays shrink to.
SEEDS = st.integers(0, 2**16 - 1)


# --- what problems share ---------------------------------------------------------------------------------------------
def linear_if(dtype: np.dtype, *groups: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The groups of operands that a call is linear in, if their dtype has derivatives."""
    return groups if core_dtypes.is_inexact(dtype) else ()


def wider(draw: Any, dtype: np.dtype) -> dict[str, Any]:
    """Options that ask, now and then, for a result in the dtype twice as wide."""
    if draw(st.sampled_from((False, False, False, True))):
        return {"preferred_element_type": core_dtypes.canonical(_WIDER[dtype.name])}
    return {}


# --- pytrees ---------------------------------------------------------------------------------------------------------
class Pair(NamedTuple):
    """A named tuple for pytrees."""

    first: Any
    second: Any


def pytrees(leaves: st.SearchStrategy[Any], *, max_leaves: int = 6) -> st.SearchStrategy[Any]:
    """Trees of dicts, tuples, lists, named tuples and None over the given leaves; a leaf alone is the simplest.

    Args:
        leaves: a strategy of leaves, such as ``arrays("float64", (2,))``.
        max_leaves: about so many leaves at most.

    Source: https://hypothesis.readthedocs.io/en/latest/reference/strategies.html#hypothesis.strategies.recursive

    >>> from hypothesis import find, strategies as st
    >>> from fgrad.testing.strategies import pytrees
    >>> find(pytrees(st.just(1.0)), lambda t: isinstance(t, dict) and len(t) == 2)
    {'a': 1.0, 'b': 1.0}
    """

    def branches(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        several = st.lists(children, max_size=3)
        return st.one_of(
            several.map(tuple),
            several,
            several.map(lambda found: dict(zip("abc", found))),
            st.builds(Pair, children, children),
        )

    return st.recursive(leaves | st.none(), branches, max_leaves=max_leaves)
