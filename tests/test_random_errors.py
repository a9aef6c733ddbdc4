"""What fgrad.random refuses, with the whole of every message."""

import numpy as np
from error_checks import cases, check

import fgrad
from fgrad import random
from fgrad.errors import ConcretizationError

KEY = random.key(0)
MAKE_ONE = "Make one with fgrad.random.key(seed); map over many keys with vmap."
CLIP = "Clip it at 0 if only rounding takes it there."


@cases(
    ("no array", TypeError, f"normal: key must be a uint32 array of shape (2,), got 3 of type int. {MAKE_ONE}",
     lambda: random.normal(3)),
    ("a list", TypeError, f"split: key must be a uint32 array of shape (2,), got [0, 1] of type list. {MAKE_ONE}",
     lambda: random.split([0, 1])),
    ("dtype", TypeError, f"bits: key must be a uint32 array of shape (2,), got int32 of shape (2,). {MAKE_ONE}",
     lambda: random.bits(np.zeros(2, np.int32))),
    ("many", TypeError, f"gamma: key must be a uint32 array of shape (2,), got uint32 of shape (2, 2). {MAKE_ONE}",
     lambda: random.gamma(random.split(KEY), 1.0)),
    ("words", TypeError,
     "wrap_key_data: keys must be a uint32 array of shape (..., 2), got float64 of shape (2,). Convert or reshape "
     "them.",
     lambda: random.wrap_key_data(np.zeros(2))),
    ("seed", TypeError, "key: the seed must be an integer, got f32[]~. Pass an int; vmap key for many seeds.",
     lambda: random.key(1.5)),
    ("many seeds", TypeError, "key: the seed must be an integer, got i64[3]. Pass an int; vmap key for many seeds.",
     lambda: random.key(np.arange(3))),
    ("long seed", OverflowError,
     "key: the seed must fit into 64 bits, got 18446744073709551616. Use a smaller one.", lambda: random.key(2**64)),
    ("impl", ValueError, "key: impl must be 'threefry2x32', the one generator, got 'rbg'. Leave it out.",
     lambda: random.PRNGKey(0, impl="rbg")),
    ("data", OverflowError, "fold_in: data must fit into 32 bits, unsigned, got -1. Use data % 2**32.",
     lambda: random.fold_in(KEY, -1)),
    ("float data", TypeError, "fold_in: data must be an integer, got f32[]~. Pass an int; vmap fold_in for many.",
     lambda: random.fold_in(KEY, 1.0)),
)  # fmt: skip
def test_keys(error, text, f):
    check(error, text, f)


