"""Each kind of mistake and the whole of its message: ``<op>: <constraint>, got <values> (<why>). <what to do>``."""

import numpy as np
import pytest
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import errors, lax, nn


def f32(*shape):
    return np.ones(shape, np.float32)


X = f32(3)
IMAGE, KERNEL = f32(1, 3, 5, 5), f32(4, 3, 3, 3)


# --- shapes, dtypes, axes --------------------------------------------------------------------------------------------
@cases(
    ("add shapes", ValueError,
     "add: operands must have equal shapes, got (2,) and (3,). Broadcast them first, or use the function of the same "
     "name in fgrad.numpy.",
     lambda: lax.add(f32(2), f32(3))),
    ("add dtypes", TypeError,
     "add: operands must have equal dtypes, got float32 and float64. Convert one with .astype, or use the function of "
     "the same name in fgrad.numpy.",
     lambda: lax.add(f32(2), np.ones(2))),
    ("numpy add", ValueError,
     "add: shapes must broadcast (aligned at the last axis, sizes equal or 1), got (2,) and (3,). Reshape one, or "
     "insert axes of size 1 with x[:, None].",
     lambda: fnp.add(f32(2), f32(3))),
    ("sin of integers", TypeError,
     "sin: operands must be floating-point or complex, got int64. Convert them with .astype.",
     lambda: lax.sin(np.arange(3))),
    ("operand that is no array", TypeError,
     "sin: operands must be arrays or scalars, got [1.0] of type list. Convert lists and tuples with "
     "fgrad.numpy.asarray.",
     lambda: lax.sin([1.0])),
    ("no such dtype", TypeError,
     "dtype: not a dtype, got 'float7'. Use one of bool, uint8, uint16, uint32, uint64, int8, int16, int32, int64, "
     "bfloat16, float16, float32, float64, complex64, complex128.",
     lambda: fnp.zeros(2, "float7")),
    ("reshape", ValueError,
     "reshape: the new shape must hold as many elements as the old, got (3,) (3) and (2, 2) (4). Change the new shape.",
     lambda: lax.reshape(X, (2, 2))),
    ("transpose", ValueError,
     "transpose: permutation must name each of the 2 axes once, got (0,) for shape (2, 3). Use a permutation of "
     "(0, 1).",
     lambda: lax.transpose(f32(2, 3), (0,))),
    ("axis out of range", ValueError,
     "sum: axis must be in [-2, 2) for an operand of 2 dimensions, got 2. Change the axis.",
     lambda: fnp.sum(f32(2, 3), axis=2)),
    ("axis twice", ValueError,
     "sum: axes must be distinct, got (0, -2) ((0, 0) counted from 0). Name each axis once.",
     lambda: fnp.sum(f32(2, 3), axis=(0, -2))),
    ("axis that is no integer", TypeError,
     "sum: axis must be integers, got 0.5 of type float. Use int(...).",
     lambda: fnp.sum(X, axis=0.5)),
    ("concatenate", ValueError,
     "concatenate: operands must have equal shapes but for axis 0, got (2, 3), (3, 4). Reshape or pad them first.",
     lambda: lax.concatenate([f32(2, 3), f32(3, 4)], 0)),
    ("slice", ValueError,
     "slice: 0 <= start <= limit <= size must hold, got start 1, limit 5, size 3 for axis 0 of shape (3,). Indices do "
     "not wrap: add the size to negative ones.",
     lambda: lax.slice(X, (1,), (5,))),
    ("pad to less than nothing", ValueError,
     "pad: the padded size must not be negative, got -1 for axis 0 (-2 + 3 + 2 * 0 + -2). Crop less.",
     lambda: lax.pad(X, 0.0, ((-2, -2, 0),))),
    ("pad rank", ValueError,
     "pad: padding_config must have one (lo, hi, interior) for each of the 1 axes, got 0 for shape (3,). "
     "Give 1 triples.",
     lambda: lax.pad(X, 0.0, ())),
    ("broadcast", ValueError,
     "broadcast_in_dim: operand axis 0 must have size 1 or the size of result axis 1, got 3 and 4 (operand (3,), "
     "result (2, 4)). Change the result shape.",
     lambda: lax.broadcast_in_dim(X, (2, 4), (1,))),
    ("dilate", ValueError,
     "dilate: factors must be positive, got (0,). Use 1 for axes to leave alone.",
     lambda: lax.dilate(X, (0,))),
    ("contracted sizes", ValueError,
     "dot_general: contracted axes must have equal sizes, got 3 (axis 1 of lhs) and 4 (axis 0 of rhs) for shapes "
     "(2, 3) and (4, 5). Transpose or reshape an operand.",
     lambda: lax.dot_general(f32(2, 3), f32(4, 5), (((1,), (0,)), ((), ())))),
    ("select", TypeError,
     "select: pred must be bool, got float32. Compare it with something first.",
     lambda: lax.select(X, X, X)),
    ("argmax of nothing", ValueError,
     "argmax: an empty axis has no largest element, got size 0 for axis 0 of shape (0,). Reduce a non-empty axis.",
     lambda: fnp.argmax(f32(0))),
    ("index out of range", IndexError,
     "index: must lie in [-2, 2) for axis 0, got 5 for shape (2, 3). Change the index.",
     lambda: fnp.ones((2, 3))[5]),
    ("too many indices", IndexError,
     "index: at most 2 axes can be indexed, got 3 indices for shape (2, 3). Drop some.",
     lambda: fnp.ones((2, 3))[0, 0, 0]),
)  # fmt: skip
def test_shapes_dtypes_and_axes(error, text, f):
    check(error, text, f)


