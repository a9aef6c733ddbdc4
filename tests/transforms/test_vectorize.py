"""fgrad.numpy.vectorize: broadcasting by vmap, with core axes from a signature."""

import numpy as np
import pytest
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.standard_normal(shape)


def close(got, want):
    got = np.asarray(got)
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


# --- values ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "a, b",
    [((), ()), ((3,), ()), ((2, 3), (3,)), ((2, 1), (3,)), ((1, 3), (2, 1)), ((4, 1, 3), (2, 1)), ((0, 2), (1, 2))],
)
def test_scalars_broadcast_as_in_numpy(a, b):
    x, y = draw(*a), draw(*b)

    def f(u, v):
        assert u.shape == v.shape == ()
        return fnp.where(u > v, u - v, u * v)

    want = np.where(x > y, x - y, x * y)
    close(fnp.vectorize(f)(x, y), want)
    close(fgrad.jit(fnp.vectorize(f))(x, y), want)


@pytest.mark.parametrize(
    "signature, a, b, formula",
    [
        ("(n),(n)->()", (2, 1, 3), (4, 3), lambda x, y: (x * y).sum(-1)),
        ("(n),(m)->(n,m)", (2, 3), (5, 2, 4), lambda x, y: x[..., :, None] * y[..., None, :]),
        ("(m,n),(n)->(m)", (3, 4), (6, 4), lambda x, y: y @ x.T),
        ("(m, n), (n, k) -> (m, k)", (2, 1, 3, 4), (5, 4, 2), np.matmul),
        ("(3),()->(3)", (2, 3), (2,), lambda x, y: x * y[:, None]),
        ("(n),()->(n)", (2, 0), (2,), lambda x, y: x * y[:, None]),
    ],
)
def test_signatures(signature, a, b, formula):
    own = {
        "(n),(n)->()": lambda u, v: fnp.sum(u * v),
        "(n),(m)->(n,m)": lambda u, v: u[:, None] * v,
        "(m,n),(n)->(m)": lambda u, v: u @ v,
        "(m, n), (n, k) -> (m, k)": lambda u, v: u @ v,
        "(3),()->(3)": lambda u, v: u * v,
        "(n),()->(n)": lambda u, v: u * v,
    }[signature]
    x, y = draw(*a), draw(*b)
    f = fnp.vectorize(own, signature=signature)
    close(f(x, y), formula(x, y))
    close(fgrad.jit(f)(x, y), formula(x, y))


def test_several_results():
    f = fnp.vectorize(lambda x: (fnp.sum(x), x - fnp.mean(x)), signature="(n)->(),(n)")
    x = draw(2, 4, 3)
    total, centred = f(x)
    close(total, x.sum(-1))
    close(centred, x - x.mean(-1, keepdims=True))
    assert type(fnp.vectorize(lambda x: (x,))(x)) is tuple


def test_results_of_any_shape_without_a_signature():
    x = draw(2, 3)
    close(fnp.vectorize(lambda a: a * fnp.arange(4.0, dtype="float64"))(x), x[..., None] * np.arange(4.0))


def test_an_argument_of_size_one_is_not_copied():
    """It enters the inner map as it is: the product with it is one matrix product, not a batch of them."""
    w, x = draw(1, 4, 4), draw(8, 4)
    f = fnp.vectorize(lambda w, x: w @ x, signature="(m,n),(n)->(m)")
    closed = fgrad.make_jaxpr(f)(w, x)
    (product,) = [e for e in closed.eqns if e.primitive.name == "dot_general"]
    assert product.params["dimension_numbers"][1] == ((), ())
    close(f(w, x), x @ w[0].T)


def test_excluded_arguments():
    def f(x, power, *, shift):
        assert power == [2] and shift == "left"
        return x ** power[0]

    x = draw(3)
    close(fnp.vectorize(f, excluded={1, "shift"})(x, [2], shift="left"), x**2)
    whole = fnp.vectorize(lambda x, table: x + fnp.sum(table), excluded=(1,))
    close(whole(x, draw(2) * 0 + 1), x + 2)
    named = fnp.vectorize(lambda x, *, t: x + fnp.sum(t), excluded={"t"}, signature="()->()")
    close(named(x, t=np.ones(4)), x + 4)


