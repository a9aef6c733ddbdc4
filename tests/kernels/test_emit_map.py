"""Element-wise kernels: layouts, tiles, several results, in place, loop indices, the engine and its disk cache."""

import ctypes
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from emitted import BFLOAT16, DTYPES, layout_of, run_map, run_plan
from hypothesis import given, settings
from hypothesis import strategies as st

from fgrad import config
from fgrad.kernels.cpu import emit, jit
from fgrad.kernels.cpu.body import Emitted
from fgrad.kernels.cpu.driver import from_plan
from fgrad.kernels.cpu.irtext import KERNEL
from fgrad.kernels.layout import Layout


def add(s, a, b):
    return s.add(a, b)


def sub(s, a, b):
    return s.sub(a, b)


def mul(s, a, b):
    return s.mul(a, b)


def relu(s, x):
    return s.max(x, s.const(0, x.dtype))


def shift(s, x, by):
    return s.add(x, s.const(by, x.dtype))


@st.composite
def views(draw, shape):
    """(array, view of ``shape``): axes permuted, stepped over, reversed or broadcast, at some offset."""
    rank = len(shape)
    order = draw(st.permutations(range(rank)))
    steps = [draw(st.sampled_from([1, 1, 1, -1, 2, -3, 0])) for _ in shape]
    sizes = [1 if steps[a] == 0 else max(1, (shape[a] - 1) * abs(steps[a]) + 1) if shape[a] else 1 for a in order]
    base = np.arange(1, int(np.prod(sizes, dtype=int)) + 4, dtype=np.float32)[3:].reshape(sizes)
    view = base.transpose(np.argsort(order))
    index = []
    for n, step in zip(shape, steps):
        if n == 0:
            index.append(slice(0, 0))
        elif step == 0:
            index.append(slice(None))
        else:
            index.append(slice(None, None, step))
    return np.broadcast_to(view[tuple(index)], shape)


SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 5, 17, 70]), max_size=4).filter(lambda s: np.prod(s, dtype=int) < 20000)


@settings(max_examples=100)
@given(st.data())
def test_any_layout(data):
    shape = tuple(data.draw(SHAPES))
    a, b = data.draw(views(shape)), data.draw(views(shape))
    nodes = [("load", 0), ("load", 1), ("map", sub, (), (0, 1)), ("map", shift, (("by", 2.5),), (2,))]
    first, second = np.empty(shape, np.float32), np.empty(shape[::-1], np.float32).transpose()
    plan = emit.map_plan(shape, [layout_of(a), layout_of(b)], nodes, [(layout_of(first), 3), (layout_of(second), 2)])
    for tile_by_tile in (False, True):
        first[...] = second[...] = np.nan
        run_plan(plan, [a, b], [first, second], tile_by_tile)
        np.testing.assert_array_equal(first, a - b + np.float32(2.5))
        np.testing.assert_array_equal(second, a - b)


@pytest.mark.parametrize("n", [0, 1, 7, 63, 64, 65, 1000, 16384, 16385, 100001])
def test_lengths(n):
    x = np.arange(n, dtype=np.float32) - n // 2
    np.testing.assert_array_equal(run_map(relu, x, out=np.empty_like(x)), np.maximum(x, 0))


@pytest.mark.parametrize("shape", [(130, 257), (3, 130, 257), (300, 3), (2, 300, 70, 2)])
def test_transposed(shape):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape[::-1]).T
    np.testing.assert_array_equal(run_map(shift, x, out=np.empty(shape, np.float32), params=(("by", 0),)), x)


def copy(s, x):
    return x


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_copies_of_every_dtype_are_exact(dtype):
    x = np.arange(-150, 200).astype(np.int64).astype(dtype).reshape(50, 7)
    out = np.empty((50, 7), dtype)
    np.testing.assert_array_equal(run_map(copy, x[::-1], out=out), x[::-1])
    column = run_map(copy, np.broadcast_to(x[:, 3:4], (50, 7)), out=out)
    np.testing.assert_array_equal(column, np.broadcast_to(x[:, 3:4], (50, 7)))


