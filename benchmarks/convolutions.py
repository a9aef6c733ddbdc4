"""Forward pass, input gradient and weight gradient of one convolution in three libraries.

Every library gets the layout that it documents as its own: fgrad and JAX channels last, PyTorch channels first.
Gradients are what the libraries derive or provide: `fgrad.vjp` and `jax.vjp` under jit, and PyTorch's
``convolution_backward`` with only the wanted output asked for.  Results are compared before anything is timed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from cases import Case
from timing import Calls

DIRECTIONS = ("forward", "dX", "dW")
LARGE = 1e9  # flops from which a convolution is held against a matrix product
TOLERANCE = {"float32": 1e-4, "float64": 1e-11}  # of the largest element of a result


class Conv(NamedTuple):
    """[N, *spatial, C] -> K features; one number for all spatial dimensions of kernel, stride, padding, dilation.

    ``transposed``: the input is spread by the stride (`conv_transpose`), padding as PyTorch counts it.
    """

    n: int
    c: int
    spatial: tuple[int, ...]
    k: int
    kernel: int
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False

    @property
    def name(self) -> str:
        side = "x".join(map(str, self.spatial))
        text = f"{self.n},{self.c},{side} -> {self.k} {'x'.join([str(self.kernel)] * len(self.spatial))}"
        text += f" s{self.stride} p{self.pad}"
        text += f" d{self.dilation}" if self.dilation > 1 else ""
        text += f" {self.groups} groups" if self.groups > 1 else ""
        return text + (" transposed" if self.transposed else "")

    @property
    def out_spatial(self) -> tuple[int, ...]:
        reach = self.dilation * (self.kernel - 1) + 1
        if self.transposed:
            return tuple((s - 1) * self.stride - 2 * self.pad + reach for s in self.spatial)
        return tuple((s + 2 * self.pad - reach) // self.stride + 1 for s in self.spatial)

    @property
    def flops(self) -> int:
        """Of each direction, padding counted as if it were input."""
        pixels = self.spatial if self.transposed else self.out_spatial
        taps = self.kernel ** len(self.spatial)
        return 2 * self.n * self.k * math.prod(pixels) * self.c // self.groups * taps

    @property
    def elements(self) -> int:
        """Of input, weights and result together: each direction reads two of them and writes the third."""
        taps = self.kernel ** len(self.spatial)
        pixels = self.c * math.prod(self.spatial) + self.k * math.prod(self.out_spatial)
        return self.n * pixels + taps * self.c // self.groups * self.k

    @property
    def yardstick(self) -> str | None:
        if self.groups == self.c > 1:
            return "copy"
        return "sgemm" if self.flops >= LARGE and self.groups == 1 else None


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

#: Further kinds of layers; separable ones are in `separable.py`.
OTHERS = (
    Conv(32, 128, (32, 32), 128, 3, 2, 1, groups=128),
    Conv(32, 64, (16, 16), 32, 4, 2, 1),
    Conv(16, 32, (64, 64), 32, 3, 1, 4, 4),
    Conv(32, 64, (16, 16), 32, 4, 2, 1, transposed=True),
    Conv(64, 16, (14, 14), 8, 3, 1, 1, transposed=True),
    Conv(32, 64, (512,), 64, 5, 1, 2),
    Conv(32, 16, (1024,), 16, 9, 1, 4),
    Conv(16, 32, (2048,), 32, 3, 1, 8, 8),
    Conv(4, 16, (16, 16, 16), 32, 3, 1, 1),
    Conv(4, 3, (16, 32, 32), 16, 3, 1, 1),
)


def cases() -> list[Case]:
    """The table in both dtypes, the others in float32."""
    lines = [(conv, dtype) for dtype in TOLERANCE for conv in TABLE] + [(conv, "float32") for conv in OTHERS]
    return [
        Case(
            "convolutions" if conv in TABLE else "other convolutions",
            f"conv {conv.name}, {direction}, {dtype}",
            functools.partial(calls, conv, direction, dtype),
            facts(conv, direction, dtype),
        )
        for conv, dtype in lines
        for direction in DIRECTIONS
    ]


def facts(layer: Any, direction: str, dtype: str) -> dict[str, Any]:
    return {
        "layer": layer.name,
        "direction": direction,
        "dtype": dtype,
        "flops": layer.flops,
        "bytes": layer.elements * np.dtype(dtype).itemsize,
        "yardstick": layer.yardstick if dtype == "float32" else None,
    }


def calls(conv: Conv, direction: str, dtype: str) -> Calls:
    """A call to time for each library, after their results were found equal."""
    makers = {"fgrad": fgrad_call, "PyTorch": torch_call, "JAX": jax_call}
    made = {name: make(conv, direction, dtype) for name, make in makers.items()}
    results = {name: _as_channels_last(call(), name, direction, conv.transposed) for name, call in made.items()}
    agree(f"{conv.name}, {direction}, {dtype}", results, TOLERANCE[dtype])
    return made


def agree(name: str, results: dict[str, np.ndarray], tolerance: float) -> None:
    """Raises unless every library's result is PyTorch's, to ``tolerance`` of its largest element."""
    want = results["PyTorch"].astype(np.float64)
    bound = tolerance * np.abs(want).max()
    for library, got in results.items():
        if got.shape != want.shape:
            raise AssertionError(f"{name}: {library} gives shape {got.shape}, PyTorch {want.shape}")
        if not (worst := np.abs(got - want).max()) <= bound:
            raise AssertionError(f"{name}: {library} is {worst:.1e} away from PyTorch (bound: {bound:.1e})")


def operands(conv: Conv, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input [N, *S, C], weights [*K, C / groups, F] and cotangent [N, *S', F]."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((conv.n, *conv.spatial, conv.c)).astype(dtype)
    w = rng.standard_normal((*[conv.kernel] * len(conv.spatial), conv.c // conv.groups, conv.k)).astype(dtype)
    return x, w, rng.standard_normal((conv.n, *conv.out_spatial, conv.k)).astype(dtype)


# --- the libraries ---------------------------------------------------------------------------------------------------
def _functional(library, asarray, conv: Conv, direction: str, dtype: str) -> Callable[[], object]:
    """fgrad or JAX: their functions have the same names."""
    d = len(conv.spatial)
    letters = "DHW"[3 - d :]
    numbers = f"N{letters}C", f"{letters}IO", f"N{letters}C"
    strides, dilation = (conv.stride,) * d, (conv.dilation,) * d

    def convolve(x, w):
        if conv.transposed:
            pads = [(conv.dilation * (conv.kernel - 1) - conv.pad,) * 2] * d
            return library.lax.conv_transpose(x, w, strides, pads, dilation, numbers)
        return library.lax.conv_general_dilated(
            x, w, strides, [(conv.pad, conv.pad)] * d, rhs_dilation=dilation, dimension_numbers=numbers,
            feature_group_count=conv.groups,
        )  # fmt: skip

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
    w = torch.tensor(np.ascontiguousarray(_weights_to_torch(w, conv.transposed)))
    settings = [conv.stride] * d, [conv.pad] * d, [conv.dilation] * d, conv.transposed, [0] * d, conv.groups
    if direction == "forward":
        return lambda: torch.convolution(x, w, None, *settings)
    mask = [direction == "dX", direction == "dW", False]
    which = mask.index(True)
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(ct, x, w, None, *settings, mask)[which]


def _weights_to_torch(w: np.ndarray, transposed: bool) -> np.ndarray:
    """[*K, C, F] to [F, C, *K]; of a transposed convolution, whose kernel PyTorch turns round, to [C, F, *K]."""
    if transposed:
        return np.moveaxis(np.flip(w, range(w.ndim - 2)), (-2, -1), (0, 1))
    return np.moveaxis(w, (-1, -2), (0, 1))


def _as_channels_last(value: Any, library: str, direction: str, transposed: bool) -> np.ndarray:
    a = np.asarray(value)
    if library != "PyTorch":
        return a
    if direction != "dW":
        return np.moveaxis(a, 1, -1)
    if transposed:
        return np.flip(np.moveaxis(a, (0, 1), (-2, -1)), range(a.ndim - 2))
    return np.moveaxis(a, (0, 1), (-1, -2))
