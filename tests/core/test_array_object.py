"""Array as an object: immutable, unhashable, convertible, and gone once donated."""

import copy
import pickle

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad.core import dtypes
from fgrad.core.array import ConcreteArray, aval_of, from_numpy, lift
from fgrad.errors import DonatedArrayError


def message(error, f, *args):
    with pytest.raises(error) as e:
        f(*args)
    assert type(e.value) is error
    return str(e.value)


# --- immutability ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [fnp.asarray, fnp.array, lift, from_numpy])
def test_changing_the_numpy_source_changes_nothing(make):
    source = np.arange(4.0)
    x = make(source)
    source[:] = -1
    assert np.asarray(x).tolist() == [0, 1, 2, 3]


def test_a_view_of_the_source_is_copied_too():
    source = np.arange(6.0).reshape(2, 3)
    x = fnp.asarray(source.T[::-1])
    source[:] = -1
    assert np.asarray(x).tolist() == [[2, 5], [1, 4], [0, 3]]


def test_numpy_sees_a_read_only_view():
    x = fnp.asarray([1.0, 2.0])
    seen = np.asarray(x)
    assert not seen.flags.writeable and seen is not x._value
    assert np.shares_memory(seen, x._value)
    with pytest.raises(ValueError, match="read-only"):
        seen[0] = 5
    assert np.asarray(x).tolist() == [1, 2]


def test_assignment_names_at():
    x = fnp.zeros(3)

    def assign():
        x[0] = 1

    assert message(TypeError, assign) == (
        "setitem: an Array never changes, got an assignment to x[0] of f32[3]. Use x = x.at[index].set(value)."
    )


def test_in_place_operators_make_new_arrays():
    x = y = fnp.ones(2)
    x += 1
    assert np.asarray(y).tolist() == [1, 1] and np.asarray(x).tolist() == [2, 2]


def test_attributes_cannot_be_added():
    with pytest.raises(AttributeError):
        fnp.ones(2).name = "x"


def test_byte_order_becomes_native():
    x = fnp.asarray(np.array([1, 2], ">i4"))
    assert x.dtype == np.int32 and x.dtype.isnative and x.tolist() == [1, 2]


# --- copies, pickles, hashes -----------------------------------------------------------------------------------------
def test_copies_are_the_array_itself():
    x = fnp.ones(2)
    assert copy.copy(x) is x and copy.deepcopy(x) is x
    assert copy.deepcopy({"w": [x]})["w"][0] is x


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "float64", "complex64", dtypes.bfloat16])
@pytest.mark.parametrize("protocol", [2, 5])
def test_pickle(dtype, protocol):
    x = fnp.asarray(np.arange(6).reshape(2, 3).astype(dtype)).T
    y = pickle.loads(pickle.dumps(x, protocol))
    assert isinstance(y, ConcreteArray) and y.dtype == x.dtype and not y.weak_type
    np.testing.assert_array_equal(np.asarray(y), np.asarray(x))


def test_pickle_keeps_scalars_scalar_and_weakness():
    y = pickle.loads(pickle.dumps(lift(2.5)))
    assert y.shape == () and y.weak_type and float(y) == 2.5


def test_hash_is_refused():
    assert message(TypeError, hash, fnp.ones(2)) == (
        "hash: an Array is not hashable, got f32[2]: arrays compare element by element. "
        "Use a tuple of its values, id(x), or pass it as an ordinary (not static) argument."
    )


# --- Python's conversions --------------------------------------------------------------------------------------------
def test_scalars_convert():
    x = fnp.asarray(np.array([[3]], np.int64))
    assert int(x) == 3 and float(x) == 3.0 and complex(x) == 3 + 0j and bool(x)
    assert [10, 20, 30, 40][fnp.asarray(3)] == 40
    assert fnp.asarray(2.5).item() == 2.5 and fnp.asarray([[1, 2]]).item(0, 1) == 2
    assert type(fnp.asarray(1.5, dtypes.bfloat16).item()) is float
    assert fnp.asarray([1.5, 2], dtypes.bfloat16).tolist() == [1.5, 2.0]


