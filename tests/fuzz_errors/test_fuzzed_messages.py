"""Arguments that once reached an internal error, and the whole of what is said of them now."""

import numpy as np
import pytest
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import config, datasets, extend, lax, nn, optim, random, tree_util
from fgrad.core.trace import Tracer

X = np.ones((2, 3), np.float32)
SEVERAL = np.array([True, False])
KEY = np.array([0, 7], np.uint32)
IMAGE, KERNEL = np.ones((1, 2, 5, 5), np.float32), np.ones((4, 2, 3, 3), np.float32)
LINE, TAPS = np.ones((1, 5, 2), np.float32), np.ones((3, 2, 4), np.float32)
FLOAT0 = np.zeros(2, fgrad.float0)
STRUCTURE = tree_util.tree_structure((0, 0))


@cases(
    ("fnp.sum X  0  keepdims SEVERAL", TypeError,
     "reduction: keepdims must be True or False, got array([ True, False]) of type ndarray. Pass a bool.",
     lambda: fnp.sum(X, 0, keepdims=SEVERAL)),
    ("fnp.argmax X  keepdims SEVERAL", TypeError,
     "argmax: keepdims must be True or False, got array([ True, False]) of type ndarray. Pass a bool.",
     lambda: fnp.argmax(X, keepdims=SEVERAL)),
    ("fnp.median X  keepdims SEVERAL", TypeError,
     "median: keepdims must be True or False, got array([ True, False]) of type ndarray. Pass a bool.",
     lambda: fnp.median(X, keepdims=SEVERAL)),
    ("lax.cumsum X  reverse SEVERAL", TypeError,
     "cumsum: reverse must be True or False, got array([ True, False]) of type ndarray. Pass a bool.",
     lambda: lax.cumsum(X, reverse=SEVERAL)),
    ("lax.scan lambda c  x   c  x  0.0  X  rev", TypeError,
     "scan: reverse must be True or False, got array([ True, False]) of type ndarray. Pass a bool.",
     lambda: lax.scan(lambda c, x: (c, x), 0.0, X, reverse=SEVERAL)),
    ("fnp.sort X  descending SEVERAL", TypeError,
     "sort: descending must be True or False, got array([ True, False]) of type ndarray. Pass a bool.",
     lambda: fnp.sort(X, descending=SEVERAL)),
    ("fnp.linspace 0  1  endpoint SEVERAL", TypeError,
     "linspace: endpoint must be True or False, got array([ True, False]) of type ndarray. Pass a bool.",
     lambda: fnp.linspace(0, 1, endpoint=SEVERAL)),
    ("fnp.linalg.svd X  compute_uv SEVERAL", TypeError,
     "svd: compute_uv must be True or False, got array([ True, False]) of type ndarray. Pass a bool.",
     lambda: fnp.linalg.svd(X, compute_uv=SEVERAL)),
    ("fnp.isclose X  X  equal_nan SEVERAL", TypeError,
     "isclose: equal_nan must be True or False, got array([ True, False]) of type ndarray. Pass a bool.",
     lambda: fnp.isclose(X, X, equal_nan=SEVERAL)),
    ("fgrad.grad lambda x  x  has_aux SEVERAL", TypeError,
     "grad: has_aux must be True or False, got array([ True, False]) of type ndarray. Pass a bool.",
     lambda: fgrad.grad(lambda x: x, has_aux=SEVERAL)(1.0)),
    ("nn.gelu X  approximate SEVERAL", TypeError,
     "gelu: approximate must be True or False, got array([ True, False]) of type ndarray. Pass a bool.",
     lambda: nn.gelu(X, approximate=SEVERAL)),
    ("optim.sgd 0.1  0.9  nesterov SEVERAL", TypeError,
     "trace: nesterov must be True or False, got array([ True, False]) of type ndarray. Pass a bool.",
     lambda: optim.sgd(0.1, 0.9, nesterov=SEVERAL)),
    ("fgrad.make_jaxpr fnp.sin 1.0 .pretty_pri", TypeError,
     "pretty_print: source_info must be True or False, got array([ True, False]) of type ndarray. Pass a bool.",
     lambda: fgrad.make_jaxpr(fnp.sin)(1.0).pretty_print(source_info=SEVERAL)),
    ("random.choice KEY  3  replace SEVERAL", TypeError,
     "choice: replace must be True or False, got array([ True, False]) of type ndarray. Pass a bool.",
     lambda: random.choice(KEY, 3, replace=SEVERAL)),
)  # fmt: skip
def test_flags(error, text, f):
    check(error, text, f)


