"""scan with its body repeated: fewer, larger steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fgrad.core.jaxpr import ClosedJaxpr
from fgrad.higher_order.jit_primitive import bind_closed, cached_on
from fgrad.higher_order.loops_common import groups
from fgrad.higher_order.scan import bind_scan, stacked
from fgrad.primitives.concatenate import concatenate_p
from fgrad.primitives.padding import slice_p
from fgrad.primitives.reshape import expand, reshape_p, squeeze
from fgrad.transforms.stage import stage


def bind_unrolled(
    body: ClosedJaxpr,
    consts: Sequence[Any],
    carry: Sequence[Any],
    xs: Sequence[Any],
    length: int,
    reverse: bool,
    unroll: int,
) -> tuple[list[Any], list[Any]]:
    """``bind_scan`` with ``unroll`` steps to each round; the length mod unroll steps that remain come last."""
    if unroll == 1 or length == 0:
        return bind_scan(body, consts, carry, xs, length, reverse)
    rounds, rest = divmod(length, unroll)
    many = slice(rest, length) if reverse else slice(0, length - rest)
    few = slice(0, rest) if reverse else slice(length - rest, length)
    n_carry = len(carry)
    pieces = []
    if rounds:
        wide = _repeated(body, len(consts), n_carry, unroll, reverse)
        blocks = [reshape_p.bind(x, new_sizes=(rounds, unroll, *x.shape[1:])) for x in _part(xs, many, length)]
        if rounds == 1:
            xs_of_round = [squeeze(b, 0) for b in blocks]
            carry, ys = groups(bind_closed(wide, [*consts, *carry, *xs_of_round], "steps"), n_carry)
        else:
            carry, ys = bind_scan(wide, consts, carry, blocks, rounds, reverse)
            ys = [reshape_p.bind(y, new_sizes=(rounds * unroll, *y.shape[2:])) for y in ys]
        pieces.append(ys)
    if rest:
        last = _repeated(body, len(consts), n_carry, rest, reverse)
        carry, ys = groups(bind_closed(last, [*consts, *carry, *_part(xs, few, length)], "steps"), n_carry)
        pieces.append(ys)
    if reverse:
        pieces.reverse()
    return list(carry), [_joined(parts) for parts in zip(*pieces)]


def _part(xs: Sequence[Any], at: slice, length: int) -> list[Any]:
    if at.stop - at.start == length:
        return list(xs)
    return [
        slice_p.bind(
            x,
            start_indices=(at.start, *(0 for _ in x.shape[1:])),
            limit_indices=(at.stop, *x.shape[1:]),
            strides=(1,) * x.ndim,
        )
        for x in xs
    ]


def _joined(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else concatenate_p.bind(*parts, dimension=0)


def _repeated(body: ClosedJaxpr, n_consts: int, n_carry: int, times: int, reverse: bool) -> ClosedJaxpr:
    """(consts, carry, xs [times, ..]) -> (carry, ys [times, ..])"""

    def fun(*args: Any) -> list[Any]:
        consts, carry, xs = groups(args, n_consts, n_carry)
        ys: list[Any] = [None] * times
        for t in reversed(range(times)) if reverse else range(times):
            x = [squeeze(p, 0) for p in _part(xs, slice(t, t + 1), times)]
            carry, y = groups(bind_closed(body, [*consts, *carry, *x], "step"), n_carry)
            ys[t] = [expand(v, 0) for v in y]
        return [*carry, *(_joined(parts) for parts in zip(*ys))]

    fixed, xs = groups(body.in_avals, n_consts + n_carry)
    avals = [*fixed, *(stacked(a, times) for a in xs)]
    key = ("repeated", n_consts, n_carry, times, reverse)
    return cached_on(body, key, lambda: stage(fun, avals, name="scan"))
