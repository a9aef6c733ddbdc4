"""The primitive class of extensions: called like a function, named within a namespace, found again by pickle."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from fgrad.core import primitive as _core
from fgrad.core.array import Array, lift
from fgrad.core.backends import Backend, Unfilled
from fgrad.core.primitive import Bilinear, Linear, OverAxis
from fgrad.core.static import flag
from fgrad.extend.signature import Signature
from fgrad.primitives.define import NO_CUDA

NO_JVP = Unfilled("its definition gives none. Give derivatives, or put stop_gradient around the operands")
NO_TRANSPOSE = Unfilled("its definition gives none. Give transpose")

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_defined: dict[str, Primitive] = {}


class Primitive(_core.Primitive):
    """A primitive of which you fill every slot yourself; ``primitive`` and ``elementwise`` fill most of them for you.

    A primitive is called with arrays as positional arguments and static parameters as keywords.  The slots are those
    of fgrad's own primitives (see the page on contracts); rules are written in fgrad operations.

    Args:
        name: ``"namespace.name"``.  A second definition from the same module replaces the first, as in a notebook.
        abstract: ``abstract(*avals, **params) -> ShapedArray`` (a tuple of them with ``multiple_results``); it
            raises TypeError or ValueError on operands that do not fit.
        reference: ``reference(*arrays, **params)``, NumPy in and NumPy out; or ``Unfilled(reason)``.
        cpu: ``ScalarMap``, ``IndexMap``, ``Fold``, ``Kernel``, ``Host`` or ``Unfilled(reason)``.
        jvp: ``jvp(primals, tangents, **params) -> (out, tangent)``, where tangents may be ``Zero``; or ``Linear()``,
            ``Bilinear()``, ``Unfilled(reason)``.
        transpose: ``transpose(ct, *args, **params)`` -> a cotangent for each operand that is a ``LinearArg``, None for
            the others; or ``Unfilled(reason)``.
        batch: ``batch(args, dims, **params) -> (out, dim)``; or ``OverAxis(rule)``, ``Unfilled(reason)``.
        multiple_results: the result is a tuple; then ``out`` is a sequence in every rule.
        effectful: the operation is never dropped, merged or moved past another such.
        own_weak: the abstract rule sets weak types itself (default: a result is weak if every operand is).
        signature: what a call may look like; without it any positional arrays and any keywords.

    Raises:
        ValueError: the name has no namespace, or another module has defined it.

    >>> import numpy as np
    >>> from fgrad import extend
    >>> swap_p = extend.Primitive(
    ...     "mylibrary.swap",
    ...     abstract=lambda x: x.update(shape=x.shape[::-1]),
    ...     reference=lambda x: x.T,
    ...     cpu=extend.IndexMap(view=lambda layout: layout.transpose(tuple(range(layout.ndim))[::-1])),
    ...     jvp=extend.Linear(),
    ...     transpose=lambda ct, x: (swap_p(ct),),
    ...     batch=extend.Unfilled("the example is short"),
    ... )
    >>> swap_p(np.arange(6).reshape(2, 3)).shape
    (3, 2)
    """

    __slots__ = ("__dict__",)

    loop: _core.Primitive | None = None  # the primitive over a batch, where its batch rule is a loop
    linear: tuple[tuple[int, ...], ...] = ()  # groups of operands in which its definition says that it is linear

    def __init__(
        self,
        name: str,
        *,
        abstract: Callable[..., Any],
        reference: Callable[..., Any] | Unfilled,
        cpu: Backend,
        jvp: Callable[..., Any] | Linear | Bilinear | Unfilled,
        transpose: Callable[..., Any] | Unfilled,
        batch: Callable[..., Any] | OverAxis | Unfilled,
        multiple_results: bool = False,
        effectful: bool = False,
        own_weak: bool = False,
        signature: Signature | None = None,
        doc: str | None = None,
    ):
        check_name(name)
        rules = {"abstract": abstract, "reference": reference, "jvp": jvp, "transpose": transpose, "batch": batch}
        _check_slots(name, cpu, rules)
        self.signature = Signature(None, None) if signature is None else signature
        self.module, self.file = _definer()
        self.__name__ = self.__qualname__ = name
        self.__doc__ = doc
        if signature is not None and signature.operands is not None:
            self.__signature__ = signature.inspected()
        super().__init__(
            name,
            abstract=abstract,
            reference=reference,
            cpu=cpu,
            cuda=NO_CUDA,
            jvp=jvp,
            transpose=transpose,
            batch=batch,
            effectful=flag(name, "effectful", effectful),
            multiple_results=flag(name, "multiple_results", multiple_results),
            own_weak=flag(name, "own_weak", own_weak),
        )

    def register(self) -> None:
        """Into the table of extensions; the name of another module's primitive is refused."""
        other = _defined.get(self.name)
        if other is not None and self.module != other.module and self.file != other.file:
            raise ValueError(
                f"extend: a name belongs to the module that defines it first, got {self.name!r} from {self.module} "
                f"after {other.module}. Choose another name."
            )
        _defined[self.name] = self

    def operands(self, args: Sequence[Any]) -> list[Array]:
        """The arguments of a call as Arrays."""
        return [lift(a, self.name) for a in args]

    def __call__(self, *args: Any, **params: Any) -> Any:
        params = self.signature.complete(self.name, len(args), params)
        out = self.bind(*self.operands(args), **params)
        return tuple(out) if self.multiple_results else out

    def __reduce__(self):
        return _find, (self.module, self.name)


def check_name(name: Any) -> None:
    """A primitive's name is an identifier within a namespace."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"extend: a primitive's name must have a namespace, got {name!r} (names without one are fgrad's own). "
            "Write it as 'mylibrary.name'."
        )


_KINDS: dict[str, tuple[type, ...]] = {
    "abstract": (),
    "reference": (Unfilled,),
    "jvp": (Linear, Bilinear, Unfilled),
    "transpose": (Unfilled,),
    "batch": (OverAxis, Unfilled),
}


def _check_slots(name: str, cpu: Any, rules: dict[str, Any]) -> None:
    """The cpu slot is of a kind; every other one is a function, or of a kind that stands for one."""
    if not isinstance(cpu, Backend):
        raise TypeError(
            f"{name}: cpu must be a ScalarMap, IndexMap, Fold, Kernel, Host or Unfilled, got {cpu!r} of type "
            f"{type(cpu).__name__}. Wrap the function in the kind it is."
        )
    for slot, rule in rules.items():
        if not isinstance(rule, _KINDS[slot]) and (isinstance(rule, type) or not callable(rule)):
            kinds = " or ".join(["a function", *[kind.__name__ for kind in _KINDS[slot]]])
            raise TypeError(
                f"{name}: {slot} must be {kinds}, got {rule!r} of type {type(rule).__name__}. Kinds are instances, as "
                "in Linear() or Unfilled(reason)."
            )


def _definer() -> tuple[str, str]:
    """Module and file of the innermost frame outside fgrad."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    if frame is None:
        return "__main__", "<unknown>"
    return frame.f_globals.get("__name__", "__main__"), frame.f_code.co_filename


def defined() -> dict[str, Primitive]:
    """Every extension by its name."""
    return dict(_defined)


def _find(module: str, name: str) -> Primitive:
    """The primitive of a pickle; its module is imported if it has not been."""
    if name not in _defined and module not in sys.modules:
        importlib.import_module(module)
    if name not in _defined:
        raise LookupError(
            f"extend: unpickling needs the primitive to be defined, got {name!r} of module {module!r}, which does not "
            "define it here. Run its definition first."
        )
    return _defined[name]
