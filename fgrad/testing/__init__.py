"""fgrad.testing: checks of derivative, batching and compilation rules, of your functions and of anybody's.

Every check takes a function and a tuple of its arguments, and raises AssertionError where a law does not hold: the
message shows the argument, the index, both values, both errors and the tolerance.  ``fgrad.testing.strategies`` draws
arguments with Hypothesis; pytest loads the fixtures of ``_fgrad_pytest.py`` by itself.
"""

from fgrad.testing.backends import BACKENDS, Backend, check_backends
from fgrad.testing.batching import check_batching
from fgrad.testing.derivatives import check_grads, check_jvp, check_second_order, check_vjp
from fgrad.testing.execution import check_deterministic, check_jit
from fgrad.testing.linear import check_linear, check_transpose
from fgrad.testing.primitive import check_primitive
from fgrad.testing.report import NonSmoothPointError
from fgrad.testing.sample import Sample

__all__ = [
    "check_jvp",
    "check_vjp",
    "check_grads",
    "check_second_order",
    "check_linear",
    "check_transpose",
    "check_batching",
    "check_jit",
    "check_deterministic",
    "check_backends",
    "check_primitive",
    "Sample",
    "BACKENDS",
    "Backend",
    "NonSmoothPointError",
]
