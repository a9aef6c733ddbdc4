"""Twelve small programs, each written once for fgrad and for JAX, that the composition tests transform.

A program is ``f(lib, p)``: ``lib`` says whose functions it calls, ``p`` is a pytree of real arrays of one dtype and
holds everything that is differentiated and batched: parameters and data alike.  Results are arrays or pytrees of them.
``INPUTS`` gives for each program the leaves of ``p`` as (shape, centre, spread).
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np


class Library(NamedTuple):
    """The same names in fgrad and in JAX: ``api`` has grad, jit, ...; ``tree`` has tree_map, tree_leaves, ..."""

    api: ModuleType
    np: ModuleType
    lax: ModuleType
    nn: ModuleType
    tree: ModuleType


def draw(seed: int, shape: tuple[int, ...], centre: float, spread: float) -> np.ndarray:
    """centre ± spread in multiples of 2⁻¹⁰, so that float32 and float64 hold the same values."""
    values = np.random.default_rng(seed).uniform(-1.0, 1.0, shape)
    return np.round((centre + spread * values) * 1024) / 1024


# --- networks --------------------------------------------------------------------------------------------------------
def mlp(lib: Library, p: dict) -> Any:
    """Two dense layers and the mean cross-entropy."""
    hidden = lib.np.tanh(p["x"] @ p["w1"] + p["b1"])
    logits = hidden @ p["w2"] + p["b2"]
    labels = lib.np.asarray(np.array([[0], [2], [1], [2], [0]], np.int32))
    return -lib.np.mean(lib.np.take_along_axis(lib.nn.log_softmax(logits), labels, 1))


def _conv(lib: Library, x: Any, w: Any, stride: int) -> Any:
    return lib.lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def cnn_batchnorm(lib: Library, p: dict) -> Any:
    """Convolution, batch normalisation, relu, strided convolution, mean over the image, logistic loss."""
    y = _conv(lib, p["images"], p["k1"], 1)
    mean, var = lib.np.mean(y, (0, 1, 2)), lib.np.var(y, (0, 1, 2))
    y = lib.nn.relu((y - mean) * lib.lax.rsqrt(var + 1e-2) * p["scale"] + p["offset"])
    y = _conv(lib, y, p["k2"], 2)
    return lib.np.mean(lib.nn.softplus(lib.np.mean(y, (1, 2)) @ p["w"]))


def rnn(lib: Library, p: dict) -> Any:
    """A recurrent cell by scan; the last state and an output for each step."""

    def cell(h, x):
        h = lib.np.tanh(h @ p["w"] + x @ p["u"] + p["b"])
        return h, h @ p["v"]

    h, ys = lib.lax.scan(cell, p["h"], p["xs"])
    return {"h": h, "ys": ys}


def attention(lib: Library, p: dict) -> Any:
    """A causal block: two heads, residual, layer normalisation."""
    n, heads, width = 4, 2, 2
    q, k, v = (lib.np.reshape(p["x"] @ p[name], (n, heads, width)) for name in ("wq", "wk", "wv"))
    scores = lib.np.einsum("qhd,khd->hqk", q, k) / width**0.5
    mask = lib.np.asarray(np.tril(np.ones((n, n), bool)))
    weights = lib.nn.softmax(lib.np.where(mask, scores, -1e9))
    y = p["x"] + lib.np.reshape(lib.np.einsum("hqk,khd->qhd", weights, v), (n, heads * width)) @ p["wo"]
    centred = y - lib.np.mean(y, -1, keepdims=True)
    return centred * lib.lax.rsqrt(lib.np.mean(centred * centred, -1, keepdims=True) + 1e-2) * p["scale"]


def gan(lib: Library, p: dict) -> Any:
    """One step of both players by gradient descent; the generator upsamples by a transposed convolution."""

    def generate(g, z):
        y = lib.np.tanh(lib.np.reshape(z @ g["w"], (2, 2, 2, 2)))
        out = lib.lax.conv_transpose(y, g["k"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return lib.np.tanh(out)

    def judge(d, images):
        y = lib.nn.leaky_relu(_conv(lib, images, d["k"], 2) + d["b"])
        return lib.np.mean(y, (1, 2)) @ d["w"]

    def judge_loss(d):
        fake = lib.nn.softplus(judge(d, generate(p["g"], p["z"])))
        return lib.np.mean(fake + lib.nn.softplus(-judge(d, p["images"])))

    def generator_loss(g):
        return lib.np.mean(lib.nn.softplus(-judge(p["d"], generate(g, p["z"]))))

    def descend(loss, params):
        return lib.tree.tree_map(lambda w, slope: w - 0.5 * slope, params, lib.api.grad(loss)(params))

    return {"d": descend(judge_loss, p["d"]), "g": descend(generator_loss, p["g"])}


# --- loops -----------------------------------------------------------------------------------------------------------
def ode(lib: Library, p: dict) -> Any:
    """Lotka and Volterra's equations by the classical Runge-Kutta method, in a fori_loop."""
    h = 0.125

    def slope(y):
        prey, predators = y[0], y[1]
        a, b, c, d = (p["rates"][i] for i in range(4))
        return lib.np.stack([prey * (a - b * predators), predators * (c * prey - d)])

    def step(_, y):
        k1 = slope(y)
        k2 = slope(y + h / 2 * k1)
        k3 = slope(y + h / 2 * k2)
        k4 = slope(y + h * k3)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return lib.lax.fori_loop(0, 4, step, p["y"])


