"""Programs with loops and branches, written once for fgrad, for JAX and for loops in plain Python.

A program is ``make(np, lax) -> function of float64 arrays``; ``PLAIN`` is a ``lax`` whose loops are Python's.
"""

from typing import Any, NamedTuple

import numpy as onp

import fgrad
import fgrad.numpy as fnp
from fgrad import tree


class PLAIN:
    """JAX's control flow in Python loops and ifs, for concrete predicates; for the values and derivatives to expect."""

    @staticmethod
    def scan(f, init, xs=None, length=None, reverse=False, unroll=1):
        n = length if xs is None else tree.tree_leaves(xs)[0].shape[0]
        carry, ys = init, [None] * n
        for t in reversed(range(n)) if reverse else range(n):
            carry, ys[t] = f(carry, tree.tree_map(lambda x, t=t: x[t], xs))
        return carry, tree.tree_map(lambda *y: fnp.stack(y), ys[0], *ys[1:])

    @staticmethod
    def fori_loop(lower, upper, body, init, unroll=None):
        for i in range(int(lower), int(upper)):
            init = body(i, init)
        return init

    @staticmethod
    def while_loop(cond, body, init):
        while bool(fgrad.lax.stop_gradient(cond(init))):
            init = body(init)
        return init

    @staticmethod
    def cond(pred, true_fun, false_fun, *operands):
        return (true_fun if pred else false_fun)(*operands)

    @staticmethod
    def switch(index, branches, *operands):
        return branches[min(max(int(index), 0), len(branches) - 1)](*operands)

    @staticmethod
    def map(f, xs, batch_size=None):
        n = tree.tree_leaves(xs)[0].shape[0]
        ys = [f(tree.tree_map(lambda x, t=t: x[t], xs)) for t in range(n)]
        return tree.tree_map(lambda *y: fnp.stack(y), ys[0], *ys[1:])

    @staticmethod
    def associative_scan(fn, elems, reverse=False, axis=0):
        def at(x, t):
            return fnp.moveaxis(x, axis, 0)[t]

        n = tree.tree_leaves(elems)[0].shape[axis]
        out: list[Any] = []
        for t in reversed(range(n)) if reverse else range(n):
            e = tree.tree_map(lambda x, t=t: at(x, t), elems)
            out.append(fn(out[-1], e) if out else e)
        if reverse:
            out.reverse()
        return tree.tree_map(lambda *y: fnp.stack(y, axis), out[0], *out[1:])


def normal(*shape, seed=0):
    return onp.random.default_rng([seed, *shape]).standard_normal(shape)


# --- scans -----------------------------------------------------------------------------------------------------------
def rnn(np, lax):
    def f(w, h, xs):
        def step(h, x):
            h = np.tanh(w @ h + x)
            return h, h * h

        return lax.scan(step, h, xs)

    return f


def backwards(np, lax):
    def f(w, c, xs):
        def step(carry, x):
            a, b = carry
            return (b * w, np.sin(a) + x), {"sum": a + b, "x": x * x}

        return lax.scan(step, (c, 2 * c), xs, reverse=True)

    return f


def unrolled(np, lax):
    def f(w, c, xs):
        return lax.scan(lambda c, x: (np.sin(c * w) + x, c), c, xs, unroll=3)

    return f


def unrolled_backwards(np, lax):
    def f(w, c, xs):
        return lax.scan(lambda c, x: (np.sin(c * w) + x, c), c, xs, reverse=True, unroll=2)

    return f


def wholly_unrolled(np, lax):
    def f(w, c, xs):
        return lax.scan(lambda c, x: (np.sin(c * w) + x, c), c, xs, unroll=True)

    return f


def no_xs(np, lax):
    def f(c):
        return lax.scan(lambda c, _: (c * np.cos(c), None), c, None, length=4)

    return f


def no_carry(np, lax):
    def f(w, xs):
        return lax.scan(lambda c, x: (c, np.exp(x @ w)), None, xs)

    return f


