"""Numbers out of rounds: medians and spreads. Nothing is measured here."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.conditions import Conditions
from benchmarks.measured import Measured
from benchmarks.tape import Written
from benchmarks.workloads import Workload

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Of the rounds: the median, the least, the most."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The engine's or the floor's. ``latency_ms`` by percentile: ``p50``, ``p95``, ``p99``."""

    workflows_per_second: Spread
    activities_per_second: Spread
    cpu_us_per_workflow: Spread
    latency_ms: dict[str, Spread]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A workload on a store, beside its floor. Ratios are taken in each round, then their median.

    ``throughput_ratio``: the engine's workflows a second through the floor's, 1 is the floor. ``cpu_ratio`` and
    ``latency_ratio`` (p50): the engine's through the floor's; the latter only of one workflow at a time, for a bare
    script knows no latency of work that shares its commits. What was written is ``None`` for memory.
    """

    workload: str
    title: str
    store: str
    loop: str
    floor_kind: str
    workflows: int
    activities_per_workflow: int
    in_flight: int
    rounds: int
    engine: Side
    floor: Side
    throughput_ratio: Spread
    cpu_ratio: Spread
    latency_ratio: Spread | None
    written: Written | None
    written_alone: Written | None
    conditions: Conditions


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(median=statistics.median(values), least=min(values), most=max(values))


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent of the values do not pass. Nothing is interpolated."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def side(workload: Workload, count: int, rounds: Sequence[Measured]) -> Side:
    """What all rounds of one side come to."""
    return Side(
        workflows_per_second=spread([count / one.seconds for one in rounds]),
        activities_per_second=spread([count * workload.activities / one.seconds for one in rounds]),
        cpu_us_per_workflow=spread([one.cpu_seconds / count * 1e6 for one in rounds]),
        latency_ms={
            f"p{percent}": spread([percentile(one.latencies, percent) * 1e3 for one in rounds])
            for percent in PERCENTILES
        },
    )


Pairs = Sequence[tuple[Measured, Measured]]
"""Engine and floor, round by round."""


def throughput_ratio(pairs: Pairs) -> Spread:
    """The engine's through the floor's."""
    return spread([floor.seconds / engine.seconds for engine, floor in pairs])


def cpu_ratio(pairs: Pairs) -> Spread:
    """The engine's through the floor's."""
    return spread([engine.cpu_seconds / floor.cpu_seconds for engine, floor in pairs])


def latency_ratio(workload: Workload, pairs: Pairs) -> Spread | None:
    """The engine's p50 through the floor's, of one workflow at a time."""
    if workload.in_flight > 1:
        return None
    return spread(
        [percentile(engine.latencies, 50) / percentile(floor.latencies, 50) for engine, floor in pairs]
    )
