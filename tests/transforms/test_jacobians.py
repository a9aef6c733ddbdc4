"""jacfwd, jacrev, jacobian and hessian: against central differences, each other and, chunked, themselves."""

import numpy as np
import pytest
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import lax, tree
from fgrad.core.jaxpr import walk_eqns
from fgrad.jacobians import hessian, jacfwd, jacobian, jacrev

RNG = np.random.default_rng(0)
FIRST = [jacfwd, jacrev, jacobian]
EVERY = [*FIRST, hessian]
every_first = pytest.mark.parametrize("jac", FIRST, ids=lambda f: f.__name__)
every_one = pytest.mark.parametrize("jac", EVERY, ids=lambda f: f.__name__)


def draw(*shape):
    return RNG.standard_normal(shape)


def same(got, want, limit=1e-12):
    """Equal trees of arrays of equal shapes and dtypes."""
    assert tree.tree_structure(got) == tree.tree_structure(want)
    for g, w in zip(tree.tree_leaves(got), tree.tree_leaves(want), strict=True):
        g, w = np.asarray(g), np.asarray(w)
        assert g.shape == w.shape and g.dtype == w.dtype
        np.testing.assert_allclose(g, w, rtol=limit, atol=limit)


def differences(f, x, step=1e-6):
    """[*out, *in] by central differences, column by column."""
    columns = []
    for i in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[i] = step
        columns.append((np.asarray(f(x + e)) - np.asarray(f(x - e))) / (2 * step))
    return np.stack(columns, -1).reshape((*columns[0].shape, *x.shape))


def convolved(x):
    w = np.linspace(-1, 1, 3 * 2 * 3).reshape(3, 2, 3)
    return fnp.tanh(lax.conv_general_dilated(x[None], w, (2,), "SAME"))[0]


PROGRAMS = {
    "scalar to scalar": (lambda x: fnp.sin(x) * x, ()),
    "scalar to vector": (lambda x: fnp.sin(x * fnp.arange(3.0, dtype="float64")), ()),
    "vector to scalar": (lambda x: fnp.prod(x), (4,)),
    "one element": (lambda x: x**3, (1,)),
    "wide": (lambda x: fnp.tanh(x @ np.arange(12.0).reshape(6, 2) / 12), (6,)),
    "tall": (lambda x: fnp.sin(fnp.outer(x, x)), (3,)),
    "matrix": (lambda x: fnp.exp(-x @ x.T), (2, 3)),
    "convolution": (convolved, (2, 5)),
    "one that ignores its argument": (lambda x: fnp.ones((2,), "float64"), (3,)),
    "the identity": (lambda x: x, (2, 2)),
}
every_program = pytest.mark.parametrize("f, shape", PROGRAMS.values(), ids=PROGRAMS)


# --- values ----------------------------------------------------------------------------------------------------------
@every_first
@every_program
def test_first_derivatives_are_those_of_differences(jac, f, shape):
    x = draw(*shape)
    want = differences(f, x)
    for g in (jac(f), fgrad.jit(jac(f)), jac(fgrad.jit(f))):
        got = np.asarray(g(x))
        assert got.shape == want.shape and got.dtype == np.float64
        np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-7)


@every_program
def test_second_derivatives_are_those_of_differences(f, shape):
    x = draw(*shape)
    want = differences(lambda x: np.asarray(jacrev(f)(x)), x)
    for g in (hessian(f), fgrad.jit(hessian(f)), hessian(f, chunk_size=2)):
        got = np.asarray(g(x))
        assert got.shape == want.shape and got.dtype == np.float64
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@every_one
@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
@every_program
def test_chunks_change_nothing(jac, chunk, f, shape):
    x = draw(*shape)
    want = jac(f)(x)
    same(jac(f, chunk_size=chunk)(x), want)
    same(fgrad.jit(jac(f, chunk_size=chunk))(x), want)


@every_one
def test_dtypes_stay(jac):
    for dtype in ("float16", "float32", "float64"):
        assert jac(lambda x: x**2)(np.ones(2, dtype)).dtype == dtype
        assert jac(lambda x: x**2, chunk_size=1)(np.ones(2, dtype)).dtype == dtype