def root(lib: Library, p: dict) -> Any:
    """x with x³ + a x = b by Newton's method in a while_loop; the rule for reverse mode is the implicit function's.

    dx/da = -x / (3x² + a),  dx/db = 1 / (3x² + a).
    """

    def newton(a, b):
        enough = 1e-4 if a.dtype == np.float32 else 1e-8  # the next error is of the order of the step's square

        def step(carry):
            x, _ = carry
            dx = (x * x * x + a * x - b) / (3 * x * x + a)
            return x - dx, lib.np.max(lib.np.abs(dx))

        far = lib.np.ones((), a.dtype)
        return lib.lax.while_loop(lambda carry: carry[1] > enough, step, (b / a, far))[0]

    @lib.api.custom_vjp
    def solve(a, b):
        return newton(a, b)

    def forward(a, b):
        x = solve(a, b)
        return x, (a, x)

    def backward(residuals, ct):
        a, x = residuals
        ct = ct / (3 * x * x + a)
        return -ct * x, ct

    solve.defvjp(forward, backward)
    return lib.np.sin(solve(p["a"], p["b"])) * p["scale"]


# --- indexing and windows --------------------------------------------------------------------------------------------
def embedding(lib: Library, p: dict) -> Any:
    """Rows of a table by index, summed into bins by index, one bin overwritten."""
    ids = lib.np.asarray(np.array([[0, 3, 3], [5, 1, 0]], np.int32))
    bins = lib.np.asarray(np.array([2, 0, 2, 1, 0, 2], np.int32))
    rows = lib.np.reshape(p["table"][ids], (6, 3)) * p["scale"]
    sums = lib.np.zeros((4, 3), rows.dtype).at[bins].add(rows).at[3].set(rows[1] * rows[4])
    return lib.np.tanh(sums)


def signal_filter(lib: Library, p: dict) -> Any:
    """A dilated filter bank, the energy of each band, and the reversed taps over the upsampled energy."""
    dims = ("NWC", "WIO", "NWC")
    bands = lib.lax.conv_general_dilated(
        p["signal"], p["taps"], (2,), [(3, 1)], rhs_dilation=(2,), dimension_numbers=dims
    )
    energy = bands * bands
    back = lib.np.flip(lib.np.swapaxes(p["taps"], 1, 2), 0)
    return lib.lax.conv_general_dilated(energy, back, (1,), [(1, 2)], lhs_dilation=(2,), dimension_numbers=dims)


