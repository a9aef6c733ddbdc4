"""Samples of the primitives that loop and branch.  Derivatives through while are in tests/higher_order."""

from collections.abc import Callable

import numpy as np
from sample import Sample, normal

from fgrad import lax
from fgrad.core.array import aval_of
from fgrad.transforms.stage import stage


def table() -> dict[str, list[Sample]]:
    return {"scan": scans(), "while": whiles(), "cond": conds()}


def staged(fun: Callable, *operands: np.ndarray):
    return stage(fun, [aval_of(x) for x in operands])


def scan(
    body: Callable, consts: tuple, carry: tuple, xs: tuple, length: int, reverse: bool = False, linear=None
) -> Sample:
    jaxpr = staged(body, *consts, *carry, *(x[0] if length else np.zeros(x.shape[1:]) for x in xs))
    params = {"jaxpr": jaxpr, "n_consts": len(consts), "n_carry": len(carry), "length": length, "reverse": reverse}
    return Sample((*consts, *carry, *xs), params, linear=linear)


def scans() -> list[Sample]:
    w, c, xs = normal(3, 3), normal(3), normal(4, 3)

    def cell(w, h, x):
        h = lax.tanh(lax.add(lax.dot(w, h), x))
        return [h, lax.mul(h, h)]

    def affine(w, h, x):
        h = lax.add(lax.mul(h, w), x)
        return [h, lax.neg(h)]

    def two(c, d, n, x):
        return [lax.mul(lax.sin(d), x), c, lax.add(n, 1), lax.reduce_sum(c, (0,))]

    linear = ((1, 2),)
    return [
        scan(cell, (0.5 * w,), (c,), (xs,), 4),
        scan(cell, (0.5 * w,), (c,), (xs,), 4, reverse=True),
        scan(affine, (c,), (c,), (xs,), 4, linear=linear),
        scan(affine, (c,), (c,), (xs,), 4, reverse=True, linear=linear),
        scan(two, (), (c, 2 * c, np.int32(0)), (xs,), 4),
        scan(lambda w, x: [lax.exp(lax.mul(w, x))], (c,), (), (xs,), 4),
        scan(lambda c: [lax.cos(c)], (), (c,), (), 3),
        scan(affine, (c,), (c,), (np.zeros((0, 3)),), 0, linear=linear),
        scan(affine, (np.zeros(0),), (np.zeros(0),), (np.zeros((2, 0)),), 2, linear=linear),
    ]


def whiles() -> list[Sample]:
    def sample(cond, body, cond_consts, body_consts, carry):
        params = {
            "cond_jaxpr": staged(cond, *cond_consts, *carry),
            "n_cond_consts": len(cond_consts),
            "body_jaxpr": staged(body, *body_consts, *carry),
            "n_body_consts": len(body_consts),
        }
        return Sample((*cond_consts, *body_consts, *carry), params, exact=True)

    def collatz(n, steps):
        odd = lax.eq(lax.rem(n, 2), 1)
        return [lax.select(odd, lax.add(lax.mul(n, 3), 1), lax.div(n, 2)), lax.add(steps, 1)]

    many, zero = np.arange(6, dtype=np.int32), np.int32(0)
    return [
        sample(lambda n, steps: [lax.gt(n, 1)], collatz, (), (), (np.int32(27), zero)),
        sample(lambda top, n: [lax.lt(lax.reduce_max(n, (0,)), top)], lambda k, n: [lax.add(lax.mul(n, k), n)],
               (np.int32(99),), (many,), (many + 1,)),
        sample(lambda n: [lax.lt(n, 0)], lambda n: [lax.add(n, 1)], (), (), (zero,)),
    ]  # fmt: skip


def conds() -> list[Sample]:
    w, x = normal(3, 3), normal(3)

    def sample(index, functions, *operands, linear=None):
        branches = tuple(staged(f, *operands) for f in functions)
        return Sample((np.int32(index), *operands), {"branches": branches}, linear=linear)

    smooth = [
        lambda w, x: [lax.tanh(lax.dot(w, x)), w],
        lambda w, x: [lax.mul(x, x), lax.exp(w)],
        lambda w, x: [lax.neg(x), lax.mul(w, 2.0)],
    ]
    linear = [lambda w, x: [lax.dot(w, x)], lambda w, x: [lax.neg(x)]]
    return [
        *(sample(i, smooth, w, x) for i in range(3)),
        *(sample(i, linear, w, x, linear=((2,),)) for i in range(2)),
        sample(0, [lambda x: [lax.exp(x)], lambda x: [x]], np.zeros((0, 2))),
        sample(1, [lambda n, x: [n, lax.mul(x, 3.0)], lambda n, x: [lax.add(n, 1), x]], np.int32(4), x),
    ]
