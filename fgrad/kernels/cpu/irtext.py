"""A writer of LLVM IR text: fresh names, counted loops, branches, declarations, access groups.

Text rather than a builder's objects: LLVM parses it in a fraction of the time, and it needs no import of LLVM.
Indices are i64 everywhere; a reference is an SSA name (``%v7``) or a literal (``0``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

KERNEL = "fgrad_kernel"  # the name in `Code.module`; the engine gives each compiled kernel its own

_PURE = "nounwind willreturn memory(none)"

# loop metadata by the kind of a loop (see `Code.loop`); !0 is the access group
_LOOP_KINDS = {"still": "!3", "free": "", "parallel": "!1", "vector": "!1, !3", "lean": "!1, !2, !5"}
_LOOP_HINTS = (
    "!0 = distinct !{}",
    '!1 = !{!"llvm.loop.parallel_accesses", !0}',
    '!2 = !{!"llvm.loop.interleave.count", i32 1}',
    '!3 = !{!"llvm.loop.unroll.disable"}',
    "!4 = !{i32 1}",
)
AROUND = "!nontemporal !4"  # of a store


class Code:
    """The body of one kernel ``void (i64* args, i64 begin, i64 end, i64 worker)`` as it is being written."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._allocas: list[str] = []
        self._declarations: dict[str, str] = {}
        self._loop_nodes: list[str] = []
        self._names = 0
        self._words = 0
        self._block = "start"

    # ---- instructions

    def fresh(self, prefix: str = "v") -> str:
        self._names += 1
        return f"{prefix}{self._names}"

    def line(self, text: str) -> None:
        self._lines.append("  " + text)

    def op(self, text: str) -> str:
        name = "%" + self.fresh()
        self._lines.append(f"  {name} = {text}")
        return name

    def add(self, a: str, b: str) -> str:
        if a == "0" or b == "0":
            return b if a == "0" else a
        return self.op(f"add nsw i64 {a}, {b}")

    def sub(self, a: str, b: str) -> str:
        return self.op(f"sub nsw i64 {a}, {b}")

    def mul(self, a: str, b: str) -> str:
        if a == "1" or b == "1":
            return b if a == "1" else a
        return "0" if a == "0" or b == "0" else self.op(f"mul nsw i64 {a}, {b}")

    def divmod(self, a: str, b: str) -> tuple[str, str]:
        """Quotient and remainder of non-negative ``a`` by positive ``b``."""
        quotient = self.op(f"udiv i64 {a}, {b}")
        return quotient, self.sub(a, self.mul(quotient, b))

    def minimum(self, a: str, b: str) -> str:
        return self.call("i64", "llvm.smin.i64", ("i64", a), ("i64", b))

    def call(self, result: str, name: str, *args: tuple[str, str], flags: str = "") -> str:
        """A call of a function without side effects: an LLVM intrinsic or one of libm."""
        types = ", ".join(t for t, _ in args)
        self._declarations[name] = f"declare {result} @{name}({types}) {_PURE}"
        return self.op(f"call {flags}{result} @{name}({', '.join(f'{t} {v}' for t, v in args)})")

    def prefetch(self, address: str) -> None:
        """Asks for the cache line at an address, which need not be one of the program's."""
        self._declarations["llvm.prefetch.p0"] = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"
        self.line(f"call void @llvm.prefetch.p0(ptr {address}, i32 0, i32 3, i32 1)")

    def word(self) -> str:
        """The next 64-bit word of the argument block; every word is read once, before any store can overlap it."""
        at = self.op(f"getelementptr inbounds i64, ptr %args, i64 {self._words}")
        self._words += 1
        return self.op(f"load i64, ptr {at}, align 8")

    def words(self, n: int) -> list[str]:
        return [self.word() for _ in range(n)]

    def pointer_word(self) -> str:
        return self.op(f"inttoptr i64 {self.word()} to ptr")

    def following(self) -> str:
        """The address of the words that are not read yet."""
        return self.op(f"getelementptr inbounds i64, ptr %args, i64 {self._words}")

    def array(self, element: str, count: int) -> str:
        """Memory of the kernel's own, aligned to a cache line."""
        name = "%" + self.fresh("mem")
        self._allocas.append(f"  {name} = alloca [{count} x {element}], align 64")
        return name

    def element(self, element: str, base: str, index: str) -> str:
        return self.op(f"getelementptr {element}, ptr {base}, i64 {index}")

    # ---- control flow

    def _label(self, name: str) -> None:
        self._lines.append(f"{name}:")
        self._block = name

    @contextmanager
    def loop(self, low: str, high: str, step: int = 1, kind: str = "still") -> Iterator[str]:
        """``for i in range(low, high, step)``; yields ``i``.

        ``parallel`` loops are vectorised: they promise that no iteration touches memory that another one writes,
        through accesses in the access group.  That holds for an element-wise loop even in place, where ``noalias``
        would be a lie.  ``lean`` loops are parallel ones that are not unrolled and, where vectors have masks, end in
        a masked step: half the code to compile, and good for few iterations.  ``vector`` loops are parallel ones that
        are not unrolled before they are vectorised: for known, small ranges.  ``free`` loops are LLVM's to unroll,
        ``still`` ones are left as they are.
        """
        name = self.fresh("loop")
        some = self.op(f"icmp slt i64 {low}, {high}")
        self.line(f"br i1 {some}, label %{name}.body, label %{name}.exit")
        before = self._block
        self._label(f"{name}.body")
        index, following = f"%{name}.i", f"%{name}.next"
        self.line(f"{index} = phi i64 [ {low}, %{before} ], [ {following}, %{name}.latch ]")
        yield index
        self.line(f"br label %{name}.latch")
        self._label(f"{name}.latch")
        self.line(f"{following} = add nsw i64 {index}, {step}")
        again = self.op(f"icmp slt i64 {following}, {high}")
        node = len(_LOOP_HINTS) + 1 + len(self._loop_nodes)
        self._loop_nodes.append(f"!{node} = distinct !{{{', '.join(filter(None, (f'!{node}', _LOOP_KINDS[kind])))}}}")
        self.line(f"br i1 {again}, label %{name}.body, label %{name}.exit, !llvm.loop !{node}")
        self._label(f"{name}.exit")

    @contextmanager
    def repeat(self, goes_on: Callable[[], str]) -> Iterator[None]:
        """``while goes_on():``; ``goes_on`` writes the test and returns its i1."""
        name = self.fresh("repeat")
        self.line(f"br label %{name}.test")
        self._label(f"{name}.test")
        self.line(f"br i1 {goes_on()}, label %{name}.body, label %{name}.exit")
        self._label(f"{name}.body")
        yield
        self.line(f"br label %{name}.test")
        self._label(f"{name}.exit")

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        name = self.fresh("when")
        self.line(f"br i1 {condition}, label %{name}.then, label %{name}.exit")
        self._label(f"{name}.then")
        yield
        self.line(f"br label %{name}.exit")
        self._label(f"{name}.exit")

    # ---- the whole

    def module(self, vector_bits: int | None) -> str:
        """The module's text: the kernel under the name `KERNEL`, declarations, attributes, loop metadata."""
        wide = f' "prefer-vector-width"="{vector_bits}"' if vector_bits else ""
        lines = [
            f"define void @{KERNEL}(ptr nocapture readonly %args, i64 %begin, i64 %end, i64 %worker) #0 {{",
            "start:",
            *self._allocas,
            *self._lines,
            "  ret void",
            "}",
            *self._declarations.values(),
            # no-builtins: loops over a few elements stay loops, not calls of memset; libm calls are left as written
            f'attributes #0 = {{ nounwind "no-builtins" "no-trapping-math"="true"{wide} }}',
            *_LOOP_HINTS,
            f'!5 = !{{!"llvm.loop.vectorize.predicate.enable", i1 {str(vector_bits == 512).lower()}}}',
            *self._loop_nodes,
            "",
        ]
        return "\n".join(lines)


def unravel(code: Code, index: str, extents: Sequence[str]) -> list[str]:
    """Row-major coordinates of a linear index; ``extents`` leaves out the first axis, whose extent is not needed."""
    coordinates: list[str] = []
    for extent in reversed(extents):
        index, inner = code.divmod(index, extent)
        coordinates.append(inner)
    return [index, *reversed(coordinates)]
