"""Calls of NumPy without its warnings of overflow, division by zero and the like."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Any

import numpy as np


class _Quiet(threading.local):
    """Each thread's context in which NumPy reports no floating-point errors: entering it costs a tenth of errstate."""

    def __init__(self) -> None:
        context = contextvars.Context()
        context.run(np.seterr, all="ignore")
        self.run = context.run


_quiet = _Quiet()
_DIRECT = (np.ufunc, BuiltinFunctionType)


def quietly(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """fun(*args) without the warnings; ``fun`` is quickest if it is a ufunc or a method of one."""
    if type(fun) in _DIRECT:
        try:
            return _quiet.run(fun, *args, **kwargs)
        except RuntimeError:  # the context is in use: this is a finaliser that runs inside another ufunc's call
            pass
    with np.errstate(all="ignore"):
        return fun(*args, **kwargs)
