"""check_tracer_leaks: which tracer was left behind, where it was made and who holds it."""

import numpy as np
import pytest
from error_checks import check

import fgrad
import fgrad.numpy as fnp
from fgrad import debug, lax
from fgrad.errors import LeakedTracerError

X = np.arange(1.0, 4.0, dtype=np.float32)
KEPT = []


class Model:
    def __init__(self):
        self.state = None


class Slotted:
    __slots__ = ("state",)


MODEL, SLOTTED = Model(), Slotted()


@pytest.fixture(autouse=True)
def forget():
    yield
    KEPT.clear()
    MODEL.state = SLOTTED.state = None


def in_a_global(x):
    KEPT.append(x)
    KEPT.append({"a": (fnp.sin(x),)})
    return x


def in_an_attribute(x):
    MODEL.state = fnp.sin(x)
    return x


def in_a_slot(x):
    SLOTTED.state = [fnp.sin(x)]
    return x


def in_a_closure():
    kept = []

    def f(x):
        kept.append(fnp.sin(x))
        return x

    return f


def in_a_generator():
    def f(x):
        def values():
            y = fnp.sin(x)
            yield 1
            yield y

        generator = values()
        next(generator)
        MODEL.state = generator
        return x

    return f


LEAKS = {
    "a global": (in_a_global, "argument 'x' of in_a_global ({aval}) in KEPT[0], a global of {module}; a value computed "
                 "from {kind}argument 'x' of in_a_global ({aval} made at HERE) in KEPT[1]['a'][0], a global of "
                 "{module}"),
    "an attribute": (in_an_attribute, "a value computed from {kind}argument 'x' of in_an_attribute ({aval} made at "
                     "HERE) in attribute state of a Model object"),
    "a slot": (in_a_slot, "a value computed from {kind}argument 'x' of in_a_slot ({aval} made at HERE) in attribute "
               "state[0] of a Slotted object"),
    "a closure": (in_a_closure, "a value computed from {kind}argument 'x' of f ({aval} made at HERE) in kept[0], a "
                  "variable around in_a_closure.<locals>.f"),
}  # fmt: skip
TRANSFORMS = {
    "jit": (fgrad.jit, np.float32(1), "f32[]", ""),
    "make_jaxpr": (fgrad.make_jaxpr, np.float32(1), "f32[]", ""),
    "grad": (fgrad.grad, np.float32(1), "f32[]", ""),
    "vmap": (fgrad.vmap, X, "f32[]", "mapped "),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("where", LEAKS)
def test_messages(where, transform):
    (f, found), (wrap, x, aval, kind) = LEAKS[where], TRANSFORMS[transform]
    f = in_a_closure() if f is in_a_closure else f
    text = (
        f"check_tracer_leaks: {transform} of {f.__name__} must leave none of its values behind, got "
        f"{found.format(aval=aval, kind=kind, module=__name__)}. Return the values from the function instead of "
        "storing them."
    )

    def run():
        with debug.check_tracer_leaks():
            wrap(f)(x)

    check(LeakedTracerError, text, run)


def test_a_suspended_generator():
    with pytest.raises(LeakedTracerError) as caught, debug.check_tracer_leaks():
        fgrad.grad(in_a_generator())(1.0)
    assert "in the suspended generator in_a_generator.<locals>.f.<locals>.values" in str(caught.value)


def test_many_leaks_are_counted():
    def f(x):
        KEPT.extend([x + i for i in range(5)])
        return x

    with pytest.raises(LeakedTracerError) as caught, debug.check_tracer_leaks():
        fgrad.jit(f)(1.0)
    assert str(caught.value).count("made at") == 3 and " and 2 more. Return" in str(caught.value)


def test_an_inner_function_that_leaks_into_an_outer():
    def outer(x):
        kept = []
        fgrad.grad(lambda y: (kept.append(y), x * y)[1])(x)
        return x

    with pytest.raises(LeakedTracerError, match=r"in kept\[0\], a variable around .*<lambda>"), (
        debug.check_tracer_leaks()
    ):  # fmt: skip
        fgrad.jit(outer)(1.0)


def harmless(x):
    around = [x]
    around.append(around)  # a cycle: garbage, not a leak

    def recursive(n):
        return x if n == 0 else recursive(n - 1) + fnp.sin(x)

    return recursive(2) * around[0] + lax.fori_loop(0, 2, lambda i, c: c * x, 1.0)


COMPOSITIONS = {
    "jit": fgrad.jit,
    "grad": fgrad.grad,
    "grad of jit": lambda f: fgrad.grad(fgrad.jit(f)),
    "jit of grad of jit": lambda f: fgrad.jit(fgrad.grad(fgrad.jit(f))),
    "vjp": lambda f: lambda x: fgrad.vjp(f, x)[1](x),
    "linearize": lambda f: lambda x: fgrad.linearize(f, x)[1](x),
    "second derivative": lambda f: fgrad.grad(fgrad.grad(f)),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_what_is_no_leak(name):
    f = COMPOSITIONS[name](harmless)
    with debug.check_tracer_leaks():
        got = f(np.float32(0.5))
        batched = fgrad.vmap(f)(X)
    np.testing.assert_allclose(np.ravel(got)[0], np.ravel(f(np.float32(0.5)))[0], rtol=1e-5)
    assert np.ravel(batched).size == 3


def test_nothing_is_checked_outside():
    with debug.check_tracer_leaks():
        pass
    fgrad.jit(in_a_global)(1.0)
    with pytest.raises(TypeError, match="check_tracer_leaks: must be outside every transformation"):
        fgrad.jit(lambda x: debug.check_tracer_leaks().__enter__())(1.0)


def test_functions_traced_before_are_traced_again():
    jitted = fgrad.jit(in_a_global)
    jitted(1.0)
    KEPT.clear()
    with pytest.raises(LeakedTracerError, match="jit of in_a_global"), debug.checking_leaks():
        jitted(1.0)


def test_a_block_inside_may_switch_it_off():
    with debug.check_tracer_leaks():
        with debug.check_tracer_leaks(False):
            fgrad.jit(in_a_global)(1.0)
        with pytest.raises(LeakedTracerError):
            fgrad.grad(in_a_global)(1.0)


BODIES = {
    "scan": lambda x: lax.scan(lambda c, t: (in_a_global(c) * t, c), x, X)[0],
    "while_loop": lambda x: lax.while_loop(lambda c: c < 3, lambda c: in_a_global(c) + 1, x),
    "cond": lambda x: lax.cond(x > 0, in_a_global, fnp.sin, x),
    "checkpoint": lambda x: fgrad.checkpoint(in_a_global)(x),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("transform", [lambda f: f, fgrad.jit, fgrad.vmap])
def test_bodies_of_loops_and_branches(name, transform):
    f = transform(BODIES[name])
    x = X if transform is fgrad.vmap else np.float32(1)
    with pytest.raises(LeakedTracerError, match=f"leaks: {name} of ") as caught, debug.check_tracer_leaks():
        f(x)
    assert "test_leaks.py" in str(caught.value) and "KEPT[0], a global of" in str(caught.value)


def test_an_error_in_the_function_passes():
    def f(x):
        KEPT.append(x)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), debug.check_tracer_leaks():
        fgrad.jit(f)(1.0)


def test_with_the_nan_checker():
    with debug.check_tracer_leaks(), debug.debug_nans(), pytest.raises(LeakedTracerError, match="made at"):
        fgrad.grad(in_an_attribute)(1.0)
    with debug.debug_nans(), debug.check_tracer_leaks(), pytest.raises(fgrad.errors.NonFiniteError):
        fgrad.jit(fnp.log)(-1.0)
