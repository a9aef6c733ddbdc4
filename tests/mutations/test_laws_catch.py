"""Each rule of every primitive is made wrong by 0.05 % in turn, and its law notices."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from noticing import SAMPLES, samples
from wrong_rules import WRONG_BY, batch_off, jvp_off, off_array, reference_off, transpose_off

from fgrad.core.backends import Host, ScalarMap, Unfilled
from fgrad.core.primitive import REGISTRY, Primitive
from fgrad.testing.call import Call, differentiable, has_derivatives, linear_groups
from fgrad.testing.laws import DTYPES, LAWS


def notices(law: str, prim: Primitive) -> bool:
    for sample in samples(prim.name):
        try:
            LAWS[law](prim, sample)
        except AssertionError:
            return True
    return False


def primitives(condition: Callable[[Primitive], bool]) -> Any:
    found = [
        prim for name, prim in sorted(REGISTRY.items()) if name in SAMPLES and samples(prim.name) and condition(prim)
    ]
    return pytest.mark.parametrize("prim", found, ids=str)


def operand_numbers(prim: Primitive) -> range:
    return range(max(len(s.operands) for s in samples(prim.name)))


# --- each is noticed -------------------------------------------------------------------------------------------------
def dtypes_of(prim: Primitive) -> Iterator[np.dtype | None]:
    """The dtypes check_values compares in: those of one sample."""
    sample = samples(prim.name)[0]
    yield sample.operands[-1].dtype if sample.operands else None
    for kind in sample.kinds:
        yield from (np.dtype(d) for d in DTYPES[kind])


@primitives(lambda prim: not isinstance(prim.cpu, Host))  # there the reference is all there is
def test_a_wrong_value_in_any_dtype(prim, monkeypatch):
    for dtype in dict.fromkeys(dtypes_of(prim)):
        with monkeypatch.context() as m:
            m.setattr(prim, "reference", reference_off(prim, dtype))
            assert notices("values", prim), dtype


@pytest.mark.parametrize("name", ["exp", "add", "sqrt"])
@pytest.mark.parametrize("where", ["eager", "compiled"])
def test_a_wrong_value_in_eager_evaluation_or_under_jit_alone(name, where, monkeypatch):
    prim = REGISTRY[name]
    rule, ufunc = prim.cpu

    def off_rule(s, *xs):
        return s.mul(rule(s, *xs), s.const(1 + WRONG_BY, xs[0].dtype))

    wrong = ScalarMap(off_rule, ufunc) if where == "compiled" else ScalarMap(rule, lambda *xs: off_array(ufunc(*xs)))
    monkeypatch.setattr(prim, "cpu", wrong)
    assert notices("values", prim)


@pytest.mark.parametrize("name", ["exp", "transpose"])
@pytest.mark.parametrize("change", [{"dtype": np.dtype(np.float32)}, {"shape": (3, 2)}, {"weak_type": True}], ids=str)
def test_a_wrong_type(name, change, monkeypatch):
    prim = REGISTRY[name]
    right = prim.abstract
    monkeypatch.setattr(prim, "abstract", lambda *avals, **params: right(*avals, **params).update(**change))
    monkeypatch.setattr(prim, "inferred", {})  # what the right rule said
    assert notices("types", prim)


def compared_with_differences(prim: Primitive, k: int) -> bool:
    """Whether some sample asks for the derivative in operand k, which need not be nought."""
    return any(
        has_derivatives(prim, s) and not s.reverse_only and k in differentiable(s)
        and s.slope in ("smooth", "zero") and Call(prim, s).floating
        for s in samples(prim.name)
    )  # fmt: skip


@primitives(lambda prim: any(compared_with_differences(prim, k) for k in operand_numbers(prim)))
def test_a_wrong_tangent_in_any_operand(prim, monkeypatch):
    for k in operand_numbers(prim):
        if compared_with_differences(prim, k):
            with monkeypatch.context() as m:
                m.setattr(prim, "jvp", jvp_off(prim, k))
                assert notices("tangents", prim), f"operand {k}"


def linear_operands(prim: Primitive) -> set[int]:
    return {i for s in samples(prim.name) for group in linear_groups(prim, s) for i in group}


@primitives(lambda prim: not isinstance(prim.transpose, Unfilled))
def test_a_wrong_transpose_in_any_operand(prim, monkeypatch):
    for k in linear_operands(prim):
        with monkeypatch.context() as m:
            m.setattr(prim, "transpose", transpose_off(prim, k))
            assert notices("adjoints", prim), f"operand {k}"


def has_results(prim: Primitive) -> bool:
    """A primitive without results is run for its effect, which the tests of callbacks look at."""
    return any(Call(prim, s).avals for s in samples(prim.name))


@primitives(lambda prim: has_results(prim) and not isinstance(prim.batch, Unfilled))
def test_a_wrong_batch_rule_for_any_operand(prim, monkeypatch):
    for batched in [None, *((k,) for k in operand_numbers(prim))]:
        with monkeypatch.context() as m:
            m.setattr(prim, "batch", batch_off(prim, batched))
            assert notices("batching", prim), f"operands {batched}"


@pytest.mark.parametrize("slot", ["jvp", "transpose"])
def test_a_wrong_derivative_of_a_call(slot, monkeypatch):
    call = REGISTRY["jit"]
    wrong = jvp_off(call, 0) if slot == "jvp" else transpose_off(call, None)
    monkeypatch.setattr(call, slot, wrong)
    assert notices("jit", REGISTRY["sin"])


@pytest.mark.parametrize("name, slot", [("cos", "jvp"), ("mul", "transpose")])
def test_a_wrong_rule_behind_a_second_derivative(name, slot, monkeypatch):
    """sin's tangent is t * cos x: right, but what is behind it is not."""
    prim = REGISTRY[name]
    monkeypatch.setattr(prim, slot, jvp_off(prim, 0) if slot == "jvp" else transpose_off(prim, 1))
    assert notices("second", REGISTRY["sin"])


def test_right_rules_raise_no_alarm():
    """The wrappers change nothing but by the 0.05 %."""
    for name in ("mul", "gather", "concatenate"):
        assert not notices("tangents", REGISTRY[name])
        assert not notices("adjoints", REGISTRY[name])
