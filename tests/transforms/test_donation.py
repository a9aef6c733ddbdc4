"""donate_argnums: memory is reused exactly when nobody else can see it, and donated arrays are gone."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad.errors import DonatedArrayError

SIZES = [5, 100_000]  # small results are plain NumPy arrays, large ones aligned views of their own bytes


def fresh(n, value=1.0):
    """An array nobody else refers to, made by a compiled program."""
    return fgrad.jit(lambda: fnp.full(n, value, "float32"))()


def address(x):
    return x._value.ctypes.data


@pytest.fixture
def step():
    return fgrad.jit(lambda x: x * 2 + 1, donate_argnums=0)


@pytest.mark.parametrize("n", SIZES)
def test_memory_of_an_exclusive_argument_is_reused(step, n):
    x = fresh(n)
    where = address(x)
    for _ in range(3):
        x = step(x)
        assert address(x) == where
    assert np.asarray(x).tolist() == [15.0] * n


@pytest.mark.parametrize("n", SIZES)
def test_memory_is_reused_while_the_donated_names_live_on(step, n):
    x = fresh(n)
    where = address(x)
    y = step(x)
    z = step(y)
    assert address(z) == where
    for gone in (x, y):
        with pytest.raises(DonatedArrayError):
            gone + 1


def shared_by_a_view(x):
    return x[:2], lambda view: np.asarray(view).tolist() == [1, 1]


def shared_by_a_transpose(x):
    return x.reshape(-1, 1).T, lambda view: (np.asarray(view) == 1).all()


def shared_by_numpy(x):
    return np.asarray(x), lambda view: (view == 1).all()


def shared_by_a_memoryview(x):
    return memoryview(np.asarray(x)), lambda view: (np.asarray(view) == 1).all()


def shared_by_dlpack(x):
    return np.from_dlpack(x, copy=False), lambda view: (view == 1).all()


def shared_by_another_array(x):
    return fgrad.jit(lambda a: a)(x), lambda other: (np.asarray(other) == 1).all()


def shared_by_a_closure(x):
    value = x._value
    return (lambda: value), lambda f: (f() == 1).all()


SHARERS = [
    shared_by_a_view,
    shared_by_a_transpose,
    shared_by_numpy,
    shared_by_a_memoryview,
    shared_by_dlpack,
    shared_by_another_array,
    shared_by_a_closure,
]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("share", SHARERS, ids=lambda f: f.__name__)
def test_shared_memory_is_never_overwritten(step, n, share):
    x = fresh(n)
    holder, unchanged = share(x)
    y = step(x)
    assert unchanged(holder)
    assert (np.asarray(y) == 3).all()
    with pytest.raises(DonatedArrayError):
        x.tolist()


def test_a_user_s_numpy_array_is_never_overwritten(step):
    for n in SIZES:
        source = np.ones(n, np.float32)
        assert (np.asarray(step(source)) == 3).all()
        assert (source == 1).all()
        held = fnp.asarray(source)  # holds a copy of its own, which may be given away
        step(held)
        assert (source == 1).all()


def test_a_strided_view_is_never_overwritten(step):
    x = fresh(10)
    y = x[::2]
    assert (np.asarray(step(y)) == 3).all()
    assert (np.asarray(x) == 1).all()


def test_a_pullback_that_holds_a_donated_array_says_so(step):
    x = fresh(5)
    _, pull = fgrad.vjp(lambda a: a * a, x)
    step(x)
    with pytest.raises(DonatedArrayError):
        pull(np.ones(5, np.float32))


def test_a_jitted_function_that_closed_over_a_donated_array_says_so(step):
    x = fresh(5)
    f = fgrad.jit(lambda y: x + y)
    assert f(1.0).tolist() == [2.0] * 5
    step(x)
    with pytest.raises(DonatedArrayError):
        f(1.0)


def test_one_array_given_twice_is_not_overwritten():
    f = fgrad.jit(lambda a, b: (a + 1, b * 10), donate_argnums=(0, 1))
    x = fresh(5)
    a, b = f(x, x)
    assert a.tolist() == [2.0] * 5 and b.tolist() == [10.0] * 5


def test_a_donated_argument_that_is_returned():
    f = fgrad.jit(lambda x: (x, x * 2), donate_argnums=0)
    x = fresh(5)
    same, double = f(x)
    assert same.tolist() == [1.0] * 5 and double.tolist() == [2.0] * 5
    with pytest.raises(DonatedArrayError):
        x + 1


def test_arguments_read_after_the_result_is_written_are_not_overwritten():
    def f(x):
        y = x * 2
        return y, fnp.sum(x) + fnp.sum(y * x[::-1])

    x = fresh(1000, 3.0)
    y, total = fgrad.jit(f, donate_argnums=0)(x)
    assert np.asarray(y).tolist() == [6.0] * 1000 and float(total) == 3000 + 18000


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x[::-1] + 1,
        lambda x: x + x[::-1],
        lambda x: fnp.cumsum(x),
        lambda x: fnp.roll(x, 1) * x,
        lambda x: fnp.concatenate([x[1:], x[:1]]),
        lambda x: (x + 1, x[::-1] * 2),
        lambda x: fnp.sin(x).reshape(8, 8).T.reshape(-1),
        lambda x: (x.reshape(8, 8) @ x.reshape(8, 8)).reshape(-1),
    ],
)
def test_values_do_not_depend_on_donation(f):
    values = np.arange(64.0)
    want = fgrad.jit(f)(values)
    got = fgrad.jit(f, donate_argnums=0)(fnp.asarray(values))
    for g, w in zip(fgrad.tree.tree_leaves(got), fgrad.tree.tree_leaves(want)):
        np.testing.assert_array_equal(np.asarray(g), np.asarray(w))


def test_a_training_step_updates_in_place():
    @fgrad.jit(donate_argnums=(0, 1))
    def update(params, momentum, x):
        grads = fgrad.grad(lambda p: fnp.sum((p["w"] * x) ** 2) + fnp.sum(p["b"] ** 2))(params)
        momentum = fgrad.tree.tree_map(lambda m, g: 0.9 * m + g, momentum, grads)
        return fgrad.tree.tree_map(lambda p, m: p - 0.1 * m, params, momentum), momentum

    params = {"w": fresh(3000), "b": fresh(4)}
    momentum = {"w": fresh(3000, 0.0), "b": fresh(4, 0.0)}
    before = sorted(address(a) for a in fgrad.tree.tree_leaves((params, momentum)))
    for _ in range(3):
        params, momentum = update(params, momentum, np.float32(0.5))
    assert sorted(address(a) for a in fgrad.tree.tree_leaves((params, momentum))) == before


def test_by_name_and_by_keyword():
    f = fgrad.jit(lambda x, y: x + y, donate_argnames="y")
    g = fgrad.jit(lambda x, y: x + y, donate_argnums=1)
    h = fgrad.jit(lambda x, y: x + y, donate_argnums=-1)
    for call in (lambda x, y: f(x, y), lambda x, y: f(x, y=y), lambda x, y: g(x, y=y), lambda x, y: h(x, y)):
        x, y = fresh(5), fresh(5)
        where = address(y)
        assert address(call(x, y)) == where
        assert x.tolist() == [1.0] * 5
        with pytest.raises(DonatedArrayError):
            y.tolist()


def test_donation_inside_a_trace_does_nothing(step):
    x = fresh(5)
    fgrad.make_jaxpr(lambda a: step(a))(x)
    assert fgrad.grad(lambda a: fnp.sum(step(a) * a))(x).tolist() == [5.0] * 5
    assert x.tolist() == [1.0] * 5


def test_complex_programs_donate_too():
    f = fgrad.jit(lambda x: x * 2, donate_argnums=0)
    x = fnp.asarray(np.ones(3, np.complex64))
    assert f(x).tolist() == [2, 2, 2]
    with pytest.raises(DonatedArrayError):
        x.tolist()
