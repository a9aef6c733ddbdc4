"""Primitives of kernels and of NumPy functions of any shape, defined outside the package: every transformation."""

import threading

import numba
import numpy as np
import pytest
from drawn import arrays
from error_checks import check
from user_library import TRIDIAGONAL, dense, leaky, log_add, softsign, solve, solve_on_host, system, thomas

import fgrad
import fgrad.numpy as fnp
from fgrad import extend, lax
from fgrad.errors import MissingBackendError
from fgrad.testing import Sample, check_batching, check_primitive, check_vjp

Like = fgrad.ShapeDtypeStruct


@pytest.mark.parametrize("prim", [solve, solve_on_host], ids=["kernel", "host"])
def test_a_kernel_obeys_the_laws(prim):
    check_primitive(prim, [system()])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64", "complex128"])
def test_a_kernel_runs_in_other_dtypes(dtype):
    xs = [x.astype(dtype) for x in system()]
    width = {"complex64": "complex128", "complex128": "complex128"}.get(dtype, "float64")
    lower, diag, upper, b = [np.asarray(x).astype(width) for x in xs]
    want = np.linalg.solve(np.diag(diag) + np.diag(lower[1:], -1) + np.diag(upper[:-1], 1), b)
    got = solve(*[x[::-1][::-1] for x in xs])
    assert got.dtype == xs[0].dtype
    np.testing.assert_allclose(np.asarray(got).astype(width), want, atol=2e-2 if "16" in dtype else 1e-6)


def test_a_kernel_takes_strided_complex_operands():
    z = np.arange(6).reshape(2, 3) * (1 + 2j)
    twice = extend.primitive("tests.twice", numpy=lambda x: 2 * x, abstract=lambda x: x, kernel=_double)
    for f in (twice, fgrad.jit(twice), fgrad.jit(lambda x: twice(x.T).T), lambda x: twice(fnp.flip(x.T, 1))[:, ::-1].T):
        np.testing.assert_array_equal(f(z), 2 * z)


def _double(out, x):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] * 2


def test_the_loop_over_a_batch_is_one_parallel_instruction():
    lower, diag, upper, _ = system(6)
    f = fgrad.vmap(solve, in_axes=(None, None, None, 1), out_axes=1)
    B = np.random.default_rng(1).standard_normal((6, 40))
    text = fgrad.jit(f).lower(lower, diag, upper, B).as_text()
    assert "40 tiles  tests.solve.loop" in text
    assert "  numba thomas " in text and "(40 examples)" in text
    want = np.stack([dense(*map(np.asarray, (lower, diag, upper)), B[:, i]) for i in range(40)], 1)
    np.testing.assert_allclose(f(lower, diag, upper, B), want, rtol=1e-12)
    np.testing.assert_allclose(fgrad.jit(f)(lower, diag, upper, B), want, rtol=1e-12)


def test_nested_vmap_is_one_batch():
    lower, diag, upper, _ = system(4)
    D = np.asarray(diag) + np.arange(3)[:, None]
    B = np.random.default_rng(2).standard_normal((2, 4))
    inner = fgrad.vmap(solve, in_axes=(None, 0, None, None))
    outer = fgrad.vmap(inner, in_axes=(None, None, None, 0))
    jaxpr = fgrad.make_jaxpr(outer)(lower, D, upper, B)
    assert [str(e.outvars[0].aval) for e in jaxpr.eqns if e.primitive.name == "tests.solve.loop"] == ["f64[6,4]"]
    got = np.asarray(outer(lower, D, upper, B))
    for i in range(2):
        for j in range(3):
            np.testing.assert_allclose(got[i, j], solve(lower, D[j], upper, B[i]), rtol=1e-13)


