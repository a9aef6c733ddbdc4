"""Reverse mode through scan stores what it must and no more: the residuals of the loop that runs forwards, counted."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core.check import check_jaxpr
from fgrad.core.jaxpr import walk_eqns

T, N = 7, 5
W, H, XS = (np.random.default_rng(k).standard_normal(s) for k, s in enumerate([(N, N), (N,), (T, N)]))


def loops(f, *args):
    """The scans of a function's jaxpr, in order."""
    closed = fgrad.make_jaxpr(f)(*args)
    check_jaxpr(closed)
    found = []
    walk_eqns(closed.jaxpr, lambda e: found.append(e) if e.primitive.name == "scan" else None)
    return found


def stored(f, *args):
    """(arrays, bytes) that the first loop stacks, when f is differentiated in all its arguments."""
    first, *_ = loops(fgrad.grad(f, tuple(range(len(args)))), *args)
    ys = first.outvars[first.params["n_carry"] :]
    return len(ys), sum(v.aval.size * v.aval.dtype.itemsize for v in ys)


def bytes_of(*shapes):
    return sum(8 * int(np.prod(s)) for s in shapes)


def test_rnn():
    """tanh stores 1 - h², the product with the weights h[t-1]; the results h come out in any case."""

    def f(w, h, xs):
        return fnp.sum(lax.scan(lambda h, x: (fnp.tanh(w @ h + x),) * 2, h, xs)[1] ** 2)

    assert stored(f, W, H, XS) == (3, bytes_of((T, N), (T, N), (T, N)))


def test_rnn_of_which_only_the_last_state_is_read():
    def f(w, h, xs):
        return fnp.sum(lax.scan(lambda h, x: (fnp.tanh(w @ h + x), h), h, xs)[0])

    assert stored(f, W, H, XS) == (2, bytes_of((T, N), (T, N)))


def test_sum_of_products_stores_nothing():
    """d(c x) = dc x + c dx: the elements of xs are read again, the constant is at hand; no loop runs forwards but for
    the value, which grad does not return.
    """

    def f(c, xs):
        return fnp.sum(lax.scan(lambda s, x: (s + c * x, None), fnp.zeros(N, np.float64), xs)[0])

    backwards, *others = loops(fgrad.grad(f, (0, 1)), H, XS)
    assert not others
    assert backwards.params["reverse"]
    forwards, backwards = loops(fgrad.value_and_grad(f, (0, 1)), H, XS)
    assert len(forwards.outvars) == 1


def test_a_large_constant_is_not_stacked():
    """Neither w itself, nor exp(w w), which is computed once for both loops."""

    def f(w, xs):
        return lax.scan(lambda s, x: (s + fnp.sum(fnp.exp(w @ w) * x), None), 0.0, xs)[0]

    (backwards,) = loops(fgrad.grad(f, (0, 1)), W, XS)
    assert all(v.aval.shape != (T, N, N) for v in backwards.invars)
    closed = fgrad.make_jaxpr(fgrad.value_and_grad(f, (0, 1)))(W, XS)
    names = []
    walk_eqns(closed.jaxpr, lambda e: names.append(e.primitive.name))
    assert names.count("exp") == 1


def test_a_constant_carried_along_is_not_stacked():
    def f(w, h):
        step = lambda s: (s[0], fnp.sin(s[0] @ s[1]))  # noqa: E731
        return fnp.sum(lax.fori_loop(0, T, lambda i, s: step(s), (w, h))[1])

    assert stored(f, W, H) == (2, bytes_of((T, N), (T, N)))


def test_broadcasts_and_indices_are_recomputed():
    """The broadcast sine needs cos(h) only, a vector; the sum is the other factor of x."""

    def f(h, xs):
        def step(h, x):
            wide = fnp.broadcast_to(fnp.sin(h)[:, None], (N, 100))
            return h + fnp.sum(wide * fnp.arange(100.0), axis=1) * x, None

        return fnp.sum(lax.scan(step, h, xs)[0])

    assert stored(f, H, XS) == (2, bytes_of((T, N), (T, N)))


