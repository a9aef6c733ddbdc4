"""What becomes one launch, and orders of operations that must not."""

import re

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import lax, optim

X = np.random.default_rng(0).uniform(-1, 1, (8, 8))


def instructions(f, *args):
    """The program's instruction lines, after checking its results against eager ones."""
    got = fgrad.tree.tree_leaves(fgrad.jit(f)(*args))
    want = fgrad.tree.tree_leaves(f(*[fgrad.tree.tree_map(fnp.asarray, a) for a in args]))
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(g), np.asarray(w), rtol=1e-12, atol=1e-12)
    text = fgrad.jit(f).lower(*args).as_text()
    lines = text.split("\n\n")[-1].splitlines()
    assert int(re.match(r"(\d+) instructions", lines[0])[1]) == len(lines) - 1
    return lines[1:]


@pytest.mark.parametrize(
    "f",
    [
        lambda x: fnp.tanh(fnp.exp(-x) * 2 + 1) / 3,
        lambda x: fnp.where(x > 0, x, 0.1 * x),
        lambda x: (x + 1, x * 2, (x + 1) * (x + 1))[2],
        lambda x: x.T + 1,
        lambda x: fnp.sin(x[::-1, 1:]) * x[0, 0],
        lambda x: x[:, :1] * x + x[2],
        lambda x: lax.broadcasted_iota(np.float64, (8, 8), 1) * x,
        lambda x: (lambda y: (y, y * 2, fnp.exp(y)))(fnp.sin(x)),
        lambda x: fnp.sum(x * x),
        lambda x: fnp.sum(fnp.exp(x.T), axis=0),
        lambda x: (lambda y: (y, fnp.max(y, axis=1)))(fnp.sin(x)),
        fgrad.grad(lambda x: fnp.sum(fnp.tanh(x) ** 2)),
        fgrad.value_and_grad(lambda x: fnp.sum(fnp.tanh(x) ** 2)),
        fgrad.vmap(lambda r: fnp.sin(r) * 2 + r),
        lambda x: fgrad.jit(lambda y: y * 2)(fgrad.jit(fnp.sin)(x)),
    ],
    ids=lambda f: "",
)
def test_one_instruction(f):
    assert len(instructions(f, X)) == 1


def test_folds_in_a_row_are_steps_of_one_launch():
    def log_softmax(x):
        shifted = x - fnp.max(x, axis=1, keepdims=True)
        return shifted - fnp.log(fnp.sum(fnp.exp(shifted), axis=1, keepdims=True))

    (line,) = instructions(log_softmax, X)
    assert line.count("reduce_max") == 1 and "(4 steps, 8 rows at a time)" in line


@pytest.mark.parametrize("optimiser", [optim.sgd(0.1), optim.sgd(0.1, momentum=0.9, nesterov=True)])
def test_an_update_of_one_parameter_is_one_instruction(optimiser):
    def update(g, state, p):
        updates, state = optimiser.update(g, state, p)
        return optim.apply_updates(p, updates), state

    assert len(instructions(update, X, optimiser.init(fnp.asarray(X)), X)) == 1


@pytest.mark.parametrize("optimiser", [optim.adam(1e-3), optim.adamw(1e-3)])
def test_adam_takes_one_instruction_for_all_parameters_and_one_for_its_scalars(optimiser):
    def update(g, state, p):
        updates, state = optimiser.update(g, state, p)
        return optim.apply_updates(p, updates), state

    params = {"w": X, "b": X[0], "c": X[:2]}
    state = optimiser.init(fgrad.tree.tree_map(fnp.asarray, params))
    lines = instructions(update, params, state, params)
    assert len(lines) == 2
    assert "3 maps" in lines[1] and "3 maps" not in lines[0]


def test_large_sums_take_two_steps_whatever_the_number_of_threads():
    lines = instructions(lambda x: fnp.sum(x * x), np.ones((1000, 1000)))
    assert len(lines) == 2


# --- orders that must be kept ----------------------------------------------------------------------------------------
def test_a_loop_does_not_read_what_it_writes():
    """y + yᵀ: the transposed y is read from memory, after the loop that stores it."""
    assert len(instructions(lambda x: (lambda y: y + y.T)(fnp.sin(x)), X)) == 2
    assert len(instructions(lambda x: (lambda y: y * y[::-1])(fnp.sin(x) + 1), X)) == 2


def test_a_loop_is_not_moved_behind_a_reader_of_its_result():
    """a could join c, which runs after b; but b reads aᵀ."""

    def f(x, y, z):
        a, b, c = lax.sin(x), lax.cos(y), lax.tan(z)
        v = a.T
        return b + v, a + c

    instructions(f, X, X * 2, X * 3)


def test_a_loop_is_not_moved_behind_a_kernel_that_reads_it():
    def f(x, y):
        a = lax.sin(x)
        product = a @ y
        return lax.cos(y) + a, product + a

    instructions(f, X, X * 2)


def test_signed_zeros_and_nans_are_different_constants():
    def f(x):
        y = lax.sin(x)
        return y / 0.0, y / -0.0, y * np.nan, y * -np.nan, lax.max(y, fnp.full_like(y, np.nan))

    got = fgrad.jit(f)(X)
    for g, w in zip(got, f(fnp.asarray(X))):
        np.testing.assert_array_equal(np.asarray(g), np.asarray(w))
    assert np.signbit(np.asarray(got[0] * got[1])).all()


def test_many_operands_are_split_over_several_loops():
    xs = [X + k for k in range(60)]
    lines = instructions(lambda *xs: sum(fnp.sin(x) for x in xs), *xs)
    assert 1 < len(lines) < 10


def test_many_results():
    instructions(lambda x: [fnp.sin(x) * k for k in range(40)], X)


# --- the text --------------------------------------------------------------------------------------------------------
def test_text_of_a_program():
    f = fgrad.jit(lambda x: fnp.sum(fnp.sin(x) * 2.0, axis=1))
    assert f.lower(np.ones((4, 8), np.float32)).as_text() == (
        "{ lambda ; a:f32[4,8]. let\n"
        "    b:f32[4,8] = sin a\n"
        "    c:f32[4,8] = broadcast_in_dim[shape=(4,8) broadcast_dimensions=()] 2.0:f32[]\n"
        "    d:f32[4,8] = mul b c\n"
        "    e:f32[4] = reduce_sum[axes=(1,)] d\n"
        "  in (e,) }\n"
        "\n"
        "1 instructions, 0 bytes of temporaries\n"
        "   0  emitted                       1 tiles  sin mul reduce_sum over [4, 8] -> float32[4]"
        "  (add[4, 8] over [1])"
    )


def test_text_names_library_kernels_copies_and_host_calls():
    text = fgrad.jit(lambda x: lax.concatenate([x @ x, x], 0)).lower(X).as_text()
    assert "gemm_float64" in text and "dot_general float64[8, 8] float64[8, 8] -> float64[8, 8]" in text
    assert "copy for concatenate -> float64[16, 8]" in text
    text = fgrad.jit(lambda z: z * 2).lower(X.astype(np.complex64)).as_text()
    assert "host numpy" in text and "(complex numbers)" in text


def test_a_program_without_equations():
    lines = instructions(lambda x, y: (y, x), X, X)
    assert lines == []
    assert fgrad.jit(lambda: ())() == ()
