"""What custom_jvp and custom_vjp share: a call's arguments, and a user's function with the level it runs at.

A transformation runs a function with a custom derivative, and its rules, one level down: in its parent trace, on values
of that level.  So Python control flow on concrete values works in them under grad, and a value of the level above
that they close over is out of their reach (ClosedOverTracerError).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fgrad import tree
from fgrad.core import dtypes
from fgrad.core.array import Array, ConcreteArray, lift
from fgrad.core.aval import ShapedArray
from fgrad.core.jaxpr import ClosedJaxpr, blamed, blaming_by_turns, eval_jaxpr
from fgrad.core.primitive import Axis, LinearArg, Zero
from fgrad.core.static import sequence
from fgrad.core.trace import EVAL, Trace, Tracer, current_trace, encloses, escaped, using
from fgrad.errors import ClosedOverTracerError, ConcretizationError, EscapedTracerError, TreeMismatchError
from fgrad.higher_order.arguments import (
    check_callable,
    flatten_output,
    function_name,
    is_arraylike,
    leaf_names,
    parameter_names,
)
from fgrad.higher_order.jit_primitive import derived_program_of, reference_of
from fgrad.transforms.linearize import linear_tape
from fgrad.transforms.stage import inline_consts, stage
from fgrad.transforms.vmap import materialize, vmap_flat

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


# --- arguments -------------------------------------------------------------------------------------------------------
class Signature:
    """A function's parameters, and which of them are not differentiated."""

    def __init__(
        self,
        who: str,
        fun: Callable[..., Any],
        nondiff_argnums: int | Sequence[int],
        nondiff_argnames: str | Sequence[str],
    ):
        check_callable(who, fun)
        nums = nondiff_argnums if isinstance(nondiff_argnums, (tuple, list)) else (nondiff_argnums,)
        one = isinstance(nondiff_argnames, str)
        by_name = (nondiff_argnames,) if one else sequence(who, "nondiff_argnames", nondiff_argnames)
        self.who, self.fun, self.name = who, fun, function_name(fun)
        self.signature: inspect.Signature | None
        try:
            self.signature = inspect.signature(fun)
        except (TypeError, ValueError):
            self.signature = None
        parameters = [] if self.signature is None else list(self.signature.parameters.values())
        self.names = [p.name for p in parameters if p.kind in POSITIONAL]
        self.only_positional = len(self.names) == len(parameters) > 0
        self.nondiff = frozenset(map(self._number, nums)) | frozenset(map(self._number_of, by_name))

    def _number(self, i: Any) -> int:
        if not isinstance(i, int):
            raise TypeError(
                f"{self.who}: nondiff_argnums must be ints, got {i!r} for {self.name}. Count the arguments from 0."
            )
        n = len(self.names)
        known = self.signature is not None and all(
            p.kind is not p.VAR_POSITIONAL for p in self.signature.parameters.values()
        )
        if (known and not -n <= i < n) or (not known and i < 0):
            has = f"takes {n}" if known else "takes any number"
            use = f"indices in [{-n}, {n})" if known else "indices counted from 0"
            raise ValueError(
                f"{self.who}: nondiff_argnums must name positional parameters of the function, got {i} for "
                f"{self.name}, which {has}. Use {use}."
            )
        return i % n if known else i

    def _number_of(self, name: str) -> int:
        if not isinstance(name, str) or name not in self.names:
            raise ValueError(
                f"{self.who}: nondiff_argnames must name positional parameters of the function, got {name!r} for "
                f"{self.name}, which has {', '.join(self.names) or 'none'}. Correct the name."
            )
        return self.names.index(name)

    def positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Every argument by its position, defaults included."""
        if self.signature is None or (self.only_positional and not kwargs and len(args) == len(self.names)):
            if kwargs:
                raise TypeError(
                    f"{self.who}: {self.name} has no signature to find keyword arguments in, got {sorted(kwargs)}. "
                    "Pass them by position."
                )
            return args
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as e:
            raise TypeError(
                f"{self.who}: arguments must fit the signature {self.name}{self.signature}, got {len(args)} positional "
                f"and {len(kwargs)} by keyword ({e}). Change the call."
            ) from None
        bound.apply_defaults()
        if by_keyword := [name for name in bound.kwargs if name in kwargs]:
            raise TypeError(
                f"{self.who}: rules take their arguments by position, got keyword-only {', '.join(by_keyword)} of "
                f"{self.name}. Make the parameters positional."
            )
        return bound.args


class CustomFunction:
    """A user's function that rules can be given for; as a method, it gets the object first."""

    who: str  # the name of the decorator

    def __init__(
        self,
        fun: Callable[..., Any],
        nondiff_argnums: int | Sequence[int] = (),
        nondiff_argnames: str | Sequence[str] = (),
    ):
        self.signature = Signature(self.who, fun, nondiff_argnums, nondiff_argnames)
        functools.update_wrapper(self, fun)
        self.__name__ = function_name(fun)
        self.fun = fun

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def __get__(self, obj: Any, objtype: Any = None) -> Any:
        return self if obj is None else types.MethodType(self, obj)

    def __repr__(self) -> str:
        return f"<{self.who} {self.__name__}>"


