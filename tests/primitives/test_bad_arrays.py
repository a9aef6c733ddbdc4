"""Arrays as they come: any memory, sizes 0 and 1, more than 2^31 elements.  Values are NumPy's, on plain copies."""

import itertools

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided, sliding_window_view

import fgrad
import fgrad.numpy as fnp
from fgrad import lax

NHWC = ("NHWC", "HWIO", "NHWC")
DTYPES = ["float32", "float64", "int32"]


def numbers(shape, dtype, seed=0):
    """Small whole numbers, so that sums are exact in every dtype and order."""
    return np.random.default_rng(seed).integers(-9, 9, shape).astype(dtype)


def conv(x, w, stride=1, pad=1):
    return lax.conv_general_dilated(x, w, (stride,) * 2, [(pad, pad)] * 2, dimension_numbers=NHWC)


def numpy_conv(x, w, stride=1, pad=1):
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = ((x.shape[i] - w.shape[i - 1]) // stride + 1 for i in (1, 2))
    out = np.zeros((x.shape[0], height, width, w.shape[3]), x.dtype)
    for a, b in np.ndindex(w.shape[:2]):
        rows, columns = (slice(start, start + (n - 1) * stride + 1, stride) for start, n in ((a, height), (b, width)))
        out += x[:, rows, columns] @ w[a, b]
    return out


def pool(x):
    low = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    return lax.reduce_window(x, low, lax.max, (1, 2, 2, 1), (1, 2, 1, 1), "VALID")


def numpy_pool(x):
    return sliding_window_view(x, (2, 2), (1, 2))[:, ::2].max((-2, -1))


INDICES = np.array([3, 1, -1])

# (shapes, ours, NumPy's)
OPERATIONS = {
    "conv": ([(2, 6, 5, 3), (3, 3, 3, 4)], conv, numpy_conv),
    "matmul": ([(3, 7, 9), (9, 5)], fnp.matmul, np.matmul),
    "add": ([(4, 7), (4, 7)], fnp.add, np.add),
    "sum": ([(4, 7, 3)], lambda x: fnp.sum(x, 1), lambda x: x.sum(1, dtype=x.dtype)),
    "max": ([(4, 7, 3)], lambda x: fnp.max(x, (0, 2)), lambda x: x.max((0, 2))),
    "pool": ([(2, 6, 5, 3)], pool, numpy_pool),
    "sort": ([(4, 70)], lambda x: fnp.sort(x, 1), lambda x: np.sort(x, 1)),
    "argmax": ([(4, 70)], lambda x: fnp.argmax(x, 1), lambda x: np.argmax(x, 1)),
    "cumsum": ([(4, 70)], lambda x: fnp.cumsum(x, 1), lambda x: np.cumsum(x, 1, dtype=x.dtype)),
    "take": ([(9, 5)], lambda x: fnp.take(x, INDICES, 0), lambda x: x[INDICES]),
    "concatenate": ([(4, 3), (4, 3)], lambda *xs: fnp.concatenate(xs, 1), lambda *xs: np.concatenate(xs, 1)),
}


def in_other_memory(a):
    """The same values: with gaps, backwards, by columns, with bytes swapped, read-only, not aligned."""
    gaps = np.zeros([2 * n + 1 for n in a.shape], a.dtype)[tuple(slice(0, 2 * n, 2) for n in a.shape)]
    gaps[...] = a
    turned = (slice(None, None, -1),) * a.ndim
    frozen = a.copy()
    frozen.flags.writeable = False
    odd = np.ndarray(a.shape, a.dtype, np.zeros(a.nbytes + 1, np.uint8), 1)
    odd[...] = a
    swapped = a.astype(a.dtype.newbyteorder())
    return [gaps, a[turned].copy()[turned], np.asfortranarray(a), swapped, frozen, odd]


def of_shared_memory(shape, dtype):
    """Views in which elements overlap, and in which all rows are one."""
    line = numbers(sum(shape), dtype, 1)
    return [as_strided(line, shape, line.strides * len(shape)), np.broadcast_to(line[: shape[-1]], shape)]


@pytest.mark.parametrize("dtype", [*DTYPES, *(pytest.param(d, marks=pytest.mark.long) for d in ("int64", "int16"))])
@pytest.mark.parametrize("name", OPERATIONS)
def test_any_memory(name, dtype):
    shapes, ours, numpys = OPERATIONS[name]
    compiled = fgrad.jit(ours)
    plain = [numbers(shape, dtype, i) for i, shape in enumerate(shapes)]
    for arguments in [
        *zip(*(in_other_memory(a) for a in plain)),
        *zip(*(of_shared_memory(shape, dtype) for shape in shapes)),
    ]:
        values = [np.array(a, dtype) for a in arguments]
        for f in (ours, compiled):
            got = np.asarray(f(*arguments))
            np.testing.assert_array_equal(got, numpys(*values).astype(got.dtype))
            assert got.dtype.isnative
        for a, value in zip(arguments, values):
            np.testing.assert_array_equal(a, value)  # not written to


# --- sizes 0 and 1 ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES)
def test_convolutions_of_sizes_0_and_1(dtype):
    for n, size, c, k, kernel in itertools.product((0, 1, 2), (0, 1, 4), (0, 1, 3), (0, 1, 4), (0, 1, 3)):
        x, w = numbers((n, size, 4, c), dtype), numbers((kernel, 1, c, k), dtype, 1)
        for stride, pad in ((1, 0), (2, 1)):
            if kernel > size + 2 * pad and size:
                with pytest.raises(ValueError, match="conv_general_dilated: the kernel must not be larger"):
                    conv(x, w, stride, pad)
                continue
            got = np.asarray(conv(x, w, stride, pad))
            if kernel > size + 2 * pad or kernel == 0:  # nothing slides along nothing
                assert got.shape[1] == 0
            else:
                np.testing.assert_array_equal(got, numpy_conv(x, w, stride, pad))


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("axis", range(5))
def test_compiled_convolutions_and_gradients_of_sizes_0_and_1(axis, size):
    sizes = [2, 4, 3, 4, 3]
    sizes[axis] = size
    n, height, c, k, kernel = sizes
    x, w = numbers((n, height, 4, c), "float32"), numbers((kernel, 1, c, k), "float32", 1)
    np.testing.assert_array_equal(fgrad.jit(conv)(x, w), numpy_conv(x, w) if kernel else np.zeros((n, 0, 6, k)))
    of_both = fgrad.grad(lambda x, w: fnp.sum(conv(x, w)), (0, 1))
    for got, want, operand in zip(fgrad.jit(of_both)(x, w), of_both(x, w), (x, w)):
        assert got.shape == operand.shape
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_sizes_0_and_1(dtype):
    for b, m, k, n in itertools.product((0, 1, 2), (0, 1, 5), (0, 1, 5), (0, 1, 5)):
        x, y = numbers((b, m, k), dtype), numbers((b, k, n), dtype, 1)
        np.testing.assert_array_equal(fnp.matmul(x, y), x @ y)


@pytest.mark.parametrize("shape", list(itertools.product((0, 1, 4), repeat=2)), ids=str)
def test_reductions_and_windows_of_sizes_0_and_1(shape):
    x = numbers((3, *shape), "float32")
    for axis in (0, 1, 2, (1, 2), None, ()):
        for name in ("sum", "prod", "max", "min", "any", "all"):
            ours, f = getattr(fnp, name), getattr(np, name)
            try:
                want = f(x, axis=axis)
            except ValueError:
                with pytest.raises(ValueError, match=rf"{name}: "):
                    ours(x, axis=axis)
            else:
                np.testing.assert_array_equal(ours(x, axis=axis), want)
    for name in ("sort", "cumsum"):
        np.testing.assert_array_equal(getattr(fnp, name)(x, 1), getattr(np, name)(x, 1))
    sums = lax.reduce_window(x, np.float32(0), lax.add, (1, 2, 2), (1, 1, 1), [(0, 0), (1, 1), (1, 1)])
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1)])
    np.testing.assert_array_equal(sums, sliding_window_view(padded, (2, 2), (1, 2)).sum((-2, -1)))


