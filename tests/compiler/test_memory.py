"""Where temporaries live: never two at one place while both are needed, and nothing reads what nobody wrote."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import programs

import fgrad
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.compiler.arena import ALIGNMENT, Arena
from fgrad.compiler.program import Program

LIVES = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 12), st.integers(0, 12)).map(
        lambda t: (t[0], min(t[1:]), max(t[1:]))
    ),
    max_size=30,
)


@settings(max_examples=100)
@given(LIVES)
def test_arena_blocks_do_not_overlap_while_alive(lives):
    arena = Arena()
    placed = [(arena.place(nbytes, start, end), nbytes, start, end) for nbytes, start, end in lives]
    for offset, nbytes, _, _ in placed:
        assert offset % ALIGNMENT == 0 and offset + nbytes <= arena.size
    for k, (o, n, s, e) in enumerate(placed):
        for p, m, t, f in placed[:k]:
            if max(n, m) and s <= f and t <= e:
                assert o + max(n, 1) <= p or p + max(m, 1) <= o, "two blocks alive at once share memory"


def test_arena_reuses_what_is_dead():
    arena = Arena()
    a = arena.place(1000, 0, 1)
    b = arena.place(1000, 2, 3)
    c = arena.place(500, 1, 2)
    assert a == b == 0 and c >= 1000 and arena.size <= 2 * 1024


POISON = (
    0xA5  # as a float of either width a number near -1e-16, as an integer a large negative one: both change results
)


def run_poisoned(program, inputs):
    """The program on temporaries and results that hold rubbish beforehand."""
    arrays = (*program.consts, *[np.ascontiguousarray(x).reshape(x.shape) for x in inputs])
    for frame in program.executable._frames:
        if frame.shelf is not None:
            shelf, block = frame.shelf.take()  # the arena and the workers' scratch
            block.memory[:] = POISON
            shelf.blocks.append(block)
    outs = tuple(
        np.frombuffer(bytes([POISON]) * (out.size * out.dtype.itemsize), out.dtype).reshape(out.shape).copy()
        for out in program.outs
    )
    results = list(program.executable(*arrays, outs=outs))
    for j, i in program.passed:
        results[j] = arrays[i]
    return results


def same_bits(got, want):
    for g, w in zip(got, want, strict=True):
        assert np.asarray(g).tobytes() == np.asarray(w).tobytes()


def gradient_of(program):
    def loss(*xs):
        return sum(fnp.sum(y) for y in program(*xs))

    return fgrad.value_and_grad(loss, argnums=tuple(range(len(program.shapes))))


@settings(max_examples=60)
@given(programs(dtypes=("float32", "float64")))
def test_programs_read_only_what_they_wrote(program):
    inputs = program.inputs()
    compiled = Program(fgrad.make_jaxpr(lambda *xs: fgrad.tree.tree_leaves(gradient_of(program)(*xs)))(*inputs))
    want = compiled(inputs)
    same_bits(run_poisoned(compiled, inputs), want)
    same_bits(run_poisoned(compiled, inputs), want)


@settings(max_examples=40)
@given(programs())
def test_sharing_memory_changes_nothing(program):
    """The same program with every temporary at a place of its own."""
    inputs = program.inputs()
    closed = fgrad.make_jaxpr(program.__call__)(*inputs)
    shared = Program(closed)

    def apart(self, nbytes, start, end):
        offset = self.size
        self.size += -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
        return offset

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Arena, "place", apart)
        separate = Program(closed)
    assert shared.arena_bytes <= separate.arena_bytes
    same_bits(shared(inputs), separate(inputs))


def network(params, x):
    for w in params["conv"]:
        x = lax.conv_general_dilated(x, w, (2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = fnp.maximum(x, 0.1 * x)
    x = x.reshape(x.shape[0], -1) @ params["dense"]
    return fnp.mean((x - fnp.max(x, axis=1, keepdims=True)) ** 2)


def network_inputs():
    rng = np.random.default_rng(0)
    params = {
        "conv": [rng.standard_normal(s) * 0.2 for s in ((3, 3, 3, 8), (3, 3, 8, 16), (3, 3, 16, 16))],
        "dense": rng.standard_normal((16 * 2 * 16, 10)) * 0.1,
    }
    return params, rng.standard_normal((4, 16, 16, 3))


def test_a_network_s_training_step_on_poisoned_memory():
    params, x = network_inputs()
    leaves, structure = fgrad.tree.tree_flatten((params, x))

    def step(*xs):
        return fgrad.tree.tree_leaves(fgrad.value_and_grad(network)(*structure.unflatten(xs)))

    compiled = Program(fgrad.make_jaxpr(step)(*leaves))
    want = compiled(leaves)
    assert compiled.arena_bytes > 0
    same_bits(run_poisoned(compiled, leaves), want)


def test_the_same_bits_for_any_number_of_threads(monkeypatch):
    params, x = network_inputs()
    big = np.random.default_rng(1).standard_normal((300, 4000)).astype(np.float32)
    fold = fgrad.jit(lambda a: (fnp.sum(a), fnp.sum(a, axis=0), fnp.sum(a, axis=1), fnp.max(a), a @ a.T, fnp.exp(a)))
    step = fgrad.jit(fgrad.value_and_grad(network))
    results = []
    for threads in ("1", "2", "1"):
        monkeypatch.setenv("FGRAD_NUM_THREADS", threads)
        results.append(fgrad.tree.tree_leaves((step(params, x), fold(big))))
    same_bits(results[1], results[0])
    same_bits(results[2], results[0])


def test_memory_does_not_grow_with_calls():
    f = fgrad.jit(lambda x: fnp.sum(fnp.sin(x).T @ x))
    x = np.ones((32, 32))
    f(x)
    program = f.lower(x).program
    for _ in range(5):
        program([x])
    assert len(program.executable._frames) == 1


def test_compiled_programs_go_with_their_function():
    import gc
    import weakref

    f = fgrad.jit(lambda x: fnp.sin(x) * 2)
    f(1.0)
    closed = next(iter(f.traced.values())).closed
    program = weakref.ref(next(iter(closed.derived.values())).executable)
    assert program() is not None
    del f, closed
    gc.collect()
    assert program() is None
