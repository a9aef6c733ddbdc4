"""check_jit and check_deterministic: the compiled function is the function, and gives the same bits each time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fgrad import config, tree
from fgrad.core.array import Array, lift
from fgrad.core.aval import ShapedArray
from fgrad.higher_order.jit import jit
from fgrad.testing.agreement import Agreement, noting, subject_of
from fgrad.testing.functions import Subject, first
from fgrad.testing.report import Tolerance, difference

SAME_BITS = Tolerance(0.0, 0.0, "the same bits")


def check_jit(f: Callable[..., Any], args: tuple[Any, ...], *, tolerance: float | None = None) -> None:
    """Checks that the compiled function is the function: ``jit(f)(*args) = f(*args)``.

    Shapes, dtypes and weak types are equal, values equal to rounding.  A second call of the compiled function gives the
    same bits.  So does a call with the same values in other memory: axes in reverse order, every other element, the
    first axis backwards; and f on these is f to rounding.

    Args:
        f: a function of pytrees of arrays, made of fgrad operations.
        args: its arguments; arrays of any dtype and shape.
        tolerance: relative to the largest value of a result.  Default: 16 eps of the coarsest dtype in the computation
            times sqrt(n), where n is the size of the largest array, of that value; where f magnifies rounding, as much
            more as it does (measured by moving the arguments by roundings).

    Raises:
        AssertionError: they differ; or f changes its arguments, or is not pure.
        NonSmoothPointError: an integer result is at a jump, so that rounding decides it.
        TypeError: f returns something else than arrays.

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.jit.html.

    >>> import numpy as np, fgrad.numpy as fnp
    >>> check_jit(lambda x, w: fnp.tanh(x @ w), (np.ones((2, 3)), np.ones((3, 4), np.float32)))
    """
    s = subject_of("check_jit", f, args)
    agreement = Agreement(s, tolerance)
    compiled = jit(s.f)
    try:
        once = s(s.leaves, compiled)
    except Exception as e:
        noting(e, s, "compiling it")
        raise
    for name, got, want in zip(s.out_names, _types(s, compiled), _types(s, s.f)):
        if got != want:
            raise AssertionError(
                f"check_jit: {name} must have the type that {s.name} gives it, got {got} from jit and {want} without "
                f"(~ is weak).\n{s.where()}"
            )
    agreement.check(("jit", "eager"), once, s.outs)
    _check_same_bits(s, ("second call of jit", "first"), s(s.leaves, compiled), once)
    notes = {"with arguments in": "strided memory"}
    _check_same_bits(s, ("jit, strided", "contiguous"), _on_strided(s, compiled), once, **notes)
    agreement.check(("eager, strided", "contiguous"), _on_strided(s, s.f), s.outs, **notes)


def check_deterministic(f: Callable[..., Any], args: tuple[Any, ...], *, runs: int = 3, threads: int = 4) -> None:
    """Checks that f gives the same bits every time, as it is and compiled.

    From one run to the next; when several Python threads call it at once; and with every number of kernel threads from
    1 to the cores of this process.  (Eager and compiled may differ from each other: see ``check_jit``.)

    Args:
        f: a function of pytrees of arrays, made of fgrad operations.
        args: its arguments; arrays of any dtype and shape.
        runs: calls in a row; as many by each Python thread.
        threads: Python threads.

    Raises:
        AssertionError: bits differ; the message shows the index and the two values.  Or f changes its arguments, or is
            random.
        TypeError: f returns something else than arrays, or ``runs`` or ``threads`` is no int.
        ValueError: ``runs`` or ``threads`` is less than 1.

    Source: what it takes, Demmel and Nguyen, Fast reproducible floating-point summation,
    https://doi.org/10.1109/ARITH.2013.9.

    >>> import numpy as np, fgrad.numpy as fnp
    >>> check_deterministic(lambda x: fnp.sum(x * x), (np.linspace(0, 1, 10_000, dtype=np.float32),))
    """
    for name, value in (("runs", runs), ("threads", threads)):
        _check_count(name, value)
    s = subject_of("check_deterministic", f, args)
    for how, way in (("eager", s.f), ("jit", jit(s.f))):
        try:
            want = s(s.leaves, way)
        except Exception as e:
            noting(e, s, "compiling it")
            raise
        for run in range(2, runs + 1):
            _check_same_bits(s, (f"{how}, run {run}", "run 1"), s(s.leaves, way), want)
        for i, outs in enumerate(_at_once(s, way, runs, threads)):
            _check_same_bits(s, (f"{how}, thread {i // runs + 1} of {threads}", "alone"), outs, want)
        for n in range(1, config.cores() + 1):
            with config.using_num_threads(n):
                found = s(s.leaves, way)
            names = (f"{how}, kernel threads: {n}", f"kernel threads: {config.num_threads()}")
            _check_same_bits(s, names, found, want)


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"check_deterministic: {name} must be an int, got {value!r}. Pass how many.")
    if value < 1:
        raise ValueError(f"check_deterministic: {name} must be at least 1, got {value}. Pass how many.")


# --- ways to call ----------------------------------------------------------------------------------------------------
def _types(subject: Subject, f: Callable[..., Any]) -> list[ShapedArray]:
    """Shape, dtype and weakness of each result."""
    return [lift(x).aval for x in tree.tree_leaves(f(*subject.arguments(subject.leaves)))]


def _on_strided(subject: Subject, f: Callable[..., Any]) -> list[np.ndarray]:
    """f's results where NumPy arrays and Arrays among the arguments lie strided in memory."""
    args = subject.arguments(subject.leaves)
    leaves = [
        make(strided(x)) if isinstance(given, (np.ndarray, Array)) else given
        for given, x, make in zip(tree.tree_leaves(args), subject.leaves, subject.make)
    ]
    out = f(*tree.tree_unflatten(subject.in_tree, leaves))
    return [np.array(x) for x in tree.tree_leaves(out)]


