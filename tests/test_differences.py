"""What docs/differences.md says of JAX and of fgrad, row by row, where a few lines of a program can show it."""

import importlib
import warnings

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import errors, lax, random, testing
from fgrad.ad_checkpoint import saved_residuals

X = np.arange(1.0, 4.0, dtype=np.float32)


class Fgrad:
    """The names that a row's program uses, as JAX has them."""

    api, numpy, lax, random, testing = fgrad, fnp, lax, random, testing


class Jax:
    def __init__(self, jax):
        self.api, self.numpy, self.lax, self.random = jax, jax.numpy, jax.lax, jax.random
        self.testing = importlib.import_module("jax.test_util")


def custom(m, forward, backward, function=lambda x: x):
    f = m.api.custom_vjp(function)
    f.defvjp(forward, backward)
    return f


def mapped(m, f, x=X, **options):
    return m.api.vmap(f, axis_name="i", **options)(x)


def half_cotangent(m):
    return m.api.grad(custom(m, lambda x: (x, None), lambda _, ct: (ct.astype("float16"),)))(np.float32(1)).dtype


def nonlinear_rule(m):
    f = m.api.custom_jvp(lambda x: x)
    f.defjvp(lambda primals, tangents: (primals[0], tangents[0] * tangents[0]))
    return m.api.grad(f)(1.0)


def closing_over(m):
    return m.api.grad(lambda y: custom(m, lambda x: (x * y, None), lambda _, ct: (ct,), lambda x: x * y)(2.0))(3.0)


def raised_in_callback(m):
    def fail(x):
        raise ZeroDivisionError("mine")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = m.api.jit(lambda x: (m.api.debug.callback(fail, x), x)[1])(1.0)
        getattr(m.api, "effects_barrier", lambda: None)()
    return out


def wrong_by_little(m):
    def back(ct, x):
        return (1.0005 * ct * m.numpy.cos(x),)

    if m is Fgrad:
        m.testing.check_vjp(m.numpy.sin, (X,), vjp=back)
    else:
        m.testing.check_vjp(m.numpy.sin, lambda x: (m.numpy.sin(x), lambda ct: back(ct, x)), (X,))
    return "passed"


