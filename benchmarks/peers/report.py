"""The table and the JSON file."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from typing import Any

from benchmarks.figures import Spread, percentile, spread
from benchmarks.peers.rounds import Line
from benchmarks.workloads import WORKLOADS

FORMAT = 1
_HEADINGS = (
    "workload",
    "engine",
    "in flight",
    "wf/s",
    "(spread)",
    "act/s",
    "p50 ms",
    "p95",
    "p99",
    "ours is",
    "(spread)",
)


def report_of(
    lines: Sequence[Line], versions: dict[str, dict[str, str]], *, seconds: float, load: float
) -> dict[str, Any]:
    """All that was measured, as plain JSON values."""
    return {
        "format": FORMAT,
        "taken_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "load_before": load,
        },
        "versions": versions,
        "seconds_a_round": seconds,
        "lines": [_as_json(line, lines) for line in lines],
    }


def _as_json(line: Line, lines: Sequence[Line]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "workload": line.workload,
        "engine": line.contestant.label,
        "in_flight": line.in_flight,
        "rounds": len(line.rounds),
        "problem": line.problem,
    }
    if line.rounds:
        found["workflows_per_second"] = _plain(spread([one.rate for one in line.rounds]))
        found["latency_ms"] = {
            f"p{percent}": _plain(spread([percentile(one.latencies, percent) * 1e3 for one in line.rounds]))
            for percent in (50, 95, 99)
        }
        if (ratio := against(line, lines)) is not None:
            found["ours_through_this"] = _plain(ratio)
    return found


def _plain(found: Spread) -> dict[str, float]:
    return {"median": found.median, "least": found.least, "most": found.most}


def against(line: Line, lines: Sequence[Line]) -> Spread | None:
    """How many times its throughput is ours, in the same rounds; of one at a time: its p50 through ours."""
    if line.contestant.environment is None or not line.rounds:
        return None
    store = {"own": "postgres"}.get(line.contestant.store, line.contestant.store)
    ours = next(
        one
        for one in lines
        if one.contestant.environment is None
        and one.contestant.store == store
        and one.workload == line.workload
    )
    pairs = list(zip(ours.rounds, line.rounds, strict=False))
    if not pairs:
        return None
    if line.workload == "W4":
        return spread([percentile(b.latencies, 50) / percentile(a.latencies, 50) for a, b in pairs])
    return spread([a.rate / b.rate for a, b in pairs])


def table(lines: Sequence[Line]) -> str:
    """One line a workload, engine and number in flight; medians."""
    rows = [_HEADINGS, *(_row(line, lines) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(line: Line, lines: Sequence[Line]) -> tuple[str, ...]:
    start = (line.workload, line.contestant.label, str(line.in_flight))
    if not line.rounds:
        return (*start, "failed", *("",) * (len(_HEADINGS) - 4))
    rates = spread([one.rate for one in line.rounds])
    alone = line.workload == "W4"
    latencies = [
        f"{spread([percentile(one.latencies, percent) * 1e3 for one in line.rounds]).median:,.1f}"
        if alone
        else ""
        for percent in (50, 95, 99)
    ]
    ratio = against(line, lines)
    return (
        *start,
        f"{rates.median:,.0f}" + ("" if line.problem is None else " (failed later)"),
        f"({rates.least:,.0f}-{rates.most:,.0f})",
        f"{rates.median * WORKLOADS[line.workload].activities:,.0f}",
        *latencies,
        "" if ratio is None else f"{ratio.median:.1f} x",
        "" if ratio is None else f"({ratio.least:.1f}-{ratio.most:.1f})",
    )
