"""The derivative that a check is about: fgrad's own of a function, PyTorch's, or one written by hand.

A rule is seen as a linear map between flat lists: tangents of the active leaves to tangents of the floating results
(``Pushforward``), or cotangents of the floating results to cotangents of the active leaves (``Pullback``).
"""

from __future__ import annotations

import abc
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad import autodiff, tree
from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.higher_order.arguments import check_callable, function_name
from fgrad.testing.functions import Subject, first, to_numpy
from fgrad.testing.report import compare, errors, rounding, wide


class Rule(abc.ABC):
    """What the two kinds of rules share: the subject, and watching a rule written by hand."""

    kind = ""  # the name of the check's option

    def __init__(self, subject: Subject, given: Callable[..., Any] | None):
        if given is not None:
            check_callable(f"{subject.who}: {self.kind}", given)
        elif not subject.active:
            raise TypeError(
                f"{subject.who}: {subject.name} must have a floating-point argument to be differentiable in, got "
                f"{[str(x.dtype) for x in subject.leaves]}. Convert one with .astype."
            )
        if not subject.floating:
            raise TypeError(
                f"{subject.who}: {subject.name} must have a floating-point result to be differentiable, got "
                f"{[str(x.dtype) for x in subject.outs]}. Convert one with .astype."
            )
        self.subject, self.given = subject, given
        self.name = function_name(given) if given else "fgrad"
        self.of = [subject.leaves[i] for i in subject.active]
        self.into = [subject.outs[i] for i in subject.floating]

    def bad(self, constraint: str, got: str, remedy: str) -> TypeError:
        return TypeError(f"{self.subject.who}: {self.kind} must {constraint}, got {got} from {self.name}. {remedy}")

    def active_function(self) -> Callable[..., list[Array]]:
        """The function of the active leaves alone that fgrad differentiates: its floating results."""
        subject = self.subject
        leaves = [make(np.array(x)) for make, x in zip(subject.make, subject.leaves)]

        def function(*active):
            full = list(leaves)
            for i, x in zip(subject.active, active):
                full[i] = x
            out = subject.f(*tree.tree_unflatten(subject.in_tree, full))
            found = tree.tree_leaves(out)
            return [lift(found[i]) for i in subject.floating]

        return function

    def call(self, *args: Any) -> Any:
        """The rule written by hand, on its own copies, which it may not change."""
        assert self.given is not None
        before = [to_numpy(x) for x in tree.tree_leaves(args)]
        kept = [None if x is None else np.array(x) for x in before]
        out = self.given(*args)
        for x, was in zip(tree.tree_leaves(args), kept):
            now = to_numpy(x)
            if was is not None and now is not None and (errors(now, was) > 0).any():
                raise AssertionError(
                    f"{self.subject.who}: {self.kind} must not change its arguments, got an array {was.dtype}"
                    f"{list(was.shape)} changed by {self.name} at index {first(errors(now, was) > 0)}. Work on a copy: "
                    "x = x.copy()."
                )
        return out

    def flat(self, x: Any, what: str, like: np.ndarray) -> np.ndarray:
        """One array that a rule returned, checked against what it belongs to."""
        found = to_numpy(x)
        if found is None:
            raise self.bad("return arrays", f"{x!r} of type {type(x).__name__} as {what}", "Return an array.")
        if found.shape != like.shape:
            raise self.bad(
                f"return {what} in the shape of what it belongs to", f"{found.shape} for {like.shape}",
                "Sum over the axes that were broadcast, or reshape.",
            )  # fmt: skip
        return wide(found)

    def check_repeatable(self, vectors: Sequence[np.ndarray]) -> None:
        """A rule written by hand gives the same bits again."""
        if self.given is None:
            return
        for a, b in zip(self(vectors), self(vectors)):
            if (errors(a, b) > 0).any():
                raise AssertionError(
                    f"{self.subject.who}: {self.kind} must be a pure function, got different values from two calls of "
                    f"{self.name} with equal arguments, at index {first(errors(a, b) > 0)}. It is random or keeps a "
                    "state."
                )

    @abc.abstractmethod
    def __call__(self, vectors: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The linear map of flat lists."""


class Pullback(Rule):
    """Cotangents of the floating results -> cotangents of the active leaves."""

    kind = "vjp"

    def __init__(self, subject: Subject, given: Callable[..., Any] | None):
        if given is None and any(subject.foreign):
            given = torch_vjp(subject)
        super().__init__(subject, given)

    def __call__(self, vectors: Sequence[np.ndarray]) -> list[np.ndarray]:
        cts = [v.astype(x.dtype) for v, x in zip(vectors, self.into)]
        if self.given is None:
            _, pull = autodiff.vjp(self.active_function(), *map(lift, self.of))
            return [wide(bar) for bar in pull([lift(ct) for ct in cts])]
        return self._by_hand(cts)

    def _by_hand(self, cts: list[np.ndarray]) -> list[np.ndarray]:
        s = self.subject
        args = s.arguments(s.leaves)
        given = {i: ct for i, ct in zip(s.floating, cts)}
        make = foreign_maker(s)
        full = [make(given[i]) if i in given else np.zeros(x.shape, dtypes.float0) for i, x in enumerate(s.outs)]
        bars = self.call(tree.tree_unflatten(s.out_tree, full), *args)
        remedy = "Return None for an argument that the result does not depend on."
        return self._leaves(args, self.entries(bars, len(args), f"the {len(args)} arguments", remedy))

    def entries(self, bars: Any, n: int, of: str, remedy: str) -> Sequence[Any]:
        """What a rule returned as one entry for each of n arguments; one alone may come without a tuple."""
        if n == 1 and not isinstance(bars, (tuple, list)):
            return (bars,)
        if not isinstance(bars, (tuple, list)) or len(bars) != n:
            got = f"{len(bars)} entries" if isinstance(bars, (tuple, list)) else f"a {type(bars).__name__}"
            raise self.bad(f"return a tuple with a cotangent for each of {of}", got, remedy)
        return bars

    def _leaves(self, args: Sequence[Any], bars: Sequence[Any]) -> list[np.ndarray]:
        """The cotangents of the active leaves; None stands for zeros."""
        found: list[Any] = []
        for i, (arg, bar) in enumerate(zip(args, bars)):
            of, structure = tree.tree_flatten(arg)
            if bar is None:
                found += [None] * len(of)
            elif (got := tree.tree_structure(bar)) == structure:
                found += tree.tree_leaves(bar)
            else:
                raise self.bad(
                    f"return cotangents in the structure of argument {i}, {tree.structure_text(structure)}",
                    tree.structure_text(got), "Return the same containers.",
                )  # fmt: skip
        s = self.subject
        pairs = [(found[i], s.names[i], s.leaves[i]) for i in s.active]
        return [
            np.zeros(x.shape) if bar is None else self.flat(bar, f"the cotangent of {name}", x)
            for bar, name, x in pairs
        ]


class Pushforward(Rule):
    """Tangents of the active leaves -> tangents of the floating results."""

    kind = "jvp"

    def __init__(self, subject: Subject, given: Callable[..., Any] | None):
        if given is None and any(subject.foreign):
            raise TypeError(
                f"{subject.who}: jvp must be given for arrays of {library_of(subject)}, got none. Pass jvp=rule, "
                "called as rule(primals, tangents), or use check_vjp."
            )
        super().__init__(subject, given)

    def __call__(self, vectors: Sequence[np.ndarray]) -> list[np.ndarray]:
        ts = [v.astype(x.dtype) for v, x in zip(vectors, self.of)]
        if self.given is None:
            _, outs = autodiff.jvp(self.active_function(), tuple(map(lift, self.of)), tuple(map(lift, ts)))
            return [wide(t) for t in outs]
        return self._by_hand(ts)

    def _by_hand(self, ts: list[np.ndarray]) -> list[np.ndarray]:
        s = self.subject
        given = {i: t for i, t in zip(s.active, ts)}
        full = [
            make(given[i]) if i in given else np.zeros(x.shape, dtypes.float0)
            for i, (make, x) in enumerate(zip(s.make, s.leaves))
        ]
        pair = self.call(s.arguments(s.leaves), tree.tree_unflatten(s.in_tree, full))
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise self.bad("return a pair (result, tangent)", f"{type(pair).__name__}", "Return (out, tangent_out).")
        for what, part in zip(("result", "tangent"), pair):
            if (got := tree.tree_structure(part)) != s.out_tree:
                raise self.bad(
                    f"return a {what} in the structure of the function's, {tree.structure_text(s.out_tree)}",
                    tree.structure_text(got), "Return the same containers.",
                )  # fmt: skip
        values, tangents = map(tree.tree_leaves, pair)
        for value, want, name in zip(values, s.outs, s.out_names):
            limit = rounding(want.dtype, terms=max(want.size, 1))
            compare(s.who, name, (f"jvp {self.name}", s.name), self.flat(value, name, want), want, limit, s.where())
        return [self.flat(tangents[i], f"the tangent of {s.out_names[i]}", s.outs[i]) for i in s.floating]


# --- other libraries -------------------------------------------------------------------------------------------------
def foreign_maker(subject: Subject) -> Callable[[np.ndarray], Any]:
    """How cotangents are made for a rule: arrays of the library that the arguments are from."""
    for make, foreign in zip(subject.make, subject.foreign):
        if foreign:
            return make
    return lambda x: x


def library_of(subject: Subject) -> str:
    """The package that the first array from elsewhere is from."""
    leaves = tree.tree_leaves(subject.arguments(subject.leaves))
    return next(type(x).__module__.partition(".")[0] for x, foreign in zip(leaves, subject.foreign) if foreign)


def torch_vjp(subject: Subject) -> Callable[..., Any]:
    """The backward pass that PyTorch runs for a function of tensors, ``autograd.Function.apply`` included."""
    if (library := library_of(subject)) != "torch":
        raise TypeError(
            f"{subject.who}: vjp must be given for arrays of {library}, got none. Pass vjp=backward, called as "
            "backward(ct, *args)."
        )
    torch = importlib.import_module("torch")

    def backward(ct, *args):
        leaves, structure = tree.tree_flatten(args)
        leaves = [x.detach().requires_grad_(x.is_floating_point()) if torch.is_tensor(x) else x for x in leaves]
        of = [x for x in leaves if torch.is_tensor(x) and x.requires_grad]
        outs = tree.tree_leaves(subject.f(*tree.tree_unflatten(structure, leaves)))
        pairs = [(o, c) for o, c in zip(outs, tree.tree_leaves(ct)) if torch.is_tensor(o) and o.requires_grad]
        bars = iter(
            torch.autograd.grad([o for o, _ in pairs], of, [c for _, c in pairs], materialize_grads=True)
            if pairs
            else map(torch.zeros_like, of)
        )
        # what has no derivative is not looked at
        return tree.tree_unflatten(structure, [next(bars) if any(x is y for y in of) else x for x in leaves])

    return backward
