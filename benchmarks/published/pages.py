"""The pages, whose tables stand between ``<!-- table: name -->`` and ``<!-- end of table -->``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.published import aims, bench, conditions, peers, profiles, scaling

PLACE = Path(__file__).parent.parent
PAGES = ("README.md", "scale.md")
NOT_YET = "*Not measured yet.*"
_MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(\n<!-- end of table -->)", re.DOTALL)

Table = Callable[[Mapping[str, Any]], str]
TABLES: dict[str, tuple[tuple[str, ...], Table]] = {
    "aims": (("bench", "peers"), aims.table),
    "bench-conditions": (("bench",), lambda all_of: conditions.sentence(all_of["bench"])),
    "floor": (("bench",), lambda all_of: bench.floor_table(all_of["bench"])),
    "probes": (("bench",), lambda all_of: bench.probe_table(all_of["bench"])),
    "processes": (("bench",), lambda all_of: bench.processes_table(all_of["bench"])),
    "peers-conditions": (("peers",), lambda all_of: conditions.sentence(all_of["peers"])),
    "peers": (("peers",), lambda all_of: peers.table(all_of["peers"])),
    "profile-conditions": (("profile",), lambda all_of: conditions.sentence(all_of["profile"])),
    "profiles": (("profile",), lambda all_of: profiles.tables(all_of["profile"])),
    "scale-conditions": (("scale",), lambda all_of: conditions.sentence(all_of["scale"])),
    "scale-best": (("scale",), lambda all_of: scaling.best(all_of["scale"])),
    **{
        f"scale-{group}": (("scale",), lambda all_of, it=group: scaling.table(all_of["scale"], it))  # type: ignore[misc]
        for group in scaling.GROUPS
    },
}
"""By name: what it is made from, and how."""


def filled(page: str, all_of: Mapping[str, Any]) -> str:
    """A page with today's tables between its marks. Raises ``KeyError`` for a name that there is not."""

    def table(found: re.Match[str]) -> str:
        needs, make = TABLES[found[2]]
        text = make(all_of) if all(need in all_of for need in needs) else NOT_YET
        return found[1] + text + found[3]

    return _MARKED.sub(table, page)


def write(all_of: Mapping[str, Any], place: Path = PLACE) -> list[str]:
    """Bring the pages up to date; the names of those that changed."""
    changed = []
    for name in PAGES:
        before = (place / name).read_text(encoding="utf-8")
        if (after := filled(before, all_of)) != before:
            (place / name).write_text(after, encoding="utf-8")
            changed.append(name)
    return changed
