"""Random samples of fgrad's own primitives, for the laws: those that hold no functions.

Where there are problems of a public function, they are taken: its jaxpr is run up to the equation of the primitive,
whose operands and parameters are the sample.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fgrad.api import make_jaxpr
from fgrad.core.array import lift
from fgrad.core.jaxpr import Literal
from fgrad.core.primitive import REGISTRY, Primitive
from fgrad.kernels import reference
from fgrad.testing.problem import Problem
from fgrad.testing.sample import Sample
from fgrad.testing.samples import elementwise as fixed
from fgrad.testing.samples.elementwise_table import ROWS
from fgrad.testing.strategies import (
    contractions,
    convolution,
    elementwise,
    indexing,
    movement,
    samples_of_calls,
    windows,
)
from fgrad.testing.strategies.basic import SEEDS, axes, draw_arrays, shapes, sizes

FLOATS = ("float64", "float32")
REAL = (*FLOATS, "int32", "uint8")
ANY = (*REAL, "bool")


def samples(primitive: Primitive | str) -> st.SearchStrategy[Sample]:
    """Random samples of one of fgrad's primitives: operands of the dtypes that it takes, parameters of every kind.

    Primitives that hold functions (``jit``, ``scan``, ``while``, ``cond``, custom derivatives, checkpoints, callbacks)
    get small ones.

    Args:
        primitive: the primitive, or its name.

    Raises:
        ValueError: no primitive of fgrad's, or a collective, which has no value outside of a vmap.

    Source: https://hypothesis.readthedocs.io/en/latest/reference/strategies.html

    >>> from hypothesis import find
    >>> from fgrad.testing import check_primitive
    >>> from fgrad.testing.strategies import samples
    >>> sample = find(samples("dilate"), lambda s: s.operands[0].size > 1)
    >>> sample.operands, sample.params
    ((array([0.25, 0.5 ]),), {'factors': (1,)})
    >>> check_primitive("dilate", [sample])
    """
    name = primitive if isinstance(primitive, str) else primitive.name
    table = _table()
    if name not in table:
        raise ValueError(
            f"samples: primitive must be one of fgrad's, got {name!r}. There are samples of {', '.join(sorted(table))}."
        )
    return table[name]()


def _table() -> dict[str, Callable[[], st.SearchStrategy[Sample]]]:
    found: dict[str, Callable[[], st.SearchStrategy[Sample]]] = {
        row.primitive: partial(_functions, row.primitive) for row in ROWS
    }
    found |= {name: partial(_of_function, name) for name in SPACED}
    found |= {name: partial(_of_option, name) for name in PROBLEMS}
    return found | DIRECT | samples_of_calls.table()


# --- from problems ---------------------------------------------------------------------------------------------------
def _of_problems(name: str, problems: st.SearchStrategy[Problem]) -> st.SearchStrategy[Sample]:
    """The first equation of this primitive in a problem's jaxpr; problems without one are drawn again."""
    found: Any = problems.map(lambda p: equation_of(p, name)).filter(lambda s: s is not None)
    return found


def _of_function(name: str) -> st.SearchStrategy[Sample]:
    return _of_problems(name, elementwise.elementwise_problems(functions=(name,)))


def _of_option(name: str) -> st.SearchStrategy[Sample]:
    return _of_problems(name, PROBLEMS[name]())


def equation_of(problem: Problem, name: str) -> Sample | None:
    """The operands and parameters of the first such equation that the problem's jaxpr runs."""
    closed = make_jaxpr(problem.f)(*problem.operands)
    values: dict[Any, Any] = dict(zip(closed.jaxpr.constvars, closed.consts))
    values |= dict(zip(closed.jaxpr.invars, map(lift, problem.operands)))
    for eqn in closed.eqns:
        operands = [lift(a.val) if isinstance(a, Literal) else values[a] for a in eqn.invars]
        if eqn.primitive.name == name:
            return _noted(Sample(tuple([np.asarray(x) for x in operands]), eqn.params), name)
        out = eqn.primitive.bind(*operands, **eqn.params)
        values |= dict(zip(eqn.outvars, out if eqn.primitive.multiple_results else [out]))
    return None


