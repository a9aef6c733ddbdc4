"""From a schedule to a program: plan every launch, place every buffer, donate what may be overwritten.

Loops and branches make the schedule a tree.  Its launches are numbered in one sequence, a body's between its loop's
begin and end, and a buffer lives from one number to another; what a body takes from outside lives until the loop's
end.  So one arena serves all levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fgrad.compiler.arena import Arena
from fgrad.compiler.epilogues import with_epilogues
from fgrad.compiler.host import host_function
from fgrad.compiler.loop_kernel import loop_kernel
from fgrad.compiler.rows import by_rows, plan_rows
from fgrad.compiler.schedule import (
    Branch,
    Buffer,
    Copies,
    Group,
    HostCall,
    KernelCall,
    Launch,
    Loop,
    Rows,
    Schedule,
    Together,
    View,
)
from fgrad.compiler.together import together
from fgrad.kernels import plan as program
from fgrad.kernels.layout import Layout, as_pairs, dtype_name
from fgrad.kernels.plan import HostStep, Instruction, KernelPlan, Ptr, Slot, Step, Switch


class Line(NamedTuple):
    """A line of a program's text: an instruction with the launch it belongs to, or the head of a loop or branch."""

    depth: int
    head: str
    launch: Launch | None = None
    step: Step | HostStep | None = None

    @property
    def text(self) -> str:  # written when it is read: a program has hundreds, and few readers
        return self.head if self.step is None or self.launch is None else _describe(self.launch, self.step)


@dataclass
class Lowered:
    """Everything an Executable needs, plus what the reader of a program's text wants to know."""

    steps: list[Instruction]
    arena_bytes: int
    tables: list[np.ndarray]
    scratch: int
    lines: list[Line]
    aliases: dict[int, int] = field(default_factory=dict)  # output j may overwrite input i


def plan_of(
    launch: Group | Together | Rows | KernelCall | HostCall | Copies, known: dict[Any, KernelPlan]
) -> tuple[KernelPlan, list[View], list[Buffer]]:
    """Its plan, operands and results; ``known``: plans of this program's calls so far."""
    if isinstance(launch, KernelCall):
        ins = [v.layout for v in launch.ins]
        outs = [b.layout for b in launch.outs]
        if launch.epilogue is not None:
            return _plan_with_epilogue(launch, launch.epilogue, ins, outs)
        params = {**launch.eqn.params, "in_place": True} if launch.in_place else launch.eqn.params
        key = (launch.eqn.primitive, *ins, *outs, *params.items(), *map(type, params.values()))
        plan = known.get(key)
        if plan is None:
            plan = known[key] = launch.eqn.primitive.cpu.planner(ins, outs, **params)
        return plan, launch.ins, launch.outs
    if isinstance(launch, HostCall):
        return KernelPlan(()), launch.ins, launch.outs
    if isinstance(launch, Together):
        return _plan_together(launch)
    if isinstance(launch, Rows):
        return plan_rows(launch)
    return _plan_group(launch) if isinstance(launch, Group) else _plan_copies(launch)


def _plan_group(group: Group) -> tuple[KernelPlan, list[View], list[Buffer]]:
    from fgrad.kernels.cpu.emit import Reduce, fold_plan, map_plan

    ins = [v.layout for v in group.loads]
    nodes = tuple(group.nodes)
    results = [(b.layout, node) for node, b in group.results]
    if not group.folds:
        return map_plan(group.shape, ins, nodes, results), group.loads, group.outs
    folds = [Reduce(fold.node, fold.combine, fold.out.layout) for fold in group.folds]
    return fold_plan(group.shape, ins, nodes, folds, group.folds[0].axes, results), group.loads, group.outs


def _plan_together(launch: Together) -> tuple[KernelPlan, list[View], list[Buffer]]:
    from fgrad.kernels.cpu.together import one_step

    steps, n_in, n_out = [], 0, 0
    for group in launch.groups:
        plan, operands, results = _plan_group(group)
        (step,) = plan.steps
        steps.append(_behind(step, n_in, n_out))
        n_in, n_out = n_in + len(operands), n_out + len(results)
    return KernelPlan((one_step(steps, f"{len(steps)} maps"),)), launch.loads, launch.outs


