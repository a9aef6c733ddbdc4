"""Valid calls of the transformations and of fgrad.nn, random, optim, debug, extend, tree_util, datasets, config."""

import atexit
import collections
import dataclasses
import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np
from error_calls import Call, Fresh, call
from error_functions import (
    aval_of_cube,
    backward_of_sine,
    convolved,
    double,
    everything,
    forward_of_sine,
    leaf_is_tuple,
    numpy_cube,
    on_host,
    pair,
    plus,
    product,
    rule_of_sine,
    same,
    scalar_cube,
    scaled,
    schedule,
    share_of_cube,
    share_of_sine,
    sine,
    sound_tree_flatten,
    sound_tree_unflatten,
    total,
    total_and_aux,
    total_of_two,
)
from error_seeds_lax import F, I, N, X, at_work

import fgrad
from fgrad import checkpoint_policies, extend, optim, tree_util

KEY = np.array([0, 7], np.uint32)
TREE = {"w": F(2, 3), "b": (F(3), None)}
STRUCTURE = tree_util.tree_structure(TREE)
JAXPR = fgrad.make_jaxpr(sine)(X)
Point = collections.namedtuple("Point", "x y")


def new_class():
    @dataclasses.dataclass
    class Fields:
        x: int = 1
        y: int = 2

        def tree_flatten(self):
            return (self.x,), self.y

        @classmethod
        def tree_unflatten(cls, aux, children):
            return cls(children[0], aux)

    return Fields


NEW_CLASS = Fresh(new_class, "<a new dataclass>")


def then(c: Call, *args) -> Call:
    """The call's result is called with these."""
    return Call(c.target, c.args, c.kwargs, args)


TRANSFORMATIONS = {
    "grad": [then(call(total), F(3)), then(call(total_of_two, (0, 1)), F(3), F(3)),
             then(call(total_and_aux, has_aux=True), X)],
    "value_and_grad": [then(call(total), F(3)), then(call(total_of_two, argnums=1), F(3), F(3))],
    "vjp": [call(sine, X), call(total_and_aux, X, has_aux=True), call(pair, X, 2.0)],
    "vjp.pullback": [call(sine, (X,), X), call(pair, (F(2), F(3)), {"a": F(2), "b": (F(3), F(2))})],
    "jvp": [call(sine, (X,), (X,)), call(total_and_aux, (X,), (X,), True), call(scaled, (2, X), (None, X))][:2],
    "linearize": [call(sine, X), call(pair, X, X)],
    "linearize.tangent": [call(sine, (X,), (X,)), call(product, (X, X), (X, X))],
    "linear_transpose": [then(call(double, X), X), then(call(double, fgrad.ShapeDtypeStruct((2,), "float32")), F(2))],
    "vmap": [then(call(sine), X), then(call(plus, in_axes=(0, None), out_axes=1), X, F(3)),
             then(call(pair, (1, 0), 0, axis_name="j", axis_size=3), X, F(3)), then(call(convolved), F(2, 1, 2, 4, 4))],
    "jit": [then(call(sine), X), then(call(scaled, static_argnums=0), 3, X),
            then(call(scaled, static_argnames=("n",), donate_argnums=(1,)), 3, X),
            then(call(pair, donate_argnames="x"), X, N), then(call(convolved), F(1, 2, 4, 4))],
    "jit.lower": [call(pair, X, 2)],
    "make_jaxpr": [then(call(sine), X), then(call(scaled, static_argnums=(0,), return_shape=True), 3, X)],
    "eval_shape": [call(pair, X, y=N), call(sine, fgrad.ShapeDtypeStruct((2,), "float32"))],
    "jacfwd": [then(call(sine), F(3)), then(call(product, (0, 1), chunk_size=2), F(3), F(3))],
    "jacrev": [then(call(sine), F(3)), then(call(total_and_aux, has_aux=True), F(3))],
    "jacobian": [then(call(sine, 0), F(3))],
    "hessian": [then(call(total), F(3)), then(call(total_of_two, argnums=(0, 1), chunk_size=1), F(2), F(2))],
    "checkpoint": [then(call(sine), X), then(call(scaled, static_argnums=(0,), prevent_cse=False), 2, X),
                   then(call(plus, policy=checkpoint_policies.dots_saveable, static_argnames=()), X, X)],
    "custom_jvp": [call(sine, rule_of_sine, (X,)),
                   call(sine, rule_of_sine, (X,), nondiff_argnums=(), nondiff_argnames=())],
    "custom_jvp.defjvps": [call(sine, (share_of_sine,), (X,)), call(sine, (None,), (X,))],
    "custom_vjp": [call(sine, forward_of_sine, backward_of_sine, (X,)),
                   call(sine, forward_of_sine, backward_of_sine, (X,), nondiff_argnums=())],
    "closure_convert": [call(sine, X), call(pair, X, N)],
    "pure_callback": [call(on_host, fgrad.ShapeDtypeStruct((2, 3), "float32"), X),
                      call(on_host, X, X, vmap_method="sequential"),
                      Call("", (on_host, X[0], X[0]), {"vmap_method": "expand_dims"}, trace="vmap",
                           traced=(("args", 2),))],
    "ShapeDtypeStruct": [call((2, 3), "float32")],
    "stop_gradient": [call(TREE)],
    "Array": [],
    "cache_info": [call()],
    "clear_caches": [],
    "ad_checkpoint.checkpoint_name": [call(X, "x")],
    "ad_checkpoint.print_saved_residuals": [call(total, X)],
    "ad_checkpoint.saved_residuals": [call(total_of_two, X, y=X)],
    **{f"checkpoint_policies.{n}": [call("x", "y")] for n in (
        "save_only_these_names", "save_any_names_but_these", "save_anything_except_these_names")},
    "checkpoint_policies.save_from_both_policies": [
        call(checkpoint_policies.dots_saveable, checkpoint_policies.nothing_saveable)],
    "jaxpr.pretty_print": [call(), call(source_info=True)],
}  # fmt: skip
TRANSFORMATIONS = {n: calls for n, calls in TRANSFORMATIONS.items() if calls}

