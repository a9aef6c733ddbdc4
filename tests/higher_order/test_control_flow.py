"""What loops and branches mean beyond their values: types, tracing, laziness, effects, edges."""

import gc

import loop_compositions as compositions
import numpy as np
import pytest
from loop_programs import PROGRAMS

import fgrad
import fgrad.numpy as fnp
from fgrad import lax, tree
from fgrad.core.check import check_jaxpr
from fgrad.core.jaxpr import walk_eqns
from fgrad.higher_order import bodies

X = np.array([0.3, -0.4, 0.5])
XS = np.random.default_rng(0).standard_normal((5, 3))


def primitives(f, *args):
    closed = fgrad.make_jaxpr(f)(*args)
    check_jaxpr(closed)
    found = []
    walk_eqns(closed.jaxpr, lambda e: found.append(e.primitive.name))
    return found


# --- every derived jaxpr is well typed -------------------------------------------------------------------------------
@pytest.mark.parametrize("name", PROGRAMS)
def test_derived_jaxprs_are_well_typed(name):
    program = PROGRAMS[name]
    f, args = program.make(fnp, lax), tree.tree_map(fnp.asarray, program.args)
    derived = [compositions.jvp, compositions.vmap_first, compositions.vmap_last, compositions.linearize]
    if program.reverse:
        derived += [compositions.grad, compositions.vmap_grad, compositions.grad_vmap, compositions.grad_grad]
    for composition in derived:
        check_jaxpr(fgrad.make_jaxpr(lambda *a, c=composition: c(fgrad, f, a))(*args))


# --- types -----------------------------------------------------------------------------------------------------------
def test_python_scalars_take_the_dtype_of_the_body():
    last, ys = lax.scan(lambda c, x: (c + x, c), 0, X)
    assert (last.dtype, ys.dtype) == (np.float64, np.float64)
    assert not last.weak_type
    last, _ = lax.scan(lambda c, x: (c + 1, None), 0, length=3)
    assert (last.dtype, last.weak_type, int(last)) == (np.int32, True, 3)
    assert lax.while_loop(lambda c: c < 3, lambda c: c + 1.5, 0).dtype == np.float32
    assert lax.fori_loop(0, 3, lambda i, c: c + np.float64(0.5), 1).dtype == np.float64
    # a chain: the int becomes a float, which makes the other one a float
    a, b = lax.fori_loop(0, 3, lambda i, c: (c[0] + c[1], c[1] + 0.5), (0, 0))
    assert (a.dtype, b.dtype) == (np.float32, np.float32)
    assert float(a) == 1.5


def test_types_of_indices():
    seen = []
    lax.fori_loop(0, 3, lambda i, c: seen.append(i.aval) or c, 0)
    lax.fori_loop(np.int8(0), 3, lambda i, c: seen.append(i.aval) or c, 0)
    lax.fori_loop(0, 2**40 - 2**40 + 3, lambda i, c: seen.append(i.aval) or c, 0)
    assert [(a.dtype, a.weak_type) for a in seen] == [(np.int32, True), (np.int8, False), (np.int32, True)]
    assert lax.fori_loop(2**40, 2**40 + 2, lambda i, c: i, 2**40 - 1) == 2**40 + 1


def test_branches_are_weak_only_together():
    assert lax.cond(True, lambda: 1.0, lambda: 2.0).weak_type
    assert not lax.cond(True, lambda: 1.0, lambda: fnp.float32(2.0)).weak_type


def test_predicates_that_are_numbers():
    for pred, want in ((2, 1), (0, 0), (0.0, 0), (-0.5, 1), (np.uint8(7), 1), (np.bool_(False), 0)):
        assert int(lax.cond(pred, lambda: 1, lambda: 0)) == want


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_switch_clamps_its_index(dtype):
    branches = [lambda k=k: k for k in range(300 if dtype == np.uint8 else 3)]
    top = min(np.iinfo(dtype).max, len(branches) - 1)
    assert int(lax.switch(dtype(np.iinfo(dtype).max), branches)) == top
    assert int(lax.switch(dtype(np.iinfo(dtype).min), branches)) == 0
    assert int(lax.switch(dtype(1), branches)) == 1


