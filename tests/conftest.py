"""What every test shares: the oracles (JAX, PyTorch) where they are installed.  The rest is in _fgrad_pytest.py."""

import functools
import importlib
import importlib.util
import warnings

import pytest

pytest_plugins = "pytester"  # for the tests of fgrad's own plugin, which pytest loads by its entry point


def pytest_collection_modifyitems(items):
    """``@pytest.mark.oracle("jax", "torch")``: skipped unless every module named is installed; default jax.

    Leaks are looked for among all objects of the process, of which there are ten times as many after some thousand
    tests: those tests go first.
    """
    items.sort(key=lambda item: item.path.name != "test_leaks.py")
    for item in items:
        for marker in item.iter_markers("oracle"):
            for module in marker.args or ("jax",):
                if not _installed(module):
                    item.add_marker(
                        pytest.mark.skip(reason=f"{module} is not installed (`make test-oracle` brings it)")
                    )


@functools.cache
def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


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
