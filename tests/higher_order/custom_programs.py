"""Functions of one scalar with derivatives of their own, written once for fgrad and for JAX.

A program takes a library: ``m`` has its transformations, ``np`` its NumPy, ``lax`` its lax.
"""

from functools import partial
from types import SimpleNamespace

import numpy

import fgrad
import fgrad.numpy
from fgrad.higher_order import checkpoint_policies
from fgrad.higher_order.checkpoint import checkpoint
from fgrad.higher_order.closure_convert import closure_convert
from fgrad.higher_order.custom_jvp import custom_jvp
from fgrad.higher_order.custom_vjp import custom_vjp

TRANSFORMATIONS = ("grad", "jit", "vmap", "jvp", "vjp", "value_and_grad", "linearize")
OURS = SimpleNamespace(
    m=SimpleNamespace(
        custom_jvp=custom_jvp,
        custom_vjp=custom_vjp,
        closure_convert=closure_convert,
        checkpoint=checkpoint,
        checkpoint_policies=checkpoint_policies,
        **{name: getattr(fgrad, name) for name in TRANSFORMATIONS},
    ),
    np=fgrad.numpy,
    lax=fgrad.lax,
)


def of_jax(jax):
    return SimpleNamespace(m=jax, np=jax.numpy, lax=jax.lax)


# --- custom_jvp ------------------------------------------------------------------------------------------------------
def log1pexp(lib):
    """log(1 + exp(x)): a derivative that does not overflow."""
    np = lib.np

    @lib.m.custom_jvp
    def f(x):
        return np.log(1.0 + np.exp(x))

    @f.defjvp
    def f_jvp(primals, tangents):
        (x,), (t,) = primals, tangents
        return f(x), (1 - 1 / (1 + np.exp(x))) * t

    return f


def one_rule_for_each_argument(lib):
    np = lib.np
    f = lib.m.custom_jvp(lambda x, y, z: np.sin(x) * y + z)
    f.defjvps(lambda t, out, x, y, z: 2 * np.cos(x) * t * y, lambda t, out, x, y, z: np.sin(x) * t, None)
    return lambda x: f(x, x * x, x)


def pytrees_in_and_out(lib):
    np = lib.np

    @lib.m.custom_jvp
    def f(params, n):
        return {"a": params["w"] * np.sin(params["b"][0]), "n": n}

    @f.defjvp
    def f_jvp(primals, tangents):
        (params, n), (t, t_n) = primals, tangents
        slope = t["w"] * np.sin(params["b"][0]) + 3 * t["b"][0] * np.cos(params["b"][0]) * params["w"]
        return f(params, n), {"a": slope, "n": t_n}

    return lambda x: f({"w": x, "b": (2 * x, None)}, np.asarray(3))["a"]


def a_function_as_an_argument(lib):
    @partial(lib.m.custom_jvp, nondiff_argnums=(0,))
    def apply(g, x, y=2.0):
        return g(x) * y

    @apply.defjvp
    def apply_jvp(g, primals, tangents):
        (x, y), (t, t_y) = primals, tangents
        return apply(g, x, y), 5.0 * g(t) * y + g(x) * t_y

    return lambda x: apply(lambda v: 3.0 * v, x)


def one_rule_inside_another(lib):
    inner = log1pexp(lib)

    @lib.m.custom_jvp
    def f(x):
        return inner(x) ** 2

    @f.defjvp
    def f_jvp(primals, tangents):
        (x,), (t,) = primals, tangents
        y, t_y = lib.m.jvp(inner, (x,), (t,))
        return y**2, 2 * y * t_y

    return f


# --- custom_vjp ------------------------------------------------------------------------------------------------------
def clipped_gradient(lib):
    np = lib.np

    @lib.m.custom_vjp
    def clip(lo, hi, x):
        return x

    clip.defvjp(lambda lo, hi, x: (x, (lo, hi)), lambda res, g: (None, None, np.clip(g, res[0], res[1])))
    return lambda x: np.sin(4 * clip(-1.0, 1.0, x))


def vjp_of_pytrees(lib):
    np = lib.np

    @lib.m.custom_vjp
    def f(params, n):
        return (params["w"] * np.sin(params["b"][0]), [n])

    def fwd(params, n):
        return (params["w"] * np.sin(params["b"][0]), [n]), (params, n)

    def bwd(res, ct):
        params, _ = res
        w, b = params["w"], params["b"][0]
        return {"w": ct[0] * np.sin(b), "b": (7 * ct[0] * w * np.cos(b), None)}, None

    f.defvjp(fwd, bwd)
    return lambda x: f({"w": x, "b": (2 * x, None)}, np.asarray(3))[0]


