"""The caches of traces and programs: counted, bounded in entries and bytes, cleared."""

import gc
import threading
import weakref

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
    assert 100_000 * 4 < held < 4 * 100_000 * 4  # once: the calls come one after another
    config.set_cache_limits(nbytes=held // 2)
    f(fnp.ones(7))
    f(fnp.ones(8))
    assert fgrad.cache_info().bytes <= held // 2


def test_the_bytes_are_those_that_a_program_holds():
    before = fgrad.cache_info().bytes
    f = fgrad.jit(lambda x: fnp.cumsum(fnp.sin(x)) @ fnp.cos(x))
    x = fnp.ones(50_000)
    f(x)
    held = fgrad.cache_info().bytes - before
    arena = f.lower(x).explain().arena_bytes
    assert arena >= 2 * x.nbytes and arena <= held < arena + 500_000
    weights = fnp.ones((300, 300))
    before = fgrad.cache_info().bytes
    g = fgrad.jit(lambda n: weights[n])
    g(2)
    assert fgrad.cache_info().bytes - before < 100_000  # the user's array, not the program's


def derived() -> int:
    gc.collect()
    return fgrad.cache_info().by_name["programs of derived functions"]


def test_programs_of_batched_functions_are_counted_and_dropped():
    f, seen = counting()
    for n in range(1, 21):
        fgrad.vmap(f)(fnp.ones((n, 3)))
    assert seen == [(3,)] and derived() == 20 and fgrad.cache_info().entries == 21
    held = fgrad.cache_info().bytes
    config.set_cache_limits(entries=10)
    assert fgrad.vmap(f)(fnp.ones((21, 3))).shape == (21, 3)
    assert derived() < 10 and fgrad.cache_info().entries <= 10 and fgrad.cache_info().bytes < held
    config.set_cache_limits(entries=1000)
    fgrad.clear_caches()
    assert derived() == 0
    fgrad.vmap(f)(fnp.ones((2, 3)))
    assert derived() == 1
    del f
    assert derived() == 0


def test_one_function_keeps_a_bounded_number_of_derived_functions():
    f, _ = counting()
    for n in range(1, 300):
        fgrad.vmap(f)(fnp.ones((n, 1)))
    assert derived() <= 256


def test_checkpointed_functions_count():
    def run(f, n):
        return fgrad.grad(lambda x: f(x).sum())(fnp.ones(n))

    f = fgrad.checkpoint(lambda x: fnp.sin(x) * x)
    for n in range(1, 6):
        run(f, n)
    assert traces() == 5
    config.set_cache_limits(entries=3)
    run(f, 6)
    assert traces() <= 3
    del f
    assert traces() == 0


def test_what_a_trace_holds_goes_with_it():
    class Weights:
        def __init__(self):
            self.w = fnp.ones(3)

    weights = Weights()
    alive = weakref.ref(weights)

    def make(weights):
        return fgrad.jit(lambda x: x * weights.w)

    f = make(weights)
    f(fnp.ones(3)), fgrad.vmap(f)(fnp.ones((2, 3)))
    del f, weights
    gc.collect()
    assert alive() is None


def test_other_threads_may_call_while_entries_are_dropped():
    config.set_cache_limits(entries=5)
    f, _ = counting()
    wrong = []

    def run(seed):
        for n in np.random.default_rng(seed).integers(1, 20, 60).tolist():
            if f(fnp.ones(n)).shape != (n,) or fgrad.vmap(f)(fnp.ones((n, 2))).shape != (n, 2):
                wrong.append(n)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    f(fnp.ones(30))
    assert not wrong and fgrad.cache_info().entries <= 5


def test_info_counts_what_the_limits_bound():
    f, _ = counting()
    f(fnp.ones(2)), fgrad.vmap(f)(fnp.ones((2, 2))), fnp.ones(3) * 2
    info = fgrad.cache_info()
    assert info.entries == 2 and info.by_name["accepted forms of operations"] > 0
    assert info.by_name["traces of jitted functions"] == info.by_name["programs of derived functions"] == 1
    assert (info.max_entries, info.max_bytes) == config.cache_limits()


def test_tables_of_images_are_counted_and_cleared():
    fgrad.clear_caches()
    conv = fgrad.jit(lambda x, w: fgrad.lax.conv(x, w, (1, 1), "SAME"))
    conv(fnp.ones((2, 3, 8, 8)), fnp.ones((4, 3, 3, 3)))
    tables = fgrad.cache_info().by_name["tables of small images"]
    conv(fnp.ones((3, 3, 8, 8)), fnp.ones((4, 3, 3, 3)))
    assert fgrad.cache_info().by_name["tables of small images"] == tables > 0
    fgrad.clear_caches()
    assert fgrad.cache_info().by_name["tables of small images"] == 0


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
