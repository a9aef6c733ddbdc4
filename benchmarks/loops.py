"""Loops of 10,000 steps.

PyTorch runs a loop as its users do: eagerly from Python, and a recurrent layer by its own torch.nn.RNN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cases import Case
from timing import Calls

STEPS = 10_000
TOLERANCE = 1e-5


def cases() -> list[Case]:
    return [
        Case("loops", name, make)
        for name, make in (
            ("scan, 10,000 steps, tanh of f32[8]", tanh_map),
            ("scan, 10,000 steps, RNN cell, width 32", rnn),
            ("while_loop, 10,000 steps, scalar", logistic_map),
        )
    ]


def compared(
    loop: Callable[[Any, Any], Callable], arrays: Sequence[np.ndarray], torch_call: Callable[[], Any]
) -> Calls:
    """``loop(numpy, lax)(*arrays)``, of fgrad's and of JAX's modules and under their jit, beside PyTorch's call; their
    results agree.
    """
    import jax

    import fgrad
    import fgrad.numpy

    ours, theirs = fgrad.jit(loop(fgrad.numpy, fgrad.lax)), jax.jit(loop(jax.numpy, jax.lax))
    our_args, their_args = ([library.numpy.asarray(x) for x in arrays] for library in (fgrad, jax))
    calls: Calls = {
        "fgrad": lambda: ours(*our_args),
        "PyTorch": torch_call,
        "JAX": lambda: theirs(*their_args).block_until_ready(),
    }
    results = {name: np.asarray(call()) for name, call in calls.items()}
    for name, value in results.items():
        np.testing.assert_allclose(value, results["JAX"], rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
    return calls


def tanh_map() -> Calls:
    """h <- tanh(a h + b) on float32[8], the last h."""
    import torch

    a, b, h = np.random.default_rng(0).uniform(-1, 1, (3, 8)).astype(np.float32)

    def loop(np, lax):
        return lambda a, b, h: lax.scan(lambda h, _: (np.tanh(a * h + b), None), h, None, length=STEPS)[0]

    ta, tb, th = (torch.tensor(x) for x in (a, b, h))

    def torch_loop():
        y = th
        for _ in range(STEPS):
            y = torch.tanh(ta * y + tb)
        return y

    return compared(loop, (a, b, h), torch_loop)


def rnn() -> Calls:
    """A recurrent cell of width 32 on 16 features, batch 1; every state."""
    import torch

    rng = np.random.default_rng(0)
    w, u, b, xs = (
        rng.uniform(-0.2, 0.2, shape).astype(np.float32) for shape in ((32, 32), (16, 32), (32,), (STEPS, 1, 16))
    )

    def loop(np, lax):
        def states(w, u, b, xs):
            def cell(h, x):
                h = np.tanh(h @ w + x @ u + b)
                return h, h

            return lax.scan(cell, np.zeros((1, 32), w.dtype), xs)[1]

        return states

    layer = torch.nn.RNN(16, 32)
    with torch.no_grad():
        for name, value in (("weight_hh_l0", w.T), ("weight_ih_l0", u.T), ("bias_ih_l0", b), ("bias_hh_l0", 0 * b)):
            getattr(layer, name).copy_(torch.tensor(value.copy()))
    tensor = torch.tensor(xs)

    def torch_layer():
        with torch.no_grad():
            return layer(tensor)[0]

    return compared(loop, (w, u, b, xs), torch_layer)


def logistic_map() -> Calls:
    """x <- r x (1 - x) on a scalar while i < 10,000; r where the orbit settles on two points."""
    import torch

    def loop(np, lax):
        def last(r, x):
            step = lambda carry: (carry[0] + 1, r * carry[1] * (1 - carry[1]))  # noqa: E731
            return lax.while_loop(lambda carry: carry[0] < STEPS, step, (0, x))[1]

        return last

    r, start = torch.tensor(3.2), torch.tensor(0.3)

    def torch_loop():
        x = start
        for _ in range(STEPS):
            x = r * x * (1 - x)
        return x

    return compared(loop, [np.float32(3.2), np.float32(0.3)], torch_loop)
