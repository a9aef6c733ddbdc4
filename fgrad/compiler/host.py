"""Host steps: an equation's NumPy reference, called by the driver with the addresses of its operands and results."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import numpy as np

from fgrad.core.backends import Host
from fgrad.core.jaxpr import Eqn
from fgrad.core.trace import EVAL, using
from fgrad.kernels.layout import Layout


def host_function(eqn: Eqn, ins: Sequence[Layout], outs: Sequence[Layout]) -> Callable[[Sequence[int]], None]:
    """``function(addresses)``: operands, then results, each the address that its layout counts from.

    Host primitives get copies, which they may keep; what else runs here (complex arithmetic) only reads.
    """
    prim, params = eqn.primitive, eqn.params
    keeps = isinstance(prim.cpu, Host)

    def call(addresses: Sequence[int]) -> None:
        operands = []
        for address, layout in zip(addresses, ins):
            array = _array(address, layout)
            if keeps:
                array = np.array(array, order="C")
            array.flags.writeable = False
            operands.append(array)
        with using(EVAL), np.errstate(all="ignore"):
            results = prim.reference(*operands, **params)
        results = results if prim.multiple_results else (results,)
        for address, layout, result in zip(addresses[len(ins) :], outs, results, strict=True):
            result = np.asarray(result)
            if result.shape != layout.shape or result.dtype != layout.dtype:
                raise TypeError(
                    f"{prim.name}: reference must return what abstract says, got {result.dtype}{list(result.shape)} "
                    f"for {layout.dtype}{list(layout.shape)}. Correct one of the two slots."
                )
            _array(address, layout)[...] = result

    return call


def _array(address: int, layout: Layout) -> np.ndarray:
    """The memory of a layout as an array that holds no reference to it."""
    if layout.size == 0:
        return np.empty(layout.shape, layout.dtype)
    size = layout.dtype.itemsize
    reach = [(n - 1) * s for n, s in zip(layout.shape, layout.strides)]
    low = layout.offset + sum(r for r in reach if r < 0)
    high = layout.offset + sum(r for r in reach if r > 0) + 1
    memory = (ctypes.c_char * ((high - low) * size)).from_address(address + low * size)
    strides = tuple(s * size for s in layout.strides)
    return np.ndarray(layout.shape, layout.dtype, memoryview(memory), (layout.offset - low) * size, strides)
