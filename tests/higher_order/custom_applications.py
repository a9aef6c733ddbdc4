"""What custom derivatives and checkpoints are used for, as functions of one scalar, for fgrad and for JAX.

See custom_programs.py for what a program takes.
"""

from functools import partial

import numpy

RNG = numpy.random.default_rng(3)
WEIGHTS = 0.5 * RNG.standard_normal((4, 4))
ROWS = RNG.standard_normal((3, 4))


# --- custom derivatives ----------------------------------------------------------------------------------------------
def implicit_layer(lib):
    """x = tanh(w x + b) solved by a loop; the parameters are a dict, and the cotangent of the guess is None."""
    m, np, lax = lib.m, lib.np, lib.lax

    @partial(m.custom_vjp, nondiff_argnums=(0,))
    def solve(f, params, guess):
        def moving(pair):
            return np.max(np.abs(pair[0] - pair[1])) > 1e-14

        return lax.while_loop(moving, lambda pair: (pair[1], f(params, pair[1])), (guess, f(params, guess)))[1]

    def fwd(f, params, guess):
        x = solve(f, params, guess)
        return x, (params, x)

    def bwd(f, residuals, ct):
        params, x = residuals

        def adjoint(known, u):
            params, x, ct = known
            return ct + m.vjp(lambda x: f(params, x), x)[1](u)[0]

        u = solve(adjoint, (params, x, ct), ct)
        return m.vjp(lambda params: f(params, x), params)[1](u)[0], None

    solve.defvjp(fwd, bwd)

    def f(b):
        params = {"w": np.asarray(WEIGHTS), "b": b * np.asarray(ROWS[0])}
        x = solve(lambda p, x: np.tanh(0.4 * p["w"] @ x + p["b"]), params, np.zeros_like(params["b"]))
        return np.sum(x * x)

    return f


def clipped_network(lib):
    """A layer that leaves values alone and clips each gradient, with limits that Python computes."""
    m, np = lib.m, lib.np

    @partial(m.custom_vjp, nondiff_argnums=(1, 2))
    def clip(x, limit, where):
        return x

    clip.defvjp(
        lambda x, limit, where: (x, None),
        lambda limit, where, _, ct: (np.clip(ct, -limit, limit) if "hidden" in where else ct,),
    )

    def f(x):
        h = clip(np.tanh(x * np.asarray(ROWS) @ WEIGHTS), limit=0.3, where="hidden")
        return np.sum(clip(h @ WEIGHTS, 0.0, "out") ** 2)

    return f


def scaled_by_a_tree(lib):
    """Pytrees on all sides, a variable number of arguments, an integer leaf, and None for what has no cotangent."""
    m, np = lib.m, lib.np

    @m.custom_vjp
    def f(state, *scales):
        return {"y": state["x"] * scales[0], "n": state["n"], "nothing": ()}

    def bwd(residuals, ct):
        x, scales = residuals["kept"]
        return {"x": 3 * ct["y"] * scales[0], "n": None}, ct["y"] * x, *[None] * (len(scales) - 1)

    f.defvjp(lambda state, *scales: (f(state, *scales), {"kept": (state["x"], scales), "tag": None}), bwd)
    return lambda x: f({"x": x, "n": np.asarray(3)}, np.sin(x), x)["y"] * x


def safe_norm(lib):
    """The Euclidean norm, whose derivative at zero is zero, not 0 / 0."""
    m, np = lib.m, lib.np

    @m.custom_jvp
    def norm(v):
        return np.sqrt(np.sum(v * v))

    @norm.defjvp
    def norm_jvp(primals, tangents):
        (v,), (t,) = primals, tangents
        n = norm(v)
        return n, np.where(n == 0, 0.0, np.sum(v * t) / np.where(n == 0, 1.0, n))

    return lambda x: norm(x * np.asarray(ROWS[0])) + norm(0 * x * np.asarray(ROWS[1])) * x


def iterated(lib):
    """A function and a number of steps as arguments that are not differentiated; the rule calls it with one fewer."""
    m = lib.m

    @partial(m.custom_jvp, nondiff_argnums=(0, 2))
    def iterate(f, x, n):
        for _ in range(n):
            x = f(x)
        return x

    @iterate.defjvp
    def iterate_jvp(f, n, primals, tangents):
        if n == 0:
            return primals[0], tangents[0]
        y, t = m.jvp(lambda x: iterate(f, x, n - 1), primals, tangents)
        return m.jvp(f, (y,), (2 * t,))

    return lambda x: iterate(lib.np.sin, x, 3)


