"""Python's collector of reference cycles, which starts by the number of objects that are made."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """The collector waits until the block ends.

    A compilation makes thousands of objects, nearly all of which live until it ends, and then go without a collector:
    each of its collections would visit them for nothing, and bring nearer the one that visits all objects there are.
    Where blocks overlap in several threads, the first to end lets the collector run again; whoever has switched it off
    before finds it switched off.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
