"""The function under test: anybody's callable, given fresh copies of its arguments and watched while it runs.

A check sees it as a function of flat NumPy arrays.  Arguments keep the kind they were given in (NumPy arrays, fgrad
Arrays, Python numbers, arrays of another library through DLPack), so a function of NumPy arrays receives NumPy arrays.
Whatever it does that a function may not do is said in these words, before any number is compared.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad import tree
from fgrad.core import dtypes
from fgrad.core.array import Array, ConcreteArray
from fgrad.higher_order.arguments import check_callable, function_name, parameter_names
from fgrad.testing.report import errors, shown


# --- arrays of any library -------------------------------------------------------------------------------------------
def from_numpy(like: Any) -> Callable[[np.ndarray], Any]:
    """How a NumPy array becomes an array of the library that ``like`` is from."""
    if isinstance(like, Array):
        return lambda x: ConcreteArray(x, like.weak_type)
    if isinstance(like, np.ndarray):
        return lambda x: x
    if isinstance(like, np.generic):
        return lambda x: x[()]
    if isinstance(like, (bool, int, float, complex)):
        return lambda x: x.item()
    library = (
        like.__array_namespace__()
        if hasattr(like, "__array_namespace__")
        else importlib.import_module(type(like).__module__.partition(".")[0])
    )
    return library.from_dlpack


def to_numpy(x: Any) -> np.ndarray | None:
    """Anybody's array as a NumPy array of numbers; None if it is none."""
    if hasattr(x, "detach"):  # PyTorch refuses to export what is part of its graph
        x = x.detach()
    if not isinstance(x, (Array, np.ndarray, np.generic, bool, int, float, complex)):
        if not hasattr(x, "__dlpack__"):
            return None
        x = np.from_dlpack(x)
    out = np.asarray(x)
    return out if out.dtype.kind in "biufc" or out.dtype == dtypes.bfloat16 else None


