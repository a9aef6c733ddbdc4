"""The pytest plugin: its fixtures, profiles, seeds and the guard, in test suites made for the occasion."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

import _fgrad_pytest
import fgrad.debug  # noqa: F401  before the suites begin, each of which forgets what it imports
from fgrad import config
from fgrad.testing import backends


@pytest.fixture(autouse=True)
def own_profile():
    """A suite that runs in this process may load a Hypothesis profile."""
    settings.register_profile("outside of the suites", settings())
    settings.load_profile("default")
    yield
    settings.load_profile("outside of the suites")


def run(pytester, source, *options):
    """A suite of one file, in this process."""
    pytester.makepyfile(source)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist", *options)


# --- for people who have fgrad installed and do not use it -----------------------------------------------------------
def test_the_plugin_imports_nothing():
    heavy = ("fgrad", "numpy", "numba", "hypothesis")
    code = f"import sys, _fgrad_pytest; print(*(name for name in {heavy!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()


def test_a_suite_without_fgrad_sees_nothing_of_it(pytester):
    code = """
        import sys
        def test_nothing_is_imported(request):
            assert not {"fgrad", "numba"} & set(sys.modules)
            assert request.fixturenames == ["request"]
    """
    pytester.makepyfile(code)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("fgrad:*")


# --- fixtures --------------------------------------------------------------------------------------------------------
def test_both_precisions(pytester):
    result = run(
        pytester,
        """
        import numpy as np
        def test_dtype(fgrad_dtype):
            assert np.ones(2, fgrad_dtype).dtype in (np.float32, np.float64)
        """,
        "-v",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_dtype?float32? PASSED*", "*test_dtype?float64? PASSED*"])


def test_every_backend_that_is_there_runs_and_others_are_skipped_with_the_reason(pytester, monkeypatch):
    missing = backends.Backend(lambda: "this machine has none", lambda closed, arrays: [])
    monkeypatch.setitem(backends.BACKENDS, "tpu", missing)
    result = run(pytester, "def test_backend(fgrad_backend): assert fgrad_backend != 'tpu'", "-rsA")
    there = [name for name, backend in backends.BACKENDS.items() if not backend.available()]
    result.assert_outcomes(passed=len(there), skipped=len(backends.BACKENDS) - len(there))
    assert {"reference", "cpu"} <= set(there)
    result.stdout.fnmatch_lines([*(f"PASSED *test_backend?{name}?" for name in there), "SKIPPED * tpu: this machine*"])


# pytester moves the home directory, and with it the kernels that are kept on disk
KERNELS = str(config.cache_dir())


def test_the_suite_in_the_documentation(pytester, monkeypatch):
    monkeypatch.setenv("FGRAD_CACHE_DIR", KERNELS)
    page = (Path(__file__).resolve().parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    (suite,) = re.findall(r"^```python\n(# test_mine.py\n.*?)^```", page, re.MULTILINE | re.DOTALL)
    pytester.makepyfile(suite)
    result = pytester.runpytest_subprocess("--fgrad-profile=fast", "-p", "no:xdist")
    result.assert_outcomes(passed=3 + len(backends.BACKENDS))


# --- seeds -----------------------------------------------------------------------------------------------------------
SEEDED = """
    from pathlib import Path
    def test_first(fgrad_seed, fgrad_rng):
        Path("first").write_text(f"{fgrad_seed} {fgrad_rng.integers(10**9)}")
    def test_second(fgrad_seed, fgrad_rng):
        Path("second").write_text(f"{fgrad_seed} {fgrad_rng.integers(10**9)}")
    def test_failing(fgrad_rng):
        assert fgrad_rng is None
"""


def test_equal_seeds_draw_equal_numbers(pytester):
    def drawn(*options):
        run(pytester, SEEDED, *options)
        return [(pytester.path / name).read_text().split() for name in ("first", "second")]

    first, other = drawn(), drawn("--fgrad-seed=7")
    assert first == drawn("--fgrad-seed=0")
    assert [seed for seed, _ in first + other] == ["0", "0", "7", "7"]
    assert len({number for _, number in first + other}) == 4  # each test has numbers of its own


def test_a_failure_names_the_seed(pytester):
    result = run(pytester, SEEDED, "--fgrad-seed=random")
    (seed,) = re.findall(r"^fgrad: seed (\d+)$", result.stdout.str(), re.MULTILINE)
    result.stdout.fnmatch_lines(["*- fgrad -*", f"drawn with --fgrad-seed {seed}"])
    assert result.stdout.str().count("drawn with") == 1


def test_workers_are_told_the_seed(pytester):
    """pytest-xdist hands the options of its first process on."""
    assert pytester.parseconfigure("--fgrad-seed=random").option.fgrad_seed.isdecimal()


# --- profiles --------------------------------------------------------------------------------------------------------
COUNTING = """
    from hypothesis import given, settings, strategies as st
    seen = []
    @given(st.integers())
    def test_counted(n):
        seen.append(n)
    def test_count():
        print("profile", settings().max_examples, settings().deadline, settings().print_blob, len(seen))
