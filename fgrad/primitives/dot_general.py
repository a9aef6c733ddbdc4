"""dot_general: products summed over contracted axes, pointwise over batch axes.

    out[b..., i..., j...] = sum over k... of lhs[b, i, k] * rhs[b, j, k]

The result's axes are the batch axes, the free axes of lhs and the free axes of rhs, each in its operand's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Kernel
from fgrad.core.primitive import Bilinear, LinearArg, Primitive
from fgrad.kernels import reference
from fgrad.kernels.cpu.dot import plan_dot_general
from fgrad.primitives.convert import convert
from fgrad.primitives.define import NO_CUDA
from fgrad.primitives.transpose import permute

DotDimensionNumbers = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]


# --- what sums of products share with conv ---------------------------------------------------------------------------
def _kind(dtype: np.dtype) -> str:
    return "f" if dtypes.is_float(dtype) else dtype.kind


def product_dtype(name: str, lhs: ShapedArray, rhs: ShapedArray, preferred: np.dtype | None) -> np.dtype:
    """The result's dtype: the operands' common one, or the one asked for if it is as wide and of the same kind."""
    dtype = lhs.dtype
    if dtype != rhs.dtype:
        raise TypeError(
            f"{name}: operands must have equal dtypes, got {dtype} and {rhs.dtype}. Convert one with .astype."
        )
    if not (dtypes.is_float(dtype) or dtypes.is_integer(dtype)):
        hint = "Multiply real and imaginary parts" if dtype.kind == "c" else "Convert them with .astype"
        raise TypeError(f"{name}: operands must be real numbers, got {dtype}. {hint}.")
    if preferred is None:
        return dtype
    if _kind(preferred) != _kind(dtype):
        raise TypeError(
            f"{name}: preferred_element_type must be of the operands' kind, got {preferred} for {dtype}. "
            "Convert the result with .astype instead."
        )
    if preferred.itemsize < dtype.itemsize:
        raise TypeError(
            f"{name}: preferred_element_type must not be narrower than the operands, got {preferred} "
            f"({preferred.itemsize} bytes) for {dtype} ({dtype.itemsize} bytes). Convert the result with .astype."
        )
    return preferred


def in_preferred(fun: Any) -> Any:
    """The reference computed in the preferred dtype: converting first is exact, as it is never the narrower one."""

    def reference_rule(lhs: np.ndarray, rhs: np.ndarray, *, preferred_element_type, **params) -> np.ndarray:
        dtype = preferred_element_type or lhs.dtype
        return fun(lhs.astype(dtype), rhs.astype(dtype), **params)

    return reference_rule


def by_result_dtype(planner: Any) -> Any:
    """The planner without ``preferred_element_type``, which it reads off the result's layout."""

    def plan(ins, outs, *, preferred_element_type, **params):
        return planner(ins, outs, **params)

    return plan


# --- rules -----------------------------------------------------------------------------------------------------------
def _free(ndim: int, contracted: Sequence[int], batch: Sequence[int]) -> list[int]:
    return [d for d in range(ndim) if d not in contracted and d not in batch]


def _abstract(
    lhs: ShapedArray, rhs: ShapedArray, *, dimension_numbers: DotDimensionNumbers, preferred_element_type
) -> ShapedArray:
    (lc, rc), (lb, rb) = dimension_numbers
    l_ndim, r_ndim = len(lhs.shape), len(rhs.shape)
    for what, left, right in (("contracted", lc, rc), ("batch", lb, rb)):
        if len(left) != len(right):
            raise ValueError(
                f"dot_general: both operands must have equally many {what} axes, got {left} of lhs and {right} of rhs. "
                "Pair the axes."
            )
        for i, j in zip(left, right):
            if not (0 <= i < l_ndim and 0 <= j < r_ndim):
                raise ValueError(
                    f"dot_general: {what} axes must be in [0, {l_ndim}) for lhs and in [0, {r_ndim}) for rhs, "
                    f"got {left} and {right} for shapes {lhs.shape} and {rhs.shape}. Change dimension_numbers."
                )
            if lhs.shape[i] != rhs.shape[j]:
                raise ValueError(
                    f"dot_general: {what} axes must have equal sizes, got {lhs.shape[i]} (axis {i} of lhs) and "
                    f"{rhs.shape[j]} (axis {j} of rhs) for shapes {lhs.shape} and {rhs.shape}. Transpose or reshape an "
                    "operand."
                )
    for name, used in (("lhs", (*lc, *lb)), ("rhs", (*rc, *rb))):
        if len(set(used)) != len(used):
            raise ValueError(
                f"dot_general: an axis must not be named twice, got axes {used} of {name} (contracted, then batch). "
                "Change dimension_numbers."
            )
    dtype = product_dtype("dot_general", lhs, rhs, preferred_element_type)
    kept = [lhs.shape[d] for d in (*lb, *_free(l_ndim, lc, lb))]
    kept += [rhs.shape[d] for d in _free(r_ndim, rc, rb)]
    return ShapedArray(tuple(kept), dtype)


