"""The table of the other engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.plain import markdown
from benchmarks.published.names import marked, store_name

Made = Mapping[str, Any]
ONE_AT_A_TIME = "W4"


def table(made: Made) -> str:
    """A line a workload, peer and number in flight."""
    heading = ["", "peer, store", "in flight", "peer wf/s (spread)", "ours wf/s", "ours is (spread)"]
    heading.append("ours in two processes is")
    lines = [line for line in made["lines"] if line["is_peer"]]
    lines.sort(key=lambda line: line["workload"])
    failed = [
        f"{line['workload']} on {_engine(line)} with {line['in_flight']} in flight failed after {line['rounds']} "
        f"rounds: {line['problem']}"
        for line in made["lines"]
        if line["problem"] is not None
    ]
    return "\n\n".join([markdown([heading, *(_row(line) for line in lines)]), *failed])


def _engine(line: Made) -> str:
    name, _, store = line["engine"].partition("/")
    return f"{name}, {store_name(store)}"


def _row(line: Made) -> list[str]:
    engine = marked(_engine(line), line["conditions"])
    alone = line["workload"] == ONE_AT_A_TIME
    start = [line["workload"] + (" p50" if alone else ""), engine, str(line["in_flight"])]
    if not line["rounds"]:
        return [*start, "failed", "", "", ""]
    name, unit = ("p50_ms", " ms") if alone else ("workflows_per_second", "")
    peer, ours = line[name], line.get("ours")
    return [
        *start,
        f"{_short(peer['median'])} ({_short(peer['least'])}-{_short(peer['most'])}){unit}",
        "" if ours is None else f"{_short(ours[name]['median'])}{unit}",
        _ratio(line.get("ours_is")),
        _ratio(line.get("ours_in_two_is")),
    ]


def _ratio(found: Mapping[str, float] | None) -> str:
    return "" if found is None else f"{found['median']:.1f} ({found['least']:.1f}-{found['most']:.1f})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"
