"""Whether the laws notice what is planted: the one place that knows where the laws and their samples are."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import fgrad
from fgrad.core.jaxpr import ClosedJaxpr
from fgrad.core.primitive import REGISTRY
from fgrad.testing import laws
from fgrad.testing.call import SCIPY
from fgrad.testing.sample import Sample
from fgrad.testing.samples import table

SAMPLES = table()
# the law that is most likely to notice a mistake in this slot first
ORDER = {
    "abstract": ("types", "adjoints", "tangents", "second", "batching", "batched", "jit", "linear", "values"),
    "jvp": ("tangents", "adjoints", "second", "batched", "jit", "types", "batching", "linear", "values"),
    "transpose": ("adjoints", "second", "batched", "jit", "tangents", "types", "batching", "linear", "values"),
    "batch": ("batching", "batched", "types", "tangents", "adjoints", "second", "jit", "linear", "values"),
}


class Notice(NamedTuple):
    """The law that failed, on which sample, and how."""

    law: str
    primitive: str
    sample: int
    error: Exception

    def __str__(self) -> str:
        return f"{self.law} of {self.primitive}[{self.sample}]: {type(self.error).__name__}: {self.error}"


def samples(name: str) -> list[Sample]:
    """The samples, without those for which this installation lacks SciPy."""
    return [s for s in SAMPLES[name] if SCIPY or not s.scipy]


def first_notice(slot: str, primitives: Sequence[str], most: int | None = None) -> Notice | None:
    """The first law that fails, or is kept from its answer by an error, on one of the first ``most`` samples."""
    for law in ORDER[slot]:
        for name in primitives:
            for i, sample in enumerate(samples(name)[:most]):
                try:
                    laws.LAWS[law](REGISTRY[name], sample)
                except Exception as error:
                    return Notice(law, name, i, error)
    return None


def forget(primitives: Sequence[str]) -> None:
    """What was traced, compiled or derived by the rules as they were."""
    fgrad.clear_caches()
    for name in primitives:
        for sample in SAMPLES[name]:
            for closed in _jaxprs(tuple(sample.params.values())):
                closed.derived.clear()


def _jaxprs(values: tuple[Any, ...]) -> Iterator[ClosedJaxpr]:
    for x in values:
        if isinstance(x, ClosedJaxpr):
            yield x
        elif isinstance(x, tuple):
            yield from _jaxprs(x)
