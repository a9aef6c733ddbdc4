"""Bits of integers: and or xor not (of bools too), shifts, population_count, clz.

A shift by the width or more (or by a negative amount) gives 0, or the top bit copied if it is arithmetic.
"""

from __future__ import annotations

import numpy as np

from fgrad.primitives.define import NO_TANGENT, elementwise


def _as(kind: str, x: np.ndarray) -> np.ndarray:
    """The same bits as the signed ("i") or unsigned ("u") integers of that width."""
    return x.view(f"{kind}{x.dtype.itemsize}")


def _sra_reference(x: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return np.right_shift(_as("i", x), _as("i", amount)).view(x.dtype)


def _srl_reference(x: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return np.right_shift(_as("u", x), _as("u", amount)).view(x.dtype)


def _population_reference(x: np.ndarray) -> np.ndarray:
    return np.bitwise_count(_as("u", x)).astype(x.dtype)


def _clz_reference(x: np.ndarray) -> np.ndarray:
    """Copies the highest 1 into every lower place, and counts what stays 0."""
    bits, shift, width = _as("u", x), 1, 8 * x.dtype.itemsize
    while shift < width:
        bits = bits | bits >> bits.dtype.type(shift)
        shift *= 2
    return (width - np.bitwise_count(bits)).astype(x.dtype)


def _and(s, x, y):
    return s.and_(x, y)


def _or(s, x, y):
    return s.or_(x, y)


def _xor(s, x, y):
    return s.xor(x, y)


def _not(s, x):
    return s.not_(x)


def _shl(s, x, amount):
    return s.shl(x, amount)


def _ashr(s, x, amount):
    return s.ashr(x, amount)


def _lshr(s, x, amount):
    return s.lshr(x, amount)


def _popcount(s, x):
    return s.popcount(x)


def _clz(s, x):
    return s.clz(x)


# --- the table -------------------------------------------------------------------------------------------------------
and_p = elementwise(
    "and", _and, reference=np.bitwise_and, ufunc=np.bitwise_and, domain="integer or bool", partials=NO_TANGENT,
)  # fmt: skip
or_p = elementwise(
    "or", _or, reference=np.bitwise_or, ufunc=np.bitwise_or, domain="integer or bool", partials=NO_TANGENT,
)  # fmt: skip
xor_p = elementwise(
    "xor", _xor, reference=np.bitwise_xor, ufunc=np.bitwise_xor, domain="integer or bool", partials=NO_TANGENT,
)  # fmt: skip
not_p = elementwise(
    "not", _not, reference=np.invert, ufunc=np.invert, domain="integer or bool", partials=NO_TANGENT,
)  # fmt: skip
shift_left_p = elementwise(
    "shift_left", _shl, reference=np.left_shift, ufunc=np.left_shift, domain="integer", partials=NO_TANGENT,
)  # fmt: skip
shift_right_arithmetic_p = elementwise(
    "shift_right_arithmetic", _ashr, reference=_sra_reference, ufunc=_sra_reference, domain="integer",
    partials=NO_TANGENT,
)  # fmt: skip
shift_right_logical_p = elementwise(
    "shift_right_logical", _lshr, reference=_srl_reference, ufunc=_srl_reference, domain="integer",
    partials=NO_TANGENT,
)  # fmt: skip
population_count_p = elementwise(
    "population_count", _popcount, reference=_population_reference, ufunc=_population_reference, domain="integer",
    partials=NO_TANGENT,
)  # fmt: skip
clz_p = elementwise(
    "clz", _clz, reference=_clz_reference, ufunc=_clz_reference, domain="integer", partials=NO_TANGENT,
)  # fmt: skip
