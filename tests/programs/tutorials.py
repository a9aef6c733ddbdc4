"""Programs as a JAX user writes them, in JAX's own names: test_tutorials.py runs them with the imports exchanged.

A program takes nothing and returns a pytree of arrays.  Inputs come from NumPy, so that both libraries get the same.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

PROGRAMS = []


def program(f):
    PROGRAMS.append(f)
    return f


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- recurrent networks ----------------------------------------------------------------------------------------------
def lstm_cell(params, carry, x):
    h, c = carry
    gates = jnp.dot(x, params["wx"]) + jnp.dot(h, params["wh"]) + params["b"]
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f + 1.0) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def lstm_params():
    return {"wx": 0.3 * normal(0, 3, 16), "wh": 0.3 * normal(1, 4, 16), "b": np.zeros(16, np.float32)}


@program
def lstm_over_a_batch():
    """The loss of an LSTM over time-major sequences, and its gradient."""

    def loss(params, xs, target):
        start = (jnp.zeros((5, 4)), jnp.zeros((5, 4)))
        (h, _), hs = lax.scan(functools.partial(lstm_cell, params), start, xs)
        return jnp.mean((h - target) ** 2) + 1e-3 * jnp.sum(hs**2)

    return jax.jit(jax.value_and_grad(loss))(lstm_params(), normal(2, 7, 5, 3), normal(3, 5, 4))


@program
def lstm_with_masked_lengths():
    """Sequences of different lengths: finished ones keep their state; the batch is a vmap."""
    lengths = np.array([7, 3, 1, 5])

    def last(params, xs, length):
        def step(carry, inputs):
            x, t = inputs
            (h, c), _ = lstm_cell(params, carry, x)
            go = t < length
            return jax.tree.map(lambda new, old: jnp.where(go, new, old), (h, c), carry), None

        return lax.scan(step, (jnp.zeros(4), jnp.zeros(4)), (xs, jnp.arange(xs.shape[0])))[0][0]

    batched = jax.vmap(last, in_axes=(None, 0, 0))
    xs = normal(4, 4, 7, 3)
    slopes = jax.grad(lambda p: jnp.sum(jnp.sin(batched(p, xs, lengths))))(lstm_params())
    return batched(lstm_params(), xs, lengths), slopes


@program
def bidirectional_rnn():
    """One scan forwards and one in reverse, unrolled."""
    w = 0.4 * normal(5, 2, 4, 4)
    xs = normal(6, 9, 4)

    def run(w, xs, reverse):
        def step(h, x):
            h = jnp.tanh(w @ h + x)
            return h, h

        return lax.scan(step, jnp.zeros(4), xs, reverse=reverse, unroll=4)

    def both(w):
        (a, ys), (b, zs) = run(w[0], xs, False), run(w[1], xs, True)
        return jnp.concatenate([ys, zs], axis=-1), a - b

    return both(w), jax.grad(lambda w: sum(jnp.sum(y**2) for y in both(w)))(w)


# --- search and roots ------------------------------------------------------------------------------------------------
@program
def beam_search():
    """The most likely sequences of a Markov chain, kept in a while_loop until every beam has ended."""
    width, vocabulary, longest, end = 3, 5, 8, 0
    table = jax.nn.log_softmax(jnp.asarray(normal(7, vocabulary, vocabulary)), axis=-1)

    def unfinished(state):
        step, _, _, done = state
        return (step < longest) & ~jnp.all(done)

    def extend(state):
        step, tokens, scores, done = state
        last = lax.dynamic_index_in_dim(tokens, step - 1, axis=1, keepdims=False)
        follow = jnp.where(done[:, None], jnp.where(jnp.arange(vocabulary) == end, 0.0, -1e9), table[last])
        total = scores[:, None] + follow
        scores, flat = lax.top_k(total.reshape(-1), width)
        beam, token = flat // vocabulary, flat % vocabulary
        tokens = tokens[beam].at[:, step].set(token)
        return step + 1, tokens, scores, done[beam] | (token == end)

    @jax.jit
    def search(first):
        tokens = jnp.zeros((width, longest), jnp.int32).at[:, 0].set(first)
        scores = jnp.array([0.0, -1e9, -1e9])
        return lax.while_loop(unfinished, extend, (1, tokens, scores, jnp.zeros(width, bool)))

    return search(2), jax.vmap(search)(jnp.arange(1, 4))


@program
def newton_root():
    """A root by while_loop, batched, with forward derivatives."""

    def solve(a):
        def go(state):
            i, _, step = state
            return (jnp.abs(step) > 1e-5) & (i < 50)

        def newton(state):
            i, x, _ = state
            f = lambda x: x**3 - a  # noqa: E731
            step = f(x) / jax.grad(f)(x)
            return i + 1, x - step, step

        return lax.while_loop(go, newton, (0, a, jnp.inf))[1]

    a = jnp.array([0.5, 1.0, 8.0, 27.0])
    return jax.vmap(solve)(a), jax.jvp(jax.vmap(solve), (a,), (jnp.ones(4),)), jax.jit(jax.jacfwd(solve))(2.0)


@program
def implicit_fixed_point():
    """A fixed point by while_loop whose gradient solves the transposed linear equation: a custom_vjp."""

    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def fixed_point(f, a, x):
        def go(pair):
            before, now = pair
            return jnp.max(jnp.abs(before - now)) > 1e-5

        return lax.while_loop(go, lambda pair: (pair[1], f(a, pair[1])), (x, f(a, x)))[1]

    def forward(f, a, x):
        star = fixed_point(f, a, x)
        return star, (a, star)

    def backward(f, residuals, ct):
        a, star = residuals
        _, pull_a = jax.vjp(lambda a: f(a, star), a)
        u = fixed_point(functools.partial(backward_step, f), (a, star, ct), ct)
        return pull_a(u)[0], jnp.zeros_like(star)

    def backward_step(f, packed, u):
        a, star, ct = packed
        _, pull_x = jax.vjp(lambda x: f(a, x), star)
        return ct + pull_x(u)[0]

    fixed_point.defvjp(forward, backward)

    def loss(a):
        return jnp.sum(fixed_point(lambda a, x: jnp.tanh(0.2 * a @ x + 0.3), a, jnp.zeros(3)) ** 2)

    a = normal(8, 3, 3)
    return loss(a), jax.grad(loss)(a), jax.jit(jax.grad(loss))(a), jax.vmap(jax.grad(loss))(jnp.stack([a, -a]))


# --- loops in loops --------------------------------------------------------------------------------------------------
@program
def vmapped_scan():
    """A scan over shared steps for many starts and many rates."""

    def logistic_map(r, x):
        return lax.scan(lambda x, _: (r * x * (1 - x), x), x, None, length=6)

    rates, starts = jnp.linspace(2.5, 3.0, 4), jnp.linspace(0.1, 0.9, 3)
    grid = jax.vmap(jax.vmap(logistic_map, (None, 0)), (0, None), out_axes=1)
    return grid(rates, starts), jax.grad(lambda r: jnp.sum(grid(r, starts)[0]))(rates)


@program
def scan_of_scan():
    """Gradient descent by scan whose loss runs a scan, differentiated with respect to the rate."""
    xs, ys = normal(9, 6, 2), normal(10, 6)

    def loss(w):
        return lax.scan(lambda s, xy: (s + (jnp.dot(xy[0], w) - xy[1]) ** 2, None), 0.0, (xs, ys))[0] / len(ys)

    def train(rate):
        def step(w, _):
            value, slope = jax.value_and_grad(loss)(w)
            return w - rate * slope, value

        return lax.scan(step, jnp.zeros(2), None, length=5)

    return train(0.1), jax.grad(lambda rate: loss(train(rate)[0]))(0.1), jax.jit(jax.jacrev(lambda r: train(r)[1]))(0.1)


@program
def masked_fori_loop():
    """Power iteration: a loop of a fixed bound that stops changing once it is done."""
    m = normal(11, 5, 5)
    m = m @ m.T

    def largest(m):
        def body(i, state):
            v, done = state
            w = m @ v
            w = w / jnp.linalg.norm(w)
            done = done | (jnp.max(jnp.abs(w - v)) < 1e-3)
            return jnp.where(done, v, w), done

        v, _ = lax.fori_loop(0, 40, body, (jnp.ones(5) / jnp.sqrt(5.0), False))
        return v @ m @ v

    return largest(m), jax.grad(largest)(m)


@program
def heat_equation():
    """Explicit steps in a fori_loop with a traced number of steps; windows by roll and at-updates."""

    @jax.jit
    def evolve(u, n):
        def step(_, u):
            u = u + 0.2 * (jnp.roll(u, 1) + jnp.roll(u, -1) - 2 * u)
            return u.at[0].set(0.0).at[-1].set(0.0)

        return lax.fori_loop(0, n, step, u)

    u = normal(12, 10)
    return evolve(u, 3), evolve(u, 11), jax.jvp(lambda u: evolve(u, 5), (u,), (jnp.ones(10),))


@program
def sieve_with_a_while_in_a_fori_loop():
    """Collatz lengths: a while_loop inside of lax.map inside of jit."""

    def length(n):
        def step(state):
            n, k = state
            return jnp.where(n % 2 == 0, n // 2, 3 * n + 1), k + 1

        return lax.while_loop(lambda state: state[0] != 1, step, (n, 0))[1]

    ns = jnp.arange(1, 20)
    return jax.jit(lambda ns: lax.map(length, ns))(ns), jax.vmap(length)(ns)


@program
def branches_in_a_scan():
    """A state machine: switch and cond inside of scan, under vmap and grad."""

    def run(x, codes):
        def step(x, code):
            x = lax.switch(code, [jnp.sin, lambda x: x * x, lambda x: x - 1.0], x)
            x = lax.cond(x > 0.5, lambda x: 0.5 * x, lambda x: x + 0.1, x)
            return x, x

        return lax.scan(step, x, codes)

    codes = jnp.array([0, 1, 2, 1, 0, 2, 5])
    many = jnp.array([0.3, 1.5, -0.7])
    total = lambda x: jnp.sum(run(x, codes)[1])  # noqa: E731
    shuffled = jnp.stack([codes, codes[::-1], codes])
    return run(0.3, codes), jax.vmap(run)(many, shuffled), jax.vmap(jax.grad(total))(many), jax.grad(total)(0.3)


@program
def prefix_products():
    """associative_scan of sums, matrix products and a linear recurrence; reversed, on another axis, differentiated."""
    m = 0.5 * normal(13, 7, 3, 3)
    products = lax.associative_scan(lambda a, b: jnp.matmul(b, a), m)
    a, b = normal(14, 7), normal(15, 7)

    def recurrence(a, b):
        def compose(p, q):
            return q[0] * p[0], q[0] * p[1] + q[1]

        return lax.associative_scan(compose, (a, b))[1]

    slopes = jax.grad(lambda a: jnp.sum(recurrence(a, b) ** 2))(a)
    sums = lax.associative_scan(jnp.add, normal(16, 3, 6), axis=1, reverse=True)
    return products, recurrence(a, b), slopes, sums, jax.vmap(recurrence)(m[:, 0], m[:, 1])


@program
def viterbi():
    """Max-product decoding: a scan forwards that stores pointers, a scan backwards that follows them."""
    start, move, emit = (
        jax.nn.log_softmax(jnp.asarray(normal(s, *n))) for s, n in ((17, [4]), (18, [4, 4]), (19, [4, 3]))
    )

    @jax.jit
    def decode(seen):
        def forward(score, symbol):
            ways = score[:, None] + move
            return jnp.max(ways, 0) + emit[:, symbol], jnp.argmax(ways, 0)

        score, pointers = lax.scan(forward, start + emit[:, seen[0]], seen[1:])
        last = jnp.argmax(score)
        _, path = lax.scan(lambda state, pointer: (pointer[state], pointer[state]), last, pointers, reverse=True)
        return jnp.max(score), jnp.append(path, last)

    seen = jnp.array([0, 2, 1, 1, 2, 0])
    return decode(seen), jax.vmap(decode)(jnp.stack([seen, seen[::-1]]))


# --- collectives -----------------------------------------------------------------------------------------------------
@program
def batch_norm_by_axis_name():
    """Batch statistics by pmean inside a per-example network, trained through grad of vmap."""

    def net(params, x):
        y = x @ params["w"]
        mean = lax.pmean(y, axis_name="batch")
        var = lax.pmean((y - mean) ** 2, axis_name="batch")
        y = (y - mean) / jnp.sqrt(var + 1e-5) * params["scale"]
        return jax.nn.relu(y) @ params["v"], (mean, var)

    def loss(params, xs, ys):
        apply = jax.vmap(net, in_axes=(None, 0), out_axes=(0, None), axis_name="batch")
        out, stats = apply(params, xs)
        return jnp.mean((out - ys) ** 2), stats

    params = {"w": normal(20, 3, 4), "scale": np.ones(4, np.float32), "v": normal(21, 4)}
    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params, normal(22, 6, 3), normal(23, 6))


@program
def collectives_over_two_axes():
    """psum over one and both of two named axes, axis_index, all_gather and all_to_all; the range over one by pmax."""
    x = normal(24, 2, 3, 3)

    def f(x):
        i, j = lax.axis_index("i"), lax.axis_index("j")
        total = lax.psum(x, ("i", "j")) / lax.psum(1, ("i", "j"))
        row = lax.psum(x * (1 + j), "j")
        every = lax.all_gather(x, "j", axis=1)
        swapped = lax.all_to_all(x, "j", 0, 0)
        return total, row / (1 + i), every, swapped

    def over_both(f):
        return jax.vmap(jax.vmap(f, axis_name="j"), axis_name="i")

    slopes = jax.grad(lambda x: sum(jnp.sum(jnp.sin(y)) for y in over_both(f)(x)))(x)
    return over_both(f)(x), slopes, over_both(lambda x: lax.pmax(x, "i") - lax.pmin(x, "i"))(x)


@program
def ring_of_examples():
    """A ring all-reduce: every round passes the operand to the neighbour by ppermute."""
    n = 5

    def ring_sum(x):
        def pass_on(carry, _):
            total, moving = carry
            moving = lax.ppermute(moving, "ring", [(i, (i + 1) % n) for i in range(n)])
            return (total + moving, moving), moving

        (total, _), seen = lax.scan(pass_on, (x, x), None, length=n - 1)
        return total, seen

    x = normal(25, n, 2)
    run = jax.jit(jax.vmap(ring_sum, axis_name="ring"))
    return (
        run(x),
        jax.grad(lambda x: jnp.sum(run(x)[0] ** 2))(x),
        jax.vmap(lambda x: lax.psum(x, "ring"), axis_name="ring")(x),
    )


@program
def contrastive_loss():
    """Each example against all gathered ones."""
    a, b = normal(26, 4, 3), normal(27, 4, 3)

    def loss(u, v):
        every = lax.all_gather(v, "batch")
        logits = every @ u / 0.5
        return jax.nn.logsumexp(logits) - logits[lax.axis_index("batch")]

    total = lambda a, b: jnp.mean(jax.vmap(loss, axis_name="batch")(a, b))  # noqa: E731
    return total(a, b), jax.grad(total, (0, 1))(a, b)


# --- whole derivatives -----------------------------------------------------------------------------------------------
@program
def derivatives_of_a_scan():
    """jacfwd, jacrev and hessian of a pendulum's last angle, in its start and its length."""

    def swing(start, length):
        def step(state, _):
            angle, speed = state
            speed = speed - 0.1 * jnp.sin(angle) / length
            return (angle + 0.1 * speed, speed), angle

        return lax.scan(step, (start[0], start[1]), None, length=12)[1]

    start = jnp.array([1.0, 0.2])
    last = lambda s, n: swing(s, n)[-1]  # noqa: E731
    return (
        jax.jacfwd(swing, (0, 1))(start, 1.5),
        jax.jacrev(swing, (0, 1))(start, 1.5),
        jax.hessian(last)(start, 1.5),
        jax.jit(jax.hessian(last, argnums=(0, 1)))(start, 1.5),
    )


