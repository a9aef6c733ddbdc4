"""A rule wrong by 0.05 % is noticed by every numerical check, in float64 and in float32, and a right one is not."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from wrong_rules import WRONG_BY, batch_off, jvp_off, reference_off, transpose_off

import fgrad
import fgrad.numpy as fnp
from fgrad import lax, testing
from fgrad.core.backends import ScalarMap
from fgrad.core.primitive import REGISTRY, Primitive
from fgrad.testing import Sample


# --- wrong rules -----------------------------------------------------------------------------------------------------
def compiled_off(prim: Primitive) -> ScalarMap:
    """Wrong in compiled programs alone."""
    rule, ufunc = prim.cpu
    return ScalarMap(lambda s, *xs: s.mul(rule(s, *xs), s.const(1 + WRONG_BY, xs[0].dtype)), ufunc)


WRONG: dict[str, Callable[[Primitive], Any]] = {
    "jvp": lambda prim: jvp_off(prim, 0),
    "transpose": lambda prim: transpose_off(prim, None),
    "batch": lambda prim: batch_off(prim, (0,)),
    "reference": lambda prim: reference_off(prim, None),
    "cpu": compiled_off,
}


class Case(NamedTuple):
    """A check of a function, and the slots of primitives in which an error of 0.05 % breaks what it checks."""

    check: Callable[..., None]
    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    slots: tuple[str, ...]  # primitive.slot


def convolution(x, w):
    return lax.conv_general_dilated(x, w, (2,), [(1, 0)])


def layer(x, w):
    return fnp.tanh(fnp.sin(x) @ w)


IMAGES, KERNELS = (2, 2, 7), (3, 2, 2)
LAYER = ((2, 3), (3, 2))
CASES = {
    "check_jvp": Case(testing.check_jvp, layer, LAYER, ("sin.jvp", "tanh.jvp")),
    "check_vjp": Case(testing.check_vjp, layer, LAYER, ("sin.jvp", "tanh.jvp", "dot_general.transpose")),
    "check_vjp of a convolution": Case(
        testing.check_vjp, convolution, (IMAGES, KERNELS), ("conv_general_dilated.transpose",)
    ),
    "check_grads": Case(testing.check_grads, layer, LAYER, ("sin.jvp", "cos.jvp", "dot_general.transpose")),
    "check_second_order": Case(testing.check_second_order, layer, LAYER, ("cos.jvp",)),
    "check_transpose": Case(testing.check_transpose, lambda x: fnp.cumsum(2 * x, 0), ((3, 2),), ("cumsum.transpose",)),
    "check_batching": Case(testing.check_batching, layer, LAYER, ("sin.batch", "dot_general.batch")),
    "check_jit": Case(testing.check_jit, layer, LAYER, ("sin.cpu", "tanh.cpu")),
    "check_backends": Case(testing.check_backends, layer, LAYER, ("sin.cpu", "sin.reference")),
}


def operands(case: Case, dtype: type) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    return tuple([rng.standard_normal(shape).astype(dtype) for shape in case.shapes])


both_precisions = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])


@pytest.fixture(autouse=True)
def no_memory():
    """Nothing is traced or compiled by the rules of another test."""
    fgrad.clear_caches()
    yield
    fgrad.clear_caches()


@both_precisions
@pytest.mark.parametrize("name, wrong", [(name, slot) for name, case in CASES.items() for slot in case.slots])
def test_a_wrong_rule_is_noticed(name, wrong, dtype, monkeypatch):
    case = CASES[name]
    primitive, slot = wrong.split(".")
    prim = REGISTRY[primitive]
    monkeypatch.setattr(prim, slot, WRONG[slot](prim))
    with pytest.raises(AssertionError):
        case.check(case.function, operands(case, dtype))


@both_precisions
@pytest.mark.parametrize("name", CASES)
def test_right_rules_raise_no_alarm(name, dtype):
    case = CASES[name]
    case.check(case.function, operands(case, dtype))


# --- rules written by hand -------------------------------------------------------------------------------------------
def tanh(x):
    return np.tanh(x)


def by_hand(factor: float) -> dict[str, Callable[..., Any]]:
    """The derivative of tanh, this many times too large."""

    def slope(x):
        return x.dtype.type(factor) * (1 - np.tanh(x) ** 2)

    return {
        "jvp": lambda primals, tangents: (np.tanh(primals[0]), slope(primals[0]) * tangents[0]),
        "vjp": lambda ct, x: (ct * slope(x),),
    }


@both_precisions
@pytest.mark.parametrize("rule, check", [("jvp", testing.check_jvp), ("vjp", testing.check_vjp)])
def test_a_wrong_rule_of_a_numpy_function_is_noticed(rule, check, dtype):
    x = np.random.default_rng(0).standard_normal((3, 2)).astype(dtype)
    check(tanh, (x,), **{rule: by_hand(1.0)[rule]})
    with pytest.raises(AssertionError):
        check(tanh, (x,), **{rule: by_hand(1 + WRONG_BY)[rule]})


@both_precisions
def test_a_wrong_transpose_written_by_hand_is_noticed(dtype):
    x = np.random.default_rng(0).standard_normal((3, 2)).astype(dtype)
    for factor in (1, 1 + WRONG_BY):

        def back(ct, factor=factor):
            return (ct * dtype(3 * factor),)

        if factor == 1:
            testing.check_transpose(lambda x: 3 * x, (x,), transpose=back)
        else:
            with pytest.raises(AssertionError):
                testing.check_transpose(lambda x: 3 * x, (x,), transpose=back)


@both_precisions
def test_a_function_that_bends_by_half_a_thousandth_is_not_linear(dtype):
    x = np.random.default_rng(0).standard_normal((3, 2)).astype(dtype)
    testing.check_linear(lambda x: 3 * x, (x,))
    with pytest.raises(AssertionError):
        testing.check_linear(lambda x: 3 * x + dtype(3 * WRONG_BY) * fnp.abs(x), (x,))


# --- a primitive as a whole ------------------------------------------------------------------------------------------
@both_precisions
@pytest.mark.parametrize("slot", ["jvp", "batch", "reference", "cpu"])
def test_a_wrong_rule_of_a_primitive_is_noticed(slot, dtype, monkeypatch):
    sample = Sample((np.random.default_rng(0).standard_normal((2, 3)).astype(dtype),))
    testing.check_primitive("sin", [sample])
    monkeypatch.setattr(REGISTRY["sin"], slot, WRONG[slot](REGISTRY["sin"]))
    fgrad.clear_caches()
    with pytest.raises(AssertionError, match="check_primitive: sin breaks the law"):
        testing.check_primitive("sin", [sample])
