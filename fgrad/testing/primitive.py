"""check_primitive: all the laws that a primitive's rules should obey, on samples of its operands."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, get_args

import numpy as np

from fgrad.core.array import Array
from fgrad.core.primitive import REGISTRY, Primitive
from fgrad.extend.primitive import Primitive as Extension
from fgrad.extend.primitive import defined
from fgrad.testing.call import Call
from fgrad.testing.laws import DTYPES, LAWS
from fgrad.testing.report import NonSmoothPointError
from fgrad.testing.sample import Sample, Slope
from fgrad.testing.samples import table


def check_primitive(
    p: Primitive | str,
    samples: Iterable[Sample | Sequence[Any]] | None = None,
    *,
    laws: Sequence[str] | None = None,
    seed: int = 0,
) -> None:
    """Checks the rules of a primitive against each other, against differences and against its NumPy function.

    ============  ===========================================================================================
    law           at each sample
    ============  ===========================================================================================
    "types"       one shape and dtype by the abstract rule, NumPy, eager evaluation and staging
    "values"      one value by NumPy, eager evaluation (on strided operands, too) and every backend
    "tangents"    forward mode = differences, in all operands and in each alone; in float32 too
    "adjoints"    ⟨f'(x) t, y⟩ = ⟨t, f'(x)ᵀ y⟩: forward and reverse mode are one map; so is each declared linear
    "linear"      what is declared linear is
    "second"      second derivatives: forward over reverse = reverse over forward = differences
    "batching"    vmap = the loop, over every axis of each operand, with 3, 1 and 0 examples
    "batched"     vmap of the derivative = derivative of vmap = the loop
    "jit"         jit of the derivative = derivative of jit = the derivative
    ============  ===========================================================================================

    A law is asked where the primitive has the rules for it: without a transpose, for example, there is no reverse mode
    of what is linear.  A rule that is ``Unfilled`` must say so when it is needed.

    Args:
        p: what ``fgrad.extend.elementwise`` or ``primitive`` returned, an ``fgrad.extend.Primitive``, or the name of
            one, also of fgrad's own.
        samples: each a tuple of operands, or a ``Sample`` with parameters and what may be asked there; float64 where
            derivatives are to be compared with differences.  Include the corners: sizes 0 and 1, scalars, ties.
            Default: fgrad's own samples, for fgrad's own primitives.
        laws: which; default: all.
        seed: of random directions.

    Raises:
        AssertionError: a law does not hold, or a rule raised an error; the message names the primitive, the law and the
            sample, and what differs.
        NonSmoothPointError: (an AssertionError) the primitive has a kink or a jump at a sample whose ``slope`` does
            not say so.
        TypeError, ValueError: no such primitive or law, no samples, or operands that the primitive does not take.

    Source: JAX tests its rules so in https://github.com/jax-ml/jax/blob/main/tests/lax_autodiff_test.py; here it is for
    everybody's.

    >>> import numpy as np
    >>> from fgrad import extend
    >>> from fgrad.testing import Sample, check_primitive
    >>> square = extend.elementwise("demo.square", numpy=lambda x: x * x, derivatives=lambda t, ans, x: t * x)
    >>> check_primitive(square, [(np.array([1.0, 2.0]),)])
    Traceback (most recent call last):
        ...
    AssertionError: check_primitive: demo.square breaks the law 'tangents' at sample 0, (float64[2]).
    check_jvp: the tangent of result for a change of argument 'x' at index (1,) differs at index (1,).
      jvp:         2.0
      differences: 4.0...
    >>> square = extend.elementwise("demo.square", numpy=lambda x: x * x, derivatives=lambda t, ans, x: 2 * t * x)
    >>> check_primitive(square, [(np.array([1.0, 2.0]),), Sample((np.zeros((0, 2)),), kinds="f")])
    >>> check_primitive("conv_general_dilated", laws=["types"])
    """
    prim = _primitive(p)
    chosen = _chosen(laws)
    for i, sample in enumerate(_samples(prim, samples)):
        for law in chosen:
            _ask(law, prim, sample, i, seed)


def _ask(law: str, prim: Primitive, sample: Sample, i: int, seed: int) -> None:
    at = f"check_primitive: {prim.name} breaks the law {law!r} at sample {i}, {_shown(sample)}."
    try:
        LAWS[law](prim, sample, seed=seed)
    except NonSmoothPointError as error:
        raise NonSmoothPointError(
            f"check_primitive: {prim.name} at sample {i}, {_shown(sample)}, law {law!r}:\n{error}\n"
            'If the sample is meant to be there, say Sample(..., slope="kink").'
        ) from error
    except AssertionError as error:
        raise AssertionError(f"{at}\n{error}") from error
    except Exception as error:  # a rule that raises breaks the law, whatever it raises
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        raise AssertionError(f"{at}\n{type(error).__name__}: {error}{notes}") from error


def _shown(sample: Sample) -> str:
    operands = ", ".join(f"{x.dtype}{list(x.shape)}" for x in sample.operands)
    return f"({operands})" + (f" with {sample.params}" if sample.params else "")


# --- what was asked for ----------------------------------------------------------------------------------------------
def _primitive(p: Any) -> Primitive:
    if isinstance(p, Primitive):
        return p
    if not isinstance(p, str):
        raise TypeError(
            f"check_primitive: p must be a primitive or the name of one, got {p!r} of type {type(p).__name__}. Pass "
            "what fgrad.extend.primitive returned; check_vjp and the others take any function."
        )
    known = REGISTRY | defined()
    if p not in known:
        close = difflib.get_close_matches(p, known, 3)
        raise ValueError(
            f"check_primitive: p must be the name of a primitive, got {p!r}. "
            + (f"Did you mean {' or '.join(map(repr, close))}?" if close else "Pass the primitive itself.")
        )
    return known[p]


def _chosen(laws: Any) -> list[str]:
    if laws is None:
        return list(LAWS)
    if isinstance(laws, str) or not isinstance(laws, Iterable):
        raise TypeError(f"check_primitive: laws must be a list of names, got {laws!r}. Write [{laws!r}].")
    found = list(laws)
    for law in found:
        if law not in LAWS:
            raise ValueError(f"check_primitive: laws must be among {', '.join(LAWS)}, got {law!r}. Choose of these.")
    return found


def _samples(prim: Primitive, samples: Any) -> list[Sample]:
    if samples is None:
        own = table().get(prim.name, []) if REGISTRY.get(prim.name) is prim else []
        if not own:
            raise ValueError(
                f"check_primitive: {prim.name} must be given samples, got none. Pass operands to try it on: "
                f"check_primitive(p, [(x, y), Sample((x, y), {{'parameter': 1}})])."
            )
        return own
    if isinstance(samples, (Sample, np.ndarray, Array)) or not isinstance(samples, Iterable):
        raise TypeError(
            f"check_primitive: samples must be a list of tuples of operands, or of Samples, got "
            f"{type(samples).__name__}. Write [sample]."
        )
    return [_prepared(prim, sample, i) for i, sample in enumerate(samples)]


def _prepared(prim: Primitive, given: Any, i: int) -> Sample:
    """A user's sample: its operands are arrays, which the primitive takes, and its parameters are complete."""
    if not isinstance(given, (tuple, list)):
        raise TypeError(
            f"check_primitive: samples must be tuples of operands, or Samples, got {type(given).__name__} as sample "
            f"{i}. Write (x,) for one operand."
        )
    sample = given if isinstance(given, Sample) else Sample(tuple(given))
    xs = [np.asarray(x) for x in sample.operands]
    for k, x in enumerate(xs):
        if x.dtype.kind == "c":
            raise TypeError(
                f"check_primitive: operands must be real, got {x.dtype} as operand {k} of sample {i}. Check the real "
                "and imaginary parts of a complex function as functions of real arrays, with check_vjp."
            )
    _check_words(sample, i)
    params = sample.params
    try:
        if isinstance(prim, Extension):
            params = prim.signature.complete(prim.name, len(xs), params)
            xs = [np.asarray(x) for x in prim.operands(xs)]
        sample = sample._replace(operands=tuple(xs), params=params)
        Call(prim, sample)
        for kind in sample.kinds:
            for dtype in DTYPES[kind]:
                xs = list(sample.cast(dtype))
                Call(prim, sample._replace(operands=tuple(xs)))
    except Exception as error:
        wrong = TypeError if isinstance(error, TypeError) else ValueError
        raise wrong(
            f"check_primitive: sample {i} must be a call that {prim.name} accepts, got "
            f"{_shown(Sample(tuple(xs), params))} ({error}). Change the sample, or the abstract rule."
        ) from error
    return sample


def _check_words(sample: Sample, i: int) -> None:
    """What the sample says has a meaning, and the operands that it speaks of are there."""
    for name, allowed, given in (("kinds", "".join(DTYPES), sample.kinds), ("slope", get_args(Slope), [sample.slope])):
        for word in given:
            if word not in allowed:
                raise ValueError(
                    f"check_primitive: {name} must be of {', '.join(allowed)}, got {word!r} in sample {i}. See Sample."
                )
    n = len(sample.operands)
    groups = {"refused": sample.refused, "once": sample.once, "linear": [k for g in sample.linear or () for k in g]}
    for name, numbers in groups.items():
        for k in numbers:
            if not 0 <= k < n:
                raise ValueError(
                    f"check_primitive: {name} must hold numbers of operands, 0 to {n - 1}, got {k} in sample {i}. "
                    "Count operands from 0."
                )
