"""Weight gradients of convolutions against the reference: few results, sums over images and window positions."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import sys

import numba
import numpy as np
import pytest
from draws import PRODUCTS, rng_at_width
from planned_conv import check

from fgrad.kernels.builder import PlanBuilder
from fgrad.kernels.cpu import conv_chunks, gemm_chunks, gemm_plan, gemm_tiles
from fgrad.kernels.cpu.gemm_words import TAP_WORDS
from fgrad.kernels.layout import Layout


def check_weight_gradient(rng, dtype, images, sizes, outs, c, k, groups=1, place=np.asarray, **given):
    """Of channels-last input [images, *sizes, c] and cotangent [images, *outs, k]; ``place`` says where they lie."""
    d = len(sizes)
    x, dy = (place(rng.integers(-3, 4, shape).astype(dtype)) for shape in ((images, *sizes, c), (images, *outs, k)))
    operands = [(a, Layout.contiguous(a.dtype, a.shape), a) for a in (x, dy)]
    swapped = (d + 1, 0, *range(1, d + 1))
    params = dict.fromkeys(("window_strides", "lhs_dilation", "rhs_dilation"), (1,) * d) | {"padding": ((0, 0),) * d}
    params |= {"dimension_numbers": (swapped, swapped, (d, d + 1, *range(d))), "batch_group_count": groups}
    return check(*operands, params | given)


@pytest.mark.parametrize("dtype, bits", PRODUCTS)
def test_weight_gradients_of_few_channels_line_by_line(monkeypatch, dtype, bits):
    """More window positions than fit a chunk of B: all rows of a task pass over a few lines before the next ones."""
    rng = rng_at_width(monkeypatch, dtype, bits)
    monkeypatch.setattr(gemm_plan, "CHUNK_BYTES", 1 << 12)
    monkeypatch.setattr(gemm_plan, "NEAR_BYTES", 1 << 11)
    monkeypatch.setattr(conv_chunks, "SLOWER", 0)  # the window nest for all
    taps = []  # of a record at most, and of a chunk
    step = PlanBuilder.step

    def noting(builder, kernel, args, *rest):
        if isinstance(kernel, gemm_tiles.TiledKernel):
            taps.append(args[30:32])
        step(builder, kernel, args, *rest)

    monkeypatch.setattr(PlanBuilder, "step", noting)
    for c, k, stride, pad in ((3, 40, 2, 1), (2, 19, 1, 0), (4, 33, 1, 2)):
        out = int(rng.integers(12, 20))
        size = (out - 1) * stride + 3 - 2 * pad
        notes = check_weight_gradient(
            rng, np.dtype(dtype), 3, (size, size), (out, out), c, k, rhs_dilation=(stride, stride),
            padding=((pad, pad),) * 2,
        )  # fmt: skip
        assert "conv over the window" in notes
    assert any(chunk < most for most, chunk in taps)


@pytest.mark.parametrize("dtype, bits", PRODUCTS)
def test_weight_gradients_in_chunks(monkeypatch, dtype, bits):
    """Chunks of a few window positions, of which a task packs few rows and columns, so that there are many of each."""
    rng = rng_at_width(monkeypatch, dtype, bits)
    for name, value in {"CHUNK_BYTES": 128, "ROWS_BYTES": 1 << 13, "COLUMNS_BYTES": 1 << 14, "SLOWER": 9.0}.items():
        monkeypatch.setattr(conv_chunks, name, value)
    notes = []
    for _ in range(40 if dtype == "float32" else 15):
        d = int(rng.integers(1, 4))
        strides = tuple(int(s) for s in rng.integers(1, 3, d))
        spread, inserted = (tuple(int(s) if rng.random() < 0.4 else 1 for s in rng.integers(1, 4, d)) for _ in "ab")
        sizes, outs = (tuple(int(s) for s in rng.integers(*limits, d)) for limits in ((3, 9), (3, 40 if d == 1 else 7)))
        taps = tuple(int(t) for t in rng.integers(1, 4, d))
        low = tuple(int(p) for p in rng.integers(-1, 3, d))
        high = tuple(
            1 + (o - 1) * by + (t - 1) * step - (1 + (n - 1) * between) - p
            for n, o, t, p, by, step, between in zip(sizes, outs, taps, low, spread, strides, inserted)
        )
        groups = int(rng.choice([1, 1, 1, 2]))
        c, k = (groups * int(rng.choice(choices)) for choices in ((11, 24, 58), (12, 70, 130)))
        notes.append(check_weight_gradient(
            rng, np.dtype(dtype), int(rng.integers(1, 10)), sizes, outs, c, k, groups, window_strides=strides,
            padding=tuple(zip(low, high)), lhs_dilation=inserted, rhs_dilation=spread,
        ))  # fmt: skip
    chunked = [n for n in notes if "conv over the window, in chunks" in n]
    assert len(chunked) > len(notes) / 4
    assert any("sum of parts" in n for n in chunked)


def test_lines_that_a_strided_tap_meets_are_one_run(monkeypatch):
    """Taps of 2x2, stride 2, meet every other line and pixel of the input, whole lines of them: 64 window positions."""
    found, tables = [], conv_chunks._tables
    monkeypatch.setattr(conv_chunks, "CHUNK_BYTES", 256)
    monkeypatch.setattr(conv_chunks, "SLOWER", 9.0)
    monkeypatch.setattr(conv_chunks, "_tables", lambda *args: found.append(tables(*args)) or found[-1])
    check_weight_gradient(
        np.random.default_rng(0), np.dtype(np.float32), 3, (16, 16), (8, 8), 24, 32, rhs_dilation=(2, 2),
        padding=((0, 0),) * 2,
    )  # fmt: skip
    (kinds,) = [np.array(table.kinds).reshape(-1, gemm_chunks.KIND_WORDS + 4 * TAP_WORDS) for table in found]
    taps = kinds[:, gemm_chunks.KIND_WORDS :].reshape(-1, TAP_WORDS)
    assert (taps[:, 1] == 1).all()
    assert (taps.reshape(len(kinds), 4, -1)[..., 4].sum(axis=0) == 64).all()


@pytest.mark.parametrize(
    "images, size, c, k, stride",
    [
        (40, 4, 96, 130, 1),
        (37, 4, 96, 130, 1),
        (70, 7, 60, 33, 1),
        (70, 7, 60, 33, 2),
        (19, 12, 58, 64, 2),
        (40, 12, 58, 64, 3),
        (2, 40, 24, 70, 1),
        (6, 24, 32, 64, 1),
    ],
)
def test_large_weight_gradients(images, size, c, k, stride):
    """As they are planned: runs along lines and over images, several images to a chunk, of which the last lacks some,
    and parts of one; pixels of two and three phases.
    """
    out = -(-size // stride)
    border = 1, (out - 1) * stride + 2 - size
    notes = check_weight_gradient(
        np.random.default_rng(0), np.dtype(np.float32), images, (size,) * 2, (out,) * 2, c, k, padding=(border,) * 2,
        rhs_dilation=(stride,) * 2,
    )  # fmt: skip
    assert "conv over the window, in chunks" in notes


def before_a_guard(a: np.ndarray) -> np.ndarray:
    """A copy that ends where memory begins that nobody may read."""
    whole = -(-a.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, whole + mmap.PAGESIZE)
    held = np.frombuffer(pages, np.uint8)
    guard = ctypes.c_void_p(held.ctypes.data + whole)
    assert ctypes.CDLL(None).mprotect(guard, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    copy = held[whole - a.nbytes : whole].view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is of POSIX")
@pytest.mark.parametrize("rows", [17, 24, 58])
@pytest.mark.parametrize("bits", [128, 256, 512])
def test_chunks_read_nothing_behind_their_operands(monkeypatch, bits, rows):
    """Of each pixel more is copied than a panel has rows, but for the last panel: an image to a chunk, and several."""
    rng = rng_at_width(monkeypatch, "float32", bits)
    for images, size in ((3, 24), (9, 8)):
        notes = check_weight_gradient(
            rng, np.dtype(np.float32), images, (size,) * 2, (size,) * 2, rows, 64, place=before_a_guard,
            padding=((1, 1),) * 2,
        )  # fmt: skip
        assert "conv over the window, in chunks" in notes


@pytest.mark.parametrize("dtype, bits", PRODUCTS)
def test_panels_of_chunks_have_no_empty_row(monkeypatch, dtype, bits):
    rng_at_width(monkeypatch, dtype, bits)
    registers = gemm_tiles.host().registers
    for rows, columns in itertools.product(range(1, 70), (2, 16, 31, 64, 200)):
        tile, _ = gemm_tiles.choose_even(rows, columns, 4096, np.dtype(dtype).itemsize)
        short = -rows % tile.mr
        assert short < (rows + short) // tile.mr  # the last panel is a whole one
        assert tile.nv * (tile.mr + 1) + 1 < registers


def test_where_a_chunk_is_fetched():
    """Every byte of two images of three lines, of 2 pixels of 8 bytes, in a buffer of other strides."""
    part, lines = np.array([3, 2, 3, 16]), np.array([99, 0, 4, 2, 104, 2, 304, 2])
    addresses = [part.ctypes.data, lines.ctypes.data]

    @numba.njit  # a kernel's functions have no machine code of their own
    def place(*args):
        return gemm_chunks._place(*args)

    places = [place(*addresses, 5000, 1000, position) for position in range(96)]
    expected = 5004 + np.add.outer(np.add.outer([0, 1000], [0, 100, 300]), np.arange(16))
    np.testing.assert_array_equal(places, expected.ravel())
