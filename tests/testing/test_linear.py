"""check_linear and check_transpose: right maps pass, wrong ones are told apart and shown by one entry."""

import ml_dtypes
import numpy as np
import pytest
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import extend, lax
from fgrad.errors import MissingBackendError
from fgrad.testing import check_linear, check_transpose

DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]
X = np.linspace(-1, 2, 6).reshape(2, 3)
W = np.linspace(0.3, 1.7, 12).reshape(3, 4)


def linear_in_x(name, transpose, dtype):
    """2 x, with the transpose given."""
    return extend.primitive(
        f"test_linear.{name}.{np.dtype(dtype).name}",
        numpy=lambda x: x + x,
        abstract=lambda x: x,
        linear=True,
        transpose=transpose,
    )


def conv(x, w):
    return lax.conv_general_dilated(x, w, (2, 1), [(1, -1), (0, 2)], rhs_dilation=(1, 2), feature_group_count=2)


# --- right maps ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize(
    ("f", "shapes", "argnums"),
    [
        (lambda x, w: x @ w, ((2, 3), (3, 4)), 0),
        (lambda x, w: x @ w, ((2, 3), (3, 4)), (1,)),
        (lambda x, y: (2 * x - y, {"sum": fnp.sum(x, 1)}), ((2, 3), (2, 3)), None),
        (conv, ((2, 2, 5, 4), (4, 1, 3, 2)), 0),
        (conv, ((2, 2, 5, 4), (4, 1, 3, 2)), -1),
        (lambda x: lax.cumsum(x)[::-1], ((40,),), None),
        (lambda x: (fnp.sum(x), x[:, :0]), ((0, 3),), None),
    ],
    ids=["matmul", "matmul of w", "several", "conv", "conv of w", "cumsum", "nothing"],
)
def test_linear_functions_pass(f, shapes, argnums, dtype):
    rng = np.random.default_rng(0)
    args = tuple(rng.standard_normal(s).astype(dtype) for s in shapes)
    check_linear(f, args, argnums=argnums)
    check_transpose(f, args, argnums=argnums)


def test_integer_arguments_are_held_and_integer_results_left_out():
    def pick(params, i):
        return {"rows": params["w"][i], "count": fnp.size(params["w"]) + i}

    args = ({"w": X, "n": np.arange(2)}, np.array([1, 0, 1]))
    check_linear(pick, args)
    check_transpose(pick, args)


def test_arguments_that_are_not_finite_give_shapes_only():
    check_linear(lambda x: 2 * x, (np.full(3, np.nan),))


def test_numpy_functions_with_a_transpose_by_hand():
    check_linear(lambda x: W.T @ x, (np.ones(3),))
    check_transpose(lambda x: W.T @ x, (np.ones(3),), transpose=lambda y: W @ y)
    check_transpose(
        lambda p, s: {"y": s * p["a"] + np.sum(p["b"])},
        ({"a": np.ones(3), "b": np.ones(2)}, 4.0),
        argnums=[0],
        transpose=lambda ct: ({"a": 4.0 * ct["y"], "b": np.full(2, ct["y"].sum())},),
    )
    check_transpose(lambda x, y: x, (np.ones(3), np.ones(2)), transpose=lambda ct: (ct, None))


def test_maps_of_different_scales_do_not_hide_each_other():
    def scale(ct, k):
        return ct if k == "big" else ct * 1.0005e-9

    args = (np.ones(3), np.ones(2))
    check_transpose(
        lambda x, y: (x, 1e-9 * y), args, transpose=lambda ct: (scale(ct[0], "big"), ct[1] * 1e-9)
    )  # fmt: skip
    with pytest.raises(AssertionError, match=r"argument 'y', where result\[1\] is 1 at index"):
        check_transpose(lambda x, y: (x, 1e-9 * y), args, transpose=lambda ct: (ct[0], scale(ct[1], "small")))


