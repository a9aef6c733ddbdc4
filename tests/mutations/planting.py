"""Plants a mistake in the source of a rule, in every function object that was made from it.

The module's source is compiled a second time with the mistake in it, and the code of each live function that differs is
exchanged.  A function stays the same object, so the mistake is in force wherever it is held: in slots, closures,
partials and tables.  The innermost function around the mistake counts its calls.
"""

import ast
import gc
import importlib
import inspect
import types
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, lru_cache
from itertools import accumulate
from typing import NamedTuple

COUNTER = "_mutation_ran"


class Edit(NamedTuple):
    """``old`` at this offset of the module's source becomes ``new``."""

    module: str
    start: int
    old: str
    new: str


class Ran:
    """How often the mistaken functions were called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


def source_of(module: str) -> str:
    return inspect.getsource(importlib.import_module(module))


def edit(module: str, function: str, old: str, new: str) -> Edit:
    """The one place in the function (by qualified name; '' for the whole module) that reads ``old``."""
    source = source_of(module)
    begin, end = span(source, find(source, function)) if function else (0, len(source))
    assert source.count(old, begin, end) == 1, f"{module}.{function} has {old!r} {source.count(old, begin, end)} times"
    # without what stands around the mistake to tell its place
    head = common(old, new)
    tail = common(old[head:][::-1], new[head:][::-1])
    start = source.index(old, begin, end) + head
    return Edit(module, start, old[head : len(old) - tail], new[head : len(new) - tail])


def common(a: str, b: str) -> int:
    """The number of characters that two texts begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


@contextmanager
def planted(*edits: Edit) -> Iterator[Ran]:
    """The edits, of different modules or places, in force."""
    ran = Ran()
    with ExitStack() as stack:
        for module in sorted({e.module for e in edits}):
            stack.enter_context(_exchanged(module, [e for e in edits if e.module == module], ran))
        yield ran


@contextmanager
def _exchanged(module: str, edits: Sequence[Edit], ran: Ran) -> Iterator[None]:
    names = vars(importlib.import_module(module))
    codes = changed_codes(module, edits)
    found = [(f, f.__code__, codes[key_of(f.__code__)]) for f in live_functions(module) if key_of(f.__code__) in codes]
    assert found, f"no live function of {module} holds the edit"
    names[COUNTER] = ran
    try:
        for function, _, code in found:
            function.__code__ = code
        yield
    finally:
        for function, code, _ in found:
            function.__code__ = code
        del names[COUNTER]


# --- code ------------------------------------------------------------------------------------------------------------
def live_functions(module: str) -> list[types.FunctionType]:
    """All that have the module's globals and come from its file: a search that the collector does in C."""
    names = vars(importlib.import_module(module))
    referrers = gc.get_referrers(names)
    return [f for f in referrers if type(f) is types.FunctionType and f.__code__.co_filename == names["__file__"]]


def key_of(code: types.CodeType) -> object:
    """Which code of its file: lambdas on one line differ in their columns."""
    return code.co_qualname, code.co_firstlineno, tuple(code.co_positions())


def changed_codes(module: str, edits: Sequence[Edit]) -> dict[object, types.CodeType]:
    """The code of each function that the edits change, by the key of what it replaces."""
    file, source = importlib.import_module(module).__file__, source_of(module)
    assert file is not None
    mutated = source
    for e in sorted(edits, key=lambda e: -e.start):  # from the end, so that earlier offsets stay
        assert mutated.startswith(e.old, e.start)
        mutated = mutated[: e.start] + e.new + mutated[e.start + len(e.old) :]
    module_tree = ast.parse(mutated)
    for e in edits:
        moved = sum(len(o.new) - len(o.old) for o in edits if o.start < e.start)
        _count(module_tree, mutated, e.start + moved, e.start + moved + len(e.new))
    new = compile(module_tree, file, "exec", dont_inherit=True)
    pairs = _pairs(_compiled(source, file), new)
    return {key_of(a): b for a, b in pairs if _differ(a, b)}


@cache
def _compiled(source: str, file: str) -> types.CodeType:
    return compile(source, file, "exec", dont_inherit=True)


def _pairs(a: types.CodeType, b: types.CodeType) -> Iterator[tuple[types.CodeType, types.CodeType]]:
    if len(_inner(a)) == len(_inner(b)):  # else a comprehension came or went: the function around it is a pair itself
        for x, y in zip(_inner(a), _inner(b)):
            yield x, y
            yield from _pairs(x, y)


def _inner(code: types.CodeType) -> list[types.CodeType]:
    return [c for c in code.co_consts if isinstance(c, types.CodeType)]


def _differ(a: types.CodeType, b: types.CodeType) -> bool:
    def own(c: types.CodeType) -> object:
        consts = [repr(x) for x in c.co_consts if not isinstance(x, types.CodeType)]
        return c.co_code, consts, c.co_names, c.co_varnames, c.co_freevars, c.co_cellvars

    inner = _inner(a), _inner(b)
    return own(a) != own(b) or len(inner[0]) != len(inner[1]) or any(map(_differ, *inner))


# --- source ----------------------------------------------------------------------------------------------------------
_parsed = cache(ast.parse)


def find(source: str, qualified: str) -> ast.FunctionDef:
    """The function of this name, as in ``outer.inner``; it is shared, and nobody changes it."""
    node: ast.AST = _parsed(source)
    for name in qualified.split("."):
        (node,) = [n for n in _nearest(node) if n.name == name]
    assert isinstance(node, ast.FunctionDef)
    return node


def _nearest(node: ast.AST) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield child
        else:
            yield from _nearest(child)


def span(source: str, node: ast.AST) -> tuple[int, int]:
    """The offsets of a node's first character and of the one after its last."""
    lines = _lines(source)

    def offset(line: int, column: int) -> int:  # columns count bytes
        start, text = lines[line - 1]
        return start + len(text.encode()[:column].decode())

    return offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]


@lru_cache(maxsize=64)  # mutated sources come once each
def _lines(source: str) -> list[tuple[int, str]]:
    """Each line, and at which offset it begins."""
    lines = source.splitlines(keepends=True)
    return list(zip(accumulate(map(len, lines), initial=0), lines))


def _count(tree: ast.AST, source: str, start: int, end: int) -> None:
    """The innermost function around these offsets calls the counter first."""
    inside = [x for x in _around(tree, source, start, end) if isinstance(x, ast.FunctionDef | ast.Lambda)]
    assert inside, "the edit is in no function"
    node = inside[-1]
    call = ast.Call(ast.Name(COUNTER, ast.Load()), [], [])
    if isinstance(node, ast.Lambda):
        node.body = new = ast.BoolOp(ast.Or(), [call, node.body])  # the counter returns None
    else:
        node.body.insert(0, new := ast.Expr(call))
    ast.fix_missing_locations(ast.copy_location(new, node))


def _around(node: ast.AST, source: str, start: int, end: int) -> Iterator[ast.AST]:
    """The nodes below this one that hold the offsets, from the outermost on."""
    for child in ast.iter_child_nodes(node):
        if hasattr(child, "lineno"):
            low, high = span(source, child)
            if not low <= start <= end <= high:
                continue
            yield child
        yield from _around(child, source, start, end)
