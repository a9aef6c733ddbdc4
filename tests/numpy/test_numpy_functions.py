"""fgrad.numpy against NumPy: values, shapes, dtypes and errors of everything but indexing."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad.errors import ConcretizationError

RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, 4)).astype(np.float32)
B = RNG.normal(size=(4,)).astype(np.float32)
K = RNG.integers(-9, 9, (3, 4)).astype(np.int32)
J = np.where(RNG.integers(1, 6, (3, 1)) > 3, 3, -2).astype(np.int32)
UNIT = np.tanh(A)


def same(ours, theirs, rtol=2e-6):
    ours = np.asarray(ours)
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-6)


# --- element by element ----------------------------------------------------------------------------------------------
UNARY = {
    "negative": A, "positive": A, "absolute": A, "fabs": A, "sign": A, "square": A, "reciprocal": A, "exp": A,
    "exp2": A, "expm1": A, "sin": A, "cos": A, "tan": A, "sinh": A, "cosh": A, "tanh": A, "arctan": A, "arcsinh": A,
    "cbrt": A, "floor": A, "ceil": A, "trunc": A, "rint": A, "fix": A, "deg2rad": A, "rad2deg": A, "signbit": A,
    "sqrt": abs(A), "log": abs(A), "log1p": abs(A), "log2": abs(A), "log10": abs(A), "arcsin": UNIT, "arccos": UNIT,
    "arctanh": UNIT, "arccosh": 1 + abs(A), "logical_not": K, "invert": K, "isnan": A, "isinf": A, "isfinite": A,
    "isposinf": A, "isneginf": A, "nan_to_num": A,
}  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    x = UNARY[name]
    expected = getattr(np, name)(x)
    out = getattr(fnp, name)(x)
    same(out, expected)
    assert out.dtype == expected.dtype
    same(fgrad.jit(getattr(fnp, name))(x), expected)


BINARY = {
    **dict.fromkeys(
        ["add", "subtract", "multiply", "true_divide", "floor_divide", "remainder", "fmod", "maximum", "minimum",
         "fmax", "fmin", "arctan2", "hypot", "logaddexp", "copysign", "nextafter", "equal", "less", "greater_equal",
         "logical_and", "logical_or", "logical_xor"], (A, B)),
    "power": (abs(A), B), "bitwise_and": (K, J), "bitwise_or": (K, J), "bitwise_xor": (K, J), "left_shift": (K, abs(J)),
    "right_shift": (K, abs(J)), "heaviside": (A, B),
}  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
def test_binary_broadcasts(name):
    x, y = BINARY[name]
    expected = getattr(np, name)(x, y)
    out = getattr(fnp, name)(x, y)
    same(out, expected)
    assert out.dtype == expected.dtype


@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod", "subtract", "multiply"])
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_integer_arithmetic(name, dtype):
    x, y = K.astype(dtype), J.astype(dtype)
    out = getattr(fnp, name)(x, y)
    assert out.dtype == dtype
    same(out, getattr(np, name)(x, y))


def test_float_division_family():
    x = np.array([5.5, -5.5, 5.5, -5.5, 6.0, 1.0, 0.0], np.float32)
    y = np.array([2.0, 2.0, -2.0, -2.0, 3.0, 0.1, 5.0], np.float32)
    for name in ("floor_divide", "remainder", "fmod"):
        same(getattr(fnp, name)(x, y), getattr(np, name)(x, y))
    q, r = divmod(fnp.asarray(x), y)
    same(q, x // y)
    same(r, x % y)


def test_powers():
    x = fnp.array([-2.0, 0.0, 3.0])
    assert (x**3).tolist() == [-8.0, 0.0, 27.0] and (x**0).tolist() == [1.0, 1.0, 1.0]
    assert (2**x).tolist() == [0.25, 1.0, 8.0]
    assert fnp.power(fnp.array([-3, 2, 5]), fnp.array([3, 10, 0])).tolist() == [-27, 1024, 1]
    assert fnp.power(fnp.array([2, 2], "uint8"), fnp.array([3, 9], "uint8")).tolist() == [8, 0]
    assert fgrad.grad(lambda t: t**2)(0.0).item() == 0.0
    with pytest.raises(ValueError, match=r"power: integers have no negative powers, got int32 to the power -1. Use"):
        fnp.arange(3) ** -1


def test_clip_where_select():
    same(fnp.clip(A, -0.5, 0.5), np.clip(A, -0.5, 0.5))
    same(fnp.clip(K, None, 3), np.clip(K, None, 3))
    same(fnp.where(A > 0, A, B), np.where(A > 0, A, B))
    assert fnp.where(fnp.arange(3) > 1, 1, 2.5).dtype == np.float32
    assert [i.tolist() for i in fnp.where(K > 0)] == [i.tolist() for i in np.where(K > 0)]
    same(fnp.select([A > 1, A > 0], [A, -A], 7.0), np.select([A > 1, A > 0], [A, -A], 7.0))
    with pytest.raises(ConcretizationError, match=r"nonzero: the values decide the result's shape.*argument 'x'"):
        fgrad.jit(lambda x: fnp.where(x))(A)


def test_closeness():
    x = np.array([1.0, np.nan, np.inf, -np.inf, 2.0], np.float32)
    y = np.array([1.0 + 1e-6, np.nan, np.inf, np.inf, 2.1], np.float32)
    for nan in (False, True):
        assert fnp.isclose(x, y, equal_nan=nan).tolist() == np.isclose(x, y, equal_nan=nan).tolist()
    assert bool(fnp.allclose(A, A + 1e-9)) and not bool(fnp.array_equal(A, A[:2]))


# --- promotion -------------------------------------------------------------------------------------------------------
PROMOTIONS = [
    (lambda: fnp.arange(3) + 1, "int32"),
    (lambda: fnp.arange(3) + 1.0, "float32"),
    (lambda: fnp.arange(3) / 2, "float32"),
    (lambda: fnp.asarray(np.arange(3)) / 2, "float64"),
    (lambda: fnp.sin(fnp.arange(3, dtype="int8")), "float32"),
    (lambda: fnp.ones(3, "float16") * 2.0, "float16"),
    (lambda: fnp.ones(3, "bfloat16") * np.float32(2), "float32"),
    (lambda: fnp.ones(3, "bfloat16") + fnp.ones(3, "float16"), "float32"),
    (lambda: fnp.arange(3) + fnp.ones(3, "bfloat16"), "bfloat16"),
    (lambda: fnp.asarray(np.ones(3)) + fnp.ones(3), "float64"),
    (lambda: fnp.asarray(np.arange(3)) + fnp.arange(3), "int64"),
    (lambda: fnp.array([True]) + fnp.array([True]), "bool"),
    (lambda: fnp.array([True]) + 1, "int32"),
    (lambda: 2 * fnp.arange(3, dtype="uint8"), "uint8"),
    (lambda: fnp.sum(fnp.ones(3, "int8")), "int32"),
    (lambda: fnp.sum(fnp.array([True, True])), "int32"),
    (lambda: fnp.mean(fnp.arange(3)), "float32"),
    (lambda: fnp.mean(fnp.ones(3, "bfloat16")), "bfloat16"),
    (lambda: fnp.arange(3) > 1, "bool"),
]


@pytest.mark.parametrize(("make", "dtype"), PROMOTIONS)
def test_promotion(make, dtype):
    assert str(make().dtype) == dtype
    assert str(fgrad.jit(make)().dtype) == dtype


def test_python_scalars_must_fit():
    with pytest.raises(
        OverflowError, match=r"add: a Python int takes the dtype of the other operand, int8 \(-128 to 127"
    ):
        fnp.ones(3, "int8") + 300
    assert fnp.result_type("float16", 1.5, "int32") == np.float16
    assert fnp.promote_types("int32", float) == np.float32
    assert fnp.issubdtype("bfloat16", np.floating) and not fnp.issubdtype("bfloat16", np.integer)


# --- creation --------------------------------------------------------------------------------------------------------
def test_creation():
    assert fnp.zeros((2, 3)).dtype == np.float32 and fnp.ones(2, int).dtype == np.int32
    assert fnp.asarray(np.ones(2)).dtype == np.float64 and fnp.asarray([1.0]).dtype == np.float32
    assert fnp.asarray([1, 2**40]).dtype == np.int64 and fnp.asarray([True, 2]).dtype == np.int32
    same(fnp.array([[1, 2], [3, fnp.array(4)]]), [[1, 2], [3, 4]])
    same(fnp.full((2, 2), fnp.array([1, 2])), [[1, 2], [1, 2]])
    same(fnp.arange(5, 1, -1.5), np.arange(5, 1, -1.5))
    assert fnp.arange(3.0).dtype == np.float32 and fnp.arange(2, 2).shape == (0,)
    for kw in ({}, {"endpoint": False}, {"num": 1}, {"axis": 1}):
        same(fnp.linspace(A[0], B, **{"num": 7, **kw}), np.linspace(A[0], B, **{"num": 7, **kw}))
    same(fnp.linspace(0, 10, 4, dtype=int), np.linspace(0, 10, 4, dtype=int))
    same(fnp.eye(3, 4, -1), np.eye(3, 4, -1))
    same(fnp.tri(3, 4, 1), np.tri(3, 4, 1))
    for k in (-2, -1, 0, 1, 5):
        same(fnp.tril(A, k), np.tril(A, k))
        same(fnp.triu(A, k), np.triu(A, k))
        same(fnp.diag(A, k) if abs(k) < 3 else 0, np.diag(A, k) if abs(k) < 3 else 0)
        same(fnp.diag(B, k), np.diag(B, k))
        same(fnp.diagonal(np.stack([A, A + 1]), k, 1, 2), np.diagonal(np.stack([A, A + 1]), k, 1, 2))
    same(fnp.trace(A, 1), np.trace(A, 1))
    assert fnp.zeros_like(K).dtype == np.int32 and fnp.full_like(A, 2, shape=(2,)).tolist() == [2.0, 2.0]
    with pytest.raises(TypeError, match=r"array: elements must be numbers or arrays, got 'a'"):
        fnp.array(["a"])
    with pytest.raises(TypeError, match=r"array: nested sequences must all have the same"):
        fnp.array([[1], [2, 3]])


def test_a_nest_may_hold_tracers():
    out = fgrad.jit(lambda x: fnp.array([[x, 1.0], [2.0, x * x]]))(3.0)
    assert out.tolist() == [[3.0, 1.0], [2.0, 9.0]]


def test_dlpack():
    same(fnp.from_dlpack(A), A)
    same(np.from_dlpack(fnp.asarray(A)), A)


# --- shapes ----------------------------------------------------------------------------------------------------------
SHAPES = [
    (lambda n, x: n.reshape(x, (2, -1)),),
    (lambda n, x: n.reshape(x, (4, 3), order="F"),),
    (lambda n, x: n.ravel(x),),
    (lambda n, x: n.transpose(x),),
    (lambda n, x: n.moveaxis(x[None], 0, -1),),
    (lambda n, x: n.moveaxis(x[None], (0, 1), (-1, 0)),),
    (lambda n, x: n.rollaxis(x[None], 2),),
    (lambda n, x: n.swapaxes(x[None], 0, 2),),
    (lambda n, x: n.expand_dims(x, (0, -1)),),
    (lambda n, x: n.squeeze(x[None, :, :, None]),),
    (lambda n, x: n.squeeze(x[None, :, :, None], axis=-1),),
    (lambda n, x: n.broadcast_to(x[:1], (3, 4)),),
    (lambda n, x: n.broadcast_arrays(x, x[0])[1],),
    (lambda n, x: n.atleast_1d(x[0, 0]),),
    (lambda n, x: n.atleast_2d(x[0]),),
    (lambda n, x: n.atleast_3d(x),),
    (lambda n, x: n.concatenate([x, x[:1]], 0),),
    (lambda n, x: n.concatenate([x, x], None),),
    (lambda n, x: n.stack([x, x], -1),),
    (lambda n, x: n.vstack([x, x[0]]),),
    (lambda n, x: n.hstack([x[0], x[1]]),),
    (lambda n, x: n.hstack([x, x]),),
    (lambda n, x: n.dstack([x, x]),),
    (lambda n, x: n.column_stack([x[0], x[1]]),),
    (lambda n, x: n.split(x, 2, 1)[1],),
    (lambda n, x: n.split(x, [1, 3], -1)[2],),
    (lambda n, x: n.array_split(x, 3, 1)[0],),
    (lambda n, x: n.tile(x, (2, 1, 2)),),
    (lambda n, x: n.tile(x, 2),),
    (lambda n, x: n.repeat(x, 2),),
    (lambda n, x: n.repeat(x, 3, 1),),
    (lambda n, x: n.repeat(x, [1, 0, 2], 0),),
    (lambda n, x: n.flip(x),),
    (lambda n, x: n.flip(x, 1),),
    (lambda n, x: n.fliplr(x),),
    (lambda n, x: n.rot90(x),),
    (lambda n, x: n.rot90(x, 3),),
    (lambda n, x: n.roll(x, 2),),
    (lambda n, x: n.roll(x, -1, 0),),
    (lambda n, x: n.roll(x, (1, 2), (0, 1)),),
    (lambda n, x: n.roll(x, (1, 2), 1),),
    (lambda n, x: n.pad(x, 1),),
    (lambda n, x: n.pad(x, (1, 2), constant_values=5),),
    (lambda n, x: n.pad(x, ((1, 0), (0, 2)), constant_values=((1, 2), (3, 4))),),
    (lambda n, x: n.pad(x, ((0, 1), (2, 2)), "edge"),),
    (lambda n, x: n.pad(x, ((0, 5), (7, 2)), "reflect"),),
    (lambda n, x: n.pad(x, ((0, 5), (7, 2)), "symmetric"),),
    (lambda n, x: n.pad(x, ((0, 5), (7, 2)), "wrap"),),
    (lambda n, x: n.meshgrid(x[0], x[:, 0])[0],),
    (lambda n, x: n.meshgrid(x[0], x[:, 0], indexing="ij")[1],),
    (lambda n, x: n.append(x, x[:1], 0),),
    (lambda n, x: n.take(x, np.array([[2, 0]]), 0),),
    (lambda n, x: n.take(x, 3),),
    (lambda n, x: n.take(x, np.array([5, -7]), 1, mode="wrap"),),
    (lambda n, x: n.take(x, np.array([5, -7]), 1, mode="clip"),),
    (lambda n, x: n.take_along_axis(x, np.array([[0, 1], [3, 2], [1, 1]]), 1),),
    (lambda n, x: n.take_along_axis(x, np.array([[2]]), 0),),
    (lambda n, x: n.cumsum(x),),
    (lambda n, x: n.cumsum(x, 1),),
    (lambda n, x: n.cumprod(x, 0),),
]


@pytest.mark.parametrize(("f",), SHAPES)
def test_shapes(f):
    expected = f(np, A)
    same(f(fnp, fnp.asarray(A)), expected)
    same(fgrad.jit(lambda x: f(fnp, x))(A), expected)
    batched = fgrad.vmap(lambda x: f(fnp, x))(np.stack([A, 2 * A]))
    same(batched, np.stack([expected, f(np, 2 * A)]), 1e-5)


SHAPE_ERRORS = [
    (lambda: fnp.reshape(A, (5, -1)), r"reshape: one size may be -1 if the others divide the 12 elements of shape"),
    (lambda: fnp.split(A, 5), r"split: axis 0 must divide into equal parts, got size 3 and 5 parts \(3 % 5 = 3\)"),
    (
        lambda: fnp.broadcast_to(A, (4, 3)),
        r"broadcast_to: sizes must be 1 or those of the result, .*\(3, 4\) and \(4, 3",
    ),
    (lambda: fnp.add(A, A.T), r"add: shapes must broadcast .* got \(3, 4\) and \(4, 3\). Reshape one"),
    (lambda: fnp.asarray(A) + A.T, r"add: shapes must broadcast"),
    (lambda: fnp.squeeze(A, 0), r"squeeze: the axes must have size 1, got axes \(0,\) of shape \(3, 4\)"),
    (lambda: fnp.stack([A, B]), r"stack: shapes must be equal, got \(3, 4\), \(4,\)"),
    (lambda: fnp.concatenate([]), r"concatenate: needs a non-empty sequence of arrays, got \[\]"),
    (lambda: fnp.pad(A, -1), r"pad: widths must not be negative, got -1"),
    (lambda: fnp.pad(A, 1, "mean"), r"pad: mode must be 'constant'.*got 'mean'"),
    (lambda: fnp.sum(A, 2), r"sum: axis must be in \[-2, 2\) for an operand of 2 dimensions, got 2"),
    (lambda: fnp.max(fnp.zeros((0, 3))), r"max: needs initial over the empty axes \(0, 1\)"),
]


@pytest.mark.parametrize(("bad", "message"), SHAPE_ERRORS)
def test_errors_name_shapes(bad, message):
    with pytest.raises(ValueError, match=message):
        bad()


def test_lists_are_refused():
    with pytest.raises(TypeError, match=r"add: operands must be arrays or scalars, got \[1, 2\].*fgrad.numpy.asarray"):
        fnp.add([1, 2], 1)


# --- reductions ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std", "max", "min", "any", "all", "count_nonzero"])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(name, axis, keepdims):
    x = K if name in ("any", "all", "count_nonzero") else A
    expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
    same(getattr(fnp, name)(x, axis=axis, keepdims=keepdims), expected, 1e-5)


def test_reduction_options():
    mask = A > 0
    for name in ("sum", "prod", "mean", "var", "std"):
        same(getattr(fnp, name)(A, axis=1, where=mask), getattr(np, name)(A, axis=1, where=mask), 1e-5)
    same(fnp.max(A, axis=1, where=mask, initial=-1.0), np.max(A, axis=1, where=mask, initial=-1.0))
    same(fnp.sum(A, 0, initial=2.0), np.sum(A, 0, initial=2.0))
    same(fnp.ptp(A, 0), np.ptp(A, 0))
    same(fnp.var(A, 0, ddof=1), np.var(A, 0, ddof=1), 1e-5)
    same(fnp.average(A, 1, weights=abs(A)), np.average(A, 1, weights=abs(A)), 1e-5)
    assert fnp.sum(fnp.zeros((0, 2)), 0).tolist() == [0.0, 0.0]
    assert np.isnan(fnp.mean(fnp.zeros((0,))).item())
    assert fnp.mean(fnp.full(5000, 60000.0, "float16")).item() == 60000.0
    for name in ("argmax", "argmin"):
        for axis in (None, 0, 1):
            same(getattr(fnp, name)(K, axis), getattr(np, name)(K, axis))
            same(getattr(fnp, name)(K, axis, keepdims=True), getattr(np, name)(K, axis, keepdims=True))


def test_nan_reductions():
    x = A.copy()
    x[0, 0] = x[2, 1] = np.nan
    for name in ("nansum", "nanprod", "nanmean", "nanvar", "nanstd", "nanmax", "nanmin"):
        for axis in (None, 0, 1):
            same(getattr(fnp, name)(x, axis), getattr(np, name)(x, axis), 1e-5)
    assert np.isnan(fnp.max(x).item()) and np.isnan(fnp.nanmax(fnp.full(2, np.nan)).item())
    gradient = fgrad.grad(lambda t: fnp.nanmean(t))(x)
    same(gradient, np.where(np.isnan(x), 0, 1 / 10))


# --- products --------------------------------------------------------------------------------------------------------
C = RNG.normal(size=(2, 3, 4)).astype(np.float32)
D = RNG.normal(size=(2, 4, 5)).astype(np.float32)
MATMULS = [(A, B), (B, B), (A, D), (C, D[0]), (C, D), (C[:1], D), (B, D), (C, B), (C[:, None], D[None])]


@pytest.mark.parametrize(("x", "y"), MATMULS)
def test_matmul(x, y):
    same(fnp.matmul(x, y), np.matmul(x, y), 1e-5)
    same(fnp.asarray(x) @ y, np.matmul(x, y), 1e-5)


def test_products():
    same(fnp.dot(C, A.T), np.dot(C, A.T), 1e-5)
    same(fnp.dot(C, D[0]), np.dot(C, D[0]), 1e-5)
    same(fnp.dot(2.0, A), 2 * A)
    same(fnp.inner(C, A), np.inner(C, A), 1e-5)
    same(fnp.outer(A, B), np.outer(A, B))
    same(fnp.vdot(A, A), np.vdot(A, A), 1e-5)
    same(fnp.kron(A, C), np.kron(A, C))
    same(fnp.tensordot(C, D, ((0, 2), (0, 1))), np.tensordot(C, D, ((0, 2), (0, 1))), 1e-5)
    same(fnp.tensordot(A, B, 1), np.tensordot(A, B, 1), 1e-5)
    same(fnp.linalg.vecdot(C, A), np.linalg.vecdot(C, A), 1e-5)
    with pytest.raises(ValueError, match=r"matmul: the last axis .* got 4 and 3 \(shapes \(3, 4\) and \(3, 4\)\)"):
        fnp.matmul(A, A)


EINSUMS = [
    ("ij,j", (A, B)), ("ij->ji", (A,)), ("ij->", (A,)), ("ii", (A[:, :3],)), ("ii->i", (A[:, :3],)),
    ("bij,bjk->bik", (C, D)), ("bij,bjk->ki", (C, D)), ("...ij,...jk", (C, D)), ("...ij,jk->...k", (C, D[0])),
    ("ij,ij->ij", (A, A)), ("i,j->ij", (A[0], B)), ("bij,bjk,k->b", (C, D, D[0, 0])), ("ij,kl->", (A, A)),
    ("b...,b...->...", (C, C)), ("bii->b", (C[:, :, :3],)), ("ij,jk,kl,lm->im", (A, A.T, A, A.T)), ("i...->...", (C,)),
]  # fmt: skip


@pytest.mark.parametrize(("subscripts", "operands"), EINSUMS)
def test_einsum(subscripts, operands):
    same(fnp.einsum(subscripts, *operands), np.einsum(subscripts, *operands), 2e-5)


def test_einsum_errors():
    with pytest.raises(ValueError, match=r"einsum: label 'j' must have one size in 'ij,j', got 4 and 3"):
        fnp.einsum("ij,j", A, A[:, 0])
    with pytest.raises(
        ValueError, match=r"einsum: term 0 must name each axis of its operand, got 'i' \(1 labels\) for 2"
    ):
        fnp.einsum("i->i", A)
    with pytest.raises(ValueError, match=r"einsum: output labels must be distinct and occur in an operand, got 'k'"):
        fnp.einsum("ij->k", A)
    with pytest.raises(ValueError, match=r"einsum: needs one term for each operand, got 1 terms"):
        fnp.einsum("ij", A, B)


@pytest.mark.parametrize("ord", [None, 1, 2, 3, 0, np.inf, -np.inf])
def test_vector_norms(ord):
    same(fnp.linalg.norm(A, ord, axis=1), np.linalg.norm(A, ord, axis=1), 1e-5)


@pytest.mark.parametrize("ord", [None, "fro", 1, -1, np.inf, -np.inf])
def test_matrix_norms(ord):
    same(fnp.linalg.norm(C, ord, axis=(1, 2)), np.linalg.norm(C, ord, axis=(1, 2)), 1e-5)
    same(fnp.linalg.norm(A, ord, keepdims=True), np.linalg.norm(A, ord, keepdims=True), 1e-5)


# --- derivatives -----------------------------------------------------------------------------------------------------
SMOOTH = [
    lambda x: fnp.hypot(x, 2.0), lambda x: fnp.logaddexp(x, 0.3), lambda x: fnp.var(x, 1), lambda x: fnp.std(x),
    lambda x: fnp.cumsum(x, 1), lambda x: fnp.prod(x, 0), lambda x: fnp.einsum("ij,kj->ik", x, x),
    lambda x: fnp.linalg.norm(x), lambda x: fnp.power(fnp.abs(x), 1.7), lambda x: fnp.pad(x, 1, "reflect"),
    lambda x: fnp.remainder(x, 0.7), lambda x: fnp.tril(x) @ x.T, lambda x: fnp.where(x > 0, x, x**3),
    lambda x: fnp.linspace(x[0], x[1], 5), lambda x: fnp.roll(x, 1, 1) * x,
]  # fmt: skip


@pytest.mark.parametrize("f", SMOOTH)
def test_derivatives(f):
    x = A.astype(np.float64)
    v = RNG.normal(size=x.shape)
    h = 1e-6
    _, t = fgrad.jvp(f, (x,), (v,))
    numeric = (np.asarray(f(fnp.asarray(x + h * v))) - np.asarray(f(fnp.asarray(x - h * v)))) / (2 * h)
    np.testing.assert_allclose(np.asarray(t), numeric, rtol=1e-6, atol=1e-7)
    out, pull = fgrad.vjp(f, x)
    ct = RNG.normal(size=out.shape)
    np.testing.assert_allclose(np.sum(np.asarray(pull(ct)[0]) * v), np.sum(ct * np.asarray(t)), rtol=1e-9)
