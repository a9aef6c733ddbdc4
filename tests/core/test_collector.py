"""The collector of reference cycles waits while a program is compiled, and is left as it was found."""

import gc

import numpy as np
import pytest

import fgrad
from fgrad.core import collector


@pytest.fixture(autouse=True)
def as_before():
    running = gc.isenabled()
    yield
    (gc.enable if running else gc.disable)()


@pytest.mark.parametrize("running", [True, False])
def test_the_block_ends_as_it_began(running):
    (gc.enable if running else gc.disable)()
    with collector.paused():
        assert not gc.isenabled()
        with collector.paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled() == running
    with pytest.raises(ZeroDivisionError), collector.paused():
        _ = 1 / 0
    assert gc.isenabled() == running


@pytest.mark.parametrize("compiled", [fgrad.jit, lambda f: fgrad.grad(fgrad.jit(f))])
def test_nothing_is_collected_while_a_program_is_compiled(compiled, monkeypatch):
    from fgrad.compiler import program

    states = []
    simplify = program.simplify
    monkeypatch.setattr(program, "simplify", lambda closed: (states.append(gc.isenabled()), simplify(closed))[1])
    gc.enable()
    compiled(lambda x: (x * x).sum())(np.ones(3))
    assert states and not any(states)
    assert gc.isenabled()