@program
def hessian_vector_products():
    """Forward over reverse and reverse over reverse of a small network, by linearize and vjp."""
    x, y = normal(28, 5, 3), normal(29, 5)
    params = {"w": normal(30, 3, 4), "v": normal(31, 4)}
    direction = jax.tree.map(jnp.ones_like, params)

    def loss(p):
        return jnp.mean((jnp.tanh(x @ p["w"]) @ p["v"] - y) ** 2)

    def inner(a, b):
        return sum(jnp.vdot(u, v) for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b)))

    _, push = jax.linearize(jax.grad(loss), params)
    _, pull = jax.vjp(jax.grad(loss), params)
    reverse = jax.grad(lambda p: inner(jax.grad(loss)(p), direction))(params)
    return jax.jvp(jax.grad(loss), (params,), (direction,)), push(direction), pull(direction), reverse


@program
def map_in_batches():
    """lax.map with and without batch_size, of a function with a loop in it, and its gradient."""
    xs, w = normal(32, 10, 4), normal(33, 4, 4)

    def f(w, x):
        return lax.fori_loop(0, 3, lambda i, x: jnp.tanh(w @ x) + i, x)

    def total(w, size):
        return jnp.sum(lax.map(lambda x: f(w, x), xs, batch_size=size))

    return [(lax.map(lambda x: f(w, x), xs, batch_size=n), jax.grad(total)(w, n)) for n in (None, 3, 5, 10)]


@program
def checkpointed_layers():
    """Stacked layers run by scan, each one checkpointed, with a policy."""
    layers = {"w": 0.3 * normal(34, 6, 4, 4), "b": 0.1 * normal(35, 6, 4)}
    x = normal(36, 2, 4)

    def loss(layers, policy):
        @functools.partial(jax.checkpoint, policy=policy)
        def layer(x, p):
            return x + jnp.tanh(x @ p["w"] + p["b"]), None

        return jnp.sum(lax.scan(layer, x, layers)[0] ** 2)

    policies = jax.checkpoint_policies
    return [jax.grad(loss)(layers, p) for p in (None, policies.dots_saveable, policies.nothing_saveable)]
