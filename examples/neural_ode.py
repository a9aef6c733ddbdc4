"""Fits an ordinary differential equation with a network in place of its right-hand side.

The data are paths of a damped pendulum, x' = v, v' = -sin x - v/5. The program is a stack of transformations: a
network inside Runge-Kutta steps inside a loop over the time between samples (fori_loop) inside a loop over the samples
(scan), batched over paths (vmap), with a backward pass that stores one state for each sample (checkpoint), and compiled
(jit). Afterwards the Jacobian of the fitted field at rest (jacfwd) is compared with the pendulum's.

    python examples/neural_ode.py [--steps 500] [--paths 24] [--seed 0]
"""

import argparse
import time

import numpy as np

import fgrad
import fgrad.numpy as fnp
from fgrad import lax, nn, optim, random

SAMPLES, DT, SUBSTEPS = 25, 0.2, 2  # samples of a path, the time between two, Runge-Kutta steps in it


def pendulum(state):
    """The field to be found: state [2] = (x, v)."""
    x, v = state
    return fnp.stack([v, -fnp.sin(x) - 0.2 * v])


def network(params, state):
    """Two layers of tanh: state [2] -> its derivative [2]."""
    hidden = fnp.tanh(state @ params["w1"] + params["b1"])
    hidden = fnp.tanh(hidden @ params["w2"] + params["b2"])
    return hidden @ params["w3"]


def init(key, width=32):
    keys, weights = random.split(key, 3), nn.initializers.lecun_normal()
    return {
        "w1": weights(keys[0], (2, width)),
        "b1": fnp.zeros(width),
        "w2": weights(keys[1], (width, width)),
        "b2": fnp.zeros(width),
        "w3": weights(keys[2], (width, 2)),
    }


def runge_kutta(field, state, h):
    """One step of the classical method of fourth order."""
    k1 = field(state)
    k2 = field(state + 0.5 * h * k1)
    k3 = field(state + 0.5 * h * k2)
    k4 = field(state + h * k3)
    return state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def path(field, start):
    """The states at DT, 2 DT, ...: [SAMPLES, 2]."""

    @fgrad.checkpoint
    def sample(state, _):
        h = DT / SUBSTEPS
        state = lax.fori_loop(0, SUBSTEPS, lambda i, state: runge_kutta(field, state, h), state)
        return state, state

    return lax.scan(sample, start, None, length=SAMPLES)[1]


def loss(params, starts, paths):
    """Mean squared distance of the samples; starts [n, 2], paths [n, SAMPLES, 2]."""
    fitted = fgrad.vmap(lambda start: path(lambda state: network(params, state), start))(starts)
    return fnp.mean((fitted - paths) ** 2)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500, help="steps of Adam")
    parser.add_argument("--paths", type=int, default=24, help="paths in the data")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    start_key, init_key = random.split(random.key(args.seed))
    starts = random.uniform(start_key, (args.paths, 2), minval=-1.2, maxval=1.2)
    paths = fgrad.jit(fgrad.vmap(lambda start: path(pendulum, start)))(starts)

    params = init(init_key)
    optimiser = optim.adam(optim.cosine_decay_schedule(2e-2, args.steps))
    state = optimiser.init(params)

    @fgrad.jit
    def step(params, state):
        value, gradient = fgrad.value_and_grad(loss)(params, starts, paths)
        updates, state = optimiser.update(gradient, state, params)
        return optim.apply_updates(params, updates), state, value

    first = float(loss(params, starts, paths))
    began = time.perf_counter()
    for i in range(1, args.steps + 1):
        params, state, value = step(params, state)
        if i % max(args.steps // 5, 1) == 0:
            print(f"step {i:4d} of {args.steps}: loss {float(value):.2e}")
    took = time.perf_counter() - began
    print(f"{1e3 * took / args.steps:.2f} ms a step, compilation included; the loss was {first:.2f} at first")

    rest = fnp.zeros(2)
    print("Jacobian at rest, of the pendulum and of the network:")
    print(np.round(fgrad.jacfwd(pendulum)(rest), 2))
    fitted = fgrad.jacfwd(lambda state: network(params, state))(rest)
    print(np.round(fitted, 2))
    return float(loss(params, starts, paths)), np.asarray(fitted)


if __name__ == "__main__":
    main()
