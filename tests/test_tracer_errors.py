"""Tracers asked for their values, and tracers that escaped: messages name the argument and the user's line."""

import os
import weakref

import numpy as np
import pytest
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import errors

X = np.ones(3, np.float32)


# --- values of tracers -----------------------------------------------------------------------------------------------
def branch(x, flag=1.0):
    return x if flag > 0 else -x


@cases(
    ("bool", errors.ConcretizationError,
     "bool: a value computed from argument 'flag' of branch has no value while jit of branch traces it, got bool[] at "
     "HERE. Use fgrad.numpy.where or lax.select instead of 'if', or make the argument static.",
     lambda: fgrad.jit(branch)(X, 1.0)),
    ("int", errors.ConcretizationError,
     "int: argument 'n' of <lambda> has no value while jit of <lambda> traces it, got i32[]~ at HERE. "
     "Use .astype(int), or make the argument static.",
     lambda: fgrad.jit(lambda x, n: x * int(n))(X, 3)),
    ("float", errors.ConcretizationError,
     "float: argument 'p'['w'][0] of <lambda> has no value while jit of <lambda> traces it, got f32[] at HERE. "
     "Use .astype(float), or make the argument static.",
     lambda: fgrad.jit(lambda p: float(p["w"][0]))({"w": (np.float32(1),)})),
    ("complex", errors.ConcretizationError,
     "complex: argument 'x' of <lambda> has no value while jit of <lambda> traces it, got f32[]~ at HERE. "
     "Use .astype(complex), or make the argument static.",
     lambda: fgrad.jit(lambda x: complex(x))(1.0)),
    ("index", errors.ConcretizationError,
     "index: argument 'n' of <lambda> has no value while jit of <lambda> traces it, got i32[]~ at HERE. "
     "Shapes and Python indices must be static: make the argument static.",
     lambda: fgrad.jit(lambda n: [1, 2][n])(1)),
    ("range", errors.ConcretizationError,
     "index: argument 'n' of <lambda> has no value while jit of <lambda> traces it, got i32[]~ at HERE. "
     "Shapes and Python indices must be static: make the argument static.",
     lambda: fgrad.jit(lambda n: [k for k in range(n)])(1)),
    ("shape", errors.ConcretizationError,
     "index: argument 'n' of <lambda> has no value while jit of <lambda> traces it, got i32[]~ at HERE. "
     "Shapes and Python indices must be static: make the argument static.",
     lambda: fgrad.jit(lambda n: fnp.zeros(n))(3)),
    ("item", errors.ConcretizationError,
     "item: argument 'x' of <lambda> has no value while jit of <lambda> traces it, got f32[]~ at HERE. "
     "Return the array and read it outside the transformation.",
     lambda: fgrad.jit(lambda x: x.item())(1.0)),
    ("tolist", errors.ConcretizationError,
     "tolist: argument 'xs[1]' of <lambda> has no value while make_jaxpr of <lambda> traces it, got f32[3] at HERE. "
     "Return the array and read it outside the transformation.",
     lambda: fgrad.make_jaxpr(lambda *xs: xs[1].tolist())(1.0, X)),
    ("numpy.asarray", errors.ConcretizationError,
     "numpy.asarray: NumPy cannot compute with argument 'x' of <lambda> while jit of <lambda> traces it, got f32[3] at "
     "HERE. Use fgrad.numpy functions instead of NumPy's on traced values.",
     lambda: fgrad.jit(lambda x: np.asarray(x))(X)),
    ("a NumPy function under grad", errors.ConcretizationError,
     "numpy.asarray: NumPy cannot compute with argument 'x' of <lambda> while grad of <lambda> traces it, got f32[3] "
     "at HERE. Use fgrad.numpy functions instead of NumPy's on traced values.",
     lambda: fgrad.grad(lambda x: fnp.sum(fnp.asarray(np.sin(x))))(X)),
    ("bool under vmap", errors.ConcretizationError,
     "bool: a value computed from mapped argument 'x' of <lambda> has no value while vmap of <lambda> traces it, got "
     "bool[] at HERE. Use fgrad.numpy.where or lax.select instead of 'if', or make the argument static.",
     lambda: fgrad.vmap(lambda x, n: x if x > 0 else n, in_axes=(0, None))(X, 1.0)),
    ("bool under jit of grad", errors.ConcretizationError,
     "bool: a value computed from argument 'flag' of branch has no value while jit of branch traces it, got bool[] at "
     "HERE. Use fgrad.numpy.where or lax.select instead of 'if', or make the argument static.",
     lambda: fgrad.jit(fgrad.grad(branch))(1.0, 2.0)),
    ("many arguments", errors.ConcretizationError,
     "bool: a value computed from arguments 'xs[0]' of <lambda>, 'xs[1]' of <lambda>, 'xs[2]' of <lambda>, 'xs[3]' of "
     "<lambda> and 2 more has no value while jit of <lambda> traces it, got bool[] at HERE. Use fgrad.numpy.where or "
     "lax.select instead of 'if', or make the argument static.",
     lambda: fgrad.jit(lambda *xs: bool(sum(xs) > 0))(*range(6))),
    ("assignment", TypeError,
     "setitem: an Array never changes, got an assignment to x[0] of f32[3]. Use x = x.at[index].set(value).",
     lambda: fgrad.jit(lambda x: x.__setitem__(0, 1))(X)),
    ("hash", TypeError,
     "hash: an Array is not hashable, got f32[3]: arrays compare element by element. Use a tuple of its values, "
     "id(x), or pass it as an ordinary (not static) argument.",
     lambda: fgrad.jit(lambda x: {x: 1})(X)),
)  # fmt: skip
def test_values_of_tracers(error, text, f):
    check(error, text, f)


