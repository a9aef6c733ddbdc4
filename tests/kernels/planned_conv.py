"""Runs a planned convolution as the driver does, and compares it with the reference."""

from __future__ import annotations

import numpy as np

from fgrad.kernels.cpu.conv import plan_conv
from fgrad.kernels.cpu.driver import from_plan
from fgrad.kernels.layout import Layout
from fgrad.kernels.reference.contraction import conv_general_dilated


def check(lhs, rhs, params):
    """The result against the reference's; the notes and kernels of the steps."""
    (x, x_layout, x_view), (w, w_layout, w_view) = lhs, rhs
    expected = conv_general_dilated(x_view, w_view, **params)
    out = Layout.contiguous(expected.dtype, expected.shape)
    plan = plan_conv([x_layout, w_layout], [out], **params)
    program = from_plan(plan, [x_layout, w_layout], [out])
    given = np.full(expected.shape, 99, expected.dtype)  # every element must be written
    (result,) = program(x, w, outs=(given,))
    np.testing.assert_array_equal(result, expected, err_msg=f"{x_layout} {w_layout} {params}")
    return {step.note for step in plan.steps} | {step.kernel_name for step in plan.steps}