def test_the_gradient_of_a_batch_sums_over_what_examples_share():
    lower, diag, upper, _ = system(4)
    B = np.random.default_rng(3).standard_normal((3, 4))

    def loss(lower, diag, upper, B):
        return fnp.sum(fgrad.vmap(solve, in_axes=(None, None, None, 0))(lower, diag, upper, B) ** 3)

    def one(lower, diag, upper, b):
        return fnp.sum(solve(lower, diag, upper, b) ** 3)

    every = (0, 1, 2, 3)
    together = fgrad.jit(fgrad.grad(loss, argnums=every))(lower, diag, upper, B)
    each = fgrad.vmap(fgrad.grad(one, argnums=every), in_axes=(None, None, None, 0))(lower, diag, upper, B)
    for k in range(3):
        np.testing.assert_allclose(together[k], np.asarray(each[k]).sum(0), rtol=1e-12)
    np.testing.assert_allclose(together[3], each[3], rtol=1e-12)
    check_vjp(lambda B: fgrad.vmap(solve, in_axes=(None, None, None, 0))(lower, diag, upper, B), (B,), linear=True)


def test_static_parameters_reach_every_rule():
    def power(out, x, n, scale):
        for i in range(x.size):
            out[i] = scale * x[i] ** n

    prim = extend.primitive(
        "tests.power",
        numpy=lambda x, *, n, scale=1.0: (scale * x**n).astype(x.dtype),
        abstract=lambda x, *, n, scale: x,
        kernel=power,
        derivatives=lambda t, ans, x, *, n, scale: t * prim(x, n=n - 1, scale=scale * n),
    )
    (x,) = arrays((4,))
    check_primitive(prim, [Sample((x,), {"n": 3, "scale": 2.0}), Sample((x,), {"n": 3})])
    text = str(fgrad.make_jaxpr(lambda x: prim(x, n=2))(x))
    assert "b:f64[4] = tests.power[n=2 scale=1.0] a" in text


def test_a_kernel_may_be_under_njit():
    @numba.njit(fastmath=True)
    def triple(out, x):
        for i in range(x.size):
            out.flat[i] = 3 * x.flat[i]

    prim = extend.primitive("tests.triple", numpy=lambda x: 3 * x, abstract=lambda x: x, kernel=triple)
    for shape in ((), (3,), (2, 0), (2, 3)):
        check_primitive(prim, [tuple(arrays(shape))])


# --- several results -------------------------------------------------------------------------------------------------
def _moments_kernel(total, squares, x):
    total[()] = 0
    for i in range(x.size):
        total[()] += x[i]
        squares[i] = x[i] * x[i]


def _moments_transposed(out, ct, x):
    return (fnp.full_like(x, 1) * ct + 2 * x * out,)


MOMENTS = dict(
    numpy=lambda x: (np.sum(x, dtype=x.dtype), x * x),
    abstract=lambda x: (Like((), x.dtype), x),
    derivatives=lambda t, ans, x: (fnp.sum(t), 2 * x * t),
    multiple_results=True,
)


@pytest.mark.parametrize("kernel", [_moments_kernel, None], ids=["kernel", "host"])
def test_several_results(kernel):
    prim = extend.primitive("tests.moments", kernel=kernel, **MOMENTS)
    (x,) = arrays((4,))
    assert isinstance(prim(x), tuple)
    check_primitive(prim, [(x,)])
    gradient = fgrad.grad(lambda X: fnp.sum(fgrad.vmap(prim)(X)[1]))(np.ones((2, 4)))
    np.testing.assert_array_equal(gradient, np.full((2, 4), 2.0))


