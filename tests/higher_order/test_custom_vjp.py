"""custom_vjp: fwd and bwd take the place of reverse mode, everywhere, and say so when they cannot."""

import weakref

import numpy as np
import pytest
from custom_programs import OURS, POINTS, REVERSE, VJP_PROGRAMS, of_jax
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad.errors import ClosedOverTracerError, ForwardModeError, MissingRuleError, TreeMismatchError
from fgrad.higher_order.custom_vjp import custom_vjp
from fgrad.lax import psum, scan

X = fnp.asarray(np.float64(0.5))


@pytest.mark.oracle
@pytest.mark.parametrize("composition", REVERSE)
@pytest.mark.parametrize("program", VJP_PROGRAMS)
def test_equals_jax(jax, program, composition):
    want = REVERSE[composition](jax, VJP_PROGRAMS[program](of_jax(jax)))
    np.testing.assert_allclose(REVERSE[composition](OURS.m, VJP_PROGRAMS[program](OURS)), want, rtol=1e-10, atol=1e-12)


def square():
    """x², with a derivative of 10 x."""
    f = custom_vjp(lambda x: x * x)
    f.defvjp(lambda x: (x * x, x), lambda x, ct: (10 * x * ct,))
    return f


@pytest.mark.parametrize("composition", REVERSE)
def test_the_rules_are_used_in_every_composition(composition):
    got = np.asarray(REVERSE[composition](OURS.m, square()))
    words = composition.replace("checkpoint", "" if "grad" in composition else "grad").split()
    order = sum(words.count(w) for w in ("grad", "vjp"))
    x = POINTS if "vmap" in words else POINTS[1] if "vjp" in words else POINTS[0]
    want = {0: x * x, 1: 10 * x, 2: 10 + 0 * x}[order] * (2 if "vjp" in words else 1)
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_forward_over_reverse():
    """The gradient is an ordinary function: its own derivatives go through bwd."""
    for f in (fgrad.grad(square()), fgrad.grad(fgrad.jit(square())), fgrad.jit(fgrad.grad(square()))):
        value, tangent = fgrad.jvp(f, (2.0,), (3.0,))
        assert (float(value), float(tangent)) == (20, 30)


def test_values_are_seen_in_function_and_rules():
    seen = []
    f = custom_vjp(lambda x: x if x > 0 else -x)

    def fwd(x):
        seen.append(float(x))
        return f(x), {"sign": 1 if x > 0 else -1, "kind": "a string may be a residual"}

    def bwd(res, ct):
        seen.append(float(ct))
        assert res["kind"].startswith("a string")
        return (res["sign"] * ct,)

    f.defvjp(fwd, bwd)
    assert float(fgrad.grad(lambda x: 4 * f(x))(-3.0)) == -4
    assert seen == [-3, 4]


def test_none_stands_for_zeros():
    f = custom_vjp(lambda params, x, n: params["w"] * x + params["b"][0] + params["b"][1] * n)

    def bwd(res, ct):
        return {"w": ct * res, "b": None}, None, None

    f.defvjp(lambda params, x, n: (f(params, x, n), x), bwd)
    params = {"w": 2.0, "b": [1.0, 1.0]}
    grads = fgrad.grad(f, argnums=(0, 1))(params, 3.0, 2)
    assert [float(g) for g in fgrad.tree.tree_leaves(grads)] == [0, 0, 3, 0]
    assert fgrad.vjp(f, params, 3.0, 2)[1](1.0)[2].dtype == fgrad.float0


def test_integer_outputs_have_float0_cotangents():
    f = custom_vjp(lambda x: (x * 2, fnp.argmax(x)))

    def bwd(res, ct):
        assert ct[1].dtype == fgrad.float0
        return (ct[0] * 5,)

    f.defvjp(lambda x: (f(x), None), bwd)
    assert fgrad.grad(lambda x: f(x)[0].sum())(fnp.ones(2)).tolist() == [5, 5]
    assert fgrad.grad(fgrad.jit(lambda x: f(x)[0].sum()))(fnp.ones(2)).tolist() == [5, 5]


