"""vectorize: a function of small arrays as one that broadcasts, by nested vmaps."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from fgrad.core.array import Array
from fgrad.core.primitive import Axis
from fgrad.core.static import kind
from fgrad.higher_order.arguments import check_callable, function_name, is_arraylike, lift_leaves
from fgrad.lax.shape import reshape
from fgrad.numpy.promotion import common_shape
from fgrad.transforms.vmap import materialize, vmap_flat

CoreDims = tuple[tuple[str, ...], ...]  # for each operand or result, the names (or fixed sizes) of its core axes

_ARGUMENT = r"\((?:\w+(?:,\w+)*)?\)"
_SIGNATURE = re.compile(rf"^{_ARGUMENT}(?:,{_ARGUMENT})*->{_ARGUMENT}(?:,{_ARGUMENT})*$")


def vectorize(
    pyfunc: Callable[..., Any], *, excluded: Collection[int | str] = frozenset(), signature: str | None = None
) -> Callable[..., Any]:
    """A function that applies ``pyfunc`` at every index of its broadcast arguments.

    Formula: for arguments a [*loop_a, *core_a], b [*loop_b, *core_b], ... whose leading axes broadcast to ``loop``,
    out[l] = pyfunc(a[l], b[l], ...) for every index l of ``loop``.  Each axis of ``loop`` is one ``vmap``; an argument
    that has size 1 there is not mapped, so it is never copied.

    Args:
        pyfunc: a function of arrays that returns an array, or a tuple of arrays.
        excluded: positions and keyword names of arguments that are handed to ``pyfunc`` as they are, whatever they are;
            None is always handed on.
        signature: the core axes of operands and results, as in ``"(m,n),(n)->(m)"``; a number is a fixed size. Without
            one, every argument is handed on as scalars, and results may have any shape.

    Returns:
        A function of positional arrays (and excluded keywords) that returns arrays [*loop, *core].

    Raises:
        TypeError: an argument is no array, an argument given by keyword is not excluded, or their number or the number
            of results is not that of the signature.
        ValueError: the signature is malformed, loop axes do not broadcast, or a core axis has two sizes.

    >>> import fgrad.numpy as fnp
    >>> distance = fnp.vectorize(lambda a, b: fnp.sum((a - b) ** 2), signature="(n),(n)->()")
    >>> distance(fnp.zeros((2, 1, 3)), fnp.ones((4, 3))).tolist()
    [[3.0, 3.0, 3.0, 3.0], [3.0, 3.0, 3.0, 3.0]]

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.numpy.vectorize.html
    """
    check_callable("vectorize", pyfunc)
    _check_excluded(excluded)
    cores = None if signature is None else _parse(signature)

    @functools.wraps(pyfunc)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        extra = [k for k in kwargs if k not in excluded]
        if extra:
            raise TypeError(
                f"vectorize: arguments given by keyword must be excluded, got {', '.join(map(repr, extra))} for "
                f"{function_name(pyfunc)}. Pass them by position, or add their names to excluded."
            )
        mapped = [i for i, a in enumerate(args) if i not in excluded and a is not None]
        names = [f"{i} of {function_name(pyfunc)}" for i in mapped]
        for name, i in zip(names, mapped):
            if not is_arraylike(args[i]):
                raise TypeError(
                    f"vectorize: arguments must be arrays or scalars, got {args[i]!r} of type "
                    f"{type(args[i]).__name__} for argument {name}. Convert it, or exclude position {i}."
                )
        xs = lift_leaves([args[i] for i in mapped], "vectorize", lambda: names)
        ins = _operand_cores(cores, signature, args, mapped, excluded)
        sizes: dict[str, int] = {}
        for name, x, core in zip(names, xs, ins):
            if x.ndim < len(core):
                raise ValueError(
                    f"vectorize: argument {name} must have the core axes {_text(core)} of signature {signature!r}, "
                    f"got shape {x.shape} ({x.ndim} axes for {len(core)}). Add axes, or change the signature."
                )
            _bind_sizes(sizes, core, x.shape[x.ndim - len(core) :], f"argument {name}", x.shape, signature)
        single = True

        def call(*ys: Array) -> list[Array]:
            nonlocal single
            given = dict(zip(mapped, ys))
            out = pyfunc(*[given.get(i, a) for i, a in enumerate(args)], **kwargs)
            single = not isinstance(out, (tuple, list))
            outs = [out] if single else list(out)
            for i, o in enumerate(outs):
                if not is_arraylike(o):
                    raise TypeError(
                        f"vectorize: {function_name(pyfunc)} must return an array or a tuple of arrays, got {o!r} of "
                        f"type {type(o).__name__} for result {i}. Return arrays."
                    )
            outs = lift_leaves(outs, "vectorize", lambda: [])
            if cores is not None:
                _check_results(outs, cores[1], sizes, function_name(pyfunc), signature)
            return outs

        outs = _over_loop(call, xs, [x.shape[: x.ndim - len(core)] for x, core in zip(xs, ins)])
        return outs[0] if single else tuple(outs)

    return wrapped


def _over_loop(call: Callable[..., list[Array]], xs: Sequence[Array], loops: Sequence[tuple[int, ...]]) -> list[Array]:
    """``call`` at every index of the leading axes ``loops[i]`` of xs[i], broadcast: one vmap for each axis."""
    loop = common_shape("vectorize", loops) if loops else ()
    has = []  # has[i][k]: operand i is mapped along loop axis k
    kept = []  # the operands without the axes along which they are broadcast
    for x, own in zip(xs, loops):
        first = len(loop) - len(own)
        has.append([k >= first and own[k - first] == size for k, size in enumerate(loop)])
        keep = tuple(size for size, h in zip(loop, has[-1]) if h)
        kept.append(reshape(x, (*keep, *x.shape[len(own) :])) if keep != own else x)

    def level(k: int, ys: Sequence[Array]) -> list[Array]:
        if k == len(loop):
            return call(*ys)
        dims = [0 if h[k] else None for h in has]
        outs, out_dims = vmap_flat(lambda *zs: level(k + 1, zs), ys, dims, Axis(None, loop[k]), name="vectorize")
        return [materialize(o, d, loop[k], 0) for o, d in zip(outs, out_dims)]

    return level(0, kept)


# --- the signature ---------------------------------------------------------------------------------------------------
def _check_excluded(excluded: Any) -> None:
    if not isinstance(excluded, (set, frozenset, tuple, list)):
        raise TypeError(f"vectorize: excluded must be a set, got {kind(excluded)}. Write {{0, 'name'}}.")
    for e in excluded:
        if not isinstance(e, (int, str)):
            raise TypeError(
                f"vectorize: excluded must hold positions and names, got {e!r} of type {type(e).__name__}. "
                "Use ints and strings."
            )
        if isinstance(e, int) and e < 0:
            raise ValueError(f"vectorize: excluded positions are counted from 0, got {e}. Use the position itself.")


def _parse(signature: Any) -> tuple[CoreDims, CoreDims]:
    text = signature.replace(" ", "") if isinstance(signature, str) else ""
    if not _SIGNATURE.match(text):
        raise ValueError(
            f"vectorize: signature must list the core axes of operands and results, got {signature!r}. "
            "Write it like '(m,n),(n)->(m)'."
        )
    ins, outs = (
        tuple(tuple(filter(None, core[1:-1].split(","))) for core in re.findall(_ARGUMENT, side))
        for side in text.split("->")
    )
    return ins, outs


def _operand_cores(cores, signature, args, mapped, excluded) -> CoreDims:
    """The core axes of the mapped operands; the signature counts every argument that is not excluded."""
    if cores is None:
        return ((),) * len(mapped)
    counted = [i for i in range(len(args)) if i not in excluded]
    if len(counted) != len(cores[0]):
        raise TypeError(
            f"vectorize: signature {signature!r} is for {len(cores[0])} arguments, got {len(counted)} that are not "
            "excluded. Change the call or the signature."
        )
    of = dict(zip(counted, cores[0]))
    for i in counted:
        if args[i] is None and of[i]:
            raise ValueError(
                f"vectorize: None has no core axes, got it for argument {i} with core axes {_text(of[i])} in signature "
                f"{signature!r}. Exclude position {i}."
            )
    return tuple(of[i] for i in mapped)


def _bind_sizes(sizes: dict[str, int], core, got: tuple[int, ...], what: str, shape, signature) -> None:
    for name, n in zip(core, got):
        want = int(name) if name.isdigit() else sizes.setdefault(name, n)
        if n != want:
            raise ValueError(
                f"vectorize: core axis {name!r} of signature {signature!r} must have one size, got {n} in {what} of "
                f"shape {shape} where it is {want}. Change the shapes or the signature."
            )


def _check_results(outs: Sequence[Array], cores: CoreDims, sizes: dict[str, int], who: str, signature) -> None:
    if len(outs) != len(cores):
        raise TypeError(
            f"vectorize: signature {signature!r} is for {len(cores)} results, got {len(outs)} from {who}. "
            "Change the function or the signature."
        )
    for i, (o, core) in enumerate(zip(outs, cores)):
        if o.ndim != len(core):
            raise ValueError(
                f"vectorize: result {i} of {who} must have the core axes {_text(core)} of signature {signature!r}, got "
                f"shape {o.shape} ({o.ndim} axes for {len(core)}). Change the function or the signature."
            )
        _bind_sizes(sizes, core, o.shape, f"result {i} of {who}", o.shape, signature)


def _text(core: Sequence[str]) -> str:
    return f"({','.join(core)})"
