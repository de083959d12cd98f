"""The subscription: what becomes of the money, the three modes, and the look from outside while it runs."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import durable
from samples.subscription.__main__ import main
from samples.subscription.watching import watch
from samples.subscription.workflow import (
    CYCLES_PER_RUN,
    DUNNING_LETTERS,
    Account,
    Plan,
    charge,
    subscription,
)

ROOT = Path(__file__).resolve().parent.parent.parent


async def _account(plan: Plan) -> Account:
    async with durable.connect("memory://") as client, durable.Worker(client, [subscription, charge]):
        return await (await client.create_instance(subscription, plan)).result(timeout=30)


async def test_who_always_pays_owes_nothing() -> None:
    plan = Plan(customer="ann", cycles=3, cycle_seconds=0.01, declined_percent=0)
    assert await _account(plan) == Account(cycle=3, paid_cents=3_000)


async def test_who_never_pays_gets_letters_and_is_given_up() -> None:
    plan = Plan(customer="bob", cycles=3, cycle_seconds=0.01, declined_percent=100)
    cycles = 3 + DUNNING_LETTERS
    assert await _account(plan) == Account(cycle=cycles, overdue_cents=3_000, declined=cycles)


async def test_what_is_overdue_is_paid_with_the_next_cycle() -> None:
    found = await _account(Plan(customer="cat", cycles=8, cycle_seconds=0.01, declined_percent=50, seed=3))
    assert found.declined > 0
    assert (found.paid_cents, found.overdue_cents) == (8_000, 0)


async def test_a_long_one_goes_on_as_a_new_run() -> None:
    plan = Plan(customer="dan", cycles=CYCLES_PER_RUN + 3, cycle_seconds=0.001, declined_percent=0)
    async with durable.connect("memory://") as client, durable.Worker(client, [subscription, charge]):
        instance = await client.create_instance(subscription, plan, id="dan")
        assert (await instance.result(timeout=30)).paid_cents == plan.cycles * 1_000
        found = await instance.describe()
        assert found.run_id != found.first_run_id
        assert found.vars["cycle"] == plan.cycles


async def test_each_step_is_seen_from_outside_while_it_runs() -> None:
    said: list[str] = []
    plan = Plan(customer="eve", cycles=2, cycle_seconds=0.1, declined_percent=0)
    async with durable.connect("memory://") as client, durable.Worker(client, [subscription, charge]):
        await watch(await client.create_instance(subscription, plan), said.append)
    text = "\n".join(said)
    assert text.index("step = waiting") < text.index("cycle = 2") < text.index("status = ended")
    assert text.index("paid_cents = 1000") < text.index("state = completed")
    numbers = [int(found) for found in re.findall(r"event +(\d+)", text)]
    assert numbers == list(range(1, len(numbers) + 1))


def _call(db: Path, *arguments: str) -> str:
    ran = CliRunner().invoke(main, ["--db", str(db), *arguments])
    return f"{ran.exit_code}: {ran.output}"


FAST = ("--cycle-seconds", "0.01")


@pytest.mark.parametrize("mode", ["await", "debug"])
def test_the_modes_that_wait(tmp_path: Path, mode: str) -> None:
    said = _call(tmp_path / "s.db", mode, "--customer", "ann", "--declined-percent", "0", *FAST)
    assert said.startswith("0: ")
    assert said.endswith("ann: paid 5000 cents, 0 overdue, 0 of 5 payments declined\n")
    assert ("run_completed" in said) == (mode == "debug")


def test_the_default_is_quick_and_ends(tmp_path: Path) -> None:
    said = _call(tmp_path / "s.db")
    assert said.startswith("0: ")
    assert re.search(r"overdue_cents = [1-9]", said)
    assert re.search(r"\d of \d payments declined\n$", said)


def test_one_that_was_scheduled_is_seen_while_another_process_works(tmp_path: Path) -> None:
    db = tmp_path / "s.db"
    assert _call(
        db, "schedule", "--customer", "ann", "--cycles", "1000", "--cycle-seconds", "0.05"
    ).startswith("0:")
    assert "1: Error: instance 'ann' exists already" in _call(db, "schedule", "--customer", "ann")
    assert "ann: running, waits for its first worker" in _call(db, "show")
    command = [sys.executable, "-m", "samples.subscription", "--db", str(db), "work"]
    with subprocess.Popen(command, cwd=ROOT) as worker:
        try:
            cycles = asyncio.run(_two_cycles_seen(db))
        finally:
            worker.terminate()
    assert cycles[0] < cycles[1]
    assert re.match(r"0: ann: running, .*overdue_cents \d+", _call(db, "show", "ann"))


async def _two_cycles_seen(db: Path) -> list[int]:
    seen: list[int] = []
    async with asyncio.timeout(30), durable.connect(f"sqlite:///{db}") as client:
        while len(seen) < 2:
            cycle = (await client.get_instance("ann").vars()).get("cycle", 0)
            if cycle and cycle not in seen:
                seen.append(cycle)
            await asyncio.sleep(0.01)
    return seen