@pytest.mark.parametrize("shape", [(100003,), (37, 70), (5, 6, 7)])
def test_in_place_while_another_result_reads_the_old_value(shape):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    work, other = x.copy(), np.empty_like(x)
    layout = layout_of(x)
    nodes = [("load", 0), ("map", shift, (("by", 1),), (0,)), ("map", mul, (), (0, 0))]
    plan = emit.map_plan(shape, [layout], nodes, [(layout, 1), (layout, 2)])
    run_plan(plan, [work], [work, other])
    np.testing.assert_array_equal(work, x + 1)
    np.testing.assert_array_equal(other, x * x)


@pytest.mark.parametrize("shape", [(4, 5, 6), (300, 70), (1, 40), (40, 1), (3, 1, 9000), (3, 100, 6)])
@pytest.mark.parametrize("dtype", ["int32", "float64", "bfloat16"])
def test_iota(shape, dtype):
    for axis in range(len(shape)):
        kind = BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)
        out = np.empty(shape, kind)
        x = np.broadcast_to(np.ones((), kind), shape)
        nodes = [("iota", axis, dtype), ("load", 0), ("map", add, (), (0, 1))]
        run_plan(emit.map_plan(shape, [layout_of(x)], nodes, [(layout_of(out), 2)]), [x], [out])
        count = np.arange(shape[axis]).astype(kind)
        want = np.broadcast_to(np.expand_dims(count, [a for a in range(len(shape)) if a != axis]), shape) + kind.type(1)
        np.testing.assert_array_equal(out, want)


def test_a_constant_and_an_index_are_different_kernels():
    """The constant 0 and the index along axis 0, each alone over one axis: kernels are looked up by their spec."""
    out = np.empty(4, np.int32)
    for node, want in [(("const", 0, "int32"), [0, 0, 0, 0]), (("iota", 0, "int32"), [0, 1, 2, 3])] * 2:
        run_plan(emit.map_plan((4,), [], [node], [(layout_of(out), 0)]), [], [out])
        assert out.tolist() == want


def test_no_inputs():
    out = np.empty((5, 3), np.int32)
    plan = emit.map_plan((5, 3), [], [("const", 7, "int32")], [(layout_of(out), 0)])
    np.testing.assert_array_equal(run_plan(plan, [], [out])[0], np.full((5, 3), 7))


def test_offsets_count_from_the_pointer():
    x, out = np.arange(20.0), np.zeros(8)
    source, target = Layout(x.dtype, (4,), (-3,), 15), Layout(out.dtype, (4,), (2,), 1)
    run_plan(emit.map_plan((4,), [source], [("load", 0)], [(target, 0)]), [x], [out])
    np.testing.assert_array_equal(out, [0, 15, 0, 12, 0, 9, 0, 6])


def test_a_spec_holds_no_sizes():
    def plan(n, c):
        x, b, y = (np.empty(s, np.float32) for s in ((n, 9, c), (c,), (n, 9, c)))
        b = np.broadcast_to(b, (n, 9, c))
        nodes = [("load", 0), ("load", 1), ("map", add, (), (0, 1))]
        return emit.map_plan((n, 9, c), [layout_of(x), layout_of(b)], nodes, [(layout_of(y), 2)])

    for few, many in ((8, 16), (80, 640)):  # whether innermost loops are short is structure
        assert plan(2, few).steps[0].kernel == plan(64, many).steps[0].kernel
        assert hash(plan(2, few).steps[0].kernel) == hash(plan(64, many).steps[0].kernel)


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), BFLOAT16, np.dtype(bool)], ids=str)
@pytest.mark.parametrize("columns", [3, 6, 10, 16, 31])
def test_rows_of_few_columns_are_walked_through_as_one(columns, dtype):
    """A bias begins again with each row; the kernel is the same for every batch size."""
    rng = np.random.default_rng(columns)
    kernels = set()
    for batch in (1, 2, 5):
        x = rng.integers(-3, 4, (batch, 12, 14, columns)).astype(dtype)
        for bias in (rng.integers(-3, 4, 2 * columns)[::2], rng.integers(-3, 4, columns)[::-1]):
            y, two = np.broadcast_to(bias.astype(dtype), x.shape), np.broadcast_to(x.dtype.type(2), x.shape)
            out, again = np.empty_like(x), np.empty_like(x)
            nodes = [*(("load", k) for k in range(3)), ("map", relu, (), (0,)), ("map", add, (), (3, 1))]
            nodes += [("map", mul, (), (4, 2))]
            plan = emit.map_plan(
                x.shape, [layout_of(a) for a in (x, y, two)], nodes, [(layout_of(out), 4), (layout_of(again), 5)]
            )
            run_plan(plan, [x, y, two], [out, again], tile_by_tile=True)
            np.testing.assert_array_equal(out, np.maximum(x, dtype.type(0)) + y)
            np.testing.assert_array_equal(again, (np.maximum(x, dtype.type(0)) + y) * two)
            kernels.add(plan.steps[0].kernel)
    (kernel,) = kernels
    assert [operand.step for operand in kernel.ins] == ["unit", "cycle", "zero"]


