"""check_jaxpr accepts what tracing makes and refuses each kind of corruption."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core.array import lift
from fgrad.core.aval import ShapedArray
from fgrad.core.check import check_jaxpr
from fgrad.core.dtypes import float32, float64
from fgrad.core.jaxpr import ClosedJaxpr, Jaxpr, Literal, Var
from fgrad.errors import JaxprTypeError

CONSTANT = fnp.asarray(np.ones(3, np.float32))


def sample():
    """{ lambda a ; b. let c = sin b; d = mul c a; e = broadcast 2.0; f = add d e in (f,) }"""
    return fgrad.make_jaxpr(lambda x: lax.sin(x) * CONSTANT + 2.0)(np.zeros(3, np.float32))


def rebuilt(closed, *, constvars=None, invars=None, eqns=None, outvars=None, consts=None):
    j = closed.jaxpr
    return ClosedJaxpr(
        Jaxpr(
            j.constvars if constvars is None else constvars,
            j.invars if invars is None else invars,
            j.eqns if eqns is None else eqns,
            j.outvars if outvars is None else outvars,
        ),
        closed.consts if consts is None else consts,
    )


def refusal(closed) -> str:
    with pytest.raises(JaxprTypeError) as e:
        check_jaxpr(closed)
    return str(e.value)


def test_traced_jaxprs_are_well_typed():
    check_jaxpr(sample())
    check_jaxpr(sample().jaxpr)
    check_jaxpr(fgrad.make_jaxpr(fgrad.grad(fgrad.jit(lambda x: fnp.sum(fnp.tanh(x) ** 2))))(CONSTANT))


def test_constant_of_another_type():
    closed = rebuilt(sample(), consts=[lift(np.ones(4, np.float32))])
    assert refusal(closed) == "check_jaxpr: constant of type f32[4] is bound to a variable of type f32[3]."


def test_variable_bound_twice_by_the_inputs():
    closed = sample()
    assert refusal(rebuilt(closed, invars=closed.jaxpr.constvars)) == (
        "check_jaxpr: a variable of type f32[3] is bound twice, the second time by the inputs."
    )


def test_variable_bound_twice_by_an_equation():
    closed = sample()
    eqns = list(closed.eqns)
    eqns[1] = eqns[1]._replace(outvars=eqns[0].outvars)
    assert refusal(rebuilt(closed, eqns=eqns)) == (
        "check_jaxpr: a variable of type f32[3] is bound twice, the second time by equation 1 (mul)."
    )


def test_equations_out_of_order():
    closed = sample()
    assert refusal(rebuilt(closed, eqns=closed.eqns[::-1])) == (
        "check_jaxpr: equation 0 (add) reads a variable of type f32[3] before it is bound."
    )


def test_unbound_output():
    closed = rebuilt(sample(), outvars=[Var(ShapedArray((3,), float32))])
    assert refusal(closed) == "check_jaxpr: the list of outputs reads a variable of type f32[3] before it is bound."


@pytest.mark.parametrize("aval", [ShapedArray((4,), float32), ShapedArray((3,), float64)])
def test_result_of_another_type(aval):
    closed = sample()
    wrong = Var(aval)
    eqns = [closed.eqns[0]._replace(outvars=(wrong,))]
    assert refusal(rebuilt(closed, eqns=eqns, outvars=[wrong])) == (
        f"check_jaxpr: equation 0 (sin) gives (f32[3],), its variables have types ({aval},)."
    )


def test_operands_the_primitive_refuses():
    closed = sample()
    eqns = list(closed.eqns)
    eqns[1] = eqns[1]._replace(invars=(eqns[0].outvars[0], Literal(lift(1.0), lift(1.0).aval)))
    assert refusal(rebuilt(closed, eqns=eqns)).startswith(
        "check_jaxpr: equation 1 (mul) refuses its operands: mul: operands must have equal shapes, got (3,) and ()."
    )


def test_literal_of_another_type():
    closed = sample()
    broadcast = closed.eqns[2]
    eqns = list(closed.eqns)
    value = broadcast.invars[0].val
    eqns[2] = broadcast._replace(invars=(Literal(value, ShapedArray((), float64)),))
    assert refusal(rebuilt(closed, eqns=eqns)) == (
        f"check_jaxpr: literal {value!r} does not have its type f64[] in equation 2 (broadcast_in_dim)."
    )


def test_inner_jaxpr_is_checked():
    call = fgrad.make_jaxpr(fgrad.jit(lambda x: lax.sin(lax.cos(x))))(1.0)
    (eqn,) = call.eqns
    inner = eqn.params["jaxpr"]
    broken = rebuilt(inner, eqns=inner.eqns[::-1])
    closed = rebuilt(call, eqns=[eqn._replace(params={**eqn.params, "jaxpr": broken})])
    assert refusal(closed) == "check_jaxpr: equation 0 (sin) reads a variable of type f32[]~ before it is bound."


def test_call_with_operands_of_another_type():
    inner = fgrad.make_jaxpr(fgrad.jit(lax.sin))(np.ones(3, np.float32))
    (eqn,) = inner.eqns
    wrong = Var(ShapedArray((2,), float32))
    closed = rebuilt(inner, invars=[wrong], eqns=[eqn._replace(invars=(wrong,))])
    assert refusal(closed).startswith("check_jaxpr: equation 0 (jit) refuses its operands: jit: operands of sin must")


def test_constants_and_variables_are_as_many():
    with pytest.raises(ValueError) as e:
        rebuilt(sample(), consts=[])
    assert str(e.value) == "ClosedJaxpr: got 0 consts for 1 constvars"