def softmax(lib):
    """Attention with a softmax whose rule reads its own result."""
    m, np = lib.m, lib.np

    @m.custom_jvp
    def softmax(x):
        e = np.exp(x - np.max(x, axis=-1, keepdims=True))
        return e / np.sum(e, axis=-1, keepdims=True)

    softmax.defjvps(lambda t, y, x: y * (t - np.sum(y * t, axis=-1, keepdims=True)))

    def f(x):
        rows = x * np.asarray(ROWS)
        return np.sum(softmax(rows @ WEIGHTS @ rows.T) @ rows)

    return f


# --- checkpoints -----------------------------------------------------------------------------------------------------
def checkpointed_block(lib):
    """Blocks with a policy in the body of a scan, whose carry is all that is stored for each step."""
    m, np, lax = lib.m, lib.np, lib.lax

    @partial(m.checkpoint, policy=m.checkpoint_policies.dots_saveable)
    def block(h, w):
        return h + np.tanh(np.sin(h @ w) @ w), np.sum(h)

    def f(x):
        ws = np.stack([np.asarray(WEIGHTS), 0.5 * np.asarray(WEIGHTS)]) * x
        h, sums = lax.scan(block, x * np.asarray(ROWS), ws)
        return np.sum(h * h) + np.sum(sums**2)

    return f


def rules_in_checkpoints(lib):
    """A backward rule in a checkpoint in a checkpoint, with a value in the closure of both."""
    m, np = lib.m, lib.np

    @m.custom_vjp
    def f(x, y):
        return np.sin(x) * y

    f.defvjp(
        lambda x, y: (f(x, y), (x, y)), lambda res, ct: (2 * np.cos(res[0]) * res[1] * ct, 3 * np.sin(res[0]) * ct)
    )

    def g(x):
        inner = m.checkpoint(lambda v: f(v, x) + v)
        return m.checkpoint(lambda v: inner(inner(v)) * x)(np.cos(x))

    return g


REVERSE_ONLY = {f.__name__: f for f in (implicit_layer, clipped_network, scaled_by_a_tree, rules_in_checkpoints)}
BOTH_MODES = {f.__name__: f for f in (safe_norm, iterated, softmax, checkpointed_block)}


# --- rules in loops and branches -------------------------------------------------------------------------------------
# Each with the same in Python, which unrolls.
def two_rules(lib):
    np = lib.np
    f = lib.m.custom_vjp(lambda x, y: np.sin(x) * y)
    f.defvjp(
        lambda x, y: (np.sin(x) * y, (x, y)), lambda res, ct: (2 * np.cos(res[0]) * res[1] * ct, np.sin(res[0]) * ct)
    )
    g = lib.m.custom_jvp(lambda x: np.exp(-x))
    g.defjvps(lambda t, y, x: -0.5 * y * t)
    return f, g


def in_scan(lib):
    f, g = two_rules(lib)

    def step(c, y):
        return f(c, y) + g(c), g(c) * y

    def looped(x):
        c, ys = lib.lax.scan(step, x, lib.np.asarray(ROWS[0]))
        return c + lib.np.sum(ys)

    def unrolled(x):
        total = 0
        for y in ROWS[0]:
            x, out = step(x, y)
            total = total + out
        return x + total

    return looped, unrolled


def in_fori_loop(lib):
    f, g = two_rules(lib)

    def unrolled(x):
        c = x
        for _ in range(3):
            c = g(f(c, x))
        return c

    return lambda x: lib.lax.fori_loop(0, 3, lambda i, c: g(f(c, x)), x), unrolled


def in_cond(lib):
    f, g = two_rules(lib)
    taken = lambda x: f(x, g(x))  # noqa: E731
    return lambda x: lib.lax.cond(x > 0, taken, lambda x: g(f(x, x)), x), taken


def in_switch(lib):
    f, g = two_rules(lib)
    branches = [lambda x: x, lambda x: lib.m.checkpoint(f)(x, g(x)), g]
    return lambda x: lib.lax.switch(lib.np.asarray(1), branches, x), branches[1]


LOOPS = {f.__name__: f for f in (in_scan, in_fori_loop, in_cond, in_switch)}


def in_while_loop(lib):
    """Forward mode only: (looped, unrolled)."""
    _, g = two_rules(lib)
    looped = lambda x: lib.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, g(s[1])), (0, x))[1]  # noqa: E731
    return looped, lambda x: g(g(g(x)))
