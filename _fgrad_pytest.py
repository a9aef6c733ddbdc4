"""The pytest plugin of fgrad: fixtures, Hypothesis profiles, and the guard that no test leaves a transformation open.

pytest loads it wherever fgrad is installed (the entry point ``fgrad``), for test suites that never use fgrad too.  So
it lives outside of the package and imports nothing of it, nor NumPy or Hypothesis, before a test asks for a fixture or
somebody chooses a profile.  The page docs/testing.md shows how it is used.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import secrets
import sys
import zlib
from typing import Any

import pytest

# Examples of each Hypothesis test that does not say how many.
PROFILES = {"fast": 10, "thorough": 200, "nightly": 5000}
SEED = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fgrad", "fgrad: property tests of derivative rules")
    group.addoption(
        "--fgrad-profile",
        choices=tuple(PROFILES),
        help="how many examples Hypothesis draws: " + ", ".join(f"{n} ({k})" for k, n in PROFILES.items()) + ". They "
        "have no deadline. Default: the ini option fgrad_profile; without both Hypothesis's own profile stays.",
    )
    group.addoption(
        "--fgrad-seed",
        metavar="N",
        default="0",
        help="seed of the fixtures fgrad_seed and fgrad_rng: an integer, or 'random' for a new one. Default: 0.",
    )
    parser.addini("fgrad_profile", f"as --fgrad-profile: {', '.join(PROFILES)}", default="")


@pytest.hookimpl(tryfirst=True)  # Hypothesis loads what --hypothesis-profile names, and that may be one of ours
def pytest_configure(config: pytest.Config) -> None:
    config.stash[SEED] = _session_seed(config)
    profile = _profile(config)
    if profile and importlib.util.find_spec("hypothesis"):
        _load_profile(profile)


def _session_seed(config: pytest.Config) -> int:
    given = str(config.option.fgrad_seed)
    if given == "random":
        seed = secrets.randbelow(2**32)
    elif given.isdecimal():
        seed = int(given)
    else:
        raise pytest.UsageError(f"--fgrad-seed: must be a non-negative integer or 'random', got {given!r}.")
    config.option.fgrad_seed = str(seed)  # pytest-xdist hands the options on: its workers use the same seed
    return seed


def _profile(config: pytest.Config) -> str:
    name = config.option.fgrad_profile or config.getini("fgrad_profile")
    if name and name not in PROFILES:
        raise pytest.UsageError(f"fgrad_profile: must be one of {', '.join(PROFILES)}, got {name!r}.")
    return name


def _load_profile(profile: str) -> None:
    settings = importlib.import_module("hypothesis").settings
    for name, examples in PROFILES.items():
        # No deadline: the first example of a new kernel includes its compilation.  In CI the fast examples are the
        # same every time, so that a change is never blamed for an old fault.
        settings.register_profile(
            f"fgrad-{name}",
            max_examples=examples,
            deadline=None,
            print_blob=True,
            derandomize=name == "fast" and "CI" in os.environ,
        )
    settings.load_profile(f"fgrad-{profile}")


def pytest_report_header(config: pytest.Config) -> str | None:
    profile = _profile(config)
    seed = config.stash[SEED]
    parts = [f"profile {profile}"] if profile else []
    if profile and not importlib.util.find_spec("hypothesis"):
        parts[0] += " (without effect: Hypothesis is not installed)"
    if profile or seed:
        parts.append(f"seed {seed}")
    return f"fgrad: {', '.join(parts)}" if parts else None


# --- fixtures --------------------------------------------------------------------------------------------------------
@pytest.fixture(params=("float32", "float64"))
def fgrad_dtype(request: pytest.FixtureRequest) -> Any:
    """Both precisions, as a ``numpy.dtype``: the test runs once for each."""
    return importlib.import_module("numpy").dtype(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fgrad_backend" in metafunc.fixturenames:
        backends = importlib.import_module("fgrad.testing.backends").BACKENDS
        metafunc.parametrize("fgrad_backend", backends, indirect=True)


@pytest.fixture
def fgrad_backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend of fgrad in turn; skipped, with the reason, where one is not available."""
    if why := importlib.import_module("fgrad.testing.backends").BACKENDS[request.param].available():
        pytest.skip(f"{request.param}: {why}")
    return request.param


@pytest.fixture
def fgrad_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run, for the checks' ``seed=``: 0, or as ``--fgrad-seed`` says.  A failure's report names it."""
    return request.config.stash[SEED]


@pytest.fixture
def fgrad_rng(request: pytest.FixtureRequest, fgrad_seed: int) -> Any:
    """A ``numpy.random.Generator`` of this test alone: its numbers depend on the run's seed and the test's name."""
    numpy = importlib.import_module("numpy")
    return numpy.random.default_rng([fgrad_seed, zlib.crc32(request.node.nodeid.encode())])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.failed and "fgrad_seed" in getattr(item, "fixturenames", ()):
        report.sections.append(("fgrad", f"drawn with --fgrad-seed {item.config.stash[SEED]}"))
    return report


# --- the guard -------------------------------------------------------------------------------------------------------
class LeftOpenError(AssertionError):
    """A test ended in the middle of a transformation, which would go on to transform the tests after it."""


LEFT_OPEN = pytest.StashKey[str]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    # A fixture may hold something open for its tests (``with fgrad.debug_nans(): yield``): what counts is the change.
    before = _transformation()
    try:
        return (yield)
    finally:
        after = _transformation()
        if after is not before:
            item.stash[LEFT_OPEN] = _names(after, before)
            trace = sys.modules["fgrad.core.trace"]
            trace.current_trace.set(before or trace.EVAL)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Any:
    try:
        return (yield)
    finally:
        if left := item.stash.get(LEFT_OPEN, ""):
            raise LeftOpenError(
                f"fgrad: a test must leave no transformation open, got {left} after {item.nodeid}. Leave each context "
                "manager that it enters (with, or a finally), and make what sets a trace reset it."
            )


def _transformation() -> Any:
    """The trace that interprets operations now; None for plain evaluation, and while nobody has imported fgrad."""
    trace = sys.modules.get("fgrad.core.trace")
    current = trace.current_trace.get() if trace else None
    return None if trace and current is trace.EVAL else current


def _names(trace: Any, outer: Any) -> str:
    """The transformations from ``trace`` out to ``outer``, innermost first."""
    names = []
    while trace is not None and trace is not outer and trace.parent is not None:
        names.append(trace.name)
        trace = trace.parent
    return " inside ".join(names) or "the end of one that a fixture had begun"