# --- convolutions and windows ----------------------------------------------------------------------------------------
def conv(lhs, rhs, window_strides=(1, 1), padding="VALID", **options):
    return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)


@cases(
    ("kernel larger than the input", ValueError,
     "conv_general_dilated: the kernel must not be larger than the padded input, got kernel size 7 and padded input "
     "size 5 on spatial axis 0 (kernel: 1 + (7 - 1) * 1 = 7; input: 0 + (1 + (5 - 1) * 1) + 0 = 5). Pad more, or use "
     "a smaller kernel.",
     lambda: conv(IMAGE, f32(4, 3, 7, 3))),
    ("dilated kernel", ValueError,
     "conv_general_dilated: the kernel must not be larger than the padded input, got kernel size 7 and padded input "
     "size 6 on spatial axis 1 (kernel: 1 + (3 - 1) * 3 = 7; input: 1 + (1 + (5 - 1) * 1) + 0 = 6). Pad more, or use "
     "a smaller kernel.",
     lambda: conv(IMAGE, KERNEL, padding=((0, 0), (1, 0)), rhs_dilation=(1, 3))),
    ("negative padding", ValueError,
     "conv_general_dilated: the kernel must not be larger than the padded input, got kernel size 3 and padded input "
     "size -2 on spatial axis 0 (kernel: 1 + (3 - 1) * 1 = 3; input: -4 + (1 + (5 - 1) * 1) + -3 = -2). Pad more, or "
     "use a smaller kernel.",
     lambda: conv(IMAGE, KERNEL, padding=((-4, -3), (0, 0)))),
    ("features", ValueError,
     "conv_general_dilated: the features of lhs must be the in features of rhs times feature_group_count, got 3 and "
     "2 * 1 = 2 (axis 1 of lhs (1, 3, 5, 5), axis 1 of rhs (4, 2, 3, 3)). Check the shapes and dimension_numbers.",
     lambda: conv(IMAGE, f32(4, 2, 3, 3))),
    ("feature groups", ValueError,
     "conv_general_dilated: feature_group_count must divide the out features of rhs, got 3 and 4 (axis 0 of rhs "
     "(4, 1, 3, 3)). Change feature_group_count or rhs.",
     lambda: conv(IMAGE, f32(4, 1, 3, 3), feature_group_count=3)),
    ("batch groups", ValueError,
     "conv_general_dilated: batch_group_count must divide the batch of lhs, got 2 and 1 (axis 0 of lhs "
     "(1, 3, 5, 5)). Change batch_group_count or the batch.",
     lambda: conv(IMAGE, KERNEL, batch_group_count=2)),
    ("dtypes", TypeError,
     "conv_general_dilated: operands must have equal dtypes, got float32 and float64. Convert one with .astype.",
     lambda: conv(IMAGE, KERNEL.astype(np.float64))),
    ("stride of zero", ValueError,
     "conv_general_dilated: window_strides must be positive, got (0, 1). Use 1 where nothing shall change.",
     lambda: conv(IMAGE, KERNEL, (0, 1))),
    ("number of strides", ValueError,
     "conv_general_dilated: window_strides must have one entry for each of the 2 spatial axes, got (1,) (1). "
     "Give 2 entries.",
     lambda: conv(IMAGE, KERNEL, (1,))),
    ("number of paddings", ValueError,
     "conv_general_dilated: padding must have one entry for each of the 2 spatial axes, got ((1, 1),) (1). "
     "Give 2 entries.",
     lambda: conv(IMAGE, KERNEL, padding=((1, 1),))),
    ("name of a padding", ValueError,
     "padding: the name must be 'SAME', 'SAME_LOWER' or 'VALID', got 'FULL'. Use one of them, or (lo, hi) for each "
     "axis.",
     lambda: conv(IMAGE, KERNEL, padding="FULL")),
    ("letters", ValueError,
     "conv_dimension_numbers: the out order must have 4 different letters, 'N', 'C' and the spatial letters of rhs, "
     "got 'NHWD' with rhs 'HWIO'. Write for example ('NHWC', 'HWIO', 'NHWC').",
     lambda: conv(IMAGE, KERNEL, dimension_numbers=("NHWC", "HWIO", "NHWD"))),
    ("number of letters", ValueError,
     "conv_dimension_numbers: the lhs order must have 4 different letters, 'N', 'C' and the spatial letters of rhs, "
     "got 'NHC' with rhs 'HWIO'. Write for example ('NHWC', 'HWIO', 'NHWC').",
     lambda: conv(IMAGE, KERNEL, dimension_numbers=("NHC", "HWIO", "NHWC"))),
    ("two orders", ValueError,
     "conv_dimension_numbers: there must be three orders (lhs, rhs, result), got ('NHWC', 'HWIO'). Write for example "
     "('NHWC', 'HWIO', 'NHWC').",
     lambda: conv(IMAGE, KERNEL, dimension_numbers=("NHWC", "HWIO"))),
    ("ranks", ValueError,
     "conv_dimension_numbers: lhs and rhs must have equally many axes, got shapes (1, 3, 5, 5) and (3, 3, 3). "
     "Add axes of size 1.",
     lambda: conv(IMAGE, f32(3, 3, 3))),
    ("window larger than the input", ValueError,
     "reduce_window_sum: the window must not be larger than the padded input, got window size 7 and padded input size "
     "5 on axis 0 (window: 1 + (7 - 1) * 1 = 7; input: 0 + (1 + (5 - 1) * 1) + 0 = 5). Pad more, or use a smaller "
     "window.",
     lambda: lax.reduce_window(f32(5), 0.0, lax.add, (7,), (1,), "VALID")),
    ("pooling window", ValueError,
     "reduce_window_max: the window must not be larger than the padded input, got window size 5 and padded input size "
     "4 on axis 1 (window: 1 + (5 - 1) * 1 = 5; input: 0 + (1 + (4 - 1) * 1) + 0 = 4). Pad more, or use a smaller "
     "window.",
     lambda: nn.max_pool(f32(1, 4, 4, 3), (5, 5))),
    ("window rank", ValueError,
     "reduce_window_sum: window_dimensions must have one entry for each of the 1 axes, got (2, 2) (2). Give 1 entries.",
     lambda: lax.reduce_window(f32(5), 0.0, lax.add, (2, 2), (1,), "VALID")),
    ("window operation", TypeError,
     "reduce_window: computation must be lax.add, lax.max or lax.min, got <function sin>. Gather the windows and "
     "reduce them for another one.",
     lambda: lax.reduce_window(f32(5), 0.0, lax.sin, (2,), (1,), "VALID")),
)  # fmt: skip
def test_convolutions_and_windows(error, text, f):
    check(error, text, f)


