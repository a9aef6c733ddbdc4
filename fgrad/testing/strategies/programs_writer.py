"""Writes a random program, one typed step at a time.

What it computes in floats stays of order one and depends continuously on its inputs; predicates, trip counts and
indices come from integers, which are exact, or from floats that are moved far apart first.  So two evaluations differ
by rounding only, and a differentiable program is smooth where it is evaluated.

The types of simple results come from the abstract rules: ``fgrad.eval_shape`` of the step's expression.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from fgrad.testing.strategies.programs_text import (
    COUNT,
    WORD,
    Function,
    Input,
    Program,
    Step,
    Type,
    Value,
    dtype_text,
    is_float,
    namespace_of_fgrad,
    numpy_dtype,
)

SHAPES = ((), (3,), (2, 3), (1,), (4, 4), (8,), (3, 1, 2), (2, 2, 5), (1, 2, 4, 3), (0,), (2, 0))
LARGE = (40, 30)  # more than a loop in one kernel takes
LARGEST = 1300  # elements of a value
DEEPEST = 3  # bodies within bodies


class Chooser(Protocol):
    """What is asked of a source of randomness: random.Random has it, and so has a Hypothesis draw."""

    def choice(self, seq: Sequence[Any], /) -> Any:
        """An element; the first is the simplest."""

    def randint(self, a: int, b: int, /) -> int:
        """a <= n <= b; the smallest is the simplest."""


class Options(NamedTuple):
    """What programs may contain: see ``programs``."""

    dtypes: tuple[str, ...]
    control_flow: bool
    differentiable: bool
    modes: tuple[str, ...]
    max_steps: int
    shapes: tuple[tuple[int, ...], ...]
    calls: tuple[str, ...]

    @property
    def reverse(self) -> bool:
        """Reverse mode must work, so no loop of unknown length."""
        return self.differentiable and "rev" in self.modes

    @property
    def forward(self) -> bool:
        """Forward mode must work, so no custom_vjp."""
        return self.differentiable and "fwd" in self.modes


class Scope:
    """The values in sight while a function is written, and its steps so far."""

    def __init__(self, params: Sequence[Value], outer: Scope | None = None) -> None:
        self.values = [*(outer.values if outer else ()), *params]  # that a step may choose
        self.types = {**(outer.types if outer else {}), **{v.name: v.type for v in params}}
        self.steps: list[Step] = []

    def step(self, step: Step, results: Sequence[Value], seen: bool = True) -> None:
        """Appends the step; later ones choose its results if ``seen``."""
        self.steps.append(step)
        self.types.update((v.name, v.type) for v in results)
        self.values.extend(results if seen else ())


class Writer:
    """Draws a program with ``rnd``, of steps that ``simple`` appends, and bodies that each of ``nested`` does."""

    def __init__(
        self,
        rnd: Chooser,
        options: Options,
        simple: Callable[[Writer], None],
        nested: Sequence[Callable[[Writer], None]],
    ) -> None:
        self.rnd = rnd
        self.options = options
        self.simple = simple
        self.nested = nested
        self.budget = options.max_steps  # in all functions together
        self.depth = 0
        self.scope = Scope(())
        self.named = 0

    # --- the whole ---------------------------------------------------------------------------------------------------
    def program(self) -> Program:
        """A program of one to three inputs and one to four results."""
        rnd = self.rnd
        types = [self.type() for _ in range(rnd.randint(1, 3))]
        if self.options.differentiable and not any(map(is_float, types)):
            floats = [d for d in self.options.dtypes if is_float(Type(d, ()))]
            types[0] = types[0]._replace(dtype=rnd.choice(floats))
        if self.often(1, 2) and "int32" in self.options.dtypes:
            types.append(COUNT)
        inputs = tuple(Input(t, rnd.randint(0, 9999)) for t in types)
        self.scope = Scope([Value("abcd"[i], t) for i, t in enumerate(types)])
        self.steps(self.options.max_steps)
        last, *late = self.scope.values[:-5:-1]
        results = [last] + [rnd.choice(late * 4 + self.scope.values) for _ in range(rnd.randint(0, 3))]
        params = tuple(str(v) for v in self.scope.values[: len(types)])
        function = Function("program", params, tuple(self.scope.steps), unpacked(results))
        if not self.options.calls and not self.often(1, 4):
            function = function.live()
        return Program(function, inputs)

    def type(self) -> Type:
        """Of an input."""
        o = self.options
        shape = (
            LARGE if o.shapes is SHAPES and not o.differentiable and self.often(1, 16) else self.rnd.choice(o.shapes)
        )
        return Type(self.rnd.choice(o.dtypes), shape)

    def steps(self, most: int) -> None:
        """Appends steps to the scope."""
        for _ in range(self.rnd.randint(1, most)):
            if self.budget <= 0:
                break
            self.budget -= 1
            odds = (1, 3) if self.depth == 0 else (1, 5)
            if self.depth < DEEPEST and self.often(*odds):
                self.rnd.choice(self.nested)(self)
            else:
                self.simple(self)

    def often(self, k: int, n: int) -> bool:
        """True k times of n; False is simpler."""
        return self.rnd.randint(1, n) > n - k

    # --- values ------------------------------------------------------------------------------------------------------
    def pick(self, ok: Callable[[Type], bool] = lambda t: True) -> Value | None:
        """A value, late ones more often than early ones."""
        found = [v for v in self.scope.values if ok(v.type)]
        return self.rnd.choice(found + found[-4:] * (1 + len(found) // 2)) if found else None

    def any(self) -> Value:
        """A value: there is always one."""
        value = self.pick()
        assert value is not None
        return value

    def of_type(self, t: Type) -> Value:
        """A value of the type: often one that there is, be it used twice or an input."""
        have = [v for v in self.scope.values if v.type == t]
        if have and not self.often(1, 6):
            return self.rnd.choice(have + have[-2:] * (1 + len(have)))
        return self.convert(self.any(), t)

    def convert(self, x: Value, t: Type) -> Value:
        """Any value as one of type ``t``: never from a float to an integer, which rounding could change."""
        if x.type.shape != t.shape:
            if math.prod(x.type.shape) == math.prod(t.shape):
                x = self.add(f"lax.reshape({x}, {t.shape})")
            else:
                total = "any()" if x.type.dtype == "bool" else f"sum(dtype={self.dtype(x)})"
                x = self.add(f"fnp.broadcast_to({self.squash(f'{x}.{total}', x.type)}, {t.shape})")
        if x.type.dtype == t.dtype:
            return x
        to_integer = numpy_dtype(t.dtype).kind in "iub"
        kind = numpy_dtype(x.type.dtype).kind
        if (to_integer and kind not in "iub") or kind == "c":
            return self.add(f"fnp.ones({t.shape}, {dtype_text(t.dtype)})")
        if t.dtype == "bool":
            return self.add(f"{x} % 2 == 1")
        if not to_integer and kind in "iu":
            return self.add(f"({x} % 7).astype({dtype_text(t.dtype)}) * 0.125")
        return self.add(f"{x}.astype({dtype_text(t.dtype)})")

    def count(self, limit: int) -> Value:
        """An integer scalar from 0 to ``limit`` - 1."""
        x = self.pick(lambda t: t.dtype in ("int32", "int8", "uint8", "int64") and 0 not in t.shape)
        if x is None:
            return self.add(f"fnp.asarray({limit - 1}, fnp.int32)")
        index = "" if not x.type.shape else f"[{', '.join('0' * len(x.type.shape))}]"
        return self.add(f"({x}{index} % {limit}).astype(fnp.int32)")

    def apart(self, x: Value) -> Value:
        """x plus half-integers times 3, all different: no ties, and nothing near zero."""
        n = math.prod(x.type.shape)
        steps = f"np.random.default_rng({self.rnd.randint(0, 3)}).permutation({n}).reshape({x.type.shape})"
        return self.add(f"{x} + (3.0 * {steps} - {3.0 * (n // 2) - 1.5}).astype({self.dtype(x)})", seen=False)

    # --- text --------------------------------------------------------------------------------------------------------
    def dtype(self, x: Value) -> str:
        """The dtype's name in the text."""
        return dtype_text(x.type.dtype)

    def squash(self, text: str, t: Type) -> str:
        """Back to order one."""
        if t.dtype.startswith("complex"):
            return f"({text}) * 0.25"
        return f"lax.tanh({text})" if is_float(t) else text

    def axis(self, x: Value) -> int:
        """One of x's."""
        return self.rnd.randint(0, len(x.type.shape) - 1)

    def axes(self, x: Value) -> tuple[int, ...]:
        """One or more of x's, in order."""
        every = range(len(x.type.shape))
        some = tuple(a for a in every if self.often(1, 2))
        return some or (self.axis(x),)

    def name(self, prefix: str) -> str:
        """A new one."""
        self.named += 1
        return f"{prefix}{self.named}"

    # --- steps -------------------------------------------------------------------------------------------------------
    def add(self, expression: str, seen: bool = True, t: Type | None = None) -> Value:
        """The value of an expression, of type ``t`` if that is known; unless ``seen``, later steps do not choose it."""
        value = Value(self.name("v"), t or infer(expression, self.scope.types))
        self.scope.step(Step(value.name, expression), [value], seen)
        return value

    def offer(self, expression: str) -> None:
        """The step, unless its result is too large."""
        if math.prod(infer(expression, self.scope.types).shape) <= LARGEST:
            self.add(expression)

    def values(self, types: Sequence[Type]) -> list[Value]:
        """New ones, of a body or of a step with bodies."""
        return [Value(self.name("v"), t) for t in types]

    def body(
        self,
        params: Sequence[str],
        unpack: Sequence[tuple[str, Sequence[Value]]],
        results: Sequence[Type] | None,
        returns: Callable[[Sequence[Value]], str],
        closed: bool = False,
        given: Sequence[Value] = (),
    ) -> tuple[Function, list[Type]]:
        """A function, and the types of its results.

        Args:
            params: its parameters' names.
            unpack: an expression of them, and the values it is unpacked into.
            results: their types; None: some of its values.
            returns: text of what it returns, given its results.
            closed: it reads nothing from around it.
            given: those parameters that are values themselves.
        """
        around = self.scope
        inside = [*given, *(v for _, values in unpack for v in values)]
        self.scope = Scope(inside, None if closed else around)
        for expression, values in unpack:
            self.scope.steps.append(Step(unpacked(values), expression))
        self.depth += 1
        self.steps(4)
        chosen = [self.rnd.choice(self.scope.values[:-3:-1])] if results is None else [self.of_type(t) for t in results]
        self.depth -= 1
        function = Function(self.name("body"), tuple(params), tuple(self.scope.steps), returns(chosen))
        self.scope = around
        return function, [v.type for v in chosen]


def unpacked(values: Sequence[Value]) -> str:
    """(v1, v2), of one value (v1,): a tuple's text."""
    return f"({', '.join(map(str, values))}{',' if len(values) == 1 else ''})"


def infer(expression: str, types: dict[str, Type]) -> Type:
    """The type of an expression of the names; looked up by the expression with names replaced by their order in it."""
    order: dict[str, str] = {}

    def renamed(match: re.Match[str]) -> str:
        name = match[0]
        return order.setdefault(name, f"x{len(order)}") if name in types else name

    text = WORD.sub(renamed, expression)
    return _infer(text, tuple(types[name] for name in order))


@functools.lru_cache(maxsize=8192)
def _infer(expression: str, types: tuple[Type, ...]) -> Type:
    namespace = namespace_of_fgrad()
    code = f"lambda {', '.join(f'x{i}' for i in range(len(types)))}: {expression}"
    structs = [namespace["fgrad"].ShapeDtypeStruct(t.shape, numpy_dtype(t.dtype)) for t in types]
    out = namespace["fgrad"].eval_shape(eval(code, namespace), *structs)
    return Type(out.dtype.name, tuple(out.shape))
