"""What a compiled program does, instruction by instruction: kernel and tile, work, traffic, and what was fused and why.

Work is counted from shapes, for one run of an instruction:

    element-wise group        number of operations x elements (each operation counts one: exp as much as add)
    reduction                 elements of its operand, one combination each
    convolution               2 x results x (elements of the weights for one output feature) / product of lhs_dilation
                              (products with inserted zeros are not computed)
    dot_general               2 x results x elements of the contracted axes
    reduce_window, cumulative results x elements of the window; elements of the operand
    scatter (but kind='set')  elements of the updates
    everything else           0: it moves data; and host steps, whose work is not known

A plan of several steps (pad, pack, multiply, sum the parts) does its work in the steps that multiply, in proportion to
their tiles. Traffic is what a step must move at least: each operand once (of a broadcast axis one element; of what
gather reads, as much as it returns), each result once; temporaries of the plan are written by the first step that names
them and read by the later ones.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fgrad.compiler.lower import Line, plan_of, what_of
from fgrad.compiler.program import Program
from fgrad.compiler.schedule import (
    MAX_STREAMS,
    Branch,
    Buffer,
    Copies,
    Group,
    HostCall,
    KernelCall,
    Launch,
    Loop,
    Rows,
    Together,
    View,
    distinct_bytes,
)
from fgrad.core.jaxpr import Source
from fgrad.kernels.plan import KernelPlan, Ptr, Step

# kernels that move what another one computes with
PREPARING = ("gemm_pack", "gemm_sum", "conv_pad", "gather", "scatter_bounds")


@dataclass(frozen=True)
class Row:
    """One instruction.

    Attributes:
        number: its place in the program, as in ``as_text``.
        operation: what it is part of, with the types of operands and results.
        kernel, tile, tiles: the compiled kernel ('emitted': written for this program; 'numba f': a user's; 'host
            numpy': Python), what one tile is, and how many tiles the workers share.
        inside: the loops and branches around it, the outermost first: ``("for 100 times", "branch 0")``.
        times: how often it runs in a call; None: a while loop decides.
        flops, bytes_read, bytes_written: for one run, by the formulas of this module.
        fused: the operations computed in it.
        why: why they are in one kernel, or why it stands alone.
        stored: for each result, who reads it and why that is not part of the same kernel.
        lines: the user's lines that it computes.
    """

    number: int
    operation: str
    kernel: str
    tile: str
    tiles: int
    inside: tuple[str, ...]
    times: int | None
    flops: int
    bytes_read: int
    bytes_written: int
    fused: tuple[str, ...]
    why: str
    stored: tuple[str, ...]
    lines: tuple[Source, ...]

    @property
    def bytes(self) -> int:
        return self.bytes_read + self.bytes_written

    @property
    def intensity(self) -> float:
        """Flops for each byte moved."""
        return self.flops / self.bytes if self.bytes else 0.0

    @property
    def runs(self) -> int:
        """``times``, and 1 where a while loop decides."""
        return 1 if self.times is None else self.times


@dataclass(frozen=True, repr=False)
class Explanation:
    """The rows of a program, in order, and its temporary memory in bytes.  Printing it shows a table and hints.

    Attributes:
        heads: where loops and branches begin: (number of the next row, depth, text).
    """

    rows: tuple[Row, ...]
    arena_bytes: int
    heads: tuple[tuple[int, int, str], ...] = ()

    @property
    def flops(self) -> int:
        """Of a whole call; while loops count one iteration."""
        return sum(r.flops * r.runs for r in self.rows)

    @property
    def bytes(self) -> int:
        """Read and written in a whole call; while loops count one iteration."""
        return sum(r.bytes * r.runs for r in self.rows)

    @property
    def hints(self) -> list[str]:
        """Where the work and the traffic are, biggest share first, and what could be done."""
        found = []
        for r in self.rows:
            work = r.flops * r.runs / max(self.flops, 1)
            traffic = r.bytes * r.runs / max(self.bytes, 1)
            if max(work, traffic) >= 0.1 or r.kernel == "host numpy":
                found.append((max(work, traffic), r, f"{work:.0%} of the flops, {traffic:.0%} of the bytes"))
        found.sort(key=lambda entry: -entry[0])
        return [f"instruction {r.number} ({r.operation}): {share}. {_advice(r)}" for _, r, share in found]

    def __repr__(self) -> str:
        head = ("#", "kernel", "tile", "tiles", "times", "flops", "read", "written", "flop/B", "operation")
        cells = [head, *map(_cells, self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(head) - 1)]
        margin, lines = " " * widths[0], []
        for k, row in enumerate(cells):
            lines += [f"{margin}  {'    ' * depth}{text}:" for at, depth, text in self.heads if at == k - 1]
            parts = [c.ljust(w) if i in (1, 2) else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
            lines.append("  ".join([*parts, row[-1]]))
            if k:
                r = self.rows[k - 1]
                where = f"for {', '.join(map(_place, r.lines))}" if r.lines else ""
                lines += [f"{margin}    {'    ' * len(r.inside)}{note}" for note in (where, r.why, *r.stored) if note]
        total = (
            f"{len(self.rows)} instruction{'s' * (len(self.rows) != 1)}, {_amount(self.flops)} flops, "
            f"{_amount(self.bytes)}B moved, {_amount(self.arena_bytes)}B of temporaries"
        )
        if any(r.times is None for r in self.rows):
            total += "; while loops count one iteration"
        return "\n".join([*lines, "", total, *(f"- {hint}" for hint in self.hints)])


def _cells(r: Row) -> tuple[str, ...]:
    times = "?" if r.times is None else str(r.times)
    amounts = [_amount(x) for x in (r.flops, r.bytes_read, r.bytes_written)]
    operation = "    " * len(r.inside) + r.operation
    return (str(r.number), r.kernel, r.tile, str(r.tiles), times, *amounts, f"{r.intensity:.2f}", operation)


def _place(source: Source) -> str:
    return f"{os.path.basename(source.file)}:{source.line}{' backward' if source.backward else ''}"


def _amount(n: float) -> str:
    """1234567 -> '1.23M'"""
    for unit in ("", "k", "M", "G", "T"):
        if n < 1000 or unit == "T":
            return f"{n:.3g}{unit}"
        n /= 1000
    raise AssertionError


def _advice(r: Row) -> str:
    if r.kernel == "host numpy":
        return "It runs in Python, and the program waits for it."
    if r.operation.startswith("copy for output"):
        return "A result that is a view of another array gets memory of its own; return the array itself if you can."
    if r.operation.startswith("copy"):
        return "It only moves data."
    if r.kernel.startswith(PREPARING):
        return "It prepares operands for the next instruction; a larger batch makes it matter less."
    if r.kernel.startswith("numba "):
        return "It is a kernel of your own, whose arithmetic is not counted."
    if r.operation.startswith(("for ", "while")):
        return "The whole loop is one kernel; what it carries stays in the cache."
    if r.intensity < 4:
        return "Memory traffic bounds it; a narrower dtype, or less that must be stored, makes it faster."
    return "Arithmetic bounds it."


# --- rows ------------------------------------------------------------------------------------------------------------
def explain(program: Program) -> Explanation:
    """The rows of a compiled program."""
    lines = program.lines
    launches = list({id(x.launch): x.launch for x in lines if x.launch is not None}.values())
    rows: list[Row] = []
    heads: list[tuple[int, int, str]] = []
    around: list[Line] = []  # the heads of the loops and branches that the line is inside of
    i = 0
    while i < len(lines):
        line = lines[i]
        around = [head for head in around if head.depth < line.depth]
        if line.launch is None or line.step is None:
            heads.append((len(rows), line.depth, _head(line)))
            around.append(line)
            i += 1
            continue
        steps = [line]
        while i + len(steps) < len(lines) and (x := lines[i + len(steps)]).launch is line.launch and x.step:
            steps.append(x)
        rows += _rows(line.launch, steps, len(rows), around, launches)
        i += len(steps)
        if isinstance(line.launch, Loop):  # the lines of its body describe the same instruction
            while i < len(lines) and lines[i].depth > line.depth:
                i += 1
    return Explanation(tuple(rows), program.arena_bytes, tuple(heads))


def _head(line: Line) -> str:
    return line.text.removesuffix(":")


def _times(around: Sequence[Line]) -> int | None:
    lengths = [head.launch.length for head in around if isinstance(head.launch, Loop)]
    return None if None in lengths else math.prod([n for n in lengths if n is not None])


def _rows(
    launch: Launch, lines: Sequence[Line], first: int, around: Sequence[Line], launches: Sequence[Launch]
) -> list[Row]:
    """One row for each step of a launch."""
    times, what = _times(around), what_of(launch)
    if isinstance(launch, Loop):
        traffic = [_loop_traffic(launch)]
        shares = [1.0]
        times = None if launch.length is None else times
        what += f" {', '.join(_fused(launch))}"
    elif isinstance(launch, HostCall):
        traffic, shares = [(_bytes(launch.ins), sum(b.nbytes for b in launch.outs))], [0.0]
    else:
        traffic, shares = _traffic(launch), _shares(launch, [x.step for x in lines])
    flops = flops_of(launch)
    rows = []
    for i, (line, (read, written), share) in enumerate(zip(lines, traffic, shares, strict=True)):
        kernel, extent = "host numpy", 1
        if isinstance(line.step, Step):
            kernel, extent = line.step.kernel_name, line.step.extent
        note = f" ({line.step.note})" if line.step is not None and line.step.note and len(lines) > 1 else ""
        last = i == len(lines) - 1
        rows.append(
            Row(
                number=first + i,
                operation=what + note,
                kernel=kernel,
                tile=_tile(kernel, launch, extent) if share else "",
                tiles=extent,
                inside=tuple([_head(x) for x in around]),
                times=times,
                flops=round(flops * share),
                bytes_read=read,
                bytes_written=written,
                fused=_fused(launch) if share or len(lines) == 1 else (),
                why=_why(launch) if last else "",
                stored=_stored(launch, launches, bool(around)) if last else (),
                lines=_user_lines(launch) if last else (),
            )
        )
    return rows


def _tile(kernel: str, launch: Launch, extent: int) -> str:
    """``8 x 16`` rows and lanes of a matrix product; else how many results a tile makes."""
    if named := re.fullmatch(r"gemm_([a-z]+\d+)_(\d+)_(\d+)x(\d+)(?:_fold(\d+))?", kernel):
        dtype, bits, rows, vectors, fold = named.groups()
        return f"{rows} x {int(vectors) * int(bits) // (8 * np.dtype(dtype).itemsize * int(fold or 1))}"
    if isinstance(launch, Group | Rows):
        n = -(-(launch.count if isinstance(launch, Rows) else math.prod(launch.shape)) // max(extent, 1))
        return f"{n} {'row' if isinstance(launch, Rows) else 'element'}{'s' * (n != 1)}"
    return ""


def _shares(launch: Launch, steps: Sequence[Any]) -> list[float]:
    """How the work is shared by the steps: by tiles, among those that compute; what sums parts does next to nothing."""
    if isinstance(launch, Group):
        return [float(i == 0) for i in range(len(steps))]
    tiles = [0 if _prepares(s) and len(steps) > 1 else s.extent for s in steps]
    total = sum(tiles)
    return [t / total if total else 0.0 for t in tiles]


def _prepares(step: Step) -> bool:
    return step.note.startswith("cast") or (isinstance(step.kernel, str) and step.kernel.startswith(PREPARING))


# --- work ------------------------------------------------------------------------------------------------------------
def flops_of(launch: Launch) -> int:
    """For one run of all its steps; of a loop, for all iterations (one, where a while loop decides)."""
    if isinstance(launch, Group):
        size = math.prod(launch.shape)
        return size * (sum(n[0] == "map" for n in launch.nodes) + len(launch.folds))
    if isinstance(launch, KernelCall):
        return _kernel_flops(launch) + (flops_of(launch.epilogue) if launch.epilogue else 0)
    if isinstance(launch, Together | Rows):
        return sum(map(flops_of, launch.groups))
    if isinstance(launch, Loop):
        return (1 if launch.length is None else launch.length) * sum(flops_of(x) for x in launch.launches)
    return 0


def _kernel_flops(call: KernelCall) -> int:
    name, params = call.eqn.primitive.name, call.eqn.params
    ins, out = [v.layout for v in call.ins], call.outs[0].layout
    if name == "conv_general_dilated":
        features = ins[1].shape[params["dimension_numbers"][1][0]]
        return 2 * out.size * ins[1].size // max(features * math.prod(params["lhs_dilation"]), 1)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2 * out.size * math.prod(ins[0].shape[a] for a in contracted)
    if name.startswith("reduce_window"):
        return out.size * math.prod(params["window_dimensions"])
    if name.startswith("cum"):
        return ins[0].size
    return ins[2].size if name == "scatter" and params["kind"] != "set" else 0


# --- traffic ---------------------------------------------------------------------------------------------------------
def _bytes(views: Sequence[View]) -> int:
    return sum(distinct_bytes(v.layout) for v in views)


def _traffic(launch: Any) -> list[tuple[int, int]]:
    """(bytes read, bytes written) of each step."""
    plan, operands, results = plan_of(launch, {})
    if isinstance(launch, Copies):
        moved = [distinct_bytes(target) for _, target in launch.parts]
        filled = [launch.out.nbytes] * (len(plan.steps) - len(moved))
        return [*((0, n) for n in filled), *((distinct_bytes(v.layout), n) for (v, _), n in zip(launch.parts, moved))]
    out = []
    written: set[int] = set()
    for step in plan.steps:
        out.append(_step_traffic(step, plan, operands, results, written))
    if isinstance(launch, KernelCall) and launch.eqn.primitive.name == "gather":
        read, wrote = out[-1]
        whole, picked = distinct_bytes(operands[0].layout), launch.outs[0].nbytes
        out[-1] = read - whole + min(whole, picked), wrote
    return out


def _step_traffic(
    step: Step, plan: KernelPlan, operands: Sequence[View], results: Sequence[Buffer], written: set[int]
) -> tuple[int, int]:
    pointers = {(a.kind, a.index) for a in step.args if isinstance(a, Ptr)}
    read = sum(distinct_bytes(operands[i].layout) for kind, i in pointers if kind == "in")
    wrote = sum(results[i].nbytes for kind, i in pointers if kind == "out")
    for kind, i in pointers:
        if kind == "tmp" and i in written:
            read += plan.temps[i]
        elif kind == "tmp":
            wrote += plan.temps[i]
            written.add(i)
    return read, wrote


def _loop_traffic(loop: Loop) -> tuple[int, int]:
    """Operands and results of a loop that is one kernel: what it carries stays in the cache."""
    read = sum({id(b): b.nbytes for _, b in loop.same}.values()) + _bytes([c.first for c in loop.carry])
    read += sum(m.whole.nbytes for m in loop.moving if m.inner.kind == "in")
    wrote = sum(m.whole.nbytes for m in loop.moving if m.inner.kind != "in")
    return read, wrote + sum(c.odd.nbytes for c in loop.carry)


# --- fusion ----------------------------------------------------------------------------------------------------------
def _fused(launch: Launch) -> tuple[str, ...]:
    if isinstance(launch, Group):
        return tuple(launch.names)
    if isinstance(launch, KernelCall) and launch.epilogue:
        return (launch.eqn.primitive.name, *launch.epilogue.names)
    if isinstance(launch, KernelCall | HostCall):
        return (launch.eqn.primitive.name,)
    if isinstance(launch, Loop | Together | Rows):
        return tuple(name for x in _parts(launch) for name in _fused(x))
    return ()


def _parts(launch: Loop | Together | Rows) -> Sequence[Launch]:
    return launch.launches if isinstance(launch, Loop) else launch.groups


def _user_lines(launch: Launch) -> tuple[Source, ...]:
    if isinstance(launch, Group):
        found = launch.sources
    elif isinstance(launch, KernelCall) and launch.epilogue:
        found = [launch.eqn.source, *launch.epilogue.sources]
    elif isinstance(launch, KernelCall | HostCall):
        found = [launch.eqn.source]
    else:
        inner = _parts(launch) if isinstance(launch, Loop | Together | Rows) else ()
        found = [line for x in inner for line in _user_lines(x)]
    return tuple(dict.fromkeys(line for line in found if line is not None))


def _why(launch: Launch) -> str:
    if isinstance(launch, Group):
        n = len(launch.names) - len(launch.folds)
        if launch.folds and n:
            takes = "reduction takes its operand" if len(launch.folds) == 1 else "reductions take their operands"
            return f"fused: {n} element-wise over one shape, and the {takes} from registers"
        return f"fused: {n} element-wise over one shape; what is between them stays in registers" if n > 1 else ""
    if isinstance(launch, Together):
        return f"{len(launch.groups)} element-wise loops that do not depend on each other, their tiles side by side"
    if isinstance(launch, Rows):
        return f"{len(launch.groups)} loops over the same {launch.count} rows, each block of rows through all of them"
    if isinstance(launch, HostCall):
        return f"in Python: {launch.reason}"
    if isinstance(launch, Loop):
        return "fused: the whole loop is one kernel, its body being small"
    if isinstance(launch, KernelCall):
        if launch.epilogue:
            n = len(launch.epilogue.names)
            return f"fused: {n} element-wise behind the product, on its tiles or in the cache"
        views = [str(i) for i, v in enumerate(launch.ins) if v.layout != v.buffer.layout and v.layout.shape]
        return f"operand{'s' * (len(views) > 1)} {', '.join(views)} read in place through a view" if views else ""
    return ""


def _stored(launch: Launch, launches: Sequence[Launch], inside: bool) -> tuple[str, ...]:
    """For each result: who reads it, and why that is another kernel.  ``inside`` a loop or branch?"""
    if isinstance(launch, Together):
        return tuple(note for group in launch.groups for note in _stored(group, launches, inside))
    if isinstance(launch, Group):
        results = [*(b for _, b in launch.results), *(fold.out for fold in launch.folds)]
    elif isinstance(launch, KernelCall | HostCall | Rows):
        results = launch.outs
    else:
        return ()
    own = launch.groups if isinstance(launch, Rows) else ()
    every = [part for x in launches for part in (x.groups if isinstance(x, Together | Rows) else [x])]
    notes = []
    for b in results:
        said = dict.fromkeys(_reader(launch, b, x) for x in every if x not in own and any(r is b for r in x.reads))
        if b.kind == "out":
            said[f"it is a result of the {'loop or branch around it' if inside else 'program'}"] = None
        notes.append(f"stores {b.dtype.name}{list(b.shape)}: {'; '.join(said) or 'the loop around it carries it on'}")
    return tuple(notes)


def _reader(maker: Launch, b: Buffer, reader: Launch) -> str:
    """Why ``reader`` takes ``b`` from memory."""
    if isinstance(reader, KernelCall):
        return f"{reader.eqn.primitive.name}, a kernel, reads memory"
    if isinstance(reader, HostCall):
        return f"{reader.eqn.primitive.name} runs in Python"
    if isinstance(reader, Copies):
        return f"{reader.name} copies it to where it belongs"
    if isinstance(reader, Loop | Branch):
        return f"a {'loop' if isinstance(reader, Loop) else 'branch'}, which has kernels of its own, reads it"
    assert isinstance(reader, Group)
    who = f"{' '.join(reader.names)} over {list(reader.shape)}"
    if isinstance(maker, Rows):
        return f"{who} goes by other rows, or needs more than these"
    if not isinstance(maker, Group):
        if reader.folds:
            return f"{who} ends in a reduction of the finished result"
        return f"{who} is emitted code of its own: the kernel does not hold all that it reads"
    folded = [fold.out for fold in maker.folds]
    if b in folded:
        return f"{who} needs the finished reduction"
    if any(v.buffer in folded for v in reader.loads):
        return f"{who} needs the reduction of this kernel first"
    if reader.shape != maker.shape:
        return f"{who} has another loop shape"
    if any(v.buffer is b and v.layout != b.layout for v in reader.loads):
        return f"{who} reads it through a view, in another order"
    if maker.streams + reader.streams > MAX_STREAMS:
        return f"{who} would make more than {MAX_STREAMS} streams in one loop"
    return f"{who} also needs what is made later"
