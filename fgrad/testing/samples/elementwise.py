"""Samples of the element-wise primitives: the rows of elementwise_table.py, and what has no row."""

from typing import Any

import ml_dtypes
import numpy as np

from fgrad.testing.sample import NeedsSciPy, Sample, normal
from fgrad.testing.samples.elementwise_table import ROWS, Row

SHAPES = [(2, 3), (), (1, 1), (0, 2)]

# One correctly rounded operation, or none: NumPy, eager evaluation and compiled programs have no room to differ.
EXACT = {
    "neg", "add", "sub", "mul", "div", "rem", "max", "min", "abs", "sign", "square", "sqrt", "clamp", "floor", "ceil",
    "round", "nextafter", "reduce_precision", "is_finite", "eq", "ne", "lt", "le", "gt", "ge",
}  # fmt: skip
LINEAR = {"add": ((0, 1),), "sub": ((0, 1),), "div": ((0,),)}
# Operands before the row's own, in which there is no derivative, or (ONCE) no second one.
PARAMETERS = {
    "polygamma": (2.0,),
    "zeta": (2.5,),
    "igamma": (1.5,),
    "igammac": (1.5,),
    "regularized_incomplete_beta": (1.5, 2.0),
}
ONCE = {"igamma", "igammac"}


def sample_of(row: Row, shape: tuple[int, ...], dtype: Any = None, seed: int = 0) -> Sample:
    """The row's function at random operands of this shape; default dtype: float64, or int32 if it takes no floats."""
    dtype = dtype or (np.float64 if "f" in row.kinds else np.int32)
    own = row.draw(shape, dtype, seed)
    parameters = PARAMETERS.get(row.primitive, ())
    scipy: NeedsSciPy = "" if not row.scipy else "derivative" if row.primitive == "lgamma" else "value"
    return Sample(
        (*(np.full(shape, p, dtype) for p in parameters), *own),
        row.params,
        row.kinds,
        exact=row.primitive in EXACT,
        slope="rounds" if row.primitive == "reduce_precision" else "smooth",
        refused=() if row.primitive in ONCE else tuple(range(len(parameters))),
        once=tuple(range(len(parameters))) if row.primitive in ONCE else (),
        linear=LINEAR.get(row.primitive),
        scipy=scipy,
    )


def table() -> dict[str, list[Sample]]:
    """The samples of each of them."""
    samples: dict[str, list[Sample]] = {}
    for row in ROWS:
        samples.setdefault(row.primitive, []).extend(sample_of(row, shape) for shape in SHAPES)
    for name, more in [*KINKS.items(), *OTHERS.items()]:
        samples.setdefault(name, []).extend(more)
    return samples


# --- where a derivative jumps ----------------------------------------------------------------------------------------
EQUAL = np.array([0.0, 1.5, -2.0])
KINKS = {
    "max": [Sample((EQUAL, EQUAL), exact=True, slope="tie")],
    "min": [Sample((EQUAL, EQUAL), exact=True, slope="tie")],
    "abs": [Sample((EQUAL,), exact=True, slope="tie")],
    "pow": [Sample((np.array([0.0, 0.0, 2.0]), np.array([0.0, 2.0, 0.0])), slope="kink")],
    "bessel_i1e": [Sample((np.array([0.0, 1.0, -1.0]),), slope="tie", scipy="value")],  # its second derivative jumps
    "sign": [Sample((EQUAL,), exact=True, slope="kink")],
    "floor": [Sample((EQUAL,), exact=True, slope="kink")],
    "ceil": [Sample((EQUAL,), exact=True, slope="kink")],
    "clamp": [Sample((EQUAL, EQUAL, EQUAL + [0, 0, 1]), exact=True, slope="kink")],
    "div": [Sample((np.array([7, -7, 5, -128]), np.array([-2, 2, 0, -1])), kinds="i")],
    "rem": [Sample((np.array([7, -7, 5, -128]), np.array([-2, 2, 0, -1])), kinds="i")],
}


# --- primitives whose operands differ in shape or dtype --------------------------------------------------------------
def _select(which: np.ndarray, shape: tuple[int, ...], n: int, kinds: str = "fib") -> Sample:
    cases = [normal(*shape, seed=i) for i in range(n)]
    return Sample((which, *cases), kinds=kinds, exact=True, linear=(tuple(range(1, n + 1)),))