def test_truly_empty_axes_are_no_mistake():
    assert conv(f32(0, 3, 5, 5), KERNEL).shape == (0, 4, 3, 3)
    assert conv(f32(1, 3, 0, 5), KERNEL).shape == (1, 4, 0, 3)
    assert lax.reduce_window(f32(0), 0.0, lax.add, (2,), (1,), "VALID").shape == (0,)


# --- what can be differentiated --------------------------------------------------------------------------------------
def pair(x, n):
    return x


@cases(
    ("result that is no scalar", TypeError,
     "grad: the function must return a scalar, got f32[3] from <lambda>. Sum or average the result, or use vjp.",
     lambda: fgrad.grad(lambda x: x * 2)(X)),
    ("several results", TypeError,
     "value_and_grad: the function must return a scalar, got (*, *) from <lambda>. Return one scalar, pass "
     "has_aux=True for (scalar, aux), or use vjp.",
     lambda: fgrad.value_and_grad(lambda x: (x, x))(1.0)),
    ("integer argument", TypeError,
     "grad: differentiated arguments must be real floating-point, got i64[3] for argument 'x' of <lambda>. Convert it "
     "with .astype(float), or leave it out of argnums.",
     lambda: fgrad.grad(lambda x: fnp.sum(x))(np.arange(3))),
    ("integer in a tree", TypeError,
     "grad: differentiated arguments must be real floating-point, got i32[]~ for argument 'p'['w'][1] of <lambda>. "
     "Convert it with .astype(float), or leave it out of argnums.",
     lambda: fgrad.grad(lambda p: p["w"][0])({"w": [1.0, 3]})),
    ("integer result", TypeError,
     "grad: the function must return a real floating-point scalar, got i32[] from <lambda>. Convert the result with "
     ".astype(float), or use vjp.",
     lambda: fgrad.grad(lambda x: fnp.argmax(x))(X)),
    ("complex argument", TypeError,
     "grad: differentiated arguments must be real floating-point, got c64[]~ for argument 'x' of <lambda>. Convert it "
     "with .astype(float), or leave it out of argnums.",
     lambda: fgrad.grad(lambda x: x)(1j)),
    ("no result", TypeError,
     "grad: the function must return a scalar, got None from <lambda>. Return one scalar, pass has_aux=True for "
     "(scalar, aux), or use vjp.",
     lambda: fgrad.grad(lambda x: None)(1.0)),
    ("argnums out of range", ValueError,
     "grad: argnums must name positional arguments of the call, got 2 for pair called with 2 of them. Use indices "
     "below 2.",
     lambda: fgrad.grad(pair, argnums=2)(1.0, 2.0)),
    ("no positional argument", ValueError,
     "grad: argnums must name positional arguments of the call, got 0 for pair called with 0 of them. Pass the "
     "argument by position.",
     lambda: fgrad.grad(pair)(x=1.0, n=2.0)),
    ("argnums that is no number", TypeError,
     "grad: argnums must be an int or a sequence of ints, got 'x'. Count the positional arguments from 0.",
     lambda: fgrad.grad(pair, argnums="x")(1.0, 2.0)),
    ("no aux", TypeError,
     "grad: with has_aux=True <lambda> must return a pair (output, aux), got f32[]~. Return two values, or drop "
     "has_aux.",
     lambda: fgrad.grad(lambda x: x, has_aux=True)(1.0)),
    ("no function", TypeError, "grad: needs a function, got 3 of type int. Pass a callable.", lambda: fgrad.grad(3)),
    ("transpose of sin", errors.MissingBackendError,
     "sin: has no transpose rule, it is not linear in any operand. Use vjp for functions that are not linear.",
     lambda: fgrad.linear_transpose(fnp.sin, X)(X)),
    ("transpose of a square", errors.MissingBackendError,
     "mul: has no transpose in both operands at once, got two values that depend on the arguments (it is linear only "
     "in each). Use vjp for functions that are not linear.",
     lambda: fgrad.linear_transpose(lambda x: x * x, X)(X)),
    ("transpose of a quotient", errors.MissingBackendError,
     "div: has no transpose in its divisor, got one that depends on the arguments (it is not linear in it). Use vjp "
     "for functions that are not linear.",
     lambda: fgrad.linear_transpose(lambda x: lax.div(f32(3), x), X)(X)),
)  # fmt: skip
def test_differentiation(error, text, f):
    check(error, text, f)