NN = {
    **{n: [call(X)] for n in (
        "gelu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "log_sigmoid", "mish", "relu", "relu6", "selu",
        "sigmoid", "silu", "soft_sign", "softplus", "swish", "tanh")},
    **{n: [call(X, 0.5)] for n in ("celu", "elu", "leaky_relu")},
    "gelu": [call(X, approximate=False)],
    "glu": [call(F(2, 4), axis=-1)],
    **{n: [call(X), call(X, 0)] for n in ("log_softmax", "softmax")},
    "logsumexp": [call(X, 1, X, True), call(X)],
    "one_hot": [call(I(3), 5, dtype="float32", axis=0), call(N, 4)],
    "standardize": [call(X, 0, 1e-3)],
    "avg_pool": [call(F(2, 6, 6, 3), (2, 2), (2, 1), "SAME", False), call(F(6, 6, 1), (2, 2))],
    **{n: [call(F(2, 6, 6, 3), (2, 2), strides=(2, 2), padding=((0, 1), (1, 0)))] for n in ("max_pool", "min_pool")},
    "dropout": [call(KEY, 0.5, X)],
    "huber_loss": [call(X, X, 0.5)],
    "l2_loss": [call(X, X)],
    "squared_error": [call(X, X)],
    "sigmoid_binary_cross_entropy": [call(X, X)],
    "smooth_labels": [call(X, 0.1)],
    "softmax_cross_entropy": [call(X, X, axis=-1)],
    "softmax_cross_entropy_with_integer_labels": [call(X, I(2)), call(X, I(3) % 2, axis=0)],
    **{f"initializers.{n}": [call(KEY, (2, 3), "float32")] for n in ("zeros", "ones")},
    **{f"initializers.{n}": [then(call(0.5), KEY, (2, 3)), then(call(0.5, "float64"), KEY, (2, 3), "float32")]
       for n in ("constant", "uniform", "normal")},
    "initializers.truncated_normal": [then(call(0.5, "float64", -1.0, 1.0), KEY, (2, 3))],
    "initializers.variance_scaling": [
        then(call(1.0, "fan_avg", "uniform", 0, 1, (), "float64"), KEY, (2, 3)),
        then(call(2.0, "fan_in", "truncated_normal", in_axis=(0, 1), batch_axis=2), KEY, (2, 3, 2, 4))],
    **{f"initializers.{a}_{b}": [then(call(), KEY, (2, 3)), then(call(0, 1, (2,), "float64"), KEY, (2, 3, 2))]
       for a in ("glorot", "he", "lecun", "xavier", "kaiming") for b in ("uniform", "normal")},
}  # fmt: skip

