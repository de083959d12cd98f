"""What is published of the benchmarks: the pages are what the files say, and the files keep what is still good."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.peers import report as peers_report
from benchmarks.peers import rounds as peers_rounds
from benchmarks.peers.contestants import OURS, Contestant
from benchmarks.profiling import rooms, stacks
from benchmarks.profiling.profiled import rooms_of
from benchmarks.published import aims, kept, pages, peers, scaling
from benchmarks.stores.postgres import bare

MARK = re.compile(r"<!-- table: ([\w-]+) -->")


@pytest.mark.parametrize("name", pages.PAGES)
def test_a_page_is_what_the_files_say(name: str) -> None:
    page = (pages.PLACE / name).read_text()
    assert page == pages.filled(page, kept.published()), "run: python -m benchmarks report --publish"


def test_every_table_has_one_place() -> None:
    marks = [mark for name in pages.PAGES for mark in MARK.findall((pages.PLACE / name).read_text())]
    assert sorted(marks) == sorted(pages.TABLES)


def test_a_figure_that_was_typed_by_hand_is_seen() -> None:
    page = "a\n<!-- table: peers -->\nPeer is 3 x\n<!-- end of table -->\nb"
    assert pages.filled(page, {}) == f"a\n<!-- table: peers -->\n{pages.NOT_YET}\n<!-- end of table -->\nb"


def _run(*lines: tuple[str, int, int], **more: Any) -> dict[str, Any]:
    found = [{"workload": name, "engine": "a/sqlite", "in_flight": many, "n": n} for name, many, n in lines]
    return {"lines": found, "machine": {"servers": {}}, **more}


def test_a_new_run_replaces_its_lines_and_leaves_the_others(tmp_path: Path) -> None:
    assert kept.publish({"peers": _run(("W1", 10, 1), ("W2", 10, 2))}, tmp_path) == ["peers"]
    assert kept.publish({"peers": _run(("W3", 10, 4), ("W1", 10, 3))}, tmp_path) == ["peers"]
    lines = kept.published(tmp_path)["peers"]["lines"]
    assert [(line["workload"], line["n"]) for line in lines] == [("W1", 3), ("W2", 2), ("W3", 4)]
    assert kept.publish({"peers": _run(("W3", 10, 4), ("W1", 10, 3))}, tmp_path) == []


def test_a_quick_run_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="quick"):
        kept.publish({"peers": _run(quick=True)}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_aim_is_judged_by_what_is_shown() -> None:
    assert aims._cell(0.499, 0.5, at_least=True) == "0.50, yes"
    assert aims._cell(0.49, 0.5, at_least=True) == "0.49, **no**"
    assert aims._cell(1.2, 1.1, at_least=False, unit=" x") == "1.20 x, **no**"
    assert aims._cell(None, 1.1, at_least=False) == ""


def test_a_statement_without_what_it_judges() -> None:
    judged = (
        "WITH w AS MATERIALIZED (SELECT wanted.*, (now())::bigint AS now_us FROM unnest($1::int[]) AS wanted(part) "
        "WHERE f(g(wanted.part)) AND NOT EXISTS (SELECT 1 FROM t)), "
        "had AS MATERIALIZED (SELECT w.* FROM w JOIN t ON (t.part = w.part) FOR UPDATE OF t SKIP LOCKED), "
        "moved AS (UPDATE t SET n = (1) FROM had AS w WHERE t.part = w.part RETURNING t.id) "
        "SELECT now(), moved.id FROM moved"
    )
    assert bare(judged) == (
        "WITH w AS MATERIALIZED (SELECT wanted.*, (now())::bigint AS now_us FROM unnest($1::int[]) AS wanted(part)), "
        "had AS MATERIALIZED (SELECT w.* FROM w), "
        "moved AS (UPDATE t SET n = (1) FROM had AS w WHERE t.part = w.part RETURNING t.id) "
        "SELECT now(), moved.id FROM moved"
    )


# ------------------------------------------------------------------------------------------------------------ profiles

_ENGINE = rooms._ENGINE
_STACKS = f"""\
thread (1): MainThread;<module> (/x/program.py:1);imported (/x/a.py:2) 50
thread (1): MainThread;profiled_part (/x/program.py:9);run (/asyncio/runners.py:1);load ({_ENGINE}core/replay.py:3) 30
thread (1): MainThread;profiled_part (/x/program.py:9);_step ({_ENGINE}core/loop.py:3);wait (/asyncio/tasks.py:1) 10
thread (1): MainThread;profiled_part (/x/program.py:9);run (/asyncio/runners.py:1);dumps (/lib/json/encoder.py:1) 20
thread (1): MainThread;profiled_part (/x/program.py:9);settle_garbage (/x/measured.py:9) 70
thread (7): durable-sqlite;_work ({_ENGINE}backends/sqlite/lane.py:9) 5
"""


def test_stacks_are_told_apart_by_room() -> None:
    seen = list(stacks.read(_STACKS.splitlines(), within="profiled_part"))
    assert sum(one.times for one in seen) == 65, "neither the program's start nor garbage between rounds"
    found, hottest = rooms_of(seen, main_us=120.0, others_us=40.0)
    times = {room.room: (room.main_us, room.others_us) for room in found if room.main_us or room.others_us}
    # asyncio's own functions count as the workflow's where a workflow calls them.
    assert times == {rooms.CORE: (80.0, 0.0), rooms.LOOP: (40.0, 0.0), rooms.DRIVER: (0.0, 40.0)}
    assert hottest[0] == ("durable/core/replay.py: load", 60.0)


def test_a_profile(tmp_path: Path) -> None:
    if not (Path(sys.executable).parent / "py-spy").exists():
        pytest.skip("py-spy is not installed (durable-engine[bench])")
    output = tmp_path / "profile.json"
    arguments = ("profile", "--quick", "--store", "memory", "--workloads", "W1", "--output", str(output))
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    if "Permission" in result.output or "ptrace" in result.output:
        pytest.skip("this system does not let a process be looked at")
    assert result.exit_code == 0, result.output
    (one,) = json.loads(output.read_text())["profiles"]
    assert one["main_us"] > 0 and one["server_us"] is None
    assert (
        sum(room["main_us"] for room in one["rooms"]) == pytest.approx(one["main_us"]) or not one["samples"]
    )


# --------------------------------------------------------------------------------------------------------------- scale


def test_what_the_limit_is() -> None:
    assert scaling.limit({"cores": 1.8, "busiest": 0.9}, cores=2) == "all cores"
    assert scaling.limit({"cores": 1.2, "busiest": 0.9}, cores=2) == "one process's core"
    assert scaling.limit({"cores": 1.2, "busiest": 0.6}, cores=2) == "waiting"


def test_a_line_of_scale(tmp_path: Path) -> None:
    output = tmp_path / "scale.json"
    arguments = ("scale", "--quick", "--store", "sqlite", "--output", str(output))
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (one,) = json.loads(output.read_text())["rows"]
    assert (one["group"], one["store"]) == ("processes", "sqlite")
    assert one["worked"]["workflows"] > 0 and one["worked"]["commits"] is None


# --------------------------------------------------------------------------------------------------------------- peers


def test_a_peer_that_fails_spoils_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_rounds, "python_of", lambda one: Path(sys.executable))
    broken = Contestant(
        name="broken", store="memory", program="nothing.py", in_flight=(1,), environment="broken"
    )
    lines = peers_rounds.alternate("W4", [OURS["memory"], broken], 2, 0.2, lambda: pytest.fail("no server"))
    assert [len(line.rounds) for line in lines] == [2, 0]
    found = peers_report.report_of(lines, {}, {"servers": {}}, seconds=0.2, took_seconds=1)
    assert "failed" in peers_report.table(found)
    (problem,) = peers_report.problems(lines)
    assert (
        problem.startswith("W4 broken/memory, 1 in flight, failed after 0 rounds: ")
        and "nothing.py" in problem
    )
    assert "| failed |" in peers.table(found) and "nothing.py" in peers.table(found)
