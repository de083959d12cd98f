"""Worker processes are killed and stopped at any point: only what they had in hand is called again, and all ends."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

import durable
from durable.worker.activity_tasks import WAITING_PER_SLOT
from tests.processes import verdict
from tests.processes.conftest import SEEDS
from tests.processes.crew import Crew
from tests.processes.programs import draw, keys, run


@pytest.mark.parametrize("seed", SEEDS)
async def test_workers_are_killed_while_500_workflows_run(url: str, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    programs = {f"w{number}": draw(chance) for number in range(500)}
    slots, kills = 20, 6
    async with durable.connect(url) as client, Crew(url, tmp_path, lease=3.0, max_activities=slots) as crew:
        await crew.start(3)
        await verdict.create(client, programs)
        most = 2 * sum(len(keys(name, program)) for name, program in programs.items()) - 100
        for _ in range(kills):
            await crew.lines(min(crew.tally.look() + chance.randrange(1, 250), most))
            working = {line.pid for line in crew.tally.lines}
            await crew.kill(chance.choice([hand for hand in crew.hands if hand.pid in working] or crew.hands))
            await crew.start(at_once=True)
        figures = await verdict.hold(client, crew, programs, spoilt=crew.killed)
        verdict.taken_over_in_time(crew, lease_seconds=3.0)
        # What is in its slots, what waits for one behind it and was done meanwhile, and what is being written.
        assert figures["called again"] <= kills * (2 + WAITING_PER_SLOT) * slots, figures
        for hand in list(crew.hands):
            await crew.drain(hand)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_worker_that_was_stopped_past_its_lease_writes_nothing_that_counts(
    server_url: str, tmp_path: Path, seed: int
) -> None:
    chance, url = random.Random(seed), server_url
    async with durable.connect(url) as client, Crew(url, tmp_path, lease=4.0, max_activities=20) as crew:
        own = [f"own-{number}" for number in range(2)]
        hands = [(await crew.start(queues=["default", queue]))[0] for queue in own]
        everything = {}
        for round in range(2):
            programs = {f"r{round}w{number}": draw(chance) for number in range(60)}
            everything |= programs
            await verdict.create(client, programs)
            await crew.lines(crew.tally.look() + chance.randrange(1, 100))
            sleeper = chance.randrange(2)
            hands[sleeper].pause()
            crew.killed[hands[sleeper].pid] = time.time_ns()
            await verdict.results(client, list(programs))  # of which the other has taken over what it must
            before = await histories(client, programs)
            hands[sleeper].resume()
            marker = await client.create_instance(
                run, f"m{round}", [["call", 0]], queue=own[sleeper], id=f"m{round}"
            )
            await marker.result(timeout=30)
            everything[f"m{round}"] = [["call", 0]]
            assert await histories(client, programs) == before
        await verdict.hold(client, crew, everything, spoilt=crew.killed)
        for hand in hands:
            await crew.drain(hand)


async def histories(client: durable.Client, names: object) -> dict[str, str]:
    assert isinstance(names, dict)
    return {name: await client.export_history(name) for name in names}
