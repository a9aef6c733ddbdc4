"""check_jvp, check_vjp, check_grads, check_second_order: what they accept, and what they say of what they do not."""

import re

import numba
import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.testing import NonSmoothPointError, check_grads, check_jvp, check_second_order, check_vjp

X, W = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]]), np.array([0.5, -1.0, 2.0])


def product(x, w):
    return x @ w


def product_vjp(ct, x, w):
    return np.outer(ct, w), ct @ x


def off(x):
    """Wrong by 0.05 %."""
    return x * np.asarray(1.0005, x.dtype)


def raises(error, text):
    """The whole message but for its numbers, which # stands for, and the last line, which says where."""
    pattern = re.escape(text).replace(r"\#", r"[-+\d.e]+")
    return pytest.raises(error, match=f"^{pattern}(\n  of .*)?$")


# --- right rules -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, fgrad.bfloat16])
def test_right_rules_pass_in_every_precision(dtype):
    x = np.array([0.3, -1.25, 2.0]).astype(dtype)

    def f(x):
        return fnp.sum(fnp.exp(x) / fnp.sum(fnp.exp(x))), fnp.tanh(x) * x

    check_jvp(f, (x,))
    check_vjp(f, (x,))
    check_grads(f, (x,))
    check_second_order(f, (x,))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_steps_follow_the_size_of_the_arguments(scale):
    x = scale * np.array([1.0, 2.5, -3.0])
    check_grads(lambda x: fnp.sin(x / scale) * x, (x,))
    with pytest.raises(AssertionError, match="differs at index"):
        check_vjp(lambda x: np.sin(x / scale), (x,), vjp=lambda ct, x: off(ct * np.cos(x / scale) / scale))


def test_steps_stay_out_of_where_a_function_is_not_defined():
    check_grads(lambda x: fnp.log(x), (np.array([0.01, 1.0, 30.0]),))
    check_grads(fnp.sqrt, (np.array([1e-3, 5.0]),))


def test_pytrees_integers_and_numbers():
    args = ({"w": W, "i": np.arange(3), "s": 2.0}, (np.float64(1.5), True))

    def f(p, rest):
        return {"a": p["w"] * p["i"] * p["s"], "b": (rest[0] * rest[1], p["i"].sum())}

    def vjp(ct, p, rest):
        bars = {"w": ct["a"] * p["i"] * p["s"], "i": 0 * p["i"], "s": np.sum(ct["a"] * p["w"] * p["i"])}
        return bars, (ct["b"][0], False)

    check_vjp(f, args)
    check_jvp(f, args)
    check_vjp(f, args, vjp=vjp)
    with raises(
        AssertionError,
        "check_vjp: the cotangent of argument 'p'['s'] differs at index ().\n"
        "  vjp:         0.0\n  differences: #\n"
        "  absolute error #, relative error 1; allowed # (16 eps of float64, times sqrt(5) terms, of terms of #; and "
        "10 times the differences' own error #)",
    ):
        check_vjp(f, args, vjp=lambda ct, p, rest: ({**vjp(ct, p, rest)[0], "s": 0.0}, vjp(ct, p, rest)[1]))


def test_no_elements():
    check_grads(lambda x: x * 2, (np.zeros((0, 3)),))
    check_vjp(product, (np.zeros((0, 3)), W), vjp=product_vjp)


def test_numba_functions():
    f = numba.njit(lambda x, y: np.sin(x) * y)
    backward = numba.njit(lambda ct, x, y: (ct * np.cos(x) * y, ct * np.sin(x)))
    check_vjp(f, (W, W + 1), vjp=backward)
    with pytest.raises(AssertionError, match="check_vjp: the cotangent of argument 'y' differs at index"):
        check_vjp(f, (W, W + 1), vjp=lambda ct, x, y: (backward(ct, x, y)[0], ct))


def test_arguments_are_not_changed():
    x = X.copy()
    check_vjp(product, (x, W), vjp=product_vjp)
    np.testing.assert_array_equal(x, X)


