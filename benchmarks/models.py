"""Whole networks in three libraries: one definition of each network, over the operations that the libraries share.

A training step is forward, backward and SGD.  fgrad and JAX run it under ``jit``, PyTorch eagerly, with its own
optimiser, as its users do; fgrad and JAX see [N, H, W, C], PyTorch [N, C, H, W].  Before anything is timed, the losses
of the first steps (of inference, the outputs) must agree.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from cases import Case
from cnn_step import steps
from timing import Calls

RATE = 0.02
Params = dict[str, np.ndarray]
_ORDERS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}  # of d spatial dimensions


# --- the operations --------------------------------------------------------------------------------------------------
class Functional:
    """Of fgrad or JAX: their functions have the same names."""

    def __init__(self, lax: Any, np_: Any) -> None:
        self.lax, self.np = lax, np_

    def conv(self, x, w, stride: int = 1, padding: str | int = "SAME"):
        d = x.ndim - 2
        if isinstance(padding, int):
            padding = [(padding, padding)] * d
        return self.lax.conv_general_dilated(x, w, (stride,) * d, padding, dimension_numbers=_ORDERS[d])

    def conv_transpose(self, x, w, stride: int):
        """Of a 4x4 kernel: ``stride`` times the size."""
        return self.lax.conv_transpose(x, w, (stride, stride), [(2, 2)] * 2, dimension_numbers=_ORDERS[2])

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

    def sigmoid(self, x):
        return 1 / (1 + self.np.exp(-x))

    def max_pool(self, x, size: int = 2):
        window = (1, *[size] * (x.ndim - 2), 1)
        return self.lax.reduce_window(x, -np.inf, self.lax.max, window, window, "VALID")

    def largest(self, x):
        return x.max(1)

    def average(self, x):
        return x.mean((1, 2))

    def flat_dense(self, x, w):
        """``w`` has the shape [H, W, C, features]."""
        return x.reshape(x.shape[0], -1) @ w.reshape(-1, w.shape[-1])

    def dense(self, x, w):
        return x @ w

    def squared_error(self, x, y):
        return ((x - y) * (x - y)).mean()

    def cross_entropy(self, logits, labels):
        shifted = logits - logits.max(1, keepdims=True)
        log_p = shifted - self.np.log(self.np.exp(shifted).sum(1, keepdims=True))
        return -self.np.take_along_axis(log_p, labels[:, None], 1).mean()


class Torch:
    """Of PyTorch; its parameters were transposed by `_torch_params`."""

    def conv(self, x, w, stride: int = 1, padding: str | int = "SAME"):
        import torch.nn.functional as F

        pad = padding if isinstance(padding, int) else {"SAME": w.shape[-1] // 2, "VALID": 0}[padding]
        return (F.conv1d if x.ndim == 3 else F.conv2d)(x, w, stride=stride, padding=pad)

    def conv_transpose(self, x, w, stride: int):
        import torch.nn.functional as F

        return F.conv_transpose2d(x, w, stride=stride, padding=1)

    def bias(self, x, b):
        return x + b.reshape(-1, *[1] * (x.ndim - 2))

    def norm(self, x, scale, shift):
        import torch.nn.functional as F

        return F.batch_norm(x, None, None, scale, shift, training=True)

    def relu(self, x):
        return x.relu()

    def sigmoid(self, x):
        return x.sigmoid()

    def max_pool(self, x, size: int = 2):
        import torch.nn.functional as F

        return (F.max_pool1d if x.ndim == 3 else F.max_pool2d)(x, size)

    def largest(self, x):
        return x.amax(2)

    def average(self, x):
        return x.mean((2, 3))

    def flat_dense(self, x, w):
        import torch.nn.functional as F

        return F.linear(x.flatten(1), w)

    def dense(self, x, w):
        import torch.nn.functional as F

        return F.linear(x, w)

    def squared_error(self, x, y):
        import torch.nn.functional as F

        return F.mse_loss(x, y)

    def cross_entropy(self, logits, labels):
        import torch.nn.functional as F

        return F.cross_entropy(logits, labels)


# --- the networks ----------------------------------------------------------------------------------------------------
class Model(NamedTuple):
    """Shapes of the parameters, the outputs from (operations, parameters, inputs), and one input's [H, W, C].

    A parameter's first letter says what it is: f is the first dense layer's weights, t a transposed convolution's.
    """

    shapes: dict[str, tuple[int, ...]]
    outputs: Callable[[Any, Any, Any], Any]
    image: tuple[int, ...]
    reconstructs: bool = False

    def loss(self, o, outputs, x, labels):
        return o.squared_error(outputs, x) if self.reconstructs else o.cross_entropy(outputs, labels)


def _lenet5() -> Model:
    def outputs(o, p, x):
        x = o.max_pool(o.relu(o.bias(o.conv(x, p["c1"], 1, 2), p["b1"])))
        x = o.max_pool(o.relu(o.bias(o.conv(x, p["c2"], 1, "VALID"), p["b2"])))
        x = o.relu(o.bias(o.flat_dense(x, p["f3"]), p["b3"]))
        x = o.relu(o.bias(o.dense(x, p["d4"]), p["b4"]))
        return o.bias(o.dense(x, p["d5"]), p["b5"])

    shapes = {
        "c1": (5, 5, 1, 6), "b1": (6,), "c2": (5, 5, 6, 16), "b2": (16,), "f3": (5, 5, 16, 120), "b3": (120,),
        "d4": (120, 84), "b4": (84,), "d5": (84, 10), "b5": (10,),
    }  # fmt: skip
    return Model(shapes, outputs, (28, 28, 1))


def _mnist_cnn() -> Model:
    def outputs(o, p, x):
        x = o.relu(o.bias(o.conv(x, p["c1"], 1, "VALID"), p["b1"]))
        x = o.max_pool(o.relu(o.bias(o.conv(x, p["c2"], 1, "VALID"), p["b2"])))
        x = o.relu(o.bias(o.flat_dense(x, p["f3"]), p["b3"]))
        return o.bias(o.dense(x, p["d4"]), p["b4"])

    shapes = {
        "c1": (3, 3, 1, 32), "b1": (32,), "c2": (3, 3, 32, 64), "b2": (64,), "f3": (12, 12, 64, 128), "b3": (128,),
        "d4": (128, 10), "b4": (10,),
    }  # fmt: skip
    return Model(shapes, outputs, (28, 28, 1))


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

    def outputs(o, p, x):
        def normed(x, name, stride=1, padding=1):
            y = o.conv(x, p[f"{name}.w"], stride, padding)
            return o.norm(y, p[f"{name}.s"], p[f"{name}.t"])

        x = o.relu(normed(x, "stem"))
        for name, stride, projected in plan:
            y = normed(o.relu(normed(x, f"{name}.a", stride)), f"{name}.b")
            x = o.relu(y + (normed(x, f"{name}.p", stride, 0) if projected else x))
        return o.bias(o.dense(o.average(x), p["d"]), p["b"])

    return Model(shapes, outputs, (32, 32, 3))


def _autoencoder() -> Model:
    """28x28 to 7x7x32 and back, by strides of 2."""

    def outputs(o, p, x):
        for i in "12":
            x = o.relu(o.bias(o.conv(x, p[f"c{i}"], 2, 1), p[f"b{i}"]))
        x = o.relu(o.bias(o.conv_transpose(x, p["t3"], 2), p["b3"]))
        return o.sigmoid(o.bias(o.conv_transpose(x, p["t4"], 2), p["b4"]))

    shapes = {
        "c1": (4, 4, 1, 16), "b1": (16,), "c2": (4, 4, 16, 32), "b2": (32,), "t3": (4, 4, 32, 16), "b3": (16,),
        "t4": (4, 4, 16, 1), "b4": (1,),
    }  # fmt: skip
    return Model(shapes, outputs, (28, 28, 1), reconstructs=True)


def _scanning_cnn() -> Model:
    """Detectors of motifs slide along a sequence of 4 letters, as in DeepBind and Basset; the best match counts."""

    def outputs(o, p, x):
        x = o.max_pool(o.relu(o.bias(o.conv(x, p["c1"]), p["b1"])), 4)
        x = o.max_pool(o.relu(o.bias(o.conv(x, p["c2"]), p["b2"])), 4)
        x = o.relu(o.bias(o.conv(x, p["c3"]), p["b3"]))
        return o.bias(o.dense(o.largest(x), p["d4"]), p["b4"])

    shapes = {
        "c1": (15, 4, 32), "b1": (32,), "c2": (9, 32, 32), "b2": (32,), "c3": (5, 32, 64), "b3": (64,), "d4": (64, 10),
        "b4": (10,),
    }  # fmt: skip
    return Model(shapes, outputs, (4096, 4))


MODELS: dict[str, Callable[[], Model]] = {
    "LeNet-5": _lenet5,
    "MNIST CNN": _mnist_cnn,
    "ResNet-8": lambda: _resnet(1),
    "ResNet-20": lambda: _resnet(3),
    "conv autoencoder": _autoencoder,
    "1-D scanning CNN": _scanning_cnn,
}

TRAINING = {
    "LeNet-5": (1, 16, 64, 256), "MNIST CNN": (1, 16, 64, 256), "ResNet-8": (1, 32, 256), "ResNet-20": (1, 8, 32, 128),
    "conv autoencoder": (1, 64, 256), "1-D scanning CNN": (1, 16, 64),
}  # fmt: skip
INFERENCE = {
    "LeNet-5": (1, 16, 256), "MNIST CNN": (1, 16, 256), "ResNet-8": (1, 256), "ResNet-20": (1, 32, 256),
    "conv autoencoder": (1, 256), "1-D scanning CNN": (1, 64),
}  # fmt: skip


def cases() -> list[Case]:
    """The training step of `make demo`'s example, and every network of this file."""
    out = [
        Case("networks", f"{text} with Adam, training step, batch 64", functools.partial(steps, data, 64))
        for text, data in (("digits CNN", "digits"), ("MNIST CNN", "mnist"))
    ]
    for what, table in (("training step", TRAINING), ("inference", INFERENCE)):
        out += [
            Case("networks", f"{name}, {what}, batch {batch}", functools.partial(calls, name, batch, table is TRAINING))
            for name, batches in table.items()
            for batch in batches
        ]
    return out


