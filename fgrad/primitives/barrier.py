"""optimization_barrier: the identity of several values at once, which no pass of the compiler sees through.

Every result depends on every operand, so nothing computed from a result can run before all operands are there, and
nothing computed from it is the same expression as one computed from an operand.
"""

from __future__ import annotations

from typing import Any

from fgrad.core.backends import Alias
from fgrad.core.primitive import Primitive, Zero
from fgrad.primitives.define import NO_CUDA


def _jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    # the tangents have a barrier of their own: primals must not wait for them
    live = iter(_bind([t for t in tangents if type(t) is not Zero]))
    return optimization_barrier_p.bind(*primals), [t if type(t) is Zero else next(live) for t in tangents]


def _transpose(cts: Any, *operands: Any) -> list[Any]:
    live = iter(_bind([c for c in cts if type(c) is not Zero]))
    return [c if type(c) is Zero else next(live) for c in cts]


def _bind(xs: list[Any]) -> list[Any]:
    return optimization_barrier_p.bind(*xs) if xs else []


optimization_barrier_p = Primitive(
    "optimization_barrier",
    abstract=lambda *xs: tuple([x.strong() for x in xs]),
    reference=lambda *xs: list(xs),
    cpu=Alias(),
    cuda=NO_CUDA,
    jvp=_jvp,
    transpose=_transpose,
    batch=lambda args, dims: (optimization_barrier_p.bind(*args), dims),
    multiple_results=True,
)
