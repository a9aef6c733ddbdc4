"""A fault: a small mistake of the kind that people make, in the source of a rule or of something a rule calls."""

from typing import Literal, NamedTuple

Slot = Literal["abstract", "jvp", "transpose", "batch"]


class Fault(NamedTuple):
    """``old`` in a function of the module becomes ``new``; the laws of these primitives should notice.

    slot : the rule that is mistaken.
    function : its qualified name, or '' for a lambda in a table, which ``old`` then tells from all others.
    """

    slot: Slot
    primitives: tuple[str, ...]
    module: str
    function: str
    old: str
    new: str
    what: str

    def __str__(self) -> str:
        return f"{self.slot}-{self.primitives[0]}-{self.what.replace(' ', '_')}"


def faults(module: str, primitives: str, *rows: tuple[Slot, str, str, str, str]) -> list[Fault]:
    """Faults of one module: rows (slot, function, old, new, what)."""
    return [
        Fault(slot, tuple(primitives.split()), f"fgrad.{module}", function, old, new, what)
        for slot, function, old, new, what in rows
    ]