# --- wrong maps ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [1, 7, 300])
def test_a_transpose_wrong_by_half_a_thousandth_is_found(dtype, n):
    """Everywhere, and in one element alone."""
    everywhere = linear_in_x("everywhere", lambda ct, x: (ct * dtype(2.001),), dtype)
    factors = np.where(np.arange(n) == n // 2, 2.001, 2.0).astype(dtype)
    once = linear_in_x("once", lambda ct, x: (ct * factors,), dtype)
    right = linear_in_x("right", lambda ct, x: (ct + ct,), dtype)
    x = np.random.default_rng(n).standard_normal(n).astype(dtype)
    check_transpose(right, (x,))
    for wrong in (everywhere, once):
        with pytest.raises(AssertionError, match=r"check_transpose: the cotangent of argument 'x', where result is 1"):
            check_transpose(wrong, (x,))
    with pytest.raises(AssertionError, match=rf"differs at index \({n // 2},\)"):
        check_transpose(once, (x,))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_map_not_linear_by_half_a_thousandth_is_found(dtype):
    x = X.astype(dtype)
    with pytest.raises(AssertionError, match="is not linear in 'x'"):
        check_linear(lambda x: x + dtype(5e-4) * fnp.abs(x), (x,))
    with pytest.raises(AssertionError, match="is not linear in 'x'"):
        check_linear(lambda x: x + dtype(5e-4), (x,))


def double(x):
    return 2 * x


def triple_by_hand(ct):
    return 3 * ct


def both(ct):
    """Adds only the second result where it is not zero."""
    return 2 * ct["a"] if not ct["b"].any() else ct["b"]


def square(x):
    return x * x


def offset(x, y):
    return {"out": x + y + 1}


def logarithm(x):
    return fnp.log(x)


def returns_text(x):
    return x, "text"


def writes(x):
    x[0] = 0
    return x


WRONG = [
    ("one entry", AssertionError,
     "check_transpose: the cotangent of argument 'x', where result is 1 at index (1,) and 0 elsewhere, differs at "
     "index (1,).\n"
     "  transpose: 3.0\n"
     "  double:    2.0\n"
     "  absolute error 1, relative error 0.5; allowed 1.78e-14 (16 eps of float64, of the terms' norm 5)\n"
     "  of double (HERE) at (float64[3]), seed 0\n"
     "  for random x, y: <A x, y> = 2, <x, A^T y> = 3",
     lambda: check_transpose(double, (np.ones(3),), transpose=triple_by_hand)),
    ("the transpose is not linear", AssertionError,
     "check_transpose: the transpose of <lambda> is not linear: <x, A^T y> is -6 and <A x, y> is 6 for random x, y, "
     "though no entry of the matrix differs; allowed 6.9e-14: 16 eps of float64, of the terms' norm 19.4.\n"
     "  of <lambda> (HERE) at (float64[]), seed 0",
     lambda: check_transpose(lambda x: {"a": 2 * x, "b": x}, (np.float64(1),), transpose=both)),
    ("not linear", AssertionError,
     "check_linear: square is not linear in 'x': result differs at index (1,) (2 elements differ; this one most).\n"
     "  f(3 x - 2 y):    49.0\n"
     "  3 f(x) - 2 f(y): -5.0\n"
     "  absolute error 54, relative error 10.8; allowed 2.46e-13 (16 eps of float64, times sqrt(2) terms, of the "
     "largest term 49)\n"
     "  of square (HERE) at (float64[2]), seed 0",
     lambda: check_linear(square, (np.ones(2),))),
    ("not linear, of a transpose", AssertionError,
     "check_transpose: offset is not linear in 'x', 'y': result['out'] differs at index (0,) (3 elements differ; this "
     "one most).\n"
     "  f(0): 1.0\n"
     "  zero: 0.0\n"
     "  absolute error 1, relative error inf; allowed 6.61e-06 (16 eps of float32, times sqrt(3) terms, of the largest "
     "term 2)\n"
     "  of offset (HERE) at (float32[3], float32[3]), seed 0",
     lambda: check_transpose(offset, (np.ones(3, np.float32), np.ones(3, np.float32)))),
    ("not finite", AssertionError,
     "check_linear: logarithm is not linear in 'x': result has -inf at index (0,) in f(0), where x and y are finite.\n"
     "  of logarithm (HERE) at (float64[3]), seed 0",
     lambda: check_linear(logarithm, (np.ones(3),))),
    ("no array", TypeError,
     "check_linear: returns_text must return arrays or pytrees of them, got 'text' of type str as result[1]. Return "
     "arrays, or leave the value out.",
     lambda: check_linear(returns_text, (np.ones(3),))),
    ("changes its argument", AssertionError,
     "check_linear: writes must not change its arguments, got argument 'x' changed at index (0,) by the call. Work on "
     "a copy: x = x.copy().",
     lambda: check_linear(writes, (np.ones(3),))),
    ("no floating argument", TypeError,
     "check_linear: double must have a floating-point argument to be linear in, got ['int64'] in arguments [0]. "
     "Convert one with .astype, or name another in argnums.",
     lambda: check_linear(double, (np.arange(3),))),
    ("no floating result", TypeError,
     "check_linear: <lambda> must have a floating-point result to be linear, got ['int32']. Convert one with .astype.",
     lambda: check_linear(lambda x: fnp.argmax(x), (np.ones(3),))),
    ("argnums", ValueError,
     "check_transpose: argnums must name arguments in args, got (0, 1) for 1 of them. Use indices below 1.",
     lambda: check_transpose(double, (np.ones(3),), argnums=(0, 1))),
    ("argnums of a wrong kind", TypeError,
     "check_linear: argnums must be an int or a sequence of ints, got 'x'. Count the arguments from 0.",
     lambda: check_linear(double, (np.ones(3),), argnums="x")),
    ("not a function", TypeError,
     "check_transpose: needs a function, got 3 of type int. Pass a callable.",
     lambda: check_transpose(3, (np.ones(3),))),
    ("transpose not a function", TypeError,
     "check_transpose: transpose: needs a function, got 3 of type int. Pass a callable.",
     lambda: check_transpose(double, (np.ones(3),), transpose=3)),
    ("too few cotangents", TypeError,
     "check_transpose: transpose must return a tuple with a cotangent for each of 2 arguments, got a ndarray from "
     "triple_by_hand. Return all.",
     lambda: check_transpose(lambda x, y: x + y, (np.ones(3), np.ones(3)), transpose=triple_by_hand)),
    ("shape of a cotangent", TypeError,
     "check_transpose: transpose must return the cotangent of argument 'x' in the shape of what it belongs to, got "
     "(2,) for (3,) from <lambda>. Sum over the axes that were broadcast, or reshape.",
     lambda: check_transpose(double, (np.ones(3),), transpose=lambda ct: ct[:2])),
]  # fmt: skip


@cases(*WRONG)
def test_wrong_ones_are_told(error, text, f):
    check(error, text, f)


def test_what_has_no_transpose_says_so():
    linear = extend.primitive("test_linear.none", numpy=lambda x: x + x, abstract=lambda x: x, linear=True)
    check_linear(linear, (X,))
    with pytest.raises(MissingBackendError, match=r"test_linear.none: has no transpose rule"):
        check_transpose(linear, (X,))


def test_the_tolerance_can_be_given():
    off = {"transpose": lambda ct: ct * 2.0001}
    check_transpose(double, (np.ones(3),), tolerance=1e-3, **off)
    with pytest.raises(AssertionError, match="as given"):
        check_transpose(double, (np.ones(3),), tolerance=1e-6, **off)
    check_linear(lambda x: x + 1e-6, (np.ones(3),), tolerance=1e-3)


def test_fgrad_transposes_of_its_own():
    """The gradient of a loss that is linear, compiled, and a loop."""
    check_transpose(fgrad.jit(lambda x: lax.scan(lambda c, a: (c + a, c * 2), x[0], x)), (X,))
    check_transpose(fgrad.vmap(lambda x: lax.rev(x, (0,)) @ W), (X,))