def test_mixed_dtypes():
    """Forward mode has the dtype of the results, reverse mode that of the arguments, as in JAX."""

    def widen(x):
        return x.astype("float64") * 2

    assert jacfwd(widen)(np.float32([1, 2])).dtype == np.float64
    assert jacrev(widen)(np.float32([1, 2])).dtype == np.float32


# --- trees -----------------------------------------------------------------------------------------------------------
def linear(params, x):
    return {"y": params["w"] @ x + params["b"], "n": fnp.sum(params["w"] ** 2)}


PARAMS = {"w": draw(2, 3), "b": draw(2)}


@every_first
@pytest.mark.parametrize("chunk", [None, 2])
def test_trees_of_results_of_trees_of_arguments(jac, chunk):
    x = draw(3)
    got = jac(linear, chunk_size=chunk)(PARAMS, x)
    w = np.zeros((2, 2, 3))
    w[0, 0] = w[1, 1] = x
    want = {
        "y": {"w": w, "b": np.eye(2)},
        "n": {"w": 2 * PARAMS["w"], "b": np.zeros(2)},
    }
    same(got, want)


@every_first
def test_several_arguments(jac):
    x = draw(3)
    both = jac(linear, argnums=(0, 1))(PARAMS, x)
    same(both["y"][0], jac(linear)(PARAMS, x)["y"])
    same(both["y"][1], jac(linear, argnums=1)(PARAMS, x)["y"])
    same(both["y"][1], PARAMS["w"])
    last = jac(linear, argnums=(-1,))(PARAMS, x)
    assert type(last["n"]) is tuple
    same(last["n"][0], np.zeros(3))


def test_all_pairs_of_second_derivatives():
    def f(p, x):
        return fnp.sum(fnp.sin(p["w"] @ x) * p["b"])

    x = draw(3)
    h = hessian(f, argnums=(0, 1))(PARAMS, x)
    y, w, b = PARAMS["w"] @ x, PARAMS["w"], PARAMS["b"]
    same(h[1][1], np.asarray(-(w.T * (np.sin(y) * b)) @ w))
    same(h[0]["b"][0]["b"], np.zeros((2, 2)))
    same(h[0]["b"][1], np.cos(y)[:, None] * w)
    same(h[1][0]["b"], (np.cos(y)[:, None] * w).T)
    same(h[0]["w"][0]["w"], np.transpose(np.asarray(h[0]["w"][0]["w"]), (2, 3, 0, 1)))


@every_one
@pytest.mark.parametrize("chunk", [None, 1, 2])
def test_auxiliary_results(jac, chunk):
    x = draw(3)

    def f(x):
        return fnp.sum(x**3) * fnp.ones(4, "float64"), {"sum": fnp.sum(x), "n": 3}

    for g in (jac(f, has_aux=True, chunk_size=chunk), fgrad.jit(jac(f, has_aux=True, chunk_size=chunk))):
        j, aux = g(x)
        same(j, jac(lambda x: f(x)[0])(x))
        assert float(aux["sum"]) == pytest.approx(x.sum()) and int(aux["n"]) == 3


@every_first
def test_nothing_to_differentiate_or_to_return(jac):
    assert jac(lambda x: x * 2)(np.zeros((0,))).shape == (0, 0)
    assert jac(lambda x: fnp.ones((2, 0), "float64") * fnp.sum(x))(np.zeros(3)).shape == (2, 0, 3)
    assert jac(lambda p, x: x)({}, draw(2)) == {}
    assert jac(lambda x: (x, None))(np.float64(2)) == (1.0, None)


@every_first
def test_keyword_arguments(jac):
    same(jac(lambda x, *, k: x * k)(draw(2), k=3.0), 3 * np.eye(2))


# --- with other transformations --------------------------------------------------------------------------------------
@every_one
@pytest.mark.parametrize("chunk", [None, 2])
def test_under_vmap_grad_and_jvp(jac, chunk):
    f = lambda x: fnp.sin(x) * fnp.sum(x)  # noqa: E731
    j = jac(f, chunk_size=chunk)
    xs = draw(4, 3)
    same(fgrad.vmap(j)(xs), np.stack([np.asarray(jac(f)(x)) for x in xs]))
    same(fgrad.jit(fgrad.vmap(j))(xs), np.stack([np.asarray(jac(f)(x)) for x in xs]))
    total = lambda x: fnp.sum(j(x) ** 2)  # noqa: E731
    np.testing.assert_allclose(
        np.asarray(fgrad.grad(total)(xs[0])), differences(lambda x: total(x), xs[0]), rtol=1e-6, atol=1e-6
    )
    t = draw(3)
    assert float(fgrad.jvp(total, (xs[0],), (t,))[1]) == pytest.approx(float(fgrad.grad(total)(xs[0]) @ t))


