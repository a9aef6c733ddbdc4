"""Einstein summation: two operands at a time, each pair one dot_general.

Operands carry one label for each axis.  A pair is contracted over the labels that nobody needs any more, batched over
those both have and somebody needs; the rest are free.  Axes of size 1 that meet a longer axis of the same label are
dropped: the longer one alone gives the size (broadcasting without copies).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fgrad import lax
from fgrad.core.array import Array
from fgrad.core.dtypes import bool_
from fgrad.core.static import kind
from fgrad.numpy.creation import asarray, diagonal
from fgrad.numpy.promotion import promote_dtypes

Labels = tuple[Any, ...]


class Labelled(NamedTuple):
    """An array and a label for each of its axes, all different."""

    array: Array
    labels: Labels


def einsum(subscripts: str, *operands: Any, preferred_element_type: Any = None) -> Array:
    """Sums of products over labelled axes: ``einsum('ij,jk->ik', a, b)`` is a @ b.

    A label repeated in one operand takes its diagonal; one missing from the output is summed over; ``...`` stands for
    the axes not named, which broadcast.  Without ``->`` the output has the labels that occur once, in alphabetical
    order.  More than two operands are contracted from left to right.

    Raises ValueError for labels that do not fit the operands.

    >>> import fgrad.numpy as fnp
    >>> a = fnp.arange(6).reshape(2, 3)
    >>> fnp.einsum("ij,kj->ik", a, a).tolist()
    [[5, 14], [14, 50]]
    """
    if not isinstance(subscripts, str):
        raise TypeError(f"einsum: subscripts must be text, got {kind(subscripts)}. Write 'ij,jk->ik'.")
    arrays = promote_dtypes("einsum", *map(asarray, operands))
    inputs, output = parse(subscripts, [a.ndim for a in arrays])
    check_sizes(subscripts, arrays, inputs)
    todo = [take_diagonals(a, labels) for a, labels in zip(arrays, inputs)]
    result = todo.pop(0)
    while todo:
        right = todo.pop(0)
        needed = set(output).union(*(t.labels for t in todo))
        result = contract(result, right, needed, preferred_element_type)
    result = sum_out(result, set(output))
    return arrange(result, output)


def parse(subscripts: str, ndims: Sequence[int]) -> tuple[list[Labels], Labels]:
    """Labels of the operands and of the output; axes under ``...`` are numbered from the last, which aligns them."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise ValueError(
            f"einsum: needs one term for each operand, got {len(terms)} terms in {subscripts!r} for {len(ndims)} "
            "operands. Separate the terms by commas."
        )
    hidden = 0
    inputs: list[Labels] = []
    for i, (term, ndim) in enumerate(zip(terms, ndims)):
        named = len(term.replace("...", "", 1))
        rest = ndim - named
        if rest < 0 or (rest and "..." not in term):
            raise ValueError(
                f"einsum: term {i} must name each axis of its operand, got {term!r} ({named} labels) for {ndim} axes. "
                "Add labels or '...'."
            )
        hidden = max(hidden, rest)
        inputs.append(_expand(subscripts, term, rest))
    if arrow:
        output = _expand(subscripts, right, hidden)
    else:
        flat = [n for labels in inputs for n in labels]
        once = sorted(n for n in set(flat) if isinstance(n, str) and flat.count(n) == 1)
        output = (*range(-hidden, 0), *once)
    known = {n for labels in inputs for n in labels}
    if len(set(output)) != len(output) or not set(output) <= known:
        raise ValueError(
            f"einsum: output labels must be distinct and occur in an operand, got {right or subscripts!r}. Change them."
        )
    return inputs, output


def _expand(subscripts: str, term: str, hidden: int) -> Labels:
    before, dots, after = term.partition("...")
    for c in before + after:
        if not c.isalpha():
            raise ValueError(f"einsum: labels must be letters, got {c!r} in {subscripts!r}. Use a-z and A-Z.")
    return (*before, *(range(-hidden, 0) if dots else ()), *after)


def check_sizes(what: str, arrays: Sequence[Array], inputs: Sequence[Labels]) -> None:
    """Axes with one label have one size, or size 1."""
    sizes: dict[Any, int] = {}
    for array, labels in zip(arrays, inputs):
        for n, size in zip(labels, array.shape):
            old = sizes.setdefault(n, size)
            if size not in (1, old) and old != 1:
                name = f"label {n!r}" if isinstance(n, str) else "an axis under '...'"
                raise ValueError(
                    f"einsum: {name} must have one size in {what!r}, got {old} and {size} (operand shapes "
                    f"{', '.join(str(a.shape) for a in arrays)}). Change the labels or the operands."
                )
            sizes[n] = size if old == 1 else old


def take_diagonals(array: Array, labels: Labels) -> Labelled:
    """Repeated labels of one operand become one axis, the last."""
    while True:
        pair = next(((i, j) for i, n in enumerate(labels) for j in range(i + 1, len(labels)) if labels[j] == n), None)
        if pair is None:
            return Labelled(array, labels)
        i, j = pair
        array = diagonal(array, 0, i, j)
        labels = (*(n for k, n in enumerate(labels) if k not in pair), labels[i])


def sum_out(x: Labelled, needed: set[Any]) -> Labelled:
    """Without the axes nobody needs."""
    axes = tuple(i for i, n in enumerate(x.labels) if n not in needed)
    if not axes:
        return x
    total = lax.reduce_or(x.array, axes) if x.array.dtype == bool_ else lax.reduce_sum(x.array, axes)
    return Labelled(total, tuple(n for n in x.labels if n in needed))


def _drop_ones(x: Labelled, other: Labelled) -> Labelled:
    """Without the axes of size 1 whose label the other operand has as well."""
    gone = [i for i, n in enumerate(x.labels) if x.array.shape[i] == 1 and n in other.labels]
    if not gone:
        return x
    shape = tuple(s for i, s in enumerate(x.array.shape) if i not in gone)
    return Labelled(lax.reshape(x.array, shape), tuple(n for i, n in enumerate(x.labels) if i not in gone))


def contract(a: Labelled, b: Labelled, needed: set[Any], preferred_element_type: Any = None) -> Labelled:
    """The product of two operands, summed over what is not needed; labels: batch, free in a, free in b."""
    a = _drop_ones(a, b)
    b = _drop_ones(b, a)
    a, b = sum_out(a, needed | set(b.labels)), sum_out(b, needed | set(a.labels))
    batch = [n for n in a.labels if n in b.labels and n in needed]
    summed = [n for n in a.labels if n in b.labels and n not in needed]
    numbers = (
        (tuple(map(a.labels.index, summed)), tuple(map(b.labels.index, summed))),
        (tuple(map(a.labels.index, batch)), tuple(map(b.labels.index, batch))),
    )
    out = lax.dot_general(a.array, b.array, numbers, preferred_element_type=preferred_element_type)
    free = [n for x in (a, b) for n in x.labels if n not in batch and n not in summed]
    return Labelled(out, (*batch, *free))


def arrange(x: Labelled, output: Labels) -> Array:
    """The array with its axes in the order of ``output``."""
    order = tuple(x.labels.index(n) for n in output)
    return x.array if order == tuple(range(len(order))) else lax.transpose(x.array, order)
