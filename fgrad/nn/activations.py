"""Activation functions, element by element; integers become floats first."""

from __future__ import annotations

import math
from typing import Any

from fgrad import lax
from fgrad.core.array import Array
from fgrad.core.static import flag
from fgrad.lax.common import canonical_axis
from fgrad.numpy import joining, ufuncs
from fgrad.numpy.promotion import promote_dtypes_inexact
from fgrad.primitives.broadcast import full_like


def _float(name: str, x: Any) -> Array:
    return promote_dtypes_inexact(name, x)[0]


def relu(x: Any) -> Array:
    """max(x, 0), with derivative 0 at 0; NaN stays NaN.

    >>> import fgrad
    >>> fgrad.grad(fgrad.nn.relu)(0.0).item()
    0.0
    """
    x = _float("relu", x)
    zero = full_like(x, 0)
    return lax.select(lax.le(x, zero), zero, x)


def relu6(x: Any) -> Array:
    """min(max(x, 0), 6), with derivative 0 at both ends.

    A. Krizhevsky, *Convolutional deep belief networks on CIFAR-10*, 2010.
    """
    x = relu(x)
    six = full_like(x, 6)
    return lax.select(lax.ge(x, six), six, x)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Array:
    """x for x >= 0, negative_slope x below."""
    x = _float("leaky_relu", x)
    return lax.select(lax.ge(x, full_like(x, 0)), x, lax.mul(x, full_like(x, negative_slope)))


def _negative_exponential(x: Array) -> tuple[Array, Array]:
    """(x > 0, exp(min(x, 0)) - 1): the large x that would overflow are cut off before the exponential."""
    zero = full_like(x, 0)
    positive = lax.gt(x, zero)
    return positive, lax.expm1(lax.select(positive, zero, x))


def elu(x: Any, alpha: float = 1.0) -> Array:
    """x for x > 0, alpha (exp(x) - 1) below.  https://arxiv.org/abs/1511.07289"""
    x = _float("elu", x)
    positive, low = _negative_exponential(x)
    return lax.select(positive, x, lax.mul(low, full_like(x, alpha)))


def celu(x: Any, alpha: float = 1.0) -> Array:
    """x for x > 0, alpha (exp(x / alpha) - 1) below.  https://arxiv.org/abs/1704.07483"""
    x = _float("celu", x)
    positive, low = _negative_exponential(lax.div(x, full_like(x, alpha)))
    return lax.select(positive, x, lax.mul(low, full_like(x, alpha)))


def selu(x: Any) -> Array:
    """scale elu(x, alpha), the constants making mean 0 and variance 1 a fixed point.  https://arxiv.org/abs/1706.02515"""
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    out = elu(x, alpha)
    return lax.mul(out, full_like(out, scale))


def gelu(x: Any, approximate: bool = True) -> Array:
    """x Phi(x), Phi the normal distribution function.  https://arxiv.org/abs/1606.08415

    Approximate: x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))); exact: x / 2 erfc(-x / sqrt(2)).

    >>> import fgrad
    >>> round(fgrad.nn.gelu(1.0).item(), 4), round(fgrad.nn.gelu(1.0, approximate=False).item(), 4)
    (0.8412, 0.8413)
    """
    x = _float("gelu", x)
    if not flag("gelu", "approximate", approximate):
        tail = lax.erfc(lax.mul(x, full_like(x, -math.sqrt(0.5))))
        return lax.mul(lax.mul(x, full_like(x, 0.5)), tail)
    cubic = lax.mul(lax.integer_pow(x, 3), full_like(x, 0.044715))
    inner = lax.mul(lax.add(x, cubic), full_like(x, math.sqrt(2 / math.pi)))
    return lax.mul(lax.mul(x, full_like(x, 0.5)), lax.add(full_like(x, 1), lax.tanh(inner)))


def sigmoid(x: Any) -> Array:
    """1 / (1 + exp(-x))."""
    return lax.logistic(_float("sigmoid", x))


def silu(x: Any) -> Array:
    """x sigmoid(x), also called swish.  https://arxiv.org/abs/1702.03118"""
    x = _float("silu", x)
    return lax.mul(x, lax.logistic(x))


swish = silu


def tanh(x: Any) -> Array:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return lax.tanh(_float("tanh", x))


def softplus(x: Any) -> Array:
    """log(1 + exp(x)), without overflow."""
    return ufuncs.logaddexp(_float("softplus", x), 0.0)


def log_sigmoid(x: Any) -> Array:
    """log(sigmoid(x)) = -softplus(-x), without underflow."""
    return lax.neg(softplus(lax.neg(_float("log_sigmoid", x))))


def mish(x: Any) -> Array:
    """x tanh(softplus(x)).  https://arxiv.org/abs/1908.08681"""
    x = _float("mish", x)
    return lax.mul(x, lax.tanh(softplus(x)))


def soft_sign(x: Any) -> Array:
    """x / (1 + |x|)."""
    x = _float("soft_sign", x)
    return lax.div(x, lax.add(lax.abs(x), full_like(x, 1)))


def hard_tanh(x: Any) -> Array:
    """x cut off at -1 and 1, with derivative 0 outside."""
    x = _float("hard_tanh", x)
    one = full_like(x, 1)
    minus = full_like(x, -1)
    return lax.select(lax.gt(x, one), one, lax.select(lax.lt(x, minus), minus, x))


def hard_sigmoid(x: Any) -> Array:
    """relu6(x + 3) / 6."""
    x = _float("hard_sigmoid", x)
    return lax.div(relu6(lax.add(x, full_like(x, 3))), full_like(x, 6))


def hard_silu(x: Any) -> Array:
    """x hard_sigmoid(x), also called hard_swish.  https://arxiv.org/abs/1905.02244"""
    x = _float("hard_silu", x)
    return lax.mul(x, hard_sigmoid(x))


hard_swish = hard_silu


def glu(x: Any, axis: int = -1) -> Array:
    """a sigmoid(b), a and b the halves of x along ``axis``.  https://arxiv.org/abs/1612.08083"""
    x = _float("glu", x)
    axis = canonical_axis("glu", axis, x.ndim)
    if x.shape[axis] % 2:
        raise ValueError(
            f"glu: axis {axis} must divide into halves, got size {x.shape[axis]} (shape {x.shape}). Use an even size."
        )
    a, b = joining.split(x, 2, axis)
    return lax.mul(a, lax.logistic(b))
