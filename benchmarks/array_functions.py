"""Functions of arrays in three libraries: reductions, softmax, functions of one number, sorting, sums and indexing.

    .venv-bench/bin/python benchmarks/array_functions.py                    everything
    .venv-bench/bin/python benchmarks/array_functions.py --only softmax     the rows whose name contains a word

fgrad and JAX run jitted functions, PyTorch its own functions eagerly, NumPy (shown where it has the function) its own.
Results are compared before anything is timed.  GB/s counts each operand and each result once.
"""

# ruff: noqa: B023, E731 -- a row is timed before the loop that makes it goes on

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from run import THREADS  # first: it fixes the number of threads

# isort: split
import numpy as np
from timing import interleaved

Function = Callable[..., Any]


class Row(NamedTuple):
    """``both`` takes the modules (numpy-like, lax, nn) of fgrad or JAX and gives the function; the inputs."""

    name: str
    both: Callable[[Any, Any, Any], Function]
    torch: Function
    args: tuple[np.ndarray, ...]
    numpy: Function | None = None
    tolerance: float = 1e-5


def _uniform(*shape: int, dtype: str = "float32", low: float = -3.0, high: float = 3.0) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, shape).astype(dtype)


def reductions() -> Iterator[Row]:
    yield Row("x * 2 [64,64,64,16]", lambda np_, lax, nn: lambda x: x * 2, lambda x: x * 2, (_uniform(64, 64, 64, 16),))
    for shape in ((32, 32, 32, 16), (64, 64, 64, 16), (32, 8, 8, 64), (64, 16, 16, 256)):
        for axes in ((0, 1, 2), (1, 2), (3,), (0,), (0, 1, 2, 3)):
            if shape[0] == 64 and shape[1] == 64 and axes in ((0,), (1, 2)):
                continue

            def total(np_, lax, nn, axes=axes):
                return lambda x: x.sum(axes)

            name = f"sum {list(shape)} over {axes}"
            yield Row(name, total, lambda x, axes=axes: x.sum(axes), (_uniform(*shape),), tolerance=1e-3)
        both = lambda np_, lax, nn: lambda x: (x.mean((0, 1, 2)), x.var((0, 1, 2)))
        var = lambda x: (x.mean((0, 1, 2)), x.var((0, 1, 2), correction=0))
        yield Row(f"mean and var {list(shape)} over (0, 1, 2)", both, var, (_uniform(*shape),), tolerance=1e-4)
        biggest = lambda np_, lax, nn: lambda x: x.max((0, 1, 2))
        yield Row(f"max {list(shape)} over (0, 1, 2)", biggest, lambda x: x.amax((0, 1, 2)), (_uniform(*shape),))


def rows() -> Iterator[Row]:
    import torch

    def layer_norm(np_, lax, nn):
        def f(x):
            centred = x - x.mean(1, keepdims=True)
            return centred * lax.rsqrt((centred * centred).mean(1, keepdims=True) + 1e-5)

        return f

    for n in (64, 1024, 4096):
        for k in (10, 128, 1000):
            x = (_uniform(n, k),)
            size = f"[{n},{k}]"
            yield Row(f"softmax {size}", lambda np_, lax, nn: nn.softmax, lambda x: torch.softmax(x, 1), x)
            yield Row(f"log_softmax {size}", lambda np_, lax, nn: nn.log_softmax, lambda x: torch.log_softmax(x, 1), x)
            logsumexp = lambda np_, lax, nn: lambda x: nn.logsumexp(x, axis=1)
            yield Row(f"logsumexp {size}", logsumexp, lambda x: torch.logsumexp(x, 1), x)
            yield Row(f"layer norm {size}", layer_norm, lambda x, k=k: torch.nn.functional.layer_norm(x, (k,)), x)


def functions() -> Iterator[Row]:
    import torch

    for dtype in ("float32", "float64"):
        tolerance = 1e-5 if dtype == "float32" else 1e-13
        wide = (_uniform(1 << 18, dtype=dtype),)
        yield Row(f"x * 2 {dtype}", lambda np_, lax, nn: lambda x: x * 2, lambda x: x * 2, wide, lambda x: x * 2)
        for name in ("exp", "log", "tanh", "log1p", "expm1"):
            low = 0.01 if name.startswith("log") else -3.0
            yield Row(
                f"{name} {dtype}", lambda np_, lax, nn, name=name: getattr(np_, name), getattr(torch, name),
                (_uniform(1 << 18, dtype=dtype, low=low),), getattr(np, name), tolerance,
            )  # fmt: skip
        x = (_uniform(1 << 18, dtype=dtype),)
        for name, theirs in (("erf", torch.erf), ("erfc", torch.erfc), ("logistic", torch.sigmoid)):
            both = lambda np_, lax, nn, name=name: getattr(lax, name)
            yield Row(f"{name} {dtype}", both, theirs, x, None, tolerance)
        gelu = lambda x: torch.nn.functional.gelu(x, approximate="tanh")
        softplus, silu = torch.nn.functional.softplus, torch.nn.functional.silu
        for name, theirs in (("softplus", softplus), ("gelu", gelu), ("silu", silu)):
            both = lambda np_, lax, nn, name=name: getattr(nn, name)
            yield Row(f"{name} {dtype}", both, theirs, x, None, 10 * tolerance)