# --- jit -------------------------------------------------------------------------------------------------------------
@cases(
    ("unhashable static", errors.UnhashableStaticError,
     "jit: static arguments must be hashable, got [1] of type list for argument 'n' of pair. Pass a tuple instead of a "
     "list, or do not mark it static.",
     lambda: fgrad.jit(pair, static_argnums=1)(1.0, [1])),
    ("unhashable static by name", errors.UnhashableStaticError,
     "jit: static arguments must be hashable, got {'k': 1} of type dict for argument 'n' of pair. Pass a tuple instead "
     "of a list, or do not mark it static.",
     lambda: fgrad.jit(pair, static_argnames="n")(1.0, n={"k": 1})),
    ("static array", errors.UnhashableStaticError,
     "jit: static arguments must be hashable, got Array([1., 1.], dtype=float32) of type Array for argument 'n' of "
     "pair. Pass a tuple instead of a list, or do not mark it static.",
     lambda: fgrad.jit(pair, static_argnums=1)(1.0, fnp.ones(2))),
    ("argument that is no array", TypeError,
     "jit: arguments must be arrays, scalars or pytrees of them, got 'a' of type str in argument 'n' of pair. Pass "
     "arrays, or mark the argument static (static_argnums).",
     lambda: fgrad.jit(pair, static_argnums=0)("static", "a")),
    ("argument of objects", TypeError,
     "jit: argument 'x' of pair: dtype: object is not supported, got dtype('O'). Use one of bool, uint8, uint16, "
     "uint32, uint64, int8, int16, int32, int64, bfloat16, float16, float32, float64, complex64, complex128.",
     lambda: fgrad.jit(pair)(np.array([None]), 1)),
    ("result that is no array", TypeError,
     "jit: <lambda> must return arrays or pytrees of them, got 'a' of type str for its output. Return arrays, or leave "
     "the value out.",
     lambda: fgrad.jit(lambda x: "a")(1.0)),
    ("result in a tree that is no array", TypeError,
     "jit: <lambda> must return arrays or pytrees of them, got 'a' of type str for the output at ['k'][0]. Return "
     "arrays, or leave the value out.",
     lambda: fgrad.jit(lambda x: {"k": ["a"]})(1.0)),
    ("static name", ValueError,
     "jit: static_argnames must name parameters of the function, got 'm' for pair, which has x, n. Correct the name.",
     lambda: fgrad.jit(pair, static_argnames="m")),
    ("donated number", ValueError,
     "jit: donate_argnums must name positional parameters of the function, got 2 for pair, which takes 2. "
     "Use indices in [-2, 2).",
     lambda: fgrad.jit(pair, donate_argnums=2)),
    ("no function", TypeError, "jit: needs a function, got 3 of type int. Pass a callable.", lambda: fgrad.jit(3)),
)  # fmt: skip
def test_jit(error, text, f):
    check(error, text, f)


