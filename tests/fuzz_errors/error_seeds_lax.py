"""Valid calls of every function of fgrad.lax."""

import numpy as np
from error_calls import Call, call
from error_functions import (
    below_ten,
    counted,
    double,
    grow,
    plus,
    sine,
    step,
)

from fgrad import lax


def F(*shape, dtype=np.float32):
    """Values spread over (0, 1), all different."""
    size = int(np.prod(shape))
    return ((np.arange(size) * 7 % (size or 1) + 0.5) / (size or 1)).reshape(shape).astype(dtype)


def I(*shape, dtype=np.int32):  # noqa: E743
    return (np.arange(np.prod(shape)) % 5).reshape(shape).astype(dtype)


def B(*shape):
    return I(*shape) % 2 == 0


X, N = F(2, 3), I(2, 3)
IMAGE, KERNEL = F(1, 2, 5, 5), F(4, 2, 3, 3)


def under_axis(*args, **kwargs) -> Call:
    """A collective of its first argument, mapped over axis "i"."""
    return Call("", args, kwargs, trace="vmap", traced=(("args", 0),))


def at_work(c: Call, *names) -> Call:
    return Call(c.target, c.args, c.kwargs, c.then, c.trace, c.traced, frozenset(names))


UNARY = [
    "abs",
    "cbrt",
    "neg",
    "reciprocal",
    "rsqrt",
    "sign",
    "sqrt",
    "square",
    "ceil",
    "floor",
    "bessel_i0e",
    "bessel_i1e",
    "digamma",
    "erf",
    "erf_inv",
    "erfc",
    "lgamma",
    "acos",
    "asin",
    "atan",
    "atanh",
    "asinh",
    "cos",
    "cosh",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "logistic",
    "sin",
    "sinh",
    "tan",
    "tanh",
    "is_finite",
]
BINARY = [
    "add",
    "div",
    "max",
    "min",
    "mul",
    "pow",
    "rem",
    "sub",
    "nextafter",
    "atan2",
    "eq",
    "ge",
    "gt",
    "le",
    "lt",
    "ne",
    "igamma",
    "igamma_grad_a",
    "igammac",
    "zeta",
    "random_gamma_grad",
]

ELEMENTWISE = {
    **{n: [call(X), call(0.5)] for n in UNARY},
    **{n: [call(X, X), call(X, 2.0)] for n in BINARY},
    **{n: [call(N, N)] for n in ("bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right_arithmetic",
                                 "shift_right_logical")},
    **{n: [call(N)] for n in ("bitwise_not", "clz", "population_count")},
    "acosh": [call(X + 1)],
    "betainc": [call(X, X, X)],
    "polygamma": [call(X + 1, X)],
    "clamp": [call(0.2, X, 0.8), call(X, X, X)],
    "integer_pow": [call(X, 3)],
    "select": [call(B(2, 3), X, X)],
    "select_n": [call(B(2, 3), X, X), call(I(2, 3) % 3, X, X, X)],
    "round": [call(X), call(X, lax.RoundingMethod.TO_NEAREST_EVEN)],
    "reduce_precision": [call(X, 5, 10), call(X, exponent_bits=3, mantissa_bits=2)],
}  # fmt: skip

COLLECTIVES = {
    **{n: [under_axis(X, "i"), under_axis({"a": X}, ("i",))] for n in ("psum", "pmean", "pmax", "pmin")},
    "all_gather": [under_axis(X, "i", axis=1, tiled=True), under_axis(X, "i")],
    "all_to_all": [under_axis(X, "i", 0, 1), under_axis(X, "i", 0, 1, tiled=True)],
    "axis_index": [Call("", (("i",),), {}, trace="vmap")],
    "axis_size": [Call("", ("i",), {}, trace="vmap")],
    "ppermute": [under_axis(X, "i", [(0, 1), (1, 0)])],
    "pshuffle": [under_axis(X, "i", [1, 0])],
    "psum_scatter": [under_axis(X, "i", scatter_dimension=0), under_axis(X, "i", tiled=True)],
    "pswapaxes": [under_axis(X, "i", 0)],
}

