"""check_primitive: each rule of a user's primitive made wrong in turn, wrong usage, and what is right."""

import re
import subprocess
import sys

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import extend, lax
from fgrad.testing import NonSmoothPointError, Sample, check_primitive
from fgrad.testing.laws import LAWS

X = np.array([[0.5, -1.25, 2.0], [1.5, 0.75, -0.5]])
Like = fgrad.ShapeDtypeStruct


# --- an element-wise primitive ---------------------------------------------------------------------------------------
CUBE = dict(
    numpy=lambda x: x * x * x,
    scalar=lambda s, x: s.mul(s.mul(x, x), x),
    derivatives=lambda t, ans, x: 3 * t * x * x,
)


def cube(**wrong):
    return extend.elementwise("tests.cube", **(CUBE | wrong))


def test_right_rules_pass():
    check_primitive(cube(), [Sample((X,), kinds="f"), (np.zeros((0, 2)),), [np.array(0.5)]])
    check_primitive(cube(scalar=None), [(X,)])
    check_primitive(cube(derivatives=None), [(X,)])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("wrong", "law", "message"),
    [
        ({"scalar": lambda s, x: s.mul(x, s.mul(x, s.mul(x, s.const(1.0005, x.dtype))))}, "values", "reference: "),
        ({"derivatives": lambda t, ans, x: 3.0015 * t * x * x}, "tangents", "differences"),
        ({"derivatives": lambda t, ans, x: 3 * t * lax.stop_gradient(x) * x}, "second", "differences"),
    ],
    ids=["scalar", "derivatives", "second derivatives"],
)
def test_a_wrong_elementwise_rule(wrong, law, message, dtype):
    with pytest.raises(AssertionError) as e:
        check_primitive(cube(**wrong), [(X[:, :1].astype(dtype),), (X.astype(dtype),)])
    text = str(e.value)
    at = f"({np.dtype(dtype)}[2, 1])"
    assert text.startswith(f"check_primitive: tests.cube breaks the law {law!r} at sample 0, {at}.")
    assert message in text


# --- a linear one ----------------------------------------------------------------------------------------------------
def moved_kernel(out, x):
    for i in range(x.size):
        out[i] = x[i] - (x[i - 1] if i else 0.0)


def moved_back(ct, x):
    return (ct - fnp.concatenate([ct[1:], fnp.zeros_like(ct[:1])]),)


STEPS = dict(
    numpy=lambda x: np.diff(x, prepend=x.dtype.type(0)),
    abstract=lambda x: x,
    kernel=moved_kernel,
    linear=True,
    transpose=moved_back,
)


def steps(**wrong):
    return extend.primitive("tests.steps", **(STEPS | wrong))


def wrong_front(args, dims):
    return fnp.moveaxis(args[0], dims[0], 0), 0


def raising(args, dims):
    raise IndexError("axis 7")


def test_a_linear_primitive_passes():
    check_primitive(steps(), [(X[0],), (np.zeros(0),), (np.ones(1),)])
    check_primitive(steps(transpose=None), [(X[0],)])
    check_primitive(steps(batch="loop", kernel=None), [(X[0],)])


@pytest.mark.parametrize(
    ("wrong", "law", "message"),
    [
        ({"abstract": lambda x: Like(x.shape, np.float32)}, "types", "numpy must return what abstract promises"),
        ({"numpy": lambda x: np.diff(x, prepend=x.dtype.type(1))}, "values", "reference"),
        ({"kernel": lambda out, x: None}, "values", "reference"),
        ({"transpose": lambda ct, x: (1.0005 * moved_back(ct, x)[0],)}, "adjoints", "transpose"),
        ({"transpose": lambda ct, x: (ct[1:],)}, "adjoints", "TypeError: tests.steps: transpose"),
        ({"numpy": lambda x: x * x, "kernel": None}, "tangents", "declared linear"),
        ({"batch": wrong_front}, "batching", "the loop"),
        ({"batch": raising}, "batching", "IndexError: axis 7"),
    ],
    ids=["abstract", "numpy", "kernel", "transpose", "shape of transpose", "linear", "batch", "raises"],
)
def test_a_wrong_rule_of_a_linear_primitive(wrong, law, message):
    with pytest.raises(AssertionError) as e:
        check_primitive(steps(**wrong), [(X[0],)])
    assert str(e.value).startswith(f"check_primitive: tests.steps breaks the law {law!r} at sample 0, (float64[3]).")
    assert message in str(e.value), e.value


def test_operands_declared_linear_one_by_one():
    def product(transpose, **wrong):
        rules = dict(numpy=lambda x, y: x * y, abstract=lambda x, y: x, linear=(0, 1), transpose=transpose)
        return extend.primitive("tests.product", **(rules | wrong))

    def transpose(ct, x, y):
        return (ct * y, None) if isinstance(x, extend.LinearArg) else (None, ct * x)

    def swapped(ct, x, y):
        return (ct * y, None) if isinstance(x, extend.LinearArg) else (None, ct * x * 2)

    check_primitive(product(transpose), [(X, X + 1)])
    with pytest.raises(AssertionError, match=r"breaks the law 'adjoints' at sample 0, \(float64\[2, 3\], float64"):
        check_primitive(product(swapped), [(X, X + 1)])
    with pytest.raises(AssertionError, match=r"tests\.product breaks the law 'linear'"):
        check_primitive(product(transpose, numpy=lambda x, y: x * y + y), [(X, X + 1)], laws=["linear"])