# --- more than 2^31 elements -----------------------------------------------------------------------------------------
MANY = 2**31 + 5


@pytest.fixture(scope="module")
def many():
    """2 GiB of zeros, whose pages the system provides when they are written to, and a few numbers far apart."""
    try:
        x = np.zeros(MANY, np.int8)
    except MemoryError:
        pytest.skip("no 2 GiB of address space")
    x[[1, 2**31 - 1, 2**31, -3]] = 1, 3, 5, 7
    return x


READERS = {
    "take": (lambda x: fnp.take(x, np.array([MANY - 3, 2**31, 0])), [7, 5, 0]),
    "index": (lambda x: x[np.array([-3, 2**31 - 1])], [7, 3]),
    "dynamic_slice": (lambda x: lax.dynamic_slice(x, (np.int64(MANY - 4),), (3,)), [0, 7, 0]),
    "slice": (lambda x: x[2**31 - 2 :: 2], [0, 5, 7, 0]),
    "two axes": (lambda x: x[:-5].reshape(2**16, 2**15)[-1, -2:], [0, 3]),
    "map of a slice": (lambda x: x[-5:] * 2 + 1, [11, 1, 15, 1, 1]),
    "reversed": (lambda x: lax.rev(x, (0,))[:4], [0, 0, 7, 0]),
    "windows": (lambda x: lax.reduce_window(x, np.int8(0), lax.max, (4,), (2**28,), "VALID")[-2:], [0, 7]),
    "reduction of columns": (lambda x: fnp.max(x[:-5].reshape(2**24, 2**7)[-4:], 0)[-2:], [0, 3]),
}


