"""jit: trace once for each signature, compile, and call the program."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fgrad import tree
from fgrad.core import caches
from fgrad.core import trace as _trace
from fgrad.core.array import Array, ConcreteArray, Form, donate, lift
from fgrad.core.array import form as form_of
from fgrad.core.aval import ShapedArray
from fgrad.core.jaxpr import ClosedJaxpr
from fgrad.core.static import items
from fgrad.core.trace import EVAL, Tracer
from fgrad.errors import UnhashableStaticError
from fgrad.higher_order.arguments import (
    ShapeDtypeStruct,
    check_callable,
    flatten_output,
    function_name,
    leaf_aval,
    leaf_names,
    parameter_names,
)
from fgrad.higher_order.jit_primitive import jit_p, program_of
from fgrad.transforms.stage import inline_consts, stage

if TYPE_CHECKING:
    from fgrad.compiler.explain import Explanation
    from fgrad.compiler.program import Program


@dataclass(eq=False, slots=True)
class _Traced:
    """One signature of a jitted function."""

    closed: ClosedJaxpr  # constants hoisted to leading inputs
    consts: tuple[Any, ...]
    out_tree: Any
    out_weak: tuple[bool, ...]
    out_forms: tuple[Form, ...]
    donated: frozenset[int]
    program: Program | None = None  # compiled at the first call that computes
    flat_key: tuple[Form, ...] | None = None  # its key in traced_flat
    used: int = 0

    @property
    def nbytes(self) -> int:
        """Memory of the program between calls, and what a small jaxpr and its plan were found to take."""
        return 16384 + (self.program.nbytes if self.program is not None else 0)


class Jitted:
    """What ``jit`` returns; see there."""

    def __init__(
        self,
        fun: Callable[..., Any],
        static_argnums: Sequence[int],
        static_argnames: Sequence[str],
        donate_argnums: Sequence[int],
        donate_argnames: Sequence[str],
    ):
        functools.update_wrapper(self, fun)
        self.fun = fun
        _check_marked(fun, "static", static_argnums, static_argnames)
        _check_marked(fun, "donate", donate_argnums, donate_argnames)
        names = parameter_names(fun, 64)
        self.static_argnums = tuple(static_argnums)
        self.static_names = frozenset(static_argnames) | {names[i] for i in static_argnums if 0 <= i < len(names)}
        self.static_nums = frozenset(self.static_argnums) | {names.index(n) for n in static_argnames if n in names}
        self.donate_nums = frozenset(donate_argnums) | {names.index(n) for n in donate_argnames if n in names}
        self.donate_names = frozenset(donate_argnames) | {names[i] for i in donate_argnums if 0 <= i < len(names)}
        self.unmarked = not self.static_nums and not self.static_names
        self.traced: dict[Any, _Traced] = {}
        self.traced_flat: dict[Any, _Traced] = {}  # the same, by the forms of positional Arrays alone
        self.__name__ = function_name(fun)
        caches.add_table(self)

    def __get__(self, obj: Any, objtype: Any = None) -> Any:
        return self if obj is None else types.MethodType(self, obj)

    def __repr__(self) -> str:
        return f"<jitted {self.__name__}>"

    # --- the call ---------------------------------------------------------------------------------------------------
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        evaluating = _trace.current_trace.get() is EVAL
        flat_key: list[Form] | None = None
        if evaluating and self.unmarked and not kwargs:
            flat_key = []
            for x in args:  # Arrays are their own leaves: flattening would cost as much as a small program
                if type(x) is not ConcreteArray or (form := x._form or x.find_form()) is None:
                    flat_key = None
                    break
                flat_key.append(form)
            if flat_key is not None and (traced := self.traced_flat.get(tuple(flat_key))) is not None:
                return self._run(traced, [x._value for x in args], args, None)
        static, dynamic, dyn_kwargs = self._split(args, kwargs)
        leaves, in_tree = tree.tree_flatten((dynamic, dyn_kwargs))
        if evaluating:
            key: list[Any] = [static, in_tree]
            values: list[np.ndarray] = []
            value: np.ndarray | None = None
            borrowed: list[np.ndarray] | None = None
            for i, x in enumerate(leaves):
                if type(x) is not ConcreteArray:
                    if isinstance(x, Tracer):
                        break
                    aval = leaf_aval(x, "jit", lambda: leaf_names(self.fun, *self._named(args, kwargs)), i)
                    if isinstance(x, np.ndarray) and x.dtype == aval.dtype and x.dtype.isnative:
                        value = x if x.flags.c_contiguous and x.flags.aligned else np.array(x, order="C")
                        borrowed = [] if borrowed is None else borrowed
                        borrowed.append(value)
                    else:
                        value = lift(x)._value  # type: ignore[attr-defined]
                    key.append(form_of(aval.shape, aval.dtype, aval.weak_type))
                else:
                    value = x._value
                    form = x._form or x.find_form()
                    if form is None:
                        value = np.asarray(value, order="C")
                        form = form_of(value.shape, value.dtype, x._weak)
                    key.append(form)
                values.append(value)
            else:
                value = None  # a reference fewer: see _run
                traced = self.traced.get(tuple(key)) or self._trace(tuple(key), static, leaves, in_tree, args, kwargs)
                if flat_key is not None and tuple(key) in self.traced:
                    traced.flat_key = tuple(flat_key)
                    self.traced_flat[traced.flat_key] = traced
                return self._run(traced, values, leaves, borrowed)
        names = lambda: leaf_names(self.fun, *self._named(args, kwargs))  # noqa: E731
        avals = [leaf_aval(x, "jit", names, i) for i, x in enumerate(leaves)]
        forms = [form_of(a.shape, a.dtype, a.weak_type) for a in avals]
        full_key = (static, in_tree, *_trace.visible_axes(), *forms)
        traced = self.traced.get(full_key) or self._trace(full_key, static, leaves, in_tree, args, kwargs)
        traced.used = caches.clock()
        out = jit_p.bind(*traced.consts, *leaves, jaxpr=traced.closed, name=self.__name__)
        return traced.out_tree.unflatten(out)

    def _run(self, traced: _Traced, values: list[np.ndarray], leaves: Sequence[Any], borrowed: Any) -> Any:
        traced.used = caches.clock()
        program = traced.program
        if program is None:
            program = traced.program = program_of(traced.closed, traced.donated)
        n = len(traced.consts)
        if n:
            values[:0] = [np.asarray(_concrete(c), order="C") for c in traced.consts]
        overwrite: frozenset[int] = frozenset()
        if traced.donated:
            # References to a value now: the Array's slot, ``values`` and getrefcount's own argument.
            overwrite = frozenset(
                i
                for i in traced.donated
                if type(leaves[i - n]) is ConcreteArray and sys.getrefcount(values[i]) <= 3 and _owns_memory(values[i])
            )
        out = program(values, overwrite)
        if borrowed and program.passed:  # all other results are in memory of their own
            out = list(out)
            for j, _ in program.passed:
                if any([np.may_share_memory(out[j], b) for b in borrowed]):
                    out[j] = out[j].copy()
        for i in traced.donated:
            if type(leaves[i - n]) is ConcreteArray:
                donate(leaves[i - n])
        return traced.out_tree.unflatten(
            [ConcreteArray(v, w, f) for v, w, f in zip(out, traced.out_weak, traced.out_forms)]
        )

    # --- tracing ----------------------------------------------------------------------------------------------------
    def _split(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """(hashable static part, dynamic positional arguments, dynamic keyword arguments)"""
        if not self.static_nums and not self.static_names:
            return None, args, kwargs
        nums = {n + len(args) if n < 0 else n for n in self.static_nums}
        static_args = tuple((i, _hashable(a, self.fun, i)) for i, a in enumerate(args) if i in nums)
        static_kwargs = tuple(
            (k, _hashable(v, self.fun, k)) for k, v in sorted(kwargs.items()) if k in self.static_names
        )
        dynamic = tuple(a for i, a in enumerate(args) if i not in nums)
        return (static_args, static_kwargs), dynamic, {k: v for k, v in kwargs.items() if k not in self.static_names}

    def _trace(self, key, static, leaves, in_tree, args, kwargs) -> _Traced:
        names = lambda: leaf_names(self.fun, *self._named(args, kwargs))  # noqa: E731
        avals = [leaf_aval(x, "jit", names, i) for i, x in enumerate(leaves)]
        static_args = dict(static[0]) if static else {}
        static_kwargs = {k: v.value for k, v in static[1]} if static else {}
        out_tree: Any = None

        def flat(*xs: Array) -> list[Array]:
            nonlocal out_tree
            dynamic, dyn_kwargs = in_tree.unflatten(xs)
            it = iter(dynamic)
            full = [static_args[i].value if i in static_args else next(it) for i in range(len(args))]
            out = self.fun(*full, **dyn_kwargs, **static_kwargs)
            flat_out, out_tree = flatten_output(out, "jit", self.fun)
            return flat_out

        closed = stage(flat, avals, name=f"jit of {self.__name__}", arg_names=names)
        out_avals = [v.aval for v in closed.jaxpr.outvars]
        traced = _Traced(
            inline_consts(closed),
            closed.consts,
            out_tree,
            tuple([a.weak_type for a in out_avals]),
            tuple([form_of(a.shape, a.dtype, a.weak_type) for a in out_avals]),
            self._donated(args, kwargs, len(closed.consts)),
        )
        if not any(isinstance(c, Tracer) for c in closed.consts):
            traced.used = caches.clock()
            self.traced[key] = traced
            caches.enforce_limits()
        return traced

    # --- as a table of fgrad.core.caches ----------------------------------------------------------------------------
    def entries(self) -> list[tuple[Any, _Traced]]:
        return list(self.traced.items())

    def forget(self, key: Any) -> None:
        gone = self.traced.pop(key, None)
        if gone is not None and gone.flat_key is not None:
            self.traced_flat.pop(gone.flat_key, None)

    def clear(self) -> None:
        self.traced.clear()
        self.traced_flat.clear()

    def _named(self, args, kwargs):
        """Static arguments without leaves, so that names line up with leaves."""
        nums = {n + len(args) if n < 0 else n for n in self.static_nums}
        shown = [None if i in nums else a for i, a in enumerate(args)]
        return shown, {k: v for k, v in kwargs.items() if k not in self.static_names}

    def _donated(self, args, kwargs, n_consts: int) -> frozenset[int]:
        if not self.donate_nums and not self.donate_names:
            return frozenset()
        args, kwargs = self._named(args, kwargs)
        out: set[int] = set()
        position = n_consts
        nums = {n + len(args) if n < 0 else n for n in self.donate_nums}
        items = [(i in nums, a) for i, a in enumerate(args)]
        items += [(k in self.donate_names, kwargs[k]) for k in sorted(kwargs)]
        for given, a in items:
            n = len(tree.tree_leaves(a))
            if given:
                out.update(range(position, position + n))
            position += n
        return frozenset(out)

    # --- looking inside ---------------------------------------------------------------------------------------------
    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Traces and compiles for these arguments (arrays or ShapeDtypeStructs) without running."""
        static, dynamic, dyn_kwargs = self._split(args, kwargs)
        leaves, in_tree = tree.tree_flatten((dynamic, dyn_kwargs))
        leaves = [_Abstract(x.shape, x.dtype) if isinstance(x, ShapeDtypeStruct) else x for x in leaves]
        traced = self._trace(object(), static, leaves, in_tree, args, kwargs)
        return Lowered(self, traced)


