"""The backends that a jaxpr can run on, in one list, and the check that they agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fgrad.api import make_jaxpr
from fgrad.compiler.program import Program
from fgrad.core.jaxpr import ClosedJaxpr
from fgrad.errors import MissingBackendError
from fgrad.higher_order.jit_primitive import reference_of
from fgrad.testing.agreement import Agreement, noting, subject_of
from fgrad.testing.functions import Subject


class Backend(NamedTuple):
    """Something that runs jaxprs.

    available() : empty if it can run here, or why it cannot.
    run(closed, arrays) : the results of a jaxpr for NumPy arrays of its operands' types, as NumPy arrays of its own.
    """

    available: Callable[[], str]
    run: Callable[[ClosedJaxpr, Sequence[np.ndarray]], list[np.ndarray]]


def _always() -> str:
    return ""


def _run_reference(closed: ClosedJaxpr, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Every equation by its primitive's ``reference``, a NumPy function; jaxprs inside of equations too."""
    with np.errstate(all="ignore"):
        return [np.array(x) for x in reference_of(closed, arrays)]


def _run_cpu(closed: ClosedJaxpr, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The compiled program."""
    return [np.array(x) for x in Program(closed)([np.asarray(x, order="C") for x in arrays])]


BACKENDS: dict[str, Backend] = {
    "reference": Backend(_always, _run_reference),
    "cpu": Backend(_always, _run_cpu),
}


def check_backends(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    backends: Sequence[str] | None = None,
    tolerance: float | None = None,
) -> None:
    """Checks that f computes the same on every backend as on "reference", every primitive's NumPy function.

    f is traced once, and its jaxpr is run by each backend, on the same values.

    Args:
        f: a function of pytrees of arrays, made of fgrad operations.
        args: its arguments; arrays of any dtype and shape.
        backends: which of ``fgrad.testing.BACKENDS`` to compare with "reference"; default: all that can run here.
        tolerance: as for ``check_jit``.

    Raises:
        AssertionError: a backend's result has another type than the jaxpr says, or differs from the first backend's.
        MissingBackendError: a primitive has no rule for a backend, or a backend that was named cannot run here.
        ValueError: a name is none of a backend.
        TypeError: f returns something else than arrays, or ``backends`` is no sequence of names.

    Source: jaxprs and their interpreters, https://docs.jax.dev/en/latest/notebooks/Writing_custom_interpreters_in_Jax.html.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> check_backends(lambda x: lax.cumsum(lax.exp(x)), (np.linspace(0, 1, 5),))
    """
    usable = [name for name in BACKENDS if not BACKENDS[name].available()] if backends is None else _named(backends)
    first = next(iter(BACKENDS))
    s = subject_of("check_backends", f, args)
    agreement = Agreement(s, tolerance)
    try:
        closed = make_jaxpr(s.f)(*s.arguments(s.leaves))
    except Exception as e:
        noting(e, s, "tracing it")
        raise
    arrays = [x.astype(a.dtype) for x, a in zip(s.leaves, closed.in_avals)]  # Python numbers are of 32 bits

    def run(name: str) -> list[np.ndarray]:
        outs = BACKENDS[name].run(closed, [np.array(x) for x in arrays])
        _check_types(s, name, closed, outs)
        return outs

    wants = run(first)
    for name in usable:
        if name != first:
            agreement.check((name, first), run(name), wants)


def _named(backends: Any) -> list[str]:
    """The backends that were asked for, all of which can run."""
    if isinstance(backends, str) or not isinstance(backends, Sequence) or not backends:
        raise TypeError(
            f"check_backends: backends must be a sequence of names, got {backends!r}. Pass some of {tuple(BACKENDS)}."
        )
    for name in backends:
        if name not in BACKENDS:
            raise ValueError(
                f"check_backends: backends must be names of backends, got {name!r}. Pass some of {tuple(BACKENDS)}."
            )
        if why := BACKENDS[name].available():
            raise MissingBackendError(f"check_backends: {name} cannot run here, {why}.")
    return list(dict.fromkeys(backends))


def _check_types(subject: Subject, backend: str, closed: ClosedJaxpr, outs: Sequence[np.ndarray]) -> None:
    for name, out, aval in zip(subject.out_names, outs, closed.out_avals):
        if (out.shape, out.dtype) != (aval.shape, aval.dtype):
            raise AssertionError(
                f"check_backends: {name} must have the type that the jaxpr says, got {out.dtype}{list(out.shape)} from "
                f"{backend} and {aval.dtype}{list(aval.shape)} from the abstract rules.\n{subject.where()}"
            )
