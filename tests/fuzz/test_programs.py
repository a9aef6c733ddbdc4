"""Transformations against each other on random programs."""

import os

import program_laws as laws
import pytest
from hypothesis import HealthCheck, given, settings

from fgrad.testing.strategies import programs

MANY = int(os.environ.get("FGRAD_FUZZ_PROGRAMS", "1000"))  # of each law in the long tests
QUICK = settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
LONG = settings(QUICK, max_examples=MANY)

ANY = programs()
NARROW = programs(("float32", "bfloat16", "float16", "int8", "uint8", "bool", "complex64", "int64"))
SMOOTH = programs(("float64", "int32", "bool"), differentiable=True)
FORWARD = programs(("float64", "int32", "bool"), differentiable=True, modes=("fwd",))
REVERSE = programs(("float64", "int32", "bool"), differentiable=True, modes=("rev",))

LAWS = [
    (laws.check_values, ANY),
    (laws.check_values, NARROW),
    (laws.check_vmap, ANY),
    (laws.check_first, SMOOTH),
    (laws.check_tangents, FORWARD),
    (laws.check_gradients, SMOOTH),
    (laws.check_gradients, REVERSE),
    (laws.check_vmap_of_gradient, SMOOTH),
    (laws.check_second, SMOOTH),
]
NAMES = ["values", "values of narrow dtypes", "vmap", "adjoint", "tangents", "gradients", "gradients by rules",
         "vmap of gradients", "second order"]  # fmt: skip


@pytest.mark.parametrize(("law", "drawn"), LAWS, ids=NAMES)
def test_law(law, drawn):
    QUICK(given(drawn)(law))()


@pytest.mark.long
@pytest.mark.parametrize(("law", "drawn"), LAWS, ids=NAMES)
def test_law_on_many_programs(law, drawn):
    LONG(given(drawn)(law))()