# --- wrong rules -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [((2, 3, 8), (4, 3, 3)), ((8, 8, 40), (8, 8, 5))])
def test_a_convolution_wrong_by_a_twentieth_of_a_percent(dtype, shape):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(dtype) for s in shape)

    def conv(x, w):
        return fnp.tanh(lax.conv(x, w, (1,), "SAME") / w.shape[1])

    def pull(ct, x, w):
        return fgrad.vjp(conv, x, w)[1](ct)

    check_vjp(conv, (x, w), vjp=pull)
    with pytest.raises(AssertionError, match=r"the cotangent of argument 'w'.* differs at index"):
        check_vjp(conv, (x, w), vjp=lambda ct, x, w: (pull(ct, x, w)[0], off(pull(ct, x, w)[1])))
    with pytest.raises(AssertionError, match=r"the tangent of result for a change of argument 'x'.* differs at index"):
        check_jvp(conv, (x, w), jvp=lambda p, t: (conv(*p), fgrad.jvp(conv, p, (off(t[0]), t[1]))[1]))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_function_that_is_differentiated_wrong(dtype):
    @fgrad.custom_jvp
    def f(x):
        return fnp.sin(x)

    f.defjvp(lambda p, t: (fnp.sin(p[0]), off(t[0] * fnp.cos(p[0]))))
    x = np.array([0.5, 2.0], dtype)
    for check in (check_jvp, check_vjp, check_grads, check_second_order):
        with pytest.raises(AssertionError, match=rf"^{check.__name__}: the .* differs at index"):
            check(f, (x,))


def test_a_wrong_second_derivative():
    @fgrad.custom_jvp
    def f(x):
        return fnp.sin(x)

    @fgrad.custom_jvp
    def slope(x):
        return fnp.cos(x)

    f.defjvp(lambda p, t: (fnp.sin(p[0]), t[0] * slope(p[0])))
    slope.defjvp(lambda p, t: (fnp.cos(p[0]), off(-t[0] * fnp.sin(p[0]))))
    x = np.array([0.5, 2.0])
    check_grads(f, (x,), order=1)
    for check in (check_grads, check_second_order):
        with pytest.raises(AssertionError, match=rf"^{check.__name__}: the .* differs at index"):
            check(f, (x,))


def test_linear_functions_are_compared_to_rounding():
    check_vjp(product, (X, W), vjp=product_vjp, linear=(0, 1))
    check_jvp(lambda x: 3 * x + 1, (X,), linear=True)
    with raises(
        AssertionError,
        "check_vjp: the cotangent of argument 'w' differs at index (0,).\n"
        "  vjp:                      #\n  the difference at step 1: #\n"
        "  absolute error #, relative error #; allowed # (16 eps of float64, times sqrt(9) terms, of terms of #; and "
        "10 times the differences' own error #)",
    ):
        check_vjp(product, (X, W), vjp=lambda ct, x, w: (np.outer(ct, w), ct @ x * (1 + 1e-12)), linear=(0, 1))


@pytest.mark.parametrize("f", [lambda x: x**2, lambda x: x**3, abs])
def test_a_function_that_is_not_linear(f):
    def bent(x):
        return f(x)

    with raises(
        AssertionError,
        "check_jvp: bent is declared linear in argument 'x' and is not: it deviates from a straight line by # "
        "(rounding "
        "explains #). Leave out `linear`.",
    ):
        check_jvp(bent, (np.array([0.5, -2.0]),), linear=True)


# --- points without a derivative -------------------------------------------------------------------------------------
def relu(x):
    return np.maximum(x, 0)


def relu_vjp(ct, x):
    return ct * (x > 0)


def test_kinks_are_named_and_can_be_moved_away_from():
    with raises(
        NonSmoothPointError,
        "check_vjp: relu must be smooth at the sampled point, got its result for changes of argument 'x' at index "
        "(1,): "
        "it has a kink, with slope # on one side and # on the other (step 1e-05). Draw the point with "
        'fgrad.testing.strategies.arrays, or pass nonsmooth="move".',
    ):
        check_vjp(relu, (np.array([1.0, 0.0, -2.0]),), vjp=relu_vjp)
    check_vjp(relu, (np.array([1.0, 0.0, -2.0]),), vjp=relu_vjp, nonsmooth="move")
    check_vjp(relu, (np.array([1.0, 1e-3, -2.0]),), vjp=relu_vjp)  # near one, but not at it
    with pytest.raises(AssertionError, match="the cotangent of argument 'x' differs at index"):
        check_vjp(relu, (np.array([1.0, 0.0, -2.0]),), vjp=lambda ct, x: off(relu_vjp(ct, x)), nonsmooth="move")


def test_a_function_that_jumps():
    with raises(
        NonSmoothPointError,
        "check_jvp: floor must be smooth at the sampled point, got result[0] for changes of argument 'x' at index "
        "(0,): "
        "it jumps from 0 to 1 (step 1e-05). Draw the point with fgrad.testing.strategies.arrays, or pass "
        'nonsmooth="move".',
    ):
        check_jvp(np.floor, (np.array([1.0, 0.5]),), jvp=lambda p, t: (np.floor(*p), 0 * t[0]))