# --- edges -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("transform", [lambda f: f, fgrad.jit], ids=["eager", "jit"])
def test_loops_of_no_steps(transform):
    def f(w, c, xs):
        return lax.scan(lambda c, x: (fnp.sin(c * w) + x, {"y": c[:2]}), c, xs)

    last, ys = transform(f)(X, X, XS[:0])
    np.testing.assert_array_equal(last, X)
    assert (ys["y"].shape, ys["y"].dtype) == ((0, 2), np.float64)
    g = transform(fgrad.grad(lambda w, c, xs: fnp.sum(f(w, c, xs)[0] ** 2), (0, 1, 2)))(X, X, XS[:0])
    np.testing.assert_array_equal(g[0], np.zeros(3))
    np.testing.assert_array_equal(g[1], 2 * X)
    assert g[2].shape == (0, 3)
    assert int(lax.fori_loop(5, 3, lambda i, c: c + 1, 7)) == 7
    assert lax.map(lambda x: x[:2], XS[:0]).shape == (0, 2)
    assert lax.map(lambda x: x[:2], XS[:0], batch_size=2).shape == (0, 2)
    np.testing.assert_array_equal(fgrad.vmap(f, (0, None, None))(fnp.stack([X, X]), X, XS[:0])[0], [X, X])


def test_loops_over_empty_arrays():
    last, ys = lax.scan(lambda c, x: (c * x, c), np.zeros(0), np.zeros((4, 0)))
    assert (last.shape, ys.shape) == ((0,), (4, 0))
    g = fgrad.grad(lambda c: fnp.sum(lax.scan(lambda c, x: (c * x, c), c, np.zeros((4, 0)))[0]))(np.zeros(0))
    assert g.shape == (0,)


def test_loops_without_values():
    assert lax.scan(lambda c, x: (None, None), None, length=3) == (None, None)
    assert lax.fori_loop(0, 3, lambda i, c: c, ()) == ()
    assert lax.cond(True, lambda: None, lambda: None) is None


def test_negative_and_traced_bounds():
    def total(lower, upper):
        return lax.fori_loop(lower, upper, lambda i, c: c * 2 + i, 1)

    for bounds in ((-3, 4), (0, 5), (4, 1), (np.int64(-2), np.int64(3))):
        want = 1
        for i in range(*map(int, bounds)):
            want = 2 * want + i
        assert int(total(*bounds)) == int(fgrad.jit(total)(*bounds)) == want


def test_a_mapped_bound():
    got = fgrad.vmap(lambda n: lax.fori_loop(0, n, lambda i, c: c + i, 0))(fnp.array([0, 3, 5]))
    np.testing.assert_array_equal(got, [0, 3, 10])


def test_reverse_mode_with_bounds_of_known_value():
    f = lambda x, n: lax.fori_loop(0, n, lambda i, c: c * x, 1.0)  # noqa: E731
    np.testing.assert_allclose(fgrad.grad(f)(2.0, fnp.int32(3)), 12.0)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
def test_map_in_batches(batch_size):
    w = fnp.asarray(X)
    got = lax.map(lambda x: {"y": fnp.outer(x, w), "n": fnp.sum(x)}, XS, batch_size=batch_size)
    np.testing.assert_allclose(got["y"], XS[:, :, None] * X, rtol=1e-15)
    np.testing.assert_allclose(got["n"], XS.sum(1), rtol=1e-14)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 8, 9, 17])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan(n, reverse):
    x = np.random.default_rng(n).standard_normal((2, n, 3))
    way = slice(None, None, -1 if reverse else 1)
    got = lax.associative_scan(fnp.add, x, reverse=reverse, axis=1)
    np.testing.assert_allclose(got, np.cumsum(x[:, way], 1)[:, way], atol=1e-13)
    last = lax.associative_scan(lambda a, b: b, {"x": x}, reverse=reverse, axis=-2)  # not commutative
    np.testing.assert_array_equal(last["x"], x)


