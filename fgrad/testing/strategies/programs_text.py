"""A program as a small tree of typed steps that is also source text: what a writer makes, and what runs.

Every value has a name of its own, so a body reads what surrounds it as any Python function does.  The text uses public
names only (``fgrad.``, ``lax.``, ``fnp.``, ``np.``) and may be run with the modules of another library under them.
"""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fgrad.core import dtypes

IMPORTS = "import numpy as np\n\nimport fgrad\nimport fgrad.numpy as fnp\nfrom fgrad import lax\n"
SHORT = 6  # elements of an argument that are printed one by one
WORD = re.compile(r"\b[a-z]+\d*\b")


class Type(NamedTuple):
    """A dtype's name and a shape."""

    dtype: str
    shape: tuple[int, ...]


COUNT = Type("int32", ())


def numpy_dtype(name: str) -> np.dtype:
    """np.dtype("float32"), and of "bfloat16"."""
    return np.dtype(dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def is_float(t: Type) -> bool:
    """Real floating-point."""
    return t.dtype in ("float16", "bfloat16", "float32", "float64")


class Value(NamedTuple):
    """A variable of the program."""

    name: str
    type: Type

    def __str__(self) -> str:
        return self.name


class Step(NamedTuple):
    """``target = expression`` between the definitions of the functions that it names and what must follow it."""

    target: str
    expression: str
    functions: tuple[Function, ...] = ()
    after: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Of its source."""
        before = [line for f in self.functions for line in f.lines()]
        return [*before, f"{self.target} = {self.expression}", *self.after]


class Function(NamedTuple):
    """A function of the text: its parameters, its steps, and the expression it returns."""

    name: str
    params: tuple[str, ...]
    steps: tuple[Step, ...]
    returns: str

    def lines(self) -> list[str]:
        """Of its source."""
        body = [line for step in self.steps for line in step.lines()]
        return [f"def {self.name}({', '.join(self.params)}):", *("    " + x for x in (*body, f"return {self.returns}"))]

    def live(self) -> Function:
        """This function without the steps whose results nothing reads."""
        needed, kept = words(self.returns), []
        for step in reversed(self.steps):
            if words(step.target) & needed:
                step = step._replace(functions=tuple(f.live() for f in step.functions))
                kept.append(step)
                needed |= words("\n".join(step.lines()))
        return self._replace(steps=tuple(reversed(kept)))


def words(text: str) -> set[str]:
    """The names in a text, and more."""
    return set(WORD.findall(text))


class Input(NamedTuple):
    """An argument: uniform in (-1, 1), integers from 0 to 19, booleans; ``text`` says which, and gives it back."""

    type: Type
    seed: int

    def array(self) -> np.ndarray:
        """Its value."""
        rng, (name, shape) = np.random.default_rng(self.seed), self.type
        dtype = numpy_dtype(name)
        if name == "bool":
            return np.asarray(rng.integers(0, 2, shape), bool)
        if dtype.kind in "iu":
            return np.asarray(rng.integers(0, 20, shape), dtype)
        return np.asarray(np.round(rng.uniform(-1, 1, shape), 4), dtype)

    def text(self) -> str:
        """An expression of it."""
        x, dtype = self.array(), dtype_text(self.type.dtype)
        if 0 in self.type.shape:
            return f"np.zeros({self.type.shape}, {dtype})"
        if x.size <= SHORT:
            wide = x.astype(np.float64).round(4).tolist() if is_float(self.type) else x.tolist()
            return f"np.array({wide}, {dtype})"
        rng = f"np.random.default_rng({self.seed})"
        if self.type.dtype == "bool" or x.dtype.kind in "iu":
            return f"{rng}.integers(0, {2 if self.type.dtype == 'bool' else 20}, {self.type.shape}).astype({dtype})"
        return f"{rng}.uniform(-1, 1, {self.type.shape}).round(4).astype({dtype})"


def dtype_text(name: str) -> str:
    """As the program's text names it: fnp has bfloat16, and both libraries have fnp."""
    return "fnp.bool_" if name == "bool" else f"fnp.{name}"


class Program:
    """A random program.  ``repr`` is a snippet that runs it.

    ``f`` is the function, ``args`` its arguments (np.ndarrays), ``f(*args)`` a tuple of one or more arrays.

    >>> import random
    >>> from fgrad.testing.strategies import random_program
    >>> program = random_program(random.Random(3), max_steps=2)
    >>> isinstance(program.f(*program.args), tuple)
    True
    """

    def __init__(self, function: Function, inputs: tuple[Input, ...]) -> None:
        self.function = function
        self.inputs = inputs
        self.source = "\n".join(function.lines()) + "\n"
        self.args = tuple(x.array() for x in inputs)

    @property
    def types(self) -> tuple[Type, ...]:
        """Of the arguments."""
        return tuple(x.type for x in self.inputs)

    @functools.cached_property
    def f(self) -> Callable[..., tuple[Any, ...]]:
        """The function, in fgrad."""
        return self.bind()

    def bind(self, **names: Any) -> Callable[..., tuple[Any, ...]]:
        """The function with other things under its names (``fgrad``, ``lax``, ``fnp``, ``np``, and those of
        ``calls``): ``program.bind(fgrad=jax, lax=jax.lax, fnp=jax.numpy)``.
        """
        namespace = {**namespace_of_fgrad(), **names}
        exec(compile(self.source, "<program>", "exec"), namespace)  # the text is ours
        function, asarray = namespace[self.function.name], namespace["fnp"].asarray
        return lambda *args: function(*map(asarray, args))  # a NumPy array has no .at

    @property
    def narrowest(self) -> str:
        """The floating-point dtype of the fewest digits that it computes in; float64 without any."""
        text = self.source + " ".join(f"fnp.{t.dtype}" for t in self.types)
        names = ("bfloat16", "float16", "float32", "float64")
        return next((d for d in names if re.search(rf"\bfnp\.{d}\b", text)), "float64")

    def widened(self) -> Program:
        """The same program, on the same numbers, with float64 for every narrower float: what rounding does to it."""
        wide = Program(self.function, self.inputs)
        wide.source = re.sub(r"\bfnp\.b?float(16|32)\b", "fnp.float64", self.source)
        wide.args = tuple(x.astype(np.float64) if is_float(t) else x for x, t in zip(self.args, self.types))
        return wide

    def __repr__(self) -> str:
        made = [f"{name} = fnp.asarray({x.text()})" for name, x in zip(self.function.params, self.inputs)]
        call = f"{self.function.name}({', '.join(self.function.params)})"
        return "\n".join([IMPORTS, *made, "\n", self.source, f"\nprint({call})"])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Hypothesis prints a failing example by this: the snippet as it is, set off from the text before it."""
        printer.text("\n" + textwrap.indent(repr(self), "    ") + "\n")


@functools.cache
def namespace_of_fgrad() -> dict[str, Any]:
    """What the imports of the snippet bind."""
    namespace: dict[str, Any] = {}
    exec(IMPORTS, namespace)
    return namespace
