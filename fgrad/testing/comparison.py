"""A derivative rule against differences: along a direction, and where they differ, narrowed to one element."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fgrad.testing.differences import SAFETY, Curve, Slope, nearby, roughness
from fgrad.testing.functions import Subject, first
from fgrad.testing.report import NonSmoothPointError, Tolerance, difference, epsilon, errors, largest, rounding
from fgrad.testing.rules import Pullback, Pushforward


# --- what a rule says ------------------------------------------------------------------------------------------------
class Claim(NamedTuple):
    """What a rule says of one derivative, and the size of the terms it was summed from."""

    value: np.ndarray
    size: float


class Tangents:
    """The claims of a pushforward: the tangent of every floating result."""

    by = "jvp"

    def __init__(self, rule: Pushforward):
        self.rule = rule
        self.names = [rule.subject.out_names[i] for i in rule.subject.floating]

    def claims(self, ts: Sequence[np.ndarray]) -> list[Claim]:
        return [Claim(t, largest(t)) for t in self.rule(ts)]

    def claims_near(self, ts: Sequence[np.ndarray]) -> list[list[Claim]]:
        """The claims at points that differ by a rounding of the arguments."""
        return [[Claim(t, largest(t)) for t in rule(ts)] for rule in near(self.rule)]

    def of(self, outs: list[np.ndarray]) -> list[np.ndarray]:
        return outs

    def text(self, component: int, changing: str) -> str:
        return f"the tangent of {self.names[component]} for a change of {changing}"

    def moving(self, component: int, at: tuple[int, ...]) -> str:
        return self.names[component] + (str(list(at)) if at else "")


class Pairing:
    """The claim of a pullback: what it makes of cotangents y is the gradient of ⟨y, f⟩."""

    by = "vjp"

    def __init__(self, rule: Pullback, cts: list[np.ndarray]):
        self.rule, self.cts = rule, cts
        self.bars = rule(cts)
        self.bars_near: list[list[np.ndarray]] = []

    def claims(self, ts: Sequence[np.ndarray]) -> list[Claim]:
        return self._of(self.bars, ts)

    def claims_near(self, ts: Sequence[np.ndarray]) -> list[list[Claim]]:
        """The claims at points that differ by a rounding of the arguments."""
        if not self.bars_near:
            self.bars_near = [rule(self.cts) for rule in near(self.rule)]
        return [self._of(bars, ts) for bars in self.bars_near]

    def _of(self, bars: list[np.ndarray], ts: Sequence[np.ndarray]) -> list[Claim]:
        # Terms that are rounded independently add up to an error as large as their Euclidean norm.
        terms = [bar * t for bar, t in zip(bars, ts)]
        return [Claim(np.asarray(sum(x.sum() for x in terms)), float(sum(np.square(x).sum() for x in terms)) ** 0.5)]

    def of(self, outs: list[np.ndarray]) -> list[np.ndarray]:
        return [np.asarray(sum(np.vdot(ct, out) for ct, out in zip(self.cts, outs)))]

    def text(self, component: int, changing: str) -> str:
        return f"the cotangent of {changing}"

    def moving(self, component: int, at: tuple[int, ...]) -> str:
        return "its result"


def near(rule: Any) -> list[Any]:
    """The rule at two points that differ from its own by a rounding of the arguments."""
    found = []
    for k in range(2):
        subject = copy.copy(rule.subject)
        subject.move(nearby(rule.of, epsilon(*[x.dtype for x in rule.of]), k))
        found.append(type(rule)(subject, rule.given))
    return found


# --- linear functions ------------------------------------------------------------------------------------------------
class Linearity:
    """Which arguments a function is declared linear in: there the difference at step 1 is the derivative.

    With integers for directions the difference of a movement, a sum or a convolution has no rounding at all.
    """

    def __init__(self, subject: Subject, linear: bool | Sequence[int]):
        n = subject.in_tree.num_children
        numbers = () if isinstance(linear, bool) else linear
        if not isinstance(numbers, (tuple, list)) or not all(isinstance(i, int) and 0 <= i < n for i in numbers):
            raise ValueError(
                f"{subject.who}: linear must be True, or the numbers of arguments in each of which the function is "
                f"linear, got {linear!r} for {n} arguments. Count them from 0."
            )
        active = [subject.owners[leaf] for leaf in subject.active]
        groups = [set(range(n))] if linear is True else [{i} for i in numbers]
        self.subject = subject
        self.groups = [[k for k, i in enumerate(active) if i in group] for group in groups]

    def directions(self, ts: list[np.ndarray]) -> list[list[np.ndarray]]:
        """Integers in each group alone, and ``ts`` in what is in no group."""
        whole = [np.rint(3 * t / (largest(t) or 1.0)) for t in ts]
        found = [[t if k in group else np.zeros_like(t) for k, t in enumerate(whole)] for group in self.groups]
        rest = [np.zeros_like(t) if any(k in g for g in self.groups) else t for k, t in enumerate(ts)]
        return found + ([rest] if not self.groups or any(t.any() for t in rest) else [])

    def holds_along(self, ts: Sequence[np.ndarray]) -> bool:
        moved = {k for k, t in enumerate(ts) if t.any()}
        return any(moved <= set(group) for group in self.groups)

    def slopes(self, curve: Curve, ts: Sequence[np.ndarray], of: Callable, again: bool) -> list[Slope]:
        """(ψ(1) − ψ(−1)) / 2, which is A t but for rounding; ψ(2), ψ(1), ψ(0), ψ(−1) are on one line.

        ``again``: with the rounding of ψ measured, which is more than that of its value where its terms cancel.
        """
        middle, twice, ahead, behind = of(curve.middle), *(of(curve(h, ts)) for h in (2.0, 1.0, -1.0))
        measured = curve.noise(of) if again else [0.0 for _ in middle]
        eps = 0.5 * curve.eps * sum(x.size for x in curve.point) ** 0.5
        found = []
        for m, two, hi, lo, noise in zip(middle, twice, ahead, behind, measured):
            error = max(eps * max(largest(two), largest(hi), largest(lo)), 2 * noise)
            bend = max(largest(two - 2 * hi + m), largest(hi - 2 * m + lo))
            if bend > 4 * SAFETY * error:
                if again:
                    raise self.bent(ts, bend, 4 * SAFETY * error)
                error = np.inf
            found.append(Slope((hi - lo) / 2, np.full(hi.shape, error), error, (1.0,), ((hi, lo),), m))
        return found

    def bent(self, ts: Sequence[np.ndarray], bend: float, allowed: float) -> AssertionError:
        """The error that a function declared linear is not."""
        s = self.subject
        names = ", ".join(s.names[s.active[k]] for k, t in enumerate(ts) if t.any())
        return AssertionError(
            f"{s.who}: {s.name} is declared linear in {names} and is not: it deviates from a straight line by "
            f"{bend:.3g} (rounding explains {allowed:.2g}). Leave out `linear`.\n{s.where()}"
        )


# --- comparing -------------------------------------------------------------------------------------------------------
class Finding(NamedTuple):
    """The component that is furthest beyond its tolerance; ``excess`` < 1 where the difference itself is unsure."""

    excess: float
    component: int
    at: tuple[int, ...]
    claim: Any
    slope: Slope
    tolerance: Tolerance
    allowed: float


class Comparison:
    """A rule's claims against the differences of a curve."""

    def __init__(self, curve: Curve, said: Tangents | Pairing, linear: Linearity, given: float | None, seed: int):
        self.curve, self.said, self.linear, self.given, self.seed = curve, said, linear, given, seed
        self.subject = curve.subject

    def along(self, ts: list[np.ndarray]) -> None:
        """Raises where the claims along ts are not the differences."""
        # What differs must differ with other steps too: an estimated error can be small by accident.
        if self.worst(ts) and (found := self.worst(ts, again=True)):
            self.subject.check_still_pure()
            self.fail(*self.narrowed(ts, found))

    def worst(self, ts: Sequence[np.ndarray], again: bool = False) -> Finding | None:
        if self.linear.holds_along(ts):
            slopes = self.linear.slopes(self.curve, ts, self.said.of, again)
        else:
            slopes = self.curve.slopes(ts, self.said.of, again)
        claims = self.said.claims(ts)
        others = self.said.claims_near(ts) if again and self.given is None else []
        found = None
        for i, (claim, slope) in enumerate(zip(claims, slopes)):
            if not claim.value.size:
                continue
            condition = max([largest(errors(other[i].value, claim.value)) for other in others], default=0.0)
            tolerance = self.tolerance(claim, slope, condition)
            excess = self.excess(claim.value, slope, tolerance)
            at = first(excess == excess.max())
            if excess[at] > 0 and (found is None or excess[at] > found.excess):
                allowed = float(SAFETY * slope.error[at] + tolerance.absolute)
                found = Finding(float(excess[at]), i, at, claim.value[at], slope, tolerance, allowed)
        return found

    def tolerance(self, claim: Claim, slope: Slope, condition: float) -> Tolerance:
        """For the rounding of a claim.

        Directions are as long as arguments, so f itself is a measure of the terms; ``condition`` is what rounding the
        arguments does to the claim, up to some roundings of the largest number.
        """
        if self.given is not None:
            return Tolerance(0.0, self.given * claim.size, f"{self.given:.2g}, as given, of terms of {claim.size:.2g}")
        rule = self.said.rule
        size = claim.size + largest(slope.middle)
        base = rounding(*[x.dtype for x in (*rule.of, *rule.into)], terms=max(1, sum(x.size for x in rule.of)))
        cap = base.relative * max([size, *[largest(x) for x in (*rule.of, *rule.into)]])
        extra = min(4 * condition, cap)
        words = f"; {extra:.2g} for the rounding of the arguments" if extra > base.relative * size else ""
        return Tolerance(0.0, base.relative * size + extra, f"{base.reason}, of terms of {size:.2g}{words}")

    def excess(self, claim: np.ndarray, slope: Slope, tolerance: Tolerance) -> np.ndarray:
        """0 where they agree; above 1 where they differ; between, where the difference decides nothing.

        It decides nothing where it is itself unsure by 0.02 % of the largest derivative, and not from rounding.
        """
        eps = self.curve.eps
        unsure = SAFETY * slope.error
        sure = max(2e-4, 64 * eps ** (2 / 3)) * max(largest(slope.value), largest(claim))
        sure = max(sure, min(1e7 * eps, 1e-3) * largest(slope.middle), 2 * SAFETY * slope.rounding)
        # as at a double zero, whose slope is none: one part in 10^6 of the average slope over the longest step
        far = max((largest(side - slope.middle) / slope.steps[0] for side in slope.sides[0]), default=0.0)
        sure = max(sure, 1e-6 * far)
        with np.errstate(invalid="ignore", over="ignore"):
            ratio = np.abs(claim - slope.value) / np.maximum(unsure + tolerance.absolute, 1e-300)
        excess = np.where(ratio > 1, ratio, np.where(unsure > sure, 0.5, 0.0))
        return np.where(np.isfinite(ratio) & np.isfinite(slope.error), excess, np.inf)

    def narrowed(self, ts: list[np.ndarray], found: Finding) -> tuple[list[np.ndarray], Finding]:
        """A direction along one element, where there is one alone that differs: by halves, the worse one first."""
        support = [(k, int(j)) for k, t in enumerate(ts) for j in np.flatnonzero(t)]
        while len(support) > 1:
            middle = len(support) // 2
            halves = []
            for half in (support[:middle], support[middle:]):
                part = _restricted(ts, half)
                worse = self.worst(part, again=True)
                if worse is not None:
                    halves.append((worse.excess, half, part, worse))
            if not halves:  # the elements differ only together
                break
            _, support, ts, found = max(halves, key=lambda entry: entry[0])
        return ts, found

    def fail(self, ts: Sequence[np.ndarray], found: Finding) -> None:
        s = self.subject
        moved = [(k, index) for k, t in enumerate(ts) for index in np.argwhere(t)]
        names = ", ".join(dict.fromkeys(s.names[s.active[k]] for k, _ in moved))
        single = len(moved) == 1
        index: tuple[int, ...] = ()
        changing = f"{names}, along a random direction,"
        unit = 1.0
        if single:
            index = tuple(int(i) for i in moved[0][1])
            changing = f"{names} at index {index}" if isinstance(self.said, Tangents) else names
            unit = float(ts[moved[0][0]][index])
        if not self.linear.holds_along(ts):
            self.fail_if_rough(f"{names} at index {index}" if single else changing, found)
        error = found.slope.error[found.at] / abs(unit)
        allowed = found.allowed / abs(unit)
        tolerance = Tolerance(
            0.0, allowed, f"{found.tolerance.reason}; and {SAFETY:g} times the differences' own error {error:.2g}"
        )
        raise difference(
            s.who,
            self.said.text(found.component, changing),
            index if single and isinstance(self.said, Pairing) else found.at,
            (self.said.by, "the difference at step 1" if self.linear.holds_along(ts) else self.curve.note),
            found.claim / unit,
            found.slope.value[found.at] / unit,
            tolerance,
            allowed,
            s.where(seed=self.seed),
        )

    def fail_if_rough(self, changing: str, found: Finding) -> None:
        s = self.subject
        why = roughness(found.slope, found.at)
        if not why and found.excess < 1:
            why = f"its differences do not converge: {found.slope.value[found.at]:.6g}, unsure by {found.allowed:.2g}"
        if why:
            rough = self.said.moving(found.component, found.at)
            raise NonSmoothPointError(
                f"{s.who}: {s.name} must be smooth at the sampled point, got {rough} for changes of {changing}: {why}. "
                f'Draw the point with fgrad.testing.strategies.arrays, or pass nonsmooth="move".\n'
                f"{s.where(seed=self.seed)}"
            )


def _restricted(ts: Sequence[np.ndarray], support: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    parts = [np.zeros_like(t) for t in ts]
    for k, j in support:
        parts[k].flat[j] = ts[k].flat[j]
    return parts
