"""Every operation of the scalar emitter against NumPy, on every dtype, edge values included."""

import math

import numpy as np
import pytest
from emitted import BFLOAT16, BOOL, DTYPES, FLOATS, INTEGERS, SIGNED, run_map

from fgrad.kernels.cpu import jit
from fgrad.kernels.cpu.irtext import Code
from fgrad.kernels.cpu.scalar import UNARY, Scalar
from fgrad.kernels.cpu.vecmath import VECTOR_FUNCTIONS

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in.*:RuntimeWarning")


def op(s, *xs, name, extra=()):
    return getattr(s, name)(*extra, *xs)


def apply(name, *arrays, out_dtype=None, extra=()):
    out = np.empty(arrays[0].shape, out_dtype or arrays[0].dtype)
    return run_map(op, *arrays, out=out, params=(("name", name), ("extra", extra)))


def edges(dtype):
    """Zeros, ones, extremes, subnormals, infinities, NaN, ties; some ordinary numbers."""
    if dtype == BOOL:
        return np.array([False, True, True, False, True])
    if dtype in INTEGERS:
        info = np.iinfo(dtype)
        near = [info.min, info.min + 1, info.max, info.max - 1, 0, 1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 65, 100]
        if dtype in SIGNED:
            near += [-1, -2, -3, -7, -100]
        return np.array(near, dtype)
    info = np.finfo(np.float32) if dtype == BFLOAT16 else np.finfo(dtype)
    wide = np.array(
        [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.0, 1 / 3, -1e-3, 100.25, 1000.0, -40000.0, np.inf, -np.inf,
         np.nan, float(info.tiny), float(info.tiny) / 4, -float(info.smallest_subnormal), float(info.max)]
    )  # fmt: skip
    with np.errstate(over="ignore"):
        return wide.astype(dtype)


def pairs(dtype):
    x = edges(dtype)
    a, b = np.meshgrid(x, x, indexing="ij")
    return a.ravel(), b.ravel()


def same(got, want, ulps=0):
    """Equal values with NaN equal to NaN; ``ulps`` of the dtype apart at most."""
    assert got.dtype == want.dtype
    if got.dtype in FLOATS:
        assert np.array_equal(np.isnan(got), np.isnan(want))
        ok = ~np.isnan(want)
        got, want = got[ok].astype(np.float64), want[ok].astype(np.float64)
        if ulps:
            finite = np.isfinite(want)
            assert np.array_equal(got[~finite], want[~finite])
            np.testing.assert_allclose(got[finite], want[finite], rtol=ulps, atol=1e-300)
            return
    np.testing.assert_array_equal(got, want)


def rounded(function, *arrays):
    """NumPy's function; of 16-bit floats in float32, rounded to the dtype once."""
    dtype = arrays[0].dtype
    if dtype in FLOATS and dtype.itemsize == 2:
        return function(*(a.astype(np.float32) for a in arrays)).astype(dtype)
    return function(*arrays)


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS, ids=str)
@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_arithmetic(name, dtype):
    a, b = pairs(dtype)
    function = {"add": np.add, "sub": np.subtract, "mul": np.multiply}[name]
    same(apply(name, a, b), rounded(function, a, b))


def test_arithmetic_of_bools():
    a, b = pairs(BOOL)
    same(apply("add", a, b), a | b)
    same(apply("mul", a, b), a & b)
    same(apply("sub", a, b), a ^ b)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integer_division_truncates_and_never_traps(dtype):
    a, b = pairs(dtype)
    low = np.iinfo(dtype).min
    want_q, want_r = [], []
    for x, y in zip(a.tolist(), b.tolist()):
        if y == 0:
            q, r = -1, x
        elif x == low and y == -1:
            q, r = low, 0
        else:
            q = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
            r = x - q * y
        want_q.append(q & (256**dtype.itemsize - 1))
        want_r.append(r)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    same(apply("div", a, b), np.array(want_q, unsigned).view(dtype))
    same(apply("rem", a, b), np.array(want_r, dtype))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_float_division(dtype):
    a, b = pairs(dtype)
    same(apply("div", a, b), rounded(np.divide, a, b))
    same(apply("rem", a, b), rounded(np.fmod, a, b))


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS, ids=str)
def test_unary(dtype):
    x = edges(dtype)
    same(apply("neg", x), -x)
    same(apply("abs", x), np.abs(x))
    sign = np.where(x == 0, x, np.sign(x)).astype(dtype)
    same(apply("sign", x), sign)
    if dtype in FLOATS:
        assert np.array_equal(np.signbit(apply("sign", x)[:2]), [False, True])
        assert np.array_equal(np.signbit(apply("neg", x)[:2]), [True, False])
    for name in ("floor", "ceil", "trunc", "rint"):
        same(apply(name, x), rounded(getattr(np, name), x) if dtype in FLOATS else x)
    same(apply("is_finite", x, out_dtype=bool), np.isfinite(x))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_float_only(dtype):
    x = edges(dtype)
    a, b = pairs(dtype)
    same(apply("sqrt", x), rounded(np.sqrt, x))
    got = apply("copysign", a, b)
    same(got, np.copysign(a, b))
    numbers = ~np.isnan(a)
    assert np.array_equal(np.signbit(got)[numbers], np.signbit(b)[numbers])


