"""From a schedule to an executable: plan every launch, place every buffer, donate what may be overwritten."""

from __future__ import annotations

from dataclasses import dataclass, field

from fgrad.compiler.fuse import Buffer, Copies, Group, KernelCall, Launch, Schedule, View
from fgrad.kernels.plan import KernelPlan, Ptr, Step

ALIGNMENT = 64


@dataclass
class Lowered:
    """Everything an Executable needs, plus what the reader of a program's text wants to know."""

    steps: list[Step]
    arena_bytes: int
    tables: list
    scratch: int
    text: list[str]
    aliases: dict[int, int] = field(default_factory=dict)  # output j may overwrite input i


def _plan(launch: Launch) -> tuple[list[KernelPlan], list[View], list[Buffer]]:
    """Plans over a common list of operands and results."""
    if isinstance(launch, KernelCall):
        ins = [v.layout for v in launch.ins]
        outs = [b.layout for b in launch.outs]
        return [launch.eqn.primitive.cpu.planner(ins, outs, **launch.eqn.params)], launch.ins, launch.outs
    return _plan_group(launch) if isinstance(launch, Group) else _plan_copies(launch)


def _plan_group(group: Group) -> tuple[list[KernelPlan], list[View], list[Buffer]]:
    from fgrad.kernels.cpu.emit import fold_plan, map_plan

    ins = [v.layout for v in group.loads]
    nodes = tuple(group.nodes)
    stored = list(group.results.values())
    results = [(b.layout, node) for node, b in group.results.items()]
    if group.fold is None:
        return [map_plan(group.shape, ins, nodes, results)], group.loads, stored
    node, combine, axes, out = group.fold
    plan = fold_plan(group.shape, ins, nodes, node, combine, axes, out.layout, results)
    return [plan], group.loads, [out, *stored]


def _plan_copies(launch: Copies) -> tuple[list[KernelPlan], list[View], list[Buffer]]:
    """The fill and each part are maps of their own, all into the one result."""
    from fgrad.kernels.cpu.emit import map_plan

    plans, operands = [], [view for view, _ in launch.parts]
    out = launch.out.layout
    covered = sum(target.size for _, target in launch.parts)
    if launch.fill is not None and covered < out.size:
        if isinstance(launch.fill, View):
            operands.append(launch.fill)
            value = launch.fill.layout.broadcast_in_dim(out.shape, ())
            plans.append(_renamed(map_plan(out.shape, [value], [("load", 0)], [(out, 0)]), len(operands) - 1))
        else:
            plans.append(map_plan(out.shape, [], [("const", launch.fill.item(), out.dtype.name)], [(out, 0)]))
    for k, (view, target) in enumerate(launch.parts):
        plans.append(_renamed(map_plan(target.shape, [view.layout], [("load", 0)], [(target, 0)]), k))
    return plans, operands, [launch.out]


def _renamed(plan: KernelPlan, operand: int) -> KernelPlan:
    """The plan of one operand, reading number ``operand`` of a longer list."""

    def rename(a):
        return a._replace(index=operand) if isinstance(a, Ptr) and a.kind == "in" else a

    return plan._replace(steps=tuple(s._replace(args=tuple(map(rename, s.args))) for s in plan.steps))


class _Arena:
    """First fit by lifetime: [start, end] of the schedule -> byte offsets that never overlap while alive."""

    def __init__(self) -> None:
        self.blocks: list[tuple[int, int, float, float]] = []  # offset, size, start, end
        self.size = 0

    def place(self, nbytes: int, start: float, end: float) -> int:
        nbytes = -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
        taken = sorted((o, n) for o, n, s, e in self.blocks if s <= end and start <= e)
        offset = 0
        for o, n in taken:
            if o - offset >= nbytes:
                break
            offset = max(offset, o + n)
        self.blocks.append((offset, nbytes, start, end))
        self.size = max(self.size, offset + nbytes)
        return offset


