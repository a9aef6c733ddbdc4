"""Fusion: equations become a schedule of launches over buffers (see `schedule`).

Element-wise equations of one loop shape join into *groups*: one kernel that loads each operand once, keeps
intermediate values in registers and stores only what something outside reads.  A reduction joins the group that
makes its operand.  Index maps become strided views, which every kernel reads directly.  The bodies of loops and
branches are fused by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fgrad.compiler.in_place import updated_in_place
from fgrad.compiler.recompute import economised
from fgrad.compiler.schedule import (
    MAX_STREAMS,
    Branch,
    Buffer,
    Carry,
    Const,
    Copies,
    Group,
    HostCall,
    KernelCall,
    Launch,
    Loop,
    Member,
    Moving,
    Reduced,
    Schedule,
    Value,
    View,
)
from fgrad.core import backends
from fgrad.core.backends import Fold, ForLoop, Host, IndexMap, IndexValue, Kernel, ScalarMap, WhileLoop
from fgrad.core.jaxpr import Atom, ClosedJaxpr, Eqn, Literal
from fgrad.core.primitive import Primitive
from fgrad.kernels.cpu.body import NO_PARAMS, params_of
from fgrad.kernels.layout import Layout, dtype_name
from fgrad.primitives.arithmetic import div_p, mul_p, rem_p
from fgrad.primitives.bitwise import shift_left_p, shift_right_arithmetic_p, shift_right_logical_p

_UNUSED = Buffer(np.dtype(np.bool_), (), -1, "in")  # in place of a body's input that is a known scalar


#: Of integers, these have much better code for a small divisor or distance that is known.
_BY_SMALL = {div_p, rem_p, shift_left_p, shift_right_arithmetic_p, shift_right_logical_p}


def _structural(value: np.ndarray, primitive: Primitive) -> bool:
    """Whether a constant is part of a kernel's code: those that make better code.

    Others are operands, so that 1/17 in place of 1/16, another learning rate or another batch size compiles nothing.
    """
    if value.dtype.kind in "iu":
        return abs(int(value)) <= (64 if primitive in _BY_SMALL else 2)
    return value.dtype.kind == "b" or not np.isfinite(value) or float(value) in (-1.0, 0.0, 0.5, 1.0, 2.0)


def _times_one(operands: list[Value]) -> Value | None:
    """x for x * 1: the gradient of a sum multiplies by ones."""
    for a, b in (operands, operands[::-1]):
        if isinstance(b, Const) and b.value == 1:
            return a
    return None


_ANY_NUMBERS = (backends.Alias, ForLoop, WhileLoop, backends.Branch)  # they move what they are given


def _computes_complex(eqn: Eqn) -> bool:
    """Whether the equation does more with complex numbers than to move them: then it runs in Python."""
    kind = eqn.primitive.cpu
    if isinstance(kind, (Host, *_ANY_NUMBERS)) or (isinstance(kind, IndexMap) and kind.view is not None):
        return False
    return any([v.aval.dtype.kind == "c" for v in (*eqn.invars, *eqn.outvars)])


class _Fuser:
    def __init__(self) -> None:
        self.launches: list[Launch] = []
        self.env: dict[Atom, Value] = {}
        self.moved: dict[tuple[Group, int], Member] = {}
        self.consts: dict[tuple, Buffer] = {}

    # --- values -----------------------------------------------------------------------------------------------------
    def read(self, a: Atom) -> Value:
        if type(a) is Literal:
            return Const(np.asarray(a.val), ())
        value = self.env[a]
        while type(value) is Member and value in self.moved:
            value = self.moved[value]
        return value

    def view(self, v: Value, reader: float) -> View:
        """The value in memory, stored by its group if it was in a register."""
        if type(v) is View:
            return v
        if type(v) is Member:
            group = v.group
            buffer = group.stored(v.node)
            if reader < group.first_read:
                group.first_read = reader
            return View(buffer, buffer.layout)
        assert isinstance(v, Const)
        key = (v.value.dtype, v.value.tobytes())
        if key not in self.consts:
            self.consts[key] = Buffer(v.value.dtype, (), -1, "const", value=v.value)
        buffer = self.consts[key]
        return View(buffer, buffer.layout.broadcast_in_dim(v.shape, ()))

    def stored(self, atoms: Sequence[Atom]) -> list[View]:
        """The atoms' values in memory, for the launch that comes next."""
        reader = len(self.launches)
        return [self.view(self.read(a), reader) for a in atoms]

    def new_group(self, shape: tuple[int, ...]) -> Group:
        group = Group(shape, len(self.launches))
        self.launches.append(group)
        return group

    def operand(self, group: Group, v: Value, primitive: Primitive) -> int:
        """The group's node for a value; a scalar among shaped ones (select's predicate) is the same everywhere."""
        if type(v) is Member and v.group is group:
            return v.node
        if type(v) is Const and _structural(v.value, primitive):
            return group.add(("const", v.value.item(), dtype_name(v.value.dtype)), v.value.dtype)
        view = self.view(v, group.position)
        if view.layout.shape != group.shape:
            view = view._replace(layout=view.layout.broadcast_in_dim(group.shape, ()))
        maker = view.buffer.made_by
        if maker is not None and group.position < maker.first_read:
            maker.first_read = group.position  # this group may stand before the equation that made the view
        return group.load(view)

    # --- joining groups ---------------------------------------------------------------------------------------------
    def group_for(self, shape: tuple[int, ...], operands: list[Value]) -> Group:
        """The group that can compute from these operands: their latest producer if it is a group of this shape, with
        the operands' other groups merged into it where nothing scheduled in between reads them; else a new one.
        """
        mine: list[Group] = []
        latest: float = -1  # the position after which all of them exist
        for v in operands:
            if type(v) is Member:
                latest = max(latest, v.group.position)
                if v.group.shape == shape and v.group not in mine:
                    mine.append(v.group)
            elif type(v) is View:
                latest = max(latest, v.buffer.at, v.fence)
        target = None
        for group in mine:
            if group.position == latest and group.has_room:
                target = group
        if target is None:
            target = self.new_group(shape)
        others = [g for g in mine if g is not target]
        for other in sorted(others, key=lambda g: -g.position) if others else ():
            if self.mergeable(other, target):
                self.merge(other, target)
        return target

    def mergeable(self, a: Group, b: Group) -> bool:
        """Whether a (earlier) may run at b's position: nothing up to b reads what it stores."""
        return not a.folds and a.first_read > b.position and a.streams + b.streams <= MAX_STREAMS

    def merge(self, a: Group, b: Group) -> None:
        renumber = b.copy_from(a, range(len(a.nodes)))
        self.moved.update(((a, i), Member(b, at)) for i, at in renumber.items())
        for stored, buffer in a.results:
            buffer.at, buffer.made_by = b.position + 0.5, b
            b.results.append((renumber[stored], buffer))
        b.first_read = min(b.first_read, a.first_read)
        b.names, b.sources = a.names + b.names, a.sources + b.sources
        self.launches[a.position] = Group(a.shape, a.position)  # empty: dropped at the end

    # --- equations --------------------------------------------------------------------------------------------------
    def scalar_map(self, eqn: Eqn) -> None:
        operands = [self.read(a) for a in eqn.invars]
        aval = eqn.outvars[0].aval
        if type(operands[0]) is Const and all([type(v) is Const for v in operands]):
            with np.errstate(all="ignore"):
                value = eqn.primitive.reference(*[v.value for v in operands], **eqn.params)  # type: ignore[union-attr]
            self.env[eqn.outvars[0]] = Const(np.asarray(value), aval.shape)
            return
        if eqn.primitive is mul_p and (same := _times_one(operands)) is not None:
            self.env[eqn.outvars[0]] = same
            return
        moved = len(self.moved)
        group = self.group_for(aval.shape, operands)
        if len(self.moved) > moved:
            operands = [self.read(a) for a in eqn.invars]
        refs = tuple([self.operand(group, v, eqn.primitive) for v in operands])
        params = params_of(tuple(sorted(eqn.params.items()))) if eqn.params else NO_PARAMS
        node = group.add(("map", eqn.primitive.cpu.rule, params, refs), aval.dtype)
        group.names.append(eqn.primitive.name)
        group.sources.append(eqn.source)
        self.env[eqn.outvars[0]] = Member(group, node)

    def index_value(self, eqn: Eqn) -> None:
        aval = eqn.outvars[0].aval
        group = self.new_group(aval.shape)
        node = group.add(("iota", eqn.params["dimension"], dtype_name(aval.dtype)), aval.dtype)
        group.names.append(eqn.primitive.name)
        group.sources.append(eqn.source)
        self.env[eqn.outvars[0]] = Member(group, node)

    def fold(self, eqn: Eqn) -> None:
        v = self.read(eqn.invars[0])
        aval = eqn.invars[0].aval
        axes, combine = eqn.params["axes"], eqn.primitive.cpu.combine
        if type(v) is Member and v.group.shape == aval.shape and all([f.axes == axes for f in v.group.folds]):
            group = v.group  # with the reductions over these axes that it has already
            node = v.node
        else:
            group = self.new_group(aval.shape)
            node = self.operand(group, v, eqn.primitive)
        out = eqn.outvars[0].aval
        buffer = Buffer(out.dtype, out.shape, group.position + 0.5)
        group.folds.append(Reduced(node, combine, axes, buffer))
        group.names.append(eqn.primitive.name)
        group.sources.append(eqn.source)
        self.env[eqn.outvars[0]] = View(buffer, buffer.layout)

    def index_map(self, eqn: Eqn) -> None:
        kind, var = eqn.primitive.cpu, eqn.outvars[0]
        if kind.view is not None:
            v = self.read(eqn.invars[0])
            if type(v) is Const:
                self.env[var] = Const(v.value, var.aval.shape)
                return
            view = self.view(v, len(self.launches))
            layout = kind.view(view.layout, **eqn.params)
            if layout is None:
                view = self.copy(view, eqn.primitive.name)
                layout = kind.view(view.layout, **eqn.params)
            self.env[var] = View(view.buffer, layout, view.fence)
            return
        operands, position = [self.read(a) for a in eqn.invars], len(self.launches)
        views = [self.view(v, position) for v in operands]
        out = Buffer(var.aval.dtype, var.aval.shape, position)
        fill, parts = kind.copies([v.layout for v in views], out.layout, **eqn.params)
        if isinstance(fill, tuple):
            value = operands[fill[1]]
            fill = value.value if isinstance(value, Const) else views[fill[1]]
        elif fill is not None:
            fill = np.asarray(fill, out.dtype)
        regions = [(View(views[i].buffer, source), target) for i, source, target in parts]
        self.launches.append(Copies(fill, regions, out, eqn.primitive.name))
        self.env[var] = View(out, out.layout)

    def copy(self, view: View, why: str) -> View:
        """The view's elements in a buffer of their own."""
        out = Buffer(view.layout.dtype, view.layout.shape, len(self.launches))
        self.launches.append(Copies(None, [(view, out.layout)], out, why))
        return View(out, out.layout)

    def results(self, eqn: Eqn) -> list[Buffer]:
        """Buffers for what the launch that comes next makes."""
        position = len(self.launches)
        outs = [Buffer(v.aval.dtype, v.aval.shape, position) for v in eqn.outvars]
        for v, b in zip(eqn.outvars, outs):
            self.env[v] = View(b, b.layout)
        return outs

    def kernel(self, eqn: Eqn) -> None:
        ins = self.stored(eqn.invars)
        self.launches.append(KernelCall(eqn, ins, self.results(eqn)))

    def host(self, eqn: Eqn, reason: str) -> None:
        ins = self.stored(eqn.invars)
        self.launches.append(HostCall(eqn, ins, self.results(eqn), reason))

    def alias(self, eqn: Eqn) -> None:
        """Views of the operands, behind a fence where all of them are there."""
        views = self.stored(eqn.invars)
        fence = len(self.launches) - 0.5
        self.env.update((v, view._replace(fence=fence)) for v, view in zip(eqn.outvars, views))

    # --- loops and branches -----------------------------------------------------------------------------------------
    def operands(self, atoms: Sequence[Atom]) -> list[Const | View]:
        """Known scalars, and everything else in memory."""
        values = [self.read(a) for a in atoms]
        return [v if isinstance(v, Const) else self.view(v, len(self.launches)) for v in values]

    def initial(self, a: Atom) -> View:
        """What a loop carries first: without gaps in memory, as each later value is."""
        (view,) = self.stored([a])
        return view if view.layout.is_contiguous else self.copy(view, "first carry")

    def copy_into(self, out: Buffer, view: View) -> Buffer:
        self.launches.append(Copies(None, [(view, out.layout)], out, "first carry"))
        return out

    def for_loop(self, eqn: Eqn) -> None:
        p = eqn.primitive.cpu.parts(**eqn.params)
        if p.length == 0:
            self.no_iterations(eqn, p.n_consts, p.n_carry)
            return
        n = p.n_consts + p.n_carry
        first = [self.initial(a) for a in eqn.invars[p.n_consts : n]]
        consts, xs = self.operands(eqn.invars[: p.n_consts]), self.operands(eqn.invars[n:])
        slices = [_slice(x) for x in xs]
        body = _body(p.body, [*consts, *map(_whole, first), *slices])
        position = len(self.launches)
        outs = self.results(eqn)
        writes = body.results
        carry, updated = [], []
        for read, write, view, out in zip(body.inputs[p.n_consts : n], writes, first, outs):
            if chain := updated_in_place(body, read, write):
                updated.append((chain, self.copy_into(out, view)))
                continue
            spare = Buffer(out.dtype, out.shape, position) if p.length > 1 else out
            odd, even = (out, spare) if p.length % 2 else (spare, out)
            carry.append(Carry([read], write, view, odd, even))
        moving = []
        whole = [*zip(body.inputs[n:], xs), *zip(writes[p.n_carry :], [View(b, b.layout) for b in outs[p.n_carry :]])]
        for inner, outer in whole:
            if isinstance(outer, View):
                stride = outer.layout.strides[0] * outer.layout.dtype.itemsize
                start = stride * (p.length - 1) if p.reverse else 0
                moving.append(Moving(inner, outer.buffer, start, -stride if p.reverse else stride))
        same = _same(body.inputs[: p.n_consts], consts)
        self.launches.append(Loop(eqn.primitive.name, p.length, body, same, moving, carry, updated))
        for out in outs:
            out.at = len(self.launches) - 1

    def no_iterations(self, eqn: Eqn, n_consts: int, n_carry: int) -> None:
        self.env.update(zip(eqn.outvars, [self.read(a) for a in eqn.invars[n_consts : n_consts + n_carry]]))
        for v in eqn.outvars[n_carry:]:
            out = Buffer(v.aval.dtype, v.aval.shape, len(self.launches))
            self.launches.append(Copies(None, [], out, eqn.primitive.name))
            self.env[v] = View(out, out.layout)

    def while_loop(self, eqn: Eqn) -> None:
        p = eqn.primitive.cpu.parts(**eqn.params)
        n = p.n_cond_consts + p.n_body_consts
        first = [self.initial(a) for a in eqn.invars[n:]]
        consts = self.operands(eqn.invars[:n])
        carried = [_whole(v) for v in first]
        test = _body(p.cond, [*consts[: p.n_cond_consts], *carried])
        body = _body(p.body, [*consts[p.n_cond_consts :], *carried])
        position = len(self.launches)
        (answer,) = test.results
        flag = Buffer(np.dtype(np.bool_), (), position)
        same = _same(test.inputs[: p.n_cond_consts], consts[: p.n_cond_consts])
        same += _same(body.inputs[: p.n_body_consts], consts[p.n_cond_consts :])
        carry, updated, last = [], [], []
        for k, (write, view) in enumerate(zip(body.results, first)):
            dtype, shape = view.layout.dtype, view.layout.shape
            in_test, in_body = test.inputs[p.n_cond_consts + k], body.inputs[p.n_body_consts + k]
            if chain := updated_in_place(body, in_body, write):
                whole = self.copy_into(Buffer(dtype, shape, position), view)
                updated.append(([in_test, *chain], whole))
                last.append(View(whole, whole.layout))
                continue
            after = Buffer(dtype, shape, position, "in")
            readers = [in_test, in_body, after]
            odd, even = Buffer(dtype, shape, position), Buffer(dtype, shape, position)
            carry.append(Carry(readers, write, view, odd, even))
            last.append(View(after, after.layout))
        loop = Loop(eqn.primitive.name, None, body, [*same, (answer, flag)], [], carry, updated, test, flag)
        self.launches.append(loop)
        for v, view in zip(eqn.outvars, last):
            # how many iterations there were, and so where the last one wrote, is known only now
            self.env[v] = self.copy(view, "last carry") if view.buffer.kind == "in" else view

    def branch(self, eqn: Eqn) -> None:
        branches = eqn.primitive.cpu.parts(**eqn.params)
        (index,) = self.stored(eqn.invars[:1])
        operands = self.operands(eqn.invars[1:])
        bodies = [_body(b, operands) for b in branches]
        outs = self.results(eqn)
        same = [pair for b in bodies for pair in (*_same(b.inputs, operands), *zip(b.results, outs))]
        self.launches.append(Branch(eqn.primitive.name, index, bodies, same, outs))

    # --- the whole --------------------------------------------------------------------------------------------------
    def run(self, closed: ClosedJaxpr, inputs: Sequence[Const | View]) -> Schedule:
        """``inputs``: constants first.  A buffer of kind "in" that has a number may be returned as it is."""
        jaxpr = closed.jaxpr
        self.env.update(zip((*jaxpr.constvars, *jaxpr.invars), inputs))
        handlers = {
            ScalarMap: self.scalar_map,
            IndexValue: self.index_value,
            Fold: self.fold,
            IndexMap: self.index_map,
            Kernel: self.kernel,
            ForLoop: self.for_loop,
            WhileLoop: self.while_loop,
            backends.Branch: self.branch,
            backends.Alias: self.alias,
            Host: lambda eqn: self.host(eqn, eqn.primitive.cpu.reason),
            backends.Unfilled: lambda eqn: eqn.primitive.slot("cpu"),  # raises
        }
        has_complex = any([v.aval.dtype.kind == "c" for e in jaxpr.eqns for v in (*e.invars, *e.outvars)])
        for eqn in jaxpr.eqns:
            if has_complex and _computes_complex(eqn):
                self.host(eqn, "complex numbers")
            else:
                handlers[type(eqn.primitive.cpu)](eqn)
        outputs = [self.output(j, a) for j, a in enumerate(jaxpr.outvars)]
        launches = [x for x in self.launches if type(x) is not Group or x.results or x.folds]
        return Schedule(economised(launches), [v.buffer if isinstance(v, View) else _UNUSED for v in inputs], outputs)

    def output(self, j: int, a: Atom) -> Buffer | int:
        value = self.read(a)
        view = self.view(value, len(self.launches))
        buffer = view.buffer
        if buffer.kind == "in" and buffer.index >= 0 and view.layout == buffer.layout:
            return buffer.index
        whole = view.layout == buffer.layout or (
            view.layout.is_contiguous and view.layout.offset == 0 and view.layout.size == buffer.layout.size
        )
        if buffer.kind == "out" and type(value) is Member:  # returned twice: the group stores it twice
            buffer = value.group.store(value.node)
        elif buffer.kind != "tmp" or not whole:
            buffer = self.copy(view, "output").buffer
        buffer.kind, buffer.index = "out", j
        return buffer


