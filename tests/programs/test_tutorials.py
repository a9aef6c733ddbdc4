"""Programs written for JAX run here with their imports exchanged, and give what JAX gives."""

import pathlib
import types

import numpy as np
import pytest

from fgrad import tree

SOURCE = pathlib.Path(__file__).with_name("tutorials.py")
EXCHANGED = {
    "import jax\n": "import fgrad as jax\nimport fgrad.nn\n",
    "import jax.numpy as jnp\n": "import fgrad.numpy as jnp\n",
    "from jax import lax\n": "from fgrad import lax\n",
}
TOLERANCE = 1e-5


def programs(text):
    module = types.ModuleType("tutorials")
    exec(compile(text, str(SOURCE), "exec"), module.__dict__)
    return {f.__name__: f for f in module.PROGRAMS}


def exchanged():
    text = SOURCE.read_text()
    for theirs, ours in EXCHANGED.items():
        assert text.count(theirs) == 1
        text = text.replace(theirs, ours)
    return text


OURS = programs(exchanged())


def results(x, leaves):
    return [np.asarray(leaf) for leaf in leaves(x)]


@pytest.mark.parametrize("name", OURS)
def test_runs(name):
    got = results(OURS[name](), tree.tree_leaves)
    assert got
    assert all(np.isfinite(x).all() for x in got)


@pytest.fixture(scope="module")
def theirs(jax):
    return programs(SOURCE.read_text())


@pytest.mark.oracle
@pytest.mark.parametrize("name", OURS)
def test_equals_jax(jax, theirs, name):
    with jax.enable_x64(False):
        want = results(theirs[name](), jax.tree_util.tree_leaves)
    got = results(OURS[name](), tree.tree_leaves)
    assert [g.shape for g in got] == [w.shape for w in want]
    for g, w in zip(got, want):
        scale = max(1.0, np.abs(w).max(initial=0))
        np.testing.assert_allclose(g.astype(np.float64), w, rtol=0, atol=TOLERANCE * scale)
