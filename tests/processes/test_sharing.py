"""Several worker processes on one database, and nobody is hurt: everything happens once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import durable
from tests.processes import verdict
from tests.processes.crew import Crew
from tests.processes.programs import draw


async def test_four_workers_share_two_thousand_workflows(url: str, tmp_path: Path) -> None:
    programs = {f"w{number}": [["call", 0]] for number in range(2_000)}
    async with durable.connect(url) as client, Crew(url, tmp_path, max_activities=20) as crew:
        await verdict.create(client, programs)
        hands = await crew.start(4)
        await verdict.hold(client, crew, programs)
        pids = {line.pid for line in crew.tally.lines}
        assert pids <= {hand.pid for hand in hands}
        assert len(pids) > 1, "one worker did all the work"
        for hand in hands:
            await crew.drain(hand)


async def test_workers_that_start_at_once_migrate_an_empty_database_once(url: str, tmp_path: Path) -> None:
    async with Crew(url, tmp_path) as crew:
        await crew.start(3)
        async with durable.connect(url) as client:
            programs = {f"w{number}": draw(random.Random(number)) for number in range(5)}
            await verdict.create(client, programs)
            await verdict.hold(client, crew, programs)
        for hand in list(crew.hands):
            await crew.drain(hand)
            assert "Traceback" not in hand.said()


async def test_a_rolling_restart_calls_nothing_again(url: str, tmp_path: Path) -> None:
    """Each worker is asked to go, and replaced, in the middle of activities that are shorter than its patience."""
    programs = {f"w{number}": [["call", 150], ["call", 100], ["fan", 2, 50]] for number in range(120)}
    async with durable.connect(url) as client, Crew(url, tmp_path, max_activities=8) as crew:
        await verdict.create(client, programs)
        first = await crew.start(3)
        for number, hand in enumerate(first, 1):
            await crew.lines(number * 100)
            await crew.start()
            await crew.drain(hand)
        figures = await verdict.hold(client, crew, programs)
        assert figures["called again"] == 0
        await asyncio.gather(*(crew.drain(hand) for hand in list(crew.hands)))
