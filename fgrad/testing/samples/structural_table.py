"""Shapes and parameters of the primitives that move, reduce, index, slide windows and contract: their corners.

The laws check every rule on all of them; tests of single facts take what they need.
"""

from typing import Any

import numpy as np

from fgrad.primitives.conv import ConvDimensionNumbers

# --- movement --------------------------------------------------------------------------------------------------------
# primitive, operand shape, parameters
MAPS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("rev", (3, 4, 2), {"dimensions": (2, 0)}),
    ("rev", (3, 0), {"dimensions": (0, 1)}),
    ("rev", (), {"dimensions": ()}),
    ("dilate", (3, 4), {"factors": (3, 1)}),
    ("dilate", (1, 0), {"factors": (3, 2)}),
    ("dilate", (), {"factors": ()}),
    ("undilate", (7, 4), {"factors": (3, 2)}),
    ("undilate", (9, 0), {"factors": (3, 2)}),
    ("undilate", (), {"factors": ()}),
    ("slice", (7, 4), {"start_indices": (1, 0), "limit_indices": (6, 4), "strides": (2, 3)}),
    ("slice", (7, 4), {"start_indices": (3, 4), "limit_indices": (3, 4), "strides": (2, 1)}),
    ("slice", (), {"start_indices": (), "limit_indices": (), "strides": ()}),
]
# operand shape, padding_config
PADS = [
    ((3, 4), ((1, 2, 0), (0, 0, 0))),
    ((3, 4), ((1, 2, 2), (0, 3, 1))),
    ((3, 4), ((-1, 2, 1), (1, -2, 0))),
    ((3, 4), ((-1, -1, 0), (-2, -1, 2))),
    ((3, 4), ((-5, 4, 0), (6, -5, 0))),
    ((0, 1), ((2, 1, 5), (0, 0, 3))),
    ((2, 3), ((0, 0, 0), (0, 0, 0))),
    ((), ()),
]
# dimension, sizes of the operands along it
CONCATENATIONS = [(1, (2, 3)), (1, (1, 0, 4)), (1, (3,)), (1, (0, 0)), (0, (2, 3)), (2, (1, 2))]

# --- reductions ------------------------------------------------------------------------------------------------------
# operand shape, axes
REDUCTIONS = [((4, 3, 5), (1,)), ((4, 3, 5), (0, 2)), ((4, 3), (0, 1)), ((3,), ()), ((), ()), ((1, 7), (1,))]

# --- indexing --------------------------------------------------------------------------------------------------------
# operand shape, axes, B (the shape of the indices but for their last axis)
INDEXINGS = [
    ((6,), (0,), (5,)),
    ((6, 3), (0,), (4,)),
    ((3, 6), (1,), (2, 3)),
    ((4, 5, 2), (0, 1), (6,)),
    ((4, 2, 5), (0, 2), (3, 2)),
    ((4, 3), (), (2,)),
    ((5, 2), (0,), ()),
    ((5, 2), (0,), (0,)),
]


def indices_for(shape, axes, batch, dtype=np.int64) -> np.ndarray:
    """Indices (*B, len(axes)): some repeat, some are out of range at either end."""
    rng = np.random.default_rng(5)
    columns = [rng.integers(-1, shape[a] + 1, batch) for a in axes]
    return np.stack([*columns, np.zeros(batch)], axis=-1)[..., : len(axes)].astype(dtype)


def rows_of(shape, axes, batch) -> tuple[int, ...]:
    """The shape of what indices (*B, len(axes)) gather, and of the updates they scatter."""
    return (*batch, *(n for d, n in enumerate(shape) if d not in axes))


# --- windows ---------------------------------------------------------------------------------------------------------
def window(dims, strides=None, padding=None, base=None, dilation=None) -> dict:
    """Parameters of the reduce_window primitives; what is left out does nothing."""
    ones = (1,) * len(dims)
    return {
        "window_dimensions": dims,
        "window_strides": strides or ones,
        "padding": padding or ((0, 0),) * len(dims),
        "base_dilation": base or ones,
        "window_dilation": dilation or ones,
    }


# operand shape, parameters
WINDOWS = [
    ((6,), window((3,))),
    ((6, 5), window((2, 3), (2, 1), ((0, 1), (1, 1)))),
    ((6, 5), window((2, 2), (3, 2), ((-1, 0), (2, -1)), None, (2, 1))),
    ((4, 3), window((3, 2), (2, 1), ((1, 2), (0, 0)), (2, 3), (1, 2))),
    ((5, 2, 4), window((2, 1, 3), (1, 1, 2), ((1, 0), (0, 0), (2, 2)), (3, 1, 1), (2, 1, 1))),
    ((3,), window((2,), (5,), ((4, 6),))),  # windows that hold no element
    ((0, 4), window((1, 2))),
    ((0,), window((2,), None, ((1, 2),))),  # an empty axis, padded
    ((), window(())),
]