def test_fma_rounds_once():
    a = np.array([1 + 2**-30], np.float64)
    same(apply("fma", a, a, -np.ones(1)), np.array([2**-29 + 2**-60]))
    a = np.array([1 + 2**-12], np.float32)
    same(apply("fma", a, a, -np.ones(1, np.float32)), np.array([2**-11 + 2**-24], np.float32))
    i = np.array([3], np.int8)
    same(apply("fma", i * 20, i, i), np.array([-73], np.int8))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_comparisons(name, dtype):
    a, b = pairs(dtype)
    function = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater"}
    want = getattr(np, function.get(name, "greater_equal"))(a, b)
    same(apply("cmp", a, b, out_dtype=bool, extra=(name,)), want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_select_min_max(dtype):
    a, b = pairs(dtype)
    choose = np.arange(a.size) % 3 == 0
    out = np.empty_like(a)
    same(run_map(op, choose, a, b, out=out, params=(("name", "select"),)), np.where(choose, a, b))
    same(apply("max", a, b), np.maximum(a, b))
    same(apply("min", a, b), np.minimum(a, b))


def clamp_to_constant(s, x, name, value, first):
    c = s.const(value, x.dtype)
    return getattr(s, name)(c, x) if first else getattr(s, name)(x, c)


@pytest.mark.parametrize("value", [0.0, -1.5, np.nan, np.inf])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("name", ["max", "min"])
def test_min_max_with_a_constant_propagate_nan(name, first, value):
    x = edges(np.dtype(np.float32))
    params = (("name", name), ("value", value), ("first", first))
    got = run_map(clamp_to_constant, x, out=np.empty_like(x), params=params)
    same(got, getattr(np, name + "imum")(x, np.float32(value)))


@pytest.mark.parametrize("dtype", [BOOL, *INTEGERS], ids=str)
def test_bitwise(dtype):
    a, b = pairs(dtype)
    same(apply("and_", a, b), a & b)
    same(apply("or_", a, b), a | b)
    same(apply("xor", a, b), a ^ b)
    same(apply("not_", a), ~a)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_shifts_and_counts(dtype):
    a, b = pairs(dtype)
    width = 8 * dtype.itemsize
    mask = (1 << width) - 1
    unsigned, signed = np.dtype(f"u{dtype.itemsize}"), np.dtype(f"i{dtype.itemsize}")
    bits, amounts = a.view(unsigned).tolist(), b.view(unsigned).tolist()
    as_signed = a.view(signed).tolist()

    def whole(values):
        return np.array([v & mask for v in values], unsigned).view(dtype)

    same(apply("shl", a, b), whole(x << n if n < width else 0 for x, n in zip(bits, amounts)))
    same(apply("lshr", a, b), whole(x >> n if n < width else 0 for x, n in zip(bits, amounts)))
    same(apply("ashr", a, b), whole(x >> min(n, width - 1) for x, n in zip(as_signed, amounts)))
    same(apply("popcount", a), whole(x.bit_count() for x in bits))
    same(apply("clz", a), whole(width - x.bit_length() for x in bits))


def saturated(x, dtype):
    """XLA's float to integer: truncate, saturate, NaN to 0."""
    info = np.iinfo(dtype)
    whole = [0 if math.isnan(v) else v if math.isinf(v) else int(v) for v in x.astype(np.float64).tolist()]
    return np.array([int(min(max(v, info.min), info.max)) for v in whole], dtype)


@pytest.mark.parametrize("target", DTYPES, ids=str)
@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_casts(source, target):
    x = edges(source)
    if source in FLOATS:
        x = np.concatenate([x, np.array([-128.5, 127.9, 255.5, 256, 65504, 3e9, -3e9, 1e19, -1e19]).astype(source)])
    if target in INTEGERS and source in FLOATS:
        want = saturated(x, target)
    elif target == BOOL:
        want = x != 0
    else:
        want = x.astype(target)
    same(cast(x, target), want)


def convert(s, x, dtype):
    return s.cast(x, dtype)


def cast(x, dtype):
    return run_map(convert, x, out=np.empty(x.shape, dtype), params=(("dtype", np.dtype(dtype).name),))


def reinterpret(s, x, dtype):
    return s.bitcast(x, dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_bitcast(dtype):
    x = edges(dtype)
    integer = np.dtype(f"i{dtype.itemsize}")
    bits = run_map(reinterpret, x, out=np.empty(x.shape, integer), params=(("dtype", integer.name),))
    ordinary = ~np.isnan(x)
    same(bits[ordinary], x.view(integer)[ordinary])
    same(run_map(reinterpret, x.view(integer), out=np.empty_like(x), params=(("dtype", dtype.name),)), x)


def every_half():
    return np.arange(1 << 16, dtype=np.uint16)


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BFLOAT16], ids=str)
@pytest.mark.parametrize("source", [np.float32, np.float64])
def test_narrowing_rounds_to_nearest_even(dtype, source):
    exact = every_half().view(dtype).astype(source)
    exact = np.sort(exact[np.isfinite(exact)])
    middle = (exact[1:] + exact[:-1]) / 2
    x = np.concatenate([exact, middle, np.nextafter(middle, np.inf), np.nextafter(middle, -np.inf)]).astype(source)
    if source is np.float32 or dtype == np.float16:
        same(cast(x, dtype), x.astype(dtype))
        return
    # ml_dtypes goes by float32, which forgets what decides these ties; bfloat16 is the upper half of float32
    near = np.abs(cast(x, dtype).astype(np.float64))
    step = (np.nextafter(near.astype(np.float32), np.float32(np.inf)) - near) * 65536
    assert np.all((np.abs(near - np.abs(x)) <= step / 2)[np.isfinite(near)])