def test_a_linear_primitive_of_several_results():
    halves = extend.primitive(
        "tests.halves",
        numpy=lambda x: (x[::2], x[1::2]),
        abstract=lambda x: (Like((-(-x.size // 2),), x.dtype), Like((x.size // 2,), x.dtype)),
        linear=True,
        transpose=_interleave,
        multiple_results=True,
    )
    check_primitive(halves, [tuple(arrays((5,)))])
    f = fgrad.vmap(lambda x: fnp.sum(halves(x)[1] ** 2))
    np.testing.assert_array_equal(fgrad.grad(lambda X: fnp.sum(f(X)))(np.ones((2, 4))), [[0, 2, 0, 2]] * 2)


def _interleave(cts, x):
    even, odd = map(extend.instantiate, cts)
    return (fnp.zeros(x.shape, x.dtype).at[::2].set(even).at[1::2].set(odd),)


# --- jvp, bilinear, batch rules ---------------------------------------------------------------------------------------
def test_bilinear():
    def transpose(ct, x, y):
        if isinstance(x, extend.LinearArg):
            return ct @ y, None
        return None, x @ ct

    outer = extend.primitive(
        "tests.outer",
        numpy=lambda x, y: np.outer(x, y),
        abstract=lambda x, y: Like((x.size, y.size), x.dtype),
        linear=(0, 1),
        transpose=transpose,
    )
    x, y = arrays((2,), (3,))
    check_primitive(outer, [(x, y)])
    np.testing.assert_allclose(fgrad.linear_transpose(lambda x: outer(x, y), x)(np.ones((2, 3)))[0], [y.sum()] * 2)


def test_a_whole_jvp_rule():
    def jvp(primals, tangents):
        x, y = primals
        out = plane(x, y)
        dx, dy = map(extend.instantiate, tangents)
        return out, (x * dx + y * dy) / out

    plane = extend.primitive("tests.plane", numpy=np.hypot, abstract=lambda x, y: x, jvp=jvp)
    check_primitive(plane, [tuple(arrays((3,), (3,)))])


def _inverse_of_front(args, dims):
    return inverse(fnp.moveaxis(args[0], dims[0], 0)), 0


@pytest.mark.parametrize("batch", ["broadcast", "loop", _inverse_of_front])
def test_ways_of_batching(batch):
    prim = extend.primitive(
        "tests.inverse",
        numpy=np.linalg.inv,
        abstract=lambda a: a,
        derivatives=lambda t, ans, a: -(ans @ t @ ans),
        batch=batch,
    )
    check_primitive(prim, [tuple(arrays((3, 3)))])
    check_batching(fgrad.vmap(prim), tuple(arrays((2, 3, 3))))


inverse = extend.primitive(
    "tests.inverse_of_stack",
    numpy=np.linalg.inv,
    abstract=lambda a: a,
    derivatives=lambda t, ans, a: -(ans @ t @ ans),
    batch="broadcast",
)


def _nothing(args, dims):
    raise NotImplementedError


def test_a_planner_of_ones_own():
    class AddOne:
        """A kernel given by its address."""

        compiled = None

        def address(self):
            if AddOne.compiled is None:
                from fgrad.kernels.cpu.memory import KERNEL_SIGNATURE, ld, ld_i64, st

                def entry(args, begin, end, worker):
                    for i in range(begin, end):
                        st(ld_i64(args, 0), i, ld(ld_i64(args, 1), i * ld_i64(args, 2), 0.0) + 1.0)

                AddOne.compiled = numba.cfunc(KERNEL_SIGNATURE)(entry)
            return AddOne.compiled.address

    def plan(ins, outs):
        build = extend.PlanBuilder()
        source = extend.Ptr("in", 0, 8 * ins[0].offset)
        build.step(AddOne(), [extend.Ptr("out", 0), source, ins[0].strides[0]], outs[0].size, "add one", grain=1000)
        return build.plan()

    prim = extend.primitive(
        "tests.add_one", numpy=lambda x: x + 1, abstract=lambda x: x, kernel=extend.Kernel(plan), batch=_nothing
    )
    check_primitive(prim, [tuple(arrays((3000,)))], laws=["types", "values"])


def test_every_slot_by_hand():
    rotate = extend.Primitive(
        "tests.rotate",
        abstract=lambda x: x.update(shape=x.shape[::-1]),
        reference=lambda x: x.T[::-1],
        cpu=extend.IndexMap(view=lambda layout: layout.transpose((1, 0)).rev((0,))),
        jvp=extend.Linear(),
        transpose=lambda ct, x: (rotate(rotate(rotate(ct))),),
        batch=extend.Unfilled("the test does not need it"),
    )
    (x,) = arrays((2, 3))
    check_primitive(rotate, [(x,)])
    jaxpr = fgrad.make_jaxpr(fgrad.vjp(rotate, x)[1])(rotate(x))
    extend.check_jaxpr(jaxpr)
    (back,) = extend.eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, rotate(x))
    np.testing.assert_array_equal(back, x)
    check(
        MissingBackendError, "tests.rotate: has no batch rule, the test does not need it.",
        lambda: fgrad.vmap(rotate)(np.ones((2, 3, 3))),
    )  # fmt: skip


# --- everything together ---------------------------------------------------------------------------------------------
def test_compositions_agree():
    lower, diag, upper, b = system(5)

    def f(x):
        return fnp.sum(softsign(solve(lower, diag + x**2, upper, leaky(b * x, slope=0.5))))

    x = fnp.asarray(np.random.default_rng(4).standard_normal(5))
    gradient = fgrad.grad(f)
    want = gradient(x)
    for other in (fgrad.jit(gradient), fgrad.grad(fgrad.jit(f)), fgrad.jit(fgrad.grad(fgrad.jit(f)))):
        np.testing.assert_allclose(other(x), want, rtol=1e-12)
    X = fnp.stack([x, 2 * x, -x])
    rows = np.stack([gradient(r) for r in X])
    for other in (fgrad.vmap(gradient), fgrad.jit(fgrad.vmap(gradient)), fgrad.vmap(fgrad.jit(gradient))):
        np.testing.assert_allclose(other(X), rows, rtol=1e-12)
    v = fnp.ones(5)
    forward = fgrad.jvp(gradient, (x,), (v.astype(x.dtype),))[1]
    reverse = fgrad.grad(lambda x: fnp.sum(gradient(x)))(x)
    np.testing.assert_allclose(forward, reverse, rtol=1e-11)
    step = 1e-5
    np.testing.assert_allclose(forward, (gradient(x + step) - gradient(x - step)) / (2 * step), rtol=1e-6, atol=1e-8)


def test_two_threads():
    bands = system(50)[:3]
    f = fgrad.jit(lambda b: softsign(solve(*bands, b)) + log_add(b, b))
    B = [np.random.default_rng(i).standard_normal(50) for i in range(4)]
    want = [np.asarray(f(b)) for b in B]
    failures = []

    def work(seed):
        prim = extend.primitive(f"tests.thread_{seed}", kernel=thomas, **TRIDIAGONAL)
        for _ in range(50):
            for b, w in zip(B, want):
                same = np.array_equal(f(b), w) and np.array_equal(prim(*bands, b), solve(*bands, b))
                if not same:
                    failures.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_inside_a_loop():
    """Implicit steps of a reaction and diffusion: the kernel, the scalar rule and the NumPy function in a scan."""
    lower, diag, upper, b = system(6)

    def run(source):
        def step(x, scale):
            x = softsign(solve(lower, diag, upper, x + source))
            return x, log_add(x, scale)

        return lax.scan(step, b, np.linspace(0, 1, 4))

    def by_hand(source):
        x, ys = b, []
        for scale in np.linspace(0, 1, 4):
            x = softsign(solve(lower, diag, upper, x + source))
            ys.append(log_add(x, scale))
        return x, fnp.stack(ys)

    def loss(run, source):
        x, ys = run(source)
        return fnp.sum(x) + fnp.sum(ys**2)

    want = fgrad.grad(lambda source: loss(by_hand, source))(diag)
    gradient = fgrad.grad(lambda source: loss(run, source))
    for f in (gradient, fgrad.jit(gradient)):
        np.testing.assert_allclose(f(diag), want, rtol=1e-12)
    rows = fgrad.jit(fgrad.vmap(gradient))(fnp.stack([diag, 2 * diag]))
    np.testing.assert_allclose(rows[0], want, rtol=1e-12)


def _typed_kernel(out, x, k):
    out[:] = k


def test_static_parameters_of_different_types_are_different():
    """1, 1.0 and True are equal to Python, but a rule may tell them apart."""

    def kind(x, *, k):
        return fgrad.ShapeDtypeStruct(x.shape, {int: "int32", float: "float32", bool: "bool"}[type(k)])

    for kernel in (None, _typed_kernel):
        typed = extend.primitive(
            "tests.typed",
            numpy=lambda x, *, k: np.full(x.shape, k, kind(x, k=k).dtype),
            abstract=kind,
            kernel=kernel,
        )
        every = lambda x: [typed(x, k=k) for k in (1, 1.0, True)]  # noqa: E731, B023
        xs = np.ones((2, 3), np.float32)
        for f in (every, fgrad.jit(every), fgrad.vmap(every), fgrad.jit(fgrad.vmap(every))):
            assert [out.dtype.name for out in f(xs)] == ["int32", "float32", "bool"]
