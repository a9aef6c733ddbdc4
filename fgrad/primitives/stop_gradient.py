"""stop_gradient: the identity, with a tangent of zero."""

from __future__ import annotations

from typing import Any

from fgrad.core.backends import IndexMap, Unfilled
from fgrad.core.primitive import Primitive
from fgrad.primitives.define import NO_CUDA, zero_tangent


def _jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    # bound again, so that derivatives taken further out stop here too
    ans = stop_gradient_p.bind(*primals)
    return ans, zero_tangent(ans.aval)


stop_gradient_p = Primitive(
    "stop_gradient",
    abstract=lambda x: x,
    reference=lambda x: x,
    cpu=IndexMap(view=lambda layout: layout),
    cuda=NO_CUDA,
    jvp=_jvp,
    transpose=Unfilled("its tangent is zero, so it is linear in nothing"),
    batch=lambda args, dims: (stop_gradient_p.bind(*args), dims[0]),
)
