"""The MySQL and MariaDB store keeps the laws of the contract, on both drivers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import pytest

from durable.backends.contract import Backend
from durable.backends.mysql import open_store
from durable.backends.sql.server.tables import META, TABLES
from durable.testing import servers
from durable.testing.conformance import ManualClock, RandomOperations, StoreLaws, StoreUnderTest
from tests.conformance.wounds import SQL

DRIVERS = [
    "aiomysql",
    pytest.param("asyncmy", marks=pytest.mark.skipif(not find_spec("asyncmy"), reason="no asyncmy")),
]


class Mysql(StoreUnderTest):
    """In a database that may have been used before: the first `open` empties it, which is quicker than a new one."""

    keeps_data = True
    damages = frozenset(SQL)

    def __init__(self, url: str) -> None:
        self.clock = ManualClock()
        self.url = url
        self.is_empty = False

    async def open(self) -> Backend:
        store = await open_store(self.url, clock=self.clock)
        if not self.is_empty:
            self.is_empty = True
            tables = [name for name in TABLES if name != META.name]
            await self.say(store, ";".join(f"DELETE FROM {name}" for name in tables).encode())
        return store

    async def damage(self, store: Backend, kind: str, instance_id: str) -> None:
        await self.say(store, ";".join(SQL[kind]).format(id=instance_id).encode())

    async def say(self, store: Backend, statement: bytes) -> None:
        async with cast(Any, store)._database.pool.link() as link:
            await link.run(statement)


@pytest.fixture(scope="module", params=DRIVERS)
def url(request: pytest.FixtureRequest, mysql_server: servers.Server) -> Iterator[str]:
    url = asyncio.run(mysql_server.create_database())
    yield f"{url}?driver={request.param}"
    asyncio.run(mysql_server.drop_database(url))


class TestMysql(StoreLaws):
    @pytest.fixture
    def under_test(self, url: str) -> Mysql:
        return Mysql(url)


class TestMysqlAgainstMemory(RandomOperations):
    examples = 60

    @pytest.fixture(autouse=True)
    def _server(self, url: str) -> None:
        if url.endswith("asyncmy"):
            pytest.skip("one driver is enough: the statements are the same")
        self.url = url

    def make(self, folder: Path) -> Mysql:
        return Mysql(self.url)
