"""Tables of the profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.plain import markdown
from benchmarks.published.names import marked, store_name

Made = Mapping[str, Any]


def tables(made: Made) -> str:
    """A table a workload: microseconds of CPU a workflow, by room, the main thread and all others."""
    workloads = list(dict.fromkeys(one["workload"] for one in made["profiles"]))
    return "\n\n".join(
        _table(name, [one for one in made["profiles"] if one["workload"] == name]) for name in workloads
    )


def _table(workload: str, profiles: Sequence[Made]) -> str:
    heading = [f"{workload}, µs of CPU a workflow"]
    for one in profiles:
        name = marked(store_name(one["store"], one["loop"]), one["conditions"])
        heading += [f"{name}: main thread", "others"]
    rows = [heading]
    for at, room in enumerate(profiles[0]["rooms"]):
        row = [room["room"]]
        for one in profiles:
            row += [f"{one['rooms'][at]['main_us']:,.0f}", f"{one['rooms'][at]['others_us']:,.0f}"]
        rows.append(row)
    total = ["**all**"]
    for one in profiles:
        total += [f"**{one['main_us']:,.0f}**", f"**{one['others_us']:,.0f}**"]
    rows.append(total)
    if any(one["server_us"] is not None for one in profiles):
        beside = ["beside it: the server's processes"]
        for one in profiles:
            beside += ["" if one["server_us"] is None else f"{one['server_us']:,.0f}", ""]
        rows.append(beside)
    return markdown(rows)


def hottest(made: Made) -> str:
    """For the terminal: the functions with the most time of their own."""
    parts = []
    for one in made["profiles"]:
        lines = [f"{one['workload']} {one['store']}: {one['samples']:,} stacks; functions, µs a workflow"]
        lines += [f"  {us:8,.1f}  {function}" for function, us in one["hottest"]]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