def _whole(view: View) -> View:
    """A view without gaps as if its buffer began with it."""
    return View(view.buffer, Layout.contiguous(view.layout.dtype, view.layout.shape))


def _slice(x: Const | View) -> Const | View:
    """What iteration 0 of a loop sees of an operand that it walks along axis 0 of, forwards."""
    if isinstance(x, Const):
        return Const(x.value, x.shape[1:])
    layout = x.layout._replace(shape=x.layout.shape[1:], strides=x.layout.strides[1:])
    return View(x.buffer, layout)


def _body(closed: ClosedJaxpr, operands: Sequence[Const | View]) -> Schedule:
    """The schedule of a body whose inputs lie where these operands do, in buffers of its own."""
    inputs: list[Const | View] = []
    for x in operands:
        inputs.append(x if isinstance(x, Const) else View(Buffer(x.layout.dtype, x.layout.shape, -1, "in"), x.layout))
    return _Fuser().run(closed, inputs)


def _same(inner: Sequence[Buffer], outer: Sequence[Const | View]) -> list[tuple[Buffer, Buffer]]:
    return [(b, v.buffer) for b, v in zip(inner, outer) if isinstance(v, View)]


def fuse(closed: ClosedJaxpr) -> Schedule:
    """The schedule of a jaxpr; its inputs are contiguous, constants first."""
    inputs = []
    for i, v in enumerate((*closed.jaxpr.constvars, *closed.jaxpr.invars)):
        buffer = Buffer(v.aval.dtype, v.aval.shape, -1, "in", i)
        inputs.append(View(buffer, buffer.layout))
    return _Fuser().run(closed, inputs)
