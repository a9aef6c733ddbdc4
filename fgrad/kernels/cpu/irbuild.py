"""What llvmlite's builder lacks: memory on the stack, counted loops, functions declared once.

(Numba has these, but its import takes longer than compiling a tile.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import llvmlite.ir as ir

I64 = ir.IntType(64)


def slot(builder: ir.IRBuilder, kind: ir.Type) -> ir.Value:
    """Memory for one value, allocated once where the function begins."""
    with builder.goto_entry_block():
        return builder.alloca(kind)


@contextmanager
def counted(builder: ir.IRBuilder, count: ir.Value) -> Iterator[ir.Value]:
    """``for i in range(count)``; yields i, an i64."""
    head, body, tail = (builder.append_basic_block(f"count.{part}") for part in ("head", "body", "tail"))
    before = builder.block
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(I64)
    index.add_incoming(I64(0), before)
    builder.cbranch(builder.icmp_signed("<", index, count), body, tail)
    builder.position_at_end(body)
    yield index
    index.add_incoming(builder.add(index, I64(1)), builder.block)
    builder.branch(head)
    builder.position_at_end(tail)


def declared(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
    """The function of this name, declared at its first use."""
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)
