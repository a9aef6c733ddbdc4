"""examples/check_conv_backward.py: right backward passes pass, and each wrong one is shown on a small problem."""

import importlib.util
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

from fgrad import lax
from fgrad.testing import check_vjp

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("check_conv_backward", ROOT / "examples" / "check_conv_backward.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(example):
    return example.main(["--examples", "50"])


def test_right_ones_pass(example, found):
    assert [found[name] for name in example.RIGHT] == [None] * 3


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ("no kernel flip", "the cotangent of argument 'x' differs at index"),
        ("no dilation of the cotangent", "the cotangent of argument 'x' differs at index"),
        ("the forward's padding for even kernels", "the cotangent of argument 'x' differs at index"),
        ("the sum in place of the mean over the batch", "differs at index"),
        ("leftover rows lost", "vjp must return the cotangent of argument 'x' in the shape of"),
    ],
)
def test_wrong_ones_are_shown_on_a_small_problem(found, mistake, says):
    text = found[mistake]
    assert says in text.splitlines()[0]
    # The problem can be run as it is printed.
    program = text[text.index("    import numpy as np") :].removesuffix(",\n)")
    names = {}
    exec(textwrap.dedent(program), names)
    assert names["lhs"].size + names["rhs"].size <= 16, text
    assert names["out"].size


def test_the_mistakes_show_where_they_must(example, found):
    """An even kernel; a stride; a batch: the counter-examples keep what the mistake is about."""

    def operands(name):
        return [tuple(map(int, shape.split(","))) for shape in re.findall(r"float64\[([\d, ]+)\]", found[name])]

    _, w = operands("the forward's padding for even kernels")
    assert w[2] % 2 == 0 or w[3] % 2 == 0
    x, _ = operands("the sum in place of the mean over the batch")
    assert x[0] == 2 and x[1:] == (1, 1, 1)
    _, w = operands("no kernel flip")
    assert max(w[2:]) > 1
    assert list(found) == [*example.RIGHT, *example.WRONG]
    assert re.search(r"window_strides=\((1, [23]|[23], \d)\)", found["no dilation of the cotangent"])


def test_the_forward_passes_are_lax_s(example):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 7, 6)), rng.standard_normal((4, 3, 3, 2))
    strides, pads = (2, 3), ((1, 2), (-1, 2))
    want = np.asarray(lax.conv_general_dilated(x, w, strides, pads))
    for f in (example.conv, example.conv_numba):
        np.testing.assert_allclose(f(x, w, strides, pads), want, rtol=1e-12, atol=1e-12)


@pytest.mark.oracle("torch")
def test_an_autograd_function(torch):
    """The block of docs/testing.md about PyTorch, and the same function with a mistake."""
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(import torch\n.*?)^```", page, re.MULTILINE | re.DOTALL)
    names = {}
    exec(block, names)

    class Unflipped(names["MyConv"]):
        @staticmethod
        def backward(ctx, ct):
            dx, dw = names["MyConv"].backward(ctx, ct)
            return dx, dw.flip(2, 3)

    with pytest.raises(AssertionError, match=r"the cotangent of argument .* differs at index"):
        check_vjp(Unflipped.apply, names["args"])