def test_none_is_handed_on():
    f = fnp.vectorize(lambda x, y: x if y is None else x + y, signature="(),()->()")
    x = draw(3)
    close(f(x, None), x)
    close(f(x, 1.0), x + 1)


def test_no_arguments():
    assert fnp.vectorize(lambda: 3)().item() == 3


def test_as_a_decorator_it_keeps_the_name():
    @fnp.vectorize
    def rounded(x):
        """Documented."""
        return fnp.round(x)

    assert rounded.__name__ == "rounded" and rounded.__doc__ == "Documented."


def test_derivatives_and_maps():
    f = fnp.vectorize(lambda a, b: fnp.sum(fnp.tanh(a) * b), signature="(n),(n)->()")
    a, b = draw(2, 1, 3), draw(4, 3)
    got = fgrad.grad(lambda a, b: fnp.sum(f(a, b)), (0, 1))(a, b)
    close(got[0], (1 - np.tanh(a) ** 2) * b.sum(0))
    close(got[1], np.broadcast_to(np.tanh(a).sum((0, 1)), (4, 3)))
    close(fgrad.vmap(f, in_axes=(0, None))(a, b), np.asarray(f(a, b)))
    inner = fnp.vectorize(fgrad.grad(lambda x: fnp.sin(x) * x))
    close(inner(a), np.sin(a) + a * np.cos(a))


def test_dtypes_stay():
    assert fnp.vectorize(lambda x: x * 2)(np.float16([1, 2])).dtype == np.float16
    assert fnp.vectorize(lambda x: x * 2)(np.float64([1, 2])).dtype == np.float64
    assert fnp.vectorize(lambda x, s: x * s)(np.float16([1, 2]), 2.5).dtype == np.float16


# --- errors ----------------------------------------------------------------------------------------------------------
def pair(x, y):
    return x + y


X, Y = np.ones((2, 3)), np.ones((4, 3))


