"""The same bits from run to run, for every number of threads, in several threads at once, and in other processes."""

import os
import subprocess
import sys

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import lax, nn, optim
from fgrad.testing import check_deterministic

NHWC = ("NHWC", "HWIO", "NHWC")


def normal(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def conv(x, w, stride=1, groups=1):
    return lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=NHWC, feature_group_count=groups)


def conv_gradients(stride, groups):
    return lambda x, w: fgrad.grad(lambda x, w: fnp.sum(fnp.sin(conv(x, w, stride, groups))), (0, 1))(x, w)


def loss(params, x, labels):
    """Of a small CNN with batch normalisation."""
    y = conv(x, params["conv1"])
    y = (y - fnp.mean(y, (0, 1, 2))) / fnp.sqrt(fnp.var(y, (0, 1, 2)) + 1e-5)
    y = nn.max_pool(nn.relu(y), (2, 2), (2, 2))
    y = nn.relu(conv(y, params["conv2"], 2))
    return -fnp.mean(nn.log_softmax(y.reshape(x.shape[0], -1) @ params["dense"]) * nn.one_hot(labels, 10))


OPTIMISER = optim.adam(1e-2)


def training(params, x, labels):
    """Two steps with Adam."""
    state, values = OPTIMISER.init(params), []
    for _ in range(2):
        value, gradients = fgrad.value_and_grad(loss)(params, x, labels)
        updates, state = OPTIMISER.update(gradients, state, params)
        params = optim.apply_updates(params, updates)
        values.append(value)
    return params, values


PARAMS = {"conv1": normal(3, 3, 2, 16), "conv2": normal(3, 3, 16, 24), "dense": normal(4 * 4 * 24, 10)}

# Large enough for several tiles on every thread.
PROGRAMS = {
    "conv": (lambda x, w: conv(x, w, 2), (normal(8, 30, 30, 16), normal(3, 3, 16, 32))),
    "conv gradients": (conv_gradients(1, 1), (normal(8, 30, 30, 16), normal(3, 3, 16, 32))),
    "weight gradients in chunks": (conv_gradients(1, 1), (normal(8, 20, 20, 32), normal(3, 3, 32, 64))),
    "few channels": (conv_gradients(2, 1), (normal(8, 32, 32, 3), normal(5, 5, 3, 7))),
    "few features": (conv_gradients(1, 1), (normal(8, 32, 32, 16), normal(3, 3, 16, 4))),
    "depthwise": (conv_gradients(1, 32), (normal(8, 30, 30, 32), normal(3, 3, 1, 32))),
    "grouped": (conv_gradients(2, 4), (normal(8, 30, 30, 32), normal(3, 3, 8, 32))),
    "dot": (lambda x, y: (x @ y, x.T @ x), (normal(301, 517), normal(517, 203))),
    "reductions": (
        lambda x: (fnp.sum(x), fnp.mean(x, 0), fnp.var(x, (1, 2)), fnp.prod(1 + x / 1e4), fnp.max(x, 1)),
        (normal(32, 70, 90),),
    ),
    "windows": (
        fgrad.grad(lambda x: fnp.sum(nn.max_pool(x, (3, 3), (2, 2)) ** 2) + fnp.sum(nn.avg_pool(x, (3, 3), (1, 1)))),
        (normal(8, 33, 33, 24),),
    ),
    "softmax": (
        lambda x: (nn.softmax(x), nn.logsumexp(x, axis=0), fgrad.grad(lambda x: fnp.sum(nn.softmax(x) ** 2))(x)),
        (normal(300, 301),),
    ),
    "scatter and sort": (
        lambda x: (fnp.zeros(100).at[np.arange(50_000) % 97].add(x), fnp.sort(x), fnp.cumsum(x)),
        (normal(50_000),),
    ),
    "training": (training, (PARAMS, normal(16, 16, 16, 2), np.arange(16) % 10)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_in_one_process(name):
    f, args = PROGRAMS[name]
    check_deterministic(f, args, runs=2, threads=2)


CHILD = """
import hashlib, sys
sys.path.insert(0, {folder!r})
import fgrad, numpy as np, test_same_bits as t
for name, (f, args) in t.PROGRAMS.items():
    leaves = [np.asarray(x) for x in fgrad.tree.tree_leaves(fgrad.jit(f)(*args))]
    print(name, hashlib.sha256(b"".join(x.tobytes() for x in leaves)).hexdigest())
"""


def test_in_other_processes():
    code = CHILD.format(folder=os.path.dirname(__file__))
    outputs = {
        threads: subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"FGRAD_NUM_THREADS": threads},
        ).stdout
        for threads in ("1", "2")
    }  # fmt: skip
    assert outputs["1"] == outputs["2"] and outputs["1"].count("\n") == len(PROGRAMS)
