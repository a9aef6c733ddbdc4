"""dot_general against einsum, over random axes, layouts, sizes, dtypes and vector widths."""

from __future__ import annotations

import numpy as np
import pytest
from draws import CAST_PRODUCTS, PRODUCTS, random_operand, rng_at_width

from fgrad import config
from fgrad.kernels.cpu import gemm_plan
from fgrad.kernels.cpu.dot import plan_dot_general
from fgrad.kernels.cpu.driver import from_plan
from fgrad.kernels.cpu.tile_spec import TileSpec
from fgrad.kernels.layout import Layout
from fgrad.kernels.reference.contraction import dot_general


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


@pytest.mark.parametrize("dtype, bits", PRODUCTS)
def test_random(monkeypatch, dtype, bits):
    rng = rng_at_width(monkeypatch, dtype, bits)
    for _ in range(60 if dtype == "float32" else 25):
        check(*draw(rng, np.dtype(dtype)))


@pytest.mark.parametrize("dtype", CAST_PRODUCTS)
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


@pytest.mark.parametrize("dtype, bits", PRODUCTS)
def test_panels_pass_over_a_tasks_rows_in_turn(monkeypatch, dtype, bits):
    """All panels in a task, and groups of them of which the last is smaller; the last panel is not full."""
    rng = rng_at_width(monkeypatch, dtype, bits)
    a, b = rng.integers(-4, 5, (800, 3)).astype(dtype), rng.integers(-4, 5, (3, 901)).astype(dtype)
    layouts = [Layout.contiguous(a.dtype, x.shape) for x in (a, b)]
    out = Layout.contiguous(a.dtype, (800, 901))
    for most in (gemm_plan.CHUNK_BYTES, 2048):
        monkeypatch.setattr(gemm_plan, "CHUNK_BYTES", most)
        step = plan_dot_general(layouts, [out], dimension_numbers=PLAIN).steps[-1]
        groups, each = step.args[9], step.args[34]
        assert isinstance(each, int) and each > 1 and (most > 2048 or groups > 1)
        check((a, layouts[0], a), (b, layouts[1], b), PLAIN)


@pytest.mark.parametrize("flip, run_of_one", [(False, False), (True, False), (False, True)])
def test_strides_of_a_dense_run_are_constants(flip, run_of_one):
    """Where A's run is adjacent and B is packed; not where a step of A is a line, nor for a run of one."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-4, 5, (1500, 1 if run_of_one else 24)), rng.integers(-4, 5, (1 if run_of_one else 24, 70))
    a, b = a.astype(np.float32), b.astype(np.float32)
    buffer = np.ascontiguousarray(a.T if flip else a)
    layout = Layout.contiguous(a.dtype, buffer.shape)
    layouts = [layout.transpose((1, 0)) if flip else layout, Layout.contiguous(b.dtype, b.shape)]
    step = plan_dot_general(layouts, [Layout.contiguous(a.dtype, (1500, 70))], dimension_numbers=PLAIN).steps[-1]
    assert {spec.a_step for spec in step.args if isinstance(spec, TileSpec)} == {int(not flip and not run_of_one)}
    check((buffer, layouts[0], a), (b, layouts[1], b), PLAIN)


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
