"""fgrad: composable function transformations on NumPy and Numba, with a derived convolution at their heart."""

from fgrad import config, errors, lax, nn, numpy, optim, random, tree
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

__version__ = "0.1.0.dev0"

__all__ = [
    "Array",
    "ClosedJaxpr",
    "ShapeDtypeStruct",
    "bfloat16",
    "config",
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
