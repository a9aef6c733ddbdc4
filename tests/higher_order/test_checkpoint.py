"""checkpoint: the same values and derivatives, less stored; what is stored follows the policy."""

import itertools

import numpy as np
import pytest
from custom_programs import JVP_PROGRAMS, OURS, REVERSE, VJP_PROGRAMS
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.ad_checkpoint import checkpoint_name, print_saved_residuals, saved_residuals
from fgrad.core.check import check_jaxpr
from fgrad.errors import ConcretizationError, UnhashableStaticError
from fgrad.higher_order import checkpoint_policies as policies
from fgrad.higher_order.checkpoint import checkpoint, remat

RNG = np.random.default_rng(0)
W = [fnp.asarray(RNG.standard_normal((4, 4))) for _ in range(3)]
X = fnp.asarray(RNG.standard_normal((5, 4)))


def block(w, x):
    return fnp.tanh(checkpoint_name(fnp.sin(x @ w), "hidden"))


def network(wrap):
    """Three blocks, as a function of the weights."""
    inner = wrap(block)

    def f(ws, x=X):
        for w in ws:
            x = inner(w, x)
        return fnp.sum(x * x)

    return f


def nested(wrap):
    pair = wrap(lambda ws, x: wrap(block)(ws[1], wrap(block)(ws[0], x)))
    return lambda ws, x=X: fnp.sum(wrap(block)(ws[2], pair(ws[:2], x)) ** 2)


POLICIES = {
    "default": None,
    "everything": policies.everything_saveable,
    "nothing": policies.nothing_saveable,
    "dots": policies.dots_saveable,
    "dots without batch": policies.dots_with_no_batch_dims_saveable,
    "only hidden": policies.save_only_these_names("hidden"),
    "all but hidden": policies.save_anything_except_these_names("hidden"),
    "names but hidden": policies.save_any_names_but_these("hidden"),
    "dots and hidden": policies.save_from_both_policies(
        policies.dots_saveable, policies.save_only_these_names("hidden")
    ),
}
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


@pytest.mark.oracle
@pytest.mark.parametrize("policy", POLICIES)
def test_gradients_and_residuals_equal_jax(jax, policy):
    from jax.ad_checkpoint import checkpoint_name as name
    from jax.ad_checkpoint import saved_residuals as theirs

    jnp = jax.numpy
    of_jax = {
        "default": None,
        "everything": jax.checkpoint_policies.everything_saveable,
        "nothing": jax.checkpoint_policies.nothing_saveable,
        "dots": jax.checkpoint_policies.dots_saveable,
        "dots without batch": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        "only hidden": jax.checkpoint_policies.save_only_these_names("hidden"),
        "all but hidden": jax.checkpoint_policies.save_anything_except_these_names("hidden"),
        "names but hidden": jax.checkpoint_policies.save_any_names_but_these("hidden"),
        "dots and hidden": jax.checkpoint_policies.save_from_both_policies(
            jax.checkpoint_policies.dots_saveable, jax.checkpoint_policies.save_only_these_names("hidden")
        ),
    }

    def f(np, name, wrap):
        return wrap(lambda w, x: np.sum(np.sin(name(np.sin(x @ w), "hidden") @ w)))

    jaxs = f(jnp, name, lambda g: jax.checkpoint(g, policy=of_jax[policy]))
    ours = f(fnp, checkpoint_name, lambda g: checkpoint(g, policy=POLICIES[policy]))
    w, x = np.asarray(W[0]), np.asarray(X)
    np.testing.assert_allclose(fgrad.grad(ours)(w, x), jax.grad(jaxs)(w, x), rtol=1e-10)
    np.testing.assert_allclose(fgrad.jit(fgrad.grad(ours))(w, x), jax.grad(jaxs)(w, x), rtol=1e-10)
    shapes = sorted(a.shape for a, _ in saved_residuals(ours, w, x))
    assert len(shapes) <= len(theirs(jaxs, w, x))
    if policy != "everything" and policy != "all but hidden":
        assert shapes == sorted(a.shape for a, _ in theirs(jaxs, w, x))


# --- what is stored --------------------------------------------------------------------------------------------------
def origins(f, *args):
    return sorted(origin.split(" at ")[0] for _, origin in saved_residuals(f, *args))


ARGUMENTS = ["from argument 'w' of block", "from argument 'x' of block"]


@pytest.mark.parametrize(
    ("policy", "stored"),
    [
        ("default", ARGUMENTS),
        ("nothing", ARGUMENTS),
        ("dots", [*ARGUMENTS, "output of dot_general"]),
        ("dots without batch", [*ARGUMENTS, "output of dot_general"]),
        ("only hidden", [*ARGUMENTS, "named 'hidden'"]),
        ("names but hidden", ARGUMENTS),
        ("dots and hidden", [*ARGUMENTS, "named 'hidden'", "output of dot_general"]),
    ],
)
def test_residuals_by_policy(policy, stored):
    assert origins(checkpoint(block, policy=POLICIES[policy]), W[0], X) == stored


