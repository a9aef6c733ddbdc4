"""Runs emitted kernels on NumPy arrays: what the tests of the emitter share."""

import ctypes

import ml_dtypes
import numpy as np

from fgrad.kernels.cpu import emit
from fgrad.kernels.layout import Layout
from fgrad.kernels.plan import Ptr

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
SIGNED = [np.dtype(f"i{n}") for n in (1, 2, 4, 8)]
UNSIGNED = [np.dtype(f"u{n}") for n in (1, 2, 4, 8)]
INTEGERS = SIGNED + UNSIGNED
FLOATS = [np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64)]
BOOL = np.dtype(bool)
DTYPES = [BOOL, *INTEGERS, *FLOATS]

SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


def layout_of(array):
    """The layout of a (possibly strided) array, counted from its own first element."""
    strides = tuple(s // array.itemsize for s in array.strides)
    return Layout(array.dtype, array.shape, strides)


def run_plan(plan, ins, outs, tile_by_tile=False):
    """Calls the kernels of a plan one after another, each on all its tiles at once or one tile a call, last first."""
    temps = [np.full(n, 0xA5, np.uint8) for n in plan.temps]
    bases = {"in": ins, "out": outs, "tmp": temps}
    for step in plan.steps:
        words = [bases[a.kind][a.index].ctypes.data + a.offset if isinstance(a, Ptr) else int(a) for a in step.args]
        block = np.array(words, np.int64)
        call = SIGNATURE(step.kernel.address())
        if tile_by_tile:
            for tile in reversed(range(step.extent)):
                call(block.ctypes.data, tile, tile + 1, 0)
        else:
            call(block.ctypes.data, 0, step.extent, 0)
    return outs


def run_map(rule, *arrays, out, params=()):
    """``out[...] = rule(s, *arrays)`` element by element; arrays of out's shape, any strides."""
    nodes = [*(("load", k) for k in range(len(arrays))), ("map", rule, params, tuple(range(len(arrays))))]
    ins = [layout_of(a) for a in arrays]
    plan = emit.map_plan(out.shape, ins, nodes, [(layout_of(out), len(arrays))])
    run_plan(plan, arrays, [out])
    return out


def run_fold(combine, array, axes, out_dtype=None, tile_by_tile=False):
    """``combine`` over the axes of an array."""
    kept = tuple(n for a, n in enumerate(array.shape) if a not in axes)
    out = np.empty(kept, out_dtype or array.dtype)
    plan = emit.fold_plan(
        array.shape, [layout_of(array)], [("load", 0)], [emit.Reduce(0, combine, layout_of(out))], axes
    )
    run_plan(plan, [array], [out], tile_by_tile)
    return out
