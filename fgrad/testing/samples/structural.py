"""Samples of the primitives that move, reduce, index, slide windows, contract, and call."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core.array import lift
from fgrad.core.primitive import REGISTRY
from fgrad.kernels import reference
from fgrad.testing.sample import Sample, Slope, normal, staged
from fgrad.testing.samples.structural_table import (
    CONCATENATIONS,
    CONVS,
    DOTS,
    INDEXINGS,
    MAPS,
    PADS,
    REDUCTIONS,
    WINDOWS,
    indices_for,
    rows_of,
    window,
)

INT32 = np.dtype(np.int32)


def table() -> dict[str, list[Sample]]:
    """The samples of each of them."""
    return _movement() | _reductions() | _indexing() | _windows() | _contractions() | _calls()


# --- movement --------------------------------------------------------------------------------------------------------
def _moved(*shape: int, **params) -> Sample:
    return Sample((normal(*shape),), params, "fib", exact=True)


def _movement() -> dict[str, list[Sample]]:
    samples = {
        "reshape": [
            _moved(2, 3, 4, new_sizes=(4, 6)),
            _moved(new_sizes=(1, 1)),
            _moved(1, 3, 1, new_sizes=(3,)),
            _moved(2, 0, new_sizes=(0, 5, 3)),
        ],
        "transpose": [
            _moved(2, 3, 4, permutation=(2, 0, 1)),
            _moved(permutation=()),
            _moved(1, 3, permutation=(1, 0)),
            _moved(2, 0, permutation=(1, 0)),
        ],
        "broadcast_in_dim": [
            _moved(2, 1, shape=(2, 3, 4), broadcast_dimensions=(0, 2)),
            _moved(3, shape=(3,), broadcast_dimensions=(0,)),
            _moved(shape=(2, 3), broadcast_dimensions=()),
            _moved(1, 2, shape=(0, 2), broadcast_dimensions=(0, 1)),
            _moved(0, shape=(0, 1), broadcast_dimensions=(0,)),
        ],
        "pad": [
            Sample((normal(*shape), normal()), {"padding_config": config}, "fib", exact=True)
            for shape, config in PADS
        ],
        "concatenate": [
            Sample(_joined(dimension, sizes), {"dimension": dimension}, "fib", exact=True)
            for dimension, sizes in CONCATENATIONS
        ],
        "iota": [
            Sample((), {"dtype": np.dtype(dtype), "shape": shape, "dimension": dimension}, exact=True)
            for dtype, shape, dimension in [
                ("int32", (2, 3), 1), ("float64", (2, 3), 0), ("float16", (1,), 0), ("uint8", (0, 2), 1),
            ]
        ],
    }  # fmt: skip
    for name, shape, params in MAPS:
        samples.setdefault(name, []).append(_moved(*shape, **params))
    return samples


def _joined(dimension: int, sizes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    return tuple(normal(*(n if d == dimension else d + 2 for d in range(3)), seed=i) for i, n in enumerate(sizes))


# --- reductions ------------------------------------------------------------------------------------------------------
TIES = np.array([[1.0, 1.0, 1.0, 1.0], [3.0, 0.0, 3.0, 0.0]])
PAIRS = np.array([[1.0, -3.0, 1.0, -3.0], [3.0, 0.0, 3.0, 0.0]])
ZEROS = np.array([[2.0, 0.0, 3.0], [0.0, 5.0, 0.0]])


def _reductions() -> dict[str, list[Sample]]:
    drawn: list[tuple[np.ndarray, dict[str, Any]]] = [(normal(*shape), {"axes": axes}) for shape, axes in REDUCTIONS]
    nothing: tuple[np.ndarray, dict[str, Any]] = (np.zeros((2, 0)), {"axes": (1,)})
    samples = {
        "reduce_sum": [Sample((x,), params, "fi") for x, params in [*drawn, nothing]],
        "reduce_prod": [Sample((x,), params, "fi") for x, params in [*drawn, nothing, (ZEROS, {"axes": (1,)})]],
    }
    for name in ("reduce_max", "reduce_min"):
        # no differences: the identity is infinite
        kinks = [
            Sample((x,), params, "fib", exact=True, slope="kink") for x, params in [(TIES, {"axes": (1,)}), nothing]
        ]
        samples[name] = [*(Sample((x,), params, "fib", exact=True) for x, params in drawn), *kinks]
        samples[name].append(Sample((PAIRS,), {"axes": (1,)}, "fib", exact=True, slope="tie"))
    for name in ("reduce_and", "reduce_or"):
        samples[name] = [Sample((np.rint(9 * x).astype(INT32),), params, "ib") for x, params in [*drawn, nothing]]
    for name in ("argmax", "argmin"):
        samples[name] = [
            Sample((x,), {"axes": (axis,), "index_dtype": np.dtype(dtype)}, "fib", exact=True)
            for x, axis, dtype in [
                (normal(2, 3, 2), 1, "int32"), (TIES, 1, "int64"), (normal(4), 0, "uint8"), (normal(1, 1), 0, "int32"),
                (np.zeros((0, 2)), 1, "int32"),
            ]
        ]  # fmt: skip
    return samples


# --- indexing --------------------------------------------------------------------------------------------------------
def _indexing() -> dict[str, list[Sample]]:
    gathers, scatters = [], []
    for i, (shape, axes, batch) in enumerate(INDEXINGS):
        x, updates = normal(*shape), normal(*rows_of(shape, axes, batch), seed=1)
        indices = indices_for(shape, axes, batch, [np.int64, np.int32][i % 2])
        for mode in ("clip", "fill"):
            gathers.append(Sample((x, indices), {"axes": axes, "mode": mode}, "fib", exact=True, linear=((0,),)))
        for mode, kind in itertools.product(("clip", "drop"), ("set", "add", "mul", "min", "max")):
            params = {"axes": axes, "mode": mode, "kind": kind}
            kinds = {"set": "fib", "add": "fi", "mul": "fi"}.get(kind, "fib")
            linear = ((0, 2),) if kind in ("set", "add") else None
            scatters.append(Sample((x, indices, updates), params, kinds, kind not in ("add", "mul"), linear=linear))
    repeated = np.array([[1], [0], [1], [7]])
    # one row of indices, two of them equal
    xs, params = (normal(4), repeated[None] % 4, normal(1, 4)), {"axes": (0,), "mode": "clip", "kind": "set"}
    scatters.append(Sample(xs, params, exact=True, linear=((0, 2),)))
    # zeros among the factors, ties
    for start, kind in itertools.product(([1.0, 0.0, 2.0], [1.0, 4.0, 2.0]), ("mul", "max")):
        xs = (np.array(start), repeated, np.array([0.0, 1.0, 0.0, 3.0]))
        params = {"axes": (0,), "mode": "drop", "kind": kind}
        scatters.append(Sample(xs, params, "fi", slope="kink" if kind == "max" else "smooth"))
    gathers.append(Sample((np.zeros((0, 2)), repeated), {"axes": (0,), "mode": "fill"}, "fib", True, linear=((0,),)))
    return {"gather": gathers, "scatter": scatters}


# --- windows ---------------------------------------------------------------------------------------------------------
def _windows() -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {
        name: [] for name in ("reduce_window_sum", "reduce_window_winner", "gather_winners", "scatter_winners")
    }
    for shape, params in WINDOWS:
        x = normal(*shape)
        samples["reduce_window_sum"].append(Sample((x,), params, "fi"))
        for kind in ("max", "min"):
            # windows without an element are infinite: no differences
            extremum = REGISTRY[f"reduce_window_{kind}"].slot("reference")(x, **params)
            slope: Slope = "smooth" if np.isfinite(extremum).all() else "kink"
            samples.setdefault(f"reduce_window_{kind}", []).append(Sample((x,), params, "fib", True, slope))
            samples["reduce_window_winner"].append(Sample((x,), params | {"kind": kind}, "fib", True, slope))
            _, taps = reference.reduce_window_winner(x, kind=kind, **params)
            samples["gather_winners"].append(Sample((x, taps), params, "fi", True, linear=((0,),)))
            back = {"shape": x.shape, **params}
            samples["scatter_winners"].append(Sample((normal(*taps.shape), taps), back, "fi", linear=((0,),)))
    ties = window((1, 2), (1, 2))
    for kind in ("max", "min"):
        samples[f"reduce_window_{kind}"].append(Sample((TIES,), ties, "fib", True, "kink"))
        samples["reduce_window_winner"].append(Sample((TIES,), ties | {"kind": kind}, "fib", True, "kink"))
    return samples


# --- contractions ----------------------------------------------------------------------------------------------------
def _contractions() -> dict[str, list[Sample]]:
    dots = [Sample((normal(*left), normal(*right, seed=1)), dot_params(numbers), "fi") for left, right, numbers in DOTS]
    single = [x.astype(np.float32) for x in dots[0].operands]
    dots.append(Sample(tuple(single), dot_params(DOTS[0][2], np.dtype(np.float64))))
    convs = [Sample((normal(*left), normal(*right, seed=1)), params, "fi") for left, right, params in CONVS.values()]
    return {"dot_general": dots, "conv_general_dilated": convs}


def dot_params(numbers: tuple, preferred: np.dtype | None = None) -> dict:
    """Parameters of dot_general."""
    return {"dimension_numbers": numbers, "preferred_element_type": preferred}


# --- calls -----------------------------------------------------------------------------------------------------------
def _calls() -> dict[str, list[Sample]]:
    held = lift(normal(3, seed=1))  # a constant of the jaxpr
    return {
        "jit": [
            _call(lambda x, y: [lax.mul(lax.sin(x), y), lax.reduce_sum(x, (0,))], normal(2, 3), normal(2, 3, seed=1)),
            _call(lambda x, w: [lax.dot(x, w)], normal(2, 3), normal(3, 2, seed=1), linear=((0,), (1,))),
            _call(lambda x, n: [lax.add(x, lax.convert_element_type(n, np.float64)), n], normal(), np.array(3)),
            _call(lambda n, x: [lax.add(n, 1), lax.mul(x, x)], np.array(3), normal(2)),
            _call(lambda x: [lax.exp(x)], np.zeros((0, 2))),
            _call(lambda x: [lax.sin(lax.mul(x, held))], normal(3)),
            _call(lambda x: [lax.neg(x), x], normal(1), linear=((0,),)),
        ]
    }


def _call(fun: Callable, *operands: np.ndarray, linear: tuple | None = None) -> Sample:
    return Sample(operands, {"jaxpr": staged(fun, *operands), "name": "call"}, linear=linear)
