"""Checks backward passes of a 2-D convolution that were written by hand, and shows where the wrong ones are wrong.

The forward pass is plain NumPy; so is a right backward pass, and the same in Numba. Five more have mistakes that are
easily made: no kernel flip, no dilation of the cotangent, the forward's padding for even kernels, the sum in place of
the mean over the batch, and rows that are lost if the stride does not divide. One line checks a backward pass on one
problem; Hypothesis draws the problems, and shrinks the one that fails to the smallest that still does.

    python examples/check_conv_backward.py [--examples 200]
"""

import argparse
import time
from functools import partial

import numpy as np
from hypothesis import Phase, given, settings
from numba import njit
from numpy.lib.stride_tricks import sliding_window_view

from fgrad.testing import check_vjp
from fgrad.testing.strategies import conv_problems


# --- the forward pass ------------------------------------------------------------------------------------------------
def pad(x, pads):
    """Zeros around the spatial axes of x [N, C, H, W]; a negative number takes elements away."""
    wide = np.pad(x, [(0, 0), (0, 0), *((max(lo, 0), max(hi, 0)) for lo, hi in pads)])
    kept = [slice(max(-lo, 0), size - max(-hi, 0)) for (lo, hi), size in zip(pads, wide.shape[2:])]
    return wide[:, :, kept[0], kept[1]]


def dilate(y, strides):
    """strides[i] - 1 zeros between the elements of each spatial axis of y [N, O, P, Q]."""
    sizes = [(size - 1) * stride + 1 for size, stride in zip(y.shape[2:], strides)]
    out = np.zeros((*y.shape[:2], *sizes), y.dtype)
    out[:, :, :: strides[0], :: strides[1]] = y
    return out


def conv(x, w, strides, pads):
    """Y[n, o, i, j] = Σ_cab X'[n, c, s i + a, t j + b] W[o, c, a, b]: X' is x [N, C, H, W] padded, W [O, C, K, L]."""
    windows = sliding_window_view(pad(x, pads), w.shape[2:], axis=(2, 3))[:, :, :: strides[0], :: strides[1]]
    return np.einsum("ncijab,ocab->noij", windows, w)


# --- a right backward pass -------------------------------------------------------------------------------------------
WHOLE = ((0, 0), (0, 0))


def flipped(w):
    """Both spatial axes reversed, the features exchanged: [O, C, K, L] -> [C, O, K, L]."""
    return w[:, :, ::-1, ::-1].swapaxes(0, 1)


def around(w):
    """The padding of a full correlation: every element of the kernel meets every element of the input."""
    return tuple((k - 1, k - 1) for k in w.shape[2:])


def input_gradient(ct, x, w, strides, pads):
    full = conv(dilate(ct, strides), flipped(w), (1, 1), around(w))  # what windows read: (P - 1) s + K rows of X'
    # x begins at row lo of X' and has H rows; the rows behind the last window are missing from `full`, and get zeros.
    return pad(full, [(-lo, lo + size - have) for (lo, _), size, have in zip(pads, x.shape[2:], full.shape[2:])])


def kernel_gradient(ct, x, w, strides, pads):
    spread = dilate(ct, strides)
    ends = [n + k - 1 for n, k in zip(spread.shape[2:], w.shape[2:])]  # the rows of X' that windows read, as above
    read = pad(x, [(lo, end - size - lo) for (lo, _), size, end in zip(pads, x.shape[2:], ends)])
    return conv(read.swapaxes(0, 1), spread.swapaxes(0, 1), (1, 1), WHOLE).swapaxes(0, 1)


def backward(ct, x, w, strides, pads):
    return input_gradient(ct, x, w, strides, pads), kernel_gradient(ct, x, w, strides, pads)


# --- wrong ones ------------------------------------------------------------------------------------------------------
def without_flip(ct, x, w, strides, pads):
    full = conv(dilate(ct, strides), w.swapaxes(0, 1), (1, 1), around(w))
    dx = pad(full, [(-lo, lo + size - have) for (lo, _), size, have in zip(pads, x.shape[2:], full.shape[2:])])
    return dx, kernel_gradient(ct, x, w, strides, pads)


def without_dilation(ct, x, w, strides, pads):
    full = conv(ct, flipped(w), (1, 1), around(w))
    dx = pad(full, [(-lo, lo + size - have) for (lo, _), size, have in zip(pads, x.shape[2:], full.shape[2:])])
    return dx, kernel_gradient(ct, x, w, strides, pads)


def with_the_forward_padding(ct, x, w, strides, pads):
    """For strides of 1 and padding that keeps the size, where it is right for odd kernels."""
    return conv(ct, flipped(w), (1, 1), pads), kernel_gradient(ct, x, w, strides, pads)