def test_the_edge_of_a_domain():
    with raises(
        NonSmoothPointError,
        "check_jvp: sqrt must be smooth at the sampled point, got result[1] for changes of argument 'x' at index (1,): "
        "its values on the two sides are nan and # (step 1e-05). Draw the point with "
        "fgrad.testing.strategies.arrays, or "
        'pass nonsmooth="move".',
    ):
        check_jvp(np.sqrt, (np.array([1.0, 0.0]),), jvp=lambda p, t: (np.sqrt(*p), 0.5 * t[0]), seed=1)
    with raises(
        NonSmoothPointError,
        "check_vjp: log must be finite at the sampled point, got -inf in result at index (1,). Choose a point "
        "inside the "
        "function's domain.",
    ):
        check_vjp(fnp.log, (np.array([1.0, 0.0]),))


def test_a_function_as_rough_as_noise():
    with pytest.raises(NonSmoothPointError, match="must be smooth at the sampled point"):
        check_vjp(lambda x: np.sin(1e9 * x), (np.array([1.0, 0.3]),), vjp=lambda ct, x: ct, nonsmooth="move")


# --- functions that are none -----------------------------------------------------------------------------------------
def test_a_random_function():
    rng = np.random.default_rng(0)
    with raises(
        AssertionError,
        "check_vjp: noisy must be a pure function, got different values of result from two calls with equal "
        "arguments: # "
        "and # at index (0,). It is random or keeps a state: pass a key or a seed as an argument, and return the "
        "state.",
    ):

        def noisy(x):
            return x + rng.standard_normal(x.shape)

        check_vjp(noisy, (W,), vjp=lambda ct, x: ct)


def test_a_function_that_changes_later():
    calls = []

    def counting(x):
        calls.append(1)
        return x * (1 + (len(calls) > 6))

    with raises(
        AssertionError,
        "check_vjp: counting must be a pure function, got different values of result from its first call and a "
        "later one "
        "with equal arguments: 0.5 and 1.0 at index (0,). It is random or keeps a state: pass a key or a seed as an "
        "argument, and return the state.",
    ):
        check_vjp(counting, (W,), vjp=lambda ct, x: ct)


def test_a_function_that_changes_its_argument():
    def shift(x):
        x[1] += 1
        return x

    with raises(
        AssertionError,
        "check_vjp: shift must not change its arguments, got argument 'x' changed at index (1,) by the call. Work on a "
        "copy: x = x.copy().",
    ):
        check_vjp(shift, (W,), vjp=lambda ct, x: ct)


def test_rules_that_are_not_functions():
    rng = np.random.default_rng(0)

    def doubling(ct, x):
        ct *= 2
        return ct

    with raises(
        AssertionError,
        "check_vjp: vjp must not change its arguments, got an array float64[3] changed by doubling at index (0,). "
        "Work on "
        "a copy: x = x.copy().",
    ):
        check_vjp(lambda x: 2 * x, (W,), vjp=doubling)
    with raises(
        AssertionError,
        "check_vjp: vjp must be a pure function, got different values from two calls of <lambda> with equal arguments, "
        "at index (0,). It is random or keeps a state.",
    ):
        check_vjp(lambda x: x, (W,), vjp=lambda ct, x: ct * rng.random(3))


