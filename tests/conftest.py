"""What every test shares: Hypothesis's profile and the oracles (JAX, PyTorch) where they are installed."""

import importlib
import importlib.util
import os
import warnings

import pytest
from hypothesis import settings

# No deadline: the first example of a new kernel structure includes its compilation. In CI the same examples every run.
settings.register_profile("fgrad", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("fgrad")


def pytest_collection_modifyitems(items):
    """``@pytest.mark.oracle("jax", "torch")``: skipped unless every module named is installed; default jax."""
    for item in items:
        for marker in item.iter_markers("oracle"):
            for module in marker.args or ("jax",):
                if importlib.util.find_spec(module) is None:
                    item.add_marker(
                        pytest.mark.skip(reason=f"{module} is not installed (`make test-oracle` brings it)")
                    )


def _import_oracle(name: str):
    # Another project's deprecations while it is imported are not ours to fail on.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


@pytest.fixture(scope="session")
def jax():
    """JAX with 64-bit types, on the CPU; for tests marked ``oracle``."""
    module = _import_oracle("jax")
    module.config.update("jax_enable_x64", True)
    module.config.update("jax_platforms", "cpu")
    return module


@pytest.fixture(scope="session")
def torch():
    """PyTorch; for tests marked ``oracle("torch")``."""
    return _import_oracle("torch")


@pytest.fixture(autouse=True)
def evaluating_afterwards():
    """No test, failed or not, leaves a transformation's trace behind."""
    yield
    from fgrad.core.trace import EVAL, current_trace

    assert current_trace.get() is EVAL
