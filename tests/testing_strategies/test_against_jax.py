"""The problems whose functions JAX has under the same names and arguments mean the same to it."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

from fgrad import lax
from fgrad.testing import strategies

#: JAX's gather, scatter and dilate are other functions; undilate it has not.
SAME = (
    "broadcast_problems", "concatenate_problems", "conv_problems", "conv_transpose_problems", "cumulative_problems",
    "dot_general_problems", "dynamic_slice_problems", "pad_problems", "reduce_window_problems", "reduction_problems",
    "reshape_problems", "rev_problems", "slice_problems", "sort_problems", "transpose_problems",
)  # fmt: skip


def as_jax(jax, problem, key, value):
    """An option's value, functions and named tuples being those of jax.lax, which takes no plain tuples of axes."""
    if key == "dimension_numbers" and problem.function is not lax.dot_general and isinstance(value[0], tuple):
        return jax.lax.ConvDimensionNumbers(*value)
    return getattr(jax.lax, value.__name__) if callable(value) and not isinstance(value, np.generic) else value


@pytest.mark.oracle
@pytest.mark.parametrize("name", SAME)
def test_jax_computes_the_same(name, jax):
    @settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
    @given(getattr(strategies, name)(dtypes="float64"))
    def check(problem):
        assume(all(x.size for x in problem.operands))  # of nothing: JAX refuses some, and others it defines otherwise
        options = {key: as_jax(jax, problem, key, value) for key, value in problem.options.items()}
        function = getattr(jax.lax, problem.function.__name__)
        want = function(list(problem.operands), **options) if problem.listed else function(*problem.operands, **options)
        got = problem.f(*problem.operands)
        several = isinstance(got, tuple)
        for a, b in zip(got if several else [got], want if several else [want], strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-12, atol=1e-12)

    check()
