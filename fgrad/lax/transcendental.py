"""Exponentials, logarithms, circular and hyperbolic functions, element by element."""

from __future__ import annotations

from fgrad.core.array import Array
from fgrad.lax.common import ArrayLike, documented, nary, unary
from fgrad.primitives.transcendental import (
    acos_p,
    acosh_p,
    asin_p,
    asinh_p,
    atan2_p,
    atan_p,
    atanh_p,
    cos_p,
    cosh_p,
    exp2_p,
    exp_p,
    expm1_p,
    log1p_p,
    log_p,
    logistic_p,
    sin_p,
    sinh_p,
    tan_p,
    tanh_p,
)


@documented("inexact")
def exp(x: ArrayLike) -> Array:
    """e^x.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.exp(np.float64([0, 1]))
    Array([1.        , 2.71828183], dtype=float64)
    """
    return unary(exp_p, x)


@documented("float")
def exp2(x: ArrayLike) -> Array:
    """2^x.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.exp2(np.float64([3, 0.5]))
    Array([8.        , 1.41421356], dtype=float64)
    """
    return unary(exp2_p, x)


@documented("inexact")
def expm1(x: ArrayLike) -> Array:
    """e^x - 1, accurate for small x.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.expm1(np.float64([1e-6, 1]))
    Array([1.00000050e-06, 1.71828183e+00], dtype=float64)
    """
    return unary(expm1_p, x)


@documented("inexact")
def log(x: ArrayLike) -> Array:
    """The natural logarithm; -inf at 0, NaN below.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.log(np.float64([1, 10]))
    Array([0.        , 2.30258509], dtype=float64)
    """
    return unary(log_p, x)


@documented("inexact")
def log1p(x: ArrayLike) -> Array:
    """log(1 + x), accurate for small x.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.log1p(np.float64([1e-6, 1]))
    Array([9.99999500e-07, 6.93147181e-01], dtype=float64)
    """
    return unary(log1p_p, x)


@documented("inexact")
def sin(x: ArrayLike) -> Array:
    """The sine; x in radians.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.sin(np.float64([0, 1]))
    Array([0.        , 0.84147098], dtype=float64)
    """
    return unary(sin_p, x)


@documented("inexact")
def cos(x: ArrayLike) -> Array:
    """The cosine; x in radians.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.cos(np.float64([0, 1]))
    Array([1.        , 0.54030231], dtype=float64)
    """
    return unary(cos_p, x)


@documented("inexact")
def tan(x: ArrayLike) -> Array:
    """The tangent; x in radians.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.tan(np.float64([0, 1]))
    Array([0.        , 1.55740772], dtype=float64)
    """
    return unary(tan_p, x)


@documented("inexact")
def asin(x: ArrayLike) -> Array:
    """The inverse sine, in [-pi/2, pi/2]; NaN where |x| > 1.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.asin(np.float64([0.5, 1]))
    Array([0.52359878, 1.57079633], dtype=float64)
    """
    return unary(asin_p, x)


@documented("inexact")
def acos(x: ArrayLike) -> Array:
    """The inverse cosine, in [0, pi]; NaN where |x| > 1.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.acos(np.float64([0.5, 1]))
    Array([1.04719755, 0.        ], dtype=float64)
    """
    return unary(acos_p, x)


@documented("inexact")
def atan(x: ArrayLike) -> Array:
    """The inverse tangent, in [-pi/2, pi/2].

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.atan(np.float64([1, -1]))
    Array([ 0.78539816, -0.78539816], dtype=float64)
    """
    return unary(atan_p, x)


@documented("float")
def atan2(x: ArrayLike, y: ArrayLike) -> Array:
    """The angle of the point (y, x), in [-pi, pi]: atan(x / y) with the quadrant of both signs.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.atan2(np.float64([1, -1]), np.float64([1, -1]))
    Array([ 0.78539816, -2.35619449], dtype=float64)
    """
    return nary(atan2_p, x, y)


@documented("inexact")
def sinh(x: ArrayLike) -> Array:
    """(e^x - e^-x) / 2.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.sinh(np.float64([0, 1]))
    Array([0.        , 1.17520119], dtype=float64)
    """
    return unary(sinh_p, x)


@documented("inexact")
def cosh(x: ArrayLike) -> Array:
    """(e^x + e^-x) / 2.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.cosh(np.float64([0, 1]))
    Array([1.        , 1.54308063], dtype=float64)
    """
    return unary(cosh_p, x)


@documented("inexact")
def tanh(x: ArrayLike) -> Array:
    """(e^x - e^-x) / (e^x + e^-x), in [-1, 1].

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.tanh(np.float64([0, 1]))
    Array([0.        , 0.76159416], dtype=float64)
    """
    return unary(tanh_p, x)


@documented("inexact")
def asinh(x: ArrayLike) -> Array:
    """The inverse of sinh: log(x + sqrt(x^2 + 1)).

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.asinh(np.float64([0, 1]))
    Array([0.        , 0.88137359], dtype=float64)
    """
    return unary(asinh_p, x)


@documented("inexact")
def acosh(x: ArrayLike) -> Array:
    """The inverse of cosh: log(x + sqrt(x^2 - 1)); NaN for x < 1.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.acosh(np.float64([1, 2]))
    Array([0.       , 1.3169579], dtype=float64)
    """
    return unary(acosh_p, x)


@documented("inexact")
def atanh(x: ArrayLike) -> Array:
    """The inverse of tanh: log((1 + x) / (1 - x)) / 2; NaN where |x| > 1.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.atanh(np.float64([0, 0.5]))
    Array([0.        , 0.54930614], dtype=float64)
    """
    return unary(atanh_p, x)


@documented("inexact")
def logistic(x: ArrayLike) -> Array:
    """1 / (1 + e^-x), the sigmoid; neither side overflows.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.logistic(np.float64([0, -100, 100]))
    Array([5.00000000e-01, 3.72007598e-44, 1.00000000e+00], dtype=float64)
    """
    return unary(logistic_p, x)
