"""Defining a primitive from a NumPy function: ``elementwise`` and ``primitive`` fill the slots that you do not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.array import Array
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Host, Kernel, ScalarMap, Unfilled
from fgrad.core.primitive import Linear
from fgrad.core.static import flag, kind
from fgrad.extend import rules
from fgrad.extend.kernel import check_kernel, example_planner
from fgrad.extend.loop import loop_rule
from fgrad.extend.primitive import NO_JVP, NO_TRANSPOSE, Primitive, check_name
from fgrad.extend.signature import Signature, check_rule, check_tuple, of_numpy
from fgrad.numpy.promotion import promote, promote_inexact
from fgrad.primitives.broadcast import batch_to_front_or_common
from fgrad.primitives.define import DOMAINS, NOT_LINEAR, check_same
from fgrad.transforms.vmap import materialize

ON_HOST = Host("defined from a NumPy function")


class Elementwise(Primitive):
    """A primitive whose calls promote and broadcast their operands, as functions of ``fgrad.numpy`` do."""

    floating: bool

    def operands(self, args: Sequence[Any]) -> list[Array]:
        """Operands of one dtype and shape; where the primitive takes floats, integers become floats."""
        return (promote_inexact if self.floating else promote)(self.name, *args)


def elementwise(
    name: str,
    *,
    numpy: Callable[..., Any],
    scalar: Callable[..., Any] | None = None,
    derivatives: Callable[..., Any] | Sequence[Callable[..., Any] | None] | None = None,
    domain: str = "float",
    result: Any = None,
) -> Primitive:
    """Defines an element-wise primitive: ``out[i] = f(x[i], y[i], ...)``.

    The abstract rule, batching and forward mode follow from that; reverse mode follows from forward mode.

    Args:
        name: ``"namespace.name"``, as jaxprs show it.
        numpy: ``numpy(*arrays, **params)``, a function of NumPy arrays of one shape and dtype; keyword-only
            parameters are the primitive's static parameters.  It is what eager evaluation runs.
        scalar: ``scalar(s, *xs, **params)``, the same for one element, written with the emitter ``s`` (`Scalar`).
            Compiled programs inline it into their loops.  Without it they call ``numpy``, between two runs.
        derivatives: for each operand ``d(t, ans, *xs, **params)``, the tangent of the result for tangent ``t`` of
            that operand, where ``ans`` is the result: written in fgrad operations, so that it can be differentiated
            again.  None: the result does not change with that operand (an integer or bool never does).  A function
            alone serves one operand.
        domain: which dtypes it accepts: "float", "inexact" (with complex), "real", "real or bool", "number", "integer",
            "integer or bool" or "any".  For the first two, a call converts integers to floats.
        result: dtype of the result; default: the operands'.

    Returns:
        The primitive, called as ``f(*arrays, **params)``.  Operands are promoted and broadcast as by ``fgrad.numpy``.

    Raises:
        TypeError: a rule cannot be called with these operands and parameters.
        ValueError: the name has no namespace or belongs to another module, or the domain is none of these.

    JAX: `custom_jvp.defjvps` takes the same derivatives
    (https://docs.jax.dev/en/latest/_autosummary/jax.custom_jvp.defjvps.html).

    >>> import fgrad
    >>> import fgrad.numpy as fnp
    >>> cube = elementwise(
    ...     "mylibrary.cube",
    ...     numpy=lambda x: x * x * x,
    ...     scalar=lambda s, x: s.mul(s.mul(x, x), x),
    ...     derivatives=lambda t, ans, x: t * 3 * x**2,
    ... )
    >>> fgrad.vmap(fgrad.grad(cube))(fnp.arange(4.0))
    Array([ 0.,  3., 12., 27.], dtype=float32)
    """
    check_name(name)
    if not isinstance(domain, str) or domain not in DOMAINS:
        raise ValueError(f"{name}: domain must be one of {sorted(DOMAINS)}, got {domain!r}. Choose one.")
    own = of_numpy(name, numpy)
    if not own.operands:
        raise TypeError(f"{name}: numpy must name its operands, got {own!r}. Write them out, as in lambda x, y: ...")
    partials = None if derivatives is None else check_tuple(name, "derivatives", derivatives, own)
    for i, d in enumerate(partials or ()):
        if d is not None:
            check_rule(name, f"derivatives[{i}]", d, ("t", "ans"), own, True)
    fixed = None if result is None else dtypes.canonical(result)
    if partials is None and fixed is not None and not dtypes.is_inexact(fixed):
        partials = (None,) * len(own.operands)  # an integer or bool has no tangent
    rule = None
    if scalar is not None:
        check_rule(name, "scalar", scalar, ("s",), own, True)
        rule = _named(name, scalar)

    @functools.lru_cache(maxsize=1024, typed=True)
    def abstract(*avals: ShapedArray, **params: Any) -> ShapedArray:
        check_same(name, avals, domain)
        dtype = avals[0].dtype if fixed is None else fixed
        if rule is not None and "c" not in (avals[0].dtype.kind, dtype.kind):
            _check_scalar(name, rule, avals, dtype, params)
        return ShapedArray(avals[0].shape, dtype)

    def batch(args: Sequence[Any], dims: Sequence[int | None], **params: Any) -> tuple[Any, int]:
        args, dim = batch_to_front_or_common(args, dims)
        return prim.bind(*args, **params), dim

    reference = rules.numpy_rule(name, numpy, abstract, False)
    jvp: Any = NO_JVP
    if partials is not None:
        jvp = rules.derived_jvp(lambda *xs, **params: prim.bind(*xs, **params), name, partials, (), False)
    prim = Elementwise(
        name,
        abstract=abstract,
        reference=reference,
        cpu=ON_HOST if rule is None else ScalarMap(rule, reference),
        jvp=jvp,
        transpose=NOT_LINEAR,
        batch=batch,
        signature=own,
        doc=numpy.__doc__,
    )
    prim.floating = domain in ("float", "inexact")
    return prim


def _named(name: str, scalar: Callable[..., Any]) -> Callable[..., Any]:
    """The scalar rule, whose own exceptions say where they come from."""

    @functools.wraps(scalar)
    def rule(s: Any, *xs: Any, **params: Any) -> Any:
        try:
            return scalar(s, *xs, **params)
        except Exception as e:
            rules.annotate(e, name, "scalar rule", [x.dtype for x in xs])
            raise

    return rule


def _check_scalar(
    name: str, rule: Callable[..., Any], avals: Sequence[ShapedArray], dtype: np.dtype, params: dict[str, Any]
) -> None:
    """Runs the rule once, into a scrap of code: its mistakes show when a function is traced."""
    from fgrad.kernels.cpu.irtext import Code
    from fgrad.kernels.cpu.scalar import Scalar
    from fgrad.kernels.cpu.value import Value

    s = Scalar(Code(), native_half=True)
    out = rule(s, *[s.load(a.dtype, "%x", group=False) for a in avals], **params)
    given = ", ".join(str(a.dtype) for a in avals)
    if not isinstance(out, Value):
        raise TypeError(
            f"{name}: scalar must return a value of the emitter s, got {out!r} of type {type(out).__name__} for "
            f"{given}. Make constants with s.const(value, dtype)."
        )
    if out.dtype != dtype:
        raise TypeError(
            f"{name}: scalar must return the dtype of the result, got {out.dtype} and {dtype} for {given}. "
            "Convert it with s.cast, or give the dtype as result."
        )


def primitive(
    name: str,
    *,
    numpy: Callable[..., Any],
    abstract: Callable[..., Any],
    kernel: Callable[..., Any] | Kernel | None = None,
    linear: bool | Sequence[int] = False,
    derivatives: Callable[..., Any] | Sequence[Callable[..., Any] | None] | None = None,
    jvp: Callable[..., Any] | None = None,
    transpose: Callable[..., Any] | None = None,
    batch: str | Callable[..., Any] = "loop",
    multiple_results: bool = False,
) -> Primitive:
    """Defines a primitive of any shapes from a NumPy function.

    Every rule takes the primitive's static parameters (the keyword-only parameters of ``numpy``) as keywords, too.

    Args:
        name: ``"namespace.name"``, as jaxprs show it.
        numpy: ``numpy(*arrays, **params)``: its arrays are read-only.
        abstract: ``abstract(*avals, **params)``: a ``fgrad.ShapeDtypeStruct`` for the result (a tuple of them with
            ``multiple_results``).  Avals have ``shape``, ``dtype``, ``ndim`` and ``size``.  All checks of operands
            belong here, so that mistakes show when a function is traced.
        kernel: ``kernel(out, *arrays, **params)``, a function that Numba can compile (with or without ``numba.njit``):
            it fills ``out``, which comes uninitialised.  Arrays are row-major; float16 and bfloat16 come as float32,
            and results of those dtypes go as float32.  With several results each has its ``out``.  Eager evaluation
            and compiled programs run it; without it they call ``numpy``, programs between two runs of compiled code.
            Or an ``extend.Kernel`` of your own planner.
        linear: True if the result is linear in all operands together; ``(0, 1)`` if it is linear in each of operands 0
            and 1 while the others are held.  Forward mode follows for these operands, and ``transpose`` serves them.
        derivatives: for each operand ``d(t, ans, *xs, **params)``, the tangent of the result for tangent ``t`` of that
            operand; None where the result does not change with it, or where ``linear`` says enough.
        jvp: ``jvp(primals, tangents, **params) -> (result, tangent)`` in place of ``derivatives``, where some tangents
            may be ``Zero``.
        transpose: ``transpose(ct, *args, **params)``: for the cotangent ``ct`` of the result a tuple with the
            cotangent of each operand that is a ``LinearArg``, and None for the others.
        batch: "loop": each example in turn (in parallel with a kernel).  "broadcast": ``numpy``, ``kernel`` and
            ``abstract`` accept one more axis in front of every operand and result.  Or a rule
            ``batch(args, dims, **params) -> (result, axis)``, where ``dims[i]`` is the batch axis of operand i or None.
        multiple_results: the result is a tuple.

    Returns:
        The primitive, called as ``f(*arrays, **params)``; dtypes are taken as they come.

    Raises:
        TypeError: a rule is no function, or cannot be called with these operands and parameters.
        ValueError: rules exclude each other; the name has no namespace or belongs to another module.

    JAX: `How primitives work` (https://docs.jax.dev/en/latest/jax-primitives.html) registers the same rules one by one.

    >>> import numpy as np
    >>> import fgrad
    >>> def running_sum(out, x):
    ...     total = 0.0
    ...     for i in range(x.size):
    ...         total += x[i]
    ...         out[i] = total
    >>> cumsum = primitive(
    ...     "mylibrary.cumsum",
    ...     numpy=lambda x: np.cumsum(x, dtype=x.dtype),
    ...     abstract=lambda x: x,
    ...     kernel=running_sum,
    ...     linear=True,
    ...     transpose=lambda ct, x: (cumsum(ct[::-1])[::-1],),
    ... )
    >>> cumsum(np.float32([1, 2, 3]))
    Array([1., 3., 6.], dtype=float32)
    >>> fgrad.grad(lambda x: cumsum(x)[1])(np.float32([1, 2, 3]))
    Array([1., 1., 0.], dtype=float32)
    """
    check_name(name)
    multiple_results = flag(name, "multiple_results", multiple_results)
    own = of_numpy(name, numpy)
    held = _linear_operands(name, linear, own)
    check_rule(name, "abstract", abstract, (), own, True)
    shapes = rules.abstract_rule(name, abstract, multiple_results)
    reference = rules.numpy_rule(name, numpy, shapes, multiple_results)
    if kernel is not None and not isinstance(kernel, Kernel):
        check_kernel(name, kernel, own, multiple_results)

    def bind(*xs: Any, **params: Any) -> Any:
        return prim.bind(*xs, **params)

    prim = Primitive(
        name,
        abstract=shapes,
        reference=reference,
        cpu=_cpu_slot(name, kernel),
        jvp=_jvp_slot(name, own, linear is True, held, derivatives, jvp, bind, multiple_results),
        transpose=_transpose_slot(name, own, linear is True, held, transpose),
        batch=Unfilled("it is being defined"),
        multiple_results=multiple_results,
        signature=own,
        doc=numpy.__doc__,
    )
    prim.batch = _batch_slot(prim, own, kernel, batch)
    prim.linear = tuple((i,) for i in held)
    return prim


def _cpu_slot(name: str, kernel: Any) -> Host | Kernel:
    if kernel is None:
        return ON_HOST
    return kernel if isinstance(kernel, Kernel) else Kernel(example_planner(name, kernel))


def _linear_operands(name: str, linear: Any, own: Signature) -> tuple[int, ...]:
    """The operands in each of which alone the primitive is linear."""
    if isinstance(linear, bool):
        return ()
    if not isinstance(linear, (tuple, list)) or not linear or not all(type(i) is int and i >= 0 for i in linear):
        raise TypeError(
            f"{name}: linear must be True or a tuple of numbers of operands, got {linear!r}. Write linear=(0,) for the "
            "first operand."
        )
    if own.operands is not None and max(linear) >= len(own.operands):
        raise ValueError(
            f"{name}: linear must name operands 0 to {len(own.operands) - 1}, got {tuple(linear)} for operands "
            f"{', '.join(own.operands)}. Count them from 0."
        )
    return tuple(linear)


def _jvp_slot(
    name: str,
    own: Signature,
    jointly: bool,
    held: tuple[int, ...],
    derivatives: Any,
    jvp: Any,
    bind: Any,
    multiple: bool,
) -> Any:
    ways = (("derivatives", derivatives), ("jvp", jvp), ("linear=True", jointly or None))
    given = [what for what, it in ways if it is not None]
    if len(given) > 1:
        raise ValueError(
            f"{name}: one of derivatives, jvp and linear=True gives forward mode, got {' and '.join(given)}. Keep one."
        )
    if jointly:
        return Linear()
    if jvp is not None:
        check_rule(name, "jvp", jvp, ("primals", "tangents"), own, False)
        return rules.jvp_rule(name, jvp, multiple)
    if derivatives is None and not held:
        return NO_JVP
    partials = None if derivatives is None else check_tuple(name, "derivatives", derivatives, own)
    for i, d in enumerate(partials or ()):
        if d is not None:
            if i in held:
                raise ValueError(
                    f"{name}: derivatives[{i}] follows from linear={held}, got a rule for it, too. Give None."
                )
            check_rule(name, f"derivatives[{i}]", d, ("t", "ans"), own, True)
    return rules.derived_jvp(bind, name, partials, held, multiple)


def _transpose_slot(name: str, own: Signature, jointly: bool, held: tuple[int, ...], transpose: Any) -> Any:
    if transpose is None:
        return NO_TRANSPOSE if jointly or held else NOT_LINEAR
    if not jointly and not held:
        raise ValueError(
            f"{name}: transpose serves operands the primitive is linear in, got linear=False. Say which: linear=True, "
            "or linear=(0,) for the first operand."
        )
    check_rule(name, "transpose", transpose, ("ct",), own, True)
    return rules.transpose_rule(name, transpose, None if jointly else held)


def _batch_slot(prim: Primitive, own: Signature, kernel: Any, batch: Any) -> Callable[..., Any]:
    name = prim.name
    if callable(batch):
        check_rule(name, "batch", batch, ("args", "dims"), own, False)
        return rules.batch_rule(name, batch, prim.abstract, prim.multiple_results)
    if not isinstance(batch, str):
        raise TypeError(f"{name}: batch must be 'loop', 'broadcast' or a function, got {kind(batch)}. Choose one.")
    if batch == "loop":
        if isinstance(kernel, Kernel):
            raise ValueError(
                f"{name}: batch='loop' repeats a kernel function, got a Kernel with a planner of its own. Give a batch "
                "rule, or batch='broadcast' if the planner accepts one more axis."
            )
        return loop_rule(prim, kernel)
    if batch == "broadcast":
        return rules.batch_rule(name, _broadcast_rule(prim), prim.abstract, prim.multiple_results)
    raise ValueError(f"{name}: batch must be 'loop', 'broadcast' or a function, got {batch!r}. Choose one.")


def _broadcast_rule(prim: Primitive) -> Callable[..., Any]:
    """Every operand with the batch in front."""

    def batch(args: Sequence[Any], dims: Sequence[int | None], **params: Any) -> tuple[Any, Any]:
        size = next(x.shape[d] for x, d in zip(args, dims) if d is not None)
        out = prim.bind(*[materialize(x, d, size, 0) for x, d in zip(args, dims)], **params)
        return (out, [0] * len(out)) if prim.multiple_results else (out, 0)

    return batch
