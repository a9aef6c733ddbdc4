"""Whole random, well-typed programs, as a Hypothesis strategy and from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from fgrad.testing.strategies.programs_control import BODIES
from fgrad.testing.strategies.programs_steps import simple_step
from fgrad.testing.strategies.programs_text import Program, Type, is_float, numpy_dtype
from fgrad.testing.strategies.programs_writer import SHAPES, Chooser, Options, Writer

DTYPES = ("float32", "int32", "float64", "bool")


def programs(
    dtypes: Sequence[str] = DTYPES,
    *,
    control_flow: bool = True,
    differentiable: bool = False,
    modes: Sequence[str] = ("fwd", "rev"),
    max_steps: int = 16,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
    calls: Sequence[str] = (),
) -> st.SearchStrategy[Program]:
    """Random programs: compositions of element-wise operations, broadcasting, views, reductions, products,
    convolutions, windows, indexing, sorting and casts, with loops and branches, jit, vmap, checkpoint and custom rules.

    A program has one to four arguments and returns a tuple of one to four arrays.  Floats stay of order one and depend
    continuously on the arguments, so two ways to evaluate a program differ by rounding; integers and booleans agree
    exactly.  ``repr(program)`` runs, and a failing program shrinks to the few steps that matter.

    Args:
        dtypes: names of the dtypes of arguments and casts.
        control_flow: with scan, fori_loop, while_loop, cond and switch.
        differentiable: smooth in its floating-point arguments, of which there is one at least.
        modes: if differentiable: the modes that must work.  Without "rev" there are loops of unknown length, without
            "fwd" custom_vjp.
        max_steps: steps in all bodies together.
        shapes: of the arguments.
        calls: names of functions that a program calls on values as ``name(x, k)``, k an integer, to get an array of
            x's type; ``program.bind(name=...)`` says what they are.

    Raises:
        TypeError: a dtype without a name that NumPy or ml_dtypes knows.
        ValueError: nothing to choose from, a mode that is none, or a differentiable program without floats.

    Source: https://hypothesis.readthedocs.io/en/latest/reference/strategies.html#hypothesis.strategies.composite.

    >>> from hypothesis import given
    >>> import fgrad, numpy as np
    >>> from fgrad.testing.strategies import programs
    >>> @given(programs(("float64",), max_steps=3))
    ... def test_jit(program):
    ...     for a, b in zip(program.f(*program.args), fgrad.jit(program.f)(*program.args)):
    ...         np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    """
    options = _options(dtypes, control_flow, differentiable, modes, max_steps, shapes, calls)
    return _drawn_program(options)


def random_program(
    rnd: Chooser,
    dtypes: Sequence[str] = DTYPES,
    *,
    control_flow: bool = True,
    differentiable: bool = False,
    modes: Sequence[str] = ("fwd", "rev"),
    max_steps: int = 16,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
    calls: Sequence[str] = (),
) -> Program:
    """A program as of ``programs``, made by ``rnd``, a random.Random: the same one for the same seed.

    >>> import random
    >>> from fgrad.testing.strategies import random_program
    >>> str(random_program(random.Random(5))) == str(random_program(random.Random(5)))
    True
    """
    return _written(rnd, _options(dtypes, control_flow, differentiable, modes, max_steps, shapes, calls))


def _written(rnd: Chooser, options: Options) -> Program:
    return Writer(rnd, options, simple_step, [write for write, allowed in BODIES if allowed(options)]).program()


def _options(
    dtypes: Sequence[str],
    control_flow: bool,
    differentiable: bool,
    modes: Sequence[str],
    max_steps: int,
    shapes: Sequence[tuple[int, ...]],
    calls: Sequence[str],
) -> Options:
    names = []
    for d in dtypes:
        try:
            names.append(numpy_dtype(d).name)
        except TypeError as error:
            raise TypeError(
                f"programs: dtypes must be names of dtypes, got {d!r}. Use 'float32', 'int32', ..."
            ) from error
    if not names or not shapes:
        raise ValueError(f"programs: needs a dtype and a shape, got {dtypes=} and {shapes=}. Name one of each.")
    if max_steps < 1:
        raise ValueError(f"programs: max_steps must be at least 1, got {max_steps}. A program has a step.")
    if not modes or set(modes) - {"fwd", "rev"}:
        raise ValueError(f"programs: modes must be some of 'fwd' and 'rev', got {modes!r}. Name one or both.")
    floats = tuple(d for d in names if is_float(Type(d, ())))
    if differentiable and not floats:
        raise ValueError(f"programs: a differentiable program needs floats, got {dtypes=}. Add 'float32'.")
    return Options(
        tuple(names), control_flow, differentiable, tuple(modes), max_steps, tuple(map(tuple, shapes)), tuple(calls)
    )


class _Draws:
    """A chooser whose choices Hypothesis draws, and so shrinks: to the first of a sequence, to the smallest number."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def choice(self, seq: Sequence[Any]) -> Any:
        return seq[self.randint(0, len(seq) - 1)]

    def randint(self, a: int, b: int) -> int:
        return self.draw(st.integers(a, b))


@st.composite
def _drawn_program(draw: st.DrawFn, options: Options) -> Program:
    return _written(_Draws(draw), options)