def _transpose(ct: Any, lhs: Any, rhs: Any, *, dimension_numbers, preferred_element_type) -> list[Any]:
    # out [b, i, j] = sum_k lhs [b, i, k] rhs [b, j, k]
    #     lhs_bar [b, i, k] = sum_j ct [b, i, j] rhs [b, j, k]
    #     rhs_bar [b, k, j] = sum_i lhs [b, i, k] ct [b, i, j]
    # and then each axis back to its place in the operand.
    (lc, rc), (lb, rb) = dimension_numbers
    batch = tuple(range(len(lb)))
    i_lhs, j_rhs = _free(lhs.ndim, lc, lb), _free(rhs.ndim, rc, rb)
    i_ct = tuple(range(len(batch), len(batch) + len(i_lhs)))
    j_ct = tuple(range(len(batch) + len(i_lhs), ct.ndim))
    if isinstance(lhs, LinearArg):
        numbers = ((j_ct, tuple(j_rhs)), (batch, rb))
        out = dot_general_p.bind(ct, convert(rhs, ct.dtype), dimension_numbers=numbers, preferred_element_type=None)
        k_lhs = [lc[rc.index(d)] for d in sorted(rc)]
        return [convert(_to_places(out, [*lb, *i_lhs, *k_lhs]), lhs.dtype), None]
    numbers = ((tuple(i_lhs), i_ct), (lb, batch))
    out = dot_general_p.bind(convert(lhs, ct.dtype), ct, dimension_numbers=numbers, preferred_element_type=None)
    k_rhs = [rc[lc.index(d)] for d in sorted(lc)]
    return [None, convert(_to_places(out, [*rb, *k_rhs, *j_rhs]), rhs.dtype)]


def _to_places(x: Any, places: list[int]) -> Any:
    """Axis d of x becomes axis places[d]."""
    return permute(x, sorted(range(len(places)), key=places.__getitem__))


def _batch(args, dims, *, dimension_numbers, preferred_element_type):
    (lhs, rhs), (dl, dr) = args, dims
    (lc, rc), (lb, rb) = dimension_numbers

    def bind(lhs, rhs, numbers):
        return dot_general_p.bind(lhs, rhs, dimension_numbers=numbers, preferred_element_type=preferred_element_type)

    def past(d, axes):
        return tuple(a + (a >= d) for a in axes)

    if dl is not None and dr is not None:  # one more batch axis
        numbers = ((past(dl, lc), past(dr, rc)), ((dl, *past(dl, lb)), (dr, *past(dr, rb))))
        return bind(lhs, rhs, numbers), 0
    if dl is not None:  # one more free axis of lhs
        numbers = ((past(dl, lc), rc), (past(dl, lb), rb))
        free = _free(lhs.ndim, *(axes[0] for axes in numbers))
        return bind(lhs, rhs, numbers), len(lb) + free.index(dl)
    numbers = ((lc, past(dr, rc)), (lb, past(dr, rb)))
    free = _free(rhs.ndim, *(axes[1] for axes in numbers))
    return bind(lhs, rhs, numbers), lhs.ndim - len(lc) + free.index(dr)


dot_general_p = Primitive(
    "dot_general",
    abstract=_abstract,
    reference=in_preferred(reference.dot_general),
    cpu=Kernel(by_result_dtype(plan_dot_general), epilogue=True),
    cuda=NO_CUDA,
    jvp=Bilinear(),
    transpose=_transpose,
    batch=_batch,
)
