"""Derivatives by central differences, with an error estimate, and what stops them from converging.

For a direction t and ψ(h) = f(x + h t), the difference D(h) = (ψ(h) − ψ(−h)) / 2h is ψ'(0) + a h² + b h⁴ + …  Steps
that shrink by 4 and Richardson's extrapolation cancel the powers one after the other:

    A[k, 0] = D(h_k),    A[k, j] = (16^j A[k, j−1] − A[k−1, j−1]) / (16^j − 1)

The error of an entry is estimated by its distance to the two it was made of (Ridders, Advances in Engineering Software
4, 1982), plus the rounding of ψ divided by h_k; the entry with the smallest estimate is taken, for every component of
the result by itself.

The rounding of ψ is eps max |ψ|, unless its terms cancel; where it matters it is measured: what ψ changes by when the
arguments are rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fgrad.testing.functions import Subject
from fgrad.testing.report import epsilon, errors, largest, wide

RATIO = 4.0
SAFETY = 10.0  # the estimate is the size of the error, not a bound of it
ELSEWHERE = 0.37  # the steps of a second measurement, relative to those of the first


class Slope(NamedTuple):
    """ψ'(0) for one result: values, estimated errors, what of these is rounding, and the differences they are from."""

    value: np.ndarray
    error: np.ndarray
    rounding: float
    steps: tuple[float, ...]
    sides: tuple[tuple[np.ndarray, np.ndarray], ...]  # ψ(h), ψ(−h) for each step
    middle: np.ndarray  # ψ(0)


class Curve:
    """ψ(h) = the floating results of a subject at x + h t, in float64 where the function computes in float64.

    A function of float32 arrays is evaluated at the same point in float64 if it then returns float64 and the same
    values, which makes the difference as exact as that of a float64 function; ``note`` says which.
    """

    def __init__(self, subject: Subject):
        self.subject = subject
        self.point = [subject.leaves[i] for i in subject.active]
        self.eps = epsilon(*[x.dtype for x in self.point], *[subject.outs[i].dtype for i in subject.floating])
        self.note = "differences"
        outs = subject.outs
        if self.eps > epsilon(np.float64) and (widened := self._in_float64()) is not None:
            outs = widened
            self.point = [wide(x) for x in self.point]
            self.eps = epsilon(np.float64)
            self.note = "differences in float64"
        # the first step, for arguments of order 1: eps^(1/5) balances h⁴ against eps / h
        self.step = 2.0 ** min(-1, round(math.log2(self.eps) / 10))
        self.count = 6 if self.eps < 1e-12 else 4
        self.middle = [wide(outs[i]) for i in subject.floating]

    def _in_float64(self) -> list[np.ndarray] | None:
        """The results at the point in float64, or None if the function computes otherwise there."""
        try:
            outs = self.subject(self.subject.at([wide(x) for x in self.point]))
        except Exception:  # whatever a function of float32 does with float64, the message says what was used instead
            return None
        same = all(
            outs[i].dtype == np.float64
            and outs[i].shape == (was := self.subject.outs[i]).shape
            and (errors(outs[i], was) <= 1e3 * self.eps * max(largest(was), 1e-3)).all()
            for i in self.subject.floating
        )
        return outs if same else None

    def __call__(self, h: float, ts: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self._at([(wide(x) + h * t).astype(x.dtype) for x, t in zip(self.point, ts)])

    def _at(self, point: list[np.ndarray]) -> list[np.ndarray]:
        outs = self.subject(self.subject.at(point))
        return [wide(outs[i]) for i in self.subject.floating]

    def slopes(
        self, ts: Sequence[np.ndarray], of: Callable[[list[np.ndarray]], list[np.ndarray]], again: bool = False
    ) -> list[Slope]:
        """The derivatives along ts of what ``of`` makes of the results.

        ``again``: with other steps, and all of them: the first two differences can agree by chance, or at a kink.
        """
        middle = of(self.middle)
        noise = self.noise(of) if again else [0.0 for _ in middle]
        ladder = _Ladder(middle, [max(a, self.eps * largest(m)) for a, m in zip(noise, middle)], self.eps)
        for k in range(self.count):
            h = self.step * (ELSEWHERE if again else 1.0) / RATIO**k
            ladder.add(h, of(self(h, ts)), of(self(-h, ts)))
            if k > 0 and not again and ladder.is_settled():
                break
        return ladder.slopes()

    def noise(self, of: Callable[[list[np.ndarray]], list[np.ndarray]]) -> list[float]:
        """What each ψ changes by when the arguments move by a rounding, up to some roundings of the largest number.

        (A function may not change by more than that without being rough.)
        """
        size = max([largest(x) for x in (*self.point, *self.middle)], default=0.0)
        cap = 4 * self.eps * sum(x.size for x in self.point) ** 0.5 * size
        changes = [
            [largest(errors(a, b)) for a, b in zip(of(self._at(nearby(self.point, self.eps, k))), of(self.middle))]
            for k in range(3)
        ]
        return [min(max(column), cap) for column in zip(*changes)]


def nearby(xs: Sequence[np.ndarray], eps: float, k: int) -> list[np.ndarray]:
    """x (1 ± eps), with random signs."""
    rng = np.random.default_rng(k)
    return [(wide(x) * (1 + eps * rng.choice([-1.0, 1.0], x.shape))).astype(x.dtype) for x in xs]


def scale_of(x: np.ndarray) -> float:
    """The size of x, a power of two: how long directions are in it."""
    size = np.sqrt(np.mean(np.square(wide(x)))) if x.size else 0.0
    return 2.0 ** np.clip(round(np.log2(size)), -20, 20) if size > 0 and np.isfinite(size) else 1.0


class _Ladder:
    """The extrapolation table, one for each result, filled row by row."""

    def __init__(self, middle: list[np.ndarray], noise: list[float], eps: float):
        self.middle, self.noise, self.eps = middle, noise, eps
        self.steps: list[float] = []
        self.sides: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in middle]
        self.rows: list[list[np.ndarray]] = [[] for _ in middle]  # the last row of each table
        self.best = [(np.zeros(m.shape), np.full(m.shape, np.inf)) for m in middle]

    def add(self, h: float, ahead: list[np.ndarray], behind: list[np.ndarray]) -> None:
        self.steps.append(h)
        for i, (hi, lo) in enumerate(zip(ahead, behind)):
            self.sides[i].append((hi, lo))
            with np.errstate(invalid="ignore", over="ignore"):
                row = [(hi - lo) / (2 * h)]
                noise = 4 * max(self.noise[i], self.eps * largest(hi), self.eps * largest(lo)) / h
                for j, above in enumerate(self.rows[i], 1):
                    power = RATIO ** (2 * j)
                    entry = (power * row[-1] - above) / (power - 1)
                    error = np.maximum(np.abs(entry - row[-1]), np.abs(entry - above)) + noise
                    self._offer(i, entry, np.where(np.isfinite(error), error, np.inf))
                    row.append(entry)
            self.rows[i] = row

    def _offer(self, i: int, value: np.ndarray, error: np.ndarray) -> None:
        old_value, old_error = self.best[i]
        better = error < old_error
        self.best[i] = (np.where(better, value, old_value), np.where(better, error, old_error))

    def is_settled(self) -> bool:
        """Known to ten digits of the result's largest derivative, or as well as rounding allows."""
        return all(
            (error <= np.maximum(1e-10 * largest(value), 64 * noise)).all()
            for (value, error), noise in zip(self.best, self.noise)
        )

    def slopes(self) -> list[Slope]:
        return [
            Slope(value, error, 4 * noise / self.steps[-1], tuple(self.steps), tuple(sides), middle)
            for (value, error), noise, sides, middle in zip(self.best, self.noise, self.sides, self.middle)
        ]