def test_double_to_half_rounds_once():
    # 1 + 2^-11 is a tie between two float16; a float32 in between forgets the bit that decides it
    x = np.array([1 + 2**-11 + 2**-40, 1 + 2**-11 - 2**-40, 1 + 2**-11, 65520 - 2**-30, 2**-25 + 2**-60])
    same(cast(x, np.float16), x.astype(np.float16))
    x = np.array([1 + 2**-8 + 2**-40, 1 + 2**-8 - 2**-40, 1 + 2**-8])
    same(cast(x, BFLOAT16), np.array([1 + 2**-7, 1, 1]).astype(BFLOAT16))


def test_float16_without_hardware(monkeypatch):
    """The spelt-out conversions equal the instructions on every float16 and on ties between them."""
    jit._get_engine()
    monkeypatch.setattr(jit._engine, "native_half", False)
    monkeypatch.setattr(jit, "_addresses", {})
    halves = every_half().view(np.float16)
    same(cast(halves, np.float32), halves.astype(np.float32))
    same(apply("abs", halves), np.abs(halves))
    test_narrowing_rounds_to_nearest_even(np.dtype(np.float16), np.float32)
    a, b = pairs(np.dtype(np.float16))
    same(apply("mul", a, b), rounded(np.multiply, a, b))


def call(s, *xs, name):
    return s.call(name, *xs)


SAFE = {"asin": (-1, 1), "acos": (-1, 1), "atanh": (-1, 1), "acosh": (1, 50), "log": (0, 50), "log1p": (-1, 50)}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", sorted(UNARY))
def test_libm(name, dtype):
    low, high = SAFE.get(name, (-8, 8))
    x = np.linspace(low, high, 101).astype(dtype)
    with np.errstate(all="ignore"):
        if name in ("erf", "erfc", "lgamma"):
            function = np.vectorize(lambda v: getattr(math, name)(v) if v > 0 or v != int(v) else math.inf)
            if name != "lgamma":
                function = np.vectorize(getattr(math, name))
        else:
            function = getattr(np, {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh",
                                    "acosh": "arccosh", "atanh": "arctanh"}.get(name, name))  # fmt: skip
        want = function(x.astype(np.float64)).astype(dtype)
    got = run_map(call, x, out=np.empty_like(x), params=(("name", name),))
    eps = 2.0**-7 if dtype == BFLOAT16 else float(np.finfo(dtype).eps)
    assert np.array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=4 * eps, atol=4 * eps)


def exactly(name, x):
    """The function in a format with more digits: float64 of float32, of float64 the long double of this machine."""
    wide = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
    with np.errstate(all="ignore"):
        if name in ("erf", "erfc"):  # of C's library, for float64 too: within 1 unit in the last place
            return np.vectorize(getattr(math, name), otypes=[np.float64])(wide)
        return getattr(np, name)(wide)


def check_vector_function(name, x, most):
    """Specials as NumPy's; elsewhere within ``most`` units in the last place; odd functions keep the sign."""
    exact = exactly(name, x)
    with np.errstate(over="ignore"):
        want = exact.astype(x.dtype)
    got = run_map(call, x, out=np.empty_like(x), params=(("name", name),))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(got[np.isinf(want)], want[np.isinf(want)])
    finite = np.isfinite(want)
    error = np.abs(got[finite] - exact[finite]) / np.spacing(np.abs(want[finite])).astype(exact.dtype)
    assert error.max(initial=0) <= most
    if name in ("tanh", "erf", "expm1", "log1p"):
        np.testing.assert_array_equal(np.signbit(got[finite]), np.signbit(x[finite]))


