"""Finding the operation that made the first NaN or infinity."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fgrad import tree
from fgrad.core import dtypes
from fgrad.core.array import lift
from fgrad.core.static import flag
from fgrad.core.trace import using
from fgrad.debug.observe import ObservingTrace, parent_of
from fgrad.errors import NonFiniteError
from fgrad.higher_order.arguments import check_callable
from fgrad.transforms.stage import user_source

SHOWN = 6  # elements of an operand that a message prints; of larger ones it gives the range


class FiniteTrace(ObservingTrace):
    """Evaluation that stops at a NaN, and at an infinity made of finite numbers."""

    __slots__ = ("inf", "nan")

    def __init__(self, who: str, nan: bool | None, inf: bool | None):
        below = parent_of(who)
        # it stands in the place of another such, with the settings of that where None
        replaced = below if isinstance(below, FiniteTrace) else None
        super().__init__(who, replaced.parent if replaced else below)
        self.nan = (replaced is not None and replaced.nan) if nan is None else nan
        self.inf = (replaced is not None and replaced.inf) if inf is None else inf

    def observe(self, prim: Any, args: Sequence[Any], outs: Sequence[Any], path: Sequence[str]) -> None:
        for out in outs:
            if not dtypes.is_inexact(out.dtype) or np.isfinite(out._value).all():
                continue
            has_nan = _has_nan(out._value)
            made_inf = bool(np.isinf(out._value).any()) and all([_finite(a._value) for a in args])
            if (self.nan and has_nan) or (self.inf and made_inf):
                self.fail(prim, args, outs, out._value, path)

    def fail(self, prim: Any, args: Sequence[Any], outs: Sequence[Any], value: np.ndarray, path: Sequence[str]) -> None:
        source = user_source()
        bad = ~np.isfinite(value)
        where = f", the first at {[int(i) for i in np.argwhere(bad)[0]]}" if value.ndim else ""
        line = f" at {source._replace(backward=False)}" if source else ""
        back = " (the backward pass of that line)" if source and source.backward else ""
        elements = f"{value.size} element{'s' * (value.size != 1)}"
        inside = "".join(f", in {p}" for p in reversed(path))
        operands = "; ".join(_summary(a._value) for a in args) or "none"
        # a nan among the operands came from outside: an operation that made it would have failed itself
        from_before = [i for i, a in enumerate(args) if _has_nan(a._value)] if self.nan else []
        who = self.name
        if who != "check_finite":
            who = "debug_nans" if self.nan and _has_nan(value) else "debug_infs"
        advice = "Keep the operands away from such values (fgrad.numpy.where on the operand, not on the result)"
        if from_before:
            advice = f"Operand {from_before[0]} was nan before: look for where it comes from"
        elif not np.isnan(value).any():
            advice += ", or let infinities pass (inf=False)" if who == "check_finite" else ""
        raise NonFiniteError(
            f"{who}: results must be finite, got {_counts(value)} in {elements} from {prim.name}{line}{back}{inside} "
            f"(result {_aval(value)}{where}; operands: {operands}). {advice}.",
            args,
            outs,
            source,
        )


def _finite(value: np.ndarray) -> bool:
    return not dtypes.is_inexact(value.dtype) or bool(np.isfinite(value).all())


def _has_nan(value: np.ndarray) -> bool:
    return dtypes.is_inexact(value.dtype) and bool(np.isnan(value).any())


def _aval(value: np.ndarray) -> str:
    return f"{dtypes.short_name(value.dtype)}[{','.join(map(str, value.shape))}]"


def _counts(value: np.ndarray) -> str:
    """``2 nan and 1 inf``"""
    nans, infs = int(np.isnan(value).sum()), int(np.isinf(value).sum())
    return " and ".join(f"{n} {what}" for n, what in ((nans, "nan"), (infs, "inf")) if n)


def _summary(value: np.ndarray) -> str:
    """``f32[2] = [1.0, 2.0]``, or for larger arrays ``f32[64,10] from -1.0 to 2.0 and 3 nan``"""
    if value.size <= SHOWN:
        return f"{_aval(value)} = {_shortest(value).tolist()}"
    if value.dtype.kind == "c":
        return _aval(value)
    finite = value[np.isfinite(value)]
    text = f" from {_shortest(finite.min())} to {_shortest(finite.max())}" if finite.size else ""
    return _aval(value) + text + ("" if _finite(value) else f"{' and' if text else ' with'} {_counts(value)}")


def _seen(x: Any) -> Any:
    """A NumPy array of floats as an Array: what NumPy computes itself is not seen."""
    return lift(x) if isinstance(x, (np.ndarray, np.generic)) and dtypes.is_inexact(x.dtype) else x


def _shortest(value: np.ndarray) -> np.ndarray:
    """Floats as the doubles with the fewest digits that round to them: 0.1, not 0.10000000149011612."""
    if not dtypes.is_inexact(value.dtype) or value.dtype.kind == "c":
        return value
    return np.array([float(str(v)) for v in np.ravel(value)]).reshape(value.shape)


def check_finite(fun: Callable[..., Any] | None = None, *, nan: bool = True, inf: bool = True) -> Any:
    """``fun``, evaluated operation by operation, stopping at the first that makes a NaN or an infinity.

    It sees into jit, the bodies of loops and branches, custom derivatives and the backward pass; effects happen once.
    It is slow: for finding a fault, not for running with. It goes outermost, ``check_finite(jit(grad(loss)))``.

    An operation fails if a result has a NaN, or has an infinity while all its operands are finite (a mask of -inf given
    by the user is no fault).

    Args:
        fun: any function, transformed or not; left out, the result is a decorator. NumPy arrays of floats among its
            arguments arrive as Arrays, so that operators on them are seen.
        nan: whether to stop at NaNs.
        inf: whether to stop at infinities.

    Raises:
        NonFiniteError: names the operation, the user's line, the loop iteration and the operands. In the backward pass
            the line is that of the forward operation whose transpose it is.
        TypeError: called while a transformation traces.

    >>> import fgrad, fgrad.numpy as fnp
    >>> def loss(x):
    ...     return fnp.sum(fnp.sqrt(x))
    >>> fgrad.debug.check_finite(fgrad.grad(loss), inf=False)(fnp.array([1.0, 4.0])).tolist()
    [0.5, 0.25]
    >>> try:
    ...     fgrad.debug.check_finite(fgrad.jit(fgrad.grad(loss)))(fnp.array([0.0, 4.0]))
    ... except fgrad.errors.NonFiniteError as e:
    ...     print(e.results[0].tolist(), e.source.function)
    [inf, 0.5] loss

    Source: the purpose of https://docs.jax.dev/en/latest/debugging/flags.html; JAX checks the results of whole jitted
    functions.
    """
    if fun is None:
        return functools.partial(check_finite, nan=nan, inf=inf)
    check_callable("check_finite", fun)
    nan, inf = flag("check_finite", "nan", nan), flag("check_finite", "inf", inf)

    @functools.wraps(fun)
    def checked(*args: Any, **kwargs: Any) -> Any:
        trace = FiniteTrace("check_finite", nan, inf)
        args, kwargs = tree.tree_map(_seen, (args, kwargs))
        with using(trace):
            return fun(*args, **kwargs)

    return checked


@contextlib.contextmanager
def _checking(who: str, nan: bool | None, inf: bool | None) -> Iterator[None]:
    with using(FiniteTrace(who, nan, inf)):
        yield


def debug_nans(enable: bool = True) -> contextlib.AbstractContextManager[None]:
    """Inside ``with debug_nans():`` the first operation with a NaN among its results raises NonFiniteError.

    Every operation is evaluated by itself, in jitted functions too; outside the block nothing is slower. The block
    concerns its own thread and must stand outside every transformation; see ``check_finite`` for what it sees.

    >>> import fgrad, fgrad.numpy as fnp
    >>> with fgrad.debug.debug_nans():
    ...     fnp.log(-1.0)
    Traceback (most recent call last):
    fgrad.errors.NonFiniteError: ...

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.debug_nans.html.
    """
    return _checking("debug_nans", flag("debug_nans", "enable", enable), None)


def debug_infs(enable: bool = True) -> contextlib.AbstractContextManager[None]:
    """Inside ``with debug_infs():`` the first operation that makes an infinity of finite numbers raises NonFiniteError.

    As ``debug_nans``; the two can be nested.

    >>> import fgrad, fgrad.numpy as fnp
    >>> with fgrad.debug.debug_infs():
    ...     1 / fnp.zeros(1)
    Traceback (most recent call last):
    fgrad.errors.NonFiniteError: ...

    >>> import fgrad, fgrad.numpy as fnp
    >>> with fgrad.debug.debug_infs():
    ...     fnp.log(0.0)
    Traceback (most recent call last):
    fgrad.errors.NonFiniteError: ...

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.debug_infs.html.
    """
    return _checking("debug_infs", None, flag("debug_infs", "enable", enable))
