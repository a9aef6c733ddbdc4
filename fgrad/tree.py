"""Pytrees, on optree with JAX's meaning: tuples, lists, dicts, namedtuples and registered classes; None is empty."""

from __future__ import annotations

import builtins
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import optree

from fgrad.errors import TreeMismatchError

_NAMESPACE = "fgrad"
PyTreeDef: TypeAlias = optree.PyTreeSpec


def tree_flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], PyTreeDef]:
    """``(leaves, treedef)``, leaves in JAX's order (dicts by sorted key).

    >>> tree_flatten({"b": 1, "a": (2, None)})[0]
    [2, 1]
    """
    return optree.tree_flatten(tree, is_leaf, namespace=_NAMESPACE)


def tree_unflatten(treedef: PyTreeDef, leaves: Iterable[Any]) -> Any:
    """The tree of that structure with these leaves."""
    return treedef.unflatten(leaves)


def tree_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves, in JAX's order."""
    return optree.tree_leaves(tree, is_leaf, namespace=_NAMESPACE)


def tree_structure(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> PyTreeDef:
    """The structure without the leaves."""
    return optree.tree_structure(tree, is_leaf, namespace=_NAMESPACE)


def structure_text(treedef: PyTreeDef) -> str:
    """A structure as errors show it, leaves as stars.

    >>> structure_text(tree_structure({"w": 1, "b": (2, None)}))
    "{'b': (*, None), 'w': *}"
    """
    return repr(treedef).removeprefix("PyTreeSpec(").removesuffix(")").removesuffix(f", namespace={_NAMESPACE!r}")


def tree_map(f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """f on corresponding leaves; trees that differ raise TreeMismatchError naming the first difference.

    >>> tree_map(lambda a, b: a + b, {"w": 1, "b": 2}, {"w": 10, "b": 20})
    {'w': 11, 'b': 22}
    """
    leaves, treedef = tree_flatten(tree, is_leaf)
    columns = [leaves]
    for i, other in enumerate(rest):
        try:
            columns.append(treedef.flatten_up_to(other))
        except (ValueError, TypeError) as e:
            raise TreeMismatchError(
                f"tree_map: argument {i + 2} must have the structure of the first tree, got "
                f"{structure_text(tree_structure(other))} for {structure_text(treedef)} "
                f"({first_difference(tree, other)}). Pass matching trees."
            ) from e
    return treedef.unflatten([f(*xs) for xs in zip(*columns)])


def tree_reduce(f: Callable[[Any, Any], Any], tree: Any, *initial: Any) -> Any:
    """f(...f(f(initial, leaf0), leaf1)..., last leaf)."""
    return functools.reduce(f, tree_leaves(tree), *initial)


def tree_all(tree: Any) -> bool:
    """Whether every leaf is true."""
    return builtins.all(tree_leaves(tree))


def tree_transpose(outer: PyTreeDef, inner: PyTreeDef, tree: Any) -> Any:
    """A tree of shape outer∘inner as inner∘outer."""
    leaves = tree_leaves(tree)
    n = inner.num_leaves
    columns = [leaves[i::n] for i in range(n)]
    return inner.unflatten([outer.unflatten(c) for c in columns])


def tree_paths(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[str]:
    """A Python-like path for each leaf: ``['w'][0]``; the empty string for a bare leaf."""
    accessors, _, _ = optree.tree_flatten_with_accessor(tree, is_leaf, namespace=_NAMESPACE)
    return [a.codify("") for a in accessors]


def tree_flatten_with_path(tree: Any, is_leaf=None) -> tuple[list[tuple[str, Any]], PyTreeDef]:
    """([(path, leaf), ...], treedef)."""
    leaves, treedef = tree_flatten(tree, is_leaf)
    return list(zip(tree_paths(tree, is_leaf), leaves)), treedef


def first_difference(a: Any, b: Any) -> str:
    """Where two trees first differ, in words."""
    pa, pb = tree_paths(a), tree_paths(b)
    for x, y in zip(pa, pb):
        if x != y:
            return f"first difference: {x or 'a leaf'} against {y or 'a leaf'}"
    if len(pa) != len(pb):
        extra, side = (pa[len(pb)], "first") if len(pa) > len(pb) else (pb[len(pa)], "second")
        return f"first difference: only the {side} tree has {extra or 'a leaf'}"
    return "the same leaves in different containers"


def broadcast_prefix(prefix: Any, tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """One entry of ``prefix`` for each leaf of ``tree``; None counts as an entry.

    >>> broadcast_prefix((0, None), ({"a": 1, "b": 2}, 3))
    [0, 0, None]
    """
    out: list[Any] = []
    stop = is_leaf or (lambda x: x is None)
    prefix_leaves, treedef = optree.tree_flatten(prefix, stop, none_is_leaf=True, namespace=_NAMESPACE)
    subtrees = treedef.flatten_up_to(tree)
    for p, sub in zip(prefix_leaves, subtrees):
        out += [p] * len(tree_leaves(sub))
    return out


def register_pytree_node(
    cls: type, flatten: Callable[[Any], tuple[Sequence[Any], Any]], unflatten: Callable[[Any, Any], Any]
) -> None:
    """Makes instances of ``cls`` containers: flatten(x) -> (children, aux), unflatten(aux, children) -> x."""
    optree.register_pytree_node(cls, flatten, unflatten, namespace=_NAMESPACE)


def register_pytree_node_class(cls: type) -> type:
    """Class decorator using ``tree_flatten(self)`` and the class method ``tree_unflatten(aux, children)``."""
    register_pytree_node(cls, lambda x: x.tree_flatten(), cls.tree_unflatten)  # type: ignore[attr-defined]
    return cls


def register_dataclass(cls: type, data_fields: Sequence[str] | None = None, meta_fields: Sequence[str] = ()) -> type:
    """Makes a dataclass a container: data fields are children, meta fields are part of the structure."""
    names = [f.name for f in dataclasses.fields(cls)] if data_fields is None else list(data_fields)
    names = [n for n in names if n not in meta_fields]

    def flatten(x):
        return [getattr(x, n) for n in names], tuple(getattr(x, n) for n in meta_fields)

    def unflatten(aux, children):
        return cls(**dict(zip(names, children)), **dict(zip(meta_fields, aux)))

    register_pytree_node(cls, flatten, unflatten)
    return cls


class Partial:
    """``functools.partial`` that is a pytree: its arguments are leaves."""

    def __init__(self, func: Callable[..., Any], *args: Any, **kwargs: Any):
        self.func, self.args, self.kwargs = func, args, kwargs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.func(*self.args, *args, **self.kwargs, **kwargs)


register_pytree_node(Partial, lambda p: ((p.args, p.kwargs), p.func), lambda func, c: Partial(func, *c[0], **c[1]))


# JAX's short names, as in jax.tree.map.
flatten, unflatten, leaves, structure = tree_flatten, tree_unflatten, tree_leaves, tree_structure
map, reduce, all, transpose = tree_map, tree_reduce, tree_all, tree_transpose