def test_an_unmapped_argument_gets_the_sum_over_examples():
    f = custom_vjp(lambda w, x: w * x)
    f.defvjp(lambda w, x: (w * x, (w, x)), lambda res, ct: (ct * 1.0, ct * res[0]))
    xs = fnp.arange(3.0)
    for g in (f, fgrad.jit(f)):
        total = lambda w, g=g: fgrad.vmap(g, in_axes=(None, 0))(w, xs).sum()  # noqa: E731
        assert float(fgrad.grad(total)(2.0)) == 3
        assert float(fgrad.jit(fgrad.grad(total))(2.0)) == 3
        last = lambda w, g=g: fgrad.vmap(g, in_axes=(0, None), out_axes=0)(fnp.ones(4), w).sum()  # noqa: E731
        assert float(fgrad.grad(last)(2.0)) == 4


def test_nested_vmaps_over_other_axes():
    f = custom_vjp(lambda x, y: x @ y)
    f.defvjp(lambda x, y: (x @ y, (x, y)), lambda res, ct: (2 * ct * res[1], 3 * ct * res[0]))
    rng = np.random.default_rng(0)
    x = fnp.asarray(rng.standard_normal((5, 3, 4)))  # [b, a, c], mapped over c, then b
    y = fnp.asarray(rng.standard_normal((3, 4)))
    over = fgrad.vmap(fgrad.vmap(f, in_axes=(0, None)), in_axes=(2, 1))
    total = lambda x, y: over(x, y).sum()  # noqa: E731
    got = fgrad.grad(total, (0, 1))(x, y)
    want = fgrad.grad(lambda x, y: fnp.einsum("bac,ac->bc", x, y).sum(), (0, 1))(x, y)
    np.testing.assert_allclose(got[0], 2 * want[0])
    np.testing.assert_allclose(got[1], 3 * want[1])


def test_nondifferentiated_functions_and_traced_arrays():
    f = custom_vjp(lambda g, n, x: g(x) * n, nondiff_argnums=(0, 1))
    f.defvjp(lambda g, n, x: (g(x) * n, None), lambda g, n, res, ct: (7 * n * ct,))
    g = lambda n, x: f(fnp.sin, n, x)  # noqa: E731
    assert float(fgrad.grad(g, 1)(2.0, 0.0)) == 14
    assert float(fgrad.grad(fgrad.jit(g), 1)(2.0, 0.0)) == 14
    assert fgrad.vmap(fgrad.grad(g, 1))(fnp.arange(2.0), fnp.ones(2)).tolist() == [0, 7]
    assert fgrad.grad(lambda x: fgrad.vmap(g)(fnp.arange(2.0), x).sum())(fnp.ones(2)).tolist() == [0, 7]


def test_mapped_values_in_a_closure():
    def f(y, x):
        g = custom_vjp(lambda x: x * y)
        g.defvjp(lambda x: (x * y, None), lambda res, ct: (9 * ct * y,))
        return g(x)

    ys, xs = fnp.arange(3.0), fnp.arange(3.0) + 1
    assert fgrad.vmap(f)(ys, xs).tolist() == [0, 2, 6]
    assert fgrad.vmap(lambda y: f(y, 2.0))(ys).tolist() == [0, 2, 4]
    assert fgrad.vmap(fgrad.grad(f, 1))(ys, xs).tolist() == [0, 9, 18]
    assert fgrad.jit(fgrad.vmap(fgrad.grad(f, 1)))(ys, xs).tolist() == [0, 9, 18]
    assert fgrad.vmap(lambda y: fgrad.grad(f, 1)(y, 2.0))(ys).tolist() == [0, 9, 18]
    assert fgrad.grad(lambda x: fgrad.vmap(lambda y: f(y, x))(ys).sum())(2.0).tolist() == 27


def test_a_function_that_needs_values():
    f = custom_vjp(lambda x: x * 2.0 if x > 0 else x)
    f.defvjp(lambda x: (f(x), None), lambda res, ct: (ct * 5,))
    assert fgrad.grad(f)(1.0).tolist() == 5


