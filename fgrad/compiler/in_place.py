"""Carries that are updated where they lie: a step of a loop that changes a few elements copies none of the others.

Followed backwards from what an iteration returns, the value is

    a scatter into the value before              which may write into it
    what an inner loop has updated in place      from a copy of the value before, which need not be made
    what each branch of a Branch makes of it     by these same rules

and so on, until the value that the iteration began with.  All are in one place if nobody reads an old one any more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from fgrad.compiler.schedule import Branch, Buffer, Copies, KernelCall, Schedule
from fgrad.primitives.indexing import scatter_p


class _Chain(NamedTuple):
    """Values of one array, the last one first, and what makes them share its place."""

    buffers: list[Buffer]
    changes: list[Callable[[], None]]


def updated_in_place(body: Schedule, read: Buffer, write: Buffer) -> list[Buffer]:
    """The values of a carry from ``write`` back to ``read``, in one place from now on; none if that cannot be."""
    chain = _chain(body, read, write)
    if chain is None:
        return []
    for change in chain.changes:
        change()
    return chain.buffers


def _chain(body: Schedule, read: Buffer, write: Buffer) -> _Chain | None:
    buffers, changes = [write], []
    while buffers[-1] is not read:
        target = buffers[-1]
        at = next((i for i, x in enumerate(body.launches) if target in x.writes), None)
        step = None if at is None else _step(body, at, target)
        if at is None or step is None:
            return None
        source, change = step
        late = [b for x in body.launches[at + 1 :] for b in x.reads] + body.results
        own = source is read or source.kind == "tmp"
        if not own or source in late or source.layout.size != target.layout.size:
            return None
        buffers.append(source)
        changes += change
    return _Chain(buffers, changes)


def _step(body: Schedule, at: int, target: Buffer) -> tuple[Buffer, list[Callable[[], None]]] | None:
    """The value before ``target``, and what lets the launch make one of the other in its place."""
    launch = body.launches[at]
    if isinstance(launch, Branch):
        return _through(launch, target)
    if isinstance(launch, Copies):
        if launch.fill is not None or [to for _, to in launch.parts] != [target.layout]:
            return None
        view, change = launch.parts[0][0], lambda: body.launches.remove(launch)
    elif isinstance(launch, KernelCall) and launch.eqn.primitive is scatter_p:
        view, change = launch.ins[0], lambda: setattr(launch, "in_place", True)
        if view.buffer in [v.buffer for v in launch.ins[1:]]:
            return None
    else:
        return None
    return (view.buffer, [change]) if view.layout == target.layout else None


def _through(branch: Branch, target: Buffer) -> tuple[Buffer, list[Callable[[], None]]] | None:
    """The operand that every branch updates to its result ``target``."""
    for source in dict.fromkeys(outer for _, outer in branch.same if outer not in branch.outs):
        chains = []
        for schedule in branch.branches:
            mine = [inner for inner, outer in branch.same if outer is source and inner in schedule.inputs]
            (result,) = [inner for inner, outer in branch.same if outer is target and inner in schedule.results]
            chains.append(_chain(schedule, mine[0], result) if len(mine) == 1 else None)
        if all(chains):
            found = [chain for chain in chains if chain is not None]
            between = [(b, target) for chain in found for b in chain.buffers[1:-1]]
            return source, [*(c for chain in found for c in chain.changes), partial(branch.same.extend, between)]
    return None
