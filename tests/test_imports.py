"""The layers of docs/design/contracts.md hold: a module imports only from rows above its own.

The table in that page is the authority: it is read here, so that page and test cannot drift apart. Every import of
every file counts, also inside functions and under TYPE_CHECKING.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "docs" / "design" / "contracts.md"

# Imports allowed between two packages of one row: (importer, imported), each with everything inside it.
WITHIN_ROW = {
    ("fgrad.config", "fgrad.errors"),
    ("fgrad.tree_util", "fgrad.tree"),
    ("fgrad.core", "fgrad.kernels"),
    ("fgrad.compiler", "fgrad.transforms.dce"),
    ("fgrad.nn", "fgrad.random"),
    ("fgrad.api", "fgrad.autodiff"),
    ("fgrad.jacobians", "fgrad.autodiff"),
    ("fgrad.api", "fgrad.jacobians"),
}


class Import(NamedTuple):
    importer: str  # "fgrad.core.trace"
    target: str  # "fgrad.core.aval": always a module that exists, the package where only a name of it is imported
    line: int
    at_import: bool  # runs when the importer is loaded: not in a function, not under TYPE_CHECKING


def module_name(path: str) -> str:
    """'fgrad/core/' and 'fgrad/core/__init__.py' -> 'fgrad.core'; 'fgrad/tree.py' -> 'fgrad.tree'."""
    parts = path.removesuffix("/").removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def rows() -> dict[str, int]:
    """Module or package -> row, from the table in contracts.md: | row | `fgrad/...`, ... |."""
    table = {}
    for row, cell in re.findall(r"^\| *(\d+) *\|(.*)\|$", CONTRACTS.read_text(encoding="utf-8"), re.MULTILINE):
        for path in re.findall(r"`(fgrad/[^`]*)`", cell):
            table[module_name(path)] = int(row)
    return table


def entry(module: str) -> str | None:
    """The table's entry that a module falls under: the longest prefix; 'fgrad' itself is only fgrad/__init__.py."""
    prefix = module
    while prefix != "fgrad":
        if prefix in rows():
            return prefix
        prefix = prefix.rpartition(".")[0]
    return "fgrad" if module == "fgrad" else None


def unit(module: str) -> str:
    """The top-level module or package: 'fgrad.core.aval' -> 'fgrad.core'."""
    return ".".join(module.split(".")[:2])


@cache
def modules() -> dict[str, Path]:
    return {module_name(path.relative_to(ROOT).as_posix()): path for path in sorted((ROOT / "fgrad").rglob("*.py"))}


def resolve(target: str) -> str | None:
    """The module that an imported dotted name lives in: 'fgrad.core.aval.Aval' -> 'fgrad.core.aval'."""
    while target and target not in modules():
        target = target.rpartition(".")[0]
    return target or None


