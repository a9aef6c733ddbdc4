"""Every law, over random samples of every primitive.

`make test-long` runs LONG examples for each of the pairs: 123 primitives times 9 laws times 90 are 100,000.
"""

import pytest
from hypothesis import HealthCheck, given, settings

from fgrad.core.primitive import REGISTRY
from fgrad.testing.laws import LAWS
from fgrad.testing.samples import table
from fgrad.testing.strategies import samples

FEW, LONG = 2, 90
NAMES = sorted(table())


def test_every_primitive_with_samples_has_random_ones():
    for name in NAMES:
        assert not samples(name).is_empty


def check(name: str, law: str, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(samples(name))
    def holds(sample):
        LAWS[law](REGISTRY[name], sample)

    holds()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", NAMES)
def test_a_few(name, law):
    check(name, law, FEW)


@pytest.mark.long
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", NAMES)
def test_many(name, law):
    check(name, law, LONG)
