"""Loops of 10,000 steps.

PyTorch runs a loop as its users do: eagerly from Python, and a recurrent layer by its own torch.nn.RNN.
"""

from __future__ import annotations

import numpy as np
from cases import Case
from timing import Calls

STEPS = 10_000


def cases() -> list[Case]:
    return [
        Case("loops", name, make)
        for name, make in (
            ("scan, 10,000 steps, tanh of f32[8]", tanh_map),
            ("scan, 10,000 steps, RNN cell, width 32", rnn),
            ("while_loop, 10,000 steps, scalar", logistic_map),
        )
    ]


def checked(calls: Calls, tolerance: float) -> Calls:
    """The calls, after making sure that their results agree."""
    results = {name: np.asarray(call()) for name, call in calls.items()}
    for name, value in results.items():
        np.testing.assert_allclose(value, results["JAX"], rtol=tolerance, atol=tolerance, err_msg=name)
    return calls


def tanh_map() -> Calls:
    """h <- tanh(a h + b) on float32[8], the last h."""
    import jax
    import torch

    import fgrad
    import fgrad.numpy as fnp

    a, b, h = np.random.default_rng(0).uniform(-1, 1, (3, 8)).astype(np.float32)

    def loop(np, lax):
        return lambda a, b, h: lax.scan(lambda h, _: (np.tanh(a * h + b), None), h, None, length=STEPS)[0]

    ours, theirs = fgrad.jit(loop(fnp, fgrad.lax)), jax.jit(loop(jax.numpy, jax.lax))
    our_args, their_args = [fnp.asarray(x) for x in (a, b, h)], [jax.numpy.asarray(x) for x in (a, b, h)]
    ta, tb, th = (torch.tensor(x) for x in (a, b, h))

    def torch_loop():
        y = th
        for _ in range(STEPS):
            y = torch.tanh(ta * y + tb)
        return y

    return checked(
        {
            "fgrad": lambda: ours(*our_args),
            "PyTorch": torch_loop,
            "JAX": lambda: theirs(*their_args).block_until_ready(),
        },
        1e-5,
    )


def rnn() -> Calls:
    """A recurrent cell of width 32 on 16 features, batch 1; every state."""
    import jax
    import torch

    import fgrad
    import fgrad.numpy as fnp

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

    ours, theirs = fgrad.jit(loop(fnp, fgrad.lax)), jax.jit(loop(jax.numpy, jax.lax))
    our_args, their_args = [fnp.asarray(x) for x in (w, u, b, xs)], [jax.numpy.asarray(x) for x in (w, u, b, xs)]
    layer = torch.nn.RNN(16, 32)
    with torch.no_grad():
        for name, value in (("weight_hh_l0", w.T), ("weight_ih_l0", u.T), ("bias_ih_l0", b), ("bias_hh_l0", 0 * b)):
            getattr(layer, name).copy_(torch.tensor(value.copy()))
    tensor = torch.tensor(xs)

    def torch_layer():
        with torch.no_grad():
            return layer(tensor)[0]

    return checked(
        {
            "fgrad": lambda: ours(*our_args),
            "PyTorch": torch_layer,
            "JAX": lambda: theirs(*their_args).block_until_ready(),
        },
        1e-5,
    )


def logistic_map() -> Calls:
    """x <- r x (1 - x) on a scalar while i < 10,000; r where the orbit settles on two points."""
    import jax
    import torch

    import fgrad
    import fgrad.numpy as fnp

    def loop(lax):
        def last(r, x):
            step = lambda carry: (carry[0] + 1, r * carry[1] * (1 - carry[1]))  # noqa: E731
            return lax.while_loop(lambda carry: carry[0] < STEPS, step, (0, x))[1]

        return last

    ours, theirs = fgrad.jit(loop(fgrad.lax)), jax.jit(loop(jax.lax))
    our_args = [fnp.asarray(np.float32(x)) for x in (3.2, 0.3)]
    their_args = [jax.numpy.asarray(np.float32(x)) for x in (3.2, 0.3)]
    r, start = torch.tensor(3.2), torch.tensor(0.3)

    def torch_loop():
        x = start
        for _ in range(STEPS):
            x = r * x * (1 - x)
        return x

    return checked(
        {
            "fgrad": lambda: ours(*our_args),
            "PyTorch": torch_loop,
            "JAX": lambda: theirs(*their_args).block_until_ready(),
        },
        1e-5,
    )