def imported_names(node: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Dotted names that a statement imports, relative ones resolved; import_module("fgrad.x") counts too."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = module.split(".")[: len(module.split(".")) - node.level + is_package]
            base = ".".join(package + ([node.module] if node.module else []))
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if function in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            yield node.args[0].value


def imports_of(source: str, module: str, is_package: bool) -> list[Import]:
    found = []

    def visit(node: ast.AST, at_import: bool) -> None:
        for name in imported_names(node, module, is_package):
            target = resolve(name)
            if target and target != module:
                found.append(Import(module, target, node.lineno, at_import))  # type: ignore[attr-defined]
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.iter_child_nodes(node):
            visit(child, at_import and not later and not typing_only)

    visit(ast.parse(source), True)
    return list(dict.fromkeys(found))  # `from m import a, b` is one import of m


@cache
def all_imports() -> list[Import]:
    return [
        found
        for module, path in modules().items()
        for found in imports_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
    ]


def inside(module: str, package: str) -> bool:
    return module == package or (package != "fgrad" and module.startswith(f"{package}."))


def allowed_within_row(found: Import) -> bool:
    return any(inside(found.importer, a) and inside(found.target, b) for a, b in WITHIN_ROW)


def complaint(found: Import) -> str | None:
    """Why an import breaks the layers, or None."""
    importer, target = entry(found.importer), entry(found.target)
    where = f"{found.importer} line {found.line} imports {found.target}"
    if importer is None or target is None:
        return None  # test_every_module_has_a_row reports it
    above, below = rows()[target], rows()[importer]
    if above < below or importer == target:
        return None
    if above == below and (unit(importer) == unit(target) or allowed_within_row(found)):
        return None
    return (
        f"{where}: row {below} ({importer}) may not import row {above} ({target}). Move what is shared to a row above "
        "both, or pass it in as an argument."
    )


def test_the_table_is_read():
    assert rows()["fgrad.errors"] == 0 and rows()["fgrad.core.aval"] == 1 and rows()["fgrad.core"] == 2
    assert rows()["fgrad"] == max(rows().values()) == 11
    assert sorted(set(rows().values())) == list(range(12))


@pytest.mark.parametrize("row", range(12))
def test_every_entry_of_the_table_exists(row):
    missing = [name for name, r in rows().items() if r == row and name not in modules()]
    assert not missing, f"row {row} of contracts.md names modules that do not exist: {missing}"


def test_every_module_has_a_row():
    homeless = [name for name in modules() if entry(name) is None]
    assert not homeless, f"no row of contracts.md holds {homeless}: add them to the table"


def test_imports_follow_the_rows():
    complaints = [text for found in all_imports() if (text := complaint(found))]
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize(
    ("source", "module", "refused"),
    [
        ("from fgrad.core.aval import Aval", "fgrad.kernels.plan", False),
        ("import fgrad.core.trace", "fgrad.kernels.plan", True),
        ("from fgrad import kernels", "fgrad.core.trace", False),
        ("def f():\n    from ..core import trace", "fgrad.kernels.plan", True),
        ("from . import trace", "fgrad.core.aval", True),
        ("from fgrad.core import aval", "fgrad.core.trace", False),
        ("import importlib\nimportlib.import_module('fgrad.lax')", "fgrad.primitives.conv", True),
        ("from fgrad.compiler import x", "fgrad.transforms.jvp", True),
        ("from fgrad.transforms import dce", "fgrad.compiler.simplify", False),
        ("from fgrad.transforms.jvp import x", "fgrad.compiler.simplify", True),
        ("import fgrad", "fgrad.nn", True),
        ("from fgrad.random import key", "fgrad.nn", False),
        ("from fgrad.nn import x", "fgrad.random", True),
    ],
)
def test_the_check_sees_each_way_to_import(source, module, refused, monkeypatch):
    """On a tree of the table's own entries plus the modules named above, whatever exists today."""
    tree = {name: Path() for name in [*rows(), "fgrad.core.trace", "fgrad.kernels.plan", "fgrad.transforms.dce"]}
    monkeypatch.setattr(sys.modules[__name__], "modules", lambda: tree)
    complaints = [text for found in imports_of(source, module, is_package=False) if (text := complaint(found))]
    assert bool(complaints) == refused, complaints


def load_graph() -> dict[str, set[str]]:
    """Module -> modules that must be loaded before it is done.

    Importing fgrad.core.aval first loads the package fgrad.core, so a module outside fgrad.core depends on its
    ``__init__`` too; a module inside finds the package already begun. The root package is always begun first.
    """
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for found in all_imports():
        if found.at_import:
            graph[found.importer].add(found.target)
            parent = found.target.rpartition(".")[0]
            while parent not in ("", "fgrad") and not f"{found.importer}.".startswith(f"{parent}."):
                if parent in graph:
                    graph[found.importer].add(parent)
                parent = parent.rpartition(".")[0]
    return graph


def test_no_import_cycle():
    graph = load_graph()
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        assert module not in path, "import cycle: " + " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for target in sorted(graph[module]):
                visit(target, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])


def test_import_fgrad_loads_nothing_heavy():
    heavy = ("numba", "llvmlite", "scipy", "matplotlib", "tqdm", "jax", "torch")
    code = f"import sys, fgrad; print(*(name for name in {heavy!r} if name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not loaded.split(), f"`import fgrad` loads {loaded.split()}: import them where they are first used"
