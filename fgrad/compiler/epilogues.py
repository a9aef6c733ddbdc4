"""Element-wise groups that become epilogues of the product (convolution or dot) whose result they read.

A group joins the product if it is the first to read it, at the same index, and everything else it reads lies as the
product does or has one value for each feature.  Then the product's tiles pass through it while they are in the cache.
"""

from __future__ import annotations

from fgrad.compiler.schedule import (
    Branch,
    Buffer,
    Group,
    HostCall,
    KernelCall,
    Launch,
    Loop,
    Schedule,
)
from fgrad.kernels.cpu.epilogue import place_of


def with_epilogues(schedule: Schedule) -> list[Launch]:
    """The schedule's launches, groups that can be epilogues joined to their products."""
    launches = list(schedule.launches)
    calls = [x for x in launches if isinstance(x, KernelCall) and x.eqn.primitive.cpu.epilogue]
    readers: dict[Buffer, list[Launch]] = {call.outs[0]: [] for call in calls}  # of the products, in order
    for launch in launches if calls else ():
        for b in readers.keys() & launch.reads:
            readers[b].append(launch)
    for call in calls:
        _join(call, launches, readers)
    return launches


def _join(call: KernelCall, launches: list[Launch], readers: dict[Buffer, list[Launch]]) -> None:
    (product,) = call.outs
    behind = readers[product]
    group = behind[0] if behind else None
    if product.kind != "tmp" or not isinstance(group, Group) or not _is_epilogue(group, product):
        return
    at, reader = launches.index(call), launches.index(group)
    between = launches[at + 1 : reader]
    made = {b for launch in between for b in launch.writes}
    others = [v for v in group.loads if v.buffer is not product]
    if all([v.buffer not in made and v.fence < product.at for v in group.loads]):
        place = at
    elif not any(isinstance(x, Loop | Branch | HostCall) or getattr(x, "in_place", False) for x in between):
        place = reader - 1  # nothing in between changes what the product reads
    else:
        return
    kept = [product] if len(behind) > 1 else []
    load = next(k for k, v in enumerate(group.loads) if v.buffer is product)
    outs = [*(b for _, b in group.results), *kept]
    joined = KernelCall(call.eqn, [*call.ins, *others], outs, epilogue=group, product=load)
    launches.remove(group)
    launches.remove(call)
    launches.insert(place, joined)
    for b in readers.keys() & group.reads:
        readers[b][readers[b].index(group)] = joined


def _is_epilogue(group: Group, product: Buffer) -> bool:
    if group.folds or group.shape != product.shape or any([node[0] == "iota" for node in group.nodes]):
        return False
    for view in group.loads:
        place = place_of(view.layout, product.layout)
        if place is None or (view.buffer is product and view.layout != product.layout):
            return False
        # an argument at the same index may be donated: a group of its own writes over it, tiles could not
        if place == "here" and view.buffer.kind == "in":
            return False
    return product.layout.size > 0
