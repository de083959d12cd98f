"""The table for people, the JSON file for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.conditions import now
from benchmarks.figures import Figures
from benchmarks.names import store_and_loop
from benchmarks.plain import aligned
from benchmarks.probes.reading import Probed

FORMAT = 2
_HEADINGS = (
    *("workload", "store", "wf/s", "act/s", "floor wf/s", "ratio", "(spread)"),
    *("CPU µs/wf", "x floor", "p50 ms", "p95", "p99", "x floor", "commits/wf", "alone"),
)


def report_of(
    figures: Sequence[Figures],
    probed: Sequence[Probed],
    *,
    quick: bool,
    commit_us: float,
    servers: dict[str, str],
    machine: dict[str, Any],
) -> dict[str, Any]:
    """All that was measured, as plain JSON values. ``machine``: as it was before the run."""
    return {
        "format": FORMAT,
        "taken_at": now(),
        "quick": quick,
        "machine": {**machine, "servers": servers, "commit_of_one_row_us": commit_us},
        "figures": [dataclasses.asdict(one) for one in figures],
        "probes": [dataclasses.asdict(one) for one in probed],
    }


def write(report: dict[str, Any], path: Path) -> None:
    """Write the JSON file, and its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def table(figures: Sequence[Figures]) -> str:
    """One line a workload and store; medians."""
    return aligned([_HEADINGS, *(_row(one) for one in figures)], left=2)


def _row(one: Figures) -> tuple[str, ...]:
    ratio, latency = one.throughput_ratio, one.engine.latency_ms
    return (
        one.workload,
        store_and_loop(one.store, one.loop) + (" *" if one.conditions.busy else ""),
        f"{one.engine.workflows_per_second.median:,.0f}",
        f"{one.engine.activities_per_second.median:,.0f}",
        f"{one.floor.workflows_per_second.median:,.0f}",
        f"{ratio.median:.3f}",
        f"({ratio.least:.3f}-{ratio.most:.3f})",
        f"{one.engine.cpu_us_per_workflow.median:,.0f}",
        f"{one.cpu_ratio.median:.1f}",
        *(f"{latency[name].median:.2f}" for name in ("p50", "p95", "p99")),
        "-" if one.latency_ratio is None else f"{one.latency_ratio.median:.1f}",
        "-" if one.written is None else f"{one.written.commits:.2f}",
        "-" if one.written_alone is None else f"{one.written_alone.commits:.1f}",
    )
