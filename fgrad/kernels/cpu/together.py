"""Several steps as one: their tiles are numbered through, so that many small steps keep all threads busy at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fgrad.kernels.cpu.body import Spec
from fgrad.kernels.cpu.scalar import Scalar
from fgrad.kernels.plan import Step, Word


def one_step(steps: Sequence[Step], note: str) -> Step:
    """A step that does all of these, which must not depend on each other.

    Its words are, for each step, the number that its tiles end before, its kernel and where its words begin (in bytes
    from the first word of all); then the words themselves.
    """
    head: list[Word] = []
    tail: list[Word] = []
    end = 0
    for step in steps:
        assert not isinstance(step.kernel, str)
        end += step.extent
        head += (end, step.kernel, 8 * (3 * len(steps) + len(tail)))
        tail += step.args
    return Step(TogetherSpec(), (*head, *tail), end, max(step.grain for step in steps), note)


@dataclass(frozen=True)
class TogetherSpec(Spec):
    """Finds the step of a tile, and calls its kernel for as many tiles as belong to both."""

    def write(self, s: Scalar) -> None:
        code = s.code
        now, at = code.array("i64", 2), "i64"  # the tile, and the number of its step
        step = code.element("i64", now, "1")
        code.line(f"store i64 %begin, ptr {now}")
        code.line(f"store i64 0, ptr {step}")
        zero = code.array("i64", 1)
        code.line(f"store i64 0, ptr {zero}")

        def tile() -> str:
            return code.op(f"load i64, ptr {now}")

        def words() -> str:
            return code.element(at, "%args", code.mul(code.op(f"load i64, ptr {step}"), "3"))

        with code.repeat(lambda: code.op(f"icmp slt i64 {tile()}, %end")):
            with code.repeat(lambda: code.op(f"icmp sge i64 {tile()}, {code.op(f'load i64, ptr {words()}')}")):
                following = code.add(code.op(f"load i64, ptr {step}"), "1")
                code.line(f"store i64 {following}, ptr {step}")
            here = words()
            last = code.op(f"load i64, ptr {here}")
            kernel = code.op(f"load ptr, ptr {code.element(at, here, '1')}")
            offset = code.op(f"load i64, ptr {code.element(at, here, '2')}")
            # the step's first tile: where the one before it ends
            before = code.element(at, here, "-3")
            some = code.op(f"icmp ne ptr {here}, %args")
            first = code.op(f"load i64, ptr {code.op(f'select i1 {some}, ptr {before}, ptr {zero}')}")
            until = code.minimum(last, "%end")
            low, high = code.sub(tile(), first), code.sub(until, first)
            args = code.element("i8", "%args", offset)
            code.line(f"call void {kernel}(ptr {args}, i64 {low}, i64 {high}, i64 %worker)")
            code.line(f"store i64 {until}, ptr {now}")
