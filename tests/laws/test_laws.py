"""Every law, over every primitive: whatever is registered is tested, or has no samples and fails."""

import laws
import pytest
from samples import SAMPLES

from fgrad.core.backends import Unfilled
from fgrad.core.primitive import REGISTRY


def only_raises(rule) -> bool:
    """A rule that only raises says so by its type."""
    return getattr(rule, "__annotations__", {}).get("return") == "NoReturn"


# Collectives have no value outside a vmap: tests/transforms/test_collectives.py has their laws.  The linear map of a
# custom_vjp has none at all: tests/higher_order/test_custom_vjp.py has its laws.
NAMES = [
    name
    for name, prim in sorted(REGISTRY.items())
    if not isinstance(prim.cpu, Unfilled) and not only_raises(prim.reference)
]
SLOTS = ("abstract", "reference", "cpu", "cuda", "jvp", "transpose", "batch")
CASES = [
    pytest.param(REGISTRY[name], sample, id=f"{name}-{i}")
    for name, samples in SAMPLES.items()
    if name in REGISTRY
    for i, sample in enumerate(samples)
]


def over_all_samples(test):
    return pytest.mark.parametrize("prim, sample", CASES)(test)


# --- completeness ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_every_primitive_has_samples_and_slots(name):
    assert SAMPLES.get(name), (
        f"primitive {name!r} has no samples: add some to tests/laws/samples_elementwise.py (a row of "
        "tests/primitives/elementwise_table.py, or OTHERS) or to tests/laws/samples_structural.py"
    )
    for slot in SLOTS:
        value = getattr(REGISTRY[name], slot)
        assert value is not None, f"slot {slot} of {name} is empty: fill it, or say Unfilled('why')"
        assert not isinstance(value, Unfilled) or value.reason.strip(), f"{slot} of {name} is Unfilled for no reason"


def test_every_sample_is_of_a_primitive():
    assert set(SAMPLES) <= set(REGISTRY)


@pytest.mark.parametrize("name", NAMES)
def test_every_transpose_is_reached(name):
    """A primitive with a transpose rule is linear in something, and its samples say in what."""
    prim = REGISTRY[name]
    if not isinstance(prim.transpose, Unfilled) and not only_raises(prim.transpose):
        assert any(laws.linear_groups(prim, s) for s in SAMPLES[name]), (
            f"{name} has a transpose rule, but no sample says in which operands it is linear: set Sample.linear"
        )


# --- the laws --------------------------------------------------------------------------------------------------------
@over_all_samples
def test_types(prim, sample):
    laws.check_types(prim, sample)


@over_all_samples
def test_values(prim, sample):
    laws.check_values(prim, sample, halves=sample is SAMPLES[prim.name][0])


@over_all_samples
def test_tangents(prim, sample):
    laws.check_tangents(prim, sample)


@over_all_samples
def test_adjoints(prim, sample):
    laws.check_adjoints(prim, sample)


@over_all_samples
def test_batching(prim, sample):
    laws.check_batching(prim, sample)


@over_all_samples
def test_jit_of_gradient(prim, sample):
    laws.check_jit_of_gradient(prim, sample)


@over_all_samples
def test_second_derivatives(prim, sample):
    laws.check_second_derivatives(prim, sample)


@pytest.mark.long
@over_all_samples
def test_batching_over_all_combinations(prim, sample):
    laws.check_batching(prim, sample, every=True)


@pytest.mark.long
@over_all_samples
def test_values_in_half_precision(prim, sample):
    laws.check_values(prim, sample, halves=True)
