"""check_linear and check_transpose: f(a x + b y) = a f(x) + b f(y), and ⟨A x, y⟩ = ⟨x, Aᵀ y⟩.

The random vectors have the elements ±1, ±2 and ±3, so that a map that only moves, adds up or scales by small integers
is exact in every dtype.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fgrad import autodiff
from fgrad.core.array import lift
from fgrad.higher_order.arguments import check_callable, function_name
from fgrad.testing.agreement import of_arrays, within
from fgrad.testing.functions import Subject, first
from fgrad.testing.report import Tolerance, compare, difference, largest, rounding, wide
from fgrad.testing.rules import Pullback

DRAWS = 3  # of random vectors
FACTOR = 16.0  # how far a sum of rounding errors may exceed their norm
A, B = 3.0, -2.0

Vectors = list[np.ndarray]  # one array for each leaf or result, in float64


def check_linear(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    argnums: int | Sequence[int] | None = None,
    seed: int = 0,
    tolerance: float | None = None,
) -> None:
    """Checks that f is linear in some arguments together: f(0) = 0 and f(a x + b y) = a f(x) + b f(y).

    x and y hold random integers; x is also the point that ``args`` give.  Arguments that are not named, and integer
    leaves of those that are, are held.  Results of floating dtype are compared.

    Args:
        f: a function of pytrees of arrays: of fgrad, or any function of NumPy arrays.
        args: its arguments; a shape and a dtype for those it is linear in, values for the others.
        argnums: in which arguments it is linear together; default: all.
        seed: of the random vectors.
        tolerance: relative to the largest of f(a x + b y), a f(x), b f(y).  Default: 16 eps of the coarsest dtype times
            sqrt(n), where n is the size of the largest array.

    Raises:
        AssertionError: f is not linear; the message shows the index and both sides.  Or f changes its arguments, or is
            not pure.
        TypeError: no named argument has floating leaves, or f returns something else than arrays.
        ValueError: argnums names no argument.

    Source: the definition; JAX leaves it to the user of
    https://docs.jax.dev/en/latest/_autosummary/jax.linear_transpose.html.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> images, kernels = np.ones((1, 2, 5, 5)), np.ones((3, 2, 3, 3))
    >>> check_linear(lambda x, w: lax.conv(x, w, (1, 1), "SAME"), (images, kernels), argnums=0)
    """
    Map("check_linear", f, args, argnums, seed, tolerance).check_linear()


def check_transpose(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    argnums: int | Sequence[int] | None = None,
    transpose: Callable[..., Any] | None = None,
    seed: int = 0,
    tolerance: float | None = None,
) -> None:
    """Checks the transpose Aᵀ of a linear function A: ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ for random integers x and y.

    First f is checked to be linear.  Where the two sides differ, x and then y are halved until one element of each is
    left: the index in an argument and the index in a result whose entry of the matrix the transpose has wrong.

    Args:
        f: a function of pytrees of arrays: of fgrad, or with ``transpose`` any function of NumPy arrays.
        args: its arguments; a shape and a dtype for those it is linear in, values for the others.
        argnums: in which arguments it is linear together; default: all.
        transpose: ``transpose(ct)`` for a cotangent of the result returns a tuple with the cotangent of each argument
            of ``argnums`` (of one argument, also the cotangent itself; None for zeros).  Default:
            ``fgrad.linear_transpose``.
        seed: of the random vectors.
        tolerance: relative to the norms of the terms of the two sums.  Default: 16 eps of the coarsest dtype, and 16
            times the rounding that is seen where A (3 x) and 3 A x differ.

    Raises:
        AssertionError: f is not linear; or the transpose is not its transpose: the message shows one entry by both.
        MissingBackendError: an operation in f has no transpose rule.
        TypeError: no named argument has floating leaves, or f or ``transpose`` return something else than arrays of the
            right shapes.
        ValueError: argnums names no argument.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.linear_transpose.html.

    >>> import numpy as np, fgrad.numpy as fnp
    >>> check_transpose(lambda x, w: x @ w, (np.ones((2, 3)), np.ones((3, 4))), argnums=0)
    >>> w = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> check_transpose(lambda x: w @ x, (np.ones(2),), transpose=lambda y: w.T @ y)
    """
    if transpose is None:
        f = of_arrays("check_transpose", f)
    m = Map("check_transpose", f, args, argnums, seed, tolerance)
    m.check_linear()
    Transpose(m, transpose).check()


class Map:
    """A subject as a map of the floating leaves of some arguments to its floating results.

    nums : the numbers of these arguments.
    """

    def __init__(self, who: str, f: Any, args: Any, argnums: Any, seed: int, tolerance: float | None):
        self.subject = s = Subject(who, f, args)
        self.nums = _named_arguments(s, argnums)
        s.active = [i for i in s.active if s.owners[i] in self.nums]
        if not s.active:
            of = [str(x.dtype) for x, k in zip(s.leaves, s.owners) if k in self.nums]
            raise TypeError(
                f"{who}: {s.name} must have a floating-point argument to be linear in, got {of} in arguments "
                f"{list(self.nums)}. Convert one with .astype, or name another in argnums."
            )
        if not s.floating:
            raise TypeError(
                f"{who}: {s.name} must have a floating-point result to be linear, got "
                f"{[str(x.dtype) for x in s.outs]}. Convert one with .astype."
            )
        self.given, self.seed = tolerance, seed
        self.rng = np.random.default_rng(seed)
        self.ins = [s.leaves[i] for i in s.active]
        self.outs = [s.outs[i] for i in s.floating]
        self.kinds = [x.dtype for x in (*self.ins, *self.outs)]
        self.terms = max([1, *[x.size for x in (*self.ins, *self.outs)]])

    def __call__(self, xs: Vectors) -> Vectors:
        outs = self.subject(self.subject.at([x.astype(like.dtype) for x, like in zip(xs, self.ins)]))
        return [wide(outs[i]) for i in self.subject.floating]

    def rounding(self) -> Tolerance:
        return rounding(*self.kinds, terms=self.terms, given=self.given)

    # --- linearity ---------------------------------------------------------------------------------------------------
    def check_linear(self) -> None:
        """f(0) = 0 and f(a x + b y) = a f(x) + b f(y): for random x, y, and for x the point itself."""
        zero = self([np.zeros(x.shape) for x in self.ins])
        draws = [(_integers(self.ins, self.rng), _integers(self.ins, self.rng)) for _ in range(DRAWS)]
        if all(np.isfinite(wide(x)).all() for x in self.ins):  # else they give no more than shapes
            draws.append(([wide(x) for x in self.ins], _integers(self.ins, self.rng)))
        for xs, ys in draws:
            fx, fy, fz = self(xs), self(ys), self(_combined(xs, ys))
            self.check_equal("f(0)", "zero", zero, [np.zeros(z.shape) for z in zero], (fx, fy))
            left, right = f"f({A:g} x - {-B:g} y)", f"{A:g} f(x) - {-B:g} f(y)"
            self.check_equal(left, right, fz, _combined(fx, fy), (_scaled(A, fx), _scaled(B, fy), fz))

    def check_equal(self, left: str, right: str, gots: Vectors, wants: Vectors, terms: Sequence[Vectors]) -> None:
        s, base = self.subject, self.rounding()
        of = ", ".join([s.names[i].removeprefix("argument ") for i in s.active])
        for i, got, want, *parts in zip(s.floating, gots, wants, *terms):
            size = max(map(largest, parts))
            tolerance = Tolerance(0.0, base.relative * size, f"{base.reason}, of the largest term {size:.3g}")
            finite = np.isfinite(got)
            if finite.all() and within(got, want, tolerance):
                continue
            s.check_still_pure()
            what = f"{s.name} is not linear in {of}: {s.out_names[i]}"
            if not finite.all():
                at = first(~finite)
                raise AssertionError(
                    f"{s.who}: {what} has {got[at]} at index {at} in {left}, where x and y are finite.\n"
                    + s.where(seed=self.seed)
                )
            compare(s.who, what, (left, right), got, want, tolerance, s.where(seed=self.seed))


def _combined(xs: Vectors, ys: Vectors) -> Vectors:
    return [A * x + B * y for x, y in zip(xs, ys)]


def _scaled(a: float, xs: Vectors) -> Vectors:
    return [a * x for x in xs]


def _named_arguments(s: Subject, argnums: Any) -> tuple[int, ...]:
    n = s.in_tree.num_children
    given: Any = range(n) if argnums is None else argnums if isinstance(argnums, Iterable) else (argnums,)
    nums = []
    for i in given:
        if not isinstance(i, int) or isinstance(i, bool):
            raise TypeError(
                f"{s.who}: argnums must be an int or a sequence of ints, got {argnums!r}. Count the arguments from 0."
            )
        if not -n <= i < n:
            raise ValueError(
                f"{s.who}: argnums must name arguments in args, got {argnums!r} for {n} of them. Use indices below {n}."
            )
        nums.append(i % n)
    return tuple(dict.fromkeys(nums))


def _integers(like: Sequence[np.ndarray], rng: np.random.Generator) -> Vectors:
    """Random integers, none of them 0."""
    return [rng.choice([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0], x.shape) for x in like]


# --- the transpose ---------------------------------------------------------------------------------------------------
class Transpose(Pullback):
    """A map's transpose: fgrad's own, or one written by hand, which takes the cotangent alone."""

    kind = "transpose"

    def __init__(self, of: Map, given: Callable[..., Any] | None):
        self.map = of
        if given is not None:
            check_callable(f"{of.subject.who}: transpose", given)
            given = self._as_pullback(given)
        super().__init__(of.subject, given)

    def _as_pullback(self, transpose: Callable[..., Any]) -> Callable[..., Any]:
        """(cotangent, *all arguments) -> a cotangent of each argument."""
        nums = self.map.nums
        n = self.map.subject.in_tree.num_children

        @functools.wraps(transpose)
        def pull(ct: Any, *args: Any) -> Any:
            of = f"{len(nums)} arguments"
            found = dict(zip(nums, self.entries(transpose(ct), len(nums), of, "Return all.")))
            return tuple([found.get(i) for i in range(n)])

        pull.__name__ = function_name(transpose)
        return pull

    def __call__(self, vectors: Sequence[np.ndarray]) -> Vectors:
        if self.given is not None:
            return super().__call__(vectors)
        back = autodiff.linear_transpose(self.active_function(), *map(lift, self.of))
        return [wide(bar) for bar in back([lift(y.astype(x.dtype)) for y, x in zip(vectors, self.into)])]

    # --- <A x, y> = <x, A^T y> ---------------------------------------------------------------------------------------
    def check(self) -> None:
        """For all leaves and results together, and for each leaf with each result: their scales may differ."""
        for _ in range(DRAWS):
            xs, ys = self.check_once()
            if len(xs) > 1 or len(ys) > 1:
                self.check_pair(_alone(xs), _alone(ys))

    def check_once(self) -> tuple[Vectors, Vectors]:
        """For one draw of all leaves and results, which it returns."""
        m = self.map
        xs, ys = _integers(m.ins, m.rng), _integers(m.outs, m.rng)
        self.check_pair([xs], [ys])
        return xs, ys

    def check_pair(self, xs: Sequence[Vectors], ys: Sequence[Vectors]) -> None:
        """⟨A x, y⟩ = ⟨x, Aᵀ y⟩ for each x and each y."""
        forward = [Image(self.map, x) for x in xs]
        backward = [Image(self, y) for y in ys]
        for a in forward:
            for b in backward:
                if not abs(_inner(a.x, b.y) - _inner(a.y, b.x)) <= self.tolerance(a, b).absolute:
                    self.map.subject.check_still_pure()
                    raise self.report(a, b)

    def gap(self, xs: Vectors, ys: Vectors) -> float:
        """⟨x, Aᵀ y⟩ − ⟨A x, y⟩."""
        return _inner(xs, self(ys)) - _inner(self.map(xs), ys)

    def tolerance(self, a: Image, b: Image) -> Tolerance:
        """What rounding can make of the gap.

        Σ e y, for the errors e of A x and a y of independent random signs, is of the size of the norm of e y.
        """
        m = self.map
        base = rounding(*m.kinds, factor=FACTOR, given=m.given)
        terms = _norm(a.y, b.x) + _norm(b.y, a.x)
        if m.given is not None:
            return Tolerance(
                0.0, base.relative * terms, f"{base.relative:.2g}, as given, of the terms' norm {terms:.3g}"
            )
        measured = FACTOR * (_norm(a.rounding, b.x) + _norm(b.rounding, a.x))
        words = f"{base.reason.partition(',')[0]}, of the terms' norm {terms:.3g}"
        if measured:
            words += f", and {FACTOR:g} times the rounding seen in A (3 x) - 3 A x"
        return Tolerance(0.0, base.relative * terms + measured, words)

    def report(self, a: Image, b: Image) -> AssertionError:
        """The error, for one entry of the matrix if one alone is wrong."""
        m, s, xs, ys = self.map, self.map.subject, a.x, b.x
        sides = _inner(self.map(xs), ys), _inner(xs, self(ys))
        note = s.where(seed=m.seed) + f"\n  for random x, y: <A x, y> = {sides[0]:.9g}, <x, A^T y> = {sides[1]:.9g}"
        x_support = _halved(xs, lambda part: self.gap(part, ys))
        y_support = _halved(ys, lambda part: self.gap(_units(xs, x_support), part))
        ex, ey = _units(xs, x_support), _units(ys, y_support)
        got, want = _inner(ex, self(ey)), _inner(m(ex), ey)
        tolerance = self.tolerance(Image(m, ex), Image(self, ey))
        (i, at), (j, to) = x_support, y_support
        if not abs(got - want) <= tolerance.absolute:
            seed = f"where {s.out_names[s.floating[j]]} is 1{f' at index {to}' if to else ''} and 0 elsewhere"
            return difference(
                s.who, f"the cotangent of {s.names[s.active[i]]}, {seed},", at, ("transpose", s.name), got, want,
                tolerance, tolerance.absolute, note,
            )  # fmt: skip
        allowed = self.tolerance(a, b)
        return AssertionError(
            f"{s.who}: the transpose of {s.name} is not linear: <x, A^T y> is {sides[1]:.9g} and <A x, y> is "
            f"{sides[0]:.9g} for random x, y, though no entry of the matrix differs; allowed "
            f"{allowed.absolute:.3g}: {allowed.reason}.\n" + s.where(seed=m.seed)
        )


def _inner(xs: Vectors, ys: Vectors) -> float:
    return float(sum(np.sum(x * y) for x, y in zip(xs, ys)))


def _norm(xs: Vectors, ys: Vectors) -> float:
    """The norm of the terms of the inner product."""
    return float(np.sqrt(sum(np.sum((x * y) ** 2) for x, y in zip(xs, ys))))


def _alone(xs: Vectors) -> list[Vectors]:
    """Each array with zeros for the others."""
    return [[x if i == j else np.zeros(x.shape) for j, x in enumerate(xs)] for i in range(len(xs))]


class Image:
    """y = A x, and a sample of its rounding errors: |A (k x) / k − A x| for k = 3 and 5."""

    def __init__(self, of: Callable[[Vectors], Vectors], x: Vectors):
        self.x, self.y = x, of(x)
        others = [_scaled(1 / k, of(_scaled(k, x))) for k in (3.0, 5.0)]
        self.rounding = [np.maximum(*[np.abs(z[i] - y) for z in others]) for i, y in enumerate(self.y)]


Element = tuple[int, tuple[int, ...]]  # which array, and the index in it


def _units(like: Vectors, element: Element) -> Vectors:
    """Vectors with 1 at one element and 0 elsewhere."""
    out = [np.zeros(x.shape) for x in like]
    out[element[0]][element[1]] = 1.0
    return out


def _halved(xs: Vectors, gap: Callable[[Vectors], float]) -> Element:
    """The element to which the linear ``gap`` of xs is traced, by going into the half with the larger part of it."""
    support: list[Element] = [(i, at) for i, x in enumerate(xs) for at in np.ndindex(x.shape)]
    while len(support) > 1:
        middle = len(support) // 2
        halves = (support[:middle], support[middle:])
        support = max(halves, key=lambda half: abs(gap(_restricted(xs, half))))
    return support[0]


def _restricted(xs: Vectors, support: Sequence[Element]) -> Vectors:
    out = [np.zeros(x.shape) for x in xs]
    for i, at in support:
        out[i][at] = xs[i][at]
    return out