def _plan_with_epilogue(
    call: KernelCall, group: Group, ins: list[Layout], outs: list[Layout]
) -> tuple[KernelPlan, list[View], list[Buffer]]:
    from fgrad.kernels.cpu import epilogue

    own, product = len(call.eqn.invars), call.product
    pointers = [Ptr("in", own + k - (k > product)) for k in range(len(group.loads))]
    stored = [node for node, _ in group.results]
    stored += [group.nodes.index(("load", product))] * (len(outs) - len(stored))
    steps = epilogue.Epilogue(
        product, tuple(v.layout for v in group.loads), tuple(pointers), tuple(group.nodes), tuple(zip(outs, stored))
    )
    plan = call.eqn.primitive.cpu.planner(ins[:own], outs, **call.eqn.params, epilogue=steps)
    return plan, call.ins, call.outs


def _plan_copies(launch: Copies) -> tuple[KernelPlan, list[View], list[Buffer]]:
    """The fill and each part are maps of their own, all into the one result."""
    from fgrad.kernels.cpu.emit import map_plan

    steps: list[Step] = []
    operands = [view for view, _ in launch.parts]
    out = launch.out.layout
    if out.dtype.kind == "c":
        parts = [(_reals(view.layout), _reals(target)) for view, target in launch.parts]
    else:
        parts = [(view.layout, target) for view, target in launch.parts]
    covered = sum(target.size for _, target in launch.parts)
    if launch.fill is not None and covered < out.size:
        if isinstance(launch.fill, View):
            operands.append(launch.fill)
            value = launch.fill.layout.broadcast_in_dim(out.shape, ())
            filled = map_plan(out.shape, [value], [("load", 0)], [(out, 0)])
            steps += [_behind(step, len(operands) - 1) for step in filled.steps]
        else:
            steps += map_plan(out.shape, [], [("const", launch.fill.item(), dtype_name(out.dtype))], [(out, 0)]).steps
    for k, (source, target) in enumerate(parts):
        copied = map_plan(target.shape, [source], [("load", 0)], [(target, 0)])
        steps += [_behind(step, k) for step in copied.steps]
    return KernelPlan(tuple(steps)), operands, [launch.out]


def _reals(layout: Layout) -> Layout:
    """Complex numbers as pairs of real ones, which the emitter can copy."""
    return as_pairs(layout, np.dtype(f"f{layout.dtype.itemsize // 2}"))


def _behind(step: Step, n_in: int, n_out: int = 0) -> Step:
    """The step of a launch whose operands and results follow others in longer lists."""
    first = {"in": n_in, "out": n_out}
    return step.placed(lambda a: a._replace(index=a.index + first[a.kind]))


_Leaves = Group | Together | Rows | KernelCall | HostCall | Copies | Loop


@dataclass(eq=False)
class _Leaf:
    """A planned launch at its time."""

    launch: _Leaves
    plan: KernelPlan
    operands: list[View]
    results: list[Buffer]
    time: int


@dataclass(eq=False)
class _Nest:
    """A loop (its test, if it has one, and its body) or a branch's branches."""

    launch: Loop | Branch
    parts: list[list[_Node]]


_Node = _Leaf | _Nest


