"""gather and scatter: rows of an operand read from, or combined at, positions held in an index array.

For indices of shape B + (k,), k strictly increasing ``axes`` of the operand and the remaining axes r:

    gather:   out[b, r] = operand[axes[j] at indices[b, j], r]
    scatter:  out[axes[j] at indices[b, j], r]  op=  updates[b, r],  out starting as a copy of the operand

Indices do not wrap.  Out of range they are clamped ('clip'), read as zeros ('fill') or as what says that there is no
value ('mark': NaN, the smallest signed integer, the largest unsigned one, True), or ignored ('drop').
"""

from __future__ import annotations

import itertools
import math
from typing import Any

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Kernel
from fgrad.core.primitive import LinearArg, Primitive, Zero
from fgrad.errors import MissingBackendError
from fgrad.kernels import reference
from fgrad.kernels.indexing_plan import plan_gather, plan_scatter
from fgrad.primitives.arithmetic import add_p, div_p, mul_p, sub_p
from fgrad.primitives.broadcast import broadcast_in_dim_p, full, full_like
from fgrad.primitives.compare import eq_p, select_n_p
from fgrad.primitives.concatenate import concatenate_p
from fgrad.primitives.convert import convert
from fgrad.primitives.define import DOMAINS, NO_CUDA, zero_tangent
from fgrad.primitives.iota import iota_p
from fgrad.primitives.reshape import reshape_p
from fgrad.primitives.transpose import moveaxis

KINDS = {"set": "any", "add": "number", "mul": "real", "min": "real or bool", "max": "real or bool"}


def _row_shape(name: str, x: ShapedArray, indices: ShapedArray, axes: tuple[int, ...], mode: str, modes) -> tuple:
    """The shape of gather's result and of scatter's updates: B + remaining axes."""
    if indices.dtype not in (dtypes.int32, dtypes.int64):
        raise TypeError(f"{name}: indices must be int32 or int64, got {indices.dtype}. Convert them with .astype.")
    if any(not 0 <= a < x.ndim for a in axes) or any(a >= b for a, b in itertools.pairwise(axes)):
        raise ValueError(
            f"{name}: axes must be strictly increasing and in [0, {x.ndim}), got {axes} for operand shape {x.shape}. "
            "Sort them, and the last axis of the indices with them."
        )
    if indices.ndim == 0 or indices.shape[-1] != len(axes):
        raise ValueError(
            f"{name}: the last axis of the indices must have one entry for each of the {len(axes)} axes {axes}, "
            f"got indices of shape {indices.shape}. Add or change that axis."
        )
    if mode not in modes:
        raise ValueError(f"{name}: mode must be {' or '.join(map(repr, modes))}, got {mode!r}. Choose one of them.")
    sizes = tuple(x.shape[a] for a in axes)
    if mode == "clip" and 0 in sizes and 0 not in indices.shape[:-1]:
        raise ValueError(
            f"{name}: mode 'clip' needs non-empty axes to clamp into, got sizes {sizes} for axes {axes}. "
            f"Use mode {next(m for m in modes if m != 'clip')!r}."
        )
    return (*indices.shape[:-1], *(n for d, n in enumerate(x.shape) if d not in axes))


def _with_batch_axis(indices: Any) -> Any:
    """Indices (V, B, k) for an operand with V at the front: (V, B, 1 + k), naming the example first."""
    v = iota_p.bind(dtype=indices.dtype, shape=(*indices.shape[:-1], 1), dimension=0)
    return concatenate_p.bind(v, indices, dimension=indices.ndim - 1)


def _shifted(axes: tuple[int, ...], with_front: bool) -> tuple[int, ...]:
    """Axes of an operand that got a batch axis at the front, which is itself indexed or not."""
    return (*((0,) if with_front else ()), *(a + 1 for a in axes))


# --- gather ----------------------------------------------------------------------------------------------------------
def _gather_abstract(x: ShapedArray, indices: ShapedArray, *, axes: tuple[int, ...], mode: str) -> ShapedArray:
    if x.dtype == dtypes.float0:
        raise TypeError("gather: the operand must have values, got float0, the tangent of integers. Leave it out.")
    return ShapedArray(_row_shape("gather", x, indices, axes, mode, ("clip", "fill", "mark")), x.dtype)


def _gather_jvp(primals, tangents, *, axes, mode):
    x, indices = primals
    ans = gather_p.bind(x, indices, axes=axes, mode=mode)
    t = tangents[0]
    if type(t) is Zero:
        return ans, zero_tangent(ans.aval)
    return ans, gather_p.bind(t, indices, axes=axes, mode="clip" if mode == "clip" else "fill")


def _gather_transpose(ct: Any, x: Any, indices: Any, *, axes, mode) -> list[Any]:
    # x[i_b, r] was read into ct[b, r] for every b: they add up; what was filled came from nowhere
    return [_added(full(x.shape, 0, ct.dtype), indices, ct, axes, _scatter_mode(mode)), None]


