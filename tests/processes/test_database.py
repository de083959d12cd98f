"""The database server is killed under load, again and again: no worker is restarted, nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from pathlib import Path

import pytest

import durable
from durable.testing import servers
from tests.processes import verdict
from tests.processes.conftest import SCHEMES, SEEDS, skip_unless_there_is
from tests.processes.crew import Crew
from tests.processes.programs import Program, draw, run

KILLS = 5
PROGRESS_SECONDS = 3.0


@pytest.mark.parametrize("service", SCHEMES)
@pytest.mark.parametrize("seed", SEEDS)
async def test_the_server_is_killed_five_times_under_load(service: str, tmp_path: Path, seed: int) -> None:
    skip_unless_there_is(SCHEMES[service])
    try:
        async with servers.private(service, durable=True) as server, server.database() as url:
            await _kill_under_load(server, url, tmp_path, random.Random(seed))
    except servers.Unavailable as missing:
        if servers.required(service):
            raise
        pytest.skip(str(missing))


async def _kill_under_load(server: servers.Server, url: str, folder: Path, chance: random.Random) -> None:
    gaps = []
    async with durable.connect(url) as client, Crew(url, folder, max_activities=20) as crew:
        await crew.start(2)
        orders = Orders(client, chance, pause_seconds=0.01)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(orders.take())
            for _ in range(KILLS):
                await crew.lines(crew.tally.look() + chance.randrange(20, 200))
                await server.kill()
                await server.start()
                answered = time.monotonic()
                await crew.lines(crew.tally.look() + 1)
                gaps.append(time.monotonic() - answered)
            orders.enough.set()
        working = {hand.pid for hand in crew.hands}
        # Whatever a worker had in hand when the server died may have been called again, by anybody.
        figures = await verdict.hold(client, crew, orders.taken, spoilt=working)
        assert sorted(gaps)[KILLS // 2] <= PROGRESS_SECONDS, gaps
        assert figures["called again"] <= KILLS * len(working) * 2 * 20, figures
        for hand in list(crew.hands):
            await crew.drain(hand)


class Orders:
    """Starts workflows without end. ``taken``: those that the store has acknowledged; they must all be done."""

    def __init__(self, client: durable.Client, chance: random.Random, pause_seconds: float = 0.0) -> None:
        self._pause_seconds = pause_seconds
        self.taken: dict[str, Program] = {}
        self.enough = asyncio.Event()
        self._client = client
        self._chance = chance

    async def take(self) -> None:
        number = 0
        while not self.enough.is_set():
            number += 1
            program = draw(self._chance)
            await self._create(f"w{number}", program)
            self.taken[f"w{number}"] = program
            await asyncio.sleep(self._pause_seconds)  # how much load there is, not a wait for anything

    async def _create(self, name: str, program: Program) -> None:
        """Until it is acknowledged. After a lost reply it is there already: that is an acknowledgement, too."""
        while True:
            try:
                await self._client.create_instance(run, name, program, id=name, if_exists="use")
                return
            except durable.BackendError:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.enough.wait(), 0.02)
