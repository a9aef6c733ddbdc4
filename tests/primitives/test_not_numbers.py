"""NaN, infinities and denormal numbers go through operations as through NumPy's."""

import itertools
import platform
import subprocess
import sys
import threading

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import fgrad
import fgrad.numpy as fnp
from fgrad import config, lax, nn

NAN, INF = np.nan, np.inf
FLOATS = ["float32", "float64"]
NHWC = ("NHWC", "HWIO", "NHWC")


def agree(f, want, *args):
    """``want`` of f as it is and of f compiled, which may differ from each other by rounding."""
    for g in (f, fgrad.jit(f)):
        got = np.asarray(g(*args))
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)


# --- NaN and infinity ------------------------------------------------------------------------------------------------
def convolution(x, w, stride, groups, border):
    """The sum of its definition; taps on the ``border`` of 1 count as 0 times their weight, or not at all."""
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    size, c, k = (x.shape[1] - 3) // stride + 1, w.shape[2], w.shape[3] // groups
    out = np.zeros((x.shape[0], size, size, w.shape[3]), x.dtype)
    inside = np.zeros(x.shape[1:3], bool)
    inside[1:-1, 1:-1] = True
    for i, j, a, b, g in itertools.product(range(size), range(size), range(3), range(3), range(groups)):
        at = i * stride + a, j * stride + b
        if border or inside[at]:
            of_group = slice(g * k, g * k + k)
            out[:, i, j, of_group] += x[(slice(None), *at, slice(g * c, g * c + c))] @ w[a, b, :, of_group]
    return out


#: Channels, features, groups: each reaches another loop nest.
LAYERS = [(1, 4, 1), (3, 8, 1), (32, 64, 1), (64, 3, 1), (16, 16, 16), (16, 16, 4)]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_convolutions(layer, stride):
    c, k, groups = layer
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 9, 9, c), np.float32), rng.standard_normal((3, 3, c // groups, k), np.float32)

    def conv(x, w):
        return lax.conv_general_dilated(
            x, w, (stride, stride), [(1, 1)] * 2, dimension_numbers=NHWC, feature_group_count=groups
        )

    compiled = fgrad.jit(conv)
    for value, at in ((NAN, (0, 0, 4, 0)), (INF, (1, 4, 4, c - 1)), (-INF, (1, 8, 8, 0))):
        odd = x.copy()
        odd[at] = value
        want = convolution(odd, w, stride, groups, border=True)
        assert not np.isfinite(want).all() and np.isfinite(want).any()
        for f in (conv, compiled):
            np.testing.assert_allclose(f(odd, w), want, rtol=1e-4, atol=1e-4)
    for value, at in ((NAN, (0, 0, 0, 0)), (INF, (2, 2, 0, 0)), (INF, (1, 1, 0, k - 1))):
        odd = w.copy()
        odd[at] = value
        # a kernel is free to multiply the zeros of the border or to leave them out: 0 times infinity, or nothing
        wants = [convolution(x, odd, stride, groups, border) for border in (True, False)]
        for f in (conv, compiled):
            got = np.asarray(f(x, odd))
            right = [np.isclose(got, want, rtol=1e-4, atol=1e-4, equal_nan=True) for want in wants]
            assert (right[0] | right[1]).all()
        np.testing.assert_array_equal(got, conv(x, odd))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # inf - inf
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("size, stride", [(2, 2), (3, 2), (3, 1)])
def test_windows(dtype, pad, size, stride):
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 20)).astype(dtype)
    x[0, 0, 0, 0], x[1, 7, 7, 2], x[0, 3, 3, 1], x[0, 4, 4, 1], x[1, 3, 3, 19] = NAN, NAN, INF, -INF, NAN
    pads = [(0, 0), (pad, pad), (pad, pad), (0, 0)]
    window, steps = (1, size, size, 1), (1, stride, stride, 1)
    for init, ours, numpys in ((-INF, lax.max, np.max), (INF, lax.min, np.min), (0, lax.add, np.sum)):
        padded = np.pad(x, pads, constant_values=init)
        want = numpys(sliding_window_view(padded, (size, size), (1, 2))[:, ::stride, ::stride], (-2, -1))
        agree(lambda x, i=init, f=ours: lax.reduce_window(x, x.dtype.type(i), f, window, steps, pads), want, x)


ALONG = ("max", "min", "sum", "prod", "mean", "var", "argmax", "argmin", "any", "all", "cumsum", "cumprod", "median",
         "ptp", "sort", "argsort")  # fmt: skip


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ALONG)
def test_along_axes(name, dtype):
    for shape, axis in (((5, 7), 1), ((5, 7), 0), ((70, 33), 0)):
        x = np.random.default_rng(0).uniform(0.5, 1.5, shape).astype(dtype)
        for value, other in ((NAN, 1), (INF, 1), (-INF, 1), (INF, -INF), (NAN, -INF)):
            x.flat[[1, x.size // 2]], x.flat[3] = value, other
            options = {"kind": "stable"} if name == "argsort" else {}
            want = getattr(np, name)(x, axis=axis, **options)
            agree(lambda x, axis=axis: getattr(fnp, name)(x, axis=axis), want, x)


BINARY = ("add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "fmax", "fmin", "hypot", "arctan2",
          "logaddexp", "remainder", "fmod", "copysign", "nextafter", "equal", "less", "less_equal", "not_equal",
          "matmul")  # fmt: skip
UNARY = ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "cbrt", "square", "reciprocal", "abs", "sign",
         "floor", "rint", "sin", "cos", "tan", "tanh", "sinh", "cosh", "arcsin", "arctan", "arcsinh", "arccosh",
         "arctanh", "isnan", "isinf", "isfinite", "nan_to_num")  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY)
