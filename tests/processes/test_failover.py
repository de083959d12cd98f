"""A primary is killed and its synchronous standby promoted, ten times under load: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

import durable
from durable.testing import servers
from tests.processes import verdict
from tests.processes.conftest import skip_unless_there_is
from tests.processes.crew import Crew
from tests.processes.doors import Door, doors
from tests.processes.test_database import Orders

FAILOVERS = 10  # about a second each for the new standby's copy of the data
PROGRESS_SECONDS = 5.0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [1])
async def test_failing_over_to_a_synchronous_standby_ten_times(tmp_path: Path, seed: int) -> None:
    skip_unless_there_is("postgresql")
    try:
        async with doors(2) as both, AsyncExitStack() as running:
            primary = await running.enter_async_context(servers.private("postgres", durable=True))
            both[0].lead_to(urlsplit(primary.url).port)
            await _fail_over(Pair(primary, both, running), tmp_path, random.Random(seed))
    except servers.Unavailable as missing:
        if servers.required("postgres"):
            raise
        pytest.skip(str(missing))


class Pair:
    """A primary and its standby, behind two doors: the standby takes the door that the last primary has left."""

    def __init__(self, primary: servers.Server, both: list[Door], running: AsyncExitStack) -> None:
        self.primary = primary
        self._here, self._there = both
        self._running = running
        ports = ",".join(f"127.0.0.1:{door.port}" for door in both)
        parts = urlsplit(primary.url)
        self.url = urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{ports}"))

    async def stand_by(self) -> servers.Server:
        """A new standby, without which the primary acknowledges nothing from now on."""
        standby = await self._running.enter_async_context(servers.standby(self.primary))
        connection = await asyncpg.connect(self.primary.url)
        try:
            await connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            await connection.execute("SELECT pg_reload_conf()")
            async with asyncio.timeout(30):
                while await connection.fetchval("SELECT sync_state FROM pg_stat_replication") != "sync":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)  # what other processes do: there is nothing else to wait on
        finally:
            await connection.close()
        self._there.lead_to(urlsplit(standby.url).port)
        return standby

    async def fail_over(self, standby: servers.Server) -> None:
        """Kill the primary, and let the standby take its place."""
        await self.primary.kill()
        self._here.lead_to(None)
        connection = await asyncpg.connect(standby.url)
        assert await connection.fetchval("SELECT pg_promote()")
        await connection.execute("ALTER SYSTEM RESET synchronous_standby_names")  # there is none any more
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()
        self.primary, self._here, self._there = standby, self._there, self._here


async def _fail_over(pair: Pair, folder: Path, chance: random.Random) -> None:
    gaps = []
    async with durable.connect(pair.url) as client, Crew(pair.url, folder, max_activities=20) as crew:
        await crew.start(2)
        orders = Orders(client, chance, pause_seconds=0.02)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(orders.take())
            for _ in range(FAILOVERS):
                standby = await pair.stand_by()
                await crew.lines(crew.tally.look() + chance.randrange(20, 100))
                await pair.fail_over(standby)
                promoted = time.monotonic()
                await crew.lines(crew.tally.look() + 1)
                gaps.append(time.monotonic() - promoted)
            orders.enough.set()
        working = {hand.pid for hand in crew.hands}
        await verdict.hold(client, crew, orders.taken, spoilt=working)
        assert sorted(gaps)[FAILOVERS // 2] <= PROGRESS_SECONDS, gaps
        for hand in list(crew.hands):
            await crew.drain(hand)
