"""What a call costs where there is next to nothing to compute: 8x8 arrays, against NumPy and HIPS autograd too."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Case
from timing import Calls

X = np.random.default_rng(0).random((8, 8), np.float32)


def cases() -> list[Case]:
    return [
        Case("overheads", name, make)
        for name, make in (
            ("eager 8x8 add", eager_add),
            ("jitted 8x8 add", jitted_add),
            ("jitted call, dict of 20 leaves", twenty_leaves),
            ("eager gradient of sum(sin(x) x), 8x8", eager_gradient),
        )
    ]


def checked(calls: Calls, want: Any) -> Calls:
    """The calls, after making sure that each returns ``want``."""
    for name, call in calls.items():
        np.testing.assert_allclose(np.asarray(call()), want, rtol=1e-6, err_msg=name)
    return calls


def eager_add() -> Calls:
    import jax
    import torch

    import fgrad.numpy as fnp

    ours, theirs, tensor = fnp.asarray(X), jax.numpy.asarray(X), torch.tensor(X)
    calls: Calls = {
        "fgrad": lambda: ours + ours,
        "PyTorch": lambda: tensor + tensor,
        "JAX": lambda: (theirs + theirs).block_until_ready(),
        "NumPy": lambda: X + X,
    }
    return checked(calls, X + X)


def jitted_add() -> Calls:
    """PyTorch runs it eagerly, as its users do."""
    import jax
    import torch

    import fgrad
    import fgrad.numpy as fnp

    ours, theirs, tensor = fnp.asarray(X), jax.numpy.asarray(X), torch.tensor(X)
    f, g = fgrad.jit(lambda x, y: x + y), jax.jit(lambda x, y: x + y)
    calls: Calls = {
        "fgrad": lambda: f(ours, ours),
        "PyTorch": lambda: tensor + tensor,
        "JAX": lambda: g(theirs, theirs).block_until_ready(),
    }
    return checked(calls, X + X)


def twenty_leaves() -> Calls:
    """A jitted call of a dict of twenty arrays, 1 added to each."""
    import jax

    import fgrad
    import fgrad.numpy as fnp

    values = {f"w{i:02}": np.random.default_rng(i).random((8, 8), np.float32) for i in range(20)}
    ours, theirs = ({k: asarray(v) for k, v in values.items()} for asarray in (fnp.asarray, jax.numpy.asarray))
    add = lambda tree: {k: x + 1 for k, x in tree.items()}  # noqa: E731
    f, g = fgrad.jit(add), jax.jit(add)
    for out in (f(ours), g(theirs)):
        assert all(np.array_equal(out[k], values[k] + 1) for k in values)
    return {"fgrad": lambda: f(ours), "JAX": lambda: jax.block_until_ready(g(theirs))}


def eager_gradient() -> Calls:
    import autograd
    import autograd.numpy as anp
    import jax
    import torch

    import fgrad
    import fgrad.numpy as fnp

    ours, theirs = fnp.asarray(X), jax.numpy.asarray(X)
    f = fgrad.grad(lambda x: fnp.sum(fnp.sin(x) * x))
    g = jax.grad(lambda x: jax.numpy.sum(jax.numpy.sin(x) * x))
    h = autograd.grad(lambda x: anp.sum(anp.sin(x) * x))

    def torch_gradient():
        x = torch.tensor(X, requires_grad=True)
        (torch.sin(x) * x).sum().backward()
        return x.grad

    calls: Calls = {
        "fgrad": lambda: f(ours),
        "PyTorch": torch_gradient,
        "JAX": lambda: g(theirs).block_until_ready(),
        "autograd": lambda: h(X),
    }
    return checked(calls, np.cos(X) * X + np.sin(X))