def idle_carry(np, lax):
    def f(w, c, xs):
        def step(carry, x):
            w, c, unread = carry
            return (w, np.sin(w * c) + x, unread), w * x

        return lax.scan(step, (w, c, c * c), xs)

    return f


def pytrees(np, lax):
    def f(p, xs):
        def step(c, x):
            new = {"h": np.sin(c["h"] * p["a"]) + x[0], "k": (c["k"][0] * x[1], c["n"] * c["k"][0]), "n": c["n"] + 1}
            return {"h": new["h"], "k": (new["k"][0],), "n": new["n"]}, (new["k"][1], [new["h"]])

        return lax.scan(step, {"h": p["b"], "k": (p["a"],), "n": 0}, xs)[1]

    return f


def constants_only(np, lax):
    """Everything but the product is the same in each step."""

    def f(w, xs):
        def step(c, x):
            return c + np.sum(np.exp(w @ w) * x), None

        return lax.scan(step, 0.0, xs)[0]

    return f


def shapes(np, lax):
    def f(c, xs):
        def step(c, x):
            wide = np.broadcast_to(np.sin(x), (2, 3)).T
            return np.tanh(c * np.sum(wide * c[:, None]) + x), np.concatenate([c, x])[::2] * 3.0

        return lax.scan(step, c, xs)

    return f


def of_scan(np, lax):
    def f(w, xs):
        def outer(c, x):
            c, ys = lax.scan(lambda h, y: (np.sin(h * w) + y, h * y), c, x)
            return c * 0.5, np.sum(ys, axis=0)

        return lax.scan(outer, w, xs)

    return f


def with_cond(np, lax):
    def f(w, c, xs):
        def step(c, tx):
            t, x = tx
            c = lax.cond(t % 2 == 0, lambda c, x: np.sin(c * w), lambda c, x: c * x + w, c, x)
            return c, lax.switch(t, [lambda c: c, lambda c: np.exp(c), lambda c: c * w], c)

        return lax.scan(step, c, (onp.arange(5), xs))

    return f


def with_jit(np, lax):
    import importlib

    jit = importlib.import_module(np.__name__.split(".")[0]).jit

    def f(w, c, xs):
        inner = jit(lambda c, x: np.sin(c * np.broadcast_to(w, c.shape)) + x)
        return jit(lambda c: lax.scan(lambda c, x: (inner(c, x), inner(c, c)), c, xs))(c)

    return f


# --- other loops with a known length ---------------------------------------------------------------------------------
def ode(np, lax):
    def f(y, k):
        def step(i, y):
            a = np.stack([y[1], -k * np.sin(y[0])])
            return y + 0.1 * a + 0.01 * (i * y)

        return lax.fori_loop(2, 9, step, y)

    return f


def fori_tree(np, lax):
    def f(a, b):
        return lax.fori_loop(0, 4, lambda i, s: {"a": s["a"] * s["b"], "b": s["b"] + i * b}, {"a": a, "b": b}, unroll=2)

    return f


def mapped(np, lax):
    def f(w, xs):
        return lax.map(lambda x: (np.sin(x["a"] @ w), x["b"] * 2), xs)

    return f


def mapped_in_batches(np, lax):
    def f(w, xs):
        return lax.map(lambda x: (np.sin(x["a"] @ w), x["b"] * 2), xs, batch_size=2)

    return f


def prefix_products(np, lax):
    def f(xs):
        return lax.associative_scan(lambda a, b: a @ b, xs)

    return f


def recurrence(np, lax):
    """h[t] = a[t] h[t-1] + b[t], along axis 1, backwards."""

    def f(a, b):
        def combine(first, then):
            return first[0] * then[0], first[1] * then[0] + then[1]

        return lax.associative_scan(combine, (a, b), reverse=True, axis=1)

    return f


# --- branches --------------------------------------------------------------------------------------------------------
def branch_if(np, lax):
    def f(w, x):
        big, other = np.sum(w * w), x * 2
        return lax.cond(
            True,
            lambda p: {"y": np.sin(p[0] * p[1]) * big, "z": p[0]},
            lambda p: {"y": p[1] + other, "z": np.exp(p[1])},
            (w, x),
        )

    return f


