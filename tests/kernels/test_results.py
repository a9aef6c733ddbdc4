"""Large results use memory again that nobody holds, and no other."""

import gc
import threading

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad.kernels.cpu import results

N = results.POOLED // 4 + 17
twice = fgrad.jit(lambda x: x * 2)


def address(x):
    return np.asarray(x).__array_interface__["data"][0]


@pytest.fixture(autouse=True)
def fresh_pool():
    results.pool.clear()
    yield
    results.pool.clear()


def argument(n=N):
    return fnp.asarray(np.arange(n, dtype=np.float32))


def test_what_nobody_holds_is_used_again():
    x = argument()
    first = address(twice(x))
    assert [address(twice(x)) for _ in range(3)] == [first] * 3


HOLD = {
    "the array": lambda y: y,
    "NumPy's view of it": np.asarray,
    "a slice": lambda y: np.asarray(y)[5:9],
    "a view of a view": lambda y: np.asarray(y)[::-1][3:].view(np.int32),
    "one element's view": lambda y: np.asarray(y)[:1].reshape(()),
    "a memoryview": lambda y: memoryview(np.asarray(y)),
    "a DLPack array": lambda y: np.from_dlpack(y),
    "a slice by fgrad": lambda y: y[3:11],
    "a closure": lambda y: lambda: y,
    "residuals of a vjp": lambda y: fgrad.vjp(lambda z: z * z, y)[1],
}


EVERY = 2 * np.arange(N, dtype=np.float32)
READ = {"a closure": lambda f: f(), "residuals of a vjp": lambda vjp: vjp(fnp.ones(N, np.float32))[0]}
WANT = {
    "a slice": EVERY[5:9],
    "a view of a view": EVERY[::-1][3:].view(np.int32),
    "one element's view": EVERY[0],
    "a slice by fgrad": EVERY[3:11],
    "residuals of a vjp": 2 * EVERY,
}


@pytest.mark.parametrize("hold", HOLD)
def test_what_is_held_is_left_alone(hold):
    x = argument()
    held = HOLD[hold](twice(x))
    others = [twice(x + k) for k in range(3)]
    assert len({address(y) for y in others}) == 3
    np.testing.assert_array_equal(np.asarray(READ.get(hold, lambda h: h)(held)), WANT.get(hold, EVERY))


def test_another_size_gets_its_own():
    a = twice(argument())
    first = address(a)
    del a
    gc.collect()
    b = twice(argument(N + 1))
    np.testing.assert_array_equal(np.asarray(b), 2 * np.arange(N + 1, dtype=np.float32))
    assert address(twice(argument())) == first  # b has not taken it


def test_what_is_remembered_is_bounded_and_can_be_forgotten():
    kept = [twice(argument(4 * N)) for _ in range(results.MOST // (16 * N) + 5)]
    assert sum(b.nbytes for b in results.pool._blocks) <= results.MOST
    for y in kept:
        np.testing.assert_array_equal(np.asarray(y[-3:]), 2 * np.arange(4 * N - 3, 4 * N, dtype=np.float32))
    assert fgrad.cache_info().by_name["memory of large results"] > 0
    fgrad.clear_caches()
    assert results.pool.count() == 0


def test_threads_never_share_a_block():
    wrong = []

    def work(k):
        mine = fnp.asarray(np.full(N, k, np.float32))
        for _ in range(30):
            y = np.asarray(twice(mine))
            if not (y == 2 * k).all():
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
