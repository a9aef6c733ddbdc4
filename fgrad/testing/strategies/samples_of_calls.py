"""Random samples of the primitives that hold functions: small ones of vectors, which are smooth everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fgrad import lax
from fgrad.higher_order import checkpoint_policies
from fgrad.testing.sample import Sample, staged
from fgrad.testing.samples import callbacks
from fgrad.testing.strategies.basic import SEEDS, shapes, sizes
from fgrad.transforms.jvp import jvp_flat
from fgrad.transforms.linearize import linearize_flat

Function = Callable[..., list[Any]]

_UNARY: dict[str, Callable[[Any], Any]] = {
    "sin": lax.sin,
    "tanh": lax.tanh,
    "neg": lax.neg,
    "half": lambda x: lax.mul(x, 0.5),
    "rev": lambda x: lax.rev(x, (0,)),
    "cumsum": lambda x: lax.cumsum(x, 0),
}
_BINARY: dict[str, Callable[[Any, Any], Any]] = {"mul": lax.mul, "add": lax.add, "sub": lax.sub}


# --- functions -------------------------------------------------------------------------------------------------------
@st.composite
def _functions(draw: Any, n_in: int, n_out: int) -> Function:
    """A function of ``n_in`` vectors of one size to ``n_out`` of them, some of which may be its arguments."""
    steps: list[tuple[str, int, int]] = []
    for k in range(draw(st.integers(1, 3))):
        place = st.integers(0, n_in + k - 1)
        steps.append((draw(st.sampled_from([*_UNARY, *_BINARY])), draw(place), draw(place)))
    outs = [draw(st.integers(0, n_in + len(steps) - 1)) for _ in range(n_out)]
    if outs:
        outs[0] = n_in + len(steps) - 1

    def function(*xs: Any) -> list[Any]:
        values = list(xs)
        for op, i, j in steps:
            values.append(_UNARY[op](values[i]) if op in _UNARY else _BINARY[op](values[i], values[j]))
        return [values[i] for i in outs]

    return function


def _vectors(draw: Any, count: int, *shape: int) -> tuple[np.ndarray, ...]:
    dtype = draw(st.sampled_from(("float64", "float32")))
    return tuple(np.random.default_rng(draw(SEEDS)).standard_normal((count, *shape)).astype(dtype))


@st.composite
def _calls(draw: Any) -> tuple[Function, tuple[np.ndarray, ...]]:
    """A function and its operands."""
    n = draw(st.integers(1, 3))
    return draw(_functions(n, draw(st.integers(1, 2)))), _vectors(draw, n, draw(sizes(4, 0)))


# --- samples ---------------------------------------------------------------------------------------------------------
@st.composite
def _jits(draw: Any) -> Sample:
    function, operands = draw(_calls())
    return Sample(operands, {"jaxpr": staged(function, *operands), "name": "call"})


@st.composite
def _checkpoints(draw: Any) -> Sample:
    function, operands = draw(_calls())
    policy = draw(st.sampled_from((None, checkpoint_policies.everything_saveable, checkpoint_policies.dots_saveable)))
    params = {"jaxpr": staged(function, *operands), "name": "f", "policy": policy, "prevent_cse": draw(st.booleans())}
    return Sample(operands, params)


@st.composite
def _custom_jvps(draw: Any) -> Sample:
    """The rule is the derivative."""
    function, operands = draw(_calls())

    def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
        return jvp_flat(function, list(primals), list(tangents))

    return Sample(operands, {"fun": staged(function, *operands), "rule": rule, "name": "f", "n_consts": 0})


@st.composite
def _custom_vjps(draw: Any) -> Sample:
    """The backward pass is the transposed tape."""
    function, operands = draw(_calls())

    def forward(*xs: Any) -> Any:
        def back(residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
            _, tape = linearize_flat(function, list(residuals), [True] * len(residuals))
            return tape.transpose(list(cts))

        return function(*xs), list(xs), back

    params = {"fun": staged(function, *operands), "fwd": forward, "name": "f", "n_consts": 0, "n_nondiff": 0}
    return Sample(operands, params, reverse_only=True)


@st.composite
def _scans(draw: Any) -> Sample:
    """Constants, a carry and scanned operands in any number, a carry at least or something scanned."""
    n_consts, n_carry, n_xs = draw(st.integers(0, 2)), draw(st.integers(0, 2)), draw(st.integers(0, 2))
    n_carry = n_carry or int(n_xs == 0)
    n, length = draw(sizes(3, 0)), draw(sizes(4, 0))
    inner = draw(_functions(n_consts + n_carry + n_xs, n_carry + draw(st.integers(0, 2))))

    def body(*operands: Any) -> list[Any]:
        outs = inner(*operands)
        return [*map(lax.tanh, outs[:n_carry]), *outs[n_carry:]]  # what is carried stays bounded

    single = _vectors(draw, n_consts + n_carry + n_xs, n)
    seed = draw(SEEDS)
    scanned = [
        np.random.default_rng([seed, i]).standard_normal((length, n)).astype(x.dtype)
        for i, x in enumerate(single[n_consts + n_carry :])
    ]
    params = {
        "jaxpr": staged(body, *single), "n_consts": n_consts, "n_carry": n_carry, "length": length,
        "reverse": draw(st.booleans()),
    }  # fmt: skip
    return Sample((*single[: n_consts + n_carry], *scanned), params)


@st.composite
def _whiles(draw: Any) -> Sample:
    """A counter and vectors; how many steps, an operand says."""
    n_consts, n_carry = draw(st.integers(0, 2)), draw(st.integers(1, 2))
    inner, floats = draw(_functions(n_consts + n_carry, n_carry)), _vectors(draw, n_consts + n_carry, draw(sizes(3, 0)))
    top, start = np.array(draw(st.integers(0, 4)), np.int32), np.array(0, np.int32)

    def body(*operands: Any) -> list[Any]:
        consts, (i, *carry) = operands[:n_consts], operands[n_consts:]
        return [lax.add(i, 1), *map(lax.tanh, inner(*consts, *carry))]

    consts, carry = floats[:n_consts], (start, *floats[n_consts:])
    params = {
        "cond_jaxpr": staged(lambda top, i, *_: [lax.lt(i, top)], top, *carry), "n_cond_consts": 1,
        "body_jaxpr": staged(body, *consts, *carry), "n_body_consts": n_consts,
    }  # fmt: skip
    return Sample((top, *consts, *carry), params, forward_only=True)


@st.composite
def _conds(draw: Any) -> Sample:
    """One to three branches (``lax.switch`` has clamped the index)."""
    n, n_out = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    operands = _vectors(draw, n, draw(sizes(3, 0)))
    branches = [draw(_functions(n, n_out)) for _ in range(draw(st.integers(1, 3)))]
    index = np.array(draw(st.integers(0, len(branches) - 1)), np.int32)
    return Sample((index, *operands), {"branches": tuple(staged(f, *operands) for f in branches)})


@st.composite
def _names(draw: Any) -> Sample:
    return Sample(_vectors(draw, 1, *draw(shapes(0, 2, 0, 3))), {"name": "x"}, exact=True, linear=((0,),))


@st.composite
def _barriers(draw: Any) -> Sample:
    n = draw(st.integers(1, 3))
    return Sample(_vectors(draw, n, *draw(shapes(0, 2, 0, 3))), exact=True, linear=(tuple(range(n)),))


@st.composite
def _callbacks(draw: Any, name: str) -> Sample:
    sample, seed = draw(st.sampled_from(callbacks.table()[name])), draw(SEEDS)
    operands = [np.random.default_rng([seed, i]).standard_normal(x.shape) for i, x in enumerate(sample.operands)]
    return sample._replace(operands=tuple(operands))


def table() -> dict[str, Callable[[], st.SearchStrategy[Sample]]]:
    """The strategies by the names of the primitives."""
    return {
        "jit": _jits,
        "checkpoint": _checkpoints,
        "custom_jvp": _custom_jvps,
        "custom_vjp": _custom_vjps,
        "scan": _scans,
        "while": _whiles,
        "cond": _conds,
        "name": _names,
        "optimization_barrier": _barriers,
        "debug_callback": lambda: _callbacks("debug_callback"),
        "pure_callback": lambda: _callbacks("pure_callback"),
    }
