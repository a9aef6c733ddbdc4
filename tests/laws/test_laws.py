"""Every law, over every primitive: whatever is registered is tested, or has no samples and fails."""

import pytest

from fgrad.core.backends import Unfilled
from fgrad.core.primitive import REGISTRY
from fgrad.testing.call import linear_groups
from fgrad.testing.laws import LAWS, check_batches, check_values
from fgrad.testing.samples import table


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
SAMPLES = table()
SLOTS = ("abstract", "reference", "cpu", "cuda", "jvp", "transpose", "batch")
SAMPLED = sorted(SAMPLES.keys() & REGISTRY.keys())
CASES = [
    pytest.param(REGISTRY[name], sample, id=f"{name}-{i}") for name in SAMPLED for i, sample in enumerate(SAMPLES[name])
]


# --- completeness ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_every_primitive_has_samples_and_slots(name):
    assert SAMPLES.get(name), (
        f"primitive {name!r} has no samples: add some to a module of fgrad/testing/samples (elementwise.py: a row of "
        "elementwise_table.py, or OTHERS)"
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
        assert any(linear_groups(prim, s) for s in SAMPLES[name]), (
            f"{name} has a transpose rule, but no sample says in which operands it is linear: set Sample.linear"
        )


# --- the laws --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", SAMPLED)
def test_law(law, name):
    """On all samples of a primitive: a test for each would be seven times as many, and pytest takes 3 ms for a test."""
    for i, sample in enumerate(SAMPLES[name]):
        try:
            LAWS[law](REGISTRY[name], sample)
        except Exception as error:
            error.add_note(f"on sample {i} of {name}")
            raise


@pytest.mark.parametrize("name", NAMES)
def test_values_in_half_precision(name):
    check_values(REGISTRY[name], SAMPLES[name][0], halves=True)


@pytest.mark.long
@pytest.mark.parametrize("prim, sample", CASES)
def test_values_in_half_precision_at_every_sample(prim, sample):
    check_values(prim, sample, halves=True)


@pytest.mark.long
@pytest.mark.parametrize("prim, sample", CASES)
def test_batching_over_all_combinations(prim, sample):
    check_batches(prim, sample, every=True)
