"""checkpoint: the same values and derivatives, less stored; what is stored follows the policy."""

import itertools
import tracemalloc

import numpy as np
import pytest
from checkpoint_programs import POLICIES, W, X, block, nested, network, operands_of_stack, stack
from custom_programs import JVP_PROGRAMS, OURS, REVERSE, VJP_PROGRAMS
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import debug, lax
from fgrad.ad_checkpoint import saved_residuals
from fgrad.core.check import check_jaxpr
from fgrad.errors import ConcretizationError, UnhashableStaticError
from fgrad.higher_order.checkpoint import checkpoint, remat

COMPOSITIONS = {
    "value": lambda f: f(W),
    "jit": lambda f: fgrad.jit(f)(W),
    "grad": lambda f: fgrad.grad(f)(W),
    "jit grad": lambda f: fgrad.jit(fgrad.grad(f))(W),
    "grad jit": lambda f: fgrad.grad(fgrad.jit(f))(W),
    "value_and_grad": lambda f: fgrad.value_and_grad(f, argnums=(0, 1))(W, X),
    "vmap": lambda f: fgrad.vmap(lambda x: f(W, x))(X),
    "vmap grad": lambda f: fgrad.vmap(fgrad.grad(f), in_axes=(None, 0))(W, X),
    "grad vmap": lambda f: fgrad.grad(lambda ws: fgrad.vmap(lambda x: f(ws, x))(X).sum())(W),
    "jit grad vmap": lambda f: fgrad.jit(fgrad.grad(lambda ws: fgrad.vmap(lambda x: f(ws, x))(X).sum()))(W),
    "jvp": lambda f: fgrad.jvp(f, (W,), (W,)),
    "linearize": lambda f: fgrad.linearize(f, W)[1](W),
    "jvp grad": lambda f: fgrad.jvp(fgrad.grad(f), (W,), (W,)),
    "jit jvp grad": lambda f: fgrad.jit(lambda w: fgrad.jvp(fgrad.grad(f), (w,), (w,)))(W),
    "grad grad": lambda f: fgrad.grad(lambda w: sum(fnp.sum(g * g) for g in fgrad.grad(f)(w)))(W),
    "jit grad grad": lambda f: fgrad.jit(fgrad.grad(lambda w: sum(fnp.sum(g * g) for g in fgrad.grad(f)(w))))(W),
    "grad jit grad": lambda f: fgrad.grad(lambda w: sum(fnp.sum(g * g) for g in fgrad.jit(fgrad.grad(f))(w)))(W),
    "checkpoint": lambda f: fgrad.grad(checkpoint(f))(W),
    "jit checkpoint": lambda f: fgrad.jit(fgrad.grad(checkpoint(fgrad.jit(f))))(W),
}


