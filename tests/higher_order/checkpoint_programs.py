"""Functions to checkpoint, and policies: shared by the tests of values, of residuals and of memory."""

import numpy as np

import fgrad.numpy as fnp
from fgrad import lax
from fgrad.ad_checkpoint import checkpoint_name
from fgrad.higher_order import checkpoint_policies as policies

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


def stack(groups, wrap):
    """The loss of 32 convolutions with relu; ``groups`` of (4, 8): 4 groups of 8 layers, each group wrapped."""

    def layers(ws, x):
        for w in ws:
            x = fnp.maximum(lax.conv(x, w, (1, 1), "SAME"), 0)
        return x

    def nest(sizes):
        if len(sizes) == 1:
            return layers
        inner, size = wrap(nest(sizes[1:])), int(np.prod(sizes[1:]))

        def run(ws, x):
            for i in range(0, len(ws), size):
                x = inner(ws[i : i + size], x)
            return x

        return run

    return lambda ws, x: fnp.sum(nest(groups)(ws, x) ** 2)


def operands_of_stack(batch):
    scale = np.float32(np.sqrt(2 / 72))
    ws = [fnp.asarray(RNG.standard_normal((8, 8, 3, 3), np.float32) * scale) for _ in range(32)]
    return ws, fnp.asarray(RNG.standard_normal((batch, 8, 16, 16), np.float32))
