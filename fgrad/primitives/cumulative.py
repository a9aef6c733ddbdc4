"""Running totals along an axis: cumsum, cumprod, cummax, cummin, cumlogsumexp.

out[i] = x[0] op ... op x[i], or x[i] op ... op x[n - 1] where ``reverse``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Kernel
from fgrad.core.primitive import Linear, Primitive
from fgrad.kernels import reference
from fgrad.kernels.cumulative_plan import plan_cumulative
from fgrad.primitives.arithmetic import add_p, max_p, mul_p, sub_p
from fgrad.primitives.bitwise import or_p
from fgrad.primitives.broadcast import full, full_like
from fgrad.primitives.compare import eq_p, gt_p, lt_p, ne_p, select_n_p
from fgrad.primitives.define import DOMAINS, NO_CUDA, NOT_LINEAR
from fgrad.primitives.iota import iota_p
from fgrad.primitives.padding import pad_p, slice_p
from fgrad.primitives.rev import rev_p
from fgrad.primitives.sort import along
from fgrad.primitives.transcendental import exp_p, log1p_p, logistic_p
from fgrad.primitives.transpose import moveaxis


def _cumulative(name: str, kind: str, domain: str, jvp: Any, transpose: Any = NOT_LINEAR) -> Primitive:
    """A primitive ``name(x, axis, reverse)`` of the kernels' ``kind``."""

    def abstract(x: ShapedArray, *, axis: int, reverse: bool) -> ShapedArray:
        what, accepts = DOMAINS[domain]
        if not accepts(x.dtype):
            raise TypeError(f"{name}: operand must be {what}, got {x.dtype}. Convert it with .astype.")
        if not 0 <= axis < x.ndim:
            raise ValueError(f"{name}: axis must be in [0, {x.ndim}), got {axis} for shape {x.shape}. Change the axis.")
        return ShapedArray(x.shape, x.dtype)

    def batch(args, dims, *, axis, reverse):
        (x,), (d,) = args, dims
        return prim.bind(moveaxis(x, d, 0), axis=axis + 1, reverse=reverse), 0

    prim = Primitive(
        name,
        abstract=abstract,
        reference=lambda x, *, axis, reverse: reference.cumulative(x, kind=kind, axis=axis, reverse=reverse),
        cpu=Kernel(lambda ins, outs, **params: plan_cumulative(ins, outs, kind=kind, **params)),
        cuda=NO_CUDA,
        jvp=jvp,
        transpose=transpose,
        batch=batch,
    )
    return prim


# --- derivatives -----------------------------------------------------------------------------------------------------
def _sum_transpose(ct: Any, x: Any, *, axis: int, reverse: bool) -> list[Any]:
    # x[j] is in out[i] for every i >= j: x_bar[j] = sum of ct[i] over i >= j
    return [cumsum_p.bind(ct, axis=axis, reverse=not reverse)]


def _shifted(x: Any, by: int, axis: int, identity: Any) -> Any:
    """x moved ``by`` places up the axis, the identity coming in."""
    config = tuple((by, -by, 0) if d == axis else (0, 0, 0) for d in range(x.ndim))
    return pad_p.bind(x, full((), identity, x.dtype), padding_config=config)


def _doubling_jvp(prim: Callable[[], Primitive], identity: Any, step: Callable[..., tuple[Any, Any]]) -> Any:
    """The tangents of log2(n) steps, after the k-th of which an element has combined its 2^k predecessors (Hillis and
    Steele 1986, https://doi.org/10.1145/7902.7903): no division, so zeros are nothing special.

    ``step(a, da, b, db)`` is a op b and its tangent.
    """

    def rule(primals, tangents, *, axis, reverse):
        (x,), (t,) = primals, tangents
        ans = prim().bind(x, axis=axis, reverse=reverse)
        if reverse:
            x, t = (rev_p.bind(a, dimensions=(axis,)) for a in (x, t))
        by = 1
        while by < x.shape[axis]:
            x, t = step(_shifted(x, by, axis, identity), _shifted(t, by, axis, 0), x, t)
            by *= 2
        return ans, rev_p.bind(t, dimensions=(axis,)) if reverse else t

    return rule


