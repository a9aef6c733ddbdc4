"""name: the identity of a value that a checkpoint policy may refer to."""

from __future__ import annotations

from typing import Any

from fgrad.core.backends import IndexMap
from fgrad.core.primitive import Primitive
from fgrad.primitives.define import NO_CUDA


def _jvp(primals: Any, tangents: Any, *, name: str) -> tuple[Any, Any]:
    return name_p.bind(*primals, name=name), tangents[0]  # the name is the value's, not its tangent's


name_p = Primitive(
    "name",
    abstract=lambda x, *, name: x,
    reference=lambda x, *, name: x,
    cpu=IndexMap(view=lambda layout, *, name: layout),
    cuda=NO_CUDA,
    jvp=_jvp,
    transpose=lambda ct, x, *, name: [ct],
    batch=lambda args, dims, *, name: (name_p.bind(*args, name=name), dims[0]),
)
