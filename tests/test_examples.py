"""Every ``>>>`` example that a user can read is run: the README, the pages of docs/, the docstrings of fgrad.

In a Markdown page the ```python blocks with a prompt run from top to bottom in one namespace, so that a page may build
on what it has shown; each docstring starts afresh with its module's names.  ``...`` in an expected output stands for
anything, and runs of blanks are equal.
"""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Only files with an example are imported: the others may need an optional package.
SOURCES = [path for path in sorted((ROOT / "fgrad").rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]

# FAIL_FAST: after a failure the later examples of the same text mostly fail for want of its names.
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.FAIL_FAST
BLOCK = re.compile(r"^( *)```python[^\n]*\n(.*?)^\1``` *$", re.MULTILINE | re.DOTALL)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def page_examples(path: Path) -> list[doctest.DocTest]:
    text = path.read_text(encoding="utf-8")
    shared: dict[str, object] = {"__name__": path.stem}
    tests = []
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(2))
        # A name of its own: doctest looks a function's source up in the running text if the names are equal.
        test = doctest.DocTestParser().get_doctest(block[2], {}, f"{path.name}:{line}", str(path), line)
        test.globs = shared
        if test.examples:
            tests.append(test)
    return tests


def docstring_examples(path: Path) -> list[doctest.DocTest]:
    # From the source rather than from the live objects: doctest's own finder passes over whatever a decorator wrapped.
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    names = vars(importlib.import_module(module))
    tests = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            docstring = ast.get_docstring(node) or ""
            line = node.body[0].lineno - 1 if docstring else 0
            name = f"{module}.{getattr(node, 'name', '')}".rstrip(".")
            test = doctest.DocTestParser().get_doctest(docstring, names, name, str(path), line)
            if test.examples:
                tests.append(test)
    return tests


def run(tests: list[doctest.DocTest]) -> None:
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    for test in tests:
        runner.run(test, out=report.append, clear_globs=False)
    assert runner.failures == 0, "\n" + "".join(report)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_page(page):
    run(page_examples(page))


@pytest.mark.parametrize("source", SOURCES, ids=relative)
def test_docstrings(source):
    run(docstring_examples(source))


def test_a_wrong_example_fails(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\n>>> x = 2\n```\ntext\n```python\n>>> x + 1\n4\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"Expected:\s+4\s+Got:\s+3"):
        run(page_examples(page))
