"""What map and fold kernels share: the expression evaluated at each loop index, and the operands it uses."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar

import numpy as np

from fgrad.kernels.cpu.irtext import Code
from fgrad.kernels.cpu.nest import Operand
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.cpu.value import Value, dtype_of, memory_type
from fgrad.kernels.plan import Ptr


class Params(str):
    """A scalar rule's parameters, compared by their text: 0.0 is not -0.0, and nan is itself."""

    __slots__ = ("pairs",)

    pairs: tuple[tuple[str, Hashable], ...]

    def __new__(cls, pairs: tuple[tuple[str, Hashable], ...]) -> Params:
        params = super().__new__(cls, pairs)
        params.pairs = pairs
        return params


NO_PARAMS = Params(())


def params_of(pairs: Params | tuple[tuple[str, Hashable], ...]) -> Params:
    """The same where they are ``Params`` already: their text is written once for a program."""
    if isinstance(pairs, Params):
        return pairs
    return Params(pairs) if pairs else NO_PARAMS


#: A node of `map_plan` that is compared by its structure alone::
#:
#:     ("load", k)
#:     ("const", bits, dtype)                  an integer, or a float as hex: that tells 0.0 from -0.0
#:     ("iota", axis, dtype)                   a kernel axis; None: it has gone because it has one element
#:     ("map", rule, Params, operands)
Node = tuple


def read_nodes(nodes: Sequence[tuple], iota_axis: Callable[[int], int | None]) -> tuple[Node, ...]:
    """The nodes of `map_plan` as comparable ones, themselves if they are; ``iota_axis``: a loop axis as a kernel's."""
    result: list[Node] = []
    for node in nodes:
        kind = node[0]
        if kind == "map":
            _, rule, params, operands = node
            if type(params) is not Params or type(operands) is not tuple:
                node = ("map", rule, params_of(params), tuple(operands))
        elif kind == "const":
            _, value, dtype = node
            real = isinstance(value, (float, np.floating))
            node = ("const", float(value).hex() if real else int(value), str(dtype))
        elif kind == "iota":
            node = ("iota", iota_axis(node[1]), str(node[2]))
        elif kind != "load":
            raise ValueError(f"emit: no such node, got {node!r}. Use load, const, iota or map.")
        result.append(node)
    return tuple(result)


def weight_of(nodes: Sequence[tuple]) -> int:
    """What an element costs: the load and store, and each scalar rule."""
    return 1 + sum([node[0] == "map" for node in nodes])


def evaluate(
    s: Scalar, nodes: Sequence[Node], load: Callable[[int], Value], index: Callable[[int], str]
) -> list[Value]:
    """Writes the expression once; ``load(k)`` reads input k, ``index(axis)`` is the loop index (i64) along an axis."""
    values: list[Value] = []
    for node in nodes:
        match node:
            case ("load", operand):
                values.append(load(operand))
            case ("const", bits, dtype):
                values.append(s.const(float.fromhex(bits) if isinstance(bits, str) else bits, dtype))
            case ("iota", axis, dtype):
                count = Value(np.dtype(np.int64), "0" if axis is None else index(axis))
                values.append(s.cast(count, dtype))
            case ("map", rule, params, operands):
                values.append(rule(s, *[values[i] for i in operands], **dict(params.pairs)))
    return values


def dtype_of_node(nodes: Sequence[tuple], node: int, ins: Sequence[np.dtype]) -> np.dtype:
    """The dtype of a node's value, found by writing the expression into a scrap of code."""
    scrap = Scalar(Code(), native_half=True)
    read = read_nodes(nodes[: node + 1], lambda axis: axis)
    return evaluate(scrap, read, lambda k: scrap.load(ins[k], "%x", group=False), lambda axis: "0")[node].dtype


def operand_args(pointer: Ptr, itemsize: int, offset: int, strides: Sequence[int], step: str) -> list[int | Ptr]:
    """Words of one operand: address, strides of the outer axes, and the innermost stride if the spec leaves it open."""
    base = Ptr(pointer.kind, pointer.index, pointer.offset + offset * itemsize) if offset else pointer
    return [base, *(strides if step in ("any", "cycle") else strides[:-1])]


class Stream:
    """One operand inside a kernel: reads its words (see `operand_args`) and finds its elements."""

    def __init__(self, code: Code, operand: Operand, outer: int) -> None:
        self.code = code
        self.step = operand.step
        self.dtype = dtype_of(operand.dtype)
        self.memory = memory_type(self.dtype)
        self.pointer = code.pointer_word()
        self.strides = code.words(outer)
        self._inner = code.word() if operand.step in ("any", "cycle") else ""

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
    level: ClassVar[int] = 2  # of LLVM's passes: level 3 makes these loops no faster

    def text(self, native_half: bool, vector_bits: int | None) -> str:
        """A function of a kernel's signature, named `KERNEL`, as LLVM IR."""
        raise NotImplementedError

    def identity(self, native_half: bool, vector_bits: int | None) -> str:
        """What determines the text, by which it is found on disk: the text itself where that is quickly written."""
        return self.text(native_half, vector_bits)

    def address(self) -> int:
        """Where the compiled kernel is; compiles it, or reads it from the disk cache, the first time."""
        from fgrad.kernels.cpu.jit import address  # loads LLVM

        return address(self)


class Spec(Emitted):
    """The structure of a kernel that is written with `Code`."""

    def write(self, s: Scalar) -> None:
        """Writes the kernel's body into ``s.code``."""
        raise NotImplementedError

    def text(self, native_half: bool, vector_bits: int | None) -> str:
        code = Code()
        self.write(Scalar(code, native_half))
        return code.module(vector_bits)
