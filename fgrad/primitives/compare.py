"""Comparisons and choices: eq ne lt le gt ge, is_finite, select_n, clamp.

Comparisons follow IEEE: every one of them is false on a NaN, but for ``ne``, which is true.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import ScalarMap
from fgrad.core.primitive import LinearArg, Primitive, Zero
from fgrad.primitives.bitwise import and_p, or_p
from fgrad.primitives.broadcast import batch_to_front_or_common, broadcast_in_dim_p, full_like
from fgrad.primitives.define import NO_CUDA, NO_TANGENT, check_same, elementwise, zero_tangent
from fgrad.primitives.transpose import moveaxis


# --- comparisons -----------------------------------------------------------------------------------------------------
def _to_bool(dtype: np.dtype) -> np.dtype:
    return dtypes.bool_


def _comparison(name: str, ufunc: Callable[..., Any], domain: str) -> Primitive:
    def rule(s, x, y):
        return s.cmp(name, x, y)

    return elementwise(name, rule, reference=ufunc, ufunc=ufunc, domain=domain, partials=NO_TANGENT, result=_to_bool)


def _is_finite(s, x):
    return s.is_finite(x)


# --- select_n --------------------------------------------------------------------------------------------------------
def _select_abstract(which: ShapedArray, *cases: ShapedArray) -> ShapedArray:
    if not cases:
        raise TypeError("select_n: at least one case is needed, got none. Give the arrays to choose from.")
    if which.dtype not in (dtypes.bool_, dtypes.int32):
        raise TypeError(f"select_n: which must be bool or int32, got {which.dtype}. Compare, or convert it to int32.")
    if which.dtype == dtypes.bool_ and len(cases) != 2:
        raise TypeError(
            f"select_n: a bool which chooses between 2 cases, got {len(cases)}. Convert it to int32 or give 2 cases."
        )
    check_same("select_n", cases, "any")
    if which.shape not in ((), cases[0].shape):
        raise ValueError(
            f"select_n: which must be a scalar or have the shape of the cases, got {which.shape} and "
            f"{cases[0].shape}. Broadcast it first."
        )
    return ShapedArray(cases[0].shape, cases[0].dtype)


def _select_reference(which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    if which.dtype == dtypes.bool_:
        return np.where(which, cases[1], cases[0])
    out = cases[-1]
    for i in range(len(cases) - 2, -1, -1):
        out = np.where(which <= i, cases[i], out)
    return out


def _select_rule(s, which, *cases):
    """Indices outside [0, n) choose the nearest case."""
    if which.dtype == dtypes.bool_:
        return s.select(which, cases[1], cases[0])
    out = cases[-1]
    for i in range(len(cases) - 2, -1, -1):
        out = s.select(s.cmp("le", which, s.const(i, which.dtype)), cases[i], out)
    return out


def _select_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    which, *cases = primals
    ans = select_n_p.bind(which, *cases)
    if all(type(t) is Zero for t in tangents[1:]):
        return ans, zero_tangent(ans.aval)
    ts = [full_like(c, 0) if type(t) is Zero else t for c, t in zip(cases, tangents[1:])]
    return ans, select_n_p.bind(which, *ts)


def _select_transpose(ct: Any, which: Any, *cases: Any) -> list[Any]:
    # case i had weight 1 where which = i, and 0 elsewhere
    zero = full_like(ct, 0)
    cts = [
        select_n_p.bind(which, *(ct if j == i else zero for j in range(len(cases))))
        if isinstance(c, LinearArg)
        else None
        for i, c in enumerate(cases)
    ]
    return [None, *cts]


def _select_batch(args: Sequence[Any], dims: Sequence[int | None]) -> tuple[Any, int]:
    (which, *cases), (w_dim, *c_dims) = args, dims
    if which.ndim == (w_dim is not None):  # one number for a whole example
        if w_dim is None:
            cases, dim = batch_to_front_or_common(cases, c_dims)
            return select_n_p.bind(which, *cases), dim
        example = next(c.shape[:d] + c.shape[d + 1 :] if d is not None else c.shape for c, d in zip(cases, c_dims))
        shape = (which.shape[0], *example)
        which = broadcast_in_dim_p.bind(which, shape=shape, broadcast_dimensions=(0,))
        cases = [c if d is None else moveaxis(c, d, 0) for c, d in zip(cases, c_dims)]
        c_dims = [None if d is None else 0 for d in c_dims]
    out, dim = batch_to_front_or_common((which, *cases), (w_dim, *c_dims))
    return select_n_p.bind(*out), dim


# --- clamp -----------------------------------------------------------------------------------------------------------
def _clamp(s, lo, x, hi):
    return s.min(s.max(x, lo), hi)


def _clamp_reference(lo: np.ndarray, x: np.ndarray, hi: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(x, lo), hi)


def _where(mask: Any, t: Any) -> Any:
    return select_n_p.bind(mask, full_like(t, 0), t)


# --- the table -------------------------------------------------------------------------------------------------------
eq_p = _comparison("eq", np.equal, "any")
ne_p = _comparison("ne", np.not_equal, "any")
lt_p = _comparison("lt", np.less, "real or bool")
le_p = _comparison("le", np.less_equal, "real or bool")
gt_p = _comparison("gt", np.greater, "real or bool")
ge_p = _comparison("ge", np.greater_equal, "real or bool")
is_finite_p = elementwise(
    "is_finite", _is_finite, reference=np.isfinite, ufunc=np.isfinite, domain="float", partials=NO_TANGENT,
    result=_to_bool,
)  # fmt: skip
select_n_p = Primitive(
    "select_n",
    abstract=_select_abstract,
    reference=_select_reference,
    cpu=ScalarMap(_select_rule, _select_reference),
    cuda=NO_CUDA,
    jvp=_select_jvp,
    transpose=_select_transpose,
    batch=_select_batch,
)
clamp_p = elementwise(
    "clamp", _clamp, reference=_clamp_reference, ufunc=_clamp_reference, domain="real",
    # the whole tangent of whichever bound is crossed; x's own strictly between the bounds; hi's where hi < lo
    partials=(
        lambda t, ans, lo, x, hi: _where(and_p.bind(gt_p.bind(lo, x), le_p.bind(lo, hi)), t),
        lambda t, ans, lo, x, hi: _where(and_p.bind(gt_p.bind(x, lo), lt_p.bind(x, hi)), t),
        lambda t, ans, lo, x, hi: _where(or_p.bind(lt_p.bind(hi, x), lt_p.bind(hi, lo)), t),
    ),
)  # fmt: skip
