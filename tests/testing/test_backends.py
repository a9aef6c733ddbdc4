"""check_backends: the reference rules and the compiled program agree, through the list of backends."""

import ml_dtypes
import numpy as np
import pytest
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import extend, lax, random
from fgrad.errors import MissingBackendError
from fgrad.testing import BACKENDS, Backend, check_backends
from fgrad.testing.sample import normal

DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]


@fgrad.custom_jvp
def clipped(x):
    return fnp.clip(x, -1, 1)


@clipped.defjvp
def _(primals, tangents):
    return clipped(*primals), tangents[0]


@fgrad.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (doubled(x), None), lambda _, ct: (2 * ct,))


def control(x):
    """Every kind of equation that holds a jaxpr, one in another."""

    @fgrad.checkpoint
    def step(c, a):
        return lax.cond(a[0] > 0, lambda c: c + clipped(a), lambda c: c - fgrad.jit(doubled)(a), c), fnp.sin(c)

    return lax.scan(step, x[0], x)


def halved(x):
    return lax.while_loop(lambda s: s[1] < x.ndim, lambda s: (s[0] * 0.5, s[1] + 1), (x, 0))


FUNCTIONS = {
    "matmul": (lambda x, w: fnp.tanh(x @ w), (normal(7, 33), normal(33, 4))),
    "conv": (lambda x, w: lax.conv(x, w, (2, 1), "SAME"), (normal(2, 3, 9, 8), normal(4, 3, 3, 2))),
    "tree": (lambda p: {"sum": fnp.sum(p["a"], 0), "rest": [p["b"], 3.0]}, ({"a": normal(0, 3), "b": normal(4)},)),
    "control": (lambda x: halved(control(x)[1]), (normal(6, 3),)),
    "gradient": (fgrad.grad(lambda x: fnp.sum(control(x)[1])), (normal(6, 3),)),
    "batched": (fgrad.vmap(control), (normal(2, 6, 3),)),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_pass(name, dtype):
    f, args = FUNCTIONS[name]
    check_backends(f, fgrad.tree.tree_map(lambda x: x.astype(dtype), args))


def test_arguments_of_other_kinds():
    check_backends(lambda x, i: (x[i], i + 1), (np.arange(6), np.array([3, 0])))
    check_backends(lambda z: fnp.sum(z * 2j), (normal(3) + 1j * normal(3),))
    check_backends(lambda x, y, n: x * y + n, (1.5, np.float32(2), 3))
    check_backends(lambda key: random.normal(key, (3,)), (random.PRNGKey(0),))
    check_backends(lambda x: fgrad.pure_callback(np.cumsum, x, x), (normal(3),))


def elementwise(name, by_numpy, by_scalar, **kwargs):
    return extend.elementwise(
        f"test_backends.{name}",
        numpy=lambda x: (x * by_numpy).astype(x.dtype),
        scalar=lambda s, x: s.mul(x, s.const(by_scalar, x.dtype)),
        **kwargs,
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("around", ["alone", "in a loop"])
def test_a_backend_wrong_by_half_a_thousandth_is_found(dtype, around):
    def check_it(f):
        args = (normal(20, 30).astype(dtype),)
        check_backends(f if around == "alone" else lambda x: lax.map(f, x), args)

    check_it(elementwise("right", 3, 3))
    with pytest.raises(AssertionError, match="check_backends: result differs at index"):
        check_it(elementwise("wrong", 3, 3.0015))


def test_a_backend_that_joins_is_one_more_entry(monkeypatch):
    ran = []

    def run(closed, arrays):
        ran.append([x.dtype for x in arrays])
        return BACKENDS["reference"].run(closed, arrays)

    monkeypatch.setitem(BACKENDS, "mine", Backend(lambda: "", run))
    monkeypatch.setitem(BACKENDS, "absent", Backend(lambda: "there is no device", run))
    check_backends(lambda x: 2 * x, (1.0,))
    assert ran == [[np.float32]]
    check_backends(lambda x: 2 * x, (normal(3),), backends=["cpu"])
    assert len(ran) == 1
    with pytest.raises(MissingBackendError, match=r"^check_backends: absent cannot run here, there is no device\.$"):
        check_backends(lambda x: 2 * x, (normal(3),), backends=["absent"])

    def wrong(closed, arrays):
        return [x.astype(np.float64) + 1 for x in run(closed, arrays)]

    monkeypatch.setitem(BACKENDS, "mine", Backend(lambda: "", wrong))
    with pytest.raises(AssertionError, match="  mine:      "):
        check_backends(lambda x: 2 * x, (normal(3),))
    with pytest.raises(AssertionError, match=r"got float64\[3\] from mine and float32\[3\] from the abstract rules"):
        check_backends(lambda x: 2 * x, (normal(3).astype(np.float32),))


def test_backends_do_not_share_memory():
    x = normal(3)
    closed = fgrad.make_jaxpr(lambda x: (x, x[::-1]))(x)
    for backend in BACKENDS.values():
        assert not any(np.may_share_memory(out, x) for out in backend.run(closed, [x]))


WRONG_SCALE = elementwise("scale", 1, 3)
NO_REFERENCE = extend.Primitive(
    "test_backends.no_reference",
    abstract=lambda x: x,
    reference=extend.Unfilled("it is an example"),
    cpu=extend.IndexMap(view=lambda layout: layout),
    jvp=extend.Linear(),
    transpose=extend.Unfilled("it is an example"),
    batch=extend.Unfilled("it is an example"),
)


def scale(x):
    return {"y": WRONG_SCALE(x)}


def inside(x):
    """Runs eagerly without the equation, which a trace has in a loop."""
    return lax.map(lambda r: NO_REFERENCE(r) if isinstance(r, fgrad.core.trace.Tracer) else r, x)


def returns_text(x):
    return "text"


X = np.ones(3)
WRONG = [
    ("values", AssertionError,
     "check_backends: result['y'] differs at index (2,) (2 elements differ; this one most).\n"
     "  cpu:       6.0\n"
     "  reference: 2.0\n"
     "  absolute error 4, relative error 2; allowed 3.69e-14 (16 eps of float64, times sqrt(3) terms, of that and "
     "of 8.9e-16, its change where the arguments are rounded)\n"
     "  of scale (HERE) at (float64[3])",
     lambda: check_backends(scale, (np.arange(3.0),))),
    ("no reference", MissingBackendError,
     "test_backends.no_reference: has no reference rule, it is an example.",
     lambda: check_backends(inside, (X,))),
    ("no array", TypeError,
     "check_backends: returns_text must return arrays or pytrees of them, got 'text' of type str as result. Return "
     "arrays, or leave the value out.",
     lambda: check_backends(returns_text, (X,))),
    ("unknown", ValueError,
     "check_backends: backends must be names of backends, got 'tpu'. Pass some of ('reference', 'cpu').",
     lambda: check_backends(scale, (X,), backends=["cpu", "tpu"])),
    ("no sequence", TypeError,
     "check_backends: backends must be a sequence of names, got 'cpu'. Pass some of ('reference', 'cpu').",
     lambda: check_backends(scale, (X,), backends="cpu")),
    ("none", TypeError,
     "check_backends: backends must be a sequence of names, got []. Pass some of ('reference', 'cpu').",
     lambda: check_backends(scale, (X,), backends=[])),
]  # fmt: skip


@cases(*WRONG)
def test_wrong_ones_are_told(error, text, f):
    check(error, text, f)