@cases(
    ("fnp.eye 2.0", TypeError,
     "eye: sizes must be integers, got 2.0 of type float. Use int(...).",
     lambda: fnp.eye(2.0)),
    ("fnp.tri 3  k 1", TypeError,
     "tri: k must be an integer, got '1' of type str. Use int(...).",
     lambda: fnp.tri(3, k="1")),
    ("fnp.diag X  SEVERAL", TypeError,
     "diag: k must be an integer, got array([ True, False]) of type ndarray. Use int(...).",
     lambda: fnp.diag(X, SEVERAL)),
    ("fnp.linspace 0  1  2.5", TypeError,
     "linspace: num must be an integer, got 2.5 of type float. Use int(...).",
     lambda: fnp.linspace(0, 1, 2.5)),
    ("fnp.reshape X   3  None", TypeError,
     "reshape: sizes must be integers, got None of type NoneType. Use int(...).",
     lambda: fnp.reshape(X, (3, None))),
    ("fnp.split X  1.5", TypeError,
     "split: indices_or_sections must be integers, got 1.5 of type float. Use int(...).",
     lambda: fnp.split(X, 1.5)),
    ("fnp.tile X   1  0.5", TypeError,
     "tile: reps must be integers, got 0.5 of type float. Use int(...).",
     lambda: fnp.tile(X, (1, 0.5))),
    ("fnp.tile X   1", ValueError,
     "tile: reps must not be negative, got (-1,). Use 0 for an empty result.",
     lambda: fnp.tile(X, -1)),
    ("fnp.roll X  None", TypeError,
     "roll: shift must be integers, got None of type NoneType. Use int(...).",
     lambda: fnp.roll(X, None)),
    ("fnp.roll X   1  2  3   0  1", ValueError,
     "roll: shift and axis must be equally many, got (1, 2, 3) and (0, 1). Give one of each.",
     lambda: fnp.roll(X, (1, 2, 3), (0, 1))),
    ("fnp.pad X   1  0.5   0  0", TypeError,
     "pad: pad_width must be integers, got 0.5 of type float. Use int(...).",
     lambda: fnp.pad(X, ((1, 0.5), (0, 0)))),
    ("fnp.repeat X   1   x  0", TypeError,
     "repeat: repeats must be integers, got 'x' of type str. Use int(...).",
     lambda: fnp.repeat(X, [1, "x"], 0)),
    ("fnp.round X  0.5", TypeError,
     "round: decimals must be an integer, got 0.5 of type float. Use int(...).",
     lambda: fnp.round(X, 0.5)),
    ("fnp.tensordot X  X   1", ValueError,
     "tensordot: axes must be (axes of a, axes of b), got (1,). Give both, or a number.",
     lambda: fnp.tensordot(X, X, (1,))),
    ("fnp.rot90 X  1   0", ValueError,
     "rot90: axes must be two axes, got (0,). Name the plane to turn in.",
     lambda: fnp.rot90(X, 1, (0,))),
    ("fnp.size X  2", ValueError,
     "size: axis must be in [-2, 2) for an operand of 2 dimensions, got 2. Change the axis.",
     lambda: fnp.size(X, 2)),
    ("fnp.ones 3 slice 0   x", TypeError,
     "index: the parts of a slice must be integers or None, got 'x' of type str. Use int(...).",
     lambda: fnp.ones(3)[slice(0, "x")]),
    ("fnp.ones 2  3 .item 0  3", IndexError,
     "item: needs an index for each axis, or one for the elements in row-major order, got (0, 3) for shape "
     "(2, 3). Change the index.",
     lambda: fnp.ones((2, 3)).item(0, 3)),
    ("lax.integer_pow X  2.0", TypeError,
     "integer_pow: y must be an integer, got 2.0 of type float. Use int(...).",
     lambda: lax.integer_pow(X, 2.0)),
    ("lax.integer_pow X  2 40", ValueError,
     "integer_pow: y must fit into 32 bits, got 1099511627776. Use pow with a float exponent.",
     lambda: lax.integer_pow(X, 2**40)),
    ("lax.reduce_precision X  5.0  10", TypeError,
     "reduce_precision: exponent_bits must be an integer, got 5.0 of type float. Use int(...).",
     lambda: lax.reduce_precision(X, 5.0, 10)),
    ("lax.slice_in_dim X  0.5  2", TypeError,
     "slice_in_dim: start_index must be an integer or None, got 0.5 of type float. Use int(...).",
     lambda: lax.slice_in_dim(X, 0.5, 2)),
    ("lax.index_in_dim X  0.5", TypeError,
     "index_in_dim: the index must be an integer, got 0.5 of type float. Use int(...).",
     lambda: lax.index_in_dim(X, 0.5)),
    ("lax.conv_general_dilated IMAGE  KERNEL", TypeError,
     "conv_general_dilated: feature_group_count must be an integer, got '2' of type str. Use int(...).",
     lambda: lax.conv_general_dilated(IMAGE, KERNEL, (1, 1), "SAME", feature_group_count="2")),
    ("lax.sort X  num_keys 1.0", TypeError,
     "sort: num_keys must be an integer, got 1.0 of type float. Use int(...).",
     lambda: lax.sort(X, num_keys=1.0)),
    ("fgrad.make_jaxpr fnp.sin  static_argnums", TypeError,
     "make_jaxpr: static_argnums must be integers, got 0.5 of type float. Use int(...).",
     lambda: fgrad.make_jaxpr(fnp.sin, static_argnums=0.5)),
    ("fgrad.jit fnp.sin  static_argnums 0.5", TypeError,
     "jit: static_argnums must be integers, got 0.5. Pass one of them, a tuple of them or None.",
     lambda: fgrad.jit(fnp.sin, static_argnums=0.5)),
    ("config.set_num_threads 1", fgrad.errors.ConfigError,
     "FGRAD_NUM_THREADS: must be a positive integer, got [1]. Set it to a positive integer or unset it.",
     lambda: config.set_num_threads([1])),
)  # fmt: skip
def test_integers(error, text, f):
    check(error, text, f)


