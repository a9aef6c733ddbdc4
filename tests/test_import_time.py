"""What a user pays for before anything is compiled: neither Numba nor LLVM is loaded until a kernel is needed."""

import subprocess
import sys

import pytest

LAZY = {
    "arrays and operators": "x = fnp.ones((2, 3)); y = (x + 1) * x.T[0, 0]; y.tolist()",
    "element-wise functions": "fnp.where(fnp.sin(fnp.arange(3.0)) > 0, 1.0, fnp.exp(fnp.ones(3)))",
    "reductions": "fnp.sum(fnp.ones((2, 3)), axis=1), fnp.max(fnp.ones(3))",
    "grad": "fgrad.grad(lambda x: fnp.sum(fnp.tanh(x) ** 2))(fnp.ones(3))",
    "vmap": "fgrad.vmap(lambda x: x * fnp.cos(x))(fnp.ones((2, 3)))",
    "make_jaxpr": "str(fgrad.make_jaxpr(fgrad.grad(lambda x: fnp.sum(x @ x)))(fnp.ones((3, 3))))",
    "eval_shape": "fgrad.eval_shape(lambda x: x @ x, fnp.ones((3, 3)))",
    "defining a jitted function": "fgrad.jit(lambda x: x + 1)",
}


def loaded_by(code: str) -> list[str]:
    code = (
        f"import sys, threading, fgrad, fgrad.numpy as fnp\n{code}\n"
        "print(*(name for name in ('numba', 'llvmlite') if name in sys.modules), threading.active_count())"
    )
    *modules, threads = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert threads == "1"
    return modules


def test_eager_work_loads_no_compiler():
    assert loaded_by("\n".join(LAZY.values())) == []


@pytest.mark.long
@pytest.mark.parametrize("name", LAZY)
def test_eager_work_loads_no_compiler_one_by_one(name):
    assert loaded_by(LAZY[name]) == []


def test_the_first_call_of_a_jitted_function_does():
    assert "llvmlite" in loaded_by("fgrad.jit(lambda x: x + 1)(fnp.ones(3))")
