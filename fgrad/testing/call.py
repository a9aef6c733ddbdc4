"""A primitive at a sample, as the laws see it: a function of some of its operands, and what may be asked of it."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fgrad import autodiff
from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Unfilled
from fgrad.core.primitive import Bilinear, Linear, Primitive
from fgrad.errors import MissingDependencyError
from fgrad.extend.primitive import Primitive as Extension
from fgrad.lax import convert_element_type
from fgrad.testing.sample import Sample

SCIPY = importlib.util.find_spec("scipy") is not None


# --- a primitive at a sample -----------------------------------------------------------------------------------------
class Call:
    """The primitive at a sample's parameters as a function of the operands ``active``; the others are held.

    args : those operands.
    avals : of the results.
    floating : which results are floats.
    """

    def __init__(self, prim: Primitive, sample: Sample, active: Sequence[int] | None = None):
        self.prim, self.sample = prim, sample
        self.values = [np.asarray(x) for x in sample.operands]
        self.operands = [lift(x) for x in self.values]
        self.active = tuple(range(len(self.operands)) if active is None else active)
        self.args = tuple(self.operands[i] for i in self.active)
        self.avals = results(prim, prim.abstract_eval(self.operands, sample.params))
        self.floating = [i for i, aval in enumerate(self.avals) if dtypes.is_inexact(aval.dtype)]
        self.__name__ = prim.name
        self.__signature__ = inspect.Signature(
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in self.names()]
        )

    def names(self) -> list[str]:
        """What messages call the operands."""
        signature = getattr(self.prim, "signature", None)
        own = signature and signature.operands
        return [own[i] if own else f"operand_{i}" for i in self.active]

    def __call__(self, *args: Any) -> Any:
        given = dict(zip(self.active, args))
        # differences of a float32 function are taken in float64: what is held follows
        wider = {was.dtype: now.dtype for was, now in zip(self.args, args) if was.dtype != now.dtype}
        held = [convert_element_type(x, wider[x.dtype]) if x.dtype in wider else x for x in self.operands]
        out = self.prim.bind(*[given.get(i, x) for i, x in enumerate(held)], **self.sample.params)
        return tuple(out) if self.prim.multiple_results else out

    def inexact(self, *args: Any) -> tuple[Array, ...]:
        """The floating results."""
        outs = results(self.prim, self(*args))
        return tuple(outs[i] for i in self.floating)

    def directions(self, seed: int) -> tuple[Array, ...]:
        """A random tangent for each operand."""
        return tuple(_normal([x.aval for x in self.args], seed))

    def cotangents(self, seed: int) -> tuple[Array, ...]:
        """A random cotangent for each floating result."""
        return tuple(_normal([self.avals[i] for i in self.floating], seed + 1))


def results(prim: Primitive, out: Any) -> list[Any]:
    """What a rule returned, or binding, as a list."""
    return list(out) if prim.multiple_results else [out]


def _normal(avals: Sequence[ShapedArray], seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [lift(rng.standard_normal(a.shape).astype(a.dtype)) for a in avals]


def cotangents_of(f: Callable[..., Any]) -> Callable[..., Any]:
    """f's pullback, as a function of cotangents and of the point."""

    def cotangents(cts, *xs):
        return autodiff.vjp(f, *xs)[1](cts)

    return cotangents


def tangents_of(f: Callable[..., Any]) -> Callable[..., Any]:
    """f's pushforward, as a function of tangents and of the point."""

    def tangents(ts, *xs):
        return autodiff.jvp(f, xs, ts)[1]

    return tangents


# --- what a sample allows --------------------------------------------------------------------------------------------
@contextmanager
def unless_scipy_is_missing(sample: Sample, *what: str) -> Iterator[None]:
    """Without SciPy, what needs it says so."""
    if SCIPY or sample.scipy not in what:
        yield
        return
    try:
        yield
    except MissingDependencyError as error:
        check_message(error, "needs SciPy, got none installed")
    else:
        raise AssertionError("what needs SciPy must say so where there is none, got a result.")


def differentiable(sample: Sample) -> list[int]:
    """The operands in which there may be a derivative."""
    return [i for i, x in enumerate(sample.operands) if dtypes.is_inexact(x.dtype) and i not in sample.refused]


def has_derivatives(prim: Primitive, sample: Sample) -> bool:
    """Whether there is a rule, and an operand for it."""
    return bool(differentiable(sample)) and not isinstance(prim.jvp, Unfilled)


def has_reverse(prim: Primitive, sample: Sample) -> bool:
    """Whether its derivatives can be transposed: they can if they are made of others, or it has a rule for it."""
    return not sample.forward_only and not (linear_groups(prim, sample) and isinstance(prim.transpose, Unfilled))


def linear_groups(prim: Primitive, sample: Sample) -> tuple[tuple[int, ...], ...]:
    """Groups of operands in which the primitive is linear together, the others being held."""
    if sample.linear is not None:
        return sample.linear
    if sample.slope != "smooth":  # linear but for rounding
        return ()
    floating = tuple(differentiable(sample))
    if isinstance(prim, Extension) and prim.linear:
        return tuple(g for g in prim.linear if set(g) <= set(floating))
    if isinstance(prim.jvp, Linear):
        return (floating,)
    return tuple((i,) for i in floating) if isinstance(prim.jvp, Bilinear) else ()


def linear_in(call: Call) -> bool | tuple[int, ...]:
    """What `check_jvp` calls linear: all arguments together, or the numbers of some, each by itself."""
    groups = [set(g) for g in linear_groups(call.prim, call.sample)]
    if any(g >= set(call.active) for g in groups):
        return True
    return tuple(k for k, i in enumerate(call.active) if any(i in g for g in groups))


def variants(sample: Sample) -> list[tuple[Sample, list[list[int]]]]:
    """The sample, with all its differentiable operands together and each alone; in float32, if it may be, with all."""
    every = differentiable(sample)
    found = [(sample, [every, *([i] for i in every)] if len(every) > 1 else [every])]
    if "f" in sample.kinds and any(x.dtype == np.float64 for x in sample.operands):
        found.append((sample._replace(operands=sample.cast(np.float32)), [every]))
    return found


def check_message(error: Exception, message: str) -> None:
    """The error says so."""
    if message not in str(error):
        raise AssertionError(f"the error must say {message!r}, got {error!s}.")
