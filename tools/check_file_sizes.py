"""Fails when a Python file has grown past the length at which it tells more than one story.

Run by ``make lint``. A file that is long for a good reason is listed below with that reason.
"""

import sys
from pathlib import Path

LIMIT = 500
LONGER: dict[str, str] = {}  # path from the repository root -> why it is one story all the same

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("fgrad", "tests", "tools", "benchmarks", "examples", "docs")


def problems() -> list[str]:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    too_long = [
        f"{name}: {n} lines, at most {LIMIT}. Split it, or list it in tools/check_file_sizes.py with the reason."
        for name, n in lengths.items()
        if n > LIMIT and name not in LONGER
    ]
    stale = [
        f"{name}: listed in tools/check_file_sizes.py, but it is missing or within {LIMIT} lines. Remove the entry."
        for name in LONGER
        if lengths.get(name, 0) <= LIMIT
    ]
    return too_long + stale


if __name__ == "__main__":
    found = problems()
    print("\n".join(found) or f"no Python file exceeds {LIMIT} lines")
    sys.exit(bool(found))
