"""Which of two operands an extremum is, and what of a tangent that operand gets: order and share.

    order(x, y) = 2 where x > y,  1 where x = y,  0 where x < y or either is NaN       (int8)
    share(t, o) = t where o = 2,  t/2 where o = 1,  0 where o = 0, whatever t is there

    max(x, y):  dmax = share(dx, order(x, y)) + share(dy, order(y, x))
    min(x, y):  dmin = share(dx, order(y, x)) + share(dy, order(x, y))

A tie is shared, as in JAX.  What a backward pass keeps of either operand is one byte an element.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import ScalarMap
from fgrad.core.primitive import LinearArg, Primitive, Zero
from fgrad.primitives.define import NO_CUDA, NO_TANGENT, batch_elementwise, elementwise, zero_tangent

_MORE, _EQUAL = 2, 1
_INT8 = np.dtype(np.int8)


# --- order -----------------------------------------------------------------------------------------------------------
def _to_int8(dtype: np.dtype) -> np.dtype:
    return _INT8


def _order(s, x, y):
    more, equal, less = (s.const(n, _INT8) for n in (_MORE, _EQUAL, 0))
    return s.select(s.cmp("gt", x, y), more, s.select(s.cmp("eq", x, y), equal, less))


def _order_reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(x > y, np.int8(_MORE), np.where(x == y, np.int8(_EQUAL), np.int8(0)))


# --- share -----------------------------------------------------------------------------------------------------------
def _share_abstract(t: ShapedArray, order: ShapedArray) -> ShapedArray:
    if not dtypes.is_float(t.dtype) or order.dtype != _INT8 or t.shape != order.shape:
        raise TypeError(
            f"share: takes a floating-point tangent and int8 orders of its shape, got {t} and {order}. "
            "Make the orders with order_p, of operands of the tangent's shape."
        )
    return ShapedArray(t.shape, t.dtype)


def _share(s, t, order):
    half, nought = s.mul(t, s.const(0.5, t.dtype)), s.const(0, t.dtype)
    some = s.select(s.cmp("eq", order, s.const(_EQUAL, order.dtype)), half, nought)
    return s.select(s.cmp("eq", order, s.const(_MORE, order.dtype)), t, some)


def _share_reference(t: np.ndarray, order: np.ndarray) -> np.ndarray:
    half = t * np.asarray(0.5, t.dtype)
    return np.where(order == _MORE, t, np.where(order == _EQUAL, half, np.zeros_like(t)))


def _share_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    t, order = primals
    ans = share_p.bind(t, order)
    return ans, zero_tangent(ans.aval) if type(tangents[0]) is Zero else share_p.bind(tangents[0], order)


def _share_transpose(ct: Any, t: Any, order: Any) -> list[Any]:
    return [share_p.bind(ct, order) if isinstance(t, LinearArg) else None, None]


# --- the table -------------------------------------------------------------------------------------------------------
order_p = elementwise(
    "order", _order, reference=_order_reference, ufunc=_order_reference, domain="real or bool", partials=NO_TANGENT,
    result=_to_int8,
)  # fmt: skip
share_p = Primitive(
    "share",
    abstract=_share_abstract,
    reference=_share_reference,
    cpu=ScalarMap(_share, _share_reference),
    cuda=NO_CUDA,
    jvp=_share_jvp,
    transpose=_share_transpose,
    batch=batch_elementwise("share"),
)
