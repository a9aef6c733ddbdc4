"""Making arrays.  Without a dtype: float32, int32, complex64; NumPy arrays keep theirs, 64-bit ones included."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, ConcreteArray, from_numpy, lift
from fgrad.core.aval import ShapedArray, check_size
from fgrad.core.static import flag, items, kind, static_int
from fgrad.core.trace import Tracer
from fgrad.lax.common import canonical_axis, canonical_shape
from fgrad.numpy.promotion import cast, common_shape, expand_to, inexact_dtype, promote_dtypes
from fgrad.primitives.broadcast import full as _full
from fgrad.primitives.convert import convert


def shape_of(name: str, shape: Any) -> tuple[int, ...]:
    """A shape from an int or a sequence of ints."""
    return canonical_shape(name, shape)


def array(object: Any, dtype: Any = None, *, copy: bool = True) -> Array:
    """An Array from nested sequences of scalars and arrays, or from anything NumPy understands.

    Without ``dtype`` a NumPy array or an Array keeps its own; Python numbers give int32 (int64 beyond its range),
    float32, complex64 or bool, whichever they need together.  A NumPy array is copied: later changes to it are not seen
    (``copy`` is accepted for NumPy's sake; Arrays never change and are not copied).

    Raises TypeError for strings, ragged nests and objects.

    >>> import fgrad.numpy as fnp
    >>> fnp.array([[1, 2], [3, 4]])
    Array([[1, 2],
           [3, 4]], dtype=int32)
    >>> fnp.array([1, 2.5]).dtype
    dtype('float32')
    """
    target = None if dtype is None else dtypes.canonical(dtype)
    if target == dtypes.float0:
        raise TypeError("array: float0, the tangent of integers, has no numbers as values, got it as dtype. Use zeros.")
    if isinstance(object, list | tuple):
        return _from_nested(object, target)
    if target is None:
        out = lift(object, "array")
        return cast("array", object, out.dtype) if not isinstance(object, Array) else convert(out, out.dtype)
    if isinstance(object, np.ndarray | np.generic) and not (object.dtype.kind == "c" and target.kind != "c"):
        kind_kept = object.dtype.kind in "biu" or (dtypes.is_inexact(target) and dtypes.is_number(object.dtype))
        if kind_kept or dtypes.canonical(object.dtype) == target:
            return from_numpy(object, target)
        return convert(from_numpy(object), target)
    return convert(cast("array", object, target), target)


def asarray(a: Any, dtype: Any = None, *, copy: bool | None = None) -> Array:
    """``array``; an Array of the wanted dtype comes back as it is.

    >>> import fgrad.numpy as fnp
    >>> x = fnp.zeros(3)
    >>> fnp.asarray(x) is x
    True
    """
    return array(a, dtype)


def _leaves(nest: Any) -> list[Any]:
    if isinstance(nest, list | tuple):
        return [leaf for item in nest for leaf in _leaves(item)]
    return [nest]


def _from_nested(nest: Sequence[Any], dtype: np.dtype | None) -> Array:
    leaves = _leaves(nest)
    if any(isinstance(x, str | bytes) or x is None for x in leaves):
        bad = next(x for x in leaves if isinstance(x, str | bytes) or x is None)
        raise TypeError(f"array: elements must be numbers or arrays, got {bad!r}. Remove or convert it.")
    if dtype is None:
        if leaves:
            arrays = [lift(x, "array") for x in leaves]
            dtype = dtypes.promote(*[(a.dtype, a.weak_type) for a in arrays])[0]
        else:
            dtype = dtypes.float32
    if any(isinstance(x, Tracer) for x in leaves):
        return _stack_nested(nest, dtype)
    try:
        return convert(from_numpy(np.array(_to_numpy(nest))), dtype) if leaves else _empty_nest(nest, dtype)
    except ValueError as e:
        raise TypeError(f"array: nested sequences must all have the same length at each depth, got {nest!r}.") from e


def _to_numpy(nest: Any) -> Any:
    """Arrays as NumPy's; Python scalars stay, so that NumPy sees one nest."""
    if isinstance(nest, list | tuple):
        return [_to_numpy(item) for item in nest]
    return np.asarray(nest) if isinstance(nest, Array) else nest


def _empty_nest(nest: Any, dtype: np.dtype) -> Array:
    return ConcreteArray(np.array(nest, dtype))


def _stack_nested(nest: Any, dtype: np.dtype) -> Array:
    """A nest with tracers in it: stacked level by level."""
    if not isinstance(nest, list | tuple):
        return cast("array", nest, dtype)
    parts = [_stack_nested(item, dtype) for item in nest]
    shapes = {p.shape for p in parts}
    if len(shapes) != 1:
        raise TypeError(f"array: nested sequences must all have the same shape, got {sorted(shapes)}. Pad or split.")
    shape = parts[0].shape
    return lax.concatenate([lax.reshape(p, (1, *shape)) for p in parts], 0)


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Array:
    """``fill_value`` in every element; the dtype is the value's own unless given.

    >>> import fgrad.numpy as fnp
    >>> fnp.full((2, 2), 3.5).tolist()
    [[3.5, 3.5], [3.5, 3.5]]
    """
    value = array(fill_value, dtype)
    shape = shape_of("full", shape)
    if value.ndim and common_shape("full", (value.shape, shape)) != shape:
        raise ValueError(
            f"full: fill_value must broadcast to the shape, got {value.shape} and {shape}. Pass a scalar or reshape it."
        )
    return expand_to(value, shape)


def zeros(shape: Any, dtype: Any = None) -> Array:
    """Zeros, float32 unless ``dtype`` says otherwise.

    >>> import fgrad.numpy as fnp
    >>> fnp.zeros((2,)), fnp.zeros(2, "int8").dtype
    (Array([0., 0.], dtype=float32), dtype('int8'))
    """
    return _full(shape_of("zeros", shape), 0, dtypes.canonical(float if dtype is None else dtype))


def ones(shape: Any, dtype: Any = None) -> Array:
    """Ones, float32 unless ``dtype`` says otherwise."""
    return _full(shape_of("ones", shape), 1, dtypes.canonical(float if dtype is None else dtype))


def empty(shape: Any, dtype: Any = None) -> Array:
    """``zeros``: an uninitialised array would be useless, since arrays never change."""
    return zeros(shape, dtype)


def _like(name: str, a: Any, dtype: Any, shape: Any) -> tuple[tuple[int, ...], np.dtype]:
    a = lift(a, name)
    return a.shape if shape is None else shape_of(name, shape), a.dtype if dtype is None else dtypes.canonical(dtype)


def zeros_like(a: Any, dtype: Any = None, shape: Any = None) -> Array:
    """Zeros in the shape and dtype of ``a``, unless given."""
    return zeros(*_like("zeros_like", a, dtype, shape))


def ones_like(a: Any, dtype: Any = None, shape: Any = None) -> Array:
    """Ones in the shape and dtype of ``a``, unless given."""
    return ones(*_like("ones_like", a, dtype, shape))


def empty_like(a: Any, dtype: Any = None, shape: Any = None) -> Array:
    """``zeros_like``."""
    return zeros_like(a, dtype, shape)


def full_like(a: Any, fill_value: Any, dtype: Any = None, shape: Any = None) -> Array:
    """``fill_value`` in the shape and dtype of ``a``, unless given."""
    shape, dtype = _like("full_like", a, dtype, shape)
    return full(shape, fill_value, dtype)


def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Array:
    """start, start + step, ... below ``stop`` (above it for a negative step); ``arange(n)`` is 0 .. n-1.

    The arguments decide the shape, so they must be concrete.  int32 for ints, float32 for floats, unless given.
    Elements are start + i * step, computed in float64 or int64.

    >>> import fgrad.numpy as fnp
    >>> fnp.arange(4), fnp.arange(1, 2, 0.5)
    (Array([0, 1, 2, 3], dtype=int32), Array([1. , 1.5], dtype=float32))
    """
    if stop is None:
        start, stop = 0, start
    step = 1 if step is None else step
    for what, value in (("start", start), ("stop", stop), ("step", step)):
        if items(value) is not None or lift(value, "arange").ndim:
            raise TypeError(f"arange: {what} must be a scalar, got {value!r}. Pass numbers.")
    if dtype is None:
        dtype = promote_dtypes("arange", start, stop, step)[0].dtype
    start, stop, step = (x.item() if hasattr(x, "item") else x for x in (start, stop, step))
    for what, value in (("start", start), ("stop", stop), ("step", step)):
        if not isinstance(value, (int, float)):
            raise TypeError(f"arange: {what} must be a real number, got {kind(value)}. Pass numbers.")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise OverflowError(f"arange: {what} must fit into 64 bits, got {value}. Use a float.")
        if not -math.inf < value < math.inf:
            raise ValueError(f"arange: {what} must be a finite real number, got {value}. The size would be unknown.")
    if step == 0:
        raise ValueError(f"arange: step must not be 0, got start={start}, stop={stop}. Give a step that moves.")
    n = max(0, math.ceil((stop - start) / step))
    dtype = dtypes.canonical(dtype)
    check_size("arange", ShapedArray((n,), dtypes.float64))
    if dtypes.is_integer(dtype) and start == 0 and step == 1:
        return lax.iota(dtype, n)
    return from_numpy(start + np.arange(n) * step, dtype)


def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0
) -> Any:
    """``num`` evenly spaced values from ``start`` to ``stop``: start + i (stop - start) / (num - 1), along ``axis``.

    ``endpoint=False`` divides by num and leaves ``stop`` out.  ``retstep`` also returns the step.

    >>> import fgrad.numpy as fnp
    >>> fnp.linspace(0, 1, 5).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    num = static_int("linspace", "num must be an integer", num)
    if num < 0:
        raise ValueError(f"linspace: num must be at least 0, got {num}. Ask for some points.")
    lo, hi = promote_dtypes("linspace", start, stop)
    work = inexact_dtype(lo.dtype)
    lo, hi = cast("linspace", lo, work), cast("linspace", hi, work)
    shape = common_shape("linspace", (lo.shape, hi.shape))
    lo, hi = expand_to(lo, shape), expand_to(hi, shape)
    parts = num - 1 if flag("linspace", "endpoint", endpoint) else num
    # start (1 - t) + stop t: both ends are exact
    check_size("linspace", ShapedArray((num, *shape), dtypes.float64))
    line = np.arange(num, dtype=np.float64) / max(parts, 1)
    t = expand_to(from_numpy(line.reshape((num,) + (1,) * len(shape)), work), (num, *shape))
    lo_n, hi_n = (lax.broadcast_in_dim(v, (num, *shape), tuple(range(1, len(shape) + 1))) for v in (lo, hi))
    out = lax.add(lax.mul(lo_n, lax.sub(_full(t.shape, 1, work), t)), lax.mul(hi_n, t))
    if dtype is not None and dtypes.is_integer(dtypes.canonical(dtype)):
        out = lax.floor(out)
    out = convert(out, work if dtype is None else dtypes.canonical(dtype))
    axis = canonical_axis("linspace", axis, out.ndim)
    if axis:
        order = list(range(1, out.ndim))
        order.insert(axis, 0)
        out = lax.transpose(out, tuple(order))
    if not flag("linspace", "retstep", retstep):
        return out
    width = _full(shape, parts, work) if parts > 0 else _full(shape, np.nan, work)
    return out, lax.div(lax.sub(hi, lo), width)


def _grid(name: str, n: Any, m: Any, k: Any) -> tuple[Array, Array]:
    """Row index + k and column index, [n, m] each."""
    n, m = canonical_shape(name, (n, n if m is None else m))
    k = max(-n, min(static_int(name, "k must be an integer", k), m))  # beyond that all diagonals are empty
    rows = lax.broadcasted_iota(dtypes.int32, (n, m), 0)
    return lax.add(rows, _full((n, m), k, dtypes.int32)), lax.broadcasted_iota(dtypes.int32, (n, m), 1)


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Array:
    """[N, M] with ones where column = row + k, zeros elsewhere.

    >>> import fgrad.numpy as fnp
    >>> fnp.eye(2, 3, 1).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    rows, cols = _grid("eye", N, M, k)
    return convert(lax.eq(rows, cols), dtypes.canonical(float if dtype is None else dtype))


