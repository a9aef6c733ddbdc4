"""A primitive: an operation with a fixed set of slots.

Rules live on the object, so a rule file imports no transformation.  Arrays are positional; parameters are
keyword-only, hashable and canonical before ``bind``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fgrad.core import caches
from fgrad.core import trace as _trace
from fgrad.core.aval import ShapedArray, check_size
from fgrad.core.backends import MOST_REMEMBERED, Backend, Unfilled
from fgrad.core.dtypes import bool_
from fgrad.errors import MissingBackendError


class Linear(NamedTuple):
    """The jvp of a map linear in all its operands together: apply it to the tangents."""


class Bilinear(NamedTuple):
    """The jvp of a map linear in each of two operands: f(dx, y) + f(x, dy)."""


class Axis(NamedTuple):
    """The axis a vmap maps over; ``name`` is what collectives (psum, ...) call it, or None."""

    name: Any
    size: int


class OverAxis(NamedTuple):
    """A batch slot whose rule is told the axis: ``rule(axis, args, dims, **params)``.

    For primitives that hold jaxprs, and for collectives, whose rule also runs when no operand is mapped; as does that
    of a primitive that ``holds_python``, whose functions may close over mapped values.
    """

    rule: Callable[..., Any]
    holds_python: bool = False


class LinearArg:
    """Stands for an operand a transpose rule is linear in; only its aval is known."""

    __slots__ = ("aval", "dtype", "shape")

    def __init__(self, aval: ShapedArray):
        self.aval = aval
        self.shape = aval.shape
        self.dtype = aval.dtype

    ndim = property(lambda self: len(self.shape))


class Zero:
    """A tangent or cotangent known to be zero; never an array."""

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray):
        self.aval = aval

    def __repr__(self) -> str:
        return f"Zero({self.aval})"


class Primitive:
    """Fixed slots; see docs/design/contracts.md.

    own_weak: the abstract rule sets weak types itself.
    effectful: it does more than compute its results, so it is never dropped, merged or moved past another such.
    multiple_results: the results are a tuple, as they are of every primitive whose parameters hold jaxprs.
    stage: ``stage(trace, args, params) -> (args, params)``: what to write into a jaxpr in place of these.
    prune: ``prune(eqn, used) -> eqn``: the equation without the results (and operands) that nobody reads.
    """

    __slots__ = (
        "abstract",
        "batch",
        "checked",
        "cpu",
        "cuda",
        "effectful",
        "inferred",
        "jvp",
        "multiple_results",
        "name",
        "own_weak",
        "partial_eval",
        "prune",
        "reference",
        "stage",
        "transpose",
    )

    def __init__(
        self,
        name: str,
        *,
        abstract: Callable[..., Any],
        reference: Callable[..., Any] | Unfilled,
        cpu: Backend,
        cuda: Backend,
        jvp: Callable[..., Any] | Linear | Bilinear | Unfilled,
        transpose: Callable[..., Any] | Unfilled,
        batch: Callable[..., Any] | OverAxis | Unfilled,
        partial_eval: Callable[..., Any] | None = None,
        stage: Callable[..., Any] | None = None,
        prune: Callable[..., Any] | None = None,
        effectful: bool = False,
        multiple_results: bool = False,
        own_weak: bool = False,
    ):
        self.name = name
        self.abstract = abstract
        self.reference = reference
        self.cpu = cpu
        self.cuda = cuda
        self.jvp = jvp
        self.transpose = transpose
        self.batch = batch
        self.partial_eval = partial_eval
        self.stage = stage
        self.prune = prune
        self.effectful = effectful
        self.multiple_results = multiple_results
        self.own_weak = own_weak
        self.checked: set[Any] = set()  # forms of calls that evaluation has accepted (see core/backends.py)
        self.inferred: dict[Any, ShapedArray] = {}
        self.register()

    def register(self) -> None:
        """Makes the name known, to pickle for one."""
        REGISTRY[self.name] = self

    def bind(self, *args: Any, **params: Any) -> Any:
        return _trace.current_trace.get().bind(self, args, params)

    def abstract_eval(self, operands: Sequence[Any], params: dict[str, Any]) -> Any:
        """The abstract rule, with weak types: a result is weak if every operand is, and it is no bool.

        operands: anything with an ``aval``: variables, arrays, tracers.

        A primitive of one result remembers what its rule said (others may hold jaxprs, which a memory would keep).
        """
        avals: Any
        if self.multiple_results:
            avals = [a.aval for a in operands]
            out = self.abstract(*avals, **params)
            check_size(self.name, out)
            if self.own_weak or not avals or not all(a.weak_type for a in avals):
                return out
            return tuple(a.update(weak_type=a.dtype != bool_) for a in out)
        key: Any
        n = len(operands)
        if n == 2:  # tuples of the parts are hashed and compared without calls of Python
            x, y = avals = operands[0].aval, operands[1].aval
            key = (x.shape, x.dtype, x.weak_type, y.shape, y.dtype, y.weak_type)
            weak = x.weak_type and y.weak_type
        elif n == 1:
            (x,) = avals = (operands[0].aval,)
            key = (x.shape, x.dtype, x.weak_type)
            weak = x.weak_type
        else:
            avals = key = tuple([a.aval for a in operands])
            weak = n > 0 and all([a.weak_type for a in avals])
        if params:  # with their types: 1, 1.0 and True are equal, but a rule may tell them apart
            values = params.values()
            key = (*key, *params, *values, *map(type, values))
        known = self.inferred.get(key)
        if known is not None:
            return known
        out = self.abstract(*avals, **params)
        if not n or out is not avals[0]:  # which is no larger than it was
            check_size(self.name, out)
        if weak and not self.own_weak:
            out = out.update(weak_type=out.dtype != bool_)
        if len(self.inferred) >= MOST_REMEMBERED:
            self.inferred.clear()
        self.inferred[key] = out
        return out

    def slot(self, name: str) -> Any:
        """The filled slot, or MissingBackendError with the recorded reason."""
        value = getattr(self, name)
        if type(value) is Unfilled:
            instead = " Use vjp for functions that are not linear." if name == "transpose" else ""
            raise MissingBackendError(f"{self.name}: has no {name} rule, {value.reason}.{instead}")
        return value

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self):
        return _lookup, (self.name,)


REGISTRY: dict[str, Primitive] = {}


def _lookup(name: str) -> Primitive:
    return REGISTRY[name]


def _forget() -> None:
    for p in REGISTRY.values():
        p.checked.clear()
        p.inferred.clear()


caches.add_cache(
    "accepted forms of operations", lambda: sum([len(p.checked) + len(p.inferred) for p in REGISTRY.values()]), _forget
)