@cases(
    ("negative size", ValueError, "split: sizes must not be negative, got (-1,). Give sizes of at least 0.",
     lambda: random.split(KEY, -1)),
    ("size", TypeError, "normal: sizes must be integers, got 2.5 of type float. Use int(...).",
     lambda: random.normal(KEY, 2.5)),
    ("traced size", ConcretizationError,
     "index: argument 'n' of <lambda> has no value while jit of <lambda> traces it, got i32[]~ at HERE. "
     "Shapes and Python indices must be static: make the argument static.",
     lambda: fgrad.jit(lambda n: random.normal(KEY, (n,)))(3)),
    ("traced number of elements", ConcretizationError,
     "index: argument 'n' of <lambda> has no value while jit of <lambda> traces it, got i32[]~ at HERE. "
     "Shapes and Python indices must be static: make the argument static.",
     lambda: fgrad.jit(lambda n: random.permutation(KEY, n))(3)),
    ("parameters", ValueError,
     "uniform: parameters must broadcast to shape (3,), got (2, 3) and (). Ask for another shape, or reshape them.",
     lambda: random.uniform(KEY, (3,), minval=np.zeros((2, 3)))),
    ("parameters of one another", ValueError,
     "beta: shapes must broadcast (aligned at the last axis, sizes equal or 1), got (2,) and (3,). Reshape one, or "
     "insert axes of size 1 with x[:, None].", lambda: random.beta(KEY, np.ones(2), np.ones(3))),
    ("batch", ValueError,
     "dirichlet: parameters must broadcast to shape (4,), got (2,). Ask for another shape, or reshape them.",
     lambda: random.dirichlet(KEY, np.ones((2, 3)), (4,))),
    ("no axis", ValueError,
     "dirichlet: alpha must have an axis of parameters, got shape (). Give one for each component.",
     lambda: random.dirichlet(KEY, 1.0)),
    ("complex", TypeError, "poisson: lam must be real, got c64[]~. Take fgrad.numpy.real of it.",
     lambda: random.poisson(KEY, 1j)),
    ("list", TypeError,
     "gamma: operands must be arrays or scalars, got [1.0] of type list. Convert lists and tuples with "
     "fgrad.numpy.asarray.", lambda: random.gamma(KEY, [1.0])),
    ("floats", TypeError, "uniform: dtype must be floating-point, got int32. Use float32, or randint for integers.",
     lambda: random.uniform(KEY, dtype=int)),
    ("integers", TypeError, "randint: dtype must be an integer, got float32. Use int32, or uniform for floats.",
     lambda: random.randint(KEY, (2,), 0, 9, "float32")),
    ("bits", TypeError, "bits: dtype must be an unsigned integer, got float32. Use uint8, uint16, uint32 or uint64.",
     lambda: random.bits(KEY, (2,), float)),
    ("signs", TypeError, "rademacher: dtype must hold 1 and -1, got uint8. Use int32 or float32.",
     lambda: random.rademacher(KEY, (2,), "uint8")),
    ("matrices", TypeError,
     "orthogonal: dtype must be float32 or float64, got float16. Convert the result with .astype.",
     lambda: random.orthogonal(KEY, 3, dtype="float16")),
    ("mean and cov", ValueError,
     "multivariate_normal: mean must have shape (..., n) and cov (..., n, n), got (2,) and (3, 3). Reshape them.",
     lambda: random.multivariate_normal(KEY, np.zeros(2), np.eye(3))),
    ("method", ValueError,
     "multivariate_normal: method must be 'cholesky', 'eigh' or 'svd', got 'lu'. Choose one.",
     lambda: random.multivariate_normal(KEY, np.zeros(2), np.eye(2), method="lu")),
    ("mode", ValueError, "gumbel: mode must be 'low' or 'high', got 'middle'. Choose one of them.",
     lambda: random.gumbel(KEY, mode="middle")),
)  # fmt: skip
def test_shapes_and_dtypes(error, text, f):
    check(error, text, f)


@cases(
    ("uniform", ValueError, "uniform: minval must be at most maxval, got 3.0 and 1.0. Change one of them.",
     lambda: random.uniform(KEY, (2,), minval=3, maxval=np.array([5, 1]))),
    ("truncated_normal", ValueError,
     "truncated_normal: lower must be below upper, got 1.0 and 1.0. Change one of them.",
     lambda: random.truncated_normal(KEY, 1.0, 1.0)),
    ("triangular", ValueError, "triangular: mode must be at most right, got 4.0 and 2.0. Change one of them.",
     lambda: random.triangular(KEY, 1.0, 4.0, 2.0)),
    ("gamma", ValueError, f"gamma: a must not be negative, got -1.0. {CLIP}", lambda: random.gamma(KEY, -1.0)),
    ("beta", ValueError, f"beta: b must not be negative, got -0.5. {CLIP}",
     lambda: random.beta(KEY, 1.0, np.array([1.0, -0.5]))),
    ("poisson under jit", ValueError, f"poisson: lam must not be negative, got -3.0. {CLIP}",
     lambda: fgrad.jit(lambda k: random.poisson(k, -3.0))(KEY)),
    ("binomial", ValueError, "binomial: p must be in [0, 1], got 1.5. Clip it if only rounding takes it out.",
     lambda: random.binomial(KEY, 5, 1.5)),
    ("bernoulli", TypeError, "bernoulli: p must be floating-point, got i32[]~. Pass a probability in [0, 1].",
     lambda: random.bernoulli(KEY, 1)),
    ("ball", ValueError, "ball: p must be positive and finite, got inf. For p = inf use uniform with minval=-1.",
     lambda: random.ball(KEY, 3, np.inf)),
    ("empty range", ValueError,
     "randint: minval must be below maxval, got 5 and 5. maxval itself is not drawn: add 1.",
     lambda: random.randint(KEY, (2,), 5, np.array([6, 5]))),
    ("range of uint8", ValueError,
     "randint: the range must fit into uint8 (0 to 255), got maxval 300. Ask for a wider dtype.",
     lambda: random.randint(KEY, (2,), 0, 300, "uint8")),
    ("range of int32", ValueError,
     "randint: the range must fit into int32 (-2147483648 to 2147483647), got minval -1180591620717411303424. Ask for "
     "a wider dtype.", lambda: random.randint(KEY, (2,), -(2**70), 5)),
    ("bounds", TypeError, "randint: minval must be an integer, got f32[]~. Convert it with .astype(int).",
     lambda: random.randint(KEY, (2,), 0.0, 5)),
)  # fmt: skip
def test_domains(error, text, f):
    check(error, text, f)


