"""The same elements in another shape or order."""

from __future__ import annotations

import math
from typing import Any

from fgrad import lax
from fgrad.core.array import Array, lift
from fgrad.core.static import items, static_int, static_ints
from fgrad.lax.common import canonical_axes, canonical_axis
from fgrad.numpy.creation import asarray, shape_of
from fgrad.numpy.promotion import broadcast, expand_to


def reshape(a: Any, shape: Any, order: str = "C") -> Array:
    """The elements of ``a`` in row-major order (column-major for ``order='F'``) in another shape; one size may be -1.

    >>> import fgrad.numpy as fnp
    >>> fnp.reshape(fnp.arange(6), (2, -1)).shape
    (2, 3)
    """
    x = asarray(a)
    sizes = _solve(x, static_ints("reshape", "sizes must be integers", shape))
    if isinstance(order, str) and order == "C":
        return x if sizes == x.shape else lax.reshape(x, sizes)
    if not isinstance(order, str) or order != "F":
        raise ValueError(f"reshape: order must be 'C' or 'F', got {order!r}. Use 'C'.")
    return transpose(lax.reshape(transpose(x), sizes[::-1]))


def _solve(x: Array, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with -1 replaced by what the other sizes leave."""
    if -1 not in sizes:
        return sizes
    known = math.prod(n for n in sizes if n != -1)
    if sizes.count(-1) > 1 or known <= 0 or x.size % known:
        raise ValueError(
            f"reshape: one size may be -1 if the others divide the {x.size} elements of shape {x.shape}, got {sizes} "
            f"(the others hold {known}). Change the sizes."
        )
    return tuple(x.size // known if n == -1 else n for n in sizes)


def ravel(a: Any, order: str = "C") -> Array:
    """All elements along one axis."""
    return reshape(a, (-1,) if lift(a, "ravel").size else (0,), order)


def transpose(a: Any, axes: Any = None) -> Array:
    """out axis i = operand axis axes[i]; reversed without ``axes``.

    >>> import fgrad.numpy as fnp
    >>> fnp.transpose(fnp.zeros((2, 3, 4)), (1, 0, 2)).shape
    (3, 2, 4)
    """
    x = lift(a, "transpose")
    order = tuple(range(x.ndim))[::-1] if axes is None else canonical_axes("transpose", axes, x.ndim)
    if len(order) != x.ndim:
        raise ValueError(
            f"transpose: axes must name each of the {x.ndim} axes once, got {axes} for shape {x.shape}. Name them all."
        )
    return x if order == tuple(range(x.ndim)) else lax.transpose(x, order)


permute_dims = transpose


def matrix_transpose(x: Any) -> Array:
    """The last two axes exchanged."""
    x = lift(x, "matrix_transpose")
    if x.ndim < 2:
        raise ValueError(f"matrix_transpose: needs at least 2 axes, got shape {x.shape}. Add an axis with x[:, None].")
    return swapaxes(x, -1, -2)


def moveaxis(a: Any, source: Any, destination: Any) -> Array:
    """Axes ``source`` moved to ``destination``; the others keep their order.

    >>> import fgrad.numpy as fnp
    >>> fnp.moveaxis(fnp.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    x = lift(a, "moveaxis")
    src = canonical_axes("moveaxis", source, x.ndim)
    dst = canonical_axes("moveaxis", destination, x.ndim)
    if len(src) != len(dst):
        raise ValueError(
            f"moveaxis: source and destination must have equal lengths, got {len(src)} and {len(dst)} "
            f"({source} and {destination}). Give one destination for each source."
        )
    order = [i for i in range(x.ndim) if i not in src]
    for d, s in sorted(zip(dst, src)):
        order.insert(d, s)
    return transpose(x, order)


def swapaxes(a: Any, axis1: int, axis2: int) -> Array:
    """Two axes exchanged."""
    x = lift(a, "swapaxes")
    i, j = canonical_axis("swapaxes", axis1, x.ndim), canonical_axis("swapaxes", axis2, x.ndim)
    order = list(range(x.ndim))
    order[i], order[j] = j, i
    return transpose(x, order)


def rollaxis(a: Any, axis: int, start: int = 0) -> Array:
    """Axis ``axis`` moved before axis ``start``."""
    x = lift(a, "rollaxis")
    axis, start = canonical_axis("rollaxis", axis, x.ndim), static_int("rollaxis", "start must be an integer", start)
    start = start + x.ndim if start < 0 else start
    return moveaxis(x, axis, start - 1 if start > axis else start)


def expand_dims(a: Any, axis: Any) -> Array:
    """New axes of size 1 at the positions ``axis`` of the result."""
    x = lift(a, "expand_dims")
    several = items(axis)
    n = x.ndim + (1 if several is None else len(several))
    new = canonical_axes("expand_dims", axis, n)
    old = iter(x.shape)
    return lax.reshape(x, tuple(1 if i in new else next(old) for i in range(n)))


def squeeze(a: Any, axis: Any = None) -> Array:
    """Without the axes of size 1 (all of them, or those named; naming a longer one is a ValueError)."""
    x = lift(a, "squeeze")
    if axis is None:
        gone = tuple(i for i, n in enumerate(x.shape) if n == 1)
    else:
        gone = canonical_axes("squeeze", axis, x.ndim)
    if any(x.shape[i] != 1 for i in gone):
        raise ValueError(
            f"squeeze: the axes must have size 1, got axes {gone} of shape {x.shape}. Index the others with x[0]."
        )
    return lax.reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in gone)) if gone else x