def test_the_same_value_is_stored_once():
    """cos(h) serves both terms, and is a result as well."""

    def f(h, xs):
        def step(h, x):
            return h * 0.5, (fnp.sin(h) * fnp.sin(h) * fnp.cos(h), fnp.cos(h))

        a, b = lax.scan(step, h, xs)[1]
        return fnp.sum(a) + fnp.sum(b)

    (first, _) = loops(fgrad.grad(f, (0, 1)), H, XS)
    ys = first.outvars[first.params["n_carry"] :]
    body = first.params["jaxpr"].jaxpr
    assert len({id(v) for v in body.outvars[first.params["n_carry"] :]}) == len(ys)


def test_a_narrow_value_is_stored_in_place_of_its_conversion():
    def f(h, xs):
        def step(h, x):
            on = x > 0
            return h * fnp.where(on, 1.0, 2.0) * (on.astype(np.float64) + 1), None

        return fnp.sum(lax.scan(step, h, xs)[0])

    first = loops(fgrad.grad(f), H, XS)[0]
    assert first.params["length"] == T
    check_jaxpr(first.params["jaxpr"])


@pytest.mark.parametrize("wrap", [lambda f: f, fgrad.jit], ids=["open", "jit"])
def test_nested_calls_hide_nothing(wrap):
    """A jitted part of the body stores no more than the body without jit."""

    def f(w, h, xs):
        inner = wrap(lambda h, x: fnp.tanh(w @ h + fnp.broadcast_to(x[0], (N,))))
        return fnp.sum(lax.scan(lambda h, x: (inner(h, x), None), h, xs)[0])

    assert stored(f, W, H, XS) == (2, bytes_of((T, N), (T, N)))


def test_loop_within_a_jitted_function():
    def f(w, h, xs):
        return fgrad.jit(lambda h: fnp.sum(lax.scan(lambda h, x: (fnp.tanh(w @ h + x), None), h, xs)[0]))(h)

    assert stored(f, W, H, XS) == (2, bytes_of((T, N), (T, N)))


def test_cond_shares_slots():
    """Residuals of both branches go through the same slots: no more than the larger branch needs."""

    def f(p, x):
        return fnp.sum(lax.cond(p, lambda x: fnp.sin(fnp.sin(x)), lambda x: fnp.exp(x) * 2, x))

    closed = fgrad.make_jaxpr(fgrad.grad(f, 1))(True, H)
    check_jaxpr(closed)
    found = [e for e in closed.eqns if e.primitive.name == "cond"]
    assert [len(e.outvars) for e in found] == [2, 1]  # cos(x) and cos(sin(x)), or exp(x); then the cotangent


def test_cond_reads_operands_again():
    def f(p, w, x):
        return fnp.sum(lax.cond(p, lambda w, x: w @ x, lambda w, x: x * 2, w, x))

    closed = fgrad.make_jaxpr(fgrad.grad(f, (1, 2)))(True, W, H)
    check_jaxpr(closed)
    found = [e for e in closed.eqns if e.primitive.name == "cond"]
    assert len(found) == 1  # nothing is stored, so no branch runs forwards


def test_dead_results_are_dropped():
    """ys and carries that nobody reads leave a staged loop."""

    def f(h, xs):
        def step(c, x):
            a, b, unread = c
            return (a + x, b * a, unread + b), (a, fnp.exp(a))

        (a, _, _), (y, _) = lax.scan(step, (h, h, h), xs)
        return a, y

    (loop,) = loops(f, H, XS)
    assert len(loop.outvars) == 2
    assert [e.primitive.name for e in loop.params["jaxpr"].eqns] == ["add"]

    def g(h):
        return lax.while_loop(lambda s: s["n"] < 3, lambda s: {"n": s["n"] + 1, "x": s["x"] * 2}, {"n": 0, "x": h})["n"]

    (eqn,) = fgrad.make_jaxpr(g)(H).eqns
    assert len(eqn.outvars) == 1