@cases(
    ("a scalar", TypeError,
     "permutation: a scalar must be an integer, a number of elements, got f32[]~. Pass an array.",
     lambda: random.permutation(KEY, 3.5)),
    ("a negative number", ValueError,
     "permutation: the number of elements must not be negative, got -3. Pass one of at least 0.",
     lambda: random.permutation(KEY, -3)),
    ("axis", ValueError,
     "permutation: axis must be in [-2, 2) for an operand of 2 dimensions, got 2. Change the axis.",
     lambda: random.permutation(KEY, np.zeros((2, 3)), 2)),
    ("nothing", ValueError, "choice: there must be elements to draw from, got none for 2 draws. Add some.",
     lambda: random.choice(KEY, 0, (2,))),
    ("too many", ValueError,
     "choice: without replacement there are at most 3 draws, the number of elements, got 5 (shape (5,)). Draw fewer, "
     "or with replace=True.", lambda: random.choice(KEY, 3, (5,), replace=False)),
    ("length of p", ValueError,
     "choice: p must have a probability for each of the 5 elements, shape (5,), got (4,). Reshape p, or change the "
     "axis.", lambda: random.choice(KEY, 5, p=np.ones(4))),
    ("negative p", ValueError, f"choice: p must not be negative, got -1.0. {CLIP}",
     lambda: random.choice(KEY, 2, p=np.array([2.0, -1.0]))),
    ("no number", ValueError, "choice: p must be numbers, got NaN at 1. Change it.",
     lambda: random.choice(KEY, 2, p=np.array([2.0, np.nan]))),
    ("no probability", ValueError,
     "choice: enough elements must have a positive p, got 0 of 2 (3 draws with replace=True need 1). Draw fewer, or "
     "change p.", lambda: random.choice(KEY, 2, (3,), p=np.zeros(2))),
    ("few positive", ValueError,
     "choice: enough elements must have a positive p, got 2 of 3 (3 draws with replace=False need 3). Draw fewer, or "
     "change p.", lambda: random.choice(KEY, 3, (3,), replace=False, p=np.array([0.5, 0.0, 0.5]))),
    ("logits", TypeError, "categorical: logits must be floating-point, got i64[3]. Pass log-probabilities.",
     lambda: random.categorical(KEY, np.arange(3))),
    ("no category", ValueError,
     "categorical: there must be categories to draw from, got size 0 for axis 1 of logits (2, 0). Change the axis.",
     lambda: random.categorical(KEY, np.zeros((2, 0)))),
    ("too many categories", ValueError,
     "categorical: without replacement there are at most 3 draws, the size of axis 1 of logits (2, 3), got 4 (shape "
     "(4, 2)). Draw fewer, or with replace=True.",
     lambda: random.categorical(KEY, np.zeros((2, 3)), shape=(4, 2), replace=False)),
    ("batch of categories", ValueError,
     "categorical: without replacement shape must end in the other axes of logits, got (2, 3) for (1,). Broadcast the "
     "logits.", lambda: random.categorical(KEY, np.zeros((1, 3)), shape=(2, 3), replace=False)),
)  # fmt: skip
def test_selections(error, text, f):
    check(error, text, f)
