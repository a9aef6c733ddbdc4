"""The kinds a ``cpu`` or ``cuda`` slot can be, and how each is evaluated eagerly.

The kind is what lets the compiler work without knowing any operation by name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fgrad.core import caches
from fgrad.core.aval import ShapedArray, check_size
from fgrad.errors import MissingBackendError
from fgrad.kernels import kept
from fgrad.kernels.cpu import results, workspaces
from fgrad.kernels.layout import Layout
from fgrad.kernels.quiet import quietly

caches.add_cache("memory of large results", results.pool.count, results.pool.clear)
caches.add_cache("memory of temporaries", workspaces.count, workspaces.clear)
caches.add_cache("tables of small images", kept.count, kept.clear)
caches.add_shared(workspaces.idle_bytes)

MOST_REMEMBERED = 4096  # forms of calls that a primitive remembers having accepted


class Unfilled(NamedTuple):
    """An empty slot and why it is empty; looking it up raises, nothing falls back in silence."""

    reason: str

    def evaluate(self, prim: Any, values: list[np.ndarray], params: dict[str, Any]) -> Any:
        raise MissingBackendError(f"{prim.name}: has no cpu rule, {self.reason}.")


class ScalarMap(NamedTuple):
    """Element-wise: ``rule(s, *xs, **params)`` builds the scalar expression; ``ufunc`` is NumPy's own or None."""

    rule: Callable[..., Any]
    ufunc: Callable[..., Any] | None = None

    def evaluate(self, prim: Any, values: list[np.ndarray], params: dict[str, Any]) -> np.ndarray:
        # NumPy would broadcast and promote in silence: a call passes only in a form the abstract rule has accepted.
        key: Any
        if len(values) == 1 and not params:
            key, even = values[0].dtype, True
        elif len(values) == 2 and not params:
            x, y = values
            key, even = (x.dtype, y.dtype), x.shape == y.shape
        else:
            shape = values[0].shape
            key = (*[v.dtype for v in values], *_statics(params))
            even = all([v.shape == shape for v in values])
        if key not in prim.checked or not even:
            _accept(prim, key, values, params)
        if self.ufunc is None:
            return _run_map(prim, values, params)
        out = quietly(self.ufunc, *values) if not params else quietly(self.ufunc, *values, **params)
        return out if type(out) is np.ndarray else np.asarray(out)


class IndexMap(NamedTuple):
    """Moves elements.  ``view`` gives the result as a strided view of the operand (or None where it is none);
    ``copies`` gives a fill value and the strided regions of the result that operands are copied into.
    """

    view: Callable[..., Any] | None = None
    copies: Callable[..., Any] | None = None

    def evaluate(self, prim: Any, values: list[np.ndarray], params: dict[str, Any]) -> np.ndarray:
        return _run_reference(prim, values, params)


class IndexValue(NamedTuple):
    """The value at each place is the place's own index along ``params['dimension']``; there are no operands."""

    def evaluate(self, prim: Any, values: list[np.ndarray], params: dict[str, Any]) -> np.ndarray:
        return _run_reference(prim, values, params)


class Fold(NamedTuple):
    """A reduction over ``params['axes']`` with one of the emitter's combiners; its producer map is fused into it."""

    combine: str

    def evaluate(self, prim: Any, values: list[np.ndarray], params: dict[str, Any]) -> np.ndarray:
        return _run_reference(prim, values, params)


class Kernel(NamedTuple):
    """A library kernel: ``planner(ins, outs, **params) -> KernelPlan`` over layouts; eager and jit run the same one.

    ``epilogue``: the planner takes an `fgrad.kernels.cpu.epilogue.Epilogue` of that name, too.
    """

    planner: Callable[..., Any]
    epilogue: bool = False

    def evaluate(self, prim: Any, values: list[np.ndarray], params: dict[str, Any]) -> Any:
        layouts = tuple(map(_layout, values))
        values = [v if lay is not None else np.ascontiguousarray(v) for v, lay in zip(values, layouts)]
        layouts = tuple(lay or Layout.contiguous(v.dtype, v.shape) for v, lay in zip(values, layouts))
        out = _kernel_executable(prim, layouts, _statics(params))(*values)
        return out if prim.multiple_results else out[0]


class Host(NamedTuple):
    """Runs ``reference`` from Python, between two runs of the driver; a program's text names it and the reason."""

    reason: str

    def evaluate(self, prim: Any, values: list[np.ndarray], params: dict[str, Any]) -> Any:
        check_size(prim.name, prim.abstract(*[ShapedArray(v.shape, v.dtype) for v in values], **params))
        with np.errstate(all="ignore"):
            out = prim.reference(*values, **params)
        return out if prim.multiple_results else np.asarray(out)


class Inline(NamedTuple):
    """Holds a jaxpr in ``params[jaxpr_param]``: the compiler inlines it, eager evaluation calls ``run``.

    keeps_rules: its derivatives are not those of its jaxpr, so nothing but the compiler may inline it.
    """

    jaxpr_param: str
    run: Callable[..., Any]
    keeps_rules: bool = False

    def evaluate(self, prim: Any, values: list[np.ndarray], params: dict[str, Any]) -> Any:
        return self.run(values, **params)


class Alias(NamedTuple):
    """Every result is the operand of its place, in its memory: an identity that other passes cannot see through."""

    def evaluate(self, prim: Any, values: list[np.ndarray], params: dict[str, Any]) -> Any:
        return values


