"""Samples of each of fgrad's own primitives: what ``check_primitive("sin")`` runs the laws on.

A new primitive gets its samples in one of the modules read here.
"""

from __future__ import annotations

import functools

from fgrad.testing.sample import Sample


@functools.cache
def table() -> dict[str, list[Sample]]:
    """The samples of every primitive by its name: each of them includes sizes 0 and 1, and scalars where it can."""
    from fgrad.testing.samples import callbacks, control, custom, elementwise, linalg, ordered, structural

    found: dict[str, list[Sample]] = {}
    for module in (elementwise, ordered, structural, control, callbacks, custom, linalg):
        found |= module.table()
    return found
