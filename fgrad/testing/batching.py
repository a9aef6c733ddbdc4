"""check_batching: vmap is the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad import tree
from fgrad.api import vmap
from fgrad.core import dtypes
from fgrad.core.array import ConcreteArray, aval_of
from fgrad.testing.agreement import Agreement, noting, subject_of
from fgrad.testing.functions import Subject
from fgrad.testing.report import wide

Axes = tuple[int | None, ...]  # for each leaf, its batch axis counted from 0, or None


def check_batching(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    in_axes: Any = None,
    sizes: Sequence[int] = (3, 1, 0),
    seed: int = 0,
    tolerance: float | None = None,
) -> None:
    """Checks that vmap is the loop: ``vmap(f, in_axes)(xs..)[b] = f(xs[b]..)`` for every example b.

    Over every axis of each array alone, and over axes of all arrays together: the same axis of each, and the first and
    the last in turn.  Batches of 1 and of 0 examples are taken over first and last axes.

    The examples are made of ``args``: rolled, and floats smaller by 1/64 from one to the next; not rolled where a
    result is finite at ``args`` and would not be there (a matrix that must be positive, ...).

    Args:
        f: a function of pytrees of arrays, made of fgrad operations.
        args: one example of its arguments, without a batch axis; arrays of any dtype and shape.
        in_axes: as for ``vmap``: an int or None for all, or a tuple with an entry for each argument, an int, None or a
            pytree prefix of them; or a list of such choices.  Default: all those above.
        sizes: of the batches.
        seed: of how far elements are rolled.
        tolerance: as for ``check_jit``.

    Raises:
        AssertionError: an example of the batch differs from its own result; the index begins with the example.
        NonSmoothPointError: an integer result is at a jump, so that rounding decides it.
        MissingBackendError: an operation in f has no batch rule.
        TypeError: f returns something else than arrays; in_axes holds something else than ints and None; ``sizes`` no
            ints.
        ValueError: in_axes does not fit the arguments, or a size is negative.

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.vmap.html.

    >>> import numpy as np, fgrad.numpy as fnp
    >>> check_batching(lambda x, w: fnp.tanh(x @ w), (np.ones((2, 3)), np.ones((3, 4))))
    >>> params = {"w": np.arange(3.0), "b": 2.0}
    >>> check_batching(lambda p: {"y": p["w"] * p["b"]}, (params,), in_axes=({"w": 0, "b": None},))
    """
    _check_sizes(sizes)
    s = subject_of("check_batching", f, args)
    agreement = Agreement(s, tolerance)
    shapes = [x.ndim for x in s.leaves]
    chosen = _every_axes(shapes) if in_axes is None else [_given_axes(s, choice) for choice in _choices(in_axes)]
    for size in dict.fromkeys(sizes):
        examples = Examples(s, size, seed)
        for axes in chosen:
            if size > 1 or in_axes is not None or _at_ends(axes, shapes):
                _check_one(s, agreement, examples, axes)


def _check_one(s: Subject, agreement: Agreement, examples: Examples, axes: Axes) -> None:
    shown = tree.tree_unflatten(s.in_tree, list(axes))
    try:
        out = vmap(s.f, in_axes=shown)(*examples.batch(axes))
    except Exception as e:
        noting(e, s, f"vmap with in_axes={shown} over {examples.size} examples")
        raise
    gots = [np.asarray(x) for x in tree.tree_leaves(out)]
    notes = {"in_axes": shown, "size": examples.size, "seed": examples.seed}
    agreement.check(("vmap", "the loop"), gots, examples.loop(tuple([a is not None for a in axes])), **notes)


# --- examples --------------------------------------------------------------------------------------------------------
class Examples:
    """``size`` versions of a subject's arguments, and the results for them one by one."""

    def __init__(self, subject: Subject, size: int, seed: int):
        self.subject, self.size, self.seed = subject, size, seed
        self.rows = [self._row(i) for i in range(size)]
        self._loops: dict[tuple[bool, ...], list[np.ndarray]] = {}

    def _row(self, i: int) -> list[np.ndarray]:
        """The i-th version: all rolled, unless a result is not finite there."""
        s = self.subject
        start = np.random.default_rng(self.seed).integers(1 << 30)
        rolled = [varied(np.roll(x, i + start), i) for x in s.leaves]
        return rolled if self._stays(rolled) else [varied(x, i) for x in s.leaves]

    def _stays(self, leaves: list[np.ndarray]) -> bool:
        s = self.subject
        return all(np.isfinite(wide(x)).all() or not np.isfinite(wide(was)).all() for x, was in zip(s(leaves), s.outs))

    def batch(self, axes: Axes) -> Any:
        """The function's arguments, with batch axes."""
        s = self.subject
        return tree.tree_unflatten(s.in_tree, [self._stacked(i, a) for i, a in enumerate(axes)])

    def _stacked(self, i: int, axis: int | None) -> Any:
        """Leaf i of all examples; a batch of Python numbers is an Array as weak as they are."""
        x, make = self.subject.leaves[i], self.subject.make[i]
        one = make(np.array(x))
        if axis is None:
            return one
        stacked = np.stack([row[i] for row in self.rows], axis) if self.size else none_of(x, axis)
        if type(one) in (bool, int, float, complex):
            aval = aval_of(one)
            return ConcreteArray(stacked.astype(aval.dtype), aval.weak_type)
        return stacked if isinstance(one, np.generic) else make(stacked)

    def loop(self, batched: tuple[bool, ...]) -> list[np.ndarray]:
        """Results with the examples along the first axis, where only some leaves differ between examples."""
        if batched not in self._loops:
            s = self.subject
            rows = [s([x if b else own for x, own, b in zip(row, s.leaves, batched)]) for row in self.rows]
            self._loops[batched] = [np.stack(outs) for outs in zip(*rows)] if rows else [none_of(x, 0) for x in s.outs]
        return self._loops[batched]