def _convert(x: np.ndarray, dtype: Any, weak: bool = False, **notes) -> Sample:
    return Sample((x,), {"new_dtype": np.dtype(dtype), "weak_type": weak}, exact=True, **notes)


def _share(t: np.ndarray, order: np.ndarray) -> Sample:
    return Sample((t, order.astype(np.int8)), exact=True, linear=((0,),))


SINGLE = normal(2, 3).astype(np.float32)
OTHERS = {
    "clamp": [
        Sample((np.full(9, -0.5), normal(9), np.full(9, 0.5)), kinds="fi", exact=True),  # each bound is crossed
        Sample((np.full(3, 0.5), np.array([-1.0, 0.4, 2.0]), np.full(3, 0.3)), kinds="fi", exact=True),  # hi < lo
    ],
    "rem": [Sample((5 * normal(9), normal(9, seed=1)), kinds="f", exact=True)],  # quotients of both signs, not all 0
    "reduce_precision": [Sample((normal(4),), {"exponent_bits": 11, "mantissa_bits": 52}, exact=True)],  # the identity
    "select_n": [
        _select(normal(2, 3) > 0, (2, 3), 2),
        _select(np.array(True), (2, 3), 2),
        _select(np.array(1, np.int32), (3,), 3),
        _select(np.array([[-1, 0], [1, 2], [3, 9]], np.int32), (3, 2), 4),
        _select(np.array(0, np.int32), (), 1),
        _select(np.zeros((0, 2), bool), (0, 2), 2),
    ],
    "convert_element_type": [
        _convert(normal(2, 3), np.float64, weak=True, linear=((0,),)),
        _convert(SINGLE, np.float64, linear=((0,),)),
        _convert(normal(2, 3), np.float32, slope="rounds", linear=((0,),)),
        _convert(normal(), np.float16, slope="rounds", linear=((0,),)),
        _convert(normal(1), ml_dtypes.bfloat16, slope="rounds", linear=((0,),)),
        _convert(9 * normal(5), np.int8),
        _convert(normal(5), bool),
        _convert(np.array([3, -3, 0]), np.float64),
        _convert(np.zeros((2, 0)), np.int64),
    ],
    "bitcast_convert_type": [
        Sample((SINGLE,), {"new_dtype": np.dtype(np.int32)}, exact=True),
        Sample((normal(),), {"new_dtype": np.dtype(np.uint64)}, exact=True),
        Sample((np.arange(3, dtype=np.int16),), {"new_dtype": np.dtype(np.float16)}, exact=True),
        Sample((np.zeros((0, 1)),), {"new_dtype": np.dtype(np.int64)}, exact=True),
    ],
    "order": [
        Sample((normal(3, 4).round(), normal(3, 4, seed=1).round()), kinds="fib", exact=True),
        Sample((np.array([1.0, np.nan, np.nan, np.inf]), np.array([np.nan, 1.0, np.nan, np.inf])), exact=True),
        Sample((np.array(2.0), np.array(1.0)), kinds="fi", exact=True),
        Sample((np.zeros((0, 2)), np.zeros((0, 2))), exact=True),
    ],
    "share": [
        _share(normal(3, 3), np.arange(9).reshape(3, 3) % 3),
        _share(normal(3), np.zeros(3)),
        _share(normal(), np.array(1)),
        _share(normal(0, 2), np.zeros((0, 2))),
    ],
    "flat_index": [
        Sample((np.array([0, 2, -1, -3, 3, -4, 1]), np.array([0, 4, 4, 1, 1, 1, -1]), np.full(7, 3)), exact=True),
        Sample(tuple(np.array(x, np.int32) for x in ([1, -2, 2], [0, 3, 2], [2, 2, 2])), exact=True),
        Sample((np.zeros((0, 2), int),) * 3, exact=True),
    ],
    "stop_gradient": [
        *(Sample((normal(*shape),), kinds="fib", exact=True, slope="zero") for shape in SHAPES),
    ],
}  # fmt: skip