def test_complex_and_boolean_carries():
    z = np.array([1 + 2j, 0.5j])

    def step(c, x):
        c, seen, n = c
        return (c * (1 + 0.1j) + x, seen | (x > 0), n + 1), c * c

    xs = np.array([1.0, -1.0, 2.0])
    (c, seen, n), ys = fgrad.jit(lambda z: lax.scan(step, (z, False, 0), xs))(z)
    want, rows = z, []
    for x in xs:
        rows.append(want * want)
        want = want * (1 + 0.1j) + x
    np.testing.assert_allclose(c, want)
    np.testing.assert_allclose(ys, rows)
    assert (bool(seen), int(n)) == (True, 3)


def test_many_steps():
    total, _ = fgrad.jit(lambda xs: lax.scan(lambda c, x: (c * 0.5 + x, None), 0.0, xs))(np.ones(10_000))
    np.testing.assert_allclose(total, 2.0)


# --- tracing ---------------------------------------------------------------------------------------------------------
def test_a_body_is_traced_once_for_each_type():
    calls = []

    def step(c, x):
        calls.append(None)
        return c + x, c

    for _ in range(3):
        lax.scan(step, fnp.zeros(3, np.float64), XS)
    assert len(calls) == 1
    lax.scan(step, fnp.zeros(3, np.float64), XS[:2])  # another length is no other body
    assert len(calls) == 1
    lax.scan(step, fnp.zeros(2, np.float64), XS[:, :2])
    assert len(calls) == 2
    fgrad.jit(lambda xs: lax.scan(step, fnp.zeros(3, np.float64), xs))(XS)
    assert len(calls) == 2


def test_a_body_that_closes_over_tracers_is_traced_anew():
    def f(w):
        def step(c, x):
            return c * w + x, None

        return [lax.scan(step, w, XS)[0] for _ in range(2)]

    a, b = fgrad.jit(f)(X)
    np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(fgrad.jit(f)(2 * X)[0], f(2 * X)[0])


def test_a_body_that_is_defined_anew_is_compiled_once():
    def loss(w, exponent=2):
        def step(c, x):
            return fnp.tanh(c * w + x) ** exponent, None

        return fnp.sum(lax.scan(step, w, XS)[0])

    bodies._forget()
    fgrad.grad(loss)(fnp.asarray(X))
    n = len(bodies._equal)
    loops = {id(c) for c in bodies._equal.values()}
    fgrad.grad(loss)(fnp.asarray(2 * X))
    assert {id(c) for c in bodies._equal.values()} == loops
    np.testing.assert_allclose(fgrad.grad(loss)(2 * X), fgrad.jit(fgrad.grad(loss))(2 * X), rtol=1e-12)
    fgrad.grad(lambda w: loss(w, 3))(fnp.asarray(X))  # other numbers are another body
    assert len(bodies._equal) == n + 1


def test_traced_bodies_live_as_long_as_their_functions():
    def before():
        gc.collect()
        return len(bodies._traced)

    n = before()
    step = lambda c, x: (c + x, None)  # noqa: E731
    lax.scan(step, 0.0, X)
    assert len(bodies._traced) == n + 1
    del step
    assert before() == n


def test_a_function_of_many_types_is_kept_for_some():
    step = lambda c, x: (c + x, None)  # noqa: E731
    for n in range(1, 70):
        lax.scan(step, fnp.zeros(n, np.float64), np.zeros((1, n)))
    assert len(bodies._traced[id(step)][1]) == bodies._SIGNATURES


