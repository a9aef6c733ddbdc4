"""Samples of every primitive, by its name: a new primitive gets its samples in one of the files read here."""

import samples_callbacks
import samples_control
import samples_custom
import samples_elementwise
import samples_linalg
import samples_ordered
import samples_structural
from sample import Sample

SAMPLES: dict[str, list[Sample]] = samples_elementwise.table() | samples_ordered.table() | samples_structural.table()
SAMPLES |= samples_control.table() | samples_callbacks.table() | samples_custom.table()
SAMPLES |= samples_linalg.table()
