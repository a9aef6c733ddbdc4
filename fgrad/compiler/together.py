"""Element-wise launches that do not depend on each other become one: the update of all parameters is one pass."""

from __future__ import annotations

from collections.abc import Iterable

from fgrad.compiler.schedule import Buffer, Group, Launch, Together

SMALL = 1 << 16  # bytes of a temporary that may live longer than alone
MOST = 128  # launches in one


def together(launches: Iterable[Launch]) -> list[Launch]:
    """The launches; of neighbours that are element-wise and independent, one `Together`."""
    out: list[Launch] = []
    run: list[Group] = []
    made: set[Buffer] = set()

    def close() -> None:
        if not run:
            return
        out.extend([Together(list(run))] if len(run) > 1 else run)
        run.clear()
        made.clear()

    for launch in launches:
        if not isinstance(launch, Group) or not _can_join(launch):
            close()
            out.append(launch)
            continue
        if run and (len(run) == MOST or any([v.buffer in made or v.fence > run[0].position for v in launch.loads])):
            close()
        run.append(launch)
        made.update(launch.writes)
    close()
    return out


def _can_join(group: Group) -> bool:
    """Memory that another launch of the run could have had stays taken: little, or that of the program's results."""
    return not group.folds and all([b.kind == "out" or b.nbytes <= SMALL for b in group.writes])