def varied(v: np.ndarray, i: int) -> np.ndarray:
    """Example i made of ``v``: other floats at each place, from the domain v's are from."""
    return (v * (1 - i / 64)).astype(v.dtype) if dtypes.is_inexact(v.dtype) else v


def none_of(v: np.ndarray, axis: int) -> np.ndarray:
    """A batch of no examples."""
    return np.zeros((*v.shape[:axis], 0, *v.shape[axis:]), v.dtype)


# --- batch axes ------------------------------------------------------------------------------------------------------
def _every_axes(ndims: Sequence[int]) -> list[Axes]:
    """Each array alone over every axis; all together over the same axis, and over first and last in turn."""
    alone = [
        tuple([d if i == j else None for j in range(len(ndims))]) for i, n in enumerate(ndims) for d in range(n + 1)
    ]
    together = [tuple([min(d, n) for n in ndims]) for d in range(max(ndims) + 1)]
    in_turn = [tuple([n if j % 2 == parity else 0 for j, n in enumerate(ndims)]) for parity in (0, 1)]
    return list(dict.fromkeys([*alone, *together, *in_turn]))


def _at_ends(axes: Axes, ndims: Sequence[int]) -> bool:
    return all(d in (None, 0, n) for d, n in zip(axes, ndims))


def _choices(in_axes: Any) -> list[Any]:
    if isinstance(in_axes, list) and not in_axes:
        raise ValueError("check_batching: in_axes must hold at least one choice, got []. Leave it out for all choices.")
    return in_axes if isinstance(in_axes, list) else [in_axes]


def _given_axes(s: Subject, choice: Any) -> Axes:
    """The axis of each leaf, from a prefix of the arguments' structure."""
    try:
        axes = tree.broadcast_prefix(choice, s.arguments(s.leaves))
    except (ValueError, TypeError):
        raise ValueError(
            f"{s.who}: in_axes must be an int, None or a prefix of the arguments' structure "
            f"{tree.structure_text(s.in_tree)}, got {choice!r}. Give one entry for each argument, or a list of choices."
        ) from None
    out: list[int | None] = []
    for name, x, a in zip(s.names, s.leaves, axes):
        if a is None:
            out.append(None)
            continue
        if not isinstance(a, int) or isinstance(a, bool):
            raise TypeError(f"{s.who}: in_axes must hold ints or None, got {a!r} for {name}. Use axis numbers.")
        n = x.ndim + 1
        if not -n <= a < n:
            raise ValueError(
                f"{s.who}: in_axes must be an axis of the batched argument, got {a} for {name} of {x.ndim} axes and "
                f"one for the batch. Use an axis in [{-n}, {n})."
            )
        out.append(a % n)
    if all(a is None for a in out):
        raise ValueError(f"{s.who}: in_axes must map at least one array, got {choice!r}. Give one an axis.")
    return tuple(out)


def _check_sizes(sizes: Any) -> None:
    if not isinstance(sizes, Sequence) or not all(isinstance(n, int) and not isinstance(n, bool) for n in sizes):
        raise TypeError(f"check_batching: sizes must be a sequence of ints, got {sizes!r}. Write (3, 1, 0).")
    if any(n < 0 for n in sizes):
        raise ValueError(f"check_batching: sizes must be at least 0, got {tuple(sizes)}. Write (3, 1, 0).")
