"""Dtypes meet as in JAX's lattice, with 64-bit types kept as they are given."""

import itertools

import ml_dtypes
import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad.core import dtypes

# https://docs.jax.dev/en/latest/type_promotion.html with 64-bit types; * marks Python's scalars, which are weak.
TABLE = """
     b1  u1  u2  u4  u8  i1  i2  i4  i8  bf  f2  f4  f8  c8  c16 i*  f*  c*
b1   b1  u1  u2  u4  u8  i1  i2  i4  i8  bf  f2  f4  f8  c8  c16 i*  f*  c*
u1   u1  u1  u2  u4  u8  i2  i2  i4  i8  bf  f2  f4  f8  c8  c16 u1  f*  c*
u2   u2  u2  u2  u4  u8  i4  i4  i4  i8  bf  f2  f4  f8  c8  c16 u2  f*  c*
u4   u4  u4  u4  u4  u8  i8  i8  i8  i8  bf  f2  f4  f8  c8  c16 u4  f*  c*
u8   u8  u8  u8  u8  u8  f*  f*  f*  f*  bf  f2  f4  f8  c8  c16 u8  f*  c*
i1   i1  i2  i4  i8  f*  i1  i2  i4  i8  bf  f2  f4  f8  c8  c16 i1  f*  c*
i2   i2  i2  i4  i8  f*  i2  i2  i4  i8  bf  f2  f4  f8  c8  c16 i2  f*  c*
i4   i4  i4  i4  i8  f*  i4  i4  i4  i8  bf  f2  f4  f8  c8  c16 i4  f*  c*
i8   i8  i8  i8  i8  f*  i8  i8  i8  i8  bf  f2  f4  f8  c8  c16 i8  f*  c*
bf   bf  bf  bf  bf  bf  bf  bf  bf  bf  bf  f4  f4  f8  c8  c16 bf  bf  c8
f2   f2  f2  f2  f2  f2  f2  f2  f2  f2  f4  f2  f4  f8  c8  c16 f2  f2  c8
f4   f4  f4  f4  f4  f4  f4  f4  f4  f4  f4  f4  f4  f8  c8  c16 f4  f4  c8
f8   f8  f8  f8  f8  f8  f8  f8  f8  f8  f8  f8  f8  f8  c16 c16 f8  f8  c16
c8   c8  c8  c8  c8  c8  c8  c8  c8  c8  c8  c8  c8  c16 c8  c16 c8  c8  c8
c16  c16 c16 c16 c16 c16 c16 c16 c16 c16 c16 c16 c16 c16 c16 c16 c16 c16 c16
i*   i*  u1  u2  u4  u8  i1  i2  i4  i8  bf  f2  f4  f8  c8  c16 i*  f*  c*
f*   f*  f*  f*  f*  f*  f*  f*  f*  f*  bf  f2  f4  f8  c8  c16 f*  f*  c*
c*   c*  c*  c*  c*  c*  c*  c*  c*  c*  c8  c8  c8  c16 c8  c16 c*  c*  c*
"""
DTYPE = {
    "b1": "bool", "u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64", "i1": "int8", "i2": "int16",
    "i4": "int32", "i8": "int64", "bf": ml_dtypes.bfloat16, "f2": "float16", "f4": "float32", "f8": "float64",
    "c8": "complex64", "c16": "complex128", "i*": "int32", "f*": "float32", "c*": "complex64",
}  # fmt: skip


def operand(name: str) -> tuple[np.dtype, bool]:
    return np.dtype(DTYPE[name]), name.endswith("*")


HEADER, *ROWS = (line.split() for line in TABLE.strip().splitlines())
CELLS = [(row[0], column, want) for row in ROWS for column, want in zip(HEADER, row[1:], strict=True)]
SIGNED = {"i1", "i2", "i4", "i8"}


def expected(a: str, b: str, want: str) -> tuple[np.dtype, bool]:
    """The table's cell; uint64 with a signed integer is a weak float64, as wide as what it replaces."""
    wide = {a, b} & {"u8"} and {a, b} & SIGNED
    return (np.dtype("float64"), True) if wide else operand(want)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_two_dtypes_meet_as_in_the_table(row):
    for b, want in zip(HEADER, row[1:], strict=True):
        assert dtypes.promote(operand(row[0]), operand(b)) == expected(row[0], b, want), (row[0], b)


def test_the_table_is_symmetric():
    cells = {(a, b): want for a, b, want in CELLS}
    assert all(cells[b, a] == want for (a, b), want in cells.items())


def test_promotion_is_associative_for_strong_dtypes():
    """Except where uint64 meets a signed integer: that float is weak and yields to a narrower one."""
    strong = [n for n in HEADER if not n.endswith("*")]
    for a, b, c in itertools.product(strong, repeat=3):
        if {"u8"} & {a, b, c} and SIGNED & {a, b, c}:
            continue
        left = dtypes.promote(dtypes.promote(operand(a), operand(b)), operand(c))
        assert left == dtypes.promote(operand(a), operand(b), operand(c)), (a, b, c)


def test_weak_operands_alone_keep_their_width():
    assert dtypes.promote((dtypes.float64, True), (dtypes.float32, True)) == (dtypes.float64, True)
    assert dtypes.promote((dtypes.int64, True), (dtypes.int32, True)) == (dtypes.int64, True)


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64", "complex128"])
def test_64_bit_arrays_stay_64_bit(dtype):
    x = np.ones(3, dtype)
    assert fnp.asarray(x).dtype == dtype
    assert (fnp.asarray(x) + 1).dtype == dtype
    assert fgrad.jit(lambda a: a * 2)(x).dtype == dtype


def test_python_scalars_are_weak():
    x = fnp.asarray(np.ones(2, np.float16))
    assert (x * 2.5).dtype == np.float16 and not (x * 2.5).weak_type
    assert fnp.asarray(2.5).dtype == np.float32
    assert (fnp.asarray(np.int8([1])) * 2.5).dtype == np.float32


def test_creation_defaults_to_32_bits():
    assert fnp.zeros(2).dtype == np.float32
    assert fnp.arange(3).dtype == np.int32
    assert fnp.asarray([1j]).dtype == np.complex64


def test_a_python_int_beyond_32_bits_is_not_wrapped():
    assert fnp.asarray(2**40).dtype == np.int64 and int(fnp.asarray(2**40)) == 2**40


@pytest.mark.parametrize(
    ("given", "dtype"),
    [(bool, "bool"), (int, "int32"), (float, "float32"), (complex, "complex64"), (">f8", "float64"), ("i2", "int16")],
)
def test_canonical_dtypes(given, dtype):
    out = dtypes.canonical(given)
    assert out == np.dtype(dtype) and out.isnative


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("bool", "bool"), ("int8", "i8"), ("uint64", "u64"), ("float16", "f16"), ("complex128", "c128")],
)
def test_short_names(dtype, name):
    assert dtypes.short_name(np.dtype(dtype)) == name


def test_short_names_of_dtypes_numpy_has_not():
    assert dtypes.short_name(dtypes.bfloat16) == "bf16"
    assert dtypes.short_name(fgrad.float0) == "float0"


@pytest.mark.oracle("jax")
def test_the_table_is_jax_s(jax):
    jnp = jax.numpy
    python = {"i*": 1, "f*": 1.0, "c*": 1j}
    values = {n: jnp.asarray(python[n]) if n in python else jnp.ones((), DTYPE[n]) for n in HEADER}
    for a, b, want in CELLS:
        got = values[a] + values[b]
        assert got.weak_type == want.endswith("*"), (a, b)
        if not got.weak_type:
            assert got.dtype == DTYPE[want], (a, b)
