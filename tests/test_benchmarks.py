"""The form of the benchmarks' output, and that their floor is what it says. Never a time."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.engine import make_store
from benchmarks.figures import latency_ratio, percentile, spread, throughput_ratio
from benchmarks.floors import record
from benchmarks.measured import Measured
from benchmarks.stores.sqlite import Sqlite
from benchmarks.tape import Mark, Statement, Tape, Transaction, written
from benchmarks.workloads import W1, W2, W4, WORKLOADS


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, dict[str, Any]]:
    place = tmp_path_factory.mktemp("bench")
    stores = (
        "--store",
        "memory",
        "--store",
        "sqlite",
        "--workloads",
        ",".join(WORKLOADS),
        "--loop",
        "asyncio",
    )
    output = place / "new" / "latest.json"
    printed = _run("--quick", *stores, "--output", str(output), "--directory", str(place))
    return printed, place, json.loads((place / "new" / "latest.json").read_text())


def test_all_workloads_on_all_stores(quick: tuple[str, Path, dict[str, Any]]) -> None:
    _, _, report = quick
    assert [(one["workload"], one["store"]) for one in report["figures"]] == [
        (name, store) for store in ("memory", "sqlite") for name in WORKLOADS
    ]
    assert report["format"] == 2 and report["quick"] is True
    assert set(report["machine"]) >= {"cores", "python", "sqlite", "load_before", "commit_of_one_row_us"}


def test_every_figure_has_its_spread(quick: tuple[str, Path, dict[str, Any]]) -> None:
    for one in quick[2]["figures"]:
        assert one["rounds"] == 2
        for side in (one["engine"], one["floor"]):
            spreads = [
                side["workflows_per_second"],
                side["activities_per_second"],
                side["cpu_us_per_workflow"],
            ]
            for found in [*spreads, *side["latency_ms"].values()]:
                assert 0 < found["least"] <= found["median"] <= found["most"]
            assert list(side["latency_ms"]) == ["p50", "p95", "p99"]
        assert (one["latency_ratio"] is None) == (one["in_flight"] > 1)


def test_what_was_written_is_counted(quick: tuple[str, Path, dict[str, Any]]) -> None:
    for one in quick[2]["figures"]:
        if one["store"] == "memory":
            assert one["written"] is None and one["written_alone"] is None
            continue
        for found in (one["written"], one["written_alone"]):
            assert found["commits"] > 0
            assert found["rows"]["insert instances"] == 1
        # A run that nobody shares a commit with needs at least one for its creation and one for its end.
        assert one["written_alone"]["commits"] >= 2
        # Those of W3 also meet in the worker's slots, and pass activities to each other through the store.
        if one["workload"] in ("W1", "W2"):
            assert one["written"]["commits"] <= one["written_alone"]["commits"]


def test_the_table_and_the_plot(quick: tuple[str, Path, dict[str, Any]]) -> None:
    printed, place, _ = quick
    lines = printed.splitlines()
    assert ["workload", "store", "wf/s"] in [line.split()[:3] for line in lines]
    for name in WORKLOADS:
        for store in ("memory", "sqlite"):
            assert any(line.split()[:2] == [name, store] for line in lines)
    assert len(list((place / "new").glob("latest.[ts][xv][tg]"))) == 1
    assert [path.name for path in place.iterdir()] == ["new"], "databases are removed"


def test_one_workload_one_store_one_round(tmp_path: Path) -> None:
    output = tmp_path / "one.json"
    _run("--quick", "--store", "memory", "--workloads", "w4", "--rounds", "1", "--output", str(output))
    one, *_ = json.loads(output.read_text())["figures"]
    assert (one["workload"], one["store"], one["rounds"]) == ("W4", "memory", 1)


@pytest.mark.parametrize("name", ["W5", "W7", "W8", "W9", "REPLAY", "IDLE"])
def test_a_probe_says_what_it_is_for(name: str, tmp_path: Path) -> None:
    output = tmp_path / "probe.json"
    _run("--quick", "--store", "memory", "--workloads", name, "--output", str(output))
    report = json.loads(output.read_text())
    (one,) = report["probes"]
    assert (one["probe"], one["store"], report["figures"]) == (name, "memory", [])
    assert one["values"]
    for values, unit, _ in one["values"].values():
        assert values["least"] <= values["median"] <= values["most"] and unit


def test_a_killed_worker_is_measured_too(tmp_path: Path) -> None:
    output = tmp_path / "probe.json"
    _run("--quick", "--store", "sqlite", "--workloads", "W6", "--output", str(output))
    (one,) = json.loads(output.read_text())["probes"]
    after_lease, _, _ = one["values"]["from the lease's end to done"]
    assert after_lease["median"] < 30


def test_an_unknown_workload_is_named() -> None:
    result = CliRunner().invoke(main, ["--workloads", "W1,W99"])
    assert result.exit_code == 2 and "choose from W1, W1K, W2" in result.output


def _contents(path: Path) -> dict[str, list[Any]]:
    db = sqlite3.connect(path)
    try:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(db.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in names}
    finally:
        db.close()


@pytest.mark.parametrize("workload", [W1, W2], ids=lambda workload: workload.name)
def test_the_floor_writes_what_the_engine_wrote(workload: Any, tmp_path: Path) -> None:
    """Byte for byte, so that the floor is neither lighter nor heavier than the engine's own rows."""
    store = Sqlite(tmp_path)
    engine_url, floor_url = (f"sqlite:///{tmp_path}/{name}.db" for name in ("engine", "floor"))
    tape = record(workload, store, engine_url, 6)
    last = max(
        at for at, entry in enumerate(tape.entries) if isinstance(entry, Transaction) and entry.statements
    )
    while tape.entries and tape.entries[-1] is Mark.DONE and len(tape.entries) - 1 > last:
        tape.entries.pop()
    tape.done()  # what the worker wrote when it closed counts too, here
    make_store(floor_url)
    measured = store.floor(tape).run(floor_url)
    assert measured.seconds > 0
    engine, floor = _contents(tmp_path / "engine.db"), _contents(tmp_path / "floor.db")
    assert len(engine["instances"]) > 6 and engine["history"]
    assert floor == engine