def test_collectives_inside():
    f = custom_vjp(lambda x: x / psum(x, "i"))
    f.defvjp(lambda x: (f(x), psum(x, "i")), lambda total, ct: (ct * total,))
    xs = fnp.asarray([1.0, 3.0])
    assert fgrad.vmap(f, axis_name="i")(xs).tolist() == [0.25, 0.75]
    assert fgrad.vmap(fgrad.grad(f), axis_name="i")(xs).tolist() == [4, 4]
    assert fgrad.grad(lambda x: fgrad.vmap(f, axis_name="i")(x).sum())(xs).tolist() == [4, 4]


def test_in_the_body_of_a_scan():
    f = square()
    run = lambda x: scan(lambda c, _: (f(c), None), x, None, length=2)[0]  # noqa: E731
    want = 10 * 9.0 * 10 * 3.0
    for g in (run, fgrad.jit(run)):
        assert float(fgrad.grad(g)(3.0)) == want
        assert fgrad.vmap(fgrad.grad(g))(fnp.full((2,), 3.0)).tolist() == [want] * 2
    assert float(fgrad.jit(fgrad.grad(run))(3.0)) == want


def test_a_tape_keeps_residuals_only():
    """What bwd does not need is not kept alive for it."""
    operands = []
    f = custom_vjp(lambda x: x * 2.0)

    def fwd(x):
        operands.append(weakref.ref(x._value))
        return x * 2.0, None

    f.defvjp(fwd, lambda res, ct: (ct,))
    _, pull = fgrad.vjp(lambda x: f(x + 1), fnp.ones(1000))
    assert operands[0]() is None
    assert pull(fnp.ones(1000))[0].shape == (1000,)


# --- errors ----------------------------------------------------------------------------------------------------------
def with_rules(fwd=lambda x: (x * 2.0, None), bwd=lambda res, ct: (ct,), fun=lambda x: x * 2.0, **kwargs):
    f = custom_vjp(fun, **kwargs)
    f.defvjp(fwd, bwd)
    return f


def weight(x):
    return x["w"]


def a_bwd(result):
    def bwd(res, ct):
        return result(ct)

    return bwd


def a_fwd(result):
    def fwd(x):
        return result(x)

    return fwd


def closes_over(y):
    return with_rules(lambda x: (x * y, None), lambda res, ct: (ct * y,), lambda x: x * y)


FORWARD = (
    "custom_vjp: forward mode (jvp, jacfwd, the map made by linearize) needs a rule for tangents, got <lambda>, which "
    "has fwd and bwd only. Use reverse mode (grad, vjp, jacrev), or custom_jvp, which serves both."
)


