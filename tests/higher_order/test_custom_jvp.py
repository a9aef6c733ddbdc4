"""custom_jvp: the rule takes the place of differentiation, everywhere, and says so when it cannot."""

import functools

import numpy as np
import pytest
from custom_programs import FORWARD, JVP_PROGRAMS, OURS, POINTS, REVERSE, of_jax
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad.errors import ClosedOverTracerError, MissingRuleError, TreeMismatchError
from fgrad.higher_order.closure_convert import closure_convert
from fgrad.higher_order.custom_jvp import custom_jvp
from fgrad.lax import psum

X = fnp.asarray(np.float64(0.5))


@pytest.mark.oracle
@pytest.mark.parametrize("composition", {**REVERSE, **FORWARD})
@pytest.mark.parametrize("program", JVP_PROGRAMS)
def test_equals_jax(jax, program, composition):
    call = {**REVERSE, **FORWARD}[composition]
    want = call(jax, JVP_PROGRAMS[program](of_jax(jax)))
    np.testing.assert_allclose(call(OURS.m, JVP_PROGRAMS[program](OURS)), want, rtol=1e-10, atol=1e-12)


def square():
    """x², with a derivative of 10 x to be told from that of the function."""
    f = custom_jvp(lambda x: x * x)
    f.defjvp(lambda primals, tangents: (f(*primals), 10 * primals[0] * tangents[0]))
    return f


@pytest.mark.parametrize("composition", {**REVERSE, **FORWARD})
def test_the_rule_is_used_in_every_composition(composition):
    """Of x², whose rules give 10 x, then 10 (of a product with x), then 0."""
    got = np.asarray({**REVERSE, **FORWARD}[composition](OURS.m, square()))
    words = composition.replace("checkpoint", "grad").split()
    order = sum(words.count(w) for w in ("grad", "vjp", "jvp", "linearize"))
    x = POINTS if "vmap" in words else POINTS[1] if "vjp" in words else POINTS[0]
    scale = {"vjp": 2.0, "jvp": 2.0, "jvp jit": 2.0, "jit jvp": x, "vmap jvp": x, "jvp vmap": x, "linearize": 2.0}
    scale["jvp grad"] = 2.0
    if composition in ("checkpoint", "jit grad checkpoint"):
        order = 1
    want = {0: x * x, 1: 10 * x, 2: 10 + 0 * x}[order] * scale.get(composition, 1.0)
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_python_control_flow_and_values_in_function_and_rule():
    seen = []

    @custom_jvp
    def f(x):
        return x * 2 if x > 0 else x * 3

    @f.defjvp
    def f_jvp(primals, tangents):
        (x,), (t,) = primals, tangents
        seen.append(float(x))
        return f(x), (20 if x > 0 else 30) * t

    assert float(fgrad.grad(f)(1.5)) == 20 and float(fgrad.grad(f)(-1.5)) == 30
    assert float(fgrad.jvp(f, (1.0,), (2.0,))[1]) == 40
    assert float(fgrad.grad(lambda x: x * f(2.0))(1.0)) == 4
    assert seen == [1.5, -1.5, 1.0]


def test_a_zero_tangent_leaves_the_rule_to_derivatives_further_out():
    f = square()
    inner = lambda y: fgrad.grad(fgrad.jit(lambda x: x * f(y)))(1.0)  # noqa: E731
    assert float(fgrad.grad(inner)(3.0)) == 30
    assert float(fgrad.grad(fgrad.jit(inner))(3.0)) == 30


def test_jaxpr_holds_the_function():
    text = str(fgrad.make_jaxpr(square())(1.0))
    assert "custom_jvp[" in text and "mul" in text and "fun={ lambda" in text


