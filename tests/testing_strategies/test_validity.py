"""Every strategy draws calls that succeed, and each prints as a program that repeats it."""

import inspect

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core import dtypes as core_dtypes
from fgrad.testing import check_transpose, strategies
from fgrad.testing.problem import Problem
from fgrad.testing.strategies import conv_problems, elementwise_problems, scatter_problems
from fgrad.testing.strategies.basic import draw_arrays

PROBLEMS = [name for name in strategies.__all__ if name.endswith("_problems")]
REAL = ("conv_problems", "conv_transpose_problems", "dot_general_problems", "reduce_window_problems")

quick = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])


def of_every_dtype(name: str):
    """The strategy over all the dtypes that its functions take."""
    options = {"derivative": False, "scipy": True} if name == "elementwise_problems" else {}
    kinds = "fi" if name in REAL else "fib" if name == "elementwise_problems" else "fibc"
    return getattr(strategies, name)(dtypes=strategies.dtypes(kinds), **options)


def results(out) -> list[np.ndarray]:
    """As float64 or complex128, in which all others can be compared."""
    arrays = [np.asarray(x) for x in (out if isinstance(out, tuple) else (out,))]
    return [x.astype(complex if x.dtype.kind == "c" else float) for x in arrays]


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_calls_succeed_and_their_programs_repeat_them(name):
    @quick
    @given(of_every_dtype(name))
    def check(problem):
        with np.errstate(all="ignore"):
            out = problem.f(*problem.operands)
            names: dict = {}
            exec(repr(problem), names)
        for got, want in zip(results(names["out"]), results(out), strict=True):
            np.testing.assert_array_equal(got, want)

    check()


@pytest.mark.parametrize("name", PROBLEMS)
def test_calls_are_linear_in_the_groups_they_name(name):
    @settings(quick, max_examples=8)
    @given(getattr(strategies, name)(dtypes="float64"))
    def check(problem):
        for group in problem.linear:
            check_transpose(problem.f, problem.operands, argnums=group)

    check()


@pytest.mark.parametrize("name", PROBLEMS)
def test_floats_are_apart_from_0(name):
    @settings(quick, max_examples=10)
    @given(getattr(strategies, name)())
    def check(problem):
        for x in problem.operands:
            assert x.dtype.kind != "f" or (np.abs(x) >= 2.0**-10).all()

    check()


def test_no_two_elements_of_a_maximum_or_a_sort_are_equal():
    @quick
    @given(
        strategies.sort_problems()
        | strategies.reduce_window_problems(computations=("max", "min"))
        | scatter_problems(scatter_kinds=("min", "max"))
        | strategies.reduction_problems()
        | strategies.cumulative_problems()
    )
    def check(problem):
        floats = np.concatenate([x.ravel() for x in problem.operands if x.dtype.kind == "f"])
        assert len(np.unique(floats)) == len(floats)

    check()


@pytest.mark.parametrize("dtype, most", [("int8", 253), ("uint8", 253), ("int16", 300), ("float16", 300)])
def test_integers_repeat_where_there_are_too_few(dtype, most):
    @quick
    @given(st.integers(most, 300).flatmap(lambda n: st.tuples(st.just(n), pair(n))))
    def check(drawn):
        n, (x, y) = drawn
        values = {*x.tolist(), *y.ravel().tolist()}
        assert len(values) == n if n <= most or dtype[-2:] == "16" else len(values) < n

    @st.composite
    def pair(draw, n):
        return draw_arrays(draw, np.dtype(dtype), [(n - 9,), (3, 3)])

    check()


def test_distinct_indices_name_each_place_once():
    @quick
    @given(scatter_problems(distinct=True))
    def check(problem):
        x, indices, _ = problem.operands
        rows = [tuple(indices[at].tolist()) for at in np.ndindex(indices.shape[:-1])]
        assert len(set(rows)) == len(rows)
        assert all(0 <= i < x.shape[a] for row in rows for i, a in zip(row, problem.options["axes"]))

    check()


# --- printing --------------------------------------------------------------------------------------------------------
def run(problem: Problem):
    names: dict = {}
    exec(repr(problem), names)
    return names["out"]


@pytest.mark.parametrize("dtype", core_dtypes.SUPPORTED, ids=str)
def test_arrays_of_every_dtype_print_exactly(dtype):
    @settings(quick, max_examples=20)
    @given(strategies.arrays(dtype, strategies.shapes(), special=True))
    def check(x):
        got = np.asarray(run(Problem(lax.rev, (x,), {"dimensions": ()})))
        assert got.dtype == x.dtype and got.shape == x.shape
        assert got.tobytes() == x.tobytes() or np.isnan(x.astype(complex)).any()
        np.testing.assert_array_equal(*(results(a)[0] for a in (got, x)))

    check()