class Call:
    """One call: operands are the traced leaves of arguments that are not differentiated, then the leaves of the rest.

    Whatever else is in the former (functions, Python values, arrays with values) is passed to the user's functions as
    it is.  The call itself holds no operands: a tape keeps it longer than those need to live.
    """

    def __init__(self, signature: Signature):
        self.who, self.user_fun, self.name = signature.who, signature.fun, signature.name
        self.nondiff = signature.nondiff
        self.out_tree: Any = None  # of the function, or of the rule where that ran in its place
        self.fun_tree: Any = None  # of the function, where it ran

    def operands(self, args: tuple[Any, ...]) -> list[Array]:
        """The arguments as operands; to be called first, once."""
        self.n_args = len(args)
        leaves, self.in_tree = tree.tree_flatten(tuple([a for i, a in enumerate(args) if i not in self.nondiff]))
        for i, x in enumerate(leaves):
            if not is_arraylike(x):
                raise TypeError(
                    f"{self.who}: arguments must be arrays, scalars or pytrees of them, got {x!r} of type "
                    f"{type(x).__name__} in argument {self.leaf_names()[i]}. Name it in nondiff_argnums."
                )
        xs = [lift(x, self.who) for x in leaves]
        self.avals = [x.aval for x in xs]
        fixed = [a for i, a in enumerate(args) if i in self.nondiff]
        fixed_leaves, self.fixed_tree = tree.tree_flatten(fixed)
        self.traced = [isinstance(x, Tracer) for x in fixed_leaves]
        self.n_nondiff = sum(self.traced)
        self.fixed_leaves = [None if t else x for x, t in zip(fixed_leaves, self.traced)]
        return [x for x, t in zip(fixed_leaves, self.traced) if t] + xs

    def leaf_names(self) -> list[str]:
        """A name for each leaf of the differentiated arguments."""
        others = iter(self.in_tree.unflatten([0] * self.in_tree.num_leaves))
        shown = [None if i in self.nondiff else next(others) for i in range(self.n_args)]
        return leaf_names(self.user_fun, shown, {})

    def takes(self, *others: str) -> str:
        """What a rule takes that gets the arguments that are not differentiated first."""
        names = parameter_names(self.user_fun, self.n_args)
        return f"({', '.join([*(n for i, n in enumerate(names) if i in self.nondiff), *others])})"

    def operand_names(self) -> list[str]:
        return [f"an array in nondiff_argnums of {self.name}"] * self.n_nondiff + self.leaf_names()

    def python_fun(self, operands: Sequence[Any]) -> PythonFun:
        return PythonFun(self.fun, [x.aval.weak_type for x in operands], self.operand_names)

    def fixed(self, operands: Sequence[Any]) -> list[Any]:
        """The arguments that are not differentiated."""
        it = iter(operands[: self.n_nondiff])
        fixed = [next(it) if t else x for x, t in zip(self.fixed_leaves, self.traced)]
        return self.fixed_tree.unflatten(fixed)

    def others(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments that are differentiated."""
        return self.in_tree.unflatten(operands[self.n_nondiff :])

    def arguments(self, operands: Sequence[Any]) -> list[Any]:
        """All arguments in their order."""
        fixed, others = iter(self.fixed(operands)), iter(self.others(operands))
        return [next(fixed) if i in self.nondiff else next(others) for i in range(self.n_args)]

    def fun(self, *operands: Any) -> list[Array]:
        out, self.out_tree = self.results(self.user_fun(*self.arguments(operands)), self.user_fun)
        self.fun_tree = self.out_tree
        return out

    def traced_fun(self, operands: Sequence[Any]) -> ClosedJaxpr | None:
        """What the function computes of such operands; None if it needs their values, or closes over a traced one."""
        try:
            return stage(self.fun, [x.aval for x in operands])
        except (ConcretizationError, EscapedTracerError):
            return None

    def results(self, out: Any, of: Callable[..., Any]) -> tuple[list[Array], Any]:
        """Leaves and structure of what a user's function returned."""
        leaves, out_tree = flatten_output(out, self.who, of)
        trace = current_trace.get()
        for x in leaves:
            if isinstance(x, Tracer) and not encloses(x._trace, trace):
                raise escaped(x, self.who)
        return leaves, out_tree

    def output(self, outs: Sequence[Any]) -> Any:
        return self.out_tree.unflatten(outs)

    def check_rule_tree(self, rule: Callable[..., Any], out_tree: Any) -> None:
        """The rule's output must have the structure of the function's, where that is known."""
        if self.fun_tree is not None and out_tree != self.fun_tree:
            raise TreeMismatchError(
                f"{self.who}: {function_name(rule)} must return an output with the structure of {self.name}'s, got "
                f"{tree.structure_text(out_tree)} for {tree.structure_text(self.fun_tree)}. Return the same containers."
            )
        self.out_tree = out_tree


def call_rule(who: str, rule: Callable[..., Any], takes: str, args: Sequence[Any]) -> Any:
    """rule(*args); a rule that cannot take these is an error that says what it ``takes``."""
    try:
        return rule(*args)
    except TypeError:
        signature, misfit = _misfit(rule, args)
        if not misfit:
            raise
        name = function_name(rule)
        raise TypeError(
            f"{who}: {name} must take {takes}, got {name}{signature}, called with {len(args)} ({misfit}). Change its "
            "parameters."
        ) from None


def _misfit(fun: Callable[..., Any], args: Sequence[Any]) -> tuple[inspect.Signature | None, str]:
    """(signature, why it does not take so many arguments); no reason where it does, or has no signature."""
    try:
        signature = inspect.signature(fun)
    except (TypeError, ValueError):
        return None, ""
    try:
        signature.bind(*args)
    except TypeError as e:
        return signature, str(e)
    return signature, ""


def check_pair(who: str, rule: Callable[..., Any], pair: Any, parts: str) -> tuple[Any, Any]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        got = pair.aval if isinstance(pair, Array) else type(pair).__name__
        got = f"{len(pair)} values" if isinstance(pair, (tuple, list)) else got
        raise TypeError(f"{who}: {function_name(rule)} must return a pair ({parts}), got {got}. Return two values.")
    return pair[0], pair[1]


def check_rule_avals(who: str, name: str, fun: Any, outs: Sequence[Any], of: str) -> None:
    """The rule's output must have the types of the function's, where the function was traced."""
    if not isinstance(fun, ClosedJaxpr):
        return
    for i, (o, want) in enumerate(zip(outs, fun.out_avals)):
        if not o.aval.same_type(want):
            raise ValueError(
                f"{who}: {of} must return an output with the shapes and dtypes of {name}'s, got {o.aval} for {want} in "
                f"leaf {i}. Compute the same output."
            )


def float0_zeros(aval: ShapedArray) -> np.ndarray:
    """What users see as the tangent or cotangent of an integer."""
    return np.zeros(aval.shape, dtypes.float0)


# --- levels ----------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def one_level_down(who: str, name: str, trace: Trace | None = None) -> Iterator[None]:
    """Runs a user's function in ``trace`` (default: the current one), which is below the one it was called in."""
    try:
        with using(trace or current_trace.get()), blaming_by_turns():
            blamed.set(None)  # its operations have lines of their own
            yield
    except EscapedTracerError as e:
        if isinstance(e, ClosedOverTracerError):
            raise
        raise ClosedOverTracerError(
            f"{who}: {name} and its rules must not close over a value that a transformation around the call traces, "
            f"got {e.tracer}. Pass the value as an argument (closure_convert finds such values)."
        ) from None


def check_constants(who: str, name: str, tangents: Sequence[Any]) -> None:
    """A traced function's closed-over values are operands of its equation; its rules know nothing of them."""
    for t in tangents:
        if type(t) is not Zero:
            raise ClosedOverTracerError(
                f"{who}: {name} cannot be differentiated with respect to a value it closes over, got a tangent of type "
                f"{t.aval} for one. Pass the value as an argument (closure_convert finds such values)."
            )


class PythonFun:
    """A flat Python function of operands with these weak types; ``names()`` is what errors call them."""

    __slots__ = ("fun", "names", "weak")

    def __init__(self, fun: Callable[..., list[Any]], weak: Sequence[bool], names: Callable[[], list[str]]):
        self.fun, self.weak, self.names = fun, weak, names

    def __call__(self, *args: Any) -> list[Any]:
        return self.fun(*args)


def callable_of(fun: PythonFun | ClosedJaxpr) -> Callable[..., list[Any]]:
    return (lambda *args: eval_jaxpr(fun.jaxpr, fun.consts, *args)) if isinstance(fun, ClosedJaxpr) else fun


def run(who: str, name: str, fun: PythonFun | ClosedJaxpr, values: Sequence[np.ndarray]) -> list[tuple[Any, bool]]:
    """Evaluates with values: Python as it stands, a jaxpr as a program."""
    if isinstance(fun, ClosedJaxpr):
        out = derived_program_of(fun)([np.asarray(v, order="C") for v in values])
        return [(v, a.weak_type) for v, a in zip(out, fun.out_avals)]
    with one_level_down(who, name, EVAL):
        outs = fun(*[ConcreteArray(v, w) for v, w in zip(values, fun.weak)])
    return [(o._value, o._weak) for o in outs]


def out_avals(fun: PythonFun | ClosedJaxpr, avals: Sequence[ShapedArray]) -> tuple[ShapedArray, ...]:
    return fun.out_avals if isinstance(fun, ClosedJaxpr) else stage(fun, avals).out_avals


def reference(fun: PythonFun | ClosedJaxpr, avals: Sequence[ShapedArray], arrays: Sequence[np.ndarray]) -> list[Any]:
    return reference_of(fun if isinstance(fun, ClosedJaxpr) else stage(fun, avals), arrays)


def staged(who: str, trace: Trace, args: Sequence[Any], params: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The slot ``stage``: an equation holds a jaxpr; the values its function closes over become leading operands."""
    fun = params["fun"]
    if isinstance(fun, ClosedJaxpr):
        return args, params
    with one_level_down(who, params["name"], trace):
        closed = stage(fun, [a.aval for a in args], name=f"{who} of {params['name']}", arg_names=fun.names)
    n_consts = params["n_consts"] + len(closed.consts)
    return (*closed.consts, *args), {**params, "fun": inline_consts(closed), "n_consts": n_consts}


class OutDims:
    """Where a mapped call's results have the batch axis: in front, or nowhere.

    Nowhere if no operand is mapped and no result depends on a mapped value in a closure, as the function or the rule
    finds, whichever runs first.
    """

    def __init__(self, who: str, name: str, axis: Axis, dims: Sequence[int | None]):
        self.who, self.name, self.axis = who, name, axis
        self.mapped: bool | None = True if any([d is not None for d in dims]) else None

    @property
    def dim(self) -> int | None:
        return 0 if self.mapped else None

    def place(self, vals: Sequence[Any], dims: Sequence[int | None]) -> list[Any]:
        if self.mapped is None:
            self.mapped = any([d is not None for d in dims])
        return [self.moved(v, d) for v, d in zip(vals, dims)]

    def moved(self, x: Any, dim: int | None) -> Any:
        if self.mapped:
            return materialize(x, dim, self.axis.size, 0)
        if dim is not None:
            raise ClosedOverTracerError(
                f"{self.who}: {self.name} and its rule must depend on the same mapped values, got a result that is "
                "mapped in the rule only. Pass the values as arguments (closure_convert finds such values)."
            )
        return x


def batched(fun: PythonFun | ClosedJaxpr, args: Sequence[Any], dims: Sequence[int | None], out: OutDims) -> PythonFun:
    """fun over a batch axis."""
    call = callable_of(fun)
    names = fun.names if isinstance(fun, PythonFun) else lambda: []
    weak = [a.aval.weak_type for a in args]
    return PythonFun(lambda *xs: out.place(*vmap_flat(call, xs, dims, out.axis)), weak, names)


def nothing_mapped(fun: PythonFun | ClosedJaxpr, axis: Axis, dims: Sequence[int | None]) -> bool:
    """Whether a call is the same for every example: it is traced, on values that are, and asks for no named axis."""
    return isinstance(fun, ClosedJaxpr) and axis.name not in fun.jaxpr.axes and all([d is None for d in dims])


def transposed(fun: PythonFun | ClosedJaxpr, cts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """The transpose slot, for a function that a rule applies to tangents: its own operations are transposed."""
    call = callable_of(fun)

    def apply(*xs: Any) -> list[Any]:
        it = iter(xs)
        return call(*[next(it) if isinstance(a, LinearArg) else a for a in args])

    tape = linear_tape(apply, [a.aval for a in args if isinstance(a, LinearArg)])
    out = iter(tape.transpose(cts))
    return [next(out) if isinstance(a, LinearArg) else None for a in args]
