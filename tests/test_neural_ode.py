"""examples/neural_ode.py: it fits, and its gradient is right."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp

SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "neural_ode.py"


@pytest.fixture(scope="module")
def ode():
    spec = importlib.util.spec_from_file_location("neural_ode", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_short_run(ode, capsys):
    loss, jacobian = ode.main(["--steps", "150", "--paths", "8"])
    text = capsys.readouterr().out
    assert "step  150 of 150: loss" in text and "Jacobian at rest" in text
    assert loss < 0.05
    np.testing.assert_allclose(jacobian, [[0.0, 1.0], [-1.0, -0.2]], atol=0.7)


def test_the_gradient_of_a_path(ode):
    """Through fori_loop in scan in checkpoint in vmap, against central differences along one direction."""
    params = fgrad.tree.tree_map(lambda p: p.astype("float64"), ode.init(fgrad.random.key(0), width=4))
    starts = np.array([[1.0, 0.0], [-0.5, 0.3]])
    paths = np.zeros((2, ode.SAMPLES, 2))
    rng = np.random.default_rng(0)
    direction = fgrad.tree.tree_map(lambda p: rng.standard_normal(p.shape), params)

    def along(h):
        return ode.loss(fgrad.tree.tree_map(lambda p, d: p + h * d, params, direction), starts, paths)

    gradient = fgrad.jit(fgrad.grad(ode.loss))(params, starts, paths)
    leaves = zip(fgrad.tree.tree_leaves(gradient), fgrad.tree.tree_leaves(direction))
    slope = sum(float(fnp.sum(g * d)) for g, d in leaves)
    h = 1e-5
    np.testing.assert_allclose(slope, (along(h) - along(-h)) / (2 * h), rtol=1e-6)
