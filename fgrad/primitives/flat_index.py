"""flat_index: the place of an element in a flattened array, one axis at a time (Horner's scheme).

    flat_index(i, before, n) = before n + i         for 0 <= i < n
                             = before n + i + n     for -n <= i < 0, which counts from the end
                             = -1                   for any other i, and where before < 0

``before`` is the place in the axes in front, ``n`` the size of the axis that i indexes.  So for shape [a, b, c] the
element [i, j, k] is flat_index(k, flat_index(j, flat_index(i, 0, a), b), c), or -1 if there is none.
"""

from __future__ import annotations

import numpy as np

from fgrad.core.aval import ShapedArray
from fgrad.primitives.define import NO_TANGENT, elementwise


def _check(i: ShapedArray, *others: ShapedArray) -> None:
    if i.dtype.kind != "i":
        raise TypeError(f"flat_index: indices must be signed integers, got {i}. Convert them with .astype.")


def _rule(s, i, before, n):
    nought = s.const(0, i.dtype)
    wrapped = s.select(s.cmp("lt", i, nought), s.add(i, n), i)
    inside = s.and_(s.cmp("ge", wrapped, nought), s.cmp("lt", wrapped, n))
    place = s.add(s.mul(before, n), wrapped)
    return s.select(s.and_(inside, s.cmp("ge", before, nought)), place, s.const(-1, i.dtype))


def _reference(i: np.ndarray, before: np.ndarray, n: np.ndarray) -> np.ndarray:
    wrapped = np.where(i < 0, i + n, i)
    inside = (wrapped >= 0) & (wrapped < n) & (before >= 0)
    return np.where(inside, before * n + wrapped, np.array(-1, i.dtype))


flat_index_p = elementwise(
    "flat_index", _rule, reference=_reference, ufunc=_reference, domain="integer", partials=NO_TANGENT, check=_check,
)  # fmt: skip
