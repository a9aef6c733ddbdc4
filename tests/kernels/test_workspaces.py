"""Memory for temporaries: used in turn, by larger programs too, and gone with the last program that needs so much."""

import gc
import weakref

import numpy as np
import pytest

from fgrad.kernels.cpu import workspaces
from fgrad.kernels.cpu.driver import Executable
from fgrad.kernels.layout import Layout
from fgrad.kernels.plan import HostStep, Ptr


@pytest.fixture(autouse=True)
def no_others(monkeypatch):
    """Programs of other tests may be alive: their shelves are put away."""
    monkeypatch.setattr(workspaces, "_shelves", weakref.WeakValueDictionary())


def program(nbytes, seen, inside=lambda: None):
    """A program with so many bytes of temporaries, which notes their address."""

    def step(addresses):
        seen.append(addresses[0])
        inside()

    steps = [HostStep(step, (Ptr("arena", 0),))]
    return Executable(steps, n_in=0, outs=[Layout.contiguous(np.int64, (1,))], arena_bytes=nbytes)


def test_programs_use_one_block_in_turn():
    seen = []
    small, large = program(100, seen), program(5000, seen)
    large(), small(), large(), small()
    assert len(set(seen)) == 1 and workspaces.count() == 1 and workspaces.idle_bytes() == 5000


def test_a_larger_program_s_block_takes_the_place_of_smaller_ones():
    seen = []
    small, large = program(100, seen), program(50_000, seen)
    small(), large()
    assert workspaces.count() == 1
    small(), large()
    assert seen[1] == seen[2] == seen[3] and workspaces.idle_bytes() == 50_000


def test_a_call_within_a_call_has_memory_of_its_own():
    seen = []
    inner = program(5000, seen)
    outer = program(5000, seen, inner)
    outer()
    assert len(set(seen)) == 2 and workspaces.count() == 2


def test_memory_goes_with_the_last_program_that_needs_it():
    seen = []
    small, large = program(100, seen), program(1 << 20, seen)
    large(), small()
    assert workspaces.idle_bytes() == 1 << 20
    del large
    gc.collect()
    assert workspaces.idle_bytes() == 0
    small()
    assert workspaces.idle_bytes() == 100


@pytest.mark.parametrize("nbytes", [1, 4096, 4097, 1 << 26, (1 << 26) + 1, 5 << 26])
def test_a_block_is_large_enough(nbytes):
    assert workspaces.shelf_for(nbytes).nbytes >= nbytes