def without_leftover_rows(ct, x, w, strides, pads):
    full = conv(dilate(ct, strides), flipped(w), (1, 1), around(w))
    return pad(full, [(-lo, -hi) for lo, hi in pads]), kernel_gradient(ct, x, w, strides, pads)


def loss(x, w, strides, pads):
    """(1/N) Σ_n |Y[n]|² / 2"""
    return np.sum(conv(x, w, strides, pads) ** 2) / (2 * len(x))


def loss_backward(ct, x, w, strides, pads):
    return backward(ct * conv(x, w, strides, pads) / len(x), x, w, strides, pads)


def loss_without_mean(ct, x, w, strides, pads):
    return backward(ct * conv(x, w, strides, pads), x, w, strides, pads)


# --- Numba -----------------------------------------------------------------------------------------------------------
@njit
def conv_numba(x, w, strides, pads):
    (n, c, height, width), (o, _, rows, columns) = x.shape, w.shape
    p = (height + pads[0][0] + pads[0][1] - rows) // strides[0] + 1
    q = (width + pads[1][0] + pads[1][1] - columns) // strides[1] + 1
    y = np.zeros((n, o, p, q), x.dtype)
    for i, j, a, b in np.ndindex((p, q, rows, columns)):
        row, column = strides[0] * i + a - pads[0][0], strides[1] * j + b - pads[1][0]
        if 0 <= row < height and 0 <= column < width:
            for m, f, g in np.ndindex((n, o, c)):
                y[m, f, i, j] += x[m, g, row, column] * w[f, g, a, b]
    return y


@njit
def backward_numba(ct, x, w, strides, pads):
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for i, j, a, b in np.ndindex((ct.shape[2], ct.shape[3], w.shape[2], w.shape[3])):
        row, column = strides[0] * i + a - pads[0][0], strides[1] * j + b - pads[1][0]
        if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
            for m, f, g in np.ndindex((x.shape[0], w.shape[0], w.shape[1])):
                dx[m, g, row, column] += ct[m, f, i, j] * w[f, g, a, b]
                dw[f, g, a, b] += ct[m, f, i, j] * x[m, g, row, column]
    return dx, dw


# --- checking them ---------------------------------------------------------------------------------------------------
PLAIN = dict(spatial_dims=2, groups=False, batch_groups=False, lhs_dilation=False, rhs_dilation=False, orders=False,
             preferred=False, degenerate=False, dtypes="float64", max_macs=512)  # fmt: skip
ANY = conv_problems(paddings=["explicit"], **PLAIN)
SAME = conv_problems(paddings=["SAME"], **PLAIN).filter(lambda problem: problem.options["window_strides"] == (1, 1))

# name -> the function, its backward pass, the problems to try it on, the arguments it is linear in each by itself
RIGHT = {
    "NumPy": (conv, backward, ANY, (0, 1)),
    "Numba": (conv_numba, backward_numba, ANY, (0, 1)),
    "a loss": (loss, loss_backward, ANY, ()),
}
WRONG = {
    "no kernel flip": (conv, without_flip, ANY, (0, 1)),
    "no dilation of the cotangent": (conv, without_dilation, ANY, (0, 1)),
    "the forward's padding for even kernels": (conv, with_the_forward_padding, SAME, (0, 1)),
    "the sum in place of the mean over the batch": (loss, loss_without_mean, ANY, ()),
    "leftover rows lost": (conv, without_leftover_rows, ANY, (0, 1)),
}


def settled(problem):
    """The problem's strides, and its padding as pairs."""
    pads = problem.options["padding"]
    if pads == "SAME":  # with strides of 1: K - 1 rows in all, the odd one behind
        pads = tuple(((k - 1) // 2, k // 2) for k in problem.operands[1].shape[2:])
    return {"strides": problem.options["window_strides"], "pads": pads}


def counterexample(f, rule, problems, linear, examples):
    """What the check says of the smallest problem it could find on which the rule is wrong; None if it found none."""

    # Without its database of earlier failures, so that every run tells the whole story.
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(problems)
    def test(problem):
        options = settled(problem)
        check_vjp(partial(f, **options), problem.operands, vjp=partial(rule, **options), linear=linear)

    try:
        test()
    except (AssertionError, TypeError) as error:
        return "\n".join([str(error), *getattr(error, "__notes__", ())])
    return None


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--examples", type=int, default=200, help="problems to draw for each backward pass")
    options = parser.parse_args(argv)
    found = {}
    for name, (f, rule, problems, linear) in (RIGHT | WRONG).items():
        started = time.perf_counter()
        found[name] = counterexample(f, rule, problems, linear, options.examples)
        seconds = f"{time.perf_counter() - started:.1f} s"
        if found[name]:
            print(f"=== {name}: wrong ({seconds})\n{found[name]}\n")
        else:
            print(f"=== {name}: right in {options.examples} problems ({seconds})")
    return found


if __name__ == "__main__":
    main()