CONTROL = {
    "associative_scan": [call(plus, F(5)), call(lax.mul, F(3, 2), reverse=True, axis=1)],
    "cond": [call(True, sine, double, X), call(np.bool_(0), plus, lax.mul, X, X)],
    "fori_loop": [at_work(call(0, 3, counted, X), 0, 1), at_work(call(0, 4, counted, 1.0, unroll=2), 0, 1)],
    "map": [call(sine, F(4, 2)), call(sine, {"x": F(4)}["x"], batch_size=2)],
    "scan": [
        at_work(call(step, F(3), F(4, 3)), 3, "length"),
        at_work(call(step, 1.0, F(4), reverse=True, unroll=2), 3, "length"),
        at_work(call(step, F(2), F(3, 2), 3), 3, "length"),
    ],
    "switch": [call(1, [sine, double, grow], X), call(np.int32(0), (sine,), 2.0)],
    "while_loop": [at_work(call(below_ten, grow, F(3)), 0, 1), at_work(call(below_ten, grow, 1.0), 0, 1)],
}  # fmt: skip

CONVOLUTIONS = {
    "ConvDimensionNumbers": [call((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))],
    "conv": [call(IMAGE, KERNEL, (1, 1), "SAME"), call(F(1, 2, 7), F(3, 2, 3), (2,), "VALID")],
    "conv_dimension_numbers": [
        call((1, 5, 5, 2), (3, 3, 2, 4), ("NHWC", "HWIO", "NHWC")), call((1, 2, 5), (4, 2, 3), None),
        call((1, 2, 5), (4, 2, 3), ((0, 1, 2), (0, 1, 2), (0, 1, 2))),
    ],
    "conv_general_dilated": [
        at_work(call(IMAGE, KERNEL, (1, 1), "SAME"), 4, "lhs_dilation"),
        at_work(call(IMAGE, KERNEL, window_strides=(2, 1), padding=[(1, 1), (0, 2)]), 4, "lhs_dilation"),
        at_work(call(F(1, 5, 5, 2), F(3, 3, 1, 4), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"),
                     feature_group_count=2), 4, "lhs_dilation"),
        at_work(call(F(2, 2, 7), F(4, 2, 3), (1,), [(2, 2)], lhs_dilation=(2,), rhs_dilation=(2,), batch_group_count=2,
                     precision=None, preferred_element_type="float64"), 4, "lhs_dilation"),
    ],
    "conv_general_shape_tuple": [
        call((1, 2, 5), (4, 2, 3), (1,), "SAME", None),
        call((1, 2, 5), (4, 2, 3), (1,), [(1, 1)], ("NCW", "OIW", "NCW")),
    ],
    "conv_transpose": [
        at_work(call(F(1, 5, 5, 2), F(3, 3, 2, 4), (2, 2), "SAME"), 2, "strides"),
        at_work(call(F(1, 5, 2), F(3, 2, 4), (2,), [(1, 1)]), 2, "strides"),
        at_work(call(F(1, 5, 2), F(3, 4, 2), (1,), "VALID", rhs_dilation=(2,), transpose_kernel=True,
                     dimension_numbers=("NWC", "WIO", "NWC"), use_consistent_padding=True), 2, "strides"),
    ],
    "conv_with_general_padding": [
        at_work(call(IMAGE, KERNEL, (1, 1), [(1, 1), (0, 0)], (1, 1), (1, 1)), 4, "lhs_dilation")],
    "padtype_to_pads": [call((5, 5), (3, 3), (1, 2), "SAME")],
    "reduce_window": [
        call(F(6, 5), 0.0, lax.add, (2, 2), (2, 1), "SAME"),
        call(F(6, 5), -np.inf, lax.max, (2, 3), None, [(1, 0), (0, 1)], (2, 1), (1, 1)),
        call(N, 0, lax.add, (1, 2), window_strides=(1, 1), base_dilation=(1, 2), window_dilation=(1, 1)),
    ],
    "dot": [call(F(2, 3), F(3, 4)), call(F(3), F(3)),
            call(F(2, 3), F(3, 4), dimension_numbers=(((1,), (0,)), ((), ())))],
    "batch_matmul": [call(F(2, 3, 4), F(2, 4, 5))],
    "dot_general": [
        call(F(2, 3, 4), F(2, 4, 5), (((2,), (1,)), ((0,), (0,)))),
        call(N, N.T, (((1,), (0,)), ((), ())), preferred_element_type=np.int64),
    ],
}  # fmt: skip

