"""Tables of what ``python -m benchmarks`` measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.plain import markdown
from benchmarks.published.names import marked, store_name

Made = Mapping[str, Any]
APART = "W10"
"""A probe with a table of its own."""


def floor_table(made: Made) -> str:
    """W1 to W4 beside the floor."""
    heading = ["", "store", "wf/s", "activities/s", "floor wf/s", "ratio (spread)", "CPU µs/wf"]
    heading += ["p50 / p95 / p99 ms", "p50 x floor", "commits/wf", "alone"]
    order = {name: at for at, name in enumerate(("sqlite", "postgres", "mysql", "mysql/asyncmy", "memory"))}
    figures = sorted(made["figures"], key=lambda one: (order[one["store"]], one["loop"], one["workload"]))
    return markdown([heading, *(_floor_row(one) for one in figures)])


def _floor_row(one: Made) -> list[str]:
    engine, ratio, alone = one["engine"], one["throughput_ratio"], one["latency_ratio"]
    latency = " / ".join(f"{engine['latency_ms'][name]['median']:.1f}" for name in ("p50", "p95", "p99"))
    return [
        one["workload"],
        marked(store_name(one["store"], one["loop"]), one["conditions"]),
        f"{engine['workflows_per_second']['median']:,.0f}",
        f"{engine['activities_per_second']['median']:,.0f}",
        f"{one['floor']['workflows_per_second']['median']:,.0f}",
        f"{ratio['median']:.2f} ({ratio['least']:.2f}-{ratio['most']:.2f})",
        f"{engine['cpu_us_per_workflow']['median']:,.0f}",
        latency if alone is not None else "",
        "" if alone is None else f"{alone['median']:.1f}",
        "" if one["written"] is None else f"{one['written']['commits']:.2g}",
        "" if one["written_alone"] is None else f"{one['written_alone']['commits']:.3g}",
    ]


def probe_table(made: Made) -> str:
    """A line a reading, a column a store."""
    probes = [one for one in made["probes"] if one["probe"] != APART]
    stores = list(dict.fromkeys(one["store"] for one in probes))
    rows = [["", "", *(store_name(store) for store in stores), "aim"]]
    for name, reading in _readings(probes):
        cells, aim = [], ""
        for store in stores:
            found = _reading(probes, name, store, reading)
            cells.append("" if found is None else found[0])
            aim = aim if found is None else found[1]
        rows.append([name, reading, *cells, aim])
    return markdown(rows)


def _readings(probes: Sequence[Made]) -> Iterator[tuple[str, str]]:
    pairs = {(one["probe"], reading): None for one in probes for reading in one["values"]}
    yield from sorted(pairs, key=lambda pair: [one["probe"] for one in probes].index(pair[0]))


def _reading(probes: Sequence[Made], name: str, store: str, reading: str) -> tuple[str, str] | None:
    """With its unit; and the aim."""
    for one in probes:
        if one["probe"] == name and one["store"] == store and reading in one["values"]:
            values, unit, aim = one["values"][reading]
            around = f" ({_short(values['least'])}-{_short(values['most'])})" if one["rounds"] > 1 else ""
            return marked(f"{_short(values['median'])} {unit}{around}", one["conditions"]), aim
    return None


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def processes_table(made: Made) -> str:
    """W10, and who needs the CPU: microseconds a workflow."""
    probes = [one for one in made["probes"] if one["probe"] == APART]
    rows = [["", *(marked(store_name(one["store"]), one["conditions"]) for one in probes)]]
    for _, reading in _readings(probes):
        cells = [_reading([one], APART, one["store"], reading) for one in probes]
        rows.append([reading, *("" if found is None else found[0].removesuffix(" \\*") for found in cells)])
    return markdown(rows)