def lower(schedule: Schedule, donated: frozenset[int] = frozenset()) -> Lowered:
    """Steps with every pointer placed.  ``donated``: numbers of inputs whose memory may be overwritten."""
    planned = [_plan(launch) for launch in schedule.launches]
    last: dict[Buffer, int] = {}
    born: dict[Buffer, int] = {}
    for i, (_, operands, results) in enumerate(planned):
        for view in operands:
            last[view.buffer] = i
        for b in results:
            born.setdefault(b, i)
            last[b] = max(last.get(b, i), i)

    arena = _Arena()
    address: dict[Buffer, Ptr] = {}

    def pointer(b: Buffer, offset: int) -> Ptr:
        if b.kind in ("in", "out"):
            return Ptr(b.kind, b.index, offset)  # type: ignore[arg-type]
        if b not in address:
            address[b] = Ptr("arena", 0, arena.place(b.layout.size * b.dtype.itemsize, born[b], last[b]))
        return address[b]._replace(offset=address[b].offset + offset)

    # biggest first leaves the fewest holes
    for b in sorted(born, key=lambda b: -b.layout.size * b.dtype.itemsize):
        pointer(b, 0)

    steps: list[Step] = []
    tables: list = []
    text: list[str] = []
    scratch = 0
    for i, (launch, (plans, operands, results)) in enumerate(zip(schedule.launches, planned)):
        for plan in plans:
            temps = [arena.place(n, i, i) for n in plan.temps]
            first_table = len(tables)
            tables += plan.tables
            scratch = max(scratch, plan.scratch)

            def resolve(a, temps=temps, first_table=first_table, operands=operands, results=results):
                if not isinstance(a, Ptr):
                    return a
                if a.kind == "in":
                    return pointer(operands[a.index].buffer, a.offset)
                if a.kind == "out":
                    return pointer(results[a.index], a.offset)
                if a.kind == "tmp":
                    return Ptr("arena", 0, temps[a.index] + a.offset)
                return a._replace(index=first_table + a.index) if a.kind == "tab" else a

            for step in plan.steps:
                steps.append(step._replace(args=tuple(map(resolve, step.args))))
                text.append(_describe(launch, step))
    return Lowered(steps, arena.size, tables, scratch, text, _aliases(schedule, planned, born, last, donated))


def _aliases(schedule, planned, born, last, donated) -> dict[int, int]:
    """Outputs that may be written over a donated input: the input is read for the last time before the output is
    written, or in the same element-wise loop at the same index.
    """
    aliases: dict[int, int] = {}
    outs = [b for b in schedule.outputs if isinstance(b, Buffer) and b in born]
    passed = {o for o in schedule.outputs if isinstance(o, int)}
    for i in sorted(donated - passed):
        source = schedule.inputs[i]
        for out in outs:
            if out.index in aliases or out.dtype != source.dtype or out.layout.size != source.layout.size:
                continue
            read, written = last.get(source, -1), born[out]
            launch = schedule.launches[written]
            if read < written or (read == written and _in_place(launch, source, out)):
                aliases[out.index] = i
                break
    return aliases


def _in_place(launch: Launch, source: Buffer, out: Buffer) -> bool:
    if not isinstance(launch, Group) or launch.fold is not None:
        return False
    return all(v.layout == out.layout for v in launch.loads if v.buffer is source)


def _describe(launch: Launch, step: Step) -> str:
    """One line of a program's text."""
    kernel = step.kernel if isinstance(step.kernel, str) else "emitted"
    if isinstance(launch, Group):
        what = f"{' '.join(launch.names)} over {list(launch.shape)}"
        stored = ", ".join(f"{b.dtype.name}{list(b.shape)}" for b in launch.results.values())
        if launch.fold:
            b = launch.fold[3]
            stored = ", ".join(filter(None, [stored, f"{b.dtype.name}{list(b.shape)}"]))
        what += f" -> {stored}"
    elif isinstance(launch, KernelCall):
        shapes = " ".join(f"{v.layout.dtype.name}{list(v.layout.shape)}" for v in launch.ins)
        outs = " ".join(f"{b.dtype.name}{list(b.shape)}" for b in launch.outs)
        what = f"{launch.eqn.primitive.name} {shapes} -> {outs}"
    else:
        assert isinstance(launch, Copies)
        what = f"copy for {launch.name} -> {launch.out.dtype.name}{list(launch.out.shape)}"
    note = f"  ({step.note})" if step.note else ""
    return f"{kernel:<24} {step.extent:>6} tiles  {what}{note}"