def units(name, dtype):
    """What vecmath.py promises."""
    if dtype == np.float64:
        return 4
    return 5 if name == "erfc" else 2


def every_float32(name, step, first=0):
    """The function at every ``step``-th float32 by its bits, in pieces."""
    size = 1 << 18 if name in ("erf", "erfc") else 1 << 22
    for low in range(first, 1 << 32, step * size):
        bits = np.arange(low, min(low + step * size, 1 << 32), step, dtype=np.uint64)
        check_vector_function(name, bits.astype(np.uint32).view(np.float32), units(name, np.float32))


@pytest.mark.parametrize("name", sorted(VECTOR_FUNCTIONS))
def test_vector_functions_of_float32(name):
    """Every so many by its bits, and a fine grid where the function changes most."""
    every_float32(name, 40_009 if name in ("erf", "erfc") else 2053)
    n = 50_001 if name in ("erf", "erfc") else 500_001
    grid = np.concatenate([np.linspace(-105, 90, n), np.linspace(-2, 2, n), np.linspace(-11, 11, n)])
    x = np.concatenate([grid.astype(np.float32), edges(np.dtype(np.float32))])
    check_vector_function(name, x, units(name, np.float32))


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(VECTOR_FUNCTIONS))
def test_vector_functions_of_all_float32(name):
    """Every float32; of erf and erfc, whose reference is computed one by one, every 601st."""
    every_float32(name, 601 if name in ("erf", "erfc") else 1)


@pytest.mark.parametrize("name", sorted(VECTOR_FUNCTIONS))
def test_vector_functions_of_float64(name):
    """Random bits, the ranges where the function changes, neighbours of 0 and 1, subnormals, where it overflows."""
    rng, n = np.random.default_rng(0), 5000
    sign = rng.choice([-1.0, 1.0], n)
    x = [
        rng.integers(0, 1 << 64, n, dtype=np.uint64).view(np.float64), rng.uniform(-3, 3, n), rng.uniform(-30, 30, n),
        rng.uniform(-750, 712, n), sign * np.exp(rng.uniform(-45, 3, n)), 1 + sign * np.exp(rng.uniform(-36, 0, n)),
        sign * 2.0 ** rng.uniform(-1074, -1020, n), rng.uniform(709.7, 709.8, n), rng.uniform(-745.2, -745.1, n),
        rng.uniform(26.5, 27.3, n), edges(np.dtype(np.float64)),
    ]  # fmt: skip
    check_vector_function(name, np.concatenate(x), units(name, np.float64))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_libm_of_two(dtype):
    a = np.linspace(0.1, 4, 50).astype(dtype)
    b = np.linspace(-3, 3, 50).astype(dtype)
    eps = 2.0**-7 if dtype == BFLOAT16 else float(np.finfo(dtype).eps)
    for name, function in (("pow", np.power), ("atan2", np.arctan2)):
        got = run_map(call, a, b, out=np.empty_like(a), params=(("name", name),)).astype(np.float64)
        np.testing.assert_allclose(got, function(a.astype(np.float64), b.astype(np.float64)), rtol=4 * eps)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_nextafter(dtype):
    a, b = pairs(dtype)
    got = run_map(call, a, b, out=np.empty_like(a), params=(("name", "nextafter"),))
    same(got, np.nextafter(a, b))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_constants(dtype):
    x = edges(dtype)
    for value in x:
        raw = value.item() if dtype != BFLOAT16 else float(value)
        got = run_map(constant, x[:1], out=np.empty(1, dtype), params=(("value", raw),))
        same(got, np.array([value], dtype))
        if dtype in FLOATS:
            assert np.isnan(value) or np.signbit(got[0]) == np.signbit(value)


def constant(s, x, value):
    return s.const(value, x.dtype)


def test_mistakes_are_named():
    s = Scalar(Code(), native_half=True)
    one, two = s.const(1, "float32"), s.const(2, "int32")
    with pytest.raises(TypeError, match=r"operands must have one dtype, got \['float32', 'int32'\]"):
        s.add(one, two)
    with pytest.raises(TypeError, match=r"shl: integers are needed, got \['float32', 'float32'\]"):
        s.shl(one, one)
    with pytest.raises(ValueError, match="no libm function of 1 arguments, got 'frobnicate'"):
        s.call("frobnicate", one)
    with pytest.raises(TypeError, match="exp: a float is needed, got int32"):
        s.call("exp", two)
    with pytest.raises(TypeError, match="bitcast: the sizes must be equal, got float32 and int64"):
        s.bitcast(one, "int64")
    with pytest.raises(TypeError, match="no kernels for this dtype, got complex64"):
        s.const(1, "complex64")
