"""The training step of examples/train_cnn.py in three libraries: forward, backward and Adam, from equal parameters.

fgrad runs the example's own functions.  JAX runs the same program under ``jax.jit``; PyTorch runs it eagerly with its
own Adam, as its users do, in NCHW.  Before anything is timed, three steps of each must give equal losses.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

RATE = 2e-3
EXAMPLE = Path(__file__).parent.parent / "examples" / "train_cnn.py"

Step = Callable[[], float]  # one training step on the fixed batch; the loss before it


def load_example():
    spec = importlib.util.spec_from_file_location("train_cnn", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def problem(data: str, batch: int):
    """(the example's module, parameters as NumPy, images [N, H, W, 1], labels [N])"""
    from fgrad import random

    example = load_example()
    size = {"digits": 8, "mnist": 28}[data]
    params = example.init_params(random.key(0), example.SETTINGS[data], size)
    params = {name: {k: np.asarray(v) for k, v in layer.items()} for name, layer in params.items()}
    rng = np.random.default_rng(0)
    images = rng.random((batch, size, size, 1), np.float32)
    return example, params, images, rng.integers(0, 10, batch).astype(np.int32)


def fgrad_step(data: str, batch: int) -> Step:
    import fgrad
    import fgrad.numpy as fnp
    from fgrad import optim, tree

    example, params, images, labels = problem(data, batch)
    params = tree.tree_map(fnp.asarray, params)
    optimiser = optim.adam(RATE)

    @fgrad.jit
    def step(params, state, images, labels):
        value, gradients = fgrad.value_and_grad(example.loss)(params, images, labels)
        updates, state = optimiser.update(gradients, state, params)
        return optim.apply_updates(params, updates), state, value

    carry = [params, optimiser.init(params)]
    x, y = fnp.asarray(images), fnp.asarray(labels)

    def run() -> float:
        carry[0], carry[1], value = step(carry[0], carry[1], x, y)
        return float(value)

    return run


def jax_step(data: str, batch: int) -> Step:
    import jax
    import jax.numpy as jnp

    _, params, images, labels = problem(data, batch)
    padding = "SAME" if images.shape[1] <= 8 else "VALID"

    def convolve(x, layer):
        y = jax.lax.conv_general_dilated(x, layer["w"], (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + layer["b"]

    def loss(params, x, labels):
        x = jax.nn.relu(convolve(x, params["conv1"]))
        x = jax.nn.relu(convolve(x, params["conv2"]))
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = x.reshape(x.shape[0], -1)
        x = jax.nn.relu(x @ params["dense1"]["w"] + params["dense1"]["b"])
        logits = x @ params["dense2"]["w"] + params["dense2"]["b"]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()

    @jax.jit
    def step(params, m, v, t, x, labels):
        value, g = jax.value_and_grad(loss)(params, x, labels)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        scale = RATE * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        eps = 1e-8 * jnp.sqrt(1 - 0.999**t)
        params = jax.tree.map(lambda p, m, v: p - scale * m / (jnp.sqrt(v) + eps), params, m, v)
        return params, m, v, t, value

    params = jax.tree.map(jnp.asarray, params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    carry = [params, zeros, zeros, jnp.zeros((), jnp.float32)]
    x, y = jnp.asarray(images), jnp.asarray(labels)

    def run() -> float:
        *carry[:], value = step(*carry, x, y)
        return float(value)

    return run


def torch_step(data: str, batch: int) -> Step:
    import torch
    import torch.nn.functional as F

    _, params, images, labels = problem(data, batch)
    padding = 1 if images.shape[1] <= 8 else 0
    c1, c2, d1, d2 = (params[k] for k in ("conv1", "conv2", "dense1", "dense2"))
    # dense1 reads [H, W, C] flattened; PyTorch flattens [C, H, W]
    channels = c2["w"].shape[-1]
    side = int(np.sqrt(d1["w"].shape[0] // channels))
    w1 = d1["w"].reshape(side, side, channels, -1).transpose(3, 2, 0, 1).reshape(d1["w"].shape[1], -1)
    tensors = [
        torch.tensor(np.ascontiguousarray(a)).requires_grad_()
        for a in (
            c1["w"].transpose(3, 2, 0, 1), c1["b"], c2["w"].transpose(3, 2, 0, 1), c2["b"], w1, d1["b"],
            d2["w"].T, d2["b"],
        )
    ]  # fmt: skip
    optimiser = torch.optim.Adam(tensors, lr=RATE)
    x, y = torch.tensor(images.transpose(0, 3, 1, 2).copy()), torch.tensor(labels.astype(np.int64))

    def run() -> float:
        a, b, c, d, e, f, g, h = tensors
        optimiser.zero_grad()
        z = F.relu(F.conv2d(x, a, b, padding=padding))
        z = F.max_pool2d(F.relu(F.conv2d(z, c, d, padding=padding)), 2)
        value = F.cross_entropy(F.linear(F.relu(F.linear(z.flatten(1), e, f)), g, h), y)
        value.backward()
        optimiser.step()
        return float(value.detach())

    return run


def steps(data: str, batch: int) -> dict[str, Step]:
    """The three steps, after checking that their first three losses agree."""
    made = {"fgrad": fgrad_step(data, batch), "PyTorch": torch_step(data, batch), "JAX": jax_step(data, batch)}
    losses = {name: [run() for _ in range(3)] for name, run in made.items()}
    for name, values in losses.items():
        if not np.allclose(values, losses["JAX"], rtol=1e-3):
            raise AssertionError(f"cnn_step: {name} gives losses {values}, JAX {losses['JAX']}")
    return made
