"""Operators and methods of Array: each is the function of the same name.

``attach`` puts them on the class when fgrad.numpy is imported, so that ``x + y`` and ``fgrad.numpy.add(x, y)`` are one
thing for arrays and tracers alike.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array
from fgrad.numpy import contraction, indexing, joining, logic, reductions, shaping, sorting, ufuncs
from fgrad.numpy.at import At
from fgrad.numpy.creation import diagonal

_OPERANDS = (Array, float, int, np.ndarray, np.generic, bool, complex)

_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": ufuncs.add,
    "sub": ufuncs.subtract,
    "mul": ufuncs.multiply,
    "truediv": ufuncs.true_divide,
    "floordiv": ufuncs.floor_divide,
    "mod": ufuncs.remainder,
    "divmod": ufuncs.divmod,
    "pow": ufuncs.power,
    "matmul": contraction.matmul,
    "and": logic.bitwise_and,
    "or": logic.bitwise_or,
    "xor": logic.bitwise_xor,
    "lshift": logic.left_shift,
    "rshift": logic.right_shift,
}
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": logic.equal,
    "ne": logic.not_equal,
    "lt": logic.less,
    "le": logic.less_equal,
    "gt": logic.greater,
    "ge": logic.greater_equal,
}
_UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": ufuncs.negative,
    "pos": ufuncs.positive,
    "abs": ufuncs.absolute,
    "invert": logic.bitwise_not,
}


def _forward(fun: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def operator(self: Array, other: Any) -> Any:
        return fun(self, other) if isinstance(other, _OPERANDS) else NotImplemented

    return operator


def _reflected(fun: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def operator(self: Array, other: Any) -> Any:
        return fun(other, self) if isinstance(other, _OPERANDS) else NotImplemented

    return operator


def _getitem(self: Array, index: Any) -> Array:
    return indexing.getitem(self, index)


def _setitem(self: Array, index: Any, value: Any) -> None:
    raise TypeError(
        f"setitem: an Array never changes, got an assignment to x[{index!r}] of {self.aval}. "
        "Use x = x.at[index].set(value)."
    )


def _len(self: Array) -> int:
    if not self.shape:
        raise TypeError(f"len: a scalar has no length, got {self.aval}. Use x.size.")
    return self.shape[0]


def _iter(self: Array) -> Iterator[Array]:
    if not self.shape:
        raise TypeError(f"iter: a scalar has no elements to go through, got {self.aval}. Use x.reshape(-1).")
    return (indexing.getitem(self, i) for i in range(self.shape[0]))


def _contains(self: Array, value: Any) -> bool:
    return bool(reductions.any(logic.equal(self, value)))


def _reshape(self: Array, *shape: Any, order: str = "C") -> Array:
    return shaping.reshape(self, shape[0] if len(shape) == 1 else shape, order)


def _transpose(self: Array, *axes: Any) -> Array:
    if not axes or (len(axes) == 1 and axes[0] is None):
        return shaping.transpose(self)
    return shaping.transpose(self, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes)


def _astype(self: Array, dtype: Any, copy: bool = True) -> Array:
    """In another dtype; floats become integers towards zero, saturating."""
    target = dtypes.canonical(dtype)
    if target == dtypes.bool_:
        return logic.as_bool("astype", self)
    return lax.convert_element_type(self, target)


def _view(self: Array, dtype: Any) -> Array:
    """The same bits as another dtype of the same size."""
    return lax.bitcast_convert_type(self, dtypes.canonical(dtype))


def _namespace(self: Array, /, *, api_version: str | None = None) -> Any:
    return importlib.import_module("fgrad.numpy")


def _new_result(name: str, fun: Callable[..., Any]) -> Callable[..., Any]:
    """``fun`` as a method that NumPy's function of the same name can call: ``np.sum(x)`` is ``x.sum(out=None)``."""

    @functools.wraps(fun)
    def method(self: Array, *args: Any, out: None = None, **kwargs: Any) -> Array:
        if out is not None:
            raise TypeError(f"{name}: results are new arrays, got out={out!r}. Leave it out and use what is returned.")
        return fun(self, *args, **kwargs)

    return method


_METHODS: dict[str, Callable[..., Any]] = {
    "__getitem__": _getitem,
    "__setitem__": _setitem,
    "__len__": _len,
    "__iter__": _iter,
    "__contains__": _contains,
    "__round__": ufuncs.round,
    "__array_namespace__": _namespace,
    "astype": _astype,
    "view": _view,
    "reshape": _reshape,
    "transpose": _transpose,
    "ravel": shaping.ravel,
    "flatten": shaping.ravel,
    "swapaxes": shaping.swapaxes,
    "squeeze": shaping.squeeze,
    "copy": ufuncs.positive,
    "nonzero": logic.nonzero,
    "dot": contraction.dot,
    "trace": contraction.trace,
    "diagonal": diagonal,
    "take": indexing.take,
    "repeat": joining.repeat,
    "sort": sorting.sort,
    "argsort": sorting.argsort,
    "searchsorted": sorting.searchsorted,
}

_NEW_RESULTS: dict[str, Callable[..., Any]] = {
    "sum": reductions.sum,
    "prod": reductions.prod,
    "mean": reductions.mean,
    "var": reductions.var,
    "std": reductions.std,
    "max": reductions.max,
    "min": reductions.min,
    "ptp": reductions.ptp,
    "all": reductions.all,
    "any": reductions.any,
    "argmax": reductions.argmax,
    "argmin": reductions.argmin,
    "cumsum": reductions.cumsum,
    "cumprod": reductions.cumprod,
    "clip": logic.clip,
    "round": ufuncs.round,
}

_PROPERTIES: dict[str, Callable[[Any], Any]] = {"T": shaping.transpose, "mT": shaping.matrix_transpose, "at": At}


def attach() -> None:
    """Puts the operators and methods on Array."""
    for name, fun in _BINARY.items():
        setattr(Array, f"__{name}__", _forward(fun))
        setattr(Array, f"__r{name}__", _reflected(fun))
    for name, fun in _COMPARISONS.items():
        setattr(Array, f"__{name}__", _forward(fun))
    for name, unary in _UNARY.items():
        setattr(Array, f"__{name}__", lambda self, fun=unary: fun(self))
    for name, method in _METHODS.items():
        if method.__name__.startswith("_"):  # what Python calls it in errors about arguments
            method.__name__, method.__qualname__ = name, f"Array.{name}"
        setattr(Array, name, method)
    for name, fun in _NEW_RESULTS.items():
        setattr(Array, name, _new_result(name, fun))
    for name, getter in _PROPERTIES.items():
        setattr(Array, name, property(getter))