_EXACT = fixed.EXACT | {
    "reshape", "transpose", "broadcast_in_dim", "pad", "concatenate", "rev", "dilate", "undilate", "slice", "gather",
    "reduce_max", "reduce_min", "argmax", "argmin", "cummax", "cummin", "sort", "reduce_window_max",
    "reduce_window_min", "reduce_window_winner", "gather_winners",
}  # fmt: skip


def _noted(sample: Sample, name: str) -> Sample:
    """With what is known of the primitive at these operands."""
    kind = sample.params.get("kind")
    moves = name == "scatter" and kind in ("set", "add")
    cases = tuple(range(1, len(sample.operands)))
    linear = fixed.LINEAR.get(name) or {"gather": ((0,),), "select_n": (cases,)}.get(name)
    sample = sample._replace(
        exact=name in _EXACT or (name == "scatter" and kind in ("set", "min", "max")),
        linear=((0, 2),) if moves else linear,
    )
    if name in ("reduce_max", "reduce_min", "reduce_window_max", "reduce_window_min", "reduce_window_winner"):
        # nothing to take the extremum of gives an infinity
        out = REGISTRY[name].slot("reference")(*sample.operands, **sample.params)
        out = out[0] if isinstance(out, tuple) else out
        if np.issubdtype(out.dtype, np.floating) and not np.isfinite(out).all():
            sample = sample._replace(slope="kink")
    return sample


#: Functions with kinks and jumps, between which the problems' operands lie.
SPACED = ("max", "min", "abs", "sign", "clamp", "floor", "ceil", "round", "rem")
PROBLEMS: dict[str, Callable[[], st.SearchStrategy[Problem]]] = {
    "reshape": lambda: movement.reshape_problems(dtypes=ANY),
    "transpose": lambda: movement.transpose_problems(dtypes=ANY),
    "broadcast_in_dim": lambda: movement.broadcast_problems(dtypes=ANY),
    "concatenate": lambda: movement.concatenate_problems(dtypes=ANY),
    "pad": lambda: movement.pad_problems(dtypes=ANY),
    "rev": lambda: movement.rev_problems(dtypes=ANY),
    "dilate": lambda: movement.dilate_problems(dtypes=ANY),
    "slice": lambda: movement.slice_problems(dtypes=ANY),
    "gather": lambda: indexing.gather_problems(dtypes=ANY),
    "scatter": lambda: indexing.scatter_problems(dtypes=REAL),
    "dot_general": lambda: contractions.dot_general_problems(dtypes=REAL),
    "conv_general_dilated": lambda: convolution.conv_problems(dtypes=REAL, max_macs=1000, max_side=5, max_batch=2),
    "select_n": lambda: elementwise.select_problems(dtypes=ANY),
}


# --- element by element ----------------------------------------------------------------------------------------------
@st.composite
def _functions(draw: Any, name: str) -> Sample:
    row = draw(st.sampled_from([r for r in ROWS if r.primitive == name]))
    kind = draw(st.sampled_from(row.kinds))
    dtype = draw(st.sampled_from({"f": FLOATS, "i": ("int32", "int64", "uint8", "int16"), "b": ("bool",)}[kind]))
    return fixed.sample_of(row, draw(shapes(0, 2, 0, 3)), np.dtype(dtype), draw(SEEDS))


def _dtype(draw: Any, names: tuple[str, ...]) -> np.dtype:
    return np.dtype(draw(st.sampled_from(names)))


@st.composite
def _converted(draw: Any) -> Sample:
    (x,) = draw_arrays(draw, _dtype(draw, (*ANY, "float16", "int64")), [draw(shapes(0, 2, 0, 3))])
    to = _dtype(draw, (*ANY, "float16", "int64"))
    narrower = x.dtype.kind == "f" and to.kind == "f" and to.itemsize < x.itemsize
    linear = ((0,),) if x.dtype.kind == to.kind == "f" else None
    params = {"new_dtype": to, "weak_type": draw(st.booleans()) and to.kind in "fi"}
    return Sample((x,), params, exact=True, slope="rounds" if narrower else "smooth", linear=linear)