@cases(
    ("lax.concatenate 1.0  0", TypeError,
     "concatenate: operands must be a sequence, got 1.0 of type float. Pass a tuple.",
     lambda: lax.concatenate(1.0, 0)),
    ("lax.pad X  0.0  1", TypeError,
     "pad: padding_config must be a sequence, got 1 of type int. Pass a tuple.",
     lambda: lax.pad(X, 0.0, 1)),
    ("lax.dot_general X  X   1   0", TypeError,
     "dot_general: dimension_numbers must be ((lhs contracting, rhs contracting), (lhs batch, rhs batch)), "
     "got ((1,), (0,)). Give a pair of pairs of axes.",
     lambda: lax.dot_general(X, X, ((1,), (0,)))),
    ("lax.index_take X  0   0", TypeError,
     "index_take: idxs must be a sequence, got 0 of type int. Pass a tuple.",
     lambda: lax.index_take(X, 0, (0,))),
    ("lax.padtype_to_pads 5   3   0   SAME", ValueError,
     "padding: window_strides must be positive, got (0,). Use at least 1.",
     lambda: lax.padtype_to_pads((5,), (3,), (0,), "SAME")),
    ("lax.conv_transpose LINE  TAPS   1   EDGE", ValueError,
     "conv_transpose: padding must be 'SAME' or 'VALID', got 'EDGE'. Choose one of them.",
     lambda: lax.conv_transpose(LINE, TAPS, (1,), "EDGE", use_consistent_padding=True)),
    ("fnp.select X  1.0", TypeError,
     "select: choicelist must be a sequence, got 1.0 of type float. Pass a tuple.",
     lambda: fnp.select(X, 1.0)),
    ("fnp.indices 3", TypeError,
     "indices: dimensions must be a sequence, got 3 of type int. Pass a tuple.",
     lambda: fnp.indices(3)),
    ("nn.max_pool np.ones 1  4  1  np.float32", ValueError,
     "max_pool: padding must be 'SAME', 'VALID' or one (low, high) for each of the 1 spatial axes, got "
     "((1,),). Give 1 pairs.",
     lambda: nn.max_pool(np.ones((1, 4, 1), np.float32), (2,), padding=(1,))),
    ("optim.join_schedules 0.1", TypeError,
     "join_schedules: schedules must be a sequence, got 0.1 of type float. Pass a tuple.",
     lambda: optim.join_schedules(0.1, [])),
    ("optim.piecewise_constant_schedule 0.1", TypeError,
     "piecewise_constant_schedule: boundaries_and_scales must be a dict of scales by step, got [1] of type "
     "list. Write {100: 0.1}.",
     lambda: optim.piecewise_constant_schedule(0.1, [1])),
    ("fgrad.ShapeDtypeStruct 3   float32", TypeError,
     "ShapeDtypeStruct: shape must be a sequence, got 3 of type int. Pass a tuple.",
     lambda: fgrad.ShapeDtypeStruct(3, "float32")),
    ("fnp.einsum 3  X", TypeError,
     "einsum: subscripts must be text, got 3 of type int. Write 'ij,jk->ik'.",
     lambda: fnp.einsum(3, X)),
    ("fnp.einsum ii", TypeError,
     "dtype: at least one operand is needed to find a dtype, got none. Pass an array.",
     lambda: fnp.einsum("ii")),
)  # fmt: skip
def test_sequences(error, text, f):
    check(error, text, f)


