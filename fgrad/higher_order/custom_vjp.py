"""custom_vjp: a function whose reverse-mode rule the user writes, as a forward and a backward pass.

Differentiating it runs the forward pass and puts ``custom_vjp_linear`` on the tape: a linear map of which only the
transpose is known, which is the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from fgrad import tree
from fgrad.core.array import Array, aval_of, lift
from fgrad.core.backends import Host, Inline
from fgrad.core.dtypes import is_inexact
from fgrad.core.primitive import Axis, LinearArg, OverAxis, Primitive, Zero
from fgrad.core.trace import EVAL, current_trace
from fgrad.errors import ForwardModeError, MissingRuleError, TreeMismatchError
from fgrad.higher_order import custom_call
from fgrad.higher_order.arguments import check_callable, function_name, is_arraylike
from fgrad.higher_order.custom_call import Call, OutDims, Signature, float0_zeros
from fgrad.primitives.broadcast import reduce_sum_p
from fgrad.primitives.convert import convert
from fgrad.primitives.define import NO_CUDA
from fgrad.transforms.vmap import materialize, vmap_flat
from fgrad.transforms.zeros import instantiate


class custom_vjp(custom_call.CustomFunction):
    """A function with a reverse-mode derivative of its own.

    Formula: with the rules set by :meth:`defvjp`, ``fwd(*args) = (f(*args), residuals)`` and
    ``bwd(residuals, ct) = (ctᵀ ∂f/∂x_0, ctᵀ ∂f/∂x_1, ...)``.  Reverse mode uses them in place of differentiating
    ``fun``; forward mode cannot, as no rule says what it should compute.

    Args:
        fun: a function of pytrees of arrays.
        nondiff_argnums: positions of arguments that are not differentiated (functions, Python values).  ``fwd`` gets
            them in their places, ``bwd`` gets them first.  Traced arrays may be among them, under ``jit`` and ``vmap``.
        nondiff_argnames: the same by name.

    The rules and, outside ``jit`` and ``vmap``, ``fun`` see values, so they may branch on them in Python.

    Raises:
        MissingRuleError: called before ``defvjp``.
        ForwardModeError: ``jvp``, ``jacfwd`` or the map made by ``linearize`` meets it.
        ClosedOverTracerError: ``fun`` or a rule closes over a value that is being differentiated.
        TypeError, ValueError, TreeMismatchError: a rule returns the wrong number, structure, shapes or dtypes.

    >>> import fgrad, fgrad.numpy as fnp
    >>> @fgrad.custom_vjp
    ... def clip_gradient(limit, x):
    ...     return x
    >>> def fwd(limit, x):
    ...     return x, limit
    >>> def bwd(limit, ct):
    ...     return None, fnp.clip(ct, -limit, limit)
    >>> clip_gradient.defvjp(fwd, bwd)
    >>> float(fgrad.grad(lambda x: 10 * clip_gradient(2.0, x))(1.0))
    2.0

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.custom_vjp.html.
    """

    who = "custom_vjp"
    fwd: Callable[..., Any] | None = None
    bwd: Callable[..., Any] | None = None
    compared = False  # fwd's output with the function's

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Sets the rules ``fwd(*args) -> (output, residuals)`` and ``bwd(*nondiff_args, residuals, ct) -> cotangents``.

        ``residuals`` is any pytree.  ``ct`` has the structure of the output, with float0 arrays for integers.
        ``bwd`` returns a tuple with a cotangent for each differentiated argument; None, for an argument or any part of
        one, is a cotangent of zero.  Cotangents of integers are not looked at.
        """
        check_callable("custom_vjp", fwd)
        check_callable("custom_vjp", bwd)
        self.fwd, self.bwd = fwd, bwd
        self.compared = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.fwd is None or self.bwd is None:
            raise MissingRuleError(
                f"custom_vjp: rules must be defined before the function is called, got none for {self.__name__}. "
                "Use defvjp(fwd, bwd)."
            )
        call = _VJPCall(self.signature, self)
        operands = call.operands(self.signature.positional(args, kwargs))
        if current_trace.get() is EVAL:
            return call.output(call.fun(*operands))
        outs = custom_vjp_p.bind(
            *operands,
            fun=call.python_fun(operands),
            fwd=call.fwd,
            name=self.__name__,
            n_consts=0,
            n_nondiff=call.n_nondiff,
        )
        return call.output(outs)