class _Lifetimes:
    """Numbers every launch, and finds when each buffer is written first and used last.

    within: a body's buffer -> the buffers outside that its memory can be.
    """

    def __init__(self) -> None:
        self.now = 0
        self.born: dict[Buffer, int] = {}
        self.last: dict[Buffer, int] = {}
        self.within: dict[Buffer, list[Buffer]] = {}
        self.same: list[tuple[Buffer, Buffer]] = []  # what stands for another buffer behind a loop in one kernel
        self.launch_at: dict[int, Launch] = {}
        self.plans: dict[Any, KernelPlan] = {}  # of calls without an epilogue, by all that decides about them

    def use(self, buffers: Sequence[Buffer]) -> None:
        for b in buffers:
            if b in self.within:
                self.use(self.within[b])
                continue
            if b not in self.born and b.kind != "in":
                self.born[b] = self.now
            self.last[b] = self.now

    def nodes(self, schedule: Schedule) -> list[_Node]:
        return [self.node(launch) for launch in together(by_rows(with_epilogues(schedule)))]

    def node(self, launch: Launch) -> _Node:
        self.launch_at[self.now] = launch
        node: _Node
        if not isinstance(launch, Loop | Branch):
            node = self.leaf(launch, *plan_of(launch, self.plans))
        elif isinstance(launch, Loop) and (kernel := loop_kernel(launch)) is not None:
            node = self.leaf(launch, kernel.plan, kernel.operands, kernel.results)
            self.within.update((inner, [outer]) for inner, outer in kernel.same)
            self.same += kernel.same
        else:
            node = self.nest(launch)
        self.now += 1
        return node

    def leaf(self, launch: _Leaves, plan: KernelPlan, operands: list[View], results: list[Buffer]) -> _Leaf:
        self.use([*[v.buffer for v in operands], *results])
        return _Leaf(launch, plan, operands, results, self.now)

    def nest(self, launch: Loop | Branch) -> _Nest:
        outside = [outer for _, outer in launch.same]
        self.within.update((inner, [outer]) for inner, outer in launch.same)
        if isinstance(launch, Loop):
            for moving in launch.moving:
                self.within[moving.inner] = [moving.whole]
                outside.append(moving.whole)
            for inners, whole in launch.updated:
                self.within.update((b, [whole]) for b in inners)
                outside.append(whole)
            for c in launch.carry:
                memory = [c.first.buffer, c.odd, c.even]
                self.within.update((b, memory) for b in (*c.reads, c.write))
                outside += memory
            schedules = [launch.test, launch.body] if launch.test is not None else [launch.body]
        else:
            outside += [launch.chosen.buffer, *launch.outs]
            schedules = launch.branches
        self.use(outside)
        self.now += 1
        parts = [self.nodes(s) for s in schedules]
        self.use(outside)
        return _Nest(launch, parts)