@pytest.mark.parametrize("values", [(0.0, -0.0), (1, True), (1, 1.0), (np.nan, np.inf)])
def test_parameters_that_compare_equal_are_told_apart(values):
    def spec(node):
        layout = Layout.contiguous(np.float32, (3,))
        return emit.map_plan((3,), [layout], [("load", 0), node], [(layout, 1)]).steps[0].kernel

    first, second = values
    assert spec(("map", shift, (("by", first),), (0,))) != spec(("map", shift, (("by", second),), (0,)))
    assert spec(("map", shift, (("by", first),), (0,))) == spec(("map", shift, (("by", first),), (0,)))
    if isinstance(first, float) and isinstance(second, float):
        assert spec(("const", first, "float32")) != spec(("const", second, "float32"))
    assert spec(("const", first, "float32")) == spec(("const", first, "float32"))


def test_through_the_driver_for_any_number_of_threads():
    shape = (700, 300)
    x, b = np.random.default_rng(0).standard_normal(shape).astype(np.float32), np.arange(300, dtype=np.float32)
    out, bias = Layout.contiguous(np.float32, shape), Layout(np.dtype(np.float32), shape, (0, 1))
    nodes = [("load", 0), ("load", 1), ("map", add, (), (0, 1)), ("map", relu, (), (2,))]
    program = from_plan(emit.map_plan(shape, [layout_of(x), bias], nodes, [(out, 3)]), [layout_of(x), bias], [out])
    np.testing.assert_array_equal(program(x, b)[0], np.maximum(x + b, 0))


def test_mistakes_are_named():
    x = Layout.contiguous(np.float32, (3,))
    with pytest.raises(ValueError, match=r"map_plan: layouts must have the loop's shape \(2, 3\), got Layout"):
        emit.map_plan((2, 3), [x], [("load", 0)], [(x, 0)])
    with pytest.raises(ValueError, match=r"no such node, got \('store', 0\)"):
        emit.map_plan((3,), [x], [("store", 0)], [(x, 0)])


def test_loops_become_vectors():
    x = Layout.contiguous(np.float32, (1000,))
    spec = emit.map_plan((1000,), [x, x], [("load", 0), ("load", 1), ("map", add, (), (0, 1))], [(x, 2)])
    engine = jit._get_engine()
    text = jit.ir_text(spec.steps[0].kernel)
    assert "define void @fgrad_kernel(" in text and "fadd contract float" in text
    lanes = (config.cpu_vector_bits() or engine.widest or 128) // 32
    assert f"fadd contract <{lanes} x float>" in str(engine.optimised(text, jit.Emitted.level))
    assert "add" in jit.assembly(spec.steps[0].kernel)


# ---- the disk cache


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(jit, "_addresses", {})
    monkeypatch.setattr(jit, "_engine", None)
    return tmp_path / "emitted"


def double(s, x):
    return s.add(x, x)


def check_double():
    x = np.arange(10, dtype=np.float32)
    np.testing.assert_array_equal(run_map(double, x, out=np.empty_like(x)), 2 * x)


