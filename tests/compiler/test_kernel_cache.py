"""Emitted kernels are compiled once for each structure: not for each size, and not again in the next process."""

import os
import subprocess
import sys

import numpy as np

import fgrad
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.kernels.cpu import jit as engine
from fgrad.kernels.cpu.tile_spec import TileSpec


def step(params, x, y):
    def loss(p):
        h = fnp.tanh(lax.conv_general_dilated(x, p["k"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
        logits = h.reshape(h.shape[0], -1) @ p["w"] + p["b"]
        logits = logits - fnp.max(logits, axis=1, keepdims=True)
        log_p = logits - fnp.log(fnp.sum(fnp.exp(logits), axis=1, keepdims=True))
        return -fnp.mean(log_p[fnp.arange(len(y)), y])

    value, grads = fgrad.value_and_grad(loss)(params)
    return value, fgrad.tree.tree_map(lambda p, g: p - 0.1 * g, params, grads)


def compiled():
    """All that has been compiled but register tiles, of which there are few: a new size may ask for another one."""
    return {spec for spec, _ in engine._addresses if not isinstance(spec, TileSpec)}


def run(f, batch, size=8):
    rng = np.random.default_rng(0)
    params = {
        "k": rng.standard_normal((3, 3, 1, 8)).astype(np.float32),
        "w": rng.standard_normal((size * size * 8, 10)).astype(np.float32) * 0.01,
        "b": np.zeros(10, np.float32),
    }
    x = rng.standard_normal((batch, size, size, 1)).astype(np.float32)
    y = rng.integers(0, 10, batch).astype(np.int32)
    return f(params, x, y)


def test_a_new_batch_size_compiles_nothing():
    """Once a small and a large batch have run: a small product has its own kernel, a large sum one that adds parts."""
    f = fgrad.jit(step)
    run(f, 3)
    run(f, 100)
    before = compiled()
    for batch in (5, 12, 17, 33, 64, 200):
        run(f, batch)
    assert compiled() == before


def test_another_constant_compiles_nothing():
    def update(p, g, rate):
        return fgrad.jit(lambda p, g: p - rate * g / (fnp.abs(g) + 1e-8))(p, g)

    x = np.ones((5, 7))
    update(x, x, 0.1)
    before = compiled()
    assert float(update(x, x, 0.25)[0, 0]) == 1 - 0.25 / (1 + 1e-8)
    update(x, x, 3e-4)
    assert compiled() == before


def test_a_new_image_size_compiles_nothing():
    f = fgrad.jit(step)
    run(f, 3)
    run(f, 100)
    before = compiled()
    run(f, 16, size=10)
    assert compiled() == before


def test_equal_structures_share_a_kernel():
    x = np.ones((5, 7))
    fgrad.jit(lambda x: fnp.sin(x) * 3 + x)(x)
    before = compiled()
    fgrad.jit(lambda y: y + fnp.sin(y) * 3)(np.ones((2, 3, 4)))  # another order of the sum is another structure
    fgrad.jit(lambda y: fnp.sin(y) * 3 + y)(np.ones((2, 3, 4)))
    assert len(compiled() - before) <= 1


PROCESS = """
import numpy as np, fgrad, fgrad.numpy as fnp
f = fgrad.jit(fgrad.value_and_grad(lambda w, x: fnp.sum(fnp.tanh(x @ w) ** 2)))
value, g = f(np.ones((8, 4)), np.ones((1000, 8)))
print(float(value).hex(), float(fnp.sum(g)).hex())
"""


def files(folder):
    """Kernels on disk, with when they were written."""
    kept = [p for p in folder.rglob("*") if p.is_file()]
    return {p.relative_to(folder): p.stat().st_mtime_ns for p in kept}


def test_a_second_process_compiles_nothing(tmp_path):
    """A kernel that is compiled is written to the folder: the second process writes none."""
    environment = os.environ | {"FGRAD_CACHE_DIR": str(tmp_path)}

    def process():
        out = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, env=environment)
        assert out.returncode == 0, out.stderr
        return out.stdout

    first = process()
    written = files(tmp_path)
    assert {p.parent.name for p in written} == {"emitted", "library", "tiles"}
    assert process() == first
    assert files(tmp_path) == written


def test_a_damaged_file_is_compiled_again(tmp_path):
    environment = os.environ | {"FGRAD_CACHE_DIR": str(tmp_path)}
    code = "import numpy as np, fgrad, fgrad.numpy as fnp; print(fgrad.jit(lambda x: fnp.cbrt(x) - 4)(np.ones(3)))"

    def process():
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)

    first = process().stdout
    objects = list(tmp_path.rglob("*.o"))
    assert objects
    for path in objects:
        path.write_bytes(path.read_bytes()[:100])
    again = process()
    assert again.stdout == first and not again.stderr
    assert all(path.stat().st_size > 100 for path in objects)


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    environment = os.environ | {"FGRAD_CACHE_DIR": str(blocked / "cache")}
    code = "import numpy as np, fgrad, fgrad.numpy as fnp; print(fgrad.jit(lambda x: x + 4)(np.ones(3)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip() == "[5. 5. 5.]"
