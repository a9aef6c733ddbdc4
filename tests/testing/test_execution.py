"""check_jit and check_deterministic: what is compiled right passes; wrong values, types and bits are told."""

import itertools
import threading

import ml_dtypes
import numpy as np
import pytest
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import config, extend, lax, random
from fgrad.core.array import ConcreteArray
from fgrad.errors import ConcretizationError
from fgrad.testing import NonSmoothPointError, check_deterministic, check_jit
from fgrad.testing.execution import bits_differ, strided
from fgrad.testing.sample import normal

DTYPES = [np.float64, np.float32, ml_dtypes.bfloat16]
X = np.linspace(-1, 2, 6).reshape(2, 3)


def compiled_as(name, factor):
    """x, which compiled code multiplies by the factor."""
    return extend.elementwise(
        f"test_execution.{name}",
        numpy=lambda x: x.copy(),
        scalar=lambda s, x: s.mul(x, s.const(factor, x.dtype)),
        domain="float",
    )


# --- right functions -------------------------------------------------------------------------------------------------
FUNCTIONS = {
    "matmul": (lambda x, w: fnp.tanh(x @ w), (normal(7, 33), normal(33, 4))),
    "tree": (
        lambda p: {"sum": fnp.sum(p["a"], 0), "none": None, "mean": [fnp.mean(p["b"])]},
        ({"a": normal(0, 3), "b": normal(4)},),
    ),
    "scan": (lambda x: lax.scan(lambda c, a: (c * 0.5 + a, fnp.sin(c)), x[0], x), (normal(50, 3),)),
    "conv": (lambda x, w: lax.conv(x, w, (2, 1), "SAME"), (normal(2, 3, 9, 8), normal(4, 3, 3, 2))),
    "sort": (lambda x: (fnp.sort(x), fnp.argmax(x), fnp.sum(x)), (normal(301),)),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_pass(name, dtype):
    f, args = FUNCTIONS[name]
    args = fgrad.tree.tree_map(lambda x: x.astype(dtype), args)
    check_jit(f, args)
    check_deterministic(f, args, runs=2, threads=3)


@pytest.mark.parametrize("law", [check_jit, check_deterministic])
def test_arguments_of_other_kinds(law):
    law(lambda x, i: (x[i], i + 1, 3, 2.0, True), (np.arange(6), np.array([3, 0])))
    law(lambda z: z * 2j, (X + 1j * X,))
    law(lambda x, y, n: x * y + n, (1.5, np.float32(2), 3))
    law(lambda key: random.normal(key, (3,)), (random.PRNGKey(0),))
    law(lambda x: 2 * x, (ConcreteArray(np.asarray(1.0, np.float32), weak=True),))
    law(fgrad.jit(fgrad.grad(lambda x: fnp.sum(x**3))), (X,))


def test_rounding_that_a_function_magnifies_is_no_difference():
    x = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    check_jit(lambda x: fnp.sum(x - fnp.mean(x)), (x,))
    check_jit(lambda x: fnp.log(fnp.sum(fnp.exp(x * 1000 - 1000 * fnp.max(x)))) + fnp.sum(x) * 1e4, (x,))
    check_jit(lambda x: fnp.sum(x.astype(fgrad.bfloat16) * x.astype(fgrad.bfloat16)).astype("float32"), (x,))


def test_every_number_of_kernel_threads_is_tried_and_the_setting_restored(monkeypatch):
    seen = []

    def f(x):
        seen.append((config.num_threads(), threading.current_thread() is threading.main_thread()))
        return x

    monkeypatch.setattr(config, "cores", lambda: 2)
    config.set_num_threads(1)
    try:
        check_deterministic(f, (X,), runs=2, threads=3)
        assert {n for n, _ in seen} == {1, 2} and sum(not main for _, main in seen) == 2 * 3
        assert config.num_threads() == 1
    finally:
        config._overrides.clear()
    with pytest.raises(AssertionError), config.using_num_threads(1):
        assert config.num_threads() == 1
        raise AssertionError
    assert "FGRAD_NUM_THREADS" not in config._overrides


def test_bits_that_depend_on_kernel_threads_are_told(monkeypatch):
    monkeypatch.setattr(config, "cores", lambda: 2)
    with pytest.raises(AssertionError, match=r"kernel threads: 1: 1\.0\n  kernel threads: 2: "):
        check_deterministic(lambda x: x * config.num_threads(), (ONES,))


def test_strided_memory_holds_the_same_values():
    for x in (X, np.arange(4), np.zeros((0, 3)), np.array(2.0), X.astype(ml_dtypes.bfloat16)):
        assert np.array_equal(strided(x), x) and (x.size < 2 or not strided(x).flags.c_contiguous)


def test_bits():
    assert bits_differ(np.array([0.0, 1.0, np.nan]), np.array([-0.0, 1.0, np.nan])).tolist() == [True, False, False]
    assert not bits_differ(np.array(1), np.array(1)) and bits_differ(np.zeros((0, 2)), np.zeros((0, 2))).shape == (0, 2)


# --- wrong ones ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_compiled_code_wrong_by_half_a_thousandth_is_found(dtype):
    x = np.random.default_rng(0).standard_normal((50, 20)).astype(dtype)
    check_jit(compiled_as("right", 1.0), (x,))
    with pytest.raises(AssertionError, match="check_jit: result differs at index"):
        check_jit(compiled_as("wrong", 1.0005), (x,))
    with pytest.raises(AssertionError, match="check_jit: result differs at index"):
        check_jit(lambda x: fnp.sum(compiled_as("wrong", 1.0005)(x)), (x,))


WRONG_SLOPE = compiled_as("slope", 1.5)


def slope(x):
    return {"y": WRONG_SLOPE(x)}


def other_type(x):
    return x + 1 if type(x) is ConcreteArray else x + fnp.ones(2, "float64")


def other_weakness(x):
    return fnp.float32(2) if type(x) is ConcreteArray else 2.0


def other_structure(x):
    return (x,) if type(x) is ConcreteArray else [x]


def other_in_memory(x):
    if type(x) is not ConcreteArray:
        return 2 * x
    return (2 if np.asarray(x).flags.c_contiguous else 3) * x


def jumps(x):
    return fnp.floor(x if type(x) is ConcreteArray else x - 1e-9).astype("int32")


def returns_text(x):
    return x, "text"


def writes(x):
    np.asarray(x).base[0] = 0
    return x


def counting():
    count = itertools.count()

    def counts(x):
        return x + next(count)

    return counts


def unlike_at(call, value):
    """x, but for the value at one call."""
    count = itertools.count(1)

    def changes(x):
        return x if next(count) != call else x + value

    return changes


def threaded(x):
    return x if threading.current_thread() is threading.main_thread() else -x


ONES = np.ones(3)
WRONG = [
    ("values", AssertionError,
     "check_jit: result['y'] differs at index (2,) (2 elements differ; this one most).\n"
     "  jit:   3.0\n"
     "  eager: 2.0\n"
     "  absolute error 1, relative error 0.5; allowed 3.69e-14 (16 eps of float64, times sqrt(3) terms, of that and "
     "of 8.9e-16, its change where the arguments are rounded)\n"
     "  of slope (HERE) at (float64[3])",
     lambda: check_jit(slope, (np.arange(3.0),))),
    ("dtype", AssertionError,
     "check_jit: result must have the type that other_type gives it, got f64[2] from jit and f32[2] without (~ is "
     "weak).\n"
     "  of other_type (HERE) at (float32[2])",
     lambda: check_jit(other_type, (np.ones(2, np.float32),))),
    ("weakness", AssertionError,
     "check_jit: result must have the type that other_weakness gives it, got f32[]~ from jit and f32[] without (~ "
     "is weak).\n"
     "  of other_weakness (HERE) at (float64[2])",
     lambda: check_jit(other_weakness, (np.ones(2),))),
    ("structure", AssertionError,
     "check_jit: other_structure must return the same structure and shapes at every call, got (*,) of shapes [(2,)] "
     "and then [*] of shapes [(2,)]. They may not depend on values.",
     lambda: check_jit(other_structure, (np.ones(2),))),
    ("memory", AssertionError,
     "check_jit: result differs at index (0,) (2 elements differ; this one most).\n"
     "  eager, strided: 3.0\n"
     "  contiguous:     2.0\n"
     "  absolute error 1, relative error 0.5; allowed 3.01e-14 (16 eps of float64, times sqrt(2) terms, of that and "
     "of 8.9e-16, its change where the arguments are rounded)\n"
     "  of other_in_memory (HERE) at (float64[2]), with arguments in strided memory",
     lambda: check_jit(other_in_memory, (np.ones(2),))),
    ("jump", NonSmoothPointError,
     "check_jit: result of jumps must not jump at the sampled point, got a change by 1 where the arguments move by "
     "one rounding. Move the point away from the tie or the threshold.\n"
     "  of jumps (HERE) at (float64[2])",
     lambda: check_jit(jumps, (np.array([1.5, 3.0]),))),
    ("no array", TypeError,
     "check_jit: returns_text must return arrays or pytrees of them, got 'text' of type str as result[1]. Return "
     "arrays, or leave the value out.",
     lambda: check_jit(returns_text, (ONES,))),
    ("writes", AssertionError,
     "check_jit: writes must not change its arguments, got argument 'x' changed at index (0,) by the call. Work on "
     "a copy: x = x.copy().",
     lambda: check_jit(writes, (ONES,))),
    ("state", AssertionError,
     "check_deterministic: counts must be a pure function, got different values of result from two calls with equal "
     "arguments: 1.0 and 2.0 at index (0,). It is random or keeps a state: pass a key or a seed as an argument, and "
     "return the state.",
     lambda: check_deterministic(counting(), (ONES,))),
    ("second run", AssertionError,
     "check_deterministic: result differs at index (0,) (3 elements differ; this one most).\n"
     "  eager, run 3: 2.0\n"
     "  run 1:        1.0\n"
     "  absolute error 1, relative error 1; allowed 0 (the same bits)\n"
     "  of changes (HERE) at (float64[3])",
     lambda: check_deterministic(unlike_at(5, 1.0), (ONES,))),
    ("zero of the other sign", AssertionError,
     "check_deterministic: result differs at index (0,) (2 elements differ; this one most).\n"
     "  eager, thread 1 of 4: -0.0\n"
     "  alone:                0.0\n"
     "  absolute error 0, relative error inf; allowed 0 (the same bits)\n"
     "  of threaded (HERE) at (float64[2])",
     lambda: check_deterministic(threaded, (np.zeros(2),))),
    ("runs", TypeError,
     "check_deterministic: runs must be an int, got 2.5. Pass how many.",
     lambda: check_deterministic(slope, (ONES,), runs=2.5)),
    ("threads", ValueError,
     "check_deterministic: threads must be at least 1, got 0. Pass how many.",
     lambda: check_deterministic(slope, (ONES,), threads=0)),
    ("not a function", TypeError,
     "check_jit: needs a function, got 3 of type int. Pass a callable.",
     lambda: check_jit(3, (ONES,))),
    ("not a tuple", TypeError,
     "check_deterministic: args must be a tuple of the function's arguments, got ndarray. Write (x,) for a function "
     "of one argument.",
     lambda: check_deterministic(slope, ONES)),
]  # fmt: skip


@cases(*WRONG)
def test_wrong_ones_are_told(error, text, f):
    check(error, text, f)


@pytest.mark.parametrize("law", [check_jit, check_deterministic])
def test_what_cannot_be_compiled_says_so(law):
    def positive(x):
        return x if x[0] > 0 else -x

    with pytest.raises(ConcretizationError, match="argument 'x' of positive") as caught:
        law(positive, (ONES,))
    assert caught.value.__notes__ == [
        f"{law.__name__}: raised by compiling it; positive itself runs on these arguments."
    ]


def test_numpy_functions_are_told_to_use_fgrads():
    with pytest.raises(ConcretizationError, match=r"Use fgrad\.numpy functions instead of NumPy's on traced values\."):
        check_jit(lambda x: np.sin(x), (ONES,))
