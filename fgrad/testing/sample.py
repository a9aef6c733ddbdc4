"""What a sample is: operands and parameters a primitive accepts, and what may be asked of it there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from fgrad.core.array import aval_of
from fgrad.core.jaxpr import ClosedJaxpr
from fgrad.transforms.stage import stage

Slope = Literal["smooth", "tie", "kink", "rounds", "zero"]
NeedsSciPy = Literal["", "derivative", "value"]


class Sample(NamedTuple):
    """One call of a primitive.

    Args:
        operands: NumPy arrays; floats in float64 unless the dtype is the point of the sample.
        params: its static parameters.
        kinds: which dtypes the operands may take instead: f(loat), i(nteger), b(ool); none if parameters fix them.
        exact: the reference, eager evaluation and the compiled program agree to the last bit.
        slope: 'smooth': differences converge to the tangent; 'tie': central ones do, and the second derivative jumps
            (two equal elements share what either has); 'kink': they do not (ties of more, infinities), but the tangent
            is a linear map in both directions; 'rounds': it is a rounding, linear only nearly; 'zero': none, by
            definition.
        refused: floating operands in which there is no derivative: MissingBackendError says so.
        once: floating operands in which there is a first derivative and no second.
        linear: groups of operands in which the primitive is linear together, the others being fixed; the default is
            what its jvp slot declares, ``Linear`` or ``Bilinear``.
        reverse_only: it has derivatives in reverse mode, and refuses forward mode.
        forward_only: it has derivatives in forward mode, and refuses reverse mode.
        scipy: what needs SciPy: nothing, its derivative, or its value.
    """

    operands: tuple[np.ndarray, ...]
    params: dict[str, Any] = {}  # noqa: RUF012
    kinds: str = ""
    exact: bool = False
    slope: Slope = "smooth"
    refused: tuple[int, ...] = ()
    once: tuple[int, ...] = ()
    linear: tuple[tuple[int, ...], ...] | None = None
    reverse_only: bool = False
    forward_only: bool = False
    scipy: NeedsSciPy = ""

    def cast(self, dtype: Any) -> tuple[np.ndarray, ...]:
        """The operands in another dtype; indices and conditions beside floating operands stay as they are."""
        floating = any(x.dtype == np.float64 for x in self.operands)
        return tuple(
            [recast(x, np.dtype(dtype)) if x.dtype == np.float64 or not floating else x for x in self.operands]
        )


def recast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Floats x as the integers next to 3 x (|3 x| unsigned), or as x > 0."""
    if dtype.kind == "b":
        return np.asarray(x > 0)
    if x.dtype.kind == "f" and dtype.kind in "iu":
        x = np.rint(3 * x)
    return np.asarray(np.abs(x) if dtype.kind == "u" else x).astype(dtype)


def staged(fun: Callable[..., Any], *operands: np.ndarray) -> ClosedJaxpr:
    """The jaxpr of a function of such operands, as the primitives that hold one take it."""
    return stage(fun, [aval_of(x) for x in operands])


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal numbers, the same ones each time."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)