def test_methods_and_callables_as_bodies():
    class Cell:
        w = 2.0

        def step(self, c, x):
            return c * self.w + x, None

        __call__ = step

    cell = Cell()
    first = lax.scan(cell.step, 0.0, X)[0]
    cell.w = 3.0
    assert float(lax.scan(cell.step, 0.0, X)[0]) != float(first)
    np.testing.assert_allclose(lax.scan(cell, 0.0, X)[0], (X[0] * 3 + X[1]) * 3 + X[2])


def test_both_branches_are_traced_and_one_runs():
    traced, ran = [], []

    def branch(name):
        def f(x):
            traced.append(name)
            fgrad.debug.callback(lambda: ran.append(name))
            return x

        return f

    lax.cond(True, branch("a"), branch("b"), X)
    assert sorted(traced) == ["a", "b"]
    assert ran == ["a"]
    fgrad.jit(lambda i: lax.switch(i, [branch("c"), branch("d")], X))(5)
    assert ran == ["a", "d"]


# --- closures --------------------------------------------------------------------------------------------------------
def test_derivatives_of_what_bodies_close_over():
    def f(w):
        inner = fnp.sin(w)
        c, _ = lax.scan(lambda c, x: (c + inner * x, None), fnp.zeros(3, np.float64), XS)
        return fnp.sum(lax.cond(fnp.sum(w) > 0, lambda: c * w, lambda: c / w))

    total = XS.sum(0)
    np.testing.assert_allclose(fgrad.grad(f)(X), total * (np.cos(X) * X + np.sin(X)), rtol=1e-12)
    np.testing.assert_allclose(fgrad.jit(fgrad.grad(f))(X), total * (np.cos(X) * X + np.sin(X)), rtol=1e-12)


def test_tangents_through_while_are_differences():
    def f(x):
        return lax.while_loop(lambda c: fnp.sum(c * c) < 50.0, lambda c: fnp.sin(c) + 1.5 * c, x)

    t = np.array([0.2, 0.7, -0.3])
    h = 1e-6
    want = (np.asarray(f(X + h * t)) - np.asarray(f(X - h * t))) / (2 * h)
    np.testing.assert_allclose(fgrad.jvp(f, (X,), (t,))[1], want, rtol=1e-6)
    y, lin = fgrad.linearize(f, X)
    np.testing.assert_allclose(y, f(X))
    np.testing.assert_allclose(lin(t), want, rtol=1e-6)


def test_zero_tangents_need_no_reverse_mode():
    """Only what the result depends on is asked for its transpose."""

    def f(x):
        n = lax.while_loop(lambda n: n < 3, lambda n: n + 1, 0)
        y = lax.while_loop(lambda y: y < 3, lambda y: y * 2, lax.stop_gradient(x))
        return x * n + y

    assert float(fgrad.grad(f)(1.0)) == 3.0


# --- batching --------------------------------------------------------------------------------------------------------
def test_a_mapped_condition_runs_until_all_are_done():
    steps = []

    def body(c):
        fgrad.debug.callback(lambda n: steps.append(int(n)), c[1])
        return c[0] * 2, c[1] + 1

    f = lambda x: lax.while_loop(lambda c: c[0] < 10, body, (x, 0))  # noqa: E731
    x, n = fgrad.vmap(f)(fnp.array([1.0, 20.0, 6.0]))
    np.testing.assert_array_equal(x, [16.0, 20.0, 12.0])
    np.testing.assert_array_equal(n, [4, 0, 1])
    assert len(steps) == 12


def test_what_is_not_mapped_stays_so():
    """The counter of the loop is one for all examples, and the condition a scalar."""

    def f(x):
        return lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] * 2, c[1] + 1), (x, 0))

    closed = fgrad.make_jaxpr(fgrad.vmap(f))(XS)
    (loop,) = [e for e in closed.eqns if e.primitive.name == "while"]
    assert [v.aval.shape for v in loop.outvars] == [(5, 3), ()]
    assert "select_n" not in primitives(fgrad.vmap(f), XS)