@cases(
    ("fnp.zeros 2 40  2 40", ValueError,
     "broadcast_in_dim: the result must have less than 2**63 bytes, got 4835703278458516698824704 for "
     "f32[1099511627776,1099511627776]. Ask for smaller sizes.",
     lambda: fnp.zeros((2**40, 2**40))),
    ("lax.full 10 30  0  1.0", ValueError,
     "broadcast_in_dim: the result must have less than 2**63 bytes, got 4000000000000000000000000000000 for "
     "f32[1000000000000000000000000000000,0]. Ask for smaller sizes.",
     lambda: lax.full((10**30, 0), 1.0)),
    ("fnp.eye 10 20", ValueError,
     "iota: the result must have less than 2**63 bytes, got 40000000000000000000000000000000000000000 for "
     "i32[100000000000000000000,100000000000000000000]. Ask for smaller sizes.",
     lambda: fnp.eye(10**20)),
    ("fnp.arange 0  1  1e 30", ValueError,
     "arange: the result must have less than 2**63 bytes, got 7999999999999999033177091866624 for "
     "f64[999999999999999879147136483328]. Ask for smaller sizes.",
     lambda: fnp.arange(0, 1, 1e-30)),
    ("fnp.arange np.nan", ValueError,
     "arange: stop must be a finite real number, got nan. The size would be unknown.",
     lambda: fnp.arange(np.nan)),
    ("fnp.arange 2 63  2 63   1", OverflowError,
     "array: a Python int must fit into 64 bits, got 9223372036854775808. Use a float.",
     lambda: fnp.arange(2**63, 2**63 + 1)),
    ("fnp.pad X  10 20", ValueError,
     "pad: padding_config must be between -2**48 and 2**48, got (100000000000000000000, "
     "100000000000000000000, 0). No array is as large.",
     lambda: fnp.pad(X, 10**20)),
    ("fnp.repeat X  2 62", ValueError,
     "repeat: the result must have less than 2**63 bytes, got 18446744073709551616 for "
     "f32[4611686018427387904]. Ask for smaller sizes.",
     lambda: fnp.repeat(X, 2**62)),
    ("lax.slice X   0  0   2  2 50", ValueError,
     "slice: limit_indices must be between -2**48 and 2**48, got (2, 1125899906842624). No array is as large.",
     lambda: lax.slice(X, (0, 0), (2, 2**50))),
    ("fnp.reshape 1.0   1    65", ValueError,
     "reshape: arrays have at most 64 axes, got 65 for "
     "f32[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
     "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]. Reshape the operand.",
     lambda: fnp.reshape(1.0, (1,) * 65)),
    ("fnp.unravel_index np.int8 3   20  20", ValueError,
     "unravel_index: the indices' dtype must be able to count the elements, got 400 of them in (20, 20) and "
     "int8. Convert the indices with .astype.",
     lambda: fnp.unravel_index(np.int8(3), (20, 20))),
    ("datasets.train_test_split 2 60", ValueError,
     "train_test_split: n must be a number of examples in memory, got 1152921504606846976. Pass a smaller one.",
     lambda: datasets.train_test_split(2**60)),
)  # fmt: skip
def test_sizes(error, text, f):
    check(error, text, f)


