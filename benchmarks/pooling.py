"""Pooling layers, forward and backward, channels-last and channels-first."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from cases import Case
from convolutions import TOLERANCE, agree
from timing import Calls


class Pool(NamedTuple):
    """A square window over [N, H, H, C]; ``kind``: max or avg; ``layout``: NHWC or NCHW."""

    kind: str
    size: int
    stride: int
    pad: int
    layout: str
    n: int
    side: int
    c: int

    @property
    def name(self) -> str:
        window = f"{self.size}x{self.size} s{self.stride} p{self.pad}"
        return f"{self.kind} pool {self.n},{self.c},{self.side}x{self.side} {window}, {self.layout}"

    @property
    def out(self) -> int:
        return (self.side + 2 * self.pad - self.size) // self.stride + 1

    def by_axis(self, batch_and_channels: Any, spatial: Any) -> tuple[Any, ...]:
        """An entry for each axis in the order of the layout."""
        return tuple([spatial if axis in "HW" else batch_and_channels for axis in self.layout])

    def array(self, side: int) -> np.ndarray:
        sizes = {"N": self.n, "H": side, "W": side, "C": self.c}
        shape = [sizes[axis] for axis in self.layout]
        return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


WINDOWS = ((2, 2, 0), (3, 2, 1), (3, 1, 1))
INPUTS = ((64, 24, 64), (64, 28, 6))
LAYERS = [
    Pool(kind, *window, layout, *shape)
    for shape in INPUTS
    for kind in ("max", "avg")
    for window in WINDOWS
    for layout in ("NHWC", "NCHW")
]


def cases() -> list[Case]:
    return [
        Case("pooling", f"{layer.name}, {direction}", functools.partial(calls, layer, direction))
        for layer in LAYERS
        for direction in ("forward", "gradient")
    ]


def calls(layer: Pool, direction: str) -> Calls:
    """The gradient of max-pooling computes the maxima's places too, of avg-pooling it needs no forward pass."""
    import jax

    import fgrad

    made = {
        "fgrad": _functional(fgrad, fgrad.numpy.asarray, layer, direction),
        "PyTorch": _torch(layer, direction),
        "JAX": _functional(jax, jax.numpy.asarray, layer, direction),
    }
    made["JAX"] = functools.partial(lambda call: jax.block_until_ready(call()), made["JAX"])
    results = {name: np.asarray(call()) for name, call in made.items()}
    if layer.layout == "NHWC":
        results["PyTorch"] = results["PyTorch"].transpose(0, 2, 3, 1)
    agree(f"{layer.name}, {direction}", results, TOLERANCE["float32"])
    return made


def _functional(library: Any, asarray: Callable, layer: Pool, direction: str) -> Callable[[], Any]:
    window, strides = layer.by_axis(1, layer.size), layer.by_axis(1, layer.stride)
    padding = layer.by_axis((0, 0), (layer.pad, layer.pad))

    def pool(x):
        if layer.kind == "max":
            return library.lax.reduce_window(x, -math.inf, library.lax.max, window, strides, padding)
        total = library.lax.reduce_window(x, 0.0, library.lax.add, window, strides, padding)
        return total * np.float32(1 / layer.size**2)

    def gradient(x, ct):
        return library.vjp(pool, x)[1](ct)[0]

    f = library.jit(gradient if direction == "gradient" else lambda x, ct: pool(x))
    args = asarray(layer.array(layer.side)), asarray(layer.array(layer.out))
    return lambda: f(*args)


def _torch(layer: Pool, direction: str) -> Callable[[], Any]:
    """Channels-last arrays are views of that order, as ``memory_format`` makes them."""
    import torch

    x, ct = (torch.tensor(layer.array(side)) for side in (layer.side, layer.out))
    if layer.layout == "NHWC":
        x, ct = (a.permute(0, 3, 1, 2) for a in (x, ct))
    window = [layer.size] * 2, [layer.stride] * 2, [layer.pad] * 2
    ops = torch.ops.aten
    if layer.kind == "avg":
        if direction == "forward":
            return lambda: ops.avg_pool2d(x, *window)
        return lambda: ops.avg_pool2d_backward(ct, x, *window, False, True, None)
    if direction == "forward":
        return lambda: torch.max_pool2d(x, *window)

    def gradient():
        _, places = ops.max_pool2d_with_indices(x, *window)
        return ops.max_pool2d_with_indices_backward(ct, x, *window, [1, 1], False, places)

    return gradient
