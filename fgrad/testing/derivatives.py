"""check_jvp, check_vjp, check_grads, check_second_order: derivatives against differences and against each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from fgrad import autodiff
from fgrad.core.array import lift
from fgrad.testing.comparison import Comparison, Linearity, Pairing, Tangents
from fgrad.testing.differences import Curve, scale_of
from fgrad.testing.functions import Subject, first
from fgrad.testing.report import NonSmoothPointError, Tolerance, compare, largest, rounding, shown, wide
from fgrad.testing.rules import Pullback, Pushforward

NonSmooth = Literal["raise", "move"]
MOVES = 3  # how often nonsmooth="move" looks for a smooth point


def check_jvp(
    f: Callable[..., Any],
    args: Sequence[Any],
    *,
    jvp: Callable[..., Any] | None = None,
    linear: bool | Sequence[int] = False,
    directions: int = 2,
    seed: int = 0,
    tolerance: float | None = None,
    nonsmooth: NonSmooth = "raise",
) -> None:
    """A forward derivative against central differences: for random directions t

        f'(x) t  =  lim  (f(x + h t) − f(x − h t)) / 2h        in every element of every floating result

    The differences are extrapolated and bring an error estimate (Ridders); the tolerance is ten times that, and 16 eps
    sqrt(n) of the terms, for n elements of arguments, for the rule's own rounding.  Where the two sides differ, t is
    narrowed to one element.  Functions of float32 that also compute in float64 are differenced in float64.

    Args:
        f: a pure function of pytrees of real arrays: of fgrad, NumPy, Numba.  It receives the kinds of arrays in
            ``args``, as fresh copies.
        args: the point: a tuple of f's arguments.  Integer and bool leaves are held.
        jvp: the rule to check, ``jvp(primals, tangents) -> (out, tangent_out)`` as for ``fgrad.custom_jvp``; the
            default is ``fgrad.jvp`` of f.  Tangents of integers are zeros of dtype float0.
        linear: True if f is linear (or affine) in all arguments together, or the numbers of arguments in each of which
            it is: there differences are taken at step 1 with integer directions, and are equal to rounding.
        directions: how many.
        seed: of the directions.
        tolerance: relative to the terms of the derivative, in place of the 16 eps sqrt(n).
        nonsmooth: "raise" at a kink or a jump, or "move" the point a little, at most three times.

    Raises:
        AssertionError: the rule is wrong: the message shows the argument, the index, both values, both errors and the
            tolerance.  Or f changes its arguments, or is random.
        NonSmoothPointError: an AssertionError: f has a kink or a jump at the point.
        TypeError: f or the rule returns something other than arrays.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.test_util.check_jvp.html, and C. Ridders, Accurate
    computation of F'(x) and F'(x) F''(x), Advances in Engineering Software 4 (1982).

    >>> import numpy as np
    >>> from fgrad.testing import check_jvp
    >>> x = np.array([0.5, 2.0])
    >>> check_jvp(np.sin, (x,), jvp=lambda primals, tangents: (np.sin(*primals), tangents[0] * np.cos(*primals)))
    >>> check_jvp(np.sin, (x,), jvp=lambda primals, tangents: (np.sin(*primals), -tangents[0] * np.cos(*primals)))
    Traceback (most recent call last):
        ...
    AssertionError: check_jvp: the tangent of result for a change of argument 'x' at index (0,) differs at index (0,).
      jvp:         -0.877...
      differences: 0.877...
      absolute error 1.76, relative error 2; allowed ...
    """

    def check(subject: Subject) -> None:
        rule, curve, lines = Pushforward(subject, jvp), Curve(subject), Linearity(subject, linear)
        comparison = Comparison(curve, Tangents(rule), lines, tolerance, seed)
        rule.check_repeatable(random_tangents(rule.of, seed, 0))
        for k in range(directions):
            for ts in lines.directions(random_tangents(rule.of, seed, k)):
                comparison.along(ts)

    _at_a_smooth_point(Subject("check_jvp", f, args), check, nonsmooth, seed)


def check_vjp(
    f: Callable[..., Any],
    args: Sequence[Any],
    *,
    vjp: Callable[..., Any] | None = None,
    linear: bool | Sequence[int] = False,
    directions: int = 2,
    seed: int = 0,
    tolerance: float | None = None,
    nonsmooth: NonSmooth = "raise",
) -> None:
    """A backward pass against central differences: for random cotangents y and directions t

        ⟨f'(x)ᵀ y, t⟩  =  lim  ⟨y, f(x + h t) − f(x − h t)⟩ / 2h

    The differences are extrapolated and bring an error estimate (Ridders); the tolerance is ten times that, and 16 eps
    sqrt(n) (‖f'(x)ᵀ y ∘ t‖ + |⟨y, f⟩|), for n elements of arguments, for the rule's own rounding.  Where the two
    sides differ, t is narrowed to one element.

    Args:
        f: a pure function of pytrees of real arrays: of fgrad, NumPy, Numba, PyTorch.  It receives the kinds of arrays
            in ``args``, as fresh copies.
        args: the point: a tuple of f's arguments.  Integer and bool leaves are held.
        vjp: the rule to check, ``vjp(ct, *args)`` -> a tuple with a cotangent for each argument, None for zero (for
            one argument the cotangent itself will do); ct has the structure of f's result.  The default is
            ``fgrad.vjp`` of f, and for PyTorch's tensors its own backward pass.
        linear, directions, seed, tolerance, nonsmooth: as for :func:`check_jvp`.

    Raises:
        AssertionError: the rule is wrong: the message shows the argument, the index, both values, both errors and the
            tolerance.  Or f or the rule changes its arguments, or is random.
        NonSmoothPointError: an AssertionError: f has a kink or a jump at the point.
        TypeError: f or the rule returns something other than arrays, or cotangents of other shapes.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.test_util.check_vjp.html.

    >>> import numpy as np
    >>> from fgrad.testing import check_vjp
    >>> x, w = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([0.5, -1.0, 2.0])
    >>> check_vjp(lambda x, w: x @ w, (x, w), vjp=lambda ct, x, w: (np.outer(ct, w), ct @ x))
    >>> check_vjp(lambda x, w: x @ w, (x, w), vjp=lambda ct, x, w: (np.outer(ct, w), ct @ x / len(x)))
    Traceback (most recent call last):
        ...
    AssertionError: check_vjp: the cotangent of argument 'w' differs at index (0,).
    ...
    """

    def check(subject: Subject) -> None:
        rule, curve, lines = Pullback(subject, vjp), Curve(subject), Linearity(subject, linear)
        rule.check_repeatable(random_cotangents(rule, seed, 0))
        for k in range(directions):
            cts = random_cotangents(rule, seed, k)
            if lines.groups:
                cts = [np.rint(2 * ct) for ct in cts]
            comparison = Comparison(curve, Pairing(rule, cts), lines, tolerance, seed)
            for ts in lines.directions(random_tangents(rule.of, seed, k)):
                comparison.along(ts)

    _at_a_smooth_point(Subject("check_vjp", f, args), check, nonsmooth, seed)


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    *,
    directions: int = 1,
    seed: int = 0,
    tolerance: float | None = None,
    nonsmooth: NonSmooth = "raise",
) -> None:
    """fgrad's derivatives of f up to an order against differences, in every sequence of forward and reverse mode.

    ``check_jvp`` ("fwd") and ``check_vjp`` ("rev") of f; then, for order > 1, the same of x ↦ f'(x) t and of
    x ↦ f'(x)ᵀ y with random t and y; and so on.  With both modes that is 2 + 4 + … + 2^order checks.

    Args:
        f: a function that fgrad can differentiate, of pytrees of real arrays.
        args: the point: a tuple of f's arguments.
        order: the highest order of derivatives.
        modes: "fwd", "rev" or both.
        directions, seed, tolerance, nonsmooth: as for :func:`check_jvp`.

    Raises:
        AssertionError, NonSmoothPointError, TypeError: as :func:`check_jvp` and :func:`check_vjp`.
        ValueError: an order below 1, or another mode.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.test_util.check_grads.html, which also takes
    ``atol``, ``rtol`` and ``eps``; here tolerances are derived and steps chosen.

    >>> import numpy as np
    >>> import fgrad.numpy as fnp
    >>> from fgrad.testing import check_grads
    >>> check_grads(lambda x, y: fnp.tanh(x) * y, (np.array([0.3, -2.0]), 1.5), order=3)
    """
    if type(order) is not int or order < 1:
        raise ValueError(f"check_grads: order must be a positive int, got {order!r}. Use 1 for first derivatives.")
    if isinstance(modes, str) or not modes or not set(modes) <= {"fwd", "rev"}:
        raise ValueError(f'check_grads: modes must be among "fwd" and "rev", got {modes!r}. Write ("fwd", "rev").')
    options = {"directions": directions, "seed": seed, "tolerance": tolerance, "nonsmooth": nonsmooth}
    _check_grads(f, args, order, tuple(modes), None, options)


def _check_grads(f, args, order: int, modes: tuple[str, ...], names: list[str] | None, options: dict[str, Any]) -> None:
    seed = options["seed"]

    def forward(subject: Subject) -> None:
        rule = Pushforward(subject, None)
        comparison = Comparison(Curve(subject), Tangents(rule), Linearity(subject, False), options["tolerance"], seed)
        for k in range(options["directions"]):
            comparison.along(random_tangents(rule.of, seed, k))

    def reverse(subject: Subject) -> None:
        rule, curve, lines = Pullback(subject, None), Curve(subject), Linearity(subject, False)
        for k in range(options["directions"]):
            said = Pairing(rule, random_cotangents(rule, seed, k))
            Comparison(curve, said, lines, options["tolerance"], seed).along(random_tangents(rule.of, seed, k))

    for mode in modes:
        subject = Subject("check_grads", f, args, names)
        _at_a_smooth_point(subject, forward if mode == "fwd" else reverse, options["nonsmooth"], seed)
        if order > 1:
            pull = Pullback(subject, None)
            if mode == "fwd":
                derivative = _tangent_of(pull, random_tangents(pull.of, seed, 10 + order))
            else:
                derivative = _gradient_of(pull, random_cotangents(pull, seed, 10 + order))
            active = [subject.names[i] for i in subject.active]
            _check_grads(derivative, tuple(pull.of), order - 1, modes, active, options)


def check_second_order(
    f: Callable[..., Any],
    args: Sequence[Any],
    *,
    seed: int = 0,
    tolerance: float | None = None,
    nonsmooth: NonSmooth = "raise",
) -> None:
    """The Hessian of ⟨y, f⟩ along a random direction t, four ways: one after the other

        forward over reverse    d/dx (f'(x)ᵀ y) · t
        reverse over forward    (d/dx f'(x) t)ᵀ y
        reverse over reverse    (d/dx f'(x)ᵀ y)ᵀ t        H is symmetric
        differences             of f'(x)ᵀ y along t

    The first three agree to 256 eps sqrt(n) of the largest element for n elements of arguments, or to ``tolerance``;
    with differences the first is compared as in :func:`check_jvp`, and before all f'(x)ᵀ y as in :func:`check_vjp`.

    Args:
        f: a function that fgrad can differentiate twice, of pytrees of real arrays.
        args: the point: a tuple of f's arguments.
        seed, tolerance, nonsmooth: as for :func:`check_jvp`.

    Raises:
        AssertionError, NonSmoothPointError, TypeError: as :func:`check_jvp`.

    Source: https://docs.jax.dev/en/latest/notebooks/autodiff_cookbook.html (Hessian-vector products).

    >>> import numpy as np
    >>> import fgrad.numpy as fnp
    >>> from fgrad.testing import check_second_order
    >>> check_second_order(lambda x, y: fnp.exp(x) * fnp.sin(y), (np.array([0.3, -1.0]), np.array([1.0, 2.0])))
    """
    who = "check_second_order"

    def check(subject: Subject) -> None:
        pull = Pullback(subject, None)
        xs = list(map(lift, pull.of))
        lines = Linearity(subject, False)
        ys, ts = random_cotangents(pull, seed, 0), random_tangents(pull.of, seed, 0)
        tangents = [lift(t.astype(x.dtype)) for t, x in zip(ts, pull.of)]
        Comparison(Curve(subject), Pairing(pull, ys), lines, tolerance, seed).along(ts)
        gradient, tangent = _gradient_of(pull, ys), _tangent_of(pull, ts)
        values, forward = autodiff.jvp(gradient, tuple(xs), tuple(tangents))
        ways = {
            "reverse over forward": autodiff.vjp(tangent, *xs)[1](_like(ys, pull.into)),
            "reverse over reverse": autodiff.vjp(gradient, *xs)[1](tangents),
        }
        terms = max(1, sum(x.size for x in pull.of))
        base = rounding(*[x.dtype for x in (*pull.of, *pull.into)], terms=terms, factor=256, given=tolerance)
        for name, way in ways.items():
            for a, b, value, i in zip(way, forward, values, subject.active):
                limit = Tolerance(base.relative, base.relative * largest(np.asarray(value)), base.reason)
                what = f"the Hessian along a random direction, in {subject.names[i]},"
                compare(who, what, (name, "forward over reverse"), a, b, limit, subject.where(seed=seed))
        names = [subject.names[i] for i in subject.active]
        of_gradient = Subject(who, gradient, tuple(pull.of), names)
        rule = Pushforward(of_gradient, None)
        Comparison(Curve(of_gradient), Tangents(rule), Linearity(of_gradient, False), tolerance, seed).along(ts)

    _at_a_smooth_point(Subject(who, f, args), check, nonsmooth, seed)


# --- derivatives as functions ----------------------------------------------------------------------------------------
def _like(vectors: Sequence[np.ndarray], of: Sequence[Any]) -> list[Any]:
    return [lift(v.astype(x.dtype)) for v, x in zip(vectors, of)]


def _tangent_of(rule: Any, ts: list[np.ndarray]) -> Callable[..., Any]:
    """x ↦ f'(x) t of the active leaves."""
    f = rule.active_function()

    def tangent(*xs):
        return autodiff.jvp(f, xs, tuple(_like(ts, xs)))[1]

    tangent.__name__ = f"the tangent of {rule.subject.name}"
    return tangent


def _gradient_of(rule: Any, ys: list[np.ndarray]) -> Callable[..., Any]:
    """x ↦ f'(x)ᵀ y of the active leaves."""
    f = rule.active_function()

    def gradient(*xs):
        outs, pull = autodiff.vjp(f, *xs)
        return list(pull(_like(ys, outs)))

    gradient.__name__ = f"the gradient of {rule.subject.name}"
    return gradient


# --- points and directions -------------------------------------------------------------------------------------------
def random_tangents(xs: Sequence[np.ndarray], seed: int, k: int) -> list[np.ndarray]:
    """Standard normal directions as long as the arguments, in numbers that their dtypes hold."""
    rng = np.random.default_rng([seed, k])
    return [wide((scale_of(x) * rng.standard_normal(x.shape)).astype(x.dtype)) for x in xs]


def random_cotangents(rule: Pullback, seed: int, k: int) -> list[np.ndarray]:
    """Standard normal cotangents of the floating results."""
    rng = np.random.default_rng([seed, k, 1])
    return [wide(rng.standard_normal(x.shape).astype(x.dtype)) for x in rule.into]


def _at_a_smooth_point(subject: Subject, check: Callable[[Subject], None], nonsmooth: NonSmooth, seed: int) -> None:
    """The check at the subject's point; where that is rough and ``nonsmooth`` says so, at points near by."""
    if nonsmooth not in ("raise", "move"):
        raise ValueError(f'{subject.who}: nonsmooth must be "raise" or "move", got {nonsmooth!r}.')
    for attempt in range(MOVES + 1):
        try:
            _check_finite(subject)
            return check(subject)
        except NonSmoothPointError:
            if nonsmooth == "raise" or attempt == MOVES:
                raise
        moves = random_tangents([subject.leaves[i] for i in subject.active], seed, 100 + attempt)
        point = [(wide(subject.leaves[i]) + t / 64).astype(t.dtype) for i, t in zip(subject.active, moves)]
        subject.move([x.astype(subject.leaves[i].dtype) for i, x in zip(subject.active, point)])


def _check_finite(s: Subject) -> None:
    for i in s.floating:
        finite = np.isfinite(wide(s.outs[i]))
        if not finite.all():
            at = first(~finite)
            raise NonSmoothPointError(
                f"{s.who}: {s.name} must be finite at the sampled point, got {shown(s.outs[i][at])} in "
                f"{s.out_names[i]} at index {at}. Choose a point inside the function's domain.\n{s.where()}"
            )