def test_a_mapped_index_computes_all_branches():
    branches = [fnp.sin, fnp.cos, lambda x: x * 0.0]
    got = fgrad.vmap(lambda i, x: lax.switch(i, branches, x))(fnp.array([2, 0, 1, 7, -1]), XS)
    np.testing.assert_allclose(got, [XS[0] * 0, np.sin(XS[1]), np.cos(XS[2]), XS[3] * 0, np.sin(XS[4])])
    g = fgrad.grad(lambda x: fnp.sum(fgrad.vmap(lambda i, x: lax.switch(i, branches, x))(fnp.arange(5), x)))(XS)
    np.testing.assert_allclose(g, [np.cos(XS[0]), -np.sin(XS[1]), *0 * XS[2:]])


def test_collectives_in_bodies():
    def f(x):
        def step(c, y):
            c = c + lax.psum(y, "i")
            return lax.cond(y > 0, lambda: c, lambda: c - lax.pmean(x[0], "i")), c

        c, _ = lax.scan(step, 0.0, x)
        return c + lax.while_loop(lambda c: lax.psum(c, "i") < 10.0, lambda c: c + 1.0, fnp.abs(x[0]))

    def by_hand(xs):
        c = np.zeros(len(xs))
        for y in xs.T:
            c = c + y.sum()
            c = np.where(y > 0, c, c - xs[:, 0].mean())
        w = np.abs(xs[:, 0])
        while w.sum() < 10:
            w = w + 1
        return c + w

    for g in (fgrad.vmap(f, axis_name="i"), fgrad.jit(fgrad.vmap(f, axis_name="i"))):
        np.testing.assert_allclose(g(XS), by_hand(XS))


# --- effects ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def noted():
    notes = []
    return notes, lambda tag, *xs: fgrad.debug.callback(lambda *v: notes.append((tag, *map(float, v))), *xs)


def looping(note):
    def f(x):
        def step(c, y):
            note("step", y)
            return fnp.sin(c) + y, None

        c, _ = lax.scan(step, x, np.array([1.0, 2.0]))
        return lax.cond(c > -5, lambda c: note("then", 7.0) or c * 2, lambda c: note("else", 8.0) or c, c)

    return f


@pytest.mark.parametrize(
    "run",
    [
        lambda f: f(0.5),
        lambda f: fgrad.jit(f)(0.5),
        lambda f: fgrad.grad(f)(0.5),
        lambda f: fgrad.jit(fgrad.grad(f))(0.5),
        lambda f: fgrad.grad(fgrad.jit(f))(0.5),
        lambda f: fgrad.jvp(f, (0.5,), (1.0,)),
        lambda f: fgrad.linearize(f, 0.5)[1](1.0),
        lambda f: fgrad.grad(fgrad.grad(f))(0.5),
    ],
)
def test_effects_happen_once(noted, run):
    notes, note = noted
    run(looping(note))
    assert notes == [("step", 1.0), ("step", 2.0), ("then", 7.0)]


@pytest.mark.parametrize("wrap", [lambda f: f, fgrad.jit])
def test_the_linear_part_of_while_repeats_no_effect(noted, wrap):
    notes, note = noted

    def f(x):
        def body(c):
            note("step", c[1])
            return fnp.sin(c[0]) * x, c[1] + 1

        return lax.while_loop(lambda c: c[1] < 2, body, (x, 0))[0]

    _, lin = fgrad.linearize(wrap(f), 0.5)
    assert notes == [("step", 0.0), ("step", 1.0)]
    np.testing.assert_allclose(lin(1.0), fgrad.jvp(f, (0.5,), (1.0,))[1], rtol=1e-6)
    assert len(notes) == 4  # the jvp's own


def test_effects_of_dead_loops_stay(noted):
    notes, note = noted

    def f(x):
        lax.scan(lambda c, y: (c + y, note("step", y)), x, np.array([1.0, 2.0]))
        return x

    fgrad.jit(f)(0.5)
    assert notes == [("step", 1.0), ("step", 2.0)]