def fixed_point(lib):
    """√a as the fixed point of x ↦ (x + a / x) / 2: a loop whose derivative is that of the equation it solves."""
    m, np, lax = lib.m, lib.np, lib.lax

    @partial(m.custom_vjp, nondiff_argnums=(0,))
    def solve(f, a, guess):
        def changes(pair):
            return np.abs(pair[0] - pair[1]) > 1e-13

        return lax.while_loop(changes, lambda pair: (pair[1], f(a, pair[1])), (guess, f(a, guess)))[1]

    def fwd(f, a, guess):
        x = solve(f, a, guess)
        return x, (a, x)

    def bwd(f, res, ct):
        # wᵀ = ctᵀ + wᵀ ∂f/∂x, itself a fixed point; then the cotangent of a is wᵀ ∂f/∂a
        a, x = res

        def step(packed, w):
            a, x, ct = packed
            return ct + m.vjp(lambda x: f(a, x), x)[1](w)[0]

        w = solve(step, (a, x, ct), ct)
        return m.vjp(lambda a: f(a, x), a)[1](w)[0], np.zeros_like(x)

    solve.defvjp(fwd, bwd)
    return lambda a: solve(lambda a, x: 0.5 * (x + a / x), a, a)


def converted_closure(lib):
    m, np = lib.m, lib.np

    @partial(m.custom_vjp, nondiff_argnums=(0,))
    def twice(g, x, *values):
        return 2 * g(x, *values)

    def bwd(g, res, ct):
        return m.vjp(g, *res)[1](3 * ct)

    twice.defvjp(lambda g, x, *values: (2 * g(x, *values), (x, *values)), bwd)

    def f(x):
        y = np.sin(x)
        g, values = m.closure_convert(lambda t: t * y, x)
        return twice(g, x * x, *values)

    return f


def rounded_straight_through(lib):
    np = lib.np
    f = lib.m.custom_vjp(lambda x: np.round(x))
    f.defvjp(lambda x: (np.round(x), None), lambda _, ct: (ct,))
    return lambda x: f(x * 3) * x


JVP_PROGRAMS = {
    f.__name__: f
    for f in (
        log1pexp,
        one_rule_for_each_argument,
        pytrees_in_and_out,
        a_function_as_an_argument,
        one_rule_inside_another,
    )
}
VJP_PROGRAMS = {
    f.__name__: f for f in (clipped_gradient, vjp_of_pytrees, fixed_point, converted_closure, rounded_straight_through)
}

# --- compositions ----------------------------------------------------------------------------------------------------
POINTS = numpy.array([0.4, 1.3, 2.9])
REVERSE = {
    "f": lambda m, f: f(POINTS[0]),
    "jit": lambda m, f: m.jit(f)(POINTS[0]),
    "vmap": lambda m, f: m.vmap(f)(POINTS),
    "jit vmap": lambda m, f: m.jit(m.vmap(f))(POINTS),
    "grad": lambda m, f: m.grad(f)(POINTS[0]),
    "jit grad": lambda m, f: m.jit(m.grad(f))(POINTS[0]),
    "grad jit": lambda m, f: m.grad(m.jit(f))(POINTS[0]),
    "vjp": lambda m, f: m.vjp(f, POINTS[1])[1](2.0)[0],
    "vmap grad": lambda m, f: m.vmap(m.grad(f))(POINTS),
    "vmap grad jit": lambda m, f: m.vmap(m.grad(m.jit(f)))(POINTS),
    "jit vmap grad": lambda m, f: m.jit(m.vmap(m.grad(f)))(POINTS),
    "grad vmap": lambda m, f: m.grad(lambda x: m.vmap(f)(x).sum())(POINTS),
    "grad jit vmap": lambda m, f: m.grad(lambda x: m.jit(m.vmap(f))(x).sum())(POINTS),
    "grad vmap jit": lambda m, f: m.grad(lambda x: m.vmap(m.jit(f))(x).sum())(POINTS),
    "grad grad": lambda m, f: m.grad(m.grad(f))(POINTS[0]),
    "grad jit grad": lambda m, f: m.grad(m.jit(m.grad(f)))(POINTS[0]),
    "jit grad grad jit": lambda m, f: m.jit(m.grad(m.grad(m.jit(f))))(POINTS[0]),
    "vmap grad grad": lambda m, f: m.vmap(m.grad(m.grad(f)))(POINTS),
    "checkpoint": lambda m, f: m.grad(m.checkpoint(f))(POINTS[0]),
    "jit grad checkpoint": lambda m, f: m.jit(m.grad(m.checkpoint(f)))(POINTS[0]),
}
FORWARD = {
    "jvp": lambda m, f: m.jvp(f, (POINTS[0],), (2.0,))[1],
    "jvp jit": lambda m, f: m.jvp(m.jit(f), (POINTS[0],), (2.0,))[1],
    "jit jvp": lambda m, f: m.jit(lambda x: m.jvp(f, (x,), (x,))[1])(POINTS[0]),
    "vmap jvp": lambda m, f: m.vmap(lambda x: m.jvp(f, (x,), (x,))[1])(POINTS),
    "jvp vmap": lambda m, f: m.jvp(m.vmap(f), (POINTS,), (POINTS,))[1],
    "linearize": lambda m, f: m.linearize(f, POINTS[0])[1](2.0),
    "jvp grad": lambda m, f: m.jvp(m.grad(f), (POINTS[0],), (2.0,))[1],
    "grad jvp": lambda m, f: m.grad(lambda x: m.jvp(f, (x,), (1.0,))[1])(POINTS[0]),
    "jvp jvp": lambda m, f: m.jvp(lambda x: m.jvp(f, (x,), (1.0,))[1], (POINTS[0],), (1.0,))[1],
}