MOVEMENT = {
    "bitcast_convert_type": [call(X, np.int32)],
    "convert_element_type": [call(X, "float64"), call(N, np.bool_)],
    "full": [call((2, 3), 1.5), call((), 2, "int8")],
    "full_like": [call(X, 2), call(X, 2.0, "int32", (4,))],
    "optimization_barrier": [call((X, {"n": N}))],
    "stop_gradient": [call((X, [N]))],
    "zeros_like_array": [call(X)],
    "broadcast": [call(X, (2, 1))],
    "broadcast_in_dim": [call(F(3), (2, 3), (1,)), call(1.0, (2,), ())],
    "broadcast_shapes": [call((2, 1), (3,), ())],
    "broadcasted_iota": [call("int32", (2, 3), 1)],
    "concatenate": [call([X, X], 0), call((X, F(2, 1)), -1)],
    "dilate": [call(X, (2, 1))],
    "undilate": [call(F(5, 3), (2, 1))],
    "expand_dims": [call(X, (0, -1))],
    "index_in_dim": [call(X, 1), call(X, -1, axis=1, keepdims=False)],
    "iota": [call("float32", 5)],
    "pad": [call(X, 0.0, ((1, 1, 0), (0, 2, 1))), call(N, 0, [(-1, 0, 0), (0, 0, 0)])],
    "reshape": [call(X, (3, 2)), call(X, (6,), (1, 0))],
    "rev": [call(X, (0,))],
    "slice": [call(X, (0, 1), (2, 3)), call(X, [0, 0], [2, 3], [1, 2])],
    "slice_in_dim": [call(X, 0, 2), call(X, None, -1, stride=2, axis=1)],
    "squeeze": [call(F(1, 3, 1), (0,)), call(F(1, 3, 1), (0, -1))],
    "transpose": [call(X, (1, 0))],
    "dynamic_index_in_dim": [call(X, 1), call(X, np.int8(-1), axis=1, keepdims=False, allow_negative_indices=False)],
    "dynamic_slice": [call(X, (0, 1), (1, 2)), call(X, [np.int32(0), 1], [2, 2], allow_negative_indices=(True, False))],
    "dynamic_slice_in_dim": [call(X, 1, 2, axis=1)],
    "dynamic_update_index_in_dim": [call(X, F(3), 1, 0)],
    "dynamic_update_slice": [call(X, F(1, 2), (0, 1)), call(X, F(2, 2), (I(), 1))],
    "dynamic_update_slice_in_dim": [call(X, F(2, 1), 1, axis=1)],
    "gather": [call(F(4, 3), I(2, 1), axes=(0,)), call(F(4, 3), I(2, 2) % 3, axes=(0, 1), mode="clip")],
    "index_take": [call(F(4, 3), (I(2),), (0,)), call(F(4, 3), (I(2), I(2) % 3), (0, 1))],
    "scatter": [
        call(F(4, 3), I(2, 1), F(2, 3), axes=(0,)),
        call(F(4, 3), I(2, 2) % 3, F(2), axes=(0, 1), kind="add", mode="clip"),
    ],
}  # fmt: skip

REDUCTIONS = {
    **{n: [call(X, (1,)), call(X, axes=(0, 1))] for n in ("reduce_max", "reduce_min", "reduce_prod", "reduce_sum")},
    **{n: [call(B(2, 3), (1,))] for n in ("reduce_and", "reduce_or", "reduce_xor")},
    **{n: [call(X, 1, np.int32)] for n in ("argmax", "argmin")},
    **{n: [call(X, 1), call(X, axis=-1, reverse=True)]
       for n in ("cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum")},
    "reduce": [call(X, 0.0, lax.add, (1,))],
    "sort": [call(X), call((N, X), dimension=0, is_stable=False, num_keys=1)],
    "sort_key_val": [call(N, X, 1)],
    "top_k": [call(X, 2), call(X, 1, axis=0)],
}  # fmt: skip

SEEDS = {
    f"lax.{name}": calls
    for table in (ELEMENTWISE, COLLECTIVES, CONTROL, CONVOLUTIONS, MOVEMENT, REDUCTIONS)
    for name, calls in table.items()
}