# --- calls to time ---------------------------------------------------------------------------------------------------
def problem(model: Model, batch: int) -> tuple[Params, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    params = {}
    for name, shape in model.shapes.items():
        scale = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.0
        params[name] = (rng.standard_normal(shape) * scale + name.endswith(".s")).astype(np.float32)
    images = rng.random((batch, *model.image), np.float32)
    return params, images, rng.integers(0, 10, batch).astype(np.int32)


def _fgrad(model: Model, batch: int, train: bool):
    import fgrad
    import fgrad.numpy as fnp

    return _functional(fgrad, fnp, fgrad.tree.tree_map, model, batch, train)


def _jax(model: Model, batch: int, train: bool):
    import jax

    return _functional(jax, jax.numpy, jax.tree.map, model, batch, train)


def _functional(library: Any, np_: Any, tree_map: Callable, model: Model, batch: int, train: bool):
    o = Functional(library.lax, np_)
    params, images, labels = problem(model, batch)
    carry, x, y = [{k: np_.asarray(v) for k, v in params.items()}], np_.asarray(images), np_.asarray(labels)

    @library.jit
    def step(params, x, y):
        value, g = library.value_and_grad(lambda p: model.loss(o, model.outputs(o, p, x), x, y))(params)
        return tree_map(lambda p, g: p - RATE * g, params, g), value

    def run() -> float:
        carry[0], value = step(carry[0], x, y)
        return float(value)

    infer = library.jit(lambda params, x: model.outputs(o, params, x))
    return run if train else lambda: np.asarray(infer(carry[0], x))


def _torch_params(params: Params) -> dict[str, Any]:
    import torch

    def turned(name: str, a: np.ndarray) -> np.ndarray:
        if a.ndim == 4 and name.startswith("f"):  # [H, W, C, features] -> [features, C H W]
            return a.transpose(3, 2, 0, 1).reshape(a.shape[-1], -1)
        if name.startswith("t"):  # PyTorch turns the kernel of a transposed convolution round
            return np.flip(a, (0, 1)).transpose(2, 3, 0, 1)
        return a.transpose(3, 2, 0, 1) if a.ndim == 4 else a.T

    return {k: torch.tensor(np.ascontiguousarray(turned(k, v))).requires_grad_() for k, v in params.items()}


def _torch(model: Model, batch: int, train: bool):
    import torch

    o = Torch()
    params, images, labels = problem(model, batch)
    p = _torch_params(params)
    x = torch.tensor(np.ascontiguousarray(np.moveaxis(images, -1, 1)))
    y = torch.tensor(labels.astype(np.int64))
    optimiser = torch.optim.SGD(p.values(), lr=RATE)

    def run() -> float:
        optimiser.zero_grad()
        value = model.loss(o, model.outputs(o, p, x), x, y)
        value.backward()
        optimiser.step()
        return float(value.detach())

    def infer() -> np.ndarray:
        with torch.inference_mode():
            y = model.outputs(o, p, x).numpy()
            return np.moveaxis(y, 1, -1) if model.reconstructs else y

    return run if train else infer


#: Library -> a function of (model, batch, whether to train) that makes a call.
MAKE: dict[str, Callable[[Model, int, bool], Callable[[], Any]]] = {"fgrad": _fgrad, "PyTorch": _torch, "JAX": _jax}


def calls(name: str, batch: int, train: bool) -> Calls:
    """A call to time for each library, after the first results were found equal."""
    made = {library: make(MODELS[name](), batch, train) for library, make in MAKE.items()}
    results = {library: np.array([run() for _ in range(3 if train else 1)]) for library, run in made.items()}
    for library, values in results.items():
        if not np.allclose(values, results["PyTorch"], rtol=2e-3, atol=2e-3):
            raise AssertionError(f"{name}, batch {batch}: {library} gives {values}, PyTorch {results['PyTorch']}")
    return made
