"""check_finite, debug_nans and debug_infs: the first operation that made a NaN or infinity, wherever it is."""

import os

import numpy as np
import pytest
from error_checks import ADDRESS, LINE, cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import debug, lax
from fgrad.errors import NonFiniteError

X = np.array([0.0, 4.0, 1.0], np.float32)


def loss(x):
    y = fnp.sqrt(x)  # line 18: its derivative is infinite at 0
    return fnp.sum(y * 2.0)


def masked(x):
    return fnp.sum(fnp.where(x > 0, fnp.log(x), 0.0))


def chain(x):
    def step(carry, t):
        return carry * t, fnp.log(carry)

    return fnp.sum(lax.scan(step, x, fnp.arange(3.0) - 1)[1])


def find(x):
    return lax.while_loop(lambda c: c < 5, lambda c: c + 1 / (c - 2), x)


def choose(x):
    return lax.cond(x > 0, fnp.log, fnp.sqrt, x)


def growing(x):
    return fnp.sum(lax.scan(lambda c, _: (c + 2.4, fnp.exp(c)), x, length=60)[1])


@fgrad.custom_jvp
def guarded(x):
    return fnp.log(x)


@guarded.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return fnp.sqrt(x), t * x / x


@fgrad.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (2 * x, x), lambda x, ct: (ct / x,))


GUARD = "Keep the operands away from such values (fgrad.numpy.where on the operand, not on the result)"
LET = f"{GUARD}, or let infinities pass (inf=False)."


