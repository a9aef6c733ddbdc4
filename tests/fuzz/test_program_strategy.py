"""The strategy itself: its programs run as printed, keep what it promises, and shrink to what matters."""

import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, find, given, settings

from fgrad.testing.strategies import programs, random_program
from fgrad.testing.strategies.programs_text import is_float

FINDING = settings(max_examples=500, database=None, suppress_health_check=list(HealthCheck))


def steps(program) -> list[str]:
    return [line.strip() for line in program.source.splitlines() if " = " in line]


SLOW = pytest.mark.long


@pytest.mark.parametrize(
    ("planted", "most"),
    [
        ("lax.tanh", 1),
        pytest.param("conv_general_dilated", 3, marks=SLOW),
        pytest.param("lax.scan", 2, marks=SLOW),
        pytest.param("reduce_window", 2, marks=SLOW),
        pytest.param("custom_vjp", 3, marks=SLOW),
    ],
)
def test_shrinks_to_the_steps_that_matter(planted, most):
    program = find(programs(), lambda p: planted in p.source, settings=FINDING, random=random.Random(0))
    assert len(steps(program)) <= most, program
    assert max([x.size for x in program.args]) <= 24, program


def test_shrinks_values_that_are_wrong():
    """A property of values, not of the text: some result has more than 20 elements."""

    def wrong(program):
        return any(y.size > 20 for y in program.f(*program.args))

    program = find(programs(), wrong, settings=FINDING, random=random.Random(0))
    assert len(steps(program)) <= 1, program


@pytest.mark.long
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(programs(("float64", "float32", "int32", "bool")))
def test_floats_stay_of_order_one(program):
    for y in program.f(*program.args):
        y = np.asarray(y)
        if y.dtype.kind == "f":
            assert np.abs(y).max(initial=0) <= 4, program


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(programs(differentiable=True))
def test_a_differentiable_program_has_an_argument_to_differentiate(program):
    assert any(map(is_float, program.types))
    assert "custom_vjp" not in program.source and "while_loop" not in program.source


def test_modes_and_control_flow_choose_what_there_is():
    def text(**options):
        return "".join(random_program(random.Random(i), **options).source for i in range(80))

    assert "custom_vjp" in text(differentiable=True, modes=("rev",))
    assert "while_loop" in text(differentiable=True, modes=("fwd",))
    plain = text(control_flow=False)
    assert not any(name in plain for name in ("lax.scan", "lax.while_loop", "lax.fori_loop", "lax.cond", "lax.switch"))


def test_the_printed_program_runs():
    for seed in (1, 2):
        program = random_program(random.Random(seed))
        done = subprocess.run([sys.executable, "-c", repr(program)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(program.f(*program.args))


def test_the_same_seed_writes_the_same_program():
    assert repr(random_program(random.Random(7))) == repr(random_program(random.Random(7)))


@pytest.mark.long
def test_calls_are_bound():
    seen = []

    def note(x, k):
        seen.append(k)
        return x

    for seed in range(10):
        program = random_program(random.Random(seed), calls=("note",), control_flow=False)
        program.bind(note=note)(*program.args)
    assert seen


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dtypes": ("quaternion",)}, TypeError, "programs: dtypes must be names"),
        ({"dtypes": ()}, ValueError, "programs: needs a dtype and a shape"),
        ({"shapes": ()}, ValueError, "programs: needs a dtype and a shape"),
        ({"max_steps": 0}, ValueError, "programs: max_steps must be at least 1, got 0"),
        ({"modes": ("reverse",)}, ValueError, "programs: modes must be some of"),
        ({"dtypes": ("int32",), "differentiable": True}, ValueError, "programs: a differentiable program needs floats"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        programs(**options)