# --- contractions ----------------------------------------------------------------------------------------------------
# lhs shape, rhs shape, ((lhs contract, rhs contract), (lhs batch, rhs batch))
DOTS = [
    ((3, 4), (4, 5), (((1,), (0,)), ((), ()))),
    ((4,), (4,), (((0,), (0,)), ((), ()))),
    ((2,), (3,), (((), ()), ((), ()))),
    ((), (2,), (((), ()), ((), ()))),
    ((2, 3, 4), (2, 4, 5), (((2,), (1,)), ((0,), (0,)))),
    ((3, 4, 2), (5, 2, 4), (((1,), (2,)), ((2,), (1,)))),
    ((2, 3, 4, 5), (5, 4, 6, 3), (((2, 3), (1, 0)), ((1,), (3,)))),
    ((3, 2, 4), (4, 2, 3), (((2, 0), (0, 2)), ((1,), (1,)))),
    ((2, 3), (2, 3), (((), ()), ((1, 0), (1, 0)))),
    ((3, 0), (0, 2), (((1,), (0,)), ((), ()))),
    ((0, 3), (3, 2), (((1,), (0,)), ((), ()))),
]


def conv_params(
    rank, stride=None, padding=None, lhs_dilation=None, rhs_dilation=None, numbers=None, groups=1, batch_groups=1
) -> dict:
    """Parameters of conv_general_dilated; what is left out does nothing."""
    ones = (1,) * rank
    return {
        "window_strides": stride or ones,
        "padding": padding or ((0, 0),) * rank,
        "lhs_dilation": lhs_dilation or ones,
        "rhs_dilation": rhs_dilation or ones,
        "dimension_numbers": numbers or ConvDimensionNumbers(*[tuple(range(rank + 2))] * 3),
        "feature_group_count": groups,
        "batch_group_count": batch_groups,
        "preferred_element_type": None,
    }


NHWC = ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
MIXED = ConvDimensionNumbers((1, 2, 3, 0), (2, 1, 0, 3), (3, 0, 2, 1))
# lhs shape, rhs shape, parameters
CONVS = {
    "plain 1d": ((2, 3, 6), (4, 3, 3), conv_params(1)),
    "stride, padding": ((2, 3, 7), (2, 3, 3), conv_params(1, (2,), ((1, 2),))),
    "stride leaves a rest": ((1, 2, 9), (2, 2, 2), conv_params(1, (3,))),
    "negative padding": ((2, 1, 9), (2, 1, 3), conv_params(1, (2,), ((-2, -1),))),
    "padding beyond the kernel": ((1, 2, 3), (1, 2, 2), conv_params(1, (2,), ((4, 5),))),
    "both dilations": ((2, 2, 5), (3, 2, 3), conv_params(1, (2,), ((2, 1),), (3,), (2,))),
    "1x1 kernel": ((2, 3, 4, 5), (2, 3, 1, 1), conv_params(2, (2, 1))),
    "nhwc": ((2, 6, 5, 3), (3, 2, 3, 4), conv_params(2, (2, 1), ((1, 1), (0, 2)), numbers=NHWC)),
    "mixed order": (
        (5, 2, 3, 6), (3, 3, 2, 2), conv_params(2, (1, 2), ((1, 0), (2, -1)), (2, 1), (1, 2), MIXED),
    ),
    "feature groups": ((2, 6, 7), (4, 3, 3), conv_params(1, (2,), ((1, 1),), None, (2,), groups=2)),
    "depthwise, nhwc": ((2, 5, 5, 3), (3, 3, 1, 6), conv_params(2, (2, 2), ((1, 1),) * 2, numbers=NHWC, groups=3)),
    "batch groups": ((6, 2, 7), (3, 2, 3), conv_params(1, (2,), ((1, 1),), None, (2,), batch_groups=3)),
    "batch groups, mixed order": (
        (5, 4, 3, 6), (3, 3, 2, 2), conv_params(2, (1, 2), ((1, 0), (2, -1)), (2, 1), (1, 2), MIXED, batch_groups=2),
    ),
    "3d": ((1, 2, 3, 4, 3), (2, 2, 2, 3, 1), conv_params(3, (1, 2, 1), ((1, 0), (1, 1), (0, 0)), (1, 1, 2), (1, 1, 3))),
    "empty batch": ((0, 2, 5), (3, 2, 2), conv_params(1)),
    "empty axis": ((2, 2, 0), (3, 2, 2), conv_params(1)),
    "empty axis, padded": ((2, 2, 0), (3, 2, 2), conv_params(1, (2,), ((2, 3),))),
    "no features": ((2, 0, 5), (3, 0, 2), conv_params(1)),
}  # fmt: skip