class _Writer:
    """Steps with every pointer placed, and the lines that describe them."""

    def __init__(self, lives: _Lifetimes) -> None:
        self.lives = lives
        self.arena = Arena()
        self.tables: list[np.ndarray] = []
        self.placed_tables: dict[int, list[Ptr]] = {}  # by the plan's id
        self.scratch = 0
        self.lines: list[Line] = []
        self.place: dict[Buffer, Ptr] = {}
        self.constants: dict[tuple, Ptr] = {}
        self.n_slots = 0
        # biggest first leaves the fewest holes
        for b in sorted(lives.born, key=lambda b: -b.nbytes):
            if b.kind == "out":
                self.place[b] = Ptr("out", b.index)
            elif b.kind == "tmp":
                self.place[b] = Ptr("arena", 0, self.arena.place(b.nbytes, lives.born[b], lives.last[b]))
        self.place.update((inner, self.pointer(outer)) for inner, outer in lives.same)

    def pointer(self, b: Buffer, offset: int = 0) -> Ptr:
        if b not in self.place:
            self.place[b] = self.constant(b) if b.kind == "const" else Ptr("in", b.index)
        base = self.place[b]
        return Ptr(base.kind, base.index, base.offset + offset) if offset else base

    def constant(self, b: Buffer) -> Ptr:
        assert b.value is not None
        key = (b.dtype, b.value.tobytes())
        if key not in self.constants:
            self.constants[key] = Ptr("tab", len(self.tables))
            self.tables.append(np.frombuffer(b.value.tobytes().ljust(16, b"\0"), np.int64))
        return self.constants[key]

    def steps(self, nodes: Sequence[_Node], depth: int = 0) -> list[Instruction]:
        steps: list[Instruction] = []
        for node in nodes:
            if isinstance(node, _Leaf):
                steps += self.leaf(node, depth)
            else:
                steps.append(self.loop(node, depth) if isinstance(node.launch, Loop) else self.branch(node, depth))
        return steps

    def leaf(self, leaf: _Leaf, depth: int) -> list[Instruction]:
        steps: list[Instruction] = []
        if isinstance(leaf.launch, HostCall):
            steps.append(self.host(leaf.launch))
        plan = leaf.plan
        places = {
            "tab": self.tables_of(plan),
            "tmp": [Ptr("arena", 0, self.arena.place(n, leaf.time, leaf.time)) for n in plan.temps],
            "in": [self.pointer(v.buffer) for v in leaf.operands],
            "out": [self.pointer(b) for b in leaf.results],
        }
        self.scratch = max(self.scratch, plan.scratch)

        def resolve(a: Ptr) -> Ptr:
            kind, index, offset = a
            if kind not in places:
                return a
            base = places[kind][index]
            return Ptr(base.kind, base.index, base.offset + offset) if offset else base

        steps += [step.placed(resolve) for step in plan.steps]
        self.lines += [Line(depth, "", leaf.launch, step) for step in steps]  # type: ignore
        if isinstance(leaf.launch, Loop):
            self.lines += [Line(depth + 1, what, x) for x in leaf.launch.launches for what in [what_of(x)]]
        return steps

    def tables_of(self, plan: KernelPlan) -> list[Ptr]:
        """The plan's tables; launches that share a plan share them."""
        if not plan.tables:
            return []
        key = id(plan)  # the leaves keep the plan
        if key not in self.placed_tables:
            first = len(self.tables)
            self.tables += plan.tables
            self.placed_tables[key] = [Ptr("tab", k) for k in range(first, len(self.tables))]
        return self.placed_tables[key]

    def host(self, launch: HostCall) -> HostStep:
        function = host_function(launch.eqn, [v.layout for v in launch.ins], [b.layout for b in launch.outs])
        args = [self.pointer(b) for b in (*(v.buffer for v in launch.ins), *launch.outs)]
        return HostStep(function, tuple(args), launch.reason)

    def slot(self, slots: dict[int, Slot], slot: Slot, buffers: Sequence[Buffer]) -> None:
        """A new slot of a loop, where these buffers of its body lie."""
        slots[self.n_slots] = slot
        self.place.update((b, Ptr("slot", self.n_slots)) for b in buffers)
        self.n_slots += 1

    def loop(self, nest: _Nest, depth: int) -> Instruction:
        loop = nest.launch
        assert isinstance(loop, Loop)
        self.place.update((inner, self.pointer(outer)) for inner, outer in loop.same)
        self.place.update((b, self.pointer(whole)) for inners, whole in loop.updated for b in inners)
        slots: dict[int, Slot] = {}
        for m in loop.moving:
            self.slot(slots, Slot(self.pointer(m.whole, m.start), m.stride), [m.inner])
        for c in loop.carry:
            first = self.pointer(c.first.buffer, c.first.layout.offset * c.first.layout.dtype.itemsize)
            odd, even = self.pointer(c.odd), self.pointer(c.even)
            self.slot(slots, Slot(first, 0, odd, even), c.reads)
            self.slot(slots, Slot(odd, 0, even, odd), [c.write])
        *tests, body = nest.parts
        if loop.length is not None:
            self.lines.append(Line(depth, what_of(loop), loop))
            return program.Loop(slots, self.steps(body, depth + 1), loop.length)
        assert loop.flag is not None
        self.lines.append(Line(depth, what_of(loop), loop))
        test = self.steps(tests[0], depth + 1)
        self.lines.append(Line(depth, "do:", loop))
        return program.Loop(slots, self.steps(body, depth + 1), None, test, self.pointer(loop.flag))

    def branch(self, nest: _Nest, depth: int) -> Instruction:
        branch = nest.launch
        assert isinstance(branch, Branch)
        self.place.update((inner, self.pointer(outer)) for inner, outer in branch.same)
        chosen = branch.chosen
        index = self.pointer(chosen.buffer, chosen.layout.offset * chosen.layout.dtype.itemsize)
        branches = []
        for i, part in enumerate(nest.parts):
            self.lines.append(Line(depth, f"branch {i}:", branch))
            branches.append(self.steps(part, depth + 1))
        return Switch(index, branches)


