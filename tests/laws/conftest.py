"""The laws use the checks and the case tables of tests/primitives."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "primitives"))