def test_everything_is_what_is_stored_without():
    plain, saved = (
        saved_residuals(block, W[0], X),
        saved_residuals(checkpoint(block, policy=POLICIES["everything"]), W[0], X),
    )
    assert sorted(str(a) for a, _ in plain) == sorted(str(a) for a, _ in saved)
    assert len(plain) > 3


def test_a_name_is_also_that_of_the_value_it_was_given_to():
    """The derivative of exp reads its result, which has no name itself."""

    @checkpoint_of("e")
    def f(x):
        return fnp.sin(checkpoint_name(fnp.exp(x), "e"))

    def only_result(x):
        return checkpoint_name(fnp.exp(x), "e")

    assert origins(f, 1.0) == ["named 'e'"]
    assert origins(checkpoint_of("e")(only_result), 1.0) == ["named 'e'"]


def checkpoint_of(name):
    return checkpoint(policy=policies.save_only_these_names(name))


def test_policies_see_primitives_types_and_parameters():
    seen = []

    def policy(prim, *avals, **params):
        seen.append((str(prim), [str(a) for a in avals], sorted(params)))
        return False

    fgrad.grad(lambda w: checkpoint(block, policy=policy)(w, X).sum())(W[0])
    assert ("dot_general", ["f64[5,4]", "f64[4,4]"], ["dimension_numbers", "preferred_element_type"]) in seen


def test_residuals_of_nested_checkpoints_are_the_arguments():
    """The last block's input, and what the loss itself stores (2 h)."""
    assert origins(lambda w, x: nested(checkpoint)([w] * 3, x), W[0], X) == [
        "from argument 'w' of <lambda>",
        "from argument 'x' of <lambda>",
        "output of mul",
        "output of tanh",
    ]


def test_print_saved_residuals(capsys):
    print_saved_residuals(checkpoint(block), W[0], X)
    printed = capsys.readouterr().out.splitlines()
    assert sorted(printed) == ["f64[4,4] from argument 'w' of block", "f64[5,4] from argument 'x' of block"]


def test_saved_residuals_take_shapes():
    a = fgrad.ShapeDtypeStruct((4, 4), "float32")
    assert len(saved_residuals(checkpoint(block), a, a)) == 2


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


def test_compiled_memory_of_a_chain():
    """32 layers in 8 groups: temporaries of a third at most."""

    def layers(ws, x):
        for w in ws:
            x = fnp.tanh(lax.conv(x, w, (1, 1), "SAME"))
        return x

    def loss(group):
        def f(ws, x):
            for i in range(0, 32, 4):
                x = group(ws[i : i + 4], x)
            return fnp.sum(x * x)

        return f

    ws = [fnp.asarray(RNG.standard_normal((4, 4, 3, 3), np.float32) / 6) for _ in range(32)]
    x = fnp.asarray(RNG.standard_normal((8, 4, 16, 16), np.float32))
    plain, less = (fgrad.jit(fgrad.grad(loss(g))) for g in (layers, checkpoint(layers)))
    for got, want in zip(less(ws, x), plain(ws, x)):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    assert less.lower(ws, x).program.arena_bytes <= plain.lower(ws, x).program.arena_bytes / 3


# --- calls -----------------------------------------------------------------------------------------------------------
def test_static_arguments_keywords_and_decorators():
    @checkpoint(static_argnums=(1,))
    def f(x, n, *, scale):
        return sum(fnp.sin(x) for _ in range(n)) * scale["a"]

    want = 3 * np.cos(1.0) * 2
    assert float(fgrad.grad(f)(1.0, 3, scale={"a": 2.0})) == pytest.approx(want)
    assert remat is checkpoint

    class Model:
        w = 2.0

        @checkpoint
        def __call__(self, x):
            return x * self.w

    with pytest.raises(TypeError, match=r"checkpoint: arguments must be arrays.*in argument 'self' of __call__"):
        fgrad.grad(Model())(1.0)


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
        "no policy",
        TypeError,
        "checkpoint: needs a function, got 'dots' of type str. Pass a callable.",
        lambda: checkpoint(block, policy="dots"),
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
    (
        "a name that is no string",
        TypeError,
        "checkpoint_name: the name must be a string, got 3 of type int. Pass a string.",
        lambda: checkpoint_name(1.0, 3),
    ),
    (
        "names in a list",
        TypeError,
        "save_only_these_names: names must be strings, got ['a'] of type list. Pass the names given to "
        "checkpoint_name, one by one.",
        lambda: policies.save_only_these_names(["a"]),
    ),
)
def test_messages(error, text, f):
    check(error, text, f)