# --- trees and axes that differ --------------------------------------------------------------------------------------
@cases(
    ("tree_map", errors.TreeMismatchError,
     "tree_map: argument 2 must have the structure of the first tree, got (*,) for (*, *) (first difference: only the "
     "first tree has [1]). Pass matching trees.",
     lambda: fgrad.tree.tree_map(lambda a, b: a, (1, 2), (1,))),
    ("jvp tangents", errors.TreeMismatchError,
     "jvp: tangents must have the structure of the primals, got ({'v': *},) for ({'w': *},) (first difference: "
     "[0]['v'] against [0]['w']). Pass one tangent for each primal.",
     lambda: fgrad.jvp(lambda p: p["w"], ({"w": X},), ({"v": X},))),
    ("jvp tangent shape", ValueError,
     "jvp: each tangent must have the shape and dtype of its primal, got f32[2] for 'x' of sin of type f32[3]. "
     "Reshape or convert the tangent.",
     lambda: fgrad.jvp(fnp.sin, (X,), (f32(2),))),
    ("jvp integer tangent", TypeError,
     "jvp: the tangent of an integer or boolean primal must be a float0 array of its shape, got 1 for 'x' of absolute "
     "of type i32[]. Pass numpy.zeros((), fgrad.float0).",
     lambda: fgrad.jvp(fnp.abs, (np.int32(1),), (1,))),
    ("jvp without a tuple", TypeError,
     "jvp: primals must be a tuple or list, got ndarray. Write (primal,).",
     lambda: fgrad.jvp(fnp.sin, X, X)),
    ("vjp cotangent", errors.TreeMismatchError,
     "vjp: the cotangent must have the structure of the result, got * for (*, *) (first difference: a leaf against "
     "[0]). Pass one array for each result.",
     lambda: fgrad.vjp(lambda x: (x, x), X)[1](X)),
    ("vjp cotangent dtype", ValueError,
     "vjp: each cotangent must have the shape and dtype of its result, got f64[3] for the result of type f32[3]. "
     "Reshape or convert the cotangent.",
     lambda: fgrad.vjp(fnp.sin, X)[1](np.ones(3))),
    ("linearize", errors.TreeMismatchError,
     "linearize: tangents must have the structure of the primals, got (*, *) for (*,) (first difference: only the "
     "first tree has [1]). Pass one tangent for each primal.",
     lambda: fgrad.linearize(fnp.sin, X)[1](X, X)),
    ("linear_transpose", errors.TreeMismatchError,
     "linear_transpose: the cotangent must have the structure of the result, got * for (*, *) (first difference: a "
     "leaf against [0]). Pass one array for each result.",
     lambda: fgrad.linear_transpose(lambda x: (x, x), X)(X)),
    ("vmap in_axes", errors.TreeMismatchError,
     "vmap: in_axes must be an int, None or a prefix of the positional arguments' structure, got (0,) for pair called "
     "with 2 arguments. Give one entry for each argument.",
     lambda: fgrad.vmap(pair, in_axes=(0,))(X, X)),
    ("vmap out_axes", errors.TreeMismatchError,
     "vmap: out_axes must be a prefix of the result's structure, got (0, 0, 0) for (*, *) from <lambda>. Use an "
     "int, None, or a matching tuple or dict.",
     lambda: fgrad.vmap(lambda x: (x, x), out_axes=(0, 0, 0))(X)),
    ("vmap sizes", ValueError,
     "vmap: mapped axes must have one size, got 3 for 'x' of pair (shape (3,), axis 0); 2 for 'n'['k'] of pair (shape "
     "(4, 2), axis -1). Change the arguments or in_axes.",
     lambda: fgrad.vmap(pair, in_axes=(0, -1))(X, {"k": f32(4, 2)})),
    ("vmap axis", ValueError,
     "vmap: in_axes must be an axis of its argument, got 1 for argument 'x' of pair of shape (3,) (1 axis). Use an "
     "axis in [-1, 1) or None.",
     lambda: fgrad.vmap(pair, in_axes=1)(X, X)),
    ("vmap of a scalar", ValueError,
     "vmap: in_axes must be an axis of its argument, got 0 for argument 'n' of pair of shape () (0 axes). Use None "
     "for a scalar.",
     lambda: fgrad.vmap(pair)(X, 1.0)),
    ("vmap of nothing", ValueError,
     "vmap: at least one argument must be mapped, got in_axes that are all None for pair. Map an argument, or give "
     "axis_size.",
     lambda: fgrad.vmap(pair, in_axes=None)(X, X)),
    ("vmap out axis", ValueError,
     "vmap: out_axes must be an axis of the mapped result, got 1 for a result of pair with 1 axis. Use an axis in "
     "[-1, 1).",
     lambda: fgrad.vmap(pair, out_axes=1)(X, X)),
    ("vmap result that is mapped", ValueError,
     "vmap: out_axes=None needs a result that does not depend on mapped arguments, got one of shape (3,) from pair, "
     "mapped on axis 0. Give it an axis.",
     lambda: fgrad.vmap(pair, out_axes=None)(X, X)),
    ("vmap axis that is no number", TypeError,
     "vmap: in_axes must hold ints or None, got 'a' in 'a'. Use axis numbers.",
     lambda: fgrad.vmap(pair, in_axes="a")(X, X)),
    ("vmap argument", TypeError,
     "vmap: arguments must be arrays, scalars or pytrees of them, got 'a' of type str in argument 'n' of pair. Pass "
     "arrays, or close over the value.",
     lambda: fgrad.vmap(pair)(X, "a")),
)  # fmt: skip
def test_trees_and_axes(error, text, f):
    check(error, text, f)


