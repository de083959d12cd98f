"""``durable debug``: forwards and backwards through a history, with nothing run and nothing written."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import durable
from durable.cli.debug import debug
from durable.cli.main import main
from durable.testing import Environment
from durable.testing.time_travel import TimeTravel
from durable.testing.waits import tree
from tests.cli import shop_debugged
from tests.cli.shop_debugged import bought, charge, ran


async def _history() -> str:
    async with Environment([bought, charge]) as env:
        await env.run(bought, "o", id="o-1")
        return env.recorded[0].text


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("histories") / "history.json"
    path.write_text(asyncio.run(_history()))
    ran.clear()
    return path


def session(file: Path, *lines: str, event: int | None = None) -> str:
    at = [] if event is None else ["--event", str(event)]
    arguments = [str(file), "tests.cli.shop_debugged", *at]
    result = CliRunner().invoke(debug, arguments, input="\n".join(lines) + "\n", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert ran == []
    return result.output


def test_it_stops_at_an_event_and_shows_the_locals(file: Path) -> None:
    output = session(file, "p order, first.get_name()", "quit", event=1)
    assert "run_started" in output and "activity_scheduled name='charge'" not in output.split("(durable)")[1]
    assert "('o', 'first')" in output


def test_forwards_and_backwards_and_forwards_again(file: Path) -> None:
    output = session(
        file, "next", "p first.done()", "back", "p first.done()", "n", "p first.done()", "q", event=1
    )
    assert [line for line in output.splitlines() if "True" in line or "False" in line] == [
        "(durable) True", "(durable) False", "(durable) True",
    ]  # fmt: skip


def test_the_tree_of_tasks_and_what_each_waits_for(file: Path) -> None:
    output = session(file, "tasks", "awaits", "goto 6", "tasks", "q", event=1)
    lines = [line.removeprefix("(durable) ") for line in output.splitlines()]
    assert any(line.startswith("task 'bought'") and "gather" in line for line in lines)
    assert sum(line.startswith("    task ") and "<- activity 'charge'" in line for line in lines) == 2
    assert any("task 'bought'" in line and "<- a timer until" in line for line in lines)


def test_another_task_and_its_frames(file: Path) -> None:
    output = session(file, "task second", "p total", "where", "task nobody", "q", event=1)
    assert "(durable) 3" in output and "receipt = await charge(order)" in output
    assert "there are tasks 'bought'" in output


def test_stepping_into_the_code_that_an_event_leads_to(file: Path) -> None:
    output = session(file, "step", "next", "p receipt", "continue", "q", event=1)
    assert "(durable) 'receipt o-a'" in output
    assert "activity_completed" in output.rpartition("receipt o-a'")[2]


def test_a_breakpoint_in_the_code(file: Path) -> None:
    line = 1 + (Path(shop_debugged.__file__).read_text().splitlines().index("    await asyncio.sleep(60)"))
    output = session(file, f"break {shop_debugged.__file__}:{line}", "c", "p both", "c", "q", event=1)
    assert "['receipt o-a3', 'receipt o-b3']" in output


def test_the_end_and_the_beginning(file: Path) -> None:
    output = session(file, "n", "p 1 + 1", "events", "goto 0", "back", "goto 99", "q")
    assert "no task is there" in output and "this is the last event" in output and "(durable) 2" in output
    assert "before event 1 of" in output and "this is the beginning" in output and "no 99" in output


def test_code_that_does_otherwise_is_told_where(file: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.json"
    changed.write_text(file.read_text().replace('"name":"charge"', '"name":"paid"'))
    assert "does not follow its history" in session(changed, "q")


def test_an_instance_of_a_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"

    async def fill() -> None:
        async with durable.connect(url) as client, durable.Worker(client, [bought, charge]):
            instance = await client.create_instance(bought, "o", id="o-1")
            while (await instance.describe()).history_length < 6:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)

    asyncio.run(fill())
    ran.clear()
    before = (tmp_path / "shop.db").read_bytes()
    result = CliRunner().invoke(debug, ["o-1", "tests.cli.shop_debugged", "--url", url], input="awaits\nq\n")
    assert "a timer until" in result.output
    assert ran == [] and (tmp_path / "shop.db").read_bytes() == before
    missing = CliRunner().invoke(debug, ["o-2", "tests.cli.shop_debugged", "--url", url])
    assert missing.exit_code == 2 and "'o-2' does not exist" in missing.output


def test_an_instance_that_nobody_has_begun(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"

    async def fill() -> None:
        async with durable.connect(url) as client:
            await client.create_instance(bought, "o", id="o-1")

    asyncio.run(fill())
    result = CliRunner().invoke(
        debug, ["o-1", "tests.cli.shop_debugged", "--url", url], input="n\nevents\nq\n"
    )
    assert "no task is there" in result.output and "run_started" in result.output and result.exit_code == 0


def test_it_is_a_command_of_durable() -> None:
    assert "n, next        on to the next event" in CliRunner().invoke(main, ["debug", "--help"]).output


def test_what_is_not_there(file: Path) -> None:
    result = CliRunner().invoke(debug, [str(file), "tests.cli.shop_before"])
    assert result.exit_code == 2 and "workflow 'bought' is not in the given modules" in result.output


def test_the_tree_of_a_task_group_and_of_a_wait() -> None:
    @durable.workflow
    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(durable.sleep(5), name="inner")
            group.create_task(_waiting(), name="waiting")

    async def _waiting() -> None:
        await asyncio.wait([asyncio.create_task(durable.sleep(9), name="innermost")])

    async def record() -> str:
        async with Environment([grouped]) as env:
            await env.run(grouped)
            return env.recorded[0].text

    travel = TimeTravel(grouped, asyncio.run(record()))
    travel.goto(1)
    [top] = tree(travel.run, travel.history)
    assert [branch.task.get_name() for branch in top.below] == ["inner", "waiting"]
    assert top.below[0].awaits == "a timer until 2024-01-01T00:00:05+00:00"
    assert [branch.task.get_name() for branch in top.below[1].below] == ["innermost"]
    travel.close()


def test_a_run_whose_last_activities_are_not_in_its_history_yet(file: Path, tmp_path: Path) -> None:
    """Short activities have no row, and their schedules are written with their results: the export says so."""
    header, first, *_ = file.read_text().splitlines()
    told = {**json.loads(header), "begun": True}
    opened, closed = tmp_path / "open.json", tmp_path / "closed.json"
    opened.write_text("\n".join([json.dumps({**told, "open": True}), first]))
    closed.write_text("\n".join([json.dumps(told), first]))
    output = session(opened, "tasks", "awaits", "b", "n", "p first.done()", "q")
    assert "does not follow" not in output
    assert output.count("<- activity 'charge'") == 2
    assert "(durable) False" in output
    assert "does not follow its history" in session(closed, "q")
