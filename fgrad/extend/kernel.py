"""Kernels from a user's Numba-compilable function ``kernel(out, *operands)``: planned and run as library kernels are.

One C entry is compiled for each combination of dtypes, dimensions and static parameters.  Its argument block holds,
for each result and operand in turn, the address, the bytes from one example to the next (0 if all share it) and the
shape; a tile is one example, so a batch is spread over the workers.
"""

from __future__ import annotations

import dis
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fgrad.extend.signature import Signature, check_rule, python_function
from fgrad.kernels.builder import PlanBuilder, accumulator, real, start
from fgrad.kernels.layout import Layout, as_pairs
from fgrad.kernels.plan import KernelPlan, Ptr

TILE = 1 << 14  # elements of work that are worth a worker's turn

_RAISES = {"RAISE_VARARGS", "LOAD_ASSERTION_ERROR"}
_compiled: dict[NumbaKernel, Any] = {}


def check_kernel(name: str, function: Any, own: Signature, multiple: bool) -> None:
    """What can be known of a kernel before it is compiled."""
    check_rule(name, "kernel", function, () if multiple else ("out",), _loose(own, multiple), True)
    options = getattr(function, "targetoptions", {})
    if options.get("parallel"):
        raise ValueError(
            f"{name}: kernel must be serial, got parallel=True (examples of a batch already run in parallel, and "
            "threads would start threads). Drop the option."
        )
    code = getattr(python_function(function), "__code__", None)
    if code is None:
        raise TypeError(
            f"{name}: kernel must be a Python function, with or without numba.njit, got {function!r} of type "
            f"{type(function).__name__}. Wrap it in one."
        )
    if code.co_kwonlyargcount:
        raise TypeError(
            f"{name}: kernel must take static parameters as ordinary arguments behind the operands (Numba knows no "
            f"keyword-only ones), got {code.co_name} with a '*'. Drop the '*'."
        )
    instructions = list(dis.get_instructions(code))
    if any(i.opname in _RAISES for i in instructions):
        raise ValueError(
            f"{name}: kernel must not raise, got a raise or assert in {code.co_name} (compiled code has nobody to "
            "raise to). Check operands in abstract, and mark bad values with NaN."
        )
    results = code.co_varnames[: _results(code.co_argcount, own) if multiple else 1]
    anew = [result for result in results if result in _assigned(instructions)]
    if anew or _returns_a_value(instructions):
        does = f"makes a new {anew[0]}" if anew else "returns a value"
        raise ValueError(
            f"{name}: kernel must fill the memory of its results, got {code.co_name}, which {does}. Write "
            f"{(anew or results)[0]}[...] = value."
        )


def _results(arguments: int, own: Signature) -> int:
    """How many of a kernel's arguments are results, where that can be known."""
    known = own.operands is not None and own.params is not None
    return arguments - len(own.operands) - len(own.params) if known else 1  # type: ignore[arg-type]


def _returns_a_value(instructions: Sequence[dis.Instruction]) -> bool:
    for before, i in zip([None, *instructions], instructions):
        if i.opname == "RETURN_CONST" and i.argval is not None:
            return True
        if i.opname == "RETURN_VALUE" and not (before and before.opname == "LOAD_CONST" and before.argval is None):
            return True
    return False


def _assigned(instructions: Sequence[dis.Instruction]) -> set[str]:
    """Local names that are bound anew; later Pythons join two such instructions, or one with a load, into one."""
    names: set[str] = set()
    for i in instructions:
        if i.opname == "STORE_FAST_STORE_FAST":
            names.update(i.argval)
        elif i.opname == "STORE_FAST_LOAD_FAST":
            names.add(i.argval[0])
        elif i.opname == "STORE_FAST":
            names.add(i.argval)
    return names


def _loose(own: Signature, multiple: bool) -> Signature:
    """How many results precede the operands is not known before the first call."""
    return own._replace(operands=None) if multiple else own


def example_planner(name: str, function: Callable[..., Any]) -> Callable[..., KernelPlan]:
    """The planner of a primitive: one example."""

    def plan(ins: Sequence[Layout], outs: Sequence[Layout], **params: Any) -> KernelPlan:
        return plan_examples(name, function, 1, ins, outs, [False] * len(ins), False, Params(params.items()))

    return plan


