"""Comparing two values: tolerances derived from dtype, size and condition, and the report of a difference."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from fgrad.core import dtypes


class NonSmoothPointError(AssertionError):
    """A function has a kink or a jump at the sampled point, so that it has no derivative to compare with there.

    Move the point (``fgrad.testing.strategies.arrays`` draws values without ties and away from zero), or let the check
    move it: ``nonsmooth="move"``.
    """


class Tolerance(NamedTuple):
    """|got − want| <= ``relative`` · max |want| + ``absolute``, and in words where that comes from."""

    relative: float
    absolute: float
    reason: str

    def bound(self, want: np.ndarray) -> float:
        return self.relative * largest(want) + self.absolute


def epsilon(*kinds: Any) -> float:
    """The largest unit of rounding among floating dtypes; 0 if none of them rounds."""
    return max([_unit(np.dtype(d)) for d in kinds], default=0.0)


@functools.cache
def _unit(dtype: np.dtype) -> float:
    return float(ml_dtypes.finfo(dtype).eps) if dtypes.is_inexact(dtype) else 0.0


def rounding(*kinds: Any, terms: int = 1, factor: float = 16.0, given: float | None = None) -> Tolerance:
    """What two orders of the same arithmetic may differ by: ``factor`` eps sqrt(``terms``).

    Errors of a sum of n terms grow as sqrt(n) when they are independent, whatever the order (Higham, Accuracy and
    Stability of Numerical Algorithms, section 2.6).  ``given`` is the caller's own relative tolerance.
    """
    if given is not None:
        return Tolerance(given, 0.0, "as given")
    eps = epsilon(*kinds)
    if eps == 0:
        return Tolerance(0.0, 0.0, "exact: no operand or result is a float")
    names = "/".join(dict.fromkeys(str(np.dtype(d)) for d in kinds if epsilon(d) == eps))
    return Tolerance(factor * eps * terms**0.5, 0.0, f"{factor:g} eps of {names}, times sqrt({terms}) terms")


def largest(x: np.ndarray) -> float:
    """The largest finite absolute value; 0 of nothing."""
    x = np.abs(wide(x))
    return float(np.max(x, where=np.isfinite(x), initial=0.0))


def wide(x: Any) -> np.ndarray:
    """Any array of numbers in float64 or complex128, where differences are exact to their rounding."""
    x = np.asarray(x)
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def errors(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """|got − want|: 0 for equal infinities and for two NaNs, infinite where only one is finite."""
    exact = got.dtype.kind in "iub" and want.dtype.kind in "iub"  # int64 has more digits than float64
    same = got == want
    got, want = wide(got), wide(want)
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(got - want)
    same |= np.isnan(got) & np.isnan(want)
    gap = np.where(same, 0.0, np.where(np.isfinite(gap), gap, np.inf))
    return np.where(~same & (gap == 0), 1.0, gap) if exact else gap


def compare(
    who: str,
    what: str,
    names: tuple[str, str],
    got: Any,
    want: Any,
    tolerance: Tolerance,
    where: str = "",
) -> None:
    """Raises AssertionError where ``got`` and ``want`` differ in shape, or in a value by more than the tolerance.

    who : the check, which begins the message.
    what : what is compared: "result[0]", "the cotangent of argument 1['w']".
    names : where ``got`` and ``want`` come from: ("vmap", "the loop").
    where : more lines: the function, its arguments, the seed.
    """
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        raise AssertionError(
            with_lines(
                f"{who}: {what} has different shapes, {got.shape} by {names[0]} and {want.shape} by {names[1]}.", where
            )
        )
    gap = errors(got, want)
    bound = tolerance.bound(want)
    if gap.size and not gap.max() <= bound:
        at = tuple(int(i) for i in np.unravel_index(int(np.argmax(gap)), gap.shape))
        raise difference(
            who, what, at, names, got[at], want[at], tolerance, bound, where, count=int((gap > bound).sum())
        )


def difference(
    who: str,
    what: str,
    at: tuple[int, ...],
    names: tuple[str, str],
    got: Any,
    want: Any,
    tolerance: Tolerance,
    bound: float,
    where: str = "",
    count: int = 1,
) -> AssertionError:
    """The error that tells of one value by two ways: the index, both values, both errors and the tolerance."""
    absolute = float(errors(np.asarray(got), np.asarray(want)))
    size = float(np.abs(wide(want)))
    relative = absolute / size if size else np.inf
    width = max(map(len, names)) + 1
    others = f" ({count} elements differ; this one most)" if count > 1 else ""
    lines = [
        f"{who}: {what} differs at index {at}{others}.",
        f"  {names[0] + ':':<{width}} {shown(got)}",
        f"  {names[1] + ':':<{width}} {shown(want)}",
        f"  absolute error {absolute:.3g}, relative error {relative:.3g}; allowed {bound:.3g} ({tolerance.reason})",
    ]
    return AssertionError(with_lines("\n".join(lines), where))


def shown(x: Any) -> str:
    """One number, all its digits."""
    x = np.asarray(x)
    return repr(wide(x).item()) if dtypes.is_inexact(x.dtype) else repr(x.item())


def with_lines(text: str, where: str) -> str:
    """A message with the lines that say where, if there are any."""
    return f"{text}\n{where}" if where else text
