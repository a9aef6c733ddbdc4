"""dot_general against einsum, over random axes, layouts, sizes, dtypes and vector widths."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from fgrad import config
from fgrad.kernels.cpu.dot import plan_dot_general
from fgrad.kernels.cpu.driver import from_plan
from fgrad.kernels.layout import Layout
from fgrad.kernels.reference.contraction import dot_general

ml_dtypes = pytest.importorskip("ml_dtypes")


def random_operand(rng, shape, dtype, low=-8, high=9):
    """(buffer, layout, view): small integers in an array of any axis order, steps and directions."""
    n = len(shape)
    order = rng.permutation(n) if rng.random() < 0.5 else np.arange(n)
    steps = np.where(rng.random(n) < 0.15, 2, 1)
    buffer = rng.integers(low, high, [shape[d] * int(steps[d]) for d in order]).astype(dtype)
    layout = Layout.contiguous(dtype, buffer.shape).transpose(tuple(int(i) for i in np.argsort(order)))
    layout = layout.slice((0,) * n, layout.shape, tuple(int(s) for s in steps))
    layout = layout.rev(tuple(d for d in range(n) if rng.random() < 0.15))
    flat = buffer.ravel()[layout.offset :] if layout.size else buffer.ravel()
    view = np.lib.stride_tricks.as_strided(flat, layout.shape, [s * buffer.itemsize for s in layout.strides])
    return buffer, layout, view.copy()


def check(lhs, rhs, dimension_numbers):
    (a, a_layout, a_view), (b, b_layout, b_view) = lhs, rhs
    expected = dot_general(a_view, b_view, dimension_numbers=dimension_numbers)
    out = Layout.contiguous(expected.dtype, expected.shape)
    plan = plan_dot_general([a_layout, b_layout], [out], dimension_numbers=dimension_numbers)
    given = np.full(expected.shape, 99, expected.dtype)  # every element must be written
    (result,) = from_plan(plan, [a_layout, b_layout], [out])(a, b, outs=(given,))
    np.testing.assert_array_equal(result, expected, err_msg=f"{a_layout} {b_layout} {dimension_numbers}")


def draw(rng, dtype):
    sizes, odds = [0, 1, 2, 3, 5, 17, 40], [0.02, 0.2, 0.2, 0.2, 0.2, 0.1, 0.08]

    def some(least, most):
        return [int(n) for n in rng.choice(sizes, rng.integers(least, most + 1), p=odds)]

    batch, contract, rows, columns = some(0, 1), some(0, 2), some(0, 2), some(0, 2)

    def operand(free):
        axes = [("b", i) for i in range(len(batch))] + [("k", i) for i in range(len(contract))]
        axes += [("f", i) for i in range(len(free))]
        axes = [axes[i] for i in rng.permutation(len(axes))]
        size = {"b": batch, "k": contract, "f": free}
        shape = tuple(size[kind][i] for kind, i in axes)
        where = [tuple(axes.index((kind, i)) for i in range(len(size[kind]))) for kind in "kb"]
        return random_operand(rng, shape, dtype), where

    lhs, (lhs_contract, lhs_batch) = operand(rows)
    rhs, (rhs_contract, rhs_batch) = operand(columns)
    return lhs, rhs, ((lhs_contract, rhs_contract), (lhs_batch, rhs_batch))


# None: as wide as the host's registers.
@pytest.mark.parametrize(
    "dtype,bits,draws",
    [("float32", 128, 60), ("float32", 256, 60), ("float32", 512, 60), ("int64", 128, 25), ("float64", None, 25),
     ("int32", None, 25)],
)  # fmt: skip
def test_random(monkeypatch, dtype, bits, draws):
    monkeypatch.setattr(config, "vector_bits", lambda: bits)
    rng = np.random.default_rng(zlib.crc32(f"{dtype}{bits}".encode()))
    for _ in range(draws):
        check(*draw(rng, np.dtype(dtype)))


@pytest.mark.parametrize(
    "dtype", ["float16", ml_dtypes.bfloat16, "int8", "int16", "uint8", "uint16", "uint32", "uint64"]
)
def test_random_of_cast_dtypes(dtype):
    rng = np.random.default_rng(7)
    unsigned = np.dtype(dtype).kind == "u"
    for _ in range(15):
        lhs, rhs, numbers = draw(rng, np.dtype(dtype))
        if not unsigned:
            # sums of 16-bit floats must be exact for the comparison: few and small terms
            contracted = np.prod([lhs[1].shape[d] for d in numbers[0][0]], dtype=int)
            if contracted > 4:
                continue
        check(lhs, rhs, numbers)


PLAIN = (((1,), (0,)), ((), ()))


@pytest.mark.parametrize(
    "m,k,n",
    [(1, 300, 300), (300, 300, 1), (1, 1, 1), (2, 5000, 3), (10, 20000, 12), (300, 40, 77), (65, 700, 129), (7, 0, 5)],
)
def test_shapes(m, k, n):
    rng = np.random.default_rng(0)
    for transposed in range(4):
        a, b = rng.integers(-4, 5, (m, k)).astype(np.float32), rng.integers(-4, 5, (k, n)).astype(np.float32)
        layouts = []
        for x, flip in ((a, transposed & 1), (b, transposed & 2)):
            buffer = np.ascontiguousarray(x.T if flip else x)
            layout = Layout.contiguous(x.dtype, buffer.shape)
            layouts.append((buffer, layout.transpose((1, 0)) if flip else layout, x))
        check(*layouts, PLAIN)


def test_broadcast_operand():
    a = np.arange(5, dtype=np.float32)
    layout = Layout(np.dtype(np.float32), (20, 5), (0, 1))
    b = np.arange(15, dtype=np.float32).reshape(5, 3)
    check((a, layout, np.tile(a, (20, 1))), (b, Layout.contiguous(b.dtype, b.shape), b), PLAIN)


def test_float_sums_do_not_depend_on_threads(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((12, 9000)).astype(np.float32), rng.standard_normal((9000, 20)).astype(np.float32)
    layouts = [Layout.contiguous(np.float32, x.shape) for x in (a, b)]
    out = Layout.contiguous(np.float32, (12, 20))
    program = from_plan(plan_dot_general(layouts, [out], dimension_numbers=PLAIN), layouts, [out])
    (first,) = program(a, b)
    monkeypatch.setattr(config, "num_threads", lambda: 1)
    np.testing.assert_array_equal(program(a, b)[0], first)
    np.testing.assert_allclose(first, a.astype(np.float64) @ b, atol=2e-3)


def test_unsupported_dtype():
    layout = Layout.contiguous(np.complex64, (2, 2))
    with pytest.raises(TypeError, match=r"product: dtype must be one of .*, got complex64\. Convert the operands\."):
        plan_dot_general([layout, layout], [layout], dimension_numbers=PLAIN)