@cases(
    ("a NaN in the forward pass", NonFiniteError,
     "check_finite: results must be finite, got 3 nan in 3 elements from log at HERE, in jit <lambda> (result f32[3], "
     f"the first at [0]; operands: f32[3] = [-1.0, -5.0, -2.0]). {GUARD}.",
     lambda: debug.check_finite(fgrad.jit(lambda x: fnp.log(-1 - x)))(X)),
    ("an infinity in the backward pass", NonFiniteError,
     "check_finite: results must be finite, got 1 inf in 3 elements from div at HERE (the backward pass of that line) "
     f"(result f32[3], the first at [0]; operands: f32[3] = [2.0, 2.0, 2.0]; f32[3] = [0.0, 2.0, 1.0]). {LET}",
     lambda: debug.check_finite(fgrad.grad(loss))(X)),
    ("jit of grad", NonFiniteError,
     "check_finite: results must be finite, got 1 inf in 3 elements from div at HERE (the backward pass of that line), "
     "in jit loss (result f32[3], the first at [0]; operands: f32[3] = [2.0, 2.0, 2.0]; f32[3] = [0.0, 2.0, 1.0]). "
     f"{LET}", lambda: debug.check_finite(fgrad.jit(fgrad.grad(loss)))(X)),
    ("a masked NaN, where infinities pass", NonFiniteError,
     "check_finite: results must be finite, got 1 nan in 3 elements from div at HERE (the backward pass of that line) "
     f"(result f32[3], the first at [0]; operands: f32[3] = [0.0, 1.0, 1.0]; f32[3] = [0.0, 4.0, 1.0]). {GUARD}.",
     lambda: debug.check_finite(fgrad.grad(masked), inf=False)(X)),
    ("a NaN from outside", NonFiniteError,
     "check_finite: results must be finite, got 3 nan in 3 elements from sqrt at HERE (result f32[3], the first at [0];"
     " operands: f32[3] = [nan, nan, nan]). Operand 0 was nan before: look for where it comes from.",
     lambda: debug.check_finite(loss)(X * np.nan)),
    ("in a loop", NonFiniteError,
     "check_finite: results must be finite, got 1 nan in 1 element from log at HERE, in iteration 1 of scan, in jit "
     f"chain (result f32[]; operands: f32[] = -2.0). {GUARD}.",
     lambda: debug.check_finite(fgrad.jit(chain))(2.0)),
    ("in a loop, backwards", NonFiniteError,
     "check_finite: results must be finite, got 1 inf in 1 element from div at HERE (the backward pass of that line), "
     f"in iteration 2 of scan, in jit chain (result f32[]; operands: f32[] = 1.0; f32[] = -0.0). {LET}",
     lambda: debug.check_finite(fgrad.jit(fgrad.grad(chain)))(0.0)),
    ("in a while loop under vmap", NonFiniteError,
     "check_finite: results must be finite, got 1 inf in 3 elements from div at HERE, in iteration 0 of while (result "
     f"f32[3], the first at [0]; operands: f32[3] = [1.0, 1.0, 1.0]; f32[3] = [0.0, 4.0, 1.0]). {LET}",
     lambda: debug.check_finite(fgrad.vmap(find))(X + 2)),
    ("in an untraced custom_jvp function", NonFiniteError,
     "check_finite: results must be finite, got 1 inf in 1 element from log at HERE, in custom_jvp guarded (result "
     f"f32[]; operands: f32[] = 0.0). {LET}", lambda: debug.check_finite(guarded)(np.float32(0))),
    ("in the rule of a custom_jvp", NonFiniteError,
     "check_finite: results must be finite, got 1 nan in 1 element from mul at HERE (the backward pass of that line), "
     f"in jit guarded (result f32[]; operands: f32[] = inf; f32[] = 0.0). {GUARD}.",
     lambda: debug.check_finite(fgrad.jit(fgrad.grad(guarded)), inf=False)(np.float32(0))),
    ("in the backward rule of a custom_vjp", NonFiniteError,
     "check_finite: results must be finite, got 1 inf in 1 element from div at HERE (result f32[]; operands: f32[] = "
     f"1.0; f32[] = 0.0). {LET}", lambda: debug.check_finite(fgrad.grad(doubled))(np.float32(0))),
    ("in a checkpointed function", NonFiniteError,
     "check_finite: results must be finite, got 1 inf in 3 elements from div at HERE (the backward pass of that line), "
     "in checkpoint loss (result f32[3], the first at [0]; operands: f32[3] = [2.0, 2.0, 2.0]; f32[3] = [0.0, 2.0, "
     f"1.0]). {LET}", lambda: debug.check_finite(fgrad.grad(fgrad.checkpoint(loss)))(X)),
    ("overflow in step 37", NonFiniteError,
     "check_finite: results must be finite, got 1 inf in 1 element from exp at HERE, in iteration 37 of scan, in jit "
     f"growing (result f32[]; operands: f32[] = 88.80003). {LET}",
     lambda: debug.check_finite(fgrad.jit(fgrad.grad(growing)))(np.float32(0))),
    ("operators on NumPy arrays", NonFiniteError,
     "check_finite: results must be finite, got 1 inf in 1 element from dot_general at HERE (result f32[1,1], the "
     f"first at [0, 0]; operands: f32[1,1] = [[1e+30]]; f32[1,1] = [[1e+30]]). {LET}",
     lambda: debug.check_finite(lambda a: a @ a)(np.full((1, 1), 1e30, np.float32))),
    ("a constant of the function", NonFiniteError,
     "check_finite: results must be finite, got 1 nan in 1 element from mul at HERE, in jit <lambda> (result f32[]; "
     "operands: f32[] = 2.0; f32[] = nan). Operand 1 was nan before: look for where it comes from.",
     lambda: debug.check_finite(fgrad.jit(lambda x: x * float("nan")))(np.float32(2))),
    ("in a branch", NonFiniteError,
     "check_finite: results must be finite, got 1 inf in 1 element from div at HERE (the backward pass of that line), "
     f"in branch 0 of cond (result f32[]; operands: f32[] = 1.0; f32[] = 0.0). {LET}",
     lambda: debug.check_finite(fgrad.grad(choose))(0.0)),
    ("large operands", NonFiniteError,
     "check_finite: results must be finite, got 1 nan and 2 inf in 20 elements from log at HERE (result f32[4,5], the "
     f"first at [0, 0]; operands: f32[4,5] from -1.0 to 17.0 and 1 inf). {GUARD}.",
     lambda: debug.check_finite(fnp.log)(np.r_[np.arange(-1.0, 18.0), np.inf].astype("f").reshape(4, 5))),
    ("debug_infs", NonFiniteError,
     "debug_infs: results must be finite, got 1 inf in 3 elements from div at HERE (result f32[3], the first at [0]; "
     f"operands: f32[3] = [1.0, 1.0, 1.0]; f32[3] = [0.0, 4.0, 1.0]). {GUARD}.",
     lambda: within(debug.debug_infs, lambda: 1 / fnp.asarray(X))),
    ("inside a transformation", TypeError,
     "check_finite: must be outside every transformation, got it inside jit of checked (there are no values to look at "
     "while a function is traced). Apply it last: check_finite(grad(f)), check_finite(jit(f)).",
     lambda: fgrad.jit(checked)(X)),
    ("no function", TypeError, "check_finite: needs a function, got 3 of type int. Pass a callable.",
     lambda: debug.check_finite(3)),
)  # fmt: skip
def test_messages(error, text, f):
    check(error, text, f)


