"""grad, value_and_grad, vjp, jvp, linearize and linear_transpose as users call them."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp

X = np.array([1.0, 2.0, 3.0])


def loss(params, x, scale=1.0):
    return scale * fnp.sum(params["w"] * x + params["b"] ** 2)


PARAMS = {"w": X, "b": np.array([0.5, 1.5, -1.0])}


def same(got, want):
    got_leaves, got_tree = fgrad.tree.tree_flatten(got)
    want_leaves, want_tree = fgrad.tree.tree_flatten(want)
    assert got_tree == want_tree
    for g, w in zip(got_leaves, want_leaves, strict=True):
        np.testing.assert_allclose(np.asarray(g), w, rtol=1e-12)


# --- grad ------------------------------------------------------------------------------------------------------------
def test_grad_of_pytrees():
    x = np.array([2.0, 3.0, 4.0])
    same(fgrad.grad(loss)(PARAMS, x), {"w": x, "b": 2 * PARAMS["b"]})


def test_argnums():
    x = np.array([2.0, 3.0, 4.0])
    dp, dx = {"w": x, "b": 2 * PARAMS["b"]}, PARAMS["w"]
    same(fgrad.grad(loss, argnums=1)(PARAMS, x), dx)
    same(fgrad.grad(loss, argnums=-1)(PARAMS, x), dx)
    same(fgrad.grad(loss, argnums=(1, 0))(PARAMS, x), (dx, dp))
    same(fgrad.grad(loss, argnums=(0,))(PARAMS, x), (dp,))
    same(fgrad.grad(loss, argnums=[1])(PARAMS, x), (dx,))


def test_keyword_arguments_are_not_differentiated():
    same(fgrad.grad(loss, argnums=1)(PARAMS, X, scale=3.0), 3 * PARAMS["w"])


def test_value_and_grad_and_aux():
    def f(x):
        return fnp.sum(x * x), {"double": 2 * x, "none": None, "n": 3}

    value, g = fgrad.value_and_grad(lambda x: f(x)[0])(X)
    same((value, g), (14.0, 2 * X))
    (value, aux), g = fgrad.value_and_grad(f, has_aux=True)(X)
    same((value, aux, g), (14.0, {"double": 2 * X, "none": None, "n": 3}, 2 * X))
    same(fgrad.grad(f, has_aux=True)(X), (2 * X, {"double": 2 * X, "none": None, "n": 3}))


def test_aux_of_an_inner_grad_is_differentiable():
    def f(x):
        g, aux = fgrad.grad(lambda y: (y**2, y**3), has_aux=True)(x)
        return g + aux  # 2x + x^3

    assert float(fgrad.grad(f)(2.0)) == 2 + 12


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_gradients_have_the_argument_s_dtype(dtype):
    g = fgrad.grad(lambda x: fnp.sum(x * x))(fnp.asarray(X, dtype))
    assert g.dtype == dtype and g.tolist() == [2, 4, 6]


def test_python_scalars():
    g = fgrad.grad(lambda x: x**3)(2.0)
    assert float(g) == 12 and g.dtype == np.float32 and g.shape == ()


def test_arguments_that_do_not_matter_have_zero_gradients():
    g = fgrad.grad(lambda p: p["a"] * 1.0)({"a": 2.0, "b": np.ones(3)})
    assert float(g["a"]) == 1 and g["b"].dtype == np.float64 and g["b"].tolist() == [0, 0, 0]
    same(fgrad.grad(lambda x: fnp.sum(fgrad.stop_gradient(x) * x))(X), X)


def test_constant_functions():
    assert fgrad.grad(lambda x: fnp.asarray(1.0))(X).tolist() == [0, 0, 0]
    assert fgrad.grad(lambda x: 1.0)(X).tolist() == [0, 0, 0]


def test_an_argument_used_twice():
    a = fnp.asarray(X)
    same(fgrad.grad(lambda x, y: fnp.sum(x * y), argnums=(0, 1))(a, a), (X, X))


def test_integers_inside_a_function():
    def f(x):
        index = fnp.argmax(x)
        return x[index] * 3 + fnp.sum(fnp.arange(3) * x)

    same(fgrad.grad(f)(X), np.array([0.0, 1, 2 + 3]))


def test_control_flow_on_known_values():
    def f(x):
        return x * x if x > 0 else -x

    assert float(fgrad.grad(f)(3.0)) == 6 and float(fgrad.grad(f)(-3.0)) == -1
    assert float(fgrad.grad(fgrad.grad(f))(3.0)) == 2


def test_empty_arrays_and_empty_trees():
    assert fgrad.grad(lambda x: fnp.sum(x * 2))(np.zeros((0, 3))).shape == (0, 3)
    assert fgrad.grad(lambda x, p: x, argnums=1)(1.0, {}) == {}
    assert fgrad.grad(lambda x, p: x, argnums=1)(1.0, None) is None


def test_grad_of_a_method_and_a_partial():
    class Model:
        def __init__(self, w):
            self.w = w

        def loss(self, x):
            return self.w * x * x

    assert float(fgrad.grad(Model(3.0).loss)(2.0)) == 12
    import functools

    assert float(fgrad.grad(functools.partial(lambda a, x: a * x, 5.0))(2.0)) == 5


def test_the_name_and_docstring_are_kept():
    g = fgrad.grad(loss)
    assert g.__name__ == "loss" and g.__wrapped__ is loss


# --- vjp, jvp, linearize ---------------------------------------------------------------------------------------------
def test_vjp_of_several_results():
    def f(x, y):
        return {"sum": fnp.sum(x * y), "x": 2 * x}

    out, pull = fgrad.vjp(f, X, X + 1)
    same(out, {"sum": 20.0, "x": 2 * X})
    same(pull({"sum": 1.0, "x": np.ones(3)}), (X + 1 + 2, X))
    same(pull({"sum": 0.0, "x": X}), (2 * X, 0 * X))  # a pullback may be called again


def test_vjp_with_aux():
    out, pull, aux = fgrad.vjp(lambda x: (x * x, {"n": x + 1}), 3.0, has_aux=True)
    assert float(out) == 9 and float(pull(1.0)[0]) == 6 and float(aux["n"]) == 4


def test_integers_have_float0_cotangents():
    n = np.array([1, 2, 3])
    _, pull = fgrad.vjp(lambda x, n: x * n, X, n)
    dx, dn = pull(np.ones(3))
    same(dx, 1.0 * n)
    assert dn.dtype == fgrad.float0 and dn.shape == (3,)


def test_integer_results_take_float0_cotangents():
    out, pull = fgrad.vjp(lambda x: (x * x, fnp.argmax(x)), X)
    assert out[1].dtype == np.int32
    same(pull((np.ones(3), np.zeros((), fgrad.float0))), (2 * X,))


def test_weak_cotangents_take_the_result_s_dtype():
    _, pull = fgrad.vjp(lambda x: x * x, np.float64(3.0))
    assert pull(1.0)[0].dtype == np.float64
    assert fgrad.jit(lambda ct: pull(ct)[0])(2.0).dtype == np.float64


def test_jvp_of_pytrees():
    def f(p):
        return p["w"] * p["b"], fnp.sum(p["w"])

    out, t = fgrad.jvp(f, (PARAMS,), ({"w": np.ones(3), "b": X},))
    same(out, (PARAMS["w"] * PARAMS["b"], 6.0))
    same(t, (PARAMS["b"] + PARAMS["w"] * X, 3.0))


def test_jvp_with_integers_and_aux():
    n = np.array([1, 2, 3])
    out, t, aux = fgrad.jvp(lambda x, n: (x * n, n + 1), (X, n), (X, np.zeros(3, fgrad.float0)), has_aux=True)
    same((out, t), (X * n, X * n))
    assert aux.tolist() == [2, 3, 4]
    _, t = fgrad.jvp(lambda n: n * 2, (n,), (np.zeros(3, fgrad.float0),))
    assert t.dtype == fgrad.float0 and t.shape == (3,)


def test_jvp_of_a_constant():
    out, t = fgrad.jvp(lambda x: fnp.ones(2), (X,), (X,))
    same((out, t), (np.ones(2), np.zeros(2)))


def test_linearize_runs_the_function_once():
    calls = []

    def f(x):
        calls.append(1)
        return fnp.sin(x), fnp.sum(x)

    out, push = fgrad.linearize(f, X)
    for v in (np.ones(3), X):
        same(push(v), (np.cos(X) * v, v.sum()))
    same(out, (np.sin(X), 6.0))
    assert len(calls) == 1


def test_linearize_under_jit():
    same(fgrad.jit(lambda x, v: fgrad.linearize(fnp.sin, x)[1](v))(X, X), np.cos(X) * X)


def test_linear_transpose():
    a = np.arange(6.0).reshape(2, 3)

    def f(x, y):
        return {"z": fnp.asarray(a) @ x + 2 * y}

    back = fgrad.linear_transpose(f, X, fgrad.ShapeDtypeStruct((2,), "float64"))
    ct = np.array([1.0, -1.0])
    same(back({"z": ct}), (a.T @ ct, 2 * ct))
    same(fgrad.linear_transpose(lambda x: fnp.zeros(2), X)(np.ones(2, np.float32)), (0 * X,))


def test_linear_transpose_twice_is_the_map():
    def f(x):
        return fnp.cumsum(x)[::2]

    back = fgrad.linear_transpose(f, X)
    again = fgrad.linear_transpose(lambda ct: back(ct)[0], np.ones(2))
    same(again(X)[0], np.asarray(f(fnp.asarray(X))))


def test_results_that_are_inputs():
    _, pull = fgrad.vjp(lambda x: (x, x, 3.0), X)
    same(pull((X, X, 0.0)), (2 * X,))
    same(fgrad.jvp(lambda x: (x, x), (X,), (X,)), ((X, X), (X, X)))
    same(fgrad.grad(lambda x: x)(2.0), 1.0)


def test_gradient_through_views():
    def f(x):
        return fnp.sum(x.T[1:, ::-1] * fnp.asarray(np.arange(4.0).reshape(2, 2)))

    want = np.zeros((2, 3))
    want.T[1:, ::-1] = np.arange(4.0).reshape(2, 2)
    for g in (fgrad.grad(f), fgrad.jit(fgrad.grad(f)), fgrad.grad(fgrad.jit(f))):
        same(g(np.ones((2, 3))), want)
