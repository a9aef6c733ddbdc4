"""associative_scan: all prefixes of a sequence in a logarithmic number of combinations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fgrad import tree
from fgrad.core.array import Array
from fgrad.core.static import flag
from fgrad.errors import TreeMismatchError
from fgrad.higher_order.arguments import check_callable, flatten_output, function_name
from fgrad.higher_order.bodies import difference, operand_leaves, some
from fgrad.lax.common import canonical_axis
from fgrad.primitives.concatenate import concatenate_p
from fgrad.primitives.padding import slice_p
from fgrad.primitives.reshape import expand, reshape_p
from fgrad.primitives.rev import rev_p


def associative_scan(fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """All prefixes combined by an associative function, without a loop: 2 log2(n) calls of ``fn`` on whole slices.

    Formula: out[0] = elems[0], out[t] = fn(out[t-1], elems[t]) along ``axis``, in whatever grouping is shortest.

    Args:
        fn: (a, b) -> c, of pytrees like ``elems``, for slices of any equal size along ``axis``; it must be associative
            and work element by element along that axis.
        elems: pytree of arrays [.., n, ..].
        reverse: combines from the end: out[n-1] = elems[n-1], out[t] = fn(out[t+1], elems[t]).
        axis: the axis of every array; negative ones count from the end.

    Returns:
        Pytree of arrays of the shapes of ``elems``.

    Raises:
        ValueError: sizes along ``axis`` differ, or it is out of range.
        TypeError: ``fn`` returns other shapes or dtypes than it is given.
        TreeMismatchError: ``fn`` returns another structure.

    >>> import fgrad.numpy as fnp
    >>> from fgrad import lax
    >>> lax.associative_scan(fnp.add, fnp.arange(1, 6)).tolist()
    [1, 3, 6, 10, 15]

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.lax.associative_scan.html; the recursion is
    that of Blelloch, Prefix sums and their applications, 1990.
    """
    check_callable("associative_scan", fn)
    reverse = flag("associative_scan", "reverse", reverse)
    leaves, treedef = operand_leaves("associative_scan", "elems", elems), tree.tree_structure(elems)
    if not leaves:
        raise ValueError("associative_scan: elems must hold an array, got none. Give the sequence to combine.")
    paths = [f"elems{path}" for path in tree.tree_paths(elems)]
    axes = [canonical_axis("associative_scan", axis, x.ndim) for x in leaves]
    sizes: dict[int, list[str]] = {}
    for x, d, path in zip(leaves, axes, paths):
        sizes.setdefault(x.shape[d], []).append(f"{path} (shape {x.shape})")
    if len(sizes) > 1:
        got = " and ".join(f"{n} for {some(names)}" for n, names in sizes.items())
        raise ValueError(f"associative_scan: all arrays must have one size along axis {axis}, got {got}. Slice them.")

    def combine(a: list[Array], b: list[Array]) -> list[Array]:
        out = fn(treedef.unflatten(a), treedef.unflatten(b))
        got, out_tree = flatten_output(out, "associative_scan", fn)
        if out_tree != treedef:
            raise TreeMismatchError(
                f"associative_scan: {function_name(fn)} must return the structure of elems, got "
                f"{tree.structure_text(out_tree)} for {tree.structure_text(treedef)} "
                f"({tree.first_difference(out, elems)}). Return every part."
            )
        wrong = [
            f"{y.aval} for {path} of type {x.aval} ({difference(y.aval, x.aval)})"
            for x, y, path in zip(a, got, paths)
            if not x.aval.same_type(y.aval)
        ]
        if wrong:
            raise TypeError(
                f"associative_scan: {function_name(fn)} must return the types it is given, got {some(wrong)}. Work "
                "element by element along the axis, and convert the result."
            )
        return got

    def prefixes(xs: list[Array]) -> list[Array]:
        # pairs (0 1) (2 3) ..: their prefixes are out[1], out[3], ..; out[2], out[4], .. need one more element each
        n = xs[0].shape[axes[0]]
        if n < 2:
            return xs
        pairs = combine(_every_other(xs, axes, 0, n - 1), _every_other(xs, axes, 1, n))
        odd = prefixes(pairs)
        first = _every_other(xs, axes, 0, 1)
        if n == 2:
            return _woven(first, odd, axes)
        before = odd if n % 2 else [_every_other([x], [d], 0, n // 2 - 1, 1)[0] for x, d in zip(odd, axes)]
        rest = combine(before, _every_other(xs, axes, 2, n))
        even = [concatenate_p.bind(f, r, dimension=d) for f, r, d in zip(first, rest, axes)]
        return _woven(even, odd, axes)

    if reverse:
        leaves = [rev_p.bind(x, dimensions=(d,)) for x, d in zip(leaves, axes)]
    out = prefixes(leaves)
    if reverse:
        out = [rev_p.bind(x, dimensions=(d,)) for x, d in zip(out, axes)]
    return treedef.unflatten(out)


def _every_other(xs: list[Array], axes: list[int], start: int, stop: int, step: int = 2) -> list[Array]:
    out = []
    for x, d in zip(xs, axes):
        low, high, strides = [0] * x.ndim, list(x.shape), [1] * x.ndim
        low[d], high[d], strides[d] = start, stop, step
        out.append(slice_p.bind(x, start_indices=tuple(low), limit_indices=tuple(high), strides=tuple(strides)))
    return out


def _woven(even: list[Array], odd: list[Array], axes: list[int]) -> list[Array]:
    """even[0], odd[0], even[1], ..; of even there may be one more."""
    out = []
    for a, b, d in zip(even, odd, axes):
        m, last = b.shape[d], a.shape[d]
        head = _every_other([a], [d], 0, m, 1)[0] if last > m else a
        both = concatenate_p.bind(expand(head, d + 1), expand(b, d + 1), dimension=d + 1)
        whole = reshape_p.bind(both, new_sizes=(*b.shape[:d], 2 * m, *b.shape[d + 1 :]))
        if last > m:
            whole = concatenate_p.bind(whole, *_every_other([a], [d], m, last, 1), dimension=d)
        out.append(whole)
    return out
