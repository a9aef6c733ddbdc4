"""NumPy indexing: ``x[...]``, ``x.at[...]``, take and take_along_axis, on slice, gather and scatter.

An index is first taken apart (``parse``), in NumPy's terms: integers, slices, None and Ellipsis are *basic*; integer
arrays and boolean masks are *advanced*, and integers beside them count as such.  Advanced indices broadcast to one
block of axes B, which stands where they stood if they were next to each other, else in front.

Values decide nothing but the mask's: traced indices are fine.  Static integers out of range raise IndexError; array
indices out of range are clamped where they read, ignored where they write.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.array import Array, ConcreteArray, from_numpy, lift
from fgrad.core.static import choice, static_int
from fgrad.core.trace import EVAL, Tracer, current_trace
from fgrad.lax.common import canonical_axis, canonical_shape
from fgrad.numpy.logic import concrete
from fgrad.numpy.promotion import cast, common_shape, expand_to
from fgrad.primitives.broadcast import full, full_like
from fgrad.primitives.convert import convert
from fgrad.primitives.flat_index import flat_index_p
from fgrad.primitives.indexing import gather_p, scatter_p


class Span(NamedTuple):
    """A slice of an axis: ``size`` elements from ``start`` in steps of ``step`` (never 0)."""

    start: int
    step: int
    size: int


class Parsed(NamedTuple):
    """An index of an operand of ``shape`` (which may have axes of size 1 more than the user's, for scalar masks)."""

    shape: tuple[int, ...]
    entries: tuple[Span | int | Array, ...]  # one for each axis of shape; ints only if nothing is advanced
    result: tuple[int, ...]  # the shape of x[index]
    block: tuple[int, ...]  # B
    block_at: int  # how many span axes of the result come before B

    @property
    def advanced(self) -> tuple[int, ...]:
        return tuple(d for d, e in enumerate(self.entries) if isinstance(e, Array))


def parse(shape: tuple[int, ...], index: Any) -> Parsed:
    """The index taken apart; every check of it is here."""
    items = _expand(shape, index)
    sizes: list[int] = []
    entries: list[Any] = []
    positions: list[int] = []  # of the advanced items
    any_advanced = any(isinstance(i, Array) for i in items)
    axis = 0
    for at, item in enumerate(items):
        if item is None:
            continue
        if isinstance(item, _ScalarMask):
            sizes.append(1)
            entries.append(from_numpy(np.zeros(int(item.value), np.int32)))
            positions.append(at)
            any_advanced = True
            continue
        n = shape[axis]
        sizes.append(n)
        if isinstance(item, slice):
            entries.append(_span(item, n))
        else:
            entries.append(item if isinstance(item, Array) else _integer(item, n, axis, shape))
            positions.append(at)
        axis += 1
    if any_advanced:
        entries = [from_numpy(np.int32(e)) if isinstance(e, int) else e for e in entries]
    arrays = [e for e in entries if isinstance(e, Array)]
    block = common_shape("index", [a.shape for a in arrays]) if arrays else ()
    together = arrays and positions == list(range(positions[0], positions[0] + len(positions)))
    first = positions[0] if together else 0

    result: list[int] = []
    spans = iter(e.size for e in entries if isinstance(e, Span))
    block_at = 0
    for at, item in enumerate(items):
        if arrays and at == first and (together or at == 0):
            block_at = sum(isinstance(i, slice) for i in items[:at])
            result += block
        if item is None:
            result.append(1)
        elif isinstance(item, slice):
            result.append(next(spans))
    return Parsed(tuple(sizes), tuple(entries), tuple(result), block, block_at)


class _ScalarMask(NamedTuple):
    """``x[True]`` or ``x[False]``: a new axis of size 1 or 0."""

    value: bool


def _expand(shape: tuple[int, ...], index: Any) -> list[Any]:
    """The items of an index, masks as integer arrays, Ellipsis and missing axes as full slices."""
    items = [_checked(item) for item in (index if isinstance(index, tuple) else (index,))]
    used = sum(map(_consumed, items))
    if sum(i is Ellipsis for i in items) > 1:
        raise IndexError("index: only one '...' is allowed, got two or more. Write the other as ':'.")
    if used > len(shape):
        raise IndexError(
            f"index: at most {len(shape)} axes can be indexed, got {used} indices for shape {shape}. Drop some."
        )
    fill: list[Any] = [slice(None)] * (len(shape) - used)
    at = next((k for k, i in enumerate(items) if i is Ellipsis), len(items))
    items = items[:at] + fill + items[at + 1 :]
    out: list[Any] = []
    axis = 0
    for item in items:
        out += _mask_positions(item, shape, axis) if isinstance(item, np.ndarray) else [item]
        axis += _consumed(item)
    return out


def _consumed(item: Any) -> int:
    """How many axes an item indexes."""
    if item is None or item is Ellipsis or isinstance(item, _ScalarMask):
        return 0
    return item.ndim if isinstance(item, np.ndarray) else 1


def _checked(item: Any) -> Any:
    """One of: None, Ellipsis, slice, int, an integer Array, a mask (a NumPy array of bool), _ScalarMask."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    if isinstance(item, list):
        raise TypeError(f"index: a list is no index, got {item!r}. Use a tuple, or fgrad.numpy.array(...) of it.")
    if isinstance(item, bool | np.bool_):
        return _ScalarMask(bool(item))
    if isinstance(item, int | np.integer):
        return int(item)
    if not hasattr(item, "dtype") and hasattr(item, "__index__") and not isinstance(item, type):
        return operator.index(item)
    if not isinstance(item, Array | np.ndarray | np.generic):
        raise TypeError(
            f"index: must be integers, slices, None, '...', integer or boolean arrays, got {item!r} of type "
            f"{type(item).__name__}. Convert it."
        )
    array = lift(item, "index")
    if array.dtype == dtypes.bool_:
        mask = concrete("index", array, "Use fgrad.numpy.where(mask, x, y) instead of x[mask].")
        return mask if mask.ndim else _ScalarMask(bool(mask))
    if not dtypes.is_integer(array.dtype):
        raise TypeError(f"index: arrays must hold integers or booleans, got {array.aval}. Convert with .astype(int).")
    if array.ndim == 0 and not isinstance(array, Tracer):
        return array.__index__()
    return array


def _mask_positions(mask: np.ndarray, shape: tuple[int, ...], axis: int) -> list[Any]:
    """The positions of a mask's True elements, one index array for each of its axes."""
    if mask.shape != shape[axis : axis + mask.ndim]:
        raise IndexError(
            f"index: a mask must have the sizes of the axes it indexes, got mask {mask.shape} for axes {axis} to "
            f"{axis + mask.ndim - 1} of shape {shape}. Reshape or broadcast the mask."
        )
    return [from_numpy(i, dtypes.int32) for i in np.nonzero(mask)]


def _integer(i: int, n: int, axis: int, shape: tuple[int, ...]) -> int:
    if not -n <= i < n:
        raise IndexError(
            f"index: must lie in [{-n}, {n}) for axis {axis}, got {i} for shape {shape}. Change the index."
        )
    return i + n if i < 0 else i


def _span(item: slice, n: int) -> Span:
    for i in (item.start, item.stop, item.step):
        if i is not None:
            static_int("index", "the parts of a slice must be integers or None", i)
    if item.step is not None and operator.index(item.step) == 0:
        raise ValueError(f"index: a slice's step must not be 0, got {item}. Give a step that moves.")
    start, stop, step = item.indices(n)
    return Span(start, step, len(range(start, stop, step)))


# --- reading ---------------------------------------------------------------------------------------------------------
def getitem(x: Array, index: Any) -> Array:
    """``x[index]``; see the module's first lines."""
    if type(x) is ConcreteArray and current_trace.get() is EVAL and _is_basic(index):
        try:
            return ConcreteArray(np.asarray(x._value[index]), x._weak)  # a view, as NumPy has it
        except (IndexError, ValueError, OverflowError, TypeError):
            pass  # parse says what is wrong
    return read(x, parse(x.shape, index), "clip", None)


_BASIC = (int, slice, type(None), type(Ellipsis))


def _is_basic(index: Any) -> bool:
    items = index if type(index) is tuple else (index,)
    return all([type(i) in _BASIC for i in items])


def read(x: Array, p: Parsed, mode: str, fill_value: Any) -> Array:
    """Spans by one slice, advanced indices by one gather; 'fill' puts ``fill_value`` where an index is out of range:
    NaN, the smallest signed integer, the largest unsigned one or True, as in JAX, unless it is given.
    """
    y = x if x.shape == p.shape else lax.reshape(x, p.shape)
    y = _take_spans(y, p)
    if p.advanced:
        indices = index_array(p)
        y = gather_p.bind(y, indices, axes=p.advanced, mode="mark" if mode == "fill" else mode)
        if mode == "fill" and fill_value is not None:
            inside = lax.broadcast_in_dim(_inside(indices, p), y.shape, tuple(range(len(p.block))))
            y = lax.select(inside, y, full_like(y, fill_value))
        if p.block_at:
            lead = len(p.block)
            order = list(range(lead, y.ndim))
            order[p.block_at : p.block_at] = range(lead)
            y = lax.transpose(y, tuple(order))
    return y if y.shape == p.result else lax.reshape(y, p.result)


def _take_spans(x: Array, p: Parsed) -> Array:
    """Every span axis cut to its span; an axis with a static integer to size 1."""
    starts, limits, strides, backwards = [], [], [], []
    for d, (e, n) in enumerate(zip(p.entries, p.shape)):
        if isinstance(e, int):
            e = Span(e, 1, 1)
        if isinstance(e, Array):
            e = Span(0, 1, n)
        last = e.start + (e.size - 1) * e.step
        lo, hi = (e.start, last) if e.step > 0 else (last, e.start)
        starts.append(lo if e.size else 0)
        limits.append(hi + 1 if e.size else 0)
        strides.append(abs(e.step))
        if e.step < 0 and e.size > 1:
            backwards.append(d)
    if any(starts) or tuple(limits) != p.shape or any(s != 1 for s, n in zip(strides, p.shape) if n > 1):
        x = lax.slice(x, tuple(starts), tuple(limits), tuple(strides))
    return lax.rev(x, tuple(backwards)) if backwards else x


def _index_dtype(arrays: Sequence[Array]) -> np.dtype:
    wide = any(a.dtype.itemsize == 8 or a.dtype == dtypes.uint32 for a in arrays)
    return dtypes.int64 if wide else dtypes.int32


def wrapped(i: Array, n: int, dtype: np.dtype) -> Array:
    """Negative indices count from the end."""
    if not isinstance(i, Tracer):
        value = np.asarray(i).astype(dtype)
        return from_numpy(np.where(value < 0, value + n, value))
    signed = i.dtype.kind == "i"
    i = convert(i, dtype)
    return lax.select(lax.lt(i, full_like(i, 0)), lax.add(i, full_like(i, n)), i) if signed else i


def joined(columns: Sequence[Array]) -> Array:
    """k index arrays of shape B as one of shape B + (k,)."""
    columns = [lax.reshape(c, (*c.shape, 1)) for c in columns]
    return columns[0] if len(columns) == 1 else lax.concatenate(columns, columns[0].ndim - 1)


def index_array(p: Parsed) -> Array:
    """The advanced indices: wrapped, broadcast to B and joined."""
    arrays = [p.entries[d] for d in p.advanced]
    dtype = _index_dtype(arrays)  # type: ignore[arg-type]
    columns = [wrapped(a, p.shape[d], dtype) for a, d in zip(arrays, p.advanced)]  # type: ignore[arg-type]
    return joined([expand_to(c, p.block) for c in columns])


def _inside(indices: Array, p: Parsed) -> Array:
    """Which entries of B have every index in range."""
    sizes = from_numpy(np.array([p.shape[d] for d in p.advanced]), indices.dtype)
    ok = lax.bitwise_and(lax.ge(indices, full_like(indices, 0)), lax.lt(indices, expand_to(sizes, indices.shape)))
    return lax.reduce_and(ok, (indices.ndim - 1,))


# --- writing ---------------------------------------------------------------------------------------------------------
def write(x: Array, p: Parsed, value: Any, kind: str, mode: str) -> Array:
    """x with ``value`` (which broadcasts to x[index]) set, added, ... at the index: one scatter.

    Spans that leave elements out become indices of their own, so that whole axes alone remain; the updates then have
    the shape B + (their sizes) + (the whole axes).
    """
    y = x if x.shape == p.shape else lax.reshape(x, p.shape)
    updates = _fitting(value, x.dtype, p.result)
    # Without the axes of None and integers: the span axes with B among them; then B first.
    spans = [d for d, e in enumerate(p.entries) if isinstance(e, Span)]
    sizes = [p.entries[d].size for d in spans]  # type: ignore[union-attr]
    updates = lax.reshape(updates, (*sizes[: p.block_at], *p.block, *sizes[p.block_at :]))
    whole = [d for d in spans if p.entries[d] == Span(0, 1, p.shape[d])]
    part = [d for d in spans if d not in whole]
    at = {d: i + (len(p.block) if i >= p.block_at else 0) for i, d in enumerate(spans)}
    order = (*range(p.block_at, p.block_at + len(p.block)), *(at[d] for d in part), *(at[d] for d in whole))
    if order != tuple(range(len(order))):
        updates = lax.transpose(updates, order)
    axes, indices = _scatter_indices(p, part)
    out = (
        scatter_p.bind(y, indices, updates, axes=axes, mode=mode, kind=kind) if axes else _everywhere(y, updates, kind)
    )
    return out if out.shape == x.shape else lax.reshape(out, x.shape)


def _scatter_indices(p: Parsed, part: Sequence[int]) -> tuple[tuple[int, ...], Array]:
    """(axes, indices of shape B + (sizes of the partial spans) + (k,))."""
    batch = (*p.block, *(p.entries[d].size for d in part))  # type: ignore[union-attr]
    arrays = [e for e in p.entries if isinstance(e, Array)]
    dtype = _index_dtype(arrays)
    columns: dict[int, Array] = {}
    for d, e in enumerate(p.entries):
        if isinstance(e, int):
            columns[d] = full(batch, e, dtype)
        elif isinstance(e, Array):
            column = expand_to(wrapped(e, p.shape[d], dtype), p.block)
            columns[d] = lax.broadcast_in_dim(column, batch, tuple(range(len(p.block))))
        elif d in part:
            line = from_numpy(e.start + e.step * np.arange(e.size), dtype)
            columns[d] = lax.broadcast_in_dim(line, batch, (len(p.block) + part.index(d),))
    axes = tuple(sorted(columns))
    return axes, joined([columns[d] for d in axes]) if axes else full((0,), 0, dtype)


def _everywhere(x: Array, updates: Array, kind: str) -> Array:
    """The whole of x is indexed: no scatter needed."""
    if kind == "set":
        return updates
    return {"add": lax.add, "mul": lax.mul, "min": lax.min, "max": lax.max}[kind](x, updates)


def _fitting(value: Any, dtype: np.dtype, shape: tuple[int, ...]) -> Array:
    array = lift(value, "at")
    if dtypes.promote((dtype, False), (array.dtype, array.weak_type))[0] != dtype:
        raise TypeError(
            f"at: the value must fit the array's dtype without loss, got {array.aval} for {dtype}. "
            "Convert the value or the array with .astype."
        )
    if common_shape("at", [array.shape, shape]) != shape:
        raise ValueError(
            f"at: the value must broadcast to the indexed part, got {array.shape} for {shape}. Reshape the value."
        )
    return expand_to(cast("at", value, dtype), shape)


# --- functions -------------------------------------------------------------------------------------------------------
_TAKE_MODES = ("fill", "clip", "wrap")


def take(a: Any, indices: Any, axis: int | None = None, mode: str | None = None, fill_value: Any = None) -> Array:
    """``a`` at integer ``indices`` along ``axis`` (of the flattened operand for None).

    ``mode`` for indices out of range: 'fill' (the default: NaN, or the dtype's smallest integer, unless ``fill_value``
    is given; negative ones count from the end), 'clip' (0 below, the last above), 'wrap' (modulo the size).

    >>> import fgrad.numpy as fnp
    >>> fnp.take(fnp.array([10.0, 20.0]), fnp.array([1, -1, 5])).tolist()
    [20.0, 20.0, nan]
    """
    x, i = lift(a, "take"), lift(indices, "take")
    mode = "fill" if mode is None else mode
    choice("take", "mode", mode, _TAKE_MODES)
    if not dtypes.is_integer(i.dtype):
        raise TypeError(f"take: indices must be integers, got {i.aval}. Convert them with .astype(int).")
    if axis is None:
        x, axis = lax.reshape(x, (x.size,)), 0
    axis = canonical_axis("take", axis, x.ndim)
    n = x.shape[axis]
    if mode == "wrap":
        from fgrad.numpy.ufuncs import remainder

        i = remainder(i, n)
    if mode == "clip":  # below 0 is 0, not counted from the end
        i = lax.max(i, full_like(i, 0))
    i = i if i.ndim else lax.reshape(i, (1,))
    p = parse(x.shape, (slice(None),) * axis + (i,))
    p = p._replace(result=(*x.shape[:axis], *np.shape(indices), *x.shape[axis + 1 :]))
    return read(x, p, "fill" if mode == "fill" else "clip", fill_value)


def take_along_axis(arr: Any, indices: Any, axis: int | None = -1, mode: str | None = None) -> Array:
    """out[.., j, ..] = arr[.., indices[.., j, ..], ..] along ``axis``; the other axes broadcast.

    ``mode``: 'fill' (the default) or 'clip', as for ``take``.

    >>> import fgrad.numpy as fnp
    >>> fnp.take_along_axis(fnp.array([[1, 2], [3, 4]]), fnp.array([[1], [0]]), axis=1).tolist()
    [[2], [3]]
    """
    x, i = lift(arr, "take_along_axis"), lift(indices, "take_along_axis")
    if axis is None:
        x, axis = lax.reshape(x, (x.size,)), 0
    axis = canonical_axis("take_along_axis", axis, x.ndim)
    if i.ndim != x.ndim or not dtypes.is_integer(i.dtype):
        raise ValueError(
            f"take_along_axis: indices must be integers with as many axes as the operand, got {i.aval} for shape "
            f"{x.shape}. Insert axes of size 1."
        )
    choice("take_along_axis", "mode", mode, (None, "fill", "clip"))
    others = [(n, m) for d, (n, m) in enumerate(zip(x.shape, i.shape)) if d != axis]
    if any(n != m and 1 not in (n, m) for n, m in others):
        raise ValueError(
            f"take_along_axis: sizes other than axis {axis} must be equal or 1, got {x.shape} and {i.shape}. "
            "Broadcast one of them."
        )
    lead = [max(n, m) if 0 not in (n, m) else 0 for n, m in zip(x.shape, i.shape)]
    lead[axis] = i.shape[axis]
    places = _flat_places(x.shape, axis, expand_to(i, tuple(lead)), clip=mode == "clip")
    flat = lax.reshape(x, (x.size,))
    return gather_p.bind(flat, joined([places]), axes=(0,), mode="clip" if mode == "clip" else "mark")


def _flat_places(shape: tuple[int, ...], axis: int, indices: Array, clip: bool) -> Array:
    """Number, in a flattened array of ``shape``, of the element with index i along ``axis`` for each i in ``indices``.

    On other axes it stands where i does, on those of size 1 at 0.  An index out of range is clamped, or gives -1.
    """
    if indices.dtype == np.uint64:  # what no int64 holds is out of range, not counted from the end
        indices = lax.min(indices, full_like(indices, np.iinfo(np.int64).max))
    i = convert(indices, dtypes.int64)
    if clip:
        i = lax.clamp(0, wrapped(i, shape[axis], i.dtype), shape[axis] - 1)
    place = None
    for d, n in enumerate(shape):
        if d == axis:
            place = flat_index_p.bind(i, full_like(i, 0) if place is None else place, full_like(i, n))
        elif n > 1:
            here = lax.broadcasted_iota(i.dtype, i.shape, d)
            place = here if place is None else flat_index_p.bind(here, place, full_like(i, n))
    assert place is not None  # there is the axis
    return place


def unravel_index(indices: Any, shape: Sequence[int]) -> tuple[Array, ...]:
    """Flat indices as one index array for each axis of ``shape``."""
    i = lift(indices, "unravel_index")
    if not dtypes.is_integer(i.dtype):
        raise TypeError(f"unravel_index: indices must be integers, got {i.aval}. Convert them with .astype(int).")
    sizes = canonical_shape("unravel_index", shape)
    if math.prod(sizes) > np.iinfo(i.dtype).max:
        raise ValueError(
            f"unravel_index: the indices' dtype must be able to count the elements, got {math.prod(sizes)} of them in "
            f"{sizes} and {i.dtype}. Convert the indices with .astype."
        )
    out = []
    for d, n in enumerate(sizes):
        below = math.prod(sizes[d + 1 :])
        out.append(lax.rem(lax.div(i, full_like(i, below)), full_like(i, n)))
    return tuple(out)
