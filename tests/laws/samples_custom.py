"""Samples of calls with rules of their own: custom derivatives, checkpoints, and the identities these use."""

from collections.abc import Callable

import numpy as np
from sample import Sample, normal

from fgrad import lax
from fgrad.core.array import aval_of
from fgrad.core.primitive import Zero
from fgrad.higher_order import checkpoint_policies
from fgrad.transforms.jvp import jvp_flat
from fgrad.transforms.stage import stage


def table() -> dict[str, list[Sample]]:
    return {
        "custom_jvp": custom_jvps(),
        "custom_vjp": custom_vjps(),
        "checkpoint": checkpoints(),
        "name": [Sample((x,), {"name": "x"}, "fib", exact=True, linear=((0,),)) for x in (normal(2, 3), normal())],
        "optimization_barrier": [
            Sample((normal(2, 3), normal()), exact=True, linear=((0, 1),)),
            Sample((normal(0, 2), np.array([1, 2])), exact=True, linear=((0,),)),
        ],
    }


def product(x, y):
    return [lax.mul(lax.sin(x), y), lax.reduce_sum(x, (0,))]


def product_with_integer(x, n):
    return [lax.add(x, lax.convert_element_type(n, np.float64)), n]


def double(x):
    return [lax.add(x, x)]


CALLS = [
    (product, (normal(2, 3), normal(2, 3, seed=1)), None),
    (product_with_integer, (normal(), np.array(3)), None),
    (double, (normal(0, 2),), ((0,),)),
    (double, (normal(3),), ((0,),)),
]


def staged(fun: Callable, operands: tuple):
    return stage(fun, [aval_of(x) for x in operands])


def custom_jvps() -> list[Sample]:
    """Rules that say what differentiation would have found."""

    def sample(fun, operands, linear):
        def rule(primals, tangents):
            return jvp_flat(fun, primals, tangents)

        params = {"fun": staged(fun, operands), "rule": rule, "name": "f", "n_consts": 0}
        return Sample(operands, params, linear=linear)

    return [sample(*call) for call in CALLS]


def custom_vjps() -> list[Sample]:
    """The backward passes of ``product`` and ``double``."""

    def product_fwd(x, y):
        def back(residuals, cts):
            (x, y), (ct, total) = residuals, cts
            spread = lax.broadcast_in_dim(total, x.shape, (1,))
            return [lax.add(lax.mul(lax.mul(lax.cos(x), y), ct), spread), lax.mul(lax.sin(x), ct)]

        return product(x, y), [x, y], back

    def double_fwd(x):
        return double(x), [], lambda residuals, cts: [lax.add(*cts, *cts)]

    def with_integer_fwd(x, n):
        return product_with_integer(x, n), [], lambda residuals, cts: [cts[0], Zero(aval_of(n).tangent())]

    forward = {product: product_fwd, double: double_fwd, product_with_integer: with_integer_fwd}
    return [
        Sample(
            operands,
            {"fun": staged(fun, operands), "fwd": forward[fun], "name": "f", "n_consts": 0, "n_nondiff": 0},
            linear=linear,
            reverse_only=True,
        )
        for fun, operands, linear in CALLS
    ]


def checkpoints() -> list[Sample]:
    policies = [None, checkpoint_policies.everything_saveable]
    return [
        Sample(
            operands,
            {"jaxpr": staged(fun, operands), "name": "f", "policy": policy, "prevent_cse": True},
            linear=linear,
        )
        for fun, operands, linear in CALLS
        for policy in policies
    ]
