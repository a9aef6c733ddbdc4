"""Element-wise functions: values in every dtype, derivatives, batching, jit, shapes without elements, errors."""

import ml_dtypes
import numpy as np
import pytest
from drawn import relative_error

import fgrad
from fgrad import lax
from fgrad.core.array import lift
from fgrad.errors import ConcretizationError, MissingBackendError, MissingDependencyError
from fgrad.primitives.ties import share_p
from fgrad.testing import check_jvp
from fgrad.testing.execution import strided
from fgrad.testing.samples.elementwise_table import FLOATS, INTEGERS, ROWS, label

CASES = [(row, dtype) for row in ROWS for dtype in row.dtypes]
SMOOTH = [row for row in ROWS if row.derivative]
MANY = [row for row in ROWS if len(row.domains) > 1]


@pytest.fixture(autouse=True)
def _scipy_where_needed(request):
    row = getattr(request.node, "callspec", None) and request.node.callspec.params.get("row")
    if row and row.scipy:
        pytest.importorskip("scipy")


def close(got, want, dtype, ulps=8):
    """Equal for integers and bools; floats within a few units in the last place of ``dtype``."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    if got.dtype.kind in "iub":
        np.testing.assert_array_equal(got, want)
    else:
        tol = ulps * float(ml_dtypes.finfo(dtype).eps)
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=tol, atol=tol)


def equal(got, want):
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))


def extremes(dtype):
    """Pairs of the numbers where rules go wrong."""
    if dtype.kind == "b":
        ends = np.array([False, True])
    elif dtype in INTEGERS:
        info = np.iinfo(dtype)
        values = [info.min, info.min + 1, 0, 1, 2, 7, 8 * dtype.itemsize - 1, 8 * dtype.itemsize, info.max - 1]
        ends = np.array([*values, info.max, *([-1, -2, -8] if info.min else [])], dtype)
    else:
        info = ml_dtypes.finfo(dtype)
        values = [0.0, 0.5, 1.0, 1.5, 2.5, 7.0, 0.49999997, float(info.max), float(info.tiny), np.inf]
        ends = np.array([*values, *(-v for v in values), np.nan]).astype(dtype)
    return ends


# --- values ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("row, dtype", CASES, ids=label)
def test_value_and_type(row, dtype):
    xs = row.draw((3, 5), dtype)
    if row.make(lax) is getattr(lax, row.name) or row.params:
        want = row.prim.reference(*xs, **row.params)
        for operands in (xs, map(strided, xs)):
            got = row.prim.bind(*map(lift, operands), **row.params)
            assert got.dtype == want.dtype
            close(got, want, dtype)
    out = row.function(*xs)
    assert out.dtype == (np.bool_ if row.name in ("eq", "ne", "lt", "le", "gt", "ge", "is_finite") else dtype)
    if dtype in FLOATS and row.name not in ("nextafter", "reduce_precision"):
        close(out, row.function(*[x.astype(np.float64) for x in xs]), dtype)


@pytest.mark.parametrize("row, dtype", CASES, ids=label)
def test_jit_is_eager(row, dtype):
    jitted = fgrad.jit(row.function)
    close(jitted(*(xs := row.draw((3, 5), dtype))), row.function(*xs), dtype)
    ends = extremes(dtype)
    grid = np.meshgrid(*[ends] * len(row.domains))
    with np.errstate(all="ignore"):
        close(jitted(*grid), row.function(*grid), dtype, ulps=16)


@pytest.mark.parametrize("row", ROWS, ids=label)
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,)])
def test_small_shapes(row, shape):
    for dtype in {row.dtypes[0], row.dtypes[-1]}:
        xs = row.draw(shape, dtype)
        for out in (row.function(*xs), fgrad.jit(row.function)(*xs)):
            assert out.shape == shape


# --- transformations -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("row", SMOOTH, ids=label)
def test_derivative_keeps_the_dtype(row):
    for dtype in FLOATS:
        xs = row.draw((2, 3), dtype)
        _, pull = fgrad.vjp(row.function, *xs)
        assert [g.dtype for g in pull(np.ones((2, 3), dtype))] == [dtype] * len(xs)


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_vmap_is_a_loop(row):
    size, dtype = 2, row.dtypes[-1]
    examples = [row.draw((3, 4), dtype, seed=i) for i in range(size)]
    axes = [(a,) for a in (0, 1, -1)] if len(row.domains) == 1 else [(0, 0), (1, -1), (0, None), (None, 1), (-1, 0)]
    for chosen in axes:
        in_axes = (chosen * 2)[: len(row.domains)]
        stacks = [
            examples[0][j] if a is None else np.stack([e[j] for e in examples], axis=a) for j, a in enumerate(in_axes)
        ]
        out = fgrad.vmap(row.function, in_axes=in_axes)(*stacks)
        for i in range(size):
            args = [examples[0][j] if a is None else examples[i][j] for j, a in enumerate(in_axes)]
            close(np.asarray(out)[i], row.function(*args), dtype)


# --- select_n, conversions, constants --------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_select_n(shape):
    rng = np.random.default_rng(0)
    cases = [rng.standard_normal((2, 3)) for _ in range(3)]
    for which in (np.int32(rng.integers(-1, 5, shape)), np.array(rng.random(shape) < 0.5)):
        chosen = cases if which.dtype == np.int32 else cases[:2]
        want = np.choose(np.clip(which, 0, len(chosen) - 1).astype(int), chosen)
        np.testing.assert_array_equal(np.asarray(lax.select_n(which, *chosen)), want)
        np.testing.assert_array_equal(np.asarray(fgrad.jit(lax.select_n)(which, *chosen)), want)
        check_jvp(lambda *c, w=which: lax.select_n(w, *c), tuple(map(lift, chosen)), linear=True)


@pytest.mark.parametrize("which_shape, which_axis", [((2,), 0), ((2, 3, 4), 0), ((3, 2, 4), 1), ((), None)])
@pytest.mark.parametrize("axes", [(0, None), (None, 2), (1, 1), (None, None)])
def test_select_n_vmap(which_shape, which_axis, axes):
    if which_axis is None and axes == (None, None):
        return
    rng = np.random.default_rng(1)
    which = rng.random(which_shape) < 0.5
    cases = [rng.standard_normal((3, 4) if a is None else np.insert((3, 4), a, 2)) for a in axes]
    out = fgrad.vmap(lax.select_n, in_axes=(which_axis, *axes))(which, *cases)
    for i in range(2):
        args = [x if a is None else np.take(x, i, axis=a) for x, a in zip((which, *cases), (which_axis, *axes))]
        np.testing.assert_array_equal(np.asarray(out)[i], np.where(args[0], args[2], args[1]))


def test_select_chooses_on_true():
    out = lax.select(np.array([True, False]), np.float32([1, 2]), np.float32([10, 20]))
    assert out.tolist() == [1, 20]


@pytest.mark.parametrize("old", [*FLOATS, *INTEGERS, np.dtype(bool)], ids=str)
@pytest.mark.parametrize("new", [*FLOATS, *INTEGERS, np.dtype(bool)], ids=str)
def test_convert(old, new):
    xs = np.array([0, 1, 3, 100, -1, -7]).astype(old)
    if old in FLOATS:
        xs = np.concatenate([xs, np.array([1.75, -1.75, 6e4, -6e4, np.inf, -np.inf, np.nan]).astype(old)])
    out = lax.convert_element_type(xs, new)
    assert out.dtype == new and not out.weak_type
    equal(fgrad.jit(lambda x: lax.convert_element_type(x, new))(xs), out)


def test_convert_saturates_and_truncates():
    out = lax.convert_element_type(np.float64([1.9, -1.9, 1e20, -1e20, np.nan]), np.int32)
    assert out.tolist() == [1, -1, 2**31 - 1, -(2**31), 0]


def test_convert_differentiates_between_floats():
    ct = fgrad.vjp(lambda x: lax.convert_element_type(x, np.float64), np.float32([1, 2]))[1](np.float64([3, 4]))[0]
    assert ct.dtype == np.float32 and ct.tolist() == [3, 4]


def test_bitcast():
    bits = lax.bitcast_convert_type(np.float32([1, -0.0]), np.uint32)
    assert bits.tolist() == [0x3F800000, 0x80000000]
    assert lax.bitcast_convert_type(bits, np.float32).tolist() == [1, -0.0]


def test_full():
    assert lax.full((2,), 7, np.int8).dtype == np.int8
    assert lax.full(2, 7.0).weak_type and lax.full((), 7.0).shape == ()
    assert lax.full_like(np.float64([[1, 2]]), 3).tolist() == [[3, 3]]
    assert lax.full_like(np.float64([1, 2]), 3, np.int32, (1,)).dtype == np.int32
    assert lax.zeros_like_array(np.int32([1, 2])).tolist() == [0, 0]
    assert fgrad.grad(lambda v: lax.square(lax.full((), v)))(3.0).item() == 6


def test_stop_gradient():
    tree = {"w": np.float64([1, 2]), "n": np.int32(3)}
    out = lax.stop_gradient(tree)
    assert out["w"].tolist() == [1, 2] and out["n"].dtype == np.int32
    assert fgrad.grad(lambda x: lax.mul(lax.stop_gradient(x), x))(3.0).item() == 3
    second = fgrad.grad(fgrad.grad(lambda x: lax.mul(lax.stop_gradient(lax.square(x)), x)))
    assert second(3.0).item() == 0
    assert fgrad.vmap(lax.stop_gradient)(np.ones((2, 3))).shape == (2, 3)
    assert "stop_gradient" in str(fgrad.make_jaxpr(lax.stop_gradient)(1.0))


# --- operands --------------------------------------------------------------------------------------------------------
def test_python_scalars_take_the_dtype_of_arrays():
    for dtype in (*FLOATS, *INTEGERS):
        assert lax.add(np.ones(2, dtype), 1).dtype == dtype
    assert lax.mul(2, 3.5).weak_type and lax.mul(2, 3.5).dtype == np.float32
    assert lax.lt(1.0, 2.0).weak_type is False
    assert lax.clamp(0, np.float64([-1, 5]), 1).tolist() == [0, 1]


def test_pow_with_a_python_integer_is_integer_pow():
    text = str(fgrad.make_jaxpr(lambda x: lax.pow(x, 3))(1.0))
    assert "integer_pow" in text
    assert lax.pow(np.float64([-2]), np.int32([3])).tolist() == [-8]


def test_pow_derivatives_at_zero():
    one, zero = np.float64(1), np.float64(0)
    gx, gy = fgrad.grad(lax.pow, argnums=(0, 1))(zero, zero)
    assert (gx.item(), gy.item()) == (0, 0)
    assert fgrad.grad(lax.pow)(zero, one).item() == 1


def test_ties_share_the_gradient():
    for f in (lax.max, lax.min):
        gx, gy = fgrad.grad(f, argnums=(0, 1))(2.0, 2.0)
        assert (gx.item(), gy.item()) == (0.5, 0.5)


@pytest.mark.parametrize(("f", "sign"), [(lax.max, 1), (lax.min, -1)])
def test_the_loser_of_an_extremum_gets_nothing_of_an_infinite_cotangent(f, sign):
    x, y = sign * np.array([[1.0, 2.0, 0.0, np.inf, np.nan, 1.0], [2.0, 1.0, -0.0, np.inf, 1.0, np.nan]])
    ct = np.array([np.inf, np.nan, 3.0, -1.0, np.inf, np.nan])
    for transform in (lambda g: g, fgrad.jit):
        gx, gy = transform(lambda x, y, ct: fgrad.vjp(f, x, y)[1](ct))(x, y, ct)
        np.testing.assert_array_equal(gx, [0, np.nan, 1.5, -0.5, 0, 0])
        np.testing.assert_array_equal(gy, [np.inf, 0, 1.5, -0.5, 0, 0])


def test_what_a_shared_tangent_takes():
    with pytest.raises(TypeError, match=r"share: takes a floating-point tangent and int8 orders of its shape, got"):
        share_p.bind(lift(np.ones(3), "t"), lift(np.ones(3), "order"))


def test_reduce_precision_rounds_like_the_narrow_format():
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32) * 1e4
    with np.errstate(over="ignore"):
        half = x.astype(np.float16).astype(np.float32)
    normal = np.abs(half) >= np.finfo(np.float16).tiny
    got = np.asarray(lax.reduce_precision(x, exponent_bits=5, mantissa_bits=10))
    np.testing.assert_array_equal(got[normal], half[normal])
    brain = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(lax.reduce_precision(x, 8, 7)), brain)
    (ct,) = fgrad.vjp(lambda x: lax.reduce_precision(x, 5, 2), np.ones((), np.float32))[1](np.float32(1.1))
    assert ct.item() == 1


def test_logistic_does_not_overflow():
    x = np.float32([-1000, -88, 88, 1000])
    for f in (lax.logistic, fgrad.jit(lax.logistic)):
        np.testing.assert_allclose(np.asarray(f(x)), [0, 6.0546e-39, 1, 1], rtol=1e-4)


def test_complex_numbers_where_numpy_takes_them():
    z = np.complex128([0.3 + 0.4j, -1.2 + 0.1j])
    for f, g in [(lax.exp, np.exp), (lax.log, np.log), (lax.tanh, np.tanh), (lax.sqrt, np.sqrt), (lax.asin, np.arcsin)]:
        np.testing.assert_allclose(np.asarray(f(z)), g(z), rtol=1e-14)
    np.testing.assert_allclose(np.asarray(lax.logistic(z)), 1 / (1 + np.exp(-z)), rtol=1e-14)


def test_round_halves():
    x = np.float64([0.5, 1.5, -0.5, -2.5, 0.49999999999999994, 2.0**52 + 1])
    assert lax.round(x).tolist() == [1, 2, -1, -3, 0, 2.0**52 + 1]
    assert lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN).tolist() == [0, 2, 0, -2, 0, 2.0**52 + 1]


def test_erf_inv_near_the_ends():
    x = 1 - np.logspace(-15.9, -1, 50)
    y = lax.erf_inv(x)
    assert relative_error(lax.erfc(y), 1 - x) <= 1e-12
    np.testing.assert_allclose(np.asarray(lax.erfc(y)), 1 - x, rtol=1e-12)


# --- errors ----------------------------------------------------------------------------------------------------------
X2, X3, F32 = np.ones(2), np.ones(3), np.ones(2, np.float32)
ERRORS = [
    (lambda: lax.add(X2, X3), ValueError,
     "add: operands must have equal shapes, got (2,) and (3,). "
     "Broadcast them first, or use the function of the same name in fgrad.numpy."),
    (lambda: lax.add(X2, F32), TypeError,
     "add: operands must have equal dtypes, got float64 and float32. "
     "Convert one with .astype, or use the function of the same name in fgrad.numpy."),
    (lambda: lax.add(np.int32([1]), 0.5), TypeError,
     "add: operands must have equal dtypes, got int32 and float32. "
     "Convert one with .astype, or use the function of the same name in fgrad.numpy."),
    (lambda: lax.add([1, 2], X2), TypeError,
     "add: operands must be arrays or scalars, got [1, 2] of type list. Convert lists and tuples with "
     "fgrad.numpy.asarray."),
    (lambda: lax.exp(1), TypeError,
     "exp: operands must be floating-point or complex, got int32. Convert them with .astype."),
    (lambda: lax.erf(np.complex64(1)), TypeError,
     "erf: operands must be floating-point, got complex64. Convert them with .astype."),
    (lambda: lax.clz(F32), TypeError, "clz: operands must be integer, got float32. Convert them with .astype."),
    (lambda: lax.neg(True), TypeError, "neg: operands must be number, got bool. Convert them with .astype."),
    (lambda: lax.reciprocal(2), TypeError,
     "reciprocal: operands must be floating-point or complex, got int32. Convert them with .astype."),
    (lambda: lax.integer_pow(3, -1), TypeError,
     "integer_pow: integers have no negative powers, got int32 to the -1. Convert to a float."),
    (lambda: lax.select_n(np.int64(0), X2, X2), TypeError,
     "select_n: which must be bool or int32, got int64. Compare, or convert it to int32."),
    (lambda: lax.select_n(True, X2, X2, X2), TypeError,
     "select_n: a bool which chooses between 2 cases, got 3. Convert it to int32 or give 2 cases."),
    (lambda: lax.select_n(np.array([True] * 3), X2, X2), ValueError,
     "select_n: which must be a scalar or have the shape of the cases, got (3,) and (2,). Broadcast it first."),
    (lambda: lax.select_n(True), TypeError,
     "select_n: at least one case is needed, got none. Give the arrays to choose from."),
    (lambda: lax.select(1.0, X2, X2), TypeError,
     "select: pred must be bool, got float32. Compare it with something first."),
    (lambda: lax.round(X2, 7), ValueError,
     "round: rounding_method must be one of RoundingMethod.AWAY_FROM_ZERO, RoundingMethod.TO_NEAREST_EVEN, got 7. "
     "Use one of them."),
    (lambda: lax.reduce_precision(X2, 0, 3), ValueError,
     "reduce_precision: at least 1 exponent bit and 0 mantissa bits are needed, got 0 and 3. "
     "float16 has 5 and 10, bfloat16 has 8 and 7."),
    (lambda: lax.bitcast_convert_type(X2, np.int32), TypeError,
     "bitcast_convert_type: dtypes must have equal sizes, got float64 (8 bytes) and int32 (4 bytes). "
     "Choose a dtype of 8 bytes."),
    (lambda: lax.full((2, -1), 0), ValueError,
     "full: sizes must not be negative, got (2, -1). Give sizes of at least 0."),
    (lambda: lax.full((2.5,), 0), TypeError,
     "full: sizes must be integers, got 2.5 of type float. Use int(...)."),
    (lambda: lax.full((2,), X2), ValueError,
     "full: fill_value must be a scalar, got shape (2,). Use broadcast_in_dim."),
    (lambda: fgrad.grad(lambda a: lax.nextafter(a, 1.0))(0.5), MissingBackendError,
     "nextafter: has no jvp rule, it is a step between neighbouring floats, not a smooth function."),
]  # fmt: skip


@pytest.mark.parametrize("call, error, message", ERRORS, ids=lambda v: v[:50] if isinstance(v, str) else "")
def test_errors(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def test_the_same_error_under_jit():
    with pytest.raises(TypeError, match="exp: operands must be floating-point or complex, got int32"):
        fgrad.jit(lax.exp)(np.int32(1))


def test_a_parameter_is_checked_after_other_parameters_passed():
    assert lax.integer_pow(np.int32(3), 2).item() == 9
    with pytest.raises(TypeError, match="integers have no negative powers"):
        lax.integer_pow(np.int32(3), -2)


def test_a_traced_size():
    with pytest.raises(ConcretizationError, match="argument 'n' of <lambda> has no value"):
        fgrad.jit(lambda n: lax.full((n,), 0))(3)


def test_no_derivative_in_a():
    with pytest.raises(MissingBackendError) as caught:
        pytest.importorskip("scipy")
        fgrad.grad(lax.betainc)(1.5, 2.0, 0.5)
    assert str(caught.value) == (
        "betainc: has no derivative in a, for which there is no closed form. "
        "Differentiate in the other operands only, or put stop_gradient around a."
    )


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    with pytest.raises(MissingDependencyError) as caught:
        lax.digamma(1.0)
    assert str(caught.value) == "digamma: needs SciPy, got none installed. Run: pip install 'fgrad[scipy]'."