@cases(
    ("fnp.zeros 2  X", TypeError,
     "dtype: not a dtype, got array([[1., 1., 1.],\n       [1., 1., 1.]], dtype=float32). Use one of bool, "
     "uint8, uint16, uint32, uint64, int8, int16, int32, int64, bfloat16, float16, float32, float64, "
     "complex64, complex128.",
     lambda: fnp.zeros(2, X)),
    ("fnp.zeros 2   n", TypeError,
     "dtype: not a dtype, got '(n)->()'. Use one of bool, uint8, uint16, uint32, uint64, int8, int16, int32, "
     "int64, bfloat16, float16, float32, float64, complex64, complex128.",
     lambda: fnp.zeros(2, "(n)->()")),
    ("fnp.add FLOAT0  1", TypeError,
     "dtype: operands must have values, got float0, the tangent of an integer. Leave it out.",
     lambda: fnp.add(FLOAT0, 1)),
    ("lax.eq FLOAT0  FLOAT0", TypeError,
     "eq: operands must be numbers or bools, got [('float0', 'V')]. Convert them with .astype.",
     lambda: lax.eq(FLOAT0, FLOAT0)),
    ("fnp.sort FLOAT0", TypeError,
     "sort: operands must have values, got float0, the tangent of integers. Leave it out.",
     lambda: fnp.sort(FLOAT0)),
    ("fnp.array 1.0  fgrad.float0", TypeError,
     "array: float0, the tangent of integers, has no numbers as values, got it as dtype. Use zeros.",
     lambda: fnp.array(1.0, fgrad.float0)),
    ("lax.convert_element_type FLOAT0   float3", TypeError,
     "convert_element_type: float0, the tangent of integers, converts to nothing, got float0[2] and float32. "
     "Make zeros of the dtype you want.",
     lambda: lax.convert_element_type(FLOAT0, "float32")),
    ("fnp.max 1j", TypeError,
     "dtype: operands must have an order, got complex64, whose values have none. Take abs or the real part.",
     lambda: fnp.max(1j)),
    ("fnp.finfo int32", TypeError,
     "finfo: the dtype must be floating-point or complex, got int32. Use iinfo for integers.",
     lambda: fnp.finfo("int32")),
    ("fnp.issubdtype float32  X", TypeError,
     "issubdtype: not a dtype or a kind of dtypes, got array([[1., 1., 1.],\n       [1., 1., 1.]], "
     "dtype=float32). Use np.floating or a dtype.",
     lambda: fnp.issubdtype("float32", X)),
    ("int fnp.asarray 1j", TypeError,
     "int: only a real number becomes one, got c64[]. Take x.item().real.",
     lambda: int(fnp.asarray(1j))),
    ("int fnp.asarray np.inf", OverflowError,
     "int: only a finite number is an integer, got inf. Replace it with where first.",
     lambda: int(fnp.asarray(np.inf))),
)  # fmt: skip
def test_dtypes(error, text, f):
    check(error, text, f)


@cases(
    ("nn.elu X   x", TypeError,
     "full: the value must be one number that float32 holds, got 'x'. Pass such a number.",
     lambda: nn.elu(X, "x")),
    ("nn.elu X  X", TypeError,
     "full: the value must be one number that float32 holds, got array([[1., 1., 1.],\n       [1., 1., 1.]], "
     "dtype=float32). Pass such a number.",
     lambda: nn.elu(X, X)),
    ("nn.standardize X  epsilon x", TypeError,
     "standardize: epsilon must be a real number, got 'x' of type str. Pass a float.",
     lambda: nn.standardize(X, epsilon="x")),
    ("nn.dropout KEY  X  X", TypeError,
     "dropout: rate must be a real number, got array([[1., 1., 1.],\n       [1., 1., 1.]], dtype=float32) of "
     "type ndarray. Pass a float.",
     lambda: nn.dropout(KEY, X, X)),
    ("fnp.var X  ddof x", TypeError,
     "var: ddof must be a real number, got 'x' of type str. Pass a float.",
     lambda: fnp.var(X, ddof="x")),
    ("fnp.linalg.norm X  SEVERAL", TypeError,
     "norm: ord must be a real number, got array([ True, False]) of type ndarray. Pass a float.",
     lambda: fnp.linalg.norm(X, SEVERAL)),
    ("optim.scale x", TypeError,
     "scale: step_size must be a real number, got 'x' of type str. Pass a float.",
     lambda: optim.scale("x")),
    ("optim.adam 0.1  b1 2.0", ValueError,
     "scale_by_adam: b1 must lie in [0, 1], got 2.0. It is the weight of the past.",
     lambda: optim.adam(0.1, b1=2.0)),
    ("optim.cosine_decay_schedule 0.1   10", TypeError,
     "cosine_decay_schedule: decay_steps must be a real number, got '10' of type str. Pass a float.",
     lambda: optim.cosine_decay_schedule(0.1, "10")),
    ("optim.exponential_decay 0.1  0  0.5", ValueError,
     "exponential_decay: transition_steps must be positive, got 0. Give the number of steps.",
     lambda: optim.exponential_decay(0.1, 0, 0.5)),
    ("nn.initializers.variance_scaling 1.0   f", ValueError,
     "variance_scaling: scale must not be negative, got -1.0. Use 1.0.",
     lambda: nn.initializers.variance_scaling(-1.0, "fan_in", "normal")),
)  # fmt: skip
def test_numbers(error, text, f):
    check(error, text, f)


