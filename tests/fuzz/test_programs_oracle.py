"""Random programs, their gradients, tangents and batches against JAX.  ``fuzz_jax.py`` runs many more."""

import pytest
from jax_programs import case_of, compare

pytestmark = pytest.mark.oracle


def check(seeds, jax):
    for seed in seeds:
        case = case_of(seed)
        wrong = [str(d) for d in compare(case, jax) if d.unexplained]
        assert not wrong, f"{case}\n" + "\n".join(wrong)


@pytest.mark.parametrize("ten", range(5))
def test_programs_agree_with_jax(jax, ten):
    check(range(10 * ten, 10 * ten + 10), jax)


@pytest.mark.long
@pytest.mark.parametrize("hundred", range(1, 11))
def test_many_programs_agree_with_jax(jax, hundred):
    check(range(100 * hundred, 100 * hundred + 100), jax)
    jax.clear_caches()
