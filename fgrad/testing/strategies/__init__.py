"""Hypothesis strategies for arrays, for valid calls of the functions of ``fgrad.lax``, and for programs made of them.

A strategy whose name ends in ``_problems`` draws a ``Problem``: a public function, operands and options that fit each
other by construction.  ``problem.f`` and ``problem.operands`` are what the checks of ``fgrad.testing`` take, and its
``repr`` is a program that repeats the call.  Values are apart from each other and from 0, so that differences are a
fair judge of derivatives; everything shrinks to small shapes that hold 1, 2, 3, ... or 0.25, 0.5, 0.75, ...
"""

import importlib.util

from fgrad.errors import MissingDependencyError

if importlib.util.find_spec("hypothesis") is None:
    raise MissingDependencyError(
        "fgrad.testing.strategies: needs Hypothesis, got none installed. Run: pip install 'fgrad[testing]'."
    )

from fgrad.testing.strategies.basic import arrays, axes, dtypes, pytrees, shapes
from fgrad.testing.strategies.contractions import dot_general_problems
from fgrad.testing.strategies.convolution import conv_problems, conv_transpose_problems
from fgrad.testing.strategies.elementwise import elementwise_problems, select_problems
from fgrad.testing.strategies.indexing import dynamic_slice_problems, gather_problems, scatter_problems
from fgrad.testing.strategies.movement import (
    broadcast_problems,
    concatenate_problems,
    dilate_problems,
    pad_problems,
    reshape_problems,
    rev_problems,
    slice_problems,
    transpose_problems,
)
from fgrad.testing.strategies.programs import programs, random_program
from fgrad.testing.strategies.reductions import cumulative_problems, reduction_problems, sort_problems
from fgrad.testing.strategies.samples import samples
from fgrad.testing.strategies.windows import reduce_window_problems

__all__ = [
    # what problems are made of
    "arrays",
    "axes",
    "dtypes",
    "pytrees",
    "shapes",
    # calls of one function
    "broadcast_problems",
    "concatenate_problems",
    "conv_problems",
    "conv_transpose_problems",
    "cumulative_problems",
    "dilate_problems",
    "dot_general_problems",
    "dynamic_slice_problems",
    "elementwise_problems",
    "gather_problems",
    "pad_problems",
    "reduce_window_problems",
    "reduction_problems",
    "reshape_problems",
    "rev_problems",
    "scatter_problems",
    "select_problems",
    "slice_problems",
    "sort_problems",
    "transpose_problems",
    # calls of one primitive
    "samples",
    # whole programs
    "programs",
    "random_program",
]