def test_pairs(name, dtype):
    values = np.array([NAN, INF, -INF, 0.0, -0.0, 1.0, -2.0], dtype)
    x, y = (a.reshape(-1, 1) for a in np.meshgrid(values, values))
    if name == "matmul":  # [7, 1] times [1, 7]
        x, y = values[:, None], values[None]
    with np.errstate(all="ignore"):
        want = getattr(np, name)(x, y)
    agree(getattr(fnp, name), want, x, y)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_functions(name, dtype):
    info = np.finfo(dtype)
    x = np.array([NAN, INF, -INF, 0, -0.0, 1, -1, info.max, info.tiny, info.smallest_subnormal] * 4, dtype)
    with np.errstate(all="ignore"):
        want = getattr(np, name)(x)
    agree(getattr(fnp, name), want, x)


@pytest.mark.parametrize("row", [[1, INF, 2], [1, -INF, 2], [-INF, -INF, -INF], [NAN, 1, 2], [INF, INF, 1]], ids=str)
def test_softmax_and_logsumexp(row):
    x = np.array([row, row], np.float32)
    with np.errstate(all="ignore"):
        agree(lambda x: nn.logsumexp(x, axis=1), np.logaddexp.reduce(x, axis=1), x)
        exponentials = np.exp(x - x.max(1, keepdims=True))
        agree(lambda x: nn.softmax(x, axis=1), exponentials / exponentials.sum(1, keepdims=True), x)


# --- denormals -------------------------------------------------------------------------------------------------------
#: Each gives 1, 2 or 4 times the argument's equal elements [4, 160, 160], by tiles for every thread.
KEEPING = {
    "map": (lambda x: x * 2 - x, 1),
    "division": (lambda x: x / 0.5, 2),
    "sum": (lambda x: fnp.sum(x[..., :4], 2), 4),
    "maximum": (lambda x: fnp.max(x, (1, 2)), 1),
    "product": (lambda x: x @ fnp.eye(160, dtype=x.dtype), 1),
    "convolution": (lambda x: lax.conv(x[:, None], fnp.ones((8, 1, 2, 2), x.dtype), (1, 1), "VALID"), 4),
    "depthwise": (
        lambda x: lax.conv_general_dilated(
            x[..., None] * fnp.ones((1, 1, 1, 8), x.dtype), fnp.ones((2, 2, 1, 8), x.dtype), (1, 1), "VALID",
            dimension_numbers=NHWC, feature_group_count=8,
        ), 4,
    ),
    "largest of windows": (lambda x: lax.reduce_window(x, -INF, lax.max, (1, 2, 2), (1, 2, 2), "VALID"), 1),
    "sums of windows": (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 2), (1, 2, 2), "VALID"), 4),
    "sort": (lambda x: fnp.sort(x, 2), 1),
    "cumsum": (lambda x: fnp.cumsum(x[..., :4], 2)[..., 3], 4),
    "scatter": (lambda x: fnp.zeros(160, x.dtype).at[np.arange(320) % 160].add(x[0, :2].reshape(-1)), 2),
    "loop": (lambda x: lax.fori_loop(0, 2, lambda i, y: y + y, x), 4),
}  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", KEEPING)
def test_denormals_are_kept(name, dtype):
    f, times = KEEPING[name]
    number = np.dtype(dtype).type(np.finfo(dtype).smallest_subnormal * 12345)
    x = np.full((4, 160, 160), number)
    compiled = fgrad.jit(f)
    for threads in range(1, config.num_threads() + 1):
        with config.using_num_threads(threads):
            for g in (f, compiled):
                assert set(np.asarray(g(x)).ravel().tolist()) == {float(number) * times}


def test_denormals_are_kept_in_other_python_threads():
    x = np.full((64, 1000), np.float32(1e-40))
    f, seen = fgrad.jit(lambda x: x / 2), []
    threads = [threading.Thread(target=lambda: seen.append(np.asarray(f(x)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 4 and all((y == np.float32(1e-40) / 2).all() for y in seen)


FLUSHING = """
import ctypes, ctypes.util
import numpy as np
x = np.full((400_000,), 1e-39, np.float32)
want = x * np.float32(0.5)
libm = ctypes.CDLL(ctypes.util.find_library("m"))
state = (ctypes.c_uint32 * 16)()  # fenv_t: the last of its 32 bytes are MXCSR
libm.fegetenv(state)
state[7] |= 0x8040
libm.fesetenv(state)
assert not (x * np.float32(0.5)).any()  # this thread, and those that it starts, flush

import fgrad
halved = fgrad.jit(lambda x: x * 0.5)
for threads in (1, 2):
    with fgrad.config.using_num_threads(threads):
        assert np.asarray(halved(x)).tobytes() == want.tobytes(), threads
libm.fegetenv(state)
assert state[7] & 0x8040 == 0x8040
"""


@pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc", reason="needs x86-64's MXCSR and glibc"
)
def test_denormals_are_kept_where_a_library_has_turned_them_off():
    subprocess.run([sys.executable, "-c", FLUSHING], check=True)


def test_gradual_underflow_of_exp_and_log():
    x = np.linspace(-103.5, -87, 1000).astype(np.float32)
    for f, g in ((fnp.exp, np.exp), (lambda x: fnp.log(fnp.exp(x)), lambda x: np.log(np.exp(x)))):
        np.testing.assert_allclose(fgrad.jit(f)(x), g(x), rtol=2e-7, atol=1.5e-45)