def orders() -> Iterator[Row]:
    import torch

    def on(np_function: str, **kwargs) -> Callable[[Any, Any, Any], Function]:
        return lambda np_, lax, nn: lambda x: getattr(np_, np_function)(x, **kwargs)

    for shape in ((100_000,), (1000, 1000), (4096, 10)):
        x = (_uniform(*shape),)
        size = str(list(shape))
        yield Row(f"sort {size}", on("sort", axis=-1), lambda x: torch.sort(x, -1)[0], x, lambda x: np.sort(x, -1))
        stable = lambda x: np.argsort(x, -1, kind="stable")
        yield Row(f"argsort {size}", on("argsort", axis=-1), lambda x: torch.sort(x, dim=-1, stable=True)[1], x, stable)
        for axis in range(len(shape)):
            total = lambda x, axis=axis: np.cumsum(x, axis)
            name = f"cumsum {size} along {axis}"
            yield Row(name, on("cumsum", axis=axis), lambda x, axis=axis: torch.cumsum(x, axis), x, total, 1e-2)
        largest = lambda x: np.maximum.accumulate(x, -1)
        cummax = lambda np_, lax, nn: lambda x: lax.cummax(x, axis=x.ndim - 1)
        yield Row(f"cummax {size}", cummax, lambda x: torch.cummax(x, -1)[0], x, largest)
        product = (_uniform(*shape, low=0.99, high=1.01),)
        name = f"cumprod {size}"
        yield Row(
            name, on("cumprod", axis=-1), lambda x: torch.cumprod(x, -1), product, lambda x: np.cumprod(x, -1), 1e-2
        )


def places() -> Iterator[Row]:
    import torch

    rng = np.random.default_rng(0)
    for shape, n in (((50_000, 64), 10_000), ((100_000,), 100_000), ((1000, 512), 1000)):
        x, i = _uniform(*shape), rng.integers(0, shape[0], n).astype(np.int32)
        size = f"{n} of {list(shape)}"
        yield Row(
            f"take {size}", lambda np_, lax, nn: lambda x, i: x[i], lambda x, i: x[i.long()], (x, i), lambda x, i: x[i]
        )
        u = _uniform(n, *shape[1:])

        def add_at(x, i, u):
            y = x.copy()
            np.add.at(y, i, u)
            return y

        yield Row(
            f"add at {size}", lambda np_, lax, nn: lambda x, i, u: x.at[i].add(u),
            lambda x, i, u: x.index_add(0, i, u), (x, i, u), add_at, 1e-4,
        )  # fmt: skip
    x, i = _uniform(4096, 100), rng.integers(0, 100, (4096, 1)).astype(np.int64)
    along = lambda np_, lax, nn: lambda x, i: np_.take_along_axis(x, i, 1)
    yield Row(
        "take_along_axis [4096,100]", along, lambda x, i: torch.gather(x, 1, i), (x, i),
        lambda x, i: np.take_along_axis(x, i, 1),
    )  # fmt: skip
    hot = lambda np_, lax, nn: lambda i: nn.one_hot(i[:, 0], 100)
    eye = np.eye(100, dtype=np.float32)
    yield Row(
        "one_hot [4096] of 100", hot, lambda i: torch.nn.functional.one_hot(i[:, 0], 100).float(), (i,),
        lambda i: eye[i[:, 0]],
    )  # fmt: skip


SECTIONS = (reductions, rows, functions, orders, places)


def _calls(row: Row) -> dict[str, Callable[[], object]]:
    import jax
    import torch

    import fgrad
    import fgrad.numpy as fnp

    ours, theirs = fgrad.jit(row.both(fnp, fgrad.lax, fgrad.nn)), jax.jit(row.both(jax.numpy, jax.lax, jax.nn))
    if "logsumexp" in row.name:
        theirs = jax.jit(lambda x: jax.scipy.special.logsumexp(x, axis=1))
    our_args = [fnp.asarray(x) for x in row.args]
    their_args = [jax.numpy.asarray(x) for x in row.args]
    tensors = [torch.tensor(x) for x in row.args]
    return {
        "fgrad": lambda: ours(*our_args),
        "PyTorch": lambda: row.torch(*tensors),
        "JAX": lambda: jax.block_until_ready(theirs(*their_args)),
    } | ({"NumPy": lambda: row.numpy(*row.args)} if row.numpy is not None else {})


def _arrays(result: object) -> list[np.ndarray]:
    return [np.asarray(x) for x in (result if isinstance(result, tuple | list) else (result,))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--budget", type=float, default=0.5, help="seconds for a row, at least five rounds")
    parser.add_argument("--seconds", type=float, default=0.02)
    options = parser.parse_args()
    import jax
    import torch

    jax.config.update("jax_enable_x64", True)
    torch.set_grad_enabled(False)
    torch.set_num_threads(THREADS)
    print(f"{THREADS} threads; microseconds of fgrad, its GB/s, and the time of each peer over fgrad's\n")
    for section in SECTIONS:
        for row in section():
            if options.only not in row.name:
                continue
            calls = _calls(row)
            results = {name: _arrays(call()) for name, call in calls.items()}
            for name, values in results.items():
                for ours, value in zip(results["fgrad"], values, strict=True):
                    scale = row.tolerance * max(1.0, float(np.abs(ours).max(initial=0)))
                    np.testing.assert_allclose(
                        ours, value, rtol=row.tolerance, atol=scale, err_msg=f"{row.name} {name}"
                    )
            timings = interleaved(calls, budget=options.budget, seconds=options.seconds, settle=options.seconds / 4)
            mine = timings["fgrad"].median
            moved = sum(x.nbytes for x in (*row.args, *results["fgrad"]))
            peers = "  ".join(f"{name} {t.median / mine:6.2f}" for name, t in timings.items() if name != "fgrad")
            print(f"{row.name:46} {mine * 1e6:10.1f} us {moved / mine / 1e9:7.1f} GB/s   {peers}", flush=True)


if __name__ == "__main__":
    main()