# --- why differences do not converge ---------------------------------------------------------------------------------
def roughness(slope: Slope, at: tuple[int, ...]) -> str:
    """What a component of ψ does at 0 that a smooth function does not; empty if it looks smooth.

    Between the smallest step h and 16 h, a smooth ψ has ψ(h) − ψ(−h) fall by 16, and the difference between its
    one-sided slopes too.
    """
    middle = slope.middle[at]
    if not np.isfinite(middle):
        return f"its value is {middle}"
    ahead = np.array([hi[at] for hi, _ in slope.sides])
    behind = np.array([lo[at] for _, lo in slope.sides])
    h = np.array(slope.steps)
    step = f"(step {h[-1]:.1g})"
    if not np.isfinite([ahead[-1], behind[-1]]).all():
        return f"its values on the two sides are {behind[-1]:.6g} and {ahead[-1]:.6g} {step}"
    if len(h) < 3:
        return ""
    gap = np.abs(ahead - behind)
    if gap[-1] > 0.25 * gap[-3] and gap[-1] > 1e-9 * np.abs(middle) + slope.rounding * h[-1]:
        return f"it jumps from {behind[-1]:.6g} to {ahead[-1]:.6g} {step}"
    with np.errstate(invalid="ignore"):
        right, left = (ahead - middle) / h, (middle - behind) / h
    bend = np.abs(right - left)
    if bend[-1] > 0.25 * bend[-3] and bend[-1] > 1e-3 * max(abs(right[-1]), abs(left[-1])) + slope.rounding:
        return f"it has a kink, with slope {left[-1]:.6g} on one side and {right[-1]:.6g} on the other {step}"
    return ""
