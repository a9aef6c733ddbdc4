"""jit as users call it: one trace a signature, eager results, static arguments, results that are inputs or views."""

import functools
import threading

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp

X = np.arange(1.0, 7.0).reshape(2, 3)


def counting(f, **options):
    """(jitted f, list that grows by one at every trace)"""
    traces = []

    @functools.wraps(f)
    def wrapped(*args, **kwargs):
        traces.append(args)
        return f(*args, **kwargs)

    return fgrad.jit(wrapped, **options), traces


# --- what makes a new trace ------------------------------------------------------------------------------------------
def test_one_trace_for_each_signature():
    f, traces = counting(lambda x: x * 2)
    for x in (X, X + 1, fnp.asarray(X), X.T.copy().T):
        f(x)
    assert len(traces) == 1
    for n, x in enumerate((X.astype(np.float32), X[0], {"k": X}["k"][:1], 3.0, np.float32(3), 3, True), start=2):
        f(x)
        f(x)
        assert len(traces) == n, x


def test_the_tree_is_part_of_the_signature():
    f, traces = counting(lambda t: fgrad.tree.tree_map(lambda x: x + 1, t))
    for t in ({"a": 1.0}, {"a": 2.0}, (1.0,), [1.0], None, {"a": None}):
        assert fgrad.tree.tree_structure(f(t)) == fgrad.tree.tree_structure(t)
    assert len(traces) == 5


def test_keyword_arguments():
    f, traces = counting(lambda x, *, scale=1.0, shift=0.0: x * scale + shift)
    assert f(3.0, scale=2.0, shift=1.0).tolist() == 7
    assert f(3.0, shift=1.0, scale=2.0).tolist() == 7
    assert f(3.0).tolist() == 3
    assert len(traces) == 2


def test_under_another_trace_the_same_trace_is_used():
    f, traces = counting(lambda x: fnp.sum(fnp.sin(x)))
    fgrad.grad(f)(X)
    fgrad.jit(lambda x: f(x) + f(x))(X)
    fgrad.vmap(f)(np.stack([X, X]))
    f(X)
    assert len(traces) == 1


def test_a_trace_that_closed_over_a_tracer_is_not_kept():
    functions = []

    def outer(y):
        f, traces = counting(lambda x: x * y)
        functions.append((f, traces))
        return fnp.sum(f(fnp.asarray(X))) + fnp.sum(f(fnp.asarray(X)))

    assert float(fgrad.grad(outer)(2.0)) == 2 * X.sum()
    ((f, traces),) = functions
    assert len(traces) == 2 and not f.traced


# --- static arguments ------------------------------------------------------------------------------------------------
def test_static_arguments():
    f, traces = counting(lambda x, mode, n=1: x * n if mode == "mul" else x + n, static_argnums=1, static_argnames="n")
    assert f(2.0, "mul", n=3).tolist() == 6 and f(2.0, "add", n=3).tolist() == 5
    assert f(2.0, mode="add", n=3).tolist() == 5 and f(2.0, "add", 3).tolist() == 5
    count = len(traces)
    f(5.0, "mul", n=3)
    assert len(traces) == count
    f(5.0, "mul", n=4)
    assert len(traces) == count + 1


def test_static_arguments_from_the_end_and_several():
    f, _ = counting(lambda a, x, b: x if a and b else -x, static_argnums=(0, -1))
    assert f(True, 2.0, False).tolist() == -2 and f(True, 2.0, True).tolist() == 2


def test_equal_static_values_of_different_types_are_different():
    f, traces = counting(lambda x, s: x * s, static_argnums=1)
    assert f(np.int32(2), 1).dtype == np.int32 and f(np.int32(2), 1.0).dtype == np.float32
    assert len(traces) == 2


def test_static_functions_and_tuples():
    f, traces = counting(lambda g, shape: g(fnp.ones(shape)), static_argnums=(0, 1))
    assert f(fnp.sum, (2, 3)).tolist() == 6 and f(fnp.sum, (2, 3)).tolist() == 6 and f(fnp.max, (2, 3)).tolist() == 1
    assert len(traces) == 2


