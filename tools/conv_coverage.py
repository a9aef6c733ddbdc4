"""Which branches of convolution's rules, reference and lowering its strategies reach.

    python tools/conv_coverage.py [scale]

Draws problems from ``conv_problems`` and ``conv_transpose_problems``, with the same random choices every time, and runs
each through the reference, eagerly, compiled, differentiated once and twice, and batched over either operand and both.
Prints coverage's report of branches and exits with 1 if one was missed.  ``scale`` multiplies the numbers of examples.

Not counted are lines that raise, which other tests are about; dot_general, which shares a file; and the bodies of
Numba's kernels, which run as machine code, out of coverage's sight.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import coverage

ROOT = Path(__file__).resolve().parent.parent
FILES = (
    "fgrad/lax/convolution.py",
    "fgrad/primitives/conv.py",
    "fgrad/kernels/reference/contraction.py",
    "fgrad/kernels/cpu/conv*.py",
    "fgrad/kernels/cpu/gemm_plan.py",
    "fgrad/kernels/cpu/gemm_tiles.py",
    "fgrad/kernels/cpu/gemm_words.py",
)
EXCLUDED = (r"^\s*raise ", r"^\s*def kernel\(args", r"^def dot_general\(")


def configurations() -> Iterator[tuple[int, Any, dict[str, Any]]]:
    """(examples, strategy, the host that plans are made for) of each round."""
    from fgrad.testing import strategies as of

    every = of.dtypes("fi")
    narrow = {"bits": 128, "registers": 16, "masks": False}
    yield 400, of.conv_problems(dtypes=every), {}
    yield 150, of.conv_problems(dtypes=every), narrow
    yield 100, of.conv_transpose_problems(), {}
    # Work enough to be packed and split: long reductions over few rows, many rows, many features.
    wide = {"max_side": 40, "max_batch": 8, "max_features": 64, "max_macs": 1 << 22, "degenerate": False}
    yield 100, of.conv_problems(spatial_dims=(1, 2), max_window=5, **wide), {}
    yield 50, of.conv_problems(spatial_dims=1, max_window=40, **wide), {}
    # Layers as users have them, without a border: weight gradients with taps as lanes, depthwise ones along lines.
    layers = {"orders": "channels last", "batch_groups": False, "lhs_dilation": False, "preferred": False}
    yield 100, of.conv_problems(spatial_dims=(1, 2), max_window=5, paddings=("VALID",), **layers, **wide), {}
    alone = {**layers, **wide, "max_features": 1}
    yield 60, of.conv_problems(spatial_dims=1, max_window=5, paddings=("VALID",), **alone), {}
    # So many pairs of tap and pixel that their table is avoided.
    yield 15, of.conv_problems(spatial_dims=1, max_side=4000, max_window=2500, max_macs=1 << 24, groups=False), {}


def run(problem: Any) -> None:
    """The values and derivatives of a problem, in every way they are computed."""
    import numpy as np

    import fgrad
    from fgrad.core import dtypes
    from fgrad.testing import check_backends

    f, (x, w) = problem.f, problem.operands
    with np.errstate(all="ignore"):
        out = f(x, w)
        check_backends(f, (x, w))
        for dims in ((0, None), (None, 0), (0, 0)):
            args = [a if d is None else np.stack([a, a]) for a, d in zip((x, w), dims)]
            fgrad.vmap(f, in_axes=dims)(*args)
        fgrad.vmap(f, in_axes=(0, None))(np.zeros((0, *x.shape), x.dtype), w)
        if not dtypes.is_inexact(x.dtype):
            return

        def bars(x: Any, w: Any) -> Any:
            return fgrad.vjp(f, x, w)[1](np.ones(out.shape, out.dtype))

        fgrad.jit(bars)(x, w)
        second = fgrad.vjp(bars, x, w)[1]
        second((x, w))


def shorthands(problem: Any) -> None:
    """The functions of lax that are shorthands of conv_general_dilated, where they say the same."""
    from fgrad import lax

    (x, w), options = problem.operands, problem.options
    strides, padding = options["window_strides"], options["padding"]
    if set(options) <= {"window_strides", "padding"}:
        lax.conv(x, w, strides, padding)
        lax.conv_general_shape_tuple(x.shape, w.shape, strides, padding, None)
    if set(options) <= {"window_strides", "padding", "lhs_dilation", "rhs_dilation"}:
        lax.conv_with_general_padding(x, w, strides, padding, options.get("lhs_dilation"), options.get("rhs_dilation"))


def measure(scale: float = 1.0) -> coverage.Coverage:
    """The coverage of all rounds; fgrad must not have been imported before, for its definitions count as well."""
    found = coverage.Coverage(branch=True, data_file=None, include=[str(ROOT / name) for name in FILES])
    for line in EXCLUDED:
        found.exclude(line)
    found.start()
    try:
        from hypothesis import HealthCheck, Phase, given, settings

        from fgrad import lax
        from fgrad.kernels.cpu import gemm_tiles

        def each(problem: Any) -> None:
            run(problem)
            if problem.function is lax.conv_general_dilated:
                shorthands(problem)

        for examples, strategy, host in configurations():
            limits = settings(
                max_examples=max(1, int(examples * scale)), derandomize=True, database=None, deadline=None,
                phases=[Phase.generate], suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            machine = gemm_tiles._detect()._replace(**host)
            with mock.patch.object(gemm_tiles, "_detect", lambda machine=machine: machine):
                limits(given(strategy)(each))()
    finally:
        found.stop()
    return found


def main() -> int:
    """Prints the report; 0 if all is reached."""
    found = measure(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
    percent = found.report(show_missing=True, file=sys.stdout)
    return 0 if percent == 100 else 1


if __name__ == "__main__":
    sys.exit(main())
