"""What the functions of fgrad.lax share: operands, axes and shapes made canonical before a primitive sees them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.primitive import Primitive
from fgrad.core.static import items, static_int, static_ints
from fgrad.primitives.broadcast import full_from
from fgrad.primitives.convert import convert
from fgrad.primitives.define import DOMAINS

ArrayLike = Array | np.ndarray | np.generic | bool | int | float | complex


def promote_operands(name: str, *xs: ArrayLike) -> list[Array]:
    """Operands of one dtype and one shape.

    Python scalars and weak arrays take the dtype of the others where it can hold their kind; a strong array is never
    converted.  0-d operands are broadcast.  What still differs is for the primitive to refuse, under its own name.
    """
    arrays = promote_dtypes(name, *xs)
    if any([a.ndim != arrays[0].ndim for a in arrays[1:]]):
        shape = next(a.shape for a in arrays if a.ndim)
        arrays = [a if a.ndim else full_from(a, shape) for a in arrays]
    return arrays


def promote_dtypes(name: str, *xs: ArrayLike) -> list[Array]:
    """``promote_operands`` for operands whose shapes may differ: only dtypes are made to agree."""
    arrays = [lift(x, name) for x in xs]
    if any([a.dtype != arrays[0].dtype or a.weak_type != arrays[0].weak_type for a in arrays[1:]]):
        arrays = _with_common_dtype(arrays)
    return arrays


def _with_common_dtype(arrays: list[Array]) -> list[Array]:
    strong = {a.dtype for a in arrays if not a.weak_type}
    if not strong:
        dtype, _ = dtypes.promote(*((a.dtype, True) for a in arrays))
        return [convert(a, dtype, True) for a in arrays]
    if len(strong) > 1:
        return arrays
    (dtype,) = strong
    return [
        convert(a, dtype) if a.weak_type and dtypes.promote((dtype, False), (a.dtype, True))[0] == dtype else a
        for a in arrays
    ]


def canonical_axis(name: str, axis: Any, ndim: int) -> int:
    """The axis counted from 0; negative axes count from the end."""
    i = static_int(name, "axis must be integers", axis)
    if ndim == 0:
        raise ValueError(
            f"{name}: axis must name an axis of the operand, which is a scalar and has none, got {i}. Reshape it."
        )
    if not -ndim <= i < ndim:
        raise ValueError(
            f"{name}: axis must be in [{-ndim}, {ndim}) for an operand of {ndim} dimension{'s' * (ndim != 1)}, "
            f"got {i}. Change the axis."
        )
    return i + ndim if i < 0 else i


def canonical_axes(name: str, axes: Any, ndim: int) -> tuple[int, ...]:
    """Distinct axes counted from 0, in the order given; one integer is one axis."""
    elements = items(axes)
    given = (axes,) if elements is None else elements
    out = tuple([canonical_axis(name, a, ndim) for a in given])
    if len(set(out)) != len(out):
        raise ValueError(f"{name}: axes must be distinct, got {given} ({out} counted from 0). Name each axis once.")
    return out


def canonical_shape(name: str, shape: Any) -> tuple[int, ...]:
    """Sizes as Python integers; one integer is the shape of one axis.  A traced size raises ConcretizationError."""
    out = static_ints(name, "sizes must be integers", shape)
    if out and min(out) < 0:
        raise ValueError(f"{name}: sizes must not be negative, got {out}. Give sizes of at least 0.")
    return out


def unary(prim: Primitive, x: ArrayLike, **params: Any) -> Array:
    """prim(x)."""
    return prim.bind(lift(x, prim.name), **params)


def nary(prim: Primitive, *xs: ArrayLike, **params: Any) -> Array:
    """prim(*xs), of operands made to agree."""
    return prim.bind(*promote_operands(prim.name, *xs), **params)


F = TypeVar("F", bound=Callable[..., Any])


def documented(domain: str, result: str = "the same dtype") -> Callable[[F], F]:
    """Adds to an element-wise function's docstring what all of them share, above its example.

    ``domain`` is a key of ``fgrad.primitives.define.DOMAINS``; a function's operands are its annotated ArrayLike ones.
    """

    def complete(function: F) -> F:
        operands = [name for name, kind in function.__annotations__.items() if kind == "ArrayLike"]
        kinds, several = DOMAINS[domain][0], len(operands) > 1
        text, mark, example = inspect.cleandoc(function.__doc__ or "").partition(">>> ")
        lines = [text.rstrip(), "", "Args:"]
        lines += [f"    {name}: array [*shape] or scalar; {kinds}." for name in operands]
        if several:
            lines += ["", "Operands have one shape and dtype; 0-d ones are broadcast, Python scalars take that dtype."]
        lines += ["", "Returns:", f"    Array [*shape] of {result}."]
        lines += ["", "Raises:", f"    TypeError: the dtype is not {kinds}{', or dtypes differ' * several}."]
        lines += ["    ValueError: shapes differ."] * several
        function.__doc__ = "\n".join([*lines, "", mark + example])
        return function

    return complete
