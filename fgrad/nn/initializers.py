"""Initial values of parameters: each function here returns ``init(key, shape, dtype=float32) -> Array``.

The variance-scaling family draws weights of variance scale / fan.  For a shape [*receptive field, in, out] the fan in
is in * (size of the field) and the fan out out * (size of the field): dense layers [in, out] and convolutions
[H, W, in, out] both fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from fgrad import numpy as fnp
from fgrad import random
from fgrad.core import dtypes
from fgrad.core.array import Array
from fgrad.core.static import choice, real_number
from fgrad.lax.common import canonical_axes, canonical_shape

Initializer = Callable[..., Array]
Axes = int | Sequence[int]

# The standard deviation of the standard normal distribution cut off at -2 and 2.
_TRUNCATED_STD = 0.87962566103423978


def zeros(key: Any, shape: Any, dtype: Any = None) -> Array:
    """Zeros (an initializer itself; the key is not used)."""
    return fnp.zeros(shape, dtype)


def ones(key: Any, shape: Any, dtype: Any = None) -> Array:
    """Ones (an initializer itself; the key is not used)."""
    return fnp.ones(shape, dtype)


def constant(value: Any, dtype: Any = None) -> Initializer:
    """``value`` everywhere."""
    default = dtype

    def init(key: Any, shape: Any, dtype: Any = None) -> Array:
        return fnp.full(shape, value, _dtype(dtype, default))

    return init


def _dtype(dtype: Any, default: Any) -> Any:
    return dtypes.canonical(next((d for d in (dtype, default) if d is not None), float))


def uniform(scale: float = 1e-2, dtype: Any = None) -> Initializer:
    """Uniform in [0, scale)."""
    default = dtype

    def init(key: Any, shape: Any, dtype: Any = None) -> Array:
        return fnp.multiply(random.uniform(key, shape, _dtype(dtype, default)), scale)

    return init


def normal(stddev: float = 1e-2, dtype: Any = None) -> Initializer:
    """Normal with mean 0 and the standard deviation given."""
    default = dtype

    def init(key: Any, shape: Any, dtype: Any = None) -> Array:
        return fnp.multiply(random.normal(key, shape, _dtype(dtype, default)), stddev)

    return init


def truncated_normal(stddev: float = 1e-2, dtype: Any = None, lower: float = -2.0, upper: float = 2.0) -> Initializer:
    """stddev times the standard normal distribution within (lower, upper)."""
    default = dtype

    def init(key: Any, shape: Any, dtype: Any = None) -> Array:
        return fnp.multiply(random.truncated_normal(key, lower, upper, shape, _dtype(dtype, default)), stddev)

    return init


def _fans(shape: tuple[int, ...], in_axis: Axes, out_axis: Axes, batch_axis: Axes) -> tuple[float, float]:
    if len(shape) < 2:
        raise ValueError(
            f"variance_scaling: needs a shape with an input and an output axis, got {shape}. "
            "Use zeros, or normal(stddev), for vectors."
        )
    size = {
        what: math.prod(shape[a] for a in canonical_axes("variance_scaling", axes, len(shape)))
        for what, axes in (("in", in_axis), ("out", out_axis), ("batch", batch_axis))
    }
    field = math.prod(shape) / max(size["in"] * size["out"] * size["batch"], 1)
    return size["in"] * field, size["out"] * field


def variance_scaling(
    scale: float,
    mode: str,
    distribution: str,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = None,
) -> Initializer:
    """Mean 0 and variance scale / n, n the fan in, the fan out or their mean.

    ``mode``: 'fan_in', 'fan_out' or 'fan_avg'; ``distribution``: 'truncated_normal' (cut off at two standard
    deviations), 'normal' or 'uniform'.

    >>> import fgrad
    >>> init = fgrad.nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
    >>> w = init(fgrad.random.key(0), (3, 3, 16, 32))
    >>> round(float(w.var()) * 3 * 3 * 16, 1)
    2.0
    """
    choice("variance_scaling", "mode", mode, ("fan_in", "fan_out", "fan_avg"))
    choice("variance_scaling", "distribution", distribution, ("truncated_normal", "normal", "uniform"))
    if not real_number("variance_scaling", "scale", scale) >= 0:
        raise ValueError(f"variance_scaling: scale must not be negative, got {scale}. Use 1.0.")
    default = dtype

    def init(key: Any, shape: Any, dtype: Any = None) -> Array:
        sizes = canonical_shape("variance_scaling", shape)
        target = _dtype(dtype, default)
        fan_in, fan_out = _fans(sizes, in_axis, out_axis, batch_axis)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
        std = math.sqrt(scale / max(n, 1e-30))
        if distribution == "normal":
            return fnp.multiply(random.normal(key, sizes, target), std)
        if distribution == "uniform":
            return fnp.multiply(random.uniform(key, sizes, target, -1.0), math.sqrt(3) * std)
        return fnp.multiply(random.truncated_normal(key, -2.0, 2.0, sizes, target), (std / _TRUNCATED_STD))

    return init


def glorot_uniform(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """variance_scaling(1, 'fan_avg', 'uniform').  https://proceedings.mlr.press/v9/glorot10a.html"""
    return variance_scaling(1.0, "fan_avg", "uniform", in_axis, out_axis, batch_axis, dtype)


def glorot_normal(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """variance_scaling(1, 'fan_avg', 'truncated_normal').  https://proceedings.mlr.press/v9/glorot10a.html"""
    return variance_scaling(1.0, "fan_avg", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


def he_uniform(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """variance_scaling(2, 'fan_in', 'uniform'), for layers before a relu.  https://arxiv.org/abs/1502.01852"""
    return variance_scaling(2.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def he_normal(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """variance_scaling(2, 'fan_in', 'truncated_normal'), for layers before a relu.  https://arxiv.org/abs/1502.01852"""
    return variance_scaling(2.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


def lecun_uniform(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """variance_scaling(1, 'fan_in', 'uniform').  Y. LeCun et al., *Efficient BackProp*, 1998."""
    return variance_scaling(1.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def lecun_normal(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """variance_scaling(1, 'fan_in', 'truncated_normal').  Y. LeCun et al., *Efficient BackProp*, 1998."""
    return variance_scaling(1.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


xavier_uniform, xavier_normal = glorot_uniform, glorot_normal
kaiming_uniform, kaiming_normal = he_uniform, he_normal