class Subject:
    """A function of flat NumPy arrays: ``f`` on arguments of the structure and the kinds of ``args``.

    leaves : the arguments' leaves as NumPy arrays, copied.
    names : how messages call each leaf: ``argument 'params'['w']``.
    active : the leaves that can be perturbed: those of floating dtype.
    out_names, out_tree : of the results, after the first call.
    real : complex arguments are refused.
    """

    def __init__(self, who: str, f: Any, args: Any, names: list[str] | None = None, *, real: bool = True):
        check_callable(who, f)
        if not isinstance(args, (tuple, list)):
            raise TypeError(
                f"{who}: args must be a tuple of the function's arguments, got {type(args).__name__}. Write (x,) for a "
                "function of one argument."
            )
        self.who, self.f = who, f
        given, self.in_tree = tree.tree_flatten(tuple(args))
        self.names = names or [
            f"argument '{name}'{path}"
            for name, arg in zip(parameter_names(f, len(args)), args)
            for path in tree.tree_paths(arg)
        ]
        self.leaves = [self._leaf(x, name, real) for x, name in zip(given, self.names)]
        self.make = [from_numpy(x) for x in given]
        self.foreign = [not isinstance(x, (Array, np.ndarray, np.generic, bool, int, float, complex)) for x in given]
        self.active = [i for i, x in enumerate(self.leaves) if dtypes.is_float(x.dtype)]
        self.out_names: list[str] = []
        self.out_shapes: list[tuple[int, ...]] = []
        self.out_tree: Any = None
        self.outs = self(self.leaves)
        self._check_repeatable("two calls with equal arguments")

    def _leaf(self, x: Any, name: str, real: bool) -> np.ndarray:
        found = to_numpy(x)
        if found is None:
            raise TypeError(
                f"{self.who}: args must hold arrays, numbers or pytrees of them, got {x!r} of type {type(x).__name__} "
                f"in {name}. Close over other values: lambda x: f(x, other)."
            )
        if real and found.dtype.kind == "c":
            raise TypeError(
                f"{self.who}: args must be real, got {found.dtype} in {name}. Check the real and imaginary parts of a "
                "complex function as functions of real arrays."
            )
        return np.array(found)  # a copy: its owner may change his

    # --- calling -----------------------------------------------------------------------------------------------------
    def arguments(self, leaves: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """The function's arguments made of copies of these leaves."""
        return tree.tree_unflatten(self.in_tree, [make(np.array(x)) for make, x in zip(self.make, leaves)])

    def __call__(self, leaves: Sequence[np.ndarray], f: Callable[..., Any] | None = None) -> list[np.ndarray]:
        """f's results, flat; or those of another function that is to do the same."""
        args = self.arguments(leaves)
        given = tree.tree_leaves(args)
        with np.errstate(all="ignore"):  # a step may leave the domain
            out = (f or self.f)(*args)
        self._check_arguments(given, leaves)
        return self._results(out)

    def _results(self, out: Any) -> list[np.ndarray]:
        leaves, treedef = tree.tree_flatten(out)
        paths = [f"result{path}" for path in tree.tree_paths(out)]
        found = []
        for x, path in zip(leaves, paths):
            value = to_numpy(x)
            if value is None:
                raise TypeError(
                    f"{self.who}: {self.name} must return arrays or pytrees of them, got {x!r} of type "
                    f"{type(x).__name__} as {path}. Return arrays, or leave the value out."
                )
            found.append(np.array(value))
        if not found:
            raise TypeError(
                f"{self.who}: {self.name} must return at least one array, got {out!r}. Return what shall be checked."
            )
        shapes = [x.shape for x in found]
        if self.out_tree is None:
            self.out_tree, self.out_names, self.out_shapes = treedef, paths, shapes
        if (treedef, shapes) != (self.out_tree, self.out_shapes):
            forms = [
                f"{tree.structure_text(t)} of shapes {s}"
                for t, s in ((self.out_tree, self.out_shapes), (treedef, shapes))
            ]
            raise AssertionError(
                f"{self.who}: {self.name} must return the same structure and shapes at every call, got {forms[0]} and "
                f"then {forms[1]}. They may not depend on values."
            )
        return found

    def _check_arguments(self, given: Sequence[Any], leaves: Sequence[np.ndarray]) -> None:
        for now, before, name in zip(given, leaves, self.names):
            after = to_numpy(now)
            assert after is not None  # it was made by self.make
            if not np.array_equal(after, before, equal_nan=dtypes.is_inexact(before.dtype)):
                at = "" if after.shape != before.shape else f" at index {first(errors(after, before) > 0)}"
                raise AssertionError(
                    f"{self.who}: {self.name} must not change its arguments, got {name} changed{at} by the call. Work "
                    "on a copy: x = x.copy()."
                )

    def _check_repeatable(self, when: str) -> None:
        for a, b, name in zip(self.outs, self(self.leaves), self.out_names):
            if a.shape != b.shape or a.dtype != b.dtype:
                got = f"{a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}"
            elif (errors(a, b) > 0).any():
                at = first(errors(a, b) > 0)
                got = f"{shown(a[at])} and {shown(b[at])} at index {at}"
            else:
                continue
            raise AssertionError(
                f"{self.who}: {self.name} must be a pure function, got different values of {name} from {when}: {got}. "
                "It is random or keeps a state: pass a key or a seed as an argument, and return the state."
            )

    def check_still_pure(self) -> None:
        """For a check that is about to report a difference: f is what it was at the beginning."""
        self._check_repeatable("its first call and a later one with equal arguments")

    # --- parts -------------------------------------------------------------------------------------------------------
    @property
    def name(self) -> str:
        return function_name(self.f)

    @property
    def floating(self) -> list[int]:
        """The results that have derivatives."""
        return [i for i, x in enumerate(self.outs) if dtypes.is_float(x.dtype)]

    @property
    def owners(self) -> list[int]:
        """Which argument each leaf belongs to."""
        return [k for k, child in enumerate(self.in_tree.children()) for _ in range(child.num_leaves)]

    def at(self, active: Sequence[np.ndarray]) -> list[np.ndarray]:
        """All leaves, with these for the active ones."""
        leaves = list(self.leaves)
        for i, x in zip(self.active, active):
            leaves[i] = x
        return leaves

    def move(self, active: Sequence[np.ndarray]) -> None:
        """To another point."""
        self.leaves = self.at(active)
        self.outs = self(self.leaves)

    def where(self, **notes: Any) -> str:
        """The last line of a report: the function, where it is defined, its arguments."""
        try:
            code = inspect.unwrap(self.f).__code__
            place = f" ({code.co_filename}:{code.co_firstlineno})"
        except AttributeError:  # builtin, or an object with __call__
            place = ""
        args = ", ".join(f"{x.dtype}{list(x.shape)}" for x in self.leaves)
        return "".join([f"  of {self.name}{place} at ({args})", *(f", {k} {v}" for k, v in notes.items())])


def first(mask: np.ndarray) -> tuple[int, ...]:
    """The index of the first True."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))