@cases(
    (
        "no function",
        TypeError,
        "vectorize: needs a function, got 3 of type int. Pass a callable.",
        lambda: fnp.vectorize(3),
    ),
    (
        "excluded kind",
        TypeError,
        "vectorize: excluded must hold positions and names, got 1.5 of type float. Use ints and strings.",
        lambda: fnp.vectorize(pair, excluded={1.5}),
    ),
    (
        "excluded from the end",
        ValueError,
        "vectorize: excluded positions are counted from 0, got -1. Use the position itself.",
        lambda: fnp.vectorize(pair, excluded={-1}),
    ),
    (
        "malformed",
        ValueError,
        "vectorize: signature must list the core axes of operands and results, got '(n->()'. "
        "Write it like '(m,n),(n)->(m)'.",
        lambda: fnp.vectorize(pair, signature="(n->()"),
    ),
    (
        "no text",
        ValueError,
        "vectorize: signature must list the core axes of operands and results, got 3. Write it like '(m,n),(n)->(m)'.",
        lambda: fnp.vectorize(pair, signature=3),
    ),
    (
        "keyword",
        TypeError,
        "vectorize: arguments given by keyword must be excluded, got 'y' for pair. Pass them by position, or add their "
        "names to excluded.",
        lambda: fnp.vectorize(pair)(X, y=X),
    ),
    (
        "no array",
        TypeError,
        "vectorize: arguments must be arrays or scalars, got 'a' of type str for argument 1 of pair. Convert it, or "
        "exclude position 1.",
        lambda: fnp.vectorize(pair)(X, "a"),
    ),
    (
        "loop axes",
        ValueError,
        "vectorize: shapes must broadcast (aligned at the last axis, sizes equal or 1), got (2, 3) and (4, 3). "
        "Reshape one, or insert axes of size 1 with x[:, None].",
        lambda: fnp.vectorize(pair)(X, Y),
    ),
    (
        "number of arguments",
        TypeError,
        "vectorize: signature '(n)->(n)' is for 1 arguments, got 2 that are not excluded. Change the call or the "
        "signature.",
        lambda: fnp.vectorize(pair, signature="(n)->(n)")(X, X),
    ),
    (
        "too few axes",
        ValueError,
        "vectorize: argument 1 of pair must have the core axes (m,n) of signature '(n),(m,n)->(n)', got shape (3,) "
        "(1 axes for 2). Add axes, or change the signature.",
        lambda: fnp.vectorize(pair, signature="(n),(m,n)->(n)")(X, Y[0]),
    ),
    (
        "core sizes",
        ValueError,
        "vectorize: core axis 'n' of signature '(n),(n)->(n)' must have one size, got 2 in argument 1 of pair of shape "
        "(3, 2) where it is 3. Change the shapes or the signature.",
        lambda: fnp.vectorize(pair, signature="(n),(n)->(n)")(X, X.T),
    ),
    (
        "fixed size",
        ValueError,
        "vectorize: core axis '2' of signature '(2),()->()' must have one size, got 3 in argument 0 of pair of shape "
        "(2, 3) where it is 2. Change the shapes or the signature.",
        lambda: fnp.vectorize(pair, signature="(2),()->()")(X, 1.0),
    ),
    (
        "None with core axes",
        ValueError,
        "vectorize: None has no core axes, got it for argument 1 with core axes (n) in signature '(n),(n)->(n)'. "
        "Exclude position 1.",
        lambda: fnp.vectorize(pair, signature="(n),(n)->(n)")(X, None),
    ),
    (
        "number of results",
        TypeError,
        "vectorize: signature '(),()->(),()' is for 2 results, got 1 from pair. Change the function or the signature.",
        lambda: fnp.vectorize(pair, signature="(),()->(),()")(X, X),
    ),
    (
        "axes of a result",
        ValueError,
        "vectorize: result 0 of pair must have the core axes () of signature '(n),()->()', got shape (3,) (1 axes for "
        "0). Change the function or the signature.",
        lambda: fnp.vectorize(pair, signature="(n),()->()")(X, 1.0),
    ),
    (
        "size of a result",
        ValueError,
        "vectorize: core axis 'n' of signature '(n)->(n)' must have one size, got 2 in result 0 of tail of shape (2,) "
        "where it is 3. Change the shapes or the signature.",
        lambda: fnp.vectorize(tail, signature="(n)->(n)")(X),
    ),
    (
        "no array returned",
        TypeError,
        "vectorize: tail must return an array or a tuple of arrays, got 'a' of type str for result 0. Return arrays.",
        lambda: fnp.vectorize(tail, excluded={1})(X, True),
    ),
)
def test_errors(error, text, f):
    check(error, text, f)


def tail(x, text=False):
    return "a" if text else x[1:]


# --- against JAX -----------------------------------------------------------------------------------------------------
@pytest.mark.oracle
@pytest.mark.parametrize(
    "signature, shapes",
    [
        (None, [(2, 3), (3,), ()]),
        ("(n),(n),()->(n)", [(2, 1, 3), (4, 3), (4,)]),
        ("(n),(n),()->(n)", [(3,), (3,), (2, 2)]),
        ("(n),(m),()->(n,m),()", [(2, 3), (4,), (2,)]),
        ("(3),(m),(k)->(k)", [(3,), (2, 5), (1, 2)]),
    ],
)
def test_jax_agrees(signature, shapes, jax):
    def f(np):
        def of(x, y, z):
            if signature is None or signature.count("->(n)"):
                return x * y - np.sin(z)
            return (x[:, None] * y, z * np.sum(x)) if signature.endswith("()") else z * np.sum(x) + np.sum(y)

        return of

    xs = [draw(*s) for s in shapes]
    got = fnp.vectorize(f(fnp), signature=signature)(*xs)
    want = jax.numpy.vectorize(f(jax.numpy), signature=signature)(*xs)
    for g, w in zip(*[o if isinstance(o, tuple) else (o,) for o in (got, want)], strict=True):
        close(g, np.asarray(w))
