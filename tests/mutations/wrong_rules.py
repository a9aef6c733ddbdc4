"""Rules of primitives made wrong by 0.05 %."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.primitive import OverAxis, Primitive, Zero
from fgrad.core.trace import current_trace
from fgrad.primitives.arithmetic import add_p, mul_p
from fgrad.primitives.bitwise import not_p
from fgrad.primitives.broadcast import full_like
from fgrad.testing.call import results
from fgrad.transforms.jvp import apply_jvp

WRONG_BY = 5e-4


# --- wrong results ---------------------------------------------------------------------------------------------------
def off(x: Any) -> Any:
    """An fgrad array too large by 0.05 %, or by one, or negated."""
    if dtypes.is_inexact(x.dtype):
        return mul_p.bind(x, full_like(x, 1 + WRONG_BY))
    return not_p.bind(x) if x.dtype == np.bool_ else add_p.bind(x, full_like(x, 1))


def off_array(x: np.ndarray) -> np.ndarray:
    if dtypes.is_inexact(x.dtype):
        return (x * (1 + WRONG_BY)).astype(x.dtype)
    return ~x if x.dtype == np.bool_ else (x + 1).astype(x.dtype)


def as_given(prim: Primitive, outs: list) -> Any:
    return outs if prim.multiple_results else outs[0]


# --- wrong rules -----------------------------------------------------------------------------------------------------
def reference_off(prim: Primitive, dtype: np.dtype | None) -> Callable:
    """Wrong where the first operand of a sample's own or chosen dtype has ``dtype`` (None: of no operands)."""
    right = prim.reference

    def reference(*xs, **params):
        out = right(*xs, **params)
        if dtype is not None and all(x.dtype != dtype for x in xs):
            return out
        return as_given(prim, [off_array(np.asarray(o)) for o in results(prim, out)])

    return reference


def jvp_off(prim: Primitive, k: int) -> Callable:
    """Wrong in what operand k contributes."""
    right = _Slots(prim)

    def jvp(primals, tangents, **params):
        out, t_out = apply_jvp(current_trace.get(), right, primals, tangents, params)
        if k >= len(tangents) or type(tangents[k]) is Zero:
            return out, t_out
        alone = [t if i == k else Zero(t.aval) for i, t in enumerate(tangents)]
        _, part = apply_jvp(current_trace.get(), right, primals, alone, params)
        outs = [further(o, t, p) for o, t, p in zip(*[results(prim, x) for x in (out, t_out, part)], strict=True)]
        return out, as_given(prim, outs)

    return jvp


def further(out: Any, t: Any, part: Any) -> Any:
    """T + 0.05 % of its part; where that is zero, 0.0005."""
    if not dtypes.is_inexact(out.dtype):
        return t
    extra = full_like(out, WRONG_BY) if type(part) is Zero else mul_p.bind(part, full_like(part, WRONG_BY))
    return extra if type(t) is Zero else add_p.bind(t, extra)


class _Slots:
    """A primitive with its jvp as it is now."""

    def __init__(self, prim: Primitive):
        self.prim, self.jvp = prim, prim.jvp

    def slot(self, name: str) -> Any:
        return getattr(self, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.prim, name)


def transpose_off(prim: Primitive, k: int | None) -> Callable:
    """Wrong in the cotangent of operand k (None: of every one)."""
    right = prim.transpose

    def transpose(ct, *args, **params):
        bars = right(ct, *args, **params)
        return [b if k not in (None, i) or b is None or type(b) is Zero else off(b) for i, b in enumerate(bars)]

    return transpose


def batch_off(prim: Primitive, batched: tuple[int, ...] | None) -> Callable:
    """Wrong where exactly the operands ``batched`` are (None: where all are)."""
    right = prim.batch
    over_axis = type(right) is OverAxis

    def batch(*axis_args_dims, **params):
        outs, out_dims = (right.rule if over_axis else right)(*axis_args_dims, **params)
        dims = axis_args_dims[-1]
        if tuple(i for i, d in enumerate(dims) if d is not None) != (batched or tuple(range(len(dims)))):
            return outs, out_dims
        return as_given(prim, [off(o) for o in results(prim, outs)]), out_dims

    return OverAxis(batch) if over_axis else batch