@pytest.mark.parametrize("name", READERS)
def test_more_than_2_to_the_31_elements(name, many):
    f, want = READERS[name]
    assert np.asarray(fgrad.jit(f)(many)).tolist() == want


@pytest.mark.long
def test_all_of_more_than_2_to_the_31_elements(many):
    assert fgrad.jit(fnp.max)(many) == 7
    assert fgrad.jit(lambda x: fnp.sum(x, dtype="int64"))(many) == 16
    doubled = np.asarray(fgrad.jit(lambda x: 2 * x)(many))
    assert doubled[-4:].tolist() == [0, 14, 0, 0] and doubled[2**31] == 10
    assert np.asarray(fgrad.jit(lambda x: x.at[np.array([MANY - 1])].set(9))(many))[-3:].tolist() == [7, 0, 9]


def test_an_index_of_more_than_2_to_the_31_elements_needs_64_bits(many):
    with pytest.raises(ValueError) as e:
        fgrad.jit(fnp.argmax)(many)
    assert str(e.value) == (
        "argmax: index_dtype must hold every index, got int32 (at most 2147483647) for axis 0 of size 2147483653. "
        "Use a wider dtype."
    )
    assert fgrad.jit(lambda x: lax.argmax(x, 0, "int64"))(many) == MANY - 3


def test_shapes_larger_than_any_memory():
    assert fgrad.eval_shape(lambda x: fnp.sum(2 * x, 0), fgrad.ShapeDtypeStruct((2**40, 8), "float32")).shape == (8,)
    with pytest.raises(ValueError) as e:
        fgrad.ShapeDtypeStruct((2**40, 2**40), "float32")
    assert str(e.value) == (
        "ShapeDtypeStruct: the result must have less than 2**63 bytes, got 4835703278458516698824704 for "
        "f32[1099511627776,1099511627776]. Ask for smaller sizes."
    )
