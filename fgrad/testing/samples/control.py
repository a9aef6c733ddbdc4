"""Samples of the primitives that loop and branch."""

from collections.abc import Callable

import numpy as np

from fgrad import lax
from fgrad.core.array import lift
from fgrad.testing.sample import Sample, normal, staged


def table() -> dict[str, list[Sample]]:
    """The samples of each of them."""
    return {"scan": _scans(), "while": _whiles(), "cond": _conds()}


def _scan(
    body: Callable, consts: tuple, carry: tuple, xs: tuple, length: int, reverse: bool = False, linear=None
) -> Sample:
    jaxpr = staged(body, *consts, *carry, *(x[0] if length else np.zeros(x.shape[1:]) for x in xs))
    params = {"jaxpr": jaxpr, "n_consts": len(consts), "n_carry": len(carry), "length": length, "reverse": reverse}
    return Sample((*consts, *carry, *xs), params, linear=linear)


def _scans() -> list[Sample]:
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
        _scan(cell, (0.5 * w,), (c,), (xs,), 4),
        _scan(cell, (0.5 * w,), (c,), (xs,), 4, reverse=True),
        _scan(affine, (c,), (c,), (xs,), 4, linear=linear),
        _scan(affine, (c,), (c,), (xs,), 4, reverse=True, linear=linear),
        _scan(two, (), (c, 2 * c, np.int32(0)), (xs,), 4),
        _scan(lambda w, x: [lax.exp(lax.mul(w, x))], (c,), (), (xs,), 4),
        _scan(lambda c: [lax.cos(c)], (), (c,), (), 3),
        _scan(affine, (c,), (c,), (np.zeros((0, 3)),), 0, linear=linear),
        _scan(affine, (np.zeros(0),), (np.zeros(0),), (np.zeros((2, 0)),), 2, linear=linear),
    ]


def _whiles() -> list[Sample]:
    def sample(cond, body, cond_consts, body_consts, carry, forward_only=False):
        params = {
            "cond_jaxpr": staged(cond, *cond_consts, *carry),
            "n_cond_consts": len(cond_consts),
            "body_jaxpr": staged(body, *body_consts, *carry),
            "n_body_consts": len(body_consts),
        }
        return Sample((*cond_consts, *body_consts, *carry), params, exact=not forward_only, forward_only=forward_only)

    def collatz(n, steps):
        odd = lax.eq(lax.rem(n, 2), 1)
        return [lax.select(odd, lax.add(lax.mul(n, 3), 1), lax.div(n, 2)), lax.add(steps, 1)]

    def spiral(w, n, x, total):  # x has a tangent from w on, and total from x
        x = lax.tanh(lax.add(lax.mul(w, x), 0.5))
        return [lax.add(n, 1), x, lax.add(total, lax.mul(x, x))]

    many, zero = np.arange(6, dtype=np.int32), np.int32(0)
    return [
        sample(lambda n, steps: [lax.gt(n, 1)], collatz, (), (), (np.int32(27), zero)),
        sample(lambda top, n: [lax.lt(lax.reduce_max(n, (0,)), top)], lambda k, n: [lax.add(lax.mul(n, k), n)],
               (np.int32(99),), (many,), (many + 1,)),
        sample(lambda n: [lax.lt(n, 0)], lambda n: [lax.add(n, 1)], (), (), (zero,)),
        sample(lambda top, n, *_: [lax.lt(n, top)], spiral, (np.int32(4),), (normal(3),),
               (zero, normal(3, seed=1), np.zeros(3)), forward_only=True),
        # examples of a batch end after different numbers of steps
        sample(lambda top, x: [lax.lt(lax.mul(x, 5.0), lax.convert_element_type(top, np.float64))],
               lambda w, x: [lax.add(lax.mul(lax.abs(x), 2.0), lax.mul(w, w))],  # grows, from wherever it starts
               (np.int32(153),), (np.array(1.0),), (np.array(1.0),), forward_only=True),
    ]  # fmt: skip


def _conds() -> list[Sample]:
    w, x = normal(3, 3), normal(3)

    def sample(index, functions, *operands, linear=None):
        branches = tuple(staged(f, *operands) for f in functions)
        return Sample((np.int32(index), *operands), {"branches": branches}, linear=linear)

    smooth = [
        lambda w, x: [lax.tanh(lax.dot(w, x)), w],
        lambda w, x: [lax.mul(x, x), lax.exp(w)],
        lambda w, x: [lax.neg(x), lax.mul(w, 2.0)],
    ]

    def other_order(w, x):
        e = lax.exp(w)
        return [lax.tanh(x), e]

    held = lift(normal(3, seed=1))  # a constant of the branches
    linear = [lambda w, x: [lax.dot(w, x)], lambda w, x: [lax.neg(x)]]
    return [
        *(sample(i, smooth, w, x) for i in range(3)),
        *(sample(i, branches, w, x, linear=((2,),)) for i in range(2) for branches in (linear, linear[::-1])),
        *(sample(i, [smooth[0], other_order], w, x) for i in range(2)),
        *(sample(i, [lambda x: [lax.sin(lax.mul(x, held))], lambda x: [lax.add(x, held)]], x) for i in range(2)),
        sample(0, [lambda x: [lax.exp(x)], lambda x: [x]], np.zeros((0, 2))),
        sample(1, [lambda n, x: [n, lax.mul(x, 3.0)], lambda n, x: [lax.add(n, 1), x]], np.int32(4), x),
    ]
