"""Python functions inside programs: ``debug_callback`` for its effect, ``pure_callback`` for its value.

Both run ``reference`` on the host, in program order. What a vmap maps over is kept as leading axes of the operands:
``sizes`` are the extents of the mapped axes, the outermost first, and ``mapped[i][k]`` says whether operand i has axis
k. The Python function is called once for each index of ``sizes``, in row-major order, with

    operand_i[index_k for the k with mapped[i][k]]

so an operand that is not mapped is the same in every call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from fgrad import tree
from fgrad.core import dtypes
from fgrad.core.array import ConcreteArray, lift
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Host, Unfilled
from fgrad.core.jaxpr import Source
from fgrad.core.primitive import Axis, LinearArg, OverAxis, Primitive
from fgrad.core.trace import EVAL, check_live, using
from fgrad.errors import MissingBackendError, TreeMismatchError
from fgrad.higher_order.arguments import check_callable, function_name, is_arraylike
from fgrad.primitives.broadcast import broadcast_in_dim_p
from fgrad.primitives.convert import convert
from fgrad.primitives.define import NO_CUDA
from fgrad.primitives.transpose import moveaxis
from fgrad.transforms.stage import user_source
from fgrad.transforms.vmap import materialize

METHODS = ("sequential", "sequential_unrolled", "expand_dims", "broadcast_all", "legacy_vectorized")
Sizes = tuple[int, ...]
Mapped = tuple[tuple[bool, ...], ...]


class PythonCall:
    """A Python function with the structure of its arguments; leaves that are no arrays (strings, ...) are kept here.

    who: the function of fgrad that was given it; source: the user's line that did so.
    """

    __slots__ = ("fun", "in_tree", "others", "source", "who")

    def __init__(self, who: str, fun: Callable[..., Any], in_tree: Any, others: dict[int, Any], source: Source | None):
        self.who = who
        self.fun = fun
        self.in_tree = in_tree
        self.others = others
        self.source = source

    def __call__(self, arrays: Sequence[np.ndarray]) -> Any:
        """fun on Arrays of their own memory, evaluated at once whatever is being traced around it."""
        it = iter(arrays)
        n = len(arrays) + len(self.others)
        leaves = [self.others[i] if i in self.others else ConcreteArray(np.array(next(it))) for i in range(n)]
        args, kwargs = self.in_tree.unflatten(leaves)
        with using(EVAL):
            return self.fun(*args, **kwargs)

    @contextlib.contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Adds to what is raised inside for which call it was: the traceback leads to the program, not to its line."""
        try:
            yield
        except Exception as e:
            line = f", for {self.source}" if self.source else ""
            e.add_note(f"{self.who}: raised while calling {self.__name__}{line}")
            raise

    @property
    def __name__(self) -> str:
        return function_name(self.fun)