# --- results ---------------------------------------------------------------------------------------------------------
def test_results_that_are_inputs_constants_and_repeats():
    c = fnp.asarray(np.arange(3.0))

    def f(x, y):
        z = x + 1
        return {"x": x, "again": x, "z": (z, z), "c": c, "n": 3, "f": 2.5, "none": None, "y": y}

    x = fnp.asarray(X)
    out = fgrad.jit(f)(x, 4)
    want = f(x, 4)
    assert fgrad.tree.tree_structure(out) == fgrad.tree.tree_structure(want)
    for got, w in zip(fgrad.tree.tree_leaves(out), fgrad.tree.tree_leaves(want)):
        w = fnp.asarray(w)
        assert got.dtype == w.dtype
        np.testing.assert_array_equal(np.asarray(got), np.asarray(w))


VIEWS = {
    "transpose": lambda x: x.T,
    "slice": lambda x: x[:, 1:],
    "strided slice": lambda x: x[:, ::2],
    "row": lambda x: x[1],
    "reversed": lambda x: x[::-1, ::-1],
    "reshape": lambda x: x.reshape(3, 2),
    "flat": lambda x: x.reshape(-1),
    "transposed reshape": lambda x: x.T.reshape(-1),
    "broadcast": lambda x: fnp.broadcast_to(x, (2, 2, 3)),
    "squeeze": lambda x: fnp.squeeze(x[:1], 0),
    "twice": lambda x: (x.T, x.T),
    "both ways": lambda x: (x, x.T.T),
    "identity": lambda x: x,
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("owner", ["numpy", "fgrad"])
def test_views_of_an_input_do_not_share_a_user_s_memory(name, dtype, owner):
    source = X.astype(dtype)
    x = source if owner == "numpy" else fnp.asarray(source)
    out = fgrad.tree.tree_leaves(fgrad.jit(VIEWS[name])(x))
    want = [np.array(w) for w in fgrad.tree.tree_leaves(VIEWS[name](fnp.asarray(source)))]
    source[:] = -1
    for got, w in zip(out, want, strict=True):
        assert got.dtype == w.dtype
        np.testing.assert_array_equal(np.asarray(got), w)


@pytest.mark.parametrize("dtype", ["float32", "complex64", "int8"])
def test_numpy_inputs_changed_after_the_call_change_nothing(dtype):
    source = X.astype(dtype)
    f = fgrad.jit(lambda x: (x, x + 1, x[0], x.reshape(-1), {"x": x}))
    out = f(source)
    closed_over = fgrad.jit(lambda: fnp.asarray(source) * 1)
    kept = closed_over()
    linear = fgrad.vjp(lambda x: x * x, source.real.astype(np.float64))
    before = [np.array(o) for o in fgrad.tree.tree_leaves(out)]
    source[:] = -1
    for got, want in zip(fgrad.tree.tree_leaves(out), before):
        np.testing.assert_array_equal(np.asarray(got), want)
    np.testing.assert_array_equal(np.asarray(kept), X.astype(dtype))
    np.testing.assert_array_equal(np.asarray(closed_over()), X.astype(dtype))
    np.testing.assert_array_equal(np.asarray(linear[1](np.ones((2, 3)))[0]), 2 * X)


def test_residuals_of_a_numpy_argument_are_not_its_memory():
    source = X.copy()
    for f in (lambda x: x * x, fgrad.jit(lambda x: x * x), lambda x: fnp.sin(x) * x):
        _, pull = fgrad.vjp(f, source)
        want = np.asarray(pull(np.ones((2, 3)))[0]).copy()
        source += 1
        np.testing.assert_array_equal(np.asarray(pull(np.ones((2, 3)))[0]), want)
        source -= 1


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("step", [1, 2, -1])
def test_strided_inputs(order, step):
    source = np.array(np.arange(24.0).reshape(4, 6), order=order)[::step, ::-step]
    for x in (source, fnp.asarray(np.arange(24.0).reshape(4, 6))[::step, ::-step]):
        got = fgrad.jit(lambda x: (x * 2, fnp.sum(x, axis=0), x))(x)
        x = np.asarray(x)
        for g, w in zip(got, (x * 2, x.sum(axis=0), x)):
            np.testing.assert_array_equal(np.asarray(g), w)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 4), ()])
def test_empty_and_scalar_arrays(shape):
    def f(x):
        return x + 1, fnp.sum(x), x.reshape(-1), fnp.sin(x) * x, fnp.concatenate([x.reshape(-1), x.reshape(-1)])

    x = fnp.asarray(np.ones(shape))
    for got, want in zip(fgrad.jit(f)(x), f(x)):
        assert got.shape == want.shape and got.dtype == want.dtype
        np.testing.assert_allclose(np.asarray(got), np.asarray(want))
    assert fgrad.jit(fgrad.grad(lambda x: fnp.sum(x * x)))(x).shape == shape


