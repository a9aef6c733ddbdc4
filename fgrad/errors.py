"""Every exception fgrad raises on purpose beyond plain TypeError and ValueError.

Messages read ``<op>: <constraint>, got <values> (<arithmetic>). <what to do>`` and are raised at trace time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_USER_LIKE = (os.path.join(_PACKAGE, "testing") + os.sep,)


def user_location() -> str:
    """``file.py:12 (function)`` of the innermost frame outside fgrad: the user's own line."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_PACKAGE) or name.startswith(_USER_LIKE):
            return f"{name}:{frame.f_lineno} ({frame.f_code.co_name})"
        frame = frame.f_back
    return "<unknown line>"


class FgradError(Exception):
    """Base of fgrad's own exceptions."""


class ConfigError(FgradError, ValueError):
    """A setting or environment variable has a value it cannot have."""


class ConcretizationError(FgradError, TypeError):
    """Python asked a tracer for its value: ``bool(x)``, ``int(x)``, ``np.asarray(x)`` inside a transformation.

    Under ``jit``, ``vmap``, ``grad`` or ``make_jaxpr`` an argument stands for every array of its shape and dtype,
    so it has no value to branch on or to hand to NumPy.  Use ``fgrad.numpy.where`` or ``fgrad.lax.select`` in place
    of ``if``, fgrad's functions in place of NumPy's, or mark the argument static (``jit(f, static_argnums=...)``).
    """


class EscapedTracerError(FgradError, RuntimeError):
    """A tracer was used after its function had returned, or in a transformation it does not belong to.

    It was kept by a side effect (a global, an attribute, a closure, a generator).  Return the value instead.
    """

    tracer = ""  # what it is and where it was used, in words


class ClosedOverTracerError(EscapedTracerError):
    """A function with a custom derivative, or one of its rules, closes over a value that a transformation traces.

    The rules say nothing of that value's derivative, and they run where it has no meaning.  Pass it as an argument;
    :func:`fgrad.closure_convert` finds such values in a function you were given.
    """


class DonatedArrayError(FgradError, RuntimeError):
    """An array was read after its memory had been given away through ``donate_argnums``."""


class UnhashableStaticError(FgradError, ValueError):
    """An argument marked static cannot be hashed, so compiled programs cannot be looked up by it."""


class TreeMismatchError(FgradError, ValueError):
    """Two pytrees that must have the same structure differ; the message names the first path where they do."""


class UnboundAxisError(FgradError, NameError):
    """A collective (``lax.psum``, ``lax.axis_index``, ...) names an axis that no enclosing ``vmap`` has.

    Give the axis a name where it is mapped: ``vmap(f, axis_name="batch")``.
    """


class MissingRuleError(FgradError, AttributeError):
    """A ``custom_jvp`` or ``custom_vjp`` function was called before its rule was set (``defjvp``, ``defvjp``)."""


class ForwardModeError(FgradError, TypeError):
    """Forward mode (``jvp``, ``jacfwd``) met a ``custom_vjp`` function, whose rules give cotangents only.

    Use reverse mode, or write the rule as a ``custom_jvp``, which serves both modes.
    """


class MissingBackendError(FgradError, NotImplementedError):
    """A primitive's slot for a backend or a transformation is empty; the message gives the recorded reason."""


class JaxprTypeError(FgradError, TypeError):
    """A jaxpr violates the typing rules: a bug in fgrad or in a user's own primitive, never in a user's function."""


class ReverseModeError(FgradError, ValueError):
    """Reverse mode (``grad``, ``vjp``) met a ``lax.while_loop``, whose number of steps is not known beforehand.

    Use ``lax.scan``, or ``lax.fori_loop`` with bounds that are Python ints, give the loop a derivative of its own with
    ``custom_vjp``, or use forward mode.
    """


class NonFiniteError(FgradError, FloatingPointError):
    """An operation made a NaN or an infinity under ``fgrad.debug.check_finite``, ``debug_nans`` or ``debug_infs``.

    The message names the operation, the user's line (in the backward pass: the line of the forward operation that is
    being transposed), where in loops and calls it ran, and its operands.

    Attributes:
        operands, results: the operation's Arrays.
        source: the user's line, with ``file``, ``line``, ``function`` and ``backward``.
    """

    def __init__(self, message: str, operands: Sequence[Any] = (), results: Sequence[Any] = (), source: Any = None):
        super().__init__(message)
        self.operands = tuple(operands)
        self.results = tuple(results)
        self.source = source


class LeakedTracerError(FgradError, RuntimeError):
    """Under ``fgrad.debug.check_tracer_leaks``: a function that was traced has stored a tracer somewhere.

    The message names the tracer, the line that made it and who holds it. Return the value from the function instead.
    """


class MissingDependencyError(FgradError, ImportError):
    """A function needs an optional package; the message names the extra to install."""
