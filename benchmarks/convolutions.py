"""Forward pass, input gradient and weight gradient of one convolution in three libraries.

Every library gets the layout that it documents as its own: fgrad and JAX channels last, PyTorch channels first.
Gradients are what the libraries derive or provide: `fgrad.vjp` and `jax.vjp` under jit, and PyTorch's
``convolution_backward`` with only the wanted output asked for.  Results are compared before anything is timed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

DIRECTIONS = ("forward", "dX", "dW")


class Conv(NamedTuple):
    """[N, *spatial, C] -> K features; one number for all spatial dimensions of kernel, stride, padding, dilation."""

    n: int
    c: int
    spatial: tuple[int, ...]
    k: int
    kernel: int
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    groups: int = 1

    @property
    def name(self) -> str:
        side = "x".join(map(str, self.spatial))
        text = f"{self.n},{self.c},{side} -> {self.k} {'x'.join([str(self.kernel)] * len(self.spatial))}"
        text += f" s{self.stride} p{self.pad}"
        text += f" d{self.dilation}" if self.dilation > 1 else ""
        text += f" {self.groups} groups" if self.groups > 1 else ""
        return text

    @property
    def out_spatial(self) -> tuple[int, ...]:
        reach = self.dilation * (self.kernel - 1) + 1
        return tuple((s + 2 * self.pad - reach) // self.stride + 1 for s in self.spatial)

    @property
    def flops(self) -> int:
        """Of each direction, padding counted as if it were input."""
        taps = self.kernel ** len(self.spatial)
        return 2 * self.n * self.k * math.prod(self.out_spatial) * self.c // self.groups * taps


#: The 16 convolutions of the table, from a first layer to one that is larger than any cache.
TABLE = (
    Conv(64, 3, (28, 28), 4, 3, 1, 1),
    Conv(64, 1, (28, 28), 6, 5, 1, 2),
    Conv(64, 6, (14, 14), 16, 5),
    Conv(128, 32, (26, 26), 64, 3),
    Conv(10, 8, (32, 32), 8, 3, 2, 1),
    Conv(32, 64, (32, 32), 64, 3, 1, 1),
    Conv(32, 128, (16, 16), 128, 3, 1, 1),
    Conv(32, 256, (8, 8), 256, 3, 1, 1),
    Conv(32, 512, (4, 4), 512, 3, 1, 1),
    Conv(32, 64, (32, 32), 128, 3, 2, 1),
    Conv(4, 256, (56, 56), 64, 1),
    Conv(4, 3, (224, 224), 64, 7, 2, 3),
    Conv(2, 64, (112, 112), 64, 3, 1, 1),
    Conv(16, 64, (32, 32), 64, 3, 1, 2, 2),
    Conv(32, 128, (32, 32), 128, 3, 1, 1, groups=128),
    Conv(32, 128, (16, 16), 128, 3, 1, 1, groups=4),
)

#: Further kinds of layers.
OTHERS = (
    Conv(32, 128, (32, 32), 128, 3, 2, 1, groups=128),
    Conv(32, 64, (512,), 64, 5, 1, 2),
    Conv(32, 16, (1024,), 16, 9, 1, 4),
    Conv(4, 16, (16, 16, 16), 32, 3, 1, 1),
    Conv(32, 64, (16, 16), 32, 4, 2, 1),
)


def operands(conv: Conv, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input [N, *S, C], weights [*K, C / groups, F] and cotangent [N, *S', F]."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((conv.n, *conv.spatial, conv.c)).astype(dtype)
    w = rng.standard_normal((*[conv.kernel] * len(conv.spatial), conv.c // conv.groups, conv.k)).astype(dtype)
    return x, w, rng.standard_normal((conv.n, *conv.out_spatial, conv.k)).astype(dtype)


def _functional(library, asarray, conv: Conv, direction: str, dtype: str) -> Callable[[], object]:
    """fgrad or JAX: their functions have the same names."""
    d = len(conv.spatial)
    letters = "DHW"[3 - d :]
    settings = {
        "window_strides": (conv.stride,) * d,
        "padding": [(conv.pad, conv.pad)] * d,
        "rhs_dilation": (conv.dilation,) * d,
        "dimension_numbers": (f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        "feature_group_count": conv.groups,
    }

    def convolve(x, w):
        return library.lax.conv_general_dilated(x, w, **settings)

    functions = {
        "forward": lambda x, w, ct: convolve(x, w),
        "dX": lambda x, w, ct: library.vjp(lambda x: convolve(x, w), x)[1](ct)[0],
        "dW": lambda x, w, ct: library.vjp(lambda w: convolve(x, w), w)[1](ct)[0],
    }
    f = library.jit(functions[direction])
    args = tuple(asarray(a) for a in operands(conv, dtype))
    return lambda: f(*args)


def fgrad_call(conv: Conv, direction: str, dtype: str) -> Callable[[], object]:
    import fgrad

    return _functional(fgrad, fgrad.numpy.asarray, conv, direction, dtype)


def jax_call(conv: Conv, direction: str, dtype: str) -> Callable[[], object]:
    import jax

    jax.config.update("jax_enable_x64", True)
    call = _functional(jax, jax.numpy.asarray, conv, direction, dtype)
    return lambda: call().block_until_ready()


def torch_call(conv: Conv, direction: str, dtype: str) -> Callable[[], object]:
    import torch

    d = len(conv.spatial)
    x, w, ct = operands(conv, dtype)
    x, ct = (torch.tensor(np.ascontiguousarray(np.moveaxis(a, -1, 1))) for a in (x, ct))
    w = torch.tensor(np.ascontiguousarray(np.moveaxis(w, (-1, -2), (0, 1))))
    lists = [conv.stride] * d, [conv.pad] * d, [conv.dilation] * d
    if direction == "forward":
        return lambda: torch.convolution(x, w, None, *lists, False, [0] * d, conv.groups)
    mask = [direction == "dX", direction == "dW", False]
    which = mask.index(True)
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(ct, x, w, None, *lists, False, [0] * d, conv.groups, mask)[which]


def _as_channels_last(value, library: str, direction: str) -> np.ndarray:
    a = np.asarray(value)
    if library != "PyTorch":
        return a
    return np.moveaxis(a, (0, 1), (-1, -2)) if direction == "dW" else np.moveaxis(a, 1, -1)


def calls(conv: Conv, direction: str, dtype: str) -> dict[str, Callable[[], object]]:
    """A call to time for each library, after their results were found equal."""
    makers = {"fgrad": fgrad_call, "PyTorch": torch_call, "JAX": jax_call}
    made = {name: make(conv, direction, dtype) for name, make in makers.items()}
    results = {name: _as_channels_last(call(), name, direction) for name, call in made.items()}
    want = results["PyTorch"].astype(np.float64)
    bound = {"float32": 1e-4, "float64": 1e-11}[dtype] * np.abs(want).max()
    for name, got in results.items():
        worst = np.abs(got - want).max()
        if got.shape != want.shape or worst > bound:
            raise AssertionError(
                f"{conv.name} {direction} {dtype}: {name} is {worst:.1e} away from PyTorch ({bound:.1e})"
            )
    return made