SHAPES = "Sum over the axes that were broadcast, or reshape."
WRONG_USE = [
    (
        lambda: check_vjp(product, X),
        "args must be a tuple of the function's arguments, got ndarray. Write (x,) for a function of one "
        "argument.",
    ),
    (
        lambda: check_vjp(3, (X,)),
        "needs a function, got 3 of type int. Pass a callable.",
    ),
    (
        lambda: check_vjp(lambda x: "a", (X,)),
        "<lambda> must return arrays or pytrees of them, got 'a' of type str as result. Return arrays, or "
        "leave the value out.",
    ),
    (
        lambda: check_vjp(lambda x: None, (X,)),
        "<lambda> must return at least one array, got None. Return what shall be checked.",
    ),
    (
        lambda: check_vjp(abs, ("a",)),
        "args must hold arrays, numbers or pytrees of them, got 'a' of type str in argument 'x'. Close over "
        "other values: lambda x: f(x, other).",
    ),
    (
        lambda: check_vjp(abs, (X + 1j,)),
        "args must be real, got complex128 in argument 'x'. Check the real and imaginary parts of a complex "
        "function as functions of real arrays.",
    ),
    (
        lambda: check_vjp(abs, (np.arange(3),)),
        "abs must have a floating-point argument to be differentiable in, got ['int64']. Convert one with "
        ".astype.",
    ),
    (
        lambda: check_vjp(lambda x: x > 0, (X,)),
        "<lambda> must have a floating-point result to be differentiable, got ['bool']. Convert one with "
        ".astype.",
    ),
    (
        lambda: check_vjp(product, (X, W), vjp=lambda ct, x, w: ct),
        "vjp must return a tuple with a cotangent for each of the 2 arguments, got a ndarray from <lambda>. "
        "Return None for an argument that the result does not depend on.",
    ),
    (
        lambda: check_vjp(product, (X, W), vjp=lambda ct, x, w: (x, w[:2])),
        "vjp must return the cotangent of argument 'w' in the shape of what it belongs to, got (2,) for (3,) "
        f"from <lambda>. {SHAPES}",
    ),
    (
        lambda: check_vjp(product, (X, W), vjp=lambda ct, x, w: (x, "w")),
        "vjp must return arrays, got 'w' of type str as the cotangent of argument 'w' from <lambda>. Return "
        "an array.",
    ),
    (
        lambda: check_vjp(lambda p: p["w"], ({"w": W},), vjp=lambda ct, p: (ct,)),
        "vjp must return cotangents in the structure of argument 0, {'w': *}, got * from <lambda>. Return the"
        " same containers.",
    ),
    (
        lambda: check_jvp(abs, (X,), jvp=lambda p, t: t[0]),
        "jvp must return a pair (result, tangent), got ndarray from <lambda>. Return (out, tangent_out).",
    ),
    (
        lambda: check_jvp(abs, (X,), jvp=lambda p, t: (abs(p[0]), (t[0],))),
        "jvp must return a tangent in the structure of the function's, *, got (*,) from <lambda>. Return the "
        "same containers.",
    ),
    (
        lambda: check_jvp(abs, (X,), jvp=3),
        "jvp: needs a function, got 3 of type int. Pass a callable.",
    ),
    (
        lambda: check_jvp(abs, (X,), linear=(1,)),
        "linear must be True, or the numbers of arguments in each of which the function is linear, got (1,) "
        "for 1 arguments. Count them from 0.",
    ),
    (
        lambda: check_jvp(abs, (X,), nonsmooth="skip"),
        'nonsmooth must be "raise" or "move", got \'skip\'.',
    ),
    (
        lambda: check_grads(abs, (X,), order=0),
        "order must be a positive int, got 0. Use 1 for first derivatives.",
    ),
    (
        lambda: check_grads(abs, (X,), modes="fwd"),
        'modes must be among "fwd" and "rev", got \'fwd\'. Write ("fwd", "rev").',
    ),
]  # fmt: skip


@pytest.mark.parametrize("call, text", WRONG_USE, ids=[text[:40] for _, text in WRONG_USE])
def test_wrong_use(call, text):
    with pytest.raises((TypeError, ValueError), match=rf"^check_\w+: {re.escape(text)}$"):
        call()


def test_results_whose_shape_depends_on_values():
    with pytest.raises(AssertionError, match="must return the same structure and shapes at every call, got"):
        check_vjp(lambda x: x[x > 0], (np.array([1e-5, 1.0]),), vjp=lambda ct, x: ct)


def test_a_rule_whose_value_is_another():
    with pytest.raises(AssertionError, match=r"^check_jvp: result differs at index \(2,\)"):
        check_jvp(lambda x: 2 * x, (W,), jvp=lambda p, t: (2.001 * p[0], 2 * t[0]))


# --- PyTorch ---------------------------------------------------------------------------------------------------------
@pytest.mark.oracle("torch")
def test_functions_of_pytorch(torch):
    conv2d, grads = torch.nn.functional.conv2d, torch.nn.grad
    x, w = torch.ones(2, 3, 6, 6).cumsum(2).cumsum(3) % 5, torch.ones(4, 3, 3, 3).cumsum(0).cumsum(3) % 3

    class Convolution(torch.autograd.Function):
        flip = ()

        @classmethod
        def forward(cls, ctx, x, w):
            ctx.save_for_backward(x, w)
            return conv2d(x, w, padding=1)

        @classmethod
        def backward(cls, ctx, ct):
            x, w = ctx.saved_tensors
            return (
                grads.conv2d_input(x.shape, w.flip(cls.flip), ct, padding=1),
                grads.conv2d_weight(x, w.shape, ct, padding=1),
            )

    class Unflipped(Convolution):
        flip = (2, 3)

    check_vjp(Convolution.apply, (x, w), linear=(0, 1))
    check_vjp(lambda x, w: conv2d(x, w, stride=2), (x.double(), w.double()))
    with pytest.raises(AssertionError, match=r"^check_vjp: the cotangent of argument 'args\[0\]' differs at index"):
        check_vjp(Unflipped.apply, (x, w))
    with pytest.raises(TypeError, match=r"^check_jvp: jvp must be given for arrays of torch"):
        check_jvp(Convolution.apply, (x, w))
