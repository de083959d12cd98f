"""Tables of how it grows with more processes, and what the limit is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.plain import markdown
from benchmarks.published.names import marked, store_name

Made = Mapping[str, Any]
GROUPS = ("processes", "worker", "database")
NEARLY = 0.85
"""Of a core, or of all: what is left is the unevenness of a short line."""


def table(made: Made, group: str) -> str:
    """The lines of a group, against the first of the same store."""
    heading = [
        "",
        "W1 wf/s",
        "",
        "CPU µs/wf: clients",
        "workers",
        "server",
        "cores",
        "log KB/wf",
        "commits/wf",
    ]
    rows = [[*heading, "connections", "limit"]]
    first: dict[str, float] = {}
    for row in made["rows"]:
        if row["group"] == group:
            against = first.setdefault(row["store"], row["worked"]["per_second"])
            rows.append(
                _row(row, against, made["machine"]["cores"], len({one["store"] for one in made["rows"]}) > 1)
            )
    return markdown(rows)


def _row(row: Made, against: float, cores: int, named: bool) -> list[str]:
    worked = row["worked"]
    what = marked(f"{store_name(row['store'])}: {row['what']}" if named else row["what"], row["conditions"])
    together = not row["workers"]
    return [
        what,
        f"{worked['per_second']:,.0f}",
        f"{worked['per_second'] / against:.2f} x",
        f"{worked['clients_us']:,.0f}",
        "(in it)" if together else f"{worked['workers_us']:,.0f}",
        f"{worked['server_us']:,.0f}" if worked["connections"] is not None else "",
        f"{worked['cores']:.2f}",
        "" if worked["written_bytes"] is None else f"{worked['written_bytes'] / 1024:.1f}",
        "" if worked["commits"] is None else f"{worked['commits']:.2g}",
        "" if worked["connections"] is None else str(worked["connections"]),
        limit(worked, cores),
    ]


def limit(worked: Made, cores: int) -> str:
    """What stands in the way of more: the machine, one process, or waiting (for commits, or to be told)."""
    if worked["cores"] >= NEARLY * cores:
        return "all cores"
    if worked["busiest"] >= NEARLY:
        return "one process's core"
    return "waiting"


def best(made: Made) -> str:
    """By store the line that carries most, and what a workflow costs there. Of the tables with the default settings."""
    heading = ["", "carried by", "W1 wf/s", "CPU µs/wf of all", "that is, wf/s a core", "the limit then"]
    rows = [heading]
    for store in dict.fromkeys(row["store"] for row in made["rows"]):
        lines = [row for row in made["rows"] if row["store"] == store and row["group"] == "processes"]
        if lines:
            rows.append(
                _best_row(max(lines, key=lambda row: float(row["worked"]["per_second"])), made["machine"])
            )
    return markdown(rows)


def _best_row(row: Made, machine: Made) -> list[str]:
    worked = row["worked"]
    price = worked["clients_us"] + worked["workers_us"] + worked["server_us"]
    return [
        marked(store_name(row["store"]), row["conditions"]),
        row["what"],
        f"{worked['per_second']:,.0f}",
        f"{price:,.0f}",
        f"{1e6 / price:,.0f}",
        limit(worked, machine["cores"]),
    ]
