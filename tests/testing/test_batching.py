"""check_batching: right batch rules pass over every axis; wrong axes and values are told."""

import ml_dtypes
import numpy as np
import pytest
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import extend, lax, random
from fgrad.errors import MissingBackendError
from fgrad.testing import NonSmoothPointError, check_batching
from fgrad.testing.agreement import subject_of
from fgrad.testing.batching import Examples
from fgrad.testing.sample import normal

DTYPES = [np.float64, np.float32, ml_dtypes.bfloat16]
X = np.linspace(-1, 2, 6).reshape(2, 3)


def scaled_by(name, factor):
    """x (1 + error) under vmap, where its batch rule multiplies by the factor."""

    def batch(args, dims):
        (x,), (d,) = args, dims
        return x * fnp.asarray(factor, x.dtype), d

    return extend.primitive(f"test_batching.{name}", numpy=np.positive, abstract=lambda x: x, batch=batch)


def with_axis(name, axis):
    """The identity of a matrix, whose batch rule names another axis than the one it has."""
    return extend.primitive(
        f"test_batching.{name}", numpy=np.positive, abstract=lambda x: x, batch=lambda args, dims: (args[0], axis)
    )


# --- right rules -----------------------------------------------------------------------------------------------------
FUNCTIONS = {
    "matmul": (lambda x, w: fnp.tanh(x @ w), (normal(2, 3), normal(3, 4))),
    "tree": (
        lambda p: {"sum": fnp.sum(p["a"], 0), "max": [p["b"], fnp.max(p["b"])]}, ({"a": normal(0, 3), "b": normal(4)},),
    ),
    "scan": (lambda x, y: lax.scan(lambda c, a: (c + a * y, c), x[0], x), (normal(3), normal())),
    "cond": (lambda x: lax.cond(x[0] > 0, fnp.sin, fnp.exp, x), (normal(3),)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_pass(name, dtype):
    f, args = FUNCTIONS[name]
    check_batching(f, fgrad.tree.tree_map(lambda x: x.astype(dtype), args))


def test_integers_booleans_complex_numbers_and_keys():
    check_batching(
        lambda x, i, b: fnp.where(b, x[i], x[::-1]), (np.arange(6), np.array([3, 0, 0, 1, 5, 2]), X.ravel() > 0)
    )
    check_batching(lambda z, w: (z * w, z + 1), (X + 1j * X, 2j))
    check_batching(lambda key: random.normal(key, (3,)), (random.PRNGKey(0),))
    check_batching(lambda x, n, s: (x * n, x + s, 3), (X.astype(np.float32), 2, np.float32(0.5)))


def test_results_that_depend_on_nothing_mapped():
    check_batching(lambda x, y: (y, fnp.ones(2)), (X, np.ones(2)))


def test_examples_differ_and_stay_in_the_domain():
    spd = X.T @ X + np.eye(3)
    check_batching(fnp.linalg.cholesky, (spd,))
    check_batching(fnp.log, (np.array([0.5, 2.0]),))
    rows = Examples(subject_of("test", fnp.linalg.cholesky, (spd,)), 3, 0).rows
    assert all(np.isfinite(np.linalg.cholesky(x)).all() for (x,) in rows)
    assert len({x.tobytes() for (x,) in rows}) == 3
    rows = Examples(subject_of("test", fnp.sin, (np.arange(4),)), 3, 0).rows
    assert len({x.tobytes() for (x,) in rows}) == 3 and all(sorted(x) == [0, 1, 2, 3] for (x,) in rows)


def test_axes_and_sizes_can_be_given():
    params = {"w": X, "b": 2.0}
    for in_axes in (({"w": 0, "b": None},), [(0,), ({"w": -1, "b": 0},)], 0, ({"w": 1, "b": None},)):
        check_batching(lambda p: p["w"] * p["b"], (params,), in_axes=in_axes, sizes=(5, 0))


def test_every_axis_of_each_and_all_together():
    seen = set()

    def record(x, y):
        if hasattr(x, "dim") or hasattr(y, "dim"):
            seen.add((getattr(x, "dim", None), getattr(y, "dim", None)))
        return x + fnp.sum(y)

    check_batching(record, (X, np.ones(3)), sizes=(2,))
    alone = {(0, None), (1, None), (2, None), (None, 0), (None, 1)}
    assert seen == alone | {(0, 0), (1, 1), (2, 1), (2, 0), (0, 1)}
    seen.clear()
    check_batching(record, (X, np.ones(3)), sizes=(1,))
    assert seen == (alone - {(1, None)}) | {(0, 0), (2, 1), (2, 0), (0, 1)}


# --- wrong rules -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_rule_wrong_by_half_a_thousandth_is_found(dtype):
    x = np.random.default_rng(0).standard_normal((5, 60)).astype(dtype)
    check_batching(scaled_by("right", 1.0), (x,))
    with pytest.raises(AssertionError, match="check_batching: result differs at index"):
        check_batching(scaled_by("wrong", 1.0005), (x,))


def plain(x):
    return {"y": WRONG_VALUE(x)}


def scalars(x, y):
    return x * y


def ties(x):
    return lax.argmax(lax.round(x) - x, 0, np.int32) + LATER(x)


def returns_text(x):
    return "text"


WRONG_VALUE = scaled_by("value", 1.5)
WRONG_AXIS = with_axis("axis", 1)
LATER = extend.primitive(
    "test_batching.tie",
    numpy=lambda x: np.int32(0), abstract=lambda x: fgrad.ShapeDtypeStruct((), "int32"),
    batch=lambda args, dims: (fnp.ones(args[0].shape[dims[0]], "int32"), 0),
)  # fmt: skip

WRONG = [
    ("values", AssertionError,
     "check_batching: result['y'] differs at index (0, 2) (6 elements differ; this one most).\n"
     "  vmap:     3.0\n"
     "  the loop: 2.0\n"
     "  absolute error 1, relative error 0.5; allowed 3.69e-14 (16 eps of float64, times sqrt(3) terms, of that and of "
     "8.9e-16, its change where the arguments are rounded)\n"
     "  of plain (HERE) at (float64[3]), in_axes (0,), size 3, seed 0",
     lambda: check_batching(plain, (np.arange(3.0),))),
    ("axis", AssertionError,
     "check_batching: result differs at index (0, 2, 2) (18 elements differ; this one most).\n"
     "  vmap:     0.0\n"
     "  the loop: 8.0\n"
     "  absolute error 8, relative error 1; allowed 2.56e-13 (16 eps of float64, times sqrt(9) terms, of that and of "
     "3.6e-15, its change where the arguments are rounded)\n"
     "  of test_batching.axis at (float64[3, 3]), in_axes (0,), size 3, seed 0",
     lambda: check_batching(WRONG_AXIS, (np.arange(9.0).reshape(3, 3),))),
    ("a jump", NonSmoothPointError,
     "check_batching: result of ties must not jump at the sampled point, got a change by 1 where the arguments move by "
     "one rounding. Move the point away from the tie or the threshold.\n"
     "  of ties (HERE) at (float64[2])",
     lambda: check_batching(ties, (np.array([0.5, 1.5]),))),
    ("no array", TypeError,
     "check_batching: returns_text must return arrays or pytrees of them, got 'text' of type str as result. Return "
     "arrays, or leave the value out.",
     lambda: check_batching(returns_text, (X,))),
    ("nothing to map", TypeError,
     "check_batching: args must hold at least one array, got (). Pass the function's arguments.",
     lambda: check_batching(lambda: fnp.ones(3), ())),
    ("not a tuple", TypeError,
     "check_batching: args must be a tuple of the function's arguments, got ndarray. Write (x,) for a function of one "
     "argument.",
     lambda: check_batching(plain, X)),
    ("not a function", TypeError,
     "check_batching: needs a function, got 3 of type int. Pass a callable.",
     lambda: check_batching(3, (X,))),
    ("axis out of range", ValueError,
     "check_batching: in_axes must be an axis of the batched argument, got 3 for argument 'x' of 2 axes and one for "
     "the batch. Use an axis in [-3, 3).",
     lambda: check_batching(scalars, (X, X), in_axes=(3, None))),
    ("no axis", TypeError,
     "check_batching: in_axes must hold ints or None, got 0.5 for argument 'x'. Use axis numbers.",
     lambda: check_batching(scalars, (X, X), in_axes=0.5)),
    ("structure of axes", ValueError,
     "check_batching: in_axes must be an int, None or a prefix of the arguments' structure (*, *), got (0,). Give one "
     "entry for each argument, or a list of choices.",
     lambda: check_batching(scalars, (X, X), in_axes=(0,))),
    ("nothing mapped", ValueError,
     "check_batching: in_axes must map at least one array, got (None, None). Give one an axis.",
     lambda: check_batching(scalars, (X, X), in_axes=(None, None))),
    ("no choices", ValueError,
     "check_batching: in_axes must hold at least one choice, got []. Leave it out for all choices.",
     lambda: check_batching(scalars, (X, X), in_axes=[])),
    ("sizes", TypeError,
     "check_batching: sizes must be a sequence of ints, got 3. Write (3, 1, 0).",
     lambda: check_batching(scalars, (X, X), sizes=3)),
    ("negative size", ValueError,
     "check_batching: sizes must be at least 0, got (3, -1). Write (3, 1, 0).",
     lambda: check_batching(scalars, (X, X), sizes=(3, -1))),
]  # fmt: skip


@cases(*WRONG)
def test_wrong_ones_are_told(error, text, f):
    check(error, text, f)


def test_what_cannot_be_batched_says_so():
    def unknown(x):
        return fgrad.pure_callback(np.sin, x, x)

    with pytest.raises(MissingBackendError, match="vmap must be told how to call sin") as caught:
        check_batching(unknown, (X,))
    assert caught.value.__notes__ == [
        "check_batching: raised by vmap with in_axes=(0,) over 3 examples; unknown itself runs on these arguments."
    ]