def test_jacobians_of_jacobians():
    x = draw(3)
    f = lambda x: fnp.prod(fnp.sin(x))  # noqa: E731
    want = np.asarray(hessian(f)(x))
    for outer in FIRST:
        for inner in FIRST:
            same(outer(inner(f))(x), want)
            same(outer(inner(f, chunk_size=2), chunk_size=2)(x), want)


# --- what is computed ------------------------------------------------------------------------------------------------
def names(f, *args):
    found = []
    walk_eqns(fgrad.make_jaxpr(f)(*args).jaxpr, lambda e: found.append(e.primitive.name))
    return found


def largest(f, *args):
    sizes = []
    walk_eqns(fgrad.make_jaxpr(f)(*args).jaxpr, lambda e: sizes.extend(v.aval.size for v in e.outvars))
    return max(sizes)


def test_jacobian_takes_the_mode_of_fewer_passes():
    w = draw(2, 30)
    wide, tall = (lambda x: fnp.tanh(w @ x)), (lambda x: fnp.tanh(w.T @ x))
    assert names(jacobian(wide), w[0]) == names(jacrev(wide), w[0]) != names(jacfwd(wide), w[0])
    assert names(jacobian(tall), w[:, 0]) == names(jacfwd(tall), w[:, 0]) != names(jacrev(tall), w[:, 0])
    square = lambda x: fnp.sin(x) * fnp.sum(x)  # noqa: E731
    assert names(jacobian(square), w[0]) == names(jacfwd(square), w[0])


def test_chunks_bound_the_size_of_intermediate_values():
    """f goes through 1000 numbers for each of 64 arguments; the Jacobian has 64 columns of 2."""
    w = draw(1000, 64) / 32

    def f(x):
        return fnp.sum(fnp.tanh(w @ x).reshape(2, 500), axis=1)

    x = draw(64)
    assert largest(jacfwd(f), x) >= 64 * 1000
    assert largest(jacfwd(f, chunk_size=4), x) <= 4 * 1000
    down = lambda x: w @ fnp.tanh(w.T @ x)  # 1000 numbers to 1000, through 64  # noqa: E731
    assert largest(jacrev(down, chunk_size=8), draw(1000)) <= 1000 * 1000


@pytest.mark.parametrize("jac", [jacfwd, jacrev], ids=lambda f: f.__name__)
def test_the_program_has_one_size_whatever_the_number_of_chunks(jac):
    def count(n):
        return len(names(jac(lambda x: fnp.sin(x) * 2, chunk_size=2), np.zeros(n)))

    assert count(8) == count(400)


def test_forward_mode_needs_no_transposes():
    """A while_loop has a forward mode only."""

    def f(x):
        return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, fnp.sin(c[1]) * x), (0, x))[1]

    x = draw(3)
    for chunk in (None, 2):
        np.testing.assert_allclose(np.asarray(jacfwd(f, chunk_size=chunk)(x)), differences(f, x), rtol=1e-7, atol=1e-7)
    same(jacobian(f)(x), np.asarray(jacfwd(f)(x)))


def test_reverse_mode_runs_the_function_once():
    calls = []

    def f(x):
        calls.append(1)
        return fnp.sin(x)

    jacrev(f, chunk_size=1)(draw(4))
    assert len(calls) == 1


# --- errors ----------------------------------------------------------------------------------------------------------
def square(x):
    return x * x


def results(x):
    return {"y": x * x, "n": fnp.argmax(x)}


