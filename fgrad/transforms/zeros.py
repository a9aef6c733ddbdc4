"""Symbolic zeros: sums with them, and turning one into an array."""

from __future__ import annotations

from typing import Any

import numpy as np

from fgrad.core.array import ConcreteArray
from fgrad.core.aval import ShapedArray
from fgrad.core.primitive import Zero
from fgrad.primitives.arithmetic import add_p
from fgrad.primitives.broadcast import broadcast_in_dim_p


def zeros(aval: ShapedArray) -> Any:
    """An array of zeros, as a broadcast scalar: no memory in a compiled program."""
    scalar = ConcreteArray(np.zeros((), aval.dtype))
    return broadcast_in_dim_p.bind(scalar, shape=aval.shape, broadcast_dimensions=()) if aval.shape else scalar


def instantiate(t: Any) -> Any:
    """The tangent as an array: zeros for a ``Zero``, any other as it is."""
    return zeros(t.aval) if type(t) is Zero else t


def add_tangents(a: Any, b: Any) -> Any:
    """a + b where either may be Zero."""
    if type(a) is Zero:
        return b
    if type(b) is Zero:
        return a
    return add_p.bind(a, b)