@cases(
    ("fnp.searchsorted X 0  1.0  side SEVERAL", TypeError,
     "searchsorted: side must be 'left' or 'right', got array([ True, False]). Choose one of them.",
     lambda: fnp.searchsorted(X[0], 1.0, side=SEVERAL)),
    ("fnp.ravel X  order SEVERAL", ValueError,
     "reshape: order must be 'C' or 'F', got array([ True, False]). Use 'C'.",
     lambda: fnp.ravel(X, order=SEVERAL)),
    ("fnp.ones 3 .at 0 .set 1.0  mode SEVERAL", TypeError,
     "at: mode must be 'drop', 'fill', 'clip' or 'promise_in_bounds', got array([ True, False]). Choose one.",
     lambda: fnp.ones(3).at[0].set(1.0, mode=SEVERAL)),
    ("lax.gather X  np.array 0  axes 0  mode S", TypeError,
     "gather: mode must be 'clip', 'fill' or 'mark', got array([ True, False]). Choose one.",
     lambda: lax.gather(X, np.array([[0]]), axes=(0,), mode=SEVERAL)),
    ("random.gumbel KEY  mode SEVERAL", TypeError,
     "gumbel: mode must be 'low' or 'high', got array([ True, False]). Choose one of them.",
     lambda: random.gumbel(KEY, mode=SEVERAL)),
)  # fmt: skip
def test_choices(error, text, f):
    check(error, text, f)


@cases(
    ("fnp.ones 3 .at 0 .apply 1.0", TypeError,
     "at.apply: func must be a function, got 1.0 of type float. Pass a callable.",
     lambda: fnp.ones(3).at[0].apply(1.0)),
    ("optim.scale_by_schedule 0.1", TypeError,
     "scale_by_schedule: step_size_fn must be a function, got 0.1 of type float. Pass a callable.",
     lambda: optim.scale_by_schedule(0.1)),
    ("optim.chain 0.1", TypeError,
     "chain: needs transformations with init and update, got 0.1 of type float. Pass scale(0.1), say.",
     lambda: optim.chain(0.1)),
    ("lax.reduce X  0.0     0", TypeError,
     "reduce: computation must be lax.add, mul, max, min, bitwise_and, bitwise_or or bitwise_xor, got []. "
     "Write other folds with lax.scan or a Python loop.",
     lambda: lax.reduce(X, 0.0, [], (0,))),
    ("extend.elementwise  numpy np.abs", ValueError,
     "extend: a primitive's name must have a namespace, got '->' (names without one are fgrad's own). Write "
     "it as 'mylibrary.name'.",
     lambda: extend.elementwise("->", numpy=np.abs)),
    ("extend.eval_jaxpr 1", TypeError,
     "eval_jaxpr: needs a Jaxpr, got int. Pass closed.jaxpr and closed.consts.",
     lambda: extend.eval_jaxpr(1, ())),
    ("extend.check_jaxpr x", TypeError,
     "check_jaxpr: needs a jaxpr, got str. Make one with make_jaxpr.",
     lambda: extend.check_jaxpr("x")),
)  # fmt: skip
def test_functions(error, text, f):
    check(error, text, f)