RANDOM = {
    **{n: [call(0), call(5, impl=None)] for n in ("PRNGKey", "key")},
    **{n: [call(KEY, (2, 3), "float32"), call(KEY)] for n in (
        "cauchy", "exponential", "gumbel", "laplace", "logistic", "maxwell", "normal")},
    "bits": [call(KEY, (2,), "uint8")],
    "rademacher": [call(KEY, (2,), "int8")],
    "ball": [call(KEY, 2, 2, (3,), "float32")],
    "bernoulli": [call(KEY, 0.3, (2,)), call(KEY, X, mode="high")],
    **{n: [call(KEY, 2.0, (3,), "float32"), call(KEY, F(3) + 1)] for n in (
        "chisquare", "gamma", "loggamma", "pareto", "t", "rayleigh", "wald", "lognormal")},
    "generalized_normal": [call(KEY, 2.0, (3,), "float32")],
    "geometric": [call(KEY, 0.3, (2,), "int32")],
    **{n: [call(KEY, 2.0, 3.0, (3,), "float32"), call(KEY, F(3) + 1, 1.0)] for n in ("beta", "f", "weibull_min")},
    "binomial": [call(KEY, 10, 0.5, (3,), "float32")],
    "multinomial": [call(KEY, 5, np.array([0.2, 0.8])), call(KEY, 5, F(2) / 2, shape=(3, 2), dtype="float32")],
    "categorical": [call(KEY, X), call(KEY, X, axis=0, shape=(2, 3)), call(KEY, X, shape=(2, 2), replace=False)],
    "choice": [call(KEY, 5, (2,)), call(KEY, X, (2,), False, F(3) / 1.5, axis=1), call(KEY, F(4), (2,), p=F(4) / 2)],
    "clone": [call(KEY)],
    "dirichlet": [call(KEY, F(3), (2,), "float32")],
    "double_sided_maxwell": [call(KEY, 0.0, 1.0, (2,), "float32")],
    "fold_in": [call(KEY, 3)],
    "key_data": [call(KEY)],
    "wrap_key_data": [call(KEY, impl=None)],
    "multivariate_normal": [call(KEY, F(2), np.eye(2, dtype=np.float32), (3,), "float32", "svd"),
                            call(KEY, F(2), np.eye(2, dtype=np.float32))],
    "orthogonal": [call(KEY, 3, (2,), "float32"), call(KEY, 2, m=3)],
    "permutation": [call(KEY, 5), call(KEY, X, axis=1, independent=True)],
    "poisson": [call(KEY, 3.0, (2,), "int32")],
    "randint": [call(KEY, (3,), 0, 9, "int32"), call(KEY, (), I(), 7)],
    "split": [call(KEY), call(KEY, (2, 2))],
    "triangular": [call(KEY, 0.0, 0.5, 1.0, (2,), "float32")],
    "truncated_normal": [call(KEY, -1.0, 1.0, (2,), "float32")],
    "uniform": [call(KEY, (2,), "float32", -1.0, F(2))],
}  # fmt: skip

GRADIENTS = {"w": X, "b": F(3)}
OPTIM = {
    "apply_updates": [call(GRADIENTS, GRADIENTS)],
    "chain": [then(call(optim.clip(1.0), optim.scale(-0.1)), GRADIENTS)],
    "global_norm": [call(GRADIENTS)],
    "identity": [then(call(), GRADIENTS)],
    "adam": [then(call(0.1, 0.8, 0.9, 1e-6, 1e-6, True), GRADIENTS), then(call(schedule), GRADIENTS)],
    "adamw": [then(call(0.1, weight_decay=0.1, mask=everything), GRADIENTS),
              then(call(0.1, mask={"w": True, "b": False}, nesterov=True), GRADIENTS)],
    "sgd": [then(call(0.1, 0.9, True), GRADIENTS), then(call(schedule), GRADIENTS)],
    "add_decayed_weights": [then(call(0.1, {"w": True, "b": False}), GRADIENTS)],
    "clip": [then(call(1.0), GRADIENTS)],
    "clip_by_global_norm": [then(call(1.0), GRADIENTS)],
    "scale": [then(call(-0.1), GRADIENTS)],
    "scale_by_adam": [then(call(0.9, 0.99, 1e-6, 0.0, nesterov=True), GRADIENTS)],
    "scale_by_learning_rate": [then(call(0.1), GRADIENTS), then(call(schedule), GRADIENTS)],
    "scale_by_schedule": [then(call(schedule), GRADIENTS)],
    "trace": [then(call(0.9, nesterov=True), GRADIENTS)],
    "constant_schedule": [then(call(0.1), 3)],
    "cosine_decay_schedule": [then(call(0.1, 10, 0.01, 2.0), 3)],
    "exponential_decay": [then(call(0.1, 10, 0.5, 2, True, 0.01), 3), then(call(0.1, 10, 0.5), I())],
    "join_schedules": [then(call([schedule, schedule], [5]), 3)],
    "linear_schedule": [then(call(0.1, 0.0, 10, 2), 3)],
    "piecewise_constant_schedule": [then(call(0.1, {5: 0.5, 8: 0.1}), 6)],
    "warmup_cosine_decay_schedule": [then(call(0.0, 0.1, 3, 10, 0.01, 1.0), 5)],
}  # fmt: skip