def assert_same(got, want):
    for g, w in zip(fgrad.tree.tree_leaves(got), fgrad.tree.tree_leaves(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("composition", COMPOSITIONS)
@pytest.mark.parametrize("structure", [network, nested])
@pytest.mark.parametrize("policy", ["default", "dots", "only hidden"])
def test_equals_the_function_itself(structure, policy, composition):
    call = COMPOSITIONS[composition]
    got = call(structure(lambda f: checkpoint(f, policy=POLICIES[policy])))
    assert_same(got, call(structure(lambda f: f)))


@pytest.mark.parametrize("composition", ["grad", "jit grad", "grad grad", "vmap grad", "grad vmap"])
@pytest.mark.parametrize("program", {**JVP_PROGRAMS, **VJP_PROGRAMS})
def test_of_custom_derivatives(program, composition):
    f, call = {**JVP_PROGRAMS, **VJP_PROGRAMS}[program](OURS), REVERSE[composition]
    np.testing.assert_allclose(call(OURS.m, checkpoint(f)), call(OURS.m, f), rtol=1e-11)


# --- what is computed ------------------------------------------------------------------------------------------------
def count(closed, name):
    """Equations of a primitive, inner jaxprs included."""
    found = []
    fgrad.core.jaxpr.walk_eqns(closed.jaxpr, lambda eqn: found.append(eqn.primitive.name))
    return found.count(name)


def test_the_forward_pass_runs_twice_and_behind_a_barrier():
    f = lambda wrap: lambda w: wrap(lambda w: fnp.sum(fnp.sin(fnp.tanh(w)) ** 3))(w)  # noqa: E731
    closed = fgrad.make_jaxpr(fgrad.value_and_grad(f(checkpoint)))(W[0])
    check_jaxpr(closed)
    assert count(closed, "tanh") == 2 and count(closed, "optimization_barrier") == 1
    assert count(fgrad.make_jaxpr(fgrad.value_and_grad(f(lambda f: f)))(W[0]), "tanh") == 1
    simplified = fgrad.jit(fgrad.value_and_grad(f(checkpoint))).lower(W[0]).program.simplified
    assert count(simplified, "tanh") == 2
    merged = (
        fgrad.jit(fgrad.value_and_grad(f(lambda g: checkpoint(g, prevent_cse=False)))).lower(W[0]).program.simplified
    )
    assert count(merged, "tanh") == 1


def test_a_gradient_alone_does_not_compute_unread_results():
    closed = fgrad.make_jaxpr(fgrad.grad(checkpoint(lambda w: fnp.sum(fnp.tanh(w)))))(W[0])
    assert count(closed, "tanh") == 1 and count(closed, "reduce_sum") == 0


def test_recomputation_of_a_block_follows_the_backward_pass_of_the_next():
    """In the program's order of equations: tanh of block k comes after what the cotangent of block k is made of."""
    closed = fgrad.make_jaxpr(fgrad.grad(network(checkpoint)))(W)
    barriers = [i for i, e in enumerate(closed.eqns) if e.primitive.name == "optimization_barrier"]
    calls = [i for i, e in enumerate(closed.eqns) if e.primitive.name == "checkpoint"]
    assert len(barriers) == 3
    for early, late in itertools.pairwise(barriers):
        assert any(early < i < late for i in calls)


def test_eager_gradients_evaluate_once_without_tracing_again():
    traced = []

    @checkpoint
    def f(x):
        traced.append(1)
        return fnp.sin(x)

    for _ in range(3):
        fgrad.grad(f)(1.0)
    assert len(traced) == 1
    f(1.0)
    assert len(traced) == 2  # nothing to differentiate: the function itself


@pytest.mark.parametrize(("groups", "share"), [((8, 4), 1 / 3), ((4, 8), 1 / 3), ((4, 4, 2), 1 / 4)])
def test_a_compiled_gradient_plans_a_third_of_the_memory(groups, share):
    ws, x = operands_of_stack(8)
    plain, less = (fgrad.jit(fgrad.grad(stack(g, checkpoint))) for g in ((32,), groups))
    for got, want in zip(less(ws, x), plain(ws, x)):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6 * float(abs(want).max()))
    assert less.lower(ws, x).program.arena_bytes <= share * plain.lower(ws, x).program.arena_bytes


def peak(f, *args):
    """The most bytes that arrays take at a time while f(*args) is computed."""
    f(*args)
    tracemalloc.start()
    try:
        f(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("groups", [(8, 4), (4, 4, 2)])
def test_an_eager_gradient_takes_two_fifths_of_the_memory(groups):
    ws, x = operands_of_stack(64)
    plain, less = (fgrad.grad(stack(g, checkpoint)) for g in ((32,), groups))
    for got, want in zip(less(ws, x), plain(ws, x)):
        np.testing.assert_array_equal(got, want)
    assert peak(less, ws, x) <= 0.4 * peak(plain, ws, x)


# --- calls -----------------------------------------------------------------------------------------------------------
def test_static_arguments_keywords_and_decorators():
    @checkpoint(static_argnums=(1,))
    def f(x, n, *, scale):
        return sum(fnp.sin(x) for _ in range(n)) * scale["a"]

    want = 3 * np.cos(1.0) * 2
    assert float(fgrad.grad(f)(1.0, 3, scale={"a": 2.0})) == pytest.approx(want)
    assert remat is checkpoint

    @checkpoint(static_argnames="n")
    def g(x, n=2, *, power=1):
        return fnp.sin(x) ** (n if isinstance(n, int) else 0) * power

    for call in (lambda x: g(x, 3), lambda x: g(x, n=3), lambda x: g(n=3, x=x), lambda x: g(x, 3, power=fnp.ones(()))):
        assert float(fgrad.grad(call)(1.0)) == pytest.approx(3 * np.sin(1.0) ** 2 * np.cos(1.0))
        assert float(fgrad.jit(fgrad.grad(call))(1.0)) == pytest.approx(3 * np.sin(1.0) ** 2 * np.cos(1.0))
    assert float(fgrad.grad(lambda x: g(x, True))(1.0)) == pytest.approx(np.cos(1.0))  # True is not 1

    class Model:
        w = 2.0

        @checkpoint
        def __call__(self, x):
            return x * self.w

    with pytest.raises(TypeError, match=r"checkpoint: arguments must be arrays.*in argument 'self' of __call__"):
        fgrad.grad(Model())(1.0)


def test_a_function_that_is_defined_anew_is_split_once():
    asked = []

    def policy(prim, *_, **__):
        asked.append(prim)
        return False

    def loss(x):
        return checkpoint(lambda x: fnp.sin(fnp.sin(x)), policy=policy)(x)

    fgrad.grad(loss)(1.0)
    once = len(asked)
    assert once > 0
    fgrad.grad(loss)(2.0)
    assert len(asked) == once


def test_closed_over_values_are_differentiated():
    f = lambda y: checkpoint(lambda x: fnp.sin(x * y))(2.0)  # noqa: E731
    assert float(fgrad.grad(f)(3.0)) == pytest.approx(2 * np.cos(6.0), rel=1e-6)
    assert float(fgrad.jit(fgrad.grad(f))(3.0)) == pytest.approx(2 * np.cos(6.0), rel=1e-6)


def test_in_the_body_of_a_scan():
    def run(wrap):
        body = wrap(lambda c, w: (fnp.tanh(c @ w), fnp.sum(c)))
        return lambda ws: lax.scan(body, X, ws)[0].sum()

    ws = fnp.stack(W)
    for t in (fgrad.grad, lambda f: fgrad.jit(fgrad.grad(f)), lambda f: fgrad.grad(fgrad.jit(f))):
        assert_same(t(run(checkpoint))(ws), t(run(lambda f: f))(ws))
    assert_same(
        fgrad.grad(lambda w: fgrad.grad(run(checkpoint))(w).sum())(ws),
        fgrad.grad(lambda w: fgrad.grad(run(lambda f: f))(w).sum())(ws),
    )


def test_an_effect_happens_once():
    """In the forward pass, in the order of the calls; the second computation leaves it out."""
    seen = []

    @checkpoint
    def f(x):
        debug.callback(lambda v: seen.append(float(v)), x)
        return fnp.cos(fnp.sin(x))

    chain = lambda x: checkpoint(lambda x: f(f(x)))(x)  # noqa: E731
    scanned = lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=2)[0]  # noqa: E731
    want = [0.5, float(np.cos(np.sin(0.5)))]
    for g in (chain, scanned):
        for t in (
            fgrad.grad,
            fgrad.value_and_grad,
            lambda g: fgrad.jit(fgrad.grad(g)),
            lambda g: fgrad.grad(fgrad.jit(g)),
        ):
            seen.clear()
            t(g)(np.float64(0.5))
            assert seen == pytest.approx(want)
    seen.clear()
    fgrad.grad(fgrad.grad(chain))(np.float64(0.5))
    assert seen == pytest.approx(want)


def test_of_a_scan():
    f = lambda ws: lax.scan(lambda c, w: (fnp.tanh(c @ w), None), X, ws)[0].sum()  # noqa: E731
    ws = fnp.stack(W)
    for t in (fgrad.grad, lambda f: fgrad.jit(fgrad.grad(f)), lambda f: fgrad.grad(fgrad.jit(f))):
        assert_same(t(checkpoint(f))(ws), t(f)(ws))
    assert saved_residuals(checkpoint(f), ws)[0][1] == "from argument 'ws' of <lambda>"
    assert [origin for _, origin in saved_residuals(checkpoint(f), ws)[1:]] == ["from a constant"]


def test_integers_and_unused_results():
    f = checkpoint(lambda x, n: (x * n, n, fnp.cos(x)))
    assert float(fgrad.grad(lambda x: f(x, 3)[0])(1.0)) == 3
    assert float(fgrad.jit(fgrad.grad(lambda x: f(x, 3)[0]))(1.0)) == 3


# --- the barrier -----------------------------------------------------------------------------------------------------
def test_optimization_barrier():
    tree = {"a": fnp.ones(2), "b": 3}
    out = lax.optimization_barrier(tree)
    assert out["a"].tolist() == [1, 1] and int(out["b"]) == 3
    assert lax.optimization_barrier(()) == ()
    f = lambda x: fnp.sum(lax.optimization_barrier((x, x * 2))[1])  # noqa: E731
    assert fgrad.grad(f)(fnp.ones(2)).tolist() == [2, 2]
    assert fgrad.jit(fgrad.grad(f))(fnp.ones(2)).tolist() == [2, 2]
    assert fgrad.vmap(f)(fnp.ones((3, 2))).tolist() == [4] * 3
    text = fgrad.jit(lambda x: fnp.sin(x) + fnp.sin(lax.optimization_barrier(x))).lower(fnp.ones(3)).as_text()
    assert text.count("= sin ") == 2


# --- errors ----------------------------------------------------------------------------------------------------------
@cases(
    (
        "no function",
        TypeError,
        "checkpoint: needs a function, got 3 of type int. Pass a callable.",
        lambda: checkpoint(3),
    ),
    (
        "static_argnums no int",
        TypeError,
        "checkpoint: static_argnums must be ints, got 'x' for block. Count the arguments from 0, or use "
        "static_argnames.",
        lambda: checkpoint(block, static_argnums="x"),
    ),
    (
        "static_argnames unknown",
        ValueError,
        "checkpoint: static_argnames must name parameters of the function, got 'n' for block, which has w, x. Correct "
        "the name.",
        lambda: checkpoint(block, static_argnames=("n",)),
    ),
    (
        "unhashable static argument by name",
        UnhashableStaticError,
        "checkpoint: static arguments must be hashable, got [1] of type list for argument 'n' of <lambda>. Pass a "
        "tuple instead of a list, or do not mark it static.",
        lambda: fgrad.grad(lambda x: checkpoint(lambda x, n: x, static_argnums=1)(x, n=[1]))(1.0),
    ),
    (
        "static_argnums out of range",
        ValueError,
        "checkpoint: static_argnums must name positional parameters of the function, got 2 for block, which takes 2. "
        "Use indices in [-2, 2).",
        lambda: checkpoint(block, static_argnums=2),
    ),
    (
        "unhashable static argument",
        UnhashableStaticError,
        "checkpoint: static arguments must be hashable, got [1] of type list for argument 'n' of <lambda>. Pass a "
        "tuple instead of a list, or do not mark it static.",
        lambda: fgrad.grad(lambda x: checkpoint(lambda x, n: x, static_argnums=1)(x, [1]))(1.0),
    ),
    (
        "an argument that is no array",
        TypeError,
        "checkpoint: arguments must be arrays, scalars or pytrees of them, got 'a' of type str in argument 'n' of "
        "<lambda>. Name it in static_argnums.",
        lambda: fgrad.grad(lambda x: checkpoint(lambda x, n: x)(x, "a"))(1.0),
    ),
    (
        "a result that is no array",
        TypeError,
        "checkpoint: <lambda> must return arrays or pytrees of them, got 'a' of type str for its output. Return "
        "arrays, or leave the value out.",
        lambda: fgrad.grad(lambda x: checkpoint(lambda x: "a")(x))(1.0),
    ),
    (
        "control flow on values",
        ConcretizationError,
        "bool: a value computed from argument 'x' of <lambda> has no value while checkpoint of <lambda> traces it, got "
        "bool[] at HERE. Use fgrad.numpy.where or lax.select instead of 'if', or make the argument static.",
        lambda: fgrad.grad(checkpoint(lambda x: x if x > 0 else -x))(1.0),
    ),
)
def test_messages(error, text, f):
    check(error, text, f)