@cases(
    ("tree_util.tree_map 1   2", TypeError,
     "tree_map: needs a function, got 1 of type int. Pass a callable.",
     lambda: tree_util.tree_map(1, (2,))),
    ("tree_util.tree_leaves 1  is_leaf 2", TypeError,
     "tree_leaves: is_leaf must be a function or None, got 2. Pass a callable.",
     lambda: tree_util.tree_leaves((1,), is_leaf=2)),
    ("tree_util.tree_leaves 1  is_leaf lambda", TypeError,
     "tree_leaves: is_leaf must return True or False, got something else. Use bool(...).",
     lambda: tree_util.tree_leaves((1,), is_leaf=lambda x: X)),
    ("tree_util.tree_unflatten 1  2   1", TypeError,
     "tree_unflatten: treedef must be the structure of a tree, got (1, 2) of type tuple. Use "
     "tree_structure(tree).",
     lambda: tree_util.tree_unflatten((1, 2), [1])),
    ("tree_util.tree_unflatten STRUCTURE   1", ValueError,
     "tree_unflatten: needs 2 leaves for (*, *), got 1. Pass one for each star.",
     lambda: tree_util.tree_unflatten(STRUCTURE, [1])),
    ("tree_util.tree_unflatten STRUCTURE  1", TypeError,
     "tree_unflatten: leaves must be a sequence, got 1. Pass a list of them.",
     lambda: tree_util.tree_unflatten(STRUCTURE, 1)),
    ("tree_util.tree_transpose STRUCTURE  STRU", ValueError,
     "tree_transpose: the tree must have 2 times 2 leaves, for (*, *) of (*, *), got 2. Pass a tree of trees.",
     lambda: tree_util.tree_transpose(STRUCTURE, STRUCTURE, (1, 2))),
    ("tree_util.tree_all SEVERAL", TypeError,
     "tree_all: leaves must be true or false, got array([ True, False]). Use .all() of an array.",
     lambda: tree_util.tree_all(SEVERAL)),
    ("tree_util.tree_reduce max", TypeError,
     "tree_reduce: a tree without leaves needs an initial value, got none. Pass one.",
     lambda: tree_util.tree_reduce(max, ())),
    ("tree_util.register_pytree_node 1  max  m", TypeError,
     "register_pytree_node: needs a class, got 1 of type int. Pass the class itself.",
     lambda: tree_util.register_pytree_node(1, max, max)),
    ("tree_util.register_pytree_node_class dic", TypeError,
     "register_pytree_node_class: the class must have tree_flatten and tree_unflatten, got dict. Define them, "
     "or use register_pytree_node.",
     lambda: tree_util.register_pytree_node_class(dict)),
    ("tree_util.register_dataclass dict", TypeError,
     "register_dataclass: needs a dataclass, got dict. Decorate it, or name data_fields.",
     lambda: tree_util.register_dataclass(dict)),
    ("tree_util.Partial 1", TypeError,
     "Partial: needs a function, got 1 of type int. Pass a callable.",
     lambda: tree_util.Partial(1)),
)  # fmt: skip
def test_trees(error, text, f):
    check(error, text, f)


# --- found on the way ------------------------------------------------------------------------------------------------
def kinds_of(cls):
    return [cls, *(below for child in cls.__subclasses__() for below in kinds_of(child))]


@pytest.mark.parametrize("cls", kinds_of(Tracer), ids=lambda cls: cls.__name__)
def test_a_tracer_hides_no_method_of_array(cls):
    public = {name for name in dir(fgrad.Array) if not name.startswith("_")}
    redefined = {"aval", "item", "tolist", "block_until_ready", "shape", "dtype", "ndim", "size", "weak_type"}
    assert not (set(vars(cls)) & public) - redefined


@pytest.mark.parametrize("transform", [fgrad.jit, fgrad.vmap, fgrad.make_jaxpr, fgrad.jacfwd, fgrad.jacrev])
@pytest.mark.parametrize("name", ["trace", "var"])
def test_methods_under_transformations(transform, name):
    transform(lambda x: getattr(x, name)())(np.ones((3, 3, 3), np.float32))


def test_large_floats_become_infinite_without_a_warning():
    assert lax.mul(np.ones(2, np.float32), 1e300).tolist() == [np.inf, np.inf]
    assert float(fnp.asarray(-1e300)) == -np.inf and float(nn.leaky_relu(np.float16(-1), 1e9)) == -np.inf


def test_an_element_by_its_place():
    x = fnp.arange(6).reshape(2, 3)
    assert x.item(1, 2) == x.item(5) == x.item(-1) == x.item((1, 2)) == 5