def test_integer_arguments_have_float0_tangents():
    @custom_jvp
    def f(x, n):
        return x * n, n

    @f.defjvp
    def f_jvp(primals, tangents):
        assert tangents[1].dtype == fgrad.float0 and tangents[1].shape == ()
        x, n = primals
        return f(x, n), (5 * tangents[0] * n, tangents[1])

    assert float(fgrad.grad(lambda x: f(x, 3)[0])(2.0)) == 15
    assert float(fgrad.grad(fgrad.jit(lambda x: f(x, 3)[0]))(2.0)) == 15
    assert fgrad.vmap(fgrad.grad(lambda x, n: f(x, n)[0]))(fnp.ones(2), fnp.arange(2)).tolist() == [0, 5]


def test_weak_types_pass_through():
    f = square()
    half = fnp.ones(2, "float16")
    assert (half * f(2.0)).dtype == half.dtype
    assert fgrad.grad(lambda x: (x * f(2.0)).sum())(half).dtype == half.dtype


def test_a_type_error_inside_a_rule_is_the_users():
    with pytest.raises(TypeError, match=r"^can only concatenate tuple"):
        fgrad.grad(with_rule(lambda primals, tangents: primals + 1))(1.0)


def test_keywords_defaults_and_methods():
    class Model:
        def __init__(self, scale):
            self.scale = scale

        def call(self, x, *, power):
            return self.scale * x**power

    model = Model(3.0)
    with pytest.raises(TypeError, match="keyword-only power"):
        custom(model.call)(1.0, power=2)
    assert float(fgrad.grad(custom(lambda x, *, power=2: x**power))(3.0)) == 1  # the default is the function's own
    assert float(fgrad.grad(custom(functools.partial(model.call, power=2)))(3.0)) == 1

    class Layer:
        scale = 3.0

        def call(self, x, power=2):
            return self.scale * x**power

        call = custom_jvp(call, nondiff_argnums=0, nondiff_argnames="power")

        @call.defjvp
        def call_jvp(self, power, primals, tangents):
            return self.scale * primals[0] ** power, 100.0 * power * tangents[0]

    layer = Layer()
    assert float(fgrad.grad(layer.call)(1.0)) == 200
    assert float(fgrad.grad(lambda x: layer.call(x, power=3))(1.0)) == 300
    assert float(fgrad.grad(lambda x: layer.call(power=3, x=x))(1.0)) == 300


def custom(fun):
    f = custom_jvp(fun)
    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0]))
    return f


def test_nondifferentiated_arrays_are_constants():
    """Traced by jit, vmap or grad, their derivative is zero."""
    f = custom_jvp(lambda n, x: n * x, nondiff_argnums=(0,))
    f.defjvp(lambda n, primals, tangents: (n * primals[0], 7 * n * tangents[0]))
    assert float(fgrad.grad(f, 1)(2.0, 3.0)) == 14
    assert float(fgrad.jit(fgrad.grad(f, 1))(2.0, 3.0)) == 14
    assert float(fgrad.grad(fgrad.jit(f), 1)(2.0, 3.0)) == 14
    assert float(fgrad.grad(f)(2.0, 3.0)) == 0
    assert fgrad.vmap(fgrad.grad(f, 1))(fnp.arange(2.0), fnp.ones(2)).tolist() == [0, 7]


def test_mapped_values_in_a_closure():
    def f(y, x):
        g = custom_jvp(lambda x: x * y)
        g.defjvp(lambda primals, tangents: (primals[0] * y, 9 * tangents[0] * y))
        return g(x)

    ys, xs = fnp.arange(3.0), fnp.arange(3.0) + 1
    assert fgrad.vmap(f)(ys, xs).tolist() == [0, 2, 6]
    assert fgrad.vmap(lambda y: f(y, 2.0))(ys).tolist() == [0, 2, 4]
    assert fgrad.vmap(fgrad.grad(f, 1))(ys, xs).tolist() == [0, 9, 18]
    assert fgrad.jit(fgrad.vmap(fgrad.grad(f, 1)))(ys, xs).tolist() == [0, 9, 18]
    assert fgrad.vmap(lambda y: fgrad.grad(f, 1)(y, 2.0))(ys).tolist() == [0, 9, 18]
    assert fgrad.vmap(lambda y: fgrad.grad(fgrad.jit(lambda x: f(2.0, x)))(y))(ys).tolist() == [18] * 3