def test_conversions_that_cannot_be():
    assert message(ValueError, bool, fnp.ones(2)) == (
        "bool: the truth value of an Array of shape (2,) is ambiguous (2 elements). Use .any() or .all()."
    )
    assert message(ValueError, bool, fnp.ones(0)) == (
        "bool: the truth value of an Array of shape (0,) is ambiguous (0 elements). Use .any() or .all()."
    )
    assert message(ValueError, float, fnp.ones((2, 3))) == (
        "item: needs exactly one element, got shape (2, 3). Index it first."
    )
    assert message(TypeError, lambda i: [1, 2][i], lift(1.0)) == (
        "index: only an integer scalar is an index, got f32[]~. Use int(x) or .item()."
    )


def test_text():
    x = fnp.asarray(np.float32([1, 2.5]))
    assert repr(x) == "Array([1. , 2.5], dtype=float32)" and str(x) == "[1.  2.5]"
    assert repr(lift(2)) == "Array(2, dtype=int32, weak_type=True)"
    assert repr(fnp.asarray(np.ones(2), dtypes.bfloat16)) == "Array([1, 1], dtype=bfloat16)"
    assert repr(fnp.asarray(np.eye(2))) == "Array([[1., 0.],\n       [0., 1.]], dtype=float64)"
    assert f"{fnp.asarray(2.5):.3f}" == "2.500" and f"{x}" == "[1.  2.5]" and f"{x:>12}" == "   [1.  2.5]"


def test_what_cannot_be_an_array():
    assert message(TypeError, lift, "a", "sin") == (
        "sin: operands must be arrays or scalars, got 'a' of type str. "
        "Convert lists and tuples with fgrad.numpy.asarray."
    )
    assert message(TypeError, lift, np.array(["a"])).startswith("dtype: <U1 is not supported")
    assert message(TypeError, lift, np.zeros(1, np.longdouble)).startswith("dtype: ")


def test_subclasses_of_python_scalars_are_scalars():
    class Meters(float):
        pass

    x = lift(Meters(2.5))
    assert x.weak_type and x.dtype == np.float32
    assert aval_of(np.float64(1)).dtype == np.float64 and not lift(np.float64(1)).weak_type


def test_block_until_ready():
    x = fnp.ones(2)
    assert x.block_until_ready() is x


# --- donated arrays --------------------------------------------------------------------------------------------------
def donated():
    x = fnp.ones(3)
    fgrad.jit(lambda a: a + 1, donate_argnums=0)(x)
    return x


GONE = (
    "{}: an Array that was donated to a jitted call must not be used again, got f32[3] (donate_argnums: its memory was "
    "given away). Use the call's result, or do not donate the argument."
)


@pytest.mark.parametrize(
    ("use", "who"),
    [
        (lambda x: x + 1, "add"),
        (lambda x: fnp.sum(x), "sum"),
        (lambda x: np.asarray(x), "Array"),
        (lambda x: x.tolist(), "tolist"),
        (lambda x: x[0], "slice"),
        (lambda x: fgrad.jit(fnp.sin)(x), "jit"),
        (lambda x: fgrad.grad(fnp.sum)(x), "grad"),
        (lambda x: fgrad.vmap(fnp.sin)(x), "vmap"),
        (lambda x: pickle.dumps(x), None),
        (lambda x: str(x), "Array"),
    ],
)
def test_every_use_of_a_donated_array_is_an_error(use, who):
    text = message(DonatedArrayError, use, donated())
    assert text == GONE.format(who) if who else text.endswith(GONE[3:])


def test_a_donated_array_still_says_what_it_was():
    x = donated()
    assert repr(x) == "Array(<donated>, f32[3])"
    assert (x.shape, x.dtype, x.ndim) == ((3,), np.float32, 1)