def plan_examples(
    name: str,
    function: Callable[..., Any],
    examples: int,
    ins: Sequence[Layout],
    outs: Sequence[Layout],
    batched: Sequence[bool],
    batched_outs: bool,
    params: Params,
) -> KernelPlan:
    """``examples`` calls of the kernel; batched operands and results have them along their first axis."""
    build = PlanBuilder()
    elements = sum(out.size for out in outs)
    if elements == 0:
        return build.plan()
    words: list[int | Ptr] = []
    arrays: list[tuple[str, int]] = []

    def describe(pointer: Ptr, layout: Layout, by_example: bool) -> None:
        shape = layout.shape[1:] if by_example else layout.shape
        words.extend([pointer, math.prod(shape) * layout.dtype.itemsize if by_example else 0, *shape])
        arrays.append((layout.dtype.name, len(shape)))

    narrowed = []
    for j, out in enumerate(outs):
        wide = Layout.contiguous(accumulator(out.dtype), out.shape)
        pointer = Ptr("out", j)
        if wide.dtype != out.dtype:
            pointer = build.temp(out.size * wide.dtype.itemsize)
            narrowed.append((pointer, wide, Ptr("out", j), out))
        describe(start(pointer, out), wide, batched_outs)
    for i, layout in enumerate(ins):
        pointer, layout = _contiguous(build, Ptr("in", i), layout)
        describe(pointer, layout, batched[i])
    spec = NumbaKernel(name, function, len(outs), tuple(arrays), params)
    what = f"{examples} examples" if batched_outs else ""
    build.step(spec, words, examples, what, grain=TILE * examples // (elements + sum(x.size for x in ins)))
    for pointer, wide, target, out in narrowed:
        build.cast(pointer, wide, target, out)
    return build.plan()


def _contiguous(build: PlanBuilder, source: Ptr, layout: Layout) -> tuple[Ptr, Layout]:
    """The operand as a kernel wants it: row-major, and 16-bit floats as float32."""
    dtype = accumulator(layout.dtype)
    if dtype == layout.dtype and layout.is_contiguous:
        return start(source, layout), Layout.contiguous(dtype, layout.shape)
    result = Layout.contiguous(dtype, layout.shape)
    target = build.temp(result.size * dtype.itemsize)
    if dtype.kind == "c":
        build.cast(source, as_pairs(layout, real(dtype)), target, as_pairs(result, real(dtype)))
    else:
        build.cast(source, layout, target, result)
    return target, result


class Params(tuple[tuple[str, Hashable], ...]):
    """Static parameters by name. Equal ones have values of one type, too: 1, 1.0 and True are three."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return tuple.__eq__(self, other) and [type(v) for _, v in self] == [type(v) for _, v in other]  # type: ignore

    __hash__ = tuple.__hash__


@dataclass(frozen=True)
class NumbaKernel:
    """The user's function for certain dtypes and numbers of dimensions, results first, and static parameters."""

    name: str
    function: Callable[..., Any]
    results: int
    arrays: tuple[tuple[str, int], ...]
    params: Params

    @property
    def label(self) -> str:
        """What a program's text calls it."""
        return f"numba {python_function(self.function).__name__}"

    def address(self) -> int:
        """Where the compiled entry is; compiles it the first time."""
        found = _compiled.get(self)
        if found is None:
            found = _compiled.setdefault(self, self.compile())
        return found.address

    def compile(self) -> Any:
        """The entry as a Numba cfunc of the one kernel signature."""
        import numba

        from fgrad.kernels.cpu.memory import KERNEL_SIGNATURE, as_pointer, ld_i64, read_only

        function = self.function
        if not hasattr(function, "py_func"):
            function = numba.njit(error_model="numpy")(function)
        names: dict[str, Any] = {"kernel": function, "carray": numba.carray, "pointer": as_pointer, "word": ld_i64}
        names["read_only"] = read_only  # operands are everybody's
        names |= {f"type_{k}": np.dtype(dtype).type for k, (dtype, _) in enumerate(self.arrays)}
        names |= {f"param_{p}": value for p, value in self.params}
        exec(self.source(), names)
        try:
            return numba.cfunc(KERNEL_SIGNATURE, nopython=True, nogil=True, error_model="numpy")(names["entry"])
        except Exception as e:  # Numba's own, and whatever evaluating the function's globals raises
            types = ", ".join(f"{dtype}[{','.join(':' * ndim)}]" for dtype, ndim in self.arrays)
            raise TypeError(
                f"{self.name}: Numba must be able to compile the kernel, got {_reason(e)!r} for {types}. Make "
                f"{python_function(self.function).__name__} run under numba.njit on such arrays."
            ) from e

    def source(self) -> str:
        """``kernel(out, *operands, **params)`` for the examples begin <= i < end."""
        lines = ["def entry(args, begin, end, worker):", "    for i in range(begin, end):", "        kernel("]
        at = 0
        for k, (_, ndim) in enumerate(self.arrays):
            shape = "".join(f"word(args, {at + 2 + d}), " for d in range(ndim))
            address = f"word(args, {at}) + i * word(args, {at + 1})"
            array = f"carray(pointer({address}), ({shape}), type_{k})"
            lines.append(f"            {array if k < self.results else f'read_only({array})'},")
            at += 2 + ndim
        lines += [f"            {p}=param_{p}," for p, _ in self.params]
        return "\n".join([*lines, "        )", ""])


def _reason(error: Exception) -> str:
    """What Numba has to say, without the list of its passes."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith("Failed in nopython mode")]
    return " ".join(lines[:2] if lines[0].endswith(":") else lines[:1])
