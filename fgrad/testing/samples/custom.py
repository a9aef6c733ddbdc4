"""Samples of calls with rules of their own: custom derivatives, checkpoints, and the identities these use."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core.array import aval_of, lift
from fgrad.core.primitive import Zero
from fgrad.higher_order import checkpoint_policies
from fgrad.testing.sample import Sample, normal, staged
from fgrad.transforms.jvp import jvp_flat


def table() -> dict[str, list[Sample]]:
    """The samples of each of them."""
    return {
        "custom_jvp": _custom_jvps(),
        "custom_vjp": _custom_vjps(),
        "checkpoint": _checkpoints(),
        "name": [Sample((x,), {"name": "x"}, "fib", exact=True, linear=((0,),)) for x in (normal(2, 3), normal())],
        "optimization_barrier": [
            Sample((normal(2, 3), normal()), exact=True, linear=((0, 1),)),
            Sample((normal(0, 2), np.array([1, 2])), exact=True, linear=((0,),)),
        ],
    }


HELD = lift(normal(3, seed=1))


def _product(x, y):
    return [lax.mul(lax.sin(x), y), lax.reduce_sum(x, (0,))]


def _product_with_integer(x, n):
    return [lax.add(x, lax.convert_element_type(n, np.float64)), n]


def _scaled_by_integer(n, x):
    return [n, lax.mul(x, lax.convert_element_type(n, np.float64))]


def _with_constant(x):
    return [lax.sin(lax.mul(x, HELD))]


def _double(x):
    return [lax.add(x, x)]


Linear = tuple[tuple[int, ...], ...] | None
CALLS: list[tuple[Callable[..., Any], tuple[np.ndarray, ...], Linear]] = [
    (_product, (normal(2, 3), normal(2, 3, seed=1)), None),
    (_product_with_integer, (normal(), np.array(3)), None),
    (_scaled_by_integer, (np.array(3), normal(2)), None),
    (_double, (normal(0, 2),), ((0,),)),
    (_double, (normal(3),), ((0,),)),
]


def _custom_jvps() -> list[Sample]:
    """Rules that say what differentiation would have found."""

    def sample(fun, operands, linear):
        def rule(primals, tangents):
            return jvp_flat(fun, primals, tangents)

        params = {"fun": staged(fun, *operands), "rule": rule, "name": "f", "n_consts": 0}
        return Sample(operands, params, linear=linear)

    return [sample(*call) for call in CALLS]


def _custom_vjps() -> list[Sample]:
    """The backward passes of ``_product`` and ``_double``."""

    def product_fwd(x, y):
        def back(residuals, cts):
            (x, y), (ct, total) = residuals, cts
            spread = lax.broadcast_in_dim(total, x.shape, (1,))
            return [lax.add(lax.mul(lax.mul(lax.cos(x), y), ct), spread), lax.mul(lax.sin(x), ct)]

        return _product(x, y), [x, y], back

    def double_fwd(x):
        return _double(x), [], lambda residuals, cts: [lax.add(*cts, *cts)]

    def with_integer_fwd(x, n):
        return _product_with_integer(x, n), [], lambda residuals, cts: [cts[0], Zero(aval_of(n).tangent())]

    def scaled_fwd(n, x):
        def back(residuals, cts):
            (n,) = residuals
            return [Zero(aval_of(n).tangent()), lax.mul(cts[0], lax.convert_element_type(n, np.float64))]

        return _scaled_by_integer(n, x), [n], back

    forward = {
        _product: product_fwd,
        _double: double_fwd,
        _product_with_integer: with_integer_fwd,
        _scaled_by_integer: scaled_fwd,
    }
    return [
        Sample(
            operands,
            {"fun": staged(fun, *operands), "fwd": forward[fun], "name": "f", "n_consts": 0, "n_nondiff": 0},
            linear=linear,
            reverse_only=True,
        )
        for fun, operands, linear in CALLS
    ]


def _checkpoints() -> list[Sample]:
    policies = [None, checkpoint_policies.everything_saveable]
    return [
        Sample(
            operands,
            {"jaxpr": staged(fun, *operands), "name": "f", "policy": policy, "prevent_cse": True},
            linear=linear,
        )
        for fun, operands, linear in [*CALLS, (_with_constant, (normal(3),), None)]
        for policy in policies
    ]