def test_options_of_every_kind_print_as_expressions():
    x = np.array([1.5, 2.5], np.float32)
    numbers = lax.ConvDimensionNumbers((0, 1, 2), (0, 1, 2), (0, 1, 2))
    cases = [
        (Problem(lax.round, (x,), {"rounding_method": lax.RoundingMethod.TO_NEAREST_EVEN}), [2, 2]),
        (Problem(lax.reduce, (x,), {"init_values": np.float32(1), "computation": lax.add, "dimensions": (0,)}), 5),
        (Problem(lax.convert_element_type, (x,), {"new_dtype": np.dtype(ml_dtypes.bfloat16)}), [1.5, 2.5]),
        (Problem(lax.reduce, (x,), {"init_values": np.inf, "computation": lax.min, "dimensions": [0]}), 1.5),
        (Problem(fnp.sort, (x,), {}), x),
        (Problem(fnp.linalg.inv, (np.eye(2),), {}), np.eye(2)),
        (
            Problem(
                lax.conv_general_dilated,
                (x[None, None], x[None, None]),
                {"window_strides": (1,), "padding": "VALID", "dimension_numbers": numbers},
            ),
            [[[8.5]]],
        ),
    ]
    for problem, want in cases:
        np.testing.assert_array_equal(np.asarray(run(problem), float), want)


def test_a_function_of_nobody_has_no_program():
    with pytest.raises(ValueError, match=r"^Problem: the function must be public in fgrad.lax or .*Use one of theirs"):
        repr(Problem(lambda x: x, (np.ones(2),)))


def test_hypothesis_prints_the_program_from_a_line_of_its_own():
    @settings(max_examples=1, database=None)
    @given(st.just(Problem(lax.rev, (np.array([1.0, 2.0]),), {"dimensions": (0,)})))
    def fails(problem):
        raise AssertionError

    with pytest.raises(AssertionError) as caught:
        fails()
    lines = "\n".join(caught.value.__notes__).splitlines()
    start = next(i for i, line in enumerate(lines) if line.endswith("problem="))
    block = lines[start + 1 : next(i for i, line in enumerate(lines) if "out = " in line) + 1]
    assert block[0].strip() == "import numpy as np"
    names: dict = {}
    exec(inspect.cleandoc("\n".join(block)).rstrip(","), names)
    assert names["out"].tolist() == [2, 1]


# --- arguments -------------------------------------------------------------------------------------------------------
BAD = [
    (lambda: strategies.dtypes("x"), "dtypes: kinds must be letters of 'ficb', got 'x'"),
    (lambda: strategies.shapes(3, 2), "shapes: bounds must be 0 <= min <= max, got dims 3 to 2"),
    (lambda: strategies.axes(2, min_size=3), "axes: numbers of axes must be 0 <= min_size <= max_size <= ndim, got 3"),
    (lambda: conv_problems(paddings=("FULL",)), "conv_problems: paddings must be of "),
    (lambda: conv_problems(spatial_dims=0), "conv_problems: spatial_dims must be positive, got 0"),
    (lambda: conv_problems(orders="NHWC"), "conv_problems: orders must be True, False or 'channels last', got 'NHWC'"),
    (lambda: strategies.reduce_window_problems(computations=("mul",)), "reduce_window_problems: computations must be"),
    (lambda: scatter_problems(scatter_kinds=("sub",)), "scatter_problems: scatter_kinds must be of "),
    (lambda: find(strategies.arrays("int8", (300,)), bool), "arrays: int8 must have enough distinct values, 1 apart"),
    (lambda: find(strategies.arrays("float32", 3, low=2, high=1), bool), "arrays: float32 must have enough distinct"),
    (lambda: find(elementwise_problems(functions=("no",)), bool), "elementwise_problems: there must be a function"),
]


@pytest.mark.parametrize("call, message", BAD, ids=[message[:40] for _, message in BAD])
def test_bad_arguments(call, message):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value).startswith(message)


def test_trees_hold_every_kind_of_container():
    for kind in (dict, tuple, list, type(None), strategies.basic.Pair):
        find(strategies.pytrees(st.integers()), lambda tree, kind=kind: type(tree) is kind)