@cases(
    ("no function", TypeError, "jacfwd: needs a function, got 3 of type int. Pass a callable.", lambda: jacfwd(3)),
    (
        "integers",
        TypeError,
        "jacfwd: differentiated arguments must be real floating-point, got i32[3] for argument 'x' of square. Convert "
        "it with .astype(float), or leave it out of argnums.",
        lambda: jacfwd(square)(np.arange(3, dtype=np.int32)),
    ),
    (
        "a Python int",
        TypeError,
        "jacrev: differentiated arguments must be real floating-point, got i32[]~ for argument 'x' of square. Convert "
        "it with .astype(float), or leave it out of argnums.",
        lambda: jacrev(square)(3),
    ),
    (
        "bools",
        TypeError,
        "hessian: differentiated arguments must be real floating-point, got bool[2] for argument 'x' of square. "
        "Convert it with .astype(float), or leave it out of argnums.",
        lambda: hessian(square)(np.array([True, False])),
    ),
    (
        "complex",
        TypeError,
        "jacobian: differentiated arguments must be real floating-point, got c64[2] for argument 'x' of square. "
        "Differentiate with respect to real and imaginary parts: there is no holomorphic mode.",
        lambda: jacobian(square)(np.ones(2, np.complex64)),
    ),
    (
        "integer results",
        TypeError,
        "jacfwd: results must be real floating-point, got i32[] from results at ['n']. Convert it, or return it as "
        "aux (has_aux=True).",
        lambda: jacfwd(results)(np.ones(3)),
    ),
    (
        "integer results in reverse mode",
        TypeError,
        "hessian: results must be real floating-point, got i32[] from results at ['n']. Convert it, or return it as "
        "aux (has_aux=True).",
        lambda: hessian(results)(np.ones(3)),
    ),
    (
        "complex results",
        TypeError,
        "jacrev: results must be real floating-point, got c128[2] from <lambda>. Return real and imaginary parts.",
        lambda: jacrev(lambda x: x * 1j)(np.ones(2)),
    ),
    (
        "argnums",
        ValueError,
        "jacrev: argnums must name positional arguments of the call, got 1 for square called with 1 of them. "
        "Use indices below 1.",
        lambda: jacrev(square, argnums=1)(np.ones(3)),
    ),
    (
        "no pair",
        TypeError,
        "jacfwd: with has_aux=True square must return a pair (output, aux), got f64[3]. Return two values, or drop "
        "has_aux.",
        lambda: jacfwd(square, has_aux=True)(np.ones(3)),
    ),
    (
        "chunk of nothing",
        ValueError,
        "jacfwd: chunk_size must be an int of at least 1 or None, got 0. Pass the number of vectors to push at a time.",
        lambda: jacfwd(square, chunk_size=0),
    ),
    (
        "chunk of half",
        TypeError,
        "hessian: chunk_size must be an int of at least 1 or None, got 0.5. Pass the number of vectors to push at a "
        "time.",
        lambda: hessian(square, chunk_size=0.5),
    ),
    (
        "no array",
        TypeError,
        "jacfwd: arguments must be arrays, scalars or pytrees of them, got 'a' of type str in argument 'x' of square. "
        "Pass arrays, or close over the value.",
        lambda: jacfwd(square)("a"),
    ),
)
def test_errors(error, text, f):
    check(error, text, f)


# --- against JAX -----------------------------------------------------------------------------------------------------
@pytest.mark.oracle
@pytest.mark.parametrize("argnums", [0, 1, (0, 1), (1,)])
def test_jax_agrees(argnums, jax):
    def f(np):
        return lambda p, x: {"y": np.tanh(p["w"] @ x) * p["b"], "z": (np.sum(x**3), x[:1] * p["b"])}

    x = draw(3)
    for name in ("jacfwd", "jacrev", "hessian"):
        ours = {"jacfwd": jacfwd, "jacrev": jacrev, "hessian": hessian}[name]
        want = getattr(jax, name)(f(jax.numpy), argnums)(PARAMS, x)
        for chunk in (None, 2):
            got = ours(f(fnp), argnums, chunk_size=chunk)(PARAMS, x)
            leaves, structure = jax.tree_util.tree_flatten(want)
            assert jax.tree_util.tree_structure(tree.tree_map(np.asarray, got)) == structure
            for g, w in zip(tree.tree_leaves(got), leaves, strict=True):
                assert g.shape == w.shape and g.dtype == w.dtype
                np.testing.assert_allclose(np.asarray(g), np.asarray(w), rtol=1e-10, atol=1e-12)
