"""What was to be reached on a machine with two cores, and what was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.plain import markdown

All = Mapping[str, Any]
Value = float | None
STORES = ("postgres", "sqlite", "mysql")


def table(all_of: All) -> str:
    """A line an aim, a column a store; ``yes`` or ``no`` is against the aim of that store."""
    rows = [["", "aim", "PostgreSQL", "SQLite", "MariaDB"]]
    rows += [_floor(all_of, "W1", "throughput_ratio", "W1 through the floor's", 0.5, at_least=True)]
    for workload, on_postgres, on_sqlite in (("W1", 10, 10), ("W2", 5, 10), ("W3", 10, 10), ("W5", 2, 2)):
        what = f"{workload} against the fastest other on the same store"
        rows.append(
            [what, f">= {on_postgres} x" + (f", SQLite >= {on_sqlite} x" if on_sqlite != on_postgres else "")]
            + [
                _cell(_against(all_of, workload, store), aim, at_least=True, unit=" x")
                for store, aim in (("postgres", on_postgres), ("sqlite", on_sqlite))
            ]
            + [""]
        )
    for workload, aim in (("W1", 5.0), ("W2", 2.0), ("W3", 1.5), ("W4", 2.0), ("W5", 2.0)):
        what = f"{workload}{' p50' if workload == 'W4' else ''} against Restate"
        rows.append(
            [what, f">= {aim:g} x", _cell(_against(all_of, workload, "own"), aim, at_least=True, unit=" x")]
        )
        rows[-1] += ["", ""]
    # In addition to the lines above, never instead: these peers use several processes themselves.
    for workload, peer, store, aim in (
        ("W1", "Restate", "own", 5.0),
        ("W2", "Restate", "own", 2.0),
        ("W3", "Restate", "own", 1.5),
        ("W1", "Absurd", "postgres", 10.0),
    ):
        ratio = _against(all_of, workload, store, "ours_in_two_is")
        what = f"{workload} against {peer}, ours in two processes"
        rows.append([what, f">= {aim:g} x", _cell(ratio, aim, at_least=True, unit=" x"), "", ""])
    rows.append(_floor(all_of, "W4", "latency_ratio", "W4 p50 through the floor's", 1.5, at_least=False))
    rows.append(
        _each("W2: commits, alone", "<= 12", lambda store: _commits(all_of, store), 12, at_least=False)
    )
    for probe, reading, what, aim, at_least, unit in (
        ("W5", "woken late, p50", "W5: woken late, p50", 15.0, False, " ms"),
        ("W5", "woken late, p99", "W5: woken late, p99", 100.0, False, " ms"),
        ("W5", "memory of an instance, warm", "W5: memory of a warm instance", 6.0, False, " KB"),
        (
            "W5",
            "memory of an instance, evicted, without pages",
            "W5: memory of an evicted one, beside the database's pages",
            0.5,
            False,
            " KB",
        ),
        ("W6", "from the lease's end to done", "W6: from the lease's end to done", 0.5, False, " s"),
        ("W9", "CPU, last against first", "W9: CPU a step at 10,000 events against 100", 1.1, False, " x"),
        ("W10", "4 against one", "W10: four worker processes against one", 1.3, True, " x"),
        ("IDLE", "of a core", "an idle worker, of a core", 1.0, False, " %"),
        ("IDLE", "queries", "an idle worker, queries", 2.0, False, " /s"),
    ):
        read = _reader(all_of, probe, reading)
        rows.append(
            _each(
                what, f"{'>=' if at_least else '<='} {aim:g}{unit}", read, aim, at_least=at_least, unit=unit
            )
        )
    replay = _reader(all_of, "REPLAY", "replay against orjson")("memory")
    rows.append(["replay of 10,000 events against orjson's parsing", "<= 15 x"])
    rows[-1] += [_cell(replay, 15, at_least=False, unit=" x"), "", ""]
    return markdown(rows)


def _each(
    what: str, aim: str, read: Callable[[str], Value], limit: float, *, at_least: bool, unit: str = ""
) -> list[str]:
    return [what, aim, *(_cell(read(store), limit, at_least=at_least, unit=unit) for store in STORES)]


def _cell(value: Value, limit: float, *, at_least: bool, unit: str = "") -> str:
    """The judgement is on what is printed: what is shown as 0.50 has reached 0.5."""
    if value is None:
        return ""
    shown = f"{value:.2f}" if abs(value) < 10 else f"{value:,.0f}"
    number = float(shown.replace(",", ""))
    reached = number >= limit if at_least else number <= limit
    return f"{shown}{unit}, {'yes' if reached else '**no**'}"


def _floor(all_of: All, workload: str, name: str, what: str, limit: float, *, at_least: bool) -> list[str]:
    def read(store: str) -> Value:
        found = _figure(all_of, workload, store)
        return None if found is None or found[name] is None else float(found[name]["median"])

    return _each(what, f"{'>=' if at_least else '<='} {limit:g}", read, limit, at_least=at_least)


def _figure(all_of: All, workload: str, store: str) -> Mapping[str, Any] | None:
    for one in all_of["bench"]["figures"]:
        if (one["workload"], one["store"], one["loop"]) == (workload, store, "asyncio"):
            found: Mapping[str, Any] = one
            return found
    return None


def _commits(all_of: All, store: str) -> Value:
    found = _figure(all_of, "W2", store)
    return (
        None if found is None or found["written_alone"] is None else float(found["written_alone"]["commits"])
    )


def _against(all_of: All, workload: str, store: str, ratio: str = "ours_is") -> Value:
    """The fastest peer on this store, with the number in flight that suits it best: the least of our ratios."""
    return min(
        (
            float(line[ratio]["median"])
            for line in all_of["peers"]["lines"]
            if line["workload"] == workload and line["engine"].endswith(f"/{store}") and ratio in line
        ),
        default=None,
    )


def _reader(all_of: All, probe: str, reading: str) -> Callable[[str], Value]:
    def read(store: str) -> Value:
        for one in all_of["bench"]["probes"]:
            if (one["probe"], one["store"], one["loop"]) == (probe, store, "asyncio"):
                found = one["values"].get(reading)
                return None if found is None else float(found[0]["median"])
        return None

    return read