def test_collectives_inside():
    f = custom_jvp(lambda x: x / psum(x, "i"))
    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0] * psum(primals[0], "i")))
    xs = fnp.asarray([1.0, 3.0])
    assert fgrad.vmap(f, axis_name="i")(xs).tolist() == [0.25, 0.75]
    assert fgrad.vmap(fgrad.grad(f), axis_name="i")(xs).tolist() == [4, 4]
    assert fgrad.vmap(fgrad.jit(f), axis_name="i")(xs).tolist() == [0.25, 0.75]


def test_closure_convert_makes_closed_over_values_arguments():
    def f(x, y):
        g, values = closure_convert(lambda t: {"out": t * y}, x)
        assert len(values) == 1
        return g(x, *values)["out"]

    assert float(fgrad.grad(f, 1)(2.0, 3.0)) == 2
    assert float(fgrad.jit(fgrad.grad(f, 1))(2.0, 3.0)) == 2
    constant = fnp.ones(3)
    g, values = closure_convert(lambda t: t * constant, 1.0)
    assert values == [] and g(2.0).tolist() == [2, 2, 2]


# --- errors ----------------------------------------------------------------------------------------------------------
def with_rule(rule, fun=lambda x: x * 2.0):
    f = custom_jvp(fun)
    f.defjvp(rule)
    return f


def named_rule(result):
    def rule(primals, tangents):
        return result(*primals, *tangents)

    return rule


def closes_over(y):
    return with_rule(lambda primals, tangents: (primals[0] * y, tangents[0] * y), lambda x: x * y)


