"""Mutations that nobody thought of: operators on the syntax of every function of rules, drawn with a fixed seed.

An operator changes one expression: + and - exchanged, < and <=, 0 and 1, a minus dropped, a condition negated, two
neighbouring operands exchanged.  What only decides whether to refuse an operand is left alone, as are messages, types
and the rules of backends: none of them is a rule that the laws speak of.  So are functions with a loop that a mutation
might keep from ending.
"""

import ast
import hashlib
import types
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from planting import Edit, find, source_of, span

from fgrad.core.backends import Unfilled
from fgrad.core.primitive import REGISTRY, OverAxis
from fgrad.testing.samples import table

COMMUTATIVE = ("min", "max", *[f"{name}_p.bind" for name in ("add", "mul", "max", "eq", "ne", "and", "or")])
EFFECTS = ("debug_callback",)  # nothing to compare: what they do is in the tests of callbacks
#: A mutated loop may never end; a branch's number out of range leaves the program.
UNSAFE = ("fgrad.higher_order.while_loop.", "fgrad.higher_order.cond._jvp")
SLOTS = ("abstract", "jvp", "transpose", "batch")
EXCHANGED = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.FloorDiv: "*",
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
    ast.And: "or", ast.Or: "and",
}  # fmt: skip


class Mutation(NamedTuple):
    """An edit of a function, and whose rules run it: nearest first."""

    function: str
    edit: Edit
    slot: str
    primitives: tuple[str, ...]

    def __str__(self) -> str:
        before, after = (" ".join(text.split()) for text in (self.edit.old, self.edit.new))
        return f"{self.edit.module.removeprefix('fgrad.')}.{self.function}: {before} -> {after}"


def drawn(seed: int) -> list[Mutation]:
    """One mutation of each function.  Which, is a matter of its own text: it stays as long as the function does."""

    def rank(m: Mutation) -> str:
        return hashlib.sha256(f"{seed} {m}".encode()).hexdigest()

    found = [list(mutations(*place, uses)) for place, uses in sorted(reached().items())]
    return [min(of_one, key=rank) for of_one in found if of_one]


# --- the functions that rules are made of ----------------------------------------------------------------------------
@cache
def reached() -> dict[tuple[str, str], list[tuple[int, str, str]]]:
    """(module, function) -> (calls between, primitive, slot) for each rule that reaches it, nearest first."""
    found: dict[tuple[str, str], list[tuple[int, str, str]]] = {}
    for name in sorted(table().keys() - set(EFFECTS)):
        for slot in SLOTS:
            rule = getattr(REGISTRY[name], slot)
            rule = rule.rule if isinstance(rule, OverAxis) else rule
            if isinstance(rule, types.FunctionType) and not isinstance(rule, Unfilled):
                for place, distance in _from(rule).items():
                    found.setdefault(place, []).append((distance, name, slot))
    return {place: sorted(uses) for place, uses in found.items()}


def _from(rule: types.FunctionType) -> dict[tuple[str, str], int]:
    """The functions of rules' modules that a rule calls, and through how many others."""
    distances: dict[tuple[str, str], int] = {}
    level, seen = [rule], {id(rule)}
    for distance in range(3):
        following = []
        for function in level:
            module = function.__module__
            if module.startswith(("fgrad.primitives.", "fgrad.higher_order.")):
                name = function.__qualname__.replace(".<locals>", "")
                ours = "<" not in name and not name.endswith("_reference")  # a lambda stands in a table
                if ours and not f"{module}.{name}".startswith(UNSAFE):
                    distances.setdefault((module, name), distance)
                following += [f for f in _called(function) if id(f) not in seen]
                seen.update(map(id, following))
        level = following
    return distances


def _called(function: types.FunctionType) -> Iterator[types.FunctionType]:
    cells = [c.cell_contents for c in function.__closure__ or ()]
    for value in [*cells, *(function.__globals__.get(name) for name in _names(function.__code__))]:
        if isinstance(value, types.FunctionType):
            yield value


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _names(inner)


# --- mutations of one function ---------------------------------------------------------------------------------------
def mutations(module: str, function: str, uses: list[tuple[int, str, str]]) -> Iterator[Mutation]:
    source = source_of(module)
    _, _, slot = uses[0]
    primitives = tuple(dict.fromkeys([name for _, name, s in uses if s == slot]))[:4]
    node = find(source, function)
    if any(a.arg == "s" for a in node.args.args):  # the rule of a scalar kernel
        return
    if any(isinstance(n, ast.While) for n in ast.walk(node)):
        return
    for changed, text in _changes(node, source):
        start, end = span(source, changed)
        old = source[start:end]
        if old != text:
            yield Mutation(function, Edit(module, start, old, text), slot, primitives)


def _changes(function: ast.FunctionDef, source: str) -> Iterator[tuple[ast.expr, str]]:
    """(an expression, its mutated text)"""
    for node in _expressions(function.body):
        parts = [
            source[slice(*span(source, child))] for child in ast.iter_child_nodes(node) if hasattr(child, "lineno")
        ]
        match node:
            case ast.BinOp(op=op) if type(op) in EXCHANGED:
                yield node, f"({parts[0]}) {EXCHANGED[type(op)]} ({parts[1]})"
            case ast.Compare(ops=[op]) if type(op) in EXCHANGED:
                yield node, f"{parts[0]} {EXCHANGED[type(op)]} {parts[1]}"
            case ast.BoolOp(op=op, values=[_, _]):
                yield node, f"({parts[0]}) {EXCHANGED[type(op)]} ({parts[1]})"
            case ast.UnaryOp(op=ast.USub() | ast.Not()):
                yield node, f"({parts[0]})"
            case ast.Constant(value=bool(value)):
                yield node, str(not value)
            case ast.Constant(value=int(value)) if value in (0, 1):
                yield node, str(1 - value)
            case ast.Call(args=[*_, a, b], keywords=[]) if not isinstance(a, ast.Starred) | isinstance(b, ast.Starred):
                texts = [source[slice(*span(source, x))] for x in (node.func, *node.args)]
                if texts[0] in COMMUTATIVE or texts[0].rpartition(".")[2].lstrip("_").startswith("check"):
                    continue
                texts[-2:] = texts[-1], texts[-2]
                yield node, f"{texts[0]}({', '.join(texts[1:])})"


def _expressions(nodes: list[ast.stmt]) -> Iterator[ast.expr]:
    """Every expression but annotations, messages and the conditions of refusals."""
    for statement in nodes:
        if isinstance(statement, ast.Raise | ast.Assert | ast.ImportFrom):
            continue
        if isinstance(statement, ast.If) and isinstance(statement.body[0], ast.Raise):
            yield from _expressions(statement.orelse)
            continue
        for field, value in ast.iter_fields(statement):
            if field in ("annotation", "decorator_list", "returns", "args", "targets"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.stmt):
                    yield from _expressions([child])
                elif isinstance(child, ast.expr):
                    yield from _outside_text(child)


def _outside_text(root: ast.expr) -> Iterator[ast.expr]:
    nodes = list(ast.walk(root))
    within = {id(n) for text in nodes if isinstance(text, ast.JoinedStr) for n in ast.walk(text)}
    return (n for n in nodes if isinstance(n, ast.expr) and id(n) not in within)
