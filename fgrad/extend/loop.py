"""Batching by a loop: the primitive over a batch, as a primitive of its own.

Where a primitive has a kernel, the loop is in compiled code and spread over the workers; else it calls the NumPy
function once for each example.  Derivatives are those of the primitive, batched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import primitive as _core
from fgrad.core.aval import ShapedArray
from fgrad.core.backends import Backend, Host, Kernel, Unfilled
from fgrad.core.primitive import Axis, Bilinear, Linear, LinearArg, Zero
from fgrad.extend.kernel import Params, plan_examples
from fgrad.extend.primitive import Primitive
from fgrad.kernels.layout import Layout
from fgrad.kernels.plan import KernelPlan
from fgrad.primitives.broadcast import broadcast_in_dim_p, reduce_sum_p
from fgrad.primitives.define import NO_CUDA
from fgrad.primitives.reshape import reshape_p
from fgrad.primitives.transpose import moveaxis
from fgrad.transforms.jvp import jvp_flat
from fgrad.transforms.vmap import materialize, vmap_flat


def loop_rule(prim: Primitive, kernel: Any) -> Any:
    """The batch rule that binds the loop over ``prim``, which becomes its ``loop``."""
    over = prim.loop = Loop(prim, kernel)

    def batch(args: Sequence[Any], dims: Sequence[int | None], **params: Any) -> tuple[Any, Any]:
        fronted = [x if d is None else moveaxis(x, d, 0) for x, d in zip(args, dims)]
        out = over.bind(*fronted, batched=tuple([d is not None for d in dims]), params=Params(params.items()))
        return (out, [0] * len(out)) if prim.multiple_results else (out, 0)

    return batch


class Loop(_core.Primitive):
    """``batched[i]``: whether operand i has the examples along its first axis; every result has."""

    __slots__ = ("kernel", "of")

    def __init__(self, prim: Primitive, kernel: Any):
        self.of = prim
        self.kernel = kernel
        cpu: Backend = Kernel(self.plan) if kernel is not None else Host("a loop over its NumPy function")
        super().__init__(
            f"{prim.name}.loop",
            abstract=self.shapes,
            reference=self.each,
            cpu=cpu,
            cuda=NO_CUDA,
            jvp=prim.jvp if isinstance(prim.jvp, (Linear, Bilinear, Unfilled)) else self.push,
            transpose=prim.transpose if isinstance(prim.transpose, Unfilled) else self.pull,
            batch=self.nest,
            multiple_results=prim.multiple_results,
            effectful=prim.effectful,
        )

    def register(self) -> None:
        """Found through the primitive it loops over."""

    def __reduce__(self):
        return _loop_of, (self.of,)

    def _packed(self, outs: Sequence[Any]) -> Any:
        return tuple(outs) if self.multiple_results else outs[0]

    def shapes(self, *avals: ShapedArray, batched: tuple[bool, ...], params: Params) -> Any:
        """The result types of one example, with the batch in front."""
        sizes = {a.shape[0] for a, b in zip(avals, batched) if b}
        if len(sizes) != 1:
            raise ValueError(
                f"{self.name}: batched operands must have one size along their first axis, got {sorted(sizes)}. "
                "Check the batch rule that binds it."
            )
        size = sizes.pop()
        out = self.of.abstract(*_examples(avals, batched), **dict(params))
        outs = out if self.multiple_results else (out,)
        return self._packed([a.update(shape=(size, *a.shape)) for a in outs])

    def each(self, *arrays: np.ndarray, batched: tuple[bool, ...], params: Params) -> Any:
        """The reference: the primitive's own on one example after the other."""
        avals = self.shapes(*[ShapedArray(a.shape, a.dtype) for a in arrays], batched=batched, params=params)
        avals = avals if self.multiple_results else (avals,)
        outs = [np.empty(a.shape, a.dtype) for a in avals]
        for i in range(avals[0].shape[0]):
            out = self.of.reference(*[a[i] if b else a for a, b in zip(arrays, batched)], **dict(params))  # type: ignore[operator]
            for target, value in zip(outs, out if self.multiple_results else (out,)):
                target[i] = value
        return self._packed(outs)

    def plan(
        self, ins: Sequence[Layout], outs: Sequence[Layout], *, batched: tuple[bool, ...], params: Params
    ) -> KernelPlan:
        """The primitive's kernel with one tile for each example."""
        return plan_examples(self.of.name, self.kernel, outs[0].shape[0], ins, outs, batched, True, params)

    def push(self, primals: Sequence[Any], tangents: Sequence[Any], *, batched: tuple[bool, ...], params: Params):
        """jvp: the primitive's own, batched."""
        live = [i for i, t in enumerate(tangents) if type(t) is not Zero]
        n = len(primals)
        moving: list[bool] = []

        def example(*xs: Any) -> list[Any]:
            out = self.of.bind(*xs, **dict(params))
            return out if self.multiple_results else [out]

        def one(*xs: Any) -> list[Any]:
            ts: list[Any] = [Zero(x.aval.tangent()) for x in xs[:n]]
            for i, t in zip(live, xs[n:]):
                ts[i] = t
            outs, t_outs = jvp_flat(example, xs[:n], ts)
            moving[:] = [type(t) is not Zero for t in t_outs]
            return [*outs, *[t for t in t_outs if type(t) is not Zero]]

        dims = [0 if b else None for b in (*batched, *[batched[i] for i in live])]
        results = _batched(one, [*primals, *[tangents[i] for i in live]], dims)
        outs, rest = results[: len(moving)], iter(results[len(moving) :])
        ts = [next(rest) if m else Zero(o.aval.tangent()) for o, m in zip(outs, moving)]
        return self._packed(outs), self._packed(ts)

    def pull(self, ct: Any, *args: Any, batched: tuple[bool, ...], params: Params) -> list[Any]:
        """transpose: the primitive's own, batched; the cotangent of an operand that all examples share is a sum."""
        cts = list(ct) if self.multiple_results else [ct]
        live = [k for k, c in enumerate(cts) if type(c) is not Zero]
        held = [i for i, a in enumerate(args) if not isinstance(a, LinearArg)]
        linear = [i for i, a in enumerate(args) if isinstance(a, LinearArg)]
        avals = _examples([a.aval for a in args], batched)
        found: list[int] = []

        def one(*xs: Any) -> list[Any]:
            own: list[Any] = [LinearArg(a) for a in avals]
            for i, x in zip(held, xs):
                own[i] = x
            given: list[Any] = [Zero(c.aval.update(shape=c.aval.shape[1:])) for c in cts]
            for k, c in zip(live, xs[len(held) :]):
                given[k] = c
            bars = self.of.slot("transpose")(self._packed(given), *own, **dict(params))
            found[:] = [i for i in linear if type(bars[i]) is not Zero]
            return [bars[i] for i in found]

        dims = [*[0 if batched[i] else None for i in held], *[0 for _ in live]]
        values = _batched(one, [*[args[i] for i in held], *[cts[k] for k in live]], dims)
        out: list[Any] = [Zero(a.aval) if isinstance(a, LinearArg) else None for a in args]
        for i, bar in zip(found, values):
            out[i] = bar if batched[i] else reduce_sum_p.bind(bar, axes=(0,))
        return out

    def nest(self, args: Sequence[Any], dims: Sequence[int | None], *, batched: tuple[bool, ...], params: Params):
        """A batch [outer] of batches [inner] is one batch [outer * inner]."""
        outer = next(x.shape[d] for x, d in zip(args, dims) if d is not None)
        inner = next(x.shape[1 if d == 0 else 0] for x, d, b in zip(args, dims, batched) if b)
        flat, flags = [], []
        for x, d, b in zip(args, dims, batched):
            flags.append(b or d is not None)
            if not flags[-1]:
                flat.append(x)
                continue
            x = materialize(x, d, outer, 0)  # [outer, inner?, *example]
            example = x.shape[2:] if b else x.shape[1:]
            if not b:
                kept = (0, *range(2, 2 + len(example)))
                x = broadcast_in_dim_p.bind(x, shape=(outer, inner, *example), broadcast_dimensions=kept)
            flat.append(reshape_p.bind(x, new_sizes=(outer * inner, *example)))
        out = self.bind(*flat, batched=tuple(flags), params=params)
        outs = out if self.multiple_results else [out]
        outs = [reshape_p.bind(o, new_sizes=(outer, inner, *o.shape[1:])) for o in outs]
        return self._packed(outs), self._packed([0] * len(outs))


def _examples(avals: Sequence[ShapedArray], batched: Sequence[bool]) -> list[ShapedArray]:
    return [a.update(shape=a.shape[1:]) if b else a for a, b in zip(avals, batched)]


def _batched(fun: Any, args: Sequence[Any], dims: Sequence[int | None]) -> list[Any]:
    """vmap of fun over the first axes, its results with the batch in front."""
    size = next(x.shape[0] for x, d in zip(args, dims) if d is not None)
    outs, out_dims = vmap_flat(fun, args, dims, Axis(None, size))
    return [materialize(o, d, size, 0) for o, d in zip(outs, out_dims)]


def _loop_of(prim: Primitive) -> _core.Primitive | None:
    return prim.loop