@cases(
    (
        "no rule",
        MissingRuleError,
        "custom_jvp: a rule must be defined before the function is called, got none for <lambda>. Use defjvp or "
        "defjvps.",
        lambda: custom_jvp(lambda x: x)(1.0),
    ),
    (
        "no function",
        TypeError,
        "custom_jvp: needs a function, got 3 of type int. Pass a callable.",
        lambda: custom_jvp(3),
    ),
    (
        "nondiff_argnums out of range",
        ValueError,
        "custom_jvp: nondiff_argnums must name positional parameters of the function, got 2 for <lambda>, which takes "
        "1. Use indices in [-1, 1).",
        lambda: custom_jvp(lambda x: x, nondiff_argnums=(2,)),
    ),
    (
        "nondiff_argnames unknown",
        ValueError,
        "custom_jvp: nondiff_argnames must name positional parameters of the function, got 'y' for <lambda>, which has "
        "x. Correct the name.",
        lambda: custom_jvp(lambda x: x, nondiff_argnames=("y",)),
    ),
    (
        "defjvps with nondiff_argnums",
        TypeError,
        "custom_jvp: defjvps cannot be used with nondiff_argnums, got (0,) for <lambda>. Use defjvp.",
        lambda: custom_jvp(lambda x: x, nondiff_argnums=(0,)).defjvps(None),
    ),
    (
        "arguments that do not fit",
        TypeError,
        "custom_jvp: arguments must fit the signature <lambda>(x), got 2 positional and 0 by keyword (too many "
        "positional arguments). Change the call.",
        lambda: square()(1.0, 2.0),
    ),
    (
        "an argument that is no array",
        TypeError,
        "custom_jvp: arguments must be arrays, scalars or pytrees of them, got 'a' of type str in argument 'x' of "
        "<lambda>. Name it in nondiff_argnums.",
        lambda: square()("a"),
    ),
    (
        "nondiff_argnums no int",
        TypeError,
        "custom_jvp: nondiff_argnums must be ints, got 'x' for <lambda>. Count the arguments from 0.",
        lambda: custom_jvp(lambda x: x, nondiff_argnums="x"),
    ),
    (
        "a rule that takes other arguments",
        TypeError,
        "custom_jvp: <lambda> must take (primals, tangents), got <lambda>(x, t, y), called with 2 (missing a required "
        "argument: 'y'). Change its parameters.",
        lambda: fgrad.grad(with_rule(lambda x, t, y: (x, t)))(1.0),
    ),
    (
        "a rule that does not take what is not differentiated",
        TypeError,
        "custom_jvp: rule must take (n, primals, tangents), got rule(primals, tangents), called with 3 (too many "
        "positional arguments). Change its parameters.",
        lambda: fgrad.grad(nondifferentiated(named_rule(lambda x, t: (x, t))), 1)(2, 1.0),
    ),
    (
        "a rule of defjvps that takes other arguments",
        TypeError,
        "custom_jvp: <lambda> must take (tangent, output, x, y), got <lambda>(t, x, y), called with 4 (too many "
        "positional arguments). Change its parameters.",
        lambda: fgrad.grad(with_rules(lambda t, x, y: t, None))(1.0, 2.0),
    ),
    (
        "a rule of defjvps that returns another structure",
        TreeMismatchError,
        "custom_jvp: <lambda> must return a share of the tangent with the structure of <lambda>'s output, got (*, *) "
        "for * (first difference: [0] against a leaf). Return the same containers.",
        lambda: fgrad.grad(with_rules(lambda t, out, x, y: (t, t), None))(1.0, 2.0),
    ),
    (
        "a rule of defjvps that returns another shape",
        ValueError,
        "custom_jvp: the rules of <lambda> must return tangents of the shapes and dtypes of its output, got f32[3] for "
        "f32[]~ in leaf 0. Reshape or convert the tangent.",
        lambda: fgrad.grad(with_rules(lambda t, out, x, y: fnp.ones(3), None))(1.0, 2.0),
    ),
    (
        "a tangent that is no array",
        TypeError,
        "custom_jvp: rule must return tangents that are arrays, got 'a' of type str in leaf 0. Return arrays.",
        lambda: fgrad.grad(with_rule(named_rule(lambda x, t: (x, "a"))))(1.0),
    ),
    (
        "no tangent",
        TreeMismatchError,
        "custom_jvp: rule must return a tangent with the structure of its output, got None for * (first difference: "
        "only the second tree has a leaf). Return the same containers.",
        lambda: fgrad.grad(with_rule(named_rule(lambda x, t: (x, None))))(1.0),
    ),
    (
        "no pair",
        TypeError,
        "custom_jvp: rule must return a pair (output, tangent), got f32[]~. Return two values.",
        lambda: fgrad.grad(with_rule(named_rule(lambda x, t: t)))(1.0),
    ),
    (
        "three values",
        TypeError,
        "custom_jvp: rule must return a pair (output, tangent), got 3 values. Return two values.",
        lambda: fgrad.grad(with_rule(named_rule(lambda x, t: (x, t, t))))(1.0),
    ),
    (
        "tangent of another structure",
        TreeMismatchError,
        "custom_jvp: rule must return a tangent with the structure of its output, got (*,) for * (first difference: "
        "[0] against a leaf). Return the same containers.",
        lambda: fgrad.grad(with_rule(named_rule(lambda x, t: (x, (t,)))))(1.0),
    ),
    (
        "tangent of another shape",
        ValueError,
        "custom_jvp: rule must return tangents of the shapes and dtypes of its output, got f32[3] for f32[]~ in leaf "
        "0. Reshape or convert the tangent.",
        lambda: fgrad.grad(with_rule(named_rule(lambda x, t: (x, t * fnp.ones(3)))))(1.0),
    ),
    (
        "tangent of another dtype",
        ValueError,
        "custom_jvp: rule must return tangents of the shapes and dtypes of its output, got f32[] for f64[] in leaf 0. "
        "Reshape or convert the tangent.",
        lambda: fgrad.grad(with_rule(named_rule(lambda x, t: (x, t.astype("float32")))))(X),
    ),
    (
        "output of another structure than the function's",
        TreeMismatchError,
        "custom_jvp: rule must return an output with the structure of <lambda>'s, got (*, *) for *. Return the same "
        "containers.",
        lambda: fgrad.grad(fgrad.jit(with_rule(named_rule(lambda x, t: ((x, x), (t, t))))))(1.0),
    ),
    (
        "output of another shape than the function's",
        ValueError,
        "custom_jvp: the rule must return an output with the shapes and dtypes of <lambda>'s, got f64[2] for f64[] in "
        "leaf 0. Compute the same output.",
        lambda: fgrad.grad(fgrad.jit(with_rule(named_rule(lambda x, t: (fnp.stack([x, x]), fnp.stack([t, t]))))))(X),
    ),
    (
        "too few rules",
        TypeError,
        "custom_jvp: defjvps needs one rule for each argument, got 1 for the 2 of <lambda>. Pass None for an argument "
        "that adds nothing.",
        lambda: too_few_rules()(1.0, 2.0),
    ),
    (
        "a differentiated value in the closure",
        ClosedOverTracerError,
        "custom_jvp: <lambda> and its rules must not close over a value that a transformation around the call traces, "
        "got argument 'y' of <lambda>, f32[]~ at HERE. Pass the value as an argument (closure_convert finds such "
        "values).",
        lambda: fgrad.grad(lambda y: closes_over(y)(y))(1.0),
    ),
    (
        "a differentiated value in the closure of a traced function",
        ClosedOverTracerError,
        "custom_jvp: <lambda> cannot be differentiated with respect to a value it closes over, got a tangent of type "
        "f32[]~ for one. Pass the value as an argument (closure_convert finds such values).",
        lambda: fgrad.grad(fgrad.jit(lambda y: closes_over(y)(1.0)))(1.0),
    ),
    (
        "a value of an ended trace in the closure of the rule",
        ClosedOverTracerError,
        "custom_jvp: <lambda> and its rules must not close over a value that a transformation around the call traces, "
        "got argument 'y' of <lambda>, f32[]~ at HERE. Pass the value as an argument (closure_convert finds such "
        "values).",
        lambda: fgrad.grad(fgrad.jit(lambda x, y: closes_over(y)(x)))(1.0, 2.0),
    ),
    (
        "closure_convert of another structure",
        TreeMismatchError,
        "closure_convert: arguments must have the structure of the example's, got ((*, *),) for (*,) of <lambda>. "
        "Convert it anew for these.",
        lambda: closure_convert(lambda t: t, 1.0)[0]((1.0, 2.0)),
    ),
    (
        "closure_convert with too many values",
        TypeError,
        "closure_convert: the converted function takes 1 arguments and 0 closed-over values, got 2 of <lambda>. Pass "
        "(*args, *values).",
        lambda: closure_convert(lambda t: t, 1.0)[0](1.0, 2.0),
    ),
    (
        "closure_convert of another shape",
        TypeError,
        "closure_convert: arguments must have the shapes and dtypes of the example's, got f32[3] for f32[]~ in "
        "argument 't' of <lambda>. Convert it anew for these.",
        lambda: closure_convert(lambda t: t, 1.0)[0](fnp.ones(3)),
    ),
)
def test_messages(error, text, f):
    check(error, text, f)


def with_rules(*rules):
    f = custom_jvp(lambda x, y: x * y)
    f.defjvps(*rules)
    return f


def nondifferentiated(rule):
    f = custom_jvp(lambda n, x: n * x, nondiff_argnums=0)
    f.defjvp(rule)
    return f


def too_few_rules():
    f = custom_jvp(lambda x, y: x)
    f.defjvps(lambda t, out, x, y: t)
    return fgrad.grad(f)