DEBUG = {
    "callback": [call(double, X), call(pair, X, y=3, ordered=True)],
    "print": [call("{} {x:.2f}", X, x=F()), call("{x}", x=TREE, ordered=True, skip_format_check=True)],
    "check_finite": [then(call(sine), X), then(call(double, nan=True, inf=False), X)],
    "check_tracer_leaks": [call(True)],
    "checking_leaks": [call()],
    "debug_infs": [call(False)],
    "debug_nans": [call(True)],
}
DEBUG = {f"debug.{n}": calls for n, calls in DEBUG.items()}

EXTEND = {
    "elementwise": [
        then(call("tests.cube", numpy=numpy_cube, scalar=scalar_cube, derivatives=share_of_cube, domain="float"), X),
        then(call("tests.host_cube", numpy=numpy_cube, derivatives=(share_of_cube,), result="float32"), X),
    ],
    "primitive": [
        then(call("tests.host", numpy=numpy_cube, abstract=aval_of_cube, derivatives=share_of_cube, batch="loop"), X),
        then(call("tests.linear", numpy=same, abstract=aval_of_cube, linear=True, transpose=None), X),
        then(call("tests.vectorised", numpy=numpy_cube, abstract=aval_of_cube, batch="broadcast"), X),
    ],
    "Primitive": [
        then(call("tests.filled", abstract=aval_of_cube, reference=same, cpu=extend.Host("a test"), jvp=extend.Linear(),
                  transpose=extend.Unfilled("a test"), batch=extend.Unfilled("a test")), X),
    ],
    "eval_jaxpr": [call(JAXPR.jaxpr, JAXPR.consts, X)],
    "check_jaxpr": [call(JAXPR)],
    "in_float32": [call(scalar_cube)],
    "instantiate": [call(X), call(extend.Zero(extend.ShapedArray((2,), np.dtype("float32"))))],
}  # fmt: skip

TREES = {
    "Partial": [then(call(plus, X), X)],
    "register_dataclass": [call(NEW_CLASS), call(NEW_CLASS, ["x"], meta_fields=("y",))],
    "register_pytree_node": [call(NEW_CLASS, sound_tree_flatten, sound_tree_unflatten)],
    "register_pytree_node_class": [call(NEW_CLASS)],
    "tree_all": [call((True, [False]))],
    "tree_flatten": [call(TREE), call(Point(1, 2), leaf_is_tuple)],
    "tree_flatten_with_path": [call(TREE, is_leaf=leaf_is_tuple)],
    "tree_leaves": [call(TREE)],
    "tree_map": [call(double, TREE), call(plus, TREE, TREE, is_leaf=leaf_is_tuple)],
    "tree_reduce": [call(plus, (1, 2, [3])), call(plus, (), 0)],
    "tree_structure": [call(TREE)],
    "tree_transpose": [call(tree_util.tree_structure((0, 0)), tree_util.tree_structure([0]), ([1], [2]))],
    "tree_unflatten": [call(STRUCTURE, [1, 2])],
}

MNIST = Path(tempfile.mkdtemp(prefix="fgrad-mnist-"))
atexit.register(shutil.rmtree, MNIST, ignore_errors=True)
for part in ("train", "t10k"):
    (MNIST / f"{part}-images-idx3-ubyte").write_bytes(
        b"\0\0\x08\x03" + struct.pack(">3I", 2, 28, 28) + bytes(2 * 28 * 28)
    )
    (MNIST / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 2) + b"\1\2")
FILES = {
    "datasets.load_digits": [call(True)],
    "datasets.load_mnist": [call(str(MNIST), normalize=False)],
    "datasets.read_idx": [call(MNIST / "train-images-idx3-ubyte")],
    "datasets.train_test_split": [call(10, 0.2, seed=1)],
    "config.set_num_threads": [call(2)],
    "config.using_num_threads": [call(1)],
    "config.set_cache_limits": [call(entries=10, nbytes=1 << 20)],
    "config.set_cache_dir": [call(str(MNIST))],
    "config.set_cache_dir_bytes": [call(1 << 28)],
    **{
        f"config.{n}": [call()]
        for n in ("num_threads", "cores", "cpu_vector_bits", "cache_limits", "cache_dir", "cache_dir_bytes")
    },
}

SEEDS = {
    **TRANSFORMATIONS,
    **{f"nn.{name}": calls for name, calls in NN.items()},
    **{f"random.{name}": [at_work(c, "shape") for c in calls] for name, calls in RANDOM.items()},
    **{f"optim.{name}": calls for name, calls in OPTIM.items()},
    **DEBUG,
    **{f"extend.{name}": calls for name, calls in EXTEND.items()},
    **{f"tree_util.{name}": calls for name, calls in TREES.items()},
    **FILES,
}