# --- tracers that escaped --------------------------------------------------------------------------------------------
KEPT = []


def leak(x):
    KEPT[:] = [x, fnp.sin(x)]
    return fnp.sum(x)


ESCAPED = (
    "{}: {} of leak was used outside the function it was traced in, got {} at HERE{}. Return it from the function "
    "instead of storing it."
)
MADE = " (made at HERE)"
TRANSFORMS = {
    "jit": (lambda: fgrad.jit(leak)(X), "f32[3]", ""),
    "grad": (lambda: fgrad.grad(leak)(X), "f32[3]", ""),
    "vjp": (lambda: fgrad.vjp(leak, X), "f32[3]", ""),
    "jvp": (lambda: fgrad.jvp(leak, (X,), (X,)), "f32[3]", ""),
    "vmap": (lambda: fgrad.vmap(leak)(X), "f32[]", "mapped "),
    "make_jaxpr": (lambda: fgrad.make_jaxpr(leak)(X), "f32[3]", ""),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_escaped_tracers(name):
    transform, aval, mapped = TRANSFORMS[name]
    transform()
    argument, derived = "argument 'x'", f"a value computed from {mapped}argument 'x'"
    uses = {
        "neg": lambda x: -x,
        "bool": lambda x: bool(x),
        "numpy.asarray": lambda x: np.asarray(x),
        "jit": lambda x: fgrad.jit(fnp.sin)(x),
        "grad": lambda x: fgrad.grad(fnp.sum)(x),
    }
    for who, use in uses.items():
        check(errors.EscapedTracerError, ESCAPED.format(who, argument, aval, ""), lambda use=use: use(KEPT[0]))
        check(errors.EscapedTracerError, ESCAPED.format(who, derived, aval, MADE), lambda use=use: use(KEPT[1]))
    inside = {
        "jit": lambda: fgrad.jit(lambda y: -KEPT[0])(X),
        "grad": lambda: fgrad.grad(lambda y: fnp.sum(-KEPT[0] * y))(X),
        "vmap": lambda: fgrad.vmap(lambda y: -KEPT[0] * y)(X),
    }
    for again in inside.values():
        check(errors.EscapedTracerError, ESCAPED.format("neg", argument, aval, ""), again)


NESTED = {
    "hessian": fgrad.hessian(leak),
    "grad of grad": fgrad.grad(lambda x: fnp.sum(fgrad.grad(leak)(x))),
    "vmap of grad": lambda x: fgrad.vmap(fgrad.grad(leak))(fnp.stack([x, x])),
    "jit of vmap of grad": lambda x: fgrad.jit(fgrad.vmap(fgrad.grad(leak)))(fnp.stack([x, x])),
    "scan": lambda x: fgrad.lax.scan(lambda c, t: (leak(c) + x, t), x, X),
    "cond": lambda x: fgrad.lax.cond(True, leak, fnp.sum, x),
    "checkpoint": lambda x: fgrad.grad(fgrad.checkpoint(leak))(x),
}


@pytest.mark.parametrize("name", NESTED)
def test_the_line_that_made_it_under_nested_transformations(name):
    NESTED[name](X)
    number = leak.__code__.co_firstlineno + 1
    with pytest.raises(errors.EscapedTracerError) as caught:
        KEPT[1] + 1
    assert f"(made at {os.path.abspath(__file__)}:{number} (leak)). Return it" in str(caught.value)


def test_noting_the_line_keeps_no_variables_alive():
    class Big:
        pass

    def f(x):
        big = Big()
        alive.append(weakref.ref(big))
        KEPT[:] = [x * 2]
        return fnp.sum(x)

    alive = []
    fgrad.grad(f)(X)
    assert alive[0]() is None


def test_an_escaped_tracer_can_still_be_printed():
    fgrad.jit(leak)(X)
    assert repr(KEPT[0]) == "Traced<f32[3]>with<jit of leak>" == f"{KEPT[0]}"


def test_an_escaped_tracer_as_a_result():
    fgrad.jit(leak)(X)
    check(errors.EscapedTracerError, ESCAPED.format("jit of <lambda>", "argument 'x'", "f32[3]", ""),
          lambda: fgrad.jit(lambda y: KEPT[0])(X))  # fmt: skip


def test_a_location_is_the_user_s_line():
    def line_of_the_if(x):
        y = x * 2
        return y if y > 0 else -y

    with pytest.raises(errors.ConcretizationError) as caught:
        fgrad.jit(line_of_the_if)(1.0)
    number = line_of_the_if.__code__.co_firstlineno + 2
    assert f"{os.path.basename(__file__)}:{number} (line_of_the_if)" in str(caught.value)