def identity(n: int, dtype: Any = None) -> Array:
    """The identity matrix [n, n]."""
    return eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Array:
    """[N, M] with ones where column <= row + k, zeros elsewhere."""
    rows, cols = _grid("tri", N, M, k)
    return convert(lax.ge(rows, cols), dtypes.canonical(float if dtype is None else dtype))


def _triangle(name: str, m: Any, k: int, lower: bool) -> Array:
    m = lift(m, name)
    if m.ndim < 2:
        raise ValueError(f"{name}: needs at least 2 axes, got shape {m.shape}. Reshape the operand to a matrix.")
    k = static_int(name, "k must be an integer", k)
    rows, cols = _grid(name, m.shape[-2], m.shape[-1], k if lower else k - 1)
    keep = lax.ge(rows, cols) if lower else lax.lt(rows, cols)
    return lax.select(expand_to(keep, m.shape), m, _full(m.shape, 0, m.dtype))


def tril(m: Any, k: int = 0) -> Array:
    """Elements with column <= row + k of the last two axes; zeros above.

    >>> import fgrad.numpy as fnp
    >>> fnp.tril(fnp.ones((2, 2))).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    return _triangle("tril", m, k, lower=True)


def triu(m: Any, k: int = 0) -> Array:
    """Elements with column >= row + k of the last two axes; zeros below."""
    return _triangle("triu", m, k, lower=False)


def diag(v: Any, k: int = 0) -> Array:
    """The k-th diagonal of a matrix, or the matrix with a vector on its k-th diagonal.

    >>> import fgrad.numpy as fnp
    >>> fnp.diag(fnp.arange(1, 3)).tolist(), fnp.diag(fnp.array([[1, 2], [3, 4]]), 1).tolist()
    ([[1, 0], [0, 2]], [2])
    """
    v, k = lift(v, "diag"), static_int("diag", "k must be an integer", k)
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ValueError(f"diag: needs a vector or a matrix, got shape {v.shape}. Index or reshape it first.")
    n = v.shape[0] + abs(k)
    padded = lax.pad(v, _full((), 0, v.dtype), ((max(k, 0), max(-k, 0), 0),))  # v[j - max(k, 0)] in column j
    rows, cols = _grid("diag", n, n, k)
    return lax.select(lax.eq(rows, cols), expand_to(padded, (n, n)), _full((n, n), 0, v.dtype))


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    """out[..., i] = a[.., i, .., i + offset, ..] over ``axis1`` and ``axis2``; the diagonal is the last axis."""
    from fgrad.numpy.shaping import moveaxis

    a = moveaxis(lift(a, "diagonal"), (axis1, axis2), (-2, -1))
    *lead, n, m = a.shape
    offset = static_int("diagonal", "offset must be an integer", offset)
    row, col = max(-offset, 0), max(offset, 0)
    size = max(0, min(n - row, m - col))
    # In row-major order neighbours on a diagonal lie m + 1 apart.
    flat = lax.reshape(a, (*lead, n * m))
    start = (row * m + col) if size else 0
    limit = start + (size - 1) * (m + 1) + 1 if size else 0
    ones_ = (1,) * len(lead)
    return lax.slice(flat, (0,) * len(lead) + (start,), (*lead, limit), (*ones_, m + 1))


def from_dlpack(x: Any) -> Array:
    """An Array from any object with ``__dlpack__`` (a copy: its owner may change the original).

    >>> import numpy as np, fgrad.numpy as fnp
    >>> fnp.from_dlpack(np.ones(2, np.float32))
    Array([1., 1.], dtype=float32)
    """
    if not hasattr(x, "__dlpack__"):
        raise TypeError(
            f"from_dlpack: needs an object with __dlpack__, got {type(x).__name__}. Use fgrad.numpy.asarray."
        )
    try:
        value = np.from_dlpack(x)
    except (BufferError, RuntimeError) as e:
        raise TypeError(
            f"from_dlpack: the object must hold numbers in this machine's memory, got {type(x).__name__} ({e}). "
            "Move or convert it first."
        ) from None
    return from_numpy(value)