# (name, the program, what JAX gives, what fgrad gives): a value, or the class of the exception
ROWS = [
    ("uint64 with int64", lambda m: m.numpy.promote_types("uint64", "int64").name, "float64", "float64"),
    ("a window too large", lambda m: m.lax.reduce_window(X, 0.0, m.lax.add, (5,), (1,), "VALID").shape, (0,),
     ValueError),
    ("constant index", lambda m: float(m.numpy.arange(3.0)[5]), 2.0, IndexError),
    ("index array", lambda m: float(m.numpy.arange(3.0)[np.array([5])][0]), 2.0, 2.0),
    ("top_k", lambda m: type(m.lax.top_k(X, 2)), list, tuple),
    ("ties of a maximum", lambda m: m.api.grad(lambda x: x.max())(np.float32([1, 2, 2])).tolist(), [0.0, 0.5, 0.5],
     [0.0, 0.5, 0.5]),
    ("jacfwd of integers", lambda m: m.api.jacfwd(lambda x: x.astype("int32"))(X).dtype.name, "int32", TypeError),
    ("while_loop in reverse",
     lambda m: m.api.grad(lambda x: m.lax.while_loop(lambda v: v < 9, lambda v: 2 * v, x))(1.0), ValueError,
     errors.ReverseModeError),
    ("forward mode of custom_vjp",
     lambda m: m.api.jvp(custom(m, lambda x: (x, None), lambda _, ct: (ct,)), (1.0,), (1.0,)), TypeError,
     errors.ForwardModeError),
    ("a cotangent of another dtype", half_cotangent, "float16", ValueError),
    ("a tangent that is not linear", nonlinear_rule, AssertionError, errors.MissingBackendError),
    ("a rule that closes over a tracer", closing_over, "UnexpectedTracerError", errors.ClosedOverTracerError),
    ("allow_int", lambda m: m.api.grad(lambda x: x * 2.0, allow_int=True)(3).dtype.name, "void", TypeError),
    ("a tuple as axis name",
     lambda m: m.api.vmap(lambda x: x, axis_name=("i", "j"))(X).shape, (3,), TypeError),
    ("an unknown axis name", lambda m: m.lax.psum(1.0, "i"), NameError, errors.UnboundAxisError),
    ("an integer as axis name", lambda m: mapped(m, lambda x: m.lax.psum(x, 0), np.ones((2, 3))).tolist(), [3.0, 3.0],
     errors.UnboundAxisError),
    ("gradient of pmax", lambda m: mapped(m, m.api.grad(lambda x: m.lax.pmax(x, "i"))).tolist(), NotImplementedError,
     [0.0, 0.0, 3.0]),
    ("a permutation that leaves some out",
     lambda m: mapped(m, lambda x: m.lax.ppermute(x, "i", [(0, 1)])).tolist(), AssertionError, [0.0, 1.0, 0.0]),
    ("a destination named twice",
     lambda m: mapped(m, lambda x: m.lax.ppermute(x, "i", [(0, 1), (1, 1), (2, 0)])).shape, (3,), ValueError),
    ("gradient of all_to_all",
     lambda m: mapped(m, m.api.grad(lambda x: (m.lax.all_to_all(x, "i", 0, 1) ** 2).sum()), np.ones((2, 2, 3))).shape,
     ValueError, (2, 2, 3)),
    ("psum_scatter's size", lambda m: mapped(m, lambda x: m.lax.psum_scatter(x, "i"), np.ones((2, 3))).shape, (3,),
     ValueError),
    ("axis_index_groups",
     lambda m: mapped(m, lambda x: m.lax.psum(x, "i", axis_index_groups=[[0], [1, 2]])), NotImplementedError,
     ValueError),
    ("a keyword of vectorize",
     lambda m: m.numpy.vectorize(lambda x, power=2: x**power)(X, power=3).tolist(), [1.0, 4.0, 9.0], TypeError),
    ("spmd_axis_name", lambda m: m.api.vmap(lambda x: x, spmd_axis_name="i")(X).shape, (3,), TypeError),
    ("float bounds", lambda m: int(m.lax.fori_loop(0.0, 3.0, lambda i, v: v + 1, 0)), 3, TypeError),
    ("cond's operand", lambda m: float(m.lax.cond(True, lambda x: x, lambda x: -x, operand=2.0)), 2.0, TypeError),
    ("a typed key", lambda m: m.random.key(0).shape, (), (2,)),
    ("arithmetic on a key", lambda m: (m.random.key(0) + np.uint32(1)).shape, TypeError, (2,)),
    ("another generator", lambda m: m.random.key(0, impl="rbg").shape, (), ValueError),
    ("a long seed", lambda m: m.random.key_data(m.random.key(2**40 + 5)).tolist(), [256, 5], [256, 5]),
    ("an impossible range", lambda m: float(m.random.uniform(m.random.key(0), (), minval=1.0, maxval=0.0)), 1.0,
     ValueError),
    ("a rule that is wrong by 0.05 %", wrong_by_little, "passed", AssertionError),
    ("a kink", lambda m: m.testing.check_grads(lambda x: m.numpy.where(x > 0, x, 0.0), (np.zeros(1),), 1),
     "AssertionError", testing.NonSmoothPointError),
    ("a check without an order", lambda m: m.testing.check_grads(m.numpy.sin, (X,)), TypeError, None),
    ("gradient of an index out of range",
     lambda m: m.api.grad(lambda x: m.numpy.sum(x[m.numpy.asarray([0, 5])]))(np.arange(3.0)).tolist(), [1.0, 0.0, 0.0],
     [1.0, 0.0, 1.0]),
    ("cummax of equal elements",
     lambda m: m.api.grad(lambda x: m.numpy.sum(m.lax.cummax(x)))(np.float32([0, 1, 1, 1])).tolist(),
     [1.0, 2.0, 0.75, 0.25], [1.0, 3.0, 0.0, 0.0]),
    ("clamp with bounds in the wrong order",
     lambda m: [float(g) for g in m.api.grad(m.lax.clamp, (0, 1, 2))(5.0, 3.0, 4.0)], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]),
    ("an exception in a callback", raised_in_callback, "JaxRuntimeError", ZeroDivisionError),
]  # fmt: skip


def outcome(program, m, wanted):
    """The program's value, or that it raised what is wanted: a class, or the name of one."""
    if isinstance(wanted, type) and issubclass(wanted, Exception):
        with pytest.raises(wanted):
            program(m)
        return wanted
    if isinstance(wanted, str) and wanted.endswith("Error"):
        with pytest.raises(Exception) as caught:
            program(m)
        return type(caught.value).__name__
    return program(m)


@pytest.mark.parametrize(("program", "fgrads"), [pytest.param(p, f, id=name) for name, p, _, f in ROWS])
def test_fgrad(program, fgrads):
    assert outcome(program, Fgrad, fgrads) == fgrads


@pytest.mark.oracle
@pytest.mark.parametrize(("program", "jaxs"), [pytest.param(p, j, id=name) for name, p, j, _ in ROWS])
def test_jax(jax, program, jaxs):
    assert outcome(program, Jax(jax), jaxs) == jaxs


def test_residuals_as_a_list():
    assert len(saved_residuals(lambda x: fnp.sin(x), X)) == 1