@cases(
    (
        "no rules",
        MissingRuleError,
        "custom_vjp: rules must be defined before the function is called, got none for <lambda>. Use defvjp(fwd, bwd).",
        lambda: custom_vjp(lambda x: x)(1.0),
    ),
    (
        "nondiff_argnums no int",
        TypeError,
        "custom_vjp: nondiff_argnums must be ints, got 'x' for <lambda>. Count the arguments from 0.",
        lambda: custom_vjp(lambda x: x, nondiff_argnums=("x",)),
    ),
    (
        "nondiff_argnums out of range",
        ValueError,
        "custom_vjp: nondiff_argnums must name positional parameters of the function, got 1 for <lambda>, which takes "
        "1. Use indices in [-1, 1).",
        lambda: custom_vjp(lambda x: x, nondiff_argnums=(1,)),
    ),
    (
        "a nondifferentiated argument that is differentiated",
        TypeError,
        "custom_vjp: an argument named in nondiff_argnums cannot be differentiated, got one of <lambda> that depends "
        "on a differentiated value. Leave it out of nondiff_argnums, or apply lax.stop_gradient to it.",
        lambda: fgrad.grad(with_rules(fun=lambda n, x: n * x, nondiff_argnums=(0,)))(1.0, 2.0),
    ),
    (
        "fwd takes other arguments",
        TypeError,
        "custom_vjp: <lambda> must take the arguments of <lambda>, got <lambda>(x, y), called with 1 (missing a "
        "required argument: 'y'). Change its parameters.",
        lambda: fgrad.grad(with_rules(lambda x, y: (x, None)))(1.0),
    ),
    (
        "bwd takes other arguments",
        TypeError,
        "custom_vjp: <lambda> must take (residuals, cotangent), got <lambda>(ct), called with 2 (too many positional "
        "arguments). Change its parameters.",
        lambda: fgrad.jit(fgrad.grad(with_rules(bwd=lambda ct: (ct,))))(1.0),
    ),
    (
        "bwd does not take what is not differentiated",
        TypeError,
        "custom_vjp: bwd must take (n, residuals, cotangent), got bwd(res, ct), called with 3 (too many positional "
        "arguments). Change its parameters.",
        lambda: fgrad.grad(
            with_rules(lambda n, x: (n * x, None), a_bwd(lambda ct: (ct,)), lambda n, x: n * x, nondiff_argnums=0), 1
        )(2, 1.0),
    ),
    (
        "nondiff_argnames unknown",
        ValueError,
        "custom_vjp: nondiff_argnames must name positional parameters of the function, got 'y' for <lambda>, which has "
        "x. Correct the name.",
        lambda: custom_vjp(lambda x: x, nondiff_argnames="y"),
    ),
    (
        "bwd returns nothing",
        TypeError,
        "custom_vjp: bwd must return a tuple with a cotangent for each of the 1 differentiated arguments of <lambda>, "
        "got NoneType. Return a tuple, even of one.",
        lambda: fgrad.grad(with_rules(bwd=a_bwd(lambda ct: None)))(1.0),
    ),
    (
        "bwd returns another shape under vmap",
        ValueError,
        "custom_vjp: bwd must return cotangents of the shapes and dtypes of the arguments, got f32[2] for argument 'x' "
        "of <lambda>, f32[]. Reshape or convert the cotangent.",
        lambda: fgrad.vmap(fgrad.grad(with_rules(bwd=a_bwd(lambda ct: (fnp.ones(2),)))))(fnp.ones(3)),
    ),
    (
        "fwd returns nothing",
        TypeError,
        "custom_vjp: fwd must return a pair (output, residuals), got NoneType. Return two values.",
        lambda: fgrad.grad(with_rules(a_fwd(lambda x: None)))(1.0),
    ),
    (
        "fwd returns no pair",
        TypeError,
        "custom_vjp: fwd must return a pair (output, residuals), got f32[]~. Return two values.",
        lambda: fgrad.grad(with_rules(a_fwd(lambda x: x)))(1.0),
    ),
    (
        "fwd's output has another structure",
        TreeMismatchError,
        "custom_vjp: fwd must return an output with the structure of <lambda>'s, got (*, *) for *. Return the same "
        "containers.",
        lambda: fgrad.grad(fgrad.jit(with_rules(a_fwd(lambda x: ((x, x), None)))))(1.0),
    ),
    (
        "fwd's output has another dtype",
        ValueError,
        "custom_vjp: fwd must return an output with the shapes and dtypes of <lambda>'s, got f32[] for f64[] in leaf "
        "0. Compute the same output.",
        lambda: fgrad.grad(fgrad.jit(with_rules(a_fwd(lambda x: (x.astype("float32"), None)))))(X),
    ),
    (
        "bwd returns an array",
        TypeError,
        "custom_vjp: bwd must return a tuple with a cotangent for each of the 1 differentiated arguments of <lambda>, "
        "got f32[]. Return a tuple, even of one.",
        lambda: fgrad.grad(with_rules(bwd=a_bwd(lambda ct: ct)))(1.0),
    ),
    (
        "bwd returns the wrong number",
        TypeError,
        "custom_vjp: bwd must return a tuple with a cotangent for each of the 1 differentiated arguments of <lambda>, "
        "got 2. Return None for an argument without one.",
        lambda: fgrad.grad(with_rules(bwd=a_bwd(lambda ct: (ct, ct))))(1.0),
    ),
    (
        "bwd returns another structure",
        TreeMismatchError,
        "custom_vjp: bwd must return cotangents with the structure of <lambda>'s differentiated arguments, got "
        "({'w': *},) for (*,). Return the same containers, with None for zeros.",
        lambda: fgrad.grad(with_rules(bwd=a_bwd(lambda ct: ({"w": ct},))))(1.0),
    ),
    (
        "bwd returns an array for a dict of one",
        TreeMismatchError,
        "custom_vjp: bwd must return cotangents with the structure of weight's differentiated arguments, got (*,) "
        "for ({'w': *},). Return the same containers, with None for zeros.",
        lambda: fgrad.grad(with_rules(lambda x: (x["w"], None), a_bwd(lambda ct: (ct,)), weight))({"w": 1.0}),
    ),
    (
        "fwd returns another structure, eagerly",
        TreeMismatchError,
        "custom_vjp: fwd must return an output with the structure of <lambda>'s, got (*, *) for *. Return the same "
        "containers.",
        lambda: fgrad.vjp(with_rules(a_fwd(lambda x: ((x, x), None))), 1.0),
    ),
    (
        "fwd returns another shape, eagerly",
        ValueError,
        "custom_vjp: fwd must return an output with the shapes and dtypes of <lambda>'s, got f32[2] for f32[]~ in leaf "
        "0. Compute the same output.",
        lambda: fgrad.vjp(with_rules(a_fwd(lambda x: (fnp.ones(2), None))), 1.0),
    ),
    (
        "bwd returns another shape",
        ValueError,
        "custom_vjp: bwd must return cotangents of the shapes and dtypes of the arguments, got f32[2] for argument "
        "'x'['w'] of weight, f32[]~. Reshape or convert the cotangent.",
        lambda: fgrad.grad(with_rules(lambda x: (x["w"], None), a_bwd(lambda ct: ({"w": fnp.ones(2)},)), weight))(
            {"w": 1.0}
        ),
    ),
    (
        "bwd returns another dtype under jit",
        ValueError,
        "custom_vjp: bwd must return cotangents of the shapes and dtypes of the arguments, got f32[] for argument 'x' "
        "of <lambda>, f64[]. Reshape or convert the cotangent.",
        lambda: fgrad.jit(fgrad.grad(with_rules(bwd=a_bwd(lambda ct: (ct.astype("float32"),)))))(X),
    ),
    (
        "bwd returns no array",
        TypeError,
        "custom_vjp: bwd must return arrays or None, got 'a' of type str for argument 'x' of <lambda>. Return arrays.",
        lambda: fgrad.grad(with_rules(bwd=a_bwd(lambda ct: ("a",))))(1.0),
    ),
    ("jvp", ForwardModeError, FORWARD, lambda: fgrad.jvp(with_rules(), (1.0,), (1.0,))),
    ("jvp of jit", ForwardModeError, FORWARD, lambda: fgrad.jvp(fgrad.jit(with_rules()), (1.0,), (1.0,))),
    (
        "jit of jvp",
        ForwardModeError,
        FORWARD,
        lambda: fgrad.jit(lambda x: fgrad.jvp(with_rules(), (x,), (x,))[1])(1.0),
    ),
    ("linearize", ForwardModeError, FORWARD, lambda: fgrad.linearize(with_rules(), 1.0)[1](1.0)),
    (
        "grad of jvp",
        ForwardModeError,
        FORWARD,
        lambda: fgrad.grad(lambda x: fgrad.jvp(with_rules(lambda x: (x * 2.0, x)), (x,), (1.0,))[1])(1.0),
    ),
    (
        "a differentiated value in the closure",
        ClosedOverTracerError,
        "custom_vjp: <lambda> and its rules must not close over a value that a transformation around the call traces, "
        "got argument 'y' of <lambda>, f32[]~ at HERE. Pass the value as an argument (closure_convert finds such "
        "values).",
        lambda: fgrad.grad(lambda y: closes_over(y)(y))(1.0),
    ),
    (
        "a differentiated value in the closure of a traced function",
        ClosedOverTracerError,
        "custom_vjp: <lambda> cannot be differentiated with respect to a value it closes over, got a tangent of type "
        "f32[]~ for one. Pass the value as an argument (closure_convert finds such values).",
        lambda: fgrad.grad(fgrad.jit(lambda y: closes_over(y)(1.0)))(1.0),
    ),
)
def test_messages(error, text, f):
    check(error, text, f)
