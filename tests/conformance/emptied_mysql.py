"""The MySQL or MariaDB store for the kit: one database for many tests, which each of them finds empty."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, cast

from durable.backends.contract import Backend
from durable.backends.mysql import open_store
from durable.backends.mysql.address import DRIVERS
from durable.backends.sql.server.tables import META, TABLES
from durable.testing import servers
from durable.testing.conformance import ManualClock, StoreUnderTest
from tests.conformance.wounds import SQL

EMPTY = ";".join(f"DELETE FROM {name}" for name in TABLES if name != META.name)
INSTALLED = [name for name in DRIVERS if find_spec(name)]


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
            await self.say(store, EMPTY)
        return store

    async def damage(self, store: Backend, kind: str, instance_id: str) -> None:
        await self.say(store, ";".join(SQL[kind]).format(id=instance_id))

    async def say(self, store: Backend, statements: str) -> None:
        async with cast(Any, store)._database.pool.link() as link:
            await link.run(statements.encode())


def a_database(server: servers.Server, driver: str) -> Iterator[str]:
    """For a fixture: the URL of a new database, as long as it is used."""
    url = asyncio.run(server.create_database())
    yield f"{url}?driver={driver}"
    asyncio.run(server.drop_database(url))
