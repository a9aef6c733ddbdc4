"""Whole networks in three libraries: one definition of each network, over the operations that the libraries share.

A training step is forward, backward and SGD.  fgrad and JAX run it under ``jit``, PyTorch eagerly, with its own
optimiser, as its users do; fgrad and JAX see [N, H, W, C], PyTorch [N, C, H, W].  Before anything is timed, the losses
of the first steps (of inference, the logits) must agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

RATE = 0.02
Params = dict[str, np.ndarray]


# --- the operations --------------------------------------------------------------------------------------------------
class Functional:
    """Of fgrad or JAX: their functions have the same names."""

    def __init__(self, lax: Any, np_: Any) -> None:
        self.lax, self.np = lax, np_

    def conv(self, x, w, stride: int = 1, padding: str | int = "SAME"):
        if isinstance(padding, int):
            padding = [(padding, padding)] * 2
        return self.lax.conv_general_dilated(
            x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def bias(self, x, b):
        return x + b

    def norm(self, x, scale, shift):
        """Batch normalisation with the batch's own statistics."""
        mean = x.mean((0, 1, 2))
        centred = x - mean
        variance = (centred * centred).mean((0, 1, 2))
        return centred * (scale * self.lax.rsqrt(variance + 1e-5)) + shift

    def relu(self, x):
        return self.np.maximum(x, 0)

    def max_pool(self, x):
        return self.lax.reduce_window(x, -np.inf, self.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def average(self, x):
        return x.mean((1, 2))

    def flat_dense(self, x, w):
        """``w`` has the shape [H, W, C, features]."""
        return x.reshape(x.shape[0], -1) @ w.reshape(-1, w.shape[-1])

    def dense(self, x, w):
        return x @ w

    def loss(self, logits, labels):
        shifted = logits - logits.max(1, keepdims=True)
        log_p = shifted - self.np.log(self.np.exp(shifted).sum(1, keepdims=True))
        return -self.np.take_along_axis(log_p, labels[:, None], 1).mean()


class Torch:
    """Of PyTorch; its parameters were transposed by `_torch_params`."""

    def conv(self, x, w, stride: int = 1, padding: str | int = "SAME"):
        import torch.nn.functional as F

        pad = padding if isinstance(padding, int) else {"SAME": w.shape[-1] // 2, "VALID": 0}[padding]
        return F.conv2d(x, w, stride=stride, padding=pad)

    def bias(self, x, b):
        return x + (b[:, None, None] if x.ndim == 4 else b)

    def norm(self, x, scale, shift):
        import torch.nn.functional as F

        return F.batch_norm(x, None, None, scale, shift, training=True)

    def relu(self, x):
        return x.relu()

    def max_pool(self, x):
        import torch.nn.functional as F

        return F.max_pool2d(x, 2)

    def average(self, x):
        return x.mean((2, 3))

    def flat_dense(self, x, w):
        import torch.nn.functional as F

        return F.linear(x.flatten(1), w)

    def dense(self, x, w):
        import torch.nn.functional as F

        return F.linear(x, w)

    def loss(self, logits, labels):
        import torch.nn.functional as F

        return F.cross_entropy(logits, labels)


# --- the networks ----------------------------------------------------------------------------------------------------
class Model(NamedTuple):
    """Shapes of the parameters, the logits from (operations, parameters, images), and the images' [H, W, C]."""

    shapes: dict[str, tuple[int, ...]]
    logits: Callable[[Any, Any, Any], Any]
    image: tuple[int, int, int]


def _lenet5() -> Model:
    def logits(o, p, x):
        x = o.max_pool(o.relu(o.bias(o.conv(x, p["c1"], 1, 2), p["b1"])))
        x = o.max_pool(o.relu(o.bias(o.conv(x, p["c2"], 1, "VALID"), p["b2"])))
        x = o.relu(o.bias(o.flat_dense(x, p["f3"]), p["b3"]))
        x = o.relu(o.bias(o.dense(x, p["d4"]), p["b4"]))
        return o.bias(o.dense(x, p["d5"]), p["b5"])

    shapes = {
        "c1": (5, 5, 1, 6), "b1": (6,), "c2": (5, 5, 6, 16), "b2": (16,), "f3": (5, 5, 16, 120), "b3": (120,),
        "d4": (120, 84), "b4": (84,), "d5": (84, 10), "b5": (10,),
    }  # fmt: skip
    return Model(shapes, logits, (28, 28, 1))


def _mnist_cnn() -> Model:
    def logits(o, p, x):
        x = o.relu(o.bias(o.conv(x, p["c1"], 1, "VALID"), p["b1"]))
        x = o.max_pool(o.relu(o.bias(o.conv(x, p["c2"], 1, "VALID"), p["b2"])))
        x = o.relu(o.bias(o.flat_dense(x, p["f3"]), p["b3"]))
        return o.bias(o.dense(x, p["d4"]), p["b4"])

    shapes = {
        "c1": (3, 3, 1, 32), "b1": (32,), "c2": (3, 3, 32, 64), "b2": (64,), "f3": (12, 12, 64, 128), "b3": (128,),
        "d4": (128, 10), "b4": (10,),
    }  # fmt: skip
    return Model(shapes, logits, (28, 28, 1))


def _resnet(blocks: int) -> Model:
    """ResNet-(6 blocks + 2) of He et al. 2015, section 4.2, on 32x32; projections where the shape changes."""
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, size: int, c: int, k: int) -> None:
        shapes.update({f"{name}.w": (size, size, c, k), f"{name}.s": (k,), f"{name}.t": (k,)})

    layer("stem", 3, 3, 16)
    plan, c = [], 16
    for stage, k in enumerate((16, 32, 64)):
        for block in range(blocks):
            name, stride = f"{stage}.{block}", 2 if stage and not block else 1
            layer(f"{name}.a", 3, c, k)
            layer(f"{name}.b", 3, k, k)
            if c != k:
                layer(f"{name}.p", 1, c, k)
            plan.append((name, stride, c != k))
            c = k
    shapes.update({"d": (64, 10), "b": (10,)})

    def logits(o, p, x):
        def normed(x, name, stride=1, padding=1):
            y = o.conv(x, p[f"{name}.w"], stride, padding)
            return o.norm(y, p[f"{name}.s"], p[f"{name}.t"])

        x = o.relu(normed(x, "stem"))
        for name, stride, projected in plan:
            y = normed(o.relu(normed(x, f"{name}.a", stride)), f"{name}.b")
            x = o.relu(y + (normed(x, f"{name}.p", stride, 0) if projected else x))
        return o.bias(o.dense(o.average(x), p["d"]), p["b"])

    return Model(shapes, logits, (32, 32, 3))


MODELS: dict[str, Callable[[], Model]] = {
    "LeNet-5": _lenet5,
    "MNIST CNN": _mnist_cnn,
    "ResNet-8": lambda: _resnet(1),
    "ResNet-20": lambda: _resnet(3),
}


# --- calls to time ---------------------------------------------------------------------------------------------------
def problem(model: Model, batch: int) -> tuple[Params, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    params = {}
    for name, shape in model.shapes.items():
        scale = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.0
        params[name] = (rng.standard_normal(shape) * scale + name.endswith(".s")).astype(np.float32)
    images = rng.random((batch, *model.image), np.float32)
    return params, images, rng.integers(0, 10, batch).astype(np.int32)


def _functional(library: Any, np_: Any, tree_map: Callable, model: Model, batch: int, train: bool):
    o = Functional(library.lax, np_)
    params, images, labels = problem(model, batch)
    carry, x, y = [{k: np_.asarray(v) for k, v in params.items()}], np_.asarray(images), np_.asarray(labels)

    @library.jit
    def step(params, x, y):
        value, g = library.value_and_grad(lambda p: o.loss(model.logits(o, p, x), y))(params)
        return tree_map(lambda p, g: p - RATE * g, params, g), value

    def run() -> float:
        carry[0], value = step(carry[0], x, y)
        return float(value)

    infer = library.jit(lambda params, x: model.logits(o, params, x))
    return run if train else lambda: np.asarray(infer(carry[0], x))


def _torch_params(params: Params) -> dict[str, Any]:
    import torch

    def turned(name: str, a: np.ndarray) -> np.ndarray:
        if a.ndim == 4 and name.startswith("f"):  # [H, W, C, features] -> [features, C H W]
            return a.transpose(3, 2, 0, 1).reshape(a.shape[-1], -1)
        return a.transpose(3, 2, 0, 1) if a.ndim == 4 else a.T

    return {k: torch.tensor(np.ascontiguousarray(turned(k, v))).requires_grad_() for k, v in params.items()}


def _torch(model: Model, batch: int, train: bool):
    import torch

    o = Torch()
    params, images, labels = problem(model, batch)
    p = _torch_params(params)
    x = torch.tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    y = torch.tensor(labels.astype(np.int64))
    optimiser = torch.optim.SGD(p.values(), lr=RATE)

    def run() -> float:
        optimiser.zero_grad()
        value = o.loss(model.logits(o, p, x), y)
        value.backward()
        optimiser.step()
        return float(value.detach())

    def infer() -> np.ndarray:
        with torch.inference_mode():
            return model.logits(o, p, x).numpy()

    return run if train else infer


def calls(name: str, batch: int, train: bool = True) -> dict[str, Callable[[], Any]]:
    """A call to time for each library, after the first results were found equal."""
    import jax

    import fgrad
    import fgrad.numpy as fnp

    model = MODELS[name]()
    made = {
        "fgrad": _functional(fgrad, fnp, fgrad.tree.tree_map, model, batch, train),
        "PyTorch": _torch(model, batch, train),
        "JAX": _functional(jax, jax.numpy, jax.tree.map, model, batch, train),
    }
    results = {library: np.array([run() for _ in range(3 if train else 1)]) for library, run in made.items()}
    for library, values in results.items():
        if not np.allclose(values, results["PyTorch"], rtol=2e-3, atol=2e-3):
            raise AssertionError(f"{name}, batch {batch}: {library} gives {values}, PyTorch {results['PyTorch']}")
    return made