"""


@pytest.mark.parametrize(
    ("options", "ini", "line"),
    [
        ([], "", "*profile 100 *"),
        (["--fgrad-profile=fast"], "", "*profile 10 None True 10"),
        (["--fgrad-profile=thorough"], "fast", "*profile 200 None True 200"),
        ([], "fast", "*profile 10 None True 10"),
        (["--hypothesis-profile=fgrad-thorough"], "fast", "*profile 200 None True 200"),
    ],
)
def test_profiles_set_the_number_of_examples(pytester, options, ini, line):
    if ini:
        pytester.makeini(f"[pytest]\nfgrad_profile = {ini}")
    result = run(pytester, COUNTING, "-s", *options)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([line])


@pytest.mark.parametrize(("where", "derandomized"), [("1", True), ("", False)])
def test_fast_examples_are_the_same_every_time_in_ci(pytester, monkeypatch, where, derandomized):
    monkeypatch.delenv("CI", raising=False)
    if where:
        monkeypatch.setenv("CI", where)
    code = f"from hypothesis import settings\ndef test(): assert settings().derandomize is {derandomized}"
    run(pytester, code, "--fgrad-profile=fast").assert_outcomes(passed=1)


def test_profiles_without_hypothesis(pytester, monkeypatch):
    found = _fgrad_pytest.importlib.util.find_spec
    monkeypatch.setattr(
        _fgrad_pytest.importlib.util, "find_spec", lambda name: None if name == "hypothesis" else found(name)
    )
    result = run(pytester, "def test(): pass", "--fgrad-profile=thorough")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["fgrad: profile thorough (without effect: Hypothesis is not installed), seed 0"])


@pytest.mark.parametrize(
    ("options", "ini", "message"),
    [
        (["--fgrad-seed=-1"], "", "*--fgrad-seed: must be a non-negative integer or 'random', got '-1'."),
        (["--fgrad-seed=x"], "", "*--fgrad-seed: must be a non-negative integer or 'random', got 'x'."),
        ([], "quick", "*fgrad_profile: must be one of fast, thorough, nightly, got 'quick'."),
        (["--fgrad-profile=quick"], "", "*argument --fgrad-profile: invalid choice: 'quick'*"),
    ],
)
def test_mistakes(pytester, options, ini, message):
    if ini:
        pytester.makeini(f"[pytest]\nfgrad_profile = {ini}")
    result = run(pytester, "def test(): pass", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


# --- the guard -------------------------------------------------------------------------------------------------------
def test_a_transformation_left_open_is_an_error_of_its_test_alone(pytester):
    result = run(
        pytester,
        """
        from fgrad.core.trace import EVAL, Trace, current_trace, using
        def test_leaves_it():
            using(Trace("vmap", EVAL)).__enter__()
            using(Trace("jvp", current_trace.get())).__enter__()
        def test_clean():
            assert current_trace.get() is EVAL
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*fgrad: a test must leave no transformation open, got jvp inside vmap after *::test_leaves_it. Leave each *"]
    )


def test_a_failed_test_that_leaves_one_open_shows_both(pytester):
    result = run(
        pytester,
        """
        import fgrad
        checking = fgrad.debug_nans()
        def test_both():
            checking.__enter__()
            assert 1 == 2
        """,
    )
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["*LeftOpenError: fgrad: *got debug_nans after*", "*assert 1 == 2*"])


def test_a_fixture_may_hold_a_checker_open(pytester):
    result = run(
        pytester,
        """
        import pytest
        import fgrad
        @pytest.fixture(scope="module")
        def nans():
            with fgrad.debug_nans():
                yield
        def test_one(nans): pass
        def test_two(nans):
            with pytest.raises(fgrad.errors.NonFiniteError):
                fgrad.numpy.log(-1.0)
        """,
    )
    result.assert_outcomes(passed=2)