def _product_step(a: Any, da: Any, b: Any, db: Any) -> tuple[Any, Any]:
    return mul_p.bind(a, b), add_p.bind(mul_p.bind(da, b), mul_p.bind(a, db))


def _logaddexp_step(a: Any, da: Any, b: Any, db: Any) -> tuple[Any, Any]:
    # d log(e^a + e^b) = s(a - b) da + s(b - a) db, s the logistic function; equal infinities count as equal numbers
    apart = sub_p.bind(a, b)
    apart = select_n_p.bind(eq_p.bind(a, b), apart, full_like(a, 0))
    size = select_n_p.bind(lt_p.bind(apart, full_like(a, 0)), apart, sub_p.bind(full_like(a, 0), apart))
    out = add_p.bind(max_p.bind(a, b), log1p_p.bind(exp_p.bind(sub_p.bind(full_like(a, 0), size))))
    share = logistic_p.bind(apart)
    return out, add_p.bind(mul_p.bind(share, da), mul_p.bind(sub_p.bind(full_like(a, 1), share), db))


def _extremum_jvp(prim: Callable[[], Primitive], better: Primitive) -> Any:
    """The tangent at the place where the extremum so far was first reached (the first NaN, if there is one)."""

    def rule(primals: Sequence[Any], tangents: Sequence[Any], *, axis: int, reverse: bool):
        (x,), (t,) = primals, tangents
        ans = prim().bind(x, axis=axis, reverse=reverse)
        n = x.shape[axis]
        if n == 0:
            return ans, t
        if reverse:
            x, t = (rev_p.bind(a, dimensions=(axis,)) for a in (x, t))
        so_far = prim().bind(x, axis=axis, reverse=False)
        start = tuple(1 if d == axis else 0 for d in range(x.ndim))
        ones, size = (1,) * x.ndim, tuple(x.shape)
        end = tuple(m - 1 if d == axis else m for d, m in enumerate(size))
        here = slice_p.bind(x, start_indices=start, limit_indices=size, strides=ones)
        before = slice_p.bind(so_far, start_indices=(0,) * x.ndim, limit_indices=end, strides=ones)
        nan = select_n_p.bind(ne_p.bind(before, before), ne_p.bind(here, here), full_like(ne_p.bind(here, here), False))
        new = or_p.bind(better.bind(here, before), nan)
        places = iota_p.bind(dtype=dtypes.int64, shape=tuple(new.shape), dimension=axis)
        places = add_p.bind(places, full_like(places, 1))
        places = select_n_p.bind(new, full_like(places, 0), places)
        config = tuple((1, 0, 0) if d == axis else (0, 0, 0) for d in range(x.ndim))
        places = pad_p.bind(places, full((), 0, dtypes.int64), padding_config=config)
        t = along(t, cummax_p.bind(places, axis=axis, reverse=False), axis)
        return ans, rev_p.bind(t, dimensions=(axis,)) if reverse else t

    return rule


# --- the table -------------------------------------------------------------------------------------------------------
cumsum_p = _cumulative("cumsum", "add", "number", Linear(), _sum_transpose)
cumprod_p = _cumulative("cumprod", "mul", "number", _doubling_jvp(lambda: cumprod_p, 1, _product_step))
cummax_p = _cumulative("cummax", "max", "real or bool", _extremum_jvp(lambda: cummax_p, gt_p))
cummin_p = _cumulative("cummin", "min", "real or bool", _extremum_jvp(lambda: cummin_p, lt_p))
cumlogsumexp_p = _cumulative(
    "cumlogsumexp", "logaddexp", "float", _doubling_jvp(lambda: cumlogsumexp_p, -np.inf, _logaddexp_step)
)