@debug.check_finite(inf=False)
def checked(x):
    return loss(x)


def within(manager, f):
    with manager():
        return f()


GRADIENTS = {
    "grad": (fgrad.grad(loss), X),
    "grad of jit": (fgrad.grad(fgrad.jit(loss)), X),
    "jit of vmap of grad": (fgrad.jit(fgrad.vmap(fgrad.grad(loss))), X[None]),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_line_and_the_arrays(name):
    f, x = GRADIENTS[name]
    with pytest.raises(NonFiniteError) as caught:
        debug.check_finite(f)(x)
    e = caught.value
    assert isinstance(e, FloatingPointError)
    assert os.path.basename(e.source.file) == os.path.basename(__file__)
    assert (e.source.line, e.source.function, e.source.backward) == (18, "loss", True)
    assert [np.ravel(a).tolist() for a in e.operands] == [[2.0, 2.0, 2.0], [0.0, 2.0, 1.0]]
    assert np.ravel(e.results[0])[0] == np.inf


PROGRAMS = {
    "loss": (loss, X + 1),
    "gradient": (fgrad.grad(loss), X + 1),
    "scan": (fgrad.jit(fgrad.value_and_grad(chain)), np.float32(4.5)),
    "while": (fgrad.jit(find), np.float32(4.5)),
    "cond": (choose, np.float32(4.5)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_do_not_change(name):
    f, x = PROGRAMS[name]
    wants = fgrad.tree.tree_leaves(f(x))
    gots = fgrad.tree.tree_leaves(debug.check_finite(f, inf=False, nan=False)(x))
    for got, want in zip(gots, wants, strict=True):
        assert got.aval == want.aval
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-5)


def test_weak_types_survive_loops():
    f = fgrad.jit(lambda x: lax.fori_loop(0, 3, lambda i, c: c * 2, x))
    got = debug.check_finite(f)(1.0)
    assert got.aval == f(1.0).aval and float(got) == 8.0
    empty = fgrad.jit(lambda x: lax.scan(lambda c, x: (c, x), 1.0, x))
    carry, ys = debug.check_finite(empty)(fnp.ones((0, 2)))
    assert (float(carry), ys.shape) == (1.0, (0, 2))
    back = fgrad.jit(lambda x: lax.scan(lambda c, x: (c + x, c), 0.0, x, reverse=True)[1])
    assert debug.check_finite(back)(X).tolist() == back(X).tolist() == [5.0, 1.0, 0.0]


def test_infinities_given_by_the_user_are_no_fault():
    def f(x):
        return fnp.max(fnp.where(x > 2, x, -np.inf)), x[:1]

    top, first = debug.check_finite(fgrad.jit(f))(np.array([np.inf, 3], np.float32))
    assert float(top) == np.inf and first.tolist() == [np.inf]


def test_effects_happen_once():
    seen = []

    def f(x):
        debug.callback(lambda v: seen.append(float(v)), x)
        return x * x

    debug.check_finite(fgrad.grad(fgrad.jit(f)))(2.0)
    assert seen == [2.0]


def test_the_managers_nest_and_end():
    nans, infs = lambda: fnp.log(-fnp.ones(1)), lambda: 1 / fnp.zeros(1)
    with debug.debug_nans():
        assert float(infs()[0]) == np.inf
        with debug.debug_infs():
            for f in (nans, infs, fgrad.jit(nans), fgrad.jit(infs)):
                with pytest.raises(NonFiniteError):
                    f()
            with debug.debug_nans(False):
                assert np.isnan(np.asarray(nans())).all()
        with pytest.raises(NonFiniteError):
            nans()
    assert np.isnan(np.asarray(nans())).all() and float(infs()[0]) == np.inf


def test_programs_compiled_before_are_checked_too():
    f = fgrad.jit(lambda x: fnp.log(x))
    assert np.isnan(np.asarray(f(-1.0)))
    with debug.debug_nans(), pytest.raises(NonFiniteError) as caught:
        f(-1.0)
    text = ADDRESS.sub("", LINE.sub("HERE", str(caught.value)))
    assert text.startswith("debug_nans: results must be finite, got 1 nan in 1 element from log at HERE, in jit <lam")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "complex64"])
def test_dtypes(dtype):
    with pytest.raises(NonFiniteError) as caught:
        debug.check_finite(lambda x: x / x)(fnp.zeros((2,), dtype))
    assert "got 2 nan in 2 elements from div" in str(caught.value)
    assert debug.check_finite(lambda x: x // 2)(np.arange(4)).tolist() == [0, 0, 1, 1]
