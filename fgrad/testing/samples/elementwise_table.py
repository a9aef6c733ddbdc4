"""Every element-wise function of fgrad.lax: where it is defined, on which dtypes, and how to call it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from fgrad import lax
from fgrad.core.array import lift
from fgrad.core.primitive import REGISTRY, Primitive

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = tuple(np.dtype(d) for d in ("float16", BFLOAT16, "float32", "float64"))
INTEGERS = tuple(np.dtype(d) for d in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"))
BOOL = (np.dtype(bool),)
DTYPES = {"f": FLOATS, "i": INTEGERS, "b": BOOL}


# Domains: smooth maps of any real number into where a function is defined, away from where its values explode.
def real(x):
    """All real numbers."""
    return x


def positive(x):
    """x > 0."""
    return lax.exp(lax.mul(x, 0.5))


def unit(x):
    """-0.9 < x < 0.9."""
    return lax.mul(lax.tanh(x), 0.9)


def probability(x):
    """0.05 < x < 0.95."""
    return lax.add(lax.mul(lax.tanh(x), 0.45), 0.5)


def above_one(x):
    """x > 1.1."""
    return lax.add(lax.square(x), 1.1)


class Row(NamedTuple):
    """A function: the domains of its operands, the dtypes it takes, and the primitive it is made of."""

    name: str
    domains: tuple[Callable, ...]
    kinds: str  # of operand dtypes: f(loat), i(nteger), b(ool)
    make: Callable[[Any], Callable]  # fgrad.lax or jax.lax -> the function of ``len(domains)`` arrays
    primitive: str
    params: dict[str, Any]
    derivative: bool  # whether it can be compared with differences
    scipy: bool

    @property
    def function(self) -> Callable:
        return self.make(lax)

    @property
    def prim(self) -> Primitive:
        return REGISTRY[self.primitive]

    @property
    def dtypes(self) -> list[np.dtype]:
        return [d for kind in self.kinds for d in DTYPES[kind]]

    def draw(self, shape, dtype=np.float64, seed=0) -> list[np.ndarray]:
        """Random operands inside the domains."""
        rng = np.random.default_rng(seed)
        dtype = np.dtype(dtype)
        if dtype.kind == "b":
            return [rng.random(shape) < 0.5 for _ in self.domains]
        if dtype.kind in "iu":
            return [rng.integers(-9 * (dtype.kind == "i"), 10, shape).astype(dtype) for _ in self.domains]
        return [np.asarray(d(lift(rng.standard_normal(shape)))).astype(dtype) for d in self.domains]


def _row(name, *domains, kinds="f", make=None, primitive=None, derivative=True, scipy=False, **params) -> Row:
    call = make or (lambda module: getattr(module, name))
    return Row(name, domains, kinds, call, primitive or name, params, derivative, scipy)


def _bits(name, *domains, kinds="ib", primitive=None) -> Row:
    return _row(name, *domains, kinds=kinds, primitive=primitive, derivative=False)


AWAY, EVEN = lax.RoundingMethod
SMALL = {"exponent_bits": 4, "mantissa_bits": 5}

ROWS = [
    _row("neg", real, kinds="fi"),
    _row("add", real, real, kinds="fi"),
    _row("sub", real, real, kinds="fi"),
    _row("mul", real, real, kinds="fi"),
    _row("div", real, positive, kinds="fi"),
    _row("rem", real, positive, kinds="fi"),
    _row("max", real, real, kinds="fib"),
    _row("min", real, real, kinds="fib"),
    _row("abs", real, kinds="fi"),
    _row("sign", real, kinds="fi"),
    _row("square", real, kinds="fi"),
    _row("reciprocal", positive, primitive="integer_pow", y=-1),
    _row("integer_pow", real, kinds="fi", make=lambda m: lambda x: m.integer_pow(x, 5), y=5),
    _row("integer_pow", real, kinds="fi", make=lambda m: lambda x: m.integer_pow(x, 0), y=0),
    _row("integer_pow", positive, make=lambda m: lambda x: m.integer_pow(x, -3), y=-3),
    _row("pow", positive, real),
    _row("sqrt", positive),
    _row("rsqrt", positive),
    _row("cbrt", positive),
    _row("exp", real),
    _row("exp2", real),
    _row("expm1", real),
    _row("log", positive),
    _row("log1p", positive),
    _row("sin", real),
    _row("cos", real),
    _row("tan", unit),
    _row("asin", unit),
    _row("acos", unit),
    _row("atan", real),
    _row("atan2", real, positive),
    _row("sinh", real),
    _row("cosh", real),
    _row("tanh", real),
    _row("asinh", real),
    _row("acosh", above_one),
    _row("atanh", unit),
    _row("logistic", real),
    *(_row(name, real, real, kinds="fib", derivative=False) for name in ("eq", "ne", "lt", "le", "gt", "ge")),
    _row("is_finite", real, derivative=False),
    _row("clamp", unit, real, positive, kinds="fi"),
    _row("floor", real),
    _row("ceil", real),
    _row("round", real, make=lambda m: lambda x: m.round(x), rounding_method=AWAY),
    _row("round", real, make=lambda m: lambda x: m.round(x, m.RoundingMethod.TO_NEAREST_EVEN), rounding_method=EVEN),
    _row("nextafter", real, real, derivative=False),
    _row("reduce_precision", real, make=lambda m: lambda x: m.reduce_precision(x, **SMALL), derivative=False, **SMALL),
    _bits("bitwise_and", real, real, primitive="and"),
    _bits("bitwise_or", real, real, primitive="or"),
    _bits("bitwise_xor", real, real, primitive="xor"),
    _bits("bitwise_not", real, primitive="not"),
    _bits("shift_left", real, real, kinds="i"),
    _bits("shift_right_arithmetic", real, real, kinds="i"),
    _bits("shift_right_logical", real, real, kinds="i"),
    _bits("population_count", real, kinds="i"),
    _bits("clz", real, kinds="i"),
    _row("erf", real),
    _row("erfc", real),
    _row("erf_inv", unit),
    _row("lgamma", positive, scipy=True),  # for its derivative
    _row("digamma", positive, scipy=True),
    _row("polygamma", positive, make=lambda m: lambda x: m.polygamma(m.full_like(x, 2), x), scipy=True),
    _row("zeta", positive, make=lambda m: lambda q: m.zeta(m.full_like(q, 2.5), q), scipy=True),
    _row("igamma", positive, make=lambda m: lambda x: m.igamma(m.full_like(x, 1.5), x), scipy=True),
    _row("igammac", positive, make=lambda m: lambda x: m.igammac(m.full_like(x, 1.5), x), scipy=True),
    _row("igamma_grad_a", positive, positive, derivative=False, scipy=True),
    _row("random_gamma_grad", positive, positive, derivative=False, scipy=True),
    _row(
        "betainc", probability, scipy=True, primitive="regularized_incomplete_beta",
        make=lambda m: lambda x: m.betainc(m.full_like(x, 1.5), m.full_like(x, 2), x),
    ),
    _row("bessel_i0e", real, scipy=True),
    _row("bessel_i1e", real, scipy=True),
]  # fmt: skip


def label(value: Any) -> str:
    """A row's name in the ids of tests."""
    if isinstance(value, Row):
        params = ",".join(str(getattr(v, "name", v)) for v in value.params.values())
        return f"{value.name}[{params}]" if params else value.name
    return str(value)