class Lowered:
    """A jitted function for one signature: its jaxpr and the text of its compiled program."""

    def __init__(self, jitted: Jitted, traced: _Traced):
        self.jitted = jitted
        self._traced = traced

    @property
    def jaxpr(self) -> ClosedJaxpr:
        return self._traced.closed

    @property
    def program(self) -> Program:
        return program_of(self._traced.closed, self._traced.donated)

    def as_text(self) -> str:
        """The simplified jaxpr and, instruction by instruction, the kernel that runs."""
        return self.program.as_text()

    def explain(self) -> Explanation:
        """For each instruction: kernel and tile, flops and bytes, what was fused into it and why not more.

        The object has ``rows`` (see ``fgrad.compiler.explain.Row``), totals and ``hints``; printing it shows a table.

        >>> import fgrad, fgrad.numpy as fnp
        >>> told = fgrad.jit(lambda x: fnp.sum(fnp.sin(x) * x)).lower(fnp.ones((8, 8))).explain()
        >>> told.rows[0].fused, told.flops, told.bytes
        (('sin', 'mul', 'reduce_sum'), 192, 260)
        """
        from fgrad.compiler.explain import explain  # loaded where it is asked for, with the compiler

        return explain(self.program)

    def compile(self) -> Jitted:
        """Compiles now; returns the callable."""
        _ = self.program
        return self.jitted

    def __repr__(self) -> str:
        return self.as_text()


