"""fgrad: composable function transformations on NumPy and Numba, with a derived convolution at their heart."""

import importlib
from typing import TYPE_CHECKING, Any

from fgrad import config, errors, lax, numpy, tree, tree_util
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
from fgrad.core.caches import CacheInfo, cache_info, clear_caches
from fgrad.core.dtypes import bfloat16, float0
from fgrad.core.jaxpr import ClosedJaxpr
from fgrad.higher_order import checkpoint_policies
from fgrad.higher_order.callbacks import pure_callback
from fgrad.higher_order.checkpoint import checkpoint, remat
from fgrad.higher_order.closure_convert import closure_convert
from fgrad.higher_order.custom_jvp import custom_jvp
from fgrad.higher_order.custom_vjp import custom_vjp
from fgrad.jacobians import hessian, jacfwd, jacobian, jacrev
from fgrad.lax import stop_gradient

if TYPE_CHECKING:
    from fgrad import ad_checkpoint, datasets, debug, extend, nn, optim, random, testing
    from fgrad.debug import check_tracer_leaks, checking_leaks, debug_infs, debug_nans

__version__ = "0.1.0.dev0"

__all__ = [
    "Array",
    "CacheInfo",
    "ClosedJaxpr",
    "ShapeDtypeStruct",
    "ad_checkpoint",
    "bfloat16",
    "cache_info",
    "check_tracer_leaks",
    "checking_leaks",
    "checkpoint",
    "checkpoint_policies",
    "clear_caches",
    "closure_convert",
    "config",
    "custom_jvp",
    "custom_vjp",
    "datasets",
    "debug",
    "debug_infs",
    "debug_nans",
    "errors",
    "eval_shape",
    "extend",
    "float0",
    "grad",
    "hessian",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jit",
    "jvp",
    "lax",
    "linear_transpose",
    "linearize",
    "make_jaxpr",
    "nn",
    "numpy",
    "optim",
    "pure_callback",
    "random",
    "remat",
    "stop_gradient",
    "testing",
    "tree",
    "tree_util",
    "value_and_grad",
    "vjp",
    "vmap",
]

_OF_DEBUG = ("check_tracer_leaks", "checking_leaks", "debug_infs", "debug_nans")
_ON_FIRST_USE = ("ad_checkpoint", "datasets", "debug", "extend", "nn", "optim", "random", "testing")


def __getattr__(name: str) -> Any:
    """Modules that a program may never use are loaded when it names them, or something of theirs."""
    if name in _OF_DEBUG:
        return getattr(importlib.import_module("fgrad.debug"), name)
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"fgrad.{name}")
    raise AttributeError(f"module 'fgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