def python_call(
    who: str, fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[PythonCall, list[Any]]:
    """(the call, its array leaves as Arrays of strong type)"""
    check_callable(who, fun)
    leaves, in_tree = tree.tree_flatten((args, kwargs))
    arrays, others = [], {}
    for i, x in enumerate(leaves):
        if is_arraylike(x):
            check_live(x, who)
            x = lift(x, who)
            arrays.append(convert(x, x.dtype))
        else:
            others[i] = x
    return PythonCall(who, fun, in_tree, others, user_source()), arrays


def _example(arrays: Sequence[np.ndarray], index: tuple[int, ...], mapped: Mapped) -> list[np.ndarray]:
    return [a[tuple([i for i, m in zip(index, flags) if m])] for a, flags in zip(arrays, mapped)]


def _map_front(axis: Axis, args: Sequence[Any], dims: Sequence[int | None], mapped: Mapped) -> tuple[list[Any], Mapped]:
    """Operands with this vmap's axis first, and the flags with it in front."""
    moved = [x if d is None else moveaxis(x, d, 0) for x, d in zip(args, dims)]
    return moved, tuple([(d is not None, *flags) for d, flags in zip(dims, mapped)])


# --- for the effect --------------------------------------------------------------------------------------------------
def _debug_abstract(*avals: ShapedArray, callback: PythonCall, sizes: Sizes, mapped: Mapped) -> tuple[ShapedArray, ...]:
    return ()


def _debug_reference(*arrays: np.ndarray, callback: PythonCall, sizes: Sizes, mapped: Mapped) -> list[np.ndarray]:
    with callback.named_in_errors():
        for index in np.ndindex(*sizes):
            callback(_example(arrays, index, mapped))
    return []


def _debug_jvp(primals, tangents, **params):
    debug_callback_p.bind(*primals, **params)
    return [], []


def _debug_transpose(cts, *args, callback: PythonCall, **params) -> NoReturn:
    shown = next(a for a in args if isinstance(a, LinearArg))
    raise MissingBackendError(
        f"debug_callback: {callback.__name__} must be given values of the forward pass, got the tangent {shown.aval} "
        "(reverse mode computes cotangents, never tangents). Show the primal value, or use jvp."
    )


def _debug_batch(axis: Axis, args, dims, *, callback: PythonCall, sizes: Sizes, mapped: Mapped):
    args, mapped = _map_front(axis, args, dims, mapped)
    debug_callback_p.bind(*args, callback=callback, sizes=(axis.size, *sizes), mapped=mapped)
    return [], []


debug_callback_p = Primitive(
    "debug_callback",
    abstract=_debug_abstract,
    reference=_debug_reference,
    cpu=Host("a Python function"),
    cuda=NO_CUDA,
    jvp=_debug_jvp,
    transpose=_debug_transpose,
    batch=OverAxis(_debug_batch),
    effectful=True,
    multiple_results=True,
)


def debug_callback(who: str, fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Calls fun(*args, **kwargs) with values, each time the program comes by."""
    callback, arrays = python_call(who, fun, args, kwargs)
    debug_callback_p.bind(*arrays, callback=callback, sizes=(), mapped=((),) * len(arrays))


# --- for the value ---------------------------------------------------------------------------------------------------
class ValueCall(PythonCall):
    """A Python function whose results are checked against the declared structure."""

    __slots__ = ("out_tree",)

    def __init__(self, call: PythonCall, out_tree: Any):
        super().__init__(call.who, call.fun, call.in_tree, call.others, call.source)
        self.out_tree = out_tree

    def results(self, arrays: Sequence[np.ndarray], avals: Sequence[ShapedArray]) -> list[np.ndarray]:
        out = self(arrays)
        leaves, got = tree.tree_flatten(out)
        if got != self.out_tree:
            declared = self.out_tree.unflatten([0] * len(avals))
            raise TreeMismatchError(
                f"pure_callback: {self.__name__} must return the structure of result_shape_dtypes, got "
                f"{tree.structure_text(got)} for {tree.structure_text(self.out_tree)} "
                f"({tree.first_difference(out, declared)}). Return what was declared."
            )
        return [self.checked(x, aval, i) for i, (x, aval) in enumerate(zip(leaves, avals))]

    def checked(self, x: Any, want: ShapedArray, i: int) -> np.ndarray:
        """Result i as declared; a Python scalar takes the declared dtype if that is of its kind."""
        if not is_arraylike(x):
            raise TypeError(
                f"pure_callback: {self.__name__} must return arrays, got {x!r} of type {type(x).__name__} for result "
                f"{i}, declared as {want}. Return a NumPy array."
            )
        value = np.asarray(x)
        if value.shape != want.shape:
            raise ValueError(
                f"pure_callback: {self.__name__} must return the declared shapes, got {value.shape} for result {i}, "
                f"declared as {want.shape}. Correct the function or result_shape_dtypes."
            )
        scalar = type(x) in (bool, int, float, complex) and _takes(want.dtype, value)
        if value.dtype != want.dtype and not scalar:
            raise TypeError(
                f"pure_callback: {self.__name__} must return the declared dtypes, got {value.dtype} for result {i}, "
                f"declared as {want.dtype}. Convert it with .astype({str(want.dtype)!r})."
            )
        return value.astype(want.dtype)


def _takes(dtype: np.dtype, value: np.ndarray) -> bool:
    """Whether a Python scalar keeps its kind and its value as an element of this dtype."""
    return dtypes.promote((dtype, False), (value.dtype, True))[0] == dtype and (
        value.dtype.kind not in "iu" or int(value.astype(dtype)) == int(value)
    )


def _pure_abstract(*avals: ShapedArray, results: tuple[ShapedArray, ...], sizes: Sizes, **params):
    return tuple([a.update(shape=(*sizes, *a.shape)) for a in results])


def _pure_reference(
    *arrays: np.ndarray,
    callback: ValueCall,
    results: tuple[ShapedArray, ...],
    sizes: Sizes,
    mapped: Mapped,
    vmap_method: str | None,
) -> list[np.ndarray]:
    outs = [np.empty((*sizes, *a.shape), a.dtype) for a in results]
    with callback.named_in_errors():
        for index in np.ndindex(*sizes):
            for out, value in zip(outs, callback.results(_example(arrays, index, mapped), results)):
                out[index] = value
    return outs


def _pure_batch(axis: Axis, args, dims, *, callback, results, sizes, mapped, vmap_method):
    n = axis.size
    if vmap_method is None:
        raise MissingBackendError(
            f"pure_callback: vmap must be told how to call {callback.__name__} on a batch, got vmap_method=None for a "
            f"batch of {n}. Give vmap_method='sequential' (one call for each example), 'expand_dims' or "
            "'broadcast_all' (one call for all)."
        )
    if vmap_method.startswith("sequential"):
        args, mapped = _map_front(axis, args, dims, mapped)
        sizes = (n, *sizes)
    else:
        args = [_leading(x, d, n, vmap_method) for x, d in zip(args, dims)]
        results = tuple([a.update(shape=(n, *a.shape)) for a in results])
    out = pure_callback_p.bind(
        *args, callback=callback, results=results, sizes=sizes, mapped=mapped, vmap_method=vmap_method
    )
    return out, [0] * len(out)


def _leading(x: Any, dim: int | None, n: int, method: str) -> Any:
    """The operand with the batch axis first; one that is not mapped has extent 1 there, or n, or no such axis."""
    if dim is None and method == "legacy_vectorized":
        return x
    if dim is None and method == "expand_dims":
        axes = tuple(range(1, x.ndim + 1))
        return broadcast_in_dim_p.bind(x, shape=(1, *x.shape), broadcast_dimensions=axes)
    return materialize(x, dim, n, 0)


pure_callback_p = Primitive(
    "pure_callback",
    abstract=_pure_abstract,
    reference=_pure_reference,
    cpu=Host("a Python function"),
    cuda=NO_CUDA,
    jvp=Unfilled("the derivative of a Python function is not known: define it with custom_jvp or custom_vjp"),
    transpose=Unfilled("a Python function is not known to be linear"),
    batch=OverAxis(_pure_batch),
    multiple_results=True,
)


def pure_callback(
    callback: Callable[..., Any],
    result_shape_dtypes: Any,
    *args: Any,
    vmap_method: str | None = None,
    **kwargs: Any,
) -> Any:
    """The value of a Python function (NumPy, SciPy, ...) inside jit, vmap and loops.

    ``callback`` must be pure: it may be called more than once, or not at all where nobody reads its result.

    Args:
        callback: called with Arrays in the place of the arrays of ``args`` and ``kwargs``; other leaves (strings, ...)
            arrive as they are.
        result_shape_dtypes: a pytree of objects with ``shape`` and ``dtype`` (ShapeDtypeStruct, arrays): the result.
        *args: pytrees of arrays.
        vmap_method: what vmap over B examples does. 'sequential' ('sequential_unrolled' is the same here): B calls, in
            order. One call for all examples with a leading axis in every operand and every result: 'broadcast_all':
            operands that are not mapped are repeated, shape [B, ...]; 'expand_dims': they have shape [1, ...];
            'legacy_vectorized': they have no such axis. None: an error.
        **kwargs: further pytrees of arrays, by name.

    Returns:
        A pytree of the structure, shapes and dtypes of ``result_shape_dtypes``. A Python scalar is given the declared
        dtype where that loses no kind (an int as a float, no float as an int).

    Raises:
        TreeMismatchError, ValueError, TypeError: the function returns another structure, shape or dtype.
        MissingBackendError: under grad or jvp (wrap the call in a function with custom_jvp or custom_vjp), or under
            vmap without vmap_method.
        Whatever ``callback`` raises reaches the caller, with the line of this call as a note.

    >>> import numpy as np, fgrad, fgrad.numpy as fnp
    >>> def host_sinc(x):
    ...     return np.sinc(np.asarray(x))
    >>> def f(x):
    ...     result = fgrad.ShapeDtypeStruct(x.shape, x.dtype)
    ...     return fgrad.pure_callback(host_sinc, result, x, vmap_method="expand_dims")
    >>> fgrad.jit(f)(fnp.array([0.0, 0.5])).round(3)
    Array([1.   , 0.637], dtype=float32)

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.pure_callback.html.
    """
    if vmap_method is not None and (not isinstance(vmap_method, str) or vmap_method not in METHODS):
        raise ValueError(
            f"pure_callback: vmap_method must be None or one of {', '.join(METHODS)}, got {vmap_method!r}. "
            "Choose one of them."
        )
    call, arrays = python_call("pure_callback", callback, args, kwargs)
    declared, out_tree = tree.tree_flatten(result_shape_dtypes)
    for x in declared:
        if not (hasattr(x, "shape") and hasattr(x, "dtype")):
            raise TypeError(
                f"pure_callback: result_shape_dtypes must be a pytree of objects with shape and dtype, got {x!r} of "
                f"type {type(x).__name__}. Use fgrad.ShapeDtypeStruct(shape, dtype)."
            )
    out = pure_callback_p.bind(
        *arrays,
        callback=ValueCall(call, out_tree),
        results=tuple([ShapedArray(tuple(x.shape), dtypes.canonical(x.dtype)) for x in declared]),
        sizes=(),
        mapped=((),) * len(arrays),
        vmap_method=vmap_method,
    )
    return out_tree.unflatten(out)
