"""Whether another way of computing a function agrees with it to rounding: compiled, batched, by another backend.

Two orders of the same arithmetic differ by some units of rounding of the result; by more where the function magnifies
rounding.  With random signs δ and e = eps of the coarsest dtype in the computation, that is measured at the point:

    |f(x + √e δ x) − f(x)| √e      what a rounding of the arguments does to the result (√e: a jump counts little)
    |f(x + e δ x) − f(x)|          the noise of a result whose terms cancel, up to some e of the largest number at hand
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad import tree
from fgrad.api import make_jaxpr
from fgrad.core import dtypes
from fgrad.core.array import ConcreteArray, from_scalar, lift
from fgrad.core.jaxpr import Jaxpr, walk_eqns
from fgrad.errors import ConcretizationError
from fgrad.higher_order.arguments import check_callable, function_name
from fgrad.testing.differences import nearby
from fgrad.testing.functions import Subject
from fgrad.testing.report import NonSmoothPointError, Tolerance, compare, epsilon, errors, largest, rounding

DRAWS = 3  # of random signs


def of_arrays(who: str, f: Callable[..., Any]) -> Callable[..., Any]:
    """f as fgrad evaluates it: of Arrays where it is given NumPy's, whose operators would be NumPy's own.

    Python numbers among its results are the Arrays that fgrad makes of them.
    """
    check_callable(who, f)

    def given(x: Any) -> Any:
        if isinstance(x, np.ndarray):
            return ConcreteArray(x)  # on the same memory
        return lift(x) if isinstance(x, np.generic) else x

    @functools.wraps(f)
    def function(*args: Any) -> Any:
        out = f(*tree.tree_map(given, args))
        return tree.tree_map(lambda x: from_scalar(x) if type(x) in (bool, int, float, complex) else x, out)

    function.__name__ = function_name(f)
    return function


def subject_of(who: str, f: Callable[..., Any], args: Any) -> Subject:
    """A function made of fgrad operations, of at least one array."""
    s = Subject(who, of_arrays(who, f), args, real=False)
    if not s.leaves:
        raise TypeError(
            f"{who}: args must hold at least one array, got {s.arguments([])!r}. Pass the function's arguments."
        )
    return s


class Agreement:
    """Compares results with those of a subject; what rounding may do is measured when two first differ."""

    def __init__(self, subject: Subject, given: float | None):
        self.subject, self.given = subject, given
        self.kinds = [x.dtype for x in (*subject.leaves, *subject.outs)]
        self.terms = max([1, *[x.size for x in (*subject.leaves, *subject.outs)]])
        self._measured: list[Tolerance] | None = None

    def check(
        self, names: tuple[str, str], gots: Sequence[np.ndarray], wants: Sequence[np.ndarray], **notes: Any
    ) -> None:
        """Raises where a result differs in dtype, in shape, or by more than rounding may do."""
        s = self.subject
        for i, (name, got, want) in enumerate(zip(s.out_names, gots, wants)):
            if got.dtype == want.dtype and within(got, want, self.plain(want.dtype)):
                continue
            s.check_still_pure()
            if got.dtype != want.dtype:
                raise AssertionError(
                    f"{s.who}: {name} has different dtypes, {got.dtype} by {names[0]} and {want.dtype} by {names[1]}.\n"
                    + s.where(**notes)
                )
            self.check_no_jump(i, want.dtype)
            compare(s.who, name, names, got, want, self.measured()[i], s.where(**notes))

    # --- tolerances --------------------------------------------------------------------------------------------------
    def plain(self, dtype: np.dtype) -> Tolerance:
        """For a function that does not magnify rounding; integers are exact."""
        if not dtypes.is_inexact(dtype):
            return Tolerance(0.0, 0.0, f"exact: {dtype} does not round")
        return rounding(*self.kinds, terms=self.terms, given=self.given)

    def measured(self) -> list[Tolerance]:
        """For each result, with what rounding does to it at this point."""
        if self._measured is None:
            self._measured = [self._of(i) for i in range(len(self.subject.outs))]
        return self._measured

    def _of(self, i: int) -> Tolerance:
        s = self.subject
        plain = self.plain(s.outs[i].dtype)
        if self.given is not None or not plain.relative:
            return plain
        kinds = [*self.kinds, *_dtypes_within(s)]
        plain = rounding(*kinds, terms=self.terms)
        eps = epsilon(*kinds)
        size = max(largest(x) for x in (*s.leaves, *s.outs))
        noise = min(self.change(i, eps), 4 * eps * self.terms**0.5 * size)
        units = eps**0.5 * self.change(i, eps**0.5) + noise
        words = f"{plain.reason}, of that and of {units:.2g}, its change where the arguments are rounded"
        return Tolerance(plain.relative, plain.relative / eps * units, words)

    def change(self, i: int, step: float) -> float:
        """The largest change of result i where every floating argument is moved by ``step``, up or down."""
        s, worst = self.subject, 0.0
        inexact = [k for k, x in enumerate(s.leaves) if dtypes.is_inexact(x.dtype)]
        for draw in range(DRAWS):
            moved = list(s.leaves)
            for k, x in zip(inexact, nearby([s.leaves[k] for k in inexact], step, draw)):
                moved[k] = x
            out = s(moved)[i]
            if out.shape == s.outs[i].shape:
                worst = max(worst, largest(errors(out, s.outs[i])))
        return worst

    def check_no_jump(self, i: int, dtype: np.dtype) -> None:
        """An integer that changes when the arguments are rounded cannot be compared."""
        s = self.subject
        if dtypes.is_inexact(dtype):
            return
        if jump := self.change(i, epsilon(*self.kinds)):
            raise NonSmoothPointError(
                f"{s.who}: {s.out_names[i]} of {s.name} must not jump at the sampled point, got a change by {jump:g} "
                "where the arguments move by one rounding. Move the point away from the tie or the threshold.\n"
                + s.where()
            )


def within(got: np.ndarray, want: np.ndarray, tolerance: Tolerance) -> bool:
    """Whether every element agrees, and the shapes do."""
    return got.shape == want.shape and bool((errors(got, want) <= tolerance.bound(want)).all())


def _dtypes_within(subject: Subject) -> list[np.dtype]:
    """The dtypes that fgrad computes in on the way from arguments to results."""
    found: dict[np.dtype, None] = {}

    def of(jaxpr: Jaxpr) -> None:
        walk_eqns(jaxpr, lambda eqn: found.update(dict.fromkeys([v.aval.dtype for v in eqn.outvars])))

    try:
        of(make_jaxpr(subject.f)(*subject.arguments(subject.leaves)).jaxpr)
    except ConcretizationError:  # its control flow is Python's: known are the dtypes of arguments and results
        return []
    return list(found)


def noting(error: Exception, subject: Subject, what: str) -> None:
    """Adds to an exception of the user's function, or of fgrad, that the plain call raised none."""
    error.add_note(f"{subject.who}: raised by {what}; {subject.name} itself runs on these arguments.")
