"""fgrad: composable function transformations on NumPy and Numba, with a derived convolution at their heart."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from fgrad import config, errors, lax, numpy, tree
from fgrad.api import (
    ShapeDtypeStruct,
    eval_shape,
    grad,
    jit,
    jvp,
    linear_transpose,
    linearize,
    make_jaxpr,
    value_and_grad,
    vjp,
    vmap,
)
from fgrad.core.array import Array
from fgrad.core.dtypes import bfloat16, float0
from fgrad.core.jaxpr import ClosedJaxpr
from fgrad.lax import stop_gradient

if TYPE_CHECKING:
    from fgrad import datasets, nn, optim, random

__version__ = "0.1.0.dev0"

__all__ = [
    "Array",
    "ClosedJaxpr",
    "ShapeDtypeStruct",
    "bfloat16",
    "config",
    "datasets",
    "errors",
    "eval_shape",
    "float0",
    "grad",
    "jit",
    "jvp",
    "lax",
    "linear_transpose",
    "linearize",
    "make_jaxpr",
    "nn",
    "numpy",
    "optim",
    "random",
    "stop_gradient",
    "tree",
    "value_and_grad",
    "vjp",
    "vmap",
]

_ON_FIRST_USE = ("datasets", "nn", "optim", "random")


def __getattr__(name: str) -> ModuleType:
    """Modules that a program may never use are loaded when it names them."""
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"fgrad.{name}")
    raise AttributeError(f"module 'fgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