def lower(schedule: Schedule, donated: frozenset[int] = frozenset()) -> Lowered:
    """Steps with every pointer placed.  ``donated``: numbers of inputs whose memory may be overwritten."""
    lives = _Lifetimes()
    nodes = lives.nodes(schedule)
    writer = _Writer(lives)
    steps = writer.steps(nodes)
    aliases = _aliases(schedule, lives, donated)
    return Lowered(steps, writer.arena.size, writer.tables, writer.scratch, writer.lines, aliases)


def _aliases(schedule: Schedule, lives: _Lifetimes, donated: frozenset[int]) -> dict[int, int]:
    """Outputs that may be written over a donated input: the input is read for the last time before the output is
    written, or in the same element-wise loop at the same index.
    """
    aliases: dict[int, int] = {}
    outs = [b for b in schedule.outputs if isinstance(b, Buffer)]
    passed = {o for o in schedule.outputs if isinstance(o, int)}
    for i in sorted(donated - passed):
        source = schedule.inputs[i]
        for out in outs:
            if out.index in aliases or out.dtype != source.dtype or out.layout.size != source.layout.size:
                continue
            read, written = lives.last.get(source, -1), lives.born[out]
            if read < written or (read == written and _in_place(lives.launch_at[written], source, out)):
                aliases[out.index] = i
                break
    return aliases


def _in_place(launch: Launch, source: Buffer, out: Buffer) -> bool:
    if isinstance(launch, Copies):
        return launch.fill is None and all(v.layout == target == out.layout for v, target in launch.parts)
    if isinstance(launch, Together):  # no other one of the groups may read it
        return all(_in_place(g, source, out) and out in g.outs for g in launch.groups if source in g.reads)
    if isinstance(launch, Rows):  # up to where it is written, each row may be read where it will be
        at = next(i for i, g in enumerate(launch.groups) if out in g.outs)
        readers = [i for i, g in enumerate(launch.groups) if source in g.reads]
        here = all(v.layout == out.layout for v in launch.loads if v.buffer is source)
        return here and max(readers) <= at and (at not in readers or _in_place(launch.groups[at], source, out))
    if not isinstance(launch, Group) or launch.folds:
        return False
    return all(v.layout == out.layout for v in launch.loads if v.buffer is source)


def what_of(launch: Launch) -> str:
    """What a launch computes, in words."""
    if isinstance(launch, Group):
        outs = [*(b for _, b in launch.results), *(fold.out for fold in launch.folds)]
        return f"{' '.join(launch.names)} over {list(launch.shape)} -> {', '.join(map(_type, outs))}"
    if isinstance(launch, Together | Rows):
        return "; ".join(map(what_of, launch.groups))
    if isinstance(launch, KernelCall | HostCall):
        ins = " ".join(_type(v.layout) for v in launch.ins)
        names = launch.epilogue.names if isinstance(launch, KernelCall) and launch.epilogue else []
        return f"{' '.join([launch.eqn.primitive.name, *names])} {ins} -> {' '.join(map(_type, launch.outs))}"
    if isinstance(launch, Copies):
        return f"copy for {launch.name} -> {_type(launch.out)}"
    if isinstance(launch, Loop):
        return "while:" if launch.length is None else f"for {launch.length} times:"
    return launch.name


def _type(x: Layout | Buffer) -> str:
    return f"{dtype_name(x.dtype)}{list(x.shape)}"


def _describe(launch: Launch, step: Instruction) -> str:
    """One line of a program's text."""
    assert isinstance(step, Step | HostStep)
    what, note = what_of(launch), f"  ({step.note})" if step.note else ""
    if isinstance(step, HostStep):
        return f"{'host numpy':<24} {1:>6} tile   {what}{note}"
    return f"{step.kernel_name:<24} {step.extent:>6} tiles  {what}{note}"
