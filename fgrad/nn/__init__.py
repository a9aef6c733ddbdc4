"""fgrad.nn: activations, normalised exponentials, pooling, dropout, initialisers and losses, as pure functions."""

from fgrad.nn import initializers
from fgrad.nn.activations import (
    celu,
    elu,
    gelu,
    glu,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_sign,
    softplus,
    swish,
    tanh,
)
from fgrad.nn.losses import (
    huber_loss,
    l2_loss,
    sigmoid_binary_cross_entropy,
    smooth_labels,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    squared_error,
)
from fgrad.nn.normalised import log_softmax, logsumexp, one_hot, softmax, standardize
from fgrad.nn.pooling import avg_pool, max_pool, min_pool
from fgrad.nn.regularisation import dropout

__all__ = [
    "initializers",
    # activations
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "log_sigmoid",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softplus",
    "swish",
    "tanh",
    # over an axis
    "log_softmax",
    "logsumexp",
    "one_hot",
    "softmax",
    "standardize",
    # layers without parameters
    "avg_pool",
    "dropout",
    "max_pool",
    "min_pool",
    # losses
    "huber_loss",
    "l2_loss",
    "sigmoid_binary_cross_entropy",
    "smooth_labels",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "squared_error",
]
