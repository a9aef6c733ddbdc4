"""The laws are tested themselves: each rule of every primitive is made wrong by 0.05 % in turn, and its law notices."""

from collections.abc import Callable, Iterator
from typing import Any

import laws
import numpy as np
import pytest
from checks import results
from sample import Sample
from samples import SAMPLES

from fgrad.core import dtypes
from fgrad.core.backends import Host, ScalarMap, Unfilled
from fgrad.core.primitive import REGISTRY, OverAxis, Primitive, Zero
from fgrad.core.trace import current_trace
from fgrad.primitives.arithmetic import add_p, mul_p
from fgrad.primitives.bitwise import not_p
from fgrad.primitives.broadcast import full_like
from fgrad.transforms.jvp import apply_jvp

WRONG_BY = 5e-4


def notices(law: Callable, prim: Primitive, **options: Any) -> bool:
    for sample in samples(prim):
        try:
            law(prim, sample, **options)
        except AssertionError:
            return True
    return False


def samples(prim: Primitive) -> list[Sample]:
    """The samples, without those for which this installation lacks SciPy."""
    return [s for s in SAMPLES[prim.name] if laws.SCIPY or not s.scipy]


def primitives(condition: Callable[[Primitive], bool]) -> Any:
    found = [prim for name, prim in sorted(REGISTRY.items()) if name in SAMPLES and samples(prim) and condition(prim)]
    return pytest.mark.parametrize("prim", found, ids=str)


def operand_numbers(prim: Primitive) -> range:
    return range(max(len(s.operands) for s in samples(prim)))


# --- wrong results ---------------------------------------------------------------------------------------------------
def off(x: Any) -> Any:
    """An fgrad array too large by 0.05 %, or by one, or negated."""
    if dtypes.is_inexact(x.dtype):
        return mul_p.bind(x, full_like(x, 1 + WRONG_BY))
    return not_p.bind(x) if x.dtype == np.bool_ else add_p.bind(x, full_like(x, 1))


def off_array(x: np.ndarray) -> np.ndarray:
    if dtypes.is_inexact(x.dtype):
        return (x * (1 + WRONG_BY)).astype(x.dtype)
    return ~x if x.dtype == np.bool_ else (x + 1).astype(x.dtype)


def as_given(prim: Primitive, outs: list) -> Any:
    return outs if prim.multiple_results else outs[0]


# --- wrong rules -----------------------------------------------------------------------------------------------------
def reference_off(prim: Primitive, dtype: np.dtype | None) -> Callable:
    """Wrong where the first operand of a sample's own or chosen dtype has ``dtype`` (None: of no operands)."""
    right = prim.reference

    def reference(*xs, **params):
        out = right(*xs, **params)
        if dtype is not None and all(x.dtype != dtype for x in xs):
            return out
        return as_given(prim, [off_array(np.asarray(o)) for o in results(prim, out)])

    return reference


def jvp_off(prim: Primitive, k: int) -> Callable:
    """Wrong in what operand k contributes."""
    right = _Slots(prim)

    def jvp(primals, tangents, **params):
        out, t_out = apply_jvp(current_trace.get(), right, primals, tangents, params)
        if k >= len(tangents) or type(tangents[k]) is Zero:
            return out, t_out
        alone = [t if i == k else Zero(t.aval) for i, t in enumerate(tangents)]
        _, part = apply_jvp(current_trace.get(), right, primals, alone, params)
        outs = [further(o, t, p) for o, t, p in zip(*[results(prim, x) for x in (out, t_out, part)], strict=True)]
        return out, as_given(prim, outs)

    return jvp


def further(out: Any, t: Any, part: Any) -> Any:
    """T + 0.05 % of its part; where that is zero, 0.0005."""
    if not dtypes.is_inexact(out.dtype):
        return t
    extra = full_like(out, WRONG_BY) if type(part) is Zero else mul_p.bind(part, full_like(part, WRONG_BY))
    return extra if type(t) is Zero else add_p.bind(t, extra)


class _Slots:
    """A primitive with its jvp as it is now."""

    def __init__(self, prim: Primitive):
        self.prim, self.jvp = prim, prim.jvp

    def slot(self, name: str) -> Any:
        return getattr(self, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.prim, name)


def transpose_off(prim: Primitive, k: int | None) -> Callable:
    """Wrong in the cotangent of operand k (None: of every one)."""
    right = prim.transpose

    def transpose(ct, *args, **params):
        bars = right(ct, *args, **params)
        return [b if k not in (None, i) or b is None or type(b) is Zero else off(b) for i, b in enumerate(bars)]

    return transpose


def batch_off(prim: Primitive, batched: tuple[int, ...] | None) -> Callable:
    """Wrong where exactly the operands ``batched`` are (None: where all are)."""
    right = prim.batch
    over_axis = type(right) is OverAxis

    def batch(*axis_args_dims, **params):
        outs, out_dims = (right.rule if over_axis else right)(*axis_args_dims, **params)
        dims = axis_args_dims[-1]
        if tuple(i for i, d in enumerate(dims) if d is not None) != (batched or tuple(range(len(dims)))):
            return outs, out_dims
        return as_given(prim, [off(o) for o in results(prim, outs)]), out_dims

    return OverAxis(batch) if over_axis else batch