def test_kernels_are_read_back_from_disk(empty_cache, monkeypatch):
    check_double()
    (file,) = empty_cache.iterdir()
    assert file.suffix == ".o"
    monkeypatch.setattr(jit, "_addresses", {})
    monkeypatch.setattr(jit, "_engine", None)
    monkeypatch.setattr(jit._Engine, "optimised", lambda *_: pytest.fail("compiled again"))
    check_double()


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_damaged_files_are_replaced(damage, empty_cache, monkeypatch):
    check_double()
    (file,) = empty_cache.iterdir()
    good = file.read_bytes()
    flipped = good[:200] + bytes([good[200] ^ 1]) + good[201:]
    file.write_bytes({"empty": b"", "cut": good[:100], "flipped": flipped, "other": b"something else"}[damage])
    monkeypatch.setattr(jit, "_addresses", {})
    monkeypatch.setattr(jit, "_engine", None)
    check_double()
    assert file.read_bytes() == good
    assert list(empty_cache.iterdir()) == [file]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("FGRAD_CACHE_DIR", str(blocked))
    monkeypatch.setattr(jit, "_addresses", {})
    monkeypatch.setattr(jit, "_engine", None)
    with pytest.warns(UserWarning, match=r"kernels: cannot keep compiled code in .*file.emitted, got .* Set FGRAD_"):
        check_double()
    assert blocked.read_text() == "not a folder"


def test_code_that_needs_what_another_process_may_lack_is_not_kept(empty_cache):
    class Absolute(Emitted):
        def text(self, native_half, vector_bits):
            return (
                f"declare i64 @labs(i64)\ndefine void @{KERNEL}(i64 %args, i64 %begin, i64 %end, i64 %worker) {{\n"
                "  %at = inttoptr i64 %args to ptr\n  %size = call i64 @labs(i64 %begin) nobuiltin\n"
                "  store i64 %size, ptr %at\n  ret void\n}\n"
            )

    out = np.zeros(1, np.int64)
    kernel = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(jit.address(Absolute()))
    kernel(out.ctypes.data, -7, 0, 0)
    assert out[0] == 7
    assert not empty_cache.exists()


def test_threads_compile_once(empty_cache, monkeypatch):
    compiled = []
    original = jit._Engine.load
    monkeypatch.setattr(jit._Engine, "load", lambda self, spec: compiled.append(spec) or original(self, spec))
    threads = [threading.Thread(target=check_double) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiled) == 1


@pytest.mark.parametrize("bits", ["128", "256"])
def test_narrower_vectors(bits, empty_cache):
    code = """
        import numpy as np
        from emitted import run_fold, run_map
        def relu(s, x): return s.max(x, s.const(0, x.dtype))
        x = np.arange(1003, dtype=np.float32) - 500
        assert (run_map(relu, x, out=np.empty_like(x)) == np.maximum(x, 0)).all()
        assert run_fold("add", x, (0,)) == x.sum(), run_fold("add", x, (0,))
        assert run_fold("argmax", x, (0,), np.int64) == 1002
    """
    env = {"FGRAD_CPU_VECTOR_BITS": bits, "FGRAD_CACHE_DIR": str(empty_cache.parent)}
    run_python(textwrap.dedent(code), env)


def run_python(code, env):
    import os
    import pathlib

    here = pathlib.Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **env, "PYTHONPATH": path})


def test_planning_does_not_load_llvm():
    code = """
        import sys, types, pathlib, importlib.util
        import numpy as np
        from fgrad.kernels.layout import Layout
        from fgrad.kernels.cpu import emit
        x = Layout.contiguous(np.float32, (3,))
        emit.map_plan((3,), [x], [("load", 0)], [(x, 0)])
        emit.fold_plan((3,), [x], [("load", 0)], [emit.Reduce(0, "add", Layout.contiguous(np.float32, ()))], (0,))
        assert "llvmlite" not in sys.modules and "numba" not in sys.modules
    """
    run_python(textwrap.dedent(code), {})