@st.composite
def _bitcast(draw: Any) -> Sample:
    width = draw(st.sampled_from((1, 2, 4, 8)))
    names = [d for d in ("int8", "uint8", "int16", "float16", "int32", "float32", "int64", "float64", "uint64")
             if np.dtype(d).itemsize == width]  # fmt: skip
    bits = np.random.default_rng(draw(SEEDS)).integers(0, 1 << 6, draw(shapes(0, 2, 0, 3)))
    x = np.asarray(bits).astype(_dtype(draw, tuple(names)))
    # no derivative, also where the dtype stays: the bits are what is converted
    return Sample((x,), {"new_dtype": _dtype(draw, tuple(names))}, exact=True, slope="zero")


@st.composite
def _unchanged(draw: Any) -> Sample:
    (x,) = draw_arrays(draw, _dtype(draw, ANY), [draw(shapes(0, 2, 0, 3))])
    return Sample((x,), exact=True, slope="zero")


@st.composite
def _orders(draw: Any) -> Sample:
    """Of few numbers: ties are among them."""
    dtype, shape, rng = _dtype(draw, ANY), draw(shapes(0, 2, 0, 3)), np.random.default_rng(draw(SEEDS))
    return Sample(tuple(np.asarray(rng.integers(0, 3, shape)).astype(dtype) for _ in range(2)), exact=True)


@st.composite
def _shared(draw: Any) -> Sample:
    (t,) = draw_arrays(draw, _dtype(draw, FLOATS), [draw(shapes(0, 2, 0, 3))])
    order = np.asarray(np.random.default_rng(draw(SEEDS)).integers(0, 3, t.shape)).astype(np.int8)
    return Sample((t, order), exact=True, linear=((0,),))


@st.composite
def _flat_indices(draw: Any) -> Sample:
    dtype, shape, rng = _dtype(draw, ("int32", "int64")), draw(shapes(0, 2, 0, 3)), np.random.default_rng(draw(SEEDS))
    bounds = (-6, 6), (-2, 9), (1, 5)
    return Sample(tuple(np.asarray(rng.integers(*b, shape)).astype(dtype) for b in bounds), exact=True)


# --- along axes ------------------------------------------------------------------------------------------------------
@st.composite
def _iota(draw: Any) -> Sample:
    shape = draw(shapes(1, 3, 0, 4))
    dimension = draw(st.integers(0, len(shape) - 1))
    dtype = _dtype(draw, ("int32", "float64", "float16", "uint8", "int64"))
    return Sample((), {"dtype": dtype, "shape": shape, "dimension": dimension}, exact=True)


