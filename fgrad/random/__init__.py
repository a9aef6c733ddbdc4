"""Random numbers from explicit keys: the same key always gives the same numbers.

A key is a uint32 array of two words.  ``split`` a key to get new ones and use each key once.  Bits come from
Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw: *Parallel random numbers: as easy as 1, 2, 3*, SC 2011,
https://doi.org/10.1145/2063384.2063405), applied to (key, index of the element).  They equal the bits that JAX draws
from the same seed (its default, ``jax_threefry_partitionable``), and so does every function here that only rearranges
bits; those that compute with them (normal, gumbel, ...) agree to rounding.

Everything is written in fgrad operations: it works under ``jit`` and ``vmap``, keys included.
"""

from fgrad.random.continuous import (
    bits,
    cauchy,
    double_sided_maxwell,
    exponential,
    gumbel,
    laplace,
    logistic,
    lognormal,
    maxwell,
    normal,
    pareto,
    rayleigh,
    triangular,
    truncated_normal,
    uniform,
    wald,
    weibull_min,
)
from fgrad.random.counts import binomial, multinomial, poisson
from fgrad.random.gamma import ball, beta, chisquare, dirichlet, f, gamma, generalized_normal, loggamma, t
from fgrad.random.integers import bernoulli, geometric, rademacher, randint
from fgrad.random.keys import PRNGKey, clone, fold_in, key, key_data, split, wrap_key_data
from fgrad.random.matrices import multivariate_normal, orthogonal
from fgrad.random.selection import categorical, choice, permutation

__all__ = [
    "PRNGKey",
    "ball",
    "bernoulli",
    "beta",
    "binomial",
    "bits",
    "categorical",
    "cauchy",
    "chisquare",
    "choice",
    "clone",
    "dirichlet",
    "double_sided_maxwell",
    "exponential",
    "f",
    "fold_in",
    "gamma",
    "generalized_normal",
    "geometric",
    "gumbel",
    "key",
    "key_data",
    "laplace",
    "loggamma",
    "logistic",
    "lognormal",
    "maxwell",
    "multinomial",
    "multivariate_normal",
    "normal",
    "orthogonal",
    "pareto",
    "permutation",
    "poisson",
    "rademacher",
    "randint",
    "rayleigh",
    "split",
    "t",
    "triangular",
    "truncated_normal",
    "uniform",
    "wald",
    "weibull_min",
    "wrap_key_data",
]