def _gather_batch(args, dims, *, axes, mode):
    (x, indices), (d, d_indices) = args, dims
    if d_indices is None:  # the batch axis is one more of the remaining axes
        out = gather_p.bind(moveaxis(x, d, 0), indices, axes=_shifted(axes, False), mode=mode)
        return out, indices.ndim - 1
    indices = moveaxis(indices, d_indices, 0)
    if d is None:
        return gather_p.bind(x, indices, axes=axes, mode=mode), 0
    return gather_p.bind(moveaxis(x, d, 0), _with_batch_axis(indices), axes=_shifted(axes, True), mode=mode), 0


# --- scatter ---------------------------------------------------------------------------------------------------------
def _scatter_abstract(
    x: ShapedArray, indices: ShapedArray, updates: ShapedArray, *, axes: tuple[int, ...], mode: str, kind: str
) -> ShapedArray:
    if kind not in KINDS:
        raise ValueError(f"scatter: kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}. Choose one.")
    rows = _row_shape("scatter", x, indices, axes, mode, ("clip", "drop"))
    if updates.shape != rows:
        raise ValueError(
            f"scatter: updates must have shape {rows} ({indices.shape[:-1]} of the indices, then the operand's axes "
            f"other than {axes}), got {updates.shape}. Broadcast or reshape them."
        )
    if updates.dtype != x.dtype:
        raise TypeError(
            f"scatter: operand and updates must have equal dtypes, got {x.dtype} and {updates.dtype}. "
            "Convert the updates with .astype."
        )
    what, accepts = DOMAINS[KINDS[kind]]
    if not accepts(x.dtype):
        raise TypeError(f"scatter: kind {kind!r} needs a {what} operand, got {x.dtype}. Convert it with .astype.")
    return ShapedArray(x.shape, x.dtype)


def _added(x: Any, indices: Any, updates: Any, axes: tuple[int, ...], mode: str) -> Any:
    return scatter_p.bind(x, indices, updates, axes=axes, mode=mode, kind="add")


def _gather_mode(mode: str) -> str:
    return "fill" if mode == "drop" else "clip"


def _scatter_mode(mode: str) -> str:
    return "clip" if mode == "clip" else "drop"


def _scatter_jvp(primals, tangents, *, axes, mode, kind):
    x, indices, updates = primals
    ans = scatter_p.bind(x, indices, updates, axes=axes, mode=mode, kind=kind)
    dx, _, du = tangents
    if type(dx) is Zero and type(du) is Zero:
        return ans, zero_tangent(ans.aval)
    dx = full_like(x, 0) if type(dx) is Zero else dx
    du = full_like(updates, 0) if type(du) is Zero else du
    if kind in ("set", "add"):  # linear in operand and updates together
        return ans, scatter_p.bind(dx, indices, du, axes=axes, mode=mode, kind=kind)
    rule = _mul_tangent if kind == "mul" else _extremum_tangent
    return ans, rule(ans, x, indices, updates, dx, du, axes, mode)


def _extremum_tangent(ans, x, indices, updates, dx, du, axes, mode):
    """Min and max: whoever equals the result has its tangent in it; ties share equally."""

    def at(table):
        return gather_p.bind(table, indices, axes=axes, mode=_gather_mode(mode))

    own = convert(eq_p.bind(x, ans), x.dtype)
    hit = convert(eq_p.bind(updates, at(ans)), x.dtype)
    ties = _added(own, indices, hit, axes, mode)
    return div_p.bind(_added(mul_p.bind(dx, own), indices, mul_p.bind(du, hit), axes, mode), ties)


def _mul_tangent(ans, x, indices, updates, dx, du, axes, mode):
    """mul: dx * M + x * sum_b du_b * (the product of the other updates at b's place), M the product of all of them.

    The product of the others may not be M / u_b, for u_b may be zero.  Let P be the product of the nonzero updates at
    a place and Z that of the zeros (1 where there are none; else 0, but a function of them).  The others' product is

        Z * P / u_b    if u_b is not zero,
        P * Z'         if it is, Z' the product of the other zeros: 1 if there is none, their sum if there is one,

    and 0, with a derivative of 0, if there are two or more.  Through Z and Z' also the second derivative is exact
    wherever zeros are; a third one is with at most two zeros at a place.
    """

    def at(table):
        return gather_p.bind(table, indices, axes=axes, mode=_gather_mode(mode))

    def product(factors):
        return scatter_p.bind(full_like(x, 1), indices, factors, axes=axes, mode=mode, kind="mul")

    def total(terms):
        return _added(full_like(x, 0), indices, terms, axes, mode)

    nought, one = full_like(updates, 0), full_like(updates, 1)
    zero = eq_p.bind(updates, nought)
    nonzero = select_n_p.bind(zero, updates, one)
    zeros = select_n_p.bind(zero, one, updates)
    p, z = at(product(nonzero)), at(product(zeros))
    count = at(total(convert(zero, x.dtype)))
    other_zero = sub_p.bind(at(total(select_n_p.bind(zero, nought, updates))), updates)
    lone = select_n_p.bind(eq_p.bind(count, one), nought, one)
    z_others = select_n_p.bind(eq_p.bind(count, full_like(updates, 2)), lone, other_zero)
    others = mul_p.bind(p, select_n_p.bind(zero, div_p.bind(z, nonzero), z_others))
    return add_p.bind(mul_p.bind(dx, product(updates)), mul_p.bind(x, total(mul_p.bind(du, others))))