class _VJPCall(Call):
    def __init__(self, signature: Signature, of: custom_vjp):
        super().__init__(signature)
        assert of.fwd is not None and of.bwd is not None
        self.user_fwd, self.user_bwd, self.of = of.fwd, of.bwd, of

    def fwd(self, *operands: Any) -> tuple[list[Any], list[Any], Callable[..., list[Any]]]:
        """(outputs, residuals, back): ``back(residuals, cotangents of inexact outputs) -> [an array or Zero for each
        differentiated leaf]``
        """
        takes = f"the arguments of {self.name}"
        pair = custom_call.call_rule(self.who, self.user_fwd, takes, self.arguments(operands))
        out, res = custom_call.check_pair(self.who, self.user_fwd, pair, "output, residuals")
        outs, out_tree = self.results(out, self.user_fwd)
        # once for each pair of rules, as tracing has a cost
        closed = None if self.of.compared else self.traced_fun(operands)
        self.check_rule_tree(self.user_fwd, out_tree)
        custom_call.check_rule_avals(self.who, self.name, closed, outs, function_name(self.user_fwd))
        self.of.compared = True
        leaves, res_tree = tree.tree_flatten(res)
        is_array = [isinstance(x, (Array, np.ndarray, np.generic)) for x in leaves]
        arrays, _ = self.results([x for x, a in zip(leaves, is_array) if a], self.user_fwd)
        rest = [None if a else x for x, a in zip(leaves, is_array)]
        avals = [o.aval for o in outs]

        def back(residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
            it, given = iter(residuals[self.n_nondiff :]), iter(cts)
            res = res_tree.unflatten([next(it) if a else x for x, a in zip(rest, is_array)])
            ct = out_tree.unflatten([next(given) if is_inexact(a.dtype) else float0_zeros(a) for a in avals])
            args = [*self.fixed(residuals), res, ct]
            takes = self.takes("residuals", "cotangent")
            return self.cotangents(custom_call.call_rule(self.who, self.user_bwd, takes, args))

        return outs, [*operands[: self.n_nondiff], *arrays], back

    def cotangents(self, result: Any) -> list[Any]:
        """What bwd returned, as an array or Zero for each differentiated leaf."""
        bwd, wanted = function_name(self.user_bwd), self.others([0] * (self.n_nondiff + len(self.avals)))
        if not isinstance(result, (tuple, list)):
            got = result.aval if isinstance(result, Array) else type(result).__name__
            raise TypeError(
                f"{self.who}: {bwd} must return a tuple with a cotangent for each of the {len(wanted)} differentiated "
                f"arguments of {self.name}, got {got}. Return a tuple, even of one."
            )
        if len(result) != len(wanted):
            raise TypeError(
                f"{self.who}: {bwd} must return a tuple with a cotangent for each of the {len(wanted)} differentiated "
                f"arguments of {self.name}, got {len(result)}. Return None for an argument without one."
            )
        try:
            cts = tree.broadcast_prefix(tuple(result), wanted)
        except (ValueError, TypeError):
            cts = []
        # None stands for any part of an argument, a cotangent for one leaf only
        given = len(tree.tree_leaves(result))
        same = given < len(cts) or tree.tree_structure(tuple(result)) == self.in_tree
        if len(cts) != len(self.avals) or given != sum(c is not None for c in cts) or not same:
            raise TreeMismatchError(
                f"{self.who}: {bwd} must return cotangents with the structure of {self.name}'s differentiated "
                f"arguments, got {tree.structure_text(tree.tree_structure(tuple(result)))} for "
                f"{tree.structure_text(self.in_tree)}. Return the same containers, with None for zeros."
            )
        return [self.cotangent(c, i) for i, c in enumerate(cts)]

    def cotangent(self, c: Any, i: int) -> Any:
        aval = self.avals[i]
        if c is None or not is_inexact(aval.dtype):
            return Zero(aval.tangent())
        if not is_arraylike(c):
            raise TypeError(
                f"{self.who}: {function_name(self.user_bwd)} must return arrays or None, got {c!r} of type "
                f"{type(c).__name__} for argument {self.leaf_names()[i]}. Return arrays."
            )
        got = aval_of(c)
        if got.shape != aval.shape or (got.dtype != aval.dtype and not got.weak_type):
            raise ValueError(
                f"{self.who}: {function_name(self.user_bwd)} must return cotangents of the shapes and dtypes of the "
                f"arguments, got {got} for argument {self.leaf_names()[i]}, {aval}. Reshape or convert the cotangent."
            )
        return convert(lift(c, self.who), aval.dtype)


# --- the function ----------------------------------------------------------------------------------------------------
# params: fun: operands -> outputs; fwd: operands -> (outputs, residuals, back), of the operands after the first
# n_consts, which only a traced fun has: values it closes over; the next n_nondiff are not differentiated.
def _jvp(primals, tangents, *, fun, fwd, name: str, n_consts: int, n_nondiff: int):
    custom_call.check_constants("custom_vjp", name, tangents[:n_consts])
    dynamic = n_consts + n_nondiff
    if any([type(t) is not Zero for t in tangents[n_consts:dynamic]]):
        raise TypeError(
            f"custom_vjp: an argument named in nondiff_argnums cannot be differentiated, got one of {name} that "
            "depends on a differentiated value. Leave it out of nondiff_argnums, or apply lax.stop_gradient to it."
        )
    with custom_call.one_level_down("custom_vjp", name):
        outs, residuals, back = fwd(*primals[n_consts:])
    custom_call.check_rule_avals("custom_vjp", name, fun, outs, "fwd")
    live = [t for t in tangents[dynamic:] if type(t) is not Zero]
    t_outs = iter(
        custom_vjp_linear_p.bind(
            *residuals,
            *live,
            back=back,
            name=name,
            n_residuals=len(residuals),
            depends=tuple([type(t) is not Zero for t in tangents[dynamic:]]),
            out_avals=tuple([o.aval.tangent() for o in outs if is_inexact(o.dtype)]),
        )
    )
    return outs, [next(t_outs) if is_inexact(o.dtype) else Zero(o.aval.tangent()) for o in outs]


def _batch(axis: Axis, args, dims, *, fun, fwd, name: str, n_consts: int, n_nondiff: int):
    own = dims[n_consts:]

    def over_axis(*operands):
        back: Any = None
        n_out = 0

        def forward(*xs):
            nonlocal back, n_out
            outs, residuals, back = fwd(*xs)
            n_out = len(outs)
            return [*outs, *residuals]

        vals, out_dims = vmap_flat(forward, operands, own, axis)
        outs = out.place(vals[:n_out], out_dims[:n_out])
        return outs, vals[n_out:], _batched_back(back, out, out_dims[n_out:], own[n_nondiff:])

    params = {"n_consts": n_consts, "n_nondiff": n_nondiff}
    if custom_call.nothing_mapped(fun, axis, dims):
        outs = custom_vjp_p.bind(*args, fun=fun, fwd=fwd, name=name, **params)
        return outs, [None] * len(outs)
    out = OutDims("custom_vjp", name, axis, dims)
    batched = custom_call.batched(fun, args, dims, out)
    outs = custom_vjp_p.bind(*args, fun=batched, fwd=over_axis, name=f"vmap_{name}", **params)
    return outs, [out.dim] * len(outs)


def _batched_back(back, out: OutDims, residual_dims: Sequence[int | None], dims: Sequence[int | None]):
    """back over a batch axis; cotangents are mapped as ``out`` says, argument leaf i at ``dims[i]`` or not at all."""

    def over_axis(residuals, cts):
        zero: list[Any] = []

        def backward(*xs):
            out = back(xs[: len(residuals)], xs[len(residuals) :])
            zero[:] = [c if type(c) is Zero else None for c in out]
            return [c for c in out if type(c) is not Zero]

        vals, out_dims = vmap_flat(backward, [*residuals, *cts], [*residual_dims, *[out.dim] * len(cts)], out.axis)
        it = iter(zip(vals, out_dims))
        return [z if z is not None else _placed(*next(it), d, out) for z, d in zip(zero, dims)]

    return over_axis


def _placed(ct: Any, dim: int | None, wanted: int | None, out: OutDims) -> Any:
    """A cotangent with its argument's batch axis; summed over the examples for an argument that has none."""
    if wanted is not None:
        return materialize(ct, dim, out.axis.size, wanted)
    ct = out.moved(ct, dim)
    return reduce_sum_p.bind(ct, axes=(0,)) if out.mapped else ct


custom_vjp_p = Primitive(
    "custom_vjp",
    abstract=lambda *avals, fun, **_: custom_call.out_avals(fun, avals),
    reference=lambda *xs, fun, **_: custom_call.reference(fun, [aval_of(x) for x in xs], xs),
    cpu=Inline("fun", lambda xs, *, fun, name, **_: custom_call.run("custom_vjp", name, fun, xs), keeps_rules=True),
    cuda=NO_CUDA,
    jvp=_jvp,
    transpose=lambda cts, *args, fun, **_: custom_call.transposed(fun, cts, args),
    batch=OverAxis(_batch, holds_python=True),
    stage=lambda trace, args, params: custom_call.staged("custom_vjp", trace, args, params),
    multiple_results=True,
    own_weak=True,
)


# --- its linear map --------------------------------------------------------------------------------------------------
# operands: residuals, and the tangents of those differentiated leaves that ``depends`` marks.
def _no_forward(*_args: Any, name: str, **_: Any) -> NoReturn:
    raise ForwardModeError(
        f"custom_vjp: forward mode (jvp, jacfwd, the map made by linearize) needs a rule for tangents, got {name}, "
        "which has fwd and bwd only. Use reverse mode (grad, vjp, jacrev), or custom_jvp, which serves both."
    )


def _linear_transpose(cts, *args, back, name: str, n_residuals: int, depends, out_avals):
    if any([isinstance(a, LinearArg) for a in args[:n_residuals]]):
        _no_forward(name=name)
    with custom_call.one_level_down("custom_vjp", name):
        out = back(args[:n_residuals], [instantiate(c) for c in cts])
    return [*[None] * n_residuals, *(c for c, d in zip(out, depends) if d)]


def _linear_batch(axis: Axis, args, dims, *, back, name: str, n_residuals: int, depends, out_avals):
    tangent_dims = iter(dims[n_residuals:])
    leaf_dims = [next(tangent_dims) if d else None for d in depends]
    outs = custom_vjp_linear_p.bind(
        *args,
        back=_batched_back(back, OutDims("custom_vjp", name, axis, [0]), dims[:n_residuals], leaf_dims),
        name=f"vmap_{name}",
        n_residuals=n_residuals,
        depends=depends,
        out_avals=tuple([a.update(shape=(axis.size, *a.shape)) for a in out_avals]),
    )
    return outs, [0] * len(outs)


custom_vjp_linear_p = Primitive(
    "custom_vjp_linear",
    abstract=lambda *_avals, out_avals, **_: out_avals,
    reference=_no_forward,
    cpu=Host("only its transpose is known"),
    cuda=NO_CUDA,
    jvp=lambda primals, tangents, **params: _no_forward(**params),
    transpose=_linear_transpose,
    batch=OverAxis(_linear_batch),
    multiple_results=True,
    own_weak=True,
)