def pooling(lib: Library, p: dict) -> Any:
    """Overlapping windows: the largest of each, then sums of windows that reach over the edge."""
    x = lib.np.sin(p["x"] * p["scale"])
    largest = lib.lax.reduce_window(x, -np.inf, lib.lax.max, (1, 3, 2, 1), (1, 2, 2, 1), "SAME")
    return lib.lax.reduce_window(largest * largest, 0.0, lib.lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "SAME") / 4


# --- derivatives inside ----------------------------------------------------------------------------------------------
def logistic_hessian(lib: Library, p: dict) -> Any:
    """The Hessian of a logistic regression: forward over reverse, one column for each unit vector."""
    signs = lib.np.asarray(np.array([1, -1, -1, 1], p["w"].dtype))

    def loss(w):
        return lib.np.mean(lib.nn.softplus(-signs * (p["x"] @ w))) + 0.05 * lib.np.sum(w * w)

    slope = lib.api.grad(loss)
    column = lambda v: lib.api.jvp(slope, (p["w"],), (v,))[1]  # noqa: E731
    return lib.api.vmap(column, out_axes=1)(lib.np.eye(3, dtype=p["w"].dtype))


def maml(lib: Library, p: dict) -> Any:
    """The loss on one task's queries after a gradient step on its examples."""

    def loss(w, x, y):
        error = lib.np.tanh(x @ w["a"]) @ w["b"] - y
        return lib.np.mean(error * error)

    slopes = lib.api.grad(loss)(p["w"], p["x"], p["y"])
    adapted = lib.tree.tree_map(lambda w, g: w - 0.5 * g, p["w"], slopes)
    return loss(adapted, p["x_query"], p["y_query"])


# --- their inputs ----------------------------------------------------------------------------------------------------
Leaf = tuple[tuple[int, ...], float, float]


def _unit(*shape: int) -> Leaf:
    return shape, 0.0, 1.0


def _near_one(*shape: int) -> Leaf:
    return shape, 1.0, 0.25


INPUTS: dict[Callable[..., Any], dict] = {
    mlp: {"x": _unit(5, 3), "w1": _unit(3, 4), "b1": _unit(4), "w2": _unit(4, 3), "b2": _unit(3)},
    cnn_batchnorm: {
        "images": _unit(2, 4, 4, 1),
        "k1": _unit(3, 3, 1, 3),
        "scale": _near_one(3),
        "offset": _unit(3),
        "k2": _unit(3, 3, 3, 2),
        "w": _unit(2),
    },
    rnn: {"h": _unit(3), "xs": _unit(5, 2), "w": _unit(3, 3), "u": _unit(2, 3), "b": _unit(3), "v": _unit(3, 2)},
    attention: {
        "x": _unit(4, 4),
        "wq": _unit(4, 4),
        "wk": _unit(4, 4),
        "wv": _unit(4, 4),
        "wo": _unit(4, 4),
        "scale": _near_one(4),
    },
    ode: {"y": _near_one(2), "rates": _near_one(4)},
    root: {"a": _near_one(3), "b": _unit(3), "scale": _unit(3)},
    embedding: {"table": _unit(6, 3), "scale": _unit(3)},
    signal_filter: {"signal": _unit(1, 10, 1), "taps": _unit(3, 1, 2)},
    pooling: {"x": _unit(1, 5, 5, 2), "scale": _near_one(2)},
    logistic_hessian: {"w": _unit(3), "x": _unit(4, 3)},
    maml: {
        "w": {"a": _unit(2, 3), "b": _unit(3)},
        "x": _unit(4, 2),
        "y": _unit(4),
        "x_query": _unit(4, 2),
        "y_query": _unit(4),
    },
    gan: {
        "g": {"w": _unit(3, 8), "k": _unit(3, 3, 2, 1)},
        "d": {"k": _unit(3, 3, 1, 2), "b": _unit(2), "w": _unit(2)},
        "z": _unit(2, 3),
        "images": _unit(2, 4, 4, 1),
    },
}
PROGRAMS = list(INPUTS)