@pytest.mark.parametrize("x", [True, 2, 2.5, 1j, 2**40, np.int8(3), np.float16(2), np.float64(2)], ids=repr)
@pytest.mark.parametrize(
    "f",
    [
        lambda x: x,
        lambda x: x * 2,
        lambda x: x + fnp.ones(2, "float16"),
        lambda x: x * fnp.asarray(np.ones(2)),
        lambda x: (x * 2.5) * fnp.ones(2, "bfloat16"),
        lambda x: fnp.where(fnp.asarray([True, False]), x, 0),
    ],
)
def test_weak_types_are_what_they_are_eagerly(f, x):
    want = f(fnp.asarray(x) if isinstance(x, np.generic) else fgrad.core.array.lift(x))
    got = fgrad.jit(f)(x)
    assert (got.dtype, got.shape, got.weak_type) == (want.dtype, want.shape, want.weak_type)
    np.testing.assert_array_equal(np.asarray(got), np.asarray(want))
    again = fgrad.jit(lambda y: fgrad.jit(f)(y))(x)
    assert (again.dtype, again.weak_type) == (want.dtype, want.weak_type)


# --- as a decorator --------------------------------------------------------------------------------------------------
def test_decorator_with_and_without_options():
    @fgrad.jit
    def f(x):
        """Doubles."""
        return 2 * x

    @fgrad.jit(static_argnames=("n",))
    def g(x, n):
        return x * n

    assert f(2.0).tolist() == 4 and g(2.0, 3).tolist() == 6 and g(2.0, n=3).tolist() == 6
    assert f.__name__ == "f" and f.__doc__ == "Doubles." and repr(f) == "<jitted f>"
    assert functools.partial(fgrad.jit, static_argnums=1)(lambda x, n: x + n)(1.0, 2).tolist() == 3


def test_methods():
    class Model:
        def __init__(self, w):
            self.w = w
            self.traces = 0

        @functools.partial(fgrad.jit, static_argnums=0)
        def __call__(self, x):
            self.traces += 1
            return self.w * x

        @fgrad.jit(static_argnums=0)
        def plus(self, x):
            return self.w + x

    a, b = Model(2.0), Model(3.0)
    assert a(5.0).tolist() == 10 and b(5.0).tolist() == 15 and a(6.0).tolist() == 12
    assert a.traces == 1 and b.traces == 1
    assert a.plus(1.0).tolist() == 3


def test_methods_of_a_pytree():
    @fgrad.tree.register_pytree_node_class
    class Line:
        def __init__(self, slope):
            self.slope = slope

        def tree_flatten(self):
            return (self.slope,), None

        @classmethod
        def tree_unflatten(cls, aux, children):
            return cls(*children)

        @fgrad.jit
        def at(self, x):
            return self.slope * x

    assert Line(2.0).at(3.0).tolist() == 6
    assert fgrad.grad(lambda line: line.at(3.0))(Line(2.0)).slope.tolist() == 3


def test_lower_shows_the_program():
    f = fgrad.jit(lambda x, n: fnp.sin(x) * n, static_argnums=1)
    for x in (X, fgrad.ShapeDtypeStruct((2, 3), "float64")):
        lowered = f.lower(x, 2)
        assert [e.primitive.name for e in lowered.jaxpr.eqns] == ["sin", "broadcast_in_dim", "mul"]
        assert "1 instructions" in lowered.as_text() and repr(lowered) == lowered.as_text()
        np.testing.assert_allclose(np.asarray(lowered.compile()(X, 2)), np.sin(X) * 2)


# --- threads ---------------------------------------------------------------------------------------------------------
def test_threads_call_one_jitted_function():
    f = fgrad.jit(lambda x, w: fnp.tanh(x @ w).sum(axis=1))
    rng = np.random.default_rng(0)
    w = fnp.asarray(rng.standard_normal((64, 64)))
    inputs = [fnp.asarray(rng.standard_normal((64 + 8 * (k % 3), 64))) for k in range(6)]
    want = [np.tanh(np.asarray(x) @ np.asarray(w)).sum(axis=1) for x in inputs]
    errors = []

    def work(k):
        for _ in range(20):
            got = np.asarray(f(inputs[k], w))
            if not np.allclose(got, want[k], rtol=1e-10, atol=1e-10):
                errors.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