@st.composite
def _undilated(draw: Any) -> Sample:
    shape = draw(shapes(0, 3, 0, 6))
    factors = tuple(draw(st.integers(1, 3)) for _ in shape)
    # the sizes that a dilation gives: a multiple of the factor, and one
    shape = tuple(0 if n == 0 else (n - 1) // f * f + 1 for n, f in zip(shape, factors))
    (x,) = draw_arrays(draw, _dtype(draw, ANY), [shape])
    return Sample((x,), {"factors": factors}, exact=True)


@st.composite
def _reduced(draw: Any, name: str, dtypes: tuple[str, ...]) -> Sample:
    shape = draw(shapes(0, 3, 0, 4))
    (x,) = draw_arrays(draw, _dtype(draw, dtypes), [shape])
    return _noted(Sample((x,), {"axes": tuple(sorted(draw(axes(len(shape), negative=False))))}), name)


@st.composite
def _positions(draw: Any) -> Sample:
    before, after = draw(shapes(0, 1, 0, 3)), draw(shapes(0, 1, 0, 3))
    (x,) = draw_arrays(draw, _dtype(draw, ANY), [(*before, draw(st.integers(1, 5)), *after)])
    params = {"axes": (len(before),), "index_dtype": _dtype(draw, ("int32", "int64", "uint8"))}
    return Sample((x,), params, exact=True)


@st.composite
def _cumulative(draw: Any, name: str, dtypes: tuple[str, ...]) -> Sample:
    shape = draw(shapes(1, 3, 0, 4))
    (x,) = draw_arrays(draw, _dtype(draw, dtypes), [shape])
    return _noted(Sample((x,), {"axis": draw(st.integers(0, len(shape) - 1)), "reverse": draw(st.booleans())}), name)


@st.composite
def _sorted(draw: Any) -> Sample:
    shape, count = draw(shapes(1, 3, 0, 4)), draw(st.integers(1, 3))
    params = {
        "dimension": draw(st.integers(0, len(shape) - 1)), "num_keys": draw(st.integers(1, count)), "is_stable": True,
    }  # fmt: skip
    return Sample(tuple(draw_arrays(draw, _dtype(draw, ANY), [shape] * count)), params, exact=True)


def _windows(kind: str) -> st.SearchStrategy[Sample]:
    problems = windows.reduce_window_problems(computations=({"sum": "add"}.get(kind, kind),), max_side=4)
    return _of_problems(f"reduce_window_{kind}", problems)


@st.composite
def _winners(draw: Any) -> Sample:
    kind = draw(st.sampled_from(("max", "min")))
    sample = draw(_windows(kind))
    return _noted(Sample(sample.operands, {**sample.params, "kind": kind}), "reduce_window_winner")


@st.composite
def _at_winners(draw: Any, name: str) -> Sample:
    sample = draw(_windows("max"))
    (x,) = sample.operands
    best, taps = reference.reduce_window_winner(x, kind="max", **sample.params)
    if name == "gather_winners":
        return Sample((x, taps), sample.params, exact=True, linear=((0,),))
    (ct,) = draw_arrays(draw, x.dtype, [best.shape])
    return Sample((ct, taps), {"shape": x.shape, **sample.params}, linear=((0,),))


# --- matrices --------------------------------------------------------------------------------------------------------
@st.composite
def _matrices(draw: Any, name: str) -> Sample:
    """Well conditioned, and with eigenvalues and singular values apart: between equal ones there is no derivative."""
    rng = np.random.default_rng(draw(SEEDS))
    batch, n = draw(shapes(0, 1, 0, 2)), draw(sizes(4))
    m = draw(sizes(4)) if name in ("qr", "svd") else n
    a = rng.standard_normal((*batch, m, n)) / 4
    apart = np.zeros((m, n))
    np.fill_diagonal(apart, 1.0 + np.arange(min(m, n)))
    params: dict[str, Any] = {}
    operands: tuple[np.ndarray, ...] = (a + apart,)
    refused: tuple[int, ...] = ()
    if name == "cholesky":
        operands = (a @ np.swapaxes(a, -1, -2) + np.eye(n),)
    if name == "solve":
        operands = (*operands, rng.standard_normal((*batch, n, draw(sizes(3, 0)))))
        params = {"transpose_a": draw(st.booleans())}
    if name == "svd":
        full = draw(st.booleans())
        params, refused = {"full_matrices": full}, (0,) if full and m != n else ()
    dtype = _dtype(draw, FLOATS)
    linear = ((1,),) if name == "solve" else None
    return Sample(tuple(x.astype(dtype) for x in operands), params, linear=linear, refused=refused)


DIRECT: dict[str, Callable[[], st.SearchStrategy[Sample]]] = {
    "convert_element_type": _converted,
    "bitcast_convert_type": _bitcast,
    "stop_gradient": _unchanged,
    "order": _orders,
    "share": _shared,
    "flat_index": _flat_indices,
    "iota": _iota,
    "undilate": _undilated,
    **{n: partial(_reduced, n, REAL) for n in ("reduce_sum", "reduce_prod")},
    **{n: partial(_reduced, n, ANY) for n in ("reduce_max", "reduce_min")},
    **{n: partial(_reduced, n, ("int32", "uint8", "bool")) for n in ("reduce_and", "reduce_or")},
    "argmax": _positions,
    "argmin": _positions,
    **{n: partial(_cumulative, n, REAL) for n in ("cumsum", "cumprod")},
    **{n: partial(_cumulative, n, ANY) for n in ("cummax", "cummin")},
    "cumlogsumexp": partial(_cumulative, "cumlogsumexp", FLOATS),
    "sort": _sorted,
    "reduce_window_winner": _winners,
    **{n: partial(_at_winners, n) for n in ("gather_winners", "scatter_winners")},
    **{f"reduce_window_{kind}": partial(_windows, kind) for kind in ("sum", "max", "min")},
    **{n: partial(_matrices, n) for n in ("solve", "cholesky", "qr", "eigh", "svd")},
}
