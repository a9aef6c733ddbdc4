"""Arrays cross to NumPy, to DLPack consumers and back; nobody can write into one."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad.core import dtypes

DTYPES = ["bool", "int8", "uint8", "int32", "uint64", "float16", "float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_asarray_keeps_dtype_and_values(dtype):
    source = np.arange(6).reshape(2, 3).astype(dtype)
    out = np.asarray(fnp.asarray(source))
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, source)


def test_bfloat16_crosses_as_ml_dtypes():
    assert np.asarray(fnp.ones(2, "bfloat16")).dtype == dtypes.bfloat16


def test_asarray_with_a_dtype_or_copy():
    x = fnp.asarray(np.float32([1.5, 2.5]))
    assert np.asarray(x, np.int64).tolist() == [1, 2]
    copied = np.array(x)
    copied[0] = 9
    assert x.tolist() == [1.5, 2.5]
    assert np.asarray(x, copy=False).base is not None
    with pytest.raises(ValueError) as e:
        np.asarray(x, np.float64, copy=False)
    assert str(e.value) == "asarray: float32 to float64 needs a copy, got copy=False. Drop it."


def test_numpy_functions_take_arrays():
    assert np.concatenate([fnp.zeros(1), fnp.ones(1)]).tolist() == [0, 1]
    assert isinstance(np.sin(fnp.zeros(2)), np.ndarray)


def test_operators_with_numpy_give_arrays():
    x, y = fnp.ones(2), np.ones(2, np.float32)
    for out in (x + y, y + x, y * x, y @ x, y < x, np.float32(2) * x):
        assert isinstance(out, fgrad.Array), out


@pytest.mark.parametrize("dtype", [d for d in DTYPES])
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 3)])
def test_dlpack_to_numpy(dtype, shape):
    source = np.arange(6).astype(dtype)[: int(np.prod(shape))].reshape(shape)
    out = np.from_dlpack(fnp.asarray(source))
    assert out.dtype == source.dtype and out.shape == shape
    np.testing.assert_array_equal(out, source)


@pytest.mark.parametrize("copy", [None, True])
def test_dlpack_consumers_get_memory_of_their_own(copy):
    x = fnp.asarray([1.0, 2.0])
    mine = np.from_dlpack(x, copy=copy)
    assert not np.shares_memory(mine, np.asarray(x))


def test_dlpack_without_a_copy_is_read_only():
    x = fnp.asarray([1.0, 2.0])
    shared = np.from_dlpack(x, copy=False)
    assert np.shares_memory(shared, np.asarray(x)) and not shared.flags.writeable
    with pytest.raises(BufferError, match="readonly"):
        x.__dlpack__(copy=False)  # an old consumer, which cannot be told


def test_dlpack_of_a_donated_array_is_refused():
    x = fnp.ones(2)
    fgrad.jit(lambda a: a + 1, donate_argnums=0)(x)
    with pytest.raises(fgrad.errors.DonatedArrayError):
        np.from_dlpack(x)


def test_dlpack_of_a_strided_view():
    x = fnp.asarray(np.arange(6.0).reshape(2, 3)).T
    np.testing.assert_array_equal(np.from_dlpack(x), np.arange(6.0).reshape(2, 3).T)


def test_dlpack_device_is_the_cpu():
    assert fnp.ones(2).__dlpack_device__() == (1, 0)


def test_dlpack_from_numpy_copies():
    source = np.arange(3.0)
    x = fnp.from_dlpack(source)
    source[:] = -1
    assert x.tolist() == [0, 1, 2]


def test_the_array_api_namespace():
    assert fnp.ones(2).__array_namespace__() is fnp


@pytest.mark.oracle("torch")
def test_dlpack_with_torch(torch):
    x = fnp.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    t = torch.from_dlpack(x)
    assert t.tolist() == x.tolist()
    t += 1
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]
    back = fnp.from_dlpack(t)
    t += 1
    assert back.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.oracle("torch")
def test_torch_bfloat16_and_strides(torch):
    x = fnp.from_dlpack(torch.arange(6, dtype=torch.float64).reshape(2, 3).T)
    assert x.shape == (3, 2) and x.tolist() == [[0, 3], [1, 4], [2, 5]]
