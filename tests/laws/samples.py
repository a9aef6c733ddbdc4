"""Samples of every primitive, by its name: a new primitive gets its samples in one of the two files read here."""

import samples_elementwise
import samples_structural
from sample import Sample

SAMPLES: dict[str, list[Sample]] = samples_elementwise.table() | samples_structural.table()