def test_a_tape_holds_what_was_committed_and_changed_something(tmp_path: Path) -> None:
    tape = Tape()
    with Sqlite(tmp_path).recording(tape):
        db = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    db.execute("CREATE TABLE t (n INTEGER)")
    tape.begin()
    db.execute("BEGIN IMMEDIATE")
    db.executemany("INSERT OR ABORT INTO t VALUES (?)", iter([(1,), (2,)]))
    db.execute("SAVEPOINT a")
    db.execute("INSERT INTO t VALUES (3)")
    db.execute("ROLLBACK TO a")
    db.execute("RELEASE a")
    db.execute("DELETE FROM t WHERE n = ?", (99,))
    db.execute("COMMIT")
    db.execute("BEGIN")
    db.execute("COMMIT")
    db.execute("BEGIN")
    db.execute("INSERT INTO t VALUES (4)")
    db.execute("ROLLBACK")
    db.execute("UPDATE t SET n = n + 1")
    db.execute("PRAGMA wal_checkpoint(PASSIVE)")
    tape.done()
    db.close()
    assert tape.counted() == [
        Transaction(
            statements=[
                Statement(sql="INSERT OR ABORT INTO t VALUES (?)", rows=[(1,), (2,)], changed={"insert t": 2})
            ]
        ),
        Transaction(statements=[]),
        Transaction(statements=[Statement(sql="UPDATE t SET n = n + 1", rows=[()], changed={"update t": 2})]),
        Mark.CHECKPOINT,
        Mark.DONE,
    ]
    found = written(tape)
    assert (found.commits, found.empty_transactions) == (2, 1)
    assert found.rows == {"insert t": 2, "update t": 2}
    with contextlib.closing(sqlite3.connect(":memory:")) as after:
        assert type(after) is sqlite3.Connection, "nothing is recorded any more"


def test_ratios_are_taken_round_by_round() -> None:
    def one(seconds: float, latency: float) -> Measured:
        return Measured(seconds=seconds, cpu_seconds=1.0, latencies=(latency,))

    pairs = [(one(2, 3), one(1, 1)), (one(10, 10), one(2, 1)), (one(4, 4), one(1, 2))]
    found = throughput_ratio(pairs)
    assert (found.median, found.least, found.most) == (0.25, 0.2, 0.5)
    assert latency_ratio(W4, pairs) == spread([3, 10, 2])
    assert latency_ratio(W1, pairs) is None


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, percent) for percent in (50, 95, 99)] == [50, 95, 99]
    assert percentile([7.0], 99) == 7
