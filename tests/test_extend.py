"""Element-wise primitives defined outside the package, and how user-defined primitives are named and found."""

import copy
import importlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from drawn import arrays
from error_checks import check
from user_library import leaky, log_add, near, softsign, solve, system

import fgrad
import fgrad.numpy as fnp
from fgrad import extend
from fgrad.testing import Sample, check_primitive


@pytest.mark.parametrize(
    ("prim", "n", "params"),
    [(softsign, 1, {}), (leaky, 1, {"slope": 0.25}), (log_add, 2, {})],
    ids=["softsign", "leaky", "log_add"],
)
def test_elementwise_obeys_the_laws(prim, n, params):
    shapes = ((2, 3), (), (1,), (0, 3))
    check_primitive(prim, [Sample(tuple(arrays(*[shape] * n)), params, "f") for shape in shapes])


def test_elementwise_calls_promote_and_broadcast():
    assert softsign(3).weak_type
    assert float(softsign(3)) == 0.75
    assert softsign(np.arange(3)).dtype == np.float64
    assert softsign(np.arange(3, dtype=np.int8)).dtype == np.float32
    assert log_add(np.zeros((2, 1), np.float32), np.zeros(3)).aval == fnp.zeros((2, 3), np.float64).aval
    assert leaky(np.float32([-4, 4])).tolist() == [-1, 4]
    assert leaky(np.float32([-4, 4]), slope=0.5).tolist() == [-2, 4]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_elementwise_runs_in_every_float(dtype):
    x = fnp.linspace(-2, 2, 9).astype(dtype)
    for f in (softsign, fgrad.jit(softsign)):
        assert f(x).dtype == x.dtype
        np.testing.assert_allclose(np.float32(f(x)), np.float32(x) / (1 + np.abs(np.float32(x))), rtol=2e-2)


def test_a_bool_result_has_a_zero_tangent():
    x, y = arrays((4,), (4,))
    np.testing.assert_array_equal(near(x, y), fgrad.jit(near)(x, y))
    gradient = fgrad.grad(lambda x: fnp.sum(fnp.where(near(x, y), x, 2 * x)))(x)
    np.testing.assert_array_equal(gradient, np.where(near(x, y), 1, 2))


def test_a_scalar_rule_is_fused():
    (x,) = arrays((64,))
    text = fgrad.jit(lambda x: fnp.sum(softsign(3 * x) + 1)).lower(x).as_text()
    assert text.splitlines()[-2].startswith("1 instructions")
    assert "mul tests.softsign add reduce_sum over [64]" in text


def test_a_numpy_function_runs_between_compiled_parts():
    x, y = arrays((5,), (5,))
    f = fgrad.jit(lambda x, y: 2 * log_add(fnp.sin(x), y))
    assert "(defined from a NumPy function)" in f.lower(x, y).as_text()
    np.testing.assert_allclose(f(x, y), 2 * np.logaddexp(np.sin(x), y), rtol=1e-14)


def test_numpy_functions_get_no_writable_memory_and_share_none():
    seen = []

    def identity(x):
        seen.append(x.flags.writeable)
        return x

    prim = extend.elementwise("tests.identity", numpy=identity)
    x = fnp.arange(3.0)
    out = prim(x)
    assert seen == [False]
    assert not np.shares_memory(np.asarray(out), np.asarray(x))


# --- names, pickles, redefinition ------------------------------------------------------------------------------------
def test_pickles_by_name():
    for prim in (softsign, solve, leaky):
        assert pickle.loads(pickle.dumps(prim)) is prim
        assert copy.deepcopy(prim) is prim
    (loop,) = [e.primitive for e in fgrad.make_jaxpr(fgrad.vmap(solve))(*[x[None] for x in system()]).eqns]
    assert pickle.loads(pickle.dumps(loop)) is loop


def test_unpickling_imports_the_module(tmp_path, monkeypatch):
    (tmp_path / "their_library.py").write_text(
        "from fgrad import extend\ntwice = extend.elementwise('their_library.twice', numpy=lambda x: 2 * x)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    data = pickle.dumps(importlib.import_module("their_library").twice)
    script = f"import pickle, sys; sys.path.insert(0, {str(tmp_path)!r}); print(pickle.loads({data!r})(3))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout == "6.0\n"
    gone = data.replace(b"their_library.twice", b"their_library.thing")
    check(
        LookupError,
        "extend: unpickling needs the primitive to be defined, got 'their_library.thing' of module 'their_library', "
        "which does not define it here. Run its definition first.",
        lambda: pickle.loads(gone),
    )


def test_redefinition_replaces():
    first = extend.elementwise("tests.again", numpy=lambda x: x + 1, scalar=lambda s, x: s.add(x, s.const(1, x.dtype)))
    old = fgrad.jit(first)
    assert float(old(1.0)) == 2
    second = extend.elementwise("tests.again", numpy=lambda x: x + 2, scalar=lambda s, x: s.add(x, s.const(2, x.dtype)))
    assert (float(old(1.0)), float(old(np.float64(1)))) == (2, 2)  # what it was traced with
    assert (float(second(1.0)), float(fgrad.jit(second)(1.0))) == (3, 3)
    assert pickle.loads(pickle.dumps(first)) is second


def test_a_primitive_describes_itself():
    def named(x, *, axis=0):
        """Its documentation."""
        return x

    prim = extend.primitive("tests.named", numpy=named, abstract=lambda x, *, axis: x)
    assert repr(prim) == prim.__name__ == "tests.named"
    assert prim.__doc__ == "Its documentation."
    check(
        TypeError,
        "jit: arguments must be arrays, scalars or pytrees of them, got 'a' of type str in argument 'x' of "
        "tests.named. Pass arrays, or mark the argument static (static_argnums).",
        lambda: fgrad.jit(prim)("a"),
    )


def test_importing_extend_loads_no_compiler():
    script = "import fgrad.extend, sys; print([m for m in ('numba', 'llvmlite') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"