class ForParts(NamedTuple):
    """body: consts, carry, x -> carry, y.

    Operands: consts, carry, xs [length, ..]; results: carry, ys [length, ..].
    """

    body: Any
    n_consts: int
    n_carry: int
    length: int
    reverse: bool


class WhileParts(NamedTuple):
    """cond: cond consts, carry -> bool[]; body: body consts, carry -> carry.

    Operands: cond consts, body consts, carry.
    """

    cond: Any
    n_cond_consts: int
    body: Any
    n_body_consts: int


class ForLoop(NamedTuple):
    """A loop of known length in the driver: ``parts(**params) -> ForParts``; eager evaluation calls ``run``."""

    parts: Callable[..., ForParts]
    run: Callable[..., Any]

    def evaluate(self, prim: Any, values: list[np.ndarray], params: dict[str, Any]) -> Any:
        return self.run(values, **params)


class WhileLoop(NamedTuple):
    """A loop in the driver that ends when its condition fails: ``parts(**params) -> WhileParts``."""

    parts: Callable[..., WhileParts]
    run: Callable[..., Any]

    def evaluate(self, prim: Any, values: list[np.ndarray], params: dict[str, Any]) -> Any:
        return self.run(values, **params)


class Branch(NamedTuple):
    """One of ``parts(**params)`` (a tuple of jaxprs), by operand 0: an int32 scalar, in range."""

    parts: Callable[..., tuple[Any, ...]]
    run: Callable[..., Any]

    def evaluate(self, prim: Any, values: list[np.ndarray], params: dict[str, Any]) -> Any:
        return self.run(values, **params)


Backend = (
    Alias | ForLoop | WhileLoop | Branch | ScalarMap | IndexMap | IndexValue | Fold | Kernel | Host | Inline | Unfilled
)


def _accept(prim: Any, key: Any, values: list[np.ndarray], params: dict[str, Any]) -> None:
    """Remembers a form of call that the abstract rule does not refuse."""
    check_size(prim.name, prim.abstract(*[ShapedArray(v.shape, v.dtype) for v in values], **params))
    if len(prim.checked) >= MOST_REMEMBERED:
        prim.checked.clear()
    prim.checked.add(key)


def _run_reference(prim: Any, values: list[np.ndarray], params: dict[str, Any]) -> Any:
    """For index maps and folds, whose references are a view or a reduction by NumPy."""
    key = (*params.items(), *[(v.shape, v.dtype) for v in values])
    if key not in prim.checked:
        _accept(prim, key, values, params)
    return np.asarray(prim.reference(*values, **params))


def _layout(v: np.ndarray) -> Layout | None:
    """The array's own strides in elements, relative to its first element; None if they are no whole elements."""
    if v.flags.c_contiguous:
        return Layout.contiguous(v.dtype, v.shape)
    size = v.dtype.itemsize
    if any(s % size for s in v.strides) or not v.flags.aligned:
        return None
    return Layout(v.dtype, v.shape, tuple(s // size for s in v.strides))


Statics = tuple[tuple[str, Any, type], ...]


def _statics(params: dict[str, Any]) -> Statics:
    """Static parameters as a key. With their types: 1, 1.0 and True are equal, but a rule may tell them apart."""
    return tuple(sorted([(name, value, type(value)) for name, value in params.items()]))


@functools.lru_cache(maxsize=2048)
def _kernel_executable(prim: Any, layouts: tuple[Layout, ...], params: Statics) -> Any:
    from fgrad.kernels.cpu.driver import from_plan

    kw = {name: value for name, value, _ in params}
    avals = prim.abstract(*[ShapedArray(lay.shape, lay.dtype) for lay in layouts], **kw)
    check_size(prim.name, avals)
    avals = avals if prim.multiple_results else (avals,)
    outs = [Layout.contiguous(a.dtype, a.shape) for a in avals]
    return from_plan(prim.cpu.planner(layouts, outs, **kw), layouts, outs)


def _run_map(prim: Any, values: list[np.ndarray], params: dict[str, Any]) -> np.ndarray:
    # not ascontiguousarray, which makes 0-d arrays 1-d
    values = [np.asarray(v, order="C") for v in values]
    layouts = tuple(Layout.contiguous(v.dtype, v.shape) for v in values)
    return _map_executable(prim, layouts, _statics(params))(*values)[0]


@functools.lru_cache(maxsize=2048)
def _map_executable(prim: Any, layouts: tuple[Layout, ...], params: Statics) -> Any:
    from fgrad.kernels.cpu.driver import from_plan
    from fgrad.kernels.cpu.emit import map_plan

    pairs = tuple([(name, value) for name, value, _ in params])
    aval = prim.abstract(*[ShapedArray(lay.shape, lay.dtype) for lay in layouts], **dict(pairs))
    out = Layout.contiguous(aval.dtype, aval.shape)
    nodes = (*(("load", i) for i in range(len(layouts))), ("map", prim.cpu.rule, pairs, tuple(range(len(layouts)))))
    return from_plan(map_plan(aval.shape, layouts, nodes, [(out, len(layouts))]), layouts, [out])


caches.add_lru_cache("eager kernel calls", _kernel_executable)
caches.add_lru_cache("eager element-wise kernels", _map_executable)
