"""``x.at[index]``: updates of a part of an array, each returning a new array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fgrad.core.array import Array
from fgrad.core.static import choice, function
from fgrad.numpy import indexing, ufuncs
from fgrad.numpy.creation import ones_like

_WRITE_MODES = {None: "drop", "drop": "drop", "fill": "drop", "clip": "clip", "promise_in_bounds": "clip"}
_READ_MODES = {None: "clip", "fill": "fill", "drop": "fill", "clip": "clip", "promise_in_bounds": "clip"}


class At:
    """What ``x.at`` is: indexing it gives the updates of that part.

    >>> import fgrad.numpy as fnp
    >>> x = fnp.zeros(3)
    >>> x.at[1].set(5.0).tolist(), x.at[fnp.array([0, 0])].add(1.0).tolist()
    ([0.0, 5.0, 0.0], [2.0, 0.0, 0.0])
    """

    __slots__ = ("array",)

    def __init__(self, array: Array):
        self.array = array

    def __getitem__(self, index: Any) -> AtIndex:
        return AtIndex(self.array, index)

    def __repr__(self) -> str:
        return f"{self.array!r}.at"


def _mode(table: dict[str | None, str], mode: str | None) -> str:
    return table[choice("at", "mode", mode, table)]


class AtIndex:
    """The updates of ``x[index]``.  Values broadcast to that part and must fit the dtype of x.

    Indices out of range are ignored ('drop', the default) or clamped ('clip').  Repeated indices: ``set`` keeps the
    last value in row-major order, the others combine all of them.
    """

    __slots__ = ("array", "index")

    def __init__(self, array: Array, index: Any):
        self.array = array
        self.index = index

    def _write(self, values: Any, kind: str, mode: str | None) -> Array:
        parsed = indexing.parse(self.array.shape, self.index)
        return indexing.write(self.array, parsed, values, kind, _mode(_WRITE_MODES, mode))

    def get(self, mode: str | None = None, fill_value: Any = None) -> Array:
        """x[index]; ``mode='fill'`` gives ``fill_value`` (NaN, the smallest integer) where an index is out of range."""
        parsed = indexing.parse(self.array.shape, self.index)
        return indexing.read(self.array, parsed, _mode(_READ_MODES, mode), fill_value)

    def set(self, values: Any, mode: str | None = None) -> Array:
        """x with x[index] = values."""
        return self._write(values, "set", mode)

    def add(self, values: Any, mode: str | None = None) -> Array:
        """x with x[index] += values, every occurrence of a repeated index counted."""
        return self._write(values, "add", mode)

    def subtract(self, values: Any, mode: str | None = None) -> Array:
        """x with x[index] -= values."""
        return self._write(ufuncs.negative(values), "add", mode)

    def multiply(self, values: Any, mode: str | None = None) -> Array:
        """x with x[index] *= values."""
        return self._write(values, "mul", mode)

    mul = multiply

    def divide(self, values: Any, mode: str | None = None) -> Array:
        """x with x[index] /= values: divided by the product of all values at a place."""
        return ufuncs.divide(self.array, self._onto_ones(values, mode))

    def power(self, values: Any, mode: str | None = None) -> Array:
        """x with x[index] **= values: to the product of all values at a place."""
        return ufuncs.power(self.array, self._onto_ones(values, mode))

    def _onto_ones(self, values: Any, mode: str | None) -> Array:
        return AtIndex(ones_like(self.array), self.index)._write(values, "mul", mode)

    def min(self, values: Any, mode: str | None = None) -> Array:
        """x with x[index] = min(x[index], values)."""
        return self._write(values, "min", mode)

    def max(self, values: Any, mode: str | None = None) -> Array:
        """x with x[index] = max(x[index], values)."""
        return self._write(values, "max", mode)

    def apply(self, func: Callable[[Array], Any], mode: str | None = None) -> Array:
        """x with x[index] = func(x[index]); once for a repeated index."""
        return self.set(function("at.apply", "func", func)(self.get(mode="clip")), mode)