def test_parameters_and_samples_are_named():
    power = extend.elementwise(
        "tests.raised",
        numpy=lambda x, *, n=2: x**n,
        derivatives=lambda t, ans, x, *, n: t * 2 * x,  # for n = 2 only
    )
    check_primitive(power, [(X,)])
    with pytest.raises(AssertionError, match=r"at sample 1, \(float64\[2, 3\]\) with \{'n': 3\}\."):
        check_primitive(power, [(X,), Sample((X,), {"n": 3})])


def test_a_kink_is_reported_and_may_be_declared():
    ramp = extend.elementwise(
        "tests.ramp", numpy=lambda x: np.maximum(x, 0), derivatives=lambda t, ans, x: t * fnp.where(x > 0, 1, 0)
    )
    at_zero = np.array([0.0, 1.0, -2.0])
    with pytest.raises(NonSmoothPointError, match=r'(?s)tests.ramp at sample 0, .* law \'tangents\'.*slope="kink"'):
        check_primitive(ramp, [(at_zero,)])
    check_primitive(ramp, [Sample((at_zero,), slope="kink"), (X,)])


def test_a_missing_derivative_is_declared():
    shifted = extend.elementwise(
        "tests.shifted", numpy=lambda x, y: x + y, derivatives=(lambda t, ans, x, y: t, lambda t, ans, x, y: t)
    )
    with pytest.raises(AssertionError, match="a derivative in y must be refused"):
        check_primitive(shifted, [Sample((X, X), refused=(1,))])


# --- fgrad's own -----------------------------------------------------------------------------------------------------
def test_own_primitives_by_name_and_by_laws():
    check_primitive("dilate")
    check_primitive("sin", laws=["types", "tangents"])
    check_primitive(
        "scatter", [Sample((np.ones(3), np.array([[1]]), np.ones(1)), {"axes": (0,), "mode": "drop", "kind": "add"})]
    )


# --- wrong usage -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: check_primitive(lax.sin), TypeError,
            r"check_primitive: p must be a primitive or the name of one, got <function sin at 0x\w+> of type "
            r"function\. Pass what fgrad\.extend\.primitive returned; check_vjp and the others take any function\.",
        ),
        (
            lambda: check_primitive("sine"), ValueError,
            r"check_primitive: p must be the name of a primitive, got 'sine'\. Did you mean 'sin'.*\?",
        ),
        (
            lambda: check_primitive("xyzzy"), ValueError,
            r"check_primitive: p must be the name of a primitive, got 'xyzzy'\. Pass the primitive itself\.",
        ),
        (
            lambda: check_primitive(cube()), ValueError,
            r"check_primitive: tests\.cube must be given samples, got none\. Pass operands to try it on: "
            r"check_primitive\(p, \[\(x, y\), Sample\(\(x, y\), \{'parameter': 1\}\)\]\)\.",
        ),
        (
            lambda: check_primitive("psum"), ValueError,
            r"check_primitive: psum must be given samples, got none\. Pass operands .*",
        ),
        (
            lambda: check_primitive(cube(), X), TypeError,
            r"check_primitive: samples must be a list of tuples of operands, or of Samples, got ndarray\. "
            r"Write \[sample\]\.",
        ),
        (
            lambda: check_primitive(cube(), Sample((X,))), TypeError,
            r"check_primitive: samples must be a list of tuples of operands, or of Samples, got Sample\. "
            r"Write \[sample\]\.",
        ),
        (
            lambda: check_primitive(cube(), [X]), TypeError,
            r"check_primitive: samples must be tuples of operands, or Samples, got ndarray as sample 0\. "
            r"Write \(x,\) for one operand\.",
        ),
        (
            lambda: check_primitive(cube(), [(X, X)]), TypeError,
            r"check_primitive: sample 0 must be a call that tests\.cube accepts, got \(float64\[2, 3\], "
            r"float64\[2, 3\]\) \(tests\.cube: takes 1 operand, got 2\. .*\)\. Change the sample, or the "
            r"abstract rule\.",
        ),
        (
            lambda: check_primitive(cube(), [(X,), (X + 1j,)]), TypeError,
            r"check_primitive: operands must be real, got complex128 as operand 0 of sample 1\. .*",
        ),
        (
            lambda: check_primitive(cube(), [Sample((X,), kinds="i")]), TypeError,
            r"check_primitive: sample 0 must be a call that tests\.cube accepts, got \(int32\[2, 3\]\) \(.*\)\. "
            r"Change .*",
        ),
        (
            lambda: check_primitive(cube(), [Sample((X,), kinds="q")]), ValueError,
            r"check_primitive: kinds must be of f, i, b, got 'q' in sample 0\. See Sample\.",
        ),
        (
            lambda: check_primitive(cube(), [Sample((X,), slope="smoth")]), ValueError,
            r"check_primitive: slope must be of smooth, tie, kink, rounds, zero, got 'smoth' in sample 0\. "
            r"See Sample\.",
        ),
        (
            lambda: check_primitive(cube(), [Sample((X,), linear=((1,),))]), ValueError,
            r"check_primitive: linear must hold numbers of operands, 0 to 0, got 1 in sample 0\. "
            r"Count operands from 0\.",
        ),
        (
            lambda: check_primitive("sin", laws="jit"), TypeError,
            r"check_primitive: laws must be a list of names, got 'jit'\. Write \['jit'\]\.",
        ),
        (
            lambda: check_primitive("sin", laws=["jvp"]), ValueError,
            rf"check_primitive: laws must be among {', '.join(LAWS)}, got 'jvp'\. Choose of these\.",
        ),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error) as e:
        call()
    assert re.fullmatch(message, str(e.value)), str(e.value)


def test_import_builds_no_samples_and_needs_no_hypothesis():
    heavy = ("fgrad.testing.samples.elementwise", "hypothesis")
    code = f"import sys, fgrad.testing; print(*[name in sys.modules for name in {heavy}])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
