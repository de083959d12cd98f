"""What is published of the benchmarks: the pages are what the files say, and the files keep what is still good."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.conditions import Conditions
from benchmarks.peers import report as peers_report
from benchmarks.peers import rounds as peers_rounds
from benchmarks.peers.contestants import OURS, OURS_IN_TWO, PEERS, Contestant
from benchmarks.peers.programs import ours_in_two
from benchmarks.peers.rounds import Line, Readings
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


# ---------------------------------------------------------------------------------------------- ours in two processes


def _rounds(one: Contestant, *rates: int, workload: str = "W1", in_flight: int = 100) -> Line:
    rounds = [Readings(seconds=1.0, latencies=(0.01,) * rate) for rate in rates]
    conditions = Conditions(taken_at="2026-11-22T10:00:00+00:00", load_average=0.0, others_cores=0.0)
    return Line(contestant=one, workload=workload, in_flight=in_flight, rounds=rounds, conditions=conditions)


def _reported(*lines: Line) -> dict[str, Any]:
    return peers_report.report_of(lines, {}, {"servers": {}}, seconds=1.0, took_seconds=1)


def test_two_processes_are_one_round_from_the_common_begin_to_the_last_done() -> None:
    one = {"began": 10.0, "seconds": 2.0, "latencies": [0.1, 0.2]}
    other = {"began": 10.5, "seconds": 3.5, "latencies": [0.3]}
    assert ours_in_two.joined([one, other]) == {"seconds": 4.0, "latencies": [0.1, 0.2, 0.3]}


def test_ours_in_two_processes_is_measured() -> None:
    on_sqlite = replace(OURS_IN_TWO, store="sqlite")
    (line,) = peers_rounds.alternate("W3", [on_sqlite], 1, 0.2, lambda: pytest.fail("no server"))
    assert line.problem is None
    (found,) = line.rounds
    assert found.seconds >= 0.2
    assert len(found.latencies) >= 4, "each of the two has two in flight"


_PROCESS = """\
import asyncio, sys, time
from benchmarks.peers.programs import job

calls = []

def log(what):
    with open({log!r}, "a") as file:
        file.write(what + "\\n")

async def run(number):
    calls.append(number)
    if len(calls) == job.WARM_UP:
        time.sleep({slow})  # the other is long warm by now
        log("warm")
    elif len(calls) == job.WARM_UP + 1:
        log("began")
    await asyncio.sleep(0)
    return number + 1 + (number == {wrong})

say = job.Readings.say
job.Readings.say = lambda readings: (log("done"), say(readings))
asyncio.run(job.measure(run))
log("ended")
"""


def _process(log: Path, *, wrong: int = -1, slow: float = 0.0, seconds: float = 0.05) -> list[str]:
    job = {"workload": "W1", "in_flight": 2, "seconds": seconds, "together": True}
    program = _PROCESS.format(log=str(log), wrong=wrong, slow=slow)
    return [sys.executable, "-c", program, json.dumps(job)]


def test_processes_begin_when_all_are_warm_and_end_when_all_are_done(tmp_path: Path) -> None:
    log = tmp_path / "log"
    found = ours_in_two.together([_process(log), _process(log, slow=0.2, seconds=0.3)])
    assert log.read_text().split() == [word for word in ("warm", "began", "done", "ended") for _ in range(2)]
    assert all(one["latencies"] for one in found)


@pytest.mark.parametrize("wrong", [3, 7], ids=["warming up", "measuring"])
def test_a_wrong_result_in_the_second_process_is_an_error_of_the_round(
    wrong: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log, together = tmp_path / "log", ours_in_two.together
    monkeypatch.setattr(
        ours_in_two, "together", lambda commands: together([_process(log), _process(log, wrong=wrong)])
    )
    with pytest.raises(SystemExit) as ended:
        ours_in_two.main({"url": f"sqlite:///{tmp_path}/bench.db", "in_flight": 4})
    said = capfd.readouterr()
    assert ended.value.code == 1 and "READINGS" not in said.out
    # A round's problem is the last line on stderr.
    assert said.err.strip().splitlines()[-1] == f"ValueError: W1 number {wrong} gave {wrong + 2}"


def test_ours_in_two_stands_only_beside_a_peer_that_uses_several_processes_and_takes_nothings_place() -> None:
    restate, dbos, absurd = (PEERS[name] for name in ("restate/own", "dbos/postgres", "absurd/postgres"))
    found = _reported(
        _rounds(OURS["postgres"], 100, 200),
        _rounds(OURS_IN_TWO, 300, 300),
        *(_rounds(peer, 50, 100) for peer in (restate, dbos, absurd)),
    )
    _, in_two, by_restate, by_dbos, by_absurd = found["lines"]
    assert not in_two["is_peer"] and "ours" not in in_two and "ours_in_two" not in in_two
    for line in (by_restate, by_absurd):
        assert line["ours_is"] == {"median": 2.0, "least": 2.0, "most": 2.0}
        assert line["ours_in_two_is"] == {"median": 4.5, "least": 3.0, "most": 6.0}, "round by round"
        assert line["ours_in_two"]["workflows_per_second"]["median"] == 300
    assert by_dbos["ours_is"]["median"] == 2.0 and "ours_in_two_is" not in by_dbos


def test_the_cells_of_ours_in_two() -> None:
    found = _reported(
        _rounds(OURS["postgres"], 100),
        _rounds(OURS_IN_TWO, 300),
        _rounds(PEERS["restate/own"], 50),
        _rounds(PEERS["dbos/postgres"], 50),
    )
    _, _, _, by_restate, by_dbos = peers_report.table(found).splitlines()
    assert by_restate.endswith("2.0 x  (2.0-2.0)      6.0 x  (6.0-6.0)") and by_dbos.endswith(
        " 2.0 x  (2.0-2.0)"
    )
    rows = peers.table(found).splitlines()
    assert rows[0].endswith("| ours is (spread) | ours in two processes is |")
    assert rows[2].endswith("| 100 | 2.0 (2.0-2.0) | 6.0 (6.0-6.0) |")
    assert rows[3].endswith("| 100 | 2.0 (2.0-2.0) | |")
    judged = aims.table({"bench": {"figures": [], "probes": []}, "peers": found}).splitlines()
    assert "| W1 against Restate | >= 5 x | 2.00 x, **no** | | |" in judged
    assert "| W1 against Restate, ours in two processes | >= 5 x | 6.00 x, yes | | |" in judged
    assert "| W2 against Restate, ours in two processes | >= 2 x | | | |" in judged
