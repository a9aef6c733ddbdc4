"""Everything public is on a page of the API, has documentation, and where JAX or a paper is the source says so."""

import importlib
import inspect
import re
import types
from pathlib import Path

import pytest

import fgrad
from fgrad import errors, extend, testing

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))

LISTED = re.findall(r"^\.\. auto\w+:: (fgrad\.[\w.]+)", PAGES, re.MULTILINE)
WHOLE = re.findall(r"^```\{api-module\} (fgrad[\w.]*)", PAGES, re.MULTILINE)  # lists all of a module by itself

# Modules with ``__all__``, by the name that users know.  Those of the second group also give a source and an example
# for each function.
MODULES = {
    name: importlib.import_module(name)
    for name in ("fgrad.numpy", "fgrad.numpy.linalg", "fgrad.nn", "fgrad.random", "fgrad.optim", "fgrad.datasets")
}
CHECKS = {"fgrad.testing": testing, "fgrad.testing.strategies": importlib.import_module("fgrad.testing.strategies")}
TRANSFORMATIONS = {
    "fgrad": fgrad,
    "fgrad.debug": fgrad.debug,
    "fgrad.ad_checkpoint": fgrad.ad_checkpoint,
}
EVERY = {
    "fgrad.lax": fgrad.lax,
    "fgrad.checkpoint_policies": fgrad.checkpoint_policies,
    "fgrad.extend": extend,
    **MODULES,
    **TRANSFORMATIONS,
    **CHECKS,
}
OUR_OWN = ("Scalar", "cache_info", "dilate_problems", "random_program")  # neither JAX nor a paper has them
LOOPS_AND_COLLECTIVES = ("control_flow", "branches", "associative", "collectives", "sorting", "cumulative")


def public(module):
    """Names and objects that are documented as functions or classes."""
    found = ((name, getattr(module, name)) for name in module.__all__)
    return [(n, v) for n, v in found if callable(v) and (getattr(v, "__module__", None) or "").startswith("fgrad")]


@pytest.mark.parametrize("module", EVERY)
def test_every_public_name_is_on_a_page(module):
    names = [] if module in WHOLE else [name for name, _ in public(EVERY[module])]
    missing = [n for n in names if f"{module}.{n}" not in LISTED and f"`{module}.{n}`" not in PAGES]
    if module in ("fgrad.extend", "fgrad.ad_checkpoint"):  # what they have from elsewhere is on that page
        missing = [n for n in missing if f"fgrad.{n}" not in LISTED and f"`fgrad.{n}`" not in PAGES]
    assert not missing, f"no page of docs/api/ lists {missing} of {module}"


@pytest.mark.parametrize("module", EVERY)
def test_every_public_name_is_documented(module):
    bare = [name for name, value in public(EVERY[module]) if not (value.__doc__ or "").strip()]
    assert not bare, f"{module}: no docstring of {bare}"


def with_example_and_source():
    for module in TRANSFORMATIONS.values():
        yield from ((name, value) for name, value in public(module) if name != "CacheInfo")  # cache_info returns it
    for name, value in public(fgrad.lax):
        if value.__module__.rpartition(".")[2] in LOOPS_AND_COLLECTIVES:
            yield name, value
    for module in CHECKS.values():
        yield from ((name, value) for name, value in public(module) if inspect.isfunction(value))
    yield from ((name, value) for name, value in public(extend) if name in ("elementwise", "primitive", "Scalar"))


@pytest.mark.parametrize(("name", "value"), [pytest.param(n, v, id=n) for n, v in with_example_and_source()])
def test_transformations_have_an_example_and_a_source(name, value):
    text = inspect.getdoc(value) or ""
    assert ">>> " in text, f"{name}: no example"
    assert "https://" in text or name in OUR_OWN, f"{name}: no source"


def test_every_exception_is_on_its_page_and_in_an_example():
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, Exception):
            assert f".. autoexception:: fgrad.errors.{name}\n" in page, name
            assert value is errors.FgradError or f"\nfgrad.errors.{name}: " in page, f"{name}: no example"


def test_every_module_is_public_under_its_name():
    modules = [name for name in fgrad.__all__ if isinstance(getattr(fgrad, name), types.ModuleType)]
    pages = {path.stem for path in (DOCS / "api").glob("*.md")}
    for name in modules:
        heading = name in pages or f"\n## fgrad.{name}\n" in PAGES or f"`fgrad.{name}`" in PAGES
        assert heading or name == "errors", f"fgrad.{name} is on no page of docs/api/"
