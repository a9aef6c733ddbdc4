"""What map and fold kernels share: the expression evaluated at each loop index, and the operands it uses."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from fgrad.kernels.cpu.irtext import Code
from fgrad.kernels.cpu.nest import Operand
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value, dtype_of, memory_type
from fgrad.kernels.plan import Ptr

# Nodes are dataclasses because those compare by class too: as tuples, the constant 0 and the index of axis 0 are equal.


@dataclass(frozen=True)
class Load:
    """The value of an input at the loop index."""

    operand: int


@dataclass(frozen=True)
class Const:
    """A Python scalar. ``bits`` tells 0.0 from -0.0 and equals itself for NaN: an integer, or a float as hex."""

    bits: int | str
    dtype: str


@dataclass(frozen=True)
class Iota:
    """The loop index along a kernel axis; 0 where the axis has gone because it has one element."""

    axis: int | None
    dtype: str


@dataclass(frozen=True)
class Mapped:
    """A scalar rule on earlier nodes; ``tag`` is the parameters' text, by which they are compared (0.0 is not -0.0)."""

    rule: Callable
    tag: str
    operands: tuple[int, ...]
    params: tuple[tuple[str, Hashable], ...] = field(compare=False)


Node = Load | Const | Iota | Mapped


def read_nodes(nodes: Sequence[tuple], iota_axis: Callable[[int], int | None]) -> tuple[Node, ...]:
    """The nodes of `map_plan` as comparable objects; ``iota_axis`` turns a loop axis into a kernel axis."""
    result: list[Node] = []
    for node in nodes:
        match node:
            case ("load", i):
                result.append(Load(i))
            case ("const", value, dtype):
                real = isinstance(value, (float, np.floating))
                result.append(Const(float(value).hex() if real else int(value), str(dtype)))
            case ("iota", axis, dtype):
                result.append(Iota(iota_axis(axis), str(dtype)))
            case ("map", rule, params, operands):
                result.append(Mapped(rule, repr(params), tuple(operands), tuple(params)))
            case _:
                raise ValueError(f"emit: no such node, got {node!r}. Use load, const, iota or map.")
    return tuple(result)


def evaluate(
    s: Scalar, nodes: Sequence[Node], load: Callable[[int], Value], index: Callable[[int], str]
) -> list[Value]:
    """Writes the expression once; ``load(k)`` reads input k, ``index(axis)`` is the loop index (i64) along an axis."""
    values: list[Value] = []
    for node in nodes:
        match node:
            case Load(operand):
                values.append(load(operand))
            case Const(bits, dtype):
                values.append(s.const(float.fromhex(bits) if isinstance(bits, str) else bits, dtype))
            case Iota(axis, dtype):
                count = Value(np.dtype(np.int64), "0" if axis is None else index(axis))
                values.append(s.cast(count, dtype))
            case Mapped():
                operands = (values[i] for i in node.operands)
                values.append(node.rule(s, *operands, **dict(node.params)))
    return values


def dtype_of_node(nodes: Sequence[tuple], node: int, ins: Sequence[np.dtype]) -> np.dtype:
    """The dtype of a node's value, found by writing the expression into a scrap of code."""
    scrap = Scalar(Code(), native_half=True)
    read = read_nodes(nodes[: node + 1], lambda axis: axis)
    return evaluate(scrap, read, lambda k: scrap.load(ins[k], "%x", group=False), lambda axis: "0")[node].dtype


def operand_args(pointer: Ptr, itemsize: int, offset: int, strides: Sequence[int], step: str) -> list[int | Ptr]:
    """Words of one operand: address, strides of the outer axes, and the innermost stride if the spec leaves it open."""
    base = Ptr(pointer.kind, pointer.index, pointer.offset + offset * itemsize)
    return [base, *(strides if step == "any" else strides[:-1])]


class Stream:
    """One operand inside a kernel: reads its words (see `operand_args`) and finds its elements."""

    def __init__(self, code: Code, operand: Operand, outer: int) -> None:
        self.code = code
        self.step = operand.step
        self.dtype = dtype_of(operand.dtype)
        self.memory = memory_type(self.dtype)
        self.pointer = code.pointer_word()
        self.strides = code.words(outer)
        self._inner = code.word() if operand.step == "any" else ""

    def offset(self, start: str, coordinates: Sequence[str], first: int) -> str:
        """``start`` plus the element offset of ``coordinates`` along the axes from ``first`` on."""
        for coordinate, stride in zip(coordinates, self.strides[first:]):
            start = self.code.add(start, self.code.mul(coordinate, stride))
        return start

    def along(self, start: str, index: str) -> str:
        """The address of the element ``index`` steps along the innermost axis from element offset ``start``."""
        match self.step:
            case "unit":
                offset = self.code.add(start, index)
            case "back":
                offset = self.code.sub(start, index)
            case "zero":
                offset = start
            case _:
                offset = self.code.add(start, self.code.mul(index, self._inner))
        return self.code.element(self.memory, self.pointer, offset)


class Emitted:
    """What is emitted as LLVM IR: compiled and looked up by its fields, which hold structure and no sizes."""

    folder: ClassVar[str] = "emitted"  # of the disk cache
    raw: ClassVar[bool] = True  # the text is not optimised yet

    def text(self, native_half: bool, vector_bits: int | None) -> str:
        """A function of a kernel's signature, named `KERNEL`, as LLVM IR."""
        raise NotImplementedError

    def identity(self, native_half: bool, vector_bits: int | None) -> str:
        """What determines the text, by which it is found on disk: the text itself where that is quickly written."""
        return self.text(native_half, vector_bits)

    def address(self) -> int:
        """Where the compiled kernel is; compiles it, or reads it from the disk cache, the first time."""
        from fgrad.kernels.cpu import jit  # loads LLVM

        return jit.address(self)


class Spec(Emitted):
    """The structure of a kernel that is written with `Code`."""

    def write(self, s: Scalar) -> None:
        """Writes the kernel's body into ``s.code``."""
        raise NotImplementedError

    def text(self, native_half: bool, vector_bits: int | None) -> str:
        code = Code()
        self.write(Scalar(code, native_half))
        return code.module(vector_bits)
