"""Mistakes in the rules are noticed: by the laws, on the samples that every primitive has.

A fault that no law notices is a hole in the laws or in the samples.  What no law can notice is not here: what is
refused in which words (test_errors.py), and which of several right answers is given at a tie (tests of each primitive).
"""

from collections import Counter
from collections.abc import Sequence

import faults_control
import faults_numeric
import faults_structural
import pytest
from fault import Fault
from noticing import ORDER, first_notice, forget, samples
from planting import Edit, edit, planted

from fgrad.core.primitive import REGISTRY
from fgrad.testing import laws

FAULTS: list[Fault] = faults_structural.FAULTS + faults_numeric.FAULTS + faults_control.FAULTS
PRIMITIVES = sorted({name for fault in FAULTS for name in fault.primitives})
#: Many samples come before the one that notices.
LONG = {
    "jvp-scatter-two_zeros_without_a_second_derivative",
    "transpose-cond-cotangents_by_the_first_branch",
    "transpose-cond-residuals_in_the_order_of_slots",
    "transpose-cond-two_residuals_in_one_slot",
    "transpose-conv_general_dilated-batch_groups_forgotten_in_dX",
    "transpose-conv_general_dilated-batch_groups_not_moved_back",
    "transpose-conv_general_dilated-feature_groups_of_W_not_moved",
    "transpose-conv_general_dilated-groups_last_instead_of_first",
    "transpose-conv_general_dilated-kinds_of_groups_not_exchanged_in_dW",
    "transpose-conv_general_dilated-size_of_the_axis_that_receives_groups",
    "transpose-jit-every_linear_operand_has_a_cotangent",
}


def planned(fault: Fault) -> Edit:
    return edit(fault.module, fault.function, fault.old, fault.new)


@pytest.fixture
def no_memory(request):
    """Nothing is traced, compiled or derived before a rule changes, or after it has changed back."""
    primitives = getattr(request, "param", PRIMITIVES)
    forget(primitives)
    yield
    forget(primitives)


@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, id=str(f), marks=[pytest.mark.long] if str(f) in LONG else []) for f in FAULTS],
)
def test_a_fault_is_noticed(fault):
    if not any(samples(name) for name in fault.primitives):
        pytest.skip("its samples need SciPy")
    forget(fault.primitives)
    try:
        with planted(planned(fault)) as ran:
            notice = first_notice(fault.slot, fault.primitives)
    finally:
        forget(fault.primitives)
    assert ran.calls, f"{fault.function} never ran: the laws of {fault.primitives} do not reach it"
    assert notice, f"no law notices: {fault.what}, in {fault.module}.{fault.function}"


def test_every_kind_of_rule_has_faults():
    assert min(Counter(fault.slot for fault in FAULTS).values()) >= 30
    assert len({str(fault) for fault in FAULTS}) == len(FAULTS)
    assert len(LONG) <= len(FAULTS) / 10
    assert {str(fault) for fault in FAULTS} >= LONG


# --- the control -----------------------------------------------------------------------------------------------------
def recompiled(names: Sequence[str], asked: Sequence[str], most: int | None = None) -> None:
    """Every function that a fault is planted in, compiled the same way without it, raises no alarm."""
    same = {(e.module, e.start): Edit(e.module, e.start, "", "") for e in map(planned, FAULTS)}
    with planted(*same.values()) as ran:
        for name in names:
            for sample in samples(name)[:most]:
                for law in asked:
                    laws.LAWS[law](REGISTRY[name], sample)
    assert ran.calls


def test_right_rules_compiled_again_raise_no_alarm(no_memory):
    recompiled(PRIMITIVES, [first for first, *_ in ORDER.values()], 1)


@pytest.mark.long
@pytest.mark.parametrize("name", PRIMITIVES)
def test_right_rules_compiled_again_raise_no_alarm_on_any_sample(name, no_memory):
    recompiled([name], list(laws.LAWS))
