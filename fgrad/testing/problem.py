"""A problem: one call of a public function on given operands, which prints as a program that can be run."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core import dtypes
from fgrad.primitives.conv import ConvDimensionNumbers

#: Where a function is looked for, by the name that a program imports the module under.
_MODULES = {"lax": lax, "fnp": fnp, "fnp.linalg": fnp.linalg}
_IMPORTS = {
    "ml_dtypes": "import ml_dtypes",
    "np": "import numpy as np",
    "fnp": "import fgrad.numpy as fnp",
    "lax": "from fgrad import lax",
}


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """One call: ``function(*operands, **options)``.

    ``problem.f(*xs)`` is the call on other operands, so that checks take ``problem.f`` and ``problem.operands``.
    ``repr`` is a program that imports what it needs, makes the operands and stores the call's result in ``out``.

    Attributes:
        function: a public function, such as ``lax.conv_general_dilated``.
        operands: NumPy arrays.
        options: arguments by name.
        linear: groups of operand numbers in each of which, the other operands being fixed, the call is linear;
            convolution: ((0,), (1,)); padding, with its fill value: ((0, 1),).
        listed: the operands are passed as one list, as ``lax.concatenate`` takes them.

    >>> import numpy as np
    >>> from fgrad import lax
    >>> from fgrad.testing.problem import Problem
    >>> Problem(lax.rev, (np.array([1.0, 2.0]),), {"dimensions": (0,)})
    import numpy as np
    from fgrad import lax
    <BLANKLINE>
    operand = np.array([1.0, 2.0])
    out = lax.rev(operand, dimensions=(0,))
    """

    function: Callable[..., Any]
    operands: tuple[np.ndarray, ...]
    options: dict[str, Any] = field(default_factory=dict)
    linear: tuple[tuple[int, ...], ...] = ()
    listed: bool = False

    def f(self, *operands: Any) -> Any:
        """The call on other operands, with the same options."""
        return (
            self.function(list(operands), **self.options) if self.listed else self.function(*operands, **self.options)
        )

    def __repr__(self) -> str:
        names = self._operand_names()
        lines = [f"{name} = {array_text(x, f'{name} = ')}" for name, x in zip(names, self.operands)]
        given = [f"[{', '.join(names)}]"] if self.listed else names
        given += [f"{name}={value_text(value)}" for name, value in self.options.items()]
        lines.append(_fitted(f"out = {function_text(self.function)}(", given))
        body = "\n".join(lines)
        used = [text for name, text in _IMPORTS.items() if re.search(rf"\b{name}\.", body)]
        return "\n".join([*used, "", body])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        # Hypothesis and IPython indent what they print: from a line of its own it can be copied as a whole.
        for line in repr(self).splitlines():
            printer.break_()
            printer.text(line)

    def _operand_names(self) -> list[str]:
        if self.listed:
            return [f"x{i}" for i in range(len(self.operands))]
        parameters = inspect.signature(self.function).parameters.values()
        names = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL and p.name not in self.options]
        rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        if rest is not None:
            first = next(i for i, p in enumerate(parameters) if p.kind is p.VAR_POSITIONAL)
            names = names[:first] + [f"{rest}_{i}" for i in range(len(self.operands) - first)]
        return names[: len(self.operands)]


def _fitted(start: str, parts: list[str]) -> str:
    """A call on one line, or with an argument on each."""
    line = f"{start}{', '.join(parts)})"
    return line if len(line) <= 100 else start + "".join(f"\n    {part}," for part in parts) + "\n)"


def function_text(function: Callable[..., Any]) -> str:
    """``lax.add``: the name by which a program calls a public function."""
    name = function.__name__
    for prefix, module in _MODULES.items():
        if getattr(module, name, None) is function:
            return f"{prefix}.{name}"
    raise ValueError(
        f"Problem: the function must be public in {' or '.join(m.__name__ for m in _MODULES.values())}, got "
        f"{function.__module__}.{function.__qualname__}. Use one of theirs."
    )


def dtype_text(dtype: np.dtype) -> str:
    """``np.float32``, ``ml_dtypes.bfloat16``."""
    return "ml_dtypes.bfloat16" if dtype == dtypes.bfloat16 else f"np.{'bool_' if dtype.kind == 'b' else dtype.name}"


def _real_text(value: float) -> str:
    return re.sub(r"\b(nan|inf)\b", r"np.\1", repr(float(value)))


def _complex_text(value: complex) -> str:
    value = complex(value)
    return f"complex({_real_text(value.real)}, {_real_text(value.imag)})"


def array_text(x: np.ndarray, before: str = "") -> str:
    """The expression that makes x, whose lines are aligned to follow ``before``."""
    inferred = x.dtype == np.float64 or (x.dtype == np.bool_ and x.size)
    dtype = "" if inferred else f", dtype={dtype_text(x.dtype)}"
    if x.size == 0:
        return f"np.zeros({x.shape}{dtype})"
    wide = x.astype(np.float32) if x.dtype == dtypes.bfloat16 else x
    formatter: Any = {"float_kind": _real_text, "complex_kind": _complex_text, "int_kind": str, "bool": str}
    elements = np.array2string(
        wide, separator=", ", threshold=x.size + 1, max_line_width=100, prefix=f"{before}np.array(", formatter=formatter
    )
    elements = re.sub(r"\n\n+", "\n", elements)  # NumPy sets matrices apart
    return f"np.array({elements}{dtype})"


def value_text(value: Any) -> str:
    """The expression that makes an option's value."""
    if isinstance(value, ConvDimensionNumbers):
        return f"lax.ConvDimensionNumbers({', '.join(f'{k}={v}' for k, v in value._asdict().items())})"
    if isinstance(value, enum.Enum):
        return f"lax.{type(value).__name__}.{value.name}"
    if isinstance(value, np.dtype):
        return dtype_text(value)
    if isinstance(value, np.ndarray):
        return array_text(value)
    if isinstance(value, np.generic):
        return f"{dtype_text(value.dtype)}({value.item()!r})"
    if isinstance(value, float):
        return _real_text(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(value_text, value))}{',' * (len(value) == 1)})"
    return function_text(value) if callable(value) else repr(value)