class _Abstract(Array):
    """An argument of which only the aval is known."""

    __slots__ = ("aval",)

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        self.aval = ShapedArray(shape, dtype)


class _Static:
    """A static argument as part of a key: equal values of different types (1, 1.0, True) are different keys."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __hash__(self) -> int:
        return hash(self.value)

    def __eq__(self, other: Any) -> bool:
        return type(self.value) is type(other.value) and bool(self.value == other.value)


def _hashable(x: Any, fun: Callable[..., Any], where: int | str) -> _Static:
    name = where if isinstance(where, str) else parameter_names(fun, where + 1)[where]
    try:
        hash(x)
    except TypeError:
        raise UnhashableStaticError(
            f"jit: static arguments must be hashable, got {x!r} of type {_type_name(x)} for argument "
            f"'{name}' of {function_name(fun)}. Pass a tuple instead of a list, or do not mark it static."
        ) from None
    return _Static(x)


def _check_marked(fun: Callable[..., Any], what: str, nums: Sequence[int], names: Sequence[str]) -> None:
    """Marks that name no parameter of ``fun`` are errors, where its signature is known."""
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):
        return
    kinds = {p.kind for p in parameters}
    n = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    for i in nums:
        if inspect.Parameter.VAR_POSITIONAL not in kinds and not -n <= i < n:
            raise ValueError(
                f"jit: {what}_argnums must name positional parameters of the function, got {i} for "
                f"{function_name(fun)}, which takes {n}. Use indices in [{-n}, {n})."
            )
    known = [p.name for p in parameters]
    for name in names:
        if inspect.Parameter.VAR_KEYWORD not in kinds and name not in known:
            raise ValueError(
                f"jit: {what}_argnames must name parameters of the function, got {name!r} for {function_name(fun)}, "
                f"which has {', '.join(known) or 'none'}. Correct the name."
            )


def _type_name(x: Any) -> str:
    return "Array" if isinstance(x, Array) else type(x).__name__


def _owns_memory(value: np.ndarray) -> bool:
    """Whether no other array, view or exporter refers to the value's memory, so that it is ours to give away.

    The memory of a larger result is an array of bytes, the ``base`` of the value: referred to by that and by
    getrefcount's argument.  Any other base is not ours.
    """
    if not value.flags.writeable:
        return False
    return value.base is None or (
        type(value.base) is np.ndarray and value.base.flags.owndata and sys.getrefcount(value.base) <= 2
    )


def _concrete(c: Any) -> np.ndarray:
    return c._value if isinstance(c, ConcreteArray) else _trace._value_outside(c, jit_p)._value


def _as_tuple(what: str, kind: type, x: Any) -> tuple[Any, ...]:
    """Argument numbers (``kind`` int) or names (str): one, several, or None for none."""
    if x is None:
        return ()
    several = items(x) if not isinstance(x, kind) else (x,)
    if several is None or not all(isinstance(v, kind) for v in several):
        kinds = "integers" if kind is int else "names"
        raise TypeError(f"jit: {what} must be {kinds}, got {x!r}. Pass one of them, a tuple of them or None.")
    return several


def jit(
    fun: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Sequence[str] | None = None,
    donate_argnums: int | Sequence[int] | None = None,
    donate_argnames: str | Sequence[str] | None = None,
) -> Any:
    """Compiles ``fun``: it is traced once for each combination of shapes, dtypes and static values.

    Args:
        fun: a pure function of arrays and pytrees of them.
        static_argnums: arguments that stay Python values; they must be hashable, and each value is traced anew.
        static_argnames: the same by name.
        donate_argnums: arguments whose memory the call may reuse for its results.  They cannot be read afterwards
            (DonatedArrayError).  NumPy arrays and memory that other arrays share are never overwritten.
        donate_argnames: the same by name.

    Returns:
        A callable with the signature of ``fun``; its ``lower(*args)`` shows the compiled program.

    Raises:
        UnhashableStaticError: a static argument cannot be hashed.
        TypeError: an argument or a result is no array.  Whatever tracing ``fun`` raises passes through.

    >>> import fgrad, fgrad.numpy as fnp
    >>> f = fgrad.jit(lambda x, n: x * n, static_argnums=1)
    >>> f(fnp.arange(3.0), 2).tolist()
    [0.0, 2.0, 4.0]

    Source: the meaning of https://docs.jax.dev/en/latest/_autosummary/jax.jit.html.
    """
    kwargs = {
        "static_argnums": _as_tuple("static_argnums", int, static_argnums),
        "static_argnames": _as_tuple("static_argnames", str, static_argnames),
        "donate_argnums": _as_tuple("donate_argnums", int, donate_argnums),
        "donate_argnames": _as_tuple("donate_argnames", str, donate_argnames),
    }
    if fun is None:
        return lambda f: Jitted(f, **kwargs)
    check_callable("jit", fun)
    return Jitted(fun, **kwargs)
