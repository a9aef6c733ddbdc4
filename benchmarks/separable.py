"""Depthwise-separable layers: a convolution of each channel, then a 1x1 convolution over the channels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from cases import Case
from convolutions import DIRECTIONS, TOLERANCE, agree, facts
from timing import Calls


class Separable(NamedTuple):
    """[N, H, W, C] -> [N, H, W, K], a 3x3 kernel with a border of 1 in between."""

    n: int
    c: int
    spatial: tuple[int, int]
    k: int

    @property
    def name(self) -> str:
        return f"{self.n},{self.c},{'x'.join(map(str, self.spatial))} -> {self.k} 3x3 separable"

    @property
    def flops(self) -> int:
        return 2 * self.n * math.prod(self.spatial) * self.c * (9 + self.k)

    @property
    def elements(self) -> int:
        """Of input, both weights and result; what lies between the two convolutions need not be stored."""
        return self.n * math.prod(self.spatial) * (self.c + self.k) + self.c * (9 + self.k)

    @property
    def yardstick(self) -> None:
        return None


LAYERS = (Separable(32, 64, (32, 32), 128), Separable(8, 32, (112, 112), 64))


def cases() -> list[Case]:
    return [
        Case(
            "other convolutions",
            f"conv {layer.name}, {direction}, float32",
            functools.partial(calls, layer, direction),
            facts(layer, direction, "float32"),
        )
        for layer in LAYERS
        for direction in DIRECTIONS
    ]


def calls(layer: Separable, direction: str) -> Calls:
    """dW are the gradients of both weights."""
    import jax

    import fgrad

    made = {
        "fgrad": _functional(fgrad, fgrad.numpy.asarray, layer, direction),
        "PyTorch": _torch(layer, direction),
        "JAX": _functional(jax, jax.numpy.asarray, layer, direction),
    }
    made["JAX"] = functools.partial(lambda call: jax.block_until_ready(call()), made["JAX"])
    results = {name: [np.asarray(a) for a in call()] for name, call in made.items()}
    if direction == "dW":  # [C, 1, 3, 3] and [K, C, 1, 1]
        results["PyTorch"] = [a.transpose(2, 3, 1, 0) for a in results["PyTorch"]]
    else:
        results["PyTorch"] = [a.transpose(0, 2, 3, 1) for a in results["PyTorch"]]
    for i in range(len(results["fgrad"])):
        agree(f"{layer.name}, {direction}", {name: arrays[i] for name, arrays in results.items()}, TOLERANCE["float32"])
    return made


def operands(layer: Separable) -> tuple[np.ndarray, ...]:
    """Input [N, H, W, C], weights [3, 3, 1, C] and [1, 1, C, K], cotangent [N, H, W, K]."""
    rng = np.random.default_rng(0)
    shapes = (
        (layer.n, *layer.spatial, layer.c),
        (3, 3, 1, layer.c),
        (1, 1, layer.c, layer.k),
        (layer.n, *layer.spatial, layer.k),
    )
    return tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes)


def _functional(library: Any, asarray: Callable, layer: Separable, direction: str) -> Callable[[], Any]:
    conv = functools.partial(
        library.lax.conv_general_dilated, window_strides=(1, 1), padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip

    def apply(x, depthwise, pointwise):
        return conv(conv(x, depthwise, feature_group_count=layer.c), pointwise)

    functions = {
        "forward": lambda x, d, p, ct: (apply(x, d, p),),
        "dX": lambda x, d, p, ct: library.vjp(lambda x: apply(x, d, p), x)[1](ct),
        "dW": lambda x, d, p, ct: library.vjp(lambda d, p: apply(x, d, p), d, p)[1](ct),
    }
    f = library.jit(functions[direction])
    args = tuple(map(asarray, operands(layer)))
    return lambda: f(*args)


def _torch(layer: Separable, direction: str) -> Callable[[], Any]:
    import torch

    x, depthwise, pointwise, ct = operands(layer)
    x, ct = (torch.tensor(np.ascontiguousarray(a.transpose(0, 3, 1, 2))) for a in (x, ct))
    depthwise, pointwise = (torch.tensor(np.ascontiguousarray(a.transpose(3, 2, 0, 1))) for a in (depthwise, pointwise))
    first = [1, 1], [1, 1], [1, 1], False, [0, 0], layer.c
    second = [1, 1], [0, 0], [1, 1], False, [0, 0], 1
    backward = torch.ops.aten.convolution_backward

    def forward():
        return (torch.convolution(torch.convolution(x, depthwise, None, *first), pointwise, None, *second),)

    def input_gradient():
        # the values between the convolutions decide nothing here: a tensor of their shape stands for them
        between = backward(ct, x, pointwise, None, *second, [True, False, False])[0]
        return (backward(between, x, depthwise, None, *first, [True, False, False])[0],)

    def weight_gradients():
        between = torch.convolution(x, depthwise, None, *first)
        d_between, d_pointwise, _ = backward(ct, between, pointwise, None, *second, [True, True, False])
        return backward(d_between, x, depthwise, None, *first, [False, True, False])[1], d_pointwise

    return {"forward": forward, "dX": input_gradient, "dW": weight_gradients}[direction]
