"""The JSON of a run, and the table for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.conditions import now
from benchmarks.figures import Spread, percentile, spread
from benchmarks.peers.contestants import BESIDE
from benchmarks.peers.rounds import Line
from benchmarks.plain import aligned
from benchmarks.workloads import WORKLOADS

FORMAT = 2
ONE_AT_A_TIME = "W4"
HEADINGS = (
    *("workload", "engine", "in flight", "wf/s", "(spread)", "act/s"),
    *("p50 ms", "p95", "p99", "ours", "ours is", "(spread)", "in two is", "(spread)"),
)


def report_of(
    lines: Sequence[Line],
    versions: dict[str, dict[str, str]],
    machine: dict[str, Any],
    *,
    seconds: float,
    took_seconds: float,
) -> dict[str, Any]:
    """All that was measured, as plain JSON values. ``machine``: as it was before the run."""
    return {
        "format": FORMAT,
        "taken_at": now(),
        "took_seconds": round(took_seconds),
        "machine": machine,
        "versions": versions,
        "seconds_a_round": seconds,
        "lines": [_as_json(line, lines) for line in lines],
    }


def _as_json(line: Line, lines: Sequence[Line]) -> dict[str, Any]:
    """``ours``: of the same rounds; ``ours_is``: how many times the peer's throughput, of W4 the p50 through ours.

    ``ours_in_two`` and ``ours_in_two_is``: the same of ours in two processes, beside a peer that uses several itself.
    """
    assert line.conditions is not None
    found: dict[str, Any] = {
        "workload": line.workload,
        "engine": line.contestant.label,
        "is_peer": line.contestant.environment is not None,
        "in_flight": line.in_flight,
        "activities": WORKLOADS[line.workload].activities if line.workload in WORKLOADS else 0,
        "rounds": len(line.rounds),
        "problem": line.problem,
        "conditions": dataclasses.asdict(line.conditions),
    }
    if line.rounds:
        found["workflows_per_second"] = _of(lambda one: one.rate, line)
        for percent in (50, 95, 99):
            found[f"p{percent}_ms"] = _of(lambda one, it=percent: percentile(one.latencies, it) * 1e3, line)
    for name, processes in (("ours", 1), ("ours_in_two", 2)):
        if (ours := _ours_beside(line, lines, processes)) is not None:
            found[name] = {
                "workflows_per_second": _of(lambda one: one.rate, ours),
                "p50_ms": _of(lambda one: percentile(one.latencies, 50) * 1e3, ours),
            }
            found[f"{name}_is"] = dataclasses.asdict(against(line, ours))
    return found


def _of(value: Callable[..., float], line: Line) -> dict[str, float]:
    return dataclasses.asdict(spread([value(one) for one in line.rounds]))


def _ours_beside(line: Line, lines: Sequence[Line], processes: int) -> Line | None:
    """Our line on the store of a peer's, in so many processes, if both have rounds.

    In several processes ours stands only beside a peer that uses several itself.
    """
    if line.contestant.environment is None or not line.rounds:
        return None
    if processes > 1 and line.contestant.processes == 1:
        return None
    store = BESIDE.get(line.contestant.store, line.contestant.store)
    for one in lines:
        if (
            one.contestant.environment is None
            and one.contestant.processes == processes
            and one.contestant.store == store
            and one.workload == line.workload
        ):
            return one if one.rounds else None
    return None


def against(line: Line, ours: Line) -> Spread:
    """How many times its throughput is ours, in the same rounds; of one at a time: its p50 through ours."""
    pairs = list(zip(ours.rounds, line.rounds, strict=False))
    if line.workload == ONE_AT_A_TIME:
        return spread([percentile(b.latencies, 50) / percentile(a.latencies, 50) for a, b in pairs])
    return spread([a.rate / b.rate for a, b in pairs])


def table(report: Mapping[str, Any]) -> str:
    """One line a workload, engine and number in flight; medians."""
    return aligned([HEADINGS, *(_row(line) for line in report["lines"])], left=2)


def _row(line: Mapping[str, Any]) -> tuple[str, ...]:
    start = (line["workload"], line["engine"], str(line["in_flight"]))
    if not line["rounds"]:
        return (*start, "failed", *("",) * (len(HEADINGS) - 4))
    rate, alone = line["workflows_per_second"], line["workload"] == ONE_AT_A_TIME
    ours = line.get("ours")
    return (
        *start,
        f"{rate['median']:,.0f}" + ("" if line["problem"] is None else " (failed later)"),
        f"({rate['least']:,.0f}-{rate['most']:,.0f})",
        f"{rate['median'] * line['activities']:,.0f}" if line["activities"] else "",
        *(f"{line[f'p{percent}_ms']['median']:,.1f}" if alone else "" for percent in (50, 95, 99)),
        "" if ours is None else _ours_cell(ours, alone),
        *_ratio_cells(line.get("ours_is")),
        *_ratio_cells(line.get("ours_in_two_is")),
    )


def _ratio_cells(ratio: Mapping[str, float] | None) -> tuple[str, str]:
    if ratio is None:
        return "", ""
    return f"{ratio['median']:.1f} x", f"({ratio['least']:.1f}-{ratio['most']:.1f})"


def _ours_cell(ours: Mapping[str, Any], alone: bool) -> str:
    if alone:
        return f"{ours['p50_ms']['median']:,.1f} ms"
    return f"{ours['workflows_per_second']['median']:,.0f}"


def problems(lines: Sequence[Line]) -> list[str]:
    """What failed, with the last line of what it said."""
    return [
        f"{line.workload} {line.contestant.label}, {line.in_flight} in flight, failed after {len(line.rounds)} rounds: "
        f"{line.problem}"
        for line in lines
        if line.problem is not None
    ]