def branch_else(np, lax):
    def f(w, x):
        return lax.cond(np.int32(0) == 1, lambda w, x: np.sin(w) * x, lambda w, x: np.exp(x * x), w, x)

    return f


def branches(np, lax):
    def f(w, x):
        pick = [lambda w, x: w * 1.0, lambda w, x: np.tanh(w) @ np.outer(x, x), lambda w, x: np.exp(w) * np.cos(x)]
        return [lax.switch(i, pick, w, x) for i in (0, 1, 2, 7)]

    return f


# --- while -----------------------------------------------------------------------------------------------------------
def newton(np, lax):
    """The square roots of a, all to the same accuracy."""

    def f(a):
        def go(state):
            x, n = state
            return (np.max(np.abs(x * x - a)) > 1e-9) & (n < 50)

        return lax.while_loop(go, lambda s: (0.5 * (s[0] + a / s[0]), s[1] + 1), (a * 0 + 2.0, 0))[0]

    return f


def while_tree(np, lax):
    def f(a, w):
        def step(s):
            return {"x": s["x"] * w, "unused": s["unused"] + 1, "fixed": s["fixed"], "n": s["n"] + 1}

        init = {"x": a, "unused": a, "fixed": a * a, "n": 0}
        out = lax.while_loop(lambda s: s["n"] < 4, step, init)
        return out["x"] * out["fixed"]

    return f


def while_in_scan(np, lax):
    def f(w, xs):
        def step(c, x):
            c = lax.while_loop(lambda s: s[1] < 3, lambda s: (np.sin(s[0] * w) + x, s[1] + 1), (c, 0))[0]
            return c, c * x

        return lax.scan(step, w, xs)

    return f


def scan_in_while(np, lax):
    def f(w, xs):
        def step(s):
            c, n = s
            return lax.scan(lambda c, x: (np.sin(c * w) + x, None), c, xs)[0], n + 1

        return lax.while_loop(lambda s: s[1] < 2, step, (w, 0))[0]

    return f


class Program(NamedTuple):
    make: Any
    args: tuple[Any, ...]
    reverse: bool = True  # whether reverse mode goes through it


W, C, XS = normal(3, 3), normal(3), normal(5, 3)
TREE = {"a": normal(5, 2, 3), "b": normal(5)}
PROGRAMS = {
    p.make.__name__: p
    for p in [
        Program(rnn, (0.5 * W, C, XS)),
        Program(backwards, (normal(3, seed=4), C, XS)),
        Program(unrolled, (normal(3, seed=4), C, XS)),
        Program(unrolled_backwards, (normal(3, seed=4), C, XS)),
        Program(wholly_unrolled, (normal(3, seed=4), C, XS)),
        Program(no_xs, (C,)),
        Program(no_carry, (W, XS)),
        Program(idle_carry, (normal(3, seed=4), C, XS)),
        Program(pytrees, ({"a": normal(3, seed=5), "b": C}, (XS, normal(5, 3, seed=6)))),
        Program(constants_only, (0.3 * W, normal(5))),
        Program(shapes, (C, XS)),
        Program(of_scan, (C, normal(4, 2, 3))),
        Program(with_cond, (normal(3, seed=4), C, XS)),
        Program(with_jit, (normal(3, seed=4), C, XS)),
        Program(ode, (normal(2), normal()[()])),
        Program(fori_tree, (C, normal(3, seed=7))),
        Program(mapped, (W, TREE)),
        Program(mapped_in_batches, (W, TREE)),
        Program(prefix_products, (0.5 * normal(5, 2, 2),)),
        Program(recurrence, (normal(2, 6), normal(2, 6, seed=8))),
        Program(branch_if, (C, normal(3, seed=9))),
        Program(branch_else, (C, normal(3, seed=9))),
        Program(branches, (C, normal(3, seed=9))),
        Program(newton, (onp.array([2.0, 3.0, 5.0]),), False),
        Program(while_tree, (C, normal(3, seed=9)), False),
        Program(while_in_scan, (C, XS), False),
        Program(scan_in_while, (C, XS), False),
    ]
}
