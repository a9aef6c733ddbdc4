"""Every composition of transformations as an operator on functions of one pytree, and what each of them means.

A composition is a tuple of names, the outermost first: ``("vmap", "grad")`` is vmap(grad(f)).  Each name turns a
function of one pytree into another, with everything else that it needs fixed by shapes alone:

    jit, checkpoint, vmap    themselves
    grad        the gradient of f, or of Σ w·f(x) with fixed weights w if f(x) is no scalar
    vjp         the cotangents of x for fixed cotangents of f(x)
    jvp         the tangent of f(x) along a fixed direction
    linearize   the linear map, applied to another fixed direction

So any two compose, and any three.  ``MEANING`` says what is left of a composition when everything is removed that must
not change a value: jit and checkpoint are dropped, linearize is a jvp, vjp is the gradient of ⟨ct, f⟩, and vmap may be
replaced by a Python loop.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from composed_programs import INPUTS, Library, draw, root

TRANSFORMS = ("jit", "grad", "jvp", "vjp", "vmap", "linearize", "checkpoint")
FORWARD = ("jvp", "linearize")  # refused by a function with a custom_vjp rule
REVERSE = ("grad", "vjp")
IDEMPOTENT = ("jit", "checkpoint")

Composition = tuple[str, ...]
Function = Callable[[Any], Any]

PAIRS: list[Composition] = list(itertools.product(TRANSFORMS, repeat=2))
# 317 of 343: not sensible are those with jit or checkpoint twice in a row, which the pairs show to be the same as once.
TRIPLES: list[Composition] = [
    c
    for c in itertools.product(TRANSFORMS, repeat=3)
    if not any(a == b and a in IDEMPOTENT for a, b in itertools.pairwise(c))
]


def refused(program: Function, names: Composition) -> bool:
    """Whether the composition differentiates a custom_vjp function in forward mode, as JAX refuses to."""
    return program is root and any(name in FORWARD for name in names)


# --- operators -------------------------------------------------------------------------------------------------------
# Fixed weights, cotangents and directions: one seed for each use, and one more for each leaf.
GRAD, VJP, JVP, LINEARIZE = 1000, 2000, 3000, 4000


def fixed(lib: Library, like: Any, seed: int) -> Any:
    """A pytree like ``like`` of values that depend on its shapes and on ``seed`` alone."""
    leaves, treedef = lib.tree.tree_flatten(like)
    return treedef.unflatten(
        [lib.np.asarray(draw(seed + i, x.shape, 0.25, 1.0), dtype=x.dtype) for i, x in enumerate(leaves)]
    )


def inner(lib: Library, a: Any, b: Any) -> Any:
    """⟨a, b⟩ over all leaves."""
    return sum(lib.np.sum(x * y) for x, y in zip(lib.tree.tree_leaves(a), lib.tree.tree_leaves(b)))


def _gradient(lib: Library, f: Function, seed: int) -> Function:
    def scalar(x):
        y = f(x)
        if hasattr(y, "shape") and y.shape == () and seed == GRAD:
            return y
        return inner(lib, fixed(lib, y, seed), y)

    return lib.api.grad(scalar)


def _vjp(lib: Library, f: Function) -> Function:
    def cotangents(x):
        y, pull = lib.api.vjp(f, x)
        return pull(fixed(lib, y, VJP))[0]

    return cotangents


def _jvp(lib: Library, f: Function, seed: int) -> Function:
    return lambda x: lib.api.jvp(f, (x,), (fixed(lib, x, seed),))[1]


def _linearize(lib: Library, f: Function) -> Function:
    return lambda x: lib.api.linearize(f, x)[1](fixed(lib, x, LINEARIZE))


def _loop(lib: Library, f: Function) -> Function:
    def rows(x):
        n = lib.tree.tree_leaves(x)[0].shape[0]
        results = [f(lib.tree.tree_map(lambda leaf, i=i: leaf[i], x)) for i in range(n)]
        return lib.tree.tree_map(lambda *leaves: lib.np.stack(leaves), *results)

    return rows


def transform(lib: Library, name: str, f: Function) -> Function:
    match name:
        case "jit" | "checkpoint" | "vmap":
            return getattr(lib.api, name)(f)
        case "grad":
            return _gradient(lib, f, GRAD)
        case "vjp":
            return _vjp(lib, f)
        case "jvp":
            return _jvp(lib, f, JVP)
        case "linearize":
            return _linearize(lib, f)
        case "loop":
            return _loop(lib, f)
        case "jvp along the direction of linearize":
            return _jvp(lib, f, LINEARIZE)
        case "grad of the product with the cotangents":
            return _gradient(lib, f, VJP)
    raise ValueError(name)


def compose(lib: Library, names: Iterable[str], program: Callable[[Library, Any], Any]) -> Function:
    f: Function = lambda p: program(lib, p)  # noqa: E731
    for name in reversed(tuple(names)):
        f = transform(lib, name, f)
    return f


MEANING = {
    "jit": (),
    "checkpoint": (),
    "grad": ("grad",),
    "jvp": ("jvp",),
    "vmap": ("vmap",),
    "linearize": ("jvp along the direction of linearize",),
    "vjp": ("grad of the product with the cotangents",),
}


def meaning(names: Composition, *, loop: bool = False) -> Composition:
    return tuple("loop" if loop and n == "vmap" else n for name in names for n in MEANING[name])


# --- inputs and results ----------------------------------------------------------------------------------------------
BATCH = (2, 3, 2)  # from the innermost vmap outwards: neighbours differ, so that a confusion of axes shows


def inputs(lib: Library, program: Function, names: Composition, dtype: Any) -> Any:
    """The argument of the composition: one batch axis in front for each vmap."""
    batch = BATCH[: names.count("vmap")][::-1]
    seeds = itertools.count()

    def leaf(spec):
        shape, centre, spread = spec
        seed = next(seeds)
        base = draw(seed, shape, centre, spread)
        variation = draw(seed + 500, batch + shape, 0.0, 0.125) if batch else 0.0
        return lib.np.asarray((base + variation).astype(dtype))

    return lib.tree.tree_map(leaf, INPUTS[program], is_leaf=lambda x: isinstance(x, tuple))


def leaves(lib: Library, result: Any) -> list[np.ndarray]:
    return [np.asarray(x) for x in lib.tree.tree_leaves(result)]


def error(got: list[np.ndarray], want: list[np.ndarray]) -> float:
    """The largest difference, relative to the largest element wanted (of all leaves), or to 1 if that is smaller.

    1 is the size of inputs, weights and directions.  A result below it is a sum of terms that cancel, and carries their
    rounding (a third derivative of mlp is 0.02).
    """
    assert [g.shape for g in got] == [w.shape for w in want], f"{[g.shape for g in got]} {[w.shape for w in want]}"
    assert [g.dtype for g in got] == [w.dtype for w in want], f"{[g.dtype for g in got]} {[w.dtype for w in want]}"
    if not all(np.isfinite(x).all() for x in (*got, *want)):
        return float("inf")
    magnitude = max(1.0, *(float(np.abs(w).max(initial=0.0)) for w in want))
    return max(float(np.abs(g.astype(np.float64) - w).max(initial=0.0)) for g, w in zip(got, want)) / magnitude
