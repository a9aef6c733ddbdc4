"""Special functions, element by element; those beyond erf and lgamma need SciPy."""

from __future__ import annotations

from fgrad.core.array import Array
from fgrad.lax.common import ArrayLike, documented, nary, unary
from fgrad.primitives.special import (
    bessel_i0e_p,
    bessel_i1e_p,
    betainc_p,
    digamma_p,
    erf_inv_p,
    erf_p,
    erfc_p,
    igamma_grad_a_p,
    igamma_p,
    igammac_p,
    lgamma_p,
    polygamma_p,
    random_gamma_grad_p,
    zeta_p,
)


@documented("float")
def erf(x: ArrayLike) -> Array:
    """The error function: 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.erf(np.float64([0, 1]))
    Array([0.        , 0.84270079], dtype=float64)
    """
    return unary(erf_p, x)


@documented("float")
def erfc(x: ArrayLike) -> Array:
    """1 - erf(x), accurate for large x.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.erfc(np.float64([0, 10]))
    Array([1.00000000e+00, 2.08848758e-45], dtype=float64)
    """
    return unary(erfc_p, x)


@documented("float")
def erf_inv(x: ArrayLike) -> Array:
    """The inverse of erf on [-1, 1]; infinite at the ends, NaN beyond.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.erf_inv(np.float64([0, 0.5, 1]))
    Array([0.        , 0.47693628,        inf], dtype=float64)
    """
    return unary(erf_inv_p, x)


@documented("float")
def lgamma(x: ArrayLike) -> Array:
    """log |gamma(x)|; infinite at 0, -1, -2, ...

    Its gradient is ``digamma``, which needs SciPy.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.lgamma(np.float64([0.5, 10]))
    Array([ 0.57236494, 12.80182748], dtype=float64)
    """
    return unary(lgamma_p, x)


@documented("float")
def digamma(x: ArrayLike) -> Array:
    """The derivative of log gamma(x).

    Needs SciPy: ``pip install 'fgrad[scipy]'``; runs on the host.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.digamma(np.float64([1, 10]))
    Array([-0.57721566,  2.25175259], dtype=float64)
    """
    return unary(digamma_p, x)


@documented("float")
def polygamma(m: ArrayLike, x: ArrayLike) -> Array:
    """The m-th derivative of digamma at x; m holds whole numbers >= 0 in the dtype of x.

    Not differentiable in m.

    Needs SciPy: ``pip install 'fgrad[scipy]'``; runs on the host.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.polygamma(1.0, np.float64([1, 10]))
    Array([1.64493407, 0.10516634], dtype=float64)
    """
    return nary(polygamma_p, m, x)


@documented("float")
def zeta(x: ArrayLike, q: ArrayLike) -> Array:
    """The Hurwitz zeta function, the sum of (q + n)^-x over n = 0, 1, 2, ...

    Not differentiable in x.

    Needs SciPy: ``pip install 'fgrad[scipy]'``; runs on the host.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.zeta(2.0, np.float64([1, 10]))
    Array([1.64493407, 0.10516634], dtype=float64)
    """
    return nary(zeta_p, x, q)


@documented("float")
def igamma(a: ArrayLike, x: ArrayLike) -> Array:
    """The regularized lower incomplete gamma function: the integral of t^(a-1) e^-t / gamma(a) from 0 to x.

    Its derivative in a is ``igamma_grad_a``, which has none itself.

    Needs SciPy: ``pip install 'fgrad[scipy]'``; runs on the host.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.igamma(np.float64([1, 2]), 1.0)
    Array([0.63212056, 0.26424112], dtype=float64)
    """
    return nary(igamma_p, a, x)


@documented("float")
def igammac(a: ArrayLike, x: ArrayLike) -> Array:
    """1 - igamma(a, x), accurate for large x.

    Its derivative in a is minus ``igamma_grad_a``, which has none itself.

    Needs SciPy: ``pip install 'fgrad[scipy]'``; runs on the host.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.igammac(np.float64([1, 2]), 1.0)
    Array([0.36787944, 0.73575888], dtype=float64)
    """
    return nary(igammac_p, a, x)


@documented("float")
def igamma_grad_a(a: ArrayLike, x: ArrayLike) -> Array:
    """The derivative of igamma(a, x) in a, in float64 good to about 13 digits for every finite a > 0 and x > 0.

    It is 0 at x = 0, and NaN for a <= 0, for x < 0 and where an operand is infinite. Not differentiable.

    Computed by Moore's algorithm AS 187 (Applied Statistics 31, 1982): the series of igamma for x <= a + 1 and the
    continued fraction of igammac otherwise, differentiated term by term; for a >= 1000 by quadrature. 16-bit floats
    and float32 are computed in float64 and rounded.

    Needs SciPy: ``pip install 'fgrad[scipy]'``; runs on the host.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.igamma_grad_a(np.float64([1, 2]), 1.0)
    Array([-0.43172971, -0.27619605], dtype=float64)
    """
    return nary(igamma_grad_a_p, a, x)


@documented("float")
def random_gamma_grad(a: ArrayLike, x: ArrayLike) -> Array:
    """The derivative in a of a sample x of the Gamma(a, 1) distribution, at a fixed quantile igamma(a, x):

    -igamma_grad_a(a, x) gamma(a) e^x / x^(a-1), by implicit differentiation. It stays finite where both factors
    underflow; edges, accuracy and methods are those of ``igamma_grad_a``. Not differentiable.

    M. Figurnov, S. Mohamed, A. Mnih, "Implicit reparameterization gradients", 2018, https://arxiv.org/abs/1805.08498

    Needs SciPy: ``pip install 'fgrad[scipy]'``; runs on the host.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.random_gamma_grad(np.float64([1, 2]), 1.0)
    Array([1.17356303, 0.75077869], dtype=float64)
    """
    return nary(random_gamma_grad_p, a, x)


@documented("float")
def betainc(a: ArrayLike, b: ArrayLike, x: ArrayLike) -> Array:
    """The regularized incomplete beta function: the integral of t^(a-1) (1-t)^(b-1) / B(a, b) from 0 to x.

    Not differentiable in a and b.

    Needs SciPy: ``pip install 'fgrad[scipy]'``; runs on the host.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.betainc(2.0, 3.0, np.float64([0.25, 0.5]))
    Array([0.26171875, 0.6875    ], dtype=float64)
    """
    return nary(betainc_p, a, b, x)


@documented("float")
def bessel_i0e(x: ArrayLike) -> Array:
    """e^-|x| I0(x), the scaled modified Bessel function of order 0.

    Needs SciPy: ``pip install 'fgrad[scipy]'``; runs on the host.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.bessel_i0e(np.float64([0, 1]))
    Array([1.        , 0.46575961], dtype=float64)
    """
    return unary(bessel_i0e_p, x)


@documented("float")
def bessel_i1e(x: ArrayLike) -> Array:
    """e^-|x| I1(x), the scaled modified Bessel function of order 1.

    Needs SciPy: ``pip install 'fgrad[scipy]'``; runs on the host.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> lax.bessel_i1e(np.float64([0, 1]))
    Array([0.        , 0.20791042], dtype=float64)
    """
    return unary(bessel_i1e_p, x)