def _scatter_transpose(ct: Any, x: Any, indices: Any, updates: Any, *, axes, mode, kind) -> list[Any]:
    # add: out = x + (updates added into zeros), so x_bar = ct and updates_bar[b, r] = ct[i_b, r].
    # set: the same, but x was overwritten where anything was written, and of several updates the last one won.
    # mul: out = x * (the product of the updates at each place), linear in x alone.
    if kind in ("min", "max") or (kind == "mul" and isinstance(updates, LinearArg)):
        raise MissingBackendError(
            f"scatter: has no transpose in {'the updates' if kind == 'mul' else 'its operands'} for kind {kind!r}, got "
            "one that depends on the arguments (it is not linear in it). Use vjp for functions that are not linear."
        )
    x_bar = updates_bar = None
    if kind == "mul":
        return [scatter_p.bind(ct, indices, updates, axes=axes, mode=mode, kind="mul"), None, None]
    if isinstance(x, LinearArg):
        x_bar = ct
        if kind == "set":
            nothing = full(updates.shape, 0, ct.dtype)
            x_bar = scatter_p.bind(ct, indices, nothing, axes=axes, mode=mode, kind="set")
    if isinstance(updates, LinearArg):
        updates_bar = gather_p.bind(ct, indices, axes=axes, mode=_gather_mode(mode))
        if kind == "set" and math.prod(indices.shape[:-1]) > 1:
            won = _won(tuple(x.shape), indices, tuple(updates.shape), axes, mode)
            updates_bar = select_n_p.bind(won, full_like(updates_bar, 0), updates_bar)
    return [x_bar, None, updates_bar]


def _won(shape: tuple[int, ...], indices: Any, update_shape: tuple[int, ...], axes: tuple[int, ...], mode: str) -> Any:
    """Which updates of a scatter 'set' are the last at their place: each writes its number, and reads who was last."""
    batch = tuple(indices.shape[:-1])
    places = tuple(shape[a] for a in axes)
    numbers = iota_p.bind(dtype=dtypes.int64, shape=(math.prod(batch),), dimension=0)
    numbers = reshape_p.bind(numbers, new_sizes=batch)
    over = tuple(range(len(axes)))
    table = scatter_p.bind(full(places, -1, dtypes.int64), indices, numbers, axes=over, mode=mode, kind="set")
    last = eq_p.bind(gather_p.bind(table, indices, axes=over, mode=_gather_mode(mode)), numbers)
    return broadcast_in_dim_p.bind(last, shape=update_shape, broadcast_dimensions=tuple(range(len(batch))))


def _scatter_batch(args, dims, *, axes, mode, kind):
    (x, indices, updates), (d, d_indices, d_updates) = args, dims
    size = next(a.shape[i] for a, i in zip(args, dims) if i is not None)
    x = _batch_at(x, d, size, 0)
    if d_indices is None:  # the batch axis is the first of the remaining axes
        updates = _batch_at(updates, d_updates, size, indices.ndim - 1)
        return scatter_p.bind(x, indices, updates, axes=_shifted(axes, False), mode=mode, kind=kind), 0
    indices = _with_batch_axis(moveaxis(indices, d_indices, 0))
    updates = _batch_at(updates, d_updates, size, 0)
    return scatter_p.bind(x, indices, updates, axes=_shifted(axes, True), mode=mode, kind=kind), 0


def _batch_at(x: Any, d: int | None, size: int, to: int) -> Any:
    if d is not None:
        return moveaxis(x, d, to)
    shape = (*x.shape[:to], size, *x.shape[to:])
    dims = tuple(i for i in range(len(shape)) if i != to)
    return broadcast_in_dim_p.bind(x, shape=shape, broadcast_dimensions=dims)


# --- the table -------------------------------------------------------------------------------------------------------
gather_p = Primitive(
    "gather",
    abstract=_gather_abstract,
    reference=reference.gather,
    cpu=Kernel(plan_gather),
    cuda=NO_CUDA,
    jvp=_gather_jvp,
    transpose=_gather_transpose,
    batch=_gather_batch,
)
scatter_p = Primitive(
    "scatter",
    abstract=_scatter_abstract,
    reference=reference.scatter,
    cpu=Kernel(plan_scatter),
    cuda=NO_CUDA,
    jvp=_scatter_jvp,
    transpose=_scatter_transpose,
    batch=_scatter_batch,
)