def broadcast_to(array: Any, shape: Any) -> Array:
    """``array`` repeated to ``shape``: aligned at the last axis, axes of size 1 repeated.

    >>> import fgrad.numpy as fnp
    >>> fnp.broadcast_to(fnp.arange(2), (3, 2)).shape
    (3, 2)
    """
    x, shape = lift(array, "broadcast_to"), shape_of("broadcast_to", shape)
    lead = len(shape) - x.ndim
    if lead < 0 or any(n not in (1, m) for n, m in zip(x.shape, shape[lead:])):
        raise ValueError(
            f"broadcast_to: sizes must be 1 or those of the result, aligned at the last axis, got {x.shape} and "
            f"{shape}. Reshape the operand or insert axes of size 1."
        )
    return expand_to(x, shape)


def broadcast_arrays(*args: Any) -> list[Array]:
    """The operands in their common shape."""
    return broadcast("broadcast_arrays", [lift(a, "broadcast_arrays") for a in args]) if args else []


def _at_least(name: str, arrays: tuple[Any, ...], grow: Any) -> Any:
    out = [grow(lift(a, name)) for a in arrays]
    return out[0] if len(out) == 1 else out


def atleast_1d(*arys: Any) -> Any:
    """Scalars as [1]."""
    return _at_least("atleast_1d", arys, lambda x: x if x.ndim else reshape(x, (1,)))


def atleast_2d(*arys: Any) -> Any:
    """Scalars as [1, 1], vectors as [1, n]."""
    return _at_least("atleast_2d", arys, lambda x: x if x.ndim >= 2 else reshape(x, (1, x.size)))


def atleast_3d(*arys: Any) -> Any:
    """Vectors as [1, n, 1], matrices as [m, n, 1]."""

    def grow(x: Array) -> Array:
        if x.ndim >= 3:
            return x
        return reshape(x, (*x.shape, 1) if x.ndim == 2 else (1, x.size, 1))

    return _at_least("atleast_3d", arys, grow)


def flip(m: Any, axis: Any = None) -> Array:
    """The order of the elements reversed along ``axis`` (every axis for None)."""
    x = lift(m, "flip")
    return lax.rev(x, tuple(range(x.ndim)) if axis is None else canonical_axes("flip", axis, x.ndim))


def fliplr(m: Any) -> Array:
    """Reversed along axis 1."""
    return flip(m, 1)


def flipud(m: Any) -> Array:
    """Reversed along axis 0."""
    return flip(m, 0)


def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Array:
    """Turned by k quarters from the first axis of ``axes`` towards the second."""
    x = lift(m, "rot90")
    if len(named := canonical_axes("rot90", axes, x.ndim)) != 2:
        raise ValueError(f"rot90: axes must be two axes, got {axes!r}. Name the plane to turn in.")
    i, j = named
    k = static_int("rot90", "k must be an integer", k) % 4
    if k == 2:
        return flip(x, (i, j))
    if k == 1:
        return swapaxes(flip(x, j), i, j)
    return flip(swapaxes(x, i, j), j) if k == 3 else x