def strided(v: np.ndarray) -> np.ndarray:
    """The same values with axes in reverse order in memory, every other element, and the first axis backwards."""
    if v.ndim == 0:
        return v
    memory = np.zeros(tuple(2 * n for n in v.shape[::-1]), v.dtype)
    view = memory.T[tuple(slice(None, None, -2) if d == 0 else slice(None, None, 2) for d in range(v.ndim))]
    view[...] = v
    return view


def _at_once(subject: Subject, f: Callable[..., Any], runs: int, threads: int) -> list[list[np.ndarray]]:
    """Results of ``runs`` calls by each of several Python threads that begin together."""
    start = threading.Barrier(threads)

    def calls() -> list[list[np.ndarray]]:
        start.wait()
        return [subject(subject.leaves, f) for _ in range(runs)]

    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(calls) for _ in range(threads)]
        return [outs for w in waiting for outs in w.result()]


# --- bits ------------------------------------------------------------------------------------------------------------
def _check_same_bits(
    subject: Subject, names: tuple[str, str], gots: Sequence[np.ndarray], wants: Sequence[np.ndarray], **notes: Any
) -> None:
    for name, got, want in zip(subject.out_names, gots, wants):
        if (got.shape, got.dtype) != (want.shape, want.dtype):
            raise AssertionError(
                f"{subject.who}: {name} must have one type, got {got.dtype}{list(got.shape)} by {names[0]} and "
                f"{want.dtype}{list(want.shape)} by {names[1]}.\n{subject.where(**notes)}"
            )
        if not (other := bits_differ(got, want)).any():
            continue
        at, count = first(other), int(other.sum())
        where = subject.where(**notes)
        raise difference(subject.who, name, at, names, got[at], want[at], SAME_BITS, 0.0, where, count)


def bits_differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two arrays of one type differ in any bit: [*shape]."""
    pair = [np.frombuffer(x.tobytes(), np.uint8).reshape(*x.shape, x.dtype.itemsize) for x in (a, b)]
    return (pair[0] != pair[1]).any(axis=-1)
