"""Every exception fgrad raises on purpose beyond plain TypeError and ValueError.

Messages read ``<op>: <constraint>, got <values> (<arithmetic>). <what to do>`` and are raised at trace time.
"""

from __future__ import annotations

import os
import sys
from types import FrameType

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


class DonatedArrayError(FgradError, RuntimeError):
    """An array was read after its memory had been given away through ``donate_argnums``."""


class UnhashableStaticError(FgradError, ValueError):
    """An argument marked static cannot be hashed, so compiled programs cannot be looked up by it."""


class TreeMismatchError(FgradError, ValueError):
    """Two pytrees that must have the same structure differ; the message names the first path where they do."""


class MissingBackendError(FgradError, NotImplementedError):
    """A primitive's slot for a backend or a transformation is empty; the message gives the recorded reason."""


class JaxprTypeError(FgradError, TypeError):
    """A jaxpr violates the typing rules: a bug in fgrad or in a user's own primitive, never in a user's function."""


class MissingDependencyError(FgradError, ImportError):
    """A function needs an optional package; the message names the extra to install."""
