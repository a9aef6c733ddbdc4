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
    return _walk("tree_flatten", optree.tree_flatten, tree, is_leaf)


def _walk(name: str, walk: Callable[..., Any], tree: Any, is_leaf: Callable[[Any], bool] | None) -> Any:
    if is_leaf is not None and not callable(is_leaf):
        raise TypeError(f"{name}: is_leaf must be a function or None, got {is_leaf!r}. Pass a callable.")
    try:
        return walk(tree, is_leaf, namespace=_NAMESPACE)
    except RuntimeError as e:
        if is_leaf is None or not str(e).startswith("Unable to cast"):
            raise
    raise TypeError(f"{name}: is_leaf must return True or False, got something else. Use bool(...).")


def _check_structure(name: str, what: str, treedef: Any) -> None:
    if not isinstance(treedef, optree.PyTreeSpec):
        raise TypeError(
            f"{name}: {what} must be the structure of a tree, got {treedef!r} of type {type(treedef).__name__}. "
            "Use tree_structure(tree)."
        )


def tree_unflatten(treedef: PyTreeDef, leaves: Iterable[Any]) -> Any:
    """The tree of that structure with these leaves."""
    _check_structure("tree_unflatten", "treedef", treedef)
    if not isinstance(leaves, Iterable):
        raise TypeError(f"tree_unflatten: leaves must be a sequence, got {leaves!r}. Pass a list of them.")
    leaves = list(leaves)
    if len(leaves) != treedef.num_leaves:
        raise ValueError(
            f"tree_unflatten: needs {treedef.num_leaves} leaves for {structure_text(treedef)}, got {len(leaves)}. "
            "Pass one for each star."
        )
    return treedef.unflatten(leaves)


def tree_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves, in JAX's order."""
    return _walk("tree_leaves", optree.tree_leaves, tree, is_leaf)


def tree_structure(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> PyTreeDef:
    """The structure without the leaves."""
    return _walk("tree_structure", optree.tree_structure, tree, is_leaf)


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
    if not callable(f):
        raise TypeError(f"tree_map: needs a function, got {f!r} of type {type(f).__name__}. Pass a callable.")
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
    if not callable(f):
        raise TypeError(f"tree_reduce: needs a function, got {f!r} of type {type(f).__name__}. Pass a callable.")
    leaves = tree_leaves(tree)
    if not leaves and not initial:
        raise TypeError("tree_reduce: a tree without leaves needs an initial value, got none. Pass one.")
    return functools.reduce(f, leaves, *initial[:1])


def tree_all(tree: Any) -> bool:
    """Whether every leaf is true."""
    for leaf in tree_leaves(tree):
        try:
            if not leaf:
                return False
        except ValueError:
            raise TypeError(f"tree_all: leaves must be true or false, got {leaf!r}. Use .all() of an array.") from None
    return True


def tree_transpose(outer: PyTreeDef, inner: PyTreeDef, tree: Any) -> Any:
    """A tree of shape outer∘inner as inner∘outer."""
    _check_structure("tree_transpose", "outer", outer)
    _check_structure("tree_transpose", "inner", inner)
    leaves = tree_leaves(tree)
    n = inner.num_leaves
    if len(leaves) != n * outer.num_leaves:
        raise ValueError(
            f"tree_transpose: the tree must have {outer.num_leaves} times {n} leaves, for {structure_text(outer)} of "
            f"{structure_text(inner)}, got {len(leaves)}. Pass a tree of trees."
        )
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
    _check_class("register_pytree_node", cls)
    for what, function in (("flatten", flatten), ("unflatten", unflatten)):
        if not callable(function):
            raise TypeError(f"register_pytree_node: {what} must be a function, got {function!r}. Pass a callable.")
    try:
        optree.register_pytree_node(cls, flatten, unflatten, namespace=_NAMESPACE)
    except ValueError:
        raise ValueError(
            f"register_pytree_node: a class is registered once, got {cls.__name__}, already registered. Keep the first."
        ) from None


def _check_class(name: str, cls: Any) -> None:
    if not isinstance(cls, type):
        raise TypeError(f"{name}: needs a class, got {cls!r} of type {type(cls).__name__}. Pass the class itself.")


def register_pytree_node_class(cls: type) -> type:
    """Class decorator using ``tree_flatten(self)`` and the class method ``tree_unflatten(aux, children)``."""
    _check_class("register_pytree_node_class", cls)
    if not (hasattr(cls, "tree_flatten") and hasattr(cls, "tree_unflatten")):
        raise TypeError(
            f"register_pytree_node_class: the class must have tree_flatten and tree_unflatten, got {cls.__name__}. "
            "Define them, or use register_pytree_node."
        )
    register_pytree_node(cls, lambda x: x.tree_flatten(), cls.tree_unflatten)
    return cls


def register_dataclass(cls: type, data_fields: Sequence[str] | None = None, meta_fields: Sequence[str] = ()) -> type:
    """Makes a dataclass a container: data fields are children, meta fields are part of the structure."""
    _check_class("register_dataclass", cls)
    for what, fields in (("data_fields", data_fields), ("meta_fields", meta_fields)):
        if fields is not None and not (
            isinstance(fields, tuple | list) and builtins.all(isinstance(n, str) for n in fields)
        ):
            raise TypeError(f"register_dataclass: {what} must be names of fields, got {fields!r}. Pass a list of them.")
    if data_fields is None and not dataclasses.is_dataclass(cls):
        raise TypeError(f"register_dataclass: needs a dataclass, got {cls.__name__}. Decorate it, or name data_fields.")
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
        if not callable(func):
            raise TypeError(f"Partial: needs a function, got {func!r} of type {type(func).__name__}. Pass a callable.")
        self.func, self.args, self.kwargs = func, args, kwargs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.func(*self.args, *args, **self.kwargs, **kwargs)


register_pytree_node(Partial, lambda p: ((p.args, p.kwargs), p.func), lambda func, c: Partial(func, *c[0], **c[1]))


# JAX's short names, as in jax.tree.map.
flatten, unflatten, leaves, structure = tree_flatten, tree_unflatten, tree_leaves, tree_structure
map, reduce, all, transpose = tree_map, tree_reduce, tree_all, tree_transpose
