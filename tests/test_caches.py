"""The caches of traces and programs: counted, bounded in entries and bytes, cleared."""

import gc

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import config


@pytest.fixture(autouse=True)
def own_limits(monkeypatch):
    monkeypatch.setattr(config, "_overrides", dict(config._overrides))
    fgrad.clear_caches()


def traces() -> int:
    gc.collect()
    return fgrad.cache_info().by_name["traces of jitted functions"]


def counting():
    """A jitted function and the list of shapes it was traced for."""
    seen = []

    @fgrad.jit
    def f(x):
        seen.append(x.shape)
        return x * 2 + 1

    return f, seen


def test_entries_are_counted_and_cleared():
    f, seen = counting()
    for n in (1, 2, 3, 2, 1):
        assert f(fnp.ones(n)).shape == (n,)
    assert seen == [(1,), (2,), (3,)]
    assert traces() == 3
    fgrad.clear_caches()
    assert traces() == 0
    assert f(fnp.ones(2)).tolist() == [3, 3] and seen[-1] == (2,)


def test_the_limit_of_entries_drops_what_was_used_longest_ago():
    f, seen = counting()
    config.set_cache_limits(entries=10)
    for n in range(1, 11):
        f(fnp.ones(n))
    f(fnp.ones(1))  # now the last used
    f(fnp.ones(11))
    assert traces() <= 10
    del seen[:]
    f(fnp.ones(1))
    f(fnp.ones(11))
    assert seen == []
    f(fnp.ones(2))
    assert seen == [(2,)]


def test_the_limit_of_bytes_counts_programs():
    @fgrad.jit
    def f(x):
        y = fnp.sin(x)
        return y[::-1] @ y  # the reversed sine is stored: temporaries as large as the argument

    for n in range(100_000, 100_010):
        f(fnp.ones(n))
    held = fgrad.cache_info().bytes
    assert held > 10 * 100_000 * 4
    config.set_cache_limits(nbytes=held // 2)
    f(fnp.ones(7))
    f(fnp.ones(8))
    assert fgrad.cache_info().bytes <= held // 2


def test_a_function_takes_its_traces_with_it():
    f, _ = counting()
    f(fnp.ones(3))
    assert traces() == 1
    del f
    assert traces() == 0


def test_one_trace_for_every_way_to_pass_an_array():
    f, seen = counting()
    f(fnp.ones(3))
    f(np.ones(3, np.float32))
    f(fnp.ones((3, 2)).T[0])  # not contiguous
    assert fgrad.vmap(f)(fnp.ones((2, 3))).shape == (2, 3)
    assert fgrad.grad(lambda x: f(x).sum())(fnp.ones(3)).tolist() == [2, 2, 2]
    assert seen == [(3,)]


def test_limits_are_checked():
    with pytest.raises(fgrad.errors.ConfigError) as e:
        config.set_cache_limits(entries=0)
    assert str(e.value) == (
        "FGRAD_CACHE_ENTRIES: must be a positive integer, got 0. Set it to a positive integer or unset it."
    )