# --- settings, and what every error has ------------------------------------------------------------------------------
def test_settings(monkeypatch):
    for value in ("0", "two", "-1"):
        monkeypatch.setenv("FGRAD_NUM_THREADS", value)
        check(errors.ConfigError,
              f"FGRAD_NUM_THREADS: must be a positive integer, got {value!r}. Set it to a positive integer or unset "
              "it.",
              fgrad.config.num_threads)  # fmt: skip
    monkeypatch.setenv("FGRAD_CPU_VECTOR_BITS", "64")
    fgrad.config._vector_bits_of_environment.cache_clear()
    check(errors.ConfigError,
          "FGRAD_CPU_VECTOR_BITS: must be one of (128, 256, 512), got '64'. Set it to one of (128, 256, 512) or unset "
          "it.",
          fgrad.config.cpu_vector_bits)  # fmt: skip
    check(errors.ConfigError,
          "FGRAD_CPU_VECTOR_BITS: must be one of (128, 256, 512), got 100. Set it to one of (128, 256, 512) or unset "
          "it.",
          lambda: fgrad.config.set_cpu_vector_bits(100))  # fmt: skip
    check(errors.ConfigError,
          "FGRAD_CACHE_DIR_BYTES: must be a positive integer, got 0. Set it to a positive integer or unset it.",
          lambda: fgrad.config.set_cache_dir_bytes(0))  # fmt: skip
    check(errors.ConfigError,
          "FGRAD_CACHE_DIR: must be the path of a folder, got 3. Give a str or a pathlib.Path.",
          lambda: fgrad.config.set_cache_dir(3))  # fmt: skip


def test_every_exception_is_documented_and_derives_from_a_builtin_kind():
    own = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.FgradError)]
    assert len(own) > 8
    for error in own:
        assert error.__doc__ and len(error.__doc__) > 30
        assert error is errors.FgradError or len(error.__mro__) > 5, f"{error} is no TypeError, ValueError, ..."


def test_the_same_mistakes_are_found_at_trace_time():
    """Abstract rules raise the same message whether anything is computed or not."""
    large = f32(4, 3, 7, 3)
    for attempt in (
        lambda: fgrad.jit(conv)(IMAGE, large),
        lambda: fgrad.make_jaxpr(conv)(IMAGE, large),
        lambda: fgrad.eval_shape(conv, IMAGE, large),
        lambda: fgrad.grad(lambda x: fnp.sum(conv(x, large)))(IMAGE),
    ):
        with pytest.raises(ValueError) as caught:
            attempt()
        assert "got kernel size 7 and padded input size 5 on spatial axis 0" in str(caught.value)