# --- each is noticed -------------------------------------------------------------------------------------------------
def dtypes_of(prim: Primitive) -> Iterator[np.dtype | None]:
    """The dtypes check_values compares in: those of one sample."""
    sample = samples(prim)[0]
    yield sample.operands[-1].dtype if sample.operands else None
    for kind in sample.kinds:
        yield from (np.dtype(d) for d in laws.DTYPES[kind])


@primitives(lambda prim: not isinstance(prim.cpu, Host))  # there the reference is all there is
def test_a_wrong_value_in_any_dtype(prim, monkeypatch):
    for dtype in dict.fromkeys(dtypes_of(prim)):
        with monkeypatch.context() as m:
            m.setattr(prim, "reference", reference_off(prim, dtype))
            assert notices(laws.check_values, prim), dtype


@pytest.mark.parametrize("name", ["exp", "add", "sqrt"])
@pytest.mark.parametrize("where", ["eager", "compiled"])
def test_a_wrong_value_in_eager_evaluation_or_under_jit_alone(name, where, monkeypatch):
    prim = REGISTRY[name]
    rule, ufunc = prim.cpu

    def off_rule(s, *xs):
        return s.mul(rule(s, *xs), s.const(1 + WRONG_BY, xs[0].dtype))

    wrong = ScalarMap(off_rule, ufunc) if where == "compiled" else ScalarMap(rule, lambda *xs: off_array(ufunc(*xs)))
    monkeypatch.setattr(prim, "cpu", wrong)
    assert notices(laws.check_values, prim)


@pytest.mark.parametrize("name", ["exp", "transpose"])
@pytest.mark.parametrize("change", [{"dtype": np.dtype(np.float32)}, {"shape": (3, 2)}, {"weak_type": True}], ids=str)
def test_a_wrong_type(name, change, monkeypatch):
    prim = REGISTRY[name]
    right = prim.abstract
    monkeypatch.setattr(prim, "abstract", lambda *avals, **params: right(*avals, **params).update(**change))
    monkeypatch.setattr(prim, "inferred", {})  # what the right rule said
    assert notices(laws.check_types, prim)


def compared_with_differences(prim: Primitive, k: int) -> bool:
    """Whether some sample asks for the derivative in operand k, which need not be nought."""
    return any(
        laws.has_derivatives(prim, s) and not s.reverse_only and k < len(s.operands) and laws.differentiable(s)[k]
        and s.slope in ("smooth", "zero") and any(True for _ in laws.smooth_functions(prim, s))
        for s in samples(prim)
    )  # fmt: skip


@primitives(lambda prim: any(compared_with_differences(prim, k) for k in operand_numbers(prim)))
def test_a_wrong_tangent_in_any_operand(prim, monkeypatch):
    for k in operand_numbers(prim):
        if compared_with_differences(prim, k):
            with monkeypatch.context() as m:
                m.setattr(prim, "jvp", jvp_off(prim, k))
                assert notices(laws.check_tangents, prim), f"operand {k}"


def linear_operands(prim: Primitive) -> set[int]:
    return {i for s in samples(prim) for group in laws.linear_groups(prim, s) for i in group}


@primitives(lambda prim: not isinstance(prim.transpose, Unfilled))
def test_a_wrong_transpose_in_any_operand(prim, monkeypatch):
    for k in linear_operands(prim):
        with monkeypatch.context() as m:
            m.setattr(prim, "transpose", transpose_off(prim, k))
            assert notices(laws.check_adjoints, prim), f"operand {k}"


def has_results(prim: Primitive) -> bool:
    """A primitive without results is run for its effect, which the tests of callbacks look at."""
    return any(any(True for _ in laws.functions(prim, s)) for s in samples(prim))


@primitives(lambda prim: has_results(prim) and not isinstance(prim.batch, Unfilled))
def test_a_wrong_batch_rule_for_any_operand(prim, monkeypatch):
    for batched in [None, *((k,) for k in operand_numbers(prim))]:
        with monkeypatch.context() as m:
            m.setattr(prim, "batch", batch_off(prim, batched))
            assert notices(laws.check_batching, prim), f"operands {batched}"


@pytest.mark.parametrize("slot", ["jvp", "transpose"])
def test_a_wrong_derivative_of_a_call(slot, monkeypatch):
    call = REGISTRY["jit"]
    wrong = jvp_off(call, 0) if slot == "jvp" else transpose_off(call, None)
    monkeypatch.setattr(call, slot, wrong)
    assert notices(laws.check_jit_of_gradient, REGISTRY["sin"])


@pytest.mark.parametrize("name, slot", [("cos", "jvp"), ("mul", "transpose")])
def test_a_wrong_rule_behind_a_second_derivative(name, slot, monkeypatch):
    """sin's tangent is t * cos x: right, but what is behind it is not."""
    prim = REGISTRY[name]
    monkeypatch.setattr(prim, slot, jvp_off(prim, 0) if slot == "jvp" else transpose_off(prim, 1))
    assert notices(laws.check_second_derivatives, REGISTRY["sin"])


def test_right_rules_raise_no_alarm():
    """The wrappers change nothing but by the 0.05 %."""
    for name in ("mul", "gather", "concatenate"):
        assert not notices(laws.check_tangents, REGISTRY[name])
        assert not notices(laws.check_adjoints, REGISTRY[name])
